"""How the probabilities of tags become the tags that are predicted: by a rule, for the measure that the user names.

``Decisions`` is that rule and the one place where it is applied: ``Predictor``, ``Predictions`` and all that is made of
them hold the same one. A head that knows which tags occur together (``model/tag_sets.py``) gives sets of tags
probabilities, of which each tag's own is the marginal: then the best set is predicted, without thresholds. All of it
are pure functions of arrays, so that whatever ships can decide alike.

Measured on Planet (splits 1 to 5, solved head at 128 px, one view): by sets, exact matches rise by 0.008 (-0.010 to
0.025) over 0.5 for all tags, sample-F1 by 0.009 (0.003 to 0.020), and sample-F2 is that of 0.2 for all tags (-0.001;
-0.005 to 0.002). Independent tags keep thresholds: their largest expected F2 gave 0.002 over 0.2 (-0.005 to 0.004).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from onecycle.errors import ArgumentError
from onecycle.evaluation.certainty.constraints import apply_constraints
from onecycle.evaluation.certainty.intervals import SumScore, exact_match, micro_recall, sample_fbeta
from onecycle.evaluation.certainty.thresholds import TagThresholds, usual_threshold

CELLS = 2_000_000
"""Numbers that are held at a time: with more pictures × tags × sets than this, pictures are taken in turn."""

MOST_STEPS, CLOSE, RIDGE = 60, 1e-6, 1e-9

MEASURES = "f2, f1, exact or precision=0.9 (any share)"
DEFAULT_THRESH = 0.5
"""The threshold of all tags where nobody named a measure."""


@dataclass(frozen=True)
class Measure:
    """What decisions about tags are made for, and what their headline score is."""

    name: str  # as the user says it
    beta: float = 1.0  # weight of recall in F, in tables too
    precision: float | None = None  # the least that is asked for; None: another measure

    @classmethod
    def named(cls, name: str) -> Self:
        """Return the measure that a user names.

        Args:
            name: ``f2`` or ``f1``: the mean over pictures of F-beta of their tags; ``exact``: the share of pictures
                that are given exactly their tags; ``precision=0.9``: as many tags as that precision allows.

        Raises:
            ArgumentError: another name, or a precision that is no share.
        """
        if not isinstance(name, str):
            raise ArgumentError(f"decisions are made for {MEASURES}; received {name!r}")
        word, _, share = name.strip().lower().partition("=")
        if word in ("f1", "f2", "exact") and not share:
            return cls(word, beta=2.0 if word == "f2" else 1.0)
        try:
            least = float(share)
        except ValueError:
            least = 0.0
        if word != "precision" or not 0 < least <= 1:
            raise ArgumentError(f"decisions are made for {MEASURES}; received {name!r}")
        return cls(f"precision={least:g}", precision=least)

    @property
    def is_exact(self) -> bool:
        """Whether only a wholly right set of tags counts."""
        return self.name == "exact"

    @property
    def usual_threshold(self) -> float:
        """The threshold of all tags where none is chosen; of ``exact`` 0.5: the most probable of independent tags."""
        return 0.5 if self.is_exact else usual_threshold(self.beta)

    @property
    def threshold_options(self) -> dict[str, Any]:
        """How thresholds are chosen for it: keywords of ``choose_thresholds``."""
        return {"beta": self.beta} if self.precision is None else {"precision": self.precision}

    def score(self) -> SumScore:
        """Return the score of decisions as 0.0 and 1.0, under its plain name."""
        if self.is_exact:
            return exact_match()
        if self.precision is None:
            return sample_fbeta(self.beta, None)
        return micro_recall(None, least_precision=self.precision)

    def __str__(self) -> str:
        if self.precision is not None:
            return f"precision {self.precision:g}"
        return self.score().name


F2 = Measure.named("f2")


# -- by how probable each set of tags is ----------------------------------------------------------------------


MOST_CELLS = 10**8
"""Known sets times tags of a saved model."""


@dataclass(frozen=True, eq=False)
class KnownSets:
    """The K sets of tags that training has: p(S) ∝ exp(Σ z of its tags + o(S)) with scores z of a picture's C tags."""

    sets: np.ndarray  # bool (K, C)
    offsets: np.ndarray  # float64 (K,), o
    unseen: float  # share left to sets that training does not have, half of it to each tag's presence

    def __post_init__(self) -> None:
        if self.sets.ndim != 2 or not len(self.sets) or self.offsets.shape != self.sets.shape[:1]:
            raise ArgumentError(
                f"expected sets (K, C) and offsets (K,); received {self.sets.shape} and {self.offsets.shape}"
            )

    def __len__(self) -> int:
        return len(self.sets)

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold: the tags of each set by their places; ``from_dict`` reads it."""
        of_sets = [np.flatnonzero(tags).tolist() for tags in self.sets]
        return {"n_tags": self.sets.shape[1], "sets": of_sets, "offsets": self.offsets.tolist(), "unseen": self.unseen}

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any], n_tags: int) -> Self:
        """Read what ``to_dict`` wrote.

        Args:
            saved: that was read.
            n_tags: that the sets must be of.

        Raises:
            ArgumentError: entries that are missing or do not fit.
        """
        try:
            if saved["n_tags"] != n_tags:
                raise ValueError(f"sets of {n_tags} tags, not of {saved['n_tags']}")
            if len(saved["sets"]) * n_tags > MOST_CELLS:
                raise ValueError(f"at most {MOST_CELLS:,} sets times tags, not {len(saved['sets']):,} times {n_tags:,}")
            sets, unseen = np.zeros((len(saved["sets"]), n_tags), dtype=bool), float(saved["unseen"])
            for row, places in zip(sets, saved["sets"], strict=True):
                at = np.array(places, dtype=np.int64)
                if (at < 0).any():
                    raise IndexError("places from 0")
                row[at] = True
            offsets = np.array(saved["offsets"], dtype=np.float64)
            if not (np.isfinite(offsets).all() and 0 <= unseen < 1):
                raise ValueError("finite offsets, and a share of unseen sets below 1")
            return cls(sets, offsets, unseen)
        except (IndexError, KeyError, TypeError, ValueError, OverflowError) as err:
            raise ArgumentError(f"saved sets of tags have n_tags, sets, offsets and unseen ({err!r})") from err

    def probs(self, marginals: np.ndarray) -> np.ndarray:
        """Return the probability of each set, float64 ``(N, K)``, from those of the tags as the model gives them.

        A picture's marginals have all that its C scores had: the scores are what makes the marginals of the sets equal
        to them, and they are found by Newton's method (on Planet to 3e-7 of the probabilities in 16 steps).

        Args:
            marginals: float ``(N, C)``, the model's own, not calibrated.

        Source: Wainwright and Jordan 2008, "Graphical models, exponential families, and variational inference", 3.4
            (from mean to canonical parameters).
        """
        within = (np.asarray(marginals, dtype=np.float64) - self.unseen / 2) / (1 - self.unseen)
        return _with_marginals(np.clip(within, 0.0, 1.0), self.sets.astype(np.float64), self.offsets)


def _with_marginals(wanted: np.ndarray, sets: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Return p(S) ∝ exp(z·S + o(S)), (N, K), whose tags have the marginals (N, C): the z of least log Σ exp − z·m."""
    scores, left = np.zeros_like(wanted), np.arange(len(wanted))
    for _ in range(MOST_STEPS):
        probs = _softmax(scores[left] @ sets.T + offsets)
        off = probs @ sets - wanted[left]
        far = np.abs(off).max(axis=1, initial=0.0) > CLOSE
        if not far.any():
            break
        left, probs, off = left[far], probs[far], off[far]
        scores[left] = _stepped(scores[left], wanted[left], probs, off, sets, offsets)
    return _softmax(scores @ sets.T + offsets)


