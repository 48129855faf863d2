"""Scaling with the number of rows: the table, the first batch, memory and an epoch's own work.

The pictures are tiny and few; hard links give each row a file name of its own. Each measurement is a process.

    python benchmarks/scaling.py [--rounds 3] [--rows 1000 10000 60000 600000] [--decode-rounds 1]
"""

from __future__ import annotations

import argparse
import csv
import os
from pathlib import Path

import numpy as np
from harness import report, sides
from PIL import Image

LINKS_PER_FILE = 20_000  # file systems allow some 65,000 names a file
ROWS_PER_FOLDER = 1000
WORDS = {
    "bunch_s": "seconds to read, label, split and check the table",
    "first_batch_s": "seconds to the first batch, table included",
    "order_s": "seconds an epoch for order and targets alone",
    "decode_s": "seconds to decode and store all pictures once",
    "epoch_s": "seconds an epoch of batches from the store",
    "rss_mb": "MB more than before the table, at the first batch",
    "pss": "peak MB of the process",
    "bytes_a_row": "bytes a row that the bunch keeps (tracemalloc)",
}
Found = dict[str, dict[int, list[float]]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, nargs="+", default=[1000, 10_000, 60_000, 600_000])
    parser.add_argument("--decode-rounds", type=int, default=1, help="rounds that decode more than 60,000 rows")
    parser.add_argument("--size", type=int, default=8)
    parser.add_argument("--bs", type=int, default=64)
    args = parser.parse_args()
    found: Found = {key: {} for key in WORDS}
    with sides.workplace() as folder:
        make_files(folder, max(args.rows), args.size)
        args.path_length = len(str(folder / "img" / f"{name(0)}.png"))
        for n in (10, *args.rows):
            make_table(folder, n)
        for round_ in range(args.rounds):
            for n in args.rows:
                decode = n <= 60_000 or round_ < args.decode_rounds
                for key, value in measure(args, folder, n, decode=decode).items():
                    found[key].setdefault(n, []).append(value)
                print(
                    f"round {round_}: {n:,} rows: { ({k: found[k][n][-1] for k in found if n in found[k]}) }",
                    flush=True,
                )
                write(args, found)


def measure(args: argparse.Namespace, folder: Path, n: int, *, decode: bool) -> dict[str, float]:
    """All measures of one table, by the names in ``WORDS``."""
    job = {"folder": str(folder), "csv": table_name(n), "small_csv": table_name(10), "bs": args.bs}
    job |= {"size": args.size, "decode": decode}
    side = sides.own("onecycle")
    run = sides.run(side, "rows", job, folder, sample_memory=True)
    values = {key: run.last(key) for key in WORDS if run.last(key) is not None}
    found = sides.run(side, "table", job, folder)
    return {**values, "pss": run.memory["pss"], "bytes_a_row": found.last("table_bytes") / n}


def make_files(folder: Path, n: int, size: int) -> None:
    """Write a few pictures and link them under as many names as there are rows."""
    rng = np.random.default_rng(0)
    sources = [folder / f"source{i}.png" for i in range(n // LINKS_PER_FILE + 1)]
    for source in sources:
        Image.fromarray(rng.integers(0, 256, (size, size, 3), dtype=np.uint8)).save(source)
    for i in range(n):
        path = folder / "img" / f"{name(i)}.png"
        if i % ROWS_PER_FOLDER == 0:
            path.parent.mkdir(parents=True)
        os.link(sources[i // LINKS_PER_FILE], path)


def make_table(folder: Path, n: int) -> None:
    """Write the table of the first ``n`` rows: ten classes in turn."""
    with open(folder / table_name(n), "w", newline="") as file:
        csv.writer(file).writerows([("name", "label"), *((name(i), f"class{i % 10}") for i in range(n))])


def table_name(n: int) -> str:
    return f"labels_{n}.csv"


def name(i: int) -> str:
    return f"{i // ROWS_PER_FOLDER:04d}/{i:07d}"


def slope(by_n: dict[int, list[float]]) -> float:
    """Slope of the medians in logarithms: 1 is linear; a constant part makes it less."""
    ns = sorted(by_n)
    medians = [max(report.summary(by_n[n])["median"], 1e-9) for n in ns]
    return float(np.polyfit(np.log(ns), np.log(medians), 1)[0])


def last_slope(by_n: dict[int, list[float]]) -> float:
    """The same between the two largest tables alone, where constant parts matter least."""
    return slope({n: by_n[n] for n in sorted(by_n)[-2:]})


def write(args: argparse.Namespace, found: Found) -> None:
    """Write what has been measured so far."""
    rows: list[dict[str, object]] = [
        {"measure": WORDS[key], "rows": n, **report.summary(values)}
        for key, by_n in found.items()
        for n, values in sorted(by_n.items())
    ]
    for key, by_n in found.items():
        if len(by_n) > 1:
            text = f"log-log slope: {WORDS[key]}"
            rows.append({"measure": text, "rows": "all", "median": slope(by_n)})
            rows.append({"measure": text, "rows": "two largest", "median": last_slope(by_n)})
    method = f"""
        ImageDataBunch.from_csv on tables of several lengths, one label a row out of ten, pictures of {args.size} ×
        {args.size} px under a name of their own each (hard links to few files), batch {args.bs}, an empty cache, a
        process a measurement. Times are within the process, imports not counted. The first batch is decoded without
        preparing the others. Order and targets: the positions of a shuffled epoch and each batch's targets, no pixels.
        Decoding all pictures runs in every round up to 60,000 rows and in {args.decode_rounds} above. Bytes a row:
        what the bunch keeps of Python's and numpy's allocations after another, small table was read; a path has
        {args.path_length} characters. Memory is Pss, sampled 20 times a second.
    """
    report.write("scaling", method, rows)


if __name__ == "__main__":
    main()
