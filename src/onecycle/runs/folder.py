"""Run folders: ``runs/<name>-001`` and so on, one for each training run, whose files have fixed names.

runs/
├── latest -> planet-002      the newest finished run; for ``train --resume`` the newest that is not
└── planet-002/
    ├── config.yaml           all settings; ``onecycle train --config`` runs them again
    ├── env.json              versions, device, cores, date, seed
    ├── data.json             the data as understood, and what the audit found
    ├── split.csv             which file trains and which validates
    ├── history.csv           one row an epoch
    ├── lr_find.csv           the sweeps that found the learning rate
    ├── label_issues.csv      labels to look at again
    ├── predictions.parquet   probabilities of the validation pictures
    ├── metrics.json          the scores with their intervals
    ├── report.html           all of it, to pass on
    ├── model/                weights and what belongs to them
    ├── checkpoints/          the journal of the recipe; states of the fits while training runs
    └── log.txt               what was shown
"""

from __future__ import annotations

import json
import math
import os
import re
import shlex
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Self

from onecycle.errors import ArgumentError, DataError, DiskFullError, OnecycleWarning, OutputError, warn
from onecycle.files import beside, plain_json, unescaped_cell, write_whole
from onecycle.foreign import Refused, csv_records, inside, read_plain, strict_json
from onecycle.settings import MANIFEST, MODEL, RUN_CONFIG, RUN_MODEL, SAVED
from onecycle.text import safe_text

RUNS = "runs"
"""Folder of the runs in the working directory, unless another is named."""

LATEST = "latest"
"""Name that stands for the newest finished run; for ``train --resume`` for the newest that is not finished."""

MOST_BYTES = 2**30
"""Of a file of a run that is read whole: a split of three million pictures has a tenth of it."""

_LONGEST_POINTER = 4096


class _Inside:
    """The path of a file inside a run's folder, from which no link leads out; see ``RunFolder.inside``."""

    def __init__(self, name: str | Path, *endings: str) -> None:
        self.name, self.endings = name, endings  # of the files, where the path is what their names have in common

    def __get__(self, run: RunFolder, owner: type | None = None) -> Path:
        for ending in self.endings:
            run.inside(f"{self.name}{ending}")
        return run.inside(self.name)


@dataclass(frozen=True)
class Cells:
    """A row of one of a run's CSV files."""

    path: Path  # of the file
    line: int  # of the row, for messages
    values: Mapping[str, str]  # by the names of the columns

    def number(self, name: str, *, low: float = -math.inf, high: float = math.inf, diverged: bool = False) -> float:
        """Return a cell as a number; NaN and infinities only with ``diverged``.

        Raises:
            DataError: another cell; file, line and column are named.
        """
        try:
            number = float(self.values[name])
        except ValueError:
            raise self._other(name, "a number") from None
        if not (diverged or (math.isfinite(number) and low <= number <= high)):
            raise self._other(name, f"a number from {low:g} to {high:g}" if high < math.inf else "a finite number")
        return number

    def number_or_none(self, name: str) -> float | None:
        """Return a cell as a number, NaN and infinities among them; None where it is empty."""
        return self.number(name, diverged=True) if self.values[name] else None

    def count(self, name: str) -> int:
        """Return a cell as a whole number from 0."""
        cell = self.values[name]
        if not re.fullmatch(r"[0-9]{1,15}", cell):
            raise self._other(name, "a whole number")
        return int(cell)

    def _other(self, name: str, expected: str) -> DataError:
        received = safe_text(self.values[name])[:60]
        return DataError(
            f"{self.path}, line {self.line}, column {name}: expected {expected}; received {received!r}. "
            "Copy the run again"
        )


