"""What every test shares: no screen, no network, folders of its own, the real sample where it is there."""

from __future__ import annotations

import gc
import os
import runpy
import sys
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

os.environ["MPLBACKEND"] = "Agg"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["OMP_NUM_THREADS"] = (
    "1"  # before torch loads: two workers on two cores do not fight, sums do not depend on it
)


def _leave_the_users_home() -> tempfile.TemporaryDirectory[str]:
    """Make an empty folder the home of this process and of those that tests start, without the user's settings."""
    folder = tempfile.TemporaryDirectory(prefix="onecycle_tests_", ignore_cleanup_errors=True)
    for name in ("HOME", "DATA", "WEIGHTS", "DECODER", "CACHE_GB", "KEEP_MEMORY"):
        os.environ.pop(f"ONECYCLE_{name}", None)
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "HF_HOME", "HF_HUB_CACHE", "TORCH_HOME"):
        os.environ.pop(name, None)
    os.environ["HOME"] = os.environ["USERPROFILE"] = folder.name
    return folder


GUARD = Path(__file__).resolve().parent / "no_network"
"""On the path of each process that a test starts, which ends where it asks another machine."""

os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(GUARD), os.environ.get("PYTHONPATH"))))
_asked = runpy.run_path(str(GUARD / "sitecustomize.py"), run_name="guard")["asked"]


def _only_this_machine(event: str, about: tuple[object, ...]) -> None:
    """Fail a test that looks up or connects to another machine; whoever handles errors of networks cannot hide it."""
    if (name := _asked(event, about)) is not None:
        pytest.fail(f"a test asks the network for {name}: tests run without one")


sys.addaudithook(_only_this_machine)

_SESSION = _leave_the_users_home()
_NUMBERS = count()

SHARED_PLANET = Path(__file__).resolve().parents[2] / "shared" / "data" / "planet_sample"


@pytest.fixture(autouse=True)
def _own_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start each test in an empty folder, with another empty one as onecycle's home."""
    own = Path(_SESSION.name, f"test{next(_NUMBERS)}")
    for folder in (own / "here", own / "onecycle_home"):
        folder.mkdir(parents=True)
    monkeypatch.chdir(own / "here")
    monkeypatch.setenv("ONECYCLE_HOME", str(own / "onecycle_home"))


@pytest.fixture(scope="session")
def planet_path() -> Path:
    """The real Planet sample that the lesson trains on (read-only)."""
    if not (SHARED_PLANET / "labels.csv").exists():
        pytest.skip(f"the shared Planet sample is not at {SHARED_PLANET}; see CONTRIBUTING.md")
    return SHARED_PLANET


COLOURS = {"red": (200, 40, 40), "green": (40, 180, 40), "blue": (40, 40, 200)}


def write_pictures(root: Path, n: int, *, side: int = 40, seed: int = 0) -> list[tuple[str, str]]:
    """Write ``n`` small JPEGs below ``root/train`` whose colour is their class; returns (name, class) rows."""
    import numpy as np
    from PIL import Image

    (root / "train").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        label = list(COLOURS)[i % 3]
        noise = rng.integers(-30, 30, (side, side, 3))
        pixels = np.clip(np.array(COLOURS[label]) + noise, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(root / "train" / f"p{i:03d}.jpg", quality=92)
        rows.append((f"p{i:03d}", label))
    return rows


@pytest.fixture(scope="session")
def colour_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty pictures with labels.csv (one label) and tags.csv (tags ``colour`` and, for half, ``even``)."""
    root = tmp_path_factory.mktemp("colours")
    rows = write_pictures(root, 60)
    (root / "labels.csv").write_text("name,label\n" + "".join(f"{n},{c}\n" for n, c in rows))
    tags = [(n, f"{c} even" if i % 2 == 0 else c) for i, (n, c) in enumerate(rows)]
    (root / "tags.csv").write_text("name,tags\n" + "".join(f"{n},{t}\n" for n, t in tags))
    return root


@pytest.fixture(autouse=True)
def _close_figures() -> Iterator[None]:
    """Close what a test drew, where it drew anything."""
    yield
    import sys

    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


@pytest.fixture(scope="module", autouse=True)
def _short_collections() -> None:
    """Leave what is loaded by now out of later collections of garbage: torch alone makes each take 0.3 s."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    """Remove the folders of the session; a worker ends without the interpreter's own cleaning up."""
    _SESSION.cleanup()
