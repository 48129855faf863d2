"""A full disk at every write: each command with the n-th call for room refused, with small files, on a small disk.

What must come of it: exit code 4 and a message that names a file and what is free; where only a cache or the log has no
room, the command may go on and say so. Files that were there before are whole, and nothing half written is left.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import full_disk
import pictures
import rows
from full_disk import Call, Ended, Fault, Forks
from rows import Row

RESOURCES = 4
SMALL = "--size 32 --arch test_efficientnet --weights weights.safetensors"
TRAIN = (
    f"train data --csv labels.csv {SMALL} --bs 16 --epochs 1 --freeze-epochs 1 --lr 5e-3 --no-calibrate --out runs "
    "--name toy"
)
COMMANDS: dict[str, list[str] | str] = {
    "train": TRAIN.split(),
    "find-lr": f"find-lr data --csv labels.csv {SMALL} --bs 16 --out runs".split(),
    "report": ["report", "runs/toy-001"],
    "evaluate": ["evaluate", "runs/toy-001", "data", "--csv", "labels.csv"],
    "predict": ["predict", "runs/toy-001", "data", "--out", "out.csv", "--force"],
    "predict, parquet": ["predict", "runs/toy-001", "data", "--out", "out.parquet", "--force"],
    "compare": ["compare", "runs/toy-001", "runs/toy-002", "--html", "out.html", "--force"],
    "relabel": ["relabel", "data", "corrections.csv", "--csv", "labels.csv", "--out", "out.csv", "--force"],
    "export": ["export", "runs/toy-001", "--out", "exports/toy", "--force"],
    "learn.save, CSVLogger": """
from onecycle.vision import *
data = ImageDataBunch.from_csv("data", csv_labels="labels.csv", size=32, bs=16, seed=1)
learn = cnn_learner(
    data, "test_efficientnet", pretrained="weights.safetensors", metrics=accuracy, path="learner",
    callback_fns=[CSVLogger],
)
learn.fit_one_cycle(1)
learn.save("stage-1")
""",
    "drawn sample": """
from onecycle.data.synthetic.tiles import write_sample
write_sample("sample", 3, size_px=64)
""",
    "unpacked archive": """
