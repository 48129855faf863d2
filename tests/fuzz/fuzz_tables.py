"""Tables of strangers: text in every spelling, parquet, and what is no table; and single cells."""

from __future__ import annotations

import datetime
import decimal
import io
import zipfile
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from attack import Target
from mutate import TEXTS, changed_bytes, changed_text
from PIL import Image
from scratch import file_of, scratch

from onecycle.data.labels import items
from onecycle.data.labels.cells import with_cells
from onecycle.data.labels.find.columns import LayoutOptions
from onecycle.data.labels.lists import FloatList
from onecycle.data.labels.read import likely_delimiter, read_table
from onecycle.data.labels.table import LabelTable
from onecycle.data.labels.tag_lists import find_tag_lists
from onecycle.data.layout import find_layout
from onecycle.errors import OnecycleError

N = 12
"""Pictures that lie beside a table."""

TOKENS = (
    *(
        ",",
        ";",
        "\t",
        "|",
        " ",
        '"',
        '""',
        "\n",
        "\r\n",
        "\r",
        "#",
        "sep=;\n",
        "sep=",
        "file",
        "label",
        "split",
        "train",
    ),
    *(
        "p0.jpg",
        "p1.jpg",
        "pics/p2.jpg",
        "fold",
        "0",
        "1",
        "yes",
        "is_valid",
        "red",
        "blue green",
        "2024-01-01",
        "0.5",
        "3.0",
    ),
)

TEXT_TABLES = (
    "file,label\n" + "".join(f"p{i}.jpg,{'red' if i % 2 else 'blue'}\n" for i in range(N)),
    "file;tags;site\r\n" + "".join(f"p{i}.jpg;{'red even' if i % 2 else 'blue'};s{i % 3}\r\n" for i in range(N)),
    "image_name\ttags\n" + "".join(f"p{i}\t{'a b' if i % 3 else 'b c'}\n" for i in range(N)),
    "file,red,blue,split\n"
    + "".join(f"pics/p{i}.jpg,{i % 2},{1 - i % 2},{'valid' if i % 4 else 'train'}\n" for i in range(N)),
    '# a comment\n"file","label"\n' + "".join(f'"p{i}.jpg","a ""quoted"", one"\n' for i in range(N)),
    "file label\n" + "".join(f"p{i}.jpg   class{i % 3}\n" for i in range(N)),
    "sep=|\nfile|label|score\n" + "".join(f"p{i}.jpg|{i % 2}|{i / 7}\n" for i in range(N)),
)


