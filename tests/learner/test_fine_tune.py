"""``fine_tune`` and ``lr_suggestion`` on a small network and small pictures with a learnable signal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from onecycle.data.augment.transforms import get_transforms
from onecycle.data.bunch import ImageDataBunch
from onecycle.errors import ArgumentError
from onecycle.learner.cnn import cnn_learner
from onecycle.learner.fine_tune import plan as planning
from onecycle.learner.fine_tune import run as recipe
from onecycle.learner.fine_tune.best import BestStage
from onecycle.learner.fine_tune.callback import StageCallback
from onecycle.learner.fine_tune.options import FineTuneOptions
from onecycle.learner.fine_tune.plan import ALL, HEAD, LAST, MOST_EPOCHS
from onecycle.learner.fine_tune.run import DEFAULT_LR
from onecycle.learner.learner import Learner
from onecycle.model.cnn import group_of_each, split_model
from onecycle.train.callbacks import Callback
from onecycle.train.lr_finder import LrAnswer
from onecycle.train.metrics import accuracy


def bunch(path: Path, **options) -> ImageDataBunch:
    options = {"size": 32, "bs": 16, "ds_tfms": get_transforms(), **options}
    return ImageDataBunch.from_csv(path, folder="train", suffix=".jpg", **options)


def learner(data: ImageDataBunch, path: Path, *, frozen: bool = True, **options) -> Learner:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        body = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        pool = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        model = nn.Sequential(body, nn.Sequential(*pool, nn.BatchNorm1d(8), nn.Dropout(0.1), nn.Linear(8, 3)))
    options = {"metrics": accuracy, "silent": True, **options}
    learn = Learner(data, model, path=path, layer_groups=split_model(model, [model[1]]), **options)
    if frozen:
        learn.freeze()
    return learn


@pytest.fixture
def learn(colour_path, tmp_path) -> Learner:
    return learner(bunch(colour_path), tmp_path)


def state(learn: Learner):
    tensors = {k: v.clone() for k, v in learn.model.state_dict().items()}
    flags = [p.requires_grad for p in learn.model.parameters()]
    modes = [m.training for m in learn.model.modules()]
    return tensors, flags, modes, learn.trainer.epochs_done, learn.precompute, torch.get_rng_state()


def assert_same(a, b):
    assert all(torch.equal(a[0][k], b[0][k]) for k in a[0])
    assert a[1:5] == b[1:5]
    assert torch.equal(a[5], b[5])


class Watch(Callback):
    """Notes the size, the batch and what trains, at the first batch of each epoch."""

    takes_features = True

    def __init__(self) -> None:
        self.seen: list[tuple[tuple[int, ...], bool]] = []

    def on_batch_begin(self, trainer, batch, rng) -> None:
        if trainer.batch_no == 0:
            body_trains = next(trainer.model[0].parameters()).requires_grad
            self.seen.append((tuple(batch.x.shape), body_trains))


class SlowSteps(Callback):
    """Makes each step, of features too, take longer, and counts them."""

    takes_features = True

    def __init__(self, clock: FakeClock, seconds: float) -> None:
        self.clock, self.seconds, self.n = clock, seconds, 0

    def on_batch_end(self, trainer, loss) -> None:
        self.clock.now += self.seconds
        self.n += 1


class StopAt(Callback):
    """Interrupts at a batch of the stages with all layers."""

    def __init__(self, batch: int) -> None:
        self.left = batch

    def on_backward_end(self, trainer) -> None:
        if next(trainer.model[0].parameters()).requires_grad:
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt


# --- for a number of epochs -----------------------------------------------------------------------


def test_it_trains_the_head_then_all_layers_and_leaves_the_data_alone(learn):
    data = learn.data
    start = {k: v.clone() for k, v in learn.model[0].state_dict().items()}
    plan = learn.fine_tune(2, base_lr=0.05)
    assert [(s.trains, s.epochs) for s in plan.stages] == [(HEAD, 20), (ALL, 2)]
    assert learn.data is data
    assert learn.precompute is False
    assert learn.validate()[1] == 1.0
    assert not torch.equal(learn.model[0][0].weight, start["0.weight"])
    assert torch.equal(learn.model[0][1].running_mean, start["1.running_mean"])
    assert torch.equal(learn.model[0][1].weight, start["1.weight"])
    assert not torch.equal(learn.model[1][2].running_mean, torch.zeros(8))  # the head's norm layers do train


def test_the_recorder_holds_all_stages(learn):
    learn.fine_tune(2, base_lr=0.05, freeze_epochs=3)
    rows = learn.recorder.rows
    assert [row.epoch for row in rows] == [0, 1, 2, 3, 4]
    assert len(learn.recorder.losses) == len(learn.recorder.lrs) == len(learn.recorder.moms) == 5 * 3
    assert learn.recorder.nb_batches == [3] * 5
    assert all(row.metrics and row.valid_loss is not None for row in rows)
    lrs = [pair[-1] for pair in learn.recorder.all_lrs]
    assert max(lrs[:9]) == pytest.approx(0.05, rel=0.05)
    assert max(lrs[9:]) == pytest.approx(0.025, rel=0.05)
    assert max(pair[0] for pair in learn.recorder.all_lrs[9:]) == pytest.approx(5e-4, rel=0.05)
    assert learn.validate() == pytest.approx([rows[-1].valid_loss, *rows[-1].metrics], abs=1e-6)
    learn.recorder.plot_losses()


def test_train_bn_trains_the_body_s_norm_layers_too(learn):
    learn.fine_tune(1, base_lr=0.01, freeze_epochs=1, train_bn=True)
    assert not torch.equal(learn.model[0][1].running_mean, torch.zeros(8))
    assert learn.recorder.all_lrs[-1][0] * 4 == pytest.approx(learn.recorder.all_lrs[-1][1])


def test_the_body_s_norm_layers_train_where_there_are_enough_steps_for_it(colour_path, tmp_path, monkeypatch):
    monkeypatch.setattr(planning, "NORM_STEPS", 6)
    for epochs, trains in ((1, False), (2, True)):
        learn = learner(bunch(colour_path), tmp_path)
        assert learn.fine_tune(epochs, base_lr=0.01, freeze_epochs=1).stages[-1].hold_norms is not trains
        assert torch.equal(learn.model[0][1].running_mean, torch.zeros(8)) is not trains


def test_the_same_seed_gives_the_same_weights(colour_path, tmp_path):
    def run(**options):
        learn = learner(bunch(colour_path, **options), tmp_path)
        learn.fine_tune(2, freeze_epochs=2)
        return learn.model.state_dict()

    first = run()
    assert all(torch.equal(v, first[k]) for k, v in run(num_workers=3).items())


def test_sizes_and_batches_of_the_stages(colour_path, tmp_path):
    watch = Watch()
    learn = learner(bunch(colour_path, size=128, bs=32), tmp_path, callbacks=[watch])
    data = learn.data
    plan = learn.fine_tune(4, base_lr=0.01, freeze_epochs=1)
    assert [(s.size, s.bs, s.epochs) for s in plan.stages[1:]] == [((96, 96), 16, 2), ((128, 128), 16, 2)]
    pictures = [((16, 3, side, side), True) for side in (96, 96, 128, 128)]
    assert watch.seen == [((16, 8), False), *pictures]
    assert learn.data is data
    assert learn.data.batch_size == 32
    own = learner(bunch(colour_path), tmp_path, callbacks=[watch])
    watch.seen.clear()
    own.fine_tune(3, base_lr=0.01, freeze_epochs=1, sizes=(20, (24, 28), 32), bs=20)
    assert [shape for shape, _ in watch.seen[1:]] == [(20, 3, 20, 20), (20, 3, 24, 28), (20, 3, 32, 32)]


def test_one_cycle_over_all_sizes(colour_path, tmp_path):
    learn = learner(bunch(colour_path), tmp_path)
    learn.fine_tune(4, base_lr=0.01, freeze_epochs=1, sizes=(16, 32))
    lrs = [pair[-1] for pair in learn.recorder.all_lrs[3:]]
    peak = int(np.argmax(lrs))
    assert peak in (3, 4)  # of 12 steps
    assert lrs[:peak] == sorted(lrs[:peak])
    assert lrs[peak:] == sorted(lrs[peak:], reverse=True)


def test_views_of_the_head(colour_path, tmp_path, capsys):
    for asked, wanted in ((None, 1), (0, 0), (2, 2), (True, 1)):
        learn = learner(bunch(colour_path), tmp_path)
        plan = learn.fine_tune(1, base_lr=0.01, freeze_epochs=1, precompute=asked)
        assert plan.stages[0].views == wanted
    for own in (0, 2):
        learn = learner(bunch(colour_path), tmp_path, precompute=own)
        assert learn.fine_tune(1, plan_only=True).stages[0].views == own
        assert learn.precompute is own
    plan = learner(bunch(colour_path, ds_tfms=None), tmp_path).fine_tune(0, base_lr=0.01)
    assert [s.views for s in plan.stages] == [0]
    learn = learner(bunch(colour_path), tmp_path)
    learn.fine_tune(0, base_lr=0.01, precompute=0)
    assert learn.precompute is False  # not the 0 of the stage
    assert capsys.readouterr().out == ""


def test_the_head_is_fed_pictures_where_features_will_not_do(colour_path, tmp_path, capsys):
    def double(batch):
        return batch[0] * 1.0, batch[1]

    learn = learner(bunch(colour_path, dl_tfms=[double]), tmp_path, silent=False)
    plan = learn.fine_tune(1)
    assert [(s.trains, s.epochs, s.views) for s in plan.stages] == [(HEAD, 1, None), (ALL, 1, None)]
    said = capsys.readouterr().out
    assert "is fed pictures, not features: dl_tfms work on whole batches of pictures." in said
    assert "Learning rate 3e-03, the default" in said
    assert max(pair[-1] for pair in learn.recorder.all_lrs[:3]) == pytest.approx(DEFAULT_LR, rel=0.1)
    off = learner(bunch(colour_path), tmp_path)
    watch = Watch()
    off.callbacks.append(watch)
    assert off.fine_tune(0, precompute=False).stages[0].views is None
    assert watch.seen == [((16, 3, 32, 32), False)]


def test_a_learner_that_is_not_frozen_goes_straight_to_all_layers(colour_path, tmp_path):
    learn = learner(bunch(colour_path), tmp_path, frozen=False)
    plan = learn.fine_tune(2)
    assert [(s.trains, s.epochs) for s in plan.stages] == [(ALL, 2)]
    assert not torch.equal(learn.model[0][1].running_mean, torch.zeros(8))  # nothing pretrained to keep
    frozen = learner(bunch(colour_path), tmp_path)
    assert [s.trains for s in frozen.fine_tune(1, freeze_epochs=0).stages] == [ALL]
    with pytest.raises(ArgumentError, match="nothing to train"):
        learner(bunch(colour_path), tmp_path, frozen=False).fine_tune(0)


def test_without_validation_pictures(colour_path, tmp_path, capsys):
    learn = learner(bunch(colour_path, valid_pct=0.0), tmp_path, silent=False, metrics=None)
    learn.fine_tune(1, base_lr=0.01, freeze_epochs=1)
    assert "no validation pictures" in capsys.readouterr().out


# --- what is said ---------------------------------------------------------------------------------


def test_it_shows_the_plan_the_forecast_and_the_result(colour_path, tmp_path, capsys):
    learn = learner(bunch(colour_path), tmp_path, silent=False)
    learn.fine_tune(2, freeze_epochs=2)
    said = capsys.readouterr().out
    assert max(len(line) for line in said.splitlines()) <= 80
    order = [
        "pictures/s forward, ",
        "stage         size   batch  epochs  learning rates  forecast",
        "1 head        32 px  16     2       lr, found",
        "2 all layers  32 px  16     2       lr/100 to lr/2",
        "Stage 1 of 2 done after 00:",
        "All layers train now, with learning rates",
        "fine_tune took 00:",
    ]
    places = [said.index(text) for text in order]
    assert places == sorted(places)
    last = learn.recorder.rows[-1]
    assert said.endswith(f"valid_loss {last.valid_loss:.6f}, accuracy {last.metrics[0]:.6f}.\n")


def test_for_the_head_alone_only_forward_passes_are_timed(learn, capsys, monkeypatch):
    steps = []
    step = learn.trainer.train_step
    monkeypatch.setattr(learn.trainer, "train_step", lambda *args: steps.append(learn.trainer.head) or step(*args))
    learn.silent = False
    plan = learn.fine_tune(0, plan_only=True)
    assert steps, "the head's own steps are timed"
    assert None not in steps, "a step of the whole network takes seconds on a CPU"
    assert plan.stages[0].forecast_s > 0
    assert "training all layers" not in capsys.readouterr().out


def test_silent_means_silent(learn, capsys):
    learn.fine_tune(1, freeze_epochs=1)
    learn.fine_tune(minutes=0.01)
    learn.lr_suggestion(num_it=20)
    assert capsys.readouterr().out == ""


def test_plan_only_changes_nothing(learn, capsys):
    learn.silent = False
    learn.fit(1)
    optimizer, before, recorder = learn.trainer.optimizer, state(learn), learn.recorder
    moments = [s["exp_avg"].clone() for s in optimizer.torch.state_dict()["state"].values()]
    capsys.readouterr()
    plan = learn.fine_tune(minutes=1, plan_only=True)
    assert_same(before, state(learn))
    assert learn.trainer.optimizer is optimizer
    after = [s["exp_avg"] for s in optimizer.torch.state_dict()["state"].values()]
    assert all(torch.equal(a, b) for a, b in zip(moments, after, strict=True))
    assert learn.recorder is recorder
    assert learn.trainer.head is None
    assert str(plan) in capsys.readouterr().out


def test_the_probe_does_not_change_what_follows(colour_path, tmp_path):
    def run(*, probe: bool):
        learn = learner(bunch(colour_path), tmp_path)
        if probe:
            learn.fine_tune(2, plan_only=True)
        learn.fit_one_cycle(2, 0.01)
        return learn.model.state_dict()

    plain = run(probe=False)
    assert all(torch.equal(v, plain[k]) for k, v in run(probe=True).items())


# --- for a time -----------------------------------------------------------------------------------


class FakeClock:
    """Goes on by a fixed time at each look, so that a step takes the same everywhere; ``speed`` changes it."""

    def __init__(self, tick_s: float) -> None:
        self.now, self.tick_s = 0.0, tick_s

    def __call__(self) -> float:
        self.now += self.tick_s
        return self.now


def test_a_time_is_used_and_not_exceeded(learn):
    clock = FakeClock(0.005)
    plan = recipe.fine_tune(learn, FineTuneOptions(minutes=0.05), clock=clock)
    assert repr(plan).startswith("Plan(head, 32 px, ")  # what a notebook shows after the table
    assert plan.budget_s == pytest.approx(3.0)
    assert 2.0 < clock.now < 3.3
    assert [s.trains for s in plan.stages[:1]] == [HEAD]
    assert sum(s.epochs for s in plan.stages) > 0
    assert learn.recorder.rows[-1].epoch > 0


def test_no_time_still_trains_the_head(learn, capsys):
    learn.silent = False
    plan = recipe.fine_tune(learn, FineTuneOptions(minutes=1e-4), clock=FakeClock(0.001))
    assert [s.trains for s in plan.stages] == [HEAD]
    assert "00:00 is too little even for the head" in capsys.readouterr().out
    assert len(learn.recorder.rows) == 20


class SlowsDown(Callback):
    """Makes the machine slower from the first step with all layers on."""

    def __init__(self, clock: FakeClock, factor: float) -> None:
        self.clock, self.tick_s = clock, clock.tick_s * factor

    def on_backward_end(self, trainer) -> None:
        if next(trainer.model[0].parameters()).requires_grad and trainer.has_validation:
            self.clock.tick_s = self.tick_s


@pytest.mark.parametrize("factor", [1.0, 2.5])
def test_on_a_machine_that_slows_down_the_time_still_holds(colour_path, tmp_path, factor):
    clock = FakeClock(0.05)
    learn = learner(bunch(colour_path), tmp_path, callbacks=[SlowsDown(clock, factor)])
    plan = recipe.fine_tune(
        learn, FineTuneOptions(minutes=0.2, base_lr=0.01, freeze_epochs=1, sizes=(24, 32)), clock=clock
    )
    planned = 3 * sum(s.epochs for s in plan.stages if s.trains == ALL)
    steps = len(learn.recorder.lrs) - 3
    assert 12 * 0.8 <= clock.now <= 12 * 1.1
    assert 6 < steps < planned if factor > 1 else steps > 12
    lrs = [pair[-1] for pair in learn.recorder.all_lrs[3:]]
    assert lrs[-1] < 0.25 * max(lrs)
    assert learn.data.lists.resize.size == (32, 32)


def test_a_fit_that_was_cut_in_mid_epoch_is_judged_all_the_same(colour_path, tmp_path, capsys):
    clock = FakeClock(0.05)
    learn = learner(bunch(colour_path, bs=4), tmp_path, callbacks=[SlowsDown(clock, 4.0)], silent=False)
    recipe.fine_tune(learn, FineTuneOptions(minutes=0.3, base_lr=0.01, freeze_epochs=1), clock=clock)
    said = capsys.readouterr().out
    assert learn.recorder.rows[-1].valid_loss is None
    assert f"valid_loss {learn.validate()[0]:.6f}" in said.splitlines()[-1]


def test_the_most_epochs_is_a_limit_that_is_said(colour_path, tmp_path, capsys):
    learn = learner(bunch(colour_path), tmp_path, silent=False)
    plan = learn.fine_tune(minutes=60, plan_only=True)
    assert sum(s.epochs for s in plan.stages if s.trains == ALL) == MOST_EPOCHS
    assert "epochs= overrides that limit" in capsys.readouterr().out


# --- interruptions and refusals -------------------------------------------------------------------


def test_an_interrupt_puts_data_and_precompute_back(colour_path, tmp_path):
    learn = learner(bunch(colour_path), tmp_path, precompute=2, callbacks=[StopAt(5)])
    data = learn.data
    with pytest.raises(KeyboardInterrupt):
        learn.fine_tune(2, base_lr=0.01, freeze_epochs=1, sizes=(16, 32))
    assert learn.data is data
    assert learn.precompute == 2
    assert learn.trainer.head is None
    assert len(learn.recorder.losses) > 0
    learn.callbacks.clear()
    learn.fit_one_cycle(1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "received neither"),
        ({"epochs": 2, "minutes": 1.0}, "received both"),
        ({"epochs": -1}, "epochs is a whole number of 0 or more; received -1"),
        ({"epochs": 1.5}, "epochs is a whole number"),
        ({"epochs": True}, "epochs is a whole number"),
        ({"epochs": 1, "freeze_epochs": -1}, "freeze_epochs is a whole number"),
        ({"epochs": 1, "bs": 1}, "bs is a whole number of 2 or more"),
        ({"minutes": 0}, "minutes is a number above 0"),
        ({"minutes": float("nan")}, "minutes is a number above 0"),
        ({"epochs": 1, "base_lr": -1e-3}, "base_lr is a number above 0"),
        ({"epochs": 1, "precompute": -2}, "precompute is False, True or the number"),
        ({"epochs": 1, "sizes": (32, 16)}, "sizes ends with the size of the data"),
        ({"epochs": 1, "sizes": ()}, "sizes ends with the size of the data"),
        ({"epochs": 1, "sizes": 32}, "sizes is a list of sizes in px"),
        ({"epochs": 1, "train_bn": "x"}, "train_bn is True, False or None"),
        ({"epochs": 0, "freeze_epochs": 0}, "nothing to train"),
    ],
)
def test_refusals(learn, options, message):
    before = state(learn)
    with pytest.raises(ArgumentError, match=message):
        learn.fine_tune(**options)
    assert_same(before, state(learn))


# --- the learning rate ----------------------------------------------------------------------------


def test_lr_suggestion_leaves_no_trace_and_is_repeatable(colour_path, tmp_path):
    learn = learner(bunch(colour_path, bs=8), tmp_path, precompute=1)
    before = state(learn)
    first = learn.lr_suggestion()
    assert_same(before, state(learn))
    assert first.lr is not None
    assert 1e-4 < first.lr < 1
    assert learn.lr_suggestion() == first
    assert len(learn.recorder.lrs) > 12  # the last sweep, to look at
    again = learn.lr_suggestion(n_sweeps=1)
    assert again.low == again.high
    assert first.low <= again.lr <= first.high


def test_a_head_that_was_trained_before_gets_a_small_rate_where_the_sweeps_cannot_tell(learn, capsys, monkeypatch):
    cannot = LrAnswer(None, None, None, "the loss never fell")
    monkeypatch.setattr(learn, "lr_suggestion", lambda: cannot)
    learn.silent = False
    learn.fine_tune(0, freeze_epochs=1)
    assert "So 3e-03 is taken, the default (base_lr=)." in capsys.readouterr().out
    learn.fine_tune(0, freeze_epochs=1)
    assert "So 3e-04 is taken, a tenth of the default, for a head that was trained" in capsys.readouterr().out
    assert max(pair[-1] for pair in learn.recorder.all_lrs) == pytest.approx(3e-4, rel=0.1)


def test_without_time_there_are_no_sweeps_and_the_head_s_cycle_is_short(colour_path, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(recipe, "LEAST_HEAD_S", 0.5)
    clock = FakeClock(0.001)
    slow = SlowSteps(clock, 0.05)
    learn = learner(bunch(colour_path), tmp_path, silent=False, callbacks=[slow])
    recipe.fine_tune(learn, FineTuneOptions(minutes=1e-4), clock=clock)
    assert "No time for sweeps: the default learning rate 3e-03 is taken" in capsys.readouterr().out
    assert 0 < slow.n < 30, "twenty epochs were planned, of three steps each"
    lrs = [pair[-1] for pair in learn.recorder.all_lrs]
    assert lrs[-1] < 0.5 * max(lrs), "the rate falls to its end all the same"


def test_lr_suggestion_says_when_it_cannot_tell(colour_path, tmp_path, capsys):
    learn = learner(bunch(colour_path), tmp_path, precompute=0, silent=False)
    assert learn.lr_suggestion(num_it=5).lr is None
    said = capsys.readouterr().out
    assert "The sweeps cannot tell a learning rate: 5 batches are too few" in said
    assert "LR Finder is complete" not in said


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:1 of 200 validation pictures:onecycle.errors.DataWarning")  # a rare tag
def test_on_planet_the_suggestions_of_several_runs_agree_within_a_factor_of_two(planet_path, tmp_path):
    lrs = []
    for seed in range(1, 6):
        data = ImageDataBunch.from_csv(
            planet_path,
            folder="train",
            suffix=".jpg",
            label_delim=" ",
            size=128,
            bs=32,
            seed=seed,
            ds_tfms=get_transforms(flip_vert=True, max_warp=0.0),
        )
        learn = cnn_learner(data, "tf_efficientnet_lite0", path=tmp_path, silent=True, precompute=1)
        lrs.append(learn.lr_suggestion().lr)
    assert None not in lrs
    assert max(lrs) < 2 * min(lrs)
    assert 5e-4 < min(lrs) < max(lrs) < 1e-2


def test_bad_numbers_of_sweeps_are_refused(learn):
    for n in (0, "3"):
        with pytest.raises(ArgumentError, match="n_sweeps is a number of sweeps, 1 or more"):
            learn.lr_suggestion(n_sweeps=n)


def test_sizes_for_which_there_are_too_few_epochs_are_named(colour_path, tmp_path, capsys):
    learn = learner(bunch(colour_path), tmp_path, silent=False)
    learn.fine_tune(1, sizes=[24, 32], plan_only=True)
    assert "epochs are too few for 2 sizes" in capsys.readouterr().out
    learn.fine_tune(2, sizes=[24, 32], plan_only=True)
    assert "too few for 2 sizes" not in capsys.readouterr().out


def test_what_cannot_be_is_refused_before_the_network_is_made(colour_path, monkeypatch):
    def made(*args, **options):
        raise AssertionError("the network was made")

    monkeypatch.setattr("onecycle.learner.cnn.create_cnn_model", made)
    for option in ({"precision": "fp8"}, {"channels_last": "x"}, {"precompute": -1}):
        with pytest.raises(ArgumentError):
            cnn_learner(bunch(colour_path), "resnet18", pretrained=False, **option)


class Notes(StageCallback):
    """Notes what a recipe tells its learner's callbacks."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def on_plan(self, plan) -> None:
        self.told.append(f"plan of {len(plan.stages)}")

    def on_stage_begin(self, stage, base_lr) -> None:
        self.told.append(f"{stage.trains} begins")

    def on_lr_chosen(self, lr) -> None:
        self.told.append("lr")

    def on_replan(self, rest) -> None:
        self.told.append("replanned")

    def on_stage_end(self, stage) -> None:
        self.told.append(f"{stage.trains} ended")


