"""Single labels that are strings of tags, as ``clear primary road``: found by what the strings are made of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from onecycle.data.labels.items import Label, split_tags
from onecycle.text import option


@dataclass(frozen=True)
class TagListFinding:
    """Why single labels are probably lists of tags."""

    delimiter: str
    n_strings: int  # different labels
    n_tags: int  # that they are made of
    n_once: int  # labels that occur once

    def message(self) -> str:
        """Say what was seen and which argument to pass."""
        return (
            f"the labels appear to be lists of tags: {self.n_strings} different label strings are made of "
            f"{self.n_tags} tags separated by {self.delimiter!r}, and {self.n_once} of the strings occur once. "
            f"Training goes on as asked, with {self.n_strings} classes; to train on the {self.n_tags} tags, "
            f"pass {option('label_delim', self.delimiter)}"
        )


TAG_DELIMITERS = (";", "|", ",", "/", "+", "&", " ")
"""What may stand between tags; blanks come last, as they stand beside the others, too."""


def are_words(tags: Iterable[object]) -> bool:
    """Say whether each tag has a letter or digit: a sign alone stands between tags."""
    return all(any(c.isalnum() for c in str(tag)) for tag in tags)


def find_tag_lists(labels: Iterable[object]) -> TagListFinding | None:
    """Look for labels such as ``"clear primary road"``: many strings made of few, often repeated parts.

    Returns the finding for the delimiter with the fewest tags, or None when labels look atomic.
    """
    counts = Counter(v for v in labels if isinstance(v, str))
    findings = [f for d in TAG_DELIMITERS if (f := _tag_lists_by(counts, d)) is not None]
    return min(findings, key=lambda f: f.n_tags, default=None)


def tags_of_strings(classes: Sequence[Label]) -> np.ndarray | None:
    """Return which tags each class is made of, float32 0/1 ``(C, T)``; None where classes are no strings of tags."""
    finding = find_tag_lists(classes)
    if finding is None:
        return None
    rows = [set(split_tags(str(c), finding.delimiter)) for c in classes]
    tags = sorted(set().union(*rows))
    return np.array([[tag in row for tag in tags] for row in rows], dtype=np.float32)


def _tag_lists_by(counts: Counter[str], delimiter: str) -> TagListFinding | None:
    rows = [split_tags(label, delimiter) for label in counts]
    compound = sum(len(tags) > 1 for tags in rows)
    tags = {t for row in rows for t in row}
    # Ten strings of which most are compound, from at most half as many parts: names of several words fail this,
    # since their words are mostly their own ("golden retriever", "great pyrenees").
    if len(counts) < 10 or compound < 0.6 * len(counts) or len(tags) > 0.5 * len(counts) or not are_words(tags):
        return None
    return TagListFinding(delimiter, len(counts), len(tags), sum(n == 1 for n in counts.values()))
