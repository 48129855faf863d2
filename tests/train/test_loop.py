from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn
from train_toys import CLASSES, Batch, ToyLoader, accuracy, toy_model, toy_trainer

from onecycle.errors import ArgumentError, DivergedError, OnecycleWarning
from onecycle.train.callbacks import Callback, LearnerCallback, checked_callbacks
from onecycle.train.device.random_state import mix_seed
from onecycle.train.evaluate import evaluate, validate
from onecycle.train.log.progress import Progress
from onecycle.train.log.recorder import Recorder
from onecycle.train.loop import Trainer, set_training_mode
from onecycle.train.optimizer import AdamW_v1
from onecycle.train.schedules import Constant, OneCycle


def fit(trainer: Trainer, epochs: int = 2, **kwargs: Any) -> Recorder:
    loader = kwargs.pop("loader") if "loader" in kwargs else ToyLoader()
    schedule = kwargs.pop("schedule", None) or OneCycle(epochs * len(loader), (1e-2, 1e-2))
    recorder = kwargs.pop("recorder", None) or Recorder(["accuracy"])
    valid = kwargs.pop("valid", ToyLoader(10, 4, shuffle=False))
    trainer.fit(epochs, schedule, loader, valid, recorder=recorder, metrics=[accuracy], **kwargs)
    return recorder


def test_learns_and_records():
    trainer = toy_trainer()
    recorder = fit(trainer, 12, schedule=Constant((0.05, 0.05)))
    assert recorder.raw_losses[0] > 2 * recorder.raw_losses[-1]
    assert [row.epoch for row in recorder.rows] == list(range(12))
    assert len(recorder.losses) == len(recorder.lrs) == 36
    assert recorder.nb_batches == [3] * 12
    assert recorder.metrics[-1][0] > 0.5


def test_equals_a_plain_loop():
    trainer = toy_trainer(wd=0.1)
    recorder = fit(trainer, 3)
    model, loader, cycle = toy_model(), ToyLoader(), OneCycle(9, (1e-2, 1e-2))
    plain = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.99), weight_decay=0.1)
    losses, step = [], 0
    for epoch in range(3):
        loader.set_epoch(epoch)
        model.train()
        for batch in loader:
            now = cycle.at(step)
            plain.param_groups[0].update(lr=now.lrs[0], betas=(now.mom, 0.99))
            loss = nn.functional.cross_entropy(model(batch.x), batch.y)
            plain.zero_grad()
            loss.backward()
            plain.step()
            losses.append(loss.item())
            step += 1
    assert recorder.raw_losses == pytest.approx(losses, abs=1e-6)


def test_two_runs_are_equal_to_the_bit_with_dropout():
    a, b = (toy_trainer(toy_model(p=0.5), seed=5) for _ in range(2))
    first = fit(a)
    torch.manual_seed(99)
    second = fit(b)
    assert first.raw_losses == second.raw_losses
    assert all(torch.equal(p, q) for p, q in zip(a.model.parameters(), b.model.parameters(), strict=True))
    other = fit(toy_trainer(toy_model(p=0.5), seed=6))
    assert other.raw_losses != first.raw_losses


def test_three_epochs_are_two_and_one():
    whole, parts = (toy_trainer(toy_model(p=0.5)) for _ in range(2))
    schedule = OneCycle(9, (1e-2, 1e-2))
    once = fit(whole, 3, schedule=schedule)
    twice = fit(parts, 2, schedule=schedule).raw_losses + fit(parts, 1, schedule=schedule, start_epoch=2).raw_losses
    assert once.raw_losses == twice


def test_epochs_go_on_over_fits():
    trainer, loader = toy_trainer(), ToyLoader()
    fit(trainer, 2, loader=loader)
    fit(trainer, 1, loader=loader)
    assert loader.epochs_seen == [0, 1, 2]
    assert trainer.epochs_done == 3


def test_users_random_state_is_untouched():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    fit(toy_trainer(toy_model(p=0.5)))
    assert torch.equal(before, torch.get_rng_state())


def test_callbacks_get_reproducible_generators():
    class Draw(Callback):
        def __init__(self) -> None:
            self.seen: list[float] = []

        def on_batch_begin(self, trainer, batch, rng):
            self.seen.append(rng.random())

    draws = [Draw(), Draw()]
    for draw in draws:
        fit(toy_trainer(), callbacks=[draw])
    assert draws[0].seen == draws[1].seen
    assert len(set(draws[0].seen)) == 6


