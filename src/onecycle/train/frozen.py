"""Training the head alone: a frozen body is a fixed function, so its outputs are computed once and kept.

``split_frozen`` cuts a model into that function and the rest; ``FeatureSet`` keeps the function's outputs for every
picture, and ``FeatureLoader`` gives them as batches in the order in which pictures would have come.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from onecycle.errors import ArgumentError
from onecycle.files import reserve
from onecycle.train.device.machine import free_device_bytes

_VIEW = 2  # purpose of a stream of random numbers; the loaders of pictures use 0 (order) and 1 (augmentation)

_FIXED_TYPES: tuple[type[nn.Module], ...] = (
    *(nn.Identity, nn.Flatten),
    *(nn.AvgPool2d, nn.MaxPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d),
)


# --- the model in two parts -----------------------------------------------------------------------


@dataclass(frozen=True)
class SplitModel:
    """A model as a fixed function and what trains on its outputs; both share the model's layers."""

    fixed: nn.Sequential  # the body, and the leading layers of the head that only pool or flatten
    rest: nn.Sequential  # the remaining layers of the head


def split_frozen(model: nn.Module, fixed_types: Sequence[type[nn.Module]] = ()) -> SplitModel | str:
    """Cut a model behind its frozen body, or say why that cannot be done.

    Args:
        model: ``nn.Sequential(body…, head)``.
        fixed_types: layers of the head, beside torch's own pooling and flattening, that neither learn nor draw.

    Returns:
        The two parts, or the reason (the end of a sentence).
    """
    if not _is_chain(model) or len(list(model.children())) < 2:
        return "the model is not nn.Sequential(body, head)"
    *body, head = model.children()
    if any(p.requires_grad for module in body for p in module.parameters()):
        return "more than the head trains"
    norms = [m for module in body for m in module.modules() if isinstance(m, nn.modules.batchnorm._NormBase)]
    if any(m.track_running_stats and not list(m.parameters(recurse=False)) for m in norms):  # nothing freezes them
        return "the body has norm layers without parameters, whose statistics go on changing"
    layers = list(head.children()) if _is_chain(head) else [head]
    fixed = (*_FIXED_TYPES, *fixed_types)
    n = next((i for i, layer in enumerate(layers[:-1]) if type(layer) not in fixed), max(len(layers) - 1, 0))
    return SplitModel(nn.Sequential(*body, *layers[:n]), nn.Sequential(*layers[n:]))


def _is_chain(module: nn.Module) -> bool:
    """Whether a module does nothing but pass its input through its children in turn."""
    hooked = module._forward_hooks or module._forward_pre_hooks
    return isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward and not hooked


# --- features and where they are kept -------------------------------------------------------------


@dataclass(frozen=True)
class FeatureSet:
    """Outputs of the fixed function for every picture of one part of the data."""

    features: Tensor  # float32 (V, N, …) on the CPU; view 0 is the plain picture, the others are augmented ones
    targets: Tensor  # int64 (N,) or float32 (N, C)
    on_disk: bool = False  # whether the features lie in a temporary file


def empty_features(shape: Sequence[int], *, max_bytes: int, folder: Path) -> tuple[Tensor, bool]:
    """Make room for features: in memory up to ``max_bytes``, beyond that in a temporary file.

    The file has no name (on Windows: one that goes with it), so nothing is left over however the process ends.

    Args:
        shape: ``(V, N, …)``.
        max_bytes: the most that may be taken of the memory.
        folder: of the temporary file; made if missing.

    Returns:
        float32 of that shape, not filled, and whether it lies on the disk.

    Raises:
        OSError: the disk is full or the folder cannot be written.
    """
    n_bytes = 4 * int(np.prod(shape, dtype=np.int64))
    if n_bytes <= max_bytes:
        return torch.empty(tuple(shape), dtype=torch.float32), False
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        reserve(file.fileno(), n_bytes)
        mapped = np.memmap(file, dtype=np.float32, mode="r+", shape=tuple(shape))
    return torch.from_numpy(mapped), True


