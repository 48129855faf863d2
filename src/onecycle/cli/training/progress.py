"""While ``onecycle train`` trains: what is shown and written of each stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from onecycle.cli.screen import Screen
from onecycle.errors import ArgumentError, DataError
from onecycle.learner.fine_tune.best import StageChoice
from onecycle.learner.fine_tune.callback import StageCallback
from onecycle.learner.fine_tune.plan import HEAD, Plan, Stage
from onecycle.learner.heads.solved import HeadFit
from onecycle.learner.label_issues import LabelIssues
from onecycle.learner.learner import Learner
from onecycle.runs.checkpoints import RunCheckpoints, write_sweeps
from onecycle.runs.config import AUTO, DEFAULT, RunConfig
from onecycle.runs.contents import Doubts
from onecycle.text import format_time
from onecycle.train.log.recorder import EpochRow

if TYPE_CHECKING:
    from onecycle.train.loop import Trainer


def show_plan(config: RunConfig, plan: Plan, screen: Screen) -> None:
    """Show the plan, and where each of its values came from: the end of the first screen."""
    epochs, minutes = config.length
    length = f"minutes {minutes:g}" if minutes is not None else f"epochs {epochs}"
    origin = config.origin("minutes" if minutes is not None else "epochs")
    values = [
        f"{config.arch} ({config.origin('arch')})",
        *([f"levels {config.levels} ({config.origin('levels')})"] if config.levels != AUTO else []),
        f"size {config.size or 0} ({config.origin('size')})",
        f"batch {config.bs} ({config.origin('bs')})",
        f"{length} ({origin}{': --epochs, --minutes' if origin == DEFAULT else ''})",
        *([f"lr {config.lr:.2g} ({config.origin('lr')})"] if config.lr else []),
        *(["lr by sweeps (--lr)"] if plan.base_lr is None else []),
    ]
    screen.row("settings", "; ".join(values))
    for i, line in enumerate(str(replace(plan, notes=())).splitlines()):
        screen.line(f"{'plan' if i == 0 else '':<10}{line}")
    budget = "" if plan.budget_s is None else f", of a budget of {format_time(plan.budget_s)}"
    screen.row("", f"about {format_time(plan.forecast_s)} in all{budget}")
    for note in plan.notes:
        if any(words in note for words in ("too little", "would allow more", "mirrored views")):
            screen.row("note", note)
    screen.event(
        "plan",
        forecast_s=plan.forecast_s,
        stages=[
            {
                "trains": s.trains, "size": s.size, "bs": s.bs, "epochs": s.epochs, "forecast_s": s.forecast_s,
                "held_norms": s.hold_norms if s.trains != HEAD else None,
            }
            for s in plan.stages
        ],
        settings={name: {"value": getattr(config, name), "origin": config.origin(name)} for name in _TOLD},
    )  # fmt: skip


_TOLD = ("arch", "levels", "size", "bs", "epochs", "minutes", "lr", "seed", "valid_pct", "stratify")


LABELS = "doubtful labels"
"""What the journal of a run knows the label check by."""


class RunProgress(StageCallback):
    """Shows the stages of a run, and looks for wrong labels while the body is fresh.

    Args:
        config: the settings; ``self.config`` has what the run found, too.
        learn: the learner, one of whose callbacks this becomes.
        checkpoints: of the run.
        screen: where lines go.
    """

    order = 36  # after the checkpoints'

    def __init__(self, config: RunConfig, learn: Learner, checkpoints: RunCheckpoints, screen: Screen) -> None:
        self.config, self.learn, self.checkpoints, self.screen = config, learn, checkpoints, screen
        self.issues: LabelIssues | None = None  # labels to look at again; None where nobody looked
        self.stage: Stage | None = None
        self._n, self._total = 0, 0
        learn.progress_to = screen.progress
        learn.callbacks.append(self)

    def on_plan(self, plan: Plan) -> None:
        """Show the plan."""
        self.screen.idle()
        self._total = len(plan.stages)
        show_plan(self.config, plan, self.screen)
        head = next((s for s in plan.stages if s.trains == HEAD), None)
        if head is not None and not head.solved and self.config.freeze_epochs is None and self.config.minutes is None:
            self.config = self.config.found("freeze_epochs", head.epochs, "about 200 steps of the head")
        self._write_config()

    def on_stage_begin(self, stage: Stage, base_lr: float | None) -> None:
        """Name the stage."""
        self.stage, self._n = stage, self._n + 1
        px = "" if stage.size is None else f", {stage.size[0]} px"
        how = ""
        if stage.trains == HEAD:
            how = ", on features of the frozen body" if stage.views is not None else ", the body frozen"
        elif base_lr is not None:
            how = f", learning rates {stage.lr_text(base_lr)}"
        self.screen.say()
        self.screen.say(f"{self._n} of {max(self._n, self._total)}  {stage.trains}{px}{how}", style="bold")
        if stage.trains == HEAD:
            self.screen.busy("computing the features" if stage.views is not None else "reading the pictures")
        self.screen.event("stage", number=self._n, trains=stage.trains, size=stage.size, epochs=stage.epochs)

    def on_lr_chosen(self, lr: float) -> None:
        """Show and keep the learning rate that was found."""
        answer = self.learn.lr_answer
        if self.config.lr is None:
            why = answer.reason if answer is not None else "no time for sweeps"
            how = f"found: {why}" if answer is not None and answer.lr == lr else f"the default: {why}"
            self.config = self.config.found("lr", lr, how)
            self.screen.say(f"learning rate {lr:.1e}, {how}")
            self._write_config()
        if self.learn.lr_sweeps:
            write_sweeps(self.checkpoints.run, self.learn.lr_sweeps)
        self.screen.event("lr", lr=lr, reason=self.config.origin("lr"))

    def on_head_solved(self, fit: HeadFit) -> None:
        """Say how the head was solved."""
        for line in str(fit).splitlines():
            self.screen.say(line)
        self.screen.event("head_solved", penalty=fit.penalty, n_tags=fit.n_tags, solved_on=fit.solved_on)

    def on_epoch_end(self, trainer: Trainer, row: EpochRow) -> None:
        """Write the epoch as JSON, where that is asked for."""
        self.screen.event(
            "epoch",
            stage=None if self.stage is None else self.stage.trains,
            epoch=row.epoch,
            train_loss=row.train_loss,
            valid_loss=row.valid_loss,
            time_s=row.time_s,
            metrics=dict(zip(trainer.recorder.metric_names, row.metrics, strict=False)),
        )

    def on_stage_end(self, stage: Stage) -> None:
        """After the head's stage look for wrong labels: its features are at hand then."""
        if stage.trains == HEAD:
            self.check_labels()
        self.stage = None

    def on_replan(self, rest: Sequence[Stage]) -> None:
        """Say what is left of the plan."""
        stages = "; ".join(f"{s.trains}, {s.size[0] if s.size else '?'} px, {s.epochs} epochs" for s in rest)
        self._total = self._n + len(rest)
        what = stages or "no further stage fits into the time; a longer one, or --epochs, trains all layers"
        self.screen.say(f"planned anew, from the speed that was seen: {what}")
        self.screen.event("replanned", stages=[{"trains": s.trains, "size": s.size, "epochs": s.epochs} for s in rest])

    def on_stop(self, text: str) -> None:
        """Say why training ends early."""
        self.screen.say(text)
        self.screen.event("stopped_early", reason=text)

    def on_kept(self, choice: StageChoice) -> None:
        """Write which stage is kept as JSON; the last screen says it."""
        self.screen.event("kept", **choice.to_dict())

    def check_labels(self) -> None:
        """Look for wrong labels, once; where that cannot work, say so and go on."""
        journal = self.checkpoints.journal
        if self.config.label_check and not journal.knows(LABELS):
            journal.once(LABELS, self._look_at_labels, Doubts | None)

    def _look_at_labels(self) -> dict[str, Any] | None:
        """Write the doubtful labels down, and return how many there are; None where that cannot be known."""
        try:
            with self.screen.status("checking labels: five heads, each asked about pictures it has not seen"):
                self.issues = self.learn.label_issues(folds=min(5, len(self.learn.data)))
        except (ArgumentError, DataError) as error:
            self.screen.warn(f"labels were not checked: {error}")
            return None
        self.issues.to_csv(self.checkpoints.run.label_issues)
        count = self.issues.count
        self.screen.say(f"labels checked: {count.text(is_multi=self.learn.data.is_multi)}")
        self.screen.event("label_issues", **asdict(count))
        return asdict(count)

    def _write_config(self) -> None:
        run = self.checkpoints.run
        run.write_text(run.config, self.config.to_yaml())
