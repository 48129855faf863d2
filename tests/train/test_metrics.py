"""Every metric against scikit-learn or a formula written out in numpy, and what all metrics promise."""

from __future__ import annotations

import inspect
import warnings
from functools import partial

import numpy as np
import pytest
import sklearn.metrics as sk
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from onecycle.errors import ArgumentError, DataWarning
from onecycle.train import metrics as M

SEEDS = range(4)
HELPERS = {"metric_name", "check_metric", "column_names", "roc_curve", "auc_roc_score"}
PUBLIC = {
    name: value
    for name, value in vars(M).items()
    if not name.startswith("_")
    and (inspect.isfunction(value) or inspect.isclass(value))
    and value.__module__ == M.__name__
    and name not in HELPERS
}


def singles(seed: int, n: int = 60, c: int = 6, *, ties: bool = False) -> tuple[Tensor, Tensor]:
    """Logits (n, c) that know something of their targets (n,); the last class never occurs."""
    g = torch.Generator().manual_seed(seed)
    targets = torch.randint(0, max(1, c - 1), (n,), generator=g)
    logits = torch.randn(n, c, generator=g) + 1.5 * torch.nn.functional.one_hot(targets, c)
    return (logits.round() if ties else logits), targets


def tags(seed: int, n: int = 60, c: int = 7, *, ties: bool = False) -> tuple[Tensor, Tensor]:
    """Logits (n, c) and tags (n, c); the last tag never occurs, the first picture has none."""
    g = torch.Generator().manual_seed(seed)
    targets = (torch.rand(n, c, generator=g) < torch.linspace(0.7, 0.1, c)).float()
    targets[:, -1] = 0
    targets[0] = 0
    logits = torch.randn(n, c, generator=g) + 2 * targets - 1.5
    return (logits.round() if ties else logits), targets


def made(name: str) -> M.Metric:
    metric = PUBLIC[name]
    if name in ("Precision", "Recall", "FBeta"):
        return metric(average="macro")
    return metric() if inspect.isclass(metric) else metric


def predicted(logits: Tensor, thresh: float) -> np.ndarray:
    return logits.sigmoid().numpy() > thresh


CASES = [(name, singles) for name in M.SINGLE_LABEL_METRICS] + [(name, tags) for name in M.MULTI_LABEL_METRICS]
case = pytest.mark.parametrize(("name", "data"), CASES, ids=lambda x: getattr(x, "__name__", x))


# --- what every metric promises --------------------------------------------------------------------------------


def test_each_public_metric_is_listed_and_the_other_way_round() -> None:
    assert set(PUBLIC) == set(M.SINGLE_LABEL_METRICS) | set(M.MULTI_LABEL_METRICS)


@case
def test_gives_a_finite_0d_float_and_leaves_its_inputs_alone(name: str, data: object) -> None:
    logits, targets = data(0)
    logits.requires_grad_()
    before = logits.detach().clone(), targets.clone()
    value = made(name)(logits, targets)
    if not isinstance(made(name), M.ConfusionMatrix):
        assert value.shape == ()
        assert value.dtype == torch.float32
        assert bool(value.isfinite())
    else:
        assert name == "ConfusionMatrix"
        assert value.shape == (6, 6)
    assert not value.requires_grad
    assert torch.equal(logits.detach(), before[0])
    assert torch.equal(targets, before[1])


@case
def test_order_of_items_does_not_matter(name: str, data: object) -> None:
    logits, targets = data(1, ties=True)
    order = torch.randperm(len(logits), generator=torch.Generator().manual_seed(9))
    metric = made(name)
    torch.testing.assert_close(metric(logits[order], targets[order]), metric(logits, targets), atol=1e-6, rtol=0)


@case
def test_has_a_name_and_is_accepted_for_its_kind_of_labels(name: str, data: object) -> None:
    metric = made(name)
    assert M.metric_name(metric).isidentifier()
    M.check_metric(metric, is_multi=data is tags)
    M.check_metric(partial(metric), is_multi=data is tags)


@case
def test_bfloat16_logits_and_other_target_types_are_fine(name: str, data: object) -> None:
    logits, targets = data(2, ties=True)  # whole numbers survive bfloat16
    other = targets.to(torch.int32) if data is singles else targets.bool()
    metric = made(name)
    assert torch.equal(metric(logits.bfloat16(), other), metric(logits, targets))


