"""What a classifier gets wrong: arrays in, findings out; ``plots`` draws them.

Several labels a picture are counted tag by tag. A tag is predicted when its probability is **at
least** the threshold, as in ``predict``. Where a measure is 0/0 it is NaN in tables, "–" in plots.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional

from onecycle.errors import ArgumentError
from onecycle.evaluation.certainty.trust import Trust
from onecycle.evaluation.gradcam import grad_cam
from onecycle.evaluation.parts import Parts

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Thresholds = float | Sequence[float] | np.ndarray
"""One threshold for all tags, or one for each of the C tags."""
DEFAULT_THRESH = 0.5


class LearnerLike(Protocol):
    """What interpretation needs of a learner; ``ds_type`` is handed through."""

    @property
    def data(self) -> Any: ...  # classes, is_multi, valid_ds, dataset(ds_type)
    @property
    def model(self) -> nn.Module: ...
    def get_preds(self, *, ds_type: Any = ..., activ: Any, with_loss: bool) -> Sequence[Tensor]: ...
    def TTA(self, *, ds_type: Any = ..., activ: Any, with_loss: bool) -> Sequence[Tensor]: ...
    def dataset_tensor(self, ds_type: Any, index: int) -> Tensor: ...  # (1, 3, H, W); None: validation set


def confusion_counts(y_true: np.ndarray, y_pred: np.ndarray, c: int) -> np.ndarray:
    """Count pictures by actual and predicted class, from int ``(N,)`` each in 0..c−1.

    Returns:
        int64 ``(c, c)``, rows actual, columns predicted, absent classes included; the sum is N.
    """
    counts: np.ndarray = np.bincount(y_true * c + y_pred, minlength=c * c).reshape(c, c).astype(np.int64)
    return counts


def normalize_rows(matrix: np.ndarray) -> np.ndarray:
    """Divide each row by its sum, float64; a row without any item stays 0."""
    totals = matrix.sum(axis=-1, keepdims=True)
    shares: np.ndarray = np.divide(matrix, totals, out=np.zeros(matrix.shape), where=totals > 0)
    return shares


def tag_counts(y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
    """Count, for each tag, pictures by truth and prediction, from bool ``(N, C)`` each.

    Returns:
        int64 ``(C, 2, 2)``: ``[[tn, fp], [fn, tp]]`` of each tag.
    """
    tp = (y_true & y_pred).sum(axis=0)
    fp = (~y_true & y_pred).sum(axis=0)
    fn = (y_true & ~y_pred).sum(axis=0)
    tn = len(y_true) - tp - fp - fn
    return np.stack([np.stack([tn, fp], axis=-1), np.stack([fn, tp], axis=-1)], axis=-2).astype(np.int64)


def swap_counts(y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
    """Count, for each pair of tags, pictures in which the first was missed and the second predicted wrongly.

    A picture that misses m tags and has w wrong ones counts once in each of m·w pairs; a picture that only
    misses tags, or only has too many, counts in none. Truth and prediction are bool ``(N, C)``.

    Returns:
        int64 ``(C, C)``: rows the missed tag, columns the tag predicted though not true; the diagonal is 0.
    """
    missed, wrong = (y_true & ~y_pred).astype(np.int64), (~y_true & y_pred).astype(np.int64)
    pairs: np.ndarray = missed.T @ wrong
    return pairs


def ranked_pairs(matrix: np.ndarray, names: Sequence[Any], min_val: int = 1) -> list[tuple[Any, Any, int]]:
    """List off-diagonal cells of ``(C, C)`` with at least ``min_val``, most first, ties in row order.

    Raises:
        ArgumentError: ``min_val`` below 1, which would list every pair that never occurred.
    """
    if min_val < 1:
        raise ArgumentError(f"min_val is the smallest count to list, at least 1; received {min_val}")
    rows, columns = np.nonzero((matrix >= min_val) & ~np.eye(len(matrix), dtype=bool))
    order = np.argsort(-matrix[rows, columns], kind="stable")
    return [(names[rows[i]], names[columns[i]], int(matrix[rows[i], columns[i]])) for i in order]


def average_precision(truth: np.ndarray, scores: np.ndarray) -> float:
    """Return Σ (Rᵢ − Rᵢ₋₁)·Pᵢ over the distinct scores ``(N,)``, highest first; NaN without a positive."""
    if not truth.any():
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    hits, ranked = np.cumsum(truth[order]), scores[order]
    last_of_tie = np.append(ranked[1:] != ranked[:-1], True)
    hits, seen = hits[last_of_tie], np.arange(1, len(truth) + 1)[last_of_tie]
    return float((np.diff(hits, prepend=0) / hits[-1] * hits / seen).sum())


def tag_measures(tables: np.ndarray, beta: float = 2.0) -> dict[str, np.ndarray]:
    """Return precision, recall and F-beta of each tag, float64 ``(C,)``; 0/0 is NaN.

    F-beta = (1+β²)·tp / ((1+β²)·tp + β²·fn + fp): 0, not NaN, for a tag that occurs and is never predicted.

    Args:
        tables: int ``(C, 2, 2)`` of ``tag_counts``.
        beta: weight of recall against precision.
    """
    fp, fn, tp = tables[:, 0, 1], tables[:, 1, 0], tables[:, 1, 1]
    weighted = (1 + beta**2) * tp
    return {
        "precision": _ratio(tp, tp + fp),
        "recall": _ratio(tp, tp + fn),
        "fbeta": _ratio(weighted, weighted + beta**2 * fn + fp),
    }


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    quotient: np.ndarray = np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)
    return quotient


class ClassificationInterpretation(Trust, Parts):
    """Predictions of one part of the data, compared with the truth, for one or several labels a picture.

    Args:
        learn: the learner that predicted; its ``data.is_multi`` decides the kind.
        preds: float ``(N, C)`` probabilities.
        y_true: int64 ``(N,)`` class indices, or 0/1 ``(N, C)`` for several labels a picture.
        losses: float ``(N,)``, one a picture (for several labels the mean over its tags).
        ds_type: which part of the data; None means the validation set.

    Raises:
        ArgumentError: shapes that do not fit each other or the class list.
    """

    def __init__(self, learn: LearnerLike, preds: Tensor, y_true: Tensor, losses: Tensor, ds_type: Any = None) -> None:
        self.learn, self.data, self.ds_type = learn, learn.data, ds_type
        self.classes: list[Any] = list(learn.data.classes)
        self.is_multi = bool(learn.data.is_multi)
        self.preds, self.losses = preds.detach().float().cpu(), losses.detach().float().cpu()
        self.y_true = y_true.detach().cpu()
        _check_shapes(self.preds, self.y_true, self.losses, len(self.classes), self.is_multi)

    @classmethod
    def from_learner(
        cls, learn: LearnerLike, ds_type: Any = None, activ: Any = None, *, tta: bool = False
    ) -> ClassificationInterpretation:
        """Predict one part of the data and interpret it; the learner's recorder stays as it is.

        Args:
            learn: a trained learner.
            ds_type: which part; None means the validation set.
            activ: what turns outputs into probabilities; None for what belongs to the loss.
            tta: average over test-time augmentation.

        Raises:
            ArgumentError: a part without labels, as a test set.
        """
        predict = learn.TTA if tta else learn.get_preds
        if ds_type is None:
            preds, y_true, losses = predict(activ=activ, with_loss=True)
            return cls(learn, preds, y_true, losses)
        if getattr(learn.data.dataset(ds_type), "labels", ...) is None:
            raise ArgumentError("these pictures have no labels to compare predictions with; use get_preds")
        preds, y_true, losses = predict(ds_type=ds_type, activ=activ, with_loss=True)
        return cls(learn, preds, y_true, losses, ds_type)

    def __len__(self) -> int:
        return len(self.preds)

    def __repr__(self) -> str:
        kind = "tags" if self.is_multi else "classes"
        size = f"{len(self):,} pictures of the {self._part_name()}, {len(self.classes)} {kind}"
        return f"{type(self).__name__}({size})"

    @property
    def pred_class(self) -> Tensor:
        """int64 ``(N,)``, the most probable class of each picture; an error where these have several labels."""
        if self.is_multi:
            raise ArgumentError("pictures have several labels, not one predicted class; use pred_tags()")
        return self.preds.argmax(dim=1)

    def pred_tags(self, thresh: Thresholds = DEFAULT_THRESH) -> np.ndarray:
        """Return which tags are predicted, bool ``(N, C)``: probability ≥ threshold (one, or one a tag).

        Raises:
            ArgumentError: one label a picture, or thresholds outside [0, 1] or of another number than tags.
        """
        self._need_tags("pred_tags")
        return self.preds.numpy() >= _checked_thresh(thresh, len(self.classes))

    def top_losses(self, k: int | None = None, largest: bool = True, *, per_tag: bool = False) -> tuple[Any, Any]:
        """Return the k largest (or smallest) losses and where they are; ties in the data's order.

        Args:
            k: how many; None, or more than there are, gives all.
            largest: largest first; False for smallest first.
            per_tag: rank single tags by their binary cross-entropy instead of pictures by the learner's loss.

        Returns:
            Tensors float32 ``(k,)`` and int64 ``(k,)`` positions in the data set; with ``per_tag`` the second
            is the pair (positions, tag indices).
        """
        if not per_tag:
            return _ranked(self.losses, k, largest)
        values, order = _ranked(self.tag_losses().flatten(), k, largest)
        return values, (order // len(self.classes), order % len(self.classes))

    def tag_losses(self) -> Tensor:
        """Return the binary cross-entropy of each tag, float32 ``(N, C)``; at most 100, at a wrong 0 or 1."""
        self._need_tags("tag_losses")
        return functional.binary_cross_entropy(self.preds.clamp(0, 1), self.y_true.float(), reduction="none")

    def confusion_matrix(self, *, thresh: Thresholds | None = None) -> np.ndarray:
        """Count pictures by truth and prediction.

        Args:
            thresh: for several labels a picture; None means 0.5.

        Returns:
            int64 ``(C, C)``, rows actual, columns predicted, absent classes included; for several labels a
            picture ``(C, 2, 2)``, a table ``[[tn, fp], [fn, tp]]`` for each tag.
        """
        if self.is_multi:
            return tag_counts(*self._tags(thresh))
        self._need_no_thresh(thresh)
        return confusion_counts(self.y_true.numpy(), self.pred_class.numpy(), len(self.classes))

    def most_confused(self, min_val: int = 1, *, thresh: Thresholds | None = None) -> list[tuple[Any, Any, int]]:
        """List what is confused at least ``min_val`` times, most first, ties in class order.

        Args:
            min_val: smallest count that is listed.
            thresh: for several labels a picture; None means 0.5.

        Returns:
            (actual, predicted, pictures); for several labels (a true tag that was missed, a tag predicted
            though not true, pictures in which both happened).
        """
        if self.is_multi:
            return ranked_pairs(swap_counts(*self._tags(thresh)), self.classes, min_val)
        return ranked_pairs(self.confusion_matrix(thresh=thresh), self.classes, min_val)

    def tag_tables(self, thresh: Thresholds = DEFAULT_THRESH) -> np.ndarray:
        """Return ``[[tn, fp], [fn, tp]]`` of each tag, int64 ``(C, 2, 2)``."""
        self._need_tags("tag_tables")
        return tag_counts(*self._tags(thresh))

    def tag_report(
        self, thresh: Thresholds = DEFAULT_THRESH, beta: float = 2.0, *, worst_first: bool = False
    ) -> pd.DataFrame:
        """Return one row a tag: tag, support, tp, fp, fn, tn, precision, recall, fbeta, average_precision.

        Args:
            beta: weight of recall against precision in ``fbeta``.
            worst_first: sort by ``fbeta`` upward instead of keeping the class order; undefined values last.
        """
        tables = self.tag_tables(thresh)
        truth, preds = self._tags(thresh)[0], self.preds.numpy()
        counts = {"tp": tables[:, 1, 1], "fp": tables[:, 0, 1], "fn": tables[:, 1, 0], "tn": tables[:, 0, 0]}
        ranking = [average_precision(truth[:, i], preds[:, i]) for i in range(len(self.classes))]
        report = pd.DataFrame(
            {"tag": self.classes, "support": tables[:, 1].sum(axis=1)}
            | counts
            | tag_measures(tables, beta)
            | {"average_precision": ranking}
        )
        return report.sort_values("fbeta", kind="stable", ignore_index=True) if worst_first else report

    def grad_cam(self, index: int, class_index: int | None = None) -> np.ndarray:
        """Return where picture ``index`` shows evidence for a class, float32 ``(h, w)`` as the body's output.

        Args:
            index: position in the data set.
            class_index: None for the actual class, as in v1, or the tag with the largest loss.
        """
        chosen = self._explained_class(index) if class_index is None else class_index
        x = self.learn.dataset_tensor(self.ds_type, index)
        found: np.ndarray = grad_cam(self.learn.model, x, chosen)[0]
        return found

    def plot_top_losses(
        self,
        k: int,
        largest: bool = True,
        figsize: tuple[float, float] = (12, 12),
        *,
        heatmap: bool = False,
        heatmap_thresh: int = 16,
        alpha: float = 0.6,
        cmap: str = "magma",
        show_text: bool = True,
        return_fig: bool | None = None,
        thresh: Thresholds | None = None,
    ) -> Figure | None:
        """Show the pictures with the largest losses.

        Each title is prediction/actual / loss / probability of the actual class; for several labels a picture
        ``+tag`` was predicted though not true, ``−tag`` was true and missed, then the loss.

        Args:
            k: how many pictures.
            largest: False for the smallest losses.
            figsize: (width, height) in inches.
            heatmap: lay Grad-CAM over each picture, for the class that ``grad_cam`` explains by default.
            heatmap_thresh: maps with fewer cells (h·w) than this are not drawn, nor those without evidence.
            alpha: opacity of the heatmap.
            cmap: its colours.
            show_text: draw titles.
            return_fig: return the figure.
            thresh: for several labels a picture; None means 0.5.
        """
        from onecycle.evaluation import plots

        order = _ranked(self.losses, k, largest)[1].tolist()
        titles = self._titles(order, thresh, heatmap)
        kind = "Wrong (+) and missed (−) tags/Loss" if self.is_multi else "Prediction/Actual/Loss/Probability"
        figure = plots.grid_of_pictures(
            [self._picture(i) for i in order],
            titles if show_text else None,
            figsize=figsize,
            suptitle=kind if show_text else None,
            heatmaps=[self._drawn_map(i, heatmap_thresh) for i in order] if heatmap else None,
            alpha=alpha,
            cmap=cmap,
        )
        return figure if return_fig else None

    def plot_multi_top_losses(
        self,
        samples: int = 3,
        figsize: tuple[float, float] = (8, 8),
        save_misclassified: bool = False,
        *,
        thresh: Thresholds = DEFAULT_THRESH,
    ) -> list[Any] | None:
        """Show the pictures with at least one wrong tag that have the largest losses, with all their tags.

        Args:
            samples: how many pictures.
            figsize: (width, height) in inches of the whole figure.
            save_misclassified: return every picture with a wrong tag, largest loss first.
            thresh: one threshold, or one a tag.
        """
        from onecycle.evaluation import plots

        if samples < 1:
            raise ArgumentError(f"samples is a number of pictures, at least 1; received {samples}")
        truth, pred = self._tags(thresh)
        wrong = (pred != truth).any(axis=1)
        order = [i for i in _ranked(self.losses, None, True)[1].tolist() if wrong[i]]
        print(f"{len(order)} misclassified samples over {len(self)} samples in the {self._part_name()}.")
        shown, probs = order[:samples], self.preds.numpy()
        titles = [plots.sample_title(self.classes, truth[i], pred[i], probs[i], float(self.losses[i])) for i in shown]
        if shown:
            plots.grid_of_pictures([self._picture(i) for i in shown], titles, figsize=figsize)
        return [self._dataset()[i][0] for i in order] if save_misclassified else None

    def plot_confusion_matrix(
        self,
        normalize: bool = False,
        title: str = "Confusion matrix",
        *,
        cmap: str = "Blues",
        norm_dec: int = 2,
        plot_txt: bool = True,
        return_fig: bool | None = None,
        figsize: tuple[float, float] | None = None,
        dpi: float | None = None,
        thresh: Thresholds | None = None,
    ) -> Figure | None:
        """Draw the confusion matrix, or a small table for each tag where pictures have several labels.

        Args:
            normalize: divide each row by its sum; rows without items stay 0.
            title: text above it.
            cmap: colours.
            norm_dec: decimals of normalised values.
            plot_txt: write the values of cells that are not 0.
            return_fig: return the figure.
            figsize: (width, height) in inches; None chooses by the number of classes.
            dpi: dots an inch; None for matplotlib's setting.
            thresh: for several labels a picture; None means 0.5.
        """
        from onecycle.evaluation import plots

        counts = self.confusion_matrix(thresh=thresh)
        values = normalize_rows(counts) if normalize else counts
        names = [str(name) for name in self.classes]
        look = plots.Look(title, cmap, norm_dec if normalize else 0, plot_txt, figsize, dpi)
        if self.is_multi:
            shades, measures = normalize_rows(counts), tag_measures(counts)
            figure = plots.tag_tables_figure(values, shades, names, measures, look)
        else:
            figure = plots.confusion_figure(values, names, look)
        return figure if return_fig else None

    def _titles(self, order: list[int], thresh: Thresholds | None, heatmap: bool) -> list[str]:
        from onecycle.evaluation import plots

        losses = self.losses.tolist()
        if self.is_multi:
            truth, pred = self._tags(thresh)
            mapped = [f" / map: {self.classes[self._explained_class(i)]}" if heatmap else "" for i in order]
            titles = [plots.tag_title(self.classes, truth[i], pred[i], losses[i]) for i in order]
            return [title + text for title, text in zip(titles, mapped, strict=True)]
        self._need_no_thresh(thresh)
        pairs = zip(order, self.pred_class[order].tolist(), self.y_true[order].tolist(), strict=True)
        named = [(i, a, self.classes[p], self.classes[a]) for i, p, a in pairs]
        return [plots.class_title(p, t, losses[i], float(self.preds[i, a])) for i, a, p, t in named]

    def _tags(self, thresh: Thresholds | None) -> tuple[np.ndarray, np.ndarray]:
        return self.y_true.numpy() > 0, self.pred_tags(DEFAULT_THRESH if thresh is None else thresh)

    def _explained_class(self, index: int) -> int:
        return int(self.tag_losses()[index].argmax()) if self.is_multi else int(self.y_true[index])

    def _drawn_map(self, index: int, heatmap_thresh: int) -> np.ndarray | None:
        found = self.grad_cam(index)
        return found if found.size >= heatmap_thresh and found.any() else None

    def _dataset(self) -> Any:
        return self.data.valid_ds if self.ds_type is None else self.data.dataset(self.ds_type)

    def _picture(self, index: int) -> np.ndarray:
        pixels: np.ndarray = self._dataset()[index][0].px.permute(1, 2, 0).numpy()
        return pixels

    def _need_tags(self, what: str) -> None:
        if not self.is_multi:
            raise ArgumentError(
                f"{what} is for pictures with several labels, and these have one each; "
                "use confusion_matrix() and most_confused(), or label_delim=' ' when the data is read"
            )

    def _need_no_thresh(self, thresh: Thresholds | None) -> None:
        if thresh is not None:
            raise ArgumentError(f"thresh={thresh} has no meaning with one label a picture; leave it out")


def _ranked(losses: Tensor, k: int | None, largest: bool) -> tuple[Tensor, Tensor]:
    if k is not None and k < 1:
        raise ArgumentError(f"k is how many to take, at least 1, or None for all; received {k}")
    values, order = torch.sort(losses, descending=largest, stable=True)
    return values[:k], order[:k]


def _checked_thresh(thresh: Thresholds, c: int) -> np.ndarray:
    values = np.asarray(thresh, dtype=np.float32)
    if values.shape not in ((), (c,)):
        raise ArgumentError(f"thresh is one number or one for each of {c} tags; received shape {values.shape}")
    if not ((values >= 0) & (values <= 1)).all():
        raise ArgumentError(f"thresh is compared with probabilities, so it lies in [0, 1]; received {thresh}")
    return values


def _check_shapes(preds: Tensor, y_true: Tensor, losses: Tensor, c: int, is_multi: bool) -> None:
    n = len(preds)
    if preds.shape != (n, c):
        raise ArgumentError(f"preds must be (N, {c}), a column for each class; received {tuple(preds.shape)}")
    wanted = (n, c) if is_multi else (n,)
    if y_true.shape != wanted:
        raise ArgumentError(f"y_true must be {wanted} for {n} predictions; received {tuple(y_true.shape)}")
    if losses.shape != (n,):
        raise ArgumentError(f"losses must be ({n},), one a picture; received {tuple(losses.shape)}")
    if not preds.isfinite().all():
        rows = (~preds.isfinite()).any(dim=1).nonzero().flatten().tolist()
        raise ArgumentError(f"preds of {len(rows)} pictures (first: {rows[:5]}) are NaN or infinite; training diverged")
    top = 1 if is_multi else c - 1
    if n and (y_true.min() < 0 or y_true.max() > top):
        raise ArgumentError(f"y_true must lie in 0..{top}; received {y_true.min()}..{y_true.max()}")
