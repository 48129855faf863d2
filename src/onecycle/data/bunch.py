"""ImageDataBunch: pictures, split, labels and transforms, assembled into loaders; and a look at them."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack

import numpy as np
import pandas as pd
import torch

from onecycle.data.audit import check_files_exist, oddities, unreadable_message, unseen_items
from onecycle.data.batches import Batch, BatchLoader, Stats, check_stats
from onecycle.data.datasets import ImageDataset, draw_grid, make_datasets
from onecycle.data.labels import splits
from onecycle.data.labels.items import DatasetType, Label, labels_from_pattern, pictures_of_classes, shown
from onecycle.data.labels.pictures import Labeled, Pictures, folder_names, label_columns, label_rows
from onecycle.data.options import BunchOptions, CommonOptions, check_options, make_loading, make_stores
from onecycle.data.pixels.decode import Source
from onecycle.data.pixels.image import Image
from onecycle.data.pixels.store import GivenPictures
from onecycle.errors import ArgumentError, DataError, DataWarning, UnreadableImagesError, warn

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class ImageDataBunch:
    """Training, validation and (optionally) test pictures, ready for a learner.

    Made by ``from_csv``, ``from_df``, ``from_folder``, ``from_name_re``, ``from_name_func``,
    ``from_lists`` or the data-block chain; see ``BunchOptions`` for the keywords that all of them take.

    Attributes:
        path: folder of the data set; models are saved below it.
        classes: sorted names, from all rows.
        is_multi: whether a picture can have several tags.
        stats: normalisation set by ``normalize``, or None.
        backbone_stats: what loaders normalise with where ``stats`` is None; a learner sets it.
        train_ds, valid_ds, test_ds: ``ds[i] → (Image, label)``.
        train_dl, valid_dl, fix_dl, test_dl: batches ``(x, y)``.
    """

    def __init__(
        self,
        lists: Labeled,
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
    ) -> None:
        if unreadable not in ("stop", "skip"):
            raise ArgumentError(f"unreadable is 'stop' or 'skip'; received {unreadable!r}")
        self.path = Path(path) if path is not None else lists.pictures.path
        self.lists, self.labels, self.split = lists, lists.labels, lists.split
        self.stats: Stats | None = None
        self.backbone_stats: Stats | None = None
        self._make_stores = partial(make_stores, num_workers=num_workers, pixel_cache=pixel_cache)
        self.store, self._test_store = self._make_stores(lists)
        if not no_check:
            check_files_exist(self.store.paths, lists.pictures.source, all_gone_only=unreadable == "skip")
        if unreadable == "skip":
            self._skip_unreadable()
        self._loading = make_loading(lists, bs=bs, val_bs=val_bs, device=device, seed=seed, dl_tfms=dl_tfms)
        self._datasets = make_datasets(self.store, self._test_store, self.labels, self.split)
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
        fn_col: int | str = 0,
        label_col: int | str = 1,
        suffix: str = "",
        delimiter: str | None = None,
        header: int | Literal["infer"] | None = "infer",
        **options: Unpack[BunchOptions],
    ) -> ImageDataBunch:
        """Read pictures and labels from the table ``path/csv_labels``.

        Args:
            path: folder of the data set.
            folder: folder of the pictures below ``path``; a picture is ``path/folder/<name><suffix>``.
            label_delim: splits a cell into tags (multi-label); None takes the cell as one label.
            csv_labels: the table.
            valid_pct: share of the pictures that validate.
            seed: of the split, the order and every draw; default 42, so results are repeatable.
            fn_col: column of the file names, by position or name.
            label_col: column of the labels.
            suffix: added to each file name, e.g. ``'.jpg'``.
            delimiter: between the table's cells.
            header: row of the column names, None if there is none.
            options: see ``BunchOptions``.

        Raises:
            DataError: no such table, empty cells, missing files (each row named).
            LabelError: labels that cannot be used.
        """
        check_options(options)
        pictures = Pictures.from_csv(
            path, csv_labels, header=header, delimiter=delimiter, cols=fn_col, folder=folder, suffix=suffix
        )
        split = splits.random_split(pictures.paths, valid_pct, seed=seed)
        return cls._finish(label_columns(pictures, split, label_col, label_delim=label_delim), seed, options)

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
        fn_col: int | str = 0,
        label_col: int | str = 1,
        suffix: str = "",
        **options: Unpack[BunchOptions],
    ) -> ImageDataBunch:
        """Take pictures and labels from a DataFrame; arguments as in ``from_csv``."""
        check_options(options)
        pictures = Pictures.from_df(df, path, cols=fn_col, folder=folder, suffix=suffix)
        split = splits.random_split(pictures.paths, valid_pct, seed=seed)
        return cls._finish(label_columns(pictures, split, label_col, label_delim=label_delim), seed, options)

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
        **options: Unpack[CommonOptions],
    ) -> ImageDataBunch:
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
            options: see ``BunchOptions``.
        """
        check_options(options)
        pictures = Pictures(pictures_of_classes(Path(path), train, valid, test, valid_pct, classes), path)
        if valid_pct is None:
            split = splits.folder_split(pictures.paths, pictures.path, train=train, valid=valid)
        else:
            split = splits.random_split(pictures.paths, valid_pct, seed=seed)
        labeled = label_rows(pictures, split, folder_names(pictures), classes=classes)
        return cls._finish(labeled, seed, {**options, "test": test})

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
        **options: Unpack[BunchOptions],
    ) -> ImageDataBunch:
        """Take pictures and labels from two lists of the same length."""
        check_options(options)
        pictures = Pictures(fnames, path)
        split = splits.random_split(pictures.paths, valid_pct, seed=seed)
        return cls._finish(label_rows(pictures, split, labels, label_delim=label_delim), seed, options)

    @classmethod
    def from_name_func(
        cls,
        path: str | Path,
        fnames: Sequence[str | Path],
        label_func: Callable[[Any], object],
        valid_pct: float = 0.2,
        seed: int | None = None,
        **options: Unpack[BunchOptions],
    ) -> ImageDataBunch:
        """Label each picture with ``label_func(its path)``."""
        check_options(options)
        labels = [label_func(Path(f)) for f in fnames]
        return cls.from_lists(path, fnames, labels, valid_pct, seed, **options)

    @classmethod
    def from_name_re(
        cls,
        path: str | Path,
        fnames: Sequence[str | Path],
        pat: str | re.Pattern[str],
        valid_pct: float = 0.2,
        seed: int | None = None,
        **options: Unpack[BunchOptions],
    ) -> ImageDataBunch:
        """Label each picture with group 1 of ``pat`` searched in its posix path."""
        check_options(options)
        labels = labels_from_pattern([str(f) for f in fnames], pat)
        return cls.from_lists(path, fnames, labels, valid_pct, seed, **options)

    @classmethod
    def _finish(cls, lists: Labeled, seed: int | None, options: BunchOptions) -> ImageDataBunch:
        """Apply the shared keywords through the same steps as the data-block chain."""
        test = options.get("test")
        if test is not None:
            lists = (
                lists.add_test_folder(str(test)) if isinstance(test, (str, Path)) else lists.add_test(test)
            )
        lists = lists.transform(
            options.get("ds_tfms"),
            size=options.get("size"),
            resize_method=options.get("resize_method"),
            mult=options.get("mult"),
            padding_mode=options.get("padding_mode", "reflection"),
            mode=options.get("mode", "bilinear"),
            scaled_decode=options.get("scaled_decode", True),
        )
        return cls(
            lists,
            bs=options.get("bs", 64),
            val_bs=options.get("val_bs"),
            num_workers=options.get("num_workers"),
            dl_tfms=options.get("dl_tfms"),
            device=options.get("device"),
            seed=seed,
            no_check=options.get("no_check", False),
            unreadable=options.get("unreadable", "stop"),
            pixel_cache=options.get("pixel_cache", "disk"),
        )

    def resized(self, size: int | tuple[int, int] | None, *, bs: int | None = None) -> ImageDataBunch:
        """Return a bunch of the same pictures at another size; all else is the same, to the rows of the split.

        Args:
            size: px, or (height, width), or None for pictures as they are; between sizes, the resize method stays.
            bs: pictures in a training batch, if that changes too; a ``val_bs`` of its own stays.
        """
        other, how = copy.copy(self), self._loading
        other.lists = replace(self.lists, resize=self.lists.resize.at_size(size))
        if other.lists.resize != self.lists.resize:
            other.store, other._test_store = self._make_stores(other.lists)
        new_bs = how.bs if bs is None else bs
        val_bs = new_bs if how.val_bs == how.bs else how.val_bs
        other._loading = make_loading(
            other.lists, bs=new_bs, val_bs=val_bs, device=how.device, seed=how.seed, dl_tfms=how.dl_tfms
        )
        other._datasets = make_datasets(other.store, other._test_store, self.labels, self.split)
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
            raise UnreadableImagesError(
                unreadable_message(failed, len(self.store), self.lists.pictures.source)
            )

    def _skip_unreadable(self) -> None:
        bad = np.array([f.position for f in self.store.fill()], dtype=np.int64)
        if not len(bad):
            return
        first = self.lists.pictures.source.first_row
        names = shown([f"row {i + first}: {self.store.paths[i]}" for i in bad])
        n = len(self.store)
        warn(f"{len(bad)} of {n} pictures cannot be read and are left out: {names}", DataWarning)
        self.split = type(self.split)(
            np.setdiff1d(self.split.train, bad), np.setdiff1d(self.split.valid, bad), self.split.how
        )
        if not len(self.split.train):
            raise DataError("not a single training picture can be read; see the warning above for the list")

    @property
    def classes(self) -> list[Label]:
        """Sorted class names, from all rows."""
        return self.labels.classes

    @property
    def c(self) -> int:
        """The number of classes."""
        return len(self.labels.classes)

    @property
    def is_multi(self) -> bool:
        """Whether a picture can have several tags."""
        return self.labels.is_multi

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
        found = self._datasets.get(ds_type)
        if found is None or len(found) == 0:
            hint = {DatasetType.Test: "pass test=", DatasetType.Valid: "pass valid_pct=0.2"}.get(ds_type, "")
            raise ArgumentError(
                f"this bunch has no pictures in its part {ds_type.name}{': ' + hint if hint else ''}"
            )
        return found

    def loader(self, ds_type: DatasetType = DatasetType.Train) -> BatchLoader:
        """Return the batches of one part; only ``Train`` is shuffled and augmented."""
        how, train = self._loading, ds_type is DatasetType.Train
        return BatchLoader(
            self.dataset(ds_type),
            bs=how.bs if train else how.val_bs,
            augmenter=how.train_augmenter if train else how.valid_augmenter,
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
        store = GivenPictures(pictures, self.lists.resize)
        part = ImageDataset(store, np.arange(len(pictures)), None, self.classes, is_multi=self.is_multi)
        how = self._loading
        loader = BatchLoader(part, bs=how.val_bs, augmenter=how.valid_augmenter, dl_tfms=how.dl_tfms)
        return loader.replace(stats=stats, device=how.device)

    def normalize(self, stats: Sequence[Sequence[float]] | None = None) -> ImageDataBunch:
        """Normalise pictures with ``stats`` (means, stds); default: measured on one training batch.

        Returns:
            This bunch.

        Raises:
            ArgumentError: called twice, or malformed stats.
        """
        if self.stats is not None:
            raise ArgumentError(
                "Can not call normalize twice: this bunch is normalised with " + repr(self.stats)
            )
        self.stats = check_stats(self.batch_stats() if stats is None else stats)
        return self

    def batch_stats(self) -> Stats:
        """Measure the channel means and deviations of one training batch, pixels in [0, 1]."""
        x = self.train_dl.replace(stats=None, device=torch.device("cpu")).batch_at(0, 0).x
        mean, std = x.mean(dim=(0, 2, 3)), x.std(dim=(0, 2, 3))
        return tuple(mean.tolist()), tuple(std.tolist())

    def one_batch(
        self, ds_type: DatasetType = DatasetType.Train, *, denorm: bool = True, cpu: bool = True
    ) -> Batch:
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
        kind = "tags" if self.is_multi else "classes"
        size = self.lists.resize.size
        lines = [
            f"ImageDataBunch: {self.c} {kind}, {'×'.join(map(str, size)) + ' px' if size else 'sizes as stored'}"
        ]
        dropped = self.loader(DatasetType.Train).n_dropped
        note = f", of which each epoch leaves {dropped} out (last incomplete batch)" if dropped else ""
        lines.append(f"Train: {len(self.split.train):,} pictures{note}\n  {self.train_ds.y!r}")
        valid = self._datasets[DatasetType.Valid]
        lines.append(
            f"Valid: {len(self.split.valid):,} pictures; split {self.split.how}\n  {valid.y if valid else ''!r}"
        )
        unseen, _ = unseen_items(self.labels, self.split)
        if unseen:
            lines.append(
                f"  {len(unseen)} of them have a class that does not occur in training; they count as errors"
            )
        if self.test_ds is not None:
            lines.append(f"Test: {len(self.test_ds):,} pictures")
        return "\n".join([*lines, f"Path: {self.path}"])
