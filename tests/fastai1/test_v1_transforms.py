"""Transforms of one picture in v1's ways to call them; they agree with those of batches, and a user's own train."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from onecycle.data.augment.augmenter import BatchAugmenter
from onecycle.data.labels.items import DatasetType
from onecycle.errors import ArgumentError, OnecycleWarning
from onecycle.fastai1.networks.layers import simple_cnn
from onecycle.fastai1.pictures import transforms as T
from onecycle.fastai1.pictures.data import ImageDataBunch, ImageList
from onecycle.fastai1.pictures.image import Image
from onecycle.fastai1.pictures.in_batches import as_v1, get_transforms, to_product
from onecycle.fastai1.pictures.tfms import RandTransform, TfmAffine, TfmCoord, TfmLighting, TfmPixel
from onecycle.fastai1.torch_core import set_all_seed, uniform
from onecycle.fastai1.training.learner import Learner

SLOWER = "run on one picture after the other"


def picture(rows: int = 24, cols: int = 32, channels: int = 3) -> Image:
    levels = np.random.RandomState(0).randint(0, 256, (channels, rows, cols))
    return Image(torch.tensor(levels, dtype=torch.uint8))


def _fade(x, share: uniform = 0.5):
    return x * (1 - share)


fade = TfmPixel(_fade)
FIXED = {
    "rotate": {"degrees": 30},
    "zoom": {"scale": 1.5, "row_pct": 0.2, "col_pct": 1},
    "squish": {"scale": 1.3},
    "flip_affine": {},
    "dihedral_affine": {"k": 5},
    "symmetric_warp": {"magnitude": (0.1, 0.2, -0.1, 0.05)},
    "perspective_warp": {"magnitude": (0.1, 0.2, -0.1, 0.05, 0.1, 0.0, 0.0, 0.2)},
    "tilt": {"direction": 2, "magnitude": 0.3},
    "skew": {"direction": 5, "magnitude": 0.3},
    "flip_lr": {},
    "dihedral": {"k": 3},
    "brightness": {"change": 0.7},
    "contrast": {"scale": 1.4},
    "crop_pad": {"row_pct": 0.3, "col_pct": 0.9},
    "pad": {"padding": 4},
    "crop": {"size": (20, 18), "row_pct": 0.2},
}


@pytest.mark.parametrize("name", FIXED)
def test_a_picture_and_a_batch_are_changed_alike(name):
    tfm, seen = getattr(T, name)(**FIXED[name]), picture()
    alone = seen.apply_tfms(tfm).px
    augmenter = BatchAugmenter(to_product(tfm), size=tuple(alone.shape[1:]), padding_mode="reflection")
    canvas = torch.from_numpy(seen.numpy().copy()).permute(2, 0, 1)[None]
    batch = augmenter(canvas, np.array([[24, 32]]), np.random.default_rng(0))
    assert not torch.equal(alone, seen.px) or name == "crop_pad"
    assert torch.allclose(batch[0], alone, atol=2e-3)


@pytest.mark.parametrize("name", FIXED)
def test_the_ways_to_call_one(name):
    options = {k: torch.tensor(v) if k == "magnitude" and isinstance(v, tuple) else v for k, v in FIXED[name].items()}
    options |= {"size": (20, 20)} if name == "crop_pad" else {}
    transform = getattr(T, name)
    by_method = getattr(picture(), name)(**options).px
    assert torch.equal(transform(picture(), **options).px, by_method)
    assert torch.equal(transform(**options, is_random=False)(picture()).px, by_method)


@pytest.mark.parametrize("name", FIXED)
def test_to_batches_and_back(name):
    tfm = getattr(T, name)(**FIXED[name], **({} if name == "pad" else {"p": 0.25}))
    once = to_product(tfm)
    assert to_product(as_v1(once)) == once
    assert once[0].name == name


def test_draws_and_probability():
    tfm = T.rotate(degrees=(-40, 40), p=0.5)
    assert (tfm.__name__, tfm.order, tfm.tfm) == ("rotate", 5, T.rotate)
    angles, runs = [], []
    set_all_seed(0)
    for _ in range(200):
        tfm.resolve()
        angles.append(tfm.resolved["degrees"])
        runs.append(tfm.do_run)
    assert -40 <= min(angles) < -35
    assert 35 < max(angles) <= 40
    assert 70 < sum(runs) < 130
    tfm.do_run = False
    assert torch.equal(picture().apply_tfms(tfm, do_resolve=False).px, picture().px)
    assert torch.equal(
        picture().apply_tfms(T.tilt(direction=(0, 3), magnitude=0.1), xtra={T.tilt: {"direction": 1}}).px,
        picture().tilt(direction=1, magnitude=0.1).px,
    )


def test_what_waits_is_done_when_pixels_are_asked_for():
    seen = picture().rotate(degrees=20).zoom(scale=1.2)
    assert seen.affine_mat.shape == (3, 3)
    together = seen.affine_mat.clone()
    by_hand = picture().affine(lambda: together)
    assert torch.allclose(seen.px, by_hand.px)
    assert picture().resize(12).px.shape == (3, 12, 12)
    small = picture()
    assert small.resize((3, 6, 8)) is small
    assert small.data.shape == (3, 6, 8)
    copied = small.clone()
    copied.px = torch.zeros(3, 2, 2)
    assert (copied.size, small.size, copied.device.type) == ((2, 2), (6, 8), "cpu")
    shifted = picture().coord(lambda c: type(c)(c.size, c.flow.flip(2)))
    assert torch.allclose(shifted.px, picture().flip_lr().px, atol=1e-5)


@pytest.mark.parametrize(
    ("size", "how", "expected"),
    [
        (20, {}, (20, 20)),
        ((20, 28), {}, (20, 28)),
        ((3, 20, 28), {}, (20, 28)),
        (20, {"resize_method": "no"}, (24, 32)),
        (20, {"mult": 16}, (16, 16)),
        (40, {"resize_method": "pad"}, (40, 40)),
    ],
)
def test_sizes(size, how, expected):
    assert picture().apply_tfms([], size=size, **how).size == expected


def test_channels():
    assert picture(channels=1).apply_tfms(get_transforms()[0], size=20).shape == (1, 20, 20)
    assert picture(channels=4).apply_tfms(get_transforms()[0], size=20).shape == (4, 20, 20)
    assert picture(channels=4)._repr_png_()[:4] == b"\x89PNG"
    assert picture(channels=1).numpy().shape == (24, 32, 3)


def test_what_is_no_transform_is_refused():
    with pytest.raises(ArgumentError, match=r"call it: rotate\(\.\.\.\)"):
        picture().apply_tfms([T.rotate])
    with pytest.raises(ArgumentError, match="expected a transform"):
        to_product(3)


def test_lists_of_transforms():
    train, valid = get_transforms(flip_vert=True, max_zoom=None, xtra_tfms=[fade(p=0.5), *T.rand_pad(3, 20)])
    names = [tfm.__name__ for tfm in train]
    assert names == ["crop_pad", "dihedral_affine", "symmetric_warp", "rotate", "brightness", "contrast",
                     "fade", "pad", "crop"]  # fmt: skip
    assert [tfm.__name__ for tfm in valid] == ["crop_pad"]
    assert all(isinstance(tfm, RandTransform) for tfm in train)
    window, cut = T.rand_resize_crop(12)
    drawn = {picture().apply_tfms([window, cut]).px.mean().item() for _ in range(8)}
    assert len(drawn) == 8
    assert [t.name for t in to_product([window, cut, *T.zoom_crop((1, 2), do_rand=True)])] == [
        "zoom_squish", "crop", "zoom", "crop_pad"]  # fmt: skip


def test_wrappers_of_functions():
    @TfmCoord
    def _mirror(c):
        c.flow = c.flow.flip(2)
        return c

    darker = TfmLighting(lambda x, by: x - by)
    stretch = TfmAffine(lambda by: [[by, 0, 0], [0, 1, 0], [0, 0, 1]])
    assert torch.allclose(picture().mirror().px, picture().flip_lr().px, atol=1e-5)
    assert torch.allclose(_mirror()(picture()).px, picture().flip_lr().px, atol=1e-5)
    assert darker(picture(), 1).px.mean() < picture().px.mean()
    assert torch.allclose(stretch(picture(), 0.7).px, picture().squish(scale=0.7).px, atol=1e-5)
    assert repr(fade) == "TfmPixel (fade)"


# -- in training ---------------------------------------------------------------------------------------------------


def bunch(path, tfms, **options):
    lists = ImageList.from_folder(path / "train").split_by_rand_pct(0.2, seed=3)
    labelled = lists.label_from_func(lambda p: int(p.stem[-1]) % 2)
    return labelled.transform(tfms, size=20).databunch(bs=8, pixel_cache="memory", device="cpu", **options)


def test_a_transform_of_one_s_own_trains(colour_path, tmp_path):
    with pytest.warns(OnecycleWarning, match=rf"TfmPixel \(fade\): they {SLOWER}"):
        data = bunch(colour_path, get_transforms(xtra_tfms=[fade(share=(0.4, 0.6))]))
    plain = bunch(colour_path, ([], []))
    x, positions = data.one_batch()[0], data.train_dl.batch_at(0, 0).indices
    full = torch.stack([plain.train_ds[int(i)][0].px for i in positions]).mean((1, 2, 3))
    assert (x.mean((1, 2, 3)) < full * 0.85).all()
    state = random.random(), np.random.random(), torch.rand(1)
    set_all_seed(5)
    first = random.random(), np.random.random(), torch.rand(1)
    set_all_seed(5)
    assert torch.equal(data.one_batch()[0], x)
    assert (random.random(), np.random.random(), torch.rand(1)) == first != state
    assert not torch.equal(data.train_dl.batch_at(1, 0).x, x)
    learn = Learner(data.normalize(), simple_cnn((3, 4, 2)), silent=True, path=tmp_path)
    learn.fit_one_cycle(1)
    assert learn.TTA()[0].shape == (12, 2)
    assert torch.isfinite(learn.get_preds(DatasetType.Train)[0]).all()
    data.show_batch(2)


def test_only_one_s_own_makes_it_slow(colour_path):
    data = bunch(colour_path, (get_transforms()[0] + T.rand_resize_crop(20), []))
    assert type(data.train_dl.augmenter) is BatchAugmenter
    assert data.valid_dl.augmenter is None


def test_a_picture_of_another_size_is_named(colour_path):
    halved = TfmPixel(lambda x: x[:, ::2], order=100)
    halved.__name__ = "halved"
    with pytest.warns(OnecycleWarning, match=SLOWER):
        data = bunch(colour_path, ([halved()], []))
    with pytest.raises(ArgumentError, match=r"\(3, 10, 20\) after these transforms, where \(3, 20, 20\)"):
        data.one_batch()


def test_a_data_set_shows_its_transforms(colour_path):
    data = bunch(colour_path, ([T.flip_lr(p=1)], []))
    straight, mirrored = data.fix_ds[3][0], data.train_ds[3][0]
    assert torch.equal(mirrored.px, straight.px.flip(-1))
    assert [t.__name__ for t in data.train_ds.tfms] == ["flip_lr"]
    assert data.valid_ds.tfms == []
    assert data.train_ds.tfmargs["size"] == (20, 20)
    own = [T.flip_lr(p=0)]
    data.train_ds.tfms = own
    assert data.train_ds.tfms[0] is own[0]
    assert torch.equal(data.train_ds[3][0].px, straight.px)
    batch = data.train_dl.batch_at(0, 0)
    assert torch.equal(batch.x[0], data.fix_ds[int(batch.indices[0])][0].px), "what is set holds for batches, too"


def test_bunches_made_at_once_take_v1_s_transforms(colour_path):
    how = {"folder": "train", "suffix": ".jpg", "size": 16, "bs": 4, "pixel_cache": "memory"}
    data = ImageDataBunch.from_csv(colour_path, ds_tfms=get_transforms(), **how)
    assert data.train_ds.tfms[0].tfm is T.crop_pad
    with pytest.warns(OnecycleWarning, match=SLOWER):
        ImageDataBunch.from_csv(colour_path, ds_tfms=([fade()], []), **how)
