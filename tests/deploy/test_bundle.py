"""The exported folder: it answers as the predictor does, alone, or it is not there at all."""

import json
import os
import shutil
import stat
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile
from torch import nn

import onecycle
from exported_toys import CLASSES, toy_files, toy_predictor
from onecycle.data.bunch import ImageDataBunch
from onecycle.data.labels.items import DatasetType, list_images
from onecycle.data.pixels.image import open_image
from onecycle.errors import ArchiveError, ArgumentError, CheckpointError, DataError, ExportError
from onecycle.evaluation.predictions import Predictions
from onecycle.learner.cnn import cnn_learner

pytest.importorskip("onnxruntime", reason="needs the extra export")
pytest.importorskip("onnxscript", reason="needs the extra export")

from onecycle.deploy import bundle as bundles
from onecycle.deploy.card import Card
from onecycle.deploy.exported import load_learner
from onecycle.deploy.graph import resize_graph
from onecycle.deploy.portable import predict
from onecycle.deploy.verify import made_pictures, near_a_limit

CARD = Card(name="toy")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    files = toy_files(folder)
    predictor = toy_predictor(is_multi=True, calibrated=True)
    return predictor, files, bundles.export_bundle(predictor, folder / "model", files, CARD)


def test_it_holds_what_it_says(exported):
    _, _, made = exported
    names = {p.relative_to(made.folder).as_posix() for p in made.folder.rglob("*") if p.is_file()}
    assert {"model.onnx", "manifest.json", "README.md", "predict.py", "test.py", "Dockerfile"} < names
    manifest = json.loads((made.folder / "manifest.json").read_text())
    assert set(manifest["sha256"]) == names - {"manifest.json"}
    assert manifest["classes"] == list(CLASSES)
    assert manifest["verification"]["same"]
    assert made.verification.pictures == 6
    assert made.verification.raw == 15  # all but the 4000 × 3000 one
    with zipfile.ZipFile(made.archive) as archive:
        assert {f"model/{name}" for name in names} == set(archive.namelist())
        assert all(member.compress_type == zipfile.ZIP_STORED for member in archive.infolist())


def test_predict_and_test_run_alone_and_agree(exported):
    predictor, files, made = exported
    alone = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    blocker = "import runpy, sys; sys.modules.update(torch=None, onecycle=None, pandas=None); "
    for script, arguments in (("test.py", []), ("predict.py", files)):
        code = f"{blocker}sys.path.insert(0, {str(made.folder)!r}); sys.argv = {[script, *arguments]!r}; "
        code += f"runpy.run_path({str(made.folder / script)!r}, run_name='__main__')"
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=alone, check=False)
        assert ran.returncode == 0, ran.stderr
    answers = [json.loads(line) for line in ran.stdout.splitlines()]
    right = predictor.predict(files)
    assert [a["file"] for a in answers] == files
    probs = np.array([[a["probabilities"][c] for c in CLASSES] for a in answers])
    assert np.abs(probs - right.shown_probs).max() < 1e-5
    assert [tuple(a["labels"]) for a in answers] == [right.names_of(d) for d in right.decided]


