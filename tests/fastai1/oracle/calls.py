"""Calls of fastai v1 whose answers are numbers, for both sides: fastai 1.0.61 itself, and onecycle under its names.

``python calls.py FOLDER OUT.json`` makes them with whichever ``fastai`` is found (``--onecycle``: with the hook on), on
drawn digits below FOLDER. ``make v1`` runs it on fastai 1.0.61 and stores the answers in ``v1.json``.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np

warnings.filterwarnings("ignore")


def digits(root: Path) -> Path:
    """Forty digits to train on and sixteen to validate on, drawn; returns their folder."""
    sys.path[:0] = [str(Path(__file__).resolve().parents[1])]
    import stand_in

    stand_in.digits(root / "digits", {"train": 20, "valid": 8}, (3, 7), "labels.csv")
    return root / "digits"


def tensors(*shape: int, seed: int = 0) -> Any:
    import torch

    return torch.tensor(np.random.RandomState(seed).randn(*shape).astype(np.float32))


def classes(n: int, c: int, seed: int = 1) -> Any:
    import torch

    return torch.tensor(np.random.RandomState(seed).randint(0, c, n))


def data_of(path: Path, **options: Any) -> Any:
    """All pictures as they are, in one batch, so that no order matters."""
    from fastai.vision import ImageDataBunch, imagenet_stats

    bunch = ImageDataBunch.from_folder(path, bs=40, num_workers=0, **options)
    return bunch.normalize(imagenet_stats)


def small_learner(path: Path, **options: Any) -> Any:
    """A small network with weights that both sides share."""
    import torch
    from fastai.vision import Learner, accuracy, simple_cnn

    model = simple_cnn((3, 8, 8, 2), bn=True)
    rng = np.random.RandomState(3)
    with torch.no_grad():
        for name, p in sorted(model.named_parameters()):
            p.copy_(torch.tensor(rng.randn(*p.shape).astype(np.float32)) * 0.2 + (name.endswith("1.weight")))
    return Learner(data_of(path), model, metrics=[accuracy], **options)


def annealing() -> dict[str, Any]:
    from fastai import callback as c

    at = [0.0, 0.1, 0.5, 0.9, 1.0]
    names = ("annealing_no", "annealing_linear", "annealing_exp", "annealing_cos")
    found = {n: [float(getattr(c, n)(0.01, 0.3, p)) for p in at] for n in names}
    return {**found, "annealing_poly": [float(c.annealing_poly(2)(0.01, 0.3, p)) for p in at]}


def losses() -> dict[str, Any]:
    import torch
    from fastai.vision import BCEWithLogitsFlat, CrossEntropyFlat, LabelSmoothingCrossEntropy, MSELossFlat  # fmt: skip

    logits, targets = tensors(6, 4), classes(6, 4)
    tags = (tensors(6, 4, seed=5) > 0).float()
    weight = torch.tensor([1.0, 2.0, 0.5, 3.0])
    return {
        "cross_entropy": float(CrossEntropyFlat()(logits, targets)),
        "cross_entropy, weighted": float(CrossEntropyFlat(weight=weight)(logits, targets)),
        "binary": float(BCEWithLogitsFlat()(logits, tags)),
        "smoothed": float(LabelSmoothingCrossEntropy()(logits, targets)),
        "smoothed, 0.3": float(LabelSmoothingCrossEntropy(eps=0.3)(logits, targets)),
        "squares": float(MSELossFlat()(logits[:, 0], tags[:, 0])),
    }


def metrics() -> dict[str, Any]:
    import fastai.metrics as m

    logits, targets = tensors(40, 6), classes(40, 6)
    tags = (tensors(40, 6, seed=5) > 0.3).float()
    numbers, truth = tensors(40), tensors(40, seed=6)
    found = {
        "accuracy": m.accuracy(logits, targets),
        "error_rate": m.error_rate(logits, targets),
        "top_k_accuracy": m.top_k_accuracy(logits, targets, k=3),
        "accuracy_thresh": m.accuracy_thresh(logits, tags),
        "accuracy_thresh 0.2": m.accuracy_thresh(logits, tags, thresh=0.2),
        "fbeta": m.fbeta(logits, tags),
        "fbeta 0.5, 1": m.fbeta(logits, tags, thresh=0.5, beta=1),
    }
    names = ("mean_squared_error", "mean_absolute_error", "root_mean_squared_error", "r2_score", "explained_variance")
    found |= {name: getattr(m, name)(numbers, truth) for name in names}
    found |= {name: getattr(m, name)(numbers.abs(), truth.abs()) for name in ("exp_rmspe", "msle")}
    return {name: float(value) for name, value in found.items()}


def metrics_of_a_set(path: Path) -> dict[str, Any]:
    """Metrics that are no mean of batches, through ``validate``; v1's kappa fails where its weights are not set."""
    import fastai.metrics as m
    from fastai.vision import Learner

    learn = small_learner(path)
    kappa = m.KappaScore()
    kappa.weights = "quadratic"
    given = {
        "precision": m.Precision(),
        "recall": m.Recall(),
        "f1": m.FBeta(beta=1),
        "f2, macro": m.FBeta(average="macro", beta=2),
        "kappa, quadratic": kappa,
        "correlation": m.MatthewsCorreff(),
        "area": m.AUROC(),
    }
    found = {}
    for name, metric in given.items():
        judge = Learner(learn.data, learn.model, metrics=[metric])
        found[name] = float(judge.validate(judge.data.valid_dl)[1])
    return found


