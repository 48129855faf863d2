"""Values of JSON are checked against types: what fits, and the place that is named where it does not."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest

from onecycle.foreign import Closed, Fields, Refused, Within, check_plain, fitted, strict_json


class _Head(Closed):
    width: Annotated[int, Within(1, 64)]
    drop: Annotated[float, Within(0, 1)] | list[Annotated[float, Within(0, 1)]] = 0.5


class _Model(Fields):
    name: Annotated[str, Within(1, 8)]
    kind: Literal["a", 1] | None = None
    heads: Annotated[list[_Head], Within(0, 2)] = []
    counts: dict[str, int] = {}
    more: Any = None
    flag: bool = False

    @classmethod
    def misfit(cls, value: dict[str, Any]) -> str | None:
        return "a name in small letters" if value["name"] != value["name"].lower() else None


class _NoDefault(_Model):
    flag: bool


@pytest.mark.parametrize(
    "value",
    [
        {"name": "x"},
        {"name": "x", "kind": 1, "other": object()},
        {"name": "x", "heads": [{"width": 64, "drop": 1}, {"width": 1, "drop": [0.5, 0]}]},
        {"name": "x", "counts": {"a": 2**70}, "more": [None], "flag": True},
    ],
)
def test_what_fits_passes(value):
    fitted(_Model, value, "file")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "file: expected an object; received []"),
        ({}, "file, name is missing"),
        ({"name": ""}, "file, name: expected text of 1 to 8 characters; received ''"),
        ({"name": "x", "kind": True}, "file, kind: expected 'a' or 1 or null; received True"),
        ({"name": "x", "heads": {}}, "file, heads: expected a list; received {}"),
        ({"name": "x", "heads": [{"width": 1}] * 3}, "file, heads: expected a list of 0 to 2 values; received"),
        ({"name": "x", "heads": [{"width": 1}, {}]}, "file, heads.1.width is missing"),
        ({"name": "x", "heads": [{"width": 0}]}, "file, heads.0.width: expected a whole number, 1 to 64; received 0"),
        ({"name": "x", "heads": [{"width": 1.0}]}, "file, heads.0.width: expected a whole number; received 1.0"),
        ({"name": "x", "heads": [{"width": True}]}, "file, heads.0.width: expected a whole number; received True"),
        ({"name": "x", "heads": [{"width": 1, "n": 1}]}, "file, heads.0.n is no field of it"),
        ({"name": "x", "heads": [{"width": 1, "drop": [0.5, 2]}]}, "file, heads.0.drop.1: expected a number, 0 to 1"),
        ({"name": "x", "heads": [{"width": 1, "drop": "a"}]}, "drop: expected a number or a list; received 'a'"),
        ({"name": "x", "counts": {"a": "1"}}, "file, counts.a: expected a whole number; received '1'"),
        ({"name": "x", "flag": 0}, "file, flag: expected true or false; received 0"),
        ({"name": "X"}, "file: expected a name in small letters; received {'name': 'X'}"),
    ],
)
def test_the_place_that_does_not_fit_is_named(value, message):
    with pytest.raises(Refused) as caught:
        fitted(_Model, value, "file")
    assert message in str(caught.value)


def test_a_number_within_limits_is_finite():
    for odd in (float("nan"), float("inf")):
        with pytest.raises(Refused, match="expected a number, 0 or more"):
            fitted(Annotated[float, Within(0)], odd, "file")


def test_a_name_declared_again_without_a_default_must_be_there():
    with pytest.raises(Refused, match="flag is missing"):
        fitted(_NoDefault, {"name": "x"}, "file")


def test_only_where_it_is_said_numbers_may_be_infinite():
    assert str(strict_json("[NaN, Infinity, -Infinity]", "file", finite=False)) == "[nan, inf, -inf]"
    with pytest.raises(Refused, match="NaN is no number"):
        strict_json("[NaN]", "file")
    with pytest.raises(Refused, match=r"file, a\.0: expected a finite number"):
        check_plain({"a": [float("inf")]}, "file")


@pytest.mark.parametrize("text", ["a\0", "\ud800"])
@pytest.mark.parametrize("place", [lambda t: [t], lambda t: {t: 1}, lambda t: {"a": {"b": t}}])
def test_no_text_has_nul_or_half_of_a_character(text, place):
    with pytest.raises(Refused, match="half of a character or NUL"):
        check_plain(place(text), "file")
