"""Which pictures validate, how they are labelled, and what bunches hold."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
from common import data_of, names_of, said


def _frame(path: Path) -> Any:
    import pandas as pd

    return pd.read_csv(path / "labels.csv")


def _listed(path: Path) -> Any:
    from fastai.vision import ImageList

    return ImageList.from_df(_frame(path), path)


def splits(path: Path) -> dict[str, Any]:
    """Which rows of a table validate, where ``seed=`` asks for v1's draw."""
    from fastai.vision import ImageDataBunch

    answer = {}
    for seed in (0, 42):
        lists = _listed(path).split_by_rand_pct(0.2, seed=seed)
        answer[f"seed {seed}"] = sorted(names_of(lists.valid.items))
    answer["its older name"] = sorted(names_of(_listed(path).random_split_by_pct(0.3, seed=1).valid.items))
    subsets = _listed(path).split_subsets(train_size=0.3, valid_size=0.2, seed=5)
    answer["subsets"] = [sorted(names_of(part.items)) for part in (subsets.train, subsets.valid)]
    frame = _frame(path)
    files = [path / name for name in frame["name"]]
    bunches = {
        "from_df": ImageDataBunch.from_df(path, frame, valid_pct=0.25, seed=3, num_workers=0),
        "from_csv": ImageDataBunch.from_csv(path, valid_pct=0.25, seed=4, num_workers=0),
        "from_lists": ImageDataBunch.from_lists(path, files, list(frame["label"]), 0.25, seed=5, num_workers=0),
        "from_name_re": ImageDataBunch.from_name_re(path, files, r"/([^/]+)/\d+.png$", valid_pct=0.25, seed=6,
                                                    num_workers=0),
        "from_name_func": ImageDataBunch.from_name_func(path, files, lambda f: Path(f).parent.name, valid_pct=0.25,
                                                        seed=7, num_workers=0),
    }  # fmt: skip
    return answer | {name: sorted(names_of(bunch.valid_ds.x.items)) for name, bunch in bunches.items()}


def other_splits(path: Path) -> dict[str, Any]:
    """Splits without a draw."""
    from fastai.vision import ImageList

    (path / "names.txt").write_text("0.png\n3.png\n")
    frame = _frame(path).assign(is_valid=lambda f: [i % 3 == 0 for i in range(len(f))])
    of_frame = ImageList.from_df(frame, path)
    made = {
        "split_by_idx": _listed(path).split_by_idx([3, 1]),
        "split_by_idxs": _listed(path).split_by_idxs([0, 1, 2], [5, 6]),
        "split_from_df": of_frame.split_from_df(col="is_valid"),
        "split_by_valid_func": _listed(path).split_by_valid_func(lambda f: str(f).endswith("5.png")),
        "split_by_files": _listed(path).split_by_files(["0.png", "7.png"]),
        "split_by_fname_file": _listed(path).split_by_fname_file("names.txt"),
        "split_by_folder": ImageList.from_folder(path).split_by_folder(),
        "split_none": _listed(path).split_none(),
        "split_by_list": _listed(path).split_by_list(_listed(path)[:4], _listed(path)[10:13]),
    }
    (path / "names.txt").unlink()
    return {n: [sorted(names_of(part.items)) for part in (lists.train, lists.valid)] for n, lists in made.items()}


def chosen(path: Path) -> dict[str, Any]:
    """Which pictures of a list remain."""
    from fastai.vision import ImageList

    random.seed(0)
    answer = {
        "filter_by_rand": _listed(path).filter_by_rand(0.3, seed=9),
        "use_partial_data": _listed(path).use_partial_data(0.2, seed=9),
        "filter_by_func": _listed(path).filter_by_func(lambda f: "7/1" in str(f)),
        "filter_by_folder": ImageList.from_folder(path).filter_by_folder(include=["valid"]),
        "without a folder": ImageList.from_folder(path).filter_by_folder(exclude=["train"]),
        "from_folder, include": ImageList.from_folder(path, include=["valid"]),
        "from_folder, flat": ImageList.from_folder(path / "valid" / "3", recurse=False),
        "a slice": _listed(path)[3:6],
        "some": _listed(path)[[7, 2]],
    }
    return {name: sorted(names_of(items.items)) for name, items in answer.items()}