def test_callbacks_are_told_what_happens_in_order(learn):
    learn.callbacks.append(notes := Notes())
    learn.fine_tune(1, freeze_epochs=1)
    assert notes.told == [
        "plan of 2", "head begins", "lr", "head ended", "all layers begins", "all layers ended",
    ]  # fmt: skip
    notes.told.clear()
    assert learn.fine_tune(1, plan_only=True)
    assert notes.told == ["plan of 2"]


def test_callbacks_are_told_in_their_order(learn):
    told = []

    class Later(StageCallback):
        order = 1

        def on_stage_end(self, stage) -> None:
            told.append("later")

    class Sooner(StageCallback):
        def on_stage_end(self, stage) -> None:
            told.append("sooner")

    learn.callbacks += [Later(), Sooner()]
    learn.fine_tune(0, freeze_epochs=1, base_lr=0.01)
    assert told == ["sooner", "later"]


def test_the_sweeps_and_their_answer_are_kept(learn):
    assert learn.lr_sweeps == ()
    answer = learn.lr_suggestion(n_sweeps=2, num_it=20)
    assert learn.lr_answer is answer
    assert len(learn.lr_sweeps) == 2
    assert all(len(lrs) >= len(losses) > 5 for lrs, losses in learn.lr_sweeps)


def test_a_silent_learner_can_show_its_epochs_elsewhere(learn, capsys):
    from onecycle.train.log.progress import Progress

    class Rows(Progress):
        seen = 0

        def show_row(self, cells) -> None:
            Rows.seen += 1

    learn.progress_to = Rows
    learn.fit_one_cycle(2)
    assert Rows.seen == 2
    assert capsys.readouterr().out == ""


