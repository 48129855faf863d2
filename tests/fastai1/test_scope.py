"""What is out of scope: each part is told in the page for readers, and none of its names is here as well."""

from __future__ import annotations

from pathlib import Path

from onecycle.fastai1 import names, scope
from onecycle.fastai1.sources import find

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "fastai-v1.md").read_text()


def test_the_page_names_every_part():
    told = {*scope.PARTS, "text", "collaborative filtering", "tables of numbers and categories"}
    assert [part for part in told if f"| {part} |" not in PAGE] == []


def test_names_out_of_scope_are_v1_s():
    known = names.every_name() | {"DynamicUnet", "UnetBlock"}
    assert {n for text in scope.PARTS.values() for n in text.split()} - known == set()


def test_nothing_is_both_here_and_out_of_scope():
    both = []
    for name in sorted({n for text in scope.PARTS.values() for n in text.split()}):
        try:
            both.append((name, find(name)))
        except KeyError:
            continue
    assert both == []
