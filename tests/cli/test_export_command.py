"""onecycle export: a run to a folder, from its own data or pictures that are named."""

import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from run_toys import colour_rows, make_run, small_network

from onecycle.cli.export import run_export, weights_of
from onecycle.cli.screen import Screen
from onecycle.deploy.predictor import Predictor
from onecycle.errors import ArgumentError, DataError
from onecycle.runs.folder import RunFolder

pytest.importorskip("onnxruntime", reason="needs the extra export")


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    base = tmp_path_factory.mktemp("export")
    rows = colour_rows(base / "data", 45)
    (base / "data" / "labels.csv").write_text("image_name,tags\n" + "".join(f"{a},{b}\n" for a, b in rows))
    return make_run(base / "runs", base / "data", **small_network())


def test_a_run_becomes_a_folder_that_answers_as_the_run_does(toy, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run_export(toy.path) == 0
    out = capsys.readouterr().out
    assert "the same pixels, the same labels" in " ".join(out.split())
    folder = tmp_path / "exports" / "toy-001"
    pictures = sorted(str(p) for p in (toy.data / "train").glob("*.jpg"))
    ran = subprocess.run(
        [sys.executable, folder / "predict.py", *pictures], capture_output=True, text=True, check=True, env={}
    )
    answers = [json.loads(line) for line in ran.stdout.splitlines()]
    right = Predictor.load(toy.path, device="cpu").predict(pictures)
    assert [a["labels"] for a in answers] == [list(right.names_of(d)) for d in right.decided]
    for answer, probs in zip(answers, right.shown_probs, strict=True):
        assert list(answer["probabilities"].values()) == pytest.approx(probs.tolist(), abs=1e-5)
    card = (folder / "README.md").read_text()
    assert "| accuracy |" in card
    assert "blue, green, red" in card
    monkeypatch.setattr(Predictor, "load", lambda *_, **__: pytest.fail("refused only after the model was loaded"))
    with pytest.raises(ArgumentError, match="is there already"):
        run_export(toy.path)


def test_serve_takes_the_export_that_is_newer_than_the_model_or_makes_one(toy, tmp_path, monkeypatch):
    pytest.importorskip("starlette", reason="needs the extra serve")
    from onecycle.cli.serve import exported

    monkeypatch.chdir(tmp_path)
    with ExitStack() as stack:
        made = exported(toy.path, Screen(quiet=True), stack)
        assert (made / "model.onnx").exists()
        assert not (tmp_path / "exports").exists()
        shutil.copytree(made, tmp_path / "exports" / "toy-001")
    assert not made.exists()
    with ExitStack() as stack:
        assert exported(toy.path, Screen(quiet=True), stack) == Path("exports/toy-001")
        manifest = tmp_path / "exports" / "toy-001" / "manifest.json"
        whole = manifest.read_text()
        for damaged in ("{", "[]", "{}"):
            manifest.write_text(damaged)
            assert exported(toy.path, Screen(quiet=True), stack) != Path("exports/toy-001")
        manifest.write_text(whole)
        later = time.time() + 60
        os.utime(RunFolder(toy.path).model_stem.with_suffix(".safetensors"), (later, later))
        assert exported(toy.path, Screen(quiet=True), stack) != Path("exports/toy-001")


def test_fewer_bits_a_weight_go_beside_the_exact_export_and_serve_takes_that(toy, tmp_path, monkeypatch, capsys):
    pytest.importorskip("starlette", reason="needs the extra serve")
    from onecycle.cli.serve import exported

    monkeypatch.chdir(tmp_path)
    assert (
        run_export(toy.path, weights=weights_of(half=False, int8=True), archive=False, accept=True, as_json=True) == 0
    )
    folder = tmp_path / "exports" / "toy-001-int8"
    check = json.loads((folder / "manifest.json").read_text())["weights_check"]
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["weights_check"] == check
    assert check["score"]["own"]["name"] == "accuracy"
    assert (check["pictures"], check["weights"]) == (check["decisions"], "int8")
    folder.rename(folder.with_name("toy-001"))
    with ExitStack() as stack:
        assert exported(toy.path, Screen(quiet=True), stack) != Path("exports/toy-001")


def test_half_and_int8_are_two_ways(tmp_path):
    assert weights_of(half=True, int8=False) == "half"
    with pytest.raises(ArgumentError, match="give one of them"):
        weights_of(half=True, int8=True)


def test_with_the_data_gone_pictures_can_be_named(toy, tmp_path, monkeypatch):
    moved = toy.data.with_name("moved")
    toy.data.rename(moved)
    try:
        with pytest.raises(DataError, match="name a folder of such pictures with --pictures"):
            run_export(toy.path, out=tmp_path / "a")
        with pytest.raises(ArgumentError, match="int8 weights are fitted with training pictures"):
            run_export(toy.path, out=tmp_path / "c", pictures=moved / "train", weights="int8")
        assert run_export(toy.path, out=tmp_path / "b", pictures=moved / "train", archive=False, examples=False) == 0
    finally:
        moved.rename(toy.data)
    assert not (tmp_path / "b.zip").exists()
    assert json.loads((tmp_path / "b" / "manifest.json").read_text())["verification"]["pictures"] == 45
