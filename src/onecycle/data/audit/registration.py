"""How much two thumbnails differ after bringing one into register with the other."""

from __future__ import annotations

import numpy as np
import PIL.Image

from onecycle.data.audit.fingerprints import GRID, edges

# Measured on 250 Planet tiles. Saved anew as JPEG of quality 50, at most 0.29 levels are left over; of quality 30, at
# most 0.45 and 6 % of the structure for 95 of 100; at a quarter of the size, 15 %; cropped by up to 8 % a side and
# brought into register, 25 % for 98 of 100, and 30 % for 99. Of the pairs of 1,000 different tiles, and of 600 drawn
# ones, each in eight positions, none came near. Sets of look-alikes do: ``duplicates`` judges by the neighbours.
_NOISE_LEVELS = 0.45  # saving a picture anew changes a gradient by so many grey levels
_LEFT_OVER = 0.15  # at most this share of the structure may differ on top, ...
_LEFT_OVER_CROPPED = 0.30  # ... or this one after resampling, which blurs
_LEAST_CORRELATION = 0.6  # of hazy pictures, whose structure is not larger than that noise
IDENTICAL = 0.05
"""A smaller share of the structure that differs cannot be seen."""
UNRELATED = float(np.sqrt(2))
"""The share that differs in two pictures of equal contrast that do not correlate."""
_MOST_ZOOM = 0.25
_MOST_SHIFT = 4.0  # cells
_LEAST_OVERLAP = 0.6  # of the inner cells
_COARSE_STEPS, _FINE_STEPS = 5, 4
_LEAST_COARSE = 0.9  # correlation after the coarse steps: 99 of 100 crops of 5 % have 0.93, 9 of 10 other pairs less


