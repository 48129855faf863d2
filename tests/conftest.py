"""What every test shares: no screen, no network settings of the user's, the real sample where it is there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ["MPLBACKEND"] = "Agg"
os.environ["HF_HUB_OFFLINE"] = "1"

SHARED_PLANET = Path(__file__).resolve().parents[2] / "shared" / "data" / "planet_sample"


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Point every setting of onecycle at an empty folder, so that a test never reads the user's."""
    home = tmp_path_factory.mktemp("onecycle_home")
    monkeypatch.setenv("ONECYCLE_HOME", str(home))
    for name in ("DATA", "WEIGHTS", "DECODER", "CACHE_GB", "KEEP_MEMORY"):
        monkeypatch.delenv(f"ONECYCLE_{name}", raising=False)


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
