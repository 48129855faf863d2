"""What the network computes in: the type of its numbers, their layout in memory, compiled or not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch

from onecycle.errors import ArgumentError

Dtype = Literal["fp32", "tf32", "bf16", "fp16"]
"""``tf32`` is float32 whose products have 10 bits of mantissa."""

Choice = Literal["auto", "fp32", "tf32", "bf16", "fp16"]

_FIRST_WITH_TF32 = 8
"""Compute capability of the first GPUs that have it (Ampere); torch lets convolutions use it unless told not to."""

_TORCH: dict[str, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Precision:
    """How a training step computes. Weights stay float32, and so do the loss and everything that is reported."""

    dtype: Dtype = "fp32"  # 16 bits only where autocast holds them to be safe; fp16 with a gradient scaler
    channels_last: bool = True  # activations as N, H, W, C in memory
    compile: bool = False  # the network goes through torch.compile
    reason: str = ""  # why this was chosen, for people
    benchmark: bool = False  # cuDNN times its algorithms for each shape in training steps, and takes the fastest

    @classmethod
    def of_values(cls, values: dict[str, Any] | None) -> Precision | None:
        """Read what ``asdict`` gave; None is plain fp32."""
        return None if values is None else cls(**values)

    def autocast(self, device: torch.device) -> AbstractContextManager[object]:
        """Return the context in which the network runs; without effect for float32."""
        if self.dtype not in _TORCH:
            return nullcontext()
        return torch.autocast(device.type, dtype=_TORCH[self.dtype])

    @contextmanager
    def arithmetic(self, *, training: bool = False) -> Iterator[None]:
        """Have forward and backward pass inside compute so: float32 is TF32 where that was chosen alone.

        cuDNN times its algorithms in training alone: there batches have one shape. Afterwards all is as before.
        """
        before = torch.backends.cudnn.benchmark
        try:
            torch.backends.cudnn.benchmark = before or (training and self.benchmark)
            with float32_products("tf32" if self.dtype == "tf32" else "ieee"):
                yield
        finally:
            torch.backends.cudnn.benchmark = before

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
        extras = f"{', cudnn.benchmark' if self.benchmark else ''}{', compiled' if self.compile else ''}"
        return f"{self.dtype}, {layout}{extras}"

    def describe(self) -> str:
        """What was chosen and why, for example ``fp32, channels_last (measured: 20 pictures/s; bf16 12)``."""
        return f"{self.name} ({self.reason})" if self.reason else self.name


@dataclass(frozen=True)
class PrecisionOptions:
    """What the user asks for; what is left open is measured.

    Raises:
        ArgumentError: an unknown precision.
    """

    precision: Choice = "auto"  # auto measures; or one of fp32, bf16, tf32 and fp16 (only on a GPU)
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
        if self.precision == "tf32" and not has_tf32(device):
            raise ArgumentError(f"precision='tf32' needs a CUDA GPU of 2020 or later; {str(device)!r} has no TF32")
        if self.precision == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported(False):
            raise ArgumentError("this GPU has no bf16; use precision='fp16' or 'auto'")

    def dtypes(self, device: torch.device) -> list[Dtype]:
        """The types to choose from, the plainest first."""
        if self.precision != "auto":
            return [self.precision]
        if device.type == "cuda":
            tf32: list[Dtype] = ["tf32"] if has_tf32(device) else []
            bf16: list[Dtype] = ["bf16"] if torch.cuda.is_bf16_supported(False) else []
            return ["fp32", *tf32, *bf16, "fp16"]
        return ["fp32", "bf16"] if device.type == "cpu" and cpu_has_bf16() else ["fp32"]

    def unmeasured(self) -> Precision | None:
        """What to compute in where nothing is measured: what is fixed, and plain fp32 for the rest."""
        if self.precision in ("auto", "fp32") and self.channels_last is None and not self.compile:
            return None
        dtype: Dtype = "fp32" if self.precision == "auto" else self.precision
        return Precision(dtype, self.channels_last is not False, bool(self.compile), reason="as asked for")

    def layouts(self) -> list[bool]:
        """The values of ``channels_last`` to choose from."""
        return [True, False] if self.channels_last is None else [self.channels_last]


def has_tf32(device: torch.device) -> bool:
    """Say whether a device can multiply float32 with fewer bits."""
    is_nvidia = device.type == "cuda" and torch.version.hip is None
    return is_nvidia and torch.cuda.get_device_capability(device)[0] >= _FIRST_WITH_TF32


@contextmanager
def float32_products(how: Literal["ieee", "tf32"] = "ieee") -> Iterator[None]:
    """Have GPUs multiply float32 exactly inside (``ieee``), or with 10 bits of mantissa; afterwards as before.

    torch lets convolutions of float32 use TF32 by itself, with errors of 1e-3 of the result where float32 has 1e-7. All
    that is reported, kept or compared is computed inside this; on other devices it has no effect.
    """
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    if hasattr(cudnn, "conv"):  # torch 2.9 and later
        settings: list[tuple[Any, str, Any]] = [(m, "fp32_precision", how) for m in (cudnn.conv, cudnn.rnn, matmul)]
    else:
        settings = [(m, "allow_tf32", how == "tf32") for m in (cudnn, matmul)]
    before = [getattr(module, name) for module, name, _ in settings]
    try:
        for module, name, value in settings:
            setattr(module, name, value)
        yield
    finally:
        for (module, name, _), value in zip(settings, before, strict=True):
            setattr(module, name, value)


def cpu_has_bf16() -> bool:
    """Say whether this processor has instructions for bf16 that torch uses."""
    available = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return bool(available and torch.ops.mkldnn._is_mkldnn_bf16_supported())
