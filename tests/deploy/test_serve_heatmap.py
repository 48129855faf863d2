"""The heat map: the model's own probabilities with one place after the other covered, over the right part."""

import asyncio
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("onnxscript", reason="needs the extra export")
pytest.importorskip("python_multipart", reason="needs the extra serve")

from starlette.testclient import TestClient

from onecycle.deploy.serve.answers import covered, heat_map, window
from onecycle.deploy.serve.app import make_app
from onecycle.deploy.serve.batching import Batcher
from onecycle.deploy.serve.limits import Limits


class Red:
    """Stands for a model whose one label is how red the reddest pixel is."""

    classes = ["red"]

    def run(self, pixels):
        redness = (pixels[..., 0].astype(float) - pixels[..., 1]).max((1, 2)) / 255
        return redness[:, None], np.zeros(len(pixels), int), np.full(len(pixels), np.nan)


def test_covering_what_a_label_comes_from_lowers_it_and_nothing_else_does():
    pixels = np.full((80, 160, 3), 60, np.uint8)
    pixels[55:58, 24:30] = (255, 0, 0)  # in the strips 5 of 8 down and 1 of 8 across

    async def found():
        batcher = Batcher(Red(), 8)
        batcher.start()
        try:
            return await heat_map(batcher, Red(), pixels, "red")
        finally:
            await batcher.stop()

    lowered = np.array(asyncio.run(found())) < 0.5
    assert np.argwhere(lowered).tolist() == [[4, 0], [4, 1], [5, 0], [5, 1]]


def test_patches_cover_every_pixel_and_have_the_mean_colour():
    pixels = np.random.default_rng(0).integers(0, 256, (33, 50, 3), dtype=np.uint8)
    changed = np.zeros((33, 50), bool)
    for row in range(7):
        for copy in covered(pixels, row):
            patch = (copy != pixels).any(2)
            changed |= patch
            assert (copy[patch] == pixels.mean((0, 1)).round()).all()
    assert changed.mean() > 0.999
    assert [len(covered(np.zeros((1, 1, 3), np.uint8), 0))] == [7]


def picture(width, height, orientation=1):
    exif, written = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    Image.new("RGB", (width, height)).save(written, "JPEG", exif=exif)
    return written.getvalue()


@pytest.mark.parametrize(
    ("method", "data", "expected"),
    [
        ("CROP", picture(200, 100), [0.25, 0, 0.75, 1]),
        ("CROP", picture(200, 100, orientation=6), [0, 0.25, 1, 0.75]),
        ("PAD", picture(200, 100), [0, -0.5, 1, 1.5]),
        ("SQUISH", picture(200, 100), [0, 0, 1, 1]),
    ],
    ids=["cut", "cut and turned", "padded", "squished"],
)
def test_the_part_that_the_network_sees(method, data, expected):
    class Square:
        preprocess = {"size": (32, 32), "method": method}

    assert window(Square(), data) == pytest.approx(expected)


def test_the_server_gives_it_on_request(served):
    model, files = served
    data = Path(files[0]).read_bytes()
    with TestClient(make_app(model), base_url="http://localhost") as client:
        (plain,) = client.post("/predict", content=data).json()["predictions"]
        (answer,) = client.post("/predict", params={"heatmap": "b"}, content=data).json()["predictions"]
        assert answer["labels"] == plain["labels"]
        assert "heatmap" not in plain
        right = [model.run(np.stack(covered(model.pixels(data), row)))[0][:, 1] for row in range(7)]
        assert answer["heatmap"]["label"] == "b"
        assert np.array(answer["heatmap"]["covered"]) == pytest.approx(np.array(right), abs=1e-6)
        unknown = client.post("/predict", params={"heatmap": "other"}, content=data)
        two = client.post("/predict", params={"heatmap": "a"}, files=[("pictures", data)] * 2)
        assert [unknown.status_code, two.status_code] == [422, 422]
        damaged = client.post("/predict", params={"heatmap": "a"}, content=b"no picture")
        assert damaged.status_code == 415


def test_few_are_computed_at_one_time(served):
    with TestClient(make_app(served[0], limits=Limits(heat_maps=0)), base_url="http://localhost") as client:
        refused = client.post("/predict", params={"heatmap": "a"}, content=Path(served[1][0]).read_bytes())
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) > 0
