"""Copies are found, of every kind; pictures that only resemble one another are not."""

from __future__ import annotations

import numpy as np
import PIL.Image
import pytest
from audit_toys import cropped, drawn, form, lookalike, printed, resized, saved_anew

from onecycle.data.audit import duplicates
from onecycle.data.audit.duplicates import Copies, find_copies
from onecycle.data.audit.fingerprints import TURNS, UPRIGHT, descriptors, edges, unoriented
from onecycle.data.audit.registration import WHOLE, compare, find_place, resampled, same_all_over

N = 12


@pytest.fixture(scope="module")
def originals() -> list[np.ndarray]:
    return [drawn(seed) for seed in range(N)]


def links_of(pictures: list[np.ndarray]) -> list[tuple[int, int, str]]:
    return [(link.a, link.b, link.kind) for link in find_copies(printed(pictures)).links]


def test_different_pictures_are_no_copies(originals):
    assert links_of(originals) == []


@pytest.mark.parametrize("contrast", [1.0, 3.0, 60.0])
def test_hazy_and_harsh_pictures_are_no_copies(contrast):
    assert links_of([drawn(seed, contrast=contrast) for seed in range(60)]) == []


def test_exact_copies_need_the_same_pixels_and_size(originals):
    pictures = [*originals, originals[3].copy(), originals[3][::-1].reshape(-1, 64, 3)]
    assert links_of(pictures) == [(3, N, "exact")]


@pytest.mark.parametrize("contrast", [3.0, 30.0])
@pytest.mark.parametrize(
    "change",
    [
        lambda p: saved_anew(p, 70),
        lambda p: saved_anew(p, 90),
        lambda p: resized(p, 64),
        lambda p: resized(p, 200),
        lambda p: saved_anew(resized(p, 100), 75),
    ],
    ids=["quality 70", "quality 90", "smaller", "larger", "smaller and saved anew"],
)
def test_near_copies_are_found(change, contrast):
    pictures = [drawn(seed, contrast=contrast) for seed in range(N)]
    found = links_of(pictures + [change(p) for p in pictures])
    assert sorted(found) == [(i, N + i, "near") for i in range(N)]


def test_copies_of_low_quality_are_found(originals):
    assert len(links_of(originals + [saved_anew(p, 30) for p in originals])) == N


def test_slightly_cropped_copies_are_found(originals):
    pictures = originals + [saved_anew(cropped(p), 85) for p in originals]
    assert sorted(links_of(pictures)) == [(i, N + i, "near") for i in range(N)]


@pytest.mark.parametrize("turn", TURNS, ids=str)
def test_turned_copies_are_found_as_such(originals, turn):
    turned = [saved_anew(np.ascontiguousarray(turn(p.transpose(2, 0, 1)).transpose(1, 2, 0))) for p in originals]
    assert sorted(links_of(originals + turned)) == [(i, N + i, "turned") for i in range(N)]


def test_recoloured_pictures_are_no_copies(originals):
    other = originals[0][:, :, ::-1] // 2 + np.array([0, 60, 90], dtype=np.uint8)
    assert links_of([originals[0], other]) == []


def test_pictures_of_one_colour_have_exact_copies_only():
    plain = [np.full((40, 40, 3), grey, np.uint8) for grey in (90, 90, 91, 92)]
    copies = find_copies(printed(plain))
    assert [(link.a, link.b, link.kind) for link in copies.links] == [(0, 1, "exact")]
    assert copies.plain.tolist() == [0, 2, 3]


def test_a_group_is_named_by_its_first_picture(originals):
    pictures = [originals[0], originals[1], saved_anew(originals[1]), originals[2], resized(originals[1])]
    assert find_copies(printed(pictures)).groups.tolist() == [0, 1, 1, 3, 1]


