"""Pictures as arrays and tensors, and v1's metrics on shapes of all kinds."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import PIL.Image
import pytest
import torch

from onecycle.fastai1.pictures import arrays as P
from onecycle.fastai1.pictures import transforms as T
from onecycle.fastai1.pictures.image import Image, image2np, show_image
from onecycle.fastai1.training import metrics as M


def test_arrays_to_tensors_and_back():
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    made = P.pil2tensor(pixels, np.float32)
    assert (made.shape, made.dtype) == ((3, 2, 4), torch.float32)
    assert made[1, 0, 2] == pixels[0, 2, 1]
    assert np.array_equal(image2np(made), pixels)
    grey = P.pil2tensor(pixels[..., 0], np.float32)
    assert (grey.shape, image2np(grey).shape) == ((1, 2, 4), (2, 4))
    shown = Image(P.pil2tensor(pixels, np.float32).div_(255))
    assert np.array_equal(shown.numpy(), pixels)


def test_open_image_takes_v1s_arguments(colour_path):
    path = colour_path / "train" / "p000.jpg"
    assert P.open_image(path, True, "L").shape == (1, 40, 40)
    assert torch.equal(
        P.open_image(path, div=False).px,
        torch.from_numpy(np.array(P.open_image(path).numpy())).permute(2, 0, 1).float(),
    )


def test_normalize_and_back():
    x, (mean, std) = torch.rand(2, 3, 4, 4), ([0.1, 0.2, 0.3], [0.5, 0.6, 0.7])
    norm, denorm = P.normalize_funcs(mean, std)
    y, same = norm((x, torch.zeros(2)))
    assert torch.allclose(y[:, 1], (x[:, 1] - 0.2) / 0.6)
    assert torch.equal(same, torch.zeros(2))
    assert torch.allclose(denorm(y), x, atol=1e-6)
    assert P.channel_view(x).shape == (3, 32)


def test_figures():
    shown = []
    P.plot_multi(lambda i, j, ax: shown.append((i, j, ax is not None)), 2, 3)
    assert shown == [(i, j, True) for i in range(2) for j in range(3)]
    P.plot_multi(lambda i, j, ax: None)
    P.show_all([Image(torch.zeros(3, 4, 4))] * 3, r=2)
    assert len(plt.gcf().axes) == 4
    axes = show_image(torch.zeros(1, 4, 4))
    assert axes.images[0].get_array().shape == (4, 4)
    assert show_image(Image(torch.zeros(3, 4, 4)), ax=axes) is axes


def test_sizes():
    assert T.tis2hw(5) == [5, 5]
    assert T.tis2hw((3, 7, 9)) == [7, 9]
    assert P.resize_to(PIL.Image.new("L", (400, 200)), 100) == (100, 50)


ONE_HOT = torch.tensor([0, 1, 0, 0, 0.0]).expand(5, -1)


@pytest.mark.parametrize(
    ("outputs", "targets", "expected"),
    [
        (ONE_HOT, torch.arange(5), 0.2),
        (ONE_HOT, torch.tensor([1, 1, 1, 1, 0]).expand(5, -1), 0.8),  # every number against the one answer
        (
            torch.stack([torch.zeros(5, 5), ONE_HOT], 1),
            torch.tensor([1, 1, 0, 0, 0])[:, None],
            0.5,
        ),  # a sequence of two
    ],
    ids=["one label", "rows of numbers", "a sequence"],
)
def test_accuracy_of_any_shape(outputs, targets, expected):
    assert float(M.accuracy(outputs, targets)) == pytest.approx(expected)
    assert float(M.error_rate(outputs, targets)) == pytest.approx(1 - expected)


def test_other_metrics_of_any_shape():
    outputs = torch.randn(4, 6, 5)
    targets = torch.randint(5, (4, 6))
    flat = M.top_k_accuracy(outputs.view(24, 5), targets.view(24), k=2)
    assert float(M.top_k_accuracy(outputs, targets, k=2)) == pytest.approx(float(flat))
    tags = (torch.rand(4, 6, 5) > 0.5).float()
    hits = ((outputs > 0) == (tags == 1)).float()
    assert float(M.accuracy_thresh(outputs, tags)) == pytest.approx(float(hits.mean()))
    assert 0 <= float(M.fbeta(outputs, tags)) <= 1
