"""Joining the processes that ``torchrun`` started to train together."""

from __future__ import annotations

import os
from typing import Any

import torch

from onecycle.errors import ArgumentError, DistributedError
from onecycle.train.device.ranks import Ranks

_SET = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def join(device: torch.device) -> Ranks:
    """Join the other processes, once; a process that nobody started with others trains alone.

    Args:
        device: that this process computes on; tensors of a GPU go from GPU to GPU.

    Raises:
        DistributedError: half of what ``torchrun`` sets is not there, or the others do not come.
    """
    import torch.distributed as dist

    if not dist.is_available() or (not dist.is_initialized() and "WORLD_SIZE" not in os.environ):
        return Ranks()
    if not dist.is_initialized():
        if missing := [name for name in _SET if name not in os.environ]:
            raise DistributedError(
                f"WORLD_SIZE is set, and {', '.join(missing)} not: start the processes with `torchrun "
                "--nproc-per-node N SCRIPT`, which sets all of them, or unset WORLD_SIZE"
            )
        try:
            dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
        except (RuntimeError, ValueError) as error:
            raise DistributedError(f"the processes that train together did not find one another: {error}") from error
    return Ranks(dist.get_rank(), dist.get_world_size())


def check_alone(what: str) -> None:
    """Check that this process was not started with others, each of which would do the same once more.

    Args:
        what: that runs in one process, as a user calls it.

    Raises:
        ArgumentError: it was.
    """
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise ArgumentError(
            f"{what} runs in one process, and this one was started with others (WORLD_SIZE is "
            f"{os.environ['WORLD_SIZE']}): start it without torchrun. A script trains on several processes by "
            "learn.to_distributed()"
        )


def join_others(learn: Any, cuda_id: int | None) -> None:
    """Let a learner train together with the other processes; ``Learner.to_distributed`` says more."""
    ranks = join(learn.data.device)
    if cuda_id is not None and learn.data.device.type == "cuda" and learn.data.device.index not in (None, cuda_id):
        raise DistributedError(
            f"the data is on {learn.data.device}, not on cuda:{cuda_id}: call torch.cuda.set_device({cuda_id}) before "
            "the data is made"
        )
    learn.trainer.share_with(ranks)
    learn.silent = learn.silent or not ranks.is_first
