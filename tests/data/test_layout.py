"""What a data set is, found by looking: tables, their columns, folders, and what cannot be told."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import PIL.Image
import pytest

from onecycle.data.audit.audit import audit_table
from onecycle.data.labels.find.columns import LayoutOptions
from onecycle.data.labels.read import read_table
from onecycle.data.layout import DataLayout, find_layout
from onecycle.data.pixels.resize import ResizeSpec
from onecycle.errors import ArgumentError, DataError, DataWarning


def picture(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    PIL.Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(path)


def table(root: Path, frame: pd.DataFrame, name: str = "labels.csv", sep: str = ",") -> Path:
    root.mkdir(parents=True, exist_ok=True)
    frame.to_csv(root / name, sep=sep, index=False)
    return root / name


@pytest.fixture
def tiles(tmp_path) -> Path:
    """Forty pictures ``img/tiles/p00.png`` …, not yet a table."""
    for i in range(40):
        picture(tmp_path / "img" / "tiles" / f"p{i:02d}.png", i)
    return tmp_path


NAMES = [f"p{i:02d}" for i in range(40)]
TAGS = ["clear", "clear road", "haze", "haze road", "clear water", "haze water"]
CYCLED = [TAGS[i % 6] for i in range(40)]


def test_a_table_of_tags_is_understood_from_its_cells_and_its_files(tiles):
    table(tiles, pd.DataFrame({"image_name": NAMES, "tags": CYCLED}))
    layout = find_layout(tiles)
    roles = layout.table
    assert (layout.csv, layout.kind, layout.is_multi) == ("labels.csv", "table", True)
    assert (roles.folder, roles.suffix, roles.fn_col, roles.label_col) == ("img/tiles", ".png", "image_name", "tags")
    data = layout.bunch(size=32, bs=4)
    assert data.classes == ["clear", "haze", "road", "water"]
    text = "\n".join(layout.lines())
    assert "img/tiles/<image_name>.png" in text
    assert "--label-delim" in text
    assert "image_name=p00, tags=clear" in text
    assert max(map(len, layout.lines()[1:])) <= 80


def test_the_bunch_and_the_audit_split_alike(tiles):
    table(tiles, pd.DataFrame({"name": NAMES, "tags": CYCLED, "site": [f"s{i // 4}" for i in range(40)]}))
    for options in (LayoutOptions(), LayoutOptions(group_col="site"), LayoutOptions(label_delim="")):
        layout = find_layout(tiles, options)
        for stratify in (True, False):
            split = layout.bunch(size=32, stratify=stratify, seed=3).split
            drawn = layout.pictures.split(stratify=stratify, seed=3)
            np.testing.assert_array_equal(drawn.valid, split.valid)
            np.testing.assert_array_equal(drawn.train, split.train)


def test_numbers_as_classes_split_alike_too(tiles):
    table(tiles, pd.DataFrame({"name": NAMES, "label": [i % 12 for i in range(40)]}))
    layout = find_layout(tiles)
    np.testing.assert_array_equal(layout.pictures.split(stratify=True).valid, layout.bunch(size=32).split.valid)
    assert layout.bunch(size=32).classes == list(range(12))


def test_a_label_of_several_words_is_one_label(tiles):
    table(tiles, pd.DataFrame({"file": NAMES, "breed": ["golden retriever", "great pyrenees"] * 20}))
    layout = find_layout(tiles)
    assert not layout.is_multi
    assert layout.bunch(size=32).classes == ["golden retriever", "great pyrenees"]


def test_one_label_a_picture_can_be_asked_for(tiles):
    table(tiles, pd.DataFrame({"name": NAMES, "tags": CYCLED}))
    layout = find_layout(tiles, LayoutOptions(label_delim=""))
    assert not layout.is_multi
    assert layout.describe()["label_delim"] == ""


@pytest.mark.parametrize(("name", "sep"), [("labels.csv", ";"), ("labels.tsv", "\t"), ("data.csv", "\t")])
def test_other_delimiters_between_cells(tiles, name, sep):
    table(tiles, pd.DataFrame({"name": NAMES, "label": ["a", "b"] * 20}), name, sep)
    layout = find_layout(tiles)
    assert layout.csv == name
    data = layout.bunch(size=32)
    assert (data.classes, len(data.labels)) == (["a", "b"], 40)
    np.testing.assert_array_equal(layout.pictures.split(stratify=True).valid, data.split.valid)


@pytest.mark.parametrize("write", [str, "'{}'".format, "{}.png".format, float])
def test_names_that_lost_their_zeros_or_have_quotes_are_called_so(tmp_path, write):
    for i in range(12):
        picture(tmp_path / f"{i:03d}.png", i)
    table(tmp_path, pd.DataFrame({"id": [write(i) for i in range(12)], "label": ["a", "b"] * 6}))
    with pytest.raises(DataError, match=r"column id nearly do: .*11.* for 011\.png.*leading zeros"):
        find_layout(tmp_path)


def test_a_table_of_one_column_asks_for_the_delimiter(tiles):
    table(tiles, pd.DataFrame({"name": NAMES, "label": ["a", "b"] * 20}), sep="^")
    with pytest.raises(DataError, match="it has a single column: is the delimiter right"):
        find_layout(tiles)
    assert find_layout(tiles, LayoutOptions(delimiter="^")).bunch(size=32).classes == ["a", "b"]


def test_a_layout_of_flags_and_one_of_rows_are_found_again(tiles):
    flags = pd.DataFrame(
        {"name": NAMES, **{c: [int(i % 4 == k or i % 4 == 3) for i in range(40)] for k, c in enumerate("abc")}}
    )
    table(tiles, flags)
    with pytest.warns(DataWarning, match="3 columns of 0/1"):
        first = find_layout(tiles)
    asked = {name: value for name, value in first.describe().items() if name != "data"}
    again = find_layout(tiles, LayoutOptions(**asked))
    np.testing.assert_array_equal(again.pictures.labels.targets, flags[list("abc")])
    table(tiles, pd.DataFrame({"name": [*NAMES, *NAMES[:9]], "tag": ["big boat", "sea"] * 20 + ["sun"] * 9}))
    asked = {
        name: value
        for name, value in find_layout(tiles, LayoutOptions(join_rows=True)).describe().items()
        if name != "data"
    }
    again = find_layout(tiles, LayoutOptions(**asked))
    assert (len(again.pictures), again.is_multi, again.bunch(size=32).classes) == (40, True, ["big boat", "sea", "sun"])


def test_parquet(tiles):
    pd.DataFrame({"label": ["a", "b"] * 20, "name": NAMES}).to_parquet(tiles / "set.parquet")
    layout = find_layout(tiles / "set.parquet")
    assert (layout.table.fn_col, layout.table.label_col) == ("name", "label")
    np.testing.assert_array_equal(layout.pictures.split(stratify=True).valid, layout.bunch(size=32).split.valid)


def test_a_damaged_parquet_file(tiles):
    (tiles / "set.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match=r"set\.parquet could not be read"):
        find_layout(tiles / "set.parquet")


def test_every_damage_to_a_parquet_file_is_a_data_error(tmp_path):
    path = tmp_path / "t.parquet"
    pd.DataFrame({"file": ["a", "b", "c"], "label": pd.Categorical(["red", "blue", "red"])}).to_parquet(path)
    whole, refused = path.read_bytes(), 0
    for at in range(0, len(whole), 9):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        try:
            read_table(path)
        except DataError:
            refused += 1
    assert refused > 20


def test_parquet_lists_are_tags_and_what_is_nested_deeper_is_named(tiles):
    tags = [["sea"], ["sea", "big boat"], []] * 13 + [["sea"]]
    frame = pd.DataFrame({"name": NAMES, "label": tags, "box": [{"x": i} for i in range(40)]})
    frame.to_parquet(tiles / "set.parquet")
    layout = find_layout(tiles)
    assert (layout.is_multi, layout.bunch(size=32).classes) == (True, ["big boat", "sea"])
    assert "column 'box' holds records or lists of lists" in "\n".join(layout.lines())


PNG = b"\x89PNG"


@pytest.mark.parametrize("cell", [{"bytes": PNG, "path": "p.png"}, {"bytes": PNG}, {"bytes": PNG, "n": 1}, PNG, [PNG]])
def test_pictures_inside_of_a_parquet_table_are_called_so(tiles, cell):
    pd.DataFrame({"image": [cell] * 40, "label": ["a", "b"] * 20}).to_parquet(tiles / "set.parquet")
    with pytest.raises(
        DataError, match=r"column 'image' holds the pictures themselves, .*write each picture to a file"
    ):
        find_layout(tiles)


def test_pictures_inside_of_a_parquet_table_beside_names_of_files_are_left_out_and_named(tiles):
    images = [{"bytes": b"\x89PNG", "path": None}] * 40
    pd.DataFrame({"thumb": images, "file": NAMES, "label": ["a", "b"] * 20}).to_parquet(tiles / "set.parquet")
    assert "column 'thumb' holds the pictures themselves" in "\n".join(find_layout(tiles).lines())


def test_the_paths_of_pictures_that_are_not_inside_name_files(tiles):
    images = [{"bytes": None, "path": f"{name}.png"} for name in NAMES]
    pd.DataFrame({"image": images, "label": ["a", "b"] * 20}).to_parquet(tiles / "set.parquet")
    assert find_layout(tiles).table.fn_col == "image"


def test_texts_that_a_parquet_table_calls_bytes_are_texts(tiles):
    cells = {"image": [name.encode() for name in NAMES], "label": ["grün".encode(), b"b"] * 20}
    pd.DataFrame(cells).to_parquet(tiles / "set.parquet")
    layout = find_layout(tiles)
    assert (layout.table.fn_col, layout.bunch(size=32).classes) == ("image", ["b", "grün"])


@pytest.mark.parametrize("kind", [float, "Int64", "int32"])
def test_ids_of_a_parquet_table_are_whole_numbers_whatever_it_stores(tmp_path, kind):
    for i in range(10):
        picture(tmp_path / f"{i}.png", i)
    ids = pd.Series(range(10), dtype=kind)
    pd.DataFrame({"id": ids, "label": ["a", "b"] * 5}).to_parquet(tmp_path / "labels.parquet")
    assert find_layout(tmp_path).pictures.paths[3].endswith("/3.png")


def test_columns_that_are_neither_are_not_taken(tiles):
    frame = pd.DataFrame(
        {
            "id": range(40),
            "lat": np.linspace(50, 51, 40),
            "file": NAMES,
            "kind": ["x", "y"] * 20,
            "site": ["n", "s"] * 20,
        }
    )
    table(tiles, frame)
    layout = find_layout(tiles)
    assert (layout.table.fn_col, layout.table.label_col) == ("file", "kind")
    assert "--group-col site" in layout.hints[0]
    assert layout.table.group_col is None


def test_two_columns_that_could_be_labels_are_named(tiles):
    table(tiles, pd.DataFrame({"file": NAMES, "crop": ["x", "y"] * 20, "soil": ["u", "v"] * 20}))
    with pytest.raises(ArgumentError, match=r"crop \(2 different, e.g. x\); soil .* --label-col"):
        find_layout(tiles)
    assert find_layout(tiles, LayoutOptions(label_col="soil")).table.label_col == "soil"
    assert find_layout(tiles, LayoutOptions(label_col=1)).table.label_col == "crop"
    with pytest.raises(ArgumentError, match="no column 'sol'"):
        find_layout(tiles, LayoutOptions(label_col="sol"))


def test_no_column_names_pictures(tiles):
    table(tiles, pd.DataFrame({"file": [f"q{i}" for i in range(40)], "label": ["x", "y"] * 20}))
    with pytest.raises(DataError, match=r"file=q0.*img/tiles/.*--fn-col, --folder and --suffix"):
        find_layout(tiles)
    asked = LayoutOptions(fn_col="file", folder="img", suffix=".jpg")
    assert find_layout(tiles, asked).table.suffix == ".jpg"  # for an audit, which names what is gone


def test_several_tables(tiles):
    table(tiles, pd.DataFrame({"file": NAMES, "label": ["x", "y"] * 20}), "train.csv")
    table(tiles, pd.DataFrame({"file": ["none"] * 40, "label": ["x", "y"] * 20}), "sample_submission.csv")
    assert find_layout(tiles).csv == "train.csv"
    table(tiles, pd.DataFrame({"file": NAMES, "label": ["x", "y"] * 20}), "second.csv")
    with pytest.raises(ArgumentError, match=r"2 tables .*second\.csv, train\.csv.*--csv"):
        find_layout(tiles)
    assert find_layout(tiles, LayoutOptions(csv="second.csv")).csv == "second.csv"


def folders(root: Path, *below: str) -> Path:
    for k, part in enumerate(below):
        for i in range(10):
            picture(root / part / f"p{i}.png", 100 * k + i)
    return root


def test_folders_of_classes(tmp_path):
    layout = find_layout(folders(tmp_path, "cat", "dog"))
    assert (layout.kind, layout.csv) == ("class folders", None)
    data = layout.bunch(size=32)
    assert (data.classes, len(data.valid_ds)) == (["cat", "dog"], 4)
    np.testing.assert_array_equal(layout.pictures.split(stratify=True).valid, data.split.valid)


def test_train_and_valid_folders_are_the_split(tmp_path):
    layout = find_layout(folders(tmp_path, "train/cat", "train/dog", "valid/cat", "valid/dog"))
    assert layout.kind == "train and valid folders"
    data = layout.bunch(size=32, valid_pct=0.1)
    assert len(data.valid_ds) == 20
    np.testing.assert_array_equal(layout.pictures.split(stratify=True).valid, data.split.valid)


def test_only_a_train_folder(tmp_path):
    layout = find_layout(folders(tmp_path, "train/cat", "train/dog"))
    assert layout.root == tmp_path / "train"
    assert layout.bunch(size=32).classes == ["cat", "dog"]


@pytest.mark.parametrize(
    ("below", "match"),
    [
        (
            ("cat", "cat/day", "dog", "dog/day"),
            r"deeper .*: cat/day \(10\), dog/day \(10\)\. .* have 3 classes: cat, day, dog\. Move the pictures up",
        ),
        (("train/cat", "train/cat/day", "valid/cat"), r"train/cat/day \(10\)\. .* 2 classes: cat, day"),
        (("train/cat", "train/dog/day"), r"dog/day \(10\)\. .* 2 classes: cat, day"),
        (("images/cat", "images/dog"), r"name the folder above them: .*/images$"),
        (("seg_train/cat", "seg_test/cat"), r"If seg_test and seg_train are the parts .*--folder seg_train,seg_test"),
    ],
)
def test_pictures_deeper_than_their_class_are_refused(tmp_path, below, match):
    with pytest.raises(DataError, match=match):
        find_layout(folders(tmp_path, *below))


@pytest.mark.parametrize(
    ("train", "valid"),
    [("train", "val"), ("Train", "Valid"), ("training", "validation"), ("train", "dev"), ("train_set", "eval-set")],
)
def test_folders_that_plainly_mean_train_and_valid_are_taken(tmp_path, train, valid):
    folders(tmp_path, *(f"{part}/{kind}" for part in (train, valid) for kind in ("cat", "dog")), "test/cat", "more")
    layout = find_layout(tmp_path)
    data = layout.bunch(size=32)
    assert (layout.kind, len(data.train_ds), len(data.valid_ds)) == ("train and valid folders", 20, 20)
    assert all(f"/{valid}/" in str(path) for path in data.valid_ds.items)
    np.testing.assert_array_equal(layout.pictures.split(stratify=True).valid, data.split.valid)
    assert f"by the folders {train}/ and {valid}/" in data.split.how
    assert layout.test == str(tmp_path / "test")
    assert layout.hints[0].startswith("more/ (10 pictures) is not used: ")
    assert layout.hints[1].endswith(f"afterwards: onecycle evaluate RUN {tmp_path}/test")


def test_a_test_folder_beside_train_is_named_and_stays_out(tmp_path):
    layout = find_layout(folders(tmp_path, "training_set/cat", "training_set/dog", "Testing/cat", "Testing/dog"))
    assert len(layout.pictures) == 20
    assert layout.hints[0].startswith("Testing/ (20 pictures) is not used for training; afterwards: onecycle evaluate")


def test_test_pictures_without_labels_are_for_predict(tmp_path):
    layout = find_layout(folders(tmp_path, "train/cat", "train/dog", "test"))
    assert (layout.test, len(layout.pictures)) == (None, 20)
    assert layout.hints[0].endswith(f"onecycle predict RUN {tmp_path}/test")


def test_two_folders_for_one_part_are_asked(tmp_path):
    with pytest.raises(DataError, match="folders dev and val are named as one and the same part"):
        find_layout(folders(tmp_path, "train/cat", "val/cat", "dev/cat"))


def test_a_class_that_is_called_train_is_a_class(tmp_path):
    assert find_layout(folders(tmp_path, "train", "bus")).bunch(size=32).classes == ["bus", "train"]


def test_pictures_of_parts_without_classes_are_refused_and_a_table_beside_them_is_named(tmp_path):
    folders(tmp_path, "train", "test")
    with pytest.raises(DataError, match=r"in no folders of classes \(test and train are read as parts of a split\)"):
        find_layout(tmp_path)
    frame = pd.DataFrame({"file_name": [f"p{i}.png" for i in range(10)], "label": ["a", "b"] * 5})
    table(tmp_path / "train", frame, "metadata.csv")
    with pytest.raises(DataError, match=r"a table below \(train/metadata.csv\): name its folder, .*/train"):
        find_layout(tmp_path)
    assert find_layout(tmp_path / "train").bunch(size=32).classes == ["a", "b"]


def test_tables_that_name_nothing_are_named(tmp_path):
    table(folders(tmp_path, "cat", "dog"), pd.DataFrame({"a": [1, 2], "b": [3, 4]}), "notes.csv")
    assert find_layout(tmp_path).hints == ("not used: notes.csv (--csv takes another table)",)


def test_a_table_that_fits_two_folders_is_asked_about_and_not_left_for_the_folders(tmp_path):
    folders(tmp_path, "train", "test")
    table(tmp_path, pd.DataFrame({"id": [f"p{i}" for i in range(10)], "label": ["a", "b"] * 5}), "trainLabels.csv")
    with pytest.raises(ArgumentError, match=r"in 2 places: .*--folder"):
        find_layout(tmp_path)
    assert find_layout(tmp_path, LayoutOptions(folder="train")).bunch(size=32).classes == ["a", "b"]
    table(tmp_path, pd.DataFrame({"id": [f"p{i}" for i in range(10)], "label": ["a"] * 10}), "sample.csv")
    with pytest.raises(ArgumentError, match=r"2 tables .*sample\.csv, trainLabels\.csv; choose one with --csv"):
        find_layout(tmp_path)


def test_a_table_of_what_to_hand_in_holds_no_labels(tmp_path):
    """Kaggle's layout: labels for train/, a sample for test/."""
    for i in range(10):
        picture(tmp_path / "train" / f"{i}.png", i)
        picture(tmp_path / "test" / f"{i + 50}.png", i + 50)
    sample = pd.DataFrame({"id": range(50, 60), "label": ["a"] * 10})
    table(tmp_path, sample, "sample_submission.csv")
    with pytest.raises(DataError, match=r"train are in no folders of classes .*--csv"):
        find_layout(tmp_path)
    table(tmp_path, pd.DataFrame({"id": range(10), "label": ["a", "b"] * 5}), "train.csv")
    layout = find_layout(tmp_path)
    assert (layout.csv, layout.table.folder) == ("train.csv", "train")
    assert layout.hints == ("not used: sample_submission.csv (--csv takes another table)",)
    assert find_layout(tmp_path, LayoutOptions(csv="sample_submission.csv")).table.folder == "test"
    root = tmp_path / "folders"
    folders(root, "train/cat", "train/dog")
    for i in range(50, 60):
        picture(root / "test" / f"{i}.png", i)
    table(root, sample, "sample_submission.csv")
    layout = find_layout(root)
    assert (layout.kind, len(layout.pictures)) == ("class folders", 20)
    assert [hint.split()[0] for hint in layout.hints] == ["not", "test/"]


