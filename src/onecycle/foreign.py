"""Files that anybody may have made: read without leaving their folder, within limits, strictly; faults are named.

What is wrong is a ``Refused``, which the rooms above turn into errors of their own.
"""

from __future__ import annotations

import csv
import errno
import io
import json
import math
import os
import re
import stat
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import BaseModel

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


def strict_json(data: bytes | str, where: str) -> Any:
    """Read JSON by its letter: no NaN, no name twice, numbers of 64 bits, a limited depth, text that can be written.

    Args:
        data: UTF-8; names of files in other bytes come as Python has them.
        where: what messages begin with, a file's name say.

    Raises:
        Refused: it is none such.
    """
    try:
        text = data if isinstance(data, str) else data.decode("utf-8", "surrogateescape")
        value = json.loads(
            text, object_pairs_hook=_once_each, parse_constant=_no_number, parse_float=_finite, parse_int=_whole
        )
    except RecursionError:
        raise Refused(f"{where} has more than {MOST_DEPTH} lists and objects in each other") from None
    except (Refused, ValueError) as error:
        raise Refused(f"{where} cannot be read as JSON: {error}") from None
    check_plain(value, where)
    return value


def check_plain(value: Any, where: str) -> None:
    """Check values of a file: how deep they are, how large whole numbers, and text that can be written.

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
        for text in texts:
            if _HALF.search(text):
                raise Refused(f"{at}: expected text, received half of a character ({ascii(text)[:60]})")


_HALF = re.compile("[\ud800-\udbff\udc00-\udc7f\udd00-\udfff]")  # \udc80 to \udcff stand for bytes of file names


def fitted(model: type[BaseModel], value: Any, where: str) -> None:
    """Check that a value of a file fits a model of pydantic.

    Raises:
        Refused: the first field that does not; the message names it, what was expected, and what came.
    """
    from pydantic import ValidationError

    try:
        model.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part)[:60] for part in first["loc"])
        expected = first["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
        if first["type"] in ("missing", "extra_forbidden"):
            what = "is missing" if first["type"] == "missing" else "is no field of it"
            raise Refused(f"{where}, {place} {what}") from None
        received = repr(first["input"])
        received = received if len(received) <= 60 else f"{received[:60]} …"
        at = f"{where}, {place}" if place else where
        raise Refused(f"{at}: expected {expected}; received {received}") from None


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
