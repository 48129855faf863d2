"""``onecycle train --dry-run``: one batch end to end, then what training would take in time and memory."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from onecycle.cli.screen import Screen
from onecycle.learner.fine_tune.pace import trainable_groups
from onecycle.learner.fine_tune.plan import Plan
from onecycle.learner.learner import Learner
from onecycle.text import format_time
from onecycle.train.device.machine import peak_memory_mb
from onecycle.train.log.progress import Progress
from onecycle.train.log.recorder import Recorder
from onecycle.train.loop import set_training_mode
from onecycle.train.lr_finder import unchanged


@dataclass(frozen=True)
class Trial:
    """One batch end to end."""

    train_loss: float  # of a step with all layers
    valid_loss: float | None  # of a validation batch; None where no picture validates
    bs: int  # pictures in the batch
    host_mb: float  # most memory so far
    gpu_mb: float | None  # the same on the GPU; None without one


def try_batch(learn: Learner) -> Trial:
    """Take one whole step with all layers, and predict a validation batch; the learner is afterwards as before."""
    trainer, data = learn.trainer, learn.data
    loader = data.train_dl.replace(stats=learn.norm_stats)
    with trainable_groups(learn.layer_groups), unchanged(trainer):
        trainer.optimizer = None
        with trainer.running(Recorder(), progress=Progress(), callbacks=()):
            set_training_mode(trainer.model)
            batch = loader.batch_at(0, 0)
            loss = float(trainer.train_step(batch, 0))
    valid_loss = None
    if len(data.split.valid):
        trainer.model.eval()
        with torch.inference_mode():
            x, y = learn.loader().batch_at(0, 0)
            valid_loss = float(trainer.loss_func(trainer.model(x).float(), y).mean())
    host_mb, gpu_mb = peak_memory_mb(trainer.device)
    return Trial(loss, valid_loss, loader.bs, host_mb, gpu_mb)


def show_trial(trial: Trial, plan: Plan, screen: Screen) -> None:
    """Show the forecast."""
    valid = "" if trial.valid_loss is None else f", a validation batch {trial.valid_loss:.4f}"
    screen.say()
    screen.row("tried", f"one batch of {trial.bs} with all layers: loss {trial.train_loss:.4f}{valid}")
    gpu = "" if trial.gpu_mb is None else f", on the GPU {trial.gpu_mb / 1e3:.1f} GB"
    screen.row("memory", f"about {trial.host_mb / 1e3:.1f} GB at the peak{gpu}", always=True)
    text = f"about {format_time(plan.forecast_s)} of training; judging and the report come on top"
    screen.row("time", text, always=True)
    screen.row("next", "the same command without --dry-run; nothing was written")
    screen.event(
        "dry_run",
        train_loss=trial.train_loss,
        valid_loss=trial.valid_loss,
        host_mb=trial.host_mb,
        gpu_mb=trial.gpu_mb,
        forecast_s=plan.forecast_s,
    )
