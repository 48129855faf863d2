"""Losses against their formulas, and what follows from a loss: activation, loss of each item, prior bias."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from onecycle.errors import ArgumentError
from onecycle.train import losses as L

N, C = 9, 5
SINGLE = [L.CrossEntropyFlat, L.LabelSmoothingCrossEntropy]
MULTI = [L.BCEWithLogitsFlat, L.LabelSmoothingBCE]


def logits_(seed: int = 0) -> Tensor:
    return 3 * torch.randn(N, C, generator=torch.Generator().manual_seed(seed))


def classes(seed: int = 0) -> Tensor:
    return torch.randint(0, C, (N,), generator=torch.Generator().manual_seed(seed))


def tags(seed: int = 0) -> Tensor:
    return (torch.rand(N, C, generator=torch.Generator().manual_seed(seed)) < 0.3).float()


def targets_for(make: type[nn.Module]) -> Tensor:
    return classes() if make in SINGLE else tags()


def log_softmax(logits: Tensor) -> np.ndarray:
    x = logits.double().numpy()
    return x - np.log(np.exp(x).sum(1, keepdims=True))


# --- the losses ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_cross_entropy(reduction: str) -> None:
    nll = -log_softmax(logits_())[np.arange(N), classes()]
    want = {"mean": nll.mean(), "sum": nll.sum(), "none": nll}[reduction]
    got = L.CrossEntropyFlat(reduction=reduction)(logits_(), classes())
    np.testing.assert_allclose(got, want, rtol=1e-6)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("eps", [0.0, 0.1, 1.0])
def test_label_smoothing_is_v1s_formula_and_torchs(eps: float, reduction: str) -> None:
    logp = log_softmax(logits_())
    items = eps * -logp.mean(1) + (1 - eps) * -logp[np.arange(N), classes()]
    want = {"mean": items.mean(), "sum": items.sum(), "none": items}[reduction]
    got = L.LabelSmoothingCrossEntropy(eps, reduction=reduction)(logits_(), classes())
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)
    torch_own = F.cross_entropy(logits_(), classes(), label_smoothing=eps, reduction=reduction)
    torch.testing.assert_close(got, torch_own, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("make", SINGLE)
def test_soft_targets(make: type[nn.Module]) -> None:
    one_hot = F.one_hot(classes(), C).float()
    torch.testing.assert_close(make()(logits_(), one_hot), make()(logits_(), classes()))
    other = F.one_hot(classes(1), C).float()
    mixed = make()(logits_(), 0.7 * one_hot + 0.3 * other)
    want = 0.7 * make()(logits_(), classes()) + 0.3 * make()(logits_(), classes(1))
    torch.testing.assert_close(mixed, want, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_binary_cross_entropy(reduction: str) -> None:
    x, y = logits_().double().numpy(), tags().double().numpy()
    each = y * np.log1p(np.exp(-x)) + (1 - y) * np.log1p(np.exp(x))
    want = {"mean": each.mean(), "sum": each.sum(), "none": each}[reduction]
    for targets in (tags(), tags().bool(), tags().long()):
        got = L.BCEWithLogitsFlat(reduction=reduction)(logits_(), targets)
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)


def test_label_smoothing_of_tags() -> None:
    plain = L.BCEWithLogitsFlat()
    got = L.LabelSmoothingBCE(0.2)(logits_(), tags())
    torch.testing.assert_close(got, plain(logits_(), tags() * 0.8 + 0.1))
    torch.testing.assert_close(L.LabelSmoothingBCE(0.0)(logits_(), tags()), plain(logits_(), tags()))
    half = L.LabelSmoothingBCE(1.0)
    torch.testing.assert_close(half(logits_(), tags()), half(logits_(), 1 - tags()))


def test_class_weights() -> None:
    weight = torch.tensor([0.0, 1, 2, 3, 4])
    got = L.CrossEntropyFlat(weight)(logits_(), classes())
    items = -log_softmax(logits_())[np.arange(N), classes()] * weight.numpy()[classes()]
    assert float(got) == pytest.approx(items.sum() / weight.numpy()[classes()].sum(), rel=1e-6)
    once, twice = L.BCEWithLogitsFlat(), L.BCEWithLogitsFlat(pos_weight=torch.full((C,), 2.0))
    ones = torch.ones(N, C)
    torch.testing.assert_close(twice(logits_(), ones), 2 * once(logits_(), ones))


@pytest.mark.parametrize("make", SINGLE + MULTI)
def test_half_precision_logits_give_a_float32_loss_and_a_gradient(make: type[nn.Module]) -> None:
    logits = logits_().bfloat16().requires_grad_()
    loss = make()(logits, targets_for(make))
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, make()(logits.float(), targets_for(make)))
    loss.backward()
    assert bool(logits.grad.abs().sum() > 0)


def test_default_losses() -> None:
    assert type(L.loss_for(False)) is L.CrossEntropyFlat
    assert type(L.loss_for(True)) is L.BCEWithLogitsFlat


def test_unfit_arguments() -> None:
    for make in SINGLE + MULTI:
        with pytest.raises(ArgumentError, match="'mean', 'sum' or 'none', got 'avg'"):
            make(reduction="avg")
    for make in (L.LabelSmoothingCrossEntropy, L.LabelSmoothingBCE):
        with pytest.raises(ArgumentError, match=rf"{make.__name__} expects eps in 0\.\.1, got 1\.5"):
            make(1.5)


@pytest.mark.parametrize("targets", [torch.zeros(N), torch.zeros(N, C).long(), torch.zeros(N + 1).long()])
def test_cross_entropy_names_shapes_that_do_not_fit(targets: Tensor) -> None:
    with pytest.raises(ArgumentError, match=r"logits \(9, 5\) torch.float32, targets .*BCEWithLogitsFlat"):
        L.CrossEntropyFlat()(logits_(), targets)


def test_binary_cross_entropy_names_shapes_that_do_not_fit() -> None:
    with pytest.raises(ArgumentError, match=r"targets \(9,\) torch.int64; .*CrossEntropyFlat"):
        L.LabelSmoothingBCE()(logits_(), classes())


# --- loss of each item -----------------------------------------------------------------------------------------


class Focal(nn.Module):
    """A user's own loss without a reduction."""

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        logp = logits.log_softmax(1).gather(1, targets[:, None])
        return (-((1 - logp.exp()) ** 2) * logp).mean()


