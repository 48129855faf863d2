"""Data, loaders, weights, losses and interpretations that were made apart are compared where they meet."""

from __future__ import annotations

import json
import shutil
import warnings
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from onecycle.data.bunch import ImageDataBunch
from onecycle.data.labels.items import DatasetType
from onecycle.errors import ArgumentError, CheckpointError, DataWarning, OnecycleWarning
from onecycle.evaluation.interpretation import ClassificationInterpretation
from onecycle.learner.checks.misfits import Seen, alike, mark, take_manifest
from onecycle.learner.cnn import cnn_learner
from onecycle.learner.learner import Learner
from onecycle.train import losses as L
from onecycle.train.metrics import accuracy, fbeta

OWN = ((0.2, 0.2, 0.2), (0.05, 0.05, 0.05))
TEST = DatasetType.Test


def bunch(path: Path, **options) -> ImageDataBunch:
    options = {"folder": "train", "suffix": ".jpg", "size": 16, "bs": 16, "pixel_cache": "memory", **options}
    return ImageDataBunch.from_csv(path, **options)


def tag_bunch(path: Path, **options) -> ImageDataBunch:
    return bunch(path, csv_labels="tags.csv", label_delim=" ", **options)


def labelled(path: Path, labels, **options) -> ImageDataBunch:
    """Return the pictures with other labels: a function of (number, colour)."""
    frame = pd.read_csv(path / "labels.csv")
    frame = frame.assign(label=[labels(i, c) for i, c in enumerate(frame.label)]).dropna()
    return ImageDataBunch.from_df(path, frame, "train", suffix=".jpg", size=16, bs=16, pixel_cache="memory", **options)


def net(c: int) -> nn.Sequential:
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU())
    return nn.Sequential(body, nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, c)))


def learner_of(data: ImageDataBunch, path: Path, **options) -> Learner:
    return Learner(data, net(data.c), path=path, **{"silent": True, **options})


# --- loaders --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (lambda i, c: c if c != "blue" else None, r"3 classes and the new data has 2: missing \['blue'\]"),
        (lambda i, c: c if i % 2 else "grey", r"new \['grey'\]"),
        (lambda i, c: c.upper(), "new data has 3: missing"),
        (lambda i, c: i % 3, "missing"),
        (lambda i, c: "one", "has 1: missing"),
    ],
)
def test_a_loader_of_other_classes_is_refused(colour_path, tmp_path, labels, says):
    learn = learner_of(bunch(colour_path), tmp_path, metrics=[accuracy])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # one class is little to tell apart
        other = labelled(colour_path, labels)
    with pytest.raises(ArgumentError, match=says):
        learn.validate(other.valid_dl)


def test_a_loader_of_tags_or_of_another_order_is_refused(colour_path, tmp_path):
    learn = learner_of(bunch(colour_path), tmp_path)
    with pytest.raises(ArgumentError, match="tags where the learner's has single labels"):
        learn.validate(tag_bunch(colour_path).valid_dl)
    turned = bunch(colour_path)
    turned.labels.classes.reverse()
    with pytest.raises(ArgumentError, match=r"'blue', 'green', 'red' and the new data has 'red', 'green', 'blue'"):
        learn.validate(turned.valid_dl)


def test_a_loader_of_the_same_classes_is_judged_as_predict_does(colour_path, tmp_path):
    learn = learner_of(bunch(colour_path), tmp_path, metrics=[accuracy])
    learn.data.normalize(OWN)
    learn.fit(2, 0.05)
    some = labelled(colour_path, lambda i, c: c, valid_pct=0.5)
    with pytest.warns(DataWarning, match=r"\d+ of 30 pictures of this loader were trained on"):
        value = learn.validate(some.valid_dl)[1]
    right = np.mean([str(learn.predict(p)[0]) == str(some.valid_ds.y[i]) for i, p in enumerate(some.valid_ds.items)])
    assert value == pytest.approx(right)


@pytest.mark.parametrize("wrong", ["valid", 1, [1, 2], nn.Flatten()])
def test_what_is_no_part_and_no_loader_is_refused(colour_path, tmp_path, wrong):
    learn = learner_of(bunch(colour_path), tmp_path)
    with pytest.raises(ArgumentError, match="ds_type is a part of the data"):
        learn.loader(wrong)
    with pytest.raises(ArgumentError, match="ds_type is a part of the data"):
        learn.get_preds(wrong)
    with pytest.raises(ArgumentError, match="ds_type is a part of the data"):
        learn.interpret(wrong)


