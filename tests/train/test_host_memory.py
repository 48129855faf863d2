from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from onecycle.train.device import host_memory
from onecycle.train.device.host_memory import OFF_SWITCH, keep_freed_memory


class FakeLibc:
    """Notes what is asked of the allocator."""

    def __init__(self) -> None:
        self.settings: dict[int, int] = {}
        self.trimmed = 0

    def mallopt(self, setting: int, value: int) -> int:
        self.settings[setting] = value
        return 1

    def malloc_trim(self, pad: int) -> int:
        self.trimmed += 1
        return 1


@pytest.fixture
def libc(monkeypatch) -> FakeLibc:
    fake = FakeLibc()
    monkeypatch.setattr(host_memory, "_glibc", lambda: fake)
    return fake


KEPT = {-4: 0, -1: 2**31 - 1, -2: 64 * 2**20}
DEFAULTS = {-4: 65536, -1: 128 * 2**10, -2: 0}


def test_settings_hold_inside_and_are_put_back(libc):
    with keep_freed_memory():
        assert libc.settings == KEPT
        assert libc.trimmed == 0
    assert libc.settings == DEFAULTS
    assert libc.trimmed == 1


def test_nested_blocks_end_with_the_outermost(libc):
    with keep_freed_memory():
        with keep_freed_memory():
            pass
        assert libc.settings == KEPT
    assert libc.settings == DEFAULTS
    assert libc.trimmed == 1


def test_an_error_gives_the_memory_back_too(libc):
    with pytest.raises(KeyboardInterrupt), keep_freed_memory():
        raise KeyboardInterrupt
    assert libc.settings == DEFAULTS


def test_the_last_thread_out_puts_back(libc):
    inside, leave = threading.Barrier(5), threading.Event()

    def work() -> None:
        with keep_freed_memory():
            inside.wait(10)
            leave.wait(10)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    inside.wait(10)
    with keep_freed_memory():
        leave.set()
        for thread in threads:
            thread.join(10)
        assert libc.settings == KEPT
        assert libc.trimmed == 0
    assert libc.settings == DEFAULTS
    assert libc.trimmed == 1


def test_the_switch_and_other_systems(monkeypatch):
    monkeypatch.setenv(OFF_SWITCH, "0")
    assert host_memory._glibc() is None
    monkeypatch.delenv(OFF_SWITCH)
    monkeypatch.setattr(sys, "platform", "darwin")
    assert host_memory._glibc() is None
    with keep_freed_memory():
        pass


def test_another_c_library_is_left_alone(monkeypatch):
    def unknown(name: str) -> str:
        raise ValueError("unrecognized configuration name")

    monkeypatch.setattr(os, "confstr", unknown, raising=False)
    assert host_memory._glibc() is None


FAULTS = """
import resource
from onecycle.train.device.host_memory import keep_freed_memory
def step():
    for n in (40, 48, 36):
        b"x" * (n * 2**20)
with keep_freed_memory():
    for _ in range(3):
        step()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        step()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(host_memory._glibc() is None, reason="only glibc gives freed memory back at once")
def test_the_next_step_really_gets_the_memory_of_the_last():
    """Five steps of 124 MiB are 158,720 pages of 4 KiB when each is mapped anew."""

    def faults(switch: str) -> int:
        env = {**os.environ, OFF_SWITCH: switch}
        done = subprocess.run(
            [sys.executable, "-c", FAULTS], env=env, capture_output=True, text=True, check=True, timeout=60
        )
        return int(done.stdout)

    kept, mapped_anew = faults("1"), faults("0")
    assert kept < 1_000
    assert mapped_anew > 10_000  # fewer than 158,720 where the system maps huge pages
