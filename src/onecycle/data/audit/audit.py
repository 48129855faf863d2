"""The whole audit of a data set: from its rows to a report."""

from __future__ import annotations

import math
import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from onecycle.data.audit import files, label_checks
from onecycle.data.audit.duplicates import Copies, find_copies
from onecycle.data.audit.findings import (
    COPY_KINDS,
    MOST_EXAMPLES,
    AuditReport,
    CopyKind,
    DuplicateGroup,
    Finding,
    Neighbour,
    Severity,
    finding_of,
    sorted_findings,
)
from onecycle.data.audit.label_checks import Tags, label_text
from onecycle.data.audit.registration import SIDE
from onecycle.data.labels.splits import Split, keep_together
from onecycle.data.labels.table import LabelTable
from onecycle.data.pixels.resize import ResizeSpec
from onecycle.errors import ArgumentError
from onecycle.text import by_place, label_words, option, plural

if TYPE_CHECKING:
    from onecycle.data.pixels.store import PixelStore  # needs torch, which an audit alone does not


MIN_COSINE = 0.95
_BLOCK = 1024  # validation pictures at a time
_MOST_LABELS = 3  # named for one group of copies
_MOST_EACH = 5  # training pictures named for one validation picture


def audit_table(
    table: LabelTable,
    split: Split,
    resize: ResizeSpec,
    *,
    groups: Sequence[object] | None = None,
    known: Sequence[str] = (),
    features: np.ndarray | None = None,
    together: bool = False,
    store: PixelStore | None = None,
    silent: bool = False,
) -> AuditReport:
    """Look at every file, label and part of a data set once, and at nothing twice.

    Args:
        table: its rows, which may be broken.
        split: which rows train and which validate; either may be empty.
        resize: the size that pictures will be brought to.
        groups: one value a row: rows of one group belong in one part; default: those of the table, if it has any.
        known: files that no row names and that belong to the data all the same (test pictures).
        features: float ``(N, D)``, one row a picture, from a backbone; looked through for close neighbours across the
            split.
        together: judge the split in which copies that validate have moved to training, as ``keep_together`` does.
        store: of the pictures of all rows; where it has not decoded them yet, it takes the pixels that are decoded
            here.
        silent: draw no bar.

    Raises:
        ArgumentError: groups or features that do not fit the rows.
    """
    if groups is not None:
        table = table.with_groups(groups)
    keys = [os.path.normpath(p) if p else "" for p in table.paths]
    named = list(dict.fromkeys(k for k in keys if k))
    gone = set(files.missing_files(named))
    there = [path for i, path in enumerate(named) if i not in gone]
    at = {path: i for i, path in enumerate(there)}
    file_of = [at.get(key) for key in keys]
    facts, prints = files.scan(there, silent=silent, store=store, of_row=file_of)
    copies = find_copies(prints, look=lambda i: files.at_most(there[i], facts[i], SIDE), silent=silent)
    duplicates = _duplicate_groups(table, keys, at, copies)
    if together:
        split = keep_together(split, [group.rows for group in duplicates])
    leaks = _leaks(split, file_of, copies)
    neighbours = [] if features is None else _neighbours(table, split, features, duplicates)
    names = [table.name(path) for path in there]
    pictures, others = files.files_without_rows(named, known)
    findings = [
        *_reading_findings(table),
        *_leak_findings(table, split, leaks),
        *_group_findings(table, split),
        *_part_findings(table.tags, split, is_multi=table.is_multi),
        *_missing_findings(table, keys, {named[i] for i in gone}),
        *files.problem_findings(names, facts),
        *_label_findings(table, split, keys),
        *_contradiction_findings(table, duplicates, file_of, copies),
        *_copy_findings(names, copies),
        *files.content_findings(names, facts),
        *files.size_findings(names, facts, resize),
        *files.orphan_findings([table.name(p) for p in pictures], [table.name(p) for p in others]),
        *_neighbour_findings(neighbours),
    ]
    looked_at = {
        "rows": len(table),
        "files": len(there),
        "readable": sum(not f.problem for f in facts),
        "train": len(split.train),
        "valid": len(split.valid),
        label_words(is_multi=table.is_multi).many: len(label_checks.tag_counts(table.tags)),
    }
    return AuditReport(
        name=table.source.title or str(table.source),
        findings=sorted_findings(findings),
        looked_at=looked_at,
        duplicates=tuple(duplicates),
        leaked=tuple(table.name(table.paths[valid]) for valid, _, _ in leaks),
        neighbours=tuple(neighbours),
    )


