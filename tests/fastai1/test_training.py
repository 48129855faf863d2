"""fastai v1's learner, its callbacks and metrics in its own protocol, its functions and schedules."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from onecycle.data.labels.items import DatasetType
from onecycle.errors import ArgumentError, OnecycleWarning
from onecycle.fastai1.networks.layers import simple_cnn
from onecycle.fastai1.pictures.data import ImageDataBunch, ImageList, ItemLists
from onecycle.fastai1.training import functions
from onecycle.fastai1.training import schedules as S
from onecycle.fastai1.training.hook_callbacks import ActivationStats
from onecycle.fastai1.training.interpretation import ClassificationInterpretation
from onecycle.fastai1.training.learner import Learner, cnn_learner, create_cnn
from onecycle.fastai1.training.metrics import accuracy
from onecycle.fastai1.training.protocol import Callback, LearnerCallback, TrackerCallback, add_metrics
from onecycle.model.backbones import models
from onecycle.train.losses import CrossEntropyFlat, LabelSmoothingCrossEntropy
from onecycle.train.metrics import ConfusionMatrix, KappaScore
from onecycle.train.monitors import EarlyStoppingCallback
from onecycle.train.schedules import Constant


@pytest.fixture(scope="module")
def data(colour_path):
    path = {"folder": "train", "suffix": ".jpg"}
    return ImageDataBunch.from_csv(colour_path, **path, size=16, bs=12, pixel_cache="memory").normalize()


def learner(data, tmp_path, **options) -> Learner:
    torch.manual_seed(0)
    return Learner(data, simple_cnn((3, 8, 3)), silent=True, path=tmp_path, **options)


class Notes(LearnerCallback):
    """Writes down what it is told, and stops after two epochs."""

    _order = -3

    def __init__(self, learn):
        super().__init__(learn)
        self.said = []

    def on_train_begin(self, metrics_names, n_epochs, **state):
        self.said.append(("names", metrics_names))

    def on_batch_begin(self, last_input, last_target, train, **state):
        self.said.append(("begin", train, tuple(last_input.shape)))
        return {"last_input": last_input * 0.5}

    def on_loss_begin(self, last_output, **state):
        self.said.append(("output", tuple(last_output.shape)))

    def on_backward_begin(self, last_loss, **state):
        return {"last_loss": last_loss * 2}

    def on_batch_end(self, iteration, num_batch, last_loss, **state):
        self.said.append(("batch", iteration, num_batch))

    def on_epoch_end(self, epoch, last_metrics, **state):
        self.said.append(("epoch", epoch, len(last_metrics)))
        return {"stop_training": epoch == 1}

    def on_train_end(self, **state):
        self.said.append(("end",))


class Share(Callback):
    """The share of right answers, counted batch by batch."""

    def on_epoch_begin(self, **state):
        self.hits = self.n = 0

    def on_batch_end(self, last_output, last_target, **state):
        self.hits += int((last_output.argmax(1) == last_target).sum())
        self.n += len(last_target)

    def on_epoch_end(self, last_metrics, **state):
        return add_metrics(last_metrics, self.hits / self.n)


def test_callbacks_and_metrics_in_v1s_protocol(data, tmp_path):
    kappa = KappaScore()
    kappa.weights = "quadratic"
    learn = learner(data, tmp_path, metrics=[accuracy, Share(), kappa], callback_fns=Notes)
    loss_func = learn.loss_func
    learn.fit(5, 0.01)
    assert learn.recorder.names == ["epoch", "train_loss", "valid_loss", "accuracy", "share", "kappa_score", "time"]
    assert len(learn.recorder.rows) == 2
    row = learn.recorder.rows[-1]
    assert row.metrics[0] == pytest.approx(row.metrics[1])
    said = learn.notes.said
    assert said[0] == ("names", ["accuracy", "share", "kappa_score"])
    one_epoch = [True] * 4 + [False]  # 4 batches of training, one of validation
    assert [s[1] for s in said if s[0] == "begin"] == one_epoch * 2
    counted = [(i, i % 4) for i in range(4)] + [(4, 3)] + [(i, i % 4) for i in range(4, 8)] + [(8, 3)]
    assert [s[1:] for s in said if s[0] == "batch"] == counted
    assert said.count(("output", (12, 3))) == 10
    assert [s for s in said if s[0] in ("epoch", "end")] == [("epoch", 0, 4), ("epoch", 1, 4), ("end",)]
    assert learn.loss_func is loss_func
    assert learn.validate()[1] == row.metrics[0]


class Gradients(LearnerCallback):
    """Keeps the size of the gradients of each batch, and the epochs it was told of."""

    changes = {}

    def on_train_begin(self, n_epochs, **state):
        self.n_epochs, self.sizes = n_epochs, []

    def on_backward_begin(self, last_loss, **state):
        return {"last_loss": last_loss * 3} if self.changes == "loss" else None

    def on_backward_end(self, **state):
        self.sizes.append(sum(float(p.grad.norm()) for p in self.learn.model.parameters()))
        return self.changes if isinstance(self.changes, dict) else None


def gradients(data, tmp_path, changes, monkeypatch):
    monkeypatch.setattr(Gradients, "changes", changes)
    learn = learner(data, tmp_path, callback_fns=[Gradients])
    before = [p.clone() for p in learn.model.parameters()]
    learn.fit(2, 1e-4)
    still = all(torch.equal(a, b) for a, b in zip(before, learn.model.parameters(), strict=True))
    assert learn.gradients.n_epochs == 2
    return learn.gradients.sizes, learn.recorder.raw_losses[0], still


def test_what_a_callback_changes_is_carried_out(data, tmp_path, monkeypatch):
    usual, loss, still = gradients(data, tmp_path, {}, monkeypatch)
    tripled, its_loss, _ = gradients(data, tmp_path, "loss", monkeypatch)
    assert tripled[0] == pytest.approx(3 * usual[0], rel=1e-4)
    assert its_loss == pytest.approx(loss)  # v1's log has the loss before the change
    assert not still


def test_gradients_of_a_skipped_step_are_dropped_unless_kept(data, tmp_path, monkeypatch):
    dropped, _, still = gradients(data, tmp_path, {"skip_step": True}, monkeypatch)
    assert still
    kept, _, still = gradients(data, tmp_path, {"skip_step": True, "skip_zero": True}, monkeypatch)
    assert still
    assert kept[0] == pytest.approx(dropped[0])
    assert sum(kept) > 1.5 * sum(dropped)
    with pytest.raises(ArgumentError, match="without skip_step"):
        gradients(data, tmp_path, {"skip_zero": True}, monkeypatch)


class Ends(LearnerCallback):
    """Ends the first epoch after its second batch, and training with the second epoch; lets the last batch be."""

    def on_train_begin(self, **state):
        self.trained, self.losses, self.sizes = [], [], []

    def on_batch_end(self, train, epoch, num_batch, last_loss, last_output, **state):
        (self.trained if train else self.losses).append((epoch, float(last_loss)))
        assert not last_output.requires_grad or train
        if train and epoch == 1:
            return {"stop_training": True}
        return {"stop_epoch": train and num_batch == 1}

    def on_backward_begin(self, epoch, num_batch, **state):
        return {"skip_bwd": (epoch, num_batch) == (1, 3)}

    def on_backward_end(self, **state):
        self.sizes.append(sum(float(p.grad.norm()) for p in self.learn.model.parameters()))


def test_epochs_and_training_end_as_in_v1(data, tmp_path):
    learn = learner(data, tmp_path, metrics=accuracy, callback_fns=Ends)
    learn.fit(3, 0.01)
    ends = learn.ends
    assert [epoch for epoch, _ in ends.trained] == [0, 0, 1, 1, 1, 1]  # an epoch that is ended is validated
    assert [epoch for epoch, _ in ends.losses] == [0, 1]
    rows = learn.recorder.rows
    assert [loss for _, loss in ends.losses] == pytest.approx([row.valid_loss for row in rows], rel=1e-5)
    assert [size > 0 for size in ends.sizes] == [True] * 5 + [False]


def test_what_no_callback_may_change_is_named(data, tmp_path):
    class Odd(LearnerCallback):
        def on_batch_end(self, **state):
            return {"learning_rate": 1}

    with pytest.raises(ArgumentError, match=r"Odd\.on_batch_end returned 'learning_rate'"):
        learner(data, tmp_path, callback_fns=Odd).fit(1)

    class Skips(LearnerCallback):
        def on_epoch_begin(self, **state):
            return {"skip_validate": True}

    with pytest.raises(ArgumentError, match="Skips returned skip_validate=True, which is not done here"):
        learner(data, tmp_path, callback_fns=Skips).fit(1)
    with pytest.raises(ArgumentError, match="returned no metric"):
        learner(data, tmp_path, metrics=[Callback()]).fit(1)


def test_a_tracker_watches_a_column(data, tmp_path):
    class Best(TrackerCallback):
        def on_epoch_end(self, **state):
            value = self.get_monitor_value()
            if self.operator(value, self.best):
                self.best = value

    learn = learner(data, tmp_path, metrics=accuracy)
    best = Best(learn, "accuracy", "max")
    learn.fit(2, 0.01, callbacks=[best])
    assert best.best == max(row.metrics[0] for row in learn.recorder.rows)


def test_cnn_learner_takes_v1s_arguments(data, tmp_path):
    learn = create_cnn(data, arch=models.resnet18, pretrained=False, silent=True, path=tmp_path)
    assert isinstance(learn, Learner)
    assert learn.network["head"] == {}
    by_position = cnn_learner(data, models.resnet18, None, False, [64], 0.25, silent=True, path=tmp_path)
    assert [m.p for m in by_position.model[1] if isinstance(m, nn.Dropout)] == [0.125, 0.25]
    assert by_position.network["head"] == {"lin_ftrs": [64], "ps": 0.25}
    learn.split(lambda model: (model[0][6], model[1]))
    assert len(learn.layer_groups) == 3
    learn.split([[*model] for model in (learn.model[0][:4], learn.model[0][4:], [learn.model[1]])])
    assert len(learn.layer_groups) == 3
    learn.freeze()
    assert not any(p.requires_grad for p in learn.model[0][0].parameters())


def test_predictions_and_free_functions(data, tmp_path):
    learn = learner(data, tmp_path)
    probs, targets = learn.get_preds()
    free = functions.get_preds(
        learn.model, learn.dl(DatasetType.Valid), activ=learn.activation, loss_func=learn.loss_func
    )
    assert torch.allclose(free[0], probs, atol=1e-6)
    assert torch.equal(free[1], targets)
    assert torch.allclose(free[2], learn.get_preds(with_loss=True)[2], atol=1e-5)
    assert functions.validate(learn.model, learn.dl(), learn.loss_func) == pytest.approx(learn.validate()[0], abs=1e-6)
    with functions.NoneReduceOnCPU(learn.loss_func) as each:
        assert each(torch.zeros(2, 3), torch.tensor([0, 1])).tolist() == pytest.approx([math.log(3)] * 2)
    assert len(learn.get_preds(n_batch=1)[0]) == 12
    assert functions._loss_func2activ(learn.loss_func)(torch.zeros(1, 2)).tolist() == [[0.5, 0.5]]
    xb, yb = next(iter(learn.dl()))
    loss, n = functions.loss_batch(learn.model.eval(), xb, yb, learn.loss_func)
    assert (float(loss.detach()), n) == (pytest.approx(learn.validate()[0], abs=1e-5), 12)
    assert len(learn.predict_with_mc_dropout(data.valid_ds.x[0], n_times=2)) == 2
    assert learn.backward(data.valid_ds.x[0])[0].shape == (1, 3)
    functions.fit_one_cycle(learn, 1, 1e-3)
    functions.lr_find(learn, num_it=5)


def test_saving_with_v1s_keywords(data, tmp_path):
    learn = learner(data, tmp_path)
    learn.save("one")
    assert learn.load("one", purge=False) is learn
    assert learn.purge() is learn
    assert learn.to_fp16(loss_scale=512.0, dynamic=True) is learn or torch.cuda.is_available()


def test_phases_follow_each_other_as_in_v1(data, tmp_path):
    learn = learner(data, tmp_path)
    n = len(data.train_dl)
    phases = [S.TrainingPhase(n).schedule_hp("lr", (0.1, 0.5)).schedule_hp("mom", 0.9)]
    phases.append(S.TrainingPhase(n).schedule_hp("lr", (0.4, 0.1), anneal=S.annealing_cos))
    learn.callbacks.append(S.GeneralScheduler(learn, phases))
    learn.fit(3)
    cos = [0.1 + 0.15 * (1 + math.cos(math.pi * i / n)) for i in range(1, n)]
    # the first step of the second phase still runs at the end of the first; after the last the training stops
    assert learn.recorder.lrs == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, *cos])
    assert learn.recorder.moms[0] == 0.9


def test_annealing():
    assert S.annealing_linear(1, 3, 0.25) == 1.5
    assert S.annealing_exp(1, 100, 0.5) == pytest.approx(10)
    assert S.annealing_cos(2, 0, 0.5) == pytest.approx(1)
    assert S.annealing_poly(2)(1, 0, 0.5) == 0.25
    assert S.annealing_no(4, 9, 0.7) == 4
    smooth = S.SmoothenValue(0.5)
    for value in (1.0, 3.0):
        smooth.add_value(value)
    assert smooth.smooth == pytest.approx((0.25 + 1.5) / 0.75)
    steps = S.Scheduler((0.0, 1.0), 2)
    assert [steps.step(), steps.is_done, steps.step(), steps.is_done] == [0.5, False, 1.0, True]
    flat = [S.FlatCosine(8, (1.0,), 0.5, (0.95, 0.85)).at(i) for i in (0, 3, 6)]
    assert [(values.lrs[0], values.mom) for values in flat] == [(1, 0.95), (1, 0.95), (pytest.approx(0.5), 0.85)]
    with pytest.raises(ArgumentError, match="'lr' and 'mom' here; received 'wd'"):
        S.TrainingPhase(3).schedule_hp("wd", 0.1)


def test_interpretation_with_v1s_arguments(data, tmp_path):
    learn = learner(data, tmp_path)
    interp = ClassificationInterpretation.from_learner(learn, DatasetType.Valid, None, False)
    assert interp.confusion_matrix(slice_size=10).sum() == 12
    assert interp.most_confused(1, 10) == interp.most_confused(min_val=1)
    figure = interp.plot_confusion_matrix(False, "Mine", "Greens", 1, 2, True, True)
    assert figure.axes[0].get_title() == "Mine"
    assert interp.plot_top_losses(2, True, (5, 5), None) is None
    assert isinstance(learn.interpret(), ClassificationInterpretation)


def test_grey_pictures_train_a_network_with_one_channel(tmp_path, colour_path):
    grey = ImageList.from_folder(colour_path, convert_mode="L").split_by_rand_pct()
    data = (
        grey.label_from_func(lambda path: int(path.stem[-1]) % 2)
        .transform(None, size=16)
        .databunch(bs=12, pixel_cache="memory")
        .normalize()
    )
    learn = Learner(data, simple_cnn((1, 4, 2)), silent=True, path=tmp_path)
    learn.fit_one_cycle(1)
    path = data.valid_ds.items[3]
    assert torch.allclose(learn.predict(path)[2], learn.get_preds()[0][3], atol=1e-5)
    assert learn.TTA()[0].shape == (12, 2)
    data.show_batch(2)


def test_the_views_of_a_known_notebook(data, tmp_path):
    """Its own test-time augmentation sets transforms on a data set, and puts the old ones back."""
    from onecycle.fastai1.pictures import transforms as T

    learn = learner(data, tmp_path)
    dl, views = learn.dl(DatasetType.Valid), []
    before = dl.dataset.tfms
    for flip in (False, True):
        dl.dataset.tfms = [T.crop_pad(row_pct=0, col_pct=0, is_random=False), *([T.flip_lr(p=1.0)] if flip else [])]
        views.append(functions.get_preds(learn.model, dl, pbar=None, activ=learn.activation)[0])
    dl.dataset.tfms = before
    plain = functions.get_preds(learn.model, dl, activ=learn.activation)[0]
    assert torch.allclose(views[0], plain, atol=1e-6)  # pictures of the size that is cut
    assert not torch.allclose(views[1], plain, atol=1e-6)


def test_functions_that_train(data, tmp_path):
    learn = learner(data, tmp_path)
    functions.fit(1, learn, metrics=[accuracy])
    assert len(learn.recorder.rows[-1].metrics) == 1
    before = learn.model[0][0].weight.detach().clone()
    opt = torch.optim.SGD(learn.model.parameters(), lr=0.1)
    functions.train_epoch(learn.model, learn.dl(DatasetType.Train), opt, learn.loss_func)
    assert not torch.equal(before, learn.model[0][0].weight)


def test_a_callback_that_adds_columns_to_the_log(data, tmp_path):
    class Two(LearnerCallback):
        _order = -20

        def on_train_begin(self, **state):
            self.learn.recorder.add_metric_names(["share", "items"])

        def on_epoch_begin(self, **state):
            self.output, self.target = [], []

        def on_batch_end(self, last_output, last_target, train, **state):
            if not train:
                self.output.append(last_output)
                self.target.append(last_target)

        def on_epoch_end(self, last_metrics, **state):
            output, target = torch.cat(self.output), torch.cat(self.target)
            return add_metrics(last_metrics, [(output.argmax(1) == target).float().mean(), len(target)])

    learn = learner(data, tmp_path, metrics=accuracy, callback_fns=[Two, Notes])
    learn.fit(2, 0.01)
    assert learn.recorder.names == ["epoch", "train_loss", "valid_loss", "accuracy", "share", "items", "time"]
    for row in learn.recorder.rows:
        assert row.metrics == (row.metrics[0], pytest.approx(row.metrics[0]), 12)
    assert [s for s in learn.notes.said if s[0] == "epoch"] == [("epoch", 0, 4), ("epoch", 1, 4)]


class Areas(LearnerCallback):
    """Adds a column, and takes part in training too."""

    def on_train_begin(self, **state):
        self.learn.recorder.add_metric_names(["right"])
        self.seen, self.steps = [], 0

    def on_epoch_begin(self, **state):
        self.outputs = []

    def on_batch_begin(self, last_input, **state):
        return {"last_input": last_input * 0.0}

    def on_backward_end(self, **state):
        self.steps += 1

    def on_batch_end(self, train, last_output, last_target, **state):
        self.seen.append(train)
        if not train:
            self.outputs.append((last_output.argmax(1) == last_target).float())

    def on_epoch_end(self, last_metrics, epoch, **state):
        return {**add_metrics(last_metrics, torch.cat(self.outputs).mean()), "stop_training": epoch == 1}


def test_a_callback_with_a_column_takes_part_in_training(data, tmp_path):
    learn = learner(data, tmp_path, metrics=accuracy, callback_fns=Areas)
    learn.fit(4, 0.01)
    assert learn.areas.steps == 8  # 4 batches an epoch, and it stopped after the second
    assert learn.areas.seen == [True] * 4 + [False] + [True] * 4 + [False]
    assert [row.metrics[0] == pytest.approx(row.metrics[1]) for row in learn.recorder.rows] == [True, True]
    assert learn.recorder.losses[0] == pytest.approx(math.log(3), rel=0.2)  # black pictures say nothing


def test_two_metrics_of_one_name_have_a_column_each(data, tmp_path):
    learn = learner(data, tmp_path, metrics=[accuracy, accuracy, KappaScore(), KappaScore(weights="quadratic")])
    learn.fit(1, 0.01)
    assert learn.recorder.names[3:-1] == ["accuracy", "accuracy_2", "kappa_score", "kappa_score_2"]
    assert learn.recorder.rows[0].metrics[0] == learn.recorder.rows[0].metrics[1]


class Squares(nn.Module):
    def forward(self, outputs, targets):
        return nn.functional.cross_entropy(outputs, targets) ** 2


@pytest.mark.filterwarnings("ignore:the loss Squares")
@pytest.mark.parametrize("loss_func", [Squares(), LabelSmoothingCrossEntropy()], ids=["own", "smoothed"])
def test_get_preds_gives_outputs_where_v1_did_not_know_the_loss(data, tmp_path, loss_func):
    learn = learner(data, tmp_path, loss_func=loss_func)
    raw = learn.get_preds(activ=lambda x: x)[0]
    assert torch.equal(learn.get_preds()[0], raw)
    assert torch.allclose(learn.TTA(beta=1.0)[0], raw, atol=1e-5)
    learn.loss_func = CrossEntropyFlat()
    assert torch.allclose(learn.get_preds()[0], raw.softmax(1))


def test_hooks_on_layers_while_a_fit_runs(data, tmp_path):
    learn = learner(data, tmp_path)
    stats = ActivationStats(learn)
    learn.fit(2, 0.01, callbacks=stats)
    assert stats.stats.shape == (2, 2, 8)  # mean and std, two convolutions, batches
    assert bool((stats.stats[1] > 0).all())
    assert learn.activation_stats is stats
    assert not any(m._forward_hooks for m in learn.model.modules())


def test_the_optimizer_as_v1_showed_it(data, tmp_path):
    learn = learner(data, tmp_path, wd=0.02)
    learn.fit(1, 0.03)
    assert (learn.opt.lr, learn.opt.beta, learn.opt.wd) == (0.03, 0.99, 0.02)
    assert learn.opt.opt is learn.trainer.optimizer.torch
    with pytest.raises(ArgumentError, match="schedule"):
        learn.opt.lr = 0.1


def test_a_cycle_among_the_callbacks_is_that_of_fit_one_cycle(data, tmp_path):
    by_hand, usual = learner(data, tmp_path), learner(data, tmp_path)
    by_hand.fit(2, callbacks=S.OneCycleScheduler(by_hand, 0.02, pct_start=0.5))
    usual.fit_one_cycle(2, 0.02, pct_start=0.5)
    assert by_hand.recorder.lrs == usual.recorder.lrs
    assert by_hand.recorder.moms == usual.recorder.moms


@pytest.mark.filterwarnings("ignore:the loss Squares")
def test_the_loss_of_a_bunch(colour_path, tmp_path):
    bunch = ImageDataBunch.from_csv(colour_path, folder="train", suffix=".jpg", size=16, bs=12)
    assert isinstance(bunch.loss_func, CrossEntropyFlat)
    bunch.loss_func = own = Squares()
    assert learner(bunch, tmp_path).loss_func is own


def test_metrics_of_the_history_are_tensors(data, tmp_path):
    learn = learner(data, tmp_path, metrics=accuracy)
    learn.fit(2, 0.01)
    values = [row[0].item() for row in learn.recorder.metrics]
    assert values == [row.metrics[0] for row in learn.recorder.rows]
    assert learn.validate(learn.dl(DatasetType.Valid))[1].item() == learn.validate()[1].item() == values[-1]


def test_a_bunch_without_validation_has_an_empty_list_of_it(colour_path):
    lists = ImageList.from_folder(colour_path / "train").split_none().label_from_func(lambda path: path.name[-5])
    bunch = lists.transform(None, size=16).databunch(bs=12)
    assert len(bunch.valid_ds) == 0
    assert (len(bunch.x), bunch.y.c2i) == (len(bunch.train_ds), bunch.train_ds.y.c2i)


def quadratic(outputs, targets):
    return -float((outputs.argmax(1) - targets).float().square().mean())


@pytest.mark.parametrize(("monitor", "sign"), [("val_loss", -1.0), ("quadratic", 1.0)])
def test_what_v1_monitored(data, tmp_path, monitor, sign):
    learn = learner(data, tmp_path, metrics=quadratic)
    watcher = EarlyStoppingCallback(learn, monitor=monitor, patience=5)
    learn.fit(1, 0.01, callbacks=watcher)
    assert watcher.sign == sign
    row = learn.recorder.rows[0]
    assert watcher.best == pytest.approx(row.valid_loss if sign < 0 else row.metrics[0])


def test_rates_as_an_array_and_moments_of_a_derived_metric(data, tmp_path):
    assert learner(data, tmp_path).lr_range(np.array([0.25])) == [0.25]

    class Derived(ConfusionMatrix):
        def on_epoch_end(self, last_metrics, **state):
            return add_metrics(last_metrics, 1.0)

    with pytest.raises(ArgumentError, match=r"Derived\.on_epoch_end would never be called"):
        learner(data, tmp_path, metrics=Derived())


def test_lists_from_two_lists(colour_path):
    lists = ImageList.from_folder(colour_path / "train")
    one, other = lists[[0, 1, 2, 3]], lists[[4, 5]]
    split = ItemLists(colour_path, one, other)
    assert (split.train.paths, split.valid.paths) == (one.paths, other.paths)
    assert len(split.label_from_func(lambda path: path.name[-5]).valid) == 2


def test_interpretation_of_averaged_views(data, tmp_path):
    for loss_func in (None, LabelSmoothingCrossEntropy()):
        learn = learner(data, tmp_path, loss_func=loss_func)
        interp = ClassificationInterpretation.from_learner(learn, tta=True)
        assert torch.allclose(torch.as_tensor(interp.preds).sum(1), torch.ones(12), atol=1e-5)
        assert torch.isfinite(torch.as_tensor(interp.losses)).all()


class Cropped(ImageList):
    def __init__(self, *args, border=0, **options):
        super().__init__(*args, **options)
        self.border = border
        self.copy_new.append("border")

    def open(self, fn):
        picture = super().open(fn)
        return type(picture)(picture.px[:, self.border :])


def test_a_list_with_attributes_of_its_own(colour_path):
    lists = Cropped.from_folder(colour_path / "train")
    lists.border = 5
    assert lists.split_by_idx([0]).train.border == 5
    assert lists.split_by_idx([0]).train[0].shape[1] == ImageList.from_folder(colour_path / "train")[1].shape[1] - 5


def test_an_export_replaces_an_earlier_one(data, tmp_path):
    learn = learner(data, tmp_path)
    learn.export()
    learn.metrics = [accuracy]
    learn.export("export.pkl")
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith("export")) == ["export", "export.zip"]


def test_callbacks_of_v1s_protocol_where_a_fit_is_taken_up_again(data, tmp_path):
    class Counts(Callback):
        n = 0

        def on_batch_end(self, train, **state):
            self.n += 1
            if self.n == 5 and self.stops:
                raise KeyboardInterrupt

    class Keeps(Counts):
        def state_dict(self):
            return {"n": self.n}

        def load_state_dict(self, state):
            self.n = state["n"]

    def run(callback, stops):
        callback.stops, learn = stops, learner(data, tmp_path / type(callback).__name__)
        learn.fit_schedule(2, Constant((0.01,)), callbacks=[callback], resume=True)
        return callback.n

    whole = Keeps()
    with pytest.raises(KeyboardInterrupt):
        run(Keeps(), True)
    assert run(whole, False) == 2 * (len(data.train_dl) + len(data.valid_dl))
    with pytest.warns(OnecycleWarning, match=r"Counts \(callbacks of v1's protocol\) begin anew"):
        run(Counts(), False)
