"""fastai v1's files of data: ``export`` and ``load_empty`` without pictures, ``save`` and ``load_data`` with names."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from onecycle.data.augment.transforms import NAMED, ORDERS, Transform, flatten
from onecycle.data.labels.items import Labels
from onecycle.data.labels.splits import Split, index_split
from onecycle.data.pixels.reading import Reading
from onecycle.errors import ArgumentError, CheckpointError, DataError
from onecycle.fastai1.pictures import readers
from onecycle.files import write_whole

SCHEMA = 1


def data_file(path: Any, file: Any) -> Path:
    """Return the file that stands for v1's pickle: ``export.pkl`` is ``export.data.json``."""
    return Path(path, file).with_suffix(".data.json")


def export_data(data: Any, file: Any) -> Path:
    """Write classes, preprocess, statistics and the way that pictures are read; see ``empty_lists``."""
    return _write(data_file(data.path, file), _about(data) | {"stats": data.stats})


def save_data(data: Any, file: Any) -> Path:
    """Write what ``load_lists`` makes the same data of: files, labels, split, transforms and the way they are read.

    Raises:
        ArgumentError: transforms that are functions of the user's.
    """
    lists, split = data.lists, data.split
    tests = None if lists.tests is None else _names(lists.tests, data.path)
    saved = {
        "files": _names(lists.pictures, data.path),
        "targets": data.labels.targets.tolist(),
        "split": {"train": split.train.tolist(), "valid": split.valid.tolist(), "how": split.how},
        "groups": None if split.groups is None else split.groups.tolist(),
        "tests": tests,
        "test_label": lists.test_label,
        "tfms": None if lists.tfms is None else [_transforms(tfms) for tfms in lists.tfms],
        "mode": lists.mode,
    }
    return _write(data_file(data.path, file), _about(data) | saved)


def _about(data: Any) -> dict[str, Any]:
    resize, labels = data.lists.resize, data.labels
    return {
        "schema_version": SCHEMA,
        "classes": list(labels.classes),
        "kind": labels.kind,
        "size": resize.size,
        "resize_method": resize.method.name,
        "padding_mode": resize.padding_mode,
        "scaled_decode": resize.scaled_decode,
        **data.lists.pictures.reading.manifest(),
    }


def _write(where: Path, saved: dict[str, Any]) -> Path:
    write_whole(where, (json.dumps(saved, indent=1) + "\n").encode())
    return where


def _names(pictures: Any, path: Path) -> list[str]:
    """Return files below a folder without it, so that it may move, and others in full."""
    files = [Path(file) for file in pictures.absolute().paths]
    return [str(file.relative_to(path) if file.is_relative_to(path) else file) for file in files]


def _transforms(tfms: Any) -> list[dict[str, Any]]:
    known = [(tfm, getattr(tfm, "run", None)) for tfm in flatten(tfms)]
    if own := [tfm.name for tfm, run in known if run is not None]:
        raise ArgumentError(
            f"{', '.join(own)} among the transforms is a function, which no file of data can hold: save the data "
            "without it, and give transforms anew to load_data(...).label_list.transform(...).databunch()"
        )
    return [{**tfm.to_dict(), "kind": tfm.kind} for tfm, _ in known]


def empty_lists(kind: Any, path: Any, file: Any) -> tuple[Any, Any]:
    """Read what ``export_data`` wrote.

    Args:
        kind: the class of lists to make.
        path, file: folder and name, as they were exported.

    Returns:
        Lists without a picture, and the statistics or None.

    Raises:
        CheckpointError: no such file, a damaged one, or a class that read the pictures and is not there.
    """
    where = data_file(path, file)
    with _whole(where, "data.export()") as saved:
        return _without_pictures(kind, saved, path, where), saved["stats"]


