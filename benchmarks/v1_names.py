"""The table of fastai v1's names: where each one is here, and what differs. ``docs/fastai-v1-names.md`` is made by it.

python benchmarks/v1_names.py            writes the page anew (after names were added or moved)
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from onecycle.fastai1 import names, scope
from onecycle.fastai1.modules import module
from onecycle.fastai1.sources import place
from onecycle.model.backbones import Architecture

PAGE = Path(__file__).resolve().parents[1] / "docs" / "fastai-v1-names.md"

DIFFERS = {
    "Image": "a uint8 tensor is divided by 255; the network sees pixels in whole grey levels",
    "open_image": "a broken file is an error that names it",
    "ResizeMethod": "an `Enum`, no `IntEnum`; the name is taken, too",
    "RandTransform": "called before it was resolved it draws; `resolved` and `do_run` are not arguments",
    "Transform": "a function's name keeps its first letter where that is no underscore",
    "TfmPixel": "runs on one picture after the other in training, which is slower, and said once",
    "TfmAffine": "as `TfmPixel`",
    "TfmCoord": "as `TfmPixel`",
    "TfmLighting": "as `TfmPixel`",
    "TfmCrop": "as `TfmPixel`",
    "get_transforms": "`max_zoom` below 1 is said, a range that cannot work is an error",
    "rgb_randomize": "draws any channel; v1's draw never took the last",
    "pad": "any width; v1's was limited by the picture",
    "contrast": "one number is taken, too",
    "log_uniform": "one number is taken, too", "uniform_int": "one number is taken, too",
    "ImageDataBunch": "classes from all rows; no pickle; see fastai-v1.md",
    "DataBunch": "of data sets and loaders of your own; a loader keeps its `collate_fn`",
    "Learner": "no pickle; predictions and metrics are of the whole set",
    "cnn_learner": "the backbone's statistics are taken where the data have none",
    "load_learner": "reads what `learn.export()` wrote here, no pickle of v1",
    "accuracy": "over the whole set, not a mean of batches", "error_rate": "as `accuracy`", "fbeta": "as `accuracy`",
    "ImageCleaner": "similar pictures are found by the features of the network's body",
    "verify_images": "grey and CMYK files are left as they are",
    "progress_bar": "draws nothing", "master_bar": "draws nothing", "MasterBar": "draws nothing",
    "ProgressBar": "draws nothing",
    "num_distrib": "0: distributed training has its own launcher, `onecycle train --processes`",
    "rank_distrib": "as `num_distrib`",
    "show_doc": "shows the docstring; v1's documentation is not asked",
    "doc": "shows the docstring; v1's documentation is not asked",
    "show_install": "prints the versions that matter here",
    "check_perf": "says what reads JPEG files",
    "progress_disabled_ctx": "makes the learner silent meanwhile",
    "gpu_mem_get": "by PyTorch instead of pynvml",
    "__version__": "1.0.61, the release whose names these are",
    "array": "numpy's; of whole numbers int64",
}  # fmt: skip
"""What differs, by name, and why."""

REASONS = {
    "GeneralOptimizer Statistic AvgStatistic ConstStatistic AvgSquare StatScope": "optimizers are PyTorch's",
    "Darknet ResLayer PResNet presnet18 presnet34 presnet50 presnet101 presnet152": "timm has none of these",
    "ResNet SqueezeNet": "classes of torchvision: `from torchvision.models import ResNet`",
    "nasnetamobile": "timm has the large one alone: `models.nasnetalarge`",
    "Param anno_parser call_parse call_plac": "for scripts of the command line: `argparse`, `typer`",
    "GPUMemTrace gpu_mem_trace PeakMemMetric": "`torch.cuda.max_memory_allocated()` says it",
    "reduce_mem_usage": "for tables of numbers",
    "text2html_table": "`pandas.DataFrame.to_html`",
    "CategoryProcessor MultiCategoryProcessor PreProcessor": "labels become numbers in one place, without processors",
    "CallbackHandler CallbackList": "the loop here has no handler; callbacks of v1's protocol run through an adapter",
    "MixedPrecision": "`learn.to_fp16()`",
    "LRFinder": "`learn.lr_find()`",
    "one_cycle_scheduler": "`learn.fit_one_cycle(...)`",
    "pkg_resources": "setuptools took it out of today's Python: `importlib.metadata`",
    "PredictionsCorrector": "`learn.label_issues()` and `data.relabel(...)`",
    "model_summary": "`learn.summary()`",
    "PooledSelfAttention2d": "of the parts for GANs",
    "bunzip": "`bz2.open`",
}
"""Why names are not here."""

HEAD = """# The names of fastai v1

Written by `python benchmarks/v1_names.py` from the code; `tests/fastai1/test_v1_names.py` fails where it is not true.
Each public name of fastai {version} (its part that classifies pictures), by the module that defined it or first brought
it: where it is here, and what differs. What the parts out of scope have says `docs/fastai-v1.md`. {here} of {all} names
are here, {out} belong to parts out of scope, {absent} are left out, with what to use instead.
"""


def rows() -> Iterator[tuple[str, str, str, str]]:
    """Give (module, name, where it is here, what differs)."""
    reasons = {name: reason for ns, reason in REASONS.items() for name in ns.split()}
    for path in names.OWN:
        if any(path == out or path.startswith(f"{out}.") for out in scope.MODULES):
            continue
        for name in sorted(names.OWN[path].split()):
            where = where_is(path, name)
            why = reasons.get(name, "a part of v1's own code") if where == "—" else DIFFERS.get(name, "")
            yield path, name, where, why


def where_is(path: str, name: str) -> str:
    """Return the module that has a name of v1 here; "out of scope: …", or "—" where it is left out."""
    if part := scope.part_of(name):
        return f"out of scope: {part}"
    try:
        value: Any = getattr(module(path), name)
    except AttributeError:
        return "—"
    if isinstance(value, ModuleType):
        return f"module {value.__name__}"
    if isinstance(value, Architecture):
        return f"network {value}"
    return "onecycle.fastai1.names" if name == "__version__" else place(name)


def page() -> str:
    """Return the page."""
    table = list(rows())
    out = sum(where.startswith("out of scope") for _, _, where, _ in table)
    absent = sum(where == "—" for _, _, where, _ in table)
    counts = {"here": len(table) - out - absent, "all": len(table), "out": out, "absent": absent}
    lines = [HEAD.format(version=names.VERSION, **counts)]
    for path in dict.fromkeys(path for path, *_ in table):
        lines += [f"\n## fastai.{path}\n", "| name | here | what differs and why |", "|---|---|---|"]
        lines += [f"| `{name}` | {where} | {why} |" for at, name, where, why in table if at == path]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE}")