def test_metrics_that_do_not_fit_the_labels_are_refused_later_too(colour_path, tmp_path):
    learn = learner_of(bunch(colour_path), tmp_path)
    with pytest.raises(ArgumentError):
        learn.validate(metrics=fbeta)
    learn.metrics = [fbeta]
    with pytest.raises(ArgumentError):
        learn.fit(1)


# --- parts without labels -------------------------------------------------------------------------


@pytest.mark.parametrize("make", [bunch, tag_bunch])
def test_no_score_is_made_up_for_pictures_without_labels(colour_path, tmp_path, make):
    data = make(colour_path, test="train")
    learn = learner_of(data, tmp_path)
    learn.fit(1)
    for ask in (
        lambda: learn.validate(TEST),
        lambda: learn.validate(data.test_dl),
        lambda: learn.validate(data.test_dl.replace(bs=7)),
        lambda: learn.validate(data.single_loader(data.valid_ds.items, stats=None)),
        lambda: learn.get_preds(TEST, with_loss=True),
        lambda: learn.TTA(ds_type=TEST, with_loss=True),
        lambda: learn.interpret(TEST),
        lambda: learn.interpret(TEST, tta=True),
        lambda: learn.calibrate(TEST),
        lambda: learn.choose_thresholds(ds_type=TEST),
        lambda: learn.report(interpretation=learn.interpret(TEST)),
    ):
        with pytest.raises(ArgumentError, match="no labels"):
            ask()
    assert learn.get_preds(TEST)[0].shape == (60, data.c)
    figure = learn.show_results(TEST, rows=2, return_fig=True)
    assert all(axis.get_title().startswith("said:") for axis in figure.axes)
    assert {axis.title.get_color() for axis in figure.axes} == {"black"}


# --- pictures that trained ------------------------------------------------------------------------


def both(a: ImageDataBunch, b: ImageDataBunch) -> int:
    return len(set(a.train_ds.items) & set(b.valid_ds.items))


def test_other_data_whose_validation_pictures_trained_is_said(colour_path, tmp_path):
    data, other = bunch(colour_path, seed=1), bunch(colour_path, seed=2, size=24)
    learn = learner_of(data, tmp_path)
    learn.data = bunch(colour_path, seed=3)  # nothing was trained yet
    learn.data = data
    learn.fit(1)
    with pytest.warns(DataWarning, match=f"{both(data, other)} of 12 validation pictures were trained on"):
        learn.data = other
    learn.fit(1)
    with pytest.warns(DataWarning, match="validation pictures were trained on"):
        learn.data = data  # by now these trained, too


def test_the_same_split_says_nothing(colour_path, tmp_path, monkeypatch):
    data = bunch(colour_path)
    learn = learner_of(data, tmp_path)
    learn.fit(1)
    learn.data = data.resized(24)
    learn.data = bunch(colour_path, size=24, bs=8)
    learn.data = data.split_together([[0, int(data.split.valid[0]), int(data.split.train[0])]])
    learn.data = data.split_by_rows(data.split.train[:20], data.split.valid[:5])
    learn.validate(data.valid_dl)
    learn.save("a")
    learner_of(bunch(colour_path), tmp_path).load("a")
    learner_of(bunch(colour_path, size=24), tmp_path).load("a")
    monkeypatch.chdir(colour_path.parent)
    learn.data = bunch(Path(colour_path.name))


def test_a_learner_that_loads_weights_of_another_split_says_so(colour_path, tmp_path):
    data, other = bunch(colour_path, seed=1), bunch(colour_path, seed=2)
    learn = learner_of(data, tmp_path)
    learn.fit(1)
    learn.save("a")
    n = both(data, other)
    with pytest.warns(DataWarning, match=f"{n} of 12 validation pictures were trained on"):
        loaded = learner_of(other, tmp_path).load("a")
    shutil.copytree(colour_path, tmp_path / "moved")
    with pytest.warns(DataWarning, match=f"{n} of 12 validation pictures were trained on"):
        learner_of(bunch(tmp_path / "moved", seed=2), tmp_path).load("a")
    loaded.save("b")  # what it was trained on goes with it
    with pytest.warns(DataWarning, match=f"{n} of 12"):
        learner_of(other, tmp_path).load("b")
    learner_of(data, tmp_path).load("b")
    manifest = json.loads((tmp_path / "models" / "b.json").read_text())["manifest"]
    assert len(manifest["trained_on"]) == 8 * 48


