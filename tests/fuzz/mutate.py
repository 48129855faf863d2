"""Changes to bytes, texts and JSON values; each is a function of a generator of random numbers and nothing else."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

NUMBERS = (0, 1, 2, 3, 7, 8, 16, 127, 128, 255, 256, 4096, 32767, 32768, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1)
"""Whole numbers at which readers of files break."""

TEXTS = (
    *(
        "",
        " ",
        "\t",
        "\x00",
        "\ufeff",
        "\u202e",
        "\x1b]0;x\x07",
        "\x9b31m",
        "\ud800",
        "é",
        "e\u0301",
        "ß",
        "İ",
        "🛰",
        "\u00a0",
    ),
    *(
        "nan",
        "NaN",
        "inf",
        "-inf",
        "null",
        "None",
        "true",
        "1e999",
        "-0",
        "007",
        "1_000",
        "٣",
        "½",
        "1.0",
        "9" * 400,
        "9" * 5000,
    ),
    *(
        "=1+1",
        "@x",
        "../../x",
        "/etc/passwd",
        "C:\\x",
        "a\\b",
        "x" * 5000,
        "%s%n",
        "{0}",
        "$(x)",
        "'",
        '"',
        ",",
        ";",
        "|",
    ),
    *("\r", "\n", "\r\n", "\u2028", "\x85", "\x0b", "\x1c", "-" * 300, "[" * 2000, "(" * 300),
)
"""Texts at which readers of files break."""

VALUES = (
    *(None, True, False, 0, 1, -1, 2, 255, 2**31, 2**63, 2**64, 10**30, -(10**30), 10**400, 0.5, -0.0, 1e-320, 1e308),
    *(math.inf, -math.inf, math.nan, [], {}, [[]], [None], {"": 0}, [0] * 50, "x", [1, 2], ["a", "a"], [1e308, "b"]),
)
"""Values of JSON, and what Python's reader of JSON takes for them beside."""


def changed_bytes(random: Random, data: bytes, others: Sequence[bytes] = ()) -> bytes:
    """Return bytes after one to eight changes."""
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 3, 8))):
        random.choice(_BYTES)(random, changed)
        if others and random.random() < 0.05:
            other = random.choice(others)
            changed[random.randint(0, len(changed)) :] = other[random.randint(0, len(other)) :]
    return bytes(changed)


def _flip(random: Random, data: bytearray) -> None:
    if data:
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)


def _overwrite(random: Random, data: bytearray) -> None:
    at, n = random.randint(0, len(data)), random.choice((1, 2, 4, 8))
    number = random.choice(NUMBERS) % 256**n
    data[at : at + n] = number.to_bytes(n, random.choice(("little", "big")))


def _nudge(random: Random, data: bytearray) -> None:
    if data:
        at = random.randrange(len(data))
        data[at] = (data[at] + random.choice((-2, -1, 1, 2))) % 256


def _cut_out(random: Random, data: bytearray) -> None:
    at = random.randint(0, len(data))
    del data[at : at + random.choice((1, 2, 7, 64, 1000))]


def _cut_off(random: Random, data: bytearray) -> None:
    del data[random.randint(0, len(data)) :]


def _double(random: Random, data: bytearray) -> None:
    at, n = random.randint(0, len(data)), random.choice((1, 4, 40, 400))
    data[at:at] = data[at : at + n] * random.choice((1, 1, 3))


def _insert(random: Random, data: bytearray) -> None:
    at, n = random.randint(0, len(data)), random.choice((1, 2, 4, 16))
    data[at:at] = random.choice((bytes(n), b"\xff" * n, random.getrandbits(8 * n).to_bytes(n, "big")))


def _blank(random: Random, data: bytearray) -> None:
    at, n = random.randint(0, len(data)), random.choice((4, 16, 128))
    data[at : at + n] = random.choice((b"\0", b"\xff", b"A")) * len(data[at : at + n])


