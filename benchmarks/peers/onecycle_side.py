"""onecycle's side: what a user writes in a notebook, told to say what it reached and when.

python onecycle_side.py JOB.json
"""

from __future__ import annotations

import copy
import gc
import time
import tracemalloc
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import shared
import torch
from shared import BareStep, Job, StepClock, now, tell
from torch import nn

from onecycle.data.augment.transforms import get_transforms
from onecycle.data.batches import imagenet_stats
from onecycle.data.bunch import ImageDataBunch
from onecycle.data.data_block import ImageList
from onecycle.errors import OnecycleWarning
from onecycle.learner.cnn import cnn_learner
from onecycle.learner.fine_tune.plan import HEAD
from onecycle.learner.fine_tune.run import StageCallback  # where earlier states have it, too
from onecycle.learner.learner import Learner
from onecycle.train.device.host_memory import keep_freed_memory
from onecycle.train.loop import Callback
from onecycle.train.metrics import fbeta

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def lesson_tfms() -> Any:
    """The lesson's transforms."""
    return get_transforms(flip_vert=True, max_lighting=0.1, max_zoom=1.05, max_warp=0.0)


def bunch(job: Job, tfms: Any = None) -> ImageDataBunch:
    """The given files, split as given."""
    items = job["train"] + job["valid"]
    n = len(job["train"])
    return (
        ImageList([path for path, _ in items], job["home"])
        .split_by_idxs(range(n), range(n, len(items)))
        .label_from_list([" ".join(tags) for _, tags in items], label_delim=" ", classes=job["classes"])
        .transform(tfms, size=job["size"])
        .databunch(bs=job["bs"], val_bs=64, seed=job["seed"])
    )


def learner(job: Job, data: ImageDataBunch, **options: Any) -> Learner:
    """``cnn_learner`` on the packaged weights (or random ones)."""
    if not job.get("weights"):
        data.normalize(imagenet_stats)
    return cnn_learner(
        data,
        job.get("arch", shared.ARCH),
        pretrained=job.get("weights") or False,
        path=job["home"],
        silent=True,
        **options,
    )


class Tell(StageCallback):
    """Says the quality after each epoch, and when the head's stage is done."""

    def on_epoch_end(self, trainer: Any, row: Any) -> None:
        tell(f2=row.metrics[0], epoch=row.epoch + 1)

    def on_stage_end(self, stage: Any) -> None:
        if stage.trains == HEAD:
            tell(phase="head trained")


class Steps(Callback):
    """Ends the fit once the clock has counted its steps; with ``bare``, a bare step follows each of them."""

    def __init__(self, clock: StepClock, bare: BareStep | None = None) -> None:
        self.clock, self.bare, self.bare_s = clock, bare, 0.0

    def on_batch_end(self, trainer: Any, loss: torch.Tensor) -> None:
        if self.bare is not None:
            start = now()
            self.bare()
            self.bare_s += now() - start if self.clock.steps >= self.clock.n_warm else 0.0
        if self.clock.step():
            trainer.stop_training = True

    def rates(self, bs: int) -> tuple[float, float | None]:
        """Pictures a second of onecycle, and of the bare step where there is one."""
        n, seconds = self.clock.n * bs, self.clock.end - self.clock.begin
        return n / (seconds - self.bare_s), n / self.bare_s if self.bare_s else None


def quality(job: Job) -> None:
    """The recipe: ``fine_tune`` with nothing chosen but the epochs, until the parent has heard enough."""
    tell(phase="imported")
    data = bunch(job, lesson_tfms())
    data.prepare()
    tell(phase="decoded")
    learn = learner(job, data, metrics=[partial(fbeta, thresh=0.2)])
    tell(phase="network")
    learn.callbacks.append(Tell())
    learn.fine_tune(job["epochs"])


def fit_steps(learn: Learner, job: Job, bare: BareStep | None = None) -> Steps:
    """Train all layers until the clock has counted ``n`` steps after ``n_warm``."""
    counted = Steps(StepClock(job["n_warm"], job["n"]), bare)
    learn.fit_one_cycle(100, 1e-3, callbacks=counted)
    return counted


def bare_step(learn: Learner, precision: str, channels_last: bool) -> BareStep:
    """A bare step on a copy of the learner's network and one of its batches, in the given precision and layout."""
    batch = learn.data.train_dl.replace(stats=learn.norm_stats).batch_at(0, 0)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model = copy.deepcopy(learn.model).to(memory_format=layout)
    batch.x = batch.x.contiguous(memory_format=layout)
    dtype = DTYPES.get(precision)
    loss_func = nn.BCEWithLogitsLoss() if learn.data.is_multi else nn.CrossEntropyLoss()
    return BareStep(model, batch.x, batch.y, loss_func, dtype)


def steps(job: Job) -> None:
    """Unfrozen steps alone, then in turn with bare ones."""
    data = bunch(job, lesson_tfms())
    data.prepare()
    learn = learner(job, data, **job.get("learner", {}))
    learn.unfreeze()
    learn.fit_one_cycle(100, 1e-3, callbacks=Steps(StepClock(0, 1)))  # chooses the precision
    chosen = learn.trainer.precision
    tell(speed=chosen.describe(), precision=chosen.dtype, channels_last=chosen.channels_last)
    bare = bare_step(learn, chosen.dtype, chosen.channels_last)
    cpu_start = time.process_time()
    rate = fit_steps(learn, job).rates(job["bs"])[0]
    cpu_s = time.process_time() - cpu_start
    tell(rate=rate, cpu_rate=(job["n_warm"] + job["n"]) * job["bs"] / cpu_s)
    beside, bare_rate = fit_steps(learn, job, bare).rates(job["bs"])
    tell(lockstep=beside, bare=bare_rate)