def test_a_body_from_a_saved_model_brings_what_it_was_trained_on(colour_path, tmp_path, capsys):
    data, other = bunch(colour_path, seed=1, size=32).normalize(OWN), bunch(colour_path, seed=2, size=32)
    learn = cnn_learner(data, "resnet18", pretrained=False, path=tmp_path, silent=True)
    learn.seen = learn.seen.after_training(data, OWN)
    file = learn.save("a", return_path=True)
    with pytest.warns(DataWarning, match=f"{both(data, other)} of 12 validation pictures were trained on"):
        second = cnn_learner(other, "resnet18", pretrained=file, path=tmp_path)
    assert second.norm_stats == OWN
    assert "normalised with mean 0.200" in capsys.readouterr().out
    (tmp_path / "bare.safetensors").write_bytes(file.read_bytes()[:20])
    assert Seen.of_file(tmp_path / "bare.safetensors") == Seen.of_file(tmp_path / "none.pth") == Seen()


def test_a_prediction_needs_one_output_a_class(colour_path, tmp_path):
    learn = learner_of(bunch(colour_path), tmp_path)
    learn.model[1][2] = nn.Linear(4, 5)
    with pytest.raises(ArgumentError, match=r"gives \(1, 5\) for 3 classes"):
        learn.predict(learn.data.valid_ds.items[0])


@pytest.mark.filterwarnings("ignore:.*no training picture has")
def test_the_remedy_for_a_loader_that_lacks_a_class(colour_path, tmp_path):
    learn = learner_of(bunch(colour_path), tmp_path, metrics=[accuracy])
    for name in ("red", "green"):
        (tmp_path / "new" / name).mkdir(parents=True)
        shutil.copy(colour_path / "train" / ("p000.jpg" if name == "red" else "p001.jpg"), tmp_path / "new" / name)
        shutil.copy(colour_path / "train" / ("p003.jpg" if name == "red" else "p004.jpg"), tmp_path / "new" / name)
    options = {"valid_pct": 0.5, "classes": learn.data.classes, "size": 16, "bs": 2, "pixel_cache": "memory"}
    new = ImageDataBunch.from_folder(tmp_path / "new", **options)
    assert new.classes == learn.data.classes
    value = learn.validate(new.valid_dl)[1]
    right = np.mean([str(learn.predict(p)[0]) == str(new.valid_ds.y[i]) for i, p in enumerate(new.valid_ds.items)])
    assert value == pytest.approx(right)


def test_a_model_in_another_learner_brings_what_it_was_trained_on(colour_path, tmp_path):
    data, other = bunch(colour_path, seed=1).normalize(OWN), bunch(colour_path, seed=2)
    learn = learner_of(data, tmp_path)
    learn.fit(1)
    with pytest.warns(DataWarning, match=f"{both(data, other)} of 12 validation pictures were trained on"):
        second = Learner(other, learn.model, path=tmp_path, silent=True)
    with pytest.warns(DataWarning, match=r"trained on pixels normalised with mean 0\.200"):
        second.validate()
    Learner(data, learn.model, path=tmp_path, silent=True).validate()
    learn.model = net(3)  # fresh weights have seen nothing
    learn.data = other
    learn.validate()


def test_new_weights_replace_what_was_seen(colour_path, tmp_path):
    data, other = bunch(colour_path, seed=1), bunch(colour_path, seed=2)
    fresh = learner_of(data, tmp_path)
    fresh.save("fresh")
    learn = learner_of(data, tmp_path)
    learn.fit(1)
    learn.load("fresh")
    learn.data = other


