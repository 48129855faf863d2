"""A picture as notebooks know it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import PIL.Image
import torch

from onecycle.data.pixels.decode import UNREADABLE, Source, decode_rgb, reason, uses_simplejpeg
from onecycle.data.pixels.resize import ResizeMethod, ResizeSpec, resize_pixels
from onecycle.errors import ArgumentError, DataError

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Image:
    """A picture as notebooks know it: ``px`` uint8 ``(3, H, W)``, ``data`` float in [0, 1]."""

    def __init__(self, px: torch.Tensor | np.ndarray) -> None:
        pixels = torch.as_tensor(px)
        if pixels.ndim != 3 or pixels.shape[0] not in (1, 3):
            raise ArgumentError(f"an Image takes pixels (3, H, W) or (1, H, W); received {tuple(pixels.shape)}")
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


def open_image(fn: Source) -> Image:
    """Read a picture at its full size from a path, an open binary file or bytes.

    Raises:
        DataError: it cannot be decoded; the message names the file.
    """
    uses_simplejpeg()  # a wrong setting is not the picture's fault
    try:
        return Image.from_numpy(decode_rgb(fn))
    except UNREADABLE as error:
        raise unreadable(fn, error) from error


def unreadable(source: Source, error: Exception) -> DataError:
    """Return the error that names a picture which cannot be decoded, and why."""
    name = "these bytes" if isinstance(source, bytes) or hasattr(source, "read") else str(source)
    return DataError(f"cannot read {name} as a picture: {reason(error)}")
