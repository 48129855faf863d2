"""Scores of predictions against the truth, each computed once over the whole validation set.

The formulas are those of ``onecycle.evaluation.scores``; here they meet logits and check what they are given.

A metric is any callable ``(logits, targets) -> 0-d float tensor``. The loop concatenates the logits of all
batches and calls each metric once, so nothing is averaged over batches and no value depends on their size.

    logits   (N, C) floating, on any device, before softmax or sigmoid
    targets  one label a picture: (N,) integer class indices, 0 <= index < C
             tags (several labels a picture): (N, C) of 0 and 1, any dtype

Every metric here returns a detached float32 tensor on the CPU, leaves its inputs alone, does not depend on
the order of the items and raises ``ArgumentError`` for targets that do not fit. Where a formula has no value:

- logits with NaN (a run that diverged) make every score NaN;
- a ratio over nothing is 0 (precision of a class never predicted, F of a picture without tags: as in v1);
- a class that neither occurs nor is predicted says nothing and is left out of a macro mean;
- ``AUROC`` and ``mean_average_precision`` leave out classes for which they are undefined; with none left they
  are NaN and say so with a ``DataWarning``;
- ``KappaScore`` and ``MatthewsCorreff`` are 0 where they would be 0/0.

Each class has ``name=``, the title of its column, so that two of a kind can be told apart.
"""

from __future__ import annotations

import functools
import inspect
import math
import re
import warnings
from collections.abc import Callable, Iterable
from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from onecycle.errors import ArgumentError, DataWarning, check_order
from onecycle.evaluation import scores
from onecycle.evaluation.scores import roc_points

Metric = Callable[[Tensor, Tensor], Tensor]
Formula = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]  # tp, fp, fn (C,) → of each class (C,)
Ranking = Callable[[np.ndarray, np.ndarray], float]  # of one class: bool truth (N,), scores (N,)
# The metrics of this module that fit one label a picture, and those that fit tags.
SINGLE_LABEL_METRICS: tuple[str, ...] = (
    *("accuracy", "error_rate", "top_k_accuracy"),
    *("FBeta", "Precision", "Recall", "KappaScore", "MatthewsCorreff", "AUROC", "ConfusionMatrix"),
)
MULTI_LABEL_METRICS: tuple[str, ...] = (
    *("accuracy_thresh", "fbeta", "exact_match_error", "mean_average_precision"),
    *("MultiLabelFbeta", "FBeta", "Precision", "Recall", "AUROC"),
)


def metric_name(metric: object) -> str:
    """Return the name of a metric's column.

    That is its ``name``, else its ``__name__``; for a partial without either, the name of its inner function;
    for any other object its class name in snake case.
    """
    for attribute in ("name", "__name__"):
        own = getattr(metric, attribute, None)
        if isinstance(own, str):
            return own
    if isinstance(metric, functools.partial):
        return metric_name(metric.func)
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", type(metric).__name__).lower()


def column_names(metrics: Iterable[object]) -> list[str]:
    """Return the name of each metric's column.

    Raises:
        ArgumentError: two of one name, or one that another column of the log has.
    """
    names = [metric_name(m) for m in metrics]
    taken = ["epoch", "train_loss", "valid_loss", "time", *names]
    twice = next((name for name in names if taken.count(name) > 1), None)
    if twice is not None:
        raise ArgumentError(
            f"two columns of the log would be called {twice!r}; name one of the metrics: FBeta(name='f1'), or "
            "m = partial(fbeta, thresh=0.5); m.name = 'f2_05'"
        )
    return names


