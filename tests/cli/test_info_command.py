"""``onecycle info``: always an answer, in at most 25 lines of 80 columns."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from onecycle import __version__
from onecycle.cli import info
from onecycle.cli.info import run_info


@pytest.fixture
def home(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    return Path(os.environ["ONECYCLE_HOME"])


def test_versions_devices_and_folders_fit_on_one_screen(home, capsys):
    assert run_info() == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 25
    assert max(map(len, lines)) <= 80
    text = " ".join(" ".join(lines).split())
    assert f"onecycle {__version__}" in text
    assert "torch 2." in text
    assert "GPU" in text
    assert "(none, and none is needed)" in text
    assert "tf_efficientnet_lite0 (packaged)" in text


def test_json_has_the_same_as_plain_values(home, capsys):
    (home / "weights").mkdir()
    (home / "weights" / "resnet34.tv_in1k.safetensors").write_bytes(b"")
    (home / "weights" / "notes.txt").write_text("")
    assert run_info(as_json=True) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["versions"]["onecycle"] == __version__
    assert facts["weights"] == ["tf_efficientnet_lite0 (packaged)", "resnet34.tv_in1k.safetensors"]
    assert facts["folders"]["weights"] == str(home / "weights")
    assert facts["folders"]["data"].endswith("(not there yet)")
    assert facts["devices"]["cores"] >= 1


@pytest.mark.parametrize("content", ["data = [", "dat = 'x'", "cache_gb = 'much'", "\udcff"])
def test_a_broken_config_file_is_shown_in_its_line_and_hides_nothing_else(home, content, capsys):
    (home / "config.toml").write_bytes(content.encode("utf-8", "surrogateescape"))
    assert run_info() == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "config cannot be used" in out
    assert "config.toml" in out
    assert "torch 2." in out
    assert "data not known: the config file cannot be used" in out


def test_missing_packages_are_said_and_how_to_get_them(home, monkeypatch, capsys):
    monkeypatch.setattr(info, "_version", lambda name: None if name in ("simplejpeg", "wandb") else "1.0")
    run_info()
    out = " ".join(capsys.readouterr().out.split())
    assert "simplejpeg not installed" in out
    assert "fast no" in out
    assert "wandb no (pip install 'onecycle[fast]')" in out


def test_hostile_names_do_not_reach_the_terminal(home, monkeypatch, capsys):
    folder = home / "we\x1b[31mights"
    folder.mkdir()
    (folder / "a\x1b]0;x\x07.pth").write_bytes(b"")
    monkeypatch.setenv("ONECYCLE_WEIGHTS", str(folder))
    run_info()
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\x07" not in out
