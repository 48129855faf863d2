"""Which column of a table names its pictures, and where they lie: looked up, and asked where two answers fit."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import pandas as pd

from onecycle.data.labels.file_names import FileNames, is_address, is_folder, last_parts, path_parts
from onecycle.data.labels.find.labels import holds_classes, is_label_name, short
from onecycle.data.labels.items import IMAGE_SUFFIXES, cell_text, is_missing, whole_number
from onecycle.errors import ArgumentError, DataError

_LOOKED_AT = 50
"""Rows whose files are looked for; spread over the table."""

_MOST_FOLDERS, _DEEPEST = 200, 3
_MOST_PARTS = 4
"""Parts of a path of another machine that are looked for: its file and three folders."""

_INDEX = re.compile(r"(Unnamed: \d+)?")
"""What pandas calls a column without a name: the index of a frame that was saved with it."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where the files of a column's names lie."""

    column: str
    folder: str  # below the folder of the data set
    suffix: str  # added to each name
    hits: Mapping[int, str]  # of the rows looked at that have a file there: position and file
    looked_at: int
    asked: bool = False  # whether all of it was said
    path_parts: int | None = None  # the last ones of each name's path that lie here; None for names as they are
    example: str = ""  # a cell that has a file there

    @property
    def path(self) -> str:
        """The files' path, with the name of the column for the cell."""
        last = {None: "", 1: ", last part"}.get(self.path_parts, f", last {self.path_parts} parts")
        return "/".join(p for p in (self.folder, f"<{self.column}{last}>{self.suffix}") if p)

    @property
    def count(self) -> str:
        """How many of the rows looked at have their file there."""
        n = len(self.hits)
        return f"{'all' if n == self.looked_at else f'{n} of'} {self.looked_at} rows looked at have it"

    @property
    def why(self) -> str:
        """What was taken, and how well it fits."""
        if self.path_parts is None:
            return f"{self.path} ({'as asked; ' if self.asked else ''}{self.count})"
        end = last_parts(self.example, self.path_parts)
        return (
            f"{self.path} (no path in column {self.column} leads to a file as it stands: {end} is taken for "
            f"{self.example}; {self.count}; --path-parts takes another number of their last parts)"
        )


@dataclass(frozen=True)
class Asked:
    """What the user said about the files; None means: find it out."""

    column: str | None
    folder: str | None
    suffix: str | None
    path_parts: int | None = None

    @classmethod
    def of(cls, column: str | None, folder: str | None, suffix: str | None, path_parts: int | None = None) -> Self:
        """Take options as they were written; ``.`` is the folder of the data set."""
        plain = None if folder is None else os.path.normpath(folder.strip("/") or ".")
        return cls(column, "" if plain == "." else plain, suffix, path_parts)


def find_files(frame: pd.DataFrame, root: Path, table: Path, taken: Sequence[str | None], asked: Asked) -> Place:
    """Find out which column names the pictures, in which folder, and with which ending.

    Columns of names that end as pictures do go before all others, and numbers of rows never count beside others.
    Where no name as it stands is that of a file, the ends of paths are looked for: of another machine, or on the web.

    Args:
        frame: the table.
        root: folder of the data set.
        table: its path, for messages.
        taken: names of columns that hold something else.
        asked: what the user said.

    Raises:
        DataError: no column names pictures that are there, or they are spread over several folders.
        ArgumentError: several columns, folders or endings fit; the message names them and the option.
    """
    free = [asked.column] if asked.column else [str(c) for c in frame.columns if str(c) not in taken]
    cells = {col: _some_cells(frame, col) for col in free}
    columns = free if asked.column else _likely(cells)
    folders = list(_picture_folders(root)) if asked.folder is None else [asked.folder]
    suffixes = ["", *_suffixes(root, folders)] if asked.suffix is None else [asked.suffix]
    places = _places(root, cells, {col: [asked.path_parts] for col in columns}, folders, suffixes)
    hits = [place for place in places if place.hits]
    if not hits and asked.path_parts is None:
        ends = {col: _telling_ends(frame, col) for col in _path_columns(cells)}
        hits = [place for place in _places(root, cells, ends, folders, suffixes) if place.hits]
    if None not in (asked.column, asked.folder, asked.suffix) and len(hits) < 2:
        return replace((hits or places)[0], asked=True)  # an audit shows which files are gone
    if not hits:
        raise DataError(_no_files_text(frame, root, table, columns, folders, suffixes, asked.path_parts))
    return _only_place(_only_column(hits, frame, table), table)


