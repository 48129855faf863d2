"""Exports with fewer bits a weight: compared with float32 weights, refused where decisions change, or accepted."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

import onecycle
from exported_toys import toy_files, toy_predictor
from onecycle.errors import ArgumentError, ExportError
from onecycle.evaluation.predictions import Predictions

pytest.importorskip("onnxruntime", reason="needs the extra export")
pytest.importorskip("onnxscript", reason="needs the extra export")

from onecycle.deploy.bundle import export_bundle
from onecycle.deploy.card import Card
from onecycle.deploy.weights import stored
from onecycle.deploy.weights.check import AskedWeights, check_weights, of_rows

CARD = Card(name="toy")


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """A model of four tags, pictures, and predictions of these that count as the truth."""
    files = toy_files(tmp_path_factory.mktemp("pictures"), n=12)
    predictor = toy_predictor(is_multi=True, calibrated=True, deep=True)
    found = predictor.predict(files)
    truth = found.decided.copy()
    truth[0] = 1 - truth[0]
    return predictor, files, replace(found, targets=truth)


@pytest.fixture(scope="module", params=["half", "int8"])
def exported(request, toy, tmp_path_factory):
    predictor, files, labelled = toy
    folder = tmp_path_factory.mktemp(request.param) / "model"
    how = {"weights": request.param, "training": files, "labelled": labelled, "archive": False}
    return export_bundle(predictor, folder, files, CARD, **how)


def test_it_is_compared_on_all_decisions_and_scored(exported, toy):
    check = exported.weights
    assert (check.pictures, check.decisions, check.n_equal) == (12, 48, 48)
    assert check.equal.high == 1
    assert 0.5 < check.equal.low < 0.9  # twelve pictures say no more
    assert check.changed == ()
    assert 0 < check.max_difference < 0.01
    assert check.score.full.value == check.score.own.value == pytest.approx(toy[2].decided.any(1)[1:].sum() / 12)
    assert check.score.change.value == 0
    assert check.n_bytes[1] == (exported.folder / "model.onnx").stat().st_size < check.n_bytes[0]
    assert check.time_ratio > 0


def test_manifest_and_card_have_the_table(exported):
    weights = exported.weights.weights
    manifest = json.loads((exported.folder / "manifest.json").read_text())
    assert manifest["onnx"]["weights"] == weights
    assert manifest["verification"]["same"]  # with float32 weights
    assert manifest["weights_check"]["equal"]["n"] == 48
    assert manifest["weights_check"]["enough"]
    assert not manifest["weights_check"]["accepted"]
    card = (exported.folder / "README.md").read_text()
    assert f"## What {weights} weights change" in card
    assert f"| | float32 | {weights} |" in card
    assert "48 of 48 decisions are those of float32 weights" in " ".join(card.split())
    assert "Difference in score, on the same pictures: +0.000 (+0.000 to +0.000)." in card
    assert "accepted" not in card


def test_its_own_test_holds_and_it_loads(exported, toy):
    alone = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    ran = subprocess.run(
        [sys.executable, "test.py"], cwd=exported.folder, env=alone, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    predictor, files, _ = toy
    right, found = predictor.predict(files), onecycle.load(exported.folder).predict(files)
    assert np.array_equal(found.decided, right.decided)
    difference = np.abs(found.shown_probs - right.shown_probs).max()
    assert difference == pytest.approx(exported.weights.max_difference, abs=1e-5)


def spoilt(values, axes):
    """Round to 1 bit, and only half of the outputs."""
    scale = np.abs(values).mean(axis=axes, keepdims=True).astype(np.float32)
    signs = np.sign(values).astype(np.int8)
    signs[::2] = 0
    return signs, scale * 40


@pytest.fixture
def spoilt_rounding(monkeypatch):
    monkeypatch.setattr(stored, "_rounded", spoilt)
    monkeypatch.setattr(stored, "_shifts", lambda model, uses, *_: [np.zeros((), np.float32) for _ in uses])


def test_weights_that_change_decisions_are_refused_and_leave_nothing(spoilt_rounding, toy, tmp_path):
    predictor, files, labelled = toy
    with pytest.raises(ExportError, match=r"an export needs 99\.5 % of them, so nothing was written") as refused:
        export_bundle(
            predictor, tmp_path / "out" / "model", files, CARD, weights="int8", training=files, labelled=labelled
        )
    assert any(file in str(refused.value) for file in files)
    assert "accept=True" in str(refused.value)
    assert list((tmp_path / "out").iterdir()) == []


def test_accepted_weights_are_written_and_the_card_says_so(spoilt_rounding, toy, tmp_path):
    predictor, files, _ = toy
    made = export_bundle(
        predictor, tmp_path / "model", files, CARD, weights="int8", accept=True, training=files, archive=False
    )
    assert not made.weights.enough
    card = " ".join((made.folder / "README.md").read_text().split())
    assert "below the 99.5 % that an export needs; it was accepted by whoever exported it" in card
    assert "Nobody has labelled these pictures" in card
    manifest = json.loads((made.folder / "manifest.json").read_text())
    assert manifest["weights_check"]["accepted"]
    assert not manifest["weights_check"]["enough"]
    ran = subprocess.run([sys.executable, "test.py"], cwd=made.folder, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout  # the examples are answered as this model answers them


class Fixed:
    """In place of an opened folder: fixed probabilities, by the number in a picture's only value."""

    def __init__(self, probs):
        self.probs = np.array(probs, np.float32)

    def pixels(self, file):
        if file == "broken":
            raise OSError("not a picture")
        return np.array([[[int(file)]]], dtype=np.uint8)

    def run(self, pixels):
        probs = self.probs[pixels[:, 0, 0, 0]]
        return probs, probs.argmax(1), np.full(len(probs), np.nan, np.float32)


