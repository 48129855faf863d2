"""The layers of a learner's model: which group each is in, also after one was replaced, and what they give.

A ``learn`` here is a ``Learner``; its module imports this one, so the type is not named.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from onecycle.data.bunch import ImageDataBunch
from onecycle.data.labels.items import DatasetType
from onecycle.errors import ArgumentError, OnecycleWarning, warn
from onecycle.model import cnn
from onecycle.train.device.batch_split import is_out_of_memory
from onecycle.train.device.precision import float32_products
from onecycle.train.evaluate import eval_mode
from onecycle.train.losses import ACTIVATIONS, known_activation


class Layers:
    """Keeps the layer groups of one learner those of its model."""

    def __init__(self) -> None:
        self._group_of: dict[str, int] = {}  # by the parameters' names
        self._made: tuple[dict[str, Any], list[tuple[str, str]]] | None = None  # what made the model, its layers then
        self._checked: object = None  # the model, data and loss whose outputs were compared with the classes

    def assign(self, learn: Any, groups: Sequence[nn.ModuleList]) -> None:
        """Take these layer groups.

        Raises:
            ArgumentError: a layer that is in no group, so that it would never train, or one that is not the model's.
        """
        group_of, named = cnn.group_of_each(learn.model, groups), dict(learn.model.named_parameters())
        if missing := [name for name in named if name not in group_of]:
            raise ArgumentError(
                f"{len(missing)} of the model's {len(named)} parameters are in no layer group, so they would never "
                f"train (the first: {missing[0]}): put every layer into a group, and freeze those that stand still"
            )
        if sum(map(len, cnn.group_parameters(groups))) > len(named):
            raise ArgumentError("layer_groups has layers that are not part of the model; make them from learn.model")
        self._group_of, learn.trainer.layer_groups, learn.trainer.optimizer = group_of, list(groups), None

    def groups_of(self, learn: Any) -> list[nn.ModuleList]:
        """Return the layer groups, with what was put into the model since: each layer where its namesake was."""
        groups: list[nn.ModuleList] = learn.trainer.layer_groups
        now, names = cnn.group_of_each(learn.model, groups), [name for name, _ in learn.model.named_parameters()]
        if len(now) == len(names) == sum(len(group) for group in cnn.group_parameters(groups)):
            return groups
        self.assign(learn, cnn.regroup(learn.model, self._group_of, len(groups)))
        learn.model.to(learn.data.device, memory_format=torch.channels_last)
        learn.forget_calibration()
        new = next((name.rpartition(".")[0] for name in names if name not in now), "none new")
        learn.say(f"learn.model has other layers than before (the first: {new}); its layer groups have them now.")
        return list(learn.trainer.layer_groups)

    def made_by(self, network: dict[str, Any] | None, model: nn.Module) -> None:
        """Remember what makes the model again, and which layers it has as it is made."""
        self._made = None if network is None else (network, _layers_of(model))

    def network_of(self, model: nn.Module) -> dict[str, Any] | None:
        """Return what makes the model again; None once it has other layers, with parameters or without."""
        return self._made[0] if self._made is not None and self._made[1] == _layers_of(model) else None

    def check(self, learn: Any) -> None:
        """See that layer groups and model agree and, once for each, that it gives one output a class.

        Raises:
            ArgumentError: see ``check_outputs``.
        """
        shapes = [(id(p), p.shape) for group in cnn.group_parameters(self.groups_of(learn)) for p in group]
        data = learn.data
        if not len(data.split.train):
            return
        now = (shapes, learn.loss_func, learn.activation, data.lists.resize, data.c)
        if now == self._checked:
            return
        check_dtype(learn.model)
        kind = data.labels.words
        for index in _extremes(data):
            x = learn.dataset_tensor(DatasetType.Train, index)
            outputs = check_outputs(learn.model, x, data.c, None if data.is_regression else learn.activation, kind)
        warn_of_company(learn.model, x, outputs)
        with torch.inference_mode(False), torch.enable_grad():  # wherever the user calls from
            check_loss_call(learn.loss_func, outputs.clone(), data.train_ds.targets[:1].to(outputs.device, copy=True))
        self._checked = now


class NetworkOfModel:
    """An attribute of a learner: what makes its network again, as long as the model has the layers of that time."""

    def __get__(self, learn: Any, owner: type) -> dict[str, Any] | None:
        return cast("Layers", learn._layers).network_of(learn.model)

    def __set__(self, learn: Any, value: dict[str, Any] | None) -> None:
        learn._layers.made_by(value, learn.model)


def _layers_of(model: nn.Module) -> list[tuple[str, str]]:
    """Return the name and the kind of every layer, with its settings; those of dropout do not count."""
    dropout = nn.modules.dropout._DropoutNd
    return [
        (name, f"{type(layer)} {'' if isinstance(layer, dropout) else layer.extra_repr()}")
        for name, layer in model.named_modules()
    ]


def check_dtype(model: nn.Module) -> None:
    """Refuse a network whose weights are not float32, as pictures are.

    Raises:
        ArgumentError: some are half or double floats.
    """
    odd = next((p for p in model.parameters() if p.is_floating_point() and p.dtype != torch.float32), None)
    if odd is not None:
        raise ArgumentError(
            f"the model has weights in {str(odd.dtype).removeprefix('torch.')}, and pictures are float32: undo that "
            "with learn.model.float(); precision='bf16', or 'fp16' on a GPU, makes training faster"
        )


def _extremes(data: ImageDataBunch) -> list[int]:
    """Return which training pictures to try a network on: the first, and where sizes differ, the lowest and narrowest.

    Raises:
        DataError: sizes differ, and a batch would have several pictures.
    """
    shapes = data.store.shapes
    if data.lists.resize.size is not None or shapes is None:
        return [0]
    for ds_type in (DatasetType.Train, DatasetType.Valid) if len(data.split.valid) else (DatasetType.Train,):
        loader = data.loader(ds_type)
        if loader.bs > 1:
            loader.check_one_shape(shapes[loader.dataset.rows], loader.dataset.rows)
    return [0, *shapes[data.split.train].argmin(axis=0).tolist()]


def check_outputs(model: nn.Module, x: Tensor, n_classes: int, activation: Any, kind: str) -> Tensor:
    """Pass one picture through a network, and compare what comes with the classes and the loss.

    Args:
        model: logits out.
        x: float ``(1, 3, H, W)``.
        n_classes: of the data.
        activation: turns outputs into probabilities; None where they are numbers.
        kind: what the labels are, in the plural.

    Returns:
        What it gives, ``(1, C)``; of one number a picture also ``(1,)``.

    Raises:
        ArgumentError: it cannot take the picture, gives another number of outputs, or no probabilities.
    """
    try:
        with eval_mode(model), torch.inference_mode(), float32_products():
            outputs = model(x)
    except (RuntimeError, ValueError, TypeError) as error:
        if is_out_of_memory(error):
            raise
        size = " × ".join(map(str, x.shape[1:]))
        raise ArgumentError(f"the model cannot take a picture of this data, {size}: {error}") from error
    shape = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
    of_one_number = shape == (len(x),) and activation is None and n_classes == 1
    if shape != (len(x), n_classes) and not of_one_number:
        raise ArgumentError(
            f"the model gives {shape} for one picture, and the data has {n_classes} {kind}: expected "
            f"{(1, n_classes)}; let its last layer have {n_classes} outputs"
        )
    if activation is not None:
        _check_probabilities(model, x, outputs, activation)
    with torch.inference_mode(False):
        plain: Tensor = outputs.clone()  # what is born in inference mode cannot meet a loss with gradients
    return plain


def _check_probabilities(model: nn.Module, x: Tensor, outputs: Tensor, activation: Any) -> None:
    probs, of_logs = activation(outputs), activation is ACTIVATIONS["exp"]
    if bool(((probs < 0) | (probs > 1)).any()) or (of_logs and abs(float(probs.sum()) - 1) > 1e-3):
        raise ArgumentError(
            f"the loss takes the model's outputs for {'log-' if of_logs else ''}probabilities, and they are not: end "
            "the model with the activation, or use a loss that has it, as CrossEntropyFlat and BCEWithLogitsFlat do"
        )
    _check_not_activated(model, x, outputs, activation)


def warn_of_company(model: nn.Module, x: Tensor, outputs: Tensor) -> None:
    """Warn where a network's outputs for a picture are not a function of that picture.

    Args:
        model: logits out.
        x: float ``(1, 3, H, W)``.
        outputs: what it gave for it, ``(1, C)``.

    Warns:
        OnecycleWarning: they differ from call to call, or with what else is in the batch.
    """
    try:
        with eval_mode(model), torch.inference_mode(), float32_products():
            again, beside = model(x), model(torch.cat([x, 1 - x.flip(3)]))
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):  # two are too many; one was not
            return
        raise ArgumentError(f"the model takes one picture of this data, and not two at a time: {error}") from error
    least = 1e-3 * max(1.0, float(outputs.abs().max()))
    if float((again - outputs).abs().max()) > least:
        warn(
            "the model gives other outputs for the same picture each time, so no score and no prediction can be "
            "repeated: something in it draws at random in evaluation, too (F.dropout(x) does; F.dropout(x, "
            "training=self.training) does not)",
            OnecycleWarning,
        )
    elif beside.shape[:1] != (2,) or float((beside[:1] - outputs).abs().max()) > least:
        warn(
            "what the model says of a picture depends on the other pictures of its batch (a batch-norm layer without "
            "running statistics?), so predict, which sees one at a time, differs from what validation measures",
            OnecycleWarning,
        )


def _check_not_activated(model: nn.Module, x: Tensor, outputs: Tensor, activation: Any) -> None:
    """Refuse a network that ends in the activation which the loss takes once more.

    Outputs of a softmax are shares of one. Those of a sigmoid stay between 0 and 1 however far away the picture is,
    and are not constant, as those of a head that begins with zeros.

    Raises:
        ArgumentError: it ends in one.
    """
    if not (bool((outputs >= 0).all()) and bool((outputs <= 1).all())):
        return
    twice = activation is ACTIVATIONS["softmax"] and outputs.shape[1] > 1 and abs(float(outputs.sum()) - 1) < 1e-4
    if activation is ACTIVATIONS["sigmoid"]:
        with eval_mode(model), torch.inference_mode(), float32_products():
            far = torch.cat([model(x * scale) for scale in (-100.0, 100.0)])
        twice = bool(((far >= 0) & (far <= 1)).all()) and bool((far != outputs).any())
    if twice:
        name = "softmax" if activation is ACTIVATIONS["softmax"] else "sigmoid"
        raise ArgumentError(
            f"the model ends in a {name}, and the loss takes the {name} of its outputs once more, so that no "
            "probability would be right: leave the last activation out of the model"
        )


def check_loss_call(loss_func: Any, outputs: Tensor, targets: Tensor) -> None:
    """Call a loss once on each of two batches: the first target repeated, and one of the first class or without tags.

    They have one row more than there are classes, so that no shape fits by chance.

    Raises:
        ArgumentError: it cannot compare outputs with targets, gives no single number, or none to train on; a loss of
            one's own that takes tags for shares of one.
    """
    n, many = outputs[0].numel() + 1, [1] * (targets.ndim - 1)
    logits = outputs.repeat(n, *[1] * (outputs.ndim - 1)).requires_grad_()
    for target in (targets, torch.zeros_like(targets)):
        _check_loss_value(loss_func, logits, target.repeat(n, *many))
    if targets.ndim == 2 and known_activation(loss_func) is None:
        spread = torch.linspace(-1, 1, logits.numel(), device=logits.device).view_as(logits)
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            moved = [float(loss_func(spread + c, targets.repeat(n, 1))) for c in (0.0, 2.0)]
        if abs(moved[1] - moved[0]) < 1e-4 * abs(moved[0]):
            raise ArgumentError(
                "the loss compares the outputs of a picture with one another, as cross-entropy does, and these labels "
                "are tags, each of which is there or not: leave loss_func out, or use BCEWithLogitsFlat, FocalLoss or "
                "AsymmetricLoss"
            )


def _check_loss_value(loss_func: Any, logits: Tensor, truth: Tensor) -> None:
    what = f"outputs {tuple(logits.shape)} with targets {tuple(truth.shape)} {truth.dtype}"
    usual = "BCEWithLogitsFlat" if truth.ndim == 2 else "CrossEntropyFlat"
    try:
        with warnings.catch_warnings(), torch.enable_grad():
            warnings.simplefilter("ignore")  # torch warns of shapes before it refuses them
            warnings.filterwarnings("error", message="Using a target size")  # of those that it spreads over each other
            loss = loss_func(logits, truth)
    except (RuntimeError, ValueError, TypeError, IndexError, UserWarning) as error:
        if is_out_of_memory(error):
            raise
        reason = str(error).partition(". This will likely")[0].rstrip(".")
        hint = "" if isinstance(error, ArgumentError) else f"; {usual} can"
        raise ArgumentError(f"the loss cannot compare {what}: {reason}{hint}") from error
    if not isinstance(loss, Tensor) or loss.ndim:
        shape = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
        raise ArgumentError(f"the loss gives {shape} for {what}, and training needs one number: take the mean")
    if not loss.requires_grad:
        raise ArgumentError(
            "the loss has no gradient, so nothing would be learned from it: compute it from the outputs with torch "
            "alone, without argmax, item(), detach() or numpy"
        )