@dataclass(frozen=True)
class RunFolder:
    """One run's folder; the attributes are paths, whether or not the files are there yet.

    Anybody may have made the folder: each of its files is read and written by these attributes and methods, which
    follow no link out of it.

    Raises:
        DataError: a file is a link that leads out of the folder.
    """

    path: Path

    @property
    def name(self) -> str:
        """The folder's own name, e.g. ``planet-003``."""
        return self.path.name

    config = _Inside(RUN_CONFIG)  # all settings, as ``onecycle train --config`` reads them
    env = _Inside("env.json")  # versions, device, cores, date and seed
    data = _Inside("data.json")  # the data as understood, the classes, and what the audit says
    split = _Inside("split.csv")  # which file trains and which validates
    history = _Inside("history.csv")  # losses and metrics of each epoch
    lr_find = _Inside("lr_find.csv")  # the sweeps for the learning rate
    lr_picture = _Inside("lr_find.png")  # drawn, where that was all that was asked for
    label_issues = _Inside("label_issues.csv")  # labels to look at again, as ``LabelIssues.to_csv`` writes them
    predictions = _Inside("predictions.parquet")  # probabilities of the validation pictures, see ``Predictions``
    metrics = _Inside("metrics.json")  # scores with their intervals and baselines
    report = _Inside("report.html")  # the report to pass on
    model_stem = _Inside(RUN_MODEL, *SAVED)  # the model's path without suffix, as ``Learner.save`` takes it
    checkpoints = _Inside("checkpoints")  # folder of the weights that are saved while training runs
    evaluations = _Inside("evaluations")  # folder of what ``onecycle evaluate`` found
    log = _Inside("log.txt")  # what was shown, without control characters

    @classmethod
    def create(cls, base: str | Path, name: str, *, latest: bool = True) -> Self:
        """Make ``<base>/<name>-001``, or the next number that is free, and let ``latest`` point to it.

        Two processes never get one folder: making it decides who has it.

        Args:
            base: folder of the runs, made if missing.
            name: of the data set, say; what a folder's name should not have becomes ``-``.
            latest: move the pointer.

        Raises:
            OSError: the folder cannot be made; ``.filename`` says which.
        """
        base = Path(base)
        base.mkdir(parents=True, exist_ok=True)
        stem = folder_name(name)
        taken = (re.fullmatch(rf"{re.escape(stem)}-(\d{{3,}})", p.name) for p in base.iterdir())
        number = 1 + max((int(match[1]) for match in taken if match), default=0)
        while True:
            path = base / f"{stem}-{number:03d}"
            try:
                path.mkdir()
            except FileExistsError:
                number += 1
                continue
            if latest:
                with suppress(OSError):  # the pointer is a convenience: the run goes on without it
                    point_latest(base, path.name)
            return cls(path)

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Open the folder of a run that is there.

        Args:
            path: the folder, or the name of a run below ``runs``: ``planet-003``, ``latest``.

        Raises:
            DataError: no such run, or a folder that no run made; runs that are there are named.
        """
        named = Path(path)
        for candidate in (named, Path(RUNS) / named):
            folder = _followed(candidate)
            if folder is not None and (folder / RUN_CONFIG).is_file():
                return cls(folder)
        if _followed(named) is not None:
            why = "is a folder, but no run: it has no config.yaml, which `onecycle train` writes"
            if (named / MANIFEST).is_file() and (named / MODEL).is_file():
                raise DataError(
                    f"{named} is an exported model, and this needs a run; predict.py in it predicts pictures, and so "
                    "does `onecycle serve`"
                )
            raise DataError(f"{named} {why}{_runs_there(named)}")
        raise DataError(f"there is no run {str(path)!r}{_runs_there(named)}")

    @classmethod
    def open_finished(cls, path: str | Path) -> Self:
        """Open a run that has its model; ``latest`` is the newest of those, and a newer one without is named.

        Raises:
            DataError: no such run, or one that has no model yet; the message says how to go on with it.
        """
        stopped = next(iter(cls._stopped_below(Path(path))), None) if Path(path).name == LATEST else None
        try:
            run = cls.open(path)
        except DataError:
            if stopped is None or any(map(os.path.lexists, (path, Path(RUNS) / path))):
                raise
            run = stopped
        if run.is_finished:
            if stopped is not None and _begun_s(stopped) > _begun_s(run):
                on = f"`onecycle train --resume {shlex.quote(str(stopped.path))}` goes on"
                warn(f"{stopped.path} is newer than {run.path} and not finished; {on}", OnecycleWarning)
            return run
        unfinished = f"{run.path} is not finished: its training still runs, or was stopped and goes on with"
        unfinished += f" `onecycle train --resume {shlex.quote(str(run.path))}`"
        if run.lr_picture.exists():
            unfinished = f"{run.path} has no model: `onecycle find-lr` made it. `onecycle train DATA` makes one"
        beside = sorted(run.path.parent.iterdir()) if Path(path).name == LATEST else []
        others = [other for other in map(cls, beside) if other.name != LATEST and other.is_finished]
        if not others:
            raise DataError(unfinished)
        newest = max(others, key=lambda other: other.model_stem.with_suffix(".safetensors").stat().st_mtime)
        warn(f"{unfinished}. The latest finished run is {newest.path}", OnecycleWarning)
        return newest

    @classmethod
    def open_stopped(cls, path: str | Path) -> Self:
        """Open a run to go on with; ``latest`` is the newest that is not finished, where there is one.

        Raises:
            DataError: no such run.
        """
        newest = cls._stopped_below(Path(path))[:1] if Path(path).name == LATEST else []
        return newest[0] if newest else cls.open(path)

    @classmethod
    def _stopped_below(cls, latest: Path) -> list[Self]:
        """Return the runs beside ``latest`` whose training was stopped or still runs, the newest first."""
        bases = [base for base in dict.fromkeys((latest.parent, Path(RUNS) / latest.parent)) if base.is_dir()]
        runs = [cls(p) for p in (bases[0].iterdir() if bases else ()) if p.name != LATEST and p.is_dir()]
        stopped = [r for r in runs if r.config.is_file() and not r.is_finished and not r.lr_picture.exists()]
        return sorted(stopped, key=_begun_s, reverse=True)

    @property
    def is_finished(self) -> bool:
        """Whether it has the model that its training ends with."""
        return self.config.is_file() and self.model_stem.with_suffix(".safetensors").is_file()

    def inside(self, name: str | Path) -> Path:
        """Return the path of a file of the run, whether or not it is there.

        Args:
            name: of the file below the run's folder, or its path.

        Raises:
            DataError: a link leads out of the folder.
        """
        name = Path(name)
        try:
            return inside(self.path, name.relative_to(self.path) if name.is_relative_to(self.path) else name)
        except Refused as error:
            raise DataError(str(error)) from None

    def read(self, path: Path, most: int = MOST_BYTES) -> bytes:
        """Read one of the run's files.

        Args:
            path: of the file.
            most: bytes that it may have.

        Raises:
            DataError: it is missing, larger, or none that can be read.
        """
        try:
            return read_plain(self.inside(path), most)
        except FileNotFoundError:
            again = f"Go on with `onecycle train --resume {self.path}`"
            raise DataError(f"{self.path} has no {path.name}: the run ended before it was written. {again}") from None
        except Refused as error:
            raise DataError(f"{error}; copy the run again") from None
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error.strerror}); copy the run again") from error

    def read_json(self, path: Path) -> dict[str, Any]:
        """Read one of the run's JSON files; of those that onecycle writes, each value is checked.

        Raises:
            DataError: it is missing or damaged; the message names the place.
        """
        from onecycle.runs.contents import checked

        try:
            value = strict_json(self.read(path), str(path))
        except Refused as error:
            raise DataError(f"{error}; copy the run again") from None
        return checked(value, path)

    def read_table(self, path: Path, needed: Collection[str]) -> list[dict[str, str]]:
        """Read one of the run's CSV files, each row by the names of its columns; nothing where it is not there.

        Cells are as they were before ``escaped_cell``.

        Args:
            path: of the file.
            needed: columns that it has, perhaps among others.

        Raises:
            DataError: a damaged table; the message names the line.
        """
        if not os.path.lexists(path):
            return []
        try:
            records = csv_records(self.read(path), str(path), needed)
        except Refused as error:
            raise DataError(f"{error}; copy the run again") from None
        return [{unescaped_cell(name): unescaped_cell(cell) for name, cell in row.items()} for row in records]

    def write_json(self, path: Path, value: Mapping[str, Any]) -> None:
        """Write one of the run's JSON files, whole; numbers that JSON has not become null."""
        self.write_text(path, json.dumps(plain_json(value), indent=2, ensure_ascii=False) + "\n")

    def write_text(self, path: Path, text: str) -> None:
        """Write a file of the run, whole, in UTF-8."""
        write_whole(self.inside(path), text.encode("utf-8", errors="surrogateescape"))


