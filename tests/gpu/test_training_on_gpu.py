"""A step on a card: every loss, precision and callback finds its tensors there, and nothing waits."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fake_gpu import GPU, fake_gpu
from torch import Tensor, nn

from onecycle.data.bunch import ImageDataBunch
from onecycle.learner.learner import Learner
from onecycle.train.callbacks import AccumulateScheduler, BnFreeze, GradientClipping, MixUpCallback
from onecycle.train.device.precision import Precision
from onecycle.train.evaluate import evaluate, measured
from onecycle.train.log.progress import Progress
from onecycle.train.log.recorder import Recorder
from onecycle.train.loop import Trainer
from onecycle.train.losses import (
    AsymmetricLoss,
    BCEWithLogitsFlat,
    CrossEntropyFlat,
    FocalLoss,
    LabelSmoothingBCE,
    LabelSmoothingCrossEntropy,
)
from onecycle.train.schedules import Constant

C = 3
WEIGHT = [1.0, 2.0, 3.0]


def weight() -> Tensor:
    return torch.tensor(WEIGHT)


CLASS_LOSSES = {
    "cross-entropy": lambda: CrossEntropyFlat(),
    "cross-entropy, weights": lambda: CrossEntropyFlat(weight()),
    "torch's cross-entropy, weights": lambda: nn.CrossEntropyLoss(weight()),
    "smoothed": lambda: LabelSmoothingCrossEntropy(),
    "focal": lambda: FocalLoss(),
    "focal, weights": lambda: FocalLoss(weight=weight(), is_multi=False),
}
TAG_LOSSES = {
    "bce": lambda: BCEWithLogitsFlat(),
    "bce, weights": lambda: BCEWithLogitsFlat(weight()),
    "bce, positive weights": lambda: BCEWithLogitsFlat(pos_weight=weight()),
    "smoothed tags": lambda: LabelSmoothingBCE(),
    "focal tags, weights": lambda: FocalLoss(weight=weight(), is_multi=True),
    "asymmetric": lambda: AsymmetricLoss(),
    "asymmetric, weights": lambda: AsymmetricLoss(weight=weight()),
}
LOSSES = CLASS_LOSSES | TAG_LOSSES
CALLBACKS = {
    "none": lambda learn: [],
    "clipping": lambda learn: [GradientClipping(learn, clip=0.1)],
    "accumulating": lambda learn: [AccumulateScheduler(learn, n_step=2)],
    "mixup": lambda learn: [MixUpCallback(learn)],
    "norms held": lambda learn: [BnFreeze(learn)],
}


class OnGpu:
    """Batches that lie on the card."""

    def __init__(self, *, multi: bool, n: int = 3) -> None:
        self.multi, self.n = multi, n

    def __len__(self) -> int:
        return self.n

    def set_epoch(self, epoch: int) -> None: ...

    def __iter__(self) -> Iterator[SimpleNamespace]:
        for _ in range(self.n):
            y = torch.zeros(4, C, device=GPU) if self.multi else torch.zeros(4, dtype=torch.int64, device=GPU)
            yield SimpleNamespace(x=torch.zeros(4, 3, 8, 8, device=GPU), y=y, indices=torch.arange(4))


def small_net() -> nn.Sequential:
    body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    return nn.Sequential(body, nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, C)))


def trainer_on_gpu(loss_func: nn.Module, dtype: str = "fp32") -> Trainer:
    model = small_net().to(GPU)
    return Trainer(model=model, layer_groups=list(model), loss_func=loss_func, precision=Precision(dtype))


def run(card, trainer: Trainer, callbacks=(), *, multi: bool) -> list[str]:
    """Train a few steps; return the waits of the later ones: what is made once may wait."""
    with trainer.running(Recorder(), progress=Progress(), callbacks=callbacks):
        trainer.n_batches = 3
        for trainer.batch_no, batch in enumerate(OnGpu(multi=multi)):
            trainer.set_hypers(Constant((1e-3, 1e-3)), trainer.batch_no)
            trainer.train_step(batch, 0, callbacks)
            if trainer.batch_no == 0:
                card.clear()
        waits = list(card.waits)
        trainer.recorder.losses.clear()
    return waits


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_trains_without_a_wait(name, dtype):
    with fake_gpu() as card:
        assert not run(card, trainer_on_gpu(LOSSES[name](), dtype), multi=name in TAG_LOSSES)
        assert card.backwards == 3


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("name", CALLBACKS)
@pytest.mark.parametrize("multi", [False, True])
def test_every_callback_trains_without_a_wait(name, dtype, multi):
    with fake_gpu() as card:
        learn = SimpleNamespace(data=SimpleNamespace(c=C), path=".", recorder=None)
        loss = BCEWithLogitsFlat(weight()) if multi else CrossEntropyFlat(weight())
        callbacks = CALLBACKS[name](learn)
        assert not run(card, trainer_on_gpu(loss, dtype), callbacks, multi=multi)


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_measures_with_one_copy_at_the_end(name):
    with fake_gpu() as card:
        trainer = trainer_on_gpu(LOSSES[name]())
        trainer.move_loss()
        loader = [*OnGpu(multi=name in TAG_LOSSES)]
        card.clear()
        outputs = evaluate(trainer.model, loader, trainer.loss_func)
        assert len(card.waits) == 3  # logits, targets and losses, once each
        assert outputs.logits.device.type == "cpu"
        measured(trainer.model, outputs, trainer.loss_func)


def test_a_loss_that_is_a_partial_moves_too():
    with fake_gpu() as card:
        loss = functools.partial(nn.functional.cross_entropy, weight=weight())
        assert not run(card, trainer_on_gpu(loss), multi=False)


def test_a_loss_on_the_right_device_is_left_alone():
    loss = CrossEntropyFlat(weight())
    model = small_net()
    trainer = Trainer(model=model, layer_groups=list(model), loss_func=loss)
    before = loss.weight
    trainer.move_loss()
    assert trainer.loss_func is loss
    assert loss.weight is before
    assert np.array_equal(before.numpy(), WEIGHT)


def test_a_loss_goes_where_the_data_goes(colour_path, tmp_path):
    def bunch(device: str) -> ImageDataBunch:
        return ImageDataBunch.from_csv(colour_path, folder="train", suffix=".jpg", size=32, bs=16, device=device)

    with fake_gpu():
        learn = Learner(bunch("cpu"), small_net(), loss_func=CrossEntropyFlat(weight()), path=tmp_path, silent=True)
        assert learn.loss_func.weight.device.type == "cpu"
        learn.data = bunch("cuda")
        assert learn.loss_func.weight.device.type == "cuda"
        learn.loss_func = FocalLoss(weight=weight())
        assert learn.loss_func.weight.device.type == "cuda"


def test_a_whole_fit_runs_on_the_card(colour_path, tmp_path):
    with fake_gpu() as card:
        data = ImageDataBunch.from_csv(colour_path, folder="train", suffix=".jpg", size=32, bs=16)
        assert data.device.type == "cuda"
        learn = Learner(data, small_net(), loss_func=CrossEntropyFlat(weight()), path=tmp_path, silent=True)
        learn.fit(1)
        assert card.backwards == 3
