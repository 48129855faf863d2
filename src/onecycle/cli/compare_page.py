"""A comparison of runs as one HTML page: facts in, text out; the template is beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from onecycle import __version__

MOST_PICTURES = 200
"""Changed pictures that the page names in each list; JSON has all."""


def comparison_page(facts: Mapping[str, Any]) -> str:
    """Return the page of what ``onecycle compare --json`` prints; names are escaped, and nothing in them runs.

    Args:
        facts: runs, their scores, and a comparison with the first for each other one.
    """
    engine = Environment(
        loader=PackageLoader("onecycle.cli"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    engine.filters |= {"signed": _signed, "plain": _number, "setting": _setting}
    return engine.get_template("compare.html").render(**facts, most=MOST_PICTURES, version=__version__)


def _number(value: float | None) -> str:
    return "–" if value is None or value != value else f"{value:.3f}"


def _signed(value: float | None) -> str:
    return "–" if value is None or value != value else f"{value:+.3f}".replace("-", "−")


def _setting(value: object) -> str:
    if value is None:
        return "(found)"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