# --- the last stages, on maps of the first ----------------------------------------------------------


def on_stages(path: Path, tmp_path: Path, **options) -> Learner:
    """A learner whose head ``fine_tune`` solves, so that it then trains the last stages of the network."""
    learn = cnn_learner(
        bunch(path, **options), "test_efficientnet", pretrained=False, metrics=accuracy, silent=True, path=tmp_path
    )
    learn.freeze()
    return learn


def test_after_a_solved_head_the_last_stages_train_on_maps(colour_path, tmp_path):
    learn = on_stages(colour_path, tmp_path)
    data, start = learn.data, {k: v.clone() for k, v in learn.model[0].state_dict().items()}
    plan = learn.fine_tune(2, base_lr=0.05, early_stop=False)
    assert [(s.trains, s.epochs, s.views) for s in plan.stages] == [(HEAD, 1, 0), (LAST, 2, 1)]
    assert (learn.data is data, learn.precompute) == (True, False)
    assert [len(learn.recorder.rows), learn.recorder.picked_of] == [3, 3]
    now = {k.removeprefix("body."): v for k, v in learn.model[0].state_dict().items()}
    moved = {k for k in now if not torch.equal(now[k], start[k])}
    assert moved
    assert not {k for k in moved if "bn" in k or "running" in k}, "batch-norm layers stay as they are"
    groups = group_of_each(learn.model, learn.layer_groups)
    assert {groups[f"0.body.{k}"] for k in moved} == {1}, "and so does the first half"


