"""Losses, metrics, annealing: numbers in, numbers out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from common import classes, said, small_learner, tensors


def annealing() -> dict[str, Any]:
    from fastai import callback as c

    at = [0.0, 0.1, 0.5, 0.9, 1.0]
    names = ("annealing_no", "annealing_linear", "annealing_exp", "annealing_cos")
    answer = {n: [float(getattr(c, n)(0.01, 0.3, p)) for p in at] for n in names}
    return {**answer, "annealing_poly": [float(c.annealing_poly(2)(0.01, 0.3, p)) for p in at]}


def steps() -> dict[str, Any]:
    """What schedules and the smoothed loss give step by step."""
    from fastai.callback import Scheduler, SmoothenValue, annealing_cos, annealing_linear

    def walk(scheduler: Any) -> list[Any]:
        return [float(scheduler.start), *(float(scheduler.step()) for _ in range(scheduler.n_iter)), scheduler.is_done]

    smooth, seen = SmoothenValue(0.9), []
    for value in (3.0, 1.0, 4.0, 1.0, 5.0):
        smooth.add_value(value)
        seen.append(float(smooth.smooth))
    return {
        "linear": walk(Scheduler((0.1, 1.0), 5, annealing_linear)),
        "cosine": walk(Scheduler((1.0, 0.1), 4, annealing_cos)),
        "of one value": walk(Scheduler(0.5, 3)),
        "the usual": walk(Scheduler((0.5, 1.0), 3)),
        "smoothed": seen,
    }


def losses() -> dict[str, Any]:
    import torch
    from fastai.vision import BCEFlat, BCEWithLogitsFlat, CrossEntropyFlat, LabelSmoothingCrossEntropy, MSELossFlat

    logits, targets = tensors(6, 4), classes(6, 4)
    tags = (tensors(6, 4, seed=5) > 0).float()
    weight = torch.tensor([1.0, 2.0, 0.5, 3.0])
    return {
        "cross_entropy": float(CrossEntropyFlat()(logits, targets)),
        "cross_entropy, weighted": float(CrossEntropyFlat(weight=weight)(logits, targets)),
        "cross_entropy, each": CrossEntropyFlat(reduction="none")(logits, targets).tolist(),
        "binary": float(BCEWithLogitsFlat()(logits, tags)),
        "binary, sum": float(BCEWithLogitsFlat(reduction="sum")(logits, tags)),
        "binary of probabilities": float(BCEFlat()(logits.sigmoid(), tags)),
        "smoothed": float(LabelSmoothingCrossEntropy()(logits, targets)),
        "smoothed, 0.3": float(LabelSmoothingCrossEntropy(eps=0.3)(logits, targets)),
        "smoothed, sum": float(LabelSmoothingCrossEntropy(reduction="sum")(logits, targets)),
        "squares": float(MSELossFlat()(logits[:, 0], tags[:, 0])),
        "squares of a column": float(MSELossFlat()(logits[:, :1], tags[:, 0])),
    }


def metrics() -> dict[str, Any]:
    import fastai.metrics as m

    logits, targets = tensors(40, 6), classes(40, 6)
    tags = (tensors(40, 6, seed=5) > 0.3).float()
    numbers, truth = tensors(40), tensors(40, seed=6)
    answer = {
        "accuracy": m.accuracy(logits, targets),
        "error_rate": m.error_rate(logits, targets),
        "top_k_accuracy": m.top_k_accuracy(logits, targets, k=3),
        "accuracy_thresh": m.accuracy_thresh(logits, tags),
        "accuracy_thresh 0.2": m.accuracy_thresh(logits, tags, thresh=0.2),
        "accuracy_thresh of probabilities": m.accuracy_thresh(logits.sigmoid(), tags, sigmoid=False),
        "fbeta": m.fbeta(logits, tags),
        "fbeta 0.5, 1": m.fbeta(logits, tags, thresh=0.5, beta=1),
        "fbeta without tags": m.fbeta(logits, tags * 0),
        "fbeta of one": m.fbeta(tensors(1, 10), (tensors(1, 10, seed=2) > 0).float()),
        "auc_roc_score": m.auc_roc_score(logits.softmax(1)[:, 1], (targets == 1).long()),
        "roc_curve": m.roc_curve(logits.softmax(1)[:, 1], (targets == 1).long())[0].sum(),
    }
    names = ("mean_squared_error", "mean_absolute_error", "root_mean_squared_error", "r2_score", "explained_variance")
    answer |= {name: getattr(m, name)(numbers, truth) for name in names}
    answer |= {f"{name} of a column": getattr(m, name)(numbers[:, None], truth) for name in names}
    answer |= {name: getattr(m, name)(numbers.abs(), truth.abs()) for name in ("exp_rmspe", "msle")}
    return {name: float(value) for name, value in answer.items()}


def metrics_of_shapes() -> dict[str, Any]:
    """Metrics of sequences, one-hot targets, columns and lengths that differ."""
    import fastai.metrics as m
    import torch

    words, text = tensors(5, 4, 6), classes(20, 6).reshape(5, 4)
    return {
        "accuracy of sequences": float(m.accuracy(words, text)),
        "error_rate of sequences": float(m.error_rate(words, text)),
        "accuracy of a column": float(m.accuracy(tensors(8, 3), classes(8, 3)[:, None])),
        "top_k_accuracy of sequences": [float(m.top_k_accuracy(words, text, k)) for k in (1, 2, 6)],
        "accuracy_thresh of one row": float(m.accuracy_thresh(torch.linspace(0, 1, 5), torch.ones(5))),
        "accuracy_thresh of blocks": float(m.accuracy_thresh(words, (tensors(5, 4, 6, seed=3) > 0).float())),
        "fbeta of blocks": float(m.fbeta(words, (tensors(5, 4, 6, seed=3) > 0).float())),
        "exp_rmspe of a row": float(m.exp_rmspe(torch.ones(1, 5), torch.ones(5))),
        "numbers of lengths that differ": said(lambda: float(m.mean_squared_error(tensors(5), tensors(4)))),
        "r2_score of one value": str(float(m.r2_score(tensors(5), torch.zeros(5)))),
        "explained_variance of one value": str(float(m.explained_variance(tensors(5), torch.zeros(5)))),
    }


def metrics_of_a_set(path: Path) -> dict[str, Any]:
    """Metrics that are no mean of batches, through ``validate``; v1's kappa fails where its weights are not set."""
    import fastai.metrics as m
    from fastai.vision import Learner

    learn = small_learner(path)

    def kappa(weights: str) -> Any:
        made = m.KappaScore()
        made.weights = weights
        return made

    given = {
        "precision": m.Precision(),
        "recall": m.Recall(),
        **{f"precision, {a}": m.Precision(average=a) for a in ("micro", "macro", "weighted")},
        **{f"recall, {a}": m.Recall(average=a) for a in ("micro", "macro", "weighted")},
        "precision of class 0": m.Precision(pos_label=0),
        "f1": m.FBeta(beta=1),
        **{f"f2, {a}": m.FBeta(average=a, beta=2) for a in ("macro", "weighted")},
        "kappa, quadratic": kappa("quadratic"),
        "kappa, linear": kappa("linear"),
        "correlation": m.MatthewsCorreff(),
        "area": m.AUROC(),
    }
    answer = {}
    for name, metric in given.items():
        judge = Learner(learn.data, learn.model, metrics=[metric])
        answer[name] = float(judge.validate(judge.data.valid_dl)[1])
    return answer


