"""What one ``train`` reads before its first epoch: the table, the labels, the split and each picture, counted."""

from __future__ import annotations

import functools
import sys
from collections import Counter

import pandas as pd
import PIL.Image
import PIL.ImageFile
import pytest

from onecycle.cli.train import run_training
from onecycle.data.labels import items, splits, stratified
from onecycle.data.pixels import decode
from onecycle.runs.config import RunConfig

N = 60  # pictures of the fixture


@pytest.fixture
def counts(monkeypatch):
    """Count calls by name; a function counts wherever a module of the package has it."""
    found: Counter[str] = Counter()

    def counted(function, name):
        @functools.wraps(function)
        def call(*args, **kwargs):
            found[name] += 1
            return function(*args, **kwargs)

        return call

    def everywhere(function, name):
        for module in [m for n, m in sys.modules.items() if n.startswith("onecycle.")]:
            if getattr(module, function.__name__, None) is function:
                monkeypatch.setattr(module, function.__name__, counted(function, name))

    for function in (items.encode_single, items.encode_multi):
        everywhere(function, "encoded")
    for function in (splits.random_split, splits.group_split, stratified.stratified_split):
        everywhere(function, "drawn")
    monkeypatch.setattr(pd, "read_csv", counted(pd.read_csv, "parsed"))
    monkeypatch.setattr(PIL.Image, "open", counted(PIL.Image.open, "opened"))
    # Called by Pillow when, and only when, it decodes.
    load_prepare = counted(PIL.ImageFile.ImageFile.load_prepare, "decoded")
    monkeypatch.setattr(PIL.ImageFile.ImageFile, "load_prepare", load_prepare)
    if decode.simplejpeg is not None:
        monkeypatch.setattr(decode.simplejpeg, "decode_jpeg", counted(decode.simplejpeg.decode_jpeg, "decoded"))
    return found


@pytest.mark.parametrize("decoder", ["", "pillow"])
def test_everything_is_read_once_before_the_first_epoch(colour_path, tmp_path, monkeypatch, counts, decoder, capsys):
    monkeypatch.setenv("ONECYCLE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv(decode.DECODER_VARIABLE, decoder)
    settings = {"data": str(colour_path), "csv": "tags.csv", "out": str(tmp_path / "runs"), "epochs": 1}
    assert run_training(RunConfig.merged(None, settings), dry_run=True) == 0
    assert "tried" in capsys.readouterr().out, "a batch went through the network"
    assert (counts["parsed"], counts["encoded"], counts["drawn"]) == (1, 1, 1)
    assert counts["opened"] <= 2 * N
    assert counts["decoded"] == N


def test_decoded_pictures_of_an_earlier_run_are_taken_whoever_decoded_them(colour_path, tmp_path, monkeypatch, counts):
    monkeypatch.setenv("ONECYCLE_HOME", str(tmp_path / "home"))
    settings = {"data": str(colour_path), "csv": "labels.csv", "out": str(tmp_path / "runs"), "epochs": 1}
    assert run_training(RunConfig.merged(None, settings), dry_run=True) == 0
    counts.clear()
    assert run_training(RunConfig.merged(None, settings | {"audit": False}), dry_run=True) == 0
    assert counts["decoded"] == 0
