"""The end of ``onecycle train``: the run is judged, written down, and summed up on the last screen."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from onecycle.cli.screen import LABEL_WIDTH, Screen
from onecycle.errors import ArgumentError, DataError
from onecycle.evaluation.certainty.intervals import Estimate
from onecycle.evaluation.certainty.thresholds import ThresholdReport
from onecycle.evaluation.interpretation import ClassificationInterpretation, ranked_pairs, swap_counts
from onecycle.evaluation.label_issues import LabelIssue
from onecycle.evaluation.report.scores import BLIND, against_guesses, at_chosen
from onecycle.evaluation.report.verdict import HARD_ONES
from onecycle.learner.label_issues import LabelIssues
from onecycle.learner.learner import Learner
from onecycle.learner.report import Report, label_doubts
from onecycle.runs.checkpoints import estimate_values, metrics_of_run, predictions_of, read_history
from onecycle.runs.config import RunConfig
from onecycle.runs.folder import RunFolder
from onecycle.runs.predictions import write_predictions
from onecycle.text import aligned, cut, plural

Issues = LabelIssues | list[LabelIssue] | None

WORST, CONFUSED = 4, 3
"""Classes and pairs that the last screen names."""

_NAME_WIDTH = 24


@dataclass(frozen=True)
class Judged:
    """What is known of a trained run.

    Attributes:
        interpretation: predictions of the validation part.
        estimates: scores with intervals.
        thresholds: what was chosen; None for single labels, or where nothing was chosen.
    """

    interpretation: ClassificationInterpretation
    estimates: list[Estimate]
    thresholds: ThresholdReport | None


def judge(config: RunConfig, learn: Learner, screen: Screen) -> Judged | None:
    """Predict the validation part once; choose thresholds and calibrate on it by cross-fitting.

    Returns:
        None where no picture validates.
    """
    if not len(learn.data.split.valid):
        screen.warn("no picture validates (--valid-pct, or too few pictures), so nothing was measured")
        return None
    with screen.status("judging the validation pictures"):
        found = learn.interpret()
        thresholds = None
        if config.thresholds and learn.data.is_multi:
            try:
                thresholds = found.choose_thresholds()
                learn.calibrated = replace(learn.calibrated, thresholds=thresholds.thresholds)
            except (ArgumentError, DataError) as error:
                screen.warn(f"no thresholds were chosen: {error}")
        if config.calibrate:
            _calibrate(learn, found, screen)
        return Judged(found, found.metrics(), thresholds)


def _calibrate(learn: Learner, found: ClassificationInterpretation, screen: Screen) -> None:
    """Calibrate where that helps on held-out folds, as ``Learner.calibrate`` does, without predicting again."""
    try:
        report = found.calibration()
    except (ArgumentError, DataError) as error:
        screen.warn(f"the probabilities were not calibrated: {error}")
        return
    if report.helps:
        learn.calibrated = replace(learn.calibrated, calibration=report.calibration)


def write_results(
    run: RunFolder,
    learn: Learner,
    judged: Judged | None,
    *,
    audit: Mapping[str, Any] | None,
    issues: tuple[int | None, Issues],
) -> None:
    """Write the model, the predictions and the metrics of a run.

    Args:
        run: the folder.
        learn: the trained learner.
        judged: None where nothing validates.
        audit: what the audit found, as plain values.
        issues: how many labels are doubtful, and which; None where nobody looked.
    """
    learn.save(run.model_stem.resolve(), with_opt=False)
    estimates: list[Estimate] = []
    thresholds = None
    if judged is not None:
        write_predictions(predictions_of(learn, judged.interpretation), run.predictions)
        estimates, thresholds = judged.estimates, judged.thresholds
    values = metrics_of_run(learn, estimates, thresholds)
    leaked = None if audit is None else len(audit["leaked"])
    n_issues, listed = issues
    judged_labels = len(listed) if isinstance(listed, LabelIssues) else None
    found = {"label_issues": n_issues, "labels_judged": judged_labels, "leaked": leaked}
    run.write_json(run.metrics, {**values, **found})


def write_report(
    run: RunFolder, learn: Learner, judged: Judged | None, *, issues: Issues, screen: Screen
) -> Report | None:
    """Write the report; where that fails, say why and how to repeat it: the run is not lost.

    Returns:
        The report, None where there is none.
    """
    if judged is None:
        return None
    again = f"onecycle report {shlex.quote(str(run.path))}"
    try:
        from onecycle.cli.report import report_of_run

        with screen.status("writing the report"):
            learn.recorder = read_history(run)  # with the epochs of earlier sessions
            made = report_of_run(run, learn, judged.interpretation, issues=issues)
            made.save(run.report)
            return made
    except Exception as error:  # noqa: BLE001 - whatever it is, hours of training must not be lost to it
        screen.warn(f"the report failed ({type(error).__name__}: {error}); the run is whole. Again: {again}")
        return None


# --- the last screen --------------------------------------------------------------------------------


def show_results(
    run: RunFolder,
    judged: Judged | None,
    *,
    audit: Mapping[str, Any] | None,
    label_issues: tuple[int | None, Issues],
    report: Report | None,
    seconds: float,
    screen: Screen,
) -> None:
    """Show the last screen: how good, against what, what is weak, where everything is, what to run next."""
    screen.say()
    if report is not None:
        screen.row("answer", report.content.verdict.bottom_line.text, style="bold")
    if judged is not None:
        _show_scores(judged, screen)
        _show_weak(judged, screen)
        _show_stages(run, screen)
    n_issues, issues = label_issues
    if n_issues is not None:
        screen.row("labels", _issues_text(run, n_issues, issues))
    leaked = [] if audit is None else list(audit["leaked"])
    if leaked:
        text = f"{len(leaked)} validation pictures are in training too, which flatters the numbers"
        screen.row("leaks", text)
    elif audit is not None:
        screen.row("leaks", "none found")
    files = [p.name for p in (run.report, run.metrics, run.predictions, run.model_stem.parent) if p.exists()]
    screen.row("run", f"{run.path}", always=True)
    screen.row("", f"in it: {', '.join(files)}, config.yaml, log.txt; took {_duration(seconds)}")
    path = shlex.quote(str(run.path))
    screen.row("next", "look at the report, then predict pictures of your own")
    if report is not None:
        screen.command(str(run.report), "opens in a browser")
    screen.command(f"onecycle report {path}", "writes it again")
    screen.command(f"onecycle predict {path} PICTURES")
    screen.event(
        "done",
        run=str(run.path),
        report=None if report is None else str(run.report),
        seconds=seconds,
        headline=None if judged is None else estimate_values(scores_of(judged)[0]),
        metrics=[] if judged is None else [estimate_values(e) for e in judged.estimates],
        label_issues=n_issues,
        leaked=len(leaked),
    )


def scores_of(judged: Judged) -> list[Estimate]:
    """Return the scores as they are shown, the report's headline first: with chosen thresholds, theirs."""
    if not judged.interpretation.is_multi:
        return against_guesses(judged.estimates, len(judged.interpretation.classes))
    if judged.thresholds is None:
        return judged.estimates
    return [at_chosen(judged.thresholds.held_out[0], judged.estimates[0]), *judged.estimates]