def check_metric(metric: object, *, is_multi: bool | None) -> None:
    """Raise where a metric cannot work, so that a mistake costs no epoch.

    Args:
        metric: what was given as a metric.
        is_multi: whether a picture has several labels (tags); None where labels are numbers.

    Raises:
        ArgumentError: it cannot be called with logits and targets, is a class instead of an object of it, has
            an option that does not exist, or is a metric of this module for the other kind of labels.
    """
    if isinstance(metric, type):
        raise ArgumentError(f"a metric is an object, not a class: write {metric.__name__}() with brackets")
    if not callable(metric):
        raise ArgumentError(f"a metric is a callable (logits, targets) -> number, got {metric!r}")
    inner: Any = metric
    while isinstance(inner, functools.partial):
        inner = inner.func
    if not inspect.isbuiltin(inner):  # what is written in C has no signature to check
        try:
            inspect.signature(metric).bind(None, None)
        except (TypeError, ValueError) as error:
            wanted = f"{metric_name(inner)}{inspect.signature(inner)}"
            raise ArgumentError(f"no metric over (logits, targets): {error}; defined as {wanted}") from error
        check_order("metric", metric_name(metric), metric)
    kind = inner if inspect.isfunction(inner) else type(inner)
    if kind.__module__ == __name__ and is_multi is None:
        raise ArgumentError(f"{kind.__name__} is for classes or tags, and these labels are numbers; use r2_score, say")
    if kind.__module__ == __name__ and is_multi is not None:
        _check_fit(kind.__name__, is_multi)


def _check_fit(name: str, is_multi: bool, got: str = "") -> None:
    fitting, others = (SINGLE_LABEL_METRICS, MULTI_LABEL_METRICS)[:: -1 if is_multi else 1]
    if name in fitting:
        return
    kinds = ("one label a picture, targets (N,) of class indices", "tags, targets (N, C) of 0 and 1")
    wants = f"is for {kinds[not is_multi]}" if name in others else "is no metric over (logits, targets)"
    have = f"these targets are {kinds[is_multi]}{got}"
    raise ArgumentError(f"{name} {wants}; {have}. Metrics that fit: {', '.join(fitting)}")


def _checked(name: str, logits: Tensor, targets: Tensor) -> bool:
    """Return whether the targets are tags, after checking that ``name`` can score them."""
    shapes = f"logits {tuple(logits.shape)} {logits.dtype}, targets {tuple(targets.shape)} {targets.dtype}"
    if logits.ndim != 2 or not logits.is_floating_point() or 0 in logits.shape:
        raise ArgumentError(f"{name} expects floating logits (N, C) with at least one item, got {shapes}")
    is_multi = targets.ndim == 2
    if targets.shape != (logits.shape if is_multi else logits.shape[:1]):
        raise ArgumentError(f"{name} expects targets (N,) or (N, C) that match the logits, got {shapes}")
    _check_fit(name, is_multi, f" ({shapes})")
    if is_multi:
        if not bool(((targets == 0) | (targets == 1)).all()):
            raise ArgumentError(f"{name} expects tags of 0 and 1 only, got other values in {shapes}")
    elif targets.is_floating_point() or targets.dtype == torch.bool:
        raise ArgumentError(f"{name} expects integer class indices, got {shapes}; call .long() on them")
    elif targets.min() < 0 or targets.max() >= logits.shape[1]:
        low, high = int(targets.min()), int(targets.max())
        raise ArgumentError(f"{name} expects class indices in 0..{logits.shape[1] - 1}, got {low}..{high}")
    return is_multi


def _result(logits: Tensor, value: float | Tensor) -> Tensor:
    """Return the score as every metric does: 0-d, float32, CPU, detached; NaN where a logit is NaN."""
    return torch.tensor(math.nan if bool(logits.isnan().any()) else float(value), dtype=torch.float32)


def _share(hits: Tensor) -> float:
    return int(hits.sum()) / hits.numel()  # counted in integers: exact for any number of items in any order


