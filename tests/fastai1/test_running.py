"""A notebook of v1's executed cell by cell: what runs, what does not and why, and what it leaves alone."""

from __future__ import annotations

import json
import sys

import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpecManager

from onecycle.cli.notebook import run_kernel_install, run_notebook
from onecycle.errors import ArgumentError, DataError
from onecycle.fastai1.notebook.kernel import NAME, TITLE
from onecycle.fastai1.notebook.running import assigned, what_lacks, without_installs

pytestmark = pytest.mark.filterwarnings("ignore")  # of Jupyter's own machinery

CELLS = (
    "!pip install fastai==1.0.61\nx = 2",
    "from fastai.vision import *\nx * 3, __version__",
    "y = no_such_thing(x)",
    "y + 1",
    "unet_learner(1)",
    "",
    "import no_such_package",
    "Path('.').ls()[0].name",
)


def write_notebook(path, cells):
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in cells])
    book.cells.insert(0, nbformat.v4.new_markdown_cell("# A title"))
    nbformat.write(book, path)
    return path


def test_each_cell_is_reported_with_what_it_lacks(tmp_path, capsys):
    path = write_notebook(tmp_path / "a.ipynb", CELLS)
    before = path.read_bytes()
    assert run_notebook(path, out=tmp_path / "b.ipynb", as_json=True) == 1
    *cells, whole = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [c["number"] for c in cells] == list(range(1, 9))
    assert [bool(c["error"]) for c in cells] == [False, False, True, True, True, False, True, False]
    assert (whole["cells"], whole["ran"]) == (8, 4)
    assert cells[0]["left_out"] == ["!pip install fastai==1.0.61"]
    assert cells[3]["lacks"] == "y would come from cell 3, which failed"
    assert "segmentation" in cells[4]["error"]
    assert cells[6]["lacks"] == "the package no_such_package is not installed here"
    assert path.read_bytes() == before
    book = nbformat.read(tmp_path / "b.ipynb", as_version=4)
    code = [c for c in book.cells if c.cell_type == "code"]
    assert tuple(c.source for c in code) == CELLS
    assert code[1].outputs[0]["data"]["text/plain"] == "(6, '1.0.61')"
    assert code[7].outputs[0]["data"]["text/plain"] == "'a.ipynb'"


def test_what_cannot_be_read_or_written_is_an_error_at_once(tmp_path):
    path = write_notebook(tmp_path / "a.ipynb", ["1"])
    (tmp_path / "text.ipynb").write_text("no notebook")
    with pytest.raises(DataError, match="cannot be read as a notebook"):
        run_notebook(tmp_path / "text.ipynb")
    with pytest.raises(DataError, match="cannot be read as a notebook"):
        run_notebook(tmp_path / "none.ipynb")
    with pytest.raises(ArgumentError, match="is there already"):
        run_notebook(path, out=path)


def test_the_kernel_is_installed_where_jupyter_finds_it(tmp_path, capsys):
    assert run_kernel_install(prefix=tmp_path) == 0
    assert TITLE in capsys.readouterr().out
    spec = KernelSpecManager(kernel_dirs=[str(tmp_path / "share" / "jupyter" / "kernels")]).get_kernel_spec(NAME)
    assert spec.display_name == TITLE
    assert spec.argv[0] == sys.executable
    assert spec.argv[-1] == "--IPKernelApp.extra_extensions=onecycle.as_fastai"


@pytest.mark.parametrize(
    ("line", "is_left_out"),
    [
        ("!pip install fastai", True),
        ("  %pip install -q torch==1.0", True),
        ("!{sys.executable} -m pip install fastai", True),
        ("!conda install -c fastai fastai", True),
        ("!curl -s https://course.fast.ai/setup/colab | bash", True),
        ("!pip list", False),
        ("!ls data", False),
        ("pip = install(1)", False),
        ("!cat a.csv | sort", False),
    ],
)
def test_lines_that_install_are_left_out(line, is_left_out):
    source, lines = without_installs(f"a = 1\n{line}\nb = 2")
    assert lines == ((line.strip(),) if is_left_out else ())
    assert source.splitlines()[1].strip() == ("pass" if is_left_out else line.strip())


def test_names_that_a_cell_would_have_given():
    source = (
        "%matplotlib inline\nimport a.b, c as d\nx, (y, z) = 1, (2, 3)\ndef f(): pass\nclass K: pass\nfor i in x: pass"
    )
    assert assigned(source) == {"a", "d", "x", "y", "z", "f", "K", "i"}
    assert assigned("no python at all") == frozenset()


def test_what_is_v1_s_and_not_here_is_told_apart():
    assert what_lacks("NameError", "name 'load_data' is not defined", {}) == "fastai v1's load_data is not in onecycle"
    assert what_lacks("NameError", "name 'mine' is not defined", {}) == ""
    assert what_lacks("ModuleNotFoundError", "No module named 'fastai.nix'", {}) == ""
    assert what_lacks("", "", {}) == ""


def test_short_runs_cut_epochs_however_they_are_given(monkeypatch):
    from onecycle.fastai1.notebook import short
    from onecycle.learner.learner import Learner

    calls = []

    def fit(self, epochs, lr=1e-3):
        calls.append(("fit", epochs, lr))

    def fit_one_cycle(self, cyc_len, max_lr=1e-3):
        calls.append(("fit_one_cycle", cyc_len, max_lr))

    def fine_tune(self, epochs=None):
        calls.append(("fine_tune", epochs))

    def lr_find(self, start_lr=1e-7, num_it=100):
        calls.append(("lr_find", start_lr, num_it))

    for method in (fit, fit_one_cycle, fine_tune, lr_find):
        monkeypatch.setattr(Learner, method.__name__, method)
    short.cut_epochs(2)
    learn = Learner.__new__(Learner)
    learn.fit(5, 0.1)
    learn.fit_one_cycle(max_lr=0.2, cyc_len=1)
    learn.fine_tune()
    learn.lr_find()
    assert calls == [("fit", 2, 0.1), ("fit_one_cycle", 1, 0.2), ("fine_tune", None), ("lr_find", 1e-7, 20)]
