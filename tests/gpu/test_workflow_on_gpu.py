"""The whole workflow on a card, also on the second one: nothing is left on the CPU, and only an epoch's end waits."""

from __future__ import annotations

import pytest
import torch
from fake_gpu import FakeGpu, fake_gpu

from onecycle.data.augment.transforms import get_transforms
from onecycle.data.batches import Batch
from onecycle.data.bunch import ImageDataBunch
from onecycle.learner.cnn import cnn_learner
from onecycle.learner.fine_tune.options import FineTuneOptions
from onecycle.learner.fine_tune.run import fine_tune
from onecycle.learner.fits.checkpoints import CheckpointCallback
from onecycle.train.callbacks import AccumulateScheduler, CSVLogger, GradientClipping
from onecycle.train.loop import Callback, Trainer
from onecycle.train.resume.fit_state import FitState


@pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")
@pytest.mark.parametrize("device", ["cuda:0", "cuda:1"])
def test_everything_runs_there(colour_path, tmp_path, device):
    how = {"size": 32, "bs": 16, "ds_tfms": get_transforms(), "device": device}
    with fake_gpu() as card:
        data = ImageDataBunch.from_csv(colour_path, folder="train", suffix=".jpg", **how)
        options = {"pretrained": False, "silent": True, "path": tmp_path, "precision": "bf16"}
        learn = cnn_learner(data, "resnet18", **options)
        assert {str(p.device) for p in learn.model.parameters()} == {device}
        learn.fit_one_cycle(1)
        card.clear()
        learn.unfreeze()
        learn.fit_one_cycle(1)
        steps = len(data.train_dl)
        # The losses at the epoch's end; logits, targets and losses of validation; its loss from these.
        assert len(card.waits) == steps + 3 + 3, card.waits
        learn.mixup().fit(1)
        learn.lr_find(num_it=5)
        learn.precision = "fp16"
        learn.fit(1)
        learn.get_preds(with_loss=True)
        learn.TTA(with_loss=True)
        learn.validate()
        learn.predict(data.valid_ds.x[0])
        assert learn.features().shape == (60, 1024)
        learn.precompute = 1
        learn.freeze()
        learn.callbacks = []
        learn.fit_one_cycle(1)
        assert learn.frozen_features.describe().startswith("features of the frozen layers computed once")
        assert all(str(p.device) == device for p in learn.model.parameters())


class Watch(Callback):
    """Notes how often the card was waited for until the end of each step."""

    order = 1000

    def __init__(self, card: FakeGpu) -> None:
        self.card = card
        self.seen: dict[int, list[int]] = {}

    def on_batch_end(self, trainer: Trainer, loss: torch.Tensor) -> None:
        self.seen.setdefault(trainer.epochs_done, []).append(len(self.card.waits))


def test_no_step_of_an_epoch_waits_whatever_watches_it(colour_path, tmp_path, monkeypatch):
    monkeypatch.setattr(FitState, "to_bytes", lambda state: b"")  # what is written has no values here
    with fake_gpu() as card:
        how = {"size": 32, "bs": 8, "ds_tfms": get_transforms(), "device": "cuda"}
        data = ImageDataBunch.from_csv(colour_path, folder="train", suffix=".jpg", **how)
        learn = cnn_learner(data, "resnet18", pretrained=False, silent=True, path=tmp_path, precision="bf16")
        watch = Watch(card)
        others = [
            GradientClipping(learn, clip=1.0),
            AccumulateScheduler(learn, n_step=2),
            CSVLogger(learn),
            CheckpointCallback(learn, every_s=1e9),
        ]
        learn.fit_one_cycle(2, callbacks=[*others, watch])
        first, later = watch.seen.values()
        assert len(later) == len(data.train_dl) > 3
        assert len(set(first[1:])) == len(set(later)) == 1, card.waits
        assert later[0] > first[-1], "validation waits"


@pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")
@pytest.mark.parametrize(("step_s", "picture_s", "bs"), [(0.1, 1e-4, 48), (1e-3, 1e-2, 24)])
def test_batches_in_a_time_are_chosen_by_steps_that_are_timed(
    colour_path, tmp_path, monkeypatch, step_s, picture_s, bs
):
    now, seen = [0.0], []
    train_step = Trainer.train_step

    def timed_step(trainer: Trainer, batch: Batch, *args: object) -> torch.Tensor:
        seen.append(len(batch.x))
        now[0] += step_s + len(batch.x) * picture_s
        return train_step(trainer, batch, *args)

    def clock() -> float:
        now[0] += 1e-4  # all else takes a little
        return now[0]

    monkeypatch.setattr(Trainer, "train_step", timed_step)
    with fake_gpu():
        how = {"size": 32, "bs": 48, "ds_tfms": get_transforms(), "device": "cuda"}
        data = ImageDataBunch.from_csv(colour_path, folder="train", suffix=".jpg", **how)
        learn = cnn_learner(data, "resnet18", pretrained=False, silent=True, path=tmp_path, precision="bf16")
        trains = [p.requires_grad for p in learn.model.parameters()]
        optimizer = learn.trainer.optimizer
        plan = fine_tune(learn, FineTuneOptions(minutes=0.1), plan_only=True, clock=clock)
        assert [p.requires_grad for p in learn.model.parameters()] == trains
        assert learn.trainer.optimizer is optimizer
    assert {48, 24} <= set(seen)
    assert {stage.bs for stage in plan.stages} == {bs}
