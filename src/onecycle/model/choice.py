"""``--arch auto``: the network with the best published accuracy whose weights are to be had and that fits the time.

Weights are looked for on this machine alone, unless the user asked for more. Speeds are shares of EfficientNet-Lite0's,
``benchmarks/networks.py``, and its own is measured here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from onecycle.errors import WeightsError
from onecycle.model.backbones import architecture, build_body, published_by_timm
from onecycle.model.weights import PACKAGED, find_weights, weights_here
from onecycle.text import format_time

MOST_MINUTES = 10.0
"""A run of so many epochs, rather than minutes, should end within these."""

PASSES = 4
"""Forward passes over the training pictures of a usual run: the plain ones and three views."""

TIMED_BATCH, TRAINING = 8, 2.0
"""Pictures on which Lite0's speed is measured, and a training step of its last stages as a multiple of that."""


@dataclass(frozen=True)
class Known:
    """A network that may be chosen."""

    name: str  # timm's, with the tag of its weights
    top1: float  # published accuracy on ImageNet, %: timm's results-imagenet.csv
    slower: float  # seconds of a picture, forward and training, as a multiple of Lite0's: benchmarks/networks.py


KNOWN = (
    Known(f"{PACKAGED}.in1k", 74.8, 1.0),
    Known("tf_efficientnetv2_b0.in1k", 78.4, 1.2),
    Known("convnext_nano.in12k_ft_in1k", 82.9, 3.3),
    Known("convnext_tiny.in12k_ft_in1k", 84.5, 5.6),
)
"""From small to large."""


@dataclass(frozen=True)
class Chosen:
    """A network and why."""

    name: str
    why: str


def choose_network(
    n_train: int,
    n_valid: int,
    *,
    epochs: int,
    budget_s: float = 60 * MOST_MINUTES,
    size: int = 224,
    fetch: bool = False,
    lite0_s: Callable[[int], float] | None = None,
) -> Chosen:
    """Choose among ``KNOWN``.

    Args:
        n_train: training pictures.
        n_valid: validation pictures.
        epochs: after the head's stage.
        budget_s: seconds that the run may take.
        size: of the pictures, px.
        fetch: weights may be fetched from the hub.
        lite0_s: from the size to the seconds of a picture through Lite0; default: measured.
    """
    here = [known for known in KNOWN[1:] if weights_here(published_by_timm(architecture(known.name))) is not None]
    larger, why = (KNOWN[1:] if fetch else tuple(here)), "its weights come with onecycle"
    if not larger:
        return Chosen(PACKAGED, f"{why}; --arch auto may fetch larger networks")
    passes = PASSES * n_train + n_valid + TRAINING * epochs * n_train
    usual_s = passes * (lite0_s or _lite0_s)(size)
    fitting = [known for known in larger if usual_s * known.slower <= budget_s]
    if not fitting:
        return Chosen(PACKAGED, f"{why}; larger networks would take more than {format_time(budget_s)}")
    for known in reversed(fitting):
        if known not in here:
            try:
                find_weights(published_by_timm(architecture(known.name)), True)
            except WeightsError:  # not to be reached, so the others are not either
                fitting, why = [one for one in fitting if one in here], f"{why}; the hub cannot be reached"
                break
        return _chosen(known, usual_s)
    return _chosen(fitting[-1], usual_s) if fitting else Chosen(PACKAGED, why)


def _chosen(known: Known, usual_s: float) -> Chosen:
    of_time = f"about {format_time(usual_s * known.slower)}"
    return Chosen(known.name, f"{known.top1:g} % of ImageNet, {of_time}; Lite0: {KNOWN[0].top1:g} %")


def _lite0_s(size: int) -> float:
    body = build_body(PACKAGED, False).module.eval().to(memory_format=torch.channels_last)
    x = torch.zeros(TIMED_BATCH, 3, size, size).contiguous(memory_format=torch.channels_last)
    took = []
    with torch.no_grad():
        for _ in range(3):
            start = time.perf_counter()
            body(x)
            took.append(time.perf_counter() - start)
    return min(took) / TIMED_BATCH
