"""A head that reads several stages: which maps are read, what is pooled, and that its statistics stand still."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from onecycle.errors import ArgumentError
from onecycle.evaluation.gradcam import grad_cam
from onecycle.model.backbones import TimmBody, build_body
from onecycle.model.cnn import create_cnn_model, freeze_to
from onecycle.model.levels import (
    LevelNorm,
    LevelPool,
    SignedRoot,
    create_levels_head,
    cut_where_frozen,
    layers_in_turn,
    plain_view,
    read_levels,
    reads_levels,
    views_of,
)


def chain() -> nn.Sequential:
    """Three resolutions of 4, 8 and 8 channels, the last of two layers."""
    first = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU())
    return nn.Sequential(first, nn.Conv2d(4, 8, 3, 2, 1), nn.MaxPool2d(2), nn.ReLU())


def test_a_chain_gives_the_last_map_of_each_resolution():
    body, x = chain(), torch.randn(2, 3, 32, 32)
    levels, channels = read_levels(body)
    maps = levels(x)
    assert channels == [4, 8, 8]
    assert [tuple(m.shape[2:]) for m in maps] == [(16, 16), (8, 8), (4, 4)]
    torch.testing.assert_close(maps[0], body[0](x))
    torch.testing.assert_close(maps[-1], body(x))
    assert read_levels(body, 2)[1] == [8, 8]


FAMILIES = (
    "test_efficientnet", "test_vit", "test_convnext", "test_resnet", "test_byobnet", "test_mambaout", "test_nfnet",
    "test_maxvit", "ghostnet_050", "mobilevit_xxs",
    # A parameter of four dimensions before the first convolution, or that convolution takes other channels than three:
    "pit_ti_224", "csatv2",
    # Blocks for the class token alone, which a body does not need:
    "xcit_nano_12_p16_224",
)  # fmt: skip


@pytest.mark.parametrize("name", FAMILIES)
def test_any_timm_network_ends_in_its_own_output(name):
    body = build_body(name, False)
    levels, channels = read_levels(body.module)
    levels.eval()
    x = torch.randn(2, 3, *body.input_size)
    with torch.no_grad():
        maps = levels(x)
        torch.testing.assert_close(maps[-1], body.module(x))
    assert 1 < len(maps) <= 6
    assert [m.shape[1] for m in maps] == channels


def test_a_body_of_which_nothing_is_known_gives_its_last_map():
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 5, 3)

        def forward(self, x):
            return self.conv(x).relu()

    levels, channels = read_levels(Own())
    assert channels == [5]
    assert len(levels(torch.zeros(1, 3, 8, 8))) == 1


class Net(nn.Module):
    """A network such as timm's, whose stages are two; ``broken`` where they are read, by this error."""

    def __init__(self, broken: Exception | None = None) -> None:
        super().__init__()
        self.first, self.second, self.broken = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 6, 3, 2, 1), broken

    def forward_features(self, x):
        return self.second(self.first(x))

    def forward_intermediates(self, x, indices=None, *, norm=False, output_fmt="NCHW"):
        if self.broken is not None:
            raise self.broken
        if norm:
            raise AssertionError("normalization of features not supported")
        maps = [self.first(x), self.second(self.first(x))]
        return maps[-1], maps if indices is None else [maps[i] for i in indices]