def _begun_s(run: RunFolder) -> float:
    """Return when a run began: its split is written once."""
    return next((p.stat().st_mtime for p in (run.split, run.config) if p.exists()), 0.0)


def write_output(path: Path, data: bytes) -> Path:
    """Write a file that the user named, whole, and return its path.

    Raises:
        OutputError: it cannot be written there.
    """
    try:
        write_whole(path, data)
    except DiskFullError:
        raise
    except OSError as error:
        why = error.strerror or error
        raise OutputError(f"{path} cannot be written: {why}; choose another place with --out") from error
    return path


def check_free(path: Path | None, *, force: bool, option: str = "--out") -> None:
    """Fail where a file that the user named is there already, unless it may be replaced.

    Raises:
        ArgumentError: it is there.
    """
    if path is not None and path.exists() and not force:
        raise ArgumentError(f"{path} is there already; --force replaces it, {option} FILE writes another")


def folder_name(name: str) -> str:
    """Return ``name`` with everything that a folder's name should not have turned into ``-``."""
    return re.sub(r"[^A-Za-z0-9._]+", "-", name).strip("-.")[:60].rstrip("-.") or "run"


def point_latest(base: Path, name: str) -> None:
    """Let ``base/latest`` point to the run ``name``: a link replaced in one step, or a file with its name.

    Raises:
        OSError: neither can be written.
    """
    link = base / LATEST
    if link.is_dir() and not link.is_symlink():
        return  # somebody's own folder: it stays
    new = beside(link)
    try:
        new.symlink_to(name, target_is_directory=True)
        new.replace(link)
    except (OSError, NotImplementedError):
        new.unlink(missing_ok=True)
        write_whole(link, f"{name}\n".encode())


