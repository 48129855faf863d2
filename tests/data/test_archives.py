"""Unpacking what is good, and refusing what is not."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import stat
import subprocess
import sys
import tarfile
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from web_server import FILES, member, tar, tgz, tree, zipped

from onecycle.data.sources import archives
from onecycle.data.sources.archives import unpack
from onecycle.errors import ArchiveError, ArgumentError

# ---------------------------------------------------------------- unpacking what is good


def encrypted(archive: bytes) -> bytes:
    """Set the flag in the local header and in the directory."""
    changed = bytearray(archive)
    changed[6] |= 1
    changed[archive.index(b"PK\1\2") + 8] |= 1
    return bytes(changed)


def unpacked(tmp_path: Path, archive: bytes, **limits: float) -> dict[str, bytes]:
    (tmp_path / "a").write_bytes(archive)
    return tree(unpack(tmp_path / "a", tmp_path / "in" / "out", **limits))  # type: ignore[arg-type]


def refused(tmp_path: Path, archive: bytes, **limits: float) -> str:
    """Unpack must fail and leave nothing, inside or outside."""
    with pytest.raises(ArchiveError) as caught:
        unpacked(tmp_path, archive, **limits)
    assert sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")) == ["a", "in"]
    assert str(tmp_path / "a") in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_kind_of_tar(tmp_path: Path, mode: str, form: int) -> None:
    deep = "/".join(["folder-of-a-middling-length"] * 5) + "/file"
    files = {"out/a": b"1", f"out/{deep}": b"2" * 600, "out/empty": b""}
    if form != tarfile.USTAR_FORMAT:
        files |= {"out/" + "n" * 200: b"4", "out/größe.jpg": b"3"}
    want = {name.removeprefix("out/"): content for name, content in files.items()}
    assert unpacked(tmp_path, tgz(files, mode=mode, form=form)) == want


@pytest.mark.parametrize(("form", "longest"), [("gnu", 200), ("pax", 200), ("ustar", 90), ("v7", 80)])
def test_what_the_tar_program_writes(tmp_path: Path, form: str, longest: int) -> None:
    (tmp_path / "src" / "sub" / ("n" * longest)).mkdir(parents=True)
    (tmp_path / "src" / "sub" / ("n" * longest) / "x").write_bytes(b"x" * 1000)
    (tmp_path / "src" / "top").write_bytes(b"t")
    command = ["tar", f"--format={form}", "-czf", str(tmp_path / "a"), "-C", str(tmp_path / "src"), "."]
    try:
        subprocess.run(command, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no GNU tar here")
    assert tree(unpack(tmp_path / "a", tmp_path / "out")) == tree(tmp_path / "src")


def test_zip_and_its_folders(tmp_path: Path) -> None:
    assert unpacked(tmp_path, zipped({"out/": b"", "out/s/": b"", "out/s/a": b"1"})) == {"s/a": b"1"}


@pytest.mark.parametrize(
    ("names", "result"),
    [
        (["out/a"], ["a"]),
        (["./out/a"], ["a"]),
        (["./", "./out/", "out//b"], ["b"]),
        (["other/a"], ["other/a"]),
        (["out/a", "b"], ["b", "out/a"]),
        (["._out", "out/a", "__MACOSX/out/._a"], ["a"]),
        (["out"], ["out"]),
    ],
)
def test_the_top_folder(tmp_path: Path, names: list[str], result: list[str]) -> None:
    members = [member(n, type=tarfile.DIRTYPE if n.endswith("/") else tarfile.REGTYPE) for n in names]
    assert sorted(unpacked(tmp_path, tar(*members))) == result


def test_permissions_and_owners_are_not_taken(tmp_path: Path) -> None:
    secret = member("out/x", b"#!", mode=0o6777, uid=0, gid=0)
    closed = member("out/d", type=tarfile.DIRTYPE, mode=0o000)
    unpacked(tmp_path, tar(closed, secret))
    for name, allowed in (("x", 0o644), ("d", 0o755), (".", 0o755)):
        mode = stat.S_IMODE((tmp_path / "in" / "out" / name).stat().st_mode)
        assert mode & ~allowed == 0
        assert mode & 0o600 == 0o600


def test_a_comment_for_all_members_is_harmless(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", pax_headers={"comment": "abc"}) as out:
        out.addfile(*(lambda info, content: (info, io.BytesIO(content)))(*member("out/a", b"1")))
    assert unpacked(tmp_path, buffer.getvalue()) == {"a": b"1"}


def test_unpack_into_a_folder_with_content(tmp_path: Path) -> None:
    (tmp_path / "in" / "out").mkdir(parents=True)
    (tmp_path / "in" / "out" / "mine").write_text("x")
    with pytest.raises(ArgumentError, match="is not empty"):
        unpacked(tmp_path, tgz({"out/a": b"1"}))
    assert tree(tmp_path / "in") == {"out/mine": b"x"}
    with pytest.raises(FileNotFoundError):
        unpack(tmp_path / "missing", tmp_path / "new")


def test_the_loser_of_a_race_uses_the_winners_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.tgz").write_bytes(tgz(FILES))
    find = archives._inner_folder

    def find_late(beside: Path, name: str) -> Path:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "winner").write_text("whole")
        return find(beside, name)

    monkeypatch.setattr(archives, "_inner_folder", find_late)
    assert tree(unpack(tmp_path / "a.tgz", tmp_path / "out")) == {"winner": b"whole"}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.tgz", "out"]


# ---------------------------------------------------------------- refusing what is not


LINK = {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ([member("../evil", b"x")], "it leaves the folder"),
        ([member("out/a"), member("out/../../evil", b"x")], "it leaves the folder"),
        ([member("/tmp/evil", b"x")], "it is absolute"),
        ([member("C:/evil", b"x")], "starts with a drive"),
        ([member("C:evil", b"x")], "starts with a drive"),
        ([member("a\\..\\evil", b"x")], "NUL or a backslash"),
        ([member("out/" + "x" * 300, b"x")], "too long"),
        ([member("d/" * 100 + "x", b"x")], "too long"),
        ([member("out/a", **LINK)], "a symbolic link"),
        ([member("out", **LINK), member("out/evil", b"x")], "a symbolic link"),
        ([member("out/b", type=tarfile.LNKTYPE, linkname="../../a")], "a hard link"),
        ([member("out/b", type=tarfile.CHRTYPE)], "a device"),
        ([member("out/b", type=tarfile.BLKTYPE)], "a device"),
        ([member("out/b", type=tarfile.FIFOTYPE)], "a pipe"),
        ([member("out/b", type=b"Z")], "of a kind that is not unpacked"),
        ([member("out/a", b"1"), member("out/a", b"2")], "twice"),
        ([member("out/a", b"1"), member("./out//a", b"2")], "twice"),
        ([member("out/a", b"1"), member("out/A", b"2")], "twice"),
        ([member("out/é", b"1"), member("out/e\u0301", b"2")], "twice"),
        ([member("out/a", b"1"), member("Out/b", b"2")], "twice"),
        ([member("out/a", b"1"), member("out/a/b", b"2")], "twice"),
        ([member("out/a/b", b"1"), member("out/a", b"2")], "twice"),
        ([member(".", b"1")], "a file without a name"),
        ([member("out/a", b"1", pax_headers={"GNU.sparse.major": "1"})], "sparse"),
        ([member("out/a", b"1", pax_headers={"path": "../../evil"})], "it leaves the folder"),
        ([member("out/a", b"1", pax_headers={"path": "a\0b"})], "NUL or a backslash"),
        ([member("out/a", b"1", pax_headers={"size": "-1"})], "no number"),
        ([member("out/a", b"1", pax_headers={"size": "99999999"})], "cut off"),
        ([member("out/a", b"1", pax_headers={"comment": "x" * 2**20})], "a header of"),
    ],
)
def test_hostile_tars(tmp_path: Path, members: list[tuple[tarfile.TarInfo, bytes]], said: str) -> None:
    assert said in refused(tmp_path, tar(member("out/first", b"good"), *members))


def test_a_path_for_all_members_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", pax_headers={"path": "x"}) as out:
        out.addfile(member("out/a")[0])
    assert "rename members" in refused(tmp_path, buffer.getvalue())


def test_a_sparse_file_of_the_older_kind(tmp_path: Path) -> None:
    assert "a sparse file" in refused(tmp_path, tar(member("out/a", type=b"S")))


def test_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    plain = bytearray(tgz({"out/abc": b"1"}, mode="w", form=tarfile.USTAR_FORMAT))
    plain[4] = 0xFF
    plain[148:156] = b"%06o\0 " % (sum(plain[:148]) + 8 * 32 + sum(plain[156:512]))
    assert "not UTF-8" in refused(tmp_path, bytes(plain))


@pytest.mark.parametrize(
    ("archive", "said"),
    [
        (zipped({"../evil": b"x"}), "it leaves the folder"),
        (zipped({"/evil": b"x"}), "it is absolute"),
        (zipped({"a\\..\\evil": b"x"}), "NUL or a backslash"),
        (zipped({"out/a": b"/etc", "out/b": b""}, external_attr=0o120777 << 16), "a link or a device"),
        (zipped({"out/a": b"1", "out/A": b"1"}), "twice"),
        (encrypted(zipped({"out/a": b"1"})), "is encrypted"),
        (zipped({"out/a.jpg": b"1"}).replace(b"out/a.jpg", b"out/a\0jpg"), "NUL or a backslash"),
        (zipped({"out/a": b"1" * 999})[:-10], "damaged or cut off"),
        (zipped({"out/a": b"1" * 999})[:40], "damaged or cut off"),
    ],
)
def test_hostile_zips(tmp_path: Path, archive: bytes, said: str) -> None:
    assert said in refused(tmp_path, archive)


def test_zip_with_wrong_content(tmp_path: Path) -> None:
    archive = bytearray(zipped({"out/a": Random(1).randbytes(2000)}))
    archive[1000] ^= 1
    assert "damaged or cut off" in refused(tmp_path, bytes(archive))


def test_bombs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "_RATIO_FROM_BYTES", 100_000)
    zeros = bytes(2_000_000)
    assert "limits max_bytes, max_ratio" in refused(tmp_path, tgz({"out/a": zeros}))
    assert "limits max_bytes, max_ratio" in refused(tmp_path, zipped({"out/a": zeros}))
    many = tgz({f"out/{i}": b"" for i in range(50)})
    assert "more than 49 members" in refused(tmp_path, many, max_members=49)
    assert "more than 10 bytes" in refused(tmp_path, tgz({"out/a": b"x" * 6, "out/b": b"y" * 6}), max_bytes=10)
    endless = gzip.compress(bytes(4_000_000))
    assert "max_ratio" in refused(tmp_path, endless)
    assert unpacked(tmp_path, tgz({"out/a": zeros}), max_ratio=5000) == {"a": zeros}


def test_every_cut_is_noticed(tmp_path: Path) -> None:
    plain = tgz({"out/a": b"1" * 700, "out/b": b"2"}, mode="w")[:3072]
    for size in (0, 1, 511, 512, 600, 1212, 1500, 1536, 2048, 2049, 2560):
        assert "cut off" in refused(tmp_path, plain[:size])
    packed = gzip.compress(plain)
    for size in range(2, len(packed), 7):
        assert "cut off" in refused(tmp_path, packed[:size])


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / "a.tgz").write_bytes(tgz(FILES))
    monkeypatch.setattr(archives, "_write_file", full)
    with pytest.raises(OSError, match="No space left"):
        unpack(tmp_path / "a.tgz", tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["a.tgz"]


@pytest.mark.parametrize("name", ["con", "NUL.txt", "a?", "dot.", "space ", "12:30"])
def test_names_that_windows_cannot_store(name: str) -> None:
    assert archives.name_flaw([name], windows=True) is not None
    assert archives.name_flaw([name], windows=False) is None
    assert archives.name_flaw(["console.jpg"], windows=True) is None


# ---------------------------------------------------------------- whatever comes


quick = hypothesis_settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)


@pytest.fixture
def no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sync", lambda: None)


@quick
@given(parts=st.lists(st.sampled_from(["..", ".", "", "a", "A", "b", "C:", "a\\b", "é"]), min_size=1, max_size=5))
def test_no_name_writes_outside(no_sync: None, tmp_path_factory: pytest.TempPathFactory, parts: list[str]) -> None:
    root = tmp_path_factory.mktemp("name")
    (root / "a").write_bytes(tgz({"/".join(parts) or "x": b"1", "b/x": b"2"}))
    try:
        unpack(root / "a", root / "in" / "out")
    except ArchiveError:
        assert list((root / "in").iterdir()) == []
    else:
        assert not {"..", "C:", "a\\b"} & set(parts)
        assert sorted(tree(root / "in" / "out").values()) == [b"1", b"2"]
    assert sorted(p.name for p in root.iterdir()) == ["a", "in"]


@quick
@given(seed=st.randoms(use_true_random=False), kind=st.sampled_from(["tar", "pax", "zip"]))
def test_damage_is_always_an_archive_error(
    no_sync: None, tmp_path_factory: pytest.TempPathFactory, seed: object, kind: str
) -> None:
    files = {"out/a": b"1" * 700, "out/" + "b" * 150: b"2"}
    good = {"tar": tgz(files, mode="w", form=tarfile.GNU_FORMAT), "pax": tgz(files, mode="w"), "zip": zipped(files)}
    archive = bytearray(good[kind].rstrip(b"\0") + bytes(1024) if kind != "zip" else good[kind])
    for _ in range(3):
        archive[seed.randrange(len(archive))] = seed.randrange(256)  # type: ignore[attr-defined]
    root = tmp_path_factory.mktemp("damage")
    (root / "a").write_bytes(archive)
    try:
        unpack(root / "a", root / "in" / "out")
    except ArchiveError:
        assert list((root / "in").iterdir()) == []
    assert sorted(p.name for p in root.iterdir()) == ["a", "in"]


def test_what_a_killed_unpacking_left_goes_with_the_next(tmp_path: Path) -> None:
    archive = tmp_path / "a.tgz"
    archive.write_bytes(tgz({"a/x": b"1"}))
    left, young, other = (tmp_path / f".{name}.unfinished" for name in ("a.12345678", "a.87654321", "b.12345678"))
    for folder in (left, young, other):
        (folder / "deep").mkdir(parents=True)
        (folder / "deep" / "x").write_bytes(b"half")
    link = tmp_path / ".a.11111111.unfinished"
    link.symlink_to(other)
    for folder in (left, other):
        os.utime(folder, (1, 1))
    unpack(archive, tmp_path / "a")
    assert not left.exists()
    assert young.exists(), "another process may be about to fill it"
    assert (other / "deep" / "x").exists(), "of another set, and through a link"


@pytest.mark.skipif(sys.platform == "win32", reason="locks of folders")
def test_the_folder_of_an_unpacking_that_runs_stays(tmp_path: Path) -> None:
    archive, used = tmp_path / "a.tgz", tmp_path / ".a.12345678.unfinished"
    archive.write_bytes(tgz({"a/x": b"1"}))
    used.mkdir()
    os.utime(used, (1, 1))
    script = "import fcntl, os, sys; fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_EX); print(1); input()"
    other = subprocess.Popen([sys.executable, "-uc", script, used], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with other:
        assert other.stdout is not None
        other.stdout.readline()
        unpack(archive, tmp_path / "a")
        assert used.exists()
        other.kill()
    shutil.rmtree(tmp_path / "a")
    os.utime(used, (1, 1))
    unpack(archive, tmp_path / "a")
    assert not used.exists()
