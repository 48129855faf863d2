"""A fit between two steps, as it is taken and put back: all that the rest of the fit depends on, and nothing else.

Order and draws are functions of (seed, epoch, step), so these stand for the random state; features of frozen layers are
computed again. What is left: weights, optimizer, scaler, the history, and what the callbacks say of themselves.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open

from onecycle.errors import CheckpointError
from onecycle.foreign import Closed, Fields, Refused, Within, fitted, strict_json
from onecycle.train.checkpoint import digest
from onecycle.train.loop import Callback, Trainer

FORMAT, VERSION = "onecycle-fit", 1

_MODEL, _OPTIMIZER, _GRADIENT, _CALLBACK, _RECORDER = "model.", "optimizer.", "gradient.", "callback.", "recorder."
_LOSSES = "item_losses"
_LISTS = ("all_lrs", "raw", "smooth", "moms")  # of the history, written as numbers

Count = Annotated[int, Within(0, 2**53)]


class _Row(Closed):
    """The fields of ``EpochRow``."""

    epoch: Count
    train_loss: float
    valid_loss: float | None
    metrics: list[Any]
    time_s: float


class _History(Closed):
    """What ``Recorder.state_dict`` gives, without its lists."""

    rows: list[_Row]
    nb_batches: list[Count]
    picked: Annotated[list[int | str], Within(2, 2)]
    smoother: Annotated[list[float], Within(2, 2)]


class _Values(Fields):
    """What a file of a state has beside its tensors; what callbacks and the optimizer read, they know."""

    epoch: Count
    step: Count
    over: bool
    epochs_done: Count
    stop_training: bool
    lr_scale: Annotated[float, Within(0, 1e12)]
    scaler: dict[str, Any] | None
    optimizer: dict[str, Any]
    callbacks: dict[str, dict[str, Any]]
    recorder: _History
    serial: Count = 0


@dataclass(frozen=True)
class FitState:
    """A fit at one moment."""

    tensors: dict[str, torch.Tensor]  # copies, where the originals are
    values: dict[str, Any]  # what JSON can hold, and the long lists of the history
    copied: torch.cuda.Event | None = None  # when the copies are made, on a GPU

    @property
    def is_over(self) -> bool:
        """Whether the fit came to its end."""
        return bool(self.values["over"])

    @classmethod
    def taken(cls, trainer: Trainer, epoch: int, step: int, **more: Any) -> FitState:
        """Copy the state of a running fit.

        Args:
            trainer: between two steps.
            epoch: of the fit, that it goes on with.
            step: batch of it that comes next; 0 where the epoch has not begun.
            more: values to keep beside.
        """
        names = {p: name for name, p in trainer.model.named_parameters()}
        optimizer = trainer.ensure_optimizer()
        moments, described = optimizer.state(names)
        tensors = {_MODEL + name: t for name, t in trainer.model.state_dict().items()}
        tensors |= {_OPTIMIZER + name: t for name, t in moments.items()}
        tensors |= {_GRADIENT + names[p]: p.grad for p in optimizer.trainable if p.grad is not None}
        if trainer.item_losses is not None:
            tensors[_LOSSES] = trainer.item_losses
        callbacks = {}
        for key, callback in _by_kind(trainer.callbacks).items():
            if state := callback.state_dict():
                tensors |= {f"{_CALLBACK}{key}.{name}": v for name, v in state.items() if isinstance(v, torch.Tensor)}
                callbacks[key] = {name: v for name, v in state.items() if not isinstance(v, torch.Tensor)}
        values = {
            "epoch": epoch,
            "step": step,
            "over": trainer.is_over,
            "parts": trainer.parts,
            "epochs_done": trainer.epochs_done - (step > 0),
            "stop_training": trainer.stop_training,
            "lr_scale": trainer.lr_scale,
            "scaler": None if trainer.scaler is None else trainer.scaler.state_dict(),
            "optimizer": described,
            "callbacks": callbacks,
            "recorder": trainer.recorder.state_dict(),
            **more,
        }
        on_gpu = trainer.device.type == "cuda"
        copies = {name: t.detach().clone() for name, t in tensors.items()}
        return cls(copies, values, torch.cuda.current_stream(trainer.device).record_event() if on_gpu else None)

    def put_into(self, trainer: Trainer) -> None:
        """Give a trainer this state, where the fit has just begun or where it is not run again.

        Raises:
            CheckpointError: of another network, or other layers train.
        """
        with _as_written():
            self._put_into(trainer)

    def _put_into(self, trainer: Trainer) -> None:
        values = self.values
        weights = self._named(_MODEL)
        wanted = {name: tuple(t.shape) for name, t in trainer.model.state_dict().items()}
        if wanted != {name: tuple(t.shape) for name, t in weights.items()}:
            raise CheckpointError("the checkpoint of this fit is of another network; remove it to train from the start")
        trainer.parts = values.get("parts", 1)
        trainer.check_ranks()
        trainer.model.load_state_dict(weights)
        self._put_optimizer(trainer)
        if trainer.scaler is not None and values["scaler"]:
            trainer.scaler.load_state_dict(values["scaler"])
        trainer.recorder.load_state_dict(values["recorder"])
        trainer.item_losses = self.tensors.get(_LOSSES)
        trainer.epochs_done, trainer.lr_scale = values["epochs_done"], values["lr_scale"]
        trainer.stop_training = values["stop_training"]
        trainer.next_epoch, trainer.next_step = values["epoch"], values["step"]
        self.put_into_callbacks(trainer.callbacks)

    def _put_optimizer(self, trainer: Trainer) -> None:
        names = {p: name for name, p in trainer.model.named_parameters()}
        optimizer, described = trainer.ensure_optimizer(), self.values["optimizer"]
        difference = optimizer.difference(described, names)
        if difference is None:
            optimizer.load(self._named(_OPTIMIZER), described, names)
        elif self.is_over:
            trainer.optimizer = None
            return
        else:
            raise CheckpointError(f"the checkpoint of this fit does not fit: {difference}; remove it to begin again")
        gradients = self._named(_GRADIENT)
        for p in optimizer.trainable:
            if names[p] in gradients:
                p.grad = torch.empty_like(p).copy_(gradients[names[p]])

    def put_into_callbacks(self, callbacks: Sequence[Callback]) -> None:
        """Give the callbacks of a fit what they said of themselves.

        Raises:
            CheckpointError: one of them is not there any more.
        """
        there = _by_kind(callbacks)
        for key, values in self.values["callbacks"].items():
            if key in there:
                with _as_written():
                    there[key].load_state_dict(values | self._named(f"{_CALLBACK}{key}."))
            elif not self.is_over:
                kind = key.partition("-")[0]
                raise CheckpointError(
                    f"this fit had a {kind} when it was stopped: give it one, or remove its checkpoint"
                )

    def _named(self, start: str) -> dict[str, torch.Tensor]:
        return {name.removeprefix(start): t for name, t in self.tensors.items() if name.startswith(start)}

    # --- as a file ----------------------------------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        """Return the content of a safetensors file, with a digest of everything in it."""
        values, tensors = dict(self.values), _on_cpu(self)
        values["recorder"], lists = _apart(values["recorder"])
        tensors |= {_RECORDER + name: t for name, t in lists.items()}
        text = json.dumps(values, ensure_ascii=False)
        head = {"format": FORMAT, "version": VERSION, "digest": _digest(tensors, text), "values": text}
        return safetensors.torch.save(tensors, {name: str(value) for name, value in head.items()})

    @classmethod
    def read(cls, path: Path) -> FitState:
        """Read what ``to_bytes`` gave.

        Raises:
            CheckpointError: it is damaged, or something else.
        """
        try:
            with safe_open(path, framework="pt") as file:
                head = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path} cannot be read ({error})") from error
        text = head.get("values", "")
        if head.get("format") != FORMAT or _digest(tensors, text) != head.get("digest"):
            raise CheckpointError(f"{path} is damaged: its content does not give the digest in it")
        lists = {n.removeprefix(_RECORDER): t.tolist() for n, t in tensors.items() if n.startswith(_RECORDER)}
        try:
            values = strict_json(text, str(path), finite=False)
            fitted(_Values, values, str(path))
            if lists.keys() != set(_LISTS):
                raise Refused(f"{path}: expected the lists {', '.join(_LISTS)} of its history")
        except Refused as error:
            raise CheckpointError(f"{error}: it is damaged") from None
        moms = [None if math.isnan(mom) else mom for mom in lists["moms"]]
        values["recorder"] |= {**lists, "moms": moms}
        return cls({n: t for n, t in tensors.items() if not n.startswith(_RECORDER)}, values)


@contextmanager
def _as_written() -> Iterator[None]:
    """Name a state that has a digest and fits no fit: whoever wrote it was not onecycle, or one with other callbacks.

    Raises:
        CheckpointError: in place of whatever its values make raise.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise CheckpointError(
            f"the checkpoint of this fit does not fit ({type(error).__name__}: {error}); remove it to begin again"
        ) from error


