"""Finding data sets: where they are looked for, and what happens when they are not there."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from web_server import Server, planet_files, status, tree, whole, zipped

from onecycle import settings
from onecycle.data.sources.untar import DataPath, URLs, untar_data
from onecycle.errors import ArchiveError, ArgumentError, DataError, DownloadError

# ---------------------------------------------------------------- names and paths


def test_data_path_keeps_its_kind(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "a.txt").write_text("x")
    path = DataPath(tmp_path)
    assert path.ls() == [tmp_path / "a.txt", tmp_path / "b"]
    for derived in (path / "b", path.parent, path.ls()[1], copy.copy(path), pickle.loads(pickle.dumps(path))):
        assert isinstance(derived, DataPath)
    assert (path / "b").ls() == []


def test_urls_are_plain_strings_of_the_known_hosts() -> None:
    names = [name for name in vars(URLs) if name.isupper() and name != "LOCAL_PATH"]
    assert {"PLANET_SAMPLE", "PETS", "S3_MODEL", "WT103_1", "IMAGEWOOF_320"} <= set(names)
    for name in names:
        assert getattr(URLs, name).startswith(("https://files.fast.ai/data/", "https://s3.amazonaws.com/fast-ai-"))
        assert not getattr(URLs, name).endswith(".tgz")
    assert URLs.PLANET_SAMPLE == "https://files.fast.ai/data/examples/planet_sample"
    assert URLs.IMAGENETTE_160 == "https://s3.amazonaws.com/fast-ai-imageclas/imagenette2-160"


def test_local_path_follows_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert tmp_path == URLs.LOCAL_PATH


def test_help_can_be_read() -> None:
    code = "from onecycle.data.sources.untar import URLs, untar_data; help(URLs); help(untar_data)"
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert "PLANET_SAMPLE = 'https://files.fast.ai/data/examples/planet_sample'" in said
    assert "force_download" in said


# ---------------------------------------------------------------- finding


def test_download_unpack_then_no_network(server: Server, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = untar_data(server.planet)
    assert isinstance(path, DataPath)
    assert path == data / "planet_tiny"
    assert tree(path) == planet_files()
    assert server.asked == [("/data/planet_tiny.tgz", None)]
    assert capsys.readouterr().out == f"Downloading {server.planet}.tgz\n"
    server.stop()
    assert untar_data(server.planet, verbose=True) == path
    assert capsys.readouterr().out == f"planet_tiny is in {path}\n"
    assert sorted(p.name for p in data.iterdir()) == ["planet_tiny", "planet_tiny.tgz"]


def test_the_kept_archive_is_unpacked_without_network(server: Server, data: Path) -> None:
    data.mkdir()
    (data / "planet_tiny.tgz").write_bytes(server.body)
    assert tree(untar_data(server.planet)) == planet_files()
    assert server.asked == []


def test_local_folder_comes_before_the_data_folder(data: Path) -> None:
    (data / "planet_sample").mkdir(parents=True)
    (data / "planet_sample" / "labels.csv").write_text("by hand")
    assert untar_data(URLs.PLANET_SAMPLE) == data / "planet_sample"
    local = Path.cwd() / "data" / "planet_sample"
    local.mkdir(parents=True)
    (local / "labels.csv").write_text("nearer")
    assert untar_data(URLs.PLANET_SAMPLE) == local


def test_local_archive_is_unpacked_beside(server: Server, data: Path) -> None:
    Path("data").mkdir()
    Path("data/planet_tiny.tgz").write_bytes(server.body)
    assert untar_data(server.planet) == Path.cwd() / "data" / "planet_tiny"
    assert not data.exists()
    assert server.asked == []


def test_config_file_names_the_data_folder(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings.config_file().write_text(f"data = '{(tmp_path / 'disk').as_posix()}'\n")
    assert untar_data(server.planet) == tmp_path / "disk" / "planet_tiny"


def test_dest_and_fname(server: Server, data: Path, tmp_path: Path) -> None:
    path = untar_data(server.planet, fname=tmp_path / "x" / "my.tgz", dest=tmp_path / "out")
    assert path == tmp_path / "out" / "planet_tiny"
    assert (tmp_path / "x" / "my.tgz").read_bytes() == server.body
    assert not data.exists()


def test_weights_have_their_own_folder(server: Server, data: Path) -> None:
    assert untar_data(server.planet, data=False) == settings.weights_folder() / "planet_tiny"
    assert not data.exists()


def test_an_empty_folder_is_filled(server: Server, data: Path) -> None:
    (data / "planet_tiny").mkdir(parents=True)
    assert tree(untar_data(server.planet)) == planet_files()


@pytest.mark.parametrize("force", [False, True])
def test_a_file_in_the_place_of_the_folder(server: Server, data: Path, force: bool) -> None:
    data.mkdir()
    (data / "planet_tiny").write_text("mine")
    with pytest.raises(DataError, match="it is a file; move it away"):
        untar_data(server.planet, force_download=force)
    assert (data / "planet_tiny").read_text() == "mine"


@pytest.mark.parametrize("url", ["planet_tiny", "file:///etc/passwd", "http://x/", "http://x/..", "http://x/a\\b"])
def test_a_url_that_cannot_work(url: str, data: Path) -> None:
    with pytest.raises(ArgumentError) as caught:
        untar_data(url)
    assert repr(url) in str(caught.value)


def test_other_endings_and_queries(server: Server, data: Path) -> None:
    server.body = zipped({"a.txt": b"1"})
    assert tree(untar_data(f"{server.url}/small.zip?token=1")) == {"a.txt": b"1"}
    assert server.asked == [("/small.zip?token=1", None)]
    assert (data / "small.zip").exists()


# ---------------------------------------------------------------- force_download


def old_folder(data: Path) -> Path:
    (data / "planet_tiny").mkdir(parents=True)
    (data / "planet_tiny" / "labels.csv").write_text("old")
    (data / "planet_tiny.tgz").write_bytes(b"old archive")
    return data / "planet_tiny"


def test_force_download_swaps(server: Server, data: Path) -> None:
    old_folder(data)
    assert tree(untar_data(server.planet, force_download=True)) == planet_files()
    assert (data / "planet_tiny.tgz").read_bytes() == server.body
    assert sorted(p.name for p in data.iterdir()) == ["planet_tiny", "planet_tiny.tgz"]


def test_force_download_keeps_what_the_new_one_lacks(
    server: Server, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (old_folder(data) / "models").mkdir()
    (data / "planet_tiny" / "models" / "stage-1").write_text("hours of work")
    untar_data(server.planet, force_download=True)
    (kept,) = data.glob("planet_tiny.old-*")
    assert (kept / "models" / "stage-1").read_text() == "hours of work"
    assert f"it is kept as {kept}" in capsys.readouterr().out


def test_force_download_leaves_the_target_of_a_link(server: Server, data: Path, tmp_path: Path) -> None:
    old_folder(data).rename(tmp_path / "elsewhere")
    (data / "planet_tiny").symlink_to(tmp_path / "elsewhere")
    assert tree(untar_data(server.planet, force_download=True)) == planet_files()
    assert (tmp_path / "elsewhere" / "labels.csv").read_text() == "old"
    assert not (data / "planet_tiny").is_symlink()


@pytest.mark.parametrize("kind", ["offline", "not found", "damaged"])
def test_force_download_keeps_the_old_on_failure(server: Server, data: Path, kind: str) -> None:
    folder = old_folder(data)
    if kind == "offline":
        server.stop()
    server.script = [status(404)] if kind == "not found" else []
    server.body = server.body[:-30]
    with pytest.raises((DownloadError, ArchiveError)):
        untar_data(server.planet, force_download=True)
    assert tree(folder) == {"labels.csv": b"old"}
    assert (data / "planet_tiny.tgz").read_bytes() == b"old archive"
    assert sorted(p.name for p in data.iterdir()) == ["planet_tiny", "planet_tiny.tgz"]


# ---------------------------------------------------------------- several at once


def test_threads_share_one_download(server: Server, data: Path) -> None:
    slow = threading.Event()
    server.script = [lambda handler, body: (slow.wait(0.3), whole(handler, body))[1]]
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(untar_data(server.planet))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [data / "planet_tiny"] * 4
    assert len(server.asked) == 1
    assert sorted(p.name for p in data.iterdir()) == ["planet_tiny", "planet_tiny.tgz"]


def test_processes_share_one_download(server: Server, data: Path) -> None:
    server.script = [lambda handler, body: (threading.Event().wait(1.0), whole(handler, body))[1]]
    code = "import sys; from onecycle.data.sources.untar import untar_data; print(untar_data(sys.argv[1]))"
    command = [sys.executable, "-c", code, server.planet]
    jobs = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [job.communicate(timeout=60)[0].splitlines()[-1] for job in jobs]
    assert said == [str(data / "planet_tiny")] * 2
    assert len(server.asked) == 1
    assert tree(data / "planet_tiny") == planet_files()


@pytest.mark.skipif(sys.platform == "win32", reason="flock is of POSIX")
def test_a_disk_without_locks(server: Server, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    assert tree(untar_data(server.planet)) == planet_files()
