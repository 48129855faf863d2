"""Views share what is decoded, and given pictures go through the preprocess of the data."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from torch import nn

from onecycle.data.augment.augmenter import BatchAugmenter
from onecycle.data.augment.transforms import get_transforms, tta_views
from onecycle.data.bunch import ImageDataBunch
from onecycle.data.labels.items import DatasetType
from onecycle.data.pixels import reading
from onecycle.data.pixels.image import Image, open_image
from onecycle.deploy.predictor import as_picture
from onecycle.errors import ArgumentError, DataError
from onecycle.learner import tta as inference
from onecycle.train.evaluate import evaluate

TFMS = get_transforms(flip_vert=True, max_lighting=0.3)
LOSS = nn.CrossEntropyLoss()


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 5, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3))


def data_of(path, **options) -> ImageDataBunch:
    options = {"folder": "train", "suffix": ".jpg", "size": 32, "bs": 5, "ds_tfms": TFMS, **options}
    return ImageDataBunch.from_csv(path, **options)


def one_by_one(model, loader, views) -> torch.Tensor:
    """The mean of views, each in a pass of its own."""
    spec = loader.dataset.store.spec
    total = torch.zeros(())
    for number, tfms in enumerate(views):
        augmenter = BatchAugmenter(tfms, size=spec.size, padding_mode=spec.padding_mode)
        view = loader.replace(augmenter=augmenter)
        view.set_epoch(number)
        total = total + evaluate(model, view, LOSS).logits.softmax(dim=1)
    return total / len(views)


@pytest.mark.parametrize("pixel_cache", ["memory", "off"])
@pytest.mark.parametrize("bs", [5, 12, 64])
def test_the_mean_of_views_is_that_of_single_passes_and_decodes_once(colour_path, model, pixel_cache, bs, monkeypatch):
    data = data_of(colour_path, bs=bs, pixel_cache=pixel_cache)
    data.prepare()
    assert data.store.in_memory == (pixel_cache == "memory")
    views = tta_views(TFMS[0])
    expected = one_by_one(model, data.valid_dl, views)
    gathered, decoded = [], []
    real_gather, real_decode = data.store.gather, reading.decode_for
    monkeypatch.setattr(
        data.store, "gather", lambda rows, **how: gathered.append(len(rows)) or real_gather(rows, **how)
    )
    monkeypatch.setattr(reading, "decode_for", lambda *a: decoded.append(a) or real_decode(*a))
    found = inference.mean_of_views(model, data.valid_dl, views, activ=lambda x: x.softmax(dim=1), mode="bilinear")
    assert torch.equal(found, expected)
    assert found.std() > 0
    assert sum(gathered) == 12
    assert len(gathered) == len(data.valid_dl)
    assert len(decoded) == (0 if pixel_cache == "memory" else 12)


def test_views_of_an_ordered_training_part_too(colour_path, model):
    data = data_of(colour_path)
    views = tta_views(TFMS[0])[:3]
    loader = data.loader(DatasetType.Fix)
    found = inference.mean_of_views(model, loader, views, activ=lambda x: x.softmax(dim=1), mode="bilinear")
    assert found.shape == (48, 3)
    assert torch.equal(found, one_by_one(model, loader, views))


def test_files_are_passed_on_and_pixels_become_images(colour_path):
    path = str(colour_path / "train" / "p000.jpg")
    data = Path(path).read_bytes()
    stream = io.BytesIO(data)
    for file in (path, Path(path), data, stream):
        assert as_picture(file) is file
    image = open_image(path)
    assert as_picture(image) is image
    with PIL.Image.open(path) as picture:
        assert as_picture(picture) == data, "a file that Pillow opened is decoded as files are"
        picture.load()
        for pixels in (image.numpy(), image.px, image.data, picture):
            given = as_picture(pixels)
            assert isinstance(given, Image)
            assert torch.equal(given.px, image.px)
    for wrong in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((3, 4, 5), np.uint8), 7, [[1], [2, 3]], {}):
        with pytest.raises(ArgumentError, match=r"uint8 \(H, W, 3\); received"):
            as_picture(wrong)


def test_a_given_file_is_decoded_as_the_data_s_own(colour_path):
    data = data_of(colour_path)
    path = data.valid_ds.items[3]
    expected = data.valid_dl.batch_at(0, 0).x[3]
    for form in (path, Path(path), Path(path).read_bytes(), io.BytesIO(Path(path).read_bytes())):
        assert torch.equal(data.single_loader([form], stats=None).batch_at(0, 0).x[0], expected)


def test_a_given_file_that_is_no_picture_is_named(colour_path, tmp_path):
    data = data_of(colour_path)
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    for wrong, name in (
        (tmp_path / "a.jpg", r"a\.jpg as a picture: .*not a picture"),
        (tmp_path / "b.jpg", r"b\.jpg as a picture: no such file"),
        (b"x", "these bytes as a picture"),
        (io.BytesIO(b""), "these bytes as a picture"),
    ):
        with pytest.raises(DataError, match=f"cannot read .*{name}"):
            list(data.single_loader([wrong], stats=None))
