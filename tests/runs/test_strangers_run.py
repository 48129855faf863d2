"""A run that anybody may have made: nothing outside is read or written, nothing is believed, each fault is named."""

from __future__ import annotations

import copy
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from onecycle.cli.screen import Screen
from onecycle.errors import ArgumentError, DataError, OnecycleError, OutputError
from onecycle.evaluation.predictions import Predictions
from onecycle.runs.checkpoints import read_history, read_sweeps
from onecycle.runs.config import RunConfig
from onecycle.runs.folder import RunFolder
from onecycle.runs.predictions import read_predictions, run_predictions, write_predictions
from onecycle.runs.split import read_split

SCORE = {"name": "accuracy", "value": 0.5, "low": 0.4, "high": 0.6}
STAGE = {"name": "head", "epochs": 2, "loss": 0.5, "error": 0.1}
DOUBTS = {"flagged": 2, "n": 1, "pictures": 1, "judged": 9, "expected": 0.5, "low": 0.0, "high": 2.0}
CONTENT = {
    "data.json": {
        "layout": {"root": "/data", "test": None},
        "classes": ["a", "b"],
        "audit": {"findings": [{"severity": "error", "kind": "leak"}], "leaked": ["a.jpg"]},
    },
    "metrics.json": {
        "metrics": [SCORE],
        "stages": {"kept": 0, "stages": [STAGE]},
        "n_train": 40,
        "training_shares": {"a": 0.5, "b": 0.5},
        "label_issues": 2,
        "labels_judged": 9,
        "label_doubts": DOUBTS,
    },
    "env.json": {"versions": {"torch": "2.6"}, "device": "cpu"},
}
HISTORY = "epoch,stage,size,train_loss,valid_loss,accuracy,time_s\n0,head,32x32,0.5,0.4,0.9,1.2\n"


def predictions(**changes) -> Predictions:
    probs = np.array([[0.9, 0.1], [0.3, 0.7], [0.6, 0.4]], dtype=np.float32)
    values = {
        "files": ("a.jpg", "b.jpg", "c.jpg"),
        "classes": ("a", "b"),
        "is_multi": False,
        "probs": probs,
        "decided": probs.argmax(axis=1),
        "targets": np.array([0, 1, 1]),
        "losses": np.array([0.1, 0.3, 0.9], dtype=np.float32),
        "rows": np.arange(3),
        "train_counts": np.array([20, 20]),
        "n_train": 40,
    }
    return Predictions(**{**values, **changes})


@pytest.fixture
def run(tmp_path) -> RunFolder:
    """A run with all its tables; no network is in it."""
    made = RunFolder.create(tmp_path / "runs", "stranger")
    made.write_text(made.config, "data: /data\n")
    for name, value in CONTENT.items():
        made.write_json(made.path / name, value)
    made.write_text(made.split, "file,part\na.jpg,valid\nb.jpg,train\n")
    made.write_text(made.history, HISTORY)
    made.write_text(made.lr_find, "sweep,lr,loss\n1,0.001,0.5\n")
    made.write_text(made.label_issues, "file,given,suggested,score,new_label\na.jpg,a,b,0.1,\n")
    write_predictions(predictions(), made.predictions)
    made.model_stem.parent.mkdir()
    return made


READERS = {
    "config.yaml": lambda run: RunConfig.read(run.config),
    "data.json": lambda run: run.read_json(run.data),
    "metrics.json": lambda run: run.read_json(run.metrics),
    "env.json": lambda run: run.read_json(run.env),
    "split.csv": lambda run: read_split(run.split),
    "history.csv": read_history,
    "lr_find.csv": read_sweeps,
    "label_issues.csv": lambda run: run.read_table(run.label_issues, ("file",)),
    "predictions.parquet": run_predictions,
}


@pytest.mark.parametrize("name", READERS)
def test_a_whole_run_is_read(run, name):
    READERS[name](run)


# --- links, pipes, other names ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", READERS)
def test_no_file_is_read_through_a_link_that_leads_out(run, tmp_path, name):
    file = run.path / name
    shutil.move(file, tmp_path / "outside")
    file.symlink_to(tmp_path / "outside")
    with pytest.raises((DataError, ArgumentError), match=f"{name} is a link that leads out of"):
        READERS[name](run)


def test_a_link_within_the_run_is_followed(run):
    run.metrics.rename(run.path / "scores.json")
    run.metrics.symlink_to("scores.json")
    assert run.read_json(run.metrics)["n_train"] == 40


