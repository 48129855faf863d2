"""``onecycle train``, in this process: what is shown, written, stopped and reproduced."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from run_toys import small_network

from onecycle.cli.report import report_of_run
from onecycle.cli.train import run_training
from onecycle.errors import (
    ArgumentError,
    DataError,
    DataWarning,
    DivergedError,
    LabelError,
    OutOfMemoryError,
    UnreadableImagesError,
)
from onecycle.evaluation.certainty.decisions import F2
from onecycle.learner.fine_tune import run as recipe
from onecycle.runs.checkpoints import read_issues
from onecycle.runs.config import RunConfig
from onecycle.runs.folder import RunFolder
from onecycle.runs.load import interpretation_of, load_bunch, load_learner
from onecycle.runs.predictions import read_predictions
from onecycle.runs.split import read_split

QUICK = {"size": 32, "bs": 16, "epochs": 1, "freeze_epochs": 1, "lr": 5e-3, "label_check": False, "calibrate": False}


@dataclass
class Said:
    """What a command showed, and its exit code."""

    out: str
    err: str
    code: int


def train(config: RunConfig | None, **how) -> Said:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run_training(config, **how)
    return Said(out.getvalue(), err.getvalue(), code)


def quick(data: Path, out: Path, **given) -> RunConfig:
    settings = {**QUICK, **small_network(), "data": str(data), "out": str(out), **given}
    return RunConfig.merged(None, {k: v for k, v in settings.items() if v is not None})


def class_folders(root: Path, n: int = 12, *, parts: tuple[str, ...] = ("",), classes=("dark", "light")) -> Path:
    """Write pictures of two brightnesses, each drawn anew, below folders of their class."""
    rng = np.random.default_rng(0)
    for part in parts:
        for level, label in zip((60, 190), classes, strict=True):
            folder = root / part / label
            folder.mkdir(parents=True)
            for i in range(n):
                pixels = rng.integers(level - 50, level + 50, (32, 32, 3)).astype(np.uint8)
                PIL.Image.fromarray(pixels).save(folder / f"{i:02d}.png")
    return root


@pytest.fixture(autouse=True)
def _plain(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")


@pytest.fixture(scope="module")
def tags(tmp_path_factory, colour_path) -> tuple[Said, RunFolder, list[tuple[str, float]]]:
    """A whole run over tags with what is found by measuring, and the files of the data before it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "80")
        base = tmp_path_factory.mktemp("tags") / "runs"
        before = snapshot(colour_path)
        given = {"csv": "tags.csv", "lr": None, "label_check": True, "calibrate": True, "freeze_epochs": None}
        given |= {"arch": None, "weights": None}  # the network of a user who names none: it decides by sets of tags
        said = train(quick(colour_path, base, **given))
        return said, RunFolder.open(base / "latest"), before


def snapshot(folder: Path) -> list[tuple[str, float]]:
    return sorted((str(p), p.stat().st_mtime) for p in folder.rglob("*"))


def test_nothing_of_the_users_is_touched(tags, colour_path):
    assert snapshot(colour_path) == tags[2]


def test_the_run_folder_is_complete(tags):
    said, run, _ = tags
    assert said.code == 0
    names = "config.yaml env.json data.json split.csv history.csv predictions.parquet metrics.json log.txt"
    there = {p.name for p in run.path.iterdir()}
    assert {*names.split(), "label_issues.csv", "report.html", "model", "checkpoints"} <= there
    assert {p.name for p in run.checkpoints.iterdir()} == {"journal.json", "training.lock"}


def test_the_first_screen_has_what_it_promises(tags):
    said, _, _ = tags
    first = said.out[: said.out.index("\n\n1 of 2")].splitlines()
    assert len(first) <= 25
    text = "\n".join(first)
    assert text.startswith("onecycle  ")
    for label in ("data ", "labels ", "split ", "audit ", "settings ", "plan "):
        assert any(line.startswith(label) for line in first), label
    assert "48 pictures train, 12 validate; each tag with the same share" in " ".join(text.split())
    assert "epochs 1 (option)" in " ".join(text.split())


