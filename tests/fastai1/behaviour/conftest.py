"""These tests hold for fastai 1.0.61 itself and for onecycle with the hook on: they know fastai's names alone.

Here they run with the hook; ``make v1`` runs them in the environment of fastai 1.0.61, where they run on that.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "oracle")]

import stand_in  # noqa: E402


def is_v1() -> bool:
    """Whether fastai 1 itself is installed here."""
    try:
        return version("fastai").startswith("1.")
    except PackageNotFoundError:
        return False


@pytest.fixture(scope="module")
def fastai() -> Iterator[ModuleType]:
    """The package ``fastai``, whichever it is, with its modules for pictures imported."""
    if is_v1():
        from calls import let_v1_run

        let_v1_run()
    else:
        from onecycle import as_fastai

        as_fastai.on()
    import fastai
    import fastai.callbacks
    import fastai.vision

    yield fastai
    if not is_v1():
        as_fastai.off()


@pytest.fixture(scope="module")
def vision(fastai: Any) -> Any:
    """``fastai.vision``, with all that its star brings."""
    return fastai.vision


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve drawn digits to train on, six to validate on, three for tests, and a table of the first eighteen."""
    root = tmp_path_factory.mktemp("data") / "digits"
    stand_in.digits(root, {"train": 6, "valid": 3}, (3, 7), "labels.csv")
    for i in range(3):
        stand_in.save(stand_in.digit(3, 9000 + i), root / "test" / f"{i}.png")
    return root


@pytest.fixture(autouse=True)
def _no_figures() -> Iterator[None]:
    """Draw on no screen."""
    import matplotlib.pyplot as plt

    plt.switch_backend("Agg")
    yield
    plt.close("all")
