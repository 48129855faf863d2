"""The server: what it answers, what it refuses, and that it stays alive."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import httpx2 as httpx
import pytest
from exported_toys import toy_files, toy_predictor

pytest.importorskip("onnxscript", reason="needs the extra export")
pytest.importorskip("python_multipart", reason="needs the extra serve")

from starlette.testclient import TestClient

from onecycle.deploy.bundle import export_bundle
from onecycle.deploy.card import Card
from onecycle.deploy.portable.predict import Model
from onecycle.deploy.serve.app import make_app


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    files = toy_files(folder)
    made = export_bundle(
        toy_predictor(is_multi=True, calibrated=True), folder / "model", files, Card(name="toy"), archive=False
    )
    return Model(made.folder), files


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
