"""200 epochs of a tiny set: memory and open files at their end, against those after the first ones."""

from __future__ import annotations

import io
import os
import statistics
import tempfile
import warnings
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

import pictures
import rows
from rows import Row

from onecycle import vision
from onecycle.train.callbacks import LearnerCallback

EPOCHS, SHORT_EPOCHS = 200, 12
MOST_GROWTH = 0.05
AT_FIRST = 10
"""Epochs in which memory is allocated for the first time; after a tenth of all, they count no more."""


def memory_mb() -> float:
    """Return the memory of this process that lies in RAM."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def descriptors() -> int:
    """Return how many files this process has open."""
    return len(os.listdir("/proc/self/fd"))


class Watch(LearnerCallback):
    """Notes memory and open files after every epoch."""

    order = 100

    def __init__(self, learn: Any) -> None:
        super().__init__(learn)
        self.memory: list[float] = []
        self.files: list[int] = []

    def on_epoch_end(self, trainer: Any, row: Any) -> None:
        """Note them."""
        self.memory.append(memory_mb())
        self.files.append(descriptors())


def trained(folder: Path, epochs: int, *, frozen: bool) -> Row:
    """Train, write a log and the best model, and compare the last tenth of the epochs with an early one."""
    data = vision.ImageDataBunch.from_csv(
        folder / "data", csv_labels="labels.csv", size=32, bs=12, seed=1, ds_tfms=vision.get_transforms()
    )
    callbacks = [vision.CSVLogger, partial(vision.SaveModelCallback, name="best")]
    learn = vision.cnn_learner(
        data, vision.models.squeezenet1_1, pretrained=False, path=folder / f"learner-{frozen}", callback_fns=callbacks,
        metrics=vision.accuracy, silent=True,
    )  # fmt: skip
    if frozen:
        learn.freeze()
    watch = Watch(learn)
    with redirect_stdout(io.StringIO()):
        learn.fit_one_cycle(epochs, 1e-4, callbacks=[watch])
    tenth = max(1, epochs // 10)
    first = statistics.median(watch.memory[min(AT_FIRST, tenth) : min(AT_FIRST, tenth) + tenth])
    growth = statistics.median(watch.memory[-tenth:]) / first - 1
    files = watch.files[AT_FIRST // 2 :]
    constant = len(set(files)) == 1
    what = "the head alone" if frozen else "all layers, augmented"
    figure = f"memory {growth:+.1%}, open files {'constant' if constant else f'{min(files)} to {max(files)}'}"
    detail = f"{first:.0f} MB after {min(AT_FIRST, tenth)} epochs, {len(data.train_ds)} pictures of 32 px, bs 12"
    return Row(f"{epochs} epochs of a tiny set, {what}", epochs, figure, detail, growth < MOST_GROWTH and constant)


def main(short: bool = False) -> list[Row]:
    """Train the head alone, and all layers."""
    epochs = SHORT_EPOCHS if short else EPOCHS
    with tempfile.TemporaryDirectory(prefix="endurance-") as top, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        os.environ["ONECYCLE_HOME"] = str(Path(top) / "home")
        pictures.draw(Path(top) / "data")
        return [trained(Path(top), epochs, frozen=frozen) for frozen in (True, False)]


if __name__ == "__main__":
    rows.show(main)
