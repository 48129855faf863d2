"""What this package's annotations say of its values: ``ImageList.from_folder(...)`` gives an ``ImageList``, its
``split_by_rand_pct`` an ``ItemLists``.
"""

from __future__ import annotations

import ast
import inspect
import pathlib
import sys
import textwrap
import types
from dataclasses import dataclass
from functools import cache
from typing import Any

UNKNOWN = object()
USUAL = {"learn": "Learner", "data": "ImageDataBunch", "valid_ds": "PictureList"}
"""What attributes of these names are, where their annotations say ``Any``."""


@dataclass(frozen=True)
class Instance:
    """Something of which only the class is known: one of this package's, or a notebook's own."""

    cls: Any


@dataclass(frozen=True)
class Method:
    """A method, bound, and the class that it was found on."""

    function: Any
    cls: Any


@dataclass(eq=False)
class UserClass:
    """A class that the notebook defines."""

    name: str
    bases: tuple[Any, ...]
    names: dict[str, Any]

    def ours(self) -> type | None:
        """This package's class that it is derived from; None where a base is not known."""
        found = [base.ours() if isinstance(base, UserClass) else base for base in self.bases]
        known = [base for base in found if isinstance(base, type) and ours(base)]
        return known[0] if known and len(known) == len(found) else None

    def own(self, name: str) -> Any:
        """What it, or a class of the notebook that it is derived from, defines under a name; None: nothing."""
        if name in self.names:
            return self.names[name]
        bases = (base.own(name) for base in self.bases if isinstance(base, UserClass))
        return next((value for value in bases if value is not None), None)


@dataclass(eq=False)
class UserFunction:
    """A function that the notebook defines, with the names that it was defined among."""

    node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
    values: dict[str, Any]
    self_is: Any = UNKNOWN  # what it is bound to, of a method


@dataclass(frozen=True)
class Row:
    """A tuple or list of known length."""

    items: tuple[Any, ...]


@dataclass(frozen=True)
class Several:
    """A list of any length, of which one item is known."""

    item: Any


@dataclass(frozen=True)
class Table:
    """A dict with known keys."""

    items: tuple[tuple[str, Any], ...]


def ours(value: Any) -> bool:
    """Whether a class, function or module is this package's; ``Path`` counts, as v1 gave it a method."""
    if isinstance(value, type) and issubclass(value, pathlib.PurePath):
        return True
    name = value.__name__ if isinstance(value, types.ModuleType) else getattr(value, "__module__", None) or ""
    return str(name).split(".")[0] in ("onecycle", "fastai")


@cache
def classes() -> dict[str, type]:
    """Classes of this package by name, for annotations as texts: those of v1's names before those of the product."""
    loaded = [m for name, m in sorted(sys.modules.items()) if name.startswith("onecycle.")]
    every = [(n, v) for m in loaded for n, v in vars(m).items() if isinstance(v, type) and ours(v)]
    found = dict(sorted(every, key=lambda one: one[1].__module__.startswith("onecycle.fastai1")))
    return found | {"Path": pathlib.Path}


@cache
def as_v1() -> dict[type, type]:
    """Classes of the product with the one under v1's names that stands in for each while the hook is on."""
    of_v1 = {v for v in classes().values() if v.__module__.startswith("onecycle.fastai1")}
    found: dict[type, set[type]] = {}
    for cls in of_v1:
        for base in cls.__mro__[1:]:
            if base not in of_v1 and ours(base):
                found.setdefault(base, set()).add(cls)
    chosen = {base: [c for c in some if c.__name__ == base.__name__] or _last(some) for base, some in found.items()}
    return {base: some[0] for base, some in chosen.items() if len(some) == 1}


def _last(some: set[type]) -> list[type]:
    """The class that is derived from all others, where there is one."""
    return [c for c in some if all(issubclass(c, other) for other in some)]


def instance_of(annotation: Any, owner: Any = None) -> Any:
    """What a value with this annotation is, as far as it is this package's.

    Args:
        annotation: a type or its text.
        owner: what ``Self`` is.
    """
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))
    try:
        return _meant(ast.parse(text, mode="eval").body, owner)
    except SyntaxError:
        return UNKNOWN


def _meant(node: ast.expr, owner: Any) -> Any:
    match node:
        case ast.BinOp(op=ast.BitOr(), left=left, right=ast.Constant(value=None)):
            return _meant(left, owner)
        case ast.Subscript(value=ast.Name(id="list" | "Sequence" | "Iterator" | "Iterable"), slice=item):
            return Several(_meant(item, owner))
        case ast.Subscript(value=ast.Name(id="tuple"), slice=ast.Tuple(elts=[item, ast.Constant(value=end)])) if (
            end is Ellipsis
        ):
            return Several(_meant(item, owner))
        case ast.Subscript(value=ast.Name(id="tuple"), slice=ast.Tuple(elts=items)):
            return Row(tuple(_meant(item, owner) for item in items))
        case ast.Attribute(attr=name) | ast.Name(id=name):
            if name == "Self" and owner is not None:
                return Instance(owner)
            cls = classes().get(name)
            return UNKNOWN if cls is None else Instance(as_v1().get(cls, cls))
    return UNKNOWN


@cache
def tree_of(thing: Any) -> ast.Module | None:
    """The syntax tree of a class or function of this package; None where there is none."""
    try:
        return ast.parse(textwrap.dedent(inspect.getsource(thing)))
    except (OSError, TypeError, SyntaxError):
        return None


@cache
def own_attributes(cls: type) -> dict[str, Any]:
    """Attributes that instances get in methods or as fields, with what they are as far as that is known."""
    found: dict[str, Any] = {}
    for base in filter(ours, cls.__mro__):
        for name, kind in vars(base).get("__annotations__", {}).items():
            found.setdefault(name, usual(name) if kind == "Any" else instance_of(kind, cls))
        for name, value in _set_in_methods(base):
            found.setdefault(name, usual(name) if isinstance(value, ast.Name) else _made(value, cls))
    return found


def usual(name: str) -> Any:
    """What an attribute of this name is where its annotation does not say."""
    return instance_of(USUAL.get(name, ""))


def _set_in_methods(cls: type) -> list[tuple[str, ast.expr | None]]:
    """Attributes of ``self`` that the methods of a class set, each with the expression that it gets."""
    tree = tree_of(cls)
    nodes = [] if tree is None else list(ast.walk(tree))
    given = {}
    for node in nodes:
        if isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            given |= {id(target): node.value for target in targets}
    return [(n.attr, given.get(id(n))) for n in nodes if is_set_on(n, "self")]


def is_set_on(node: ast.AST, name: str) -> bool:
    """Whether a node sets an attribute of what has this name."""
    stores = isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
    return stores and isinstance(node.value, ast.Name) and node.value.id == name


def _made(value: ast.expr | None, cls: type) -> Any:
    """What ``Recorder(…)`` or ``self._new_recorder(…)`` gives."""
    match value:
        case ast.Call(func=ast.Name(id=name)) if name in classes():
            return instance_of(name)
        case ast.Call(func=ast.Attribute(value=ast.Name(id="self"), attr=name)) if hasattr(cls, name):
            return instance_of(inspect.signature(getattr(cls, name)).return_annotation, cls)
    return UNKNOWN
