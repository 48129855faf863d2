"""Every way of making a bunch, what it says about the data, and what it refuses."""

from __future__ import annotations

import re
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import PIL.Image
import pytest
import torch

from onecycle.data.augment.transforms import get_transforms
from onecycle.data.batches import imagenet_stats
from onecycle.data.bunch import ImageDataBunch
from onecycle.data.data_block import ImageList
from onecycle.data.labels.items import DatasetType
from onecycle.data.pixels.image import Image
from onecycle.errors import ArgumentError, DataError, DataWarning, LabelError, OnecycleWarning, UnreadableImagesError
from onecycle.train.device import machine

COMMON = {"size": 32, "bs": 8}


def from_csv(path, **options):
    return ImageDataBunch.from_csv(path, **{"folder": "train", "suffix": ".jpg", **COMMON, **options})


def by_class(path: Path, root: Path) -> list[Path]:
    """Copy the pictures into folders by class and part; returns the copies."""
    copies = []
    for i, row in enumerate(pd.read_csv(path / "labels.csv").itertuples()):
        target = root / ("valid" if i % 5 == 0 else "train") / row.label / f"{row.label}_{row.name}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        copies.append(Path(shutil.copy(path / "train" / f"{row.name}.jpg", target)))
    return copies


def test_a_share_of_folders_is_of_the_pictures_that_train(colour_path, tmp_path):
    by_class(colour_path, tmp_path)
    with pytest.warns(DataWarning, match=r"valid/ \(12 pictures\) is not used"):
        data = ImageDataBunch.from_folder(tmp_path, valid_pct=0.25, **COMMON)
    assert (len(data), len(data.valid_ds)) == (48, 12)
    assert all(str(path).startswith(str(tmp_path / "train")) for path in data.store.paths)
    (tmp_path / "valid").rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"there is no .*valid; pass train= and valid="):
        ImageDataBunch.from_folder(tmp_path, **COMMON)
    (tmp_path / "elsewhere").rename(tmp_path / "Val")
    with pytest.raises(DataError, match=r"there is no .*valid; pass train= and valid= \(valid='Val', say\), or"):
        ImageDataBunch.from_folder(tmp_path, **COMMON)


@pytest.mark.parametrize("test", ["valid", "./valid", "train/../valid", "{root}/valid", "valid/"])
def test_test_pictures_do_not_train_however_their_folder_is_written(colour_path, tmp_path, test):
    by_class(colour_path, tmp_path)
    data = ImageDataBunch.from_folder(tmp_path, train=".", test=test.format(root=tmp_path), valid_pct=0.25, **COMMON)
    assert (len(data), len(data.test_ds)) == (48, 12)
    assert not any("valid" in str(path) for path in data.store.paths)


def test_a_column_that_says_the_split_is_taken_or_said(colour_path):
    frame = pd.read_csv(colour_path / "labels.csv")
    frame["is_valid"] = [i % 4 == 0 for i in range(len(frame))]
    with pytest.warns(DataWarning, match="column 'is_valid' says which rows train, and is not used: split_col="):
        drawn = ImageDataBunch.from_df(colour_path, frame, "train", suffix=".jpg", **COMMON)
    assert len(drawn.valid_ds) == 12
    taken = ImageDataBunch.from_df(colour_path, frame, "train", suffix=".jpg", split_col="is_valid", **COMMON)
    assert taken.split.valid.tolist() == list(range(0, len(frame), 4))
    assert taken.split.how == "by column is_valid"
    none = ImageDataBunch.from_df(colour_path, frame, "train", suffix=".jpg", split_col="", **COMMON)
    assert none.split.valid.tolist() == drawn.split.valid.tolist()


def test_all_factories_find_the_same_pictures_and_labels(colour_path, tmp_path):
    copies = by_class(colour_path, tmp_path)
    frame = pd.read_csv(colour_path / "labels.csv")
    labels = [c.parent.name for c in copies]
    bunches = [
        from_csv(colour_path),
        ImageDataBunch.from_df(colour_path, frame, "train", suffix=".jpg", **COMMON),
        ImageDataBunch.from_lists(tmp_path, copies, labels, **COMMON),
        ImageDataBunch.from_name_func(tmp_path, copies, lambda p: p.parent.name, **COMMON),
        ImageDataBunch.from_name_re(tmp_path, copies, r"/([a-z]+)_[^/]+$", **COMMON),
        ImageDataBunch.from_folder(tmp_path, train=".", valid_pct=0.2, **COMMON),
    ]
    for data in bunches:
        assert data.classes == ["blue", "green", "red"]
        assert (data.c, data.is_multi, len(data), len(data.train_ds), len(data.valid_ds)) == (3, False, 60, 48, 12)
        counts = np.bincount(data.labels.targets)
        assert counts.tolist() == [20, 20, 20]


