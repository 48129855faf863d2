from __future__ import annotations

import json
import shutil
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from train_toys import Batch, FakeLearner, ToyLoader, toy_model, toy_trainer

from onecycle.errors import ArgumentError
from onecycle.train.callbacks import AccumulateScheduler, Callback, GradientClipping
from onecycle.train.device import precision_trial as trial
from onecycle.train.device.precision import Precision, PrecisionOptions, cpu_has_bf16
from onecycle.train.device.precision_trial import choose_precision
from onecycle.train.evaluate import evaluate
from onecycle.train.log.progress import Progress
from onecycle.train.log.recorder import Recorder
from onecycle.train.loop import Trainer
from onecycle.train.lr_finder import find_lr
from onecycle.train.optimizer import AdamW_v1
from onecycle.train.schedules import Constant, OneCycle

CPU = torch.device("cpu")


class Stripes:
    """Noisy 12 px pictures of horizontal, vertical and diagonal stripes, shuffled anew in each epoch."""

    def __init__(self, n: int = 96, bs: int = 16, *, seed: int = 0, noise: float = 1.5) -> None:
        gen = torch.Generator().manual_seed(seed)
        rows, cols = torch.meshgrid(torch.arange(12.0), torch.arange(12.0), indexing="ij")
        waves = torch.stack([rows, cols, rows + cols]).sin()
        self.y = torch.arange(n) % 3
        x = waves[self.y][:, None] + noise * torch.randn(n, 3, 12, 12, generator=gen)
        self.x, self.bs, self.epoch = x.contiguous(memory_format=torch.channels_last), bs, 0

    def __len__(self) -> int:
        return len(self.x) // self.bs

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self):
        gen = torch.Generator().manual_seed(self.epoch)
        for part in torch.randperm(len(self.x), generator=gen).split(self.bs):
            yield Batch(self.x[part], self.y[part], part)


def conv_net(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        body = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, 1, 1))
        return nn.Sequential(body, nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)))


def conv_trainer(precision: Precision | None, seed: int = 0, **kwargs: Any) -> Trainer:
    model = conv_net(seed).to(memory_format=torch.channels_last)
    return Trainer(
        model=model, layer_groups=list(model), loss_func=nn.CrossEntropyLoss(), seed=seed, precision=precision, **kwargs
    )


def fit(trainer: Trainer, *callbacks: Callback, epochs: int = 1, loader: Any = None) -> Recorder:
    loader, recorder = loader or Stripes(), Recorder()
    schedule = OneCycle(epochs * len(loader), (2e-2, 2e-2))
    trainer.fit(epochs, schedule, loader, recorder=recorder, callbacks=callbacks)
    return recorder


class Gradients(Callback):
    """Copies the gradients that callbacks see."""

    order = 50

    def __init__(self) -> None:
        self.all: list[list[Tensor]] = []

    def on_backward_end(self, trainer):
        self.all.append([p.grad.clone() for p in trainer.model.parameters()])


# --- what a precision does ------------------------------------------------------------------------


def test_words():
    chosen = Precision("bf16", channels_last=False, compile=True, reason="measured")
    assert chosen.describe() == "bf16, contiguous, compiled (measured)"
    assert Precision().describe() == "fp32, channels_last"


def test_fp32_is_the_plain_loop_to_the_bit():
    plain, fp32 = fit(conv_trainer(None)), fit(conv_trainer(Precision()))
    assert plain.raw_losses == fp32.raw_losses


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_weights_gradients_and_loss_stay_float32(dtype):
    seen: list[torch.dtype] = []

    class Loss(nn.CrossEntropyLoss):
        def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
            seen.append(logits.dtype)
            return super().forward(logits, targets)

    inside: list[torch.dtype] = []
    trainer = conv_trainer(Precision(dtype))
    trainer.loss_func = Loss()
    trainer.model[0][3].register_forward_hook(lambda module, args, out: inside.append(out.dtype))
    keep = Gradients()
    fit(trainer, keep)
    assert set(inside) == {torch.bfloat16 if dtype == "bf16" else torch.float16}
    assert set(seen) == {torch.float32}
    assert {p.dtype for p in trainer.model.parameters()} == {torch.float32}
    assert {g.dtype for grads in keep.all for g in grads} == {torch.float32}


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_gradients_are_those_of_fp32_within_rounding(dtype):
    """Of the first step, where the weights are the same."""
    exact, rough = Gradients(), Gradients()
    fit(conv_trainer(Precision()), exact)
    fit(conv_trainer(Precision(dtype)), rough)
    flat = [torch.cat([g.flatten() for g in keep.all[0]]) for keep in (exact, rough)]
    error = float((flat[0] - flat[1]).norm() / flat[0].norm())
    assert 0 < error < (0.05 if dtype == "bf16" else 0.01)


