"""What a data set is, found by looking: a table and its columns, or folders of classes; each choice with its reason."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack

from onecycle.data.audit.audit import AuditedRows
from onecycle.data.labels.find_columns import Roles, find_roles
from onecycle.data.labels.items import IMAGE_SUFFIXES, Labels, encode_multi, encode_single, list_images
from onecycle.data.labels.read import TableLayout, read_rows
from onecycle.data.labels.splits import group_numbers
from onecycle.data.labels.stratified import draw_split
from onecycle.data.labels.tables import PARQUET, delimiter_of, is_table, read_table
from onecycle.data.sources.untar import URLs, untar_data
from onecycle.errors import ArgumentError, DataError, DataWarning, LabelError
from onecycle.text import plural, safe_text, shown, wrapped

if TYPE_CHECKING:
    from onecycle.data.bunch import ImageDataBunch
    from onecycle.data.options import CommonOptions

DEFAULT_TABLE = "labels.csv"
Kind = Literal["table", "class folders", "train and valid folders"]
_WIDTH, _INDENT = 80, 10
_PARTS = ("train", "valid")
_VALID_BY_OTHER_NAMES = ("val", "validation", "dev")


@dataclass(frozen=True)
class LayoutOptions:
    """What the user said about the data; None means: find it out.

    Attributes:
        csv: table below the folder of the data set.
        folder: of the pictures, below the folder of the data set.
        suffix: added to each file name of the table.
        label_delim: splits a label cell into tags; "" means that a cell is one label.
        fn_col, label_col, group_col: columns, by name or position.
    """

    csv: str | None = None
    folder: str | None = None
    suffix: str | None = None
    label_delim: str | None = None
    fn_col: int | str | None = None
    label_col: int | str | None = None
    group_col: int | str | None = None

    @property
    def given(self) -> list[str]:
        """The names of what was said."""
        return [name for name, value in asdict(self).items() if value is not None]


@dataclass(frozen=True)
class DataLayout:
    """Where a data set's pictures and labels are.

    Attributes:
        data: what the user named: a path, or a name in ``URLs``.
        root: folder of the data set.
        csv: table below it, None for folders of classes.
        table: the roles of the table's columns.
        kind: table, class folders, or train and valid folders.
        reasons: each choice and why it was made.
        sample: a row of the table: (column, cell); empty for folders.
        hints: what else may be worth an option.
    """

    data: str
    root: Path
    csv: str | None
    table: TableLayout
    kind: Kind
    reasons: tuple[tuple[str, str], ...] = ()
    sample: tuple[tuple[str, str], ...] = ()
    hints: tuple[str, ...] = ()

    @property
    def is_multi(self) -> bool:
        """Whether a picture can have several tags."""
        return self.table.label_delim is not None

    def lines(self) -> list[str]:
        """Return the data as understood, a few lines of at most 80 columns."""
        where = str(self.root if self.csv is None else self.root / self.csv)
        rows = [("data", where), *self.reasons]
        if self.sample:
            rows.append(("e.g.", ", ".join(f"{name}={cell}" for name, cell in self.sample)))
        rows += [("note", hint) for hint in self.hints]
        return [line for name, text in rows for line in _row(name, text)]

    def bunch(
        self,
        *,
        valid_pct: float = 0.2,
        seed: int | None = None,
        stratify: bool = True,
        **options: Unpack[CommonOptions],
    ) -> ImageDataBunch:
        """Make the bunch; keywords as in ``ImageDataBunch.from_csv`` and ``from_folder``.

        Where the folders are the split, ``valid_pct`` and ``stratify`` do nothing.

        Raises:
            LabelError: pictures beside the folders of the classes, which would be a class of their own.
        """
        from onecycle.data.bunch import ImageDataBunch  # an audit of the rows needs no torch

        if self.csv is None:
            by_folder = self.kind == "train and valid folders"
            _check_none_beside(self.root, [self.root / p for p in _PARTS] if by_folder else [self.root])
            return ImageDataBunch.from_folder(
                self.root,
                valid_pct=None if by_folder else valid_pct,
                seed=seed,
                stratify=stratify and not by_folder,
                **options,
            )
        table, roles = self.root / self.csv, self.table
        if table.suffix.lower() == PARQUET:
            return ImageDataBunch.from_df(
                self.root, read_table(table), roles.folder, roles.label_delim, valid_pct, seed,
                fn_col=roles.fn_col, label_col=roles.label_col, suffix=roles.suffix, stratify=stratify,
                group_col=roles.group_col, **options,
            )  # fmt: skip
        return ImageDataBunch.from_csv(
            self.root, roles.folder, roles.label_delim, self.csv, valid_pct, seed,
            fn_col=roles.fn_col, label_col=roles.label_col, suffix=roles.suffix, stratify=stratify,
            group_col=roles.group_col, delimiter=delimiter_of(table), **options,
        )  # fmt: skip

    def rows(
        self, *, valid_pct: float = 0.2, seed: int | None = None, size: int = 224, stratify: bool = True
    ) -> AuditedRows:
        """Return the rows for an audit, however broken they are, with the split that ``bunch`` would draw.

        Where a row has no file name or no label, the split is drawn at random: there would be no bunch.
        """
        rows = read_rows(self.root, csv=self.csv, layout=self.table, valid_pct=valid_pct, seed=seed, size=size)
        if self.kind == "train and valid folders":
            return rows
        if not all(rows.paths) or None in rows.labels:
            how = f"until each row has a file and a label: {rows.split.how}"
            return replace(rows, split=replace(rows.split, how=how))
        groups = None if rows.groups is None else group_numbers(rows.groups, n=len(rows.paths))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DataWarning)  # the audit has a finding of its own for rare classes
            split = draw_split(
                rows.paths, valid_pct, seed=seed, labels=_encoded(rows) if stratify else None, groups=groups
            )
        return replace(rows, split=split)

    def describe(self) -> dict[str, Any]:
        """Return what finds this data set again, as plain values: the options of the command line."""
        where = {"data": self.data, "csv": self.csv}
        if self.csv is None:
            return where
        roles = asdict(self.table)
        return where | roles | {"label_delim": roles["label_delim"] or ""}


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
    shown = str(data) if _is_url_name(data) else str(path.resolve())
    if path.is_file():
        if not is_table(path):
            raise DataError(f"expected a folder or a table (.csv, .tsv, .parquet), but {path} is another file")
        return _of_table(shown, path.parent, path.name, said)
    csv = said.csv or _table_in(path, said)
    if csv is not None:
        return _of_table(shown, path, csv, said)
    if said.given:
        option = "--" + said.given[0].replace("_", "-")
        raise ArgumentError(
            f"{option} is about a table, and {path} has none; name it with --csv, or leave the option out"
        )
    return _of_folders(shown, path)


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


def _table_in(root: Path, said: LayoutOptions) -> str | None:
    """Choose the table of a folder; None where folders hold the classes."""
    tables = sorted(p.name for p in root.iterdir() if p.is_file() and is_table(p))
    if not tables or DEFAULT_TABLE in tables:
        return DEFAULT_TABLE if tables else None
    if len(tables) == 1 and (said.given or not _class_folders(root)):
        return tables[0]
    fitting = [name for name in tables if _fits(root, name, said)]
    if len(fitting) == 1:
        return fitting[0]
    if not fitting and _class_folders(root):
        return None
    raise ArgumentError(
        f"{root} has {len(fitting or tables)} tables that could hold the labels: "
        f"{', '.join(fitting or tables)}; choose one with --csv"
    )


def _fits(root: Path, name: str, said: LayoutOptions) -> bool:
    try:
        _roles(root, name, said)
    except (DataError, ArgumentError):
        return False
    return True


def _roles(root: Path, csv: str, said: LayoutOptions) -> Roles:
    return find_roles(
        read_table(root / csv),
        root,
        name=csv,
        fn_col=said.fn_col,
        label_col=said.label_col,
        group_col=said.group_col,
        folder=said.folder,
        suffix=said.suffix,
        label_delim=said.label_delim,
    )


def _of_table(data: str, root: Path, csv: str, said: LayoutOptions) -> DataLayout:
    roles = _roles(root, csv, said)
    table = TableLayout(roles.folder, roles.suffix, roles.label_delim, roles.fn_col, roles.label_col, roles.group_col)
    return DataLayout(data, root, csv, table, "table", roles.reasons, roles.sample, roles.hints)


def _folders_in(root: Path) -> list[str]:
    """Return the folders in a folder, hidden ones left out."""
    return sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))


def _class_folders(root: Path) -> bool:
    """Say whether two or more folders here, or in ``train``, hold pictures themselves."""
    tops = [root, root / "train"] if (root / "train").is_dir() else [root]
    return any(sum(_holds_pictures(top / name) for name in _folders_in(top)) > 1 for top in tops)


def _holds_pictures(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return any(os.path.splitext(e.name)[1].lower() in IMAGE_SUFFIXES for e in entries)


def _of_folders(data: str, root: Path) -> DataLayout:
    names = _folders_in(root)
    if not names:
        raise DataError(
            f"no table and no folders of classes in {root}: expected a table (.csv, .tsv, .parquet), "
            f"{root}/<class>/…, or {root}/train/<class>/… and {root}/valid/<class>/…"
        )
    if set(_PARTS) <= set(names):
        why = f"the name of the folder that a picture is in, {_some(_classes_below(root, _PARTS))}"
        split = ("split", "by the folders train/ and valid/ (no --valid-pct, no --stratify)")
        kind: Kind = "train and valid folders"
        return DataLayout(data, root, None, TableLayout(), kind, (("labels", why), split))
    if set(names) <= {"train", "test"} and "train" in names:
        why = "the name of the folder below train/ that a picture is in"
        root = root / "train"
    else:
        why = "the name of the folder that a picture is in"
    reasons = (("labels", f"{why}, {_some(_classes_below(root))}"),)
    return DataLayout(data, root, None, TableLayout(), "class folders", reasons)


def _classes_below(root: Path, parts: Sequence[str] = ("",)) -> list[str]:
    """Return the classes that training will have, where each is a folder directly below each part.

    Raises:
        DataError: pictures lie deeper, so that the name of the folder they are in is not that of their class.
    """
    n_in = {
        Path(part, below).as_posix(): n
        for part in parts
        for below, n in _pictures_by_folder(root / part).items()
        if below != "."
    }
    classes = sorted({Path(folder).name for folder in n_in})
    deep = {folder: n for folder, n in n_in.items() if len(Path(folder).parts) > 1 + len(Path(parts[0]).parts)}
    if deep:
        some = ", ".join(f"{folder} ({n:,})" for folder, n in list(deep.items())[:4])
        more = f" and {len(deep) - 4:,} more" if len(deep) > 4 else ""
        raise DataError(
            f"{root}: pictures lie deeper than the folders of the classes: {some}{more}. A picture's class is the "
            f"name of the folder that it is in, so training would have {_some(classes, 'classes')}. "
            f"{_way_out(root, n_in)}"
        )
    return classes


def _way_out(root: Path, n_in: dict[str, int]) -> str:
    """Say what to do about pictures that lie deeper than the folders of the classes."""
    tops = {Path(folder).parts[0] for folder in n_in}
    other = next((name for name in _VALID_BY_OTHER_NAMES if {"train", name} <= tops), None)
    if other is not None:
        return f"Rename {root / other} to valid, if its pictures are to validate"
    if len(tops) == 1 and all(len(Path(folder).parts) == 2 for folder in n_in):
        return f"If these are the classes, name the folder above them: {root / tops.pop()}"
    return (
        "Move the pictures up into the folder of their class, or name a table of files and labels (--csv): "
        "a first line such as file,label, then one line a picture"
    )


def _pictures_by_folder(top: Path) -> dict[str, int]:
    """Count the pictures that are directly in each folder below ``top`` (itself: ``.``), hidden ones left out."""
    found = {}
    for folder, below, files in os.walk(top):
        below[:] = sorted(name for name in below if not name.startswith("."))
        n = sum(not f.startswith(".") and os.path.splitext(f)[1].lower() in IMAGE_SUFFIXES for f in files)
        if n:
            found[Path(folder).relative_to(top).as_posix()] = n
    return found


def _check_none_beside(root: Path, tops: Sequence[Path]) -> None:
    """Refuse pictures beside the folders of the classes: the folder's name would become a class."""
    beside = [p for top in tops for p in list_images(top, recurse=False)]
    if beside:
        names = shown([p.relative_to(root).as_posix() for p in beside], most=5)
        raise LabelError(
            f"{plural(len(beside), 'picture')} in {root} beside the folders of the classes, so without a class: "
            f"{names}; move each into the folder of its class, or away"
        )


def _some(names: Sequence[str], what: str = "of them") -> str:
    first = ", ".join(names[:4])
    return f"{len(names)} {what}: {first}{' …' if len(names) > 4 else ''}"


def _encoded(rows: AuditedRows) -> Labels:
    """Encode the labels as a bunch does, where whole numbers are sorted as numbers."""
    if rows.is_multi:
        return encode_multi([list(tags or ()) for tags in rows.labels], source=rows.source)
    names = [str(tags[0]) for tags in rows.labels if tags]
    numbers = all(name.isdecimal() and str(int(name)) == name for name in names)
    return encode_single([int(name) if numbers else name for name in names], source=rows.source)


def _row(name: str, text: str) -> list[str]:
    """Lay out ``name  text``, continued under the text."""
    lines = wrapped(safe_text(text), _WIDTH - _INDENT)
    return [f"{name if i == 0 else '':<{_INDENT}}{line}" for i, line in enumerate(lines)]
