"""A head that is solved: the minimum itself, the penalty that is chosen, and the way through ``fine_tune``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from torch import nn

from onecycle.data.augment.transforms import get_transforms
from onecycle.data.bunch import ImageDataBunch
from onecycle.deploy.predictor import Predictor
from onecycle.errors import ArgumentError, DataWarning
from onecycle.learner.cnn import cnn_learner
from onecycle.learner.fine_tune.best import BestStage, weights_of
from onecycle.learner.fine_tune.callback import StageCallback
from onecycle.learner.fine_tune.plan import LAST
from onecycle.learner.heads import solved
from onecycle.learner.heads.search import PENALTIES, USUAL_PENALTY
from onecycle.learner.heads.sets import StringProblem, solve_sets
from onecycle.learner.learner import Learner
from onecycle.model.levels import LevelNorm, plain_view, reads_levels, views_of
from onecycle.model.tag_sets import TagSets
from onecycle.train.loop import Callback
from onecycle.train.metrics import accuracy

ARCH = "test_efficientnet"


def drawn(n: int, d: int, n_classes: int, *, signal: float = 1.0, seed: int = 0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d)).astype(np.float32)
    y = (signal * x @ rng.normal(size=(d, n_classes)) + rng.normal(size=(n, n_classes))).argmax(1)
    return torch.from_numpy(x), torch.from_numpy(y)


def head(d: int, c: int) -> tuple[LevelNorm, nn.Linear]:
    return LevelNorm([d]), nn.Linear(d, c)


def test_the_minimum_is_that_of_logistic_regression():
    x, y = drawn(200, 6, 3)
    found = solved.minimise(x, y, solved.classes_loss, 3, penalty=2.0)
    reference = LogisticRegression(C=1 / (2 * 2.0), tol=1e-8, max_iter=1000).fit(x, y)
    weight = found.weight - found.weight.mean(1, keepdim=True)
    np.testing.assert_allclose(weight.T, reference.coef_ - reference.coef_.mean(0), atol=2e-3)


def test_fewer_pictures_than_features_are_solved_in_turned_coordinates_to_the_same_minimum():
    x, y = drawn(30, 80, 3)
    turned, axes = solved._turned(x)
    assert turned.shape[1] <= 30
    direct, short = (solved.minimise(z, y, solved.classes_loss, 3, 1.0) for z in (x, turned))
    torch.testing.assert_close(
        x @ direct.weight + direct.bias, x @ (axes @ short.weight) + short.bias, atol=2e-2, rtol=1e-2
    )
    assert solved._turned(x[:, :10])[1] is None


@pytest.mark.parametrize("is_multi", [False, True])
def test_views_of_each_picture_count_as_one_picture(is_multi):
    x, y = drawn(60, 5, 3)
    targets = torch.nn.functional.one_hot(y).float() if is_multi else y
    outputs = []
    for features in (x[None], x[None].repeat(3, 1, 1)):
        norm, linear = head(5, 3)
        fit = solved.solve_head(norm, linear, features, targets, fold_of=np.arange(60) % 5, is_multi=is_multi)
        outputs.append(linear(norm(x)))
    torch.testing.assert_close(outputs[0], outputs[1], atol=2e-2, rtol=1e-2)
    assert fit.penalty in PENALTIES


def test_the_penalty_is_larger_where_there_is_nothing_to_learn():
    penalties = []
    for signal in (0.0, 3.0):
        x, y = drawn(150, 10, 2, signal=signal)
        penalties.append(
            solved.solve_head(*head(10, 2), x[None], y, fold_of=np.arange(150) % 5, is_multi=False).penalty
        )
    assert penalties[0] > penalties[1]


def test_too_few_pictures_take_the_usual_penalty_and_a_class_without_pictures_stays_finite():
    x, _ = drawn(6, 4, 2)
    norm, linear = head(4, 3)
    fit = solved.solve_head(
        norm, linear, x[None], torch.tensor([0, 1, 0, 1, 0, 1]), fold_of=np.arange(6) % 2, is_multi=False
    )
    assert fit.penalty == USUAL_PENALTY
    assert not fit.losses
    assert torch.isfinite(linear.bias).all()


# --- through a learner ----------------------------------------------------------------------------


def learner(path: Path, out: Path, *, multi: bool = False, ds_tfms=None, **options) -> Learner:
    labels = {"csv_labels": "tags.csv", "label_delim": " "} if multi else {}
    labels["ds_tfms"] = ds_tfms
    data = ImageDataBunch.from_csv(path, folder="train", suffix=".jpg", size=32, bs=8, valid_pct=0.3, **labels)
    learn = cnn_learner(data, ARCH, pretrained=False, path=out, silent=True, **options)
    learn.freeze()
    return learn


@pytest.mark.parametrize("multi", [False, True])
def test_fine_tune_solves_a_head_that_reads_several_stages(colour_path, tmp_path, multi):
    learn = learner(colour_path, tmp_path, multi=multi)
    plan = learn.fine_tune(0)
    assert plan.stages[0].solved
    assert reads_levels(learn.model)
    assert len(learn.recorder.rows) == 1
    loss, *_ = learn.validate()
    assert loss == pytest.approx(learn.recorder.rows[0].valid_loss, abs=1e-4)
    assert loss < 0.6
    learn.save("solved")
    path = learn.data.valid_ds.items[0]
    again = learner(colour_path, tmp_path, multi=multi)  # with fastai v1's head until then
    again.load("solved")
    torch.testing.assert_close(again.predict(path)[2], learn.predict(path)[2])
    probs = Predictor.load(tmp_path / "models" / "solved").predict(str(path)).probs[0]
    np.testing.assert_allclose(probs, learn.predict(path)[2], atol=1e-5)


def mirrored(path: Path, out: Path) -> Learner:
    """A learner whose training mirrors pictures."""
    return learner(path, out, ds_tfms=get_transforms(flip_vert=True))


def test_predictions_are_means_over_the_views_that_training_takes_for_the_same(colour_path, tmp_path, capsys):
    learn = mirrored(colour_path, tmp_path)
    learn.silent = False
    learn.fine_tune(0)
    assert "Predictions are means over 4 mirrored views" in " ".join(capsys.readouterr().out.split())
    assert views_of(learn.model) == 4
    loss, *_ = learn.validate()
    with plain_view(learn.model):
        plain, *_ = learn.validate()
    assert loss != plain
    assert learn.recorder.rows[0].valid_loss == pytest.approx(plain, abs=1e-4)  # epochs show the plain view
    learn.save("viewed")
    path = learn.data.valid_ds.items[0]
    saved = Predictor.load(tmp_path / "models" / "viewed")
    assert "means over 4 mirrored views" in repr(saved)
    np.testing.assert_allclose(saved.predict(str(path)).probs[0], learn.predict(path)[2], atol=1e-5)
    np.testing.assert_allclose(learn.get_preds()[0][0], learn.predict(path)[2], atol=1e-5)


def test_the_stages_are_judged_by_what_is_predicted(colour_path, tmp_path):
    learn = mirrored(colour_path, tmp_path)
    judged = []

    class Judge(StageCallback):
        def on_stage_judged(self, choice, is_best):
            judged.append((choice.stages[-1].loss, learn.validate()[0]))

    learn.callbacks.append(Judge())
    learn.fine_tune(2, base_lr=1e-3)
    assert len(judged) == 2
    for loss, now in judged:
        assert loss == pytest.approx(now, abs=1e-6)


def test_the_last_stages_are_judged_half_way_between_their_start_and_their_end(colour_path, tmp_path, monkeypatch):
    learn, at_end, judged = learner(colour_path, tmp_path), [], {}
    judge = BestStage.judge

    class Watch(Callback):
        def on_epoch_end(self, trainer, row):
            at_end.append(weights_of(trainer.model))

    def watched(self, name, **told):
        judged[name] = weights_of(learn.model)
        return judge(self, name, **told)

    monkeypatch.setattr(BestStage, "judge", watched)
    learn.callbacks.append(Watch())
    plan = learn.fine_tune(2, base_lr=1e-2)
    assert plan.stages[-1].trains == LAST
    head, half, last = judged.values()
    start, end = at_end[0], at_end[-1]
    moved = [name for name in start if not torch.equal(start[name], end[name])]
    assert moved
    for name in start:
        torch.testing.assert_close(half[name].double(), (start[name].double() + end[name].double()) / 2)
        assert torch.equal(head[name], start[name])
        assert torch.equal(last[name], end[name])


def test_views_are_switched_off_and_pictures_that_training_does_not_mirror_have_one(colour_path, tmp_path):
    learn = mirrored(colour_path, tmp_path)
    learn.fine_tune(0, test_views=False)
    assert views_of(learn.model) == 1
    learn = learner(colour_path, tmp_path)
    learn.fine_tune(0)
    assert views_of(learn.model) == 1


def test_all_layers_go_on_from_the_solved_head(colour_path, tmp_path):
    learn = learner(colour_path, tmp_path, metrics=accuracy)
    learn.fine_tune(0)
    mean, before = learn.model[1][2].running_mean.clone(), learn.recorder.rows[-1].valid_loss
    again = learner(colour_path, tmp_path, metrics=accuracy)
    again.fine_tune(1, base_lr=1e-4)
    assert torch.equal(again.model[1][2].running_mean, mean)
    assert again.recorder.rows[0].valid_loss == pytest.approx(before, abs=1e-4)
    assert again.recorder.rows[-1].valid_loss < before + 0.3


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        ({"class_weights": "balanced"}, {}),
        ({"lin_ftrs": [8]}, {}),
        ({"levels": None}, {}),
        ({}, {"freeze_epochs": 1}),
        ({}, {"precompute": False}),
    ],
)
def test_the_usual_head_stays_where_it_was_asked_for_or_cannot_be_solved(colour_path, tmp_path, options, asked):
    learn = learner(colour_path, tmp_path, **options)
    plan = learn.fine_tune(0, plan_only=True, base_lr=1e-3, **asked)
    assert not plan.stages[0].solved
    assert not reads_levels(learn.model)


def test_a_plan_alone_leaves_the_head_as_it_was(colour_path, tmp_path):
    learn = learner(colour_path, tmp_path)
    keys = list(learn.model.state_dict())
    assert learn.fine_tune(2, plan_only=True).stages[0].solved
    assert list(learn.model.state_dict()) == keys
    assert learn.network["head"] == {}


def test_a_head_that_is_not_linear_or_sees_pictures_is_not_solved(colour_path, tmp_path):
    learn = learner(colour_path, tmp_path, precompute=0)
    with pytest.raises(ArgumentError, match="linear"):
        learn.solve_head()
    learn = learner(colour_path, tmp_path, levels="auto")
    with pytest.raises(ArgumentError, match="pictures"):
        learn.solve_head()


def test_a_file_that_does_not_fit_leaves_the_learner_as_it_was(colour_path, tmp_path):
    learn = learner(colour_path, tmp_path)
    learn.fine_tune(0)
    learn.save("solved")
    other = learner(colour_path, tmp_path, multi=True)
    keys = list(other.model.state_dict())
    with pytest.raises(Exception, match="classes"):
        other.load(tmp_path / "models" / "solved")
    assert list(other.model.state_dict()) == keys


# --- tags as sets ---------------------------------------------------------------------------------


def tagged(n: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """A value of which tag 0 has both ends, one of them together with tag 2, and tag 1 the middle."""
    rng = np.random.default_rng(seed)
    sets, which = np.array([[1, 0, 0], [0, 1, 0], [1, 0, 1]]), rng.integers(3, size=n)
    x = (which - 1.0)[:, None] + rng.normal(size=(n, 1)) * 0.3
    return torch.from_numpy(x.astype(np.float32)), torch.from_numpy(sets[which].astype(np.float32))


def test_sets_are_used_where_left_out_pictures_are_predicted_better():
    x, tags = tagged(200)
    norm, linear = head(1, 3)
    fit = solved.solve_head(norm, linear, x[None], tags, fold_of=np.arange(200) % 5, is_multi=True)
    assert fit.sets is not None
    new, truth = tagged(400, seed=1)
    probs = fit.sets(linear(norm(new))).sigmoid()
    alone = solved.minimise(norm(x), tags, solved.tags_loss, 3, 1.0).scores(norm(new)).sigmoid()
    loss = torch.nn.functional.binary_cross_entropy
    assert loss(probs, truth) < 0.6 * loss(alone, truth)


def test_many_sets_that_are_seen_once_are_not_tried():
    rng = np.random.default_rng(0)
    tags = torch.from_numpy(rng.integers(2, size=(60, 12)).astype(np.float32))
    x = torch.from_numpy(rng.normal(size=(60, 3)).astype(np.float32))
    assert solve_sets(x, tags, np.arange(60) % 5, 1, to_beat=np.inf) is None


def test_a_head_that_ends_in_sets_is_saved_loaded_and_trained_on(colour_path, tmp_path):
    learn = learner(colour_path, tmp_path, multi=True)
    learn.fine_tune(0)
    tags = learn.data.train_ds.targets
    sets = torch.unique(tags, dim=0)
    learn.trainer.head = nn.Sequential(*learn.model[1][2:])  # as while it is solved
    solved.put_sets(learn, TagSets.of(sets, torch.zeros(len(sets)), len(tags)))
    learn.trainer.head = None
    path = learn.data.valid_ds.items[0]
    assert learn.predict(path)[1].tolist() == (learn.predict(path)[2] >= 0.5).long().tolist(), "nobody named a measure"
    learn.decide_for("exact")
    known = learn.decisions.sets
    best = known.sets[known.probs(learn.predict(path)[2][None].numpy())[0].argmax()]
    assert learn.predict(path)[1].tolist() == best.astype(int).tolist()
    assert learn.predict(path, thresh=0.0)[1].tolist() == [1] * learn.data.c, "the caller's threshold wins"
    learn.save("sets")
    again = learner(colour_path, tmp_path, multi=True)
    again.load("sets")
    torch.testing.assert_close(again.predict(path)[2], learn.predict(path)[2])
    said = Predictor.load(tmp_path / "models" / "sets").predict(str(path))
    np.testing.assert_allclose(said.probs[0], learn.predict(path)[2], atol=1e-5)
    assert said.decisions.measure == again.decisions.measure == learn.decisions.measure
    assert said.decided[0].tolist() == again.predict(path)[1].tolist() == best.astype(int).tolist()
    again.unfreeze()
    again.fit(1, 1e-4)
    assert again.decisions.measure is None, "forgotten, as the weights changed"
    assert np.isfinite(again.recorder.rows[0].train_loss)


# --- classes that are strings of tags ---------------------------------------------------------------

STRINGS = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1], [1, 1, 1]], dtype=np.float32)


def strung(n: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Values of which three tell of a tag each and others of nothing, and the class: its tags, never all three."""
    rng = np.random.default_rng(seed)
    which = rng.integers(6, size=n)
    x = np.concatenate([STRINGS[which] + rng.normal(size=(n, 3)) * 0.3, rng.normal(size=(n, 17)) * 0.5], axis=1)
    return torch.from_numpy(x.astype(np.float32)), torch.from_numpy(which)


