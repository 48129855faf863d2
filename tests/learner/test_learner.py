"""The learner on small pictures with a learnable signal: training, judging, saving, and what it refuses."""

from __future__ import annotations

import copy
import json
import pickle
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from onecycle.data.augment.transforms import get_transforms
from onecycle.data.batches import cifar_stats, imagenet_stats
from onecycle.data.bunch import ImageDataBunch
from onecycle.data.labels.items import DatasetType
from onecycle.data.pixels.image import open_image
from onecycle.doc import describe
from onecycle.errors import ArgumentError, CheckpointError, OnecycleWarning
from onecycle.learner.cnn import cnn_learner, create_cnn
from onecycle.learner.learner import Learner
from onecycle.train.callbacks import Callback, CSVLogger, LearnerCallback
from onecycle.train.losses import LabelSmoothingCrossEntropy
from onecycle.train.metrics import accuracy, accuracy_thresh, error_rate, fbeta
from onecycle.train.monitors import EarlyStoppingCallback, SaveModelCallback


def bunch(path: Path, **options) -> ImageDataBunch:
    options = {"folder": "train", "suffix": ".jpg", "size": 32, "bs": 16, **options}
    return ImageDataBunch.from_csv(path, **options)


def tag_bunch(path: Path, **options) -> ImageDataBunch:
    return bunch(path, csv_labels="tags.csv", label_delim=" ", **options)


def small_net(c: int) -> nn.Sequential:
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
    return nn.Sequential(body, nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, c)))


@pytest.fixture
def learn(colour_path, tmp_path) -> Learner:
    data = bunch(colour_path, ds_tfms=get_transforms())
    return Learner(data, small_net(3), metrics=[error_rate, accuracy], path=tmp_path, silent=True)


def test_training_learns_the_signal(learn):
    learn.fit_one_cycle(8, 0.05)
    loss, error, right = learn.validate()
    assert error == 0.0
    assert right == 1.0
    assert loss < 0.5
    assert learn.recorder.metrics[-1] == [error, right]
    assert learn.recorder.val_losses[-1] == pytest.approx(loss, abs=1e-6)


def test_the_same_seed_gives_the_same_weights_bit_for_bit(colour_path, tmp_path):
    def run(**options):
        data = bunch(colour_path, ds_tfms=get_transforms(), **options)
        learner = Learner(data, small_net(3), path=tmp_path, silent=True)
        learner.fit_one_cycle(2, 0.01)
        return learner.model.state_dict()

    first = run()
    for options in ({}, {"num_workers": 1}, {"num_workers": 5}):
        assert all(torch.equal(v, first[k]) for k, v in run(**options).items())
    assert not all(torch.equal(v, first[k]) for k, v in run(seed=1).items())


def test_the_user_s_random_state_is_left_alone(learn):
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    learn.fit(1)
    learn.lr_find(num_it=4)
    learn.get_preds()
    assert torch.equal(before, torch.random.get_rng_state())


def test_cnn_learner_freezes_starts_at_the_prior_and_normalises(colour_path, tmp_path, capsys):
    data = tag_bunch(colour_path)
    cnn_learner(data, "tf_efficientnet_lite0", path=tmp_path, silent=True)
    assert capsys.readouterr().out == "", "silent means silent"
    learner = cnn_learner(data, "tf_efficientnet_lite0", metrics=fbeta, path=tmp_path)
    said = capsys.readouterr().out
    assert "mean 0.498 0.498 0.498, std 0.502 0.502 0.502" in said
    assert "data.normalize(...) or normalize=False" in said
    assert max(map(len, said.splitlines())) <= 80
    frozen = [p.requires_grad for p in learner.layer_groups[0].parameters()]
    assert not all(frozen)
    assert all(p.requires_grad for p in learner.layer_groups[-1].parameters())
    counts = data.labels.counts(data.split.train)
    share = torch.from_numpy(counts / len(data.split.train)).float()
    last = [m for m in learner.model.modules() if isinstance(m, nn.Linear)][-1]
    assert torch.allclose(last.bias.sigmoid(), share, atol=0.02)
    assert learner.norm_stats == ((127 / 255,) * 3, (128 / 255,) * 3)
    data.normalize(imagenet_stats)
    assert learner.norm_stats == imagenet_stats


