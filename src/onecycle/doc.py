"""``doc(obj)``: name, signature with defaults, source and docstring; HTML in a notebook, text elsewhere."""

from __future__ import annotations

import functools
import html
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import Any, is_typeddict

WIDTH = 80  # columns of plain text
Display = Callable[[dict[str, str]], object]
"""Shows one thing, given as text by its MIME type."""

_SECTION = re.compile(r"(Args|Arguments|Attributes|Returns|Yields|Raises|Source|Note|Notes|Examples?|Members):$")
_ITEM = re.compile(r"(\*{0,2}[\w.]+(?:, \*{0,2}[\w.]+)*): (.*)", re.DOTALL)
_BULLET = re.compile(r"([-*•]|\d+[.)]|>>>|\||#)")
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


@dataclass(frozen=True)
class Documentation:
    """What there is to say about an object."""

    kind: str  # "function", "method", "class", "enum", "property", "module", "partial of …" or "instance of …"
    name: str  # its qualified name
    parameters: tuple[str, ...] | None  # each as "name: type = default"; None where it cannot be called
    returns: str  # annotation of the result, or ""
    source: str  # "package/module.py:12 (package.module)", or why there is none
    text: str  # the docstring, indentation removed

    def signature(self) -> str:
        """Return name and parameters on one line, or one line a parameter where that is too long."""
        if self.parameters is None:
            return self.name
        end = f" -> {self.returns}" if self.returns else ""
        line = f"{self.name}({', '.join(self.parameters)}){end}"
        if len(line) <= WIDTH:
            return line
        return "\n".join([f"{self.name}(", *(f"    {p}," for p in self.parameters), f"){end}"])


def doc(elt: object, *, display: Display | None = None) -> None:
    """Show what an object is, how it is called, where it is defined and what its docstring says.

    Args:
        elt: a function, method, class, enum, partial, module, or an instance such as a metric.
        display: called with {"text/html": …, "text/plain": …}; None finds a notebook, and prints where there is none.
    """
    about = describe(elt)
    show = _notebook_display() if display is None else display
    if show is None:
        print(as_text(about))
    else:
        show({"text/html": as_html(about), "text/plain": as_text(about)})


def describe(obj: object) -> Documentation:
    """Collect what ``doc`` shows about ``obj``."""
    if isinstance(obj, functools.partial):
        return _describe_partial(obj)
    if isinstance(obj, property) and obj.fget is not None:
        return replace(describe(obj.fget), kind="property", parameters=None)
    named = inspect.isroutine(obj) or inspect.isclass(obj) or inspect.ismodule(obj)
    target: Any = obj if named else type(obj)  # what carries name, docstring and source
    target = inspect.unwrap(target) if callable(target) else target
    parameters, returns = (None, "") if _is_enum(obj) else _signature(obj)
    name = getattr(target, "__qualname__", None) or getattr(target, "__name__", repr(target))
    text = "\n\n".join(filter(None, (_docstring(target), _options(obj), _members(obj))))
    return Documentation(_kind(obj), str(name), parameters, returns, _source(target), text)


def _docstring(target: Any) -> str:
    """Return the docstring; of a class without one, that of its own ``__init__``."""
    text = inspect.getdoc(target)
    if not text and inspect.isclass(target):
        text = inspect.cleandoc(target.__dict__.get("__init__", target).__doc__ or "")
    return text or "(no docstring)"


def _describe_partial(obj: functools.partial[Any]) -> Documentation:
    inner = describe(obj.func)
    arguments = [_value(a) for a in obj.args] + [f"{k}={_value(v)}" for k, v in obj.keywords.items()]
    parameters, returns = _signature(obj)
    kind = f"partial of {inner.kind} with {', '.join(arguments) or 'no arguments'}"
    return replace(inner, kind=kind, parameters=parameters, returns=returns)


def _options(obj: Any) -> str:
    """Return what the keywords mean that a function takes as ``**options: Unpack[SomeOptions]``."""
    function = inspect.unwrap(getattr(obj, "__init__", obj) if inspect.isclass(obj) else obj)
    annotation = getattr(function, "__annotations__", {}).get("options", "")
    names = vars(sys.modules.get(getattr(function, "__module__", ""), function)) if annotation else {}
    whole = names.get(str(annotation).removeprefix("Unpack[").removesuffix("]"))
    if not is_typeddict(whole):
        return ""
    # A TypedDict does not say what it is made of, so those with a part of its keys are looked up.
    own = {v for v in names.values() if is_typeddict(v) and v.__annotations__.keys() <= whole.__annotations__.keys()}
    listed = sorted(own, key=lambda kind: (kind is not whole, kind.__name__))
    return "\n\n".join(f"{kind.__name__}: {inspect.getdoc(kind)}" for kind in listed)


