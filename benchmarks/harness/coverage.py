"""How often a 95 % interval holds the truth: predictions are drawn from a known process, again and again.

``table(trials)`` gives the rows that ``benchmarks/trust.py`` writes down.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from onecycle.evaluation.certainty import intervals

Drawn = tuple[np.ndarray, np.ndarray]  # probs (n, C), targets
Draw = Callable[[np.random.Generator, int], Drawn]

# Prevalence of the drawn tags, and how far apart their scores lie (in standard deviations): from easy to hard.
SHARES = np.array([0.9, 0.7, 0.3, 0.3, 0.2, 0.15, 0.1, 0.1])
SEPARATION = np.array([2.0, 1.5, 2.5, 1.0, 2.0, 1.5, 2.5, 1.5])
RARE_SHARES = np.array([0.9, 0.7, 0.3, 0.12, 0.05, 0.03, 0.02, 0.01])
N_TRUTH = 400_000


def right_or_wrong(rng: np.random.Generator, n: int, *, p: float) -> Drawn:
    """Draw predictions of three classes that are right with probability p."""
    targets = rng.integers(0, 3, n)
    said = np.where(rng.random(n) < p, targets, (targets + 1) % 3)
    return np.eye(3)[said], targets


def tags(rng: np.random.Generator, n: int, *, shares: np.ndarray = SHARES) -> Drawn:
    """Draw tags whose log-odds are normal about their prevalence, apart for true and false; rarely all wrong."""
    truth = rng.random((n, len(shares))) < shares
    hard = rng.random((n, 1)) < 0.1  # the tags of a hard picture are all blurred: pictures differ
    apart = np.where(hard, 0.3, 1.0) * SEPARATION
    z = np.log(shares / (1 - shares)) + apart * np.where(truth, 1.0, -0.5) + rng.normal(0, 1, truth.shape)
    return 1 / (1 + np.exp(-z)), truth.astype(float)


def grouped(rng: np.random.Generator, n: int, *, p: float, per_group: int = 5) -> Drawn:
    """Draw predictions as ``right_or_wrong`` whose chance of being right differs from group to group."""
    own = np.repeat(rng.beta(8 * p, 8 * (1 - p), -(-n // per_group)), per_group)[:n]
    targets = rng.integers(0, 3, n)
    return np.eye(3)[np.where(rng.random(n) < own, targets, (targets + 1) % 3)], targets


def better(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw tags, their probabilities, and the same probabilities with more noise: (better, worse, targets)."""
    probs, targets = tags(rng, n)
    z = np.log(probs) - np.log1p(-probs) + rng.normal(0, 0.7, probs.shape)
    return probs, 1 / (1 + np.exp(-z)), targets


def coverage(
    score: intervals.WeightedScore,
    draw: Draw,
    n: int,
    truth: float,
    *,
    trials: int = 1000,
    seed: int = 0,
    per_group: int = 1,
    n_boot: int | None = None,
) -> dict[str, float]:
    """Return the share of trials whose interval holds ``truth``, and the mean width of the intervals."""
    held, width = 0, 0.0
    groups = None if per_group == 1 else np.arange(n) // per_group
    for trial in range(trials):
        probs, targets = draw(np.random.default_rng((seed, trial)), n)
        found = intervals.estimate(score, probs, targets, groups=groups, seed=trial, n_boot=n_boot)
        held += found.low <= truth <= found.high
        width += (found.high - found.low) / trials
    return {"n": n, "truth": truth, "coverage": held / trials, "width": width, "trials": trials}


def difference_coverage(
    score: intervals.WeightedScore, n: int, truth: float, *, trials: int = 1000, seed: int = 0
) -> dict[str, float]:
    """Return how often the interval of a paired difference holds the true one."""
    held, width = 0, 0.0
    for trial in range(trials):
        good, bad, targets = better(np.random.default_rng((seed, trial)), n)
        found = intervals.difference(score, good, bad, targets, seed=trial)
        held += found.low <= truth <= found.high
        width += (found.high - found.low) / trials
    return {"n": n, "truth": truth, "coverage": held / trials, "width": width, "trials": trials}


def true_value(score: intervals.WeightedScore, draw: Draw) -> float:
    """Return the score of so many drawn pictures that chance no longer matters."""
    probs, targets = draw(np.random.default_rng(987_654), N_TRUTH)
    return float(score.weighted(probs, targets, np.ones((1, N_TRUTH)))[0])


def true_difference(score: intervals.WeightedScore) -> float:
    """Return the difference of ``better``'s two predictions over so many pictures."""
    good, bad, targets = better(np.random.default_rng(987_654), N_TRUTH)
    once = np.ones((1, N_TRUTH))
    return float((score.weighted(good, targets, once) - score.weighted(bad, targets, once))[0])


def table(trials: int = 1000) -> list[dict[str, object]]:
    """Return a row for each score, number of pictures and process: coverage and mean width."""
    rows: list[dict[str, object]] = []
    for n in (50, 100, 200):
        for p in (0.6, 0.7, 0.8, 0.9, 0.95):
            draw = partial(right_or_wrong, p=p)
            rows.append({"score": "accuracy"} | coverage(intervals.accuracy(), draw, n, p, trials=trials))
    for p in (0.7, 0.9):
        found = coverage(intervals.accuracy(), partial(grouped, p=p), 200, p, trials=trials, per_group=5, seed=1)
        rows.append({"score": "accuracy, groups of 5"} | found)
    for name, shares in (("tags of 10 to 90 %", SHARES), ("tags down to 1 %", RARE_SHARES)):
        draw = partial(tags, shares=shares)
        for score in (intervals.sample_fbeta(), intervals.micro_fbeta(), intervals.MacroAveragePrecision()):
            truth = true_value(score, draw)
            rows.append({"score": f"{score.name}, {name}"} | coverage(score, draw, 200, truth, trials=trials))
    for score in (intervals.sample_fbeta(), intervals.MacroAveragePrecision()):
        truth = true_difference(score)
        found = difference_coverage(score, 200, truth, trials=trials)
        rows.append({"score": f"difference in {score.name}"} | found)
    return rows