def test_normalize_false_feeds_raw_pixels(colour_path, tmp_path, capsys):
    learner = create_cnn(bunch(colour_path), "resnet18", pretrained=False, normalize=False, path=tmp_path, silent=True)
    assert learner.norm_stats is None
    assert capsys.readouterr().out == ""
    x = learner.loader(DatasetType.Valid).batch_at(0, 0).x
    assert 0 <= x.min() <= x.max() <= 1
    assert len(learner.layer_groups) == 3


def test_get_preds_gives_probabilities_targets_and_losses_in_order(learn):
    learn.fit(1)
    recorder = learn.recorder
    probs, targets, losses = learn.get_preds(with_loss=True)
    assert learn.recorder is recorder
    assert torch.allclose(probs.sum(dim=1), torch.ones(12))
    assert targets.tolist() == learn.data.valid_ds.targets.tolist()
    assert torch.allclose(losses, -probs.log()[range(12), targets], atol=1e-5)
    train_targets = learn.get_preds(DatasetType.Train)[1]
    assert train_targets.tolist() == learn.data.train_ds.targets.tolist()
    raw = learn.get_preds(activ=lambda z: z)[0]
    assert torch.allclose(raw.softmax(dim=1), probs, atol=1e-6)


def test_predictions_of_tags(colour_path, tmp_path):
    data = tag_bunch(colour_path)
    learner = Learner(data, small_net(4), metrics=[partial(accuracy_thresh, thresh=0.4)], path=tmp_path, silent=True)
    learner.fit_one_cycle(3, 0.05)
    assert learner.recorder.names == ["epoch", "train_loss", "valid_loss", "accuracy_thresh", "time"]
    probs, targets, losses = learner.get_preds(with_loss=True)
    assert probs.shape == targets.shape == (12, 4)
    assert losses.shape == (12,)
    label, hit, p = learner.predict(data.valid_ds.items[0])
    assert torch.allclose(p, probs[0], atol=1e-6)
    assert hit.tolist() == (p >= 0.5).long().tolist()
    assert str(label) == ";".join(c for c, h in zip(data.classes, hit.tolist(), strict=True) if h)


def test_predict_takes_a_path_an_image_an_array_and_bytes(learn):
    path = learn.data.valid_ds.items[3]
    expected = learn.get_preds()[0][3]
    forms = [path, Path(path), open_image(path), open_image(path).numpy(), Path(path).read_bytes()]
    for form in forms:
        label, index, probs = learn.predict(form)
        assert torch.allclose(probs, expected, atol=1e-6)
        assert str(label) == learn.data.classes[int(index)] == learn.data.classes[int(expected.argmax())]


def test_tta_mixes_plain_and_views(learn):
    learn.fit_one_cycle(2, 0.02)
    plain, views, targets = learn.TTA(beta=None)
    probs, _, losses = learn.TTA(beta=0.25, with_loss=True)
    assert torch.allclose(plain, learn.get_preds()[0])
    assert torch.allclose(probs, 0.25 * plain + 0.75 * views, atol=1e-6)
    assert not torch.allclose(plain, views)
    assert torch.allclose(losses, -probs.log()[range(12), targets], atol=1e-4)
    assert torch.equal(learn.TTA()[0], learn.TTA()[0])
    with pytest.raises(ArgumentError, match="0 to 1, or None; received 3"):
        learn.TTA(beta=3)  # would give probabilities below 0


def test_tta_works_without_transforms(colour_path, tmp_path):
    learner = Learner(bunch(colour_path), small_net(3), path=tmp_path, silent=True)
    assert learner.TTA()[0].shape == (12, 3)


