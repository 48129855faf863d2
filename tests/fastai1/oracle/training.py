"""Schedules, rates, groups, steps of training and what predicts."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from common import data_of, few, fill, in_order, names_of, small_learner


def _floats(values: Any) -> list[float]:
    return [float(v) for v in values]


def schedules(path: Path) -> dict[str, Any]:
    learn = small_learner(path, data=few(path), metrics=[])
    learn.fit_one_cycle(10, 0.01)
    answer = {"one cycle": learn.recorder.lrs, "its momentum": learn.recorder.moms}
    learn.fit_one_cycle(7, 0.02, moms=(0.9, 0.8), div_factor=10, pct_start=0.5)
    answer |= {"another": learn.recorder.lrs, "its momentum, too": learn.recorder.moms}
    learn.fit_one_cycle(6, 0.02, final_div=50.0)
    answer |= {"with final_div": learn.recorder.lrs}
    learn.fit_one_cycle(6, 0.02, start_epoch=2)
    answer |= {"from epoch 2 of 6": learn.recorder.lrs, "its momentum from 2 of 6": learn.recorder.moms}
    learn.fit_one_cycle(4, 0.02, tot_epochs=6, start_epoch=1)
    answer |= {"epochs 1 to 4 of 6": learn.recorder.lrs}
    learn.fit_fc(6, 0.01, start_pct=0.5)
    answer |= {"flat, then cosine": learn.recorder.lrs, "its momentum, flat": learn.recorder.moms}
    learn.fit(3, 0.004)
    answer |= {"constant": learn.recorder.lrs, "constant momentum": learn.recorder.moms}
    learn.lr_find(num_it=12, stop_div=False)
    answer["finder"] = learn.recorder.lrs
    learn.lr_find(start_lr=1e-3, end_lr=1, num_it=8, stop_div=False)
    answer["another finder"] = learn.recorder.lrs
    return {name: _floats(values) for name, values in answer.items()}


def phases(path: Path) -> dict[str, Any]:
    """Schedules of one's own."""
    from fastai.callback import annealing_cos, annealing_linear
    from fastai.callbacks import GeneralScheduler, TrainingPhase

    learn = small_learner(path, data=few(path), metrics=[])
    made = [
        TrainingPhase(3).schedule_hp("lr", (0.001, 0.01), anneal=annealing_linear).schedule_hp("mom", 0.9),
        TrainingPhase(3).schedule_hp("lr", (0.01, 0.001), anneal=annealing_cos).schedule_hp("mom", (0.9, 0.8)),
        TrainingPhase(3).schedule_hp("lr", 0.002).schedule_hp("mom", 0.7),
    ]
    learn.fit(9, callbacks=[GeneralScheduler(learn, made)])
    return {"lr": _floats(learn.recorder.lrs), "mom": _floats(learn.recorder.moms)}


def rates(path: Path) -> dict[str, Any]:
    """Learning rates of layer groups, and which groups train."""
    from fastai.vision import cnn_learner, models

    learn = cnn_learner(data_of(path), models.resnet18, pretrained=False)
    given = {"one": 0.1, "slice(b)": slice(0.1), "slice(a, b)": slice(0.001, 0.1), "an array": np.array([1.0, 2, 3])}
    answer: dict[str, Any] = {n: np.broadcast_to(np.asarray(learn.lr_range(lr), float), 3) for n, lr in given.items()}
    answer = {name: _floats(values) for name, values in answer.items()}
    answer["groups"] = [sum(p.numel() for p in g.parameters()) for g in learn.layer_groups]
    steps = {"to 1": partial(learn.freeze_to, 1), "freeze": learn.freeze, "to -2": partial(learn.freeze_to, -2),
             "unfreeze": learn.unfreeze}  # fmt: skip
    for name, freeze in steps.items():
        freeze()
        groups = learn.layer_groups
        answer[f"that train, {name}"] = [sum(p.numel() for p in g.parameters() if p.requires_grad) for g in groups]
    return answer


def training(path: Path) -> dict[str, Any]:
    """Ten steps on one batch that is the whole set, from the same weights."""
    learn = small_learner(path, wd=0.1)
    learn.fit_one_cycle(10, 0.02)
    weights = {n: float(p.detach().norm()) for n, p in sorted(learn.model.named_parameters())}
    return {
        "loss": _floats(learn.recorder.losses),
        "valid loss": _floats(learn.recorder.val_losses),
        "accuracy": [float(v[0]) for v in learn.recorder.metrics],
        "weights": [weights[n] for n in sorted(weights)],
    }


