"""ImageDataBunch: pictures, split, labels and transforms, assembled into loaders; and a look at them."""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, Unpack, cast

import numpy as np
import pandas as pd
import torch

from onecycle.data.audit.audit import audit_table
from onecycle.data.audit.findings import AuditReport
from onecycle.data.audit.rows import check_files_exist, oddities, unreadable_message, unseen_items
from onecycle.data.augment.augmenter import BatchAugmenter, augmenter_of
from onecycle.data.augment.transforms import flatten
from onecycle.data.batches import Batch, BatchLoader, Stats, check_stats, picture_batches
from onecycle.data.datasets import FixedList, ImageDataset, Parts, draw_grid
from onecycle.data.labels.find.split import part_of
from onecycle.data.labels.items import (
    DatasetType,
    Label,
    Labels,
    encode_multi,
    encode_numbers,
    encode_single,
    labels_from_pattern,
    list_images,
)
from onecycle.data.labels.items import Source as LabelSource
from onecycle.data.labels.prevalence import Prevalence, prevalence
from onecycle.data.labels.relabel import relabelled
from onecycle.data.labels.splits import DEFAULT_SEED, Split, folder_split, index_split, keep_together
from onecycle.data.labels.table import Columns, LabelTable
from onecycle.data.options import BunchOptions, CommonOptions, LoaderOptions, TransformLists, check_options
from onecycle.data.pixels.image import Image
from onecycle.data.pixels.picture_file import Source
from onecycle.data.pixels.resize import ResizeMethod, ResizeSpec
from onecycle.data.pixels.store import LOADING_THREADS, PixelStore
from onecycle.errors import ArgumentError, DataError, DataWarning, UnreadableImagesError, warn
from onecycle.text import option, plural, shown
from onecycle.train.device.machine import checked_device

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TRANSFORM = ("size", "resize_method", "mult", "padding_mode", "mode", "scaled_decode")


