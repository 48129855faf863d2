"""A small exported model, and pictures for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from exported_toys import toy_files, toy_predictor


@pytest.fixture(scope="session")
def exported(tmp_path_factory) -> Path:
    """The folder of an exported model of tags; its .zip lies beside it."""
    pytest.importorskip("onnxscript", reason="needs the extra export")
    from onecycle.deploy.bundle import export_bundle
    from onecycle.deploy.card import Card

    folder = tmp_path_factory.mktemp("exported")
    predictor = toy_predictor(is_multi=True, calibrated=True)
    return export_bundle(predictor, folder / "model", toy_files(folder), Card(name="toy")).folder


@pytest.fixture(scope="session")
def pictures(tmp_path_factory) -> Path:
    """23 drawn pictures and a file that is none."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(5)
    for i in range(23):
        pixels = rng.integers(0, 256, (24 + i % 3, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"p{i:02d}.png")
    (folder / "broken.png").write_text("no picture")
    return folder
