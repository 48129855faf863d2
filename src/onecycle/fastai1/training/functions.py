"""fastai v1's functions of the training loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from onecycle.train.evaluate import eval_mode
from onecycle.train.losses import activation_for, per_item_loss

__all__ = [
    "NoneReduceOnCPU", "_loss_func2activ", "fit", "fit_fc", "fit_one_cycle", "get_preds", "loss_batch", "lr_find",
    "mixup", "to_fp16", "to_fp32", "train_epoch", "validate",
]  # fmt: skip


def fit_one_cycle(learn: Any, cyc_len: int, *args: Any, **options: Any) -> None:
    """Train ``learn`` with the 1cycle policy."""
    learn.fit_one_cycle(cyc_len, *args, **options)


def fit(epochs: int, learn: Any, callbacks: Any = None, metrics: Any = None) -> None:
    """Train ``learn`` for some epochs."""
    if metrics is not None:
        learn.metrics = metrics
    learn.fit(epochs, callbacks=callbacks)


def train_epoch(model: Any, dl: Any, opt: Any, loss_func: Any) -> None:
    """Train a network for one pass over batches."""
    model.train()
    for x, y in dl:
        loss_func(model(x), y).backward()
        opt.step()
        opt.zero_grad()


def fit_fc(learn: Any, *args: Any, **options: Any) -> None:
    """Train ``learn`` at a constant rate, then let it fall."""
    learn.fit_fc(*args, **options)


def lr_find(learn: Any, *args: Any, **options: Any) -> None:
    """Sweep the learning rate of ``learn``."""
    learn.lr_find(*args, **options)


def to_fp16(learn: Any, *args: Any, **options: Any) -> Any:
    """Train ``learn`` in half floats."""
    return learn.to_fp16(*args, **options)


def to_fp32(learn: Any) -> Any:
    """Train ``learn`` in float32."""
    return learn.to_fp32()


def mixup(learn: Any, *args: Any, **options: Any) -> Any:
    """Train ``learn`` on mixtures."""
    return learn.mixup(*args, **options)


def _loss_func2activ(loss_func: Any) -> Callable[[Tensor], Tensor]:
    """Return what turns outputs into probabilities for a loss."""
    return activation_for(loss_func)


def loss_batch(
    model: Any, xb: Tensor, yb: Any, loss_func: Any = None, opt: Any = None, cb_handler: Any = None
) -> tuple[Any, Any]:
    """Pass one batch: without a loss (outputs, target), without an optimizer (loss, number), else an update."""
    out = model(xb)
    if loss_func is None:
        return out.detach(), yb.detach()
    loss = loss_func(out, yb)
    if opt is not None:
        loss.backward()
        opt.step()
        opt.zero_grad()
    return (loss, len(yb)) if opt is None else (loss.detach().cpu(), None)


def _outputs(model: Any, dl: Any, n_batch: int | None, pbar: Any) -> Iterator[tuple[Tensor, Tensor]]:
    batches = iter(dl)
    with eval_mode(model), torch.no_grad():
        for i, (x, y) in enumerate(batches):
            if n_batch is not None and i >= n_batch:
                return
            if pbar is not None and hasattr(pbar, "child"):
                pbar.child.comment = ""
            yield model(x).float().cpu(), y.cpu()


def get_preds(
    model: Any, dl: Any, pbar: Any = None, cb_handler: Any = None, activ: Any = None, loss_func: Any = None,
    n_batch: int | None = None,
) -> list[Tensor]:  # fmt: skip
    """Return outputs over batches (through ``activ``), targets and, with a loss, that of each item."""
    outputs, targets = (torch.cat(column) for column in zip(*_outputs(model, dl, n_batch, pbar), strict=True))
    losses = [] if loss_func is None else [per_item_loss(loss_func, outputs, targets)]
    return [outputs if activ is None else activ(outputs), targets, *losses]


def validate(
    model: Any, dl: Any, loss_func: Any = None, cb_handler: Any = None, pbar: Any = None, average: bool = True,
    n_batch: int | None = None,
) -> Any:  # fmt: skip
    """Return the mean loss; with ``average=False`` that of each batch, without a loss (outputs, targets) of each."""
    pairs = list(_outputs(model, dl, n_batch, pbar))
    if loss_func is None:
        return pairs
    losses = [float(loss_func(outputs, targets)) for outputs, targets in pairs]
    sizes = [len(targets) for _, targets in pairs]
    return sum(a * b for a, b in zip(losses, sizes, strict=True)) / sum(sizes) if average else losses


@contextmanager
def NoneReduceOnCPU(loss_func: Any) -> Iterator[Callable[[Tensor, Tensor], Tensor]]:
    """Give the loss of each item instead of their mean."""
    yield lambda outputs, targets: per_item_loss(loss_func, outputs.cpu(), targets.cpu())
