"""What a layer gives when a batch passes: fastai v1's hooks, and what it measured with them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from onecycle.model.backbones import in_channels

__all__ = [
    "Hook", "Hooks", "dummy_batch", "dummy_eval", "hook_output", "hook_outputs", "in_channels", "model_sizes",
    "num_features_model",
]  # fmt: skip


def _detached(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return [_detached(v) for v in value]
    return value.detach() if isinstance(value, Tensor) else value


class Hook:
    """Call a function whenever a layer runs, and keep what it returns in ``stored``; ends with ``remove`` or a context.

    Args:
        m: the layer.
        hook_func: called with (layer, inputs, outputs); backwards with their gradients.
        is_forward: False for the backward pass.
        detach: hand tensors over without their history.
    """

    def __init__(
        self, m: nn.Module, hook_func: Callable[[Any, Any, Any], Any], is_forward: bool = True, detach: bool = True
    ) -> None:
        self.hook_func, self.detach, self.removed = hook_func, detach, False
        self.stored: Any = None
        if not is_forward:  # the first layer's input has no gradient, which is as it should be
            warnings.filterwarnings("ignore", "Full backward hook is firing")
        self.hook = (m.register_forward_hook if is_forward else m.register_full_backward_hook)(self.hook_fn)

    def hook_fn(self, module: nn.Module, input: Any, output: Any) -> None:
        """Keep what the function returns."""
        if self.detach:
            input, output = _detached(input), _detached(output)
        self.stored = self.hook_func(module, input, output)

    def remove(self) -> None:
        """End it."""
        self.hook.remove()
        self.removed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


class Hooks:
    """A ``Hook`` on each of several layers."""

    def __init__(
        self, ms: Iterable[nn.Module], hook_func: Callable[[Any, Any, Any], Any], is_forward: bool = True,
        detach: bool = True,
    ) -> None:  # fmt: skip
        self.hooks = [Hook(m, hook_func, is_forward, detach) for m in ms]

    @property
    def stored(self) -> list[Any]:
        """What each of them keeps."""
        return [hook.stored for hook in self.hooks]

    def __getitem__(self, i: int) -> Hook:
        return self.hooks[i]

    def __len__(self) -> int:
        return len(self.hooks)

    def __iter__(self) -> Iterator[Hook]:
        return iter(self.hooks)

    def remove(self) -> None:
        """End all of them."""
        for hook in self.hooks:
            hook.remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


def _output(*of_layer: Any) -> Any:
    return of_layer[2]


def hook_output(module: nn.Module, detach: bool = True, grad: bool = False) -> Hook:
    """Return a hook that stores what a layer gives; with ``grad`` the gradients of that, in a list."""
    return Hook(module, _output, is_forward=not grad, detach=detach)


def hook_outputs(modules: Iterable[nn.Module], detach: bool = True, grad: bool = False) -> Hooks:
    """Return hooks that store what each layer gives, as ``hook_output``."""
    return Hooks(modules, _output, is_forward=not grad, detach=detach)


def dummy_batch(m: nn.Module, size: tuple[int, int] = (64, 64)) -> Tensor:
    """Return one drawn picture with the channels and on the device of a network."""
    like = next(m.parameters())
    return torch.empty(1, in_channels(m), *size, device=like.device, dtype=like.dtype).uniform_(-1.0, 1.0)


def dummy_eval(m: nn.Module, size: tuple[int, int] = (64, 64)) -> Any:
    """Pass such a picture through a network, which is put into evaluation mode."""
    return m.eval()(dummy_batch(m, size))


def model_sizes(m: Any, size: tuple[int, int] = (64, 64)) -> list[torch.Size]:
    """Return the shape that each child of a network gives for one picture of this size."""
    with hook_outputs(m) as hooks:
        dummy_eval(m, size)
        return [hook.stored.shape for hook in hooks]


def num_features_model(m: Sequence[nn.Module] | nn.Module) -> int:
    """Return how many channels the last child of a network gives."""
    for side in (64, 128, 256, 512, 1024):
        try:
            return model_sizes(m, size=(side, side))[-1][1]
        except (RuntimeError, ValueError):  # too small a picture for its pooling
            continue
    return model_sizes(m, size=(2048, 2048))[-1][1]
