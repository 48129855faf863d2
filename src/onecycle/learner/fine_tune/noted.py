"""What the journal of a recipe holds, and its limits: a run of a stranger has one, too."""

from __future__ import annotations

import sys
from typing import Annotated, Any, Literal

from onecycle.foreign import Closed, Fields, Within
from onecycle.settings import MOST_PX

Seconds = Annotated[float, Within(0, 1e9)]
Rate = Annotated[float, Within(sys.float_info.min)]
Count = Annotated[int, Within(0, 2**31)]
Batch = Annotated[int, Within(1, 2**20)]
Side = Annotated[int, Within(1, MOST_PX)]
Text = Annotated[str, Within(0, 10_000)]


class Options(Closed):
    """The fields of ``FineTuneOptions``, which checks them further."""

    epochs: Count | None = None
    minutes: Annotated[float, Within(0, 1e7)] | None = None
    base_lr: Rate | None = None
    freeze_epochs: Count | None = None
    sizes: list[Side | Annotated[list[Side], Within(2, 2)]] | None = None
    bs: Batch | None = None
    precompute: bool | Annotated[int, Within(0, 1_000)] | None = None
    train_bn: bool | None = None
    early_stop: bool = True
    through_tags: bool = True
    test_views: bool = True


class SpeedFields(Closed):
    """The fields of ``Speeds``."""

    forward_s: Seconds
    train_s: Seconds
    decode_s: Seconds = 0.0
    head_step_s: Seconds = 0.0
    maps_s: Seconds = 0.0
    last_s: Seconds = 0.0
    solve_s: Seconds = 0.0


class PrecisionFields(Closed):
    """The fields of ``Precision``."""

    dtype: Literal["fp32", "tf32", "bf16", "fp16"] = "fp32"
    channels_last: bool = True
    compile: bool = False
    reason: Text = ""
    benchmark: bool = False


class Measured(Fields):
    """What the plan is made by."""

    speeds: SpeedFields
    bs: Batch | None
    precision: PrecisionFields | None
    spent_s: Seconds


class StageFields(Closed):
    """The fields of ``Stage``."""

    trains: Annotated[str, Within(1, 200)]
    size: Annotated[list[Side], Within(2, 2)] | None
    bs: Batch
    epochs: Count
    forecast_s: Seconds
    views: Annotated[int, Within(0, 1_000)] | None = None
    lr_shares: Annotated[list[Annotated[float, Within(0, 1e6)]], Within(2, 2)]
    hold_norms: bool = False
    solved: bool = False


class Replanned(Fields):
    """The rest of a plan, made anew."""

    speeds: SpeedFields
    rest: Annotated[list[StageFields], Within(0, 100)]
    spent_s: Seconds


class AnswerFields(Closed):
    """The fields of ``LrAnswer``."""

    lr: Rate | None
    low: Rate | None
    high: Rate | None
    reason: Text


class FoundRate(Fields):
    """The learning rate, and the sweeps that say it; losses of a sweep may be infinite."""

    lr: Rate
    sweeps: list[Annotated[list[list[float]], Within(2, 2)]]
    answer: AnswerFields | None

    @classmethod
    def misfit(cls, value: dict[str, Any]) -> str | None:
        """Each rate of a sweep has a loss."""
        uneven = [1 for lrs, losses in value["sweeps"] if len(lrs) != len(losses)]
        return "sweeps with as many losses as rates" if uneven else None


class Judged(Fields):
    """A stage: the loss of each validation picture, the mean loss and the metrics."""

    losses: list[float]
    values: Annotated[list[float | list[Any]], Within(1)]
