"""Decoded pixels, one picture after the other: where each one goes, and how some are taken out again."""

from __future__ import annotations

import errno
import mmap
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from onecycle.data.pixels.picture_file import reason

_MAPPED_BYTES = 2**27  # of a mapped file that count as this process's memory, until they are given back


@dataclass
class Failures:
    """Why pictures cannot be read, by position; and the position of one whose reason may pass."""

    reasons: dict[int, str] = field(default_factory=dict)
    passing: int | None = None

    def add(self, positions: Sequence[int], error: Exception) -> None:
        """Note why the pictures of one file cannot be read."""
        self.reasons |= dict.fromkeys(positions, reason(error))
        # Decoders' own errors have no number. A missing file is in the key; a refused or broken read is not.
        if isinstance(error, OSError) and error.errno not in (None, errno.ENOENT):
            self.passing = max(positions)


class PixelLayout:
    """Where the pixels of each picture go.

    Args:
        shapes: int32 ``(N, 2)``, height and width after resizing; 0 × 0 if unreadable.
        failures: of the pictures that cannot be read; later ones are added to it.
        channels: bytes of a pixel.
    """

    def __init__(self, shapes: np.ndarray, failures: Failures, channels: int = 3) -> None:
        self.shapes, self.failures, self.channels = shapes, failures, channels
        self.shape: tuple[int, int] | None = None  # of all pictures that can be read; the others then have a gap
        known = shapes[shapes.all(axis=1)]
        if len(known) and (known == known[0]).all():
            self.shape = int(known[0][0]), int(known[0][1])
            self.n_bytes = len(shapes) * self.shape[0] * self.shape[1] * channels
        else:
            ends = np.cumsum(shapes.prod(axis=1, dtype=np.int64) * channels)
            self._starts = np.concatenate([[0], ends[:-1]]) if len(ends) else ends
            self.n_bytes = int(ends[-1]) if len(ends) else 0

    def offset(self, position: int) -> int:
        """Return the first byte of a picture."""
        if self.shape is not None:
            return position * self.shape[0] * self.shape[1] * self.channels
        return int(self._starts[position])

    def table(self) -> np.ndarray:
        """Return int64 ``(N, 3)``: first byte, height, width."""
        return np.column_stack([self._starts, self.shapes]).astype(np.int64)


@dataclass(kw_only=True)
class PackedPixels:
    """Decoded pixels, one picture after the other."""

    flat: np.ndarray  # uint8, all pictures
    shape: tuple[int, int] | None  # (height, width) of every picture; None where they differ
    table: np.ndarray | None  # int64 (N, 3), first byte, height, width of each picture; None where one shape says it
    bad: frozenset[int]  # positions of the pictures that cannot be read
    mapped: mmap.mmap | None = None  # the map that flat looks into, None if it is plain memory
    sums: np.ndarray | None = None  # uint32 (N,), CRC-32 of each picture in a file; None: memory needs none
    read_ahead: bool = False  # whether memory does not hold them all, so that batches are announced
    mended: dict[int, np.ndarray] = field(
        default_factory=dict, init=False
    )  # pixels in place of damaged ones, by position
    _checked: np.ndarray | None = field(default=None, init=False)  # bool (N,), pictures that this process has checked
    channels: int = 3  # bytes of a pixel
    _touched_bytes: int = field(default=0, init=False)

    def picture(self, position: int) -> np.ndarray | None:
        """Return uint8 ``(h, w, channels)``, None if the picture cannot be read."""
        if position in self.bad:
            return None
        if position in self.mended:
            return self.mended[position]
        if self.table is None:
            pixels: np.ndarray = self._block()[position]
        else:
            start, height, width = self.table[position]
            pixels = self.flat[start : start + height * width * self.channels].reshape(height, width, -1)
        self._touch(pixels.nbytes)
        return pixels

    def can_take(self, positions: np.ndarray) -> bool:
        """Say whether pictures have one shape, and all of them can be read."""
        return self.shape is not None and (not self.bad or self.bad.isdisjoint(positions.tolist()))

    def take(self, positions: np.ndarray, out: np.ndarray) -> None:
        """Copy pictures of one shape into uint8 ``(n, h, w, channels)``.

        Raises:
            IndexError: a position that there is not.
        """
        block = self._block()
        if len(positions) and not 0 <= positions.min() <= positions.max() < len(block):
            raise IndexError(f"positions from 0 to {len(block) - 1}; received {positions.min()} to {positions.max()}")
        np.take(block, positions, axis=0, out=out, mode="clip")  # "raise" would go through a buffer
        for row, position in enumerate(positions.tolist() if self.mended else ()):
            if position in self.mended:
                out[row] = self.mended[position]
        self._touch(out.nbytes)

    def will_need(self, positions: np.ndarray) -> None:
        """Have the system read pictures from the disk meanwhile, where memory does not hold them all."""
        if not self.read_ahead or self.mapped is None or not hasattr(mmap, "MADV_WILLNEED"):
            return
        if self.table is None:
            n_bytes = int(np.prod(self.shape or (0, 0))) * self.channels
            spans = [(int(position) * n_bytes, n_bytes) for position in positions]
        else:
            spans = [(int(start), int(h * w * self.channels)) for start, h, w in self.table[positions]]
        for start, n_bytes in spans:
            first = start - start % mmap.PAGESIZE
            self.mapped.madvise(mmap.MADV_WILLNEED, first, start + n_bytes - first)

    def damaged(self, positions: np.ndarray) -> list[int]:
        """Return which of some pictures are not what was written; each is looked at once in a process.

        Measured: 15 µs a picture of 128 px, where a step of training takes 1 to 10 ms.
        """
        if self.sums is None:
            return []
        if self._checked is None:
            self._checked = np.zeros(len(self.sums), dtype=bool)
        wrong = []
        for position in positions[~self._checked[positions]].tolist():
            pixels = self.picture(position)
            if pixels is not None and zlib.crc32(pixels.reshape(-1).data) != self.sums[position]:
                wrong.append(position)
            else:
                self._checked[position] = True
        return wrong

    def mend(self, position: int, pixels: np.ndarray) -> None:
        """Put pixels in the place of a picture's that are damaged.

        Args:
            position: of the picture.
            pixels: uint8 ``(h, w, 3)``.

        Raises:
            ValueError: they are of another shape, so that the picture is another one by now.
        """
        before = self.picture(position)
        if before is None or before.shape != pixels.shape:
            raise ValueError("it has another size than when it was stored")
        self.mended[position] = pixels
        if self._checked is not None:
            self._checked[position] = True

    def _block(self) -> np.ndarray:
        return self.flat.reshape(-1, *(self.shape or (0, 0)), self.channels)

    def _touch(self, n_bytes: int) -> None:
        """Give pages back to the system now and then: what was touched counts as memory of this process.

        They stay in the system's own cache, and touching them again costs little. Measured on 3,000 pictures of 150 kB
        in batches of 64: 30 µs a picture instead of 17, and at most 170 MB of memory instead of 450.
        """
        self._touched_bytes += n_bytes
        if self.mapped is not None and self._touched_bytes > _MAPPED_BYTES:
            self._touched_bytes = 0
            if hasattr(self.mapped, "madvise"):
                self.mapped.madvise(mmap.MADV_DONTNEED)
