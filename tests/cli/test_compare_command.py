"""``onecycle compare``: runs side by side on a terminal, as JSON, and as a page that runs nothing."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from run_toys import ToyRun

from onecycle.cli.compare import run_compare
from onecycle.errors import ArgumentError, DataError
from onecycle.evaluation.certainty.decisions import Decisions
from onecycle.evaluation.predictions import Predictions
from onecycle.runs.config import RunConfig
from onecycle.runs.folder import RunFolder
from onecycle.runs.predictions import read_predictions, write_predictions

HOSTILE = "<img src=x onerror=alert(1)>\x1b[31m"


@pytest.fixture(autouse=True)
def _work(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)


def variant(run: ToyRun, name: str, change, **settings) -> Path:
    """Copy a run under another name, with other predictions and settings."""
    path = Path("runs") / name
    shutil.copytree(run.path, path)
    folder = RunFolder(path)
    write_predictions(change(read_predictions(folder.predictions)), folder.predictions)
    config = RunConfig.merged(folder.config, {"name": name, **settings})
    folder.write_text(folder.config, config.to_yaml())
    return path


def worse(kept: Predictions) -> Predictions:
    """Call the first half of each picture's class by the next class."""
    probs = kept.probs.copy()
    half = np.arange(len(probs)) % 2 == 0
    probs[half] = np.roll(np.eye(len(kept.classes))[kept.targets[half]], 1, axis=1) * 0.8 + 0.05
    decided = np.where(half, probs.argmax(axis=1), kept.decided)
    return replace(kept, probs=probs.astype(np.float32), decided=decided)


def as_is(kept: Predictions) -> Predictions:
    return kept


def perfect(kept: Predictions) -> Predictions:
    probs = np.eye(len(kept.classes), dtype=np.float32)[kept.targets]
    return replace(kept, probs=probs, decided=kept.targets)


def compared(capsys, *runs) -> dict:
    assert run_compare(runs, as_json=True) == 0
    return json.loads(capsys.readouterr().out)


def test_differences_classes_pictures_and_settings(class_run, capsys):
    first = variant(class_run, "a", perfect)
    other = variant(class_run, "b", lambda kept: worse(perfect(kept)), seed=7, arch="resnet18", epochs=9)
    found = compared(capsys, first, other)
    assert [r["name"] for r in found["runs"]] == ["a", "b"]
    (c,) = found["comparisons"]
    assert (c["n"], c["n_first"], c["n_other"]) == (12, 12, 12)
    accuracy = c["differences"][0]
    assert accuracy["name"] == "accuracy"
    assert accuracy["value"] == pytest.approx(-0.5)
    assert accuracy["high"] < 0
    assert accuracy["verdict"] == "worse"
    assert accuracy["p_value"] == pytest.approx(2 * 0.5**6 / 0.8)
    assert "seeds" in found["note"]
    assert len(c["broken"]) == 6
    assert c["fixed"] == []
    assert {s["name"]: (s["first"], s["other"]) for s in c["settings"]} == {
        "seed": (42, 7),
        "arch": ("tf_efficientnet_lite0", "resnet18"),
        "epochs": (0, 9),
    }
    assert {k["name"] for k in c["classes_compared"]} == {"red", "green", "blue"}


