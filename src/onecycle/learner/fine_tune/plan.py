"""The plan of ``fine_tune``: which stages, at which size, for how long. Pure functions of counts and speeds.

A plan is either for a number of epochs or for a time. For a time, the richest plan whose forecast fits is taken from a
fixed list that does not depend on the time, so more time never means less training.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from textwrap import fill
from typing import Any, Self

from onecycle.errors import ArgumentError
from onecycle.text import aligned, by_place, format_time, option, plural
from onecycle.train.schedules import LrLike

Size = tuple[int, int] | None
"""(height, width) in px; None for pictures as they are."""

HEAD_STEPS = 200
"""Steps of the head's stage, as nearly as whole epochs allow.

Measured on Planet (800 pictures, features at 224 px, three splits): sample-F2 with batches of 32 after 100 steps 0.892,
after 200 steps 0.894; with batches of 64, 360 steps were worse than 120 (0.881 and 0.896): the head starts to overfit.
"""

FEWEST_HEAD_EPOCHS, MOST_HEAD_EPOCHS = 4, 20

STEPS_AN_EPOCH = 25
"""Batches are halved until an epoch has this many steps, down to ``SMALLEST_BATCH``."""

SMALLEST_BATCH = 16
"""Below it, statistics of batch-norm layers are too rough."""

LEAST_STEPS = 100
"""Fewer steps with all layers are not planned for a time, unless there is nothing else to train.

Measured on Planet (128 px, 25 steps an epoch): one epoch took the head's loss from 0.149 to 0.145 on one split and from
0.153 to 0.167 on another; four epochs from 0.151 to 0.134.
"""

MOST_EPOCHS = 40
"""The most epochs with all layers that a plan for a time has."""

SMALL_SIZE = 0.7
"""Share of the size at which the first half of the epochs with all layers train: half the pixels, half the time."""

LEAST_SIZE_PX, LEAST_EPOCHS_FOR_SIZES = 128, 4
"""Smaller pictures, or fewer epochs, are not worth a second size."""

SIZE_STEP_PX = 32
"""Sizes are multiples of this: what the usual backbones divide a picture by."""

SWEEP_STEPS = 300
"""Steps of the three sweeps that find the learning rate."""

VIEWS = (0, 1, 3)
"""Augmented views for the head to choose from where there is a time budget, the last only where the head trains alone;
for a number of epochs it is the second.

Measured on Planet (features at 224 px, three splits, batches of 32, 200 steps): sample-F2 0.894 without, 0.900 with 3.
"""

ROOM = 0.95
"""A plan's forecast uses at most this share of the time."""

NORM_STEPS = 150
"""With fewer steps with all layers, the batch-norm layers of a pretrained body stay as they are.

When they begin to train, their statistics change under the layers after them, and that costs more than a short stage
wins back. Measured on Planet (128 px, batches of 32, base rate 2e-3), validation loss and sample-F2 after the head and
after so many steps with all layers, and the learning rates of the first and the last group as shares of the base:

=====  ============  =====  ===========  ============
split  batch-norm    steps  rates        loss, F2
=====  ============  =====  ===========  ============
1      after the head                    0.151, 0.882
1      stays           100  0.01, 0.5    0.134, 0.903
1      stays           100  0.25, 1      diverges
1      trains          100  0.01, 0.5    0.152, 0.873
1      trains          100  0.25, 1      0.129, 0.887
1      stays           200  0.005, 0.25  0.134, 0.901
1      trains          200  0.25, 1      0.117, 0.899
2      after the head                    0.157, 0.876
2      stays           200  0.005, 0.25  0.155, 0.876
2      trains          200  0.25, 1      0.140, 0.893
=====  ============  =====  ===========  ============

With 72 drawn pictures and 8 steps, a perfect head fell to an accuracy of 0.67 where they trained and stayed where not.
"""

