"""ImageDataBunch: pictures, split, labels and transforms, assembled into loaders; and a look at them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch

from onecycle.data.audit.audit import audit_rows, rows_of_lists
from onecycle.data.audit.findings import AuditReport
from onecycle.data.audit.rows import check_files_exist, oddities, unreadable_message, unseen_items
from onecycle.data.batches import Batch, BatchLoader, Stats, check_stats
from onecycle.data.datasets import ImageDataset, draw_grid, make_datasets
from onecycle.data.factories import BunchFactories
from onecycle.data.labels.items import DatasetType, Label
from onecycle.data.labels.pictures import Labeled
from onecycle.data.labels.prevalence import Prevalence, prevalence
from onecycle.data.labels.relabel import relabelled
from onecycle.data.labels.splits import index_split, keep_together
from onecycle.data.options import BunchOptions, make_loading, make_stores
from onecycle.data.pixels.decode import Source
from onecycle.data.pixels.image import Image
from onecycle.data.pixels.store import PicturesInMemory
from onecycle.errors import ArgumentError, DataError, DataWarning, UnreadableImagesError, warn
from onecycle.text import shown

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class ImageDataBunch(BunchFactories):
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
    def _assembled(cls, lists: Labeled, seed: int | None, options: BunchOptions) -> Self:
        """Make the bunch with the shared keywords: the last step of each factory."""
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

    def _with(self, lists: Labeled) -> Self:
        """Return a bunch of the same pictures with another split or other labels, all else the same."""
        other = copy.copy(self)
        other.lists, other.labels, other.split = lists, lists.labels, lists.split
        other._datasets = make_datasets(self.store, self._test_store, lists.labels, lists.split)
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
        return audit_rows(rows_of_lists(self.lists, self.split, groups), features=features, silent=silent)

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
            raise ArgumentError(f"this bunch has no pictures in its part {ds_type.name}{': ' + hint if hint else ''}")
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
        store = PicturesInMemory(pictures, self.lists.resize)
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
            raise ArgumentError("Can not call normalize twice: this bunch is normalised with " + repr(self.stats))
        self.stats = check_stats(self.batch_stats() if stats is None else stats)
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
        kind = "tags" if self.is_multi else "classes"
        size = self.lists.resize.size
        lines = [f"ImageDataBunch: {self.c} {kind}, {'×'.join(map(str, size)) + ' px' if size else 'sizes as stored'}"]
        if not len(self):
            return "\n".join([*lines, "No pictures: for predictions only", f"Path: {self.path}"])
        dropped = self.loader(DatasetType.Train).n_dropped
        note = f", of which each epoch leaves {dropped} out (last incomplete batch)" if dropped else ""
        lines.append(f"Train: {len(self.split.train):,} pictures{note}\n  {self.train_ds.y!r}")
        valid = self._datasets[DatasetType.Valid]
        lines.append(
            f"Valid: {len(self.split.valid):,} pictures; split {self.split.how}\n  {valid.y if valid else ''!r}"
        )
        unseen, _ = unseen_items(self.labels, self.split)
        if unseen:
            lines.append(f"  {len(unseen)} of them have a class that does not occur in training; they count as errors")
        if self.test_ds is not None:
            lines.append(f"Test: {len(self.test_ds):,} pictures")
        return "\n".join([*lines, f"Path: {self.path}"])
