"""Learner: thin methods that join the data, the model, the training loop and the evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from onecycle import inference, model_files
from onecycle.data.audit import check_same_classes
from onecycle.data.augment.transforms import tta_views
from onecycle.data.batches import BatchLoader, Stats
from onecycle.data.bunch import ImageDataBunch
from onecycle.data.datasets import draw_grid
from onecycle.data.labels.items import Category, DatasetType, MultiCategory
from onecycle.errors import ArgumentError
from onecycle.model import cnn
from onecycle.train import checkpoint, lr_finder
from onecycle.train.callbacks import Callback, GradientClipping, MixUpCallback
from onecycle.train.loop import Trainer, TrainerAttribute, evaluate, validate
from onecycle.train.losses import activation_for, loss_for
from onecycle.train.metrics import Metric, check_metric, metric_name
from onecycle.train.optimizer import AdamW_v1
from onecycle.train.progress import make_progress
from onecycle.train.recorder import MetricValue, Recorder
from onecycle.train.schedules import Constant, LrLike, OneCycle, lr_range

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from onecycle.evaluation.interpretation import ClassificationInterpretation

DEFAULT_LR = slice(3e-3)


class Learner:
    """A model, its data and everything needed to train and judge it.

    Args:
        data: the bunch to train on.
        model: gives logits ``(N, C)`` for pictures ``(N, 3, H, W)``.
        opt_func: makes the optimizer from parameter groups; default Adam with betas (0.9, 0.99).
        loss_func: default by the labels: cross-entropy, or binary cross-entropy with logits for tags.
        metrics: one or several functions ``(logits, targets) → number`` over the whole validation set.
        true_wd: decoupled weight decay; False adds it to the gradient.
        bn_wd: decay batch-norm parameters too.
        wd: weight decay.
        train_bn: batch-norm layers of frozen groups go on training.
        path: where models are saved (default: the data's folder).
        model_dir: folder below ``path``.
        callback_fns: called with this learner at each fit, to make callbacks.
        callbacks: callbacks of every fit.
        layer_groups: groups of modules for freezing and learning rates, first to last; default: one.
        silent: print no table and no bar.
        stats: pixel statistics to normalise with where the data has none of its own.
    """

    model, loss_func, layer_groups = TrainerAttribute(), TrainerAttribute(), TrainerAttribute()
    opt_func, wd, true_wd, bn_wd = (
        TrainerAttribute(),
        TrainerAttribute(),
        TrainerAttribute(),
        TrainerAttribute(),
    )

    def __init__(
        self,
        data: ImageDataBunch,
        model: nn.Module,
        opt_func: Callable[..., torch.optim.Optimizer] = AdamW_v1,
        loss_func: Any = None,
        metrics: Metric | Sequence[Metric] | None = None,
        *,
        true_wd: bool = True,
        bn_wd: bool = True,
        wd: float = 0.01,
        train_bn: bool = True,
        path: str | Path | None = None,
        model_dir: str | Path = "models",
        callback_fns: Callable[..., Callback] | Sequence[Callable[..., Callback]] | None = None,
        callbacks: Sequence[Callback] = (),
        layer_groups: Sequence[nn.ModuleList] | None = None,
        silent: bool | None = None,
        stats: Stats | None = None,
    ) -> None:
        self.trainer = Trainer(
            model=model.to(data.device, memory_format=torch.channels_last),  # type: ignore[call-overload]
            layer_groups=list(layer_groups) if layer_groups else [nn.ModuleList(cnn.flatten_leaves(model))],
            loss_func=loss_func if loss_func is not None else loss_for(data.is_multi),
            opt_func=opt_func,
            wd=wd,
            true_wd=true_wd,
            bn_wd=bn_wd,
            seed=data.seed,
        )
        self.metrics = _listed(metrics)
        for metric in self.metrics:
            check_metric(metric, is_multi=data.is_multi)
        self.train_bn, self.silent, self.stats = train_bn, bool(silent), stats
        self._data = data
        data.backbone_stats = stats
        self.path = Path(path) if path is not None else data.path
        self.model_dir = Path(model_dir)
        self.callback_fns = _listed(callback_fns)
        self.callbacks = list(callbacks)
        self.recorder = Recorder([metric_name(m) for m in self.metrics])
        self._told_folder = False

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

    def lr_range(self, lr: LrLike) -> list[float]:
        """Return one learning rate a layer group; see ``fit_one_cycle`` for slices."""
        return lr_range(lr, len(self.layer_groups))

    def fit(
        self,
        epochs: int,
        lr: LrLike = DEFAULT_LR,
        wd: float | None = None,
        callbacks: Sequence[Callback] | Callback | None = None,
    ) -> None:
        """Train for some epochs at a constant learning rate."""
        self._fit(epochs, Constant(tuple(self.lr_range(lr))), wd, callbacks, start_epoch=0)

    def fit_one_cycle(
        self,
        cyc_len: int,
        max_lr: LrLike = DEFAULT_LR,
        moms: tuple[float, float] = (0.95, 0.85),
        div_factor: float = 25.0,
        pct_start: float = 0.3,
        final_div: float | None = None,
        wd: float | None = None,
        callbacks: Sequence[Callback] | Callback | None = None,
        tot_epochs: int | None = None,
        start_epoch: int | None = None,
    ) -> None:
        """Train for ``cyc_len`` epochs with the 1cycle policy.

        The learning rate rises over ``pct_start`` of the steps from ``max_lr / div_factor`` to ``max_lr``
        and falls to ``max_lr / final_div``, both as half a cosine; momentum moves the opposite way.

        Args:
            cyc_len: epochs.
            max_lr: the peak. ``slice(a, b)`` spreads the layer groups geometrically from a to b;
                ``slice(b)`` gives b to the last group and b / 10 to all others.
            moms: momentum (Adam's first beta) at the ends and at the peak.
            div_factor: peak over start.
            pct_start: share of the steps that the rise takes.
            final_div: peak over end; default ``div_factor · 10⁴``.
            wd: weight decay of this fit; default the learner's.
            callbacks: of this fit.
            tot_epochs: length of the schedule when only a part of it is run.
            start_epoch: epoch of the schedule to start with.

        Source: Smith (2018), "A disciplined approach to neural network hyper-parameters: Part 1";
        cosine form as in fastai v1.
        """
        start = start_epoch or 0
        total = tot_epochs or cyc_len
        n_steps = len(self._data.train_dl) * total
        schedule = OneCycle(
            n_steps,
            tuple(self.lr_range(max_lr)),
            moms,
            div_factor=div_factor,
            pct_start=pct_start,
            final_div=final_div,
        )
        self._fit(
            cyc_len - start if tot_epochs is None else cyc_len, schedule, wd, callbacks, start_epoch=start
        )

    def _fit(
        self,
        epochs: int,
        schedule: Any,
        wd: float | None,
        callbacks: Sequence[Callback] | Callback | None,
        *,
        start_epoch: int,
    ) -> None:
        self._data.prepare()
        self.recorder = Recorder([metric_name(m) for m in _listed(self.metrics)])
        self.trainer.fit(
            epochs,
            schedule,
            self._data.train_dl.replace(stats=self.norm_stats),
            self.loader() if len(self._data.split.valid) else None,
            recorder=self.recorder,
            metrics=_listed(self.metrics),
            callbacks=self._all_callbacks(callbacks),
            progress=make_progress(silent=self.silent),
            wd=wd,
            start_epoch=start_epoch,
        )

    def _all_callbacks(self, extra: Sequence[Callback] | Callback | None) -> list[Callback]:
        return [*(make(self) for make in self.callback_fns), *self.callbacks, *_listed(extra)]

    def lr_find(
        self,
        start_lr: LrLike = 1e-7,
        end_lr: LrLike = 10.0,
        num_it: int = 100,
        stop_div: bool = True,
        wd: float | None = None,
    ) -> None:
        """Sweep the learning rate upwards batch by batch; ``recorder.plot()`` then shows loss against it.

        Weights, optimizer and random state are as before afterwards.

        Args:
            start_lr, end_lr: first and last learning rate.
            num_it: batches.
            stop_div: stop when the smoothed loss exceeds four times its best.
            wd: weight decay of the sweep.
        """
        self._data.prepare()
        self.recorder = Recorder([metric_name(m) for m in _listed(self.metrics)])
        lr_finder.find_lr(
            self.trainer,
            self._data.train_dl.replace(stats=self.norm_stats),
            recorder=self.recorder,
            start_lr=start_lr,
            end_lr=end_lr,
            num_it=num_it,
            stop_div=stop_div,
            wd=wd,
            callbacks=[c for c in self._all_callbacks(None) if c.in_lr_find],
            progress=make_progress(silent=self.silent),
        )

    def freeze_to(self, n: int) -> None:
        """Stop training the groups before ``n`` (their batch-norm layers go on while ``train_bn``)."""
        cnn.freeze_to(self.layer_groups, n, train_bn=self.train_bn)
        self.trainer.optimizer = None  # a fresh one at the next fit, as in v1

    def freeze(self) -> None:
        """Train only the last layer group."""
        cnn.freeze(self.layer_groups, train_bn=self.train_bn)
        self.trainer.optimizer = None

    def unfreeze(self) -> None:
        """Train every layer group."""
        cnn.unfreeze(self.layer_groups)
        self.trainer.optimizer = None

    def mixup(self, alpha: float = 0.4, *, stack_x: bool = False, stack_y: bool = True) -> Learner:
        """Train on mixtures of two pictures from now on; returns this learner."""
        self.callbacks.append(MixUpCallback(self, alpha, stack_x=stack_x, stack_y=stack_y))
        return self

    def clip_grad(self, clip: float = 0.1) -> Learner:
        """Scale gradients down to a norm of at most ``clip`` from now on; returns this learner."""
        self.callbacks.append(GradientClipping(self, clip))
        return self

    def get_preds(
        self,
        ds_type: DatasetType = DatasetType.Valid,
        activ: Callable[[torch.Tensor], torch.Tensor] | None = None,
        with_loss: bool = False,
    ) -> list[torch.Tensor]:
        """Predict one part of the data, in order; ``learn.recorder`` is left alone.

        Args:
            ds_type: which part; ``Train`` means the training pictures in order, not augmented.
            activ: turns logits into probabilities; default by the loss: softmax or sigmoid.
            with_loss: add the loss of each picture (for tags: its mean over the tags).

        Returns:
            ``[probs (N, C) float32, targets (N,) or (N, C)]`` and, with ``with_loss``, ``losses (N,)``, on the CPU.
        """
        if ds_type is DatasetType.Test and with_loss:
            raise ArgumentError("the test pictures have no labels, so there is no loss; leave with_loss out")
        if ds_type is not DatasetType.Test:
            self._data.prepare()
        found = evaluate(self.model, self.loader(ds_type), self.loss_func)
        probs = (activ or activation_for(self.loss_func))(found.logits)
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
            raise ArgumentError(
                "the loss of averaged predictions needs the loss's own activation; leave activ out"
            )
        return [probs, targets, inference.loss_of_probs(self.loss_func, probs, targets)]

    def validate(
        self,
        dl: BatchLoader | DatasetType | None = None,
        *,
        metrics: Metric | Sequence[Metric] | None = None,
    ) -> list[MetricValue]:
        """Return ``[loss, metric, …]`` over a whole part of the data (default: the validation set)."""
        self._data.prepare()
        loader = dl if isinstance(dl, BatchLoader) else self.loader(dl or DatasetType.Valid)
        chosen = _listed(self.metrics if metrics is None else metrics)
        loss, values = validate(self.model, loader.replace(stats=self.norm_stats), self.loss_func, chosen)
        return [loss, *values]

    def predict(
        self, item: inference.Picture, *, thresh: float = 0.5
    ) -> tuple[Category | MultiCategory, torch.Tensor, torch.Tensor]:
        """Classify one picture with the evaluation preprocess.

        Args:
            item: an Image, a path, an open file, bytes, a Pillow picture or pixels uint8 ``(H, W, 3)``.
            thresh: probability from which on a tag is given (tags only).

        Returns:
            the label (prints as its name), the class index (or 0/1 per tag) and the probabilities ``(C,)``.
        """
        loader = self._data.single_loader([inference.as_image(item)], stats=self.norm_stats)
        probs = activation_for(self.loss_func)(evaluate(self.model, loader, self.loss_func).logits)[0]
        label = self._label_of(probs, thresh)
        return label, torch.tensor(label.data), probs

    def _label_of(self, probs: torch.Tensor, thresh: float = 0.5) -> Category | MultiCategory:
        classes = self._data.classes
        if not self._data.is_multi:
            best = int(probs.argmax())
            return Category(best, classes[best])
        hit = [int(p >= thresh) for p in probs.tolist()]
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
        guesses = [str(self._label_of(p)) for p in probs]
        titles = [f"truth: {t}\nsaid: {g}" for t, g in zip(truths, guesses, strict=True)]
        colors = ["black" if t == g else "firebrick" for t, g in zip(truths, guesses, strict=True)]
        figure = draw_grid(shown.x.cpu(), titles, figsize=figsize, colors=colors)
        return figure if return_fig else None

    def summary(self) -> str:
        """Return a table of the layers: output shape, parameters, whether they train."""
        from onecycle.model.summary import model_summary

        x = self._data.one_batch().x[:1].to(self._data.device)
        return model_summary(self.model, x, notes=self.trainer.describe(self.callbacks))

    def interpret(
        self, ds_type: DatasetType = DatasetType.Valid, tta: bool = False
    ) -> ClassificationInterpretation:
        """Return the interpretation of this learner's predictions."""
        from onecycle.evaluation.interpretation import ClassificationInterpretation

        return ClassificationInterpretation.from_learner(self, ds_type, tta=tta)

    def __repr__(self) -> str:
        total, trainable = (
            sum(p.numel() for p in self.model.parameters() if p.requires_grad or k) for k in (1, 0)
        )
        return (
            f"Learner: {total:,} parameters, {trainable:,} of them train, in {len(self.layer_groups)} layer groups; "
            f"{self._data.c} {'tags' if self._data.is_multi else 'classes'}; "
            f"{self.trainer.epochs_done} epochs trained"
        )

    def model_folder(self) -> Path:
        """Return the folder of saved models, made if missing: ``path/model_dir``, else a run folder, said once."""
        wanted = Path(self.path) / self.model_dir
        folder = model_files.writable_folder(Path(self.path), Path(self.model_dir))
        if folder != wanted and not self._told_folder:
            print(f"{wanted} is not writable, so models go to {folder}; learn.path = ... changes that")
            self._told_folder = True
        return folder

    def save(
        self, file: str | Path = "model", return_path: bool = False, with_opt: bool = True
    ) -> Path | None:
        """Write weights, optimizer state and the settings that belong to them: ``<file>.safetensors`` + ``.json``.

        Args:
            file: name without suffix, below the model folder (or an absolute path).
            return_path: return the weights' path.
            with_opt: include the optimizer's state, where there is one.
        """
        path = checkpoint.save_checkpoint(
            model_files.stem(self.model_folder(), file),
            model=self.model,
            optimizer=self.trainer.optimizer if with_opt else None,
            manifest=model_files.manifest(self._data, self.norm_stats, self.trainer.epochs_done),
        )
        return path if return_path else None

    def load(
        self, file: str | Path = "model", *, strict: bool = True, with_opt: bool | None = None
    ) -> Learner:
        """Read what ``save`` wrote; returns this learner.

        Args:
            file: as in ``save``; a v1 ``.pth`` file of weights is read too.
            strict: False accepts missing and surplus tensors.
            with_opt: None reads the optimizer's state where it fits, and says so where it does not;
                True makes a misfit an error; False leaves the optimizer alone.

        Raises:
            CheckpointError: no such file, other classes or other tensors; the first difference is named
                and nothing is changed.
        """
        stem = model_files.saved_stem(Path(self.path), Path(self.model_dir), file)
        optimizer = None if with_opt is False else self.trainer.ensure_optimizer()
        expected = {"classes": list(self._data.classes), "is_multi": self._data.is_multi}
        report = checkpoint.load_checkpoint(
            stem, model=self.model, optimizer=optimizer, expected=expected, strict=strict, with_opt=with_opt
        )
        if report.note:
            print(report.note)
        # Never backwards: no order and no draw comes twice in one run.
        self.trainer.epochs_done = max(self.trainer.epochs_done, int(report.manifest.get("epochs_done", 0)))
        return self


def _listed(value: Any) -> list[Any]:
    """Return a list of what may be one thing, several, or None."""
    if value is None or (isinstance(value, Iterable) and not callable(value)):
        return list(value or ())
    return [value]
