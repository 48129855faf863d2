"""``onecycle evaluate``: the validation part again, or new pictures, with what the run has seen of them left out."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from run_toys import ToyRun, colour_rows

from onecycle.cli.evaluate import run_evaluate
from onecycle.cli.new_data import labelled_pictures
from onecycle.data.labels.find.columns import LayoutOptions
from onecycle.errors import ArgumentError, DataError, LabelError
from onecycle.runs.config import RunConfig
from onecycle.runs.folder import RunFolder
from onecycle.runs.predictions import read_predictions, write_predictions
from onecycle.runs.split import read_split

NONE = LayoutOptions()


@pytest.fixture(autouse=True)
def _work(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)


def own_copy(run: ToyRun, to: Path) -> ToyRun:
    """Return a run that a test may write into."""
    shutil.copytree(run.path, to / run.path.name)
    return ToyRun(RunFolder(to / run.path.name), run.data)


@pytest.fixture
def run(class_run, tmp_path) -> ToyRun:
    return own_copy(class_run, tmp_path)


@pytest.fixture(scope="session")
def new_pictures(tmp_path_factory) -> Path:
    """Thirty pictures that no run has seen, with a site, as classes and as tags."""
    root = tmp_path_factory.mktemp("new") / "pictures"
    rows = colour_rows(root, 30)
    (root / "labels.csv").write_text(
        "name,label,site\n" + "".join(f"{n},{c},{'AB'[i % 2]}\n" for i, (n, c) in enumerate(rows))
    )
    (root / "tags.csv").write_text(
        "name,tags\n" + "".join(f"{n},{c}{' even' if i % 2 == 0 else ''}\n" for i, (n, c) in enumerate(rows))
    )
    return root


def table(root: Path, rows: list[tuple[str, str]], name: str = "other.csv") -> LayoutOptions:
    """Write another table of the same pictures; returns what to ask for."""
    path = Path(name).resolve()
    path.write_text("name,label\n" + "".join(f"{n},{c}\n" for n, c in rows))
    return LayoutOptions(csv=str(path))


def evaluated(capsys, *args, **options) -> tuple[int, dict]:
    code = run_evaluate(*args, as_json=True, **options)
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("kind", ["class_run", "tag_run"])
def test_the_validation_part_again_agrees_with_what_the_run_kept(kind, request, tmp_path, capsys):
    run = own_copy(request.getfixturevalue(kind), tmp_path)
    code, found = evaluated(capsys, run.path, None, NONE)
    assert code == 0
    # The run predicted from features at hand, this from pictures: float32 rounds otherwise, by 1.2e-5 here.
    assert found["largest difference from predictions.parquet"] < 5e-5
    kept = run.run.read_json(run.run.metrics)
    assert [m["name"] for m in found["metrics"]] == [m["name"] for m in kept["metrics"]]
    assert [m["value"] for m in found["metrics"]] == pytest.approx([m["value"] for m in kept["metrics"]])
    assert found["n"] == kept["n_valid"]
    assert json.loads(Path(found["file"]).read_text())["metrics"] == found["metrics"]
    assert Path(found["file"]).name == "validation-001.json"


def test_copies_that_training_saw_are_said_whenever_the_validation_part_is_judged(run, capsys):
    about = run.run.read_json(run.run.data)
    assert not any("copies" in note for note in evaluated(capsys, run.path, None, NONE)[1]["notes"])
    run.run.write_json(run.run.data, about | {"audit": {"leaked": ["a.png", "b.png", "c.png"]}})
    found = evaluated(capsys, run.path, None, NONE)[1]
    assert f"training saw copies of 3 of these {found['n']} pictures" in found["notes"][0]


def test_changed_predictions_are_said_with_the_picture(run, capsys):
    kept = read_predictions(run.run.predictions)
    probs = kept.probs.copy()
    probs[3] = 1 - probs[3]
    write_predictions(replace(kept, probs=probs), run.run.predictions)
    run_evaluate(run.path, None, NONE)
    out = " ".join(capsys.readouterr().out.split())
    assert f"({kept.files[3]})" in out
    assert "libraries have changed since" in out


def test_new_pictures_are_judged_with_intervals_and_the_runs_baseline(run, new_pictures, capsys):
    code, found = evaluated(capsys, run.path, str(new_pictures), LayoutOptions(csv="labels.csv"))
    assert code == 0
    accuracy = found["metrics"][0]
    assert accuracy["name"] == "accuracy"
    assert accuracy["n"] == found["n"] == 30
    assert accuracy["baseline"] == pytest.approx(1 / 3, abs=0.05)
    assert accuracy["low"] < accuracy["value"] <= accuracy["high"]
    assert accuracy["value"] > 0.6  # the colours are learnable
    assert {p["column"] for p in found["slices"]["parts"]} == {"site", "class"}
    assert sorted(c["name"] for c in found["classes"]) == ["blue", "green", "red"]
    assert sum(c["n"] * c["recall"] for c in found["classes"]) == pytest.approx(30 * accuracy["value"])
    assert any("was not trained on any" in note for note in found["notes"])
    assert "predictions.parquet" not in json.dumps(found)


def test_the_screen_shows_result_baseline_worst_classes_and_slices(run, new_pictures, capsys):
    assert run_evaluate(run.path, str(new_pictures / "labels.csv"), NONE) == 0
    out = capsys.readouterr().out
    assert out.startswith("result    accuracy")
    heads = (
        "\nbaseline  Better than the baseline: always the same",
        "worst",
        "recall (95 %)",
        "parts of 30",
        "written",
    )
    for text in ("(baseline 0.", *heads, "onecycle compare"):
        assert text in out
    assert max(len(line) for line in out.splitlines() if str(run.path) not in line) <= 80


def test_tags_are_judged_as_predict_decides_too(tag_run, new_pictures, tmp_path, capsys):
    run = own_copy(tag_run, tmp_path)
    code, found = evaluated(capsys, run.path, str(new_pictures), LayoutOptions(csv="tags.csv"))
    assert code == 0
    scores = [found["headline"], *found["metrics"]]
    names = ["sample-F2 at chosen thresholds", "sample-F2 at 0.2", "micro-F1 at 0.5", "macro-AP"]
    assert [m["name"] for m in scores] == names
    assert found["headline"]["thresholds"] == "other pictures"
    assert all(0 <= m["low"] <= m["high"] <= 1 for m in scores)
    # one tag a cell does not look like tags, but the run says what it is
    options = table(new_pictures, [(f"p{i:03d}", ["red", "green", "blue"][i % 3]) for i in range(30)])
    code, found = evaluated(capsys, run.path, str(new_pictures), options)
    assert found["n"] == 30


def test_an_unknown_label_is_named_with_its_row_and_the_nearest_class(run, new_pictures):
    options = table(new_pictures, [("p000", "red"), ("p001", "Gren"), ("p002", "blue"), ("p004", "teal")])
    with pytest.raises(LabelError, match=r"row 3: train/p001\.jpg.*'Gren'; did you mean 'green'\?.*2 rows"):
        run_evaluate(run.path, str(new_pictures), options)


def test_a_row_without_a_label_is_named(run, new_pictures):
    options = table(new_pictures, [("p000", "red"), ("p001", ""), ("p002", "blue")])
    with pytest.raises(LabelError, match=r"no label at row 3"):
        run_evaluate(run.path, str(new_pictures), options)


def test_pictures_that_the_run_trained_on_are_left_out_and_named(run, new_pictures, tmp_path, capsys):
    parts = read_split(run.run.split)
    trained = [f for f, part in parts if part == "train"][:2]
    validated = next(f for f, part in parts if part == "valid")
    mixed = tmp_path / "mixed"
    (mixed / "train").mkdir(parents=True)
    names = {"copy.jpg": trained[0], "link.jpg": trained[1], "seen.jpg": validated}
    for name, file in names.items():
        shutil.copy(run.data / file, mixed / "train" / name)
    (mixed / "train" / "link.jpg").unlink()
    os.link(run.data / trained[1], mixed / "train" / "link.jpg")
    shutil.copy(new_pictures / "train" / "p000.jpg", mixed / "train" / "new.jpg")
    (mixed / "labels.csv").write_text("name,label\n" + "".join(f"{n},red\n" for n in [*names, "new.jpg"]))
    code, found = evaluated(capsys, run.path, str(mixed), NONE)
    assert code == 0
    assert found["left out as trained on"] == ["row 2: train/copy.jpg", "row 3: train/link.jpg"]
    assert found["of the validation part"] == 1
    assert found["n"] == 2
    (mixed / "labels.csv").write_text("name,label\ncopy.jpg,red\nlink.jpg,red\n")
    with pytest.raises(DataError, match=r"all 2 pictures .* trained on"):
        run_evaluate(run.path, str(mixed), NONE)


def test_training_pictures_that_are_gone_are_counted(run, new_pictures, capsys):
    about = run.run.read_json(run.run.data)
    about["layout"]["root"] = "/gone/since"
    run.run.write_json(run.run.data, about)
    _, found = evaluated(capsys, run.path, str(new_pictures), LayoutOptions(csv="labels.csv"))
    assert any("48 training pictures" in note and "no longer there" in note for note in found["notes"])
    assert not any("was not trained on any" in note for note in found["notes"])


def test_pictures_that_cannot_be_read_are_left_out_and_the_exit_code_says_so(run, new_pictures, tmp_path, capsys):
    root = tmp_path / "broken"
    shutil.copytree(new_pictures, root)
    (root / "train" / "p004.jpg").write_text("no picture")
    code, found = evaluated(capsys, run.path, str(root), LayoutOptions(csv="labels.csv"))
    assert (code, found["n"]) == (3, 29)
    assert found["unreadable"] == ["row 6: train/p004.jpg (text, not a picture; it starts with 'no picture')"]
    for picture in (root / "train").iterdir():
        picture.write_text("no picture")
    with pytest.raises(DataError, match="not one of the 30 pictures"):
        run_evaluate(run.path, str(root), LayoutOptions(csv="labels.csv"))


def test_fail_under_looks_at_the_lower_end_of_the_interval(run, new_pictures, capsys):
    options = LayoutOptions(csv="labels.csv")
    _, found = evaluated(capsys, run.path, str(new_pictures), options)
    accuracy = found["metrics"][0]
    between = (accuracy["low"] + accuracy["value"]) / 2
    assert run_evaluate(run.path, str(new_pictures), options, fail_under=between) == 1
    assert "limit     not held" in capsys.readouterr().out
    assert run_evaluate(run.path, str(new_pictures), options, fail_under=accuracy["low"] - 0.01, quiet=True) == 0
    out = capsys.readouterr().out
    assert out.startswith("result    accuracy")
    assert not {"worst", "limit", "next"} & set(out.split())
    with pytest.raises(ArgumentError, match="--fail-under"):
        run_evaluate(run.path, None, NONE, fail_under=85.0)


def test_evaluations_are_numbered(run, new_pictures, capsys):
    for _ in range(2):
        run_evaluate(run.path, str(new_pictures), LayoutOptions(csv="labels.csv"), quiet=True)
    assert sorted(p.name for p in (run.path / "evaluations").iterdir()) == ["pictures-001.json", "pictures-002.json"]


def test_a_run_that_cannot_be_written_into_still_shows_its_result(run, new_pictures, capsys):
    (run.path / "evaluations").write_text("in the way")
    assert run_evaluate(run.path, str(new_pictures), LayoutOptions(csv="labels.csv")) == 0
    said = capsys.readouterr()
    assert said.out.startswith("result    accuracy")
    assert "could not be written" in said.err


def test_the_report_counts_classes_as_they_are_decided(run, new_pictures, capsys):
    _, found = evaluated(capsys, run.path, str(new_pictures), LayoutOptions(csv="labels.csv"))
    labels = pd.read_csv(new_pictures / "labels.csv")["label"]
    for c in found["classes"]:
        assert c["n"] == (labels == c["name"]).sum()
        assert c["low"] <= c["recall"] <= c["high"] + 1e-9
    recalls = [c["recall"] for c in found["classes"]]
    assert recalls == sorted(recalls)
    assert np.isfinite(recalls).all()


def test_class_folders_are_labelled_by_their_names(run, new_pictures, tmp_path, capsys):
    for i, name in enumerate(["red", "green", "blue"]):
        (tmp_path / "folders" / name).mkdir(parents=True)
        for k in range(i, 30, 3):
            shutil.copy(new_pictures / "train" / f"p{k:03d}.jpg", tmp_path / "folders" / name)
    code, found = evaluated(capsys, run.path, str(tmp_path / "folders"), NONE)
    assert (code, found["n"]) == (0, 30)
    _, same = evaluated(capsys, run.path, str(new_pictures), LayoutOptions(csv="labels.csv"))
    assert found["metrics"][0]["value"] == same["metrics"][0]["value"]
    (tmp_path / "folders" / "red").rename(tmp_path / "folders" / "Reed")
    with pytest.raises(LabelError, match="did you mean 'red'"):
        run_evaluate(run.path, str(tmp_path / "folders"), NONE)


def test_hostile_names_do_not_reach_the_terminal(run, new_pictures, tmp_path, capsys):
    name = "\x1b[31mred\x07.jpg"
    root = tmp_path / "hostile"
    (root / "red").mkdir(parents=True)
    shutil.copy(new_pictures / "train" / "p000.jpg", root / "red" / name)
    (root / "red" / f"bad{name}").write_text("no picture")
    assert run_evaluate(run.path, str(root), NONE) == 3
    said = capsys.readouterr()
    assert "\x1b" not in said.out + said.err
    assert "bad\ufffd[31mred" in said.out


def test_groups_of_the_run_widen_the_intervals_of_new_pictures(class_run, new_pictures, tmp_path, capsys):
    run = own_copy(class_run, tmp_path)
    alone = evaluated(capsys, run.path, str(new_pictures), LayoutOptions(csv="labels.csv"))[1]
    config = run.run.config.read_text().replace("group_col: null", "group_col: site")
    run.run.config.write_text(config)
    code, grouped = evaluated(capsys, run.path, str(new_pictures), LayoutOptions(csv="labels.csv"), fail_under=0.99)
    assert any("over 2 groups (column site)" in note for note in grouped["notes"])
    widths = [m["metrics"][0]["high"] - m["metrics"][0]["low"] for m in (alone, grouped)]
    assert widths[1] > widths[0]
    assert (code, grouped["held"], grouped["fail_under"]) == (1, False, 0.99)


def test_groups_are_counted_without_pictures_that_are_left_out(run, new_pictures, tmp_path, capsys):
    run.run.config.write_text(run.run.config.read_text().replace("group_col: null", "group_col: site"))
    data = tmp_path / "with_a_trained_one"
    shutil.copytree(new_pictures, data)
    trained = next(file for file, side in read_split(run.run.split) if side == "train")
    shutil.copy(run.data / trained, data / "train" / "trained.jpg")
    with (data / "labels.csv").open("a") as table:
        table.write("trained,red,C\n")
    _, found = evaluated(capsys, run.path, str(data), LayoutOptions(csv="labels.csv"))
    assert found["left out as trained on"] == ["row 32: train/trained.jpg"]
    assert any("over 2 groups (column site)" in note for note in found["notes"])


def test_rows_for_testing_are_measured_alone_where_the_run_was_trained_by_their_column(run, tmp_path, capsys):
    config = run.run.config.read_text()
    assert "split_col: null" in config
    root = tmp_path / "marked"
    rows = colour_rows(root, 30)
    lines = [f"{n},{c},{'test' if i < 12 else 'train'}" for i, (n, c) in enumerate(rows)]
    (root / "labels.csv").write_text("name,label,split\n" + "\n".join(lines) + "\n")
    assert evaluated(capsys, run.path, str(root), NONE)[1]["n"] == 30
    run.run.config.write_text(config.replace("split_col: null", "split_col: split"))
    _, found = evaluated(capsys, run.path, str(root), NONE)
    assert found["n"] == 12
    assert found["notes"][0].startswith("the 12 rows of 30 that column split has for testing; --split-col ''")
    assert evaluated(capsys, run.path, str(root), LayoutOptions(split_col=""))[1]["n"] == 30


def test_in_the_runs_own_data_its_columns_are_taken(run):
    config = RunConfig.read(run.run.config)
    with pytest.raises(ArgumentError, match="no column 'gone'"):
        labelled_pictures(config.data, NONE, replace(config, label_col="gone"), is_multi=False)
    layout = labelled_pictures(config.data, NONE, config, is_multi=False)
    assert (layout.csv, layout.table.folder) == (config.csv, config.folder)
    asked = LayoutOptions(label_col=str(config.label_col))
    assert labelled_pictures(config.data, asked, replace(config, label_col="gone"), is_multi=False).csv == config.csv
