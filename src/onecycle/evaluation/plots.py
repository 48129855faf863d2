"""Drawing only: arrays and names in, a matplotlib figure out. What is drawn was computed elsewhere.

Figures are made with pyplot, so a notebook shows them; in a script the caller saves and closes them.
Sizes are inches, fonts points (1/72 inch).
"""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, PowerNorm
from matplotlib.figure import Figure

from onecycle.errors import ArgumentError

if TYPE_CHECKING:
    from onecycle.evaluation.certainty.reliability import Reliability
    from onecycle.evaluation.tags import TagCurve

CHAR_EM = 0.6  # mean width of a character, as a share of the font's size; DejaVu Sans prose has 0.57
POINTS = 72.0
LABEL_SHARE = 0.38  # at most this part of the figure's shorter side goes to class names
FONT_RANGE = (5.5, 10.0)  # class names, pt
MIN_VALUE_FONT = 4.5  # numbers in cells, pt: smaller ones are left out
MIN_GRID_CELL = 4.0  # cells, pt: between smaller ones no lines are drawn
MAX_VALUES = 2500  # numbers drawn; each is an artist of its own
MAX_PANELS = 60
FAINT, GREY, DARK = "0.9", "0.6", "0.15"


@dataclass(frozen=True)
class Style:
    """How a matrix is drawn."""

    title: str = "Confusion matrix"  # text above it
    cmap: str = "Blues"  # name of the colours
    decimals: int = 0  # digits after the point of each value
    write_values: bool = True  # write the values that are not 0 into their cells
    figsize: tuple[float, float] | None = None  # (width, height) in inches; None: by the number of classes
    dpi: float | None = None  # dots an inch; None for matplotlib's setting


# -- pictures ------------------------------------------------------------------------------------------------


