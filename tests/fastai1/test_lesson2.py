"""Lesson 2's files and widgets, v1's ways to call a transform, and the small helpers."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import PIL.Image
import pytest
import requests
import torch
from torch import nn

from onecycle.data.labels.items import DatasetType
from onecycle.fastai1 import core, torch_core
from onecycle.fastai1.networks.layers import simple_cnn
from onecycle.fastai1.pictures import files, transforms
from onecycle.fastai1.pictures.arrays import open_image
from onecycle.fastai1.pictures.cleaning import ClassConfusion, DatasetFormatter, ImageCleaner
from onecycle.fastai1.pictures.data import ImageDataBunch
from onecycle.fastai1.pictures.image import Image
from onecycle.fastai1.pictures.in_batches import get_transforms
from onecycle.fastai1.training.learner import Learner


@pytest.fixture
def folder(tmp_path):
    for name, side in (("a.jpg", 30), ("b.png", 90)):
        PIL.Image.new("RGB", (side, side // 2), "red").save(tmp_path / name)
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    return tmp_path


def test_pictures_are_fetched_and_what_fails_is_printed(tmp_path, monkeypatch, capsys):
    class Answer:
        content = b"pixels"

        def raise_for_status(self):
            pass

    def get(url, timeout):
        if "gone" in url:
            raise requests.ConnectionError("no such host")
        return Answer()

    monkeypatch.setattr(requests, "get", get)
    (tmp_path / "urls.csv").write_text("http://a/x.PNG?size=1\nhttp://a/gone.jpg\n\nhttp://a/page\nhttp://a/last.jpg\n")
    files.download_images(tmp_path / "urls.csv", tmp_path / "new", max_pics=3, max_workers=1)
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["00000000.png", "00000002.jpg"]
    assert capsys.readouterr().out == "Error http://a/gone.jpg no such host\n"


def test_pictures_that_cannot_be_read_are_named_and_deleted_where_asked(folder, capsys):
    before = (folder / "a.jpg").read_bytes()
    files.verify_images(folder, delete=False, max_workers=1)
    assert "bad.jpg" in capsys.readouterr().out
    files.verify_images(folder, delete=True, max_size=40, max_workers=1)
    assert sorted(p.name for p in folder.iterdir()) == ["a.jpg", "b.png"]
    assert open_image(folder / "b.png").size == (20, 40)
    assert (folder / "a.jpg").read_bytes() == before
    files.verify_images(folder, max_size=20, dest="small")
    assert open_image(folder / "small" / "a.jpg").size == (10, 20)
    assert [p.name for p in files.get_files(folder, [".PNG"], recurse=True, exclude=["small"])] == ["b.png"]


@pytest.fixture(scope="module")
def learn(colour_path, tmp_path_factory):
    path = {"folder": "train", "suffix": ".jpg"}
    data = ImageDataBunch.from_csv(colour_path, **path, size=16, bs=12, pixel_cache="memory").normalize()
    torch.manual_seed(0)
    return Learner(data, simple_cnn((3, 8, 3)), silent=True, path=tmp_path_factory.mktemp("models"))


def test_cleaning_writes_a_table_and_changes_no_file(learn, colour_path, tmp_path, capsys):
    dataset, rows = DatasetFormatter.from_toplosses(learn, n_imgs=4)
    losses = learn.get_preds(DatasetType.Fix, with_loss=True)[2]
    assert rows == losses.topk(4).indices.tolist()
    cleaner = ImageCleaner(dataset, rows, colour_path, batch_size=3)
    assert cleaner.shown == rows[:3]
    cleaner.path = tmp_path
    cleaner.delete(rows[0])
    cleaner.relabel(rows[1], "violet")
    cleaner.next_batch()
    cleaner.next_batch()
    assert capsys.readouterr().out == "No images to show :)\n"
    table = pd.read_csv(tmp_path / "cleaned.csv")
    assert list(table.columns) == ["name", "label"]
    assert len(table) == 47
    assert table["label"].value_counts()["violet"] == 1
    assert (tmp_path / table["name"][0]).resolve().is_file()


def test_confused_classes_are_drawn(learn):
    interp = learn.interpret()
    confusion = ClassConfusion(interp, ["red", "green", "blue"])
    wrong = int((interp.pred_class != interp.y_true).sum())
    assert sum(len(rows) for rows in confusion.found.values()) == wrong
    assert len(plt.get_fignums()) == sum(bool(rows) for rows in confusion.found.values())


def test_transforms_are_called_as_v1_did(colour_path):
    picture = open_image(colour_path / "train" / "p000.jpg")
    assert torch.equal(transforms.flip_lr(picture.clone()).px, picture.px.flip(-1))
    train = get_transforms()[0]
    kept = [o.__name__ for o in train if o.tfm not in (transforms.crop_pad, transforms.flip_lr, transforms.zoom)]
    assert kept == ["symmetric_warp", "rotate", "brightness", "contrast"]
    assert set(transforms.__all__) >= {"rotate", "brightness", "rand_resize_crop"}


def test_a_picture_takes_transforms(colour_path):
    picture = open_image(colour_path / "train" / "p000.jpg")
    torch_core.set_all_seed(3)
    one = picture.apply_tfms(get_transforms()[0], size=24)
    torch_core.set_all_seed(3)
    assert torch.equal(one.px, picture.apply_tfms(get_transforms()[0], size=24).px)
    assert one.shape == (3, 24, 24)
    assert picture.apply_tfms([], size=(10, 20), resize_method="squish").size == (10, 20)
    axes = plt.subplots()[1]
    Image(torch.zeros(1, 4, 4)).show(axes, cmap="gray", y="a label")
    assert (axes.get_title(), axes.images[0].get_array().shape) == ("a label", (4, 4))


def test_helpers_of_core(tmp_path):
    assert core.listify(None) == []
    assert core.listify("ab") == ["ab"]
    assert core.listify(3, 2) == [3, 3]
    with pytest.raises(ValueError, match="2 values for a length of 3"):
        core.listify([1, 2], 3)
    assert [core.try_int(v) for v in ("3", "x", 2.9, None)] == ["3", "x", 2, None]
    assert core.one_hot([0, 2], 3).tolist() == [1, 0, 1]
    assert core.even_mults(1, 100, 3).tolist() == pytest.approx([1, 10, 100])
    assert core.uniqueify([2, 1, 2]) == [2, 1]
    assert core.first_el({"a": [(4, 5)]}) == 4
    assert core.partition([1, 2, 3], 2) == [[1, 2], [3]]
    assert core.df_names_to_idx(["b", 0], pd.DataFrame({"a": [1], "b": [2]})) == [1, 0]
    assert core.has_arg(lambda a, b=1: a, "b")
    assert core.camel2snake("MyThing2Do") == "my_thing2_do"
    assert core.show_some(range(7), 3) == "0,1,2..."
    assert core.parallel(lambda value, i: value * i, [3, 4]) == [0, 4]
    core.save_texts(tmp_path / "t.txt", ["a", "b"])
    assert core.loadtxt_str(tmp_path / "t.txt").tolist() == ["a", "b"]
    assert core.array(range(3)).tolist() == [0, 1, 2]
    assert core.defaults.device.type in ("cpu", "cuda")
    assert not hasattr(core.defaults, "nothing")
    (train,), (valid,) = core.random_split(0.5, np.arange(50))
    assert sorted([*train, *valid]) == list(range(50))


def test_helpers_for_tensors_and_networks():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Sequential(nn.Flatten(), nn.Linear(4, 2)))
    assert [type(m).__name__ for m in torch_core.flatten_model(model)] == ["Conv2d", "BatchNorm2d", "Flatten", "Linear"]
    assert [len(part) for part in torch_core.split_model_idx(model, [1])] == [1, 3]
    torch_core.requires_grad(model, False)
    assert (torch_core.requires_grad(model), torch_core.trainable_params(model)) == (False, [])
    torch_core.requires_grad(model, True)
    torch_core.apply_init(model, nn.init.zeros_)
    assert (float(model[0].weight.detach().abs().sum()), float(model[1].weight.detach()[0])) == (0, 1)
    x = torch.rand(4, 3)
    assert torch.equal(torch_core.grab_idx([x], 2)[0], x[2])
    assert torch.allclose(torch_core.logit(x).sigmoid(), x, atol=1e-5)
    assert torch_core.to_half({"a": [x]})["a"][0].dtype == torch.float16
    torch_core.set_all_seed(1)
    first = (torch_core.uniform(2, 3), torch_core.uniform_int(1, 6), torch_core.log_uniform(1, 10))
    torch_core.set_all_seed(1)
    assert first == (torch_core.uniform(2, 3), torch_core.uniform_int(1, 6), torch_core.log_uniform(1, 10))
    with pytest.raises(ValueError, match="received 2 and 3"):
        torch_core.flatten_check(torch.zeros(2, 1), torch.zeros(3))