def accuracy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the share of pictures whose highest logit (of equal ones the first) is the true class."""
    _checked("accuracy", logits, targets)
    return _result(logits, _share(logits.argmax(1) == targets))


def error_rate(logits: Tensor, targets: Tensor) -> Tensor:
    """Return 1 − ``accuracy``."""
    _checked("error_rate", logits, targets)
    return _result(logits, _share(logits.argmax(1) != targets))


def top_k_accuracy(logits: Tensor, targets: Tensor, k: int = 5) -> Tensor:
    """Return the share of pictures whose true class is among the k highest logits.

    Args:
        logits: (N, C).
        targets: (N,) class indices.
        k: at least 1. With k >= C every class is among the k highest, so the result is 1. Of equal logits the
            lower class index comes first, so that k=1 is ``accuracy``.
    """
    _checked("top_k_accuracy", logits, targets)
    values = logits.detach().cpu().double().numpy()  # float64 holds every type of logits exactly
    return _result(logits, float(scores.top_k_hits(values, targets.cpu().long().numpy(), k).mean()))


def accuracy_thresh(logits: Tensor, targets: Tensor, thresh: float = 0.5, sigmoid: bool = True) -> Tensor:
    """Return the share of right answers over every tag of every picture.

    Args:
        logits: (N, C); probabilities with ``sigmoid=False``.
        targets: (N, C) of 0 and 1.
        thresh: a tag is predicted where its probability is above this.
        sigmoid: whether to take the sigmoid of the logits first.

    With rare tags this is high for a model that predicts none; see ``fbeta`` and ``mean_average_precision``.
    """
    _checked("accuracy_thresh", logits, targets)
    return _result(logits, _share(_predicted_tags(logits, thresh, sigmoid) == (targets == 1)))


def exact_match_error(logits: Tensor, targets: Tensor, *, thresh: float = 0.5, sigmoid: bool = True) -> Tensor:
    """Return the share of pictures with at least one wrong tag; arguments as in ``accuracy_thresh``."""
    _checked("exact_match_error", logits, targets)
    wrong = _predicted_tags(logits, thresh, sigmoid) != (targets == 1)
    return _result(logits, _share(wrong.any(1)))


def fbeta(
    logits: Tensor, targets: Tensor, thresh: float = 0.2, beta: float = 2, eps: float = 1e-9, sigmoid: bool = True
) -> Tensor:
    """Return the mean over pictures of F-beta of that picture's tags (Planet's score with the defaults).

    Args:
        logits, targets, thresh, sigmoid: as in ``accuracy_thresh``.
        beta: how many times recall matters as much as precision.
        eps: keeps the denominators above zero: P = TP/(predicted + eps), R = TP/(true + eps),
            F = (1 + beta²)·P·R/(beta²·P + R + eps).
    """
    _checked("fbeta", logits, targets)
    _check_beta("fbeta", beta, eps)
    predicted, true = _predicted_tags(logits, thresh, sigmoid).cpu().numpy(), (targets == 1).cpu().numpy()
    return _result(logits, float(scores.sample_fbeta_score(predicted, true, beta, eps=eps).mean()))


def mean_average_precision(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the mean over tags of average precision, the area under the tag's precision-recall steps.

    Args:
        logits: (N, C), or any scores that grow with the probability; no threshold is involved.
        targets: (N, C) of 0 and 1.

    As ``sklearn.metrics.average_precision_score``.
    """
    return _mean_ranking("mean_average_precision", scores.average_precision, logits, targets, both=False)


def _predicted_tags(logits: Tensor, thresh: float, sigmoid: bool) -> Tensor:
    _check_thresh(thresh, sigmoid)
    return (logits.float().sigmoid() if sigmoid else logits) > thresh


def _check_thresh(thresh: float, sigmoid: bool) -> None:
    if sigmoid and not 0 <= thresh <= 1:
        raise ArgumentError(f"thresh is a probability in 0..1 (any number with sigmoid=False), got {thresh}")


def _check_beta(name: str, beta: float, eps: float) -> None:
    if not (0 <= beta < math.inf and 0 < eps < math.inf):
        raise ArgumentError(f"{name} expects a finite beta >= 0 and eps > 0, got beta={beta}, eps={eps}")


def _mean_ranking(name: str, score: Ranking, logits: Tensor, targets: Tensor, *, both: bool) -> Tensor:
    """Return the mean of a ranking score over the classes with positives and, for ``both``, negatives."""
    single = not _checked(name, logits, targets)
    values, truth = torch.nan_to_num(logits.detach().float()).cpu().double(), targets.cpu()
    if single:  # float32 again, or rounding breaks ties; tags stay logits, which a sigmoid would tie at 1
        values, truth = values.log_softmax(1).float(), F.one_hot(truth.long(), logits.shape[1])
    ranked, true = values.numpy(), truth.numpy() == 1
    usable = true.any(0) & ~(true.all(0) & both)
    if not usable.any():
        lacks = "both positives and negatives" if both else "positives"
        warnings.warn(f"{name} is undefined (NaN): no class has {lacks}", DataWarning, stacklevel=3)
        return _result(logits, math.nan)
    each = [score(true[:, c], ranked[:, c]) for c in np.flatnonzero(usable)]
    return _result(logits, sum(each) / len(each))


