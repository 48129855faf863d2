"""A classifier that is saved and loaded: weights, optimizer state and the settings that belong to them."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from onecycle.learner import model_files
from onecycle.learner.classifier import Classifier
from onecycle.learner.predictor import Calibrated
from onecycle.train import checkpoint
from onecycle.train.loop import Trainer


class SavedClassifier(Classifier):
    """A classifier whose model and optimizer go to files and come back.

    Attributes:
        trainer: the optimizer, and the count of epochs.
        path: folder of the data set, or where models go instead.
        model_dir: folder below ``path``.
        body_trained: whether more than the head was trained; None where weights were loaded, so it is not known.
    """

    trainer: Trainer
    path: Path
    model_dir: Path
    _told_folder = False
    body_trained: bool | None = False

    def model_folder(self) -> Path:
        """Return the folder of saved models, made if missing: ``path/model_dir``, else a run folder, said once."""
        wanted = Path(self.path) / self.model_dir
        folder = model_files.writable_folder(Path(self.path), Path(self.model_dir))
        if folder != wanted and not self._told_folder:
            print(f"{wanted} is not writable, so models go to {folder}; learn.path = ... changes that")
            self._told_folder = True
        return folder

    def save(self, file: str | Path = "model", return_path: bool = False, with_opt: bool = True) -> Path | None:
        """Write weights, optimizer state and the settings that belong to them: ``<file>.safetensors`` + ``.json``.

        Args:
            file: name without suffix, below the model folder (or an absolute path).
            return_path: return the weights' path.
            with_opt: include the optimizer's state, where there is one.
        """
        path = checkpoint.save_checkpoint(
            model_files.stem(self.model_folder(), file),
            model=self.model,
            optimizer=self.trainer.optimizer if with_opt else None,
            manifest=model_files.manifest(self._data, self.norm_stats, self.trainer.epochs_done)
            | self.calibrated.manifest(),
        )
        return path if return_path else None

    def load(self, file: str | Path = "model", *, strict: bool = True, with_opt: bool | None = None) -> Self:
        """Read what ``save`` wrote; returns this learner.

        Args:
            file: as in ``save``; a v1 ``.pth`` file of weights is read too.
            strict: False accepts missing and surplus tensors.
            with_opt: None reads the optimizer's state where it fits, and says so where it does not;
                True makes a misfit an error; False leaves the optimizer alone.

        Raises:
            CheckpointError: no such file, other classes or other tensors; the first difference is named
                and nothing is changed.
        """
        stem = model_files.saved_stem(Path(self.path), Path(self.model_dir), file)
        optimizer = None if with_opt is False else self.trainer.ensure_optimizer()
        expected = {"classes": list(self._data.classes), "is_multi": self._data.is_multi}
        report = checkpoint.load_checkpoint(
            stem, model=self.model, optimizer=optimizer, expected=expected, strict=strict, with_opt=with_opt
        )
        if report.note:
            print(report.note)
        self.calibrated = Calibrated.from_manifest(report.manifest, self._data.c)
        if self.calibrated:
            self._say(f"loaded with {self.calibrated}, which predict uses")
        self.body_trained = self.body_trained or None
        # Never backwards: no order and no draw comes twice in one run.
        self.trainer.epochs_done = max(self.trainer.epochs_done, int(report.manifest.get("epochs_done", 0)))
        return self