_READING: dict[str, tuple[Severity, str, str, str]] = {
    "no-file-name": ("error", "row", "without a file name", "fill these cells or remove the rows"),
    "no-group": (
        "error", "row", "without a group", "fill these cells: each picture needs a group, if one of its own"
    ),
    "blanks": (
        "note", "label", "with blanks around the name; they are left out when it is read", "remove them"
    ),
    "group-spelling": (
        "warning", "set",
        "of group ids that differ in case, zeros or blanks alone, so that one group may be in both parts of the split",
        "write them alike if one is meant",
    ),
    "file-spelling": (
        "note", "name", "that the disk writes in another way (Unicode, case of the ending, blanks, %20)", "nothing here"
    ),
    "lost-link": ("warning", "link", "to nowhere, or to a folder that it is in: not followed", "mend or remove it"),
    "empty-folder": ("warning", "folder", "without a picture", "add pictures, or remove the folder"),
}  # fmt: skip
"""By kind of problem: severity, what it is about, what is wrong, advice."""


def _reading_findings(table: LabelTable) -> list[Finding]:
    """Report what the reading of the table showed to be wrong."""
    findings = []
    for problem in table.problems():
        severity, unit, what, advice = _READING[problem.kind]
        findings += finding_of(severity, problem.kind, problem.where, what, advice, unit=unit)
    return findings


# -------------------------------------------------------------------- copies


def _duplicate_groups(
    table: LabelTable, keys: Sequence[str], file_of: Mapping[str, int], copies: Copies
) -> list[DuplicateGroup]:
    members: dict[int, list[int]] = defaultdict(list)
    for row, key in enumerate(keys):
        if key in file_of:
            members[int(copies.groups[file_of[key]])].append(row)
    furthest: dict[int, CopyKind] = {}
    for link in copies.links:
        root = int(copies.groups[link.a])
        furthest[root] = max(link.kind, furthest.get(root, "same file"), key=COPY_KINDS.index)
    return [
        DuplicateGroup(tuple(same), tuple(table.name(table.paths[r]) for r in same), furthest.get(root, "same file"))
        for root, same in members.items()
        if len(same) > 1
    ]


def _leaks(split: Split, file_of: Sequence[int | None], copies: Copies) -> list[tuple[int, int, CopyKind]]:
    """Return (validation row, a training row of the same picture, how they are alike: the closest there is)."""
    leaks: dict[int, tuple[int, CopyKind]] = {}
    for kind, groups in copies.groups_by_kind.items():
        trains: dict[int, int] = {}
        for row in sorted(split.train.tolist()):
            if (file := file_of[row]) is not None:
                trains.setdefault(int(groups[file]), row)
        for row in split.valid.tolist():
            if (file := file_of[row]) is not None and row not in leaks and int(groups[file]) in trains:
                leaks[row] = trains[int(groups[file])], kind
    return sorted((valid, train, kind) for valid, (train, kind) in leaks.items())


_ALIKE: dict[CopyKind, str] = {
    "same file": "is the same file as",
    "exact": "has the pixels of",
    "near": "is a near copy of",
    "turned": "is a turned copy of",
}


def _leak_findings(table: LabelTable, split: Split, leaks: Sequence[tuple[int, int, CopyKind]]) -> list[Finding]:
    examples = [f"{table.name(table.paths[v])} {_ALIKE[kind]} {table.name(table.paths[t])}" for v, t, kind in leaks]
    what = (
        f"of {len(split.valid):,} {'is' if len(leaks) == 1 else 'are'} in training too, so that the result will "
        "look better than it is"
    )
    advice = f"keep copies on one side: {by_place('train --together', 'data.split_together(…)')}"
    return finding_of("error", "leak", examples, what, advice, unit="validation picture")


_COPIES: tuple[tuple[CopyKind, Severity, str], ...] = (
    ("exact", "warning", "with the same pixels as another one"),
    ("near", "warning", "like another one but saved anew, resized or slightly cropped"),
    ("turned", "note", "like another one but flipped or rotated"),
)


def _copy_findings(names: Sequence[str], copies: Copies) -> list[Finding]:
    findings = []
    for kind, severity, what in _COPIES:
        pairs = [f"{names[link.a]} ~ {names[link.b]}" for link in copies.links if link.kind == kind]
        findings += finding_of(severity, f"{kind}-copies", pairs, what, "keep one, or keep them in one part")
    pairs = [f"{names[a]} ~ {names[b]}" for a, b in copies.lookalikes]
    what = "that look alike but differ in places, or hardly more than others here do: they are not taken for copies"
    advice = f"if some show the same thing, split by it: {option('group_col')}"
    findings += finding_of("note", "look-alikes", pairs, what, advice, unit="pair")
    what = "of hardly more than one colour: only their exact copies are found"
    plain = [names[i] for i in copies.plain]
    return findings + finding_of("warning", "one-colour", plain, what, "look whether they are meant")


