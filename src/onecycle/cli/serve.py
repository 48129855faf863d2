"""``onecycle serve``: an exported model behind an address: a page to drop pictures on, and an API."""

from __future__ import annotations

import importlib.util
import shlex
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from onecycle.cli.screen import Screen
from onecycle.deploy.folder import MOST_MANIFEST, is_bundle, is_zipped, open_model
from onecycle.errors import ArgumentError
from onecycle.files import unfinished
from onecycle.foreign import inside, read_plain, strict_json
from onecycle.settings import MANIFEST, SAVED
from onecycle.text import plural, shown_path

if TYPE_CHECKING:
    from onecycle.deploy.serve.guard import Hosts
    from onecycle.runs.folder import RunFolder

_PACKAGES = ("onnxruntime", "starlette", "uvicorn", "python_multipart")


def run_serve(
    path: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    allow_host: Sequence[str] = (),
    token: str | None = None,
    collect: Path | None = None,
    as_json: bool = False,
    quiet: bool = False,
) -> int:
    """Serve a model until SIGINT or SIGTERM.

    Args:
        path: an exported folder or its .zip, or a run: its export in ``exports`` is used where it is newer than the
            run's model; else it is exported, verified, into a folder that is removed at the end.
        host: address to listen at.
        port: 0 for any that is free.
        allow_host: further names under which it may be addressed.
        token: that requests need; None: nothing.
        collect: folder for pictures whose label is confirmed or corrected on the page; None: none is kept.
        as_json: print JSON and nothing else.
        quiet: print only the address.

    Raises:
        ArgumentError: the address cannot be used, a package is missing, or the token is no word or a name is none.
        DataError: no such run.
        ExportError: the export is damaged, or is not the same as the run.
        ArchiveError: the .zip is refused.
    """
    _check(token)
    screen = Screen(as_json=as_json, quiet=quiet)
    from onecycle.deploy.serve.app import make_app
    from onecycle.deploy.serve.guard import LOOPBACK, Hosts
    from onecycle.deploy.serve.limits import Limits
    from onecycle.deploy.serve.server import listen, serve

    limits, hosts = Limits(), Hosts.of(host, allow_host)
    with ExitStack() as stack:
        listening = stack.enter_context(listen(host, port))
        name = f"[{host}]" if ":" in host else host
        url = f"http://{name}:{listening.getsockname()[1]}/"
        with screen.running():
            folder = path if is_bundle(path) or is_zipped(path) else exported(path, screen, stack)
            with screen.status("starting the network"):
                app = make_app(open_model(folder), limits=limits, hosts=hosts, token=token, collect=collect)
            _say(screen, url, folder, collect)
            if host not in LOOPBACK:
                screen.warn(_open_to_all(host, token, hosts))
        serve(app, listening, limits)
    screen.event("ended")
    screen.row("ended", "all requests are answered")
    return 0


def _check(token: str | None) -> None:
    missing = [name.replace("_", "-") for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ArgumentError(f"serving needs {', '.join(missing)}: pip install 'onecycle[serve]'")
    if token is not None and not (token.isascii() and token.isprintable() and token.split() == [token]):
        raise ArgumentError("--token is one word of ASCII letters, digits and marks, without blanks")


def exported(path: Path, screen: Screen, stack: ExitStack) -> Path:
    """Return the export of a run: the one that is there and newer than its model, or a new one.

    PyTorch is loaded for a new one only.
    """
    from onecycle.runs.folder import RunFolder

    run = RunFolder.open_finished(path)
    from onecycle.cli.export import default_folder, export_run

    there = default_folder(run)
    if is_bundle(there) and _is_of(there, run):
        screen.row("export", f"{shown_path(there)}, made after the run's model was written")
        return there
    new = stack.enter_context(unfinished(None, "onecycle_serve")) / there.name
    made = export_run(run, new, screen, archive=False)
    screen.row("export", f"made of {run.name} and verified with {plural(made.verification.pictures, 'picture')}")
    return made.folder


def _is_of(folder: Path, run: RunFolder) -> bool:
    manifest = folder / MANIFEST
    try:
        made = strict_json(read_plain(inside(folder, MANIFEST), MOST_MANIFEST), str(manifest))
        its = made["name"] == run.name and made["onnx"].get("weights", "float32") == "float32"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # damaged: a new one is made
        return False
    weights, beside = (run.model_stem.with_suffix(suffix) for suffix in SAVED)
    written = max(p.stat().st_mtime for p in (weights, beside) if p is weights or p.exists())
    return bool(its and manifest.stat().st_mtime > written)


def _say(screen: Screen, url: str, folder: Path, collect: Path | None) -> None:
    screen.event("serving", url=url, folder=str(folder))
    screen.row("serving", url, always=True)
    screen.row("", "Ctrl-C ends it; requests that are being answered are finished first")
    if collect is not None:
        screen.row("collect", f"what is said to be right goes to {shown_path(collect)}; it becomes labels by")
        screen.command(f"onecycle relabel {shlex.quote(shown_path(collect))}")
    sys.stdout.flush()  # who reads along in a pipe learns the port


def _open_to_all(host: str, token: str | None, hosts: Hosts) -> str:
    needed = "it needs the token" if token else "no token is asked for (--token TEXT)"
    return (
        f"with --host {host} every machine that reaches this one can send pictures; {needed}, and nothing is "
        f"encrypted: outside of a network that you trust put a proxy with TLS before it. It is addressed by {hosts}; "
        "--allow-host NAME adds another name"
    )
