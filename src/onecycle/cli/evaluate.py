"""``onecycle evaluate``: how good a run's model is, on its own validation part anew, or on pictures it never saw."""

from __future__ import annotations

import datetime
import itertools
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from onecycle import __version__
from onecycle.cli.exit_codes import DATA, FAILED
from onecycle.cli.new_data import Seen, labelled_pictures, seen_by, test_rows
from onecycle.cli.screen import Screen
from onecycle.data.labels.find.columns import LayoutOptions
from onecycle.data.labels.table import LabelTable
from onecycle.deploy.calibrated import Calibrated
from onecycle.deploy.predictor import Predictor
from onecycle.errors import ArgumentError, DataError, DiskFullError
from onecycle.evaluation.certainty.intervals import Estimate
from onecycle.evaluation.class_table import ClassRow, class_rows, worst_first
from onecycle.evaluation.headline import (
    Headline,
    default_estimates,
    headline,
    judged_by,
    other_scores,
    picked_note,
    versus_baseline,
)
from onecycle.evaluation.predictions import Predictions
from onecycle.evaluation.scores import fbeta_score
from onecycle.evaluation.slices import Slice, SliceReport, find_slices, label_columns
from onecycle.files import claim, plain_json, writing
from onecycle.runs.config import RunConfig
from onecycle.runs.folder import RunFolder, folder_name
from onecycle.runs.load import load_bunch, load_learner
from onecycle.runs.predictions import run_predictions, training_counts
from onecycle.text import shown

SAME = 1e-3
"""Probabilities of the same pictures may differ by so much between machines and releases of libraries."""

_WORST, _NAMED, _NAME_WIDTH = 5, 5, 24


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What was found on some pictures."""

    predictions: Predictions
    what: str  # what these pictures are
    headline: Headline
    others: tuple[Estimate, ...]  # further scores
    classes: tuple[ClassRow, ...]  # of each class that occurs, the worst first
    slices: SliceReport
    notes: tuple[tuple[str, str], ...]  # what to know about these numbers, as (label, text)
    facts: Mapping[str, Any]  # more for the file
    n_unreadable: int = 0  # pictures that could not be read

    @classmethod
    def of(cls, predictions: Predictions, **known: Any) -> Evaluation:
        """Score predictions; ``known`` are the fields that do not follow from them."""
        rows = worst_first(class_rows(predictions, intervals=False), is_multi=predictions.is_multi)
        first, others = headline(predictions), tuple(other_scores(predictions))
        return cls(predictions=predictions, headline=first, others=others, classes=tuple(rows), **known)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            "n": len(self.predictions),
            "part": self.what,
            "headline": self.headline.to_dict(),
            "metrics": [e.to_dict() for e in default_estimates(self.predictions)],
            "classes": [_class_values(row) for row in self.classes],
            "slices": {"score": self.slices.score, "parts": [_slice_values(s) for s in self.slices.slices]},
            "notes": [text for _, text in self.notes],
            **self.facts,
        }


def run_evaluate(
    run: str | Path,
    data: str | None,
    options: LayoutOptions,
    *,
    as_json: bool = False,
    quiet: bool = False,
    fail_under: float | None = None,
) -> int:
    """Judge a run's model, and write what was found into the run's folder ``evaluations``.

    Args:
        run: its folder, or its name below ``runs``.
        data: labelled pictures that the run never saw; None: its own validation part, predicted anew.
        options: what the user said about ``data``.
        as_json: print JSON and nothing else.
        quiet: print the headline alone.
        fail_under: the least that the lower end of the headline's interval may be.

    Returns:
        1 where it is below ``fail_under``; 3 where pictures could not be read (they are left out); else 0.

    Raises:
        DataError, LabelError: pictures or labels that do not fit the run; file and row are named.
    """
    if fail_under is not None and not 0 <= fail_under <= 1:
        raise ArgumentError(f"--fail-under is a score, 0 to 1; received {fail_under}")
    folder, screen = RunFolder.open_finished(run), Screen(as_json=as_json, quiet=quiet)
    with screen.running():
        judged = _own(folder, screen) if data is None else _new(folder, data, options, screen)
        name = "validation" if data is None else folder_name(Path(data).stem)
        path = _write(folder, name, judged, screen)
        below = fail_under is not None and not judged.headline.low >= fail_under
        _say_scores(screen, judged, fail_under)
        _say_rest(screen, folder, judged, path)
    if as_json:
        whole = {"run": str(folder.path), "file": None if path is None else str(path), **judged.to_dict()}
        whole |= {} if fail_under is None else {"fail_under": fail_under, "held": not below}
        print(json.dumps(plain_json(whole), indent=2))
    if below:
        return FAILED
    return DATA if judged.n_unreadable else 0


# -- the run's own validation part ----------------------------------------------------------------------------


def _own(run: RunFolder, screen: Screen) -> Evaluation:
    """Predict the validation part anew, and compare with the run's own predictions."""
    with screen.status(f"loading {run.name}"):
        learn = load_learner(run, bunch=load_bunch(run))
    interpretation = learn.interpret()
    predictions = interpretation.predictions
    before = run_predictions(run) if run.predictions.exists() else None
    difference, note = _agreement(run, predictions, before)
    if before is not None and difference is not None and difference <= SAME:
        # The same pictures and probabilities: the folds decide as they did when the run ended.
        predictions = replace(predictions, held_out=before.held_out)
    notes = [("again", note)]
    if leaked := (run.read_json(run.data).get("audit") or {}).get("leaked"):
        text = f"training saw copies of {len(leaked)} of these {len(predictions)} pictures, so the numbers are too good"
        notes.insert(0, ("leaks", text))
    if chosen := _chosen(learn.calibrated):
        fair = _FAIR["thresholds" in chosen]
        notes.append(("note", f"these pictures chose the run's {chosen}; {fair}"))
    return Evaluation.of(
        predictions,
        what=f"validation pictures of {run.name}",
        slices=interpretation.slices(),
        notes=tuple(notes),
        facts={"largest difference from predictions.parquet": difference},
    )