@pytest.mark.parametrize("name", READERS)
def test_a_pipe_under_the_name_of_a_file_is_refused_and_not_waited_for(run, name):
    (run.path / name).unlink()
    os.mkfifo(run.path / name)
    with pytest.raises((DataError, ArgumentError), match=r"it is a pipe|there is no"):
        READERS[name](run)


@pytest.mark.parametrize("name", ["model", "checkpoints", "evaluations"])
def test_folders_that_lead_out_are_refused(run, tmp_path, name):
    (tmp_path / "outside").mkdir()
    shutil.rmtree(run.path / name, ignore_errors=True)
    (run.path / name).symlink_to(tmp_path / "outside")
    with pytest.raises(DataError, match=f"{name}.* is a link that leads out of"):
        getattr(run, {"model": "model_stem"}.get(name, name))
    assert not list((tmp_path / "outside").iterdir())


@pytest.mark.parametrize("ending", [".safetensors", ".json"])
def test_a_model_that_lies_elsewhere_is_refused(run, tmp_path, ending):
    (run.path / "model" / f"model{ending}").symlink_to(tmp_path / "outside")
    with pytest.raises(DataError, match="leads out of"):
        _ = run.is_finished


@pytest.mark.parametrize("kind", ["link", "dangling link", "hard link"])
@pytest.mark.parametrize("name", ["report.html", "metrics.json", "history.csv", "evaluations/validation-001.json"])
def test_nothing_is_written_through_planted_names(run, tmp_path, name, kind):
    outside = tmp_path / "outside"
    outside.write_text("mine")
    planted = [run.path / name, (run.path / name).with_name(f".{Path(name).name}.{os.getpid()}.tmp")]
    for file in planted:
        file.parent.mkdir(exist_ok=True)
        file.unlink(missing_ok=True)
        if kind == "hard link":
            os.link(outside, file)
        else:
            file.symlink_to(outside if kind == "link" else tmp_path / "new")
    try:
        run.write_text(run.path / name, "theirs")
    except DataError:
        assert kind != "hard link"  # that has its own name here: it is replaced
    assert outside.read_text() == "mine"
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("kind", ["link", "dangling link", "hard link", "pipe"])
def test_the_log_is_not_written_through_planted_names(run, tmp_path, kind):
    outside, log = tmp_path / "outside", run.path / "log.txt"
    outside.write_text("mine")
    if kind == "hard link":
        os.link(outside, log)
    elif kind == "pipe":
        os.mkfifo(log)
    else:
        log.symlink_to(outside if kind == "link" else tmp_path / "new")
    screen = Screen(quiet=True)
    screen.say("a line")
    with pytest.raises(OutputError, match="it is not written through"):
        screen.log_to(log)
    assert outside.read_text() == "mine"
    assert not (tmp_path / "new").exists()


def test_latest_leads_to_a_run_beside_it_alone(run, tmp_path):
    own = RunFolder.create(tmp_path / "own", "mine", latest=False)
    own.write_text(own.config, "data: x\n")
    latest = run.path.parent / "latest"
    latest.unlink()
    latest.symlink_to(own.path)
    with pytest.raises(DataError, match="does not lie beside it"):
        RunFolder.open(latest)


def refused(read: Callable[[RunFolder], object], run: RunFolder) -> str | None:
    """Return what an error of onecycle's own says; None where there was none. Another one fails the test."""
    try:
        read(run)
    except OnecycleError as error:
        return str(error)
    return None


# --- JSON -------------------------------------------------------------------------------------------------------


def leaves(value: object, trail: tuple = ()) -> list[tuple]:
    """Return the place of each value in a value."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [trail, *(place for k, v in pairs for place in leaves(v, (*trail, k)))]


def with_value(value: object, trail: tuple, new: object) -> object:
    if not trail:
        return new
    changed = copy.deepcopy(value)
    at = changed
    for step in trail[:-1]:
        at = at[step]
    at[trail[-1]] = new
    return changed


ODD = (None, True, -1, 10**15, 0.5, 1e308, "", "\x1b[31m", [], {}, [None], {"a": None}, [[1]])


@pytest.mark.parametrize("name", CONTENT)
def test_any_value_in_any_place_is_read_or_named(run, name):
    """What is read has the types that those who read it count on: the same changes to the real readers' input."""
    for trail in leaves(CONTENT[name]):
        for odd in ODD:
            (run.path / name).write_text(json.dumps(with_value(CONTENT[name], trail, odd)))
            said = refused(use_all, run)
            assert said is None or name in said, (trail, odd)


