"""fastai v1's learner: onecycle's own, with what only v1's notebooks ask of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, Self

import numpy as np
import torch
from torch import Tensor, nn

from onecycle.data.augment.transforms import flatten, mirrored_views
from onecycle.data.labels.items import DatasetType
from onecycle.errors import ArgumentError, CheckpointError
from onecycle.fastai1.bunch.loader import OWN
from onecycle.fastai1.bunch.own_data import is_own, own_batches
from onecycle.fastai1.networks.bodies import model_meta
from onecycle.fastai1.networks.losses import CrossEntropyFlat
from onecycle.fastai1.training import protocol
from onecycle.fastai1.training.interpretation import ClassificationInterpretation
from onecycle.fastai1.training.optimizer import OptimWrapper
from onecycle.fastai1.training.schedules import FlatCosine, GeneralScheduler, OneCycleScheduler
from onecycle.learner import cnn
from onecycle.learner import learner as product
from onecycle.learner.fits.checkpoints import CheckpointCallback
from onecycle.learner.options import listed
from onecycle.model.cnn import split_model
from onecycle.train import monitors
from onecycle.train.callbacks import checked_callbacks
from onecycle.train.evaluate import eval_mode
from onecycle.train.loop import Callback
from onecycle.train.losses import ACTIVATIONS, LabelSmoothingCrossEntropy, known_activation
from onecycle.train.metrics import metric_name

__all__ = ["Learner", "cnn_learner", "create_cnn"]

_IDLE = ("add_time", "extra_callback_fns", "extra_callbacks")
"""Keywords of v1's learner that change nothing here."""


_OF_PICTURES = (
    *("TTA", "backward", "export", "features", "fine_tune", "label_issues", "predict", "predict_with_mc_dropout"),
    *("predictor", "report", "show_results", "similar", "solve_head"),
)
"""Methods that need pictures which onecycle reads, or what it knows of their labels."""


def _needs_pictures(method: str, *_: Any, **__: Any) -> NoReturn:
    raise ArgumentError(
        f"{OWN}, and {method}() needs pictures and labels that onecycle reads (an ImageDataBunch): fit, lr_find, "
        "validate, get_preds, pred_batch(batch=(x, y)), save and load work with any data"
    )