def test_16_bits_and_layout_do_not_change_the_quality():
    """Mean validation losses over six seeds agree within the standard error of their difference."""
    valid = Stripes(300, 100, seed=1)
    found: dict[str, Tensor] = {}
    for precision in (Precision(), Precision("bf16"), Precision("fp16"), Precision(channels_last=False)):
        losses = []
        for seed in range(6):
            trainer = conv_trainer(precision, seed)
            fit(trainer, epochs=3, loader=Stripes(seed=10 + seed))
            losses.append(float(evaluate(trainer.model, valid, nn.CrossEntropyLoss()).losses.mean()))
        found[precision.name] = torch.tensor(losses)
    exact = found.pop("fp32, channels_last")
    assert exact.max() < 0.95, "it learns: chance is 1.1"
    for name, losses in found.items():
        error = float((losses.var() / 6 + exact.var() / 6).sqrt())
        assert abs(float(losses.mean() - exact.mean())) < 2 * error, name
        assert float((losses - exact).abs().max()) < 0.1, name


def test_layout_of_weights_batches_and_optimizer_state_follow():
    seen: list[bool] = []
    trainer = conv_trainer(Precision())
    trainer.model.register_forward_pre_hook(lambda module, args: seen.append(args[0].is_contiguous()))
    fit(trainer)
    assert not any(seen)
    trainer.use_precision(Precision(channels_last=False))
    assert all(p.is_contiguous() for p in trainer.model.parameters())
    for p, state in trainer.optimizer.torch.state.items():
        assert state["exp_avg"].stride() == p.stride()
    seen.clear()
    fit(trainer)
    assert all(seen)


def test_layouts_give_the_same_losses_within_rounding():
    losses = [fit(conv_trainer(Precision(channels_last=c)), epochs=2).raw_losses for c in (True, False)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_batches_that_are_not_pictures_keep_their_layout():
    trainer = toy_trainer(precision=Precision())
    assert fit(trainer, loader=ToyLoader()).raw_losses == fit(toy_trainer(), loader=ToyLoader()).raw_losses


def test_reported_numbers_are_fp32_whatever_the_training_was():
    trainer = conv_trainer(Precision("bf16"))
    fit(trainer)
    valid, loss = Stripes(32, 16, seed=2), nn.CrossEntropyLoss()
    reported, asked = (evaluate(trainer.model, valid, loss), evaluate(trainer.model, valid, loss, Precision("bf16")))
    with torch.no_grad():
        exact = torch.cat([trainer.model.eval()(batch.x) for batch in valid])
    assert torch.equal(reported.logits, exact)
    assert asked.logits.dtype == torch.float32
    assert not torch.equal(asked.logits, exact)
    assert torch.allclose(asked.logits, exact, atol=0.1)


def test_compile_wraps_the_network_once(monkeypatch):
    wrapped: list[nn.Module] = []

    def compiled(network: nn.Module, *, dynamic: bool) -> nn.Module:
        wrapped.append(network)
        return network

    monkeypatch.setattr(torch, "compile", compiled)
    trainer = conv_trainer(Precision(compile=True))
    fit(trainer, epochs=2)
    fit(trainer)
    assert wrapped == [trainer.model]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="compiling for a CPU needs a C++ compiler")
