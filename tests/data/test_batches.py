"""Batches are functions of (seed, epoch, step): any threads, any device, any number of looks."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
import torch

from onecycle.data.augment.augmenter import BatchAugmenter
from onecycle.data.augment.transforms import get_transforms, rotate
from onecycle.data.batches import BatchLoader, _on_device, check_stats
from onecycle.data.bunch import ImageDataBunch
from onecycle.data.labels.items import DatasetType
from onecycle.errors import ArgumentError, DataError


def bunch(path, **options):
    options = {"folder": "train", "suffix": ".jpg", "size": 32, "bs": 8, "ds_tfms": get_transforms(), **options}
    return ImageDataBunch.from_csv(path, **options)


def epoch_of(loader: BatchLoader, epoch: int):
    loader.set_epoch(epoch)
    return [(b.x.clone(), b.y.clone(), b.indices.clone()) for b in loader]


def same(first, second) -> bool:
    return all(torch.equal(a, b) for one, two in zip(first, second, strict=True) for a, b in zip(one, two, strict=True))


def test_a_batch_has_the_promised_shapes_and_types(colour_path):
    batch = bunch(colour_path).train_dl.batch_at(0, 0)
    assert batch.x.shape == (8, 3, 32, 32)
    assert batch.x.dtype == torch.float32
    assert batch.x.is_contiguous(memory_format=torch.channels_last)
    assert batch.y.dtype == torch.int64
    assert 0 <= batch.x.min() <= batch.x.max() <= 1
    x, y = batch
    assert x is batch.x
    assert y is batch.y


def test_epochs_repeat_exactly_and_differ_from_each_other(colour_path):
    loader = bunch(colour_path).train_dl
    first = epoch_of(loader, 0)
    assert same(first, epoch_of(bunch(colour_path).train_dl, 0))
    assert not same(first, epoch_of(loader, 1))
    assert not same(first, epoch_of(bunch(colour_path, seed=7).train_dl, 0))


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("pixel_cache", ["disk", "memory", "off"])
def test_threads_and_the_store_do_not_change_a_batch(colour_path, threads, pixel_cache):
    reference = epoch_of(bunch(colour_path).train_dl, 3)
    data = bunch(colour_path, num_workers=threads, pixel_cache=pixel_cache)
    assert same(reference, epoch_of(data.train_dl, 3))
    data.prepare()
    assert (data.store.is_packed, data.store.in_memory) == (pixel_cache != "off", pixel_cache == "memory")
    assert same(reference, epoch_of(data.train_dl, 3))


def test_one_step_alone_equals_the_step_of_the_epoch(colour_path):
    loader = bunch(colour_path).train_dl
    for step, (x, y, indices) in enumerate(epoch_of(loader, 2)):
        alone = loader.batch_at(2, step)
        assert torch.equal(alone.x, x)
        assert torch.equal(alone.y, y)
        assert torch.equal(alone.indices, indices)


def test_targets_and_pixels_belong_to_the_indices(colour_path):
    data = bunch(colour_path, ds_tfms=None)
    for x, y, indices in epoch_of(data.train_dl, 0):
        for i, position in enumerate(indices.tolist()):
            image, label = data.train_ds[position]
            assert torch.equal((x[i] * 255).round().to(torch.uint8), image.px)
            assert int(label) == y[i]


def test_an_epoch_visits_every_picture_at_most_once_and_drops_only_the_rest(colour_path):
    loader = bunch(colour_path, bs=10).train_dl
    assert (loader.n_items, len(loader), loader.n_dropped) == (48, 4, 8)
    seen = torch.cat([i for _, _, i in epoch_of(loader, 0)])
    assert len(set(seen.tolist())) == 40


def test_a_set_smaller_than_a_batch_still_trains(colour_path):
    loader = bunch(colour_path, bs=64).train_dl
    assert (len(loader), loader.n_dropped) == (1, 0)
    assert sum(len(y) for _, y, _ in epoch_of(loader, 0)) == 48


def test_validation_is_in_order_and_not_augmented(colour_path):
    data = bunch(colour_path)
    indices = torch.cat([i for _, _, i in epoch_of(data.valid_dl, 0)])
    assert indices.tolist() == list(range(12))
    assert same(epoch_of(data.valid_dl, 0), epoch_of(data.valid_dl, 5))


def test_normalisation_subtracts_and_divides(colour_path):
    loader = bunch(colour_path).valid_dl
    stats = ((0.1, 0.2, 0.3), (0.5, 0.25, 2.0))
    raw, normalised = loader.batch_at(0, 0).x, loader.replace(stats=stats).batch_at(0, 0).x
    mean, std = (torch.tensor(s).view(1, 3, 1, 1) for s in stats)
    assert torch.allclose(normalised, (raw - mean) / std, atol=1e-6)


def test_dl_tfms_run_on_each_batch(colour_path):
    data = bunch(colour_path, dl_tfms=[lambda xy: (xy[0] * 0, xy[1])])
    assert data.train_dl.batch_at(0, 0).x.abs().max() == 0


def test_pictures_of_several_sizes_need_a_size(tmp_path):
    import PIL.Image

    for i, side in enumerate((20, 20, 30)):
        PIL.Image.fromarray(np.zeros((side, 20, 3), np.uint8)).save(tmp_path / f"{i}.png")
    data = ImageDataBunch.from_lists(tmp_path, [tmp_path / f"{i}.png" for i in range(3)], ["a", "b", "a"], 0.0)
    with pytest.raises(DataError, match=r"differ in size: .*px and .*px \(height × width\); pass size=224"):
        list(data.fix_dl)


def test_bad_settings_are_refused(colour_path):
    with pytest.raises(ArgumentError, match="at least 1; received 0"):
        bunch(colour_path, bs=0).train_dl  # noqa: B018
    with pytest.raises(ArgumentError, match="no setting 'colour'"):
        bunch(colour_path).train_dl.replace(colour=1)
    for stats in (None, 3, ((1, 2), (3, 4)), ((0.5,), (0.0,))):
        with pytest.raises(ArgumentError, match=r"stats is \(means, stds\)"):
            check_stats(stats)
    assert check_stats(([0.5], [0.25])) == ((0.5,) * 3, (0.25,) * 3)


def test_the_training_part_in_order_is_the_fix_loader(colour_path):
    data = bunch(colour_path)
    indices = torch.cat([i for _, _, i in epoch_of(data.loader(DatasetType.Fix), 0)])
    assert indices.tolist() == list(range(48))


def test_dl_tfms_see_pixels_that_are_not_normalised_yet(colour_path):
    seen = []
    stats = ((0.5,) * 3, (0.25,) * 3)
    plain = bunch(colour_path).train_dl.replace(stats=stats).batch_at(0, 0)
    loader = bunch(colour_path, dl_tfms=[lambda xy: (seen.append(xy[0].clone()) or xy[0], xy[1])]).train_dl
    batch = loader.replace(stats=stats).batch_at(0, 0)
    assert 0 <= seen[0].min() <= seen[0].max() <= 1
    assert torch.allclose(batch.x, plain.x, atol=1e-6)


def test_views_gather_once_and_are_what_epochs_of_those_numbers_give(colour_path):
    data = bunch(colour_path, bs=5)
    loader = data.valid_dl
    augmenters = [BatchAugmenter([rotate((-20, 20))], size=32) for _ in range(3)]
    gathered = []
    real = data.store.gather
    data.store.gather = lambda rows, **how: gathered.append(len(rows)) or real(rows, **how)
    found = [(b.x, b.y, b.indices) for b in loader.views(augmenters)]
    assert gathered == [5, 5, 2]
    for view, augmenter in enumerate(augmenters):
        assert same(found[view::3], epoch_of(loader.replace(augmenter=augmenter), view))


def test_a_transform_of_one_view_leaves_the_targets_of_the_next_alone(colour_path):
    data = bunch(colour_path, dl_tfms=[lambda xy: (xy[0], xy[1].add_(1))])
    targets = data.valid_ds.targets.clone()
    augmenters = [BatchAugmenter([], size=32)] * 2
    first, second, *_ = data.valid_dl.views(augmenters)
    assert torch.equal(first.y, second.y)
    assert torch.equal(first.y, targets[:8] + 1)
    assert torch.equal(data.valid_ds.targets, targets)


def test_a_loader_that_is_left_early_ends_cleanly(colour_path):
    loader = bunch(colour_path).train_dl
    for first in loader:
        assert torch.equal(first.x, loader.batch_at(0, 0).x)
        break
    assert len(list(loader)) == len(loader)


def test_on_a_processor_batches_are_handed_on_as_they_are():
    asked = []

    def batches():
        for i in range(3):
            asked.append(i)
            yield FakeBatch(i, [])

    for i, batch in enumerate(_on_device(batches(), torch.device("cpu"), lambda batch: [batch])):
        assert batch.number == i
        assert asked == list(range(i + 1))


class FakeBatch:
    """A batch that notes its copy to the device, and which stream its memory is kept for."""

    def __init__(self, number: int, log: list[str]) -> None:
        self.number, self.log = number, log
        self.x = self.y = self

    def to(self, device: torch.device) -> FakeBatch:
        self.log.append(f"copy {self.number}")
        return self

    def record_stream(self, stream: FakeStream) -> None:
        self.log.append(f"keep {self.number} for {stream.name}")


class FakeStream:
    """A stream whose events are the number of copies so far."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self.log = name, log

    def record_event(self) -> str:
        return self.log[-1]

    def wait_event(self, event: str) -> None:
        self.log.append(f"{self.name} waits for {event}")