@pytest.mark.parametrize("columns", ["80", "200"])
def test_four_runs_fit_on_the_screen(class_run, columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", columns)
    runs = [variant(class_run, "a", as_is)]
    runs += [variant(class_run, f"with-a-quite-long-id-{i}", worse, seed=i) for i in range(3)]
    assert run_compare(runs) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(len(line) for line in lines if "onecycle compare" not in line) <= min(int(columns), 100)
    text = "\n".join(lines)
    assert text.count("a → with-a-quite-long-id-") == 3
    assert text.count("unclear") == 3  # 6 of 12 lost by one run is not chance, but by one of three it may be
    assert "settings  seed: 42 → 0" in text
    assert "right in a, wrong in with-a-quite-long-id-0" in " ".join(text.split())


def test_tags_are_compared_tag_by_tag(tag_run, capsys):
    def no_even(kept: Predictions) -> Predictions:
        column = kept.classes.index("even")
        probs, decided = perfect_tags(kept).probs.copy(), kept.targets.copy()
        probs[:, column], decided[:, column] = 0.01, 0
        return replace(kept, probs=probs, decided=decided)

    def perfect_tags(kept: Predictions) -> Predictions:
        return replace(kept, probs=np.clip(kept.targets, 0.01, 0.99).astype(np.float32), decided=kept.targets)

    found = compared(capsys, variant(tag_run, "a", perfect_tags), variant(tag_run, "b", no_even))
    (c,) = found["comparisons"]
    assert c["measure"] == "F2"
    even = c["classes_compared"][0]
    assert (even["name"], even["first"], even["other"]) == ("even", 1.0, 0.0)
    assert len(c["broken"]) == even["n"]
    run_compare(["runs/a", "runs/b"])
    assert "−even" in capsys.readouterr().out


def test_thresholds_flatter_only_who_chose_them(tag_run, capsys):
    def without(kept: Predictions) -> Predictions:
        return replace(kept, decisions=Decisions(thresholds=None), held_out=None)

    a, b, c = (variant(tag_run, name, change) for name, change in (("a", as_is), ("b", without), ("c", as_is)))
    assert read_predictions(RunFolder(a).predictions).thresholds is not None
    one, both = compared(capsys, a, b, c)["comparisons"]
    assert "flatter a alone" in one["thresholds_note"]
    assert "flatter both" in both["thresholds_note"]
    (neither,) = compared(capsys, b, variant(tag_run, "d", without))["comparisons"]
    assert (neither["thresholds_note"], neither["thresholds_chosen_on_these_pictures"]) == ("", False)


def test_quiet_prints_the_differences_alone(class_run, capsys):
    run_compare([variant(class_run, "a", as_is), variant(class_run, "b", as_is)], quiet=True)
    assert re.fullmatch(r" *b: accuracy \+0\.000 \(-0\.25 to \+0\.25\) unclear\n", capsys.readouterr().out)


def test_the_page_has_the_numbers_and_nothing_in_it_runs(class_run, capsys):
    def hostile(kept: Predictions) -> Predictions:
        classes = (HOSTILE, *kept.classes[1:])
        return replace(kept, files=(HOSTILE, *kept.files[1:]), classes=classes)

    runs = [
        variant(class_run, "a", lambda kept: hostile(perfect(kept))),
        variant(class_run, "b", lambda kept: hostile(worse(perfect(kept)))),
    ]
    assert run_compare(runs, html=Path("page.html")) == 0
    assert "\x1b" not in capsys.readouterr().out
    page = Path("page.html").read_text()
    assert "<img" not in page
    assert "&lt;img src=x onerror=alert(1)&gt;" in page
    assert "default-src &#39;none&#39;" in page or "default-src 'none'" in page
    assert "<script" not in page
    assert "http://" not in page
    assert "https://" not in page
    assert "−0.500" in page
    with pytest.raises(ArgumentError, match="--force"):
        run_compare(runs, html=Path("page.html"))
    assert run_compare(runs, html=Path("page.html"), force=True, quiet=True) == 0


def test_what_cannot_be_compared_is_refused(class_run, tag_run):
    a = variant(class_run, "a", as_is)
    with pytest.raises(ArgumentError, match="2 to 8 runs; received 1"):
        run_compare([a])
    with pytest.raises(ArgumentError, match="are one run"):
        run_compare([a, "a"])
    with pytest.raises(ArgumentError, match="several tags"):
        run_compare([a, tag_run.path])
    with pytest.raises(DataError, match="there is no run"):
        run_compare([a, "nothere"])
    (a / "predictions.parquet").unlink()
    with pytest.raises(DataError, match="a run writes it when training is done"):
        run_compare([a, class_run.path])


def test_data_in_another_folder_is_said(class_run, capsys):
    a, b = variant(class_run, "a", as_is), variant(class_run, "b", as_is)
    about = RunFolder(b).read_json(RunFolder(b).data)
    about["layout"]["root"] = "/elsewhere"
    RunFolder(b).write_json(RunFolder(b).data, about)
    run_compare([a, b])
    assert "matched by name alone" in " ".join(capsys.readouterr().out.split())
