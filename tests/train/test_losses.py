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
def test_loss_of_items_is_that_of_each_alone_and_averages_to_the_loss(loss_func: L.LossFunc, targets: Tensor) -> None:
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
    "loss_func", [*(make() for make in SINGLE), nn.CrossEntropyLoss(), F.cross_entropy, partial(F.cross_entropy)]
)
def test_cross_entropy_takes_softmax(loss_func: L.LossFunc) -> None:
    probs = L.activation_for(loss_func)(logits_().bfloat16())
    assert probs.dtype == torch.float32
    np.testing.assert_allclose(probs, np.exp(log_softmax(logits_().bfloat16())), rtol=1e-5)


@pytest.mark.parametrize(
    "loss_func", [*(make() for make in MULTI), nn.BCEWithLogitsLoss(), F.binary_cross_entropy_with_logits]
)
def test_binary_cross_entropy_takes_sigmoid(loss_func: L.LossFunc) -> None:
    torch.testing.assert_close(L.activation_for(loss_func)(logits_()), 1 / (1 + torch.exp(-logits_())))


def test_other_activations() -> None:
    assert L.activation_for(nn.MSELoss())(logits_()).equal(logits_())
    assert L.activation_for(Focal())(logits_()).equal(logits_())
    assert L.activation_for(nn.BCELoss())(logits_()).equal(logits_())
    for loss_func in (nn.NLLLoss(), F.nll_loss):
        torch.testing.assert_close(L.activation_for(loss_func)(logits_().log_softmax(1)), logits_().softmax(1))


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


# --- losses for rare classes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_loss_of_classes_is_its_formula(gamma: float, reduction: str) -> None:
    logp = log_softmax(logits_())[np.arange(N), classes()]
    each = -((1 - np.exp(logp)) ** gamma) * logp
    want = {"mean": each.mean(), "sum": each.sum(), "none": each}[reduction]
    got = L.FocalLoss(gamma, reduction=reduction)(logits_(), classes())
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    one_hot = F.one_hot(classes(), C).float()
    soft = L.FocalLoss(gamma, is_multi=False, reduction=reduction)(logits_(), one_hot)
    torch.testing.assert_close(soft, got)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_loss_of_tags_is_its_formula(gamma: float) -> None:
    p, y = logits_().double().sigmoid().numpy(), tags().double().numpy()
    want = -y * (1 - p) ** gamma * np.log(p) - (1 - y) * p**gamma * np.log(1 - p)
    got = L.FocalLoss(gamma, is_multi=True, reduction="none")(logits_(), tags())
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def test_without_focus_these_losses_are_cross_entropy() -> None:
    torch.testing.assert_close(L.FocalLoss(0)(logits_(), classes()), L.CrossEntropyFlat()(logits_(), classes()))
    plain = L.BCEWithLogitsFlat()(logits_(), tags())
    torch.testing.assert_close(L.FocalLoss(0, is_multi=True)(logits_(), tags()), plain)
    torch.testing.assert_close(L.AsymmetricLoss(0, 0, 0)(logits_(), tags()), plain)
    weight = torch.arange(1.0, C + 1)
    weighted = L.BCEWithLogitsFlat(pos_weight=weight)(logits_(), tags())
    torch.testing.assert_close(L.FocalLoss(0, weight, is_multi=True)(logits_(), tags()), weighted)
    torch.testing.assert_close(L.AsymmetricLoss(0, 0, 0, weight=weight)(logits_(), tags()), weighted)


@pytest.mark.parametrize(("neg", "pos", "clip"), [(4, 0, 0.05), (2, 1, 0.0), (0.5, 0.5, 0.2)])
def test_asymmetric_loss_is_its_formula(neg: float, pos: float, clip: float) -> None:
    p, y = logits_().double().sigmoid().numpy(), tags().double().numpy()
    q = np.maximum(p - clip, 0)
    want = -y * (1 - p) ** pos * np.log(p) - (1 - y) * q**neg * np.log(1 - q)
    got = L.AsymmetricLoss(neg, pos, clip, reduction="none")(logits_(), tags())
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(L.AsymmetricLoss(neg, pos, clip)(logits_(), tags()), want.mean(), rtol=1e-4)


@pytest.mark.parametrize(
    "loss_func",
    [
        L.FocalLoss(0.5),
        L.FocalLoss(2, torch.arange(1.0, C + 1)),
        L.FocalLoss(0.5, is_multi=True),
        L.AsymmetricLoss(),
        L.AsymmetricLoss(0.5, 0.5, 0),
    ],
)
def test_focus_leaves_gradients_finite_and_float32_and_items_apart(loss_func: L.LossFunc) -> None:
    of_tags = isinstance(loss_func, L.AsymmetricLoss) or loss_func.is_multi
    targets = tags() if of_tags else classes()
    sure = torch.where(torch.arange(C) % 2 == 0, 60.0, -60.0).expand(N, C)
    for logits in (sure, -sure, logits_()):
        x = logits.clone().bfloat16().requires_grad_()
        loss = loss_func(x, targets)
        loss.backward()
        assert loss.dtype == torch.float32
        assert bool(loss.isfinite())
        assert bool(x.grad.isfinite().all())
    items = L.per_item_loss(loss_func, logits_(), targets)
    torch.testing.assert_close(items.mean(), loss_func(logits_(), targets))


def test_what_focal_and_asymmetric_predict() -> None:
    torch.testing.assert_close(L.activation_for(L.FocalLoss())(logits_()), logits_().softmax(1))
    for loss_func in (L.FocalLoss(is_multi=True), L.AsymmetricLoss()):
        torch.testing.assert_close(L.activation_for(loss_func)(logits_()), logits_().sigmoid())


