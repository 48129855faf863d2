"""The card in name only sees what a real one would suffer from."""

from __future__ import annotations

import pytest
import torch
from fake_gpu import GPU, fake_gpu
from torch import nn


def test_values_of_the_cpu_are_real_and_those_of_the_card_are_not():
    with fake_gpu() as card:
        there = torch.arange(3.0).to(GPU, non_blocking=True)
        assert (torch.arange(3.0) * 2).tolist() == [0.0, 2.0, 4.0]
        assert there.device.type == "cuda"
        assert not card.waits


WAITS = {
    "item": lambda x: x.sum().item(),
    "float": lambda x: float(x.sum()),
    "bool": lambda x: bool(x.any()),
    "cpu": lambda x: x.cpu(),
    "blocking copy": lambda x: torch.zeros(2).to(x.device),
    "a tensor from a list": lambda x: torch.tensor([1.0, 2.0], device=x.device),
    "an index of the cpu": lambda x: x[torch.tensor([0, 1])],
    "writing by an index of the cpu": lambda x: x.index_put_((torch.tensor([0]),), x[:1]),
    "a large copy that is not pinned": lambda x: torch.zeros(20_000).to(x.device, non_blocking=True),
    "synchronize": lambda x: torch.cuda.synchronize(),
}


@pytest.mark.parametrize("name", WAITS)
def test_a_wait_is_seen_with_its_line(name):
    with fake_gpu() as card:
        WAITS[name](torch.zeros(4, device=GPU))
    assert card.waits
    assert all("test_fake_gpu.py:" in wait for wait in card.waits)


def test_what_depends_on_values_is_a_wait():
    with fake_gpu() as card:
        with pytest.raises(Exception, match="nonzero"):
            torch.zeros(4, device=GPU).nonzero()
        assert card.waits


def test_a_pinned_copy_does_not_wait():
    with fake_gpu() as card:
        torch.zeros(20_000).pin_memory().to(GPU, non_blocking=True)
    assert card.copies == ["80000 bytes to cuda:0"]
    assert not card.waits


def test_devices_that_are_mixed_raise():
    with fake_gpu(), pytest.raises(RuntimeError, match="same device"):
        torch.zeros(2, device=GPU) + torch.zeros(2)


def test_operations_and_their_bytes_are_counted():
    with fake_gpu() as card:
        x = torch.empty(1000, device=GPU)
        y = x.view(10, 100).mul(2)
        y.add_(1)
    assert card.operations == ["aten.mul.Tensor", "aten.add_.Tensor"]
    assert card.n_bytes == 4 * 4000


def test_a_network_moves_and_trains():
    with fake_gpu() as card:
        net = nn.Linear(4, 2).to(GPU)
        net(torch.zeros(3, 4, device=GPU)).sum().backward()
        assert net.weight.grad is not None
        assert net.weight.grad.device.type == "cuda"
    assert card.backwards == 1
