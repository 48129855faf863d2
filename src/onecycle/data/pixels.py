"""From a picture file to RGB uint8 pixels of the asked size, decoded once.

``decode_rgb`` → ``resize_pixels`` → (training: random window in augment; evaluation: ``centre_window``).
``evaluation_pixels`` is the one evaluation preprocess: validation, ``predict`` and everything that
ships use it, so that they see the same tensor for the same file.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

import numpy as np
import PIL.Image
import torch
from PIL import ImageOps

from onecycle.data.progress import counting_bar
from onecycle.errors import ArgumentError, DataError, UnreadableImagesError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PaddingMode = Literal["reflection", "border", "zeros"]
_NUMPY_PAD = {"reflection": "reflect", "border": "edge", "zeros": "constant"}
_EXIF_ORIENTATION = 0x0112
_UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, PIL.Image.DecompressionBombError)
LOADING_THREADS = min(16, os.cpu_count() or 1)


class ResizeMethod(Enum):
    """How a picture is brought to ``size``.

    ``CROP`` scales the short side and cuts the rest off; ``PAD`` scales the long side and fills up;
    ``SQUISH`` ignores the aspect; ``NO`` leaves the picture as it is.
    """

    CROP = 1
    PAD = 2
    SQUISH = 3
    NO = 4


@dataclass(frozen=True)
class ResizeSpec:
    """The size that pictures are brought to: ``size`` is (height, width) in px, None for ``NO``."""

    size: tuple[int, int] | None = None
    method: ResizeMethod = ResizeMethod.NO
    padding_mode: PaddingMode = "reflection"

    @classmethod
    def make(
        cls,
        size: int | tuple[int, int] | None,
        method: ResizeMethod | str | None = None,
        *,
        padding_mode: str = "reflection",
        mult: int | None = None,
    ) -> ResizeSpec:
        """Read the user's arguments as fastai v1 did.

        Args:
            size: px; a number means CROP by default, a (height, width) pair SQUISH, None no resizing.
            method: overrides that default; a ``ResizeMethod`` or its name.
            padding_mode: ``reflection``, ``border`` or ``zeros``.
            mult: round the size to a multiple of this number.

        Raises:
            ArgumentError: a size below 1, an unknown padding mode, or a method without a size.
        """
        if padding_mode not in _NUMPY_PAD:
            raise ArgumentError(
                f"padding_mode must be one of {sorted(_NUMPY_PAD)}; received {padding_mode!r}"
            )
        method = _checked_method(method)
        if size is None:
            if method not in (None, ResizeMethod.NO):
                raise ArgumentError(f"resize_method={method.name} needs a size; pass size=224, say")
            return cls(None, ResizeMethod.NO, padding_mode)  # type: ignore[arg-type]
        default = ResizeMethod.SQUISH if isinstance(size, (tuple, list)) else ResizeMethod.CROP
        height, width = _checked_size(size)
        if mult:
            height, width = (max(mult, int(s / mult + 0.5) * mult) for s in (height, width))
        chosen = default if method is None else method
        return cls(None if chosen is ResizeMethod.NO else (height, width), chosen, padding_mode)  # type: ignore[arg-type]

    def stored_shape(self, height: int, width: int) -> tuple[int, int]:
        """Return (height, width) that a picture has after resizing, before any window is cut."""
        if self.size is None:
            return height, width
        if self.method is ResizeMethod.SQUISH:
            return self.size
        ratios = self.size[0] / height, self.size[1] / width
        scale = max(ratios) if self.method is ResizeMethod.CROP else min(ratios)
        new = round(height * scale), round(width * scale)
        if self.method is ResizeMethod.CROP:
            return max(new[0], self.size[0]), max(new[1], self.size[1])
        return min(max(new[0], 1), self.size[0]), min(max(new[1], 1), self.size[1])


def _checked_method(method: ResizeMethod | str | None) -> ResizeMethod | None:
    if method is None or isinstance(method, ResizeMethod):
        return method
    names = [m.name for m in ResizeMethod]
    if str(method).upper() not in names:
        raise ArgumentError(
            f"resize_method is ResizeMethod.{', '.join(names)} (or the name); received {method!r}"
        )
    return ResizeMethod[str(method).upper()]


def _checked_size(size: int | tuple[int, int]) -> tuple[int, int]:
    pair = tuple(size) if isinstance(size, (tuple, list)) else (size, size)
    if len(pair) != 2 or not all(isinstance(s, (int, np.integer)) and s >= 1 for s in pair):
        raise ArgumentError(
            f"size is a number of px, or a pair (height, width), each at least 1; received {size!r}"
        )
    return int(pair[0]), int(pair[1])


def decode_rgb(source: str | os.PathLike[str] | IO[bytes] | bytes) -> np.ndarray:
    """Decode a picture to RGB, with its EXIF orientation applied.

    CMYK becomes RGB by Pillow's plain conversion, 16-bit grey keeps its upper 8 bits, an alpha
    channel is dropped, and of an animation the first frame is taken.

    Args:
        source: a path, an open binary file, or a file's bytes.

    Returns:
        uint8 ``(H, W, 3)``.

    Raises:
        OSError: the file is missing, truncated or not a picture.
        ValueError: a kind of pixel that has no one meaning in 8 bits (floating point).
    """
    opened = io.BytesIO(source) if isinstance(source, bytes) else source
    with PIL.Image.open(opened) as picture:
        upright = ImageOps.exif_transpose(picture) or picture
        return np.array(_to_rgb(upright, picture.format))


def _to_rgb(picture: PIL.Image.Image, fmt: str | None) -> PIL.Image.Image:
    if picture.mode == "RGB":
        return picture
    if picture.mode.startswith("I;16") or (picture.mode == "I" and fmt == "PNG"):
        values = np.asarray(picture).astype(
            np.int64
        )  # 16-bit grey: Pillow's own conversion would clip it to white
        return PIL.Image.fromarray((values >> 8).clip(0, 255).astype(np.uint8)).convert("RGB")
    if picture.mode in ("F", "I"):
        raise ValueError("32-bit pixels have no fixed range; save the picture with 8 or 16 bits")
    if picture.mode == "P":  # through RGBA, since a palette may carry transparency that RGB alone warns about
        picture = picture.convert("RGBA")
    return picture.convert("RGB")


def picture_shape(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Read (height, width) in px, EXIF orientation applied, from the header alone."""
    with PIL.Image.open(path) as picture:
        width, height = picture.size
        # Of a TIFF, Pillow gives the size already turned.
        turned = picture.format != "TIFF" and picture.getexif().get(_EXIF_ORIENTATION, 1) in (5, 6, 7, 8)
    return (width, height) if turned else (height, width)