@dataclass(frozen=True, kw_only=True)
class LabeledLists:
    """Pictures, split and labelled, with the transforms and the size that they are brought to."""

    bunch_class: ClassVar[type[ImageDataBunch] | None] = None  # that ``databunch`` makes; None: an ImageDataBunch
    dataset_class: ClassVar[type[ImageDataset]] = ImageDataset  # of each part

    pictures: LabelTable
    split: Split  # row numbers of the pictures
    labels: Labels
    tfms: TransformLists | None = None  # training list, validation list
    resize: ResizeSpec = field(default_factory=ResizeSpec)
    mode: str = "bilinear"  # interpolation of the augmentation
    tests: LabelTable | None = None  # the test pictures
    test_label: Label | None = None  # that all of them have; None where it is not known

    @classmethod
    def of(cls, table: LabelTable, split: Split) -> Self:
        """Take the labels of a table; for its errors see ``LabelTable.whole_labels``."""
        return cls(labels=table.whole_labels(), pictures=table.without_labels(), split=split)

    def absolute(self) -> Self:
        """Return these with absolute paths."""
        return replace(self, pictures=self.pictures.absolute(), tests=self.tests and self.tests.absolute())

    def __repr__(self) -> str:
        return (
            f"{len(self.split.train)} pictures train, {len(self.split.valid)} validate, "
            f"{len(self.labels.classes)} {self.labels.words}; split {self.split.how}"
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
        """Set the transforms and the size.

        Args:
            tfms: (training list, validation list), as ``get_transforms()`` returns; None for no augmentation.
            size, resize_method, mult, padding_mode, mode, scaled_decode: as in ``CommonOptions``.
        """
        if tfms is not None and (not isinstance(tfms, (tuple, list)) or len(tfms) != 2):
            raise ArgumentError(
                "tfms is a pair (training transforms, validation transforms), as get_transforms() returns; "
                f"received {tfms!r}"
            )
        resize = ResizeSpec.make(size, resize_method, padding_mode=padding_mode, mult=mult, scaled_decode=scaled_decode)
        return replace(self, tfms=None if tfms is None else (tfms[0], tfms[1]), resize=resize, mode=mode)

    def add_test(self, items: Iterable[str | Path] | LabelTable, label: Label | None = None) -> Self:
        """Add test pictures, for ``get_preds(DatasetType.Test)``.

        Args:
            items: an ``ImageList``, or paths; they are read as the others are.
            label: that all of them have, if it is known.

        Raises:
            LabelError: a label that is no class.
        """
        paths = items if isinstance(items, LabelTable) else LabelTable(items)
        tests = copy.copy(self.pictures)
        tests.paths, tests.item_type, tests.frame = paths.paths, paths.item_type, paths.frame
        made = replace(self, tests=tests, test_label=label)
        _ = made.test_labels()
        return made

    def add_test_folder(self, test_folder: str = "test", label: Label | None = None) -> Self:
        """Add the pictures below ``path/test_folder`` as the test set; see ``add_test``."""
        return self.add_test(list_images(self.pictures.path / test_folder), label)

    def test_labels(self) -> Labels | None:
        """Return the labels of the test pictures, None where they are not known."""
        if self.tests is None or self.test_label is None:
            return None
        if self.labels.is_regression:
            return encode_numbers([self.test_label] * len(self.tests), source=self.tests.source)
        encode, label = (encode_multi, [self.test_label]) if self.labels.is_multi else (encode_single, self.test_label)
        source, known = LabelSource("the label of the test pictures"), self.labels.classes
        return encode([label] * len(self.tests), source=source, classes=known)

    @property
    def train(self) -> ImageDataset:
        """The training pictures with their labels; nothing of them is kept."""
        return cast("ImageDataset", self._parts()[DatasetType.Train])

    @property
    def valid(self) -> ImageDataset:
        """The validation pictures with their labels."""
        return cast("ImageDataset", self._parts()[DatasetType.Valid])

    @property
    def test(self) -> ImageDataset | None:
        """The test pictures, None where there are none."""
        return self._parts()[DatasetType.Test]

    def _parts(self) -> Parts:
        return self.datasets(*self.stores(partial(PixelStore, cache="off")))

    def stores(self, make: Callable[..., PixelStore]) -> tuple[PixelStore, PixelStore | None]:
        """Return what reads the labelled pictures, and the test pictures where there are any."""
        own = make(self.pictures.paths, self.resize, reading=self.pictures.reading)
        tests = self.tests
        return own, None if tests is None else make(tests.paths, self.resize, reading=tests.reading)

    def datasets(self, store: PixelStore, test_store: PixelStore | None) -> Parts:
        """Return each part of the data, with the pixels of its pictures."""
        labels, tfms = self.labels, self.tfms or ((), ())
        how: Any = {"classes": labels.classes, "is_multi": labels.is_multi, "item_type": self.pictures.item_type}
        train, valid = (self.dataset_class(store, rows, labels, **how) for rows in (self.split.train, self.split.valid))
        train.tfms, valid.tfms = tfms
        test = None
        if test_store is not None and self.tests is not None:
            how["item_type"] = self.tests.item_type
            test = self.dataset_class(test_store, np.arange(len(test_store)), self.test_labels(), **how)
            test.tfms = valid.tfms
        return {DatasetType.Train: train, DatasetType.Fix: train, DatasetType.Valid: valid, DatasetType.Test: test}

    def augmenters(self) -> tuple[BatchAugmenter | None, BatchAugmenter | None]:
        """Return what augments training and validation batches.

        None where transforms only cut the window in the centre: that is the evaluation preprocess.
        """
        train, valid = (
            None
            if all(t.name == "crop_pad" and t.param("row_pct") == t.param("col_pct") == 0.5 for t in flatten(tfms))
            else augmenter_of(tfms, size=self.resize.size, padding_mode=self.resize.padding_mode, mode=self.mode)
            for tfms in self.tfms or ((), ())
        )
        return train, valid

    def databunch(
        self, path: str | Path | None = None, *, seed: int | None = None, **options: Unpack[LoaderOptions]
    ) -> ImageDataBunch:
        """Make the bunch that a learner takes; see ``ImageDataBunch`` for the arguments."""
        return (self.bunch_class or ImageDataBunch)(self, path=path, seed=seed, **options)


class ImageDataBunch:
    """Training, validation and (optionally) test pictures, ready for a learner.

    Made by ``from_csv``, ``from_df``, ``from_folder``, ``from_name_re``, ``from_name_func``,
    ``from_lists`` or the data-block chain; see ``BunchOptions`` for the keywords that all of them take.
    ``train_ds``, ``valid_ds`` and ``test_ds`` give ``ds[i] → (Image, label)``; ``train_dl``, ``valid_dl``, ``fix_dl``
    and ``test_dl`` give batches ``(x, y)``.
    """

    table_class: ClassVar[type[LabelTable]] = LabelTable  # that a bunch of this kind reads, and
    lists_class: ClassVar[type[LabeledLists]] = LabeledLists  # is made from

    def __init__(
        self,
        lists: LabeledLists,
        *,
        path: str | Path | None = None,
        bs: int = 64,
        val_bs: int | None = None,
        num_workers: int | None = None,
        dl_tfms: Sequence[Any] | None = None,
        device: str | torch.device | None = None,
        seed: int | None = None,
        no_check: bool = False,
        unreadable: str = "stop",
        pixel_cache: str = "disk",
        store: PixelStore | None = None,
    ) -> None:
        if unreadable not in ("stop", "skip"):
            raise ArgumentError(f"unreadable is 'stop' or 'skip'; received {unreadable!r}")
        lists = lists.absolute()  # so that neither pictures nor models move with the working directory
        self.path = Path(path).absolute() if path is not None else lists.pictures.path  # models are saved below it
        self.lists, self.labels, self.split = lists, lists.labels, lists.split
        self.stats: Stats | None = None  # normalisation set by ``normalize``
        self.backbone_stats: Stats | None = None  # what loaders normalise with without it; a learner sets it
        threads = LOADING_THREADS if num_workers is None else num_workers
        self._make_store = partial(PixelStore, cache=pixel_cache, threads=threads)
        made, self._test_store = lists.stores(self._make_store)
        self.store = store or made
        if not no_check and self.store.reading.function is None:  # a function may read what no row names as a file
            check_files_exist(self.store.paths, lists.pictures.source, all_gone_only=unreadable == "skip")
        if unreadable == "skip":
            self._skip_unreadable()
        self._loading = _Loading(
            bs=bs,
            val_bs=val_bs or bs,
            device=checked_device(device),
            seed=DEFAULT_SEED if seed is None else seed,
            dl_tfms=tuple(dl_tfms or ()),
        )
        self._train_augmenter, self._valid_augmenter = lists.augmenters()
        self._datasets = replace(lists, split=self.split).datasets(self.store, self._test_store)
        for message in oddities(self.labels, self.split, self.store.paths):
            warn(message, DataWarning)

    @classmethod
    def from_csv(
        cls,
        path: str | Path,
        folder: str | Path | None = None,
        label_delim: str | None = None,
        csv_labels: str | Path = "labels.csv",
        valid_pct: float = 0.2,
        seed: int | None = None,
        *,
        fn_col: Columns = 0,
        label_col: Columns = 1,
        suffix: str = "",
        path_parts: int | None = None,
        delimiter: str | None = None,
        header: int | Literal["infer"] | None = "infer",
        stratify: bool = False,
        group_col: int | str | None = None,
        split_col: int | str | None = None,
        join_rows: bool = False,
        **options: Unpack[BunchOptions],
    ) -> Self:
        """Read pictures and labels from the table ``path/csv_labels``.

        Args:
            path: folder of the data set.
            folder: folder of the pictures below ``path``; a picture is ``path/folder/<name><suffix>``.
            label_delim: splits a cell into tags (multi-label); None takes the cell as one label.
            csv_labels: the table.
            valid_pct: share of the pictures that validate.
            seed: of the split, the order and every draw; default 42, so results are repeatable.
            fn_col: column of the file names, by position or name.
            label_col: column of the labels; several columns of 0/1, one a tag, as ``"a,b,c"`` or a list.
            suffix: added to each file name, e.g. ``'.jpg'``.
            path_parts: of the table's paths, as many last parts are taken: 2 for ``b/c.jpg`` of ``/a/b/c.jpg``.
            delimiter: between the table's cells; None finds it.
            header: row of the column names, None if there is none.
            stratify: give both parts the same share of each class or tag; a class with a single picture trains.
            group_col: column of what belongs together (site, patient, flight); a group is never split.
            split_col: column that says which rows train, validate or are for testing, or ``"fold=4"`` where the rows
                with 4 validate; ``valid_pct`` then does nothing, where rows validate. A column that plainly says so
                and is not used is said; ``""`` for none.
            join_rows: each row has one tag of its picture; the rows of a picture are joined.
            options: see ``BunchOptions``.

        Raises:
            DataError: no such table, empty cells, missing files (each row named).
            LabelError: labels that cannot be used.
        """
        check_options(options)
        table = cls.table_class.from_csv(
            path,
            csv_labels,
            header=header,
            delimiter=delimiter,
            cols=fn_col,
            folder=folder,
            suffix=suffix,
            path_parts=path_parts,
        )
        table = table.split_by(split_col).with_label_columns(label_col, label_delim=label_delim, group_col=group_col)
        table = table.check().joined() if join_rows else table.check()
        return cls.from_table(table, table.split(valid_pct, seed=seed, stratify=stratify), seed, **options)

    @classmethod
    def from_df(
        cls,
        path: str | Path,
        df: pd.DataFrame,
        folder: str | Path | None = None,
        label_delim: str | None = None,
        valid_pct: float = 0.2,
        seed: int | None = None,
        *,
        fn_col: Columns = 0,
        label_col: Columns = 1,
        suffix: str = "",
        path_parts: int | None = None,
        stratify: bool = False,
        group_col: int | str | None = None,
        split_col: int | str | None = None,
        join_rows: bool = False,
        **options: Unpack[BunchOptions],
    ) -> Self:
        """Take pictures and labels from a DataFrame; arguments as in ``from_csv``."""
        check_options(options)
        table = cls.table_class.from_df(df, path, cols=fn_col, folder=folder, suffix=suffix, path_parts=path_parts)
        table = table.split_by(split_col).with_label_columns(label_col, label_delim=label_delim, group_col=group_col)
        table = table.check().joined() if join_rows else table.check()
        return cls.from_table(table, table.split(valid_pct, seed=seed, stratify=stratify), seed, **options)

    @classmethod
    def from_folder(
        cls,
        path: str | Path,
        train: str = "train",
        valid: str = "valid",
        test: str | None = None,
        valid_pct: float | None = None,
        seed: int | None = None,
        classes: Sequence[Label] | None = None,
        *,
        stratify: bool = False,
        **options: Unpack[CommonOptions],
    ) -> Self:
        """Label each picture with its folder's name: ``path/train/<class>/…`` and ``path/valid/<class>/…``.

        Args:
            path: folder of the data set.
            train: folder of the training pictures.
            valid: folder of the validation pictures.
            test: folder of pictures without labels.
            valid_pct: None splits by the two folders; a share splits all pictures below ``path/train``
                (or, where that does not exist, below ``path``) at random.
            seed: as in ``from_csv``.
            classes: use only these classes.
            stratify: as in ``from_csv``; with ``valid_pct`` only.
            options: see ``BunchOptions``.
        """
        check_options(options)
        if stratify and valid_pct is None:
            raise ArgumentError("stratify=True draws a split, so it needs valid_pct=0.2, say; received None")
        table = cls.table_class(_pictures_of_classes(Path(path), train, valid, test, valid_pct, classes), path)
        table = table.with_labels(table.folder_names(), classes=classes)
        if valid_pct is None:
            split = folder_split(table.paths, table.path, train=train, valid=valid)
        else:
            split = table.split(valid_pct, seed=seed, stratify=stratify)
        return cls.from_table(table, split, seed, test=test, **options)

    @classmethod
    def from_lists(
        cls,
        path: str | Path,
        fnames: Sequence[str | Path],
        labels: Sequence[object],
        valid_pct: float = 0.2,
        seed: int | None = None,
        *,
        label_delim: str | None = None,
        stratify: bool = False,
        groups: Sequence[object] | None = None,
        classes: Sequence[Label] | None = None,
        **options: Unpack[BunchOptions],
    ) -> Self:
        """Take pictures and labels from two lists of the same length.

        Args:
            path: folder of the data set.
            fnames: paths of the pictures.
            labels: one entry a picture: a label, or the tags in a list; or a vector of 0/1, one number a class.
            valid_pct, seed, label_delim, stratify, options: as in ``from_csv``.
            groups: one entry a picture, equal for pictures that belong together; a group is never split.
            classes: the class list and its order; default: all labels, sorted. Vectors of 0/1 need it.
        """
        check_options(options)
        table = cls.table_class(fnames, path).with_labels(labels, label_delim=label_delim, classes=classes)
        table = table if groups is None else table.with_groups(groups)
        return cls.from_table(table, table.split(valid_pct, seed=seed, stratify=stratify), seed, **options)

    @classmethod
    def from_table(
        cls,
        table: LabelTable,
        split: Split,
        seed: int | None = None,
        *,
        store: PixelStore | None = None,
        **options: Unpack[BunchOptions],
    ) -> Self:
        """Take a table that was read, and a split that was drawn, as they are.

        Args:
            table: its rows whole: a file and a label each.
            split: of its rows.
            seed: of the order and every draw.
            store: of the pixels of all rows at the bunch's size, where it is there already.
            options: see ``BunchOptions``.

        Raises:
            DataError, LabelError: rows that are not whole, each one named.
        """
        check_options(options)
        lists = cls.lists_class.of(table, split)
        test = options.get("test")
        if test is not None:
            lists = lists.add_test_folder(str(test)) if isinstance(test, (str, Path)) else lists.add_test(test)
        said: dict[str, Any] = dict(options)
        sizes = {name: said[name] for name in _TRANSFORM if name in said}
        loaders = {name: said[name] for name in LoaderOptions.__annotations__ if name in said}
        return cls(lists.transform(options.get("ds_tfms"), **sizes), seed=seed, store=store, **loaders)

    @classmethod
    def from_name_func(
        cls,
        path: str | Path,
        fnames: Sequence[str | Path],
        label_func: Callable[[Any], object],
        valid_pct: float = 0.2,
        seed: int | None = None,
        *,
        stratify: bool = False,
        **options: Unpack[BunchOptions],
    ) -> Self:
        """Label each picture with ``label_func(its path)``; the other arguments as in ``from_csv``."""
        check_options(options)
        labels = [label_func(Path(f)) for f in fnames]
        return cls.from_lists(path, fnames, labels, valid_pct, seed, stratify=stratify, **options)

    @classmethod
    def from_name_re(
        cls,
        path: str | Path,
        fnames: Sequence[str | Path],
        pat: str | re.Pattern[str],
        valid_pct: float = 0.2,
        seed: int | None = None,
        *,
        stratify: bool = False,
        **options: Unpack[BunchOptions],
    ) -> Self:
        """Label each picture with group 1 of ``pat`` searched in its posix path; see ``from_csv``."""
        check_options(options)
        labels = labels_from_pattern([str(f) for f in fnames], pat)
        return cls.from_lists(path, fnames, labels, valid_pct, seed, stratify=stratify, **options)

    @classmethod
    def single_from_classes(
        cls, path: str | Path, classes: Sequence[Label], *, is_multi: bool = False, **options: Unpack[CommonOptions]
    ) -> Self:
        """Make a bunch without a single picture: what ``predict`` needs where nobody trains.

        Args:
            path: folder that models are looked for below.
            classes: in the model's order.
            is_multi: whether the classes are tags.
            options: see ``BunchOptions``; the size is that of the model, ``ds_tfms`` are for ``TTA``.
        """
        table = cls.table_class([], path).with_labels([], label_delim=" " if is_multi else None, classes=classes)
        nobody = np.zeros(0, dtype=np.int64)
        return cls.from_table(table, Split(nobody, nobody, "none, for predictions only"), **options)

    def resized(self, size: int | tuple[int, int] | None, *, bs: int | None = None) -> ImageDataBunch:
        """Return a bunch of the same pictures at another size; all else is the same, to the rows of the split.

        Args:
            size: px, or (height, width), or None for pictures as they are; between sizes, the resize method stays.
            bs: pictures in a training batch, if that changes too; a ``val_bs`` of its own stays.
        """
        other, how = copy.copy(self), self._loading
        other.lists = replace(self.lists, resize=self.lists.resize.at_size(size))
        if other.lists.resize != self.lists.resize:
            other.store, other._test_store = other.lists.stores(self._make_store)
        new_bs = how.bs if bs is None else bs
        val_bs = new_bs if how.val_bs == how.bs else how.val_bs
        other._loading = replace(how, bs=new_bs, val_bs=val_bs)
        other._train_augmenter, other._valid_augmenter = other.lists.augmenters()
        other._datasets = replace(other.lists, split=self.split).datasets(other.store, other._test_store)
        return other

    def add_test(self, items: Iterable[str | Path] | LabelTable, label: Label | None = None) -> None:
        """Add test pictures to this bunch in place of those that it has; see ``LabeledLists.add_test``."""
        self.lists = self.lists.add_test(items, label).absolute()
        _, self._test_store = self.lists.stores(self._make_store)
        self._datasets = replace(self.lists, split=self.split).datasets(self.store, self._test_store)

    def prevalence(self) -> Prevalence:
        """Return how often each class occurs in training and in validation; prints as a table."""
        return prevalence(self.labels, self.split)

    def relabel(self, csv: str | Path, *, delimiter: str = ",") -> Self:
        """Return a bunch with the labels that an edited table of label issues gives; all else is the same.

        Prints how many pictures changed. No file of the data set is written; ``learn.data = data.relabel(...)``
        goes on with the new labels.

        Args:
            csv: what ``LabelIssues.to_csv`` wrote, with labels filled in under ``new_label`` (empty: as it was; for
                tags yes or no).
            delimiter: between its cells; some spreadsheets write ``;``.

        Raises:
            DataError: no such table, or a picture that this bunch does not have; the row is named.
            LabelError: a label that is no class, or rows that contradict each other or these labels.
        """
        labels, changed = relabelled(self.labels, self.store.paths, self.path, Path(csv), delimiter=delimiter)
        print(f"{changed} of {len(self.labels)} pictures have new labels here; no file was changed.")
        return self._with(replace(self.lists, split=self.split, labels=labels))

    def split_together(self, groups: Sequence[Sequence[int]]) -> Self:
        """Return a bunch in which no group is in both parts: members that validate move to training.

        Prints how many moved. Say, with the duplicates that an audit found, the validation part stays honest.

        Args:
            groups: row numbers of the table that belong together, 0 for the first picture; one list a group.

        Raises:
            ArgumentError: a row that the table does not have.
        """
        outside = [row for group in groups for row in group if not 0 <= row < len(self.store)]
        if outside:
            raise ArgumentError(f"groups has row {outside[0]}, but the table has rows 0 to {len(self.store) - 1}")
        split = keep_together(self.split, groups)
        moved = len(self.split.valid) - len(split.valid)
        print(f"{moved} of {len(self.split.valid)} validation pictures moved to training, where their group is.")
        return self._with(replace(self.lists, split=split))

    def split_by_rows(self, train: Sequence[int], valid: Sequence[int], how: str = "given rows") -> Self:
        """Return a bunch with another split; all else is the same. Rows in neither part are left out.

        Args:
            train, valid: row numbers of the table, 0 for the first picture.
            how: where the split comes from, in words.

        Raises:
            ArgumentError: a row that the table does not have, or one that is in both parts.
            DataError: no row to train on.
        """
        split = replace(index_split(len(self.store), valid, train), how=how, groups=self.split.groups)
        return self._with(replace(self.lists, split=split))

    def _with(self, lists: LabeledLists) -> Self:
        """Return a bunch of the same pictures with another split or other labels, all else the same."""
        other = copy.copy(self)
        other.lists, other.labels, other.split = lists, lists.labels, lists.split
        other._datasets = lists.datasets(self.store, self._test_store)
        for message in oddities(lists.labels, lists.split, self.store.paths):
            warn(message, DataWarning)
        return other

    def prepare(self, *, silent: bool = False) -> None:
        """Decode every picture once, before training starts; later calls cost nothing.

        Args:
            silent: do not say where pixels are not kept as asked for.

        Raises:
            UnreadableImagesError: the full list of pictures that cannot be read.
        """
        used = set(self.split.train.tolist()) | set(self.split.valid.tolist())
        failed = [f for f in self.store.fill(None if silent else print) if f.position in used]
        if failed:
            raise UnreadableImagesError(unreadable_message(failed, len(self.store), self.lists.pictures.source))

    def describe_source(self) -> str:
        """Say in one clause where pixels come from."""
        return self.store.describe()

    def describe_targets(self) -> str:
        """Say what a network predicts, as ``4 classes``."""
        return f"{self.c} {self.labels.words}"

    def audit(
        self, *, features: np.ndarray | None = None, groups: Sequence[object] | None = None, silent: bool = False
    ) -> AuditReport:
        """Find what is wrong with the data: files, labels, copies, and validation pictures that training sees too.

        Every file is decoded once, in full; nothing is changed.

        Args:
            features: float ``(N, D)``, one row a picture of the table; where given, validation pictures with a close
                training picture are listed too.
            groups: one value a row of the table: pictures that belong in one part. Default: those of the split.
            silent: draw no bar.

        Returns:
            The findings; printed, they are a table.

        Raises:
            ArgumentError: features or groups that do not fit the table.
        """
        labels = [self.labels.label(i).obj for i in range(len(self.labels))]
        if groups is None and self.split.groups is not None:
            groups = self.split.groups.tolist()
        return audit_table(
            self.lists.pictures.with_labels(labels),
            self.split,
            self.lists.resize,
            groups=groups,
            known=self.lists.tests.paths if self.lists.tests is not None else (),
            features=features,
            silent=silent,
        )

    def _skip_unreadable(self) -> None:
        bad = np.array([f.position for f in self.store.fill()], dtype=np.int64)
        if not len(bad):
            return
        first = self.lists.pictures.source.first_row
        names = shown([f"row {i + first}: {self.store.paths[i]}" for i in bad])
        n = len(self.store)
        warn(f"{len(bad)} of {n} pictures are missing or unreadable and are left out: {names}", DataWarning)
        train, valid = (np.setdiff1d(part, bad) for part in (self.split.train, self.split.valid))
        self.split = replace(self.split, train=train, valid=valid)
        if not len(self.split.train):
            raise DataError("not a single training picture can be read; see the warning above for the list")

    @property
    def classes(self) -> list[Label]:
        """Sorted class names, from all rows. The list cannot be changed: the network's outputs are in its order."""
        return FixedList(self.labels.classes)

    @property
    def c(self) -> int:
        """The number of classes."""
        return len(self.labels.classes)

    @property
    def is_multi(self) -> bool:
        """Whether a picture can have several tags."""
        return self.labels.is_multi

    @property
    def is_regression(self) -> bool:
        """Whether labels are numbers."""
        return self.labels.is_regression

    @property
    def empty_val(self) -> bool:
        """Whether nothing validates."""
        return not len(self.split.valid)

    @property
    def batch_size(self) -> int:
        """Pictures in a training batch."""
        return self._loading.bs

    @property
    def device(self) -> torch.device:
        """Where batches go."""
        return self._loading.device

    @property
    def seed(self) -> int:
        """Seed of the order and of every draw."""
        return self._loading.seed

    @property
    def train_tfms(self) -> Sequence[Any]:
        """The training transforms."""
        return self.lists.tfms[0] if self.lists.tfms else ()

    def dataset(self, ds_type: DatasetType = DatasetType.Valid) -> ImageDataset:
        """Return one part of the data.

        Raises:
            ArgumentError: there is no such part.
        """
        if not isinstance(ds_type, DatasetType):
            raise ArgumentError(f"ds_type is a part of the data, as DatasetType.Valid; received {ds_type!r}")
        dataset = self._datasets.get(ds_type)
        if dataset is None or len(dataset) == 0:
            hints = {DatasetType.Test: ": pass test=", DatasetType.Valid: f": pass {option('valid_pct', 0.2)}"}
            raise ArgumentError(f"this bunch has no pictures in its part {ds_type.name}{hints.get(ds_type, '')}")
        return dataset

    def loader(self, ds_type: DatasetType = DatasetType.Train) -> BatchLoader:
        """Return the batches of one part; only ``Train`` is shuffled and augmented."""
        how, train = self._loading, ds_type is DatasetType.Train
        return BatchLoader(
            self.dataset(ds_type),
            bs=how.bs if train else how.val_bs,
            augmenter=self._train_augmenter if train else self._valid_augmenter,
            shuffle=train,
            drop_last=train,
            stats=self.stats or self.backbone_stats,
            device=how.device,
            seed=how.seed,
            dl_tfms=how.dl_tfms,
        )

    @property
    def train_ds(self) -> ImageDataset:
        """Training pictures, in order, not augmented."""
        return self.dataset(DatasetType.Train)

    @property
    def valid_ds(self) -> ImageDataset:
        """Validation pictures."""
        return self.dataset(DatasetType.Valid)

    @property
    def test_ds(self) -> ImageDataset | None:
        """Test pictures, None where there are none."""
        return self._datasets[DatasetType.Test]

    @property
    def train_dl(self) -> BatchLoader:
        """Training batches: shuffled, augmented, the last incomplete batch dropped."""
        return self.loader(DatasetType.Train)

    @property
    def valid_dl(self) -> BatchLoader:
        """Validation batches, in order."""
        return self.loader(DatasetType.Valid)

    @property
    def fix_dl(self) -> BatchLoader:
        """Training pictures in order, with the evaluation preprocess."""
        return self.loader(DatasetType.Fix)

    @property
    def test_dl(self) -> BatchLoader | None:
        """Test batches, None where there is no test set."""
        return None if self.test_ds is None else self.loader(DatasetType.Test)

    def single_loader(self, pictures: Sequence[Image | Source], *, stats: Stats | None) -> BatchLoader:
        """Return batches of given files or pictures with the evaluation preprocess of this bunch."""
        how = self._loading
        loader = picture_batches(
            pictures,
            self.lists.resize,
            self.classes,
            is_multi=self.is_multi,
            reading=self.lists.pictures.reading,
            bs=how.val_bs,
            dl_tfms=how.dl_tfms,
        )
        return loader.replace(stats=stats, device=how.device, augmenter=self._valid_augmenter)

    def normalize(self, stats: Sequence[Sequence[float]] | None = None) -> ImageDataBunch:
        """Normalise pictures with ``stats`` (means, stds); default: measured on one training batch.

        Returns:
            This bunch.

        Raises:
            ArgumentError: called twice, or malformed stats.
        """
        if self.stats is not None:
            raise ArgumentError("Can not call normalize twice: this bunch is normalised with " + repr(self.stats))
        channels = self.lists.pictures.reading.channels
        self.stats = check_stats(self.batch_stats() if stats is None else stats, channels)
        return self

    def batch_stats(self) -> Stats:
        """Measure the channel means and deviations of one training batch, pixels in [0, 1]."""
        x = self.train_dl.replace(stats=None, device=torch.device("cpu")).batch_at(0, 0).x
        mean, std = x.mean(dim=(0, 2, 3)), x.std(dim=(0, 2, 3))
        return tuple(mean.tolist()), tuple(std.tolist())

    def one_batch(self, ds_type: DatasetType = DatasetType.Train, *, denorm: bool = True, cpu: bool = True) -> Batch:
        """Return the first batch; with ``denorm`` pixels stay in [0, 1]."""
        loader = self.loader(ds_type)
        if denorm:
            loader = loader.replace(stats=None)
        return (loader.replace(device=torch.device("cpu")) if cpu else loader).batch_at(0, 0)

    def show_batch(
        self,
        rows: int = 5,
        ds_type: DatasetType = DatasetType.Train,
        *,
        figsize: tuple[float, float] | None = None,
        is_train: bool | None = None,
        return_fig: bool = False,
    ) -> Figure | None:
        """Draw up to ``rows²`` pictures of one batch with their labels, as the network sees them.

        Args:
            rows: rows and columns of the grid.
            ds_type: which part.
            figsize: inches; default 3 a picture.
            is_train: the lesson's spelling; False means the validation set.
            return_fig: return the figure.
        """
        if is_train is not None:
            ds_type = DatasetType.Train if is_train else DatasetType.Valid
        if rows < 1:
            raise ArgumentError(f"rows is the number of rows of the grid, at least 1; received {rows}")
        loader = self.loader(ds_type).replace(stats=None, device=torch.device("cpu"))
        batch = loader.replace(bs=min(rows * rows, loader.bs)).batch_at(0, 0)
        part = self.dataset(ds_type)
        titles = [str(part.label(int(i))) for i in batch.indices]
        figure = draw_grid(batch.x, titles, figsize=figsize)
        return figure if return_fig else None

    def __len__(self) -> int:
        return len(self.split.train) + len(self.split.valid)

    def __repr__(self) -> str:
        kind = self.labels.words
        size = self.lists.resize.size
        lines = [f"ImageDataBunch: {self.c} {kind}, {'×'.join(map(str, size)) + ' px' if size else 'sizes as stored'}"]
        if not len(self):
            return "\n".join([*lines, "No pictures: for predictions only", f"Path: {self.path}"])
        dropped = self.loader(DatasetType.Train).n_dropped
        note = f", of which each epoch leaves {dropped} out (last incomplete batch)" if dropped else ""
        lines.append(f"Train: {len(self.split.train):,} pictures{note}\n  {self.train_ds.y!r}")
        valid = self._datasets[DatasetType.Valid]
        y = valid.y if valid else ""
        lines.append(f"Valid: {len(self.split.valid):,} pictures; split {self.split.how}\n  {y!r}")
        unseen, _ = unseen_items(self.labels, self.split)
        if unseen:
            what = f"have a {self.labels.word} that does not occur in training; they count as errors"
            lines.append(f"  {len(unseen)} of them {what}")
        if self.test_ds is not None:
            lines.append(f"Test: {len(self.test_ds):,} pictures")
        return "\n".join([*lines, f"Path: {self.path}"])


def _pictures_of_classes(
    path: Path, train: str, valid: str, test: str | None, valid_pct: float | None, classes: Sequence[Label] | None
) -> list[Path]:
    """List the pictures of a folder data set, ``<part>/<class>/…``; see ``ImageDataBunch.from_folder``."""
    if valid_pct is not None:
        roots = [path / train if (path / train).is_dir() else path]
        if roots[0].resolve() != path.resolve() and (path / valid).is_dir():
            n = plural(len(list_images(path / valid)), "picture")
            warn(f"{path / valid}/ ({n}) is not used: valid_pct={valid_pct} draws from {path / train}", DataWarning)
    else:
        roots = [path / train, path / valid]
        _check_part_folders(path, train, valid)
    pictures = [p for root in roots for p in list_images(root)]
    if test is not None:
        top = os.path.realpath(path / test)
        tests = {p for p in {p.parent for p in pictures} if Path(os.path.realpath(p), "_").is_relative_to(top)}
        pictures = [p for p in pictures if p.parent not in tests]
    wanted = None if classes is None else {str(c) for c in classes}
    return [p for p in pictures if wanted is None or p.parent.name in wanted]


def _check_part_folders(path: Path, train: str, valid: str) -> None:
    missing = {name: path / part for name, part in (("train", train), ("valid", valid)) if not (path / part).is_dir()}
    if missing:
        there = sorted(p.name for p in path.iterdir() if p.is_dir()) if path.is_dir() else []
        near = [f"{name}={folder!r}" for name in missing for folder in there if part_of(folder) == name]
        hint = "pass train= and valid=" + (f" ({', '.join(near)}, say)" if near else "")
        raise DataError(
            f"expected the folders {path}/{train} and {path}/{valid}, but there is no "
            f"{' or '.join(map(str, missing.values()))}; {hint}, or {option('valid_pct', 0.2)} to split all "
            "pictures at random"
        )


@dataclass(frozen=True, kw_only=True)
class _Loading:
    """How batches are made: settings shared by all loaders of a bunch."""

    bs: int
    val_bs: int
    device: torch.device
    seed: int
    dl_tfms: tuple[Any, ...]
