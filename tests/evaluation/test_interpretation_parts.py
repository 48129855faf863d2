"""An interpretation looked at part by part, with the columns of the user's table."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

from onecycle.errors import ArgumentError
from onecycle.evaluation.interpretation import ClassificationInterpretation

N = 300


def interpretation(is_multi: bool, frame: pd.DataFrame | None) -> ClassificationInterpretation:
    """The last 200 of 300 rows validate; on site B (every other row) the model guesses."""
    rng = np.random.default_rng(0)
    rows = np.arange(100, N)
    bad = rows % 2 == 1
    if is_multi:
        truth = (rng.random((200, 3)) < [0.7, 0.4, 0.5]).astype(np.float32)
        truth[:, 0] = np.maximum(truth[:, 0], truth.sum(1) == 0)
        probs = np.where(truth > 0, 0.9, 0.1)
    else:
        truth = rng.integers(0, 3, 200)
        probs = np.eye(3)[truth] * 0.8 + 0.05
    probs[bad] = rng.random((bad.sum(), 3))
    data = SimpleNamespace(
        classes=["road", "water", "haze"],
        is_multi=is_multi,
        lists=SimpleNamespace(pictures=SimpleNamespace(frame=frame)),
        labels=[None] * N,
        split=SimpleNamespace(groups=None),
        valid_ds=SimpleNamespace(rows=rows),
        dataset=lambda ds_type: SimpleNamespace(rows=rows),
    )
    learn = SimpleNamespace(data=data, model=None)
    return ClassificationInterpretation(learn, torch.from_numpy(probs), torch.from_numpy(truth), torch.zeros(200), None)


@pytest.mark.parametrize("is_multi", [False, True])
def test_the_columns_of_the_table_are_looked_at_by_default(is_multi):
    frame = pd.DataFrame({"site": np.where(np.arange(N) % 2 == 1, "B", "A"), "row": np.arange(N)})
    report = interpretation(is_multi, frame).slices()
    assert (report.worse[0].column, report.worse[0].value) == ("site", "B")
    assert report.worse[0].n == 100
    columns = {s.column for s in report.slices}
    assert columns >= ({"tag road", "tag water", "tag haze"} if is_multi else {"class"})


@pytest.mark.parametrize("is_multi", [False, True])
def test_evidence_for_what_was_said_and_for_what_is_true(is_multi, monkeypatch):
    found = interpretation(is_multi, None)
    asked = []
    monkeypatch.setattr(found, "grad_cam", lambda index, c: asked.append(c) or np.ones((2, 2), dtype=np.float32))
    monkeypatch.setattr(found, "picture", lambda index: np.zeros((8, 8, 3)))
    said = found.preds.argmax(1)
    wrong = 1 if is_multi else int((said != found.y_true).nonzero()[0])
    figure = found.plot_grad_cam(wrong, return_fig=True)
    titles = [ax.get_title() for ax in figure.axes if ax.get_title()]
    assert titles[0] == "picture"
    assert len(titles) == 1 + len(asked)
    if is_multi:
        assert all("true" in title for title in titles[1:])
    else:
        assert asked == [int(said[wrong]), int(found.y_true[wrong])]
        assert "predicted: " in titles[1]
        assert titles[2].startswith("true: ")
        right = int((said == found.y_true).nonzero()[0])
        found.plot_grad_cam(right)
        assert asked[2:] == [int(said[right])]


def test_columns_for_this_part_or_for_the_whole_table():
    found = interpretation(False, None)
    site = np.where(np.arange(N) % 2 == 1, "B", "A")
    for given in (pd.DataFrame({"site": site}), {"site": site[100:].tolist()}):
        assert [s.value for s in found.slices(given).worse] == ["B"]
    frame = pd.DataFrame({"site": site, "row": np.arange(N)})
    for name in ("site", ["site"]):
        assert [s.value for s in interpretation(False, frame).slices(name).worse] == ["B"]
    with pytest.raises(ArgumentError, match="no column 'nope' to look at; it has 'site', 'row'"):
        interpretation(False, frame).slices("nope")
    with pytest.raises(ArgumentError, match="'site' has 7 values; expected one for each of the 200 pictures"):
        found.slices({"site": ["A"] * 7})
    assert {s.column for s in found.slices().slices} == {"class"}


def test_tags_one_by_one():
    found = interpretation(True, None)
    assert [c.name for c in found.tag_curves()] == ["road", "water", "haze"]
    table = found.co_occurrence()
    assert table.to_numpy().trace() == ((found.preds >= 0.5) & (found.y_true > 0)).sum()
    assert all(given > both for _, _, given, both in found.unfounded_pairs())
    assert isinstance(found.plot_tag_curves(return_fig=True), Figure)
    assert found.plot_tag_curves() is None
    for call in ("tag_curves", "co_occurrence", "unfounded_pairs"):
        with pytest.raises(ArgumentError, match=call):
            getattr(interpretation(False, None), call)()
