"""From settings to data and learner; and what is found by looking."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import PIL.Image
import pytest

from onecycle.learner.heads.exchange import adopt_network
from onecycle.model.choice import Chosen
from onecycle.model.levels import BodyLevels
from onecycle.model.weights import PACKAGED
from onecycle.runs.build import layout_of, make_bunch, make_learner, metrics_of, settled, with_batches, with_size
from onecycle.runs.config import DEFAULT_EPOCHS, EPOCHS_OF_FEW, RunConfig
from onecycle.train.metrics import metric_name


def config(**given) -> RunConfig:
    return RunConfig.merged(None, given)


def picture(folder, name: str, height: int, width: int) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(np.zeros((height, width, 3), dtype=np.uint8)).save(folder / name)
    return str(folder / name)


@pytest.mark.parametrize(
    ("sides", "size", "why"),
    [
        ((300, 256), 224, "the usual size; the pictures have 256 px"),
        ((28, 28), 64, "the pictures have 28 px"),
        ((64, 90), 64, "the pictures have 64 px"),
        ((150, 150), 160, "the pictures have 150 px"),
        ((200, 200), 224, "the pictures have 200 px"),
    ],
)
def test_the_size_follows_the_pictures(tmp_path, sides, size, why):
    paths = [picture(tmp_path, f"{i}.png", *sides) for i in range(3)]
    found = with_size(config(data="x"), paths)
    assert (found.size, found.origin("size")) == (size, why)


def test_a_given_size_stays(tmp_path):
    assert with_size(config(data="x", size=96), [picture(tmp_path, "a.png", 28, 28)]).size == 96


def test_unreadable_pictures_say_nothing_about_the_size(tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no picture")
    found = with_size(config(data="x"), [str(tmp_path / "bad.png"), str(tmp_path / "gone.png")])
    assert (found.size, found.origin("size")) == (224, "the usual size: no picture's header could be read")


def test_what_the_layout_says_is_noted(colour_path, monkeypatch):
    monkeypatch.chdir(colour_path.parent)
    asked = config(data=colour_path.name, csv="tags.csv")
    found = settled(asked, layout_of(asked))
    assert found.data == str(colour_path.resolve())
    assert (found.suffix, found.label_delim, found.fn_col) == (".jpg", " ", "name")
    assert [found.origin(n) for n in ("data", "csv", "suffix")] == ["option", "option", "found by looking"]
    again = settled(found, layout_of(found))
    assert again.values() == found.values()


def test_the_name_is_that_of_the_data(tmp_path, colour_path):
    folder = tmp_path / "My Réd/Pictures"
    for label in ("a", "b"):
        picture(folder / label, "1.png", 32, 32)
    asked = config(data=str(folder))
    assert settled(asked, layout_of(asked)).name == "pictures"
    asked = config(data=str(colour_path), csv="labels.csv", name="mine")
    assert settled(asked, layout_of(asked)).name == "mine"


def test_the_network_is_chosen_for_the_pictures_and_the_time_and_fetched_only_where_auto_was_asked_for(
    colour_path, monkeypatch
):
    asked = []

    def choose(*counts, **options):
        asked.append((*counts, options))
        return Chosen("resnet18", "it is the best")

    monkeypatch.setattr("onecycle.runs.build.choose_network", choose)
    data = {"data": str(colour_path), "csv": "labels.csv"}
    for more in ({}, {"arch": "auto", "minutes": 2.0}):
        given = RunConfig.merged(None, {**data, **more})
        found = settled(given, layout_of(given))
        assert (found.arch, found.origin("arch")) == ("resnet18", "auto: it is the best")
    (_, n_valid, own), (_, _, other) = asked
    assert n_valid == round(0.2 * (asked[0][0] + n_valid))
    assert (own["fetch"], own["epochs"], own["budget_s"]) == (False, EPOCHS_OF_FEW, 600)
    assert (other["fetch"], other["budget_s"]) == (True, 120)
    named = RunConfig.merged(None, {**data, "arch": "resnet34"})
    assert settled(named, layout_of(named)).arch == "resnet34"
    weights = RunConfig.merged(None, {**data, "weights": "mine.pth"})
    assert settled(weights, layout_of(weights)).arch == PACKAGED
    assert len(asked) == 2


def test_few_pictures_train_for_more_epochs_where_nothing_says_how_long(colour_path, monkeypatch):
    given = config(data=str(colour_path), csv="labels.csv", arch="resnet18")
    found = settled(given, layout_of(given))
    assert (found.epochs, found.origin("epochs")) == (EPOCHS_OF_FEW, "default")
    monkeypatch.setattr("onecycle.runs.build.LAST_STEPS", EPOCHS_OF_FEW * 3)  # 48 pictures make three batches of 16
    many = settled(given, layout_of(given))
    assert (many.epochs, many.origin("epochs")) == (DEFAULT_EPOCHS, "default")
    for own in ({"epochs": 1}, {"minutes": 2.0}):
        asked = replace(given, **own)
        assert settled(asked, layout_of(asked)).length == (own.get("epochs"), own.get("minutes"))


def test_batches_follow_the_number_of_pictures(colour_path):
    asked = config(data=str(colour_path), csv="labels.csv", size=32)
    data = make_bunch(asked, layout_of(asked))
    found, smaller = with_batches(asked, data)
    assert (found.bs, smaller.batch_size) == (16, 16)
    assert found.origin("bs") == "for 48 training pictures: 3 steps an epoch"
    assert np.array_equal(smaller.split.train, data.split.train)
    few = make_bunch(replace(asked, valid_pct=0.6), layout_of(asked))
    found, smaller = with_batches(asked, few)
    assert found.bs == smaller.batch_size == 6  # a quarter of 24
    assert with_batches(config(data="x", bs=5), data)[1] is data


def test_the_learner_is_that_of_the_settings(colour_path, tmp_path):
    asked = config(data=str(colour_path), csv="labels.csv", size=32, flip=False, max_rotate=0.0, seed=3)
    data = make_bunch(asked, layout_of(asked))
    assert data.seed == 3
    assert {t.name for t in data.train_tfms} == {"crop_pad", "symmetric_warp", "zoom", "brightness", "contrast"}
    learn = make_learner(asked, data, tmp_path)
    assert learn.silent
    assert learn.path == tmp_path
    assert not next(learn.model.parameters()).requires_grad


@pytest.mark.parametrize(
    ("given", "head"),
    [
        ({}, {}),
        ({"levels": "none"}, {"levels": None}),
        ({"levels": 2}, {"levels": 2, "views": 2}),
        ({"levels": 2, "flip_vert": True}, {"levels": 2, "views": 4}),
        ({"levels": 2, "test_views": False}, {"levels": 2, "views": 1}),
    ],
)
def test_the_head_reads_the_stages_of_the_settings(colour_path, tmp_path, given, head):
    asked = config(data=str(colour_path), csv="labels.csv", size=32, **given)
    learn = make_learner(asked, make_bunch(asked, layout_of(asked)), tmp_path)
    assert learn.network["head"] == head
    assert [len(m.at) + m.with_last for m in learn.model if isinstance(m, BodyLevels)] == [2] * ("views" in head)


def test_a_network_whose_head_ends_in_sets_is_made_once(colour_path, tmp_path):
    asked = config(data=str(colour_path), csv="tags.csv", size=32)
    head = {"levels": "auto", "views": 2, "sets": 3}
    learn = make_learner(asked, make_bunch(asked, layout_of(asked)), tmp_path, pretrained=False, head=head)
    model, saved = learn.model, {"arch": learn.network["arch"], "head": dict(head)}
    adopt_network(learn, saved)
    assert learn.model is model
    assert learn.network == saved


def test_metrics_of_the_log():
    assert [metric_name(m) for m in metrics_of(is_multi=True)] == ["fbeta"]
    assert [metric_name(m) for m in metrics_of(is_multi=False)] == ["accuracy"]
