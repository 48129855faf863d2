"""The folders and the config file of onecycle."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from onecycle import settings
from onecycle.errors import ArgumentError
from onecycle.settings import Config, cache_bytes, cache_folder, data_folder, home, mirrors, weights_folder


def write_config(text: str) -> Path:
    path = settings.config_file()
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_lie_in_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONECYCLE_HOME", str(tmp_path / "h"))
    assert home() == tmp_path / "h"
    assert data_folder() == tmp_path / "h" / "data"
    assert weights_folder() == tmp_path / "h" / "weights"
    assert cache_folder() == tmp_path / "h" / "cache"
    assert mirrors() == []
    assert not (tmp_path / "h").exists()


def test_home_without_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ONECYCLE_HOME")
    assert home() == Path.home() / ".onecycle"


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONECYCLE_DATA", "")
    assert data_folder() == home() / "data"


def test_variables_win_over_the_config_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_config('data = "/from/file"\nweights = "/weights/from/file"\n')
    assert (data_folder(), weights_folder()) == (Path("/from/file"), Path("/weights/from/file"))
    monkeypatch.setenv("ONECYCLE_DATA", str(tmp_path))
    monkeypatch.setenv("ONECYCLE_WEIGHTS", str(tmp_path / "w"))
    assert (data_folder(), weights_folder()) == (tmp_path, tmp_path / "w")


def test_relative_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_config('data = "sets"\nweights = "~/w"\n')
    assert data_folder() == home() / "sets"
    assert weights_folder() == Path.home() / "w"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ONECYCLE_DATA", "here")
    assert data_folder() == tmp_path / "here"


def test_the_config_file_is_read_when_asked() -> None:
    assert mirrors() == []
    write_config('mirrors = ["https://a.example/x", "http://b.example/"]')
    assert mirrors() == ["https://a.example/x/", "http://b.example/"]


def test_the_cache_may_take_half_of_what_the_disk_would_have_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = settings.shutil.disk_usage("/")
    monkeypatch.setattr(settings.shutil, "disk_usage", lambda _: usage._replace(free=6 * 10**9))
    assert cache_bytes() == 3 * 10**9
    settings.pixel_folder().mkdir(parents=True)
    (settings.pixel_folder() / "a.bin").write_bytes(bytes(1000))
    assert cache_bytes() == 3 * 10**9 + 500
    monkeypatch.setattr(settings.shutil, "disk_usage", lambda _: usage._replace(free=10**12))
    assert cache_bytes() == 20 * 10**9


def test_the_cache_s_size_can_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    write_config("cache_gb = 1.5")
    assert cache_bytes() == 1_500_000_000
    monkeypatch.setenv("ONECYCLE_CACHE_GB", "0")
    assert cache_bytes() == 0
    for value in ("lots", "-1", "nan", "inf"):
        monkeypatch.setenv("ONECYCLE_CACHE_GB", value)
        with pytest.raises(ArgumentError, match=f"ONECYCLE_CACHE_GB must be a number of GB.*{value}"):
            cache_bytes()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("dta = 'x'", "unknown key 'dta'; the keys are data, weights, mirrors, cache_gb, download_gb"),
        ("data = 3", "'data' must be the name of a folder, received 3"),
        ("weights = ''", "'weights' must be the name of a folder, received ''"),
        ("mirrors = 'http://x'", "'mirrors' must be a list"),
        ("mirrors = ['file:///etc']", "'mirrors' must be a list"),
        ("cache_gb = '5'", "'cache_gb' must be a number of GB, 0 or more, received '5'"),
        ("cache_gb = true", "'cache_gb' must be a number of GB"),
        ("data = ", "cannot be read as TOML"),
    ],
)
def test_a_bad_config_file_is_named(text: str, said: str) -> None:
    path = write_config(text)
    with pytest.raises(ArgumentError) as caught:
        data_folder()
    assert str(path) in str(caught.value)
    assert said in str(caught.value)


def test_a_config_file_that_is_not_text() -> None:
    settings.config_file().write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ArgumentError, match="cannot be read as TOML"):
        mirrors()


def test_a_folder_of_an_unknown_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONECYCLE_DATA", "~no-such-user-here/data")
    with pytest.raises(ArgumentError, match=r"ONECYCLE_DATA.*give a full path"):
        data_folder()


def test_config_speaks_for_older_notebooks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONECYCLE_DATA", str(tmp_path))
    assert Config.data_path() == tmp_path
    assert Config.model_path() == weights_folder()


def test_the_import_is_light() -> None:
    code = (
        "import sys, onecycle.settings, onecycle.data.sources.untar\n"
        "heavy = {'torch', 'numpy', 'pandas', 'matplotlib', 'requests', 'rich'} & set(sys.modules)\n"
        "sys.exit(str(sorted(heavy)) if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
