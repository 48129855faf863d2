"""The label check from end to end: planted errors are found, written, edited and read back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from onecycle.data.bunch import ImageDataBunch
from onecycle.data.labels.items import Labels
from onecycle.errors import ArgumentError
from onecycle.learner import features
from onecycle.learner.cnn import cnn_learner
from onecycle.learner.label_issues import taught
from onecycle.learner.learner import Learner

COLOURS = ("blue", "green", "red")


def learner(source: Path, *, flips: int = 5, multi: bool = False, **options: Any) -> tuple[Learner, set[str]]:
    """Return a learner on pictures of which some have a wrong colour, and the names of those."""
    frame = pd.read_csv(source / ("tags.csv" if multi else "labels.csv"))
    wrong = np.random.default_rng(5).choice(len(frame), flips, replace=False)
    for i in wrong:
        colour, *rest = frame.iloc[i, 1].split(" ")
        frame.iloc[i, 1] = " ".join([COLOURS[(COLOURS.index(colour) + 1) % 3], *rest])
    data = ImageDataBunch.from_df(
        source, frame, "train", suffix=".jpg", size=16, bs=16, label_delim=" " if multi else None
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        body = nn.Sequential(nn.Conv2d(3, 12, 3, 2, 1), nn.BatchNorm2d(12), nn.ReLU(inplace=True))
        head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, data.c))
    groups = [nn.ModuleList([body]), nn.ModuleList([head])]
    options = {"silent": True, "layer_groups": groups, "train_bn": False, **options}
    learn = Learner(data, nn.Sequential(body, head), **options)
    learn.freeze()
    return learn, {f"train/{frame.iloc[i, 0]}.jpg" for i in wrong}


def test_wrong_classes_are_found_shown_and_mended(colour_path, tmp_path, capsys):
    learn, wrong = learner(colour_path)
    weights = {k: v.clone() for k, v in learn.model.state_dict().items()}
    found = learn.label_issues(folds=3)
    assert all(torch.equal(v, weights[k]) for k, v in learn.model.state_dict().items())
    assert len(found) == 60, "training and validation pictures"
    top = found.top(5)
    assert {f"train/{Path(issue.path).name}" for issue in top} == wrong
    assert all(issue.given != issue.suggested for issue in top)
    assert 4 <= found.doubts.flagged <= 8
    text = str(found)
    assert max(map(len, text.splitlines())) <= 80
    assert f"{found.doubts.flagged} of 60 labels look doubtful" in text
    assert "3 heads that had not seen them" in " ".join(text.split())
    assert "The body was not trained on these labels." in text
    assert len(found.show(4, return_fig=True).axes) == 4

    csv = found.to_csv(tmp_path / "issues.csv", 10)
    frame = pd.read_csv(csv, dtype=str)
    assert list(frame.columns) == ["file", "given", "suggested", "score", "new_label"]
    assert frame["new_label"].isna().all()
    assert len(frame) == 10
    frame.loc[:4, "new_label"] = frame.loc[:4, "suggested"]
    frame.to_csv(csv, index=False)
    mended = learn.data.relabel(csv)
    assert "5 of 60 pictures have new labels here;" in capsys.readouterr().out
    truth = pd.read_csv(colour_path / "labels.csv")["label"].tolist()
    assert [str(mended.labels.label(i)) for i in range(60)] == truth
    learn.data = mended
    assert learn.label_issues(folds=3).doubts.excess == 0


def test_wrong_tags_are_found_one_by_one(colour_path, tmp_path):
    learn, wrong = learner(colour_path, multi=True)
    found = learn.label_issues(folds=3)
    assert len(found) == 60 * 4
    colours = [issue for issue in found.top(40) if issue.tag != "even"]  # "even" cannot be seen in a picture
    assert wrong <= {f"train/{Path(issue.path).name}" for issue in colours[:16]}
    text = str(found)
    assert max(map(len, text.splitlines())) <= 80
    frame = pd.read_csv(found.to_csv(tmp_path / "tags.csv"))
    assert list(frame.columns) == ["file", "tag", "given", "suggested", "score", "new_label"]
    assert len(frame) >= 100
    assert set(frame["given"]) <= {"yes", "no"}


def test_the_check_is_repeatable_and_uses_features_at_hand(colour_path, monkeypatch):
    learn, _ = learner(colour_path, precompute=0)
    learn.fit(1, 0.01)
    passes: list[int] = []
    compute = features._compute
    monkeypatch.setattr(features, "_compute", lambda *a, **k: passes.append(1) or compute(*a, **k))
    first = learn.label_issues(folds=2)
    assert passes == [], "those of the fit hold"
    learn.unfreeze()
    second = learn.label_issues(folds=2)
    other, _ = learner(colour_path)
    third = other.label_issues(folds=2)
    assert passes == [1]
    np.testing.assert_allclose(first.probs, second.probs)
    np.testing.assert_allclose(first.probs, third.probs, atol=1e-4)
    assert not np.allclose(first.probs, other.label_issues(folds=2, seed=3).probs, atol=1e-2)


def test_what_the_body_has_seen_is_said(colour_path, tmp_path):
    learn, _ = learner(colour_path, path=tmp_path)
    learn.fit(1, 0.01)
    assert "was not trained" in learn.label_issues(folds=2).body
    learn.save("head")
    learn.load("head")
    assert "may have been trained (its weights were loaded)" in learn.label_issues(folds=2).body
    learn.unfreeze()
    learn.fit(1, 0.001)
    assert "The body was trained on these labels" in learn.label_issues(folds=2).body
    learn.freeze()
    assert learn.body_trained


def test_groups_stay_together_and_lone_classes_are_not_judged():
    labels = Labels(["a", "b", "c"], np.array([0, 0, 1, 1, 2, 2]), is_multi=False)
    assert taught(labels, np.array([0, 1, 0, 1, 1, 1])).tolist() == [True] * 4 + [False] * 2
    tags = Labels(["a", "b"], np.array([[1, 0], [1, 1], [0, 0], [1, 0]], dtype=np.float32), is_multi=True)
    assert taught(tags, np.array([0, 1, 0, 1])).tolist() == [[True, True], [True, False], [True] * 2, [True] * 2]


def test_fewer_groups_than_folds_make_one_fold_a_group(colour_path):
    frame = pd.read_csv(colour_path / "labels.csv").assign(site=[f"s{i // 20}" for i in range(60)])
    data = ImageDataBunch.from_df(colour_path, frame, "train", suffix=".jpg", size=16, valid_pct=0.3, group_col="site")
    learn, _ = learner(colour_path)
    other = Learner(data, learn.model, silent=True, layer_groups=learn.layer_groups, train_bn=False)
    assert other.label_issues().folds == 3


def test_a_lone_class_is_counted_and_not_blamed(colour_path):
    frame = pd.read_csv(colour_path / "labels.csv")
    frame.loc[7, "label"] = "violet"
    data = ImageDataBunch.from_df(colour_path, frame, "train", suffix=".jpg", size=16, valid_pct=0.0)
    learn, _ = learner(colour_path)
    other = Learner(
        data,
        nn.Sequential(learn.model[0], nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 4))),
        silent=True,
    )
    found = other.label_issues(folds=3)
    assert len(found) == 59
    assert "1 could not be judged" in str(found)


def test_what_cannot_be_checked_is_refused(colour_path):
    learn, _ = learner(colour_path)
    for folds in (1, 61):
        with pytest.raises(ArgumentError, match=rf"folds is a number from 2 to 60 .*received {folds}"):
            learn.label_issues(folds=folds)
    with pytest.raises(ArgumentError, match="k is the number of pictures"):
        learn.label_issues(folds=2).show(0)
    whole = Learner(learn.data, nn.Sequential(nn.Flatten()), silent=True)
    with pytest.raises(ArgumentError, match=r"features of the body cannot be computed: the model is not"):
        whole.label_issues()


def test_a_cnn_learner_checks_labels(colour_path):
    learn, _ = learner(colour_path, flips=3)
    found = cnn_learner(learn.data, "resnet18", pretrained=False, silent=True).label_issues(folds=2)
    assert found.probs.shape == (60, 3)
