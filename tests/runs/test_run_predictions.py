"""The table of predictions: what is written comes back, to the bit."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from onecycle.errors import ArgumentError, DataError
from onecycle.evaluation.certainty.decisions import Decisions
from onecycle.evaluation.certainty.thresholds import TagThresholds
from onecycle.evaluation.predictions import Predictions, decide
from onecycle.runs.predictions import read_predictions, write_predictions


def example(*, is_multi: bool, n: int = 6, classes: tuple[str, ...] = ("a", "b c", "ü\x1b[31m")) -> Predictions:
    rng = np.random.default_rng(0)
    c = len(classes)
    targets = rng.integers(0, 2, (n, c)) if is_multi else rng.integers(0, c, n)
    probs, shown = rng.random((n, c), dtype=np.float32), rng.random((n, c), dtype=np.float32)
    return Predictions(
        files=tuple(f"train/p{i}.jpg" for i in range(n)),
        rows=np.arange(n) * 3,
        probs=probs,
        shown=shown,
        decided=decide(probs, is_multi=is_multi),
        targets=targets,
        losses=rng.random(n, dtype=np.float32),
        classes=classes,
        is_multi=is_multi,
        groups=np.arange(n) // 2,
    )


def assert_same(a: Predictions, b: Predictions) -> None:
    for field in dataclasses.fields(Predictions):
        one, two = getattr(a, field.name), getattr(b, field.name)
        if isinstance(one, np.ndarray):
            assert one.dtype == two.dtype, field.name
            assert np.array_equal(one, two), field.name
        else:
            assert one == two, field.name


@pytest.mark.parametrize("is_multi", [False, True])
def test_the_table_comes_back(tmp_path, is_multi):
    told = example(is_multi=is_multi)
    write_predictions(told, tmp_path / "p.parquet")
    assert_same(told, read_predictions(tmp_path / "p.parquet"))


@pytest.mark.parametrize("is_multi", [False, True])
def test_what_is_left_out_stays_out(tmp_path, is_multi):
    told = dataclasses.replace(example(is_multi=is_multi), shown=None, groups=None)
    write_predictions(told, tmp_path / "p.parquet")
    found = read_predictions(tmp_path / "p.parquet")
    assert found.shown is None
    assert found.groups is None


def test_decisions_come_back(tmp_path):
    told = dataclasses.replace(example(is_multi=True), decided=np.ones((6, 3), dtype=np.int64))
    write_predictions(told, tmp_path / "p.parquet")
    assert read_predictions(tmp_path / "p.parquet").decided.all()


def test_without_decisions_the_most_probable_is_predicted():
    single, multi = example(is_multi=False), example(is_multi=True)
    assert np.array_equal(single.decided, single.probs.argmax(1))
    assert np.array_equal(multi.decided, multi.probs >= 0.5)


def test_other_tools_read_it(tmp_path):
    told = example(is_multi=True)
    write_predictions(told, tmp_path / "p.parquet")
    frame = pd.read_parquet(tmp_path / "p.parquet")
    assert list(frame.columns[:6]) == ["file", "row", "truth", "predicted", "loss", "group"]
    assert list(frame["truth"][0]) == [c for c, t in zip(told.classes, told.targets[0], strict=True) if t]
    assert np.array_equal(frame["p b c"], told.probs[:, 1])


def test_nobody_and_many_classes(tmp_path):
    write_predictions(example(is_multi=True, n=0), tmp_path / "none.parquet")
    assert len(read_predictions(tmp_path / "none.parquet")) == 0
    many = example(is_multi=False, classes=tuple(f"class {i}" for i in range(500)))
    write_predictions(many, tmp_path / "many.parquet")
    assert_same(many, read_predictions(tmp_path / "many.parquet"))


def test_names_that_are_no_unicode_are_written(tmp_path):
    told = example(is_multi=False)
    odd = dataclasses.replace(told, files=("b\udcff.jpg", *told.files[1:]))
    write_predictions(odd, tmp_path / "p.parquet")
    assert read_predictions(tmp_path / "p.parquet").files[0] == "b\\udcff.jpg"


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ArgumentError, match=r"need losses of shape \(6,\); received \(5,\)"):
        dataclasses.replace(example(is_multi=False), losses=np.zeros(5, dtype=np.float32))
    with pytest.raises(ArgumentError, match="need targets"):
        dataclasses.replace(example(is_multi=True), targets=np.zeros(6, dtype=np.int64))
    with pytest.raises(ArgumentError, match="one name"):
        dataclasses.replace(example(is_multi=False), classes=("a", "a", "b"))


def test_other_files_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"there is no .*p\.parquet"):
        read_predictions(tmp_path / "p.parquet")
    (tmp_path / "p.parquet").write_bytes(b"PAR1 but no table")
    with pytest.raises(DataError, match="damaged"):
        read_predictions(tmp_path / "p.parquet")
    pd.DataFrame({"file": ["a"]}).to_parquet(tmp_path / "other.parquet")
    with pytest.raises(DataError, match="not one of predictions"):
        read_predictions(tmp_path / "other.parquet")


def test_thresholds_held_out_decisions_and_shares_come_back(tmp_path):
    chosen = TagThresholds((0.2, 0.5, 0.7), "sample-F2", 6, ((0, 1),), "per tag")
    told = dataclasses.replace(
        example(is_multi=True), decisions=Decisions(thresholds=chosen), held_out=np.eye(6, 3, dtype=np.int64),
        train_counts=np.array([4, 0, 9]), n_train=11, picked_of=7,
    )  # fmt: skip
    write_predictions(told, tmp_path / "p.parquet")
    assert_same(told, read_predictions(tmp_path / "p.parquet"))
