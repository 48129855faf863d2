"""Files are written by ``files.py`` alone: whole or not at all, and a full disk is said in one way."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parents[1] / "src" / "onecycle"

EXCEPTIONS = {
    "files.py": "the room itself",
    "foreign.py": "the log of a run, which grows line by line and is never written through a link",
    "data/pixels/pixel_file.py": "a cache that threads fill by position; without room the pictures stay in memory",
    "distributed/prediction/tries.py": "notes of a few bytes, one before each picture, appended",
    "train/frozen.py": "features in a file without a name, which goes with its process",
    "fastai1/core.py": "get_tmp_file of fastai v1: an empty file, whose name is what is asked for",
}
"""Files that open others for writing themselves, each with why."""

PATH_METHODS = ("write_text", "write_bytes", "touch", "savefig", "to_csv", "to_parquet", "tofile", "symlink_to")
FUNCTIONS = (
    "shutil.copy", "shutil.copy2", "shutil.copyfile", "shutil.copytree", "shutil.move", "shutil.make_archive",
    "torch.save", "np.save", "np.savez", "np.savez_compressed", "np.savetxt", "json.dump", "pickle.dump", "yaml.dump",
    "np.memmap", "np.lib.format.open_memmap", "tempfile.NamedTemporaryFile", "tempfile.TemporaryFile",
    "tempfile.mkstemp", "NamedTemporaryFile", "TemporaryFile", "mkstemp", "save_file", "safetensors.torch.save_file",
)  # fmt: skip
NAMES = {"open", "fdopen", "ZipFile", "TarFile", "save", *PATH_METHODS, *(f.rpartition(".")[2] for f in FUNCTIONS)}
ALLOWED = {
    ("runs/folder.py", "symlink_to"): "the pointer to the latest run, a link: nothing is in it",
    ("cli/training/progress.py", "to_csv"): "LabelIssues.to_csv, which ends in write_whole",
}
"""Calls with such a name that write nothing, or nothing but a name."""
SAVERS = ("learn", "self", "self.learn", "super()", "made", "saving", "safetensors.torch")
"""Their ``save`` is onecycle's own, which ends in write_whole, or returns bytes; others may be pictures of Pillow."""


def write_calls(module: ast.Module) -> Iterator[tuple[str, int]]:
    """Yield what opens a file for writing, by its name, with its line."""
    calls = [n for n in ast.walk(module) if isinstance(n, ast.Call) and last_name(n) in NAMES]
    memory = set() if not calls else set(names_in_memory(module))
    for node in calls:
        arguments = [*node.args, *(k.value for k in node.keywords)]
        first = node.args[0] if node.args else None
        if (isinstance(first, ast.Name) and first.id in memory) or "os.devnull" in map(ast.unparse, arguments):
            continue
        yield from ((name, node.lineno) for name in filter(None, [write_call(node, arguments)]))


def last_name(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def names_in_memory(module: ast.Module) -> Iterator[str]:
    """Yield the names that are given to buffers."""
    for node in ast.walk(module):
        if isinstance(node, ast.Assign) and "io.BytesIO()" in ast.unparse(node.value):
            targets = (target for names in node.targets for target in ast.walk(names))
            yield from (target.id for target in targets if isinstance(target, ast.Name))


def write_call(node: ast.Call, arguments: list[ast.expr]) -> str | None:
    """Return the name of a call that writes a file, None where it does not."""
    called = ast.unparse(node.func)
    name = called.rpartition(".")[2]
    texts = [a.value for a in arguments if isinstance(a, ast.Constant) and isinstance(a.value, str)]
    if called == "os.open":
        return called if any(f"os.{flag}" in ast.unparse(node) for flag in ("O_WRONLY", "O_RDWR")) else None
    if name in ("open", "fdopen", "ZipFile", "TarFile"):
        modes = [t for t in texts if len(t) <= 4 and set(t) <= set("rwxabt+:") and set(t) & set("wxa+")]
        return called if modes else None
    if name == "write_text" and len(node.args) == 2:
        return None  # of a run's folder, which ends in write_whole; that of a path takes the text alone
    if called in FUNCTIONS or (isinstance(node.func, ast.Attribute) and name in PATH_METHODS):
        return called if called in FUNCTIONS else name
    return called if name == "save" and called.rpartition(".")[0] not in SAVERS else None


@pytest.mark.parametrize(
    "line",
    [
        'open(p, "w")', 'open(p, mode="xb")', 'p.open("ab")', 'p.open("r+b")', 'zipfile.ZipFile(p, "w")', "p.touch()",
        "os.open(p, os.O_CREAT | os.O_WRONLY)", "p.write_text(t)", "figure.savefig(p)", "shutil.copy(a, b)",
        "torch.save(x, p)", "json.dump(x, file)", 'os.fdopen(h, "w")', "np.save(p, x)",
        "picture.save(p)", "save_file(t, p)",
    ],
)  # fmt: skip
def test_what_writes_is_seen(line):
    assert len(list(write_calls(ast.parse(line)))) == 1


@pytest.mark.parametrize(
    "line",
    [
        "open(p)",
        'p.open("rb")',
        "zipfile.ZipFile(p)",
        "b = io.BytesIO()\nfigure.savefig(b)",
        "learn.save(p)",
        "os.open(p, os.O_RDONLY)",
    ],
)
def test_what_reads_or_stays_in_memory_is_not(line):
    assert not list(write_calls(ast.parse(line)))


def test_files_are_written_in_one_place():
    found: dict[str, list[tuple[str, int]]] = {}
    for path in sorted(SRC.rglob("*.py")):
        file, text = path.relative_to(SRC).as_posix(), path.read_text()
        if not any(f"{name}(" in text for name in NAMES):
            continue  # reading all of them takes seconds
        if calls := [c for c in write_calls(ast.parse(text)) if (file, c[0]) not in ALLOWED]:
            found[file] = calls
    others = {file: calls for file, calls in found.items() if file not in EXCEPTIONS}
    assert not others, f"use write_whole, write_part or write_chunks of files.py: {others}"
    assert set(EXCEPTIONS) == set(found), "an exception that nobody needs any more"
