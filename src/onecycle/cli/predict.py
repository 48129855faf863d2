"""``onecycle predict``: new pictures through a model; labels and probabilities as a table, a file, or JSON.

Into a folder, see ``predict_batch``.
"""

from __future__ import annotations

import errno
import io
import json
import os
import shlex
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from onecycle.cli.exit_codes import DATA
from onecycle.cli.screen import Screen
from onecycle.data.labels import items
from onecycle.deploy.calibrated import Calibrated
from onecycle.deploy.exported import open_predictor
from onecycle.deploy.folder import is_bundle, is_zipped
from onecycle.errors import ArgumentError, DataError
from onecycle.evaluation.predictions import Predictions
from onecycle.files import csv_text, is_formula, parquet_bytes, text_name
from onecycle.runs.config import RunConfig
from onecycle.runs.folder import RunFolder, check_free, write_output
from onecycle.text import plural, shown

if TYPE_CHECKING:
    from onecycle.deploy.exported import ExportedPredictor
    from onecycle.deploy.predictor import Predictor

MOST_ON_SCREEN = 20
"""Pictures that are listed; more are summed up."""

FORMATS = (".csv", ".json", ".parquet")
STDIN = "-"
_NAMED = 10  # files in a warning


def run_predict(
    run: str | Path,
    pictures: Sequence[Path | str],
    *,
    out: Path | None = None,
    force: bool = False,
    raw_csv: bool = False,
    as_json: bool = False,
    quiet: bool = False,
    top: int = 3,
    thresh: float | None = None,
    workers: int | None = None,
    chunk: int | None = None,
) -> int:
    """Predict pictures; the data that the run was trained on is not needed.

    In a .csv, names that a spreadsheet may run as a formula get an apostrophe, see ``escaped_cell``.

    Args:
        run: its folder, or its name below ``runs``; or an exported folder, or its .zip.
        pictures: files; folders, of which all pictures are taken; ``-`` for a list of paths on standard input.
        out: .csv, .json (one object a line) or .parquet; default ``predictions.csv`` in the working directory where
            there are more pictures than fit on the screen. Another name is a folder, for parts, see ``run_batch``.
        force: replace a file that is there.
        raw_csv: write them as they are.
        as_json: print one JSON object a picture a line, and nothing else.
        quiet: print only where the file is.
        top: how many of the most probable classes are listed with their probabilities.
        thresh: tags: predict one from this probability on, instead of what the run chose.
        workers, chunk: for a folder of parts, see ``run_batch``.

    Returns:
        3 where pictures could not be read (they are named, the others are written), else 0.

    Raises:
        DataError: no such run, or no picture; CheckpointError: its model cannot be loaded.
        ArgumentError: a file that is there already, or an option that cannot work.
    """
    _check_numbers(top, thresh)
    parts = None if out is None or out.suffix.lower() in FORMATS else out
    if parts is not None:
        _check_parts(parts, force=force, raw_csv=raw_csv, top=top)
    elif (workers, chunk) != (None, None):
        raise ArgumentError("--workers and --chunk are for a folder of parts: name one with --out FOLDER")
    screen = Screen(as_json=as_json, quiet=quiet)
    with screen.running():
        model = _Model.found(run)
        paths = files_of(pictures)
        if parts is not None:
            from onecycle.cli.predict_batch import InParts

            how = InParts(1 if workers is None else workers, chunk, thresh)
            return how.run(model.path, paths, parts, screen, say_labels=lambda n: _say_counts(screen, n))
        if out is None and not as_json and len(paths) > MOST_ON_SCREEN:
            out = _free(Path("predictions.csv"), force=force)
        check_free(out, force=force)
        # Asked before an hour of predictions, not after it.
        if out is not None and out.parent.is_dir() and not os.access(out.parent, os.W_OK):
            raise PermissionError(errno.EACCES, "the folder of --out cannot be written to", str(out.parent))
        with screen.status(f"loading {model.name}"):
            predictor = open_predictor(model.path)
        predictions = predictor.predict(paths, thresh=thresh)
        shown = _Shown(predictions, top, model.label_delim)
        if out is not None and len(predictions):
            write_output(out, shown.file(out.suffix.lower(), raw=raw_csv))
        if as_json:
            for record in shown.records():
                screen.event("picture", **record)
        _say(screen, model, predictor, shown, out, thresh)
        if raw_csv and out is not None and out.suffix.lower() == ".csv" and (odd := shown.formulas()):
            screen.warn(
                f"{odd} cells of {out} begin with = + - or @, which a spreadsheet may run as a formula; they are "
                "written as they are (--raw-csv), so import these columns as text"
            )
    return DATA if predictions.failed else 0


def _check_numbers(top: int, thresh: float | None) -> None:
    if top < 1:
        raise ArgumentError(f"--top is a number of classes, 1 or more; received {top}")
    if thresh is not None and not 0 <= thresh <= 1:
        raise ArgumentError(f"--thresh is a probability, 0 to 1; received {thresh}")


