"""Folding batch-norms into convolutions: the same function, and no wrong fold in any family of networks."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from onecycle.model.backbones import build_body
from onecycle.model.fuse import fuse_batchnorm


def lively(model: nn.Module) -> nn.Module:
    """Give batch-norms statistics and weights that matter; a fresh one is almost the identity."""
    torch.manual_seed(1)
    for norm in model.modules():
        if isinstance(norm, _BatchNorm):
            norm.running_mean.normal_(0, 0.3)
            norm.running_var.uniform_(0.5, 2)
            if norm.affine:
                nn.init.uniform_(norm.weight, 0.5, 1.5)
                nn.init.normal_(norm.bias, 0, 0.3)
    return model


def n_norms(model: nn.Module) -> int:
    return sum(isinstance(m, _BatchNorm) for m in model.modules())


def check_same(model: nn.Module, fused: nn.Module, side: int = 64) -> None:
    torch.manual_seed(2)
    x = torch.randn(3, 3, side, side)
    with torch.no_grad():
        expected, found = model.eval()(x), fused(x)
    assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()
    assert not fused.training


@pytest.mark.parametrize(
    ("name", "left"),
    [
        ("tf_efficientnet_lite0", 0),  # batch-norms that carry the activation, "same" padding
        ("resnet18", 0),
        ("mobilenet_v2", 0),
        ("densenet121", 62),  # norm1 of each layer reads a concatenation, so does each transition's norm
        ("alexnet", 0),
        ("squeezenet1_1", 0),
        ("test_convnext", 0),
    ],
)
def test_networks_are_folded_as_far_as_they_can_be_and_stay_the_same(name: str, left: int) -> None:
    torch.manual_seed(0)
    body = lively(build_body(name, False).module)
    before = n_norms(body)
    fused = fuse_batchnorm(body, torch.randn(2, 3, 64, 64))
    assert n_norms(fused) == left
    assert n_norms(body) == before
    check_same(body, fused)


def test_the_given_model_is_not_touched() -> None:
    model = lively(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True)))
    model[0].eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fused = fuse_batchnorm(model, torch.randn(2, 3, 8, 8))
    assert [m.training for m in model.modules()] == [True, False, True, True]
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in [*model.modules(), *fused.modules()])
    assert isinstance(fused[1], nn.Identity)
    check_same(model, fused, side=8)


class Beside(nn.Module):
    """A batch-norm after a convolution in the list of layers, but not in the order of computation."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(self.norm(x))


class ReadTwice(Beside):
    """The convolution's output goes to the batch-norm and past it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        return self.norm(y) + y


class Shared(Beside):
    """One convolution is used twice."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(self.norm(self.conv(x)))


class Rescaled(nn.Conv2d):
    """A convolution whose weights are standardised as it runs, so that scaling them does nothing."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = self.weight / self.weight.flatten(1).norm(dim=1)[:, None, None, None]
        return nn.functional.conv2d(x, weight, self.bias)


@pytest.mark.parametrize(
    "model",
    [
        Beside(),
        ReadTwice(),
        Shared(),
        nn.Sequential(Rescaled(3, 3, 1), nn.BatchNorm2d(3)),
        nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 3, 1)), nn.BatchNorm2d(3)),
    ],
    ids=lambda m: type(m[0] if isinstance(m, nn.Sequential) else m).__name__,
)
def test_what_cannot_be_folded_is_left_as_it_is(model: nn.Module) -> None:
    fused = fuse_batchnorm(lively(model), torch.randn(2, 3, 8, 8))
    assert fused is not model
    assert n_norms(fused) == 1
    check_same(model, fused, side=8)


def test_a_batch_norm_without_statistics_stays() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False))
    assert n_norms(fuse_batchnorm(model, torch.randn(2, 3, 8, 8))) == 1


def test_a_batch_norm_without_weights_is_folded() -> None:
    model = lively(nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4, affine=False)))
    fused = fuse_batchnorm(model, torch.randn(2, 3, 8, 8))
    assert n_norms(fused) == 0
    check_same(model, fused, side=8)


def test_a_model_that_cannot_be_copied_comes_back_as_it_is() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    model.kept = model[0].weight * 2
    assert fuse_batchnorm(model, torch.randn(2, 3, 8, 8)) is model
    assert model.training
