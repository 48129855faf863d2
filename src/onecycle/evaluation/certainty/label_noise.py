"""How many labels would look doubtful if all of them were right, and how many more do.

Hard pictures with right labels look doubtful, too. How many, a model says that separates two reasons for an unlikely
label: the picture is hard, or the label is wrong. The chance of each label is

    (1 − ε) · q(label | picture) + ε · (any other label),

where q is what the heads would say of right labels: their probabilities sharpened by one temperature, as they learned
from the wrong labels, too. A few pictures are far harder than their probabilities say, and no data tell these from
wrong labels: that q blurs 6 % of all threefold is an assumption. It was chosen where it came nearest to 5 % planted
errors on drawn tiles, Planet and handwritten digits; what is claimed there now, and on Fashion-MNIST, is in
``benchmarks/results/trust.md``. Temperature and ε are those that make the given labels most likely. Then labels are
drawn from q, again and again, and it is counted how many look doubtful.

Heads that learned nothing, or little, contradict many labels, too. So where right labels and heads that are too sure
explain what is given as well, or more than a fifth of the labels would have to be wrong, the heads are doubted instead:
the labels are drawn from their probabilities as flat as the given labels make them (of tags, tag by tag).

Source: Efron & Tibshirani 1993, "An introduction to the bootstrap", 6.5 (parametric bootstrap); Patrini et al. 2017,
"Making deep neural networks robust to label noise" (the model of wrong labels).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter

import numpy as np

HARD, CAUTIOUS, BOLD = 0.06, 0.15, 0.0
"""Share of pictures that are far harder than their probabilities say: as assumed, and for the ends of the interval."""

MOST_WRONG = 0.2
"""Where a larger share of labels would have to be wrong, it is the heads that are doubted."""

LEAST_PICTURES = 200
"""Of fewer, no excess is claimed: heads taught on some hundred pictures can be surely wrong, as wrong labels are."""

_GAIN = 2.0  # of log likelihood that wrong labels have to bring: half of chi-squared's 95 % point with one parameter
_FIT_ROWS = 3_000  # that the question whether the heads are to be doubted looks at
_BLUR = 1 / 3  # of the log-odds of such pictures
_FIT_CELLS = 500_000  # of probabilities that the fit looks at
_DRAWS, _DRAW_CELLS = 5, 100_000  # drawn label sets; fewer where there are many labels
_WIDER = 1.2  # spread of how many look doubtful, in spreads of as many independent labels; measured 0.7 to 1.2
_Z = 1.959964
_NEVER = -30.0  # log-odds of a share of 0
_SHAPES = ((0.0, 0.0), (-3.0, -2.0))  # where fits begin: heads as sure as they are, and hardly sure of anything
_WRONG = (-3.0, -5.0)  # and the log-odds of a wrong label, or of a lost and of an added tag
_STEP = 0.7  # that they first take: an optimizer's own first step from 0 is too small to be felt

Flag = Callable[[np.ndarray], np.ndarray]
"""Labels, int64 ``(N,)`` or 0/1 ``(N, C)``, to which of them look doubtful, bool of the same shape."""


@dataclass(frozen=True, kw_only=True)
class DoubtCount:
    """How many labels look doubtful, beside how many would if all were right."""

    flagged: int  # labels that look doubtful
    expected: float  # that would look so if all labels were right
    low: float  # of the excess, flagged − expected: its 95 % interval
    high: float

    @property
    def excess(self) -> int:
        """How many more look doubtful than if all were right; 0 where that could be chance."""
        return max(round(self.flagged - self.expected), 1) if self.low > 0 else 0


def count_doubts(
    probs: np.ndarray, targets: np.ndarray, judged: np.ndarray, flag: Flag, *, seed: int = 0
) -> DoubtCount:
    """Count the labels that look doubtful, and how many would if all were right.

    The interval holds the chance of the count, and that more pictures (15 %) or none are harder than they seem.

    Args:
        probs: float64 ``(N, C)``, out-of-fold probabilities.
        targets: int64 ``(N,)`` class indices, or 0/1 ``(N, C)``.
        judged: bool, of the shape of ``targets``: which labels count.
        flag: says which labels look doubtful.
        seed: of the drawn labels.
    """
    rng, n_draws = np.random.default_rng(seed), max(2, min(_DRAWS, _DRAW_CELLS // max(targets.size, 1)))
    flagged = int((flag(targets) & judged).sum())
    if not flagged:
        return DoubtCount(flagged=0, expected=0.0, low=0.0, high=0.0)
    doubted, flat = _doubted_heads(probs, targets, judged, np.random.default_rng(seed))

    def expected(hard: float) -> float:
        right = _right_probs(probs, targets, judged, hard, rng)
        ways = [right, np.where(doubted, flat, right)] if doubted.any() else [right]  # doubt never lowers the number
        counts = [[(flag(_drawn_labels(q, targets, rng)) & judged).sum() for _ in range(n_draws)] for q in ways]
        return float(np.max(np.mean(counts, axis=1)))

    middle, most, least = expected(HARD), expected(CAUTIOUS), expected(BOLD)
    half = _Z * _WIDER * np.sqrt(max(middle, 1.0) * (1 + 1 / n_draws))
    low, high = flagged - max(middle, most) - half, flagged - min(middle, least) + half
    low = min(low, 0.0) if len(probs) < LEAST_PICTURES else low
    return DoubtCount(flagged=flagged, expected=middle, low=float(low), high=float(high))


def _right_probs(
    probs: np.ndarray, targets: np.ndarray, judged: np.ndarray, hard: float, rng: np.random.Generator
) -> np.ndarray:
    """Return what the heads would say of right labels, float64 ``(N, C)``, where some pictures are far harder."""
    few = max(1, _FIT_CELLS // probs.shape[1])
    rows = np.arange(len(probs)) if len(probs) <= few else rng.permutation(len(probs))[:few]
    logits = _logits(probs, targets.ndim)
    loss = _class_loss if targets.ndim == 1 else _tag_loss
    _, values = _fit(loss, (logits[rows], targets[rows], judged[rows], hard), targets.ndim)
    return _blurred(
        logits, float(np.exp(values[0])), 0.0 if targets.ndim == 1 else float(values[1]), hard, targets.ndim
    )


def _doubted_heads(
    probs: np.ndarray, targets: np.ndarray, judged: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Say of which classes the heads are doubted rather than the labels, and what they then say of right labels.

    Returns:
        bool ``(C,)``, of single labels all alike; and probabilities, float64 ``(N, C)``.
    """
    rows = np.arange(len(probs)) if len(probs) <= _FIT_ROWS else rng.permutation(len(probs))[:_FIT_ROWS]
    logits = _logits(probs, targets.ndim)
    if targets.ndim == 1:
        own = (logits[rows], targets[rows], judged[rows], HARD)
        some, none = _fit(_class_loss, own, 1), _fit(_class_loss, own, 1, all_right=True)
        return np.full(probs.shape[1], _no_gain(some, none, 1)), _blurred(
            logits, float(np.exp(none[1][0])), 0.0, HARD, 1
        )
    doubted, flat = np.zeros(probs.shape[1], dtype=bool), np.zeros(probs.shape)
    for j in range(probs.shape[1]):
        at = np.ix_(rows, np.array([j]))
        own = (logits[at], targets[at], judged[at], HARD)
        some, none = _fit(_tag_loss, own, 2), _fit(_tag_loss, own, 2, all_right=True)
        doubted[j] = _no_gain(some, none, 2)
        flat[:, j] = _blurred(logits[:, j], float(np.exp(none[1][0])), float(none[1][1]), 0, 2)
    return doubted, flat