def _contradiction_findings(
    table: LabelTable, duplicates: Sequence[DuplicateGroup], file_of: Sequence[int | None], copies: Copies
) -> list[Finding]:
    """Report copies with different labels; rows of one and the same file are reported with the rows."""
    exact: list[str] = []
    alike: list[str] = []
    for group in duplicates:
        same: dict[int, list[int]] = defaultdict(list)  # rows with the same pixels
        for row in group.rows:
            same[int(copies.groups_by_kind["exact"][file_of[row]])].append(row)
        for rows in same.values():
            if len({file_of[row] for row in rows}) > 1 and len(by_label := _by_label(table, rows)) > 1:
                exact.append(_contradiction(table, by_label))
        if len({frozenset(_by_label(table, rows)) for rows in same.values()}) > 1:
            alike.append(_contradiction(table, _by_label(table, group.rows)))
    what, advice = "in several files with the same pixels and different labels", "look at them and correct the labels"
    findings = finding_of("error", "contradicting-copies", exact, what, advice)
    what = "of near or turned copies with different labels"
    return findings + finding_of("warning", "contradicting-near-copies", alike, what, advice, unit="group")


def _by_label(table: LabelTable, rows: Sequence[int]) -> dict[frozenset[str], int]:
    """Return the first of these rows that has each label, or set of tags."""
    return {frozenset(table.tags[row] or ()): row for row in reversed(rows)}


def _contradiction(table: LabelTable, by_label: Mapping[frozenset[str], int]) -> str:
    rows = sorted(by_label.values())[:_MOST_LABELS]
    return " ~ ".join(f"{table.name(table.paths[row])} ({label_text(table.tags[row])})" for row in rows)


# -------------------------------------------------------------------- rows and parts


def _label_findings(table: LabelTable, split: Split, keys: Sequence[str]) -> list[Finding]:
    where = [table.row_name(r) for r in range(len(table))]
    names = [table.name(key) if key else "" for key in keys]
    findings = [
        *label_checks.missing_label_findings(
            table.tags, where, is_multi=table.is_multi, in_folders=table.by_class_folder
        ),
        *label_checks.repeated_row_findings(keys, names, table.tags),
        *label_checks.name_findings(label_checks.tag_counts(table.tags), is_multi=table.is_multi),
        *label_checks.class_findings(table.tags, split, is_multi=table.is_multi),
    ]
    more = label_checks.together_findings if table.is_multi else label_checks.tag_list_findings
    return findings + more(table.tags)


def _missing_findings(table: LabelTable, keys: Sequence[str], gone: set[str]) -> list[Finding]:
    missing = [row for row, key in enumerate(keys) if key in gone]
    hint = files.suffix_hint(table.paths[missing[0]]).strip() if missing else ""
    names, what = [table.row_name(r) for r in missing], f"of {len(keys):,} whose file does not exist"
    return finding_of("error", "missing-file", names, what, hint or "correct or remove these rows", unit="row")


def _part_findings(labels: Sequence[Tags | None], split: Split, *, is_multi: bool) -> list[Finding]:
    findings = []
    if not len(split.train):
        findings.append(Finding("error", "no-training-part", 0, f"no picture trains (split {split.how})"))
    if not len(split.valid):
        message = f"no picture validates (split {split.how}), so nothing will be measured"
        advice = _advice_to_validate(labels, split, label_words(is_multi=is_multi).one)
        findings.append(Finding("warning", "no-validation-part", 0, message, advice=advice))
    return findings


def _advice_to_validate(labels: Sequence[Tags | None], split: Split, word: str) -> str:
    """Say how a picture comes to validate: by a share, a larger one, or more pictures."""
    n, drawn = len(split.train), re.search(r"valid_pct=([\d.]+)", split.how)
    share = float(drawn[1].rstrip(".")) if drawn else 0.0
    if not share:
        return f"{option('valid_pct', 0.2)}, say"
    counts = label_checks.tag_counts(labels)
    if split.how.startswith("stratified") and max(counts.values(), default=0) < 2:
        return f"each {word} has a single picture, which trains: a {word} needs two or more; collect more"
    if int(share * n) or n < 2:
        return "collect more pictures"
    return (
        f"{n} pictures are too few for this share: {math.ceil(1 / share - 1e-9)} would be enough for one of them, "
        f"or a larger share, {option('valid_pct', math.ceil(100 / n) / 100)}"
    )


