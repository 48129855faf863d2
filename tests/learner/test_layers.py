"""A layer put into the model later trains; summary, freezing and the optimizer agree; outputs fit the classes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import PIL.Image
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from onecycle.data.bunch import ImageDataBunch
from onecycle.errors import ArgumentError, DataError, OnecycleWarning
from onecycle.learner.cnn import cnn_learner
from onecycle.learner.learner import Learner
from onecycle.model.cnn import regroup
from onecycle.train.losses import AsymmetricLoss


@pytest.fixture
def data(colour_path: Path) -> ImageDataBunch:
    return ImageDataBunch.from_csv(colour_path, "train", suffix=".jpg", size=16, bs=16, pixel_cache="memory")


@pytest.fixture
def tag_data(colour_path: Path) -> ImageDataBunch:
    options = {"csv_labels": "tags.csv", "label_delim": " ", "suffix": ".jpg", "size": 16, "bs": 16}
    return ImageDataBunch.from_csv(colour_path, "train", pixel_cache="memory", **options)


def net(c: int = 3, width: int = 4) -> nn.Sequential:
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(3, width, 3, 2, 1), nn.BatchNorm2d(width), nn.ReLU())
    return nn.Sequential(body, nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, c)))


def learner_of(data: ImageDataBunch, tmp_path: Path, model: nn.Module | None = None, **options) -> Learner:
    model = net(data.c) if model is None else model
    groups = [nn.ModuleList(part.children()) for part in model]
    return Learner(data, model, layer_groups=groups, path=tmp_path, **{"silent": True, **options})


def last(learn: Learner) -> nn.Module:
    learn.model[1][2] = nn.Linear(4, 3)
    return learn.model[1][2]


def head(learn: Learner) -> nn.Module:
    learn.model[1] = nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Dropout(0.1), nn.Linear(4, 3))
    return learn.model[1][3]


def deeper(learn: Learner) -> nn.Module:
    learn.model[1].insert(2, nn.Linear(4, 4))
    return learn.model[1][2]


def first(learn: Learner) -> nn.Module:
    learn.model[0][0] = nn.Conv2d(3, 4, 5, 2, 2)
    return learn.model[0][0]


def whole(learn: Learner) -> nn.Module:
    learn.model = net(width=5)
    return learn.model[1][2]


def normed(learn: Learner) -> nn.Module:
    parametrizations.weight_norm(learn.model[1][2])
    return learn.model[1][2]


CHANGES = [last, head, deeper, first, whole, normed]


@pytest.mark.filterwarnings("ignore:other parameters train now")  # weight_norm works within its layer
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("how", ["at once", "after unfreeze", "after a fit"])
def test_a_layer_put_in_later_trains(data, tmp_path, change: Callable[[Learner], nn.Module], how: str):
    learn = learner_of(data, tmp_path)
    if how == "after a fit":
        learn.fit(1, 1e-2)
    layer = change(learn)
    before = [p.detach().clone() for p in layer.parameters()]
    if how == "after unfreeze":
        learn.unfreeze()
    learn.fit(1, 1e-2)
    assert not any(torch.equal(a, b) for a, b in zip(before, layer.parameters(), strict=True))
    assert sum(len(list(g.parameters())) for g in learn.layer_groups) == len(list(learn.model.parameters()))
    assert len(learn.layer_groups) == 2


@pytest.mark.parametrize("change", CHANGES)
def test_freeze_summary_and_optimizer_agree_about_it(data, tmp_path, change):
    learn = learner_of(data, tmp_path, train_bn=False)
    change(learn)
    learn.freeze()
    of_head = sum(p.numel() for p in learn.model[1].parameters())
    assert sum(p.numel() for p in learn.model.parameters() if p.requires_grad) == of_head
    assert f"of them train: {of_head:,}" in learn.summary()
    learn.fit(1, 1e-2)
    assert sum(p.numel() for p in learn.trainer.optimizer.trainable) == of_head


def test_it_is_said_and_what_belonged_to_the_old_weights_is_forgotten(data, tmp_path, capsys):
    learn = cnn_learner(data, "resnet18", pretrained=False, path=tmp_path)
    version = learn.weights_version
    capsys.readouterr()
    learn.model[1][-1] = nn.Linear(512, 3)
    assert len(learn.layer_groups) == 3
    assert "other layers than before (the first: 1." in " ".join(capsys.readouterr().out.split())
    assert learn.network == {"arch": "resnet18.tv_in1k", "head": {}}  # a layer of the same kind takes its weights again
    assert learn.weights_version > version
    assert learn.layer_groups is learn.layer_groups or len(learn.layer_groups) == 3
    assert capsys.readouterr().out == ""


def test_an_untouched_model_keeps_its_very_groups(data, tmp_path):
    learn = learner_of(data, tmp_path)
    groups = learn.layer_groups
    learn.fit(1)
    learn.model[1][1] = nn.Flatten()  # nothing in it trains
    assert all(a is b for a, b in zip(groups, learn.layer_groups, strict=True))


def test_groups_that_leave_layers_out_are_refused(data, tmp_path):
    model = net()
    with pytest.raises(ArgumentError, match=r"4 of the model's 6 parameters are in no layer group.*0\.0\.weight"):
        Learner(data, model, layer_groups=[nn.ModuleList([model[1]])], path=tmp_path, silent=True)
    other = net()
    with pytest.raises(ArgumentError, match="not part of the model"):
        Learner(data, model, layer_groups=[nn.ModuleList([model]), nn.ModuleList([other])], path=tmp_path, silent=True)
    learn = learner_of(data, tmp_path, model)
    with pytest.raises(ArgumentError, match="in no layer group"):
        learn.layer_groups = [nn.ModuleList([model[0]])]
    learn.layer_groups = [nn.ModuleList([model])]
    assert len(learn.layer_groups) == 1


def test_a_new_layer_far_from_all_others_is_in_the_last_group():
    model = nn.Sequential(net(), nn.Linear(3, 3))
    groups = regroup(model, {"0.0.0.weight": 0, "0.1.2.weight": 1}, 3)
    assert [any(p is model[1].weight for p in group.parameters()) for group in groups] == [False, False, True]
    assert any(p is model[0][0][1].weight for p in groups[0].parameters())
    assert any(p is model[0][1][2].bias for p in groups[1].parameters())


class Pair(nn.Module):
    """A network with a second output, as Inception's."""

    def __init__(self) -> None:
        super().__init__()
        self.net = net()

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.net(x), self.net(x)


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (net(5), r"gives \(1, 5\) for one picture, and the data has 3 classes"),
        (net(2), r"gives \(1, 2\)"),
        (net(1), r"gives \(1, 1\)"),
        (nn.Sequential(net()[0], nn.Conv2d(4, 3, 1)), r"gives \(1, 3, 8, 8\)"),
        (nn.Sequential(net()[0], nn.Sequential(nn.Flatten(), nn.Linear(7, 3))), "cannot take a picture of this data"),
        (Pair(), "gives tuple"),
    ],
)
@pytest.mark.parametrize("ask", ["fit", "validate", "get_preds", "summary", "lr_find"])
def test_outputs_that_are_not_one_a_class_are_refused_before_training(data, tmp_path, model, says, ask):
    learn = Learner(data, model, path=tmp_path, silent=True)
    with pytest.raises(ArgumentError, match=says):
        learn.fit(1) if ask == "fit" else getattr(learn, ask)()
    assert learn.trainer.epochs_done == 0


