"""``onecycle predict --out FOLDER``: what is said and refused, a command that is killed."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from run_toys import lines

from onecycle.cli.predict import run_predict
from onecycle.deploy.exported import open_predictor
from onecycle.errors import ArgumentError
from processes import start_command


@pytest.fixture(autouse=True)
def _work(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)


def parts(out: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted((out / "parts").glob("*.parquet"))}


@pytest.mark.slow
def test_a_command_that_is_killed_goes_on_with_what_is_missing(class_run, tmp_path, capsys):
    source, out = class_run.data / "train", Path("out")
    words = ["predict", str(class_run.path), str(source), "--out", "out", "--workers", "2", "--chunk", "5"]
    process = start_command(words, tmp_path, os.environ, out="said.txt", err="warned.txt")
    until = time.monotonic() + 120
    while len(list(out.glob("parts/*.parquet"))) < 2 and process.is_alive() and time.monotonic() < until:
        time.sleep(0.01)
    process.kill()
    process.join()
    time.sleep(0.3)
    before = parts(out)
    time.sleep(0.3)
    assert parts(out) == before  # its workers ended with it
    assert 2 <= len(before) < 12
    assert run_predict(class_run.path, [source], out=out, workers=2, as_json=True) == 0
    said = lines(capsys.readouterr().out)
    assert [said[0]["event"], said[0]["missing"]] == ["planned", 12 - len(before)]
    assert [line["event"] for line in said[1:-1]] == ["part"] * (12 - len(before))
    assert (said[-1]["predicted"], said[-1]["now"]) == (60, 5 * (12 - len(before)))
    assert run_predict(class_run.path, [source], out=out, as_json=True) == 0
    assert lines(capsys.readouterr().out)[-1]["now"] == 0
    found = pd.read_parquet(out / "parts")
    one = open_predictor(class_run.path).predict(list(found["name"]))
    assert np.allclose(np.stack(list(found["probabilities"])), one.shown_probs, atol=1e-5)
    counts = json.loads((out / "manifest.json").read_text())["labels"]
    assert counts == {k: int(v) for k, v in found["labels"].str[0].value_counts().items()}


def test_a_plan_alone_says_what_a_scheduler_calls(class_run, capsys):
    assert run_predict(class_run.path, [class_run.data / "train"], out=Path("out"), workers=0, chunk=25) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "60 pictures in 3 parts, to part-00002.parquet" in said
    assert "predict_chunk(" in said
    assert not parts(Path("out"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"force": True}, "--force is for one file"),
        ({"raw_csv": True}, "--raw-csv is for one file"),
        ({"top": 5}, "--top is for one file"),
        ({"out": Path("x.csv"), "workers": 2}, "--workers and --chunk are for a folder"),
        ({"out": None, "chunk": 10}, "--workers and --chunk are for a folder"),
        ({"thresh": 0.5}, "one class, the most probable"),
        ({"out": Path("file")}, "is a file: name a folder"),
    ],
)
def test_options_that_cannot_work_are_refused(options, message, class_run):
    Path("file").write_text("mine")
    with pytest.raises(ArgumentError, match=message):
        run_predict(class_run.path, [class_run.data / "train"], **{"out": Path("out"), **options})
    assert not Path("out").exists()
