"""fastai v1's functions for pictures as arrays and tensors, and for grids of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import PIL.Image
import torch
from torch import Tensor

from onecycle.data.pixels import image as product
from onecycle.fastai1.pictures.image import Image

__all__ = [
    "ItemBase", "channel_view", "denormalize", "normalize", "normalize_funcs", "open_image", "pil2tensor",
    "plot_flat", "plot_multi", "resize_to", "show_all", "show_multi",
]  # fmt: skip


class ItemBase:
    """An item of a user's own: ``data`` is what the network sees, ``obj`` what it was made from."""

    def __init__(self, data: Any) -> None:
        self.data = self.obj = data

    def __repr__(self) -> str:
        return f"{type(self).__name__} {self}"


def open_image(
    fn: Any,
    div: bool = True,
    convert_mode: str = "RGB",
    cls: type[Image] = Image,
    after_open: Callable[[PIL.Image.Image], PIL.Image.Image] | None = None,
) -> Image:
    """Read a picture at its full size; see ``onecycle.vision.open_image``.

    Args:
        fn: the file.
        div: pixels from 0 to 1; else from 0 to 255, both float32.
        convert_mode: Pillow's mode; ``L`` gives one channel.
        cls: what is made of the pixels.
        after_open: changes the Pillow picture.
    """
    px = product.open_image(fn, convert_mode, after_open).px
    px = px[:1] if convert_mode in ("L", "1") else px
    return cls(px.float().div_(255) if div else px.float())


def pil2tensor(image: Any, dtype: Any) -> Tensor:
    """Return a Pillow picture or an array ``(H, W)`` or ``(H, W, C)`` as a tensor ``(C, H, W)`` of a numpy type."""
    pixels = np.asarray(image)
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)).astype(dtype, copy=False))


def resize_to(img: Any, targ_sz: int, use_min: bool = False) -> tuple[int, int]:
    """Return (width, height) of a Pillow picture whose longer (or, with ``use_min``, shorter) side is ``targ_sz``."""
    w, h = img.size
    ratio = targ_sz / (min if use_min else max)(w, h)
    return int(w * ratio), int(h * ratio)


def channel_view(x: Tensor) -> Tensor:
    """Return ``(N, C, …)`` as ``(C, M)``: all values of each channel."""
    return x.transpose(0, 1).reshape(x.shape[1], -1)


def _columns(mean: Any, std: Any, like: Tensor) -> tuple[Tensor, Tensor]:
    mean, std = (torch.as_tensor(v, dtype=torch.float32, device=like.device)[..., None, None] for v in (mean, std))
    return mean, std


def normalize(x: Tensor, mean: Any, std: Any) -> Tensor:
    """Return ``(x − mean) / std``, one of each a channel."""
    m, s = _columns(mean, std, x)
    return (x - m) / s


def denormalize(x: Tensor, mean: Any, std: Any, do_x: bool = True) -> Tensor:
    """Undo ``normalize``, on the CPU."""
    x = x.detach().cpu().float()
    m, s = _columns(mean, std, x)
    return x * s + m if do_x else x


def normalize_funcs(mean: Any, std: Any, do_x: bool = True, do_y: bool = False) -> tuple[Any, Any]:
    """Return a function that normalises the pictures of a batch ``(x, y)``, and one that undoes it for pictures."""

    def norm(batch: Any) -> Any:
        x, y = batch
        x = normalize(x, mean, std) if do_x else x
        return x, normalize(y, mean, std) if do_y and y.ndim == 4 else y

    return norm, lambda x, do_x=do_x: denormalize(x, mean, std, do_x)


def on_normalized(tfm: Callable[[Any], Any], stats: Any) -> Callable[[Any], Any]:
    """Return a function of a batch ``(x, y)`` of pixels that gives ``tfm`` the normalised pictures."""

    def own(batch: Any) -> Any:
        mean, std = _columns(stats[0], stats[1], batch[0])
        x, y = tfm(((batch[0] - mean) / std, batch[1]))
        return x * std + mean, y

    own.__name__ = getattr(tfm, "__name__", type(tfm).__name__)
    return own


# -- figures -----------------------------------------------------------------------------------------------------


def plot_multi(
    func: Callable[[int, int, Any], Any], r: int = 1, c: int = 1, figsize: tuple[float, float] = (12, 6)
) -> None:
    """Call ``func(row, column, axes)`` for each place of a grid."""
    import matplotlib.pyplot as plt

    axes = plt.subplots(r, c, figsize=figsize, squeeze=False)[1]
    for i in range(r):
        for j in range(c):
            func(i, j, axes[i, j])


def plot_flat(r: int, c: int, figsize: tuple[float, float]) -> Any:
    """Return the axes of a grid, row by row."""
    import matplotlib.pyplot as plt

    return plt.subplots(r, c, figsize=figsize, squeeze=False)[1].flatten()


def show_multi(func: Callable[[int, int], Any], r: int = 1, c: int = 1, figsize: tuple[float, float] = (9, 9)) -> None:
    """Show the picture ``func(row, column)`` at each place of a grid."""
    plot_multi(lambda i, j, ax: func(i, j).show(ax), r, c, figsize=figsize)


def show_all(imgs: Iterable[Any], r: int = 1, c: int | None = None, figsize: tuple[float, float] = (12, 6)) -> None:
    """Show pictures in ``r`` rows."""
    listed = list(imgs)
    columns = math.ceil(len(listed) / r) if c is None else c
    for img, ax in zip(listed, plot_flat(r, columns, figsize), strict=False):
        img.show(ax)
