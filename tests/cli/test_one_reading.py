"""What one ``train`` reads before its first epoch: the table, the labels, the split and each picture, counted."""

from __future__ import annotations

import functools
import sys
from collections import Counter

import PIL.Image
import PIL.ImageFile
import pytest
from run_toys import small_network
from tests.conftest import write_pictures

from onecycle.cli.train import run_training
from onecycle.data.audit import files
from onecycle.data.labels import items, read, splits, stratified
from onecycle.data.pixels import decode, picture_file
from onecycle.runs.config import RunConfig

N, N_AGAIN = 24, 3  # pictures, and rows that name one of them again


@pytest.fixture(scope="module")
def many_px(tmp_path_factory):
    """Pictures as they are trained on (128 px, so that a smaller size is planned too), and ones four times as large."""
    root = tmp_path_factory.mktemp("pictures")
    for side in (128, 512):
        rows = write_pictures(root / str(side), N, side=side)
        rows += rows[:N_AGAIN]
        table = "name,tags\n" + "".join(f"{n},{t}{' even' if i % 2 else ''}\n" for i, (n, t) in enumerate(rows))
        (root / str(side) / "tags.csv").write_text(table)
    return root


@pytest.fixture
def counts(monkeypatch):
    """Count calls by name; a function counts wherever a module of the package has it."""
    calls: Counter[str] = Counter()

    def counted(function, name):
        @functools.wraps(function)
        def call(*args, **kwargs):
            calls[name] += 1
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
    everywhere(read.read_text, "parsed")

    def opened(source, _real=picture_file.open_file):
        calls["opened"] += not isinstance(source, bytes)  # what was read already is not opened again
        return _real(source)

    for module in (picture_file, files):
        monkeypatch.setattr(module, "open_file", opened)

    def pillow(picture, _real=PIL.ImageFile.ImageFile.load_prepare):  # called when, and only when, Pillow decodes
        calls["decoded" if min(picture.size) in (128, 512) else "scaled"] += 1
        return _real(picture)

    monkeypatch.setattr(PIL.ImageFile.ImageFile, "load_prepare", pillow)
    if decode.simplejpeg is not None:

        def simplejpeg(*args, _real=decode.simplejpeg.decode_jpeg, **kwargs):
            calls["scaled" if kwargs else "decoded"] += 1
            return _real(*args, **kwargs)

        monkeypatch.setattr(decode.simplejpeg, "decode_jpeg", simplejpeg)
    return calls


def dry_run(data, tmp_path, monkeypatch, **settings):
    monkeypatch.setenv("ONECYCLE_HOME", str(tmp_path / "home"))
    settings |= {"data": str(data), "csv": "tags.csv", "out": str(tmp_path / "runs"), "epochs": 1, "size": 128, "bs": 2}
    settings |= small_network()
    assert run_training(RunConfig.merged(None, settings | {"label_delim": " ", "allow": ("leaks",)}), dry_run=True) == 0


@pytest.mark.parametrize("side", [128, 512])
@pytest.mark.parametrize("decoder", ["", "pillow"])
def test_everything_is_read_once_before_the_first_epoch(many_px, tmp_path, monkeypatch, counts, decoder, side, capsys):
    monkeypatch.setenv(decode.DECODER_VARIABLE, decoder)
    dry_run(many_px / str(side), tmp_path, monkeypatch)
    assert "tried" in capsys.readouterr().out, "a batch went through the network"
    assert (counts["parsed"], counts["encoded"], counts["drawn"]) == (1, 1, 1)
    assert N <= counts["opened"] <= 2 * N
    assert (counts["decoded"], counts["scaled"]) == (N, 0 if side == 128 else N)


def test_without_the_audit_a_big_picture_is_decoded_at_a_fraction_alone(many_px, tmp_path, monkeypatch, counts):
    dry_run(many_px / "512", tmp_path, monkeypatch, audit=False)
    assert (counts["decoded"], counts["scaled"]) == (0, N)


def test_decoded_pictures_of_an_earlier_run_are_taken_whoever_decoded_them(many_px, tmp_path, monkeypatch, counts):
    dry_run(many_px / "128", tmp_path, monkeypatch)
    counts.clear()
    dry_run(many_px / "128", tmp_path, monkeypatch, audit=False)
    assert counts["decoded"] <= 16, "some at a smaller size, whose time is forecast"
