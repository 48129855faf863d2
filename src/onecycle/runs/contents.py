"""What the JSON files of a run hold: each field that is read has its type and its limits, others may be there."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from onecycle.errors import DataError
from onecycle.foreign import Refused, fitted

Text = Annotated[str, Field(max_length=10_000)]
Count = Annotated[int, Field(ge=0, le=2**53)]
Share = Annotated[float, Field(ge=0, le=1)]


class Saved(BaseModel):
    """An object of a file; numbers are numbers and texts texts."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)


class _Closed(BaseModel):
    """An object that has these fields and no others."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


# --- data.json -------------------------------------------------------------------------------------------------


class _Finding(Saved):
    severity: Literal["error", "warning", "note"]


class _Audit(Saved):
    findings: list[_Finding] = []
    leaked: list[Text]


PathText = Annotated[str, Field(max_length=10_000, pattern=r"^[^\x00]*$")]


class _Layout(Saved):
    root: PathText = ""
    test: PathText | None = None


class _Data(Saved):
    layout: _Layout = _Layout()
    classes: list[Text] = []
    audit: _Audit | None = None


# --- metrics.json ------------------------------------------------------------------------------------------------


class _Score(Saved):
    name: Text
    value: float | None = None
    low: float | None = None
    high: float | None = None


class _Doubts(_Closed):
    flagged: Count
    n: Count
    pictures: Count
    judged: Count | None = None
    expected: Annotated[float, Field(ge=0)] | None = None
    low: float = 0.0
    high: float = 0.0


class _Stage(_Closed):
    name: Annotated[str, Field(min_length=1, max_length=200)]
    epochs: Count
    loss: float | None
    error: float | None
    change: float | None = None
    change_error: float | None = None
    stopped: Text = ""
    averaged: bool = False


class _Choice(_Closed):
    stages: list[_Stage]
    kept: Count

    @model_validator(mode="after")
    def _one_is_kept(self) -> Self:
        if self.stages and self.kept >= len(self.stages):
            raise ValueError(f"kept is one of {len(self.stages)} stages, from 0")
        return self


class _Metrics(Saved):
    metrics: list[_Score] = []
    stages: _Choice | None = None
    n_train: Count = 0
    training_shares: dict[Text, Share] = {}
    label_issues: Count | None = None
    labels_judged: Count | None = None
    label_doubts: _Doubts | None = None


# --- env.json, journal.json --------------------------------------------------------------------------------------


class _Env(Saved):
    versions: dict[Text, Text] = {}


class _Measured(Saved):
    speeds: dict[Text, Annotated[float, Field(ge=0)]]
    bs: Count | None
    precision: dict[Text, Any] | None
    spent_s: Annotated[float, Field(ge=0)]


class _Journal(Saved):
    finished: bool = False
    speeds: _Measured | None = None
    doubts: _Doubts | None = Field(None, alias="doubtful labels")


# --- predictions.parquet ------------------------------------------------------------------------------------------


class PredictionsHeader(Saved):
    """What a table of predictions says of itself; the rule for tags is checked where it is read."""

    version: Count
    classes: list[Text]
    is_multi: bool
    calibrated: bool
    measure: Text | None = None
    thresholds: dict[str, Any] | None = None
    sets: dict[str, Any] | None = None
    train_counts: list[Count] | None = None
    n_train: Count = 0
    picked_of: Count = 1
    picked: Text = "epoch"

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("classes with names of their own")
        return self


_FILES: dict[str, type[BaseModel]] = {
    "data.json": _Data,
    "metrics.json": _Metrics,
    "env.json": _Env,
    "journal.json": _Journal,
}


def checked(value: Any, path: Path) -> dict[str, Any]:
    """Return what a JSON file of a run holds, unchanged.

    Args:
        value: that was read.
        path: of the file; its name says what it should hold.

    Raises:
        DataError: a field that is missing or does not fit; the message names it.
    """
    try:
        if not isinstance(value, dict):
            raise Refused(f"{path} holds {type(value).__name__} where an object is expected")
        fitted(_FILES.get(path.name, Saved), value, str(path))
    except Refused as error:
        raise DataError(f"{error}; copy the run again, or train again") from None
    return value