_Fit = tuple[float, np.ndarray]  # −log likelihood, and the values that make it least


def _fit(loss: Callable[..., float], own: tuple[object, ...], n_shape: int, *, all_right: bool = False) -> _Fit:
    """Fit the heads' sharpness and the shares of wrong labels, which are 0 where all labels are taken to be right.

    Args:
        loss: of all values and ``own``.
        own: what else it takes.
        n_shape: how many values come before the shares, of which there are as many.
        all_right: fit no share.
    """
    from scipy.optimize import minimize

    shares, fixed = ([], [_NEVER] * n_shape) if all_right else (_WRONG[:n_shape], [])

    def best(start: Sequence[float]) -> _Fit:
        corners = np.array([start, *(np.array(start) + _STEP * np.eye(len(start)))])
        options = {"xatol": 0.01, "fatol": 0.01, "maxiter": 600, "initial_simplex": corners}
        found = minimize(lambda v: loss([*v, *fixed], *own), start, method="Nelder-Mead", options=options)
        return float(found.fun), np.array([*found.x, *fixed])

    return min((best([*shape[:n_shape], *shares]) for shape in _SHAPES), key=itemgetter(0))


def _no_gain(some: _Fit, none: _Fit, n_shape: int) -> bool:
    """Say whether wrong labels explain no more than heads that are too sure, or have to be implausibly many."""
    gain, shares = none[0] - some[0], [_share(x) for x in some[1][n_shape:]]
    return gain < _GAIN or max(shares) > MOST_WRONG


