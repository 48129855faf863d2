"""Learners, schedules, callbacks and interpretation, as fastai 1's own tests ask for them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest


@pytest.fixture(scope="module")
def data(vision, path):
    return vision.ImageDataBunch.from_folder(path, bs=4, num_workers=0).normalize()


def small(vision, data, **options):
    """A learner of a small network in three groups of layers."""
    from torch import nn

    model = nn.Sequential(vision.simple_cnn((3, 4)), nn.Linear(4, 4), nn.Linear(4, 2))
    return vision.Learner(data, model, layer_groups=[nn.Sequential(part) for part in model], **options)


@pytest.fixture(scope="module")
def trained(vision, data):
    learn = vision.Learner(data, vision.simple_cnn((3, 8, 8, 2), bn=True), metrics=[vision.accuracy, vision.error_rate])
    vision.set_all_seed(0)
    learn.fit_one_cycle(4, 0.02)
    return learn


def test_one_cycle(trained):
    lrs, moms = list(trained.recorder.lrs), list(trained.recorder.moms)
    assert (len(lrs), max(lrs), lrs[0]) == (12, pytest.approx(0.02), pytest.approx(0.02 / 25))
    assert lrs[-1] < lrs[0]
    assert (max(moms), min(moms)) == (pytest.approx(0.95), pytest.approx(0.85))
    assert int(np.argmax(lrs)) == int(np.argmin(moms)) == 3
    assert moms[0] == pytest.approx(0.95)


def test_a_cycle_leaves_the_optimizer_at_its_end(vision, data):
    """The finder, and a fit at a constant rate, go on with its last momentum."""
    learn = small(vision, data)
    learn.fit_one_cycle(2, 0.02)
    assert learn.recorder.moms[-1] < 0.95
    assert (learn.opt.mom, learn.opt.lr) == (pytest.approx(0.95), pytest.approx(0.02 / 25e4))
    learn.lr_find(num_it=3, stop_div=False)
    assert [float(m) for m in learn.recorder.moms] == pytest.approx([0.95] * 3)
    learn.fit(1, 0.003)
    assert {round(float(m), 9) for m in learn.recorder.moms} == {0.95}


def test_a_constant_rate(vision, data):
    learn = small(vision, data)
    learn.fit(2, lr=0.003, wd=0.01)
    assert {round(float(lr), 9) for lr in learn.recorder.lrs} == {0.003}
    assert len(set(learn.recorder.moms)) == 1


def test_the_finder(vision, data):
    learn = small(vision, data)
    before = [p.detach().clone() for p in learn.model.parameters()]
    learn.lr_find(start_lr=1e-5, end_lr=1e-2, num_it=8, stop_div=False)
    assert len(learn.recorder.lrs) == len(learn.recorder.moms) == 8
    assert float(learn.recorder.lrs[0]) == pytest.approx(1e-5)
    assert all(bool((p == q).all()) for p, q in zip(learn.model.parameters(), before, strict=True))


def test_groups_that_train(vision, data):
    learn = small(vision, data)
    n = len(list(learn.model.parameters()))
    parts = [len(list(g.parameters())) for g in learn.layer_groups]
    for first, freeze in ((1, lambda: learn.freeze_to(1)), (2, learn.freeze), (0, learn.unfreeze)):
        freeze()
        still = sum(parts[:first])
        assert [p.requires_grad for p in learn.model.parameters()] == [i >= still for i in range(n)]


def test_the_recorder_s_columns(trained):
    assert list(trained.recorder.names) == ["epoch", "train_loss", "valid_loss", "accuracy", "error_rate", "time"]
    assert (len(trained.recorder.losses), len(trained.recorder.val_losses), len(trained.recorder.metrics)) == (12, 4, 4)
    rows = [[float(v) for v in row] for row in trained.recorder.metrics]
    assert [accuracy + error for accuracy, error in rows] == pytest.approx([1, 1, 1, 1])


def test_metrics_of_predictions(vision, trained):
    probs, targets = trained.get_preds()
    assert probs.sum(dim=1).tolist() == pytest.approx([1] * 6, abs=1e-5)
    loss, accuracy, error = (float(v) for v in trained.validate())
    assert float(vision.accuracy(probs, targets)) == pytest.approx(accuracy)
    assert float(vision.error_rate(probs, targets)) == pytest.approx(error)
    assert float(trained.get_preds(with_loss=True)[2].mean()) == pytest.approx(loss, abs=1e-4)


def test_one_prediction(trained):
    image, label = trained.data.valid_ds[2]
    said, number, probs = trained.predict(image)
    assert str(said) in ("3", "7")
    assert int(number) == int(probs.argmax())
    assert str(trained.data.classes[int(number)]) == str(said)
    assert str(label) in ("3", "7")
    row = trained.get_preds()[0][2]
    assert probs.tolist() == pytest.approx(row.tolist(), abs=1e-4)


def test_interpretation(vision, trained):
    for interp in (vision.ClassificationInterpretation.from_learner(trained), trained.interpret()):
        values, rows = interp.top_losses()
        assert len(values) == len(rows) == 6
        assert list(values) == sorted(values, reverse=True)
        matrix = interp.confusion_matrix()
        assert isinstance(matrix, np.ndarray)
        assert matrix.sum() == 6
        wrong = interp.most_confused()
        assert sum(n for *_, n in wrong) == 6 - np.trace(matrix)
        assert all({str(a), str(b)} == {"3", "7"} for a, b, _ in wrong)


def test_figures(vision, data, trained):
    import matplotlib.pyplot as plt

    learn = small(vision, data)
    learn.fit_one_cycle(1)
    learn.recorder.plot_losses()
    learn.recorder.plot_lr()
    interp = trained.interpret()
    interp.plot_confusion_matrix()
    assert plt.gcf().axes[0].get_xlabel() == "Predicted"
    interp.plot_top_losses(4, figsize=(4, 4))
    assert len(plt.gcf().axes) >= 4


def test_weights_come_back(vision, trained):
    before = {name: t.clone() for name, t in trained.model.state_dict().items()}
    file = trained.save("small", return_path=True)
    assert str(file).startswith(str(trained.path / "models"))
    for p in trained.model.parameters():
        p.data.zero_()
    trained.load("small")
    assert all(bool((t == before[name]).all()) for name, t in trained.model.state_dict().items())
    trained.purge()
    trained.load("small", purge=False)


def test_columns_of_a_callback(vision, data, capsys):
    class Two(vision.LearnerCallback):
        _order = -20

        def on_train_begin(self, **kwargs):
            self.learn.recorder.add_metric_names(["first", "second"])

        def on_epoch_end(self, last_metrics, **kwargs):
            return {"last_metrics": [*last_metrics, 5678, 1234]}

    def columns(learn):
        return list(learn.recorder.names)[3:-1], [float(v) for v in learn.recorder.metrics[-1]][-2:]

    wanted = (["accuracy", "first", "second"], [5678.0, 1234.0])
    by_class = small(vision, data, metrics=vision.accuracy, callback_fns=Two)
    by_class.fit_one_cycle(1)
    assert columns(by_class) == wanted
    later = small(vision, data, metrics=[vision.accuracy])
    later.callbacks.append(Two(later))
    later.fit_one_cycle(1)
    assert columns(later) == wanted
    for callbacks in (lambda learn: Two(learn), lambda learn: [Two(learn)]):
        learn = small(vision, data, metrics=vision.accuracy)
        learn.fit(1, callbacks=callbacks(learn))
        assert columns(learn) == wanted


def test_a_metric_that_is_a_callback(vision, data):
    from fastai.callback import Callback

    class Power(Callback):
        def __init__(self):
            super().__init__()
            self.name, self.epoch = "power", 0

        def on_epoch_begin(self, **kwargs):
            self.epoch += 1

        def on_epoch_end(self, last_metrics, **kwargs):
            return vision.add_metrics(last_metrics, vision.torch.tensor(7.0**self.epoch))

    learn = small(vision, data, metrics=[Power()])
    learn.fit(2)
    assert list(learn.recorder.names)[3] == "power"
    assert [float(row[0]) for row in learn.recorder.metrics] == [7.0, 49.0]


def test_names_of_metrics(vision, data):
    two = vision.partial(vision.top_k_accuracy, k=2)
    two.__name__ = "top2"
    learn = small(vision, data, metrics=[vision.accuracy, two, vision.partial(vision.top_k_accuracy, k=1)])
    learn.fit(1)
    assert list(learn.recorder.names)[3:6] == ["accuracy", "top2", "top_k_accuracy"]


def test_the_log_in_a_file(vision, data):
    from fastai.callbacks import CSVLogger

    learn = small(vision, data, metrics=[vision.accuracy], callback_fns=[CSVLogger])
    learn.fit(2)
    table = learn.csv_logger.read_logged_file()
    assert isinstance(table, pd.DataFrame)
    assert list(table.columns) == ["epoch", "train_loss", "valid_loss", "accuracy", "time"]
    assert table["valid_loss"].tolist() == pytest.approx([float(v) for v in learn.recorder.val_losses], abs=1e-5)


def test_early_stopping_and_the_best(vision, data):
    from fastai.callbacks import EarlyStoppingCallback, SaveModelCallback

    learn = small(vision, data, metrics=[vision.accuracy])
    stop = EarlyStoppingCallback(learn, monitor="accuracy", min_delta=2.0, patience=1)
    learn.fit(6, 1e-9, callbacks=[stop, SaveModelCallback(learn, monitor="accuracy", name="best")])
    assert len(learn.recorder.val_losses) == 3
    assert (learn.path / learn.model_dir).is_dir()


def test_what_callbacks_are_told(vision, data):
    seen = []

    class Told(vision.LearnerCallback):
        def on_batch_end(self, iteration, epoch, last_loss, train, **kwargs):
            if train:
                seen.append((iteration, epoch, float(last_loss) > 0))

    learn = small(vision, data)
    learn.fit(2, callbacks=[Told(learn)])
    assert [n for n, *_ in seen] == list(range(6))
    assert [e for _, e, _ in seen] == [0, 0, 0, 1, 1, 1]
    assert all(positive for *_, positive in seen)


def test_a_callback_ends_training(vision, data):
    class Enough(vision.LearnerCallback):
        def on_epoch_end(self, epoch, **kwargs):
            return {"stop_training": True} if epoch == 1 else None

    learn = small(vision, data)
    learn.fit(5, callbacks=Enough(learn))
    assert len(learn.recorder.val_losses) == 2


def test_hooks(vision, data):
    from fastai.callbacks.hooks import hook_output, model_sizes, num_features_model

    learn = vision.cnn_learner(data, vision.models.resnet18, pretrained=False)
    model = learn.model.eval()
    x, _ = data.one_item(data.valid_ds[0][0])
    with hook_output(model[0]) as forward:
        out = model(x)
    assert tuple(forward.stored.shape) == (1, 512, 1, 1)
    with hook_output(model[0], grad=True) as backward:
        model(x)[0, 1].backward()
    assert tuple(backward.stored[0].shape) == (1, 512, 1, 1)
    assert tuple(out.shape) == (1, 2)
    assert num_features_model(model[0]) == 512
    assert list(model_sizes(model[0], size=(64, 64))[-1])[1:] == [512, 2, 2]


def test_heads_and_bodies(vision):
    import torch

    head = vision.create_head(64, 4)
    assert tuple(head(torch.randn(2, 32, 5, 5)).shape) == (2, 4)
    body = vision.create_body(vision.models.resnet18, pretrained=False, cut=-2)
    assert tuple(body(torch.randn(1, 3, 64, 64)).shape) == (1, 512, 2, 2)


def test_mixing_and_clipping_train(vision, data):
    learn = small(vision, data).mixup(alpha=0.4).clip_grad(0.1)
    learn.fit(1)
    assert np.isfinite([float(v) for v in learn.recorder.losses]).all()


def test_other_losses(vision, data):
    learn = small(vision, data, loss_func=vision.LabelSmoothingCrossEntropy())
    learn.fit(1)
    assert np.isfinite(float(learn.recorder.val_losses[0]))
    learn.loss_func = vision.CrossEntropyFlat()
    assert learn.get_preds()[0].sum(dim=1).tolist() == pytest.approx([1] * 6, abs=1e-5)


def test_an_export_predicts(vision, trained):
    trained.export("small.pkl")
    again = vision.load_learner(trained.path, "small.pkl")
    image = trained.data.valid_ds[0][0]
    said, number, probs = trained.predict(image)
    other, its_number, its_probs = again.predict(image)
    assert (str(said), int(number)) == (str(other), int(its_number))
    assert its_probs.tolist() == pytest.approx(probs.tolist(), abs=1e-3)


def test_the_test_part(vision, trained, path):
    trained.data.add_test(vision.ImageList.from_folder(path / "test"))
    probs, targets = trained.get_preds(ds_type=vision.DatasetType.Test)
    assert (tuple(probs.shape), len(targets)) == ((3, 2), 3)
