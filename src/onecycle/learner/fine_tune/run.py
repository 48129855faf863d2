"""``fine_tune``: measure this machine, plan, train the head and then all layers, and keep to a time budget.

A ``learn`` here is a ``Learner``; its module imports this one, so the type is not named.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from textwrap import fill
from typing import Any

import torch

from onecycle.data.augment.transforms import mirrored_views
from onecycle.data.bunch import ImageDataBunch
from onecycle.data.labels.items import need_classes
from onecycle.errors import DivergedError
from onecycle.learner.features import why_pictures
from onecycle.learner.fine_tune.best import BestStage, EarlyStop, half_way, judge_way, load_weights, weights_of
from onecycle.learner.fine_tune.callback import StageCallback
from onecycle.learner.fine_tune.noted import FoundRate, Measured, Replanned
from onecycle.learner.fine_tune.options import FineTuneOptions
from onecycle.learner.fine_tune.plan import (
    ALL,
    HEAD,
    LAST,
    WIDTH,
    Plan,
    Speeds,
    Stage,
    Task,
    make_plan,
    replan,
    size_text,
    step_s,
    trains_last,
)  # fmt: skip
from onecycle.learner.fine_tune.timing import Clock, TimedCycle, hold_norms, measure, measured_text, trainable_groups
from onecycle.learner.fits.journal import Journal
from onecycle.learner.heads.exchange import exchange_head, has_untouched_head
from onecycle.learner.heads.solved import why_not_solved
from onecycle.model import cnn
from onecycle.model.levels import reads_levels, views_of
from onecycle.text import by_place, format_time, plural
from onecycle.train.device.precision import Precision
from onecycle.train.log.progress import format_cell
from onecycle.train.log.recorder import Recorder
from onecycle.train.loop import Callback
from onecycle.train.lr_finder import LrAnswer

DEFAULT_LR = 3e-3
"""The base rate where neither the caller nor the finder says one: v1's default."""

TRAINED_ALREADY = 0.1
"""Share of that rate for a head that was trained before, where the sweeps cannot tell: it has little left to learn."""

LEAST_HEAD_SHARE, LEAST_HEAD_S = 0.25, 3.0
"""The head's cycle on features gets this share of the time, and these seconds, however late it begins: a few hundred
steps, where none at all would leave it as it was drawn."""

LATE = 1.03
"""A stage is shortened when it would end later than this share of its time."""

MOST_SLOWER = 3.0
"""The head's stage makes the forecast of later ones at most so many times longer: it is not all forward passes."""


def fine_tune(
    learn: Any,
    options: FineTuneOptions,
    *,
    plan_only: bool = False,
    clock: Clock = time.monotonic,
    journal: Journal | None = None,
) -> Plan:
    """Run the recipe over a learner and tell its callbacks; ``Learner.fine_tune`` says what it does.

    Args:
        learn: the learner; its data and ``precompute`` are afterwards as before, however this ends.
        options: what was asked for.
        plan_only: measure and show the plan, train nothing.
        clock: seconds that never go back.
        journal: knows what was measured and chosen, where the recipe was stopped and runs again: then the same plan is
            gone through, and fits whose checkpoints are there are not run again.

    Returns:
        The plan, as it was made before training.
    """
    need_classes(learn.data.labels, "fine_tune()")
    own_clock, clock = clock, learn.trainer.ranks.clock(clock)
    start_s, journal = clock(), journal or Journal(learn.trainer.ranks)
    data, precompute = learn.data, learn.precompute
    budget_s = None if options.minutes is None else 60.0 * options.minutes
    task = task_for(learn, options)
    data.prepare(silent=learn.silent)
    prepared_s = clock() - start_s
    put_back = _with_levels(learn, task, test_views=options.test_views)
    task = replace(task, has_maps=task.has_maps and _can_cut(learn), test_views=views_of(learn.model))
    last = options.epochs is None or trains_last(task, options.epochs)
    all_layers = options.epochs is None or not (last or (options.epochs == 0 and task.on_features))
    which = {"all_layers": all_layers, "last_stages": last}
    measured = journal.once("speeds", lambda: measure(learn, task, budget_s, start_s, own_clock, **which), Measured)
    speeds, spent_s = Speeds(**measured["speeds"]), measured["spent_s"]
    task = replace(task, timed_bs=measured["bs"])
    start_s = clock() - spent_s
    learn.trainer.use_precision(Precision.of_values(measured["precision"]))  # its layout counts from here on
    _say(learn, measured_text(speeds, spent_s, prepared_s))
    plan = make_plan(task, speeds, epochs=options.epochs, budget_s=budget_s, spent_s=spent_s)
    _say(learn, plan)
    for callback in _callbacks(learn):
        callback.on_plan(plan)
    if plan_only:
        put_back()
        return plan
    try:
        best = BestStage.begun(learn, journal)
        run = _Run(learn, task, speeds, plan, start_s, clock, best if best.can_choose else None)
        run.stops, run.through_tags, run.journal = options.early_stop, options.through_tags, journal
        run.stages()
    finally:
        learn.data = data
        learn.precompute = precompute  # also where they compare equal: 0 and False are not the same here
    return plan


