"""What v1's notebooks exported and loaded again: learners of numbers, and of pictures read in ways of their own."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest
import torch
from torch import nn

import onecycle
from onecycle.deploy.folder import open_model
from onecycle.deploy.predictor import Predictor
from onecycle.deploy.serve.app import make_app
from onecycle.errors import ArgumentError, CheckpointError
from onecycle.fastai1.modules import module
from onecycle.fastai1.pictures import readers

vision = module("vision")
SIDE = 24


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Pictures of four channels, each in a file of its own, the first three together, too; 20 small ones."""
    root = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for i in range(20):
        pixels = np.clip(rng.normal(40 + 8 * i, 4, (SIDE, SIDE + 4, 4)), 0, 255).astype(np.uint8)
        PIL.Image.fromarray(pixels[..., :3]).save(root / f"{i}.png")
        for c in range(4):
            PIL.Image.fromarray(pixels[..., c]).save(root / f"{i}_{c}.png")
    return root


class Inverted(vision.ImageList):
    """Reads each picture in reversed levels."""

    def open(self, fn):
        return vision.Image(1 - vision.pil2tensor(PIL.Image.open(fn), np.float32).div_(255))


class FourChannels(vision.ImageList):
    """Reads four files as one picture; its items are no files."""

    def open(self, fn):
        layers = [np.asarray(PIL.Image.open(f"{fn}_{c}.png")) for c in range(4)]
        return vision.Image(vision.pil2tensor(np.stack(layers, axis=-1), np.float32).div_(255))


def data_of(root, kind=vision.ImageList, *, suffix=".png", label=lambda i: i % 2, label_cls=None, **reading):
    items = kind([root / f"{i}{suffix}" for i in range(20)], root, **reading)
    split = items.split_by_idx(list(range(0, 20, 4)))
    lists = split.label_from_func(lambda p: label(int(p.stem)), label_cls=label_cls)
    return lists.transform(None, size=16).databunch(bs=5).normalize()


def learner_of(data, n_out, channels=3, ends=()):
    torch.manual_seed(0)
    head = [vision.AdaptiveConcatPool2d(1), vision.Flatten(), nn.Linear(16, n_out), *ends]
    learn = vision.Learner(data, nn.Sequential(nn.Conv2d(channels, 8, 3), nn.ReLU(), *head), silent=True)
    learn.fit(1, 1e-2)
    return learn


def exported(learn, folder):
    learn.path = folder
    learn.export(archive=False)
    return folder / "export"


@pytest.fixture(scope="module")
def numbers(pictures, tmp_path_factory):
    """A learner of two numbers between 5 and 6, and the folder that it was exported into."""
    data = data_of(pictures, label=lambda i: [5 + i / 20, 6 - i / 20], label_cls=vision.FloatList)
    learn = learner_of(data, 2, ends=[vision.SigmoidRange(5, 6)])
    return learn, exported(learn, tmp_path_factory.mktemp("numbers"))


@pytest.fixture(scope="module")
def inverted(pictures, tmp_path_factory):
    """A learner whose pictures a class of the notebook reads, and the folder that it was exported into."""
    learn = learner_of(data_of(pictures, Inverted), 2)
    return learn, exported(learn, tmp_path_factory.mktemp("inverted"))


def run(folder, *words):
    return subprocess.run([sys.executable, *map(str, words)], cwd=folder, capture_output=True, text=True, check=False)


def test_numbers_come_back_as_they_were_predicted(numbers):
    learn, folder = numbers
    paths, expected = learn.data.valid_ds.items, learn.get_preds()[0]
    loaded = vision.load_learner(folder.parent, test=vision.ImageList(paths))
    predicted, zeros = loaded.get_preds(vision.DatasetType.Test)
    torch.testing.assert_close(predicted, expected, rtol=1e-5, atol=0)
    assert (predicted.shape, zeros.tolist()) == ((5, 2), [0] * 5)
    assert 5 < float(predicted.min()) < float(predicted.max()) < 6
    item, found, _ = loaded.predict(vision.open_image(paths[0]))
    torch.testing.assert_close(found, expected[0], rtol=1e-5, atol=0)
    assert str(item) == str(learn.predict(paths[0])[0])
    assert (len(loaded.data.valid_ds.items), loaded.data.c) == (0, 2)


def test_the_folder_of_numbers_answers_by_itself_and_says_how_good_they_are(numbers):
    learn, folder = numbers
    checked = run(folder, "test.py")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    said = json.loads(run(folder, "predict.py", learn.data.valid_ds.items[0]).stdout)["numbers"]
    assert list(said) == ["number 0", "number 1"]
    assert list(said.values()) == pytest.approx(learn.get_preds()[0][0].tolist(), rel=1e-5)
    manifest = json.loads((folder / "manifest.json").read_text())
    values, targets, *_ = learn.get_preds()
    mean_squared, absolute = (s["value"] for s in manifest["scores"])
    assert mean_squared == pytest.approx(float((values - targets).square().mean()), rel=1e-5)
    assert absolute == pytest.approx(float((values - targets).abs().mean()), rel=1e-5)
    assert manifest["scores"][0]["baseline"] == pytest.approx(
        float(targets.var(dim=0, unbiased=False).mean()), rel=1e-5
    )
    card = (folder / "README.md").read_text()
    assert "predicts 2 numbers of a picture" in card
    assert "classifier" not in card
    assert "labels" not in card.split("## Limits")[1]


