"""Cells of notebooks and scripts as syntax trees, magics taken out."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path

TIMING = ("%%time", "%%timeit", "%%capture", "%%prun")
"""Magics at the head of a cell whose body is Python."""


def notebooks_in(folder: Path) -> list[Path]:
    """Notebooks and scripts below a folder, in order."""
    found = (p for p in folder.rglob("*") if p.suffix in (".ipynb", ".py") and ".ipynb_checkpoints" not in p.parts)
    return sorted(found)


def sources(path: Path) -> list[str]:
    """Texts of the cells of code; a script is one cell.

    Raises:
        ValueError: it is no notebook.
    """
    text = path.read_text(encoding="utf-8", errors="replace")
    if path.suffix == ".py":
        return [text]
    book = json.loads(text)
    old = [cell for sheet in book.get("worksheets", ()) for cell in sheet["cells"]]  # notebooks before version 4
    cells = [cell for cell in book.get("cells", old) if cell["cell_type"] == "code"]
    return ["".join(cell.get("source", cell.get("input", ""))) for cell in cells]


def trees(path: Path) -> Iterator[ast.Module | None]:
    """The syntax tree of each cell of code; None where it is not Python 3."""
    from IPython.core.inputtransformer2 import TransformerManager

    for source in sources(path):
        head, _, body = source.lstrip().partition("\n")
        if head.startswith("%%"):
            source = body if head.split()[0] in TIMING else ""
        try:
            yield ast.parse(TransformerManager().transform_cell(source))
        except SyntaxError:
            yield None