def test_pred_batch_and_validate_agree_with_get_preds(learn):
    probs, targets = learn.get_preds()
    assert torch.allclose(learn.pred_batch(), probs[:16], atol=1e-6)
    x, y = learn.loader(DatasetType.Valid).batch_at(0, 0)
    assert torch.allclose(learn.pred_batch(batch=(x, y)), probs[:12], atol=1e-6)
    loss, error = learn.validate(metrics=[error_rate])
    assert error == pytest.approx(float((probs.argmax(dim=1) != targets).float().mean()))
    train_loss = learn.validate(DatasetType.Train)[0]
    assert train_loss == pytest.approx(float(learn.get_preds(DatasetType.Train, with_loss=True)[2].mean()), rel=1e-5)
    assert loss == pytest.approx(learn.validate(learn.data.valid_dl)[0])


def state_of(learn: Learner) -> dict[tuple[int, str], torch.Tensor]:
    """Return a copy of the optimizer's tensors by parameter number and name."""
    state = learn.trainer.optimizer.torch.state_dict()["state"]
    return {(i, key): value.clone() for i, values in state.items() for key, value in values.items()}


def test_save_and_load_bring_back_weights_optimizer_and_counters(learn):
    learn.fit_one_cycle(2, 0.02)
    path = learn.save("stage-1", return_path=True)
    assert path == learn.path / "models" / "stage-1.safetensors"
    before = learn.get_preds()[0]
    momentum = state_of(learn)
    learn.fit_one_cycle(1, 0.05)
    assert not torch.allclose(learn.get_preds()[0], before)
    assert learn.load("stage-1") is learn
    assert torch.equal(learn.get_preds()[0], before)
    assert learn.trainer.epochs_done == 3, "never backwards: no order comes twice"
    assert all(torch.equal(value, momentum[key]) for key, value in state_of(learn).items())
    manifest = json.loads((learn.path / "models" / "stage-1.json").read_text())
    kept = manifest.get("manifest", manifest)
    assert kept["classes"] == ["blue", "green", "red"]
    assert len(kept["split"]["valid"]) == 12


