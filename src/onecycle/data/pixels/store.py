"""The pixel store: pictures decoded and resized once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from onecycle.data.pixels.decode import UNREADABLE, decode_rgb, picture_shape, reason
from onecycle.data.pixels.image import Image
from onecycle.data.pixels.resize import ResizeSpec, resize_pixels
from onecycle.data.progress import counting_bar
from onecycle.errors import UnreadableImagesError

LOADING_THREADS = min(16, os.cpu_count() or 1)


@dataclass(frozen=True)
class Unreadable:
    """A picture that cannot be decoded: its position in the list, its path and what Pillow said."""

    position: int
    path: str
    reason: str


class PixelStore:
    """Resized pixels of N pictures, decoded once into memory when they fit, else read anew each time.

    Args:
        paths: the pictures.
        spec: the size that they are brought to (windows are cut later).
        max_bytes: the largest size of the store in memory; beyond it, pictures are decoded for each batch.
        threads: decoding threads; they never change the result.
    """

    def __init__(
        self,
        paths: Sequence[str],
        spec: ResizeSpec,
        *,
        max_bytes: int | None = None,
        threads: int = LOADING_THREADS,
    ) -> None:
        self.paths = paths
        self.spec = spec
        self.max_bytes = default_store_bytes() if max_bytes is None else max_bytes
        self.threads = max(1, threads)
        self._flat: np.ndarray | None = None  # uint8, all pictures one after the other
        self._offsets = np.zeros(0, dtype=np.int64)
        self._shapes = np.zeros(
            (0, 2), dtype=np.int64
        )  # height and width after resizing; 0 × 0 if unreadable
        self._failed: list[Unreadable] | None = None

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def in_memory(self) -> bool:
        """Whether the decoded pictures are kept."""
        return self._flat is not None

    def read(self, position: int) -> np.ndarray:
        """Return the resized pixels of one picture, uint8 ``(h, w, 3)``.

        Raises:
            UnreadableImagesError: the picture cannot be decoded.
        """
        if self._flat is not None and self._shapes[position].all():
            height, width = self._shapes[position]
            start = self._offsets[position]
            return self._flat[start : start + height * width * 3].reshape(height, width, 3)
        try:
            return resize_pixels(decode_rgb(self.paths[position]), self.spec)
        except UNREADABLE as error:
            raise UnreadableImagesError(
                f"cannot read picture {self.paths[position]}: {reason(error)}"
            ) from error

    def gather(self, positions: np.ndarray) -> tuple[torch.Tensor, np.ndarray]:
        """Return a batch's pixels on one canvas, each picture in the upper left corner.

        Args:
            positions: int64 ``(n,)``.

        Returns:
            uint8 ``(n, 3, H, W)`` (channels-last in memory) and int64 ``(n, 2)`` heights and widths.
        """
        rows = self.read_many(positions)
        shapes = np.array([r.shape[:2] for r in rows], dtype=np.int64)
        height, width = shapes.max(axis=0)
        if (shapes == shapes[0]).all():
            canvas = np.stack(rows)
        else:
            canvas = np.zeros((len(rows), height, width, 3), dtype=np.uint8)
            for i, row in enumerate(rows):
                canvas[i, : row.shape[0], : row.shape[1]] = row
        return torch.from_numpy(canvas).permute(0, 3, 1, 2), shapes

    def read_many(self, positions: Iterable[int]) -> list[np.ndarray]:
        """Read several pictures, in threads where they must be decoded."""
        wanted = [int(p) for p in positions]
        if self._flat is not None or self.threads == 1:
            return [self.read(p) for p in wanted]
        with ThreadPoolExecutor(self.threads) as pool:
            return list(pool.map(self.read, wanted))

    def fill(self) -> list[Unreadable]:
        """Decode every picture once: keep the pixels if they fit, and list the pictures that cannot be read."""
        if self._failed is None:
            shapes, failed = self._read_headers()
            sizes = shapes.prod(axis=1) * 3
            flat = np.empty(int(sizes.sum()), dtype=np.uint8) if sizes.sum() <= self.max_bytes else None
            offsets = np.concatenate([[0], np.cumsum(sizes)])[:-1].astype(np.int64)
            with counting_bar("decoding pictures", len(self)) as advance:
                failed += self._decode_into(flat, offsets, shapes, {f.position for f in failed}, advance)
            if flat is None:
                print(
                    f"{len(self):,} decoded pictures take {sizes.sum() / 1e9:.1f} GB, more than the "
                    f"{self.max_bytes / 1e9:.1f} GB that may be kept: they are decoded anew in each epoch"
                )
            shapes[[f.position for f in failed]] = 0
            self._flat, self._offsets, self._shapes = flat, offsets, shapes
            self._failed = sorted(failed, key=lambda f: f.position)
        return self._failed

    @property
    def filled(self) -> bool:
        """Whether every picture has been decoded (and so checked) once."""
        return self._failed is not None

    def _read_headers(self) -> tuple[np.ndarray, list[Unreadable]]:
        shapes = np.zeros((len(self.paths), 2), dtype=np.int64)
        failed = []
        with ThreadPoolExecutor(self.threads) as pool:
            for i, found in enumerate(pool.map(_try(picture_shape), self.paths)):
                if isinstance(found, Exception):
                    failed.append(Unreadable(i, self.paths[i], reason(found)))
                else:
                    shapes[i] = self.spec.stored_shape(*found)
        return shapes, failed

    def _decode_into(
        self,
        flat: np.ndarray | None,
        offsets: np.ndarray,
        shapes: np.ndarray,
        skipped: set[int],
        advance: Callable[[int], object],
    ) -> list[Unreadable]:
        def decode(position: int) -> None:
            pixels = resize_pixels(decode_rgb(self.paths[position]), self.spec)
            if flat is not None:
                if pixels.shape[:2] != tuple(shapes[position]):
                    raise ValueError("the picture's size differs from what its header says")
                flat[offsets[position] : offsets[position] + pixels.size] = pixels.reshape(-1)

        failed = []
        todo = [i for i in range(len(self.paths)) if i not in skipped]
        with ThreadPoolExecutor(self.threads) as pool:
            for i, result in zip(todo, pool.map(_try(decode), todo), strict=True):
                if isinstance(result, Exception):
                    failed.append(Unreadable(i, self.paths[i], reason(result)))
                advance(1)
        return failed


def _try(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return what ``function`` returns, or the exception of a picture that cannot be read."""

    def wrapped(argument: Any) -> Any:
        try:
            return function(argument)
        except UNREADABLE as error:
            return error

    return wrapped


def default_store_bytes() -> int:
    """Return half of the memory that is free now: what decoded pictures may take."""
    try:
        with open("/proc/meminfo") as lines:
            free_kib = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
        return free_kib * 1024 // 2
    except (OSError, StopIteration, ValueError):
        return 2 * 1024**3  # no such file outside Linux: a size that a laptop can spare


class GivenPictures(PixelStore):
    """Pictures that are in memory already, brought to size by the same preprocess."""

    def __init__(self, pictures: Sequence[Image], spec: ResizeSpec) -> None:
        super().__init__([f"picture {i}" for i in range(len(pictures))], spec, threads=1)
        self._pictures = pictures

    def read(self, position: int) -> np.ndarray:
        """Return the resized pixels of one picture, uint8 ``(h, w, 3)``."""
        return resize_pixels(self._pictures[position].numpy(), self.spec)
