"""Cutting a model behind its frozen body, and batches of features in the order of the pictures."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from onecycle.errors import ArgumentError
from onecycle.train.frozen import FeatureLoader, FeatureSet, SplitModel, empty_features, split_frozen


def model() -> nn.Sequential:
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.5), nn.ReLU(inplace=True), nn.Linear(4, 2))
    return nn.Sequential(body, head)


def frozen() -> nn.Sequential:
    made = model()
    made[0].requires_grad_(False)
    return made


def test_the_fixed_part_ends_where_the_head_begins_to_draw_or_learn() -> None:
    net = frozen().eval()
    parts = split_frozen(net)
    assert isinstance(parts, SplitModel)
    assert [type(m).__name__ for m in parts.fixed] == ["Sequential", "AdaptiveAvgPool2d", "Flatten"]
    assert [type(m).__name__ for m in parts.rest] == ["Dropout", "ReLU", "Linear"]
    assert parts.rest[2] is net[1][4]
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(parts.rest(parts.fixed(x)), net(x))


class Halve(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x / 2


def test_layers_of_the_head_that_are_not_known_to_be_fixed_belong_to_the_rest() -> None:
    net = frozen()
    net[1] = nn.Sequential(Halve(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    parts = split_frozen(net)
    assert isinstance(parts, SplitModel)
    assert (len(parts.fixed), len(parts.rest)) == (1, 4)
    told = split_frozen(net, (Halve,))
    assert isinstance(told, SplitModel)
    assert (len(told.fixed), len(told.rest)) == (4, 1)


class OwnForward(nn.Sequential):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) + 1


def test_a_head_that_is_no_plain_chain_is_left_whole() -> None:
    for head in (OwnForward(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)), nn.Flatten()):
        net = nn.Sequential(frozen()[0], head)
        parts = split_frozen(net)
        assert isinstance(parts, SplitModel)
        assert list(parts.rest) == [head]


def test_why_a_model_cannot_be_cut() -> None:
    assert split_frozen(model()) == "more than the head trains"
    only_norms = frozen()
    only_norms[0][1].requires_grad_(True)
    assert split_frozen(only_norms) == "more than the head trains"
    for net in (nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2)), OwnForward(*frozen())):
        assert split_frozen(net) == "the model is not nn.Sequential(body, head)"
    hooked = frozen()
    hooked.register_forward_hook(lambda *_: None)
    assert isinstance(split_frozen(hooked), str)
    plain_norm = nn.Sequential(nn.BatchNorm2d(3, affine=False), nn.Conv2d(3, 2, 1))
    assert "statistics go on changing" in str(split_frozen(plain_norm))


def order(epoch: int) -> np.ndarray:
    return np.random.default_rng([5, epoch]).permutation(10)[:8]


def features(n_views: int = 3, n: int = 10) -> FeatureSet:
    """Feature 100·view + i, so that each number says where it is from."""
    view, i = torch.meshgrid(torch.arange(n_views), torch.arange(n), indexing="ij")
    return FeatureSet((100.0 * view + i)[..., None].expand(-1, -1, 2).contiguous(), torch.arange(n) * 7)


def test_batches_come_in_the_given_order_with_their_targets() -> None:
    loader = FeatureLoader(features(), bs=3, order=order, seed=4)
    assert (len(loader), loader.n_items, loader.bs) == (3, 10, 3)
    loader.set_epoch(2)
    batches = list(loader)
    assert np.concatenate([b.indices.numpy() for b in batches]).tolist() == order(2).tolist()
    for batch in batches:
        assert (batch.x[:, 0].long() % 100).tolist() == batch.indices.tolist()
        assert batch.y.tolist() == (batch.indices * 7).tolist()
        assert batch.x.dtype == torch.float32
    assert [len(b.x) for b in batches] == [3, 3, 2]


def test_views_are_a_function_of_seed_epoch_and_picture() -> None:
    def seen(seed: int, epoch: int) -> list[int]:
        loader = FeatureLoader(features(n=200), bs=50, order=lambda _: np.arange(200), seed=seed)
        loader.set_epoch(epoch)
        return [int(v) // 100 for batch in loader for v in (batch.x[:, 0] - batch.indices)]

    first = seen(4, 1)
    assert first == seen(4, 1)
    assert first != seen(5, 1)
    counts = np.bincount(first, minlength=3)
    assert counts.min() > 40
    for views in zip(*(seen(4, epoch) for epoch in (1, 2, 3)), strict=True):
        assert sorted(views) == [0, 1, 2], "each view comes once in as many epochs"


def test_one_batch_alone_is_the_batch_of_the_epoch() -> None:
    loader = FeatureLoader(features(), bs=3, order=order, seed=4)
    loader.set_epoch(6)
    for step, batch in enumerate(loader):
        alone = loader.batch_at(6, step)
        assert torch.equal(alone.x, batch.x)
        assert torch.equal(alone.indices, batch.indices)


def test_what_works_in_place_on_a_batch_does_not_reach_what_is_kept() -> None:
    kept = features(1)
    before = kept.features.clone()
    for batch in FeatureLoader(kept, bs=10, order=lambda _: np.arange(10)):
        batch.x.zero_()
        batch.y.zero_()
    assert torch.equal(kept.features, before)
    assert kept.targets.tolist() == [7 * i for i in range(10)]


def test_targets_of_another_number_of_pictures_are_refused() -> None:
    with pytest.raises(ArgumentError, match="features of 10 pictures and targets of 4"):
        FeatureLoader(FeatureSet(torch.zeros(1, 10, 2), torch.zeros(4)), bs=2, order=order)


def test_features_lie_in_memory_or_in_a_file_that_leaves_nothing_behind(tmp_path: Path) -> None:
    room, on_disk = empty_features((2, 5, 3), max_bytes=2 * 5 * 3 * 4, folder=tmp_path / "f")
    assert not on_disk
    assert room.shape == (2, 5, 3)
    assert not (tmp_path / "f").exists()
    mapped, on_disk = empty_features((2, 5, 3), max_bytes=2 * 5 * 3 * 4 - 1, folder=tmp_path / "f")
    assert on_disk
    assert mapped.dtype == torch.float32
    mapped.copy_(torch.arange(30.0).view(2, 5, 3))
    assert mapped[1, 4].tolist() == [27, 28, 29]
    assert FeatureSet(mapped, torch.zeros(5)).features.nbytes == 120
    if os.name == "posix":
        assert list((tmp_path / "f").iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="only Linux reserves room beforehand")
def test_a_full_disk_is_an_error_before_anything_is_computed(tmp_path, monkeypatch) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        empty_features((2, 5, 3), max_bytes=0, folder=tmp_path)


def test_a_system_that_cannot_reserve_room_makes_the_file_all_the_same(tmp_path, monkeypatch) -> None:
    def unknown(*_: int) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(os, "posix_fallocate", unknown, raising=False)
    mapped, on_disk = empty_features((2, 5, 3), max_bytes=0, folder=tmp_path)
    assert on_disk
    assert mapped.fill_(1).sum() == 30
