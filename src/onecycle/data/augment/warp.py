"""Where each output pixel comes from: 3×3 matrices, one a picture, and their arithmetic.

**Convention.** Coordinates run over [−1, 1] from the centre of the first pixel to the centre of the last
(``align_corners=True``), x to the right and y downwards, points are columns ``(x, y, 1)``. A matrix takes a
position in the *output* to the position in the *input* that is shown there. So ``first @ second`` is the
picture to which ``first`` and then ``second`` were applied.

All functions are vectorised over N pictures, in float64 on the CPU; matrices are ``(N, 3, 3)``.

Source: the matrices and corner shifts of fastai v1, ``fastai/vision/transform.py``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

CORNERS: Floats = np.array([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]])
"""x and y of top left, bottom left, top right, bottom right."""


def identity(n: int) -> Floats:
    """Return ``n`` identity matrices, (n, 3, 3)."""
    return np.tile(np.eye(3), (n, 1, 1))


def scale_shift(scale_x: Floats, scale_y: Floats, shift_x: Floats, shift_y: Floats) -> Floats:
    """Return matrices that scale and then shift each axis; each argument is (N,)."""
    m = identity(len(scale_x))
    m[:, 0, 0], m[:, 1, 1] = scale_x, scale_y
    m[:, 0, 2], m[:, 1, 2] = shift_x, shift_y
    return m


def rotation(degrees: Floats) -> Floats:
    """Return [[cos, −sin, 0], [sin, cos, 0], [0, 0, 1]]; positive turns the content counter-clockwise."""
    angle = np.deg2rad(degrees)
    m = identity(len(degrees))
    m[:, 0, 0] = m[:, 1, 1] = np.cos(angle)
    m[:, 0, 1], m[:, 1, 0] = -np.sin(angle), np.sin(angle)
    return m


def window(width: Floats, height: Floats, row_pct: Floats, col_pct: Floats) -> Floats:
    """Return matrices that show a window of ``width`` × ``height`` of the picture (1 = all of it).

    ``row_pct`` and ``col_pct`` place it: 0 at the top or left edge, 1 at the bottom or right edge.
    """
    return scale_shift(width, height, (1 - width) * (2 * col_pct - 1), (1 - height) * (2 * row_pct - 1))


def magnification(scale: Floats, row_pct: Floats, col_pct: Floats) -> Floats:
    """Return diag(1/s, 1/s) with offset (1−1/s)(2c−1), (1−1/s)(2r−1): zoom by ``scale`` about a point."""
    return window(1 / scale, 1 / scale, row_pct, col_pct)


def squishing(scale: Floats, row_pct: Floats, col_pct: Floats) -> Floats:
    """Return matrices that narrow the view to ``scale`` of the width, or to 1/scale of the height above 1."""
    return window(np.minimum(scale, 1), 1 / np.maximum(scale, 1), row_pct, col_pct)


def square_position(k: Ints) -> Floats:
    """Return the matrix of each of the 8 positions: k&1 negates x, k&2 negates y, k&4 swaps the axes."""
    x, y = np.where(k & 1, -1.0, 1.0), np.where(k & 2, -1.0, 1.0)
    swap = (k & 4) > 0
    m = identity(len(k))
    m[:, 0, 0], m[:, 0, 1] = np.where(swap, 0, x), np.where(swap, x, 0)
    m[:, 1, 0], m[:, 1, 1] = np.where(swap, y, 0), np.where(swap, 0, y)
    return m


def flip_then_transpose(k: Ints) -> Floats:
    """Return the matrix of: flip rows where k&1, flip columns where k&2, then transpose where k&4."""
    rows_first = (k & 1) << 1 | (k & 2) >> 1 | (k & 4)
    return square_position(rows_first)


def perspective(targets: Floats) -> Floats:
    """Return the perspective that moves the picture's corners to ``targets``.

    As every matrix here it runs from output to input: it takes ``targets[n, i]`` to ``CORNERS[i]``, so that a
    target outside the picture pushes that corner out of view.

    Args:
        targets: (N, 4, 2), x and y for each of ``CORNERS``; no three of them on a line.
    """
    x, y = targets[:, :, 0], targets[:, :, 1]
    u, v = (np.broadcast_to(CORNERS[:, i], x.shape) for i in (0, 1))
    one, zero = np.ones_like(x), np.zeros_like(x)
    # (a x + b y + c) / (g x + h y + 1) = u and the same with d, e, f for v: two linear equations a corner.
    for_u = np.stack([x, y, one, zero, zero, zero, -u * x, -u * y], axis=-1)
    for_v = np.stack([zero, zero, zero, x, y, one, -v * x, -v * y], axis=-1)
    coefficients = np.linalg.solve(np.concatenate([for_u, for_v], axis=1), np.concatenate([u, v], axis=1)[:, :, None])
    return np.concatenate([coefficients[:, :, 0], np.ones((len(x), 1))], axis=1).reshape(-1, 3, 3)


def symmetric_targets(magnitude: Floats) -> Floats:
    """Return where ``symmetric_warp`` moves the corners, (N, 4, 2), for magnitudes (N, 4)."""
    return CORNERS * (1 + magnitude[:, [[3, 1], [2, 1], [3, 0], [2, 0]]])


_TILTED: Floats = np.array(
    [  # for each direction, which corner moves outwards along x, y
        [[0, 0], [0, 0], [0, 1], [0, 1]],
        [[0, 1], [0, 1], [0, 0], [0, 0]],
        [[0, 0], [1, 0], [0, 0], [1, 0]],
        [[1, 0], [0, 0], [1, 0], [0, 0]],
    ],
    dtype=np.float64,
)


def shifted_corners(shifts: Floats) -> Floats:
    """Return the corners moved by ``shifts``, x and y of each in turn, (N, 8), as (N, 4, 2)."""
    return CORNERS + shifts.reshape(-1, 4, 2)


def tilt_targets(direction: Ints, magnitude: Floats) -> Floats:
    """Return where ``tilt`` moves the corners, (N, 4, 2)."""
    return CORNERS * (1 + _TILTED[direction] * magnitude[:, None, None])


def skew_targets(direction: Ints, magnitude: Floats) -> Floats:
    """Return where ``skew`` moves the corners, (N, 4, 2): corner ``d // 2`` along axis ``d % 2``."""
    moved = np.eye(8).reshape(8, 4, 2)[direction]
    return CORNERS * (1 + moved * magnitude[:, None, None])


