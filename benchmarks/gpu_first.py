"""The first minutes on a card: what it does, whether training keeps it busy, and whether its numbers are right.

Needs no data: pictures are drawn. Each part stands alone, so what fails is named and the rest is measured all the same.
Without a GPU the result is an honest blank; ``--try`` runs every part that a processor can, on toy sizes, and writes
nothing.

    python benchmarks/gpu_first.py [--networks resnet34 resnet50] [--batches 64 128 256] [--parts copies loader …]
"""

from __future__ import annotations

import argparse
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import report
from PIL import Image
from torch import Tensor, nn

from onecycle.data.augment.augmenter import BatchAugmenter
from onecycle.data.augment.transforms import get_transforms
from onecycle.data.batches import BatchLoader, imagenet_stats
from onecycle.data.bunch import ImageDataBunch
from onecycle.data.datasets import ImageDataset
from onecycle.data.pixels.resize import ResizeSpec
from onecycle.data.pixels.store import PicturesInMemory
from onecycle.learner.cnn import cnn_learner
from onecycle.model.cnn import create_cnn_model
from onecycle.model.fuse import fuse_batchnorm
from onecycle.train.device.precision import Precision, float32_products
from onecycle.train.log.progress import Progress
from onecycle.train.log.recorder import Recorder
from onecycle.train.loop import Trainer, set_training_mode
from onecycle.train.losses import CrossEntropyFlat
from onecycle.train.schedules import Constant

Row = dict[str, object]
C = 10


