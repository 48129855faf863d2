"""``onecycle demo``: the whole way from drawn tiles to a report, without any data of one's own."""

from __future__ import annotations

from pathlib import Path

from onecycle import settings
from onecycle.cli.screen import Screen
from onecycle.cli.train import run_training
from onecycle.data.progress import counting_bar
from onecycle.data.synthetic.tiles import write_sample
from onecycle.runs.config import RunConfig
from onecycle.runs.folder import RUNS


def run_demo(
    out: Path | None = None, *, n_tiles: int = 1000, epochs: int = 4, size_px: int = 128, seed: int = 42
) -> int:
    """Draw a sample and train on it, as ``onecycle train`` does on any data set.

    Args:
        out: folder of the runs; default ``runs``.
        n_tiles: tiles to draw.
        epochs: after the head's.
        size_px: side of the pictures that the network sees.
        seed: of the tiles, the split and the training.

    Returns:
        The exit code of the training.
    """
    folder = settings.data_folder() / f"drawn_tiles_{n_tiles}_{seed}"
    screen = Screen()
    screen.say(
        f"{n_tiles:,} tiles that look like satellite pictures. They are DRAWN by onecycle from a seed, not "
        "photographed, so nothing here says how well real tiles would do."
    )
    with counting_bar("drawing tiles", n_tiles) as advance:
        write_sample(folder, n_tiles, seed=seed, progress=lambda _: advance(1))
    where = {"data": str(folder), "name": "demo", "out": str(out or RUNS)}
    augment = {"flip_vert": True, "max_warp": 0.0, "max_lighting": 0.1, "max_zoom": 1.05}
    options = {**where, **augment, "size": size_px, "epochs": epochs, "seed": seed}
    return run_training(RunConfig.merged(None, options))