def test_no_line_is_wider_than_80_columns(tags):
    said, _, _ = tags
    lines = [line for line in said.out.splitlines() if " " in line.strip()]  # a path alone stays whole
    assert [line for line in lines if len(line) > 80 and "onecycle " not in line] == []
    assert "\x1b" not in said.out


def test_there_is_a_row_an_epoch(tags):
    said, run, _ = tags
    rows = list(csv.DictReader(run.history.read_text().splitlines()))
    assert [row["stage"] for row in rows] == ["head", "last stages"]
    shown = [line for line in said.out.splitlines() if " 1/1 " in line]
    assert len(shown) == 2
    assert f"{float(rows[-1]['valid_loss']):.4f}" in shown[-1]


def test_the_last_screen_answers(tags):
    said, run, _ = tags
    last = said.out[said.out.index("answer ") :]
    for label in ("result ", "weak ", "labels ", "leaks ", "run ", "next "):
        assert f"\n{label}" in last, label
    assert "95 % interval" in last
    value = run.read_json(run.metrics)["metrics"][0]["value"]
    assert f"{value:.3f}" in last
    assert f"onecycle predict {run.path} PICTURES" in last
    assert "wrong" not in last
    assert f"{run.path}/report.html" in last


def test_terminal_page_and_files_lead_with_one_number(tags):
    said, run, _ = tags
    result = said.out[said.out.index("\nresult ") :].splitlines()
    written = run.read_json(run.metrics)
    first = f"{written['headline']['value']:.3f}"
    baseline = f"{written['metrics'][0]['baseline']:.3f}"
    assert result[2].split() == ["sample-F2", first, *result[2].split()[2:5], baseline]
    assert result[1].index("baseline") == result[2].index(baseline)
    page = run.report.read_text(encoding="utf-8")
    assert f'<span class="value">{first}</span> <span class="what">sample-F2<' in page
    learn = load_learner(run, bunch=load_bunch(run))
    again = report_of_run(run, learn, interpretation_of(run, learn), issues=read_issues(run, learn.data))
    assert f"{again.content.scores.headline.value:.3f}" == first
    assert f"{again.content.scores.headline.baseline:.3f}" == baseline


def test_doubtful_labels_are_counted_alike_everywhere(tags):
    said, run, _ = tags
    written = run.read_json(run.metrics)
    n, judged = written["label_issues"], written["labels_judged"]
    assert judged > 200 > n
    learn = load_learner(run, bunch=load_bunch(run))
    again = report_of_run(run, learn, interpretation_of(run, learn), issues=read_issues(run, learn.data))
    assert (again.content.issues.flagged, again.content.issues.judged) == (n, judged)
    assert asdict(again.content.issues) == written["label_doubts"]
    text = again.content.issues.text(is_multi=True)
    assert f"labels checked: {text}" in " ".join(said.out.split())
    page = run.report.read_text(encoding="utf-8")
    assert text in page or f"{text[0].upper()}{text[1:]}." in page


def test_the_log_is_what_was_shown(tags):
    said, run, _ = tags
    log = [line for line in run.log.read_text().splitlines() if "warning" not in line]
    shown = [line.rstrip() for line in said.out.splitlines()]
    assert [line for line in shown if line not in log] == []


def test_what_was_found_is_in_the_config(tags):
    _, run, _ = tags
    text = run.config.read_text()
    assert "freeze_epochs: null  # default" in text  # the head is solved: no epochs and no rate could be set
    assert "lr: null  # default" in text
    assert "size: 32  # option" in text


def test_a_head_that_is_trained_gets_a_rate_by_sweeps(colour_path, tmp_path):
    given = {"csv": "tags.csv", "lr": None, "epochs": 0, "freeze_epochs": 1}
    assert train(quick(colour_path, tmp_path, **given)).code == 0
    run = RunFolder.open(tmp_path / "latest")
    assert "sweeps" in next(line for line in run.config.read_text().splitlines() if line.startswith("lr:"))
    assert RunConfig.read(run.config).lr > 0
    sweeps = list(csv.DictReader(run.lr_find.read_text().splitlines()))
    assert {row["sweep"] for row in sweeps} == {"1", "2", "3"}


