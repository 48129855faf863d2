"""What a saved or exported model says of itself, which anybody may have written: each field has its type and limits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from onecycle.errors import CheckpointError
from onecycle.foreign import Refused, check_plain, fitted
from onecycle.settings import MODEL, MOST_PX

Text = Annotated[str, StringConstraints(max_length=10_000)]
Count = Annotated[int, Field(ge=0, le=2**53)]
Side = Annotated[int, Field(ge=1, le=MOST_PX)]
Size = Annotated[list[Side], Field(min_length=2, max_length=2)]
Channels = Annotated[list[float], Field(min_length=3, max_length=32)]
Method = Literal["CROP", "PAD", "SQUISH", "NO"]
Padding = Literal["reflection", "border", "zeros"]
Share = Annotated[float, Field(ge=0, le=1)]


class _Fields(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)


class _Head(_Fields):
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    lin_ftrs: Annotated[list[Annotated[int, Field(ge=1, le=2**20)]], Field(max_length=16)] | None = None
    ps: Share | Annotated[list[Share], Field(max_length=17)] = 0.5
    bn_final: bool = False
    concat_pool: bool = True
    y_range: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None
    levels: Literal["auto"] | Annotated[int, Field(ge=1, le=100)] | None = None
    views: Literal[1, 2, 4] = 1
    sets: Count = 0


class _Reading(_Fields):
    """How files become pixels where that is not the usual way."""

    function: Text | None
    channels: Annotated[int, Field(ge=1, le=32)]
    grey: bool


class _Network(_Fields):
    arch: Annotated[str, StringConstraints(max_length=200)] | None
    head: _Head = _Head()


class _Decided(_Fields):
    """The way to decide; what is in it is checked where it is read."""

    calibration: dict[str, Any] | None = None
    thresholds: dict[str, Any] | None = None
    measure: Text | None = None


class _Saved(_Decided):
    classes: Annotated[list[str | int | float | bool], Field(min_length=1)]
    is_multi: bool
    is_regression: bool = False
    reading: _Reading | None = None
    stats: Annotated[list[Channels], Field(min_length=2, max_length=2)] | None = None
    size: Size | None = None
    resize_method: Method = "CROP"
    padding_mode: Padding = "reflection"
    scaled_decode: bool = True
    network: _Network | None = None
    activation: Literal["softmax", "sigmoid", "exp", "identity"] | None = None
    own_transforms: list[Text] = []
    trained_on: str | None = None
    epochs_done: Count = 0

    @model_validator(mode="after")
    def _pixels_vary(self) -> Self:
        if self.stats is not None and min(self.stats[1]) <= 0:
            raise ValueError("standard deviations of pixels (stats) above 0")
        n = 3 if self.reading is None else max(3, self.reading.channels)
        if self.stats is not None and {len(values) for values in self.stats} != {n}:
            raise ValueError(f"statistics of {n} channels (stats)")
        return self


class _ToPredict(_Saved):
    stats: Annotated[list[Channels], Field(min_length=2, max_length=2)] | None
    size: Size | None
    padding_mode: Padding


class _Preprocess(_Fields):
    size: Size | None
    method: Method
    padding_mode: Padding
    scaled_decode: bool


class _Rule(_Fields):
    measure: Text | None = None
    thresholds: dict[str, Any] | None = None
    sets: dict[str, Any] | None = None


class _Onnx(_Fields):
    weights: Text = "float32"


class _Exported(_Decided):
    schema_version: Literal[1, 2]
    name: Annotated[str, StringConstraints(min_length=1, max_length=255)]
    classes: Annotated[list[Text], Field(min_length=1)]
    is_multi: bool
    is_regression: bool = False
    reading: _Reading | None = None
    preprocess: _Preprocess
    limits: list[float] | None = None
    rule: _Rule
    onnx: _Onnx
    sha256: dict[Text, Text] = {}

    @model_validator(mode="after")
    def _fit_each_other(self) -> Self:
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("classes with names of their own")
        if self.limits is not None and len(self.limits) != len(self.classes):
            raise ValueError(f"a limit for each of {len(self.classes)} classes")
        if self.sha256 and MODEL not in self.sha256:
            raise ValueError(f"the digest of {MODEL} (sha256)")
        return self


def check_saved(manifest: Mapping[str, Any], stem: Path | str, *, to_predict: bool = False) -> None:
    """Check the manifest of a saved model.

    Args:
        manifest: as ``read_manifest`` returns it.
        stem: of its file.
        to_predict: whether it must say how pictures are brought to the network; older ones do not.

    Raises:
        CheckpointError: a field that is missing or does not fit; the message names it.
    """
    try:
        check_plain(dict(manifest), f"{stem}.safetensors, manifest")
        fitted(_ToPredict if to_predict else _Saved, dict(manifest), f"{stem}.safetensors, manifest")
    except Refused as error:
        raise CheckpointError(f"{error}; copy the model again, or save it again") from None


def check_exported(manifest: Any, where: str) -> None:
    """Check the manifest of an exported model.

    Raises:
        Refused: a field that is missing or does not fit; the message names it.
    """
    fitted(_Exported, manifest, where)