def test_numbers_in_python(numbers):
    learn, folder = numbers
    paths = [str(p) for p in learn.data.valid_ds.items]
    found = onecycle.load(folder).numbers([*paths, "nowhere.png"])
    torch.testing.assert_close(torch.from_numpy(found.values), learn.get_preds()[0], rtol=1e-5, atol=0)
    assert (found.names, [f.path for f in found.failed]) == (("number 0", "number 1"), ["nowhere.png"])
    assert "5 pictures, 2 numbers each; 1 file could not be read" in repr(found)
    with pytest.raises(ArgumentError, match="numbers, not classes"):
        onecycle.load(folder).predict(paths)
    with pytest.raises(ArgumentError, match="gives numbers"):
        make_app(open_model(folder))


def test_what_only_labels_have_is_refused_for_numbers(numbers, tmp_path):
    learn, _ = numbers
    learn.path = tmp_path
    for options, said in (({"weights": "half"}, "fewer bits"), ({"web": True}, "a page")):
        with pytest.raises(ArgumentError, match=said):
            learn.export(**options)
    assert list(tmp_path.iterdir()) == []


def test_a_saved_model_of_numbers_predicts_without_its_data(pictures, tmp_path):
    data = data_of(pictures, label=float)
    learn = vision.cnn_learner(data, vision.models.resnet18, pretrained=False, y_range=(0, 20), silent=True)
    learn.save(tmp_path / "saved")
    found = Predictor.load(tmp_path / "saved", device="cpu").numbers([str(p) for p in data.valid_ds.items])
    torch.testing.assert_close(torch.from_numpy(found.values), learn.get_preds()[0], rtol=1e-5, atol=1e-5)
    assert found.names == ("number",)


def test_a_network_that_gives_one_number_a_picture_without_a_dimension_for_it(pictures, tmp_path):
    class Flat(nn.Sequential):
        def forward(self, x):
            return super().forward(x).squeeze(-1)

    learn = vision.Learner(data_of(pictures, label=float), Flat(nn.Flatten(), nn.Linear(768, 1)), silent=True)
    learn.fit_one_cycle(1, 1e-3)
    paths = learn.data.valid_ds.items
    assert learn.get_preds()[0].shape == (5,)
    exported(learn, tmp_path)
    loaded = vision.load_learner(tmp_path, test=paths)
    torch.testing.assert_close(loaded.get_preds()[0][:, 0], learn.get_preds()[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(learn.predict(paths[0])[1], loaded.predict(paths[0])[1], rtol=1e-4, atol=1e-4)
    learn.show_results(rows=2)


def test_grey_pictures_are_made_grey_inside_the_exported_network(pictures, tmp_path):
    learn = learner_of(data_of(pictures, convert_mode="L"), 2, channels=1)
    paths = learn.data.valid_ds.items
    assert learn.data.one_batch()[0].shape[1] == 1
    folder = exported(learn, tmp_path)
    loaded = vision.load_learner(tmp_path, test=paths)
    torch.testing.assert_close(loaded.get_preds()[0], learn.get_preds()[0], rtol=0, atol=1e-5)
    colours = vision.open_image(paths[0])  # not grey yet: the preprocess makes it so, on both sides
    torch.testing.assert_close(loaded.predict(colours)[2], learn.predict(colours)[2], rtol=0, atol=1e-5)
    assert run(folder, "test.py").returncode == 0


def test_a_class_of_the_notebook_reads_for_what_it_exported(inverted):
    learn, folder = inverted
    paths = learn.data.valid_ds.items
    found = vision.load_learner(folder.parent, test=paths).get_preds()[0]
    torch.testing.assert_close(found, learn.get_preds()[0], rtol=0, atol=1e-5)
    plain = vision.load_learner(folder.parent, test=paths, reader=vision.open_image).get_preds()[0]
    assert not torch.allclose(plain, found, atol=1e-3)  # another reader, other pixels


def test_a_class_that_is_not_there_is_named(inverted, monkeypatch):
    learn, folder = inverted
    monkeypatch.setattr(readers, "KINDS", {})
    monkeypatch.setattr(readers, "_USED", {})
    with pytest.raises(CheckpointError, match=r"Inverted.*reader="):
        vision.load_learner(folder.parent)
    with pytest.raises(CheckpointError, match=r"Inverted.*reader="):
        onecycle.load(folder)
    said = run(folder, "predict.py", learn.data.valid_ds.items[0])
    assert (said.returncode, "read by Inverted" in said.stdout) == (3, True)
    assert "Inverted" in (folder / "README.md").read_text()
    with pytest.raises(ArgumentError, match="Inverted"):
        make_app(open_model(folder))


def test_four_channels_train_and_are_exported(pictures, tmp_path):
    data = data_of(pictures, FourChannels, suffix="")
    assert (data.one_batch()[0].shape, len(data.stats[0])) == ((5, 4, 16, 16), 4)
    learn = learner_of(data, 2, channels=4)
    expected = learn.get_preds()[0]
    assert learn.TTA()[0].shape == expected.shape
    exported(learn, tmp_path)
    found = vision.load_learner(tmp_path, test=data.valid_ds.items).get_preds()[0]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    data.show_batch(rows=2)
    learn.show_results(rows=2)
