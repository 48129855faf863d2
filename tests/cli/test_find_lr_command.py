"""``onecycle find-lr``: the sweeps, the chart, the next command."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import shlex

import numpy as np
import pytest
from run_toys import small_network

from onecycle.cli.find_lr import chart, mean_curve, round_lr, run_lr_find
from onecycle.errors import DataError
from onecycle.runs.config import RunConfig
from onecycle.runs.folder import RunFolder


def find(data, out, *, levels: int | str = "auto", **how) -> str:
    given = {"data": str(data), "csv": "labels.csv", "size": 32, "out": str(out), "levels": levels}
    given |= small_network()
    config = RunConfig.merged(None, given)
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        assert run_lr_find(config, **how) == 0
    return text.getvalue()


@pytest.fixture(autouse=True)
def _plain(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")


def test_the_answer_its_files_and_the_next_command(colour_path, tmp_path):
    out = find(colour_path, tmp_path / "runs")
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.endswith("-lr-001")
    run = RunFolder.open(folder)
    rows = list(csv.DictReader(run.lr_find.read_text().splitlines()))
    assert {row["sweep"] for row in rows} == {"1", "2", "3"}
    assert (folder / "lr_find.png").read_bytes()[:4] == b"\x89PNG"
    assert "Suggested learning rate" in out
    command = shlex.split(out.strip().splitlines()[-1])
    assert command[:3] == ["onecycle", "train", str(colour_path)]
    assert 1e-5 < float(command[command.index("--lr") + 1]) < 1
    prose = [line for line in out.splitlines() if "onecycle train" not in line and str(tmp_path) not in line]
    assert max(map(len, prose)) <= 80  # commands and paths stay whole where there is no terminal


def test_the_sweeps_are_of_the_head_that_is_asked_for(colour_path, tmp_path):
    losses = []
    for levels in ("none", 2):
        command = shlex.split(find(colour_path, tmp_path / str(levels), levels=levels).strip().splitlines()[-1])
        (folder,) = (tmp_path / str(levels)).iterdir()
        rows = csv.DictReader(RunFolder.open(folder).lr_find.read_text().splitlines())
        losses.append(float(next(rows)["loss"]))
        assert command[command.index("--levels") + 1] == str(levels)
    assert losses[1] == pytest.approx(np.log(3), abs=1e-3)  # a linear head begins with the shares of the classes
    assert losses[0] != losses[1]


def test_json_and_quiet(colour_path, tmp_path):
    events = [json.loads(line) for line in find(colour_path, tmp_path, as_json=True).splitlines()]
    assert [e["event"] for e in events] == ["start", "data", "split", "lr"]
    assert events[-1]["low"] <= events[-1]["lr"] <= events[-1]["high"]
    quiet = find(colour_path, tmp_path, quiet=True)
    assert quiet.startswith("answer    Suggested learning rate")
    assert len(quiet.splitlines()) <= 4


def test_data_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="there is no"):
        find(tmp_path / "nothing", tmp_path / "runs")


def sweep(n: int = 100, *, lowest: float = 1e-2) -> tuple[list[float], list[float]]:
    lrs = np.geomspace(1e-6, 10, n)
    return lrs.tolist(), (0.2 + 0.1 * (np.log10(lrs) - np.log10(lowest)) ** 2).tolist()


def test_the_mean_of_the_sweeps_ends_with_the_shortest():
    long, short = sweep(), sweep()
    short = (short[0], short[1][:50])
    lrs, losses = mean_curve([long, short], 70)
    assert np.isclose(lrs[0], 1e-6)
    assert np.isnan(losses[lrs > short[0][49] * 1.2]).all()
    inside = lrs < short[0][49]
    assert np.allclose(losses[inside], 0.2 + 0.1 * (np.log10(lrs[inside]) + 2) ** 2, atol=0.01)


def test_the_chart_marks_the_rate():
    lines = chart([sweep()], 1e-2)
    assert max(len(line) for line in lines) <= 70
    marker = next(line for line in lines if "^" in line)
    assert marker.endswith("^ 1.0e-02")
    bottom = lines[8]
    middle = (bottom.index("•") + bottom.rindex("•")) / 2
    assert abs(marker.index("^") - middle) <= 3
    assert not any("^" in line for line in chart([sweep()], None))


def test_a_rate_has_two_digits():
    assert round_lr(0.0039297) == 0.0039


def test_one_that_is_killed_is_no_training_to_go_on_with(colour_path, tmp_path, monkeypatch):
    class KilledError(BaseException):
        """The process is gone."""

    def killed(learn) -> None:
        raise KilledError

    monkeypatch.setattr("onecycle.learner.learner.Learner.lr_suggestion", killed)
    with pytest.raises(KilledError):
        find(colour_path, tmp_path / "runs")
    assert len(list((tmp_path / "runs").iterdir())) == 1
    assert RunFolder._stopped_below(tmp_path / "runs" / "latest") == []
    with pytest.raises(DataError, match="there is no run"):
        RunFolder.open_stopped(tmp_path / "runs" / "latest")
