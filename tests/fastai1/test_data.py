"""fastai v1's data block: in place, with its keywords, its items and its ways to read pictures."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from onecycle.data.batches import imagenet_stats
from onecycle.data.labels.items import DatasetType
from onecycle.data.labels.lists import FloatList, MultiCategoryList
from onecycle.errors import ArgumentError
from onecycle.fastai1.modules import module
from onecycle.fastai1.pictures.arrays import open_image
from onecycle.fastai1.pictures.data import ImageDataBunch, ImageList, LabelLists
from onecycle.fastai1.pictures.image import Image
from onecycle.fastai1.pictures.in_batches import get_transforms

MEMORY = {"pixel_cache": "memory"}


def table(path, **columns) -> pd.DataFrame:
    return pd.read_csv(path / "labels.csv").assign(**columns)


def listed(path, **columns) -> ImageList:
    return ImageList.from_df(table(path, **columns), path, cols=["name"], folder="train", suffix=".jpg")


def test_lists_change_in_place(colour_path):
    src = listed(colour_path).split_by_rand_pct(0.2).label_from_df(cols="label")
    assert isinstance(src, LabelLists)
    assert (src.c, src.classes, src.y.c2i["red"], len(src.x)) == (3, ["blue", "green", "red"], 2, 48)
    src.add_test(ImageList.from_folder(colour_path / "train"))
    src.transform(get_transforms(), size=16)
    data = src.databunch(bs=4, device="cpu", **MEMORY)
    assert isinstance(data, ImageDataBunch)
    assert (len(data.test_ds), data.lists.resize.size) == (60, (16, 16))
    assert data.train_ds.tfms[0].__name__ == "crop_pad"
    assert data.label_list is data.lists
    pictures = listed(colour_path)
    pictures.filter_by_func(lambda name: name.endswith("0.jpg"))
    assert len(pictures) == 6


def test_parts_of_split_lists(colour_path):
    parts = listed(colour_path).split_by_idx([0, 1])
    assert (len(parts.train), len(parts.valid)) == (58, 2)
    assert parts.valid[1].shape == (3, 40, 40)
    assert isinstance(parts.train[:5], ImageList)
    again = listed(colour_path).split_by_list(parts.train, parts.valid).label_from_folder()
    assert (len(again.train), len(again.valid)) == (58, 2)


def test_labels_of_floats_are_numbers_and_sep_is_an_older_spelling(colour_path):
    parts = listed(colour_path, level=np.arange(60) % 3 / 1.0, tags=["a b", "b"] * 30).split_none()
    assert isinstance(parts.label_from_df("level").train.y, FloatList)
    assert isinstance(parts.label_from_df(["tags"], sep=" ").train.y, MultiCategoryList)
    assert parts.label_from_func(lambda name: name[-5]).labels.classes == list("0123456789")
    assert parts.label_const(7).labels.classes == [7]
    data = ImageDataBunch.from_df(
        colour_path, table(colour_path, label=["a b", "b"] * 30), folder="train", suffix=".jpg", sep=" ", size=16, bs=4,
        tfms=get_transforms(), **MEMORY,
    )  # fmt: skip
    assert (data.classes, data.is_multi, len(data.train_tfms)) == (["a", "b"], True, 7)


def test_one_picture_and_one_batch(colour_path):
    data = ImageDataBunch.from_csv(colour_path, folder="train", suffix=".jpg", size=16, bs=4, **MEMORY)
    plain = data.one_batch(DatasetType.Valid)[0]
    data.normalize(imagenet_stats)
    x, _ = data.one_item(data.valid_ds.x[0])
    assert x.shape == (1, 3, 16, 16)
    assert torch.allclose(data.denorm(x)[0], plain[0], atol=1e-5)
    assert torch.equal(data.one_item(data.valid_ds.x[0], denorm=True)[0][0], plain[0])
    batches = list(data.dl(DatasetType.Valid))
    assert (len(batches), data.dl(DatasetType.Valid).batch_size) == (3, 4)
    assert torch.allclose(data.denorm(batches[0].x), plain, atol=1e-5)
    data.show_batch(rows=2, cmap="gray")
    with pytest.raises(ArgumentError, match="normalize twice"):
        data.normalize(imagenet_stats)


def test_transforms_that_are_set_on_a_data_set_are_used(colour_path):
    data = ImageDataBunch.from_csv(colour_path, folder="train", suffix=".jpg", size=16, bs=12, **MEMORY)
    dl = data.dl(DatasetType.Valid)
    plain = next(iter(dl)).x
    dl.dataset.tfms = [t for t in get_transforms(do_flip=True)[0] if t.__name__ == "flip_lr"]
    seen = torch.cat([next(iter(dl)).x for _ in range(6)])
    flipped = [torch.equal(seen[i], plain[i % 12].flip(-1)) for i in range(72)]
    same = [torch.equal(seen[i], plain[i % 12]) for i in range(72)]
    assert all(a or b for a, b in zip(flipped, same, strict=True))
    assert 10 < sum(flipped) < 62


def test_what_is_put_in_place_of_open_image_reads_the_pictures(colour_path, monkeypatch):
    called = []

    def mine(fn, convert_mode, after_open):
        called.append((str(fn), convert_mode, after_open))
        return Image(1 - open_image(fn).px)

    monkeypatch.setattr(module("vision.data"), "open_image", mine, raising=False)
    data = ImageDataBunch.from_csv(colour_path, folder="train", suffix=".jpg", size=(40, 40), bs=4, **MEMORY)
    picture = data.valid_ds.x[0]
    assert torch.allclose(picture.px, 1 - open_image(data.valid_ds.items[0]).px)
    assert (data.valid_ds.items[0], "RGB", None) in called
    x, _ = data.one_item(data.valid_ds.items[0], denorm=True)
    assert torch.allclose(x[0], picture.data)


def test_subclasses_with_get_or_open(colour_path):
    class Numbered(ImageList):
        def get(self, i):
            return Image(torch.full((3, 8, 8), len(self.items[i].name), dtype=torch.uint8))

    class Dark(ImageList):
        def open(self, fn):
            return Image(open_image(fn).px / 2)

    numbered = Numbered.from_folder(colour_path / "train").split_none().label_from_func(lambda path: path.stem[-1])
    numbered.add_test(Numbered.from_folder(colour_path / "train"))
    data = numbered.databunch(bs=4, **MEMORY)
    assert set((data.one_batch(DatasetType.Test)[0] * 255).round().unique().tolist()) == {8}
    dark = Dark.from_folder(colour_path).split_none().label_from_folder()
    assert torch.allclose(dark.train[0][0].px, open_image(dark.train.items[0]).px / 2, atol=1 / 500)


def test_grey_pictures(colour_path):
    grey = ImageList.from_folder(colour_path, convert_mode="L").split_none().label_from_func(lambda path: path.stem[-1])
    data = grey.transform(None, size=20).databunch(bs=4, **MEMORY).normalize()
    assert data.one_batch()[0].shape == (4, 1, 20, 20)
    assert data.one_item(data.train_ds.x[0])[0].shape == (1, 1, 20, 20)


def test_folders_and_files(colour_path, tmp_path):
    pictures = ImageList.from_folder(colour_path, include=["train"])
    assert len(pictures) == 60
    assert len(ImageList.from_folder(colour_path).filter_by_folder(exclude="train")) == 0
    two = ImageList(pictures.items[:2], colour_path)
    two.path = tmp_path
    two.to_text("two.txt")
    assert [line[-8:] for line in (tmp_path / "two.txt").read_text().splitlines()] == ["p000.jpg", "p001.jpg"]
    assert len(listed(colour_path).filter_by_rand(0.5)) == pytest.approx(30, abs=12)
    split = listed(colour_path).split_subsets(0.5, 0.2).split
    assert (len(split.train), len(split.valid), len(set(split.train) & set(split.valid))) == (30, 12, 0)


def test_the_batch_size_is_set_on_the_bunch(colour_path):
    data = ImageDataBunch.from_csv(colour_path, folder="train", suffix=".jpg", size=16, bs=4, **MEMORY)
    data.batch_size = 6
    assert (data.batch_size, data.train_dl.batch_size, data.valid_dl.batch_size) == (6, 6, 6)
    with pytest.raises(ArgumentError, match="is not known here"):
        data.presize()


def test_what_v1_would_have_obeyed_is_refused(colour_path):
    pictures = ImageList.from_folder(colour_path)
    labelled = pictures.split_none().label_from_func(lambda path: path.stem[-1])
    calls = [
        lambda: ImageList.from_folder(colour_path, processor=[print]),
        lambda: ImageList(pictures.items, colour_path, processr=None),
        lambda: ImageList.from_folder(colour_path, processr=None),
        lambda: labelled.add_test(pictures, tfms=[]),
        lambda: labelled.databunch(bs=4, **MEMORY).normalize(imagenet_stats, do_x=False),
    ]
    for call in calls:
        with pytest.raises((ArgumentError, TypeError), match=r"is not known here|processr"):
            call()
    assert len(ImageList(pictures.items, colour_path, label_cls=None, processor=None)) == len(pictures)