def use_all(run: RunFolder) -> None:
    """Read the JSON files as the commands do."""
    from onecycle.cli.compare import _own
    from onecycle.cli.report import issue_count_of, notes_of, read_choice
    from onecycle.deploy.card import Warned

    audit = run.read_json(run.data).get("audit")
    notes_of(run, audit)
    metrics = run.read_json(run.metrics)
    issues = issue_count_of(metrics, None)
    if issues is not None:
        issues.text(is_multi=True)
    Warned.of(audit, issues=issues)
    str(read_choice(run))
    _ = read_choice(run).note
    {m["name"]: _own(m) for m in metrics.get("metrics", [])}
    run_predictions(run)
    run.read_json(run.env)
    Path(str(run.read_json(run.data).get("layout", {}).get("root", ""))).exists()


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ('{"n_train": NaN}', "NaN is no number of JSON"),
        ('{"n_train": 1e999}', "1e999 is no number"),
        ('{"n_train": ' + "9" * 5000 + "}", "at most 64 bits"),
        ('{"n_train": 1, "n_train": 2}', "the name 'n_train' is there twice"),
        ("[" * 100_000, "in each other"),
        ('{"a": ' * 60 + "1" + "}" * 60, "in each other"),
        ('{"metrics": [{"name": "\\ud800"}]}', r"metrics\.0\.name: expected text, received half of a character"),
        ('{"n_train": 1', "cannot be read as JSON"),
        ("[]", "holds list where an object is expected"),
        ('{"n_train": "40"}', r"n_train: expected a whole number; received '40'"),
        ('{"metrics": [{"value": 1}]}', r"metrics\.0\.name is missing"),
        ('{"label_doubts": {"flagged": 1, "n": 1, "pictures": 1, "code": 1}}', r"label_doubts\.code is no field of it"),
        ('{"stages": {"kept": 3, "stages": [{"name": "h", "epochs": 1, "loss": 1.0, "error": 1.0}]}}', "stages: expec"),
    ],
)
def test_a_damaged_json_file_names_file_and_field(run, text, match):
    run.metrics.write_text(text)
    with pytest.raises(DataError, match=rf"metrics\.json.*{match}"):
        run.read_json(run.metrics)


def test_a_file_without_end_is_not_read(run):
    with run.metrics.open("r+b") as file:
        file.truncate(10**9)
    with pytest.raises(DataError, match=r"metrics\.json has 1,000,000,000 bytes; such a file has at most 1,000"):
        run.read(run.metrics, 1000)


# --- YAML -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("data: x\nname: &a [1]\nout: *a\n", "no references"),
        ("data: " + "[" * 50_000, "in each other"),
        ("data: x\nseed: 2020-99-99\n", "not valid YAML"),
        ("data: x\nseed: " + "9" * 30 + "\n", "at most 64 bits"),
        ("data: x\nsize: 1000000000\n", "size should be less than or equal to 4096"),
        ("data: x\nbs: !!python/object/apply:os.system ['true']\n", "not valid YAML"),
        ("data: x\n? [a, b]\n: 1\n", "not valid YAML"),
        ("data: x\nname: '" + "x" * 200_000 + "'\n", "at most 100,000"),
        ("data: [" + "x, " * 20_000 + "]", "more than 5,000"),
        ("data: [" + "x, " * 1_000 + "]", "data should be a valid string"),
    ],
)
def test_settings_of_strangers_are_refused(run, text, match):
    run.config.write_text(text)
    with pytest.raises(ArgumentError, match=match) as caught:
        RunConfig.read(run.config)
    assert len(str(caught.value)) < 1000


# --- CSV --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "match"),
    [
        ("history.csv", HISTORY.replace("0.5", "x"), "line 2, column train_loss: expected a number; received 'x'"),
        ("history.csv", HISTORY.replace(",1.2", ",nan"), "line 2, column time_s: expected a finite number"),
        ("history.csv", HISTORY.replace("\n0,", "\n-1,"), "line 2, column epoch: expected a whole number"),
        ("history.csv", "epoch,epoch\n1,2\n", "line 1: column 'stage' is missing"),
        ("history.csv", HISTORY.replace("accuracy", "size"), "line 1: two columns have one name"),
        ("history.csv", HISTORY + "1,head\n", "line 3: expected 7 cells, received 2"),
        ("lr_find.csv", "sweep,lr,loss\n1,-1,0.5\n", "line 2, column lr: expected a finite number"),
        ("split.csv", "file,part\na.jpg,test\n", "line 2, column part"),
        ("split.csv", "file\na.jpg\n", "line 1: column 'part' is missing"),
        ("split.csv", "file,part\n\ud800,train\n", "is not in UTF-8"),
        ("split.csv", 'file,part\n"a.jpg,train\n', "after line"),
        ("split.csv", "file,part\n" + "x" * 200_000 + ",train\n", "field larger than"),
    ],
)
def test_a_damaged_table_names_file_line_and_column(run, name, text, match):
    (run.path / name).write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(DataError, match=rf"{name}.*{match}"):
        READERS[name](run)


