"""From the settings of a run to its data and its learner; what is found by looking is noted in the settings."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from onecycle.data.audit.findings import AuditReport
from onecycle.data.augment.transforms import get_transforms, mirrored_views
from onecycle.data.bunch import ImageDataBunch
from onecycle.data.labels.find.columns import LayoutOptions
from onecycle.data.labels.splits import Split, keep_together
from onecycle.data.layout import DataLayout, find_layout
from onecycle.data.pixels.decode import picture_shape
from onecycle.data.pixels.picture_file import UNREADABLE
from onecycle.data.pixels.store import PixelStore
from onecycle.learner.cnn import cnn_learner
from onecycle.learner.fine_tune.plan import LAST_STEPS, Task
from onecycle.learner.learner import Learner
from onecycle.model.choice import MOST_MINUTES, choose_network
from onecycle.model.weights import PACKAGED
from onecycle.runs.config import AUTO, DEFAULT, DEFAULT_EPOCHS, EPOCHS_OF_FEW, FILE, OPTION, SKIPPED, RunConfig
from onecycle.runs.folder import RunFolder, folder_name
from onecycle.runs.split import split_like
from onecycle.train.metrics import Metric, accuracy, fbeta

USUAL_PX, LEAST_PX, STEP_PX = 224, 64, 32
"""The size that most networks were trained at; the least that leaves a network something to see; and its step."""

LOOKED_AT = 64
"""Pictures whose headers are read to find the size."""

USUAL_BATCH = 64
"""Pictures in a batch, before it is made smaller for few pictures."""

FEW_PICTURES = 32
"""With fewer to train on, batches are made of a quarter of them: a batch that is not full does not train."""

MULTI_THRESH = 0.2
"""From this probability on a tag counts as predicted in the column of the log: Planet's usual threshold for F2."""

_FOUND = "found by looking"


def layout_of(config: RunConfig) -> DataLayout:
    """Find out where the pictures and labels of the settings are.

    Raises:
        DataError, ArgumentError: as ``find_layout``.
    """
    options = LayoutOptions(**{f.name: getattr(config, f.name) for f in fields(LayoutOptions)})
    layout = find_layout(config.data, options)
    return replace(layout, pictures=layout.pictures.absolute())


def settled(config: RunConfig, layout: DataLayout) -> RunConfig:
    """Return the settings with everything that the layout and the headers of some pictures say."""
    for name, value in layout.describe().items():
        if name == "data":
            config = config.found(name, str(value), config.origin("data"))
        elif getattr(config, name) is None and value is not None:
            config = config.found(name, value, _FOUND)
    if config.weights is not None and (weights := Path(config.weights).expanduser()).exists():
        config = config.found("weights", str(weights.resolve()), config.origin("weights"))
    if config.split is not None:
        split = Path(config.split).expanduser().resolve()
        split = RunFolder(split).split if split.is_dir() else split
        config = config.found("split", str(split), config.origin("split"))
    n = len(layout.pictures.paths)
    config = _with_epochs(config, n)
    if config.arch == AUTO:
        config = _with_network(config, n)
    if config.name is None:
        name = Path(layout.data).stem or layout.data
        if layout.csv and name == Path(layout.csv).stem:
            name = layout.root.name
        config = config.found("name", folder_name(name.lower()), "that of the data set")
    return config


def _with_epochs(config: RunConfig, n: int) -> RunConfig:
    """Return the settings with a number of epochs for ``n`` pictures, where nothing says how long to train."""
    if config.epochs is not None or config.minutes is not None:
        return config
    n_train = n - round(config.valid_pct * n)
    steps = Task(n_train=n_train, n_valid=0, size=None, bs=config.bs or USUAL_BATCH).steps
    return config.found("epochs", EPOCHS_OF_FEW if EPOCHS_OF_FEW * steps < LAST_STEPS else DEFAULT_EPOCHS, DEFAULT)


def _with_network(config: RunConfig, n: int) -> RunConfig:
    """Return the settings with a network for ``n`` pictures; weights are fetched only where auto was asked for."""
    if config.weights is not None:
        return config.found("arch", PACKAGED, "the usual one for --weights")
    epochs, minutes = config.length
    chosen = choose_network(
        n - round(config.valid_pct * n),
        round(config.valid_pct * n),
        epochs=DEFAULT_EPOCHS if epochs is None else epochs,
        budget_s=60 * (MOST_MINUTES if minutes is None else minutes),
        size=config.size or USUAL_PX,
        fetch=config.origin("arch") in (OPTION, FILE),
    )
    return config.found("arch", chosen.name, f"auto: {chosen.why}")


