"""fastai v1's bunch of a notebook's own data sets or loaders: a bunch without pictures that gives those batches."""

from __future__ import annotations

from abc import ABCMeta
from collections.abc import Callable, Iterable
from typing import Any, NoReturn, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader

from onecycle.data.bunch import ImageDataBunch as Bunch
from onecycle.data.bunch import LabeledLists
from onecycle.data.labels.items import DatasetType, Labels
from onecycle.data.labels.splits import DEFAULT_SEED, Split
from onecycle.data.labels.table import LabelTable
from onecycle.errors import ArgumentError, OnecycleWarning, warn
from onecycle.fastai1 import core
from onecycle.fastai1.bunch.loader import OWN, DeviceDataLoader, as_loader, default_device, drawing
from onecycle.train.device.random_state import mix_seed

__all__ = ["DataBunch"]


class DataBunch(Bunch, metaclass=ABCMeta):
    """Training and validation batches of a notebook's own, for a learner; a bunch of pictures counts as one, too.

    Names that it lacks are those of the training loader and its data set, as in v1: ``data.c``, ``data.classes``.

    Args:
        train_dl, valid_dl, fix_dl, test_dl: loaders of PyTorch's, or anything of a known length that gives batches
            ``(x, y)``; ``fix_dl`` has the training items in order, default ``train_dl`` without a shuffle.
        device, dl_tfms, collate_fn: as in ``DeviceDataLoader``, of all of them.
        path: where models are saved.
        no_check: do not look at the first training item, which says whether targets are classes.
        seed: of the draws.
    """

    def __init__(
        self, train_dl: Any, valid_dl: Any = None, fix_dl: Any = None, test_dl: Any = None, device: Any = None,
        dl_tfms: Any = None, path: Any = ".", collate_fn: Any = None, no_check: bool = False, *,
        seed: int | None = None,
    ) -> None:  # fmt: skip
        device = default_device() if device is None else device
        loaders = {"Train": train_dl, "Valid": valid_dl, "Fix": fix_dl, "Test": test_dl}
        how: dict[str, Any] = {"collate_fn": collate_fn, "seed": DEFAULT_SEED if seed is None else seed}
        self.dls_of: dict[DatasetType, DeviceDataLoader] = {
            DatasetType[part]: DeviceDataLoader(dl, device, core.listify(dl_tfms), **how)
            for part, dl in loaders.items()
            if dl is not None
        }
        nobody = np.zeros(0, dtype=np.int64)
        labels = _labels(self.train_dl, look=not no_check)
        lists = LabeledLists(
            pictures=LabelTable([], path), split=Split(nobody, nobody, "none, of data sets of your own"), labels=labels
        )
        super().__init__(lists, path=path, bs=self.train_dl.bs or 1, device=device, seed=seed, pixel_cache="off")

    @classmethod
    def create(
        cls, train_ds: Any, valid_ds: Any = None, test_ds: Any = None, path: Any = ".", bs: int = 64,
        val_bs: int | None = None, num_workers: int = 0, dl_tfms: Any = None, device: Any = None,
        collate_fn: Any = None, no_check: bool = False, **options: Any,
    ) -> Self:  # fmt: skip
        """Make the batches of data sets ``ds[i] → (x, y)``; ``options`` are those of PyTorch's ``DataLoader``.

        Training batches are shuffled, without a last one that is not full.
        """

        def batches(dataset: Any, *, train: bool = False) -> Any:
            order: dict[str, Any] = {"batch_size": bs if train else val_bs or bs, "shuffle": train, "drop_last": train}
            return None if dataset is None else DataLoader(dataset, num_workers=num_workers, **order, **options)

        train, valid, fix, test = (batches(train_ds, train=True), *map(batches, (valid_ds, train_ds, test_ds)))
        return cls(
            train, valid, fix, test, device=device, dl_tfms=dl_tfms, path=path, collate_fn=collate_fn, no_check=no_check
        )

    @classmethod
    def from_table(cls, *_: Any, **__: Any) -> NoReturn:
        """v1's ``DataBunch`` had no pictures to read, nor has this one."""
        raise ArgumentError("a DataBunch is made of data sets; a bunch of pictures is an ImageDataBunch")

    from_csv = from_df = from_folder = from_lists = from_name_func = from_name_re = from_table
    single_from_classes = from_table

    # -- batches ------------------------------------------------------------------------------------------------

    def loader(self, ds_type: DatasetType = DatasetType.Train) -> Any:
        """Return the batches of one part.

        Raises:
            ArgumentError: there is no such part.
        """
        if ds_type is DatasetType.Fix and ds_type not in self.dls_of:
            self.dls_of[ds_type] = self.train_dl.new(shuffle=False, drop_last=False)
        if ds_type not in self.dls_of:
            name = getattr(ds_type, "name", ds_type)
            raise ArgumentError(f"{OWN}, and there is none for the part {name!r} among them")
        return self.dls_of[ds_type]

    def dl(self, ds_type: DatasetType = DatasetType.Valid) -> Any:
        """Return the batches of one part."""
        return self.loader(ds_type)

    @property
    def dls(self) -> list[DeviceDataLoader]:
        """The batches of all parts that there are."""
        if isinstance(self.train_dl.dl, DataLoader):
            self.loader(DatasetType.Fix)
        return [self.dls_of[part] for part in DatasetType if part in self.dls_of]

    @property
    def train_dl(self) -> Any:
        """The training batches; another loader can be set."""
        return self.loader(DatasetType.Train)

    @train_dl.setter
    def train_dl(self, value: Any) -> None:
        self._set(DatasetType.Train, value)

    @property
    def valid_dl(self) -> Any:
        """The validation batches; None where there are none. Another loader can be set."""
        return self.dls_of.get(DatasetType.Valid)

    @valid_dl.setter
    def valid_dl(self, value: Any) -> None:
        self._set(DatasetType.Valid, value)

    @property
    def test_dl(self) -> Any:
        """The test batches; None where there are none. Another loader can be set."""
        return self.dls_of.get(DatasetType.Test)

    @test_dl.setter
    def test_dl(self, value: Any) -> None:
        self._set(DatasetType.Test, value)

    def _set(self, part: DatasetType, value: Any) -> None:
        self.dls_of[part] = as_loader(value, self.device, self.seed)

    @property
    def batch_size(self) -> Any:
        """Items in a training batch; set, it holds for the other parts, too."""
        return self.train_dl.batch_size

    @batch_size.setter
    def batch_size(self, value: int) -> None:
        for loader in self.dls:
            loader.batch_size = value

    @property
    def empty_val(self) -> bool:
        """Whether nothing validates."""
        return self.valid_dl is None or not len(self.valid_dl)

    def add_tfm(self, tfm: Callable[[Any], Any]) -> None:
        """Call a function on each batch from now on."""
        for loader in self.dls:
            loader.add_tfm(tfm)

    def remove_tfm(self, tfm: Callable[[Any], Any]) -> None:
        """Call it no more."""
        for loader in self.dls:
            loader.remove_tfm(tfm)

    def one_batch(
        self, ds_type: DatasetType = DatasetType.Train, detach: bool = True, denorm: bool = True, cpu: bool = True
    ) -> Any:
        """Return the first batch of one part."""
        batch = self.loader(ds_type).one_batch()
        if cpu:
            batch.x, batch.y = batch.x.cpu(), batch.y.cpu()
        return batch

    # -- data sets ----------------------------------------------------------------------------------------------

    def dataset(self, ds_type: DatasetType = DatasetType.Valid) -> Any:
        """Return the data set of one part."""
        found = self.loader(ds_type).dataset
        while hasattr(found, "dataset"):
            found = found.dataset
        return found

    @property
    def test_ds(self) -> Any:
        """The test data set; None where there is none."""
        return None if self.test_dl is None else self.dataset(DatasetType.Test)

    @property
    def fix_ds(self) -> Any:
        """The training data set, of which batches are in order."""
        return self.dataset(DatasetType.Fix)

    @property
    def c(self) -> int:
        """The number of classes, as the training data set says it."""
        return int(self.train_dl.c)

    @property
    def classes(self) -> Any:
        """The classes, as the training data set says them; without that their numbers, where it has ``c``."""
        return self.labels.classes

    _loss: Any = None

    @property
    def loss_func(self) -> Any:
        """The loss of the training data set, ``y.loss_func`` or ``loss_func``; without one ``nll_loss``, as in v1.

        Another one can be set.
        """
        if self._loss is not None:
            return self._loss
        own = self.train_ds
        found = getattr(getattr(own, "y", None), "loss_func", None) or getattr(own, "loss_func", None)
        if found is None:
            warn(
                f"{OWN} without a loss_func, so it is nll_loss, as in v1: it takes logarithms of probabilities, as "
                "nn.LogSoftmax gives them; Learner(..., loss_func=...) says another",
                OnecycleWarning,
            )
        return F.nll_loss if found is None else found

    @loss_func.setter
    def loss_func(self, value: Any) -> None:
        self._loss = value

    @property
    def chosen_loss(self) -> Any:
        """The loss that a learner takes where it is given none."""
        return self.loss_func

    def prepare(self, *, silent: bool = False) -> None:
        """Do nothing: items are made as they are asked for."""

    def describe_source(self) -> str:
        """Say in one clause where items come from."""
        return "items of data sets of your own"

    def describe_targets(self) -> str:
        """Say what a network predicts."""
        return "targets of data sets of your own" if self.is_regression else super().describe_targets()

    # -- what is for pictures -----------------------------------------------------------------------------------

    def _for_pictures(self, *_: Any, **__: Any) -> NoReturn:
        raise ArgumentError(
            f"{OWN}, so there are no pictures with labels here: show_batch, normalize, export, add_test, audit and the "
            "like work on an ImageDataBunch"
        )

    show_batch = normalize = export = add_test = audit = relabel = split_together = split_by_rows = _for_pictures
    one_item = presize = save = prevalence = resized = batch_stats = _for_pictures

    def __len__(self) -> int:
        sets = [self.dls_of[part].dataset for part in (DatasetType.Train, DatasetType.Valid) if part in self.dls_of]
        return sum(len(items) for items in sets)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "dls_of":
            raise AttributeError(name)
        try:
            return getattr(self.train_dl, name)
        except AttributeError:
            raise AttributeError(f"{OWN}, and neither the bunch nor the training data set has {name!r}") from None

    def __repr__(self) -> str:
        parts = {part: self.dls_of.get(part) for part in (DatasetType.Train, DatasetType.Valid, DatasetType.Test)}
        said = [f"{part.name}: {getattr(dl, 'dataset', None)}" for part, dl in parts.items()]
        return f"{type(self).__name__};\n\n" + ";\n\n".join(said)


