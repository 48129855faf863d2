"""``deterministic=True`` on a card: operations that add in one order, and everything as before afterwards."""

from __future__ import annotations

import os

import pytest
import torch
from fake_gpu import GPU, fake_gpu
from test_training_on_gpu import OnGpu, small_net

from onecycle.data.bunch import ImageDataBunch
from onecycle.learner.learner import Learner
from onecycle.model.heads import AdaptiveConcatPool2d
from onecycle.train.device.random_state import deterministic
from onecycle.train.log.progress import Progress
from onecycle.train.log.recorder import Recorder
from onecycle.train.loop import Trainer
from onecycle.train.losses import CrossEntropyFlat
from onecycle.train.schedules import Constant


@pytest.mark.parametrize("on", [True, False])
def test_steps_run_in_it(on, monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    seen: list[tuple[bool, bool, str | None]] = []
    with fake_gpu():
        model = small_net().to(GPU)
        model.register_forward_hook(
            lambda *_: seen.append(
                (
                    torch.are_deterministic_algorithms_enabled(),
                    torch.backends.cudnn.benchmark,
                    os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
                )
            )
        )
        trainer = Trainer(model=model, layer_groups=list(model), loss_func=CrossEntropyFlat(), deterministic=on)
        with trainer.running(Recorder(), progress=Progress(), callbacks=()):
            trainer.set_hypers(Constant((1e-3, 1e-3)), 0)
            trainer.train_step(next(iter(OnGpu(multi=False))), 0)
            trainer.recorder.losses.clear()
    assert seen == [(True, False, ":4096:8") if on else (False, True, None)]
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.backends.cudnn.benchmark


def test_on_a_cpu_nothing_is_set():
    with deterministic(torch.device("cpu"), True):
        assert not torch.are_deterministic_algorithms_enabled()


def test_a_learner_takes_it_and_fixes_the_workspace_at_once(colour_path, tmp_path, monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    data = ImageDataBunch.from_csv(colour_path, folder="train", suffix=".jpg", size=32, bs=16, device="cpu")
    learn = Learner(data, small_net(), path=tmp_path, silent=True, deterministic=True)
    assert learn.trainer.deterministic
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


def test_pooling_has_a_gradient_of_one_order():
    x = torch.rand(2, 3, 5, 5)
    pool = AdaptiveConcatPool2d()
    with fake_gpu() as card, deterministic(GPU, True):
        assert pool(torch.zeros(2, 3, 5, 5, device=GPU)).shape == (2, 6, 1, 1)
        assert not [name for name in card.operations if "adaptive" in name]
        assert "aten.amax.default" in card.operations
    assert torch.equal(pool(x)[:, :3], x.amax((2, 3), keepdim=True))
    assert torch.allclose(pool(x)[:, 3:], x.mean((2, 3), keepdim=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_two_trainings_on_a_gpu_end_in_the_same_bits(colour_path, tmp_path):
    def weights() -> torch.Tensor:
        data = ImageDataBunch.from_csv(colour_path, folder="train", suffix=".jpg", size=32, bs=16)
        torch.manual_seed(0)
        how = {"precision": "fp32", "channels_last": True, "deterministic": True, "silent": True}
        learn = Learner(data, small_net(), path=tmp_path, **how)
        learn.fit(2)
        return torch.cat([p.detach().flatten() for p in learn.model.parameters()])

    assert torch.equal(weights(), weights())
