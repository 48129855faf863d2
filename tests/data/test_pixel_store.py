"""The store on the disk: the same pixels whatever happens to it, and never half a file that counts as a whole one."""

from __future__ import annotations

import copy
import errno
import gc
import json
import mmap
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import time
import tracemalloc
import warnings
import zlib
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from onecycle import settings
from onecycle.data.augment.augmenter import BatchAugmenter
from onecycle.data.batches import BatchLoader
from onecycle.data.bunch import ImageDataBunch
from onecycle.data.data_block import ImageList
from onecycle.data.datasets import ImageDataset
from onecycle.data.pixels import cache, packed, pixel_file
from onecycle.data.pixels import reading as reading_module
from onecycle.data.pixels import store as store_module
from onecycle.data.pixels.decode import decode_for
from onecycle.data.pixels.resize import ResizeMethod, ResizeSpec
from onecycle.data.pixels.store import PixelStore
from onecycle.errors import ArgumentError, Unreadable, UnreadableImagesError
from onecycle.text import shown_path

N = 12
EQUAL, MIXED = ResizeSpec.make((16, 12)), ResizeSpec.make(16)  # all pictures of one shape; of several


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    return write_set(tmp_path / "set")


def write_set(folder: Path, n: int = N) -> list[str]:
    folder.mkdir()
    for i in range(n):
        noise = np.random.default_rng(i).integers(0, 256, (20 + i % 3, 24, 3)).astype(np.uint8)
        PIL.Image.fromarray(noise).save(folder / f"{i:03d}.png")
    return [str(p) for p in sorted(folder.iterdir())]


def on_disk(paths: list[str], spec: ResizeSpec = MIXED, **options: object) -> PixelStore:
    return PixelStore(paths, spec, cache="disk", **{"threads": 2, **options})


def files(suffix: str = "") -> list[Path]:
    folder = settings.pixel_folder()
    return sorted(p for p in folder.glob(f"*{suffix}") if p.suffix != ".lock") if folder.exists() else []


def holds(store: PixelStore) -> bool:
    """Whether a store gives what decoding each file gives."""
    expected = [decode_for(p, store.spec) for p in store.paths]
    return all(np.array_equal(store.read(i), e) for i, e in enumerate(expected))


@pytest.fixture
def no_decoding(monkeypatch):
    """Fail where a picture or its header is read; call it when that should begin."""

    def refuse(*_: object) -> None:
        raise AssertionError("a picture was read")

    def begin() -> None:
        monkeypatch.setattr(reading_module, "decode_for", refuse)
        monkeypatch.setattr(store_module, "picture_shape", refuse)

    return begin


# ---------------------------------------------------------------- the same pixels


@pytest.mark.parametrize("spec", [EQUAL, MIXED, ResizeSpec.make(None)])
def test_a_later_run_takes_the_pixels_from_the_file_without_decoding(paths, spec, no_decoding):
    expected = [decode_for(p, spec) for p in paths]
    assert on_disk(paths, spec).fill() == []
    no_decoding()
    again = on_disk(paths, spec)
    assert again.fill() == []
    assert again.is_packed
    assert not again.in_memory
    assert all(np.array_equal(again.read(i), e) for i, e in enumerate(expected))


@pytest.mark.parametrize("spec", [EQUAL, MIXED])
def test_a_file_that_several_rows_name_is_decoded_once(paths, spec, tmp_path, monkeypatch):
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"nothing")
    twice, decoded = [paths[3], str(bad), *paths, str(bad), paths[3]], []
    monkeypatch.setattr(reading_module, "decode_for", lambda path, spec: decoded.append(path) or decode_for(path, spec))
    store = on_disk(twice, spec)
    assert [f.position for f in store.fill()] == [1, len(twice) - 2]
    assert len(decoded) == len(set(decoded))
    assert set(decoded) >= set(paths)
    assert store.decode_s > 0
    assert all(np.array_equal(store.read(i), decode_for(paths[3], spec)) for i in (0, 5, len(twice) - 1))
    again = on_disk(twice, spec)
    assert [f.position for f in again.fill()] == [1, len(twice) - 2]
    assert again.decode_s is None, "nothing was decoded here"


