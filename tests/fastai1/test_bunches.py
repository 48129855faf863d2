"""fastai v1's bunch: its loaders, data without pictures, lists of the notebook's own, and where networks are cut."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from torch.utils.data import WeightedRandomSampler

from onecycle.data.labels.items import DatasetType
from onecycle.errors import ArgumentError, CheckpointError
from onecycle.fastai1.bunch.bunch import load_data
from onecycle.fastai1.modules import module
from onecycle.fastai1.networks.wrn import WideResNet
from onecycle.fastai1.pictures import readers
from onecycle.fastai1.pictures.data import ImageDataBunch, ImageList, LabelLists
from onecycle.fastai1.training.learner import cnn_learner

vision = module("vision")
MEMORY = {"pixel_cache": "memory"}


class Negative(ImageList):
    """Reads each picture in reversed levels."""

    def open(self, fn):
        return vision.Image(1 - vision.open_image(fn).px)


def lists_of(path, kind=ImageList):
    return kind.from_csv(path, "labels.csv", folder="train", suffix=".jpg").split_by_rand_pct(0.2).label_from_df()


def data_of(path, kind=ImageList, size=16):
    return lists_of(path, kind).transform(None, size=size).databunch(bs=8, device="cpu", **MEMORY)


def test_each_pass_through_training_batches_has_its_own_order(colour_path):
    data = data_of(colour_path)
    first, second = ([b.indices.tolist() for b in data.train_dl] for _ in range(2))
    assert first != second
    assert sorted(np.concatenate(first)) == sorted(np.concatenate(second))
    assert [b.indices.tolist() for b in data.valid_dl] == [b.indices.tolist() for b in data.valid_dl]
    dl = data.train_dl
    dl.set_epoch(0)
    assert [b.indices.tolist() for b in dl] == first
    assert [b.indices.tolist() for b in dl] == second


def test_loaders_have_v1s_names(colour_path):
    data = data_of(colour_path)
    dl = data.train_dl.dl
    assert (dl.batch_size, dl.dataset is data.train_ds, dl.num_workers > 0, dl.tfms) == (8, True, True, [])
    dl.num_workers = 0
    assert len(data.dls) == 3
    assert dl.one_batch()[0].shape == (8, 3, 16, 16)


def test_a_loader_made_anew_is_used_where_it_is_set(colour_path):
    data = data_of(colour_path)
    data.train_dl = data.train_dl.new(shuffle=False, batch_size=5, num_workers=2)
    assert [b.indices.tolist() for b in data.train_dl][:2] == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    assert len(data.loader(DatasetType.Train)) == 48 // 5
    weights = [1.0] * 47 + [1000.0]
    data.train_dl = data.train_dl.new(sampler=WeightedRandomSampler(weights, 48))
    drawn = torch.cat([b.indices for b in data.train_dl])
    assert (drawn == 47).float().mean() > 0.9
    data.valid_dl = data.valid_dl.new(batch_size=3)
    assert len(data.valid_dl) == 4
    with pytest.raises(ArgumentError, match=r"new\(collate_fn=...\)"):
        data.train_dl.new(collate_fn=list)
    with pytest.raises(ArgumentError, match=r"new\(sampler=...\)"):
        data.train_dl.new(sampler=range(4))


def test_functions_added_after_normalize_see_normalised_pictures(colour_path):
    data, seen = data_of(colour_path), []
    data.normalize(([0.5] * 3, [0.1] * 3))

    def look(batch):
        seen.append(float(batch[0].max()))
        return batch[0] * 2, batch[1]

    plain = data.one_batch(DatasetType.Valid, denorm=False)[0]
    data.add_tfm(look)
    changed = data.one_batch(DatasetType.Valid, denorm=False)[0]
    assert seen[0] == pytest.approx(float(plain.max()), rel=1e-4)
    torch.testing.assert_close(changed, plain * 2, rtol=1e-4, atol=1e-4)


def test_parts_of_the_data_have_the_list_of_the_notebook(colour_path):
    data = data_of(colour_path, Negative)
    assert isinstance(data.train_ds.x, Negative)
    assert isinstance(data.valid_ds.x, Negative)
    first = data.valid_ds.x.items[0]
    assert (len(data.train_ds.x), len(data.valid_ds.x)) == (48, 12)
    assert torch.equal(data.valid_ds.x[0].px, 1 - vision.open_image(first).px)
    assert torch.equal(data.valid_ds.x.open(first).px, data.valid_ds.x[0].px)
    assert data.valid_ds.x[0].shape == (3, 40, 40)  # as the file is
    assert data.valid_ds[0][0].shape == (3, 16, 16)  # as the network sees it


def test_open_set_on_a_list_reads_all_pictures(colour_path):
    data = data_of(colour_path)
    before = data.one_batch(DatasetType.Valid)[0]
    data.train_ds.x.open = lambda fn: vision.Image(1 - vision.open_image(fn).px)
    after = data.one_batch(DatasetType.Valid)[0]
    torch.testing.assert_close(after, 1 - before, rtol=0, atol=1.1 / 255)  # rounded once, on 8 bits
    item = data.valid_ds.x.items[0]
    torch.testing.assert_close(data.one_item(item, denorm=True)[0], after[:1], rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", [ImageList, Negative])
def test_data_without_pictures_predict_as_those_that_were_exported(colour_path, tmp_path, kind, monkeypatch):
    data = data_of(colour_path, kind)
    data.normalize()
    data.path = tmp_path
    learn = cnn_learner(data, vision.models.resnet18, pretrained=False, silent=True)
    learn.save("trained")
    item = data.valid_ds.x.items[0]
    data.export()
    empty = ImageDataBunch.load_empty(tmp_path)
    assert (empty.classes, empty.stats, len(empty), empty.is_empty) == (data.classes, data.stats, 0, True)
    again = cnn_learner(empty, vision.models.resnet18, pretrained=False, silent=True).load("trained")
    torch.testing.assert_close(again.predict(item)[2], learn.predict(item)[2])
    assert LabelLists.load_empty(tmp_path / "export.pkl").classes == data.classes
    with pytest.raises(CheckpointError, match=r"data.export\(\) writes it"):
        ImageDataBunch.load_empty(tmp_path, "other.pkl")
    monkeypatch.setattr(readers, "KINDS", {"ImageList": ImageList})
    if kind is Negative:
        with pytest.raises(CheckpointError, match="Negative"):
            ImageDataBunch.load_empty(tmp_path)


def test_empty_data_of_numbers_and_tags(colour_path, tmp_path):
    for labels, kind in (([[1.0, 2.0]] * 60, vision.FloatList), ([["a", "b"], ["b"]] * 30, vision.MultiCategoryList)):
        items = ImageList.from_csv(colour_path, "labels.csv", folder="train", suffix=".jpg").split_by_rand_pct(0.2)
        data = items.label_from_list(labels, label_cls=kind).databunch(tmp_path, bs=8, device="cpu", **MEMORY)
        data.export("some")
        empty = ImageDataBunch.load_empty(tmp_path, "some")
        assert (empty.classes, empty.is_multi, empty.is_regression) == (data.classes, data.is_multi, data.is_regression)


def test_a_share_of_all_folders_validates(tmp_path):
    from PIL import Image

    for part, n in (("train", 6), ("valid", 4), ("test", 5)):
        for name in ("a", "b", "c"):
            (tmp_path / part / name).mkdir(parents=True)
            for i in range(n):
                Image.new("RGB", (8, 8), (i, 0, 0)).save(tmp_path / part / name / f"{i}.png")
    data = ImageDataBunch.from_folder(tmp_path, valid_pct=0.5, seed=3, test="test", bs=2, size=8, **MEMORY)
    assert (len(data.train_ds), len(data.valid_ds), len(data.test_ds)) == (15, 15, 15)
    parts = {item.parent.parent.name for item in data.valid_ds.x.items}
    assert parts == {"train", "valid"}
    drawn = np.random.RandomState(3).permutation(30)[:15]
    everything = ImageList.from_folder(tmp_path).filter_by_folder(exclude="test").items
    assert set(data.valid_ds.x.items) == set(everything[sorted(drawn)])
    usual = ImageDataBunch.from_folder(tmp_path, test="test", bs=2, size=8, **MEMORY)
    assert (len(usual.train_ds), len(usual.valid_ds)) == (18, 12)
    two = ImageDataBunch.from_folder(tmp_path, valid_pct=0.5, classes=["a", "b"], bs=2, size=8, **MEMORY)
    assert (two.classes, len(two)) == (["a", "b"], 30)


def test_wide_networks_and_where_networks_are_cut(colour_path):
    network = WideResNet(num_groups=3, N=1, num_classes=3, k=2, n_in_channels=1)
    assert network(torch.zeros(2, 1, 16, 16)).shape == (2, 3)
    assert len([m for m in vision.models.wrn_22().modules() if isinstance(m, torch.nn.Conv2d)]) == 22
    meta = module("vision.learner").cnn_config(vision.models.resnet18)
    assert meta["cut"] == -2
    data = data_of(colour_path)
    learn = cnn_learner(
        data, vision.models.resnet18, pretrained=False, cut=meta["cut"], split_on=meta["split"], silent=True
    )
    assert [len(list(g.parameters())) > 0 for g in learn.layer_groups] == [True] * 3

    def small(pretrained):
        return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Linear(4, 4))

    module("vision.learner").model_meta[small] = {"cut": -1, "split": lambda m: (m[0][1], m[1])}
    own = cnn_learner(data, small, pretrained=False, silent=True)
    assert (len(own.layer_groups), len(own.model[0])) == (3, 2)


def test_saved_data_move_with_their_folder_and_damaged_ones_say_so(colour_path, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(colour_path, moved)
    data = data_of(moved, Negative)
    data.save("kept")
    shutil.move(moved, tmp_path / "there")
    again = load_data(tmp_path / "there", "kept", bs=8, device="cpu", **MEMORY)
    assert torch.equal(
        again.one_batch(DatasetType.Valid)[0], data_of(colour_path, Negative).one_batch(DatasetType.Valid)[0]
    )
    assert again.split.how == data.split.how
    file = tmp_path / "there" / "kept.data.json"
    saved = json.loads(file.read_text())
    for change in (
        {"targets": saved["targets"][1:]},
        {"targets": [99, *saved["targets"][1:]]},
        {"split": {"train": [10**9], "valid": [], "how": ""}},
        {"tfms": [[{"name": "no such", "kind": "affine", "params": {}, "p": 1}], []]},
    ):
        file.write_text(json.dumps(saved | change))
        with pytest.raises(CheckpointError, match="damaged or of another kind"):
            load_data(tmp_path / "there", "kept")
    with pytest.raises(CheckpointError, match=r"data.save\(...\) writes it"):
        load_data(tmp_path, "kept")


@pytest.mark.filterwarnings("ignore:transforms of your own")
def test_data_with_functions_among_their_transforms_are_not_saved(colour_path):
    own = vision.TfmPixel(lambda x: x)
    data = lists_of(colour_path).transform(([own()], []), size=16).databunch(bs=8, device="cpu", **MEMORY)
    with pytest.raises(ArgumentError, match="is a function, which no file of data can hold"):
        data.save("kept")


def test_one_hot_that_the_labels_contradict(colour_path):
    split = ImageList.from_folder(colour_path).split_none()
    with pytest.raises(ArgumentError, match="one_hot=True is for labels that are vectors"):
        split.label_from_func(lambda p: p.stem[-1], one_hot=True)
    with pytest.raises(ArgumentError, match="one_hot=False with vectors"):
        split.label_from_func(lambda p: [0, 1], one_hot=False, classes=["a", "b"])