def test_to_a_gpu_a_batch_goes_while_the_one_before_is_in_use(monkeypatch):
    log: list[str] = []
    monkeypatch.setattr("onecycle.data.batches._copy_stream", lambda device: FakeStream("copies", log))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: FakeStream("network", log))
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())

    def finish(batch):
        log.append(f"finish {batch.number}")
        return [batch]

    for batch in _on_device(iter([FakeBatch(i, log) for i in range(3)]), torch.device("cuda"), finish):
        log.append(f"use {batch.number}")
    assert log == [
        *["copy 0", "finish 0", "copy 1", "finish 1"],
        *["network waits for finish 0", "keep 0 for network", "keep 0 for network", "use 0"],
        *["copy 2", "finish 2"],
        *["network waits for finish 1", "keep 1 for network", "keep 1 for network", "use 1"],
        *["network waits for finish 2", "keep 2 for network", "keep 2 for network", "use 2"],
    ]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gets_the_same_batches(colour_path):
    loader = bunch(colour_path).train_dl
    on_gpu = bunch(colour_path, device="cuda").train_dl
    for (x, y, i), (gx, gy, gi) in zip(epoch_of(loader, 1), epoch_of(on_gpu, 1), strict=True):
        assert torch.allclose(gx.cpu(), x, atol=1e-3)
        assert torch.equal(gy.cpu(), y)
        assert torch.equal(gi, i)


def test_the_order_of_an_epoch_is_made_once(colour_path, monkeypatch):
    loader = bunch(colour_path).train_dl
    made = []
    plain = BatchLoader._order
    monkeypatch.setattr(BatchLoader, "_order", lambda self, epoch: made.append(epoch) or plain(self, epoch))
    first = [loader.batch_at(3, i).indices for i in range(2)]
    assert made == [3]
    assert loader.batch_at(4, 0).indices.tolist() != first[0].tolist()
    assert made == [3, 4]
    halves = loader.replace(bs=loader.bs // 2)
    assert torch.equal(torch.cat([halves.batch_at(3, i).indices for i in range(2)]), first[0])
    weights = np.ones(loader.n_items)
    weights[0] = 30
    weighted = loader.replace(weights=weights)
    assert (weighted.order(3) == 0).sum() > 5
    assert (loader.order(3) == 0).sum() <= 1


@pytest.mark.parametrize("step", [0, 2, 6])
def test_an_epoch_can_begin_at_any_batch(colour_path, step):
    loader = bunch(colour_path).train_dl
    whole = epoch_of(loader, 3)
    assert same([(b.x, b.y, b.indices) for b in loader.from_step(step)], whole[step:])
