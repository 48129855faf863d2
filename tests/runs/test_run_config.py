"""Settings of a run: checked, merged, written and read back."""

from __future__ import annotations

import inspect
import shlex
from dataclasses import replace
from enum import StrEnum
from pathlib import Path

import pytest

from onecycle.cli.options import FIND_LR, TRAIN
from onecycle.errors import ArgumentError
from onecycle.learner.fine_tune.options import FineTuneOptions
from onecycle.learner.learner import Learner
from onecycle.runs.config import DEFAULT_EPOCHS, RunConfig, settings


def from_text(tmp_path: Path, text: str) -> RunConfig:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    return RunConfig.read(path)


def test_yaml_gives_the_same_settings_back(tmp_path):
    given = {
        "data": "/a b/ünï: # not a comment", "label_delim": " ", "suffix": "", "fn_col": 0, "label_col": "null",
        "allow": ["leaks", "missing"], "lr": 1.5e-5, "flip": False, "valid_pct": 0.25, "minutes": 3.0,
    }  # fmt: skip
    config = RunConfig.merged(None, given)
    again = from_text(tmp_path, config.to_yaml())
    assert again.values() == config.values()
    assert {name: getattr(again, name) for name in given} == given


@pytest.mark.parametrize("name", ["epochs", "minutes", "lr", "freeze_epochs", "bs"])
def test_what_fine_tune_takes_too_is_said_in_its_words(name):
    text = " ".join((inspect.getdoc(Learner.fine_tune) or "").replace("`", "").split())
    meaning = settings()[name].metadata["help"].split("; default")[0].rstrip(".")
    keyword = {"lr": "base_lr"}.get(name, name)
    assert f" {keyword}: {meaning[0].lower()}{meaning[1:]}" in text


@pytest.mark.parametrize(
    "wrong", [{"epochs": -1}, {"minutes": 0.0}, {"freeze_epochs": -1}, {"bs": 0}, {"epochs": 0, "freeze_epochs": 0}]
)
def test_what_fine_tune_refuses_is_no_setting(wrong):
    with pytest.raises(ArgumentError):
        RunConfig.merged(None, {"data": "x", **wrong})
    with pytest.raises(ArgumentError):
        FineTuneOptions(**{"epochs": None if "minutes" in wrong else 4, **wrong})


def test_yaml_says_where_each_value_came_from():
    config = RunConfig.merged(None, {"data": "x", "epochs": 2}).found("size", 96, "the pictures have\n96 px")
    text = config.to_yaml()
    assert "epochs: 2  # option" in text
    assert "seed: 42  # default" in text
    assert "size: 96  # the pictures have 96 px" in text


def test_every_setting_is_written_once():
    names = [line.split(":")[0] for line in RunConfig(data="x").to_yaml().splitlines() if line and line[0] != "#"]
    assert sorted(names) == sorted(settings())


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("data: x\nsiez: 3", r"run\.yaml, line 2: there is no setting 'siez'; did you mean 'size'\?"),
        ("data: x\nvalid-pct: 0.1", r"line 2: .*did you mean 'valid_pct'"),
        ("data: x\nqqq: 1", "the settings are data, csv"),
        ("data: x\n\nsize: big", r"line 3: size should be a valid integer; received 'big'"),
        ("data: x\nvalid_pct: 1.5", r"valid_pct should be less than 1; received 1\.5"),
        ("data: x\nallow: [leak]", r"allow should be 'unreadable', 'leaks' or 'missing'; received 'leak'"),
        ("data: x\nflip: 1", "flip should be a valid boolean; received 1"),
        ("data: x\nlr: .nan", "lr should be"),
        ("data: x\nepochs: 2\nminutes: 3", "epochs and minutes both"),
        ("data: x\nepochs: 0\nfreeze_epochs: 0", "nothing to train"),
        ("data: x\nlevels: all", r"run\.yaml: levels should be auto, none or the number of stages .*; received 'all'"),
        ("data: x\nlevels: 0", "levels should be auto, none or the number .* 1 or more; received 0"),
        ("data: x\ndata: y", "lines 1 and 2: 'data' is set twice"),
        ("size: 3", "does not say which data"),
        ("data: [", "is not valid YAML"),
        ("- data", "received list"),
    ],
)
def test_a_wrong_file_is_named_with_key_and_line(tmp_path, text, match):
    with pytest.raises(ArgumentError, match=match):
        from_text(tmp_path, text)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ArgumentError, match="there is no settings file"):
        RunConfig.read(tmp_path / "none.yaml")


