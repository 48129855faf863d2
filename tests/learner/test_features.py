"""Training the head on cached features: the same numbers as on pictures, and never on stale ones."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from onecycle.data.augment.transforms import get_transforms
from onecycle.data.batches import imagenet_stats
from onecycle.data.bunch import ImageDataBunch
from onecycle.errors import ArgumentError, DataError
from onecycle.learner import features
from onecycle.learner.cnn import cnn_learner, create_cnn
from onecycle.learner.features import FrozenFeatures
from onecycle.learner.fine_tune.timing import hold_norms
from onecycle.learner.learner import Learner
from onecycle.model.cnn import group_of_each
from onecycle.train.callbacks import AccumulateScheduler, Callback, CSVLogger
from onecycle.train.metrics import accuracy, fbeta
from onecycle.train.monitors import EarlyStoppingCallback, SaveModelCallback
from onecycle.train.schedules import Constant


def bunch(path: Path, **options: Any) -> ImageDataBunch:
    options = {"folder": "train", "suffix": ".jpg", "size": 32, "bs": 16, **options}
    return ImageDataBunch.from_csv(path, **options)


def net(c: int = 3, p: float = 0.3) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        body = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        body[1].running_mean.uniform_(-0.2, 0.2)
        head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(8), nn.Dropout(p), nn.Linear(8, c))
        return nn.Sequential(body, head)


def learner(data: ImageDataBunch, tmp_path: Path, **options: Any) -> Learner:
    """Return a learner whose head trains, the body's batch-norm frozen too."""
    model = options.pop("model", None) or net(data.c)
    options = {"metrics": [], "train_bn": False, "silent": True, "path": tmp_path, **options}
    made = Learner(data, model, layer_groups=[nn.ModuleList([*m.children()]) for m in model], **options)
    made.freeze()
    return made


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of views of each pass over the training pictures, as they are made."""
    seen: list[int] = []
    compute = features._compute

    def counted(fixed: nn.Module, parts: Any, **options: Any) -> Any:
        seen.append(parts[0].n_views)
        return compute(fixed, parts, **options)

    monkeypatch.setattr(features, "_compute", counted)
    return seen


def check_fresh(learn: Learner) -> None:
    """The last row was measured on features of the network as it is now."""
    assert learn.validate()[0] == pytest.approx(learn.recorder.val_losses[-1], abs=1e-4)


# --- the same maths -------------------------------------------------------------------------------


@pytest.mark.parametrize("bs", [16, 11])
def test_training_on_features_gives_the_losses_of_training_on_pictures(colour_path, tmp_path, bs, passes):
    def run(precompute: bool | int) -> tuple[Learner, list[float]]:
        learn = learner(bunch(colour_path, bs=bs), tmp_path, precompute=precompute, metrics=accuracy)
        learn.fit_one_cycle(3, 0.05)
        learn.fit(1, 0.01)
        return learn, learn.recorder.raw_losses

    (by_pictures, expected), (by_features, found) = run(False), run(0)
    assert passes == [1], "the body is passed once in two fits"
    assert len(found) == 48 // bs
    assert found == pytest.approx(expected, abs=1e-5)
    rows = zip(by_features.recorder.rows, by_pictures.recorder.rows, strict=True)
    for a, b in rows:
        assert (a.valid_loss, *a.metrics) == pytest.approx((b.valid_loss, *b.metrics), abs=1e-5)
    states = zip(by_features.model.state_dict().values(), by_pictures.model.state_dict().values(), strict=True)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in states)
    check_fresh(by_features)


def half_frozen(path: Path, tmp_path: Path, precompute: bool | int, **options: Any) -> Learner:
    """A network on several stages whose second half trains, all its batch-norm layers as they are."""
    learn = cnn_learner(
        bunch(path, **options), "test_efficientnet", levels="auto", pretrained=False, train_bn=False,
        precompute=precompute, metrics=accuracy, silent=True, path=tmp_path,
    )  # fmt: skip
    learn.freeze_to(-2)
    hold_norms(learn.layer_groups)
    return learn


def test_training_the_last_stages_on_maps_gives_the_losses_of_training_on_pictures(colour_path, tmp_path, passes):
    def run(precompute: bool | int) -> Learner:
        learn = half_frozen(colour_path, tmp_path, precompute)
        learn.fit_one_cycle(2, 3e-3)
        learn.fit(1, 1e-3)
        return learn

    by_pictures, by_maps = run(False), run(0)
    assert passes == [1], "the first half is passed once in two fits"
    assert by_maps.body_trained
    assert by_maps.recorder.raw_losses == pytest.approx(by_pictures.recorder.raw_losses, abs=1e-3)
    start = half_frozen(colour_path, tmp_path, False).model.state_dict()
    groups = group_of_each(by_maps.model, by_maps.layer_groups)
    moved = {groups[n] for n, p in by_maps.model.named_parameters() if not torch.equal(p, start[n])}
    assert moved == {1, 2}, "the first half stands still"
    assert all(torch.equal(v, start[n]) for n, v in by_maps.model.state_dict().items() if n.startswith("0.body.net.bn"))
    check_fresh(by_maps)


def test_maps_of_views_are_kept_for_each_picture_and_features_of_the_whole_body_are_not_mixed_up(
    colour_path, tmp_path, passes, capsys
):
    learn = half_frozen(colour_path, tmp_path, 2, ds_tfms=get_transforms())
    learn.fit(1, 1e-3)
    maps = learn.frozen_features._cached.sets[0].features
    assert maps.shape[:2] == (3, 48)
    assert maps.ndim == 5
    learn.freeze()
    learn.silent = False
    learn.fit(1, 1e-3)
    assert "computed again: other layers are frozen now." in capsys.readouterr().out
    assert passes == [3, 3]
    assert learn.frozen_features._cached.sets[0].features.ndim == 3
    check_fresh(learn)


def test_maps_that_the_heads_features_go_by_are_not_computed_again(colour_path, tmp_path, monkeypatch):
    """Features and maps are the same to the bit as each computed for itself, with 4 views instead of 2 + 3."""
    data, pictures = bunch(colour_path, ds_tfms=get_transforms(), bs=7), []
    views = features._views
    monkeypatch.setattr(features, "_views", lambda v, *steps: pictures.append(v.loader) or views(v, *steps))

    def run(*, by_maps: bool) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
        learn = cnn_learner(
            data, "test_efficientnet", levels="auto", pretrained=False, precompute=0, silent=True, path=tmp_path
        )
        kept = learn.frozen_features
        if by_maps:
            learn.freeze_to(-2)
            hold_norms(learn.layer_groups)
            kept.go_by_maps(learn.model)
        learn.freeze()
        learn.solve_head()
        of_head = [one.features for one in kept._cached.sets]
        learn.precompute = 2
        learn.freeze_to(-2)
        hold_norms(learn.layer_groups)
        learn.fit(1, 1e-3)
        assert kept._maps is None, "the memory is given back"
        return *of_head, [one.features for one in kept._cached.sets]

    alone = run(by_maps=False)
    assert len(pictures) == 4
    pictures.clear()
    together = run(by_maps=True)
    assert [len(list(loader)) > 0 for loader in pictures] == [True] * 6
    assert all(torch.equal(a, b) for a, b in zip(alone[:2], together[:2], strict=True))
    assert all(torch.equal(a, b) for a, b in zip(alone[2], together[2], strict=True))


def test_validation_is_predicted_from_the_features_at_hand(colour_path, tmp_path, monkeypatch):
    learn = learner(bunch(colour_path), tmp_path, precompute=0)
    learn.fit(1, 0.05)
    seen: list[int] = []
    learn.model[0].register_forward_hook(lambda *_: seen.append(1))
    probs = learn.get_preds()[0]
    assert not seen, "no picture goes through the body again"
    learn.frozen_features.forget()
    assert torch.allclose(probs, learn.get_preds()[0], atol=1e-5)
    assert seen


def test_create_cnn_precomputes_views_and_validates_as_on_pictures(colour_path, tmp_path, capsys):
    data = bunch(colour_path, csv_labels="tags.csv", label_delim=" ", ds_tfms=get_transforms())
    learn = create_cnn(data, "tf_efficientnet_lite0", metrics=fbeta, path=tmp_path, precompute=True)
    assert [p.requires_grad for p in learn.model[0].parameters()].count(True) == 0, "batch-norms stand still"
    learn.fit_one_cycle(2, 0.01)
    assert "precomputed" not in capsys.readouterr().out
    assert learn.frozen_features.describe() == (
        "features of the frozen layers computed once (4 views of 48 pictures, 2 MB)"
    )
    views = learn.frozen_features._cached.sets[0].features
    assert views.shape == (4, 48, 2560)
    assert not torch.allclose(views[0], views[1], atol=1e-3)
    assert not torch.allclose(views[1], views[2], atol=1e-3)
    check_fresh(learn)


def test_the_number_of_views_is_the_argument(colour_path, tmp_path):
    with_tfms = bunch(colour_path, ds_tfms=get_transforms())
    for data, precompute, views in (
        (with_tfms, True, 4),
        (with_tfms, 1, 2),
        (with_tfms, 0, 1),
        (bunch(colour_path), True, 1),
        (bunch(colour_path), 5, 1),
    ):
        learn = learner(data, tmp_path, precompute=precompute)
        learn.fit(1)
        assert len(learn.frozen_features._cached.sets[0].features) == views
    for wrong in (-1, 1.5, "yes"):
        with pytest.raises(ArgumentError, match="number of augmented views"):
            learner(with_tfms, tmp_path, precompute=wrong)


def test_the_result_does_not_depend_on_threads_and_does_on_the_seed(colour_path, tmp_path):
    def run(**options: Any) -> dict[str, torch.Tensor]:
        learn = learner(bunch(colour_path, ds_tfms=get_transforms(), **options), tmp_path, precompute=2)
        learn.fit(2, 0.02)
        return learn.model.state_dict()

    first = run()
    for options in ({}, {"num_workers": 1}, {"num_workers": 5}):
        assert all(torch.equal(v, first[k]) for k, v in run(**options).items())
    assert not all(torch.equal(v, first[k]) for k, v in run(seed=1).items())


def test_features_in_a_file_train_alike(colour_path, tmp_path):
    def run(max_bytes: int | None) -> tuple[list[float], str]:
        learn = learner(bunch(colour_path), tmp_path, precompute=0)
        learn.frozen_features = FrozenFeatures(max_bytes=max_bytes)
        learn.fit(2, 0.02)
        return learn.recorder.raw_losses, learn.frozen_features.describe()

    (expected, in_memory), (found, in_file) = run(None), run(0)
    assert found == expected
    assert "temporary file" in in_file
    assert "temporary file" not in in_memory


def test_lr_find_sweeps_on_features_and_leaves_them_valid(colour_path, tmp_path, passes, capsys):
    learn = learner(bunch(colour_path), tmp_path, precompute=0)
    before = {k: v.clone() for k, v in learn.model.state_dict().items()}
    learn.lr_find(num_it=9, stop_div=False)
    assert len(learn.recorder.lrs) == 9
    assert learn.trainer.head is None
    assert all(torch.equal(v, before[k]) for k, v in learn.model.state_dict().items())
    learn.fit(1)
    assert passes == [1]
    capsys.readouterr()


def test_training_without_validation_pictures(colour_path, tmp_path):
    learn = learner(bunch(colour_path, valid_pct=0.0), tmp_path, precompute=0)
    learn.fit(1)
    assert learn.recorder.rows[0].valid_loss is None


# --- when features do not hold any more -----------------------------------------------------------


def test_after_training_the_body_features_are_computed_anew(colour_path, tmp_path, passes, capsys):
    learn = learner(bunch(colour_path), tmp_path, precompute=0, silent=False)
    learn.fit(1, 0.01)
    learn.save("head")
    learn.unfreeze()
    learn.fit(1, 0.05)
    assert passes == [1]
    said = capsys.readouterr().out
    assert said.count("The network is fed pictures, not precomputed features: more than the head trains.") == 1
    learn.freeze()
    learn.fit(1, 0.01)
    assert passes == [1, 1]
    check_fresh(learn)
    learn.load("head")
    learn.fit(1, 0.01)
    assert passes == [1, 1, 1]
    assert "Features are computed again: the body's weights or layers changed." in capsys.readouterr().out
    check_fresh(learn)


@pytest.mark.filterwarnings("ignore:these weights were trained on pixels normalised with")
def test_whatever_changes_the_features_makes_them_anew(colour_path, tmp_path, passes, capsys):
    learn = learner(bunch(colour_path), tmp_path, precompute=0, silent=False)
    learn.fit(1, 0.01)
    changes = {
        "other data": lambda: setattr(learn, "data", bunch(colour_path, size=24, ds_tfms=get_transforms())),
        "pixel statistics changed": lambda: learn.data.normalize(imagenet_stats),
        "number of views changed": lambda: setattr(learn, "precompute", 2),
        "weights or layers changed": lambda: learn.model[0][0].weight.data.mul_(2),
        "layers changed": lambda: learn.model[0].__setitem__(2, nn.Tanh()),
    }
    for n, (reason, change) in enumerate(changes.items(), start=1):
        capsys.readouterr()
        change()
        learn.fit(1, 0.01)
        assert len(passes) == n + 1
        assert reason in capsys.readouterr().out
        check_fresh(learn)
        learn.fit(1, 0.01)
        assert len(passes) == n + 1, "and only then"


def test_precompute_false_is_the_off_switch(colour_path, tmp_path, passes):
    learn = learner(bunch(colour_path), tmp_path, precompute=True, train_bn=True)
    norm = learn.model[0][1]
    learn.fit(1, 0.01)
    assert not norm.weight.requires_grad
    learn.precompute = False
    assert norm.weight.requires_grad, "batch-norms of frozen groups train again, as in v1"
    mean = norm.running_mean.clone()
    learn.fit(1, 0.01)
    assert passes == [1]
    assert not torch.equal(norm.running_mean, mean)
    learn.precompute = 0
    assert not norm.weight.requires_grad
    learn.fit(1, 0.01)
    assert passes == [1, 1]
    check_fresh(learn)


# --- what goes on in the loop ---------------------------------------------------------------------


class Breaks(Callback):
    def on_epoch_end(self, trainer: Any, row: Any) -> None:
        raise KeyboardInterrupt


def test_the_whole_model_is_back_however_the_fit_ends(colour_path, tmp_path):
    learn = learner(bunch(colour_path), tmp_path, precompute=0)
    with pytest.raises(KeyboardInterrupt):
        learn.fit(1, callbacks=Breaks())
    assert learn.trainer.head is None
    assert learn.get_preds()[0].shape == (12, 3)


def test_callbacks_that_keep_models_keep_the_whole_one(colour_path, tmp_path):
    learn = learner(bunch(colour_path), tmp_path, precompute=0, metrics=accuracy)
    watching = [
        SaveModelCallback(learn, name="best"),
        CSVLogger(learn),
        EarlyStoppingCallback(learn, patience=2),
        AccumulateScheduler(learn, n_step=2),
    ]
    learn.fit(4, 0.5, callbacks=watching)
    assert learn.validate()[0] == pytest.approx(min(learn.recorder.val_losses), abs=1e-4)
    rows = (tmp_path / "history.csv").read_text().splitlines()
    assert len(rows) == len(learn.recorder.rows) + 1
    other = learner(bunch(colour_path), tmp_path).load("best", with_opt=False)
    assert torch.allclose(other.get_preds()[0], learn.get_preds()[0], atol=1e-6)


class Looks(Callback):
    def on_batch_begin(self, trainer: Any, batch: Any, rng: Any) -> None:
        self.shape = tuple(batch.x.shape)


class LooksAtFeatures(Looks):
    takes_features = True


def test_what_works_on_pictures_is_fed_pictures_and_says_so(colour_path, tmp_path, passes, capsys):
    learn = learner(bunch(colour_path), tmp_path, precompute=0, silent=False)
    looking = Looks()
    learn.fit(1, callbacks=looking)
    assert looking.shape == (16, 3, 32, 32)
    assert "not precomputed features: Looks works on the pictures of a batch." in capsys.readouterr().out
    looking = LooksAtFeatures()
    learn.fit(1, callbacks=looking)
    assert looking.shape == (16, 8)
    learn.mixup()
    learn.fit(1)
    assert "MixUpCallback works on the pictures" in capsys.readouterr().out
    with_tfms = learner(
        bunch(colour_path, dl_tfms=[lambda xy: (xy[0] * 0.5, xy[1])]), tmp_path, precompute=0, silent=False
    )
    with_tfms.fit(1)
    assert "dl_tfms work on whole batches" in capsys.readouterr().out
    assert passes == [1]


def test_a_model_without_a_head_is_fed_pictures(colour_path, tmp_path, capsys):
    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.net(x)

    learn = Learner(bunch(colour_path), Whole(), path=tmp_path, precompute=True)
    learn.fit(1)
    assert "the model is not nn.Sequential(body, head)" in capsys.readouterr().out


def test_without_room_for_features_the_network_is_fed_pictures(colour_path, tmp_path, monkeypatch, capsys):
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(features, "empty_features", full)
    learn = learner(bunch(colour_path), tmp_path, precompute=0, silent=False)
    learn.fit(1)
    out = capsys.readouterr().out
    assert "has no room for them" in out
    assert "No space left" in out
    assert learn.recorder.val_losses[0] > 0


def test_a_silent_learner_says_nothing(colour_path, tmp_path, capsys):
    learn = learner(bunch(colour_path), tmp_path, precompute=0).mixup()
    learn.fit(1)
    assert capsys.readouterr().out == ""


def test_maps_of_different_shapes_are_a_clear_error(tmp_path):
    (tmp_path / "train").mkdir()
    for i, side in enumerate((20, 20, 26, 26, 32)):
        pixels = np.full((side, side, 3), 40 * i, dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "train" / f"p{i}.png")
    table = pd.DataFrame({"name": [f"p{i}" for i in range(5)], "label": list("ababa")})
    data = ImageDataBunch.from_df(tmp_path, table, "train", suffix=".png", bs=1, valid_pct=0.2)
    head = nn.Sequential(nn.Conv2d(8, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    learn = learner(data, tmp_path, precompute=0, model=nn.Sequential(net()[0], head))
    with pytest.raises(DataError, match="pass size=224, say, or precompute=False"):
        learn.fit(1)
    assert learn.trainer.head is None


# --- how deep gradients go ------------------------------------------------------------------------


@pytest.mark.parametrize("precompute", [0, False])
def test_gradients_reach_no_deeper_than_the_groups_that_train(colour_path, tmp_path, precompute):
    data = bunch(colour_path)
    learn = cnn_learner(
        data, "resnet18", pretrained=False, path=tmp_path, silent=True, precompute=precompute,
        normalize=False,
    )  # fmt: skip
    learn.freeze_to(1)
    has_graph: dict[int, bool] = {}
    for i in range(8):
        learn.model[0][i].register_forward_hook(lambda _m, _a, out, i=i: has_graph.__setitem__(i, out.requires_grad))
    learn.trainer.fit(1, Constant((1e-3,) * 3), data.train_dl, recorder=learn.recorder)
    first = 6  # layer3, where the second group of a ResNet begins
    deeper = [has_graph[i] for i in range(first)]
    assert all(has_graph[i] for i in range(first, 8))
    assert any(deeper) is (precompute is False), "v1's way lets the batch-norms below train"
