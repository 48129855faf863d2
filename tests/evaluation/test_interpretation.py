"""Findings against scikit-learn, against fastai's published behaviour, and against counts by hand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from types import SimpleNamespace
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import sklearn.metrics as sk
import torch
from torch import nn

from onecycle.errors import ArgumentError
from onecycle.evaluation.interpretation import ClassificationInterpretation
from onecycle.evaluation.scores import average_precision, confusion_counts, normalize_rows, ranked_pairs, swap_counts


class Part(Enum):
    Train = 1
    Valid = 2


@dataclass
class FakeData:
    """Pictures whose every pixel is their position, so that a plot shows which one it took."""

    classes: list[Any]
    n: int
    is_multi: bool = False
    asked: list[Any] = field(default_factory=list)

    @property
    def valid_ds(self) -> FakeData:
        return self

    def image(self, index: int) -> Any:
        px = torch.full((3, 8, 8), index % 256, dtype=torch.uint8)
        return SimpleNamespace(px=px, numpy=lambda: px.permute(1, 2, 0).numpy())

    def dataset(self, ds_type: Any) -> FakeData:
        self.asked.append(ds_type)
        return self.valid_ds


@dataclass
class FakeLearner:
    data: FakeData
    predictions: tuple[torch.Tensor, torch.Tensor, torch.Tensor]
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    recorder: str = "untouched"

    def __post_init__(self) -> None:
        torch.manual_seed(0)
        body = nn.Conv2d(3, 2, 1)
        nn.init.constant_(body.bias, 3.0)
        head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, len(self.data.classes)))
        nn.init.constant_(head[-1].weight, 1.0)
        self.model = nn.Sequential(body, head)

    def get_preds(self, **options: Any) -> tuple[torch.Tensor, ...]:
        self.calls.append(("get_preds", options))
        return self.predictions

    def TTA(self, **options: Any) -> tuple[torch.Tensor, ...]:
        self.calls.append(("TTA", options))
        return self.predictions

    def dataset_tensor(self, ds_type: Any, index: int) -> torch.Tensor:
        self.calls.append(("dataset_tensor", {"ds_type": ds_type, "index": index}))
        return torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(index))


@pytest.fixture(autouse=True)
def _close_figures() -> Iterator[None]:
    yield
    plt.close("all")


def from_pairs(classes: list[Any], pairs: list[tuple[int, int]]) -> ClassificationInterpretation:
    """Interpretation of pictures given as (actual, predicted)."""
    actual = torch.tensor([a for a, _ in pairs])
    preds = torch.full((len(pairs), len(classes)), 0.1)
    preds[torch.arange(len(pairs)), [p for _, p in pairs]] = 0.8
    losses = -preds.gather(1, actual[:, None]).log().squeeze(1)
    return ClassificationInterpretation(
        FakeLearner(FakeData(classes, len(pairs)), (preds, actual, losses)), preds, actual, losses
    )


def random_single(n: int = 300, c: int = 7) -> ClassificationInterpretation:
    rng = np.random.default_rng(0)
    return from_pairs([f"class {i}" for i in range(c)], rng.integers(0, c - 1, (n, 2)).tolist())


def multi(preds: list[list[float]], truth: list[list[int]], names: str = "abcdefgh") -> ClassificationInterpretation:
    p, y = torch.tensor(preds), torch.tensor(truth).float()
    losses = nn.functional.binary_cross_entropy(p, y, reduction="none").mean(dim=1)
    learn = FakeLearner(FakeData(list(names[: p.shape[1]]), len(p), is_multi=True), (p, y, losses))
    return ClassificationInterpretation.from_learner(learn)


def random_multi(n: int = 200, c: int = 6, *, seed: int = 0) -> ClassificationInterpretation:
    """Tag 4 is never true, tag 5 never predicted at 0.5; scores have ties."""
    rng = np.random.default_rng(seed)
    truth = rng.random((n, c)) < 0.3
    preds = np.round(np.clip(0.5 * truth + 0.6 * rng.random((n, c)), 0.01, 0.99), 2)
    truth[:, 4], preds[:, 5] = False, preds[:, 5] * 0.4
    return multi(preds.tolist(), truth.astype(int).tolist())


# -- making one -------------------------------------------------------------------------------------------------


def test_from_learner_asks_for_losses_of_that_part_and_leaves_the_recorder_alone() -> None:
    learn = random_single().learn
    found = ClassificationInterpretation.from_learner(learn, Part.Train)
    ClassificationInterpretation.from_learner(learn, tta=True)
    assert learn.calls == [
        ("get_preds", {"ds_type": Part.Train, "activ": None, "with_loss": True}),
        ("TTA", {"activ": None, "with_loss": True}),
    ]
    assert learn.recorder == "untouched"
    assert repr(found) == "ClassificationInterpretation(300 pictures of the training set, 7 classes)"


def test_a_part_without_labels_is_refused_before_anything_is_predicted() -> None:
    learn = random_single().learn
    learn.data.dataset = lambda ds_type: SimpleNamespace(labels=None)  # type: ignore[method-assign]
    with pytest.raises(ArgumentError, match="no labels to compare predictions with; use get_preds"):
        ClassificationInterpretation.from_learner(learn, Part.Train)
    assert learn.calls == []


def test_a_misspelt_or_obsolete_option_fails() -> None:
    with pytest.raises(TypeError, match="sigmoid"):
        ClassificationInterpretation.from_learner(random_single().learn, sigmoid=True)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("preds", "y_true", "losses", "message"),
    [
        (torch.zeros(4, 3), torch.zeros(4).long(), torch.zeros(4), r"preds must be \(N, 2\).*\(4, 3\)"),
        (torch.zeros(4, 2), torch.zeros(3).long(), torch.zeros(4), r"y_true must be \(4,\).*received \(3,\)"),
        (torch.zeros(4, 2), torch.zeros(4).long(), torch.zeros(8), r"losses must be \(4,\).*received \(8,\)"),
        (torch.zeros(1, 2), torch.tensor([2]), torch.zeros(1), r"0\.\.1; received 2\.\.2"),
        (torch.tensor([[0, float("nan")]]), torch.zeros(1).long(), torch.zeros(1), r"first: \[0\].*diverged"),
    ],
)
def test_arrays_that_do_not_fit_are_named(
    preds: torch.Tensor, y_true: torch.Tensor, losses: torch.Tensor, message: str
) -> None:
    with pytest.raises(ArgumentError, match=message):
        ClassificationInterpretation(
            FakeLearner(FakeData(["a", "b"], 4), (preds, y_true, losses)), preds, y_true, losses
        )


# -- one label a picture ----------------------------------------------------------------------------------------


def test_confusion_matrix_equals_scikit_learn_and_keeps_absent_classes() -> None:
    found = random_single()
    matrix = found.confusion_matrix()
    expected = sk.confusion_matrix(found.y_true, found.pred_class, labels=range(7))
    np.testing.assert_array_equal(matrix, expected)
    assert matrix.shape == (7, 7)  # class 6 occurs nowhere
    assert matrix.sum() == 300
    assert np.issubdtype(matrix.dtype, np.integer)


def test_rows_are_actual_and_columns_predicted() -> None:
    matrix = from_pairs(["a", "b", "c"], [(0, 1), (0, 1), (2, 0)]).confusion_matrix()
    assert matrix[0, 1] == 2
    assert matrix[2, 0] == 1


def test_normalised_rows_sum_to_one_or_stay_zero() -> None:
    shares = normalize_rows(confusion_counts(np.array([0, 0, 0, 2]), np.array([0, 1, 1, 2]), 4))
    np.testing.assert_allclose(shares.sum(axis=1), [1, 0, 1, 0])
    np.testing.assert_allclose(shares[0], [1 / 3, 2 / 3, 0, 0])


def test_top_losses_are_sorted_with_their_positions() -> None:
    found = random_single()
    found.losses = torch.tensor([0.5, 3.0, 0.1, 3.0, 2.0])
    values, order = found.top_losses(3)
    assert order.tolist() == [1, 3, 4]  # equal losses in the data's order
    assert values.tolist() == [3.0, 3.0, 2.0]
    assert found.top_losses(2, largest=False)[1].tolist() == [2, 0]
    assert len(found.top_losses()[0]) == len(found.top_losses(100)[0]) == 5
    with pytest.raises(ArgumentError, match="at least 1, or None for all; received 0"):
        found.top_losses(0)


LESSON = [
    "agriculture clear cultivation primary",
    "agriculture clear habitation primary road",
    "agriculture clear primary",
    "agriculture clear primary road",
    "clear primary",
]


def test_most_confused_gives_the_lessons_pairs_and_those_that_reach_min_val_exactly() -> None:
    # the lesson's three pairs of 3, one of 2 (which its older release left out), one of 1, and right answers
    pairs = [(3, 1)] * 3 + [(4, 2)] * 2 + [(2, 0)] * 3 + [(1, 3)] * 3 + [(0, 4)] + [(4, 4)] * 60
    found = from_pairs(LESSON, pairs).most_confused(min_val=2)
    assert found == [
        (LESSON[1], LESSON[3], 3),
        (LESSON[2], LESSON[0], 3),
        (LESSON[3], LESSON[1], 3),
        (LESSON[4], LESSON[2], 2),
    ]
    assert all(type(count) is int for *_, count in found)


def test_most_confused_orders_by_count_then_by_row_and_drops_the_diagonal() -> None:
    matrix = np.array([[9, 1, 2], [2, 9, 0], [5, 1, 9]])
    assert ranked_pairs(matrix, "abc") == [("c", "a", 5), ("a", "c", 2), ("b", "a", 2), ("a", "b", 1), ("c", "b", 1)]
    with pytest.raises(ArgumentError, match="at least 1; received 0"):
        ranked_pairs(matrix, "abc", 0)


def test_methods_for_tags_say_so_where_pictures_have_one_label() -> None:
    found = random_single()
    for call in (found.tag_tables, found.tag_report, found.tag_losses):
        with pytest.raises(ArgumentError, match="several labels, and these have one each"):
            call()
    with pytest.raises(ArgumentError, match=r"thresh=0\.3 has no meaning with one label"):
        found.most_confused(thresh=0.3)


# -- several labels a picture -----------------------------------------------------------------------------------


@pytest.mark.parametrize("thresh", [0.2, 0.5, 0.75])
def test_tag_tables_equal_scikit_learn(thresh: float) -> None:
    found = random_multi()
    truth, pred = found.y_true.numpy().astype(int), (found.preds.numpy() >= np.float32(thresh)).astype(int)
    np.testing.assert_array_equal(found.tag_tables(thresh), sk.multilabel_confusion_matrix(truth, pred))
    np.testing.assert_array_equal(found.confusion_matrix(thresh=thresh), found.tag_tables(thresh))


@pytest.mark.parametrize("beta", [0.5, 1.0, 2.0])
def test_tag_report_equals_scikit_learn_with_undefined_values_as_nan(beta: float) -> None:
    found = random_multi()
    truth, pred = found.y_true.numpy().astype(int), found.pred_tags().astype(int)
    report = found.tag_report(beta=beta)
    precision, recall, fbeta, support = sk.precision_recall_fscore_support(truth, pred, beta=beta, zero_division=np.nan)
    assert " ".join(report.columns) == "tag support tp fp fn tn precision recall fbeta average_precision"
    np.testing.assert_array_equal(report["support"], support)
    np.testing.assert_allclose(report["precision"], precision, atol=1e-6)
    np.testing.assert_allclose(report["recall"], recall, atol=1e-6)
    np.testing.assert_allclose(report["fbeta"], fbeta, atol=1e-6)
    assert np.isnan(report["recall"][4])  # never true
    assert np.isnan(report["precision"][5])  # never predicted
    assert report["fbeta"][5] == 0


def test_average_precision_equals_scikit_learn_and_is_nan_without_a_positive() -> None:
    found = random_multi()
    report = found.tag_report()
    for tag in (0, 1, 2, 3, 5):
        expected = sk.average_precision_score(found.y_true[:, tag], found.preds[:, tag])
        assert report["average_precision"][tag] == pytest.approx(expected, abs=1e-6)
    assert np.isnan(report["average_precision"][4])
    assert average_precision(np.array([True, False]), np.array([0.5, 0.5])) == 0.5  # a tie is not a lucky order


def test_worst_first_sorts_by_fbeta_with_undefined_tags_last() -> None:
    # a: right once of three; b: never true nor predicted; c: always right; d: never found
    found = multi(
        [[0.9, 0.1, 0.9, 0.1], [0.1, 0.1, 0.1, 0.1], [0.1, 0.1, 0.1, 0.1]], [[1, 0, 1, 1], [1, 0, 0, 0], [1, 0, 0, 0]]
    )
    assert found.tag_report(worst_first=True)["tag"].tolist() == ["d", "a", "c", "b"]
    assert found.tag_report()["tag"].tolist() == ["a", "b", "c", "d"]


def test_a_tag_is_predicted_from_its_threshold_on_and_each_may_have_its_own() -> None:
    found = multi([[0.5, 0.2, 0.7]], [[1, 0, 0]])
    assert found.pred_tags().tolist() == [[True, False, True]]
    assert found.pred_tags([0.6, 0.2, 0.8]).tolist() == [[False, True, False]]
    for bad, message in (([0.5, 0.5], "each of 3 tags"), (1.5, r"\[0, 1\]; received 1.5")):
        with pytest.raises(ArgumentError, match=message):
            found.pred_tags(bad)
    with pytest.raises(ArgumentError, match="use pred_tags"):
        _ = found.pred_class


def test_confused_tags_are_those_missed_and_made_up_in_the_same_picture() -> None:
    found = multi(
        [[0.1, 0.9, 0.1, 0.1], [0.1, 0.9, 0.9, 0.1], [0.1, 0.1, 0.1, 0.9], [0.9, 0.9, 0.1, 0.1]],
        # picture 0 and 1: a missed, b (and c) made up; 2: a missed only; 3: b made up only
        [[1, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 1], [1, 0, 0, 0]],
    )
    assert found.most_confused() == [("a", "b", 2), ("a", "c", 1)]
    assert found.most_confused(2) == [("a", "b", 2)]
    assert found.most_confused(thresh=0.95) == []
    truth, pred = found.y_true.numpy() > 0, found.pred_tags()
    by_hand = np.zeros((4, 4), dtype=int)
    for actual, predicted in zip(truth, pred, strict=True):
        by_hand += np.outer(actual & ~predicted, predicted & ~actual)
    np.testing.assert_array_equal(swap_counts(truth, pred), by_hand)


def test_top_losses_of_pictures_and_of_single_tags() -> None:
    found = multi([[0.9, 0.5], [0.2, 0.4], [0.9, 0.1]], [[1, 1], [1, 0], [1, 0]])
    assert found.top_losses(2)[1].tolist() == [1, 0]
    values, (items, tags) = found.top_losses(2, per_tag=True)
    assert list(zip(items.tolist(), tags.tolist(), strict=True)) == [(1, 0), (0, 1)]
    np.testing.assert_allclose(values, [-np.log(0.2), -np.log(0.5)], rtol=1e-6)
    assert len(found.top_losses(per_tag=True)[0]) == 6


# -- what the plots are given -----------------------------------------------------------------------------------


def titles_of(figure: Any) -> list[str]:
    return [" ".join(ax.get_title().split()) for ax in figure.axes if ax.get_title()]


def test_top_losses_show_the_right_pictures_with_prediction_actual_loss_and_probability() -> None:
    found = from_pairs(["cat", "dog", "hen"], [(0, 0), (1, 2), (2, 2), (1, 1), (0, 1)])
    figure = found.plot_top_losses(3, return_fig=True)
    assert figure is not None
    assert figure.get_suptitle() == "Prediction/Actual/Loss/Probability"
    assert [ax.get_title() for ax in figure.axes[:3]] == [
        "hen/dog / 2.30 / 0.10",
        "dog/cat / 2.30 / 0.10",
        "cat/cat / 0.22 / 0.80",
    ]
    shown = [int(ax.images[0].get_array()[0, 0, 0]) for ax in figure.axes[:3]]
    assert shown == [1, 4, 0]
    assert not figure.axes[3].axison
    assert found.plot_top_losses(1) is None
    bare = found.plot_top_losses(2, show_text=False, return_fig=True)
    assert bare is not None
    assert titles_of(bare) == []
    assert bare.get_suptitle() == ""


def test_pictures_come_from_the_part_that_was_interpreted() -> None:
    base = random_single()
    found = ClassificationInterpretation(base.learn, base.preds, base.y_true, base.losses, Part.Train)
    found.plot_top_losses(2, heatmap=True)
    assert found.data.asked == [Part.Train] * 2
    assert [options["ds_type"] for name, options in found.learn.calls if name == "dataset_tensor"] == [Part.Train] * 2


def test_a_heatmap_explains_the_actual_class_and_small_maps_are_left_out() -> None:
    found = from_pairs(["cat", "dog"], [(1, 0), (0, 0), (1, 1)])
    figure = found.plot_top_losses(1, heatmap=True, return_fig=True)
    assert figure is not None
    picture, overlay = figure.axes[0].images
    np.testing.assert_array_equal(overlay.get_array(), found.grad_cam(0, class_index=1))
    assert picture.get_extent() == overlay.get_extent()
    small = found.plot_top_losses(1, heatmap=True, heatmap_thresh=65, return_fig=True)
    assert small is not None
    assert len(small.axes[0].images) == 1


def test_maps_of_several_pictures_are_those_of_each() -> None:
    found = from_pairs(["cat", "dog"], [(1, 0), (0, 0), (1, 1)])
    for own, together in zip([found.grad_cam(i) for i in (2, 0)], found.grad_cams([2, 0]), strict=True):
        np.testing.assert_allclose(together, own, rtol=1e-5)
    np.testing.assert_allclose(found.grad_cams([0], [0])[0], found.grad_cam(0, class_index=0), rtol=1e-5)


def test_tags_are_titled_by_what_is_wrong_with_them() -> None:
    found = multi([[0.95, 0.1, 0.8], [0.9, 0.1, 0.1]], [[0, 1, 1], [1, 0, 0]])
    figure = found.plot_top_losses(2, return_fig=True)
    assert figure is not None
    assert titles_of(figure) == [f"+a −b / {found.losses[0]:.2f}", f"all tags right / {found.losses[1]:.2f}"]
    mapped = found.plot_top_losses(1, heatmap=True, return_fig=True)
    assert mapped is not None
    assert "map: a" in mapped.axes[0].get_title()
    strict = found.plot_top_losses(1, thresh=0.97, return_fig=True)
    assert strict is not None
    assert strict.axes[0].get_title().startswith("−b −c")


def test_multi_top_losses_show_wrong_pictures_and_return_all_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    found = multi([[0.9, 0.1], [0.9, 0.1], [0.4, 0.4]], [[0, 0], [1, 0], [1, 0]])
    assert found.plot_multi_top_losses(1) is None
    assert capsys.readouterr().out == "2 misclassified samples over 3 samples in the validation set.\n"
    assert plt.gcf().axes[0].get_title() == f"Predicted: a 0.90\nActual: –\nLoss: {found.losses[0]:.2f}"
    returned = found.plot_multi_top_losses(samples=5, save_misclassified=True)
    assert returned is not None
    assert [int(image.px[0, 0, 0]) for image in returned] == [0, 2]
    with pytest.raises(ArgumentError, match="at least 1; received 0"):
        found.plot_multi_top_losses(0)


def test_multi_top_losses_of_single_labels(capsys: pytest.CaptureFixture[str]) -> None:
    found = from_pairs(["a", "b"], [(0, 0), (0, 1), (1, 1)])
    assert found.plot_multi_top_losses() is None
    assert capsys.readouterr().out == "1 misclassified samples over 3 samples in the validation set.\n"
    assert plt.gcf().axes[0].get_title() == "Predicted: b 0.80\nActual: a\nLoss: 2.30"
    with pytest.raises(ArgumentError, match=r"thresh=0\.3 has no meaning"):
        found.plot_multi_top_losses(thresh=0.3)


def test_multi_top_losses_without_a_mistake_draw_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert multi([[0.9, 0.1]], [[1, 0]]).plot_multi_top_losses(save_misclassified=True) == []
    assert "0 misclassified samples over 1" in capsys.readouterr().out
    assert plt.get_fignums() == []


@pytest.mark.parametrize("normalize", [False, True])
def test_the_drawn_matrix_is_the_computed_one(normalize: bool) -> None:
    found = random_single()
    figure = found.plot_confusion_matrix(normalize, title="Mine", return_fig=True, figsize=(7, 7), dpi=50)
    assert figure is not None
    expected = normalize_rows(found.confusion_matrix()) if normalize else found.confusion_matrix()
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), expected)
    assert figure.axes[0].get_title() == "Mine"
    assert (figure.get_size_inches().tolist(), figure.dpi) == ([7, 7], 50)
    assert found.plot_confusion_matrix() is None


def test_the_drawn_tables_are_the_computed_ones() -> None:
    found = random_multi()
    figure = found.plot_confusion_matrix(return_fig=True, thresh=0.3)
    assert figure is not None
    written = [[int(t.get_text()) for t in ax.texts] for ax in figure.axes[:6]]
    assert written == found.tag_tables(0.3).reshape(6, 4).tolist()
    np.testing.assert_allclose(figure.axes[0].images[0].get_array(), normalize_rows(found.tag_tables(0.3))[0])