def _with_levels(learn: Any, task: Task, *, test_views: bool) -> Callable[[], object]:
    """Let a head that is to be solved read several stages of the network; returns what puts the old one back."""
    if not task.solves_head or reads_levels(learn.model):
        return lambda: None
    views = mirrored_views(learn.data.train_tfms) if test_views else 1
    put_back = exchange_head(learn, views=views)
    n = len(learn.model[0].at) + learn.model[0].with_last or 1
    _say(
        learn,
        f"The head reads {plural(n, 'stage')} of the network{by_place('', ' (levels=None keeps the usual head)')}.",
    )
    return put_back


def _can_cut(learn: Any) -> bool:
    """Whether the second half of a network can train on maps of the first."""
    if len(learn.layer_groups) < 3 or not reads_levels(learn.model):
        return False
    with trainable_groups(learn.layer_groups, first=-2):
        return why_pictures(learn.model, learn.data, learn.all_callbacks()) is None


def _say(learn: Any, text: object) -> None:
    if not learn.silent:
        print(text)


def _callbacks(learn: Any) -> list[StageCallback]:
    """Return those that are told of stages, in their order."""
    return sorted((c for c in learn.callbacks if isinstance(c, StageCallback)), key=lambda c: c.order)


def task_for(learn: Any, options: FineTuneOptions) -> Task:
    """Describe what is to be trained."""
    data = learn.data
    sizes = options.sizes_for(data.lists.resize.size)
    body = cnn.group_parameters(learn.layer_groups)[:-1]
    frozen = any(not p.requires_grad for group in body for p in group)
    has_head = frozen and options.freeze_epochs != 0
    with trainable_groups(learn.layer_groups, first=-1):
        obstacle = why_pictures(learn.trainer.model, data, learn.all_callbacks()) if has_head else None
    if obstacle is not None:
        _say(learn, f"The head's stage is fed pictures, not features: {obstacle}.")
    views = options.precompute
    if views is None and learn.precompute is not False:
        views = learn.precompute
    on_features = has_head and obstacle is None and views is not False
    solves = on_features and options.freeze_epochs is None and _can_solve(learn)
    base_lr = options.base_lr
    if base_lr is None and solves:
        base_lr = DEFAULT_LR
    if base_lr is None and not on_features:
        base_lr = DEFAULT_LR
        _say(learn, f"Learning rate {DEFAULT_LR:.0e}, the default: sweeps are run over features only (base_lr=).")
    trains_norms = options.train_bn if frozen else True
    return Task(
        n_train=len(data.split.train),
        n_valid=len(data.split.valid),
        size=data.lists.resize.size,
        bs=data.batch_size,
        has_tfms=data.train_dl.augmenter is not None,
        has_head_stage=has_head,
        on_features=on_features,
        solves_head=solves,
        has_maps=frozen and views is not False,
        views=None if views is None or isinstance(views, bool) else views,
        sizes=sizes,
        freeze_epochs=options.freeze_epochs,
        fixed_bs=options.bs,
        base_lr=base_lr,
        hold_norms=None if trains_norms is None else not trains_norms,
    )


def _can_solve(learn: Any) -> bool:
    linear = reads_levels(learn.model) or has_untouched_head(learn)
    return linear and why_not_solved(learn, learn.all_callbacks()) is None


# --- running --------------------------------------------------------------------------------------