def test_data_and_environment_are_noted(tags, colour_path):
    _, run, _ = tags
    data, env = run.read_json(run.data), run.read_json(run.env)
    assert data["classes"] == ["blue", "even", "green", "red"]
    assert data["layout"]["data"] == str(colour_path.resolve())
    assert data["audit"]["looked_at"]["files"] == 60
    assert env["seed"] == 42


def test_metrics_have_the_measure_and_shares(tags):
    _, run, _ = tags
    found = run.read_json(run.metrics)
    assert [m["name"] for m in found["metrics"]] == ["sample-F2 at 0.2", "micro-F1 at 0.5", "macro-AP"]
    assert (found["measure"], found["thresholds"]) == ("f2", None), "sets of tags decide, without thresholds"
    assert found["training_shares"]["even"] == pytest.approx(0.5, abs=0.05)
    assert (found["n_train"], found["n_valid"], found["leaked"]) == (48, 12, 0)


def test_the_run_can_be_taken_up_again(tags):
    _, run, _ = tags
    learn = load_learner(run, bunch=load_bunch(run))
    kept = read_predictions(run.predictions)
    assert np.allclose(learn.get_preds()[0], kept.probs, atol=1e-4)
    assert (learn.decisions.measure, learn.decisions.by_sets) == (F2, True)
    assert kept.decisions.by_sets
    assert (learn.interpret().predictions.decided == kept.decided).all()
    score = interpretation_of(run, learn).metrics()[0]
    assert score.value == pytest.approx(run.read_json(run.metrics)["metrics"][0]["value"])
    parts = [part for _, part in read_split(run.split)]
    assert (parts.count("train"), parts.count("valid")) == (48, 12)


def test_the_config_reproduces_the_run(tags, tmp_path):
    _, run, _ = tags
    again = RunConfig.merged(run.config, {"out": str(tmp_path)})
    assert train(again, quiet=True).code == 0
    other = RunFolder.open(tmp_path / "latest")
    assert other.split.read_bytes() == run.split.read_bytes()
    one, two = read_predictions(run.predictions), read_predictions(other.predictions)
    assert np.allclose(one.probs, two.probs, atol=1e-5)
    first, second = (RunConfig.read(r.config).values() for r in (run, other))
    assert second == {**first, "out": str(tmp_path)}


def test_json_lines_for_machines(colour_path, tmp_path):
    said = train(quick(colour_path, tmp_path, csv="labels.csv"), as_json=True)
    events = [json.loads(line) for line in said.out.splitlines()]
    assert [e["event"] for e in events] == [
        "start", "data", "split", "run", "plan", "stage", "epoch", "stage", "epoch", "kept", "done",
    ]  # fmt: skip
    epoch = next(e for e in events if e["event"] == "epoch")
    assert epoch["stage"] == "head"
    assert set(epoch["metrics"]) == {"accuracy"}
    assert events[-1]["metrics"][0]["name"] == "accuracy"
    assert events[-1]["headline"]["value"] == events[-1]["metrics"][0]["value"]
    assert events[-1]["run"] == str(tmp_path / "colours0-001") or events[-1]["run"].startswith(str(tmp_path))


def test_quiet_is_two_lines(colour_path, tmp_path):
    lines = train(quick(colour_path, tmp_path, csv="labels.csv"), quiet=True).out.splitlines()
    assert lines[0].startswith("result    accuracy ")
    assert lines[-1].startswith("run ") or lines[-2].startswith("run ")
    assert len(lines) <= 4


def test_one_of_several_processes_is_told_to_run_alone(colour_path, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ArgumentError, match=r"onecycle train runs in one process.*WORLD_SIZE is 2.*without torchrun"):
        train(quick(colour_path, tmp_path / "runs"))
    assert not (tmp_path / "runs").exists()