def test_training_goes_on_from_a_saved_model_exactly(colour_path, tmp_path):
    def fresh():
        return Learner(bunch(colour_path, ds_tfms=get_transforms()), small_net(3), path=tmp_path, silent=True)

    one = fresh()
    one.fit(2, 0.02)
    one.save("half")
    one.fit(2, 0.02)
    other = fresh().load("half")
    other.fit(2, 0.02)
    pairs = zip(one.model.state_dict().values(), other.model.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_loading_refuses_other_classes_and_missing_files(learn, colour_path, tmp_path):
    learn.save("a")
    other = Learner(tag_bunch(colour_path), small_net(4), path=tmp_path, silent=True)
    before = [p.clone() for p in other.model.parameters()]
    with pytest.raises(CheckpointError, match="classes"):
        other.load("a")
    assert all(torch.equal(a, b) for a, b in zip(before, other.model.parameters(), strict=True))
    with pytest.raises(CheckpointError, match="nowhere"):
        learn.load("nowhere")


def test_a_data_folder_that_cannot_be_written_sends_models_elsewhere_once(learn, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.chdir(tmp_path)
    learn.path = tmp_path / "file"
    path = learn.save("a", return_path=True)
    assert path == tmp_path / "runs" / "file" / "models" / "a.safetensors"
    assert "is not writable, so models go to" in capsys.readouterr().out
    learn.save("b")
    learn.load("a")
    assert capsys.readouterr().out == ""


def test_other_data_can_be_assigned_for_progressive_resizing(learn, colour_path):
    learn.fit(1)
    before = learn.get_preds()[0]
    learn.data = bunch(colour_path, size=24)
    assert learn.loader().batch_at(0, 0).x.shape[-1] == 24
    assert not torch.equal(learn.get_preds()[0], before)
    learn.fit(1)
    assert learn.trainer.epochs_done == 2
    frame = pd.read_csv(colour_path / "labels.csv").assign(label=["a", "b"] * 30)
    other = ImageDataBunch.from_df(colour_path, frame, "train", suffix=".jpg", size=24)
    with pytest.raises(ArgumentError, match=r"3 classes and the new data has 2: missing \['blue', 'green', 'red'\]"):
        learn.data = other
    with pytest.raises(ArgumentError, match="tags where the learner's has single labels"):
        learn.data = tag_bunch(colour_path)


def test_lr_find_leaves_the_weights_and_fills_the_recorder(learn, capsys):
    before = {k: v.clone() for k, v in learn.model.state_dict().items()}
    learn.lr_find(num_it=20, stop_div=False)
    assert all(torch.equal(v, before[k]) for k, v in learn.model.state_dict().items())
    assert len(learn.recorder.lrs) == 20
    assert "type {learner_name}.recorder.plot() to see the graph." in capsys.readouterr().out
    learn.recorder.plot(suggestion=True)
    assert learn.trainer.epochs_done == 0


def test_freezing_and_rates_by_layer_group(colour_path, tmp_path):
    learner = cnn_learner(bunch(colour_path), "resnet18", pretrained=False, path=tmp_path, silent=True)
    assert learner.lr_range(slice(1e-6, 1e-2)) == pytest.approx([1e-6, 1e-4, 1e-2])
    assert learner.lr_range(slice(3e-3)) == pytest.approx([3e-4, 3e-4, 3e-3])
    learner.freeze()
    first = next(learner.layer_groups[0].parameters())
    assert not first.requires_grad
    before = first.clone()
    learner.fit(1, 0.01)
    assert torch.equal(first, before)
    learner.unfreeze()
    learner.fit(1, 0.01)
    assert not torch.equal(first, before)
    learner.freeze_to(1)
    assert not first.requires_grad


def test_callbacks_of_notebooks(learn):
    callbacks = [
        SaveModelCallback(learn, monitor="valid_loss", name="best"),
        CSVLogger(learn),
        EarlyStoppingCallback(learn, monitor="accuracy", patience=5),
    ]
    learn.fit(4, 0.5, callbacks=callbacks)
    assert learn.validate()[0] == pytest.approx(min(learn.recorder.val_losses), abs=1e-5), "the best was loaded"
    assert learn.recorder.picked_of == 4
    assert learn.interpret().predictions.picked_of == 4
    assert "picked the epoch, the best of 4" in " ".join(learn.interpret().summary().split())
    rows = (learn.path / "history.csv").read_text().splitlines()
    assert rows[0].startswith("epoch,train_loss,valid_loss")
    assert len(rows) == 5


def test_attributes_assigned_later_are_what_training_uses(learn):
    learn.fit(1, 0.01)
    learn.loss_func = LabelSmoothingCrossEntropy(0.9)
    learn.wd = 0.5
    learn.opt_func = torch.optim.SGD
    learn.metrics = accuracy
    learn.fit(1, 0.01)
    assert isinstance(learn.trainer.optimizer.torch, torch.optim.SGD)
    assert learn.trainer.optimizer.wd == 0.5
    assert learn.recorder.raw_losses[0] > 0.9, "a smoothed loss cannot be small"
    assert len(learn.validate(metrics=accuracy)) == 2


def test_the_bunch_s_own_loaders_give_what_the_network_is_fed(colour_path, tmp_path, capsys):
    data = bunch(colour_path)
    learner = cnn_learner(data, "tf_efficientnet_lite0", path=tmp_path, silent=True)
    by_hand = learner.pred_batch(batch=next(iter(data.valid_dl)))
    assert torch.allclose(by_hand, learner.get_preds()[0][:12], atol=1e-5)
    learner.data = bunch(colour_path, size=24)
    assert learner.data.valid_dl.stats == data.valid_dl.stats
    capsys.readouterr()


def test_statistics_of_the_first_data_stay_with_the_network(learn, colour_path):
    learn.data.normalize(imagenet_stats)
    learn.data = bunch(colour_path, size=24)
    assert learn.norm_stats == imagenet_stats
    learn.data = bunch(colour_path, size=24).normalize(((0.5,), (0.5,)))
    assert learn.norm_stats == ((0.5,) * 3, (0.5,) * 3)


def test_predict_equals_get_preds_with_batch_transforms(colour_path, tmp_path):
    data = bunch(colour_path, dl_tfms=[lambda xy: (xy[0] * 0.5, xy[1])])
    learner = Learner(data, small_net(3), path=tmp_path, silent=True)
    assert torch.allclose(learner.predict(data.valid_ds.items[2])[2], learner.get_preds()[0][2], atol=1e-6)


def test_the_loss_of_weighted_classes_is_the_training_loss(colour_path, tmp_path):
    weighted = Learner(
        bunch(colour_path), small_net(3), loss_func=nn.CrossEntropyLoss(torch.tensor([10.0, 10, 10])), path=tmp_path
    )
    plain = Learner(bunch(colour_path), small_net(3), path=tmp_path)
    assert weighted.validate()[0] == pytest.approx(plain.validate()[0], rel=1e-5)


def test_a_newer_save_elsewhere_is_the_one_that_is_loaded(learn, tmp_path, monkeypatch):
    learn.save("best")
    old = learn.get_preds()[0]
    learn.fit(1, 0.1)
    new = learn.get_preds()[0]
    monkeypatch.chdir(tmp_path)
    locked = (learn.path / learn.model_dir).resolve()
    monkeypatch.setattr("onecycle.learner.saving._is_writable", _writable_but(locked))
    learn.save("best")
    learn.fit(1, 0.1)
    assert torch.equal(learn.load("best").get_preds()[0], new)
    assert not torch.equal(new, old)


def _writable_but(locked: Path):
    def is_writable(folder: Path) -> bool:
        folder.mkdir(parents=True, exist_ok=True)
        return folder.resolve() != locked

    return is_writable


def test_a_misspelt_keyword_fails_at_once_and_the_nearest_is_named(learn):
    with pytest.raises(
        TypeError, match=r"Learner got an unexpected keyword argument 'presicion'; did you .*'precision'"
    ):
        Learner(learn.data, learn.model, presicion="fp32")
    with pytest.raises(TypeError, match=r"cnn_learner got an unexpected .*'lin_ftr'; did you mean 'lin_ftrs'"):
        cnn_learner(learn.data, "test_resnet", pretrained=False, lin_ftr=[4])
    with pytest.raises(TypeError, match="'stats'"):  # chosen by normalize=
        create_cnn(learn.data, "test_resnet", pretrained=False, stats=None)


def test_doc_says_what_the_options_mean():
    for function, words in (
        (cnn_learner, ("lin_ftrs: widths", "bn_wd: decay", "normalize: normalise")),
        (create_cnn, ("ps: dropout", "silent: print")),
        (Learner, ("channels_last: layout", "model_dir: folder")),
        (ImageDataBunch.from_csv, ("padding_mode: ``reflection``", "test: a folder")),
    ):
        text = " ".join(describe(function).text.replace("``test``", "test").split())
        assert [word for word in words if word not in text] == []


def test_other_forms_of_a_picture_and_clear_errors(learn):
    import PIL.Image

    path = learn.data.valid_ds.items[0]
    expected = learn.predict(path)[2]
    with PIL.Image.open(path) as picture:
        assert torch.equal(learn.predict(picture)[2], expected)
    assert torch.equal(learn.predict(open_image(path).px)[2], expected)
    with pytest.raises(ArgumentError, match=r"a picture's pixels are uint8 \(H, W, 3\); received float64 \(4, 4\)"):
        learn.predict(np.zeros((4, 4)))
    with pytest.raises(ArgumentError, match=r"received int64 \(\)"):
        learn.predict(3)
    with pytest.raises(ArgumentError, match="needs a name"):
        learn.save("")
    with pytest.raises(ArgumentError, match="test pictures have no labels"):
        learn.get_preds(DatasetType.Test, with_loss=True)
    with pytest.warns(OnecycleWarning, match="does not say how outputs become probabilities"):
        learn.loss_func = lambda logits, targets: nn.functional.cross_entropy(logits, targets)
    with pytest.raises(ArgumentError, match="leave with_loss out"):
        learn.TTA(with_loss=True)


def test_callback_fns_are_called_with_the_learner(colour_path, tmp_path):
    learner = Learner(bunch(colour_path), small_net(3), path=tmp_path, silent=True, callback_fns=[CSVLogger])
    learner.fit(1)
    assert (tmp_path / "history.csv").exists()


def v1_epoch_end(self, epoch, smooth_loss, last_metrics, **kwargs):
    return {"stop_training": True}


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("on_train_begin", lambda self, **kwargs: None),
        ("on_train_begin", lambda self, metrics_names, **kwargs: None),
        ("on_epoch_begin", lambda self, epoch, **kwargs: None),
        ("on_batch_begin", lambda self, last_input, last_target, **kwargs: {"last_input": last_input}),
        ("on_batch_begin", lambda self, last_input, last_target, train: None),
        ("on_loss_begin", lambda self, last_output, **kwargs: None),
        ("on_backward_begin", lambda self, smooth_loss, last_loss, **kwargs: None),
        ("on_step_end", lambda self, **kwargs: None),
        ("on_batch_end", lambda self, num_batch, iteration, **kwargs: None),
        ("on_epoch_end", v1_epoch_end),
        ("on_epoch_end", lambda self, epoch, last_metrics: None),
        ("on_train_end", lambda self, **kwargs: None),
        ("on_epoch_finished", lambda self, trainer, row: None),
    ],
)
def test_a_callback_of_v1_is_one_clear_error_before_the_first_epoch(learn, name, method):
    own = type("Mine", (LearnerCallback,), {name: method})
    for how in ({"callbacks": own(learn)}, {}):
        learn.callback_fns = [] if how else [own]
        with pytest.raises(ArgumentError, match=rf"Mine\.{name}.*(write def {name}\(self|would never be called)"):
            learn.fit(1, **how)
    assert learn.trainer.epochs_done == 0