@pytest.mark.parametrize("spec", [EQUAL, MIXED])
def test_the_file_has_the_same_bytes_for_any_number_of_threads(paths, spec, monkeypatch, tmp_path):
    written = []
    for threads in (1, 4):
        monkeypatch.setenv("ONECYCLE_HOME", str(tmp_path / str(threads)))
        on_disk(paths, spec, threads=threads).fill()
        (file,) = files(".bin")
        written.append((file.name, file.read_bytes()))
    assert written[0] == written[1]


@pytest.mark.parametrize("choice", ["disk", "memory"])
def test_a_batch_taken_at_once_equals_one_put_together_picture_by_picture(paths, choice, monkeypatch):
    store = PixelStore(paths, EQUAL, cache=choice)
    positions = np.array([7, 0, 3, 3, 11])
    slow, slow_shapes = store.gather(positions)
    store.fill()
    monkeypatch.setattr(store, "read_many", None)  # the fast path reads no single picture
    fast, fast_shapes = store.gather(positions)
    assert np.array_equal(fast.numpy(), slow.numpy())
    assert np.array_equal(fast_shapes, slow_shapes)
    assert fast_shapes.dtype == slow_shapes.dtype
    assert fast.stride() == slow.stride()
    fast.zero_()  # a batch is the caller's
    assert np.array_equal(store.gather(positions)[0].numpy(), slow.numpy())


def test_a_position_that_there_is_not_is_refused(paths):
    store = on_disk(paths, EQUAL)
    store.fill()
    for position in (-1, len(paths)):
        with pytest.raises(IndexError):
            store.gather(np.array([position]))


class Map:
    """A map of a file that notes which bytes were announced."""

    def __init__(self) -> None:
        self.announced: list[tuple[int, int]] = []

    def madvise(self, advice: int, start: int = 0, length: int = 0) -> None:
        if advice == mmap.MADV_WILLNEED:
            assert start % mmap.PAGESIZE == 0
            self.announced.append((start, start + length))


@pytest.mark.skipif(not hasattr(mmap, "MADV_WILLNEED"), reason="needs a system that reads ahead")
@pytest.mark.parametrize("spec", [EQUAL, MIXED], ids=["one shape", "several"])
@pytest.mark.parametrize("free", [0, 2**40], ids=["larger than memory", "smaller"])
def test_batches_are_announced_where_memory_does_not_hold_the_pixels(paths, spec, free, monkeypatch):
    monkeypatch.setattr(store_module, "free_bytes", lambda: free)
    store = on_disk(paths, spec)
    store.fill()
    ends = np.cumsum([store.read(i).nbytes for i in range(N)])
    spans = list(zip([0, *ends.tolist()], ends.tolist(), strict=False))
    kept = store._packed
    real, kept.mapped = kept.mapped, Map()
    part = ImageDataset(store, np.arange(N), None, ["a"], is_multi=True)
    loader = BatchLoader(part, bs=2, augmenter=BatchAugmenter([], size=8), shuffle=True)
    order, announced_at = loader.order(0), []
    gather = store.gather

    def noted(positions, **how):
        announced_at.append(len(kept.mapped.announced))
        return gather(positions, **how)

    monkeypatch.setattr(store, "gather", noted)
    assert len(list(loader)) == len(announced_at) == N // 2
    announced, kept.mapped = kept.mapped.announced, real
    if free:
        assert announced == []
        return
    assert len(announced) == N - 4, "the first two batches are gathered at once"
    for position, (start, end) in zip(order[4:], announced, strict=True):
        assert start <= spans[position][0] < spans[position][1] == end <= real.size()
    assert announced_at[0] == 2, "before the first is gathered"
    start, end = announced[0]
    real.madvise(mmap.MADV_WILLNEED, start, end - start)  # the system takes it


