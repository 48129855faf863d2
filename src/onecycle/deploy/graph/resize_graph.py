"""The one evaluation preprocess as tensor operations, for a file that needs neither Pillow nor onecycle.

The same bytes as ``data/pixels/resize`` gives, for pictures of any shape: widths, then heights, each by weights of a
triangle in fixed point, each rounded to 8 bits. Sizes are computed from the picture's own shape, so all of it is traced
into the exported graph. Pillow computes in double precision and 32-bit integers, and so does this.

Source: Pillow's ``Resample.c``, ``precompute_coeffs`` and ``ImagingResampleHorizontal_8bpc``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from onecycle.data.pixels.resize import MOST_WINDOWS, ResizeMethod
from onecycle.errors import ArgumentError

if TYPE_CHECKING:
    from onecycle.data.pixels.resize import ResizeSpec

FIXED_BITS = 22
"""Bits behind the point of Pillow's weights: a sum of 8-bit values times these fits in 32."""


class ResizeGraph(nn.Module):
    """uint8 pictures (N, H, W, C) of any one shape to uint8 (N, height, width, C).

    Args:
        spec: the preprocess.
        channels: C.

    Raises:
        ArgumentError: one without a size.
    """

    def __init__(self, spec: ResizeSpec, channels: int = 3) -> None:
        super().__init__()
        if spec.size is None:
            raise ArgumentError("pictures as stored are not resized; expected a preprocess with a size")
        self.spec, self.size, self.channels = spec, spec.size, channels

    def forward(self, pictures: Tensor) -> Tensor:
        """Scale, then cut or fill around the centre."""
        shape = torch._shape_as_tensor(pictures)[1:3]
        stored, visible = _stored(shape, self.spec)
        start = (shape.double() - visible) / 2
        x = _scaled(pictures, 2, shape[1], stored[1], start[1], visible[1], self.channels)
        x = _scaled(x, 1, shape[0], stored[0], start[0], visible[0], self.channels)
        for axis, size in enumerate(self.size):
            x = _centre(x, axis + 1, stored[axis], size, self.spec.padding_mode)
        return x


def _stored(shape: Tensor, spec: ResizeSpec) -> tuple[Tensor, Tensor]:
    """Return the size of ``ResizeSpec.stored_shape``, int64 (2,), and how much of the picture it shows, in px."""
    whole, size = shape.double(), torch.tensor(spec.size)
    if spec.method is ResizeMethod.SQUISH:
        return size, whole
    ratios = size.double() / whole
    if spec.method is ResizeMethod.PAD:
        return torch.minimum((whole * ratios.min()).round().long().clamp(min=1), size), whole
    scaled = torch.maximum((whole * ratios.max()).round().long(), size)
    most = torch.maximum(shape[0] * shape[1], MOST_WINDOWS * size[0] * size[1])
    excess = (scaled - _floor_div(most, scaled.flip(0)) + 1).clamp(min=0)
    stored = torch.maximum(scaled - _floor_div(excess, torch.tensor(2)) * 2, size)
    return stored, whole * (stored.double() / scaled.double())


def _scaled(x: Tensor, axis: int, n_in: Tensor, n_out: Tensor, start: Tensor, visible: Tensor, channels: int) -> Tensor:
    """Scale one axis of uint8 (N, H, W, channels): 1, the height, or 2, the width."""
    at, weights = (taps.T for taps in _taps(n_in, n_out, start, visible))  # (K, n_out): long runs to multiply and add
    # A factor for each channel, too: one that three values share is slow to multiply by (1200 × 1600 px: 72 to 43 ms).
    factors = weights[:, :, None].repeat(1, 1, channels) if axis == 2 else weights[:, :, None, None]
    picked = x.int()[:, :, at] if axis == 2 else x.int()[:, at]
    sums = (picked * factors).sum(axis, dtype=torch.int32)  # none is negative
    rounded = torch.div(sums + 2 ** (FIXED_BITS - 1), 2**FIXED_BITS, rounding_mode="trunc")
    return rounded.clamp(0, 255).to(torch.uint8)


def _taps(n_in: Tensor, n_out: Tensor, start: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
    """Return which values each output value is made of, int64 (n_out, K), and with which weights, int32 (n_out, K)."""
    first, last = start.float(), (start + visible).float()  # Pillow takes its box in single precision
    step = (last - first).double() / n_out.double()
    reach = step.clamp(min=1.0)
    centre = first.double() + (_count(n_out).double() + 0.5) * step
    low = (centre - reach + 0.5).long().clamp(min=0)
    high = torch.minimum((centre + reach + 0.5).long(), n_in)
    at = low[:, None] + _count((reach.ceil() * 2 + 1).long())
    weights = (1 - ((at.double() - centre[:, None] + 0.5) / reach).abs()).clamp(min=0)
    weights = torch.where(at < high[:, None], weights, torch.zeros_like(weights))
    weights = weights / weights.sum(1, keepdim=True)
    return torch.minimum(at, n_in - 1), (weights * 2.0**FIXED_BITS + 0.5).int()


def _centre(x: Tensor, axis: int, n: Tensor, size: int, padding_mode: str) -> Tensor:
    """Cut or fill one axis of n values to ``size`` values, as ``centre_window`` does."""
    two = torch.tensor(2)
    first = torch.where(n > size, _floor_div(n - size + 1, two), -_floor_div(size - n, two))
    at = torch.arange(size) + first
    inside = (at >= 0) & (at < n)
    if padding_mode == "reflection":
        period = (2 * (n - 1)).clamp(min=1)
        at = torch.minimum(at.remainder(period), period - at.remainder(period))
    x = x.index_select(axis, torch.minimum(at.clamp(min=0), n - 1))
    if padding_mode == "zeros":
        x = x * inside.to(torch.uint8).view([-1 if a == axis else 1 for a in range(4)])
    return x


def _count(n: Tensor) -> Tensor:
    """Return 0..n − 1; the number stays part of the graph."""
    return torch.arange(n)  # type: ignore[call-overload, no-any-return]


def _floor_div(a: Tensor, b: Tensor) -> Tensor:
    return torch.div(a, b, rounding_mode="floor")
