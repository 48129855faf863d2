"""From a learner to its report."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from onecycle.data.bunch import ImageDataBunch
from onecycle.data.synthetic.tiles import write_sample
from onecycle.errors import ArgumentError
from onecycle.evaluation.certainty.intervals import sample_fbeta
from onecycle.evaluation.label_issues import LabelIssue
from onecycle.learner.cnn import cnn_learner
from onecycle.learner.learner import Learner
from onecycle.learner.report import Report, build_report, count_issues, learning_plots, sweep_plot
from onecycle.train.log.recorder import Recorder
from onecycle.train.metrics import fbeta

pytestmark = pytest.mark.filterwarnings("ignore::onecycle.errors.DataWarning")  # so few tiles miss some tags


def small_net(c: int) -> nn.Sequential:
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(3, 8, 5, stride=4), nn.ReLU())
    return nn.Sequential(body, nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, c)))


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tiles")
    write_sample(root, 60, size_px=32)
    return root


def tag_learner(root: Path, path: Path) -> Learner:
    data = ImageDataBunch.from_csv(root, folder="train", suffix=".jpg", label_delim=" ", size=32, bs=16)
    return Learner(data, small_net(data.c), metrics=[fbeta], path=path, silent=True)


@pytest.fixture(scope="module")
def learn(tiles: Path, tmp_path_factory: pytest.TempPathFactory) -> Learner:
    learn = tag_learner(tiles, tmp_path_factory.mktemp("models"))
    learn.fit(2)
    return learn


@pytest.fixture(scope="module")
def report(learn: Learner) -> Report:
    return build_report(learn, audit=learn.data.audit(), title="Tiles", config="bs: 16", command="onecycle train")


def payload_of(report: Report) -> dict:
    return json.loads(re.search(r'id="payload">(.*?)</script>', report.html, re.DOTALL).group(1))


def test_a_report_of_a_trained_learner_has_every_part(report, learn):
    c = report.content
    assert c.curves
    assert c.top[0].loss == pytest.approx(float(learn.interpret().losses.max()))
    assert any(t.heat is not None for t in c.top)
    assert c.sliders is not None
    assert c.matrix is None
    assert c.data is not None
    assert len(c.thumbs) == len(learn.data.valid_ds)
    assert set(c.missing) <= {"slices"}
    assert "onecycle train" in report.html


def test_its_numbers_are_those_of_the_interpretation(report, learn):
    interpretation = learn.interpret()
    table = interpretation.tag_report(thresh=0.5)
    assert [r.tp for r in report.content.rows] == table["tp"].tolist()
    assert [r.fn for r in report.content.rows] == table["fn"].tolist()
    assert report.content.scores.headline.value == pytest.approx(
        interpretation.metrics([sample_fbeta(2, 0.5)])[0].value
    )


def test_it_is_saved_whole(report, tmp_path):
    path = report.save(tmp_path / "a" / "report.html")
    assert path.read_text(encoding="utf-8") == report.html


def test_a_notebook_shows_it_in_a_sandbox(report):
    shown = report._repr_html_()
    assert shown.startswith("<iframe")
    assert 'sandbox="allow-scripts allow-downloads"' in shown
    assert "<script" not in shown


def test_the_learner_reports_itself(learn):
    made = learn.report(title="By itself")
    assert "By itself" in made.html
    assert "Not audited" in made.html


def test_label_issues_become_questions(learn):
    row = int(learn.data.split.train[0])
    path = learn.data.store.paths[row]
    tag = str(learn.data.classes[0])
    made = build_report(learn, label_issues=[LabelIssue(row, path, tag, "yes", "no", 0.01)])
    picture = made.content.doubtful[0]
    assert picture.file == Path(path).relative_to(learn.data.path).as_posix()
    assert picture.shot.src.startswith("data:image/")
    assert picture.labels[0].tag == tag
    assert (made.content.issues.n, made.content.issues.pictures) == (1, 1)
    assert "1 yes/no decision on tags looks doubtful (on 1 picture). Asked were heads" in made.html
    assert payload_of(made)["columns"] == ["file", "tag", "given", "suggested", "score", "new_label"]


def test_only_what_is_doubtful_is_shown(learn):
    issues = learn.label_issues(folds=2)
    made = build_report(learn, label_issues=issues)
    count = made.content.issues
    assert (count.flagged, count.n, count.judged) == (issues.doubts.flagged, issues.doubts.excess, len(issues))
    assert count.pictures == len({issue.row for issue in issues.top(count.n)})
    assert sum(len(p.labels) for p in made.content.doubtful) == min(60, count.n)
    nothing = build_report(learn, label_issues=issues.top(5), issue_count=count_issues(issues.top(5), n=0))
    assert nothing.content.doubtful == ()
    assert "No yes/no decision on tags looks doubtful." in nothing.html


def test_chosen_thresholds_are_reported_from_held_out_folds(tiles, tmp_path):
    learn = tag_learner(tiles, tmp_path)
    learn.choose_thresholds(rule="one for all tags")
    made = build_report(learn)
    assert made.content.scores.headline.thresholds in ("held out", "same pictures")
    assert "chosen thresholds" in made.content.scores.headline.name
    grids, places = made.content.sliders.grids, made.content.sliders.in_use
    assert [g[p] for g, p in zip(grids, places, strict=True)] == pytest.approx(list(learn.thresholds.values))


def test_pictures_that_are_gone_leave_placeholders(tiles, tmp_path):
    root = tmp_path / "copy"
    shutil.copytree(tiles, root)
    learn = tag_learner(root, tmp_path)
    interpretation = learn.interpret()
    interpretation.picture = lambda index: (_ for _ in ()).throw(FileNotFoundError("gone"))  # type: ignore[method-assign]
    made = build_report(learn, interpretation=interpretation)
    assert made.content.gone == len(learn.data.valid_ds)
    assert made.content.thumbs == {}


def test_a_model_without_body_and_head_has_no_heat_maps_and_says_so(tiles, tmp_path):
    learn = tag_learner(tiles, tmp_path)
    learn.model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 8), nn.Linear(8, learn.data.c))
    made = build_report(learn)
    assert "No heat maps" in made.content.missing["heat"]
    assert made.content.top[0].heat is None
    assert "No history of training" in made.html


def test_single_labels_have_a_matrix_and_no_sliders(colour_path, tmp_path):
    data = ImageDataBunch.from_csv(colour_path, folder="train", suffix=".jpg", size=32, bs=16)
    learn = Learner(data, small_net(data.c), path=tmp_path, silent=True)
    learn.fit(1)
    made = build_report(learn)
    assert made.content.sliders is None
    assert made.content.matrix.counts.sum() == len(data.valid_ds)
    assert "tag" not in payload_of(made)["columns"]


def test_without_validation_pictures_it_says_what_is_missing(tiles, tmp_path):
    learn = tag_learner(tiles, tmp_path)
    found = learn.interpret()
    found.preds, found.y_true, found.losses = found.preds[:0], found.y_true[:0], found.losses[:0]
    with pytest.raises(ArgumentError, match="validation part is empty"):
        build_report(learn, interpretation=found)


def test_the_loss_of_an_explosion_is_not_drawn():
    plot = sweep_plot([(np.geomspace(1e-6, 10, 40).tolist(), [1.0] * 39 + [1e9])])
    assert len(plot.rows) <= 39
    assert sweep_plot([]) is None


def test_an_empty_history_and_a_sweep_have_no_curves():
    assert learning_plots(Recorder()) == ()
    sweep = Recorder()
    sweep._raw = sweep._smooth = [1.0, 0.5, 4.0]
    assert learning_plots(sweep) == ()


def test_curves_are_by_epoch(learn):
    recorder = learn.recorder
    loss, metric = learning_plots(recorder)
    assert metric.title == metric.y_label == "sample-F2"
    valid = [row for row in loss.rows if row[0] == "validation"]
    assert [row[1] for row in valid] == ["1", "2"]
    assert [float(row[2]) for row in metric.rows] == pytest.approx([row.metrics[0] for row in recorder.rows], rel=1e-3)


def test_a_history_known_by_epoch_alone_is_drawn(learn):
    loss, *_ = learning_plots(Recorder.of_epochs(learn.recorder.metric_names, learn.recorder.rows))
    training = [row for row in loss.rows if row[0].startswith("training")]
    assert [row[1] for row in training] == ["1", "2"]


@pytest.mark.slow
def test_planet(planet_path, tmp_path):
    data = ImageDataBunch.from_csv(planet_path, folder="train", suffix=".jpg", label_delim=" ", size=64)
    learn = cnn_learner(data, "tf_efficientnet_lite0", path=tmp_path, silent=True)
    learn.fine_tune(0)
    assert len(build_report(learn).html) < 5_000_000
