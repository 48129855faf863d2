"""``onecycle demo``: from drawn tiles to a judged classifier, as a user would write it."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from onecycle import settings

if TYPE_CHECKING:
    import pandas as pd

    from onecycle.data.bunch import ImageDataBunch
    from onecycle.evaluation.interpretation import ClassificationInterpretation
    from onecycle.learner import Learner


def run_demo(
    out: Path | None, *, n_tiles: int = 1000, epochs: int = 4, size_px: int = 128, seed: int = 42
) -> Path:
    """Draw a sample, train on it, judge the result and save pictures; returns the run folder.

    Args:
        out: run folder; default ``runs/demo-<time>`` in the working directory.
        n_tiles: tiles to draw.
        epochs: of fine-tuning, all layers.
        size_px: side of the pictures that the network sees.
        seed: of the tiles, the split and the training.
    """
    start = time.monotonic()
    run = out or Path("runs") / time.strftime("demo-%Y%m%d-%H%M%S")
    run.mkdir(parents=True, exist_ok=True)
    sample = _sample(n_tiles, seed)
    data = _bunch(sample, size_px, seed)
    _save(data.show_batch(rows=4, figsize=(12, 12.8), return_fig=True), run / "batch.png")
    learn = _train(data, run, epochs)
    interpretation = learn.interpret()
    _report(learn, interpretation, run)
    _next_steps(sample, run, time.monotonic() - start)
    return run


def _sample(n_tiles: int, seed: int) -> Path:
    from onecycle.data.progress import counting_bar
    from onecycle.data.synthetic.tiles import write_sample

    print(f"1. The data: {n_tiles:,} tiles that look like satellite pictures. They are DRAWN by onecycle")
    print("   from a seed, not photographed, so nothing here says how well real tiles would do.")
    folder = settings.data_folder() / f"drawn_tiles_{n_tiles}_{seed}"
    with counting_bar("drawing tiles", n_tiles) as advance:
        write_sample(folder, n_tiles, seed=seed, progress=lambda _: advance(1))
    print(f"   They lie in {folder}\n")
    return folder


def _bunch(sample: Path, size_px: int, seed: int) -> ImageDataBunch:
    from onecycle.data.augment.transforms import get_transforms
    from onecycle.data.bunch import ImageDataBunch

    tfms = get_transforms(flip_vert=True, max_lighting=0.1, max_zoom=1.05, max_warp=0.0)
    data = ImageDataBunch.from_csv(
        sample, folder="train", suffix=".jpg", label_delim=" ", size=size_px, ds_tfms=tfms, bs=32, seed=seed
    )
    print(data, "\n")
    return data


def _train(data: ImageDataBunch, run: Path, epochs: int) -> Learner:
    from onecycle.cnn_learner import cnn_learner
    from onecycle.train.metrics import exact_match_error, fbeta

    print("2. The model: EfficientNet-Lite0 with ImageNet weights from an installed package, 1cycle policy.")
    learn = cnn_learner(
        data, "tf_efficientnet_lite0", metrics=[partial(fbeta, thresh=0.2), exact_match_error], path=run
    )
    learn.unfreeze()
    learn.fit_one_cycle(epochs, slice(1e-3, 4e-3))
    learn.save("demo")
    return learn


def _report(learn: Learner, interpretation: ClassificationInterpretation, run: Path) -> None:
    table = interpretation.tag_report(thresh=0.2)
    table.to_csv(run / "tags.csv", index=False)
    _save(interpretation.plot_top_losses(9, figsize=(13, 13), return_fig=True), run / "top_losses.png")
    _save(learn.show_results(rows=4, figsize=(13, 14), return_fig=True), run / "results.png")
    _save(learn.recorder.plot_losses(return_fig=True), run / "losses.png")
    loss, sample_f2, exact = learn.validate()
    print(f"\n3. The truth about it, on {len(learn.data.valid_ds)} tiles that it has not trained on:")
    print(f"   sample-F2 {sample_f2:.3f} (a tag is given from a probability of 0.2 on), loss {loss:.3f}")
    print(f"   tiles with at least one wrong tag {exact:.3f} (a tag is given from 0.5 on)")
    print("\n   The five worst tags (given from 0.2 on):")
    print(_tag_lines(table[table["support"] > 0].sort_values("fbeta").head(5)))


def _tag_lines(table: pd.DataFrame) -> str:
    lines = [f"   {'tag':<20}{'tiles':>6}{'precision':>11}{'recall':>8}{'F2':>7}"]
    lines += [
        f"   {row.tag:<20}{row.support:>6}{row.precision:>11.2f}{row.recall:>8.2f}{row.fbeta:>7.2f}"
        for row in table.itertuples()
    ]
    return "\n".join(lines)


def _next_steps(sample: Path, run: Path, seconds: float) -> None:
    print(f"\n4. In {run} (after {seconds:.0f} s):")
    print("   batch.png  results.png  top_losses.png  losses.png  tags.csv  models/demo.safetensors")
    print("\nNext, in a notebook or in Python (put a folder of your own in place of the sample's):\n")
    print("   from onecycle.vision import *")
    print(f"   data = ImageDataBunch.from_csv({str(sample)!r}, folder='train',")
    print("       suffix='.jpg', label_delim=' ', size=128, ds_tfms=get_transforms())")
    print("   learn = cnn_learner(data, models.tf_efficientnet_lite0, metrics=fbeta)")
    print("   learn.lr_find(); learn.recorder.plot(suggestion=True)")
    print("\n   onecycle demo --size 224 --epochs 8     larger pictures, longer training")


def _save(figure: object, path: Path) -> None:
    """Write a figure and close it."""
    import matplotlib.pyplot as plt
    from matplotlib.figure import Figure

    if isinstance(figure, Figure):
        figure.savefig(path, dpi=100)
        plt.close(figure)