def test_a_callback_that_fits_is_left_alone(learn):
    heard = []

    class Mine(LearnerCallback):
        on_everything = None  # no method

        def on_train_begin(self, t):
            heard.append(t)

        def on_epoch_end(self, *args, **kwargs):
            heard.append(args)

        def on_batch_end(self, trainer, loss, more=None):
            pass

    learn.callback_fns = [Mine(learn)]  # an object is as good as a function that makes it
    learn.fit(1)
    assert len(heard) == 2
    learn.callback_fns = []
    for wrong, said in ((Mine, r"Mine\(learn\)"), (7, "received 7"), ("CSVLogger", "received 'CSVLogger'")):
        with pytest.raises(ArgumentError, match=rf"expected a Callback.*{said}"):
            learn.fit(1, callbacks=[wrong])


@pytest.mark.parametrize("value", [None, "0.5", {"a": 1}, 1j, [None], object()], ids=lambda v: type(v).__name__)
def test_a_metric_that_returns_no_number_is_named_with_the_first_epoch(learn, value):
    learn.metrics = [accuracy, lambda logits, targets: value]
    with pytest.raises(ArgumentError, match=r"metric '<lambda>' returned .*returns one number"):
        learn.fit(3)
    assert learn.trainer.epochs_done == 1


@pytest.mark.parametrize("value", [1, 0.5, np.float32(0.5), np.array([0.5]), torch.tensor(0.5), float("nan")], ids=repr)
def test_a_metric_may_return_any_number(learn, value):
    learn.metrics = [lambda logits, targets: value]
    learn.fit(1)
    assert learn.recorder.rows[0].metrics[0] == pytest.approx(np.asarray(value).item(), nan_ok=True)