def _is_enum(obj: object) -> bool:
    return inspect.isclass(obj) and issubclass(obj, Enum)


def _kind(obj: object) -> str:
    if inspect.ismodule(obj):
        return "module"
    if inspect.isclass(obj):
        return "enum" if _is_enum(obj) else "class"
    if inspect.ismethod(obj):
        return "method"
    if inspect.isroutine(obj):
        return "function"
    shown = "" if type(obj).__repr__ is object.__repr__ else f", {obj!r}"
    return f"instance of {type(obj).__name__}{shown if len(shown) <= WIDTH and shown.isprintable() else ''}"


def _signature(obj: object) -> tuple[tuple[str, ...] | None, str]:
    """Return parameters and result as text; ``self`` of bound methods and classes is left out."""
    if not callable(obj):
        return None, ""
    try:
        signature = inspect.signature(obj)
    except (ValueError, TypeError):  # some built-ins do not say how they are called
        return ("…",), ""
    returned = signature.return_annotation
    returns = "" if returned is inspect.Signature.empty or inspect.isclass(obj) else _annotation(returned)
    shown = list(signature.parameters.values())
    if shown and shown[0].name == "self":  # a method seen through its class: a reader calls it on an instance
        shown = shown[1:]
    return tuple(_parameters(shown)), returns


def _parameters(parameters: Iterable[inspect.Parameter]) -> Iterable[str]:
    """Write parameters as in a ``def``, with "/" and "*" where only position or only the name works."""
    before: inspect.Parameter | None = None
    starred = False
    for p in parameters:
        if before is not None and before.kind is p.POSITIONAL_ONLY and p.kind is not p.POSITIONAL_ONLY:
            yield "/"
        if p.kind is p.KEYWORD_ONLY and not starred:
            yield "*"
        starred = starred or p.kind in (p.VAR_POSITIONAL, p.KEYWORD_ONLY)
        yield _parameter(p)
        before = p
    if before is not None and before.kind is before.POSITIONAL_ONLY:
        yield "/"


def _parameter(p: inspect.Parameter) -> str:
    stars = "*" if p.kind is p.VAR_POSITIONAL else "**" if p.kind is p.VAR_KEYWORD else ""
    typed = "" if p.annotation is p.empty else f": {_annotation(p.annotation)}"
    default = "" if p.default is p.empty else f"{' = ' if typed else '='}{_value(p.default)}"
    return f"{stars}{p.name}{typed}{default}"


