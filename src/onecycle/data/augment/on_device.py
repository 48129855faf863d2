"""Transforms of a whole batch on a GPU: one sampling, few passes over memory, and nothing that the host waits for.

All that follows from the draws is worked out on the CPU, by ``Prepared.of``, where another thread can do it beside the
network's work, and sent in a few pinned copies. All pictures then take one way: those that are not lit have a gain of 1
and an offset of 0, and those that only move whole pixels are interpolated at these.

A picture of 224 px costs 7 to 12 MB of memory traffic, of which light and normalisation are 4.8: four passes that torch
has no one operation for. torch.compile makes three kernels of the lesson's twelve (counted on a CPU), but anew for each
combination of what a batch may have (light, perspective, noise, numbers of holes), in the midst of an epoch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from onecycle.data.augment.draws import ChannelNoise, Draws, Jitter
from onecycle.data.augment.warp import Floats, Ints

LOGIT_EPS = 1e-7  # pixels are kept this far from 0 and 1 before they pass through logit, as in fastai v1
NEAREST_HORIZON = 1e-4  # of the perspective denominator: positions behind the viewer are pushed far away instead
MARGIN_PX = 4  # around a picture for bicubic interpolation, which reads two pixels beyond its position on each side

_MATRIX, _GAIN, _OFFSET, _SCALE, _SHIFT, _LOW, _HIGH, _HALF = (
    slice(0, 9), slice(9, 10), slice(10, 11), slice(11, 13), slice(13, 15), slice(15, 17), slice(17, 19), slice(19, 21),
)  # fmt: skip
"""Columns of ``Prepared.numbers``; pairs are x, y."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What the draws of N pictures come to."""

    size: tuple[int, int]  # rows and columns of the result
    mode: str  # of interpolation
    padding_mode: str
    shape: tuple[int, int] | None  # rows and columns of all pictures; None where they differ
    in_perspective: bool
    behind: bool  # whether some positions lie behind the viewer
    lit: bool  # whether any picture is
    numbers: torch.Tensor  # float32 (N, 21)
    jitter: torch.Tensor | None = None  # float32 (N, 2, h, w), noise on the positions
    noise: tuple[tuple[torch.Tensor, torch.Tensor], ...] = ()  # int64 (2, M) picture and channel, float32 (M, h, w)
    holes: torch.Tensor | None = None  # bool (N, K, h + w), the rows and then the columns of each black rectangle
    reach: torch.Tensor | None = None  # int64 (2, N, S): rows and columns of pixels with a margin, for ragged bicubic
    seen: torch.Tensor | None = None  # float32 (2, N, S): which of them lie in the picture, for zeros around it
    window: tuple[int, int] | None = None  # first row and column of what is seen, where all pictures are only cut

    @classmethod
    def of(
        cls,
        draws: Draws,
        shapes: Ints,
        canvas: tuple[int, int],
        *,
        mode: str,
        padding_mode: str,
        window: tuple[int, int] | None = None,
    ) -> Prepared:
        """Work out all that does not need the pixels.

        Args:
            draws: of N pictures.
            shapes: (N, 2) rows and columns of the pictures.
            canvas: rows and columns of what they lie on.
            mode, padding_mode: as in ``BatchAugmenter``.
            window: see the field.
        """
        ragged = bool((shapes != shapes[0]).any())
        wide = ragged and mode == "bicubic"
        corners = draws.matrices[:, 2] @ np.array([[-1, -1, 1, 1], [-1, 1, -1, 1], [1, 1, 1, 1]])
        behind = bool((corners < NEAREST_HORIZON).any())
        matrices = draws.matrices.copy()
        if ragged and not behind:  # positions from 0 to 2
            matrices[:, :2] += matrices[:, 2:]
        n = len(draws)
        columns = [matrices.reshape(n, 9), draws.gain[:, None], draws.offset[:, None], *_placing(shapes, canvas, wide)]
        reach, seen = _margins(shapes, canvas, padding_mode) if wide else (None, None)
        return cls(
            size=draws.size,
            mode=mode,
            padding_mode=padding_mode,
            shape=None if ragged else (int(shapes[0, 0]), int(shapes[0, 1])),
            in_perspective=bool(np.abs(draws.matrices[:, 2] - np.array([0, 0, 1])).max() > 0),
            behind=behind,
            lit=bool(draws.lit.any()),
            numbers=torch.from_numpy(np.concatenate(columns, axis=1).astype(np.float32)),
            jitter=_shifts(draws.jitter, draws.size),
            noise=tuple(_noise(noise, draws.size) for noise in draws.channel_noise if (noise.channel >= 0).any()),
            holes=_holes(draws.holes, draws.size) if draws.holes.size else None,
            reach=reach,
            seen=seen,
            window=window,
        )

    def each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Prepared:
        """Return these with every tensor changed, say pinned or sent."""
        names = ("numbers", "jitter", "holes", "reach", "seen")
        changed: dict[str, Any] = {name: change(t) for name in names if (t := getattr(self, name)) is not None}
        return replace(self, **changed, noise=tuple((change(at), change(values)) for at, values in self.noise))


