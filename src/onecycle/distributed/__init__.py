"""Work that several processes or machines share: training that is joined, prediction in chunks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onecycle.distributed.prediction.part import Part

__all__ = ["predict_chunk"]


def predict_chunk(bundle: str | Path, chunk: str | Path, *, threads: int = 0) -> Part:
    """Predict the pictures of one chunk and write them as one file: the step that any scheduler can call, and repeat.

    ``onecycle predict RUN PICTURES --out FOLDER --workers 0`` writes the plan; then this is called once for each chunk,
    anywhere and in any order, and the command again without ``--workers 0`` does what is missing and sums up. A file
    that is there and whole is left as it is. A picture that ended the process three times is set aside.

    Args:
        bundle: the run's folder, an exported folder, or its .zip.
        chunk: the file that the chunk becomes: ``FOLDER/parts/part-00042.parquet``.
        threads: of the processor for the network; 0: all.

    Returns:
        How many pictures were predicted, could not be read, or were set aside.

    Raises:
        DataError: there is no plan, or it has no such chunk.
        ArgumentError: the plan was made for another model.
        CheckpointError, ExportError, ArchiveError: the model cannot be loaded.
        OutputError: the file cannot be written.
    """
    from onecycle.distributed.prediction.chunk import predict_chunk as predicted

    return predicted(Path(bundle), Path(chunk), threads=threads)