def resize_pixels(pixels: np.ndarray, spec: ResizeSpec) -> np.ndarray:
    """Scale uint8 ``(H, W, 3)`` to the spec's stored shape: bilinear with antialiasing, on 8-bit values."""
    height, width = spec.stored_shape(*pixels.shape[:2])
    if (height, width) == pixels.shape[:2]:
        return pixels
    picture = PIL.Image.fromarray(pixels)
    return np.array(picture.resize((width, height), PIL.Image.Resampling.BILINEAR))


def centre_window(pixels: np.ndarray, spec: ResizeSpec) -> np.ndarray:
    """Cut or fill uint8 ``(H, W, 3)`` to the spec's size around the centre, without interpolation."""
    if spec.size is None or pixels.shape[:2] == spec.size:
        return pixels
    for axis, wanted in enumerate(spec.size):
        spare = pixels.shape[axis] - wanted
        if spare > 0:
            start = (spare + 1) // 2  # v1's int((spare + 1) · 0.5)
            pixels = pixels[start : start + wanted] if axis == 0 else pixels[:, start : start + wanted]
        elif spare < 0:
            before = -spare // 2
            widths = [(0, 0)] * 3
            widths[axis] = (before, -spare - before)
            pixels = np.pad(pixels, widths, mode=_NUMPY_PAD[spec.padding_mode])  # type: ignore[call-overload]
    return np.ascontiguousarray(pixels)


