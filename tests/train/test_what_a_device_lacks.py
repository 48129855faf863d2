"""An operation that a device lacks is named, with the device and what to choose instead."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from train_toys import ToyLoader, toy_trainer

from onecycle.data.augment import transforms as T
from onecycle.data.augment.augmenter import BatchAugmenter
from onecycle.data.batches import BatchLoader
from onecycle.data.datasets import ImageDataset
from onecycle.data.pixels.resize import ResizeSpec
from onecycle.data.pixels.store import PicturesInMemory
from onecycle.errors import DeviceError, OnecycleError
from onecycle.train.device.machine import lacking, naming_what_lacks
from onecycle.train.device.precision import Precision
from onecycle.train.evaluate import evaluate
from onecycle.train.log.progress import Progress
from onecycle.train.log.recorder import Recorder

MPS = torch.device("mps")
SAID = {
    "The operator 'aten::eigh' is not currently implemented for the MPS device. If you want this op": "aten::eigh",
    "Could not run 'aten::quantize_per_tensor' with arguments from the 'MPS' backend.": "aten::quantize_per_tensor",
    "MPS: Unsupported Bicubic interpolation": "Bicubic interpolation",
    "grid_sampler_2d_mps: Unsupported Bicubic interpolation": "Bicubic interpolation",
    "\"triu_tril_cuda_template\" not implemented for 'BFloat16'": "triu_tril_cuda_template for BFloat16",
}


@pytest.mark.parametrize("said", SAID)
@pytest.mark.parametrize("kind", [NotImplementedError, RuntimeError])
def test_what_torch_says_is_understood(said, kind):
    assert lacking(kind(said)) == SAID[said]
    with pytest.raises(DeviceError) as caught, naming_what_lacks(MPS, "the network", "take another network"):
        raise kind(said)
    message = str(caught.value)
    for words in (SAID[said], "device 'mps'", "the network needs it", "take another network", "device='cpu'"):
        assert words in message
    assert "PYTORCH_ENABLE_MPS_FALLBACK=1" in message
    assert isinstance(caught.value, NotImplementedError | OnecycleError)
    assert isinstance(caught.value.__cause__, kind)


def test_the_cpu_itself_says_so_in_the_same_words():
    with pytest.raises(DeviceError) as caught, naming_what_lacks(torch.device("cpu"), "the loss", "take another"):
        torch.linalg.inv(torch.eye(2, dtype=torch.float16))
    assert str(caught.value).endswith("on device 'cpu', and the loss needs it: take another")


@pytest.mark.parametrize(
    "error", [NotImplementedError(), NotImplementedError("forward"), RuntimeError("shape"), KeyError()]
)
def test_other_errors_stay(error):
    with pytest.raises(type(error)) as caught, naming_what_lacks(MPS, "the network", "take another network"):
        raise error
    assert caught.value is error


def lacks(*_: object, **__: object) -> torch.Tensor:
    raise NotImplementedError("The operator 'aten::grid_sampler_2d' is not currently implemented for the MPS device.")


@pytest.mark.parametrize(("mode", "option"), [("bicubic", "mode='bilinear'"), ("bilinear", "ds_tfms=")])
def test_a_batch_that_cannot_be_made_names_the_option(monkeypatch, mode, option):
    monkeypatch.setattr(torch.nn.functional, "grid_sample", lacks)
    pictures = [np.zeros((8, 8, 3), dtype=np.uint8)] * 4
    part = ImageDataset(PicturesInMemory(pictures, ResizeSpec(None)), np.arange(4), None, ["a"], is_multi=True)
    loader = BatchLoader(part, bs=4, augmenter=BatchAugmenter([T.rotate((10, 20))], size=8, mode=mode))
    with pytest.raises(DeviceError, match=r"aten::grid_sampler_2d.*the augmentation needs it.*") as caught:
        next(iter(loader))
    assert option in str(caught.value)


class Lacking(nn.Module):
    """A layer whose operation is not there."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return lacks()


@pytest.mark.parametrize(("dtype", "instead"), [("fp32", "another network or loss"), ("bf16", "precision='fp32'")])
def test_a_step_that_cannot_be_taken_names_the_option(dtype, instead):
    trainer = toy_trainer(precision=Precision(dtype))
    trainer.model[0].append(Lacking())
    with (
        trainer.running(Recorder(), progress=Progress(), callbacks=()),
        pytest.raises(DeviceError, match=rf"training needs it: .*{instead}"),
    ):
        trainer.train_step(next(iter(ToyLoader())), 0)
    with pytest.raises(DeviceError, match="the network needs it: take another network"):
        evaluate(trainer.model, ToyLoader(), None)
