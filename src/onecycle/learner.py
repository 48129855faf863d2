"""Learner: thin methods that join the data, the model, the training loop and the evaluation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from onecycle import model_files
from onecycle.classifier import Classifier, listed
from onecycle.data.batches import Stats
from onecycle.data.bunch import ImageDataBunch
from onecycle.model import cnn
from onecycle.train import checkpoint, lr_finder
from onecycle.train.callbacks import Callback, GradientClipping, MixUpCallback
from onecycle.train.log.progress import make_progress
from onecycle.train.log.recorder import Recorder
from onecycle.train.loop import Trainer, TrainerAttribute
from onecycle.train.losses import loss_for
from onecycle.train.metrics import Metric, check_metric, metric_name
from onecycle.train.optimizer import AdamW_v1
from onecycle.train.schedules import Constant, LrLike, OneCycle, lr_range

if TYPE_CHECKING:
    pass

DEFAULT_LR = slice(3e-3)


class Learner(Classifier):
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
        self.metrics = listed(metrics)
        for metric in self.metrics:
            check_metric(metric, is_multi=data.is_multi)
        self.train_bn, self.silent, self.stats = train_bn, bool(silent), stats
        self._data = data
        data.backbone_stats = stats
        self.path = Path(path) if path is not None else data.path
        self.model_dir = Path(model_dir)
        self.callback_fns = listed(callback_fns)
        self.callbacks = list(callbacks)
        self.recorder = Recorder([metric_name(m) for m in self.metrics])
        self._told_folder = False

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
        self.recorder = Recorder([metric_name(m) for m in listed(self.metrics)])
        self.trainer.fit(
            epochs,
            schedule,
            self._data.train_dl.replace(stats=self.norm_stats),
            self.loader() if len(self._data.split.valid) else None,
            recorder=self.recorder,
            metrics=listed(self.metrics),
            callbacks=self._all_callbacks(callbacks),
            progress=make_progress(silent=self.silent),
            wd=wd,
            start_epoch=start_epoch,
        )

    def _all_callbacks(self, extra: Sequence[Callback] | Callback | None) -> list[Callback]:
        return [*(make(self) for make in self.callback_fns), *self.callbacks, *listed(extra)]

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
        self.recorder = Recorder([metric_name(m) for m in listed(self.metrics)])
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

    def summary(self) -> str:
        """Return a table of the layers: output shape, parameters, whether they train."""
        from onecycle.model.summary import model_summary

        x = self._data.one_batch().x[:1].to(self._data.device)
        return model_summary(self.model, x, notes=self.trainer.describe(self.callbacks))

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
