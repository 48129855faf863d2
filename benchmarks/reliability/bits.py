"""Flipped bits and cut files: of a checkpoint, the JSON beside it, decoded pictures, an exported model and its .zip.

Each damage must be detected (an error of onecycle's own, or pictures decoded again) or without effect: what is loaded
then is the same to the bit.
"""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pictures
import rows
import torch
from rows import Row

from onecycle import vision
from onecycle.data.pixels.resize import ResizeSpec
from onecycle.data.pixels.store import PixelStore
from onecycle.deploy.exported import ExportedPredictor
from onecycle.errors import OnecycleError
from onecycle.settings import pixel_folder
from onecycle.train.checkpoint import load_checkpoint

FLIPS, SHORT_FLIPS = 200, 10


@dataclass
class Count:
    """What came of the damages of one file."""

    n: int = 0
    detected: int = 0
    harmless: int = 0
    wrong: list[str] = field(default_factory=list)


def damages(whole: bytes, n_flips: int, percents: range) -> Iterator[tuple[str, bytes]]:
    """Yield a file's content with one bit flipped, and cut, each with what was done."""
    rng = np.random.default_rng(0)
    for place in rng.integers(0, len(whole), n_flips).tolist():
        bit = int(rng.integers(8))
        data = bytearray(whole)
        data[place] ^= 1 << bit
        yield f"bit {bit} of byte {place:,}", bytes(data)
    for percent in percents:
        yield f"cut at {percent} %", whole[: len(whole) * percent // 100]


def attack(called: str, path: Path, load: Callable[[], Any], *, short: bool, restore: Callable[[], None] = list) -> Row:
    """Damage one file in many ways, and load what it belongs to each time.

    Args:
        called: what the file is.
        path: of it.
        load: returns what is loaded, for a comparison to the bit.
        short: few damages.
        restore: puts other files back that loading removes.
    """
    whole, right, count = path.read_bytes(), load(), Count()
    for what, data in damages(whole, SHORT_FLIPS if short else FLIPS, range(0, 100, 20 if short else 1)):
        restore()
        path.write_bytes(data)
        count.n += 1
        try:
            if load() == right:
                count.harmless += 1
            else:
                count.wrong.append(f"{what} loads something else")
        except OnecycleError:
            count.detected += 1
        except Exception as error:  # noqa: BLE001 - any other error is what this looks for
            count.wrong.append(f"{what}: {type(error).__name__}: {error}")
    path.write_bytes(whole)
    held = count.detected + count.harmless
    detail = f"{count.detected} refused, {count.harmless} without effect; {len(whole):,} bytes"
    return Row(
        f"bit flips and cuts: {called}", count.n, f"{held} of {count.n} detected or harmless",
        "; ".join([detail, *count.wrong[:3]]), not count.wrong,
    )  # fmt: skip


def of_checkpoint(learn: Any, *, short: bool) -> list[Row]:
    """Attack a saved model, without and with the JSON beside it."""
    path = learn.save("model", return_path=True)
    beside = path.with_suffix(".json")
    words = beside.read_bytes()

    def load() -> tuple[Any, dict[str, bytes]]:
        report = load_checkpoint(path.with_suffix(""), model=learn.model, optimizer=learn.trainer.ensure_optimizer())
        state = {name: t.numpy().tobytes() for name, t in learn.model.state_dict().items()}
        return report.manifest, state

    with_json = attack("JSON beside a checkpoint", beside, load, short=short)
    beside.unlink()
    alone = attack("checkpoint, without its JSON", path, load, short=short)
    beside.write_bytes(words)
    return [alone, with_json]


def of_store(folder: Path, *, short: bool) -> list[Row]:
    """Attack decoded pictures of one shape and of several, and the JSON beside them."""
    made = []
    for called, size in (("one shape", (24, 24)), ("several shapes", 20)):
        paths = [str(p) for p in sorted((folder / "data").glob("*.png"))]
        spec = ResizeSpec.make(size)

        def load(paths: list[str] = paths, spec: ResizeSpec = spec) -> list[bytes]:
            store = PixelStore(paths, spec, cache="disk", threads=1)
            store.fill(None)
            return [pixels.tobytes() for pixels in store.read_many(range(len(paths)))]

        load()
        file = max(pixel_folder().glob("*.bin"), key=lambda p: p.stat().st_mtime_ns)
        beside = file.with_suffix(".json")
        kept = {path: path.read_bytes() for path in (file, beside)}

        def restore(kept: dict[Path, bytes] = kept) -> None:
            for path, data in kept.items():
                path.write_bytes(data)

        for path, name in ((file, "decoded pictures"), (beside, "JSON beside them")):
            made.append(attack(f"{name}, {called}", path, load, short=short, restore=restore))
    return made


def of_export(learn: Any, *, short: bool) -> list[Row]:
    """Attack an exported folder's manifest and network, and its .zip."""
    bundle = learn.export("export", force=True)
    pixels = np.random.default_rng(0).integers(0, 256, (1, 24, 32, 3), dtype=np.uint8)

    def load(place: Path) -> Callable[[], Any]:
        def opened() -> Any:
            model = ExportedPredictor.load(place).model
            return model.manifest, [np.asarray(values).tobytes() for values in model.run(pixels)]

        return opened

    folder, archive = bundle.folder, bundle.archive
    assert archive is not None
    return [
        attack("manifest of an exported model", folder / "manifest.json", load(folder), short=short),
        attack("network of an exported model", folder / "model.onnx", load(folder), short=short),
        attack("exported model as one .zip", archive, load(archive), short=short),
    ]


def main(short: bool = False) -> list[Row]:
    """Attack every kind of file."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="bits-") as top, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = Path(top)
        os.environ["ONECYCLE_HOME"] = str(folder / "home")
        pictures.draw(folder / "data")
        data = vision.ImageDataBunch.from_csv(folder / "data", csv_labels="labels.csv", size=(24, 32), bs=8, seed=1)
        learn = vision.cnn_learner(data, vision.models.squeezenet1_1, pretrained=False, path=folder, silent=True)
        learn.fit(1)
        return [*of_checkpoint(learn, short=short), *of_store(folder, short=short), *of_export(learn, short=short)]


if __name__ == "__main__":
    rows.show(main)
