"""The stage that ``fine_tune`` keeps: the rule by hand, and learners whose later stages do harm."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from test_fine_tune import bunch, learner

from onecycle.errors import DivergedError
from onecycle.learner.fine_tune import plan as planning
from onecycle.learner.fine_tune.best import EARLIER, BestStage, EarlyStop, JudgedStage, StageChoice, paired_change
from onecycle.learner.fine_tune.plan import ALL, HEAD, LAST
from onecycle.learner.learner import Learner
from onecycle.train.callbacks import Callback

HEAD_ONLY = {"base_lr": 0.05, "freeze_epochs": 8}


@pytest.fixture
def data(colour_path):
    return bunch(colour_path)


class Harm(Callback):
    """Makes the weights worse with each step of all layers."""

    takes_features = True

    def on_batch_end(self, trainer, loss) -> None:
        if next(trainer.model[0].parameters()).requires_grad:
            with torch.no_grad():
                trainer.model[1][4].bias.add_(torch.tensor([3.0, 0.0, -3.0]))


def harmed(data, path, **options) -> Learner:
    return learner(data, path, callbacks=[Harm()], **options)


def everything(learn: Learner):
    tensors = {name: t.clone() for name, t in learn.model.state_dict().items()}
    trains = [p.requires_grad for p in learn.model.parameters()]
    return tensors, (trains, learn.precompute, learn.frozen_to, learn.body_trained, learn.trainer.optimizer)


# --- the rule -------------------------------------------------------------------------------------------


def test_the_standard_error_is_that_of_paired_differences():
    rng = np.random.default_rng(0)
    a, b = rng.random(50), rng.random(50)
    mean, error = paired_change(a, b, np.arange(50))
    assert mean == pytest.approx((a - b).mean())
    assert error == pytest.approx((a - b).std(ddof=1) / math.sqrt(50))


def test_copies_in_one_group_count_once():
    rng = np.random.default_rng(1)
    a, b = rng.random(20), rng.random(20)
    alone = paired_change(a, b, np.arange(20))
    assert paired_change(a.repeat(5), b.repeat(5), np.arange(20).repeat(5)) == pytest.approx(alone)
    assert math.isnan(paired_change(a, b, np.zeros(20, dtype=int))[1])


def test_a_later_stage_must_be_lower_by_more_than_one_standard_error(data, tmp_path, monkeypatch):
    learn = learner(data, tmp_path)
    noise = np.random.default_rng(2).normal(0, 0.1, len(data.split.valid))
    noise -= noise.mean()
    error = noise.std(ddof=1) / math.sqrt(len(noise))
    best, first = BestStage(learn, data), np.full(len(noise), 1.0)
    for losses, is_best in (
        (first, True),
        (first, False),  # a tie
        (first + noise - 0.9 * error, False),
        (first + noise + 0.9 * error, False),
        (first + noise - 1.1 * error, True),
        (np.full(len(noise), math.nan), False),
    ):
        monkeypatch.setattr(best, "_judged_now", lambda row, losses=losses: (losses, [float(losses.mean())]))
        assert best.judge("x", epochs=1) is is_best
    assert best.choice.kept == 4
    assert best.choice.stages[2].change == pytest.approx(-0.9 * error)
    assert best.choice.stages[2].change_error == pytest.approx(error)
    assert StageChoice.from_dict(best.choice.to_dict()).to_dict() == best.choice.to_dict()


@pytest.mark.parametrize(
    ("change", "is_best"), [(-1.1, True), (-0.9, True), (0.9, True), (1.1, False), (math.nan, False)]
)
def test_averaged_weights_are_kept_unless_shown_to_be_worse(data, tmp_path, monkeypatch, change, is_best):
    learn = learner(data, tmp_path)
    noise = np.random.default_rng(2).normal(0, 0.1, len(data.split.valid))
    noise -= noise.mean()
    best, first = BestStage(learn, data), np.full(len(noise), 1.0)
    for losses, averaged in ((first, False), (first + noise + change * noise.std(ddof=1) / len(noise) ** 0.5, True)):
        monkeypatch.setattr(best, "_judged_now", lambda row, losses=losses: (losses, [float(losses.mean())]))
        now_best = best.judge("x", epochs=1, averaged=averaged)
    assert now_best is is_best
    assert best.choice.kept == int(is_best)
    assert StageChoice.from_dict(best.choice.to_dict()).stages[1].averaged


def test_averaged_weights_that_change_nothing_leave_the_earlier_stage(data, tmp_path):
    best = BestStage(learner(data, tmp_path), data)
    assert [best.judge("x", epochs=1), best.judge("y", epochs=1, averaged=True)] == [True, False]


def test_what_was_kept_without_being_shown_better_is_said():
    head = JudgedStage(name=HEAD, epochs=1, loss=0.131, error=0.01)
    half = {"name": "half way", "epochs": 4, "error": 0.01, "change_error": 0.004, "averaged": True}
    end = JudgedStage(name=LAST, epochs=0, loss=0.137, error=0.01, change=0.004, change_error=0.003)
    assert str(StageChoice((head, JudgedStage(**half, loss=0.133, change=0.002), end), 1)) == (
        "stage 2, half way (valid loss 0.133 ± 0.010), not shown to be worse than the earlier one (+0.002 ± 0.004); "
        "head ended at 0.131; last stages ended at 0.137"
    )
    assert str(StageChoice((head, JudgedStage(**half, loss=0.126, change=-0.005), end), 1)) == (
        "stage 2, half way (valid loss 0.126 ± 0.010); head ended at 0.131; last stages ended at 0.137"
    )


def test_what_was_lower_but_not_by_enough_is_said():
    head = JudgedStage(name=HEAD, epochs=1, loss=0.131, error=0.01)
    lower = JudgedStage(name=ALL, epochs=4, loss=0.129, error=0.01, change=-0.002, change_error=0.004)
    assert str(StageChoice((head, lower), 0)) == (
        "stage 1, head (valid loss 0.131 ± 0.010); all layers ended at 0.129, lower by 0.002, which is not more than "
        "one standard error of the difference, 0.004"
    )
    assert str(StageChoice((head, lower), 1)) == "stage 2, all layers (valid loss 0.129 ± 0.010); head ended at 0.131"


# --- fine_tune --------------------------------------------------------------------------------------------


def test_where_all_layers_do_harm_the_learner_is_that_of_the_head_alone(data, tmp_path, capsys):
    alone, learn = harmed(data, tmp_path), harmed(data, tmp_path, silent=False)
    alone.fine_tune(0, **HEAD_ONLY)
    learn.fine_tune(2, **HEAD_ONLY, early_stop=False)
    (tensors, state), (wanted, its_state) = everything(learn), everything(alone)
    assert all(torch.equal(tensors[name], wanted[name]) for name in wanted)
    assert state[:4] == its_state[:4]
    assert state[4] is None  # a fresh optimizer at the next fit
    assert [len(r.recorder.rows) for r in (alone, learn)] == [8, 10]
    assert (learn.recorder.picked, learn.recorder.picked_of, alone.recorder.picked_of) == ("stage", 2, 1)
    said = " ".join(capsys.readouterr().out.split())
    assert "Kept: stage 1, head (valid loss" in said
    assert f"valid_loss {alone.validate()[0]:.6f}" in said  # of what is kept
    assert learn.interpret().predictions.picked == "stage"
    learn.fit_one_cycle(1, 1e-3)
    assert not torch.equal(learn.model[1][4].weight, wanted["1.4.weight"])


def test_where_all_layers_help_their_weights_stay(data, tmp_path, monkeypatch):
    learn, judged = learner(data, tmp_path), []
    judge = BestStage.judge
    monkeypatch.setattr(
        BestStage, "judge", lambda self, *a, **k: judged.append((judge(self, *a, **k), self)) or judged[-1][0]
    )
    learn.fine_tune(3, base_lr=0.02, freeze_epochs=1)
    assert [is_best for is_best, _ in judged] == [True, True]
    choice = judged[-1][1].choice
    assert (choice.kept, [s.name for s in choice.stages]) == (1, [HEAD, ALL])
    assert choice.stages[1].loss == pytest.approx(learn.validate()[0], rel=1e-5)
    assert learn.body_trained


def test_a_hopeless_cycle_ends_early_unless_that_is_switched_off(data, tmp_path, capsys):
    learn = harmed(data, tmp_path, silent=False)
    learn.fine_tune(6, **HEAD_ONLY)
    n = len(learn.recorder.rows) - 8
    assert 2 <= n < 6
    assert f"Stopped after {n} of 6 epochs: valid loss" in " ".join(capsys.readouterr().out.split())
    twin = harmed(data, tmp_path)
    twin.fine_tune(6, **HEAD_ONLY, early_stop=False)
    assert len(twin.recorder.rows) == 14
    assert twin.validate() == learn.validate()


def test_a_stage_at_a_smaller_size_is_judged_at_the_size_of_predict(data, tmp_path, monkeypatch):
    learn, judged, judge = harmed(data, tmp_path), [], BestStage.judge
    monkeypatch.setattr(BestStage, "judge", lambda self, *a, **k: judged.append(self) or judge(self, *a, **k))
    learn.fine_tune(4, **HEAD_ONLY, sizes=[16, 32])
    stages = judged[-1].choice.stages
    assert [s.name for s in stages] == [HEAD, "all layers, 16 px"]  # hopeless at half of the cycle
    assert "stopped after 2 of 4 epochs" in stages[-1].stopped
    assert learn.data is data


def test_a_stage_that_diverges_leaves_the_earlier_one(data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(planning, "HELD_SHARES", (1e30, 1e30))
    learn, alone = learner(data, tmp_path, silent=False), learner(data, tmp_path)
    learn.fine_tune(2, **HEAD_ONLY)
    alone.fine_tune(0, **HEAD_ONLY)
    assert "all layers diverged" in " ".join(capsys.readouterr().out.split())
    assert learn.validate() == alone.validate()
    with pytest.raises(DivergedError):
        learner(data, tmp_path).fine_tune(2, freeze_epochs=0)  # nothing to go back to


def test_what_was_trained_before_stays_where_nothing_better_comes(data, tmp_path):
    learn = harmed(data, tmp_path)
    learn.fine_tune(0, **HEAD_ONLY)
    before = learn.validate()
    learn.fine_tune(1, base_lr=40.0, freeze_epochs=1)
    assert learn.validate() == before
    assert learn.recorder.picked_of == 3
    assert EARLIER.startswith("as it was")


def test_without_validation_pictures_nothing_is_chosen(colour_path, tmp_path, capsys):
    learn = harmed(bunch(colour_path, valid_pct=0.0), tmp_path, silent=False)
    learn.fine_tune(1, **HEAD_ONLY)
    assert learn.recorder.picked_of == 1
    assert learn.body_trained
    assert "no validation pictures" in capsys.readouterr().out


def test_a_cycle_that_was_low_once_is_not_ended_by_a_higher_epoch():
    seen = []
    best = SimpleNamespace(hopeless=lambda loss, left: seen.append(loss) or "")
    stop = EarlyStop(best, SimpleNamespace(is_falling=True, position=0.5))
    trainer = SimpleNamespace(stop_training=False)
    for loss in (0.4, 0.002, 0.06, math.nan, None):
        stop.on_epoch_end(trainer, SimpleNamespace(valid_loss=loss))
    assert seen == [0.4, 0.002, 0.002]
    assert not trainer.stop_training