def compare(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bring pairs of thumbnails into register, and say how much they differ then.

    Args:
        a, b: ``(n, GRID, GRID)``, the same way up.

    Returns:
        how much of their fine structure differs, float32 ``(n,)``, from 0 to ``UNRELATED``; and whether saving anew,
        resizing or a slight crop would explain it, bool ``(n,)``.
    """
    a, b = a.astype(np.float32), b.astype(np.float32)
    differs, explained = _difference(a, b, np.ones_like(a, dtype=bool), _LEFT_OVER)
    rest = np.flatnonzero(differs > IDENTICAL)
    place = find_place(_halved(a[rest]), _halved(b[rest]), WHOLE, _COARSE_STEPS)
    close = _coarse_correlation(a[rest], b[rest], place) >= _LEAST_COARSE
    place *= _TO_FULL_SIZE
    place[close] = find_place(a[rest[close]], b[rest[close]], place[close], _FINE_STEPS)
    moved, inside = resampled(a[rest], place)
    after, slight = _difference(moved, b[rest], inside, _LEFT_OVER_CROPPED)
    near = (np.abs(place[:, ::2] - 1) < _MOST_ZOOM) & (np.abs(place[:, 1::2]) < _MOST_SHIFT)
    valid = near.all(axis=1) & (inside[:, 1:-1, 1:-1].mean(axis=(1, 2)) >= _LEAST_OVERLAP)
    explained[rest] |= slight & valid & close
    differs[rest] = np.minimum(differs[rest], np.where(valid, after, UNRELATED))
    return differs, explained


def _difference(a: np.ndarray, b: np.ndarray, inside: np.ndarray, left_over: float) -> tuple[np.ndarray, np.ndarray]:
    """Compare the fine structure where ``inside`` is true.

    It is the noise that explains, not the correlation alone: in a hazy picture the structure is hardly larger than
    what compression adds, while two different pictures with strong structure may correlate well.
    """
    weight = inside[:, None, 1:-1, 1:-1].astype(np.float32)
    n = np.maximum(weight.sum(axis=(1, 2, 3)), 1)
    edges_a, edges_b = edges(a) * weight, edges(b) * weight
    power_a, power_b = (np.square(e).sum(axis=(1, 2, 3)) for e in (edges_a, edges_b))
    product = (edges_a * edges_b).sum(axis=(1, 2, 3))
    correlation = product / np.maximum(np.sqrt(power_a * power_b), 1e-6)
    rest = np.sqrt(np.square(edges_a - edges_b).sum(axis=(1, 2, 3)) / n)
    structure = np.sqrt(np.minimum(power_a, power_b) / n)
    explained = (rest <= _NOISE_LEVELS + left_over * structure) & (correlation >= _LEAST_CORRELATION)
    return np.minimum(rest / np.maximum(structure, 1e-6), UNRELATED), np.asarray(explained)


# -------------------------------------------------------------------- all over

SIDE = 128
"""Pixels a side at which pictures are looked at closely: a word of a page is some pixels large."""

# Measured at this size on 40 Planet tiles and 20 drawn pictures: saved anew (quality 30), halved, at 0.3 of the size,
# halved and saved at quality 50, cropped by 5 % a side, blurred, turned: at most 0.22 of a block's structure differs
# beyond the noise. Of pages of one form with another number in it at least 0.28 (median 0.62), of scans of them 0.49,
# of frames in which something small has moved 0.39. Adjacent slices of a body are on both sides.
_NOISE_OF_PIXELS = 4.0
_MOST_OF_A_BLOCK = 0.25
_MOST_COLOUR = 12.0  # of the mean of a block, in each channel
_BLOCK = 8
_FLAT = 2.0  # a block with less structure has that of noise
_EVENLY = 2.0  # grain that saving anew removes: no block differs more than so many times as much as the middle one
_LEAST_SIDE = 48  # of a smaller picture, thumbnails hold all there is
_CLOSE_STEPS = 3
_IN_PLACE = np.array([0.004, 0.06, 0.004, 0.06], dtype=np.float32)  # a quarter of a pixel


def same_all_over(a: np.ndarray, b: np.ndarray) -> bool:
    """Say whether two pictures, after registration, differ nowhere by more than saving anew or resizing explains.

    ``compare`` looks at the whole of them: of two pages of one form it sees the form. Here each block of 8 × 8 pixels
    has to fit.

    Args:
        a, b: uint8 ``(3, H, W)``, the same way up.
    """
    side = min(SIDE, *a.shape[1:], *b.shape[1:]) // (2 * _BLOCK) * 2 * _BLOCK
    if side < _LEAST_SIDE:
        return True
    a, b = _scaled(a, side), _scaled(b, side)
    if _fits(a, b, np.ones((side, side), dtype=bool)):
        return True
    grey_a, grey_b = (p.mean(axis=0, keepdims=True) for p in (a, b))
    small_a, small_b = (_scaled(p, GRID) for p in (grey_a, grey_b))
    place = find_place(_halved(small_a), _halved(small_b), WHOLE, _COARSE_STEPS) * _TO_FULL_SIZE
    place = find_place(small_a, small_b, place, _FINE_STEPS)
    if (np.abs(place - WHOLE) < _IN_PLACE).all():
        return False  # it is in place already, and does not fit: most pairs of look-alikes, at a tenth of the time
    larger = side / GRID
    place = find_place(grey_a, grey_b, place * np.array([1, larger, 1, larger], dtype=np.float32), _CLOSE_STEPS)
    moved, inside = resampled(a, np.repeat(place, 3, axis=0))
    return _fits(moved, b, inside[0])


def _scaled(picture: np.ndarray, side: int) -> np.ndarray:
    """Scale ``(n, H, W)`` to a square of floating point."""
    bands = (PIL.Image.fromarray(p.astype(np.float32)) for p in picture)
    return np.stack([np.asarray(p.resize((side, side), PIL.Image.Resampling.BILINEAR)) for p in bands])


def _fits(a: np.ndarray, b: np.ndarray, inside: np.ndarray) -> bool:
    """Say whether each block of ``(3, side, side)`` that lies inside is the same in both, but for one brightness."""
    whole = _blocks(inside[None]).all(axis=(0, -1))
    rest = a - b
    rest -= rest[:, inside].mean()
    of_colour = np.abs(_blocks(rest).mean(axis=-1)).max(axis=0)
    differs = np.sqrt(np.square(_blocks(rest.mean(axis=0, keepdims=True))[0]).mean(axis=-1))
    structure = np.maximum(*(_blocks(p.mean(axis=0, keepdims=True))[0].std(axis=-1) for p in (a, b))) + _FLAT
    allowed = _NOISE_OF_PIXELS + _MOST_OF_A_BLOCK * structure
    if differs[whole].size and _is_grain(rest.mean(axis=0), structure):
        allowed = np.maximum(allowed, _EVENLY * np.median(differs[whole]))
    allowed_colour = _MOST_COLOUR + _MOST_OF_A_BLOCK * structure
    return bool(np.all((differs <= allowed) & (of_colour <= allowed_colour), where=whole))


def _is_grain(rest: np.ndarray, structure: np.ndarray) -> bool:
    """Say whether a difference ``(side, side)`` is gone where four pixels are one, as that of grain lost in saving is.

    That of another word, product or slice of a body stays.
    """
    coarse = np.repeat(np.repeat(_halved(rest[None])[0], 2, axis=0), 2, axis=1)
    left = np.sqrt(np.square(_blocks(coarse[None])[0]).mean(axis=-1))
    return bool((left <= _NOISE_OF_PIXELS + _MOST_OF_A_BLOCK * structure).all())


def _blocks(picture: np.ndarray) -> np.ndarray:
    """Cut ``(n, side, side)`` into blocks: ``(n, blocks, blocks, pixels)``."""
    n, blocks = len(picture), picture.shape[1] // _BLOCK
    cut = picture.reshape(n, blocks, _BLOCK, blocks, _BLOCK).transpose(0, 1, 3, 2, 4)
    return cut.reshape(n, blocks, blocks, _BLOCK**2)


# -------------------------------------------------------------------- where one picture lies in the other

WHOLE = np.array([1.0, 0.0, 1.0, 0.0], dtype=np.float32)
"""The place of a whole picture: zoom and shift in cells, of rows and of columns, about the centre."""

_TO_FULL_SIZE = np.array([1.0, 2.0, 1.0, 2.0], dtype=np.float32)


def find_place(a: np.ndarray, b: np.ndarray, place: np.ndarray, steps: int) -> np.ndarray:
    """Find the zoom and shift of rows and columns of ``a`` that fit ``b`` best, float32 ``(n, 4)``.

    Args:
        a, b: float32 ``(n, side, side)``.
        place: where to start, ``(n, 4)`` or ``(4,)``.
        steps: how often to improve it.

    Source: Lucas and Kanade, "An iterative image registration technique", IJCAI 1981: Gauss–Newton on the squared
    difference; here with the four parameters of a crop.
    """
    place = np.broadcast_to(place, (len(a), 4)).copy()
    most = _MOST_SHIFT * a.shape[1] / GRID
    for _ in range(steps):
        place += _improvement(a, b, place)
        place[:, ::2] = place[:, ::2].clip(1 - _MOST_ZOOM, 1 + _MOST_ZOOM)
        place[:, 1::2] = place[:, 1::2].clip(-most, most)
    return place


def resampled(a: np.ndarray, place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sample ``a`` where ``place`` says, linearly; second: which cells lie inside it."""
    at, middle = _from_centre(a.shape[1]), (a.shape[1] - 1) / 2
    rows = place[:, 0:1] * at + place[:, 1:2] + middle
    columns = place[:, 2:3] * at + place[:, 3:4] + middle
    moved = _hats(rows) @ a @ _hats(columns).transpose(0, 2, 1)
    inside = [(p >= -0.5) & (p <= a.shape[1] - 0.5) for p in (rows, columns)]
    return moved, inside[0][:, :, None] & inside[1][:, None, :]


def _hats(positions: np.ndarray) -> np.ndarray:
    """Return the weights of linear interpolation at ``(n, side)`` positions, ``(n, side, side)``."""
    side = positions.shape[1]
    inside = positions.clip(0, side - 1)
    return np.asarray(np.maximum(0, 1 - np.abs(inside[:, :, None] - np.arange(side, dtype=np.float32))))


def _from_centre(side: int) -> np.ndarray:
    return np.arange(side, dtype=np.float32) - (side - 1) / 2


def _improvement(a: np.ndarray, b: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Return one Gauss–Newton step, float32 ``(n, 4)``."""
    moved, inside = resampled(a, place)
    down, across = np.gradient(moved, axis=(1, 2))
    # The gradient of the resampled picture is that of the picture times the zoom.
    down, across = down / place[:, 0, None, None], across / place[:, 2, None, None]
    at = _from_centre(a.shape[1])
    level = np.ones_like(moved)  # a crop has another mean
    slopes = np.stack([down * at[:, None], down, across * at, across, level], axis=1) * inside[:, None]
    slopes = slopes.reshape(len(a), 5, a.shape[1] * a.shape[2])
    rest = ((b - moved) * inside).reshape(len(a), a.shape[1] * a.shape[2], 1)
    normal = slopes @ slopes.transpose(0, 2, 1)
    damped = normal * (1 + 1e-3 * np.eye(5, dtype=np.float32)) + 1e-3 * np.eye(5, dtype=np.float32)
    return np.asarray(np.linalg.solve(damped, slopes @ rest)[:, :4, 0], dtype=np.float32)


def _coarse_correlation(a: np.ndarray, b: np.ndarray, place: np.ndarray) -> np.ndarray:
    moved, inside = resampled(_halved(a), place)
    n = np.maximum(inside.sum(axis=(1, 2), keepdims=True), 1)
    x, y = ((t - (t * inside).sum(axis=(1, 2), keepdims=True) / n) * inside for t in (moved, _halved(b)))
    length = np.sqrt(np.square(x).sum(axis=(1, 2)) * np.square(y).sum(axis=(1, 2)))
    return np.asarray((x * y).sum(axis=(1, 2)) / np.maximum(length, 1e-6))


def _halved(thumbs: np.ndarray) -> np.ndarray:
    """Halve both sides, and blur: a quarter of the work, and a wide basin for the first steps."""
    n, side = len(thumbs), thumbs.shape[1] // 2
    small = thumbs.reshape(n, side, 2, side, 2).mean(axis=(2, 4))
    reach = np.abs(np.arange(side)[:, None] - np.arange(side))
    blur = np.select([reach == 0, reach == 1], [0.5, 0.25]).astype(np.float32)
    blur /= blur.sum(axis=1, keepdims=True)
    return np.asarray(blur @ small @ blur.T)