def test_a_compiled_network_computes_the_same(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    trainers = [conv_trainer(Precision(compile=c)) for c in (True, False)]
    losses = [fit(trainer, epochs=2).raw_losses for trainer in trainers]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert list(trainers[0].model.state_dict()) == list(trainers[1].model.state_dict())


# --- fp16: the gradient scaler --------------------------------------------------------------------


class Overflow(Callback):
    """Makes the gradient of one step infinite before it is unscaled."""

    def __init__(self, at: int) -> None:
        self.at, self.hook, self.before = at, None, []

    def on_batch_begin(self, trainer, batch, rng):
        weight = trainer.model[1][-1].weight
        if self.hook is not None:
            self.hook.remove()
            self.hook = None
        if trainer.batch_no == self.at:
            self.hook = weight.register_hook(lambda grad: grad * float("inf"))
        self.before.append([p.detach().clone() for p in trainer.model.parameters()])


@pytest.mark.parametrize("opt_func", [AdamW_v1, partial(torch.optim.Adam, foreach=True)])
def test_a_step_with_an_infinite_gradient_is_left_out_whole(opt_func):
    """Weights stay to the bit, decay included; the scale is halved, and training goes on."""
    trainer, overflow = conv_trainer(Precision("fp16"), opt_func=opt_func, wd=0.1), Overflow(2)
    start = trainer.scaler.get_scale()
    fit(trainer, overflow)
    same = [
        all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
        for before, after in zip(overflow.before, overflow.before[1:], strict=False)
    ]
    assert same == [False, False, True, False, False]
    assert trainer.scaler.get_scale() == start / 2


def test_clipping_sees_unscaled_gradients():
    trainer = conv_trainer(Precision("fp16"))
    keep, norms = Gradients(), []
    fit(trainer, GradientClipping(FakeLearner(None, trainer), clip=0.05), keep)
    norms = [float(torch.cat([g.flatten() for g in grads]).norm()) for grads in keep.all]
    assert max(norms) == pytest.approx(0.05, rel=1e-3)
    assert min(norms) > 0.01


def test_scaled_gradients_add_up_over_batches():
    keeps = []
    for precision in (Precision(), Precision("fp16")):
        trainer, keep = conv_trainer(precision), Gradients()
        if trainer.scaler is not None:  # the callback multiplies the loss by the pictures of the batch
            trainer.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
        fit(trainer, AccumulateScheduler(FakeLearner(None, trainer), n_step=3), keep)
        keeps.append(torch.cat([g.flatten() for g in keep.all[2]]))
    assert float((keeps[0] - keeps[1]).norm() / keeps[0].norm()) < 0.01


def test_an_overflow_within_an_accumulated_update_leaves_that_update_out():
    trainer, overflow = conv_trainer(Precision("fp16")), Overflow(1)
    trainer.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    fit(trainer, AccumulateScheduler(FakeLearner(None, trainer), n_step=3), overflow)
    first, fourth = overflow.before[0], overflow.before[3]
    assert all(torch.equal(a, b) for a, b in zip(first, fourth, strict=True))
    assert all(p.isfinite().all() for p in trainer.model.parameters())
    assert trainer.scaler.get_scale() == 256, "once for its own batch, once for the update that holds it"
    moved = zip(fourth, trainer.model.parameters(), strict=True)
    assert not all(torch.equal(a, b) for a, b in moved), "the second update counts"


def test_the_finder_leaves_the_scale_as_it_was():
    trainer = conv_trainer(Precision("fp16"))
    before = trainer.scaler.get_scale()
    find_lr(trainer, Stripes(), recorder=Recorder(), num_it=8, stop_div=False, callbacks=[FinderOverflow(1)])
    assert trainer.scaler.get_scale() == before


class FinderOverflow(Overflow):
    in_lr_find = True


# --- what may be asked for ------------------------------------------------------------------------


def test_what_cannot_be_had_is_said():
    with pytest.raises(ArgumentError, match=r"fp16' needs a CUDA GPU.*'cpu'.*'bf16'"):
        PrecisionOptions("fp16").check(CPU)
    with pytest.raises(ArgumentError, match=r"tf32' needs a CUDA GPU.*'cpu' has no TF32"):
        PrecisionOptions("tf32").check(CPU)
    with pytest.raises(
        ArgumentError, match="precision is one of 'auto', 'fp32', 'tf32', 'bf16', 'fp16'; received 'half'"
    ):
        PrecisionOptions("half")
    with pytest.raises(ArgumentError, match="channels_last is True, False or None"):
        PrecisionOptions(channels_last="yes")
    with pytest.raises(ArgumentError, match="fp16"):
        choose(options=PrecisionOptions("fp16"))


# --- the choice -----------------------------------------------------------------------------------

SECONDS = {"fp32, channels_last": 0.05, "bf16, channels_last": 0.05, "fp32, contiguous": 0.05}


def wanted(options: PrecisionOptions) -> list[str]:
    """What may be chosen on a processor that has bf16."""
    return ["fp32", "bf16"] if options.precision == "auto" else [options.precision]


class Clock:
    """Stands in for the clock: each step takes what the table says, and time goes on by that."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.table, self.steps, self.now = dict(SECONDS), [], 0.0
        monkeypatch.setattr(trial._Trial, "_step_s", lambda t, precision, call, x: self.step(precision.name))
        monkeypatch.setattr(trial.time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(PrecisionOptions, "dtypes", lambda options, device: wanted(options))

    def step(self, name: str) -> float:
        if self.table[name] < 0:
            raise RuntimeError("not implemented for 'BFloat16'")
        self.steps.append(name)
        self.now += self.table[name]
        return self.table[name]


@pytest.fixture
def clock(monkeypatch) -> Clock:
    return Clock(monkeypatch)


def example(n: int) -> tuple[Tensor, Tensor]:
    loader = Stripes()
    return loader.x[:n], loader.y[:n]


def choose(model: nn.Module | None = None, **kwargs: Any) -> Precision:
    options = {"loss_func": nn.CrossEntropyLoss(), "device": CPU, "bs": 16, "n_pictures": 100_000, **kwargs}
    return choose_precision(model or conv_net(), options.pop("example", example), **options)


def test_the_plainer_stays_unless_the_other_is_a_tenth_faster(clock):
    clock.table["bf16, channels_last"] = 0.046
    assert choose().describe() == ("fp32, channels_last (measured: 160 pictures/s; bf16 174; contiguous 160)")
    assert clock.steps == ["fp32, channels_last", *(name for name in SECONDS for _ in range(3))]
    clock.table["bf16, channels_last"] = 0.045
    clock.table["bf16, contiguous"] = 0.02
    assert choose().describe() == (
        "bf16, contiguous (measured: 400 pictures/s; fp32 channels_last 160; channels_last 178)"
    )


def test_a_pause_of_the_machine_does_not_make_another_look_faster(clock, monkeypatch):
    # Two steps to warm up, and one that counts while the machine does other work.
    pause = iter([0.05, 0.05, 0.6])

    def step(name: str) -> float:
        clock.now += (took := next(pause, 0.05))
        clock.steps.append(name)
        return took

    monkeypatch.setattr(clock, "step", step)
    chosen = choose()
    assert chosen.name == "fp32, channels_last"
    assert chosen.reason == "measured: 160 pictures/s; bf16 160; contiguous 160", "timed again"


def test_hopeless_candidates_get_one_step_and_slow_ones_two(clock):
    clock.table["bf16, channels_last"] = 0.11
    assert "bf16 73" in choose().describe()
    assert clock.steps.count("bf16, channels_last") == 1
    clock.table, clock.steps, clock.now = dict.fromkeys(SECONDS, 0.6), [], 0.0
    choose()
    assert clock.steps == ["fp32, channels_last", *(name for name in SECONDS for _ in range(2))]


def test_no_more_than_the_budget(clock, tmp_path):
    clock.table = dict.fromkeys(SECONDS, 1.2)
    assert choose().describe() == "fp32, channels_last (measured: 6.7 pictures/s; bf16 6.7)"
    assert clock.now <= trial.BUDGET_S + 1.2
    clock.table = dict.fromkeys(SECONDS, 3.0)
    said = choose(cache_file=tmp_path / "precision.json").describe()
    assert not (tmp_path / "precision.json").exists(), "nothing was found out"
    assert said == "fp32, channels_last (nothing else tried: 2 pictures took 3.0 s, trying may take 5)"
    assert clock.steps[-2:] == 2 * ["fp32, channels_last"]


def test_what_does_not_run_is_left_out(clock):
    clock.table["bf16, channels_last"] = -1
    assert "(measured: 160 pictures/s; bf16 does not run; contiguous 160)" in choose().describe()
    clock.table["fp32, channels_last"] = -1
    assert choose() == Precision(reason="not measured: a trial step failed")


def out_of_memory(*names: str, below: int = 0):
    """Stand in for a step: candidates of these names run out of memory with ``below`` pictures or more."""

    def step(self: trial._Trial, precision: Precision, call: object, x: Tensor) -> float:
        if precision.name in names and len(x) >= below:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 GiB")
        return SECONDS[precision.name] * len(x)

    return step


def test_what_does_not_fit_is_left_out_and_the_trial_goes_on(clock, monkeypatch):
    monkeypatch.setitem(SECONDS, "bf16, contiguous", 0.05)
    monkeypatch.setattr(trial._Trial, "_step_s", out_of_memory("fp32, channels_last"))
    chosen = choose()
    assert chosen.name == "bf16, channels_last"
    assert chosen.reason == "measured: 20 pictures/s; fp32 does not run; contiguous 20"


def test_where_nothing_fits_smaller_batches_are_tried(clock, monkeypatch):
    monkeypatch.setitem(SECONDS, "bf16, contiguous", 0.05)
    monkeypatch.setitem(SECONDS, "bf16, channels_last", 0.02)
    monkeypatch.setattr(trial._Trial, "_step_s", out_of_memory(*SECONDS, below=3))
    chosen = choose()
    assert chosen.name == "bf16, channels_last"
    assert "measured: 50 pictures/s" in chosen.reason
    monkeypatch.setattr(trial._Trial, "_step_s", out_of_memory(*SECONDS))
    assert choose().reason == "not measured: a trial step failed"


GPU_SECONDS = {"fp32, channels_last": 0.05, "fp32, contiguous": 0.05, "fp32, channels_last, compiled": 0.02}


@pytest.mark.parametrize(("fit_s", "compiled"), [(700.0, False), (799.0, False), (801.0, True), (5000.0, True)])
def test_compiling_is_chosen_where_it_takes_a_twentieth_of_the_fit(tmp_path, monkeypatch, fit_s, compiled):
    calls: list[str] = []

    def step(self: trial._Trial, precision: Precision, call: object, x: Tensor) -> float:
        first = precision.compile and precision.name not in calls
        calls.append(precision.name)
        return 40.0 if first else GPU_SECONDS[precision.name]

    monkeypatch.setattr(trial._Trial, "_step_s", step)
    monkeypatch.setattr(torch, "compile", lambda network, dynamic: network)
    answer = trial._Trial(conv_net(), *example(8), nn.CrossEntropyLoss()).run(
        Precision(), [], [False], 10**6, ["compile"]
    )
    assert answer.precision.compile
    assert answer.extras_s == {"compile": 40.0}
    facts = trial._facts(conv_net(), example(8)[0], PrecisionOptions())
    trial._remember(tmp_path / "precision.json", facts, answer)
    n_pictures = int(fit_s * answer.plain_rate)
    chosen = choose(n_pictures=n_pictures, cache_file=tmp_path / "precision.json")
    assert chosen.compile == compiled
    assert ("compiling would take 40 s" in chosen.reason) != compiled


GPU = torch.device("cuda")


@pytest.fixture
def gpu(clock, monkeypatch) -> Clock:
    """A GPU by name: 320 pictures a second, first steps with cuDNN's benchmark of 2 s, compiling of 40 s."""
    firsts = {"cudnn.benchmark": 2.0, "compiled": 40.0}

    def step(name: str) -> float:
        plain = Clock.step(clock, name)
        longer = next((s for word, s in firsts.items() if name.endswith(word) and clock.steps.count(name) == 1), 0.0)
        clock.now += longer
        return plain + longer

    names = ("cudnn.benchmark", "compiled", "cudnn.benchmark, compiled")
    clock.table |= {
        f"fp32, channels_last, {name}": seconds for name, seconds in zip(names, (0.04, 0.04, 0.03), strict=True)
    }
    monkeypatch.setattr(clock, "step", step)
    monkeypatch.setattr(PrecisionOptions, "dtypes", lambda options, device: ["fp32"])
    monkeypatch.setattr(PrecisionOptions, "check", lambda options, device: None)
    monkeypatch.setattr(trial, "keep_random_state", lambda device: nullcontext())
    monkeypatch.setattr(trial, "device_name", lambda device: "a card by name")
    monkeypatch.setattr(torch, "compile", lambda network, dynamic: network)
    return clock


def choose_on_gpu(seconds: float, **kwargs: Any) -> Precision:
    """The choice for a fit that takes so long in the plainest way, in batches of 16."""
    return choose(device=GPU, n_pictures=int(320 * seconds), **kwargs)


def test_cudnn_benchmark_is_chosen_where_it_gains(gpu):
    assert choose_on_gpu(50).reason == "measured: 320 pictures/s; contiguous 320", "too short a fit to try it"
    chosen = choose_on_gpu(61)
    assert chosen.describe() == (
        "fp32, channels_last, cudnn.benchmark (measured: 400 pictures/s; no cudnn.benchmark 320; "
        "contiguous no cudnn.benchmark 320)"
    )
    gpu.table["fp32, channels_last, cudnn.benchmark"] = 0.047
    assert choose_on_gpu(61).name == "fp32, channels_last", "less than a tenth"
    gpu.table["fp32, channels_last, cudnn.benchmark"] = -1
    assert "cudnn.benchmark does not run" in choose_on_gpu(61).reason


def test_cudnn_benchmark_is_left_where_bits_must_come_again_or_nothing_is_open(gpu, tmp_path):
    file = tmp_path / "precision.json"
    assert choose_on_gpu(100, cache_file=file).benchmark
    gpu.steps.clear()
    assert not choose_on_gpu(100, cache_file=file, repeatable=True).benchmark
    assert gpu.steps == [], "known all the same"
    assert not choose_on_gpu(100, repeatable=True).benchmark
    assert not any("cudnn" in name for name in gpu.steps)
    assert choose_on_gpu(100, options=PrecisionOptions("fp32", True, False)).reason == "as asked for"


def test_what_a_short_fit_did_not_try_a_long_one_does(gpu, tmp_path):
    file = tmp_path / "precision.json"

    def tried(seconds: float, **kwargs: Any) -> tuple[str, list[str]]:
        gpu.steps.clear()
        chosen = choose_on_gpu(seconds, cache_file=file, **kwargs)
        return chosen.name.removeprefix("fp32, channels_last").removeprefix(", "), sorted(
            {name.removeprefix("fp32, channels_last, ") for name in gpu.steps} - {"fp32, channels_last"}
        )

    assert tried(50) == ("", ["fp32, contiguous"])
    assert tried(59) == ("", [])
    assert tried(100) == ("cudnn.benchmark", ["cudnn.benchmark", "fp32, contiguous"])
    assert tried(100) == ("cudnn.benchmark", [])
    both = "cudnn.benchmark, compiled"
    assert tried(2000, options=PrecisionOptions(compile=False)) == (
        "cudnn.benchmark",
        ["cudnn.benchmark", "fp32, contiguous"],
    )
    assert tried(2000) == (both, ["cudnn.benchmark", both, "fp32, contiguous"])
    assert tried(2000) == (both, [])
    assert tried(500) == ("cudnn.benchmark", []), "compiling took 40 s"
    assert tried(30) == ("", []), "and the benchmark 2 s"


def test_a_trial_that_fails_leaves_what_is_known(gpu, tmp_path, monkeypatch):
    known = choose_on_gpu(50, cache_file=tmp_path / "precision.json")
    monkeypatch.setattr(trial._Trial, "run", lambda *args: None)
    assert choose_on_gpu(2000, cache_file=tmp_path / "precision.json") == known
    assert choose_on_gpu(2000).reason == "not measured: a trial step failed"


def test_cudnn_benchmark_is_on_in_training_steps_alone():
    seen: list[bool] = []

    def look(*args: object) -> None:
        seen.append(torch.backends.cudnn.benchmark)

    trainer = conv_trainer(Precision(benchmark=True))
    trainer.model.register_forward_hook(look)
    trainer.model[0][0].weight.register_hook(look)
    fit(trainer, loader=Stripes(32))
    assert seen == [True] * 4
    seen.clear()
    evaluate(trainer.model, Stripes(32), nn.CrossEntropyLoss(), Precision(benchmark=True))
    assert seen == [False] * 2
    assert not torch.backends.cudnn.benchmark
    with pytest.raises(KeyError), Precision(benchmark=True).arithmetic(training=True):
        raise KeyError
    assert not torch.backends.cudnn.benchmark


def test_cudnn_benchmark_that_the_user_turned_on_stays_on(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    with Precision().arithmetic(training=True):
        assert torch.backends.cudnn.benchmark
    assert torch.backends.cudnn.benchmark


def test_short_fits_are_not_measured(clock):
    asked: list[int] = []

    def counted(n: int) -> tuple[Tensor, Tensor]:
        asked.append(n)
        return example(n)

    assert choose(example=counted, n_pictures=719).reason == "too short a fit to measure"
    assert asked == clock.steps == []
    assert choose(example=counted, n_pictures=1_500).reason == "too short a fit to measure"  # 9.4 s at 160/s
    assert asked == [8]
    assert clock.steps == 4 * ["fp32, channels_last"]
    assert choose(n_pictures=1_700).reason.startswith("measured")


def test_what_is_fixed_is_not_measured(clock):
    assert choose(options=PrecisionOptions("bf16", False)) == Precision("bf16", False, False, "as asked for")
    assert clock.steps == []
    clock.table["fp32, contiguous"] = 0.01
    chosen = choose(options=PrecisionOptions(channels_last=True))
    assert chosen.channels_last
    assert "fp32, contiguous" not in clock.steps
    assert choose(options=PrecisionOptions("auto", True, compile=True)).name == "fp32, channels_last, compiled"
    assert not any("compiled" in name for name in clock.steps), "that would take minutes"


def test_the_answer_is_remembered_for_what_it_depends_on(clock, tmp_path, monkeypatch):
    file = tmp_path / "cache" / "precision.json"
    clock.table["bf16, channels_last"] = 0.02
    clock.table["bf16, contiguous"] = 0.04
    first = choose(cache_file=file)
    assert first.dtype == "bf16"
    clock.steps.clear()
    clock.table["bf16, channels_last"] = 0.05
    assert choose(cache_file=file) == first, "same seed, same result"
    assert clock.steps == []
    assert choose(cache_file=file, n_pictures=1_500).reason == "too short a fit to measure"
    assert clock.steps == [], "known to be short"

    frozen = conv_net()
    frozen[0].requires_grad_(False)
    larger = lambda n: (torch.zeros(n, 3, 16, 16), torch.zeros(n, dtype=torch.long))  # noqa: E731
    wider = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    for change in ({"model": frozen}, {"example": larger}, {"model": wider}, {"bs": 4}):
        clock.steps.clear()
        choose(cache_file=file, **change)
        assert clock.steps, f"another answer for {list(change)}"
    clock.steps.clear()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 99)
    choose(cache_file=file)
    assert clock.steps, "another number of threads"


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: text.replace('"plain_rate": 160', '"plain_rate": -160'),
        lambda text: text.replace('"dtype": "fp32"', '"dtype": "fp8"'),
        lambda text: text.replace('"rate": 160', '"rate": 0'),
        lambda text: text.replace('"extras_s": {}', '"extras_s": {"magic": 1.0}'),
        lambda text: text.replace('"version": 1', '"version": 2'),
        lambda text: "[1, 2]",
        lambda text: "\udcff",
    ],
)
def test_a_damaged_file_is_measured_again_and_mended(clock, tmp_path, damage):
    file = tmp_path / "precision.json"
    choose(cache_file=file)
    whole = file.read_text()
    file.write_text(damage(whole), errors="surrogateescape")
    assert file.read_bytes() != whole.encode()
    clock.steps.clear()
    assert choose(cache_file=file).dtype == "fp32"
    assert clock.steps
    assert json.loads(file.read_text())["answers"]
    clock.steps.clear()
    choose(cache_file=file)
    assert clock.steps == []