@cache
def picture() -> bytes:
    """Return the file of a small picture."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (200, 30, 30)).save(buffer, "JPEG")
    return buffer.getvalue()


def _beside() -> Path:
    """Return a folder with the pictures that the tables are about."""
    folder = scratch() / "data"
    if not folder.exists():
        (folder / "pics").mkdir(parents=True)
        for i in range(N):
            (folder / f"p{i}.jpg").write_bytes(picture())
            (folder / "pics" / f"p{i}.jpg").write_bytes(picture())
    return folder


def drawn_text(random: Random) -> bytes:
    """Return the bytes of a text table, mostly a damaged one, in some encoding."""
    text = random.choice(TEXT_TABLES)
    if random.random() < 0.9:
        text = changed_text(random, text, TOKENS)
    how = random.choice(("utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-16-le", "latin-1", "cp1252"))
    data = text.encode(how, "replace" if how in ("latin-1", "cp1252") else "surrogatepass")
    return changed_bytes(random, data) if random.random() < 0.2 else data


@cache
def other_kinds() -> tuple[bytes, ...]:
    """Return what lies under the name of a table by mistake: a workbook, an archive, JSON, a page."""
    workbook = io.BytesIO()
    with zipfile.ZipFile(workbook, "w") as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr("xl/workbook.xml", "<workbook/>")
    return (
        workbook.getvalue(),
        b"\xd0\xcf\x11\xe0" + bytes(600),
        b'[{"file": "a"}]',
        b"<html>",
        b"\x1f\x8b\x08",
        b"PAR1PAR1",
    )


@cache
def parquet_tables() -> tuple[bytes, ...]:
    """Return parquet tables with columns of every kind that Arrow has."""
    n = range(N)
    files = [f"p{i}.jpg" for i in n]
    odd: dict[str, Any] = {
        "i8": pa.array(list(n), pa.int8()),
        "u64": pa.array([2**64 - 1 - i for i in n], pa.uint64()),
        "half": pa.array(np.arange(N, dtype=np.float16)),
        "nulls": pa.nulls(N),
        "some": pa.array([None if i % 3 else "x" for i in n]),
        "when": pa.array([datetime.datetime(2024, 1, 1 + i, tzinfo=datetime.UTC) for i in n]),
        "date": pa.array([datetime.date(2024, 1, 1 + i) for i in n]),
        "money": pa.array([decimal.Decimal(f"{i}.50") for i in n]),
        "bytes": pa.array([b"\0\xff" if i % 2 else b"text" for i in n]),
        "list": pa.array([["a", None] if i % 2 else [] for i in n]),
        "nested": pa.array([[["a"]] for _ in n]),
        "record": pa.array([{"bytes": b"\xff\xd8", "path": f"p{i}.jpg"} for i in n]),
        "map": pa.array([[("k", 1)] for _ in n], pa.map_(pa.string(), pa.int64())),
        "dictionary": pa.array(["red", "blue"] * (N // 2)).dictionary_encode(),
        "long": pa.array([datetime.timedelta(days=i) for i in n]),
        "empty": pa.array([""] * N),
        "flag": pa.array([i % 2 == 0 for i in n]),
        "nan": pa.array([float("nan")] * N),
        "inf": pa.array([float("inf"), -1.5] * (N // 2)),
    }
    tables = [{"file": files, "label": odd[name], name: odd[name]} for name in odd]
    tables += [
        {"file": odd[name], "label": files} for name in ("record", "nested", "nulls", "when", "dictionary", "some")
    ]
    tables += [odd, {"file": []}, {"": files, "\0": files}, {"file": files, "label": ["red", "blue"] * (N // 2)}]
    written = []
    for columns in tables:
        buffer = io.BytesIO()
        pq.write_table(pa.table(columns), buffer, compression="none" if len(written) % 2 else "snappy")
        written.append(buffer.getvalue())
    frame = pd.DataFrame(
        {"file": files, "label": pd.Categorical(["red", "blue"] * (N // 2))}, index=[f"i{i}" for i in n]
    )
    written += [
        frame.to_parquet(),
        frame.set_index("file", append=True).to_parquet(),
    ]  # with what pandas says of itself
    return tuple(written)


def drawn_table(random: Random) -> tuple[str, bytes]:
    """Return the name of a table's file, and its bytes."""
    match random.randrange(12):
        case 0:
            return random.choice(("t.csv", "t.tsv", "t.parquet")), random.choice(other_kinds())
        case 1 | 2 | 3:
            data = random.choice(parquet_tables())
            return "t.parquet", changed_bytes(random, data, parquet_tables()) if random.random() < 0.7 else data
        case _:
            return random.choice(("t.csv", "t.csv", "t.tsv")), drawn_text(random)


def read_it(case: tuple[str, bytes]) -> None:
    """Read a table."""
    table = read_table(file_of(*case))
    assert len(table.frame.columns) == len(set(table.frame.columns))


def lay_out(case: tuple[str, bytes, dict[str, str]]) -> None:
    """Find out what a table says of pictures, as ``check`` and ``train`` do, and draw the split."""
    name, data, said = case
    path = _beside() / name
    path.write_bytes(data)
    try:
        layout = find_layout(path, LayoutOptions(**said))
        layout.lines()
        pictures = layout.pictures
        pictures.problems()
        assert len(pictures.tags) == len(pictures)
        split = pictures.split(0.2, seed=1, stratify=True)
        assert len(set(split.train) & set(split.valid)) == 0
        labels = pictures.whole_labels()
        assert len(labels.targets) == len(pictures)
        assert pictures.targets([str(c) for c in labels.classes], is_multi=labels.is_multi).shape[0] == len(pictures)
    finally:
        path.unlink()


