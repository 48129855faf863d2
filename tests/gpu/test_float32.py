"""What is reported, kept or compared is computed in float32, also where torch would take fewer bits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from fake_gpu import GPU, fake_gpu
from test_training_on_gpu import run, small_net, trainer_on_gpu
from torch import Tensor, nn

from onecycle.data.bunch import ImageDataBunch
from onecycle.learner.features import FrozenFeatures
from onecycle.learner.learner import Learner
from onecycle.model.fuse import TOLERANCE, fuse_batchnorm
from onecycle.train.device.precision import PrecisionOptions, float32_products
from onecycle.train.losses import CrossEntropyFlat


def conv_has_tf32() -> bool:
    """As torch's own code asks it, in either way of saying it."""
    conv = getattr(torch.backends.cudnn, "conv", None)
    return conv.fp32_precision == "tf32" if conv is not None else torch.backends.cudnn.allow_tf32


def rounded(x: Tensor) -> Tensor:
    """Round float32 to 10 bits of mantissa, as TF32 does."""
    bits = x.detach().contiguous().numpy().view(np.int32)
    return torch.from_numpy(((bits + 0x1000) & ~0x1FFF).view(np.float32)).view_as(x)


@pytest.fixture
def emulated_tf32(monkeypatch) -> Iterator[list[bool]]:
    """Convolutions of the CPU multiply as a card's would; yields whether each one used TF32."""
    used: list[bool] = []
    plain = F.conv2d

    def conv2d(x: Tensor, weight: Tensor, *args: object, **kwargs: object) -> Tensor:
        used.append(conv_has_tf32())
        return plain(rounded(x), rounded(weight), *args, **kwargs) if used[-1] else plain(x, weight, *args, **kwargs)

    monkeypatch.setattr(F, "conv2d", conv2d)
    with float32_products("tf32"):
        yield used


def network() -> nn.Sequential:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for i in range(6):
        layers += [nn.Conv2d(3 if i == 0 else 16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()]
    net = nn.Sequential(*layers)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return net.eval()


def test_the_emulation_is_as_inexact_as_tf32(emulated_tf32):
    net, x = network(), torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        coarse = net(x)
        with float32_products():
            exact = net(x)
    error = float((coarse - exact).abs().max() / exact.abs().max())
    assert TOLERANCE < error < 1e-2
    assert emulated_tf32 == [True] * 6 + [False] * 6


def test_folding_batch_norms_is_judged_in_float32(emulated_tf32):
    net, x = network(), torch.rand(2, 3, 16, 16)
    folded = fuse_batchnorm(net, x)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    assert not any(emulated_tf32)


def small_bunch(path) -> ImageDataBunch:
    return ImageDataBunch.from_csv(path, folder="train", suffix=".jpg", size=32, bs=16, device="cpu")


def test_features_and_predictions_are_float32(emulated_tf32, colour_path, tmp_path):
    data = small_bunch(colour_path)
    learn = Learner(data, small_net(), path=tmp_path, silent=True)
    data.prepare(silent=True)
    learn.model[0].requires_grad_(False)
    coarse = FrozenFeatures().of_labelled(learn.model, data, stats=None, silent=True)
    probs = learn.get_preds()[0]
    learn.pred_batch()
    assert emulated_tf32
    assert not any(emulated_tf32)
    with float32_products():
        exact = FrozenFeatures().of_labelled(learn.model, data, stats=None, silent=True)
        assert torch.equal(coarse.features, exact.features)
        assert torch.equal(probs, learn.get_preds()[0])


@pytest.mark.parametrize("dtype", ["fp32", "tf32", "bf16", "fp16"])
def test_training_multiplies_as_it_says(dtype):
    seen: list[bool] = []
    with fake_gpu() as card:
        trainer = trainer_on_gpu(CrossEntropyFlat(), dtype)
        trainer.model[0][0].register_forward_hook(lambda *_: seen.append(conv_has_tf32()))
        before = conv_has_tf32()
        run(card, trainer, multi=False)
        assert conv_has_tf32() == before
    assert seen == [dtype == "tf32"] * 3


def test_the_types_of_a_card_are_tried_the_plainest_first():
    with fake_gpu():
        assert PrecisionOptions().dtypes(GPU) == ["fp32", "tf32", "bf16", "fp16"]


@pytest.mark.parametrize("before", ["tf32", "ieee"])
def test_what_the_user_set_is_put_back(before):
    with float32_products(before):
        with suppress(KeyError), float32_products():
            assert not conv_has_tf32()
            raise KeyError
        assert conv_has_tf32() == (before == "tf32")