def test_no_step_looks_at_a_tensor(monkeypatch):
    inside = []

    class Watch(Callback):
        order = -100

        def on_batch_begin(self, trainer, batch, rng):
            inside.append(True)

        def on_epoch_begin(self, trainer, epoch):
            inside.clear()

    class Done(Callback):
        order = 100

        def on_batch_end(self, trainer, loss):
            inside.clear()

    def forbid(name):
        original = getattr(torch.Tensor, name)

        def checked(self, *args, **kwargs):
            assert not inside, f"Tensor.{name} inside a step"
            return original(self, *args, **kwargs)

        monkeypatch.setattr(torch.Tensor, name, checked)

    for name in ("item", "cpu", "tolist", "numpy", "__bool__", "__float__", "__int__"):
        forbid(name)
    recorder = fit(toy_trainer(), callbacks=[Watch(), Done()])
    assert len(recorder.losses) == 6
    inside.append(True)
    with pytest.raises(AssertionError, match="inside a step"):
        torch.ones(1).item()


def test_discriminative_rates_reach_the_groups():
    trainer = toy_trainer()
    recorder = fit(trainer, 1, schedule=OneCycle(3, (1e-3, 1e-2)))
    assert all(b == pytest.approx(10 * a) for a, b in recorder.all_lrs)
    assert recorder.lrs == [lrs[-1] for lrs in recorder.all_lrs]


def test_constant_fit_keeps_momentum_of_the_optimizer():
    trainer = toy_trainer()
    assert set(fit(trainer, 1, schedule=Constant((1e-3, 1e-3))).moms) == {0.9}


def test_frozen_norm_runs_in_eval_mode_and_trainable_ones_train():
    model = toy_model()
    model[0].requires_grad_(False)
    norm = model[0][1]
    fit(toy_trainer(model))
    assert torch.equal(norm.running_mean, torch.zeros(8))
    norm.requires_grad_(True)
    set_training_mode(model)
    assert norm.training
    fit(toy_trainer(model))
    assert not torch.equal(norm.running_mean, torch.zeros(8))


def test_unfrozen_parameters_train_after_a_warning():
    model = toy_model()
    model[0].requires_grad_(False)
    trainer = toy_trainer(model)
    fit(trainer)
    model[0].requires_grad_(True)
    before = model[0][0].weight.detach().clone()
    with pytest.warns(OnecycleWarning, match="other parameters train now"):
        fit(trainer)
    assert not torch.equal(before, model[0][0].weight)


def test_evaluate_is_whole_and_leaves_modes():
    model, loader = toy_model(p=0.5), ToyLoader(10, 4, shuffle=False)
    model.train()
    model[0][1].eval()
    found = evaluate(model, loader, nn.CrossEntropyLoss())
    assert found.logits.shape == (10, 3)
    assert found.losses.shape == (10,)
    assert torch.equal(found.targets, loader.y)
    assert [model[0][1].training, model[1][0].training] == [False, True]
    with torch.no_grad():
        wanted = model.eval()(loader.x)
    torch.testing.assert_close(found.logits, wanted)
    assert not found.logits.is_inference()


def test_validate_means_over_items_and_metrics_over_the_set():
    model, loader, sizes = toy_model(), ToyLoader(10, 4, shuffle=False), []

    def spy(logits, targets):
        sizes.append(len(logits))
        return accuracy(logits, targets)

    loss, values = validate(model, loader, nn.CrossEntropyLoss(), [spy])
    model.eval()
    assert loss == pytest.approx(nn.functional.cross_entropy(model(loader.x), loader.y).item(), rel=1e-5)
    assert sizes == [10]
    assert values == [accuracy(model(loader.x), loader.y).item()]


def test_multi_label_validation_loss_is_the_mean():
    model, loader = toy_model(), ToyLoader(10, 4, multi=True)
    loss, _ = validate(model, loader, nn.BCEWithLogitsLoss())
    model.eval()
    wanted = nn.functional.binary_cross_entropy_with_logits(model(loader.x), loader.y)
    assert loss == pytest.approx(wanted.item(), rel=1e-5)


def test_fit_without_validation_set():
    recorder = fit(toy_trainer(), 1, valid=None)
    assert recorder.rows[0].valid_loss is None
    assert recorder.rows[0].metrics == ()
    assert recorder.val_losses == []


def test_empty_loader_and_bad_epochs_are_refused():
    with pytest.raises(ArgumentError, match="smaller batch size"):
        fit(toy_trainer(), 1, loader=ToyLoader(0), schedule=Constant((1.0, 1.0)))
    with pytest.raises(ArgumentError, match="1 or more, got 0"):
        fit(toy_trainer(), 0, schedule=Constant((1.0, 1.0)))
    with pytest.raises(ArgumentError, match="no batch"):
        evaluate(toy_model(), ToyLoader(0), nn.CrossEntropyLoss())


