"""The data-block chain: pictures → split → labels → transforms → bunch, one step a call.

    ImageList.from_csv(path, 'labels.csv', folder='train', suffix='.jpg')
        .split_by_rand_pct(0.2)
        .label_from_df(label_delim=' ')
        .transform(get_transforms(), size=128)
        .databunch(bs=64)
        .normalize(imagenet_stats)

The factories of ``ImageDataBunch`` go through the same steps. Each step returns a new object of the
next kind, so that a wrong order fails with a sentence that says which step is missing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NoReturn, TypedDict, Unpack

import numpy as np
import pandas as pd

from onecycle.data.bunch import LabeledLists
from onecycle.data.labels import splits
from onecycle.data.labels.find.split import find_split, part_of
from onecycle.data.labels.items import Label, labels_from_pattern
from onecycle.data.labels.read import are_flag_cells, column, flags
from onecycle.data.labels.table import Columns, LabelTable
from onecycle.data.pixels.image import Image, open_image
from onecycle.data.pixels.reading import Reading
from onecycle.errors import ArgumentError, DataError, RenamedWarning, warn


class LabelOptions(TypedDict, total=False):
    """How labels are taken.

    label_cls: ``CategoryList`` (classes), ``MultiCategoryList`` (tags) or ``FloatList`` (numbers: regression); left
    out, the labels say it. label_delim: splits a text into tags. classes: fixes the classes and their order.
    log: of numbers: take their logarithm.
    """

    label_cls: Any
    label_delim: str | None
    classes: Sequence[Label] | None
    log: bool


def _renamed(old: str, new: str) -> None:
    warn(f"`{old}` is now named `{new}`", RenamedWarning)


class ImageList(LabelTable):
    """Pictures that are neither split nor labelled yet; made by ``from_folder``, ``from_csv`` or ``from_df``."""

    def __repr__(self) -> str:
        first = ",".join(self.paths[:5])
        return f"{type(self).__name__} ({len(self)} items)\n{first}{'...' if len(self) > 5 else ''}\nPath: {self.path}"

    lists_class: ClassVar[type[LabeledLists]] = LabeledLists  # that labelling makes
    _reading: Reading | None = None  # by a function of the user's, asked once

    def __getitem__(self, index: int) -> str:
        return self.paths[index]

    @property
    def items(self) -> np.ndarray:
        """The files, ``(n,)``: paths where they were given or listed as such, texts where a table has them."""
        found = np.empty(len(self), dtype=object)
        found[:] = [self.item_type(p) for p in self.paths]
        return found

    def open(self, fn: Any) -> Image:
        """Read one file. A subclass that has its own has all pictures read by it, for training and prediction."""
        return open_image(fn)

    @property
    def reading(self) -> Reading:
        """How the files are read: in the usual way, or by the ``open`` of a subclass."""
        if type(self).open is ImageList.open:
            return Reading()
        return self.read_by(self.open, type(self).__name__)

    def read_by(self, function: Callable[[Any], Any], name: str) -> Reading:
        """Return the reading by a function; how many channels it gives is asked once, with the first picture."""
        asked: Reading | None = self.__dict__.get("_reading")
        if asked is None or (asked.function, asked.name) != (function, name):
            asked = Reading(function, name=name).asked(self.paths)
            if self.paths:
                self._reading = asked
        return asked

    def splits(self, split: splits.Split) -> SplitList:
        """Return these pictures as split."""
        return SplitList(self, split)

    def add(self, other: ImageList) -> ImageList:
        """Append another list's pictures; returns this list."""
        both = self.frame is not None and other.frame is not None
        self.frame = pd.concat([self.frame, other.frame], ignore_index=True) if both else None
        self.paths = self.paths + other.paths
        return self

    def filter_by_func(self, func: Callable[[str], bool]) -> ImageList:
        """Keep the pictures for which ``func(path)`` is true."""
        return self._subset([i for i, p in enumerate(self.paths) if func(p)])

    def use_partial_data(self, sample_pct: float = 0.01, seed: int | None = None) -> ImageList:
        """Keep a random share of the pictures, at least one."""
        rng = np.random.default_rng(splits.DEFAULT_SEED if seed is None else seed)
        n = max(1, int(sample_pct * len(self)))
        return self._subset(sorted(rng.permutation(len(self))[:n].tolist()))

    def _subset(self, rows: list[int]) -> ImageList:
        frame = None if self.frame is None else self.frame.iloc[rows]
        return self._with(paths=[self.paths[i] for i in rows], frame=frame)

    def split_by_rand_pct(self, valid_pct: float = 0.2, seed: int | None = None) -> SplitList:
        """Draw ``int(valid_pct · n)`` validation pictures; the same seed (default 42) gives the same split."""
        return self.splits(splits.random_split(self.paths, valid_pct, seed=seed))

    def split_stratified(
        self,
        valid_pct: float = 0.2,
        seed: int | None = None,
        *,
        cols: Columns = 1,
        label_delim: str | None = None,
        group_col: int | str | None = None,
    ) -> SplitList:
        """Draw a validation set in which each class or tag has the share that it has in training.

        Args:
            valid_pct: share of the pictures that validate.
            seed: default 42.
            cols: column of the labels, as in ``label_from_df``. Pictures that were not read from a table are
                stratified by the names of their folders.
            label_delim: splits a cell into tags.
            group_col: column of what belongs together; a group is never split.
        """
        table = self if group_col is None else self.grouped(group_col).check()
        if self.frame is None:
            table = table.with_labels(self.folder_names(), label_delim=label_delim)
        else:
            table = table.with_label_columns(cols, label_delim=label_delim)
        _ = table.labels  # a label that cannot be used is said, not split at random
        return self.splits(table.split(valid_pct, seed=seed, stratify=True))

    def split_by_group(self, col: int | str, valid_pct: float = 0.2, seed: int | None = None) -> SplitList:
        """Draw whole groups (sites, patients, flights) for validation; column ``col`` says what belongs together."""
        return self.splits(self.grouped(col).check().split(valid_pct, seed=seed))

    def random_split_by_pct(self, valid_pct: float = 0.2, seed: int | None = None) -> SplitList:
        """Old name of ``split_by_rand_pct``."""
        _renamed("random_split_by_pct", "split_by_rand_pct")
        return self.split_by_rand_pct(valid_pct, seed)

    def split_by_folder(self, train: str = "train", valid: str = "valid") -> SplitList:
        """Split by the folders ``path/train`` and ``path/valid``; pictures elsewhere are left out."""
        return self.splits(splits.folder_split(self.paths, self.path, train=train, valid=valid))

    def split_by_idx(self, valid_idx: Sequence[int]) -> SplitList:
        """Validate on the given rows, train on all others."""
        return self.splits(splits.index_split(len(self), valid_idx))

    def split_by_idxs(self, train_idx: Sequence[int], valid_idx: Sequence[int]) -> SplitList:
        """Train and validate on the given rows; others are left out."""
        return self.splits(splits.index_split(len(self), valid_idx, train_idx))

    def split_by_files(self, valid_names: Sequence[str]) -> SplitList:
        """Validate on the pictures whose file names are given."""
        names = {Path(n).name for n in valid_names}
        return self.splits(splits.func_split(self.paths, lambda p: Path(p).name in names))

    def split_by_fname_file(self, fname: str | Path, path: str | Path | None = None) -> SplitList:
        """Validate on the file names listed in a text file, one a line, below ``path`` (default: the data's)."""
        listing = Path(path or self.path) / fname
        if not listing.is_file():
            raise DataError(f"expected a list of validation file names at {listing}, but there is no such file")
        return self.split_by_files([line.strip() for line in listing.read_text().splitlines() if line.strip()])

    def split_by_valid_func(self, func: Callable[[str], bool]) -> SplitList:
        """Validate on the pictures for which ``func(path)`` is true."""
        return self.splits(splits.func_split(self.paths, func))

    def split_from_df(self, col: int | str = 2) -> SplitList:
        """Split by column ``col``: the rows that are true validate, or those that it says train, valid or test of.

        Rows for testing are left out; ``"fold=4"`` validates on the rows with 4.
        """
        frame = self.needs_frame("split_from_df")
        if col in frame.columns or isinstance(col, int):
            cells = column(frame, col, source=self.source)
            if are_flag_cells(cells) or not any(part_of(cell) for cell in cells):
                chosen = flags(cells, source=self.source)
                return self.splits(splits.index_split(len(self), np.flatnonzero(chosen).tolist()))
        split, _ = find_split(frame, (), col, self.source)
        parts = np.array(() if split is None else split.parts)
        valid, train = (np.flatnonzero(parts == part).tolist() for part in ("valid", "train"))
        return self.splits(splits.index_split(len(self), valid, train))

    def split_none(self) -> SplitList:
        """Train on everything."""
        return self.splits(splits.no_split(len(self)))

    def no_split(self) -> SplitList:
        """Old name of ``split_none``."""
        _renamed("no_split", "split_none")
        return self.split_none()

    def _too_early(self, call: str) -> NoReturn:
        raise ArgumentError(
            f"Your data is neither split nor labeled, so {call} cannot work yet: call one of the split_… methods "
            f"(split_none to train on everything), then one of label_…, then {call}"
        )

    def label_from_folder(self) -> NoReturn:
        """Labelling comes after splitting."""
        self._too_early("label_from_folder()")

    def transform(self, *_: object, **__: object) -> NoReturn:
        """Transforms come after labelling."""
        self._too_early("transform()")

    def databunch(self, *_: object, **__: object) -> NoReturn:
        """The bunch comes last."""
        self._too_early("databunch()")


