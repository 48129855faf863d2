"""Batches on a card: nothing waits for it, and few operations and bytes are asked of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fake_gpu import GPU, FakeGpu, fake_gpu

from onecycle.data.augment import transforms as T
from onecycle.data.augment.augmenter import BatchAugmenter
from onecycle.data.batches import BatchLoader, imagenet_stats
from onecycle.data.datasets import ImageDataset
from onecycle.data.pixels import store
from onecycle.data.pixels.resize import ResizeSpec
from onecycle.data.pixels.store import PicturesInMemory

BS, SIZE = 8, 224
MOST_OPERATIONS = 30
LESSON = T.get_transforms(flip_vert=True, max_lighting=0.1, max_zoom=1.05, max_warp=0.0)[0]
WARPED = T.get_transforms(flip_vert=True)[0]
NOISY = [*WARPED, T.rgb_randomize(p=0.5)]


def loader(tfms, *, ragged: bool = False, mode: str = "bilinear", augment: bool = True) -> BatchLoader:
    """Three batches of drawn pictures."""
    rng = np.random.default_rng(0)
    shapes = [(SIZE, SIZE - 20 * (i % 3) if ragged else SIZE) for i in range(3 * BS)]
    pictures = [rng.integers(0, 255, (*shape, 3), dtype=np.uint8) for shape in shapes]
    part = ImageDataset(PicturesInMemory(pictures, ResizeSpec(None)), np.arange(3 * BS), None, ["a"], is_multi=True)
    augmenter = BatchAugmenter(tfms, size=SIZE, mode=mode) if augment else None
    return BatchLoader(part, bs=BS, augmenter=augmenter, stats=imagenet_stats, device=GPU, shuffle=True)


CASES = {
    "evaluation": lambda: loader([], augment=False),
    "lesson": lambda: loader(LESSON),
    "warped": lambda: loader(WARPED),
    "ragged": lambda: loader(WARPED, ragged=True),
    "bicubic": lambda: loader(WARPED, mode="bicubic"),
    "ragged bicubic": lambda: loader(WARPED, ragged=True, mode="bicubic"),
    "rgb_randomize": lambda: loader(NOISY),
    "jitter and cutout": lambda: loader([*WARPED, T.jitter(0.01), T.cutout(n_holes=(1, 4))]),
}
MOST_MB = {"evaluation": 1.6, "lesson": 7.5, "warped": 8.5, "rgb_randomize": 10, "bicubic": 8.5, "ragged": 12}
"""Read and written a picture of 224 px; others 12.5."""


def epoch(card: FakeGpu, made: BatchLoader) -> None:
    batches = iter(made)
    next(batches)  # what is made once may wait
    card.clear()
    for batch in batches:
        assert batch.x.device.type == batch.y.device.type == "cuda"
        assert batch.x.shape == (BS, 3, SIZE, SIZE)
        assert batch.x.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", CASES)
def test_no_batch_waits_and_few_operations_make_it(name):
    with fake_gpu() as card:
        epoch(card, CASES[name]())
        assert not card.waits
        # One batch: the second was made before the clearing.
        assert len(card.operations) <= MOST_OPERATIONS, card.operations
        assert card.n_bytes / BS / 1e6 <= MOST_MB.get(name, 12.5)


@pytest.mark.parametrize("name", ["evaluation", "lesson", "ragged"])
def test_pixels_are_gathered_where_the_card_fetches_them(name, monkeypatch):
    made = []
    empty_canvas = store.empty_canvas

    def noted(shape: tuple[int, ...], *, pinned: bool) -> torch.Tensor:
        made.append((empty_canvas(shape, pinned=pinned), pinned))
        return made[-1][0]

    monkeypatch.setattr(store, "empty_canvas", noted)
    with fake_gpu() as card:
        sent = CASES[name]()
        batch = sent._gather(np.arange(BS), 0, [(sent.augmenter, 0)])
        ((canvas, pinned),) = made
        assert pinned
        assert card.is_pinned(batch.pixels)
        assert batch.pixels.data_ptr() == canvas.data_ptr(), "without another copy"
        assert all(card.is_pinned(t) for _, d in batch.views for t in (d.numbers,))
        assert card.is_pinned(batch.y)


def test_views_are_made_of_one_gathering():
    with fake_gpu() as card:
        made = loader(WARPED)
        views = list(made.views([made.augmenter, made.augmenter]))
        assert len(views) == 6
        assert not card.waits
        assert sum(f"{BS * SIZE * SIZE * 3} bytes" in copy for copy in card.copies) == 3