def _followed(path: Path) -> Path | None:
    """Return the folder that ``path`` is or points to, None if there is none.

    Raises:
        DataError: ``latest`` leads elsewhere than to a run beside it.
    """
    if path.is_dir():
        target = path.parent / path.readlink() if path.is_symlink() else path
        if path.name == LATEST and target.resolve().parent != path.parent.resolve():
            raise DataError(f"{path} leads to {target}, which does not lie beside it; name the run itself")
        return target
    if path.name == LATEST and path.is_file():
        try:
            name = read_plain(path, _LONGEST_POINTER).decode("utf-8", "replace").strip()
        except Refused as error:
            raise DataError(str(error)) from None
        target = path.parent / folder_name(name)
        return target if target.is_dir() else None
    return None


def _runs_there(named: Path) -> str:
    """Name the runs that could have been meant, as the end of a message."""
    bases = [base for base in dict.fromkeys((named.parent, Path(RUNS), named)) if base.is_dir()]
    runs = [p for base in bases for p in sorted(base.iterdir()) if p.name != LATEST and (p / RUN_CONFIG).is_file()]
    if not runs:
        return "; make one with `onecycle train DATA`"
    names = [p.name for p in runs]
    near = get_close_matches(named.name, names, n=3) or names[-3:]
    return f"; the runs in {runs[0].parent}/ are, among {len(names)}: {', '.join(near)}"