_BYTES: tuple[Callable[[Random, bytearray], None], ...] = (
    _flip, _flip, _overwrite, _overwrite, _nudge, _cut_out, _cut_off, _double, _insert, _blank,
)  # fmt: skip


def changed_text(random: Random, text: str, tokens: Sequence[str] = ()) -> str:
    """Return a text after one to eight changes; ``tokens`` mean something in its format."""
    every = (*TEXTS, *tokens, *tokens)
    for _ in range(random.choice((1, 1, 2, 3, 8))):
        at = random.randint(0, len(text))
        match random.randrange(6):
            case 0:
                text = text[:at] + random.choice(every) + text[at:]
            case 1:
                text = text[:at] + random.choice(every) + text[at + random.choice((1, 3, 10)) :]
            case 2:
                text = text[:at] + text[at + random.choice((1, 2, 20, 200)) :]
            case 3:
                text = text[:at] + text[at : at + random.choice((1, 10, 100))] * 2 + text[at:]
            case 4 if tokens:
                text = text.replace(random.choice(tokens), random.choice(every), random.choice((1, 2, -1)))
            case _:
                text = text[:at] + chr(random.choice((*range(128), 0x130, 0x2028, 0xD800, 0x1F600))) + text[at:]
    return text


def changed_value(random: Random, value: Any) -> Any:
    """Return a value of JSON after one to three changes somewhere in it."""
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        value = _one_change(random, value)
    return value


def _one_change(random: Random, value: Any) -> Any:
    if isinstance(value, dict) and value and random.random() < 0.9:
        key = random.choice(list(value))
        match random.randrange(8):
            case 0:
                return {k: v for k, v in value.items() if k != key}
            case 1:
                return value | {random.choice(TEXTS): odd_value(random)}
            case _:
                return value | {key: _one_change(random, value[key])}
    if isinstance(value, list) and value and random.random() < 0.85:
        at = random.randrange(len(value))
        match random.randrange(8):
            case 0:
                return value[:at] + value[at + 1 :]
            case 1:
                return [*value, value[at]]
            case 2:
                return value[::-1]
            case _:
                return [*value[:at], _one_change(random, value[at]), *value[at + 1 :]]
    if isinstance(value, bool):
        return random.choice((not value, odd_value(random)))
    if isinstance(value, (int, float)) and random.random() < 0.5:
        return random.choice((-value, value * 1000, value + 1, str(value), [value], -value * 7))
    if isinstance(value, str) and random.random() < 0.3:
        return changed_text(random, value)
    return odd_value(random)


def odd_value(random: Random) -> Any:
    """Return a value that few fields expect."""
    if random.random() < 0.25:
        return random.choice(TEXTS)
    if random.random() < 0.03:
        return random.choice(([["deep"]], {"a": {"b": {"c": [1]}}}, [[1, 2], [3]], list(range(3000))))
    return random.choice(VALUES)


def json_bytes(random: Random, value: Any) -> bytes:
    """Write a value as JSON, at times with doubled keys, deep nesting or damaged bytes."""
    text = json.dumps(value, ensure_ascii=random.random() < 0.5)
    match random.randrange(24):
        case 0:
            text = text.replace('"', random.choice(("'", '""', "")), 1)
        case 1:
            deep = random.choice((900, 5000, 100_000))
            text = text.replace("[", "[" * deep, 1)
        case 2 if isinstance(value, dict) and value:
            key = random.choice(list(value))
            text = f"{{{json.dumps(key)}: {json.dumps(odd_value(random))}, {text[1:]}"
        case 3:
            text = "\ufeff" + text
        case 4:
            return changed_bytes(random, text.encode("utf-8", "surrogatepass"))
        case 5:
            return text.encode(random.choice(("utf-16", "utf-32", "utf-8-sig")), "surrogatepass")
    return text.encode("utf-8", "surrogatepass")
