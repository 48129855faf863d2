"""``onecycle check``: what is wrong with a data set, before anyone trains on it."""

from __future__ import annotations

import json
import warnings

from onecycle.data.audit.audit import audit_table
from onecycle.data.audit.findings import AuditReport
from onecycle.data.labels.find.columns import LayoutOptions
from onecycle.data.layout import find_layout
from onecycle.data.pixels.resize import ResizeSpec
from onecycle.errors import DataWarning
from onecycle.runs.config import SKIPPED, RunConfig
from onecycle.text import safe_lines


def run_check(
    config: RunConfig, options: LayoutOptions, *, size: int = 224, as_json: bool = False, fail_on: str = "never"
) -> int:
    """Audit a data set with the split that ``train`` would draw, and print the findings.

    Args:
        config: the settings of ``train`` that say where the data is, and how it is split.
        options: what the user said about the table; see ``find_layout``.
        size: px that you would train at.
        as_json: print JSON and nothing else.
        fail_on: ``error``, ``warning`` or ``never``.

    Returns:
        1 where a finding is as bad as ``fail_on``, else 0.
    """
    layout = find_layout(config.data, options)
    if not as_json:
        print("\n".join(layout.lines()), end="\n\n")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # the audit has a finding of its own for rare classes
        split = layout.pictures.split(config.valid_pct, seed=config.seed, stratify=config.stratify)
    report = audit_table(layout.pictures, split, ResizeSpec.make(size), silent=as_json)
    if as_json:
        why = {"reasons": dict(layout.reasons), "notes": list(layout.hints)}
        print(json.dumps({"layout": layout.describe(), **why, **report.to_dict()}, indent=2))
    else:
        print(report, end="\n\n")
        print(safe_lines(_next(report, config.command())))
    return int(fail_on != "never" and report.reaches("error" if fail_on == "error" else "warning"))


def _next(report: AuditReport, train: str) -> str:
    """Return what to run next; ``train`` is the command that draws the split that was audited."""
    kinds = {finding.kind for finding in report.findings if finding.severity == "error"}
    if kinds == {"leak"}:
        return f"Next: {train} --together\n(copies of a picture stay on one side; or mend the data)"
    if report.reaches("error"):
        ways = ["--together keeps copies on one side"] if "leak" in kinds else []
        ways += [f"--allow {what} leaves files out" for kind, what in SKIPPED.items() if kind in kinds]
        return "\n  ".join([f"Next: mend the errors, then {train}", *ways])
    return f"Next: {train}"