def test_a_folder_that_cannot_be_written_is_named(clock, tmp_path):
    (tmp_path / "file").write_text("")
    chosen = choose(cache_file=tmp_path / "file" / "precision.json")
    assert "not remembered" in chosen.reason
    assert "cannot be written" in chosen.reason


def test_old_answers_make_room(clock, tmp_path, monkeypatch):
    file = tmp_path / "precision.json"
    monkeypatch.setattr(trial, "_MOST_ANSWERS", 2)
    for bs in (4, 5, 6):
        choose(cache_file=file, bs=bs)
    kept = json.loads(file.read_text())["answers"].values()
    assert [entry["of"]["batch"][0] for entry in kept] == [5, 6]


def test_a_real_trial_leaves_the_network_as_it_was(tmp_path):
    model = conv_net().to(memory_format=torch.channels_last)
    model[0][0].requires_grad_(False)
    model.eval()
    model(example(4)[0]).sum().backward()
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    before = {name: (t.detach().clone(), t.stride(), t.data_ptr()) for name, t in tensors.items()}
    grads = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    torch.manual_seed(4)
    state = torch.get_rng_state()
    chosen = choose(model, n_pictures=10**9, cache_file=tmp_path / "precision.json")
    assert "measured: " in chosen.reason
    assert "bf16" in chosen.describe() or not cpu_has_bf16()
    for name, t in tensors.items():
        assert torch.equal(t, before[name][0]), name
        assert (t.stride(), t.data_ptr()) == before[name][1:], name
    assert all(torch.equal(grads[name], model.get_parameter(name).grad) for name in grads)
    assert not any(module.training for module in model.modules())
    assert torch.equal(state, torch.get_rng_state())


