"""A finished run without ``train``: coloured pictures, classes or tags, a head of seconds, all files."""

from __future__ import annotations

import functools
import json
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from onecycle.data.labels.find.columns import LayoutOptions
from onecycle.data.layout import find_layout
from onecycle.deploy.calibrated import adopt_thresholds
from onecycle.errors import DataWarning
from onecycle.runs.build import described, make_bunch, make_learner, settled
from onecycle.runs.checkpoints import metrics_of_run
from onecycle.runs.config import RunConfig
from onecycle.runs.folder import RunFolder
from onecycle.runs.predictions import write_predictions
from onecycle.runs.split import split_text


@dataclass(frozen=True)
class ToyRun:
    """A run, and the folder of its data."""

    run: RunFolder
    data: Path

    @property
    def path(self) -> Path:
        return self.run.path

    @property
    def config(self) -> RunConfig:
        return RunConfig.read(self.run.config)


@functools.cache
def small_network() -> dict[str, str]:
    """Return the settings of a network that takes no time; its weights are drawn once, into the session's home."""
    path = Path.home() / "drawn.safetensors"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save_file(timm.create_model("test_efficientnet", pretrained=False).state_dict(), path)
    return {"arch": "test_efficientnet", "weights": str(path)}


def make_run(base: Path, data: Path, *, name: str = "toy", csv: str | None = "labels.csv", epochs: int = 20, **given):
    """Train a head on ``data`` and write what ``train`` writes.

    Args:
        base: folder of the runs.
        data: folder of the data set.
        name: of the run.
        csv: its table; None for class folders.
        epochs: of the head.
        given: other settings.
    """
    settings = {"data": str(data), "csv": csv, "size": 32, "bs": 16, "name": name, "out": str(base), **given}
    config = RunConfig.merged(None, {**settings, "epochs": 0})
    layout = find_layout(str(data), LayoutOptions(csv=csv, label_delim=given.get("label_delim")))
    config = settled(config, layout)
    run = RunFolder.create(base, name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        bunch = make_bunch(config, layout)
    learn = make_learner(config, bunch, run.path)
    learn.precompute = 0  # features once: an epoch takes a moment
    learn.fit_one_cycle(epochs, 1e-2)
    interpretation = learn.interpret()
    if bunch.is_multi and config.thresholds:
        adopt_thresholds(learn, interpretation.choose_thresholds(rule="one for all tags"))
    if config.calibrate:
        learn.calibrate()
    learn.save(run.model_stem.resolve(), with_opt=False)
    run.write_text(run.config, config.to_yaml())
    run.write_text(run.split, split_text(bunch))
    classes = [str(c) for c in bunch.classes]
    run.write_json(run.data, {"layout": described(layout), "audit": None, "classes": classes})
    write_predictions(interpretation.predictions, run.predictions)
    run.write_json(run.metrics, metrics_of_run(learn, interpretation.predictions))
    return ToyRun(run, data)


def lines(text: str) -> list[dict]:
    """Return the JSON objects of some lines."""
    return [json.loads(line) for line in text.splitlines()]


def colour_rows(root: Path, n: int) -> list[tuple[str, str]]:
    """Write ``n`` new pictures like those of the fixture ``colour_path``; returns (name, class)."""
    (root / "train").mkdir(parents=True)
    colours = {"red": (200, 40, 40), "green": (40, 180, 40), "blue": (40, 40, 200)}
    rng = np.random.default_rng(11)
    rows = []
    for i in range(n):
        label = list(colours)[i % 3]
        pixels = np.clip(np.array(colours[label]) + rng.integers(-30, 30, (40, 40, 3)), 0, 255)
        Image.fromarray(pixels.astype(np.uint8)).save(root / "train" / f"p{i:03d}.jpg", quality=92)
        rows.append((f"p{i:03d}", label))
    return rows
