"""The resize as tensor operations, and as ONNX: the same bytes as the one evaluation preprocess."""

import numpy as np
import pytest
import torch

from onecycle.data.pixels.resize import ResizeSpec, centre_window, resize_pixels
from onecycle.deploy.graph.resize_graph import ResizeGraph

SHAPES = [(20, 24), (1, 1), (2, 3), (7, 300), (300, 7), (61, 24), (20, 99), (240, 200), (1, 50), (19, 23)]


def expected(pixels: np.ndarray, spec: ResizeSpec) -> np.ndarray:
    return centre_window(resize_pixels(pixels, spec), spec)


@pytest.mark.parametrize("method", ["CROP", "PAD", "SQUISH"])
@pytest.mark.parametrize("padding_mode", ["reflection", "border", "zeros"])
def test_the_graph_gives_the_bytes_of_the_preprocess(method, padding_mode):
    spec = ResizeSpec.make((20, 24), method, padding_mode=padding_mode)
    rng = np.random.default_rng(0)
    for shape in SHAPES:
        pixels = rng.integers(0, 256, (2, *shape, 3), dtype=np.uint8)
        made = ResizeGraph(spec)(torch.from_numpy(pixels)).numpy()
        assert np.array_equal(made, np.stack([expected(p, spec) for p in pixels])), shape
