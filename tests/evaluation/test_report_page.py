"""The page: one file, one policy, and names that stay names."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

import report_toys as toys
from onecycle.evaluation.report.page import json_for_page, payload, render


@pytest.fixture(scope="module")
def hostile_page() -> str:
    predictions = toys.tags(60, len(toys.HOSTILE), classes=toys.HOSTILE)
    names = tuple(f"{toys.HOSTILE[i % len(toys.HOSTILE)]}{i}" for i in range(60))
    return render(toys.content_of(replace(predictions, files=names)))


class Elements(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, {k: v or "" for k, v in attrs}))


def test_no_name_becomes_an_element_a_handler_or_a_request(hostile_page):
    elements = Elements(hostile_page).found
    assert sum(tag == "script" for tag, _ in elements) == 2
    for tag, attrs in elements:
        assert not any(name.startswith("on") or name == "style" for name in attrs), (tag, attrs)
        for name in ("src", "href", "action"):
            assert attrs.get(name, "data:").startswith(("data:", "#")), (tag, attrs)


def test_the_policy_allows_the_own_style_and_script_alone(hostile_page):
    policy = next(a["content"] for t, a in Elements(hostile_page).found if "http-equiv" in a)
    assert policy.startswith("default-src 'none'; img-src data:; ")
    for kind in ("style", "script"):
        text = re.findall(rf"<{kind}>(.*?)</{kind}>", hostile_page, re.DOTALL)[-1]
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert "unsafe" not in policy


def test_json_cannot_end_its_element():
    text = str(json_for_page({"a": "</script><!--&"}))
    assert not set("<>&") & set(text)
    assert json.loads(text) == {"a": "</script><!--&"}


def test_the_payload_comes_back_as_it_was(hostile_page):
    text = re.search(r'id="payload">(.*?)</script>', hostile_page, re.DOTALL).group(1)
    assert json.loads(text)["classes"] == list(toys.HOSTILE)


def test_template_signs_in_names_are_not_templates(hostile_page):
    assert "{{ 7 * 7 }}" in hostile_page


@pytest.mark.parametrize(("is_multi", "other"), [(True, "class(es)?"), (False, "tags?")], ids=["tags", "classes"])
def test_labels_are_called_by_their_own_name(is_multi, other):
    page = render(toys.content_of(toys.tags() if is_multi else toys.classes(c=3)))
    text = re.sub(r"<(script|style)>?.*?</\1>|<[^>]*>", " ", page, flags=re.DOTALL)
    assert [text[m.start() - 60 : m.end() + 40] for m in re.finditer(rf"\b{other}\b", text)] == []


def test_headings_are_in_order(hostile_page):
    levels = [int(t[1]) for t, _ in Elements(hostile_page).found if re.fullmatch(r"h[1-6]", t)]
    assert levels.count(1) == 1
    assert all(b <= a + 1 for a, b in itertools.pairwise(levels))


def test_every_picture_has_words(hostile_page):
    pictures = [a for t, a in Elements(hostile_page).found if t == "img"]
    assert pictures
    assert all(a["alt"].strip() for a in pictures)


def test_both_kinds_give_what_their_script_needs():
    single, multi = payload(toys.content_of(toys.classes())), payload(toys.content_of(toys.tags()))
    assert {"truth", "predicted", "probs"} <= single.keys()
    assert {"truth", "ranks", "inUse", "extra", "fixed"} <= multi.keys()
    assert len(base64.b64decode(multi["ranks"])) == 80 * 5


def test_where_sets_decide_there_are_no_thresholds_and_the_rule_is_said():
    e = toys.tags_by_sets()
    page = render(toys.content_of(e))
    assert 'id="thresholds"' not in page
    assert f"The most probable of the {len(e.decisions.sets)} sets of tags of training is predicted." in page
    made = payload(toys.content_of(e))
    given = np.unpackbits(np.frombuffer(base64.b64decode(made["predicted"]), np.uint8))[: e.predicted.size]
    assert given.reshape(e.predicted.shape).astype(bool).tolist() == e.predicted.tolist()


def test_five_hundred_classes_and_a_thousand_pictures_stay_small():
    predictions = toys.classes(1000, 500, noise=1.0)
    noise = np.random.default_rng(0).integers(0, 255, (128, 128, 3)).astype(np.uint8)
    page = render(toys.content_of(predictions, read=lambda i: noise))  # noise does not compress: the worst case
    assert len(page.encode()) < 5_000_000
    assert "are left out to keep this page small" in page


def test_the_history_of_training_has_its_say():
    page = render(replace(toys.content_of(toys.tags()), training_note="All layers did not do better."))
    training = page[page.index('id="training"') : page.index('id="classes"')]
    assert "All layers did not do better." in training


def test_doubtful_labels_are_never_called_wrong():
    page = render(toys.content_of(toys.tags()))
    section = page[page.index('id="labels-h"') : page.index('id="relabel"')]
    assert (
        "9 of 400 yes/no decisions on tags look doubtful, about 5 of which would if all were right; 4 more" in section
    )
    assert "wrong" not in section


@pytest.mark.parametrize("baseline", [0.0, 0.05, 0.19, 0.5, 0.81, 1.0])
def test_the_baseline_and_the_ends_of_the_scale_have_room(baseline):
    content = toys.content_of(toys.tags())
    best = replace(content.scores.headline, baseline=baseline)
    page = render(replace(content, scores=replace(content.scores, headline=best)))
    drawn = page[page.index('<div class="scale">') : page.index('<dl class="verdict">')]
    found = re.findall(r'<text x="([\d.]+)" y="44" text-anchor="(\w+)">([^<]+)</text>', drawn)
    width = {text: 7.0 * len(text) for _, _, text in found}  # 12 px letters are narrower than 7
    lefts = {"start": 0.0, "middle": -0.5, "end": -1.0}
    spans = sorted((float(x) + lefts[a] * width[text], float(x) + (1 + lefts[a]) * width[text]) for x, a, text in found)
    assert all(right < left for (_, right), (left, _) in itertools.pairwise(spans))


def test_missing_parts_say_why():
    content = toys.content_of(toys.tags(), doubtful=False)
    bare = replace(
        content, curves=(), data=None, missing={"curves": "No history.", "slices": "None.", "heat": "No maps."}
    )
    page = render(bare)
    assert all(text in page for text in ("No history.", "No maps.", "Not audited.", "Nobody looked."))