def _stepped(
    scores: np.ndarray, wanted: np.ndarray, probs: np.ndarray, off: np.ndarray, sets: np.ndarray, offsets: np.ndarray
) -> np.ndarray:
    """Return the scores after a step of Newton's method, halved where it would not lower the objective."""
    mean, gradient = probs @ sets, off + RIDGE * scores
    both = (probs[:, None, :] * sets.T) @ sets  # how probable each pair of tags is, (N, C, C)
    curvature = both - mean[:, :, None] * mean[:, None, :] + RIDGE * np.eye(mean.shape[1])
    step = np.linalg.solve(curvature, gradient[..., None])[..., 0]
    slope, share = (step * gradient).sum(axis=1), np.ones(len(scores))

    def objective(z: np.ndarray) -> np.ndarray:
        logits = z @ sets.T + offsets
        top = logits.max(axis=1)
        total = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
        return np.asarray(total - (z * wanted).sum(axis=1) + RIDGE / 2 * np.square(z).sum(axis=1))

    before = objective(scores)
    for _ in range(MOST_STEPS):
        worse = objective(scores - share[:, None] * step) > before - 0.1 * share * slope + 1e-14
        if not worse.any():
            break
        share = np.where(worse, share / 2, share)
    return np.asarray(scores - share[:, None] * step)