def test_outputs_are_looked_at_again_where_the_head_or_the_size_changed(data, tmp_path):
    learn = learner_of(data, tmp_path)
    learn.fit(1)
    learn.model[1][2] = nn.Linear(4, 9)
    with pytest.raises(ArgumentError, match=r"gives \(1, 9\)"):
        learn.fit(1)
    flat = nn.Sequential(net()[0], nn.Sequential(nn.Flatten(), nn.Linear(256, 3)))
    learn = learner_of(data, tmp_path, flat)
    learn.fit(1)
    learn.data = data.resized(24)
    with pytest.raises(ArgumentError, match="cannot take a picture of this data, 3 × 24 × 24"):
        learn.fit(1)


def test_outputs_of_tags(colour_path, tmp_path):
    tags = ImageDataBunch.from_csv(
        colour_path, "train", " ", "tags.csv", suffix=".jpg", size=16, bs=16, pixel_cache="memory"
    )
    learn = learner_of(tags, tmp_path, net(3), loss_func=AsymmetricLoss())
    with pytest.raises(ArgumentError, match="data has 4 tags"):
        learn.fit(1)


@pytest.mark.parametrize(("end", "is_multi"), [(nn.Softmax(1), False), (nn.Softmax(1), True), (nn.Sigmoid(), True)])
def test_a_model_that_ends_in_the_activation_of_its_loss_is_refused(data, tag_data, tmp_path, end, is_multi):
    bunch = tag_data if is_multi else data
    learn = learner_of(bunch, tmp_path, net(bunch.c).append(nn.Sequential(end)))
    end_is = "sigmoid" if is_multi else "softmax"  # shares of one, too, lie in 0 to 1 however far the picture is
    for judge in (learn.validate, lambda: learn.fit(1), learn.get_preds):
        with pytest.raises(ArgumentError, match=f"the model ends in a {end_is}, and the loss takes the {end_is}"):
            judge()


