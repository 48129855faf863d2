"""The layers of a learner's model: which group each is in, also after one was replaced, and what they give.

A ``learn`` here is a ``Learner``; its module imports this one, so the type is not named.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from onecycle.data.labels.items import DatasetType
from onecycle.errors import ArgumentError
from onecycle.model import cnn
from onecycle.train.device.batch_split import is_out_of_memory
from onecycle.train.evaluate import eval_mode
from onecycle.train.losses import ACTIVATIONS


class Layers:
    """Keeps the layer groups of one learner those of its model."""

    def __init__(self) -> None:
        self._group_of: dict[str, int] = {}  # by the parameters' names
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
        learn.network = None  # what makes the network again would make it as it was
        learn.forget_calibration()
        new = next((name.rpartition(".")[0] for name in names if name not in now), "none new")
        learn.say(f"learn.model has other layers than before (the first: {new}); its layer groups have them now.")
        return list(learn.trainer.layer_groups)

    def check(self, learn: Any) -> None:
        """See that layer groups and model agree and, once for each, that it gives one output a class.

        Raises:
            ArgumentError: see ``check_outputs``.
        """
        shapes = [(id(p), p.shape) for group in cnn.group_parameters(self.groups_of(learn)) for p in group]
        data = learn.data
        now = (shapes, learn.loss_func, learn.activation, data.lists.resize, data.c)
        if now == self._checked or not len(data.split.train):
            return
        x = learn.dataset_tensor(DatasetType.Train, 0)
        kind = "tags" if data.is_multi else "classes"
        outputs = check_outputs(learn.model, x, data.c, learn.activation, kind)
        check_loss_call(learn.loss_func, outputs, data.train_ds.targets[:1].to(outputs.device))
        self._checked = now


def check_outputs(model: nn.Module, x: Tensor, n_classes: int, activation: Any, kind: str) -> Tensor:
    """Pass one picture through a network, and compare what comes with the classes and the loss.

    Args:
        model: logits out.
        x: float ``(1, 3, H, W)``.
        n_classes: of the data.
        activation: turns outputs into probabilities.
        kind: ``classes`` or ``tags``.

    Returns:
        What it gives, ``(1, C)``.

    Raises:
        ArgumentError: it cannot take the picture, gives another number of outputs, or no probabilities.
    """
    try:
        with eval_mode(model), torch.inference_mode():
            outputs = model(x)
    except (RuntimeError, ValueError, TypeError) as error:
        if is_out_of_memory(error):
            raise
        size = " × ".join(map(str, x.shape[1:]))
        raise ArgumentError(f"the model cannot take a picture of this data, {size}: {error}") from error
    shape = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
    if shape != (len(x), n_classes):
        raise ArgumentError(
            f"the model gives {shape} for one picture, and the data has {n_classes} {kind}: expected "
            f"{(1, n_classes)}; let its last layer have {n_classes} outputs"
        )
    probs, of_logs = activation(outputs), activation is ACTIVATIONS["exp"]
    if bool(((probs < 0) | (probs > 1)).any()) or (of_logs and abs(float(probs.sum()) - 1) > 1e-3):
        raise ArgumentError(
            f"the loss takes the model's outputs for {'log-' if of_logs else ''}probabilities, and they are not: end "
            "the model with the activation, or use a loss that has it, as CrossEntropyFlat and BCEWithLogitsFlat do"
        )
    plain: Tensor = outputs.clone()  # what is born in inference mode cannot meet a loss with gradients
    return plain


def check_loss_call(loss_func: Any, outputs: Tensor, targets: Tensor) -> None:
    """Call a loss once, on one picture repeated: one row more than there are classes, so that no shape fits by chance.

    Raises:
        ArgumentError: it cannot compare outputs with targets, or gives no single number.
    """
    n = outputs.shape[1] + 1
    logits, truth = outputs.repeat(n, 1).requires_grad_(), targets.repeat(n, *[1] * (targets.ndim - 1))
    what = f"outputs {tuple(logits.shape)} with targets {tuple(truth.shape)} {truth.dtype}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of shapes before it refuses them
            loss = loss_func(logits, truth)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        if is_out_of_memory(error):
            raise
        raise ArgumentError(f"the loss cannot compare {what}: {error}") from error
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        shape = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
        raise ArgumentError(f"the loss gives {shape} for {what}, and training needs one number: take the mean")
