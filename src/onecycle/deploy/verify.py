"""Whether an exported model answers as the one that it was made from: the same pixels, probabilities and labels."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL.Image
import torch

from onecycle.data.pixels.decode import DECODER_VARIABLE, decode_for, decode_rgb
from onecycle.data.pixels.picture_file import UNREADABLE, picture_bytes
from onecycle.data.pixels.resize import centre_window, resize_pixels
from onecycle.deploy import unlike
from onecycle.deploy.graph.network_graph import AnswerGraph
from onecycle.deploy.of_files import Numbers
from onecycle.errors import ExportError
from onecycle.files import write_part
from onecycle.text import shown

if TYPE_CHECKING:
    from onecycle.deploy.portable.predict import Model
    from onecycle.deploy.predictor import Predictor
    from onecycle.deploy.unlike import FeatureDistance
    from onecycle.evaluation.predictions import Predictions

TOLERANCE = 1e-5
"""By which a probability may differ. Measured: 3e-6 at most, where pixels are the same; 0.02 to 0.12 after a resize
without antialiasing, though 1,299 of 1,300 decisions stay."""

ROUNDING = 4
"""Times the rounding error of the original itself (float32 against float64) that a probability may be off by, where
that is more: a confident network rounds by more than TOLERANCE on pictures unlike any that it was trained on."""

AT_ONCE = 64
LARGEST_RAW = 4_000_000
"""Pixels of a picture that goes into the graph at its full size: there, what is held is many times as large."""


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What was compared, and how far apart the two were."""

    pictures: int  # of the user's
    made: int  # drawn: of odd shapes and kinds
    raw: int  # of both that went through the resize of the graph, too
    other_pixels: tuple[str, ...]  # files whose pixels differ
    max_difference: float  # of any probability; of numbers above 1, relative
    far: tuple[str, ...]  # files with a probability that differs by more than TOLERANCE and than rounding explains
    other_labels: tuple[str, ...]  # files that get other labels, though nothing of them is within TOLERANCE of a limit
    other_distance: tuple[str, ...] = ()  # files whose distance from the training pictures differs
    decoder: tuple[str, ...]  # files that the faster decoder here reads to other pixels than Pillow, by a grey level

    @property
    def same(self) -> bool:
        """Whether the two are the same model."""
        return not (self.other_pixels or self.far or self.other_labels or self.other_distance)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as JSON has them."""
        return asdict(self) | {"tolerance": TOLERANCE, "same": self.same}

    def check(self) -> None:
        """Raise where the two are not the same.

        Raises:
            ExportError: names the pictures.
        """
        if self.same:
            return
        wrong = [
            f"{len(names)} of {self.pictures + self.made} {what} ({shown(names, most=5)})"
            for what, names in (
                ("pictures reach the network with other pixels", self.other_pixels),
                (f"get probabilities that differ by up to {self.max_difference:.2g}", self.far),
                ("get other labels", self.other_labels),
                ("are at another distance from the training pictures", self.other_distance),
            )
            if names
        ]
        raise ExportError(
            f"the exported model is not the same as the run's, so nothing was written: {'; '.join(wrong)}"
        )


def verify(
    predictor: Predictor,
    model: Model,
    files: Sequence[str],
    made: Sequence[str],
    distance: FeatureDistance | None = None,
) -> Verification:
    """Compare an exported model with the predictor that it was made from.

    Args:
        predictor: the original.
        model: the folder, opened by the file that lies in it.
        files: pictures of the user's.
        made: from ``made_pictures``.
        distance: from the training pictures, that the exported model tells, too.

    Raises:
        ExportError: no picture could be read by both.
    """
    with only_pillow():
        said, features = unlike.predicted(predictor, [*files, *made])
        if not len(said):
            raise ExportError("no picture to verify the export with can be read")
        answers = [_Answer.of(predictor, model, name) for name in said.files]
    found, labels, told = run_all(model, [a.pixels for a in answers])
    right = said.values if isinstance(said, Numbers) else said.shown_probs
    differences = (np.abs(found - right) / np.maximum(1, np.abs(right))).max(axis=1)
    far = [
        bool(d > TOLERANCE and _beyond_rounding(predictor, answer.pixels, right[i], found[i]))
        for i, (d, answer) in enumerate(zip(differences, answers, strict=True))
    ]
    names = np.array(said.files, dtype=object)
    return Verification(
        pictures=sum(n not in set(made) for n in said.files),
        made=sum(n in set(made) for n in said.files),
        raw=sum(a.raw for a in answers),
        other_pixels=tuple(names[[not a.same for a in answers]]),
        max_difference=float(differences.max()),
        far=tuple(names[far]),
        other_labels=() if isinstance(said, Numbers) else tuple(names[_other_labels(said, labels)]),
        other_distance=tuple(names[_other_distance(distance, features, told)]),
        decoder=tuple(_decoded_otherwise(predictor, files)),
    )


def _other_labels(predictions: Predictions, labels: np.ndarray) -> np.ndarray:
    """Return which pictures get other labels that are not as good but for TOLERANCE, bool (N,)."""
    other = (labels != predictions.decided).reshape(len(labels), -1).any(axis=1)
    return np.asarray(other & ~near_a_limit(predictions, labels))


@dataclass(frozen=True)
class _Answer:
    """A picture's pixels by the exported folder, and whether they are those of the original."""

    pixels: np.ndarray  # uint8 (height, width, 3), as ``predict.py`` makes them
    same: bool  # by ``predict.py`` and, where it was asked, by the resize of the graph
    raw: bool  # whether the graph was given the whole picture, too; it is not kept, 500 of them could take 6 GB

    @classmethod
    def of(cls, predictor: Predictor, model: Model, name: str) -> _Answer:
        spec, reading = predictor.resize, predictor.reading
        if reading.function is None:
            expected, raw = centre_window(decode_for(name, spec), spec), decode_rgb(name)
            try:
                pixels = model.pixels(name)
            except UNREADABLE:
                return cls(np.zeros_like(expected), False, False)
        else:  # whoever calls that function gives its pixels to the exported model
            expected, raw = centre_window(reading.pixels(name, spec), spec), reading.image(name).numpy()
            pixels = expected
        same = np.array_equal(pixels, expected)
        if spec.size is None or raw.shape[0] * raw.shape[1] > LARGEST_RAW:
            return cls(pixels, same, False)
        whole = centre_window(resize_pixels(raw, spec), spec)
        by_graph, by_original = (model.run(p[None])[0] for p in (raw, whole))
        within = TOLERANCE / 10 * np.maximum(1, np.abs(by_original))
        return cls(pixels, same and bool((np.abs(by_graph - by_original) <= within).all()), True)


