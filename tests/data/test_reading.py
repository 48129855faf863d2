"""Pictures read by a function of the user's: the same for training, validation, test and prediction."""

from __future__ import annotations

import numpy as np
import PIL.Image
import pytest
import torch

from onecycle.data.data_block import ImageList
from onecycle.data.labels.items import DatasetType
from onecycle.data.pixels.image import Image, open_image
from onecycle.data.pixels.reading import Reading
from onecycle.data.pixels.resize import ResizeSpec
from onecycle.data.pixels.store import PixelStore
from onecycle.errors import UnreadableImagesError


class Negatives(ImageList):
    """Pictures, bright and dark exchanged."""

    def open(self, fn):
        return Image(255 - open_image(fn).px)


def bunch(kind: type[ImageList], path, **options):
    lists = kind.from_csv(path, "labels.csv", folder="train", suffix=".jpg").split_by_rand_pct().label_from_df()
    return lists.add_test_folder("train").transform(None, size=options.pop("size", 24)).databunch(bs=8, **options)


@pytest.mark.parametrize("pixel_cache", ["disk", "memory", "off"])
def test_a_subclass_with_open_reads_every_part(colour_path, pixel_cache):
    plain, negative = bunch(ImageList, colour_path), bunch(Negatives, colour_path, pixel_cache=pixel_cache)
    for part in (DatasetType.Fix, DatasetType.Valid, DatasetType.Test):
        there, here = (data.loader(part).batch_at(0, 0).x for data in (plain, negative))
        assert torch.allclose(here, 1 - there, atol=1.01 / 255)
    negative.prepare()
    assert torch.equal(negative.loader(DatasetType.Test).batch_at(0, 0).x, here)
    assert negative.store.is_packed == (pixel_cache != "off")
    assert not negative.store.is_packed or negative.store.in_memory  # no later run could know what ``open`` does
    alone = negative.single_loader(list(negative.valid_ds.items), stats=None).batch_at(0, 0).x
    assert torch.equal(alone, negative.valid_dl.batch_at(0, 0).x)


def test_each_picture_is_read_once_for_its_size_and_its_pixels(colour_path):
    calls = []

    def read(path):
        calls.append(path)
        return open_image(path)

    paths = [f"{colour_path}/train/p{i:03d}.jpg" for i in range(5)]
    store = PixelStore(paths, ResizeSpec.make(16), reading=Reading(read), threads=1)
    assert store.fill() == []
    assert sorted(calls) == paths
    assert store.read(0).shape == (16, 16, 3)


def test_a_function_that_fails_names_the_picture(colour_path):
    class Fails(ImageList):
        def open(self, fn):
            raise KeyError("no such channel")

    data = bunch(Fails, colour_path)
    with pytest.raises(UnreadableImagesError, match=r"p000\.jpg \(Fails\.open|Fails\.open raised KeyError"):
        data.prepare()


def test_grey_pictures_have_one_channel(colour_path):
    class Grey(ImageList):
        @property
        def reading(self):
            return Reading(lambda path: open_image(path, "L"), channels=1)

    data = bunch(Grey, colour_path).normalize(([0.5], [0.25]))
    x = data.valid_dl.batch_at(0, 0).x
    assert x.shape == (8, 1, 24, 24)
    grey = np.asarray(PIL.Image.open(data.valid_ds.items[0]).convert("RGB").convert("L"), dtype=np.float32) / 255
    assert float(x[0].mean()) == pytest.approx((grey.mean() - 0.5) / 0.25, abs=0.02)


def test_open_image_converts_and_calls_what_comes_after(colour_path):
    path = colour_path / "train" / "p000.jpg"
    grey = open_image(path, "L")
    assert grey.shape == (3, 40, 40)
    assert torch.equal(grey.px[0], grey.px[2])
    assert torch.equal(
        grey.px[0], torch.from_numpy(np.array(PIL.Image.fromarray(open_image(path).numpy()).convert("L")))
    )
    assert open_image(path, after_open=lambda picture: picture.resize((10, 20))).size == (20, 10)
