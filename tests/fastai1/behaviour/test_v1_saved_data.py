"""Data that were saved and loaded again, and labels that are vectors of 0 and 1."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture
def lists(vision, path):
    return vision.ImageList.from_folder(path).split_by_folder()


@pytest.mark.parametrize("tags", [False, True])
def test_saved_data_come_back(vision, fastai, path, lists, tags):
    from fastai.basics import load_data

    labelled = lists.label_from_func(lambda p: ["x", p.parent.name]) if tags else lists.label_from_folder()
    labelled.add_test_folder("test")
    data = labelled.transform(vision.get_transforms(max_warp=0.0), size=16).databunch(bs=4, num_workers=0)
    data.save("kept.pkl")
    again = load_data(path, "kept.pkl", bs=4, num_workers=0)
    assert [str(c) for c in again.classes] == [str(c) for c in data.classes]
    for part in ("train_ds", "valid_ds", "test_ds"):
        one, other = getattr(data, part), getattr(again, part)
        assert [str(p) for p in other.x.items] == [str(p) for p in one.x.items]
    for i in range(len(data.valid_ds)):
        assert np.array_equal(again.valid_ds[i][1].data, data.valid_ds[i][1].data)
        assert np.allclose(again.valid_ds[i][0].px, data.valid_ds[i][0].px)
    assert [t.tfm.__name__ for t in again.train_ds.tfms] == [t.tfm.__name__ for t in data.train_ds.tfms]
    assert next(iter(again.train_dl))[0].shape == (4, 3, 16, 16)
    assert again.label_list.train is not None


def test_vectors_of_0_and_1(vision, lists):
    def flags(p):
        return np.array([1, int(p.parent.name == "7"), 0])

    how = {"label_cls": vision.MultiCategoryList, "one_hot": True, "classes": ["x", "seven", "never"]}
    ys = lists.label_from_func(flags, **how).valid.y
    assert [str(y) for y in (ys[0], ys[len(ys) - 1])] in (["x", "x;seven"], ["x;seven", "x"])


def test_columns_with_names_of_their_own(vision, path):
    import pandas as pd

    names = [str(p.relative_to(path)) for p in sorted((path / "valid").glob("*/*.png"))]
    frame = pd.DataFrame({"name": names, "a": [1, 0] * 3, "b": [1] * 6})
    lists = vision.ImageList.from_df(frame, path).split_by_idx([0, 1])
    how = {"label_cls": vision.MultiCategoryList, "one_hot": True}
    ys = lists.label_from_df(["a", "b"], classes=["first", "second"], **how).valid.y
    assert [str(y) for y in (ys[0], ys[1])] == ["first;second", "second"]
    ys = vision.ImageList.from_df(frame, path).split_by_idx([0, 1]).label_from_df(["a", "b"], **how).valid.y
    assert [str(y) for y in (ys[0], ys[1])] == ["a;b", "b"]
