"""What a saved or exported model says of itself, which anybody may have written: each field has its type and limits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from onecycle.errors import CheckpointError
from onecycle.foreign import Closed, Fields, Refused, Within, check_plain, fitted
from onecycle.settings import MODEL, MOST_PX

Text = Annotated[str, Within(0, 10_000)]
Count = Annotated[int, Within(0, 2**53)]
Side = Annotated[int, Within(1, MOST_PX)]
Size = Annotated[list[Side], Within(2, 2)]
Channels = Annotated[list[float], Within(3, 32)]
Method = Literal["CROP", "PAD", "SQUISH", "NO"]
Padding = Literal["reflection", "border", "zeros"]
Share = Annotated[float, Within(0, 1)]


class _Head(Closed):
    lin_ftrs: Annotated[list[Annotated[int, Within(1, 2**20)]], Within(0, 16)] | None = None
    ps: Share | Annotated[list[Share], Within(0, 17)] = 0.5
    bn_final: bool = False
    concat_pool: bool = True
    y_range: Annotated[list[float], Within(2, 2)] | None = None
    levels: Literal["auto"] | Annotated[int, Within(1, 100)] | None = None
    views: Literal[1, 2, 4] = 1
    sets: Count = 0


class _Reading(Fields):
    """How files become pixels where that is not the usual way."""

    function: Text | None
    channels: Annotated[int, Within(1, 32)]
    grey: bool


class Network(Fields):
    """An architecture by its name, and how its head is made."""

    arch: Annotated[str, Within(0, 200)] | None
    head: _Head = _Head()


class _Decided(Fields):
    """The way to decide; what is in it is checked where it is read."""

    calibration: dict[str, Any] | None = None
    thresholds: dict[str, Any] | None = None
    measure: Text | None = None


class _Saved(_Decided):
    classes: Annotated[list[str | int | float | bool], Within(1)]
    is_multi: bool
    is_regression: bool = False
    reading: _Reading | None = None
    stats: Annotated[list[Channels], Within(2, 2)] | None = None
    size: Size | None = None
    resize_method: Method = "CROP"
    padding_mode: Padding = "reflection"
    scaled_decode: bool = True
    network: Network | None = None
    activation: Literal["softmax", "sigmoid", "exp", "identity"] | None = None
    own_transforms: list[Text] = []
    trained_on: str | None = None
    epochs_done: Count = 0

    @classmethod
    def misfit(cls, value: dict[str, Any]) -> str | None:
        """Pixels vary, and each channel has its statistics."""
        if (stats := value.get("stats")) is None:
            return None
        if min(stats[1]) <= 0:
            return "standard deviations of pixels (stats) above 0"
        n = max(3, (value.get("reading") or {}).get("channels", 3))
        return f"statistics of {n} channels (stats)" if {len(values) for values in stats} != {n} else None


class _ToPredict(_Saved):
    stats: Annotated[list[Channels], Within(2, 2)] | None
    size: Size | None
    padding_mode: Padding


class _Preprocess(Fields):
    size: Size | None
    method: Method
    padding_mode: Padding
    scaled_decode: bool


class _Rule(Fields):
    measure: Text | None = None
    thresholds: dict[str, Any] | None = None
    sets: dict[str, Any] | None = None


class _Onnx(Fields):
    weights: Text = "float32"


class _Exported(_Decided):
    schema_version: Literal[1, 2]
    name: Annotated[str, Within(1, 255)]
    classes: Annotated[list[Text], Within(1)]
    is_multi: bool
    is_regression: bool = False
    reading: _Reading | None = None
    preprocess: _Preprocess
    limits: list[float] | None = None
    rule: _Rule
    onnx: _Onnx
    sha256: dict[Text, Text] = {}

    @classmethod
    def misfit(cls, value: dict[str, Any]) -> str | None:
        """Classes differ, limits are theirs, and the network has its digest where others have."""
        classes, limits, digests = value["classes"], value.get("limits"), value.get("sha256")
        if len(set(classes)) != len(classes):
            return "classes with names of their own"
        if limits is not None and len(limits) != len(classes):
            return f"a limit for each of {len(classes)} classes"
        return f"the digest of {MODEL} (sha256)" if digests and MODEL not in digests else None


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