def _annotation(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def _value(value: object) -> str:
    """Write a default so that it means something: names of functions and classes, no memory addresses."""
    if isinstance(value, Enum):
        return str(value)
    if inspect.isroutine(value) or inspect.isclass(value):
        return str(value.__name__)
    if isinstance(value, functools.partial):
        return f"partial({_value(value.func)}, …)"
    return _ADDRESS.sub("", repr(value))


def _source(target: Any) -> str:
    """Return file (from the package's folder on), line and module."""
    module = target.__name__ if inspect.ismodule(target) else getattr(target, "__module__", None)
    try:
        path = inspect.getsourcefile(target)
        line = 1 if inspect.ismodule(target) else inspect.getsourcelines(target)[1]
    except (OSError, TypeError):
        path = None
    if path is None:
        return f"built in or compiled, no Python source ({module or 'no module'})"
    depth = len(module.split(".")) + (Path(path).name == "__init__.py") if module else 1
    return f"{'/'.join(Path(path).parts[-depth:])}:{line} ({module})"


def _members(obj: object) -> str:
    """List what an enum or a module holds, each with the first line of its docstring."""
    lines: list[str] = []
    if inspect.isclass(obj) and issubclass(obj, Enum):
        lines = [f"    {m.name}: {m.value!r}" for m in obj]
    elif isinstance(obj, ModuleType):
        public = [(n, v) for n, v in vars(obj).items() if not n.startswith("_")]
        named = [(n, v) for n, v in public if inspect.isroutine(v) or inspect.isclass(v)]
        own = [(n, v) for n, v in named if getattr(v, "__module__", None) == obj.__name__]
        lines = [f"    {n}: {(inspect.getdoc(v) or '(no docstring)').splitlines()[0]}" for n, v in own]
    return "\n".join(["Members:", *lines]) if lines else ""


# -- text ------------------------------------------------------------------------------------------------------


def as_text(about: Documentation) -> str:
    """Return the documentation as plain text of ``WIDTH`` columns."""
    body = "\n".join(_filled(block) for block in _paragraphs(about.text))
    return f"{about.signature()}\n{_wrapped(f'{about.kind}, {about.source}')}\n\n{body}"


def _paragraphs(text: str) -> list[list[str]]:
    """Group lines that belong to one paragraph: unindented prose; every other line stands alone."""
    groups: list[list[str]] = []
    for line in text.splitlines():
        prose = bool(line.strip()) and not line[0].isspace() and not _BULLET.match(line)
        joins = prose and groups and groups[-1][0].strip() and not groups[-1][0][0].isspace()
        if joins and not _SECTION.match(groups[-1][0]) and not _SECTION.match(line):
            groups[-1].append(line)
        else:
            groups.append([line])
    return groups


def _filled(lines: list[str]) -> str:
    """Fill a paragraph anew where a line of it is too long; leave it as it was written otherwise."""
    if all(len(line) <= WIDTH for line in lines):
        return "\n".join(lines)
    return _wrapped(" ".join(line.strip() for line in lines) if len(lines) > 1 else lines[0])


def _wrapped(line: str) -> str:
    indent = " " * (len(line) - len(line.lstrip()))
    hanging = indent + ("    " if _ITEM.match(line.strip()) and indent else "")
    how: Any = {"initial_indent": indent, "subsequent_indent": hanging}
    return textwrap.fill(line.strip(), WIDTH, break_long_words=False, break_on_hyphens=False, **how)


# -- HTML ------------------------------------------------------------------------------------------------------

_BOX = "border-left:3px solid #4a7ebb;padding:2px 0 2px 12px;max-width:60em"
_QUIET = "color:#767676;font-size:90%"
_PRE = "white-space:pre-wrap;margin:4px 0"


def as_html(about: Documentation) -> str:
    """Return the documentation as HTML; everything that comes from the object is escaped."""
    rest = html.escape(about.signature().removeprefix(about.name))
    head = f'<pre style="{_PRE}"><b>{html.escape(about.name)}</b>{rest}</pre>'
    where = f'<div style="{_QUIET}">{html.escape(about.kind)} · {html.escape(about.source)}</div>'
    blocks = re.split(r"\n\s*\n", about.text.strip("\n"))
    return f'<div style="{_BOX}">{head}{where}{"".join(_block(b) for b in blocks)}</div>'


def _block(block: str) -> str:
    """Return a paragraph, a section with its items, or preformatted text."""
    first, _, rest = block.partition("\n")
    if _SECTION.match(first) and rest:
        return f"<p style='margin-bottom:0'><b>{first[:-1]}</b></p>{_section(textwrap.dedent(rest))}"
    if any(line[:1].isspace() or _BULLET.match(line) for line in block.splitlines()):
        return f'<pre style="{_PRE}">{html.escape(block)}</pre>'
    return f"<p>{_inline(block)}</p>"


def _section(text: str) -> str:
    items = [" ".join(item.split()) for item in re.split(r"\n(?=\S)", text)]
    matches = [_ITEM.fullmatch(item) for item in items]
    if not all(matches):
        return f'<div style="margin-left:1.5em">{_inline(" ".join(items))}</div>'
    rows = [f"<li><code>{html.escape(m[1])}</code>: {_inline(m[2])}</li>" for m in matches if m]
    return f'<ul style="margin-top:0">{"".join(rows)}</ul>'


def _inline(text: str) -> str:
    """Escape prose and set ``code`` in a fixed-width font."""
    return re.sub(r"(`+)(.+?)\1", r"<code>\2</code>", html.escape(text))


def _notebook_display() -> Display | None:
    """Return what shows HTML in the notebook that runs this, or None outside one."""
    if "IPython" not in sys.modules:  # then no notebook runs this; do not load it to find out
        return None
    from IPython import get_ipython
    from IPython.display import display

    in_notebook = getattr(get_ipython(), "kernel", None) is not None
    return functools.partial(display, raw=True) if in_notebook else None