def most_probable(probs: np.ndarray, sets: np.ndarray) -> np.ndarray:
    """Return the most probable set of each picture, of equal ones the first: bool ``(N, C)``.

    Args:
        probs: float ``(N, K)``, of each set.
        sets: bool ``(K, C)``.
    """
    return np.asarray(sets[probs.argmax(axis=1)])


def best_expected_f(probs: np.ndarray, sets: np.ndarray, beta: float) -> np.ndarray:
    """Return of all sets of tags, seen or not, that of the largest expected F-beta: bool ``(N, C)``.

    To give no tag where there is none counts 1, so that it is done where it is the more probable.

    Args:
        probs: float ``(N, K)``, of each set.
        sets: bool ``(K, C)``.
        beta: how many times recall matters as much as precision.

    Source: Dembczyński, Waegeman, Cheng and Hüllermeier 2011, "An exact algorithm for F-measure maximization" (GFM):
        of k tags, the best are those of the largest Δ(c, k) = Σ_s P(tag c, s tags) (1+β²) / (β² s + k).
    """
    n_tags = sets.shape[1]
    sizes = np.arange(1, n_tags + 1)
    gains = (probs @ f_weights(sets, beta).reshape(len(sets), -1)).reshape(len(probs), n_tags, n_tags)  # Δ, (N, C, k)
    order = np.argsort(-gains, axis=1, kind="stable")
    of_size = np.take_along_axis(gains, order, axis=1).cumsum(axis=1)[:, sizes - 1, sizes - 1]  # (N, k)
    best = of_size.argmax(axis=1)
    ranked = np.take_along_axis(order, best[:, None, None], axis=2)[:, :, 0]
    given = np.zeros((len(probs), n_tags), dtype=bool)
    np.put_along_axis(given, ranked, sizes - 1 <= best[:, None], axis=1)
    none = probs[:, ~sets.any(axis=1)].sum(axis=1)
    return np.asarray(given & (of_size.max(axis=1) >= none)[:, None])


def f_weights(sets: np.ndarray, beta: float) -> np.ndarray:
    """Return what a tag adds to F-beta where a set is true and k tags are given, float64 ``(K, C, k)``, k from 1 on."""
    sizes = np.arange(1, sets.shape[1] + 1)
    weights = (1 + beta**2) / (beta**2 * sizes[:, None] + sizes)  # (size of the truth, size of what is given)
    return np.asarray(sets[:, :, None] * weights[np.maximum(sets.sum(axis=1) - 1, 0)][:, None, :])


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


