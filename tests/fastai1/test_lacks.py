"""The scan of notebooks: it finds what they would lack, and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path[:0] = [str(BENCHMARKS)]

from harness.cells import sources, trees  # noqa: E402
from harness.lacks import scan  # noqa: E402

HEAD = "%matplotlib inline\nfrom fastai.vision import *"
LISTS = "sd = ImageList.from_folder('x').split_by_rand_pct()\nll = sd.label_from_folder()"
DATA = f"{LISTS}\ndata = ll.transform(get_transforms(), size=28).databunch(bs=2).normalize(imagenet_stats)"
LEARN = f"{DATA}\nlearn = cnn_learner(data, models.resnet18, metrics=accuracy)"


def write(path: Path, *cells: str) -> Path:
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells]), path)
    return path


def lacks_of(tmp_path: Path, *cells: str) -> list[set[str]]:
    return scan(list(trees(write(tmp_path / "a.ipynb", HEAD, *cells))))[1:]


@pytest.mark.parametrize(
    ("cell", "lack"),
    [
        ("load_data(1)", "name load_data"),
        ("from fastai.basic_data import load_data", "name load_data (from fastai.basic_data)"),
        ("unet_learner(1)", "out of scope: unet_learner"),
        ("from fastai.text import *", "out of scope: module fastai.text"),
        ("import fastai.nothing", "module fastai.nothing"),
        ("vision.nothing", "attribute fastai.vision.nothing"),
        ("ImageList.nothing", "attribute ImageList.nothing"),
        (f"{LISTS}\nsd.nothing()", "attribute SplitList.nothing"),
        (f"{DATA}\ndata.nothing", "attribute ImageDataBunch.nothing"),
        (f"{DATA}\ndata.one_batch(nothing=3)", "keyword ImageDataBunch.one_batch(nothing=)"),
        (f"{LISTS}\nll.transform(get_transforms(), nothing=2)", "keyword LabeledLists.transform(nothing=)"),
        ("create_head(1, 2, nothing=3)", "keyword create_head(nothing=)"),
        (f"{LEARN}\nlearn.nothing()", "attribute Learner.nothing"),
        (f"{LEARN}\nlearn.fit_one_cycle(1, nothing=3)", "keyword Learner.fit_one_cycle(nothing=)"),
        (f"{LEARN}\nlearn.interpret().nothing", "attribute ClassificationInterpretation.nothing"),
        ("def f():\n    return load_data", "name load_data"),
        ("[load_data for i in range(3)]", "name load_data"),
        ("class A(ItemBase): pass\nload_data", "name load_data"),
    ],
)
def test_a_cell_that_lacks_something(tmp_path, cell, lack):
    assert lack in lacks_of(tmp_path, cell)[0]


@pytest.mark.parametrize(
    "cell",
    [
        f"{LEARN}\nlearn.fit_one_cycle(1, slice(1e-3), pct_start=.3)\nlearn.recorder.plot()",
        f"{LEARN}\nlearn.mine = 3\nlearn.mine",
        f"{DATA}\ndef f(data): return data.nothing",
        "load_data = 3\nload_data",
        "def f(load_data): return load_data",
        "[load_data for load_data in range(3)]",
        "not_v1_s_but_the_reader_s",
        "np.nothing; torch.nothing",
        "%%bash\nload_data",
        "!pip install fastai\nfiles = !ls",
        "%%time\nx = 3",
        "class A(ImageList):\n    def open(self, fn): return self.other\nA.from_folder('x').mine()",
        "from no_such_package import *\nload_data",
    ],
)
def test_a_cell_that_lacks_nothing(tmp_path, cell):
    assert lacks_of(tmp_path, cell) == [set()]


def test_each_cell_counts_for_itself(tmp_path):
    found = lacks_of(tmp_path, "x = load_data(1)", "x.something", "print 'Python 2'", "load_data")
    assert found == [{"name load_data"}, set(), set(), {"name load_data"}]


def test_old_notebooks_and_scripts_are_read(tmp_path):
    old = {"nbformat": 3, "worksheets": [{"cells": [{"cell_type": "code", "input": ["a = 1\n", "b = 2"]}]}]}
    (tmp_path / "old.ipynb").write_text(json.dumps(old))
    (tmp_path / "script.py").write_text("a = 3\n")
    assert sources(tmp_path / "old.ipynb") == ["a = 1\nb = 2"]
    assert sources(tmp_path / "script.py") == ["a = 3\n"]


def test_the_command_counts_notebooks_and_cells(tmp_path):
    write(tmp_path / "whole.ipynb", HEAD, "Path('.').ls()")
    write(tmp_path / "lacking.ipynb", HEAD, "load_data(1)", "unet_learner(1)")
    write(tmp_path / "other.ipynb", "import torch")
    (tmp_path / "broken.ipynb").write_text("no notebook")
    words = [sys.executable, BENCHMARKS / "notebooks.py", tmp_path, "--out", tmp_path / "all.json"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[0] == "1 of 2 notebooks are whole (50%); 3 of 5 cells lack nothing"
    rows = {Path(row["notebook"]).name: row for row in json.loads((tmp_path / "all.json").read_text())}
    assert rows["lacking.ipynb"]["lacking"] == {"2": ["name load_data"], "3": ["out of scope: unet_learner"]}
