"""``onecycle cache``: what is kept, and removing it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from typer.testing import CliRunner

from onecycle import settings
from onecycle.cli.main import app
from onecycle.data.pixels import cache
from onecycle.data.pixels.resize import ResizeSpec
from onecycle.data.pixels.store import PixelStore


def command(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["cache", *arguments])
    assert done.exit_code == 0, done.output
    return done.output


def keep(folder: Path, n: int = 3, side: int | tuple[int, int] = (8, 10), *, days: float = 0) -> PixelStore:
    """Write pictures and fill a store with them that was used last some days ago."""
    folder.mkdir(parents=True)
    for i in range(n):
        PIL.Image.fromarray(np.full((10, 12 + i, 3), i, np.uint8)).save(folder / f"{i}.png")
    store = PixelStore([str(p) for p in sorted(folder.iterdir())], ResizeSpec.make(side), cache="disk")
    store.fill()
    when = time.time() - days * 86400
    newest = cache.stores()[0].key
    os.utime(settings.pixel_folder() / f"{newest}.json", (when, when))
    return store


def test_an_empty_cache_says_so():
    assert command() == f"No decoded pictures are kept in {cache.shown_path(settings.pixel_folder())}\n"
    assert command("--clear").startswith("Removed 0 sets of decoded pictures: 0 bytes freed in ")
    assert not settings.pixel_folder().exists()


def test_the_list_has_a_line_for_each_set_within_80_columns(tmp_path, monkeypatch):
    monkeypatch.setenv("ONECYCLE_CACHE_GB", "3")
    keep(tmp_path / "a", days=40)
    keep(tmp_path / ("long" * 30) / "b", 5, 8, days=2)
    assert str(tmp_path / ("long" * 30) / "b") in command(), "another program gets all of it"
    lines = cache.listing_text().splitlines()
    assert lines[0] == f"Decoded pictures in {cache.shown_path(settings.pixel_folder())}"
    assert lines[1].split() == ["size", "pictures", "px", "last", "used", "made", "from"]
    assert lines[2].split()[2:4] == ["5", "mixed"]
    assert lines[2].endswith("long/b")
    assert lines[3].split()[2:4] == ["3", "8×10"]
    day = time.strftime("%Y-%m-%d", time.localtime(time.time() - 40 * 86400))
    assert lines[3].split()[4] == day
    assert "of at most 3.0 GB" in lines[4]
    assert max(len(line) for line in lines[1:]) <= 80


def test_clearing_removes_everything_and_says_how_much(tmp_path):
    keep(tmp_path / "a")
    keep(tmp_path / "b", days=3)
    (settings.pixel_folder() / ("0" * 64 + ".1-2.part")).write_bytes(b"left by a killed process")
    used = cache.used_bytes()
    assert command("--clear").startswith(f"Removed 2 sets of decoded pictures: {cache.human_bytes(used)} freed")
    assert [p.name for p in settings.pixel_folder().iterdir()] == ["room.lock"]


def test_clearing_by_age_keeps_what_was_used_since(tmp_path):
    keep(tmp_path / "a", days=40)
    keep(tmp_path / "b", days=3)
    assert command("--clear", "--older-than", "30").startswith("Removed 1 set of decoded pictures: ")
    assert [Path(s.manifest.folder).name for s in cache.stores()] == ["b"]
    assert command("--clear", "--older-than", "0.5").startswith("Removed 1 set ")


def test_a_set_in_use_is_left_and_counted(tmp_path):
    store = keep(tmp_path / "a")
    said = command("--clear")
    assert "Removed 0 sets" in said
    assert "Left 1 set of decoded pictures that could not be removed" in said
    assert store.read(2)[0, 0].tolist() == [2, 2, 2]


def test_a_damaged_set_is_listed_and_cleared(tmp_path):
    keep(tmp_path / "a")
    (note,) = settings.pixel_folder().glob("*.json")
    note.write_text("{")
    assert "damaged" in command()
    assert "Removed 1 set" in command("--clear")


def test_an_age_without_clearing_is_refused():
    done = CliRunner().invoke(app, ["cache", "--older-than", "3"])
    assert done.exit_code == 2


def test_the_command_loads_nothing_heavy():
    code = (
        "import sys, onecycle.cli.main\n"
        "sys.argv = ['onecycle', 'cache']\n"
        "try: onecycle.cli.main.main()\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch', 'numpy', 'PIL', 'pandas', 'requests') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1500, "2 kB"), (150_528_000, "151 MB"), (25 * 10**9, "25.0 GB")],
)
def test_sizes_read_as_people_write_them(n_bytes, text):
    assert cache.human_bytes(n_bytes) == text
