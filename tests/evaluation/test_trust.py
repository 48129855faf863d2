"""What an interpretation says about how far it can be trusted."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from onecycle.errors import ArgumentError
from onecycle.evaluation.certainty.intervals import sample_fbeta
from onecycle.evaluation.interpretation import ClassificationInterpretation


class Part(Enum):
    Train = 1
    Valid = 2


@dataclass
class FakeLabels:
    targets: np.ndarray

    def counts(self, rows: np.ndarray) -> np.ndarray:
        chosen = self.targets[rows]
        return chosen.sum(axis=0) if chosen.ndim == 2 else np.bincount(chosen, minlength=3)


def pictures(rows: np.ndarray) -> SimpleNamespace:
    return SimpleNamespace(rows=rows, items=[f"p{row}.jpg" for row in rows])


@dataclass
class FakeLearner:
    """A learner whose first half trains and whose second half was predicted."""

    probs: np.ndarray
    targets: np.ndarray
    classes: list[str]
    data: Any = field(init=False)
    model: Any = None

    def __post_init__(self) -> None:
        half = len(self.targets) // 2
        split = SimpleNamespace(train=np.arange(half), valid=np.arange(half, 2 * half))
        is_multi = self.targets.ndim == 2
        self.data = SimpleNamespace(
            classes=self.classes,
            is_multi=is_multi,
            labels=FakeLabels(self.targets),
            split=split,
            path=Path(),
            valid_ds=pictures(split.valid),
            dataset=lambda part: pictures(split.train if part is Part.Train else split.valid),
        )

    def interpret(self, part: Part | None = None) -> ClassificationInterpretation:
        rows = self.data.split.train if part is Part.Train else self.data.split.valid
        probs, targets = torch.from_numpy(self.probs[rows]), torch.from_numpy(self.targets[rows])
        return ClassificationInterpretation(self, probs, targets, torch.zeros(len(rows)), part)


@pytest.fixture
def single() -> FakeLearner:
    rng = np.random.default_rng(0)
    targets = rng.choice(3, 600, p=[0.6, 0.3, 0.1])
    z = 3 * (1.2 * np.eye(3)[targets] + rng.normal(0, 1, (600, 3)))  # three times too sure
    return FakeLearner(np.exp(z) / np.exp(z).sum(axis=1, keepdims=True), targets, ["a", "b", "c"])


@pytest.fixture
def tags() -> FakeLearner:
    rng = np.random.default_rng(0)
    kinds = np.eye(3)[rng.choice(3, 800, p=[0.6, 0.3, 0.1])]
    targets = np.concatenate([kinds, rng.random((800, 1)) < 0.4], axis=1)
    z = 3 * targets - 3 + rng.normal(0, 1, targets.shape)
    return FakeLearner(1 / (1 + np.exp(-z)), targets, ["clear", "haze", "cloudy", "road"])


def test_metrics_come_with_intervals_and_the_commonest_class(single):
    found = single.interpret().metrics()
    assert [e.name for e in found] == ["accuracy", "error rate"]
    right = (single.probs[300:].argmax(axis=1) == single.targets[300:]).mean()
    assert found[0].value == pytest.approx(right)
    assert found[0].low < right < found[0].high
    assert found[0].baseline == pytest.approx((single.targets[300:] == 0).mean())
    assert found[0].n == 300


def test_metrics_of_tags_and_those_asked_for(tags):
    found = tags.interpret().metrics()
    assert [e.name for e in found] == ["sample-F2 at 0.2", "micro-F1 at 0.5", "macro-AP"]
    assert all(e.baseline < e.low for e in found)
    own = tags.interpret().metrics([sample_fbeta(1, 0.4)], groups=np.arange(400) // 4)
    assert [e.name for e in own] == ["sample-F1 at 0.4"]


def test_the_summary_says_on_what_it_was_measured(single, tags):
    text = single.interpret().summary()
    assert "300 pictures of the validation set" in text
    assert "baseline 0.6" in text
    assert "flatters" not in text
    assert "training set" in single.interpret(Part.Train).summary()
    assert "flatters" in single.interpret(Part.Train).summary()
    grouped = tags.interpret().summary(groups=np.arange(400) // 4)
    assert "100 groups of pictures" in grouped
    assert max(len(line) for t in (text, grouped) for line in t.splitlines()) <= 80


def test_calibration_is_judged_on_held_out_folds(single, tags):
    report = single.interpret().calibration()
    assert report.gain.high < 0
    assert report.calibration.n == 300
    assert tags.interpret().calibration().per_class["tag"].tolist() == tags.classes
    figure = single.interpret().plot_calibration(return_fig=True)
    assert isinstance(figure, Figure)
    assert len(figure.axes) == 2


def test_thresholds_and_constraints_are_by_name(tags):
    found = tags.interpret()
    assert [c.tags for c in found.constraints()] == [("clear", "haze", "cloudy")]
    report = found.choose_thresholds(1, exactly_one=[c.tags for c in found.constraints()])
    assert report.thresholds.exactly_one == ((0, 1, 2),)
    assert report.per_tag["tag"].tolist() == tags.classes
    with pytest.raises(ArgumentError, match="there is no tag 'fog'; the tags are clear, haze"):
        found.choose_thresholds(exactly_one=[["clear", "fog"]])


def test_one_label_has_no_thresholds_and_no_constraints(single):
    with pytest.raises(ArgumentError, match="thresholds are for tags"):
        single.interpret().choose_thresholds()
    with pytest.raises(ArgumentError, match="always exactly one class"):
        single.interpret().constraints()