_FAIR = {
    True: "in the first score each fold is decided by thresholds that the others chose, and the scores after it are of "
    "the model's own probabilities",
    False: "the scores above do not depend on it",
}


def _agreement(run: RunFolder, anew: Predictions, before: Predictions | None) -> tuple[float | None, str]:
    """Return the largest difference from the probabilities that the run saved, and what to say about it."""
    if before is None:
        return None, "the run saved no predictions to compare with"
    if before.files != anew.files:
        return None, f"{run.predictions.name} is of other pictures, so nothing could be compared"
    each = np.abs(before.probs - anew.probs).max(axis=1)
    largest, at = float(each.max()), int(each.argmax())
    if largest <= SAME:
        by = f"to within {largest:.1g}" if largest else "exactly"
        return largest, f"predicted anew: the run's own probabilities came out again, {by}"
    most = f"by up to {largest:.2g} ({before.files[at]})"
    why = "pictures or libraries have changed since (env.json has the versions)"
    return largest, f"probabilities differ from those that the run saved {most}: {why}"


# -- pictures that the run never saw --------------------------------------------------------------------------


def _new(run: RunFolder, data: str, options: LayoutOptions, screen: Screen) -> Evaluation:
    """Predict labelled pictures; those that the run trained on are left out and named."""
    with screen.status(f"loading {run.name}"):
        predictor = Predictor.load(run.path)
        names, is_multi = [str(c) for c in predictor.classes], predictor.is_multi
        config = RunConfig.read(run.config)
        layout = labelled_pictures(data, options, config, is_multi=is_multi)
        table, left_out = test_rows(layout.pictures, config)
        targets = table.targets(names, is_multi=is_multi)
        seen = seen_by(run, table.paths)
    use = np.setdiff1d(np.arange(len(table)), seen.trained)
    if not len(use):
        raise DataError(
            f"all {len(table)} pictures of {data} are among those that {run.name} trained on; they say nothing "
            "about new ones. Without DATA, its own validation part is evaluated"
        )
    predicted = predictor.predict([table.paths[i] for i in use])
    at = use[predicted.rows]
    if not len(at):
        raise DataError(f"not one of the {len(use)} pictures of {data} can be read: {predicted.failed[0].reason}")
    failed = [f"{table.row_name(int(use[f.position]))} ({f.reason})" for f in predicted.failed]
    counts, n_train = training_counts(run, names)
    groups = None if table.groups is None else np.array([str(g) for g in table.groups], dtype=object)[at]
    unseen = not len(seen.validated)  # else some of them chose the thresholds
    predictions = replace(
        predicted, unseen=unseen, targets=targets[at], groups=groups, train_counts=counts, n_train=n_train
    )
    return Evaluation.of(
        predictions,
        what=f"pictures of {data}",
        slices=_slices(table, at, predictions),
        notes=(*left_out, *_notes(run, predictor.calibrated, table, seen, failed, groups)),
        facts={
            "data": layout.describe(),
            "left out as trained on": [table.row_name(i) for i in seen.trained],
            "of the validation part": len(seen.validated),
            "unreadable": failed,
        },
        n_unreadable=len(failed),
    )


