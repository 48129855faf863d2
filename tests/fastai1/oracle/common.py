"""What the calls share: drawn data, tensors by seed, and a small network with weights that both sides are given."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np


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

    bunch = ImageDataBunch.from_folder(path, **{"bs": 40, "num_workers": 0, **options})
    return bunch.normalize(imagenet_stats)


def few(path: Path) -> Any:
    """Four pictures to train on and two to validate on, one batch each: for what only counts steps."""
    from fastai.vision import ImageList, imagenet_stats

    lists = ImageList.from_csv(path, "labels.csv").split_by_idxs([0, 1, 20, 21], [2, 22]).label_from_df()
    return lists.databunch(bs=4, num_workers=0).normalize(imagenet_stats)


def undrawn() -> Any:
    """A context in which layers are made without drawing their weights, which no answer is about."""
    from unittest import mock

    from torch.nn import init

    drawing = ("kaiming_normal_", "kaiming_uniform_", "xavier_uniform_", "normal_", "trunc_normal_", "uniform_")
    return mock.patch.multiple(init, **{name: lambda tensor, *_, **__: tensor for name in drawing})


def in_order(names: Any, *values: Any) -> list[Any]:
    """Each list of values by the names of the pictures: v1 lists files as the disk does."""
    order = sorted(range(len(names)), key=list(names).__getitem__)
    return [[list(v)[i] for i in order] for v in values]


def fill(model: Any, seed: int = 3) -> Any:
    """Give a network the same weights on both sides, by the names of its parameters."""
    import torch

    rng = np.random.RandomState(seed)
    with torch.no_grad():
        for name, p in sorted(model.named_parameters()):
            p.copy_(torch.tensor(rng.randn(*p.shape).astype(np.float32)) * 0.2 + (name.endswith("1.weight")))
    return model


def small_learner(path: Path, data: Any = None, **options: Any) -> Any:
    """A small network with weights that both sides share."""
    from fastai.vision import Learner, accuracy, simple_cnn

    model = fill(simple_cnn((3, 8, 8, 2), bn=True))
    return Learner(data_of(path) if data is None else data, model, **{"metrics": [accuracy], **options})


def names_of(items: Any) -> list[str]:
    """Paths of pictures below the folder of the digits."""
    return [str(i).rsplit("digits/", 1)[-1].removeprefix("./") for i in items]


def said(call: Any) -> Any:
    """What a call gives or, where it raises, that it does."""
    try:
        return call()
    except Exception:  # noqa: BLE001  each side has errors of its own
        return "an error"
