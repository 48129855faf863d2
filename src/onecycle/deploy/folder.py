"""An exported folder, as what opens one knows it: nothing here loads PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from onecycle.errors import ExportError

if TYPE_CHECKING:
    from onecycle.deploy.portable.predict import Model

MANIFEST, MODEL = "manifest.json", "model.onnx"
"""Files by which it is known."""


def open_model(folder: Path) -> Model:
    """Open an exported folder, by the code that lies in it.

    Raises:
        ExportError: it is none, or a damaged one.
    """
    from onecycle.deploy.portable.predict import Model

    try:
        return Model(folder)
    except Exception as error:  # of onnxruntime, json, the disk
        raise ExportError(f"{folder} is no exported model, or a damaged one ({error}); export it again") from error


def is_bundle(path: Path) -> bool:
    """Tell whether a folder is an exported model."""
    return (path / MANIFEST).is_file() and (path / MODEL).is_file()
