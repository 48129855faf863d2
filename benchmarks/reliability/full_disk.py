"""Commands on a disk that is full from the n-th write on: forked from one process that has loaded the heavy packages.

``full_disk.c`` is preloaded under that process, so that what Rust and C++ write counts, too. Each fork runs one command
in a world (a folder with data, runs and caches) that is laid out anew, and what it leaves is looked through.
"""

from __future__ import annotations

import base64
import ctypes
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

HERE = Path(__file__).resolve().parent
HEAVY = (
    "torch", "timm", "pandas", "pyarrow.parquet", "sklearn.metrics", "matplotlib.pyplot", "onnxruntime", "onnx",
    "onecycle.runs.build", "onecycle.cli.main", "onecycle.cli.train", "onecycle.deploy.bundle", "onecycle.vision",
)  # fmt: skip


@dataclass(frozen=True)
class Fault:
    """When there is no room."""

    call: int = 0  # from this call on that asks for room; 0: never
    number: int = 28  # of the error: ENOSPC
    once: bool = False  # that call alone fails
    file_bytes: int | None = None  # files may have so many (RLIMIT_FSIZE)


@dataclass(frozen=True)
class Call:
    """A call of the system that asks for room below the world."""

    number: int
    kind: str  # write, reserve, sync, file, folder, link
    path: str  # below the world

    @property
    def place(self) -> str:
        """What was asked for, without what is drawn anew each time."""
        return f"{self.kind} {plain_name(self.path)}"


def plain_name(path: str) -> str:
    """Return a path without numbers and what is drawn: the same for each time that a command runs."""
    return re.sub(r"[0-9a-f]{6,}|[0-9]+", "N", path)


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int  # negative: by that signal
    said: str  # on standard output and error
    calls: list[Call] = field(default_factory=list)


class Forks:
    """The process that forks; a command on a full disk takes as long as that command, without its imports.

    Args:
        folder: for the compiled shim and the lists of calls; outside of the world.
        world: whose disk is full.
        env: more variables of the environment.
        loaded: modules that the process has before it forks.
        lines: of Python that it runs then, to make what is slow and writes nothing short.
    """

    def __init__(
        self, folder: Path, world: Path, env: Mapping[str, str], loaded: Sequence[str] = HEAVY, lines: str = ""
    ) -> None:
        self.folder, self.world = folder, world
        shim = folder / "full_disk.so"
        if not shim.exists():
            subprocess.run(
                ["cc", "-shared", "-fPIC", "-O2", "-o", str(shim), str(HERE / "full_disk.c"), "-ldl"], check=True
            )
        preload = {"LD_PRELOAD": str(shim), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "full_disk.py"), lines, *loaded], env={**os.environ, **preload, **env},
            cwd=world, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def run(self, words: Sequence[str] | str, fault: Fault = Fault()) -> Ended:
        """Run one command (words), or lines of Python (a text), in the world."""
        log = self.folder / "calls.log"
        log.unlink(missing_ok=True)
        job = {"words": words, "fault": asdict(fault), "world": str(self.world), "log": str(log)}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        said = base64.b64decode(answer["said"]).decode(errors="replace")
        return Ended(answer["code"], said, self._calls(log))

    def _calls(self, log: Path) -> list[Call]:
        if not log.exists():
            return []
        cells = [line.split("\t", 3) for line in log.read_text(errors="replace").splitlines()]
        return [Call(int(n), kind, path.removeprefix(f"{self.world}/")) for n, kind, _, path in cells]


# --- what a command must leave behind ---------------------------------------------------------------


def contents(world: Path) -> dict[str, bytes]:
    """Return every file of a world."""
    return {str(p.relative_to(world)): p.read_bytes() for p in sorted(world.rglob("*")) if p.is_file()}


LEFTOVER = re.compile(r"\.(tmp|part|unpacking|new|old-\w+)$|^\.(?!.*\.lock$)|\.write-")


