"""fastai v1's data block and bunch: onecycle's own, with what only v1's notebooks ask of them.

v1 changed its lists in place (``src.add_test(…)`` on a line of its own), so these do, too.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd

from onecycle.data import data_block
from onecycle.data.bunch import LabeledLists
from onecycle.data.data_block import SplitList
from onecycle.data.datasets import Parts
from onecycle.data.labels.items import IMAGE_SUFFIXES, DatasetType
from onecycle.data.labels.lists import CategoryList, FloatList, LabelView
from onecycle.data.labels.splits import Split, index_split
from onecycle.data.labels.table import LabelTable
from onecycle.data.pixels.reading import Reading
from onecycle.data.pixels.store import PixelStore
from onecycle.errors import ArgumentError, check_keywords
from onecycle.fastai1 import draws
from onecycle.fastai1.bunch.bunch import ImageDataBunch
from onecycle.fastai1.bunch.data_file import empty_lists
from onecycle.fastai1.modules import module
from onecycle.fastai1.pictures import arrays, readers
from onecycle.fastai1.pictures.dataset import PictureLists
from onecycle.fastai1.pictures.image import Image
from onecycle.files import write_whole

__all__ = [
    "ImageDataBunch", "ImageItemList", "ImageList", "ItemList", "ItemLists", "LabelList", "LabelLists",
]  # fmt: skip

_CHANNELS = {"RGB": 3, "L": 1}


class LabelLists(PictureLists):
    """onecycle's labelled lists; what they are told changes them in place."""

    bunch_class = ImageDataBunch

    @classmethod
    def load_empty(cls, path: Any, fn: Any = "export.pkl") -> Self:
        """Return lists without pictures, of what ``data.export`` wrote; ``path`` may be the file itself."""
        folder = Path(path)
        lists, _ = empty_lists(cls, *((folder, fn) if folder.is_dir() else (folder.parent, folder.name)))
        return lists  # type: ignore[no-any-return]

    @property
    def x(self) -> Any:
        """The training pictures."""
        return self.train.x

    @property
    def y(self) -> LabelView:
        """Their labels."""
        return self.train.y

    @property
    def classes(self) -> list[Any]:
        """The class list."""
        return list(self.labels.classes)

    @property
    def c(self) -> int:
        """The number of classes."""
        return len(self.labels.classes)

    def datasets(self, store: PixelStore, test_store: PixelStore | None) -> Parts:
        """Return each part of the data; the pictures of each are a list as the notebook made it."""
        parts = super().datasets(store, test_store)
        for ds_type, part in parts.items():
            pictures = self.tests if ds_type is DatasetType.Test else self.pictures
            if part is not None and isinstance(pictures, ImageList):
                part.listed = pictures._subset(part.rows.tolist())
        return parts

    def _become(self, other: LabeledLists) -> Self:
        self.__dict__.update(other.__dict__)
        return self

    def transform(self, tfms: Any = None, tfm_y: bool = False, **how: Any) -> Self:
        """Set the transforms and the size."""
        return self._become(super().transform(tfms or None, **how))

    def add_test(self, items: Any, label: Any = None, tfms: Any = None, tfm_y: Any = None) -> Self:
        """Add test pictures."""
        readers.refused(tfms=tfms)
        return self._become(super().add_test(items, label))

    def add_test_folder(
        self, test_folder: str = "test", label: Any = None, tfms: Any = None, tfm_y: Any = None
    ) -> Self:
        """Add the pictures of a folder as the test pictures."""
        readers.refused(tfms=tfms)
        return self._become(super().add_test_folder(test_folder, label))

    def databunch(self, path: Any = None, **options: Any) -> ImageDataBunch:
        """Make the bunch."""
        if options.pop("collate_fn", None) is not None:
            raise ArgumentError("collate_fn= is not known here: size= brings pictures to one size, which makes a batch")
        made: ImageDataBunch = super().databunch(path, **options)  # type: ignore[assignment]
        return made


