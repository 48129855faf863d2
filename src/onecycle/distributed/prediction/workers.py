"""Processes of this machine that predict chunks; one that ends is started again, one chunk cannot stop the others."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from onecycle.deploy.folder import is_bundle, is_zipped
from onecycle.distributed.prediction.chunk import predict_chunk
from onecycle.distributed.prediction.part import Part
from onecycle.distributed.prediction.plan import BatchPrediction
from onecycle.distributed.prediction.tries import Tries
from onecycle.errors import DistributedError
from onecycle.text import shown

MOST_ENDS = 6
"""Processes that a chunk may end without that a picture is set aside."""

_IMPORTED = ("pandas", "pyarrow.parquet", "scipy.special")
"""What a part and its calibration load when they are first made: pyarrow asks pandas."""

Work = Callable[..., Part]


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    number: int  # of the chunk that it has


def predict_parts(
    bundle: Path,
    batch: BatchPrediction,
    missing: Sequence[int],
    *,
    workers: int,
    ended: Callable[[int, str], object],
    work: Work = predict_chunk,
) -> Iterator[Part]:
    """Predict chunks in processes, and yield each part once it is there, in the order in which they come.

    Each worker takes the next chunk when it is done with one, so that of n equal workers one does k, k + n and so on.

    Args:
        bundle: the model.
        batch: the plan.
        missing: numbers of the chunks.
        workers: processes; each has an equal share of the cores for its network.
        ended: told the number of a chunk whose process ended, and how.
        work: what a worker calls for a chunk.

    Raises:
        DistributedError: at the end, chunks that ended their processes over and over.
        OnecycleError, OSError: what ``predict_chunk`` raised in a worker; the others are stopped.
    """
    threads = max(1, (os.cpu_count() or 1) // workers)
    waiting, active, ends = deque(missing), list[_Worker](), _Ends(batch)
    try:
        while waiting or active:
            while waiting and len(active) < min(workers, len(missing)):
                active.append(_started(bundle, batch, waiting.popleft(), threads, work))
            ready = wait([worker.connection for worker in active])
            for worker in [w for w in active if w.connection in ready]:
                try:
                    answer = worker.connection.recv()
                except (EOFError, OSError):
                    active.remove(worker)
                    ended(worker.number, _how(worker))
                    if ends.again(worker.number):
                        waiting.append(worker.number)
                    continue
                if isinstance(answer, BaseException):
                    raise answer
                if waiting:
                    worker.number = waiting.popleft()
                    _send(worker, batch)
                else:
                    active.remove(worker)
                    worker.connection.close()  # at which it ends
                    worker.process.join()
                yield answer
    finally:
        for worker in active:
            worker.process.kill()
            worker.process.join()
    ends.check()


class _Ends:
    """Processes that ended before their chunk was done, and which chunks are given up for that."""

    def __init__(self, batch: BatchPrediction) -> None:
        self.batch = batch
        self.given_up: list[int] = []
        self._since: dict[int, tuple[int, int]] = {}  # by chunk: pictures set aside, processes that ended since

    def again(self, number: int) -> bool:
        """Count the end of a process, and say whether its chunk is tried again."""
        aside = len(Tries(self.batch.tries(number)).set_aside)
        before, n = self._since.get(number, (0, 0))
        self._since[number] = aside, (n + 1 if before == aside else 1)
        if self._since[number][1] < MOST_ENDS:
            return True
        self.given_up.append(number)
        return False

    def check(self) -> None:
        """Name the chunks that were given up.

        Raises:
            DistributedError: there are some.
        """
        if self.given_up:
            names = shown([self.batch.part(n).name for n in sorted(self.given_up)])
            raise DistributedError(
                f"{self.batch.folder}: for {names}, {MOST_ENDS} processes in a row ended while no picture was being "
                "read; memory may be short: fewer --workers may help. The same command does what is missing"
            )


def _how(worker: _Worker) -> str:
    worker.connection.close()
    worker.process.join()
    code = worker.process.exitcode or 0
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _started(bundle: Path, batch: BatchPrediction, number: int, threads: int, work: Work) -> _Worker:
    ours, theirs = multiprocessing.Pipe()
    network = "onnxruntime" if is_bundle(bundle) or is_zipped(bundle) else "timm"
    process = _process(_work, (theirs, bundle, threads, work), [__name__, *_IMPORTED, network])
    theirs.close()
    worker = _Worker(process, ours, number)
    _send(worker, batch)
    return worker


def _send(worker: _Worker, batch: BatchPrediction) -> None:
    with suppress(OSError):  # it ended; that is seen where its answer is waited for
        worker.connection.send(batch.part(worker.number))


def _process(target: Callable[..., None], args: tuple[object, ...], imports: list[str]) -> BaseProcess:
    """Start a process that shares nothing with this one; on Linux ``imports`` are paid once for all of them."""
    if sys.platform != "linux":
        other = multiprocessing.get_context("spawn").Process(target=target, args=args, daemon=True)
        other.start()
        return other
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(imports)
    process = context.Process(target=target, args=args, daemon=True)
    process.start()
    return process


def _work(connection: Connection, bundle: Path, threads: int, work: Work) -> None:
    """Predict chunks until the connection is closed: what a worker is."""
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all; who started this one ends it
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - bars are drawn by who started this
    warnings.simplefilter("ignore")  # who started this has loaded the same model, and said them
    torch.set_num_threads(threads)
    while True:
        try:
            chunk = connection.recv()
        except EOFError:
            return
        try:
            answer: object = work(bundle, chunk, threads=threads)
        except Exception as error:  # noqa: BLE001 - it is raised again where this process was started
            answer = error
        connection.send(answer)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
