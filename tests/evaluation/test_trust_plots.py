"""The figure draws the curves it is given."""

from __future__ import annotations

import numpy as np
import pytest

from onecycle.errors import ArgumentError
from onecycle.evaluation.certainty.calibration import reliability_curve
from onecycle.evaluation.certainty.trust_plots import reliability_figure


def test_each_curve_is_drawn_with_its_intervals_and_its_error():
    rng = np.random.default_rng(0)
    p = rng.random(300)
    curves = {"before": reliability_curve(p, rng.random(300) < p**2), "after": reliability_curve(p, p > 0.5)}
    figure = reliability_figure(curves)
    figure.draw_without_rendering()
    for ax, (name, curve) in zip(figure.axes, curves.items(), strict=True):
        drawn = ax.lines[1]
        assert np.asarray(drawn.get_xdata()).tolist() == curve.confidence.tolist()
        assert np.asarray(drawn.get_ydata()).tolist() == curve.observed.tolist()
        assert ax.get_title() == f"{name}\nECE {curve.ece:.3f} (by chance {curve.ece_by_chance:.3f})"
        reach = ax.collections[0].get_segments()
        assert [s[0][1] for s in reach] == pytest.approx(curve.low.tolist(), abs=1e-9)
    assert reliability_figure({"one": curves["after"]}, figsize=(3, 3)).get_size_inches().tolist() == [3, 3]


def test_no_curve_is_no_figure():
    with pytest.raises(ArgumentError, match="no curve"):
        reliability_figure({})