class Learner(product.Learner):
    """onecycle's learner with v1's other methods, and callbacks and metrics in v1's protocol.

    Args:
        data, model, opt_func, loss_func, metrics: as there; metrics may be callbacks of v1's protocol.
        options: as there; ``callbacks`` and ``callback_fns`` may be of v1's protocol.
    """

    _epochs, _start_epoch = 0, 0  # of the fit that runs
    _tta_said = False

    def __init__(
        self,
        data: Any,
        model: nn.Module,
        opt_func: Any = None,
        loss_func: Any = None,
        metrics: Any = None,
        **options: Any,
    ) -> None:
        for name in _IDLE:
            options.pop(name, None)
        given = {} if opt_func is None else {"opt_func": opt_func}
        loss_func = getattr(data, "chosen_loss", None) if loss_func is None else loss_func
        super().__init__(data, model, loss_func=loss_func, metrics=metrics, **given, **options)
        if is_own(data):
            vars(self).update({name: partial(_needs_pictures, name) for name in _OF_PICTURES})

    # -- callbacks in v1's protocol -----------------------------------------------------------------------------

    def _checked(self, metrics: Any) -> list[Any]:
        chosen = protocol.as_metrics(listed(metrics))
        return chosen if is_own(self._data) and self._data.is_regression else super()._checked(chosen)

    def all_callbacks(self, extra: Any = None) -> list[Any]:
        """Return the callbacks of a coming fit, those of v1's protocol in what translates for them."""
        made = [make(self) if callable(make) else make for make in self.callback_fns]
        theirs, ours = protocol.told_apart([*made, *self.callbacks, *listed(extra)])
        for callback in (*theirs, *ours):
            name = protocol.snake(type(callback).__name__)
            if not hasattr(type(self), name):  # a callback does not hide a method
                setattr(self, name, callback)
        ours = [cb for cb in ours if not isinstance(cb, GeneralScheduler)]
        for callback in (cb for cb in ours if isinstance(cb, monitors.TrackerCallback)):
            if callback.mode == "auto" and monitors.falls(callback.monitor) is None:
                callback.mode = "max"  # as in v1, where all but losses and errors should rise
        return checked_callbacks([*ours, *([protocol.Adapter(theirs)] if theirs else [])], self)

    @contextmanager
    def _fitting(self, callbacks: Any) -> Iterator[dict[str, Any]]:
        with super()._fitting(callbacks) as of_fit:
            for saver in (cb for cb in of_fit["callbacks"] if isinstance(cb, monitors.SaveModelCallback)):
                if saver.every == "epoch" and self._start_epoch:
                    self._jump(f"{saver.name}_{self._start_epoch - 1}")
            for adapter in (cb for cb in of_fit["callbacks"] if isinstance(cb, protocol.Adapter)):
                if any(isinstance(cb, CheckpointCallback) for cb in of_fit["callbacks"]):
                    adapter.say_what_is_lost()
                adapter.begin(of_fit["recorder"], of_fit["metrics"], self._epochs)
                for name in ("train_loader", "valid_loader"):
                    of_fit[name] = protocol.told_batches(of_fit[name], adapter, train=name == "train_loader")
            yield of_fit

    def fit_schedule(self, epochs: int, *how: Any, **options: Any) -> None:
        """Train for some epochs with a schedule."""
        self._epochs, self._start_epoch = epochs, options.get("start_epoch", 0)
        super().fit_schedule(epochs, *how, **options)

    def _jump(self, file: str) -> None:
        """Load what an earlier fit saved after the epoch before the first one of this fit; it may be gone."""
        try:
            self.load(file)
            self.say(f"Loaded {file}")
        except CheckpointError as error:
            self.say(f"Model {file} not found: {error}")

    def _new_recorder(self) -> protocol.Recorder:
        return protocol.Recorder(_distinct(metric_name(metric) for metric in listed(self.metrics)))

    def fit(self, epochs: int, lr: Any = product.DEFAULT_LR, wd: float | None = None, callbacks: Any = None) -> None:
        """Train for some epochs at a constant rate, or by the ``GeneralScheduler`` among the callbacks."""
        kinds = (GeneralScheduler, OneCycleScheduler)
        made = [make(self) for make in self.callback_fns if getattr(make, "func", make) in kinds]
        chosen = [cb for cb in (*made, *self.callbacks, *listed(callbacks)) if isinstance(cb, GeneralScheduler)]
        if not chosen:
            return super().fit(epochs, lr, wd, callbacks)
        general, stop = chosen[-1], StopAfter(chosen[-1].n_steps(epochs))
        schedule, both = general.schedule(epochs), [*listed(callbacks), stop]
        return self.fit_schedule(epochs, schedule, wd, both, start_epoch=general.start_epoch)

    def fit_one_cycle(
        self, cyc_len: int, max_lr: Any = product.DEFAULT_LR, moms: Any = (0.95, 0.85), div_factor: float = 25.0,
        pct_start: float = 0.3, final_div: float | None = None, wd: float | None = None, callbacks: Any = None,
        tot_epochs: int | None = None, start_epoch: int | None = None,
    ) -> None:  # fmt: skip
        """Train with the 1cycle policy, from epoch ``start_epoch`` up to epoch ``cyc_len`` of ``tot_epochs``."""
        epochs = cyc_len if tot_epochs is None else cyc_len - (start_epoch or 0)
        how = (max_lr, moms, div_factor, pct_start, final_div, wd, callbacks)
        super().fit_one_cycle(epochs, *how, tot_epochs=tot_epochs, start_epoch=start_epoch)

    def lr_range(self, lr: Any) -> list[float]:
        """Return one learning rate a layer group; an array has one for each."""
        return super().lr_range(lr.tolist() if isinstance(lr, np.ndarray) else lr)

    # -- parts of it --------------------------------------------------------------------------------------------

    def dl(self, ds_type: DatasetType = DatasetType.Valid) -> Any:
        """Return the batches of one part, normalised as the network takes them."""
        _ = self.norm_stats
        return self.data.dl(ds_type)  # type: ignore[attr-defined]

    def split(self, split_on: Any) -> Self:
        """Split the layers into groups at modules, or at what a function of the model returns."""
        asked = split_on(self.model) if callable(split_on) and not isinstance(split_on, nn.Module) else split_on
        self.layer_groups = split_model(self.model, begins_of(asked))
        return self

    @property
    def opt(self) -> OptimWrapper:
        """The optimizer."""
        return OptimWrapper(self.trainer.ensure_optimizer())

    def create_opt(self, lr: Any = None, wd: float | None = None) -> None:
        """Make a fresh optimizer."""
        self.trainer.optimizer = None
        self.trainer.ensure_optimizer()

    def init(self, init: Callable[[Tensor], object]) -> None:
        """Draw all weights anew."""
        for layer in self.model.modules():
            weight = getattr(layer, "weight", None)
            if isinstance(weight, Tensor) and weight.ndim > 1:
                init(weight)

    # -- keywords and names -------------------------------------------------------------------------------------

    def load(
        self, file: Any = None, device: Any = None, strict: bool = True, with_opt: bool | None = None,
        purge: bool = True, remove_module: bool = False,
    ) -> Self:  # fmt: skip
        """Read what ``save`` wrote; ``device``, ``purge`` and ``remove_module`` mean nothing here."""
        return super().load("model" if file is None else file, strict=strict, with_opt=with_opt)

    def save(self, file: Any = None, return_path: bool = False, with_opt: bool = True) -> Path | None:
        """Write weights and settings."""
        return super().save("model" if file is None else file, return_path, with_opt)

    def export(self, file: Any = "export.pkl", destroy: bool = False, **options: Any) -> Any:
        """Write what predicts; as in v1 it replaces an earlier export."""
        return super().export(file, **{"force": True, **options})

    def to_fp16(self, *_: Any, clip: float | None = None, **__: Any) -> Self:
        """Train in half floats on a GPU; without one in float32, which is said. v1's other options change nothing."""
        if clip is not None:
            self.clip_grad(clip)
        try:
            super().to_fp16()
        except ArgumentError as error:
            self.say(f"to_fp16(): {error}. Training goes on in float32.")
        return self

    def purge(self, clear_opt: bool = True) -> Self:
        """Free memory: here there is nothing to free but the optimizer."""
        if clear_opt:
            self.trainer.optimizer = None
        return self

    def destroy(self) -> None:
        """Free memory."""
        self.purge()

    def fit_fc(
        self, tot_epochs: int = 1, lr: Any = 3e-3, moms: Any = (0.95, 0.85), start_pct: float = 0.72,
        wd: float | None = None, callbacks: Any = None,
    ) -> None:  # fmt: skip
        """Train at a constant rate, then let it fall along a cosine."""
        n_steps, both = len(self.data.train_dl) * tot_epochs, (float(moms[0]), float(moms[1]))
        schedule = FlatCosine(n_steps, tuple(self.lr_range(lr)), start_pct, both)
        self.fit_schedule(tot_epochs, schedule, wd, callbacks)

    # -- predictions --------------------------------------------------------------------------------------------

    def get_preds(
        self, ds_type: Any = DatasetType.Valid, activ: Any = None, with_loss: bool = False, n_batch: int | None = None,
        pbar: Any = None, **how: Any,
    ) -> list[Tensor]:  # fmt: skip
        """Predict one part of the data; ``is_test`` is an older spelling, ``n_batch`` gives the first batches alone."""
        wanted = DatasetType.Test if how.pop("is_test", False) is True or ds_type is True else ds_type
        how.pop("ordered", None)
        found = super().get_preds(wanted, activ or self._usual_activation(), with_loss, **how)
        return found if n_batch is None else [column[: n_batch * self.dl(wanted).batch_size] for column in found]

    def validate(self, dl: Any = None, callbacks: Any = None, metrics: Any = None) -> list[Any]:
        """Return the loss and each metric, metrics as tensors; without ``dl`` over the validation pictures.

        Callbacks of v1's protocol, the learner's own and ``callbacks``, are told of it as of an epoch.
        """
        theirs, _ = protocol.told_apart([*self.callbacks, *listed(callbacks)])
        if not theirs:
            return _values(*super().validate(dl, metrics=metrics))
        with protocol.Adapter(theirs).judging(self.trainer, self._new_recorder()) as adapter:
            self._judging = adapter
            try:
                loss, *values = super().validate(dl, metrics=metrics)
            finally:
                self._judging = None
            return _values(*adapter.judged(loss, values))

    _judging: protocol.Adapter | None = None  # what tells callbacks of a validation outside of a fit

    def _to_judge(self, dl: Any) -> Any:
        loader = own_batches(self._data, dl) if is_own(self._data) else super()._to_judge(dl)
        return loader if self._judging is None else protocol.told_batches(loader, self._judging, train=False)

    def TTA(
        self, beta: float | None = 0.4, scale: float = 1.35, ds_type: Any = DatasetType.Valid, activ: Any = None,
        with_loss: bool = False, is_test: bool = False,
    ) -> list[Tensor]:  # fmt: skip
        """Predict with test-time augmentation; ``is_test`` is an older spelling."""
        tfms = self.data.train_tfms
        as_v1 = mirrored_views(tfms) > 1 and any(t.name in ("zoom", "zoom_squish") and t.p > 0 for t in flatten(tfms))
        if not (as_v1 or self._tta_said):
            self._tta_said = True
            self.say(
                "TTA looks at four corners, mirrored and zoomed where training mirrors and zooms; fastai v1 always "
                "took eight, mirrored and zoomed, so its numbers may differ."
            )
        wanted = DatasetType.Test if is_test or ds_type is True else ds_type
        usual = None if with_loss else self._usual_activation()  # a loss is computed from probabilities
        return super().TTA(beta, scale, wanted, activ or usual, with_loss)

    def _usual_activation(self) -> Callable[[Tensor], Tensor]:
        """Return what v1 put behind a loss: nothing, where it did not know the loss or labels were smoothed."""
        smoothed, axis = isinstance(self.loss_func, LabelSmoothingCrossEntropy), getattr(self.loss_func, "axis", -1)
        if isinstance(self.loss_func, CrossEntropyFlat) and axis != -1:
            return partial(torch.softmax, dim=axis)
        return ACTIVATIONS[(not smoothed and known_activation(self.loss_func)) or "identity"]

    def predict(
        self, item: Any, return_x: bool = False, batch_first: bool = True, with_dropout: bool = False, **how: Any
    ) -> Any:
        """Predict one picture."""
        found = super().predict(item, **how)
        return (item, *found) if return_x else found

    def interpret(self, ds_type: Any = DatasetType.Valid, tta: bool = False) -> ClassificationInterpretation:
        """Return the interpretation of this learner's predictions."""
        return ClassificationInterpretation.from_learner(self, ds_type, tta=tta)

    def predict_with_mc_dropout(self, item: Any, with_dropout: bool = True, n_times: int = 10) -> list[Any]:
        """Predict one picture several times with the network's dropout left on."""
        dropouts = [m for m in self.model.modules() if isinstance(m, nn.modules.dropout._DropoutNd)]
        x, _ = self.data.one_item(item)  # type: ignore[attr-defined]
        found = []
        for _ in range(n_times):
            with eval_mode(self.model), torch.inference_mode():
                for layer in dropouts:
                    layer.train(with_dropout)
                probs = self.activation(self.model(x).float().cpu())[0].clone()
            decided = (probs >= 0.5).int().numpy() if self.data.is_multi else np.asarray(probs.argmax().item())
            label = self.label_of(decided)
            found.append((label, torch.tensor(label.data), probs))
        return found

    def backward(self, item: Any) -> tuple[Any, ...]:
        """Predict one picture, and compute the gradients of its loss against the most probable class."""
        x, _ = self.data.one_item(item)  # type: ignore[attr-defined]
        out = self.model.eval()(x)
        loss = self.loss_func(out, out.argmax(dim=1) if not self.data.is_multi else (out > 0).float())
        loss.backward()
        return out.detach(), loss.detach()


