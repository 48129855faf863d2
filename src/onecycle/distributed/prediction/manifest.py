"""What a batch prediction holds, summed up over its parts; written beside them once all are there."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from onecycle.distributed.prediction.part import NO_LABEL, PREDICTED, SET_ASIDE, UNREADABLE, Part, read_part
from onecycle.distributed.prediction.plan import PARTS, BatchPrediction
from onecycle.errors import DataWarning, warn
from onecycle.files import write_whole
from onecycle.foreign import Refused

MANIFEST = "manifest.json"
_NAMED = 1000  # pictures that were set aside; all are in the parts


class Totals:
    """Counts over the parts of a batch prediction that are there.

    Args:
        batch: whose; its parts are read and checked. What is damaged is removed, with a warning that names it.
    """

    def __init__(self, batch: BatchPrediction) -> None:
        self.batch = batch
        self.statuses: Counter[str] = Counter()  # pictures by status
        self.labels: Counter[str] = Counter()  # pictures for which each label is predicted; "": no tag
        self.set_aside: list[str] = []  # names of pictures
        self._digests: dict[int, str] = {}  # of the parts, by number
        for number in range(batch.n_chunks):
            try:
                part = read_part(batch, number)
            except Refused as error:
                warn(f"{error}: it is predicted again", DataWarning)
                batch.part(number).unlink(missing_ok=True)
                continue
            if part is not None:
                self.add(part)

    def add(self, part: Part) -> None:
        """Count a part."""
        self._digests[part.number] = part.sha256
        self.statuses += part.statuses
        self.labels += part.labels
        self.set_aside += part.set_aside[: _NAMED - len(self.set_aside)]

    @property
    def missing(self) -> list[int]:
        """Numbers of the chunks without a part, in order."""
        return [n for n in range(self.batch.n_chunks) if n not in self._digests]

    def to_dict(self) -> dict[str, Any]:
        """Return the counts, as JSON can hold them."""
        plan = self.batch.plan
        return {
            "pictures": plan.pictures,
            PREDICTED: self.statuses[PREDICTED],
            UNREADABLE: self.statuses[UNREADABLE],
            "set_aside": self.statuses[SET_ASIDE],
            "set_aside_names": sorted(self.set_aside),
            "labels": {name: n for name, n in sorted(self.labels.items()) if name != NO_LABEL},
            "without_label": self.labels[NO_LABEL],
        }

    def write(self) -> Path:
        """Write the manifest: the plan, the counts, and the SHA-256 of each part. All of them are there."""
        path, batch = self.batch.folder / MANIFEST, self.batch
        parts = {f"{PARTS}/{batch.part(n).name}": self._digests[n] for n in sorted(self._digests)}
        whole = {"plan": asdict(batch.plan), **self.to_dict(), "sha256": parts}
        write_whole(path, (json.dumps(whole, indent=1) + "\n").encode())
        return path
