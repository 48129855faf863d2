"""What the attacks train with: drawn pictures of three colours in noise with a table, drawn weights."""

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


def draw_weights(file: Path) -> None:
    """Write random weights of timm's ``test_efficientnet``, which has 0.4 million."""
    import timm
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    save_file(timm.create_model("test_efficientnet", pretrained=False).state_dict(), file)
