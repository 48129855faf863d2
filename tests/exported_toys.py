"""A small predictor, and files for it: enough to export, without a network of timm's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from onecycle.data.pixels.resize import ResizeSpec
from onecycle.deploy.calibrated import Calibrated
from onecycle.deploy.predictor import Predictor
from onecycle.evaluation.certainty.calibration import Calibration
from onecycle.evaluation.certainty.thresholds import TagThresholds
from onecycle.train.losses import ACTIVATIONS

CLASSES = ("a", "b", "c", "d")
STATS = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def toy_predictor(
    *, is_multi: bool = False, calibrated: bool = False, size=(20, 24), method="CROP", deep: bool = False
) -> Predictor:
    """Return a network of two layers with random weights, or of five kinds."""
    torch.manual_seed(0)
    model = deep_network() if deep else network()
    n = len(CLASSES)
    calibration = Calibration("temperature", (0.7,) * n, (0.0,) * n, 50)
    thresholds = None
    if is_multi:
        calibration = Calibration("platt", (1.2, 0.8, 0.9, 1.1), (0.1, 0.2, -0.1, 0.0), 50)
        thresholds = TagThresholds((0.45, 0.5, 0.5, 0.55), "F2", 50, ((0, 1),))
    return Predictor(
        model=model.eval(),
        resize=ResizeSpec.make(size, method),
        stats=STATS,
        activation=ACTIVATIONS["sigmoid" if is_multi else "softmax"],
        classes=CLASSES,
        is_multi=is_multi,
        device=torch.device("cpu"),
        calibrated=Calibrated(calibration, thresholds) if calibrated else Calibrated(),
    )


def network() -> nn.Module:
    body = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU())
    return nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))


def deep_network() -> nn.Module:
    """Return a plain, a depthwise and a wide convolution, a large layer of few inputs, and one of many."""
    body = nn.Sequential(
        *(nn.Conv2d(3, 16, 3, stride=2), nn.BatchNorm2d(16), nn.ReLU()),
        *(nn.Conv2d(16, 16, 3, groups=16), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU()),
    )
    head = nn.Sequential(nn.Linear(32, 96), nn.ReLU(), nn.Linear(96, 4))
    return nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)


def toy_files(folder: Path, n: int = 6) -> list[str]:
    """Write pictures with a strong texture, which a resize without antialiasing changes much."""
    rng = np.random.default_rng(3)
    files = []
    for i in range(n):
        pixels = rng.integers(0, 256, (60 + 13 * i, 90 - 7 * i, 3), dtype=np.uint8)
        path = folder / f"{i}.{'jpg' if i % 2 else 'png'}"
        Image.fromarray(pixels).save(path)
        files.append(str(path))
    return files
