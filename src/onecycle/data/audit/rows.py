"""What is wrong with a data set, found before anyone trains on it. Pure functions: findings out, nothing printed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from onecycle.data.audit.files import missing_files, suffix_hint
from onecycle.data.audit.label_checks import TAG_ROWS
from onecycle.data.labels.items import Labels, Source
from onecycle.data.labels.splits import Split
from onecycle.errors import ArgumentError, Unreadable, UnreadableImagesError
from onecycle.text import by_place, option, shown


def unseen_items(labels: Labels, split: Split) -> tuple[list[int], list[int]]:
    """Find validation pictures with a class that no training picture has.

    Returns:
        positions in the validation part, and the indices of those classes among all that training lacks.
    """
    if labels.is_regression:
        return [], []
    absent = labels.counts(split.train) == 0
    targets = labels.targets[split.valid]
    if not len(targets):
        return [], []
    hit = (targets[:, absent] > 0).any(axis=1) if labels.is_multi else absent[targets]
    present = labels.counts(split.valid) > 0
    return np.flatnonzero(hit).tolist(), np.flatnonzero(absent & present).tolist()


def unreadable_message(failed: Sequence[Unreadable], n: int, source: Source, hint: str = "") -> str:
    """Name each picture that cannot be read, with its row in ``source``, out of ``n``; a hint comes first."""
    rows = [f"row {f.position + source.first_row}: {f.path} ({f.reason})" for f in failed]
    lines, leave_out = shown(rows, between="\n  "), by_place("--allow unreadable", "unreadable='skip'")
    return (
        f"{len(failed)} of {n} pictures of {source} cannot be read:{hint}\n  {lines}\n"
        f"Mend or remove these rows, or leave them out: {leave_out}."
    )


def check_files_exist(paths: Sequence[str], source: Source, *, all_gone_only: bool = False) -> None:
    """Refuse a table whose pictures are not there.

    Args:
        paths: the pictures.
        source: where the rows came from.
        all_gone_only: accept missing pictures as long as there is one that exists.

    Raises:
        UnreadableImagesError: names each missing picture with its row, and the suffix that would help.
    """
    missing = missing_files(paths)
    if not missing or (all_gone_only and len(missing) < len(paths)):
        return
    failed = [Unreadable(i, paths[i], "no such file") for i in missing]
    raise UnreadableImagesError(unreadable_message(failed, len(paths), source, suffix_hint(failed[0].path)))


def oddities(labels: Labels, split: Split, paths: Sequence[str]) -> Iterator[str]:
    """Describe what is usable, but may mislead: one message a finding."""
    unseen, absent = unseen_items(labels, split)
    if unseen:
        names = shown([repr(labels.classes[i]) for i in absent], most=5)
        counted = "they count as missed" if labels.is_multi else "count as errors"
        yield (
            f"{len(unseen)} of {len(split.valid)} validation pictures have one of the {len(absent)} {labels.words} "
            f"that no training picture has ({names}); they stay in the validation set and {counted}"
        )
    n_rows = Counter(paths)
    again = [p for p, n in n_rows.items() if n > 1]
    if again:
        both = {paths[i] for i in split.train} & {paths[i] for i in split.valid}
        leak = f", and {len(both)} of them both train and validate, which flatters the result" if both else ""
        n_labels = Counter(path for path, _ in {(p, t.tobytes()) for p, t in zip(paths, labels.targets, strict=True)})
        tags = f"; if each row has one tag of its picture, {option('join_rows', True)} joins them"
        tags = tags if sum(n > 1 for n in n_labels.values()) > TAG_ROWS * len(n_rows) else ""
        yield f"{len(again)} pictures are listed more than once{leak}: {shown(again, most=5)}{tags}"
    if len(labels.classes) == 1 and not labels.is_regression:
        yield f"there is only one {labels.word}, {labels.classes[0]!r}, so there is nothing to tell apart"
    if not len(split.valid) and not split.how.startswith("none") and "valid_pct=0.0," not in split.how:
        yield f"the validation part is empty (split {split.how}), so nothing will be measured"


def check_same_classes(old: Labels, new: Labels) -> None:
    """Refuse data whose classes are not those that a model was made for.

    Raises:
        ArgumentError: other classes, or tags where there were single labels; names the difference.
    """
    if old.kind != new.kind:
        said = {"class": "single labels", "tags": "tags", "numbers": "numbers"}
        raise ArgumentError(f"the new data has {said[new.kind]} where the learner's has {said[old.kind]}")
    if old.classes != new.classes and sorted(map(str, old.classes)) == sorted(map(str, new.classes)):
        raise ArgumentError(
            f"the learner has the {old.words} {shown(list(map(repr, old.classes)), most=5)} and the new data has "
            f"{shown(list(map(repr, new.classes)), most=5)}, another order or type; label both with the same classes="
        )
    if old.classes != new.classes:
        gone = [c for c in old.classes if c not in new.classes][:3]
        extra = [c for c in new.classes if c not in old.classes][:3]
        raise ArgumentError(
            f"the learner was made for {len(old.classes)} {old.words} and the new data has {len(new.classes)}: missing "
            f"{gone}, new {extra}; label both with the same classes= (label_from_df takes it), or make a new learner"
        )