LabelList = LabelLists


class ItemLists(SplitList):
    """onecycle's split lists with v1's keywords; also made as ``ItemLists(path, train, valid)``."""

    pictures: ImageList

    def __init__(self, first: Any, second: Any, third: Any = None) -> None:
        made = None if third is None else second.split_by_list(second, third)
        pictures, split = (first, second) if made is None else (made.pictures, made.split)
        super().__init__(pictures, split)

    @property
    def train(self) -> ImageList:
        """The pictures that train."""
        return self.pictures._subset(self.split.train.tolist())  # type: ignore[return-value]

    @property
    def valid(self) -> ImageList:
        """The pictures that validate."""
        return self.pictures._subset(self.split.valid.tolist())  # type: ignore[return-value]

    def _how(self, first: Any, how: dict[str, Any]) -> dict[str, Any]:
        """Return today's keywords; labels whose first is a float are numbers, as in v1."""
        how["label_delim"] = how.pop("sep", None) or how.get("label_delim")
        if how.get("label_cls") is None and how["label_delim"] is None and isinstance(first, (float, np.floating)):
            how["label_cls"] = FloatList
        return how

    def label_from_list(self, labels: Sequence[object], **how: Any) -> LabelLists:
        """Label every picture; ``one_hot``: labels are vectors of 0 and 1, and ``classes`` has their names."""
        readers.check_one_hot(how.pop("one_hot", None), labels)
        made: LabelLists = super().label_from_list(labels, **self._how(labels[0] if len(labels) else None, how))  # type: ignore[assignment]
        return made

    def label_from_df(self, cols: Any = 1, label_cls: Any = None, **how: Any) -> LabelLists:
        """Label from columns of the table."""
        frame = self.pictures.needs_frame("label_from_df")
        one = cols if isinstance(cols, (int, str)) else cols[0] if len(cols) == 1 else None
        cells = None if one is None else frame.iloc[:, one] if isinstance(one, int) else frame.get(one)
        first = None if cells is None or not len(cells) else cells.iloc[0]
        if cells is not None and label_cls is CategoryList and isinstance(first, (float, np.floating)):
            return self.label_from_list([c if pd.isna(c) or c % 1 == 0 else str(c) for c in cells], **how)
        if one is None and (how.get("classes") is not None or how.get("one_hot") is False):
            columns = frame.iloc[:, list(cols)] if all(isinstance(c, int) for c in cols) else frame[list(cols)]
            return self.label_from_list(list(columns.to_numpy()), label_cls=label_cls, **how)
        how.pop("one_hot", None)
        how = self._how(first, {"label_cls": label_cls, **how})
        made: LabelLists = super().label_from_df(cols if one is None else one, **how)  # type: ignore[assignment]
        return made

    def label_from_func(self, func: Callable[[Any], object], label_cls: Any = None, **how: Any) -> LabelLists:
        """Label with ``func(item)``."""
        return self.label_from_list([func(item) for item in self.pictures.items], label_cls=label_cls, **how)

    def label_from_folder(self, label_cls: Any = None, **how: Any) -> LabelLists:
        """Label with the names of folders."""
        return self.label_from_list(self.pictures.folder_names(), label_cls=label_cls, **how)

    def label_const(self, const: Any = 0, label_cls: Any = None, **how: Any) -> LabelLists:
        """Give all pictures one label."""
        return self.label_from_func(lambda _: const, label_cls, **how)

    def label_empty(self, **how: Any) -> LabelLists:
        """Give no picture a label: all have the class 0."""
        return self.label_const(0, **how)


