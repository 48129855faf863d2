"""The whole audit of a bunch: leaks across the split, groups, and a report that reads well."""

from __future__ import annotations

import json

import numpy as np
import pytest
from audit_toys import cropped, drawn, form, lookalike, resized, saved_anew, write

from onecycle.data.audit.findings import AuditReport, DuplicateGroup, Finding
from onecycle.data.bunch import ImageDataBunch
from onecycle.errors import ArgumentError

N = 40  # pictures; the last ten validate


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Forty different pictures of two classes."""
    folder = tmp_path_factory.mktemp("clean")
    for i in range(N):
        write(folder / f"p{i:02d}.png", drawn(i, side=64))
    return folder


def bunch(folder, *, labels=None, n=N) -> ImageDataBunch:
    from onecycle.data.data_block import ImageList

    names = sorted(folder.glob("p*.png"))
    given = labels or ["cat" if i % 2 else "dog" for i in range(len(names))]
    pictures = ImageList(names, folder)
    parts = pictures.split_by_idx(list(range(n - 10, n)))
    return parts.label_from_list(given).transform(size=32).databunch(bs=4, pixel_cache="off")


@pytest.fixture
def copied(root, tmp_path):
    """The same pictures, of which three that validate are copies of pictures that train."""
    for path in root.iterdir():
        (tmp_path / path.name).symlink_to(path)

    def plant(name: str, pixels: np.ndarray) -> None:
        (tmp_path / name).unlink()
        write(tmp_path / name, pixels)

    first = [drawn(i, side=64) for i in range(4)]
    plant("p33.png", first[0])
    plant("p35.png", saved_anew(resized(first[1], 60)))
    plant("p36.png", first[2][:, ::-1])
    plant("p03.png", first[2][::-1])  # a copy within training
    return tmp_path


def kinds(report: AuditReport) -> dict[str, int]:
    return {f.kind: f.count for f in report.findings}


def test_a_clean_bunch_has_nothing_to_report(root):
    report = bunch(root).audit()
    assert kinds(report) == {}
    assert report.worst is None
    assert report.leaked == ()
    assert report.groups().tolist() == list(range(N))
    assert str(report).endswith("Nothing to report.")
    counts = {"rows": N, "files": N, "readable": N, "train": 30, "valid": 10, "classes": 2}
    assert dict(report.looked_at) == counts


def test_copies_across_the_split_are_leaks_and_named(copied):
    report = bunch(copied).audit(silent=True)
    assert report.leaked == ("p33.png", "p35.png", "p36.png")
    assert kinds(report)["leak"] == 3
    assert report.findings[0].severity == "error"
    assert report.findings[0].examples[0] == "p33.png has the pixels of p00.png"
    assert report.findings[0].examples[1] == "p35.png is a near copy of p01.png"
    assert {g.kind: g.rows for g in report.duplicates} == {"exact": (0, 33), "near": (1, 35), "turned": (2, 3, 36)}
    counts = kinds(report)
    assert (counts["exact-copies"], counts["near-copies"], counts["turned-copies"]) == (1, 1, 2)
    # Rows 0 and 2 are even, their copies 33 and 3 odd: other labels.
    assert (counts["contradicting-copies"], counts["contradicting-near-copies"]) == (1, 1)


def test_groups_keep_copies_together(copied):
    data = bunch(copied)
    report = data.audit(silent=True)
    groups = report.groups()
    assert groups[[0, 1, 2]].tolist() == groups[[33, 35, 36]].tolist()
    assert len(np.unique(groups)) == N - 4
    moved = data.split_together([g.rows for g in report.duplicates])
    assert moved.audit(silent=True).leaked == ()


def test_copies_that_are_on_one_side_are_no_leak(root, tmp_path):
    for path in root.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "p02.png").unlink()
    write(tmp_path / "p02.png", cropped(drawn(0, side=64), 1, 2, 1, 1))
    report = bunch(tmp_path).audit(silent=True)
    assert kinds(report) == {"near-copies": 1, "sizes": 2}
    assert report.leaked == ()


def test_pages_of_one_form_are_a_note_and_no_leak(tmp_path):
    for i in range(N):
        write(tmp_path / f"p{i:02}.png", form(i * 7919 % 100_000))
    report = bunch(tmp_path).audit(silent=True)
    assert report.leaked == ()
    assert [f.severity for f in report.findings if "alike" in f.kind or "cop" in f.kind] == ["note"]


def test_each_pair_is_said_to_be_as_alike_as_it_is_and_each_label_is_named(root, tmp_path):
    """Three files have the same pixels, one of them validates; a fourth, in training, is turned."""
    for path in root.iterdir():
        (tmp_path / path.name).symlink_to(path)
    for name in ("p02", "p04", "p31"):
        (tmp_path / f"{name}.png").unlink()
        write(tmp_path / f"{name}.png", drawn(0, side=64))
    (tmp_path / "p06.png").unlink()
    write(tmp_path / "p06.png", np.ascontiguousarray(drawn(0, side=64)[:, ::-1]))
    report = bunch(tmp_path).audit(silent=True)
    found = {f.kind: f for f in report.findings}
    assert found["leak"].examples == ("p31.png has the pixels of p00.png",)
    assert [g.kind for g in report.duplicates] == ["turned"]
    assert found["contradicting-copies"].severity == "error"
    (example,) = found["contradicting-copies"].examples
    assert example.count("~") == 1
    assert example.startswith("p00.png (")
    assert "p31.png (" in example
    assert found["contradicting-near-copies"].count == 1


def test_lookalikes_are_a_note_and_no_leak(tmp_path):
    for seed in range(60):
        write(tmp_path / f"p{seed:02}.png", lookalike(seed))
    report = bunch(tmp_path).audit(silent=True)
    assert list(kinds(report)) == ["look-alikes"]
    assert report.worst == "note"
    assert (report.duplicates, report.leaked) == ((), ())


def test_groups_that_are_in_both_parts(root):
    groups = [f"site {i}" for i in range(N)]
    assert kinds(bunch(root).audit(groups=groups)) == {}
    groups[35] = groups[36] = "site 3"
    (found,) = bunch(root).audit(groups=groups).findings
    assert (found.severity, found.kind, found.count, found.examples) == ("error", "group-across", 1, ("site 3",))
    assert "2 validation pictures" in found.message
    with pytest.raises(ArgumentError, match="one group a picture, 40; received 3"):
        bunch(root).audit(groups=[1, 2, 3])


def test_features_are_looked_at_when_given(root):
    features = np.random.default_rng(0).normal(size=(N, 64))
    assert bunch(root).audit(features=features).neighbours == ()
    features[33] = features[5]
    report = bunch(root).audit(features=features)
    assert [(n.valid, n.train) for n in report.neighbours] == [("p33.png", "p05.png")]
    assert [(f.severity, f.kind) for f in report.findings] == [("note", "neighbours")]
    assert report.leaked == ()


def test_neighbours_that_are_copies_are_reported_as_copies_only(copied):
    features = np.random.default_rng(0).normal(size=(N, 64))
    features[33] = features[0]
    assert bunch(copied).audit(features=features).neighbours == ()


def test_one_file_in_both_parts_is_a_leak(colour_path):
    rows = [("p000.jpg", "red"), *((f"p{i:03d}.jpg", "red") for i in range(20))]
    names = [colour_path / "train" / name for name, _ in rows]
    with pytest.warns(match="listed more than once"):
        data = ImageDataBunch.from_lists(
            colour_path, names, ["red", "blue"] * 10 + ["red"], valid_pct=0.5, seed=1, size=32
        )
    report = data.audit()
    counts = kinds(report)
    assert counts["contradicting-rows"] == 1
    assert counts.get("leak", 0) == len(report.leaked) == int((0 in data.split.valid) != (1 in data.split.valid))
    assert counts["file-without-row"] == 40
    assert report.duplicates[0].kind == "same file"


# -------------------------------------------------------------------- report


def a_report() -> AuditReport:
    findings = (
        Finding("error", "leak", 12345, "word " * 40, tuple(f"folder/{'x' * 90}{i}.jpg" for i in range(5)), "mend"),
        Finding("note", "sizes", 2, "two sizes"),
    )
    group = DuplicateGroup((1, 3), ("b", "d"), "near")
    return AuditReport("labels.csv", findings, {"rows": 5, "files": 5}, (group,), ("d",))


def test_the_table_fits_in_80_columns_but_for_longer_names_which_are_whole():
    lines = str(a_report()).splitlines()
    assert all(len(line) <= 80 or " " not in line.strip() for line in lines)
    assert all(any(f"folder/{'x' * 90}{i}.jpg" in line for line in lines) for i in range(5))
    assert lines[0] == "Audit of labels.csv: 5 rows, 5 files"
    assert lines[2].startswith("error     12,345  leak: word")
    assert any(line.strip() == "→ mend" for line in lines)
    assert lines[-1] == "error: 1, note: 1"
    assert repr(a_report()) == str(a_report())


def test_the_report_goes_through_json():
    report = a_report()
    back = json.loads(json.dumps(report.to_dict()))
    assert back["worst"] == "error"
    assert back["findings"][1] == {
        "severity": "note", "kind": "sizes", "count": 2, "message": "two sizes", "examples": [], "advice": "",
    }  # fmt: skip
    assert back["duplicates"] == [{"rows": [1, 3], "names": ["b", "d"], "kind": "near"}]
    assert back["leaked"] == ["d"]


def test_groups_number_rows_in_order():
    assert a_report().groups().tolist() == [0, 1, 2, 1, 3]


def test_severities_are_ordered():
    report = a_report()
    assert report.reaches("error")
    assert report.reaches("warning")
    notes = AuditReport("x", report.findings[1:], {"rows": 1})
    assert notes.worst == "note"
    assert not notes.reaches("warning")
    assert notes.reaches("note")
