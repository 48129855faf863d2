"""fastai v1's ``Image``: float pixels, on which geometry and light wait until the pixels are asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from onecycle.data.pixels import image as product
from onecycle.data.pixels.resize import ResizeMethod, ResizeSpec
from onecycle.fastai1.core import defaults
from onecycle.fastai1.pictures.tfms import FlowField, Transformable, listed, run
from onecycle.fastai1.pictures.transforms import crop_pad
from onecycle.fastai1.torch_core import logit_, tensor

__all__ = ["Image", "image2np", "show_image"]


def image2np(image: Tensor) -> np.ndarray:
    """Return a tensor ``(C, H, W)`` as an array ``(H, W, C)``, or ``(H, W)`` where it has one channel."""
    pixels = image.detach().cpu().permute(1, 2, 0).numpy()
    return pixels[..., 0] if pixels.shape[2] == 1 else pixels


def show_image(
    img: Any,
    ax: Any = None,
    figsize: tuple[float, float] = (3, 3),
    hide_axis: bool = True,
    cmap: str = "binary",
    alpha: float | None = None,
    **options: Any,
) -> Any:
    """Draw an Image, a tensor ``(C, H, W)`` or an array, and return its axes; ``options`` are of ``imshow``."""
    import matplotlib.pyplot as plt

    axes = plt.subplots(figsize=figsize)[1] if ax is None else ax
    pixels = getattr(img, "data", img)
    shown = image2np(pixels[:3] if len(pixels) > 4 else pixels) if isinstance(pixels, Tensor) else np.asarray(img)
    axes.imshow(shown, cmap=cmap, alpha=alpha, **options)
    if hide_axis:
        axes.axis("off")
    return axes


class Image(Transformable, product.Image):
    """A picture as v1 had it: ``px`` and ``data`` are float ``(C, H, W)`` in [0, 1], and methods change it in place.

    Each transform is a method, too: ``image.rotate(degrees=30)``. Geometry is put together into one sampling, which is
    made when pixels are asked for.

    Args:
        px: float in [0, 1], kept as it is, or uint8; ``(C, H, W)``.
    """

    def __init__(self, px: Any) -> None:
        given = torch.as_tensor(px)
        self._px: Tensor = given.float().div_(255) if given.dtype == torch.uint8 else given
        self.n_channels = len(self._px)
        self._logit_px: Tensor | None = None
        self._flow: FlowField | None = None
        self._affine_mat: Tensor | None = None
        self.sample_kwargs: dict[str, Any] = {}

    # -- pixels -------------------------------------------------------------------------------------------------

    @property
    def px(self) -> Tensor:
        """The pixels, once all that waits is done."""
        return self.refresh()._px

    @px.setter
    def px(self, value: Tensor) -> None:
        self._px, self.n_channels = value, len(value)

    @property
    def data(self) -> Tensor:
        """The pixels."""
        return self.px

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) before what waits."""
        return tuple(self._px.shape)  # type: ignore[return-value]

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        return self.shape[1], self.shape[2]

    @property
    def device(self) -> torch.device:
        """Where the pixels are."""
        return self._px.device

    def numpy(self) -> np.ndarray:
        """Pixels as uint8 ``(H, W, 3)``, or with as many channels as there are."""
        return product.Image(self.px).numpy()

    def clone(self) -> Self:
        """Return a copy."""
        return type(self)(self.px.clone())

    def refresh(self) -> Self:
        """Do all that waits: light, then geometry."""
        if self._logit_px is not None:
            self._px, self._logit_px = self._logit_px.sigmoid_(), None
        if self._affine_mat is not None or self._flow is not None:
            self._px = _sampled(self._px, self.flow.flow, **self.sample_kwargs)
            self.sample_kwargs, self._flow = {}, None
        return self

    def set_sample(self, **how: Any) -> Self:
        """Set ``mode`` and ``padding_mode`` of the next sampling."""
        self.sample_kwargs = how
        return self

    # -- what waits ---------------------------------------------------------------------------------------------

    @property
    def flow(self) -> FlowField:
        """Where each pixel comes from, with the matrix that waits."""
        if self._flow is None:
            self._flow = _grid(self.shape)
        if self._affine_mat is not None:
            self._flow, self._affine_mat = _moved(self._flow, self._affine_mat), None
        return self._flow

    @flow.setter
    def flow(self, value: FlowField) -> None:
        self._flow = value

    @property
    def affine_mat(self) -> Tensor:
        """The matrix that waits, (3, 3)."""
        return torch.eye(3, device=self.device) if self._affine_mat is None else self._affine_mat

    @affine_mat.setter
    def affine_mat(self, value: Tensor) -> None:
        self._affine_mat = value

    @property
    def logit_px(self) -> Tensor:
        """``logit(px)``."""
        if self._logit_px is None:
            self._logit_px = logit_(self.px)
        return self._logit_px

    @logit_px.setter
    def logit_px(self, value: Tensor) -> None:
        self._logit_px = value

    # -- change by functions --------------------------------------------------------------------------------------

    def pixel(self, func: Callable[..., Tensor], *args: Any, **options: Any) -> Self:
        """``px = func(px)``."""
        self.px = func(self.px, *args, **options)
        return self

    def lighting(self, func: Callable[..., Tensor], *args: Any, **options: Any) -> Self:
        """``px = sigmoid(func(logit(px)))``."""
        self.logit_px = func(self.logit_px, *args, **options)
        return self

    def coord(self, func: Callable[..., FlowField], *args: Any, **options: Any) -> Self:
        """``flow = func(flow)``."""
        self.flow = func(self.flow, *args, **options)
        return self

    def affine(self, func: Callable[..., Any], *args: Any, **options: Any) -> Self:
        """``affine_mat = affine_mat @ func()``."""
        self.affine_mat = self.affine_mat @ tensor(func(*args, **options)).to(self.device).float()
        return self

    def resize(self, size: Any) -> Self:
        """Scale this picture to ``size``: a number (both sides), or ``(C, H, W)``; it waits like all geometry."""
        wanted = (size, size) if isinstance(size, int) else tuple(size)[-2:]
        if wanted != self.size:
            self.flow = _grid((self.shape[0], *wanted))
        return self

    # -- transforms -----------------------------------------------------------------------------------------------

    def apply_tfms(
        self,
        tfms: Any,
        do_resolve: bool = True,
        xtra: Mapping[Any, dict[str, Any]] | None = None,
        size: Any = None,
        resize_method: ResizeMethod | str | None = None,
        mult: int | None = None,
        padding_mode: str = "reflection",
        mode: str = "bilinear",
        remove_out: bool = True,
    ) -> Image:
        """Return the picture as transforms change it, in v1's order.

        Args:
            tfms: one transform or a list.
            do_resolve: draw what they draw at random anew; else what was drawn last is used.
            xtra: arguments for a transform, by the transform itself.
            size: px, or (height, width), or (C, height, width).
            resize_method: how to bring the picture to it; by default a number crops and a pair squishes.
            mult: round the size to a multiple of it.
            padding_mode, mode: of the sampling; ``remove_out`` is of points and changes no picture.
        """
        if not tfms and not xtra and size is None:
            return self
        spec = ResizeSpec.make(_two(size), resize_method, padding_mode=padding_mode, mult=mult)
        made = self.clone().set_sample(padding_mode=padding_mode, mode=mode, remove_out=remove_out)
        made.resize(spec.scaled_shape(*made.size))
        whole = spec.method is ResizeMethod.SQUISH or (spec.size is None and size is not None)
        cut = None if whole else spec.size or self.size
        runs = listed(tfms)
        if size is not None and not any(o.tfm is crop_pad for o in runs):
            runs.append(crop_pad())
        done: Image = run(made, runs, cut, padding_mode=padding_mode, resolve=do_resolve, xtra=xtra)
        return done

    # -- to look at -------------------------------------------------------------------------------------------------

    def show(
        self,
        ax: Any = None,
        figsize: tuple[float, float] = (3, 3),
        title: str | None = None,
        hide_axis: bool = True,
        cmap: str | None = None,
        y: Any = None,
        **options: Any,
    ) -> None:
        """Draw the picture; ``cmap`` colours one channel, a label ``y`` is its title, ``options`` are of ``imshow``."""
        axes = show_image(self, ax=ax, figsize=figsize, hide_axis=hide_axis, cmap=cmap or defaults.cmap, **options)
        if y is not None or title is not None:
            axes.set_title(str(y) if title is None else title)

    def _repr_png_(self) -> bytes:
        px = self.px.clamp(0, 1)
        return product.Image(px[:3] if len(px) > 3 else px)._repr_png_()