def test_strings_are_predicted_through_their_tags_where_left_out_pictures_are_predicted_better():
    x, y = strung(60)
    new, truth = strung(600, seed=1)
    losses = []
    for strings in (STRINGS, None):
        norm, linear = head(20, 7)
        fit = solved.solve_head(norm, linear, x[None], y, fold_of=np.arange(60) % 5, is_multi=False, strings=strings)
        assert (fit.n_tags, "3 tags" in str(fit)) == ((3, True) if strings is not None else (0, False))
        losses.append(float(torch.nn.functional.cross_entropy(linear(norm(new)).detach(), truth)))
    assert losses[0] < 0.8 * losses[1]


def test_strings_whose_tags_say_nothing_of_the_classes_are_not_used():
    x, y = drawn(200, 6, 7, signal=3.0)  # seven directions at random: no three tags have them
    fit = solved.solve_head(*head(6, 7), x[None], y, fold_of=np.arange(200) % 5, is_multi=False, strings=STRINGS)
    assert fit.n_tags == 0


def test_weights_of_tags_are_weights_of_classes_and_classes_without_pictures_get_what_is_left():
    x, y = strung(40)
    strings = np.concatenate([STRINGS, STRINGS[3:4]])  # the last class: the tags of class 3, in another order
    y[torch.arange(40)[y == 3][::2]] = 7
    problem, rows = StringProblem.of(x, torch.from_numpy(strings), y), torch.arange(40)
    weights = problem.of_sets.minimise(rows, 1.0, None, 50)
    probs = problem.of_classes(weights, rows, 40).scores(x).softmax(1)
    odds = probs[:, 6] / (1 - probs[:, 6])
    assert float(odds.mean()) == pytest.approx(1 / 41, rel=1e-3)
    sets = problem.of_sets.layer(weights, rows, 40)
    of_sets = sets.set_probs(weights.scores(x))
    at = {tuple(s.tolist()): i for i, s in enumerate(sets.sets)}
    for c in range(3):
        torch.testing.assert_close(probs[:, c] / (1 - probs[:, 6]), of_sets[:, at[tuple(strings[c].tolist())]])
    n3, n7 = int((y == 3).sum()), int((y == 7).sum())
    torch.testing.assert_close(probs[:, 3] / probs[:, 7], torch.full((40,), n3 / n7))