def labels(path: Path) -> dict[str, Any]:
    """What labels become: class lists, numbers, items."""
    import torch
    from fastai.vision import CategoryList, FloatList, ImageList, MultiCategoryList

    columns = {"tags": ["a b", "b", "c a", ""] * 14, "grade": [0.5, 1.5] * 28, "one": [0, 1] * 28, "two": [1, 1] * 28}
    frame, folders = _frame(path).assign(**columns), ImageList.from_folder(path)

    def of(**how: Any) -> Any:
        return ImageList.from_df(frame, path).split_by_idx(list(range(0, 56, 5))).label_from_df(**how)

    made = {
        "numbers": of(cols="label"),
        "text": folders.split_by_folder().label_from_folder(),
        "tags": of(cols="tags", label_delim=" "),
        "grades": of(cols="grade"),
        "grades as classes": of(cols="grade", label_cls=CategoryList),
        "classes as floats": of(cols="label", label_cls=FloatList),
        "logarithms": of(cols="grade", label_cls=FloatList, log=True),
        "one-hot columns": of(cols=["one", "two"]),
        "classes that are told": of(cols="label", classes=[1, 0]),
        "of a pattern": folders.split_by_folder().label_from_re(r"/(\d)/\d+\.png$"),
        "of a function": folders.split_by_folder().label_from_func(lambda f: Path(f).parts[-2] == "3"),
        "one for all": folders.split_by_folder().label_const(4),
        "lists": ImageList.from_df(frame, path).split_by_idx([0, 1]).label_from_func(
            lambda f: ["x", "y"] if "3" in Path(f).parts else ["x"], label_cls=MultiCategoryList),
    }  # fmt: skip
    answer = {}
    for name, lists in made.items():
        first = lists.valid.y[0]
        answer[name] = [
            [str(c) for c in lists.classes] if "Category" in type(first).__name__ else [],
            lists.train.y.c,
            str(first),
            np.asarray(torch.as_tensor(first.data).float()).tolist(),
            type(lists.train.y).__name__,
            type(first).__name__,
            len(lists.train),
            len(lists.valid),
        ]
    return answer


def bunches(path: Path) -> dict[str, Any]:
    """Lengths, sizes and attributes of a bunch."""
    from fastai.vision import DatasetType, ImageDataBunch, ImageList, cifar_stats, imagenet_stats, mnist_stats

    data = data_of(path, bs=16, val_bs=5)
    x, y = data.one_batch()
    raw = ImageDataBunch.from_folder(path, bs=40, num_workers=0)
    whole = data_of(path)
    valid = raw.one_batch(ds_type=DatasetType.Valid, denorm=False)
    single, nothing = data.one_item(data.valid_ds[0][0])
    lists = ImageList.from_folder(path).split_by_folder().label_from_folder().add_test_folder("valid")
    tested = lists.databunch(bs=16, num_workers=0)
    none = ImageList.from_folder(path / "valid").split_none().label_from_folder().databunch(bs=4, num_workers=0)
    return {
        "batches": [len(data.train_dl), len(data.valid_dl), len(data.train_ds), len(data.valid_ds), data.batch_size],
        "c": [data.c, [str(c) for c in data.classes], sorted(str(k) for k in data.train_ds.y.c2i)],
        "batch": [list(x.shape), list(y.shape), str(x.dtype), str(y.dtype)],
        "one_item": [list(single.shape), list(nothing.shape)],
        "empty": [data.is_empty, data.empty_val, none.empty_val],
        "test": [len(tested.test_ds), len(tested.test_dl)],
        "measured": [[round(float(v), 4) for v in part] for part in raw.batch_stats()],
        "constants": [[float(values[0]) for values in s] for s in (imagenet_stats, cifar_stats, mnist_stats)],
        "plain": [round(float(valid[0].mean()), 4), round(float(valid[0].std()), 4)],
        "normalised": [round(float(v), 4) for v in whole.one_batch(DatasetType.Valid, denorm=False)[0].mean((0, 2, 3))],
        "undone": [round(float(v), 4) for v in whole.one_batch(DatasetType.Valid, denorm=True)[0].mean((0, 2, 3))],
        "a second normalisation": said(lambda: data.normalize()),
        "item": [list(data.valid_ds[0][0].shape), str(data.valid_ds[0][1]), int(data.valid_ds[0][1])],
        "kinds": [k.name for k in DatasetType],
        "a list that is not split": said(lambda: ImageList.from_folder(path).label_from_folder()),
        "lists that are not labelled": said(lambda: ImageList.from_folder(path).split_none().databunch()),
    }


ON_DATA = {f.__name__: f for f in (splits, other_splits, chosen, labels, bunches)}
