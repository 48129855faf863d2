"""fastai v1's bunch: onecycle's own, with v1's other names, and with older spellings of its keywords."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn, Self

from torch import Tensor

from onecycle.data.batches import Batch, BatchLoader
from onecycle.data.bunch import ImageDataBunch as Bunch
from onecycle.data.bunch import LabeledLists
from onecycle.data.datasets import ImageDataset
from onecycle.data.labels.items import DatasetType
from onecycle.data.labels.lists import LabelView
from onecycle.errors import ArgumentError
from onecycle.fastai1 import core
from onecycle.fastai1.bunch.data_file import empty_lists, export_data, load_lists, save_data
from onecycle.fastai1.bunch.own_data import DataBunch
from onecycle.fastai1.bunch.picture_loader import PictureLoader, as_set
from onecycle.fastai1.pictures import arrays, readers
from onecycle.learner.oversampling import loss_for_data

__all__ = ["ImageDataBunch", "load_data"]


class ImageDataBunch(Bunch):
    """onecycle's bunch with v1's other names, and with older spellings of its keywords."""

    @classmethod
    def from_folder(
        cls, path: Any, train: Any = "train", valid: Any = "valid", test: Any = None, valid_pct: float | None = None,
        seed: int | None = None, classes: Any = None, **options: Any,
    ) -> Self:  # fmt: skip
        """Label with the names of folders; ``valid_pct`` draws from all pictures below ``path``, as v1 did."""
        options = readers.today(options)
        if valid_pct is None:
            return super().from_folder(path, train, valid, test, None, seed, classes, **options)
        items: Any = cls.table_class.from_folder(path)
        items = items.filter_by_folder(exclude=test) if test else items
        if classes is not None:
            items.filter_by_func(lambda item: Path(item).parent.name in {str(c) for c in classes})
        lists = items.split_by_rand_pct(valid_pct, seed).label_from_folder(classes=classes)
        return cls.create_from_ll(lists, test=test, path=path, seed=seed, **options)

    @classmethod
    def from_csv(cls, *args: Any, **options: Any) -> Self:
        """Read a table."""
        return super().from_csv(*args, **readers.today(options))

    @classmethod
    def from_df(cls, *args: Any, **options: Any) -> Self:
        """Take a table."""
        return super().from_df(*args, **readers.today(options))

    @classmethod
    def from_lists(cls, *args: Any, **options: Any) -> Self:
        """Take two lists."""
        return super().from_lists(*args, **readers.today(options))

    @classmethod
    def create_from_ll(cls, lls: LabeledLists, bs: int = 64, ds_tfms: Any = None, **options: Any) -> Self:
        """Make a bunch of labelled lists; keywords as in ``from_folder``."""
        if (test := options.pop("test", None)) is not None:
            lls = lls.add_test_folder(test)
        sizes = {k: options.pop(k) for k in ("size", "resize_method", "mult", "padding_mode", "mode") if k in options}
        made: Self = lls.transform(ds_tfms, **sizes).databunch(bs=bs, **options)  # type: ignore[assignment]
        return made

    chosen_loss: Any = None

    def __new__(cls, *made_of: Any, **options: Any) -> Any:
        """Make a bunch of a notebook's own loaders, where it is given those: see ``DataBunch``."""
        own = (made_of and not isinstance(made_of[0], LabeledLists)) or "train_dl" in options
        return DataBunch(*made_of, **options) if own else super().__new__(cls)

    def __init__(self, lists: LabeledLists, *, device: Any = None, **options: Any) -> None:
        self._changes: dict[DatasetType, dict[str, Any]] = {}  # of loaders, by part
        self._passed: dict[DatasetType, PictureLoader] = {}
        wanted = device if device is not None else getattr(core.defaults, "device", None)
        super().__init__(lists, device=wanted, **options)
        self._hear_of_open()

    def _hear_of_open(self) -> None:
        """Have every list of pictures tell of a function that is set in place of its ``open``."""
        for part in self._datasets.values():
            if part is not None and part.listed is not None:
                part.listed.open_set = self.read_by

    def read_by(self, function: Callable[[Any], Any]) -> None:
        """Read all pictures of these data by a function from now on: what ``data.train_ds.x.open = function`` does."""
        lists = self.lists
        tables = [copy.copy(lists.pictures), *([] if lists.tests is None else [copy.copy(lists.tests)])]
        for table in tables:
            vars(table).update(open=function, open_set=None)
        self.lists = replace(lists, pictures=tables[0], tests=tables[1] if len(tables) > 1 else None)
        self.store, self._test_store = self.lists.stores(self._make_store)
        self._datasets = replace(self.lists, split=self.split).datasets(self.store, self._test_store)
        self._hear_of_open()

    @classmethod
    def create(cls, *data_sets: Any, **options: Any) -> DataBunch:
        """Make a bunch of data sets of the notebook's own: see ``DataBunch.create``."""
        return DataBunch.create(*data_sets, **options)

    @property
    def loss_func(self) -> Any:
        """The loss that a learner takes where it is given none; it may be set."""
        return loss_for_data(self, None, None) if self.chosen_loss is None else self.chosen_loss

    @loss_func.setter
    def loss_func(self, value: Any) -> None:
        self.chosen_loss = value

    @property
    def label_list(self) -> LabeledLists:
        """The lists that it was made from."""
        return self.lists

    @property
    def fix_ds(self) -> ImageDataset:
        """The training pictures in order."""
        return self.dataset(DatasetType.Fix)

    @property
    def valid_ds(self) -> Any:
        """The validation pictures; an empty list where there are none."""
        return [] if self.empty_val else super().valid_ds

    @property
    def x(self) -> Any:
        """The training pictures."""
        return self.train_ds.x

    @property
    def y(self) -> LabelView:
        """Their labels."""
        return self.train_ds.y

    @property
    def is_empty(self) -> bool:
        """Whether there is no picture at all."""
        return not len(self) and self.test_ds is None

    @property
    def batch_size(self) -> int:
        """Pictures in a batch; set, it holds for validation, too."""
        return super().batch_size

    @batch_size.setter
    def batch_size(self, value: int) -> None:
        self._loading = replace(self._loading, bs=value, val_bs=value)

    def loader(self, ds_type: DatasetType = DatasetType.Train) -> BatchLoader:
        """Return the batches of one part, with the transforms set on its data set and what ``new`` changed."""
        return as_set(self.lists, super().loader(ds_type)).replace(**self._changes.get(ds_type, {}))

    def dl(self, ds_type: DatasetType = DatasetType.Valid) -> PictureLoader:
        """Return the batches of one part; each pass through those of training has another order."""
        made = PictureLoader.of(self.loader(ds_type), self.lists, self._passed.get(ds_type))
        self._passed[ds_type] = made
        return made

    @property
    def train_dl(self) -> PictureLoader:
        """The training batches; what ``new`` made of them can be set."""
        return self.dl(DatasetType.Train)

    @train_dl.setter
    def train_dl(self, value: PictureLoader) -> None:
        self._changes[DatasetType.Train] = value.changes

    @property
    def valid_dl(self) -> PictureLoader:
        """The validation batches; what ``new`` made of them can be set."""
        return self.dl(DatasetType.Valid)

    @valid_dl.setter
    def valid_dl(self, value: PictureLoader) -> None:
        self._changes[DatasetType.Valid] = value.changes

    @property
    def fix_dl(self) -> PictureLoader:
        """The training batches in order."""
        return self.dl(DatasetType.Fix)

    @property
    def test_dl(self) -> PictureLoader | None:
        """The test batches."""
        return None if self.test_ds is None else self.dl(DatasetType.Test)

    @property
    def dls(self) -> list[PictureLoader]:
        """The batches of all parts that there are."""
        parts = [DatasetType.Train, *([] if self.empty_val else [DatasetType.Valid]), DatasetType.Fix]
        return [self.dl(part) for part in parts] + ([self.dl(DatasetType.Test)] if self.test_ds is not None else [])

    def add_tfm(self, tfm: Callable[[Any], Any]) -> None:
        """Call a function on each batch ``(x, y)`` from now on; after ``normalize`` on normalised ones, as v1 did."""
        own = tfm if self.stats is None else arrays.on_normalized(tfm, self.stats)
        self._loading = replace(self._loading, dl_tfms=(*self._loading.dl_tfms, own))

    def presize(self, *_: Any, **__: Any) -> NoReturn:
        """v1 cut each picture at random from its file, at full resolution, before all else."""
        raise ArgumentError(
            "presize() is not known here: give transform(size=…) the transforms of rand_resize_crop(size, max_scale), "
            "which cut windows at random from pictures of that size"
        )

    def save(self, file: Any = "data_save.pkl") -> None:
        """Write names of pictures, labels, split and transforms into ``path``; ``load_data`` reads it."""
        save_data(self, file)

    def export(self, file: Any = "export.pkl") -> None:
        """Write all but pictures and training transforms into ``path``; ``load_empty`` reads it."""
        export_data(self, file)

    @classmethod
    def load_empty(cls, path: Any, fname: Any = "export.pkl", **options: Any) -> Self:
        """Make a bunch without pictures of what ``export`` wrote: for a learner that predicts."""
        lists, stats = empty_lists(cls.lists_class, path, fname)
        made: Self = lists.databunch(path, **options)
        if stats is not None:
            made.normalize(stats)
        return made

    def one_item(
        self, item: Any, detach: bool = False, denorm: bool = False, cpu: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Return one picture as a batch ``(x, y)``; ``y`` means nothing."""
        stats = None if denorm else self.stats or self.backbone_stats
        x, y = self.single_loader([item], stats=stats).batch_at(0, 0)
        return (x.cpu(), y.cpu()) if cpu else (x, y)

    def one_batch(
        self, ds_type: DatasetType = DatasetType.Train, detach: bool = True, denorm: bool = True, cpu: bool = True
    ) -> Batch:
        """Return the first batch of one part."""
        return super().one_batch(ds_type, denorm=denorm, cpu=cpu)

    def denorm(self, x: Tensor, do_x: bool = True) -> Tensor:
        """Undo the normalisation of pictures ``(…, 3, H, W)``, on the CPU."""
        stats = self.stats or self.backbone_stats
        return x.detach().cpu() if stats is None else arrays.denormalize(x, *stats, do_x)

    def normalize(self, stats: Any = None, do_x: bool = True, do_y: bool = False) -> ImageDataBunch:
        """Normalise pictures; see ``ImageDataBunch.normalize``."""
        if not do_x:
            raise ArgumentError(
                "normalize(do_x=False) is not known here: labels of classes have no pixels to normalise"
            )
        given = None if stats is None else [[float(v) for v in values] for values in stats]
        super().normalize(given)
        return self

    def show_batch(
        self, rows: int = 5, ds_type: DatasetType = DatasetType.Train, reverse: bool = False, **options: Any
    ) -> Any:
        """Draw pictures of one batch; what v1 took and had no use for is taken, too."""
        known = {name: options[name] for name in ("figsize", "is_train", "return_fig") if name in options}
        return super().show_batch(rows, ds_type, **known)


def load_data(path: Any, file: Any = "data_save.pkl", bs: int = 64, **options: Any) -> ImageDataBunch:
    """Make the bunch again that ``data.save(file)`` wrote, without its statistics, as in v1.

    Args:
        path, file: as they were saved; pictures below ``path`` are looked for below it.
        bs, options: of the bunch.

    Raises:
        CheckpointError: no such file, or a damaged one.
    """
    made: ImageDataBunch = load_lists(ImageDataBunch.lists_class, path, file).databunch(
        path, bs=bs, **readers.today(options)
    )
    return made


DataBunch.register(ImageDataBunch)