def lettered(path: Path, out: Path) -> Learner:
    """A learner of pictures in which each tag is a grey bar; its single labels are strings of these tags."""
    rng = np.random.default_rng(0)
    (path / "train").mkdir(parents=True)
    lines, tags = ["name,tags"], ("low", "mid", "top", "side")
    combinations = [[i >> b & 1 for b in range(4)] for i in range(1, 14)]
    for i in range(120):
        has = combinations[rng.integers(len(combinations))]
        pixels = rng.integers(60, 90, size=(32, 32, 3))
        for b, there in enumerate(has):
            pixels[2 + 7 * b : 8 + 7 * b, :, b % 3] += 60 * there
        Image.fromarray(pixels.astype(np.uint8)).save(path / "train" / f"p{i}.png")
        lines.append(f"p{i},{' '.join(t for t, there in zip(tags, has, strict=True) if there)}")
    (path / "labels.csv").write_text("\n".join(lines))
    with pytest.warns(DataWarning, match="lists of tags"):
        data = ImageDataBunch.from_csv(path, folder="train", suffix=".png", size=32, bs=8, valid_pct=0.2)
    learn = cnn_learner(data, ARCH, pretrained=False, path=out)
    learn.freeze()
    return learn


def test_fine_tune_says_that_it_goes_through_tags_and_the_model_is_one_of_classes(tmp_path, capsys):
    learn = lettered(tmp_path / "data", tmp_path)
    learn.fine_tune(0)
    assert "predicted through these" in capsys.readouterr().out
    assert "sets" not in learn.network["head"]  # an ordinary head of C classes
    learn.save("strings")
    path = str(learn.data.valid_ds.items[0])
    label, _, probs = learn.predict(path)
    assert str(label) in learn.data.classes
    assert len(probs) == learn.data.c
    loaded = Predictor.load(tmp_path / "models" / "strings").predict(path)
    assert torch.equal(torch.from_numpy(loaded.probs[0]), probs)
    learn.fine_tune(0, through_tags=False)
    assert "tags" not in capsys.readouterr().out


def test_more_pictures_than_memory_has_room_for_are_drawn_from():
    x, y = drawn(300, 5, 3, signal=3.0)
    norm, linear = head(5, 3)
    fit = solved.solve_head(
        norm, linear, x[None], y, fold_of=np.arange(300) % 5, is_multi=False, max_bytes=100 * 4 * (4 * 5 + 6 * 3)
    )
    assert fit.solved_on == 100
    assert "100 training pictures" in str(fit)
    assert float((linear(norm(x)).argmax(1) == y).float().mean()) > 0.8
    whole = solved.solve_head(*head(5, 3), x[None], y, fold_of=np.arange(300) % 5, is_multi=False)
    assert whole.solved_on is None