def test_exponents_without_a_dot_are_numbers(tmp_path):
    assert from_text(tmp_path, "data: x\nlr: 1e-3").lr == 1e-3


def test_a_yaml_file_makes_nothing_but_plain_values(tmp_path):
    with pytest.raises(ArgumentError, match="not valid YAML"):
        from_text(tmp_path, "data: !!python/object/apply:os.system ['true']")


def test_options_win_over_the_file(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("data: x\nsize: 96\nepochs: 9\nseed: 7\n")
    config = RunConfig.merged(path, {"size": 128, "minutes": 2.0, "arch": None})
    assert (config.size, config.seed, config.epochs, config.minutes) == (128, 7, None, 2.0)
    assert [config.origin(n) for n in ("size", "seed", "arch")] == ["option", "config file", "default"]
    assert RunConfig.merged(path, {}).length == (9, None)


def test_the_default_length_is_a_number_of_epochs():
    assert RunConfig(data="x").length == (DEFAULT_EPOCHS, None)


def test_enumerations_and_paths_are_taken():
    class Word(StrEnum):
        leaks = "leaks"

    config = RunConfig.merged(None, {"data": Path("a/b"), "allow": (Word.leaks,)})
    assert (config.data, config.allow, type(config.allow[0])) == ("a/b", ["leaks"], str)


@pytest.mark.parametrize("levels", ["auto", "none", 3])
def test_levels_are_words_or_a_number_in_the_file_and_in_the_command(tmp_path, levels):
    config = RunConfig.merged(None, {"data": "x", "levels": levels})
    assert from_text(tmp_path, config.to_yaml()).levels == levels
    assert config.command() == "onecycle train x" + ("" if levels == "auto" else f" --levels {levels}")


def test_a_wrong_option_is_named_without_a_line():
    with pytest.raises(ArgumentError, match=r"^bs should be greater than or equal to 2; received 0$"):
        RunConfig.merged(None, {"data": "x", "bs": 0})


def test_the_command_has_what_was_given_and_is_quoted():
    config = RunConfig.merged(
        None, {"data": "a b; rm", "flip": False, "allow": ["leaks"], "label_delim": " ", "lr": 2e-3, "seed": 42}
    ).found("size", 64, "looked")
    words = shlex.split(config.command())
    assert words == [
        "onecycle", "train", "a b; rm", "--label-delim", " ", "--allow", "leaks", "--no-flip", "--lr", "0.002",
    ]  # fmt: skip


def test_a_found_value_keeps_the_other_origins():
    config = RunConfig.merged(None, {"data": "x", "seed": 3}).found("lr", 1e-3, "found: sweeps")
    assert (config.origin("seed"), config.origin("lr"), config.lr) == ("option", "found: sweeps", 1e-3)
    with pytest.raises(ArgumentError, match="lr should be"):
        config.found("lr", -1.0, "")


def test_each_setting_is_an_option_of_train_or_its_argument():
    assert sorted(TRAIN) == sorted(settings())
    assert set(FIND_LR) < set(TRAIN)


def test_values_are_checked_wherever_they_come_from():
    assert type(RunConfig(data="x", minutes=3).minutes) is float
    with pytest.raises(ArgumentError, match="bs should be greater than or equal to 2; received 1"):
        RunConfig(data="x", bs=1)
    with pytest.raises(ArgumentError, match="nothing to train"):
        replace(RunConfig(data="x", epochs=0), freeze_epochs=0)


def test_the_measure_of_decisions_is_checked_with_the_settings():
    assert RunConfig.merged(None, {"data": "x", "decide_for": "precision=0.9"}).command() == (
        "onecycle train x --for precision=0.9"
    )
    with pytest.raises(ArgumentError, match="decide_for: decisions are made for f2, f1, exact"):
        RunConfig.merged(None, {"data": "x", "decide_for": "f3"})
    with pytest.raises(ArgumentError, match="reached by thresholds, and these are not to be chosen"):
        RunConfig.merged(None, {"data": "x", "decide_for": "precision=0.9", "thresholds": False})


def test_a_run_that_goes_on_keeps_where_its_settings_came_from(tmp_path):
    path, file = tmp_path / "config.yaml", tmp_path / "own.yaml"
    file.write_text("data: x\nbs: 8\nname: 'a  # b'\n")
    config = RunConfig.merged(file, {"lr": 1e-3}).found("size", 64, "from the pictures")
    path.write_text(config.to_yaml())
    again = RunConfig.of_run(path)
    assert again == config
    assert {name: again.origin(name) for name in again.values()} == {
        name: config.origin(name) for name in config.values()
    }
    assert again.to_yaml() == config.to_yaml()