def test_pictures_of_several_shapes_share_a_canvas_as_before(paths):
    store, positions = on_disk(paths), np.array([2, 0, 1])
    slow, slow_shapes = store.gather(positions)
    store.fill()
    fast, fast_shapes = store.gather(positions)
    assert len({tuple(s) for s in slow_shapes.tolist()}) > 1
    assert np.array_equal(fast.numpy(), slow.numpy())
    assert np.array_equal(fast_shapes, slow_shapes)


def test_stored_pixels_cannot_be_written_to(paths):
    for choice in ("disk", "memory"):
        store = PixelStore(paths, EQUAL, cache=choice)
        store.fill()
        with pytest.raises(ValueError, match="read-only"):
            store.read(0)[:] = 0


def test_pages_given_back_to_the_system_hold_the_same_pixels(paths, monkeypatch):
    monkeypatch.setattr(packed, "_MAPPED_BYTES", 1)
    store = on_disk(paths, EQUAL)
    store.fill()
    assert holds(store)
    before = store.read(3)
    store.gather(np.arange(N))
    assert np.array_equal(before, decode_for(paths[3], EQUAL))


def test_opening_a_file_costs_no_memory_for_each_picture(tmp_path):
    n = 30_000
    store = on_disk([str(tmp_path / str(i)) for i in range(n)], ResizeSpec.make((1, 1)))
    key = pixel_file.key_of(store.paths, pixel_file.stamps_of(store.paths), store._recipe())
    with cache.filling(key, print), cache.new_store(key, 7 * n, say=print) as part:
        sums = np.full(n, zlib.crc32(bytes(3)), dtype=np.uint32).tobytes()
        span = pixel_file.Span.of(n, 3 * n, (1, 1))
        part.write(span.sums, sums)
        sizes = {"n": n, "n_bytes": part.n_bytes, "pixel_bytes": 3 * n, "shape": (1, 1), "table_sum": zlib.crc32(sums)}
        part.finish(pixel_file.Manifest(**sizes, folder="", recipe="", made="", unreadable=[]))
    tracemalloc.start()
    try:
        assert store.fill() == []
        used, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert store.read(n - 1).tolist() == [[[0, 0, 0]]]
    assert used < n  # less than a byte a picture
    assert peak < 100 * n


# ---------------------------------------------------------------- what it was made from


def test_a_changed_picture_size_or_order_makes_another_file(paths, no_decoding):
    on_disk(paths).fill()
    os.utime(paths[4], ns=(1, 1))
    assert on_disk(paths[::-1]).fill() == []
    on_disk(paths).fill()
    on_disk(paths, EQUAL).fill()
    on_disk(paths, ResizeSpec.make(16, ResizeMethod.PAD)).fill()
    assert len(files(".json")) == 5
    no_decoding()
    on_disk(paths, ResizeSpec.make(16, padding_mode="zeros")).fill()  # changes windows, not what is stored


def test_a_changed_decoder_makes_another_file(paths, monkeypatch):
    on_disk(paths).fill()
    monkeypatch.setattr(store_module, "decoder_version", lambda: "another one")
    on_disk(paths).fill()
    assert len(files(".json")) == 2


def test_a_relative_path_is_the_same_picture_from_the_same_folder_only(paths, monkeypatch, tmp_path):
    stamps, names = pixel_file.stamps_of(paths), [os.path.relpath(p, tmp_path) for p in paths]
    monkeypatch.chdir(tmp_path)
    assert pixel_file.key_of(names, stamps, "r") == pixel_file.key_of(paths, stamps, "r")
    monkeypatch.chdir("/")
    assert pixel_file.key_of(names, stamps, "r") != pixel_file.key_of(paths, stamps, "r")