LAST_STEPS = 250
"""With fewer steps after the head's, the last stages of the network train alone, on maps of the first ones.

Maps are computed once for each view, so a step costs half of one with all layers; batch-norm layers stay as they are.
Measured on Planet (128 px, batches of 32, 6 epochs, three augmented views, from the head of each tag by itself), about
95 s of one loaded core: split 1 (rates of 0.1) exact-match error 0.470 to 0.395, macro average precision 0.682 to
0.758; split 2 (0.2) 0.455 to 0.445 and 0.599 to 0.594, sample-F2 0.873 to 0.893.
"""

LAST_EPOCHS = 12
"""With more epochs, all layers train on pictures: maps of a few views would be shown again and again."""

LAST_VIEWS = 3
"""The most augmented views whose maps are computed; never more than there are epochs to show them, the plain one first.
"""

HELD_SHARES, TRAINED_SHARES = (0.01, 0.5), (0.25, 1.0)
"""Learning rates of the first and the last layer group when all layers train, as shares of the head's rate: with
batch-norm layers that stay as they are, and with ones that train."""

WIDTH = 80
"""Columns of the printed plan."""

LAST_SHARES = (0.2, 0.2)
"""The same when the last stages train alone. Validation loss on Planet (as above) after the head, and after 6 epochs:

=====  =====  ======  ======  =====
split  head   0.1     0.2     0.33
=====  =====  ======  ======  =====
1      0.121  0.111           0.104
2      0.136          0.128
=====  =====  ======  ======  =====

On the way, at the peak, the largest rose to 0.139 and 0.145.
"""

HEAD, LAST, ALL = "head", "last stages", "all layers"


