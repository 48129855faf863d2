"""Which column names the pictures and where they lie: as the names say, or asked; never by an order of sorting."""

from __future__ import annotations

import os
import random
import unicodedata
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onecycle.data.labels.file_names import FileNames, last_parts
from onecycle.data.labels.find.files import Asked, Place, find_files
from onecycle.data.labels.table import LabelTable
from onecycle.errors import ArgumentError, DataError

N = 20
ORDER = random.Random(1).sample(range(N), N)
LABELS = ["red" if i % 2 else "green" for i in ORDER]


def files(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def find(root: Path, frame: pd.DataFrame, *, fn_col=None, folder=None, suffix=None, path_parts=None, taken=()) -> Place:
    return find_files(frame.astype(str), root, root / "t.csv", taken, Asked.of(fn_col, folder, suffix, path_parts))


@pytest.fixture(scope="module")
def numbered(tmp_path_factory) -> Path:
    """Twenty files ``0.jpg`` …"""
    return files(tmp_path_factory.mktemp("numbered"), *(f"{i}.jpg" for i in range(N)))


NAMES = [f"{i}.jpg" for i in ORDER]
ONE_GONE = ["999.jpg", *NAMES[1:]]


@pytest.mark.parametrize(
    ("columns", "column"),
    [
        ({"Unnamed: 0": range(N), "filename": NAMES, "label": LABELS}, "filename"),
        ({"": range(N), "id": ORDER, "label": LABELS}, "id"),
        ({"row": range(N), "image": NAMES, "label": LABELS}, "image"),
        ({"image": ONE_GONE, "label": LABELS, "row": range(N)}, "image"),
        ({"row": range(N), "label": LABELS, "image": ONE_GONE}, "image"),
        ({"age": [i % 7 for i in ORDER], "image": NAMES, "label": LABELS}, "image"),
        ({"label": [i % 2 for i in ORDER], "image": NAMES}, "image"),
        ({"label": [i % 10 for i in ORDER], "id": ORDER}, "id"),
        ({"id": ORDER, "healthy": [i % 2 for i in ORDER], "rust": [int(i > 5) for i in ORDER]}, "id"),
        ({"a": [int(i > 9) for i in ORDER], "b": [i % 2 for i in ORDER], "id": ORDER}, "id"),
        ({"digit": [i % 10 for i in ORDER], "id": ORDER}, "id"),
        ({"url": [f"https://x.org/{i}.jpg" for i in ORDER], "id": ORDER, "label": LABELS}, "id"),
        ({"Unnamed: 0": ORDER, "label": LABELS}, "Unnamed: 0"),
        ({"image": [f"{i}.JPG" for i in ORDER], "row": range(N), "label": LABELS}, "image"),
        ({"image": [f" {i}.jpg " for i in ORDER], "row": range(N), "label": LABELS}, "image"),
    ],
)
def test_the_column_whose_cells_are_the_names(numbered, columns, column):
    assert find(numbered, pd.DataFrame(columns)).column == column


@pytest.mark.parametrize(
    "columns",
    [
        {"row": range(N), "id": ORDER, "label": LABELS},
        {"id": ORDER, "age": [i % 7 for i in ORDER], "label": LABELS},
        {"image": NAMES, "other": NAMES[::-1], "label": LABELS},
        {"id": ORDER, "copy": ORDER[::-1], "label": LABELS},
    ],
)
def test_two_columns_that_fit_are_a_question(numbered, columns):
    first, second, _ = columns
    with pytest.raises(ArgumentError, match=rf"2 columns name pictures .*{first} as .*{second} as .*--fn-col"):
        find(numbered, pd.DataFrame(columns))
    assert find(numbered, pd.DataFrame(columns), fn_col=second).column == second
    assert find(numbered, pd.DataFrame(columns), taken=[first]).column == second


def test_names_of_pictures_that_are_not_there_are_not_replaced_by_row_numbers(numbered):
    frame = pd.DataFrame({"row": range(N), "image": [f"x{i}.jpg" for i in ORDER], "label": LABELS})
    with pytest.raises(DataError, match=r"no column names pictures .* image=x\d+\.jpg.*--fn-col"):
        find(numbered, frame)
    for index in ("Unnamed: 0", ""):
        named = pd.DataFrame({index: range(N), "image": [f"x{i}" for i in ORDER], "label": LABELS})
        with pytest.raises(DataError, match="no column names pictures"):
            find(numbered, named)


@pytest.mark.parametrize(
    "places",
    [
        ("train/{}.png", "test/{}.png"),
        ("images/{}.jpg", "annotations/{}.png"),
        ("rgb/{}.png", "depth/{}.png"),
        ("{}.png", "thumbs/{}.png"),
        ("images/train/{}.png", "images/test/{}.png"),
        ("{}.jpg", "{}.tif"),
        ("a/{}.jpg", "b/{}.jpg", "c/{}.jpg"),
    ],
)
def test_places_with_the_same_names_are_a_question(tmp_path, places):
    files(tmp_path, *(place.format(i) for place in places for i in range(N)))
    frame = pd.DataFrame({"id": ORDER, "label": LABELS})
    with pytest.raises(ArgumentError, match=rf"column id .* in {len(places)} places: .*choose one with --") as error:
        find(tmp_path, frame)
    for place in places:
        folder, name = os.path.split(place)
        assert place.replace("{}", "<id>") in str(error.value)
        asked = find(tmp_path, frame, folder=folder or ".", suffix=os.path.splitext(name)[1])
        assert (asked.folder, asked.suffix, len(asked.hits)) == (folder, os.path.splitext(name)[1], N)


def test_a_folder_with_few_of_the_names_is_none(tmp_path):
    files(tmp_path, *(f"images/{i}.png" for i in range(N)), *(f"sample/{i}.png" for i in range(5)))
    assert find(tmp_path, pd.DataFrame({"id": ORDER, "label": LABELS})).folder == "images"


@pytest.mark.parametrize("places", [("a/{}.png", "b/{}.png"), ("{}.png", "{}.jpg"), ("red/{}.png", "green/{}.png")])
def test_pictures_that_are_spread_are_said(tmp_path, places):
    files(tmp_path, *(places[i % 2].format(i) for i in range(N)))
    with pytest.raises(DataError, match=r"column id are spread over 2 places: .*\(10 of 20\).*Write folder and ending"):
        find(tmp_path, pd.DataFrame({"id": ORDER, "label": LABELS}))


def test_a_link_to_a_folder_of_the_data_is_no_other_place(tmp_path):
    files(tmp_path, *(f"images/{i}.png" for i in range(N)))
    (tmp_path / "a").symlink_to(tmp_path / "images")
    (tmp_path / "images" / "up").symlink_to(tmp_path)
    assert find(tmp_path, pd.DataFrame({"id": ORDER, "label": LABELS})).folder == "images"


def test_whole_paths_and_paths_above_lie_in_one_place(tmp_path):
    files(tmp_path, *(f"pictures/{i}.png" for i in range(N)), "data/x/none", "data/y/none")
    for name in (f"{tmp_path}/pictures/{{}}.png", "../pictures/{}.png"):
        frame = pd.DataFrame({"file": [name.format(i) for i in ORDER], "label": LABELS})
        assert find(tmp_path / "data", frame).folder == ""


@settings(deadline=None, max_examples=20)
@given(data=st.data())
def test_pictures_are_paired_as_their_names_say_or_not_at_all(tmp_path_factory, data):
    """Columns in any order, names with or without ending, some files missing, numbers that are names by chance."""
    n = data.draw(st.integers(4, 12))
    root = tmp_path_factory.mktemp("drawn")
    files(root, *(f"{i}.png" for i in range(n)))
    truth = data.draw(st.permutations(range(n)))
    gone = data.draw(st.sets(st.integers(0, n - 1), max_size=n // 3))
    ending = data.draw(st.sampled_from(["", ".png", ".PNG", ".jpg"]))
    columns = {
        "picture": [f"{i + n * (k in gone)}{ending}" for k, i in enumerate(truth)],
        "label": [f"c{i % 2}" for i in truth],
        "Unnamed: 0": range(n),
        "row": range(n),
        "age": [data.draw(st.integers(0, n)) for _ in range(n)],
    }
    others = data.draw(st.sets(st.sampled_from(["Unnamed: 0", "row", "age"])))
    frame = pd.DataFrame({c: columns[c] for c in data.draw(st.permutations(["picture", "label", *sorted(others)]))})
    with suppress(ArgumentError, DataError):
        assert find(root, frame).column == "picture"


# -------------------------------------------------------------------- spellings


NFC, NFD = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))


def test_a_name_is_found_in_the_spelling_of_the_disk(tmp_path):
    files(tmp_path, f"{NFD}.jpg", f"{NFD}/1.png", "a.JPG", "b.png", "b.PNG", "c.jpg", "B.jpg")
    names = FileNames()

    def found(name: str) -> str:
        return names.find(f"{tmp_path}/{name}").removeprefix(f"{tmp_path}/")

    assert found(f"{NFC}.jpg") == f"{NFD}.jpg"
    assert found(f"{NFC}/1.PNG") == f"{NFD}/1.png"
    assert (found("a.jpg"), found("a.JPG"), found(" a.Jpg ")) == ("a.JPG",) * 3
    assert (found("b.png"), found("b.PNG"), found("b.Png")) == ("b.png", "b.PNG", "")  # two may be meant
    assert (found("b.jpg"), found("A.jpg"), found("none/a.jpg"), found(""), found("c.jpg/x.png")) == ("",) * 5
    assert (found(f"{NFD}"), found("x\0.jpg"), found("x" * 300)) == ("", "", "")
    assert names.has(f"{tmp_path}/b.Png")


def test_a_link_to_itself_and_one_to_nowhere_are_no_folders(tmp_path):
    (tmp_path / "self.jpg").symlink_to(tmp_path / "self.jpg")
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere")
    names = FileNames()
    assert names.find(f"{tmp_path}/self.jpg") == f"{tmp_path}/self.jpg"
    assert names.find(f"{tmp_path}/self.jpg/x.jpg") == ""


def test_a_table_takes_the_files_of_the_disk_and_says_so(tmp_path):
    files(tmp_path, f"{NFD}.jpg", "b.JPG", "c.jpg")
    frame = pd.DataFrame({"file": [f"{NFC}.jpg", "b.jpg", "c.jpg", "gone.jpg", " "], "label": list("abcde")})
    table = LabelTable.from_frame(frame, tmp_path, "file", None, "", LabelTable([]).source)
    assert table.paths == [*(f"{tmp_path}/{name}" for name in (f"{NFD}.jpg", "b.JPG", "c.jpg", "gone.jpg")), ""]
    assert {p.kind: len(p.where) for p in table.problems()} == {"no-file-name": 1, "file-spelling": 2}


# -- paths of another machine, and addresses ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "end"),
    [
        ("/kaggle/input/x/train/a.jpg", "train/a.jpg"),
        (r"C:\data\train\a.jpg", "train/a.jpg"),
        (r"D:a.jpg", "D:a.jpg"),
        ("../a.jpg", "a.jpg"),
        ("https://host/p/a%20b.jpg?raw=1#top", "p/a b.jpg"),
        ("s3://bucket/p/a", "p/a"),
        ("/p/a%20b.jpg", "p/a%20b.jpg"),
        ("", ""),
    ],
)
def test_the_end_of_a_path(name, end):
    assert last_parts(name, 2) == end


