"""What a notebook for fastai v1 would lack here, found without running it: names, attributes, keywords.

Types are followed from what this package's own annotations say, see ``annotated``. Where a type is not known, nothing
is said.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.annotated import UNKNOWN, Instance, Method, UserClass, instance_of, keywords_of, ours, own_attributes
from onecycle.errors import OutOfScopeError
from onecycle.fastai1.modules import V1Module, module
from onecycle.fastai1.names import OWN, every_name
from onecycle.fastai1.scope import Missing


@dataclass
class Scan:
    """One notebook: what its names are so far, and what each cell lacks."""

    values: dict[str, Any] = field(default_factory=dict)
    defined: set[str] = field(default_factory=lambda: set(dir(builtins)) | {"get_ipython", "display", "__file__"})
    set_by_user: set[str] = field(default_factory=set)
    lacks: list[set[str]] = field(default_factory=list)

    def lack(self, kind: str, what: str) -> None:
        self.lacks[-1].add(f"{kind} {what}")


def scan(cells: Sequence[ast.Module | None]) -> list[set[str]]:
    """Return what each cell lacks, e.g. ``{"name fit_fc", "attribute Learner.dl", "keyword show_batch(cmap=)"}``."""
    state = Scan()
    for tree in filter(None, cells):
        state.defined |= set(_defined(tree))
        state.set_by_user |= {
            n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Store)
        }
    for tree in cells:
        state.lacks.append(set())
        if tree is not None:
            Visitor(state).visit(tree)
    return state.lacks


def _defined(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name) | ast.ExceptHandler(name=str(name)):
                yield name
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name
            case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                yield from ((a.asname or a.name).split(".")[0] for a in aliases)
            case ast.Global(names=names):
                yield from names


class Visitor(ast.NodeVisitor):
    """Goes through a cell in order; ``value`` says what an expression is and notes what it lacks."""

    def __init__(self, state: Scan) -> None:
        self.state, self.values = state, state.values

    # --- imports

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            root = alias.name.split(".")[0]
            if root == "fastai" and self._module(alias.name) is not None:
                self.values[alias.asname or root] = self._module(alias.name if alias.asname else "fastai")

    def _module(self, name: str) -> V1Module | None:
        path = name.partition(".")[2]
        try:
            return module(path)
        except OutOfScopeError:
            self.state.lack("out of scope:", f"module {name}")
        except KeyError:
            self.state.lack("module", name)
        return None

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if (node.module or "").split(".")[0] != "fastai":
            if any(a.name == "*" for a in node.names):
                self._foreign_star(node.module or "")
            return
        source = self._module(node.module or "")
        for alias in node.names if source is not None else ():
            if alias.name == "*":
                self.values |= {name: getattr(source, name) for name in source.__all__}
                self.state.defined |= set(source.__all__)
            elif hasattr(source, alias.name):
                self.values[alias.asname or alias.name] = getattr(source, alias.name)
            elif f"{node.module}.{alias.name}".removeprefix("fastai.") in OWN:
                self.values[alias.asname or alias.name] = self._module(f"{node.module}.{alias.name}")
            else:
                self.state.lack("name", f"{alias.name} (from {node.module})")

    def _foreign_star(self, name: str) -> None:
        try:
            self.state.defined |= set(dir(__import__(name, fromlist=["*"])))
        except ImportError:
            self.state.defined |= every_name()  # it may have given any of them

    # --- statements

    def visit_Assign(self, node: ast.Assign) -> None:
        value = self.value(node.value)
        for target in node.targets:
            self._bind(target, value)

    def _bind(self, target: ast.expr, value: Any) -> None:
        match target:
            case ast.Name(id=name):
                self.values[name] = value
            case ast.Tuple(elts=parts) | ast.List(elts=parts):
                for part in parts:
                    self._bind(part, UNKNOWN)
            case ast.Attribute(value=base):
                self.value(base)
            case _:
                self.generic_visit(target)

    def visit_For(self, node: ast.For) -> None:
        self.value(node.iter)
        self._bind(node.target, UNKNOWN)
        for part in [*node.body, *node.orelse]:
            self.visit(part)

    def visit_With(self, node: ast.With) -> None:
        for item in node.items:
            self.value(item.context_expr)
            if item.optional_vars is not None:
                self._bind(item.optional_vars, UNKNOWN)
        for part in node.body:
            self.visit(part)

    def visit_FunctionDef(self, node: ast.FunctionDef, self_is: Any = UNKNOWN) -> None:
        self.values[node.name] = UNKNOWN
        inside = Visitor(self.state)
        inside.values = {**self.values, **dict.fromkeys(_defined(node), UNKNOWN)}
        if node.args.args and node.args.args[0].arg == "self":
            inside.values["self"] = self_is
        for part in [*node.decorator_list, *node.args.defaults, *node.body]:
            inside.visit(part)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        bases = tuple(self.value(base) for base in node.bases)
        names = set(_defined(node)) | {
            n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Store)
        }
        made = UserClass(bases, names)
        self.values[node.name] = made
        for part in node.body:
            if isinstance(part, ast.FunctionDef):
                self.visit_FunctionDef(part, UNKNOWN)
            else:
                Visitor(self.state).visit(part) if not isinstance(part, ast.Assign) else self.value(part.value)

    def visit_Expr(self, node: ast.Expr) -> None:
        self.value(node.value)

    def generic_visit(self, node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            self.value(child) if isinstance(child, ast.expr) else self.visit(child)

    # --- expressions

    def value(self, node: ast.expr) -> Any:
        match node:
            case ast.Name(id=name, ctx=ast.Load()):
                return self._name(name)
            case ast.Attribute(value=base, attr=attr):
                return self._attribute(self.value(base), attr)
            case ast.Call():
                return self._call(node)
            case ast.Lambda():
                inside = Visitor(self.state)
                inside.values = {**self.values, **dict.fromkeys(_defined(node), UNKNOWN)}
                inside.value(node.body)
            case ast.ListComp() | ast.SetComp() | ast.GeneratorExp() | ast.DictComp():
                inside = Visitor(self.state)
                inside.values = {**self.values, **dict.fromkeys(_defined(node), UNKNOWN)}
                inside.generic_visit(node)
            case _:
                self.generic_visit(node)
        return UNKNOWN

    def _name(self, name: str) -> Any:
        value = self.values.get(name, UNKNOWN)
        if isinstance(value, Missing):
            self.state.lack("out of scope:", name)
            return UNKNOWN
        if name not in self.state.defined and name in every_name():
            self.state.lack("name", name)
        return value

    def _attribute(self, base: Any, attr: str) -> Any:
        if isinstance(base, types.ModuleType):
            if ours(base) and not hasattr(base, attr) and attr not in self.state.set_by_user:
                self.state.lack("attribute", f"{base.__name__}.{attr}")
            return getattr(base, attr, UNKNOWN) if ours(base) else UNKNOWN
        cls = base.cls if isinstance(base, Instance) else base
        if not isinstance(cls, type) or not ours(cls) or hasattr(cls, "__getattr__"):
            return UNKNOWN
        if inspect.getattr_static(cls, attr, None) is not None:
            return self._member(cls, attr, of_instance=isinstance(base, Instance))
        kind = own_attributes(cls).get(attr)
        if kind is None and attr not in self.state.set_by_user:
            self.state.lack("attribute", f"{cls.__name__}.{attr}")
        return instance_of(kind or "")

    def _member(self, cls: type, attr: str, *, of_instance: bool) -> Any:
        found = inspect.getattr_static(cls, attr)
        if isinstance(found, property):
            return instance_of(inspect.signature(found.fget).return_annotation, cls) if found.fget else UNKNOWN
        if isinstance(found, (classmethod, staticmethod)) or (inspect.isfunction(found) and not of_instance):
            return Method(getattr(cls, attr), cls)
        return Method(found.__get__(object(), cls), cls) if inspect.isfunction(found) else UNKNOWN

    def _call(self, node: ast.Call) -> Any:
        function = self.value(node.func)
        for part in [*node.args, *(k.value for k in node.keywords)]:
            self.value(part)
        owner = function.cls if isinstance(function, Method) else None
        called = function.function if isinstance(function, Method) else function
        if isinstance(called, UserClass) or not callable(called) or called is UNKNOWN or not ours(called):
            return UNKNOWN
        self._check_arguments(node, called, getattr(owner, "__name__", ""))
        if isinstance(called, type):
            return Instance(called)
        try:
            return instance_of(inspect.signature(called).return_annotation, owner)
        except (TypeError, ValueError):
            return UNKNOWN

    def _check_arguments(self, node: ast.Call, called: Any, owner: str) -> None:
        known = keywords_of(called)
        if known is None:
            return
        name = ".".join(filter(None, (owner, getattr(called, "__name__", "?"))))
        for keyword in node.keywords:
            if keyword.arg is not None and keyword.arg not in known[0]:
                self.state.lack("keyword", f"{name}({keyword.arg}=)")
        if len(node.args) > known[1] and not any(isinstance(a, ast.Starred) for a in node.args):
            self.state.lack("arguments", f"{name}: more than {known[1]} by position")
