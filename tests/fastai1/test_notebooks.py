"""Notebooks in the styles of v1's lessons and of competitions, executed as they stand on small drawn data."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parent)]

import stand_in  # noqa: E402

pytestmark = pytest.mark.slow

NAMES = sorted(path.stem for path in stand_in.NOTEBOOKS.glob("*.ipynb"))


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *words: object) -> None:
        """Nothing on the screen."""


@pytest.fixture(scope="module")
def laid_out(tmp_path_factory):
    """The data, the notebooks and a server of pictures on this machine; gives the folder and the variables."""
    root = tmp_path_factory.mktemp("notebooks")
    (root / "web").mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(root / "web"))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield root, stand_in.lay_out(root, f"http://127.0.0.1:{server.server_port}")
        server.shutdown()


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", NAMES)
def test_every_cell_runs(name, laid_out):
    root, variables = laid_out
    env = {**os.environ, **variables}
    env.pop("MPLBACKEND", None)
    words = [sys.executable, "-m", "onecycle", "notebook", "run", f"{name}.ipynb", "--epochs", "1", "--json"]
    done = subprocess.run(words, cwd=root / "work", env=env, capture_output=True, text=True, check=False)
    *cells, whole = [json.loads(line) for line in done.stdout.splitlines()]
    failed = {c["number"]: c["error"] for c in cells if c["error"]}
    assert not failed, (failed, done.stderr[-2000:])
    assert (whole["cells"], whole["ran"]) == (len(cells), len(cells))
    assert done.returncode == 0