def test_outputs_between_0_and_1_by_chance_or_by_a_head_of_zeros_are_logits(data, tag_data, tmp_path):
    for bunch in (data, tag_data):
        zeros = net(bunch.c)
        nn.init.zeros_(zeros[1][2].weight)
        nn.init.constant_(zeros[1][2].bias, 0.25)
        assert len(learner_of(bunch, tmp_path, zeros).validate()) == 1
    logs = net(data.c).append(nn.Sequential(nn.LogSoftmax(1)))  # their softmax is what they are the logarithms of
    assert len(learner_of(data, tmp_path, logs).validate()) == 1


@pytest.mark.parametrize("cast", [nn.Module.half, nn.Module.double, nn.Module.bfloat16])
def test_weights_of_another_type_are_named(data, tmp_path, cast):
    learn = learner_of(data, tmp_path)
    cast(learn.model)
    with pytest.raises(ArgumentError, match=r"weights in (b?float16|float64), .*learn\.model\.float\(\)"):
        learn.fit(1)
    with pytest.raises(ArgumentError, match=r"learn\.model\.float\(\)"):
        learn.predict(data.valid_ds.items[0])


def test_what_makes_the_network_again_is_forgotten_with_any_other_layer(data, tmp_path):
    learn = cnn_learner(data, "resnet18", pretrained=False, path=tmp_path, silent=True)
    made = learn.network
    learn.model[1][-2].p = 0.1  # dropout: of training alone
    assert learn.network == made == {"arch": "resnet18.tv_in1k", "head": {}}
    learn.model[0][2] = nn.LeakyReLU()
    assert learn.network is None
    learn.model[0][2] = nn.ReLU(inplace=True)
    assert learn.network == made
    learn.model[0][3].stride = 1
    assert learn.network is None


def test_pictures_of_several_sizes_are_tried_before_training(colour_path, tmp_path):
    rows = [("train", 40, 40), ("thin", 4, 60), ("low", 60, 5)]
    frame, folder = [], tmp_path / "strips"
    folder.mkdir()
    for i in range(12):
        name, height, width = rows[i % 3]
        PIL.Image.fromarray(np.full((height, width, 3), 20 * i, dtype=np.uint8)).save(folder / f"{name}{i}.png")
        frame.append((f"{name}{i}.png", "ab"[i % 2]))
    frame = pd.DataFrame(frame)
    options = {"size": None, "pixel_cache": "memory", "valid_pct": 0.25}
    with pytest.raises(DataError, match="differ in size"):
        learner_of(ImageDataBunch.from_df(folder, frame, bs=4, **options), tmp_path, net(2)).fit(1)
    one = ImageDataBunch.from_df(folder, frame, bs=1, **options)
    deep = nn.Sequential(nn.Sequential(nn.Conv2d(3, 2, 7)), net(2)[1][:2].append(nn.Linear(2, 2)))
    learn = learner_of(one, tmp_path, deep)
    with pytest.raises(ArgumentError, match=r"cannot take a picture of this data, 3 × (4 × 60|60 × 5)"):
        learn.fit(1)
    assert learn.trainer.epochs_done == 0


class Ends(nn.Module):
    """A network with something at its end."""

    def __init__(self, end) -> None:
        super().__init__()
        self.net, self.end = net(), end

    def forward(self, x):
        return self.end(self.net(x))


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (lambda: Ends(lambda out: nn.functional.dropout(out + 3, 0.5)), "other outputs for the same picture each time"),
        (lambda: Ends(lambda out: out - out.mean(0)), "depends on the other pictures of its batch"),
        (lambda: nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False), net()), "depends on the other pictures"),
    ],
)
def test_outputs_that_are_no_function_of_the_picture_are_said(data, tmp_path, model, says):
    torch.manual_seed(1)
    with pytest.warns(OnecycleWarning, match=says):
        Learner(data, model(), path=tmp_path, silent=True).validate()


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_where_gradients_are_off_a_learner_judges_and_trains(data, tmp_path, mode):
    learn = learner_of(data, tmp_path)
    before = learn.model[1][2].weight.detach().clone()
    with mode():
        learn.validate()
    with torch.no_grad():
        learn.fit(1, 1e-2)
        assert not torch.is_grad_enabled()
    assert not torch.equal(learn.model[1][2].weight, before)
