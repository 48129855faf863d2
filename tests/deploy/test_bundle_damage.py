"""An exported folder, or its .zip, that was damaged or changed: refused, or without effect."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from exported_toys import toy_files, toy_predictor
from onecycle.errors import ArchiveError, ExportError

pytest.importorskip("onnxruntime", reason="needs the extra export")
pytest.importorskip("onnxscript", reason="needs the extra export")

from onecycle.deploy.bundle import export_bundle
from onecycle.deploy.card import Card
from onecycle.deploy.exported import ExportedPredictor


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    files = toy_files(folder)
    return export_bundle(toy_predictor(is_multi=True, calibrated=True), folder / "model", files, Card(name="toy"))


@pytest.fixture
def copy(exported, tmp_path):
    return shutil.copytree(exported.folder, tmp_path / "copy")


def answer(folder):
    """Return all that decides about an answer, and one."""
    model = ExportedPredictor.load(folder).model
    pixels = np.random.default_rng(0).integers(0, 256, (1, 20, 24, 3), dtype=np.uint8)
    probs, labels, _ = model.run(pixels)
    return model.manifest, probs.tolist(), np.asarray(labels).tolist()


def damaged_or_same(path, folder, data, right):
    """Tell whether a file with other content is refused; where it is not, all must be as before."""
    path.write_bytes(data)
    try:
        assert answer(folder) == right
    except (ExportError, ArchiveError):
        return True
    return False


def flipped(whole, place, bit):
    data = bytearray(whole)
    data[place] ^= 1 << bit
    return bytes(data)


@pytest.mark.parametrize("name", ["manifest.json", "model.onnx"])
def test_a_flipped_bit_or_a_cut_is_refused(copy, name):
    path, right = copy / name, answer(copy)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for place in rng.integers(0, len(whole), 40):
        refused = damaged_or_same(path, copy, flipped(whole, place, int(rng.integers(8))), right)
        assert refused or name == "manifest.json", place  # a blank between values says nothing
    assert all(damaged_or_same(path, copy, whole[: len(whole) * p // 100], right) for p in range(0, 100, 9))


def test_a_damaged_zip_is_refused_or_without_effect(exported, tmp_path):
    path = tmp_path / "model.zip"
    shutil.copy(exported.archive, path)
    whole, right = path.read_bytes(), answer(path)
    rng = np.random.default_rng(0)
    for place in rng.integers(0, len(whole), 12):
        damaged_or_same(path, path, flipped(whole, place, int(rng.integers(8))), right)
    assert all(damaged_or_same(path, path, whole[: len(whole) * p // 100], right) for p in range(0, 100, 20))


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m["classes"].reverse(),
        lambda m: m.pop("digest"),
        lambda m: m["preprocess"].update(size=[24, 20]),
        lambda m: m["sha256"].pop("README.md"),
    ],
)
def test_a_changed_manifest_is_refused_by_the_package_and_by_the_folder_itself(copy, change):
    manifest = json.loads((copy / "manifest.json").read_text())
    change(manifest)
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ExportError, match=r"manifest\.json is damaged"):
        answer(copy)
    (copy / "picture.png").write_bytes(b"")
    ran = subprocess.run(
        [sys.executable, "predict.py", "picture.png"], cwd=copy, capture_output=True, text=True, check=False
    )
    assert ran.returncode != 0
    assert "manifest.json is damaged" in ran.stderr


def test_a_folder_of_schema_1_still_opens(copy):
    right = answer(copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    del manifest["digest"]
    (copy / "manifest.json").write_text(json.dumps(manifest | {"schema_version": 1}))
    assert answer(copy)[1:] == right[1:]
