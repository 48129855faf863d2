"""What is collected on the page is a data set, and ``onecycle relabel`` corrects it."""

import csv
import itertools

import pytest

from exported_toys import toy_files

pytest.importorskip("python_multipart", reason="needs the extra serve")

from pathlib import Path

from onecycle.cli.relabel import run_relabel
from onecycle.data.labels.find.columns import LayoutOptions
from onecycle.data.labels.relabel import COLUMNS
from onecycle.deploy.serve import collect
from onecycle.deploy.serve.limits import Refused
from onecycle.errors import ArgumentError, DiskFullError


@pytest.fixture
def pictures(tmp_path):
    return [Path(f).read_bytes() for f in toy_files(tmp_path)]


def kept(folder, pictures, said_and_right, *, classes=("cat", "dog", "hen"), is_multi=False):
    collection = collect.Collection(folder, classes, is_multi=is_multi, most=4)
    for data, (said, right) in zip(pictures, said_and_right, strict=False):
        collection.keep(data, said.split(), right.split())
    return collection


def test_the_table_is_that_of_label_issues():
    assert collect.COLUMNS == COLUMNS


def test_relabel_corrects_classes_also_to_one_that_the_model_never_said(tmp_path, pictures):
    folder = tmp_path / "c"
    kept(folder, pictures, [("cat", "cat"), ("cat", "hen"), ("dog", "cat")])
    again = kept(folder, pictures, [])  # a server that is started anew goes on
    again.keep(pictures[2], ["dog"], ["dog"])  # said last
    run_relabel(str(folder), None, LayoutOptions(), out=tmp_path / "n.csv")
    with (tmp_path / "n.csv").open() as file:
        assert sorted(row["label"] for row in csv.DictReader(file)) == ["cat", "dog", "hen"]
    assert len(list((folder / "pictures").iterdir())) == 3


def test_relabel_corrects_tags(tmp_path, pictures):
    folder = tmp_path / "c"
    kept(folder, pictures, [("a", "a b"), ("", "d"), ("b c", "c")], classes=("a", "b", "c", "d"), is_multi=True)
    kept(folder, pictures, [], classes=("a", "b", "c", "d"), is_multi=True)
    options = LayoutOptions(label_col="a,b,c,d")
    run_relabel(str(folder), folder / "corrections.csv", options, out=tmp_path / "n.csv")
    with (tmp_path / "n.csv").open() as file:
        rows = [tuple(row[c] for c in "abcd") for row in csv.DictReader(file)]
    assert rows == [("1", "1", "0", "0"), ("0", "0", "0", "1"), ("0", "0", "1", "0")]


def test_what_does_not_belong_there_is_refused(tmp_path, pictures):
    collection = kept(tmp_path / "c", pictures, [("cat", "dog")] * 4)
    with pytest.raises(Refused, match="one label of the model"):
        collection.keep(pictures[0], ["cat"], ["cow"])
    with pytest.raises(Refused, match="full") as full:
        collection.keep(pictures[4], ["cat"], ["dog"])
    assert full.value.status == 503
    with pytest.raises(ArgumentError, match="another model"):
        kept(tmp_path / "c", [], [], classes=("a", "b"), is_multi=True)
    (tmp_path / "mine" / "pictures").mkdir(parents=True)
    (tmp_path / "mine" / "pictures" / "me.jpg").write_bytes(pictures[0])
    with pytest.raises(ArgumentError, match="holds other files"):
        kept(tmp_path / "mine", [], [])


@pytest.mark.parametrize("n", range(3))
def test_a_full_disk_is_said_and_leaves_what_was_kept(n, tmp_path, pictures, monkeypatch):
    folder = tmp_path / "c"
    collection = kept(folder, pictures, [("cat", "dog")])
    before = {p.name: p.read_bytes() for p in folder.rglob("*.*")}
    write, calls = collect.write_whole, itertools.count()

    def full(path: Path, data: bytes) -> None:
        if next(calls) == n:
            raise DiskFullError("the disk is full")
        write(path, data)

    with monkeypatch.context() as patched:
        patched.setattr(collect, "write_whole", full)
        with pytest.raises(Refused, match="disk is full") as refused:
            collection.keep(pictures[1], ["cat"], ["hen"])
    assert refused.value.status == 507
    assert {p.name: p.read_bytes() for p in folder.rglob("*.*")} == before
    collection.keep(pictures[1], ["cat"], ["hen"])
    assert len(list((folder / "pictures").iterdir())) == 2


@pytest.mark.parametrize("mine", ["class folders", "a table", "two tables", "a file"])
def test_a_folder_of_other_data_is_left_as_it_is(mine, tmp_path, pictures):
    folder = tmp_path / "mine"
    held = {
        "class folders": {"cat/1.jpg": pictures[0]},
        "a table": {"labels.csv": b"file,label\n1.jpg,cat\n", "1.jpg": pictures[0]},
        "two tables": {"labels.csv": b"file,label\n1.jpg,cat\n", "corrections.csv": b"file,new\n1.jpg,cat\n"},
        "a file": {"": b"text"},
    }[mine]
    for name, data in held.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    with pytest.raises(ArgumentError, match="name a new folder with --collect"):
        kept(folder, [], [])
    after = {p.relative_to(folder).as_posix(): p.read_bytes() for p in [folder, *folder.rglob("*")] if p.is_file()}
    assert {name.strip("."): data for name, data in after.items()} == held


def test_a_folder_of_another_model_is_refused(tmp_path, pictures):
    kept(tmp_path / "tags", pictures, [("a b", "a")], classes=("a", "b"), is_multi=True)
    kept(tmp_path / "classes", pictures, [("cat", "cat")])
    for folder, classes in (("tags", ("a", "b")), ("tags", ("cat", "dog")), ("classes", ("dog", "hen"))):
        with pytest.raises(ArgumentError, match="another model"):
            kept(tmp_path / folder, [], [], classes=classes)


def test_a_server_that_was_killed_between_its_two_tables_goes_on(tmp_path, pictures, monkeypatch):
    collection, write = kept(tmp_path / "c", pictures, [("cat", "dog")]), collect.write_whole

    def killed(path, data):
        if path.name == "labels.csv":
            raise KeyboardInterrupt
        write(path, data)

    monkeypatch.setattr(collect, "write_whole", killed)
    with pytest.raises(KeyboardInterrupt):
        collection.keep(pictures[1], ["hen"], ["cat"])
    monkeypatch.undo()
    kept(tmp_path / "c", pictures[2:], [("cat", "cat")])
    with (tmp_path / "c" / "labels.csv").open() as file:
        assert [row["label"] for row in csv.DictReader(file)] == ["cat", "cat"]
