"""Processes of their own, forked from one that has loaded the heavy packages: imports are paid once."""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
from collections.abc import Callable, Mapping
from multiprocessing.context import ForkServerProcess
from pathlib import Path

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    ["torch", "timm", "pandas", "pyarrow.parquet", "sklearn.metrics", "matplotlib.pyplot", "onecycle.runs.build"]
)


def start_command(
    words: list[str], cwd: Path, env: Mapping[str, str], *, out: str | Path, err: str | Path, stdin: str = os.devnull
) -> ForkServerProcess:
    """Start ``onecycle WORDS``; join the process for its ``exitcode``.

    Args:
        words: what a user types after the command's name.
        cwd: folder to start in.
        env: its whole environment.
        out: file, named pipe or terminal that it prints to.
        err: the same for its errors.
        stdin: file or terminal that it reads from.
    """
    process = _FORKS.Process(target=_run_command, args=(words, str(cwd), dict(env), (stdin, str(out), str(err))))
    process.start()
    return process


def _run_command(words: list[str], cwd: str, env: dict[str, str], streams: tuple[str, str, str]) -> None:
    os.setsid()
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    for number, name in enumerate(streams):
        handle = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND if number else os.O_RDONLY, 0o600)
        os.dup2(handle, number)
        os.close(handle)
    sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", buffering=1, errors="backslashreplace", closefd=False)
    sys.argv = ["onecycle", *words]
    from onecycle.cli.main import main

    main()


def in_ranks(n: int, function: Callable[..., None], *arguments: object) -> list[ForkServerProcess]:
    """Start ``function(rank, n, address, *arguments)`` in n processes that can join one group; they are not joined.

    Args:
        n: how many.
        function: of a module's top level.
        arguments: for each of them.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    started = [_FORKS.Process(target=function, args=(rank, n, address, *arguments)) for rank in range(n)]
    for process in started:
        process.start()
    return started