def flaws(world: Path, before: Mapping[str, bytes]) -> list[str]:
    """Say what is wrong with the files of a world after a command that found no room: nothing should be."""
    paths = {str(p.relative_to(world)): p.name for p in world.rglob("*")}
    wrong = [f"{p} is left over" for p, name in paths.items() if LEFTOVER.search(name) and p not in before]
    after = contents(world)
    gone = [name for name in before if name not in after and not name.startswith("home/cache/")]
    # A sidecar is a copy of what the weights hold; it goes before they are replaced.
    wrong += [f"{name} has gone" for name in gone if not (name.endswith(".json") and "model" in name)]
    for name, data in after.items():
        if data != before.get(name) and (why := damage(world / name)):
            wrong.append(f"{name} is not whole: {why}")
    return wrong


def damage(path: Path) -> str:
    """Say why a file is not whole, "" where it is."""
    try:
        _read(path)
    except Exception as error:  # noqa: BLE001 - whatever a reader says
        return f"{type(error).__name__}: {error}"
    return ""


def _read(path: Path) -> None:
    data = path.read_bytes()
    if path.suffix == ".json":
        json.loads(data)
    elif path.suffix == ".parquet":
        import pyarrow.parquet as pq

        pq.read_table(path)
    elif path.suffix == ".safetensors":
        from onecycle.train.checkpoint import read_weights

        read_weights(path)
    elif path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None, "a member is damaged"
    elif path.suffix in (".png", ".jpg"):
        import PIL.Image

        PIL.Image.open(path).load()
    elif path.suffix == ".html":
        assert data.rstrip().endswith(b"</html>"), "it has no end"
    elif path.suffix in (".csv", ".yaml", ".txt") and path.name != "log.txt":
        assert data.endswith(b"\n"), "its last line has no end"


def names(world: Path) -> set[str]:
    """Return the files of a world by their plain names."""
    return {plain_name(name) for name in contents(world)}


def lay_out(world: Path, keep: Path) -> None:
    """Make a world as it is kept, in place: its paths stand in the settings of its runs."""
    for path in world.iterdir():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    shutil.copytree(keep, world, symlinks=True, dirs_exist_ok=True)


# --- the process that forks -------------------------------------------------------------------------


def _serve() -> None:
    lines, *loaded = sys.argv[1:]
    for name in loaded:
        __import__(name)
    exec(lines, {})
    for line in sys.stdin:
        job = json.loads(line)
        code, said = _forked(job)
        print(json.dumps({"code": code, "said": base64.b64encode(said).decode()}), flush=True)


def _forked(job: dict[str, Any]) -> tuple[int, bytes]:
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        _run(job, writing)
    os.close(writing)
    pieces: list[bytes] = []

    def read() -> None:
        with os.fdopen(reading, "rb") as file:
            pieces.append(file.read())

    reader = threading.Thread(target=read)
    reader.start()
    _, status = os.waitpid(child, 0)
    reader.join()
    return os.waitstatus_to_exitcode(status), pieces[0]


def _run(job: dict[str, Any], output: int) -> None:
    code = 1
    try:
        for number in (1, 2):
            os.dup2(output, number)
        sys.stdin = open(os.devnull)  # noqa: SIM115 - until the process ends
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", buffering=1, closefd=False)
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", buffering=1, closefd=False)
        fault = Fault(**job["fault"])
        tempfile.tempdir = str(Path(job["world"]) / "tmp")  # of the command alone: libraries write there when they load
        shim = ctypes.CDLL(None)
        shim.full_disk(
            job["world"].encode(), ctypes.c_long(fault.call), fault.number, int(fault.once), job["log"].encode()
        )
        if fault.file_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (fault.file_bytes, resource.RLIM_INFINITY))
        code = _command(job["words"])
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _command(words: list[str] | str) -> int:
    from onecycle.cli import exit_codes, main

    try:
        if isinstance(words, str):
            exec(words, {"__name__": "__main__"})
        else:
            sys.argv = ["onecycle", *words]
            main.main()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except Exception as error:  # noqa: BLE001 - as the command line ends
        print(exit_codes.error_text(error), file=sys.stderr)
        return exit_codes.exit_code(error)
    return 0


if __name__ == "__main__":
    _serve()
