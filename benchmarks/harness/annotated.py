"""What this package's annotations say of its values: ``ImageList.from_folder(...)`` gives an ``ImageList``, its
``split_by_rand_pct`` a ``SplitList``; and which keywords its functions take.
"""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
import types
from dataclasses import dataclass
from functools import cache
from typing import Any

UNKNOWN = object()


@dataclass(frozen=True)
class Instance:
    """Something of which only the class is known."""

    cls: type


@dataclass(frozen=True)
class Method:
    """A method, bound, and the class that it was found on."""

    function: Any
    cls: type


@dataclass
class UserClass:
    """A class that the notebook defines."""

    bases: tuple[Any, ...]
    names: set[str]


def ours(value: Any) -> bool:
    """Whether a class, function or module is this package's."""
    name = value.__name__ if isinstance(value, types.ModuleType) else getattr(value, "__module__", None) or ""
    return name.split(".")[0] in ("onecycle", "fastai")


@cache
def classes() -> dict[str, type]:
    """Classes of this package by name, for annotations as texts."""
    loaded = [m for name, m in sys.modules.items() if name.startswith("onecycle.")]
    return {n: v for m in loaded for n, v in vars(m).items() if isinstance(v, type) and ours(v)}


def instance_of(annotation: Any, owner: type | None = None) -> Any:
    """What a value with this annotation is, as far as it is this package's."""
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))
    name = text.removesuffix(" | None").split(".")[-1]
    if name == "Self" and owner is not None:
        return Instance(owner)
    return Instance(classes()[name]) if name in classes() else UNKNOWN


@cache
def own_attributes(cls: type) -> dict[str, str]:
    """Attributes that instances get in methods or as fields, with their annotations ('' where there is none)."""
    found: dict[str, str] = {}
    for base in cls.__mro__:
        if not ours(base):
            continue
        found |= {name: str(kind) for name, kind in vars(base).get("__annotations__", {}).items() if name not in found}
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(base)))
        except OSError:
            continue
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.ctx, ast.Store)
                and ast.unparse(node.value) == "self"
            ):
                found.setdefault(node.attr, "")
    return found


def keywords_of(function: Any) -> tuple[set[str], int] | None:
    """Keywords that a function takes and its number of positional arguments; None where it takes any."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    names: set[str] = set()
    n_positional = 0
    for parameter in parameters:
        if parameter.kind is parameter.VAR_POSITIONAL:
            n_positional = 99
        elif parameter.kind is parameter.VAR_KEYWORD:
            options = _options(parameter.annotation, function)
            if options is None:
                return None
            names |= options
        else:
            names.add(parameter.name)
            n_positional += parameter.kind is not parameter.KEYWORD_ONLY
    return names, n_positional


def _options(annotation: Any, function: Any) -> set[str] | None:
    """Keys of the TypedDict in ``Unpack[...]``."""
    text = str(annotation)
    name = text[text.find("[") + 1 : text.rfind("]")].split(".")[-1]
    table = getattr(inspect.getmodule(function), name, None) or classes().get(name)
    return set(getattr(table, "__annotations__", {})) or None if table is not None else None
