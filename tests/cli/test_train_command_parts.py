"""The pieces of ``onecycle train``: what stops a run, what the split promises, what is weak, a batch tried out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from onecycle.cli.report import notes_of, read_choice
from onecycle.cli.screen import Screen
from onecycle.cli.train import try_batch
from onecycle.cli.training.progress import show_plan
from onecycle.cli.training.results import confused, weak_classes
from onecycle.cli.training.start import audit_line, check_faults, guarantee
from onecycle.data.audit.findings import AuditReport, Finding
from onecycle.data.labels.items import Labels
from onecycle.errors import DataError, UnreadableImagesError
from onecycle.evaluation.certainty.decisions import F2, Decisions
from onecycle.evaluation.certainty.thresholds import TagThresholds
from onecycle.evaluation.headline import headline, scores_of
from onecycle.evaluation.predictions import Predictions
from onecycle.learner.fine_tune.best import JudgedStage, StageChoice
from onecycle.learner.fine_tune.plan import Speeds, Task, make_plan
from onecycle.runs.build import layout_of, make_bunch, make_learner, with_batches
from onecycle.runs.config import RunConfig
from onecycle.runs.folder import RunFolder


def audited(*findings: Finding, leaked: int = 0, valid: int = 200) -> AuditReport:
    names = tuple(f"v{i}.jpg" for i in range(leaked))
    looked_at = {"files": 1000, "valid": valid}
    if leaked:
        findings += (Finding("error", "leak", leaked, f"{leaked} of {valid} leak", names[:5]),)
    return AuditReport("x", findings, looked_at, leaked=names)


def settings(**given) -> RunConfig:
    return RunConfig.merged(None, {"data": "x", **given})


def test_few_leaks_do_not_stop_a_run_and_many_do():
    check_faults(audited(leaked=2), settings())
    with pytest.raises(DataError, match=r"--together, .*--group-col\.\nMend .*--allow leaks"):
        check_faults(audited(leaked=3), settings())
    check_faults(audited(leaked=3), settings(allow=["leaks"]))


@pytest.mark.parametrize(("kind", "option"), [("missing-file", "missing"), ("unreadable", "unreadable")])
def test_one_faulty_file_stops_a_run(kind, option):
    finding = Finding("error", kind, 7, "7 files", ("a", "b"), "mend them")
    with pytest.raises(UnreadableImagesError, match=rf"7 files\n  a\n  b\n  and 5 more\n(?s:.*)--allow {option}"):
        check_faults(audited(finding), settings(allow=["leaks"]))
    check_faults(audited(finding), settings(allow=[option]))


@dataclass
class Parts:
    """What of a bunch says how it was split."""

    how: str = "stratified"
    groups: object = None
    is_multi: bool = False
    n_valid: int = 1
    unmeasured: int = 0

    lists = SimpleNamespace(pictures=SimpleNamespace(alike_groups=[]))

    @property
    def split(self):
        return SimpleNamespace(how=self.how, groups=self.groups, valid=[1] * self.n_valid, train=[0])

    @property
    def labels(self):
        counts = np.array([1] + [0] * self.unmeasured)
        labels = Labels([f"name {i}" for i in range(len(counts))], np.zeros((1, len(counts))), self.is_multi)
        return SimpleNamespace(word=labels.word, words=labels.words, counts=lambda rows: counts)


@pytest.mark.parametrize(
    ("data", "given", "audit", "text"),
    [
        (Parts(), {}, audited(), "each class with the same share in both, no copies across"),
        (Parts(is_multi=True), {}, None, "each tag with the same share in both"),
        (Parts(n_valid=0), {"valid_pct": 0.0}, audited(valid=0), "nothing validates, so nothing will be measured"),
        (Parts(unmeasured=2), {}, audited(), "stratified; 2 classes have no validation picture, no copies"),
        (Parts(is_multi=True, unmeasured=1), {}, None, "stratified; 1 tag has no validation picture"),
        (Parts(groups=[0]), {"group_col": "site"}, None, "no site is in both"),
        (Parts(how="by the folders train/ and valid/"), {}, None, "by the folders train/ and valid/"),
        (Parts(how="by column split", groups=[0]), {"group_col": "site"}, None, "by column split"),
        (Parts(), {"stratify": False}, audited(leaked=2), "at random, 2 of those that validate are copies of ones"),
    ],
)
def test_the_split_says_what_it_promises(data, given, audit, text):
    assert guarantee(settings(**given), data, audit).startswith(text)


def test_the_audit_is_one_line_with_the_worst_first():
    error, note = Finding("error", "bad-one", 3, ""), Finding("note", "odd", 2, "")
    assert audit_line(audited(), "x") == "1,000 files looked through, nothing found"
    line = audit_line(audited(error, note, note), "a b")
    assert line == "1 error, 2 notes: bad-one (3) …; all: onecycle check 'a b'"


def test_every_value_of_the_plan_says_where_it_came_from(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    config = settings(minutes=2.0).found("size", 96, "the pictures have 96 px").found("bs", 16, "few pictures")
    task = Task(n_train=100, n_valid=20, size=(96, 96), bs=16)
    show_plan(
        config,
        make_plan(task, Speeds(forward_s=0.01, train_s=0.03, decode_s=0.001, head_step_s=0.01), budget_s=120),
        Screen(),
    )
    text = " ".join(capsys.readouterr().out.split())
    assert "auto (default); size 96 (the pictures have 96 px); batch 16 (few pictures)" in text
    assert "minutes 2 (option); lr by sweeps (--lr)" in text
    assert "of a budget of 02:00" in text


def predictions(probs, targets, classes, *, is_multi: bool = False, **known) -> Predictions:
    files = tuple(f"p{i}.jpg" for i in range(len(probs)))
    return Predictions.of(
        np.array(probs), is_multi=is_multi, files=files, classes=classes, targets=np.array(targets), **known
    )


def test_weak_classes_come_with_their_counts():
    probs = np.eye(3)[[0, 0, 0, 0, 1, 0]].tolist()
    said = predictions(probs, [0, 0, 1, 1, 1, 2], ("a", "b", "c"))
    assert weak_classes(said) == ["c 0% right (1 picture)", "b 33% right (3 pictures)"]
    assert confused(said) == [("b", "a", 2)]


def test_weak_tags_are_judged_at_the_thresholds_in_use():
    probs, truth = [[0.4, 0.9], [0.4, 0.1], [0.1, 0.9]], [[1, 1], [1, 0], [0, 1]]
    said = predictions(probs, truth, ("x", "y"), is_multi=True)
    assert weak_classes(said) == ["x F2 0.00 (2 pictures)", "y F2 1.00 (2 pictures)"]
    chosen = TagThresholds((0.3, 0.5), "sample-F2", 3)
    assert weak_classes(replace(said, decided=chosen.decide(said.probs)))[0] == "x F2 1.00 (2 pictures)"


def test_readers_are_told_how_the_run_came_about(tmp_path):
    run = RunFolder.create(tmp_path, "x")
    run.write_text(run.split, "file,part\na,train\nb,left out\n")
    notes = " ".join(notes_of(run, {"leaked": ["a", "b"]}))
    assert "2 validation pictures are copies" in notes
    assert "1 pictures of the data are in neither part" in notes
    assert "leaks are not excluded" in notes_of(run, None)[0]


def test_the_report_s_note_names_the_stage_that_is_kept_and_the_rule(tmp_path):
    run = RunFolder.create(tmp_path, "x")
    assert read_choice(run).note == ""
    head = JudgedStage(name="head", epochs=1, loss=0.131, error=0.012)
    worse = JudgedStage(
        name="all layers", epochs=2, loss=0.134, error=0.013, change=0.003, change_error=0.004,
        stopped="stopped after 2 of 4 epochs: why",
    )  # fmt: skip
    choice = StageChoice((head, worse), 0)
    run.write_json(run.metrics, {"stages": choice.to_dict()})
    assert read_choice(run) == choice
    note = read_choice(run).note
    assert "stage 1, head (valid loss 0.131 ± 0.012); all layers ended at 0.134." in note
    assert "stopped after 2 of 4 epochs: why." in note
    assert "more than one standard error" in note
    run.write_json(run.metrics, {"stages": StageChoice((head,), 0).to_dict()})
    assert read_choice(run).note == ""


def test_the_headline_is_the_score_of_chosen_thresholds_with_the_baseline():
    """Held-out decisions are wrong on one picture of four; the baseline is the best set for all."""
    truth = np.array([[1, 1], [1, 0], [0, 1], [1, 1]])
    chosen, held_out = TagThresholds((0.3, 0.5), "sample-F2", 4), truth.copy()
    held_out[0] = 0
    said = predictions(truth * 0.9, truth, ("x", "y"), is_multi=True, train_counts=np.array([3, 3]), n_train=4)
    first, *others = scores_of(replace(said, decisions=Decisions(thresholds=chosen), held_out=held_out))
    assert (first.name, first.value) == ("sample-F2 at chosen thresholds", 0.75)
    assert first.baseline == pytest.approx((1 + 1 + 2 * 5 / 6) / 4)
    assert [e.name for e in others] == ["sample-F2 at 0.2", "micro-F1 at 0.5"]  # no tag has the positives for an AP
    at_02 = scores_of(replace(said, decisions=Decisions(F2)))[0]
    assert (at_02.name, at_02.value, at_02.baseline) == ("sample-F2 at 0.2", 1.0, first.baseline)


def test_the_baseline_names_what_is_commonest_here_whatever_training_had():
    said = predictions(np.eye(3), [0, 1, 1], tuple("abc"), train_counts=np.array([0, 0, 9]), n_train=9)
    assert (headline(said).baseline, headline(said).baseline_name) == (2 / 3, "always the same class: b")


def test_a_batch_is_tried_and_nothing_changes(colour_path, tmp_path):
    config = settings(data=str(colour_path), csv="labels.csv", size=32)
    config, data = with_batches(config, make_bunch(config, layout_of(config)))
    learn = make_learner(config, data, tmp_path)
    before = {name: tensor.clone() for name, tensor in learn.model.state_dict().items()}
    trial = try_batch(learn)
    assert trial.bs == config.bs
    assert trial.train_loss > 0
    assert trial.valid_loss > 0
    assert trial.host_mb > 50
    assert all(torch.equal(before[name], tensor) for name, tensor in learn.model.state_dict().items())
    assert not next(learn.model.parameters()).requires_grad
    nobody = data.split_by_rows(range(len(data.store)), [], "none")
    assert try_batch(make_learner(replaced(config), nobody, tmp_path)).valid_loss is None


def replaced(config: RunConfig) -> RunConfig:
    return config.found("valid_pct", 0.0, "none")
