"""Predictor: all that decides about pictures and nothing that trains; what a run gives to those who only predict.

A ``learn`` here is a ``Learner``; its module imports this one, so the type is not named.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, Unpack

import numpy as np
import PIL.Image
import torch
from torch import nn

from onecycle.data.batches import picture_batches
from onecycle.data.pixels.image import Image, from_pillow
from onecycle.data.pixels.picture_file import Source
from onecycle.data.pixels.reading import Reading
from onecycle.data.pixels.resize import ResizeSpec
from onecycle.deploy.calibrated import Calibrated
from onecycle.deploy.of_files import (
    USUALLY,
    File,
    HowDecided,
    HowRead,
    Numbers,
    decide_by,
    names_of_numbers,
    numbers_of,
    predict_files,
)  # fmt: skip
from onecycle.errors import ArgumentError, CheckpointError, OnecycleWarning, warn
from onecycle.evaluation.certainty.decisions import Decisions
from onecycle.evaluation.predictions import Predictions
from onecycle.evaluation.scores import Thresh
from onecycle.foreign import Refused, inside, read_plain
from onecycle.model.budget import network_of
from onecycle.model.cnn import create_cnn_model
from onecycle.model.levels import views_of
from onecycle.model.manifests import check_saved
from onecycle.settings import MOST_SETTINGS, RUN_CONFIG, RUN_MODEL, SAVED
from onecycle.train.checkpoint import load_checkpoint, read_manifest
from onecycle.train.evaluate import evaluate
from onecycle.train.losses import ACTIVATIONS

if TYPE_CHECKING:
    from onecycle.data.augment.augmenter import BatchAugmenter
    from onecycle.data.batches import BatchLoader, BatchTransform, Stats
    from onecycle.data.labels.items import Label

Picture = Image | Source | np.ndarray | torch.Tensor | PIL.Image.Image


@dataclass(frozen=True, kw_only=True, repr=False)
class Predictor:
    """A network with its preprocess and its way to decide; made by ``onecycle.load``, ``load`` or a learner."""

    model: nn.Module  # logits (N, C) for float32 (N, 3, H, W)
    resize: ResizeSpec  # the one evaluation preprocess
    stats: Stats | None  # channel means and deviations that pixels are normalised with
    activation: Callable[[torch.Tensor], torch.Tensor]  # probabilities for logits, (N, C) each
    classes: tuple[Label, ...]  # C names
    is_multi: bool  # whether a picture can have several labels (tags)
    is_regression: bool = False  # whether the network gives numbers; then ``classes`` are what these are called
    device: torch.device
    calibrated: Calibrated = field(default_factory=Calibrated)
    bs: int = 64  # pictures in a batch
    augmenter: BatchAugmenter | None = None  # transforms of the user's own for validation
    dl_tfms: Sequence[BatchTransform] = ()  # functions of the user's own on whole batches
    reading: Reading = field(default_factory=Reading)  # of files, where a function of the user's reads them

    @classmethod
    def load(
        cls,
        path: File,
        *,
        arch: str | None = None,
        device: str | torch.device | None = None,
        reader: Callable[[Any], Any] | None = None,
    ) -> Self:
        """Load a run or a saved model; the data that it was trained on is not needed.

        Args:
            path: folder of a run, or a saved model as ``Learner.save`` takes it, with its folder and without suffix.
            arch: name of the network, for a model that does not say it: those saved by onecycle 0.1.0 outside a run.
            device: where to compute; default the GPU where there is one.
            reader: a function from a path to an Image, where one of the user's read the pictures.

        Raises:
            CheckpointError: no model, a damaged one, one whose network is of the user's own, or one without its reader.
            ArgumentError: an unknown network.
        """
        stem, named = _model_of(Path(path))
        manifest = read_manifest(stem)
        check_saved(manifest, stem, to_predict=True)
        reading = Reading.from_manifest(manifest.get("reading"), str(stem), reader)
        network = manifest.get("network") or {"arch": arch or named}
        if network["arch"] is None:
            raise CheckpointError(
                f"{stem} does not say which network it is of. Pass arch='resnet34', say; a network of your own, or "
                "with a head of your own, is loaded with learn.load() into a learner made as it was"
            )
        classes, numbers = tuple(manifest["classes"]), bool(manifest.get("is_regression", False))
        with network_of(Path(f"{stem}.safetensors")):
            made = create_cnn_model(network["arch"], len(classes), pretrained=False, **network.get("head", {}))
        load_checkpoint(stem, model=made.model, with_opt=False)
        if manifest.get("own_transforms"):
            warn(
                f"{stem} was validated with transforms of your own ({', '.join(manifest['own_transforms'])}), which "
                "are not saved: here pictures are resized and cut in the centre alone",
                OnecycleWarning,
            )
        where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        return cls(
            model=made.model.to(where, memory_format=torch.channels_last).eval(),  # type: ignore[call-overload]
            device=where,
            classes=names_of_numbers(classes) if numbers else classes,
            is_multi=manifest["is_multi"],
            is_regression=numbers,
            reading=reading,
            calibrated=Calibrated.from_manifest(manifest, len(classes)),
            **_preprocess(manifest),
        )

    @cached_property
    def decisions(self) -> Decisions:
        """The rule by which tags are predicted."""
        return self.calibrated.decisions(self.model)

    def batches(self, pictures: Sequence[Image | Source | np.ndarray]) -> BatchLoader:
        """Return batches of pictures as the network sees them; arrays are decoded and resized already."""
        return picture_batches(
            pictures,
            self.resize,
            self.classes,
            is_multi=self.is_multi,
            bs=self.bs if self.resize.size else 1,  # pictures as stored differ in size
            augmenter=self.augmenter,
            stats=self.stats,
            device=self.device,
            dl_tfms=self.dl_tfms,
            reading=self.reading,
        )

    def probs(self, pictures: Sequence[Image | Source | np.ndarray]) -> torch.Tensor:
        """Return the model's own probabilities, float32 ``(N, C)``, on the CPU.

        Raises:
            DataError: a file that cannot be decoded.
        """
        if not len(pictures):
            return torch.zeros(0, len(self.classes))
        logits = evaluate(self.model, self.batches(pictures), None).logits
        if self.is_regression and logits.ndim == 1:
            logits = logits[:, None]
        if logits.shape[1:] != (len(self.classes),):
            shape = tuple(logits.shape)
            raise ArgumentError(f"the model gives {shape} for {len(self.classes)} classes: expected one output a class")
        return self.activation(logits)

    def decide(self, probs: np.ndarray, files: Sequence[str], **how: Unpack[HowDecided]) -> Predictions:
        """Calibrate and decide, see ``decide_by``."""
        return decide_by(self, probs, files, **how)

    def numbers(self, files: File | Sequence[File], *, how: HowRead = USUALLY) -> Numbers:
        """Predict the numbers of files, for a model of numbers; see ``predict``."""
        return numbers_of(self, files, self._pixels, how=how)

    def _pixels(self, path: str) -> np.ndarray:
        return self.reading.pixels(path, self.resize)

    def predict(
        self, files: File | Sequence[File], *, thresh: Thresh | None = None, how: HowRead = USUALLY
    ) -> Predictions:
        """Predict files; nothing is kept on the disk.

        Args:
            files: paths of pictures, or one.
            thresh: tags: give one from this probability on (one for all tags, or one for each), compared with the
                probabilities that are shown; None: the model's own rule, ``decisions``.
            how: the files are read.

        Returns:
            Predictions of the files that could be read; ``rows`` are their positions in ``files``, and ``failed``
            names the others.

        Raises:
            ArgumentError: ``thresh`` for a model that gives one class a picture; something else than paths.
        """
        return predict_files(self, files, self._pixels, thresh=thresh, how=how)

    def __repr__(self) -> str:
        size = f"{self.resize.size[0]}×{self.resize.size[1]} px" if self.resize.size else "pictures as stored"
        kind = "numbers" if self.is_regression else "tags" if self.is_multi else "classes"
        with_ = f"; {self.calibrated}" if self.calibrated else ""
        n = views_of(self.model)
        with_ += f"; means over {n} mirrored views" if n > 1 else ""
        return f"Predictor: {len(self.classes)} {kind}, {size}, on {self.device}{with_}"


def predictor_of(learn: Any) -> Predictor:
    """Return the predictor of a learner, for the weights as they are; it shares the network."""
    data = learn.data
    alone = data.single_loader([], stats=learn.norm_stats)
    return Predictor(
        model=learn.model,
        resize=data.lists.resize,
        stats=alone.stats,
        activation=learn.activation,
        classes=names_of_numbers(data.classes) if data.is_regression else tuple(data.classes),
        is_multi=data.is_multi,
        is_regression=data.is_regression,
        device=alone.device,
        calibrated=learn.calibrated,
        bs=alone.bs,
        augmenter=alone.augmenter,
        dl_tfms=alone.dl_tfms,
        reading=data.lists.pictures.reading,
    )


def as_picture(item: Picture) -> Image | Source:
    """Return a file (path, open file, bytes) as it is, and anything else that shows a picture as an Image.

    A file is decoded later, by the preprocess of the data that the model was made for; see ``from_pillow`` too.

    Raises:
        ArgumentError: an array that is not uint8 ``(H, W, 3)``; a tensor that is neither uint8 nor in [0, 1].
        DataError: a Pillow picture that cannot be decoded.
    """
    if isinstance(item, (Image, str, os.PathLike, bytes)):
        return item
    if isinstance(item, torch.Tensor):
        return Image(item)
    if isinstance(item, PIL.Image.Image):
        return from_pillow(item)
    if not isinstance(item, np.ndarray) and hasattr(item, "read"):
        return item
    try:
        pixels = np.asarray(item)
    except ValueError as error:  # a list of rows that differ in length
        raise ArgumentError(f"a picture's pixels are uint8 (H, W, 3); received a {type(item).__name__}") from error
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        raise ArgumentError(f"a picture's pixels are uint8 (H, W, 3); received {pixels.dtype} {pixels.shape}")
    return Image.from_numpy(pixels)


def _model_of(path: Path) -> tuple[Path, str | None]:
    """Return the stem of a saved model, and the network's name where a run's settings have it."""
    if not (path / RUN_CONFIG).is_file():
        return path.with_suffix("") if path.suffix == ".safetensors" else path, None
    import yaml

    try:
        for ending in SAVED:
            inside(path, f"{RUN_MODEL}{ending}")
        settings = yaml.safe_load(read_plain(inside(path, RUN_CONFIG), MOST_SETTINGS))
        return path / RUN_MODEL, str(settings["arch"])
    except Refused as error:
        raise CheckpointError(str(error)) from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError, yaml.YAMLError) as error:
        raise ArgumentError(f"{path / RUN_CONFIG} does not say the network ({error}); copy the run again") from error


def _preprocess(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return the resize, the statistics and the activation of a saved model."""
    size, stats, padding_mode = manifest["size"], manifest["stats"], manifest["padding_mode"]
    size, method = (None, None) if size is None else (tuple(size), manifest["resize_method"])
    scaled = manifest.get("scaled_decode", True)
    usual = "sigmoid" if manifest["is_multi"] else "softmax"
    return {
        "resize": ResizeSpec.make(size, method, padding_mode=padding_mode, scaled_decode=scaled),
        "stats": None if stats is None else (tuple(stats[0]), tuple(stats[1])),
        "activation": ACTIVATIONS[manifest.get("activation") or usual],
    }
