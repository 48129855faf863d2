"""An exported folder in Python: what ``onecycle.load`` gives for one, and fastai v1's ``load_learner``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import torch

from onecycle.data.labels.items import Category, DatasetType, FloatItem, MultiCategory
from onecycle.data.pixels.image import Image
from onecycle.data.pixels.reading import Reading
from onecycle.deploy.calibrated import Calibrated
from onecycle.deploy.folder import is_bundle, is_zipped, open_model
from onecycle.deploy.of_files import USUALLY, HowDecided, HowRead, Numbers, decide_by, numbers_of, predict_files
from onecycle.deploy.predictor import Predictor, as_picture
from onecycle.errors import ArgumentError, CheckpointError, DataError
from onecycle.evaluation.certainty.decisions import Decisions
from onecycle.evaluation.predictions import Predictions
from onecycle.settings import RUN_CONFIG
from onecycle.text import plural, shown

if TYPE_CHECKING:
    from onecycle.data.pixels.picture_file import Source
    from onecycle.deploy.of_files import File
    from onecycle.deploy.portable.predict import Model
    from onecycle.deploy.predictor import Picture
    from onecycle.evaluation.scores import Thresh


BATCH = 32
"""Pictures that go through the network together."""


@dataclass(frozen=True, repr=False)
class ExportedPredictor:
    """The predictor of an exported folder: onnxruntime in place of PyTorch, the same answers."""

    model: Model
    reading: Reading = field(default_factory=Reading)  # of files, where a function of the user's reads them

    @classmethod
    def load(cls, folder: str | Path, *, reader: Callable[[Any], Any] | None = None) -> ExportedPredictor:
        """Open an exported folder, or the .zip of one.

        Args:
            folder: either of them.
            reader: a function from a path to an Image, where one of the user's read the pictures.

        Raises:
            ExportError: it is none, or a damaged one.
            CheckpointError: a function of the user's read its pictures, and none is given.
        """
        return cls.of(open_model(Path(folder)), reader)

    @classmethod
    def of(cls, model: Model, reader: Callable[[Any], Any] | None = None) -> ExportedPredictor:
        """Take an opened folder; see ``load``."""
        return cls(model, Reading.from_manifest(model.manifest.get("reading"), str(model.folder), reader))

    @property
    def classes(self) -> tuple[str, ...]:
        """The C names."""
        return tuple(self.model.classes)

    @property
    def is_multi(self) -> bool:
        """Whether a picture can have several labels (tags)."""
        return self.model.is_multi

    @property
    def is_regression(self) -> bool:
        """Whether it gives numbers; then ``classes`` are what these are called."""
        return self.model.is_regression

    @cached_property
    def calibrated(self) -> Calibrated:
        """The calibration, the thresholds and the measure that lie in the network."""
        return Calibrated.from_manifest(self.model.manifest, len(self.classes))

    @cached_property
    def decisions(self) -> Decisions:
        """The rule by which tags are predicted."""
        return Decisions.from_dict(self.model.manifest["rule"], len(self.classes))

    def probs(self, pictures: Sequence[Image | Source | np.ndarray]) -> torch.Tensor:
        """Return the network's own probabilities, float32 ``(N, C)``.

        Args:
            pictures: files, Images of any size, or pixels that are resized already.
        """
        pixels = [self._pixels(picture) for picture in pictures]
        step = BATCH if len({p.shape for p in pixels}) == 1 else 1
        found = [self.model.own(np.stack(pixels[i : i + step])) for i in range(0, len(pixels), step)]
        return torch.from_numpy(np.concatenate([np.zeros((0, len(self.classes)), np.float32), *found]))

    def _pixels(self, picture: Image | Source | np.ndarray) -> np.ndarray:
        if isinstance(picture, Image):
            return picture.numpy()  # the network resizes it
        return picture if isinstance(picture, np.ndarray) else self._decoded(picture)

    def _decoded(self, source: Source) -> np.ndarray:
        return self.model.pixels(source) if self.reading.function is None else self.reading.image(source).numpy()

    def decide(self, probs: np.ndarray, files: Sequence[str], **how: Unpack[HowDecided]) -> Predictions:
        """Calibrate and decide, see ``decide_by``."""
        return decide_by(self, probs, files, **how)

    def predict(
        self, files: File | Sequence[File], *, thresh: Thresh | None = None, how: HowRead = USUALLY
    ) -> Predictions:
        """Predict files, see ``Predictor.predict``."""
        return predict_files(self, files, self._decoded, thresh=thresh, how=how)

    def numbers(self, files: File | Sequence[File], *, how: HowRead = USUALLY) -> Numbers:
        """Predict the numbers of files, for a model of numbers; see ``predict``."""
        return numbers_of(self, files, self._decoded, how=how)

    def __repr__(self) -> str:
        kind = "numbers" if self.is_regression else "tags" if self.is_multi else "classes"
        return f"ExportedPredictor: {len(self.classes)} {kind}, {self.model.folder}"


def open_predictor(
    path: Path, *, device: str | torch.device | None = None, threads: int = 0
) -> Predictor | ExportedPredictor:
    """Open what predicts: an exported folder or its .zip, a run's folder, or a saved model.

    Args:
        path: either of them.
        device: where a run's model computes; default the GPU where there is one.
        threads: of the processor for an exported network; 0: all. PyTorch's are set for the whole process.

    Raises:
        CheckpointError, ExportError, ArchiveError: none of them, or a damaged one.
    """
    if is_bundle(path) or is_zipped(path):
        return ExportedPredictor.of(open_model(path, threads=threads))
    return Predictor.load(path, device=device)


# --- as fastai v1 had it ------------------------------------------------------------------------------


class LoadedLearner:
    """What ``load_learner`` returns: it predicts, and has no data to train on.

    Args:
        predictor: of a run or of an exported folder.
        test: pictures for ``get_preds``: an ``ImageList``, or paths.
    """

    def __init__(self, predictor: Predictor | ExportedPredictor, test: Any = None) -> None:
        self._predictor = predictor
        paths = [test] if isinstance(test, str | Path) else [] if test is None else test
        items = list(getattr(paths, "items", paths))
        classes = list(predictor.classes)
        part = partial(SimpleNamespace, classes=classes, c=len(classes), y=SimpleNamespace(classes=classes))
        parts = {"train_ds": part(items=[]), "valid_ds": part(items=[]), "test_ds": part(items=items)}
        self.data = part(**parts)

    def predict(self, item: Picture, *, thresh: Thresh | None = None) -> tuple[Any, torch.Tensor, torch.Tensor]:
        """Predict one picture.

        Args:
            item: a path, an open file, bytes, or what ``open_image`` returned.
            thresh: tags: give one from this probability on; default the model's own rule.

        Returns:
            the label (prints as its name), the class index (or 0/1 per tag) and the probabilities ``(C,)``; of numbers
            the numbers, thrice.
        """
        own = self._predictor.probs([as_picture(item)]).numpy()
        if self._predictor.is_regression:
            numbers = torch.from_numpy(own[0])
            return FloatItem(own[0]), numbers, numbers
        predictions = self._predictor.decide(own, ("",), thresh=thresh)
        label, names = predictions.decided[0], predictions.names_of(predictions.decided[0])
        probs = torch.from_numpy(predictions.shown_probs[0])
        if not predictions.is_multi:
            return Category(int(label), names[0]), torch.tensor(int(label)), probs
        return MultiCategory(tuple(label.tolist()), names), torch.tensor(label), probs

    def get_preds(self, ds_type: DatasetType = DatasetType.Test) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the probabilities (or numbers) of the pictures of ``test=``, float32 ``(N, C)``, and zeros as labels.

        Raises:
            ArgumentError: another part of the data, which did not come along; a picture that cannot be read.
        """
        if ds_type is not DatasetType.Test:
            raise ArgumentError(
                "a loaded model has the pictures of load_learner(path, test=...) alone, DatasetType.Test; "
                f"received {ds_type}"
            )
        ask = self._predictor.numbers if self._predictor.is_regression else self._predictor.predict
        found = ask([str(item) for item in self.data.test_ds.items])
        if found.failed:
            named = shown([f"{f.path} ({f.reason})" for f in found.failed])
            raise DataError(f"{plural(len(found.failed), 'picture')} of test= cannot be read: {named}")
        values = found.values if isinstance(found, Numbers) else found.shown_probs
        zeros = np.zeros(values.shape if self._predictor.is_multi else len(values), dtype=np.int64)
        return torch.from_numpy(values), torch.from_numpy(zeros)

    def __repr__(self) -> str:
        return f"LoadedLearner: {self._predictor!r}, {plural(len(self.data.test_ds.items), 'test picture')}"