def test_a_dry_run_writes_nothing_and_forecasts(colour_path, tmp_path):
    said = train(quick(colour_path, tmp_path / "runs", csv="labels.csv", lr=None), dry_run=True)
    assert said.code == 0
    assert not (tmp_path / "runs").exists()
    for label in ("tried ", "memory ", "time "):
        assert f"\n{label}" in said.out, label


def test_class_folders(tmp_path):
    said = train(quick(class_folders(tmp_path / "shades"), tmp_path / "runs"))
    run = RunFolder.open(tmp_path / "runs" / "latest")
    assert run.name == "shades-001"
    assert "each class with the same share" in " ".join(said.out.split())
    assert run.read_json(run.data)["classes"] == ["dark", "light"]
    assert "accuracy" in said.out


def test_train_and_valid_folders_are_the_split(tmp_path):
    data = class_folders(tmp_path / "shades", 8, parts=("train", "valid"))
    said = train(quick(data, tmp_path / "runs"))
    assert "16 pictures train, 16 validate; by the folders train/ and valid/" in " ".join(said.out.split())
    parts = dict(read_split(RunFolder.open(tmp_path / "runs" / "latest").split))
    assert parts["valid/dark/00.png"] == "valid"


def test_copies_across_stop_a_run_until_they_are_allowed(tmp_path):
    data = class_folders(tmp_path / "shades", 8, parts=("train", "valid"))
    for i in range(2):
        shutil.copy(data / "train" / "dark" / f"{i:02d}.png", data / "valid" / "dark" / f"{i:02d}.png")
    with pytest.raises(DataError, match=r"2 validation pictures of 16 .*(?s:.*)--allow leaks") as caught:
        train(quick(data, tmp_path / "runs"))
    assert "is the same" in str(caught.value) or "has the pixels of" in str(caught.value)
    assert not list((tmp_path / "runs").glob("*-001"))
    said = train(quick(data, tmp_path / "runs", allow=["leaks"]))
    assert "leaks     2 validation pictures are in training too, which flatters the numbers" in said.out
    run = RunFolder.open(tmp_path / "runs" / "latest")
    assert run.read_json(run.metrics)["leaked"] == 2


def test_copies_are_kept_together_on_request(tmp_path):
    data = class_folders(tmp_path / "shades", 12)
    for i in range(6):  # near enough to half of them would leak
        shutil.copy(data / "dark" / f"{i:02d}.png", data / "dark" / f"copy{i:02d}.png")
    with pytest.raises(DataError, match=r"--together, .*--group-col(?s:.*)--allow leaks") as stopped:
        train(quick(data, tmp_path / "runs", valid_pct=0.4))
    leaked = int(str(stopped.value).split()[0])
    said = " ".join(train(quick(data, tmp_path / "runs", valid_pct=0.4, together=True)).out.split())
    assert f"no copies across (--together moved {leaked} to training)" in said
    assert "the same share in both" not in said
    run = RunFolder.open(tmp_path / "runs" / "latest")
    parts = dict(read_split(run.split))
    for i in range(6):
        both = {parts[f"dark/{i:02d}.png"], parts[f"dark/copy{i:02d}.png"]}
        assert both in ({"train"}, {"valid"})
    assert list(parts.values()).count("valid") == 12 - leaked
    assert "leak" not in [f["kind"] for f in run.read_json(run.data)["audit"]["findings"]]
    assert run.read_json(run.data)["audit"]["looked_at"]["valid"] == 12 - leaked
    again = RunConfig.read(run.config)
    assert again.together
    assert "--together" in run.read_json(run.env).get("command", again.command())
    np.testing.assert_array_equal(
        [p.endswith(tuple(n for n, part in parts.items() if part == "valid")) for p in load_bunch(run).valid_ds.items],
        True,
    )


def test_copies_are_not_kept_together_unlooked_for(colour_path, tmp_path):
    with pytest.raises(ArgumentError, match="leave --no-audit out"):
        train(quick(colour_path, tmp_path / "runs", csv="labels.csv", together=True, audit=False))


