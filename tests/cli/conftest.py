"""Runs that the tests of the commands share: made once, only read."""

from __future__ import annotations

import pytest
from run_toys import ToyRun, make_run


@pytest.fixture(scope="session")
def class_run(tmp_path_factory, colour_path, _session_home) -> ToyRun:
    """Three colours, one class a picture."""
    return make_run(tmp_path_factory.mktemp("class") / "runs", colour_path)


@pytest.fixture(scope="session")
def tag_run(tmp_path_factory, colour_path, _session_home) -> ToyRun:
    """A colour, and for half of the pictures "even": tags, with chosen thresholds."""
    return make_run(tmp_path_factory.mktemp("tags") / "runs", colour_path, csv="tags.csv", label_delim=" ")


@pytest.fixture(scope="session")
def _session_home(tmp_path_factory):
    """Keep what the session's fixtures decode out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ONECYCLE_HOME", str(tmp_path_factory.mktemp("session_home")))
        yield
