"""Calls of fastai v1 whose answers are numbers, for both sides: fastai 1.0.61 itself, and onecycle under its names.

``python calls.py FOLDER OUT.json [NAME…]`` makes them with whichever ``fastai`` is found (``--onecycle``: with the
hook on), on drawn digits below FOLDER. ``make v1`` runs it on fastai 1.0.61 and stores the answers in ``v1.json``.
"""

from __future__ import annotations

import io
import json
import sys
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

warnings.filterwarnings("ignore")

TOPICS = ("helpers", "pictures", "scores", "data", "training", "networks", "reading")
DIGITS = 7
"""Significant digits that are stored."""


def answers(root: Path, names: list[str]) -> dict[str, Any]:
    """Answers by the names of the functions that ask; a function that fails has its error as its answer."""
    import common

    path, asked = common.digits(root), {}
    for topic in map(__import__, TOPICS):
        asked |= {name: (call,) for name, call in getattr(topic, "CALLS", {}).items()}
        asked |= {name: (call, path) for name, call in getattr(topic, "ON_DATA", {}).items()}
    answer = {}
    for name, (call, *on) in asked.items():
        if names and name not in names:
            continue
        begun = time.process_time()
        try:
            answer[name] = rounded(call(*on))
        except Exception as error:  # noqa: BLE001  the answers of the others are of use still
            traceback.print_exc()
            answer[name] = f"{type(error).__name__}: {error}"
        print(f"{name}: {time.process_time() - begun:.1f} s", file=sys.stderr)
    return answer


def rounded(value: Any) -> Any:
    """Return an answer with few digits, so that the last bits of another machine do not show."""
    if isinstance(value, dict):
        return {str(k): rounded(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(v) for v in value]
    if hasattr(value, "tolist"):
        return rounded(value.tolist())
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def let_v1_run() -> None:
    """Let fastai 1.0.61 run on the torch and numpy of today: functions and names that are gone, pickles of its own."""
    import numpy as np
    import torch

    torch.solve = lambda b, a: (torch.linalg.solve(a, b), None)
    load = torch.load
    torch.load = lambda *args, **options: load(*args, **{"weights_only": False, **options})
    for name, kind in {"object": object, "float": float, "int": int, "bool": bool, "uint": np.uint64}.items():
        if name not in np.__dict__:
            setattr(np, name, kind)
    import fastai.data_block
    import fastprogress.fastprogress

    fastprogress.fastprogress.NO_BAR = True
    usual = fastai.data_block.array

    def array(values: Any, dtype: Any = None, **options: Any) -> Any:
        values = values if hasattr(values, "__len__") else list(values)
        try:
            return usual(values, dtype, **options)
        except ValueError:  # lists of several lengths, of which numpy made objects
            made = np.empty(len(values), dtype=object)
            made[:] = values
            return made

    fastai.data_block.array = array


def as_text(answer: dict[str, Any]) -> str:
    """Return JSON with one line for each thing that was asked."""
    lines = []
    for name, value in sorted(answer.items()):
        inner = value if isinstance(value, dict) else {"": value}
        rows = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v, sort_keys=True)}" for k, v in sorted(inner.items()))
        lines.append(f" {json.dumps(name)}: {{\n{rows}\n }}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


if __name__ == "__main__":
    folder, out, *chosen = [word for word in sys.argv[1:] if word != "--onecycle"]
    sys.stdout = io.StringIO()  # what both sides print while they train
    if "--onecycle" in sys.argv:
        from onecycle import as_fastai

        as_fastai.on()
    else:
        let_v1_run()
    Path(out).write_text(as_text(answers(Path(folder), chosen)))