def test_focal_and_asymmetric_refuse_what_cannot_be() -> None:
    with pytest.raises(ArgumentError, match="FocalLoss expects gamma of 0 or more, got -1"):
        L.FocalLoss(-1)
    with pytest.raises(ArgumentError, match="gamma_neg of 0 or more, got nan"):
        L.AsymmetricLoss(float("nan"))
    with pytest.raises(ArgumentError, match=r"clip in \[0, 1\), got 1"):
        L.AsymmetricLoss(clip=1)
    with pytest.raises(ArgumentError, match="pass is_multi=True for tags"):
        L.FocalLoss()(logits_(), tags())
    with pytest.raises(ArgumentError, match=r"targets \(9,\) torch.int64"):
        L.AsymmetricLoss()(logits_(), classes())


# --- class weights -------------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(counts=st.lists(st.integers(1, 50), min_size=2, max_size=12))
def test_balanced_weights_make_every_class_weigh_the_same(counts: list[int]) -> None:
    n = sum(counts)
    weights = L.balanced_weights(torch.tensor(counts), is_multi=False, n=n).numpy()
    np.testing.assert_allclose(weights * counts, n / len(counts), rtol=1e-5)
    weights = L.balanced_weights(torch.tensor(counts), is_multi=True, n=60).numpy()
    np.testing.assert_allclose(weights * counts, 60 - np.array(counts), rtol=1e-5)
    rare = L.balanced_weights(torch.tensor([0, 10, 10]), is_multi=True, n=10)
    assert bool(((rare > 0) & rare.isfinite()).all())


def made(loss_func: L.LossFunc | None, *, is_multi: bool = False, **options: object) -> L.LossFunc:
    counts = torch.tensor([4, 2, 1, 1, 1])
    return L.make_loss(loss_func, is_multi=is_multi, class_counts=counts, n=9, **options)


def test_a_loss_is_fitted_to_the_labels_and_the_given_one_is_left_alone() -> None:
    assert type(made(None)) is L.CrossEntropyFlat
    assert type(made(None, is_multi=True)) is L.BCEWithLogitsFlat
    assert made(F.cross_entropy) is F.cross_entropy
    given = L.FocalLoss(3)
    of_tags = made(given, is_multi=True, class_weights="balanced")
    assert (of_tags.is_multi, of_tags.gamma) == (True, 3)
    np.testing.assert_allclose(of_tags.weight, [5 / 4, 7 / 2, 8, 8, 8])
    assert given.is_multi is None
    assert given.weight is None
    balanced = made(None, class_weights="balanced")
    np.testing.assert_allclose(balanced.weight, np.array([9 / 20, 9 / 10, 9 / 5, 9 / 5, 9 / 5]), rtol=1e-6)
    for loss_func in (None, L.LabelSmoothingBCE(0.1), L.BCEWithLogitsFlat()):
        weighted = made(loss_func, is_multi=True, class_weights=[1, 2, 3, 4, 5])
        assert weighted.pos_weight.tolist() == [1, 2, 3, 4, 5]
        assert loss_func is None or loss_func.pos_weight is None
    assert made(L.AsymmetricLoss(), is_multi=True, class_weights=np.ones(5)).weight.tolist() == [1] * 5


@pytest.mark.parametrize(
    ("loss_func", "options", "words"),
    [
        (L.AsymmetricLoss(), {}, "AsymmetricLoss is for tags"),
        (None, {"class_weights": "even"}, "'balanced' or one number a class; received 'even'"),
        (None, {"class_weights": True}, "'balanced' or one number a class; received True"),
        (None, {"class_weights": [1, 2]}, r"needs 5 numbers .*received \[1, 2\]"),
        (None, {"class_weights": [1, 1, 1, 1, -1]}, "0 or more, not all 0, one a class"),
        (F.cross_entropy, {"class_weights": "balanced"}, "cannot be given to cross_entropy: weigh"),
        (L.CrossEntropyFlat(torch.ones(5)), {"class_weights": "balanced"}, "has a weight of its own"),
    ],
)
def test_unfit_losses_and_weights(loss_func: L.LossFunc, options: dict[str, object], words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        made(loss_func, **options)


# --- what they do to a rare class ----------------------------------------------------------------------------


def rare_recall(loss_func: nn.Module, *, is_multi: bool) -> float:
    """Train a linear model where one class in 20 overlaps with the others; return the rare class's recall."""
    gen = torch.Generator().manual_seed(0)
    y = (torch.arange(600) % 20 == 0).long()
    x = torch.randn(600, 2, generator=gen) + 1.5 * y[:, None]
    model = nn.Linear(2, 2)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    targets = F.one_hot(y, 2).float() if is_multi else y
    for _ in range(150):
        optimizer.zero_grad()
        loss_func(model(x), targets).backward()
        optimizer.step()
    logits = model(x)
    found = logits[:, 1] > 0 if is_multi else logits.argmax(1) == 1
    return float(found[y == 1].float().mean())


def test_each_choice_finds_more_of_a_rare_class() -> None:
    counts = torch.tensor([570, 30])

    def of(loss_func: nn.Module | None, is_multi: bool, class_weights: str | None = None) -> float:
        chosen = L.make_loss(loss_func, is_multi=is_multi, class_counts=counts, n=600, class_weights=class_weights)
        return rare_recall(chosen, is_multi=is_multi)

    plain = of(None, False)
    assert plain < 0.6
    assert of(None, False, "balanced") > plain + 0.2
    assert of(L.FocalLoss(), False, "balanced") > plain + 0.2
    plain = of(None, True)
    assert of(None, True, "balanced") > plain + 0.2
    assert of(L.AsymmetricLoss(), True) > plain + 0.2
