"""The report as one HTML file: no request leaves it, and nothing in a name or a label runs.

All text goes through the template engine's escaping. The page's own style and script are allowed by their hashes alone
(Content Security Policy), so a tag or a handler that slipped through would still do nothing.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import math
from collections.abc import Mapping
from importlib import resources
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from onecycle.evaluation.report.charts import BOTTOM, LEFT, RIGHT
from onecycle.evaluation.report.content import MOST_SLICES, ReportContent
from onecycle.evaluation.report.sliders import STEPS, as_text, packed_bits
from onecycle.evaluation.report.verdict import GRADES, HARD_ONES

_PACKAGE = "onecycle.evaluation.report"


def render(content: ReportContent) -> str:
    """Return the page, HTML in UTF-8 when written."""
    style, script = asset("base.css") + asset("report.css"), asset("report.js")
    policy = (
        f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    return (
        _engine()
        .get_template("report.html.j2")
        .render(
            c=content,
            e=content.predictions,
            policy=policy,
            style=Markup(style),
            script=Markup(script),
            payload=json_for_page(payload(content)),
            grades=list(GRADES),
            grade_words={grade: word for grade, (word, _, _) in GRADES.items()},
            hard_ones=HARD_ONES,
            steps=STEPS,
            most_slices=MOST_SLICES,
            facts=_flat(content.env),
        )
    )


def json_for_page(value: object) -> Markup:
    """Return JSON for a ``script`` element: whatever the names are, there is no ``<``, ``>`` or ``&`` in it."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)


def payload(content: ReportContent) -> dict[str, Any]:
    """Return what the page's script needs, as plain values."""
    p = content.predictions
    made: dict[str, Any] = {
        "multi": p.is_multi,
        "classes": list(p.classes),
        "names": list(p.files),
        "thumbs": {str(i): src for i, src in content.thumbs.items()},
        "columns": list(content.columns),
    }
    if not p.is_multi:
        made["truth"] = p.known_targets.tolist()
        made["predicted"] = p.decided.tolist()
        made["probs"] = np.round(p.shown_probs.max(axis=1).astype(float), 3).tolist()
        return made
    made |= {"truth": packed_bits(p.truth), "beta": p.beta}
    s = content.sliders
    if s is None:
        return made | {"predicted": packed_bits(p.predicted)}
    made["ranks"] = as_text(s.ranks)
    made["inUse"] = list(s.in_use)
    # The common grid is steps/200; the threshold in use is added where it is another: [place, value].
    made["extra"] = [[at, g[at]] if len(g) > STEPS + 1 else None for g, at in zip(s.grids, s.in_use, strict=True)]
    made["fixed"] = list(s.fixed)
    return made


def asset(name: str) -> str:
    """Return a file of the templates' folder."""
    return resources.files(_PACKAGE).joinpath("templates", name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"


@functools.cache
def _engine() -> Environment:
    engine = Environment(
        loader=PackageLoader(_PACKAGE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    engine.globals |= {"left": LEFT, "right": RIGHT, "bottom": BOTTOM}
    engine.filters |= {
        "num": _number,
        "span": lambda span: f"{span.low:.2f}–{span.high:.2f}" if span.has_interval else "",
        "key": lambda value: "-1" if math.isnan(value) else f"{value:.6f}",  # unknown numbers are last
    }
    return engine


def _number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def _flat(values: Mapping[str, object], above: str = "") -> list[tuple[str, str]]:
    """Return nested values as (name, text)."""
    flat: list[tuple[str, str]] = []
    for key, value in values.items():
        name = f"{above}{key}"
        if isinstance(value, Mapping):
            flat += _flat(value, f"{name} · ")
        else:
            flat.append((name, str(value)))
    return flat