def evaluation_pixels(source: str | os.PathLike[str] | IO[bytes] | bytes, spec: ResizeSpec) -> np.ndarray:
    """Decode, resize and centre a picture: what every evaluation sees, uint8 ``(h, w, 3)``."""
    return centre_window(resize_pixels(decode_rgb(source), spec), spec)


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
        except _UNREADABLE as error:
            raise UnreadableImagesError(
                f"cannot read picture {self.paths[position]}: {_reason(error)}"
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
                    failed.append(Unreadable(i, self.paths[i], _reason(found)))
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
                    failed.append(Unreadable(i, self.paths[i], _reason(result)))
                advance(1)
        return failed


def _try(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return what ``function`` returns, or the exception of a picture that cannot be read."""

    def wrapped(argument: Any) -> Any:
        try:
            return function(argument)
        except _UNREADABLE as error:
            return error

    return wrapped


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, PIL.UnidentifiedImageError):
        return "not a picture, or damaged at its start"
    return str(error) or type(error).__name__


def default_store_bytes() -> int:
    """Return half of the memory that is free now: what decoded pictures may take."""
    try:
        with open("/proc/meminfo") as lines:
            free_kib = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
        return free_kib * 1024 // 2
    except (OSError, StopIteration, ValueError):
        return 2 * 1024**3  # no such file outside Linux: a size that a laptop can spare


class Image:
    """A picture as notebooks know it: ``px`` uint8 ``(3, H, W)``, ``data`` float in [0, 1]."""

    def __init__(self, px: torch.Tensor | np.ndarray) -> None:
        pixels = torch.as_tensor(px)
        if pixels.ndim != 3 or pixels.shape[0] not in (1, 3):
            raise ArgumentError(
                f"an Image takes pixels (3, H, W) or (1, H, W); received {tuple(pixels.shape)}"
            )
        if pixels.dtype != torch.uint8:
            pixels = (pixels.clamp(0, 1) * 255).round().to(torch.uint8)
        self.px = pixels.expand(3, -1, -1) if pixels.shape[0] == 1 else pixels

    @property
    def data(self) -> torch.Tensor:
        """Pixels as float32 ``(3, H, W)`` in [0, 1]."""
        return self.px.float() / 255

    @property
    def shape(self) -> tuple[int, int, int]:
        """(3, H, W)."""
        return tuple(self.px.shape)  # type: ignore[return-value]

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        return self.shape[1], self.shape[2]

    def numpy(self) -> np.ndarray:
        """Pixels as uint8 ``(H, W, 3)``."""
        return self.px.permute(1, 2, 0).contiguous().numpy()

    def show(
        self,
        ax: Axes | None = None,
        *,
        figsize: tuple[float, float] = (3, 3),
        title: str | None = None,
        hide_axis: bool = True,
    ) -> None:
        """Draw the picture, on ``ax`` where one is given."""
        import matplotlib.pyplot as plt

        axes = plt.subplots(figsize=figsize)[1] if ax is None else ax
        axes.imshow(self.numpy())
        if title is not None:
            axes.set_title(title)
        if hide_axis:
            axes.axis("off")

    def save(self, fn: str | Path) -> None:
        """Write the picture; the suffix chooses the format."""
        PIL.Image.fromarray(self.numpy()).save(fn)

    def resize(self, size: int | tuple[int, int]) -> Image:
        """Return the picture scaled to ``size`` px (a number: both sides), ignoring the aspect."""
        spec = ResizeSpec.make(size, ResizeMethod.SQUISH)
        return Image.from_numpy(resize_pixels(self.numpy(), spec))

    @classmethod
    def from_numpy(cls, pixels: np.ndarray) -> Image:
        """Make a picture from uint8 ``(H, W, 3)``."""
        return cls(torch.from_numpy(np.array(pixels)).permute(2, 0, 1))

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        PIL.Image.fromarray(self.numpy()).save(buffer, format="PNG")
        return buffer.getvalue()

    def __repr__(self) -> str:
        return f"{type(self).__name__} {self.shape}"


def open_image(fn: str | os.PathLike[str] | IO[bytes] | bytes) -> Image:
    """Read a picture from a path, an open binary file or bytes.

    Raises:
        DataError: it cannot be decoded; the message names the file.
    """
    try:
        return Image.from_numpy(decode_rgb(fn))
    except _UNREADABLE as error:
        name = "these bytes" if isinstance(fn, bytes) or hasattr(fn, "read") else str(fn)
        raise DataError(f"cannot read {name} as a picture: {_reason(error)}") from error


class GivenPictures(PixelStore):
    """Pictures that are in memory already, brought to size by the same preprocess."""

    def __init__(self, pictures: Sequence[Image], spec: ResizeSpec) -> None:
        super().__init__([f"picture {i}" for i in range(len(pictures))], spec, threads=1)
        self._pictures = pictures

    def read(self, position: int) -> np.ndarray:
        """Return the resized pixels of one picture, uint8 ``(h, w, 3)``."""
        return resize_pixels(self._pictures[position].numpy(), self.spec)