def test_linked_folders_are_followed_and_loops_and_dead_links_are_named(tmp_path):
    store = folders(tmp_path / "store", "cat", "dog", "owl")
    root = tmp_path / "data"
    root.mkdir()
    for name in ("cat", "dog"):
        (root / name).symlink_to(store / name)
    folders(root, "owl")
    data = find_layout(root).bunch(size=32)
    assert (data.classes, len(data)) == (["cat", "dog", "owl"], 30)
    (root / "up").symlink_to(root)
    (root / "owl" / "self").symlink_to(root / "owl")
    (root / "bat").symlink_to(tmp_path / "nowhere")
    (root / "owl" / "x.png").symlink_to(tmp_path / "nowhere.png")
    pictures = find_layout(root).pictures
    assert len(pictures) == 31  # the link to no picture is one of a missing file
    assert {p.kind: p.where for p in pictures.problems()} == {"lost-link": ("bat", "owl/self", "up")}
    (root / "owl" / "more").symlink_to(store / "owl")
    with pytest.raises(DataError, match=r"deeper .*owl/more \(10\)"):
        find_layout(root)


def test_a_class_whose_files_are_none_of_the_known_kinds_is_named_with_them(tmp_path):
    folders(tmp_path, "cat", "dog", "owl")
    for file in (tmp_path / "owl").iterdir():
        file.rename(file.with_suffix(".heic"))
    (tmp_path / "none").mkdir()
    (problem,) = find_layout(tmp_path).pictures.problems()
    owl = f"{tmp_path.name}/owl, but files of other kinds (10 .heic)"
    assert (problem.kind, problem.where) == ("empty-folder", (f"{tmp_path.name}/none", owl))


