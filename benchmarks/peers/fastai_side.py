"""fastai's side: its own data block, loaders, transforms, learner and ``fine_tune``, as its documentation shows them.

python fastai_side.py JOB.json
"""

from __future__ import annotations

import time
from typing import Any

import shared
import torch
from fastai.vision.all import (
    AccumMetric,
    Callback,
    CancelFitException,
    CategoryBlock,
    DataBlock,
    DataLoaders,
    ImageBlock,
    ImageDataLoaders,
    IndexSplitter,
    ItemGetter,
    Learner,
    MultiCategoryBlock,
    Normalize,
    Resize,
    aug_transforms,
    vision_learner,
)
from shared import Job, tell


def loaders(job: Job, tfms: list[Any] | None = None) -> DataLoaders:
    """Loaders of the given files; ``workers`` None leaves the number of processes to fastai."""
    items = job["train"] + job["valid"]
    n = len(job["train"])
    multi = job.get("multi", True)
    block = DataBlock(
        (ImageBlock, MultiCategoryBlock(vocab=job["classes"]) if multi else CategoryBlock),
        get_x=ItemGetter(0),
        get_y=ItemGetter(1),
        splitter=IndexSplitter(range(n, len(items))),
        item_tfms=Resize(job["size"]),
        batch_tfms=tfms,
    )
    return block.dataloaders(items, bs=job["bs"], num_workers=job.get("workers"))


def lesson_tfms() -> list[Any]:
    """The lesson's transforms in fastai v2's words."""
    return aug_transforms(flip_vert=True, max_lighting=0.1, max_zoom=1.05, max_warp=0.0)


def learner(job: Job, dls: DataLoaders) -> Learner:
    """``vision_learner`` on the packaged weights (or random ones)."""
    weights = job.get("weights")
    extra = {"pretrained_cfg_overlay": {"file": weights}} if weights else {}
    metric = AccumMetric(shared.sample_f2, flatten=False) if job.get("multi", True) else None
    learn = vision_learner(
        dls, job.get("arch", shared.ARCH), pretrained=bool(weights), metrics=metric, path=job["home"], **extra
    )
    if not weights:  # random weights: fastai adds Normalize for pretrained networks only
        dls.add_tfms([Normalize.from_stats((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))], "after_batch")
    if job.get("bf16"):
        learn.to_bf16()
    return learn


class Tell(Callback):
    """Says the quality after each epoch."""

    order = 90  # after fastai's own recorder

    def after_epoch(self) -> None:
        tell(f2=float(self.learn.recorder.values[-1][-1]), epoch=len(self.learn.recorder.values))


class Steps(Callback):
    """Ends the fit once the clock has counted its steps."""

    order = 90

    def __init__(self, clock: shared.StepClock) -> None:
        self.clock = clock

    def after_batch(self) -> None:
        if self.training and self.clock.step():
            raise CancelFitException


def quality(job: Job) -> None:
    """The default recipe: one frozen epoch, then all layers."""
    tell(phase="imported")
    learn = learner(job, loaders(job, aug_transforms()))
    with learn.no_bar(), learn.no_logging():
        learn.fine_tune(job["epochs"], cbs=Tell())


def fit_steps(learn: Learner, n_warm: int, n: int) -> shared.StepClock:
    """Train all layers until the clock has counted ``n`` steps."""
    clock = shared.StepClock(n_warm, n)
    learn.unfreeze()
    with learn.no_bar(), learn.no_logging():
        learn.fit_one_cycle(100, 1e-3, cbs=Steps(clock))
    return clock


def steps(job: Job) -> None:
    """Unfrozen training steps, data path included."""
    learn = learner(job, loaders(job, lesson_tfms()))
    clock = fit_steps(learn, job["n_warm"], job["n"])
    tell(fastai_rate=clock.rate(job["bs"]))


def loader(job: Job) -> None:
    """The loader alone: the first epoch, then several more."""
    stats = Normalize.from_stats((0.5,) * 3, (0.5,) * 3)
    dls = loaders(job, [*lesson_tfms(), stats])
    for epoch in range(job["epochs"]):
        start, n = time.perf_counter(), 0
        for x, _ in dls.train:
            n += len(x)
        tell(epoch=epoch, rate=n / (time.perf_counter() - start))


def memory(job: Job) -> None:
    """Some unfrozen steps; the parent watches the memory."""
    if "folder" in job:  # one folder a class
        stats = Normalize.from_stats((0.5,) * 3, (0.5,) * 3)
        dls = ImageDataLoaders.from_folder(job["folder"], valid_pct=0.2, seed=1, bs=job["bs"], batch_tfms=stats)
    else:
        dls = loaders(job, lesson_tfms())
    tell(phase="data")
    learn = learner(job, dls)
    fit_steps(learn, 1, job["n"])
    tell(phase="trained")
    if job["validate"]:
        with learn.no_bar(), learn.no_logging():
            learn.validate()


def gpu(job: Job) -> None:
    """Rate of training steps on the GPU, share of the time it is busy, and the lesson's epochs."""
    if not torch.cuda.is_available():
        tell(gpu=None)
        return
    start = shared.now()
    learn = learner(job, loaders(job, lesson_tfms()))
    if not job["lesson"]:
        tell(rate=fit_steps(learn, job["n_warm"], job["n"]).rate(job["bs"]))
        tell(busy=shared.busy_share(lambda: fit_steps(learn, 1, job["n"]), 1))
        return
    with learn.no_bar(), learn.no_logging():
        for frozen, epochs in job["lesson"]:
            (learn.freeze if frozen else learn.unfreeze)()
            learn.fit_one_cycle(epochs)
    tell(lesson_s=shared.now() - start)


if __name__ == "__main__":
    shared.main({"quality": quality, "steps": steps, "loader": loader, "memory": memory, "gpu": gpu})