def test_two_metrics_of_one_name_are_refused_before_training(learn):
    low, high = partial(fbeta, thresh=0.2), partial(fbeta, thresh=0.5)
    valid_loss = lambda logits, targets: 0.0  # noqa: E731
    valid_loss.name = "valid_loss"
    for metrics, name in (([accuracy, accuracy], "accuracy"), ([low, high], "fbeta"), ([valid_loss], "valid_loss")):
        learn.metrics = metrics
        for train in (learn.fit, learn.lr_find):
            with pytest.raises(ArgumentError, match=rf"two columns .* called '{name}'; name one"):
                train(1)
    low.name = "f_02"
    learn.metrics = [low, high]
    assert learn._new_recorder().metric_names == ["f_02", "fbeta"]


def test_mixup_clipping_and_label_smoothing_train(colour_path, tmp_path):
    data = bunch(colour_path)
    learner = Learner(
        data, small_net(3), loss_func=LabelSmoothingCrossEntropy(), metrics=accuracy, path=tmp_path, silent=True
    )
    learner.mixup().clip_grad(0.5)
    learner.fit_one_cycle(6, 0.05)
    assert learner.validate()[1] > 0.9


def test_a_metric_for_the_other_kind_of_labels_is_refused_at_once(colour_path, tmp_path):
    with pytest.raises(ArgumentError, match="error_rate"):
        Learner(tag_bunch(colour_path), small_net(4), metrics=error_rate, path=tmp_path)