def test_two_spellings_of_a_folder_are_one_class(tmp_path):
    spelt = [unicodedata.normalize(form, "café") for form in ("NFC", "NFD")]
    layout = find_layout(folders(tmp_path, f"train/{spelt[0]}", "train/tea", f"valid/{spelt[1]}", "valid/tea"))
    assert "2 of them: café, tea" in layout.reasons[0][1]
    assert layout.bunch(size=32).classes == [spelt[0], "tea"]


def test_a_split_of_the_table_is_taken_and_shown(tiles):
    parts = ["train"] * 24 + ["val"] * 8 + ["test"] * 8
    table(tiles, pd.DataFrame({"file": NAMES, "breed": ["a", "b"] * 20, "split": parts, "fold": [0, 0, 1, 1] * 10}))
    with pytest.raises(ArgumentError, match="several columns that could hold the labels: breed"):
        find_layout(tiles)
    layout = find_layout(tiles, LayoutOptions(label_col="breed"))
    data = layout.bunch(size=32)
    assert (data.split.train.tolist(), data.split.valid.tolist()) == (list(range(24)), list(range(24, 32)))
    np.testing.assert_array_equal(layout.pictures.split(stratify=True).valid, data.split.valid)
    assert (layout.describe()["split_col"], layout.test) == ("split", str(tiles))
    text = " ".join(" ".join(layout.lines()).split())
    assert "by column split: 24 rows train, 8 validate; 8 for testing are left out" in text
    assert "column fold (0, 1) may say the split" in text
    drawn = find_layout(tiles, LayoutOptions(label_col="breed", split_col=""))
    assert (len(drawn.bunch(size=32)), drawn.test) == (40, None)
    folded = find_layout(tiles, LayoutOptions(label_col="breed", split_col="fold=1")).bunch(size=32)
    assert folded.split.valid.tolist() == [i for i in range(40) if i % 4 > 1]
    table(tiles, pd.DataFrame({"file": NAMES, "split": parts}))
    assert find_layout(tiles).table.label_col == "split"  # nothing else can be