@case
def test_nan_logits_make_the_score_nan(name: str, data: object) -> None:
    logits, targets = data(3)
    logits[5, 2] = torch.nan
    if name != "ConfusionMatrix":
        assert bool(made(name)(logits, targets).isnan())
    else:
        assert int(made(name)(logits, targets).sum()) == len(targets)


@case
def test_infinite_logits_do_not_fail(name: str, data: object) -> None:
    logits, targets = data(3)
    logits[5, 2], logits[6, 0] = torch.inf, -torch.inf
    assert bool(made(name)(logits, targets).isfinite().all())


@case
def test_one_item_gives_no_numpy_warning(name: str, data: object) -> None:
    logits, targets = data(4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", DataWarning)
        for i in range(5):
            made(name)(logits[i : i + 1], targets[i : i + 1])


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 30), c=st.integers(1, 40))
def test_any_small_set_of_any_number_of_classes_stays_in_range(seed: int, n: int, c: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        for name, data in CASES:
            value = made(name)(*data(seed, n, c, ties=True))
            if not isinstance(made(name), M.ConfusionMatrix) and not value.isnan():
                assert -1 - 1e-6 <= float(value) <= 1 + 1e-6, name


def test_a_perfect_model_has_the_best_score_everywhere() -> None:
    _, classes = singles(0, c=4)
    _, many = tags(0)
    many[many.sum(1) == 0, 1] = 1
    for name, data in CASES:
        best = 0.0 if "err" in name and name != "MatthewsCorreff" else 1.0
        truth = torch.nn.functional.one_hot(classes, 4).float() if data is singles else many
        if name != "ConfusionMatrix":
            score = made(name)(20 * truth - 10, classes if data is singles else many)
            assert float(score) == pytest.approx(best, abs=1e-6), name


# --- one label a picture ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_accuracy_and_error_rate(seed: int) -> None:
    logits, targets = singles(seed)
    want = sk.accuracy_score(targets, logits.argmax(1))
    assert float(M.accuracy(logits, targets)) == pytest.approx(want, abs=1e-6)
    assert float(M.error_rate(logits, targets)) == pytest.approx(1 - want, abs=1e-6)
    assert float(M.accuracy(logits.softmax(1), targets)) == pytest.approx(want, abs=1e-6)


def test_a_class_that_the_model_was_never_trained_on_counts_as_an_error() -> None:
    logits = torch.tensor([[3.0, 0, 0], [0, 3, 0], [3, 0, 0], [0, 3, 0]])
    assert float(M.error_rate(logits, torch.tensor([0, 1, 2, 2]))) == 0.5


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("k", [1, 2, 5])
def test_top_k(seed: int, k: int) -> None:
    logits, targets = singles(seed)
    want = sk.top_k_accuracy_score(targets, logits, k=k, labels=range(6))
    assert float(M.top_k_accuracy(logits, targets, k=k)) == pytest.approx(want, abs=1e-6)


def test_top_k_orders_equal_logits_by_class_and_is_one_from_c_on() -> None:
    logits, targets = torch.zeros(4, 4), torch.arange(4)
    assert [float(M.top_k_accuracy(logits, targets, k=k)) for k in (1, 2, 3, 4, 9)] == [0.25, 0.5, 0.75, 1, 1]
    tied, truth = singles(1, ties=True)
    assert torch.equal(M.top_k_accuracy(tied, truth, k=1), M.accuracy(tied, truth))
    with pytest.raises(ArgumentError, match=r"k >= 1, got 0"):
        M.top_k_accuracy(logits, targets, k=0)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("average", ["micro", "macro", "weighted"])
def test_precision_recall_f_for_classes(seed: int, average: str) -> None:
    logits, targets = singles(seed)
    want = sk.precision_recall_fscore_support(targets, logits.argmax(1), beta=2, average=average, zero_division=0)
    got = [made_(average=average)(logits, targets) for made_ in (M.Precision, M.Recall, M.FBeta)]
    assert [float(x) for x in got] == pytest.approx(want[:3], abs=1e-6)


@pytest.mark.parametrize("pos_label", [0, 1])
def test_precision_recall_f_for_two_classes(pos_label: int) -> None:
    logits, targets = singles(0, c=3)
    logits = logits[:, :2]
    want = sk.precision_recall_fscore_support(
        targets, logits.argmax(1), beta=0.5, average="binary", pos_label=pos_label
    )
    got = [
        M.Precision(pos_label=pos_label)(logits, targets),
        M.Recall(pos_label=pos_label)(logits, targets),
        M.FBeta(beta=0.5, pos_label=pos_label)(logits, targets),
    ]
    assert [float(x) for x in got] == pytest.approx(want[:3], abs=1e-6)


@pytest.mark.parametrize("make", [M.Precision, M.Recall, M.FBeta])
@pytest.mark.parametrize(("data", "words"), [(singles, "with 6 classes"), (tags, "with 7 tags")])
def test_binary_average_of_more_classes_is_macro_and_said(make: type, data: object, words: str) -> None:
    logits, targets = data(0)
    with pytest.warns(DataWarning, match=f"{words} {make.__name__} uses 'macro'"):
        value = make()(logits, targets)
    assert torch.equal(value, make(average="macro")(logits, targets))


def test_a_class_never_seen_or_predicted_is_left_out_of_the_macro_mean() -> None:
    logits = torch.eye(4)[[0, 1, 1]]
    targets = torch.tensor([0, 1, 2])  # class 2 is never predicted (0), class 3 is nowhere
    assert float(M.Precision("macro")(logits, targets)) == pytest.approx((1 + 0.5 + 0) / 3)
    assert float(M.Recall("macro")(logits, targets)) == pytest.approx((1 + 1 + 0) / 3)


@pytest.mark.parametrize("seed", SEEDS)
def test_agreement(seed: int) -> None:
    logits, targets = singles(seed)
    guess = logits.argmax(1)
    for weights in (None, "linear", "quadratic"):
        want = sk.cohen_kappa_score(targets, guess, labels=range(6), weights=weights)
        assert float(M.KappaScore(weights)(logits, targets)) == pytest.approx(want, abs=1e-6)
    matthews = M.MatthewsCorreff()(logits, targets)
    assert float(matthews) == pytest.approx(sk.matthews_corrcoef(targets, guess), abs=1e-6)
    matrix = M.ConfusionMatrix()(logits, targets)
    assert matrix.tolist() == sk.confusion_matrix(targets, guess, labels=range(6)).tolist()


def test_agreement_without_any_spread_is_zero() -> None:
    constant = torch.tensor([[0.0, 1.0]] * 5)
    for targets in (torch.ones(5, dtype=torch.long), torch.tensor([0, 1, 1, 0, 1])):
        assert float(M.KappaScore()(constant, targets)) == 0
        assert float(M.MatthewsCorreff()(constant, targets)) == 0


# --- tags ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("thresh", [0.2, 0.5])
def test_accuracy_thresh_and_exact_match(seed: int, thresh: float) -> None:
    logits, targets = tags(seed)
    right = predicted(logits, thresh) == (targets.numpy() == 1)
    assert float(M.accuracy_thresh(logits, targets, thresh=thresh)) == pytest.approx(right.mean(), abs=1e-6)
    want = 1 - sk.accuracy_score(targets.numpy(), predicted(logits, thresh))
    assert float(M.exact_match_error(logits, targets, thresh=thresh)) == pytest.approx(want, abs=1e-6)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("beta", [1, 2, 0.5])
def test_fbeta_is_the_mean_over_pictures(seed: int, beta: float) -> None:
    logits, targets = tags(seed)
    guess = predicted(logits, 0.2)
    want = sk.fbeta_score(targets.numpy(), guess, beta=beta, average="samples", zero_division=0)
    assert float(M.fbeta(logits, targets, beta=beta)) == pytest.approx(want, abs=1e-6)
    probs = M.fbeta(logits.sigmoid(), targets, beta=beta, sigmoid=False)
    assert float(probs) == pytest.approx(want, abs=1e-6)


def test_fbeta_by_hand() -> None:
    # picture 1: true {a, b}, predicted {a, c, d}: P 1/3, R 1/2, F2 = 5·(1/6)/(4/3 + 1/2) = 5/11; picture 2: no tags
    targets = torch.tensor([[1.0, 1, 0, 0], [0, 0, 0, 0]])
    logits = torch.tensor([[9.0, -9, 9, 9], [-9, -9, -9, -9]])
    assert float(M.fbeta(logits, targets)) == pytest.approx(5 / 22, abs=1e-6)
    assert float(M.fbeta(logits[:1], targets[:1])) == pytest.approx(5 / 11, abs=1e-6)


def test_fbeta_is_not_a_mean_over_batches_of_another_size() -> None:
    logits, targets = tags(0, n=50)
    parts = [M.fbeta(x, y) * len(x) for x, y in zip(logits.split(16), targets.split(16), strict=True)]
    assert float(sum(parts) / 50) == pytest.approx(float(M.fbeta(logits, targets)), abs=1e-6)
    micro = M.MultiLabelFbeta()
    halves = [float(micro(x, y)) for x, y in zip(logits.split(16), targets.split(16), strict=True)]
    assert float(micro(logits, targets)) != pytest.approx(np.mean(halves), abs=1e-4)


def test_thresholds_are_strict_and_follow_sigmoid() -> None:
    logits, targets = torch.zeros(1, 2), torch.tensor([[1.0, 0.0]])
    assert float(M.exact_match_error(logits, targets)) == 1  # sigmoid(0) = 0.5 is not above 0.5
    assert float(M.accuracy_thresh(logits, targets)) == 0.5
    assert float(M.accuracy_thresh(logits + 0.4, targets, thresh=0.3, sigmoid=False)) == 0.5


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("average", ["micro", "macro", "weighted"])
def test_precision_recall_f_for_tags(seed: int, average: str) -> None:
    logits, targets = tags(seed)
    guess = predicted(logits, 0.3)
    seen = guess.any(0) | (targets.numpy() == 1).any(0)
    want = sk.precision_recall_fscore_support(
        targets.numpy()[:, seen], guess[:, seen], beta=2, average=average, zero_division=0
    )
    got = [made_(average, thresh=0.3)(logits, targets) for made_ in (M.Precision, M.Recall, M.FBeta)]
    assert [float(x) for x in got] == pytest.approx(want[:3], abs=1e-6)
    multi = M.MultiLabelFbeta(average=average)(logits, targets)
    assert float(multi) == pytest.approx(want[2], abs=1e-6)


def test_nothing_true_and_nothing_predicted_is_zero() -> None:
    logits, targets = torch.full((3, 4), -9.0), torch.zeros(3, 4)
    for average in ("micro", "macro", "weighted"):
        for make in (M.Precision, M.Recall, M.FBeta, M.MultiLabelFbeta):
            assert float(make(average=average)(logits, targets)) == 0


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("ties", [False, True])
def test_mean_average_precision_over_tags_that_occur(seed: int, ties: bool) -> None:
    logits, targets = tags(seed, ties=ties)
    occur = targets.numpy().any(0)
    assert not occur.all()
    want = sk.average_precision_score(targets.numpy()[:, occur], logits.numpy()[:, occur])
    assert float(M.mean_average_precision(logits, targets)) == pytest.approx(want, abs=1e-6)


# --- ranking ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("ties", [False, True])
def test_auroc(seed: int, ties: bool) -> None:
    logits, targets = tags(seed, ties=ties)
    want = sk.roc_auc_score(targets.numpy()[:, :-1], logits.numpy()[:, :-1])
    assert float(M.AUROC()(logits, targets)) == pytest.approx(want, abs=1e-6)
    logits, targets = singles(seed, ties=ties)
    probs = logits.double().softmax(1).numpy().round(9)  # equal ones are ties
    want = np.mean([sk.roc_auc_score(targets.numpy() == c, probs[:, c]) for c in range(5)])
    assert float(M.AUROC()(logits, targets)) == pytest.approx(want, abs=1e-6)
    two, truth = singles(seed, c=3)
    want = sk.roc_auc_score(truth, two[:, :2].softmax(1)[:, 1])
    assert float(M.AUROC()(two[:, :2], truth)) == pytest.approx(want, abs=1e-6)


def test_sure_logits_are_still_ranked() -> None:
    """In float32 the sigmoid of 20 and of 30 is 1, which would make a tie of them."""
    logits, targets = torch.tensor([[20.0], [30.0], [40.0]]), torch.tensor([[0.0], [1.0], [1.0]])
    assert float(M.AUROC()(logits, targets)) == 1
    assert float(M.mean_average_precision(logits, targets)) == 1


@pytest.mark.parametrize("metric", [M.AUROC(), M.mean_average_precision])
def test_ranking_without_anything_to_rank_is_nan_and_said(metric: M.Metric) -> None:
    with pytest.warns(DataWarning, match="undefined"):
        assert bool(metric(torch.randn(3, 4), torch.zeros(3, 4)).isnan())


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("ties", [False, True])
def test_roc_curve_of_one_class(seed: int, ties: bool) -> None:
    logits, targets = tags(seed, ties=ties)
    scores, truth = logits[:, 0], targets[:, 0]
    fpr, tpr = M.roc_curve(scores, truth)
    for rates in (fpr, tpr):
        assert float(rates[0]) == 0
        assert float(rates[-1]) == 1
        assert bool((rates.diff() >= 0).all())
    for threshold in scores.unique():  # each point of the curve is a threshold: share at or above it
        at = ((scores >= threshold) & (truth == 0)).sum() / (truth == 0).sum()
        hit = ((scores >= threshold) & (truth == 1)).sum() / (truth == 1).sum()
        assert bool((((fpr - at).abs() < 1e-6) & ((tpr - hit).abs() < 1e-6)).any())
    assert float(M.auc_roc_score(scores, truth)) == pytest.approx(sk.roc_auc_score(truth, scores), abs=1e-6)


def test_roc_curve_says_what_is_wrong() -> None:
    with pytest.raises(ArgumentError, match=r"\(3, 2\) and \(3,\); for logits use AUROC\(\)"):
        M.auc_roc_score(torch.randn(3, 2), torch.tensor([0, 1, 1]))
    with pytest.raises(ArgumentError, match="finite"):
        M.roc_curve(torch.tensor([0.0, torch.nan]), torch.tensor([0, 1]))
    with pytest.raises(ArgumentError, match=r"both 0 and 1 and nothing else, got \[1\]"):
        M.roc_curve(torch.randn(3), torch.ones(3, dtype=torch.long))
    with pytest.raises(ArgumentError, match=r"got \[0 1 2\]"):
        M.roc_curve(torch.randn(3), torch.arange(3))


# --- names and mistakes ----------------------------------------------------------------------------------------


def test_metric_names_as_in_v1() -> None:
    named = partial(M.fbeta, thresh=0.5)
    assert M.metric_name(named) == "fbeta"
    assert M.metric_name(partial(named, beta=1)) == "fbeta"
    named.__name__ = "f2_half"
    assert M.metric_name(named) == "f2_half"
    assert M.metric_name(partial(M.AUROC())) == "auroc"
    assert M.metric_name(M.FBeta("macro", beta=1, name="f1")) == "f1"
    names = [M.metric_name(made(name)) for name in ("FBeta", "MultiLabelFbeta", "MatthewsCorreff", "KappaScore")]
    assert names == ["f_beta", "multi_label_fbeta", "matthews_correff", "kappa_score"]


def test_an_object_without_a_name_is_called_after_its_class() -> None:
    class MeanROCScore:
        def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
            return logits.mean()

    assert M.metric_name(MeanROCScore()) == "mean_roc_score"
    M.check_metric(MeanROCScore(), is_multi=True)


def test_metrics_of_the_same_options_are_equal_and_cannot_be_changed() -> None:
    assert M.FBeta("macro") == M.FBeta(average="macro", beta=2)
    with pytest.raises(AttributeError):
        M.FBeta().beta = 3


@pytest.mark.parametrize(
    ("name", "data"),
    [(name, data) for name, data in CASES if (name, tags if data is singles else singles) not in CASES],
    ids=lambda x: getattr(x, "__name__", x),
)
def test_the_wrong_kind_of_labels_is_named_with_what_fits(name: str, data: object) -> None:
    wrong = tags if data is singles else singles
    fitting = "error_rate" if wrong is singles else "accuracy_thresh, fbeta"
    with pytest.raises(ArgumentError) as found:
        made(name)(*wrong(0))
    for part in (name, fitting, "(60," if wrong is singles else "(60, 7)", str(wrong(0)[1].dtype)):
        assert part in str(found.value)
    with pytest.raises(ArgumentError, match=f"{name} is for .*Metrics that fit: .*{fitting}"):
        M.check_metric(made(name), is_multi=wrong is tags)
    with pytest.raises(ArgumentError, match=f"{name} is for "):
        M.check_metric(partial(made(name)), is_multi=wrong is tags)


def test_check_metric_finds_mistakes_before_training() -> None:
    def three(logits: Tensor, targets: Tensor, extra: int) -> Tensor:
        return logits.mean()

    with pytest.raises(ArgumentError, match=r"write AUROC\(\) with brackets"):
        M.check_metric(M.AUROC, is_multi=False)
    with pytest.raises(ArgumentError, match="got 'accuracy'"):
        M.check_metric("accuracy", is_multi=False)
    with pytest.raises(ArgumentError, match=r"tresh.*fbeta\(logits.*thresh"):
        M.check_metric(partial(M.fbeta, tresh=0.3), is_multi=True)
    with pytest.raises(ArgumentError, match=r"'extra'; defined as three\("):
        M.check_metric(three, is_multi=True)
    with pytest.raises(ArgumentError, match="auc_roc_score is no metric over"):
        M.check_metric(M.auc_roc_score, is_multi=False)
    M.check_metric(partial(three, extra=1), is_multi=True)
    M.check_metric(torch.dist, is_multi=True)  # written in C, no signature


@pytest.mark.parametrize(
    ("logits", "targets", "words"),
    [
        (torch.zeros(3), torch.zeros(3).long(), r"floating logits \(N, C\).*logits \(3,\)"),
        (torch.zeros(0, 2), torch.zeros(0).long(), "at least one item"),
        (torch.zeros(3, 2).long(), torch.zeros(3).long(), "floating logits.*int64"),
        (torch.zeros(3, 2), torch.zeros(4).long(), r"match the logits.*targets \(4,\)"),
        (torch.zeros(3, 2), torch.zeros(3), r"integer class indices.*\.long\(\)"),
        (torch.zeros(3, 2), torch.tensor([0, 1, 2]), r"class indices in 0\.\.1, got 0\.\.2"),
        (torch.zeros(3, 2), torch.tensor([0, -1, 1]), r"got -1\.\.1"),
    ],
)
def test_unfit_logits_and_targets(logits: Tensor, targets: Tensor, words: str) -> None:
    with pytest.raises(ArgumentError, match=f"accuracy expects .*{words}"):
        M.accuracy(logits, targets)


def test_unfit_tags() -> None:
    with pytest.raises(ArgumentError, match="tags of 0 and 1 only"):
        M.fbeta(torch.zeros(2, 3), torch.full((2, 3), 0.5))
    with pytest.raises(ArgumentError, match=r"match the logits.*targets \(2, 4\)"):
        M.fbeta(torch.zeros(2, 3), torch.zeros(2, 4))


def test_unfit_options() -> None:
    logits, targets = tags(0)
    with pytest.raises(ArgumentError, match=r"probability in 0\.\.1.*got 20"):
        M.fbeta(logits, targets, thresh=20)
    with pytest.raises(ArgumentError, match="beta=-1"):
        M.fbeta(logits, targets, beta=-1)
    with pytest.raises(ArgumentError, match=r"FBeta expects a finite beta.*eps=0"):
        M.FBeta(eps=0)
    with pytest.raises(ArgumentError, match="binary, micro, macro, weighted, got None"):
        M.Precision(average=None)
    with pytest.raises(ArgumentError, match="pos_label 0 or 1, got 2"):
        M.Recall(pos_label=2)
    with pytest.raises(ArgumentError, match="thresh is a probability"):
        M.MultiLabelFbeta(thresh=1.5)
    with pytest.raises(ArgumentError, match="'linear', 'quadratic', got 'cubic'"):
        M.KappaScore("cubic")
    with pytest.raises(TypeError, match="treshold"):
        M.FBeta(treshold=0.5)


def test_the_weights_of_kappa_can_be_assigned_as_in_v1() -> None:
    logits, targets = torch.eye(3)[torch.tensor([0, 1, 2, 2, 0])], torch.tensor([0, 1, 2, 0, 1])
    kappa = M.KappaScore()
    kappa.weights = "quadratic"
    assert float(kappa(logits, targets)) == pytest.approx(
        sk.cohen_kappa_score(targets, [0, 1, 2, 2, 0], weights="quadratic")
    )
    with pytest.raises(ArgumentError, match="'linear', 'quadratic', got 'cubic'"):
        kappa.weights = "cubic"
    with pytest.raises(ArgumentError, match="no 'weight'"):
        kappa.weight = "linear"


@pytest.mark.parametrize(
    "metric", [sk.roc_auc_score, partial(sk.f1_score, average="macro"), lambda y_true, y_pred: 0.0]
)
def test_a_metric_that_takes_the_truth_first_is_refused(metric) -> None:
    with pytest.raises(ArgumentError, match="the truth first, and is called with"):
        M.check_metric(metric, is_multi=False)


def test_other_names_of_parameters_say_nothing() -> None:
    for metric in (lambda input, target: 0.0, lambda preds, labels: 0.0, lambda a, b: 0.0, lambda *both: 0.0):
        M.check_metric(metric, is_multi=False)
