"""Runs of strangers: settings, split, history, sweeps, scores, progress and predictions, changed along their form."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import replace
from functools import cache
from random import Random
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from attack import Target
from mutate import changed_bytes, changed_text, changed_value, json_bytes
from scratch import fresh, scratch

from onecycle.cli.compare import run_compare
from onecycle.cli.report import issue_count_of, notes_of, read_choice
from onecycle.cli.training.progress import LABELS
from onecycle.cli.training.results import issue_count
from onecycle.evaluation.certainty.thresholds import TagThresholds
from onecycle.evaluation.class_table import class_rows
from onecycle.evaluation.headline import headline
from onecycle.evaluation.report.scores import calibration_facts, measure
from onecycle.learner.fine_tune import noted
from onecycle.learner.fine_tune.options import FineTuneOptions
from onecycle.learner.fine_tune.plan import Speeds, Stage
from onecycle.runs.checkpoints import JOURNAL, is_over, journal_of, read_history, read_sweeps
from onecycle.runs.config import RunConfig
from onecycle.runs.contents import Doubts
from onecycle.runs.folder import RunFolder
from onecycle.runs.predictions import run_predictions, training_counts, write_predictions
from onecycle.runs.split import read_split, split_like
from onecycle.train.device.precision import Precision
from onecycle.train.lr_finder import LrAnswer
from report_toys import classes, tags, tags_by_sets

TOKENS = (
    *(
        ":",
        ": ",
        "- ",
        "&a ",
        "*a",
        "!!python/object:os.system",
        "!!binary ",
        "!!set ",
        "? ",
        "|\n",
        ">\n",
        "{",
        "}",
        "[",
        "]",
    ),
    *(
        "<<: ",
        "%YAML 1.1\n",
        "---\n",
        "...\n",
        "# x\n",
        "\t",
        "~",
        "0x1F",
        "0o17",
        "1e-3",
        ".inf",
        ".nan",
        "2001-01-01",
        "yes",
    ),
    *(
        "data",
        "epochs",
        "size",
        "lr",
        "allow",
        "split",
        "decide_for",
        "arch",
        "bs",
        "auto",
        "f2",
        "precision=0.9",
        "null",
    ),
)

SETTINGS = (
    RunConfig(data="planet", epochs=4, size=64, label_delim=" ", allow=["missing"]).to_yaml(),
    RunConfig(data="/data/x", lr=1e-3, minutes=5.0, decide_for="f2").to_yaml(),
    "data: x\nepochs: 3\n",
    "a: &a [x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a]\nc: [*b, *b, *b, *b]\ndata: x\n",
)

SPLIT = "file,part\n" + "".join(f"p{i}.jpg,{('train', 'valid', 'left out')[i % 3]}\n" for i in range(9))
HISTORY = "epoch,stage,size,train_loss,valid_loss,accuracy,time_s\n" + "".join(
    f"{i},head,64x64,0.{9 - i},{'' if i == 2 else 0.5},0.{i}5,1.25\n" for i in range(5)
)
SWEEPS = "sweep,lr,loss\n" + "".join(f"{1 + i // 5},{10.0 ** (i - 7):g},{1 / (1 + i):g}\n" for i in range(10))


def settings(data: bytes) -> None:
    """Read a run's settings, and write them again."""
    path = scratch() / "config.yaml"
    path.write_bytes(data)
    config = RunConfig.read(path)
    path.write_text(config.to_yaml(), encoding="utf-8")
    assert RunConfig.read(path).values() == config.values()
    config.command()


def text_of(*texts: str) -> Callable[[Random], bytes]:
    """Return what draws one of some texts, mostly a damaged one, as bytes."""

    def draw(random: Random) -> bytes:
        text = changed_text(random, random.choice(texts), TOKENS) if random.random() < 0.95 else random.choice(texts)
        data = text.encode("utf-8", "surrogatepass")
        return changed_bytes(random, data) if random.random() < 0.15 else data

    return draw


def _run_with(called: str = "run", /, **files: bytes) -> RunFolder:
    """Return a run that holds some files, each by the name that ``RunFolder`` has for it."""
    run = RunFolder(fresh(called))
    run.config.write_text("data: x\n")
    for name, data in files.items():
        getattr(run, name).write_bytes(data)
    return run


def split(data: bytes) -> None:
    """Read a split, and take it for other pictures."""
    run = _run_with(split=data)
    sides = read_split(run.split)
    names = list(dict.fromkeys(file for file, _ in sides if file and "\0" not in file))
    split_like([f"{run.path}/{name}" for name in names], run.path, run.split)


def tables(case: tuple[bytes, bytes]) -> None:
    """Read what a run wrote of its epochs and of its sweeps."""
    run = _run_with(history=case[0], lr_find=case[1])
    recorder = read_history(run)
    recorder.metric_curves()
    read_sweeps(run)