def _slices(table: LabelTable, at: np.ndarray, p: Predictions) -> SliceReport:
    frame, targets = table.frame, p.known_targets
    columns: dict[str, Any] = {} if frame is None else {str(c): frame[c].iloc[at] for c in frame.columns}
    score, values = judged_by(p)
    return find_slices(score, values, targets, columns | label_columns(targets, p.classes), groups=p.groups)


def _notes(
    run: RunFolder,
    calibrated: Calibrated,
    table: LabelTable,
    seen: Seen,
    failed: Sequence[str],
    groups: np.ndarray | None,
) -> list[tuple[str, str]]:
    """Say how far these numbers can be trusted."""
    notes = []
    if seen.trained:
        rows = shown([table.row_name(i) for i in seen.trained], most=_NAMED)
        notes.append(("leaks", f"{len(seen.trained)} pictures that {run.name} trained on are left out: {rows}"))
    if seen.n_gone:
        text = f"{seen.n_gone} training pictures of {run.name} are no longer there to be compared with"
        notes.append(("leaks", text))
    chosen = _chosen(calibrated)
    if seen.validated and chosen:
        text = f"{len(seen.validated)} pictures are of the run's validation part, which chose its {chosen}"
        notes.append(("note", f"{text}: this flatters what depends on them"))
    elif not seen.n_gone:
        what = f", nor did they choose its {chosen}" if chosen else ""
        notes.append(("clean", f"the model was not trained on any of these pictures{what}"))
    if groups is not None:
        n_groups = len(set(groups.tolist()))
        notes.append(("groups", f"the intervals are over {n_groups:,} groups (column {table.group_col})"))
    if failed:
        notes.append(("unread", f"{len(failed)} could not be read and are left out: {shown(failed, most=_NAMED)}"))
    return notes


# -- what both have in common ---------------------------------------------------------------------------------


def _chosen(calibrated: Calibrated) -> str:
    """Name what was fitted to the validation part after training."""
    chosen = calibrated.thresholds
    names = [] if chosen is None or chosen.default is not None else ["thresholds"]
    return " and ".join(names + (["calibration"] if calibrated.calibration is not None else []))


def _class_values(row: ClassRow) -> dict[str, Any]:
    """Return a class as plain values, with F1 and F2."""
    f1, f2 = (float(fbeta_score(np.array(row.tp), np.array(row.fp), np.array(row.fn), beta=beta)) for beta in (1, 2))
    recall, precision = row.recall, row.precision.value
    ends = {"recall": recall.value, "low": recall.low, "high": recall.high}
    return {"name": row.name, "n": row.support, **ends, "precision": precision, "f1": f1, "f2": f2}


