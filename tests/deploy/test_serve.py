"""The server: what it answers, what it refuses, and that it stays alive."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import httpx2 as httpx
import numpy as np
import pytest

pytest.importorskip("onnxscript", reason="needs the extra export")
pytest.importorskip("python_multipart", reason="needs the extra serve")

from starlette.testclient import TestClient

from onecycle.deploy.serve.app import make_app


@pytest.fixture
def client(served):
    with TestClient(make_app(served[0]), base_url="http://localhost:8000") as client:
        yield client


def test_a_picture_is_answered_as_the_exported_folder_answers(served, client):
    model, files = served
    right = list(model.predict(files))
    raw = client.post("/predict", content=Path(files[1]).read_bytes(), headers={"Content-Type": "image/jpeg"})
    assert raw.status_code == 200
    (answer,) = raw.json()["predictions"]
    assert answer["labels"] == right[1]["labels"]
    form = client.post("/predict", files=[("pictures", Path(f).read_bytes()) for f in files])
    answers = form.json()["predictions"]
    assert [a["labels"] for a in answers] == [r["labels"] for r in right]
    for a, r in zip(answers, right, strict=True):
        assert a["probabilities"] == pytest.approx(r["probabilities"], abs=1e-5)


def test_the_command_serves_without_pytorch_and_ends_with_its_work_done(served):
    code = "import sys; sys.modules.update(torch=None, pandas=None); from onecycle.cli.main import main; main()"
    words = ["serve", str(served[0].folder), "--port", "0", "--json"]
    with subprocess.Popen([sys.executable, "-c", code, *words], stdout=subprocess.PIPE, text=True) as server:
        try:
            url = json.loads(server.stdout.readline())["url"]
            assert httpx.get(f"{url}v2/health/ready").status_code == 200
            picture = Path(served[1][0]).read_bytes()
            assert len(httpx.post(f"{url}predict", content=picture).json()["predictions"]) == 1
            server.send_signal(signal.SIGTERM)
            assert server.wait(20) == 0
        finally:
            server.kill()


def tensor(pixels, **more):
    one = {"name": "pictures", "datatype": "UINT8", "shape": list(pixels.shape), "data": pixels.tolist()}
    return {"inputs": [one | more]}


def test_the_open_inference_protocol_gives_what_the_model_gives(served, client):
    model = served[0]
    assert client.get("/v2/models/toy").json()["outputs"][0] == {
        "name": "probabilities", "datatype": "FP32", "shape": [-1, 4]
    }  # fmt: skip
    assert client.get("/v2/models/other").status_code == 404
    pixels = np.random.default_rng(0).integers(0, 256, (3, 31, 44, 3), dtype=np.uint8)
    answer = client.post("/v2/models/toy/infer", json=tensor(pixels) | {"id": "7"}).json()
    probs, labels, _ = model.run(pixels)
    assert answer["id"] == "7"
    assert np.reshape(answer["outputs"][0]["data"], (3, 4)) == pytest.approx(probs, abs=1e-5)
    assert answer["outputs"][1] == {
        "name": "labels",
        "datatype": "BOOL",
        "shape": [3, 4],
        "data": labels.ravel().tolist(),
    }
    flat = tensor(pixels, data=pixels.ravel().tolist()) | {"outputs": [{"name": "labels"}]}
    assert [o["name"] for o in client.post("/v2/models/toy/infer", json=flat).json()["outputs"]] == ["labels"]


def test_tensors_in_binary_form_are_refused_with_what_to_send(client):
    zeros = np.zeros((1, 2, 2, 3), int)
    one = tensor(zeros)["inputs"][0] | {"parameters": {"binary_data_size": 12}}
    del one["data"]
    head = json.dumps({"inputs": [one]}).encode()
    by_header = {"content": head + bytes(12), "headers": {"Inference-Header-Content-Length": str(len(head))}}
    for sent in (by_header, {"content": head}):
        refused = client.post("/v2/models/toy/infer", **sent)
        assert refused.status_code == 415
        assert "as JSON here, not in binary form: send their numbers as data" in refused.json()["error"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 422),
        (b"[" * 100_000, 422),
        (b"\xff\xfe", 422),
        ({}, 422),
        ([], 422),
        ({"inputs": []}, 422),
        (tensor(np.zeros((1, 2, 2, 3), int), datatype="FP32"), 422),
        (tensor(np.zeros((1, 2, 2, 3), int), shape=[1, 2, 2]), 422),
        (tensor(np.zeros((1, 2, 2, 3), int), shape=[1, 2, -2, 3]), 422),
        (tensor(np.zeros((1, 2, 2, 3), int), data=[1, [2, 3]]), 422),
        (tensor(np.zeros((1, 2, 2, 3), int), data=["a"] * 12), 422),
        (tensor(np.zeros((1, 2, 2, 3), int), data=[10**30] * 12), 422),
        (tensor(np.full((1, 2, 2, 3), 256)), 422),
        (tensor(np.zeros((1, 2, 2, 3), int), shape=[1, 10**9, 10**9, 3]), 413),
        (tensor(np.zeros((1, 2, 2, 3), int), shape=[33, 2, 2, 3]), 413),
    ],
)
def test_a_tensor_that_is_none_is_refused_with_a_sentence(client, body, status):
    sent = {"content": body} if isinstance(body, bytes) else {"json": body}
    refused = client.post("/v2/models/toy/infer", **sent)
    assert refused.status_code == status
    assert list(refused.json()) == ["error"]
