"""Fixtures of the tests of data: a web server, an empty data folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from web_server import FILES, Server, tgz

from onecycle.data.sources import downloads


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(downloads, "_WAITS_S", (0.01, 0.01))
    monkeypatch.setattr(downloads, "_TIMEOUTS_S", (0.4, 0.4))
    running = Server()
    running.body = tgz(FILES)
    yield running
    running.stop()


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data folder; the working directory is another empty folder."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("ONECYCLE_DATA", str(tmp_path / "sets"))
    return tmp_path / "sets"