def test_the_classes_shown_are_those_of_training(tmp_path):
    folders(tmp_path, "train/cat", "train/dog", "valid/cat", "valid/dog")
    (tmp_path / "train" / "empty").mkdir()
    picture(tmp_path / "train" / "cat" / ".thumbs" / "x.png")
    layout = find_layout(tmp_path)
    assert "2 of them: cat, dog" in layout.reasons[0][1]
    assert layout.bunch(size=32).classes == ["cat", "dog"]


def test_whole_paths_stay_as_they_are(tiles, tmp_path_factory):
    root = tmp_path_factory.mktemp("elsewhere")
    files = [str(tiles / "img" / "tiles" / f"{n}.png") for n in NAMES]
    table(root, pd.DataFrame({"file": files, "label": ["a", "b"] * 20}))
    layout = find_layout(root)
    rows = layout.pictures
    assert list(rows.paths) == files
    assert rows.name(files[0]) == files[0]
    assert layout.bunch(size=32).store.paths == files
    asked = find_layout(root, LayoutOptions(folder="img", fn_col="file", suffix=""))
    assert list(asked.pictures.paths) == files


@pytest.mark.parametrize("suffix", ["", ".png"])
def test_a_table_that_begins_with_a_row_is_refused(tiles, suffix):
    lines = [f"{name}{suffix},{'ab'[i % 2]}" for i, name in enumerate(NAMES)]
    (tiles / "labels.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match=rf"first line of .*labels\.csv .* a row, .* p00{suffix}, a .*file,label"):
        find_layout(tiles)


@pytest.mark.parametrize("before", ["img\\tiles\\", "C:\\Users\\Åsa\\img\\tiles\\", "/kaggle/input/x/img/tiles/"])
def test_paths_of_another_machine_are_found_by_their_ends_and_found_again(tiles, before):
    table(tiles, pd.DataFrame({"file": [f"{before}{n}.png" for n in NAMES], "label": ["x", "y"] * 20}))
    layout = find_layout(tiles)
    assert [Path(path).name for path in layout.pictures.paths] == [f"{name}.png" for name in NAMES]
    assert all(Path(path).is_file() for path in layout.pictures.paths)
    assert "--path-parts" in dict(layout.reasons)["pictures"]
    options = {name: value for name, value in layout.describe().items() if name not in ("data", "csv")}
    assert find_layout(tiles, LayoutOptions(**options)).pictures.paths == layout.pictures.paths


@pytest.mark.parametrize("first", ["gone.png", "p99", "img/tiles/gone.png"])
def test_a_first_row_is_no_header_where_its_picture_is_gone(tiles, first):
    end = Path(first).suffix
    lines = [f"{first},a", *(f"{Path(first).parent / name}{end},{'ab'[i % 2]}" for i, name in enumerate(NAMES))]
    (tiles / "labels.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match=r"first line of .*labels\.csv .* a row, .*file,label"):
        find_layout(tiles)


def test_columns_that_are_named_by_their_position_are_a_header(tiles):
    (tiles / "labels.csv").write_text("0,1\n" + "".join(f"{name}.png,{'ab'[i % 2]}\n" for i, name in enumerate(NAMES)))
    assert len(find_layout(tiles).pictures) == len(NAMES)


@pytest.mark.parametrize(
    ("column", "hinted"),
    [("Patient_ID", True), ("patient id", True), ("PatientID", True), ("lesion_id", True), ("person", False),
     ("camera_model", False)],
)  # fmt: skip
def test_columns_of_groups_are_hinted_at_however_they_are_written(tiles, column, hinted):
    rows = {"file": [f"{n}.png" for n in NAMES], "label": ["x", "y"] * 20, column: [f"g{i // 4}" for i in range(40)]}
    table(tiles, pd.DataFrame(rows))
    assert any("--group-col" in hint for hint in find_layout(tiles).hints) == hinted


def test_tables_that_are_the_parts_of_a_split_come_with_a_way_to_use_them(tiles):
    for name, rows in (("train", NAMES[:30]), ("val", NAMES[30:])):
        lines = "".join(f"{row}.png,{'ab'[i % 2]}\n" for i, row in enumerate(rows))
        (tiles / f"{name}.csv").write_text(f"file,label\n{lines}")
    with pytest.raises(ArgumentError, match=r"--csv train\.csv trains .* evaluate RUN \S*/val\.csv .* column split"):
        find_layout(tiles)


def test_names_of_classes_and_files_are_never_broken(tmp_path):
    names = [f"{'a_long_name_' * 8}{c}" for c in "ab"]
    for i, name in enumerate(names * 4):
        (tmp_path / name).mkdir(exist_ok=True)
        PIL.Image.fromarray(np.full((8, 8, 3), i, dtype=np.uint8)).save(tmp_path / name / f"{i}.png")
    layout = find_layout(tmp_path)
    text = (
        "\n".join(layout.lines()),
        str(audit_table(layout.pictures, layout.pictures.split(), ResizeSpec.make(8), silent=True)),
    )
    assert all(name in part for name in names for part in text)


def test_an_empty_table_says_so(tiles):
    (tiles / "labels.csv").touch()
    with pytest.raises(DataError, match=r"labels\.csv is empty"):
        find_layout(tiles)


def test_class_folders_beside_a_table_that_names_nothing(tmp_path):
    table(folders(tmp_path, "cat", "dog"), pd.DataFrame({"a": [1, 2], "b": [3, 4]}), "notes.csv")
    assert find_layout(tmp_path).kind == "class folders"


def test_nothing_there(tmp_path):
    with pytest.raises(DataError, match="no table and no folders of classes"):
        find_layout(tmp_path)
    (tmp_path / "planet").mkdir()
    with pytest.raises(DataError, match=r"no .*plant; did you mean .*planet\?"):
        find_layout(tmp_path / "plant")
    with pytest.raises(DataError, match="did you mean PLANET_SAMPLE"):
        find_layout("PLANET_SAMPEL")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"notes\.txt is another file"):
        find_layout(tmp_path / "notes.txt")
    table(tmp_path, pd.DataFrame({"a": [], "b": []}))
    with pytest.raises(DataError, match="no rows"):
        find_layout(tmp_path)


def test_an_option_about_a_table_where_there_is_none(tmp_path):
    with pytest.raises(ArgumentError, match="--label-delim is about a table"):
        find_layout(folders(tmp_path, "cat", "dog"), LayoutOptions(label_delim=" "))


def test_a_name_in_urls_is_looked_for_on_this_machine(tiles, monkeypatch):
    table(tiles, pd.DataFrame({"name": NAMES, "tags": CYCLED}))
    (tiles.parent / "elsewhere").mkdir(exist_ok=True)
    monkeypatch.setenv("ONECYCLE_DATA", str(tiles.parent / "elsewhere"))
    (tiles.parent / "elsewhere" / "planet_sample").symlink_to(tiles)
    layout = find_layout("planet_sample")
    assert layout.describe()["data"] == "planet_sample"
    assert isinstance(layout, DataLayout)
    assert layout.is_multi


def test_control_characters_in_cells_do_not_reach_the_terminal(tiles):
    table(tiles, pd.DataFrame({"name": NAMES, "tags": ["\x1b[31mred\x1b[0m", "b"] * 20}))
    assert "\x1b" not in "\n".join(find_layout(tiles).lines())


def test_two_folders_that_are_named_train_and_validate(tmp_path):
    for i, folder in enumerate(("train/cat", "train/dog", "val/cat", "val/dog", "dev/cat", "dev/dog")):
        picture(tmp_path / folder / "a.png", i)
    with pytest.raises(DataError, match=r"dev and val are named as one and the same part .*--folder train,val"):
        find_layout(tmp_path)
    layout = find_layout(tmp_path, LayoutOptions(folder="train,dev"))
    split = layout.pictures.split()
    assert {layout.pictures.name(layout.pictures.paths[i]) for i in split.valid} == {"dev/cat/a.png", "dev/dog/a.png"}
    assert len(split.train) == 2
    assert any("val/ (2 pictures) is not used" in hint for hint in layout.hints)
    one = find_layout(tmp_path, LayoutOptions(folder="val"))
    assert (one.root, len(one.pictures), one.pictures.folders) == (tmp_path / "val", 2, None)
    for folder in ("train,nowhere", "nowhere", "train,val,dev", "train,"):
        with pytest.raises(DataError, match=f"--folder {folder}: expected .*; there are dev, train, val"):
            find_layout(tmp_path, LayoutOptions(folder=folder))


def test_one_folder_above_all_is_named(tmp_path):
    for i, folder in enumerate(("train/cat", "train/dog", "val/cat", "val/dog")):
        picture(tmp_path / "set" / folder / "a.png", i)
    with pytest.raises(DataError, match=f"name the folder above them: {tmp_path / 'set'}$"):
        find_layout(tmp_path)
    assert find_layout(tmp_path / "set").pictures.folders == ("train", "val")


def test_what_may_hold_labels_and_is_not_read_is_named(tmp_path):
    for i in range(4):
        picture(tmp_path / "images" / f"{i}.png", i)
    (tmp_path / "labels.xlsx").write_bytes(b"PK\x03\x04")
    (tmp_path / "README.txt").touch()
    (hint,) = find_layout(tmp_path).hints
    assert hint.startswith("not read: labels.xlsx; ")
    with pytest.raises(DataError, match=r"labels.xlsx is an Excel workbook"):
        find_layout(tmp_path / "labels.xlsx")


def test_odd_folders_in_class_folders_are_named(tmp_path):
    for i, name in enumerate(("cat/a.png", "cat /b.png", "dog/c.png")):
        picture(tmp_path / name, i)
    (tmp_path / "cat" / "dir.jpg").mkdir()
    problems = {problem.kind: problem.where for problem in find_layout(tmp_path).pictures.problems()}
    assert problems == {"empty-folder": ("cat/dir.jpg, a folder",), "blanks": ("'cat '",)}