@dataclass(frozen=True)
class SplitList:
    """Pictures that are split but not labelled yet; ``split`` has row numbers of ``pictures``."""

    pictures: ImageList
    split: splits.Split

    def __repr__(self) -> str:
        return f"{len(self.split.train)} pictures train, {len(self.split.valid)} validate; split {self.split.how}"

    def label_from_list(self, labels: Sequence[object], **how: Unpack[LabelOptions]) -> LabeledLists:
        """Label every picture; see ``LabelOptions``."""
        return self._labelled(self.pictures.with_labels(labels, **how))

    def label_from_df(self, cols: Columns = 1, **how: Unpack[LabelOptions]) -> LabeledLists:
        """Label from column ``cols`` of the table; several columns are 0/1 flags, one a tag; see ``LabelOptions``."""
        return self._labelled(self.pictures.with_label_columns(cols, **how))

    def _labelled(self, table: ImageList) -> LabeledLists:
        return table.lists_class.of(table, self.split)

    def label_from_folder(self, **how: Unpack[LabelOptions]) -> LabeledLists:
        """Label each picture with the name of its folder; see ``LabelOptions``."""
        return self.label_from_list(self.pictures.folder_names(), **how)

    def label_from_re(
        self, pat: str | re.Pattern[str], full_path: bool = False, **how: Unpack[LabelOptions]
    ) -> LabeledLists:
        """Label with group 1 of ``pat`` searched in the posix path; with ``full_path``, in the absolute one."""
        paths = self.pictures.absolute().paths if full_path else self.pictures.paths
        return self.label_from_list(labels_from_pattern(paths, pat), **how)

    def label_from_func(self, func: Callable[[Any], object], **how: Unpack[LabelOptions]) -> LabeledLists:
        """Label with ``func(path)``; the path is a ``pathlib.Path``; see ``LabelOptions``."""
        return self.label_from_list([func(Path(p)) for p in self.pictures.paths], **how)

    def transform(self, *_: object, **__: object) -> NoReturn:
        """Transforms come after labelling."""
        raise ArgumentError("Your data isn't labeled, can't transform it yet: call one of the label_… methods first")

    def databunch(self, *_: object, **__: object) -> NoReturn:
        """The bunch comes last."""
        raise ArgumentError(
            "Your data isn't labeled, can't turn it into a `DataBunch` yet: call one of the label_… methods first"
        )
