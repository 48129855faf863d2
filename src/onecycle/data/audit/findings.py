"""What an audit found: plain values, a table for people and a dictionary for machines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np

from onecycle.text import plural, safe_text, wrapped

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
"""From the worst to the mildest."""

CopyKind = Literal["same file", "exact", "near", "turned"]
COPY_KINDS: tuple[CopyKind, ...] = ("same file", "exact", "near", "turned")
"""From the closest to the most distant: one file in several rows; the same pixels; the same picture saved anew, resized
or slightly cropped; the same picture flipped or rotated."""

MOST_EXAMPLES = 5
_COLUMNS = 80


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a data set, or good to know about it."""

    severity: Severity  # error (the result would be wrong), warning (it may mislead), note (good to know)
    kind: str  # a fixed name, e.g. ``leak``
    count: int  # how many pictures, rows, classes or pairs it is about
    message: str  # one sentence
    examples: tuple[str, ...] = ()  # the first few of them, by name
    advice: str = ""  # what to do


def finding_of(
    severity: Severity, kind: str, names: Sequence[str], what: str, advice: str = "", *, unit: str = "picture"
) -> list[Finding]:
    """Return the finding that there are things with these names; none where there are none.

    Args:
        severity, kind, advice: of the finding.
        names: all of them; their number opens the message, and the first few are its examples.
        what: how the message goes on.
        unit: what they are called; ``class`` has its own plural.
    """
    if not names:
        return []
    n = plural(len(names), unit, "classes" if unit == "class" else "")
    return [Finding(severity, kind, len(names), f"{n} {what}", tuple(names[:MOST_EXAMPLES]), advice)]


@dataclass(frozen=True)
class DuplicateGroup:
    """Rows that show the same picture."""

    rows: tuple[int, ...]  # their positions in the table, ascending, at least two
    names: tuple[str, ...]  # their file names, in that order
    kind: CopyKind  # the most distant kind of copy in the group


@dataclass(frozen=True)
class Neighbour:
    """A validation picture whose features are close to those of a training picture."""

    valid: str
    train: str
    cosine: float


@dataclass(frozen=True, repr=False)
class AuditReport:
    """All that an audit found."""

    name: str  # of what was audited
    findings: tuple[Finding, ...]  # the worst first
    looked_at: Mapping[str, int]  # what was counted: rows, files, readable, train, valid, classes, …
    duplicates: tuple[DuplicateGroup, ...] = ()  # groups of rows that show the same picture
    leaked: tuple[str, ...] = ()  # the validation pictures that training sees too, by file name
    neighbours: tuple[Neighbour, ...] = ()  # where features were passed; the closest first

    @property
    def worst(self) -> Severity | None:
        """The severity of the worst finding, None where nothing was found."""
        return next((s for s in SEVERITIES if any(f.severity == s for f in self.findings)), None)

    def reaches(self, severity: Severity) -> bool:
        """Say whether there is a finding as bad as this, or worse."""
        return self.worst is not None and SEVERITIES.index(self.worst) <= SEVERITIES.index(severity)

    def groups(self) -> np.ndarray:
        """Return the duplicate group of each row, int64 ``(rows,)``, for a split that keeps copies on one side.

        A row without a copy is a group of its own. Numbers run from 0 in the order of each group's first row.
        """
        first = np.arange(self.looked_at["rows"], dtype=np.int64)
        for group in self.duplicates:
            first[list(group.rows)] = group.rows[0]
        return np.unique(first, return_inverse=True)[1].astype(np.int64).reshape(-1)

    def to_dict(self) -> dict[str, object]:
        """Return everything as plain values that JSON can hold."""
        return {
            "name": self.name,
            "worst": self.worst,
            "looked_at": dict(self.looked_at),
            "findings": [asdict(f) for f in self.findings],
            "duplicates": [asdict(g) for g in self.duplicates],
            "leaked": list(self.leaked),
            "neighbours": [asdict(n) for n in self.neighbours],
        }

    def __str__(self) -> str:
        counts = ", ".join(f"{n:,} {what}" for what, n in self.looked_at.items())
        lines = wrapped(safe_text(f"Audit of {self.name}: {counts}"), _COLUMNS, break_words=False)
        if not self.findings:
            return "\n".join([*lines, "Nothing to report."])
        lines.append(f"{'severity':<8} {'count':>7}  finding")
        for finding in self.findings:
            lines += _table_rows(finding)
        totals = Counter(f.severity for f in self.findings)
        # The words are the table's own, so that a search for one of them finds its rows.
        lines.append(", ".join(f"{s}: {totals[s]}" for s in SEVERITIES if totals[s]))
        return "\n".join(lines)

    __repr__ = __str__


def _table_rows(finding: Finding) -> list[str]:
    text = [f"{finding.kind}: {finding.message}"]
    if finding.examples:
        text.append("e.g. " + "; ".join(finding.examples))
    if finding.advice:
        text.append("→ " + finding.advice)
    indent = " " * 18
    lines = [line for part in text for line in wrapped(safe_text(part), _COLUMNS - len(indent), break_words=False)]
    head = f"{finding.severity:<8} {finding.count:>7,}  "
    return [(head if i == 0 else indent) + line for i, line in enumerate(lines)]


def sorted_findings(findings: list[Finding]) -> tuple[Finding, ...]:
    """Sort findings, the worst first, else in the order in which they were made."""
    return tuple(sorted(findings, key=lambda f: SEVERITIES.index(f.severity)))
