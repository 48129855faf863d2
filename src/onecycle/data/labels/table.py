"""The table of labelled pictures, read once, broken rows and all: what audit, bunch and ``evaluate`` take."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pandas as pd

from onecycle.data.labels import items
from onecycle.data.labels.file_names import FileNames, last_parts
from onecycle.data.labels.find.labels import are_in_brackets, flags_beside
from onecycle.data.labels.find.split import Part, find_split, unused_split
from onecycle.data.labels.items import Label, Labels, Source
from onecycle.data.labels.lists import kind_of
from onecycle.data.labels.read import column, columns, flags, picture_as_name, read_label_csv
from onecycle.data.labels.splits import Split, folder_split, group_numbers, group_split, make_split, random_split
from onecycle.data.labels.stratified import stratified_split
from onecycle.data.labels.tag_lists import find_tag_lists
from onecycle.data.pixels.reading import Reading
from onecycle.errors import ArgumentError, DataError, DataWarning, LabelError, warn
from onecycle.files import absolute_name
from onecycle.text import option, plural, shown

Columns = int | str | Sequence[int | str]
"""One column (of labels, or of file names in a sequence of one), or several with 0/1, each named as its tag."""


@dataclass(frozen=True)
class Problem:
    """What only the reading of a table or a folder can know to be wrong with it."""

    kind: Literal["no-file-name", "no-group", "blanks", "empty-folder", "lost-link", "file-spelling", "group-spelling"]
    where: tuple[str, ...]  # rows, cells or folders


def _picture_path(root: str, name: object, suffix: str, path_parts: int | None = None) -> str:
    """Return the path that a cell names, ``""`` where it names none."""
    if items.is_missing(name):
        return ""
    text = items.cell_text(name)
    text = text if path_parts is None else last_parts(text.strip(), path_parts)
    path = f"{text}{suffix}" if os.path.isabs(text) else f"{root}/{text}{suffix}"
    if text != text.strip() and not os.path.isfile(path):  # blanks around a name are hardly ever part of it
        return _picture_path(root, text.strip(), suffix)
    return path


class LabelTable:
    """N pictures, and what a table, their folders or a list says about them.

    Rows without a file or a label stay in it: ``problems()`` and ``tags`` show them to an audit, and what needs whole
    rows (``whole_labels``, ``targets``) refuses them, each one named.

    Args:
        paths: the pictures' paths; ``""`` where a row names no file.
        path: the folder of the data set; models are saved below it.
        frame: the table that the pictures were read from, row by row.
        source: what to call that table in messages.
    """

    name_col: Any = 0  # name of the column with the pictures' names
    cells: Sequence[object] | None = None  # the labels as they stand, one entry a picture
    label_delim: str | None = None  # splits a cell into tags
    class_list: Sequence[Label] | None = None  # fixes the classes and their order
    label_kind: str | None = None  # ``class``, ``tags`` or ``numbers``, where the labels do not say it themselves
    log_labels: bool = False  # of numbers: take their logarithm
    group_cells: Sequence[object] | None = None  # what belongs together, as it stands
    group_col: Any = None  # name of the column with the groups
    empty_folders: tuple[str, ...] = ()  # folders of classes that hold no picture
    lost_links: tuple[str, ...] = ()  # links that lead nowhere, or back into a folder that they are in
    other_spellings: tuple[str, ...] = ()  # names of files that the disk writes in another way
    by_class_folder: bool = False  # whether the pictures' folders are their classes
    folders: tuple[str, str] | None = None  # those that are the split: training, validation
    parts: Sequence[Part] | None = None  # which part each row is in, where a column says so
    split_col: str | None = None  # that column

    def __init__(
        self,
        paths: Iterable[str | Path],
        path: str | Path = ".",
        *,
        frame: pd.DataFrame | None = None,
        source: Source | None = None,
    ) -> None:
        given = list(paths)
        self.item_type: Callable[[str], str | Path] = Path if any(isinstance(p, Path) for p in given[:1]) else str
        self.paths = [str(p) for p in given]
        self.path = Path(path)
        self.frame = frame
        self.source = source or Source(f"the list of {len(self.paths)} pictures")

    # -- reading --------------------------------------------------------------------------------------------------

    @classmethod
    def from_folder(
        cls, path: str | Path = ".", *, extensions: Iterable[str] = items.IMAGE_SUFFIXES, recurse: bool = True
    ) -> Self:
        """List the pictures below ``path``, sorted; hidden files are left out.

        Raises:
            DataError: no such folder, or no picture in it.
        """
        pictures = items.list_images(Path(path), recurse=recurse, suffixes=extensions)
        if not pictures:
            raise DataError(
                f"no pictures in {path} (looked for {', '.join(sorted(extensions))}){items.other_files(Path(path))}"
            )
        return cls(pictures, path, source=Source(str(path)))

    @classmethod
    def from_csv(
        cls,
        path: str | Path,
        csv_name: str | Path,
        *,
        header: int | Literal["infer"] | None = "infer",
        delimiter: str | None = None,
        cols: Columns = 0,
        folder: str | Path | None = None,
        suffix: str = "",
        path_parts: int | None = None,
    ) -> Self:
        """Read the pictures' names from column ``cols`` of a table: ``path/folder/<name><suffix>``.

        A name that is a whole path stays as it is; with ``path_parts``, as many last parts of it are the name.

        Raises:
            DataError: no such table, no names of columns, or a row without a name.
        """
        table = Path(path) / csv_name
        frame = read_label_csv(table, delimiter=delimiter, header=header)
        if header == "infer" and (name := picture_as_name(frame)):
            raise DataError(
                f"{table}: its first line appears to be a row, not the names of columns: {name} is a picture's name; "
                "pass header=None, or add a first line such as file,label"
            )
        first_row = 1 if header is None else 2 + (int(header) if header != "infer" else 0)
        source = Source(str(table), first_row)
        return cls.from_frame(frame, path, cols, folder, suffix, source, path_parts=path_parts).check()

    @classmethod
    def from_df(
        cls,
        df: pd.DataFrame,
        path: str | Path,
        *,
        cols: Columns = 0,
        folder: str | Path | None = None,
        suffix: str = "",
        path_parts: int | None = None,
    ) -> Self:
        """Read the pictures' names from column ``cols`` of a frame: ``path/folder/<name><suffix>``."""
        source = Source("the DataFrame")
        return cls.from_frame(df, path, cols, folder, suffix, source, path_parts=path_parts).check()

    @classmethod
    def from_frame(
        cls,
        df: pd.DataFrame,
        path: str | Path,
        cols: Columns,
        folder: str | Path | None,
        suffix: str,
        source: Source,
        *,
        path_parts: int | None = None,
    ) -> Self:
        """Read the pictures' names as ``from_df`` does; a row without a name stays, with an empty path.

        Args:
            df, path, cols, folder, suffix: as there.
            source: what to call the frame.
            path_parts: of each name's path, as many last parts are taken: of another machine's, or of an address.
        """
        root = (Path(path) if folder is None else Path(path) / folder).as_posix()
        names = column(df, cols, source=source)
        paths = [_picture_path(root, name, suffix, path_parts) for name in names]
        disk = FileNames()
        there = [disk.find(path) or path for path in paths]
        spelt = tuple(
            f"{os.path.basename(a)!r} is {os.path.basename(b)!r}" for a, b in zip(paths, there, strict=True) if a != b
        )
        return cls(there, path, frame=df, source=source)._with(name_col=names.name, other_spellings=spelt)

    @classmethod
    def from_class_folders(cls, root: Path, tops: Sequence[Path]) -> Self:
        """Label each picture below ``tops`` with the name of its folder; one directly in a top has no label."""
        lost: list[str] = []
        pictures = [p for top in tops for p in items.list_images(top, lost=lost)]
        used = {parent for p in pictures for parent in p.parents}
        deep = [
            f"{p.relative_to(root)}, a folder"
            for top in tops
            for p in top.glob("*/*")
            if items.is_picture_name(p) and p.is_dir() and p not in used
        ]
        empty = tuple(
            f"{top.name}/{p.name}{items.other_files(p).partition(':')[0].replace('; there are', ', but')}"
            for top in tops
            for p in sorted(top.iterdir())
            if p.is_dir() and p not in used and not p.name.startswith(".") and str(p) not in lost
        )
        table = cls([p.as_posix() for p in pictures], root, source=Source(str(root)))
        cells = [None if p.parent in tops else p.parent.name for p in pictures]
        folders = (tops[0].name, tops[1].name) if len(tops) > 1 else None
        links = tuple(sorted(table.name(link) for link in lost))
        more = (*empty, *sorted(deep))
        return table._with(cells=cells, empty_folders=more, lost_links=links, folders=folders, by_class_folder=True)

    # -- what the rows say ----------------------------------------------------------------------------------------

    @property
    def reading(self) -> Reading:
        """How the files are read."""
        return Reading()

    def with_labels(
        self,
        labels: Sequence[object],
        *,
        label_delim: str | None = None,
        classes: Sequence[Label] | None = None,
        frame: pd.DataFrame | None = None,
        label_cls: Any = None,
        log: bool = False,
    ) -> Self:
        """Return the table with one entry a picture: a label, or several (sequences, or text split at ``label_delim``).

        Args:
            labels: in the pictures' order. Vectors of 0/1 are tags, named by ``classes`` in their order.
            label_delim: splits a text into tags.
            classes: fixes the class list and its order; default: all labels of all rows, sorted.
            frame: what else the table says about each picture.
            label_cls: ``CategoryList``, ``MultiCategoryList`` or ``FloatList`` (numbers, for regression); None: the
                labels say it.
            log: of numbers: take their logarithm.

        Raises:
            LabelError: not one label a picture.
        """
        if len(labels) != len(self):
            raise LabelError(f"expected one label a picture, {len(self)}; received {len(labels)} labels")
        kind = kind_of(label_cls)
        if kind in (None, "tags") and items.are_flags(labels):
            labels = items.flagged(labels, classes)
        how: dict[str, Any] = {"label_kind": kind, "log_labels": log, "label_delim": label_delim, "class_list": classes}
        return self._with(cells=list(labels), frame=frame, **how)

    def with_label_columns(
        self,
        cols: Columns = 1,
        *,
        label_delim: str | None = None,
        classes: Sequence[Label] | None = None,
        group_col: int | str | None = None,
        label_cls: Any = None,
        log: bool = False,
    ) -> Self:
        """Return the table labelled from its column ``cols``; several (``"a,b"``, too) are 0/1 flags, one a tag.

        Its frame is then what it says beside names and labels (a site, a date): results are looked at by it.
        With ``label_cls=FloatList`` they are numbers (regression).
        """
        how: dict[str, Any] = {"label_delim": label_delim, "classes": classes, "label_cls": label_cls, "log": log}
        if group_col is not None:
            return self.grouped(group_col).with_label_columns(cols, **how)
        frame = self.needs_frame("labelling from a column")
        used = columns(frame, cols, source=self.source)
        others = frame.drop(columns=[self.name_col, *(c.name for c in used)])
        rest = others if len(others.columns) else None
        if kind_of(label_cls) == "numbers":
            return self._with_numbers(used, rest, how)
        if isinstance(cols, int) and (flagged := flags_beside(frame, str(used[0].name))):
            warn(f"{self.source}: {flagged}", DataWarning)
        labels: list[object]
        if isinstance(cols, (int, str)) and len(used) == 1:
            is_text = self.source.first_row and label_delim is None
            labels = list(items.numbers_of(list(used[0])) if is_text else used[0])
        else:
            names = [str(c.name) for c in used]
            rows = np.stack([flags(c, source=self.source) for c in used], axis=1)
            labels = [[names[i] for i in np.flatnonzero(row)] for row in rows]
            how |= {"label_delim": None, "classes": classes or sorted(names)}
        return self.with_labels(labels, frame=rest, **how)

    def _with_numbers(self, used: Sequence[pd.Series[Any]], rest: pd.DataFrame | None, how: dict[str, Any]) -> Self:
        """Return the table with the numbers of one or several columns."""
        rows = [list(row) for row in zip(*used, strict=True)] if len(used) > 1 else list(used[0])
        return self.with_labels(rows, frame=rest, **how)

    def joined(self) -> Self:
        """Return the table with one row a picture, where each row has one tag of it, say; tags and paths alone count.

        What else the table says of a picture is taken from its first row.

        Raises:
            DataError: rows of a picture that are in different groups.
        """
        rows: dict[str, list[int]] = {}
        for i, path in enumerate(self.paths):
            rows.setdefault(os.path.normpath(path) if path else f"\0{i}", []).append(i)
        first = [same[0] for same in rows.values()]
        groups = self.groups
        apart = [] if groups is None else [same[0] for same in rows.values() if len({groups[i] for i in same}) > 1]
        if apart:
            raise DataError(f"{self.source}: pictures whose rows are in different groups: {self._named(apart)}")
        parts = self.parts
        apart = [] if parts is None else [same[0] for same in rows.values() if len({parts[i] for i in same}) > 1]
        if apart:
            raise DataError(f"{self.source}: pictures whose rows are in different parts: {self._named(apart)}")
        tags = [tuple(dict.fromkeys(tag for i in same for tag in self.tags[i] or ())) for same in rows.values()]
        return self.rows(first)._with(cells=tags, label_delim=None)

    def rows(self, rows: Sequence[int]) -> Self:
        """Return the table of some rows, which have no numbers any more."""
        cells, groups, parts = (
            None if values is None else [values[i] for i in rows]
            for values in (self.cells, self.group_cells, self.parts)
        )
        return self._with(
            paths=[self.paths[i] for i in rows],
            cells=cells,
            group_cells=groups,
            parts=parts,
            frame=None if self.frame is None else self.frame.iloc[list(rows)].reset_index(drop=True),
            source=replace(self.source, first_row=0),
        )

    def grouped(self, col: int | str) -> Self:
        """Return the table with the column that says which pictures belong together (a site, a patient, a flight)."""
        cells = column(self.needs_frame("group_col"), col, source=self.source)
        return self._with(group_cells=list(cells), group_col=cells.name)

    def split_by(self, split_col: int | str | None) -> Self:
        """Return the table with the column that says the split; ``split_col`` as ``find_split`` takes it.

        None warns where a column plainly says the split: it is not used.
        """
        if split_col is None:
            if message := unused_split(self.frame, [self.name_col], self.source):
                warn(message, DataWarning)
            return self
        split, _ = find_split(self.needs_frame("split_col"), (), split_col, self.source)
        return self if split is None else self._with(parts=split.parts, split_col=split.asked)

    def with_groups(self, groups: Sequence[object]) -> Self:
        """Return the table with one entry a picture, equal for pictures that belong together.

        Raises:
            ArgumentError: not one group a picture.
        """
        if len(groups) != len(self):
            raise ArgumentError(f"expected one group a picture, {len(self)}; received {len(groups)}")
        return self._with(group_cells=groups, group_col="groups")

    def needs_frame(self, call: str) -> pd.DataFrame:
        """Return the frame that the pictures were read from.

        Raises:
            ArgumentError: there is none.
        """
        if self.frame is None:
            raise ArgumentError(f"{call} needs a table, but these pictures were not read with from_csv or from_df")
        return self.frame

    def folder_names(self) -> list[str]:
        """Return the name of each picture's folder."""
        return [Path(p).parent.name for p in self.paths]

    @property
    def is_multi(self) -> bool:
        """Whether a picture can have several tags."""
        if self.label_kind is not None:
            return self.label_kind == "tags"
        return self.label_delim is not None or any(items.is_sequence(v) for v in (self.cells or ())[:1])

    @cached_property
    def tags(self) -> list[tuple[str, ...] | None]:
        """The labels of each row as text, None where a single label is missing."""
        return [items.text_tags(v, self.label_delim, is_multi=self.is_multi) for v in self.cells or ()]

    @cached_property
    def labels(self) -> Labels:
        """The labels as class numbers.

        Raises:
            LabelError: missing labels, mixed kinds, or labels outside of the classes that were asked for.
        """
        cells = [] if self.cells is None else self.cells
        if self.label_kind == "numbers":
            return items.encode_numbers(cells, source=self.source, log=self.log_labels)
        if self.is_multi:
            return items.encode_multi(cells, source=self.source, label_delim=self.label_delim, classes=self.class_list)
        return items.encode_single(cells, source=self.source, classes=self.class_list)

    @property
    def groups(self) -> list[str] | None:
        """The group of each row, None where nothing says so; a row without one is a group of its own."""
        if self.group_cells is None:
            return None
        first = self.source.first_row
        cells = enumerate(self.group_cells)
        return [f"(row {i + first})" if items.is_missing(cell) else items.plain_id(cell) for i, cell in cells]

    @property
    def alike_groups(self) -> list[list[str]]:
        """Sets of group ids that differ in case, leading zeros or blanks alone, and so may be one."""
        return items.alike_ids(self.groups or ())

    def group_numbers(self) -> np.ndarray | None:
        """Return int64 ``(N,)`` group numbers, None where there are no groups."""
        groups = self.groups
        return None if groups is None else group_numbers(groups)

    # -- what it is taken for -------------------------------------------------------------------------------------

    def problems(self) -> list[Problem]:
        """Return what the reading showed to be wrong; files and labels themselves are for the audit to look at."""
        nameless = [f"row {i + self.source.first_row}" for i, path in enumerate(self.paths) if not path]
        groupless = [i for i, cell in enumerate(self.group_cells or ()) if items.is_missing(cell)]
        in_lists = self.frame is None and not self.source.first_row and not self.by_class_folder
        cells = () if self.label_delim or in_lists else self.cells or ()
        blanks = sorted({repr(c) for c in cells if isinstance(c, str) and c != c.strip() and c.strip()})
        every = (
            Problem("no-file-name", tuple(nameless)),
            Problem("no-group", tuple(self.row_name(i) for i in groupless)),
            Problem("file-spelling", self.other_spellings),
            Problem("blanks", tuple(blanks)),
            Problem("group-spelling", tuple(" / ".join(map(repr, ids)) for ids in self.alike_groups)),
            Problem("empty-folder", self.empty_folders),
            Problem("lost-link", self.lost_links),
        )
        return [p for p in every if p.where]

    def check(self, *, groups: bool = True) -> Self:
        """Return this table; its rows have files and, where they are grouped and ``groups`` is set, groups.

        Raises:
            DataError: no rows, or rows without a file name or a group, each named.
        """
        if self.frame is not None and not self.paths:
            raise DataError(f"{self.source} has no rows, so there is nothing to train on")
        self._refuse(
            [not path for path in self.paths], f"no file name in column {self.name_col!r}", "fill or remove these rows"
        )
        self._refuse(
            [items.is_missing(cell) for cell in (groups and self.group_cells) or ()],
            f"no group in column {self.group_col!r}",
            "fill these cells: a picture that belongs to no other needs a group of its own",
        )
        return self

    def _refuse(self, broken: Sequence[bool], what: str, advice: str) -> None:
        rows = np.flatnonzero(broken).tolist()
        if rows:
            raise DataError(f"{self.source}: {what} at row {self.source.rows(rows)}; {advice}")

    def split(self, valid_pct: float = 0.2, *, seed: int | None = None, stratify: bool = False) -> Split:
        """Draw which rows validate, whole groups where there are groups, or take the folders or column that say so.

        Where a row has no file or no label that can be used, the draw is at random: no bunch is made of such a table.

        Args:
            valid_pct: share of the pictures, 0 ≤ valid_pct < 1.
            seed: default 42.
            stratify: give both parts the same share of each class or tag.
        """
        if self.folders is not None:
            train, valid = self.folders
            return folder_split(self.paths, self.path, train=train, valid=valid, may_be_empty=True)
        if self.parts is not None:
            return self._split_by_column(valid_pct, seed=seed, stratify=stratify)
        if not all(self.paths) or not self._usable():
            split = random_split(self.paths, valid_pct, seed=seed)
            return Split(split.train, split.valid, f"until each row has a file and a label: {split.how}")
        groups = self.group_numbers()
        if stratify:
            return stratified_split(self.paths, self.labels, valid_pct, seed=seed, groups=groups)
        if groups is not None:
            return group_split(groups, valid_pct, seed=seed)
        return random_split(self.paths, valid_pct, seed=seed)

    def _split_by_column(self, valid_pct: float, *, seed: int | None, stratify: bool) -> Split:
        parts, groups = np.array(self.parts, dtype=object), self.group_numbers()
        train, valid = np.flatnonzero(parts == "train"), np.flatnonzero(parts == "valid")
        how = f"by column {self.split_col}"
        across = set() if groups is None else set(groups[train].tolist()) & set(groups[valid].tolist())
        if across:
            names = dict(zip(groups.tolist() if groups is not None else (), self.groups or (), strict=True))
            warn(
                f"{self.source}: column {self.split_col} has {plural(len(across), 'group')} of column "
                f"{self.group_col} in both parts ({shown(sorted(names[g] for g in across), most=5)}), which flatters "
                f"the result; {option('split_col', '')} draws a split by whole groups",
                DataWarning,
            )
        if not len(valid) and len(train):
            drawn = self.rows(train.tolist())._with(parts=None).split(valid_pct, seed=seed, stratify=stratify)
            train, valid, how = train[drawn.train], train[drawn.valid], f"{drawn.how}, of the rows that train {how}"
        return make_split(train, valid, how, groups=groups)

    @property
    def by_folder(self) -> bool:
        """Whether two folders are the split."""
        return self.folders is not None

    def _usable(self) -> bool:
        try:
            return self.cells is None or len(self.labels) == len(self)
        except LabelError:
            return False

    def whole_labels(self) -> Labels:
        """Return ``labels`` of a table whose rows are whole: what a bunch is made of.

        Raises:
            DataError: rows without a file or a group.
            LabelError: missing labels, mixed kinds, or labels outside of the classes that were asked for.
        """
        labels, cells = self.check().labels, [] if self.cells is None else self.cells
        if len(cells) and self.label_delim and not any(self.label_delim in str(v) for v in cells):
            warn(
                f"{option('label_delim', self.label_delim)} does not occur in a single label of {self.source}",
                DataWarning,
            )
        if not labels.is_multi and are_in_brackets(cells):
            text = f"the labels are lists in brackets, such as {cells[0]}, and each is read as one class"
            warn(f"{self.source}: {text}; for tags, write them with a delimiter alone, a;b", DataWarning)
        tag_lists = None if labels.is_multi or self.label_kind else find_tag_lists(cells)
        if tag_lists is not None:
            warn(tag_lists.message(), DataWarning)
        if self.alike_groups:
            alike = shown([" / ".join(map(repr, ids)) for ids in self.alike_groups], most=5)
            warn(
                f"{self.source}: groups whose ids differ in case, zeros or blanks alone: {alike}; they count as "
                "different ones, so that one may be in both parts: write them alike if one is meant",
                DataWarning,
            )
        return labels

    def without_labels(self) -> Self:
        """Return the table without its labels as they stand, which are as large as all the rest."""
        return self._with(cells=None)

    def targets(self, classes: Sequence[str], *, is_multi: bool) -> np.ndarray:
        """Write the labels in the classes of a model.

        Args:
            classes: C names, in the model's order.
            is_multi: whether the model gives tags.

        Returns:
            int64 ``(N,)`` class indices, or 0/1 ``(N, C)``.

        Raises:
            LabelError: a row without a label, or with one that the model does not know; it is named with the nearest.
        """
        names = {items.plain_text(name): i for i, name in enumerate(classes)}
        whole = {items.whole_number(name): i for name, i in names.items()} | names  # 1 and 1.0 are one label
        rows = [
            None if tags is None else [names.get(tag, whole.get(items.whole_number(tag), -1)) for tag in tags]
            for tags in self.tags
        ]
        self._refuse_labels(rows, classes, is_multi=is_multi)
        if not is_multi:
            return np.array([row[0] for row in rows if row], dtype=np.int64)
        targets = np.zeros((len(self), len(classes)), dtype=np.int64)
        for i, row in enumerate(rows):
            targets[i, row or []] = 1
        return targets

    def _refuse_labels(self, rows: Sequence[Sequence[int] | None], classes: Sequence[str], *, is_multi: bool) -> None:
        missing = [i for i, tags in enumerate(self.tags) if tags is None or (not tags and not is_multi)]
        if missing:
            raise LabelError(
                f"{self.source.title or self.source}: no label at {self._named(missing)}; fill these cells or leave "
                "the rows out"
            )
        pairs = [(i, zip(self.tags[i] or (), row or (), strict=True)) for i, row in enumerate(rows)]
        unknown = [(i, tag) for i, pair in pairs for tag, c in pair if c < 0]
        if unknown:
            raise LabelError(self._unknown_text(unknown, classes))
        several = [] if is_multi else [i for i, tags in enumerate(self.tags) if tags is not None and len(tags) > 1]
        if several:
            raise LabelError(
                f"{self.source.title or self.source}: several labels at {self._named(several)}, but the run gives each "
                "picture one class; pass --label-delim '' where a cell is one label"
            )

    def _unknown_text(self, unknown: Sequence[tuple[int, str]], classes: Sequence[str]) -> str:
        row, label = unknown[0]
        lowered = {name.lower(): name for name in classes}
        near = [lowered[n] for n in get_close_matches(label.lower(), lowered, n=1)]
        hint = f"did you mean {near[0]!r}?" if near else f"its labels are {shown(list(classes), most=10)}."
        names = list(dict.fromkeys(name for _, name in unknown))
        others = f" {len(names)} labels are unknown: {shown(names, most=10)}." if len(names) > 1 else ""
        return (
            f"{self.source.title or self.source}, {self.row_name(row)}: the run does not know the label {label!r}; "
            f"{hint}{others} "
            f"Mend these {len({i for i, _ in unknown})} rows or leave them out, or train a model that has the label"
        )

    # -- names ----------------------------------------------------------------------------------------------------

    def name(self, path: str) -> str:
        """Return a file's name below the folder of the data set."""
        plain = os.path.normpath(path)
        folder = os.path.abspath(self.path) if os.path.isabs(plain) else os.path.normpath(self.path)
        return plain.removeprefix(os.path.join(folder, ""))

    def row_name(self, row: int) -> str:
        """Name a row: its number where the table has numbers, and its file."""
        name = self.name(self.paths[row]) if self.paths[row] else "(no file)"
        return f"row {row + self.source.first_row}: {name}" if self.source.first_row else name

    def _named(self, rows: Sequence[int]) -> str:
        return shown([self.row_name(i) for i in rows], most=5)

    def __len__(self) -> int:
        return len(self.paths)

    def absolute(self) -> Self:
        """Return it with absolute paths, so that it stays where it is when the working directory changes."""
        return self._with(paths=[absolute_name(p) for p in self.paths], path=self.path.absolute())

    def _with(self, **changes: Any) -> Self:
        """Return a copy of which some attributes are others."""
        other = copy.copy(self)
        other.__dict__.update(changes)
        if changes.keys() & {"cells", "label_delim", "class_list", "label_kind", "paths"}:
            for computed in ("labels", "tags"):
                other.__dict__.pop(computed, None)
        return other
