"""``onecycle evaluate``: how good a run's model is, on its own validation part anew, or on pictures it never saw."""

from __future__ import annotations

import datetime
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onecycle import __version__
from onecycle.cli.exit_codes import DATA, FAILED
from onecycle.cli.new_data import Labelled, Seen, labelled_pictures, seen_by
from onecycle.cli.screen import Screen
from onecycle.data.layout import LayoutOptions
from onecycle.errors import ArgumentError, DataError
from onecycle.evaluation.certainty.intervals import Estimate, accuracy, default_scores, estimate, sample_fbeta, wilson
from onecycle.evaluation.interpretation import tag_counts, tag_measures
from onecycle.evaluation.predictions import decide
from onecycle.evaluation.slices import SliceReport, find_slices, label_columns
from onecycle.files import plain_json
from onecycle.learner.predictor import Calibrated, Predictor
from onecycle.runs.checkpoints import estimate_values
from onecycle.runs.config import RunConfig
from onecycle.runs.folder import RunFolder, folder_name
from onecycle.runs.load import load_bunch, load_learner
from onecycle.runs.predictions import read_predictions
from onecycle.runs.split import valid_names
from onecycle.text import cut, shown

if TYPE_CHECKING:
    from onecycle.learner.learner import Learner

SAME = 1e-3
"""Probabilities of the same pictures may differ by so much between machines and releases of libraries."""

_WORST, _NAMED, _NAME_WIDTH = 5, 5, 24


@dataclass(frozen=True)
class ClassScore:
    """How one class fares.

    Attributes:
        name: of the class or tag.
        n: pictures that have it.
        recall, low, high: the share of them that is given it, with its interval.
        precision: of the pictures given it, the share that has it; NaN where it is never given.
        f2: of both.
    """

    name: str
    n: int
    recall: float
    low: float
    high: float
    precision: float
    f2: float