def bare(job: Job) -> None:
    """Bare steps alone, in a process that has never changed how freed memory is kept."""
    learn = learner(job, bunch(job, lesson_tfms()))
    learn.unfreeze()
    tell(bare_alone=bare_step(learn, job["precision"], job["channels_last"]).rate(job["n_warm"], job["n"]))


def loader(job: Job) -> None:
    """The loader alone: the first epoch (decoding included), then several more."""
    data = bunch(job, lesson_tfms())
    data.backbone_stats = ((0.5,) * 3, (0.5,) * 3)
    with keep_freed_memory():  # as in every fit
        for epoch in range(job["epochs"]):
            start, cpu_start, n = time.perf_counter(), time.process_time(), 0
            if epoch == 0:
                data.prepare()
            batches = data.train_dl
            batches.set_epoch(epoch)
            for x, _ in batches:
                n += len(x)
            cpu_s = time.process_time() - cpu_start
            tell(epoch=epoch, rate=n / (time.perf_counter() - start), cpu_rate=n / cpu_s)


def memory(job: Job) -> None:
    """Some unfrozen steps; the parent watches the memory."""
    if "folder" in job:  # one folder a class
        data = ImageDataBunch.from_folder(job["folder"], valid_pct=0.2, seed=1, bs=job["bs"])
    else:
        data = bunch(job, lesson_tfms())
    data.prepare()
    tell(phase="data")
    learn = learner(job, data)
    learn.unfreeze()
    fit_steps(learn, {**job, "n_warm": 1})
    tell(phase="trained")
    if job["validate"]:
        learn.validate()


class TellMemory(Callback):
    """Says the resident size of this process after each epoch."""

    def on_epoch_end(self, trainer: Any, row: Any) -> None:
        tell(epoch=row.epoch + 1, rss_mb=rss_mb())


def growth(job: Job) -> None:
    """Many epochs of few pictures, all layers; resident size after each."""
    learn = learner(job, bunch(job, lesson_tfms()))
    learn.unfreeze()
    learn.fit_one_cycle(job["epochs"], 1e-4, callbacks=TellMemory())


def rows(job: Job) -> None:
    """What a table of many rows costs: reading and labelling it, the first batch, and an epoch's own work."""
    before, start = rss_mb(), time.perf_counter()
    data = big_bunch(job, job["csv"])
    tell(bunch_s=time.perf_counter() - start)
    next(iter(data.train_dl))
    tell(first_batch_s=time.perf_counter() - start, rss_mb=rss_mb() - before)
    batches, start = data.train_dl, time.perf_counter()
    order = batches.order(1)
    for i in range(0, len(order), job["bs"]):
        batches.dataset.targets[order[i : i + job["bs"]]]
    tell(order_s=time.perf_counter() - start)
    if job["decode"]:
        start = time.perf_counter()
        data.prepare()
        tell(decode_s=time.perf_counter() - start)
        start = time.perf_counter()
        for _ in batches:
            pass
        tell(epoch_s=time.perf_counter() - start)


def table(job: Job) -> None:
    """Bytes that the labelled table keeps, as Python's own accounting of allocations sees them."""
    big_bunch(job, job["small_csv"])  # what is made once, whatever the table
    gc.collect()
    tracemalloc.start()
    data = big_bunch(job, job["csv"])
    gc.collect()
    tell(table_bytes=tracemalloc.get_traced_memory()[0], n=len(data.labels))


def big_bunch(job: Job, csv: str) -> ImageDataBunch:
    """Pictures and labels of one table below ``folder``."""
    return ImageDataBunch.from_csv(
        job["folder"], folder="img", suffix=".png", csv_labels=csv, bs=job["bs"], size=job["size"], seed=1
    )


def rss_mb() -> float:
    """Resident size of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def gpu(job: Job) -> None:
    """Rate of training steps on the GPU against a bare step, share of the time it is busy, the lesson's epochs."""
    if not torch.cuda.is_available():
        tell(gpu=None)
        return
    start = now()
    data = bunch(job, lesson_tfms())
    data.prepare()
    learn = learner(job, data, precision="bf16")
    if job["lesson"]:
        for frozen, epochs in job["lesson"]:
            (learn.freeze if frozen else learn.unfreeze)()
            learn.fit_one_cycle(epochs)
        tell(lesson_s=now() - start)
        return
    learn.unfreeze()
    tell(rate=fit_steps(learn, job).rates(job["bs"])[0])
    bare = bare_step(learn, "bf16", learn.trainer.precision.channels_last)
    tell(bare=bare.rate(job["n_warm"], job["n"]))
    tell(busy=shared.busy_share(lambda: fit_steps(learn, {**job, "n_warm": 1}), 1))


if __name__ == "__main__":
    warnings.simplefilter("ignore", OnecycleWarning)
    np.random.seed(0)
    shared.main({f.__name__: f for f in (quality, steps, bare, loader, memory, growth, rows, table, gpu)})