def test_marks_are_of_name_folder_and_size(tmp_path):
    for folder in ("a/red", "b/red", "a/blue"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "1.png").write_bytes(b"x" * 10)
    (tmp_path / "b" / "red" / "2.png").write_bytes(b"x" * 11)
    marks = [mark(str(tmp_path / f)) for f in ("a/red/1.png", "b/red/1.png", "a/blue/1.png", "b/red/2.png")]
    assert marks[0] == marks[1]
    assert len(set(marks)) == 3
    assert {len(m) for m in marks} == {8}
    assert len(mark("no such\0file")) == 8
    assert Seen.from_manifest({}) == Seen()
    assert Seen.from_manifest({"trained_on": "".join(marks), "stats": None}) == Seen(
        marks=frozenset(marks), stats=(None,)
    )


# --- pixel statistics -----------------------------------------------------------------------------


def test_saved_statistics_are_taken_over_where_the_data_has_none_of_its_own(colour_path, tmp_path):
    a = learner_of(bunch(colour_path).normalize(OWN), tmp_path, metrics=[accuracy])
    a.fit(2, 0.05)
    a.save("a")
    b = learner_of(bunch(colour_path), tmp_path, metrics=[accuracy])
    with pytest.warns(OnecycleWarning, match=r"normalised as these weights were trained, with mean 0\.200"):
        b.load("a")
    picture = a.data.valid_ds.items[0]
    assert torch.equal(a.predict(picture)[2], b.predict(picture)[2])
    assert a.validate() == b.validate()
    assert b.norm_stats == OWN
    c = learner_of(bunch(colour_path), tmp_path)
    c.save("plain")
    d = learner_of(bunch(colour_path), tmp_path, stats=OWN)
    with pytest.warns(OnecycleWarning, match=r"with nothing \(pixels in 0 to 1\), no longer with mean 0\.200"):
        d.load("plain")
    assert d.norm_stats is None


def test_statistics_of_the_user_that_differ_are_said(colour_path, tmp_path):
    a = learner_of(bunch(colour_path).normalize(OWN), tmp_path)
    a.fit(1)
    a.save("a")
    for stats in ([[0.5], [0.2]], [[0.2], [0.2]]):
        b = learner_of(bunch(colour_path).normalize(stats), tmp_path)
        with pytest.warns(DataWarning, match=r"trained on pixels normalised with mean 0\.200"):
            b.load("a")
    c = learner_of(bunch(colour_path), tmp_path)
    c.fit(1)
    with pytest.warns(DataWarning, match=r"nothing \(pixels in 0 to 1\), and now they are normalised with mean 0\.200"):
        c.data = bunch(colour_path).normalize(OWN)
    with pytest.warns(DataWarning, match="go wrong until it is trained on"):
        c.fit(1)
    c.validate()
    d = learner_of(bunch(colour_path), tmp_path)
    d.fit(1)
    d.data.normalize(OWN)  # in place, below a trained network
    with pytest.warns(DataWarning, match="now they are normalised with mean"):
        d.predict(d.data.valid_ds.items[0])


def test_statistics_of_one_batch_and_of_the_next_are_alike(colour_path, tmp_path):
    a, b = (bunch(colour_path, seed=42, size=size, bs=bs).normalize() for size, bs in ((16, 16), (24, 20)))
    assert a.stats != b.stats
    assert alike(a.stats, b.stats)
    learn = learner_of(a, tmp_path)
    learn.fit(1)
    learn.data = b
    learn.validate()
    assert not alike(OWN, None)
    assert alike(None, None)
    assert not alike(OWN, (OWN[0], (0.07,) * 3))


def test_another_size_or_activation_is_said(colour_path, tmp_path, capsys):
    a = learner_of(bunch(colour_path), tmp_path)
    a.save("a")
    learner_of(bunch(colour_path, size=24), tmp_path, silent=False).load("a")
    assert "saved with pictures of 16 × 16 px; here they have 24 × 24." in " ".join(capsys.readouterr().out.split())
    with pytest.warns(OnecycleWarning, match="become probabilities by softmax"):
        learner_of(bunch(colour_path), tmp_path, loss_func=one_against_all).load("a")


def test_foreign_weights_say_nothing(colour_path, tmp_path):
    learn = learner_of(bunch(colour_path).normalize(OWN), tmp_path)
    (tmp_path / "models").mkdir()
    torch.save(learn.model.state_dict(), tmp_path / "models" / "old.pth")
    learn.fit(1)
    learn.load("old")
    learn.data = bunch(colour_path, seed=3)
    learn.validate()


