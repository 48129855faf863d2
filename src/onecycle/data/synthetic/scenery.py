"""How a drawn tile looks: noise, a canvas, one painter a tag, the weather and the camera.

Lengths are in tile sides, colours RGB from 0 to 255 of the ground below a clear sky, noise has mean 0, deviation 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Plane = NDArray[np.floating[Any]]  # (H, W), or with colour (H, W, 3); float32 throughout, for speed
Points = NDArray[np.float64]  # (K, 2): x to the right and y down, in tile sides

GROUND_PX = 256  # the side at which the stated widths in pixels hold
SUPERSAMPLING = 2  # shapes are drawn this much larger and averaged down: no staircase edges
PALETTES = {  # RGB in hexadecimal
    "field": "485436 545e3e 6c6648 847458 6a5a4a 7a665a 3a4a30",
    "plot": "7e6052 70564c 465c38 54643e",
    "char": "302624 3a2c26",
    "soil": "9e8068 a89076 8e6e5e",
    "road": "ac7654 b8a07e 8c8072 a08468",
    "roof": "e2ded6 c4beb6 b87c60 a0968e cec4b0",
    "water": "927e5c 705c4a 56544a 1c2832 2e3c40 141c20 7a7258",
    "pond": "768e70 b09660 608274",
    "mine": "ccac7c bea688 d2ba96",
    "blossom": "bcaa60 c4baaa b28078",
    "veil": "76868a 8c8c76 848c84 969284 708092",
}


@lru_cache(maxsize=4)
def _waves(size_px: int) -> tuple[Plane, Plane, Plane]:
    """Return the wave numbers (x, y, length) of a real spectrum of `size_px`² values, in cycles a side."""
    ky = np.fft.fftfreq(size_px, 1 / size_px).astype(np.float32)[:, None]
    kx = np.arange(size_px // 2 + 1, dtype=np.float32)[None, :]
    return kx, ky, np.maximum(np.hypot(kx, ky), np.float32(0.5))  # a length of 0 would divide by 0


def _noise(rng: np.random.Generator, gain: NDArray[Any]) -> Plane:
    """Draw a periodic random plane whose spectrum has the amplitudes `gain`."""
    height, half = gain.shape
    spectrum = rng.standard_normal((height, half, 2), dtype=np.float32).view(np.complex64)[..., 0] * gain
    spectrum[0, 0] = 0
    plane = np.fft.irfft2(spectrum, s=(height, height))
    return np.asarray(plane / plane.std(), np.float32)


def _canopy(rng: np.random.Generator, size_px: int, *, crown_px: float, light: float) -> Plane:
    """Draw tree crowns lit from the angle `light`, with a spectrum near that of real closed forest."""
    kx, ky, k = _waves(size_px)
    gain = np.exp(-((k * (crown_px / GROUND_PX)) ** 2)) * (1 + (4 / k) ** 1.5)
    towards_sun = (math.cos(light) * kx + math.sin(light) * ky) / k
    lit = _noise(rng, gain * (1 + 1.3j * towards_sun))
    crowns = np.maximum(lit, np.roll(lit, (size_px // 3, size_px // 5), (0, 1)))  # round tops, narrow gaps
    return np.asarray((crowns - crowns.mean()) / crowns.std(), np.float32)


def _clumps(rng: np.random.Generator, size_px: int, *, slope: float, stretch: float = 1.0) -> list[Plane]:
    """Draw soft fractal noise for four tiles at once, so that no tile's edge repeats its opposite edge."""
    half = (size_px + 1) // 2
    kx, ky, k = _waves(2 * half)
    angle = rng.uniform(0, math.pi)
    along, across = (math.cos(a) * kx + math.sin(a) * ky for a in (angle, angle + math.pi / 2))
    length = k if stretch == 1 else np.maximum(np.hypot(along * stretch, across), 1)
    whole = _noise(rng, length**-slope * np.exp(-((k / (0.8 * half)) ** 2)))
    quarters = [whole[y : y + half, x : x + half] for y in (0, half) for x in (0, half)]
    size, smooth = (size_px, size_px), Image.Resampling.BICUBIC
    return [np.asarray(Image.fromarray(quarter.copy()).resize(size, smooth)) for quarter in quarters]


