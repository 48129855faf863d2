"""A learner that calibrates itself and chooses thresholds: shown, saved, loaded, and forgotten in time."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import PIL.Image
import pytest
import torch
from torch import nn

from onecycle.data.augment.transforms import brightness
from onecycle.data.bunch import ImageDataBunch
from onecycle.data.labels.items import DatasetType
from onecycle.data.pixels.decode import decode_for
from onecycle.data.pixels.image import open_image
from onecycle.deploy.calibrated import Calibrated, adopt_measure
from onecycle.deploy.predictor import Predictor
from onecycle.errors import ArgumentError, CheckpointError, DataWarning, OnecycleWarning
from onecycle.evaluation.certainty.calibration import Calibration
from onecycle.evaluation.certainty.intervals import sample_fbeta
from onecycle.evaluation.certainty.thresholds import TagThresholds
from onecycle.evaluation.headline import headline
from onecycle.evaluation.scores import sample_fbeta_score
from onecycle.learner.cnn import cnn_learner
from onecycle.learner.learner import Learner


def small_net(c: int) -> nn.Sequential:
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
    return nn.Sequential(body, nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, c)))


def bunch(path, **options) -> ImageDataBunch:
    options = {"folder": "train", "suffix": ".jpg", "size": 16, "bs": 16, "valid_pct": 0.5, **options}
    return ImageDataBunch.from_csv(path, **options)


@pytest.fixture
def learn(colour_path, tmp_path) -> Learner:
    learner = Learner(bunch(colour_path), small_net(3), path=tmp_path)
    learner.silent = True
    learner.fit(1, 0.02)
    learner.silent = False
    return learner


@pytest.fixture
def tagger(colour_path, tmp_path) -> Learner:
    data = bunch(colour_path, csv_labels="tags.csv", label_delim=" ")
    learner = Learner(data, small_net(4), path=tmp_path)
    learner.silent = True
    learner.fit(1, 0.02)
    learner.silent = False
    return learner


@pytest.fixture
def helpful(monkeypatch):
    """Every calibration counts as one that helps: these pictures are too few to show it."""
    from onecycle.evaluation.certainty.calibration import CalibrationReport

    monkeypatch.setattr(CalibrationReport, "helps", True)


def test_predict_shows_calibrated_probabilities_and_raw_ones_on_request(learn, helpful, capsys):
    path = learn.data.valid_ds.items[0]
    before = learn.predict(path)
    report = learn.calibrate()
    said = capsys.readouterr().out
    assert "calibrated probabilities (raw=True" in said
    assert f"ECE {report.before.value:.3f} before, {report.after.value:.3f} after" in said
    assert max(map(len, said.splitlines())) <= 80
    assert learn.calibration == report.calibration
    assert learn.calibration.n == 30
    label, index, probs = learn.predict(path)
    assert (str(label), int(index)) == (str(before[0]), int(before[1]))
    expected = learn.calibration.apply(before[2][None].numpy())[0]
    assert probs.numpy() == pytest.approx(expected, abs=1e-6)
    assert probs.dtype == torch.float32
    assert not torch.allclose(probs, before[2], atol=1e-3)
    assert torch.equal(learn.predict(path, raw=True)[2], before[2])


def test_get_preds_stays_raw_unless_asked(learn, helpful):
    raw = learn.get_preds()[0]
    with pytest.raises(ArgumentError, match=r"learn\.calibrate\(\) first"):
        learn.get_preds(calibrated=True)
    learn.calibrate()
    assert torch.equal(learn.get_preds()[0], raw)
    probs, targets, losses = learn.get_preds(calibrated=True, with_loss=True)
    assert probs.numpy() == pytest.approx(learn.calibration.apply(raw.numpy()), abs=1e-6)
    assert len(probs) == len(targets) == len(losses)
    assert torch.equal(learn.interpret().preds, raw), "an interpretation judges the model itself"
    with pytest.raises(ArgumentError, match="no activ="):
        learn.get_preds(calibrated=True, activ=torch.sigmoid)


def test_chosen_thresholds_decide_where_none_is_given(tagger, capsys):
    path = tagger.data.valid_ds.items[0]
    raw = tagger.predict(path)[2]
    report = tagger.choose_thresholds(beta=2)
    said = capsys.readouterr().out
    assert "predict now decides by them" in said
    assert "thresholds chosen on the others" in said
    assert tagger.thresholds == report.thresholds
    middle = float(raw.median())
    tagger.calibrated = Calibrated(None, TagThresholds((middle,) * 4, "a test", 30))
    assert tagger.predict(path)[1].tolist() == (raw >= middle).long().tolist()
    assert tagger.predict(path, thresh=0.0)[1].tolist() == [1, 1, 1, 1]
    own = [0.0, 1.0, 0.0, 1.0]
    assert tagger.predict(path, thresh=own)[1].tolist() == [1, 0, 1, 0]
    with pytest.raises(ArgumentError, match=r"one for each of 4 tags; received shape \(2,\)"):
        tagger.predict(path, thresh=[0.1, 0.2])


def test_a_measure_without_sets_of_tags_chooses_thresholds_and_is_the_headline(tagger, capsys):
    tagger.decide_for("precision=0.8")
    assert "Thresholds for a precision of 0.8" in capsys.readouterr().out
    assert tagger.thresholds.goal == "a precision of 0.8"
    said = tagger.interpret().predictions
    assert headline(said).name == "recall at precision 0.8 at chosen thresholds"
    assert (said.decided == (said.probs >= np.array(tagger.thresholds.values))).all()
    tagger.decide_for("exact")
    assert "predict decides for exact-match share: a tag is predicted from a probability of 0.5 on." in " ".join(
        capsys.readouterr().out.split()
    )
    assert (tagger.thresholds, headline(tagger.interpret().predictions).name) == (None, "exact-match share at 0.5")
    tagger.choose_thresholds()
    assert tagger.decisions.measure is None, "thresholds alone were asked for"


def test_a_measure_is_for_tags(learn):
    with pytest.raises(ArgumentError, match="with one class a picture the most probable is predicted"):
        learn.decide_for("f2")


def test_without_thresholds_predict_and_headline_have_the_usual_one(tagger):
    adopt_measure(tagger, "f2", None)
    said = tagger.interpret().predictions
    assert (said.decided == (said.probs >= np.float64(0.2))).all()
    first = headline(said)
    assert (first.name, first.value) == (
        "sample-F2 at 0.2",
        pytest.approx(sample_fbeta_score(said.predicted, said.truth, 2).mean()),
    )
    with pytest.raises(ArgumentError, match="cannot be left out"):
        adopt_measure(tagger, "precision=0.9", None)


def test_calibrating_changes_what_is_shown_not_what_chosen_thresholds_decide(tagger):
    tagger.silent = True
    tagger.choose_thresholds()
    items = tagger.data.valid_ds.items[:6]
    before = [tagger.predict(p)[1].tolist() for p in items]
    tagger.calibrate()
    assert tagger.thresholds is not None
    assert [tagger.predict(p)[1].tolist() for p in items] == before
    shown, raw = tagger.predict(items[0])[2], tagger.predict(items[0], raw=True)[2]
    assert not torch.allclose(shown, raw, atol=1e-3)
    tagger.calibrated = Calibrated(tagger.calibration, None)
    assert tagger.predict(items[0])[1].tolist() == (shown >= 0.5).long().tolist()
    assert tagger.predict(items[0], raw=True)[1].tolist() == (raw >= 0.5).long().tolist()
    tagger.show_results(rows=2)


def test_they_are_saved_and_loaded_with_the_model(tagger, colour_path, tmp_path, capsys):
    tagger.calibrate()
    tagger.choose_thresholds()
    tagger.save("sure")
    other = Learner(tagger.data, small_net(4), path=tmp_path)
    capsys.readouterr()
    other.load("sure")
    said = capsys.readouterr().out
    assert "loaded with calibration (Platt scaling" in said
    assert max(map(len, said.splitlines())) <= 80
    assert other.calibrated == tagger.calibrated
    path = tagger.data.valid_ds.items[1]
    assert torch.equal(other.predict(path)[2], tagger.predict(path)[2])
    beside = json.loads((tmp_path / "models" / "sure.json").read_text())["manifest"]
    assert beside["calibration"]["kind"] == "platt"
    assert len(beside["thresholds"]["values"]) == 4


def test_a_model_without_them_loads_without_and_forgets_those_of_other_weights(learn, capsys):
    learn.save("plain")
    learn.calibrate()
    capsys.readouterr()
    learn.load("plain")
    assert not learn.calibrated
    assert capsys.readouterr().out == ""


def test_more_training_forgets_them_and_says_so(learn, capsys, helpful):
    learn.calibrate()
    learn.lr_find(num_it=3)
    assert learn.calibration is not None, "a sweep leaves the weights as they were"
    capsys.readouterr()
    learn.fit(1, 0.01)
    assert "forgotten, as the weights change: calibration (temperature" in capsys.readouterr().out
    assert learn.calibration is None
    learn.silent = True
    learn.calibrate()
    capsys.readouterr()
    learn.fit(1, 0.01)
    assert capsys.readouterr().out == ""


def test_another_part_and_groups_can_be_used(learn):
    learn.silent = True
    with pytest.warns(DataWarning, match="fitted to these very pictures"):
        assert learn.calibrate(DatasetType.Train).calibration.n == 30
    groups = np.arange(30) // 3
    assert learn.calibrate(groups=groups, n_folds=3).n_folds == 3
    with pytest.raises(ArgumentError, match="an id for each of 30"):
        learn.calibrate(groups=groups[:5])


def test_a_damaged_manifest_is_named():
    good = Calibrated(Calibration("temperature", (0.5,) * 3, (0.0,) * 3, 9)).manifest()
    assert Calibrated.from_manifest(good, 3).calibration.slope == (0.5,) * 3
    with pytest.raises(CheckpointError, match="for 3 classes, and there are 4"):
        Calibrated.from_manifest(good, 4)
    with pytest.raises(CheckpointError, match="damaged"):
        Calibrated.from_manifest({"calibration": {"kind": "platt"}}, 3)
    assert not Calibrated.from_manifest({}, 3)


def test_a_calibration_that_does_not_help_is_not_used(learn, capsys, monkeypatch):
    from onecycle.evaluation.certainty.calibration import CalibrationReport

    monkeypatch.setattr(CalibrationReport, "helps", property(lambda report: report.log_loss.value < -99))
    report = learn.calibrate()
    said = capsys.readouterr().out
    assert "Not calibrated, predict stays as it is" in said
    assert max(map(len, said.splitlines())) <= 80
    assert learn.calibration is None
    assert report.calibration is not None
    monkeypatch.undo()
    low = replace(report.log_loss, value=-0.02, low=-0.05)
    for high, helps in ((-0.01, True), (0.0, False), (0.01, False)):
        assert replace(report, log_loss=replace(low, high=high)).helps is helps


def test_the_groups_of_the_split_are_those_of_the_intervals(colour_path, tmp_path):
    import pandas as pd

    frame = pd.read_csv(colour_path / "labels.csv")
    frame["site"] = [i // 6 for i in range(len(frame))]
    data = ImageDataBunch.from_df(
        colour_path, frame, folder="train", suffix=".jpg", size=16, bs=16, valid_pct=0.5, group_col="site"
    )
    learner = Learner(data, small_net(3), path=tmp_path, silent=True)
    found = learner.interpret()
    own = data.split.groups[data.split.valid]
    assert found.metrics()[0] == found.metrics(groups=own)[0]
    assert found.metrics()[0] != found.metrics(groups=list(range(len(own))))[0]
    assert f"{len(set(own.tolist()))} groups of pictures" in found.summary()


def test_a_summary_says_by_which_thresholds_its_scores_are(tagger):
    assert "thresholds that predict uses" not in tagger.interpret().summary()
    tagger.silent = True
    tagger.choose_thresholds(2)
    said, asked = tagger.interpret().summary(), tagger.interpret().summary([sample_fbeta(2, 0.2)])
    assert "  sample-F2 at chosen thresholds" in said
    assert "thresholds that predict uses" in said
    assert "predict uses other thresholds" in asked
    assert max(map(len, [*said.splitlines(), *asked.splitlines()])) <= 80


@pytest.mark.parametrize("options", [{"size": 24}, {"size": (20, 28)}, {"size": 24, "resize_method": "PAD"}])
def test_validation_predict_and_a_loaded_predictor_see_the_same_tensor(options, colour_path, tmp_path):
    """The same file gives the same tensor, bit for bit, and the same probabilities."""
    data = bunch(colour_path, **options)
    learn = cnn_learner(data, "test_resnet", pretrained=False, path=tmp_path, silent=True, lin_ftrs=[8], ps=0.0)
    learn.stats = ((0.4, 0.5, 0.6), (0.2, 0.3, 0.25))
    loaded = Predictor.load(learn.save("m", return_path=True), device=data.device)
    files = data.valid_ds.items[:3]
    seen = [learn.dataset_tensor(DatasetType.Valid, i)[0] for i in range(3)]
    for predictor in (learn.predictor(), loaded):
        assert torch.equal(predictor.batches(files).batch_at(0, 0).x, torch.stack(seen))
        assert torch.equal(predictor.batches([open_image(f) for f in files]).batch_at(0, 0).x, torch.stack(seen))
        decoded = [decode_for(f, predictor.resize) for f in files]
        assert torch.equal(predictor.batches(decoded).batch_at(0, 0).x, torch.stack(seen))
    assert torch.allclose(loaded.probs(files), learn.get_preds()[0][:3], atol=1e-6)
    assert torch.equal(learn.predict(files[0])[2], torch.from_numpy(loaded.predict(files[0]).probs[0]))


def test_what_a_saved_model_needs_is_saved_with_it(tagger, colour_path, tmp_path):
    data = tagger.data
    learn = cnn_learner(data, "test_resnet", pretrained=False, path=tmp_path, silent=True, concat_pool=False)
    learn.choose_thresholds()
    stem = learn.save("m", return_path=True).with_suffix("")
    loaded = Predictor.load(stem)
    assert loaded.calibrated == learn.calibrated
    filters = next(p for p in loaded.model.parameters() if p.ndim == 4)
    assert filters.is_contiguous(memory_format=torch.channels_last), "as a learner's, so that sums round alike"
    assert repr(loaded).startswith("Predictor: 4 tags, 16×16 px, on ")
    said, label = loaded.predict(data.valid_ds.items[:2]), learn.predict(data.valid_ds.items[1])
    assert said.decided[1].tolist() == label[1].tolist()
    assert loaded.predict([]).probs.shape == (0, 4)
    for pixels in (np.zeros((9, 9, 3), np.uint8), PIL.Image.new("RGB", (9, 9)), b"\xff\xd8"):
        for files in (pixels, [pixels]):
            with pytest.raises(ArgumentError, match="predict takes paths of pictures; received a"):
                loaded.predict(files)
    bad = tmp_path / "bad.jpg"
    bad.write_text("no picture")
    said = loaded.predict([bad, data.valid_ds.items[0], "gone.jpg"])
    assert said.rows.tolist() == [1]
    assert [(f.position, f.reason) for f in said.failed] == [
        (0, "text, not a picture; it starts with 'no picture'"), (2, "no such file"),
    ]  # fmt: skip
    tagger.save("own")  # a network of the user's own
    with pytest.raises(CheckpointError, match="a network of your own"):
        Predictor.load(tagger.path / "models" / "own")


def test_transforms_of_validation_that_cannot_be_saved_are_said(colour_path, tmp_path):
    data = bunch(colour_path, ds_tfms=([], [brightness(change=0.9)]))
    learn = cnn_learner(data, "test_resnet", pretrained=False, path=tmp_path, silent=True)
    path = learn.save("m", return_path=True)
    with pytest.warns(OnecycleWarning, match=r"transforms of your own \(brightness\)"):
        Predictor.load(path)
