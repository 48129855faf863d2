"""The data block and bunches, as fastai 1's own tests ask for them."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

QUIET = {"num_workers": 0}


def names(items) -> set[str]:
    return {str(item).rsplit("digits/", 1)[-1].removeprefix("./") for item in items}


def the_two(data) -> bool:
    return data.c == 2 and {str(c) for c in data.classes} in ({"3", "7"}, {"0", "1"})


def test_folders_are_a_split(vision, path):
    data = vision.ImageDataBunch.from_folder(path, **QUIET)
    assert the_two(data)
    assert (len(data.train_ds), len(data.valid_ds)) == (12, 6)
    assert vision.ImageDataBunch.from_folder(str(path), **QUIET).path == path


def test_a_share_validates(vision, path):
    data = vision.ImageDataBunch.from_folder(path / "train", valid_pct=0.5, **QUIET)
    assert the_two(data)
    assert (len(data.train_ds), len(data.valid_ds)) == (6, 6)


@pytest.mark.parametrize("factory", ["from_csv", "from_df"])
def test_a_table(vision, path, factory):
    how = {"df": pd.read_csv(path / "labels.csv")} if factory == "from_df" else {}
    data = getattr(vision.ImageDataBunch, factory)(path, **how, size=14, **QUIET)
    assert the_two(data)
    assert (len(data.train_ds), len(data.valid_ds), data.train_ds[0][0].size) == (15, 3, (14, 14))


def test_labels_stay_with_their_pictures(vision, path):
    frame = pd.read_csv(path / "labels.csv")
    files = [path / name for name in frame["name"]]
    data = vision.ImageDataBunch.from_lists(path, files, list(frame["label"]), **QUIET)
    for ds in (data.train_ds, data.valid_ds):
        said = [int(re.search(r"/(\d)/\d+\.png$", str(item)).group(1)) == 7 for item in ds.x.items]
        assert [bool(int(str(label))) for label in ds.y] == said


def test_patterns_and_functions(vision, path):
    files = vision.get_image_files(path / "train", recurse=True)
    assert len(files) == 12
    tfms = (vision.rand_pad(2, 28), [])
    by_name = vision.ImageDataBunch.from_name_re(path, files, r"/([^/]+)\/\d+.png$", ds_tfms=tfms, **QUIET)
    assert the_two(by_name)
    by_call = vision.ImageDataBunch.from_name_func(path, files, lambda f: f.parent.name, **QUIET)
    assert the_two(by_call)


@pytest.mark.parametrize("size", [14, (14, 14), (14, 20)])
@pytest.mark.parametrize("method", ["CROP", "PAD", "SQUISH"])
def test_pictures_have_the_size(vision, path, size, method):
    lists = vision.ImageList.from_folder(path / "train").split_none().label_from_folder()
    how = {"size": size, "resize_method": getattr(vision.ResizeMethod, method)}
    data = lists.transform(vision.get_transforms(), **how).databunch(bs=2, **QUIET)
    wanted = (size, size) if isinstance(size, int) else size
    assert tuple(data.train_ds[0][0].size) == wanted
    assert tuple(data.one_batch()[0].shape) == (2, 3, *wanted)


def test_batches_can_be_asked_for_again(vision, path):
    data = vision.ImageDataBunch.from_folder(path, ds_tfms=(vision.rand_pad(2, 28), []), bs=4, **QUIET)
    data.normalize()
    for _ in range(2):
        x, y = data.one_batch()
        assert (tuple(x.shape), tuple(y.shape)) == ((4, 3, 28, 28), (4,))
        x, y = next(iter(data.train_dl))
        assert (tuple(x.shape), tuple(y.shape)) == ((4, 3, 28, 28), (4,))


def test_normalising_and_undoing_it(vision, path):
    data = vision.ImageDataBunch.from_folder(path, bs=12, **QUIET)
    plain, _ = data.one_batch(ds_type=vision.DatasetType.Valid, denorm=False)
    data.normalize()
    normal, _ = data.one_batch(ds_type=vision.DatasetType.Valid, denorm=False)
    assert abs(normal.mean()) < abs(plain.mean())
    assert abs(normal.std() - 1) < abs(plain.std() - 1)
    undone = vision.denormalize(normal, *data.stats)
    assert undone.mean().item() == pytest.approx(plain.mean().item(), abs=2e-3)
    assert undone.std().item() == pytest.approx(plain.std().item(), abs=2e-3)
    with pytest.raises(Exception):  # noqa: B017  each side has its own kind
        data.normalize()


def test_a_test_folder(vision, path):
    lists = vision.ImageList.from_folder(path, include=["train", "valid"]).split_by_idx([0]).label_from_folder()
    lists.add_test_folder()
    assert len(lists.test) == 3
    assert [str(c) for c in lists.train.classes] == [str(c) for c in lists.valid.classes] == ["3", "7"]
    data = lists.databunch(bs=2, **QUIET)
    assert (len(data.train_ds), len(data.valid_ds), len(data.test_ds)) == (17, 1, 3)
    assert len(data.test_dl) == 2
    assert str(data.test_ds[0][1]) in ("3", "7", "")


def test_tags(vision, path):
    frame = pd.read_csv(path / "labels.csv").assign(tags=["c a", "a b", "b c"] * 6)
    lists = vision.ImageList.from_df(frame, path).split_by_idx([2, 4]).label_from_df("tags", label_delim=" ")
    assert (lists.c, list(lists.classes)) == (3, ["a", "b", "c"])
    label = lists.train[0][1]
    assert set(str(label).split(";")) == {"a", "c"}
    assert np.asarray(label.data).tolist() == [1, 0, 1]
    x, y = lists.databunch(bs=4, **QUIET).one_batch()
    assert (tuple(y.shape), x.shape[1]) == ((4, 3), 3)


def test_classes(vision, path):
    frame = pd.read_csv(path / "labels.csv").assign(kind=["c", "a", "b"] * 6)
    parts = vision.ImageList.from_df(frame, path).split_by_idx([2, 4])
    lists = parts.label_from_df("kind")
    assert list(lists.train.y.c2i.items()) == [("a", 0), ("b", 1), ("c", 2)]
    rows = [0, 1, 3]
    assert [str(y) for y in list(lists.train.y)[:3]] == list(frame["kind"].iloc[rows])
    assert [int(y) for y in list(lists.train.y)[:3]] == [2, 0, 2]
    assert [y.obj for y in list(lists.train.y)[:3]] == list(frame["kind"].iloc[rows])
    told = vision.ImageList.from_df(frame, path).split_by_idx([2, 4]).label_from_df("kind", classes=list("cba"))
    assert [int(y) for y in list(told.train.y)[:3]] == [0, 2, 0]


def test_numbers(vision, path):
    frame = pd.read_csv(path / "labels.csv").assign(y=np.linspace(0, 1, 18))
    data = vision.ImageList.from_df(frame, path).split_by_rand_pct(seed=1).label_from_df("y").databunch(bs=4, **QUIET)
    assert (data.c, len(data.valid_ds)) == (1, 3)
    assert data.train_ds[0][1].data == pytest.approx(float(str(data.train_ds[0][1])))


def test_a_random_split_has_everything_once(vision, path):
    items = vision.ImageList.from_folder(path)
    parts = items.split_by_rand_pct(0.3)
    assert len(parts.valid) == int(0.3 * len(items))
    assert names(parts.train.items) | names(parts.valid.items) == names(items.items)
    assert not names(parts.train.items) & names(parts.valid.items)


def test_the_same_seed_keeps_the_same(vision, path):
    once, again = (vision.ImageList.from_folder(path).filter_by_rand(0.5, seed=759) for _ in range(2))
    assert names(once.items) == names(again.items)
    assert 0 < len(once) < 21


def test_subsets(vision, path):
    table = pd.read_csv(path / "labels.csv")
    parts = vision.ImageList.from_df(table, path).split_subsets(train_size=0.2, valid_size=0.4)
    assert (len(parts.train), len(parts.valid)) == (3, 7)
    for wrong in ((0.6, 0.6), (0.0, 0.5), (0.5, 0.0)):
        with pytest.raises(Exception):  # noqa: B017
            vision.ImageList.from_df(table, path).split_subsets(*wrong)


def test_folders_that_are_left_out(vision, path):
    only = vision.ImageList.from_folder(path).filter_by_folder(include=["train"], exclude=["test"])
    assert len(only) == 12
    assert {name.split("/")[0] for name in names(only.items)} == {"train"}


def test_what_comes_too_early(vision, path):
    with pytest.raises(Exception, match=r"isn't split|neither split"):
        vision.ImageList.from_folder(path).label_from_folder()
    with pytest.raises(Exception, match=r"(?i)isn't labeled|labelled"):
        vision.ImageList.from_folder(path).split_none().databunch()


def test_one_picture_as_a_batch(vision, path):
    data = vision.ImageDataBunch.from_folder(path, size=20, bs=4, **QUIET).normalize()
    x, y = data.one_item(data.valid_ds[0][0])
    assert (tuple(x.shape), y.shape[0]) == ((1, 3, 20, 20), 1)


def test_pictures_are_drawn(vision, path):
    import matplotlib.pyplot as plt

    data = vision.ImageDataBunch.from_folder(path, bs=9, **QUIET).normalize()
    data.show_batch(rows=3, figsize=(4, 4))
    titles = {ax.get_title() for ax in plt.gcf().axes}
    assert titles <= {"3", "7", ""}
    assert titles & {"3", "7"}


def test_files_are_verified(vision, path, tmp_path):
    for i in range(3):
        (tmp_path / f"{i}.png").write_bytes((path / "train" / "3" / f"{i}.png").read_bytes())
    (tmp_path / "broken.png").write_bytes(b"no picture")
    vision.verify_images(tmp_path, delete=True, max_size=20, max_workers=1)
    left = sorted(p.name for p in tmp_path.iterdir())
    assert left == ["0.png", "1.png", "2.png"]
    with vision.PIL.Image.open(tmp_path / "0.png") as smaller:
        assert smaller.size == (20, 20)


def test_arrays_become_tensors(vision):
    pixels = np.random.RandomState(0).rand(5, 6, 3)
    made = vision.pil2tensor(pixels, np.float64)
    assert tuple(made.shape) == (3, 5, 6)
    assert np.array_equal(vision.image2np(made), pixels)
    deep = vision.PIL.Image.fromarray(np.full((2, 2), 40_000, dtype=np.int32))
    assert int(vision.pil2tensor(deep, np.int64).max()) == 40_000
