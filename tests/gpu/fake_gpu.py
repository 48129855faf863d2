"""A GPU that computes nothing: real code runs on tensors that have a shape and a device, and every wait is seen.

Tensors of the CPU are real and keep their values; those of ``cuda`` are torch's fake tensors. What mixes devices
raises, as on a card. What makes the host wait for the card is noted with the line that did it: reading a number, a copy
that blocks, an index that lies on the other side, a result whose shape depends on values. Copies of more than 64 KB
from memory that is not pinned are noted, too: the driver takes them through a buffer of its own, and the host waits.
A backward pass computes nothing either: each parameter gets a gradient of zeros.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

GPU = torch.device("cuda")
LARGE_BYTES = 64 * 1024  # the most that the driver copies from pageable memory without waiting
_READS = {"aten._local_scalar_dense.default", "aten.equal.default", "aten.is_nonzero.default"}
_BY_VALUE = {"aten.nonzero.default", "aten.masked_select.default", "aten._unique2.default"}
_INDEXED = {"aten.index.Tensor": 1, "aten.index_put_.default": 1, "aten.index_put.default": 1}
_OUR_CODE = str(Path(__file__).parents[2] / "src")


@dataclass
class FakeGpu(TorchDispatchMode):
    """What was asked of the card."""

    operations: list[str] = field(default_factory=list)  # names of kernels, in order; views and empty tensors are none
    n_bytes: int = 0  # that these read and wrote
    copies: list[str] = field(default_factory=list)  # between host and card
    waits: list[str] = field(default_factory=list)  # of the host for the card: what, and where
    pinned: dict[int, torch.Tensor] = field(default_factory=dict)  # by address; kept, so that none is used again
    backwards: int = 0
    free_bytes: int = 2**35

    def __post_init__(self) -> None:
        super().__init__()

    def clear(self) -> None:
        """Forget what was asked so far."""
        self.operations.clear()
        self.copies.clear()
        self.waits.clear()
        self.n_bytes = 0

    def wait(self, what: str) -> None:
        """Note that the host waits, and where."""
        self.waits.append(f"{what} at {_where()}")

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        kwargs, name = dict(kwargs or {}), str(func)
        tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        cards = [t for t in tensors if t.device.type == "cuda"]
        inference = torch.is_inference_mode_enabled() or any(t.is_inference() for t in tensors)
        if inference and name.startswith("aten"):
            with self:  # operations that are made of others arrive whole then
                outputs = func.decompose(*args, **kwargs)
            if outputs is not NotImplemented:
                return outputs
        target = kwargs.get("device")
        if not cards and (target is None or torch.device(target).type == "cpu"):
            if name == "aten._local_scalar_dense.default" and isinstance(tensors[0], FakeTensor):
                return _any_number(tensors[0].dtype)
            if any(isinstance(t, FakeTensor) for t in tensors):
                return func(*args, **kwargs)
            is_pinned = kwargs.pop("pin_memory", None)
            with unset_fake_temporarily():
                made = func(*args, **kwargs)
            if is_pinned:
                self.pin(made)
            return made
        if name in _READS:
            self.wait(name)
            return True if name == "aten.equal.default" else _any_number(cards[0].dtype)
        if name in _BY_VALUE:
            self.wait(name)
        if name in _INDEXED:
            self._look_at_indices(name, args)
        outputs = func(*args, **kwargs)
        made = [t for t in tree_leaves(outputs) if isinstance(t, torch.Tensor)]
        if name in ("aten._to_copy.default", "aten.copy_.default"):
            self._copied(func, args, kwargs, made[0])
        read = [t for t in cards if t is not kwargs.get("out")]
        self._count(func, name, read, made)
        if cards and len(made) == 1 and made[0].device.type == "cpu":  # what comes from the card has values: zeros
            with unset_fake_temporarily():
                return torch.zeros(made[0].shape, dtype=made[0].dtype)
        return outputs

    def _look_at_indices(self, name: str, args: Sequence[Any]) -> None:
        for index in args[_INDEXED[name]]:
            if index is not None and args[0].device.type != index.device.type:
                self.wait(f"{name}: an index from {index.device}")
            if index is not None and index.dtype in (torch.bool, torch.uint8):
                self.wait(f"{name}: a mask")

    def _copied(self, func: Any, args: Sequence[Any], kwargs: Any, made: torch.Tensor) -> None:
        source, target = (args[1], args[0]) if str(func) == "aten.copy_.default" else (args[0], made)
        if source.device.type == target.device.type:
            return
        blocking = not (args[2] if len(args) > 2 else kwargs.get("non_blocking", False))
        n_bytes = source.numel() * source.element_size()
        self.copies.append(f"{n_bytes} bytes to {target.device}")
        if blocking:
            self.wait(f"a copy of {n_bytes} bytes to {target.device}")
        elif source.device.type == "cpu" and n_bytes > LARGE_BYTES and not self.is_pinned(source):
            self.wait(f"a copy of {n_bytes} bytes from memory that is not pinned")

    def pin(self, tensor: torch.Tensor) -> torch.Tensor:
        """Note that a tensor lies in memory that was pinned."""
        self.pinned[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    def is_pinned(self, tensor: torch.Tensor) -> bool:
        """Say whether a tensor lies in memory that was pinned."""
        return tensor.untyped_storage().data_ptr() in self.pinned

    def _count(self, func: Any, name: str, read: list[torch.Tensor], made: list[torch.Tensor]) -> None:
        is_view = any(r.alias_info is not None and not r.alias_info.is_write for r in func._schema.returns)
        kind, operation = name.split(".")[:2]
        if is_view or kind == "prim" or operation.startswith(("empty", "new_empty", "detach", "lift", "_unsafe_view")):
            return
        self.operations.append(name)
        self.n_bytes += sum(_n_bytes(t) for t in [*read, *(t for t in made if t.device.type == "cuda")])


def _n_bytes(t: torch.Tensor) -> int:
    """Bytes of a tensor; what is expanded counts once."""
    return min(t.numel() * t.element_size(), t.untyped_storage().nbytes())


def _any_number(dtype: torch.dtype) -> float | int | bool:
    return False if dtype == torch.bool else 0.0 if dtype.is_floating_point else 1


def _where() -> str:
    """The innermost line of this package on the stack, else of its tests."""
    frames = [f for f in traceback.extract_stack() if "torch" not in f.filename and f.filename != __file__]
    ours = [f for f in frames if f.filename.startswith(_OUR_CODE)] or frames
    return f"{Path(ours[-1].filename).name}:{ours[-1].lineno}"


class _Stream:
    """A stream in name only."""

    def __init__(self, *_: Any, **__: Any) -> None: ...
    def record_event(self, *_: Any) -> _Stream:
        return self

    def wait_event(self, *_: Any) -> None: ...
    def wait_stream(self, *_: Any) -> None: ...
    def synchronize(self) -> None: ...


@contextmanager
def fake_gpu() -> Iterator[FakeGpu]:
    """Have a card inside, for the thread that asks."""
    card = FakeGpu()

    make_empty = torch.empty

    def empty(*size: Any, pin_memory: bool = False, **how: Any) -> torch.Tensor:
        if not pin_memory:
            return make_empty(*size, **how)
        with unset_fake_temporarily():
            return card.pin(make_empty(*size, **how))

    def pinned(tensor: torch.Tensor, *_: Any) -> torch.Tensor:
        if card.is_pinned(tensor):
            return tensor
        with unset_fake_temporarily():
            return card.pin(tensor.clone())

    @contextmanager
    def on_stream(_: object) -> Iterator[None]:
        yield

    replaced = {
        "torch.empty": empty,
        "torch.Tensor.pin_memory": pinned,
        "torch.Tensor.record_stream": lambda *_: None,
        "torch.Tensor.backward": lambda loss, *_, **__: _backward(card, loss),
        "torch.nn.Module._apply": _apply,
        "torch.cuda.Stream": _Stream,
        "torch.cuda.stream": on_stream,
        "torch.cuda.device": on_stream,
        "torch.cuda.current_stream": _Stream,
        "torch.cuda.manual_seed": lambda _: None,
        "torch.cuda.empty_cache": lambda: None,
        "torch.cuda.mem_get_info": lambda *_: (card.free_bytes, 2**36),
        "torch.cuda.synchronize": lambda *_: card.wait("synchronize"),
        "onecycle.data.bunch.checked_device": lambda device: torch.device(device or GPU),
        "torch.cuda.is_bf16_supported": lambda *_, **__: True,
        "torch.cuda.get_device_capability": lambda *_: (9, 0),
        "torch.cuda.get_device_name": lambda *_: "a card in name only",
        "torch.cuda.get_rng_state": lambda *_: torch.zeros(1, dtype=torch.uint8),
        "torch.cuda.set_rng_state": lambda *_: None,
        "torch.cuda.amp.common.amp_definitely_not_available": lambda: False,
    }
    with ExitStack() as stack:
        for name, stand_in in replaced.items():
            stack.enter_context(mock.patch(name, stand_in))
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        stack.enter_context(card)
        yield card


def _backward(card: FakeGpu, loss: torch.Tensor) -> None:
    """Give every parameter that the loss depends on a gradient of zeros."""
    if loss.ndim or loss.grad_fn is None:
        raise RuntimeError("backward() is for a 0-d tensor that depends on parameters")
    card.backwards += 1
    nodes, seen = [loss.grad_fn], set()
    while nodes:
        node = nodes.pop()
        if node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)
        if leaf is not None:
            leaf.grad = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
        nodes += [n for n, _ in node.next_functions if n is not None]


def _apply(module: nn.Module, fn: Any, recurse: bool = True) -> nn.Module:
    """Move a module's tensors: torch would swap each parameter's inside, which fake tensors do not bear."""
    for child in module.children() if recurse else ():
        _apply(child, fn)
    for key, p in module._parameters.items():
        if p is not None:
            with torch.no_grad():
                moved = fn(p)
            if moved.device != p.device or moved.dtype != p.dtype:
                module._parameters[key] = nn.Parameter(moved, p.requires_grad)
    for key, buffer in module._buffers.items():
        if buffer is not None:
            module._buffers[key] = fn(buffer)
    return module
