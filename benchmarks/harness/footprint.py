"""How much memory a process and its children take, sampled from outside."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path


class Footprint:
    """Samples the memory of a process and its children 20 times a second.

    The sum of resident sizes counts pages that processes share several times, so at each new peak of it, and once a
    second, the proportional sizes (Pss: shared pages divided among their users) are read, which takes longer.
    """

    EVERY_S = 0.05

    def __init__(self, pid: int) -> None:
        self.pid, self.peaks = pid, dict.fromkeys(("rss", "pss", "pss_anon", "pss_file"), 0.0)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def stop(self) -> dict[str, float]:
        """Stop sampling; peaks in MB: ``rss``, ``pss`` and, each with its own peak, ``pss_anon`` and ``pss_file``."""
        self._ended.set()
        self._thread.join()
        return self.peaks

    def _sample(self) -> None:
        looked = 0.0
        while not self._ended.wait(self.EVERY_S):
            pids = family(self.pid)
            rss = sum(rss_mb(pid) for pid in pids)
            if rss > self.peaks["rss"] * 1.01 or time.monotonic() - looked > 1:
                looked = time.monotonic()
                for name, value in pss_mb(pids).items():
                    self.peaks[name] = max(self.peaks[name], value)
            self.peaks["rss"] = max(self.peaks["rss"], rss)


def family(pid: int) -> list[int]:
    """The process and all that it started, directly or not."""
    found = [pid]
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [p for child in path.read_text().split() for p in family(int(child))]
        except OSError:
            continue  # a thread that has just ended
    return found


def rss_mb(pid: int) -> float:
    """Resident size; 0 for a process that has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except OSError:
        return 0.0


def pss_mb(pids: list[int]) -> dict[str, float]:
    """Proportional sizes, summed over processes: all, anonymous, and of mapped files."""
    total = dict.fromkeys(("pss", "pss_anon", "pss_file"), 0.0)
    for pid in pids:
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue  # it has ended
        for line in text.splitlines():
            name = line.split(":")[0].lower()
            if name in total:
                total[name] += int(line.split()[1]) * 1024 / 1e6
    return total