class ImageList(data_block.ImageList):
    """onecycle's list of pictures; subclasses may have ``open(fn)`` or ``get(i)`` of their own, which read them.

    Args:
        items: paths.
        path: folder of the data set.
        inner_df: the table that they are from.
        convert_mode, after_open: as in ``open_image``.
    """

    lists_class = LabelLists
    convert_mode, after_open = "RGB", None
    open_set: Callable[[Any], object] | None = None  # told of a function that is set in place of ``open``
    _bunch: ClassVar[type[ImageDataBunch]] = ImageDataBunch

    def __init__(
        self, items: Iterable[Any], path: Any = ".", *, inner_df: Any = None, convert_mode: str = "RGB",
        after_open: Any = None, frame: Any = None, source: Any = None, **more: Any,
    ) -> None:  # fmt: skip
        readers.options_of(more)
        check_keywords("ImageList", more, ["items", "path", "inner_df", "convert_mode", "after_open"])
        super().__init__(items, path, frame=inner_df if frame is None else frame, source=source)
        self.convert_mode, self.after_open = convert_mode, after_open
        self.copy_new = ["convert_mode", "after_open"]  # a part of a list has all attributes of it here

    @property
    def inner_df(self) -> pd.DataFrame | None:
        """The table."""
        return self.frame

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        readers.KINDS[cls.__name__] = cls

    # -- making -------------------------------------------------------------------------------------------------

    @classmethod
    def from_folder(
        cls, path: Any = ".", extensions: Any = None, recurse: bool = True, exclude: Any = None, include: Any = None,
        **how: Any,
    ) -> Self:  # fmt: skip
        """List the pictures of a folder."""
        reading = readers.options_of(how)
        check_keywords("ImageList.from_folder", how, ["extensions", "recurse", "exclude", "include"])
        found = super().from_folder(path, extensions=extensions or IMAGE_SUFFIXES, recurse=recurse)
        made = found._with(**reading)
        return made.filter_by_folder(include, exclude) if include or exclude else made

    @classmethod
    def from_df(
        cls, df: pd.DataFrame, path: Any = ".", cols: Any = 0, folder: Any = None, suffix: str = "", **how: Any
    ) -> Self:
        """Read names from a table."""
        reading = readers.options_of(how)
        return super().from_df(df, path, cols=cols, folder=folder, suffix=suffix, **how)._with(**reading)

    @classmethod
    def from_csv(
        cls, path: Any, csv_name: Any, header: Any = "infer", delimiter: Any = None, cols: Any = 0, folder: Any = None,
        suffix: str = "", **how: Any,
    ) -> Self:  # fmt: skip
        """Read names from a file."""
        reading = readers.options_of(how)
        how |= {"header": header, "delimiter": delimiter, "cols": cols, "folder": folder, "suffix": suffix}
        return super().from_csv(path, csv_name, **how)._with(**reading)

    # -- reading ------------------------------------------------------------------------------------------------

    def open(self, fn: Any) -> Image:
        """Read one file; what was put in place of ``fastai.vision.data.open_image`` is called."""
        made: Image = module("vision.data").open_image(fn, convert_mode=self.convert_mode, after_open=self.after_open)
        return made

    def get(self, i: int) -> Any:
        """Return picture ``i``."""
        return self.open(self.item_type(self.paths[i]))

    @property
    def reading(self) -> Reading:
        """How files are read: as usual, unless this list or the notebook says otherwise."""
        own = type(self).get is not ImageList.get or type(self).open is not ImageList.open or "open" in vars(self)
        replaced = module("vision.data").open_image is not arrays.open_image
        if not own and not replaced and self.after_open is None and self.convert_mode in _CHANNELS:
            return Reading(channels=_CHANNELS[self.convert_mode], grey=self.convert_mode == "L")
        function = self._open_by_path if type(self).get is ImageList.get else self._get_by_path
        return readers.remember(self.read_by(function, readers.name_of(self, replaced=replaced)))

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "open" and (told := vars(self).get("open_set")) is not None:
            told(value)

    def _open_by_path(self, fn: Any) -> Any:
        return self.open(self.item_type(str(fn)) if isinstance(fn, (str, Path)) else fn)

    def _get_by_path(self, fn: Any) -> Any:
        rows = {os.path.abspath(p): i for i, p in enumerate(self.paths)}
        row = rows.get(os.path.abspath(fn)) if isinstance(fn, (str, Path)) else None
        if row is not None:
            return self.get(row)
        alone = self._with(paths=[str(fn)], frame=None)  # a picture of the test part, or one to predict
        return alone.get(0)

    # -- choosing -----------------------------------------------------------------------------------------------

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, (slice, list)) or np.ndim(index):
            return self._subset(np.arange(len(self))[index].tolist())
        return self.get(int(index))

    def splits(self, split: Split) -> ItemLists:
        """Return these pictures as split."""
        return ItemLists(self, split)

    def split_by_rand_pct(self, valid_pct: float = 0.2, seed: int | None = None) -> SplitList:
        """Draw ``int(valid_pct · n)`` validation pictures; with a ``seed`` the rows that v1 drew with it."""
        return self.splits(self.split(valid_pct, seed=seed))

    def split(self, valid_pct: float = 0.2, *, seed: int | None = None, stratify: bool = False) -> Split:
        """Draw which rows validate; with a ``seed``, and where no column or folder says so, those that v1 drew."""
        if seed is None or stratify or self.folders or self.parts is not None or self.group_numbers() is not None:
            return super().split(valid_pct, seed=seed, stratify=stratify)
        return draws.rand_split(len(self), valid_pct, seed)

    def filter_by_folder(self, include: Any = None, exclude: Any = None) -> Self:
        """Keep the pictures whose first folder below ``path`` is among ``include``, and not among ``exclude``."""
        wanted, out = ([v] if isinstance(v, (str, Path)) else list(v or ()) for v in (include, exclude))
        tops = [Path(os.path.relpath(p, self.path)).parts[0] for p in self.paths]
        keep = [i for i, top in enumerate(tops) if (not wanted or top in map(str, wanted)) and top not in map(str, out)]
        return self._become(self._subset(keep))

    def filter_by_func(self, func: Callable[[Any], bool]) -> Self:
        """Keep the pictures for which ``func(item)`` is true."""
        return self._become(self._subset([i for i, item in enumerate(self.items.tolist()) if func(item)]))

    def filter_by_rand(self, p: float, seed: int | None = None) -> Self:
        """Keep each picture with probability ``p``; with a ``seed`` those that v1 kept with it."""
        return self._become(self._subset(draws.kept(len(self), p, seed)))

    def use_partial_data(self, sample_pct: float = 0.01, seed: int | None = None) -> data_block.ImageList:
        """Draw a share of the pictures, at least one; with a ``seed`` those that v1 drew with it."""
        return self._subset(draws.permuted(len(self), seed)[: max(1, int(sample_pct * len(self)))])

    def split_by_list(self, train: ImageList, valid: ImageList) -> ItemLists:
        """Train on one list, validate on another."""
        both = train._with(paths=[*train.paths, *valid.paths], frame=_joined(train.frame, valid.frame))
        n = len(train)
        return both.splits(index_split(len(both.paths), list(range(n, len(both.paths))), list(range(n))))

    def split_subsets(self, train_size: float, valid_size: float, seed: int | None = None) -> ItemLists:
        """Draw a share of the pictures for training and another one for validation; with a ``seed`` as v1 did."""
        return self.splits(draws.subsets(len(self), train_size, valid_size, seed))

    def to_text(self, fn: Any) -> None:
        """Write the paths below ``path`` into a file there, one a line."""
        text = "".join(f"{os.path.relpath(p, self.path)}\n" for p in self.paths)
        write_whole(self.path / fn, os.fsencode(text))

    def _become(self, other: LabelTable) -> Self:
        self.__dict__.update(other.__dict__)
        return self


def _joined(one: Any, other: Any) -> Any:
    return None if one is None or other is None else pd.concat([one, other], ignore_index=True)


ItemList = ImageItemList = ImageList
readers.KINDS["ImageList"] = ImageList

ImageDataBunch.table_class, ImageDataBunch.lists_class = ImageList, LabelLists
