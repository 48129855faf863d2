"""What fewer bits a weight change: decisions, score, size and time of an export beside those with float32 weights."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from onecycle.data.pixels.picture_file import UNREADABLE
from onecycle.deploy.folder import open_model
from onecycle.deploy.unlike import spread
from onecycle.deploy.verify import run_all
from onecycle.errors import ArgumentError, ExportError
from onecycle.evaluation.certainty.intervals import Estimate, difference, estimate
from onecycle.evaluation.certainty.spans import Span, ratio_spans
from onecycle.evaluation.headline import judged_by
from onecycle.evaluation.scores import one_hot
from onecycle.files import write_whole
from onecycle.settings import MODEL
from onecycle.text import by_place, shown

if TYPE_CHECKING:
    import onnx

    from onecycle.deploy.portable.predict import Model
    from onecycle.evaluation.predictions import Predictions

LEAST_EQUAL = 0.995
"""Share of decisions that must stay as they are with float32 weights."""

MOST_FITTED = 64
"""Training pictures that int8 weights are fitted with: of 20 and of 100 the same decisions stayed."""

ROUNDS, IN_A_ROUND = 5, 10
Weights = Literal["float32", "half", "int8"]


@dataclass(frozen=True)
class AskedWeights:
    """How an export is to store the weights of its network, and what decides whether it may."""

    weights: Weights = "float32"
    accept: bool = False  # fewer bits are written however many decisions they change
    training: Sequence[str] = ()  # pictures that trained it
    labelled: Predictions | None = None  # of the pictures that it is verified with, with the truth

    def check(self) -> None:
        """Refuse what cannot work before the work.

        Raises:
            ArgumentError: another kind of weights, int8 without training pictures, something to accept for float32.
        """
        if self.weights not in get_args(Weights):
            raise ArgumentError(f"weights is one of {', '.join(get_args(Weights))}; received {self.weights!r}")
        if self.weights == "int8" and not self.training:
            half = by_place("--half", 'weights="half"')
            raise ArgumentError(f"int8 weights are fitted with training pictures, and there are none: use {half}")
        if self.accept and self.weights == "float32":
            accept, fewer = by_place("--accept", "accept=True"), by_place("--half and --int8", "half and int8 weights")
            raise ArgumentError(f"{accept} is for {fewer}: with float32 weights an export is the same, or refused")


@dataclass(frozen=True)
class ScoreChange:
    """The score that comes first, of what both decide about the same pictures."""

    full: Estimate  # float32 weights
    own: Estimate  # fewer bits
    change: Estimate  # own less full


@dataclass(frozen=True, kw_only=True)
class WeightsCheck:
    """A model with fewer bits a weight beside the one that it was made from, on validation pictures."""

    weights: Weights
    pictures: int
    decisions: int  # one for each picture; of tags one for each picture and tag
    equal: Span  # share of decisions that are the same
    changed: tuple[str, ...]  # files that get other labels, those whose probabilities differ most first
    max_difference: float  # of any probability
    score: ScoreChange | None  # None: nobody has labelled the pictures
    n_bytes: tuple[int, int]  # of model.onnx, with float32 weights and with these
    time_ratio: float  # time of one picture, where float32 takes 1
    accepted: bool  # written whatever this says

    @property
    def n_equal(self) -> int:
        """Decisions that are the same."""
        return round(self.equal.value * self.decisions)

    @property
    def enough(self) -> bool:
        """Whether as many decisions stay as an export needs."""
        return self.equal.value >= LEAST_EQUAL

    @property
    def summary(self) -> str:
        """How many decisions stay, in words."""
        same = self.pictures - len(self.changed)
        share, low, high = (f"{100 * end:.2f}" for end in (self.equal.value, self.equal.low, self.equal.high))
        return (
            f"{self.n_equal:,} of {self.decisions:,} decisions are those of float32 weights, {share} % "
            f"({low} to {high}); {same} of {self.pictures} pictures get the same labels"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as JSON has them."""
        equal = {"n": self.n_equal, "share": self.equal.value, "low": self.equal.low, "high": self.equal.high}
        scores = None if self.score is None else {k: v.to_dict() for k, v in vars(self.score).items()}
        return asdict(self) | {"equal": equal, "score": scores, "least_share": LEAST_EQUAL, "enough": self.enough}

    def check(self) -> None:
        """Raise where too many decisions change and nobody accepted that.

        Raises:
            ExportError: names the pictures that differ most.
        """
        if self.enough or self.accepted:
            return
        other = by_place("--half", 'weights="half"') if self.weights == "int8" else "float32 weights"
        least = f"{100 * LEAST_EQUAL:.1f} %"
        raise ExportError(
            f"with {self.weights} weights {self.summary}; an export needs {least} of them, so nothing was written. "
            f"Most different: {shown(self.changed, most=5)}. Use {other}, or write it all the same with "
            f"{by_place('--accept', 'accept=True')}"
        )