def exported_in(folder: Path, name: Path) -> Path | None:
    """Return the exported folder, or the .zip of one, that ``load_learner`` reads; None where there is none."""
    places = (folder / name, folder / name.with_suffix(""), folder / name.with_suffix(".zip"), folder)
    return next((place for place in places if is_bundle(place) or is_zipped(place)), None)


def load_learner(
    path: str | Path, file: str | Path = "export", test: Any = None, *, reader: Callable[[Any], Any] | None = None
) -> LoadedLearner:
    """Load a model to predict with, as fastai v1's notebooks do.

    Args:
        path: folder in which ``learn.export()`` wrote, an exported folder itself or its .zip, or a run.
        file: name of the exported folder in ``path``; v1's ``export.pkl`` stands for ``export``.
        test: pictures for ``get_preds``: an ``ImageList``, or paths.
        reader: a function from a path to an Image, where one of the user's read the pictures.

    Raises:
        CheckpointError: neither is there; of a pickle of v1's, says what to do.
        ExportError: a damaged export.
        ArchiveError: a .zip that is refused, see ``open_model``.
    """
    folder, name = Path(path), Path(file)
    if (place := exported_in(folder, name)) is not None:
        return LoadedLearner(ExportedPredictor.load(place, reader=reader), test)
    if (folder / RUN_CONFIG).is_file():
        return LoadedLearner(Predictor.load(folder, reader=reader), test)
    pickled = next((p for p in (folder / name, folder / "export.pkl", folder) if p.is_file()), None)
    if pickled is not None:
        raise CheckpointError(
            f"{pickled} is a pickle: reading it would run whatever code it holds, and the classes that it names are "
            "those of fastai v1. In v1, learn.save('model') writes the weights alone; learn.load('model') reads them "
            "here, into a learner made as that one was. Then learn.export() writes a folder that load_learner reads"
        )
    raise CheckpointError(
        f"there is no exported model in {folder}: learn.export() writes one, and so does onecycle export RUN"
    )
