"""Classes, tags and numbers: what ``label_cls=`` asks for, and the labels of a part as notebooks look at them."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from onecycle.data.audit.rows import check_same_classes
from onecycle.data.bunch import ImageDataBunch
from onecycle.data.data_block import ImageList, SplitList
from onecycle.data.labels.items import DatasetType
from onecycle.data.labels.lists import CategoryList, EmptyLabelList, FloatList, MultiCategoryList
from onecycle.errors import ArgumentError, LabelError


def split(path: Path, **columns: object) -> SplitList:
    frame = pd.read_csv(path / "labels.csv").assign(**columns)
    return ImageList.from_df(frame, path, folder="train", suffix=".jpg").split_by_idx(range(48, 60))


def test_the_parts_of_the_lists_and_of_the_bunch_say_the_same(colour_path):
    lists = split(colour_path).label_from_df().add_test_folder("train")
    data = lists.transform(None, size=16).databunch(bs=4, pixel_cache="off")
    assert (len(lists.train), len(lists.valid), len(lists.test)) == (48, 12, 60)
    picture, label = lists.train[1]
    assert (picture.shape, str(label)) == ((3, 40, 40), "green")
    assert data.train_ds.x[1].shape == (3, 16, 16)
    for part in (lists.train, data.train_ds):
        assert isinstance(part.y, CategoryList)
        assert part.y.classes == ["blue", "green", "red"]
        assert part.y.c2i == {"blue": 0, "green": 1, "red": 2}
        assert part.y.items.tolist() == [2, 1, 0] * 16
        assert str(part.x.items[0]) == f"{colour_path}/train/p000.jpg"
    assert isinstance(data.train_ds.x.items[0], str)  # as in the table
    assert isinstance(data.test_ds.items[0], Path)  # as the folder was listed
    assert isinstance(data.test_ds.y, EmptyLabelList)


def test_tags_give_lists_of_their_indices(colour_path):
    tags = pd.read_csv(colour_path / "tags.csv")["tags"]
    lists = split(colour_path, label=tags).label_from_df(label_cls=MultiCategoryList, label_delim=" ")
    assert isinstance(lists.valid.y, MultiCategoryList)
    assert lists.train.y.items[0] == [1, 3] == [lists.train.y.c2i[name] for name in ("even", "red")]
    assert lists.train.y.items[1] == [2]


def test_label_cls_decides_what_the_labels_leave_open(colour_path):
    numbers = split(colour_path, label=np.arange(60) % 3)
    assert numbers.label_from_df().labels.classes == [0, 1, 2]
    assert numbers.label_from_df(label_cls=CategoryList).labels.classes == [0, 1, 2]
    as_tags = numbers.label_from_df(label_cls=MultiCategoryList).labels
    assert (as_tags.is_multi, as_tags.targets.sum()) == (True, 60)
    as_numbers = numbers.label_from_df(label_cls=FloatList).labels
    assert (as_numbers.kind, as_numbers.targets.dtype, as_numbers.targets[:4].tolist()) == (
        "numbers",
        np.float32,
        [0, 1, 2, 0],
    )


def test_a_bunch_of_numbers(colour_path):
    lists = split(colour_path, age=np.arange(60) / 4).label_from_df("age", label_cls=FloatList)
    data = lists.transform(None, size=16).databunch(bs=4, pixel_cache="off")
    assert (data.c, data.is_regression, data.is_multi) == (1, True, False)
    assert float(data.train_ds.y[3]) == 0.75
    assert str(data.train_ds[3][1]) == "0.75"
    _, y = data.one_batch(DatasetType.Valid)
    assert (y.dtype, y.tolist()) == (torch.float32, [12, 12.25, 12.5, 12.75])
    assert "1 numbers a picture" in repr(data)
    data.show_batch(2)
    with pytest.raises(ArgumentError, match=r"counting classes is for classes or tags, and these labels are numbers"):
        data.prevalence()


def test_several_numbers_a_picture_and_their_logarithm(colour_path):
    parts = split(colour_path, x=np.arange(1, 61), y=2.0)
    both = parts.label_from_df(["x", "y"], label_cls=FloatList).labels
    assert both.targets[:2].tolist() == [[1, 2], [2, 2]]
    assert len(both.classes) == 2
    logs = parts.label_from_df("x", label_cls=FloatList, log=True).labels
    assert logs.targets == pytest.approx(np.log(np.arange(1, 61)))
    assert parts.label_from_func(lambda p: len(p.name), label_cls=partial(FloatList)).labels.targets[0] == 8


@pytest.mark.parametrize(
    ("cell", "words"), [("old", "could not convert string"), (np.nan, "finite number a picture, but row 1 has nan")]
)
def test_what_is_no_number_is_refused(colour_path, cell, words):
    ages = pd.Series([1.0] * 60, dtype=object)
    ages[1] = cell
    with pytest.raises(LabelError, match=words):
        split(colour_path, age=ages).label_from_df("age", label_cls=FloatList)


def test_numbers_and_classes_do_not_meet(colour_path):
    numbers = split(colour_path, n=np.arange(60)).label_from_df("n", label_cls=FloatList).labels
    classes = split(colour_path).label_from_df().labels
    with pytest.raises(ArgumentError, match="the new data has numbers where the learner's has single labels"):
        check_same_classes(classes, numbers)


def test_test_pictures_with_and_without_a_label(colour_path):
    data = ImageDataBunch.from_csv(colour_path, folder="train", suffix=".jpg", size=16, bs=4, pixel_cache="off")
    assert data.test_ds is None
    data.add_test(ImageList.from_folder(colour_path / "train"))
    assert len(data.test_ds) == 60
    assert [str(label) for label in data.test_ds.y[:2]] == ["", ""]
    data.add_test([f"{colour_path}/train/p001.jpg"] * 2, label="green")
    assert [str(label) for _, label in data.test_ds] == ["green", "green"]
    assert data.test_dl.batch_at(0, 0).y.tolist() == [1, 1]
    with pytest.raises(LabelError, match=r"not in classes=: violet"):
        data.add_test([f"{colour_path}/train/p001.jpg"], label="violet")


def test_what_reads_the_pictures_is_not_set_on_a_part(colour_path):
    data = split(colour_path).label_from_df().transform(None, size=16).databunch(bs=4, pixel_cache="off")
    assert data.train_ds.x.open(data.train_ds.items[0]).shape == (3, 40, 40)
    with pytest.raises(AttributeError, match="open"):
        data.train_ds.x.open = len
