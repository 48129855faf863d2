from __future__ import annotations

import pytest
import torch
from torch import nn

from onecycle.errors import ArgumentError
from onecycle.model.heads import (
    AdaptiveConcatPool2d,
    Flatten,
    bn_drop_lin,
    create_head,
    init_head,
    seeded,
    set_prior_bias,
)


def test_concat_pool_puts_the_maximum_first() -> None:
    x = torch.randn(2, 3, 4, 5)
    pooled = AdaptiveConcatPool2d()(x)
    assert pooled.shape == (2, 6, 1, 1)
    torch.testing.assert_close(pooled[:, :3, 0, 0], x.amax(dim=(2, 3)))
    torch.testing.assert_close(pooled[:, 3:, 0, 0], x.mean(dim=(2, 3)))
    assert AdaptiveConcatPool2d(2)(x).shape == (2, 6, 2, 2)


def test_flatten() -> None:
    x = torch.zeros(2, 3, 4)
    assert Flatten()(x).shape == (2, 12)
    assert Flatten(full=True)(x).shape == (24,)


def test_head_has_the_positions_of_fastai_v1() -> None:
    head = create_head(1024, 101)
    kinds = [AdaptiveConcatPool2d, Flatten, nn.BatchNorm1d, nn.Dropout, nn.Linear, nn.ReLU]
    assert [type(layer) for layer in head] == [*kinds, nn.BatchNorm1d, nn.Dropout, nn.Linear]
    assert {key.split(".")[0] for key in head.state_dict()} == {"2", "4", "6", "8"}
    assert sum(p.numel() for p in head.parameters()) == 579_685  # fastai v1's ResNet-34 head for 101 classes
    assert [layer.p for layer in head if isinstance(layer, nn.Dropout)] == [0.25, 0.5]
    assert head(torch.randn(2, 512, 3, 3)).shape == (2, 101)


def test_dropout_keeps_its_slot_without_dropout() -> None:
    with_dropout, without = create_head(8, 3), create_head(8, 3, ps=0)
    assert list(with_dropout.state_dict()) == list(without.state_dict())


def test_head_options() -> None:
    head = create_head(16, 3, [10, 6], ps=[0.1, 0.2, 0.3], concat_pool=False, bn_final=True)
    linears = [layer for layer in head if isinstance(layer, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in linears] == [(16, 10), (10, 6), (6, 3)]
    assert [layer.p for layer in head if isinstance(layer, nn.Dropout)] == [0.1, 0.2, 0.3]
    assert isinstance(head[-1], nn.BatchNorm1d)
    assert head[-1].momentum == 0.01
    assert head(torch.randn(2, 16, 2, 2)).shape == (2, 3)
    assert [layer.p for layer in create_head(8, 2, [4, 4], ps=[0.4]) if isinstance(layer, nn.Dropout)] == [
        0.2,
        0.2,
        0.4,
    ]


def test_bn_drop_lin_without_batch_norm() -> None:
    layers = bn_drop_lin(4, 2, bn=False, p=0.1, actn=nn.ReLU())
    assert [type(layer) for layer in layers] == [nn.Dropout, nn.Linear, nn.ReLU]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"nf": 8, "nc": 0}, "nc=0"),
        ({"nf": 8, "nc": 2, "ps": [0.1, 0.2, 0.3]}, "2 linear layers"),
        ({"nf": 8, "nc": 2, "ps": 1.5}, r"\[0, 1\), received 1.5"),
    ],
)
def test_head_refuses_what_cannot_work(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        create_head(**arguments)  # type: ignore[arg-type]


def test_init_is_a_function_of_the_seed_and_leaves_the_global_generator_alone() -> None:
    heads = [create_head(32, 3) for _ in range(3)]
    before = torch.get_rng_state()
    for head, seed in zip(heads, (5, 5, 6), strict=True):
        init_head(head, seed=seed)
    assert torch.equal(torch.get_rng_state(), before)
    first, same, other = (head[4].weight for head in heads)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_init_draws_kaiming_and_spares_normalisation() -> None:
    head = nn.Sequential(create_head(256, 400), nn.LayerNorm(400))
    init_head(head, seed=0)
    linear, norm = head[0][4], head[0][2]
    assert linear.weight.std().item() == pytest.approx((2 / 256) ** 0.5, rel=0.02)
    assert torch.equal(linear.bias, torch.zeros(512))
    assert torch.equal(norm.weight, torch.ones(256))
    assert torch.equal(head[1].weight, torch.ones(400))


def test_init_takes_another_function_or_none() -> None:
    head = create_head(4, 2)
    init_head(head, seed=0, init=nn.init.ones_)
    assert torch.equal(head[8].weight, torch.ones(2, 512))
    before = head[4].weight.clone()
    init_head(head, seed=0, init=None)
    assert torch.equal(head[4].weight, before)


def test_seeded_restores_the_state_after_an_error() -> None:
    before = torch.get_rng_state()
    with pytest.raises(RuntimeError), seeded(3):
        torch.rand(3) @ torch.rand(2)
    assert torch.equal(torch.get_rng_state(), before)


def test_prior_bias_starts_the_outputs_at_the_prior() -> None:
    prior = torch.tensor([-3.0, 0.5, 1.0])
    head = create_head(4, 3)
    assert set_prior_bias(head, prior)
    assert torch.equal(head[-1].bias, prior)
    normalised = create_head(4, 3, bn_final=True)
    assert set_prior_bias(normalised, prior)
    outputs = normalised(torch.randn(16, 2, 3, 3))
    torch.testing.assert_close(outputs.mean(dim=0), prior, atol=1e-4, rtol=0)


def test_prior_bias_leaves_a_head_of_another_shape_alone() -> None:
    prior = torch.tensor([1.0, 2.0])
    for head in (nn.Sequential(nn.Linear(4, 3)), nn.Sequential(nn.Linear(4, 2), nn.ReLU())):
        before = head[0].bias.clone()
        assert not set_prior_bias(head, prior)
        assert torch.equal(head[0].bias, before)
    assert not set_prior_bias(nn.Linear(4, 2, bias=False), prior)
