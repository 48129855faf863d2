"""The steps of an exported folder's Dockerfile, in a fresh environment and without Docker, give the expected answers.

The environment stands for the image: a virtual one of the Python that the file names, into which its RUN lines install.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from exported_toys import toy_files, toy_predictor

pytest.importorskip("onnxscript", reason="needs the extra export")

from onecycle.deploy.bundle import export_bundle
from onecycle.deploy.card import Card


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("container")
    predictor = toy_predictor(is_multi=True, calibrated=True)
    return export_bundle(predictor, place / "model", toy_files(place), Card(name="toy"), archive=False).folder


def steps_of(folder: Path) -> list[tuple[str, str]]:
    """Return (instruction, its words) in order, of a Dockerfile without continued lines."""
    lines = (folder / "Dockerfile").read_text().splitlines()
    assert len(lines) <= 15
    assert not any(line.endswith("\\") for line in lines)
    return [tuple(line.split(maxsplit=1)) for line in lines if not line.startswith("#")]


def test_it_names_the_versions_that_the_model_was_verified_with(folder):
    steps = steps_of(folder)
    names = [name for name, _ in steps]
    assert names == ["FROM", "RUN", "WORKDIR", "COPY", "RUN", "USER", "ENTRYPOINT"]
    versions = json.loads((folder / "manifest.json").read_text())["versions"]
    assert steps[0][1] == f"python:{versions['python']}-slim" == f"python:3.{sys.version_info.minor}-slim"
    packages = {f"{name}=={versions[name]}" for name in ("numpy", "pillow", "onnxruntime")}
    assert packages == {word for word in steps[1][1].split() if "==" in word}


@pytest.mark.slow  # installs three packages from a registry
def test_its_steps_in_a_fresh_environment_give_the_expected_answers(folder, tmp_path):
    image, place, ran = tmp_path / "image", None, []
    subprocess.run([sys.executable, "-m", "venv", str(image)], check=True)
    alone = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    alone |= {"PATH": f"{image / 'bin'}{os.pathsep}{os.environ['PATH']}", "VIRTUAL_ENV": str(image)}

    def run(words, **options):
        done = subprocess.run(words, cwd=place, env=alone, capture_output=True, text=True, check=False, **options)
        assert done.returncode == 0, f"{words}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
        return done.stdout

    for name, words in steps_of(folder):
        if name == "WORKDIR":
            place = tmp_path / words.strip("/")
        elif name == "COPY":
            assert words == ". ."
            shutil.copytree(folder, place)
        elif name == "RUN":
            ran.append(run(words, shell=True))
        elif name == "ENTRYPOINT":
            expected = json.loads((place / "examples" / "expected.json").read_text())
            answers = run([*json.loads(words), *(e["file"] for e in expected)])
    assert "3 examples are answered as expected" in ran[-1]
    found = [json.loads(line) for line in answers.splitlines()]
    assert [(a["file"], a["labels"]) for a in found] == [(e["file"], e["labels"]) for e in expected]
    probs, right = (np.array([list(a["probabilities"].values()) for a in side]) for side in (found, expected))
    assert np.abs(probs - right).max() < 1e-5
    assert len(expected) == 3
    installed = {line.split("==")[0] for line in run(["python", "-m", "pip", "freeze"]).splitlines()}
    assert not installed & {"torch", "onecycle", "onnx", "pandas"}
