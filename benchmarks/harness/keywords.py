"""Which keywords functions of this package take, also those that pass ``**options`` on to others."""

from __future__ import annotations

import ast
import functools
import inspect
from collections.abc import Iterator
from functools import cache
from typing import Any

from harness.annotated import Instance, as_v1, classes, instance_of, ours, tree_of
from onecycle.fastai1.pictures.tfms import Transform


def keywords_of(function: Any, owner: type | None = None) -> tuple[frozenset[str], int] | None:
    """Keywords that a function takes and its number of positional arguments; None where it takes any.

    Args:
        function: a function, class or bound method.
        owner: the class that the method was found on.
    """
    if isinstance(function, Transform):
        taken = inspect.signature(function.func).parameters
        return frozenset(taken) | {"p", "is_random", "use_on_y", "size", "padding_mode"}, 99
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
            options = _in_table(parameter.annotation, function) or _passed_on(function, parameter.name, owner)
            if options is None:
                return None
            names |= options
        else:
            names.add(parameter.name)
            n_positional += parameter.kind is not parameter.KEYWORD_ONLY
    return frozenset(names), n_positional


def _in_table(annotation: Any, function: Any) -> set[str] | None:
    """Keys of the TypedDict in ``Unpack[...]``."""
    text = str(annotation)
    name = text[text.find("[") + 1 : text.rfind("]")].split(".")[-1]
    table = getattr(inspect.getmodule(function), name, None) or classes().get(name)
    return set(getattr(table, "__annotations__", {})) or None if table is not None else None


def _plain(function: Any) -> Any:
    """The function of a method, or the constructor of a class."""
    return function.__init__ if isinstance(function, type) else getattr(function, "__func__", function)


@cache
def _passed_on(function: Any, name: str, owner: type | None) -> frozenset[str] | None:
    """Keywords that ``**name`` may have, by what the function does with them; None where that is not known."""
    plain = _plain(function)
    tree = tree_of(plain) if ours(plain) else None
    if tree is None:
        return None
    owner = function if isinstance(function, type) else owner
    names: set[str] = set()
    targets = 0
    held = {name} | _renamed(tree, name)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        through = [k.value for k in node.keywords if k.arg is None and _mentions(k.value, held)]
        if through:
            found = _of_callee(node.func, plain, owner)
            changed = [part for part in through if isinstance(part, ast.Call)]  # what a function makes of it
            if found is None and len(changed) < len(through):
                return None
            names |= (found or set()).union(*(_texts(part, plain, owner) for part in changed))
            targets += 1
        elif any(_mentions(part, held) for part in node.args):
            targets += isinstance(node.func, ast.Name) and node.func.id == "check_keywords"
            names |= {n.value for part in node.args for n in ast.walk(part) if isinstance(n, ast.Constant)}
            names |= set(_texts(node, plain, owner))
    names |= set(_looked_up(tree, held))
    return frozenset(names) if targets else None


def _renamed(tree: ast.AST, name: str) -> set[str]:
    """Names of dicts that are made from ``name``."""
    made = (n for n in ast.walk(tree) if isinstance(n, ast.Assign) and _mentions(n.value, {name}))
    return {
        t.id for n in made if isinstance(n.value, ast.Dict | ast.DictComp) for t in n.targets if isinstance(t, ast.Name)
    }


def _mentions(node: ast.AST, names: set[str]) -> bool:
    return any(isinstance(n, ast.Name) and n.id in names for n in ast.walk(node))


def _looked_up(tree: ast.AST, held: set[str]) -> Iterator[str]:
    """Keys that are read one by one: ``how.pop("wd")``, ``how["wd"]``, and names in a display over which one goes."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id=name), attr="pop" | "get"), args=[ast.Constant(value=str(key)), *_]
            ):
                if name in held:
                    yield key
            case ast.Subscript(value=ast.Name(id=name), slice=ast.Constant(value=str(key))) if name in held:
                yield key
            case ast.DictComp(generators=[ast.comprehension(iter=ast.Tuple(elts=keys))]) if _mentions(node, held):
                yield from (key.value for key in keys if isinstance(key, ast.Constant))


def _texts(call: ast.Call, plain: Any, owner: type | None) -> Iterator[str]:
    """Texts in a function that is given the dict itself, and in the tables that it reads: names of keywords."""
    callee = _resolved(call.func, plain, owner)
    if callee is None or not ours(callee):
        return
    tree = tree_of(_plain(callee))
    for node in ast.walk(tree) if tree is not None else ():
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
            yield node.value
        elif isinstance(node, ast.Name):
            table = getattr(_plain(callee), "__globals__", {}).get(node.id)
            if isinstance(table, dict | tuple | list | set | frozenset):
                yield from (key for key in table if isinstance(key, str))


def _of_callee(node: ast.expr, plain: Any, owner: type | None) -> set[str] | None:
    callee = _resolved(node, plain, owner)
    if callee is None or not (ours(callee) or isinstance(callee, functools.partial)):
        return None
    of = _value(node.value, plain, owner) if isinstance(node, ast.Attribute) else None
    found = keywords_of(callee, of.cls if isinstance(of, Instance) else owner)
    return None if found is None else set(found[0])


def _resolved(node: ast.expr, plain: Any, owner: type | None) -> Any:
    """The function or class that an expression in the body of ``plain`` names; None where that is not known."""
    match node:
        case ast.Name(id="cls"):
            return owner
        case ast.Name(id=name):
            return plain.__globals__.get(name)
        case ast.Attribute(value=ast.Call(func=ast.Name(id="super")), attr=attr) if owner is not None:
            return _above(owner, plain, attr)
        case ast.Attribute(value=ast.Name(id="self" | "cls"), attr=attr) if owner is not None:
            return getattr(owner, attr, None)
        case ast.Attribute(value=base, attr=attr):
            value = _value(base, plain, owner)
            return getattr(value.cls if isinstance(value, Instance) else value, attr, None)
    return None


def _above(owner: type, plain: Any, attr: str) -> Any:
    """What ``super().attr`` is in a method of one of the classes that ``owner`` is derived from."""
    mro = owner.__mro__
    here = [plain.__qualname__.startswith(f"{c.__qualname__}.") and c.__module__ == plain.__module__ for c in mro]
    at = here.index(True) if True in here else 0
    found = next((vars(c)[attr] for c in mro[at + 1 :] if attr in vars(c)), None)
    return found.__get__(None, owner) if isinstance(found, classmethod) else found


def _value(node: ast.expr, plain: Any, owner: type | None) -> Any:
    """What an expression in the body of ``plain`` is: parameters by annotation or name, calls by what they give."""
    if isinstance(node, ast.Call):
        called = _resolved(node.func, plain, owner)
        of = _value(node.func.value, plain, owner) if isinstance(node.func, ast.Attribute) else None
        given = getattr(_plain(called), "__annotations__", {}).get("return") if called is not None else None
        return instance_of(given, of.cls if isinstance(of, Instance) else None) if given else None
    if isinstance(node, ast.Name):
        kind = instance_of(plain.__annotations__.get(node.id, ""))
        if isinstance(kind, Instance):
            return kind
        if node.id == "learn":
            return Instance(as_v1().get(classes()["Learner"], classes()["Learner"]))
        return plain.__globals__.get(node.id)
    return None