@pytest.mark.parametrize(
    ("losses", "kept"), [((1.0, 0.9, 0.8), 2), ((1.0, 0.9, 0.95), 1), ((1.0, 1.1, 1.2), 0), ((1.0, 1.1, 0.9), 2)]
)
def test_the_last_stages_are_judged_half_way_and_at_the_end(colour_path, tmp_path, monkeypatch, losses, kept):
    learn, judged, told = on_stages(colour_path, tmp_path), [], []

    def judge(self, row):
        judged.append({name: t.clone() for name, t in learn.model.state_dict().items()})
        each = np.full(len(learn.data.split.valid), losses[len(judged) - 1])
        return each, [float(each.mean())]

    class Told(StageCallback):
        def on_stage_judged(self, choice, *, is_best):
            told.append((choice.kept, is_best, {n: t.clone() for n, t in learn.model.state_dict().items()}))

    monkeypatch.setattr(BestStage, "_judged_now", judge)
    learn.callbacks.append(Told())
    learn.fine_tune(1, base_lr=0.05)
    start, half, end = judged
    assert all(torch.allclose(half[n], (start[n] + end[n]) / 2) for n in half if half[n].is_floating_point())
    assert any(not torch.equal(start[n], end[n]) for n in end)
    now = learn.model.state_dict()
    assert all(torch.equal(now[n], judged[kept][n]) for n in now)
    (_, first, _), (position, is_best, then) = told
    assert (first, position, is_best) == (True, kept, kept > 0)
    assert all(torch.equal(then[n], judged[kept or 2][n]) for n in then)


