"""An exported folder, or the .zip of one, as what opens one knows it: nothing here loads PyTorch."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from onecycle.errors import ArchiveError, ExportError
from onecycle.settings import MANIFEST, MODEL

if TYPE_CHECKING:
    from onecycle.deploy.portable.predict import Model

MOST_MEMBERS, MOST_BYTES, MOST_RATIO = 1_000, 4 * 2**30, 20.0
"""Of a .zip: more is no exported model. Its members are stored as they are, and a file of ONNX has 2 GiB at most."""


def open_model(path: Path) -> Model:
    """Open an exported folder, or the .zip of one, by the code of this package; none that lies in it is run.

    A .zip is unpacked into a folder that is removed again, since all that is needed is in memory then.

    Raises:
        ExportError: it is none, or a damaged one.
        ArchiveError: a .zip that is refused: links, paths outside, more than an exported model can have.
    """
    if not is_zipped(path):
        return _opened(path, path)
    from onecycle.data.sources.archives import unpack

    with TemporaryDirectory(prefix="onecycle_model_") as unpacked:
        try:
            top = unpack(path, unpacked, max_members=MOST_MEMBERS, max_bytes=MOST_BYTES, max_ratio=MOST_RATIO)
        except ArchiveError as error:
            raise ArchiveError(f"{path} is refused: {error.why}; export the model again", error.why) from error
        folders = [top, *(p for p in top.iterdir() if p.is_dir())]
        return _opened(next(filter(is_bundle, folders), top), path)


def _opened(folder: Path, called: Path) -> Model:
    from onecycle.deploy.portable.predict import Model

    try:
        model = Model(folder)
    except Exception as error:  # of onnxruntime, json, the disk
        raise ExportError(f"{called} is no exported model, or a damaged one ({error}); export it again") from error
    said = model.manifest.get("sha256", {}).get(MODEL)  # none while an export is being made
    if said is not None and hashlib.sha256((folder / MODEL).read_bytes()).hexdigest() != said:
        raise ExportError(f"{called}: {MODEL} is not the file that was exported and verified; export it again")
    model.folder = called
    return model


def is_bundle(path: Path) -> bool:
    """Tell whether a folder is an exported model."""
    return (path / MANIFEST).is_file() and (path / MODEL).is_file()


def is_archived_bundle(path: Path) -> bool:
    """Tell whether a file is the .zip of an exported model, by the names of what it holds."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = {PurePosixPath(name).name for name in archive.namelist()}
    except (OSError, zipfile.BadZipFile):
        return False
    return {MANIFEST, MODEL} <= names


def is_zipped(path: Path) -> bool:
    """Tell whether a path is a .zip, which may hold an exported folder."""
    return path.suffix.lower() == ".zip" and path.is_file()