def _logits(probs: np.ndarray, ndim: int) -> np.ndarray:
    """Return log probabilities of classes, log-odds of tags, float64 ``(N, C)``."""
    safe = np.clip(probs.astype(np.float64), 1e-9, 1 - 1e-9)
    return np.asarray(np.log(safe) if ndim == 1 else np.log(safe) - np.log1p(-safe))


def _blurred(logits: np.ndarray, sharper: float, shift: float, hard: float, ndim: int) -> np.ndarray:
    """Return probabilities of sharpened log-odds, a share of them blurred, ``(N, C)``."""

    def probs(scale: float) -> np.ndarray:
        if ndim == 2:
            return np.asarray(1 / (1 + np.exp(-np.clip(scale * logits + shift, -500, 500))))
        powers = np.exp(scale * (logits - logits.max(axis=1, keepdims=True)))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))

    return probs(sharper) if not hard else (1 - hard) * probs(sharper) + hard * probs(sharper * _BLUR)


def _class_loss(
    values: Sequence[float] | np.ndarray, logits: np.ndarray, targets: np.ndarray, judged: np.ndarray, hard: float
) -> float:
    """Return −log likelihood of class labels by log sharpness and log-odds of a wrong label."""
    wrong, others = _share(values[1]), max(logits.shape[1] - 1, 1)
    right = _blurred(logits, float(np.exp(values[0])), 0.0, hard, 1)[np.arange(len(targets)), targets]
    seen = (1 - wrong) * right + wrong * (1 - right) / others
    return float(-np.log(np.clip(seen[judged], 1e-12, 1)).sum())


def _tag_loss(
    values: Sequence[float] | np.ndarray, logits: np.ndarray, targets: np.ndarray, judged: np.ndarray, hard: float
) -> float:
    """Return −log likelihood of tags by log sharpness, shift, and the log-odds of a lost and of an added tag."""
    lost, added = _share(values[2]), _share(values[3])
    right = _blurred(logits, float(np.exp(values[0])), float(values[1]), hard, 2)
    seen = (1 - lost) * right + added * (1 - right)
    return float(-np.log(np.clip(np.where(targets > 0, seen, 1 - seen)[judged], 1e-12, 1)).sum())


def _share(log_odds: float) -> float:
    return float(1 / (1 + np.exp(-np.clip(log_odds, -30, 30))))


def _drawn_labels(right: np.ndarray, targets: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw labels of the shape of ``targets`` from probabilities ``(N, C)``."""
    if targets.ndim == 2:
        return np.asarray(rng.random(right.shape) < right, dtype=np.int64)
    return np.asarray((right.cumsum(axis=1) > rng.random((len(right), 1)) * (1 - 1e-9)).argmax(axis=1), dtype=np.int64)