class Bench:
    """The card, and how much is asked of it."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.device = torch.device("cpu" if args.is_try else "cuda")
        self.networks, self.batches = args.networks, args.batches
        self.size, self.n_pictures, self.n_steps, self.mega = 224, 2048, 30, 256
        if args.is_try:
            self.networks, self.batches = ["resnet18"], [4]
            self.size, self.n_pictures, self.n_steps, self.mega = 32, 24, 2, 1

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def seconds(self, work: Callable[[], object], n: int, *, warm: int = 3) -> float:
        """Seconds of a call, over ``n`` calls with one wait at the end."""
        for _ in range(warm):
            work()
        self.wait()
        start = time.perf_counter()
        for _ in range(n):
            work()
        self.wait()
        return (time.perf_counter() - start) / n

    def loader(self, bs: int, *, ragged: bool = False) -> BatchLoader:
        """Drawn pictures with the usual transforms."""
        rng, side = np.random.default_rng(0), self.size * 8 // 7
        shapes = [(side, side - (i % 4) * side // 16 if ragged else side) for i in range(self.n_pictures)]
        pictures = [rng.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in shapes]
        store = PicturesInMemory(pictures, ResizeSpec(None))
        part = ImageDataset(store, np.arange(len(pictures)), None, list(range(C)))
        augmenter = BatchAugmenter(get_transforms(flip_vert=True)[0], size=self.size)
        how: dict[str, Any] = {"shuffle": True, "drop_last": True, "stats": imagenet_stats}
        return BatchLoader(part, bs=bs, augmenter=augmenter, device=self.device, **how)

    def trainer(self, arch: str) -> Trainer:
        """A network of random weights, all of which train, in bf16."""
        model = create_cnn_model(arch, C, pretrained=False).model
        model = model.to(self.device, memory_format=torch.channels_last)
        dtype = "bf16" if self.device.type == "cuda" else "fp32"
        return Trainer(model=model, layer_groups=list(model), loss_func=CrossEntropyFlat(), precision=Precision(dtype))

    def x(self, bs: int) -> Tensor:
        x = torch.randn(bs, 3, self.size, self.size, device=self.device)
        return x.contiguous(memory_format=torch.channels_last)


def card(bench: Bench) -> Iterator[Row]:
    """What the card is."""
    if bench.device.type == "cuda":
        about = torch.cuda.get_device_properties(bench.device)
        yield {"measure": "card", "value": about.name}
        yield {"measure": "memory, GiB", "value": about.total_memory / 2**30}
        yield {"measure": "compute capability", "value": f"{about.major}.{about.minor}"}
        yield {"measure": "CUDA, cuDNN", "value": f"{torch.version.cuda}, {torch.backends.cudnn.version()}"}


def products(bench: Bench) -> Iterator[Row]:
    """Products of square matrices in each arithmetic."""
    n = 64 * bench.mega
    for name, dtype, how in (
        ("fp32", torch.float32, "ieee"),
        ("tf32", torch.float32, "tf32"),
        ("bf16", torch.bfloat16, "ieee"),
    ):
        a = torch.randn(n, n, device=bench.device, dtype=dtype)
        with float32_products(how):
            took = bench.seconds(lambda a=a: a @ a, 10)
        yield {"measure": f"TFLOP/s, {name}", "value": 2 * n**3 / took / 1e12}


def copies(bench: Bench) -> Iterator[Row]:
    """Memory of the card, and the way to it."""
    host = torch.empty(bench.mega * 2**20, dtype=torch.uint8)
    there = host.to(bench.device)
    yield {
        "measure": "GB/s on the card (read and written)",
        "value": 2 * there.numel() / bench.seconds(there.clone, 20) / 1e9,
    }
    if bench.device.type == "cuda":
        pinned = host.pin_memory()
        for name, source in (("pinned", pinned), ("pageable", host)):
            took = bench.seconds(lambda source=source: there.copy_(source, non_blocking=True), 20)
            yield {"measure": f"GB/s to the card, {name}", "value": host.numel() / took / 1e9}


def loader(bench: Bench) -> Iterator[Row]:
    """The loader alone; target on an H100: 15,000 pictures/s, 8,000 ragged."""
    for name, ragged in (("one shape", False), ("ragged", True)):
        made = bench.loader(min(64, bench.n_pictures // 3), ragged=ragged)

        def epoch(made: BatchLoader = made) -> None:
            for _ in made:
                pass

        yield {
            "measure": f"loader alone, {name}, pictures/s",
            "value": bench.n_pictures / bench.seconds(epoch, 3, warm=1),
        }


def steps(bench: Bench) -> Iterator[Row]:
    """A bare step on one batch in memory, and training with the loader as a share of it."""
    for arch in bench.networks:
        for bs in bench.batches:
            trainer, x, y = bench.trainer(arch), bench.x(bs), torch.zeros(bs, dtype=torch.int64, device=bench.device)
            set_training_mode(trainer.model)
            trainer.ensure_optimizer()

            def bare(trainer: Trainer = trainer, x: Tensor = x, y: Tensor = y) -> None:
                with trainer.precision.autocast(bench.device):
                    logits = trainer.model(x)
                trainer.loss_func(logits.float(), y).backward()
                trainer.optimizer.step()
                trainer.optimizer.zero_grad()

            rate = bs / bench.seconds(bare, bench.n_steps)
            yield {"network": arch, "batch": bs, "measure": "bare step, pictures/s", "value": rate}
            took, n = train(bench, trainer, bs, bench.n_steps)
            yield {"network": arch, "batch": bs, "measure": "training over bare step", "value": n * bs / took / rate}
            if bench.device.type == "cuda":
                peak = torch.cuda.max_memory_allocated() / 2**30
                yield {"network": arch, "batch": bs, "measure": "peak memory, GiB", "value": peak}
                torch.cuda.reset_peak_memory_stats()


def train(bench: Bench, trainer: Trainer, bs: int, n_steps: int, *, warm: int = 5) -> tuple[float, int]:
    """Train over the loader; return the seconds of the steps after the first ones, and how many these were."""
    made, schedule, n, start = bench.loader(bs), Constant((1e-4,) * len(trainer.layer_groups)), 0, 0.0
    with trainer.running(Recorder(), progress=Progress(), callbacks=()):
        set_training_mode(trainer.model)
        while n < n_steps + warm:
            for batch in made:
                if n == warm:
                    bench.wait()
                    start = time.perf_counter()
                trainer.set_hypers(schedule, n)
                trainer.train_step(batch, 0)
                n += 1
                if n == n_steps + warm:
                    break
        bench.wait()
        return time.perf_counter() - start, n_steps


def waits(bench: Bench) -> Iterator[Row]:
    """Where ten training steps wait for the card: file and line of each."""
    if bench.device.type != "cuda":
        return
    trainer, bs = bench.trainer(bench.networks[0]), bench.batches[0]
    train(bench, trainer, bs, 5)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            train(bench, trainer, bs, 10, warm=0)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    places = Counter(f"{Path(w.filename).name}:{w.lineno}" for w in caught if "synchroniz" in str(w.message))
    yield {"measure": "places that wait in ten steps (the ends are the benchmark's own)", "value": len(places)}
    for place, n in places.most_common():
        yield {"measure": f"waits at {place}", "value": n}


def forecast(bench: Bench) -> Iterator[Row]:
    """Forecast of a plan over the time that it really took."""
    with tempfile.TemporaryDirectory() as folder:
        root, rng = Path(folder), np.random.default_rng(0)
        (root / "train").mkdir()
        lines = ["name,label"]
        for i in range(bench.n_pictures):
            pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).resize((256, 256)).save(root / "train" / f"{i}.jpg")
            lines.append(f"{i},{'ab'[i % 2]}")
        (root / "labels.csv").write_text("\n".join(lines) + "\n")
        data = ImageDataBunch.from_csv(
            root, folder="train", suffix=".jpg", size=bench.size, bs=min(64, bench.n_pictures // 3),
            ds_tfms=get_transforms(), device=str(bench.device),
        )  # fmt: skip
        learn = cnn_learner(data, bench.networks[0], pretrained=False, silent=True, path=folder)
        learn.unfreeze()
        start = time.perf_counter()
        plan = learn.fine_tune(epochs=4 if bench.device.type == "cuda" else 1, sizes=[bench.size])
        bench.wait()
        real_s = time.perf_counter() - start - plan.spent_s
        yield {
            "network": bench.networks[0],
            "measure": "forecast over real (measuring left out)",
            "value": plan.forecast_s / real_s,
        }


def exactness(bench: Bench) -> Iterator[Row]:
    """The error of float32 and of TF32 against float64, and batch-norms that cannot be folded."""
    for arch in bench.networks:
        torch.manual_seed(0)
        model, x = bench.trainer(arch).model.eval(), bench.x(4)
        with torch.inference_mode():
            exact = model.double()(x.double())
            model.float()
            for name, how in (("float32", "ieee"), ("TF32", "tf32")):
                with float32_products(how):
                    error = float((model(x).double() - exact).abs().max() / exact.abs().max())
                yield {"network": arch, "measure": f"largest error of {name}, of the largest logit", "value": error}
        folded = fuse_batchnorm(model[0], x)
        left = sum(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in folded.modules())
        yield {"network": arch, "measure": "batch-norms that are not folded", "value": left}


PARTS = {f.__name__: f for f in (card, products, copies, loader, steps, waits, forecast, exactness)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=["resnet34", "resnet50"])
    parser.add_argument("--batches", nargs="+", type=int, default=[64, 128, 256])
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--try", dest="is_try", action="store_true", help="toy sizes on the processor; writes nothing")
    args = parser.parse_args()
    if not args.is_try and not torch.cuda.is_available():
        report.write("gpu_first", "Not measured: no GPU in this run.", [{"measure": "no GPU in this run"}])
        return
    bench, rows = Bench(args), list[Row]()
    for name in args.parts:
        try:
            for row in PARTS[name](bench):
                rows.append({"part": name, **row})
                print(rows[-1], flush=True)
        except Exception:  # noqa: BLE001  # what fails on a new card is what this script is there to find
            traceback.print_exc()
            rows.append({"part": name, "measure": "failed", "value": traceback.format_exc(limit=-1).splitlines()[-1]})
        if not args.is_try:
            report.write("gpu_first", METHOD.format(size=bench.size, n=bench.n_steps), rows)


METHOD = """
    Drawn pictures, random weights, {size} px, bf16, channels_last, the usual transforms, all layers. Rates are over {n}
    calls after a few that do not count, with one wait for the card at the end.
"""

if __name__ == "__main__":
    main()