def transformed(
    pixels: torch.Tensor, prepared: Prepared, then: Callable[[torch.Tensor], object] | None = None
) -> torch.Tensor:
    """Transform a batch; all of it lies on one device.

    Args:
        pixels: uint8 (N, 3, H, W); picture i fills the top left of its canvas.
        prepared: for these pictures.
        then: called last; changes its argument in place.

    Returns:
        float32 (N, 3, h, w), before ``then`` in [0, 1], channels-last in memory.
    """
    x = _sampled(pixels, prepared)
    if prepared.lit:  # sigmoid(gain · logit(x) + offset)
        gain, offset = (prepared.numbers[:, at, None, None] for at in (_GAIN, _OFFSET))
        laid_out = torch.empty_like(x, memory_format=torch.channels_last)
        x = torch.addcmul(offset, x.logit_(LOGIT_EPS), gain, out=laid_out).sigmoid_()
    elif prepared.mode == "bicubic":
        x = x.clamp_(0, 1)  # what interpolation leaves a little outside; light brings its own limits
    for (picture, channel), values in prepared.noise:
        x.index_put_((picture, channel), values)
    if prepared.holes is not None:
        h = prepared.size[0]
        tall, wide = prepared.holes[:, :, :h], prepared.holes[:, :, h:]
        x.masked_fill_((tall[..., None] & wide[:, :, None]).any(dim=1, keepdim=True), 0)
    x = x.contiguous(memory_format=torch.channels_last)
    if then is not None:
        then(x)
    return x


def _sampled(pixels: torch.Tensor, prepared: Prepared) -> torch.Tensor:
    if prepared.window is not None:
        (row, column), (h, w) = prepared.window, prepared.size
        return pixels[:, :, row : row + h, column : column + w].div(255)
    positions = _positions(prepared, pixels.device)
    padding_mode, share = prepared.padding_mode, None
    if prepared.shape is None:
        positions, share = _on_canvas(positions, prepared)
        padding_mode = "border"
        if prepared.reach is not None:
            pixels = _with_margin(pixels, prepared.reach)
    else:
        pixels = pixels[:, :, : prepared.shape[0], : prepared.shape[1]]
    x = pixels.div(255)  # one pass from bytes to floats
    if prepared.seen is not None:
        rows, columns = prepared.seen[0, :, : x.shape[2]], prepared.seen[1, :, : x.shape[3]]
        x = x.mul_(rows[:, None, :, None]).mul_(columns[:, None, None])
    # The planar layout of positions is what grid_sample reads fastest.
    grid = positions.permute(0, 2, 3, 1)
    out = F.grid_sample(x, grid, mode=prepared.mode, padding_mode=padding_mode, align_corners=True)
    return out if share is None else out.mul_(share)


def _positions(prepared: Prepared, device: torch.device) -> torch.Tensor:
    """Return input positions x, y for every output pixel, float32 (N, 2, h, w).

    Each picture lies in [−1, 1], or in [0, 2] where shapes differ.
    """
    h, w = prepared.size
    m = prepared.numbers[:, _MATRIX].view(-1, 3, 3)[..., None, None]
    x, y = torch.linspace(-1, 1, w, device=device), torch.linspace(-1, 1, h, device=device)
    along_x = m[:, :, 0] * x
    along_y = torch.addcmul(m[:, :, 2], m[:, :, 1], y[:, None])
    positions = along_x[:, :2] + along_y[:, :2]
    if prepared.in_perspective:
        depth = along_x[:, 2:] + along_y[:, 2:]
        positions.div_(depth.clamp_min_(NEAREST_HORIZON) if prepared.behind else depth)
    if prepared.shape is None and prepared.behind:
        positions.add_(1)
    return positions if prepared.jitter is None else positions.add_(prepared.jitter)


