"""What workers do in tests, by names that their processes import quickly: chunks, until something ends them."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from onecycle.deploy.portable.predict import Model
from onecycle.distributed.prediction.chunk import predict_chunk


def die() -> None:
    """End this process as the system ends one when memory is short."""
    os.kill(os.getpid(), signal.SIGKILL)


@contextmanager
def dying_at(names: tuple[str, ...]) -> Iterator[None]:
    """Let the decoder end the process at some pictures."""
    real = Model.pixels

    def pixels(model: Model, file):
        if Path(file).name in names:
            die()
        return real(model, file)

    Model.pixels = pixels
    try:
        yield
    finally:
        Model.pixels = real


def killed(bundle: Path, chunk: Path, *, threads: int, folder: Path, seed: int):
    """A worker that is killed before a chunk, within it, or after its part is there, once for each file there."""
    left = taken(folder)
    if left is not None:
        when = random.Random(f"{seed} {left}").choice(["before", "within", "after"])
        if when == "within":
            with dying_at(("p02.png", "p08.png", "p12.png", "p16.png", "p21.png")):
                predict_chunk(bundle, chunk, threads=threads)
        if when == "after":
            predict_chunk(bundle, chunk, threads=threads)
        die()
    return predict_chunk(bundle, chunk, threads=threads)


def taken(folder: Path) -> str | None:
    """Take one of the files away, which no other process then gets; returns its name, None where there are no more."""
    for path in sorted(folder.iterdir()):
        with suppress(FileNotFoundError):
            path.unlink()
            return path.name
    return None


def poisoned(bundle: Path, chunk: Path, *, threads: int, names: tuple[str, ...]):
    """A worker that some pictures end."""
    with dying_at(names):
        return predict_chunk(bundle, chunk, threads=threads)


def deadly(bundle: Path, chunk: Path, *, threads: int):
    """A worker that one of the chunks ends, whatever it does."""
    if chunk.name == "part-00001.parquet":
        die()
    return predict_chunk(bundle, chunk, threads=threads)


def failing(bundle: Path, chunk: Path, *, threads: int):
    """A worker whose disk is full, say."""
    raise OSError(28, "No space left on device", str(chunk))