def test_whole_paths_in_a_table(tmp_path, monkeypatch):
    """Some pictures lie in the folder of the data, named by a link, some elsewhere."""
    pictures = class_folders(tmp_path / "elsewhere", 8)
    inside = class_folders(tmp_path / "set" / "pics", 8)
    (tmp_path / "link").symlink_to(tmp_path / "set")
    rows = [(p, p.parent.name) for p in sorted(pictures.glob("*/*.png"))]
    rows += [(tmp_path / "link" / p.relative_to(tmp_path / "set"), p.parent.name) for p in inside.glob("*/*.png")]
    (tmp_path / "set" / "labels.csv").write_text("file,label\n" + "".join(f"{f},{c}\n" for f, c in rows))
    monkeypatch.chdir(tmp_path)
    said = train(quick(Path("set"), tmp_path / "runs", allow=["leaks"]))
    assert said.code == 0
    run = RunFolder.open(tmp_path / "runs" / "latest")
    parts = dict(read_split(run.split))
    assert len(parts) == 32
    assert str(pictures / "dark" / "00.png") in parts
    assert "pics/dark/00.png" in parts
    learn = load_learner(run, bunch=load_bunch(run))
    assert len(interpretation_of(run, learn)) == 6
    assert set(read_predictions(run.predictions).files) == {f for f, part in parts.items() if part == "valid"}
    assert run.report.exists()


def test_a_picture_beside_the_class_folders_is_no_class(tmp_path):
    data = class_folders(tmp_path / "shades")
    shutil.copy(data / "dark" / "00.png", data / "loose.png")
    for audit in (True, False):
        with pytest.raises(LabelError, match=r"1 picture in .*shades beside .*loose\.png"):
            train(quick(data, tmp_path / "runs", audit=audit, allow=["leaks"]))


@pytest.mark.parametrize(("fault", "match"), [("unreadable", "cannot be decoded"), ("missing", "does not exist")])
def test_faulty_files_stop_a_run_until_they_are_allowed(colour_path, tmp_path, fault, match):
    shutil.copytree(colour_path, tmp_path / "data")
    victim = tmp_path / "data" / "train" / "p003.jpg"
    victim.unlink() if fault == "missing" else victim.write_bytes(b"no picture")
    given = {"csv": "labels.csv", "folder": "train", "suffix": ".jpg"}
    with pytest.raises(UnreadableImagesError, match=rf"{match}(?s:.*)p003\.jpg(?s:.*)--allow {fault}"):
        train(quick(tmp_path / "data", tmp_path / "runs", **given))
    said = train(quick(tmp_path / "data", tmp_path / "runs", allow=[fault], **given))
    assert "1 of 60 pictures are missing or unreadable and are left out" in " ".join(said.err.split())
    run = RunFolder.open(tmp_path / "runs" / "latest")
    assert dict(read_split(run.split))["train/p003.jpg"] == "left out"
    with pytest.warns(DataWarning, match="left out"):
        assert len(load_bunch(run)) == 59


def test_a_measure_of_tags_is_refused_for_classes_before_any_work(colour_path, tmp_path):
    with pytest.raises(ArgumentError, match="--for is for tags"):
        train(quick(colour_path, tmp_path / "runs", csv="labels.csv", decide_for="f2"))
    assert not (tmp_path / "runs").exists()


def test_one_class_is_refused(tmp_path):
    class_folders(tmp_path / "shades")
    shutil.rmtree(tmp_path / "shades" / "dark")
    with pytest.raises(DataError, match="nothing to tell apart"):
        train(quick(tmp_path / "shades", tmp_path / "runs"))


def test_a_folder_that_cannot_be_written_fails_first(colour_path, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="choose another folder with --out"):
        train(quick(colour_path, tmp_path / "file" / "runs", csv="labels.csv"))


def test_hostile_names_never_reach_the_terminal(tmp_path):
    data = class_folders(tmp_path / "x", classes=("a\x1b[31mred", "b\u202egnp"))
    said = train(quick(data, tmp_path / "runs", label_check=True))
    assert "\x1b" not in said.out + said.err
    assert "\u202e" not in said.out + said.err
    run = RunFolder.open(tmp_path / "runs" / "latest")
    assert "\x1b" not in run.log.read_text()
    assert read_predictions(run.predictions).classes == ("a\x1b[31mred", "b\u202egnp")