def _by_kind(callbacks: Sequence[Callback]) -> dict[str, Callback]:
    """Return callbacks by their class and their place among those of it."""
    named, counts = dict[str, Callback](), Counter[str]()
    for callback in callbacks:
        kind = type(callback).__name__
        named[f"{kind}-{counts[kind]}"] = callback
        counts[kind] += 1
    return named


def _apart(recorder: dict[str, Any]) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Divide a history into what is written as JSON and what as numbers."""
    moms = [math.nan if mom is None else mom for mom in recorder["moms"]]
    lists = {**{name: recorder[name] for name in _LISTS}, "moms": moms}
    rest = {name: value for name, value in recorder.items() if name not in lists}
    return rest, {name: torch.tensor(values, dtype=torch.float64) for name, values in lists.items()}


def _on_cpu(state: FitState) -> dict[str, torch.Tensor]:
    """Return the tensors on the CPU, each contiguous; from a GPU beside the training's own work."""
    if state.copied is None:
        return {name: t.cpu().contiguous() for name, t in state.tensors.items()}
    device = next(t.device for t in state.tensors.values() if t.device.type == "cuda")
    beside = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    with torch.cuda.stream(beside):
        beside.wait_event(state.copied)
        return {name: t.cpu().contiguous() for name, t in state.tensors.items()}


def _digest(tensors: dict[str, torch.Tensor], text: str) -> str:
    return hashlib.sha256(f"{digest(tensors)}|{text}".encode()).hexdigest()
