"""Runs that the tests of the commands share: made once, only read."""

from __future__ import annotations

import pytest
from run_toys import ToyRun, make_run


@pytest.fixture(scope="session")
def class_run(tmp_path_factory, colour_path) -> ToyRun:
    """Three colours, one class a picture."""
    return make_run(tmp_path_factory.mktemp("class") / "runs", colour_path)


@pytest.fixture(scope="session")
def tag_run(tmp_path_factory, colour_path) -> ToyRun:
    """A colour, and for half of the pictures "even": tags, with chosen thresholds."""
    return make_run(tmp_path_factory.mktemp("tags") / "runs", colour_path, csv="tags.csv", label_delim=" ")