def test_frozen_norms_stand_still_in_the_trial_as_in_training(clock, monkeypatch):
    seen: list[tuple[bool, bool]] = []
    model = conv_net()
    model[0].requires_grad_(False)

    def look(self: trial._Trial, precision: Precision, call: nn.Sequential, x: Tensor) -> float:
        seen.append((call[0][1].training, call[1].training))
        return clock.step(precision.name)

    monkeypatch.setattr(trial._Trial, "_step_s", look)
    choose(model)
    assert set(seen) == {(False, True)}


def test_a_network_that_cannot_be_copied_stays_plain():
    class Locked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = toy_model()
            self.file = open(Path(__file__))  # noqa: SIM115

    model = Locked()
    assert choose(model).reason == "not measured: a trial step failed"
    model.file.close()


# --- on a GPU -------------------------------------------------------------------------------------


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU: only there can a step wait for it")
@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
def test_no_step_waits_for_the_device(dtype):
    model = conv_net().to("cuda")
    trainer = Trainer(
        model=model, layer_groups=list(model), loss_func=nn.CrossEntropyLoss().cuda(), precision=Precision(dtype)
    )
    batches = [Batch(b.x.cuda(), b.y.cuda(), b.indices) for b in Stripes()]
    with trainer.running(Recorder(), progress=Progress(), callbacks=[]):
        trainer.set_hypers(Constant((1e-3, 1e-3)), 0)
        trainer.train_step(batches[0], 0)  # what is made once may wait
        torch.cuda.set_sync_debug_mode("error")
        try:
            for batch in batches[1:]:
                trainer.train_step(batch, 0)
        finally:
            torch.cuda.set_sync_debug_mode("default")
