"""``onecycle predict --out FOLDER``: any number of pictures, in parts that survive whatever ends their processes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from onecycle.cli.exit_codes import DATA
from onecycle.data.progress import counting_bar
from onecycle.deploy.exported import open_predictor
from onecycle.deploy.of_files import decide_by
from onecycle.distributed.prediction.chunk import model_digest, predict_chunk
from onecycle.distributed.prediction.manifest import Totals
from onecycle.distributed.prediction.part import PREDICTED, SET_ASIDE, UNREADABLE
from onecycle.distributed.prediction.plan import CHUNK, PARTS, BatchPrediction, Plan, listed
from onecycle.distributed.prediction.workers import Work, predict_parts
from onecycle.errors import ArgumentError
from onecycle.files import NO_LOCK, locked
from onecycle.text import plural, shown, shown_path

if TYPE_CHECKING:
    from onecycle.cli.screen import Screen

_LOCK = ".lock"
_NAMED = 10  # pictures in a warning


@dataclass(frozen=True)
class InParts:
    """How pictures are predicted into a folder of parts."""

    workers: int = 1  # processes; 0: write the plan alone, for a scheduler that calls ``predict_chunk``
    chunk: int | None = None  # pictures of a part; None: as in the plan that is there, or 1000
    thresh: float | None = None  # tags: predict one from this probability on
    work: Work = predict_chunk  # what a worker calls for a chunk

    def run(
        self,
        model: Path,
        paths: Sequence[str],
        folder: Path,
        screen: Screen,
        *,
        say_labels: Callable[[Counter[str]], object],
    ) -> int:
        """Predict pictures into a folder of parts; the same call again does only what is missing.

        Args:
            model: folder of a run, an exported folder, or its .zip.
            paths: of the pictures, each once.
            folder: new, empty, or of an earlier call with the same model, pictures and options.
            screen: where lines go.
            say_labels: shows how often each label is predicted.

        Returns:
            3 where pictures could not be read or were set aside, else 0.

        Raises:
            ArgumentError: the folder holds something else, or was begun with another model, other pictures or options.
            DistributedError: parts are missing, since their processes ended over and over.
        """
        with screen.status(f"loading {model.name}"):
            wanted = self._plan(model, paths)
        with _alone(folder, screen):
            batch = BatchPrediction.begun(folder, paths, wanted, chunk_asked=self.chunk is not None)
            with screen.status("reading the parts that are there"):
                totals = Totals(batch)
            there, missing = totals.statuses.total(), len(totals.missing)
            about = {"folder": str(folder), "pictures": wanted.pictures, "parts": batch.n_chunks, "missing": missing}
            screen.event("planned", **about)
            if missing and self.workers == 0:
                _say_plan(screen, model, batch, missing)
                return 0
            self._predict(model, totals, screen)
            written = totals.write()
        screen.event("predicted", **totals.to_dict(), now=wanted.pictures - there, manifest=str(written))
        _say(screen, totals, there, say_labels)
        return DATA if totals.statuses[UNREADABLE] + totals.statuses[SET_ASIDE] else 0

    def _plan(self, model: Path, paths: Sequence[str]) -> Plan:
        predictor = open_predictor(model)
        if self.thresh is not None:  # which refuses what the model cannot have
            decide_by(predictor, np.zeros((0, len(predictor.classes)), np.float32), (), thresh=self.thresh)
        source, base = listed(paths)
        return Plan(
            pictures=len(paths),
            source=source,
            base=base,
            chunk=self.chunk or CHUNK,
            model=model_digest(model, predictor),
            kind="numbers" if predictor.is_regression else "tags" if predictor.is_multi else "classes",
            classes=[str(c) for c in predictor.classes],
            thresh=self.thresh,
        )

    def _predict(self, model: Path, totals: Totals, screen: Screen) -> None:
        batch, there = totals.batch, totals.statuses.total()

        def ended(number: int, how: str) -> None:
            name = batch.part(number).name
            screen.event("worker_ended", part=name, how=how)
            screen.warn(f"a worker process ended ({how}) while it had {name}: another one goes on")

        with counting_bar("predicting", batch.plan.pictures, there) as advance:
            parts = predict_parts(model, batch, totals.missing, workers=self.workers, ended=ended, work=self.work)
            for part in parts:
                totals.add(part)
                advance(part.pictures)
                name, done = batch.part(part.number).name, totals.statuses.total()
                screen.event("part", part=name, pictures=part.pictures, done=done)


@contextmanager
def _alone(folder: Path, screen: Screen) -> Iterator[None]:
    """Wait while another process of this command predicts into the folder."""
    if folder.exists() and not folder.is_dir():
        raise ArgumentError(f"--out {folder} is a file: name a folder")
    folder.mkdir(parents=True, exist_ok=True)
    text = f"another process predicts into {folder}: waiting for it to finish"
    with ExitStack() as held:
        with suppress(*NO_LOCK):  # on a disk without locks two processes do some work twice, and write the same
            held.enter_context(locked(folder / _LOCK, waiting=lambda: screen.say(text)))
        yield


# -- what is said ---------------------------------------------------------------------------------------------


def _say_plan(screen: Screen, model: Path, batch: BatchPrediction, n_missing: int) -> None:
    last = batch.part(batch.n_chunks - 1).name
    screen.row("plan", f"{plural(batch.plan.pictures, 'picture')} in {plural(batch.n_chunks, 'part')}, to {last}")
    screen.row("missing", plural(n_missing, "part"))
    screen.row("written", shown_path(batch.folder), always=True)
    screen.row("next", "for each part, anywhere that sees the pictures and this folder:")
    first = batch.folder / PARTS / batch.part(0).name
    screen.command(f"onecycle.distributed.predict_chunk({str(model)!r}, {str(first)!r})")
    screen.row("", "and then this command without --workers 0, which does what is missing and sums up")


def _say(screen: Screen, totals: Totals, there: int, say_labels: Callable[[Counter[str]], object]) -> None:
    plan, folder = totals.batch.plan, totals.batch.folder
    if totals.labels:
        say_labels(totals.labels)
        screen.say()
    before = f", of which {there:,} were there before" if there else ""
    screen.row("predicted", f"{totals.statuses[PREDICTED]:,} of {plural(plan.pictures, 'picture')}{before}")
    screen.row("written", f"{shown_path(folder / PARTS)}: {plural(totals.batch.n_chunks, 'part')}", always=True)
    if n := totals.statuses[UNREADABLE]:
        screen.warn(f"{n:,} of {plan.pictures:,} files could not be read; their rows in the parts say why")
    if n := totals.statuses[SET_ASIDE]:
        named = shown(sorted(totals.set_aside), most=_NAMED)
        screen.warn(f"{plural(n, 'picture')} ended the process three times when read, and were set aside: {named}")
    screen.row("next", "all of it as one table:")
    screen.command(f'python -c "import pandas; print(pandas.read_parquet({str(folder / PARTS)!r}))"')
