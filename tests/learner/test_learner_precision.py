"""What is chosen before a fit, and what is said of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from onecycle import settings
from onecycle.data.augment.transforms import get_transforms
from onecycle.data.bunch import ImageDataBunch
from onecycle.errors import ArgumentError
from onecycle.learner.cnn import cnn_learner
from onecycle.learner.learner import Learner
from onecycle.learner.precision import WIDTH
from onecycle.train.device import precision_trial as trial
from onecycle.train.device.precision import Precision
from onecycle.train.loop import Callback


def bunch(path: Path, **options) -> ImageDataBunch:
    return ImageDataBunch.from_csv(path, folder="train", suffix=".jpg", size=32, bs=16, **options)


def small_net(c: int) -> nn.Sequential:
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
    return nn.Sequential(body, nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, c)))


@pytest.fixture
def learn(colour_path, tmp_path) -> Learner:
    return Learner(bunch(colour_path, ds_tfms=get_transforms()), small_net(3), path=tmp_path)


@pytest.fixture
def every_fit_is_long(monkeypatch) -> None:
    """Measure however little there is to gain, and decide by a table instead of a clock."""
    seconds = {"fp32, channels_last": 0.2, "bf16, channels_last": 0.1, "bf16, contiguous": 0.3}
    monkeypatch.setattr(trial, "MIN_FIT_S", 0.0)
    monkeypatch.setattr(trial._Trial, "_step_s", lambda t, precision, call, x: seconds[precision.name])
    monkeypatch.setattr("onecycle.train.device.precision.cpu_has_bf16", lambda: True)


def said(capsys: pytest.CaptureFixture[str]) -> list[str]:
    out = capsys.readouterr().out.splitlines()
    starts = [i for i, line in enumerate(out) if line.startswith("Speed: ")]
    ends = [next(j for j in range(i + 1, len(out)) if not out[j].startswith("  ")) for i in starts]
    return ["\n".join(out[i:j]) for i, j in zip(starts, ends, strict=True)]


def test_one_line_says_what_was_chosen_once(learn, capsys):
    learn.fit(1)
    (line,) = said(capsys)
    words = " ".join(line.split())
    assert words.startswith("Speed: fp32, channels_last (too short a fit to measure); batch 16; pixels ")
    assert words.endswith(learn.data.store.describe())
    assert max(map(len, line.splitlines())) <= WIDTH
    learn.fit(1)
    learn.lr_find(num_it=2)
    assert said(capsys) == []
    learn.precision = "bf16"
    learn.fit(1)
    assert said(capsys) != []


def test_silent_says_nothing(colour_path, tmp_path, capsys):
    data = bunch(colour_path)
    data.prepare()
    capsys.readouterr()
    Learner(data, small_net(3), path=tmp_path, silent=True).fit(1)
    assert capsys.readouterr().out == ""


def test_the_choice_is_measured_for_pictures_and_remembered(learn, every_fit_is_long, capsys):
    learn.fit(15)
    (line,) = said(capsys)
    words = " ".join(line.split())
    assert "bf16, channels_last (measured: 80 pictures/s; fp32 40; contiguous 27); batch 16" in words
    assert learn.trainer.precision.dtype == "bf16"
    (entry,) = json.loads((settings.cache_folder() / "precision.json").read_text())["answers"].values()
    assert entry["of"]["batch"] == [8, 3, 32, 32]
    learn.lr_find(num_it=60)
    assert said(capsys) == [], "the same answer"


def test_a_head_on_features_stays_in_fp32(colour_path, tmp_path, every_fit_is_long, capsys):
    data = bunch(colour_path)
    learn = cnn_learner(data, "resnet18", pretrained=False, path=tmp_path, precompute=True)
    learn.freeze()
    learn.fit(20)
    (line,) = said(capsys)
    assert "fp32 (what trains is fed features); batch 16; features of the frozen layers" in " ".join(line.split())
    assert learn.trainer.precision is None
    assert not (settings.cache_folder() / "precision.json").exists()


def test_measuring_changes_nothing_of_the_result(colour_path, tmp_path, monkeypatch):
    """A measured fit that ends up with fp32 and channels_last is the unmeasured one to the bit."""

    def run() -> dict[str, torch.Tensor]:
        data = bunch(colour_path, ds_tfms=get_transforms())
        learner = Learner(data, small_net(3), path=tmp_path, silent=True)
        learner.fit_one_cycle(15, 0.01)
        return learner.model.state_dict()

    plain = run()
    monkeypatch.setattr(trial, "MIN_FIT_S", 0.0)
    monkeypatch.setattr(trial, "CLEARLY_FASTER", 1e9)
    measured = run()
    assert "measured" in Path(settings.cache_folder() / "precision.json").read_text()
    assert all(torch.equal(value, measured[name]) for name, value in plain.items())


def test_what_is_asked_for_is_what_is_used(colour_path, tmp_path, capsys):
    learn = cnn_learner(
        bunch(colour_path), "resnet18", pretrained=False, path=tmp_path, precision="bf16", channels_last=False
    )
    learn.fit(1)
    assert learn.trainer.precision == Precision("bf16", False, False, "as asked for")
    assert "bf16, contiguous (as asked for)" in capsys.readouterr().out
    assert learn.to_fp32() is learn
    assert learn.precision == "fp32"
    learn.fit(1)
    assert learn.trainer.precision.dtype == "fp32"


def test_half_floats_need_a_gpu(learn, colour_path, tmp_path):
    with pytest.raises(ArgumentError, match="needs a CUDA GPU"):
        learn.to_fp16()
    with pytest.raises(ArgumentError, match="needs a CUDA GPU"):
        Learner(bunch(colour_path), small_net(3), path=tmp_path, precision="fp16")
    assert learn.precision == "auto"
    with pytest.raises(ArgumentError, match="precision is one of"):
        learn.precision = "bfloat16"


def test_a_new_model_gets_the_layout_too(learn):
    learn.fit(1)
    learn.model = small_net(3)
    learn.layer_groups = [nn.ModuleList(learn.model.modules())]
    assert learn.model[0][0].weight.is_contiguous()
    learn.fit(1)
    assert learn.model[0][0].weight.is_contiguous(memory_format=torch.channels_last)


def test_compiling_happens_before_the_first_step_of_a_fit_and_leaves_no_trace(colour_path, tmp_path, monkeypatch):
    calls: list[str] = []

    def compiled(network: nn.Module, *, dynamic: bool) -> nn.Module:
        calls.append("compile")
        network.register_forward_hook(lambda *_: calls.append("pass") if network.training else None)
        return network

    class Begin(Callback):
        def on_train_begin(self, trainer) -> None:
            if trainer.n_batches:
                return
            calls.append("begin")
            states.append({k: v.clone() for k, v in trainer.model.state_dict().items()})

    states: list[dict[str, torch.Tensor]] = []
    monkeypatch.setattr(torch, "compile", compiled)
    model = small_net(3)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    learn = Learner(bunch(colour_path), model, path=tmp_path, compile=True, silent=True)
    learn.fit(1, callbacks=Begin())
    assert calls[:4] == ["compile", "pass", "begin", "pass"]
    assert calls.count("compile") == 1
    assert all(torch.equal(before[k], states[0][k]) for k in before)