def _values(loss: Any, *metrics: Any) -> list[Any]:
    return [loss, *(torch.as_tensor(value, dtype=torch.float64) for value in metrics)]


def _distinct(names: Iterable[str]) -> list[str]:
    """Number names that come twice: in v1 columns of the log could have the same one."""
    taken = ["epoch", "train_loss", "valid_loss", "time"]
    for name in names:
        n, free = 1, name
        while free in taken:
            n, free = n + 1, f"{name}_{n + 1}"
        taken.append(free)
    return taken[4:]


class StopAfter(Callback):
    """End a fit after some steps."""

    def __init__(self, n_steps: int) -> None:
        self.left = n_steps

    def on_batch_end(self, trainer: Any, loss: Tensor) -> None:
        """Count."""
        self.left -= 1
        if self.left == 0 and trainer.batch_no + 1 < trainer.n_batches:
            trainer.stop_training = True

    def on_epoch_end(self, trainer: Any, row: Any) -> None:
        """End."""
        trainer.stop_training = trainer.stop_training or self.left <= 0


def begins_of(parts: Any) -> list[nn.Module]:
    """Return the modules at which groups begin, of one module, several, or lists with the modules of each group."""
    if isinstance(parts, nn.Module):
        return [parts]
    return [part if isinstance(part, nn.Module) else next(iter(part)) for part in parts]