def _slice_values(s: Slice) -> dict[str, Any]:
    """Return a slice as plain values."""
    ends = {"n": s.n, "score": s.score.value, "low": s.score.low, "high": s.score.high}
    return {"column": s.column, "value": s.value, **ends, "rest": s.rest, "p_value": s.p_value}


def _write(run: RunFolder, name: str, judged: Evaluation, screen: Screen) -> Path | None:
    """Write the evaluation under the next free number; None, with a warning, where the folder cannot be written."""
    when = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    folder = run.evaluations
    record = {"onecycle": __version__, "when": when, "run": run.name, **judged.to_dict()}
    try:
        with writing(folder):
            folder.mkdir(exist_ok=True)
            path = _reserved(folder, name)
        try:
            run.write_json(path, record)
        except OSError:
            path.unlink(missing_ok=True)
            raise
    except DiskFullError:
        raise
    except OSError as error:
        screen.warn(f"the evaluation could not be written into {folder} ({error.strerror}); it is shown here alone")
        return None
    return path


def _reserved(folder: Path, name: str) -> Path:
    """Make the next file ``<name>-001.json`` that nobody else has."""
    for number in itertools.count(1):
        path = folder / f"{name}-{number:03d}.json"
        if claim(path):
            break
    return path


# -- what is said ---------------------------------------------------------------------------------------------


def _say_scores(screen: Screen, judged: Evaluation, limit: float | None) -> None:
    first = judged.headline
    screen.row("result", f"{_score(first)} on {len(judged.predictions):,} {judged.what}", style="bold", always=True)
    if limit is not None and first.low >= limit:
        screen.row("limit", f"held: {first.name} is at least {first.low:.3f}, and {limit:g} was asked for")
    elif limit is not None:
        text = f"not held: {first.name} may be as low as {first.low:.3f}, below {limit:g}"
        screen.row("limit", f"{text} (--fail-under looks at the lower end of the interval)", always=True)
    screen.row("baseline", versus_baseline(first))
    if judged.predictions.is_multi:
        screen.row("decided", str(judged.predictions.decisions))
    if picked := picked_note(first):
        screen.row(first.picked, picked)
    for i, other in enumerate(judged.others):
        screen.row("also" if i == 0 else "", _score(other))


def _say_rest(screen: Screen, run: RunFolder, judged: Evaluation, path: Path | None) -> None:
    for label, text in judged.notes:
        screen.row(label, text)
    _say_classes(screen, judged)
    if judged.slices.slices:
        screen.say()
        for line in str(judged.slices).splitlines():
            screen.line(line)
    screen.say()
    if path is not None:
        screen.row("written", str(path))
    quoted = shlex.quote(str(run.path))
    if "data" not in judged.facts:
        screen.row("next", "judge it on labelled pictures that it never saw:")
        screen.command(f"onecycle evaluate {quoted} DATA")
        return
    screen.row("next", "compare with another run, or look at what this one gets wrong:")
    screen.command(f"onecycle compare {quoted} RUN")
    screen.command(f"onecycle report {quoted}")


def _say_classes(screen: Screen, judged: Evaluation) -> None:
    """Show the classes that fare worst."""
    worst = judged.classes[:_WORST]
    if not worst:
        return
    rows = [["worst", "pictures", "recall (95 %)", "precision", f"F{judged.predictions.beta:g}"]]
    for c in worst:
        recall = f"{c.recall.value:.2f} ({c.recall.low:.2f} to {c.recall.high:.2f})"
        precision = f"{c.precision.value:.2f}" if c.precision.known else "–"
        rows.append([screen.cut(c.name, _NAME_WIDTH), f"{c.support:,}", recall, precision, f"{c.fbeta.value:.2f}"])
    screen.say()
    screen.table(rows, "<><>", least=(5, 8, 20, 9, 5))


def _score(e: Estimate) -> str:
    text = f"{e.label} {e.value:.3f}, 95 % interval {e.low:.3f} to {e.high:.3f}"
    return text if e.baseline is None else f"{text} (baseline {e.baseline:.3f})"