def _confusion(logits: Tensor, targets: Tensor) -> np.ndarray:
    """Return the (C, C) int64 counts, rows actual, columns predicted."""
    return scores.confusion_counts(targets.cpu().long().numpy(), logits.argmax(1).cpu().numpy(), logits.shape[1])


@dataclass(frozen=True)
class _ClassAverage:
    """Options shared by ``Precision``, ``Recall`` and ``FBeta``, explained there."""

    average: str = "binary"
    _: KW_ONLY
    pos_label: int = 1
    thresh: float = 0.5
    sigmoid: bool = True

    def __post_init__(self) -> None:
        name, allowed = type(self).__name__, ("binary", "micro", "macro", "weighted")
        if self.average not in allowed:
            raise ArgumentError(f"{name} expects average among {', '.join(allowed)}, got {self.average!r}")
        if self.pos_label not in (0, 1):
            raise ArgumentError(f"{name} expects pos_label 0 or 1, got {self.pos_label!r}")
        _check_thresh(self.thresh, self.sigmoid)


def _class_average(options: _ClassAverage, logits: Tensor, targets: Tensor, formula: Formula) -> Tensor:
    """Return the average over classes of a formula of their true positives, false positives and false negatives."""
    name, n_classes = type(options).__name__, logits.shape[-1]
    average, is_multi = options.average, _checked(name, logits, targets)
    if average == "binary" and (is_multi or n_classes != 2):
        here = f"with {n_classes} {'tags' if is_multi else 'classes'} {name} uses 'macro'"
        warnings.warn(f"average='binary' is for two classes; {here}", DataWarning, stacklevel=3)
        average = "macro"
    if targets.ndim == 1:
        predicted, true = logits.argmax(1).cpu().numpy(), targets.cpu().numpy()
    else:
        predicted = _predicted_tags(logits, options.thresh, options.sigmoid).cpu().numpy()
        true = (targets == 1).cpu().numpy()
    counts = scores.count_classes(*(scores.one_hot(labels, n_classes) for labels in (true, predicted)))
    tp, fp, fn = np.stack([counts.tp, counts.fp, counts.fn]).astype(float)
    if average == "micro":
        tp, fp, fn = (k.sum(keepdims=True) for k in (tp, fp, fn))
    each = formula(tp, fp, fn)
    value = float(each[options.pos_label]) if average == "binary" else scores.averaged(each, tp, fp, fn, average)
    return _result(logits, value)


@dataclass(frozen=True, kw_only=True)
class Precision(_ClassAverage):
    """Of what was predicted as a class, how much is of it; options as in ``FBeta``, but for beta and eps."""

    name: str = "precision"

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        return _class_average(self, logits, targets, lambda tp, fp, _: scores.precision_score(tp, fp, empty=0.0))


@dataclass(frozen=True, kw_only=True)
class Recall(_ClassAverage):
    """Of what is of a class, how much was predicted as it; options as in ``FBeta``, but for beta and eps."""

    name: str = "recall"

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        return _class_average(self, logits, targets, lambda tp, _, fn: scores.recall_score(tp, fn, empty=0.0))


@dataclass(frozen=True, kw_only=True)
class FBeta(_ClassAverage):
    """F-beta of each class over all pictures, averaged over classes (``fbeta`` averages over pictures).

    Args:
        average: 'binary' (the class ``pos_label`` of two), 'macro' (mean over classes that occur or are
            predicted), 'micro' (all decisions together; with one label a picture this is accuracy) or
            'weighted' (mean weighted by how often a class occurs). 'binary' with other than two classes, or
            with tags, means 'macro' and says so with a ``DataWarning``.
        beta: how many times recall matters as much as precision; 1 is the F1 score.
        eps: added to the denominator, as in fastai v1.
        pos_label: 0 or 1, the class that 'binary' looks at.
        thresh: for tags only: a tag is predicted where its probability is above this.
        sigmoid: for tags only: whether to take the sigmoid of the logits first.
    """

    beta: float = 2
    eps: float = 1e-9
    name: str = "f_beta"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_beta(type(self).__name__, self.beta, self.eps)

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        formula = functools.partial(scores.fbeta_score, beta=self.beta, eps=self.eps, empty=0.0)
        return _class_average(self, logits, targets, formula)


