"""A picture as notebooks know it."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

import numpy as np
import PIL.Image
import PIL.ImageOps
import torch
from PIL.ImageFile import ImageFile

from onecycle.data.pixels.decode import JPEG, decode_rgb, upright_rgb, uses_simplejpeg
from onecycle.data.pixels.picture_file import UNREADABLE, Source, decoder_errors, picture_bytes, reason
from onecycle.data.pixels.resize import ResizeMethod, ResizeSpec, centre_window, resize_pixels
from onecycle.errors import ArgumentError, DataError
from onecycle.files import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes


MOST_CHANNELS = 32
"""Of a picture; an array with more has its channels last."""


class Image:
    """A picture as notebooks know it: ``px`` uint8 ``(3, H, W)``, ``data`` float in [0, 1].

    Args:
        px: uint8, or floating point in [0, 1]; ``(3, H, W)`` or ``(1, H, W)``, which gets three equal channels; or with
            more channels, of which the first three are shown.

    Raises:
        ArgumentError: other shapes, types or values.
    """

    def __init__(self, px: torch.Tensor | np.ndarray) -> None:
        pixels = torch.as_tensor(px)
        if pixels.ndim != 3 or pixels.shape[0] in (0, 2) or not pixels.numel():
            raise ArgumentError(f"an Image takes pixels (3, H, W) or (1, H, W); received {tuple(pixels.shape)}")
        if pixels.shape[0] > (4 if pixels.shape[2] in (1, 3, 4) else MOST_CHANNELS):
            raise ArgumentError(
                f"an Image takes pixels (3, H, W) or (1, H, W), or up to {MOST_CHANNELS} channels; received "
                f"{tuple(pixels.shape)}: an array (H, W, 3) becomes one by Image.from_numpy"
            )
        self.n_channels = pixels.shape[0]
        pixels = pixels.detach().cpu()
        if pixels.dtype != torch.uint8:
            pixels = _levels(pixels)
        self.px = pixels.expand(3, -1, -1) if pixels.shape[0] == 1 else pixels

    @property
    def data(self) -> torch.Tensor:
        """Pixels as float32 ``(3, H, W)``, or with as many channels as there are, in [0, 1]."""
        return self.px.float() / 255

    @property
    def shape(self) -> tuple[int, int, int]:
        """(3, H, W), or with as many channels as there are."""
        return tuple(self.px.shape)  # type: ignore[return-value]

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        return self.shape[1], self.shape[2]

    def numpy(self) -> np.ndarray:
        """Pixels as uint8 ``(H, W, 3)``, or with as many channels as there are."""
        return self.px.permute(1, 2, 0).contiguous().numpy()

    def show(
        self,
        ax: Axes | None = None,
        *,
        figsize: tuple[float, float] = (3, 3),
        title: str | None = None,
        hide_axis: bool = True,
        cmap: str | None = None,
        y: object = None,
    ) -> None:
        """Draw the picture, on ``ax`` where one is given; ``cmap`` colours a grey one, a label ``y`` is its title."""
        import matplotlib.pyplot as plt

        axes = plt.subplots(figsize=figsize)[1] if ax is None else ax
        grey = cmap is not None and bool((self.px == self.px[:1]).all())
        axes.imshow(self.px[0].numpy() if grey else self.numpy()[..., :3], cmap=cmap)
        if title is not None or y is not None:
            axes.set_title(str(y) if title is None else title)
        if hide_axis:
            axes.axis("off")

    def save(self, fn: str | Path) -> None:
        """Write the picture; the suffix chooses the format."""
        write_whole(Path(fn), picture_bytes(PIL.Image.fromarray(self.numpy()), fn))

    def resize(self, size: int | tuple[int, int]) -> Image:
        """Return the picture scaled to ``size`` px (a number: both sides), ignoring the aspect."""
        spec = ResizeSpec.make(size, ResizeMethod.SQUISH)
        return Image.from_numpy(resize_pixels(self.numpy(), spec))

    def apply_tfms(
        self,
        tfms: Any,
        *,
        size: int | tuple[int, int] | None = None,
        resize_method: ResizeMethod | str | None = None,
        mult: int | None = None,
        padding_mode: str = "reflection",
        mode: str = "bilinear",
        **_: Any,
    ) -> Image:
        """Return the picture as transforms change it; the draws follow ``np.random.seed``.

        Args:
            tfms: one transform, or a list.
            size, resize_method, mult, padding_mode, mode: as where data is made.
        """
        from onecycle.data.augment.augmenter import BatchAugmenter

        spec = ResizeSpec.make(size, resize_method, padding_mode=padding_mode, mult=mult)
        pixels = resize_pixels(self.numpy(), spec)
        if not tfms:
            return Image.from_numpy(centre_window(pixels, spec))
        augmenter = BatchAugmenter(tfms, size=spec.size, padding_mode=padding_mode, mode=mode)
        rng, shapes = np.random.default_rng(np.random.randint(2**31)), np.array([pixels.shape[:2]])
        canvas = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None]
        return Image(augmenter.apply(canvas, shapes, augmenter.draw(rng, shapes))[0].clamp(0, 1))

    @classmethod
    def from_numpy(cls, pixels: np.ndarray) -> Self:
        """Make a picture from uint8 ``(H, W, 3)``, or with other numbers of channels."""
        return cls(torch.from_numpy(np.array(pixels)).permute(2, 0, 1))

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        PIL.Image.fromarray(self.numpy()[..., :3]).save(buffer, format="PNG")
        return buffer.getvalue()

    def __repr__(self) -> str:
        return f"{type(self).__name__} {self.shape}"


def _levels(pixels: torch.Tensor) -> torch.Tensor:
    """Return uint8 for floating point in [0, 1]; half a grey level beyond it is what rounding leaves."""
    values = f"{pixels.dtype}".removeprefix("torch.")
    if pixels.is_floating_point():
        levels = (pixels.float() * 255).round()
        if bool(((levels >= 0) & (levels <= 255)).all()):
            return levels.to(torch.uint8)
        values += f" from {pixels.min().item():.4g} to {pixels.max().item():.4g}"
    raise ArgumentError(
        f"pixels are uint8, or floating point from 0 to 1; received {values} (divide 0 to 255 by 255, and give "
        "pixels before they are normalised)"
    )


def open_image(
    fn: Source, convert_mode: str = "RGB", after_open: Callable[[PIL.Image.Image], PIL.Image.Image] | None = None
) -> Image:
    """Read a picture at its full size from a path, an open binary file or bytes.

    Args:
        fn: the file.
        convert_mode: Pillow's mode that it is converted to, as ``L`` for grey, which is then in all channels, or
            ``RGBA`` for a fourth channel.
        after_open: a function of the Pillow picture in that mode, which returns another one.

    Raises:
        DataError: it cannot be decoded; the message names the file.
    """
    uses_simplejpeg()  # a wrong setting is not the picture's fault
    try:
        pixels = decode_rgb(fn)
    except UNREADABLE as error:
        raise unreadable(fn, error) from error
    if convert_mode == "RGB" and after_open is None:
        return Image.from_numpy(pixels)
    plain = PIL.Image.fromarray(pixels)
    picture = _transparent(fn, convert_mode) if "A" in convert_mode else plain.convert(convert_mode)
    changed = np.array(picture if after_open is None else after_open(picture), dtype=np.uint8)
    return Image.from_numpy(changed[..., None] if changed.ndim == 2 else changed)


def _transparent(fn: Source, mode: str) -> PIL.Image.Image:
    """Read a picture again in a mode that has its transparency, too, which RGB drops."""
    with PIL.Image.open(io.BytesIO(fn) if isinstance(fn, bytes) else fn) as picture:
        if hasattr(fn, "seek"):
            fn.seek(0)
        return PIL.ImageOps.exif_transpose(picture).convert(mode)


def from_pillow(picture: PIL.Image.Image) -> Image | bytes:
    """Return what shows the same as the picture's file: upright, with 8 bits a sample.

    Returns:
        An Image; of a JPEG that is not decoded yet the file's bytes, so that it is decoded as any file is: a big one at
        a fraction of its size.

    Raises:
        DataError: it cannot be decoded, or has pixels without one meaning in 8 bits.
    """
    try:
        with decoder_errors():
            is_jpeg = picture.format in JPEG and picture.tell() == 0  # 0: the first of several pictures
            if isinstance(picture, ImageFile) and is_jpeg and picture.tile and picture.fp:
                return _bytes_of(picture, picture.fp)
            return Image.from_numpy(upright_rgb(picture))
    except UNREADABLE as error:
        raise DataError(f"cannot read this Pillow picture: {reason(error)}") from error


def _bytes_of(picture: ImageFile, file: IO[bytes]) -> bytes:
    """Return the file that a JPEG is read from; one that Pillow opened itself is closed, as decoding does."""
    file.seek(0)
    data = file.read()
    if picture.filename and picture.format == "JPEG":
        file.close()
        picture.fp = io.BytesIO(data)  # it can be decoded still
    return data


def unreadable(source: Source, error: Exception) -> DataError:
    """Return the error that names a picture which cannot be decoded, and why."""
    name = "these bytes" if isinstance(source, bytes) or hasattr(source, "read") else str(source)
    return DataError(f"cannot read {name} as a picture: {reason(error)}")
