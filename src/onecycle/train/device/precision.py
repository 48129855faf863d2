"""What the network computes in: the type of its numbers, their layout in memory, compiled or not."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal, get_args

import torch

from onecycle.errors import ArgumentError

Dtype = Literal["fp32", "bf16", "fp16"]
Choice = Literal["auto", "fp32", "bf16", "fp16"]

_TORCH: dict[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Precision:
    """How a training step computes. Weights stay float32, and so do the loss and everything that is reported."""

    dtype: Dtype = "fp32"  # 16 bits only where autocast holds them to be safe; fp16 with a gradient scaler
    channels_last: bool = True  # activations as N, H, W, C in memory
    compile: bool = False  # the network goes through torch.compile
    reason: str = ""  # why this was chosen, for people

    def autocast(self, device: torch.device) -> AbstractContextManager[object]:
        """Return the context in which the network runs; without effect for fp32."""
        if self.dtype == "fp32":
            return nullcontext()
        return torch.autocast(device.type, dtype=_TORCH[self.dtype])

    @property
    def memory_format(self) -> torch.memory_format:
        """Layout of weights and activations of four dimensions."""
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def lay_out(self, x: torch.Tensor) -> torch.Tensor:
        """Return a batch in this layout; what is not (N, C, H, W) stays as it is."""
        return x.contiguous(memory_format=self.memory_format) if x.ndim == 4 else x

    @property
    def name(self) -> str:
        """What was chosen, in a few words, for example ``bf16, channels_last``."""
        layout = "channels_last" if self.channels_last else "contiguous"
        return f"{self.dtype}, {layout}{', compiled' if self.compile else ''}"

    def describe(self) -> str:
        """What was chosen and why, for example ``fp32, channels_last (measured: 20 pictures/s; bf16 12)``."""
        return f"{self.name} ({self.reason})" if self.reason else self.name


@dataclass(frozen=True)
class PrecisionOptions:
    """What the user asks for; what is left open is measured.

    Raises:
        ArgumentError: an unknown precision.
    """

    precision: Choice = "auto"  # auto measures; or one of fp32, bf16, fp16 (only on a GPU)
    channels_last: bool | None = None  # None measures
    compile: bool | None = None  # None: only on a GPU where it helps, in a fit of ten minutes or more

    def __post_init__(self) -> None:
        if self.precision not in get_args(Choice):
            raise ArgumentError(
                f"precision is one of {', '.join(map(repr, get_args(Choice)))}; received {self.precision!r}"
            )
        for name, value in (("channels_last", self.channels_last), ("compile", self.compile)):
            if value not in (None, True, False):
                raise ArgumentError(f"{name} is True, False or None (measured); received {value!r}")

    def check(self, device: torch.device) -> None:
        """Say whether the device can do what is asked for.

        Raises:
            ArgumentError: it cannot.
        """
        if self.precision == "fp16" and device.type != "cuda":
            raise ArgumentError(
                f"precision='fp16' needs a CUDA GPU, and the data goes to {str(device)!r}: elsewhere half floats are "
                "slower than fp32 and lose small gradients; use 'auto', which takes bf16 where it is faster, or 'bf16'"
            )
        if self.precision == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported(False):
            raise ArgumentError("this GPU has no bf16; use precision='fp16' or 'auto'")

    def dtypes(self, device: torch.device) -> list[Dtype]:
        """The types to choose from, the plainest first."""
        if self.precision != "auto":
            return [self.precision]
        if device.type == "cuda":
            return ["fp32", "bf16", "fp16"] if torch.cuda.is_bf16_supported(False) else ["fp32", "fp16"]
        return ["fp32", "bf16"] if device.type == "cpu" and cpu_has_bf16() else ["fp32"]

    def layouts(self) -> list[bool]:
        """The values of ``channels_last`` to choose from."""
        return [True, False] if self.channels_last is None else [self.channels_last]


def cpu_has_bf16() -> bool:
    """Say whether this processor has instructions for bf16 that torch uses."""
    available = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return bool(available and torch.ops.mkldnn._is_mkldnn_bf16_supported())