_ESTIMATE = {"name": "accuracy", "value": 0.9, "low": 0.8, "high": 0.95, "n": 60, "baseline": 0.5}
METRICS: dict[str, Any] = {
    "headline": {**_ESTIMATE, "thresholds": None},
    "metrics": [_ESTIMATE, {**_ESTIMATE, "name": "error rate"}],
    "calibration": {"kind": "platt", "slope": [1.0] * 5, "bias": [0.0] * 5, "n": 80},
    "thresholds": TagThresholds((0.3,) * 5, "F2", 80, ((0, 1),)).to_dict(),
    "measure": "F2",
    "stages": {
        "stages": [
            {
                "name": "the head",
                "epochs": 1,
                "loss": 0.5,
                "error": 0.1,
                "change": None,
                "change_error": None,
                "stopped": "",
            },
            {
                "name": "all layers",
                "epochs": 4,
                "loss": None,
                "error": 0.1,
                "change": -0.1,
                "change_error": 0.05,
                "stopped": "x",
            },
        ],
        "kept": 0,
    },
    "n_train": 240,
    "n_valid": 80,
    "classes": [f"tag {i}" for i in range(5)],
    "is_multi": True,
    "training_shares": {f"tag {i}": 0.1 * i for i in range(5)},
    "label_issues": 3,
    "labels_judged": 80,
    "label_doubts": {"flagged": 9, "n": 4, "pictures": 4, "judged": 400, "expected": 5, "low": 1, "high": 8},
}
DATA: dict[str, Any] = {
    "layout": {
        "data": "x",
        "root": "/data/x",
        "csv": "labels.csv",
        "fn_col": "file",
        "label_col": "label",
        "test": None,
    },
    "audit": {"leaked": ["a.jpg"], "findings": [{"kind": "leak", "severity": "error", "count": 1, "examples": ["a"]}]},
    "classes": ["blue", "red"],
}
PROGRESS: dict[str, Any] = {
    "options": {"epochs": 2, "minutes": None},
    "speeds": {"speeds": {"forward_s": 0.1, "train_s": 0.2}, "bs": None, "precision": None, "spent_s": 1.5},
    "doubtful labels": METRICS["label_doubts"],
    "finished": True,
}


def drawn_json(random: Random) -> dict[str, bytes]:
    """Return a run's JSON files, one of them changed along its structure."""
    whole = {"metrics": METRICS, "data": DATA, "progress": PROGRESS}
    changed = random.choice(list(whole))
    values = {name: changed_value(random, v) if name == changed else v for name, v in whole.items()}
    return {n: json_bytes(random, v) if n == changed else json.dumps(v).encode() for n, v in values.items()}


def facts(case: dict[str, bytes]) -> None:
    """Read what a run knows about itself, as ``report``, ``compare``, ``train --resume`` and ``predict`` do."""
    run = _run_with(metrics=case["metrics"], data=case["data"], split=SPLIT.encode())
    run.checkpoints.mkdir()
    (run.checkpoints / JOURNAL).write_bytes(case["progress"])
    for read in (_progress, _choice, _doubts, _counts, _notes):
        _only_ours(lambda read=read: read(run))


ENTRIES: dict[str, tuple[Any, Callable[[Any], object], Any]] = {
    "options": (noted.Options, lambda v: FineTuneOptions(**v), {"epochs": 2, "minutes": None, "sizes": [64, [64, 96]]}),
    "speeds": (
        noted.Measured,
        lambda v: (Speeds(**v["speeds"]), Precision.of_values(v["precision"])),
        {**PROGRESS["speeds"], "precision": {"dtype": "fp32", "reason": "x"}},
    ),
    "rest after stage 1": (
        noted.Replanned,
        lambda v: [Stage.of_values(stage).lr_text(1e-3) for stage in v["rest"]],
        {
            "speeds": PROGRESS["speeds"]["speeds"],
            "rest": [
                {"trains": "head", "size": [64, 64], "bs": 8, "epochs": 1, "forecast_s": 1, "lr_shares": [0.1, 1]}
            ],
            "spent_s": 2.5,
        },
    ),
    "learning rate": (
        noted.FoundRate,
        lambda v: v["answer"] and str(LrAnswer(**v["answer"])),
        {
            "lr": 1e-3,
            "sweeps": [[[1e-6, 1e-5], [0.5, float("inf")]]],
            "answer": {"lr": None, "low": None, "high": None, "reason": "x"},
        },
    ),
    "stage judged 1": (
        noted.Judged,
        lambda v: np.asarray(v["losses"], np.float64),
        {"losses": [0.5, 1], "values": [0.75, 1]},
    ),
}
"""Of a journal, by their names: the check, what takes the value, a whole value."""


def drawn_journal(random: Random) -> bytes:
    """Return a journal with an entry of each kind, one of them changed along its structure."""
    whole = {key: value for key, (_, _, value) in ENTRIES.items()}
    key = random.choice(list(whole))
    return json_bytes(random, {**whole, key: changed_value(random, whole[key])})