def paths(*names: str) -> pd.DataFrame:
    return pd.DataFrame({"file": names, "label": ["a", "b"] * (len(names) // 2)})


@pytest.mark.parametrize(
    ("here", "form", "path_parts", "folder"),
    [
        ("train/{}.jpg", "/kaggle/train/{}.jpg", 2, ""),
        ("images/{}.jpg", "/kaggle/train/{}.jpg", 1, "images"),
        ("{}.jpg", "../data/{}.jpg", 1, ""),
        ("i/{} b.jpg", "https://host/p/{}%20b.jpg", 1, "i"),
        ("{}.png", "gs://bucket/p/{}", 1, ""),
    ],
)
def test_the_longest_end_of_a_path_that_is_there_is_taken(tmp_path, here, form, path_parts, folder):
    files(tmp_path, *(here.format(i) for i in range(6)))
    place = find(tmp_path, paths(*(form.format(i) for i in range(6))))
    assert (place.path_parts, place.folder, len(place.hits)) == (path_parts, folder, 6)
    assert place.hits[3] == os.path.realpath(tmp_path / here.format(3))


def test_two_ends_that_are_there_are_asked_about(tmp_path):
    files(tmp_path, *(f"{folder}{i}.jpg" for folder in ("train/", "") for i in range(6)))
    frame = paths(*(f"/q/train/{i}.jpg" for i in range(6)))
    with pytest.raises(ArgumentError, match=r"2 places.*choose one with --path-parts$"):
        find(tmp_path, frame)
    assert find(tmp_path, frame, path_parts=1, folder=".").hits[0] == os.path.realpath(tmp_path / "0.jpg")
    assert find(tmp_path, frame, path_parts=2).hits[0] == os.path.realpath(tmp_path / "train" / "0.jpg")


def test_paths_that_only_absent_folders_tell_apart_are_never_paired(tmp_path):
    frame = paths(*(f"/q/{folder}/{i}.jpg" for folder in "ab" for i in range(6)))
    files(tmp_path, *(f"{i}.jpg" for i in range(6)))
    with pytest.raises(DataError, match=r"same file name in several folders \(/q/a/0\.jpg and /q/b/0\.jpg\)"):
        find(tmp_path, frame)
    files(tmp_path, *(f"{folder}/{i}.jpg" for folder in "ab" for i in range(6)))
    place = find(tmp_path, frame)
    assert (place.path_parts, place.hits[6]) == (2, os.path.realpath(tmp_path / "b" / "0.jpg"))


@pytest.mark.parametrize(
    ("form", "path_parts", "words"),
    [("https://h/{}.jpg", None, "nothing is fetched"), ("/q/{}.jpg", None, "put the pictures below"),
     ("/q/{}.jpg", 2, "leave it out")],
)  # fmt: skip
def test_paths_that_lead_nowhere_say_what_to_do(tmp_path, form, path_parts, words):
    files(tmp_path, "other.jpg")
    with pytest.raises(DataError, match=words):
        find(tmp_path, paths(*(form.format(i) for i in range(6))), path_parts=path_parts)


def test_percents_are_a_spelling_where_no_file_has_the_very_name(tmp_path):
    files(tmp_path, "a b.jpg", "c%20d.jpg", "c d.jpg", "50%ac.jpg")
    disk = FileNames()
    assert disk.find(f"{tmp_path}/a%20b.jpg") == f"{tmp_path}/a b.jpg"
    assert disk.find(f"{tmp_path}/c%20d.jpg") == f"{tmp_path}/c%20d.jpg"
    assert disk.find(f"{tmp_path}/50%ab.jpg") == ""
