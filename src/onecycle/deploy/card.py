"""The model card: what an exported model is for, what it was made from, how good it is, whom to trust it for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isnan
from typing import TYPE_CHECKING, Any

import numpy as np

from onecycle.deploy.weights.check import LEAST_EQUAL
from onecycle.evaluation.class_table import class_rows
from onecycle.evaluation.report.scores import calibration_facts, measure
from onecycle.evaluation.report.verdict import GRADES, Verdict, Warned, judge

if TYPE_CHECKING:
    from onecycle.deploy.verify import Verification
    from onecycle.deploy.weights.check import WeightsCheck
    from onecycle.evaluation.certainty.intervals import Estimate
    from onecycle.evaluation.certainty.spans import Span
    from onecycle.evaluation.class_table import ClassRow
    from onecycle.evaluation.predictions import Predictions


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a model card says; all but the name may be missing, and the card says so."""

    name: str  # of the model
    arch: str = ""  # network
    data: str = ""  # name of the data set
    verdict: Verdict | None = None  # the first screen of the report
    scores: tuple[Mapping[str, Any], ...] = ()  # with intervals and baseline, the headline first
    class_quality: tuple[Mapping[str, Any], ...] = ()  # a row a class
    n_train: int = 0  # training pictures
    n_valid: int = 0  # validation pictures
    notes: tuple[str, ...] = field(default=())  # how the model was made

    @classmethod
    def of(cls, predictions: Predictions, *, name: str, warned: Warned | None = None, **more: Any) -> Card:
        """Say what validation pictures show.

        Args:
            predictions: of labelled pictures.
            name: of the model.
            warned: by the audit and the label check; None: nobody looked.
            more: other fields.
        """
        rows = class_rows(predictions)
        scores = measure(predictions)
        facts = calibration_facts(predictions)
        verdict = judge(scores, rows, facts, warned or Warned(), is_multi=predictions.is_multi)
        return cls(
            name=name,
            verdict=verdict,
            scores=tuple(score.to_dict() for score in (scores.headline, *scores.others)),
            class_quality=tuple(_quality(g.row, GRADES[g.grade][0], g.reason) for g in verdict.graded),
            n_train=predictions.n_train,
            n_valid=len(predictions),
            **more,
        )


def _quality(row: ClassRow, grade: str, reason: str) -> dict[str, Any]:
    return {
        "class": row.name,
        "support": row.support,
        "precision": _ends(row.precision),
        "recall": _ends(row.recall),
        "grade": grade,
        "reason": reason,
    }


def _ends(span: Span) -> dict[str, float | None]:
    known = span.known and span.has_interval
    return {
        "value": span.value if span.known else None,
        "low": span.low if known else None,
        "high": span.high if known else None,
    }


def card_text(
    card: Card, manifest: Mapping[str, Any], verification: Verification, weights: WeightsCheck | None = None
) -> str:
    """Return the card in Markdown, with a head as Hugging Face's cards have."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    templates = Environment(
        loader=PackageLoader("onecycle.deploy", "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # Markdown: see the filter
    )
    templates.filters["md"] = _plain
    templates.filters["span"] = _span
    templates.filters["estimate"] = _estimate
    return templates.get_template("card.md.j2").render(
        card=card, manifest=manifest, verification=verification, weights=weights, least_equal=LEAST_EQUAL
    )


def number_scores(values: np.ndarray, targets: np.ndarray) -> tuple[dict[str, Any], ...]:
    """Return the scores of predicted numbers as a model card lists them.

    Args:
        values: float ``(N, k)``.
        targets: float ``(N,)`` or ``(N, k)``.

    Returns:
        Mean squared and mean absolute error; the baselines give every picture the mean, or the median, of the targets.
    """
    said, true = (np.asarray(v, dtype=np.float64).reshape(len(values), -1) for v in (values, targets))
    kinds: Any = {"mean squared error": (np.square, np.mean), "mean absolute error": (np.abs, np.median)}
    return tuple(
        {
            "name": name,
            "over": "",
            "value": float(of(said - true).mean()),
            "low": None,
            "high": None,
            "baseline": float(of(true - centre(true, axis=0)).mean()),
        }
        for name, (of, centre) in kinds.items()
    )


def _plain(text: object) -> str:
    """Return a text without what Markdown or HTML would read as a mark."""
    marked = "".join(f"\\{c}" if c in "\\`*_[]|~" else c for c in " ".join(str(text).split()))
    return marked.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _span(ends: Mapping[str, float | None]) -> str:
    if ends["value"] is None:
        return "–"
    interval = "" if ends["low"] is None else f" ({ends['low']:.2f} to {ends['high']:.2f})"
    return f"{ends['value']:.2f}{interval}"


def _estimate(e: Estimate) -> str:
    sign = "+" if e.signed else ""
    value, low, high = (f"{round(end, 3) + 0.0:{sign}.3f}" for end in (e.value, e.low, e.high))  # no −0.000
    return value if isnan(e.low) else f"{value} ({low} to {high})"