def test_show_results_titles_truth_and_prediction(learn):
    figure = learn.show_results(rows=2, return_fig=True)
    probs, _ = learn.get_preds()
    names = [learn.data.classes[i] for i in probs.argmax(dim=1).tolist()]
    for i, axis in enumerate(figure.axes[:4]):
        assert f"truth: {learn.data.valid_ds.y[i]}" in axis.get_title()
        assert f"said: {names[i]}" in axis.get_title()


def test_summary_counts_parameters_and_shapes(learn):
    text = str(learn.summary())
    total = sum(p.numel() for p in learn.model.parameters())
    assert "Conv2d                  8 × 16 × 16" in text
    assert f"Parameters: {total:,}" in text
    assert "Loss: CrossEntropyFlat" in text


def test_interpretation_of_a_learner(learn):
    learn.fit_one_cycle(6, 0.05)
    interpretation = learn.interpret()
    assert np.trace(interpretation.confusion_matrix()) == 12
    assert interpretation.most_confused() == []
    learn.interpret(DatasetType.Train).plot_top_losses(4, heatmap=True, figsize=(6, 6))


def test_training_without_validation_pictures(colour_path, tmp_path):
    learner = Learner(bunch(colour_path, valid_pct=0.0), small_net(3), metrics=accuracy, path=tmp_path, silent=True)
    learner.fit(1)
    assert learner.recorder.rows[0].valid_loss is None
    with pytest.raises(ArgumentError, match="no pictures in its part Valid"):
        learner.validate()


def test_repr_is_one_readable_line(learn):
    assert repr(learn).startswith("Learner: ")
    assert "3 classes; 0 epochs trained" in repr(learn)


class StopInTheMiddle(Callback):
    """Stop after the second batch."""

    def on_batch_end(self, trainer, loss):
        trainer.stop_training = trainer.batch_no == 1


def test_trackers_pass_over_an_epoch_that_was_stopped_before_validation(learn):
    saving = SaveModelCallback(learn, name="half")
    learn.fit(1, callbacks=[StopInTheMiddle(), saving, EarlyStoppingCallback(learn)])
    assert learn.recorder.rows[0].valid_loss is None
    assert not (learn.path / "models" / "half.safetensors").exists()


