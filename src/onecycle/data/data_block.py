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
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import numpy as np
import pandas as pd

from onecycle.data import items, splits
from onecycle.data.augment.augmenter import Transform
from onecycle.data.items import Label, Labels, Source
from onecycle.data.pixels import ResizeMethod, ResizeSpec
from onecycle.errors import ArgumentError, DataError, DataWarning, LabelError, RenamedWarning, warn

if TYPE_CHECKING:
    from onecycle.data.bunch import ImageDataBunch

TransformLists = tuple[Sequence[Transform], Sequence[Transform]]


def _renamed(old: str, new: str) -> None:
    warn(f"`{old}` is now named `{new}`", RenamedWarning)


class ImageList:
    """Pictures that are neither split nor labelled yet.

    Args:
        paths: the pictures' paths.
        path: the folder of the data set; models are saved below it.
        frame: the table that the pictures were read from, row by row.
        source: what to call that table in messages.
    """

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
    ) -> ImageList:
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
    ) -> ImageList:
        """Read the pictures' names from column ``cols`` of a table: ``path/folder/<name><suffix>``.

        Raises:
            DataError: no such table, or a row without a name.
        """
        table = Path(path) / csv_name
        frame = items.read_label_csv(table, delimiter=delimiter, header=header)
        source = Source(str(table), first_row=1 if header is None else 2)
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
    ) -> ImageList:
        """Read the pictures' names from column ``cols`` of a frame: ``path/folder/<name><suffix>``."""
        return cls._from_frame(df, path, cols, folder, suffix, Source("the DataFrame"))

    @classmethod
    def _from_frame(
        cls,
        df: pd.DataFrame,
        path: str | Path,
        cols: int | str,
        folder: str | Path | None,
        suffix: str,
        source: Source,
    ) -> ImageList:
        root = Path(path) if folder is None else Path(path) / folder
        names = items.file_names(df, cols, source=source, suffix=suffix)
        return cls([f"{root.as_posix()}/{n}" for n in names], path, frame=df, source=source)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> str:
        return self.paths[index]

    def __repr__(self) -> str:
        first = ",".join(self.paths[:5])
        return f"{type(self).__name__} ({len(self)} items)\n{first}{'...' if len(self) > 5 else ''}\nPath: {self.path}"

    @property
    def items(self) -> list[str]:
        """The paths (v1's name)."""
        return self.paths

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
        return type(self)([self.paths[i] for i in rows], self.path, frame=frame, source=self.source)

    def split_by_rand_pct(self, valid_pct: float = 0.2, seed: int | None = None) -> SplitList:
        """Draw ``int(valid_pct · n)`` validation pictures; the same seed (default 42) gives the same split."""
        return SplitList(self, splits.random_split(self.paths, valid_pct, seed=seed))

    def random_split_by_pct(self, valid_pct: float = 0.2, seed: int | None = None) -> SplitList:
        """Old name of ``split_by_rand_pct``."""
        _renamed("random_split_by_pct", "split_by_rand_pct")
        return self.split_by_rand_pct(valid_pct, seed)

    def split_by_folder(self, train: str = "train", valid: str = "valid") -> SplitList:
        """Split by the folders ``path/train`` and ``path/valid``; pictures elsewhere are left out."""
        return SplitList(self, splits.folder_split(self.paths, self.path, train=train, valid=valid))

    def split_by_idx(self, valid_idx: Sequence[int]) -> SplitList:
        """Validate on the given rows, train on all others."""
        return SplitList(self, splits.index_split(len(self), valid_idx))

    def split_by_idxs(self, train_idx: Sequence[int], valid_idx: Sequence[int]) -> SplitList:
        """Train and validate on the given rows; others are left out."""
        return SplitList(self, splits.index_split(len(self), valid_idx, train_idx))

    def split_by_files(self, valid_names: Sequence[str]) -> SplitList:
        """Validate on the pictures whose file names are given."""
        names = {Path(n).name for n in valid_names}
        return SplitList(self, splits.func_split(self.paths, lambda p: Path(p).name in names))

    def split_by_fname_file(self, fname: str | Path, path: str | Path | None = None) -> SplitList:
        """Validate on the file names listed in a text file, one a line, below ``path`` (default: the data's)."""
        listing = Path(path or self.path) / fname
        if not listing.is_file():
            raise DataError(
                f"expected a list of validation file names at {listing}, but there is no such file"
            )
        return self.split_by_files(
            [line.strip() for line in listing.read_text().splitlines() if line.strip()]
        )

    def split_by_valid_func(self, func: Callable[[str], bool]) -> SplitList:
        """Validate on the pictures for which ``func(path)`` is true."""
        return SplitList(self, splits.func_split(self.paths, func))

    def split_from_df(self, col: int | str = 2) -> SplitList:
        """Validate on the rows whose cell in column ``col`` is true."""
        flags = items.column(self._needs_frame("split_from_df"), col, source=self.source)
        return SplitList(self, splits.index_split(len(self), np.flatnonzero(flags.astype(bool)).tolist()))

    def split_none(self) -> SplitList:
        """Train on everything."""
        return SplitList(self, splits.no_split(len(self)))

    def no_split(self) -> SplitList:
        """Old name of ``split_none``."""
        _renamed("no_split", "split_none")
        return self.split_none()

    def _needs_frame(self, call: str) -> pd.DataFrame:
        if self.frame is None:
            raise ArgumentError(
                f"{call} needs a table, but these pictures were not read with from_csv or from_df"
            )
        return self.frame

    def _too_early(self, call: str) -> NoReturn:
        raise ArgumentError(
            f"Your data is neither split nor labeled, so {call} cannot work yet: call one of the split_… "
            "methods (split_none to train on everything), then one of label_…, then "
            f"{call}"
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

    def label_from_list(
        self,
        labels: Sequence[object],
        *,
        label_delim: str | None = None,
        classes: Sequence[Label] | None = None,
    ) -> LabeledLists:
        """Label every picture: one label each, or several (sequences, or text split at ``label_delim``).

        Args:
            labels: one entry a picture, in the pictures' order.
            label_delim: splits a text into tags.
            classes: fixes the class list and its order; default: all labels of all rows, sorted.

        Raises:
            LabelError: missing labels, mixed kinds, or labels outside ``classes``.
        """
        if len(labels) != len(self.pictures):
            raise LabelError(
                f"expected one label a picture, {len(self.pictures)}; received {len(labels)} labels"
            )
        source = self.pictures.source
        several = label_delim is not None or any(
            isinstance(v, (list, tuple, set, np.ndarray)) for v in labels[:1]
        )
        if several:
            found = items.encode_multi(labels, source=source, label_delim=label_delim, classes=classes)
        else:
            found = items.encode_single(labels, source=source, classes=classes)
            _warn_of_tag_lists(labels)
        return LabeledLists(self.pictures, self.split, found)

    def label_from_df(
        self,
        cols: int | str | Sequence[int | str] = 1,
        *,
        label_delim: str | None = None,
        classes: Sequence[Label] | None = None,
    ) -> LabeledLists:
        """Label from column ``cols`` of the table; several columns are 0/1 flags, one a tag."""
        frame = self.pictures._needs_frame("label_from_df")
        source = self.pictures.source
        if isinstance(cols, (int, str)):
            cells = list(items.column(frame, cols, source=source))
            return self.label_from_list(cells, label_delim=label_delim, classes=classes)
        columns = [items.column(frame, c, source=source) for c in cols]
        names = [str(c.name) for c in columns]
        flags = np.stack([c.to_numpy(dtype=bool) for c in columns], axis=1)
        tags = [[names[i] for i in np.flatnonzero(row)] for row in flags]
        return self.label_from_list(tags, classes=classes or sorted(names))

    def label_from_folder(self, *, classes: Sequence[Label] | None = None) -> LabeledLists:
        """Label each picture with the name of its folder."""
        return self.label_from_list([Path(p).parent.name for p in self.pictures.paths], classes=classes)

    def label_from_re(self, pat: str | re.Pattern[str], full_path: bool = False) -> LabeledLists:
        """Label with group 1 of ``pat`` searched in the file name (or, with ``full_path``, in the posix path)."""
        return self.label_from_list(items.labels_from_pattern(self.pictures.paths, pat, full_path=full_path))

    def label_from_func(
        self,
        func: Callable[[Any], object],
        *,
        label_delim: str | None = None,
        classes: Sequence[Label] | None = None,
    ) -> LabeledLists:
        """Label with ``func(path)``; the path is a ``pathlib.Path``."""
        labels = [func(Path(p)) for p in self.pictures.paths]
        return self.label_from_list(labels, label_delim=label_delim, classes=classes)

    def transform(self, *_: object, **__: object) -> NoReturn:
        """Transforms come after labelling."""
        raise ArgumentError(
            "Your data isn't labeled, can't transform it yet: call one of the label_… methods first"
        )

    def databunch(self, *_: object, **__: object) -> NoReturn:
        """The bunch comes last."""
        raise ArgumentError(
            "Your data isn't labeled, can't turn it into a `DataBunch` yet: call one of the label_… methods first"
        )


def _warn_of_tag_lists(labels: Sequence[object]) -> None:
    finding = items.find_tag_lists(labels)
    if finding is not None:
        warn(finding.message(), DataWarning)


@dataclass(frozen=True)
class LabeledLists:
    """Pictures, split and labelled: all that a bunch is made of."""

    pictures: ImageList
    split: splits.Split
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
        resize_method: ResizeMethod | None = None,
        mult: int | None = None,
        padding_mode: str = "reflection",
        mode: str = "bilinear",
    ) -> LabeledLists:
        """Set the transforms (training list, validation list) and the size.

        Args:
            tfms: what ``get_transforms()`` returns; None for no augmentation.
            size: px; a number crops by default, a (height, width) pair squishes.
            resize_method: CROP, PAD, SQUISH or NO instead of that default.
            mult: round the size to a multiple of this.
            padding_mode: ``reflection``, ``border`` or ``zeros``.
            mode: interpolation of the augmentation: ``bilinear``, ``bicubic`` or ``nearest``.
        """
        if tfms is not None and (not isinstance(tfms, (tuple, list)) or len(tfms) != 2):
            raise ArgumentError(
                "tfms is a pair (training transforms, validation transforms), as get_transforms() returns; "
                f"received {tfms!r}"
            )
        resize = ResizeSpec.make(size, resize_method, padding_mode=padding_mode, mult=mult)
        return replace(self, tfms=None if tfms is None else (tfms[0], tfms[1]), resize=resize, mode=mode)

    def add_test(self, items: Iterable[str | Path]) -> LabeledLists:
        """Add pictures whose labels are not known, for ``get_preds(DatasetType.Test)``."""
        return replace(self, test_paths=tuple(str(p) for p in items))

    def add_test_folder(self, test_folder: str = "test") -> LabeledLists:
        """Add the pictures below ``path/test_folder`` as the test set."""
        return self.add_test(items.list_images(self.pictures.path / test_folder))

    def databunch(
        self,
        path: str | Path | None = None,
        *,
        bs: int = 64,
        val_bs: int | None = None,
        num_workers: int | None = None,
        dl_tfms: Sequence[Any] | None = None,
        device: str | None = None,
        seed: int | None = None,
        no_check: bool = False,
        unreadable: str = "stop",
    ) -> ImageDataBunch:
        """Make the bunch that a learner takes; see ``ImageDataBunch`` for the arguments."""
        from onecycle.data.bunch import ImageDataBunch

        return ImageDataBunch(
            self,
            path=path,
            bs=bs,
            val_bs=val_bs,
            num_workers=num_workers,
            dl_tfms=dl_tfms,
            device=device,
            seed=seed,
            no_check=no_check,
            unreadable=unreadable,
        )