def metrics_of_tags(path: Path) -> dict[str, Any]:
    """Metrics of several labels a picture, through ``validate``."""
    import fastai.metrics as m
    import pandas as pd
    from common import fill
    from fastai.vision import ImageList, Learner, imagenet_stats, simple_cnn

    frame = pd.read_csv(path / "labels.csv").assign(tags=["a b", "b", "c a", "a c b"] * 14)
    lists = ImageList.from_df(frame, path).split_by_idx(list(range(0, 56, 3))).label_from_df("tags", label_delim=" ")
    data = lists.databunch(bs=8, num_workers=0).normalize(imagenet_stats)
    model = fill(simple_cnn((3, 8, 3), bn=True))
    given = {
        **{f"f1, {a}": m.MultiLabelFbeta(average=a, beta=1) for a in ("micro", "macro", "weighted")},
        "the usual f": m.MultiLabelFbeta(),
        "fbeta": m.fbeta,
        "accuracy_thresh": m.accuracy_thresh,
    }
    return {name: float(Learner(data, model, metrics=[metric]).validate()[1]) for name, metric in given.items()}


CALLS = {f.__name__: f for f in (annealing, steps, losses, metrics, metrics_of_shapes)}
ON_DATA = {f.__name__: f for f in (metrics_of_a_set, metrics_of_tags)}
