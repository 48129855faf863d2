"""One run has one headline: train, its JSON, metrics.json, report, evaluate, compare, summary() and --fail-under."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from run_toys import lines, small_network

from onecycle.cli.compare import run_compare
from onecycle.cli.evaluate import run_evaluate
from onecycle.cli.report import report_of_run
from onecycle.cli.train import run_training
from onecycle.data.labels.find.columns import LayoutOptions
from onecycle.evaluation.headline import Headline, headline
from onecycle.runs.checkpoints import read_issues
from onecycle.runs.config import RunConfig
from onecycle.runs.folder import RunFolder
from onecycle.runs.load import interpretation_of, load_bunch, load_learner
from onecycle.runs.predictions import run_predictions

KINDS: dict[str, dict[str, Any]] = {"classes": {"csv": "labels.csv"}, "tags": {"csv": "tags.csv", "label_delim": " "}}
MEASURES = {"tags, exact": "exact"}
KINDS["tags, exact"] = KINDS["tags"]
NAMES = {  # few pictures bear out no choice of thresholds
    "classes": "accuracy",
    "tags": "sample-F2 at 0.2",
    "tags, exact": "exact-match share at 0.5",
}


@pytest.fixture(scope="module", params=list(KINDS))
def trained(request, colour_path, tmp_path_factory) -> tuple[str, RunFolder, dict[str, Any]]:
    """The kind of labels, a run of it, and the last event of its training."""
    out = tmp_path_factory.mktemp(request.param)
    settings = {
        "decide_for": MEASURES.get(request.param),
        "data": str(colour_path),
        "label_check": False,
        "size": 32,
        "bs": 16,
        "epochs": 0,
        "freeze_epochs": 3,
        "lr": 5e-3,
        "out": str(out),
        **small_network(),
    }
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        assert run_training(RunConfig.merged(None, {**settings, **KINDS[request.param]}), as_json=True) == 0
    return request.param, RunFolder.open(out / "latest"), lines(said.getvalue())[-1]


def evaluated(capsys, *args: Any, **how: Any) -> tuple[int, dict[str, Any]]:
    code = run_evaluate(*args, as_json=True, **how)
    return code, json.loads(capsys.readouterr().out)


def test_everything_that_speaks_of_a_run_says_one_number(trained, colour_path, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    kind, run, done = trained
    first = run.read_json(run.metrics)["headline"]
    assert first["name"] == NAMES[kind]
    assert set(first) == {f.name for f in fields(Headline)} - {"signed", "gain"} | {"gain_low", "gain_high"}
    assert first["low"] <= first["value"] <= first["high"]
    assert first["thresholds"] == (None if kind == "classes" else "fixed")
    assert done["headline"] == first

    learn = load_learner(run, bunch=load_bunch(run))
    kept = interpretation_of(run, learn)
    assert headline(run_predictions(run)).to_dict() == first
    assert headline(kept.predictions).to_dict() == first
    shown = f"{first['name']} {first['value']:.3f}"
    assert shown in kept.summary()
    assert ("In the first, a tag is predicted from" in kept.summary()) == (kind != "classes")
    page = report_of_run(run, learn, kept, issues=read_issues(run, learn.data)).content
    assert page.scores.headline.to_dict() == first
    assert f'<span class="value">{first["value"]:.3f}</span>' in run.report.read_text(encoding="utf-8")

    _, again = evaluated(capsys, run.path, None, LayoutOptions())
    for key in ("name", "baseline_name", "n", "thresholds"):
        assert again["headline"][key] == first[key]
    for key in ("value", "low", "high", "baseline", "gain_low", "gain_high"):
        assert again["headline"][key] == pytest.approx(first[key], abs=1e-9), key
    # The run's data as if it were new: what is left of it are the pictures that chose the thresholds.
    _, as_data = evaluated(capsys, run.path, str(colour_path), LayoutOptions(**KINDS[kind]))
    assert as_data["n"] == as_data["of the validation part"] == first["n"]
    assert as_data["headline"] == pytest.approx(first, abs=1e-9)
    code, _ = evaluated(capsys, run.path, None, LayoutOptions(), fail_under=min(1.0, first["low"] + 1e-6))
    assert code == 1
    code, _ = evaluated(capsys, run.path, None, LayoutOptions(), fail_under=max(0.0, first["low"] - 1e-6))
    assert code == 0
    run_evaluate(run.path, None, LayoutOptions())
    assert capsys.readouterr().out.startswith(f"result    {shown}, 95 % interval {first['low']:.3f}")

    shutil.copytree(run.path, tmp_path / "other")
    assert run_compare([run.path, tmp_path / "other"], as_json=True) == 0
    facts = json.loads(capsys.readouterr().out)
    assert [r["headline"] for r in facts["runs"]] == [first, first]
    assert facts["comparisons"][0]["differences"][0]["name"] == first["name"]
    run_compare([run.path, tmp_path / "other"])
    assert re.search(rf"\n{first['name']}\n +{run.name} +{first['value']:.3f}", capsys.readouterr().out)


def test_what_was_written_without_a_headline_gives_the_same(trained, tmp_path, capsys):
    """Tables of onecycle 0.1.0 have no held-out decisions, thresholds or training counts: the choice is made again."""
    import pyarrow.parquet as pq

    kind, run, _ = trained
    first = run.read_json(run.metrics)["headline"]
    shutil.copytree(run.path, tmp_path / "old")
    old = RunFolder(tmp_path / "old")
    table = pq.read_table(old.predictions)
    header = json.loads(table.schema.metadata[b"onecycle"])
    header = {k: header[k] for k in ("format", "version", "classes", "is_multi", "calibrated")}
    columns = [name for name in table.column_names if name != "held out"]
    pq.write_table(table.select(columns).replace_schema_metadata({b"onecycle": json.dumps(header)}), old.predictions)
    metrics = {k: v for k, v in old.read_json(old.metrics).items() if k != "headline"}
    old.write_json(old.metrics, metrics)
    assert headline(run_predictions(old)).to_dict() == first
    if kind == "tags":
        _, again = evaluated(capsys, old.path, None, LayoutOptions())
        assert again["headline"]["value"] == pytest.approx(first["value"], abs=1e-9)


def test_one_beta_for_a_run(trained, capsys):
    """F is F2 for tags that are decided for it and F1 for classes, in the report's table as in evaluate's."""
    kind, run, _ = trained
    learn = load_learner(run, bunch=load_bunch(run))
    rows = report_of_run(run, learn, interpretation_of(run, learn), issues=None).content.rows
    _, found = evaluated(capsys, run.path, None, LayoutOptions())
    key = "f2" if kind == "tags" else "f1"  # of exact matches F1
    values = {c["name"]: c[key] for c in found["classes"]}
    assert values == pytest.approx({r.name: r.fbeta.value for r in rows if r.support}, nan_ok=True)
    assert Path(found["file"]).is_file()
