"""What a classifier gets wrong, and how far its numbers can be trusted: arrays in, findings out; ``plots`` draws them.

Several labels a picture are counted tag by tag. A tag is predicted when its probability is **at
least** the threshold, as in ``predict``. Where a measure is 0/0 it is NaN in tables, "–" in plots.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, Any, Self, Unpack

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional

from onecycle.errors import ArgumentError, DataWarning, check_keywords, warn
from onecycle.evaluation.certainty.calibration import CalibrationReport, calibration_report
from onecycle.evaluation.certainty.constraints import Constraint, propose_constraints
from onecycle.evaluation.certainty.decisions import DEFAULT_THRESH
from onecycle.evaluation.certainty.intervals import Estimate, SumScore, WeightedScore
from onecycle.evaluation.certainty.thresholds import TagThresholds, ThresholdOptions, ThresholdReport, choose_thresholds
from onecycle.evaluation.class_table import as_frame, class_rows
from onecycle.evaluation.gradcam import grad_cam
from onecycle.evaluation.headline import (
    HELD_OUT,
    TRAINED_ON,
    default_estimates,
    headline,
    judged_by,
    other_scores,
    picked_note,
    versus_baseline,
)
from onecycle.evaluation.predictions import Predictions, decide
from onecycle.evaluation.scores import (
    Thresh,
    confusion_counts,
    count_classes,
    normalize_rows,
    ranked_pairs,
    swap_counts,
)
from onecycle.evaluation.slices import LEAST_PICTURES, SliceReport, columns_of, find_slices, label_columns
from onecycle.evaluation.tags import TagCurve, co_occurrence, tag_curves, unfounded_pairs
from onecycle.files import text_name
from onecycle.text import label_words, wrapped

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GroupIds = Sequence[object] | np.ndarray
_SUMMARY_WIDTH = 78
TOLERANCE = 1e-4  # beyond 0 and 1, of rounding


class ClassificationInterpretation:
    """Predictions of one part of the data, compared with the truth, for one or several labels a picture.

    Args:
        learn: the learner that predicted; its ``data.is_multi`` decides the kind, its calibration and thresholds, as
            they are now, what is shown and decided; once its weights have changed, as they were. Its data of now
            stays this one's, also when it goes on with another.
        preds: float ``(N, C)`` probabilities.
        y_true: int64 ``(N,)`` class indices, or 0/1 ``(N, C)`` for several labels a picture.
        losses: float ``(N,)``, one a picture (for several labels the mean over its tags).
        ds_type: which part of the data; None means the validation set.

    Raises:
        ArgumentError: shapes that do not fit each other, the class list or the part; values that are no probabilities.
    """

    def __init__(self, learn: Any, preds: Tensor, y_true: Tensor, losses: Tensor, ds_type: Any = None) -> None:
        if getattr(learn.data, "is_regression", False):
            raise ArgumentError(
                "these predictions are numbers, not classes: compare them with get_preds(), or show_results()"
            )
        self.learn, self.data, self.ds_type = learn, learn.data, ds_type
        self.classes: list[Any] = list(learn.data.classes)
        self.is_multi = bool(learn.data.is_multi)
        self.preds, self.losses = preds.detach().float().cpu(), losses.detach().float().cpu()
        self.y_true = y_true.detach().cpu()
        _check_shapes(self.preds, self.y_true, self.losses, len(self.classes), self.is_multi)
        self._weights = getattr(learn, "weights_version", 0)
        self._calibrated = _calibrated(learn)
        self._held_out: tuple[TagThresholds, np.ndarray] | None = None  # 0/1 (N, C), each fold decided by the others

    @classmethod
    def from_learner(cls, learn: Any, ds_type: Any = None, activ: Any = None, *, tta: bool = False) -> Self:
        """Predict one part of the data and interpret it; the learner's recorder stays as it is.

        Args:
            learn: a trained learner.
            ds_type: which part; None means the validation set.
            activ: what turns outputs into probabilities; None for what belongs to the loss.
            tta: average over test-time augmentation.

        Raises:
            ArgumentError: a part without labels, as a test set.
        """
        of = {} if ds_type is None else {"ds_type": ds_type}
        if of and getattr(learn.data.dataset(ds_type), "labels", ...) is None:
            raise ArgumentError("these pictures have no labels to compare predictions with; use get_preds")
        predict = learn.TTA if tta else learn.get_preds
        preds, y_true, losses = predict(activ=activ, with_loss=True, **of)
        return cls(learn, preds, y_true, losses, ds_type)

    @classmethod
    def from_predictions(cls, learn: Any, predictions: Predictions) -> Self:
        """Interpret predictions of the validation set that were kept; nothing is predicted again."""
        p = predictions
        if list(p.classes) != list(map(str, learn.data.classes)):
            raise ArgumentError("these predictions are of other classes than the learner's data has")
        made = cls(learn, *(torch.from_numpy(a) for a in (p.probs, p.known_targets, p.known_losses)))
        if p.thresholds is not None and p.held_out is not None:
            made._held_out = p.thresholds, p.held_out
        return made

    @property
    def predictions(self) -> Predictions:
        """What is said of these pictures by the learner's calibration and thresholds as they are now."""
        data, part = self.data, self._dataset()
        if len(self) != (n := len(part.items)):
            raise ArgumentError(f"these are {len(self)} predictions, and the {self._part_name()} has {n} pictures")
        return replace(
            self._said(),
            files=tuple(text_name(str(path), data.path) for path in part.items),
            rows=part.rows,
            train_counts=np.asarray(data.labels.counts(data.split.train), dtype=np.int64),
            n_train=len(data.split.train),
            **self._picked(),
        )

    def _said(self) -> Predictions:
        """Return the predictions without what only the data knows of these pictures."""
        calibration, decisions = self._calibrated if self.weights_changed else _calibrated(self.learn)
        of, held_out = self._held_out or (None, None)
        return Predictions.of(
            self.preds.numpy(),
            is_multi=self.is_multi,
            calibration=calibration,
            decisions=decisions if self.is_multi else None,
            held_out=held_out if decisions is not None and of == decisions.thresholds else None,
            files=tuple(map(str, range(len(self)))),
            classes=tuple(map(str, self.classes)),
            targets=self.y_true.numpy(),
            losses=self.losses.numpy(),
            groups=self._own_groups(None),
        )

    @property
    def weights_changed(self) -> bool:
        """Whether the learner was trained on, or loaded other weights, since it predicted these."""
        return bool(getattr(self.learn, "weights_version", 0) != self._weights)

    def __len__(self) -> int:
        return len(self.preds)

    def __repr__(self) -> str:
        kind = label_words(is_multi=self.is_multi).many
        size = f"{len(self):,} pictures of the {self._part_name()}, {len(self.classes)} {kind}"
        return f"{type(self).__name__}({size})"

    @property
    def pred_class(self) -> Tensor:
        """int64 ``(N,)``, the most probable class of each picture; an error where these have several labels."""
        if self.is_multi:
            raise ArgumentError("pictures have several labels, not one predicted class; use pred_tags()")
        return self.preds.argmax(dim=1)

    def pred_tags(self, thresh: Thresh = DEFAULT_THRESH) -> np.ndarray:
        """Return which tags are predicted, bool ``(N, C)``: probability ≥ threshold (one, or one a tag).

        Raises:
            ArgumentError: one label a picture, or thresholds outside [0, 1] or of another number than tags.
        """
        self._need_tags("pred_tags")
        limits = np.asarray(thresh)
        if not ((limits >= 0) & (limits <= 1)).all():
            raise ArgumentError(f"thresh is compared with probabilities, so it lies in [0, 1]; received {thresh}")
        return decide(self.preds.numpy(), is_multi=True, thresh=thresh) > 0

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
        values, order = _ranked(self.tag_losses().flatten() if per_tag else self.losses, k, largest)
        return values, (order // len(self.classes), order % len(self.classes)) if per_tag else order

    def tag_losses(self) -> Tensor:
        """Return the binary cross-entropy of each tag, float32 ``(N, C)``; at most 100, at a wrong 0 or 1."""
        self._need_tags("tag_losses")
        return functional.binary_cross_entropy(self.preds.clamp(0, 1), self.y_true.float(), reduction="none")

    def confusion_matrix(self, *, thresh: Thresh | None = None) -> np.ndarray:
        """Count pictures by truth and prediction.

        Args:
            thresh: for several labels a picture; None means 0.5.

        Returns:
            int64 ``(C, C)``, rows actual, columns predicted, absent classes included; for several labels a
            picture ``(C, 2, 2)``, a table ``[[tn, fp], [fn, tp]]`` for each tag.
        """
        if self.is_multi:
            return self.tag_tables(DEFAULT_THRESH if thresh is None else thresh)
        p = self._decided(thresh)
        return confusion_counts(p.known_targets, p.decided, len(p.classes))

    def most_confused(self, min_val: int = 1, *, thresh: Thresh | None = None) -> list[tuple[Any, Any, int]]:
        """List what is confused at least ``min_val`` times, most first, ties in class order.

        Args:
            min_val: smallest count that is listed.
            thresh: for several labels a picture; None means 0.5.

        Returns:
            (actual, predicted, pictures); for several labels (a true tag that was missed, a tag predicted
            though not true, pictures in which both happened).
        """
        p = self._decided(thresh)
        counts = swap_counts(p.truth, p.predicted) if p.is_multi else self.confusion_matrix()
        return ranked_pairs(counts, self.classes, min_val)

    def tag_tables(self, thresh: Thresh = DEFAULT_THRESH) -> np.ndarray:
        """Return ``[[tn, fp], [fn, tp]]`` of each tag, int64 ``(C, 2, 2)``."""
        self._need_tags("tag_tables")
        p = self._decided(thresh)
        return count_classes(p.truth, p.predicted).tables

    def tag_report(
        self, thresh: Thresh = DEFAULT_THRESH, beta: float = 2.0, *, worst_first: bool = False
    ) -> pd.DataFrame:
        """Return one row a tag: tag, support, tp, fp, fn, tn, precision, recall, fbeta, average_precision.

        Args:
            beta: weight of recall against precision in ``fbeta``.
            worst_first: sort by ``fbeta`` upward instead of keeping the class order; undefined values last.
        """
        self._need_tags("tag_report")
        report = as_frame(class_rows(self._decided(thresh), beta=beta, intervals=False))
        return report.sort_values("fbeta", kind="stable", ignore_index=True) if worst_first else report

    def grad_cam(self, index: int, class_index: int | None = None) -> np.ndarray:
        """Return where picture ``index`` speaks for a class, float32 ``(h, w)`` as the body's output.

        Args:
            index: position in the data set.
            class_index: None for the actual class, as in v1, or the tag with the largest loss.

        Raises:
            ArgumentError: the weights are no longer those that predicted.
        """
        return self.grad_cams([index], None if class_index is None else [class_index])[0]

    def grad_cams(self, indices: Sequence[int], classes: Sequence[int] | None = None) -> list[np.ndarray]:
        """Return ``grad_cam`` of several pictures, those that follow each other in one shape in one pass."""
        if self.weights_changed:
            raise ArgumentError(
                "the learner's weights have changed since these predictions, so a map would explain others: make a "
                "new one with learn.interpret()"
            )
        earlier = {} if self.data is self.learn.data else {"data": self.data}
        chosen = [self.explained_class(i) for i in indices] if classes is None else classes
        seen = [
            (self.learn.dataset_tensor(self.ds_type, i, **earlier), c) for i, c in zip(indices, chosen, strict=True)
        ]
        maps: list[np.ndarray] = []
        for _, of_shape in groupby(seen, key=lambda pair: pair[0].shape):
            pictures, explained = zip(*of_shape, strict=True)
            maps += [*grad_cam(self.learn.model, torch.cat(pictures), torch.tensor(explained))]
        return maps

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
        thresh: Thresh | None = None,
    ) -> Figure | None:
        """Show the pictures with the largest losses.

        Each title is prediction/actual / loss / probability of the actual class; for several labels a picture
        ``+tag`` was predicted though not true, ``−tag`` was true and missed, then the loss.

        Args:
            k: how many pictures.
            largest: False for the smallest losses.
            figsize: (width, height) in inches.
            heatmap: lay Grad-CAM over each picture, for the class that ``grad_cam`` explains by default.
            heatmap_thresh: maps with fewer cells (h·w) than this are not drawn, nor those that are 0 everywhere.
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
            [self.picture(i) for i in order],
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
        thresh: Thresh | None = None,
    ) -> list[Any] | None:
        """Show the pictures with a wrong label or tag that have the largest losses, with all their labels.

        Args:
            samples: how many pictures.
            figsize: (width, height) in inches of the whole figure.
            save_misclassified: return every such picture, largest loss first.
            thresh: one threshold, or one a tag; for several labels a picture None means 0.5.
        """
        from onecycle.evaluation import plots

        if samples < 1:
            raise ArgumentError(f"samples is a number of pictures, at least 1; received {samples}")
        p = self._decided(thresh)
        order = [i for i in _ranked(self.losses, None, True)[1].tolist() if (p.predicted[i] != p.truth[i]).any()]
        print(f"{len(order)} misclassified samples over {len(self)} samples in the {self._part_name()}.")
        shown, columns = order[:samples], (p.truth, p.predicted, p.probs, self.losses.tolist())
        titles = [plots.sample_title(self.classes, *(column[i] for column in columns)) for i in shown]
        if shown:
            plots.grid_of_pictures([self.picture(i) for i in shown], titles, figsize=figsize)
        return [self._dataset().image(i) for i in order] if save_misclassified else None

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
        thresh: Thresh | None = None,
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
        style = plots.Style(title, cmap, norm_dec if normalize else 0, plot_txt, figsize, dpi)
        if self.is_multi:
            report = self.tag_report(DEFAULT_THRESH if thresh is None else thresh)
            measures = {name: report[name].to_numpy() for name in ("precision", "recall", "fbeta")}
            figure = plots.tag_tables_figure(values, normalize_rows(counts), names, measures, style)
        else:
            figure = plots.confusion_figure(values, names, style)
        return figure if return_fig else None

    def slices(
        self,
        columns: pd.DataFrame | Mapping[str, Sequence[object]] | str | Sequence[str] | None = None,
        *,
        score: SumScore | None = None,
        least: int = LEAST_PICTURES,
        seed: int = 0,
    ) -> SliceReport:
        """Find the parts of the pictures on which the model does worse: "worst on site B".

        Args:
            columns: names of columns that the table had beside names and labels; or a value of each column for every
                picture of this part, or for every row of the labelled table. Default: all columns of the table, and
                the truth itself.
            score: a mean over pictures of the model's own probabilities; default that of the headline.
            least: pictures that a part must have.
            seed: of the intervals.

        Raises:
            ArgumentError: no such column, or columns of another length.
        """
        truth = self.y_true.numpy()
        taken = columns_of(columns, self.data.lists.pictures.frame, self._dataset().rows, len(self.data.labels))
        if columns is None:
            taken |= label_columns(truth, self.classes)
        chosen, values = judged_by(self._said()) if score is None else (score, self.preds.numpy())
        groups = self._own_groups(None)
        return find_slices(chosen, values, truth, taken, groups=groups, least=least, seed=seed)

    def tag_curves(self) -> list[TagCurve]:
        """Return precision and recall of each tag at every threshold."""
        self._need_tags("tag_curves")
        return tag_curves(self._decided(None))

    def plot_tag_curves(
        self, *, figsize: tuple[float, float] | None = None, return_fig: bool | None = None
    ) -> Figure | None:
        """Draw precision against recall for each tag, the worst average precision first."""
        from onecycle.evaluation import plots

        figure = plots.tag_curves_figure(self.tag_curves(), figsize=figsize)
        return figure if return_fig else None

    def co_occurrence(self, thresh: Thresh = DEFAULT_THRESH) -> pd.DataFrame:
        """Count for each pair of tags the pictures that have the one (rows) and are predicted the other (columns)."""
        self._need_tags("co_occurrence")
        return co_occurrence(self._decided(thresh))

    def unfounded_pairs(self, thresh: Thresh = DEFAULT_THRESH, *, min_val: int = 1) -> list[tuple[str, str, int, int]]:
        """Return tags that are predicted together more often than they occur: (tag, tag, predicted both, have both)."""
        self._need_tags("unfounded_pairs")
        return unfounded_pairs(self._decided(thresh), min_val=min_val)

    def plot_grad_cam(
        self, index: int, *, figsize: tuple[float, float] | None = None, return_fig: bool | None = None
    ) -> Figure | None:
        """Draw a picture beside where it speaks for the predicted and for the true class.

        For tags: for the three tags with the largest losses among those that are true or predicted (at 0.5).

        Args:
            index: position in the data set, as ``top_losses()`` gives it.
            figsize: (width, height) in inches.
            return_fig: return the figure.
        """
        from onecycle.evaluation import plots

        picture, explained = self.picture(index), self._explained(index)
        figure = plots.grid_of_pictures(
            [picture] * (1 + len(explained)),
            ["picture", *explained.values()],
            ncols=1 + len(explained),
            figsize=figsize or (3.2 * (1 + len(explained)), 3.6),
            heatmaps=[None, *(self.grad_cam(index, c) for c in explained)],
        )
        return figure if return_fig else None

    def _explained(self, index: int) -> dict[int, str]:
        """Return the classes to explain and what to call them."""
        probs, truth = self.preds[index], self.y_true[index]
        if not self.is_multi:
            said, true = int(probs.argmax()), int(truth)
            words = {said: "predicted", true: "true"} if said != true else {true: "predicted and true"}
            return {c: f"{word}: {self.classes[c]} {float(probs[c]):.2f}" for c, word in words.items()}
        wrong = (probs - truth.float()).abs()
        concerned = np.flatnonzero(((truth > 0) | (probs >= 0.5)).numpy())
        worst = sorted(concerned.tolist(), key=lambda c: -float(wrong[c]))[:3]
        return {c: f"{self.classes[c]} {float(probs[c]):.2f}, {'true' if truth[c] > 0 else 'not true'}" for c in worst}

    def metrics(
        self, scores: Sequence[WeightedScore] | None = None, *, groups: GroupIds | None = None, seed: int = 0
    ) -> list[Estimate]:
        """Return scores with their 95 % intervals and their baselines: the best that is the same for every picture.

        Args:
            scores: of ``onecycle.evaluation.certainty.intervals``. Default: accuracy and error rate (and, from ten
                classes on, top-5 accuracy); for tags sample-F2 at 0.2, micro-F1 at 0.5 and macro-AP of the
                tags with 5 positives or more.
            groups: an id for each picture (its scene, its patient): pictures of a group are not independent,
                and the interval then says how sure the number is for new groups. Default: those that the split
                was made by (``group_col``), if any.
            seed: of the bootstrap.
        """
        return default_estimates(self._grouped(groups), scores, seed=seed)

    def summary(
        self, scores: Sequence[WeightedScore] | None = None, *, groups: GroupIds | None = None, seed: int = 0
    ) -> str:
        """Return the headline and the other scores as lines to print, with what they were measured on.

        Args:
            scores, groups, seed: as in ``metrics``; with ``scores`` these alone.
        """
        p = self._grouped(groups)
        first = None if scores is not None else headline(p)
        lines = default_estimates(p, scores, seed=seed) if first is None else [first, *other_scores(p)]
        drawn = "pictures" if p.groups is None else f"{len(set(p.groups)):,} groups of pictures"
        head = f"{len(p):,} pictures of the {self._part_name()}; in brackets the 95 % interval over"
        text = [f"{head}\n{drawn}, and the baseline:", *(f"  {e}" for e in lines)]
        text += [] if first is None else wrapped(versus_baseline(first), _SUMMARY_WIDTH)
        if first is not None and (picked := picked_note(first)):
            text += wrapped(picked, _SUMMARY_WIDTH)
        if first is not None and p.is_multi:
            text += wrapped(f"In the first, {p.decisions}.", _SUMMARY_WIDTH)
        if first is not None and first.thresholds == HELD_OUT:
            text.append("The first is at the thresholds that predict uses: each fold of the pictures")
            text.append("was decided by those that the other folds chose.")
        if scores is not None and p.thresholds is not None:
            text.append("predict uses other thresholds, those of choose_thresholds(): its report has")
            text.append("their score, on pictures that did not choose them.")
        return "\n".join(text + ([TRAINED_ON] if self.is_training_part else []))

    def calibration(self, *, n_folds: int = 10, seed: int = 0, groups: GroupIds | None = None) -> CalibrationReport:
        """Judge the probabilities, as they are and calibrated on pictures other than those judged.

        ``learn.calibrate()`` does the same and has ``predict`` use it.

        Args:
            n_folds: each is judged by what the others gave.
            seed: of folds and bootstrap.
            groups: as in ``metrics``; a group stays in one fold.

        Warns:
            DataWarning: of the training part, whose probabilities say little about new pictures.
        """
        self._warn_of_training_part()
        return calibration_report(
            self.preds.numpy(),
            self.y_true.numpy(),
            classes=self.classes,
            n_folds=n_folds,
            seed=seed,
            groups=self._own_groups(groups),
        )

    def plot_calibration(
        self, *, figsize: tuple[float, float] | None = None, return_fig: bool | None = None
    ) -> Figure | None:
        """Draw the reliability curves before and after calibration, each fold calibrated by the others."""
        from onecycle.evaluation import plots

        report = self.calibration()
        curves = {"as the model gives it": report.curve_before, "calibrated (held out)": report.curve_after}
        figure = plots.reliability_figure(curves, figsize=figsize)
        return figure if return_fig else None

    def choose_thresholds(self, beta: float = 2.0, **options: Unpack[ThresholdOptions]) -> ThresholdReport:
        """Choose from which probability on each tag is predicted, and report by cross-fitting what that gains.

        ``learn.choose_thresholds()`` does the same and has ``predict`` use them.

        Args:
            beta: how many times recall matters as much as precision.
            options: see ``ThresholdOptions``.

        Raises:
            TypeError: a keyword that is not among them.
            ArgumentError: one label a picture, a tag that is not there, or a value out of its range.

        Warns:
            DataWarning: of the training part, whose probabilities say little about new pictures.
        """
        check_keywords("choose_thresholds", options, ThresholdOptions.__annotations__)
        self._warn_of_training_part()
        options["groups"] = self._own_groups(options.get("groups"))
        options["exactly_one"] = [[self._tag_index(tag) for tag in group] for group in options.get("exactly_one", ())]
        probs, targets = self.preds.numpy(), self.y_true.numpy()
        report = choose_thresholds(probs, targets, beta=beta, classes=self.classes, **options)
        self._held_out = report.thresholds, report.decided
        return report

    def constraints(self) -> list[Constraint]:
        """Return groups of tags of which every labelled picture has exactly one; nothing is applied.

        Where such a group is a rule and no accident, pass its ``tags`` as ``exactly_one=[tags]`` to
        ``choose_thresholds``.
        """
        if not self.is_multi:
            raise ArgumentError("with one label a picture there is always exactly one class; nothing to find")
        return propose_constraints(self.data.labels.targets, self.classes)

    def _titles(self, order: list[int], thresh: Thresh | None, heatmap: bool) -> list[str]:
        from onecycle.evaluation import plots

        p, losses, names = self._decided(thresh), self.losses.tolist(), self.classes
        if self.is_multi:
            mapped = [f" / map: {names[self.explained_class(i)]}" if heatmap else "" for i in order]
            titles = [plots.tag_title(names, p.truth[i], p.predicted[i], losses[i]) for i in order]
            return [title + text for title, text in zip(titles, mapped, strict=True)]
        pairs = [(i, p.decided[i], p.known_targets[i]) for i in order]
        return [plots.class_title(names[said], names[true], losses[i], p.probs[i, true]) for i, said, true in pairs]

    def _decided(self, thresh: Thresh | None) -> Predictions:
        """Return the predictions by thresholds of the caller's, by default 0.5, and the model's own probabilities."""
        if thresh is not None and not self.is_multi:
            raise ArgumentError(f"thresh={thresh} has no meaning with one label a picture; leave it out")
        tags = self.pred_tags(DEFAULT_THRESH if thresh is None else thresh) if self.is_multi else None
        return Predictions(
            files=tuple(map(str, range(len(self)))),
            classes=tuple(map(str, self.classes)),
            is_multi=self.is_multi,
            probs=self.preds.numpy(),
            decided=self.pred_class.numpy() if tags is None else tags.astype(np.int64),
            targets=self.y_true.numpy(),
        )

    def explained_class(self, index: int) -> int:
        """Return the class that ``grad_cam`` explains by default."""
        return int(self.tag_losses()[index].argmax()) if self.is_multi else int(self.y_true[index])

    def _drawn_map(self, index: int, heatmap_thresh: int) -> np.ndarray | None:
        heat = self.grad_cam(index)
        return heat if heat.size >= heatmap_thresh and heat.any() else None

    def _dataset(self) -> Any:
        return self.data.valid_ds if self.ds_type is None else self.data.dataset(self.ds_type)

    def picture(self, index: int) -> np.ndarray:
        """Return the pixels of picture ``index`` as evaluation sees it, ``(H, W, 3)``."""
        return np.asarray(self._dataset().image(index).numpy())

    def _need_tags(self, what: str) -> None:
        if not self.is_multi:
            raise ArgumentError(
                f"{what} is for pictures with several labels, and these have one each; "
                "use confusion_matrix() and most_confused(), or label_delim=' ' when the data is read"
            )

    def _own_groups(self, groups: GroupIds | None) -> GroupIds | None:
        """Return the given groups, else those of the split, for the pictures of this part."""
        made_by = getattr(self.data.split, "groups", None)
        if groups is not None or made_by is None:
            return groups
        return np.asarray(made_by[self._dataset().rows])

    def _grouped(self, groups: GroupIds | None) -> Predictions:
        """Return the predictions, with the caller's groups where there are some."""
        p = self.predictions
        return p if groups is None else replace(p, groups=np.asarray(groups, dtype=object))

    def _tag_index(self, name: Any) -> int:
        if name not in self.classes:
            raise ArgumentError(f"there is no tag {name!r}; the tags are {', '.join(map(str, self.classes))}")
        return self.classes.index(name)

    def _picked(self) -> dict[str, Any]:
        """Return what these pictures picked, by the fields of ``Predictions``: nothing unless they validate."""
        recorder = getattr(self.learn, "recorder", None)
        if recorder is None or getattr(self.ds_type, "name", "Valid") != "Valid":
            return {}
        return {"picked_of": recorder.picked_of, "picked": recorder.picked}

    @property
    def is_training_part(self) -> bool:
        """Whether these pictures trained the model."""
        return getattr(self.ds_type, "name", "Valid") in ("Train", "Fix")

    def _warn_of_training_part(self) -> None:
        if self.is_training_part:
            warn(f"{TRAINED_ON} Use the validation set, which does not.", DataWarning)

    def _part_name(self) -> str:
        name = getattr(self.ds_type, "name", "Valid")
        return f"{ {'Valid': 'validation', 'Train': 'training', 'Fix': 'training'}.get(name, name) } set"


def _calibrated(learn: Any) -> tuple[Any, Any]:
    """Return the calibration and the rule of a learner as they are now."""
    return getattr(learn, "calibration", None), getattr(learn, "decisions", None)


def _ranked(losses: Tensor, k: int | None, largest: bool) -> tuple[Tensor, Tensor]:
    if k is not None and k < 1:
        raise ArgumentError(f"k is how many to take, at least 1, or None for all; received {k}")
    values, order = torch.sort(losses, descending=largest, stable=True)
    return values[:k], order[:k]


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
    if n and (preds.min() < -TOLERANCE or preds.max() > 1 + TOLERANCE):
        raise ArgumentError(
            f"preds are probabilities, 0 to 1; received {preds.min():.3g} to {preds.max():.3g}: outputs of the network "
            "become probabilities by softmax or, for tags, sigmoid (activ=)"
        )
    top = 1 if is_multi else c - 1
    if n and (y_true.min() < 0 or y_true.max() > top):
        raise ArgumentError(f"y_true must lie in 0..{top}; received {y_true.min()}..{y_true.max()}")
