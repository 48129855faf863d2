"""Parts of a batch on threads of their own: the same result for any number of them."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from onecycle.data.augment import threads as parts
from onecycle.data.augment.augmenter import BatchAugmenter
from onecycle.data.augment.transforms import cutout, dihedral, get_transforms, rand_crop, rgb_randomize
from onecycle.data.batches import normalise_, to_float

STATS = ((0.1, 0.2, 0.3), (0.5, 0.25, 2.0))


@pytest.fixture
def pixels() -> torch.Tensor:
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.integers(0, 256, (13, 40, 36, 3)).astype(np.uint8)).permute(0, 3, 1, 2)


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def augmented(pixels, *, then=None, tfms=None) -> torch.Tensor:
    chosen = [*get_transforms(flip_vert=True)[0], rgb_randomize(p=0.5), cutout((0, 2), 9)]
    augmenter = BatchAugmenter(chosen if tfms is None else tfms, size=(30, 32))
    shapes = np.tile([[40, 36]], (len(pixels), 1))
    return augmenter.apply(pixels, shapes, augmenter.draw(np.random.default_rng(3), shapes), then=then)


@pytest.mark.parametrize("n_threads", [1, 2, 5])
@pytest.mark.parametrize("part_bytes", [1, 50_000, 2**30])
def test_an_augmented_batch_is_the_same_for_any_threads_and_parts(pixels, threads, n_threads, part_bytes, monkeypatch):
    threads(1)
    expected = torch.cat([augmented_alone(pixels, i) for i in range(len(pixels))])
    threads(n_threads)
    monkeypatch.setattr(parts, "CHUNK_BYTES", part_bytes)
    assert torch.equal(augmented(pixels), expected)
    normalised = augmented(pixels, then=lambda x: normalise_(x, STATS))
    assert torch.allclose(normalised, normalise_(expected.clone(), STATS), atol=1e-6)


def augmented_alone(pixels: torch.Tensor, i: int) -> torch.Tensor:
    chosen = [*get_transforms(flip_vert=True)[0], rgb_randomize(p=0.5), cutout((0, 2), 9)]
    augmenter = BatchAugmenter(chosen, size=(30, 32))
    shapes = np.tile([[40, 36]], (len(pixels), 1))
    draws = augmenter.draw(np.random.default_rng(3), shapes)
    return augmenter.apply(pixels[i : i + 1], shapes[i : i + 1], draws.select([i]))


@pytest.mark.parametrize("n_threads", [1, 3])
def test_parts_work_in_inference_mode_and_leave_the_threads_as_they_were(pixels, threads, n_threads, monkeypatch):
    threads(n_threads)
    monkeypatch.setattr(parts, "CHUNK_BYTES", 1)
    expected = augmented(pixels)
    with torch.inference_mode():
        assert torch.equal(augmented(pixels), expected)
        assert torch.equal(to_float(pixels), pixels.float() / 255)
    assert torch.get_num_threads() == n_threads
    seen = []
    later = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    later.start()
    later.join()
    assert seen == [n_threads]


def test_every_row_is_worked_on_once_and_by_several_threads(threads):
    threads(2)
    both = threading.Barrier(2, timeout=20)  # breaks unless two parts run at the same time
    seen = []

    def work(rows):
        both.wait()
        seen.extend((int(r), torch.get_num_threads()) for r in rows)

    parts.in_threads([np.array([0, 3]), np.array([1]), np.array([2, 5]), np.array([4])], work)
    assert sorted(seen) == [(i, 1) for i in range(6)]


def test_the_error_of_a_part_is_raised(threads):
    threads(2)

    def work(rows):
        raise ZeroDivisionError(f"row {rows[0]}")

    with pytest.raises(ZeroDivisionError, match="row 0"):
        parts.in_threads([np.array([0]), np.array([1])], work)
    assert torch.get_num_threads() == 2


def test_a_part_fits_the_cache_and_leaves_no_thread_idle(threads):
    threads(4)
    assert parts.chunk_length(64, 4 * 3 * 224 * 224) == 8
    assert parts.chunk_length(8, 4 * 3 * 224 * 224) == 2
    assert parts.chunk_length(64, 4 * 3 * 32 * 32) == 16
    assert parts.chunk_length(64, 2**30) == 1


@pytest.mark.parametrize("k", range(8))
def test_whole_pixels_are_moved_as_an_index_would(pixels, k):
    window = augmented(pixels, tfms=[dihedral(k), rand_crop()])
    assert window.shape == (13, 3, 30, 32)
    planes = (window * 255).round().to(torch.uint8)
    assert torch.allclose(planes / 255, window, atol=1e-6)
    for picture, shown in zip(pixels, planes, strict=True):
        at = shown
        if k & 4:
            at = at.transpose(1, 2)
        at = at.flip([axis for axis, turned in ((1, k & 1), (2, k & 2)) if turned])
        rows, cols = at.shape[1:]
        windows = picture.unfold(1, rows, 1).unfold(2, cols, 1)
        assert (windows == at[:, None, None]).all(dim=(0, 3, 4)).any()


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_normalising_is_the_same_in_both_layouts(pixels, memory_format):
    x = (pixels.float() / 255).contiguous(memory_format=memory_format)
    mean, std = (torch.tensor(s).view(1, 3, 1, 1) for s in STATS)
    expected = (x - mean) / std
    assert torch.equal(normalise_(x, STATS), expected)


def test_float_pixels_are_255ths_and_normalised_where_asked(pixels):
    assert torch.equal(to_float(pixels), pixels.float() / 255)
    assert to_float(pixels).is_contiguous(memory_format=torch.channels_last)
    found = to_float(pixels, then=lambda x: normalise_(x, STATS))
    assert torch.equal(found, normalise_(pixels.float() / 255, STATS))
