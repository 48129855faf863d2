"""Which labels are doubtful: confident learning on probabilities that were predicted out of fold.

The scores and what counts as doubtful are cleanlab's; here they become one ranked list for both kinds of
labels. With tags every decision (this picture, this tag) is ranked for itself.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np

from onecycle.errors import ArgumentError
from onecycle.evaluation.certainty.label_noise import DoubtCount, count_doubts

YES, NO = "yes", "no"
"""What is given and suggested for a tag."""


@dataclass(frozen=True)
class LabelIssue:
    """One label to check."""

    row: int  # of the labelled table, 0 for its first picture
    path: str  # the picture
    tag: str | None  # the tag in question; None with one label a picture
    given: str  # the label as it is; for a tag, "yes" or "no"
    suggested: str  # the label that the probabilities speak for
    score: float  # how likely the given label is right, in [0, 1]; low ones come first


@dataclass(frozen=True, kw_only=True)
class RankedLabels:
    """All judged labels, the most doubtful first."""

    items: np.ndarray  # int64 (M,), numbers of the pictures
    classes: np.ndarray  # int64 (M,): the tag in question; with one label a picture, the class that is given
    given: np.ndarray  # int64 (M,): 1 or 0 for a tag, else the class
    suggested: np.ndarray  # int64 (M,): 1 or 0 for a tag, else the class that the probabilities speak for
    scores: np.ndarray  # float64 (M,), ascending
    doubts: DoubtCount  # how many of them look doubtful, and how many would if all were right
    n_unjudged: int  # labels left out because no other picture could teach them

    def __len__(self) -> int:
        return len(self.items)


def rank_labels(
    probs: np.ndarray, targets: np.ndarray, *, judged: np.ndarray | None = None, seed: int = 0
) -> RankedLabels:
    """Rank the labels of N pictures by how little the out-of-fold probabilities support them.

    The score is the probability of the given label (cleanlab's self-confidence), for a tag that is absent the
    probability that it is.

    Args:
        probs: float ``(N, C)`` in [0, 1], of models that were not trained on the picture: softmax rows, or one
            probability a tag.
        targets: int64 ``(N,)`` class indices, or 0/1 ``(N, C)`` tags.
        judged: bool, ``(N,)`` or ``(N, C)`` as ``targets``: False leaves a label out; None judges all.
        seed: of the labels that are drawn to see how many would look doubtful if all were right.

    Returns:
        the ranking; equal scores keep the order of the pictures.

    Raises:
        ArgumentError: shapes or values that do not fit.

    Source: Northcutt, Jiang and Chuang 2021, "Confident learning: estimating uncertainty in dataset labels".
    """
    probs = np.asarray(probs, dtype=np.float64)
    is_multi = np.ndim(targets) == 2
    targets = np.asarray(targets > 0 if is_multi else targets, dtype=np.int64)
    _check(probs, targets, judged)
    use = np.ones(targets.shape, dtype=bool) if judged is None else np.asarray(judged, dtype=bool)
    scores = _tag_scores(probs, targets) if is_multi else _class_scores(probs, targets)
    flag = partial(_doubtful_tags if is_multi else _doubtful_classes, probs)
    best = (probs > 0.5).astype(np.int64) if is_multi else probs.argmax(axis=1)
    places = np.argwhere(use)
    order = places[np.argsort(scores[use], kind="stable")]
    at = tuple(order.T)
    return RankedLabels(
        items=order[:, 0],
        classes=order[:, 1] if is_multi else targets[at],
        given=targets[at],
        suggested=best[at],
        scores=scores[at],
        doubts=count_doubts(probs, targets, use, flag, seed=seed),
        n_unjudged=int((~use).sum()),
    )


def as_issues(
    ranked: RankedLabels,
    names: Sequence[object],
    *,
    rows: Sequence[int] | np.ndarray,
    paths: Sequence[str],
    is_multi: bool,
    n: int | None = None,
) -> list[LabelIssue]:
    """Write the first ``n`` labels of a ranking out, with names.

    Args:
        ranked: of N pictures.
        names: the C classes.
        rows: rows of the N pictures in the labelled table.
        paths: of the N pictures.
        is_multi: whether the classes are tags.
        n: how many; None for all.
    """
    words, tags = ((NO, YES), [str(name) for name in names]) if is_multi else (names, [None] * len(names))
    columns = (ranked.items, ranked.classes, ranked.given, ranked.suggested, ranked.scores)
    return [
        LabelIssue(int(rows[item]), paths[item], tags[c], str(words[given]), str(words[suggested]), score)
        for item, c, given, suggested, score in zip(*(column[:n].tolist() for column in columns), strict=True)
    ]


def _class_scores(probs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return the score of each picture's label, ``(N,)``."""
    from cleanlab.rank import get_label_quality_scores

    return np.asarray(get_label_quality_scores(targets, probs, method="self_confidence"))


def _doubtful_classes(probs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return which labels ``(N,)`` look doubtful, bool."""
    from cleanlab.filter import find_label_issues

    if len(np.unique(targets)) < 2:  # of a single class there is nothing to confuse
        return np.zeros(len(targets), dtype=bool)
    with _rare_classes_accepted():
        return np.asarray(find_label_issues(targets, probs, n_jobs=1))


def _tag_scores(probs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return the score of each decision, ``(N, C)``."""
    from cleanlab.multilabel_classification.rank import get_label_quality_scores_per_class

    return np.asarray(get_label_quality_scores_per_class(_as_lists(targets), probs, method="self_confidence"))


def _doubtful_tags(probs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return which decisions ``(N, C)`` look doubtful, bool."""
    from cleanlab.multilabel_classification.filter import find_multilabel_issues_per_class

    varied = np.flatnonzero(targets.any(axis=0) & ~targets.all(axis=0))
    doubtful = np.zeros(targets.shape, dtype=bool)
    if len(varied):  # a tag that all or no pictures have cannot be confused
        with _rare_classes_accepted():
            labels = _as_lists(targets[:, varied])
            doubtful[:, varied] = find_multilabel_issues_per_class(labels, probs[:, varied], n_jobs=1)
    return doubtful


def _as_lists(columns: np.ndarray) -> list[list[int]]:
    return [np.flatnonzero(row).tolist() for row in columns]


@contextmanager
def _rare_classes_accepted() -> Iterator[None]:
    """Keep cleanlab from warning of classes that occur once or never: it counts nothing there, which is right."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="May not flag all label issues", category=UserWarning)
        yield


def _check(probs: np.ndarray, targets: np.ndarray, judged: np.ndarray | None) -> None:
    if probs.ndim != 2 or targets.shape not in ((len(probs),), probs.shape):
        raise ArgumentError(
            f"expected probabilities (N, C) with class indices (N,) or tags (N, C), received {probs.shape} and "
            f"{targets.shape}"
        )
    if judged is not None and np.shape(judged) != targets.shape:
        raise ArgumentError(f"judged has the shape of the labels, {targets.shape}; received {np.shape(judged)}")
    if not ((probs >= 0) & (probs <= 1)).all():
        raise ArgumentError("probabilities lie between 0 and 1 and are numbers; received others")
    top = 1 if targets.ndim == 2 else probs.shape[1] - 1
    if targets.size and not 0 <= targets.min() <= targets.max() <= top:
        raise ArgumentError(f"labels are from 0 to {top}; received {targets.min()} to {targets.max()}")
