"""Pictures, their labels and their split, as plain values: what every way of making a bunch goes through."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Self

import numpy as np
import pandas as pd

from onecycle.data.augment.transforms import Transform
from onecycle.data.labels import items
from onecycle.data.labels.items import Label, Labels, Source
from onecycle.data.labels.splits import Split, group_numbers
from onecycle.data.pixels.resize import ResizeMethod, ResizeSpec
from onecycle.errors import ArgumentError, DataError, DataWarning, LabelError, warn

TransformLists = tuple[Sequence[Transform], Sequence[Transform]]


class Pictures:
    """Pictures that are neither split nor labelled yet.

    Args:
        paths: the pictures' paths.
        path: the folder of the data set; models are saved below it.
        frame: the table that the pictures were read from, row by row.
        source: what to call that table in messages.

    Attributes:
        name_col: the table's column with the pictures' names.
    """

    name_col: int | str = 0

    def __init__(
        self,
        paths: Iterable[str | Path],
        path: str | Path = ".",
        *,
        frame: pd.DataFrame | None = None,
        source: Source | None = None,
    ) -> None:
        self.paths = [str(p) for p in paths]
        self.path = Path(path)
        self.frame = frame
        self.source = source or Source(f"the list of {len(self.paths)} pictures")

    @classmethod
    def from_folder(
        cls, path: str | Path = ".", *, extensions: Iterable[str] = items.IMAGE_SUFFIXES, recurse: bool = True
    ) -> Self:
        """List the pictures below ``path``, sorted; hidden files are left out.

        Raises:
            DataError: no such folder, or no picture in it.
        """
        found = items.list_images(Path(path), recurse=recurse, suffixes=extensions)
        if not found:
            raise DataError(f"no pictures in {path} (looked for {', '.join(sorted(extensions))})")
        return cls(found, path, source=Source(str(path)))

    @classmethod
    def from_csv(
        cls,
        path: str | Path,
        csv_name: str | Path,
        *,
        header: int | Literal["infer"] | None = "infer",
        delimiter: str | None = None,
        cols: int | str = 0,
        folder: str | Path | None = None,
        suffix: str = "",
    ) -> Self:
        """Read the pictures' names from column ``cols`` of a table: ``path/folder/<name><suffix>``.

        A name that is a whole path stays as it is.

        Raises:
            DataError: no such table, or a row without a name.
        """
        table = Path(path) / csv_name
        frame = items.read_label_csv(table, delimiter=delimiter, header=header)
        first_row = 1 if header is None else 2 + (int(header) if header != "infer" else 0)
        source = Source(str(table), first_row=first_row)
        return cls._from_frame(frame, path, cols, folder, suffix, source)

    @classmethod
    def from_df(
        cls,
        df: pd.DataFrame,
        path: str | Path,
        *,
        cols: int | str = 0,
        folder: str | Path | None = None,
        suffix: str = "",
    ) -> Self:
        """Read the pictures' names from column ``cols`` of a frame: ``path/folder/<name><suffix>``."""
        return cls._from_frame(df, path, cols, folder, suffix, Source("the DataFrame"))

    @classmethod
    def _from_frame(
        cls, df: pd.DataFrame, path: str | Path, cols: int | str, folder: str | Path | None, suffix: str, source: Source
    ) -> Self:
        root = Path(path) if folder is None else Path(path) / folder
        names = items.file_names(df, cols, source=source, suffix=suffix)
        made = cls([items.picture_path(root, n) for n in names], path, frame=df, source=source)
        made.name_col = cols
        return made

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> str:
        return self.paths[index]

    @property
    def items(self) -> list[str]:
        """The paths (v1's name)."""
        return self.paths

    def needs_frame(self, call: str) -> pd.DataFrame:
        if self.frame is None:
            raise ArgumentError(f"{call} needs a table, but these pictures were not read with from_csv or from_df")
        return self.frame


@dataclass(frozen=True)
class Labeled:
    """Pictures, split and labelled: all that a bunch is made of."""

    pictures: Pictures
    split: Split
    labels: Labels
    tfms: TransformLists | None = None
    resize: ResizeSpec = field(default_factory=ResizeSpec)
    mode: str = "bilinear"
    test_paths: tuple[str, ...] | None = None

    def __repr__(self) -> str:
        kind = "tags" if self.labels.is_multi else "classes"
        return (
            f"{len(self.split.train)} pictures train, {len(self.split.valid)} validate, "
            f"{len(self.labels.classes)} {kind}; split {self.split.how}"
        )

    def transform(
        self,
        tfms: TransformLists | None = None,
        *,
        size: int | tuple[int, int] | None = None,
        resize_method: ResizeMethod | str | None = None,
        mult: int | None = None,
        padding_mode: str = "reflection",
        mode: str = "bilinear",
        scaled_decode: bool = True,
    ) -> Self:
        """Set the transforms (training list, validation list) and the size.

        Args:
            tfms: what ``get_transforms()`` returns; None for no augmentation.
            size: px; a number crops by default, a (height, width) pair squishes.
            resize_method: CROP, PAD, SQUISH or NO instead of that default.
            mult: round the size to a multiple of this.
            padding_mode: ``reflection``, ``border`` or ``zeros``.
            mode: interpolation of the augmentation: ``bilinear``, ``bicubic`` or ``nearest``.
            scaled_decode: decode a JPEG far larger than ``size`` at 1/2, 1/4 or 1/8, in training and prediction alike.
        """
        if tfms is not None and (not isinstance(tfms, (tuple, list)) or len(tfms) != 2):
            raise ArgumentError(
                "tfms is a pair (training transforms, validation transforms), as get_transforms() returns; "
                f"received {tfms!r}"
            )
        resize = ResizeSpec.make(size, resize_method, padding_mode=padding_mode, mult=mult, scaled_decode=scaled_decode)
        return replace(self, tfms=None if tfms is None else (tfms[0], tfms[1]), resize=resize, mode=mode)

    def add_test(self, items: Iterable[str | Path]) -> Self:
        """Add pictures whose labels are not known, for ``get_preds(DatasetType.Test)``."""
        return replace(self, test_paths=tuple(str(p) for p in items))

    def add_test_folder(self, test_folder: str = "test") -> Self:
        """Add the pictures below ``path/test_folder`` as the test set."""
        return self.add_test(items.list_images(self.pictures.path / test_folder))


