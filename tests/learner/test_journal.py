"""The journal of a recipe: made once, the same to the last bit, and each value of a stranger's is checked."""

from __future__ import annotations

import dataclasses
import inspect
import json
import math

import pytest

from onecycle.errors import DataError
from onecycle.evaluation.report.verdict import IssueCount
from onecycle.learner.fine_tune import noted
from onecycle.learner.fine_tune.options import FineTuneOptions
from onecycle.learner.fine_tune.plan import Speeds, Stage
from onecycle.learner.fits.journal import FileJournal
from onecycle.runs.contents import Doubts
from onecycle.train.device.precision import Precision
from onecycle.train.lr_finder import LrAnswer

SPEEDS = {"forward_s": 0.1, "train_s": 0.2}
STAGE = {"trains": "head", "size": [64, 64], "bs": 8, "epochs": 2, "forecast_s": 1.0, "lr_shares": [0.1, 1.0]}


def test_a_value_is_made_once_and_stays_the_same(tmp_path):
    path, made = tmp_path / "journal.json", [0.1 + 0.2, math.inf, math.nan]
    assert str(FileJournal(path).once("a", lambda: made, list[float])) == str(made)
    assert str(FileJournal(path).once("a", lambda: pytest.fail("made again"), list[float])) == str(made)
    assert FileJournal(path).knows("a")


@pytest.mark.parametrize(
    ("fields", "of"),
    [
        (noted.Options, FineTuneOptions),
        (noted.SpeedFields, Speeds),
        (noted.PrecisionFields, Precision),
        (noted.StageFields, Stage),
        (noted.AnswerFields, LrAnswer),
        (Doubts, IssueCount),
    ],
)
def test_what_is_checked_are_the_fields_of_what_is_made(fields, of):
    assert list(inspect.get_annotations(fields)) == [field.name for field in dataclasses.fields(of)]


@pytest.mark.parametrize(
    ("kind", "value", "match"),
    [
        (noted.Options, {"epochs": True}, "options, epochs: expected"),
        (noted.Options, {"os": 1}, "options, os is no field of it"),
        (noted.Measured, None, "options: expected an object"),
        (noted.Measured, {"speeds": SPEEDS, "bs": None, "precision": None, "spent_s": math.nan}, "spent_s: expected"),
        (noted.Measured, {"speeds": {}, "bs": None, "precision": None, "spent_s": 1}, r"speeds\.forward_s is missing"),
        (noted.Measured, {"speeds": SPEEDS, "bs": 10**15, "precision": None, "spent_s": 1}, "bs: expected"),
        (noted.Replanned, {"speeds": SPEEDS, "rest": [{**STAGE, "size": 3}], "spent_s": 1}, r"rest\.0\.size: expected"),
        (noted.FoundRate, {"lr": 1, "sweeps": [[[1.0], []]], "answer": None}, "as many losses as rates"),
        (noted.FoundRate, {"lr": 0, "sweeps": [], "answer": None}, "lr: expected"),
        (noted.Judged, {"losses": ["x"], "values": [1.0]}, r"losses\.0: expected a number"),
        (Doubts | None, {"flagged": -1, "n": 0, "pictures": 0}, "flagged: expected"),
    ],
)
def test_a_value_that_does_not_fit_is_named(tmp_path, kind, value, match):
    path = tmp_path / "journal.json"
    path.write_text(json.dumps({"options": value}))
    with pytest.raises(DataError, match=rf"journal\.json is damaged .*{match}.*remove it, and training begins again"):
        FileJournal(path).once("options", lambda: pytest.fail("made again"), kind)


@pytest.mark.parametrize("text", ["", "[]", "[" * 100_000, '{"a": 1, "a": 2}', "\0", '{"a": ' + "9" * 5_000 + "}"])
def test_a_file_that_is_no_journal_is_named(tmp_path, text):
    path = tmp_path / "journal.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"journal\.json is damaged"):
        FileJournal(path)


def test_bytes_of_a_file_name_that_are_no_text_are_written_again(tmp_path):
    path = tmp_path / "journal.json"
    path.write_bytes(b'{"a": "\xff"}')
    FileJournal(path).once("b", lambda: 1, int)
    assert FileJournal(path).values == {"a": "\udcff", "b": 1}
