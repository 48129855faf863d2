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
        ("CallbackHandler(1)", "name CallbackHandler"),
        ("from fastai.callback import CallbackHandler", "name CallbackHandler (from fastai.callback)"),
        ("unet_learner(1)", "out of scope: unet_learner"),
        ("from fastai.text import *", "out of scope: module fastai.text"),
        ("import fastai.nothing", "module fastai.nothing"),
        ("from fastai.tabular import *\ntabular_learner", "name tabular_learner (perhaps of fastai.tabular)"),
        ("from fastai.tabular import TabularList as T\nT.x", "out of scope: T"),
        ("vision.nothing", "attribute fastai.vision.nothing"),
        ("ImageList.nothing", "attribute ImageList.nothing"),
        (f"{LISTS}\nsd.nothing()", "attribute ItemLists.nothing"),
        (f"{DATA}\ndata.nothing", "attribute ImageDataBunch.nothing"),
        (f"{DATA}\ndata.one_batch(nothing=3)", "keyword ImageDataBunch.one_batch(nothing=)"),
        (f"{LISTS}\nll.transform(get_transforms(), nothing=2)", "keyword LabelLists.transform(nothing=)"),
        ("create_head(1, 2, nothing=3)", "keyword create_head(nothing=)"),
        (f"{LEARN}\nlearn.nothing()", "attribute Learner.nothing"),
        (f"{LEARN}\nlearn.fit_one_cycle(1, nothing=3)", "keyword Learner.fit_one_cycle(nothing=)"),
        (f"{LEARN}\nlearn.interpret().nothing", "attribute ClassificationInterpretation.nothing"),
        ("def f():\n    return CallbackHandler", "name CallbackHandler"),
        ("[CallbackHandler for i in range(3)]", "name CallbackHandler"),
        ("class A(ItemBase): pass\nCallbackHandler", "name CallbackHandler"),
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
        "CallbackHandler = 3\nCallbackHandler",
        "def f(CallbackHandler): return CallbackHandler",
        "[CallbackHandler for CallbackHandler in range(3)]",
        "not_v1_s_but_the_reader_s",
        "np.nothing; torch.nothing",
        "%%bash\nCallbackHandler",
        "!pip install fastai\nfiles = !ls",
        "%%time\nx = 3",
        "class A(ImageList):\n    def other(self): return self.open\nA.from_folder('x').other()",
        "class A(ImageList, Other):\n    def open(self, fn): return self.other",
        "class A(ImageList):\n    def __init__(self, *a, mine=3, **k): self.mine = mine\nA([], mine=4).mine",
        "def _grey(x): return x\ngrey = TfmPixel(_grey)\nopen_image('x').rotate(5).grey().clone()",
        "@TfmPixel\ndef grey(x): return x\nopen_image('x').grey()",
        f"{LEARN}\nlearn.fit(1, callbacks=[callbacks.CSVLogger(learn)])\nlearn.csv_logger.read_logged_file()",
        f"{LEARN}\nclass Told(LearnerCallback): pass\nlearn.callback_fns.append(Told)\nlearn.told",
        f"{LEARN}\nsetattr(learn, 'mine', 3)\nlearn.mine",
        f"{LEARN}\ndef add(l): l.mine = 3\nadd(learn)\nlearn.mine",
        f"{LEARN}\nlearn.recorder.plot(suggestion=True)\nlearn.data.train_ds.x.items",
        "from PIL import Image\nImage.open('x')",
        "from utils import show_batch, ImageList\nImageList.mine",
        "try:\n    from fastai.nothing import x\nexcept ImportError:\n    x = None",
        "try:\n    ImageList.nothing\nexcept:\n    pass",
        "def f(): return CallbackHandler(1)\ndef CallbackHandler(n): pass",
        "def f():\n    global CallbackHandler\n    CallbackHandler = 3\nf()\nCallbackHandler",
        "if 3:\n    x = ImageList.from_folder('x')\nelse:\n    x = Path('x')\nx.nothing",
        "p = Path('x')/'y'\np.ls(), p.parent.nothing, (p/'z').exists()",
        "kw = dict(mine=3)\nmine(**kw)\nget_transforms(**dict(do_flip=True))",
        "partial(cnn_learner, ps=.5)(1, 2, metrics=[partial(fbeta, thresh=.2)])",
        "rotate(degrees=(-5, 5), p=.5)\nopen_image('x').apply_tfms([], size=3).show(y=3, figsize=(2, 2), alpha=.3)",
        "x = [o.size for o in map(open_image, [])]\nDatasetType.Train.name\nhelp(ImageList.from_df)",
        "from no_such_package import *\nCallbackHandler",
    ],
)
def test_a_cell_that_lacks_nothing(tmp_path, cell):
    assert lacks_of(tmp_path, cell) == [set()]