def _show_scores(judged: Judged, screen: Screen) -> None:
    """Show the scores as a table, the headline first; with ``quiet`` the headline alone."""
    scores = scores_of(judged)
    first = scores[0]
    if screen.quiet:
        shown = replace(first, baseline_name="a guess")
        screen.row("result", f"{shown}, {plural(first.n, 'picture')}", always=True)
    head = [plural(first.n, "picture"), "value", "95 % interval", "a guess"]
    for i, line in enumerate(aligned([head, *map(_score_cells, scores)])):
        label = "result" if i == 0 else ""
        screen.line(f"{label:<{LABEL_WIDTH}}{line}", style="bold" if i == 1 else "")
    if first.baseline_name in _BASELINES:
        screen.row("", f"a guess: {_BASELINES[first.baseline_name]}")
    if judged.thresholds is not None:
        how = _RULES[judged.thresholds.rule]
        screen.row("", f"chosen thresholds: {how}; each fold was judged by those that the others chose")


def _score_cells(e: Estimate) -> list[str]:
    guess = "" if e.baseline is None else f"{e.baseline:.3f}"
    return [e.name, f"{e.value:.3f}", f"{e.low:.3f} to {e.high:.3f}", guess]


_BASELINES = {
    "prior": "by how common each tag is in training, without looking",
    "majority class": "always the class that is commonest in training",
    BLIND: "any of the classes, each as likely",
}
"""What a guess without looking at the picture is, by the name of the baseline."""