def _check_parts(out: Path, *, force: bool, raw_csv: bool, top: int) -> None:
    """Refuse what only one file can have, and names that are meant for one.

    Raises:
        ArgumentError: either of them.
    """
    if out.suffix and not out.is_dir():
        raise ArgumentError(
            f"--out is a file that ends in {', '.join(FORMATS)}, or a folder, for parts; received {out}: a folder "
            "whose name has a point must be there already"
        )
    for name, given in (("--force", force), ("--raw-csv", raw_csv), ("--top", top != 3)):
        if given:
            raise ArgumentError(f"{name} is for one file; {out} is a folder of parts, in which nothing is replaced")


@dataclass(frozen=True)
class _Model:
    """A run or an exported model, by what is said of it."""

    path: Path
    name: str
    run: RunFolder | None  # None of an export

    @classmethod
    def found(cls, named: str | Path) -> Self:
        """Find what was named.

        Raises:
            DataError: no such run.
        """
        path = Path(named)
        if is_bundle(path) or is_zipped(path):
            return cls(path, path.stem if is_zipped(path) else path.name, None)
        run = RunFolder.open_finished(named)
        return cls(run.path, run.name, run)

    @property
    def label_delim(self) -> str:
        """What stands between the tags in the table that the run was trained on: no tag has it in it."""
        own = None if self.run is None else RunConfig.read(self.run.config).label_delim
        return own or ";"


def files_of(pictures: Sequence[Path | str]) -> list[str]:
    """Return the files behind files, folders and ``-``, each once, folders sorted.

    Raises:
        DataError: nothing, or a folder without a picture.
    """
    files: list[str] = []
    for named in pictures:
        if str(named) == STDIN:
            files += _listed_paths()
        elif os.path.isdir(named):  # False, too, where the name is too long or holds a NUL character
            listed = [str(p) for p in items.list_images(Path(named))]
            if not listed:
                raise DataError(f"there is no picture in {named}: name a folder that holds some, or the files")
            files += listed
        else:
            files.append(str(named))
    if not files:
        raise DataError("there is no picture to predict: name files or folders, or - for paths on standard input")
    return list(dict.fromkeys(files))


