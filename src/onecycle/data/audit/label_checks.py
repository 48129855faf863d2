"""What is odd about labels: rows that disagree, misspelt names, rare classes, tags that always or never go together."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import permutations

import numpy as np

from onecycle.data.audit.findings import Finding, finding_of
from onecycle.data.labels.items import Label
from onecycle.data.labels.splits import Split
from onecycle.data.labels.tag_lists import find_tag_lists
from onecycle.text import label_words, option

Tags = tuple[Label, ...]
"""The labels of one row: one, or for tags any number."""

FEW_ITEMS = 10  # of a class: with 20 % for validation two are left to measure on
_RARE_SHARE = 0.1  # a misspelt name is at most this often as the name that was meant
_SHORTEST_NAME = 4  # letters; shorter names differ by one letter all the time
TAG_ROWS = 0.2  # share of files with other labels in other rows, above which rows may be meant to have a tag each
_LUCK = 0.01  # chance that among all pairs of tags one never meets (or parts) by luck


def missing_label_findings(
    labels: Sequence[Tags | None], where: Sequence[str], *, is_multi: bool, in_folders: bool = False
) -> list[Finding]:
    """Report rows without a label, as ``where`` names them; for tags an empty cell is a picture without any."""
    empty = [name for name, tags in zip(where, labels, strict=True) if not tags]
    if is_multi:
        what = "without any tag: pictures that show none of them"
        return finding_of("note", "no-tag", empty, what, "fill the cells if tags were forgotten", unit="row")
    advice = "fill these cells or remove the rows"
    if in_folders:
        advice = "they are beside the folders of the classes: move each into the folder of its class, or away"
    unit = "picture" if in_folders else "row"
    return finding_of("error", "no-label", empty, "without a label", advice, unit=unit)


def repeated_row_findings(paths: Sequence[str], names: Sequence[str], labels: Sequence[Tags | None]) -> list[Finding]:
    """Report files that stand in several rows, apart for equal and contradicting labels.

    Args:
        paths: one a row; ``""`` where the row names no file.
        names: the same as the user knows them.
        labels: of the rows.
    """
    rows_of = defaultdict(list)
    for i, path in enumerate(paths):
        if path:
            rows_of[path].append(i)
    equal: list[str] = []
    different: list[str] = []
    for rows in (rows for rows in rows_of.values() if len(rows) > 1):
        if len({frozenset(labels[i] or ()) for i in rows}) == 1:
            equal.append(names[rows[0]])
        else:
            different.append(f"{names[rows[0]]}: {' / '.join(label_text(labels[i]) for i in rows)}")
    what, advice = "in several rows with different labels", "keep the row with the right label"
    if len(different) > TAG_ROWS * len(rows_of):
        advice = f"if each row has one tag of its picture, {option('join_rows', True)} joins them; else {advice}"
    findings = finding_of("error", "contradicting-rows", different, what, advice, unit="file")
    what, advice = "in several rows with the same label", "keep one row of each file"
    return findings + finding_of("warning", "repeated-rows", equal, what, advice, unit="file")


def label_text(tags: Tags | None) -> str:
    """Write the labels of a row as text."""
    return " ".join(str(t) for t in tags or ()) or "(none)"


# -------------------------------------------------------------------- names


def name_findings(counts: Counter[Label], *, is_multi: bool = False) -> list[Finding]:
    """Report names of classes or tags that are probably meant to be the same."""
    word = label_words(is_multi=is_multi).one
    same = _same_but_for_case([n for n in counts if isinstance(n, str)])
    alike = [" / ".join(f"{n!r} ({counts[n]:,})" for n in group) for group in same]
    what = f"of {word} names that differ in case, blanks, zeros or punctuation alone"
    findings = finding_of("warning", "label-case", alike, what, "write them alike if one is meant", unit="set")
    typos = [f"{rare!r} ({counts[rare]:,}) ~ {often!r} ({counts[often]:,})" for rare, often in _misspelt(counts)]
    what, advice = "one letter away from a frequent one", "correct them if they are misspelt"
    return findings + finding_of("warning", "label-typo", typos, what, advice, unit=f"rare {word} name")


def _plain(name: str) -> str:
    """Return a name without case, blanks, punctuation and the zeros that a whole number may have around it."""
    whole = re.sub(r"(?<![\d.])0+(?=\d)|(?<=\d)\.0+$", "", name.casefold().strip())
    return "".join(c for c in whole if c.isalnum()) or name


def _same_but_for_case(names: Sequence[str]) -> list[list[str]]:
    groups: dict[str, set[str]] = defaultdict(set)
    for name in names:
        groups[_plain(name)].add(name.strip())
    return [sorted(g) for _, g in sorted(groups.items()) if len(g) > 1]


def _misspelt(counts: Counter[Label]) -> list[tuple[str, str]]:
    """Find pairs (rare, frequent) of names with one letter more, less, changed or moved.

    Names that share what is left after one letter is taken out: linear in the number of names. Digits are not letters:
    ``type_1`` and ``type_2`` are two classes.
    """
    shortened: dict[str, set[str]] = defaultdict(set)
    for name in counts:
        if isinstance(name, str) and len(name) >= _SHORTEST_NAME:
            for i in range(len(name)):
                shortened[name[:i] + name[i + 1 :]].add(name)
            shortened[name].add(name)
    return sorted(
        {
            (rare, often)
            for group in shortened.values()
            for rare, often in permutations(group, 2)
            if counts[rare] <= _RARE_SHARE * counts[often]
            and [c for c in rare if c.isdigit()] == [c for c in often if c.isdigit()]
            and _plain(rare) != _plain(often)
        }
    )


def tag_list_findings(labels: Sequence[Tags | None]) -> list[Finding]:
    """Report single labels that appear to be lists of tags."""
    finding = find_tag_lists([tags[0] for tags in labels if tags])
    if finding is None:
        return []
    message = (
        f"the {finding.n_strings:,} different labels appear to be lists of {finding.n_tags} tags separated by "
        f"{finding.delimiter!r}"
    )
    advice = f"{option('label_delim', finding.delimiter)} trains on the tags"
    return [Finding("warning", "tag-lists", finding.n_strings, message, advice=advice)]


# -------------------------------------------------------------------- counts


def class_findings(labels: Sequence[Tags | None], split: Split, *, is_multi: bool = False) -> list[Finding]:
    """Report classes or tags that are rare, missing from one part of the split, or the only one."""
    word = label_words(is_multi=is_multi).one
    everywhere = tag_counts(labels)
    train, valid = (tag_counts([labels[i] for i in part]) for part in (split.train, split.valid))
    findings = []
    if len(everywhere) == 1:
        message = f"there is only one {word}, {next(iter(everywhere))!r}, so there is nothing to tell apart"
        advice = "check the column of the labels, or that each class has a folder"
        if is_multi:
            advice = "check the column of the labels; or label pictures with it and without it as two classes"
        findings.append(Finding("error", "one-label", 1, message, advice=advice))
    few = [f"{name} ({n})" for n, name in sorted((n, str(name)) for name, n in everywhere.items() if n < FEW_ITEMS)]
    what = f"of {len(everywhere):,} {'has' if len(few) == 1 else 'have'} fewer than {FEW_ITEMS} items"
    advice = "collect more, merge them with others, or leave them out; their results will be chance"
    findings += finding_of("warning", "few-items", few, what, advice, unit=word)
    unseen, unmeasured = (
        [f"{name} ({everywhere[name]})" for name in sorted(a.keys() - b.keys(), key=str)]
        for a, b in ((valid, train), (train, valid))
    )
    counted = "they count as missed there" if is_multi else "their validation pictures count as errors"
    advice = f"{counted}; {_advice_for_both_parts(split, word)}"
    what = "in validation that no training picture has"
    findings += finding_of("warning", "unseen-label", unseen, what, advice, unit=word)
    what, advice = "without a validation picture: not measured", _advice_for_both_parts(split, word)
    unmeasured = unmeasured if len(split.valid) else []
    return findings + finding_of("note", "unmeasured-label", unmeasured, what, advice, unit=word)


def _advice_for_both_parts(split: Split, word: str) -> str:
    """Say how a class or tag gets into both parts; what the split did already is not asked for."""
    if "moved to training" in split.how:
        return "pictures of them moved to training, where their copies are: collect more"
    if split.how.startswith("stratified"):
        what = "pictures" if split.groups is None else "groups"
        return (
            f"the split is stratified, but they have too few {what} to be in both parts: "
            "collect more, or leave them out"
        )
    if split.how.startswith("random"):
        return f"split stratified ({option('stratify', True)}), so that each {word} is in both parts"
    return f"give each part pictures of every {word}"


def tag_counts(labels: Sequence[Tags | None]) -> Counter[Label]:
    """Count in how many rows each label occurs."""
    return Counter(t for tags in labels for t in set(tags or ()))


def together_findings(labels: Sequence[Tags | None]) -> list[Finding]:
    """Report tags that always, or never, occur together, where that cannot be luck.

    With ``N`` rows of which ``a`` and ``b`` have two independent tags, ``E = a·b/N`` rows have both, and the chance
    that none has is about exp(−E). Over all P pairs, E ≥ ln(P / 0.01) keeps the chance of one false finding at 1 %.
    The same holds for tag and no-tag.
    """
    counts = tag_counts(labels)
    names = sorted(counts, key=str)
    if len(names) < 2:
        return []
    column = {name: i for i, name in enumerate(names)}
    both = np.zeros((len(names), len(names)))
    for tags in labels:
        of_row = [column[t] for t in set(tags or ())]
        both[np.ix_(of_row, of_row)] += 1
    n = both.diagonal()
    needed = math.log(len(names) * (len(names) - 1) / 2 / _LUCK)
    return _always(names, both, n, len(labels), needed) + _never(names, both, n, len(labels), needed)


def _always(names: list[Label], both: np.ndarray, n: np.ndarray, rows: int, needed: float) -> list[Finding]:
    expected_apart = n[:, None] * (1 - n[None, :] / rows)
    hit = (both == n[:, None]) & (expected_apart >= needed)
    np.fill_diagonal(hit, False)
    same = [f"{names[i]} = {names[j]} ({int(n[i]):,})" for i, j in np.argwhere(hit & hit.T).tolist() if i < j]
    what = "of tags that stand on exactly the same rows"
    advice = "leave one of the two out, or check where they should differ"
    findings = finding_of("warning", "same-tags", same, what, advice, unit="pair")
    implied = sorted(np.argwhere(hit & ~hit.T).tolist(), key=lambda p: -expected_apart[p[0], p[1]])
    pairs = [f"{names[i]} → {names[j]} ({int(n[i]):,} rows)" for i, j in implied]
    what = "of tags of which the first never occurs without the second"
    advice = "fine if one means the other; else look for rows where it is missing"
    return findings + finding_of("note", "always-together", pairs, what, advice, unit="pair")


def _never(names: list[Label], both: np.ndarray, n: np.ndarray, rows: int, needed: float) -> list[Finding]:
    expected = n[:, None] * n[None, :] / rows
    apart = [(i, j) for i, j in np.argwhere((both == 0) & (expected >= needed)).tolist() if i < j]
    apart.sort(key=lambda p: -expected[p[0], p[1]])
    pairs = [f"{names[i]} | {names[j]} ({expected[i, j]:.0f} by chance)" for i, j in apart]
    what = "of tags that never occur together, though chance would bring them"
    advice = "fine if they exclude each other; else look for rows where one was forgotten"
    return finding_of("note", "never-together", pairs, what, advice, unit="pair")