def test_tags_come_as_flags_lists_rows_or_texts(colour_path):
    names, tags = [f"p{i:03d}" for i in range(24)], [["sea"], ["sea", "big boat"], ["sun", "sea"], ["big boat"]] * 6
    flags = np.array([[name in row for name in ("big boat", "sea", "sun")] for row in tags], dtype=int)
    frame = pd.DataFrame({"file": names, "tags": [";".join(row) for row in tags]})
    frame[["big boat", "sea", "sun"]] = flags
    files, options = [colour_path / "train" / f"{name}.jpg" for name in names], {"suffix": ".jpg", **COMMON}
    rows = pd.DataFrame([(name, tag) for name, row in zip(names, tags, strict=True) for tag in row])
    from_df = partial(ImageDataBunch.from_df, colour_path, folder="train", **options)
    bunches = [
        from_df(frame, label_delim=";"),
        from_df(frame, label_col="big boat,sea,sun"),
        from_df(frame, label_col=[2, 3, 4]),
        from_df(rows, join_rows=True),
        ImageDataBunch.from_lists(colour_path, files, tags, **COMMON),
        ImageDataBunch.from_lists(colour_path, files, flags, classes=["big boat", "sea", "sun"], **COMMON),
    ]
    for data in bunches:
        assert data.classes == ["big boat", "sea", "sun"]
        np.testing.assert_array_equal(data.labels.targets, flags)
    with pytest.warns(
        DataWarning, match=r"'big boat' alone, which is 0/1 as 'sea', 'sun' are; .*label_col='big boat,sea,sun'"
    ):
        from_df(frame.drop(columns="tags"))
    with pytest.warns(DataWarning, match="if each row has one tag of its picture, join_rows=True joins them"):
        from_df(rows)


def test_from_folder_splits_by_the_folders(colour_path, tmp_path):
    by_class(colour_path, tmp_path)
    data = ImageDataBunch.from_folder(tmp_path, **COMMON)
    assert (len(data.train_ds), len(data.valid_ds)) == (48, 12)
    assert all("/valid/" in p.as_posix() for p in data.valid_ds.items)
    only = ImageDataBunch.from_folder(tmp_path, classes=["red", "blue"], **COMMON)
    assert only.classes == ["red", "blue"]
    with pytest.raises(DataError, match=r"there is no .*/test; pass train= and valid="):
        ImageDataBunch.from_folder(tmp_path, valid="test", **COMMON)


def test_tags(colour_path):
    data = from_csv(colour_path, csv_labels="tags.csv", label_delim=" ")
    assert data.classes == ["blue", "even", "green", "red"]
    assert data.is_multi
    batch = data.one_batch()
    assert batch.y.shape == (8, 4)
    assert batch.y.dtype == torch.float32
    assert str(data.train_ds.y[0]) in {"blue", "blue;even", "green", "even;green", "red", "even;red"}


def test_the_split_is_repeatable_by_default(colour_path):
    assert list(from_csv(colour_path).valid_ds.items) == list(from_csv(colour_path).valid_ds.items)
    assert list(from_csv(colour_path, seed=1).valid_ds.items) != list(from_csv(colour_path).valid_ds.items)


def test_a_misspelt_option_fails_at_once_and_names_the_right_one(tmp_path):
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'sise'; did you mean 'size'\?"):
        ImageDataBunch.from_csv(tmp_path / "nowhere", sise=224)


def test_missing_files_are_named_with_their_rows_and_the_suffix_that_would_help(colour_path):
    with pytest.raises(UnreadableImagesError) as caught:
        from_csv(colour_path, suffix="")
    message = str(caught.value)
    assert message.startswith(f"60 of 60 pictures of {colour_path / 'labels.csv'} cannot be read:")
    assert "\n  row 2: " in message
    assert "and 40 more" in message
    assert "There is p000.jpg: suffix='.jpg'.\n" in message
    with pytest.raises(UnreadableImagesError, match=r"The folder .*/tiles does not exist"):
        from_csv(colour_path, folder="tiles")


