"""Grad-CAM against a computation by hand, and that it leaves the model alone."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from onecycle.errors import ArgumentError
from onecycle.evaluation.gradcam import grad_cam


def tiny_model(*, classes: int = 3, relu_first: bool = False, inplace: bool = False) -> nn.Sequential:
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2))
    first = [nn.ReLU(inplace)] if relu_first else []
    head = nn.Sequential(*first, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.5), nn.Linear(4, classes))
    return nn.Sequential(body, head)


def pictures(n: int = 2) -> torch.Tensor:
    return torch.randn(n, 3, 8, 6, generator=torch.Generator().manual_seed(1))


def test_equals_the_formula_for_a_linear_head_on_average_pooling() -> None:
    model = tiny_model().eval()
    x = pictures()
    with torch.no_grad():
        maps = model[0](x)  # (2, 4, 4, 3); here ∂logit/∂A is W[class]/(h·w) everywhere
        weights = model[1][-1].weight[2] / 12
        expected = torch.relu((weights[None, :, None, None] * maps).sum(dim=1)).numpy()
    found = grad_cam(model, x, 2)
    assert found.dtype == np.float32
    assert found.shape == (2, 4, 3)
    assert found.max() > 0
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_equals_numbers_worked_out_on_paper() -> None:
    # Body: two channels, x and 2 − x of a 2×2 picture. Head: the sum over each channel, then 3·first − 1·second.
    class Body(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.stack([x[:, 0], 2 - x[:, 0]], dim=1)

    class Head(nn.Module):
        def forward(self, maps: torch.Tensor) -> torch.Tensor:
            sums = maps.sum(dim=(2, 3))
            return torch.stack([3 * sums[:, 0] - sums[:, 1], -sums[:, 0]], dim=1)

    x = torch.tensor([[0.0, 1.0], [2.0, 0.25]]).expand(1, 3, 2, 2)
    model = nn.Sequential(Body(), Head())
    # class 0: 3·x − (2 − x) = 4x − 2, below zero cut to zero; class 1: −x ≤ 0 everywhere
    np.testing.assert_allclose(grad_cam(model, x, 0)[0], [[0, 2], [6, 0]], atol=1e-6)
    np.testing.assert_array_equal(grad_cam(model, x, 1)[0], np.zeros((2, 2)))


def test_each_picture_may_ask_for_its_own_class_and_is_not_moved_by_the_others() -> None:
    model, x = tiny_model(), pictures()
    both = grad_cam(model, x, torch.tensor([0, 2]))
    np.testing.assert_allclose(both[0], grad_cam(model, x[0], 0)[0], atol=1e-6)
    np.testing.assert_allclose(both[1], grad_cam(model, x[1], 2)[0], atol=1e-6)


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_leaves_modes_gradients_buffers_and_flags_as_they_were(frozen: bool, training: bool) -> None:
    model = tiny_model().train(training)
    model[0][1].eval()  # a frozen batch-norm inside a training model
    for parameter in model.parameters():
        parameter.requires_grad_(not frozen)
    before, modes = copy.deepcopy(model.state_dict()), [m.training for m in model.modules()]
    first, second = grad_cam(model, pictures(), 1), grad_cam(model, pictures(), 1)
    np.testing.assert_array_equal(first, second)  # dropout does not act
    assert [m.training for m in model.modules()] == modes
    assert all(p.grad is None and p.requires_grad is not frozen for p in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_modes_come_back_after_an_error() -> None:
    model = tiny_model().train()
    with pytest.raises(ArgumentError, match=r"0\.\.2"):
        grad_cam(model, pictures(), 3)
    assert all(m.training for m in model.modules())


def test_channels_last_and_inference_tensors_give_the_same_map() -> None:
    model, x = tiny_model(), pictures()
    expected = grad_cam(model, x, 1)
    np.testing.assert_allclose(
        grad_cam(
            copy.deepcopy(model).to(memory_format=torch.channels_last),
            x.contiguous(memory_format=torch.channels_last),
            1,
        ),
        expected,
        atol=1e-6,
    )
    with torch.inference_mode():
        np.testing.assert_allclose(grad_cam(model, x.clone(), 1), expected, atol=1e-6)
    with torch.no_grad():
        np.testing.assert_allclose(grad_cam(model, x, 1), expected, atol=1e-6)


def test_a_head_may_begin_with_an_in_place_layer() -> None:
    np.testing.assert_allclose(
        grad_cam(tiny_model(relu_first=True, inplace=True), pictures(), 1),
        grad_cam(tiny_model(relu_first=True), pictures(), 1),
        atol=1e-6,
    )


@pytest.mark.parametrize(
    ("model", "x", "class_index", "message"),
    [
        (nn.Linear(2, 2), pictures(), 0, r"needs nn.Sequential\(body, head\).*received Linear with 0 parts"),
        (nn.Sequential(*tiny_model(), nn.Identity()), pictures(), 0, "Sequential with 3 parts"),
        (tiny_model(), torch.zeros(6, 8), 0, r"received \(6, 8\)"),
        (tiny_model(), pictures(), -1, r"0\.\.2, the model's 3 classes; received -1"),
        (tiny_model(), pictures(), torch.tensor([0, 1, 2]), "one class or 2 of them"),
        (nn.Sequential(nn.Flatten(), nn.Linear(144, 3)), pictures(), 0, r"received \(2, 144\)"),
    ],
)
def test_says_what_it_cannot_explain(
    model: nn.Module, x: torch.Tensor, class_index: int | torch.Tensor, message: str
) -> None:
    with pytest.raises(ArgumentError, match=message):
        grad_cam(model, x, class_index)