from onecycle.data.sources.archives import unpack
unpack("data.zip", "unpacked")
""",
}
HEAVY_COMMANDS = ("export", "learn.save, CSVLogger", "find-lr")
FEW_STEPS = "from onecycle.learner import label_issues; label_issues.HEAD_STEPS = 5"
"""A label check of a moment; how good it is is not looked at."""
SMALL_FILES = (0, 100, 4096, 100_000, 5_000_000)
SMALL_DISKS = (0, 16, 64, 256, 1024, 4096, 20_480)  # free kB


@dataclass(frozen=True)
class Attack:
    """A command without room, and what is wrong with what came of it."""

    command: str
    fault: str
    ended: Ended
    flaws: tuple[str, ...]

    def __str__(self) -> str:
        last = " ".join(self.ended.said.split())[-300:]
        return f"{self.command}, {self.fault}: {'; '.join(self.flaws)} | code {self.ended.code} | {last}"


def draw_world(world: Path) -> None:
    """Write pictures with a table, an archive of them, weights, and an empty folder for temporary files."""
    pictures.draw(world / "data")
    pictures.draw_weights(world / "weights.safetensors")
    (world / "tmp").mkdir()
    head = "file,tag,given,suggested,score,new_label"
    (world / "corrections.csv").write_text(f"{head}\n00.png,,red,green,0.1,green\n")
    shutil.make_archive(str(world / "data"), "zip", world, "data")


def judged(
    command: str, fault: str, ended: Ended, world: Path, before: dict[str, bytes], whole: set[str] | None = None
) -> Attack:
    """Look through what a command said and left.

    Args:
        command: its name.
        fault: when there was no room.
        ended: how it ended.
        world: where it ran.
        before: the files that were there before.
        whole: names of the files that it leaves where there is room: a command that left them all did its work, such
            as where the folder's own entry could not be synced.
    """
    said = " ".join(ended.said.split())
    wrong = full_disk.flaws(world, before)
    if ended.code == RESOURCES:
        named = any(word in said for word in ("cannot be written", "train elsewhere"))
        if not named or not any(word in said for word in (" free", "ulimit -f", "df -i")):
            wrong.append("the message does not name the file and the room")
    elif ended.code or not (full_disk.names(world) == whole or any(word in said for word in GONE_ON)):
        wrong.append("it is neither code 4 nor said")
    return Attack(command, fault, ended, tuple(wrong))


GONE_ON = ("kept in memory", "nothing more is written to", "decoded anew", "has no room for them", "not remembered")
"""What is said where a command goes on: a cache or the log has no room."""


def chosen(calls: Iterable[Call], *, short: bool) -> list[Call]:
    """Return the first and the last call for each file (short: some of them)."""
    first: dict[str, Call] = {}
    last: dict[str, Call] = {}
    for call in calls:
        first.setdefault(call.place, call)
        last[call.place] = call
    every = sorted({*first.values(), *(() if short else last.values())}, key=lambda call: call.number)
    return every[:: max(1, len(every) // 4)] if short else every


class Attacks:
    """All attacks, one after the other, in one world.

    Args:
        top: an empty folder.
    """

    def __init__(self, top: Path) -> None:
        self.world, self.keep = top / "world", top / "keep"
        draw_world(self.world)
        (top / "aside").mkdir()
        home = {"ONECYCLE_HOME": str(self.world / "home")}
        self.forks = Forks(top / "aside", self.world, home, lines=FEW_STEPS)
        self.run(COMMANDS["train"])
        shutil.copytree(self.world / "runs" / "toy-001", self.world / "runs" / "toy-002")
        shutil.rmtree(self.world / "home", ignore_errors=True)
        shutil.copytree(self.world, self.keep, symlinks=True)
        self.before = full_disk.contents(self.keep)
        self.whole: dict[str, set[str]] = {}  # names of the files that a command with room leaves

    def run(self, words: list[str] | str) -> Ended:
        """Run a command with room."""
        ended = self.forks.run(words)
        if ended.code:
            raise RuntimeError(f"{words}: {ended.said}")
        return ended

    def attack(self, command: str, fault: Fault, called: str) -> Attack:
        """Run a command without room, in the world as it is kept."""
        full_disk.lay_out(self.world, self.keep)
        ended = self.forks.run(COMMANDS[command], fault)
        return judged(command, called, ended, self.world, self.before, self.whole.get(command))

    def at_each_write(self, command: str, *, once: bool, short: bool) -> list[Attack]:
        """Refuse the n-th call for room (and, unless ``once``, all later ones), for each file that is written."""
        full_disk.lay_out(self.world, self.keep)
        calls = self.run(COMMANDS[command]).calls
        self.whole[command] = full_disk.names(self.world)
        faults = [(c, Fault(call=c.number, once=once)) for c in chosen(calls, short=short)]
        return [self.attack(command, fault, f"call {c.number} ({c.place})") for c, fault in faults]

    def with_small_files(self, command: str, sizes: Sequence[int]) -> list[Attack]:
        """Limit how large a file may be."""
        attacks = [self.attack(command, Fault(file_bytes=n), f"files of {n} bytes") for n in sizes]
        return [a for a in attacks if a.ended.code or a.flaws[:-1]]  # others had room

    def on_small_disks(self, command: str, free_kb: Sequence[int]) -> list[Attack] | None:
        """Put the world onto a disk of memory with so much room; None where none can be mounted."""
        used_kb = sum(-(-p.stat().st_size // 4096) * 4 + 4 for p in self.keep.rglob("*"))
        attacks = []
        for free in free_kb:
            full_disk.lay_out(self.world, self.keep)
            mount = ["mount", "-t", "tmpfs", "-o", f"size={used_kb + free + 64}k", "tmpfs", str(self.world)]
            if subprocess.run(mount, capture_output=True, check=False).returncode:
                return None
            try:
                shutil.copytree(self.keep, self.world, symlinks=True, dirs_exist_ok=True)
                _leave_free(self.world, free * 1024)
                words = COMMANDS[command]
                entered = f"import os\nos.chdir({str(self.world)!r})\n"  # the one that forks stands below the mount
                if isinstance(words, str):
                    ended = self.forks.run(entered + words)
                else:
                    call = (
                        f"import sys\nsys.argv = {['onecycle', *words]!r}\nfrom onecycle.cli.main import main\nmain()"
                    )
                    ended = self.forks.run(entered + call)
                (self.world / "filler").unlink(missing_ok=True)
                if ended.code:
                    attacks.append(judged(command, f"{free} kB free", ended, self.world, self.before))
            finally:
                subprocess.run(["umount", "-l", str(self.world)], check=True)
        return attacks


def _leave_free(folder: Path, n_bytes: int) -> None:
    """Fill a disk up to some bytes."""
    filler = os.open(folder / "filler", os.O_CREAT | os.O_WRONLY)
    try:
        rest = shutil.disk_usage(folder).free - n_bytes
        with suppress(OSError):
            if rest > 0:
                os.posix_fallocate(filler, 0, rest)
    finally:
        os.close(filler)


def row(attack: str, attacks: Sequence[Attack], note: str = "") -> Row:
    """Sum attacks up."""
    bad = [a for a in attacks if a.flaws]
    codes = Counter("code 4" if a.ended.code == RESOURCES else f"code {a.ended.code}" for a in attacks)
    held = f"{len(attacks) - len(bad):,} of {len(attacks):,}"
    said = ", ".join(f"{code} {n} times" for code, n in codes.most_common())
    detail = "; ".join(filter(None, (said, note, *(str(a) for a in bad[:3]))))
    return Row(attack, len(attacks), f"{held}: code 4 or said, old files whole, nothing left over", detail, not bad)


def main(short: bool = False) -> list[Row]:
    """Attack every command."""
    if shutil.which("cc") is None:
        return [Row("full disk", 0, "not attacked", "there is no C compiler (cc)", holds=False)]
    memory = Path("/dev/shm")  # where there is a disk of memory, laying the world out anew takes a moment
    with tempfile.TemporaryDirectory(prefix="full-disk-", dir=memory if memory.is_dir() else None) as top:
        attacks = Attacks(Path(top).resolve())
        with attacks.forks:
            return _rows(attacks, short=short)


def _rows(attacks: Attacks, *, short: bool) -> list[Row]:
    names = [name for name in COMMANDS if not (short and name in HEAVY_COMMANDS)]
    some = names[:1] if short else names
    return [
        _said(made) for made in (*_at_writes(attacks, names, short=short), *_without_room(attacks, some, short=short))
    ]


def _said(made: Row) -> Row:
    """Show a row as soon as it is there: all of them take long."""
    print(made, file=sys.stderr, flush=True)
    return made


def _at_writes(attacks: Attacks, names: Sequence[str], *, short: bool) -> Iterator[Row]:
    for name in names:
        yield row(f"ENOSPC at each file, from then on: {name}", attacks.at_each_write(name, once=False, short=short))
        yield row(f"ENOSPC at one call: {name}", attacks.at_each_write(name, once=True, short=True))


def _without_room(attacks: Attacks, names: Sequence[str], *, short: bool) -> Iterator[Row]:
    """Yield what a quota, a limit on the size of files and small disks come to."""
    quota = [n for n in COMMANDS if n == "report" or not short]
    yield row("EDQUOT", [attacks.attack(n, Fault(call=1, number=errno.EDQUOT), "EDQUOT") for n in quota])
    sizes = SMALL_FILES[:2] if short else SMALL_FILES
    yield row("RLIMIT_FSIZE", [a for name in names for a in attacks.with_small_files(name, sizes)])
    disks = [attacks.on_small_disks(name, SMALL_DISKS[1:2] if short else SMALL_DISKS) for name in names]
    mounted = [one for one in disks if one is not None]
    note = "" if mounted else "no disk of memory can be mounted here"
    yield row("small tmpfs", [a for one in mounted for a in one], note)


if __name__ == "__main__":
    rows.show(main)