def test_a_picture_changed_while_decoding_is_not_kept_for_the_next_run(paths, monkeypatch, capsys):
    def changes_its_file(path, spec):
        pixels = decode_for(path, spec)
        if path == paths[5]:
            os.utime(path, ns=(5, 5))
        return pixels

    monkeypatch.setattr(reading_module, "decode_for", changes_its_file)
    store = on_disk(paths)
    store.fill()
    said = capsys.readouterr().out
    assert f"{paths[5]} was changed while the pictures were decoded" in said
    assert "for this run only" in said
    assert "for this run only" in store.describe()
    assert files() == []
    assert store.is_packed
    assert holds(store)


# ---------------------------------------------------------------- pictures that cannot be read


@pytest.mark.parametrize("spec", [EQUAL, MIXED])
def test_a_reopened_store_lists_the_same_unreadable_pictures(paths, spec, no_decoding):
    Path(paths[1]).write_bytes(b"not a picture")
    Path(paths[2]).write_bytes(Path(paths[2]).read_bytes()[:300])
    Path(paths[9]).unlink()
    failed = on_disk(paths, spec).fill()
    assert [f.position for f in failed] == [1, 2, 9]
    assert failed[2] == Unreadable(9, paths[9], "no such file")
    assert failed == PixelStore(paths, spec, cache="memory").fill()
    no_decoding()
    again = on_disk(paths, spec)
    assert again.fill() == failed
    assert again.gather(np.array([0, 3, 11]))[0].shape[0] == 3


@pytest.mark.parametrize("choice", ["disk", "memory", "off"])
def test_an_unreadable_picture_is_an_error_in_a_batch_of_equal_ones(paths, choice):
    Path(paths[2]).write_bytes(b"not a picture")
    store = PixelStore(paths, EQUAL, cache=choice)
    store.fill()
    assert holds(PixelStore(paths[:2], EQUAL))
    with pytest.raises(UnreadableImagesError, match=f"cannot read picture {paths[2]}"):
        store.gather(np.array([1, 2]))


def test_a_failure_that_may_pass_is_not_kept_for_the_next_run(paths, monkeypatch, capsys):
    def refused(path, spec):
        if path == paths[3]:
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return decode_for(path, spec)

    with monkeypatch.context() as patched:
        patched.setattr(reading_module, "decode_for", refused)
        assert [f.position for f in on_disk(paths).fill()] == [3]
    assert f"{paths[3]} could not be read just now" in capsys.readouterr().out
    again = on_disk(paths)
    assert again.fill() == []
    assert holds(again)


def test_a_set_without_one_readable_picture_leaves_no_file(tmp_path):
    (tmp_path / "a.png").write_bytes(b"x")
    store = on_disk([str(tmp_path / "a.png")])
    assert len(store.fill()) == 1
    assert files() == []
    assert on_disk([]).fill() == []


# ---------------------------------------------------------------- damage, kills, other processes


@pytest.mark.parametrize("damage", ["shorter", "longer", "other", "manifest", "numbers", "no manifest", "no pixels"])
def test_a_damaged_file_is_made_again(paths, damage, capsys):
    on_disk(paths).fill()
    (pixels,), (manifest,) = files(".bin"), files(".json")
    whole = pixels.read_bytes()
    if damage == "shorter":
        pixels.write_bytes(whole[:-100])
    elif damage == "longer":
        pixels.write_bytes(whole + b"0")
    elif damage == "other":
        pixels.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    elif damage == "manifest":
        manifest.write_text(manifest.read_text()[:40])
    elif damage == "numbers":
        manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "n": N + 1}))
    else:
        {"no manifest": manifest, "no pixels": pixels}[damage].unlink()
    store = on_disk(paths)
    assert store.fill() == []
    assert holds(store)
    said = capsys.readouterr().out
    assert ("cannot be used" in said) == (damage not in ("no manifest", "no pixels"))
    assert ("bytes, found" in said) == (damage in ("shorter", "longer"))
    assert pixels.read_bytes() == whole
    assert len(files()) == 2


