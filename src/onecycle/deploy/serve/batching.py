"""Pictures of all requests through one network: those that wait when it becomes free form its next batch."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from math import ceil
from time import perf_counter

import numpy as np

from onecycle.deploy.portable.predict import BATCH, Model
from onecycle.deploy.serve.limits import Refused


@dataclass(frozen=True)
class _Waiting:
    pixels: np.ndarray  # uint8 (H, W, 3)
    answer: asyncio.Future[tuple[np.ndarray, ...]]


class Batcher:
    """Runs a model in one thread, on batches of what waits. No picture waits for others to come.

    Args:
        model: that answers.
        most_waiting: pictures that may be admitted at one time.
        ran: is told the number of pictures of each batch.
    """

    def __init__(self, model: Model, most_waiting: int, ran: Callable[[int], object] = lambda _: None) -> None:
        self._model, self._most, self._ran = model, most_waiting, ran
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="network")
        self._queue: deque[_Waiting] = deque()
        self._filled = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._seconds = 0.05  # a picture, a running mean
        self.admitted = 0

    def start(self) -> None:
        """Answer from now on; inside the event loop."""
        self._task = asyncio.create_task(self._work())

    async def stop(self) -> None:
        """Answer nothing more."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        self._thread.shutdown(wait=True)

    def admit(self, n: int) -> None:
        """Count pictures in, before they are decoded; ``leave`` counts them out.

        Raises:
            Refused: 503, as many wait as may.
        """
        if self.admitted + n > self._most:
            seconds = min(60, max(1, ceil(self.admitted * self._seconds)))
            raise Refused(503, "too many pictures are waiting; try again", {"Retry-After": str(seconds)})
        self.admitted += n

    def leave(self, n: int) -> None:
        """Count pictures out."""
        self.admitted -= n

    async def run(self, pixels: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return what ``Model.run`` does, for one picture uint8 (H, W, 3): probabilities (C,), the label, unlike."""
        waiting = _Waiting(pixels, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        self._filled.set()
        return await waiting.answer

    async def _work(self) -> None:
        while True:
            await self._filled.wait()
            batch = self._next()
            if not self._queue:
                self._filled.clear()
            await self._answer(batch)

    def _next(self) -> list[_Waiting]:
        """Take the first that waits, and what follows it with the same shape."""
        batch = [self._queue.popleft()]
        while self._queue and len(batch) < BATCH and self._queue[0].pixels.shape == batch[0].pixels.shape:
            batch.append(self._queue.popleft())
        return batch

    async def _answer(self, batch: Sequence[_Waiting]) -> None:
        started = perf_counter()
        stacked = np.stack([w.pixels for w in batch])
        try:
            answers = await asyncio.get_running_loop().run_in_executor(self._thread, self._model.run, stacked)
        except Exception as error:  # noqa: BLE001 - of onnxruntime: it is the request's, and the next batch is run as ever
            for waiting in batch:
                if not waiting.answer.done():
                    waiting.answer.set_exception(error)
            return
        self._seconds += 0.2 * ((perf_counter() - started) / len(batch) - self._seconds)
        self._ran(len(batch))
        for waiting, *answer in zip(batch, *answers, strict=True):
            if not waiting.answer.done():  # its client may have left
                waiting.answer.set_result(tuple(answer))