# --- batches --------------------------------------------------------------------------------------


@dataclass
class FeatureBatch:
    """One batch on the device."""

    x: Tensor  # float32 (n, …) features
    y: Tensor  # int64 (n,) or float32 (n, C) targets
    indices: Tensor  # int64 (n,) on the CPU: positions in the dataset


class FeatureLoader:
    """Batches of features; order and choice of view are functions of (seed, epoch, step).

    Picture i shows view ``(start_i + epoch) mod V``, with ``start_i`` drawn once from the seed: over any V epochs
    each view comes once.

    Args:
        features: what to give.
        bs: pictures in a batch.
        order: from an epoch to the positions that it visits, int64; ``BatchLoader.order`` of the loader that gives
            the same pictures.
        seed: of the views.
        device: where batches go.
    """

    def __init__(
        self,
        features: FeatureSet,
        *,
        bs: int,
        order: Callable[[int], np.ndarray],
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        n_views, n = features.features.shape[:2]
        if len(features.targets) != n:
            raise ArgumentError(f"there are features of {n} pictures and targets of {len(features.targets)}")
        self.features, self.bs, self.order, self.device = features, bs, order, torch.device(device)
        self.epoch = 0
        self._n_steps = -(-len(order(0)) // bs)
        self._start = np.random.default_rng([seed, 0, _VIEW]).integers(n_views, size=n)
        room = free_device_bytes(self.device)
        self._fits = room is not None and features.features.nbytes + features.targets.nbytes <= room
        self._there: tuple[Tensor, Tensor] | None = None  # features and targets on the device, once they are used

    @property
    def n_items(self) -> int:
        """Pictures, dropped ones included."""
        return len(self.features.targets)

    def __len__(self) -> int:
        return self._n_steps

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order and views the next iteration gives."""
        self.epoch = epoch

    def views(self, positions: np.ndarray, epoch: int) -> np.ndarray:
        """Return which view of each picture an epoch shows, int64 ``(n,)``."""
        return np.asarray((self._start[positions] + epoch) % len(self.features.features))

    def batch_at(self, epoch: int, step: int) -> FeatureBatch:
        """Make one batch of one epoch, without the others."""
        return next(self._batches(self.order(epoch)[step * self.bs : (step + 1) * self.bs], epoch))

    def __iter__(self) -> Iterator[FeatureBatch]:
        return self.from_step(0)

    def from_step(self, step: int, end: int | None = None) -> Iterator[FeatureBatch]:
        """Give this epoch's batches from one on, and before another."""
        stop = None if end is None else end * self.bs
        return self._batches(self.order(self.epoch)[step * self.bs : stop], self.epoch)

    def _batches(self, positions: np.ndarray, epoch: int) -> Iterator[FeatureBatch]:
        features, targets = self._kept()
        positions = np.ascontiguousarray(positions)
        rows = torch.from_numpy(self.views(positions, epoch) * len(targets) + positions)
        indices = torch.from_numpy(positions)
        row_numbers, item_numbers = (self._sent(t) if self._fits else t for t in (rows, indices))
        for start in range(0, len(positions), self.bs):
            part = slice(start, start + self.bs)
            # A gathered copy: layers that work in place, such as ReLU, must not reach what is kept.
            x, y = features.index_select(0, row_numbers[part]), targets.index_select(0, item_numbers[part])
            yield FeatureBatch(self._sent(x), self._sent(y), indices[part])

    def _kept(self) -> tuple[Tensor, Tensor]:
        """Return features ``(V·N, …)`` and targets where batches are gathered: on a GPU that has room for them."""
        if not self._fits:
            return self.features.features.flatten(0, 1), self.features.targets
        if self._there is None:
            self._there = self.features.features.flatten(0, 1).to(self.device), self.features.targets.to(self.device)
        return self._there

    def _sent(self, tensor: Tensor) -> Tensor:
        if self.device.type == "cuda" and tensor.device.type == "cpu":
            tensor = tensor.pin_memory()
        return tensor.to(self.device, non_blocking=True)