OF_CLASSES = [
    ("ImageDataBunch.from_folder('x', nothing=3)", "keyword ImageDataBunch.from_folder(nothing=)"),
    ("ImageDataBunch.from_csv('x', nothing=3)", "keyword ImageDataBunch.from_csv(nothing=)"),
    ("ImageDataBunch.from_name_re('x', [], 'a', nothing=3)", "keyword ImageDataBunch.from_name_re(nothing=)"),
    ("ImageList.from_df(df, nothing=3)", "keyword ImageList.from_df(nothing=)"),
    ("ImageList.from_csv('x', 'y', nothing=3)", "keyword ImageList.from_csv(nothing=)"),
    ("ImageList.from_folder('x', nothing=3)", "keyword ImageList.from_folder(nothing=)"),
    ("sd.label_from_df(nothing=3)", "keyword ItemLists.label_from_df(nothing=)"),
    ("sd.label_from_folder(nothing=3)", "keyword ItemLists.label_from_folder(nothing=)"),
    ("ll.databunch(nothing=3)", "keyword LabelLists.databunch(nothing=)"),
    ("data.show_batch(nothing=3)", "keyword ImageDataBunch.show_batch(nothing=)"),
    ("data.train_ds[0][0].nothing", "attribute Image.nothing"),
    ("x, y = data.train_ds[0]\nx.nothing", "attribute Image.nothing"),
    ("data.valid_ds.nothing", "attribute PictureList.nothing"),
    ("data.train_dl.nothing", "attribute PictureLoader.nothing"),
    ("cnn_learner(data, models.resnet18, nothing=3)", "keyword cnn_learner(nothing=)"),
    ("Learner(data, learn.model, nothing=3)", "keyword Learner(nothing=)"),
    ("learn.predict(1, nothing=3)", "keyword Learner.predict(nothing=)"),
    ("learn.get_preds(nothing=3)", "keyword Learner.get_preds(nothing=)"),
    ("learn.fit_fc(nothing=3)", "keyword Learner.fit_fc(nothing=)"),
    ("fit_one_cycle(learn, 1, nothing=3)", "keyword fit_one_cycle(nothing=)"),
    ("learn.load('x', nothing=3)", "keyword Learner.load(nothing=)"),
    ("learn.load('x').nothing", "attribute Learner.nothing"),
    ("learn.recorder.nothing", "attribute Recorder.nothing"),
    ("learn.data.nothing", "attribute ImageDataBunch.nothing"),
    ("learn.data.train_ds.y.nothing", "attribute LabelView.nothing"),
    (
        "learn.interpret().plot_top_losses(9, nothing=3)",
        "keyword ClassificationInterpretation.plot_top_losses(nothing=)",
    ),
    ("load_learner('x').nothing", "attribute LoadedLearner.nothing"),
    ("open_image('x').nothing", "attribute Image.nothing"),
    ("open_image('x').rotate(5).nothing", "attribute Image.nothing"),
    ("open_image('x').rotate(nothing=5)", "keyword Image.rotate(nothing=)"),
    ("rotate(nothing=5)", "keyword rotate(nothing=)"),
    ("(untar_data(URLs.PETS)/'images').nothing", "attribute Path.nothing"),
    ("URLs.NOTHING", "attribute URLs.NOTHING"),
    ("DatasetType.Nothing", "attribute DatasetType.Nothing"),
    ("accuracy(1, 2, 3, 4, 5)", "arguments accuracy: more than 2 by position"),
    ("import fastai\nfastai.tabular.x", "out of scope: module fastai.tabular"),
    ("(ImageList.from_csv('x', 'y')\n .split_by_idx([1])\n .label_from_df()).nothing", "attribute LabelLists.nothing"),
]


def test_what_each_class_and_function_lacks(tmp_path):
    _, *found = lacks_of(tmp_path, LEARN, *(cell for cell, _ in OF_CLASSES))
    assert [cell for (cell, lack), lacks in zip(OF_CLASSES, found, strict=True) if lacks != {lack}] == []