@dataclass(frozen=True)
class Evaluation:
    """What was found on N pictures.

    Attributes:
        n: pictures.
        part: what they are.
        scores: with intervals; the first is the headline.
        classes: of each class that occurs, the worst first.
        slices: parts of the pictures; None where there are too few pictures for any.
        notes: what to know about these numbers, as (label, text).
        facts: more for the file.
        n_unreadable: pictures that could not be read.
    """

    n: int
    part: str
    scores: tuple[Estimate, ...]
    classes: tuple[ClassScore, ...]
    slices: SliceReport | None
    notes: tuple[tuple[str, str], ...]
    facts: Mapping[str, Any]
    n_unreadable: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        found = {} if self.slices is None else {"score": self.slices.score, "parts": _parts(self.slices)}
        return {
            "n": self.n,
            "part": self.part,
            "metrics": [estimate_values(e) for e in self.scores],
            "classes": [asdict(c) for c in self.classes],
            "slices": found,
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
    folder, screen = RunFolder.open(run), Screen(as_json=as_json, quiet=quiet)
    with screen.running():
        found = _own(folder, screen) if data is None else _new(folder, data, options, screen)
        name = "validation" if data is None else folder_name(Path(data).stem)
        path = _write(folder, name, found, screen)
        below = fail_under is not None and not found.scores[0].low >= fail_under
        _say_scores(screen, found, fail_under)
        _say_rest(screen, folder, found, path)
    if as_json:
        whole = {"run": str(folder.path), "file": None if path is None else str(path), **found.to_dict()}
        whole |= {} if fail_under is None else {"fail_under": fail_under, "held": not below}
        print(json.dumps(plain_json(whole), indent=2))
    if below:
        return FAILED
    return DATA if found.n_unreadable else 0


# -- the run's own validation part ----------------------------------------------------------------------------


def _own(run: RunFolder, screen: Screen) -> Evaluation:
    """Predict the validation part anew, and compare with what the run kept."""
    with screen.status(f"loading {run.name}"):
        learn = load_learner(run, bunch=load_bunch(run))
    interpretation = learn.interpret()
    probs, targets = interpretation.preds.numpy(), interpretation.y_true.numpy()
    shown_probs = learn.calibrated.probs(interpretation.preds).numpy()
    decided = decide(probs, shown_probs, is_multi=learn.data.is_multi, thresholds=learn.thresholds)
    difference, note = _agreement(run, learn, probs)
    notes = [("again", note)]
    if learn.calibrated:
        notes.append(
            (
                "note",
                f"these pictures chose the run's {_chosen(learn.calibrated)}; the scores above are of the model's own "
                "probabilities, which they did not choose",
            )
        )
    return Evaluation(
        len(probs),
        f"validation pictures of {run.name}",
        tuple(interpretation.metrics()),
        _classes(decided, targets, [str(c) for c in learn.data.classes]),
        interpretation.slices(),
        tuple(notes),
        {"largest difference from predictions.parquet": difference},
    )


def _agreement(run: RunFolder, learn: Learner, probs: np.ndarray) -> tuple[float | None, str]:
    """Return the largest difference from the probabilities that the run kept, and what to say about it."""
    if not run.predictions.exists():
        return None, "the run kept no predictions to compare with"
    kept = read_predictions(run.predictions)
    if kept.files != tuple(valid_names(learn.data)):
        return None, f"{run.predictions.name} is of other pictures, so nothing could be compared"
    each = np.abs(kept.probs - probs).max(axis=1)
    largest, at = float(each.max()), int(each.argmax())
    if largest <= SAME:
        by = f"to within {largest:.1g}" if largest else "exactly"
        return largest, f"predicted anew: the run's own probabilities came out again, {by}"
    return largest, (
        f"probabilities differ from those that the run kept by up to {largest:.2g} ({kept.files[at]}): pictures or "
        "libraries have changed since (env.json has the versions)"
    )


# -- pictures that the run never saw --------------------------------------------------------------------------


def _new(run: RunFolder, data: str, options: LayoutOptions, screen: Screen) -> Evaluation:
    """Predict labelled pictures; those that the run trained on are left out and named."""
    with screen.status(f"loading {run.name}"):
        predictor = Predictor.load(run.path)
        names, is_multi = [str(c) for c in predictor.classes], predictor.is_multi
        given = labelled_pictures(data, options, RunConfig.read(run.config), names, is_multi=is_multi)
        seen = seen_by(run, given.paths)
    use = np.setdiff1d(np.arange(len(given.paths)), seen.trained)
    if not len(use):
        raise DataError(
            f"all {len(given.paths)} pictures of {data} are among those that {run.name} trained on; they say nothing "
            "about new ones. Without DATA, its own validation part is evaluated"
        )
    predicted = predictor.predict([given.paths[i] for i in use])
    at = use[predicted.rows]
    if not len(at):
        raise DataError(f"not one of the {len(use)} pictures of {data} can be read: {predicted.failed[0].reason}")
    targets, groups = given.targets[at], None if given.groups is None else given.groups[at]
    prior = _shares(run, names)
    scores = [
        estimate(s, predicted.probs, targets, prior=prior, groups=groups)
        for s in default_scores(len(names), is_multi=is_multi)
    ]
    if is_multi and predicted.thresholds is not None:
        as_given = replace(sample_fbeta(2, 0.5), name="sample-F2 as predict decides")
        scores.insert(0, estimate(as_given, predicted.decided.astype(float), targets, groups=groups))
    failed = [f"{given.rows.row_name(int(use[f.position]))} ({f.reason})" for f in predicted.failed]
    return Evaluation(
        len(at),
        f"pictures of {data}",
        tuple(scores),
        _classes(predicted.decided, targets, names),
        _slices(given, at, predicted.probs, targets, names),
        tuple(_notes(run, predictor.calibrated, given, seen, failed)),
        {
            "data": given.layout.describe(),
            "left out as trained on": [given.rows.row_name(i) for i in seen.trained],
            "of the validation part": len(seen.validated),
            "unreadable": failed,
        },
        len(failed),
    )


def _shares(run: RunFolder, names: Sequence[str]) -> np.ndarray:
    """Return the share of each class in the training part, float ``(C,)``."""
    shares = run.read_json(run.metrics).get("training_shares", {})
    return np.array([float(shares.get(name, 0.0)) for name in names])


def _slices(
    given: Labelled, at: np.ndarray, probs: np.ndarray, targets: np.ndarray, names: Sequence[str]
) -> SliceReport:
    frame = given.columns
    columns: dict[str, Any] = {} if frame is None else {str(c): frame[c].iloc[at] for c in frame.columns}
    score = sample_fbeta() if targets.ndim == 2 else accuracy()
    return find_slices(score, probs, targets, columns | label_columns(targets, names))


def _notes(
    run: RunFolder, calibrated: Calibrated, given: Labelled, seen: Seen, failed: Sequence[str]
) -> list[tuple[str, str]]:
    """Say how far these numbers can be trusted."""
    notes = []
    if seen.trained:
        rows = shown([given.rows.row_name(i) for i in seen.trained], most=_NAMED)
        notes.append(("leaks", f"{len(seen.trained)} pictures that {run.name} trained on are left out: {rows}"))
    if seen.n_gone:
        notes.append(
            ("leaks", f"{seen.n_gone} training pictures of {run.name} are no longer there to be compared with")
        )
    chosen = _chosen(calibrated)
    if seen.validated and chosen:
        notes.append(
            (
                "note",
                f"{len(seen.validated)} pictures are of the run's validation part, which chose its {chosen}: this "
                "flatters what depends on them",
            )
        )
    elif not seen.n_gone:
        what = f", nor did they choose its {chosen}" if chosen else ""
        notes.append(("clean", f"the model was not trained on any of these pictures{what}"))
    if given.groups is not None:
        column = given.layout.table.group_col
        notes.append(("groups", f"the intervals are over {len(set(given.groups)):,} groups (column {column})"))
    if failed:
        notes.append(("unread", f"{len(failed)} could not be read and are left out: {shown(failed, most=_NAMED)}"))
    return notes


# -- what both have in common ---------------------------------------------------------------------------------


def _chosen(calibrated: Calibrated) -> str:
    """Name what was fitted to the validation part after training."""
    names = ["thresholds"] if calibrated.thresholds is not None else []
    return " and ".join(names + (["calibration"] if calibrated.calibration is not None else []))


def _classes(decided: np.ndarray, targets: np.ndarray, names: Sequence[str]) -> tuple[ClassScore, ...]:
    """Return how each class that occurs fares by what predict decides, the worst first."""
    if targets.ndim == 1:
        every = np.arange(len(names))
        truth, given = targets[:, None] == every, decided[:, None] == every
    else:
        truth, given = targets > 0, decided > 0
    tables = tag_counts(truth, given)
    measures, n = tag_measures(tables), tables[:, 1].sum(axis=1)
    found = []
    for c in np.flatnonzero(n).tolist():
        recall = float(measures["recall"][c])
        low, high = wilson(recall, int(n[c]))
        precision, f2 = float(measures["precision"][c]), float(measures["fbeta"][c])
        found.append(ClassScore(names[c], int(n[c]), recall, float(low), float(high), precision, f2))
    by = (lambda s: s.f2) if targets.ndim == 2 else (lambda s: s.recall)
    return tuple(sorted(found, key=by))


def _parts(report: SliceReport) -> list[dict[str, Any]]:
    return [
        {
            "column": s.column,
            "value": s.value,
            "n": s.n,
            "score": s.score.value,
            "low": s.score.low,
            "high": s.score.high,
            "rest": s.rest,
            "p_value": s.p_value,
        }
        for s in report.slices
    ]


def _write(run: RunFolder, name: str, found: Evaluation, screen: Screen) -> Path | None:
    """Write the evaluation under the next free number; None, with a warning, where the folder cannot be written."""
    when = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    content = {"onecycle": __version__, "when": when, "run": run.name, **found.to_dict()}
    folder = run.path / "evaluations"
    try:
        folder.mkdir(exist_ok=True)
        path = _reserved(folder, name)
        run.write_json(path, content)
    except OSError as error:
        screen.warn(f"the evaluation could not be written into {folder} ({error.strerror}); it is shown here alone")
        return None
    return path


def _reserved(folder: Path, name: str) -> Path:
    """Make the next file ``<name>-001.json`` that nobody else has."""
    number = 1
    while True:
        path = folder / f"{name}-{number:03d}.json"
        try:
            path.touch(exist_ok=False)
        except FileExistsError:
            number += 1
            continue
        return path


# -- what is said ---------------------------------------------------------------------------------------------


def _say_scores(screen: Screen, found: Evaluation, limit: float | None) -> None:
    first, *others = found.scores
    screen.row("result", f"{_score(first)} on {found.n:,} {found.part}", style="bold", always=True)
    if limit is not None:
        _say_limit(screen, first, limit)
    for i, other in enumerate(others):
        screen.row("also" if i == 0 else "", _score(other))


def _say_rest(screen: Screen, run: RunFolder, found: Evaluation, path: Path | None) -> None:
    for label, text in found.notes:
        screen.row(label, text)
    _say_classes(screen, found)
    if found.slices is not None and found.slices.slices:
        screen.say()
        for line in str(found.slices).splitlines():
            screen.line(line)
    screen.say()
    if path is not None:
        screen.row("written", str(path))
    quoted = shlex.quote(str(run.path))
    if "data" in found.facts:
        screen.row("next", "compare with another run, or look at what this one gets wrong:")
        screen.command(f"onecycle compare {quoted} RUN")
        screen.command(f"onecycle report {quoted}")
    else:
        screen.row("next", "judge it on labelled pictures that it never saw:")
        screen.command(f"onecycle evaluate {quoted} DATA")


def _say_classes(screen: Screen, found: Evaluation) -> None:
    """Show the classes that fare worst."""
    worst = found.classes[:_WORST]
    if not worst:
        return
    rows = [["worst", "pictures", "recall (95 %)", "precision", "F2"]]
    for c in worst:
        recall = f"{c.recall:.2f} ({c.low:.2f} to {c.high:.2f})"
        precision = "–" if np.isnan(c.precision) else f"{c.precision:.2f}"
        rows.append([cut(c.name, _NAME_WIDTH), f"{c.n:,}", recall, precision, f"{c.f2:.2f}"])
    screen.say()
    screen.table(rows, "<><>", least=(5, 8, 20, 9, 5))


def _score(e: Estimate) -> str:
    text = f"{e.name} {e.value:.3f}, 95 % interval {e.low:.3f} to {e.high:.3f}"
    return (
        text if e.baseline is None else f"{text} ({_GUESSES.get(e.baseline_name, e.baseline_name)}: {e.baseline:.3f})"
    )


_GUESSES = {"prior": "a guess without looking", "majority class": "always the commonest class"}


def _say_limit(screen: Screen, first: Estimate, limit: float) -> None:
    if first.low >= limit:
        screen.row("limit", f"held: {first.name} is at least {first.low:.3f}, and {limit:g} was asked for")
        return
    screen.row(
        "limit",
        f"not held: {first.name} may be as low as {first.low:.3f}, below {limit:g} (--fail-under looks at the "
        "lower end of the interval)",
        always=True,
    )