def _two(size: Any) -> Any:
    """Return the last two of three, (C, H, W)."""
    return tuple(size)[-2:] if isinstance(size, (tuple, list, torch.Size)) else size


def _grid(shape: tuple[int, ...]) -> FlowField:
    """Return the positions of a picture's own pixels."""
    h, w = shape[-2:]
    y, x = torch.meshgrid(torch.linspace(-1, 1, h), torch.linspace(-1, 1, w), indexing="ij")
    return FlowField((h, w), torch.stack([x, y], dim=-1)[None])


def _moved(field: FlowField, matrix: Tensor) -> FlowField:
    """Take positions through a matrix, which keeps the angles of pictures that are not square."""
    h, w = field.size
    m = matrix.clone()
    m[0, 1] *= h / w
    m[1, 0] *= w / h
    flat = torch.addmm(m[:2, 2], field.flow.reshape(-1, 2), m[:2, :2].t())
    return FlowField(field.size, flat.view(field.flow.shape))


def _sampled(
    px: Tensor, positions: Tensor, mode: str = "bilinear", padding_mode: str = "reflection", remove_out: bool = True
) -> Tensor:
    """Interpolate; a picture that shrinks to less than half is first averaged down, as v1 did."""
    if mode == "bilinear":
        spread = positions.max() - positions.min()
        zoom = 2 / float(spread) if spread else math.inf
        shrink = min(px.shape[1] / positions.shape[1], px.shape[2] / positions.shape[2]) / 2
        if shrink > 1 and shrink > zoom:
            px = F.interpolate(px[None], scale_factor=1 / shrink, mode="area")[0]
    where = positions.to(px)
    return F.grid_sample(px[None], where, mode=mode, padding_mode=padding_mode, align_corners=True)[0]
