"""What checkpoints cost: fits with and without them in turn, and for how long the steps stand still meanwhile.

All layers of EfficientNet-Lite0 train on Planet's tiles where they are there (``shared/data``), else on drawn pictures,
224 px. Compared is the processor time of the whole process, threads included, which other programs hardly change.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import kills
import rows

from onecycle.train.schedules import Constant
from onecycle.vision import CheckpointCallback, ImageDataBunch, cnn_learner, models

PLANET = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "planet_sample"
EVERY_S = 20.0


def learner(folder: Path) -> tuple[Any, str]:
    """Return a learner whose layers all train, and the name of its data."""
    if (PLANET / "labels.csv").exists():
        how = {"csv_labels": "labels.csv", "folder": "train", "suffix": ".jpg", "label_delim": " "}
        data, name = ImageDataBunch.from_csv(PLANET, size=224, bs=16, **how), "Planet"
    else:
        kills.draw_data(folder / "d")
        data = ImageDataBunch.from_csv(folder / "d", folder="train", suffix=".jpg", size=224, bs=16)
        name = "drawn pictures"
    learn = cnn_learner(data, models.tf_efficientnet_lite0, path=folder, silent=True, precision="fp32")
    learn.unfreeze()
    return learn, name


class Enough:
    """The training batches of a learner, so many of them."""

    def __init__(self, loader: Any, steps: int) -> None:
        self.loader, self.steps, self.bs = loader, steps, loader.bs

    def __len__(self) -> int:
        return self.steps

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch."""
        self.loader.set_epoch(epoch)

    def __iter__(self) -> Any:
        while True:
            yield from self.loader


def fit(learn: Any, steps: int, every_s: float | None) -> tuple[float, float, float]:
    """Train for so many steps; returns processor seconds, seconds, and seconds for which the steps stood still."""
    callback = None if every_s is None else CheckpointCallback(learn, every_s, name=f"cost-{learn.n_fits}")
    learn.n_fits += 1
    if callback is not None:
        callback.open(1, None, 0)
    start_s, start_cpu_s = time.monotonic(), time.process_time()
    loader = Enough(learn.data.train_dl.replace(stats=learn.norm_stats), steps)
    learn.recorder = type(learn.recorder)()
    rates = Constant(tuple(learn.lr_range(1e-4)))
    callbacks = [] if callback is None else [callback]
    learn.trainer.fit(1, rates, loader, recorder=learn.recorder, callbacks=callbacks)
    stopped_s = 0.0 if callback is None else callback.stopped_s
    return time.process_time() - start_cpu_s, time.monotonic() - start_s, stopped_s


def main(short: bool = False) -> list[rows.Row]:
    """Return a row."""
    with tempfile.TemporaryDirectory(prefix="onecycle_cost_") as folder:
        learn, name = learner(Path(folder))
        every_s, n_pairs = (2.0, 1) if short else (EVERY_S, 5)
        _, took_s, _ = fit(learn, 5, None)
        steps = max(5, round(2.2 * every_s / (took_s / 5)))
        ratios, stood = [], []
        for _ in range(n_pairs):
            without_s = fit(learn, steps, None)[0]
            with_s, wall_s, stopped_s = fit(learn, steps, every_s)
            ratios.append(with_s / without_s - 1)
            stood.append(stopped_s / wall_s)
        share, still = statistics.median(ratios), max(stood)
        figure = f"{share:+.2%} of the processor time (median), steps stand still for {still:.3%} at most"
        spread = f"pairs {min(ratios):+.2%} to {max(ratios):+.2%}"
        detail = f"{name}, a checkpoint every {every_s:g} s, {steps} steps each; {spread}"
        return [rows.Row("Checkpoints within the epochs, their cost", n_pairs, figure, detail, holds=still < 0.01)]


if __name__ == "__main__":
    sys.exit(rows.show(main))
