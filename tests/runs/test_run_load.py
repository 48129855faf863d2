"""A run taken up again: its learner without its pictures, its data with its split, its predictions."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest

from onecycle.deploy.predictor import Predictor
from onecycle.errors import CheckpointError, DataError, DataWarning
from onecycle.runs.build import layout_of, make_bunch, make_learner, settled
from onecycle.runs.config import RunConfig
from onecycle.runs.folder import RunFolder
from onecycle.runs.load import interpretation_of, load_bunch, load_learner
from onecycle.runs.predictions import write_predictions
from onecycle.runs.split import read_split, split_text


@pytest.fixture(scope="module")
def made(tmp_path_factory, colour_path):
    """A data set with tags, and a run over it."""
    root = tmp_path_factory.mktemp("load")
    shutil.copytree(colour_path / "train", root / "colours" / "train")
    lines = (colour_path / "tags.csv").read_text().splitlines()[:41]
    (root / "colours" / "labels.csv").write_text("\n".join(lines) + "\n")
    asked = RunConfig.merged(None, {"data": str(root / "colours"), "size": 32, "bs": 8, "epochs": 0})
    layout = layout_of(asked)
    config = settled(asked, layout)
    data = make_bunch(config, layout)
    run = RunFolder.create(root / "runs", "colours")
    learn = make_learner(config, data, run.path)
    learn.precompute = 0
    learn.fit_one_cycle(2, 1e-2)
    found = learn.interpret()
    learn.choose_thresholds()
    learn.save(run.model_stem.resolve(), with_opt=False)
    run.write_text(run.config, config.to_yaml())
    run.write_text(run.split, split_text(data))
    run.write_json(run.data, {"classes": [str(c) for c in data.classes]})
    write_predictions(found.predictions, run.predictions)
    return run, learn, root


@pytest.fixture
def copied(made, tmp_path) -> tuple[RunFolder, Path]:
    """The run, over a copy of the data that a test may change."""
    run, _, root = made
    shutil.copytree(root / "colours", tmp_path / "colours")
    shutil.copytree(run.path, tmp_path / "run")
    other = RunFolder(tmp_path / "run")
    other.write_text(other.config, run.config.read_text().replace(str(root), str(tmp_path)))
    return other, tmp_path / "colours"


def test_a_predictor_needs_no_training_pictures(made):
    run, learn, _ = made
    alone = Predictor.load(run.path)
    picture = learn.data.valid_ds.items[0]
    said = alone.predict(picture)
    label, _, probs = learn.predict(picture)
    assert ";".join(said.names_of(said.decided[0])) == str(label)
    assert np.allclose(said.shown_probs[0], probs, atol=1e-5)
    assert alone.calibrated.thresholds == learn.thresholds is not None


def test_the_data_comes_back_with_its_split(made):
    run, learn, _ = made
    data = load_bunch(run)
    assert np.array_equal(data.split.train, learn.data.split.train)
    assert np.array_equal(data.split.valid, learn.data.split.valid)
    probs = load_learner(run, bunch=data).get_preds()[0]
    assert np.allclose(probs, learn.get_preds()[0], atol=1e-5)


def test_a_head_on_several_stages_is_built_once(made, tmp_path, monkeypatch):
    run, learn, _ = made
    config = RunConfig.read(run.config)
    stages = make_learner(config, learn.data, tmp_path, head={"levels": "auto"})
    stem = tmp_path / "stages"
    stages.save(stem, with_opt=False)
    monkeypatch.setattr("onecycle.learner.heads.exchange.create_cnn_model", None)
    again = load_learner(run, bunch=learn.data, stem=stem)
    assert np.array_equal(again.get_preds()[0], stages.get_preds()[0])


def test_predictions_are_not_made_again(made, monkeypatch):
    run, learn, _ = made
    again = load_learner(run, bunch=load_bunch(run))
    before = learn.interpret()
    monkeypatch.setattr(type(again), "get_preds", None)
    found = interpretation_of(run, again)
    assert np.array_equal(found.preds, before.preds)
    assert found.metrics()[0].value == pytest.approx(before.metrics()[0].value)


def test_the_split_is_the_runs_own_when_rows_were_moved_and_added(copied):
    run, folder = copied
    head, *rows = (folder / "labels.csv").read_text().splitlines()
    shutil.copy(folder / "train" / "p000.jpg", folder / "train" / "new.jpg")
    (folder / "labels.csv").write_text("\n".join([head, "new,red", *reversed(rows)]) + "\n")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data = load_bunch(run)
    assert any("1 picture came to" in str(w.message) for w in caught)
    valid = {Path(data.store.paths[r]).name for r in data.split.valid}
    assert valid == {Path(file).name for file, part in read_split(run.split) if part == "valid"}
    assert len(data.split.train) + len(data.split.valid) == 40


def test_pictures_that_are_gone_are_named(copied):
    run, folder = copied
    lines = (folder / "labels.csv").read_text().splitlines()
    (folder / "labels.csv").write_text("\n".join([lines[0], *lines[3:]]) + "\n")
    with pytest.raises(DataError, match=r"2 pictures .* no longer in .*p000\.jpg, train/p001\.jpg"):
        load_bunch(run)


def test_other_classes_are_named(copied):
    run, folder = copied
    text = (folder / "labels.csv").read_text()
    (folder / "labels.csv").write_text(text.replace("even", "odd"))
    with pytest.raises(DataError, match="gone even; new odd"):
        load_bunch(run)


def test_data_that_is_gone_is_an_error_that_names_the_run(copied):
    run, folder = copied
    shutil.rmtree(folder)
    with pytest.raises(DataError, match=r"the data of .*run cannot be read again"):
        load_bunch(run)
    assert len(Predictor.load(run.path).classes) == 4  # predicting still works


def test_a_file_listed_twice_keeps_both_parts(tmp_path, colour_path):
    shutil.copytree(colour_path / "train", tmp_path / "train")
    rows = [f"p{i:03d},{'red' if i % 2 else 'blue'}" for i in [*range(20), 0, 1, 2, 3]]
    (tmp_path / "labels.csv").write_text("\n".join(["name,label", *rows]) + "\n")
    asked = RunConfig.merged(None, {"data": str(tmp_path), "size": 32, "bs": 4})
    run = RunFolder.create(tmp_path / "runs", "x")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        data = make_bunch(settled(asked, layout_of(asked)), layout_of(asked))
        run.write_text(run.config, settled(asked, layout_of(asked)).to_yaml())
        run.write_text(run.split, split_text(data))
        run.write_json(run.data, {"classes": data.classes})
        again = load_bunch(run)
    assert np.array_equal(again.split.valid, data.split.valid)


def test_a_damaged_split_names_the_line(copied):
    run, _ = copied
    run.split.write_text(run.split.read_text().replace(",train", ",tarin", 1))
    with pytest.raises(DataError, match=r"split\.csv, line \d+, column part: expected train"):
        load_bunch(run)


def test_a_run_without_a_model_says_so(copied):
    run, _ = copied
    shutil.rmtree(run.path / "model")
    with pytest.raises(CheckpointError, match="there is no"):
        Predictor.load(run.path)


def test_predictions_of_other_pictures_are_refused(copied):
    run, _ = copied
    learn = load_learner(run, bunch=load_bunch(run))
    rows = learn.data.split.valid.tolist()
    learn.data = learn.data.split_by_rows(learn.data.split.train.tolist(), rows[1:])
    with pytest.raises(DataError, match="put the data back"):
        interpretation_of(run, learn)
