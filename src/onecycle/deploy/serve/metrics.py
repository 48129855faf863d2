"""What the server counts, as Prometheus reads it."""

from __future__ import annotations

import resource
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
BATCHES = (1, 2, 4, 8, 16, 32)


class Histogram:
    """Counts of values up to each of several bounds."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds, self.counts, self.total = tuple(bounds), [0] * (len(bounds) + 1), 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def lines(self, name: str) -> Iterator[str]:
        """Give the lines of the format."""
        for bound, n in zip((*self.bounds, "+Inf"), accumulate(self.counts), strict=True):
            yield f'{name}_bucket{{le="{bound}"}} {n}'
        yield f"{name}_sum {self.total:.6f}"
        yield f"{name}_count {sum(self.counts)}"


class Metrics:
    """Counters of one server."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()  # by route and status
        self.pictures: Counter[str] = Counter()  # answered, refused
        self.labels: Counter[str] = Counter()  # how often each class was predicted
        self.seconds, self.batches = Histogram(SECONDS), Histogram(BATCHES)

    def text(self, gauges: Mapping[str, float]) -> str:
        """Return everything in the text format.

        Args:
            gauges: values of this moment, by name without the prefix.

        Source: Prometheus, exposition formats, version 0.0.4.
        """
        lines = ["# TYPE onecycle_requests_total counter"]
        lines += [
            f'onecycle_requests_total{{route="{_quoted(route)}",status="{status}"}} {n}'
            for (route, status), n in self.requests.items()
        ]
        for name, counter, key in (("pictures", self.pictures, "outcome"), ("labels", self.labels, "label")):
            lines.append(f"# TYPE onecycle_{name}_total counter")
            lines += [f'onecycle_{name}_total{{{key}="{_quoted(k)}"}} {n}' for k, n in counter.items()]
        for name, histogram in (("onecycle_request_seconds", self.seconds), ("onecycle_batch_pictures", self.batches)):
            lines += [f"# TYPE {name} histogram", *histogram.lines(name)]
        for name, value in ({"peak_memory_bytes": _peak_bytes()} | dict(gauges)).items():
            lines += [f"# TYPE onecycle_{name} gauge", f"onecycle_{name} {value:g}"]
        return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _peak_bytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0  # kibibytes on Linux
