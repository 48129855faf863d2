"""Drawn pictures for the attacks: three colours in noise, with a table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image

COLOURS = ("red", "green", "blue")


def draw(folder: Path, n: int = 36) -> Path:
    """Write n pictures of 24 × 32 px and ``labels.csv`` into a new folder; returns it."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    lines = ["name,label"]
    for i in range(n):
        pixels = rng.integers(0, 90, (24, 32, 3), dtype=np.uint8)
        pixels[..., i % 3] += 120
        PIL.Image.fromarray(pixels).save(folder / f"{i:02d}.png")
        lines.append(f"{i:02d}.png,{COLOURS[i % 3]}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder
