"""What a data set is, found by looking: a table and its columns, or folders of classes; each choice with its reason."""

from __future__ import annotations

import os
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack

from onecycle.data.labels.find.columns import LayoutOptions, Roles, TableLayout, find_roles
from onecycle.data.labels.find.split import Part, part_of
from onecycle.data.labels.items import IMAGE_SUFFIXES, Source, list_images, other_files, plain_text
from onecycle.data.labels.read import PARQUET, is_table, no_table, read_table
from onecycle.data.labels.splits import Split, folder_split
from onecycle.data.labels.table import LabelTable
from onecycle.data.sources.untar import URLs, untar_data
from onecycle.errors import ArgumentError, DataError, LabelError
from onecycle.text import plural, safe_text, shown, wrapped

if TYPE_CHECKING:
    import pandas as pd

    from onecycle.data.bunch import ImageDataBunch
    from onecycle.data.options import CommonOptions
    from onecycle.data.pixels.store import PixelStore

DEFAULT_TABLE = "labels.csv"
Kind = Literal["table", "class folders", "train and valid folders"]
_WIDTH, _INDENT = 80, 10


@dataclass(frozen=True, kw_only=True)
class DataLayout:
    """Where a data set's pictures and labels are, and what was read there."""

    data: str  # what the user named: a path, or a name in ``URLs``
    root: Path  # folder of the data set
    csv: str | None  # table below it, None for folders of classes
    table: TableLayout = field(default_factory=TableLayout)  # the roles of the table's columns
    kind: Kind
    pictures: LabelTable = field(repr=False, compare=False)  # all rows, broken ones too
    reasons: tuple[tuple[str, str], ...] = ()  # each choice and why it was made
    sample: tuple[tuple[str, str], ...] = ()  # a row of the table: (column, cell); empty for folders
    hints: tuple[str, ...] = ()  # what else may be worth an option
    test: str | None = None  # labelled pictures that are for testing: what ``evaluate`` takes

    @property
    def is_multi(self) -> bool:
        """Whether a picture can have several tags."""
        return self.pictures.is_multi

    def lines(self) -> list[str]:
        """Return the data as understood, a few lines of at most 80 columns; longer names are never broken."""
        where = str(self.root if self.csv is None else self.root / self.csv)
        rows = [("data", where), *self.reasons]
        if self.sample:
            rows.append(("e.g.", ", ".join(f"{name}={cell}" for name, cell in self.sample)))
        rows += [("note", hint) for hint in self.hints]
        lines = []
        for name, text in rows:
            for i, line in enumerate(wrapped(safe_text(text), _WIDTH - _INDENT, break_words=False)):
                lines.append(f"{'' if i else name:<{_INDENT}}{line}")
        return lines

    def bunch(
        self,
        split: Split | None = None,
        *,
        valid_pct: float = 0.2,
        seed: int | None = None,
        stratify: bool = True,
        store: PixelStore | None = None,
        **options: Unpack[CommonOptions],
    ) -> ImageDataBunch:
        """Make the bunch; keywords as in ``ImageDataBunch.from_csv`` and ``from_folder``.

        Where the folders are the split, ``valid_pct`` and ``stratify`` do nothing.

        Args:
            split: one that was drawn already; the three keywords of a draw then do nothing.
            valid_pct, seed, stratify, options: as in ``from_csv``.
            store: of the pixels, where some of them are decoded already.

        Raises:
            DataError, LabelError: as ``whole_table``; an empty folder train/ or valid/.
        """
        from onecycle.data.bunch import ImageDataBunch  # an audit of the rows needs no torch

        table = self.whole_table()
        if table.folders is not None:
            folder_split(table.paths, table.path, train=table.folders[0], valid=table.folders[1])
        if split is None:
            split = table.split(valid_pct, seed=seed, stratify=stratify)
        return ImageDataBunch.from_table(table, split, seed, store=store, **options)

    def like(self, **changes: Any) -> DataLayout:
        """Return the layout with another ``label_delim`` or ``group_col``; nothing is read again."""
        roles, pictures = replace(self.table, **changes), self.pictures
        if "label_delim" in changes:
            cells = pictures.cells or ()
            pictures = pictures.with_labels(cells, label_delim=roles.label_delim, frame=pictures.frame)
        if roles.join_rows and not self.table.join_rows:
            pictures = pictures.joined()
        if "group_col" in changes:
            pictures = pictures.grouped(changes["group_col"])
        return replace(self, table=roles, pictures=pictures)

    def whole_table(self) -> LabelTable:
        """Return the table; each of its rows has a file, and pictures in folders have one of a class.

        Raises:
            DataError: rows that are not whole, each named.
            LabelError: pictures beside the folders of the classes: the folder's name would become a class.
        """
        if self.csv is not None:
            return self.pictures.check()
        beside = [row for row, label in enumerate(self.pictures.cells or ()) if label is None]
        if beside:
            names = shown([self.pictures.name(self.pictures.paths[row]) for row in beside], most=5)
            raise LabelError(
                f"{plural(len(beside), 'picture')} in {self.root} beside the folders of the classes, so without a "
                f"class: {names}; move each into the folder of its class, or away"
            )
        return self.pictures

    def describe(self) -> dict[str, Any]:
        """Return what finds this data set again, as plain values: the options of the command line."""
        roles = {} if self.csv is None else asdict(self.table) | {"label_delim": self.table.label_delim or ""}
        return {"data": self.data, "csv": self.csv} | roles


def find_layout(data: str | Path, options: LayoutOptions | None = None) -> DataLayout:
    """Find out what a data set is.

    Args:
        data: a folder, a table (CSV, TSV, parquet), or the name of a data set in ``URLs``, which is fetched where it is
            not on this machine yet.
        options: what the user said about it.

    Raises:
        DataError: nothing there, no picture, or a table whose rows name no picture that exists.
        ArgumentError: several tables or columns could be meant; the message names them and the option.
    """
    said = options or LayoutOptions()
    path = _local(data)
    name = str(data) if _is_url_name(data) else str(path.resolve())
    if path.is_file():
        if not is_table(path):
            raise DataError(f"expected a folder or a table (.csv, .tsv, .parquet), but {no_table(path)}")
        return _of_table(name, path.parent, _read(path.parent, path.name, said))
    read = _table_in(path, said) if not said.csv else _read(path, said.csv, said)
    if read is not None:
        return _of_table(name, path, read)
    if said.names == ["folder"]:
        return _of_named_folders(name, path, str(said.folder))
    if said.names:
        option = "--" + next(n for n in said.names if n != "folder").replace("_", "-")
        raise ArgumentError(
            f"{option} is about a table, and {path} has none; name it with --csv, or leave the option out"
        )
    return _of_folders(name, path)


def _local(data: str | Path) -> Path:
    """Return the path of the data on this machine."""
    path = Path(data).expanduser()
    if path.exists():
        return path
    if _is_url_name(data):
        return Path(untar_data(getattr(URLs, str(data).upper())))
    names = [n for n in dir(URLs) if n.isupper()]
    near = get_close_matches(str(data).upper(), names, n=1)
    beside = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    near_path = get_close_matches(path.name, beside, n=1)
    hint = f"; did you mean {path.parent / near_path[0]}?" if near_path else ""
    hint = hint or (f"; did you mean {near[0]}?" if near else "")
    raise DataError(f"expected a folder, a table or a name in URLs, but there is no {data}{hint}")


def _is_url_name(data: str | Path) -> bool:
    name = str(data).upper()
    return name.isidentifier() and not Path(data).exists() and isinstance(getattr(URLs, name, None), str)


def _table_in(root: Path, options: LayoutOptions) -> _Read | None:
    """Choose the table of a folder and read it; None where folders hold the classes."""
    tables = _tables_of(root)
    if not tables:
        return None
    if DEFAULT_TABLE in tables:
        others = tuple(name for name in tables if name != DEFAULT_TABLE)
        return replace(_read(root, DEFAULT_TABLE, options), unused=others)
    if len(tables) == 1 and (options.names or not _class_folders(root)):
        return _read(root, tables[0], options)
    fitting: dict[str, _Read | ArgumentError] = {}
    for name in tables:
        try:
            fitting[name] = _read(root, name, options)
        except ArgumentError as question:  # it names pictures, but more than one reading fits
            fitting[name] = question
        except DataError:
            continue
    labels = {name: read for name, read in fitting.items() if options.folder is not None or not _is_of_tests(read)}
    if not labels and _class_folders(root):
        return None
    labels = labels or fitting
    if len(labels) == 1:
        (read,) = labels.values()
        if isinstance(read, ArgumentError):
            raise read
        return replace(read, unused=tuple(name for name in tables if name != read.csv))
    names = list(labels) or tables
    raise ArgumentError(
        f"{root} has {len(names)} tables that could hold the labels: {', '.join(names)}; choose one with --csv"
        f"{_parts_advice(root, names)}"
    )


def _parts_advice(root: Path, tables: Sequence[str]) -> str:
    """Say how tables are used that by their names are the parts of a split; ``""`` where they are none."""
    by_part = {part_of(Path(name).stem): name for name in tables}
    train, other = by_part.get("train"), by_part.get("valid") or by_part.get("test")
    if train is None or other is None:
        return ""
    return (
        f". They appear to be the parts of a split: --csv {shlex.quote(train)} trains and validates on "
        f"pictures of that one, then onecycle evaluate RUN {shlex.quote(str(root / other))} scores the run on others. "
        "To choose what validates, write them into one table with a column split (train, valid or test in each row)"
    )


@dataclass(frozen=True)
class _Read:
    """A table that was read, and its columns."""

    csv: str
    frame: pd.DataFrame
    roles: Roles
    unused: tuple[str, ...] = ()  # other tables beside it


def _is_of_tests(read: _Read | ArgumentError) -> bool:
    """Say whether a table is about the pictures of a folder for testing: a sample of what to hand in, as it is."""
    return isinstance(read, _Read) and part_of(Path(read.roles.table.folder).name) == "test"


def _read(root: Path, csv: str, options: LayoutOptions) -> _Read:
    table = read_table(root / csv, delimiter=options.delimiter, tags_delim=options.label_delim)
    try:
        roles = find_roles(table.frame, root, csv, options)
    except (DataError, ArgumentError) as error:
        if table.left_out:
            raise DataError(
                f"{root / csv}: {table.left_out[0]}, and only files are read: write each picture to a file (in Python: "
                "Path(name).write_bytes(cell), or cell['bytes'] of a record), and the files' names into a column of "
                "a table"
            ) from error
        if len(table.frame.columns) == 1 and len(table.frame) and not csv.lower().endswith(PARQUET):
            raise DataError(f"{error}; it has a single column: is the delimiter right (--delimiter)?") from error
        raise
    return _Read(csv, table.frame, replace(roles, reasons=(*table.notes, *roles.reasons)))


def _of_table(data: str, root: Path, read: _Read) -> DataLayout:
    cols = read.roles.table
    source = Source(str(root / read.csv), first_row=2, title=read.csv)
    pictures = LabelTable.from_frame(
        read.frame, root, cols.fn_col, cols.folder, cols.suffix, source, path_parts=cols.path_parts
    )
    if cols.split_col:
        pictures = pictures.split_by(cols.split_col)
    pictures = pictures.with_label_columns(cols.label_col, label_delim=cols.label_delim, group_col=cols.group_col)
    pictures = pictures.joined() if cols.join_rows else pictures
    test = data if "test" in (pictures.parts or ()) else None
    roles = replace(read.roles, hints=(*read.roles.hints, *_unused_tables(read.unused)))
    return DataLayout(data=data, root=root, csv=read.csv, kind="table", pictures=pictures, test=test, **vars(roles))


def _folders_in(root: Path) -> list[str]:
    """Return the folders in a folder, hidden ones left out."""
    return sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))


def _class_folders(root: Path) -> bool:
    """Say whether two or more folders here, or in ``train``, hold pictures themselves."""

    def holds_pictures(folder: Path) -> bool:
        return any(os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES for name in os.listdir(folder))

    tops = [root, root / "train"] if (root / "train").is_dir() else [root]
    return any(sum(holds_pictures(top / name) for name in _folders_in(top)) > 1 for top in tops)


def _of_folders(data: str, root: Path) -> DataLayout:
    names = _folders_in(root)
    if not names:
        raise DataError(
            f"no table and no folders of classes in {root}: expected a table (.csv, .tsv, .parquet), "
            f"{root}/<class>/…, or {root}/train/<class>/… and {root}/valid/<class>/…"
        )
    return _of_parts(data, root, _part_folders(root, names), names)


def _of_parts(data: str, root: Path, parts: Mapping[Part, str], names: Sequence[str]) -> DataLayout:
    """Take folders of classes, by the folders that are the parts of a split; ``names`` are all folders here."""
    train, valid = parts.get("train", ""), parts.get("valid", "")
    by_part = bool(train and valid)
    top = root / train if train and not by_part else root
    pictures = LabelTable.from_class_folders(top, [root / train, root / valid] if by_part else [top])
    if not pictures.paths:
        raise DataError(
            f"no pictures in {top}, and no table: expected {root}/<class>/…, {root}/train/<class>/… and "
            f"{root}/valid/<class>/…, or a table named with --csv{other_files(top)}"
        )
    if not any(pictures.cells or ()):
        raise DataError(_no_classes_text(top, root, names))
    classes = _some(_classes_of(pictures, top, depth=2 if by_part else 1))
    where = f"below {train}/ that" if top != root else "that"
    reasons = [("labels", f"the name of the folder {where} a picture is in, {classes}")]
    if by_part:
        reasons.append(("split", f"by the folders {train}/ and {valid}/ (no --valid-pct, no --stratify)"))
    unused = [name for name in names if parts and name not in (train, valid) and _has_pictures(root / name)]
    test = next((root / name for name in unused if part_of(name) == "test" and _has_classes(root / name)), None)
    hints = (*_unused_tables(_tables_of(root)), *_unread(root), *(_unused_folder(root / name) for name in unused))
    kind: Kind = "train and valid folders" if by_part else "class folders"
    return DataLayout(
        data=data, root=top, csv=None, kind=kind, pictures=pictures, reasons=tuple(reasons), hints=hints,
        test=None if test is None else str(test),
    )  # fmt: skip


def _of_named_folders(data: str, root: Path, folder: str) -> DataLayout:
    """Take the folder with the folders of the classes that was said, or two: to train, and to validate.

    Raises:
        DataError: no such folder.
    """
    names = [folder] if (root / folder).is_dir() else [name.strip().rstrip("/") for name in folder.split(",")]
    gone = [name for name in names if not name or not (root / name).is_dir()]
    if gone or len(names) > 2:
        raise DataError(
            f"--folder {folder}: expected a folder below {root} that holds the folders of the classes, or two with a "
            f"comma between them, to train and to validate; there are {shown(_folders_in(root), most=8)}"
        )
    if len(names) == 1:
        return _of_parts(data, root, {"train": names[0]}, _folders_in(root))
    return _of_parts(data, root, {"train": names[0], "valid": names[1]}, _folders_in(root))


def _part_folders(root: Path, names: Sequence[str]) -> dict[Part, str]:
    """Return the folders that are the parts of a split, by part: none without one to train and one that is not.

    Raises:
        DataError: several folders are named as one part.
    """
    folders: dict[Part, list[str]] = {}
    for name in names:
        part = part_of(name)
        if part is not None:
            folders.setdefault(part, []).append(name)
    others = [name for name in names if part_of(name) is None and _has_pictures(root / name)]
    if "train" not in folders or (len(folders) == 1 and (others or len(folders["train"]) > 1)):
        return {}
    for same in folders.values():
        if len(same) > 1 and same is not folders.get("test"):
            raise DataError(
                f"{root}: the folders {' and '.join(same)} are named as one and the same part of a split; "
                f"--folder {_two(folders, same)} takes them alone, or put their pictures together"
            )
    return {part: same[0] for part, same in folders.items()}


def _two(folders: Mapping[Part, Sequence[str]], same: Sequence[str]) -> str:
    """Return the folders to train and to validate as ``--folder`` takes them; ``same`` are named as one part."""
    train = folders["train"][0]
    valid = (same if same is not folders["train"] else folders.get("valid", ()))[-1:]
    return ",".join([train, *valid])


def _has_pictures(folder: Path) -> bool:
    return bool(list_images(folder))


def _has_classes(folder: Path) -> bool:
    return any(picture.parent != folder for picture in list_images(folder))


def _unused_folder(folder: Path) -> str:
    what = f"{folder.name}/ ({plural(len(list_images(folder)), 'picture')}) is not used"
    if part_of(folder.name) != "test":
        return f"{what}: by its name it neither trains nor validates"
    command = "evaluate" if _has_classes(folder) else "predict"
    return f"{what} for training; afterwards: onecycle {command} RUN {shlex.quote(str(folder))}"


def _unused_tables(tables: Sequence[str]) -> tuple[str, ...]:
    return (f"not used: {', '.join(tables)} (--csv takes another table)",) if tables else ()


def _tables_of(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.is_file() and is_table(p))


_NEARLY_TABLES = (".xlsx", ".xls", ".ods", ".json", ".jsonl", ".txt", ".gz", ".zip", ".xml", ".feather", ".arrow")


def _unread(folder: Path) -> tuple[str, ...]:
    """Name the files that may hold labels in a form that is not read, a read-me left out."""
    names = sorted(
        p.name for p in folder.iterdir()
        if p.suffix.lower() in _NEARLY_TABLES and p.is_file() and not re.match("readme|license|classes", p.name.lower())
    )  # fmt: skip
    what = "if one has the labels, write it as a table (.csv, .tsv, .parquet)"
    return (f"not read: {shown(names, most=5)}; {what}",) if names else ()


def _no_classes_text(top: Path, root: Path, names: Sequence[str]) -> str:
    """Say where the labels may be of pictures that are in no folders of classes."""
    tables = [root / name / table for name in names for table in _tables_of(root / name)]
    parts = [name for name in names if part_of(name) and _has_pictures(root / name)]
    read = f" ({' and '.join(parts)} are read as parts of a split)" if len(parts) > 1 else ""
    text = f"the pictures in {top} are in no folders of classes{read}, so nothing says what they show"
    if tables:
        listed = ", ".join(str(table.relative_to(root)) for table in tables[:4])
        return f"{text}; there is a table below ({listed}): name its folder, {shlex.quote(str(tables[0].parent))}"
    unread = "".join(f"; {hint}" for folder in dict.fromkeys((root, top)) for hint in _unread(folder))
    return f"{text}: expected {top}/<class>/…, or a table of files and labels (--csv){unread}"


def _classes_of(pictures: LabelTable, root: Path, *, depth: int) -> list[str]:
    """Return the classes that training will have, where each is a folder at this depth below ``root``.

    Raises:
        DataError: pictures lie deeper, so that the name of the folder they are in is not that of their class.
    """
    counts = Counter(
        os.path.dirname(path) for path, label in zip(pictures.paths, pictures.cells or (), strict=True) if label
    )
    n_in = {Path(folder).relative_to(root): counts[folder] for folder in sorted(counts, key=Path)}
    classes = sorted({plain_text(folder.name) for folder in n_in})
    deep = [f"{folder.as_posix()} ({n:,})" for folder, n in n_in.items() if len(folder.parts) > depth]
    if deep:
        more = f" and {len(deep) - 4:,} more" if len(deep) > 4 else ""
        raise DataError(
            f"{root}: pictures lie deeper than the folders of the classes: {', '.join(deep[:4])}{more}. A picture's "
            f"class is the name of the folder that it is in, so training would have {_some(classes, 'classes')}. "
            f"{_way_out(root, n_in)}"
        )
    return classes


def _way_out(root: Path, folders: Iterable[Path]) -> str:
    """Say what to do about pictures that lie deeper than the folders of the classes."""
    tops = {folder.parts[0] for folder in folders}
    parts = sorted(top for top in tops if re.search("train|valid|test", top.casefold()))
    if len(parts) > 1:
        last = parts[-1] if not re.search("train", parts[-1].casefold()) else parts[0]
        first = next((part for part in parts if re.search("train", part.casefold())), parts[0])
        return (
            f"If {' and '.join(parts)} are the parts of a split, --folder {first},{last} trains on the one and "
            f"validates on the other, --folder {first} draws a split of it"
        )
    if len(tops) == 1:
        return f"If these are the classes, or the parts of a split, name the folder above them: {root / tops.pop()}"
    return (
        "Move the pictures up into the folder of their class, or name a table of files and labels (--csv): "
        "a first line such as file,label, then one line a picture"
    )


def _some(names: Sequence[str], what: str = "of them") -> str:
    first = ", ".join(names[:4])
    n = plural(len(names), "class", "classes") if what == "classes" else f"{len(names)} {what}"
    return f"{n}: {first}{' …' if len(names) > 4 else ''}"
