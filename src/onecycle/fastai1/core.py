"""Small helpers of fastai v1's ``core``, which notebooks use for themselves."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from onecycle.files import write_whole

__all__ = [
    "arange_of", "array", "camel2snake", "chunks", "compose", "defaults", "df_names_to_idx", "even_mults",
    "find_classes",
    "first_el", "func_args", "has_arg", "idx_dict", "ifnone", "index_row", "is1d", "is_dict", "is_listy", "is_pathlike",
    "is_tuple", "join_path", "join_paths", "listify", "loadtxt_str", "noop", "num_cpus", "one_hot", "parallel",
    "partition", "random_split", "range_of", "save_texts", "show_some", "subplots", "to_int", "try_int", "uniqueify",
]  # fmt: skip


def num_cpus() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Defaults(SimpleNamespace):
    def __getattr__(self, name: str) -> Any:
        if name != "device":
            raise AttributeError(name)
        import torch

        return torch.device("cuda" if torch.cuda.is_available() else "cpu")


defaults = _Defaults(cpus=min(16, num_cpus()), cmap="viridis", return_fig=False, silent=False)
"""v1's defaults: notebooks read them, and set ``device``."""


def ifnone(value: Any, default: Any) -> Any:
    """Return ``value``, or ``default`` where it is None."""
    return default if value is None else value


def is_listy(value: Any) -> bool:
    """Whether ``value`` is a tuple or a list."""
    return isinstance(value, (tuple, list))


def is_tuple(value: Any) -> bool:
    """Whether ``value`` is a tuple."""
    return isinstance(value, tuple)


def is_dict(value: Any) -> bool:
    """Whether ``value`` is a dict."""
    return isinstance(value, dict)


def is_pathlike(value: Any) -> bool:
    """Whether ``value`` is a path or text."""
    return isinstance(value, (str, Path))


def noop(value: Any) -> Any:
    """Return ``value``."""
    return value


# -- numbers and lists ---------------------------------------------------------------------------------------------


def array(a: Any, dtype: Any = None, **options: Any) -> np.ndarray:
    """Return a numpy array; of Python ints int64, also of what only iterates."""
    values = a if hasattr(a, "__array__") or isinstance(a, (list, tuple, int, float)) else list(a)
    return np.array(values, dtype=dtype, **options)


def listify(p: Any = None, q: Any = None) -> list[Any]:
    """Return a list of what may be one thing, several or None; with ``q``, as long as that number or that list."""
    if p is None:
        values = []
    elif isinstance(p, str) or not isinstance(p, Iterable):
        values = [p]
    else:
        values = list(p)
    n = len(values) if q is None else q if isinstance(q, int) else len(q)
    if len(values) == 1:
        values = values * n
    if len(values) != n:
        raise ValueError(f"listify: {len(values)} values for a length of {n}")
    return values


def try_int(o: Any) -> Any:
    """Return ``o`` as an int where it is a number, or text of one; else as it is."""
    if isinstance(o, (np.ndarray, list, tuple)) and np.ndim(o):
        return o
    try:
        return int(o)
    except (TypeError, ValueError):
        return o


def to_int(b: Any) -> Any:
    """Return numbers as ints, in lists, too."""
    return [to_int(v) for v in b] if is_listy(b) else int(b)


def one_hot(x: Sequence[int], c: int) -> np.ndarray:
    """Return 0/1 float32 ``(c,)`` with ones at the indices ``x``."""
    made = np.zeros(c, dtype=np.float32)
    made[listify(x)] = 1.0
    return made


def even_mults(start: float, stop: float, n: int) -> np.ndarray:
    """Return ``n`` numbers from ``start`` to ``stop`` by equal factors."""
    return np.geomspace(start, stop, n)


def range_of(x: Any) -> list[int]:
    """Return the positions of a sequence."""
    return list(range(len(x)))


def arange_of(x: Any) -> np.ndarray:
    """Return the positions of a sequence as an array."""
    return np.arange(len(x))


def uniqueify(x: Iterable[Any], sort: bool = False) -> list[Any]:
    """Return the different values, in their order or sorted."""
    found = list(dict.fromkeys(x))
    return sorted(found) if sort else found


def idx_dict(a: Iterable[Any]) -> dict[Any, int]:
    """Return the position of each value."""
    return {v: k for k, v in enumerate(a)}


