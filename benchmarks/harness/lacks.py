"""What a notebook for fastai v1 would lack here, found without running it: names, attributes, keywords.

Types are followed from what this package's own annotations say, see ``annotated``, and through the notebook's own
functions, classes and partials. Where a type is not known, nothing is said. A notebook is gone through twice: the first
time for what it sets, wherever that is (attributes, transforms, callbacks), the second time for what it lacks.
"""

from __future__ import annotations

import ast
import builtins
import functools
import importlib
import inspect
import pathlib
import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.annotated import (
    UNKNOWN,
    Instance,
    Method,
    Row,
    Several,
    Table,
    UserClass,
    UserFunction,
    as_v1,
    classes,
    instance_of,
    is_set_on,
    ours,
    own_attributes,
    usual,
)
from harness.keywords import keywords_of
from onecycle.errors import OutOfScopeError
from onecycle.fastai1.modules import V1Module, module
from onecycle.fastai1.names import OWN, every_name
from onecycle.fastai1.pictures.tfms import Transform, Transformable
from onecycle.fastai1.scope import Missing
from onecycle.fastai1.training import protocol
from onecycle.train import loop

PROVIDED = {*dir(builtins), "get_ipython", "display", "__file__", "_", "__"}
CATCHES = {
    "Exception",
    "BaseException",
    "ImportError",
    "ModuleNotFoundError",
    "AttributeError",
    "NameError",
    "TypeError",
}
KNOWN_OTHERS = {"functools", "pathlib"}
"""Modules of Python's own whose things are followed."""
DEEP = 3
"""Calls of the notebook's own functions within each other that are followed."""


@dataclass
class Scan:
    """One notebook: what is known of it, and what each cell lacks."""

    values: dict[str, Any] = field(default_factory=dict)  # names bound so far
    final: dict[str, Any] = field(default_factory=dict)  # names bound anywhere, for functions
    made: set[tuple[Any, str]] = field(default_factory=set)  # attributes set, with the class where it is known
    refused: str = ""  # a module of v1 whose star is not here
    foreign: bool = False  # whether names came from a module that is not known
    caught: int = 0  # depth of try statements that catch what would be raised
    depth: int = 0  # of calls of the notebook's own functions
    lacks: list[set[str]] = field(default_factory=list)

    def lack(self, kind: str, what: str) -> None:
        if not self.caught:
            self.lacks[-1].add(f"{kind} {what}")


def scan(cells: Sequence[ast.Module | None]) -> list[set[str]]:
    """Return what each cell lacks, e.g. ``{"name fit_fc", "attribute Learner.dl", "keyword show_batch(cmap=)"}``."""
    first = _gone_through(cells, Scan())
    return _gone_through(cells, Scan(final=first.values, made=first.made)).lacks


def _gone_through(cells: Sequence[ast.Module | None], state: Scan) -> Scan:
    for tree in cells:
        state.lacks.append(set())
        if tree is not None:
            Visitor(state, state.values).each(tree.body)
    return state


def _bound(node: ast.AST) -> Iterator[str]:
    """Names that a function binds: its arguments and what its statements store."""
    for inner in ast.walk(node):
        match inner:
            case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name) | ast.ExceptHandler(name=str(name)):
                yield name
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name
            case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                yield from ((a.asname or a.name).split(".")[0] for a in aliases)