class _Run:
    """The state of a running recipe."""

    def __init__(
        self, learn: Any, task: Task, speeds: Speeds, plan: Plan, start_s: float, clock: Clock, best: BestStage | None
    ) -> None:
        self.learn, self.task, self.speeds, self.plan = learn, task, speeds, plan
        self.data: ImageDataBunch = learn.data
        self.start_s, self.clock = start_s, clock
        self.best = best  # None where no pictures validate, or too few to choose
        self.base_lr = plan.base_lr
        self.stops = True  # whether it may end before the last epoch
        self.through_tags = True  # whether classes that are strings of tags may be predicted through these
        self.journal = Journal()
        self.has_diverged = False
        self.n_epochs = self.n_all = 0  # that were run: of the latest stage, and after the head's
        self.done: list[Stage] = []
        self.rest = list(plan.stages)
        self.cycle: TimedCycle | None = None  # of the stages after the head's
        self.before: dict[str, torch.Tensor] = {}  # the weights that the last stages started from,
        self.end: dict[str, torch.Tensor] = {}  # and that they ended with
        self.history: Recorder | None = None

    def stages(self) -> None:
        """Run them in turn, planning the rest anew after each where there is a time budget, and keep the best."""
        while self.rest:
            stage = self.rest.pop(0)
            before_s = self.clock()
            self._tell("on_stage_begin", stage, self.base_lr)
            why = self._run(stage)
            self._note(stage)
            stopped = self._judge(stage, why)
            self._tell("on_stage_end", stage)
            if stopped:
                _say(self.learn, fill(f"{stopped[0].upper()}{stopped[1:]}.", WIDTH))
                self._tell("on_stop", stopped)
                break
            self._replan(stage, self.clock() - before_s)
            if self.rest:
                n, left_s = len(self.done), format_time(sum(s.forecast_s for s in self.rest))
                done = f"Stage {n} of {n + len(self.rest)} done after {format_time(self.spent_s)}"
                _say(self.learn, f"{done}, about {left_s} left.")
        self.learn.data = self.data
        if self.best is not None:
            self.best.put_back()
            self._tell("on_kept", self.best.choice)
            if len(self.best.choice.stages) > 1:
                _say(self.learn, fill(f"Kept: {self.best.choice}.", WIDTH))
        _say(self.learn, self._summary())

    def _note(self, stage: Stage) -> None:
        """Note that a stage has ended, and add its history to that of the earlier ones."""
        self.done.append(stage)
        self.n_epochs = len(self.learn.recorder.rows)
        self.history = self.history or Recorder(self.learn.recorder.metric_names)
        self.history.extend(self.learn.recorder)
        self.learn.recorder = self.history
        if stage.trains != HEAD:
            self.n_all += self.n_epochs

    def _tell(self, moment: str, *values: Any, **named: Any) -> None:
        for callback in _callbacks(self.learn):
            getattr(callback, moment)(*values, **named)

    def _run(self, stage: Stage) -> str:
        """Run a stage; returns why training ends with it before its last epoch, "" where it does not."""
        if stage.trains == HEAD:
            self._head(stage)
            return ""
        try:
            why = self._layers(stage)
        except DivergedError as error:
            if self.best is None or not self.best.choice.stages:
                raise
            self.has_diverged = True
            return str(error.what)
        if stage.trains == LAST:
            self.end = weights_of(self.learn.model)
            load_weights(self.learn, half_way(self.before, self.end))
        return why

    def _judge(self, stage: Stage, why: str) -> str:
        """Judge a stage that has ended; returns what says that training ends with it, "" where it goes on.

        Args:
            stage: the latest of ``done``.
            why: it ended before its last epoch; "" where it did not.
        """
        best = self.best
        if best is None:
            return ""
        name, is_best = self._name(stage), False
        if self.has_diverged:
            best.diverged(name, epochs=self.n_epochs)
        else:
            # Epochs are validated on the plain view alone.
            is_known = stage.size == self.task.size and self.task.test_views == 1
            row = self.learn.recorder.rows[-1] if is_known else None
            if self.end:
                is_best = judge_way(best, self.end, name, epochs=self.n_epochs)
            else:
                is_best = best.judge(name, epochs=self.n_epochs, row=row)
            if self._may_stop(stage) and self.rest and self.cycle is not None:
                why = why or best.hopeless(best.choice.stages[-1].loss, 1 - self.cycle.position)
        stopped = ""
        if why:
            total = sum(s.epochs for s in (*self.done, *self.rest) if s.trains != HEAD)
            stopped = f"stopped after {self.n_all} of {plural(total, 'epoch')}: {why}"
            best.note_stop(stopped)
        self._tell("on_stage_judged", best.choice, is_best=is_best)
        return stopped

    def _may_stop(self, stage: Stage) -> bool:
        """Whether a forecast of its end is worth anything: see ``FALL``."""
        return self.stops and stage.trains != HEAD and stage.hold_norms

    def _name(self, stage: Stage) -> str:
        """Say what trained, with its size where stages differ in it alone."""
        sizes = {s.size for s in (*self.done, *self.rest) if s.trains == ALL}
        return stage.trains if stage.trains == HEAD or len(sizes) < 2 else f"{stage.trains}, {size_text(stage.size)}"

    @property
    def spent_s(self) -> float:
        return self.clock() - self.start_s

    def _head(self, stage: Stage) -> None:
        learn = self.learn
        learn.data = self._data_for(stage)
        if stage.views is not None:
            learn.precompute = stage.views
        learn.freeze()
        if self.rest and self.rest[0].trains == LAST and self.rest[0].size == stage.size:
            with trainable_groups(learn.layer_groups, first=-2):
                learn.frozen_features.go_by_maps(learn.model)
        if stage.solved:
            fit = learn.solve_head(through_tags=self.through_tags)
            if fit is not None:
                learn.say(str(fit))
                self._tell("on_head_solved", fit)
            return
        if self.base_lr is None:
            self.base_lr = self._found_lr(stage)
            self._tell("on_lr_chosen", self.base_lr)
        cycle = TimedCycle(learn.lr_range(stage.max_lr(self.base_lr)), clock=self.clock)
        self._fit(cycle, stage, later_steps=0, start_epoch=0)

    def _found_lr(self, stage: Stage) -> float:
        """Return the base learning rate; the learner has the sweeps that say it, also where these were run before."""
        learn = self.learn

        def find() -> dict[str, Any]:
            is_late = self.plan.budget_s is not None and self.spent_s + stage.forecast_s > self.plan.budget_s
            lr = self._choose_lr(late=is_late)
            answer = None if learn.lr_answer is None else asdict(learn.lr_answer)
            return {"lr": lr, "sweeps": learn.lr_sweeps, "answer": answer}

        known = self.journal.once("learning rate", find, FoundRate)
        learn.lr_sweeps = tuple((list(lrs), list(losses)) for lrs, losses in known["sweeps"])
        learn.lr_answer = None if known["answer"] is None else LrAnswer(**known["answer"])
        return float(known["lr"])

    def _choose_lr(self, *, late: bool) -> float:
        """Find the base learning rate; ``late``: not even the head's stage fits into the time."""
        if late:
            _say(self.learn, f"No time for sweeps: the default learning rate {DEFAULT_LR:.0e} is taken (base_lr=).")
            return DEFAULT_LR
        again = self.learn.trainer.epochs_done > 0
        _say(self.learn, "Finding a learning rate: three sweeps over the features (base_lr= saves that).")
        answer = self.learn.lr_suggestion()
        if answer.lr is not None:
            return float(answer.lr)
        lr = DEFAULT_LR * TRAINED_ALREADY if again else DEFAULT_LR
        why = "a tenth of the default, for a head that was trained before" if again else "the default"
        _say(self.learn, f"So {lr:.0e} is taken, {why} (base_lr=).")
        return lr

    def _layers(self, stage: Stage) -> str:
        """Train more than the head; returns why training ends before its last epoch, "" where it does not."""
        learn = self.learn
        learn.data = self._data_for(stage)
        if self.cycle is None:
            what = "All layers train now"
            if stage.trains == LAST:
                learn.precompute, what = stage.views, "The last stages train now"
                self.before = (self.best and self.best.kept_weights()) or weights_of(learn.model)
                learn.freeze_to(-2)
            else:
                learn.unfreeze()
                learn.precompute = False
            if stage.hold_norms:
                hold_norms(learn.layer_groups)
            _say(learn, f"{what}, with learning rates {stage.lr_text(self.base_lr)}.")
            self.cycle = TimedCycle(learn.lr_range(stage.max_lr(self.base_lr or DEFAULT_LR)), clock=self.clock)
        later = sum(s.epochs for s in self.rest) * self.task.steps
        trained = sum(s.epochs for s in self.done if s.trains != HEAD)
        # Losses at a smaller size say little about the one that counts.
        watch = []
        if self.best is not None and self._may_stop(stage) and stage.size == self.task.size:
            watch = [EarlyStop(self.best, self.cycle)]
        self._fit(self.cycle, stage, later_steps=later, start_epoch=trained, watch=watch)
        return next((w.why for w in watch), "")

    def _fit(
        self, cycle: TimedCycle, stage: Stage, *, later_steps: int, start_epoch: int, watch: Sequence[EarlyStop] = ()
    ) -> None:
        self.learn.data.prepare(silent=self.learn.silent)
        deadline_s = None
        if self.plan.budget_s is not None:
            left_s = self.plan.budget_s - self.spent_s
            share = stage.forecast_s / sum(s.forecast_s for s in [stage, *self.rest])
            most_s = left_s * share + (LATE - 1) * self.plan.budget_s
            if stage.trains == HEAD and stage.views is not None:
                most_s = max(most_s, LEAST_HEAD_SHARE * self.plan.budget_s, LEAST_HEAD_S)
            deadline_s = self.clock() + most_s
        n_batches = len(self.learn.data.train_dl)
        valid_s = self.task.n_valid * self.speeds.forward_s
        cycle.begin(
            stage.epochs * n_batches,
            later_steps=later_steps,
            deadline_s=deadline_s,
            valid_s=valid_s,
            step_s=step_s(self.task, self.speeds, stage),
        )
        callbacks = [cycle, *watch, _RunClock(self)]
        self.learn.fit_schedule(stage.epochs, cycle, None, callbacks, start_epoch=start_epoch)

    def _data_for(self, stage: Stage) -> ImageDataBunch:
        if stage.size == self.task.size and stage.bs == self.data.batch_size:
            return self.data
        return self.data.resized(stage.size, bs=stage.bs)

    def _replan(self, stage: Stage, took_s: float) -> None:
        """Plan the rest anew from what was really measured; not for a number of epochs."""
        if self.plan.budget_s is None:
            return
        before = [(s.size, s.epochs) for s in self.rest]

        def plan_anew() -> dict[str, Any]:
            rest = self._planned_anew(stage, took_s, self.plan.budget_s or 0.0)
            return {"speeds": asdict(self.speeds), "rest": [asdict(s) for s in rest], "spent_s": self.spent_s}

        known = self.journal.once(f"rest after stage {len(self.done)}", plan_anew, Replanned)
        self.speeds, self.rest = Speeds(**known["speeds"]), [Stage.of_values(s) for s in known["rest"]]
        self.start_s = self.clock() - known["spent_s"]
        if [(s.size, s.epochs) for s in self.rest] != before:
            again = Plan(tuple(self.rest), self.base_lr)
            self._tell("on_replan", again.stages)
            planned = again if self.rest else "nothing more fits"
            _say(self.learn, f"Planned anew, from the speed that was seen:\n{planned}")

    def _planned_anew(self, stage: Stage, took_s: float, budget_s: float) -> Sequence[Stage]:
        """Return the stages that are left, by the speeds that were really seen."""
        if stage.trains == HEAD:
            self.speeds = self.speeds.scaled(min(MOST_SLOWER, max(1.0, took_s / stage.forecast_s)))
        elif stage.trains == ALL and self.cycle is not None and self.cycle.step_s:
            share = math.prod(stage.size or (1,)) / math.prod(self.task.size or (1,))
            self.speeds = replace(self.speeds, train_s=self.cycle.step_s / stage.bs / share)
        return replan(self.task, self.speeds, stage, self.rest, budget_s - self.spent_s)

    def _summary(self) -> str:
        """Say the time, and what validation says of the weights that are kept."""
        budget = "" if self.plan.budget_s is None else f" of {format_time(self.plan.budget_s)}"
        names, values = ["valid_loss", *self.learn.recorder.metric_names], list[Any]()
        if self.best is not None:
            values = self.best.values
        elif self.task.n_valid:
            last = self.learn.recorder.rows[-1]
            values = self.learn.validate() if last.valid_loss is None else [last.valid_loss, *last.metrics]
        numbers = ", ".join(f"{n} {format_cell(v)}" for n, v in zip(names, values, strict=False))
        return f"fine_tune took {format_time(self.spent_s)}{budget}: {numbers or 'no validation pictures'}."


class _RunClock(Callback):
    """Keeps the seconds that a recipe has taken in the checkpoints of its fits."""

    def __init__(self, run: _Run) -> None:
        self.run = run

    def state_dict(self) -> dict[str, Any]:
        return {"spent_s": self.run.spent_s}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.run.start_s = self.run.clock() - state["spent_s"]
