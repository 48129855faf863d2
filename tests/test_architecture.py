"""The house as a test: rooms and the floors they stand on, imports that run down, no circle, the style of a file."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

SRC = Path(__file__).resolve().parents[1] / "src" / "onecycle"

FLOORS = {
    "errors": 0, "text": 0, "files": 1, "foreign": 1, "doc": 1,
    "settings": 2, "evaluation": 2, "train": 2,
    "data": 3, "model": 3,
    "deploy": 4,
    "distributed": 5,
    "learner": 6,
    "runs": 7,
    "vision": 8,
    "fastai1": 9,
    "as_fastai": 10, "cli": 10, "__main__": 11,
}  # fmt: skip
"""Rooms (folders) and single files beside them, with their floors; what is not here has no place in the house."""
FORMULAS = "evaluation.scores"
"""Each score stands once, in numpy, for the room beside it, too: training's metrics wrap these."""

MODULE_LINES, CLASS_LINES, FUNCTION_LINES, KEYWORD_FIELDS = 500, 900, 50, 6


@cache
def modules() -> dict[str, Path]:
    """Every module by its dotted name below the package."""
    paths = (p for p in SRC.rglob("*.py") if p.name != "__init__.py")
    return {".".join(p.relative_to(SRC).with_suffix("").parts): p for p in paths}


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def nodes(path: Path, *, typing: bool) -> Iterator[ast.AST]:
    """Every node of a file, with or without what only type checkers see."""
    waiting: list[ast.AST] = [tree(path)]
    while waiting:
        node = waiting.pop()
        if not typing and isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        yield node
        waiting += ast.iter_child_nodes(node)


@cache
def imported(path: Path, *, typing: bool = False) -> frozenset[str]:
    """What a file imports, anywhere in it: ``a`` of ``import a``, ``a.b`` of ``from a import b``."""
    names = set()
    for node in nodes(path, typing=typing):
        if isinstance(node, ast.Import):
            names |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names |= {f"{node.module}.{a.name}" for a in node.names}
    return frozenset(names)


@cache
def imports_of(path: Path, *, typing: bool = False) -> frozenset[str]:
    """Modules of onecycle that a file imports when it runs (or for type checkers too), as names below the package."""
    below = {n.removeprefix("onecycle.") for n in imported(path, typing=typing) if n.startswith("onecycle.")}
    return frozenset(m for n in below for m in (n, n.rpartition(".")[0]) if m in modules())


def reached_from(start: str) -> set[str]:
    """Every module whose name begins with ``start``, and all that they import, directly or not."""
    waiting, reached = [m for m in modules() if m.startswith(start)], set[str]()
    while waiting:
        module = waiting.pop()
        if module not in reached:
            reached.add(module)
            waiting += imports_of(modules()[module])
    return reached


def room(module: str) -> str:
    return module.split(".")[0]


def test_every_module_lies_in_a_room():
    beside = {p.stem if p.suffix == ".py" else p.name for p in SRC.iterdir() if p.suffix == ".py" or p.is_dir()}
    assert beside - {"__init__", "__pycache__"} <= set(FLOORS)


def test_imports_run_down_or_stay_in_their_room():
    arrows = [
        (m, other) for m, path in modules().items() for other in imports_of(path, typing=True) if room(m) != room(other)
    ]
    up = [arrow for arrow in arrows if FLOORS[room(arrow[1])] >= FLOORS[room(arrow[0])]]
    assert [f"{m} → {other}" for m, other in up if other != FORMULAS] == []


def test_no_import_circle():
    """Imports inside functions count, and so do those that only type checkers see."""
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, f"import circle: {' → '.join((*trail, module))}"
        if module not in done:
            for other in imports_of(modules()[module], typing=True):
                visit(other, (*trail, module))
            done.add(module)

    for module in modules():
        visit(module, ())


def test_pictures_are_read_without_training_audit_or_tables():
    """A machine that only predicts loads little."""
    reached = reached_from("data.pixels.")
    assert {m for m in reached if m == "train.loop" or m.startswith("data.audit")} == set()
    assert {m for m in reached if any(n.split(".")[0] == "pandas" for n in imported(modules()[m]))} == set()


def test_no_folder_is_too_full_to_see_at_a_glance():
    """``cli`` has a file for each command."""
    folders = {p.parent for p in modules().values()} - {SRC, SRC / "cli"}
    assert {f.name: n for f in folders if (n := len(list(f.glob("*.py"))) - 1) > 11} == {}


def faults_of(name: str, path: Path) -> Iterator[str]:
    """What a file does against the house style."""
    lines = path.read_text().count("\n")
    public = [n for n in tree(path).body if isinstance(n, ast.ClassDef) and not n.name.startswith("_")]
    longest = max((n.end_lineno - n.lineno + 1 for n in public), default=0)
    if lines > (CLASS_LINES if longest > lines / 2 else MODULE_LINES):
        yield f"{name} has {lines} lines: split it by noun"
    if not ast.get_docstring(tree(path)):
        yield f"{name} does not say what it is for"
    for node in ast.walk(tree(path)):
        yield from (f"{name}:{getattr(node, 'lineno', 0)} {fault}" for fault in faults_in(node))


def faults_in(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Assert():
            yield "user input needs a real error, no assert"
        case ast.ExceptHandler(type=None):
            yield "bare except"
        case ast.Import(names=names) if any(a.name == "pickle" for a in names):
            yield "no pickle"
        case ast.ImportFrom(names=names) if any(a.name == "*" for a in names):
            yield "star import"
        case ast.ImportFrom(module="pickle"):
            yield "no pickle"
        case ast.ClassDef():
            yield from faults_in_class(node)
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            body = node.body[1:] if ast.get_docstring(node) else node.body
            length = body[-1].end_lineno - body[0].lineno + 1 if body else 0
            if length > FUNCTION_LINES:
                yield f"{node.name} has {length} lines"


def faults_in_class(node: ast.ClassDef) -> Iterator[str]:
    if "Attributes:" in (ast.get_docstring(node) or ""):
        yield f"{node.name}: what a field means stands beside it"
    if any(ast.unparse(b).split("[")[0] in ("Protocol", "ABC") for b in node.bases):
        names = [n.name for n in node.body if isinstance(n, ast.FunctionDef)]
        yield from (f"{node.name}.{n}: a protocol has no private method" for n in names if re.match("_[^_]", n))
    made = [ast.unparse(d) for d in node.decorator_list if "dataclass" in ast.unparse(d)]
    fields = [n for n in node.body if isinstance(n, ast.AnnAssign) and "init=False" not in ast.unparse(n)]
    if made and len(fields) > KEYWORD_FIELDS and "kw_only=True" not in made[0]:
        yield f"{node.name} has {len(fields)} fields: build it by keyword"


def test_house_style():
    assert [fault for name, path in modules().items() for fault in faults_of(name, path)] == []
