"""The ways of making a bunch in one call, as fastai v1 named them: from a table, a folder, lists or file names."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self, Unpack

import numpy as np
import pandas as pd

from onecycle.data.labels import splits
from onecycle.data.labels.items import Label, Labels, labels_from_pattern, pictures_of_classes
from onecycle.data.labels.pictures import Labeled, Pictures, folder_names, group_column, label_columns, label_rows
from onecycle.data.labels.stratified import draw_split
from onecycle.data.options import BunchOptions, CommonOptions, check_options
from onecycle.errors import ArgumentError


class BunchFactories(ABC):
    """What a bunch can be made from; see ``BunchOptions`` for the keywords that all of these take."""

    @classmethod
    @abstractmethod
    def _assembled(cls, lists: Labeled, seed: int | None, options: BunchOptions) -> Self:
        """Make the bunch from its lists and the shared keywords."""

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
        stratify: bool = False,
        group_col: int | str | None = None,
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
            label_col: column of the labels.
            suffix: added to each file name, e.g. ``'.jpg'``.
            delimiter: between the table's cells.
            header: row of the column names, None if there is none.
            stratify: give both parts the same share of each class or tag; a class with a single picture trains.
            group_col: column of what belongs together (site, patient, flight); a group is never split.
            options: see ``BunchOptions``.

        Raises:
            DataError: no such table, empty cells, missing files (each row named).
            LabelError: labels that cannot be used.
        """
        check_options(options)
        pictures = Pictures.from_csv(
            path, csv_labels, header=header, delimiter=delimiter, cols=fn_col, folder=folder, suffix=suffix
        )
        return cls._from_table(pictures, label_col, label_delim, valid_pct, seed, stratify, group_col, options=options)

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
        stratify: bool = False,
        group_col: int | str | None = None,
        **options: Unpack[BunchOptions],
    ) -> Self:
        """Take pictures and labels from a DataFrame; arguments as in ``from_csv``."""
        check_options(options)
        pictures = Pictures.from_df(df, path, cols=fn_col, folder=folder, suffix=suffix)
        return cls._from_table(pictures, label_col, label_delim, valid_pct, seed, stratify, group_col, options=options)

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
        pictures = Pictures(pictures_of_classes(Path(path), train, valid, test, valid_pct, classes), path)
        if valid_pct is None:
            split = splits.folder_split(pictures.paths, pictures.path, train=train, valid=valid)
        else:
            split = splits.random_split(pictures.paths, valid_pct, seed=seed)
        labeled = label_rows(pictures, split, folder_names(pictures), classes=classes)
        if stratify and valid_pct is not None:
            labeled = _split_by_labels(labeled, valid_pct, seed)
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
        stratify: bool = False,
        groups: Sequence[object] | None = None,
        **options: Unpack[BunchOptions],
    ) -> Self:
        """Take pictures and labels from two lists of the same length.

        Args:
            path: folder of the data set.
            fnames: paths of the pictures.
            labels: one entry a picture.
            valid_pct, seed, label_delim, stratify, options: as in ``from_csv``.
            groups: one entry a picture, equal for pictures that belong together; a group is never split.
        """
        check_options(options)
        pictures = Pictures(fnames, path)
        numbers = None if groups is None else splits.group_numbers(groups, n=len(pictures))
        split = draw_split(pictures.paths, valid_pct, seed=seed, groups=numbers)
        labeled = label_rows(pictures, split, labels, label_delim=label_delim)
        if stratify:
            labeled = _split_by_labels(labeled, valid_pct, seed)
        return cls._finish(labeled, seed, options)

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
        check_options(options)
        n, c = 0, len(classes)
        targets = np.zeros((n, c), dtype=np.float32) if is_multi else np.zeros(n, dtype=np.int64)
        nobody = np.zeros(n, dtype=np.int64)
        split = splits.Split(nobody, nobody, "none, for predictions only")
        lists = Labeled(Pictures([], path), split, Labels(list(classes), targets, is_multi))
        return cls._finish(lists, None, {**options, "test": None})

    @classmethod
    def _from_table(
        cls,
        pictures: Pictures,
        label_col: int | str,
        label_delim: str | None,
        valid_pct: float,
        seed: int | None,
        stratify: bool,
        group_col: int | str | None,
        *,
        options: BunchOptions,
    ) -> Self:
        groups = None if group_col is None else group_column(pictures, group_col)
        split = draw_split(pictures.paths, valid_pct, seed=seed, groups=groups)
        labeled = label_columns(pictures, split, label_col, label_delim=label_delim)
        if stratify:
            labeled = _split_by_labels(labeled, valid_pct, seed)
        return cls._finish(labeled, seed, options)

    @classmethod
    def _finish(cls, lists: Labeled, seed: int | None, options: BunchOptions) -> Self:
        """Apply the shared keywords through the same steps as the data-block chain."""
        test = options.get("test")
        if test is not None:
            lists = lists.add_test_folder(str(test)) if isinstance(test, (str, Path)) else lists.add_test(test)
        lists = lists.transform(
            options.get("ds_tfms"),
            size=options.get("size"),
            resize_method=options.get("resize_method"),
            mult=options.get("mult"),
            padding_mode=options.get("padding_mode", "reflection"),
            mode=options.get("mode", "bilinear"),
            scaled_decode=options.get("scaled_decode", True),
        )
        return cls._assembled(lists, seed, options)


def _split_by_labels(labeled: Labeled, valid_pct: float, seed: int | None) -> Labeled:
    """Draw the split anew, now that the labels are known; groups stay together."""
    paths, groups = labeled.pictures.paths, labeled.split.groups
    return replace(labeled, split=draw_split(paths, valid_pct, seed=seed, labels=labeled.labels, groups=groups))
