"""What the JSON files of a run hold: each field that is read has its type and its limits, others may be there."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from onecycle.errors import DataError
from onecycle.foreign import Closed, Fields, Refused, Within, fitted

Text = Annotated[str, Within(0, 10_000)]
Count = Annotated[int, Within(0, 2**53)]
Share = Annotated[float, Within(0, 1)]


# --- data.json -------------------------------------------------------------------------------------------------


class _Finding(Fields):
    severity: Literal["error", "warning", "note"]


class _Audit(Fields):
    findings: list[_Finding] = []
    leaked: list[Text]


class _Layout(Fields):
    root: Text = ""
    test: Text | None = None


class _Data(Fields):
    layout: _Layout = _Layout()
    classes: list[Text] = []
    audit: _Audit | None = None


# --- metrics.json ------------------------------------------------------------------------------------------------


class _Score(Fields):
    name: Text
    value: float | None = None
    low: float | None = None
    high: float | None = None


class Doubts(Closed):
    """The fields of ``IssueCount``, how many labels look doubtful."""

    flagged: Count
    n: Count
    pictures: Count
    judged: Count | None = None
    expected: Annotated[float, Within(0)] | None = None
    low: float = 0.0
    high: float = 0.0


class _Stage(Closed):
    name: Annotated[str, Within(1, 200)]
    epochs: Count
    loss: float | None
    error: float | None
    change: float | None = None
    change_error: float | None = None
    stopped: Text = ""
    averaged: bool = False


class _Choice(Closed):
    stages: list[_Stage]
    kept: Count

    @classmethod
    def misfit(cls, value: dict[str, Any]) -> str | None:
        """One of the stages is kept."""
        n = len(value["stages"])
        return f"kept is one of {n} stages, from 0" if 0 < n <= value["kept"] else None


class _Metrics(Fields):
    metrics: list[_Score] = []
    stages: _Choice | None = None
    n_train: Count = 0
    training_shares: dict[Text, Share] = {}
    label_issues: Count | None = None
    labels_judged: Count | None = None
    label_doubts: Doubts | None = None


# --- env.json ----------------------------------------------------------------------------------------------------


class _Env(Fields):
    versions: dict[Text, Text] = {}


# --- predictions.parquet ------------------------------------------------------------------------------------------


class PredictionsHeader(Fields):
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

    @classmethod
    def misfit(cls, value: dict[str, Any]) -> str | None:
        """Classes differ."""
        classes = value["classes"]
        return "classes with names of their own" if len(set(classes)) != len(classes) else None


_FILES: dict[str, type[Fields]] = {"data.json": _Data, "metrics.json": _Metrics, "env.json": _Env}


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
        fitted(_FILES.get(path.name, Fields), value, str(path))
    except Refused as error:
        raise DataError(f"{error}; copy the run again, or train again") from None
    return value
