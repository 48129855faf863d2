"""What the benchmarks share: starting a side, timing it, ending it, and writing results down."""

from __future__ import annotations

import ast
import json
import math
import runpy
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from onecycle.train.metrics import fbeta

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
sys.path[:0] = [str(BENCHMARKS), str(BENCHMARKS / "peers")]

import shared  # noqa: E402
from harness import footprint, recipe_data, report, sides  # noqa: E402

SAYS = """
import json, sys, time
job = json.load(open(sys.argv[1]))
print("not for the parent")
print(json.dumps({"f2": job["f2"]}), flush=True)
time.sleep(job["sleep_s"])
print(json.dumps({"done": True, "kind": job["kind"]}), flush=True)
sys.exit(job["code"])
"""


@pytest.fixture
def side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> sides.Side:
    (tmp_path / "says.py").write_text(SAYS)
    monkeypatch.setattr(sides, "PEERS", tmp_path)
    return sides.own("says", "says.py", f2=0.9, sleep_s=0.0, code=0)


def test_run_hears_a_side_and_times_each_line(side: sides.Side, tmp_path: Path) -> None:
    found = sides.run(side, "quality", {"f2": 0.1}, tmp_path)
    assert [set(line) for line in found.lines] == [{"t", "f2"}, {"t", "done", "kind"}]
    assert (found.ended, found.last("kind"), found.last("nothing")) == ("done", "quality", None)
    assert found.last("f2") == 0.9  # the side's own options win
    assert 0 < found.lines[0]["t"] <= found.lines[1]["t"] <= found.seconds


@pytest.mark.parametrize(("why", "cap_s"), [("enough", 30.0), ("cap", 0.5)])
def test_run_ends_a_side_that_would_go_on(side: sides.Side, tmp_path: Path, why: str, cap_s: float) -> None:
    side.options["sleep_s"] = 60.0
    start = time.monotonic()
    found = sides.run(side, "quality", {}, tmp_path, cap_s=cap_s, enough=lambda lines: why == "enough")
    assert found.ended == why
    assert time.monotonic() - start < 50


def test_a_side_that_fails_ends_the_benchmark_with_its_log(side: sides.Side, tmp_path: Path) -> None:
    side.options["code"] = 3
    with pytest.raises(SystemExit, match="says failed"):
        sides.run(side, "quality", {}, tmp_path)


def test_every_side_gets_the_same_split(tmp_path: Path) -> None:
    names = [f"tile_{i}" for i in range(20)]
    (tmp_path / "labels.csv").write_text("image_name,tags\n" + "".join(f"{n},clear water\n" for n in names))
    job, again = (sides.planet(tmp_path, 3, n_valid=5) for _ in range(2))
    assert job == again
    assert job != sides.planet(tmp_path, 4, n_valid=5)
    assert (len(job["train"]), len(job["valid"]), job["classes"]) == (15, 5, ["clear", "water"])
    assert {Path(path).stem for path, _ in job["train"] + job["valid"]} == set(names)


def test_sample_f2_is_the_library_s_own() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(64, 7, generator=generator)
    targets = (torch.rand(64, 7, generator=generator) > 0.7).float()
    assert shared.sample_f2(logits, targets) == pytest.approx(float(fbeta(logits, targets, thresh=0.2)), abs=1e-6)
    assert shared.sample_f2(targets * 20 - 10, targets) == pytest.approx(float((targets.sum(1) > 0).float().mean()))


def test_union_counts_overlaps_once() -> None:
    assert shared.union([(0, 2), (1, 3), (2, 2.5), (5, 6)]) == 4


def test_step_clock_leaves_out_the_first_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter([10.0, 14.0])
    monkeypatch.setattr(shared, "now", lambda: next(seconds))
    clock = shared.StepClock(n_warm=2, n=3)
    assert [clock.step() for _ in range(5)] == [False] * 4 + [True]
    assert clock.rate(bs=8) == 3 * 8 / 4


def test_bare_step_trains() -> None:
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 2)
    before = model.weight.detach().clone()
    bare = shared.BareStep(model, torch.randn(8, 4), torch.ones(8, 2), torch.nn.BCEWithLogitsLoss())
    assert bare.rate(1, 2) > 0
    assert not torch.equal(before, model.weight)


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux's /proc")
def test_footprint_sees_this_process() -> None:
    import os

    assert os.getpid() in footprint.family(os.getpid())
    sizes = footprint.pss_mb([os.getpid()])
    assert 10 < sizes["pss"] <= footprint.rss_mb(os.getpid()) * 1.05
    assert sizes["pss_anon"] + sizes["pss_file"] <= sizes["pss"] * 1.05
    assert footprint.rss_mb(2**22 + 1) == 0.0  # no such process


def test_report_writes_what_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    monkeypatch.setattr(sys, "argv", ["benchmarks/x.py", "--rounds", "3", "--peers-python", "/somewhere/python"])
    rows: list[dict[str, object]] = [{"side": "a", **report.summary([1.0, 2.0, 6.0])}, {"side": "b"}]
    report.write("x", "How\n    it was done.", rows, peers={"fastai": "2.8.12"})
    record = json.loads((tmp_path / "x.json").read_text())
    assert record["command"] == "python benchmarks/x.py --rounds 3"
    assert (record["method"], record["peers"]) == ("How it was done.", {"fastai": "2.8.12"})
    assert (record["rows"][0]["median"], record["rows"][0]["n"]) == (2.0, 3)
    table = (tmp_path / "x.md").read_text()
    assert "Peers' environment: fastai 2.8.12" in table
    assert "| b |" in table