SLOW = """
import os, sys, time
from onecycle.data.pixels import reading, store
from onecycle.data.pixels.resize import ResizeSpec
decode = reading.decode_for
def slowly(path, spec):
    with open(sys.argv[1], "a") as log:
        log.write(path + "\\n")
    time.sleep(float(sys.argv[2]))
    return decode(path, spec)
reading.decode_for = slowly
pixels = store.PixelStore(sys.argv[3:], ResizeSpec.make(16), cache="disk", threads=2)
print("ready", flush=True)
sys.stdin.readline()
pixels.fill()
print(sum(int(pixels.read(i).sum()) * (i + 1) for i in range(len(pixels))), pixels.describe())
"""


def start(log: Path, delay_s: float, paths: list[str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SLOW, str(log), str(delay_s), *paths]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def go(*processes: subprocess.Popen[str]) -> None:
    """Let processes fill their stores, as soon as all of them can."""
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()


def test_a_process_killed_half_way_leaves_nothing_in_the_way(paths, tmp_path, capsys):
    log = tmp_path / "log"
    with start(log, 0.2, paths) as process:
        go(process)
        while not log.exists() or len(log.read_text().splitlines()) < N // 2:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert [p.suffix for p in files()] == [".part"]
    started = time.perf_counter()
    store = on_disk(paths)
    assert store.fill() == []
    assert time.perf_counter() - started < 30  # the dead process's lock holds nobody up, which would be for ever
    assert holds(store)
    assert [p.suffix for p in files()] == [".bin", ".json"]
    assert capsys.readouterr().out == ""


def test_what_a_killed_process_left_of_another_set_is_swept_away(paths):
    dead, alive = "0" * 64, "1" * 64
    settings.pixel_folder().mkdir(parents=True)
    for name in (f"{dead}.7-ab.part", f"{dead}.bin", f"{dead}.lock", f"{alive}.8-cd.part"):
        (settings.pixel_folder() / name).write_bytes(b"left")
    with cache.filling(alive, print):
        on_disk(paths, EQUAL).fill()
    assert sorted(p.suffix for p in files()) == [".bin", ".json", ".part"]
    assert files(".part")[0].name.startswith(alive)
    assert not (settings.pixel_folder() / f"{dead}.lock").exists()


def test_of_two_processes_at_once_one_decodes_and_the_other_waits(paths, tmp_path):
    log = tmp_path / "log"
    with start(log, 0.05, paths) as first, start(log, 0.05, paths) as second:
        go(first, second)
        said = [process.communicate(timeout=60)[0].splitlines() for process in (first, second)]
    assert sorted(log.read_text().splitlines()) == paths  # each picture once
    waited = [any("Another process is decoding the same pictures" in line for line in s) for s in said]
    assert sorted(waited) == [False, True]
    assert said[0][-1] == said[1][-1]
    assert "pixels decoded once" in said[0][-1]
    assert len(files()) == 2


def test_a_second_thread_of_the_same_process_waits_as_well(paths, monkeypatch):
    decoded = []

    def counted(path, spec):
        decoded.append(path)
        time.sleep(0.01)
        return decode_for(path, spec)

    monkeypatch.setattr(reading_module, "decode_for", counted)
    stores = [on_disk(paths) for _ in range(2)]
    threads = [threading.Thread(target=s.fill, args=(None,)) for s in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(decoded) == paths
    assert np.array_equal(stores[0].read(5), stores[1].read(5))


# ---------------------------------------------------------------- a disk that does not take it


def full_disk(number: int, after: int):
    """Return an ``os.pwrite`` for which the disk is full after some calls."""
    calls, write = iter(range(10**6)), os.pwrite

    def pwrite(descriptor: int, data: memoryview, offset: int) -> int:
        if next(calls) >= after:
            raise OSError(number, os.strerror(number))
        return write(descriptor, data, offset)

    return pwrite


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO])
@pytest.mark.parametrize("after", [0, 5])
def test_a_disk_that_is_full_leaves_the_pixels_in_memory(paths, number, after, monkeypatch, capsys):
    monkeypatch.setattr(os, "pwrite", full_disk(number, after))
    store = on_disk(paths)
    assert store.fill() == []
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert os.strerror(number) in said
    assert "kept in memory" in said
    assert store.in_memory
    assert "in memory" in store.describe()
    assert holds(store)
    assert files() == []


