"""The data-block chain: each step, the same machinery as the factories, and sentences for a wrong order."""

from __future__ import annotations

import pandas as pd
import pytest

from onecycle.data.augment.transforms import get_transforms
from onecycle.data.batches import imagenet_stats
from onecycle.data.bunch import ImageDataBunch
from onecycle.data.data_block import ImageList
from onecycle.data.pixels.resize import ResizeMethod
from onecycle.errors import ArgumentError, DataError, LabelError, RenamedWarning


def pictures(path) -> ImageList:
    return ImageList.from_csv(path, "labels.csv", folder="train", suffix=".jpg")


def test_the_chain_gives_the_same_bunch_as_the_factory(colour_path):
    chain = (
        pictures(colour_path)
        .split_by_rand_pct(0.2)
        .label_from_df()
        .transform(get_transforms(), size=32)
        .databunch(bs=8)
        .normalize(imagenet_stats)
    )
    factory = ImageDataBunch.from_csv(
        colour_path, folder="train", suffix=".jpg", ds_tfms=get_transforms(), size=32, bs=8
    ).normalize(imagenet_stats)
    assert chain.classes == factory.classes
    assert list(chain.valid_ds.items) == list(factory.valid_ds.items)
    assert chain.train_dl.batch_at(1, 2).x.equal(factory.train_dl.batch_at(1, 2).x)


def test_labels_from_folder_pattern_function_and_several_columns(colour_path):
    split = pictures(colour_path).split_none()
    assert split.label_from_folder().labels.classes == ["train"]
    assert len(split.label_from_re(r"p(\d)\d\d").labels.classes) == 1
    assert split.label_from_func(lambda p: int(p.stem[1:]) % 2).labels.classes == [0, 1]
    frame = pd.read_csv(colour_path / "labels.csv").assign(even=[1, 0] * 30, first=[1] + [0] * 59)
    several = ImageList.from_df(frame, colour_path, folder="train", suffix=".jpg").split_none()
    labels = several.label_from_df(cols=["even", "first"]).labels
    assert (labels.classes, labels.is_multi, labels.targets.sum()) == (["even", "first"], True, 31)


def test_a_pattern_is_searched_in_the_whole_path(colour_path):
    split = pictures(colour_path).split_none()
    assert split.label_from_re(r"/(tr[^/]+)/p").labels.classes == ["train"]
    assert split.label_from_re(rf"{colour_path.resolve().name}/([a-z]+)/", full_path=True).labels.classes == ["train"]


def test_one_column_may_stand_in_a_list(colour_path):
    frame = pd.read_csv(colour_path / "labels.csv")
    names = ImageList.from_df(frame, colour_path, cols=["name"], folder="train", suffix=".jpg")
    assert names.paths == pictures(colour_path).paths
    with pytest.raises(ArgumentError, match="expected one column, received"):
        ImageList.from_df(frame, colour_path, cols=["name", "label"])


def test_the_splits(colour_path):
    images = pictures(colour_path)
    n = len(images)
    assert len(images.split_by_idx([0, 1]).split.valid) == 2
    assert images.split_by_idxs([3], [0, 1]).split.train.tolist() == [3]
    assert images.split_by_files(["p001.jpg"]).split.valid.tolist() == [1]
    assert images.split_by_valid_func(lambda p: p.endswith("0.jpg")).split.valid.tolist() == list(range(0, n, 10))
    assert len(images.split_none().split.valid) == 0
    frame = pd.read_csv(colour_path / "labels.csv").assign(is_valid=[True] * 5 + [False] * 55)
    marked = ImageList.from_df(frame, colour_path, folder="train", suffix=".jpg").split_from_df("is_valid")
    assert marked.split.valid.tolist() == list(range(5))


def test_a_list_of_validation_names_in_a_file(colour_path, tmp_path):
    (tmp_path / "valid.txt").write_text("p001.jpg\np007.jpg\n")
    images = pictures(colour_path)
    assert images.split_by_fname_file("valid.txt", tmp_path).split.valid.tolist() == [1, 7]
    with pytest.raises(DataError, match=r"file names at .*absent\.txt, but there is no such file"):
        images.split_by_fname_file("absent.txt", tmp_path)


def test_subsets_keep_rows_and_labels_together(colour_path):
    images = pictures(colour_path).filter_by_func(lambda p: p.endswith("3.jpg"))
    assert len(images) == 6
    labels = images.split_none().label_from_df()
    frame = pd.read_csv(colour_path / "labels.csv")
    expected = [frame["label"][i] for i in range(3, 60, 10)]
    assert [str(labels.labels.label(i)) for i in range(6)] == expected
    assert len(pictures(colour_path).use_partial_data(0.1)) == 6


def test_a_wrong_order_says_what_is_missing(colour_path):
    images = pictures(colour_path)
    for call in (images.databunch, images.transform, images.label_from_folder):
        with pytest.raises(ArgumentError, match=r"neither split nor labeled.*split_none"):
            call()
    for call in (images.split_none().databunch, images.split_none().transform):
        with pytest.raises(ArgumentError, match="isn't labeled, can't"):
            call()


def test_old_spellings_work_with_a_warning(colour_path):
    with pytest.warns(RenamedWarning, match="`no_split` is now named `split_none`"):
        pictures(colour_path).no_split()
    with pytest.warns(RenamedWarning, match="now named `split_by_rand_pct`"):
        assert len(pictures(colour_path).random_split_by_pct(0.5).split.valid) == 30


def test_bad_arguments(colour_path, tmp_path):
    labelled = pictures(colour_path).split_none().label_from_df()
    with pytest.raises(ArgumentError, match="tfms is a pair"):
        labelled.transform(get_transforms()[0][0])
    with pytest.raises(LabelError, match="one label a picture, 60; received 2 labels"):
        pictures(colour_path).split_none().label_from_list(["a", "b"])
    with pytest.raises(ArgumentError, match="labelling from a column needs a table"):
        ImageList.from_folder(colour_path).split_none().label_from_df()
    with pytest.raises(DataError, match="no pictures in"):
        ImageList.from_folder(tmp_path)


def test_a_size_pair_squishes_and_a_method_overrides(colour_path):
    labelled = pictures(colour_path).split_none().label_from_df()
    assert labelled.transform(size=(20, 30)).resize.method is ResizeMethod.SQUISH
    data = labelled.transform(get_transforms(), size=(20, 30), resize_method=ResizeMethod.PAD).databunch(bs=4)
    assert data.one_batch().x.shape == (4, 3, 20, 30)


def test_repr_names_what_there_is(colour_path):
    images = pictures(colour_path)
    assert repr(images).startswith("ImageList (60 items)\n")
    split = images.split_by_rand_pct()
    assert repr(split) == "48 pictures train, 12 validate; split random, valid_pct=0.2, seed=42"
    assert "3 classes" in repr(split.label_from_df())


def test_a_column_of_words_or_folds_splits_as_on_the_command_line():
    words = ["train", "dev", "train", "test"] * 3
    pictures = ImageList.from_df(
        pd.DataFrame({"file": list("abcdefghijkl"), "label": 1, "part": words, "n": [0, 1, 2] * 4}), "."
    )
    for col in ("part", 2):
        split = pictures.split_from_df(col).split
        assert (split.train.tolist(), split.valid.tolist()) == ([0, 2, 4, 6, 8, 10], [1, 5, 9])
    assert pictures.split_from_df("n=2").split.valid.tolist() == [2, 5, 8, 11]
    with pytest.raises(LabelError, match="must hold True/False or 1/0"):
        pictures.split_from_df("n")
