"""A batch that does not fit into memory goes through the network in slices, with the same gradient."""

from __future__ import annotations

import gc
import traceback
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from onecycle.errors import OutOfMemoryError
from onecycle.text import option
from onecycle.train.device.machine import naming_what_lacks

_SIGNS = (
    "can't allocate memory",  # torch's allocator of the CPU
    "out of memory",  # CUDA errors outside torch's allocator, and MPS
    "_ALLOC_FAILED",  # cuBLAS, cuDNN, cuSOLVER, cuFFT
    "_ALLOCATION_FAILED",  # cuDNN 9, of the host and of the device
    "STATUS_NOT_INITIALIZED",  # cuBLAS and cuDNN, whose handles found no room
    "valid cuDNN algorithm",  # none whose workspace has room
    "unable to find an engine",  # the same, of cuDNN 8 and 9
    "cudaErrorMemoryAllocation",
    "std::bad_alloc",
)
"""What the message of a RuntimeError says when memory ran out; torch has a class for some cases only."""


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an error means that memory ran out, on the CPU or on the device."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)


def free_memory(error: BaseException | None, device: torch.device) -> None:
    """Free what a pass that ran out of memory still holds; None where it was another process's."""
    if error is not None:
        traceback.clear_frames(error.__traceback__)  # the frames of the failed pass hold its activations
    gc.collect()
    if device.type in ("cuda", "mps"):
        getattr(torch, device.type).empty_cache()


class BatchSplit:
    """How many pictures of a batch go through the network at a time; it learns from running out of memory.

    What was learned holds for batches of one picture size, for as long as this object lives.

    On Linux a process that asks for more than the machine has may be killed before torch is told that there is no
    memory; nothing in the process can catch that.
    """

    def __init__(self) -> None:
        self._sizes: dict[tuple[int, ...], int] = {}

    def slices(self, network: nn.Module, x: Tensor) -> list[slice]:
        """Return the slices in which a batch ``(N, …)`` goes through the network; they cover 0 … N."""
        n = len(x)
        size = min(self._sizes.get(tuple(x.shape[1:]), n), n)
        return even_slices(n, size, smallest=1 if size == n else _smallest(network))

    def halve(self, network: nn.Module, x: Tensor, error: BaseException | None) -> list[slice]:
        """Return slices half as long, after those so far ran out of memory, and free what the failed pass held.

        Args:
            network, x: as in ``slices``.
            error: what was raised; None where it was raised in another process that trains with this one.

        Raises:
            OutOfMemoryError: fewer pictures cannot be taken.
        """
        free_memory(error, x.device)
        failed, shape = self.slices(network, x), tuple(x.shape[1:])
        longest: int = failed[0].stop
        self._sizes[shape] = -(-longest // 2)
        slices = self.slices(network, x)
        if slices != failed:
            return slices
        del self._sizes[shape]
        pictures = f"pictures of {'×'.join(map(str, shape[1:]))} px" if shape[1:] else "items"
        raise OutOfMemoryError(
            f"the memory of {x.device} is too small for {longest} {pictures} at a time, and fewer cannot be "
            "taken: pass a smaller size or a smaller network, freeze() more of it, or free memory that others use"
        ) from error

    def forward(self, network: nn.Module, x: Tensor) -> Tensor:
        """Return the network's output ``(N, …)`` for a batch, in slices where the whole does not fit.

        For evaluation: in training mode, batch-norm layers would see each slice for itself.

        Raises:
            OutOfMemoryError: the smallest slice does not fit either.
            DeviceError: the device lacks an operation of the network.
        """
        slices = self.slices(network, x)
        while True:
            try:
                with naming_what_lacks(x.device, "the network", "take another network"):
                    outputs = [network(x[rows]) for rows in slices]
                return outputs[0] if len(outputs) == 1 else torch.cat(outputs)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                slices = self.halve(network, x, error)


def split_message(network: nn.Module, slices: Sequence[slice]) -> str:
    """Say in how many pieces the steps of a training go from now on, and what that changes."""
    norms = any(isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training for m in network.modules())
    n, each = slices[-1].stop, slices[0].stop
    most = "" if n % len(slices) == 0 else "at most "
    note = f"; batch-norm layers see {each} pictures at a time" if norms else ""
    return (
        f"a batch of {n} did not fit into memory: each step now takes {len(slices)} × {most}{each} pictures "
        f"and updates once, with the gradient of all {n}; pass {option('bs', each)} to choose it yourself{note}"
    )


def even_slices(n: int, size: int, *, smallest: int = 1) -> list[slice]:
    """Cut 0 … n into as few slices of at most ``size`` as will do, all equal to within one.

    Args:
        n: length of the whole, at least 1.
        size: the most that a slice may have, at least 1.
        smallest: the least that a slice must have; it goes before ``size``.
    """
    return _cut(n, max(1, min(-(-n // size), n // smallest)))


def _cut(n: int, count: int) -> list[slice]:
    short, longer = divmod(n, count)
    ends = [(i + 1) * short + min(i + 1, longer) for i in range(count)]
    return [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]


def part_slices(network: nn.Module, x: Tensor, parts: int) -> list[slice]:
    """Cut a training batch ``(N, …)`` into parts, equal to within one, the longest first; fewer where N is too small.

    Args:
        network: what the parts go through, each for itself.
        x: the batch.
        parts: how many, at least 1.
    """
    return _cut(len(x), max(1, min(parts, len(x) // _smallest(network))))


def shifted(rows: slice, by: int) -> slice:
    """Return rows that come so many later."""
    return slice(rows.start + by, rows.stop + by)


def _smallest(network: nn.Module) -> int:
    """Return the least rows that go through a network: a head's batch-norm that trains has no statistics of one."""
    return 2 if any(isinstance(m, nn.BatchNorm1d) and m.training for m in network.modules()) else 1


def loss_shares(loss_func: Any, y: Any, slices: Sequence[slice]) -> list[float | Tensor]:
    """Return what the loss of each slice weighs, so that their sum is the loss of the whole batch.

    A mean weighs by items; cross-entropy with class weights is a mean over the weights, as in torch; a sum weighs
    each slice by one.

    Args:
        loss_func: (logits, targets) → loss; its attributes ``reduction`` and ``weight`` are looked at.
        y: the batch's targets.
        slices: they cover the batch.

    Returns:
        a number for each slice, or a 0-d tensor on the targets' device, so that nothing waits for it.
    """
    if len(slices) == 1 or getattr(loss_func, "reduction", "mean") == "sum":
        return [1.0] * len(slices)
    weight = loss_func.weight if isinstance(loss_func, (nn.CrossEntropyLoss, nn.NLLLoss)) else None
    if weight is not None and isinstance(y, Tensor) and not y.is_floating_point():
        of_item = weight.to(y.device)[y]
        return [of_item[rows].sum() / of_item.sum() for rows in slices]
    return [(rows.stop - rows.start) / slices[-1].stop for rows in slices]


def take_rows(values: Any, rows: slice) -> Any:
    """Return some rows of a batch's targets: a tensor (N, …), or a tuple or list of such."""
    if isinstance(values, (tuple, list)):
        return type(values)(take_rows(value, rows) for value in values)
    return values[rows]
