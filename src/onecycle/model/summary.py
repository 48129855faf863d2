"""A table of a network's layers: what each gives, how many parameters it has, whether they train."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class LayerRow:
    """One leaf module, in the order in which a picture passes through.

    Attributes:
        kind: class name.
        shape: output shape without the batch dimension.
        n_params: parameters of its own.
        trains: whether they train; None where there are none.
    """

    kind: str
    shape: tuple[int, ...]
    n_params: int
    trains: bool | None


def layer_rows(model: nn.Module, x: torch.Tensor) -> list[LayerRow]:
    """Run ``x`` ``(1, 3, H, W)`` through the model in eval mode and return a row for every leaf module that ran."""
    rows: list[LayerRow] = []

    def note(module: nn.Module, _inputs: object, output: object) -> None:
        if isinstance(output, torch.Tensor):
            own = list(module.parameters(recurse=False))
            trains = any(p.requires_grad for p in own) if own else None
            rows.append(LayerRow(type(module).__name__, tuple(output.shape[1:]), sum(p.numel() for p in own), trains))

    leaves = [m for m in model.modules() if not any(True for _ in m.children())]
    hooks = [leaf.register_forward_hook(note) for leaf in leaves]
    was_training = {m: m.training for m in model.modules()}
    try:
        with torch.inference_mode():
            model.eval()(x)
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in was_training.items():
            module.training = mode
    return rows


def model_summary(model: nn.Module, x: torch.Tensor, *, notes: Sequence[str] = ()) -> Summary:
    """Return the table as text that a notebook echoes as it is.

    Args:
        model: any network.
        x: one input, ``(1, 3, H, W)``.
        notes: lines added below.
    """
    total = sum(p.numel() for p in model.parameters())
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    lines = [f"{'Layer (type)':<24}{'Output shape':<20}{'Parameters':>14}  {'Trains':<6}", "=" * 66]
    for row in layer_rows(model, x):
        trains = "" if row.trains is None else ("yes" if row.trains else "no")
        shape = " × ".join(map(str, row.shape))
        lines.append(f"{row.kind:<24}{shape:<20}{row.n_params:>14,}  {trains:<6}")
    lines += ["=" * 66, f"Parameters: {total:,}", f"  of them train: {trainable:,}", f"  frozen: {total - trainable:,}"]
    return Summary("\n".join([*lines, *notes]))


class Summary(str):
    """Text whose ``repr`` is itself, so that a notebook shows its lines."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)
