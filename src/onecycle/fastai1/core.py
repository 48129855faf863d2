"""Small helpers of fastai v1's ``core``, which notebooks use for themselves."""

from __future__ import annotations

import inspect
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from onecycle.files import write_whole

__all__ = [
    "PrettyString", "arange_of", "array", "arrays_split", "camel2snake", "chunks", "compose", "defaults",
    "df_names_to_idx", "even_mults", "extract_kwargs", "find_classes", "first_el", "float_or_x", "func_args",
    "get_tmp_file", "has_arg", "idx_dict", "ifnone", "index_row", "is1d", "is_dict", "is_listy", "is_pathlike",
    "is_tuple", "join_path", "join_paths", "listify", "loadtxt_str", "noop", "num_cpus", "one_hot", "parallel",
    "partition", "partition_by_cores", "random_split", "range_of", "recurse", "recurse_eq", "save_texts", "series2cat",
    "show_some", "split_kwargs_by_func", "subplots", "to_int", "try_int", "uniqueify", "working_directory",
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
    """Return a number as an int; what has a length, as text, and what is no number as it is."""
    if isinstance(o, (str, bytes)) or np.ndim(o):
        return o
    try:
        return int(o)
    except (TypeError, ValueError):
        return o


def float_or_x(x: Any) -> Any:
    """Return ``x`` as a float where it is a number, or text of one; else as it is."""
    try:
        return float(x)
    except (TypeError, ValueError):
        return x


def recurse(func: Callable[..., Any], x: Any, *args: Any, **options: Any) -> Any:
    """Call ``func`` on what lists, tuples and dicts hold, however deep; tuples become lists."""
    if is_listy(x):
        return [recurse(func, v, *args, **options) for v in x]
    if is_dict(x):
        return {k: recurse(func, v, *args, **options) for k, v in x.items()}
    return func(x, *args, **options)


def recurse_eq(one: Any, other: Any) -> bool:
    """Whether two values are equal, in lists item by item, in arrays everywhere."""
    if is_listy(one):
        return is_listy(other) and len(one) == len(other) and all(map(recurse_eq, one, other))
    return bool(np.all(np.atleast_1d(one == other)))


def to_int(b: Any) -> Any:
    """Return numbers as ints, in lists and dicts, too."""
    return recurse(int, b)


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


def partition_by_cores(a: Sequence[Any], n_cpus: int) -> list[Sequence[Any]]:
    """Return a sequence in as many pieces as there are processors, all but the last of one length."""
    return partition(a, len(a) // n_cpus + 1)


def arrays_split(mask: Any, *arrs: Any) -> list[tuple[np.ndarray, ...]]:
    """Return the rows of each array that ``mask`` chooses, then the others of each: ``[(a, b, …), (a, b, …)]``.

    Args:
        mask: bool, one a row; v1's own way with positions, ``~mask`` of which counts from the end, holds, too.
        arrs: arrays of one length.
    """
    if len({len(a) for a in arrs}) > 1:
        raise ValueError(f"expected arrays of one length, received {', '.join(str(len(a)) for a in arrs)}")
    chosen, arrays = np.array(mask), [np.array(a) for a in arrs]
    return [tuple(a[chosen] for a in arrays), tuple(a[~chosen] for a in arrays)]


def random_split(valid_pct: float, *arrs: Any) -> list[tuple[np.ndarray, ...]]:
    """Split arrays at random, each row alike: ``[(a, b, …) to train on, (a, b, …) to validate on]``.

    Raises:
        ValueError: ``valid_pct`` is not between 0 and 1, or the arrays are not of one length.
    """
    if not 0 <= valid_pct <= 1:
        raise ValueError(f"valid_pct is a share between 0 and 1; received {valid_pct}")
    return arrays_split(np.random.uniform(size=(len(arrs[0]),)) > valid_pct, *arrs)


def index_row(a: Any, idxs: Any) -> Any:
    """Return rows of an array or a frame."""
    if a is None:
        return None
    found = a.iloc[idxs] if hasattr(a, "iloc") else a[idxs]
    return found.copy() if hasattr(a, "iloc") and hasattr(found, "copy") else found


def df_names_to_idx(names: Any, df: Any) -> list[int]:
    """Return the positions of columns."""
    return [n if isinstance(n, int) else df.columns.get_loc(n) for n in listify(names)]


def series2cat(df: Any, *col_names: str) -> None:
    """Make columns of a frame ordered categories, in place."""
    for name in col_names:
        df[name] = df[name].astype("category").cat.as_ordered()


# -- functions, names, files ---------------------------------------------------------------------------------------


def func_args(func: Callable[..., Any]) -> tuple[str, ...]:
    """Return the names of a function's arguments that may be given by position."""
    by_place = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return tuple(name for name, p in inspect.signature(func).parameters.items() if p.kind in by_place)


def has_arg(func: Callable[..., Any], arg: str) -> bool:
    """Whether a function has an argument of this name that may be given by position."""
    return arg in func_args(func)


def extract_kwargs(names: Iterable[str], kwargs: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Take the keywords of these names out of ``kwargs``: those taken, and the rest."""
    return {name: kwargs.pop(name) for name in names if name in kwargs}, kwargs


def split_kwargs_by_func(kwargs: dict[str, Any], func: Callable[..., Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Take the keywords that ``func`` has arguments for out of ``kwargs``: those taken, and the rest."""
    return extract_kwargs(func_args(func), kwargs)


def compose(funcs: Sequence[Callable[[Any], Any]]) -> Callable[[Any], Any]:
    """Return one function that calls several in turn."""

    def call(x: Any, *args: Any, **options: Any) -> Any:
        for func in funcs:
            x = func(x, *args, **options)
        return x

    return call


class PrettyString(str):
    """Text that a notebook shows without quotation marks."""

    def __repr__(self) -> str:
        return str(self)


def camel2snake(name: str) -> str:
    """Return ``CamelCase`` as ``camel_case``."""
    return re.sub("([a-z0-9])([A-Z])", r"\1_\2", re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)).lower()


def show_some(items: Sequence[Any] | None, n_max: int = 5, sep: str = ",") -> str:
    """Return the first values as text; of None nothing."""
    if items is None:
        return ""
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


def get_tmp_file(dir: Any = None) -> str:
    """Return the name of a new empty file."""
    with tempfile.NamedTemporaryFile(delete=False, dir=dir) as file:
        return file.name


@contextmanager
def working_directory(path: Any) -> Iterator[None]:
    """Work in another folder for a while."""
    before = Path.cwd()
    os.chdir(path)
    try:
        yield
    finally:
        os.chdir(before)
