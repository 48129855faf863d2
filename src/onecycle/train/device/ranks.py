"""Processes that train together: what they tell one another, in an order that leaves no bit to chance.

A batch goes through the network in parts, and their gradients are summed in the order of the parts, whoever computed
them. So the result is a function of the number of parts, not of the number of processes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from onecycle.errors import DistributedError

FINE, OUT_OF_MEMORY, FAILED = 0.0, 1.0, 2.0
"""How a pass ended, in one of the processes; the worst counts."""


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together; the usual one trains alone.

    They all call the same methods in the same order. Any of these raises ``DistributedError`` where a process is gone.
    """

    rank: int = 0  # number of this process, from 0
    size: int = 1  # how many there are

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that prints and writes files."""
        return self.rank == 0

    def share(self, n: int) -> range:
        """Return which of ``n`` things, in order, are this process's own."""
        return range(self.rank * n // self.size, (self.rank + 1) * n // self.size)

    def most(self, *values: float) -> list[float]:
        """Return the largest of each value among all processes; no device is waited for."""
        if self.size == 1:
            return [*values]
        largest = torch.tensor(values, dtype=torch.float64)
        _together(lambda dist: dist.all_reduce(largest, op=dist.ReduceOp.MAX))
        return list(largest.tolist())

    def of_first(self, value: Any) -> Any:
        """Return the first process's value: what JSON can hold, as JSON gives it back."""
        text = json.dumps(value).encode()
        if self.size == 1:
            return json.loads(text)
        length = torch.tensor([len(text)])
        _broadcast(length, 0)
        data = torch.frombuffer(bytearray(text), dtype=torch.uint8) if self.is_first else None
        data = torch.empty(int(length), dtype=torch.uint8) if data is None else data
        _broadcast(data, 0)
        return json.loads(bytes(data.tolist()))

    def copy_first(self, tensors: Sequence[Tensor]) -> None:
        """Give all processes the first one's values, in place."""
        for tensor in tensors if self.size > 1 else ():
            whole = tensor.detach().contiguous()
            _broadcast(whole, 0)
            if whole.data_ptr() != tensor.data_ptr():
                tensor.detach().copy_(whole)

    def joined(self, rows: Tensor) -> Tensor:
        """Return the rows ``(n, …)`` of all processes, on the CPU, in the order of the processes."""
        if self.size == 1:
            return rows
        counts = [0.0] * self.size
        counts[self.rank] = float(len(rows))
        ends = np.cumsum(self.most(*counts)).astype(int).tolist()
        whole = rows.new_empty((ends[-1], *rows.shape[1:]))
        whole[ends[self.rank] - len(rows) : ends[self.rank]] = rows
        self.copy_shares(whole, ends)
        return whole

    def clock(self, own: Callable[[], float]) -> Callable[[], float]:
        """Return a clock that shows the first process's time; all of them look at it at the same moments."""

        def first() -> float:
            number = torch.tensor(own(), dtype=torch.float64)
            _broadcast(number, 0)
            return float(number)

        return own if self.size == 1 else first

    def copy_shares(self, rows: Tensor, ends: Sequence[int]) -> None:
        """Give all processes every share of ``rows`` ``(N, …)``, contiguous, in place.

        Args:
            rows: those between ``ends[rank - 1]`` and ``ends[rank]`` are this process's own.
            ends: one a process.
        """
        for owner in range(self.size if self.size > 1 else 0):
            share = rows[ends[owner - 1] if owner else 0 : ends[owner]]
            if len(share):
                _broadcast(share, owner)

    def sum_in_order(self, parts: Sequence[Sequence[Tensor]], n_parts: int, like: Sequence[Tensor]) -> list[Tensor]:
        """Return the sum of all processes' parts, added one after the other in their order.

        Args:
            parts: of this process's ``share(n_parts)`` of the parts, the same tensors each; alone, one sum of them all.
            n_parts: of all processes.
            like: tensors of these shapes, layouts and types.
        """
        if self.size == 1:
            return list(parts[0])
        total = [torch.empty_like(t) for t in like]
        for kind in sorted({t.dtype for t in like}, key=str):
            chosen = [i for i, t in enumerate(like) if t.dtype == kind]
            n = sum(like[i].numel() for i in chosen)
            flat = [torch.cat([part[i].flatten() for i in chosen]) for part in parts]
            summed = self._sum_flat(flat, like[chosen[0]].new_empty(n), n_parts)
            for i, values in zip(chosen, torch.split(summed, [like[i].numel() for i in chosen]), strict=True):
                total[i].copy_(values.view(like[i].shape))
        return total

    @torch.no_grad()
    def _sum_flat(self, mine: Sequence[Tensor], whole: Tensor, n_parts: int) -> Tensor:
        """Sum one vector a part into ``whole``: each process adds up a stretch of it, in order, and sends it to all."""
        n, n_each = len(whole), -(-n_parts // self.size)
        stretch = -(-n // self.size)
        sent = whole.new_zeros(self.size, n_each, stretch)
        for j, vector in enumerate(mine):
            sent[:, j] = nn.functional.pad(vector, (0, self.size * stretch - n)).view(self.size, stretch)
        came = torch.empty_like(sent)
        _together(lambda dist: dist.all_to_all_single(came, sent))
        shares = (Ranks(rank, self.size).share(n_parts) for rank in range(self.size))
        first, *rest = (came[rank, j] for rank, share in enumerate(shares) for j in range(len(share)))
        total = first.clone()
        for vector in rest:
            total += vector
        everything = total.new_empty(self.size, stretch)
        _together(lambda dist: dist.all_gather(list(everything.unbind()), total))
        whole.copy_(everything.flatten()[:n])
        return whole

    def wait(self) -> None:
        """Wait until all processes are here."""
        self.most(0.0)


@torch.no_grad()
def added(sums: list[list[Tensor]], part: list[Tensor], *, together: bool) -> list[list[Tensor]]:
    """Return sums of parts with one more: added to what is there, or as a list of its own."""
    if not (sums and together):
        return [*sums, part]
    _add(sums[0], part)
    return sums


def _add(total: Sequence[Tensor], more: Sequence[Tensor]) -> None:
    for tensor, other in zip(total, more, strict=True):
        tensor.add_(other)


def _broadcast(tensor: Tensor, owner: int) -> None:
    _together(lambda dist: dist.broadcast(tensor, owner))


def _together(exchange: Callable[[Any], object]) -> None:
    """Exchange something with the other processes.

    Raises:
        DistributedError: one of them is gone.
    """
    import torch.distributed as dist

    try:
        exchange(dist)
    except (RuntimeError, ValueError) as error:
        raise DistributedError(
            "another process of this training is gone, so this one ends, too; what it printed says why. Start the "
            f"same command again to go on ({str(error).splitlines()[0][:200]})"
        ) from error


# --- buffers of layers, such as the running statistics of batch-norm ---------------------------------


class Buffers:
    """The buffers that training changes, as they were before a step: every part of a batch starts from them.

    After the step they have changed by the mean of what the parts changed, weighted by their items; counters by what
    the first part did.
    """

    def __init__(self, network: nn.Module) -> None:
        found = {id(b): b for m in network.modules() if m.training for b in m.buffers(recurse=False)}
        self.tensors = [b for b in found.values() if b.is_floating_point() or b.dtype in (torch.int64, torch.int32)]
        self._before = [b.detach().clone() for b in self.tensors]

    def put_back(self) -> None:
        """Give the buffers their values from before the step."""
        with torch.no_grad():
            for buffer, before in zip(self.tensors, self._before, strict=True):
                buffer.copy_(before)

    @torch.no_grad()
    def changes(self, weight: float, *, is_first: bool) -> list[Tensor]:
        """Return what a part adds to the mean change of each buffer.

        Args:
            weight: share of the batch's items that the part has.
            is_first: whether it is the first part.
        """
        return [self._change(b, before, weight, is_first) for b, before in zip(self.tensors, self._before, strict=True)]

    @staticmethod
    def _change(buffer: Tensor, before: Tensor, weight: float, is_first: bool) -> Tensor:
        if not buffer.is_floating_point():
            return (buffer - before) if is_first else torch.zeros_like(buffer)
        # What is the same has not changed, infinite values included.
        return (buffer - before).masked_fill_(buffer == before, 0).mul_(weight)

    @torch.no_grad()
    def change_by(self, changes: Sequence[Tensor]) -> None:
        """Set each buffer to its value from before the step plus its change."""
        self.put_back()
        _add(self.tensors, changes)