def test_nan_loss_is_named_once_an_epoch():
    class Poisoned(ToyLoader):
        def __iter__(self):
            for i, batch in enumerate(super().__iter__()):
                yield Batch(batch.x * math.nan if i == 1 else batch.x, batch.y, batch.indices)

    recorder = Recorder()
    with pytest.raises(DivergedError, match=r"epoch 0 at batch 1 of 3.*0\.01.*tenth of the learning rate"):
        fit(toy_trainer(), loader=Poisoned(), recorder=recorder, schedule=Constant((0.01, 0.01)))
    assert len(recorder.raw_losses) == 3


class Interrupt(Callback):
    def __init__(self, at: int) -> None:
        self.left, self.ended = at, False

    def on_backward_end(self, trainer):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt

    def on_train_end(self, trainer):
        self.ended = True


def test_interrupt_leaves_everything_consistent():
    trainer, recorder, callback = toy_trainer(), Recorder(), Interrupt(5)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    with pytest.raises(KeyboardInterrupt):
        fit(trainer, 4, recorder=recorder, callbacks=[callback])
    assert len(recorder.losses) == 4
    assert len(recorder.rows) == 1
    assert callback.ended
    assert trainer.optimizer is not None
    assert trainer.optimizer.mom == 0.9
    assert all(p.grad is None for p in trainer.model.parameters())
    assert torch.equal(before, torch.get_rng_state())
    assert trainer.epochs_done == 2
    assert len(fit(trainer, 1).rows) == 1


def test_stop_in_mid_epoch_skips_validation():
    class Stop(Callback):
        def on_batch_end(self, trainer, loss):
            trainer.stop_training = trainer.batch_no == 1

    recorder = fit(toy_trainer(), 3, callbacks=[Stop()])
    assert recorder.nb_batches == [2]
    assert recorder.rows[0].valid_loss is None


def test_weight_decay_of_one_fit_does_not_stay():
    trainer = toy_trainer(wd=0.1)
    fit(trainer, 1, wd=0.5)
    assert trainer.optimizer is not None
    assert trainer.optimizer.wd == 0.5
    fit(trainer, 1)
    assert trainer.optimizer.wd == 0.1


def test_optimizer_lives_on_over_fits():
    trainer = toy_trainer(opt_func=AdamW_v1)
    fit(trainer, 1)
    first = trainer.optimizer
    fit(trainer, 1)
    assert trainer.optimizer is first


def test_progress_hears_every_epoch():
    heard = []

    class Spy(Progress):
        def epoch(self, n_batches):
            heard.append(n_batches)

        def row(self, row):
            heard.append(row.epoch)

        def finish(self):
            heard.append("end")

    fit(toy_trainer(), progress=Spy())
    assert heard == [3, 0, 3, 1, "end"]


def test_mix_seed_separates():
    seeds = {mix_seed(a, b, c) for a in range(4) for b in range(4) for c in range(4)}
    assert len(seeds) == 64
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert mix_seed(1, 2, 3) == mix_seed(1, 2, 3)


def test_describe_names_loss_optimizer_and_callbacks():
    lines = toy_trainer(wd=0.1).describe([Callback()])
    assert lines[1:] == ["Optimizer: Adam, weight decay 0.1, decoupled", "Callbacks: Callback"]
    assert lines[0].startswith("Loss: ")


def test_auxiliary_outputs_and_one_value_a_channel_are_said():
    class Aux(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, CLASSES)

        def forward(self, x):
            return (self.layer(x), self.layer(x)) if self.training else self.layer(x)

    trainer = toy_trainer()
    trainer.model, trainer.layer_groups = Aux(), []
    trainer.layer_groups = [nn.ModuleList([trainer.model.layer])]
    with pytest.raises(ArgumentError, match="in training the model gives tuple"):
        fit(trainer, 1, schedule=Constant((1.0,)))
    norm = nn.Sequential(nn.Unflatten(1, (4, 1, 1)), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, CLASSES))
    trainer.model, trainer.layer_groups, trainer.optimizer = norm, [nn.ModuleList(norm.children())], None
    with pytest.raises(ArgumentError, match=r"one value a channel.*bs=2 or more"):
        fit(trainer, 1, loader=ToyLoader(3, 1), schedule=Constant((1.0,)))


def test_a_callback_of_another_learner_is_refused():
    callback, learn = LearnerCallback("another"), object()
    assert checked_callbacks([LearnerCallback(learn)], learn)
    with pytest.raises(ArgumentError, match="this LearnerCallback was made with another learner"):
        checked_callbacks([callback], learn)
