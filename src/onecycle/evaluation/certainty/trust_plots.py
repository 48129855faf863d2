"""Drawing how far probabilities can be trusted: curves that were computed elsewhere in, a figure out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from onecycle.errors import ArgumentError
from onecycle.evaluation.certainty.calibration import Reliability
from onecycle.evaluation.tags import TagCurve


def reliability_figure(
    curves: Mapping[str, Reliability],
    *,
    figsize: tuple[float, float] | None = None,
    title: str = "What was said, and what came true",
) -> Figure:
    """Draw reliability curves side by side, each with its intervals, its bins' widths and its ECE.

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
    """Draw precision against recall, a tag a panel, the worst average precision first; dashed: guessing.

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