def test_without_validation_pictures_nothing_is_measured(colour_path, tmp_path):
    said = train(quick(colour_path, tmp_path, csv="labels.csv", valid_pct=0.0))
    assert said.code == 0
    assert "nothing was measured" in " ".join(said.err.split())
    run = RunFolder.open(tmp_path / "latest")
    assert run.read_json(run.metrics)["metrics"] == []
    assert run.model_stem.with_suffix(".safetensors").exists()


def test_a_rate_that_diverges_keeps_the_history_and_says_what_to_try(colour_path, tmp_path):
    with pytest.raises(DivergedError, match=r"history\.csv\. Try: onecycle train --config .*--lr 1\.0e\+29"):
        train(quick(colour_path, tmp_path, csv="labels.csv", lr=1e30))
    assert RunFolder(next(tmp_path.glob("*-001"))).config.exists()
    assert not (tmp_path / "latest").exists(), "it points to finished runs"


def test_too_little_memory_names_a_smaller_batch(colour_path, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OutOfMemoryError("not even one picture fits")

    monkeypatch.setattr(recipe, "fine_tune", full)
    with pytest.raises(OutOfMemoryError, match="--bs 8"):
        train(quick(colour_path, tmp_path, csv="labels.csv"))


def test_a_report_that_fails_does_not_lose_the_run(colour_path, tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("no ink")

    monkeypatch.setattr("onecycle.cli.report.build_report", fail)
    said = train(quick(colour_path, tmp_path, csv="labels.csv"))
    assert said.code == 0
    assert "the report failed (RuntimeError: no ink)" in " ".join(said.err.split())
    assert "onecycle report" in said.err
    assert RunFolder.open(tmp_path / "latest").metrics.exists()


def test_three_pictures_a_class_are_enough_to_go_through(tmp_path):
    data = class_folders(tmp_path / "few", 3)
    said = train(quick(data, tmp_path / "runs", bs=None, label_check=True, calibrate=True), quiet=True)
    assert said.code == 0
    assert "were not calibrated" in said.err
    assert "labels were not checked" not in said.err
    assert ", 1 picture\n" in said.out


def test_a_refused_run_leaves_no_folder_behind(tmp_path):
    with pytest.raises(DataError):
        train(quick(tmp_path / "nothing", tmp_path / "runs"))
    assert list(tmp_path.iterdir()) == []


def test_without_data_there_is_nothing_to_train():
    with pytest.raises(ArgumentError, match="which data to train on"):
        train(None)


def test_trackers_get_the_epochs_and_the_scores(colour_path, tmp_path, monkeypatch):
    from onecycle.cli import train as module
    from onecycle.train.callbacks import Callback

    class Recorded(Callback):
        def __init__(self, *given):
            self.given, self.rows, self.summary = given, [], None
            made.append(self)

        def on_epoch_end(self, trainer, row):
            self.rows.append(row)

        def finish(self, summary):
            self.summary = summary

    made: list[Recorded] = []
    monkeypatch.setattr(module, "tracker_for", Recorded)
    train(quick(colour_path, tmp_path, csv="labels.csv", track=["mlflow"]), quiet=True)
    run = RunFolder.open(tmp_path / "latest")
    tracker = made[-1]
    assert (tracker.given[0], tracker.given[1], tracker.given[2]) == ("mlflow", run.path, run.name)
    assert len(tracker.rows) == 2
    assert tracker.summary["accuracy"] == run.read_json(run.metrics)["metrics"][0]["value"]


def test_a_tracker_that_is_not_installed_leaves_no_run_behind(colour_path, tmp_path, monkeypatch):
    from onecycle.cli import train as module

    def refuse(*given):
        raise ArgumentError("mlflow is not installed")

    monkeypatch.setattr(module, "tracker_for", refuse)
    with pytest.raises(ArgumentError, match="not installed"):
        train(quick(colour_path, tmp_path, csv="labels.csv", track=["mlflow"]))
    assert not list(tmp_path.glob("*-001"))
