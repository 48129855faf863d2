"""Each finding about labels appears where it should, and none on a clean table."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter

import numpy as np
import pytest

from onecycle.data.audit import label_checks as checks
from onecycle.data.labels.splits import Split


def kinds(findings) -> dict[str, int]:
    return {f.kind: f.count for f in findings}


def half(n: int) -> Split:
    return Split(np.arange(0, n, 2), np.arange(1, n, 2), "given rows")


def test_rows_without_a_label():
    labels = [("cat",), None, ("dog",), None]
    (found,) = checks.missing_label_findings(labels, ["a", "b", "c", "d"], is_multi=False)
    assert (found.severity, found.kind, found.count, found.examples) == ("error", "no-label", 2, ("b", "d"))
    assert checks.missing_label_findings(labels[::2], ["a", "c"], is_multi=False) == []


def test_a_picture_without_tags_is_only_noted():
    (found,) = checks.missing_label_findings([("a",), ()], ["x", "y"], is_multi=True)
    assert (found.severity, found.kind) == ("note", "no-tag")


@pytest.mark.parametrize(("n_pictures", "asked"), [(3, True), (4, True), (20, False)])
def test_rows_that_may_have_a_tag_each_are_called_so(n_pictures, asked):
    paths = ["a", "a", *(f"p{i}" for i in range(n_pictures - 1))]
    (finding,) = checks.repeated_row_findings(paths, paths, [("sea",), ("sun",), *[("sea",)] * (n_pictures - 1)])
    assert ("join_rows=True" in finding.advice) == asked


def test_repeated_rows_are_told_apart_from_contradicting_ones():
    paths = ["a", "b", "a", "b", "c", "", ""]
    labels = [("cat",), ("cat",), ("cat",), ("dog",), ("cat",), None, ("dog",)]
    found = checks.repeated_row_findings(paths, [f"{p}.jpg" for p in paths], labels)
    assert [(f.severity, f.kind, f.count) for f in found] == [
        ("error", "contradicting-rows", 1),
        ("warning", "repeated-rows", 1),
    ]
    assert found[0].examples == ("b.jpg: cat / dog",)
    assert found[1].examples == ("a.jpg",)


def test_the_order_of_tags_does_not_contradict():
    found = checks.repeated_row_findings(["a", "a"], ["a", "a"], [("x", "y"), ("y", "x")])
    assert kinds(found) == {"repeated-rows": 1}


def test_names_that_differ_in_case_or_punctuation():
    counts = Counter({"Dog": 40, "dog": 41, "bare_ground": 30, "bare ground": 2, "cat": 9})
    (found,) = [f for f in checks.name_findings(counts) if f.kind == "label-case"]
    assert found.count == 2
    assert found.examples[1] == "'Dog' (40) / 'dog' (41)"


def test_names_that_differ_in_zeros():
    counts = Counter(
        {
            "007": 12,
            "7": 12,
            "8": 12,
            "10": 12,
            "grade 01": 12,
            "grade 1": 12,
            "1.05": 12,
            "1.5": 12,
            "2.0": 12,
            "2.00": 12,
        }
    )
    (found,) = [f for f in checks.name_findings(counts) if f.kind == "label-case"]
    assert found.examples == ("'2.0' (12) / '2.00' (12)", "'007' (12) / '7' (12)", "'grade 01' (12) / 'grade 1' (12)")


@pytest.mark.parametrize("typo", ["agricultre", "agricultture", "agriculturs", "agricutlure"])
def test_a_rare_name_one_letter_from_a_frequent_one(typo):
    found = checks.name_findings(Counter({"agriculture": 100, typo: 2, "water": 50}))
    assert [(f.kind, f.examples) for f in found] == [("label-typo", (f"'{typo}' (2) ~ 'agriculture' (100)",))]


@pytest.mark.parametrize(
    "counts",
    [
        {"house": 50, "mouse": 40},  # both are frequent
        {"type_1": 100, "type_2": 3, "type_11": 2},  # digits tell classes apart
        {"cat": 100, "car": 2},  # short names
        {1: 100, 2: 3},
        {"clear": 100, "cloudy": 5, "haze": 20},
    ],
    ids=str,
)
def test_names_that_are_in_order(counts):
    assert checks.name_findings(Counter(counts)) == []


def test_ten_thousand_names_take_no_time():
    counts = Counter({f"{a}{b}{c}rth" * 2: 100 for a in "abcdefghij" for b in "klmnopqrst" for c in "uvwxyzabcd"})
    assert [f.kind for f in checks.name_findings(counts)] == []


def test_lists_of_tags_given_as_one_label():
    tags = ["a", "b", "c", "d", "e"]
    rows = [(f"{x} {y}",) for x in tags for y in tags if x != y] * 2
    (found,) = checks.tag_list_findings(rows)
    assert (found.kind, found.count) == ("tag-lists", 20)
    assert "label_delim=" in found.advice
    assert checks.tag_list_findings([("cat",), ("dog",)] * 20) == []


# -------------------------------------------------------------------- counts


def test_clean_classes_have_no_finding():
    labels = [(("cat",), ("dog",))[i // 2 % 2] for i in range(80)]
    assert checks.class_findings(labels, half(80)) == []


def test_rare_unseen_and_unmeasured_classes():
    labels = [("cat",)] * 40 + [("dog",), ("owl",), ("fox",), ("fox",)]
    found = {f.kind: f for f in checks.class_findings(labels, half(44))}  # owl validates, dog trains
    assert found["few-items"].examples == ("dog (1)", "owl (1)", "fox (2)")
    assert found["unseen-label"].examples == ("owl (1)",)
    assert found["unmeasured-label"].examples == ("dog (1)",)
    assert "one-label" not in found


@pytest.mark.parametrize(
    ("how", "groups", "advice"),
    [
        ("random, valid_pct=0.2, seed=42", None, "split stratified (stratify=True)"),
        ("stratified, valid_pct=0.2, seed=42", None, "too few pictures to be in both parts"),
        ("stratified by whole groups, valid_pct=0.2", np.arange(42), "too few groups to be in both parts"),
        ("stratified; 1 validation pictures moved to training, where", None, "where their copies are"),
        ("by the folders train/ and valid/", None, "give each part pictures of every class"),
    ],
)
def test_what_the_split_did_already_is_not_advised(how, groups, advice):
    labels = [("cat",)] * 40 + [("dog",), ("owl",)]
    split = dataclasses.replace(half(42), how=how, groups=groups)
    found = {f.kind: f.advice for f in checks.class_findings(labels, split)}
    assert advice in found["unmeasured-label"]
    assert advice in found["unseen-label"]
    assert ("stratify=True" in found["unmeasured-label"]) == how.startswith("random")


def test_of_tags_no_sentence_says_class():
    labels = [("clear", "road")] * 40 + [("haze", "cloud"), ("fog", "Cloud"), ("roda",), ()]
    split = dataclasses.replace(half(44), how="random, valid_pct=0.5, seed=42")
    found = [
        *checks.class_findings(labels, split, is_multi=True),
        *checks.name_findings(checks.tag_counts([*labels, *[("agriculture",)] * 50, ("agricultur",)]), is_multi=True),
        *checks.missing_label_findings(labels, [str(i) for i in range(44)], is_multi=True),
    ]
    assert set(kinds(found)) == {
        "few-items", "unseen-label", "unmeasured-label", "label-case", "label-typo", "no-tag",
    }  # fmt: skip
    assert [f for f in found if re.search(r"\bclass(es)?\b", f"{f.kind} {f.message} {f.advice}")] == []
    assert next(f for f in found if f.kind == "unseen-label").advice.startswith("they count as missed there; ")
    (only,) = checks.class_findings([("clear",)] * 40, half(40), is_multi=True)
    assert only.message == "there is only one tag, 'clear', so there is nothing to tell apart"


def test_a_single_class_is_an_error():
    found = checks.class_findings([("cat",)] * 40, half(40))
    assert [(f.severity, f.kind) for f in found] == [("error", "one-label")]


def independent(n: int, tags: str, share: float = 0.3, seed: int = 0) -> list[tuple[str, ...]]:
    rng = np.random.default_rng(seed)
    return [tuple(t for t in tags if rng.random() < share) for _ in range(n)]


@pytest.mark.parametrize("seed", range(5))
def test_independent_tags_are_left_alone(seed):
    assert checks.together_findings(independent(400, "abcdef", seed=seed)) == []


def test_tags_that_exclude_or_imply_one_another():
    rows = [set(r) for r in independent(400, "abcd")]
    for row in rows:
        if "a" in row:
            row.discard("b")  # never with b
        if "c" in row:
            row.add("d")  # c implies d
        if "d" in row:
            row.add("e")  # d and e are the same
    found = {f.kind: f for f in checks.together_findings([tuple(sorted(r)) for r in rows])}
    assert set(found) == {"never-together", "always-together", "same-tags"}
    assert found["never-together"].examples[0].startswith("a | b (")
    assert {e.split(" (")[0] for e in found["always-together"].examples} == {"c → d", "c → e"}
    assert found["same-tags"].examples[0].startswith("d = e (")


def test_rare_tags_prove_nothing():
    rows = [("a",)] * 3 + [("b",)] * 3 + [("c",)] * 200
    assert all("a | b" not in e for f in checks.together_findings(rows) for e in f.examples)


def test_a_tag_on_every_row_implies_nothing():
    rows = [(*tags, "all") for tags in independent(400, "abc")]
    assert checks.together_findings(rows) == []
