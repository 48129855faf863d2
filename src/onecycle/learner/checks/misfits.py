"""Where things meet that were made apart, they are compared here: loaders, losses, pixel statistics, splits.

A ``learn`` here is a ``Learner``; its module imports this one, so the type is not named.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn

from onecycle.data.audit.rows import check_same_classes
from onecycle.data.batches import BatchLoader, Stats
from onecycle.data.bunch import ImageDataBunch
from onecycle.data.datasets import ImageDataset
from onecycle.data.labels.items import DatasetType
from onecycle.errors import ArgumentError, CheckpointError, DataWarning, OnecycleWarning, check_order, warn
from onecycle.train.checkpoint import read_manifest
from onecycle.train.losses import ACTIVATIONS, FOR_CLASSES, FOR_TAGS, FocalLoss, is_one_of, known_activation

MOST_MARKS = 200_000
"""Training pictures that a saved model remembers, 8 bytes each; of more, it remembers none."""

ALIKE = 0.2
"""Statistics are alike where means differ by less than this share of a deviation, and deviations by this share: what
one batch measures differs as much from the next."""


@dataclass(frozen=True)
class Seen:
    """What the weights of a learner have been trained on."""

    paths: frozenset[str] = frozenset()  # absolute, of the training pictures of this session
    marks: frozenset[str] = frozenset()  # of the training pictures of loaded weights, see ``mark``
    stats: tuple[Stats | None, ...] = ()  # what their pixels were normalised with; empty where that is not known

    def after_training(self, data: ImageDataBunch, stats: Stats | None) -> Seen:
        """Return what they have seen once they are trained on ``data``, too."""
        return replace(self, paths=self.paths | _absolute(data.store.paths, data.split.train), stats=(stats,))

    def of(self, paths: Iterable[str]) -> list[str]:
        """Return which of some absolute paths they have seen."""
        return [p for p in paths if p in self.paths or (self.marks and mark(p) in self.marks)]

    def manifest(self) -> dict[str, Any]:
        """Return what is saved with the weights, as JSON can hold it; ``from_manifest`` reads it."""
        if len(self.paths) + len(self.marks) > MOST_MARKS:
            return {"trained_on": None}
        return {"trained_on": "".join(sorted({mark(p) for p in self.paths} | self.marks))}

    @classmethod
    def of_file(cls, path: Path) -> Seen:
        """Return what the weights of a file have seen; nothing where it is no saved model of onecycle."""
        try:
            manifest = read_manifest(path.with_suffix("")) if path.suffix == ".safetensors" else {}
        except (CheckpointError, KeyError):
            manifest = {}
        return cls.from_manifest(manifest)

    @classmethod
    def from_manifest(cls, manifest: Mapping[str, Any]) -> Seen:
        """Read what a saved model says; a file of another library says nothing."""
        text, stats = manifest.get("trained_on") or "", manifest.get("stats")
        known = () if "stats" not in manifest else (None if stats is None else (tuple(stats[0]), tuple(stats[1])),)
        return cls(marks=frozenset(text[i : i + 8] for i in range(0, len(text), 8)), stats=known)


class SeenByModel:
    """An attribute of a learner that belongs to its model: what the weights have seen goes to their next learner."""

    def __init__(self) -> None:
        self._of: WeakKeyDictionary[nn.Module, Seen] = WeakKeyDictionary()

    def __get__(self, learn: Any, owner: type) -> Seen:
        return self._of.get(learn.model, Seen())

    def __set__(self, learn: Any, value: Seen) -> None:
        self._of[learn.model] = value


@lru_cache(maxsize=2 * MOST_MARKS)
def mark(path: str) -> str:
    """Return 8 characters that stand for a file, wherever its data set is: of its name, its folder's and its size."""
    try:
        size = os.stat(path).st_size
    except (OSError, ValueError):
        size = -1
    digest = hashlib.sha256(f"{'/'.join(Path(path).parts[-2:])} {size}".encode(errors="replace")).digest()
    return base64.urlsafe_b64encode(digest[:6]).decode()


def _absolute(paths: Sequence[str], rows: np.ndarray) -> frozenset[str]:
    return frozenset(os.path.abspath(paths[row]) for row in rows)


# --- pictures that trained ------------------------------------------------------------------------


def warn_of_trained(seen: Seen, data: ImageDataBunch) -> None:
    """Warn where validation pictures of other data have trained the weights."""
    _warn_of_trained(seen, data.store.paths, data.split.valid, data.split.train, "validation pictures")