def test_a_callback_that_never_began_does_not_end(learn):
    saving = SaveModelCallback(learn, name="best")
    learn.fit(1, callbacks=saving)
    learn.fit(1, 0.1)
    now = learn.get_preds()[0]
    with pytest.raises(ArgumentError, match="monitors 'typo'"):
        learn.fit(1, callbacks=[EarlyStoppingCallback(learn, monitor="typo"), saving])
    assert torch.equal(learn.get_preds()[0], now), "the best of the fit before was not loaded over it"


def test_a_batch_of_one_is_refused_before_training(colour_path, tmp_path, capsys):
    learner = cnn_learner(bunch(colour_path, bs=1), "resnet18", pretrained=False, path=tmp_path)
    capsys.readouterr()
    with pytest.raises(ArgumentError, match="use bs=2 or more"):
        learner.fit(1)
    assert "epoch" not in capsys.readouterr().out


def test_a_relative_path_stays_where_it_was_meant(learn, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    learn.path = "runs"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert learn.save("net", return_path=True) == tmp_path / "runs" / "models" / "net.safetensors"
    learn.path = None
    assert learn.path == learn.data.path


def test_classes_cannot_be_changed_under_the_network(learn):
    classes = learn.data.classes
    for change in (classes.reverse, classes.sort, classes.pop, lambda: classes.append("grey")):
        with pytest.raises(ArgumentError, match=r"cannot be changed here: .* list\(data\.classes\)"):
            change()
    with pytest.raises(ArgumentError, match="cannot be changed here"):
        classes[0] = "azure"
    assert classes == ["blue", "green", "red"] == learn.data.classes
    assert type(pickle.loads(pickle.dumps(classes))) is type(copy.copy(classes)) is list


def test_a_learner_goes_to_another_process_whole(learn):
    learn.fit(1)
    other = pickle.loads(pickle.dumps(learn))
    assert other.validate() == learn.validate()
    other.fit(1)
    assert other.trainer.epochs_done == 2 == learn.trainer.epochs_done + 1


def test_a_batch_of_the_data_is_normalised_for_the_network(colour_path, tmp_path):
    learn = Learner(bunch(colour_path), small_net(3), path=tmp_path, stats=imagenet_stats, silent=True)
    expected = learn.pred_batch(DatasetType.Valid)
    raw, ready = (learn.data.one_batch(DatasetType.Valid, denorm=d) for d in (True, False))
    assert raw.stats is None
    assert ready.stats == imagenet_stats
    for batch in (raw, ready, (ready.x, ready.y)):
        assert torch.equal(learn.pred_batch(batch=batch), expected)
    assert 0 <= raw.x.min() <= raw.x.max() <= 1, "left as it was"
    with pytest.raises(ArgumentError, match="batch is a pair"):
        learn.pred_batch(batch=ready.x)
    ready.stats = cifar_stats
    with pytest.raises(ArgumentError, match="this batch is normalised with"):
        learn.pred_batch(batch=ready)


@pytest.mark.parametrize("other", [None, "valid", (1, 2)])
def test_what_is_no_data_is_named(learn, other):
    with pytest.raises(ArgumentError, match="data is an ImageDataBunch"):
        Learner(other, small_net(3))
    if other is not None:
        with pytest.raises(ArgumentError, match="expected a part of the data"):
            learn.validate(other)


def test_a_function_of_batches_that_loses_pictures_is_named(colour_path, tmp_path):
    def half(batch):
        return batch[0][:4], batch[1]

    def pictures(batch):
        return batch[0]

    for function in (half, pictures):
        learn = Learner(bunch(colour_path, dl_tfms=[function]), small_net(3), path=tmp_path, silent=True)
        with pytest.raises(ArgumentError, match=f"{function.__name__} of dl_tfms takes a batch"):
            learn.fit(1)


def test_mixup_that_is_asked_for_twice_mixes_once(learn):
    learn.mixup(0.3).mixup(0.2)
    assert [cb.alpha for cb in learn.callbacks] == [0.2]