# --- parquet ------------------------------------------------------------------------------------------------------


def rewritten(run: RunFolder, change) -> None:
    table = pq.read_table(run.predictions)
    pq.write_table(change(table), run.predictions)


def with_header(**changes):
    def change(table: pa.Table) -> pa.Table:
        header = json.loads(table.schema.metadata[b"onecycle"]) | changes
        return table.replace_schema_metadata({b"onecycle": json.dumps(header).encode()})

    return change


def with_column(name: str, cells: pa.Array):
    return lambda table: table.set_column(table.column_names.index(name), name, cells)


SETS = {"n_tags": 10**9, "sets": [[0]], "offsets": [0.0], "unseen": 0.1}


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (with_header(classes=["a"] * 2), "classes with names of their own"),
        (with_header(classes="ab"), "classes: expected a list"),
        (with_header(is_multi=1), "is_multi: expected true or false"),
        (with_header(version="x"), "version: expected a whole number"),
        (with_header(version=9), "newer onecycle"),
        (with_header(n_train=-1), "n_train: expected a whole number, 0 to"),
        (with_header(train_counts=[1, 10**18]), r"train_counts\.1"),
        (with_header(train_counts=[1]), "train_counts of shape"),
        (with_header(sets=SETS), "sets of 2 tags, not of 1000000000"),
        (with_header(thresholds={"values": [0.5], "goal": "x", "n": 1, "exactly_one": []}), "are for 1 tags"),
        (with_header(measure=[]), "measure: expected text or null"),
        (with_header(classes=["a", "c"]), "column p c: expected once, is there 0 times"),
        (with_column("p a", pa.array([0.1, np.nan, 0.2], pa.float32())), "column p a, row 2: expected a probability"),
        (with_column("p a", pa.array([0.1, 7.0, 0.2], pa.float32())), "column p a, row 2: expected a probability"),
        (with_column("p a", pa.array(["1", "2", "3"])), "column p a: expected float, received string"),
        (with_column("file", pa.array([1, 2, 3])), "column file: expected string, received int64"),
        (with_column("file", pa.array(["a", None, "c"])), "column file: expected a value in each row"),
        (with_column("truth", pa.array(["a", "b", "z"])), "damaged"),
        (lambda table: table.drop_columns(["loss"]), "column loss: expected once, is there 0 times"),
        (lambda table: table.append_column("p a", table["p b"]), "column p a: expected once, is there 2 times"),
        (lambda table: table.replace_schema_metadata({}), "not one of predictions that onecycle wrote"),
        (lambda table: table.replace_schema_metadata({b"onecycle": b"[" * 10**5}), "in each other"),
    ],
)
def test_damaged_predictions_name_file_and_column(run, change, match):
    rewritten(run, change)
    with pytest.raises(DataError, match=rf"predictions\.parquet.*{match}"):
        read_predictions(run.predictions)


def test_a_small_table_cannot_ask_for_much_memory(run, monkeypatch):
    monkeypatch.setattr("onecycle.runs.predictions.MOST_BYTES", 2**20)
    n = 1_000_000
    whole = pq.read_table(run.predictions)
    columns = {name: pa.repeat(whole[name][0], n) for name in ("row", "loss", "p a", "p b")}
    texts = pa.DictionaryArray.from_arrays(pa.repeat(pa.scalar(0, pa.int32()), n), ["a"]).cast(pa.string())
    columns |= dict.fromkeys(("file", "truth", "predicted"), texts)
    pq.write_table(pa.table(columns).replace_schema_metadata(whole.schema.metadata), run.predictions)
    assert run.predictions.stat().st_size < 100_000
    with pytest.raises(DataError, match=r"more than its .* bytes justify"):
        read_predictions(run.predictions)


def test_every_prefix_of_every_file_is_read_or_named(run):
    for name, reader in READERS.items():
        whole = (run.path / name).read_bytes()
        for n in range(0, len(whole), max(1, len(whole) // 40)):
            (run.path / name).write_bytes(whole[:n])
            said = refused(reader, run)
            assert said is None or name in said
        (run.path / name).write_bytes(whole)
