"""The plan of a batch prediction: which pictures, in which chunks, by which model; it lies in the folder of its parts.

FOLDER/
├── plan.json          the model, the options, digests of both and of the list of pictures
├── pictures.parquet   the list, once and in a fixed order; a group of rows for each chunk
├── parts/             part-00000.parquet and so on, one for each chunk, whole or not there
├── tries/             chunks whose process ended before their part was written
└── manifest.json      once all parts are there: counts, and the digest of each
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, Self

import onecycle
from onecycle.errors import ArgumentError, DataError
from onecycle.files import parquet_bytes, remove_unfinished, short_digest, write_whole
from onecycle.foreign import Closed, Refused, Within, fitted, inside, read_plain, strict_json
from onecycle.text import by_place

PLAN, PICTURES, PARTS, TRIES = "plan.json", "pictures.parquet", "parts", "tries"
CHUNK = 1000
"""Pictures of a chunk, unless another number is asked for."""

MOST_BYTES = 2**26  # of plan.json: 10,000 classes take some 300,000
_PART = re.compile(r"part-([0-9]{5,9})\.parquet")


@dataclass(frozen=True, kw_only=True)
class Plan(Closed):
    """What is predicted, and how."""

    schema_version: Literal[1] = 1
    onecycle: str = onecycle.__version__
    pictures: Annotated[int, Within(1, 2**53)]
    source: str  # SHA-256 of the list of pictures
    base: str  # folder that their names begin in; "" where all begin at the root of the disk
    chunk: Annotated[int, Within(1, 10**6)]  # pictures of each but the last
    model: str  # SHA-256, see ``model_digest``
    kind: Literal["classes", "tags", "numbers"]
    classes: list[str]  # names, in the order of probabilities (or numbers)
    thresh: float | None = None  # from which probability tags are predicted, where the user chose it

    @cached_property
    def digest(self) -> str:
        """What its parts carry, so that those of another plan are not taken for them."""
        return short_digest(asdict(self))


@dataclass(frozen=True)
class BatchPrediction:
    """The folder of a batch prediction, and its plan."""

    folder: Path
    plan: Plan

    @classmethod
    def begun(cls, folder: Path, paths: Sequence[str], wanted: Plan, *, chunk_asked: bool) -> Self:
        """Write a plan, or take the same one that is there.

        Args:
            folder: new, empty, or of an earlier call.
            paths: of the pictures, each once.
            wanted: the plan.
            chunk_asked: whether the user named the size of the chunks; else it is that of the plan that is there.

        Raises:
            ArgumentError: the folder holds something else, or the plan there differs; it is said in what.
            OutputError: it cannot be written.
        """
        if (folder / PLAN).is_file():
            there = cls.open(folder)
            there.check_same(wanted, chunk_asked=chunk_asked)
            remove_unfinished(folder / PARTS)
            return there
        own = {PLAN, PICTURES, PARTS, TRIES}
        others = [p.name for p in folder.iterdir() if p.name not in own and p.name[0] != "."] if folder.exists() else []
        if others:
            raise ArgumentError(
                f"{folder} holds other files, {sorted(others)[0]} say, and is no batch prediction: name a new or empty "
                "folder"
            )
        for name in (PARTS, TRIES):
            (folder / name).mkdir(parents=True, exist_ok=True)
        _write_paths(folder / PICTURES, paths, wanted.chunk)
        write_whole(folder / PLAN, (json.dumps(asdict(wanted), indent=1) + "\n").encode())
        return cls(folder, wanted)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open the folder of a batch prediction that was begun.

        Raises:
            DataError: it has no plan, or a damaged one.
        """
        try:
            value = strict_json(read_plain(inside(folder, PLAN), MOST_BYTES), str(folder / PLAN))
            fitted(Plan, value, str(folder / PLAN))
        except FileNotFoundError:
            raise DataError(
                f"{folder} has no {PLAN}: `onecycle predict RUN PICTURES --out {folder}` writes it"
            ) from None
        except Refused as error:
            raise DataError(f"{error}; remove {folder}, and predict again") from None
        return cls(folder, Plan(**value))

    def check_same(self, wanted: Plan, *, chunk_asked: bool) -> None:
        """Refuse another plan for this folder.

        Raises:
            ArgumentError: the model, the pictures or an option differ.
        """
        there, differ = self.plan, []
        if there.model != wanted.model:
            differ.append("the model is another")
        if (there.source, there.base) != (wanted.source, wanted.base):
            differ.append(f"the pictures are others ({wanted.pictures:,} here, {there.pictures:,} there)")
        if there.thresh != wanted.thresh:
            differ.append(f"{by_place('--thresh', 'thresh')} is {wanted.thresh}, not {there.thresh}")
        if chunk_asked and there.chunk != wanted.chunk:
            differ.append(f"{by_place('--chunk', 'chunk')} is {wanted.chunk}, not {there.chunk}")
        if differ:
            raise ArgumentError(
                f"{self.folder} was begun as another prediction: {', '.join(differ)}; do as then, or name a new folder"
            )

    @property
    def n_chunks(self) -> int:
        """How many chunks, and parts, there are."""
        return -(-self.plan.pictures // self.plan.chunk)

    def size(self, number: int) -> int:
        """Return how many pictures a chunk has."""
        return min(self.plan.chunk, self.plan.pictures - number * self.plan.chunk)

    def part(self, number: int) -> Path:
        """Return the path of a chunk's part."""
        return self.folder / PARTS / f"part-{number:05d}.parquet"

    def tries(self, number: int) -> Path:
        """Return the path of the notes of a chunk's tries."""
        return self.folder / TRIES / f"chunk-{number:05d}.txt"

    def names(self, number: int) -> list[str]:
        """Return the names of a chunk's pictures, as they were listed.

        Raises:
            DataError: the list is damaged.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = self.folder / PICTURES
        try:
            with pq.ParquetFile(path, page_checksum_verification=True) as file:
                column = file.read_row_group(number, columns=["name"]).column("name")
            names = [os.fsdecode(name) for name in column.to_pylist()]
        except (pa.ArrowException, OSError, KeyError) as error:
            raise DataError(f"{path} is damaged ({error}): remove {self.folder}, and predict again") from error
        if len(names) != self.size(number):
            raise DataError(f"{path} is of another plan: remove {self.folder}, and predict again")
        return names

    def path(self, name: str) -> str:
        """Return where a picture lies."""
        return os.path.join(self.plan.base, name)


def chunk_of(part: Path) -> tuple[Path, int]:
    """Return the folder and the number of the chunk that becomes this file.

    Raises:
        ArgumentError: no file of a batch prediction is called so.
    """
    match = _PART.fullmatch(part.name)
    if match is None or part.parent.name != PARTS:
        raise ArgumentError(
            f"a chunk is named by the file that it becomes, FOLDER/{PARTS}/part-00000.parquet say; received {part}"
        )
    return part.parent.parent, int(match[1])


def listed(paths: Sequence[str]) -> tuple[str, str]:
    """Return the SHA-256 of a list of pictures, and the folder that its names begin in."""
    digest, base = hashlib.sha256(), ""
    for path in paths:
        digest.update(os.fsencode(path) + b"\0")
        base = base or ("" if os.path.isabs(path) else os.getcwd())
    return digest.hexdigest(), base


def _write_paths(path: Path, paths: Sequence[str], chunk: int) -> None:
    import pyarrow as pa

    table = pa.table({"name": pa.array(map(os.fsencode, paths), pa.binary(), size=len(paths))})
    write_whole(path, parquet_bytes(table, "zstd", group=chunk))
