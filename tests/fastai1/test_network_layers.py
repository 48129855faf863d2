"""fastai v1's building blocks: order of layers, shapes, and values worked out by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from onecycle.errors import WeightsError
from onecycle.fastai1.networks import layers as L
from onecycle.fastai1.networks import xresnet
from onecycle.fastai1.networks.hooks import hook_output, hook_outputs, model_sizes, num_features_model
from onecycle.fastai1.networks.losses import BCEFlat, FlattenedLoss


def kinds(module: nn.Module) -> list[str]:
    return [type(m).__name__ for m in module]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ["Conv2d", "ReLU", "BatchNorm2d"]),
        ({"norm_type": None}, ["Conv2d", "ReLU"]),
        ({"use_activ": False, "is_1d": True}, ["Conv1d", "BatchNorm1d"]),
        ({"leaky": 0.1, "transpose": True}, ["ConvTranspose2d", "LeakyReLU", "BatchNorm2d"]),
        ({"self_attention": True}, ["Conv2d", "ReLU", "BatchNorm2d", "SelfAttention"]),
    ],
    ids=["usual", "no norm", "1d", "transposed", "attention"],
)
def test_conv_layer_is_convolution_then_relu_then_norm(options, expected):
    made = L.conv_layer(8, 16, **options)
    assert kinds(made) == expected
    assert (made[0].bias is None) == (options.get("norm_type", L.NormType.Batch) is not None)


def test_conv_layer_keeps_the_size_and_halves_it_by_its_stride():
    x = torch.zeros(2, 3, 9, 9)
    assert L.conv_layer(3, 4)(x).shape == (2, 4, 9, 9)
    assert L.conv_layer(3, 4, ks=5, stride=2)(x).shape == (2, 4, 5, 5)


@pytest.mark.parametrize(("dense", "channels"), [(False, 4), (True, 8)])
def test_a_res_block_adds_its_input_or_puts_it_beside(dense, channels):
    block = L.res_block(4, dense=dense).eval()
    for conv in (block[0][0], block[1][0]):
        nn.init.zeros_(conv.weight)
    x = torch.rand(2, 4, 5, 5)
    out = block(x)
    assert out.shape == (2, channels, 5, 5)
    assert torch.equal(out[:, -4:], x)


def test_simple_cnn():
    made = L.simple_cnn((3, 16, 16, 2), bn=True)
    assert [kinds(block) for block in made[:3]] == [["Conv2d", "ReLU", "BatchNorm2d"]] * 2 + [["Conv2d", "ReLU"]]
    assert made(torch.zeros(5, 3, 28, 28)).shape == (5, 2)
    assert [block[0].stride[0] for block in L.simple_cnn((3, 4, 2), strides=[1, 3])[:2]] == [1, 3]


def test_attention_begins_as_nothing():
    layer, x = L.SelfAttention(16), torch.rand(2, 16, 4, 4)
    assert torch.equal(layer(x), x)
    with torch.no_grad():
        layer.gamma.fill_(1.0)
    assert not torch.equal(layer(x), x)


def test_layers_that_reshape_or_call():
    x = torch.arange(12.0).view(2, 6)
    assert L.Lambda(lambda t: t * 2)(x).tolist() == (x * 2).tolist()
    assert L.View(3, 4)(x).shape == (3, 4)
    assert L.ResizeBatch(2, 3)(x).shape == (2, 2, 3)
    assert L.PoolFlatten()(torch.ones(2, 5, 3, 3)).tolist() == [[1.0] * 5] * 2
    assert L.PartialLayer(torch.clamp, min=3)(x).min() == 3
    assert L.sigmoid_range(torch.zeros(1), -1, 3).item() == 1
    assert kinds(L.bn_drop_lin(4, 2, p=0.1, actn=nn.ReLU())) == ["BatchNorm1d", "Dropout", "Linear", "ReLU"]
    assert kinds(L.bn_drop_lin(4, 2, bn=False)) == ["Linear"]


def test_a_module_needs_no_call_of_its_base():
    class Twice(L.Module):
        def __init__(self):
            self.of = nn.Linear(2, 2)

    assert len(list(Twice().parameters())) == 2


def test_flattened_losses_take_the_classes_along_an_axis():
    out, aim = torch.randn(2, 3, 4), torch.randint(3, (2, 4))
    loss = FlattenedLoss(nn.CrossEntropyLoss, axis=1)
    assert float(loss(out, aim)) == pytest.approx(float(nn.CrossEntropyLoss()(out, aim)), abs=1e-6)
    probs = torch.rand(3, 2)
    assert float(BCEFlat()(probs, torch.ones(3, 2).long())) == pytest.approx(float(-probs.log().mean()), abs=1e-6)


def test_hooks_store_what_layers_give_and_end():
    model = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.Conv2d(4, 6, 3))
    x = torch.rand(1, 3, 20, 20)
    with hook_outputs(model) as hooks, hook_output(model[1], grad=True) as back:
        model(x).sum().backward()
    assert [tuple(o.shape) for o in hooks.stored] == [(1, 4, 9, 9), (1, 6, 7, 7)]
    assert torch.equal(back.stored[0], torch.ones(1, 6, 7, 7))
    model(torch.zeros(1, 3, 10, 10))
    assert hooks.stored[0].shape[-1] == 9
    assert num_features_model(model) == 6
    assert [tuple(s) for s in model_sizes(model, (10, 10))] == [(1, 4, 4, 4), (1, 6, 2, 2)]


@pytest.mark.parametrize(
    ("make", "n_parameters", "features"),
    # those of torchvision: its stem (9,536) exchanged for three convolutions with batch-norms (28,768)
    [(xresnet.xresnet18, 11_708_744, 512), (xresnet.xresnet50, 25_576_264, 2048)],
    ids=["18", "50"],
)
def test_xresnets(make, n_parameters, features):
    model = make()
    assert sum(p.numel() for p in model.parameters()) == n_parameters
    assert model[-1].in_features == features
    assert make(c_out=7).eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 7)
    with pytest.raises(WeightsError, match="no published weights"):
        make(pretrained=True)
