"""From files to answers: pictures decoded in threads, some at a time, by what predicts."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypedDict, Unpack

import numpy as np
import PIL.Image
import torch

from onecycle.data.pixels.image import Image
from onecycle.data.pixels.picture_file import UNREADABLE, Source, reason
from onecycle.data.pixels.store import LOADING_THREADS
from onecycle.data.progress import counting_bar
from onecycle.errors import ArgumentError, Unreadable
from onecycle.evaluation.certainty.decisions import Decisions
from onecycle.evaluation.predictions import Predictions
from onecycle.evaluation.scores import Thresh
from onecycle.text import plural, safe_text

if TYPE_CHECKING:
    from onecycle.data.labels.items import Label
    from onecycle.deploy.calibrated import Calibrated

File = str | os.PathLike[str]

AT_ONCE = 256
"""Pictures that are decoded and held at a time: 40 MB at 224 px, whatever the number of files."""


_LISTED = 5
"""Pictures in the repr."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Numbers:
    """The numbers of N pictures, k of each."""

    files: tuple[str, ...]  # N
    names: tuple[str, ...]  # k, of the numbers
    values: np.ndarray  # float32 (N, k)
    rows: np.ndarray | None = None  # int64 (N,), positions among the files handed in
    failed: tuple[Unreadable, ...] = ()  # files that cannot be read, which are not among the N

    def __post_init__(self) -> None:
        expected, received = (len(self.files), len(self.names)), np.shape(self.values)
        if received != expected:
            raise ArgumentError(f"numbers of {expected[0]} pictures have the shape {expected}; received {received}")

    def __len__(self) -> int:
        return len(self.files)

    def __repr__(self) -> str:
        failed = f"; {plural(len(self.failed), 'file')} could not be read" if self.failed else ""
        lines = [f"Numbers: {plural(len(self), 'picture')}, {plural(len(self.names), 'number')} each{failed}"]
        for file, values in zip(self.files[:_LISTED], self.values, strict=False):
            lines.append(f"  {safe_text(file)}  {', '.join(f'{v:.4g}' for v in values)}")
        if len(self) > _LISTED:
            lines.append(f"  and {len(self) - _LISTED:,} more")
        return "\n".join(lines)


def names_of_numbers(classes: Sequence[object]) -> tuple[str, ...]:
    """Return the names of a model's numbers: ``number`` for one alone, else those that labelling gave."""
    return ("number",) if len(classes) == 1 else tuple(f"number {name}" for name in classes)


class Known(TypedDict):
    """Which of the files that were handed in could be read, int64 ``(N,)`` positions, and why the others could not."""

    rows: np.ndarray
    failed: tuple[Unreadable, ...]


class HowDecided(TypedDict, total=False):
    """How a model's answers are shown and decided, and what else its ``Predictions`` hold.

    thresh: tags: give one from this probability on (one for all tags, or one for each), compared with the probabilities
    that are shown; None: the model's own rule, ``decisions``.
    raw: leave the calibration out.
    """

    thresh: Thresh | None
    raw: bool
    rows: np.ndarray
    failed: tuple[Unreadable, ...]


@dataclass(frozen=True)
class HowRead:
    """How files are read before they are predicted."""

    threads: int = LOADING_THREADS  # that decode at a time
    before: Callable[[int | None], object] | None = None
    """Called with the position of each file before it is read, one at a time, and with None once a few are read."""


USUALLY = HowRead()


class Decides(Protocol):
    """What predicts: a ``Predictor``, or an ``ExportedPredictor``."""

    @property
    def classes(self) -> tuple[Label, ...]: ...
    @property
    def is_multi(self) -> bool: ...
    @property
    def is_regression(self) -> bool: ...
    @property
    def calibrated(self) -> Calibrated: ...
    @property
    def decisions(self) -> Decisions: ...
    def probs(self, pictures: Sequence[Image | Source | np.ndarray]) -> torch.Tensor: ...


