"""What a score is compared with: the best prediction that is the same for every picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from onecycle.evaluation.certainty.intervals import LEVEL, Estimate, SumScore, WeightedScore, difference, group_numbers
from onecycle.evaluation.scores import one_hot
from onecycle.text import safe_text, shown

SHARES = "knowing only how common each is"
"""The constant prediction of a score that reads probabilities."""

NAMED = 5
"""So many classes are named; more are counted."""


@dataclass(frozen=True)
class Constant:
    """A prediction that is the same for every picture."""

    probs: np.ndarray  # float (C,)
    named: tuple[int, ...] | None  # the classes that it names, the commonest first; None where it gives probabilities
    value: float  # its score

    def in_words(self, classes: Sequence[str], word: str) -> str:
        """Say what it says of every picture; ``word`` is what a class is called."""
        if self.named is None:
            return SHARES
        if not self.named:
            return "always no tag"
        named = shown([safe_text(classes[c]) for c in self.named], most=NAMED)
        if len(self.named) == 1:
            return f"always the same {word}: {named}"
        return f"always the same {len(self.named)} {'tags' if word == 'tag' else 'classes'}: {named}"


def best_constant(score: WeightedScore, targets: np.ndarray, c: int) -> Constant:
    """Return the best prediction that is the same for every picture: what a model that never looks could reach.

    Single labels: the commonest class (of top-k accuracy the k commonest). Tags: the k commonest, with the k that
    scores best; of exact matches the commonest set; a score that reads probabilities gets the shares.
    Shares are those of the judged pictures: whatever
    was learned of shares in training, naming the same on each of *these* scores no more than that, so what a model has
    above it comes from the pictures.

    Args:
        score: of ``intervals``; ``falls`` and ``names`` say how it is read.
        targets: int ``(N,)``, or 0/1 ``(N, C)``.
        c: how many classes there are.

    Source: the best constant set holds the commonest tags: Lipton, Elkan & Narayanaswamy 2014, "Optimal thresholding
        of classifiers to maximize F1 measure"; Dembczyński et al. 2011, "An exact algorithm for F-measure
        maximization". Exact for micro-F; for the mean over pictures where tags are independent (on the Planet sample
        a greedy search over all sets ends at the same five).
    """
    truth, once = one_hot(targets, c), np.ones((1, len(targets)))
    shares, sign = truth.mean(axis=0), -1.0 if getattr(score, "falls", False) else 1.0
    order, names = np.argsort(-shares, kind="stable"), int(getattr(score, "names", 0))

    def judged(probs: np.ndarray) -> float:
        return float(score.weighted(np.broadcast_to(probs, truth.shape), targets, once)[0])

    if not names or targets.ndim == 1:
        return Constant(shares, tuple(order[:names].tolist()) if names else None, judged(shares))
    allowed = getattr(score, "constants", None)
    named = [tuple(order[:k].tolist()) for k in _set_sizes(c)] if allowed is None else allowed(truth)
    sets = [np.isin(np.arange(c), tags).astype(float) for tags in named]
    values = [judged(tags) for tags in sets]
    best = int(np.argmax([-math.inf if math.isnan(v) else sign * v for v in values]))
    return Constant(sets[best], named[best], values[best])


def with_baseline(
    found: Estimate,
    score: WeightedScore,
    probs: np.ndarray,
    targets: np.ndarray,
    *,
    classes: Sequence[str],
    groups: Sequence[object] | np.ndarray | None = None,
    seed: int = 0,
) -> Estimate:
    """Return an estimate of a score with its baseline and the interval of its gain over it, on the same pictures.

    A score that ranks all pictures, as macro-AP does, has no such interval: no verdict rests on it, and it is slow.

    Args:
        found: of ``intervals.estimate`` with the same score, probs, targets, groups and seed.
        score, probs, targets, groups, seed: as there.
        classes: C names.
    """
    constant = best_constant(score, targets, len(classes))
    words = constant.in_words(classes, "tag" if targets.ndim == 2 else "class")
    found = replace(found, baseline=constant.value, baseline_name=words)
    if not isinstance(score, SumScore):
        return found
    same = np.broadcast_to(constant.probs, probs.shape)
    first, second = (same, probs) if getattr(score, "falls", False) else (probs, same)
    gain = difference(score, first, second, targets, groups=groups, seed=seed)
    wider = _few_differ(score, probs, same, targets, groups)
    low, high = gain.value - wider * (gain.value - gain.low), gain.value + wider * (gain.high - gain.value)
    ends = (max(low, -1.0), min(high, 1.0)) if score.bounded else (low, high)
    return replace(found, gain=ends)


def _few_differ(
    score: SumScore,
    probs: np.ndarray,
    same: np.ndarray,
    targets: np.ndarray,
    groups: Sequence[object] | np.ndarray | None,
) -> float:
    """Return by how much the interval of the gain is wider because only so many pictures (or groups) tell of it.

    Where a model does as the constant does on nearly all pictures, the gain hangs on the few others: five of them that
    happen to be better are chance in one of 32 cases, yet their spread looks small. So they alone are the degrees of
    freedom of Student's t.
    """
    from scipy.special import stdtrit

    differs = (score.rows(probs, targets) != score.rows(same, targets)).any(axis=1)
    units = np.arange(len(probs)) if groups is None else group_numbers(groups)
    n, k = len(np.unique(units)), len(np.unique(units[differs]))
    if k in (0, n) or n < 2:
        return 1.0
    quantiles = stdtrit(np.array([max(1, k - 1), n - 1]), (1 + LEVEL) / 2)
    return float(quantiles[0] / quantiles[1])


def _set_sizes(c: int) -> list[int]:
    """Return the numbers of tags that are tried: each up to 32, then a tenth more each time, and all."""
    sizes = list(range(1, min(c, 32) + 1))
    while sizes[-1] < c:
        sizes.append(min(c, math.ceil(1.1 * sizes[-1])))
    return sizes