def is_own(data: Any) -> bool:
    """Say whether a bunch is of a notebook's own data, and not of pictures."""
    return DataBunch in type(data).__mro__


def own_batches(data: Any, dl: Any = None) -> Any:
    """Return batches to judge with: those of a part, of a loader, or, of nothing, of the validation part."""
    part = DatasetType.Valid if dl is None else dl
    return data.loader(part) if isinstance(part, DatasetType) else as_loader(part, data.device)


def _labels(loader: DeviceDataLoader, *, look: bool) -> Labels:
    """Return which classes there are, without a single target: what a learner compares losses and metrics with.

    Targets are classes or tags where the data set has ``c`` or ``classes`` and its first target is a whole number or
    ``c`` numbers; in all other cases nothing is known of them.
    """
    said = getattr(loader, "classes", None)
    classes = _names(range(int(getattr(loader, "c", 0) or 0)) if said is None else said)
    target = _first_target(loader) if look and len(classes) > 1 else None
    if target is not None and target.ndim == 1 and not target.is_floating_point():
        return Labels(classes, np.zeros(0, dtype=np.int64), is_multi=False)
    if target is not None and target.shape == (1, len(classes)) and target.is_floating_point():
        return Labels(classes, np.zeros((0, len(classes)), dtype=np.float32), is_multi=True)
    return Labels(classes or ["target"], np.zeros(0, dtype=np.float32), is_multi=False, is_regression=True)


def _names(classes: Iterable[Any]) -> list[Any]:
    return [c if isinstance(c, int) else str(c) for c in classes]


def _first_target(loader: DeviceDataLoader) -> Tensor | None:
    """Return the target of the first item as a batch of one; None where items cannot be asked for by number."""
    try:
        with drawing(mix_seed(loader.seed)):
            made = loader.dl.collate_fn([loader.dataset[0]])
    except (AttributeError, TypeError, KeyError, IndexError, NotImplementedError):
        return None
    is_pair = isinstance(made, (tuple, list)) and len(made) == 2
    return torch.as_tensor(made[1]) if is_pair and isinstance(made[1], Tensor) else None
