from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn
from train_toys import toy_model

from onecycle.errors import ArgumentError
from onecycle.train.optimizer import AdamW_v1, Optimizer, hold_frozen_norms, split_params

SGD = partial(torch.optim.SGD, momentum=0.9)


def with_grads(model: nn.Module, value: float = 0.5) -> None:
    for p in model.parameters():
        p.grad = torch.full_like(p, value) if p.requires_grad else None


def test_split_puts_norms_and_biases_apart():
    model = toy_model()
    split = split_params(list(model))
    assert [p.shape for p in split[0]] == [(8, 4)]
    assert [p.shape for p in split[1]] == [(8,), (8,), (8,)]
    assert [len(group) for group in split[2:]] == [1, 1]


def test_shared_parameter_counts_once():
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    assert [len(group) for group in split_params([first, second])] == [1, 1, 0, 1]


def test_decoupled_decay_by_hand():
    model = toy_model()
    optimizer = Optimizer(torch.optim.SGD, list(model), wd=0.1)
    optimizer.set_lrs([0.01, 0.5])
    before = [p.detach().clone() for p in model.parameters()]
    lrs = [0.01] * 4 + [0.5] * 2
    with_grads(model)
    optimizer.step()
    for p, old, lr in zip(model.parameters(), before, lrs, strict=True):
        torch.testing.assert_close(p.detach(), old * (1 - lr * 0.1) - lr * 0.5)


def test_decay_spares_parameters_without_gradient_and_norms_if_told():
    model = toy_model()
    optimizer = Optimizer(torch.optim.SGD, list(model), wd=0.1, bn_wd=False)
    optimizer.set_lrs([0.5, 0.5])
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for name, p in model.named_parameters():
        p.grad = None if name == "1.1.weight" else torch.zeros_like(p)
    optimizer.step()
    after = dict(model.named_parameters())
    assert torch.equal(after["1.1.weight"], before["1.1.weight"])
    assert torch.equal(after["0.1.weight"], before["0.1.weight"])
    torch.testing.assert_close(after["0.0.weight"].detach(), before["0.0.weight"] * 0.95)


def test_matches_torch_adamw():
    ours, theirs = toy_model(), toy_model()
    a = Optimizer(AdamW_v1, list(ours), wd=0.3)
    b = torch.optim.AdamW(theirs.parameters(), lr=0.02, betas=(0.9, 0.99), weight_decay=0.3)
    a.set_lrs([0.02, 0.02])
    for step in range(5):
        with_grads(ours, 0.1 * step - 0.2)
        with_grads(theirs, 0.1 * step - 0.2)
        a.step()
        b.step()
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-7)


def test_classic_l2_is_left_to_torch():
    model = toy_model()
    optimizer = Optimizer(torch.optim.SGD, list(model), wd=0.1, true_wd=False, bn_wd=False)
    assert [g["weight_decay"] for g in optimizer.torch.param_groups] == [0.1, 0.0, 0.1, 0.0]
    optimizer.set_lrs([0.5, 0.5])
    old = model[1][1].weight.detach().clone()
    with_grads(model)
    optimizer.step()
    torch.testing.assert_close(model[1][1].weight.detach(), old - 0.5 * (0.5 + 0.1 * old))


@pytest.mark.parametrize("opt_func", [AdamW_v1, SGD, torch.optim.RMSprop, torch.optim.Adagrad])
def test_any_torch_optimizer(opt_func):
    model = toy_model()
    optimizer = Optimizer(opt_func, list(model))
    optimizer.set_lrs([0.1, 0.2])
    optimizer.mom = 0.7
    assert optimizer.lrs == [0.1, 0.2]
    assert optimizer.mom in (0.7, None)
    before = model[1][1].weight.detach().clone()
    with_grads(model)
    optimizer.step()
    assert not torch.equal(before, model[1][1].weight)


def test_momentum_keeps_the_second_beta():
    optimizer = Optimizer(AdamW_v1, list(toy_model()))
    optimizer.mom = 0.85
    assert all(g["betas"] == (0.85, 0.99) for g in optimizer.torch.param_groups)


def test_callers_choice_of_implementation_stays():
    optimizer = Optimizer(partial(torch.optim.Adam, foreach=True), list(toy_model()))
    assert not optimizer.torch.param_groups[0]["fused"]
    assert Optimizer(AdamW_v1, list(toy_model())).torch.param_groups[0]["fused"]


def test_fits_notices_a_changed_freeze_state():
    model = toy_model()
    optimizer = Optimizer(AdamW_v1, list(model))
    assert optimizer.fits(list(model))
    model[0][0].weight.requires_grad_(False)
    assert not optimizer.fits(list(model))


def test_frozen_parameters_do_not_belong():
    model = toy_model()
    model[0].requires_grad_(False)
    optimizer = Optimizer(AdamW_v1, list(model))
    assert len(optimizer.trainable) == 2
    assert len(optimizer.lrs) == 2


def test_refusals_say_what_to_do():
    frozen = toy_model().requires_grad_(False)
    with pytest.raises(ArgumentError, match="unfreeze"):
        Optimizer(AdamW_v1, list(frozen))
    with pytest.raises(ArgumentError, match="LBFGS"):
        Optimizer(torch.optim.LBFGS, list(toy_model()))
    with pytest.raises(ArgumentError, match="wd=-1"):
        Optimizer(AdamW_v1, list(toy_model()), wd=-1)
    with pytest.raises(ArgumentError, match="3 learning rates for 2"):
        Optimizer(AdamW_v1, list(toy_model())).set_lrs([1, 1, 1])


def test_frozen_norms_are_held_and_others_not():
    model = nn.Sequential(nn.BatchNorm1d(4), nn.LayerNorm(4), nn.BatchNorm1d(4), nn.Dropout())
    model[0].requires_grad_(False)
    model[1].requires_grad_(False)
    model.train()
    hold_frozen_norms(model)
    assert [m.training for m in model] == [False, False, True, True]
