"""Geometry of the report's charts: arrays in, positions and ticks out; the template draws them as SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onecycle.evaluation.certainty.reliability import Reliability

WIDTH, HEIGHT = 560, 300
LEFT, RIGHT, TOP, BOTTOM = 56, 14, 14, 42
MOST_POINTS = 400
"""Longer lines are thinned for the page; the least and the greatest of each stretch stay."""


Tick = tuple[float, str]
"""A mark on an axis: its place in the drawing (px) and its text."""


@dataclass(frozen=True)
class Line:
    """A series as it is drawn."""

    name: str  # in the legend
    path: str  # of SVG; empty where there is nothing finite
    dots: tuple[tuple[float, float], ...]  # places of single values (px), where they are few


@dataclass(frozen=True, kw_only=True)
class Plot:
    """A chart."""

    title: str  # what it shows
    summary: str  # the same in a sentence, for those who do not see it
    x_label: str
    y_label: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    lines: tuple[Line, ...] = ()  # series
    whiskers: tuple[tuple[float, float, float, float], ...] = ()  # intervals (px): x, y, low end, high end
    diagonal: str = ""  # path of the line x = y; empty for none
    band: str = ""  # path of an area behind all; empty for none
    head: tuple[str, ...] = ()  # the numbers as a table of text
    rows: tuple[tuple[str, ...], ...] = ()
    width: int = WIDTH
    height: int = HEIGHT


@dataclass(frozen=True)
class Series:
    """Numbers of one line: x and y, float ``(K,)`` each; ``dotted`` marks each value."""

    name: str
    x: np.ndarray
    y: np.ndarray
    dotted: bool = False


@dataclass(frozen=True)
class Axis:
    """One axis: from data to px."""

    low: float  # ends in data units (of the logarithm, for a logarithmic axis)
    high: float
    start: float  # ends in px
    stop: float
    log: bool = False

    def place(self, values: np.ndarray) -> np.ndarray:
        """Return px for data."""
        v = np.log10(values) if self.log else np.asarray(values, dtype=float)
        return np.asarray(self.start + (v - self.low) / (self.high - self.low) * (self.stop - self.start))

    def ticks(self, most: int = 5) -> tuple[Tick, ...]:
        """Return round marks between the ends."""
        at = nice_ticks(self.low, self.high, most)
        if self.log:
            at = [float(e) for e in range(math.ceil(self.low - 1e-9), math.floor(self.high + 1e-9) + 1)]
            at = at[:: max(1, math.ceil(len(at) / most))]
        scale = (self.stop - self.start) / (self.high - self.low)
        texts = [f"1e{int(v)}" if self.log else f"{v:g}" for v in at]
        return tuple((round(self.start + (v - self.low) * scale, 1), t) for v, t in zip(at, texts, strict=True))


def nice_ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Return at most ``most`` + 1 round numbers (1, 2 or 5 times a power of ten apart) between two."""
    raw = (high - low) / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(s * power for s in (1, 2, 5, 10) if s * power >= raw - 1e-12)
    first = math.ceil(low / step - 1e-9)
    count = math.floor(high / step + 1e-9) - first + 1
    return [round((first + i) * step, 12) for i in range(count)]


def line_plot(title: str, series: Sequence[Series], *, x_label: str, y_label: str, log_x: bool = False) -> Plot | None:
    """Return a chart of lines over one pair of axes; None where no point is finite."""
    cleaned = [_finite(s, log_x=log_x) for s in series]
    drawn = [s for s in cleaned if len(s.x)]
    if not drawn:
        return None
    xs, ys = np.concatenate([s.x for s in drawn]), np.concatenate([s.y for s in drawn])
    x_axis = _axis(np.log10(xs) if log_x else xs, LEFT, WIDTH - RIGHT, log=log_x, pad=0.0)
    y_axis = _axis(ys, HEIGHT - BOTTOM, TOP, pad=0.06)
    return Plot(
        title=title,
        summary="; ".join(map(_said, drawn)),
        x_label=x_label,
        y_label=y_label,
        x_ticks=x_axis.ticks(6),
        y_ticks=y_axis.ticks(6),
        lines=tuple(_line(s, x_axis, y_axis) for s in drawn),
        head=("series", x_label, "value"),
        rows=tuple(row for s in drawn for row in _rows(s)),
    )


