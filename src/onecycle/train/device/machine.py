"""What this machine is: its processor and device, the cores that may be used, the memory that was used."""

from __future__ import annotations

import math
import os
import platform
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache

import torch

from onecycle.errors import ArgumentError, DeviceError, OnecycleWarning, warn


def n_cores() -> int:
    """Return the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor_name() -> str:
    """Return what the maker calls the processor; elsewhere than on Linux what Python knows of it."""
    with suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def device_name(device: torch.device) -> str:
    """Return what a device is called by its maker."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type.upper()


def peak_memory_mb(device: torch.device) -> tuple[float, float | None]:
    """Return the most memory that this process has had, and the most on its GPU, in MB; None without a GPU."""
    try:
        import resource
    except ImportError:  # Windows
        host = math.nan
    else:
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        host = used / 1e6 if sys.platform == "darwin" else used / 1e3  # bytes there, KB on Linux
    gpu = torch.cuda.max_memory_allocated(device) / 1e6 if device.type == "cuda" else None
    return host, gpu


def checked_device(device: str | torch.device | None) -> torch.device:
    """Return the device that was asked for; by default the GPU; where there is none, the CPU in any case.

    Raises:
        ArgumentError: a GPU of another kind than CUDA's, or beyond the last, that is not there.
    """
    chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if chosen.type == "cuda" and not torch.cuda.is_available():
        _say_no_gpu(str(device))
        return torch.device("cpu")
    is_there = {"cuda": (chosen.index or 0) < torch.cuda.device_count(), "mps": torch.backends.mps.is_available()}
    if not is_there.get(chosen.type, True):
        raise ArgumentError(f"device={str(device)!r} was asked for, and PyTorch sees no such GPU; leave device out")
    return chosen


@cache
def _say_no_gpu(asked: str) -> None:
    warn(f"device={asked!r} was asked for, but PyTorch sees no GPU here: all runs on the CPU", OnecycleWarning)


def wait_for(device: torch.device) -> None:
    """Wait until a device has done what it was asked to."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def free_device_bytes(device: torch.device) -> int | None:
    """Return half of a GPU's free memory, which one thing may take; None for devices that share the machine's."""
    return torch.cuda.mem_get_info(device)[0] // 2 if device.type == "cuda" else None


_LACKS = (
    r"operator '([^']+)' is not currently implemented",  # MPS and other backends beside the CPU and CUDA
    r"Could not run '([^']+)' with arguments",  # no kernel of this device at all
    r"\"([^\"]+)\" not implemented for '(\w+)'",  # none for numbers of this type
    r"([\w.]+): Low precision dtypes not supported. Got (\w+)",  # the same
    r"Unsupported (\w+ interpolation)",  # MPS
)
"""How torch says that a device lacks an operation; a NotImplementedError of the user's own says nothing of these."""


def lacking(error: BaseException) -> str | None:
    """Return the operation that a device lacks, by what torch said; None for other errors."""
    if not isinstance(error, RuntimeError):
        return None
    for pattern in _LACKS:
        if match := re.search(pattern, str(error)):
            return " for ".join(match.groups())
    return None


@contextmanager
def naming_what_lacks(device: torch.device, doing: str, instead: str) -> Iterator[None]:
    """Say which operation a device lacks, for what, and what to do instead.

    Args:
        device: that computes inside.
        doing: what needs the operation.
        instead: what to choose.

    Raises:
        DeviceError: the operation, the device and the option.
    """
    try:
        yield
    except RuntimeError as error:
        operation = lacking(error)
        if operation is None or isinstance(error, DeviceError):
            raise
        ways = [instead]
        if device.type == "mps":
            ways.append("set PYTORCH_ENABLE_MPS_FALLBACK=1 before Python starts: what MPS lacks then runs on the CPU")
        if device.type != "cpu":
            ways.append("pass device='cpu'")
        raise DeviceError(
            f"PyTorch has no {operation} on device {str(device)!r}, and {doing} needs it: {'; or '.join(ways)}"
        ) from error