def test_a_thousand_copies_need_only_so_many_links_and_comparisons(originals, monkeypatch):
    looked_at = 0

    def counting(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        nonlocal looked_at
        looked_at += len(a)
        return compare(a, b)

    monkeypatch.setattr(duplicates, "compare", counting)
    rng = np.random.default_rng(0)
    small = resized(originals[0], 48).astype(int)
    pictures = [(small + rng.integers(-1, 2, small.shape)).clip(0, 255).astype(np.uint8) for _ in range(1000)]
    copies = find_copies(printed(pictures))
    assert len(copies.links) == 999
    assert not copies.groups.any()
    assert looked_at < 1000 * 999 / 2 / 20


def test_blocks_do_not_change_what_is_found(originals, monkeypatch):
    pictures = originals + [saved_anew(p) for p in originals] + [p[:, ::-1] for p in originals[:4]]
    whole = set(links_of(pictures))
    monkeypatch.setattr(duplicates, "_ROWS_AT_ONCE", 5)
    monkeypatch.setattr(duplicates, "_PAIRS_AT_ONCE", 3)
    assert {(a, b) for a, b, _ in links_of(pictures)} == {(a, b) for a, b, _ in whole}


def test_nothing_and_one_picture_have_no_copies(originals):
    assert links_of([]) == []
    assert links_of(originals[:1]) == []


@pytest.fixture(scope="module")
def crowd() -> list[np.ndarray]:
    return [lookalike(seed) for seed in range(200)]


def test_lookalikes_are_no_copies_of_one_another(crowd):
    copies = find_copies(printed(crowd))
    assert copies.links == []
    assert (copies.groups == np.arange(len(crowd))).all()
    assert len(copies.lookalikes) > 200
    assert len(set(copies.lookalikes)) == len(copies.lookalikes)
    assert all(a < b for a, b in copies.lookalikes)


@pytest.mark.parametrize("turn", [None, TURNS[2], TURNS[6]], ids=["upright", "flipped", "turned"])
def test_copies_are_found_in_a_crowd_of_lookalikes(crowd, turn):
    small = [p[16:-16, 16:-16] for p in crowd[:4]]
    pictures = crowd + [saved_anew(p, 95) for p in small] + small
    if turn is not None:
        pictures[-4:] = [np.ascontiguousarray(turn(p.transpose(2, 0, 1)).transpose(1, 2, 0)) for p in small]
    assert sorted((a, b) for a, b, _ in links_of(pictures)) == [(200 + i, 204 + i) for i in range(4)]


def test_eight_copies_of_each_picture_are_one_group(originals):
    pictures = [
        copy
        for p in originals
        for copy in (
            p,
            saved_anew(p, 85),
            saved_anew(p, 40),
            resized(p),
            resized(p, 200),
            cropped(p),
            p[::-1],
            p[:, ::-1],
        )
    ]
    np.testing.assert_array_equal(find_copies(printed(pictures)).groups, np.arange(N).repeat(8) * 8)


def test_pictures_with_one_structure_in_many_colours_are_no_copies(originals):
    tints = np.random.default_rng(0).integers(0, 120, (20, 3), dtype=np.uint8)
    tints = tints[np.argsort(tints[:, 0])]
    tints[:, 0] = np.arange(20) * 6
    tints[:, 1] = (np.arange(20) * 47) % 120
    found = links_of([originals[0] // 2 + tint for tint in tints])
    assert all(np.abs(tints[a].astype(int) - tints[b]).max() <= 17 for a, b, _ in found)


def test_as_many_pairs_are_compared_as_there_are_pictures(monkeypatch):
    looked_at: list[int] = []

    def counting(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        looked_at[-1] += len(a)
        return compare(a, b)

    monkeypatch.setattr(duplicates, "compare", counting)
    pictures = [lookalike(seed, side=32) for seed in range(160)]
    for n in (80, 160):
        looked_at.append(0)
        find_copies(printed(pictures[:n]))
        assert n < looked_at[-1] <= 13 * n


def test_registration_finds_a_known_crop():
    whole = drawn(5, side=256)
    cut = whole[10:-10, 20:-5]  # rows 10 to 246, columns 20 to 251; a cell has 8 px
    a, b = (printed([p]).thumbs.astype(np.float32) for p in (whole, cut))
    place = find_place(a, b, WHOLE, 8)
    np.testing.assert_allclose(place[0, ::2], [236 / 256, 231 / 256], atol=0.01)
    np.testing.assert_allclose(place[0, 1::2], [0, ((20 + 251) / 2 - 128) / 8], atol=0.15)
    moved, inside = resampled(a, place)
    assert inside.all()
    assert np.abs(edges(moved) - edges(b)).mean() < 0.4 * np.abs(edges(a) - edges(b)).mean()
    assert compare(a, b)[1].all()


def test_descriptors_have_length_one_and_turn_with_the_picture():
    thumbs = printed([drawn(1), drawn(2)]).thumbs
    found = descriptors(thumbs)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
    assert abs(float(found[0] @ found[1])) < 0.6
    mirrored = descriptors(thumbs[:, :, ::-1]).reshape(2, -1)
    np.testing.assert_allclose(np.abs(mirrored), np.abs(found), atol=1e-3)


def test_the_eight_turns_are_eight_different_pictures():
    picture = np.arange(9.0).reshape(1, 3, 3)
    assert len({turn(picture).tobytes() for turn in TURNS} | {picture.tobytes()}) == 8


@pytest.mark.parametrize("turn", TURNS, ids=str)
def test_descriptors_of_turned_pictures_follow_from_those_upright(turn):
    thumbs = printed([drawn(1), drawn(2)]).thumbs.astype(np.float32)
    np.testing.assert_allclose(turn.of_descriptors(descriptors(thumbs)), descriptors(turn(thumbs)), atol=1e-4)
    turned, upright = unoriented(descriptors(turn(thumbs))), unoriented(descriptors(thumbs))
    np.testing.assert_allclose(turned, upright, atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(upright, axis=1), 1, rtol=1e-5)


# -------------------------------------------------------------------- looked at all over


def looked_at(pictures: list[np.ndarray]) -> tuple[Copies, list[int]]:
    """Find copies with a close look at the pixels; second: which pictures were looked at."""
    looks: list[int] = []
    return find_copies(printed(pictures), look=lambda i: looks.append(i) or pictures[i]), looks


def test_pages_of_one_form_are_no_copies_and_a_turned_one_is():
    pages = [form(number * 7919 % 100_000) for number in range(1, 31)]
    assert len(find_copies(printed(pages)).links) > 10, "thumbnails alone do not see the number"
    copies, looks = looked_at(pages)
    assert copies.links == []
    assert len(copies.lookalikes) > 30
    assert len(looks) <= 2 * 2 * len(pages), "the time grows with the number of pictures, not of pairs"
    copies, _ = looked_at([*pages, np.ascontiguousarray(pages[2][:, ::-1])])
    assert [(link.a, link.b, link.kind) for link in copies.links] == [(2, 30, "turned")]


@pytest.mark.parametrize("turn", [UPRIGHT, *TURNS])
@pytest.mark.parametrize(
    "change", [saved_anew, lambda p: saved_anew(p, 30), resized, lambda p: resized(p, 50), cropped]
)
def test_copies_stay_copies_when_they_are_looked_at(originals, change, turn):
    copy = turn(change(originals[0]).transpose(2, 0, 1)).transpose(1, 2, 0)
    assert same_all_over(turn(originals[0].transpose(2, 0, 1)), copy.transpose(2, 0, 1))


def moved_object(pixels: np.ndarray) -> np.ndarray:
    changed = pixels.copy()
    changed[40:56, 60:76] = 250
    return changed


def other_colour(pixels: np.ndarray) -> np.ndarray:
    """Change the colour of a part, and no brightness."""
    changed = pixels.astype(int)
    changed[40:100, 40:100] += [40, 0, -40]
    return changed.clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("change", [moved_object, other_colour, lambda p: cropped(moved_object(p), 2, 2, 2, 2)])
def test_a_small_object_or_another_colour_is_another_picture(originals, change):
    pixels = (originals[0] // 2 + 60).astype(np.uint8)
    assert not same_all_over(pixels.transpose(2, 0, 1), change(pixels).transpose(2, 0, 1))


def test_a_picture_that_is_gone_is_judged_by_its_thumbnail(originals):
    pictures = [*originals[:5], saved_anew(originals[0])]
    assert len(find_copies(printed(pictures), look=lambda _: None).links) == 1


@pytest.mark.parametrize("quality", [50, 75])
def test_grain_that_saving_anew_removes_is_no_difference(tmp_path, quality):
    rng = np.random.default_rng(0)
    coarse = PIL.Image.fromarray(np.uint8(np.clip(128 + 45 * rng.normal(size=(8, 8, 3)), 0, 255)))
    grain = np.asarray(coarse.resize((64, 64), PIL.Image.Resampling.BICUBIC)) + rng.normal(0, 12, (64, 64, 1))
    PIL.Image.fromarray(np.uint8(np.clip(grain, 0, 255))).save(tmp_path / "a.png")
    with PIL.Image.open(tmp_path / "a.png") as picture:
        picture.save(tmp_path / "b.jpg", quality=quality)
    with PIL.Image.open(tmp_path / "a.png") as first, PIL.Image.open(tmp_path / "b.jpg") as second:
        a, b = (np.asarray(picture).transpose(2, 0, 1) for picture in (first, second))
    assert same_all_over(a, b)
    other = a.copy()
    other[:, 24:40, 24:40] = 255 - other[:, 24:40, 24:40]
    assert not same_all_over(other, b)