class Heedless(Focal):
    """A user's own loss with a reduction that it does not look at."""

    reduction = "mean"


ITEM_CASES = [
    *[(make(), targets_for(make)) for make in SINGLE + MULTI],
    (L.CrossEntropyFlat(), F.one_hot(classes(), C).float()),
    (nn.CrossEntropyLoss(), classes()),
    (nn.MultiLabelSoftMarginLoss(), tags()),
    (nn.MSELoss(), tags()),
    (F.cross_entropy, classes()),
    (partial(F.cross_entropy, label_smoothing=0.1), classes()),
    (partial(F.cross_entropy, reduction="mean"), classes()),
    (lambda x, y: F.cross_entropy(x, y), classes()),
    (F.mse_loss, tags()),
    (Focal(), classes()),
    (Heedless(), classes()),
]


@pytest.mark.parametrize(("loss_func", "targets"), ITEM_CASES)
def test_loss_of_items_is_that_of_each_alone_and_averages_to_the_loss(
    loss_func: L.LossFunc, targets: Tensor
) -> None:
    items = L.per_item_loss(loss_func, logits_(), targets)
    assert items.shape == (N,)
    alone = torch.stack([loss_func(logits_()[i : i + 1], targets[i : i + 1]) for i in range(N)])
    torch.testing.assert_close(items, alone, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(items.mean(), loss_func(logits_(), targets), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_loss_of_items_does_not_change_the_loss_and_ignores_its_reduction(reduction: str) -> None:
    loss_func = L.CrossEntropyFlat(torch.arange(1.0, C + 1), reduction=reduction)
    before = dict(loss_func.__dict__)
    items = L.per_item_loss(loss_func, logits_(), classes())
    assert loss_func.reduction == reduction
    assert loss_func.__dict__ == before
    nll = F.cross_entropy(logits_(), classes(), reduction="none")
    torch.testing.assert_close(items, nll * (classes() + 1.0))


def test_loss_of_one_item_and_of_none() -> None:
    for loss_func in (L.CrossEntropyFlat(), Focal()):
        one = L.per_item_loss(loss_func, logits_()[:1], classes()[:1])
        torch.testing.assert_close(one[0], loss_func(logits_()[:1], classes()[:1]))
        assert L.per_item_loss(loss_func, logits_()[:0], classes()[:0]).shape == (0,)


def test_loss_of_items_for_a_function_written_in_c() -> None:
    items = L.per_item_loss(torch.dist, logits_(), tags())
    torch.testing.assert_close(items, (logits_() - tags()).norm(dim=1))


def test_loss_of_items_needs_a_target_for_each() -> None:
    with pytest.raises(ArgumentError, match=r"a target for each.*\(9, 5\).*\(8,\)"):
        L.per_item_loss(Focal(), logits_(), classes()[:8])


# --- activation ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "loss_func",
    [*(make() for make in SINGLE), nn.CrossEntropyLoss(), F.cross_entropy, partial(F.cross_entropy)],
)
def test_cross_entropy_takes_softmax(loss_func: L.LossFunc) -> None:
    probs = L.activation_for(loss_func)(logits_().bfloat16())
    assert probs.dtype == torch.float32
    np.testing.assert_allclose(probs, np.exp(log_softmax(logits_().bfloat16())), rtol=1e-5)


@pytest.mark.parametrize(
    "loss_func",
    [*(make() for make in MULTI), nn.BCEWithLogitsLoss(), F.binary_cross_entropy_with_logits],
)
def test_binary_cross_entropy_takes_sigmoid(loss_func: L.LossFunc) -> None:
    torch.testing.assert_close(L.activation_for(loss_func)(logits_()), 1 / (1 + torch.exp(-logits_())))


def test_other_activations() -> None:
    assert L.activation_for(nn.MSELoss())(logits_()).equal(logits_())
    assert L.activation_for(Focal())(logits_()).equal(logits_())
    assert L.activation_for(nn.BCELoss())(logits_()).equal(logits_())
    for loss_func in (nn.NLLLoss(), F.nll_loss):
        torch.testing.assert_close(
            L.activation_for(loss_func)(logits_().log_softmax(1)), logits_().softmax(1)
        )


# --- prior -----------------------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(counts=st.lists(st.integers(0, 50), min_size=1, max_size=12), extra=st.integers(1, 40))
def test_the_prior_bias_predicts_the_prior(counts: list[int], extra: int) -> None:
    n = max(counts) + extra
    bias = L.class_log_prior(torch.tensor(counts), is_multi=True, n=n)
    want = (np.array(counts) + 0.5) / (n + 1)
    np.testing.assert_allclose(bias.sigmoid(), want, rtol=1e-5)
    counts[0] += extra
    n = sum(counts)
    bias = L.class_log_prior(torch.tensor(counts), is_multi=False, n=n)
    assert bias.dtype == torch.float32
    want = (np.array(counts) + 0.5) / (n + len(counts) / 2)
    np.testing.assert_allclose(bias.softmax(0), want, rtol=1e-5)
    assert float(bias.exp().sum()) == pytest.approx(1, rel=1e-5)


def test_with_many_pictures_the_prior_is_the_frequency() -> None:
    tag_bias = L.class_log_prior(torch.tensor([800, 100_000, 0]), is_multi=True, n=100_000)
    np.testing.assert_allclose(tag_bias.sigmoid(), [0.008, 1, 0], atol=1e-5)
    bias = L.class_log_prior(torch.tensor([25_000, 75_000]), is_multi=False, n=100_000)
    np.testing.assert_allclose(bias.softmax(0), [0.25, 0.75], atol=1e-5)
    assert bool(tag_bias.isfinite().all())


def test_the_prior_is_a_better_start_than_zero() -> None:
    frequent = tags(3)
    bias = L.class_log_prior(frequent.sum(0), is_multi=True, n=N).expand(N, C)
    loss_func = L.loss_for(True)
    assert float(loss_func(bias, frequent)) < float(loss_func(torch.zeros(N, C), frequent))


@pytest.mark.parametrize(
    ("counts", "is_multi", "n", "words"),
    [
        ([[1, 2]], True, 3, r"counts \(C,\).*shape \(1, 2\)"),
        ([0, 0], True, 0, "n=0"),
        ([4, 1], True, 3, r"0\.\.3 of 3 pictures, got counts \[4\.0, 1\.0\]"),
        ([-1, 1], True, 3, "got counts"),
        ([1, 1], False, 3, "add up to n=3, got 2; pass is_multi=True"),
    ],
)
def test_impossible_counts(counts: list[int], is_multi: bool, n: int, words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        L.class_log_prior(torch.tensor(counts), is_multi=is_multi, n=n)
