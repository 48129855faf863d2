"""Requests a second of ``onecycle serve`` on loopback, at 1, 8 and 32 clients, against the model alone; in turn.

python benchmarks/serve.py --exported FOLDER --pictures FOLDER [--rounds 3] [--requests 400]
python benchmarks/serve.py --exported FOLDER --pictures FOLDER --minutes 10

The model alone is the exported folder's own ``predict.py`` over the same files in one process, decoding included, by
batches of 32. The clients are threads of one other process, each with one connection, one picture a request; where the
machine has two cores, they take their share of them.

With --minutes it is the server's memory that is measured, while 8 clients ask so long: whole pictures, each twentieth
cut off, and a heat map in each 160 requests.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path

import numpy as np
from harness import report

CLIENTS = (1, 8, 32)
ALONE = """
import sys, time
from onecycle.deploy.portable.predict import Model
model, files = Model(sys.argv[1]), sys.argv[2:]
list(model.predict(files[:32]))
start = time.perf_counter()
n = sum("labels" in answer for answer in model.predict(files))
print(n / (time.perf_counter() - start))
"""


def asked(port: int, bodies: Sequence[bytes]) -> list[tuple[float, int]]:
    """Send bodies over one connection; returns seconds and status of each."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    results = []
    for body in bodies:
        start = time.perf_counter()
        connection.request("POST", "/predict", body, {"Content-Type": "application/octet-stream"})
        reply = connection.getresponse()
        reply.read()
        results.append((time.perf_counter() - start, reply.status))
    connection.close()
    return results


def load(port: int, bodies: Sequence[bytes], clients: int) -> tuple[float, np.ndarray, Counter[int]]:
    """Return requests a second, the seconds of each, and how often each status came."""
    start = time.perf_counter()
    with ThreadPoolExecutor(clients) as threads:
        each = list(threads.map(asked, [port] * clients, [bodies[i::clients] for i in range(clients)]))
    took = time.perf_counter() - start
    results = [result for one in each for result in one]
    return len(bodies) / took, np.array([s for s, _ in results]), Counter(status for _, status in results)


def resident(pid: int) -> float:
    """Return a process's resident memory in MB."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def over_time(port: int, pid: int, bodies: Sequence[bytes], minutes: float) -> None:
    """Ask for so long, and write how the server's memory went."""
    label = sorted(model_of(port)["classes"])[0]
    some = [body[: len(body) // 2] if i % 20 == 19 else body for i, body in enumerate(bodies[:160])]
    start, memory, statuses = time.perf_counter(), [resident(pid)], Counter[int]()
    while len(memory) < 4 or time.perf_counter() - start < 60 * minutes:
        _, _, seen = load(port, some, 8)
        connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.request("POST", f"/predict?heatmap={label}", bodies[0])
        statuses += seen + Counter([connection.getresponse().status])
        connection.close()
        memory.append(resident(pid))
    thirds = np.array_split(np.array(memory[1:]), 3)
    rows = [{"side": "server", "measure": "resident MB before the first request", **report.summary(memory[:1])}]
    for name, values in zip(("first", "second", "last"), thirds, strict=True):
        rows.append({"side": "server", "measure": f"resident MB, {name} third", **report.summary(values.tolist())})
    took = (time.perf_counter() - start) / 60
    report.write("serve_memory", f"{took:.1f} minutes, {said(statuses)}. {__doc__}", rows)


def model_of(port: int) -> dict[str, list[str]]:
    """Return what the server says of its model."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", "/model")
    about: dict[str, list[str]] = json.loads(connection.getresponse().read())
    connection.close()
    return about


def said(statuses: Counter[int]) -> str:
    """Return a line on what was answered."""
    how_often = ", ".join(f"{n:,} × {s}" for s, n in sorted(statuses.items()))
    return f"{sum(statuses.values()):,} requests: {how_often}. Load of the machine (1 min): {os.getloadavg()[0]:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exported", type=Path, required=True)
    parser.add_argument("--pictures", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=400)
    parser.add_argument("--minutes", type=float, default=0.0)
    a = parser.parse_args()
    files = [str(p) for p in islice(cycle(sorted(a.pictures.glob("*.jpg"))), a.requests)]
    bodies = [Path(f).read_bytes() for f in files]
    words = [sys.executable, "-m", "onecycle", "serve", str(a.exported), "--port", "0", "--json"]
    rates: dict[str, list[float]] = {}
    seconds: dict[int, list[np.ndarray]] = {c: [] for c in CLIENTS}
    statuses: Counter[int] = Counter()
    memory = []
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        port = int(json.loads(server.stdout.readline())["url"].rsplit(":", 1)[1].strip("/"))
        if a.minutes:
            try:
                over_time(port, server.pid, bodies, a.minutes)
            finally:
                server.terminate()
            return
        load(port, bodies[:64], 8)
        for _ in range(a.rounds):
            ran = subprocess.run(
                [sys.executable, "-c", ALONE, str(a.exported), *files], capture_output=True, text=True, check=True
            )
            rates.setdefault("alone", []).append(float(ran.stdout))
            for clients in CLIENTS:
                rate, took, seen = load(port, bodies, clients)
                rates.setdefault(f"{clients} clients", []).append(rate)
                seconds[clients].append(took)
                statuses += seen
                memory.append(resident(server.pid))
        server.terminate()
        assert server.wait(30) == 0
    rows = [{"side": side, "measure": "pictures/s", **report.summary(values)} for side, values in rates.items()]
    for clients in CLIENTS:
        ratio = np.array(rates[f"{clients} clients"]) / np.array(rates["alone"])
        rows.append({"side": f"{clients} clients", "measure": "rate / alone", **report.summary(ratio.tolist())})
        for share in (50, 99):
            values = [float(np.percentile(took, share)) for took in seconds[clients]]
            rows.append({"side": f"{clients} clients", "measure": f"p{share}, seconds", **report.summary(values)})
    rows.append({"side": "server", "measure": "resident MB", **report.summary(memory)})
    report.write("serve", f"{said(statuses)}. {__doc__}", rows)


if __name__ == "__main__":
    main()