def test_changed_pictures_are_counted_and_named_the_most_different_first():
    full = Fixed([[0.9, 0.1], [0.6, 0.4], [0.8, 0.2], [0.1, 0.9]])
    own = Fixed([[0.7, 0.3], [0.4, 0.6], [0.1, 0.9], [0.1, 0.9]])
    files = ["0", "1", "broken", "2", "3"]
    labelled = Predictions.of(
        full.probs[[0, 1, 0, 2, 3]], is_multi=False, files=tuple(files), classes=("a", "b"),
        targets=np.array([0, 0, 0, 0, 1]),
    )  # fmt: skip
    check = check_weights(full, own, files, AskedWeights("int8", labelled=labelled), n_bytes=(8, 2))
    assert (check.pictures, check.decisions, check.n_equal) == (4, 4, 2)
    assert check.changed == ("2", "1")
    assert check.max_difference == pytest.approx(0.7)
    assert (check.score.full.value, check.score.own.value, check.score.change.value) == (1, 0.5, -0.5)
    assert check.score.full.name == "accuracy"
    with pytest.raises(ExportError, match="Most different: 2, 1"):
        check.check()
    replace(check, accepted=True).check()


@pytest.mark.parametrize(
    ("equal", "enough"), [(199, True), (198, False)], ids=["one picture in 200 changes", "two pictures change"]
)
def test_one_decision_in_200_may_change(equal, enough):
    full = Fixed([[0.9, 0.1], [0.9, 0.1]])
    own = Fixed([[0.9, 0.1], [0.1, 0.9]])
    files = ["0"] * equal + ["1"] * (200 - equal)
    assert check_weights(full, own, files, AskedWeights("half"), n_bytes=(1, 1)).enough is enough


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (AskedWeights("int4"), "weights is one of float32, half, int8; received 'int4'"),
        (AskedWeights("int8"), 'there are none: use weights="half"'),
        (AskedWeights(accept=True), "accept=True is for half and int8 weights"),
    ],
    ids=["unknown", "nothing to fit with", "nothing to accept"],
)
def test_what_cannot_work_is_refused_before_the_work(asked, message):
    with pytest.raises(ArgumentError, match=message):
        asked.check()


def test_rows_of_predictions_come_in_the_order_asked_for_or_not_at_all():
    probs = np.eye(3, dtype=np.float32)
    found = Predictions.of(
        probs, is_multi=False, files=("a", "b", "c"), classes=("x", "y", "z"), rows=np.array([7, 3, 5])
    )
    assert of_rows(found, [5, 7]).files == ("c", "a")
    assert of_rows(found, [5, 4]) is None
    assert of_rows(replace(found, rows=None), [5]) is None