def test_tags_and_classes_are_not_mixed_by_load(colour_path, tmp_path):
    learner_of(tag_bunch(colour_path), tmp_path).save("tags")
    with pytest.raises(CheckpointError):
        learner_of(bunch(colour_path), tmp_path).load("tags")


# --- interpretations ------------------------------------------------------------------------------


def test_an_older_interpretation_stays_with_its_own_data(colour_path, tmp_path):
    learn = learner_of(bunch(colour_path, seed=1), tmp_path)
    learn.fit(2, 0.05)
    old = learn.interpret()
    said, picture, heat, summary = old.predictions, old.picture(3), old.grad_cam(3), old.summary()
    with pytest.warns(DataWarning, match="were trained on"):
        learn.data = bunch(colour_path, seed=2, valid_pct=0.4, size=24)
    assert old.predictions.files == said.files
    assert np.array_equal(old.picture(3), picture)
    assert np.array_equal(old.grad_cam(3), heat)
    assert old.summary() == summary
    with pytest.raises(ArgumentError, match="of other data than the learner's"):
        learn.report(interpretation=old)
    with pytest.raises(ArgumentError, match="of other data than the learner's"):
        learn.report(interpretation=learner_of(learn.data, tmp_path).interpret())


def test_an_older_interpretation_keeps_its_calibration_and_does_not_explain_new_weights(colour_path, tmp_path):
    learn = learner_of(tag_bunch(colour_path), tmp_path)
    learn.fit(2, 0.05)
    old = learn.interpret()
    assert not old.weights_changed
    learn.choose_thresholds()
    chosen = old.predictions.thresholds
    assert chosen is not None, "those of the same weights, as they are now"
    learn.fit(1)
    assert old.weights_changed
    assert old.predictions.thresholds is None
    with pytest.raises(ArgumentError, match="weights have changed since"):
        old.grad_cam(0)
    learn.choose_thresholds()
    assert old.predictions.thresholds is None, "the new ones are of other weights"
    assert learn.interpret().predictions.thresholds is not None


def test_predictions_that_do_not_fit_the_part_are_refused(colour_path, tmp_path):
    learn = learner_of(bunch(colour_path), tmp_path)
    probs, y, losses = learn.get_preds(DatasetType.Train, with_loss=True)
    with pytest.raises(ArgumentError, match="48 predictions, and the validation set has 12 pictures"):
        ClassificationInterpretation(learn, probs, y, losses).summary()
    logits, y, losses = learn.get_preds(activ=lambda z: z * 40, with_loss=True)
    with pytest.raises(ArgumentError, match="preds are probabilities, 0 to 1"):
        ClassificationInterpretation(learn, logits, y, losses)


# --- losses ---------------------------------------------------------------------------------------