def _warn_of_trained(seen: Seen, files: Sequence[str], rows: np.ndarray, own_train: np.ndarray, what: str) -> None:
    """Warn of rows of some files that trained; what the same data lists as training, too, is said elsewhere."""
    paths = sorted(_absolute(files, rows))
    trained = seen.of(paths)
    if trained and len(own_train):
        own = _absolute(files, own_train)
        marks = {mark(p) for p in own} if seen.marks else set()
        trained = [p for p in trained if p not in own and mark(p) not in marks]
    if trained:
        warn(
            f"{len(trained)} of {len(paths)} {what} were trained on by these weights (it is another split; one of them "
            f"is {trained[0]}), so scores on them flatter: use the split that the weights were trained with (seed=, "
            "data.split_by_rows), or pictures that never trained",
            DataWarning,
        )


# --- pixel statistics -----------------------------------------------------------------------------


def alike(a: Stats | None, b: Stats | None) -> bool:
    """Tell whether two statistics are the same but for the accident of the batch that they were measured on."""
    if a is None or b is None:
        return a is b
    means = all(abs(x - y) <= ALIKE * s for x, y, s in zip(a[0], b[0], a[1], strict=True))
    return means and all(abs(math.log(x / y)) <= ALIKE for x, y in zip(a[1], b[1], strict=True))


def stats_text(stats: Stats | None) -> str:
    """Say what pixels are normalised with."""
    if stats is None:
        return "nothing (pixels in 0 to 1)"
    mean, std = (" ".join(f"{v:.3f}" for v in channels) for channels in stats)
    return f"mean {mean}, std {std}"


def warn_of_stats(seen: Seen, now: Stats | None) -> None:
    """Warn where pixels are normalised otherwise than the weights were trained with."""
    if seen.stats and not alike(seen.stats[0], now):
        warn(
            f"these weights were trained on pixels normalised with {stats_text(seen.stats[0])}, and now they are "
            f"normalised with {stats_text(now)}: predictions go wrong until it is trained on. Leave data.normalize() "
            "out, and the network's statistics are used",
            DataWarning,
        )


def take_manifest(learn: Any, manifest: Mapping[str, Any], *, strict: bool) -> None:
    """Compare what a saved model says of its training with a learner that has just loaded its weights.

    Pixels are normalised from now on as the weights were trained, unless the user normalised the data.

    Warns:
        DataWarning: other statistics of the user's, validation pictures that trained, another activation.
    """
    seen, data = Seen.from_manifest(manifest), learn.data
    learn.seen = seen if strict else replace(seen, paths=learn.seen.paths, marks=seen.marks | learn.seen.marks)
    if seen.stats and data.stats is None:
        if not alike(seen.stats[0], learn.stats):
            text = f"pixels are normalised as these weights were trained, with {stats_text(seen.stats[0])}"
            warn(f"{text}, no longer with {stats_text(learn.stats)}", OnecycleWarning)
        learn.stats = data.backbone_stats = seen.stats[0]
    warn_of_stats(learn.seen, data.stats or learn.stats)
    warn_of_trained(learn.seen, data)
    if manifest and manifest.get("trained_on") is None and len(data.split.valid):
        learn.say(
            "The saved model does not say which pictures it was trained on (it is older, or they are very many): with "
            "another split than its own, scores flatter, and nothing here can tell."
        )
    _say_preprocess(learn, manifest)
    activation = manifest.get("activation")
    if activation is not None and ACTIVATIONS[activation] is not learn.activation:
        warn(
            f"these weights were trained with a loss whose outputs become probabilities by {activation}, unlike the "
            "loss here: probabilities go wrong; make the learner with the loss that it was trained with",
            OnecycleWarning,
        )


def _say_preprocess(learn: Any, manifest: Mapping[str, Any]) -> None:
    """Say where a saved model saw its pictures at another size, or brought to their size in another way."""
    resize, size, method = learn.data.lists.resize, manifest.get("size"), manifest.get("resize_method")
    now = resize.size
    if size is not None and now is not None and tuple(size) != tuple(now):
        learn.say(
            f"These weights were saved with pictures of {size[0]} × {size[1]} px; here they have {now[0]} × {now[1]}."
        )
    if method is not None and method != resize.method.name:
        learn.say(
            f"These weights were saved with pictures resized by {method.lower()}; here it is "
            f"{resize.method.name.lower()} (resize_method=), so the same picture looks otherwise to them."
        )


# --- loaders, losses ------------------------------------------------------------------------------


def check_labels(ds_type: DatasetType, *, needed: bool = True) -> None:
    """Refuse a part of the data whose pictures have no labels, where they are needed.

    Raises:
        ArgumentError: the test part.
    """
    if needed and ds_type is DatasetType.Test:
        raise ArgumentError(
            "the test pictures have no labels, so there is no loss and no score; get_preds predicts them"
        )


def check_bunch(data: object) -> None:
    """Refuse what is no bunch.

    Raises:
        ArgumentError: it is something else, say loaders of PyTorch.
    """
    if not isinstance(data, ImageDataBunch):
        raise ArgumentError(f"data is an ImageDataBunch, as from_folder makes one; received {type(data).__name__}")