def journal(data: bytes) -> None:
    """Take what a journal knows, as a recipe that is run again does."""
    run = _run_with()
    run.checkpoints.mkdir()
    (run.checkpoints / JOURNAL).write_bytes(data)
    known = journal_of(run)
    for key, (kind, take, value) in ENTRIES.items():
        _only_ours(lambda key=key, kind=kind, take=take, value=value: take(known.once(key, lambda: value, kind)))


def _only_ours(read: Callable[[], object]) -> None:
    from onecycle.errors import OnecycleError

    try:
        read()
    except OnecycleError:
        return


def _progress(run: RunFolder) -> None:
    journal = journal_of(run)
    issue_count(journal.once(LABELS, lambda: None, Doubts | None), None)
    _ = is_over(run)


def _choice(run: RunFolder) -> None:
    _ = read_choice(run).note


def _doubts(run: RunFolder) -> None:
    count = issue_count_of(run.read_json(run.metrics), None)
    if count is not None:
        count.text(is_multi=True)


def _counts(run: RunFolder) -> None:
    training_counts(run, METRICS["classes"])


def _notes(run: RunFolder) -> None:
    notes_of(run, run.read_json(run.data).get("audit"))


# -- predictions --------------------------------------------------------------------------------------------------


@cache
def whole_predictions() -> tuple[bytes, ...]:
    """Return the files of predictions: classes, tags, tags by sets."""
    path = scratch() / "whole.parquet"
    files = []
    for made in (classes(40, 3), tags(40), tags_by_sets(n=40)):
        write_predictions(replace(made, rows=np.arange(len(made))), path)
        files.append(path.read_bytes())
    return tuple(files)


def drawn_predictions(random: Random) -> tuple[bytes, bytes]:
    """Return a file of predictions, changed in its header, its columns or its bytes; and the run's scores."""
    data = random.choice(whole_predictions())
    table = pq.read_table(io.BytesIO(data))
    match random.randrange(4):
        case 0:
            data = changed_bytes(random, data, whole_predictions())
        case 1:
            names = list(table.column_names)
            at = random.randrange(len(names))
            other = table.column(random.randrange(len(names)))
            column = random.choice((other, table.column(at).slice(0, 0), None))
            table = table.drop_columns([names[at]]) if column is None else table
            if column is not None and len(column) == len(table):
                table = table.set_column(at, names[at], column)
            data = _as_bytes(table)
        case _:
            said = json.loads(table.schema.metadata[b"onecycle"])
            header = json_bytes(random, changed_value(random, said))
            data = _as_bytes(table.replace_schema_metadata({b"onecycle": header}))
    return data, json.dumps(METRICS).encode()


def _as_bytes(table: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def predictions(case: tuple[bytes, bytes]) -> None:
    """Read predictions and score them, as ``report``, ``evaluate`` and ``compare`` do."""
    run = _run_with(predictions=case[0], metrics=case[1])
    read = run_predictions(run)
    repr(read)
    if len(read):
        headline(read)
        class_rows(read)
        measure(read)
        calibration_facts(read)
    assert np.shape(read.probs) == (len(read.files), len(read.classes))


def drawn_run(random: Random) -> dict[str, bytes]:
    """Return the files of a run that ended, one of them changed."""
    predictions, metrics = drawn_predictions(random)
    files = {"predictions": whole_predictions()[1], "metrics": metrics, "data": json.dumps(DATA).encode()}
    files |= {"config": SETTINGS[0].encode(), "split": SPLIT.encode()}
    match random.randrange(4):
        case 0:
            files["predictions"] = predictions
        case 1:
            files["config"] = text_of(*SETTINGS)(random)
        case 2:
            files["split"] = text_of(SPLIT)(random)
        case _:
            files |= {name: data for name, data in drawn_json(random).items() if name in files}
    return files


def compare(files: dict[str, bytes]) -> None:
    """Compare a run with a whole one, as the command does, and write the page."""
    whole = {"predictions": whole_predictions()[1], "metrics": json.dumps(METRICS).encode()}
    whole |= {"data": json.dumps(DATA).encode(), "config": SETTINGS[0].encode(), "split": SPLIT.encode()}
    runs = [_run_with("first", **whole), _run_with("second", **files)]
    for run in runs:
        run.model_stem.parent.mkdir()
        run.model_stem.with_suffix(".safetensors").touch()
    with redirect_stdout(io.StringIO()) as shown:
        run_compare([run.path for run in runs], as_json=True, html=scratch() / "page.html", force=True)
    json.loads(shown.getvalue())


TARGETS = (
    Target("runs, compared", drawn_run, compare, examples=6),
    Target("settings", text_of(*SETTINGS), settings),
    Target("splits", text_of(SPLIT), split),
    Target(
        "history and sweeps", lambda random: (text_of(HISTORY)(random), text_of(SWEEPS)(random)), tables, examples=20
    ),
    Target("facts of a run", drawn_json, facts, examples=20),
    Target("journal", drawn_journal, journal),
    Target("predictions", drawn_predictions, predictions, examples=20),
)