def schedules(path: Path) -> dict[str, Any]:
    learn = small_learner(path)
    learn.fit_one_cycle(10, 0.01)
    found = {"one cycle": learn.recorder.lrs, "its momentum": learn.recorder.moms}
    learn.fit_one_cycle(7, 0.02, moms=(0.9, 0.8), div_factor=10, pct_start=0.5)
    found |= {"another": learn.recorder.lrs, "its momentum, too": learn.recorder.moms}
    learn.lr_find(num_it=12, stop_div=False)
    found["finder"] = learn.recorder.lrs
    return {name: [float(v) for v in values] for name, values in found.items()}


def rates(path: Path) -> dict[str, Any]:
    """Learning rates of layer groups."""
    from fastai.vision import cnn_learner, models

    learn = cnn_learner(data_of(path), models.resnet18, pretrained=False)
    given = {"one": 0.1, "slice(b)": slice(0.1), "slice(a, b)": slice(0.001, 0.1)}
    found = {name: np.broadcast_to(np.asarray(learn.lr_range(lr), float), 3) for name, lr in given.items()}
    return {name: [float(v) for v in values] for name, values in found.items()}


def training(path: Path) -> dict[str, Any]:
    """Ten steps on one batch that is the whole set, from the same weights."""
    learn = small_learner(path, wd=0.1)
    learn.fit_one_cycle(10, 0.02)
    weights = {n: float(p.detach().norm()) for n, p in sorted(learn.model.named_parameters())}
    return {
        "loss": [float(v) for v in learn.recorder.losses],
        "valid loss": [float(v) for v in learn.recorder.val_losses],
        "accuracy": [float(v[0]) for v in learn.recorder.metrics],
        "weights": [weights[n] for n in sorted(weights)],
    }


def interpretation(path: Path) -> dict[str, Any]:
    from fastai.vision import ClassificationInterpretation

    learn = small_learner(path)
    learn.fit(3, 0.01)
    interp = ClassificationInterpretation.from_learner(learn)
    values, rows = interp.top_losses(5)
    files = [str(learn.data.valid_ds.x.items[int(i)]).rsplit("digits/", 1)[1] for i in rows]
    probs, targets = learn.get_preds()
    return {
        "top losses": [float(v) for v in values],
        "their files": files,
        "confusion": np.asarray(interp.confusion_matrix()).tolist(),
        "most confused": [[str(a), str(b), int(n)] for a, b, n in interp.most_confused(min_val=1)],
        "mean probability": [float(v) for v in probs.mean(0)],
        "targets": sorted(int(t) for t in targets),
        "classes": [str(c) for c in learn.data.classes],
    }


def networks(path: Path) -> dict[str, Any]:
    """Keys and shapes of what is saved, of heads and of networks from nothing."""
    from fastai.layers import conv_layer, res_block, simple_cnn
    from fastai.vision import cnn_learner, create_head, models
    from fastai.vision.models.xresnet import xresnet18

    made = {
        "create_head": create_head(1024, 5),
        "create_head, two layers": create_head(64, 3, lin_ftrs=[32, 16], ps=[0.1, 0.2, 0.3], bn_final=True),
        "conv_layer": conv_layer(3, 8),
        "conv_layer, no norm": conv_layer(3, 8, norm_type=None, stride=2),
        "res_block": res_block(8),
        "simple_cnn": simple_cnn((3, 8, 4)),
        "xresnet18": xresnet18(c_out=7),
        "resnet18": cnn_learner(data_of(path), models.resnet18, pretrained=False).model,
    }
    return {n: [[k, list(v.shape)] for k, v in model.state_dict().items()] for n, model in made.items()}


def splits(path: Path) -> dict[str, Any]:
    """Which rows of a table validate, where ``seed=`` asks for v1's draw."""
    import pandas as pd
    from fastai.vision import ImageList

    frame = pd.read_csv(path / "labels.csv")
    found = {}
    for seed in (0, 42):
        lists = ImageList.from_df(frame, path).split_by_rand_pct(0.2, seed=seed)
        found[f"seed {seed}"] = sorted(str(i).rsplit("digits/", 1)[-1].lstrip("./") for i in lists.valid.items)
    return found


def of_pictures(path: Path) -> dict[str, Any]:
    """Pixels and their statistics."""
    from fastai.vision import open_image

    image = open_image(path / "train" / "3" / "0.png")
    batch, _ = data_of(path).one_batch()
    return {
        "shape": list(image.shape),
        "mean": float(image.data.mean()),
        "row": [float(v) for v in image.data[0, 10, 5:15]],
        "batch": list(batch.shape),
        "normalised": [float(v) for v in batch.mean((0, 2, 3))],
    }


def answers(root: Path) -> dict[str, Any]:
    """All of them, by the names of their functions."""
    path = digits(root)
    alone = (annealing, losses, metrics)
    on_data = (
        metrics_of_a_set, schedules, rates, training, interpretation, networks, splits, of_pictures,
    )  # fmt: skip
    return {f.__name__: f() for f in alone} | {f.__name__: f(path) for f in on_data}


def patch_torch() -> None:
    """Let fastai 1.0.61 run on the torch of today: a function that is gone, and pickles of its own."""
    import torch

    torch.solve = lambda b, a: (torch.linalg.solve(a, b), None)
    load = torch.load
    torch.load = lambda *args, **options: load(*args, **{"weights_only": False, **options})


if __name__ == "__main__":
    words = [word for word in sys.argv[1:] if word != "--onecycle"]
    if "--onecycle" in sys.argv:
        from onecycle import as_fastai

        as_fastai.on()
    else:
        patch_torch()
    Path(words[1]).write_text(json.dumps(answers(Path(words[0])), indent=1, sort_keys=True) + "\n")