_RULES = {"default": "0.5 was kept", "one for all tags": "one for all tags", "per tag": "one for each tag"}


def _show_weak(judged: Judged, screen: Screen) -> None:
    found = judged.interpretation
    worst = worst_tags(judged) if found.is_multi else worst_classes(found)
    if worst:
        screen.row("weak", "; ".join(worst[:WORST]))
    pairs = confused(judged)[:CONFUSED]
    if pairs:
        texts = [f"{cut(a, _NAME_WIDTH)} → {cut(b, _NAME_WIDTH)} ({n})" for a, b, n in pairs]
        screen.row("confused", f"{'; '.join(texts)} (truth → prediction, pictures)")


def _show_stages(run: RunFolder, screen: Screen) -> None:
    """Say where training all layers gained nothing."""
    from onecycle.cli.report import stages_note

    note = stages_note(run)
    if note:
        screen.row("training", note)


def worst_tags(judged: Judged) -> list[str]:
    """Name the tags with the lowest F2 at the thresholds in use, and how many pictures have each."""
    thresh = 0.5 if judged.thresholds is None else judged.thresholds.thresholds.values
    table = judged.interpretation.tag_report(np.asarray(thresh), worst_first=True)
    table = table[table["support"] > 0].head(WORST)
    return [
        f"{cut(str(tag), _NAME_WIDTH)} F2 {f2:.2f} ({plural(n, 'picture')})"
        for tag, f2, n in zip(table["tag"], table["fbeta"], table["support"], strict=True)
    ]


def worst_classes(found: ClassificationInterpretation) -> list[str]:
    """Name the classes that are recognised least, and how many pictures each has."""
    matrix = found.confusion_matrix()
    support = matrix.sum(axis=1)
    recall = np.divide(np.diag(matrix), support, out=np.ones(len(support)), where=support > 0)
    order = [i for i in np.argsort(recall, kind="stable") if support[i] and recall[i] < 1]
    return [
        f"{cut(found.classes[i], _NAME_WIDTH)} {recall[i]:.0%} right ({plural(int(support[i]), 'picture')})"
        for i in order[:WORST]
    ]


def confused(judged: Judged) -> list[tuple[Any, Any, int]]:
    """Return (truth, prediction, pictures) of what happened twice or more, most first; for tags a missed one and one
    given though not true."""
    found = judged.interpretation
    if judged.thresholds is None:
        return found.most_confused(min_val=2)
    given = judged.thresholds.thresholds.decide(found.preds.numpy())
    return ranked_pairs(swap_counts(found.y_true.numpy() > 0, given), found.classes, min_val=2)


def _issues_text(run: RunFolder, n: int, issues: Issues) -> str:
    """Say how many labels look doubtful, where they are listed, and which comes first."""
    doubts = label_doubts(issues, n=n)
    first = next(iter(issues.top(1) if isinstance(issues, LabelIssues) else issues or []), None)
    if doubts is None or not doubts.n or first is None:
        return "none looks doubtful"
    name, given, rather = (cut(t, _NAME_WIDTH) for t in (Path(first.path).name, first.given, first.suggested))
    tag = f" {cut(first.tag, _NAME_WIDTH)}" if first.tag is not None else ""
    said = f"{doubts.text(is_multi=first.tag is not None)}; {HARD_ONES}"
    return f"{said}; see {run.label_issues.name}; first {name}:{tag} {given}, rather {rather}"


def _duration(seconds: float) -> str:
    minutes = int(seconds // 60)
    return f"{minutes} min {int(seconds % 60)} s" if minutes else f"{seconds:.0f} s"
