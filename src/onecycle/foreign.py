"""Files that anybody may have made: read without leaving their folder, within limits, strictly; faults are named.

What is wrong is a ``Refused``, which the rooms above turn into errors of their own.
"""

from __future__ import annotations

import csv
import errno
import inspect
import io
import json
import math
import os
import re
import stat
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_NO_WAIT = getattr(os, "O_NONBLOCK", 0)  # a pipe that nobody writes to is opened, not waited for


class Refused(ValueError):
    """What is wrong with a file of a folder that anybody may have made: which file, what was expected, what came."""


def inside(folder: Path, name: str | Path) -> Path:
    """Return the path of a file in a folder, which no link leads out of, and which is neither pipe nor device.

    Args:
        folder: may itself be a link.
        name: of the file, below the folder; it need not be there.

    Raises:
        Refused: a link on the way leads out of the folder, or reading it would have no end.
    """
    path, top = folder / name, os.path.realpath(folder)
    real = os.path.realpath(path)
    if os.path.commonpath([top, real]) != top:
        raise Refused(
            f"{path} is a link that leads out of {folder}, to {real}; put the file itself there, or remove it"
        )
    return path


def read_plain(path: Path, most: int) -> bytes:
    """Return the content of a file of at most ``most`` bytes; pipes and devices, which may have no end, are no files.

    Raises:
        Refused: it is none, or larger.
        OSError: it is not there, or cannot be read.
    """
    with open(os.open(path, os.O_RDONLY | _NO_WAIT | getattr(os, "O_BINARY", 0)), "rb") as file:
        about = os.fstat(file.fileno())
        if not stat.S_ISREG(about.st_mode):
            raise Refused(f"{path} is no file that can be read: it is {_kind(about.st_mode)}")
        data = file.read(most + 1) if about.st_size <= most else b""
    if max(len(data), about.st_size) > most:
        raise Refused(f"{path} has {max(len(data), about.st_size):,} bytes; such a file has at most {most:,}")
    return data


