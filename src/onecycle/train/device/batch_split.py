"""A batch that does not fit into memory goes through the network in parts, with the same gradient."""

from __future__ import annotations

import gc
import traceback
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from onecycle.errors import OnecycleWarning, OutOfMemoryError, warn

T = TypeVar("T")

_SIGNS = (
    "can't allocate memory",  # torch's allocator of the CPU
    "out of memory",  # CUDA errors outside torch's allocator, and MPS
    "CUBLAS_STATUS_ALLOC_FAILED",
    "std::bad_alloc",
)
"""What the message of a RuntimeError says when memory ran out; torch has a class for some cases only."""


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an error means that memory ran out, on the CPU or on the device."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)


class BatchSplit:
    """How many pictures of a batch go through the network at a time; it learns from running out of memory.

    What was learned holds for batches of one picture size, for as long as this object lives.

    Args:
        tell: warn when batches are split, since training is a little different then: batch-norm layers see the
            statistics of each part, and also count the pass that did not fit.

    On Linux a process that asks for more than the machine has may be killed before torch is told that there is no
    memory; nothing in the process can catch that.
    """

    def __init__(self, *, tell: bool = False) -> None:
        self._tell = tell
        self._sizes: dict[tuple[int, ...], int] = {}

    def run(
        self, network: nn.Module, x: Tensor, work: Callable[[list[slice]], T], *, undo: Callable[[], None] | None = None
    ) -> T:
        """Do a batch's work, in smaller parts each time that memory runs out.

        Args:
            network: what the batch goes through.
            x: (N, …) the batch.
            work: gets the parts, slices that cover 0 … N, and does the whole work with them.
            undo: puts back what ``work`` may have changed before it failed, and frees what it kept.

        Returns:
            what ``work`` returns.

        Raises:
            OutOfMemoryError: the smallest part does not fit either.
        """
        n, shape = len(x), tuple(x.shape[1:])
        size = before = min(self._sizes.get(shape, n), n)
        while True:
            parts = even_parts(n, size, smallest=_smallest_part(network) if size < n else 1)
            try:
                done = work(parts)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                size = _smaller(parts, network, x, error)
                # The frames of the failed attempt hold its activations.
                traceback.clear_frames(error.__traceback__)
            else:
                if size < before:
                    self._remember(shape, size, parts, network)
                return done
            if undo is not None:
                undo()
            _free_caches(x.device)

    def forward(self, network: nn.Module, x: Tensor) -> Tensor:
        """Return the network's output ``(N, …)`` for a batch, in parts where the whole does not fit.

        For evaluation: in training mode, batch-norm layers would see each part for itself.
        """
        return self.run(network, x, lambda parts: _joined([network(x[part]) for part in parts]))

    def _remember(self, shape: tuple[int, ...], size: int, parts: Sequence[slice], network: nn.Module) -> None:
        self._sizes[shape] = size
        if not self._tell:
            return
        norms = any(isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training for m in network.modules())
        n, each = parts[-1].stop, parts[0].stop
        most = "" if n % len(parts) == 0 else "at most "
        note = f"; batch-norm layers see {each} pictures at a time" if norms else ""
        warn(
            f"a batch of {n} did not fit into memory: each step now takes {len(parts)} × {most}{each} pictures "
            f"and updates once, with the gradient of all {n}; pass bs={each} to choose it yourself{note}",
            OnecycleWarning,
        )


def even_parts(n: int, size: int, *, smallest: int = 1) -> list[slice]:
    """Cut 0 … n into as few parts of at most ``size`` as will do, all equal to within one.

    Args:
        n: length of the whole, at least 1.
        size: the most that a part may have, at least 1.
        smallest: the least that a part must have; it goes before ``size``.
    """
    count = max(1, min(-(-n // size), n // smallest))
    short, longer = divmod(n, count)
    ends = [(i + 1) * short + min(i + 1, longer) for i in range(count)]
    return [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]


def part_shares(loss_func: Any, y: Any, parts: Sequence[slice]) -> list[float | Tensor]:
    """Return what the loss of each part weighs, so that their sum is the loss of the whole batch.

    A mean weighs by items; cross-entropy with class weights is a mean over the weights, as in torch; a sum weighs
    each part by one.

    Args:
        loss_func: (logits, targets) → loss; its attributes ``reduction`` and ``weight`` are looked at.
        y: the batch's targets.
        parts: slices that cover the batch.

    Returns:
        a number for each part, or a 0-d tensor on the targets' device, so that nothing waits for it.
    """
    if len(parts) == 1 or getattr(loss_func, "reduction", "mean") == "sum":
        return [1.0] * len(parts)
    weight = loss_func.weight if isinstance(loss_func, (nn.CrossEntropyLoss, nn.NLLLoss)) else None
    if weight is not None and isinstance(y, Tensor) and not y.is_floating_point():
        of_item = weight.to(y.device)[y]
        return [of_item[part].sum() / of_item.sum() for part in parts]
    return [(part.stop - part.start) / parts[-1].stop for part in parts]


def take_part(values: Any, part: slice) -> Any:
    """Return a part of a batch's targets: a tensor (N, …), or a tuple or list of such."""
    if isinstance(values, (tuple, list)):
        return type(values)(take_part(value, part) for value in values)
    return values[part]


def _smallest_part(network: nn.Module) -> int:
    """Two where a head's batch-norm trains: it has no statistics of a single row."""
    return 2 if any(isinstance(m, nn.BatchNorm1d) and m.training for m in network.modules()) else 1


def _smaller(parts: Sequence[slice], network: nn.Module, x: Tensor, error: BaseException) -> int:
    """Return the next size to try.

    Raises:
        OutOfMemoryError: there is none.
    """
    longest: int = parts[0].stop
    size = -(-longest // 2)
    if even_parts(len(x), size, smallest=_smallest_part(network)) == list(parts):
        traceback.clear_frames(error.__traceback__)
        height_width = "×".join(str(side) for side in x.shape[2:])
        pictures = f"pictures of {height_width} px" if height_width else "items"
        raise OutOfMemoryError(
            f"the memory of {x.device} is too small for {longest} {pictures} at a time, and fewer cannot be "
            "taken: pass a smaller size or a smaller network, freeze() more of it, or free memory that others use"
        ) from error
    return size


def _joined(outputs: Sequence[Tensor]) -> Tensor:
    return outputs[0] if len(outputs) == 1 else torch.cat(list(outputs))


def _free_caches(device: torch.device) -> None:
    """Give back what nobody uses any more."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