def grid_of_pictures(
    images: Sequence[np.ndarray],
    titles: Sequence[str] | None = None,
    *,
    ncols: int | None = None,
    figsize: tuple[float, float] = (12, 12),
    suptitle: str | None = None,
    heatmaps: Sequence[np.ndarray | None] | None = None,
    alpha: float = 0.6,
    cmap: str = "magma",
) -> Figure:
    """Draw pictures in rows, each under its title; long titles are wrapped to the width of their picture.

    Args:
        images: uint8 ``(H, W, 3)`` or float in [0, 1].
        titles: one a picture.
        ncols: pictures in a row; None for ⌈√n⌉.
        figsize: (width, height) in inches.
        suptitle: bold text above all.
        heatmaps: float ``(h, w)`` to lay over each picture, stretched over it; None for none.
        alpha: opacity of the heatmaps.
        cmap: their colours.

    Raises:
        ArgumentError: no picture, or another number of titles or heatmaps than pictures.
    """
    n = len(images)
    for what, values in (("titles", titles), ("heatmaps", heatmaps)):
        if values is not None and len(values) != n:
            raise ArgumentError(f"expected {n} {what}, one a picture; received {len(values)}")
    if n == 0:
        raise ArgumentError("there is no picture to draw")
    columns = math.ceil(math.sqrt(n)) if ncols is None else ncols
    rows = math.ceil(n / columns)
    figure = plt.figure(figsize=figsize, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flat
    for ax in axes:
        ax.axis("off")
    cell = (figsize[0] / columns * POINTS, figsize[1] / rows * POINTS)
    for i, image in enumerate(images):
        _draw_picture(axes[i], image, None if heatmaps is None else heatmaps[i], alpha, cmap)
        if titles is not None:
            _set_picture_title(axes[i], titles[i], cell, largest_pt=_clip(1.1 * figsize[0], 9, 22))
    if suptitle is not None:
        figure.suptitle(suptitle, weight="bold", size=_clip(1.2 * figsize[0], 10, 30))
    return figure


def _draw_picture(ax: Axes, image: np.ndarray, heatmap: np.ndarray | None, alpha: float, cmap: str) -> None:
    drawn = ax.imshow(image)
    if heatmap is not None:
        top = float(heatmap.max()) or 1.0  # a map of zeros: nothing speaks for the class
        place = drawn.get_extent()
        ax.imshow(heatmap, alpha=alpha, cmap=cmap, vmin=0, vmax=top, extent=place, interpolation="bilinear")


def _set_picture_title(ax: Axes, title: str, cell_pt: tuple[float, float], *, largest_pt: float) -> None:
    font = _clip(cell_pt[0] / (CHAR_EM * 40), 5, largest_pt)
    width = max(8, int(cell_pt[0] * 0.93 / (CHAR_EM * font)))
    most = max(2, int(0.45 * cell_pt[1] / (1.3 * font)))  # the picture keeps more than half of its cell
    lines = wrap_title(title, width)
    if len(lines) > most:
        lines = [*lines[: most - 2], "…", lines[-1]]
    ax.set_title("\n".join(lines), fontsize=font, parse_math=False)


def class_title(predicted: object, actual: object, loss: float, prob: float) -> str:
    """Return "predicted/actual / loss / probability of the actual class"."""
    return f"{predicted}/{actual} / {loss:.2f} / {prob:.2f}"


def tag_title(names: Sequence[object], truth: np.ndarray, pred: np.ndarray, loss: float) -> str:
    """Return wrong tags and loss: "+road −water / 0.53", + predicted though not true, − true and missed.

    Args:
        names: C tags.
        truth: bool ``(C,)``.
        pred: bool ``(C,)``.
        loss: of this picture.
    """
    wrong = [f"+{names[int(i)]}" for i in np.flatnonzero(pred & ~truth)]
    missed = [f"−{names[int(i)]}" for i in np.flatnonzero(truth & ~pred)]
    return f"{' '.join(wrong + missed) or 'all tags right'} / {loss:.2f}"


def sample_title(names: Sequence[object], truth: np.ndarray, pred: np.ndarray, probs: np.ndarray, loss: float) -> str:
    """Return lines with the predicted tags and their probabilities, the true tags, and the loss."""
    predicted = [f"{names[int(i)]} {probs[i]:.2f}" for i in np.flatnonzero(pred)]
    actual = [str(names[int(i)]) for i in np.flatnonzero(truth)]
    return f"Predicted: {', '.join(predicted) or '–'}\nActual: {', '.join(actual) or '–'}\nLoss: {loss:.2f}"


def wrap_title(title: str, width: int) -> list[str]:
    """Break a title of names joined by "/" into lines of at most ``width`` characters.

    The names come first, each on lines of its own; the numbers at the end stay together.
    """
    lines = []
    for line in title.split("\n"):
        if len(line) <= width:
            lines.append(line)
            continue
        # "pred/actual / 1.20 / 0.30" is ["pred/", "actual", "/ 1.20 / 0.30"]
        names, slash, numbers = line.partition(" / ")
        for piece in (*re.split("(?<=/)", names), (slash + numbers).strip()):
            lines += textwrap.wrap(piece, width, break_on_hyphens=False)
    return lines


# -- one matrix ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Ticks:
    """Where class names stand and how: ``step`` > 1 names every step-th class only."""

    texts: list[str]
    font_pt: float
    cell_pt: float
    step: int
    rotation: float


def confusion_figure(values: np.ndarray, names: Sequence[str], style: Style) -> Figure:
    """Draw actual (rows) by predicted (columns) classes so that a hundred of them can be read.

    Only cells that are not 0 get a number. Colours grow with the square root of a count, so that single
    mistakes show beside a large class. Classes that occur neither as truth nor as prediction are grey.

    Args:
        values: counts or shares ``(C, C)``, ≥ 0.
        names: C class names.
        style: title, colours, size.

    Raises:
        ArgumentError: another number of names than rows.
    """
    if values.shape != (len(names), len(names)):
        raise ArgumentError(f"expected a matrix {(len(names), len(names))} for these names; received {values.shape}")
    side = _clip(2.8 + 0.17 * len(names), 5, 20)
    figsize = style.figsize or (side + 0.4, side)
    ticks = _place_names(names, figsize)
    figure = plt.figure(figsize=figsize, dpi=style.dpi, layout="constrained")
    ax = figure.add_subplot()
    top = max(float(values.max(initial=0)), 1e-9)
    norm = PowerNorm(0.5 if style.decimals == 0 else 1.0, vmin=0, vmax=top)
    ax.imshow(values, cmap=style.cmap, norm=norm, interpolation="nearest")
    _draw_grid(ax, len(names), ticks.cell_pt)
    notes = _set_names(ax, ticks, values)
    if style.write_values:
        notes += _write_values(ax, values, ticks.cell_pt, norm, style)
    ax.set_title(style.title, fontsize=_clip(1.2 * min(figsize), 11, 20), parse_math=False)
    ax.set_ylabel("Actual", fontsize=_clip(0.8 * min(figsize), 9, 15))
    ax.set_xlabel("Predicted", fontsize=_clip(0.8 * min(figsize), 9, 15))
    if notes:
        width = int(figsize[0] * POINTS / (CHAR_EM * 8))
        figure.supxlabel(textwrap.fill("; ".join(notes), width), fontsize=8, color="0.35")
    return figure


def _clip(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)


def _place_names(names: Sequence[str], figsize: tuple[float, float]) -> _Ticks:
    """Choose font, wrapping, shortening and thinning so that neighbouring names do not touch."""
    c, side = max(len(names), 1), max(min(figsize[0] - 0.6, figsize[1] - 1.0), 0.5) * POINTS
    clean = [" ".join(name.split()) for name in names]
    longest = max((len(n) for n in clean), default=1)
    # a name's length and the cells share the side: c·font/0.8 + longest·CHAR_EM·font = side
    wanted = _clip(side / (c / 0.8 + longest * CHAR_EM), (1 - LABEL_SHARE) * side * 0.8 / c, FONT_RANGE[1])
    font = _clip(wanted, *FONT_RANGE)
    chars = max(6, int(LABEL_SHARE * side / (CHAR_EM * font)))
    cell = (side - min(longest, chars) * CHAR_EM * font) / c
    step = max(1, math.ceil(1.05 * font / cell))
    lines = max(1, int(cell / (1.25 * font)))
    texts = [fit_name(n, chars, lines) for n in clean]
    across = [fit_name(n, int(0.92 * cell / (CHAR_EM * font)), 3) for n in clean]
    if step == 1 and all(a.split() == n.split() for a, n in zip(across, clean, strict=True)):
        return _Ticks(across, font, cell, 1, 0)
    if step == 1:  # names that became the same by shortening are numbered
        texts = [f"{t} ({i})" if texts.count(t) > 1 else t for i, t in enumerate(texts)]
    return _Ticks(texts, font, cell, step, 90)


def fit_name(name: str, width: int, lines: int = 1) -> str:
    """Return ``name`` in at most ``lines`` lines of ``width`` characters: wrapped, else its words shortened.

    Long words lose their ends first ("agricult. clear habitat. primary"), so that every word stays
    recognisable; what is still too long is cut with "…".
    """
    width = max(width, 1)
    longest = max((len(w) for w in name.split()), default=0)
    for keep in range(longest, 2, -1):
        words = [w if len(w) <= keep else w[: keep - 1] + "." for w in name.split()]
        wrapped = textwrap.wrap(" ".join(words), width, break_long_words=False, break_on_hyphens=False)
        if len(wrapped) <= lines and all(len(w) <= width for w in wrapped):
            return "\n".join(wrapped)
    return name if len(name) <= width else name[: width - 1] + "…"


def _draw_grid(ax: Axes, c: int, cell_pt: float) -> None:
    edges = np.arange(1, c) - 0.5
    if cell_pt < MIN_GRID_CELL:  # lines would cover what is in the cells
        edges = edges[:0]
    ax.hlines(edges, -0.5, c - 0.5, colors=FAINT, linewidths=0.6)
    ax.vlines(edges, -0.5, c - 0.5, colors=FAINT, linewidths=0.6)
    for spine in ax.spines.values():
        spine.set_edgecolor("0.7")
    ax.tick_params(length=2, color="0.7", pad=2)


def _set_names(ax: Axes, ticks: _Ticks, values: np.ndarray) -> list[str]:
    """Write class names, grey where a class does not occur, and return what a reader must know about them."""
    shown = np.arange(0, len(ticks.texts), ticks.step)
    texts = [ticks.texts[i] for i in shown]
    ax.set_xticks(shown, texts, rotation=ticks.rotation, fontsize=ticks.font_pt, parse_math=False)
    ax.set_yticks(shown, texts, fontsize=ticks.font_pt, parse_math=False)
    absent = (values.sum(axis=0) == 0) & (values.sum(axis=1) == 0)
    for labels in (ax.get_xticklabels(), ax.get_yticklabels()):
        for i, label in zip(shown, labels, strict=True):
            label.set_color(GREY if absent[i] else DARK)
    notes = [f"grey: neither occurring nor predicted, {absent.sum()} of {len(absent)} classes"] if absent.any() else []
    if ticks.step > 1:
        notes.append(f"one name in {ticks.step} is written, a larger figsize has room for more")
    return notes


def _write_values(ax: Axes, values: np.ndarray, cell_pt: float, norm: PowerNorm, style: Style) -> list[str]:
    """Write cells that are not 0, the largest where they are too many; return notes for the reader."""
    rows, columns = np.nonzero(values)
    if len(rows) == 0:
        return []
    texts = [f"{values[r, c]:.{style.decimals}f}" for r, c in zip(rows, columns, strict=True)]
    font = _value_font(texts, cell_pt)
    if font < 7 and style.decimals:  # where "0.25" and "1.00" would be too small, ".25" and "1"
        texts = [t.removesuffix(f".{'0' * style.decimals}").removeprefix("0") or "0" for t in texts]
        font = _value_font(texts, cell_pt)
    if font < MIN_VALUE_FONT:
        return ["cells are too small for numbers"]
    colours = mpl.colormaps[style.cmap]
    chosen = np.argsort(-values[rows, columns], kind="stable")[:MAX_VALUES]
    for i in chosen:
        r, c = rows[i], columns[i]
        ax.text(c, r, texts[i], ha="center", va="center", fontsize=font, color=_ink(colours, norm(values[r, c])))
    return [f"the {MAX_VALUES} largest of {len(rows)} numbers are written"] if len(rows) > MAX_VALUES else []


def _value_font(texts: Sequence[str], cell_pt: float) -> float:
    widest_em = max(0.64 * len(t) - 0.32 * t.count(".") for t in texts)  # a digit is 0.64 em wide, a point 0.32
    return min(11.0, 0.8 * cell_pt, 0.92 * cell_pt / widest_em)


def _ink(colours: Colormap, shade: float) -> str:
    """Return white on dark cells and black on light ones, by luminance (ITU-R BT.601 weights)."""
    red, green, blue, _ = colours(float(shade))
    return "white" if 0.299 * red + 0.587 * green + 0.114 * blue < 0.5 else "black"


# -- a table for each tag ------------------------------------------------------------------------------------


def tag_tables_figure(
    values: np.ndarray, shades: np.ndarray, names: Sequence[str], measures: dict[str, np.ndarray], style: Style
) -> Figure:
    """Draw a 2×2 table of truth by prediction for each tag, with its precision and recall.

    Args:
        values: numbers to write, ``(C, 2, 2)``: [[tn, fp], [fn, tp]] or shares of these.
        shades: float ``(C, 2, 2)`` in [0, 1], the colour: the share of its row.
        names: C tags.
        measures: float ``(C,)`` each: ``precision``, ``recall`` and ``fbeta``; NaN is written "–". Of more
            than ``MAX_PANELS`` tags those with the lowest F-beta are drawn.
        style: title, colours, size.

    Raises:
        ArgumentError: another number of names than tables.
    """
    if values.shape != (len(names), 2, 2):
        raise ArgumentError(f"expected tables {(len(names), 2, 2)} for these names; received {values.shape}")
    chosen = np.sort(np.argsort(measures["fbeta"], kind="stable")[:MAX_PANELS])  # NaN sorts last
    columns = math.ceil(math.sqrt(1.3 * len(chosen)))
    rows = math.ceil(len(chosen) / columns)
    figsize = style.figsize or (1.75 * columns + 0.5, 1.95 * rows + 0.7)
    figure = plt.figure(figsize=figsize, dpi=style.dpi, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    cell = min(figsize[0] / columns, figsize[1] / rows) * POINTS
    for place, ax in enumerate(axes.flat):
        if place >= len(chosen):
            ax.axis("off")
            continue
        tag = int(chosen[place])
        _draw_table(ax, values[tag], shades[tag], cell, style)
        font = _clip(cell * 0.075, 4, 12)
        short = fit_name(" ".join(names[tag].split()), max(6, int(0.85 * cell / (CHAR_EM * font))), 2)
        shares = [_share(measures[name][tag]) for name in ("precision", "recall")]
        ax.set_title(f"{short}\nP {shares[0]}  R {shares[1]}", fontsize=font, parse_math=False)
        first, last = place % columns == 0, place + columns >= len(chosen)
        ax.set_xticks([0, 1], ["no", "yes"] if last else ["", ""], fontsize=_clip(cell * 0.06, 4, 10))
        ax.set_yticks([0, 1], ["no", "yes"] if first else ["", ""], fontsize=_clip(cell * 0.06, 4, 10))
    omitted = "" if len(chosen) == len(names) else f" ({len(chosen)} of {len(names)} tags: the lowest F)"
    figure.suptitle(style.title + omitted, weight="bold", size=_clip(1.3 * min(figsize), 11, 18))
    figure.supxlabel("Predicted (P precision, R recall)", size=_clip(min(figsize), 9, 14))
    figure.supylabel("Actual", size=_clip(min(figsize), 9, 14))
    return figure


def _share(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}"


def _draw_table(ax: Axes, values: np.ndarray, shades: np.ndarray, cell_pt: float, style: Style) -> None:
    ax.imshow(shades, cmap=style.cmap, vmin=0, vmax=1.25, interpolation="nearest")
    _draw_grid(ax, 2, cell_pt / 2)
    if not style.write_values:
        return
    font = _clip(cell_pt * 0.085, 4, 13)
    for r, c in np.ndindex(2, 2):
        ink = _ink(mpl.colormaps[style.cmap], float(shades[r, c]) / 1.25)
        ax.text(c, r, f"{values[r, c]:.{style.decimals}f}", ha="center", va="center", fontsize=font, color=ink)


# -- how far probabilities can be trusted ---------------------------------------------------------------------


def reliability_figure(
    curves: Mapping[str, Reliability],
    *,
    figsize: tuple[float, float] | None = None,
    title: str = "What was said, and what came true",
) -> Figure:
    """Draw reliability curves side by side, each with its intervals, its consistency band (grey) and its ECE.

    Args:
        curves: by name; of ``calibration.reliability_curve``.
        figsize: (width, height) in inches.
        title: above all.

    Raises:
        ArgumentError: no curve.
    """
    if not curves:
        raise ArgumentError("there is no curve to draw")
    figure = plt.figure(figsize=figsize or (4.4 * len(curves) + 0.4, 4.8), layout="constrained")
    axes = figure.subplots(1, len(curves), squeeze=False, sharex=True, sharey=True)[0]
    for ax, (name, curve) in zip(axes, curves.items(), strict=True):
        ax.plot([0, 1], [0, 1], color="0.7", linewidth=1, linestyle="--")
        ax.fill_between(curve.confidence, curve.band_low, curve.band_high, color="0.88", linewidth=0)
        reach = np.stack([curve.observed - curve.low, curve.high - curve.observed])
        ax.errorbar(curve.confidence, curve.observed, np.maximum(reach, 0), fmt="o-", markersize=4, linewidth=1.2)
        ax.set_title(f"{name}\nECE {curve.ece:.3f} (by chance {curve.ece_by_chance:.3f})", fontsize=10)
        ax.set_xlabel("probability said (mean of a bin)")
        ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    axes[0].set_ylabel("share that came true (95 % interval)")
    figure.suptitle(title, weight="bold")
    return figure


def tag_curves_figure(
    curves: Sequence[TagCurve], *, figsize: tuple[float, float] | None = None, ncols: int = 5
) -> Figure:
    """Draw precision against recall, a tag a panel, the worst average precision first; dashed: the baseline.

    Args:
        curves: of ``tags.tag_curves``.
        figsize: (width, height) in inches.
        ncols: panels in a row.

    Raises:
        ArgumentError: no curve.
    """
    if not curves:
        raise ArgumentError("there is no curve to draw: no picture has a tag")
    ranked = sorted(curves, key=lambda c: c.average_precision)
    ncols = min(ncols, len(ranked))
    nrows = math.ceil(len(ranked) / ncols)
    figure = plt.figure(figsize=figsize or (2.3 * ncols + 0.4, 2.3 * nrows + 0.6), layout="constrained")
    axes = figure.subplots(nrows, ncols, squeeze=False, sharex=True, sharey=True).ravel()
    for ax, curve in zip(axes, ranked, strict=False):
        ax.step([*curve.recall, 0], [*curve.precision, curve.precision[-1]], where="post", linewidth=1.4)
        ax.axhline(curve.positives / curve.n, color="0.7", linewidth=1, linestyle="--")
        title = f"{curve.name}\nAP {curve.average_precision:.2f} · {curve.positives} of {curve.n}"
        ax.set_title(title, fontsize=9, parse_math=False)
        ax.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    for ax in axes[len(ranked) :]:
        ax.set_visible(False)
    for ax in axes[max(0, len(ranked) - ncols) : len(ranked)]:
        ax.tick_params(labelbottom=True)  # also above a place that is empty
    figure.supxlabel("recall", fontsize=10)
    figure.supylabel("precision", fontsize=10)
    return figure
