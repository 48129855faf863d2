"""The reference's multi-label splits: for ten seeds the rows that validate, as JSON.

python stratification_side.py TARGETS.npy
"""

from __future__ import annotations

import json
import sys

import numpy as np
from iterstrat.ml_stratifiers import MultilabelStratifiedShuffleSplit


def main() -> None:
    targets = np.load(sys.argv[1])
    found = []
    for seed in range(10):
        splitter = MultilabelStratifiedShuffleSplit(n_splits=1, test_size=0.2, random_state=seed)
        _, valid = next(splitter.split(np.zeros(len(targets)), targets.astype(int)))
        found.append(valid.tolist())
    print(json.dumps(found))


if __name__ == "__main__":
    main()