def append_to(path: Path) -> io.TextIOWrapper:
    """Open a text to write at its end: a new one, or one that lies here alone.

    Raises:
        Refused: the name is that of a link, a pipe or the like, or the file has other names, which may lie elsewhere.
        OSError: it cannot be written.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | _NO_LINK | _NO_WAIT
    try:
        handle = os.open(path, flags, 0o666)
    except OSError as error:
        if path.is_symlink() or error.errno in (errno.ELOOP, errno.ENXIO):
            raise Refused(f"{path} is {_kind(path.lstat().st_mode)}: it is not written through; remove it") from error
        raise
    about = os.fstat(handle)
    if not stat.S_ISREG(about.st_mode) or about.st_nlink != 1:
        os.close(handle)
        what = "a file with other names, too" if stat.S_ISREG(about.st_mode) else _kind(about.st_mode)
        raise Refused(f"{path} is {what}: it is not written through; remove it")
    return open(path, "a", encoding="utf-8", errors="backslashreplace", opener=lambda *_: handle)


def _kind(mode: int) -> str:
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFLNK: "a link", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")


MOST_DEPTH = 32
"""Lists and objects in each other, of a file of JSON or YAML: ours have 8."""

MOST_NUMBER = 2**63
"""Whole numbers of such a file are smaller: what has no such limit takes minutes to write out."""


def strict_json(data: bytes | str, where: str, *, finite: bool = True) -> Any:
    """Read JSON by its letter: no NaN, no name twice, numbers of 64 bits, a limited depth, text that can be written.

    Args:
        data: UTF-8; names of files in other bytes come as Python has them.
        where: what messages begin with, a file's name say.
        finite: without it, NaN and infinities are numbers, too, as Python's ``json`` writes them.

    Raises:
        Refused: it is none such.
    """
    try:
        text = data if isinstance(data, str) else data.decode("utf-8", "surrogateescape")
        numbers: dict[str, Any] = {"parse_constant": _no_number, "parse_float": _finite} if finite else {}
        value = json.loads(text, object_pairs_hook=_once_each, parse_int=_whole, **numbers)
    except RecursionError:
        raise Refused(f"{where} has more than {MOST_DEPTH} lists and objects in each other") from None
    except (Refused, ValueError) as error:
        raise Refused(f"{where} cannot be read as JSON: {error}") from None
    check_plain(value, where, finite=finite)
    return value


def check_plain(value: Any, where: str, *, finite: bool = True) -> None:
    """Check values of a file: how deep they are, how large whole numbers, and text that can be written.

    Args:
        value: of the file.
        where: what messages begin with, a file's name say.
        finite: numbers are; without it NaN and infinities are let through.

    Raises:
        Refused: the first that does not hold; its place is named.
    """
    waiting: list[tuple[Any, str, int]] = [(value, "", 0)]
    while waiting:
        now, name, depth = waiting.pop()
        at = f"{where}, {name[1:]}" if name else where
        if isinstance(now, (Mapping, list)):
            if depth >= MOST_DEPTH:
                raise Refused(f"{where} has more than {MOST_DEPTH} lists and objects in each other")
            pairs = now.items() if isinstance(now, Mapping) else enumerate(now)
            waiting += [(v, f"{name}.{str(k)[:40]}", depth + 1) for k, v in pairs if not isinstance(v, bool)]
            texts = [k for k in now if isinstance(k, str)] if isinstance(now, Mapping) else []
        else:
            texts = [now] if isinstance(now, str) else []
        if isinstance(now, int) and abs(now) >= MOST_NUMBER:
            raise Refused(f"{at}: expected a whole number of at most 64 bits")
        if finite and isinstance(now, float) and not math.isfinite(now):
            raise Refused(f"{at}: expected a finite number; received {now}")
        for text in texts:
            if _NO_TEXT.search(text):
                raise Refused(f"{at}: expected text, received half of a character or NUL ({ascii(text)[:60]})")


_NO_TEXT = re.compile("[\0\ud800-\udbff\udc00-\udc7f\udd00-\udfff]")
"""In no name and no text of ours; \\udc80 to \\udcff stand for bytes of file names."""


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in pairs:
        if name in values:
            raise Refused(f"the name {name[:60]!r} is there twice in an object")
        values[name] = value
    return values


def _no_number(word: str) -> float:
    raise Refused(f"{word} is no number of JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    return number if math.isfinite(number) else _no_number(digits[:30])


def _whole(digits: str) -> int:
    if len(digits) > 20:
        raise Refused(f"a whole number has at most 64 bits; received one of {len(digits):,} digits")
    return int(digits)


def csv_records(data: bytes, where: str, needed: Collection[str] = ()) -> list[dict[str, str]]:
    """Return the rows of a CSV file, each by the names of its columns.

    Args:
        data: UTF-8.
        where: what messages begin with, a file's name say.
        needed: columns that it must have.

    Raises:
        Refused: another encoding, a column that is missing or there twice, a row with another number of cells.
    """
    line = 1
    try:
        reader = csv.reader(io.StringIO(data.decode("utf-8-sig")), strict=True)
        head, records = next(reader, []), []
        missing = [name for name in needed if name not in head]
        if missing or len(set(head)) != len(head):
            what = f"column {missing[0]!r} is missing" if missing else "two columns have one name"
            raise Refused(f"{where}, line 1: {what}")
        for row in filter(None, reader):
            line = reader.line_num
            if len(row) != len(head):
                raise Refused(f"{where}, line {line}: expected {len(head)} cells, received {len(row)}")
            records.append(dict(zip(head, row, strict=True)))
    except UnicodeDecodeError as error:
        raise Refused(f"{where} is not in UTF-8 ({error.reason} at byte {error.start:,})") from None
    except csv.Error as error:
        raise Refused(f"{where}, after line {line}: {error}") from None
    return records


# --- what the values of JSON must be ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Within:
    """Limits in ``Annotated[..., Within(low, high)]``: of a number, or of how much a text, list or object holds."""

    low: float = 0
    high: float = sys.float_info.max

    def text(self) -> str:
        """Return the limits in words."""
        if self.low == self.high:
            return f"{self.low:,}"
        return f"{self.low:,} or more" if self.high == sys.float_info.max else f"{self.low:,} to {self.high:,}"


class Fields:
    """An object of JSON as a class declares it: a name for each annotation, which must be there without a default.

    Plain types, ``Any``, ``Literal``, unions, ``list[...]``, ``dict[str, ...]``, ``Annotated`` with ``Within`` and
    other ``Fields`` are understood; nothing is made of the values. Names that are not declared may be there.
    """

    @classmethod
    def misfit(cls, value: dict[str, Any]) -> str | None:  # noqa: ARG003 - for those that look
        """Return what was expected where fields that fit do not go together; None where they do."""
        return None


class Closed(Fields):
    """Fields, and there may be no others."""


def fitted(kind: Any, value: Any, where: str) -> None:
    """Check that a value of JSON is what a type says; ``Fields`` tells which types are understood.

    Args:
        kind: the type.
        value: that ``strict_json`` or ``check_plain`` let through.
        where: what messages begin with, a file's name say.

    Raises:
        Refused: the first value that is not; the message names its place, what was expected, and what came.
    """
    try:
        _check_of(kind)(value)
    except _Misfit as misfit:
        place = ".".join(str(step)[:60] for step in reversed(misfit.place))
        raise Refused(f"{where}, {place}{misfit.what}" if place else f"{where}{misfit.what}") from None


class _Misfit(Exception):
    """A value that is not what it must be, and its place, from the innermost step."""

    def __init__(self, what: str, *place: str | int) -> None:
        self.what, self.place = what, [*place]

    @classmethod
    def of(cls, value: Any, expected: str) -> _Misfit:
        received = repr(value)
        return cls(f": expected {expected}; received {received if len(received) <= 60 else f'{received[:60]} …'}")


_Check = Callable[[Any], None]
_WORDS: dict[Any, tuple[tuple[type, ...], str]] = {
    str: ((str,), "text"),
    int: ((int,), "a whole number"),
    float: ((int, float), "a number"),
    bool: ((bool,), "true or false"),
    list: ((list,), "a list"),
    dict: ((dict,), "an object"),
    type(None): ((type(None),), "null"),
}
_MEASURES = {str: "characters", list: "values", dict: "names"}


@cache
def _check_of(kind: Any) -> _Check:
    """Return what checks a value, and raises a ``_Misfit``."""
    origin, args = get_origin(kind), get_args(kind)
    if kind is Any:
        return lambda _: None
    if origin is Annotated:
        return partial(_check_limits, _check_of(args[0]), get_origin(args[0]) or args[0], args[1])
    if origin is Literal:
        return partial(_check_choice, args)
    if origin in (Union, UnionType):
        return partial(_check_either, tuple(_check_of(arg) for arg in args))
    if origin is list:
        return partial(_check_items, list, _check_of(args[0]))
    if origin is dict:
        return partial(_check_items, dict, _check_of(args[1]))
    if isinstance(kind, type) and issubclass(kind, Fields):
        hints = get_type_hints(kind, include_extras=True)
        return partial(_check_fields, kind, _needed(kind), {name: _check_of(hint) for name, hint in hints.items()})
    return partial(_check_type, kind)


def _check_type(kind: type, value: Any) -> None:
    types, words = _WORDS[kind]
    if type(value) not in types:
        raise _Misfit.of(value, words)


def _check_limits(check: _Check, kind: Any, limits: Within, value: Any) -> None:
    check(value)
    amount = len(value) if kind in _MEASURES else value
    if not limits.low <= amount <= limits.high:
        words = _WORDS[kind][1]
        measured = f"{words} of {limits.text()} {_MEASURES[kind]}" if kind in _MEASURES else f"{words}, {limits.text()}"
        raise _Misfit.of(value, measured)


def _check_choice(choices: tuple[Any, ...], value: Any) -> None:
    if not any(type(value) is type(choice) and value == choice for choice in choices):
        raise _Misfit.of(value, " or ".join(map(repr, choices)))


def _check_either(checks: tuple[_Check, ...], value: Any) -> None:
    """Where none of several fits, the one that got furthest says what was expected; where none began, all do."""
    misfits = []
    for check in checks:
        try:
            return check(value)
        except _Misfit as misfit:
            misfits.append(misfit)
    furthest = max(misfits, key=lambda misfit: len(misfit.place))
    if furthest.place:
        raise furthest
    expected = (misfit.what.removeprefix(": expected ").partition("; received ")[0] for misfit in misfits)
    raise _Misfit.of(value, " or ".join(expected))


def _check_items(kind: type, check: _Check, value: Any) -> None:
    _check_type(kind, value)
    _check_each((at, check, item) for at, item in (value.items() if kind is dict else enumerate(value)))


def _check_fields(kind: type[Fields], needed: Collection[str], checks: dict[str, _Check], value: Any) -> None:
    _check_type(dict, value)
    if missing := [name for name in needed if name not in value]:
        raise _Misfit(" is missing", missing[0])
    if issubclass(kind, Closed) and (others := value.keys() - checks.keys()):
        raise _Misfit(" is no field of it", min(others, key=str))
    _check_each((name, check, value[name]) for name, check in checks.items() if name in value)
    if (expected := kind.misfit(value)) is not None:
        raise _Misfit.of(value, expected)


def _check_each(items: Iterable[tuple[str | int, _Check, Any]]) -> None:
    for at, check, item in items:
        try:
            check(item)
        except _Misfit as misfit:
            misfit.place.append(at)
            raise


def _needed(kind: type[Fields]) -> list[str]:
    """Return the names that have no default where they are declared last."""
    last = {name: owner for owner in reversed(kind.__mro__) for name in inspect.get_annotations(owner)}
    return [name for name, owner in last.items() if name not in owner.__dict__]
