"""``onecycle predict``: the same probabilities as validation, for any files, with those that cannot be read named."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from run_toys import lines
from safetensors import safe_open
from safetensors.torch import save_file

import onecycle
from onecycle.cli.predict import run_predict
from onecycle.deploy import of_files
from onecycle.deploy.predictor import Predictor
from onecycle.errors import ArgumentError, CheckpointError, DataError, OnecycleWarning
from onecycle.evaluation.predictions import Predictions
from onecycle.files import unescaped_cell
from onecycle.runs.predictions import read_predictions


@pytest.fixture(autouse=True)
def _work(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)


def validated(run) -> tuple[Predictions, list[str]]:
    kept = read_predictions(run.run.predictions)
    return kept, [str(run.data / file) for file in kept.files]


@pytest.fixture
def few(class_run) -> Path:
    folder = Path("few")
    (folder / "deeper").mkdir(parents=True)
    for i, to in enumerate(["b.jpg", "a.jpg", "deeper/c.jpg"]):
        shutil.copy(class_run.data / "train" / f"p{i:03d}.jpg", folder / to)
    return folder


@pytest.mark.parametrize("kind", ["class_run", "tag_run"])
def test_probabilities_are_those_of_validation(kind, request, capsys):
    run = request.getfixturevalue(kind)
    kept, files = validated(run)
    assert run_predict(run.path, files, as_json=True, top=4) == 0
    found = lines(capsys.readouterr().out)
    assert [f["file"] for f in found] == files
    shown = kept.probs if kept.shown is None else kept.shown
    for record, p, decided in zip(found, shown, kept.decided, strict=True):
        assert record["event"] == "picture"
        assert [record["probabilities"][c] for c in kept.classes] == pytest.approx(p, abs=5e-5)
        if kept.is_multi:
            assert record["labels"] == [kept.classes[i] for i in np.flatnonzero(decided)]
        else:
            assert record["label"] == kept.classes[int(decided)]


def test_many_small_steps_give_the_same_as_one(class_run, monkeypatch, capsys):
    _, files = validated(class_run)
    files.insert(2, "nothing.jpg")
    texts = []
    for at_once in (256, 5):
        monkeypatch.setattr(of_files, "AT_ONCE", at_once)
        assert run_predict(class_run.path, files, as_json=True) == 3
        texts.append(
            [{k: v for k, v in r.items() if k in ("file", "label", "error")} for r in lines(capsys.readouterr().out)]
        )
    assert texts[0] == texts[1]


def test_the_training_data_is_not_needed(class_run, few, tmp_path, capsys):
    copy = tmp_path / "elsewhere"
    shutil.copytree(class_run.path, copy)
    config = (copy / "config.yaml").read_text().replace(str(class_run.data), "/gone/since")
    (copy / "config.yaml").write_text(config)
    assert run_predict(copy, [few]) == 0
    assert "3 pictures predicted" in capsys.readouterr().out


def test_few_pictures_are_listed_and_nothing_is_written(class_run, few, capsys):
    assert run_predict(class_run.path, [few / "b.jpg", few, few / "b.jpg"]) == 0
    out = capsys.readouterr().out
    listed = [line.split()[0] for line in out.splitlines()[:3]]
    assert listed == ["few/b.jpg", "few/a.jpg", "few/deeper/c.jpg"]
    assert max(len(line) for line in out.splitlines() if "onecycle evaluate" not in line) <= 80
    assert "probabilities are" in out
    assert "onecycle evaluate" in out
    assert not Path("predictions.csv").exists()


def test_many_pictures_are_summed_up_and_written_under_a_free_name(class_run, capsys):
    for name in ("predictions.csv", "predictions-2.csv"):
        assert run_predict(class_run.path, [class_run.data / "train"]) == 0
        out = capsys.readouterr().out
        assert f"written   {name}" in out
        table = pd.read_csv(name)
        assert len(table) == 60
        counts = dict(line.split() for line in out.splitlines()[:3])
        assert {k: int(v) for k, v in counts.items()} == table["label"].value_counts().to_dict()
    assert list(table.columns) == [
        "file", "label", "probability", "label_2", "probability_2", "label_3", "probability_3",
    ]  # fmt: skip
    assert (table["probability"] >= table["probability_2"]).all()


@pytest.mark.parametrize("ending", [".csv", ".json", ".parquet"])
def test_the_ending_decides_the_format(ending, tag_run, few, capsys):
    out = Path(f"found{ending}")
    assert run_predict(tag_run.path, [few], out=out, quiet=True) == 0
    assert capsys.readouterr().out.split() == ["written", str(out)]
    if ending == ".json":
        found = lines(out.read_text())
        assert [f["file"] for f in found] == ["few/a.jpg", "few/b.jpg", "few/deeper/c.jpg"]
        return
    table = pd.read_csv(out, keep_default_na=False) if ending == ".csv" else pd.read_parquet(out)
    assert list(table.columns) == ["file", "labels", "p blue", "p even", "p green", "p red"]
    assert set(table["labels"][1].split(" ")) <= {"blue", "even", "green", "red"}


def test_a_threshold_is_said_and_decides(tag_run, few, capsys):
    assert run_predict(tag_run.path, [few], as_json=True, thresh=0.6, top=4) == 0
    for found in lines(capsys.readouterr().out):
        assert set(found["labels"]) == {name for name, p in found["probabilities"].items() if p >= 0.6}
    run_predict(tag_run.path, [few], thresh=0.0)
    out = " ".join(capsys.readouterr().out.split())
    assert "from a probability of 0 on, as asked" in out
    run_predict(tag_run.path, [few])
    assert "a tag is predicted from its threshold on (" in " ".join(capsys.readouterr().out.split())


def test_files_that_cannot_be_read_are_named_and_the_others_kept(class_run, few, capsys):
    Path("bad.jpg").write_text("no picture")
    assert run_predict(class_run.path, ["bad.jpg", few, "nothere.png"], out=Path("x.csv")) == 3
    said = capsys.readouterr()
    err = " ".join(said.err.split())
    assert "2 of 5 files could not be read" in err
    assert "bad.jpg (text, not a picture" in err
    assert "nothere.png (no such file)" in err
    assert list(pd.read_csv("x.csv")["file"]) == ["few/a.jpg", "few/b.jpg", "few/deeper/c.jpg"]
    assert run_predict(class_run.path, ["bad.jpg"], as_json=True) == 3
    assert lines(capsys.readouterr().out)[0]["error"].startswith("text, not a picture")


def test_what_is_no_file_is_named_and_never_opened(class_run, few, capsys):
    os.mkfifo("pipe.jpg")
    os.symlink("loop.jpg", "loop.jpg")
    names = ["few/a.jpg", "pipe.jpg", "loop.jpg", "/dev/zero", "x" * 300 + ".jpg", "a\0b.jpg"]
    assert run_predict(class_run.path, names, as_json=True) == 3
    said = [found.get("error", "") for found in lines(capsys.readouterr().out)]
    expected = ["", "named pipe", "back to itself", "a device", "File name too long", "NUL"]
    assert [e for e, s in zip(expected, said, strict=True) if e not in s] == [], said


def test_paths_come_from_standard_input(class_run, few, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO("few/a.jpg\r\n\nfew/b.jpg\n"))
    assert run_predict(class_run.path, ["-"], as_json=True) == 0
    assert [f["file"] for f in lines(capsys.readouterr().out)] == ["few/a.jpg", "few/b.jpg"]


def test_names_are_written_as_they_are_and_shown_without_control_characters(class_run, few, capsys):
    hostile = ["=1+1.jpg", "a\x1b[31m\n.jpg", '@x,"y".jpg', "bytes\udcff.jpg"]
    for name in hostile:
        shutil.copy(few / "a.jpg", name)
    assert run_predict(class_run.path, hostile, out=Path("x.csv"), raw_csv=True) == 0
    said = capsys.readouterr()
    assert "\x1b" not in said.out + said.err
    assert "2 cells of x.csv begin with" in " ".join(said.err.split())
    with open("x.csv", newline="", encoding="utf-8", errors="surrogateescape") as file:
        assert [row["file"] for row in csv.DictReader(file)] == hostile
    assert run_predict(class_run.path, hostile, as_json=True) == 0
    assert [f["file"] for f in lines(capsys.readouterr().out)] == hostile
    assert run_predict(class_run.path, hostile, out=Path("x.parquet")) == 0
    assert list(pd.read_parquet("x.parquet")["file"])[:3] == hostile[:3]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"out": Path("x.xlsx")}, r"ends in \.csv, \.json, \.parquet"),
        ({"out": Path("few/a.jpg")}, "ends in"),
        ({"top": 0}, "--top"),
        ({"thresh": 1.5}, "0 to 1"),
        ({"thresh": 0.5}, "one class, the most probable"),
    ],
)
def test_options_that_cannot_work_are_refused(options, message, class_run, few):
    with pytest.raises(ArgumentError, match=message):
        run_predict(class_run.path, [few], **options)


def test_a_file_that_is_there_is_replaced_only_when_asked(class_run, few):
    Path("x.csv").write_text("mine")
    with pytest.raises(ArgumentError, match="--force"):
        run_predict(class_run.path, [few], out=Path("x.csv"))
    assert Path("x.csv").read_text() == "mine"
    assert run_predict(class_run.path, [few], out=Path("x.csv"), force=True) == 0
    assert Path("x.csv").read_text().startswith("file,label")


def test_no_picture_and_no_run_are_said(class_run, monkeypatch):
    Path("empty").mkdir()
    with pytest.raises(DataError, match="no picture in empty"):
        run_predict(class_run.path, ["empty"])
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    with pytest.raises(DataError, match="no picture to predict"):
        run_predict(class_run.path, ["-"])
    with pytest.raises(DataError, match="there is no run 'other'"):
        run_predict("other", ["empty"])


def test_names_that_a_spreadsheet_would_run_get_an_apostrophe_unless_raw(class_run, few, monkeypatch, capsys):
    real = Predictor.load
    monkeypatch.setattr(Predictor, "load", lambda path, **_: replace(real(path), classes=("=cmd", "'=green", "-5")))
    run_predict(class_run.path, [few], out=Path("x.csv"))
    safe = list(csv.reader(io.StringIO(Path("x.csv").read_text())))
    assert {cell for row in safe for cell in row} >= {"'=cmd", "''=green", "-5"}
    assert "begin with" not in capsys.readouterr().err
    run_predict(class_run.path, [few], out=Path("raw.csv"), raw_csv=True)
    raw = list(csv.reader(io.StringIO(Path("raw.csv").read_text())))
    assert [[unescaped_cell(cell) for cell in row] for row in safe] == raw
    assert "begin with" in capsys.readouterr().err


def test_json_is_one_object_a_line_and_nothing_else(class_run, few, capsys):
    run_predict(class_run.path, [few], as_json=True, out=Path("x.csv"))
    out = capsys.readouterr().out
    assert [json.loads(line)["event"] for line in out.splitlines()] == ["picture"] * 3
    assert Path("x.csv").exists()


def test_a_folder_that_cannot_be_written_is_said_before_the_work(class_run, few, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)
    monkeypatch.setattr(Predictor, "load", lambda path, **_: pytest.fail("too late"))
    with pytest.raises(PermissionError) as caught:
        run_predict(class_run.path, [few], out=Path("few/x.csv"))
    assert caught.value.filename == "few"


def test_quiet_is_the_labels_alone(class_run, few, capsys):
    assert run_predict(class_run.path, [few], quiet=True) == 0
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 3
    assert all(any(name in line for name in ("red", "green", "blue")) for line in said)


def test_where_nothing_can_be_read_nothing_is_said_of_the_model(class_run, capsys):
    Path("a.jpg").write_bytes(b"no picture")
    assert run_predict(class_run.path, ["a.jpg"]) == 3
    said = capsys.readouterr()
    assert "1 of 1 files could not be read" in " ".join(said.err.split())
    assert said.out.strip() == ""


LOADED = """
import json, sys
import onecycle
assert {m for m in ("torch", "numpy", "pandas") if m in sys.modules} == set()
said = [onecycle.load(run).predict([file]) for run, file in zip(sys.argv[1::2], sys.argv[2::2])]
ours = sorted(m for m in sys.modules if m.startswith("onecycle."))
others = [m for m in ("pandas", "matplotlib", "sklearn", "pyarrow", "pydantic") if m in sys.modules]
print(json.dumps([ours, others, [list(one.names_of(one.decided[0])) for one in said]]))
"""


def test_a_prediction_in_python_loads_little(class_run, tag_run):
    """Of classes and of tags, in one process: what neither needs is loaded by none."""
    runs = [(run.path, *validated(run)) for run in (class_run, tag_run)]
    code = [sys.executable, "-c", LOADED, *[word for path, _, files in runs for word in (str(path), files[0])]]
    done = subprocess.run(code, capture_output=True, text=True, check=True, timeout=120)
    ours, others, names = json.loads(done.stdout)
    assert [tuple(n) for n in names] == [kept.names_of(kept.decided[0]) for _, kept, _ in runs]
    assert len(ours) < 63
    assert others == []
    training = {"onecycle.train.loop", "onecycle.train.callbacks", "onecycle.train.optimizer", "onecycle.data.bunch"}
    assert training & set(ours) == set()
    assert [m for m in ours if m.startswith(("onecycle.data.audit", "onecycle.data.sources", "onecycle.cli"))] == []


def test_a_run_is_loaded_by_its_folder_its_name_or_as_the_latest(class_run, tmp_path, monkeypatch):
    monkeypatch.chdir(class_run.path.parents[1])
    _, files = validated(class_run)
    said = [onecycle.load(run).predict(files[:2]).probs for run in (class_run.path, class_run.run.name, "latest")]
    assert all(np.array_equal(probs, said[0]) for probs in said)
    with pytest.raises(DataError, match="there is no run 'other'"):
        onecycle.load("other")


def test_a_run_of_before_the_network_was_saved_with_the_model_loads(class_run, tmp_path):
    """The files of onecycle 0.1.0: neither network nor activation in the model; the run's settings name the network."""
    _, files = validated(class_run)
    copy = tmp_path / "old"
    shutil.copytree(class_run.path, copy)
    path = copy / "model" / "model.safetensors"
    with safe_open(path, framework="pt") as file:
        tensors, header = {name: file.get_tensor(name) for name in file.keys()}, json.loads(file.metadata()["header"])  # noqa: SIM118
    for name in ("network", "activation", "own_transforms"):
        del header["manifest"][name]
    del header["header_digest"]
    header["version"] = 1
    save_file(tensors, path, metadata={"header": json.dumps(header)})
    path.with_suffix(".json").unlink()
    new = onecycle.load(class_run.path).predict(files[:3])
    with pytest.warns(OnecycleWarning, match="by an earlier onecycle"):
        old = onecycle.load(copy).predict(files[:3])
    assert np.array_equal(old.probs, new.probs)
    (copy / "config.yaml").rename(copy / "settings.yaml")
    with pytest.raises(CheckpointError, match="does not say which network"):
        Predictor.load(copy / "model" / "model")
    with pytest.warns(OnecycleWarning, match="by an earlier onecycle"):
        old = Predictor.load(copy / "model" / "model", arch=class_run.config.arch).predict(files[:3])
    assert np.array_equal(old.probs, new.probs)
