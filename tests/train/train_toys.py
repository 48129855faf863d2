"""What the tests of the training room share: a tiny loader, a tiny network, a learner in name only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn

from onecycle.train.log.recorder import Recorder
from onecycle.train.loop import Trainer
from onecycle.train.schedules import Constant

CLASSES = 3


@dataclass
class Batch:
    x: torch.Tensor
    y: torch.Tensor
    indices: torch.Tensor


class ToyLoader:
    """Points whose class can be learned; the order is a function of the epoch alone."""

    def __init__(self, n: int = 24, bs: int = 8, *, shuffle: bool = True, multi: bool = False) -> None:
        gen = torch.Generator().manual_seed(7)
        self.x = torch.randn(n, 4, generator=gen)
        self.y = self.x[:, :CLASSES].argmax(1)
        if multi:
            self.y = (self.x[:, :CLASSES] > 0).float()
        self.bs, self.shuffle, self.epoch, self.epochs_seen = bs, shuffle, 0, []

    @property
    def n_items(self) -> int:
        return len(self.x)

    def __len__(self) -> int:
        return -(-len(self.x) // self.bs)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch
        self.epochs_seen.append(epoch)

    def __iter__(self) -> Iterator[Batch]:
        order = np.arange(len(self.x))
        if self.shuffle:
            order = np.random.default_rng((3, self.epoch)).permutation(order)
        for part in torch.from_numpy(order).split(self.bs) if len(order) else ():
            yield Batch(self.x[part], self.y[part], part)


def toy_model(seed: int = 0, p: float = 0.0) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        body = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU())
        return nn.Sequential(body, nn.Sequential(nn.Dropout(p), nn.Linear(8, CLASSES)))


def toy_trainer(model: nn.Sequential | None = None, **kwargs: Any) -> Trainer:
    model = toy_model() if model is None else model
    return Trainer(model=model, layer_groups=list(model), **{"loss_func": nn.CrossEntropyLoss(), **kwargs})


def accuracy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return (logits.argmax(1) == targets).float().mean()


class FakeLearner:
    """Keeps weights in memory; everything a callback may ask of a learner."""

    def __init__(self, path: Path, trainer: Trainer) -> None:
        self.path, self.trainer, self.data = path, trainer, SimpleNamespace(c=CLASSES)
        self.recorder = Recorder()
        self.files: dict[str, dict[str, torch.Tensor]] = {}
        self.loaded: list[str] = []

    def save(self, name: str) -> None:
        self.files[name] = {k: v.clone() for k, v in self.trainer.model.state_dict().items()}

    def load(self, name: str) -> None:
        self.loaded.append(name)
        self.trainer.model.load_state_dict(self.files[name])


def fit(learn, callbacks, epochs=2, valid=True, lr=1e-2):
    learn.recorder = Recorder(["accuracy"])
    valid_loader = ToyLoader(10, 4, shuffle=False) if valid else None
    learn.trainer.fit(
        epochs,
        Constant((lr / 10, lr)),
        ToyLoader(),
        valid_loader,
        recorder=learn.recorder,
        metrics=[accuracy],
        callbacks=callbacks,
    )
    return learn.recorder