def drawn_layout(random: Random) -> tuple[str, bytes, dict[str, str]]:
    """Return a table with what the user said about it: mostly nothing."""
    said: dict[str, str] = {}
    while random.random() < 0.25:
        key = random.choice(
            ("delimiter", "label_delim", "fn_col", "label_col", "group_col", "split_col", "suffix", "folder")
        )
        said[key] = random.choice((*TOKENS, *TEXTS[:12], "label", "file,label", "fold=1", "pics"))
    return *drawn_table(random), said


# -- cells --------------------------------------------------------------------------------------------------------

CELLS: tuple[Any, ...] = (
    *TEXTS, *TOKENS, None, float("nan"), float("inf"), -0.0, 1.0, 3, -1, 2**70, 10**400, 1e308, True, False, b"x",
    pd.NA, pd.NaT, (), ("a",), ["a", "a"], ["a", None], [["a"]], {"a"}, {"a": 1}, np.float32(2), np.int8(3),
    np.str_("s"), np.bool_(True), np.array(["a", "b"]), np.array([0, 1]), np.array([[1]]), 1 + 2j,
    np.datetime64("2024-01-01"), decimal.Decimal("1.0"), decimal.Decimal("NaN"), datetime.date(2024, 1, 1),
    range(2), "red", "blue", "red blue", "a;b", "1", "1.0", "2",
)  # fmt: skip


def drawn_cells(random: Random) -> tuple[list[Any], str | None]:
    """Return a column of labels, mostly of one kind with odd ones among them, and a delimiter of tags."""
    usual = random.choice(
        (
            ("red", "blue", "green"),
            ("a b", "b c", "a"),
            ("1", "2", "3"),
            (1, 2, 3),
            (0.5, 1.5),
            (["a"], ["a", "b"]),
            ([0, 1], [1, 0]),
        )
    )
    cells = [random.choice(usual) for _ in range(random.randint(1, 12))]
    for _ in range(random.choice((0, 1, 1, 2, 6))):
        cells[random.randrange(len(cells))] = random.choice(CELLS)
    if random.random() < 0.3:
        cells = [changed_text(random, cell, TOKENS) if isinstance(cell, str) else cell for cell in cells]
    return cells, random.choice((None, None, " ", ";", ",", "|", "ab"))


def label(case: tuple[list[Any], str | None]) -> None:
    """Turn a column into classes, tags and numbers."""
    cells, delimiter = case
    table = LabelTable([f"p{i}.jpg" for i in range(len(cells))])
    for how in ({}, {"label_cls": FloatList}, {"classes": ["red", "blue", 1]}):
        try:
            labelled = table.with_labels(cells, label_delim=delimiter, **how)
            labelled.problems()
            assert len(labelled.tags) == len(cells)
            assert len(labelled.labels) == len(cells)
            labelled.split(0.3, seed=0, stratify=not labelled.labels.is_regression)
        except OnecycleError:
            continue
    items.numbers_of(cells)
    items.are_decimals(cells)
    items.alike_ids(items.plain_id(cell) for cell in cells)
    find_tag_lists(cells)


def change(case: tuple[str, dict[int, str], str]) -> None:
    """Change cells of a text table: what is read again is what was written."""
    text, new, delimiter = case
    likely_delimiter(text)
    from onecycle.data.labels.cells import values

    rows = values(text, delimiter)[1:]
    said = [row[0] for row in rows]
    changed = with_cells(text, 0, {i: v for i, v in new.items() if i < len(rows)}, delimiter=delimiter, expected=said)
    again = [row[0] for row in values(changed, delimiter)[1:]]
    assert [c.strip() for c in again] == [new.get(i, c).strip() for i, c in enumerate(said)]


def drawn_change(random: Random) -> tuple[str, dict[int, str], str]:
    """Return a table's text, new cells by row, and the delimiter."""
    text = changed_text(random, random.choice(TEXT_TABLES), TOKENS)
    new = {
        random.randrange(N): random.choice(("red", 'a "b"', "a, b", "c;d", "x y", "é", "line\nend")) for _ in range(2)
    }
    return text, new, random.choice((",", ";", "\t", "|"))


TARGETS = (
    Target("tables, read", drawn_table, read_it),
    Target("tables, laid out", drawn_layout, lay_out),
    Target("label cells", drawn_cells, label),
    Target("label cells, changed", drawn_change, change),
)
