"""The page of v1's names says what is true, and small helpers of v1 do what they say."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path[:0] = [str(Path(__file__).resolve().parents[2] / "benchmarks")]

import v1_names  # noqa: E402

from onecycle.fastai1 import machine, names  # noqa: E402
from onecycle.fastai1.modules import module  # noqa: E402


def test_the_page_is_what_the_code_says():
    assert v1_names.PAGE.read_text(encoding="utf-8") == v1_names.page(), "run python benchmarks/v1_names.py"


def test_notes_are_of_names_of_v1():
    noted = {*v1_names.DIFFERS, *(name for ns in v1_names.REASONS for name in ns.split())}
    assert noted - names.every_name() == set()


def test_networks_under_v1_s_names():
    cadene = module("vision.models.cadene_models")
    assert [str(n) for n in (cadene.se_resnext50_32x4d, cadene.inceptionv4)] == [
        "legacy_seresnext50_32x4d.in1k", "inception_v4.tf_in1k"]  # fmt: skip
    assert str(module("vision.models.efficientnet").EfficientNetB3).startswith("efficientnet_b3")


def test_memory_without_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert machine.gpu_mem_get() == (0, 0, 0)
    assert (machine.gpu_mem_get_free_no_cache(), machine.gpu_with_max_free_mem()) == (0, (None, 0))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(machine, "gpu_mem_get", lambda i: machine.GPUMemory(9, 3 + i, 6 - i))
    assert machine.gpu_with_max_free_mem() == (1, 4)


def test_versions(capsys):
    machine.show_install()
    assert "1.0.61 (by onecycle" in capsys.readouterr().out
    assert machine.have_min_pkg_version("torch", "1.0")
    assert not machine.have_min_pkg_version("torch", "99")
    assert not machine.have_min_pkg_version("no-such-package", "1")
    assert machine.try_import("json").__name__ == "json"
    assert machine.try_import("no_such_module") is None
    assert machine.pd_max_colwidth() is None


def test_downloads(monkeypatch, tmp_path):
    monkeypatch.setenv("ONECYCLE_DATA", str(tmp_path / "kept"))
    monkeypatch.chdir(tmp_path)
    fetched = []

    def fetch(url, file):
        fetched.append(url)
        file.write_bytes(b"x")

    monkeypatch.setattr(machine, "download_url", fetch)
    file = machine.download_data("https://example.org/sets/few", ext=".tar")
    assert (file, fetched) == (tmp_path / "kept" / "few.tar", ["https://example.org/sets/few.tar"])
    assert machine.download_data("https://example.org/sets/few", ext=".tar") == file
    assert len(fetched) == 1
    (tmp_path / "data" / "few").mkdir(parents=True)
    assert machine.url2path("https://example.org/sets/few") == tmp_path / "data" / "few"


def test_what_an_error_held_is_let_go_of():
    def fails():
        held = torch.zeros(3)
        raise RuntimeError(str(held.shape))

    with pytest.raises(RuntimeError, match="Size") as caught:
        machine.gpu_mem_restore(fails)()
    assert caught.traceback[-1].frame.f_locals == {}
