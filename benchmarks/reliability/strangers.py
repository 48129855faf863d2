"""Runs, models, archives, servers, pictures and tables of strangers, each opened as a user would; see ``hostile.py``.

What must come of it: nothing outside of its folder is read or written, each error is one of onecycle's own, and no
kind of attack takes more memory than is stated. Each kind is attacked in a process forked from one that has everything
loaded and has used it once. The peak of its memory is set back before each attack (Linux).
"""

from __future__ import annotations

import copy
import ctypes
import io
import json
import os
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before torch loads: a process with threads cannot be forked

import hostile
import kills
import pyarrow as pa
import pyarrow.parquet as pq
import rows
import torch
from rows import Row
from torch import nn

from onecycle.cli.check import run_check
from onecycle.cli.evaluate import run_evaluate
from onecycle.cli.predict import run_predict
from onecycle.cli.report import issue_count_of, notes_of, read_choice, run_report
from onecycle.cli.train import run_training
from onecycle.data.labels.find.columns import LayoutOptions
from onecycle.data.pixels.decode import decode_for, decode_rgb, picture_shape
from onecycle.data.pixels.picture_file import UNREADABLE
from onecycle.data.pixels.resize import ResizeSpec
from onecycle.data.sources import downloads
from onecycle.data.sources.archives import unpack
from onecycle.deploy.predictor import Predictor
from onecycle.errors import DataError, OnecycleError
from onecycle.runs.checkpoints import read_history, read_sweeps
from onecycle.runs.config import RunConfig
from onecycle.runs.folder import RunFolder
from onecycle.runs.predictions import read_predictions, run_predictions
from onecycle.runs.split import read_split
from onecycle.train import checkpoint

LONGEST_S = 120
"""For one attack; what takes longer is a foreign error."""


@dataclass
class Tally:
    """What came of the attacks of one kind."""

    n: int = 0
    refused: int = 0
    outside: int = 0  # bytes that were read or written elsewhere
    foreign: list[str] = field(default_factory=list)  # errors that are not onecycle's own
    peak_mb: float = 0.0  # that an attack took, above what the process had before it
    largest: str = ""  # the attack that took it

    def attempt(self, what: str, call: Callable[[], object]) -> bool:
        """Run an attack; says whether it came through without an error."""
        self.n += 1
        signal.alarm(LONGEST_S)
        before_mb = _begin_to_measure()
        try:
            with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
                call()
        except OnecycleError:
            self.refused += 1
            return False
        except BaseException as error:  # noqa: BLE001 - that it is another one is what is counted
            at = traceback.extract_tb(error.__traceback__)[-1]
            self.foreign.append(
                f"{what}: {type(error).__name__}: {str(error)[:200]} ({Path(at.filename).name}:{at.lineno})"
            )
            return False
        finally:
            signal.alarm(0)
            taken_mb = _memory_mb("VmHWM") - before_mb
            if taken_mb > self.peak_mb:
                self.peak_mb, self.largest = taken_mb, what
        return True

    def row(self, title: str, most_mb: int) -> Row:
        """Return the row, with the bound on memory above what the libraries take."""
        figure = f"{self.outside} bytes outside, {len(self.foreign)} foreign errors, {self.peak_mb:.0f} MB of {most_mb}"
        detail = "; ".join(self.foreign[:3]) or f"{self.refused} refused by name, the others harmless"
        detail += f"; most memory: {self.largest}"
        holds = not self.foreign and not self.outside and self.peak_mb <= most_mb
        return Row(title, self.n, figure, detail, holds)


@dataclass(frozen=True)
class World:
    """A run that was trained, its data, and a folder for what attacks leave."""

    run: Path
    data: Path
    top: Path
    short: bool

    def some(self, values: Any, n: int) -> list[Any]:
        """Return all, or every n-th where the attacks are few."""
        return list(values)[:: n if self.short else 1]


