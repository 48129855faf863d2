"""Judging a model: its logits, losses and metrics over a whole set, in evaluation mode."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Sized
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import nn

from onecycle.errors import ArgumentError
from onecycle.train.device.batch_split import BatchSplit
from onecycle.train.device.host_memory import keep_freed_memory
from onecycle.train.device.precision import Precision
from onecycle.train.device.ranks import Ranks
from onecycle.train.losses import LossFunc, per_item_loss

if TYPE_CHECKING:
    from onecycle.train.log.recorder import MetricValue
    from onecycle.train.metrics import Metric


class BatchLike(Protocol):
    """Pictures ``x`` float (N, 3, H, W), targets ``y`` int64 (N,) or float (N, C), ``indices`` int64 (N,)."""

    x: torch.Tensor
    y: torch.Tensor
    indices: torch.Tensor


class Loader(Sized, Protocol):
    """Batches whose order and augmentation are functions of (seed, epoch, step)."""

    def __iter__(self) -> Iterator[BatchLike]: ...
    def set_epoch(self, epoch: int) -> None: ...


def batches_between(loader: Loader, first: int, end: int | None = None) -> Iterator[BatchLike]:
    """Return an epoch's batches from one on and before another; a loader that cannot begin there makes all."""
    begin: Callable[[int, int | None], Iterator[BatchLike]] | None = getattr(loader, "from_step", None)
    if (first, end) == (0, None):
        return iter(loader)
    return islice(loader, first, end) if begin is None else begin(first, end)


@dataclass(frozen=True)
class Outputs:
    """What a network says about a whole set, on the CPU."""

    logits: torch.Tensor  # (N, C) float32
    targets: torch.Tensor  # (N,) int64 or (N, C) float32, as the loader gave them
    losses: torch.Tensor  # (N,) float32, loss of each item; zeros without a loss function


def evaluate(
    model: nn.Module,
    loader: Loader,
    loss_func: LossFunc | None,
    precision: Precision | None = None,
    ranks: Ranks | None = None,
) -> Outputs:
    """Run the model over a loader in evaluation mode; afterwards every layer is in the mode it was in.

    A batch that does not fit into memory goes through in slices, which changes nothing but the speed.

    Args:
        model: logits out.
        loader: batches in the order of the data set.
        loss_func: (logits, targets) → mean loss; None where the truth is not known.
        precision: what the network computes in. ``None``, as for all numbers that this package reports, is
            float32 whatever the training's precision was.
        ranks: processes that all call this with the same loader: each judges a share of the batches, and all get all.

    Returns:
        Logits, targets and the loss of each item, gathered from the device once.

    Raises:
        ArgumentError: the loader has no batch.
        OutOfMemoryError: a single item does not fit into memory.
    """
    batches: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
    n, ranks = len(loader), ranks or Ranks()
    if n < ranks.size:  # a process without a batch would not know how many classes there are
        ranks = Ranks()
    own = ranks.share(n)
    split, chosen = BatchSplit(), precision or Precision()
    # For one batch (a single picture, say) giving the memory back would cost more than keeping it gains.
    memory = keep_freed_memory() if n > 1 else nullcontext()
    with memory, eval_mode(model), torch.inference_mode(), chosen.arithmetic():
        for batch in batches_between(loader, own.start, None if ranks.size == 1 else own.stop):
            with chosen.autocast(batch.x.device):
                logits = split.forward(model, batch.x)
            logits = logits.float()
            losses = logits.new_zeros(len(logits)) if loss_func is None else per_item_loss(loss_func, logits, batch.y)
            batches.append((logits, batch.y, losses))
        if not batches:
            raise ArgumentError("there is nothing to evaluate: the loader has no batch")
        logits, targets, losses = (ranks.joined(torch.cat(c).cpu()) for c in zip(*batches, strict=True))
    # Tensors born in inference mode cannot be used in autograd later; a copy can.
    return Outputs(logits.clone(), targets.clone(), losses.float().clone())


def validate(
    model: nn.Module, loader: Loader, loss_func: LossFunc, metrics: Sequence[Metric] = ()
) -> tuple[float, list[MetricValue]]:
    """Return the loss and each metric, all over the whole set at once and in float32."""
    return measured(model, evaluate(model, loader, loss_func), loss_func, metrics)


def measured(
    model: nn.Module, outputs: Outputs, loss_func: LossFunc, metrics: Sequence[Metric] = ()
) -> tuple[float, list[MetricValue]]:
    """Return the loss and each metric of what a model said about a whole set."""
    values = [_value(metric, outputs) for metric in metrics]
    device = next((p.device for p in model.parameters()), torch.device("cpu"))  # where the loss's weights are
    with torch.inference_mode():
        loss = loss_func(outputs.logits.to(device), outputs.targets.to(device))
    return float(loss), values


def _value(metric: Metric, outputs: Outputs) -> MetricValue:
    """Return a metric's value as a float, or as nested lists where it is a table (such as a confusion matrix).

    Raises:
        ArgumentError: it is neither.
    """
    value: Any = metric(outputs.logits, outputs.targets)
    n, n_classes = len(outputs.logits), outputs.logits[:1].numel()
    hint = ""
    try:
        tensor = torch.as_tensor(value)
        hint = (
            "; it is one number a picture: take its mean()" if tensor.shape == (n,) and n not in (1, n_classes) else ""
        )
        if not (hint or tensor.is_complex() or isinstance(value, str) or tensor.numel() == 0):
            return float(tensor.item()) if tensor.numel() == 1 else list(tensor.tolist())
    except (TypeError, ValueError, RuntimeError):
        pass
    from onecycle.train.metrics import metric_name

    raise ArgumentError(
        f"the metric {metric_name(metric)!r} returned {value!r:.200}, of type {type(value).__name__}; a metric is a "
        f"function (logits, targets) that returns one number, or a table of numbers{hint}"
    )


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; every layer's own mode again afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
