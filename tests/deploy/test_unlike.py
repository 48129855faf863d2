"""Pictures unlike the training pictures: the distance, its limit, and that an exported model tells it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch import nn

from exported_toys import toy_predictor
from onecycle.deploy.unlike import FeatureDistance, distance_of, feature_layer, predicted, spread
from onecycle.errors import ExportError


def drawn(rng, n, d=40):
    """Return features that vary mostly along five directions."""
    return (rng.normal(size=(n, 5)) * 9) @ np.eye(5, d) + rng.normal(size=(n, d))


def test_the_distance_is_that_of_mahalanobis_under_the_covariance_that_is_described():
    rng = np.random.default_rng(0)
    training, validation = drawn(rng, 300), drawn(rng, 150)
    found = FeatureDistance.fit(training, validation)
    k = found.directions.shape[1]
    along = found.directions @ np.diag(found.variances - found.rest) @ found.directions.T
    covariance = along + found.rest * np.eye(40)
    off = validation - training.mean(0)
    right = np.sqrt(np.einsum("nd,de,ne->n", off, np.linalg.inv(covariance), off))
    assert k == 16
    assert found.of(validation) == pytest.approx(right / found.limit)
    # All variance that the training pictures have is in it.
    assert np.trace(covariance) == pytest.approx(training.var(0).sum(), rel=0.02)


@pytest.mark.parametrize(("n", "rate", "flagged"), [(20, 1 / 21, 0), (99, 0.01, 0), (500, 0.01, 4)])
def test_the_limit_is_the_rank_that_holds_the_rate(n, rate, flagged):
    rng = np.random.default_rng(1)
    found = FeatureDistance.fit(drawn(rng, 200), drawn(rng, n))
    assert found.manifest() == {"rate": rate, "validation": n, "flagged": flagged, "training": 200}


def test_new_pictures_of_the_same_kind_are_flagged_at_the_rate_and_others_always():
    rng = np.random.default_rng(2)
    rates = []
    for _ in range(60):
        found = FeatureDistance.fit(drawn(rng, 100), drawn(rng, 100))
        rates.append((found.of(drawn(rng, 400)) > 1).mean())
    assert 0.005 < np.mean(rates) < 0.014
    assert (found.of(drawn(rng, 50) + 5) > 1).all()


@pytest.mark.parametrize("case", ["few training", "few validation", "nothing varies"])
def test_nothing_is_said_where_nothing_can_be(case):
    rng = np.random.default_rng(0)
    training, validation = drawn(rng, 100), drawn(rng, 100)
    if case == "few training":
        training = training[:19]
    if case == "few validation":
        validation = validation[:19]
    if case == "nothing varies":
        training = np.ones_like(training)
    assert FeatureDistance.fit(training, validation) is None


def test_pictures_are_taken_from_all_of_a_sorted_table():
    assert spread(range(10), 4) == [0, 2, 5, 7]
    assert spread(range(3), 4) == [0, 1, 2]


def test_a_network_without_a_linear_layer_has_no_distance(alike):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert feature_layer(model) is None
    assert distance_of(replace(toy_predictor(), model=model.eval()), alike, alike) is None


@pytest.fixture(scope="module")
def alike(tmp_path_factory):
    """Return 48 pictures of a few soft colours."""
    folder, rng = tmp_path_factory.mktemp("alike"), np.random.default_rng(0)
    for i in range(48):
        pixels = rng.integers(90, 150, (3, 3, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((40, 34), Image.Resampling.BICUBIC).save(folder / f"{i:02d}.png")
    return sorted(map(str, folder.iterdir()))


@pytest.fixture(scope="module")
def told(alike, tmp_path_factory):
    """Return an exported model that tells the distance."""
    pytest.importorskip("onnxscript", reason="needs the extra export")
    from onecycle.deploy.bundle import export_bundle
    from onecycle.deploy.card import Card

    folder = tmp_path_factory.mktemp("told") / "model"
    return export_bundle(toy_predictor(), folder, alike[:24], Card(name="toy"), training=alike[24:], archive=False)


def test_an_exported_model_tells_what_the_features_say(told, alike, tmp_path):
    from onecycle.deploy.portable.predict import Model

    noise = tmp_path / "noise.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 50, 3), dtype=np.uint8)).save(noise)
    distance = distance_of(toy_predictor(), alike[24:], alike[:24])
    _, features = predicted(toy_predictor(), [*alike, str(noise)])
    found = [answer["unlike"] for answer in Model(told.folder).predict([*alike, noise])]
    assert found == pytest.approx(distance.of(features), rel=1e-4)
    assert found[-1] > 1
    assert max(found[:24]) <= 1
    manifest = json.loads((told.folder / "manifest.json").read_text())
    assert manifest["unlike"] == {"rate": 1 / 25, "validation": 24, "flagged": 0, "training": 24}
    assert "Of 24 validation pictures 0 are above 1" in (told.folder / "README.md").read_text()


def test_a_model_exported_without_training_pictures_says_nothing(served):
    model, files = served
    assert all("unlike" not in answer for answer in model.predict(files))
    assert model.manifest["unlike"] is None


def test_another_distance_in_the_file_is_refused(alike, tmp_path, monkeypatch):
    pytest.importorskip("onnxscript", reason="needs the extra export")
    from onecycle.deploy import bundle
    from onecycle.deploy.card import Card

    onnx_of = bundle.onnx_of
    monkeypatch.setattr(
        bundle, "onnx_of", lambda p, distance: onnx_of(p, replace(distance, limit=1.1 * distance.limit))
    )
    monkeypatch.setattr(bundle, "made_pictures", lambda _: [])
    with pytest.raises(ExportError, match="24 of 24 are at another distance from the training pictures"):
        bundle.export_bundle(toy_predictor(), tmp_path / "model", alike[:24], Card(name="toy"), training=alike[24:])
    assert list(tmp_path.iterdir()) == []


def test_the_server_says_it_too(told, alike):
    pytest.importorskip("python_multipart", reason="needs the extra serve")
    from starlette.testclient import TestClient

    from onecycle.deploy.portable.predict import Model
    from onecycle.deploy.serve.app import make_app

    model = Model(told.folder)
    with TestClient(make_app(model), base_url="http://localhost") as client:
        (answer,) = client.post("/predict", content=Path(alike[0]).read_bytes()).json()["predictions"]
        assert answer["unlike"] == pytest.approx(next(iter(model.predict(alike[:1])))["unlike"], rel=1e-4)
        assert client.get("/model").json()["unlike"]["validation"] == 24