def steps_of_optimizers(path: Path) -> dict[str, Any]:
    """Norms of the weights after three steps: kinds of decay, rates of groups, other optimizers, clipping."""
    from fastai.vision import LabelSmoothingCrossEntropy, optim, split_model

    data = few(path)

    def run(**options: Any) -> list[float]:
        fit = {"lr": options.pop("lr", 0.02), "wd": options.pop("fit_wd", None)}
        to, clip = options.pop("to", None), options.pop("clip", None)
        learn = small_learner(path, data=data, metrics=[], **options)
        if to is not None:
            learn.layer_groups = list(split_model(learn.model, [learn.model[1]]))
            learn.freeze_to(to)
        if clip is not None:
            learn = learn.clip_grad(clip)
        learn.fit(3, **fit)
        norms = {n: float(p.detach().norm()) for n, p in learn.model.named_parameters()}
        return [*(norms[n] for n in sorted(norms)), float(learn.recorder.losses[-1])]

    return {
        "no decay": run(wd=0.0),
        "decay": run(wd=0.3),
        "decay of a fit": run(wd=0.3, fit_wd=0.1),
        "decay in the gradient": run(wd=0.3, true_wd=False),
        "no decay of batch-norms": run(wd=0.3, bn_wd=False),
        "plain steps": run(opt_func=partial(optim.SGD, momentum=0.9), lr=0.1),
        "rates of groups": run(lr=slice(0.001, 0.05), to=0),
        "the last group": run(lr=0.05, to=1),
        "clipped": run(clip=0.05),
        "smoothed labels": run(loss_func=LabelSmoothingCrossEntropy()),
    }


def recorded(path: Path) -> dict[str, Any]:
    """What the recorder holds after two fits on batches."""
    learn = small_learner(path, data=data_of(path, bs=10))
    learn.fit_one_cycle(2, 0.01)
    rec = learn.recorder
    return {
        "lengths": [len(rec.losses), len(rec.val_losses), len(rec.metrics), len(rec.lrs), len(rec.moms)],
        "names": list(rec.names),
        "batches": [int(n) for n in rec.nb_batches],
        "smoothed": bool(np.isfinite(_floats(rec.losses)).all()),
    }


def predictions(path: Path) -> dict[str, Any]:
    """Probabilities of the same weights: plain, of one picture, of views."""
    from fastai.vision import DatasetType

    learn = small_learner(path)
    learn.fit(3, 0.01)
    fill(learn.model, seed=4)
    names = names_of(learn.data.valid_ds.x.items)
    probs, targets, losses = (t.tolist() for t in learn.get_preds(with_loss=True))
    first = names.index("valid/3/0.png")
    label, number, alone = learn.predict(learn.data.valid_ds[first][0])
    train = learn.get_preds(ds_type=DatasetType.Fix)
    validated = learn.validate()
    batch = learn.pred_batch(batch=learn.data.one_batch(DatasetType.Valid, denorm=False)).tolist()
    return {
        "valid, targets, losses": in_order(names, probs, targets, losses),
        "one": [str(label), int(number), alone.tolist()],
        "training": [list(train[0].shape), sorted(train[1].tolist())],
        "validate": _floats(validated),
        "pred_batch": in_order(names, batch),
    }


def views(path: Path) -> dict[str, Any]:
    """Test-time augmentation of transforms that draw nothing."""
    from fastai.vision import ImageDataBunch, crop_pad, flip_lr, imagenet_stats, rand_zoom

    answer: dict[str, Any] = {}
    for name, tfms in {"that zoom and mirror": [flip_lr(p=0.5), rand_zoom(scale=(1.0, 1.1))], "none": []}.items():
        data = ImageDataBunch.from_folder(path, ds_tfms=(tfms, [crop_pad()]), size=28, bs=40, num_workers=0)
        learn = small_learner(path, data=data.normalize(imagenet_stats))
        fill(learn.model, seed=4)
        names = names_of(data.valid_ds.x.items)
        plain, mean, _ = learn.TTA(beta=None)
        given = {"": learn.TTA()[0], ", plain": plain, ", mean": mean, ", beta 0.2": learn.TTA(beta=0.2)[0],
                 ", scale 1.1": learn.TTA(beta=None, scale=1.1)[1]}  # fmt: skip
        answer |= {f"{name}{how}": in_order(names, probs.tolist()) for how, probs in given.items()}
    return answer


ON_DATA = {
    f.__name__: f for f in (schedules, phases, rates, training, steps_of_optimizers, recorded, predictions, views)
}