def main(short: bool = False) -> list[Row]:
    """Train a tiny run, use it once, and attack what reads it and its like."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="onecycle_strangers_") as folder:
        top = Path(folder)
        os.environ |= {"ONECYCLE_HOME": str(top / "home"), "HF_HUB_OFFLINE": "1", "ONECYCLE_DOWNLOAD_GB": "0.05"}
        runs = kills.Runs(top)
        os.chdir(top)
        code = kills.wait(kills.fork(runs.words(kills.KINDS["single label"], runs.new()), top))
        if code != 0:
            raise RuntimeError((top / "said").read_text())
        world = World(kills.the_run(top / "runs1").path, top / "d", top, short)
        used = Path(shutil.copytree(world.run, top / "used"))
        for use in COMMANDS.values():
            with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
                use(world, used)
        return [_forked(kind, world).row(title, most_mb) for title, most_mb, kind in KINDS]


def _forked(kind: Callable[[Tally, World], None], world: World) -> Tally:
    """Attack in a forked process, in a folder of its own."""
    said = world.top / "tally.json"
    said.unlink(missing_ok=True)
    pid = os.fork()
    if not pid:
        try:
            signal.signal(signal.SIGALRM, _too_long)
            (world.top / kind.__name__).mkdir()
            os.chdir(world.top / kind.__name__)
            found = Tally()
            kind(found, world)
            said.write_text(json.dumps(asdict(found)))
        except BaseException:  # noqa: BLE001 - a forked process must end here
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(0)
    code = kills.wait(pid)
    if not said.exists():
        raise RuntimeError(f"the attacks of {kind.__name__} ended with {code}")
    return Tally(**json.loads(said.read_text()))


def _too_long(*_: object) -> None:
    raise TimeoutError(f"longer than {LONGEST_S} s")


def _begin_to_measure() -> float:
    """Forget the peak of this process' memory, and return what it has now, MB."""
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return _memory_mb("VmRSS")


def _memory_mb(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


COMMANDS: dict[str, Callable[[World, Path], object]] = {
    "report": lambda _, run: run_report(run),
    "evaluate": lambda _, run: run_evaluate(run, None, LayoutOptions()),
    "predict": lambda world, run: run_predict(run, [world.data / "train" / "p00.jpg"]),
}

# --- a run: its files are something else ---------------------------------------------------------------------------

READ = (
    "config.yaml", "data.json", "split.csv", "metrics.json", "env.json", "history.csv", "label_issues.csv",
    "predictions.parquet", "model/model.safetensors", "model/model.json", "checkpoints/journal.json",
)  # fmt: skip
WRITTEN = ("report.html", "log.txt", "evaluations", "evaluations/validation-001.json")
UNREAD = {  # a link in place of model.json, which only repeats the header of the weights, is passed over
    "report": {"checkpoints/journal.json", "model/model.json"},
    "evaluate": {"env.json", "history.csv", "label_issues.csv", "checkpoints/journal.json", "model/model.json"},
    "predict": {*READ} - {"config.yaml", "model/model.safetensors"},
}
SOMETHING_ELSE = ("link", "dangling link", "hard link", "pipe")


def runs(found: Tally, world: World) -> None:
    """Put links, other names and pipes where a run has its files, and use the run."""
    outside = Path("outside")
    temporary = tuple(f".{name}.{os.getpid()}.tmp" for name in ("report.html", "metrics.json", "validation-001.json"))
    for name in [*world.some(READ, 4), *world.some(WRITTEN, 2), *world.some(temporary, 3)]:
        for kind in world.some(SOMETHING_ELSE, 2):
            for command, call in COMMANDS.items():
                run = Path(shutil.copytree(world.run, "run"))
                _plant(run / name, kind, outside)
                before = _contents(outside)
                passed = found.attempt(f"{command}, {kind} as {name}", partial(call, world, run))
                after = _contents(outside)
                if after != before:
                    found.outside += sum(map(len, after.values())) or 1
                if passed and kind == "link" and name in READ and name not in UNREAD[command]:
                    found.outside += (outside / "file").stat().st_size  # it was read
                shutil.rmtree(run)
                shutil.rmtree(outside)


def _plant(path: Path, kind: str, outside: Path) -> None:
    """Put something else where a run has a file or folder; what was there lies outside then."""
    outside.mkdir()
    there = Path(os.path.abspath(outside)) / "file"
    if path.name == "evaluations":
        there.mkdir()
        path.symlink_to(there if kind != "dangling link" else there.with_name("new"))
        return
    path.parent.mkdir(exist_ok=True)
    if path.exists():
        shutil.move(path, there)
    else:
        there.write_bytes(b"mine")
    if kind == "hard link":
        os.link(there, path)
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(there if kind == "link" else there.with_name("new"))


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() if p.is_file() else b"" for p in folder.rglob("*")}


# --- a run: what its files say ---------------------------------------------------------------------------------------

ODD = (None, True, -1, 10**15, 0.5, 1e308, "", "\x1b[31m", [], {}, [None], {"a": None}, [[1]])
TEXTS = ("", "[", "{}", "[" * 100_000, '{"a": NaN}', '{"a": 1, "a": 2}', '{"a": "\\ud800"}', "\x00", "9" * 5_000)
CUT = (*READ[:8], "checkpoints/journal.json")