def checked_loader(learn: Any, dl: BatchLoader | DatasetType | None) -> BatchLoader:
    """Return the batches that are to be judged, None for the validation part, compared with the learner's data.

    Raises:
        ArgumentError: neither a loader nor a part; pictures without labels, or with other classes than the learner's.

    Warns:
        DataWarning: pictures that the weights were trained on, in data other than the learner's.
    """
    if dl is not None and not isinstance(dl, BatchLoader | DatasetType):
        raise ArgumentError(
            "expected a part of the data, as DatasetType.Valid, or a loader of a bunch, as other.valid_dl; received "
            f"{type(dl).__name__}"
        )
    loader: BatchLoader = dl if isinstance(dl, BatchLoader) else learn.loader(dl or DatasetType.Valid)
    part: ImageDataset = loader.dataset
    if part.labels is None:
        raise ArgumentError(
            f"these {len(part)} pictures have no labels, so there is no loss and no score; get_preds predicts them"
        )
    check_same_classes(learn.data.labels, part.labels)
    split = learn.data.split
    if part.rows is not split.train and part.rows is not split.valid:
        nobody = np.zeros(0, dtype=np.int64)
        _warn_of_trained(learn.seen, part.store.paths, part.rows, nobody, "pictures of this loader")
    return loader


def check_loss(loss_func: Any, is_multi: bool, n_classes: int) -> None:
    """Refuse a loss that does not fit the labels.

    Raises:
        ArgumentError: it is for another kind of labels or number of classes, or gives no single number.

    Warns:
        OnecycleWarning: what turns its outputs into probabilities is not known; or it has parameters of its own.
    """
    inner, settings = loss_func, dict(getattr(loss_func, "keywords", {}))
    while isinstance(inner, functools.partial):
        inner = inner.func
    name = getattr(inner, "__name__", type(inner).__name__)
    if not callable(loss_func) or isinstance(inner, type):
        hint = f"{name}()" if isinstance(inner, type) else "CrossEntropyFlat()"
        raise ArgumentError(f"loss_func is called with (logits, targets): pass {hint}, say; received {loss_func!r}")
    check_order("loss", name, loss_func)
    if getattr(inner, "reduction", settings.get("reduction")) == "none":
        raise ArgumentError(f"{name} with reduction='none' gives no single number to train on; leave reduction out")
    said = isinstance(getattr(loss_func, "activation", None), str)
    if is_multi and not said and is_one_of(inner, FOR_CLASSES):
        raise ArgumentError(
            f"{name} is for one label a picture, and these have tags: it would train them as shares of one. Leave "
            "loss_func out, or use BCEWithLogitsFlat, FocalLoss or AsymmetricLoss"
        )
    if not is_multi and not said and is_one_of(inner, FOR_TAGS):
        raise ArgumentError(
            f"{name} is for tags; for one label a picture use CrossEntropyFlat, FocalLoss or class_weights"
        )
    if isinstance(inner, FocalLoss) and inner.is_multi not in (None, is_multi):
        raise ArgumentError(f"FocalLoss(is_multi={inner.is_multi}) does not fit these labels; leave is_multi out")
    for argument in ("weight", "pos_weight"):
        _check_factors(f"{name} has {argument}", getattr(inner, argument, settings.get(argument)), n_classes)
    ignored = getattr(inner, "ignore_index", settings.get("ignore_index"))
    if not is_multi and isinstance(ignored, int) and 0 <= ignored < n_classes:
        raise ArgumentError(
            f"{name} with ignore_index={ignored} leaves out every picture of class number {ignored}, which would never "
            "be learned; leave ignore_index out (every picture here has a label)"
        )
    if isinstance(inner, nn.Module) and any(p.requires_grad for p in inner.parameters()):
        warn(
            f"{name} has parameters of its own, which no optimizer here trains; put them into the model",
            OnecycleWarning,
        )
    if known_activation(loss_func) is None:
        usual, kind = ("sigmoid", "tags") if is_multi else ("softmax", "one label a picture")
        warn(
            f"the loss {name} does not say how outputs become probabilities, so {usual} is taken, as is usual for "
            f"{kind}; give it an attribute activation ({', '.join(map(repr, ACTIVATIONS))}) to say so",
            OnecycleWarning,
        )


def _check_factors(what: str, factors: Any, n_classes: int) -> None:
    if factors is None:
        return
    if not isinstance(factors, Tensor) or factors.dtype != torch.float32:
        kind = factors.dtype if isinstance(factors, Tensor) else type(factors).__name__
        raise ArgumentError(f"{what} of {kind}; make it torch.tensor(..., dtype=torch.float32)")
    if factors.shape[-1:] not in ((n_classes,), (), (1,)):
        raise ArgumentError(f"{what} for {factors.shape[-1]} classes, and there are {n_classes}")
    if not bool((factors.isfinite() & (factors >= 0)).all()) or not bool(factors.any()):
        raise ArgumentError(f"{what} {factors.tolist()}: expected numbers of 0 or more, not all 0")
