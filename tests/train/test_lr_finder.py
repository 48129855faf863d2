from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from train_toys import Batch, ToyLoader, toy_model, toy_trainer

from onecycle.errors import ArgumentError
from onecycle.train.callbacks import Callback
from onecycle.train.log.recorder import Recorder
from onecycle.train.lr_finder import MOST_APART, LrAnswer, find_lr, robust_lr
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


def test_skipped_epochs_give_another_sweep_of_the_same_model(capsys):
    trainer = toy_trainer()
    before = everything(trainer)
    plain, later = ToyLoader(), ToyLoader()
    first = sweep(trainer, loader=plain, num_it=6, quiet=True)
    second = sweep(trainer, loader=later, num_it=6, quiet=True, skip_epochs=6)
    assert plain.epochs_seen == [0, 1]
    assert later.epochs_seen == [6, 7]
    assert first.lrs == second.lrs
    assert first.raw_losses != second.raw_losses
    assert_same(before, everything(trainer))
    assert capsys.readouterr().out == ""


def curve(seed: int = 0, *, best: float = 1e-2, noise: float = 0.05, n: int = 100, end: float = 10.0):
    """A sweep as they look: a plateau, a fall of half, a basin around ``best``, an explosion, and noise."""
    lrs = np.geomspace(1e-6, end, n)
    x = np.log(lrs / best)
    losses = 1 - 0.5 / (1 + np.exp(-1.5 * (x + 3))) + 0.02 * np.exp(np.clip(2 * x, -50, 20))
    losses += noise * np.random.default_rng(seed).standard_normal(n)
    return lrs.tolist(), losses.tolist()


def three(first_seed: int, **how) -> LrAnswer:
    return robust_lr([curve(first_seed + i, **how) for i in range(3)])


def test_answers_of_several_runs_agree_within_a_factor_of_two():
    answers = [three(10 * run, noise=0.1) for run in range(12)]
    lrs = [a.lr for a in answers]
    assert None not in lrs
    assert max(lrs) < 2 * min(lrs)
    assert all(a.low <= a.lr <= a.high for a in answers)
    assert all(1e-2 / 30 < lr < 1e-2 for lr in lrs)  # below the best of the sweep, on its slope
    assert "3 of 3 sweeps" in answers[0].reason
    assert str(answers[0]).startswith(f"Suggested learning rate: {lrs[0]:.1e}")


def test_the_answer_moves_with_the_curve_and_not_with_the_scale_of_the_loss():
    here, there = three(0, noise=0.02), three(0, noise=0.02, best=1e-1)
    assert there.lr / here.lr == pytest.approx(10, rel=0.25)
    scaled = robust_lr([(lrs, [100 * y for y in losses]) for lrs, losses in (curve(i) for i in range(3))])
    assert scaled.lr == pytest.approx(three(0).lr)


def test_an_explosion_counts_as_one_however_high_it_flies():
    lrs, losses = curve(0)
    wild = [y if lr < 3e-2 else 1e6 * y for lr, y in zip(lrs, losses, strict=True)]
    tame = [y if lr < 3e-2 else 100 * y for lr, y in zip(lrs, losses, strict=True)]
    assert robust_lr([(lrs, wild)]).lr == robust_lr([(lrs, tame)]).lr
    broken = [y if lr < 3e-2 else math.nan for lr, y in zip(lrs, losses, strict=True)]
    assert robust_lr([(lrs, broken)]).lr == robust_lr([(lrs, wild)]).lr


@pytest.mark.parametrize(
    ("sweeps", "why"),
    [
        ([(np.geomspace(1e-6, 10, 100).tolist(), [0.7] * 100)], "never fell"),
        ([curve(i, end=1e-3) for i in range(3)], "still falling at the last rate, 1.0e-03"),
        (
            [(np.geomspace(1e-6, 10, 100).tolist(), list(np.linspace(1, 5, 100)))],
            "lowest from the first rate on, 1.0e-06",
        ),
        ([curve(0, n=8)], "too few"),
        ([curve(0, best=1e-2), curve(1, best=1.0)], "between"),
        ([curve(0), (curve(1)[0], [0.7] * 100)], "1 of 2 sweeps"),
    ],
)
def test_says_when_it_cannot_tell(sweeps, why):
    answer = robust_lr(sweeps)
    assert answer.lr is None
    assert why in answer.reason
    assert str(answer).startswith("The sweeps cannot tell a learning rate: ")


def test_one_sweep_that_says_nothing_is_outvoted():
    flat = (curve(0)[0], [0.7] * 100)
    answer = robust_lr([curve(1), flat, curve(2)])
    assert answer.lr is not None
    assert "2 of 3 sweeps" in answer.reason
    assert answer.high <= MOST_APART * answer.low


def test_robust_lr_refuses_nothing():
    with pytest.raises(ArgumentError, match="at least one sweep"):
        robust_lr([])