def test_without_validation_pictures_the_last_stages_end_half_way(colour_path, tmp_path):
    learn, moments = on_stages(colour_path, tmp_path, valid_pct=0.0), []

    class Moments(StageCallback):
        def on_epoch_end(self, trainer, row):
            moments.append({n: t.clone() for n, t in learn.model.state_dict().items()})

    learn.callbacks.append(Moments())
    learn.fine_tune(1, base_lr=0.05)
    start, end = moments
    now = learn.model.state_dict()
    assert all(torch.allclose(now[n], (start[n] + end[n]) / 2) for n in now if now[n].is_floating_point())


def test_more_epochs_of_last_stages_after_a_pause_are_the_same_stage(colour_path, tmp_path):
    learn = on_stages(colour_path, tmp_path)
    learn.fine_tune(1, base_lr=0.05)
    learn.save("paused")
    again = on_stages(colour_path, tmp_path).load("paused")
    again.freeze()
    plan = again.fine_tune(2, freeze_epochs=0, train_bn=False, base_lr=0.05)
    assert [(s.trains, s.epochs, s.hold_norms) for s in plan.stages] == [(LAST, 2, True)]


@pytest.mark.parametrize("asked", [{"train_bn": True}, {"precompute": False}, {"freeze_epochs": 1}])
def test_all_layers_train_where_something_else_is_asked_for(colour_path, tmp_path, asked):
    plan = on_stages(colour_path, tmp_path).fine_tune(1, base_lr=0.05, plan_only=True, **asked)
    assert plan.stages[-1].trains == ALL


def test_all_layers_train_where_a_callback_works_on_pictures(colour_path, tmp_path):
    learn = on_stages(colour_path, tmp_path).mixup()
    assert learn.fine_tune(1, base_lr=0.05, plan_only=True).stages[-1].trains == ALL
