"""An exported folder, or the .zip of one, as what opens one knows it: nothing here loads PyTorch."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from onecycle.errors import ArchiveError, ExportError
from onecycle.files import unfinished
from onecycle.foreign import Refused, inside, read_plain, strict_json
from onecycle.settings import MANIFEST, MODEL

if TYPE_CHECKING:
    from onecycle.deploy.portable.predict import Model

MOST_MEMBERS, MOST_BYTES, MOST_RATIO = 1_000, 4 * 2**30, 20.0
"""Of a .zip: more is no exported model. Its members are stored as they are, and a file of ONNX has 2 GiB at most."""


MOST_MANIFEST = 2**26
"""Bytes of what an exported model says of itself: 10,000 classes with their scores take some 3 million."""


def open_model(path: Path, *, threads: int = 0) -> Model:
    """Open an exported folder, or the .zip of one, by the code of this package; none that lies in it is run.

    A .zip is unpacked into a folder that is removed again, since all that is needed is in memory then.

    Args:
        path: either of them.
        threads: of the processor for one batch; 0: all.

    Raises:
        ExportError: it is none, or a damaged one.
        ArchiveError: a .zip that is refused: links, paths outside, more than an exported model can have.
    """
    if not is_zipped(path):
        return _opened(path, path, threads)
    from onecycle.data.sources.archives import unpack

    with unfinished(None, "onecycle_model") as scratch:
        try:
            into = scratch / "unpacked"
            top = unpack(path, into, max_members=MOST_MEMBERS, max_bytes=MOST_BYTES, max_ratio=MOST_RATIO)
        except ArchiveError as error:
            raise ArchiveError(f"{path} is refused: {error.why}; export the model again", error.why) from error
        folders = [top, *(p for p in top.iterdir() if p.is_dir())]
        return _opened(next(filter(is_bundle, folders), top), path, threads)


def _opened(folder: Path, called: Path, threads: int) -> Model:
    from onecycle.deploy.portable.predict import Model
    from onecycle.model.manifests import check_exported

    try:
        manifest = strict_json(read_plain(inside(folder, MANIFEST), MOST_MANIFEST), str(called / MANIFEST))
        check_exported(manifest, str(called / MANIFEST))
        network = read_plain(inside(folder, MODEL), MOST_BYTES)
    except (OSError, Refused) as error:
        raise ExportError(f"{called} is no exported model, or a damaged one ({error}); export it again") from error
    if _OTHER_FILES.search(network):
        raise ExportError(f"{called}: {MODEL} takes its weights from other files; export it again, into one file")
    del network
    try:
        model = Model(folder, threads=threads)
    except Exception as error:  # of onnxruntime, json, the disk
        raise ExportError(f"{called} is no exported model, or a damaged one ({error}); export it again") from error
    model.folder = called
    return model


_OTHER_FILES = re.compile(rb"(?:\x08|\x88\x80*\x00)location")
"""The key of ONNX's external data, as protobuf writes a text of 8 bytes: it names a file anywhere on the disk."""


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
