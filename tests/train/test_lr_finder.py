from __future__ import annotations

import math

import pytest
import torch
from train_toys import Batch, ToyLoader, toy_model, toy_trainer

from onecycle.errors import ArgumentError
from onecycle.train.callbacks import Callback
from onecycle.train.log.recorder import Recorder
from onecycle.train.lr_finder import find_lr
from onecycle.train.schedules import Constant


def sweep(trainer, **kwargs):
    recorder = Recorder()
    find_lr(trainer, kwargs.pop("loader", ToyLoader()), recorder=recorder, **kwargs)
    return recorder


def trained():
    trainer = toy_trainer(toy_model(p=0.5))
    trainer.fit(1, Constant((1e-2, 1e-2)), ToyLoader(), recorder=Recorder())
    return trainer


def everything(trainer):
    model = {k: v.clone() for k, v in trainer.model.state_dict().items()}
    optimizer = trainer.optimizer.torch.state_dict() if trainer.optimizer else None
    steps = [s["exp_avg"].clone() for s in optimizer["state"].values()] if optimizer else None
    modes = [m.training for m in trainer.model.modules()]
    return model, steps, modes, trainer.epochs_done, torch.get_rng_state().clone()


def assert_same(a, b):
    assert all(torch.equal(a[0][k], b[0][k]) for k in a[0])
    assert (a[1] is None) == (b[1] is None)
    assert all(torch.equal(s, t) for s, t in zip(a[1] or [], b[1] or [], strict=True))
    assert a[2:4] == b[2:4]
    assert torch.equal(a[4], b[4])


@pytest.mark.parametrize("make", [trained, toy_trainer])
def test_leaves_no_trace(make, capsys):
    trainer = make()
    before = everything(trainer)
    optimizer = trainer.optimizer
    recorder = sweep(trainer)
    assert_same(before, everything(trainer))
    assert trainer.optimizer is optimizer
    assert len(recorder.lrs) == len(recorder.losses) > 10
    wanted = "LR Finder is complete, type {learner_name}.recorder.plot() to see the graph.\n"
    assert capsys.readouterr().out == wanted


def test_next_fit_is_as_if_there_had_been_no_sweep():
    plain, swept = trained(), trained()
    sweep(swept)
    losses = []
    for trainer in (plain, swept):
        recorder = Recorder()
        trainer.fit(1, Constant((1e-2, 1e-2)), ToyLoader(), recorder=recorder)
        losses.append(recorder.raw_losses)
    assert losses[0] == losses[1]


def test_interrupt_restores_too():
    class Interrupt(Callback):
        in_lr_find = True

        def on_backward_end(self, trainer):
            if len(trainer.recorder.lrs) == 7:
                raise KeyboardInterrupt

    trainer = trained()
    before = everything(trainer)
    with pytest.raises(KeyboardInterrupt):
        sweep(trainer, callbacks=[Interrupt()])
    assert_same(before, everything(trainer))


def test_rates_of_the_sweep_by_group():
    recorder = sweep(toy_trainer(), start_lr=slice(1e-7, 1e-6), end_lr=[1e-1, 1.0], num_it=10, stop_div=False)
    assert len(recorder.lrs) == 10
    assert recorder.all_lrs[0] == pytest.approx((1e-7, 1e-6))
    assert recorder.lrs[5] == pytest.approx(1e-3)


def test_stops_when_the_loss_explodes():
    full = sweep(toy_trainer(), end_lr=1e6, stop_div=False)
    short = sweep(toy_trainer(), end_lr=1e6)
    assert len(full.lrs) == 100 > len(short.lrs)
    assert short.losses[-1] > 4 * min(short.losses)
    assert max(short.losses[:-1]) <= 4 * min(short.losses)


def test_stops_at_nan():
    class Poisoned(ToyLoader):
        def __iter__(self):
            for i, b in enumerate(super().__iter__()):
                yield Batch(b.x * math.nan if i == 2 else b.x, b.y, b.indices)

    trainer = toy_trainer()
    recorder = sweep(trainer, loader=Poisoned())
    assert len(recorder.lrs) == 3
    assert all(torch.isfinite(p).all() for p in trainer.model.parameters())


def test_only_willing_callbacks_take_part():
    class Unwilling(Callback):
        def on_train_begin(self, trainer):
            raise AssertionError("not asked")

    sweep(toy_trainer(), callbacks=[Unwilling()], num_it=3)


def test_refuses():
    with pytest.raises(ArgumentError, match="smaller batch size"):
        sweep(toy_trainer(), loader=ToyLoader(0))
    with pytest.raises(ArgumentError, match="above 0"):
        sweep(toy_trainer(), start_lr=0.0)
    with pytest.raises(ArgumentError, match="num_it=0"):
        sweep(toy_trainer(), num_it=0)