def reliability_plot(curve: Reliability) -> Plot:
    """Return the reliability diagram: what was said against what came true, with intervals and the consistency band."""
    side = int(WIDTH * 0.75)
    x_axis, y_axis = Axis(0, 1, LEFT, side - RIGHT), Axis(0, 1, side - BOTTOM, TOP)
    measured = (curve.confidence, curve.observed, curve.low, curve.high)
    axes = (x_axis, y_axis, y_axis, y_axis)
    places = [axis.place(v).round(1).tolist() for axis, v in zip(axes, measured, strict=True)]
    rows = tuple(
        (f"{c:.3f}", f"{o:.3f}", f"{a:.3f} to {b:.3f}", f"{low:.3f} to {high:.3f}", f"{n:,}")
        for c, o, a, b, low, high, n in zip(*measured, curve.band_low, curve.band_high, curve.count, strict=True)
    )
    inside = int(((curve.band_low <= curve.observed) & (curve.observed <= curve.band_high)).sum())
    ends = [y_axis.place(v).round(1).tolist() for v in (curve.band_low, curve.band_high)]
    edge = [*zip(places[0], ends[0], strict=True), *reversed([*zip(places[0], ends[1], strict=True)])]
    return Plot(
        title="Reliability",
        summary=f"In {inside} of {len(rows)} bins what came true lies in the band where 95 of 100 would "
        "lie if the probabilities were right and the pictures independent.",
        x_label="probability said",
        y_label="share that came true",
        x_ticks=x_axis.ticks(),
        y_ticks=y_axis.ticks(),
        whiskers=tuple(zip(*places, strict=True)),
        band="M" + "L".join(f"{x:g} {y:g}" for x, y in edge) + "Z" if len(rows) > 1 else "",
        diagonal=f"M{LEFT} {side - BOTTOM}L{side - RIGHT} {TOP}",
        head=("said", "came true", "95 % interval", "band if right", "decisions"),
        rows=rows,
        width=side,
        height=side,
    )


def _finite(series: Series, *, log_x: bool) -> Series:
    x, y = np.asarray(series.x, dtype=float), np.asarray(series.y, dtype=float)
    fine = np.isfinite(x) & np.isfinite(y) & ((x > 0) | (not log_x))
    return Series(series.name, x[fine], y[fine], series.dotted)


def _axis(values: np.ndarray, start: float, stop: float, *, log: bool = False, pad: float) -> Axis:
    low, high = float(values.min()), float(values.max())
    if high - low < 1e-12:
        half = abs(low) * 0.1 or 0.5
        low, high = low - half, high + half
    room = (high - low) * pad
    return Axis(low - room, high + room, start, stop, log=log)


def _line(series: Series, x_axis: Axis, y_axis: Axis) -> Line:
    at = thinned(series.y)
    x, y = x_axis.place(series.x[at]), y_axis.place(series.y[at])
    points = [(round(a, 1), round(b, 1)) for a, b in zip(x.tolist(), y.tolist(), strict=True)]
    path = "M" + "L".join(f"{a:g} {b:g}" for a, b in points)
    return Line(series.name, path, tuple(points) if series.dotted or len(points) == 1 else ())


def thinned(y: np.ndarray, most: int = MOST_POINTS) -> np.ndarray:
    """Return which points of a line to draw, int64: all, or the least and the greatest of each stretch."""
    if len(y) <= most:
        return np.arange(len(y))
    stretches = np.array_split(np.arange(len(y)), most // 2)
    chosen = {int(i) for s in stretches for i in (s[np.argmin(y[s])], s[np.argmax(y[s])])}
    return np.array(sorted(chosen | {0, len(y) - 1}))


def _rows(s: Series) -> list[tuple[str, str, str]]:
    """Return the numbers of a series as text, at most 30 rows."""
    at = np.unique(np.linspace(0, len(s.x) - 1, min(30, len(s.x))).astype(int))
    return [(s.name, f"{s.x[i]:.4g}", f"{s.y[i]:.4g}") for i in at]


def _said(series: Series) -> str:
    first, last, least = series.y[0], series.y[-1], series.y.min()
    return f"{series.name}: from {first:.3g} to {last:.3g}, lowest {least:.3g}, highest {series.y.max():.3g}"