def test_a_changed_file_is_noticed_by_its_own_test(exported, tmp_path, monkeypatch):
    _, _, made = exported
    copy = tmp_path / "copy"
    with zipfile.ZipFile(made.archive) as archive:
        archive.extractall(tmp_path)
    (tmp_path / "model").rename(copy)
    expected = json.loads((copy / "examples" / "expected.json").read_text())
    expected[0]["probabilities"]["a"] += 0.01
    (copy / "examples" / "expected.json").write_text(json.dumps(expected))
    ran = subprocess.run([sys.executable, "test.py"], cwd=copy, capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert "examples/expected.json is not the file that was exported" in ran.stdout
    assert f"{expected[0]['file']}: expected" in ran.stdout


def test_another_network_under_the_same_name_is_not_loaded(exported, tmp_path):
    copy = shutil.copytree(exported[2].folder, tmp_path / "copy")
    with (copy / "model.onnx").open("ab") as file:
        file.write(b"\x1a\x00")  # a field more, which onnxruntime reads past
    with pytest.raises(ExportError, match=r"copy.*model\.onnx is not the file that was exported and verified"):
        onecycle.load(copy)


class _Swapped(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(x.flip(1))


class _Reordered(_Swapped):
    def forward(self, x):
        return self.model(x)[:, [1, 0, 2, 3]]


def _without_antialias(n_in, n_out, start, visible):
    at, weights = _TAPS(n_in, n_out, start, visible)
    one = torch.zeros_like(weights)
    one[:, weights.shape[1] // 2] = 2**resize_graph.FIXED_BITS
    return at, one


_TAPS = resize_graph._taps


FAULTS = ["channels", "mean", "order", "no antialias in the graph", "no antialias in the file"]


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_faults_are_refused_and_leave_nothing(fault, tmp_path, monkeypatch):
    right = toy_predictor()
    wrong = {
        "channels": replace(right, model=_Swapped(right.model)),
        "mean": replace(right, stats=((0.5, 0.456, 0.406), (0.229, 0.224, 0.225))),
        "order": replace(right, model=_Reordered(right.model)),
    }.get(fault, right)
    onnx_of = bundles.onnx_of
    monkeypatch.setattr(bundles, "onnx_of", lambda _, distance: onnx_of(wrong, distance))
    monkeypatch.setattr(bundles, "made_pictures", lambda _: [])
    if fault == "no antialias in the graph":
        monkeypatch.setattr(resize_graph, "_taps", _without_antialias)
    if fault == "no antialias in the file":
        nearest = Image.Resampling.NEAREST
        monkeypatch.setattr(
            predict, "scaled_to", lambda p, wanted, *_: np.array(Image.fromarray(p).resize(wanted[::-1], nearest))
        )
    files = toy_files(tmp_path)
    with pytest.raises(ExportError, match=r"not the same as the run's, so nothing was written: 6 of 6"):
        bundles.export_bundle(right, tmp_path / "out" / "model", files, CARD)
    assert list((tmp_path / "out").iterdir()) == []


def test_what_is_there_is_replaced_only_when_asked_and_only_a_model(exported, tmp_path):
    predictor, files, made = exported
    with pytest.raises(ArgumentError, match="force=True replaces it"):
        bundles.export_bundle(predictor, made.folder, files, CARD)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("all of it")
    with pytest.raises(ArgumentError, match="is no exported model"):
        bundles.export_bundle(predictor, mine, files, CARD, force=True)
    assert (mine / "thesis.txt").read_text() == "all of it"
    before = (made.folder / "model.onnx").stat().st_ino
    bundles.export_bundle(predictor, made.folder, files, CARD, force=True)
    assert (made.folder / "model.onnx").stat().st_ino != before


def test_a_zip_of_something_else_is_not_replaced(exported, tmp_path):
    predictor, files, made = exported
    data = tmp_path / "tiles.zip"
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("tiles/labels.csv", "image_name,tags")
    before = data.read_bytes()
    for force in (False, True):
        with pytest.raises(ArgumentError, match=r"tiles\.zip is there already, and is no exported model"):
            bundles.export_bundle(predictor, tmp_path / "tiles", files, CARD, force=force)
    assert data.read_bytes() == before
    assert os.listdir(tmp_path) == ["tiles.zip"]
    bundles.check_place(tmp_path / "tiles", archive=False, force=False)
    for here in (".", ".."):
        with pytest.raises(ArgumentError, match="is there already, and is no exported model"):
            bundles.check_place(Path(here), archive=True, force=True)
    with pytest.raises(ArgumentError, match="name the folder, tiles, and"):
        bundles.check_place(data, archive=True, force=True)
    shutil.copyfile(made.archive, data)
    with pytest.raises(ArgumentError, match="force=True replaces it"):
        bundles.check_place(tmp_path / "tiles", archive=True, force=False)
    bundles.check_place(tmp_path / "tiles", archive=True, force=True)


def test_made_pictures_are_of_the_kinds_that_go_wrong(tmp_path):
    kinds = {}
    for path in made_pictures(tmp_path):
        with Image.open(path) as picture:
            kinds[os.path.basename(path)] = (picture.mode, picture.size)
    assert kinds["large.jpg"] == ("RGB", (4000, 3000))
    assert kinds["one-pixel.png"][1] == (1, 1)
    assert {mode for mode, _ in kinds.values()} == {"RGB", "L", "I;16", "RGBA", "P", "CMYK"}


def test_near_a_limit_is_a_matter_of_thresholds_or_of_the_two_best():
    probs = np.array([[0.5, 0.2], [0.500001, 0.499999], [0.500005, 0.9]], np.float32)
    tags = Predictions.of(probs, is_multi=True, files=("1", "2", "3"), classes=("a", "b"))
    assert near_a_limit(tags, tags.decided).tolist() == [True, True, True]
    classes = Predictions.of(probs, is_multi=False, files=("1", "2", "3"), classes=("a", "b"))
    assert near_a_limit(classes, np.array([1, 1, 0])).tolist() == [False, True, False]


def test_a_page_for_browsers_is_there_where_it_was_asked_for_and_asks_for_nothing_outside(exported, tmp_path):
    predictor, files, plain = exported
    assert not (plain.folder / "web").exists()
    made = bundles.export_bundle(predictor, tmp_path / "model", files, CARD, archive=False, web=True)
    page, script = ((made.folder / "web" / name).read_text() for name in ("index.html", "page.js"))
    assert {"web/index.html", "web/page.js"} < set(json.loads((made.folder / "manifest.json").read_text())["sha256"])
    assert "default-src 'none'" in page
    assert "://" not in page + script
    assert "--accent:" in page  # the style that it shares
    assert len((page + script).splitlines()) < 300


def test_files_that_cannot_be_read_are_named_and_the_rest_answered(exported, tmp_path):
    _, files, made = exported
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "drawing.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n")
    asked = [files[0], str(tmp_path / "notes.txt"), str(tmp_path / "drawing.eps"), str(tmp_path / "gone.png"), files[1]]
    answers = list(predict.Model(made.folder).predict(asked))
    assert [a["file"] for a in answers] == asked
    assert ["error" in a for a in answers] == [False, True, True, True, False]
    assert "PostScript" in answers[2]["error"]


def _breaks(error):
    def load(self):
        raise error

    return load


@pytest.mark.parametrize(
    "error",
    [SyntaxError("broken chunk"), RuntimeError("no item"), AttributeError("offset"), MemoryError()],
    ids=["syntax", "runtime", "attribute", "memory"],
)
def test_whatever_a_decoder_raises_is_about_one_file(error, exported, monkeypatch):
    _, files, made = exported
    one, other = Path(files[0]).read_bytes(), Path(files[1]).read_bytes()
    model = predict.Model(made.folder)
    monkeypatch.setattr(ImageFile.ImageFile, "load", _breaks(error))
    (answer, _) = model.predict([one, other])
    assert answer["error"] == f"the picture is damaged: its decoder ended with {type(error).__name__}"
    assert len(onecycle.load(made.folder).predict(files).failed) == len(files)


def _run_predict(made, pictures, **environment):
    return subprocess.run(
        [sys.executable, made.folder / "predict.py", *pictures], capture_output=True, check=False, env=environment
    )


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_answers_are_utf8_wherever_predict_py_runs(encoding, exported, tmp_path):
    _, files, made = exported
    names = [str(tmp_path / "雲.png"), os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png")]
    for name in names:
        shutil.copyfile(files[0], name)
    ran = _run_predict(made, names, PYTHONIOENCODING=encoding)
    assert ran.returncode == 0, ran.stderr
    assert [json.loads(line)["file"] for line in ran.stdout.decode().splitlines()] == names


def test_a_reader_that_has_enough_ends_predict_py_without_a_trace(exported):
    _, files, made = exported
    words = [sys.executable, made.folder / "predict.py", *files * 20]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline().startswith(b'{"file"')
        process.stdout.close()
        assert process.stderr.read() == b""


def test_the_card_says_what_the_pictures_show(exported, tmp_path):
    predictor, files, _ = exported
    found = predictor.predict(files)
    targets = found.decided.copy()
    predictions = replace(found, targets=targets, losses=np.zeros(len(files), np.float32), n_train=40)
    card = Card.of(predictions, name="tiles <b>of</b> | mine", data="tiles", notes=("One note.",))
    made = bundles.export_bundle(predictor, tmp_path / "model", files, card, archive=False, examples=False)
    text = (made.folder / "README.md").read_text()
    assert "# tiles &lt;b&gt;of&lt;/b&gt; \\| mine" in text
    assert "On 6 validation pictures; 40 other pictures trained it (tiles)." in text
    assert "| a | " in text
    assert "- One note." in text
    assert json.loads((made.folder / "examples" / "expected.json").read_text()) == []


def test_a_loaded_folder_predicts_as_the_predictor_does(exported):
    predictor, files, made = exported
    loaded, right = onecycle.load(made.folder), predictor.predict(files)
    predictions = loaded.predict([*files, "gone.jpg"])
    assert np.array_equal(predictions.decided, right.decided)
    assert np.abs(predictions.shown_probs - right.shown_probs).max() < 1e-5
    assert np.abs(predictions.probs - right.probs).max() < 1e-5
    assert [f.path for f in predictions.failed] == ["gone.jpg"]
    assert predictions.decisions == right.decisions
    assert np.array_equal(loaded.predict(files, thresh=0.4).decided, predictor.predict(files, thresh=0.4).decided)
    assert "4 tags" in repr(loaded)


def test_load_learner_predicts_as_v1_did(exported, tmp_path):
    predictor, files, made = exported
    learn = load_learner(made.folder.parent, "model", test=[Path(f) for f in files[:3]])
    assert [item.name for item in learn.data.test_ds.items] == [Path(f).name for f in files[:3]]  # paths, as given
    label, index, _ = learn.predict(open_image(files[0]))
    right = predictor.predict(files[:3])
    assert str(label) == ";".join(right.names_of(right.decided[0]))
    assert index.tolist() == right.decided[0].tolist()
    assert learn.data.classes == list(CLASSES)
    found, targets = learn.get_preds(ds_type=DatasetType.Test)
    assert np.abs(found.numpy() - right.shown_probs).max() < 1e-5
    assert targets.shape == found.shape
    with pytest.raises(ArgumentError, match="a loaded model has the pictures of"):
        learn.get_preds(ds_type=DatasetType.Valid)
    with pytest.raises(DataError, match=r"gone\.jpg"):
        load_learner(made.folder, test=["gone.jpg"]).get_preds()
    assert load_learner(made.folder, test=files[0]).data.test_ds.items == files[:1]


def test_v1s_pickle_is_named_and_never_read(tmp_path):
    (tmp_path / "export.pkl").write_bytes(b"cos\nsystem\n(S'exit 3'\ntR.")
    with pytest.raises(CheckpointError, match="is a pickle"):
        load_learner(tmp_path)
    with pytest.raises(CheckpointError, match="no exported model"):
        load_learner(tmp_path / "nothing")


def test_a_learner_exports_itself_and_load_learner_reads_it(colour_path, tmp_path):
    data = ImageDataBunch.from_csv(colour_path, folder="train", suffix=".jpg", size=32, bs=16)
    learn = cnn_learner(data, "tf_efficientnet_lite0", path=tmp_path, silent=True)
    made = learn.export("export.pkl", archive=False)
    assert made.folder == tmp_path / "export"
    loaded = load_learner(tmp_path)
    file = data.valid_ds.items[0]
    assert str(loaded.predict(file)[0]) == str(learn.predict(file)[0])
    assert torch.allclose(loaded.predict(file)[2], learn.predict(file)[2], atol=1e-5)
    half = learn.export("half", weights="half", archive=False, examples=False)
    assert half.weights.enough
    assert (half.weights.score.full.name, half.weights.pictures) == ("accuracy", len(data.valid_ds))


def test_an_export_beside_class_folders_is_no_part_of_the_data(exported, tmp_path):
    _, _, made = exported
    for name in ("cat", "dog"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(5):
            Image.fromarray(np.full((9, 9, 3), 20 * i, np.uint8)).save(tmp_path / "data" / name / f"{name}{i}.png")
    shutil.copytree(made.folder, tmp_path / "data" / "export")
    data = ImageDataBunch.from_folder(tmp_path / "data", valid_pct=0.4, size=9, bs=2)
    assert list(data.classes) == ["cat", "dog"]
    assert len(data.train_ds) + len(data.valid_ds) == 10
    assert len(list_images(made.folder)) == 3  # where it is named itself, its examples are pictures


def test_the_zip_is_loaded_as_the_folder_is_whatever_it_is_called(exported, tmp_path):
    predictor, files, made = exported
    renamed = shutil.copyfile(made.archive, tmp_path / "tiles.zip")
    right = predictor.predict(files[:2])
    for loaded in (onecycle.load(made.archive), onecycle.load(str(renamed))):
        assert np.abs(loaded.predict(files[:2]).shown_probs - right.shown_probs).max() < 1e-5
    assert repr(loaded).endswith("tiles.zip")
    for learn in (load_learner(renamed), load_learner(tmp_path, "tiles.zip"), load_learner(tmp_path, "tiles")):
        assert learn.predict(open_image(files[0]))[1].tolist() == right.decided[0].tolist()


def _link(archive):
    info = zipfile.ZipInfo("model/model.onnx")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    archive.writestr(info, "/etc/passwd")


HOSTILE = {
    "outside": (lambda a: a.writestr("../model.onnx", "x"), r"\.\."),
    "absolute": (lambda a: a.writestr("/etc/model.onnx", "x"), "absolute"),
    "link": (_link, "a link or a device"),
    "bomb": (lambda a: a.writestr("model/model.onnx", bytes(64_000_000), zipfile.ZIP_DEFLATED), "unpacks to more than"),
    "many": (lambda a: [a.writestr(f"model/{i}", "") for i in range(1_001)], "more than 1,000 members"),
}


@pytest.mark.parametrize("kind", list(HOSTILE))
def test_a_hostile_zip_is_refused_in_one_sentence_and_leaves_nothing(kind, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    write, why = HOSTILE[kind]
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        write(archive)
    with pytest.raises(ArchiveError, match=rf"bad\.zip is refused: .*{why}.*; export the model again$"):
        onecycle.load(tmp_path / "bad.zip")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["bad.zip", "scratch"]


def test_a_zip_of_something_else_is_no_model(tmp_path):
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.writestr("a.txt", "a")
    with pytest.raises(ExportError, match=r"photos\.zip is no exported model"):
        onecycle.load(tmp_path / "photos.zip")