def _listed_paths() -> list[str]:
    """Read paths from standard input, one a line; names that are no UTF-8, which the disk allows, too."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")
    return [line for line in (raw.rstrip("\r\n") for raw in sys.stdin) if line.strip()]


class _Shown:
    """Predictions as they are written and printed.

    Args:
        predictions: of the files that could be read.
        top: classes to list.
        delimiter: between the tags of a cell.
    """

    def __init__(self, predictions: Predictions, top: int, delimiter: str) -> None:
        self.predictions, self.delimiter = predictions, delimiter
        self.classes, self.files, self.is_multi = predictions.classes, predictions.files, predictions.is_multi
        self.probs = predictions.shown_probs.astype(float)
        self.top = min(top, len(self.classes))

    def names(self, i: int) -> tuple[str, ...]:
        """Return the predicted labels of picture ``i``."""
        return self.predictions.names_of(self.predictions.decided[i])

    def best(self, i: int) -> list[tuple[str, float]]:
        """Return the most probable classes of picture ``i``; the predicted class comes first."""
        shown, rank = self.probs[i], self.probs[i].copy()
        if not self.is_multi:  # equal probabilities, and a calibration that swaps two classes
            rank[int(self.predictions.decided[i])] = np.inf
        order = np.argsort(-rank, kind="stable")[: self.top].tolist()
        return [(self.classes[c], round(float(shown[c]), 6)) for c in order]

    def records(self) -> list[dict[str, Any]]:
        """Return one JSON object a picture, those that could not be read last."""
        failed = [{"file": f.path, "error": f.reason} for f in self.predictions.failed]
        return [*map(self._record, range(len(self.files))), *failed]

    def _record(self, i: int) -> dict[str, Any]:
        names, best = list(self.names(i)), dict(self.best(i))
        shown = dict(zip(self.classes, self.probs[i].tolist(), strict=True))
        if self.is_multi:
            predicted = {name: round(shown[name], 6) for name in names}
            return {"file": self.files[i], "labels": names, "probabilities": {**predicted, **best}}
        probability = round(shown[names[0]], 6)
        return {"file": self.files[i], "label": names[0], "probability": probability, "probabilities": best}

    def columns(self) -> dict[str, list[Any]]:
        """Return one entry a picture: file, label, probability and the runners-up; or file, labels, a column a tag."""
        n = len(self.files)
        columns: dict[str, list[Any]] = {"file": list(self.files)}
        if self.is_multi:
            columns["labels"] = [self.delimiter.join(self.names(i)) for i in range(n)]
            shown = np.round(self.probs, 6)
            return columns | {f"p {name}": shown[:, c].tolist() for c, name in enumerate(self.classes)}
        ranked = [self.best(i) for i in range(n)]
        for k in range(self.top):
            ending = "" if k == 0 else f"_{k + 1}"
            columns[f"label{ending}"] = [row[k][0] for row in ranked]
            columns[f"probability{ending}"] = [row[k][1] for row in ranked]
        return columns

    def file(self, suffix: str, *, raw: bool = False) -> bytes:
        """Return a whole file of predictions; ``raw`` as ``csv_text`` has it."""
        if suffix == ".json":
            return "".join(json.dumps(r) + "\n" for r in self.records()).encode()
        columns = self.columns()
        if suffix == ".parquet":
            import pyarrow as pa

            return parquet_bytes(pa.table(columns | {"file": [text_name(f) for f in self.files]}))
        rows = zip(*columns.values(), strict=True)
        return csv_text([tuple(columns), *rows], raw=raw).encode("utf-8", "surrogateescape")

    def formulas(self) -> int:
        """Count cells of the table that a spreadsheet would take for a formula."""
        labels = [name for i in range(len(self.files)) for name in self.names(i)[:1]]
        return sum(map(is_formula, [*self.files, *labels]))


# -- what is said ---------------------------------------------------------------------------------------------


def _say(
    screen: Screen,
    model: _Model,
    predictor: Predictor | ExportedPredictor,
    shown: _Shown,
    out: Path | None,
    thresh: float | None,
) -> None:
    n, failed = len(shown.files), shown.predictions.failed
    if not n:
        _name_failed(screen, shown.predictions)
        return
    if out is None or n <= MOST_ON_SCREEN:
        limit = screen.width // 2
        screen.table(
            [(screen.cut(f, limit), _verdict(shown, i)) for i, f in enumerate(shown.files)], always=out is None
        )
    else:
        _sum_up(screen, shown)
    screen.say()
    screen.row("model", f"{model.name}: {plural(n, 'picture')} predicted")
    screen.row("certainty", _certainty(predictor.calibrated))
    if shown.is_multi:
        screen.row("tags", _rule(predictor, thresh))
    if out is not None:
        screen.row("written", str(out), always=True)
    if failed:
        _name_failed(screen, shown.predictions)
    if model.run is not None:
        screen.row("next", "where the labels of such pictures are known, judge the model by them:")
        screen.command(f"onecycle evaluate {shlex.quote(str(model.path))} DATA")


def _verdict(shown: _Shown, i: int) -> str:
    if shown.is_multi:
        p = dict(zip(shown.classes, shown.probs[i].tolist(), strict=True))
        tags = sorted(shown.names(i), key=lambda name: -p[name])
        return ", ".join(f"{name} {p[name]:.2f}" for name in tags) or "(no tag)"
    first, *others = shown.best(i)
    rest = ", ".join(f"{name} {p:.2f}" for name, p in others if p >= 0.005)
    return f"{first[0]} {first[1]:.2f}{f'  ({rest})' if rest else ''}"


def _sum_up(screen: Screen, shown: _Shown) -> None:
    """Say how often each label was predicted, the most frequent first."""
    named = [shown.names(i) for i in range(len(shown.files))]
    _say_counts(screen, Counter(name for names in named for name in names or [""]))


def _say_counts(screen: Screen, pictures: Mapping[str, int]) -> None:
    """Show pictures by label; those without one, counted as "", last."""
    counts = Counter({name: n for name, n in pictures.items() if name})
    most = MOST_ON_SCREEN if screen.is_terminal else len(counts)
    rows = [(screen.cut(name, screen.width // 2), f"{count:,}") for name, count in counts.most_common(most)]
    if "" in pictures:
        rows.append(("(no tag)", f"{pictures['']:,}"))
    screen.table(rows, "<>", least=(0, 7))
    if len(counts) > most:
        screen.line(f"… and {len(counts) - most} more labels")


def _certainty(chosen: Calibrated) -> str:
    if chosen.calibration is None:
        own = "probabilities are the model's own, not calibrated"
        return f"{own}: of pictures with 0.9, more or fewer than 90 % may be right"
    return "probabilities are calibrated on the run's validation pictures"


def _rule(predictor: Predictor | ExportedPredictor, thresh: float | None) -> str:
    if thresh is not None:
        return f"predicted from a probability of {thresh:g} on, as asked (--thresh)"
    rule = predictor.decisions
    if predictor.calibrated.calibration is None or not rule.own:
        return str(rule)
    return f"{rule}, by the model's own probabilities, not the calibrated ones"


def _name_failed(screen: Screen, p: Predictions) -> None:
    some = shown([f"{one.path} ({one.reason})" for one in p.failed], most=_NAMED)
    screen.warn(f"{len(p.failed)} of {len(p) + len(p.failed)} files could not be read and are left out: {some}")


# -- files ----------------------------------------------------------------------------------------------------


def _free(path: Path, *, force: bool) -> Path:
    """Return the path, or one with a number where that is taken."""
    number, free = 2, path
    while free.exists() and not force:
        free, number = path.with_name(f"{path.stem}-{number}{path.suffix}"), number + 1
    return free