def _places(
    root: Path,
    cells: Mapping[str, Sequence[str]],
    ends: Mapping[str, Sequence[int | None]],
    folders: Sequence[str],
    suffixes: Sequence[str],
) -> list[Place]:
    """Look for the files of each of these columns, by the numbers of last parts of its paths, in each folder."""
    names = FileNames()
    places = []
    for col, numbers in ends.items():
        for n in numbers:
            texts = cells[col] if n is None else [last_parts(cell, n) for cell in cells[col]]
            for folder in folders:
                for suffix in suffixes:
                    hits = _hits(names, root / folder, texts, suffix)
                    example = cells[col][next(iter(hits), 0)] if cells[col] else ""
                    places.append(
                        Place(
                            column=col,
                            folder=folder,
                            suffix=suffix,
                            hits=hits,
                            looked_at=len(texts),
                            path_parts=n,
                            example=example,
                        )
                    )
    return places


def _hits(names: FileNames, folder: Path, cells: Sequence[str], suffix: str) -> dict[int, str]:
    files = ((i, os.path.join(folder, f"{cell}{suffix}")) for i, cell in enumerate(cells) if cell)
    return {i: os.path.realpath(file) for i, file in files if names.has(file)}


def _path_columns(cells: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the columns most of whose cells are paths."""
    return [col for col, texts in cells.items() if 2 * sum("/" in t or "\\" in t for t in texts) > len(texts)]


def _telling_ends(frame: pd.DataFrame, col: str) -> list[int]:
    """Return the numbers of last parts, the largest first, by which all paths of a column are told apart."""
    texts = {cell_text(cell).strip() for cell in frame[col] if not is_missing(cell)}
    n_paths, deepest = len(texts), max((len(path_parts(text)) for text in texts), default=0)
    numbers = range(min(deepest, _MOST_PARTS), 0, -1)
    return [n for n in numbers if len({last_parts(text, n) for text in texts}) == n_paths]


def _some_cells(frame: pd.DataFrame, col: str) -> list[str]:
    known = [cell_text(v).strip() for v in frame[col] if not is_missing(v)]
    return known[:: max(1, len(known) // _LOOKED_AT)][:_LOOKED_AT]


def _likely(cells: dict[str, list[str]]) -> list[str]:
    """Leave out columns that do not name pictures, as long as others may."""
    named = [col for col, texts in cells.items() if _are_picture_names(texts)]
    others = [col for col in cells if not is_label_name(col) and not _INDEX.fullmatch(col)]
    return named or others or [col for col in cells if not is_label_name(col)] or list(cells)


def _are_picture_names(texts: Sequence[str]) -> bool:
    ends = [os.path.splitext(text)[1].lower() in IMAGE_SUFFIXES and "://" not in text for text in texts]
    return 2 * sum(ends) > len(ends)


def _only_column(places: Sequence[Place], frame: pd.DataFrame, table: Path) -> list[Place]:
    """Return the places of the one column that names pictures.

    Raises:
        ArgumentError: several columns do.
    """
    most = max(len(place.hits) / place.looked_at for place in places)
    best = {p.column: p for p in sorted(places, key=lambda p: len(p.hits)) if 2 * len(p.hits) >= most * p.looked_at}
    many = [col for col, place in best.items() if len(set(place.hits.values())) > 2] or list(
        best
    )  # 0/1 name 0.jpg, 1.jpg
    columns = [col for col in many if _leaves_labels(frame, col)] or many
    if len(columns) > 1:
        listed = "; ".join(f"{col} as {best[col].path} ({best[col].count})" for col in columns)
        raise ArgumentError(
            f"{table}: {len(columns)} columns name pictures that are there: {listed}; choose one with --fn-col"
        )
    return [place for place in places if place.column == columns[0]]


def _leaves_labels(frame: pd.DataFrame, col: str) -> bool:
    """Say whether another column could hold the labels, if this one names the pictures."""
    others = (str(c) for c in frame.columns if str(c) != col)
    return any(is_label_name(other) or holds_classes(frame[other]) for other in others)


def _only_place(places: Sequence[Place], table: Path) -> Place:
    """Return where the files of a column lie.

    Raises:
        ArgumentError: the same names fit files in several folders, or with several endings.
        DataError: no single folder has them.
    """
    best = max(places, key=lambda place: len(place.hits))
    others = [place for place in places if 2 * _n_others(place, best) >= len(best.hits)]
    if others:
        rivals = [best, *others]
        differ = [o for o in ("folder", "suffix", "path_parts") if len({getattr(place, o) for place in rivals}) > 1]
        options = [f"--{o.replace('_', '-')}" for o in differ]
        more = f" and {len(rivals) - 6} more" if len(rivals) > 6 else ""
        here = " (. is the data set's own)" if "--folder" in options and not all(p.folder for p in rivals) else ""
        raise ArgumentError(
            f"{table}: the names in column {best.column} are those of files in {len(rivals)} places: "
            f"{'; '.join(f'{place.path} ({place.count})' for place in rivals[:6])}{more}; choose one with "
            f"{' and '.join(options)}{here}"
        )
    elsewhere = {i for place in places for i in place.hits} - best.hits.keys()
    if 2 * len(elsewhere) >= len(best.hits):
        spread = sorted(places, key=lambda place: -len(place.hits))
        more = " …" if len(spread) > 4 else ""
        raise DataError(
            f"{table}: the pictures of column {best.column} are spread over {len(spread)} places: "
            f"{'; '.join(f'{place.path} ({len(place.hits)} of {place.looked_at})' for place in spread[:4])}{more}. "
            "Write folder and ending into its cells, such as folder/name.jpg"
        )
    return best


def _n_others(place: Place, best: Place) -> int:
    """Count the names that fit another file here."""
    return sum(place.hits[i] != best.hits[i] for i in place.hits.keys() & best.hits.keys())


def _no_files_text(
    frame: pd.DataFrame,
    root: Path,
    table: Path,
    columns: Sequence[str],
    folders: Sequence[str],
    suffixes: Sequence[str],
    path_parts: int | None,
) -> str:
    tried = ", ".join(f"{f or '.'}/" for f in folders[:4]) + (" …" if len(folders) > 4 else "")
    cells = ", ".join(f"{c}={short(frame[c].iloc[0])}" for c in columns[:4])
    if path_parts is not None:
        cell = cell_text(frame[columns[0]].iloc[0]).strip()
        return (
            f"{table}: --path-parts {path_parts} takes {last_parts(cell, path_parts)} for {cell}, and neither it nor "
            f"that of any row looked at is a file below {root}; another number may fit, or leave it out"
        )
    if paths := _path_columns({c: _some_cells(frame, c) for c in columns}):
        return f"{table}: no column names pictures that are there. {_lost_paths_text(frame, paths[0], root)}"
    nearly = _nearly(frame, columns, [root / folder for folder in folders])
    if nearly is not None:
        column, cell, file = nearly
        return (
            f"{table}: no column names pictures that are there, but those in column {column} nearly do: {cell} for "
            f"{file}; write them as the files' names are, with their leading zeros, without quotes and .0"
        )
    return (
        f"{table}: no column names pictures that are there. Its first row is {cells}; looked in "
        f"{root} below {tried} with the endings {', '.join(s or '(none)' for s in suffixes)}. "
        "Say where they are with --fn-col, --folder and --suffix"
    )


def _lost_paths_text(frame: pd.DataFrame, col: str, root: Path) -> str:
    """Say why the paths of a column lead nowhere, and what to do."""
    texts = list(dict.fromkeys(cell_text(cell).strip() for cell in frame[col] if not is_missing(cell)))
    what = "addresses" if is_address(texts[0]) else "paths"
    names: dict[str, str] = {}
    twice = next(((names[e], t) for t in texts if names.setdefault(e := last_parts(t, 1), t) != t), None)
    if twice is not None:
        return (
            f"The {what} in column {col} have the same file name in several folders ({twice[0]} and {twice[1]}), and "
            f"these folders are not below {root}: put the pictures into folders of these names below it"
        )
    end = last_parts(texts[0], 1)
    if what == "addresses":
        return (
            f"Column {col} has addresses ({texts[0]}), and no picture below {root} has the name that one ends in: "
            f"nothing is fetched from there; save the pictures below {root} first, this one as {end}"
        )
    return (
        f"Column {col} has paths ({texts[0]}), and no picture below {root} has the name that one ends in: put the "
        f"pictures below {root}, this one as {end}, or name the folder that they are in as the data"
    )


def _nearly(frame: pd.DataFrame, columns: Sequence[str], folders: Sequence[Path]) -> tuple[str, str, str] | None:
    """Find a column whose names are those of pictures but for leading zeros and quotes; it, a cell and the picture."""
    names = [name for folder in folders if folder.is_dir() for name in os.listdir(folder)]
    plain = {_bare(name): name for name in names if os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES}
    for column in columns:
        cells = [cell_text(cell) for cell in frame[column][:_LOOKED_AT] if not is_missing(cell)]
        hits = [(cell, plain[_bare(cell)]) for cell in cells if _bare(cell) in plain]
        if 2 * len(hits) > len(cells):
            return column, *hits[-1]
    return None


def _bare(name: str) -> str:
    """Return a name without ending, leading zeros, quotes and the point of a whole number."""
    stem, end = os.path.splitext(whole_number(name.strip(" '\"`")))
    return (stem if end.lower() in IMAGE_SUFFIXES else stem + end).lstrip("0")


def _picture_folders(root: Path) -> Iterator[str]:
    """Yield the data set's folder and those below it, nearest first and each once, as posix paths below it."""
    level, seen, n = [root], set[str](), 0
    for _ in range(_DEEPEST + 1):
        below: list[Path] = []
        for folder in level:
            real = os.path.realpath(folder)
            if real in seen:  # a link to another folder of the data set
                continue
            seen.add(real)
            yield "" if folder == root else folder.relative_to(root).as_posix()
            n += 1
            if n >= _MOST_FOLDERS:
                return
            with os.scandir(folder) as entries:
                below += sorted(Path(e.path) for e in entries if not e.name.startswith(".") and is_folder(e))
        level = sorted(below, key=Path.is_symlink)


def _suffixes(root: Path, folders: Sequence[str]) -> list[str]:
    """Return the endings of the pictures that are there, the most frequent first, each in its usual spelling."""
    counts: Counter[str] = Counter()
    for folder in folders:
        if not (root / folder).is_dir():
            continue
        with os.scandir(root / folder) as entries:
            for i, entry in enumerate(entries):
                end = os.path.splitext(entry.name)[1]
                counts[end] += end.lower() in IMAGE_SUFFIXES
                if i >= 1000:
                    break
    usual = {end.lower(): end for end, n in reversed(counts.most_common()) if n}
    return [end for end, n in counts.most_common() if n and usual[end.lower()] == end]