@pytest.fixture
def damaged(colour_path, tmp_path) -> Path:
    shutil.copytree(colour_path, tmp_path / "d")
    (tmp_path / "d" / "train" / "p003.jpg").write_bytes(b"not a picture")
    whole = (tmp_path / "d" / "train" / "p010.jpg").read_bytes()
    (tmp_path / "d" / "train" / "p010.jpg").write_bytes(whole[: len(whole) // 2])
    return tmp_path / "d"


def test_unreadable_pictures_stop_before_training_with_the_full_list(damaged):
    data = from_csv(damaged)
    with pytest.raises(UnreadableImagesError) as caught:
        data.prepare()
    message = str(caught.value)
    assert re.search(r"row 5: .*p003\.jpg \(.*not a picture", message)
    assert re.search(r"row 12: .*p010\.jpg \(", message)
    assert "unreadable='skip'" in message


def test_unreadable_pictures_can_be_skipped_and_are_counted(damaged):
    (damaged / "train" / "p020.jpg").unlink()
    with pytest.warns(DataWarning, match=r"3 of 60 pictures are missing or unreadable and are left out: row 5: .*p003"):
        data = from_csv(damaged, unreadable="skip")
    assert len(data) == 57
    data.prepare()
    assert sum(len(b.y) for b in data.fix_dl) + sum(len(b.y) for b in data.valid_dl) == 57
    with pytest.raises(ArgumentError, match="'stop' or 'skip'; received 'ignore'"):
        from_csv(damaged, unreadable="ignore")


def test_validation_pictures_of_a_class_without_training_stay_and_are_reported(colour_path):
    frame = pd.read_csv(colour_path / "labels.csv")
    plain = from_csv(colour_path)
    odd = Path(plain.valid_ds.items[0]).stem
    frame.loc[frame["name"] == odd, "label"] = "violet"
    with pytest.warns(DataWarning, match=r"1 of 12 validation pictures .* 1 classes .*'violet'.* count as errors"):
        data = ImageDataBunch.from_df(colour_path, frame, "train", suffix=".jpg", **COMMON)
    assert data.classes == ["blue", "green", "red", "violet"]
    assert len(data.valid_ds) == 12
    assert "1 of them have a class that does not occur in training" in repr(data)


def test_tag_lists_without_a_delimiter_train_as_asked_with_a_warning(colour_path):
    frame = pd.read_csv(colour_path / "labels.csv")
    rng = np.random.default_rng(0)
    frame["label"] = [" ".join(sorted(rng.choice(list("abcdefg"), 3, replace=False))) for _ in range(60)]
    with pytest.warns(DataWarning) as caught:
        data = ImageDataBunch.from_df(colour_path, frame, "train", suffix=".jpg", **COMMON)
    message = str(caught[0].message)
    assert message.startswith(f"the labels appear to be lists of tags: {data.c} different label strings are made of 7")
    assert "pass label_delim=' '" in message
    assert caught[0].filename == __file__
    assert not data.is_multi


def test_the_planet_sample(planet_path):
    with pytest.warns(DataWarning) as caught:
        data = ImageDataBunch.from_csv(planet_path, folder="train", size=224, suffix=".jpg")
    assert "101 different label strings are made of 17 tags" in str(caught[0].message)
    assert (data.c, len(data.train_ds), len(data.valid_ds), len(data.train_dl)) == (101, 800, 200, 12)
    tags = ImageDataBunch.from_csv(planet_path, folder="train", size=224, suffix=".jpg", label_delim=" ")
    assert tags.c == 17
    assert tags.train_ds[0][0].shape == (3, 224, 224)


def test_normalize_once_with_given_or_measured_statistics(colour_path):
    data = from_csv(colour_path)
    assert data.normalize(imagenet_stats) is data
    assert data.stats == imagenet_stats
    with pytest.raises(ArgumentError, match="Can not call normalize twice"):
        data.normalize()
    measured = from_csv(colour_path).normalize()
    x = measured.one_batch(denorm=False).x
    assert x.mean(dim=(0, 2, 3)).abs().max() < 1e-4
    assert torch.allclose(x.std(dim=(0, 2, 3)), torch.ones(3), atol=1e-4)


def test_show_batch_draws_the_pixels_and_labels_of_the_batch(colour_path):
    data = from_csv(colour_path, ds_tfms=get_transforms())
    for is_train, loader in ((True, data.train_dl), (False, data.valid_dl)):
        figure = data.show_batch(rows=2, figsize=(6, 6), is_train=is_train, return_fig=True)
        batch = loader.replace(bs=4).batch_at(0, 0)
        part = data.dataset(DatasetType.Train if is_train else DatasetType.Valid)
        for axis, picture, i in zip(figure.axes, batch.x, batch.indices.tolist(), strict=True):
            assert axis.get_title() == str(part.y[i])
            assert np.allclose(axis.images[0].get_array(), picture.permute(1, 2, 0).numpy())


def test_show_batch_of_fewer_pictures_than_the_grid_works(colour_path):
    figure = from_csv(colour_path).show_batch(rows=5, ds_type=DatasetType.Valid, return_fig=True)
    assert sum(len(a.images) for a in figure.axes) == 8
    with pytest.raises(ArgumentError, match="at least 1; received 0"):
        from_csv(colour_path).show_batch(rows=0)


def test_a_test_set_has_no_labels(colour_path):
    data = from_csv(colour_path, test="train")
    assert len(data.test_ds) == 60
    assert str(data.test_ds[0][1]) == ""
    assert len(data.test_dl) == 8
    assert from_csv(colour_path).test_ds is None
    with pytest.raises(ArgumentError, match="no pictures in its part Test: pass test="):
        from_csv(colour_path).dataset(DatasetType.Test)


def test_without_validation_pictures(colour_path):
    data = from_csv(colour_path, valid_pct=0.0)
    assert len(data.train_ds) == 60
    assert "Valid: 0 pictures" in repr(data)
    with pytest.raises(ArgumentError, match="no pictures in its part Valid: pass valid_pct"):
        data.valid_ds  # noqa: B018


def test_the_table_is_not_kept_beside_what_was_read_from_it(colour_path):
    frame = pd.read_csv(colour_path / "labels.csv")
    data = ImageDataBunch.from_df(colour_path, frame, folder="train", suffix=".jpg", **COMMON)
    assert data.lists.pictures.frame is None
    assert from_csv(colour_path).lists.pictures.frame is None
    frame["site"] = "A"
    data = ImageDataBunch.from_df(colour_path, frame, folder="train", suffix=".jpg", **COMMON)
    assert list(data.lists.pictures.frame.columns) == ["site"], "but what else it says"
    assert len(data.lists.pictures.paths) == len(frame)


def test_repr_says_what_matters(colour_path):
    text = repr(from_csv(colour_path, bs=10))
    assert text.splitlines()[0] == "ImageDataBunch: 3 classes, 32×32 px"
    assert "Train: 48 pictures, of which each epoch leaves 8 out (last incomplete batch)" in text
    assert "split random, valid_pct=0.2, seed=42" in text


def test_the_same_file_gives_the_same_tensor_in_validation_and_alone(colour_path):
    data = from_csv(colour_path, size=24)
    batch = data.valid_dl.batch_at(0, 0)
    pictures = [Image.from_numpy(np.asarray(PIL.Image.open(p))) for p in data.valid_ds.items[:8]]
    alone = data.single_loader(pictures, stats=None).batch_at(0, 0)
    assert torch.equal(batch.x, alone.x)


def test_missing_labels_are_named(colour_path):
    frame = pd.read_csv(colour_path / "labels.csv")
    frame.loc[4, "label"] = None
    with pytest.raises(LabelError, match="the DataFrame: no label at row 4"):
        ImageDataBunch.from_df(colour_path, frame, "train", suffix=".jpg", **COMMON)


def test_pictures_listed_twice_are_counted_and_leaks_named(colour_path):
    frame = pd.read_csv(colour_path / "labels.csv")
    with pytest.warns(DataWarning, match=r"60 pictures are listed more than once, and \d+ of them both train and val"):
        ImageDataBunch.from_df(colour_path, pd.concat([frame, frame]), "train", suffix=".jpg", **COMMON)


def test_an_old_spelling_names_the_new_one(colour_path):
    with pytest.raises(TypeError, match="did you mean 'label_delim'"):
        from_csv(colour_path, sep=" ")


def test_what_is_odd_about_classes_and_parts_is_said(colour_path):
    frame = pd.read_csv(colour_path / "labels.csv")
    with pytest.warns(DataWarning, match="there is only one class, 'red'"):
        ImageDataBunch.from_df(colour_path, frame[frame["label"] == "red"], "train", suffix=".jpg", **COMMON)
    with pytest.warns(DataWarning, match="the validation part is empty"):
        from_csv(colour_path, valid_pct=0.001)
    with pytest.warns(DataWarning, match="label_delim=';' does not occur"):
        from_csv(colour_path, label_delim=";")


def test_blanks_around_a_label_make_no_class(colour_path):
    frame = pd.read_csv(colour_path / "labels.csv")
    frame.loc[0, "label"] = " red "
    assert ImageDataBunch.from_df(colour_path, frame, "train", suffix=".jpg", **COMMON).c == 3


def test_a_resize_method_can_be_named_and_is_checked(colour_path):
    assert from_csv(colour_path, size=(20, 30), resize_method="pad").lists.resize.method.name == "PAD"
    assert from_csv(colour_path, size=np.int64(20)).lists.resize.size == (20, 20)
    with pytest.raises(ArgumentError, match=r"CROP, PAD, SQUISH, NO \(or the name\); received 'foo'"):
        from_csv(colour_path, resize_method="foo")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here, so asking for it is right")
def test_without_the_gpu_that_was_asked_for_all_runs_on_the_cpu_and_that_is_said_once(colour_path):
    machine._say_no_gpu.cache_clear()
    with pytest.warns(OnecycleWarning, match="PyTorch sees no GPU here: all runs on the CPU"):
        assert from_csv(colour_path, device=torch.device("cuda")).device == torch.device("cpu")
    assert from_csv(colour_path, device=torch.device("cuda")).device == torch.device("cpu")


def test_a_batch_can_be_indexed_as_a_pair(colour_path):
    batch = from_csv(colour_path).one_batch()
    assert len(batch) == 2
    assert batch[0] is batch.x
    assert batch[1] is batch.y


def test_a_resized_bunch_is_the_same_in_all_but_size(colour_path, tmp_path):
    test = [colour_path / "train" / "p000.jpg"]
    seen = []
    data = from_csv(
        colour_path,
        ds_tfms=get_transforms(),
        seed=5,
        val_bs=6,
        test=test,
        padding_mode="border",
        resize_method="squish",
        scaled_decode=False,
        pixel_cache="memory",
        dl_tfms=[lambda xy: seen.append(xy[0].shape) or xy],
    ).normalize(imagenet_stats)
    larger = data.resized(48)
    assert larger.one_batch().x.shape == (8, 3, 48, 48)
    assert data.one_batch().x.shape == (8, 3, 32, 32)
    assert seen == [(8, 3, 48, 48), (8, 3, 32, 32)]
    for name in ("classes", "stats", "seed", "device", "path", "train_tfms", "labels", "is_multi"):
        assert getattr(larger, name) == getattr(data, name)
    for part in ("train", "valid"):
        assert np.array_equal(getattr(larger.split, part), getattr(data.split, part))
    assert list(larger.train_ds.items) == list(data.train_ds.items)
    assert list(larger.test_ds.items) == list(data.test_ds.items)
    assert (larger.train_dl.bs, larger.valid_dl.bs) == (8, 6)
    assert np.array_equal(larger.train_dl.order(3), data.train_dl.order(3))
    before, after = data.lists.resize, larger.lists.resize
    assert (after.method, after.padding_mode, after.scaled_decode) == (before.method, "border", False)
    larger.prepare()
    assert larger.store.in_memory
    assert torch.equal(larger.one_batch(DatasetType.Valid).y, data.one_batch(DatasetType.Valid).y)


def test_a_resized_bunch_gives_what_one_of_that_size_gives(colour_path):
    resized = from_csv(colour_path, ds_tfms=get_transforms()).resized((40, 48))
    fresh = from_csv(colour_path, ds_tfms=get_transforms(), size=(40, 48), resize_method="crop")
    assert torch.equal(resized.train_dl.batch_at(2, 1).x, fresh.train_dl.batch_at(2, 1).x)
    assert torch.equal(resized.valid_dl.batch_at(0, 0).x, fresh.valid_dl.batch_at(0, 0).x)
    as_stored = resized.resized(None)
    assert as_stored.lists.resize.size is None
    assert as_stored.resized(32).lists.resize == from_csv(colour_path).lists.resize


def test_a_resized_bunch_may_have_other_batches(colour_path):
    data = from_csv(colour_path)
    assert (data.resized(24, bs=4).train_dl.bs, data.resized(24, bs=4).valid_dl.bs) == (4, 4)
    own = from_csv(colour_path, val_bs=3)
    assert (own.resized(24, bs=4).train_dl.bs, own.resized(24, bs=4).valid_dl.bs) == (4, 3)
    with pytest.raises(ArgumentError, match="at least 1; received 0"):
        data.resized(24, bs=0).train_dl  # noqa: B018
    with pytest.raises(ArgumentError, match="each at least 1; received 0"):
        data.resized(0)


def test_a_resized_bunch_leaves_out_the_same_unreadable_pictures(colour_path, tmp_path):
    shutil.copytree(colour_path, tmp_path / "d")
    (tmp_path / "d" / "train" / "p007.jpg").write_bytes(b"no picture")
    (tmp_path / "d" / "train" / "p011.jpg").unlink()
    with pytest.warns(DataWarning, match="2 of 60 pictures are missing or unreadable and are left out"):
        data = from_csv(tmp_path / "d", unreadable="skip")
    larger = data.resized(48)
    assert np.array_equal(larger.split.train, data.split.train)
    assert np.array_equal(larger.split.valid, data.split.valid)
    larger.prepare()
    assert len(larger) == 58


def test_another_split_by_rows_changes_nothing_else(colour_path):
    data = from_csv(colour_path, size=32, bs=8)
    other = data.split_by_rows(range(10), [20, 30], "mine")
    assert (len(other.split.train), other.split.valid.tolist(), other.split.how) == (10, [20, 30], "mine")
    assert other.store is data.store
    assert len(other) == 12
    with pytest.raises(ArgumentError, match="both training and validation"):
        data.split_by_rows([1, 2], [2])


@pytest.mark.parametrize("is_multi", [False, True])
def test_a_bunch_without_pictures_has_classes_and_a_preprocess(colour_path, tmp_path, is_multi):
    data = ImageDataBunch.single_from_classes(tmp_path, ["b", "a"], is_multi=is_multi, size=32)
    assert (data.classes, data.c, data.is_multi, len(data)) == (["b", "a"], 2, is_multi, 0)
    assert "for predictions only" in repr(data)
    picture = sorted((colour_path / "train").iterdir())[0]
    x = data.single_loader([picture], stats=None).batch_at(0, 0).x
    assert x.shape == (1, 3, 32, 32)
    with pytest.raises(ArgumentError, match="no pictures in its part Train"):
        _ = data.train_ds


def relative(how: str, root: Path) -> ImageDataBunch:
    names = [f"train/{p.name}" for p in sorted((root / "train").glob("*.jpg"))]
    table = pd.read_csv(root / "labels.csv")
    options = {"size": 32, "bs": 8, "pixel_cache": "off", "test": "train"}
    if how == "from_csv":
        return ImageDataBunch.from_csv("colours", folder="train", suffix=".jpg", **options)
    if how == "from_df":
        return ImageDataBunch.from_df(Path("colours"), table, folder="train", suffix=".jpg", **options)
    if how == "from_lists":
        return ImageDataBunch.from_lists("colours", [f"colours/{n}" for n in names], ["a", "b"] * 30, **options)
    if how == "from_name_func":
        files = [Path("./colours") / n for n in names]
        return ImageDataBunch.from_name_func("colours", files, lambda p: str(p)[-5], **options)
    lists = ImageList.from_csv("colours", "labels.csv", folder="train", suffix=".jpg").split_by_rand_pct()
    lists = lists.label_from_df().add_test(["colours/train/p000.jpg"])
    return lists.transform(None, size=32).databunch(bs=8, pixel_cache="off")


@pytest.mark.parametrize("how", ["from_csv", "from_df", "from_lists", "from_name_func", "data block"])
def test_relative_paths_are_made_absolute_when_the_data_is_made(colour_path, tmp_path, monkeypatch, how):
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "colours").symlink_to(colour_path)
    monkeypatch.chdir(tmp_path / "here")
    data = relative(how, colour_path)
    here = data.valid_dl.batch_at(0, 0).x
    monkeypatch.chdir(tmp_path)
    assert data.path == tmp_path / "here" / "colours"
    assert all(str(p).startswith(f"{data.path}/train/") for p in (*data.store.paths, *data.test_ds.items))
    assert torch.equal(data.valid_dl.batch_at(0, 0).x, here)
    assert data.resized(24).valid_dl.batch_at(0, 0).x.shape[-1] == 24
    assert len(data.test_dl.batch_at(0, 0).x) > 0


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="there is one here, so asking for it is right")
def test_a_gpu_of_another_kind_that_is_not_there_is_refused(colour_path):
    with pytest.raises(ArgumentError, match="device='mps' was asked for, and PyTorch sees no such GPU"):
        from_csv(colour_path, device="mps")


def test_a_gpu_beyond_the_last_is_refused(colour_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ArgumentError, match="device='cuda:2' was asked for, and PyTorch sees no such GPU"):
        from_csv(colour_path, device="cuda:2")
