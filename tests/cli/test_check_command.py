"""``onecycle check``: a table or class folders, broken or not; JSON and the exit code on request."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from typer.testing import CliRunner

from onecycle.cli.main import app, main
from onecycle.data.bunch import ImageDataBunch
from onecycle.data.labels.find.columns import LayoutOptions
from onecycle.data.layout import find_layout


def picture(seed: int) -> PIL.Image.Image:
    rng = np.random.default_rng(seed)
    return PIL.Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).resize((48, 48))


@pytest.fixture
def clean(tmp_path) -> Path:
    """Forty-eight pictures in ``images`` and a table with groups."""
    (tmp_path / "images").mkdir()
    rows = []
    for i in range(48):
        picture(i).save(tmp_path / "images" / f"p{i:02d}.png")
        rows.append(f"p{i:02d},{'cat' if i % 2 else 'dog'},site {i}")
    (tmp_path / "labels.csv").write_text("name,label,site\n" + "\n".join(rows) + "\n")
    return tmp_path


@pytest.fixture
def folders(tmp_path) -> Path:
    """Forty-eight pictures in two class folders."""
    for i in range(48):
        folder = tmp_path / ("cat" if i % 2 else "dog")
        folder.mkdir(exist_ok=True)
        picture(i).save(folder / f"p{i:02d}.png")
    return tmp_path


TABLE = ("--folder", "images", "--suffix", ".png", "--size", "32")


def check(path: Path, *arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["check", str(path), *arguments])
    assert done.exit_code == code, done.output
    return done.stdout


def kinds(path: Path, *arguments: str) -> dict[str, int]:
    return {f["kind"]: f["count"] for f in json.loads(check(path, "--json", *arguments))["findings"]}


def test_a_clean_table_has_nothing_to_report(clean):
    assert "\nNothing to report.\n" in check(clean, *TABLE)
    assert kinds(clean, *TABLE, "--group-col", "site") == {}
    said = check(clean / "labels.csv", *TABLE)
    assert "\nAudit of labels.csv: 48 rows, 48 files" in said
    assert said.splitlines()[-1] == f"Next: onecycle train {clean / 'labels.csv'} --folder images --suffix .png"


def test_the_next_command_draws_the_split_that_was_audited(clean):
    said = check(clean, *TABLE, "--valid-pct", "0.3", "--seed", "7", "--no-stratify")
    assert said.splitlines()[-1].endswith("--valid-pct 0.3 --seed 7 --no-stratify")


def test_columns_and_files_are_found_by_looking(clean):
    assert kinds(clean, "--size", "32") == kinds(clean, *TABLE)
    assert "images/<name>.png" in check(clean)
    report = json.loads(check(clean, "--json"))
    assert report["layout"]["folder"] == "images"


def test_clean_class_folders_have_nothing_to_report(folders):
    assert "\nNothing to report.\n" in check(folders, "--size", "32")


def test_the_split_is_that_of_a_bunch(clean):
    data = ImageDataBunch.from_csv(
        clean, folder="images", suffix=".png", valid_pct=0.3, seed=7, size=32, pixel_cache="off"
    )
    split = find_layout(clean, LayoutOptions(folder="images", suffix=".png")).pictures.split(
        valid_pct=0.3, seed=7, stratify=False
    )
    assert split.valid.tolist() == data.split.valid.tolist()


def test_a_broken_table_becomes_findings(clean):
    (clean / "images" / "p00.png").write_bytes(b"no picture")
    (clean / "images" / "p01.png").unlink()
    table = clean / "labels.csv"
    lines = table.read_text().splitlines()
    lines[3], lines[4] = ",dog,a", "p03,,b"  # no name, no label
    lines[5] = "p04,cat ,c"
    table.write_text("\n".join([*lines, lines[6], "p06,cat,d"]) + "\n")
    found = kinds(clean, *TABLE)
    assert {k: found[k] for k in found if k not in ("leak", "unmeasured-label")} == {
        "unreadable": 1, "missing-file": 1, "no-file-name": 1, "no-label": 1, "blanks": 1, "repeated-rows": 1,
        "contradicting-rows": 1, "file-without-row": 1,
    }  # fmt: skip
    text = check(clean, *TABLE)
    assert ("\n  --together" in text) == ("leak" in found)
    assert "\n  --allow missing leaves files out\n  --allow unreadable leaves files out" in text
    assert max(map(len, text[text.index("Next:") :].splitlines()[1:])) <= 80
    assert "--stratify" not in text  # train would stratify, once the rows are whole
    assert "row 3: images/p01.png" in text
    assert "row 5: images/p03.png" in text


def test_missing_files_name_the_suffix_that_would_find_them(clean):
    report = json.loads(check(clean, "--folder", "images", "--fn-col", "name", "--suffix", "", "--json"))
    (found,) = [f for f in report["findings"] if f["kind"] == "missing-file"]
    assert found["count"] == 48
    assert "--suffix .png" in found["advice"]
    assert report["looked_at"]["files"] == 0


def test_tags_are_split_when_asked_and_proposed_when_not(clean):
    rng = np.random.default_rng(0)
    rows = [f"p{i:02d},{' '.join(t for t in 'vwxyz' if rng.random() < 0.5)}" for i in range(48)]
    (clean / "labels.csv").write_text("name,tags\n" + "\n".join(rows) + "\n")
    assert "tag-lists" in kinds(clean, *TABLE, "--label-delim", "")
    assert "tag-lists" not in kinds(clean, *TABLE, "--label-delim", " ")
    assert "tag-lists" not in kinds(clean, *TABLE)


def test_columns_by_name_and_groups(clean):
    table = clean / "labels.csv"
    table.write_text(table.read_text().replace("site 1", "site 2"))
    arguments = (*TABLE, "--fn-col", "name", "--label-col", "label", "--group-col", "site", "--valid-pct", "0.5")
    found = json.loads(check(clean, *arguments, "--json"))["findings"]
    assert found == []  # the split that train would draw keeps groups together


def test_train_and_valid_folders_are_the_split(tmp_path):
    for part, n in (("train", 24), ("valid", 24)):
        for i in range(n):
            folder = tmp_path / part / ("cat" if i % 2 else "dog")
            folder.mkdir(parents=True, exist_ok=True)
            picture(i + (100 if part == "valid" else 0)).save(folder / f"p{i:02d}.png")
    assert kinds(tmp_path, "--size", "32") == {}
    picture(3).save(tmp_path / "valid" / "dog" / "again.png")
    (tmp_path / "train" / "owl").mkdir()
    picture(999).save(tmp_path / "valid" / "loose.png")
    report = json.loads(check(tmp_path, "--json", "--size", "32"))
    assert report["leaked"] == ["valid/dog/again.png"]
    found = {f["kind"]: f["count"] for f in report["findings"]}
    assert found == {"leak": 1, "no-label": 1, "exact-copies": 1, "contradicting-copies": 1, "empty-folder": 1}


def advice(path: Path, kind: str, *arguments: str) -> str:
    found = json.loads(check(path, "--json", *arguments))["findings"]
    return next(f["advice"] for f in found if f["kind"] == kind)


def test_the_advice_for_no_validation_picture_would_help(tmp_path):
    for i in range(3):
        (tmp_path / "cat").mkdir(exist_ok=True)
        picture(i).save(tmp_path / "cat" / f"p{i}.png")
    said = advice(tmp_path, "no-validation-part")
    assert "5 would be enough for one of them, or a larger share, --valid-pct 0.34" in said
    assert json.loads(check(tmp_path, "--json", "--valid-pct", "0.34"))["looked_at"]["valid"] == 1
    assert advice(tmp_path, "no-validation-part", "--valid-pct", "0").startswith("--valid-pct 0.2")
    (tmp_path / "dog").mkdir()
    for name in ("p1.png", "p2.png"):
        (tmp_path / "cat" / name).unlink()
    picture(9).save(tmp_path / "dog" / "p9.png")
    assert "a class needs two or more" in advice(tmp_path, "no-validation-part")


def test_copies_across_are_kept_together_by_the_next_command(folders):
    for i in range(1, 20, 2):
        picture(i).save(folders / "cat" / f"copy{i:02d}.png")
    said = check(folders, "--size", "32")
    assert "train --together" in " ".join(said.split())
    assert f"Next: onecycle train {folders} --together" in said


@pytest.mark.parametrize(
    ("broken", "fail_on", "code"),
    [(True, "error", 1), (True, "warning", 1), (True, "never", 0), (False, "error", 0), (False, "warning", 0)],
)
def test_the_exit_code(folders, broken, fail_on, code):
    if broken:
        (folders / "cat" / "p01.png").write_bytes(b"")
    check(folders, "--size", "32", "--fail-on", fail_on, code=code)


@pytest.mark.parametrize("arguments", [["nowhere"], ["."], [".", "--csv", "none.csv"]])
def test_what_is_not_there_is_an_error(tmp_path, monkeypatch, capsys, arguments):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["onecycle", "check", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    assert ended.value.code == 3
    assert said.err.startswith("error: ")
    assert said.out == ""


def test_the_command_does_not_load_torch(folders):
    code = (
        "import sys\nfrom onecycle.cli.main import main\n"
        f"sys.argv = ['onecycle', 'check', {str(folders)!r}, '--json']\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print('torch' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stderr.splitlines()[-1] == "False"
    assert json.loads(done.stdout)["looked_at"]["files"] == 48
