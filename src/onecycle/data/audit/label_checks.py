"""What is odd about labels: rows that disagree, misspelt names, rare classes, tags that always or never go together."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from onecycle.data.audit.findings import Finding, some
from onecycle.data.labels.items import Label, find_tag_lists
from onecycle.data.labels.splits import Split
from onecycle.text import plural

Tags = tuple[Label, ...]
"""The labels of one row: one, or for tags any number."""

FEW_ITEMS = 10  # of a class: with 20 % for validation two are left to measure on
_RARE_SHARE = 0.1  # a misspelt name is at most this often as the name that was meant
_SHORTEST_NAME = 4  # letters; shorter names differ by one letter all the time
_LUCK = 0.01  # chance that among all pairs of tags one never meets (or parts) by luck


def missing_label_findings(labels: Sequence[Tags | None], where: Sequence[str], *, is_multi: bool) -> list[Finding]:
    """Report rows without a label, as ``where`` names them; for tags an empty cell is a picture without any."""
    empty = [i for i, tags in enumerate(labels) if not tags]
    if not empty:
        return []
    examples = some([where[i] for i in empty])
    if is_multi:
        message = f"{plural(len(empty), 'row')} without any tag: pictures that show none of them"
        return [Finding("note", "no-tag", len(empty), message, examples, "fill the cells if tags were forgotten")]
    message = f"{plural(len(empty), 'row')} without a label"
    return [Finding("error", "no-label", len(empty), message, examples, "fill these cells or remove the rows")]


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
    for rows in rows_of.values():
        if len(rows) > 1:
            given = {frozenset(labels[i] or ()) for i in rows}
            if len(given) == 1:
                equal.append(names[rows[0]])
            else:
                texts = " / ".join(label_text(labels[i]) for i in rows)
                different.append(f"{names[rows[0]]}: {texts}")
    found = []
    if different:
        message = f"{plural(len(different), 'file')} in several rows with different labels"
        advice = "keep the row with the right label"
        found.append(Finding("error", "contradicting-rows", len(different), message, some(different), advice))
    if equal:
        message = f"{plural(len(equal), 'file')} in several rows with the same label"
        found.append(Finding("warning", "repeated-rows", len(equal), message, some(equal), "keep one row of each file"))
    return found


def label_text(tags: Tags | None) -> str:
    """Write the labels of a row as text."""
    return " ".join(str(t) for t in tags or ()) or "(none)"


# -------------------------------------------------------------------- names


def name_findings(counts: Counter[Label]) -> list[Finding]:
    """Report class names that are probably meant to be the same."""
    names = [n for n in counts if isinstance(n, str)]
    found = []
    same = _same_but_for_case(names)
    if same:
        message = f"{plural(len(same), 'set')} of class names that differ in case, blanks or punctuation alone"
        examples = some([" / ".join(f"{n!r} ({counts[n]:,})" for n in group) for group in same])
        found.append(Finding("warning", "label-case", len(same), message, examples, "write them alike if one is meant"))
    typos = _misspelt(counts)
    if typos:
        message = f"{plural(len(typos), 'rare class name')} one letter away from a frequent one"
        examples = some([f"{rare!r} ({counts[rare]:,}) ~ {often!r} ({counts[often]:,})" for rare, often in typos])
        found.append(
            Finding("warning", "label-typo", len(typos), message, examples, "correct them if they are misspelt")
        )
    return found


def _plain(name: str) -> str:
    """Return a name without case, blanks and punctuation."""
    return "".join(c for c in name.casefold() if c.isalnum()) or name


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
    pairs = set()
    for group in shortened.values():
        for rare in group:
            for often in group:
                if counts[rare] <= _RARE_SHARE * counts[often] and _letters_differ(rare, often):
                    pairs.add((rare, often))
    return sorted(pairs)


def _letters_differ(a: str, b: str) -> bool:
    digits = ["".join(c for c in name if c.isdigit()) for name in (a, b)]
    return digits[0] == digits[1] and _plain(a) != _plain(b)


def tag_list_findings(labels: Sequence[Tags | None]) -> list[Finding]:
    """Report single labels that look like lists of tags."""
    finding = find_tag_lists([tags[0] for tags in labels if tags])
    if finding is None:
        return []
    message = (
        f"the {finding.n_strings:,} different labels look like lists of {finding.n_tags} tags separated by "
        f"{finding.delimiter!r}"
    )
    advice = f"--label-delim {finding.delimiter!r} (label_delim={finding.delimiter!r}) trains on the tags"
    return [Finding("warning", "tag-lists", finding.n_strings, message, advice=advice)]


# -------------------------------------------------------------------- counts


def class_findings(labels: Sequence[Tags | None], split: Split) -> list[Finding]:
    """Report classes that are rare, missing from one part of the split, or the only one."""
    everywhere = tag_counts(labels)
    train, valid = (tag_counts([labels[i] for i in part]) for part in (split.train, split.valid))
    found = []
    if len(everywhere) == 1:
        message = f"there is only one class, {next(iter(everywhere))!r}, so there is nothing to tell apart"
        found.append(Finding("error", "one-class", 1, message, advice="check the column of the labels"))
    few = sorted((n, str(name)) for name, n in everywhere.items() if n < FEW_ITEMS)
    if few:
        verb = "has" if len(few) == 1 else "have"
        message = f"{plural(len(few), 'class', 'classes')} of {len(everywhere):,} {verb} fewer than {FEW_ITEMS} items"
        examples = some([f"{name} ({n})" for n, name in few])
        advice = "collect more, merge them with others, or leave them out; their results will be chance"
        found.append(Finding("warning", "few-items", len(few), message, examples, advice))
    unseen = sorted((name for name in valid if name not in train), key=str)
    if unseen:
        message = f"{plural(len(unseen), 'class', 'classes')} in validation that no training picture has"
        advice = f"their validation pictures count as errors; {_advice_for_both_parts(split)}"
        examples = some([f"{name} ({everywhere[name]})" for name in unseen])
        found.append(Finding("warning", "unseen-class", len(unseen), message, examples, advice))
    unmeasured = sorted((name for name in train if name not in valid), key=str)
    if unmeasured and len(split.valid):
        message = f"{plural(len(unmeasured), 'class', 'classes')} without a validation picture: not measured"
        examples = some([f"{name} ({everywhere[name]})" for name in unmeasured])
        advice = _advice_for_both_parts(split)
        found.append(Finding("note", "unmeasured-class", len(unmeasured), message, examples, advice))
    return found


def _advice_for_both_parts(split: Split) -> str:
    """Say how a class gets into both parts; what the split did already is not asked for."""
    if "moved to training" in split.how:
        return "pictures of them moved to training, where their copies are: collect more"
    if split.how.startswith("stratified"):
        what = "pictures" if split.groups is None else "groups"
        return (
            f"the split is stratified, but they have too few {what} to be in both parts: "
            "collect more, or leave them out"
        )
    if split.how.startswith("random"):
        return "split stratified (--stratify, stratify=True), so that each class is in both parts"
    return "give each part pictures of every class"


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
    found = []
    same = [(i, j) for i, j in np.argwhere(hit & hit.T).tolist() if i < j]
    if same:
        message = f"{plural(len(same), 'pair')} of tags that stand on exactly the same rows"
        examples = some([f"{names[i]} = {names[j]} ({int(n[i]):,})" for i, j in same])
        advice = "leave one of the two out, or check where they should differ"
        found.append(Finding("warning", "same-tags", len(same), message, examples, advice))
    implied = sorted(np.argwhere(hit & ~hit.T).tolist(), key=lambda p: -expected_apart[p[0], p[1]])
    if implied:
        message = f"{plural(len(implied), 'pair')} of tags of which the first never occurs without the second"
        examples = some([f"{names[i]} → {names[j]} ({int(n[i]):,} rows)" for i, j in implied])
        advice = "fine if one means the other; else look for rows where it is missing"
        found.append(Finding("note", "always-together", len(implied), message, examples, advice))
    return found


def _never(names: list[Label], both: np.ndarray, n: np.ndarray, rows: int, needed: float) -> list[Finding]:
    expected = n[:, None] * n[None, :] / rows
    apart = [(i, j) for i, j in np.argwhere((both == 0) & (expected >= needed)).tolist() if i < j]
    if not apart:
        return []
    apart.sort(key=lambda p: -expected[p[0], p[1]])
    message = f"{plural(len(apart), 'pair')} of tags that never occur together, though chance would bring them"
    examples = some([f"{names[i]} | {names[j]} ({expected[i, j]:.0f} by chance)" for i, j in apart])
    advice = "fine if they exclude each other; else look for rows where one was forgotten"
    return [Finding("note", "never-together", len(apart), message, examples, advice)]