def label_rows(
    pictures: Pictures,
    split: Split,
    labels: Sequence[object],
    *,
    label_delim: str | None = None,
    classes: Sequence[Label] | None = None,
) -> Labeled:
    """Label every picture: one label each, or several (sequences, or text split at ``label_delim``).

    Args:
        pictures: N pictures.
        split: which of them train and which validate.
        labels: one entry a picture, in the pictures' order.
        label_delim: splits a text into tags.
        classes: fixes the class list and its order; default: all labels of all rows, sorted.

    Raises:
        LabelError: missing labels, mixed kinds, or labels outside ``classes``.
    """
    found = encode(pictures, labels, label_delim=label_delim, classes=classes)
    if label_delim and not any(label_delim in str(v) for v in labels):
        warn(f"label_delim={label_delim!r} does not occur in a single label of {pictures.source}", DataWarning)
    finding = None if found.is_multi else items.find_tag_lists(labels)
    if finding is not None:
        warn(finding.message(), DataWarning)
    kept = copy.copy(pictures)
    kept.frame = None  # as large as all the rest; ``label_columns`` keeps what else it says
    return Labeled(kept, split, found)


def encode(
    pictures: Pictures,
    labels: Sequence[object],
    *,
    label_delim: str | None = None,
    classes: Sequence[Label] | None = None,
) -> items.Labels:
    """Encode the labels of N pictures; arguments and errors as in ``label_rows``."""
    if len(labels) != len(pictures):
        raise LabelError(f"expected one label a picture, {len(pictures)}; received {len(labels)} labels")
    several = label_delim is not None or any(isinstance(v, (list, tuple, set, np.ndarray)) for v in labels[:1])
    if several:
        return items.encode_multi(labels, source=pictures.source, label_delim=label_delim, classes=classes)
    return items.encode_single(labels, source=pictures.source, classes=classes)


def label_columns(
    pictures: Pictures,
    split: Split,
    cols: int | str | Sequence[int | str] = 1,
    *,
    label_delim: str | None = None,
    classes: Sequence[Label] | None = None,
) -> Labeled:
    """Label from column ``cols`` of the pictures' table; several columns are 0/1 flags, one a tag."""
    cells, names = read_labels(pictures, cols)
    if names is None:
        labeled = label_rows(pictures, split, cells, label_delim=label_delim, classes=classes)
    else:
        labeled = label_rows(pictures, split, cells, classes=classes or names)
    labeled.pictures.frame = _other_columns(pictures, cols)
    return labeled


def _other_columns(pictures: Pictures, cols: int | str | Sequence[int | str]) -> pd.DataFrame | None:
    """Return what the table says beside names and labels (a site, a date): results are looked at by it."""
    frame, labels = (pictures.needs_frame("labelling from a column"), [cols] if isinstance(cols, (int, str)) else cols)
    used = [items.column(frame, c, source=pictures.source).name for c in (pictures.name_col, *labels)]
    others = frame.drop(columns=used)
    return others if len(others.columns) else None


def read_labels(pictures: Pictures, cols: int | str | Sequence[int | str]) -> tuple[list[object], list[str] | None]:
    """Read the labels of the pictures' table as they stand there; several columns are 0/1 flags, one a tag.

    Returns:
        one entry a picture, and the tags' names, sorted, where the columns are flags.
    """
    frame = pictures.needs_frame("labelling from a column")
    if isinstance(cols, (int, str)):
        return list(items.column(frame, cols, source=pictures.source)), None
    columns = [items.column(frame, c, source=pictures.source) for c in cols]
    names = [str(c.name) for c in columns]
    flags = np.stack([items.flags(c, source=pictures.source) for c in columns], axis=1)
    return [[names[i] for i in np.flatnonzero(row)] for row in flags], sorted(names)


def group_column(pictures: Pictures, col: int | str) -> np.ndarray:
    """Read which pictures belong together from a column of their table, int64 ``(N,)`` group numbers.

    Raises:
        DataError: rows without a group, each named.
    """
    cells = items.column(pictures.needs_frame("group_col"), col, source=pictures.source)
    missing = np.flatnonzero(cells.isna().to_numpy())
    if len(missing):
        raise DataError(
            f"{pictures.source}: no group in column {cells.name!r} at row {pictures.source.rows(missing.tolist())}; "
            "fill these cells: a picture that belongs to no other needs a group of its own"
        )
    return group_numbers(list(cells), n=len(pictures))


def folder_names(pictures: Pictures) -> list[str]:
    """Return the name of each picture's folder."""
    return [Path(p).parent.name for p in pictures.paths]
