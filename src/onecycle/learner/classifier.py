"""A model and the data it was made for: what it predicts, and how good that is."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from onecycle.data.audit.rows import check_same_classes
from onecycle.data.augment.transforms import tta_views
from onecycle.data.batches import BatchLoader, Stats
from onecycle.data.bunch import ImageDataBunch
from onecycle.data.datasets import draw_grid
from onecycle.data.labels.items import Category, DatasetType, MultiCategory
from onecycle.errors import ArgumentError
from onecycle.learner import tta as inference
from onecycle.learner.predictor import Calibrated, Thresh
from onecycle.train.evaluate import evaluate, validate
from onecycle.train.log.recorder import MetricValue
from onecycle.train.losses import activation_for
from onecycle.train.metrics import Metric

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from onecycle.evaluation.certainty.calibration import Calibration, CalibrationReport
    from onecycle.evaluation.certainty.thresholds import Average, Rule, TagThresholds, ThresholdReport
    from onecycle.evaluation.interpretation import ClassificationInterpretation


class Classifier:
    """A model with its data: predictions, metrics, and a look at the results.

    Attributes:
        model: logits ``(N, C)`` for pictures ``(N, 3, H, W)``.
        loss_func: what it is judged by.
        metrics: functions ``(logits, targets) → number`` over a whole part of the data.
        stats: pixel statistics to normalise with where the data has none of its own.
        silent: print nothing.
        calibrated: what ``calibrate`` and ``choose_thresholds`` found, for the weights as they are.
    """

    model: nn.Module
    loss_func: Any
    metrics: list[Metric]
    stats: Stats | None
    silent: bool
    calibrated = Calibrated()
    _data: ImageDataBunch

    @property
    def data(self) -> ImageDataBunch:
        """The bunch; assign another one with the same classes (say, larger pictures) to go on with it.

        Pixel statistics stay as they were unless the new bunch was normalised with its own.
        """
        return self._data

    @data.setter
    def data(self, bunch: ImageDataBunch) -> None:
        check_same_classes(self._data.labels, bunch.labels)
        if bunch.stats is None:  # the network goes on with the statistics that it has been trained with
            self.stats = bunch.backbone_stats = self.norm_stats
        self._data = bunch
        self.model.to(bunch.device)

    @property
    def norm_stats(self) -> Stats | None:
        """Pixel statistics in use: the data's own where ``normalize`` was called, else the backbone's."""
        return self._data.stats if self._data.stats is not None else self.stats

    def loader(self, ds_type: DatasetType | None = None) -> BatchLoader:
        """Return normalised batches (default: validation); ``Train`` is in order and not augmented."""
        part = DatasetType.Fix if ds_type is DatasetType.Train else ds_type or DatasetType.Valid
        return self._data.loader(part).replace(stats=self.norm_stats)

    def dataset_tensor(self, ds_type: DatasetType | None, index: int) -> torch.Tensor:
        """Return picture ``index`` as the network sees it, float32 ``(1, 3, H, W)`` on the device."""
        return self.loader(ds_type).replace(bs=1).batch_at(0, index).x

    def get_preds(
        self,
        ds_type: DatasetType = DatasetType.Valid,
        activ: Callable[[torch.Tensor], torch.Tensor] | None = None,
        with_loss: bool = False,
        *,
        calibrated: bool = False,
    ) -> list[torch.Tensor]:
        """Predict one part of the data, in order; ``learn.recorder`` is left alone.

        Args:
            ds_type: which part; ``Train`` means the training pictures in order, not augmented.
            activ: turns logits into probabilities; default by the loss: softmax or sigmoid.
            with_loss: add the loss of each picture (for tags: its mean over the tags).
            calibrated: probabilities as ``predict`` shows them after ``calibrate()``; the loss stays the model's own.

        Returns:
            ``[probs (N, C) float32, targets (N,) or (N, C)]`` and, with ``with_loss``, ``losses (N,)``, on the CPU.
        """
        if ds_type is DatasetType.Test and with_loss:
            raise ArgumentError("the test pictures have no labels, so there is no loss; leave with_loss out")
        if calibrated and (self.calibration is None or activ is not None):
            raise ArgumentError("calibrated=True needs learn.calibrate() first, and no activ=")
        if ds_type is not DatasetType.Test:
            self._data.prepare(silent=self.silent)
        found = evaluate(self.model, self.loader(ds_type), self.loss_func)
        probs = (activ or activation_for(self.loss_func))(found.logits)
        probs = self.calibrated.probs(probs) if calibrated else probs
        return [probs, found.targets, found.losses] if with_loss else [probs, found.targets]

    def TTA(
        self,
        beta: float | None = 0.4,
        scale: float = 1.35,
        ds_type: DatasetType = DatasetType.Valid,
        activ: Callable[[torch.Tensor], torch.Tensor] | None = None,
        with_loss: bool = False,
    ) -> list[torch.Tensor]:
        """Predict with test-time augmentation: ``beta · plain + (1 − beta) · mean of 8 views``.

        The views are the four corners at zoom ``scale``, each with and without a flip, with the training
        transforms' rotation, warp and lighting.

        Args:
            beta: share of the plain prediction; None returns ``[plain, mean of views, targets]``.
            scale: zoom of the views.
            ds_type, activ, with_loss: as in ``get_preds``; the loss is that of the averaged prediction.
        """
        plain, targets = self.get_preds(ds_type, activ)
        views = inference.mean_of_views(
            self.model,
            self.loader(ds_type),
            tta_views(self._data.train_tfms, scale=scale),
            loss_func=self.loss_func,
            activ=activ or activation_for(self.loss_func),
            mode=self._data.lists.mode,
        )
        if beta is None:
            return [plain, views, targets]
        probs = plain * beta + views * (1 - beta)
        if not with_loss:
            return [probs, targets]
        if activ is not None:
            raise ArgumentError("the loss of averaged predictions needs the loss's own activation; leave activ out")
        return [probs, targets, inference.loss_of_probs(self.loss_func, probs, targets)]

    def validate(
        self, dl: BatchLoader | DatasetType | None = None, *, metrics: Metric | Sequence[Metric] | None = None
    ) -> list[MetricValue]:
        """Return ``[loss, metric, …]`` over a whole part of the data (default: the validation set)."""
        self._data.prepare(silent=self.silent)
        loader = dl if isinstance(dl, BatchLoader) else self.loader(dl or DatasetType.Valid)
        chosen = listed(self.metrics if metrics is None else metrics)
        loss, values = validate(self.model, loader.replace(stats=self.norm_stats), self.loss_func, chosen)
        return [loss, *values]

    def predict(
        self, item: inference.Picture, *, thresh: Thresh | None = None, raw: bool = False
    ) -> tuple[Category | MultiCategory, torch.Tensor, torch.Tensor]:
        """Classify one picture with the evaluation preprocess.

        Args:
            item: a path, an open file or a file's bytes, decoded as the data's own files are; or an Image, a Pillow
                picture or pixels uint8 ``(H, W, 3)``, taken as they are. (``open_image`` decodes at full size: for
                a big JPEG, its prediction differs a little from that of the path, see ``scaled_decode``.)
            thresh: probability from which on a tag is given (tags only): one, or one a tag; default those of
                ``choose_thresholds``, else 0.5.
            raw: return the model's own probabilities after ``calibrate()``, too.

        Returns:
            the label (prints as its name), the class index (or 0/1 per tag) and the probabilities ``(C,)``.
        """
        loader = self._data.single_loader([inference.as_given(item)], stats=self.norm_stats)
        own = activation_for(self.loss_func)(evaluate(self.model, loader, self.loss_func).logits)
        probs = own if raw else self.calibrated.probs(own)
        label = self._label_of(own, probs, thresh)
        return label, torch.tensor(label.data), probs[0]

    def _label_of(
        self, own: torch.Tensor, shown: torch.Tensor, thresh: Thresh | None = None
    ) -> Category | MultiCategory:
        """Return the label of one picture, from the model's own probabilities and those shown, ``(1, C)`` each."""
        classes = self._data.classes
        if not self._data.is_multi:
            best = int(own.argmax())
            return Category(best, classes[best])
        hit = [int(given) for given in self.calibrated.tags(own, shown, thresh)[0]]
        return MultiCategory(tuple(hit), tuple(c for c, h in zip(classes, hit, strict=True) if h))

    def pred_batch(self, ds_type: DatasetType = DatasetType.Valid, batch: Any = None) -> torch.Tensor:
        """Return the probabilities of one batch (default: the first of ``ds_type``), on the CPU."""
        x, _ = batch if batch is not None else self.loader(ds_type).batch_at(0, 0)
        return activation_for(self.loss_func)(inference.logits_of(self.model, x.to(self._data.device)))

    def show_results(
        self,
        ds_type: DatasetType = DatasetType.Valid,
        rows: int = 5,
        *,
        figsize: tuple[float, float] | None = None,
        return_fig: bool = False,
    ) -> Figure | None:
        """Draw up to ``rows²`` pictures titled "truth, then prediction"; wrong ones in red."""
        loader = self.loader(ds_type).replace(stats=None)
        n = min(rows * rows, loader.bs)
        shown = loader.replace(bs=n).batch_at(0, 0)
        probs = self.pred_batch(batch=self.loader(ds_type).replace(bs=n).batch_at(0, 0))
        part = self._data.dataset(ds_type)
        truths = [str(part.label(int(i))) for i in shown.indices]
        pairs = zip(probs[:, None], self.calibrated.probs(probs)[:, None], strict=True)
        guesses = [str(self._label_of(own, shown)) for own, shown in pairs]
        titles = [f"truth: {t}\nsaid: {g}" for t, g in zip(truths, guesses, strict=True)]
        colors = ["black" if t == g else "firebrick" for t, g in zip(truths, guesses, strict=True)]
        figure = draw_grid(shown.x.cpu(), titles, figsize=figsize, colors=colors)
        return figure if return_fig else None

    @property
    def calibration(self) -> Calibration | None:
        """What ``calibrate`` fitted for the weights as they are; None before, and after more training."""
        return self.calibrated.calibration

    @property
    def thresholds(self) -> TagThresholds | None:
        """What ``choose_thresholds`` chose for the weights as they are; None before, and after more training."""
        return self.calibrated.thresholds

    def calibrate(
        self,
        ds_type: DatasetType = DatasetType.Valid,
        *,
        n_folds: int = 10,
        seed: int = 0,
        groups: Sequence[object] | None = None,
    ) -> CalibrationReport:
        """Fit what makes probabilities right, and have ``predict`` show those from now on; see ``interpret()``.

        Where that does not help on held-out folds, by their log loss, ``predict`` stays as it is. It is saved and
        loaded with the model, and forgotten when the weights are trained on.

        Args:
            ds_type: the part that it is fitted on; the training part is too good to learn it from.
            n_folds, seed, groups: of the report, which judges each fold by what the others gave.

        Returns:
            The report; its ``calibration`` is fitted on all pictures of the part.
        """
        report = self.interpret(ds_type).calibration(n_folds=n_folds, seed=seed, groups=groups)
        if not report.helps:
            self._say(
                "Not calibrated, predict stays as it is: on held-out folds it made the log loss no better\n"
                f"({report.log_loss.value:+.3f}; more pictures, or a part that nothing was chosen on, may help)."
            )
            return report
        self.calibrated = replace(self.calibrated, calibration=report.calibration)
        self._say(
            "predict now gives calibrated probabilities (raw=True: the model's own):\n"
            f"ECE {report.before.value:.3f} before, {report.after.value:.3f} after, on held-out folds."
        )
        return report

    def choose_thresholds(
        self,
        beta: float = 2.0,
        *,
        average: Average = "sample",
        precision: float | None = None,
        default: float = 0.5,
        rule: Rule | None = None,
        exactly_one: Sequence[Sequence[Any]] = (),
        ds_type: DatasetType = DatasetType.Valid,
        n_folds: int = 5,
        seed: int = 0,
        groups: Sequence[object] | None = None,
    ) -> ThresholdReport:
        """Choose from which probability on each tag is given, and have ``predict`` use that from now on.

        They are compared with the model's own probabilities, saved and loaded with the model, and forgotten when
        the weights are trained on.

        Args:
            beta, average, precision, default, rule, exactly_one, n_folds, seed, groups: as in
                ``interpret().choose_thresholds``.
            ds_type: the part that they are chosen on.
        """
        report = self.interpret(ds_type).choose_thresholds(
            beta,
            average=average,
            precision=precision,
            default=default,
            rule=rule,
            exactly_one=exactly_one,
            n_folds=n_folds,
            seed=seed,
            groups=groups,
        )
        self.calibrated = replace(self.calibrated, thresholds=report.thresholds)
        self._say(f"{report}\npredict now decides by them, unless it is given thresh=.")
        return report

    def forget_calibration(self) -> None:
        """Forget calibration and thresholds, because the weights that they belong to change."""
        if self.calibrated:
            self._say(f"forgotten, as the weights change: {self.calibrated}")
        self.calibrated = Calibrated()

    def _say(self, text: str) -> None:
        if not self.silent:
            print("\n".join(textwrap.fill(line, 80) for line in text.splitlines()))

    def interpret(self, ds_type: DatasetType = DatasetType.Valid, tta: bool = False) -> ClassificationInterpretation:
        """Return the interpretation of this learner's predictions."""
        from onecycle.evaluation.interpretation import ClassificationInterpretation

        return ClassificationInterpretation.from_learner(self, ds_type, tta=tta)


def listed(value: Any) -> list[Any]:
    """Return a list of what may be one thing, several, or None."""
    if value is None or (isinstance(value, Iterable) and not callable(value)):
        return list(value or ())
    return [value]