def test_scaling_s_slope_is_that_of_the_logarithms(monkeypatch: pytest.MonkeyPatch) -> None:
    scaling = _script("scaling")
    assert scaling.slope({10: [1.0], 100: [10.0, 10.0], 1000: [100.0]}) == pytest.approx(1.0)
    assert scaling.last_slope({10: [1.0], 100: [1.0], 1000: [100.0]}) == pytest.approx(2.0)


def test_time_to_quality_tells_reached_from_not_reached() -> None:
    quality = _script("time_to_quality")
    lines = [{"t": 5.0, "f2": 0.5}, {"t": 9.0, "f2": 0.885}, {"t": 12.0, "f2": 0.87}]
    run = sides.Run(lines, 20.0, "cap", {})
    assert (quality.passed(run, 0.88), quality.passed(run, 0.89), quality.best(run)) == (9.0, None, 0.885)
    own = sides.Run([{"t": 2.0, "f2": 0.9}], 3.0, "enough", {})
    plain = sides.Run([{"t": 4.0, "decode_s": 1.0, "network_s": 2.0}], 4.0, "done", {})
    rounds = [{quality.OWN: own, quality.YARDSTICK: plain, "fastai": run}]
    reached, missed = (quality.ratio_rows(goal, rounds)[-1] for goal in quality.GOALS)
    assert (reached["median"], reached["note"]) == (4.5, "")
    assert (missed["median"], missed["note"]) == (10.0, "at least: 1 of 1 ended before the goal")


def _script(name: str) -> ModuleType:
    return __import__(name)


def test_the_recipe_s_scores_are_of_what_is_decided_and_said() -> None:
    recipe = _script("recipe")
    truth = np.array([[1, 0], [1, 1], [0, 1], [0, 0]])
    probs = np.array([[0.9, 0.1], [0.8, 0.7], [0.2, 0.6], [0.1, 0.2]])
    wrong = truth.copy()
    wrong[0] = 1
    found = recipe.scores({"probs": probs, "targets": truth, "f2": wrong > 0, "exact": wrong > 0})
    assert found["exact-match error"] == 0.25
    assert found["sample-F2"] == pytest.approx((5 / 6 + 1 + 1 + 0) / 4)
    assert found["macro-AP"] == 1.0
    said = {"probs": np.array([[0.8, 0.2], [0.6, 0.4]]), "targets": np.array([0, 1])}
    found = recipe.scores(said)
    assert (found["error"], found["log loss"]) == (0.5, pytest.approx(-np.log([0.8, 0.4]).mean()))


def test_the_recipe_s_sides_are_compared_split_by_split() -> None:
    recipe = _script("recipe")
    runs = {
        f"tiles | 800 | {seed} | {side}": {"error": value + seed}
        for seed in (1, 2, 3)
        for side, value in (("before", 1.0), ("default", 0.5))
    }
    (row,) = recipe.rows(runs)
    assert row["default - before"] == "-0.5 ± 0"
    assert row["before"] == "3 ± 1 (3)"
    assert row["head - before"] == ""
    changes = [0.1, 0.2, 0.3]
    half = 4.302653 * 0.1 / math.sqrt(3)
    assert recipe._change(changes) == f"+0.2 ± {half:.2g}"


def test_the_recipe_s_data_is_split_into_parts_that_share_nothing(tmp_path: Path) -> None:
    digits = next(t for t in recipe_data.tasks(tmp_path, tmp_path, None) if t.name == "digits")
    few, all_ = digits.job(3, 50), digits.job(3)
    train, valid = ({path for path, _ in all_[part]} for part in ("train", "valid"))
    assert (len(train), len(valid), train & valid) == (400, 400, set())
    assert few["train"] == all_["train"][:50]
    assert few["valid"] == all_["valid"] != digits.job(4)["valid"]
    assert all_["classes"] == [str(i) for i in range(10)]


@pytest.mark.slow
def test_the_script_for_a_new_gpu_runs_its_parts_on_a_processor() -> None:
    command = [sys.executable, "-W", "ignore", str(BENCHMARKS / "gpu_first.py"), "--try"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=250, check=True)
    rows = [ast.literal_eval(line) for line in ran.stdout.splitlines() if line.startswith("{'part'")]
    assert {row["part"] for row in rows} == {"products", "copies", "loader", "steps", "forecast", "exactness"}
    assert all(row["value"] >= 0 for row in rows)
    assert "Traceback" not in ran.stderr


def test_the_results_of_one_attack_leave_those_of_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS / "reliability")
    every = runpy.run_path(str(BENCHMARKS / "reliability" / "__main__.py"), run_name="reliability")
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    monkeypatch.setitem(every["write"].__globals__, "RESULTS", tmp_path / "reliability.json")
    row = every["Row"]
    every["write"]("fuzz", [row("fuzzing", 10, "0 flaws")], 1.0)
    every["write"]("kills", [row("SIGKILL", 3, "2 of 3 equal", holds=False)], 2.0)
    every["write"]("fuzz", [row("fuzzing", 20, "0 flaws")], 1.0)
    written = json.loads((tmp_path / "reliability.json").read_text())["rows"]
    assert [(r["script"], r["n"], r["holds"]) for r in written] == [("kills", 3, "no"), ("fuzz", 20, "yes")]
    assert "| kills | SIGKILL | 3 |" in (tmp_path / "reliability.md").read_text()


def test_a_script_that_fails_is_a_promise_that_does_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS / "reliability")
    every = runpy.run_path(str(BENCHMARKS / "reliability" / "__main__.py"), run_name="reliability")
    (row,) = every["attacked"]("no_such_script", short=True)
    assert (row.holds, row.figure) == (False, "the script failed")