def cnn_learner(
    data: Any,
    base_arch: Any = None,
    cut: Any = None,
    pretrained: bool = True,
    lin_ftrs: Sequence[int] | None = None,
    ps: Any = 0.5,
    custom_head: nn.Module | None = None,
    split_on: Any = None,
    bn_final: bool = False,
    init: Any = nn.init.kaiming_normal_,
    concat_pool: bool = True,
    **options: Any,
) -> Learner:
    """Make a learner from a pretrained network with a new head; see ``onecycle.vision.cnn_learner``.

    Its older keyword ``arch`` stands for ``base_arch``.
    """
    arch = options.pop("arch", base_arch)
    if arch in model_meta:  # where a notebook says itself how a network is cut
        cut, split_on = model_meta[arch]["cut"] if cut is None else cut, split_on or model_meta[arch]["split"]
    given = {
        "lin_ftrs": lin_ftrs, "ps": ps, "custom_head": custom_head, "split_on": split_on, "bn_final": bn_final,
        "init": init, "concat_pool": concat_pool,
    }  # fmt: skip
    usual = {"lin_ftrs": None, "ps": 0.5, "custom_head": None, "split_on": None, "bn_final": False, "concat_pool": True}
    said = {k: v for k, v in given.items() if v is not usual.get(k, nn.init.kaiming_normal_)}
    for name in _IDLE:
        options.pop(name, None)
    return cnn.make_cnn_learner(Learner, data, arch, cut, pretrained, **said, **options)


create_cnn = cnn_learner
