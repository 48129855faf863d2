"""Every target of the fuzzing, in the order of their rooms."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))  # the tests' own toys, where this is not run by pytest

import fuzz_archives
import fuzz_models
import fuzz_pictures
import fuzz_runs
import fuzz_served
import fuzz_tables
from attack import Target

TARGETS: tuple[Target, ...] = tuple(
    target
    for room in (fuzz_pictures, fuzz_tables, fuzz_archives, fuzz_runs, fuzz_models, fuzz_served)
    for target in room.TARGETS
)
