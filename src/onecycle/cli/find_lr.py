"""``onecycle find-lr``: sweeps that find a learning rate, shown, written, and put into the next command."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from onecycle.cli.screen import LABEL_WIDTH, Screen
from onecycle.cli.training.start import check_writable, create_run, prepare_data
from onecycle.files import write_whole
from onecycle.runs.build import make_learner
from onecycle.runs.checkpoints import write_sweeps
from onecycle.runs.config import RunConfig
from onecycle.runs.folder import RunFolder
from onecycle.train.lr_finder import LrAnswer, Sweep

VIEWS = 1
"""Augmented views whose features the sweeps run over: as many as the head's stage of ``onecycle train`` has."""

_ROWS, _COLUMNS = 9, 60


def run_lr_find(config: RunConfig, *, as_json: bool = False, quiet: bool = False) -> int:
    """Sweep the learning rate over the features of the frozen body, three times, and say what the sweeps say.

    Args:
        config: the settings of ``train``; the audit is left out.
        as_json: one JSON object a line on standard output.
        quiet: the answer alone.

    Returns:
        0.

    Raises:
        OnecycleError: each with what to do.
        OSError: the folder of the runs cannot be written.
    """
    screen = Screen(as_json=as_json, quiet=quiet)
    with screen.running():
        check_writable(Path(config.out))
        start = prepare_data(config.found("audit", False, "find-lr looks at the learning rate alone"), screen)
        learn = make_learner(start.config, start.data, Path(config.out))
        run = create_run(start, learn, f"{start.config.name}-lr", screen)
        learn.precompute = VIEWS
        learn.progress_to = screen.progress
        screen.busy("computing the features")
        answer = learn.lr_suggestion()
        screen.idle()
        write_sweeps(run, learn.lr_sweeps)
        _draw(learn.lr_sweeps, answer.lr, run.lr_picture)
        run.write_text(run.config, start.config.to_yaml())  # last: what is killed before is no training to go on with
        _show(config, answer, learn.lr_sweeps, run, screen)
    return 0


def _show(asked: RunConfig, answer: LrAnswer, sweeps: Sequence[Sweep], run: RunFolder, screen: Screen) -> None:
    screen.say()
    for line in chart(sweeps, answer.lr):
        screen.line(" " * LABEL_WIDTH + line)
    screen.say()
    screen.row("answer", str(answer), style="bold", always=True)
    screen.row("run", f"{run.path}: {run.lr_find.name}, {run.lr_picture.name}", always=True)
    command = asked.command() if answer.lr is None else asked.found("lr", round_lr(answer.lr), "option").command()
    screen.row("next", "train with it" if answer.lr is not None else "train with the default, or try larger batches")
    screen.command(command)
    screen.event("lr", **asdict(answer), run=str(run.path), next=command)


def round_lr(lr: float) -> float:
    """Return a learning rate with two digits: the sweeps say no more."""
    return float(f"{lr:.1e}")


def mean_curve(sweeps: Sequence[Sweep], n: int = _COLUMNS) -> tuple[np.ndarray, np.ndarray]:
    """Return (learning rates, losses), each ``(n,)``: the mean of the sweeps where all of them are, NaN beyond."""
    log_lr = [np.log10(np.asarray(lrs[: len(losses)])) for lrs, losses in sweeps]
    at = np.linspace(min(x[0] for x in log_lr), max(x[-1] for x in log_lr), n)
    curves = [np.interp(at, x, losses, right=math.nan) for x, (_, losses) in zip(log_lr, sweeps, strict=True)]
    return 10**at, np.mean(curves, axis=0)


def chart(sweeps: Sequence[Sweep], lr: float | None) -> list[str]:
    """Draw the mean loss over the learning rate in characters; ``^`` marks ``lr``.

    Losses above one and a half times the first are drawn at the top.
    """
    lrs, losses = mean_curve(sweeps)
    smooth = np.convolve(np.pad(losses, 1, mode="edge"), np.full(3, 1 / 3), mode="valid")
    shown = np.isfinite(smooth)
    if not shown.any():
        return []
    low, top = float(smooth[shown].min()), 1.5 * float(smooth[shown][0])
    height = np.clip((smooth - low) / max(top - low, 1e-9), 0, 1)
    level = np.full(len(lrs), -1)
    level[shown] = np.round((1 - height[shown]) * (_ROWS - 1)).astype(int)
    lines = []
    for row in range(_ROWS):
        marks = "".join("•" if v == row else " " for v in level)
        value = f"{top - (top - low) * row / (_ROWS - 1):.2f}" if row in (0, _ROWS - 1) else ""
        lines.append(f"{value:>6} │{marks.rstrip()}")
    first, last = f"{lrs[0]:.0e}", f"{lrs[-1]:.0e}"
    lines.append(f"{'':>6} └{'─' * len(lrs)}")
    axis = f"{first}{'learning rate':^{len(lrs) - len(first) - len(last)}}{last}"
    if lr is not None:
        lines.append(f"{'':>7} {' ' * int(np.abs(np.log(lrs / lr)).argmin())}^ {lr:.1e}")
    return [*lines, f"{'':>8}{axis}"]


def _draw(sweeps: Sequence[Sweep], lr: float | None, path: Path) -> None:
    """Draw the sweeps into a file, whole."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axis = figure.subplots()
    for i, (lrs, losses) in enumerate(sweeps, 1):
        axis.plot(lrs[: len(losses)], losses, lw=0.8, alpha=0.7, label=f"sweep {i}")
    if lr is not None:
        axis.axvline(lr, color="black", ls="--", lw=1, label=f"suggested {lr:.1e}")
    axis.set(xscale="log", xlabel="learning rate", ylabel="training loss of a batch")
    axis.set_ylim(top=2 * max(losses[0] for _, losses in sweeps), bottom=0)
    axis.legend(frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    write_whole(path, buffer.getvalue())