# -- the rule ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Decisions:
    """The rule in use: chosen thresholds, else sets of tags, else one threshold for all tags."""

    measure: Measure | None = None  # None: nobody named one; F2 is reported
    thresholds: TagThresholds | None = None  # chosen ones; they decide before the sets
    sets: KnownSets | None = None  # of a head that knows them; None: tags are independent of each other

    @property
    def reported(self) -> Measure:
        """The measure that scores are of."""
        return self.measure or F2

    @property
    def by_sets(self) -> bool:
        """Whether probabilities of sets of tags decide: then no tag has a threshold."""
        found = self.sets is not None and self.measure is not None and self.measure.precision is None
        return found and self.thresholds is None

    @property
    def threshold(self) -> float:
        """The threshold of all tags where none was chosen and no sets decide."""
        return DEFAULT_THRESH if self.measure is None else self.measure.usual_threshold

    @property
    def own(self) -> bool:
        """Whether the model's own probabilities decide: calibrating them changes what is shown, nothing else."""
        return self.measure is not None or self.thresholds is not None

    def compared(self, probs: np.ndarray, shown: np.ndarray) -> np.ndarray:
        """Return what thresholds are compared with, float ``(N, C)``."""
        if self.thresholds is not None:
            return apply_constraints(probs, self.thresholds.exactly_one)
        return probs if self.own else shown

    def limits(self, n_tags: int) -> np.ndarray | None:
        """Return the threshold of each tag, float64 ``(C,)``; None where sets decide."""
        if self.by_sets:
            return None
        return np.full(n_tags, self.threshold) if self.thresholds is None else np.array(self.thresholds.values)

    def decide(self, probs: np.ndarray, shown: np.ndarray) -> np.ndarray:
        """Return which tags are predicted, bool ``(N, C)``.

        Args:
            probs: float ``(N, C)``, the model's own probabilities.
            shown: float ``(N, C)``, the calibrated ones, or the same.

        Raises:
            ArgumentError: thresholds or sets of another number of tags.
        """
        if self.thresholds is not None:
            return self.thresholds.decide(probs)
        if self.sets is None or not self.by_sets:
            return np.asarray(self.compared(probs, shown) >= np.float64(self.threshold))
        k, c = self.sets.sets.shape
        if probs.shape[1:] != (c,):
            raise ArgumentError(f"expected probs (N, {c}); received {probs.shape}")
        rows = max(1, CELLS // (c * max(c, k)))
        parts = [self._by_sets(self.sets, probs[i : i + rows]) for i in range(0, len(probs), rows)]
        return np.concatenate(parts) if parts else np.zeros(probs.shape, dtype=bool)

    def _by_sets(self, known: KnownSets, probs: np.ndarray) -> np.ndarray:
        of_sets = known.probs(probs)
        if self.reported.is_exact:
            return most_probable(of_sets, known.sets)
        return best_expected_f(of_sets, known.sets, self.reported.beta)

    def worth(self, probs: np.ndarray, given: np.ndarray) -> np.ndarray:
        """Return what sets decide by, of tags that are given: their probability or expected F-beta, float64 ``(N,)``.

        Args:
            probs: float ``(N, C)``, the model's own probabilities.
            given: bool ``(N, C)``.
        """
        if self.sets is None:
            raise ArgumentError("no sets of tags are known to this model")
        of_sets, true, given = self.sets.probs(probs), self.sets.sets.astype(float), given.astype(float)
        hits, sizes = given @ true.T, given.sum(axis=1)[:, None] + np.zeros(len(true))
        if self.reported.is_exact:
            score = (hits == sizes) & (sizes == true.sum(axis=1))
        else:
            square = self.reported.beta**2
            total = square * true.sum(axis=1) + sizes
            score = np.divide((1 + square) * hits, total, out=np.ones_like(total), where=total > 0)
        return np.asarray((of_sets * score).sum(axis=1))

    def __str__(self) -> str:
        """Say in one line how tags are predicted; ``thresh`` and the like are for the caller to say."""
        if self.sets is not None and self.by_sets:
            if self.reported.is_exact:
                return f"the most probable of the {len(self.sets)} sets of tags of training is predicted"
            what = f"the tags with the largest expected F{self.reported.beta:g} are predicted"
            return f"{what}, by how probable each of the {len(self.sets)} sets of tags of training is"
        chosen = self.thresholds
        if chosen is None or chosen.default is not None:
            at = self.threshold if chosen is None else chosen.default
            return f"a tag is predicted from a probability of {at:g} on"
        low, high = min(chosen.values), max(chosen.values)
        span = f"{low:.2f}" if low == high else f"{low:.2f} to {high:.2f}"
        return f"a tag is predicted from its threshold on ({span}; chosen for {chosen.goal} on {chosen.n:,} pictures)"

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold; ``from_dict`` reads it."""
        return {
            "measure": None if self.measure is None else self.measure.name,
            "thresholds": None if self.thresholds is None else self.thresholds.to_dict(),
            "sets": None if self.sets is None else self.sets.to_dict(),
        }

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any], n_tags: int) -> Self:
        """Read what ``to_dict`` wrote, or an older onecycle without measure and sets.

        Args:
            saved: that was read.
            n_tags: that it must be for.

        Raises:
            ArgumentError: entries that do not fit.
        """
        measure, chosen, sets = (saved.get(name) for name in ("measure", "thresholds", "sets"))
        thresholds = None if chosen is None else TagThresholds.from_dict(chosen)
        if thresholds is not None and len(thresholds.values) != n_tags:
            raise ArgumentError(f"saved thresholds are for {len(thresholds.values)} tags, and there are {n_tags}")
        return cls(
            measure=None if measure is None else Measure.named(measure),
            thresholds=thresholds,
            sets=None if sets is None else KnownSets.from_dict(sets, n_tags),
        )


UNASKED = Decisions()
"""Where nobody asked for anything: one threshold for all tags, fastai v1's, and F2 is reported."""
