"""The end of ``onecycle train``: the run is judged, written down, and summed up on the last screen."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from onecycle.cli.report import read_choice, report_of_run
from onecycle.cli.screen import LABEL_WIDTH, Screen
from onecycle.deploy.calibrated import adopt_calibration, adopt_measure
from onecycle.errors import ArgumentError, DataError, DiskFullError
from onecycle.evaluation.certainty.decisions import F2
from onecycle.evaluation.certainty.intervals import Estimate
from onecycle.evaluation.class_table import class_rows, worst_first
from onecycle.evaluation.headline import (
    HELD_OUT,
    Headline,
    default_estimates,
    headline,
    other_scores,
    picked_note,
    versus_baseline,
)
from onecycle.evaluation.interpretation import ClassificationInterpretation
from onecycle.evaluation.label_issues import LabelIssue
from onecycle.evaluation.predictions import Predictions
from onecycle.evaluation.report.verdict import HARD_ONES, IssueCount
from onecycle.evaluation.scores import ranked_pairs, swap_counts
from onecycle.learner.fine_tune.best import StageChoice
from onecycle.learner.label_issues import LabelIssues
from onecycle.learner.learner import Learner
from onecycle.learner.report import Report, count_issues
from onecycle.runs.checkpoints import metrics_of_run, read_history
from onecycle.runs.config import RunConfig
from onecycle.runs.folder import RunFolder
from onecycle.runs.predictions import write_predictions
from onecycle.text import aligned, cut, plural

Issues = LabelIssues | list[LabelIssue] | None

WORST, CONFUSED = 4, 3
"""Classes and pairs that the last screen names."""

_NAME_WIDTH = 24


def judge(config: RunConfig, learn: Learner, screen: Screen) -> ClassificationInterpretation | None:
    """Predict the validation part once; decide for the measure of the settings, calibrate by cross-fitting.

    Returns:
        None where no picture validates.
    """
    if not len(learn.data.split.valid):
        screen.warn("no picture validates (--valid-pct, or too few pictures), so nothing was measured")
        return None
    with screen.status("judging the validation pictures"):
        interpretation = learn.interpret()
        if learn.data.is_multi:
            choose = interpretation.choose_thresholds if config.thresholds else None
            try:
                adopt_measure(learn, config.decide_for or F2.name, choose)
            except (ArgumentError, DataError) as error:
                screen.warn(f"no thresholds were chosen: {error}")
        if config.calibrate:
            _calibrate(learn, interpretation, screen)
        return interpretation


def _calibrate(learn: Learner, interpretation: ClassificationInterpretation, screen: Screen) -> None:
    """Calibrate where that helps on held-out folds, as ``Learner.calibrate`` does, without predicting again."""
    try:
        report = interpretation.calibration()
    except (ArgumentError, DataError) as error:
        screen.warn(f"the probabilities were not calibrated: {error}")
        return
    adopt_calibration(learn, report)


def write_results(
    run: RunFolder,
    learn: Learner,
    predictions: Predictions | None,
    *,
    audit: Mapping[str, Any] | None,
    issues: tuple[IssueCount | None, Issues],
    choice: StageChoice,
) -> None:
    """Write the model, the predictions and the metrics of a run.

    Args:
        run: the folder.
        learn: the trained learner.
        predictions: of its validation pictures; None where nothing validates.
        audit: what the audit found, as plain values.
        issues: how many labels are doubtful, and which; None where nobody looked.
        choice: the stages that were judged.
    """
    learn.save(run.model_stem.resolve(), with_opt=False)
    if predictions is not None:
        write_predictions(predictions, run.predictions)
    count, _ = issues
    more: dict[str, Any] = {"label_issues": None, "labels_judged": None, "label_doubts": None}
    if count is not None:
        more = {"label_issues": count.flagged, "labels_judged": count.judged, "label_doubts": asdict(count)}
    more["leaked"] = None if audit is None else len(audit["leaked"])
    run.write_json(run.metrics, metrics_of_run(learn, predictions, choice) | more)


def write_report(
    run: RunFolder,
    learn: Learner,
    interpretation: ClassificationInterpretation | None,
    *,
    issues: Issues,
    screen: Screen,
) -> Report | None:
    """Write the report; where that fails, say why and how to repeat it: the run is not lost. A full disk is an error.

    Returns:
        The report, None where there is none.
    """
    if interpretation is None:
        return None
    try:
        with screen.status("writing the report"):
            learn.recorder = read_history(run)  # with the epochs of earlier sessions
            made = report_of_run(run, learn, interpretation, issues=issues)
            made.save(run.report)
            return made
    except DiskFullError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, hours of training must not be lost to it
        again = f"onecycle report {shlex.quote(str(run.path))}"
        screen.warn(f"the report failed ({type(error).__name__}: {error}); the run is whole. Again: {again}")
        return None


# --- the last screen --------------------------------------------------------------------------------


def show_results(
    run: RunFolder,
    predictions: Predictions | None,
    *,
    audit: Mapping[str, Any] | None,
    issues: tuple[IssueCount | None, Issues],
    report: Report | None,
    seconds: float,
    screen: Screen,
) -> None:
    """Show the last screen: how good, against what, what is weak, where everything is, what to run next."""
    screen.say()
    if report is not None:
        screen.row("answer", report.content.verdict.bottom_line.text, style="bold")
    first = None if predictions is None else headline(predictions)
    if predictions is not None and first is not None:
        _show_scores(predictions, first, screen)
        _show_weak(predictions, screen)
        choice = read_choice(run)
        if len(choice.stages) > 1:
            screen.row("kept", str(choice))
    count, listed = issues
    if count is not None:
        screen.row("labels", _issues_text(run, count, listed, screen))
    leaked = [] if audit is None else list(audit["leaked"])
    if leaked:
        screen.row("leaks", f"{len(leaked)} validation pictures are in training too, which flatters the numbers")
    elif audit is not None:
        screen.row("leaks", "none found")
    took = f"{int(seconds // 60)} min {int(seconds % 60)} s" if seconds >= 60 else f"{seconds:.0f} s"
    files = [p.name for p in (run.report, run.metrics, run.predictions, run.model_stem.parent) if p.exists()]
    screen.row("run", f"{run.path}", always=True)
    screen.row("", f"in it: {', '.join(files)}, config.yaml, log.txt; took {took}")
    path = shlex.quote(str(run.path))
    screen.row("next", "look at the report, then predict pictures of your own")
    if report is not None:
        screen.command(str(run.report), "opens in a browser")
    if test := run.read_json(run.data).get("layout", {}).get("test"):
        screen.command(f"onecycle evaluate {path} {shlex.quote(test)}", "measures on the pictures for testing")
    screen.command(f"onecycle report {path}", "writes it again")
    screen.command(f"onecycle predict {path} PICTURES")
    screen.event(
        "done",
        run=str(run.path),
        report=None if report is None else str(run.report),
        seconds=seconds,
        headline=None if first is None else first.to_dict(),
        metrics=[] if predictions is None else [e.to_dict() for e in default_estimates(predictions)],
        label_issues=None if count is None else count.flagged,
        leaked=len(leaked),
    )


def _show_scores(predictions: Predictions, first: Headline, screen: Screen) -> None:
    """Show the scores as a table, the headline first; with ``quiet`` the headline alone."""
    if screen.quiet:
        screen.row("result", f"{first}, {first.counted()}", always=True)
    head = [first.counted(), "value", "95 % interval", "baseline"]
    scores = [first, *other_scores(predictions)]
    cells = [[e.label, f"{e.value:.3f}", f"{e.low:.3f} to {e.high:.3f}", _baseline(e)] for e in scores]
    for i, line in enumerate(aligned([head, *cells])):
        label = "result" if i == 0 else ""
        screen.line(f"{label:<{LABEL_WIDTH}}{line}", style="bold" if i == 1 else "")
    screen.row("baseline", versus_baseline(first))
    if picked := picked_note(first):
        screen.row(first.picked, picked)
    chosen = predictions.thresholds
    if first.thresholds == HELD_OUT and chosen is not None:
        how = _RULES.get(chosen.rule, chosen.goal)
        screen.row("", f"chosen thresholds: {how}; each fold was judged by those that the others chose")
    elif predictions.is_multi:
        why = "" if chosen is None else ", the default: no other choice is clearly better"
        screen.row("decided", f"{predictions.decisions}{why}")


def _baseline(e: Estimate) -> str:
    return "" if e.baseline is None else f"{e.baseline:.3f}"


_RULES = {"one for all tags": "one for all tags", "per tag": "one for each tag"}


def _show_weak(predictions: Predictions, screen: Screen) -> None:
    if worst := weak_classes(predictions, screen.cut):
        screen.row("weak", "; ".join(worst))
    if pairs := confused(predictions)[:CONFUSED]:
        texts = [f"{screen.cut(a, _NAME_WIDTH)} → {screen.cut(b, _NAME_WIDTH)} ({n})" for a, b, n in pairs]
        screen.row("confused", f"{'; '.join(texts)} (truth → prediction, pictures)")


def weak_classes(p: Predictions, shorten: Callable[[str, int], str] = cut) -> list[str]:
    """Name the tags with the lowest F2, or the classes recognised least, and how many pictures each has."""
    rows = tuple(r for r in class_rows(p, intervals=False) if p.is_multi or r.recall.value < 1)
    texts = []
    for row in worst_first(rows, is_multi=p.is_multi)[:WORST]:
        score = f"F{p.beta:g} {row.fbeta.value:.2f}" if p.is_multi else f"{row.recall.value:.0%} right"
        texts.append(f"{shorten(row.name, _NAME_WIDTH)} {score} ({plural(row.support, 'picture')})")
    return texts


def confused(p: Predictions) -> list[tuple[Any, Any, int]]:
    """Return (truth, prediction, pictures) of what happened twice or more, most first; for tags a missed one and one
    given though not true."""
    return ranked_pairs(swap_counts(p.truth, p.predicted), p.classes, min_val=2)


def issue_count(noted: Mapping[str, Any] | None, issues: Issues) -> IssueCount | None:
    """Return how many labels look doubtful, from what this session or an earlier one noted."""
    return IssueCount(**noted) if noted else count_issues(issues)


def _issues_text(run: RunFolder, count: IssueCount, issues: Issues, screen: Screen) -> str:
    """Say how many labels look doubtful, where they are listed, and which comes first."""
    first = next(iter(issues.top(1) if isinstance(issues, LabelIssues) else issues or []), None)
    if not count.n or first is None:
        return count.text(is_multi=first is not None and first.tag is not None)
    name, label, rather = (screen.cut(t, _NAME_WIDTH) for t in (Path(first.path).name, first.given, first.suggested))
    tag = f" {screen.cut(first.tag, _NAME_WIDTH)}" if first.tag is not None else ""
    said = f"{count.text(is_multi=first.tag is not None)}; {HARD_ONES}"
    return f"{said}; see {run.label_issues.name}; first {name}:{tag} {label}, rather {rather}"