def load_lists(kind: Any, path: Any, file: Any) -> Any:
    """Read what ``save_data`` wrote.

    Args:
        kind: the class of lists to make.
        path, file: folder of the data, and name, as they were saved.

    Returns:
        The lists, with their transforms.

    Raises:
        CheckpointError: as ``empty_lists``.
    """
    where = data_file(path, file)
    with _whole(where, "data.save(...)") as saved:
        empty = _without_pictures(kind, saved, path, where)
        made = copy.copy(empty.pictures)
        made.paths = [str(Path(path, name)) for name in saved["files"]]
        n, split = len(made.paths), saved["split"]
        groups = None if saved["groups"] is None else np.asarray(saved["groups"], dtype=np.int64).reshape(n)
        rows = replace(index_split(n, split["valid"], split["train"]), how=str(split["how"]), groups=groups)
        labels = _labels(saved["classes"], saved["kind"], saved["targets"])
        if len(labels) != n:
            raise ValueError(f"{len(labels)} labels of {n} pictures")
        lists = replace(empty, pictures=made, split=rows, labels=labels)
        if saved["tests"] is not None:
            lists.add_test([str(Path(path, name)) for name in saved["tests"]], saved["test_label"])
        tfms = None if saved["tfms"] is None else tuple([_transform(t) for t in tfms] for tfms in saved["tfms"])
        return lists.transform(tfms, mode=str(saved["mode"]), **_how(saved))


@contextmanager
def _whole(where: Path, writer: str) -> Iterator[dict[str, Any]]:
    """Give what is in a file of data; what is wrong with it inside says so.

    Raises:
        CheckpointError: there is no such file, or it is damaged.
    """
    if not where.is_file():
        raise CheckpointError(f"there is no {where}: {writer} writes it (v1's pickles are not read)")
    try:
        yield json.loads(where.read_text(encoding="utf-8"))
    except (ValueError, KeyError, TypeError, ArgumentError, DataError) as error:
        raise CheckpointError(f"{where} is damaged or of another kind ({error}): {writer} writes it anew") from error


def _how(saved: dict[str, Any]) -> dict[str, Any]:
    how = {name: saved[name] for name in ("padding_mode", "scaled_decode")}
    return how | ({"size": tuple(saved["size"]), "resize_method": saved["resize_method"]} if saved["size"] else {})


def _without_pictures(kind: Any, saved: dict[str, Any], path: Any, where: Path) -> Any:
    nobody = np.zeros(0, dtype=np.int64)
    split = Split(nobody, nobody, "none, for predictions only")
    labels, pictures = _labels(saved["classes"], saved["kind"]), _pictures(saved.get("reading"), path, where)
    return kind(pictures=pictures, split=split, labels=labels).transform(None, **_how(saved))


def _transform(saved: dict[str, Any]) -> Transform:
    params = tuple((str(k), tuple(v) if isinstance(v, list) else v) for k, v in saved["params"].items())
    if saved["name"] not in NAMED or saved["kind"] not in ORDERS:
        raise ValueError(f"there is no transform {saved['name']!r}")
    return Transform(name=saved["name"], kind=saved["kind"], params=params, p=float(saved["p"]))


def _labels(classes: list[Any], kind: str, targets: Any = None) -> Labels:
    one_each = kind == "class" or (kind == "numbers" and len(classes) == 1)
    made: np.ndarray = np.asarray([] if targets is None else targets, np.int64 if kind == "class" else np.float32)
    made = made.reshape(-1) if one_each else made.reshape(-1, len(classes))
    if kind == "class" and len(made) and (made.min() < 0 or made.max() >= len(classes)):
        raise ValueError("a label that is no class")
    return Labels(classes, made, is_multi=kind == "tags", is_regression=kind == "numbers")


def _pictures(saved: dict[str, Any] | None, path: Any, where: Path) -> Any:
    name = (saved or {}).get("function")
    kind = readers.KINDS.get(name or "ImageList")
    if kind is None:
        raise CheckpointError(f"the pictures of {where} were read by {name}, which is not there: define it again")
    made = kind([], path, convert_mode="L" if saved and saved["grey"] else "RGB")
    if saved and name:
        made._reading = Reading(made.reading.function, saved["channels"], name)
    return made
