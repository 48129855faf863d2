"""Run folders: numbered without a race, a pointer to the newest, and messages that help."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest

from onecycle.errors import DataError, OnecycleWarning, OutputError
from onecycle.runs.folder import RunFolder, folder_name, point_latest, write_output


def made(base: Path, name: str = "planet") -> RunFolder:
    run = RunFolder.create(base, name)
    run.write_text(run.config, "data: x\n")
    return run


def test_runs_are_numbered(tmp_path):
    assert [made(tmp_path / "runs").name for _ in range(3)] == ["planet-001", "planet-002", "planet-003"]
    assert made(tmp_path / "runs", "tiles").name == "tiles-001"


def test_numbers_go_on_after_gaps_and_beyond_three_digits(tmp_path):
    (tmp_path / "planet-007").mkdir()
    (tmp_path / "planet-two").mkdir()
    assert made(tmp_path).name == "planet-008"
    (tmp_path / "planet-999").mkdir()
    assert made(tmp_path).name == "planet-1000"
    assert made(tmp_path).name == "planet-1001"


def test_a_name_that_ends_like_a_number_is_not_mixed_up(tmp_path):
    (tmp_path / "planet-2-005").mkdir()
    assert made(tmp_path).name == "planet-001"


def make_some(base: str, n: int) -> list[str]:
    return [RunFolder.create(base, "race").name for _ in range(n)]


def test_two_processes_never_get_one_folder(tmp_path):
    context = multiprocessing.get_context("spawn")
    with context.Pool(4) as pool:
        found = pool.starmap(make_some, [(str(tmp_path), 10)] * 4)
    names = [name for part in found for name in part]
    assert sorted(names) == [f"race-{i:03d}" for i in range(1, 41)]
    assert (tmp_path / "latest").resolve().name in names
    assert not list(tmp_path.glob(".*"))


def test_latest_points_to_the_newest(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        made(Path("runs"))
    assert os.readlink("runs/latest") == "planet-002"
    for word in ("latest", "runs/latest", "planet-002", "runs/planet-002"):
        assert RunFolder.open(word).path == Path("runs/planet-002")


def test_a_run_can_leave_the_pointer_alone(tmp_path):
    made(tmp_path)
    RunFolder.create(tmp_path, "planet-lr", latest=False)
    assert RunFolder.open(tmp_path / "latest").name == "planet-001"


def test_where_links_are_refused_a_file_points(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("no links here")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    made(tmp_path)
    made(tmp_path)
    assert (tmp_path / "latest").read_text() == "planet-002\n"
    assert RunFolder.open(tmp_path / "latest").name == "planet-002"


def test_a_folder_of_the_users_called_latest_stays(tmp_path):
    (tmp_path / "latest").mkdir()
    (tmp_path / "latest" / "mine.txt").write_text("mine")
    made(tmp_path)
    assert (tmp_path / "latest" / "mine.txt").read_text() == "mine"


def test_a_dangling_pointer_is_replaced(tmp_path):
    (tmp_path / "latest").symlink_to("gone-001")
    with pytest.raises(DataError, match="there is no run"):
        RunFolder.open(tmp_path / "latest")
    point_latest(tmp_path, made(tmp_path).name)
    assert RunFolder.open(tmp_path / "latest").name == "planet-001"


def test_a_run_that_is_not_there_names_near_ones(tmp_path):
    made(tmp_path)
    with pytest.raises(DataError, match=r"there is no run .*planet-01.*; the runs in .*planet-001"):
        RunFolder.open(tmp_path / "planet-01")


def test_without_any_run_the_message_says_how_to_make_one(tmp_path):
    with pytest.raises(DataError, match="onecycle train DATA"):
        RunFolder.open(tmp_path / "runs" / "latest")


def test_an_exported_model_is_named_as_what_it_is(tmp_path):
    for name in ("manifest.json", "model.onnx"):
        (tmp_path / name).touch()
    with pytest.raises(DataError, match="is an exported model, and this needs a run"):
        RunFolder.open(tmp_path)


def test_a_folder_that_no_run_made_is_refused(tmp_path):
    (tmp_path / "pictures").mkdir()
    with pytest.raises(DataError, match=r"no run: it has no config\.yaml"):
        RunFolder.open(tmp_path / "pictures")


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("planet_sample", "planet_sample"),
        ("../../etc/passwd", "etc-passwd"),
        ("a b\x1b[31m/c", "a-b-31m-c"),
        ("…", "run"),
        ("x" * 200, "x" * 60),
    ],
)
def test_names_become_folder_names(name, folder):
    assert folder_name(name) == folder


def test_json_round_trips_and_holds_no_nan(tmp_path):
    run = made(tmp_path)
    run.write_json(run.metrics, {"a": np.float32(0.5), "b": math.nan, "c": (1, Path("x")), "d": np.arange(2)})
    assert json.loads(run.metrics.read_text()) == {"a": 0.5, "b": None, "c": [1, "x"], "d": [0, 1]}
    assert run.read_json(run.metrics)["a"] == 0.5


def test_missing_and_damaged_files_are_named(tmp_path):
    run = made(tmp_path)
    with pytest.raises(DataError, match=r"has no metrics\.json.*--resume"):
        run.read_json(run.metrics)
    run.metrics.write_text("{")
    with pytest.raises(DataError, match="cannot be read"):
        run.read_json(run.metrics)
    run.metrics.write_text("[1]")
    with pytest.raises(DataError, match="holds list"):
        run.read_json(run.metrics)


def test_a_read_only_folder_is_an_os_error(tmp_path):
    base = tmp_path / "file"
    base.write_text("not a folder")
    with pytest.raises(OSError):
        RunFolder.create(base, "planet")


def test_a_place_that_cannot_be_written_is_named_with_the_option(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match=r"file/page\.html cannot be written.*--out"):
        write_output(tmp_path / "file" / "page.html", b"x")
    assert write_output(tmp_path / "page.html", b"x").read_bytes() == b"x"


def finished(base: Path, name: str = "planet") -> RunFolder:
    run = made(base, name)
    run.write_text(run.model_stem.with_suffix(".safetensors"), "weights")
    return run


def test_latest_is_the_newest_finished_run_and_names_the_unfinished_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first, second = finished(Path("runs")), finished(Path("runs"), "tiles")
    os.utime(first.model_stem.with_suffix(".safetensors"), (0, 0))
    assert RunFolder.open_finished("latest").path == second.path
    new = made(Path("runs"), "my pictures")
    for word in ("latest", "runs/latest"):
        assert RunFolder.open(word).path == new.path, "what --resume takes up"
        with pytest.warns(OnecycleWarning, match=r"--resume runs/my-pictures-001`.* finished run is runs/tiles-001"):
            assert RunFolder.open_finished(word).path == second.path
    assert RunFolder.open_finished("planet-001").path == first.path


@pytest.mark.parametrize("word", ["latest", "runs/latest", "planet-001", "runs/planet-001"])
def test_an_unfinished_run_is_named_with_how_it_goes_on(tmp_path, monkeypatch, word):
    monkeypatch.chdir(tmp_path)
    run = made(Path("runs"))
    with pytest.raises(DataError, match=r"planet-001 is not finished.*`onecycle train --resume runs/planet-001`"):
        RunFolder.open_finished(word)
    run.write_text(run.model_stem.with_suffix(".json"), "{}")  # the words of a model, without the model
    with pytest.raises(DataError, match="--resume"):
        RunFolder.open_finished(word)
    run.write_text(run.lr_picture, "")
    with pytest.raises(DataError, match=r"find-lr` made it. `onecycle train DATA`"):
        RunFolder.open_finished(word)


def test_where_a_file_points_latest_is_the_newest_finished_run_too(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "symlink_to", lambda *_, **__: (_ for _ in ()).throw(OSError("no links here")))
    done = finished(tmp_path)
    made(tmp_path)
    with pytest.warns(OnecycleWarning, match="planet-002 is not finished"):
        assert RunFolder.open_finished(tmp_path / "latest").path == done.path
    (tmp_path / "gone-001").mkdir()
    point_latest(tmp_path, "gone-001")  # no run at all
    with pytest.raises(DataError):
        RunFolder.open_finished(tmp_path / "latest")
