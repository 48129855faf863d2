"""What a report says, before it is a page: plain values and arrays, made by pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from onecycle.evaluation.class_table import ClassRow
from onecycle.evaluation.label_issues import LabelIssue
from onecycle.evaluation.predictions import Predictions
from onecycle.evaluation.report.charts import Plot
from onecycle.evaluation.report.confusion import Matrix, Pair
from onecycle.evaluation.report.pictures import Shot
from onecycle.evaluation.report.scores import CalibrationFacts, Scores
from onecycle.evaluation.report.sliders import Sliders
from onecycle.evaluation.report.verdict import IssueCount, Verdict
from onecycle.evaluation.scores import ranked_pairs, swap_counts
from onecycle.evaluation.slices import SliceReport
from onecycle.evaluation.tags import unfounded_pairs

MOST_TOP_LOSSES = 12
MOST_ISSUES = 60
MOST_SLICES = 25
MOST_TAG_PAIRS = 12


@dataclass(frozen=True)
class ShownLabel:
    """A label with its probability, as it is said of a picture."""

    name: str  # of the class
    prob: float  # as shown
    mark: str  # "right", "wrong" (predicted though not true) or "missed" (true, not predicted)


@dataclass(frozen=True, kw_only=True)
class TopLoss:
    """A picture that the model is most wrong about."""

    index: int  # position in the validation set
    loss: float
    labels: tuple[ShownLabel, ...]  # predicted or missed
    plain: Shot
    heat: Shot | None  # the picture with the heat map; None where none can be made
    explained: str  # the class that the heat map is of


@dataclass(frozen=True)
class DoubtfulPicture:
    """A picture with labels to check, the most doubtful first."""

    file: str  # below the data's folder, as the table of changes has it
    shot: Shot
    labels: tuple[LabelIssue, ...]  # in question


@dataclass(frozen=True, kw_only=True)
class ReportContent:
    """All that a report says; what is None was not asked for, or is for the other kind of labels."""

    title: str  # of the page
    predictions: Predictions
    verdict: Verdict  # the first screen
    scores: Scores
    calibration: CalibrationFacts | None
    rows: tuple[ClassRow, ...]
    reliability: Plot | None  # the diagram
    data: Mapping[str, Any] | None  # what ``AuditReport.to_dict`` wrote
    curves: tuple[Plot, ...]  # of training
    sweep: Plot | None  # of the learning-rate finder
    matrix: Matrix | None  # of single labels
    swapped: tuple[tuple[int, int, int], ...]  # (missed tag, tag predicted instead, pictures), most first
    together: tuple[tuple[str, str, int, int], ...]  # (tag, tag, pictures predicted both, that have both)
    pairs: tuple[Pair, ...]  # confused most
    shots: Mapping[int, Shot] = field(repr=False)  # the pictures of these pairs, by position
    top: tuple[TopLoss, ...]
    sliders: Sliders | None  # of tags
    doubtful: tuple[DoubtfulPicture, ...] | None  # pictures with labels to check
    issues: IssueCount | None  # how many labels are doubtful in all
    columns: tuple[str, ...]  # of the table of changes
    slices: SliceReport | None
    thumbs: Mapping[int, str] = field(repr=False)  # small pictures by position, as data URLs
    left_out: int = 0  # pictures that did not fit
    gone: int = 0  # pictures that cannot be read
    config: str = ""
    command: str = ""
    env: Mapping[str, object] = field(default_factory=dict)
    notes: tuple[str, ...] = ()  # how the model was made
    training_note: str = ""  # what the history of training says
    missing: Mapping[str, str] = field(default_factory=dict)  # by section, one line on why it is not there
    version: str = ""  # of onecycle
    made: str = ""  # when


def shown_labels(p: Predictions, index: int, most: int = 6) -> tuple[ShownLabel, ...]:
    """Return the labels that a picture is predicted or should have, mistakes first.

    For single labels: the predicted class and the true one.
    """
    truth, said, probs = p.truth[index], p.predicted[index], p.shown_probs[index]
    shown = np.flatnonzero(truth | said)
    order = shown[np.lexsort((-probs[shown], truth[shown] == said[shown]))][:most]
    marks = {(True, True): "right", (False, True): "wrong", (True, False): "missed"}
    return tuple(ShownLabel(p.classes[c], float(probs[c]), marks[bool(truth[c]), bool(said[c])]) for c in order)


def swapped_tags(p: Predictions) -> tuple[tuple[int, int, int], ...]:
    """Return (missed tag, tag predicted though not true, pictures) by class number, most first."""
    return tuple(ranked_pairs(swap_counts(p.truth, p.predicted), range(len(p.classes)))[:MOST_TAG_PAIRS])


def tags_together(p: Predictions) -> tuple[tuple[str, str, int, int], ...]:
    """Return (tag, tag, pictures predicted both, pictures that have both), the largest excess first."""
    return tuple(unfounded_pairs(p)[:MOST_TAG_PAIRS])


def wrong_first(p: Predictions) -> np.ndarray:
    """Return positions of all pictures, wrong ones first, then by loss, int64 ``(N,)``."""
    return np.lexsort((-p.known_losses, (p.truth == p.predicted).all(axis=1)))
