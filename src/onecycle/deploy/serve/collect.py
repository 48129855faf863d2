"""Pictures whose label a person confirmed or corrected, kept as a data set that ``onecycle relabel`` reads.

FOLDER/
├── labels.csv         each picture with what the model said; of tags a column of 0 and 1 for each
├── corrections.csv    what a person said instead, in the form of a run's table of label issues
└── pictures/          named by their content
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock

import PIL.Image

from onecycle.deploy.serve.limits import Refused
from onecycle.deploy.serve.pictures import formats
from onecycle.errors import ArgumentError, DiskFullError
from onecycle.files import csv_text, remove, unescaped_cell, write_whole
from onecycle.foreign import Refused as BadFile
from onecycle.foreign import csv_records, inside, read_plain
from onecycle.settings import CORRECTIONS

LABELS, PICTURES = "labels.csv", "pictures"
COLUMNS = ("file", "tag", "given", "suggested", "score", "new_label")
"""Those of the table of label issues; that module loads pandas, and a test holds the two equal."""

_MOST_BYTES = 2**28  # of a table
_SUFFIXES = {"JPEG2000": ".jp2", "TIFF": ".tif", "JPEG": ".jpg", "MPO": ".jpg"}


class Collection:
    """The folder of one server; it goes on with what is in it already.

    Args:
        folder: made where it is not there.
        classes: of the model.
        is_multi: whether labels are tags.
        most: pictures that it may hold.

    Raises:
        ArgumentError: it holds something else, or labels of another model.
    """

    def __init__(self, folder: Path, classes: Sequence[str], *, is_multi: bool, most: int) -> None:
        self.folder, self._classes, self._is_multi, self._most = folder, tuple(classes), is_multi, most
        self._lock = Lock()
        self._check()
        (folder / PICTURES).mkdir(parents=True, exist_ok=True)
        self._rows = self._read()

    def keep(self, data: bytes, said: Sequence[str], right: Sequence[str]) -> None:
        """Keep a picture; what is said last of one picture holds.

        Args:
            data: its file.
            said: labels by the model.
            right: labels by a person.

        Raises:
            Refused: 422 no label of the model, 503 the folder is full, 507 the disk is.
        """
        if set(right) - set(self._classes) or (not self._is_multi and len(set(right)) != 1):
            what = "labels of the model" if self._is_multi else "one label of the model"
            raise Refused(422, f"what is right is said with {what}")
        with PIL.Image.open(io.BytesIO(data), formats=formats()) as picture:
            suffix = _SUFFIXES.get(str(picture.format), f".{str(picture.format).lower()}")
        name = f"{PICTURES}/{hashlib.sha256(data).hexdigest()[:20]}{suffix}"
        with self._lock:
            if name not in self._rows and len(self._rows) >= self._most:
                raise Refused(503, "no more pictures are kept: the folder is full", {"Retry-After": "3600"})
            before = dict(self._rows)
            self._rows[name] = frozenset(said), frozenset(right)
            try:
                write_whole(self.folder / name, data)
                self._write()
            except DiskFullError as error:
                if name not in before:
                    remove(self.folder / name)
                self._rows = before
                with suppress(DiskFullError):  # one table may have it; what was removed makes room
                    self._write()
                raise Refused(507, "no more pictures are kept: the disk is full") from error

    def _check(self) -> None:
        """Refuse a folder of something else: a data set, whose table would be written over."""
        if self.folder.exists() and not self.folder.is_dir():
            raise ArgumentError(f"{self.folder} is a file; name a new folder with --collect")
        tables = [self.folder / name for name in (LABELS, CORRECTIONS)]
        holds = [*self.folder.iterdir(), *(self.folder / PICTURES).glob("*")] if self.folder.exists() else []
        if any(t.exists() for t in tables):
            if not all(t.is_file() for t in tables) or _head(tables[1]) != COLUMNS:
                raise ArgumentError(f"{self.folder} holds other tables; name a new folder with --collect")
        elif [p for p in holds if p != self.folder / PICTURES]:
            raise ArgumentError(f"{self.folder} holds other files; name a new folder with --collect")

    def _write(self) -> None:
        if self._is_multi:
            labels = [(name, *(int(c in said) for c in self._classes)) for name, (said, _) in self._rows.items()]
            head: tuple[str, ...] = ("file", *self._classes)
        else:
            labels, head = [(name, *said) for name, (said, _) in self._rows.items()], ("file", "label")
        changes = [change for name, (said, right) in self._rows.items() for change in self._changes(name, said, right)]
        write_whole(self.folder / CORRECTIONS, csv_text([COLUMNS, *changes], raw=False).encode())  # for spreadsheets
        write_whole(self.folder / LABELS, csv_text([head, *labels]).encode())  # a data set's own table

    def _changes(self, name: str, said: frozenset[str], right: frozenset[str]) -> list[tuple[str, ...]]:
        """Return the rows of the table of corrections for one picture."""
        if not self._is_multi:
            return [] if said == right else [(name, "", *said, "", "", *right)]
        sides = ("no", "yes")
        return [
            (name, c, sides[c in said], "", "", sides[c in right]) for c in self._classes if (c in said) != (c in right)
        ]

    def _read(self) -> dict[str, tuple[frozenset[str], frozenset[str]]]:
        rows: dict[str, tuple[frozenset[str], frozenset[str]]] = {}
        columns = self._classes if self._is_multi else ("label",)
        for row in self._records(LABELS):
            name = row.pop("file", "")
            said = frozenset(c for c, value in row.items() if value == "1") if self._is_multi else {*row.values()}
            if tuple(row) != columns or not said <= {*self._classes}:
                raise ArgumentError(f"{self.folder} was collected with another model; name a new folder with --collect")
            rows[name] = frozenset(said), frozenset(said)
        for cells in self._records(CORRECTIONS, COLUMNS):
            row = {name: unescaped_cell(cell) for name, cell in cells.items()}
            if row["file"] not in rows:  # the server ended between the two tables: it had not said that it was kept
                continue
            said, right = rows[row["file"]]
            one = frozenset({row["tag"]}) if self._is_multi else frozenset({row["new_label"]})
            changed = (right | one if row["new_label"] == "yes" else right - one) if self._is_multi else one
            rows[row["file"]] = said, changed
        return rows

    def _records(self, name: str, needed: Sequence[str] = ()) -> list[dict[str, str]]:
        try:
            table = inside(self.folder, name)
            return csv_records(read_plain(table, _MOST_BYTES), str(table), needed) if table.exists() else []
        except BadFile as error:
            raise ArgumentError(f"{error}; name a new folder with --collect") from None


def _head(table: Path) -> tuple[str, ...]:
    with table.open(newline="", encoding="utf-8", errors="replace") as file:
        return tuple(next(csv.reader(file), ()))