def store_in_fewer_bits(
    folder: Path, network: onnx.ModelProto, full: Model, files: Sequence[str], asked: AskedWeights
) -> tuple[Model, WeightsCheck]:
    """Replace the network of an exported folder by one with fewer bits a weight, and compare the two.

    Args:
        folder: of the export, verified with float32 weights.
        network: that lies in it.
        full: the folder, opened.
        files: validation pictures.
        asked: the kind of weights.

    Returns:
        the folder as it is now, opened, and the comparison.

    Raises:
        ExportError: too many decisions change; no picture can be read.
    """
    from onecycle.deploy.weights.stored import with_weights  # it needs the extra export

    before = (folder / MODEL).stat().st_size
    fitted = spread(asked.training, MOST_FITTED) if asked.weights == "int8" else ()
    smaller = with_weights(network, asked.weights, _decoded(full, fitted)[1]).SerializeToString()
    write_whole(folder / MODEL, smaller)
    own = open_model(folder)
    found = check_weights(full, own, files, asked, n_bytes=(before, len(smaller)))
    found.check()
    return own, found


def check_weights(
    full: Model, own: Model, files: Sequence[str], asked: AskedWeights, *, n_bytes: tuple[int, int]
) -> WeightsCheck:
    """Compare a model that has fewer bits a weight with the one that it was made from, on validation pictures.

    Raises:
        ExportError: no picture can be read.
    """
    readable, pixels = _decoded(full, files)
    if not pixels:
        raise ExportError("no picture to compare the weights with can be read")
    (full_probs, before), (probs, after) = (run_all(model, pixels)[:2] for model in (full, own))
    far = np.abs(probs - full_probs).max(axis=1)
    same = (before == after).reshape(len(pixels), -1)
    changed = np.flatnonzero(~same.all(axis=1))
    known = None if asked.labelled is None else asked.labelled.taken(readable)
    groups = readable if known is None or known.groups is None else known.groups
    hits = same.reshape(-1, 1)
    return WeightsCheck(
        weights=asked.weights,
        pictures=len(pixels),
        decisions=same.size,
        equal=ratio_spans(hits, (1.0, ~hits), groups=np.repeat(groups, same.shape[1]))[0],
        changed=tuple(files[readable[i]] for i in changed[np.argsort(-far[changed], kind="stable")]),
        max_difference=float(far.max()),
        score=None if known is None else _score_change(known, before, after),
        n_bytes=n_bytes,
        time_ratio=_time_ratio(full, own, pixels[0][None]),
        accepted=asked.accept,
    )


def _decoded(model: Model, files: Sequence[str]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the positions of the files that can be read, and their pixels as the network takes them."""
    readable, pixels = [], []
    for i, file in enumerate(files):
        try:
            pixels.append(model.pixels(file))
        except UNREADABLE:
            continue
        readable.append(i)
    return np.array(readable, dtype=np.int64), pixels


def _score_change(p: Predictions, before: np.ndarray, after: np.ndarray) -> ScoreChange:
    """Score both by what they decide, class indices (N,) or bool (N, C)."""
    score = judged_by(p)[0]
    full, own = (one_hot(labels, len(p.classes)).astype(float) for labels in (before, after))
    targets, groups = p.known_targets, p.groups
    return ScoreChange(
        estimate(score, full, targets, groups=groups),
        estimate(score, own, targets, groups=groups),
        difference(score, own, full, targets, groups=groups),
    )


def _time_ratio(full: Model, own: Model, picture: np.ndarray) -> float:
    """Return how much longer the other takes for one picture, timed in turn."""

    def seconds(run: Callable[[np.ndarray], object]) -> float:
        start = time.perf_counter()
        for _ in range(IN_A_ROUND):
            run(picture)
        return time.perf_counter() - start

    rounds = [[seconds(model.run) for model in (full, own)] for _ in range(ROUNDS + 1)]
    return float(np.median([b / a for a, b in rounds[1:]]))


def of_rows(predictions: Predictions, rows: Sequence[int] | np.ndarray) -> Predictions | None:
    """Return the predictions of some rows of the table, in their order; None where one of them is missing."""
    known = () if predictions.rows is None else predictions.rows.tolist()
    place = {row: i for i, row in enumerate(known)}
    if any(row not in place for row in rows):
        return None
    return predictions.taken(np.array([place[row] for row in rows], dtype=np.int64))