def first_el(x: Any) -> Any:
    """Return the first of the first, as deep as lists and dicts go."""
    if is_listy(x):
        return first_el(x[0])
    return first_el(x[next(iter(x))]) if is_dict(x) else x


def is1d(a: Any) -> bool:
    """Whether an array has one dimension."""
    return np.ndim(a) == 1


def chunks(seq: Sequence[Any], n: int) -> Iterator[Sequence[Any]]:
    """Give ``n`` values at a time."""
    return (seq[i : i + n] for i in range(0, len(seq), n))


def partition(a: Sequence[Any], sz: int) -> list[Sequence[Any]]:
    """Return a list of ``chunks``."""
    return list(chunks(a, sz))


def random_split(valid_pct: float, *arrs: Any) -> list[tuple[Any, Any]]:
    """Split arrays at random into (training, validation), each row alike."""
    is_train = np.random.uniform(size=(len(arrs[0]),)) > valid_pct
    return [(np.asarray(a)[is_train], np.asarray(a)[~is_train]) for a in arrs]


def index_row(a: Any, idxs: Any) -> Any:
    """Return rows of an array or a frame."""
    if a is None:
        return None
    found = a.iloc[idxs] if hasattr(a, "iloc") else a[idxs]
    return found.copy() if hasattr(a, "iloc") and hasattr(found, "copy") else found


def df_names_to_idx(names: Any, df: Any) -> list[int]:
    """Return the positions of columns."""
    return [n if isinstance(n, int) else df.columns.get_loc(n) for n in listify(names)]


# -- functions, names, files ---------------------------------------------------------------------------------------


def func_args(func: Callable[..., Any]) -> tuple[str, ...]:
    """Return the names of a function's arguments."""
    return tuple(inspect.signature(func).parameters)


def has_arg(func: Callable[..., Any], arg: str) -> bool:
    """Whether a function has an argument of this name."""
    return arg in func_args(func)


def compose(funcs: Sequence[Callable[[Any], Any]]) -> Callable[[Any], Any]:
    """Return one function that calls several in turn."""

    def call(x: Any, *args: Any, **options: Any) -> Any:
        for func in funcs:
            x = func(x, *args, **options)
        return x

    return call


def camel2snake(name: str) -> str:
    """Return ``CamelCase`` as ``camel_case``."""
    return re.sub("([a-z0-9])([A-Z])", r"\1_\2", re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)).lower()


def show_some(items: Sequence[Any], n_max: int = 5, sep: str = ",") -> str:
    """Return the first values as text."""
    return sep.join(str(v) for v in items[:n_max]) + ("..." if len(items) > n_max else "")


def parallel(
    func: Callable[[Any, int], Any], arr: Sequence[Any], max_workers: int | None = None, leave: bool = False
) -> Any:
    """Call ``func(value, position)`` for each value, several at once; None where no call returns anything."""
    with ThreadPoolExecutor(max(1, max_workers or defaults.cpus)) as pool:
        results = list(pool.map(func, arr, range(len(arr))))
    return results if any(r is not None for r in results) else None


def subplots(
    rows: int, cols: int, imgsize: int = 4, figsize: Any = None, title: str | None = None, **options: Any
) -> Any:
    """Return the axes of a grid, always in two dimensions."""
    import matplotlib.pyplot as plt

    size = figsize or (imgsize * cols, imgsize * rows)
    figure, axes = plt.subplots(rows, cols, figsize=size, squeeze=False)
    if title is not None:
        figure.suptitle(title, **options)
    return axes


def find_classes(folder: Path) -> list[Path]:
    """Return the folders in a folder, sorted by name; hidden ones are left out."""
    return sorted(
        (d for d in Path(folder).iterdir() if d.is_dir() and not d.name.startswith(".")), key=lambda d: d.name
    )


def join_path(fname: Any, path: Any = ".") -> Path:
    """Return ``path/fname``."""
    return Path(path) / str(fname)


def join_paths(fnames: Iterable[Any], path: Any = ".") -> list[Path]:
    """Return ``path/fname`` of each."""
    return [join_path(f, path) for f in fnames]


def loadtxt_str(path: Any) -> np.ndarray:
    """Return the lines of a text file."""
    return np.array(Path(path).read_text().splitlines(), dtype=str)


def save_texts(fname: Any, texts: Iterable[Any]) -> None:
    """Write texts, one a line."""
    write_whole(Path(fname), "".join(f"{text}\n" for text in texts).encode())