@pytest.mark.parametrize(
    "cell",
    [
        "def get():\n    x = ImageList.from_folder('x')\n    return x\nget().nothing",
        "def f(l): return l.nothing\nf(ImageList.from_folder('x'))",
        "def f(l: ImageList): return l.nothing",
        "f = lambda l: l.nothing\nf(ImageList.from_folder('x'))",
        "[l.nothing for l in [ImageList.from_folder('x')]]",
        "x = [x for x in range(3) if ImageList.nothing]",
        "def f():\n    def g(): return ImageList.nothing\n    return g",
        "IL = ImageList\nIL.nothing",
        "import fastai.vision as fv\nfv.ImageList.nothing",
        "from fastai.vision import ImageList as IL\nIL.from_folder('x').nothing",
        "from numpy import *\nImageList.nothing",
        "class A(ImageList):\n    def f(self): return self.nothing",
        "class A(ImageList): pass\nclass B(A): pass\nB.from_folder('x').nothing",
        "class A(ImageList):\n    def open(self, fn): return super().nothing(fn)",
        "class Other:\n    def f(self): self.nothing = 3\nImageList.nothing",
        "class A:\n    class B:\n        if 3: x = ImageList.nothing",
        "getattr(ImageList, 'nothing')",
        "a, (b, c) = 3, (ImageList.from_folder('x'), 4)\nb.nothing",
        "x = ImageList.from_folder('x') if 3 else ImageList.from_folder('y')\nx.nothing",
        "if 3:\n    x = ImageList.from_folder('x')\nelse:\n    x = ImageList.from_folder('y')\nx.nothing",
        "with open('x') as f:\n    ImageList.nothing",
        "try:\n    x = 3\nfinally:\n    ImageList.nothing",
        "x = f'{ImageList.nothing}'",
        "x = (y := ImageList).nothing",
        "print(*ImageList.nothing)",
        "@ImageList.nothing\ndef f(x=3): pass",
        "def f(x=ImageList.nothing): pass",
        "x = {}\nx[ImageList.nothing] = 3",
        "match 3:\n    case 3: ImageList.nothing",
    ],
)
def test_an_attribute_that_lacks_is_seen_wherever_it_stands(tmp_path, cell):
    assert lacks_of(tmp_path, cell) == [{"attribute ImageList.nothing"}]


@pytest.mark.parametrize(
    "cell",
    [
        "kw = dict(nothing=3)\ncnn_learner(1, 2, **kw)",
        "kw = {**dict(ps=.5), 'nothing': 3}\ncnn_learner(1, 2, **kw)",
        "partial(cnn_learner, nothing=3)",
        "import functools\nfunctools.partial(cnn_learner, pretrained=False)(1, 2, nothing=3)",
    ],
)
def test_a_keyword_that_lacks_is_seen_however_it_is_passed(tmp_path, cell):
    assert lacks_of(tmp_path, cell) == [{"keyword cnn_learner(nothing=)"}]


@pytest.mark.parametrize(
    "cell",
    [
        "def f(CallbackHandler): pass\nCallbackHandler(3)",
        "[CallbackHandler for CallbackHandler in range(3)]\nCallbackHandler",
        "def f():\n    CallbackHandler = 3\nCallbackHandler",
        "CallbackHandler(3)\ndef CallbackHandler(n): pass",
    ],
)
def test_a_name_that_only_something_else_has_lacks(tmp_path, cell):
    assert lacks_of(tmp_path, cell) == [{"name CallbackHandler"}]


def test_each_cell_counts_for_itself(tmp_path):
    found = lacks_of(tmp_path, "x = CallbackHandler(1)", "x.something", "print 'Python 2'", "CallbackHandler")
    assert found == [{"name CallbackHandler"}, set(), set(), {"name CallbackHandler"}]


def test_old_notebooks_and_scripts_are_read(tmp_path):
    old = {"nbformat": 3, "worksheets": [{"cells": [{"cell_type": "code", "input": ["a = 1\n", "b = 2"]}]}]}
    (tmp_path / "old.ipynb").write_text(json.dumps(old))
    (tmp_path / "script.py").write_text("a = 3\n")
    assert sources(tmp_path / "old.ipynb") == ["a = 1\nb = 2"]
    assert sources(tmp_path / "script.py") == ["a = 3\n"]


def test_the_command_counts_notebooks_and_cells(tmp_path):
    write(tmp_path / "whole.ipynb", HEAD, "Path('.').ls()")
    write(tmp_path / "lacking.ipynb", HEAD, "CallbackHandler(1)", "unet_learner(1)")
    write(tmp_path / "other.ipynb", "import torch")
    (tmp_path / "broken.ipynb").write_text("no notebook")
    words = [sys.executable, BENCHMARKS / "notebooks.py", tmp_path, "--out", tmp_path / "all.json"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[0] == "1 of 2 notebooks are whole (50%); 3 of 5 cells lack nothing"
    rows = {Path(row["notebook"]).name: row for row in json.loads((tmp_path / "all.json").read_text())}
    assert rows["lacking.ipynb"]["lacking"] == {"2": ["name CallbackHandler"], "3": ["out of scope: unet_learner"]}
