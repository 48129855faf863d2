"""The named transforms as values, and get_transforms against the contract's table."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from onecycle.data.augment import transforms as T
from onecycle.errors import ArgumentError, OnecycleWarning


def _as_dicts(tfms: list[T.Transform]) -> list[dict[str, Any]]:
    return [t.to_dict() for t in tfms]


def test_default_list_is_the_contracts_table() -> None:
    train, valid = T.get_transforms()
    assert [t.name for t in train] == [
        *("crop_pad", "flip_lr", "symmetric_warp", "rotate", "zoom", "brightness", "contrast")
    ]
    assert [t.p for t in train] == [1, 0.5, 0.75, 0.75, 0.75, 0.75, 0.75]
    expected: dict[str, dict[str, list[float]]] = {
        "crop_pad": {"row_pct": [0, 1], "col_pct": [0, 1]},
        "flip_lr": {},
        "symmetric_warp": {"magnitude": [-0.2, 0.2]},
        "rotate": {"degrees": [-10, 10]},
        "zoom": {"scale": [1, 1.1], "row_pct": [0, 1], "col_pct": [0, 1]},
        "brightness": {"change": [0.4, 0.6]},
        "contrast": {"scale": [0.8, 1.25]},
    }
    found: Any = {d["name"]: d["params"] for d in _as_dicts(train)}
    assert found.keys() == expected.keys()
    for name, params in expected.items():
        assert found[name].keys() == params.keys()
        for key, value in params.items():
            assert found[name][key] == pytest.approx(value)
    assert _as_dicts(valid) == [{"name": "crop_pad", "params": {"row_pct": 0.5, "col_pct": 0.5}, "p": 1.0}]


def test_the_lessons_arguments() -> None:
    train, _ = T.get_transforms(flip_vert=True, max_lighting=0.1, max_zoom=1.05, max_warp=0.0)
    by_name = {t.name: t for t in train}
    assert list(by_name) == ["crop_pad", "dihedral_affine", "rotate", "zoom", "brightness", "contrast"]
    assert by_name["dihedral_affine"].p == 1
    assert by_name["dihedral_affine"].param("k") == (0, 7)
    assert by_name["zoom"].param("scale") == (1, 1.05)
    assert by_name["brightness"].param("change") == pytest.approx((0.45, 0.55))
    assert by_name["contrast"].param("scale") == pytest.approx((0.9, 1 / 0.9))


def test_a_zoom_below_1_zooms_nothing_as_in_v1_and_is_said() -> None:
    with pytest.warns(OnecycleWarning, match=r"max_zoom=0\.9 is below 1"):
        train, _ = T.get_transforms(max_zoom=0.9)
    assert "zoom" not in [t.name for t in train]


def test_what_is_switched_off_is_left_out() -> None:
    train, _ = T.get_transforms(
        do_flip=False, max_rotate=0, max_zoom=1, max_lighting=0, max_warp=0, p_affine=1, p_lighting=1
    )
    assert [t.name for t in train] == ["crop_pad"]
    with_none, _ = T.get_transforms(max_rotate=None, max_zoom=None, max_lighting=None, max_warp=None)
    assert [t.name for t in with_none] == ["crop_pad", "flip_lr"]


def test_probabilities_reach_their_transforms() -> None:
    train, _ = T.get_transforms(p_affine=0.25, p_lighting=0.1)
    by_name = {t.name: t.p for t in train}
    assert [by_name[n] for n in ("symmetric_warp", "rotate", "zoom")] == [0.25] * 3
    assert [by_name[n] for n in ("brightness", "contrast")] == [0.1] * 2


def test_extra_transforms_follow_even_from_nested_lists() -> None:
    extra = [T.cutout(n_holes=(1, 4), length=(10, 20), p=0.5), T.zoom_crop((1.0, 1.2), do_rand=True)]
    train, valid = T.get_transforms(xtra_tfms=extra)
    assert [t.name for t in train[-3:]] == ["cutout", "zoom", "crop_pad"]
    assert len(valid) == 1
    assert T.get_transforms(xtra_tfms=T.jitter())[0][-1].name == "jitter"


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"max_rotate": -1}, "max_rotate"),
        ({"max_lighting": 1.0}, "max_lighting"),
        ({"max_lighting": -0.1}, "max_lighting"),
        ({"max_warp": 1.0}, "max_warp"),
        ({"p_affine": 1.5}, "probability"),
        ({"p_lighting": -0.5}, "probability"),
        ({"xtra_tfms": ["rotate"]}, "'rotate'"),
        ({"xtra_tfms": [T.rotate]}, r"call it: rotate\(...\)"),
    ],
)
def test_get_transforms_says_what_cannot_work(arguments: dict[str, Any], word: str) -> None:
    with pytest.raises(ArgumentError, match=word):
        T.get_transforms(**arguments)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: T.rotate((10, -10)), r"rotate: degrees .* low <= high; received \(10, -10\)"),
        (lambda: T.rotate((1, 2, 3)), "rotate: degrees"),  # type: ignore[arg-type]
        (lambda: T.rotate(math.nan), "rotate: degrees"),
        (lambda: T.zoom(0), "zoom: scale must lie above 0"),
        (lambda: T.zoom(1.1, row_pct=1.5), "zoom: row_pct must lie from 0 to 1; received 1.5"),
        (lambda: T.contrast((-1, 1)), "contrast: scale"),
        (lambda: T.brightness(1.0), "brightness: change must lie above 0 and below 1"),
        (lambda: T.symmetric_warp((-1, 0.2)), "symmetric_warp: magnitude must lie above -1"),
        (lambda: T.symmetric_warp((0.1, 0.2, 0.3)), "pair, or 4 numbers"),
        (lambda: T.perspective_warp((0.1,) * 4), "pair, or 8 numbers"),
        (lambda: T.dihedral(8), "dihedral: k must lie from 0 to 7"),
        (lambda: T.dihedral_affine(-1), "dihedral_affine: k"),
        (lambda: T.tilt((0, 4)), "tilt: direction"),
        (lambda: T.skew(0.5), "skew: direction is a whole number"),
        (lambda: T.crop(0), "size is a side"),
        (lambda: T.crop((1, 2, 3)), "size is a side"),  # type: ignore[arg-type]
        (lambda: T.pad(-1), "pad: padding"),
        (lambda: T.pad(1, mode="mirror"), "pad: mode must be one of reflection, border, zeros; received 'mirror'"),
        (lambda: T.cutout(length=0), "cutout: length"),
        (lambda: T.rgb_randomize(channel=-1), "rgb_randomize: channel"),
        (lambda: T.rgb_randomize(channel=3), "channel is 0, 1, 2 or None for any; received 3"),
        (lambda: T.rgb_randomize(thresh=1.5), "rgb_randomize: thresh"),
        (lambda: T.zoom_squish(tries=0), "zoom_squish: tries"),
        (lambda: T.flip_lr(p=2), "flip_lr: p is a probability"),
    ],
)
def test_a_bad_parameter_is_named(make: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        make()


def test_numpys_numbers_are_numbers() -> None:
    assert T.rotate(np.float32(5)) == T.rotate(5)
    assert T.crop((np.int64(4), np.int64(5))).param("cols") == 5


def test_a_transform_is_a_value() -> None:
    assert T.rotate((-5, 5), p=0.5) == T.rotate((-5.0, 5.0), p=0.5)
    assert len({T.rotate(), T.rotate(), T.rotate(3)}) == 2
    assert repr(T.rotate((-5, 5), p=0.5)) == "rotate(degrees=(-5.0, 5.0), p=0.5)"
    assert T.rotate((3, 3)).param("degrees") == 3


@pytest.mark.parametrize("name", sorted(T.NAMED))
def test_every_named_transform_describes_itself_in_json(name: str) -> None:
    args = (4, 32) if name == "rand_pad" else (32,) if name in ("crop", "rand_resize_crop") else ()
    args = (1.1,) if name == "zoom_crop" else (4,) if name == "pad" else args
    for tfm in T.flatten(T.NAMED[name](*args)):
        described = json.loads(json.dumps(tfm.to_dict()))
        assert described["name"] == tfm.name
        assert described["p"] == tfm.p


def test_order_is_that_of_v1() -> None:
    orders = [t.order for t in (T.pad(1), T.tilt(), T.rotate(), T.contrast(), T.flip_lr(), T.cutout(), T.crop_pad())]
    assert orders == [-10, 4, 5, 8, 10, 20, 99]


@pytest.mark.parametrize(
    ("tfms", "n"),
    [
        (T.get_transforms(), 2),
        (T.get_transforms(flip_vert=True), 4),
        (T.get_transforms(do_flip=False), 1),
        ([T.flip_lr(p=0.0)], 1),
        ([T.dihedral(1)], 2),
    ],
)
def test_the_mirrored_views_are_those_that_training_shows(tfms, n) -> None:
    assert T.mirrored_views(tfms[0] if isinstance(tfms, tuple) else tfms) == n


def test_tta_views_are_four_corners_twice_and_keep_the_rest() -> None:
    train, _ = T.get_transforms(xtra_tfms=[T.cutout()])
    views = T.tta_views(train, 1.5)
    corners = []
    for view in views:
        names = [t.name for t in view]
        assert names[:5] == ["symmetric_warp", "rotate", "brightness", "contrast", "cutout"]
        assert names[5:] in (["zoom", "crop_pad"], ["zoom", "crop_pad", "flip_lr"])
        zoom, crop = view[5], view[6]
        assert (zoom.param("scale"), zoom.p) == (1.5, 1)
        assert zoom.param("row_pct") == crop.param("row_pct")
        assert zoom.param("col_pct") == crop.param("col_pct")
        corners.append((crop.param("row_pct"), crop.param("col_pct"), len(view) == 8))
    assert sorted(corners) == [(r, c, f) for r in (0, 1) for c in (0, 1) for f in (False, True)]


@pytest.mark.parametrize(
    ("train", "mirrors", "zooms", "moves"),
    [
        (None, False, False, False),
        (T.get_transforms(do_flip=False)[0], False, True, True),
        (T.get_transforms(do_flip=False, max_zoom=1.0)[0], False, False, True),
        (T.get_transforms(max_zoom=None, max_warp=0)[0], True, False, True),
        (T.get_transforms(flip_vert=True)[0], True, True, True),
        ([T.rotate(), T.brightness()], False, False, False),
        ([T.flip_lr(p=0.0), T.rand_zoom(p=0.0), T.crop_pad()], False, False, False),
        (T.dihedral(), True, False, False),
        (T.dihedral(2), False, False, False),
        (T.dihedral_affine(1), True, False, False),
        (T.flip_affine(p=0.5), True, False, False),
        (T.zoom((0.8, 1.0)), False, False, False),
        (T.rand_resize_crop(32), False, True, True),
        (T.zoom_crop(1.2), False, True, True),
    ],
)
def test_tta_does_nothing_that_training_does_not(train, mirrors, zooms, moves) -> None:
    views = T.tta_views(train)
    assert len(views) == (8 if mirrors else 4)
    for i, view in enumerate(views):
        names = [t.name for t in view]
        crop = next(t for t in view if t.name == "crop_pad")
        assert ("flip_lr" in names) == (mirrors and i >= 4)
        assert any(t.name == "zoom" and t.param("scale") == 1.35 for t in view) == zooms
        assert (crop.param("row_pct") != 0.5) == moves


def test_tta_keeps_dihedral_affine_but_not_dihedral() -> None:
    lesson, _ = T.get_transforms(flip_vert=True)
    names = [t.name for t in T.tta_view([*lesson, T.dihedral()], corner=(0, 1))]
    assert "dihedral_affine" in names
    assert "dihedral" not in names