def keep_angles(linear: Floats, shapes: Ints) -> Floats:
    """Scale m[0,1] by h/w and m[1,0] by w/h, so that rotating a rectangular picture does not shear it."""
    ratio = shapes[:, 0] / shapes[:, 1]
    m = linear.copy()
    m[:, 0, 1] *= ratio
    m[:, 1, 0] /= ratio
    return m


def window_start(current: Ints, wanted: int, pct: Floats) -> Ints:
    """Return the first row (or column) of a window of ``wanted`` pixels in a picture of ``current``.

    A picture that is too small counts as padded on both sides by half of what it lacks, rounded up; the start
    is then negative.

    Args:
        current: rows (or columns) of each picture, (N,).
        wanted: rows (or columns) of the window.
        pct: position, 0 for the first possible start to 1 for the last, (N,).

    Source: ``_crop_pad`` of fastai v1.
    """
    padding = np.maximum((wanted - current + 1) // 2, 0)
    room = current + 2 * padding - wanted + 1
    below_one = np.minimum(pct, 1 - 1e-7)
    start: Ints = np.floor(room * below_one).astype(np.int64) - padding
    return start


def pixel_window(shapes: Ints, start: Ints, size: tuple[int, int]) -> Floats:
    """Return matrices that show ``size`` pixels from ``start`` on, of pictures of ``shapes``.

    Args:
        shapes: rows and columns of the pictures, (N, 2).
        start: first row and column of the window, (N, 2); may lie outside.
        size: rows and columns of the window.
    """
    steps = np.maximum(shapes - 1, 1)
    length = np.array(size) - 1
    scale, shift = length / steps, (2 * start + length) / steps - 1
    return scale_shift(scale[:, 1], scale[:, 0], shift[:, 1], shift[:, 0])


def to_pixels(matrices: Floats, shapes: Ints, size: tuple[int, int]) -> Floats:
    """Rewrite matrices over [−1, 1] to run from output pixels to input pixels (0 = first pixel's centre)."""
    out_steps = np.maximum(np.broadcast_to(np.array(size), shapes.shape) - 1, 1)
    one = np.ones(len(shapes))
    from_pixel = scale_shift(2 / out_steps[:, 1], 2 / out_steps[:, 0], -one, -one)
    half = (shapes - 1) / 2
    return scale_shift(half[:, 1], half[:, 0], half[:, 1], half[:, 0]) @ matrices @ from_pixel
