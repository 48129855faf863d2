"""Plots draw the arrays they are given, stay readable with many classes, and cost no more than what is in them."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from onecycle.errors import ArgumentError
from onecycle.evaluation.certainty.reliability import reliability_curve
from onecycle.evaluation.plots import (
    MAX_PANELS,
    MAX_VALUES,
    Style,
    confusion_figure,
    fit_name,
    grid_of_pictures,
    reliability_figure,
    tag_tables_figure,
    wrap_title,
)


@pytest.fixture(autouse=True)
def _close_figures() -> Iterator[None]:
    yield
    plt.close("all")


def cells(ax: Axes) -> dict[tuple[int, int], str]:
    """Texts inside the matrix by (row, column)."""
    return {(int(t.get_position()[1]), int(t.get_position()[0])): t.get_text() for t in ax.texts}


def sparse_matrix(c: int, *, n: int = 200) -> np.ndarray:
    """A plausible matrix: mostly the diagonal, half of the classes absent."""
    rng = np.random.default_rng(0)
    matrix = np.zeros((c, c), dtype=np.int64)
    actual = rng.integers(0, c // 2, n) * 2
    predicted = np.where(rng.random(n) < 0.7, actual, rng.integers(0, c // 2, n) * 2)
    np.add.at(matrix, (actual, predicted), 1)
    return matrix


def long_names(c: int) -> list[str]:
    words = ["agriculture", "clear", "habitation", "primary", "road", "cultivation", "partly_cloudy"]
    return [f"{' '.join(words[i % 3 : i % 3 + 5])} {i}" for i in range(c)]


def overlapping_names(figure: Figure) -> int:
    """How many neighbouring class names (and values) cover each other after layout."""
    figure.draw_without_rendering()
    ax = figure.axes[0]
    count = 0
    for labels in (ax.get_xticklabels(), ax.get_yticklabels()):
        boxes = [label.get_window_extent() for label in labels]
        count += sum(a.overlaps(b) for a, b in pairwise(boxes))
    return count


def test_only_cells_that_are_not_zero_are_written() -> None:
    matrix = np.array([[5, 0, 1], [0, 0, 0], [2, 0, 12]])
    ax = confusion_figure(matrix, ["a", "b", "c"], Style()).axes[0]
    assert cells(ax) == {(0, 0): "5", (0, 2): "1", (2, 0): "2", (2, 2): "12"}
    np.testing.assert_array_equal(ax.images[0].get_array(), matrix)
    assert (ax.get_ylabel(), ax.get_xlabel()) == ("Actual", "Predicted")
    assert [t.get_text() for t in ax.get_yticklabels()] == ["a", "b", "c"]
    assert confusion_figure(matrix, ["a", "b", "c"], Style(write_values=False)).axes[0].texts[:] == []


def test_shares_have_the_asked_decimals_and_dark_cells_white_ink() -> None:
    ax = confusion_figure(np.array([[0.9, 0.1], [0, 1]]), ["a", "b"], Style(decimals=3)).axes[0]
    assert cells(ax) == {(0, 0): "0.900", (0, 1): "0.100", (1, 1): "1.000"}
    assert {t.get_text(): t.get_color() for t in ax.texts}["0.900"] == "white"
    assert {t.get_text(): t.get_color() for t in ax.texts}["0.100"] == "black"


def test_classes_without_items_are_grey_and_counted() -> None:
    figure = confusion_figure(np.array([[5, 1, 0], [0, 0, 0], [0, 0, 0]]), ["a", "b", "c"], Style())
    colours = [label.get_color() for label in figure.axes[0].get_yticklabels()]
    assert colours[0] == colours[1] != colours[2]  # b is predicted, so it is not absent
    assert figure.get_supxlabel() == "grey: neither occurring nor predicted, 1 of 3 classes"


def test_a_hundred_and_one_classes_stay_readable_and_cheap() -> None:
    matrix = sparse_matrix(101)
    figure = confusion_figure(matrix, long_names(101), Style(figsize=(20, 20), dpi=80))
    ax = figure.axes[0]
    assert len(ax.texts) == np.count_nonzero(matrix) < 200
    assert len(figure.findobj(plt.Text)) < 700  # 101² would be 10,201
    assert len(ax.get_xticklabels()) == 101
    assert ax.get_yticklabels()[0].get_fontsize() >= 6
    assert overlapping_names(figure) == 0


def test_the_real_tag_sets_stay_readable(planet_path: Path) -> None:
    with (planet_path / "labels.csv").open() as table:
        names = sorted({row["tags"] for row in csv.DictReader(table)})
    figure = confusion_figure(sparse_matrix(len(names)), names, Style(figsize=(20, 20), dpi=80))
    assert len(names) == 101
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == names  # none shortened
    assert overlapping_names(figure) == 0


@pytest.mark.parametrize("figsize", [(6.4, 4.8), (4, 8), (10, 10)])
@pytest.mark.parametrize("c", [2, 3, 17, 101])
def test_names_never_cover_each_other_whatever_the_size(c: int, figsize: tuple[float, float]) -> None:
    figure = confusion_figure(sparse_matrix(c), long_names(c), Style(figsize=figsize))
    assert overlapping_names(figure) == 0


def test_a_figure_too_small_for_all_names_says_so() -> None:
    figure = confusion_figure(sparse_matrix(101), long_names(101), Style(figsize=(6.4, 4.8)))
    notes = " ".join(figure.get_supxlabel().split())
    assert "one name in 4 is written, a larger figsize has room for more" in notes
    assert "cells are too small for numbers" in notes
    assert figure.axes[0].texts[:] == []


def test_numbers_of_a_dense_matrix_are_bounded_and_the_largest_are_kept() -> None:
    matrix = np.arange(60 * 60).reshape(60, 60) % 7 + 1
    matrix[30, 31] = 99
    figure = confusion_figure(matrix, [str(i) for i in range(60)], Style(figsize=(20, 20)))
    assert len(figure.axes[0].texts) == MAX_VALUES
    assert cells(figure.axes[0])[30, 31] == "99"
    assert f"the {MAX_VALUES} largest of 3600 numbers" in figure.get_supxlabel()


def test_an_empty_matrix_and_dollar_signs_can_be_drawn() -> None:
    figure = confusion_figure(np.zeros((2, 2), dtype=int), ["$a_", "b$"], Style(title="$x"))
    figure.draw_without_rendering()  # mathtext would fail on a single $
    assert figure.axes[0].texts[:] == []


@pytest.mark.parametrize(
    ("name", "width", "lines", "expected"),
    [
        ("clear primary", 20, 1, "clear primary"),
        ("agriculture clear primary road", 16, 2, "agricultu. clear\nprimary road"),
        ("agriculture clear habitation primary", 24, 1, "agri. clear habi. prim."),
        ("conventional_mine", 8, 1, "convent."),
        ("a b c d e f g h i j", 7, 1, "a b c …"),
    ],
)
def test_names_are_wrapped_then_shortened_word_by_word(name: str, width: int, lines: int, expected: str) -> None:
    assert fit_name(name, width, lines) == expected


def test_names_that_shortening_made_equal_are_told_apart() -> None:
    names = [f"{'very ' * 30}long class name number {i}" for i in range(12)]
    figure = confusion_figure(np.eye(12, dtype=int), names, Style(figsize=(5, 5)))
    texts = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert len(set(texts)) == len(texts)


def test_the_wrong_number_of_names_is_an_error() -> None:
    with pytest.raises(ArgumentError, match=r"\(3, 3\).*received \(2, 2\)"):
        confusion_figure(np.eye(2), ["a", "b", "c"], Style())
    with pytest.raises(ArgumentError, match=r"\(1, 2, 2\).*received \(2, 2, 2\)"):
        tag_tables_figure(np.zeros((2, 2, 2)), np.zeros((2, 2, 2)), ["a"], {}, Style())


# -- tags -------------------------------------------------------------------------------------------------------


def test_each_tag_has_its_numbers_and_undefined_measures_a_dash() -> None:
    values = np.array([[[5, 1], [2, 8]], [[16, 0], [0, 0]]])
    measures = {
        "precision": np.array([8 / 9, np.nan]),
        "recall": np.array([0.8, np.nan]),
        "fbeta": np.array([0.82, np.nan]),
    }
    figure = tag_tables_figure(values, np.full((2, 2, 2), 0.5), ["road", "water"], measures, Style())
    first, second = figure.axes[:2]
    assert cells(first) == {(0, 0): "5", (0, 1): "1", (1, 0): "2", (1, 1): "8"}
    assert first.get_title() == "road\nP 0.89  R 0.80"
    assert second.get_title() == "water\nP –  R –"


def test_of_very_many_tags_the_worst_are_drawn_and_the_title_says_so() -> None:
    n = MAX_PANELS + 5
    score = np.linspace(1, 0, n)
    figure = tag_tables_figure(
        np.ones((n, 2, 2)),
        np.zeros((n, 2, 2)),
        [f"t{i}" for i in range(n)],
        dict.fromkeys(("precision", "recall", "fbeta"), score),
        Style(write_values=False, figsize=(8, 8)),
    )
    drawn = [ax.get_title().split("\n")[0] for ax in figure.axes if ax.get_title()]
    assert drawn == [f"t{i}" for i in range(5, n)]
    assert f"({MAX_PANELS} of {n} tags: the lowest F)" in figure.get_suptitle()


# -- pictures ---------------------------------------------------------------------------------------------------


def grey(value: int, height: int = 8, width: int = 8) -> np.ndarray:
    return np.full((height, width, 3), value, dtype=np.uint8)


def test_pictures_stand_in_order_in_a_square_grid_and_spare_axes_are_off() -> None:
    figure = grid_of_pictures([grey(i) for i in range(5)], list("abcde"), suptitle="all")
    assert len(figure.axes) == 6  # ⌈√5⌉ = 3 columns
    assert [int(ax.images[0].get_array()[0, 0, 0]) for ax in figure.axes[:5]] == [0, 1, 2, 3, 4]
    assert [ax.get_title() for ax in figure.axes] == ["a", "b", "c", "d", "e", ""]
    assert not any(ax.axison for ax in figure.axes)
    assert len(grid_of_pictures([grey(1)] * 4, ncols=4).axes) == 4


def test_a_heatmap_is_stretched_over_its_picture_and_none_is_skipped() -> None:
    heat = np.array([[0.0, 1.0], [2.0, 3.0]])
    figure = grid_of_pictures([grey(1, 10, 20), grey(2)], heatmaps=[heat, None], alpha=0.4, cmap="viridis")
    picture, overlay = figure.axes[0].images
    assert overlay.get_extent() == picture.get_extent() == [-0.5, 19.5, 9.5, -0.5]
    assert (overlay.get_alpha(), overlay.get_cmap().name) == (0.4, "viridis")
    np.testing.assert_array_equal(overlay.get_array(), heat)
    assert len(figure.axes[1].images) == 1


@pytest.mark.parametrize(("n", "figsize"), [(9, (12, 12)), (9, (30, 30)), (4, (5, 5)), (16, (6, 6))])
def test_long_titles_of_neighbours_do_not_cover_each_other(n: int, figsize: tuple[float, float]) -> None:
    name = "agriculture clear cultivation habitation primary road water"
    figure = grid_of_pictures([grey(i) for i in range(n)], [f"{name}/{name} / 11.56 / 0.00"] * n, figsize=figsize)
    figure.draw_without_rendering()
    boxes = [ax.title.get_window_extent() for ax in figure.axes]
    pictures = [ax.get_window_extent() for ax in figure.axes]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[i + 1 :])
    assert not any(box.overlaps(p) for i, box in enumerate(boxes) for j, p in enumerate(pictures) if i != j)
    assert all("0.00" in ax.get_title() for ax in figure.axes)


@pytest.mark.parametrize(
    ("title", "width", "lines"),
    [
        ("cat/dog / 1.20 / 0.30", 30, ["cat/dog / 1.20 / 0.30"]),
        ("clear primary/clear road / 1.20 / 0.30", 20, ["clear primary/", "clear road", "/ 1.20 / 0.30"]),
        ("+a b c −d / 0.53", 8, ["+a b c", "−d", "/ 0.53"]),
        ("Predicted: a\nActual: b", 20, ["Predicted: a", "Actual: b"]),
    ],
)
def test_titles_break_between_names_and_before_the_numbers(title: str, width: int, lines: list[str]) -> None:
    assert wrap_title(title, width) == lines


def test_counts_that_do_not_match_are_errors() -> None:
    with pytest.raises(ArgumentError, match="expected 2 titles, one a picture; received 1"):
        grid_of_pictures([grey(1), grey(2)], ["one"])
    with pytest.raises(ArgumentError, match="expected 1 heatmaps"):
        grid_of_pictures([grey(1)], heatmaps=[])
    with pytest.raises(ArgumentError, match="no picture to draw"):
        grid_of_pictures([])


def test_each_curve_is_drawn_with_its_intervals_and_its_error():
    rng = np.random.default_rng(0)
    p = rng.random(300)
    curves = {"before": reliability_curve(p, rng.random(300) < p**2), "after": reliability_curve(p, p > 0.5)}
    figure = reliability_figure(curves)
    figure.draw_without_rendering()
    for ax, (name, curve) in zip(figure.axes, curves.items(), strict=True):
        drawn = ax.lines[1]
        assert np.asarray(drawn.get_xdata()).tolist() == curve.confidence.tolist()
        assert np.asarray(drawn.get_ydata()).tolist() == curve.observed.tolist()
        assert ax.get_title() == f"{name}\nECE {curve.ece:.3f} (by chance {curve.ece_by_chance:.3f})"
        reach = ax.collections[1].get_segments()
        assert [s[0][1] for s in reach] == pytest.approx(curve.low.tolist(), abs=1e-9)
    assert reliability_figure({"one": curves["after"]}, figsize=(3, 3)).get_size_inches().tolist() == [3, 3]


def test_no_curve_is_no_figure():
    with pytest.raises(ArgumentError, match="no curve"):
        reliability_figure({})
