"""One chunk of a batch prediction: its pictures through the model, its part written; nothing else is known here.

Any process on any machine that sees the pictures and the folder can do it, any number of times.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

from onecycle.deploy.exported import ExportedPredictor, open_predictor
from onecycle.deploy.of_files import HowRead
from onecycle.deploy.portable.predict import manifest_digest
from onecycle.deploy.predictor import Predictor
from onecycle.distributed.prediction.part import Part, read_part, write_part
from onecycle.distributed.prediction.plan import BatchPrediction, chunk_of
from onecycle.distributed.prediction.tries import Tries
from onecycle.errors import ArgumentError, DataError
from onecycle.foreign import Refused
from onecycle.settings import RUN_CONFIG, RUN_MODEL


def predict_chunk(bundle: Path, chunk: Path, *, threads: int = 0) -> Part:
    """See ``onecycle.distributed.predict_chunk``."""
    folder, number = chunk_of(chunk)
    batch = BatchPrediction.open(folder)
    if number >= batch.n_chunks:
        raise DataError(f"{folder} has {batch.n_chunks:,} chunks, from 0 on; received number {number:,}")
    try:
        there = read_part(batch, number)
    except Refused:
        there = None  # it is replaced
    return there or _predicted(bundle, batch, number, threads)


def _predicted(bundle: Path, batch: BatchPrediction, number: int, threads: int) -> Part:
    model, digest = _opened(str(bundle), threads)
    if digest != batch.plan.model:
        raise ArgumentError(
            f"{bundle} is not the model that {batch.folder} was begun with: name that one, or a new folder"
        )
    names, tries = batch.names(number), Tries(batch.tries(number))
    aside = set(tries.set_aside)
    tried = [i for i in range(len(names)) if i not in aside]
    paths = [batch.path(names[i]) for i in tried]

    def note(position: int | None) -> None:
        tries.note(None if position is None else tried[position])

    how = HowRead(before=note) if tries.n_before else HowRead(threads=threads or HowRead.threads)
    tries.begin()
    try:
        if model.is_regression:
            part = write_part(batch, number, names, model.numbers(paths, how=how), tried)
        else:
            part = write_part(batch, number, names, model.predict(paths, thresh=batch.plan.thresh, how=how), tried)
        tries.forget()
    finally:
        tries.end()
    return part


@lru_cache(maxsize=1)
def _opened(bundle: str, threads: int) -> tuple[Predictor | ExportedPredictor, str]:
    """Open a model once a process."""
    predictor = open_predictor(Path(bundle), threads=threads)
    return predictor, model_digest(Path(bundle), predictor)


def model_digest(bundle: Path, predictor: Predictor | ExportedPredictor) -> str:
    """Return the SHA-256 of a model: of an export that of its manifest, which has the network's; else of its file."""
    if isinstance(predictor, ExportedPredictor):
        return manifest_digest(predictor.model.manifest)
    stem = bundle / RUN_MODEL if (bundle / RUN_CONFIG).is_file() else bundle
    with open(stem.with_suffix(".safetensors"), "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