def one_against_all(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return F.binary_cross_entropy_with_logits(logits, F.one_hot(targets, logits.shape[1]).float())


one_against_all.activation = "sigmoid"


def own(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(logits, targets, label_smoothing=0.1)


class Wrapped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.CrossEntropyLoss()

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return self.inner(logits, targets)


FOR_CLASSES = [
    L.LabelSmoothingCrossEntropy(), L.CrossEntropyFlat(), nn.CrossEntropyLoss(), F.cross_entropy, F.nll_loss,
    partial(F.cross_entropy, label_smoothing=0.1), nn.NLLLoss(), nn.MultiMarginLoss(), L.FocalLoss(is_multi=False),
]  # fmt: skip
FOR_TAGS = [
    L.BCEWithLogitsFlat(), L.LabelSmoothingBCE(), nn.BCEWithLogitsLoss(), F.binary_cross_entropy_with_logits,
    L.AsymmetricLoss(), nn.BCELoss(), nn.MultiLabelSoftMarginLoss(), L.FocalLoss(is_multi=True),
    partial(F.binary_cross_entropy, reduction="sum"),
]  # fmt: skip


@pytest.mark.parametrize("loss", FOR_CLASSES)
@pytest.mark.parametrize("how", ["made with", "balanced", "assigned"])
def test_a_loss_for_classes_is_refused_for_tags(colour_path, tmp_path, loss, how):
    data = tag_bunch(colour_path)
    says = r"these have tags.*BCEWithLogitsFlat|does not fit these labels"
    if how == "assigned":
        learn = learner_of(data, tmp_path)
        with pytest.raises(ArgumentError, match=says):
            learn.loss_func = loss
        return
    with pytest.raises(ArgumentError, match=says):
        learner_of(data, tmp_path, loss_func=loss, class_weights="balanced" if how == "balanced" else None)


@pytest.mark.parametrize("loss", FOR_TAGS)
def test_a_loss_for_tags_is_refused_for_classes(colour_path, tmp_path, loss):
    with pytest.raises(ArgumentError, match=r"is for tags.*CrossEntropyFlat|does not fit these labels"):
        learner_of(bunch(colour_path), tmp_path, loss_func=loss)


@pytest.mark.parametrize(
    ("loss", "says"),
    [
        (nn.CrossEntropyLoss, r"pass CrossEntropyLoss\(\)"),
        ("cross_entropy", "is called with"),
        (nn.CrossEntropyLoss(reduction="none"), "reduction='none'"),
        (partial(F.cross_entropy, reduction="none"), "reduction='none'"),
        (nn.CrossEntropyLoss(torch.ones(5)), "weight for 5 classes, and there are 3"),
        (partial(F.cross_entropy, weight=torch.ones(2)), "weight for 2 classes"),
    ],
)
def test_a_loss_that_cannot_train_is_refused_before_training(colour_path, tmp_path, loss, says):
    with pytest.raises(ArgumentError, match=says):
        learner_of(bunch(colour_path), tmp_path, loss_func=loss)


@pytest.mark.parametrize("loss", [own, Wrapped(), partial(own), lambda out, y: own(out, y)])
def test_a_loss_of_ones_own_gives_probabilities_and_says_how(colour_path, tmp_path, loss):
    data = bunch(colour_path)
    with pytest.warns(OnecycleWarning, match="so softmax is taken, as is usual for one label a picture"):
        learn = learner_of(data, tmp_path, loss_func=loss, metrics=[accuracy])
    learn.fit(2, 0.05)
    for probs in (learn.get_preds()[0], learn.TTA()[0], learn.pred_batch(), learn.predict(data.valid_ds.items[0])[2]):
        torch.testing.assert_close(probs.sum(-1), torch.ones(probs.shape[:-1]))
    torch.testing.assert_close(learn.interpret().preds[0], learn.predict(data.valid_ds.items[0])[2])
    learn.save("own")
    assert json.loads((tmp_path / "models" / "own.json").read_text())["manifest"]["activation"] == "softmax"


@pytest.mark.filterwarnings("ignore:.*does not say how outputs become probabilities")
@pytest.mark.parametrize(
    ("loss", "says"),
    [
        (nn.MSELoss(), r"cannot compare outputs \(4, 3\) with targets \(4,\) torch.int64"),
        (nn.SmoothL1Loss(), "cannot compare"),
        (nn.MultiLabelMarginLoss(), "cannot compare"),
        (lambda out, y: F.cross_entropy(out, y, reduction="none"), r"gives \(4,\) .* take the mean"),
        (lambda out, y: 0.5, "gives float"),
        (lambda out: out.mean(), "cannot compare"),
    ],
)
def test_a_loss_that_cannot_read_these_targets_is_refused_before_training(colour_path, tmp_path, loss, says):
    learn = learner_of(bunch(colour_path), tmp_path, loss_func=loss)
    with pytest.raises(ArgumentError, match=says):
        learn.fit(1)
    assert learn.trainer.epochs_done == 0


def test_a_loss_of_ones_own_for_tags(colour_path, tmp_path):
    data = tag_bunch(colour_path)
    with pytest.warns(OnecycleWarning, match="so sigmoid is taken"):
        learn = learner_of(data, tmp_path, loss_func=lambda out, y: (out.sigmoid() - y).square().mean())
    learn.fit(1)
    probs = learn.get_preds()[0]
    assert 0 <= float(probs.min()) <= float(probs.max()) <= 1
    assert learn.report().html


def test_a_loss_that_says_its_activation_is_quiet(colour_path, tmp_path):
    learn = learner_of(bunch(colour_path), tmp_path, loss_func=one_against_all)
    learn.fit(1)
    logits = learn.get_preds(activ=lambda z: z)[0]
    assert torch.equal(learn.get_preds()[0], logits.sigmoid())
    wrong = Wrapped()
    wrong.activation = "tanh"
    with pytest.raises(ArgumentError, match="one of softmax, sigmoid, exp, identity; received 'tanh'"):
        learner_of(bunch(colour_path), tmp_path, loss_func=wrong)


def test_losses_of_probabilities_need_a_network_that_ends_with_them(colour_path, tmp_path):
    data, tags = bunch(colour_path), tag_bunch(colour_path)
    with pytest.raises(ArgumentError, match="for log-probabilities, and they are not"):
        learner_of(data, tmp_path, loss_func=nn.NLLLoss()).fit(1)
    wide = net(4)
    nn.init.constant_(wide[1][2].bias, 3.0)
    with pytest.raises(ArgumentError, match="for probabilities, and they are not"):
        Learner(tags, wide, loss_func=nn.BCELoss(), path=tmp_path, silent=True).fit(1)
    Learner(data, nn.Sequential(net(3), nn.LogSoftmax(1)), loss_func=nn.NLLLoss(), path=tmp_path, silent=True).fit(1)
    Learner(tags, nn.Sequential(net(4), nn.Sigmoid()), loss_func=nn.BCELoss(), path=tmp_path, silent=True).fit(1)


def test_parameters_of_a_loss_are_not_silently_left_out(colour_path, tmp_path):
    class Scaled(L.CrossEntropyFlat):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

    with pytest.warns(OnecycleWarning, match="parameters of its own, which no optimizer here trains"):
        learner_of(bunch(colour_path), tmp_path, loss_func=Scaled())


def test_another_loss_forgets_a_calibration_of_other_probabilities(colour_path, tmp_path):
    learn = learner_of(tag_bunch(colour_path), tmp_path)
    learn.fit(1)
    learn.choose_thresholds()
    learn.loss_func = L.AsymmetricLoss()
    assert learn.thresholds is not None, "sigmoid as before"
    tanh_like = Wrapped()
    tanh_like.activation = "softmax"
    learn.loss_func = tanh_like
    assert learn.thresholds is None


# --- losses and weights that compute nonsense ---------------------------------------------------------


@pytest.mark.parametrize(
    ("loss", "says"),
    [
        (nn.CrossEntropyLoss(ignore_index=0), "ignore_index=0 leaves out every picture of class number 0"),
        (partial(F.cross_entropy, ignore_index=2), "ignore_index=2"),
        (nn.CrossEntropyLoss(weight=torch.ones(3).double()), "weight of torch.float64"),
        (partial(F.cross_entropy, weight=[1.0, 2.0, 3.0]), "weight of list"),
        (nn.CrossEntropyLoss(weight=torch.tensor([1.0, -1.0, 1.0])), "numbers of 0 or more"),
        (nn.CrossEntropyLoss(weight=torch.tensor([1.0, float("nan"), 1.0])), "numbers of 0 or more"),
        (nn.NLLLoss(weight=torch.zeros(3)), "not all 0"),
        ("cross_entropy", r"pass CrossEntropyFlat\(\), say"),
        (lambda y_true, y_pred: F.cross_entropy(y_pred, y_true), "the truth first"),
    ],
)
def test_a_loss_that_would_leave_a_class_out_or_be_no_number_is_refused(colour_path, tmp_path, loss, says):
    with pytest.raises(ArgumentError, match=says):
        learner_of(bunch(colour_path), tmp_path, loss_func=loss)


@pytest.mark.parametrize("index", [-100, -1, 3, 255])
def test_an_ignored_index_that_is_no_class_changes_nothing(colour_path, tmp_path, index):
    learn = learner_of(bunch(colour_path), tmp_path)
    other = Learner(learn.data, learn.model, loss_func=nn.CrossEntropyLoss(ignore_index=index), silent=True)
    assert other.validate() == pytest.approx(learn.validate())


@pytest.mark.parametrize(
    ("loss", "says"),
    [
        (lambda o, y: F.cross_entropy(o, y).detach(), "has no gradient"),
        (lambda o, y: 1 - (o.argmax(1) == y).float().mean(), "has no gradient"),
        (lambda o, y: F.cross_entropy(o, y)[None], r"gives \(1,\)"),
        (lambda o, y: F.mse_loss(o.softmax(1), F.one_hot(y).float()), "target size.*CrossEntropyFlat can"),
        (nn.MSELoss(), "cannot compare outputs"),
    ],
)
@pytest.mark.filterwarnings("ignore::onecycle.errors.OnecycleWarning")
def test_a_loss_that_cannot_teach_is_refused_before_the_first_step(colour_path, tmp_path, loss, says):
    learn = learner_of(bunch(colour_path), tmp_path, loss_func=loss)
    with pytest.raises(ArgumentError, match=says):
        learn.fit(1)
    assert learn.trainer.epochs_done == 0


@pytest.mark.parametrize(
    ("loss", "is_refused"),
    [
        (lambda o, y: F.cross_entropy(o, y), True),
        (lambda o, y: -(y * o.log_softmax(1)).sum(1).mean(), True),
        (lambda o, y: F.binary_cross_entropy_with_logits(o, y), False),
        (lambda o, y: F.mse_loss(o.sigmoid(), y), False),
    ],
)
@pytest.mark.filterwarnings("ignore::onecycle.errors.OnecycleWarning")
def test_a_softmax_inside_a_loss_of_ones_own_for_tags_is_found(colour_path, tmp_path, loss, is_refused):
    learn = learner_of(tag_bunch(colour_path), tmp_path, loss_func=loss)
    says = pytest.raises(ArgumentError, match="compares the outputs of a picture with one another")
    with says if is_refused else nullcontext():
        learn.fit(1)


def test_weights_of_nothing_in_common_are_refused_and_parts_are_counted(colour_path, tmp_path, capsys):
    data = bunch(colour_path)
    learn = learner_of(data, tmp_path)
    learn.save("net")
    other = nn.Sequential(nn.Sequential(nn.Flatten()), nn.Sequential(nn.Linear(3 * 16 * 16, 3)))
    other[1].add_module("own", nn.Linear(3, 3))
    with pytest.raises(CheckpointError, match=r"has none of the model's 4 tensors"):
        Learner(data, other, path=tmp_path, silent=True).load("net", strict=False)
    more = net(3)
    more[1].append(nn.Linear(3, 3))
    Learner(data, more, path=tmp_path, silent=True).load("net", strict=False)
    assert "9 of the model's 11 tensors are in net.safetensors" in capsys.readouterr().out


def test_names_of_saved_models_may_have_their_ending(colour_path, tmp_path):
    learn = learner_of(bunch(colour_path), tmp_path)
    expected = learn.get_preds()[0]
    assert learn.save("net.safetensors", return_path=True) == tmp_path / "models" / "net.safetensors"
    torch.save(learn.model.state_dict(), tmp_path / "models" / "plain.pth")
    for name in ("net", "net.safetensors", tmp_path / "models" / "net.safetensors", "plain.pth", "plain"):
        other = learner_of(learn.data, tmp_path)
        with torch.no_grad():
            other.model[1][2].weight.zero_()
        assert torch.equal(other.load(name).get_preds()[0], expected), name
    learn.save("v1.0")
    assert (tmp_path / "models" / "v1.0.safetensors").exists()


def test_weights_that_are_no_numbers_and_another_way_to_resize_are_said(colour_path, tmp_path, capsys):
    learn = learner_of(bunch(colour_path), tmp_path)
    with torch.no_grad():
        learn.model[1][2].weight[0, 0] = float("nan")
    learn.save("net")
    other = learner_of(bunch(colour_path, resize_method="pad"), tmp_path, silent=False)
    with pytest.warns(OnecycleWarning, match=r"net\.safetensors holds weights that are no numbers"):
        other.load("net")
    assert "resized by crop; here it is pad" in " ".join(capsys.readouterr().out.split())


def test_a_saved_model_that_does_not_say_what_trained_it_is_said(colour_path, tmp_path, capsys):
    learn = learner_of(bunch(colour_path), tmp_path, silent=False)
    take_manifest(learn, {"classes": ["blue", "green", "red"]}, strict=True)
    assert "does not say which pictures it was trained on" in " ".join(capsys.readouterr().out.split())
    take_manifest(learn, {}, strict=True)  # weights of another library
    take_manifest(learn, {"trained_on": ""}, strict=True)  # never trained
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", [5, None, "", "a\0b"])
def test_what_is_no_name_of_a_model_is_refused(colour_path, tmp_path, name):
    with pytest.raises(ArgumentError, match="a saved model needs a name"):
        learner_of(bunch(colour_path), tmp_path).save(name)
