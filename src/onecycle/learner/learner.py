"""Learner: thin methods that join the data, the model, the training loop and the evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from textwrap import fill
from typing import Any

import torch
from torch import nn

from onecycle.data.batches import Stats
from onecycle.data.bunch import ImageDataBunch
from onecycle.errors import ArgumentError
from onecycle.learner.classifier import listed
from onecycle.learner.examined import ExaminedClassifier
from onecycle.learner.features import FrozenFeatures, check_views, feature_parts
from onecycle.learner.fine_tune import run as recipe
from onecycle.learner.fine_tune.plan import Plan
from onecycle.learner.fine_tune.run import FineTuneOptions
from onecycle.learner.oversampling import loss_for_data, sampling_weights
from onecycle.learner.precision import TrainingSpeed
from onecycle.model import cnn
from onecycle.train import lr_finder
from onecycle.train.callbacks import Callback, GradientClipping, MixUpCallback
from onecycle.train.device.precision import Choice, PrecisionOptions
from onecycle.train.evaluate import Loader
from onecycle.train.log.progress import Progress, make_progress
from onecycle.train.log.recorder import Recorder
from onecycle.train.loop import Trainer, TrainerAttribute
from onecycle.train.losses import ClassWeights
from onecycle.train.lr_finder import LrAnswer, Sweep
from onecycle.train.metrics import Metric, check_metric, metric_name
from onecycle.train.optimizer import AdamW_v1
from onecycle.train.schedules import Constant, LrLike, OneCycle, lr_range

DEFAULT_LR = slice(3e-3)


class Learner(ExaminedClassifier):
    """A model, its data and everything needed to train and judge it.

    Args:
        data: the bunch to train on.
        model: gives logits ``(N, C)`` for pictures ``(N, 3, H, W)``.
        opt_func: makes the optimizer from parameter groups; default Adam with betas (0.9, 0.99).
        loss_func: default by the labels: cross-entropy, or binary cross-entropy with logits for tags.
        metrics: one or several functions ``(logits, targets) → number`` over the whole validation set.
        class_weights: ``balanced``, or one factor a class in the order of ``data.classes``: rare classes then count
            more in the loss (for tags: their presences). Probabilities then no longer match the frequencies.
        true_wd: decoupled weight decay; False adds it to the gradient.
        bn_wd: decay batch-norm parameters too.
        wd: weight decay.
        train_bn: batch-norm layers of frozen groups go on training, unless ``precompute`` is on.
        precompute: see the attribute of this name.
        precision: ``auto`` measures before a fit whether bf16 (or, on a GPU, fp16) is faster than fp32 for this
            network; or one of ``fp32``, ``bf16``, ``fp16``. Weights, losses and all that is reported are float32 in
            any case. What was measured is remembered in the cache folder, and said at the first fit.
        channels_last: layout of the activations; None measures.
        compile: send the network through ``torch.compile``; None: in long fits on a GPU, where that is faster.
            True works on a CPU too, where compiling takes a minute and a C++ compiler.
        path: where models are saved (default: the data's folder).
        model_dir: folder below ``path``.
        callback_fns: called with this learner at each fit, to make callbacks.
        callbacks: callbacks of every fit.
        layer_groups: groups of modules for freezing and learning rates, first to last; default: one.
        silent: print no table and no bar.
        stats: pixel statistics to normalise with where the data has none of its own.
    """

    progress_to: Callable[[], Progress] | None = None
    """Makes what shows the epochs of a fit, also of a silent learner; None: chosen by where output goes."""
    lr_sweeps: tuple[Sweep, ...] = ()
    """(learning rates, loss of each batch) of each sweep of the last ``lr_suggestion``."""
    lr_answer: LrAnswer | None = None
    """What that one answered."""

    model, loss_func, layer_groups = TrainerAttribute(), TrainerAttribute(), TrainerAttribute()
    opt_func, wd = TrainerAttribute(), TrainerAttribute()
    true_wd, bn_wd = TrainerAttribute(), TrainerAttribute()

    def __init__(
        self,
        data: ImageDataBunch,
        model: nn.Module,
        opt_func: Callable[..., torch.optim.Optimizer] = AdamW_v1,
        loss_func: Any = None,
        metrics: Metric | Sequence[Metric] | None = None,
        *,
        class_weights: ClassWeights | None = None,
        true_wd: bool = True,
        bn_wd: bool = True,
        wd: float = 0.01,
        train_bn: bool = True,
        precompute: bool | int = False,
        precision: Choice = "auto",
        channels_last: bool | None = None,
        compile: bool | None = None,
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
            loss_func=loss_for_data(data, loss_func, class_weights),
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
        self._precompute = check_views(precompute)
        self._frozen_to: int | None = None  # what the last freeze was
        self._features = FrozenFeatures()
        self._speed = TrainingSpeed(PrecisionOptions(precision, channels_last, compile))
        self._speed.options.check(data.device)
        self._data = data
        data.backbone_stats = stats
        self.path = Path(path) if path is not None else data.path
        self.model_dir = Path(model_dir)
        self.callback_fns = listed(callback_fns)
        self.callbacks = list(callbacks)
        self.recorder = Recorder([metric_name(m) for m in self.metrics])

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
            n_steps, tuple(self.lr_range(max_lr)), moms, div_factor=div_factor, pct_start=pct_start, final_div=final_div
        )
        self._fit(cyc_len - start if tot_epochs is None else cyc_len, schedule, wd, callbacks, start_epoch=start)

    def _fit(
        self,
        epochs: int,
        schedule: Any,
        wd: float | None,
        callbacks: Sequence[Callback] | Callback | None,
        *,
        start_epoch: int,
    ) -> None:
        self._data.prepare(silent=self.silent)
        self.forget_calibration()
        self.recorder = Recorder([metric_name(m) for m in listed(self.metrics)])
        partners = self._all_callbacks(callbacks)
        with self._batches(partners) as (train, valid):
            if isinstance(feature_parts(self.model), str):
                self.body_trained = True
            self._choose_speed(train, epochs * len(train))
            self.trainer.fit(
                epochs,
                schedule,
                train,
                valid,
                recorder=self.recorder,
                metrics=listed(self.metrics),
                callbacks=partners,
                progress=self._progress(),
                wd=wd,
                start_epoch=start_epoch,
            )

    def _progress(self) -> Progress:
        return make_progress(silent=self.silent) if self.progress_to is None else self.progress_to()

    @contextmanager
    def _batches(self, callbacks: Sequence[Callback]) -> Iterator[tuple[Loader, Loader | None]]:
        """Give training and validation batches: features where only the head trains on them, else pictures."""
        found, weights = None, sampling_weights(callbacks)
        if self._precompute is not False:
            found = self._features.stage(
                self.model,
                self._data,
                stats=self.norm_stats,
                views=self._precompute,
                callbacks=callbacks,
                weights=weights,
                silent=self.silent,
            )
        if found is None:
            pictures = self._data.train_dl.replace(stats=self.norm_stats, weights=weights)
            yield pictures, self.loader() if len(self._data.split.valid) else None
            return
        self.trainer.head = found.head
        try:
            yield found.train, found.valid
        finally:
            self.trainer.head = None

    def _choose_speed(self, loader: Loader, n_batches: int) -> None:
        chosen = self._speed.choose(self.trainer, loader, n_batches=n_batches)
        if not self.silent:
            self._say_choices(chosen)

    def _say_choices(self, precision: str) -> None:
        """Say in one line what makes the steps fast, each distinct line once."""
        source = self._data.store if self.trainer.head is None else self._features
        self._speed.say([precision, f"batch {self._data.batch_size}", source.describe()])

    @property
    def precision(self) -> Choice:
        """What was asked for: ``auto``, ``fp32``, ``bf16`` or ``fp16``; assigning it counts from the next fit on."""
        return self._speed.options.precision

    @precision.setter
    def precision(self, value: Choice) -> None:
        options = replace(self._speed.options, precision=value)
        options.check(self._data.device)
        self._speed.options = options

    def to_fp16(self) -> Learner:
        """Train in half floats with a gradient scaler from now on (CUDA GPUs only); returns this learner."""
        self.precision = "fp16"
        return self

    def to_fp32(self) -> Learner:
        """Train in float32 from now on; returns this learner."""
        self.precision = "fp32"
        return self

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
        self._sweep(start_lr, end_lr, num_it, stop_div=stop_div, wd=wd)

    def lr_suggestion(self, n_sweeps: int = 3, num_it: int = 100, *, wd: float | None = None) -> LrAnswer:
        """Suggest a peak learning rate from several sweeps that differ in order and draws, and print it.

        ``lr`` of the answer is None where the sweeps cannot tell; its ``reason`` says why. The learner is
        afterwards as before; ``recorder`` holds the last sweep. See ``robust_lr`` for the rule.

        Args:
            n_sweeps: more of them, as more batches, make the answer steadier, above all with small batches.
            num_it: batches of a sweep.
            wd: weight decay of the sweeps.
        """
        if not isinstance(n_sweeps, int) or n_sweeps < 1:
            raise ArgumentError(f"n_sweeps is a number of sweeps, 1 or more; received {n_sweeps!r}")
        sweeps = []
        for i in range(n_sweeps):
            self._sweep(1e-6, 10.0, num_it, stop_div=True, wd=wd, skip_epochs=i * num_it, quiet=True)
            sweeps.append((self.recorder.lrs, self.recorder.raw_losses))
        self.lr_sweeps, self.lr_answer = tuple(sweeps), lr_finder.robust_lr(sweeps)
        answer = self.lr_answer
        if not self.silent:
            print(fill(str(answer), 80))
        return answer

    def _sweep(
        self,
        start_lr: LrLike,
        end_lr: LrLike,
        num_it: int,
        *,
        stop_div: bool,
        wd: float | None,
        skip_epochs: int = 0,
        quiet: bool = False,
    ) -> None:
        self._data.prepare(silent=self.silent)
        self.recorder = Recorder([metric_name(m) for m in listed(self.metrics)])
        partners = [c for c in self._all_callbacks(None) if c.in_lr_find]
        with self._batches(partners) as (train, _):
            self._choose_speed(train, num_it)
            lr_finder.find_lr(
                self.trainer,
                train,
                recorder=self.recorder,
                start_lr=start_lr,
                end_lr=end_lr,
                num_it=num_it,
                stop_div=stop_div,
                wd=wd,
                callbacks=partners,
                progress=make_progress(silent=self.silent),
                skip_epochs=skip_epochs,
                quiet=quiet,
            )

    @property
    def precompute(self) -> bool | int:
        """Whether the head trains on features of the frozen body, which are computed once.

        False: never. A number: on the plain view and this many augmented views of each training picture (0:
        the plain one only). True: 3 augmented views where the data has training transforms, else 0. It applies
        while only the head trains, that is after ``freeze()``. After ``unfreeze()``, with ``dl_tfms``, and with
        mixup or another callback that has ``on_batch_begin`` (and not ``takes_features = True``), the network is
        fed pictures. Assigning it freezes again as the last ``freeze`` did.

        fastai v1's frozen stage differs in two points: there the body's batch-norm layers go on training
        (statistics, weights and biases), and pictures are augmented anew in every epoch. Here the body stands
        still, batch-norm layers included and dropout off, and each picture has so many views, in turn.
        """
        return self._precompute

    @precompute.setter
    def precompute(self, value: bool | int) -> None:
        before, self._precompute = self._frozen_norms_train, check_views(value)
        if value is False:
            self._features.forget()
        if self._frozen_to is not None and before != self._frozen_norms_train:
            self.freeze_to(self._frozen_to)

    @property
    def _frozen_norms_train(self) -> bool:
        return self.train_bn and self._precompute is False

    def freeze_to(self, n: int) -> None:
        """Stop training the groups before ``n``.

        Their batch-norm layers go on while ``train_bn`` is set and ``precompute`` is off; otherwise gradients
        are computed no deeper than group ``n``.
        """
        cnn.freeze_to(self.layer_groups, n, train_bn=self._frozen_norms_train)
        self._frozen_to = n
        self.trainer.optimizer = None  # a fresh one at the next fit, as in v1

    def freeze(self) -> None:
        """Train only the last layer group; see ``freeze_to`` and ``precompute``."""
        cnn.freeze(self.layer_groups, train_bn=self._frozen_norms_train)
        self._frozen_to = -1
        self.trainer.optimizer = None

    def unfreeze(self) -> None:
        """Train every layer group."""
        cnn.unfreeze(self.layer_groups)
        self._frozen_to = None
        self.trainer.optimizer = None

    def fine_tune(
        self,
        epochs: int | None = None,
        base_lr: float | None = None,
        freeze_epochs: int | None = None,
        *,
        minutes: float | None = None,
        sizes: Sequence[int | tuple[int, int]] | None = None,
        bs: int | None = None,
        precompute: bool | int | None = None,
        train_bn: bool | None = None,
        plan_only: bool = False,
    ) -> Plan:
        """Train the head, then all layers, for some epochs or for the best that fits into a time; shows its plan.

        1. The head alone, on features of the frozen body that are computed once (where the learner is frozen).
        2. All layers, one cycle, the first layers with smaller learning rates; from four epochs on, half of the
           epochs with smaller pictures.

        Speeds are measured first. With ``minutes``, what is left is planned anew after each stage and the cycle is
        shortened where the machine turns out slower, so the number of steps may differ from run to run; ``epochs``
        is repeatable. Validation pictures choose nothing. Afterwards ``data`` is as before, all layers train (if
        they did in the plan), and ``recorder`` holds the history of all stages.

        Args:
            epochs: with all layers, after the head's; 0 for the head alone.
            base_lr: peak learning rate of the head. When all layers train, the last ones get as much and the first a
                quarter; a half and a hundredth where batch-norm layers do not train. Default: ``lr_suggestion`` on
                features, else 3e-3.
            freeze_epochs: of the head alone; default about 200 steps on features, else one epoch; 0 for none.
            minutes: for everything, instead of ``epochs``.
            sizes: of the pictures (px) in the stages with all layers; the last is the data's.
            bs: pictures in a batch; default the data's, halved while an epoch has too few steps.
            precompute: augmented views whose features the head is trained on; False feeds it pictures. Default:
                the learner's own, else the plan's choice.
            train_bn: train the batch-norm layers of a pretrained body, too; default: from about 150 steps on.
            plan_only: show the plan and train nothing.

        Returns:
            The plan as shown.

        Raises:
            ArgumentError: not exactly one of ``epochs`` and ``minutes``, or a value that cannot work.
        """
        options = FineTuneOptions(epochs, minutes, base_lr, freeze_epochs, sizes, bs, precompute, train_bn)
        return recipe.fine_tune(self, options, plan_only=plan_only)

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
        total, trainable = (sum(p.numel() for p in self.model.parameters() if p.requires_grad or k) for k in (1, 0))
        return (
            f"Learner: {total:,} parameters, {trainable:,} of them train, in {len(self.layer_groups)} layer groups; "
            f"{self._data.c} {'tags' if self._data.is_multi else 'classes'}; "
            f"{self.trainer.epochs_done} epochs trained"
        )
