"""A limit to the memory that making a network takes: what a saved model says of itself may come from anybody."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

from onecycle.errors import CheckpointError
from onecycle.text import human_bytes

ANY_NETWORK = 10**9
"""Bytes that making a network may take whatever its file has: of AlexNet a classifier of 220 MB is cut off, of VGG one
of 490 MB."""

TIMES_THE_FILE = 4


class _Counting(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the tensors that are made by their size, before they are made."""

    def __init__(self, most: int, what: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.most, self.what, self.taken = most, what, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        size = args[0] if args else kwargs.get("size")
        if isinstance(size, (list, tuple)) and all(isinstance(n, int) for n in size):
            self.taken += 4 * prod(size)
            if self.taken > self.most:
                raise CheckpointError(
                    f"{self.what} says that it is of a network that takes more than {human_bytes(self.most)}, which "
                    "its file does not justify: it is damaged, or not what it says; copy it again"
                )
        return func(*args, **kwargs)


@contextmanager
def network_of(file: Path) -> Iterator[None]:
    """Let the network of a file of weights be made in the block, if it takes no more memory than the file justifies.

    Raises:
        CheckpointError: it takes more.
    """
    size = file.stat().st_size if file.is_file() else 0
    with _Counting(ANY_NETWORK + TIMES_THE_FILE * size, str(file)):
        yield