def paths_of(files: File | Sequence[File]) -> list[str]:
    """Return the paths of pictures, of one or several.

    Raises:
        ArgumentError: one that is no path.
    """
    one_or_more = [files] if isinstance(files, (str, bytes, os.PathLike, PIL.Image.Image, Image)) else list(files)
    for i, file in enumerate(one_or_more):
        if not isinstance(file, (str, os.PathLike)):
            raise ArgumentError(
                f"predict takes paths of pictures; received a {type(file).__name__} at position {i} "
                "(save it as a file, or learn.predict(picture) of a whole learner takes pixels)"
            )
    return [os.fspath(f) for f in one_or_more]


def decide_by(model: Decides, probs: np.ndarray, files: Sequence[str], **how: Unpack[HowDecided]) -> Predictions:
    """Calibrate and decide by a model's own rule.

    Args:
        model: whose rule.
        probs: float32 ``(N, C)``, the model's own.
        files: N names.
        how: see ``HowDecided``.

    Raises:
        ArgumentError: a threshold for a model that gives one class a picture; a model of numbers.
    """
    if model.is_regression:
        raise ArgumentError("this model predicts numbers, not classes: its method numbers(files) gives them")
    if how.get("thresh") is not None and not model.is_multi:
        raise ArgumentError(
            "a threshold decides about tags; this model gives each picture one class, the most probable"
        )
    raw = how.pop("raw", False)
    return Predictions.of(
        probs,
        is_multi=model.is_multi,
        calibration=None if raw else model.calibrated.calibration,
        decisions=model.decisions,
        files=tuple(files),
        classes=tuple(map(str, model.classes)),
        **how,
    )


def predict_files(
    model: Decides,
    files: File | Sequence[File],
    decode: Callable[[str], np.ndarray],
    *,
    thresh: Thresh | None,
    how: HowRead = USUALLY,
) -> Predictions:
    """Decode files in threads, have a model answer some at a time, and decide.

    Args:
        model: whose answers.
        files: paths of pictures, or one.
        decode: a file to uint8 ``(h, w, 3)``, as the model takes it.
        thresh: see ``HowDecided``.
        how: the files are read.

    Raises:
        ArgumentError: something else than paths, or a threshold for a model that gives one class a picture.
    """
    paths = paths_of(files)
    decide_by(model, np.zeros((0, len(model.classes)), np.float32), (), thresh=thresh)  # refused before the work
    names, probs, known = _each_file(model, paths, decode, how)
    return decide_by(model, probs, names, thresh=thresh, **known)


def numbers_of(
    model: Decides, files: File | Sequence[File], decode: Callable[[str], np.ndarray], *, how: HowRead = USUALLY
) -> Numbers:
    """Decode files in threads, and have a model of numbers answer some at a time.

    Raises:
        ArgumentError: something else than paths, or a model of classes or tags.
    """
    if not model.is_regression:
        raise ArgumentError("this model predicts classes or tags, not numbers: its method predict(files) gives them")
    names, values, known = _each_file(model, paths_of(files), decode, how)
    return Numbers(files=names, names=tuple(map(str, model.classes)), values=values, **known)


def _each_file(
    model: Decides, paths: Sequence[str], decode: Callable[[str], np.ndarray], how: HowRead
) -> tuple[tuple[str, ...], np.ndarray, Known]:
    """Return the names of the files that can be read, what the model gives for them, and which and why not."""
    probs = [np.zeros((0, len(model.classes)), np.float32)]

    def decoded(position: int) -> np.ndarray | str:
        if how.before is not None:
            how.before(position)
        try:
            return decode(paths[position])
        except UNREADABLE as error:
            return reason(error)

    readable: list[int] = []
    failed: list[Unreadable] = []
    threads = how.threads if how.before is None else 1
    with counting_bar("predicting", len(paths)) as advance, ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(paths), AT_ONCE):
            some = range(start, min(start + AT_ONCE, len(paths)))
            results = list(zip(some, pool.map(decoded, some), strict=True))
            if how.before is not None:
                how.before(None)
            failed += [Unreadable(i, paths[i], why) for i, why in results if isinstance(why, str)]
            pixels = {i: p for i, p in results if not isinstance(p, str)}
            probs.append(model.probs(list(pixels.values())).numpy())
            readable += pixels
            advance(len(results))
    known: Known = {"rows": np.array(readable, dtype=np.int64), "failed": tuple(failed)}
    return tuple(paths[i] for i in readable), np.concatenate(probs), known