def fields(found: Tally, world: World) -> None:
    """Change each value of each file of a run, cut each file, and read the run as the commands do."""
    run = RunFolder(Path(shutil.copytree(world.run, "run")))
    _read_all(run)
    for name in ("data.json", "metrics.json", "env.json"):
        path = run.path / name
        whole = path.read_text()
        value = json.loads(whole)
        for place in world.some(_places(value), 20):
            for odd in ODD:
                path.write_text(json.dumps(_with(value, place, odd)))
                found.attempt(f"{name} {place} {odd!r}", partial(_read_all, run))
        path.write_text(whole)
    for name in CUT:
        path = run.path / name
        kept = path.read_bytes()
        cuts = [kept[:n] for n in range(0, len(kept), max(1, len(kept) // (5 if world.short else 100)))]
        for data in [*cuts, *(text.encode("utf-8", "surrogatepass") for text in TEXTS)]:
            path.write_bytes(data)
            found.attempt(f"{name} cut to {len(data)}", partial(_read_all, run))
        path.write_bytes(kept)


def _read_all(run: RunFolder) -> None:
    """Read what the commands read of a run, apart from its weights."""
    RunConfig.read(run.config)
    metrics = run.read_json(run.metrics)
    notes_of(run, run.read_json(run.data).get("audit"))
    issue_count_of(metrics, None)
    _ = read_choice(run).note
    run.read_json(run.env)
    read_split(run.split)
    read_history(run)
    read_sweeps(run)
    run_predictions(run)
    kills.is_over(run)


def resumed(found: Tally, world: World) -> None:
    """Change the journal of a run that is not over, and go on with it: ``train --resume``."""
    path = Path("run") / "checkpoints" / "journal.json"
    value = json.loads((world.run / "checkpoints" / "journal.json").read_text())
    del value["finished"]
    places = [place for place in _places(value) if not (len(place) > 2 and place[-2] in ("losses", "sweeps"))]
    attacks = [(place, odd) for place in places for odd in ODD]
    for place, odd in attacks[:: 200 if world.short else 3]:
        shutil.rmtree("run", ignore_errors=True)
        shutil.copytree(world.run, "run")
        path.write_text(json.dumps(_with(value, place, odd)))
        found.attempt(f"journal {place} {odd!r}", partial(run_training, None, resume="run"))


def _places(value: Any, trail: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [trail, *(place for k, v in pairs for place in _places(v, (*trail, k)))]


def _with(value: Any, trail: tuple[Any, ...], new: Any) -> Any:
    if not trail:
        return new
    changed = copy.deepcopy(value)
    at = changed
    for step in trail[:-1]:
        at = at[step]
    at[trail[-1]] = new
    return changed


MANIFESTS: tuple[dict[str, Any], ...] = (
    {"size": [10**9, 10**9]},
    {"size": [4096, 10**6]},
    {"size": [4096, 4096]},
    {"network": {"arch": "vit_huge_patch14_224", "head": {}}},
    {"network": {"arch": "resnet50", "head": {"lin_ftrs": [10**9]}}},
    {"network": {"arch": "resnet50", "head": {"lin_ftrs": [2**20, 2**20]}}},
    {"network": {"arch": "resnet50", "head": {"levels": "auto", "sets": 10**9}}},
    {"network": {"arch": "resnet50", "head": {"levels": "auto", "views": 10**6}}},
    {"reading": {"function": None, "channels": 10**6, "grey": False}},
    {"classes": [str(i) for i in range(10**6)]},
    {"classes": ["a\0b", "c"]},
    {"thresholds": {"values": [0.5] * 10**6, "goal": "", "n": 1, "exactly_one": []}},
)


def sizes(found: Tally, world: World) -> None:
    """Have small files ask for much: classes, widths, sets of tags, sizes of pictures, rows of a table."""
    run = Path(shutil.copytree(world.run, "run"))
    stem, table_path = run / "model" / "model", run / "predictions.parquet"
    manifest = checkpoint.read_manifest(stem)
    for change in world.some(MANIFESTS, 3):
        checkpoint.save_checkpoint(stem, model=nn.Linear(2, 2), manifest={**manifest, **change})
        found.attempt(f"manifest {str(change)[:60]}", partial(Predictor.load, run))
    table = pq.read_table(table_path)
    _repeat(table, table_path, 6 if world.short else 60)
    found.attempt("a table of rows that are one", partial(read_predictions, table_path))
    header = json.loads(table.schema.metadata[b"onecycle"])
    sets = {"n_tags": 10**9, "sets": [[0]], "offsets": [0.0], "unseen": 0.1}
    for change in ({"sets": sets}, {"n_train": 10**18}, {"classes": ["a"] * 10**6}, {"train_counts": [2**60] * 3}):
        said = {b"onecycle": json.dumps({**header, **change}).encode()}
        pq.write_table(table.replace_schema_metadata(said), table_path)
        found.attempt(f"header {str(change)[:60]}", partial(read_predictions, table_path))


def _repeat(table: pa.Table, path: Path, times: int) -> None:
    """Write a table of 100,000 times so many rows that are all the first one, which packs to nothing."""
    columns = {name: pa.repeat(table[name][0], 10**5) for name in table.column_names}
    many = pa.table(columns, schema=table.schema)
    with pq.ParquetWriter(path, table.schema) as out:
        for _ in range(times):
            out.write_table(many)


# --- archives, servers, pictures, tables -----------------------------------------------------------------------------


def archives(found: Tally, world: World) -> None:
    """Unpack archives that lead out, link, repeat names, or unfold to far more than they are."""
    inside, outside = Path("in"), Path(os.path.abspath("out"))
    outside.mkdir()
    inside.mkdir()
    (outside / "mine").write_bytes(b"mine")
    Path("file.archive").write_bytes(b"")
    around = _names(Path())
    for i, (name, data) in enumerate((hostile.tars(outside) | hostile.zips()).items()):
        for cut in (len(data), *(() if world.short else (len(data) // 2, len(data) - 1))):
            Path("file.archive").write_bytes(data[:cut])
            found.attempt(f"{name}, {cut} bytes", partial(unpack, "file.archive", inside / f"{i}_{cut}"))
            found.outside += (outside / "mine").read_bytes() != b"mine" or _names(Path()) != around
            found.outside += sum(p.is_symlink() or not (p.is_file() or p.is_dir()) for p in inside.rglob("*"))
            shutil.rmtree(inside / f"{i}_{cut}", ignore_errors=True)
            found.outside += any(inside.iterdir())  # beside where it belongs, or left over


def _names(folder: Path) -> set[str]:
    """Return what lies in a folder, apart from what is unpacked in ``in``."""
    return {str(p) for p in folder.rglob("*") if p.parts[0] != "in"}


def servers(found: Tally, world: World) -> None:
    """Fetch from servers that never end, drip, lie about the length, or say nothing sensible."""
    downloads._WAITS_S, downloads._TIMEOUTS_S, downloads._WATCHED_S = (0.01, 0.01), (0.5, 0.5), 1.0
    for i, (name, answer) in enumerate(world.some(hostile.ANSWERS.items(), 4)):
        path = Path(str(i)) / "a"
        path.parent.mkdir()
        with hostile.server(answer) as url:
            found.attempt(name, partial(downloads.download, [f"{url}/a"], path))
        found.outside += path.exists() and b"root:" in path.read_bytes()


def pictures(found: Tally, world: World) -> None:
    """Decode pictures as training, ``predict`` and the audit do: one bad file is one bad file."""
    good, spec = (world.data / "train" / "p00.jpg").read_bytes(), ResizeSpec.make(32)
    made = hostile.pictures(good, cuts=5 if world.short else 60)
    for name, data in world.some(made.items(), 5):
        for suffix in (".png", ".jpg"):
            path = Path(f"picture{suffix}")
            path.write_bytes(data)
            for call in (
                partial(decode_for, str(path), spec),
                partial(decode_rgb, str(path)),
                partial(picture_shape, path),
            ):
                found.attempt(f"{name}, {suffix}", partial(_decoded, call))
            found.attempt(f"{name}, {suffix}, predicted", partial(run_predict, world.run, [path]))


def _decoded(call: Callable[[], object]) -> None:
    """Decode as the store does: what cannot be read is an entry of its list of bad files."""
    try:
        call()
    except UNREADABLE as error:
        raise DataError(str(error)) from error


def tables(found: Tally, world: World) -> None:
    """Look through data sets whose tables and names attack; nothing that acts on a terminal is printed."""
    made = hostile.tables((world.data / "labels.csv").read_text())
    for name, data in world.some(made.items(), 4):
        folder = Path(shutil.copytree(world.data, "set"))
        (folder / "labels.csv").write_bytes(data)
        said = io.StringIO()
        found.attempt(name, partial(_checked, folder, said))
        if "\x1b" in said.getvalue() or "\u202e" in said.getvalue():
            found.foreign.append(f"{name}: a terminal escape was printed")
        shutil.rmtree(folder)


def _checked(folder: Path, said: io.StringIO) -> None:
    with redirect_stdout(said), redirect_stderr(said):
        run_check(
            RunConfig(data=str(folder), csv="labels.csv", suffix=".jpg", folder="train"), LayoutOptions(), size=32
        )


KINDS: tuple[tuple[str, int, Callable[[Tally, World], None]], ...] = (
    ("a stranger's run: links, other names and pipes in place of its files", 700, runs),
    ("a stranger's run: each value of its files changed, each file cut", 300, fields),
    ("a stranger's run: each value of its journal changed, resumed", 700, resumed),
    ("a stranger's model: sizes that ask for memory", 1_300, sizes),
    ("hostile archives", 100, archives),
    ("hostile servers", 100, servers),
    ("hostile pictures: thin, bombs, disguises", 900, pictures),
    ("hostile tables and names", 300, tables),
)
"""Title, bound on memory in MB (of SECURITY.md, or that of the work without an attack), attacks."""

if __name__ == "__main__":
    rows.show(main)