@dataclass(frozen=True, kw_only=True)
class MultiLabelFbeta(FBeta):
    """``FBeta`` for tags only, with the defaults that fastai v1 has for it."""

    average: str = "micro"
    thresh: float = 0.3
    eps: float = 1e-15
    name: str = "multi_label_fbeta"


@dataclass(frozen=True, kw_only=True)
class ConfusionMatrix:
    """The (C, C) int64 counts, rows actual and columns predicted: not one number."""

    name: str = "confusion_matrix"

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        _checked("ConfusionMatrix", logits, targets)
        return torch.from_numpy(_confusion(logits, targets))


@dataclass(unsafe_hash=True)
class KappaScore:
    """Cohen's kappa: agreement beyond what the two class frequencies alone would give.

    Args:
        weights: None (all errors cost the same), 'linear' or 'quadratic' (by the distance of the indices of
            all C classes, absent ones too, for classes that have an order); may be assigned later, as in v1.
    """

    weights: str | None = None
    _: KW_ONLY
    name: str = "kappa_score"

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "weights" and value not in (None, "linear", "quadratic"):
            raise ArgumentError(f"KappaScore knows weights None, 'linear', 'quadratic', got {value!r}")
        if name not in ("weights", "name"):
            raise ArgumentError(f"KappaScore has weights and name, and no {name!r}")
        super().__setattr__(name, value)

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        _checked("KappaScore", logits, targets)
        return _result(logits, scores.kappa(_confusion(logits, targets), self.weights))


@dataclass(frozen=True, kw_only=True)
class MatthewsCorreff:
    """Matthews' correlation of predicted and true classes, for any number of classes.

    Source: Gorodkin 2004, "Comparing two K-category assignments by a K-category correlation coefficient".
    """

    name: str = "matthews_correff"

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        _checked("MatthewsCorreff", logits, targets)
        return _result(logits, scores.matthews(_confusion(logits, targets)))


@dataclass(frozen=True, kw_only=True)
class AUROC:
    """Area under the ROC curve: each class against the rest, mean over the classes that have both.

    With two classes this is the usual binary value. No threshold is involved.
    """

    name: str = "auroc"

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        return _mean_ranking("AUROC", scores.auroc, logits, targets, both=True)


def roc_curve(scores: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return the ROC curve of one class.

    Args:
        scores: (N,) floating and finite, higher for the positive class.
        targets: (N,) of 0 and 1, both present.

    Returns:
        False-positive and true-positive rates, each (M,) float32 on the CPU, ascending from 0 to 1.
    """
    if scores.ndim != 1 or scores.shape != targets.shape or not bool(scores.isfinite().all()):
        shapes = f"{tuple(scores.shape)} and {tuple(targets.shape)}"
        raise ArgumentError(f"expected finite scores and targets (N,), got {shapes}; for logits use AUROC()")
    truth = targets.cpu().numpy()
    if np.unique(truth).tolist() != [0, 1]:
        raise ArgumentError(f"expected targets with both 0 and 1 and nothing else, got {np.unique(truth)}")
    fpr, tpr = roc_points(truth == 1, scores.detach().float().cpu().numpy())
    return torch.from_numpy(fpr).float(), torch.from_numpy(tpr).float()


def auc_roc_score(scores: Tensor, targets: Tensor) -> Tensor:
    """Return the area under ``roc_curve``, 0-d float32; over logits (N, C) the metric is ``AUROC()``."""
    fpr, tpr = roc_curve(scores, targets)
    return torch.trapezoid(tpr.double(), fpr.double()).float()