def _shift(plane: Plane, dy: int, dx: int) -> Plane:
    """Move a plane down and right; what comes in at the edges repeats the edge."""
    rows, columns = (np.clip(np.arange(n) - d, 0, n - 1) for n, d in zip(plane.shape, (dy, dx), strict=True))
    return np.asarray(plane[rows][:, columns])


def _ramp(plane: Plane, low: float, high: float) -> Plane:
    """Rise smoothly from 0 at `low` to 1 at `high`."""
    t = np.clip((plane - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def _pick(rng: np.random.Generator, palette: str) -> Plane:
    """Choose a colour (3,) of a palette and vary its brightness a little, its hue less."""
    colour = np.array(list(bytes.fromhex(str(rng.choice(PALETTES[palette].split()))))) * rng.normal(1, 0.08)
    return np.asarray(np.clip(colour + rng.normal(0, 1 + 0.02 * colour.mean(), 3), 5, 250), np.float32)


# The canvas, and lines and outlines to draw on it


class _Canvas:
    """A tile while it is painted. `rng` places things, `grain` makes texture: no place depends on the size."""

    def __init__(self, rng: np.random.Generator, size_px: int, *, wooded: bool) -> None:
        self.rng, self.grain = rng.spawn(2)
        self.size_px, self.wooded = size_px, wooded
        self.light, crown_px = self.rng.uniform(0, 2 * math.pi), self.rng.uniform(4.0, 6.5)
        self.relief = _canopy(self.grain, size_px, crown_px=crown_px, light=self.light)
        self.clumps = _clumps(self.grain, size_px, slope=1.7)
        self.rgb = self._ground()
        self.water = np.zeros((size_px, size_px), np.float32)
        self.taken = self.water  # 1 where something other than forest lies
        self.claims: list[Plane] = []  # the mask of every thing that gave the tile a tag
        self.road: Points = np.empty((0, 2))

    def _ground(self) -> Plane:
        rng, warm = self.rng, self.rng.normal(0, 1)
        forest = np.array([32 + 4 * warm, 46 + warm, 37 - 5 * warm]) * rng.uniform(0.75, 1.3)
        forest += rng.normal(0, 2, 3)
        colour = np.maximum(forest, 8).astype(np.float32) if self.wooded else _pick(rng, "field")
        contrast = rng.uniform(4.5, 9.5) * float(colour.mean()) / 38 if self.wooded else 3.0
        shade = contrast * self.relief * np.exp(0.2 * self.clumps[3]) + 0.06 * colour.mean() * self.clumps[0]
        if rng.random() < 0.35:  # hills
            down, right = np.gradient(self.clumps[1])
            slope = math.cos(self.light) * right + math.sin(self.light) * down
            shade += rng.uniform(2, 6) / slope.std() * slope
        other = np.roll(self.relief, (self.size_px // 3, self.size_px // 2), (0, 1))  # crowns differ in hue,
        hue = 0.3 * contrast * other + 2 * contrast * _ramp(other, 2.2, 4.2)  # and a few are pale
        tints = np.array([[1.1, 1.0, 0.75], [1.0, 0.5, 0.1]], np.float32)
        return np.asarray(colour + shade[..., None] * tints[0] + hue[..., None] * tints[1], np.float32)

    def paint(self, mask: Plane, colour: Plane, *, texture: float = 0.0, mottle: float = 0.0) -> None:
        """Lay a colour, (3,) or (H, W, 3), where `mask` (0 to 1) says; texture and mottle in grey levels."""
        shade = texture * self.relief + mottle * self.clumps[0]
        self.rgb += mask[..., None] * (colour + shade[..., None] - self.rgb)

    def claim(self, mask: Plane) -> None:
        """Remember that a tag rests on `mask`: other things keep off it, and clouds do not hide all of it."""
        self.claims.append(mask)
        self.taken = np.maximum(self.taken, mask)

    def shapes(self, items: Sequence[Points], draw: Callable[[ImageDraw.ImageDraw, list[float]], object]) -> Plane:
        """Return the mask of what `draw(pen, an item's numbers in pixels)` draws with 255."""
        side = self.size_px * SUPERSAMPLING
        image = Image.new("L", (side, side))
        pen = ImageDraw.Draw(image)
        for item in items:
            draw(pen, (item * float(side)).ravel().tolist())
        return np.asarray(image.reduce(SUPERSAMPLING), np.float32) / np.float32(255)

    def lines(self, paths: Sequence[Points], width_px: float) -> Plane:
        """Return the mask of lines of `width_px` (at 256 px)."""
        width = max(1, round(width_px * float(self.size_px * SUPERSAMPLING) / GROUND_PX))
        return self.shapes(paths, lambda pen, points: pen.line(points, fill=255, width=width))

    def blobs(self, outlines: Sequence[Points], *, ragged: float = 0.0) -> Plane:
        """Return the mask of closed outlines, with torn edges where `ragged` is above 0."""
        mask = self.shapes(outlines, lambda pen, points: pen.polygon(points, fill=255))
        return self.fray(mask, ragged) if ragged else mask

    def fray(self, mask: Plane, amount: float) -> Plane:
        """Let noise eat into the edge of a mask; 1 is much."""
        blur = ImageFilter.GaussianBlur(5 * amount * self.size_px / GROUND_PX)
        edge = np.asarray(Image.fromarray((mask * 255).astype(np.uint8)).filter(blur), np.float32) / 255
        tear = 1.1 * min(amount, 1) * (self.clumps[2] + 0.6 * self.relief)
        return _ramp(edge + edge * (1 - edge) * tear, 0.35, 0.65)

    def free_spot(self, margin: float = 0.1) -> Points:
        """Return the emptiest of 30 random points, as (1, 2)."""
        spots = self.rng.uniform(margin, 1 - margin, (30, 2))
        best = int(np.argmin(self.at(self.taken, spots)))
        return np.asarray(spots[best : best + 1])

    def at(self, plane: Plane, spots: Points) -> Plane:
        """Return the values (K,) of a plane at points; outside, those of the nearest edge."""
        column, row = np.clip(spots * self.size_px, 0, self.size_px - 1).astype(int).T
        return np.asarray(plane[row, column])


def _winding(rng: np.random.Generator, through: Points, *, bend: float, wave: float, wander: float = 0.3) -> Points:
    """Return a line across the tile whose direction swings by `bend` radians about every `wave` tile sides.

    Source: the sine-generated curve of W. B. Langbein and L. B. Leopold, River meanders (USGS, 1966).
    """
    step, count = 0.012, 280
    drift = np.cumsum(rng.normal(0, wander * math.sqrt(step), 2 * count))
    drift = np.convolve(drift, np.ones(25) / 25, mode="same") - drift[count]
    phase = 2 * math.pi * np.arange(-count, count) * step / wave + rng.uniform(0, 2 * math.pi)
    phase += 1.6 * np.sin(phase * rng.uniform(0.3, 0.6) + rng.uniform(0, 6))  # no two bends are alike
    heading = rng.uniform(0, 2 * math.pi) + drift + bend * np.sin(phase)
    path = np.cumsum(np.stack([np.cos(heading), np.sin(heading)], 1) * step, axis=0)
    return np.asarray(path - path[count] + through)


def _outline(rng: np.random.Generator, at: Points, radius: float, *, corners: int = 11) -> Points:
    """Return an irregular closed outline of about `radius` tile sides around `at`."""
    turn, reach = np.sort(rng.uniform(0, 2 * math.pi, corners)), radius * rng.uniform(0.65, 1.2, corners)
    flat = np.stack([reach * np.cos(turn), reach * np.sin(turn) * rng.uniform(0.55, 1)], 1)
    return np.asarray(flat @ _turned(rng.uniform(0, math.pi)) + at)


def _turned(angle: float) -> Points:
    """Return the (2, 2) matrix that turns row vectors by `angle` radians."""
    return np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])


# What each tag looks like


def _agriculture(canvas: _Canvas) -> None:
    """Fields of related colours, some in rows; trees and groves stand in them, soil shows through the grass."""
    rng, clumps = canvas.rng, canvas.clumps
    ids, cleared, along = _parcels(canvas)
    single = _ramp(canvas.relief + 0.8 * clumps[3], rng.uniform(2.0, 3.0), 3.6)
    groves = _ramp(clumps[1] + 0.25 * canvas.relief, rng.uniform(0.7, 2.5), 2.7)
    lush = rng.uniform(0.3, 0.8) if rng.random() < 0.3 else 0.0  # abandoned fields turn back into forest
    mask = cleared[ids] * (1 - 0.9 * np.maximum(single, groves)) * (1 - lush)
    common, soil = _pick(rng, "field"), _pick(rng, "soil")
    grass = np.stack([0.55 * common + 0.45 * _pick(rng, "field") for _ in cleared])[ids]
    worn = rng.uniform(0, 0.4) * _ramp(clumps[2] - 0.2 * canvas.relief, -0.6, 2)
    ridges = np.array([rng.uniform(2, 5) if rng.random() < 0.2 else 0 for _ in cleared], np.float32)
    furrows = ridges[ids] * np.sin(2 * math.pi * GROUND_PX / rng.uniform(4, 7) * along)
    colours = grass + worn[..., None] * (soil - grass) + furrows[..., None]
    canvas.paint(mask, colours, texture=rng.uniform(1.5, 4), mottle=rng.uniform(3, 8))
    canvas.claim(mask)


def _parcels(canvas: _Canvas) -> tuple[NDArray[np.intp], Plane, Plane]:
    """Divide the tile: the parcel of every pixel (H, W), which ones are fields (K,), a coordinate along rows."""
    rng, size = canvas.rng, canvas.size_px
    seeds = rng.uniform(-0.1, 1.1, (rng.integers(5, 15), 2))
    turn, flat = rng.uniform(0, math.pi), rng.uniform(0.55, 1)
    warp, grid = float(rng.choice([0.004, 0.012, 0.035])), (np.arange(size, dtype=np.float32) + 0.5) / size
    x, y = grid[None, :] + warp * canvas.clumps[2], grid[:, None] + warp * canvas.clumps[3]
    u, v = (math.cos(a) * x + math.sin(a) * y for a in (turn, turn + math.pi / 2))
    su, sv = (seeds @ _turned(-turn)).astype(np.float32).T[:, :, None, None]
    du, dv = np.abs(u - su), flat * np.abs(v - sv)
    far = np.maximum(du, dv) if rng.random() < 0.6 else du * du + dv * dv  # rectangles or polygons
    order = np.argsort(seeds @ _turned(rng.uniform(0, 7))[0] + rng.normal(0, 0.12, len(seeds)))
    cleared = np.zeros(len(seeds), np.float32)
    cleared[order[: max(2, round(rng.uniform(0.1, 0.85) * len(seeds)))]] = 1  # from one side of the tile
    return far.argmin(axis=0), cleared, u


def _water(canvas: _Canvas) -> None:
    """A lake, a creek or a river; wide ones swing in wide bends, and some have sand on their banks."""
    rng, at = canvas.rng, canvas.free_spot(0.25)
    if rng.random() < 0.12:
        mask = canvas.blobs([_outline(rng, at, rng.uniform(0.07, 0.22), corners=16)], ragged=0.6)
    else:
        width = float(rng.choice([0.016, 0.06, 0.15, 0.5], p=[0.25, 0.35, 0.22, 0.18]))
        width *= rng.uniform(0.7, 1.5)
        wave = max(0.4, 11 * width) * rng.uniform(0.8, 1.4)
        mask = _stream(canvas, _winding(rng, at, bend=rng.uniform(0.2, 1.5), wave=wave), width)
    if rng.random() < 0.3:
        bank = canvas.fray(mask, 1.6) * _ramp(canvas.clumps[1], 0.3, 0.9) * (1 - mask)
        canvas.paint(bank, _pick(rng, "soil"), texture=3)
    canvas.paint(mask, _pick(rng, "water"), mottle=2)
    canvas.water = mask
    canvas.claim(mask)


def _stream(canvas: _Canvas, path: Points, width: float) -> Plane:
    """Return the mask of a stream of about `width` tile sides: a row of discs that swell and shrink."""
    phase = canvas.rng.uniform(0, 6) + np.linspace(0, canvas.rng.uniform(9, 40), len(path))
    between = np.arange(0, len(path) - 0.5, 0.5)
    discs = np.column_stack([path, width / 2 * (1 + 0.25 * np.sin(phase))])
    discs = np.column_stack([np.interp(between, np.arange(len(path)), column) for column in discs.T])
    discs = discs[np.all(np.abs(discs[:, :2] - 0.5) < 0.5 + width, axis=1)]

    def disc(pen: ImageDraw.ImageDraw, numbers: list[float]) -> None:
        x, y, r = numbers
        pen.ellipse((x - r, y - r, x + r, y + r), fill=255)

    return canvas.fray(canvas.shapes(list(discs), disc), 0.25)


def _patches(
    canvas: _Canvas,
    spots: Points,
    radius: tuple[float, float],
    palette: str,
    *,
    ragged: float,
    texture: float = 4.0,
    cover: Plane | float = 1.0,
    wet: bool = False,
) -> Plane:
    """Paint and claim patches of one colour around `spots`, in water only where `wet`; return their mask."""
    outlines = [_outline(canvas.rng, at, canvas.rng.uniform(*radius)) for at in spots]
    land = 1.0 if wet else 1 - canvas.water
    mask = np.asarray(canvas.blobs(outlines, ragged=ragged) * land * cover, np.float32)
    canvas.paint(mask, _pick(canvas.rng, palette), texture=texture, mottle=texture)
    canvas.claim(mask)
    return mask


def _cultivation(canvas: _Canvas) -> None:
    """A few small plots in the forest, fresh (pinkish) or grown over (a lighter green)."""
    for _ in range(canvas.rng.integers(1, 6)):
        cover = canvas.rng.uniform(0.35, 1)
        _patches(canvas, canvas.free_spot(), (0.022, 0.085), "plot", ragged=0.35, cover=cover)


def _slash_burn(canvas: _Canvas) -> None:
    """One or two plots of charcoal with pale ash in them."""
    for _ in range(canvas.rng.integers(1, 3)):
        mask = _patches(canvas, canvas.free_spot(0.2), (0.07, 0.17), "char", ragged=0.5)
        canvas.paint(mask * _ramp(canvas.relief + canvas.clumps[1], 1.0, 2.4), _pick(canvas.rng, "soil"))


def _bare_ground(canvas: _Canvas) -> None:
    """Patches of pale soil with torn edges, partly overgrown."""
    spots = np.concatenate([canvas.free_spot() for _ in range(canvas.rng.integers(1, 4))])
    grass = canvas.rng.uniform(0.2, 0.9) * _ramp(canvas.clumps[3] + 0.4 * canvas.relief, 0.3, 1.8)
    _patches(canvas, spots, (0.06, 0.2), "soil", ragged=0.9, texture=7, cover=1 - grass)


def _artisinal_mine(canvas: _Canvas) -> None:
    """Torn pits of bright sand with green or yellow ponds in them."""
    spots = canvas.free_spot(0.2) + canvas.rng.normal(0, 0.11, (canvas.rng.integers(4, 11), 2))
    _patches(canvas, spots, (0.03, 0.09), "mine", ragged=1.0, texture=9, wet=True)
    _patches(canvas, spots[::2], (0.015, 0.045), "pond", ragged=0.2, texture=1, wet=True)


def _blooming(canvas: _Canvas) -> None:
    """Single flowering crowns strewn over the forest."""
    spots = canvas.rng.uniform(0, 1, (canvas.rng.integers(25, 110), 2))
    cover = canvas.rng.uniform(0.4, 0.8)
    _patches(canvas, spots, (0.006, 0.011), "blossom", ragged=0, texture=8, cover=cover)


def _selective_logging(canvas: _Canvas) -> None:
    """Thin skid trails that branch off one another, with small gaps where trees fell."""
    rng = canvas.rng
    trails = [_winding(rng, canvas.free_spot(0.3), bend=0.3, wave=0.5, wander=1.5)[250:310]]
    for _ in range(rng.integers(9, 20)):
        start, end = rng.choice(trails[int(rng.integers(len(trails)))]), int(rng.integers(286, 298))
        trails.append(_winding(rng, start, bend=0.5, wave=0.3, wander=2)[280:end])
    gaps = [_outline(rng, trail[-1], rng.uniform(0.004, 0.012), corners=6) for trail in trails[::2]]
    seen = rng.uniform(0.65, 1) * _ramp(canvas.clumps[1] + 0.7 * canvas.relief, -1.3, 0.6)
    mask = np.maximum(canvas.lines(trails, 1.6), canvas.blobs(gaps)) * seen * (1 - canvas.water)
    canvas.paint(mask, _pick(rng, "soil"))
    canvas.claim(mask)


def _road(canvas: _Canvas) -> None:
    """One bright line across the tile, straight or bent, sometimes with a branch; trees may hang over it."""
    rng = canvas.rng
    bend, wander = (rng.uniform(0, 0.08), 0.08) if rng.random() < 0.5 else (rng.uniform(0.1, 0.7), 0.6)
    through, wave = rng.uniform(0.2, 0.8, 2), rng.uniform(0.5, 1.6)
    canvas.road = _winding(rng, through, bend=bend, wave=wave, wander=wander)
    paths = [canvas.road]
    if rng.random() < 0.35:
        paths.append(_winding(rng, rng.choice(canvas.road[240:320]), bend=0.2, wave=1, wander=0.5)[280:])
    verge = canvas.fray(canvas.lines(paths, rng.uniform(4, 9)), 1.0)
    canvas.paint(verge * rng.uniform(0, 0.35), _pick(rng, "field"), texture=3)
    hidden = rng.uniform(0, 0.6) * _ramp(canvas.relief + canvas.clumps[3], 0.3, 2)
    mask = canvas.lines(paths, rng.uniform(1.0, 2.4)) * rng.uniform(0.22, 1) * (1 - hidden)
    canvas.paint(mask, _pick(rng, "road"))
    canvas.claim(mask)


def _habitation(canvas: _Canvas) -> None:
    """Roofs on trodden ground, along the road if there is one: a farm, a village or, without forest, a town."""
    rng = canvas.rng
    usual = rng.choice([6, 16, 45], p=[0.4, 0.4, 0.2]) * (1 if canvas.wooded else 4)
    count = round(usual * rng.uniform(0.7, 1.6))
    spots, facing = _sites(canvas, count)
    dry = canvas.at(canvas.water, spots) < 0.5
    spots = spots[dry] if dry.sum() > 2 else canvas.free_spot(0.15) + rng.normal(0, 0.02, (count, 2))
    yards = canvas.blobs([_outline(rng, at, 0.022) for at in spots], ragged=0.8)
    canvas.paint(yards * rng.uniform(0.25, 0.7), _pick(rng, "soil"), mottle=5)
    box = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    roofs = [box * rng.uniform(0.0045, 0.012, 2) @ _turned(facing) + at for at in spots]
    mask = canvas.blobs(roofs)
    canvas.paint(_shift(mask, 1, 1) * 0.5, np.full(3, 20, np.float32))  # shadows
    for first in range(3):
        canvas.paint(canvas.blobs(roofs[first::3]) * rng.uniform(0.4, 1), _pick(rng, "roof"))
    canvas.claim(mask)


def _sites(canvas: _Canvas, count: int) -> tuple[Points, float]:
    """Return where about `count` buildings stand, (K, 2), and the angle that they face."""
    rng = canvas.rng
    road = canvas.road[np.all(np.abs(canvas.road - 0.5) < 0.4, axis=1)]
    if len(road) == 0:
        spots = canvas.free_spot(0.2) + rng.normal(0, 0.02 + 0.0015 * count, (count, 2))
        return spots, rng.uniform(0, math.pi)
    along = rng.normal(rng.uniform(0.2, 0.8) * len(road), 2 + 0.35 * count, count)
    along = np.append(along[(along >= 0) & (along < len(road))], len(road) // 2).astype(int)
    ahead = road[-1] - road[0]
    away = 0.012 + np.abs(rng.normal(0, 0.012 + 0.0006 * count, len(along)))
    away *= rng.choice([-1, 1], len(along))
    across = np.array([-ahead[1], ahead[0]]) / (math.hypot(*ahead) + 1e-9)
    return road[along] + away[:, None] * across, math.atan2(ahead[1], ahead[0])


PAINTERS: dict[str, Callable[[_Canvas], None]] = {  # in this order: what lies on top comes last
    "agriculture": _agriculture,
    "water": _water,
    "cultivation": _cultivation,
    "slash_burn": _slash_burn,
    "bare_ground": _bare_ground,
    "artisinal_mine": _artisinal_mine,
    "selective_logging": _selective_logging,
    "blooming": _blooming,
    "road": _road,
    "habitation": _habitation,
}


# The weather and the camera


def _clouds(canvas: _Canvas) -> None:
    """Lay clouds and their shadows over part of the tile, placed so that no tag is hidden altogether."""
    rng, thin = canvas.rng, canvas.rng.random() < 0.3
    cover = rng.uniform(0.25, 0.7) if thin else rng.uniform(0.02, 0.45)
    width, alpha = (1.6, rng.uniform(0.4, 0.7)) if thin else (rng.uniform(0.5, 1.2), 0.98)
    skies = _clumps(canvas.grain, canvas.size_px, slope=1.8 if thin else 2.0)
    skies = [sky - np.float32(np.quantile(sky, 1 - cover)) for sky in skies]
    sky = min(skies, key=lambda sky: _most_hidden(_ramp(sky, 0, width), canvas.claims))
    mask = _ramp(sky, 0, width)
    if not thin:
        reach = rng.uniform(0.05, 0.2) * canvas.size_px
        shadow = _shift(mask, int(-math.sin(canvas.light) * reach), int(-math.cos(canvas.light) * reach))
        canvas.rgb *= 1 - rng.uniform(0.35, 0.6) * shadow[..., None]
    white = rng.uniform(140, 185) + 60 * _ramp(sky + 0.2 * canvas.clumps[1], 0, 2.2)
    cloud = white[..., None] * np.array([1, 1, 0.96], np.float32)
    canvas.rgb += alpha * mask[..., None] * (cloud - canvas.rgb)


def _most_hidden(mask: Plane, claims: Sequence[Plane]) -> float:
    """Return the share, 0 to 1, that `mask` hides of the thing that it hides most."""
    return max((float((mask * claim).sum() / (claim.sum() + 1e-6)) for claim in claims), default=0.0)


def _overcast(canvas: _Canvas) -> None:
    """Cover the whole tile: an even grey deck, streaks, or towering white with a few holes."""
    rng = canvas.rng
    kind = int(rng.choice(3, p=[0.45, 0.3, 0.25]))
    sky = _clumps(canvas.grain, canvas.size_px, slope=2.0, stretch=(1.0, 4.0, 1.0)[kind])[0][..., None]
    spread = (rng.uniform(1, 5), rng.uniform(8, 18), rng.uniform(8, 14))[kind]
    tint = (np.array([1.0, 1.0, 0.96]) * rng.normal(1, 0.03, 3)).astype(np.float32)
    deck = (rng.uniform(115, 175) if kind < 2 else rng.uniform(190, 240)) * tint + spread * sky
    canvas.rgb += (0.98 if kind < 2 else 0.25 + 0.75 * _ramp(sky, -2.2, -0.6)) * (deck - canvas.rgb)


def _veil(canvas: _Canvas, *, hazy: bool) -> None:
    """Lay the air over the ground: a little on a clear day, so much in haze that contrast goes."""
    rng = canvas.rng
    thick = rng.uniform(0.38, 0.76) if hazy else 0.04 + 0.42 * rng.random() ** 1.5
    share = np.clip(thick + (0.05 if hazy else 0.008) * canvas.clumps[1], 0, 0.85)[..., None]
    canvas.rgb += share * (rng.uniform(0.85, 1.25) * _pick(rng, "veil") - canvas.rgb)


def _expose(canvas: _Canvas) -> NDArray[np.uint8]:
    """Take the picture: lens blur, a little sensor noise, 8 bits."""
    blur_px = float(canvas.rng.choice([0.55, 0.75, 1.2], p=[0.4, 0.4, 0.2])) * canvas.size_px / GROUND_PX
    sharp = Image.fromarray(np.clip(canvas.rgb, 0, 255).astype(np.uint8))
    pixels = np.asarray(sharp.filter(ImageFilter.GaussianBlur(blur_px)), np.float32)
    noise = canvas.grain.standard_normal((*pixels.shape[:2], 1), dtype=np.float32)
    return np.asarray(np.clip(pixels + 0.5 + 0.5 * noise, 0, 255), np.uint8)  # 0.5 more: a cast cuts off


def draw_scene(tags: Sequence[str], rng: np.random.Generator, size_px: int) -> NDArray[np.uint8]:
    """Draw a tile with these tags, one weather among them.

    Args:
        tags: what is there; see `synthetic.TAGS`.
        rng: the tile's generator.
        size_px: side in pixels.

    Returns:
        Pixels (size_px, size_px, 3) in RGB, 0 to 255.
    """
    canvas = _Canvas(rng, size_px, wooded="primary" in tags or "cloudy" in tags)
    for tag, paint in PAINTERS.items():
        if tag in tags:
            paint(canvas)
    if "partly_cloudy" in tags:
        _clouds(canvas)
    if "cloudy" in tags:
        _overcast(canvas)
    else:
        _veil(canvas, hazy="haze" in tags)
    return _expose(canvas)