class Visitor(ast.NodeVisitor):
    """Goes through statements in order; ``value`` says what an expression is and notes what it lacks.

    Args:
        state: of the notebook.
        values: what names are here; those that statements bind are added.
        inside: whether this is the body of a function, which runs later.
    """

    def __init__(self, state: Scan, values: dict[str, Any], *, inside: bool = False) -> None:
        self.state, self.values, self.inside = state, values, inside
        self.returned: list[Any] = []
        self.globals: set[str] = set()

    def each(self, nodes: Sequence[ast.AST]) -> None:
        """Go through statements."""
        for node in nodes:
            self.visit(node)

    def generic_visit(self, node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            self.value(child) if isinstance(child, ast.expr) else self.visit(child)

    # --- imports

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            root = alias.name.split(".")[0]
            name = alias.asname or root
            if root == "fastai":
                found = self._module(alias.name)
                self.values[name] = found if alias.asname or found is None else self._module("fastai")
            else:
                self.values[name] = importlib.import_module(root) if root in KNOWN_OTHERS else UNKNOWN

    def _module(self, name: str) -> Any:
        """A module of v1, noted where it is not here; then what says so when it is used, or None."""
        try:
            return module(name.partition(".")[2])
        except OutOfScopeError:
            self.state.lack("out of scope:", f"module {name}")
            return Missing(name, name)
        except KeyError:
            self.state.lack("module", name)
        return None

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        name = "." * node.level + (node.module or "")
        if name.split(".")[0] != "fastai":
            self._import_other(name, node)
            return
        source = self._module(name)
        for alias in node.names:
            self._import_name(source, name, alias)

    def _import_name(self, source: Any, name: str, alias: ast.alias) -> None:
        bound = alias.asname or alias.name
        if not isinstance(source, V1Module):
            self.state.refused = name
            if alias.name != "*":
                self.values[bound] = UNKNOWN if source is None else Missing(alias.name, name)
        elif alias.name == "*":
            self.values |= {given: getattr(source, given) for given in source.__all__}
        elif hasattr(source, alias.name):
            self.values[bound] = getattr(source, alias.name)
        elif f"{name}.{alias.name}".removeprefix("fastai.") in OWN:
            self.values[bound] = self._module(f"{name}.{alias.name}")
        else:
            self.values[bound] = UNKNOWN
            self.state.lack("name", f"{alias.name} (from {name})")

    def _import_other(self, name: str, node: ast.ImportFrom) -> None:
        for alias in node.names:
            if alias.name != "*":
                known = importlib.import_module(name) if name in KNOWN_OTHERS else None
                self.values[alias.asname or alias.name] = getattr(known, alias.name, UNKNOWN)
                continue
            try:
                given = importlib.import_module(name)
            except (ImportError, TypeError):
                self.state.foreign = True  # it may have given any name
                continue
            public = getattr(given, "__all__", None) or [n for n in dir(given) if not n.startswith("_")]
            self.values |= dict.fromkeys(public, UNKNOWN)

    # --- statements

    def visit_Assign(self, node: ast.Assign) -> None:
        value = self.value(node.value)
        for target in node.targets:
            self._bind(target, value)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self._bind(node.target, self.value(node.value))

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self.value(node.value)
        self._bind(node.target, UNKNOWN)

    def _bind(self, target: ast.expr, value: Any) -> None:
        match target:
            case ast.Name(id=name):
                self.values[name] = value
                if name in self.globals:
                    self.state.values[name] = value
            case ast.Tuple(elts=parts) | ast.List(elts=parts):
                items = value.items if isinstance(value, Row) and len(value.items) == len(parts) else ()
                for i, part in enumerate(parts):
                    self._bind(part, items[i] if items else self._item(value))
            case ast.Starred(value=inner):
                self._bind(inner, UNKNOWN)
            case ast.Attribute(value=base, attr=attr):
                self._set(self.value(base), attr)
            case _:
                self.generic_visit(target)

    def _set(self, base: Any, attr: str) -> None:
        """Note that the notebook sets an attribute."""
        cls = base.cls if isinstance(base, Instance) else base
        known = cls.name if isinstance(cls, UserClass) else cls if isinstance(cls, type | V1Module) else None
        self.state.made.add((known, attr))

    def _is_set(self, cls: Any, attr: str) -> bool:
        above = cls.__mro__ if isinstance(cls, type) else [cls]
        return any((base, attr) in self.state.made for base in [*above, None])

    def visit_Global(self, node: ast.Global) -> None:
        self.globals |= set(node.names)

    def visit_If(self, node: ast.If) -> None:
        self.value(node.test)
        before = dict(self.values)
        self.each(node.body)
        first = dict(self.values)
        self.values.clear()
        self.values |= before
        self.each(node.orelse)
        for name, value in first.items():
            other = self.values.get(name, value)
            self.values[name] = value if value is other or value == other else UNKNOWN

    def visit_For(self, node: ast.For) -> None:
        self._bind(node.target, self._item(self.value(node.iter)))
        self.each([*node.body, *node.orelse])

    def visit_With(self, node: ast.With) -> None:
        for item in node.items:
            self.value(item.context_expr)
            if item.optional_vars is not None:
                self._bind(item.optional_vars, UNKNOWN)
        self.each(node.body)

    def visit_Try(self, node: ast.Try) -> None:
        kinds = {n.id for h in node.handlers if h.type is not None for n in ast.walk(h.type) if isinstance(n, ast.Name)}
        catches = bool(CATCHES & kinds) or any(h.type is None for h in node.handlers)
        self.state.caught += catches
        self.each(node.body)
        self.state.caught -= catches
        for handler in node.handlers:
            if handler.name:
                self.values[handler.name] = UNKNOWN
            self.each(handler.body)
        self.each([*node.orelse, *node.finalbody])

    def visit_Return(self, node: ast.Return) -> None:
        if node.value is not None:
            self.returned.append(self.value(node.value))

    def visit_MatchAs(self, node: ast.MatchAs) -> None:
        if node.name:
            self.values[node.name] = UNKNOWN
        self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        made: Any = self._function(node)
        for decorator in reversed(node.decorator_list):
            applied = self.value(decorator)
            made = self._called(applied, [made], {}, None) if isinstance(applied, type) else UNKNOWN
        self.values[node.name] = made

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        names = dict.fromkeys(_bound(node), UNKNOWN) | {n.attr: UNKNOWN for n in ast.walk(node) if is_set_on(n, "self")}
        made = UserClass(node.name, tuple(self.value(base) for base in node.bases), names)
        self.values[node.name] = made
        body = Visitor(self.state, dict(self.values), inside=self.inside)
        for part in node.body:
            if isinstance(part, ast.FunctionDef):
                made.names[part.name] = self._function(part, Instance(made))
                for decorator in part.decorator_list:
                    self.value(decorator)
                    made.names[part.name] = UNKNOWN
            else:
                body.visit(part)
        self._as_callback(made)

    def visit_Expr(self, node: ast.Expr) -> None:
        self.value(node.value)

    # --- the notebook's own functions

    def _function(self, node: Any, self_is: Any = UNKNOWN) -> UserFunction:
        """A function of the notebook, whose body is gone through with nothing known of its arguments."""
        made = UserFunction(node, self.values, self_is)
        for default in [*node.args.defaults, *filter(None, node.args.kw_defaults)]:
            self.value(default)
        self._run(made, {})
        return made

    def _run(self, function: UserFunction, given: dict[str, Any]) -> Any:
        """Go through the body of a function with some of its arguments; returns what it gives."""
        node = function.node
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        declared = {n for inner in ast.walk(node) if isinstance(inner, ast.Global) for n in inner.names}
        known = {a.arg: self._annotated(a) for a in arguments} | {k: v for k, v in given.items() if v is not UNKNOWN}
        if arguments and arguments[0].arg == "self":
            known["self"] = function.self_is
        own = dict.fromkeys(set(_bound(node)) - declared, UNKNOWN)
        inside = Visitor(self.state, {**function.values, **own, **known}, inside=True)
        self.state.depth += 1
        if isinstance(node, ast.Lambda):
            inside.returned.append(inside.value(node.body))
        else:
            inside.each(node.body)
        self.state.depth -= 1
        return _common(inside.returned)

    def _annotated(self, argument: ast.arg) -> Any:
        """What an argument is by its annotation, where that is a class of this package."""
        if argument.annotation is None or isinstance(argument.annotation, ast.Constant):
            return UNKNOWN
        cls = self.value(argument.annotation)
        return Instance(cls) if isinstance(cls, type) and ours(cls) else UNKNOWN

    def _call_own(self, function: UserFunction, args: list[Any], options: dict[str, Any]) -> Any:
        if self.state.depth > DEEP:
            return UNKNOWN
        names = [a.arg for a in [*function.node.args.posonlyargs, *function.node.args.args]]
        names = names[1:] if names[:1] == ["self"] else names
        return self._run(
            function, dict(zip(names, args, strict=False)) | {k: v for k, v in options.items() if k in names}
        )

    # --- expressions

    def value(self, node: ast.expr) -> Any:
        """What an expression is; what it lacks is noted."""
        match node:
            case ast.Name(id=name, ctx=ast.Load()):
                return self._name(name)
            case ast.Attribute(value=base, attr=attr):
                return self._attribute(self.value(base), attr)
            case ast.Call():
                return self._call(node)
            case ast.Lambda():
                return self._function(node)
            case ast.ListComp(elt=item) | ast.GeneratorExp(elt=item):
                return Several(self._over(node).value(item))
            case ast.SetComp(elt=item):
                self._over(node).value(item)
            case ast.DictComp(key=key, value=item):
                inside = self._over(node)
                inside.value(key), inside.value(item)
            case ast.NamedExpr(target=target, value=inner):
                value = self.value(inner)
                self._bind(target, value)
                return value
            case ast.Tuple(elts=parts) | ast.List(elts=parts):
                return Row(tuple(self.value(part) for part in parts))
            case ast.Dict(keys=keys, values=values):
                return self._table(keys, [self.value(part) for part in values])
            case ast.IfExp(test=test, body=first, orelse=second):
                self.value(test)
                return _common([self.value(first), self.value(second)])
            case ast.BinOp(left=left, op=op, right=right):
                sides = [self.value(left), self.value(right)]
                return Instance(pathlib.Path) if isinstance(op, ast.Div) and any(map(_is_path, sides)) else UNKNOWN
            case ast.Subscript(value=base, slice=at):
                return self._subscript(self.value(base), at)
            case _:
                self.generic_visit(node)
        return UNKNOWN

    def _over(self, node: Any) -> Visitor:
        """What goes through the item of a comprehension."""
        inside = Visitor(self.state, dict(self.values), inside=self.inside)
        for generator in node.generators:
            inside._bind(generator.target, inside._item(inside.value(generator.iter)))
            for condition in generator.ifs:
                inside.value(condition)
        return inside

    def _table(self, keys: Sequence[ast.expr | None], values: list[Any]) -> Any:
        """A dict whose keys are told, those of dicts within it, too."""
        items: list[tuple[str, Any]] = []
        for key, value in zip(keys, values, strict=True):
            if key is None:
                items += value.items if isinstance(value, Table) else []
            elif isinstance(key, ast.Constant) and isinstance(key.value, str):
                items.append((key.value, value))
            else:
                self.value(key)
        return Table(tuple(items))

    def _subscript(self, base: Any, at: ast.expr) -> Any:
        self.value(at)
        match base, at:
            case Row(items=items), ast.Constant(value=int(i)) if i < len(items):
                return items[i]
            case Table(items=items), ast.Constant(value=str(key)):
                return dict(items).get(key, UNKNOWN)
            case _, ast.Slice():
                return base if isinstance(base, Several) else UNKNOWN
        return self._item(base)

    def _item(self, base: Any) -> Any:
        """What one item of something is."""
        if isinstance(base, Several):
            return base.item
        if isinstance(base, Row):
            return _common(list(base.items))
        if isinstance(base, Instance) and isinstance(base.cls, type) and ours(base.cls):
            item = inspect.getattr_static(base.cls, "__getitem__", None)
            return (
                instance_of(item.__annotations__.get("return", ""), base.cls) if inspect.isfunction(item) else UNKNOWN
            )
        return UNKNOWN

    def _name(self, name: str) -> Any:
        if name in self.values:
            value = self.values[name]
        elif self.inside and name in self.state.final:
            value = self.state.final[name]
        else:
            if name in every_name() and not self.state.foreign and name not in PROVIDED:
                self.state.lack("name", name)
            elif self.state.refused and name not in PROVIDED and not self.state.foreign:
                self.state.lack("name", f"{name} (perhaps of {self.state.refused})")
            return UNKNOWN
        if isinstance(value, Missing):
            self.state.lack("out of scope:", name)
            return UNKNOWN
        self._as_callback(value)
        return value

    def _as_callback(self, value: Any) -> None:
        """A callback that is named becomes an attribute of the learner that it is given to."""
        cls = value.ours() if isinstance(value, UserClass) else value
        if isinstance(cls, type) and issubclass(cls, protocol.Callback | loop.Callback):
            name = value.name if isinstance(value, UserClass) else cls.__name__
            self.state.made.add((classes()["Learner"], protocol.snake(name)))

    def _attribute(self, base: Any, attr: str) -> Any:
        if isinstance(base, types.ModuleType):
            return self._of_module(base, attr)
        cls = base.cls if isinstance(base, Instance) else base
        of_instance = isinstance(base, Instance)
        if isinstance(cls, UserClass):
            return self._of_own_class(cls, attr, of_instance=of_instance)
        if not isinstance(cls, type) or not ours(cls):
            return UNKNOWN
        return self._of_class(cls, attr, cls, of_instance=of_instance)

    def _of_module(self, base: types.ModuleType, attr: str) -> Any:
        if not ours(base):
            return getattr(base, attr, UNKNOWN) if base.__name__ in KNOWN_OTHERS else UNKNOWN
        if not hasattr(base, attr):
            return UNKNOWN if self._is_set(base, attr) else self._not_in_module(f"{base.__name__}.{attr}")
        value = getattr(base, attr)
        if isinstance(value, Missing):
            self.state.lack("out of scope:", attr)
            return UNKNOWN
        self._as_callback(value)
        return value

    def _not_in_module(self, name: str) -> Any:
        """Note what lacks: a module that is out of scope, or anything else."""
        try:
            return module(name.removeprefix("fastai."))
        except OutOfScopeError:
            self.state.lack("out of scope:", f"module {name}")
        except KeyError:
            self.state.lack("attribute", name)
        return UNKNOWN

    def _of_own_class(self, cls: UserClass, attr: str, *, of_instance: bool) -> Any:
        """What the notebook's own class has under a name, or the class of this package that it is derived from."""
        found = cls.own(attr)
        if isinstance(found, UserFunction):
            return UserFunction(found.node, found.values, Instance(cls))
        base = cls.ours()
        if found is not None or base is None or cls.own("__getattr__") is not None or self._is_set(cls.name, attr):
            return UNKNOWN
        return self._of_class(base, attr, cls, of_instance=of_instance)

    def _of_class(self, cls: type, attr: str, owner: Any, *, of_instance: bool) -> Any:
        if any("__getattr__" in vars(base) for base in cls.__mro__):
            return UNKNOWN
        found = inspect.getattr_static(cls, attr, None)
        if found is None and of_instance and attr in own_attributes(cls):
            return own_attributes(cls)[attr]
        if found is None and hasattr(cls, attr):
            return UNKNOWN  # of its metaclass
        if found is None:
            if not self._is_set(cls, attr) and not (issubclass(cls, pathlib.PurePath) and attr == "ls"):
                self.state.lack("attribute", f"{cls.__name__}.{attr}")
            return UNKNOWN
        return _member(found, cls, attr, owner, of_instance=of_instance)

    # --- calls

    def _call(self, node: ast.Call) -> Any:
        if isinstance(node.func, ast.Name) and node.func.id not in self.values:
            special = self._builtin(node)
            if special is not None:
                return special
        function = self.value(node.func)
        args = [self.value(part) for part in node.args]
        options: dict[str, Any] = {}
        for keyword in node.keywords:
            value = self.value(keyword.value)
            options |= {keyword.arg: value} if keyword.arg else dict(value.items) if isinstance(value, Table) else {}
        starred = any(isinstance(a, ast.Starred) for a in node.args)
        return self._called(function, args, options, None if starred else len(args))

    def _builtin(self, node: ast.Call) -> Any:
        """``dict(a=…)``, ``super()``, ``getattr`` and ``setattr`` with a name; None: it is another call."""
        match node:
            case ast.Call(func=ast.Name(id="dict"), args=[], keywords=keywords):
                keys = [None if k.arg is None else ast.Constant(k.arg) for k in keywords]
                return self._table(keys, [self.value(k.value) for k in keywords])
            case ast.Call(func=ast.Name(id="super"), args=[]):
                me = self.values.get("self", UNKNOWN)
                base = me.cls.ours() if isinstance(me, Instance) and isinstance(me.cls, UserClass) else None
                return UNKNOWN if base is None or len(me.cls.bases) > 1 else Instance(me.cls.bases[0])
            case ast.Call(func=ast.Name(id="getattr"), args=[base, ast.Constant(value=str(name))]):
                return self._attribute(self.value(base), name)
            case ast.Call(func=ast.Name(id="setattr"), args=[base, ast.Constant(value=str(name)), _]):
                self._set(self.value(base), name)
        return None

    def _called(self, function: Any, args: list[Any], options: dict[str, Any], n_args: int | None) -> Any:
        """What a call gives; keywords that are not known are noted."""
        if function is functools.partial:
            if args:
                self._called(args[0], args[1:], options, None)
            return args[0] if args else UNKNOWN
        if isinstance(function, UserFunction):
            return self._call_own(function, args, options)
        if isinstance(function, UserClass):
            base = function.ours()
            if base is not None and function.own("__init__") is None and function.own("__new__") is None:
                self._check(base, None, options, n_args)
            return Instance(function)
        owner = function.cls if isinstance(function, Method) else None
        called = function.function if isinstance(function, Method) else function
        if called is UNKNOWN or not callable(called) or not ours(called):
            return UNKNOWN
        self._check(called, owner, options, n_args)
        return self._given(called, owner, args)

    def _given(self, called: Any, owner: Any, args: list[Any]) -> Any:
        """What a call of this package's gives."""
        if isinstance(called, type):
            if issubclass(called, Transform) and args and isinstance(args[0], UserFunction):
                name = getattr(args[0].node, "name", "")
                self.state.made.add((Transformable, name.removeprefix("_")))
            return Instance(as_v1().get(called, called))
        if isinstance(called, Transform):
            return Instance(owner) if owner is not None else args[0] if args else UNKNOWN
        try:
            return instance_of(inspect.signature(called).return_annotation, owner)
        except (TypeError, ValueError):
            return UNKNOWN

    def _check(self, called: Any, owner: Any, options: dict[str, Any], n_args: int | None) -> None:
        """Note keywords and arguments that are not taken."""
        base = owner.ours() if isinstance(owner, UserClass) else owner
        known = keywords_of(called, base)
        if known is None:
            return
        name = ".".join(filter(None, (getattr(base, "__name__", ""), getattr(called, "__name__", "?"))))
        for keyword in options:
            if keyword not in known[0]:
                self.state.lack("keyword", f"{name}({keyword}=)")
        if n_args is not None and n_args > known[1]:
            self.state.lack("arguments", f"{name}: more than {known[1]} by position")


def _is_path(value: Any) -> bool:
    return isinstance(value, Instance) and isinstance(value.cls, type) and issubclass(value.cls, pathlib.PurePath)


def _common(values: list[Any]) -> Any:
    """The one value that all are, as far as they are known."""
    known = [value for value in values if value is not UNKNOWN]
    return known[0] if known and all(value == known[0] for value in known) else UNKNOWN


def _member(found: Any, cls: type, attr: str, owner: Any, *, of_instance: bool) -> Any:
    """What an attribute of a class of this package is."""
    if isinstance(found, property | functools.cached_property):
        read = found.fget if isinstance(found, property) else found.func
        if not of_instance or read is None:
            return UNKNOWN
        given = read.__annotations__.get("return", "")
        return usual(attr) if given == "Any" else instance_of(given, owner)
    if isinstance(found, functools.partialmethod):  # a transform, as a method of pictures
        return Method(found.args[0], owner) if of_instance and found.args else UNKNOWN
    if isinstance(found, classmethod | staticmethod) or (inspect.isfunction(found) and not of_instance):
        return Method(getattr(cls, attr), owner)
    return Method(found.__get__(object(), cls), owner) if inspect.isfunction(found) else UNKNOWN
