"""What a report says, before it looks like anything: plain values and arrays, made by pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from onecycle.evaluation.interpretation import ranked_pairs, swap_counts
from onecycle.evaluation.report.charts import Plot
from onecycle.evaluation.report.class_table import ClassRow
from onecycle.evaluation.report.confusion import Matrix, Pair
from onecycle.evaluation.report.evidence import Evidence
from onecycle.evaluation.report.pictures import Shot
from onecycle.evaluation.report.scores import CalibrationFacts, Scores
from onecycle.evaluation.report.sliders import Sliders
from onecycle.evaluation.report.verdict import LabelDoubts, Verdict
from onecycle.evaluation.slices import SliceReport
from onecycle.evaluation.tags import unfounded_pairs

MOST_TOP_LOSSES = 12
MOST_ISSUES = 60
MOST_SLICES = 25


@dataclass(frozen=True)
class DataFinding:
    """One line of the audit."""

    severity: str
    kind: str
    count: int
    message: str
    examples: tuple[str, ...] = ()
    advice: str = ""


@dataclass(frozen=True)
class DataFacts:
    """What the audit says of the data.

    Attributes:
        looked_at: what was counted.
        findings: the worst first.
        leaked: validation pictures that training sees too.
    """

    looked_at: Mapping[str, int]
    findings: tuple[DataFinding, ...]
    leaked: tuple[str, ...]


@dataclass(frozen=True)
class LabelGuess:
    """A label with its probability, as it is said of a picture.

    Attributes:
        name: of the class.
        prob: as shown.
        mark: ``right``, ``wrong`` (given though not true) or ``missed`` (true and not given).
    """

    name: str
    prob: float
    mark: str


@dataclass(frozen=True)
class TopLoss:
    """A picture that the model is most wrong about.

    Attributes:
        index: position in the validation set.
        name: of its file.
        loss: of the picture.
        truth: true labels.
        guesses: labels given or missed.
        plain, heat: the picture, and with the heat map; no heat where none can be made.
        explained: the class that the heat map is of.
    """

    index: int
    name: str
    loss: float
    truth: tuple[str, ...]
    guesses: tuple[LabelGuess, ...]
    plain: Shot
    heat: Shot | None
    explained: str


@dataclass(frozen=True)
class DoubtfulLabel:
    """A label to look at again, as a row of the table of changes.

    Attributes:
        tag: None with one label a picture.
        given, suggested: labels.
        score: how likely the given one is right.
    """

    tag: str | None
    given: str
    suggested: str
    score: float


@dataclass(frozen=True)
class DoubtfulPicture:
    """A picture with labels to look at again, the most doubtful first.

    Attributes:
        file: below the data's folder, as the table of changes has it.
        shot: the picture.
        labels: in question.
    """

    file: str
    shot: Shot
    labels: tuple[DoubtfulLabel, ...]


@dataclass(frozen=True)
class TagPairs:
    """Tags that the model mixes up.

    Attributes:
        swapped: (missed tag, tag given though not true, pictures), by class number, most first.
        together: (tag, tag, pictures given both, pictures that have both), the largest excess first.
    """

    swapped: tuple[tuple[int, int, int], ...]
    together: tuple[tuple[str, str, int, int], ...]


@dataclass(frozen=True)
class PairShots:
    """A confused pair with its pictures, and one of each class that the model gets right."""

    pair: Pair
    shots: tuple[tuple[int, Shot], ...]
    like_actual: tuple[int, Shot] | None
    like_predicted: tuple[int, Shot] | None


@dataclass(frozen=True)
class ReportContent:
    """All that a report says.

    Attributes:
        title: of the page.
        evidence: the predictions.
        verdict: the first screen.
        scores, calibration, rows: numbers.
        reliability: the diagram.
        data: the audit; None where there was none.
        curves: of training.
        sweep: of the learning-rate finder.
        matrix: of single labels; None for tags.
        tag_pairs: of tags; None for single labels.
        pairs: confused most.
        top: top losses.
        sliders: of tags; None for single labels.
        doubtful: pictures with labels to look at again; None where nobody looked.
        doubts: how many labels are worth a second look in all; None where nobody looked.
        columns: of the table of changes.
        slices: parts of the data; None where they could not be made.
        thumbs: small pictures by position, as data URLs.
        left_out: pictures that did not fit.
        gone: pictures that cannot be read.
        config, command, env, notes: how the model was made.
        training_note: what the history of training says.
        missing: by section, one line on why it is not there.
        version: of onecycle.
        made: when.
    """

    title: str
    evidence: Evidence
    verdict: Verdict
    scores: Scores
    calibration: CalibrationFacts | None
    rows: tuple[ClassRow, ...]
    reliability: Plot | None
    data: DataFacts | None
    curves: tuple[Plot, ...]
    sweep: Plot | None
    matrix: Matrix | None
    tag_pairs: TagPairs | None
    pairs: tuple[PairShots, ...]
    top: tuple[TopLoss, ...]
    sliders: Sliders | None
    doubtful: tuple[DoubtfulPicture, ...] | None
    doubts: LabelDoubts | None
    columns: tuple[str, ...]
    slices: SliceReport | None
    thumbs: Mapping[int, str] = field(repr=False)
    left_out: int = 0
    gone: int = 0
    config: str = ""
    command: str = ""
    env: Mapping[str, object] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    training_note: str = ""
    missing: Mapping[str, str] = field(default_factory=dict)
    version: str = ""
    made: str = ""


def data_facts(audit: Mapping[str, object]) -> DataFacts:
    """Read what ``AuditReport.to_dict`` wrote."""
    found: object = audit.get("findings") or ()
    findings = [_finding(f) for f in found] if isinstance(found, (list, tuple)) else []
    looked: object = audit.get("looked_at") or {}
    counts = {str(k): int(v) for k, v in looked.items()} if isinstance(looked, Mapping) else {}
    leaked: object = audit.get("leaked") or ()
    return DataFacts(counts, tuple(findings), tuple(map(str, leaked)) if isinstance(leaked, (list, tuple)) else ())


def _finding(entry: Mapping[str, object]) -> DataFinding:
    examples = entry.get("examples") or ()
    return DataFinding(
        str(entry["severity"]),
        str(entry["kind"]),
        int(str(entry["count"])),
        str(entry["message"]),
        tuple(map(str, examples)) if isinstance(examples, (list, tuple)) else (),
        str(entry.get("advice") or ""),
    )


def guesses(evidence: Evidence, index: int, most: int = 6) -> tuple[LabelGuess, ...]:
    """Return the labels that a picture is given or should be given, mistakes first.

    For single labels: the predicted class and the true one.
    """
    truth, given = evidence.truth()[index], evidence.given()[index]
    shown = np.flatnonzero(truth | given)
    wrong = truth[shown] != given[shown]
    order = shown[np.lexsort((-evidence.shown[index, shown], ~wrong))][:most]
    marks = {(True, True): "right", (False, True): "wrong", (True, False): "missed"}
    return tuple(
        LabelGuess(evidence.classes[c], float(evidence.shown[index, c]), marks[bool(truth[c]), bool(given[c])])
        for c in order
    )


def tag_pairs(evidence: Evidence, most: int = 12) -> TagPairs | None:
    """Return which tags are swapped, and which are given together too often; None for single labels."""
    if not evidence.is_multi:
        return None
    truth, given = evidence.truth(), evidence.given()
    swapped = ranked_pairs(swap_counts(truth, given), range(len(evidence.classes)))
    together = unfounded_pairs(truth, given, evidence.classes)
    return TagPairs(tuple(swapped[:most]), tuple(together[:most]))


def true_names(evidence: Evidence, index: int) -> tuple[str, ...]:
    """Return the names of the true labels of a picture."""
    return tuple(evidence.classes[c] for c in np.flatnonzero(evidence.truth()[index]))


def worst_first(evidence: Evidence) -> np.ndarray:
    """Return positions of all pictures, wrong ones first, then by loss, int64 ``(N,)``."""
    wrong = (evidence.truth() != evidence.given()).any(axis=1)
    return np.lexsort((-evidence.losses, ~wrong))
