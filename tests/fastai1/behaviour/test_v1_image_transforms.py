"""Pictures and transforms, as fastai 1's own tests ask for them: where one bright pixel goes."""

from __future__ import annotations

import pytest

SIDE = 5


def bright(vision, *places, side: int = SIDE):
    """A black picture with white pixels at ``places``."""
    import torch

    pixels = torch.zeros(3, side, side)
    for row, col in places:
        pixels[:, row, col] = 1
    return vision.Image(pixels)


def lit(image) -> set[tuple[int, int]]:
    """Where a picture is white; nothing else may be in it."""
    pixels = image.data[0]
    assert ((pixels < 0.02) | (pixels > 0.98)).all()
    return {(int(r), int(c)) for r, c in (pixels > 0.5).nonzero()}


def test_a_size_in_any_form(vision):
    assert vision.tis2hw(224) == [224, 224]
    assert list(vision.tis2hw((3, 20, 30))) == [20, 30]
    assert list(vision.tis2hw((20, 30))) == [20, 30]
    with pytest.raises(Exception):  # noqa: B017
        vision.tis2hw("224")


@pytest.mark.parametrize("k", range(8))
def test_the_eight_positions(vision, k):
    places = [(0, 1), (4, 1), (0, 3), (4, 3), (1, 0), (1, 4), (3, 0), (3, 4)]
    assert lit(bright(vision, (0, 1)).apply_tfms([vision.dihedral(k=k, is_random=False)])) == {places[k]}


@pytest.mark.parametrize(
    ("name", "how", "place"),
    [
        ("rotate", {"degrees": 90}, (1, 3)),
        ("rotate", {"degrees": -90}, (3, 1)),
        ("flip_lr", {}, (3, 1)),
        ("flip_affine", {}, (3, 1)),
    ],
)
def test_turns_and_mirrors(vision, name, how, place):
    assert lit(bright(vision, (3, 3)).apply_tfms([getattr(vision, name)(**how)])) == {place}


@pytest.mark.parametrize(
    ("name", "scale", "place"), [("zoom", 2, (4, 4)), ("squish", 0.5, (3, 4)), ("squish", 2, (4, 3))]
)
def test_magnifications(vision, name, scale, place):
    tfm = getattr(vision, name)(scale=scale)
    assert lit(bright(vision, (3, 3)).apply_tfms([tfm], mode="nearest")) == {place}


@pytest.mark.parametrize(
    ("row", "col", "place"),
    [(0.0, 0.0, (3, 3)), (0.0, 0.99, (3, 2)), (0.5, 0.5, (2, 2)), (0.99, 0.0, (2, 3)), (0.99, 0.99, (2, 2))],
)
def test_windows(vision, row, col, place):
    image = bright(vision, (3, 3)).apply_tfms([vision.crop(size=4, row_pct=row, col_pct=col)])
    assert (tuple(image.size), lit(image)) == ((4, 4), {place})


@pytest.mark.parametrize("direction", range(4))
def test_tilts_move_one_side(vision, direction):
    sides = [[(0, 4), (4, 4)], [(0, 0), (4, 0)], [(4, 0), (4, 4)], [(0, 0), (0, 4)]]
    moved = [[(1, 4), (3, 4)], [(1, 0), (3, 0)], [(4, 1), (4, 3)], [(0, 1), (0, 3)]]
    tfm = vision.tilt(direction=direction, magnitude=-0.5, is_random=False)
    assert lit(bright(vision, *sides[direction]).apply_tfms([tfm])) == set(moved[direction])


@pytest.mark.parametrize("direction", range(8))
def test_skews_move_one_corner(vision, direction):
    corners = [(0, 0), (0, 0), (4, 0), (4, 0), (0, 4), (0, 4), (4, 4), (4, 4)]
    moved = [(0, 1), (1, 0), (4, 1), (3, 0), (0, 3), (1, 4), (4, 3), (3, 4)]
    tfm = vision.skew(direction=direction, magnitude=-0.5, is_random=False)
    assert lit(bright(vision, corners[direction]).apply_tfms([tfm])) == {moved[direction]}


def test_light(vision):
    image = bright(vision, (2, 2), side=6)
    grey = image.apply_tfms([vision.contrast(scale=(0.5, 0.5))])
    assert 0 <= float(grey.data.min()) < 0.01
    assert 0.99 < float(grey.data.max()) <= 1
    import torch

    even = vision.Image(torch.full((3, 4, 4), 0.6))
    assert float(even.apply_tfms([vision.brightness(change=(0.7, 0.7))]).data.mean()) == pytest.approx(0.7778, abs=4e-3)
    assert float(even.apply_tfms([vision.brightness(change=(0.5, 0.5))]).data.mean()) == pytest.approx(0.6, abs=4e-3)


def test_the_usual_transforms_run_at_any_size(vision):
    import torch

    image = vision.Image(torch.rand(3, 20, 30))
    train, valid = vision.get_transforms()
    assert tuple(image.apply_tfms(train).size) == (20, 30)
    assert tuple(image.apply_tfms(train, size=12).size) == (12, 12)
    assert tuple(image.apply_tfms(valid, size=(10, 14)).size) == (10, 14)


def test_nothing_changes_nothing(vision):
    image = bright(vision, (1, 2))
    assert lit(image.apply_tfms([])) == lit(image.apply_tfms(None)) == {(1, 2)}


def test_a_chance_of_nothing_and_of_all(vision):
    image = bright(vision, (1, 1))
    assert {tuple(lit(image.apply_tfms([vision.flip_lr(p=0.0)]))) for _ in range(5)} == {((1, 1),)}
    assert {tuple(lit(image.apply_tfms([vision.flip_lr(p=1.0)]))) for _ in range(5)} == {((1, 3),)}
    drawn = {tuple(lit(image.apply_tfms([vision.flip_lr(p=0.5)]))) for _ in range(60)}
    assert drawn == {((1, 1),), ((1, 3),)}


def test_files_and_pictures(vision, path, tmp_path):
    image = vision.open_image(path / "train" / "3" / "0.png")
    assert tuple(image.shape) == (3, 28, 28)
    image.save(tmp_path / "again.png")
    again = vision.open_image(tmp_path / "again.png")
    assert float((again.data - image.data).abs().max()) < 1.5 / 255
    axes = vision.show_image(image)
    assert axes.get_images()[0].get_array().shape == (28, 28, 3)