def with_size(
    config: RunConfig, paths: Sequence[str], shapes: Mapping[str, tuple[int, int]] | None = None
) -> RunConfig:
    """Return the settings with a size for these pictures, where none is set; ``shapes`` as ``some_shapes`` has them."""
    if config.size is not None:
        return config
    sides = [min(shape) for shape in (some_shapes(paths) if shapes is None else shapes).values()]
    if not sides:
        return config.found("size", USUAL_PX, "the usual size: no picture's header could be read")
    px = int(statistics.median(sides))
    if px >= USUAL_PX:
        return config.found("size", USUAL_PX, f"the usual size; the pictures have {px} px")
    size = max(LEAST_PX, min(USUAL_PX, STEP_PX * -(-px // STEP_PX)))
    return config.found("size", size, f"the pictures have {px} px")


def some_shapes(paths: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Read (height, width) of some pictures from all over the list, the same ones each time, from their headers."""
    shapes: dict[str, tuple[int, int]] = {}
    for path in paths[:: max(1, len(paths) // LOOKED_AT)][:LOOKED_AT]:
        with suppress(*UNREADABLE):
            shapes[path] = picture_shape(path)
    return shapes


def split_of(config: RunConfig, layout: DataLayout) -> Split:
    """Draw the split of the settings, or read it, of all rows.

    Raises:
        DataError: a split that does not fit the data.
    """
    if config.split is not None:
        split = split_like(layout.pictures.paths, layout.root, Path(config.split))
        return replace(split, groups=layout.pictures.group_numbers())
    return layout.pictures.split(config.valid_pct, seed=config.seed, stratify=config.stratify)


def make_bunch(
    config: RunConfig, layout: DataLayout, split: Split | None = None, *, store: PixelStore | None = None
) -> ImageDataBunch:
    """Make the data of the settings; ``size`` is set. Batches have the settings' size, or 64 pictures.

    Args:
        config: the settings.
        layout: where the data is.
        split: what ``split_of`` returned; drawn here where it is None.
        store: of the pixels, where some of them are decoded already.
    """
    strengths = ("flip_vert", "max_rotate", "max_zoom", "max_lighting", "max_warp")
    return layout.bunch(
        split_of(config, layout) if split is None else split,
        seed=config.seed,
        store=store,
        size=config.size,
        bs=config.bs or USUAL_BATCH,
        ds_tfms=get_transforms(do_flip=config.flip, **{name: getattr(config, name) for name in strengths}),
        unreadable="skip" if {*SKIPPED.values()} & {*config.allow} else "stop",
    )


def with_copies_together(data: ImageDataBunch, audit: AuditReport) -> ImageDataBunch:
    """Return the data with each group of copies in one part: those that validate move to training."""
    split = keep_together(data.split, [group.rows for group in audit.duplicates])
    if len(split.valid) == len(data.split.valid):
        return data
    return data.split_by_rows(split.train.tolist(), split.valid.tolist(), split.how)


def with_batches(config: RunConfig, data: ImageDataBunch) -> tuple[RunConfig, ImageDataBunch]:
    """Return settings and data with a batch size for the number of training pictures, where none is set."""
    if config.bs is not None:
        return config, data
    n = len(data.split.train)
    usual = Task(n_train=n, n_valid=0, size=None, bs=data.batch_size).batch
    bs = max(2, n // 4) if n < FEW_PICTURES else usual
    how = f"for {n:,} training pictures: {max(1, n // bs)} steps an epoch"
    return config.found("bs", bs, how), data.resized(data.lists.resize.size, bs=bs)


def metrics_of(*, is_multi: bool) -> list[Metric]:
    """Return the metrics of the log."""
    return [partial(fbeta, thresh=MULTI_THRESH)] if is_multi else [accuracy]


def make_learner(
    config: RunConfig,
    data: ImageDataBunch,
    folder: Path,
    *,
    pretrained: bool = True,
    head: Mapping[str, Any] | None = None,
) -> Learner:
    """Make the learner of the settings; it prints nothing.

    Args:
        config: the settings.
        data: of the run, or a bunch without pictures.
        folder: of the run: models go to ``model`` below it.
        pretrained: False where weights are loaded afterwards.
        head: options of the head that these weights have; None for that of the settings.

    Raises:
        WeightsError, ArgumentError: as ``cnn_learner``.
    """
    return cnn_learner(
        data,
        PACKAGED if config.arch == AUTO else config.arch,  # auto: settings that no data settled
        pretrained=(config.weights or True) if pretrained else False,
        metrics=metrics_of(is_multi=data.is_multi),
        path=folder,
        model_dir="model",
        silent=True,
        **(_head_of(config, data) if head is None else head),
    )


def _head_of(config: RunConfig, data: ImageDataBunch) -> dict[str, Any]:
    """Return the options of the head that is asked for; none where ``fine_tune`` exchanges the usual one."""
    if config.levels == AUTO:
        return {}
    if isinstance(config.levels, str):
        return {"levels": None}
    return {"levels": config.levels, "views": mirrored_views(data.train_tfms) if config.test_views else 1}


def described(layout: DataLayout) -> dict[str, Any]:
    """Return the layout as ``data.json`` has it."""
    of_data = {
        "root": str(layout.root.resolve()),
        "kind": layout.kind,
        "is_multi": layout.is_multi,
        "test": layout.test,
    }
    return {**layout.describe(), **of_data}
