from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from train_toys import CLASSES, FakeLearner, ToyLoader, toy_model, toy_trainer

from onecycle.errors import OnecycleWarning, OutOfMemoryError
from onecycle.train.callbacks import AccumulateScheduler, Callback, MixUpCallback
from onecycle.train.device.batch_split import BatchSplit, even_slices, is_out_of_memory, loss_shares, take_rows
from onecycle.train.evaluate import evaluate
from onecycle.train.log.recorder import Recorder
from onecycle.train.loop import Trainer
from onecycle.train.schedules import OneCycle


class Tight(nn.Module):
    """Passes its input on, and has no memory for more than ``limit`` rows; notes what it was fed."""

    def __init__(self, limit: int, message: str | None = None) -> None:
        super().__init__()
        self.limit, self.message, self.seen = limit, message, []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(len(x))
        if len(x) > self.limit:
            if self.message is not None:
                raise RuntimeError(self.message)
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return x


def plain_model(limit: int = 99, p: float = 0.0) -> nn.Sequential:
    """Without batch-norm, so that parts give the gradient of the whole; ``Tight`` comes last."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        body = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(p))
        return nn.Sequential(body, nn.Sequential(nn.Linear(8, CLASSES), Tight(limit)))


class KeepGradients(Callback):
    """Copies the gradients of every step; counts its own calls."""

    order = 50
    in_lr_find = True

    def __init__(self) -> None:
        self.grads: list[list[Tensor]] = []
        self.calls = {"begin": 0, "end": 0}

    def on_batch_begin(self, trainer, batch, rng):
        self.calls["begin"] += 1

    def on_backward_end(self, trainer):
        self.grads.append([p.grad.clone() for p in trainer.model.parameters()])

    def on_batch_end(self, trainer, loss):
        self.calls["end"] += 1


def fit(trainer: Trainer, *callbacks: Callback, epochs: int = 1, loader: ToyLoader | None = None) -> Recorder:
    loader, recorder = loader or ToyLoader(), Recorder()
    schedule = OneCycle(epochs * len(loader), (1e-2, 1e-2))
    trainer.fit(epochs, schedule, loader, recorder=recorder, callbacks=callbacks)
    return recorder


def split_warning() -> pytest.WarningsRecorder:
    return pytest.warns(OnecycleWarning, match="did not fit into memory")


@given(st.integers(1, 200), st.integers(1, 80), st.integers(1, 2))
def test_parts_cover_the_batch_evenly(n, size, smallest):
    parts = even_slices(n, size, smallest=smallest)
    lengths = [part.stop - part.start for part in parts]
    assert [i for part in parts for i in range(n)[part]] == list(range(n))
    assert max(lengths) - min(lengths) <= 1
    assert min(lengths) >= min(n, smallest)
    if smallest == 1:
        assert max(lengths) <= size
        assert len(parts) == -(-n // size)


LOSSES: list[tuple[str, Callable[[Tensor, Tensor], Tensor], bool]] = [
    ("cross-entropy", nn.CrossEntropyLoss(), False),
    ("class weights", nn.CrossEntropyLoss(weight=torch.tensor([0.1, 3.0, 1.0])), False),
    ("sum", nn.CrossEntropyLoss(reduction="sum"), False),
    ("smoothed", nn.CrossEntropyLoss(label_smoothing=0.2), False),
    ("tags", nn.BCEWithLogitsLoss(pos_weight=torch.tensor([0.5, 2.0, 1.0])), True),
    ("a function", lambda logits, y: F.cross_entropy(logits, y), False),
]


@pytest.mark.parametrize(("name", "loss", "multi"), LOSSES, ids=[name for name, *_ in LOSSES])
def test_parts_give_the_gradient_of_the_whole(name, loss, multi):
    whole, parts = KeepGradients(), KeepGradients()
    loader = ToyLoader(multi=multi)
    first = fit(toy_trainer(plain_model(), loss_func=loss), whole, loader=loader)
    with split_warning():
        second = fit(toy_trainer(plain_model(limit=3), loss_func=loss), parts, loader=loader)
    assert len(whole.grads) == len(parts.grads) == 3
    for a, b in zip(whole.grads, parts.grads, strict=True):
        for p, q in zip(a, b, strict=True):
            torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)
    assert second.raw_losses == pytest.approx(first.raw_losses, rel=1e-5)


def test_mixed_targets_are_split_too():
    whole, parts = KeepGradients(), KeepGradients()
    for keep, limit in ((whole, 99), (parts, 4)):
        trainer = toy_trainer(plain_model(limit))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", OnecycleWarning)
            fit(trainer, MixUpCallback(FakeLearner(None, trainer)), keep)
    for a, b in zip(whole.grads, parts.grads, strict=True):
        assert all(torch.allclose(p, q, atol=1e-6) for p, q in zip(a, b, strict=True))


def test_targets_of_several_tensors_are_split():
    y = (torch.arange(6), [torch.arange(12).view(6, 2)])
    first, (second,) = take_rows(y, slice(2, 4))
    assert first.tolist() == [2, 3]
    assert second.tolist() == [[4, 5], [6, 7]]
    assert loss_shares(nn.MSELoss(), y, even_slices(6, 4)) == [0.5, 0.5]


def test_schedule_steps_and_callbacks_are_as_without():
    keep = KeepGradients()
    trainer = toy_trainer(plain_model(limit=4))
    with split_warning() as said:
        recorder = fit(trainer, keep, epochs=2)
    assert len(said) == 1, "said once"
    assert "each step now takes 2 × 4 pictures" in str(said[0].message)
    assert "the gradient of all 8; pass bs=4" in str(said[0].message)
    assert "batch-norm" not in str(said[0].message)
    assert keep.calls == {"begin": 6, "end": 6}
    assert len(recorder.raw_losses) == len(recorder.lrs) == 6
    assert recorder.lrs == fit(toy_trainer(plain_model()), epochs=2).lrs
    assert int(trainer.optimizer.torch.state[trainer.optimizer.trainable[0]]["step"]) == 6
    assert trainer.epochs_done == 2


def test_what_was_learned_is_kept_for_the_following_steps():
    trainer = toy_trainer(plain_model(limit=3))
    tight = trainer.model[1][1]
    with split_warning():
        fit(trainer, loader=ToyLoader(24, 8))
    assert tight.seen == [8, 4] + 12 * [2], "the first step fails twice, then none"
    before = len(tight.seen)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(trainer, loader=ToyLoader(23, 8))
    assert tight.seen[before:] == 4 * [2] + 4 * [2] + [2, 2, 2, 1], "the shorter last batch too"


def test_a_repeated_step_draws_what_it_drew_before():
    """Whether memory ends before or after dropout has drawn makes no difference."""

    class First(nn.Module):
        def __init__(self, model: nn.Sequential) -> None:
            super().__init__()
            self.tight, self.model = Tight(4), model

        def forward(self, x: Tensor) -> Tensor:
            return self.model(self.tight(x))

    late = toy_trainer(plain_model(limit=4, p=0.5))
    inner = plain_model(p=0.5)
    early = Trainer(model=First(inner), layer_groups=list(inner), loss_func=nn.CrossEntropyLoss())
    losses = []
    for trainer in (late, early):
        with split_warning():
            losses.append(fit(trainer).raw_losses)
    assert losses[0] == losses[1]


def test_gradients_of_earlier_batches_survive():
    """The second batch of an update fails; what the first one gave must still be there, and only once."""

    class FailsOnce(Tight):
        def forward(self, x: Tensor) -> Tensor:
            self.limit = 4 if len(self.seen) == 1 else 99
            return super().forward(x)

    keeps = KeepGradients(), KeepGradients()
    for keep, tight in zip(keeps, (Tight(99), FailsOnce(4)), strict=True):
        model = plain_model()
        model[1][1] = tight
        trainer = toy_trainer(model)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", OnecycleWarning)
            fit(trainer, AccumulateScheduler(FakeLearner(None, trainer), n_step=3), keep)
    assert len(trainer.model[1][1].seen) > 5, "the second batch did fail"
    for p, q in zip(keeps[0].grads[-1], keeps[1].grads[-1], strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)


def test_what_the_failed_pass_held_is_freed_before_the_next():
    held: list[weakref.ref[Tensor]] = []

    class Holds(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            assert all(ref() is None for ref in held), "still in memory"
            activation = x * 2
            held.append(weakref.ref(activation))
            if len(x) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return activation + 1

    out = BatchSplit().forward(Holds(), torch.ones(8, 1))
    assert len(held) == 2 + 4
    assert torch.equal(out, torch.full((8, 1), 3.0))
    held.clear()
    model = nn.Sequential(nn.Linear(4, CLASSES), Holds())
    with split_warning():
        fit(toy_trainer(model), loader=ToyLoader(8, 8))
    assert len(held) == 2 + 4


def test_nothing_smaller_is_left():
    trainer = toy_trainer(plain_model(limit=0))
    with pytest.raises(OutOfMemoryError, match=r"too small for 1 items at a time.*smaller network"):
        fit(trainer)
    assert all(p.grad is None for p in trainer.model.parameters())


def test_a_head_with_batch_norm_gets_no_single_rows():
    model = toy_model()
    model[1].append(Tight(3))
    trainer = toy_trainer(model)
    with split_warning() as said:
        fit(trainer, loader=ToyLoader(25, 5))
    assert 1 not in model[1][-1].seen
    assert "batch-norm layers see 3 pictures at a time" in str(said[0].message)
    assert "2 × at most 3" in str(said[0].message)
    model = toy_model()
    model[1].append(Tight(1))
    with pytest.raises(OutOfMemoryError, match="for 2 items at a time"):
        fit(toy_trainer(model))


def test_evaluation_is_split_without_a_word():
    loader = ToyLoader(22, 8, shuffle=False)
    whole = evaluate(plain_model(), loader, nn.CrossEntropyLoss())
    tight = plain_model(limit=3)
    parts = evaluate(tight, loader, nn.CrossEntropyLoss())  # warnings are errors here
    assert tight[1][1].seen == [8, 4] + 4 * [2] + 4 * [2] + 3 * [2]
    assert torch.allclose(whole.logits, parts.logits, atol=1e-6)
    assert torch.allclose(whole.losses, parts.losses, atol=1e-6)
    assert torch.equal(whole.targets, parts.targets)


def test_the_allocator_of_the_cpu_is_understood():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**50)
    assert is_out_of_memory(caught.value)
    trainer = toy_trainer(plain_model(limit=4))
    trainer.model[1][1].message = str(caught.value)
    with split_warning():
        fit(trainer)


NO_ROOM = [
    "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
    "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED",
    "cuDNN error: CUDNN_STATUS_NOT_INITIALIZED",
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`",
    "Unable to find a valid cuDNN algorithm to run convolution",
    "GET was unable to find an engine to execute this computation",
    "FIND was unable to find an engine to execute this computation",
    "CUDA error: out of memory",
]


@pytest.mark.parametrize("message", NO_ROOM)
def test_a_gpus_libraries_without_room_are_understood(message):
    assert is_out_of_memory(RuntimeError(message))
    assert not is_out_of_memory(RuntimeError("cuDNN error: CUDNN_STATUS_BAD_PARAM"))
    assert not is_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`"))


def test_other_errors_pass():
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_out_of_memory(ValueError("out of memory"))
    trainer = toy_trainer(plain_model(limit=4))
    trainer.model[1][1].message = "some other trouble"
    with pytest.raises(RuntimeError, match="some other trouble"):
        fit(trainer)


def test_another_picture_size_starts_anew():
    split, tight = BatchSplit(), Tight(3)
    for side in (4, 4, 2):
        split.forward(tight, torch.zeros(8, 1, side, side))
    assert tight.seen == [8, 4, *4 * [2], *4 * [2], 8, 4, *4 * [2]]


def test_the_finder_splits_too():
    from onecycle.train.lr_finder import find_lr

    trainer, recorder = toy_trainer(plain_model(limit=4)), Recorder()
    with split_warning():
        find_lr(trainer, ToyLoader(), recorder=recorder, num_it=5, stop_div=False)
    assert len(recorder.losses) == 5