def _group_findings(table: LabelTable, split: Split) -> list[Finding]:
    groups = [str(g) for g in table.groups or ()]
    if not groups:
        return []
    train = {groups[r] for r in split.train}
    both = [groups[r] for r in split.valid if groups[r] in train]
    what = f"with members in training and in validation ({plural(len(both), 'validation picture')})"
    mend = f"mend {'its cells' if table.parts is not None else 'the split'}"
    draw = f"or draw one by whole groups: {option('split_col', '')}" if table.parts is not None else ""
    advice = " ".join(["the split that the data has divides groups:", mend, draw]).rstrip()
    if table.parts is None and table.folders is None:
        advice = f"split by whole groups: {option('group_col')}"
    return finding_of("error", "group-across", sorted(set(both)), what, advice, unit="group")


# -------------------------------------------------------------------- neighbours


def _neighbours(
    table: LabelTable, split: Split, features: np.ndarray, duplicates: Sequence[DuplicateGroup]
) -> list[Neighbour]:
    """Return close neighbours that are no copies: those are reported already."""
    group_of = {row: i for i, group in enumerate(duplicates) for row in group.rows}
    return [
        Neighbour(table.name(table.paths[v]), table.name(table.paths[t]), cosine)
        for v, t, cosine in feature_neighbours(features, split)
        if v not in group_of or group_of[v] != group_of.get(t)
    ]


def _neighbour_findings(neighbours: Sequence[Neighbour]) -> list[Finding]:
    if not neighbours:
        return []
    n = len({neighbour.valid for neighbour in neighbours})
    message = f"{plural(n, 'validation picture')} with features close to a training picture's"
    examples = tuple(f"{p.valid} ~ {p.train} ({p.cosine:.3f})" for p in neighbours[:MOST_EXAMPLES])
    advice = f"look whether they show the same scene; if so, split by scene: {option('group_col')}"
    return [Finding("note", "neighbours", n, message, examples, advice)]


def feature_neighbours(
    features: np.ndarray, split: Split, *, min_cosine: float = MIN_COSINE
) -> list[tuple[int, int, float]]:
    """Return pairs of a validation and a training picture with close features.

    Features are centred first: those of a backbone are positive and share a large mean, which alone makes the cosine
    of any two pictures high.

    Args:
        features: float ``(N, D)``, one row a picture of the table.
        split: which rows train and which validate.
        min_cosine: least cosine of a pair, above 0 up to 1.

    Returns:
        ``(valid row, train row, cosine)``, the closest first; for each validation picture its five closest at most.

    Raises:
        ArgumentError: features that are not a finite matrix, or do not cover the split; a cosine out of range.
    """
    if not 0 < min_cosine <= 1:
        raise ArgumentError(f"min_cosine is above 0 and at most 1; received {min_cosine}")
    matrix = _checked(features, split)
    if not len(split.valid) or not len(split.train):
        return []
    centred = matrix - matrix[split.train].mean(axis=0, dtype=np.float64).astype(np.float32)
    unit = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
    train, pairs = unit[split.train], []
    for start in range(0, len(split.valid), _BLOCK):
        rows = split.valid[start : start + _BLOCK]
        cosines = unit[rows] @ train.T
        k = min(_MOST_EACH, cosines.shape[1])
        best = np.argpartition(cosines, -k, axis=1)[:, -k:]
        close = np.take_along_axis(cosines, best, axis=1)
        for i, j in np.argwhere(close >= min_cosine).tolist():
            pairs.append((int(rows[i]), int(split.train[best[i, j]]), min(float(close[i, j]), 1.0)))
    return sorted(pairs, key=lambda p: (-p[2], p[0], p[1]))


def _checked(features: np.ndarray, split: Split) -> np.ndarray:
    matrix = np.asarray(features, dtype=np.float32)
    last = max((int(part.max()) for part in (split.train, split.valid) if len(part)), default=-1)
    if matrix.ndim != 2 or len(matrix) <= last:
        raise ArgumentError(
            f"features is a matrix with one row a picture of the table, at least {last + 1}; "
            f"received shape {matrix.shape}"
        )
    if not np.isfinite(matrix).all():
        row = int(np.flatnonzero(~np.isfinite(matrix).all(axis=1))[0])
        raise ArgumentError(f"features must be finite numbers, but row {row} has NaN or infinity")
    return matrix