def run_all(model: Model, pixels: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return what ``Model.run`` does for pictures; those of one shape go together."""
    one_size = len({p.shape for p in pixels}) == 1
    step = AT_ONCE if one_size else 1
    parts = [model.run(np.stack(pixels[i : i + step])) for i in range(0, len(pixels), step)]
    return [np.concatenate(values) for values in zip(*parts, strict=True)]


def _other_distance(distance: FeatureDistance | None, features: np.ndarray | None, told: np.ndarray) -> np.ndarray:
    """Return which pictures an exported model tells another distance of, bool (N,)."""
    if distance is None or features is None:
        return np.asarray(~np.isnan(told))
    right = distance.of(features)
    return np.asarray(~(np.abs(told - right) <= unlike.TOLERANCE * np.maximum(1, right)))


def _beyond_rounding(predictor: Predictor, pixels: np.ndarray, original: np.ndarray, exported: np.ndarray) -> bool:
    """Whether exported probabilities (C,) of one resized picture are further off than float32 explains.

    Both are compared with what the original gives in float64.
    """
    model = AnswerGraph(replace(predictor, model=copy.deepcopy(predictor.model).cpu())).double().eval()
    with torch.no_grad():
        exact = model(torch.from_numpy(pixels[None]))[0][0].numpy()
    scale = np.maximum(1, np.abs(exact))
    rounding, off = (float((np.abs(values - exact) / scale).max()) for values in (original, exported))
    return off > max(TOLERANCE, ROUNDING * rounding)


def near_a_limit(predictions: Predictions, labels: np.ndarray) -> np.ndarray:
    """Return of which pictures other labels are as good but for TOLERANCE, bool (N,).

    Args:
        predictions: what the original says.
        labels: int (N,) class indices or bool (N, C), what the exported model gives.
    """
    rule, probs, c = predictions.decisions, predictions.probs, len(predictions.classes)
    if not predictions.is_multi:
        there = np.take_along_axis(probs, np.asarray(labels)[:, None], axis=1)[:, 0]
        return np.asarray(probs.max(axis=1) - there <= TOLERANCE)
    if rule.by_sets:
        return np.asarray(rule.worth(probs, predictions.predicted) - rule.worth(probs, labels) <= 10 * TOLERANCE)
    distance = np.abs(rule.compared(probs, predictions.shown_probs) - rule.limits(c))
    return np.asarray((distance <= TOLERANCE).any(axis=1))


@contextmanager
def only_pillow() -> Iterator[None]:
    """Decode by Pillow inside the block, as an exported folder does."""
    before = os.environ.get(DECODER_VARIABLE)
    os.environ[DECODER_VARIABLE] = "pillow"
    try:
        yield
    finally:
        os.environ.pop(DECODER_VARIABLE)
        if before is not None:
            os.environ[DECODER_VARIABLE] = before


def _decoded_otherwise(predictor: Predictor, files: Sequence[str]) -> Iterator[str]:
    """Give the files that the decoder of this machine reads to other pixels than Pillow."""
    for name in files if predictor.reading.function is None else ():
        try:
            here = decode_for(name, predictor.resize)
            with only_pillow():
                same = np.array_equal(here, decode_for(name, predictor.resize))
        except UNREADABLE:
            continue
        if not same:
            yield name


def made_pictures(folder: Path) -> list[str]:
    """Write pictures of odd shapes and kinds into a folder; returns their paths.

    Tall, wide, 1 × 1, 4000 × 3000, grey, grey of 16 bits, with alpha, with a palette, CMYK, turned by EXIF.
    """
    rng = np.random.default_rng(0)

    def drawn(height: int, width: int) -> PIL.Image.Image:
        coarse = rng.integers(0, 256, (max(2, height // 40), max(2, width // 40), 3), dtype=np.uint8)
        return PIL.Image.fromarray(coarse).resize((width, height), PIL.Image.Resampling.BICUBIC)

    turned = PIL.Image.Exif()
    turned[0x0112] = 6
    some = drawn(200, 300)
    deep = np.asarray(some.convert("L")).astype(np.uint16) * 257
    pictures: dict[str, tuple[PIL.Image.Image, dict[str, Any]]] = {
        "tall.png": (drawn(900, 60), {}),
        "wide.png": (drawn(60, 900), {}),
        "one-pixel.png": (drawn(1, 1), {}),
        "large.jpg": (drawn(3000, 4000), {"quality": 90}),
        "grey.png": (some.convert("L"), {}),
        "grey-16-bit.png": (PIL.Image.fromarray(deep), {}),
        "alpha.png": (some.convert("RGBA"), {}),
        "palette.png": (some.convert("P"), {}),
        "cmyk.jpg": (some.convert("CMYK"), {"quality": 90}),
        "turned.jpg": (some, {"quality": 90, "exif": turned}),
    }
    for name, (picture, options) in pictures.items():
        write_part(folder / name, picture_bytes(picture, name, **options))
    return [str(folder / name) for name in pictures]
