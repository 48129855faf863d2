"""``onecycle relabel``: a new table in which only the asked-for labels differ, and nothing of the user's touched."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from onecycle.cli.relabel import run_relabel
from onecycle.data.labels.find.columns import LayoutOptions
from onecycle.data.layout import find_layout
from onecycle.errors import ArgumentError, DataError, LabelError

TABLE = (
    'name,"label",site, note\r\np000,red,A,"x, y"\r\n\r\np001,"green",B,\r\n'
    'p002,blue,A, kept \r\np003,red,=1,"two\nlines"'
)


@pytest.fixture
def data(colour_path, tmp_path, monkeypatch):
    """A data set with a table that no program would write like this, and an empty working directory."""
    root = tmp_path / "set"
    (root / "train").mkdir(parents=True)
    for i in range(4):
        shutil.copy(colour_path / "train" / f"p{i:03d}.jpg", root / "train")
    (root / "labels.csv").write_bytes(TABLE.encode())
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("COLUMNS", "80")
    return root


def issues(text: str, name: str = "issues.csv") -> Path:
    Path(name).write_text(text, encoding="utf-8")
    return Path(name)


def one_issue() -> Path:
    return issues(
        "file,given,suggested,score,new_label\ntrain/p001.jpg,green,red,0.1,red\ntrain/p002.jpg,blue,red,0.2,\n"
    )


def test_only_the_cell_changes_and_every_other_byte_stays(data, capsys):
    assert run_relabel(str(data), one_issue(), LayoutOptions()) == 0
    new = Path("labels.relabelled.csv").read_bytes()
    assert new == TABLE.encode().replace(b'"green"', b"red")
    assert (data / "labels.csv").read_bytes() == TABLE.encode()
    out = capsys.readouterr().out
    assert "train/p001.jpg  green → red" in out
    assert "onecycle train" in out
    assert "p002" not in out


def test_the_new_table_trains_as_the_next_command_says(data, capsys):
    run_relabel(str(data), one_issue(), LayoutOptions(), as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert found["changed"] == [{"row": 1, "file": "train/p001.jpg", "from": ["green"], "to": ["red"]}]
    words = found["next"].split()
    assert words[:3] == ["onecycle", "train", str(data)]
    rows = find_layout(words[2], LayoutOptions(csv=words[words.index("--csv") + 1])).pictures
    assert rows.tags == [("red",), ("red",), ("blue",), ("red",)]


def test_tags_keep_their_order_and_new_ones_come_last(tag_run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    table = issues(
        "file,tag,given,suggested,score,new_label\n"
        "train/p000.jpg,even,yes,no,0.1,no\n"
        "train/p000.jpg,blue,no,yes,0.1,yes\n"
        "train/p003.jpg,green,no,yes,0.1,yes\n"
    )
    assert run_relabel(str(tag_run.path), table, LayoutOptions()) == 0
    old, new = (pd.read_csv(p) for p in (tag_run.data / "tags.csv", Path("tags.relabelled.csv")))
    assert new["tags"][0] == "red blue"
    assert new["tags"][3] == "red green"
    differs = old["tags"] != new["tags"]
    assert differs.sum() == 2
    out = capsys.readouterr().out
    assert "train/p000.jpg  −even +blue" in out
    assert f"onecycle train --config {tag_run.path}" in out
    assert f"--split {tag_run.run.split}" in out  # else the new labels would stratify anew


def test_a_run_has_its_own_table_of_issues(class_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"label_issues\.csv"):
        run_relabel(str(class_run.path), None, LayoutOptions())
    with pytest.raises(ArgumentError, match="Name the edited table"):
        run_relabel(str(class_run.data), None, LayoutOptions(csv="labels.csv"))


def test_nothing_filled_in_writes_nothing(data, capsys):
    table = issues("file,given,suggested,score,new_label\ntrain/p001.jpg,green,red,0.1,\n")
    assert run_relabel(str(data), table, LayoutOptions()) == 0
    assert "Nothing to change" in capsys.readouterr().out
    assert sorted(p.name for p in Path().iterdir()) == ["issues.csv"]


def test_an_existing_file_is_replaced_only_when_asked(data, capsys):
    Path("labels.relabelled.csv").write_text("mine")
    with pytest.raises(ArgumentError, match="--force"):
        run_relabel(str(data), one_issue(), LayoutOptions())
    assert Path("labels.relabelled.csv").read_text() == "mine"
    run_relabel(str(data), one_issue(), LayoutOptions(), force=True, quiet=True)
    assert Path("labels.relabelled.csv").read_text() != "mine"
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_the_table_of_the_data_set_is_never_the_target(data):
    with pytest.raises(ArgumentError, match="stays as it is"):
        run_relabel(str(data), one_issue(), LayoutOptions(), out=data / "labels.csv", force=True)


def test_class_folders_become_a_table_that_trains(data, capsys):
    root = data.parent / "folders"
    for i, name in enumerate(["cat", "cat", "dog", "=dog"]):
        (root / name).mkdir(parents=True, exist_ok=True)
        shutil.copy(data / "train" / f"p{i:03d}.jpg", root / name)
    table = issues("file,given,suggested,score,new_label\ncat/p001.jpg,cat,dog,0.1,dog\n")
    assert run_relabel(str(root), table, LayoutOptions()) == 0
    assert Path("folders.relabelled.csv").read_text() == (
        "file,label\n=dog/p003.jpg,=dog\ncat/p000.jpg,cat\ncat/p001.jpg,dog\ndog/p002.jpg,dog\n"
    )
    rows = find_layout(root, LayoutOptions(csv=str(Path("folders.relabelled.csv").resolve()))).pictures
    assert rows.tags == [("=dog",), ("cat",), ("dog",), ("dog",)]


def test_a_parquet_table_keeps_its_other_columns(data):
    frame = pd.DataFrame({"name": ["p000", "p001"], "label": ["red", "green"], "x": [1.5, 2.5]})
    frame.to_parquet(data / "table.parquet", index=False)
    run_relabel(str(data / "table.parquet"), one_issue_without_p002(), LayoutOptions())
    new = pd.read_parquet("table.relabelled.parquet")
    assert new.equals(frame.assign(label=["red", "red"]))


def one_issue_without_p002() -> Path:
    return issues("file,given,suggested,score,new_label\ntrain/p001.jpg,green,red,0.1,red\n")


def test_a_spreadsheets_semicolons_are_understood(data):
    table = issues("file;given;suggested;score;new_label\ntrain/p001.jpg;green;red;0,1;red\n")
    run_relabel(str(data), table, LayoutOptions())
    assert b"p001,red,B" in Path("labels.relabelled.csv").read_bytes()


@pytest.mark.parametrize(
    ("row", "error", "message"),
    [
        ("train/p009.jpg,green,red,0.1,red", DataError, "pictures that the data does not have"),
        ("train/p001.jpg,green,red,0.1,rd", LabelError, "did you mean 'red'"),
        ("train/p001.jpg,blue,red,0.1,red", LabelError, "was 'blue', and it is green now"),
    ],
)
def test_a_table_that_does_not_fit_names_its_row(data, row, error, message):
    table = issues(f"file,given,suggested,score,new_label\n{row}\n")
    with pytest.raises(error, match=message):
        run_relabel(str(data), table, LayoutOptions())
    assert not Path("labels.relabelled.csv").exists()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("labels.tsv", "name\tlabel\tnote\np000\tred\ta, b\np001\tgreen\t\np002\tblue\t\n"),
        ("semicolons.csv", "name;label;note\np000;red;a, b\np001;green;\np002;blue;\n"),
        ("marked.csv", "\ufeffname,label\np000,red\np001,green\np002,blue\n"),
        ("sep.csv", "sep=;\nname;label\np000;red\np001;green\np002;blue\n"),
        ("comments.csv", "# made 2024\n\nname|label\np000|red\np001|green\np002|blue\n"),
        ("blanks.csv", "name   label\np000   red\np001   green \np002   blue\n"),
        ("quotes.csv", 'name, label\np000, "red"\np001, green\np002, "blue"\n'),
        ("numbers.csv", "name,label\np000,007\np001,010\np002,007\n"),
    ],
)
def test_tables_of_all_kinds_stay_what_they_are(data, name, text):
    (data / name).write_text(text, encoding="utf-8")
    new, old = ("007", "010") if name == "numbers.csv" else ("red", "green")
    table = issues(f"file,given,suggested,score,new_label\ntrain/p001.jpg,{old},{new},0.1,{new}\n")
    assert run_relabel(str(data / name), table, LayoutOptions()) == 0
    made = next(Path().glob("*.relabelled.*"))
    assert made.suffix == Path(name).suffix
    if name == "quotes.csv":
        old, new = " green", "red"  # blanks before a cell go with it
    assert made.read_text(encoding="utf-8") == text.replace(old, new)


@pytest.mark.filterwarnings("ignore:.*columns of 0/1")
@pytest.mark.parametrize(("yes", "no"), [("1", "0"), ("1.0", "0.0"), ("TRUE", "FALSE")])
def test_in_columns_of_flags_the_cells_of_changed_tags_change(data, yes, no):
    rows = [("p000", yes, no, no), ("p001", no, yes, no), ("p002", yes, no, yes)]
    text = "name,a,b,c\n" + "".join(",".join(row) + "\n" for row in rows)
    (data / "labels.csv").write_text(text)
    table = issues(
        "file,tag,given,suggested,score,new_label\ntrain/p001.jpg,b,yes,no,0.1,no\ntrain/p001.jpg,c,,,,yes\n"
    )
    assert run_relabel(str(data), table, LayoutOptions()) == 0
    assert Path("labels.relabelled.csv").read_text() == text.replace(f"p001,{no},{yes},{no}", f"p001,{no},{no},{yes}")


@pytest.mark.filterwarnings("ignore:.*columns of 0/1")
@pytest.mark.parametrize("kind", [int, bool, float])
def test_flags_of_a_parquet_table_keep_their_kind(data, kind):
    frame = pd.DataFrame({"name": ["p000", "p001", "p002"], "a": [1, 0, 1], "b": [0, 1, 0], "c": [0, 0, 1]})
    frame = frame.astype(dict.fromkeys("abc", kind))
    frame.to_parquet(data / "table.parquet", index=False)
    table = issues("file,tag,given,suggested,score,new_label\ntrain/p001.jpg,b,yes,no,0.1,no\n")
    run_relabel(str(data / "table.parquet"), table, LayoutOptions())
    assert pd.read_parquet("table.relabelled.parquet").equals(frame.assign(b=pd.Series([0, 0, 0], dtype=kind)))


def test_lists_of_a_parquet_table_stay_lists(data):
    pd.DataFrame({"name": ["p000", "p001"], "label": [["sea"], ["sea", "sun"]]}).to_parquet(data / "table.parquet")
    table = issues("file,tag,given,suggested,score,new_label\ntrain/p001.jpg,sun,yes,no,0.1,no\n")
    run_relabel(str(data / "table.parquet"), table, LayoutOptions())
    assert [list(cell) for cell in pd.read_parquet("table.relabelled.parquet")["label"]] == [["sea"], ["sea"]]


def test_a_table_with_a_row_for_each_tag_is_not_rewritten(data):
    (data / "labels.csv").write_text("name,tag\np000,sea\np000,sun\np001,sea\n")
    table = issues("file,tag,given,suggested,score,new_label\ntrain/p001.jpg,sun,no,yes,0.1,yes\n")
    with pytest.raises(ArgumentError, match=r"a row for each tag .*by hand"):
        run_relabel(str(data), table, LayoutOptions(join_rows=True))
