"""How often each class or tag occurs in each part of the data, and how uneven that is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from onecycle.data.labels.items import Label, Labels
from onecycle.data.labels.splits import Split
from onecycle.text import aligned, label_words

_SHOWN = 40  # classes in the printed table: the most frequent and the rarest
_NAME_WIDTH = 32


@dataclass(frozen=True)
class Prevalence:
    """Counts of each class in training and validation; ``str()`` is a table."""

    classes: tuple[Label, ...]  # names, length C
    is_multi: bool  # whether a picture can have several tags; shares then do not add up to 1
    train: np.ndarray  # int64 (C,), pictures with each class
    valid: np.ndarray
    n_train: int  # pictures
    n_valid: int

    @property
    def train_share(self) -> np.ndarray:
        """Share of the training pictures that have each class, float64 ``(C,)``."""
        return self.train / max(self.n_train, 1)

    @property
    def valid_share(self) -> np.ndarray:
        """Share of the validation pictures that have each class, float64 ``(C,)``; zeros where there are none."""
        return self.valid / max(self.n_valid, 1)

    @property
    def imbalance_ratio(self) -> float:
        """How many times more training pictures the most frequent class has than the rarest that occurs at all."""
        present = self.train[self.train > 0]
        return float(present.max() / present.min()) if len(present) else 1.0

    @property
    def order(self) -> np.ndarray:
        """Class indices from frequent to rare in training, equal ones by name."""
        return np.argsort(-self.train, kind="stable")

    def to_frame(self) -> pd.DataFrame:
        """Return one row a class, frequent ones first: class, train, train_share, valid, valid_share."""
        columns = {
            "class": list(self.classes),
            "train": self.train,
            "train_share": self.train_share,
            "valid": self.valid,
            "valid_share": self.valid_share,
        }
        return pd.DataFrame(columns).iloc[self.order].reset_index(drop=True)

    def __str__(self) -> str:
        kind = label_words(is_multi=self.is_multi).many
        width = max(len(kind), min(_NAME_WIDTH, max(len(str(c)) for c in self.classes)))
        order = self.order.tolist()
        left_out = len(order) - _SHOWN
        listed = order if left_out <= 0 else [*order[: _SHOWN // 2], *order[-_SHOWN // 2 :]]
        columns = (self.train, self.train_share, self.valid, self.valid_share)
        rows = []
        for c in listed:
            name = " ".join(str(self.classes[c]).split())
            name = name if len(name) <= width else f"{name[: width - 1]}…"
            rows.append((name, *(f"{v[c]:.1%}" if v.dtype == float else f"{v[c]:,}" for v in columns)))
        lines = aligned([(kind, "train", "share", "valid", "share"), *rows], "<>", least=(width, 8, 6, 8, 6))
        if left_out > 0:
            lines.insert(1 + _SHOWN // 2, f"… {left_out} more")
        return "\n".join([*lines, *self._summary(kind)])

    def _summary(self, kind: str) -> list[str]:
        lines = [
            f"{self.n_train:,} pictures train, {self.n_valid:,} validate; the most frequent of the {kind} has",
            f"{self.imbalance_ratio:,.1f} times as many training pictures as the rarest.",
        ]
        never = int((self.train == 0).sum())
        unmeasured = int(((self.train > 0) & (self.valid == 0)).sum())
        if never:
            lines.append(f"{never} of the {kind} never occur in training, so they cannot be learned.")
        if unmeasured and self.n_valid:
            lines.append(f"{unmeasured} of the {kind} never occur in validation, so nothing measures them.")
        return lines


def prevalence(labels: Labels, split: Split) -> Prevalence:
    """Count each class in the two parts of a split."""
    return Prevalence(
        classes=tuple(labels.classes),
        is_multi=labels.is_multi,
        train=labels.counts(split.train),
        valid=labels.counts(split.valid),
        n_train=len(split.train),
        n_valid=len(split.valid),
    )