@dataclass(frozen=True, kw_only=True)
class Speeds:
    """What a picture costs, in seconds, at the full size."""

    forward_s: float  # through the whole network in evaluation mode
    train_s: float  # its share of a training step of all layers
    decode_s: float = 0.0  # decoding and resizing, once for each size
    head_step_s: float = 0.0  # a step of the head on features (of a batch, not of a picture)
    maps_s: float = 0.0  # through the first stages in evaluation mode
    last_s: float = 0.0  # its share of a training step of the last stages, on maps of the first
    solve_s: float = 0.0  # solving the head, of all pictures

    def scaled(self, factor: float) -> Speeds:
        """Return the speeds of a machine that takes ``factor`` times as long."""
        return Speeds(**{name: factor * value for name, value in asdict(self).items()})


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is to be trained, and what the caller fixed (None: not fixed)."""

    n_train: int  # training pictures
    n_valid: int  # validation pictures, 0 for none
    size: Size  # of the pictures
    bs: int  # pictures in a batch of the data as it is
    has_tfms: bool = True  # whether training pictures are augmented
    has_head_stage: bool = True  # whether the head is trained alone first
    on_features: bool = True  # whether that stage can train on features that are computed once
    solves_head: bool = False  # whether that stage computes the head's best weights instead of training them
    has_maps: bool = False  # whether the last stages can train on maps of the first that are computed once
    sizes: tuple[Size, ...] | None = None  # of the stages with all layers
    views: int | None = None  # augmented views for the head
    test_views: int = 1  # mirrored views that a prediction is made from
    freeze_epochs: int | None = None  # of the head's stage
    fixed_bs: int | None = None  # pictures in a batch
    timed_bs: int | None = None  # the batch that makes the best of a time, see ``timing.batch_in_time``
    base_lr: float | None = None  # the learning rate; None for the finder's
    hold_norms: bool | None = False  # the body's batch-norm layers stay as they are; None: where there are few steps

    @property
    def batch(self) -> int:
        """Pictures in a batch: the data's, halved until an epoch has enough steps, or as time allows."""
        return self.fixed_bs or self.timed_bs or self.batches[-1]

    @property
    def batches(self) -> tuple[int, ...]:
        """Pictures in a batch that a plan may have, falling: the last gives an epoch enough steps."""
        sizes = [self.bs]
        while sizes[-1] // 2 >= SMALLEST_BATCH and self.n_train // sizes[-1] < STEPS_AN_EPOCH:
            sizes.append(sizes[-1] // 2)
        return tuple(sizes)

    def judging_s(self, speeds: Speeds) -> float:
        """Return the seconds of judging a stage after its last epoch, which is validated on the plain view."""
        return self.n_valid * self.test_views * speeds.forward_s if self.test_views > 1 else 0.0

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return max(1, self.n_train // self.batch)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One fit of the plan, or of its cycle: what trains, at which size, for how long."""

    trains: str  # HEAD, LAST or ALL
    size: Size  # of the pictures
    bs: int  # pictures in a batch
    epochs: int
    forecast_s: float  # validation included
    views: int | None = None  # augmented views of each picture for features; None where the stage is fed pictures
    lr_shares: tuple[float, float] = (1.0, 1.0)  # rates of the first and the last layer group, as shares of the base
    hold_norms: bool = False  # the body's batch-norm layers stay as they are
    solved: bool = False  # the head's best weights are computed, not trained

    @classmethod
    def of_values(cls, values: Mapping[str, Any]) -> Self:
        """Read what ``asdict`` gave, also where JSON made lists of its tuples."""
        size = values["size"]
        return cls(**{**values, "size": size and tuple(size), "lr_shares": tuple(values["lr_shares"])})

    def max_lr(self, base_lr: float) -> LrLike:
        """Return the peak learning rates for ``fit_one_cycle``."""
        low, high = (base_lr * share for share in self.lr_shares)
        return high if low == high else slice(low, high)

    def lr_text(self, base_lr: float | None) -> str:
        """Say the learning rates, or how they will come from the finder's."""
        low, high = self.lr_shares
        if self.solved:
            return "none: solved"
        if base_lr is not None:
            return f"{base_lr * high:.1e}" if low == high else f"{base_lr * low:.1e} to {base_lr * high:.1e}"
        first, last = ("lr" if share == 1 else f"lr/{1 / share:.0f}" for share in self.lr_shares)
        return f"{last}, found" if low == high else f"{first} to {last}"


@dataclass(frozen=True)
class Plan:
    """Stages in turn."""

    stages: tuple[Stage, ...]  # at least one
    base_lr: float | None = None  # where it is known beforehand; else the finder finds it
    budget_s: float | None = None  # time for everything; None where the plan is for a number of epochs
    spent_s: float = 0.0  # how much of it had passed when the plan was made
    notes: tuple[str, ...] = ()  # what the reader must know

    @property
    def forecast_s(self) -> float:
        """Seconds that all stages will take."""
        return sum(stage.forecast_s for stage in self.stages)

    def __repr__(self) -> str:
        """Name the stages on one line: the table has been printed already where a notebook shows this."""
        stages = "; ".join(f"{s.trains}, {size_text(s.size)}, {s.epochs} epochs" for s in self.stages)
        return f"Plan({stages}: {format_time(self.forecast_s)})"

    def __str__(self) -> str:
        rows = [["stage", "size", "batch", "epochs", "learning rates", "forecast"]]
        for i, s in enumerate(self.stages, 1):
            time = f"about {format_time(s.forecast_s)}"
            rows.append([f"{i} {s.trains}", size_text(s.size), f"{s.bs}", f"{s.epochs}", s.lr_text(self.base_lr), time])
        return "\n".join([*aligned(rows), *(fill(note, WIDTH, subsequent_indent="  ") for note in self.notes)])


def size_text(size: Size) -> str:
    """Say a size in px."""
    if size is None:
        return "as stored"
    return f"{size[0]} px" if size[0] == size[1] else f"{size[0]}×{size[1]} px"


def make_plan(
    task: Task, speeds: Speeds, *, epochs: int | None = None, budget_s: float | None = None, spent_s: float = 0.0
) -> Plan:
    """Make the plan for a number of epochs with all layers, or for a time.

    Args:
        task: what is trained.
        speeds: what it costs here.
        epochs: epochs with all layers, after the head's; 0 for the head alone.
        budget_s: seconds in all, instead of ``epochs``.
        spent_s: seconds of it that are gone already.

    Returns:
        A plan whose forecast fits into the time, if any does; the head's stage is in it in any case.

    Raises:
        ArgumentError: both or neither of ``epochs`` and ``budget_s``, or nothing to do.
    """
    if (epochs is None) == (budget_s is None):
        raise ArgumentError("a plan is for a number of epochs or for a time: pass one of the two")
    if epochs is not None:
        stages = stages_for(task, speeds, epochs, _views(task)[:2][-1])
        if not stages:
            raise ArgumentError(
                f"there is nothing to train: no epoch and no stage for the head; pass {option('epochs', 1)}"
            )
        return Plan(stages, task.base_lr, notes=_notes(task, stages))
    room_s = ROOM * float(budget_s or 0.0) - spent_s
    # From the poorest plan to the richest: epochs with all layers, and views for the head.
    richer = [
        *product((0,) if task.has_head_stage else (), _views(task)),
        *product(_worthwhile(task), _views(task)[:2]),
    ]
    choices = [stages_for(task, speeds, n, views) for n, views in richer]
    fitting = [stages for stages in choices if _total(stages) <= room_s]
    stages = fitting[-1] if fitting else choices[0]
    notes = _notes(task, stages)
    if not fitting:
        notes += _too_little(stages, float(budget_s or 0.0), spent_s)
    elif stages is choices[-1]:
        notes += (f"The time would allow more than {MOST_EPOCHS} epochs; {option('epochs')} overrides that limit.",)
    return Plan(stages, task.base_lr, budget_s, spent_s, notes)


def _worthwhile(task: Task) -> range:
    """Numbers of epochs with all layers that are worth their time."""
    least = math.ceil(LEAST_STEPS / task.steps) if task.has_head_stage else 1
    return range(min(least, MOST_EPOCHS), MOST_EPOCHS + 1)


def _views(task: Task) -> tuple[int, ...]:
    """Numbers of augmented views for the head to choose from."""
    if task.views is not None:
        return (task.views,)
    if task.solves_head:
        return (0,)
    return VIEWS if task.has_tfms and task.has_head_stage and task.on_features else (0,)


def stages_for(task: Task, speeds: Speeds, epochs: int, views: int) -> tuple[Stage, ...]:
    """Return the stages for so many epochs with all layers and so many augmented views for the head."""
    head = (_head_stage(task, speeds, views),) if task.has_head_stage else ()
    if trains_last(task, epochs):
        return (*head, _last_stage(task, speeds, epochs))
    hold = epochs * task.steps < NORM_STEPS if task.hold_norms is None else task.hold_norms
    return (*head, *(_all_stage(task, speeds, size, n, hold=hold) for size, n in _epochs_by_size(task, epochs) if n))


def trains_last(task: Task, epochs: int) -> bool:
    """Whether so many epochs after the head's stage train the last stages alone: where they are few."""
    asked = task.sizes is not None or task.hold_norms is False
    return task.has_maps and not asked and 0 < epochs <= LAST_EPOCHS and epochs * task.steps < LAST_STEPS


def _last_stage(task: Task, speeds: Speeds, epochs: int) -> Stage:
    views = min(LAST_VIEWS if task.views is None else task.views, epochs - 1) if task.has_tfms else 0
    plain = 0 if task.solves_head else task.n_train + task.n_valid  # made on the head's way
    maps_s = (plain + task.n_train * views) * speeds.maps_s
    each_s = task.n_train * speeds.last_s + task.n_valid * (speeds.forward_s - speeds.maps_s)
    return Stage(
        trains=LAST,
        size=task.size,
        bs=task.batch,
        epochs=epochs,
        # Two judgements: half way, and at the end.
        forecast_s=maps_s + epochs * max(0.0, each_s) + 2 * task.n_valid * task.test_views * speeds.forward_s,
        views=views,
        lr_shares=LAST_SHARES,
        hold_norms=True,
    )


def _head_stage(task: Task, speeds: Speeds, views: int) -> Stage:
    if not task.on_features:
        n = 1 if task.freeze_epochs is None else task.freeze_epochs
        # The body runs forward only, but its batch-norm layers may train: a step is dearer than a forward pass.
        each_s = task.n_train * (speeds.forward_s + speeds.train_s) / 2 + task.n_valid * speeds.forward_s
        return Stage(trains=HEAD, size=task.size, bs=task.batch, epochs=n, forecast_s=n * each_s)
    if task.solves_head:
        features_s = (task.n_train * (1 + views) + task.n_valid) * speeds.forward_s
        forecast_s = features_s + speeds.solve_s + task.judging_s(speeds)
        return Stage(
            trains=HEAD, size=task.size, bs=task.batch, epochs=1, forecast_s=forecast_s, views=views, solved=True
        )
    usual = min(MOST_HEAD_EPOCHS, max(FEWEST_HEAD_EPOCHS, math.ceil(HEAD_STEPS / task.steps)))
    epochs = usual if task.freeze_epochs is None else task.freeze_epochs
    features_s = (task.n_train * (1 + views) + task.n_valid) * speeds.forward_s
    sweeps = 0 if task.base_lr is not None else SWEEP_STEPS
    validating = math.ceil(task.n_valid / task.bs) / 2
    forecast_s = features_s + (epochs * (task.steps + validating) + sweeps) * speeds.head_step_s
    return Stage(trains=HEAD, size=task.size, bs=task.batch, epochs=epochs, forecast_s=forecast_s, views=views)


def _all_stage(task: Task, speeds: Speeds, size: Size, epochs: int, *, hold: bool) -> Stage:
    share = 1.0 if size is None or task.size is None else math.prod(size) / math.prod(task.size)
    each_s = task.n_train * speeds.train_s + task.n_valid * speeds.forward_s
    decode_s = 0.0 if size == task.size else (task.n_train + task.n_valid) * speeds.decode_s
    return Stage(
        trains=ALL,
        size=size,
        bs=task.batch,
        epochs=epochs,
        forecast_s=epochs * each_s * share + decode_s + task.judging_s(speeds),
        lr_shares=HELD_SHARES if hold else TRAINED_SHARES,
        hold_norms=hold,
    )


def step_s(task: Task, speeds: Speeds, stage: Stage) -> float:
    """Return the forecast seconds of a training step of a stage, 0 where it is not known."""
    if stage.trains == HEAD and stage.views is not None:
        return speeds.head_step_s
    share = 1.0 if stage.size is None or task.size is None else math.prod(stage.size) / math.prod(task.size)
    each_s = {HEAD: (speeds.forward_s + speeds.train_s) / 2, LAST: speeds.last_s, ALL: speeds.train_s * share}
    return stage.bs * each_s[stage.trains]


def _epochs_by_size(task: Task, epochs: int) -> list[tuple[Size, int]]:
    """Divide the epochs among sizes, the last of which is the data's own."""
    if task.sizes is not None:
        each = epochs // len(task.sizes)
        return [*((size, each) for size in task.sizes[:-1]), (task.sizes[-1], epochs - each * (len(task.sizes) - 1))]
    small = small_size(task.size)
    if small is None or epochs < LEAST_EPOCHS_FOR_SIZES:
        return [(task.size, epochs)]
    return [(small, epochs // 2), (task.size, epochs - epochs // 2)]


def small_size(size: Size) -> Size:
    """Return the size for the first half of the epochs; None where there is nothing to gain."""
    if size is None or min(size) < LEAST_SIZE_PX:
        return None
    height, width = (SIZE_STEP_PX * round(side * SMALL_SIZE / SIZE_STEP_PX) for side in size)
    return height, width


def _total(stages: Sequence[Stage]) -> float:
    return sum(stage.forecast_s for stage in stages)


def _notes(task: Task, stages: Sequence[Stage]) -> tuple[str, ...]:
    notes = []
    if stages[0].trains == HEAD and (views := stages[0].views) is not None:
        extra = f" and {plural(views, 'augmented view')}" if views else ""
        how = "solved by L-BFGS" if stages[0].solved else "computed once"
        notes.append(f"Head: on features of the plain pictures{extra}, {how} ({option('freeze_epochs')}).")
    if stages[-1].trains == LAST:
        n_views = plural(1 + (stages[-1].views or 0), "view")
        notes.append(
            f"Last stages: on maps of {n_views} of each picture, computed once; the network's first half and its "
            f"batch-norm layers stay as they are{by_place('', ' (train_bn=True trains all layers)')}. Then their "
            "weights half way are judged, too."
        )
    if task.test_views > 1:
        n, off = task.test_views, by_place("--no-test-views", "test_views=False")
        notes.append(
            f"Predictions are means over {n} mirrored views of a picture, {n} times the work ({off}: one view)."
        )
    if task.batch != task.bs and task.fixed_bs is None:
        notes.append(
            f"Batches of {task.batch} instead of {task.bs}: an epoch has {task.steps} steps then ({option('bs')})."
        )
    if task.timed_bs is not None and task.batch > task.batches[-1] and task.fixed_bs is None:
        notes.append(
            f"Batches of {task.batch}: with {task.batches[-1]} there would be hardly more steps in this time, as "
            f"measured ({option('bs')})."
        )
    if task.sizes is not None and len({stage.size for stage in stages if stage.trains == ALL}) < len(task.sizes):
        last = f"the last ones alone{by_place('', ' (sizes=)')}"
        notes.append(f"{stages[-1].epochs} epochs are too few for {len(task.sizes)} sizes: {last}.")
    if len({stage.size for stage in stages}) > 1 and task.sizes is None:
        notes.append("Smaller pictures first: half the time for half of the epochs (sizes=).")
    if task.hold_norms is None and stages[-1].trains == ALL:
        how = "stay as they are: these are few steps" if stages[-1].hold_norms else "train, too"
        notes.append(f"The body's batch-norm layers {how} (train_bn=).")
    if task.base_lr is None:
        notes.append("lr: from three sweeps over the features (base_lr=).")
    return tuple(notes)


def _too_little(stages: Sequence[Stage], budget_s: float, spent_s: float) -> tuple[str, ...]:
    needed = (_total(stages) + spent_s) / ROOM
    what = "the head" if stages[0].trains == HEAD else "one epoch"
    return (
        f"{format_time(budget_s)} is too little even for {what}: about {format_time(needed)}, of which "
        f"{format_time(spent_s)} are spent; it is trained all the same, for fewer epochs if need be.",
    )


def replan(task: Task, speeds: Speeds, done: Stage, rest: Sequence[Stage], left_s: float) -> tuple[Stage, ...]:
    """Plan the stages that are left anew, for the time that is left.

    Args:
        task: what is trained.
        speeds: as they were really seen.
        done: the stage that has just ended.
        rest: what was planned after it.
        left_s: seconds left.

    Returns:
        After the head, the richest stages with all layers that fit, perhaps none. After a stage with all layers, the
        same sizes, the last one with as many epochs as fit, at least one: it can be shortened while it runs.
    """
    if done.trains == HEAD:
        alone = replace(task, has_head_stage=False)
        choices = [stages_for(alone, speeds, n, 0) for n in (0, *_worthwhile(task))]
        return [stages for stages in choices if _total(stages) <= ROOM * max(0.0, left_s)][-1]
    if not rest:
        return ()
    hold = done.hold_norms
    between = tuple(_all_stage(task, speeds, stage.size, stage.epochs, hold=hold) for stage in rest[:-1])
    one_s = _all_stage(task, speeds, rest[-1].size, 1, hold=hold).forecast_s
    n = int((left_s - _total(between)) / max(one_s, 1e-9))
    return (*between, _all_stage(task, speeds, rest[-1].size, min(MOST_EPOCHS, max(1, n)), hold=hold))