def test_room_is_taken_before_decoding_starts(paths, monkeypatch, capsys):
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    decoded = []
    monkeypatch.setattr(reading_module, "decode_for", lambda p, s: decoded.append(p) or decode_for(p, s))
    store = on_disk(paths)
    store.fill()
    assert len(decoded) == N  # once, for memory
    assert "No space left on device" in capsys.readouterr().out
    assert files() == []


def test_a_system_that_cannot_reserve_writes_all_the_same(paths, monkeypatch):
    def unknown(*_: int) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(os, "posix_fallocate", unknown, raising=False)
    monkeypatch.delattr(os, "pwrite")  # as on Windows
    store = on_disk(paths)
    store.fill()
    assert not store.in_memory
    assert holds(store)


def test_a_full_disk_and_full_memory_leave_streaming(paths, monkeypatch, capsys):
    monkeypatch.setattr(os, "pwrite", full_disk(errno.ENOSPC, 5))
    store = on_disk(paths, max_bytes=10)
    assert store.fill() == []
    assert "decoded anew in each epoch" in capsys.readouterr().out
    assert not store.is_packed
    assert "decoded anew for each batch" in store.describe()
    assert holds(store)


def test_a_limit_on_file_sizes_counts_as_a_full_disk(paths):
    code = """
        import os, resource, sys
        from onecycle.data.pixels.resize import ResizeSpec
        from onecycle.data.pixels.store import PixelStore
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, resource.RLIM_INFINITY))
        for _ in range(2):
            store = PixelStore(sys.argv[1:], ResizeSpec.make(16), cache="disk")
            print(store.fill(), store.in_memory)
            os.posix_fallocate = lambda *_: None  # the second time, the limit is met while writing
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *paths], capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    assert [("File too large" in lines[i], lines[i + 1]) for i in (0, 2)] == [(True, "[] True")] * 2
    assert files() == []


def test_a_cache_folder_that_cannot_be_written_leaves_the_pixels_in_memory(paths, capsys):
    settings.cache_folder().write_text("a file, where the folder should be")
    store = on_disk(paths)
    assert store.fill() == []
    assert store.in_memory
    assert "cannot be used" in capsys.readouterr().out
    assert holds(store)


def test_a_file_in_a_folder_that_may_only_be_read_serves(paths, monkeypatch, no_decoding):
    on_disk(paths).fill()

    def refused(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "utime", refused)
    no_decoding()
    assert on_disk(paths).fill() == []


def test_an_interrupt_leaves_no_part_and_no_lock(paths, monkeypatch):
    def interrupted(path, spec):
        if path == paths[6]:
            raise KeyboardInterrupt
        return decode_for(path, spec)

    with monkeypatch.context() as patched:
        patched.setattr(reading_module, "decode_for", interrupted)
        with pytest.raises(KeyboardInterrupt):
            on_disk(paths).fill()
    assert files() == []
    assert on_disk(paths).fill() == []


# ---------------------------------------------------------------- room


def gigabytes(n_bytes: int) -> str:
    return repr(n_bytes / 1e9)


@pytest.fixture
def three(tmp_path):
    """Three sets of the same size, and the bytes that one takes."""
    sets = [write_set(tmp_path / name) for name in "abc"]
    on_disk(sets[0], EQUAL).fill()
    (file,) = files(".bin")
    return sets, file.stat().st_size


def used_ago(folder: str, days: float) -> None:
    """Pretend that the set of this folder was used last so long ago."""
    for stored in cache.stores():
        if Path(stored.manifest.folder).name == folder:
            when = time.time() - days * 86400
            os.utime(settings.pixel_folder() / f"{stored.key}.json", (when, when))


def folders() -> list[str]:
    return [Path(s.manifest.folder).name for s in cache.stores()]


def test_the_set_unused_for_longest_makes_room(three, monkeypatch, capsys):
    (a, b, c), size = three
    monkeypatch.setenv("ONECYCLE_CACHE_GB", gigabytes(2 * size + 10))
    on_disk(b, EQUAL).fill()
    used_ago("a", 2)
    used_ago("b", 1)
    on_disk(a, EQUAL).fill()  # opening counts as use
    on_disk(c, EQUAL).fill()
    assert folders() == ["c", "a"]
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert f"made from {shown_path(Path(b[0]).parent)}" in said


def test_a_set_that_is_open_is_not_removed(three, monkeypatch, capsys):
    (a, b, c), size = three
    monkeypatch.setenv("ONECYCLE_CACHE_GB", gigabytes(2 * size + 10))
    in_use = on_disk(a, EQUAL)
    in_use.fill()
    on_disk(b, EQUAL).fill()
    used_ago("a", 2)
    on_disk(c, EQUAL).fill()
    assert folders() == ["c", "a"]
    monkeypatch.setenv("ONECYCLE_CACHE_GB", gigabytes(size + 10))
    on_disk(c, EQUAL).fill()
    del in_use
    gc.collect()
    on_disk(b, EQUAL).fill()
    assert folders() == ["b"]
    assert capsys.readouterr().out.count("Removed") == 2


def test_sets_that_are_all_open_leave_the_new_one_in_memory(three, monkeypatch, capsys):
    (a, b, _), size = three
    monkeypatch.setenv("ONECYCLE_CACHE_GB", gigabytes(size + 10))
    first, second = on_disk(a, EQUAL), on_disk(b, EQUAL)
    first.fill()
    second.fill()
    assert second.in_memory
    assert "has no room for" in capsys.readouterr().out
    assert folders() == ["a"]


def test_a_disk_with_little_room_makes_room_below_the_cap(three, monkeypatch):
    (_, b, _), _ = three
    usage = cache.shutil.disk_usage("/")
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda _: usage._replace(free=10))
    monkeypatch.setenv("ONECYCLE_CACHE_GB", "1")
    on_disk(b, EQUAL).fill()
    assert folders() == ["b"]


def test_a_set_larger_than_the_cap_streams_and_says_how_to_keep_it(paths, monkeypatch, capsys):
    monkeypatch.setenv("ONECYCLE_CACHE_GB", "0.000001")
    store = on_disk(paths)
    assert store.fill() == []
    assert not store.is_packed
    assert holds(store)
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    for part in ("take 11 kB", "more than the 1 kB", "anew in each epoch", "ONECYCLE_CACHE_GB=0.1", "cache_gb"):
        assert part in said
    assert files() == []


def test_a_streaming_set_is_still_checked_once(paths, monkeypatch):
    monkeypatch.setenv("ONECYCLE_CACHE_GB", "0")
    Path(paths[2]).write_bytes(b"not a picture")
    assert [f.position for f in on_disk(paths).fill(None)] == [2]


# ---------------------------------------------------------------- threads, copies, forks


def decoding_threads() -> set[threading.Thread]:
    return {t for t in threading.enumerate() if t.name.startswith("decode")}


def test_streaming_keeps_its_threads_and_ends_them(paths):
    before = decoding_threads()
    store = PixelStore(paths, MIXED, cache="off", threads=2)
    store.gather(np.arange(N))
    running = decoding_threads() - before
    store.gather(np.arange(N))
    assert len(running) == 2
    assert decoding_threads() - before == running
    del store
    gc.collect()
    for thread in running:
        thread.join(5)
    assert decoding_threads() <= before


def test_a_kept_store_has_no_threads(paths):
    before = decoding_threads()
    store = on_disk(paths)
    store.fill()
    for thread in decoding_threads() - before:
        thread.join(5)
    store.gather(np.arange(N))
    assert decoding_threads() <= before


@pytest.mark.parametrize("choice", ["disk", "memory", "off"])
@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))])
def test_a_store_can_be_copied_and_pickled(paths, choice, how):
    store = PixelStore(paths, EQUAL, cache=choice, threads=2)
    expected = store.gather(np.arange(N))[0].numpy()
    store.fill()
    other = how(store)
    assert (other.is_packed, other.in_memory, other.describe()) == (store.is_packed, store.in_memory, store.describe())
    assert np.array_equal(other.gather(np.arange(N))[0].numpy(), expected)
    if choice == "disk":
        assert len(pickle.dumps(store)) < 10_000  # no pixels in it


def test_a_pickled_store_whose_file_has_gone_is_filled_again(paths):
    store = on_disk(paths)
    store.fill()
    sent = pickle.dumps(store)
    del store
    gc.collect()
    assert cache.clear().n == 1
    other = pickle.loads(sent)
    assert not other.filled
    assert holds(other)
    assert other.fill() == []
    assert other.is_packed


def gathered_sum(store: PixelStore, answers: multiprocessing.SimpleQueue) -> None:
    answers.put(int(store.gather(np.arange(N))[0].sum()))


@pytest.mark.parametrize("choice", ["disk", "off"])
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_process_has_threads_of_its_own(paths, choice):
    store = PixelStore(paths, EQUAL, cache=choice, threads=2)
    store.fill()
    expected = int(store.gather(np.arange(N))[0].sum())
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    child = context.Process(target=gathered_sum, args=(store, answers))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons advise against forking with threads
        child.start()
    child.join(20)
    assert child.exitcode == 0
    assert answers.get() == expected


# ---------------------------------------------------------------- the bunch


def bunch(path: Path, **options: object) -> ImageDataBunch:
    return ImageDataBunch.from_csv(path, folder="train", suffix=".jpg", size=32, bs=8, **options)


def test_a_bunch_keeps_its_pixels_on_the_disk_by_default(colour_path, capsys, no_decoding):
    data = bunch(colour_path)
    assert data.store.describe() == "pixels not decoded yet"
    data.prepare()
    assert data.store.describe() == f"pixels decoded once (184 kB in {shown_path(settings.pixel_folder())})"
    no_decoding()
    bunch(colour_path, seed=3).prepare()  # another split of the same pictures
    assert capsys.readouterr().out == ""


def test_a_bunch_can_keep_its_pixels_in_memory_or_nowhere(colour_path):
    data = bunch(colour_path, pixel_cache="memory")
    data.prepare()
    assert data.store.describe() == "pixels decoded once (184 kB in memory)"
    lists = ImageList.from_folder(colour_path / "train").split_none().label_from_re(r"(\d)\.jpg$")
    data = lists.transform(None, size=32).databunch(pixel_cache="off")
    data.prepare()
    assert data.store.describe() == "pixels decoded anew for each batch (pixel_cache=off)"
    assert files() == []


def test_an_unknown_place_is_refused(colour_path):
    with pytest.raises(ArgumentError, match=r"pixel_cache is 'disk' .* received 'ram'"):
        bunch(colour_path, pixel_cache="ram")


def test_a_silent_preparation_says_nothing(colour_path, monkeypatch, capsys):
    monkeypatch.setenv("ONECYCLE_CACHE_GB", "0")
    bunch(colour_path).prepare(silent=True)
    assert capsys.readouterr().out == ""
    bunch(colour_path).prepare()
    assert "decoded anew in each epoch" in capsys.readouterr().out


def test_a_wrong_decoder_setting_is_no_picture_s_fault(paths, monkeypatch):
    monkeypatch.setenv("ONECYCLE_DECODER", "turbo")
    with pytest.raises(ArgumentError, match="ONECYCLE_DECODER"):
        on_disk(paths)
