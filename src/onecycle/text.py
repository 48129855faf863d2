"""Text that is safe to show and fits: names of files and labels come from outside, and may be wide or hostile."""

from __future__ import annotations

from rich.cells import cell_len, chop_cells


def safe_text(text: object) -> str:
    """Return text that is safe to show: control and formatting characters, escapes of a terminal among them, as �.

    Line breaks and tabs become blanks.
    """
    plain = " ".join(str(text).replace("\x00", "\ufffd").splitlines()).replace("\t", " ")
    return "".join(c if c.isprintable() else " " if c.isspace() else "\ufffd" for c in plain)


def wrapped(text: str, width: int) -> list[str]:
    """Break text into lines of at most ``width`` columns; a character may take two of them."""
    lines, line = [], ""
    for word in text.split(" "):
        joined = f"{line} {word}" if line else word
        if cell_len(joined) <= width:
            line = joined
            continue
        if line:
            lines.append(line)
        *full, line = chop_cells(word, width) or [""]
        lines += full
    return [*lines, line]


def cut(text: str, width: int) -> str:
    """Return text cut to ``width`` columns; of a long one the end says most."""
    plain = safe_text(text)
    while cell_len(plain) > width:
        plain = "…" + plain[1 + (plain[0] == "…") :]
    return plain


def padded(text: str, width: int) -> str:
    """Fill text up with blanks to ``width`` columns; a character may take two of them."""
    return text + " " * (width - cell_len(text))