def _on_canvas(positions: torch.Tensor, prepared: Prepared) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Bring positions [0, 2] into each picture, then to where it lies on the canvas [−1, 1].

    The second value is the share of each pixel that comes from the picture, where black surrounds it: the outer pixels
    fade within one pixel.
    """
    scale, shift, low, high, half = (prepared.numbers[:, at, None, None] for at in (_SCALE, _SHIFT, _LOW, _HIGH, _HALF))
    if prepared.padding_mode == "reflection":
        from_middle = positions.remainder_(4).sub_(2).abs_()  # 2 − this is the position, mirrored
        return torch.addcmul(shift + 2 * scale, from_middle, scale, value=-1), None
    inside = positions.clamp(low, high)
    share = None
    if prepared.padding_mode == "zeros" and prepared.reach is None:
        away = (positions - inside).abs_().mul_(half)
        share = (1 - away).clamp_min_(0) if prepared.mode == "bilinear" else (away <= 0.5).float()
        share = share.prod(dim=1, keepdim=True)
    return torch.addcmul(shift, inside, scale), share


def _with_margin(pixels: torch.Tensor, reach: torch.Tensor) -> torch.Tensor:
    which = torch.arange(len(pixels), device=pixels.device)[:, None, None]
    rows, columns = reach[0, :, : pixels.shape[2] + 2 * MARGIN_PX], reach[1, :, : pixels.shape[3] + 2 * MARGIN_PX]
    return pixels.permute(0, 2, 3, 1)[which, rows[:, :, None], columns[:, None]].permute(0, 3, 1, 2)


# --- on the CPU, beforehand -----------------------------------------------------------------------


def _placing(shapes: Ints, canvas: tuple[int, int], wide: bool) -> list[Floats]:
    """Return the columns that say where each picture lies on the canvas: scale, shift, low, high, half, each (N, 2)."""
    last = shapes[:, ::-1] - 1.0
    margin = MARGIN_PX if wide else 0
    steps = np.maximum(np.array(canvas[::-1]) - 1 + 2 * margin, 1)
    beyond = np.where(last > 0, margin / np.maximum(last, 1), 0)  # half of the margin, as positions from 0 to 2
    shift = np.broadcast_to(2 * margin / steps - 1, last.shape)
    return [last / steps, shift, -beyond, 2 + beyond, last / 2]


def _margins(shapes: Ints, canvas: tuple[int, int], padding_mode: str) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return which pixel stands at each place of a canvas with a margin, and for zeros whether the picture does."""
    places = np.arange(max(canvas) + 2 * MARGIN_PX) - MARGIN_PX
    last = shapes.T[:, :, None] - 1
    if padding_mode == "reflection":
        period = np.maximum(2 * last, 1)
        along = places % period
        at = np.minimum(np.minimum(along, period - along), last)
    else:
        at = np.clip(places, 0, last)
    seen = ((places >= 0) & (places <= last)).astype(np.float32)
    return torch.from_numpy(at.astype(np.int64)), torch.from_numpy(seen) if padding_mode == "zeros" else None


def _shifts(jitter: tuple[Jitter, ...], size: tuple[int, int]) -> torch.Tensor | None:
    shifts = [jitter_shifts(one, size) for one in jitter if one.spread.any()]
    return torch.from_numpy(np.sum(shifts, axis=0)) if shifts else None


def jitter_shifts(jitter: Jitter, size: tuple[int, int]) -> np.ndarray:
    """Return position noise, float32 (N, 2, h, w); drawn on the CPU so that every device sees the same."""
    shifts = np.zeros((len(jitter.seeds), 2, *size), dtype=np.float32)
    for i in np.flatnonzero(jitter.spread.any(axis=(1, 2))):
        noise = np.random.default_rng(jitter.seeds[i]).random((2, *size), dtype=np.float32) * 2 - 1
        shifts[i] = np.einsum("ij,jhw->ihw", jitter.spread[i].astype(np.float32), noise)
    return shifts


def _holes(edges: Ints, size: tuple[int, int]) -> torch.Tensor:
    """Return where rectangles, (N, K, 4) of top, bottom, left, right, are: their rows, then their columns."""
    top, bottom, left, right = (edges[:, :, i, None] for i in range(4))
    rows, columns = (np.arange(k) for k in size)
    tall, wide = (rows >= top) & (rows < bottom), (columns >= left) & (columns < right)
    return torch.from_numpy(np.concatenate([tall, wide], axis=2))


def _noise(noise: ChannelNoise, size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    rows = np.flatnonzero(noise.channel >= 0)
    values = np.stack([channel_noise(noise, i, size) for i in rows.tolist()])
    return torch.from_numpy(np.stack([rows, noise.channel[rows]])), torch.from_numpy(values)


def channel_noise(noise: ChannelNoise, i: int, size: tuple[int, int]) -> np.ndarray:
    """Return what replaces a channel of picture ``i``, float32 (h, w)."""
    drawn: np.ndarray = np.random.default_rng(noise.seeds[i]).random(size, dtype=np.float32)
    return drawn * np.float32(noise.level[i])
