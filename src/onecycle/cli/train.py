"""``onecycle train``: from a data set to a judged model, in a run folder that has everything about it."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from onecycle.cli.exit_codes import exit_code
from onecycle.cli.screen import Screen
from onecycle.cli.training.progress import LABELS, RunProgress, show_plan
from onecycle.cli.training.results import issue_count, judge, show_results, write_report, write_results
from onecycle.cli.training.start import TrainingStart, check_writable, create_run, prepare_data, show_machine
from onecycle.distributed.joining import check_alone
from onecycle.errors import ArgumentError, DiskFullError, DivergedError, OutOfMemoryError
from onecycle.evaluation.headline import scores_of
from onecycle.files import FULL_DISK, disk_full
from onecycle.learner.fine_tune import run as recipe
from onecycle.learner.fine_tune.noted import Options
from onecycle.learner.fine_tune.options import FineTuneOptions
from onecycle.learner.fine_tune.plan import Plan
from onecycle.learner.fine_tune.run import DEFAULT_LR
from onecycle.learner.fine_tune.timing import trainable_groups
from onecycle.learner.learner import Learner
from onecycle.runs.build import make_learner
from onecycle.runs.checkpoints import RunCheckpoints, is_over, read_issues
from onecycle.runs.config import RunConfig
from onecycle.runs.contents import Doubts
from onecycle.runs.folder import RunFolder
from onecycle.runs.load import load_bunch
from onecycle.runs.lock import training_lock
from onecycle.runs.room import check_room
from onecycle.text import format_time
from onecycle.train.device.machine import peak_memory_mb
from onecycle.train.log.progress import Progress
from onecycle.train.log.recorder import Recorder
from onecycle.train.log.trackers import tracker_for
from onecycle.train.loop import set_training_mode
from onecycle.train.lr_finder import unchanged
from onecycle.train.resume.stopping import Stoppable


def run_training(
    config: RunConfig | None,
    *,
    resume: str | Path | None = None,
    as_json: bool = False,
    quiet: bool = False,
    dry_run: bool = False,
) -> int:
    """Train, judge and report.

    Args:
        config: the settings; with ``resume`` they are not used: a run goes on with its own.
        resume: a run to go on with.
        as_json: one JSON object a line on standard output.
        quiet: the headline and the run's folder alone.
        dry_run: one batch end to end and a forecast; nothing is written.

    Returns:
        0, or where it was stopped 130 (Ctrl-C), 143 (SIGTERM) or 129 (SIGHUP); a second signal ends it at once.

    Raises:
        OnecycleError: each with what to do.
        OutputError: the folder of the runs cannot be written.
    """
    check_alone("onecycle train")
    screen = Screen(as_json=as_json, quiet=quiet)
    start_s = time.monotonic()
    with screen.running(), Stoppable():
        try:
            if resume is not None:
                if dry_run:
                    raise ArgumentError("--dry-run tries a new run; leave it out to go on with one")
                return _resume(RunFolder.open_stopped(resume), screen, start_s)
            if config is None:
                raise ArgumentError("nothing says which data to train on: `onecycle train FOLDER`")
            return _begin(config, screen, start_s, dry_run=dry_run)
        except KeyboardInterrupt as error:
            screen.row("stopped", "nothing was trained, and nothing written")
            return exit_code(error)


def _begin(config: RunConfig, screen: Screen, start_s: float, *, dry_run: bool) -> int:
    if not dry_run:
        check_writable(Path(config.out))
    start = prepare_data(config, screen)
    if dry_run:
        return _dry_run(start, screen)
    begun = TrainingRun.begun(start, screen, start_s)
    with training_lock(begun.run_folder, screen.say):
        return begun.run()


def _resume(run: RunFolder, screen: Screen, start_s: float) -> int:
    if is_over(run):
        raise ArgumentError(
            f"{run.path} is trained and judged; there is nothing to go on with. Its report: "
            f"`onecycle report {run.path}`; a longer run: `onecycle train --config {run.config} --epochs N`"
        )
    with training_lock(run, screen.say):
        return TrainingRun.resumed(run, screen, start_s).run()


def _dry_run(start: TrainingStart, screen: Screen) -> int:
    learn = make_learner(start.config, start.data, Path(start.config.out))
    start.data.prepare(silent=True)
    with screen.status("measuring the speed of this machine, and trying a batch"):
        plan = recipe.fine_tune(learn, fine_tune_options(start.config), plan_only=True)
        trial = try_batch(learn)
    show_plan(start.config, plan, screen)
    show_trial(trial, plan, screen)
    return 0


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
    return Trial(loss, valid_loss, loader.bs, *peak_memory_mb(trainer.device))


def show_trial(trial: Trial, plan: Plan, screen: Screen) -> None:
    """Show the forecast."""
    valid = "" if trial.valid_loss is None else f", a validation batch {trial.valid_loss:.4f}"
    screen.say()
    screen.row("tried", f"one batch of {trial.bs} with all layers: loss {trial.train_loss:.4f}{valid}")
    gpu = "" if trial.gpu_mb is None else f", on the GPU {trial.gpu_mb / 1e3:.1f} GB"
    screen.row("memory", f"about {trial.host_mb / 1e3:.1f} GB at the peak{gpu}", always=True)
    time_text = f"about {format_time(plan.forecast_s)} of training; judging and the report come on top"
    screen.row("time", time_text, always=True)
    screen.row("next", "the same command without --dry-run; nothing was written")
    numbers = {name: value for name, value in asdict(trial).items() if name != "bs"}
    screen.event("dry_run", **numbers, forecast_s=plan.forecast_s)


def fine_tune_options(config: RunConfig) -> FineTuneOptions:
    """Return what ``fine_tune`` is asked for."""
    epochs, minutes = config.length
    return FineTuneOptions(
        epochs=epochs, minutes=minutes, base_lr=config.lr, freeze_epochs=config.freeze_epochs, bs=config.bs,
        early_stop=config.early_stop, through_tags=config.through_tags, test_views=config.test_views,
    )  # fmt: skip


@dataclass(kw_only=True)
class TrainingRun:
    """One run from its first or next epoch to its last screen."""

    run_folder: RunFolder
    config: RunConfig
    learn: Learner
    screen: Screen
    start_s: float

    @classmethod
    def begun(cls, start: TrainingStart, screen: Screen, start_s: float) -> TrainingRun:
        """Make the folder of a new run, and write down what is known."""
        config = start.config
        # The network first: without its weights there is no run.
        learn = make_learner(config, start.data, Path(config.out))
        for name in config.track:  # one that is not installed is no run's fault: say so before there is one
            tracker_for(name, Path(config.out), "", {})
        check_room(Path(config.out), learn)
        run = create_run(start, learn, config.name or "run", screen)
        run.write_text(run.config, config.to_yaml())
        screen.event("run", path=str(run.path))
        return cls(run_folder=run, config=config, learn=learn, screen=screen, start_s=start_s)

    @classmethod
    def resumed(cls, run: RunFolder, screen: Screen, start_s: float) -> TrainingRun:
        """Take a run up again: by the same recipe, which takes what the journal and the checkpoints have from there."""
        screen.log_to(run.log)
        config = RunConfig.of_run(run.config)
        show_machine(config, screen)
        learn = make_learner(config, load_bunch(run), run.path)
        screen.row("resume", f"{run.path} goes on where it was stopped; what it measured and chose stays")
        screen.event("resume", run=str(run.path))
        return cls(run_folder=run, config=config, learn=learn, screen=screen, start_s=start_s)

    def run(self) -> int:
        """Train and judge; whatever stops it, what is known stays."""
        run, screen = self.run_folder, self.screen
        checkpoints = RunCheckpoints(run, self.learn)
        progress = RunProgress(self.config, self.learn, checkpoints, screen)
        again = f"onecycle train --config {shlex.quote(str(run.config))}"
        settings = self.config.values()
        trackers = [tracker_for(name, run.path, run.name, settings) for name in self.config.track]
        self.learn.callbacks += trackers
        scores: dict[str, float] | None = None
        try:
            self._train(checkpoints)
            scores = self._judge(checkpoints, progress)
        except KeyboardInterrupt as error:
            self._stopped()
            return exit_code(error)
        except DivergedError as error:
            lower = f"{again} --lr {(progress.config.lr or DEFAULT_LR) / 10:.1e}"
            raise DivergedError(f"{error.what}\nThe history is in {run.history}. Try: {lower}") from error
        except OSError as error:
            if error.errno not in FULL_DISK:
                raise
            raise _with_way_on(error, run) from error
        except OutOfMemoryError as error:
            smaller = f"{again} --bs {max(2, (self.config.bs or 16) // 2)}"
            raise OutOfMemoryError(f"{error}\nTry smaller batches or pictures: {smaller}") from error
        finally:
            for tracker in trackers:
                tracker.finish(scores)
        return 0

    def _train(self, checkpoints: RunCheckpoints) -> None:
        # As they were asked for: what is found on the way is noted in the settings, too.
        asked = checkpoints.journal.once("options", lambda: asdict(fine_tune_options(self.config)), Options)
        self.learn.data.prepare(silent=True)  # it has a bar of its own
        with self.screen.status("measuring the speed of this machine"):
            recipe.fine_tune(self.learn, FineTuneOptions(**asked), journal=checkpoints.journal)

    def _judge(self, checkpoints: RunCheckpoints, progress: RunProgress) -> dict[str, float]:
        """Judge the run, write everything down and show the last screen; returns the scores by name."""
        run, learn, screen = self.run_folder, self.learn, self.screen
        audit: Mapping[str, Any] | None = run.read_json(run.data).get("audit")
        choice = checkpoints.choice
        choice.note_in(learn.recorder)
        interpretation = judge(progress.config, learn, screen)
        predictions = None if interpretation is None else interpretation.predictions
        listed = progress.issues if progress.issues is not None else read_issues(run, learn.data)
        noted = checkpoints.journal.once(LABELS, lambda: None, Doubts | None)
        issues = issue_count(noted, listed), listed
        write_results(run, learn, predictions, audit=audit, issues=issues, choice=choice)
        report = write_report(run, learn, interpretation, issues=listed, screen=screen)
        checkpoints.finish()
        took_s = time.monotonic() - self.start_s
        show_results(run, predictions, audit=audit, issues=issues, report=report, seconds=took_s, screen=screen)
        return {} if predictions is None else {e.name: e.value for e in scores_of(predictions)}

    def _stopped(self) -> None:
        """Say how to go on."""
        path = shlex.quote(str(self.run_folder.path))
        self.screen.say()
        self.screen.row("stopped", f"what was trained is saved in {self.run_folder.path}; go on with", always=True)
        self.screen.command(f"onecycle train --resume {path}")
        self.screen.event("interrupted", run=str(self.run_folder.path))


def _with_way_on(error: OSError, run: RunFolder) -> DiskFullError:
    """Return the error of a full disk with what to do: the run is not lost."""
    full = error if isinstance(error, DiskFullError) else disk_full(error, None if error.filename else run.path)
    file = full.filename or str(run.path)
    on = (
        f"train elsewhere with --out, or free some room and go on: onecycle train --resume {shlex.quote(str(run.path))}"
    )
    return DiskFullError(
        f"{file} cannot be written: {full.strerror}; {on}", number=full.errno, reason=full.strerror or "", file=file,
        needed=full.needed, free=full.free,
    )  # fmt: skip
