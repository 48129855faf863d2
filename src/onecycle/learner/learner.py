"""Learner: a network, its data, and everything needed to train and judge it; thin methods that join the rooms."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any, Self, Unpack

import numpy as np
import torch
from torch import nn

from onecycle.data.audit.rows import check_same_classes
from onecycle.data.batches import BatchLoader, Stats
from onecycle.data.bunch import ImageDataBunch
from onecycle.data.labels.items import Category, DatasetType, FloatItem, MultiCategory, need_classes
from onecycle.deploy.calibrated import Calibrated, adopt_calibration, adopt_measure, adopt_thresholds
from onecycle.deploy.predictor import Picture, Predictor, as_picture, predictor_of
from onecycle.distributed.joining import join_others
from onecycle.errors import ArgumentError, check_keywords
from onecycle.evaluation.scores import Thresh
from onecycle.learner import saving, tta
from onecycle.learner.checks import misfits
from onecycle.learner.checks.layers import Layers, NetworkOfModel, check_dtype
from onecycle.learner.features import FrozenFeatures, LabelledFeatures, check_views, split_at_head
from onecycle.learner.fine_tune import run as recipe
from onecycle.learner.fine_tune.options import FineTuneOptions
from onecycle.learner.fine_tune.plan import Plan
from onecycle.learner.fits import fitting
from onecycle.learner.heads.solved import HeadFit, solve
from onecycle.learner.options import LearnerOptions, TrainerAttribute, listed
from onecycle.learner.oversampling import loss_for_data
from onecycle.learner.precision import TrainingSpeed, precision_asked
from onecycle.model import cnn, levels
from onecycle.train import lr_finder
from onecycle.train.callbacks import GradientClipping, MixUpCallback, checked_callbacks
from onecycle.train.device.precision import Choice
from onecycle.train.evaluate import Loader, evaluate, validate
from onecycle.train.log.progress import Progress, make_progress
from onecycle.train.log.recorder import MetricValue, Recorder
from onecycle.train.loop import Callback, Trainer
from onecycle.train.losses import activation_for
from onecycle.train.lr_finder import LrAnswer, Sweep
from onecycle.train.metrics import Metric, check_metric, column_names
from onecycle.train.optimizer import AdamW_v1
from onecycle.train.schedules import Constant, LrLike, OneCycle, Schedule, check_epochs, epochs_of_cycle, lr_range

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from onecycle.deploy.bundle import Bundle
    from onecycle.evaluation.certainty.calibration import Calibration, CalibrationReport
    from onecycle.evaluation.certainty.decisions import Decisions
    from onecycle.evaluation.certainty.thresholds import TagThresholds, ThresholdOptions, ThresholdReport
    from onecycle.evaluation.interpretation import ClassificationInterpretation
    from onecycle.learner.label_issues import LabelIssues
    from onecycle.learner.report import Report, ReportOptions
    from onecycle.learner.saving import ExportOptions
    from onecycle.learner.similar import SimilarPictures

DEFAULT_LR = slice(3e-3)


class Learner:
    """A model, its data and everything needed to train and judge it.

    Args:
        data: the bunch to train on.
        model: gives logits ``(N, C)`` for pictures ``(N, 3, H, W)``.
        opt_func: makes the optimizer from parameter groups; default Adam with betas (0.9, 0.99).
        loss_func: default by the labels: cross-entropy, or binary cross-entropy with logits for tags.
        metrics: one or several functions ``(logits, targets) → number`` over the whole validation set.
        layer_groups: groups of modules for freezing and learning rates, first to last; default: one.
        stats: pixel statistics to normalise with where the data has none of its own.
        options: see ``LearnerOptions``.

    Raises:
        TypeError: a keyword that is not among them.
        ArgumentError: a value that cannot work.
    """

    progress_to: Callable[[], Progress] | None = None
    """Makes what shows the epochs of a fit, also of a silent learner; None: chosen by where output goes."""
    lr_sweeps: tuple[Sweep, ...] = ()  # (learning rates, loss of each batch) of each sweep of the last lr_suggestion
    lr_answer: LrAnswer | None = None  # what that one answered
    calibrated = Calibrated()
    """What ``calibrate`` and ``choose_thresholds`` found, for the weights as they are."""
    seen = misfits.SeenByModel()  # what the weights were trained on: pictures and pixel statistics
    n_fits = 0  # fits that were begun, heads that were solved included
    weights_version = 0  # counts how often the weights changed, by training, loading or another layer
    body_trained: bool | None = False
    """Whether more than the head was trained; None where weights were loaded, so it is not known."""
    network = NetworkOfModel()
    """What makes the network again without its weights, {"arch": name, "head": options}; None where nobody knows."""
    path = saving.PathAttribute()
    """The folder below which models are saved, absolute; None is the data's."""
    _told_folder = False

    model, opt_func, wd = TrainerAttribute(), TrainerAttribute(), TrainerAttribute()
    true_wd, bn_wd = TrainerAttribute(), TrainerAttribute()

    def __init__(
        self,
        data: ImageDataBunch,
        model: nn.Module,
        opt_func: Callable[..., torch.optim.Optimizer] = AdamW_v1,
        loss_func: Any = None,
        metrics: Metric | Sequence[Metric] | None = None,
        *,
        layer_groups: Sequence[nn.ModuleList] | None = None,
        stats: Stats | None = None,
        **options: Unpack[LearnerOptions],
    ) -> None:
        check_keywords("Learner", options, LearnerOptions.__annotations__)
        misfits.check_bunch(data)
        self.trainer = Trainer(
            model=model.to(data.device, memory_format=torch.channels_last),  # type: ignore[call-overload]
            layer_groups=[],
            loss_func=loss_for_data(data, loss_func, options.get("class_weights")),
            opt_func=opt_func,
            wd=options.get("wd", 0.01),
            true_wd=options.get("true_wd", True),
            bn_wd=options.get("bn_wd", True),
            seed=data.seed,
            deterministic=bool(options.get("deterministic")),
        )
        self.trainer.move_loss()
        self._data = data
        self._layers = Layers()
        self.layer_groups = layer_groups or [nn.ModuleList(cnn.flatten_leaves(model))]
        self.metrics: list[Metric] = self._checked(metrics)
        self.train_bn, self.silent, self.stats = options.get("train_bn", True), bool(options.get("silent")), stats
        self._precompute = check_views(options.get("precompute", False))
        self.frozen_to: int | None = None  # what the last freeze was
        self.frozen_features = FrozenFeatures()
        self.speed = TrainingSpeed(precision_asked(options))
        self.speed.options.check(data.device)
        data.backbone_stats = stats
        self.path = options.get("path")
        self.model_dir = Path(options.get("model_dir", "models"))
        self.callback_fns = listed(options.get("callback_fns"))
        self.callbacks = list(options.get("callbacks", ()))
        self.recorder = self._new_recorder()
        misfits.warn_of_trained(self.seen, data)  # a model that another learner trained

    # --- data -------------------------------------------------------------------------------------

    @property
    def data(self) -> ImageDataBunch:
        """The bunch; assign another one with the same classes (say, larger pictures) to go on with it.

        Pixel statistics stay as they were unless the new bunch was normalised with its own.
        """
        return self._data

    @data.setter
    def data(self, bunch: ImageDataBunch) -> None:
        check_same_classes(self._data.labels, bunch.labels)
        misfits.warn_of_trained(self.seen, bunch)
        if bunch.stats is None:  # the network goes on with the statistics that it has been trained with
            self.stats = bunch.backbone_stats = self.norm_stats
        misfits.warn_of_stats(self.seen, bunch.stats or self.stats)
        self._data = bunch
        self.model.to(bunch.device)
        self.trainer.move_loss()

    @property
    def norm_stats(self) -> Stats | None:
        """Pixel statistics in use: the data's own where ``normalize`` was called, else the backbone's."""
        stats = self._data.stats if self._data.stats is not None else self.stats
        misfits.warn_of_stats(self.seen, stats)
        return stats

    @property
    def loss_func(self) -> Any:
        """The loss; what is assigned is checked against the labels."""
        return self.trainer.loss_func

    @loss_func.setter
    def loss_func(self, value: Any) -> None:
        before, self.trainer.loss_func = self.activation, loss_for_data(self._data, value, None)
        self.trainer.move_loss()
        self.trainer.optimizer = None
        if self.activation is not before:
            self.forget_calibration()

    @property
    def activation(self) -> Callable[[torch.Tensor], torch.Tensor]:
        """What turns the network's outputs into probabilities, by the loss."""
        return activation_for(self.loss_func, is_multi=None if self._data.is_regression else self._data.is_multi)

    @property
    def layer_groups(self) -> list[nn.ModuleList]:
        """Groups of modules for freezing and learning rates: all of the model, also after a layer was replaced."""
        return self._layers.groups_of(self)

    @layer_groups.setter
    def layer_groups(self, groups: Sequence[nn.ModuleList]) -> None:
        self._layers.assign(self, groups)

    def loader(self, ds_type: DatasetType | None = None, *, data: ImageDataBunch | None = None) -> BatchLoader:
        """Return normalised batches (default: validation), of ``data`` where that is an earlier bunch.

        ``Train`` is in order and not augmented.
        """
        in_order = DatasetType.Fix if ds_type is DatasetType.Train else ds_type or DatasetType.Valid
        return (self._data if data is None else data).loader(in_order).replace(stats=self.norm_stats)

    def dataset_tensor(
        self, ds_type: DatasetType | None, index: int, *, data: ImageDataBunch | None = None
    ) -> torch.Tensor:
        """Return picture ``index`` as the network sees it, float32 ``(1, 3, H, W)`` on the device."""
        return self.loader(ds_type, data=data).replace(bs=1).batch_at(0, index).x

    # --- training ----------------------------------------------------------------------------------

    def fit(
        self,
        epochs: int,
        lr: LrLike = DEFAULT_LR,
        wd: float | None = None,
        callbacks: Sequence[Callback] | Callback | None = None,
        *,
        resume: bool = False,
    ) -> None:
        """Train for some epochs at a constant learning rate; ``resume`` as in ``fit_one_cycle``."""
        check_epochs(epochs)
        self.fit_schedule(epochs, Constant(tuple(self.lr_range(lr))), wd, callbacks, resume=resume)

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
        *,
        resume: bool = False,
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
            wd, callbacks: of this fit; default the learner's weight decay.
            tot_epochs: length of the schedule when only a part of it is run.
            start_epoch: epoch of the schedule to start with.
            resume: write checkpoints, and where the same script was stopped before go on from the last one, to the same
                weights; a fit that was over is not trained again. See ``CheckpointCallback``.

        Source: Smith (2018), "A disciplined approach to neural network hyper-parameters: Part 1";
        cosine form as in fastai v1.
        """
        start, epochs, total = epochs_of_cycle(cyc_len, tot_epochs, start_epoch)
        n_steps, max_lrs = len(self._data.train_dl) * total, tuple(self.lr_range(max_lr))
        schedule = OneCycle(n_steps, max_lrs, moms, div_factor=div_factor, pct_start=pct_start, final_div=final_div)
        self.fit_schedule(epochs, schedule, wd, callbacks, start_epoch=start, resume=resume)

    def fit_schedule(
        self,
        epochs: int,
        schedule: Schedule,
        wd: float | None = None,
        callbacks: Sequence[Callback] | Callback | None = None,
        *,
        start_epoch: int = 0,
        resume: bool = False,
    ) -> None:
        """Train for some epochs with a schedule; ``fit`` and ``fit_one_cycle`` make theirs.

        Args:
            epochs: to run.
            schedule: learning rates and momentum of each step, counted over the whole schedule.
            wd, callbacks, start_epoch: of this fit, and the epoch of the schedule to start with.
            resume: as in ``fit_one_cycle``.
        """
        extra = fitting.with_checkpoints(self, callbacks, resume)
        if fitting.begin(self, extra, epochs, schedule, start_epoch):
            return
        with self._fitting(extra) as of_fit:
            n_batches = epochs * len(of_fit["train_loader"])
            self._choose_speed(of_fit["train_loader"], n_batches, fitting.precision_before(self, of_fit["callbacks"]))
            self.trainer.fit(epochs, schedule, wd=wd, start_epoch=start_epoch, **of_fit)

    def solve_head(self, *, through_tags: bool = True) -> HeadFit | None:
        """Solve the linear head of ``levels=`` on features of the frozen body, in place of training it; one epoch.

        Args:
            through_tags: single labels that are strings of tags, as ``"clear road water"``, are predicted through their
                tags where that predicts left-out training pictures better; False: never.

        Returns:
            How it was solved; None where a ``CheckpointCallback`` had its end.
        """
        if fitting.begin(self, [], 1, None, 0):
            return None
        with self._fitting(None) as of_fit:
            return solve(self, **of_fit, through_tags=through_tags)

    @contextmanager
    def _fitting(self, callbacks: Sequence[Callback] | Callback | None) -> Iterator[dict[str, Any]]:
        """Give what a fit is made with, by the words of ``Trainer.fit``."""
        self._data.prepare(silent=self.silent)
        self._layers.check(self)
        self.new_history()
        metrics = self._checked(self.metrics)
        fit_callbacks = self.all_callbacks(callbacks)
        progress = make_progress(silent=self.silent) if self.progress_to is None else self.progress_to()
        with levels.plain_view(self.model), fitting.batches(self, fit_callbacks) as (train, valid):
            if isinstance(split_at_head(self.model), str):
                self.body_trained = True
            self.seen = self.seen.after_training(self._data, self.norm_stats)
            of_fit = {"recorder": self.recorder, "metrics": metrics, "callbacks": fit_callbacks, "progress": progress}
            yield of_fit | {"train_loader": train, "valid_loader": valid}

    def _choose_speed(self, loader: Loader, n_batches: int, before: str = "") -> None:
        """Choose what makes the steps fast, and say it in one line, each distinct line once; ``before``: it was."""
        chosen = before or self.speed.choose(self.trainer, loader, n_batches=n_batches)
        self.speed.warm_up(self.trainer, loader)
        features = self.trainer.head is not None
        source = self.frozen_features.describe() if features else self._data.describe_source()
        if not self.silent:
            self.speed.say([chosen, f"batch {self._data.batch_size}", source])

    def new_history(self) -> None:
        """Begin the history of a fit: the weights change from here on."""
        self.forget_calibration()
        self.recorder = self._new_recorder()

    def _new_recorder(self) -> Recorder:
        return Recorder(column_names(listed(self.metrics)))

    def _checked(self, metrics: Metric | Sequence[Metric] | None) -> list[Metric]:
        chosen: list[Metric] = listed(metrics)
        for metric in chosen:
            check_metric(metric, is_multi=None if self._data.is_regression else self._data.is_multi)
        return chosen

    def all_callbacks(self, extra: Sequence[Callback] | Callback | None = None) -> list[Callback]:
        """Return the callbacks of a coming fit: those that are made for it, the learner's own, and ``extra``."""
        made = (make(self) if callable(make) else make for make in self.callback_fns)
        return checked_callbacks([*made, *self.callbacks, *listed(extra)], self)

    def lr_range(self, lr: LrLike) -> list[float]:
        """Return one learning rate a layer group; see ``fit_one_cycle`` for slices."""
        return lr_range(lr, len(self.layer_groups))

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
        self._sweep(num_it, start_lr=start_lr, end_lr=end_lr, stop_div=stop_div, wd=wd)

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
            self._sweep(num_it, start_lr=1e-6, end_lr=10.0, wd=wd, skip_epochs=i * num_it, quiet=True)
            sweeps.append((self.recorder.lrs, self.recorder.raw_losses))
        self.lr_sweeps, self.lr_answer = tuple(sweeps), lr_finder.robust_lr(sweeps)
        self.say(str(self.lr_answer))
        return self.lr_answer

    def _sweep(self, num_it: int, **how: Any) -> None:
        """Sweep the learning rate over ``num_it`` batches; ``how`` is what ``lr_finder.find_lr`` takes."""
        self._data.prepare(silent=self.silent)
        self._layers.check(self)
        self.recorder = self._new_recorder()
        fit_callbacks = [c for c in self.all_callbacks() if c.in_lr_find]
        with fitting.batches(self, fit_callbacks) as (train, _):
            self._choose_speed(train, num_it)
            bar = make_progress(silent=self.silent)
            how |= {"num_it": num_it, "recorder": self.recorder, "callbacks": fit_callbacks, "progress": bar}
            lr_finder.find_lr(self.trainer, train, **how)

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
        early_stop: bool = True,
        through_tags: bool = True,
        test_views: bool = True,
        plan_only: bool = False,
        resume: bool = False,
    ) -> Plan:
        """Train the head, then more layers, for some epochs or for what fits into a time; shows its plan.

        1. The head alone, on features of the frozen body that are computed once (where the learner is frozen). The
           usual head, untrained, is exchanged for a linear one on several stages, which is solved: see ``levels``.
        2. One cycle. Up to 12 epochs and 250 steps, after that head: the last stages, on maps of the first half that
           are computed once, a fifth of the rate. Else all layers; from four epochs on, half with smaller pictures.

        With ``minutes``, what is left is planned anew after each stage and the cycle is shortened where the machine
        turns out slower, so the number of steps may differ from run to run; ``epochs`` is repeatable. The best stage is
        kept: a later one must have a validation loss lower by more than one standard error of the paired difference;
        the last stages' weights half way from the start of their cycle must not have one higher by as much.

        Args:
            epochs: after the head's stage; 0 for the head alone.
            base_lr: peak learning rate of the head; then of the last layers, and the first get a quarter; a half and a
                hundredth where batch-norm layers do not train. Default: 3e-3, or found for a head that is trained.
            freeze_epochs: of the head alone, trained; default: solved, else about 200 steps on features; 0 for none.
            minutes: for everything, instead of ``epochs``.
            sizes: of the pictures (px) in the stages with all layers; the last is the data's.
            bs: pictures in a batch; default the data's, halved while an epoch has too few steps.
            precompute: augmented views that the head is trained on features of, default the plan's; False: pictures.
            train_bn: train the batch-norm layers of a pretrained body, too; default: from about 150 steps on.
            early_stop: end where validation says that the rest of the cycle cannot become the best stage.
            through_tags: of a head that is solved, as in ``solve_head``.
            test_views: where training mirrors pictures, the exchanged head predicts by means over 2 mirrored views
                (left and right) or 4 (up and down, too), at so many times the cost. Epochs show the plain view.
            plan_only: show the plan and train nothing.
            resume: as in ``fit_one_cycle``; what was measured and chosen stays, too.

        Returns:
            The plan as shown.

        Raises:
            ArgumentError: not exactly one of ``epochs`` and ``minutes``, or a value that cannot work.
        """
        options = FineTuneOptions(
            epochs=epochs, minutes=minutes, base_lr=base_lr, freeze_epochs=freeze_epochs, sizes=sizes, bs=bs,
            precompute=precompute, train_bn=train_bn, early_stop=early_stop, through_tags=through_tags,
            test_views=test_views,
        )  # fmt: skip
        with fitting.resumable(self, options, resume) as journal:
            return recipe.fine_tune(self, options, plan_only=plan_only, journal=journal)

    # --- what trains, and how ----------------------------------------------------------------------

    @property
    def precision(self) -> Choice:
        """What was asked for, as ``auto`` or ``fp32`` (see ``LearnerOptions``); counts from the next fit on."""
        return self.speed.options.precision

    @precision.setter
    def precision(self, value: Choice) -> None:
        options = replace(self.speed.options, precision=value)
        options.check(self._data.device)
        self.speed.options = options

    def to_fp16(self) -> Learner:
        """Train in half floats with a gradient scaler from now on (CUDA GPUs only); returns this learner."""
        self.precision = "fp16"
        return self

    def to_fp32(self) -> Learner:
        """Train in float32 from now on; returns this learner."""
        self.precision = "fp32"
        return self

    def to_distributed(self, cuda_id: int | None = None) -> Learner:
        """Train together with the other processes that ``torchrun`` started, from now on; see docs/distributed.md."""
        join_others(self, cuda_id)
        return self

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
            self.frozen_features.forget()
        if self.frozen_to is not None and before != self._frozen_norms_train:
            self.freeze_to(self.frozen_to)

    @property
    def _frozen_norms_train(self) -> bool:
        return self.train_bn and self._precompute is False

    def freeze_to(self, n: int) -> None:
        """Stop training the groups before ``n``.

        Their batch-norm layers go on while ``train_bn`` is set and ``precompute`` is off; otherwise gradients
        are computed no deeper than group ``n``.
        """
        cnn.freeze_to(self.layer_groups, n, train_bn=self._frozen_norms_train)
        self.frozen_to, self.trainer.optimizer = n, None  # a fresh one at the next fit, as in v1

    def freeze(self) -> None:
        """Train only the last layer group; see ``freeze_to`` and ``precompute``."""
        cnn.freeze(self.layer_groups, train_bn=self._frozen_norms_train)
        self.frozen_to, self.trainer.optimizer = -1, None

    def unfreeze(self) -> None:
        """Train every layer group."""
        cnn.unfreeze(self.layer_groups)
        self.frozen_to = self.trainer.optimizer = None

    def mixup(self, alpha: float = 0.4, *, stack_x: bool = False, stack_y: bool = True) -> Learner:
        """Train on mixtures of two pictures from now on, also where it was on already; returns this learner."""
        mixup = MixUpCallback(self, alpha, stack_x=stack_x, stack_y=stack_y)
        self.callbacks = [*(cb for cb in self.callbacks if not isinstance(cb, MixUpCallback)), mixup]
        return self

    def clip_grad(self, clip: float = 0.1) -> Learner:
        """Scale gradients down to a norm of at most ``clip`` from now on; returns this learner."""
        self.callbacks.append(GradientClipping(self, clip))
        return self

    # --- predictions -------------------------------------------------------------------------------

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
            The targets of test pictures are zeros that mean nothing.
        """
        misfits.check_labels(ds_type, needed=with_loss)
        if calibrated and (self.calibration is None or activ is not None):
            raise ArgumentError("calibrated=True needs learn.calibrate() first, and no activ=")
        if ds_type is not DatasetType.Test:
            self._data.prepare(silent=self.silent)
        self._layers.check(self)
        outputs = evaluate(*self.frozen_features.of_part(self, ds_type), self.loss_func if with_loss else None)
        probs = (activ or self.activation)(outputs.logits)
        probs = self.calibrated.probs(probs) if calibrated else probs
        return [probs, outputs.targets, *([outputs.losses] if with_loss else [])]

    def TTA(
        self,
        beta: float | None = 0.4,
        scale: float = 1.35,
        ds_type: DatasetType = DatasetType.Valid,
        activ: Callable[[torch.Tensor], torch.Tensor] | None = None,
        with_loss: bool = False,
    ) -> list[torch.Tensor]:
        """Predict with test-time augmentation: ``beta · plain + (1 − beta) · mean of the views``.

        The views are the four corners at zoom ``scale``, each with and without a flip, with the training
        transforms' rotation, warp and lighting; without zoom, without flip where the training transforms have none.

        Args:
            beta: share of the plain prediction, 0 to 1; None returns ``[plain, mean of views, targets]``.
            scale: zoom of the views, where training zooms.
            ds_type, activ, with_loss: as in ``get_preds``; the loss is that of the averaged prediction.
        """
        return tta.averaged(self, beta, scale=scale, ds_type=ds_type, activ=activ, with_loss=with_loss)

    def validate(
        self, dl: BatchLoader | DatasetType | None = None, *, metrics: Metric | Sequence[Metric] | None = None
    ) -> list[MetricValue]:
        """Return ``[loss, metric, …]`` over a whole part of the data (default: the validation set).

        Raises:
            ArgumentError: pictures without labels, or a loader of other classes than the learner's.
        """
        self._data.prepare(silent=self.silent)
        loader = self._to_judge(dl)
        self._layers.check(self)
        chosen = self._checked(self.metrics if metrics is None else metrics)
        loss, values = validate(self.model, loader, self.loss_func, chosen)
        return [loss, *values]

    def _to_judge(self, dl: BatchLoader | DatasetType | None) -> Loader:
        return misfits.checked_loader(self, dl).replace(stats=self.norm_stats)

    def predict(
        self, item: Picture, *, thresh: Thresh | None = None, raw: bool = False
    ) -> tuple[Category | MultiCategory | FloatItem, torch.Tensor, torch.Tensor]:
        """Classify one picture (or predict its numbers) with the evaluation preprocess.

        Args:
            item: a path, an open file, a file's bytes or a Pillow picture, decoded and turned upright as the data's own
                files are; or an Image, a tensor ``(3, H, W)`` (uint8, or from 0 to 1) or pixels uint8 ``(H, W, 3)``,
                taken as they are. (``open_image`` decodes at full size: for a big JPEG, its prediction differs a
                little from that of the path, see ``scaled_decode``; so does a Pillow picture that is loaded already.)
            thresh: probability from which on a tag is given (tags only): one, or one a tag; default the rule of
                ``decide_for`` or ``choose_thresholds``, else 0.5.
            raw: return the model's own probabilities after ``calibrate()``, too.

        Returns:
            the label (prints as its name), the class index (or 0/1 per tag) and the probabilities ``(C,)``; of numbers
            the numbers, thrice.
        """
        predictor = self.predictor()
        own, thresh = predictor.probs([as_picture(item)]), thresh if self._data.is_multi else None
        if self._data.is_regression:
            return FloatItem(own[0].numpy()), own[0], own[0]
        predictions = predictor.decide(own.numpy(), ("",), thresh=thresh, raw=raw)
        label = self.label_of(predictions.decided[0])
        return label, torch.tensor(label.data), torch.from_numpy(predictions.shown_probs[0])

    def predictor(self) -> Predictor:
        """Return all that decides about pictures, for the weights as they are; it shares the network."""
        check_dtype(self.model)
        return predictor_of(self)

    def label_of(self, decided: np.ndarray) -> Category | MultiCategory | FloatItem:
        """Return the label of one picture: a class index, 0/1 ``(C,)``, or numbers."""
        if self._data.is_regression:
            return FloatItem(decided)
        if not self._data.is_multi:
            return Category(int(decided), self._data.classes[int(decided)])
        names = tuple(c for c, hit in zip(self._data.classes, decided, strict=True) if hit)
        return MultiCategory(tuple(decided.tolist()), names)

    def pred_batch(self, ds_type: DatasetType = DatasetType.Valid, batch: Any = None) -> torch.Tensor:
        """Return the probabilities of one batch (default: the first of ``ds_type``), on the CPU.

        A batch of a bunch (``data.one_batch()``) is normalised where it is not; any other pair ``(x, y)`` is taken as
        the network's input.
        """
        made = self.loader(ds_type).batch_at(0, 0) if batch is None else batch
        return self.activation(tta.logits_of(self.model, tta.pixels_of(made, self.norm_stats).to(self._data.device)))

    def show_results(
        self,
        ds_type: DatasetType = DatasetType.Valid,
        rows: int = 5,
        *,
        figsize: tuple[float, float] | None = None,
        return_fig: bool = False,
    ) -> Figure | None:
        """Draw up to ``rows²`` pictures titled "truth" (where known), then "said"; wrong ones in red."""
        figure = tta.results_figure(self, ds_type, rows, figsize)
        return figure if return_fig else None

    # --- calibration and thresholds ----------------------------------------------------------------

    @property
    def calibration(self) -> Calibration | None:
        """What ``calibrate`` fitted for the weights as they are; None before, and after more training."""
        return self.calibrated.calibration

    @property
    def thresholds(self) -> TagThresholds | None:
        """What ``choose_thresholds`` chose for the weights as they are; None before, and after more training."""
        return self.calibrated.thresholds

    @property
    def decisions(self) -> Decisions:
        """The rule by which ``predict`` gives tags; printed, it says how."""
        return self.calibrated.decisions(self.model)

    def decide_for(self, measure: str, *, ds_type: DatasetType = DatasetType.Valid) -> None:
        """Have ``predict`` decide about tags for ``f2``, ``f1``, ``exact`` or ``precision=0.9``; the headline follows.

        Where the head knows sets of tags, the best set by their probabilities is predicted; else, and for a precision,
        thresholds are chosen on ``ds_type``. It is saved, loaded and forgotten as thresholds are.
        """
        self.say(adopt_measure(self, measure, lambda **how: self.interpret(ds_type).choose_thresholds(**how)))

    def calibrate(
        self, ds_type: DatasetType = DatasetType.Valid, *, n_folds: int = 10, seed: int = 0, groups: Any = None
    ) -> CalibrationReport:
        """Fit what makes probabilities right, and have ``predict`` show those from now on; see ``interpret()``.

        Where it is not shown to help on held-out folds, by their log loss, ``predict`` stays as it is. It is saved and
        loaded with the model, and forgotten when the weights are trained on.

        Args:
            ds_type: the part that it is fitted on; the training part is too good to learn it from.
            n_folds, seed, groups (an id a picture): of the report, which judges each fold by what the others gave.

        Returns:
            The report; its ``calibration`` is fitted on all pictures of the part.
        """
        report = self.interpret(ds_type).calibration(n_folds=n_folds, seed=seed, groups=groups)
        self.say(adopt_calibration(self, report))
        return report

    def choose_thresholds(
        self, beta: float = 2.0, *, ds_type: DatasetType = DatasetType.Valid, **options: Unpack[ThresholdOptions]
    ) -> ThresholdReport:
        """Choose from which probability on each tag is given, and have ``predict`` use that from now on.

        They are compared with the model's own probabilities, saved and loaded with the model, and forgotten when
        the weights are trained on.

        Args:
            beta, ds_type: how many times recall matters as much as precision; the part that they are chosen on.
            options: see ``ThresholdOptions``.
        """
        report = self.interpret(ds_type).choose_thresholds(beta, **options)
        self.say(f"{report}\n{adopt_thresholds(self, report)}")
        return report

    def forget_calibration(self) -> None:
        """Forget calibration and thresholds, because the weights that they belong to change."""
        if self.calibrated:
            self.say(f"forgotten, as the weights change: {self.calibrated}")
        self.calibrated, self.weights_version = Calibrated(), self.weights_version + 1

    # --- what the predictions say ------------------------------------------------------------------

    def interpret(self, ds_type: DatasetType = DatasetType.Valid, tta: bool = False) -> ClassificationInterpretation:
        """Return the interpretation of this learner's predictions."""
        from onecycle.evaluation.interpretation import ClassificationInterpretation

        return ClassificationInterpretation.from_learner(self, ds_type, tta=tta)

    def features(self) -> np.ndarray:
        """Return the body's features of all labelled pictures, float32 ``(N, D)`` in the order of the table's rows.

        ``data.audit(features=learn.features())`` then lists validation pictures with a close training picture, too.
        Rows that are in neither part (unreadable ones) are zeros. This learner is not changed.

        Raises:
            ArgumentError: a model that cannot be cut behind its body.
        """
        return self._labelled_features().table(len(self._data.labels))

    def similar(self, index: int, k: int = 5) -> SimilarPictures:
        """Return the training pictures most like validation picture ``index``; ``.show()`` draws them.

        Args:
            index: position in the validation set, as ``interpret().top_losses()`` gives it.
            k: how many.

        Raises:
            ArgumentError: no such picture, or a model that cannot be cut behind its body.
        """
        from onecycle.learner.similar import similar_pictures

        return similar_pictures(self._labelled_features(), self._data, index, k=k)

    def label_issues(self, folds: int = 5, *, seed: int | None = None) -> LabelIssues:
        """Rank the labels of all training and validation pictures, the most doubtful first.

        Features of the body are computed once; then ``folds`` new heads are trained, each judging pictures whose
        labels it has not seen. This learner is not changed. ``print`` the result, ``.show()`` the pictures, write
        them ``.to_csv(path)`` to edit, and go on with ``data.relabel(path)``.

        Args:
            folds: number of heads, 2 or more.
            seed: of the folds and the heads; default the data's.

        Raises:
            ArgumentError: a number of folds that cannot work, or a model without a head of its own.
        """
        from onecycle.learner.label_issues import check_labels

        need_classes(self._data.labels, "label_issues()")
        features, trained = self._labelled_features(), self.body_trained
        return check_labels(features, self._data, folds=folds, seed=seed, body_trained=trained, silent=self.silent)

    def report(self, **options: Unpack[ReportOptions]) -> Report:
        """Put what is known of this model into one HTML page; a notebook shows it, ``.save(path)`` writes it.

        Args:
            options: see ``ReportOptions``.

        Raises:
            TypeError: a keyword that is not among them.
            ArgumentError: the validation part is empty.
        """
        from onecycle.learner.report import ReportOptions, build_report

        check_keywords("Learner.report", options, ReportOptions.__annotations__)
        return build_report(self, **options)

    def _labelled_features(self) -> LabelledFeatures:
        self._data.prepare(silent=self.silent)
        return self.frozen_features.of_labelled(self.model, self._data, stats=self.norm_stats, silent=self.silent)

    # --- files -------------------------------------------------------------------------------------

    def model_folder(self) -> Path:
        """Return the folder of saved models, made if missing: ``path/model_dir``, else a run folder, said once."""
        wanted, folder = Path(self.path) / self.model_dir, saving.writable_folder(Path(self.path), Path(self.model_dir))
        if folder != wanted and not self._told_folder:
            print(f"{wanted} is not writable, so models go to {folder}; learn.path = ... changes that")
            self._told_folder = True
        return folder

    def save(self, file: str | Path = "model", return_path: bool = False, with_opt: bool = True) -> Path | None:
        """Write weights, optimizer state and the settings that belong to them: ``<file>.safetensors`` + ``.json``.

        Args:
            file: name without suffix, below the model folder (or an absolute path).
            return_path: return the weights' path.
            with_opt: include the optimizer's state, where there is one.
        """
        path = saving.save(self, saving.stem(self.model_folder(), file), with_opt=with_opt)  # by the first process
        return path if return_path else None

    def load(self, file: str | Path = "model", *, strict: bool = True, with_opt: bool | None = None) -> Self:
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
        saving.load(self, saving.saved_stem(Path(self.path), Path(self.model_dir), file), strict, with_opt)
        return self

    def export(self, file: str | Path = "export", **options: Unpack[ExportOptions]) -> Bundle:
        """Write a folder that predicts as this learner does without PyTorch, verified; ``load_learner`` reads it.

        Args:
            file: name of the folder, below ``path``; v1's ``export.pkl`` stands for ``export``.
            options: see ``ExportOptions``.

        Raises:
            ExportError: it does not answer as ``predict`` does, so nothing was written.
            ArgumentError: it is there already, a package is missing, or the network cannot be exported.
        """
        return saving.export(self, file, **options)

    def summary(self) -> str:
        """Return a table of the layers: output shape, parameters, whether they train."""
        x = self._data.one_batch().x[:1].to(self._data.device)
        self._layers.check(self)
        return cnn.model_summary(self.model, x, notes=self.trainer.describe(self.callbacks))

    def __repr__(self) -> str:
        total = sum(p.numel() for p in self.model.parameters())
        trainable = sum(p.numel() for p in self.model.parameters() if p.requires_grad)
        return (
            f"Learner: {total:,} parameters, {trainable:,} of them train, in {len(self.layer_groups)} layer groups; "
            f"{self._data.describe_targets()}; {self.trainer.epochs_done} epochs trained"
        )

    def say(self, text: str) -> None:
        """Print sentences, 80 columns wide, unless this learner is silent."""
        if not self.silent:
            print("\n".join(fill(line, 80) for line in text.splitlines()))