def test_a_family_without_a_norm_at_its_end_gives_its_maps_as_they_are():
    levels, channels = read_levels(TimmBody(Net(), "NCHW"))
    assert channels == [4, 6]
    assert [tuple(m.shape) for m in levels(torch.zeros(1, 3, 8, 8))] == [(1, 4, 4, 4), (1, 6, 2, 2)]


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        TypeError("'Identity' object is not iterable"),
        AttributeError("'Net' object has no attribute 'third'"),
        AssertionError("Input features can only change w/ the norm removed."),
        ValueError("not enough values to unpack"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_broken_network_is_no_network_without_stages(error):
    with pytest.raises(type(error), match=error.args[0]):
        read_levels(TimmBody(Net(error), "NCHW"))


def test_a_family_that_does_not_give_its_stages_has_its_last_map():
    class Old(nn.Module):
        def forward_features(self, x):
            return x[:, :2]

    assert read_levels(TimmBody(Old(), "NCHW"))[1] == [2]


def test_a_body_of_four_colour_channels_is_looked_at_with_such_a_picture():
    body = build_body("test_efficientnet", False, in_chans=4).module
    levels, channels = read_levels(body)
    assert [m.shape[1] for m in levels(torch.zeros(1, 4, 64, 64))] == channels


@pytest.mark.parametrize(
    "error", [RuntimeError("of its own"), TypeError("of its own")], ids=["RuntimeError", "TypeError"]
)
def test_a_broken_body_of_the_users_own_is_not_read_either(error):
    class Broken(nn.Module):
        def forward(self, x):
            raise error

    with pytest.raises(type(error), match="of its own"):
        read_levels(nn.Sequential(nn.Conv2d(3, 4, 3), Broken()))


def test_pooled_are_mean_and_deviation_of_each_channel():
    maps = [torch.randn(3, 2, 5, 4) + 2, torch.randn(3, 4, 2, 2)]
    pooled = LevelPool()(maps)
    expected = [f(m) for m in maps for f in (lambda m: m.mean((2, 3)), lambda m: m.std((2, 3), unbiased=False))]
    torch.testing.assert_close(pooled, torch.cat(expected, 1), atol=1e-4, rtol=1e-4)


def test_a_flat_map_has_no_deviation_but_that_of_its_own_rounding():
    noise = torch.randn(1, 3, 40, 50, generator=torch.Generator().manual_seed(0)).double()
    flat = torch.tensor([0.1, 3.0, 90.0]).view(1, 3, 1, 1) * (1 + 1e-6 * noise)
    exact, found = (LevelPool()([maps])[0, 3:] for maps in (flat, flat.float()))
    assert torch.allclose(found.double(), exact, rtol=0.05, atol=0)


def test_the_root_keeps_the_sign_and_its_gradient_is_finite_where_relu_leaves_zeros():
    torch.testing.assert_close(
        SignedRoot()(torch.tensor([-4.0, 9.0, 0.0])), torch.tensor([-2.0, 3.0, 0.0]), atol=1e-3, rtol=0
    )
    x = torch.zeros(2, 3, 4, 4, requires_grad=True)
    create = create_levels_head([3], 2)
    nn.init.ones_(create[-1].weight)
    create([x.relu()]).sum().backward()
    assert torch.isfinite(x.grad).all()


def test_statistics_that_were_set_stand_still_in_training_and_in_a_copy():
    norm, x = LevelNorm([4, 16]), torch.randn(50, 20) * 3 + 1
    norm.set_statistics(x)
    expected = torch.cat([torch.full((4,), 4**-0.25), torch.full((16,), 16**-0.25)])
    torch.testing.assert_close(norm(x).std(0, unbiased=False), expected, atol=1e-4, rtol=1e-4)
    loaded = LevelNorm([4, 16])
    with torch.no_grad():
        for name, tensor in loaded.state_dict().items():
            tensor.copy_(norm.state_dict()[name])
    for one in (norm, loaded, copy.deepcopy(norm)):
        one.train()
        torch.testing.assert_close(one(x + 5), norm(x + 5))
        torch.testing.assert_close(one.running_mean, x.mean(0))


def test_before_that_it_learns_them_as_batch_norm_does():
    norm, x = LevelNorm([4]), torch.randn(50, 4) + 3
    norm.train()
    norm(x)
    assert float(norm.running_mean.mean()) > 0.2


def test_a_model_with_levels_has_the_body_of_one_without():
    plain, levels = (
        create_cnn_model("test_efficientnet", 3, pretrained=False, seed=1, **o) for o in ({}, {"levels": "auto"})
    )
    assert reads_levels(levels.model)
    assert not reads_levels(plain.model)
    ours, theirs = levels.model[0].body.state_dict(), plain.model[0].state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert len(levels.layer_groups) == len(plain.layer_groups)
    x = torch.randn(2, 3, 64, 64)
    assert levels.model(x).shape == (2, 3)
    assert grad_cam(levels.model, x, 1).shape[0] == 2


@pytest.mark.parametrize("options", [{"levels": 0}, {"levels": "all"}, {"levels": "auto", "ps": 0.1}])
def test_levels_that_cannot_work_are_refused(options):
    with pytest.raises(ArgumentError, match="levels"):
        create_cnn_model("test_resnet", 2, pretrained=False, **options)


def half_frozen(arch: str) -> nn.Sequential:
    """A network on several stages, its first half frozen and its head not zero."""
    made = create_cnn_model(arch, 3, pretrained=False, levels="auto")
    nn.init.normal_(made.model[1][3].weight, generator=torch.Generator().manual_seed(1))
    freeze_to(made.layer_groups, -2, train_bn=False)
    return made.model


@pytest.mark.parametrize("name", ["test_efficientnet", "test_convnext", "test_resnet"])
def test_a_network_cut_where_it_begins_to_train_gives_the_same_from_any_shape_of_picture(name):
    model = half_frozen(name).eval()
    lower, upper = cut_where_frozen(model).eval()
    assert not any(p.requires_grad for p in lower.parameters())
    for shape in [(2, 3, 64, 96), (1, 3, 32, 32)]:
        x = torch.rand(shape)
        with torch.no_grad():
            kept = lower(x)
            torch.testing.assert_close(upper(kept), model(x), atol=1e-5, rtol=1e-4)
        assert kept.shape[1] > upper[0].n_channels, "the pooled values of the first stages lie beside the map"


def test_the_cut_shares_layers_and_trains_the_same_ones():
    model = half_frozen("test_efficientnet")
    lower, upper = cut_where_frozen(model)
    own = {id(p) for p in model.parameters()}
    assert {id(p) for part in (lower, upper) for p in part.parameters()} == own
    trains = {id(p) for p in model.parameters() if p.requires_grad}
    assert {id(p) for p in upper.parameters()} == trains
    upper(lower(torch.rand(4, 3, 64, 64))).sum().backward()
    assert all((p.grad is not None) == p.requires_grad for p in model.parameters())


def test_what_cannot_be_cut_is_left_as_it_is():
    whole = create_cnn_model("test_efficientnet", 3, pretrained=False, levels="auto")
    assert cut_where_frozen(whole.model) is whole.model, "its first layer trains"
    freeze_to(whole.layer_groups, -1, train_bn=False)
    assert cut_where_frozen(whole.model) is whole.model, "its whole body stands still"
    usual = create_cnn_model("test_efficientnet", 3, pretrained=False)
    freeze_to(usual.layer_groups, -2, train_bn=False)
    assert cut_where_frozen(usual.model) is usual.model, "its head reads one map"
    tokens = half_frozen("test_vit")
    assert layers_in_turn(tokens[0]) is None
    assert cut_where_frozen(tokens) is tokens


def test_the_norm_of_levels_is_a_batch_norm_in_evaluation():
    norm, x = LevelNorm([4, 6]), torch.randn(7, 10)
    norm.set_statistics(torch.randn(50, 10) * 3 + 1)
    expected = nn.functional.batch_norm(x, norm.running_mean, norm.running_var, eps=norm.eps) * norm.level_weights
    assert torch.allclose(norm(x), expected, atol=1e-6)


# --- views ----------------------------------------------------------------------------------------


def viewed(views: int) -> nn.Sequential:
    torch.manual_seed(1)
    maps, channels = read_levels(chain(), views=views)
    head = create_levels_head(channels, 3)
    nn.init.normal_(head[3].weight)
    head[2].set_statistics(torch.randn(20, 40))
    return nn.Sequential(maps, head)


def test_in_evaluation_mode_logits_are_the_mean_over_mirrored_views_and_in_training_those_of_the_picture():
    plain, two, four = (viewed(n) for n in (1, 2, 4))
    x = torch.randn(2, 3, 32, 24)
    with torch.no_grad():
        torch.testing.assert_close(four.train()(x), plain(x))
        for model in (plain, two, four):
            model.eval()
        torch.testing.assert_close(two(x), (plain(x) + plain(x.flip(3))) / 2)
        each = [plain(x), plain(x.flip(3)), plain(x.flip(2)), plain(x.flip(2, 3))]
        torch.testing.assert_close(four(x), sum(each) / 4)
        torch.testing.assert_close(four(x.flip(3)), four(x))
        with plain_view(four):
            torch.testing.assert_close(four(x), plain(x))
    assert (views_of(four), views_of(plain), views_of(nn.Linear(1, 1))) == (4, 1, 1)


def test_heatmaps_and_the_cut_see_the_picture_as_it_is():
    plain, four = viewed(1), viewed(4)
    x = torch.randn(2, 3, 32, 32)
    assert (grad_cam(four, x, 1) == grad_cam(plain, x, 1)).all()
    for p in four[0].body[0].parameters():
        p.requires_grad_(False)
    cut = cut_where_frozen(four)
    assert cut is not four
    with torch.no_grad():
        torch.testing.assert_close(cut.eval()(x), plain.eval()(x))


def test_views_need_a_head_that_reads_several_stages_and_are_one_two_or_four():
    with pytest.raises(ArgumentError, match="levels='auto'"):
        create_cnn_model("test_efficientnet", 2, pretrained=False, views=2)
    with pytest.raises(ArgumentError, match="received 3"):
        create_cnn_model("test_efficientnet", 2, pretrained=False, levels="auto", views=3)
