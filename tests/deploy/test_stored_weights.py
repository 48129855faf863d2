"""Fewer bits a weight: which tensors change, nothing else does, and the mean shift of rounding is taken back."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from exported_toys import toy_predictor

pytest.importorskip("onnxruntime", reason="needs the extra export")
pytest.importorskip("onnxscript", reason="needs the extra export")

import onnx
import onnxruntime
from onnx import TensorProto, numpy_helper

from onecycle.deploy.graph.onnx_model import onnx_of
from onecycle.deploy.weights import stored
from onecycle.deploy.weights.stored import with_weights


@pytest.fixture(scope="module")
def full():
    return onnx_of(toy_predictor(is_multi=True, calibrated=True, deep=True))


@pytest.fixture(scope="module")
def pixels():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (20, 24, 3), dtype=np.uint8) // (1 + i % 3) for i in range(40)]


def answers(model, pixels):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(["probabilities", "labels"], {"pictures": np.stack(pixels)})


def kinds(model):
    """Shapes of the tensors that a file holds, by the kind of their values."""
    found = {}
    for tensor in model.graph.initializer:
        found.setdefault(TensorProto.DataType.Name(tensor.data_type), []).append(tuple(tensor.dims))
    return found


def test_half_stores_large_weights_in_16_bits_and_nothing_else(full, pixels):
    half = with_weights(full, "half")
    assert sorted(kinds(half)["FLOAT16"]) == [(4, 96), (16, 3, 3, 3), (32, 16, 3, 3), (96, 32)]
    before, after = kinds(full), kinds(half)
    assert set(before["FLOAT"]) - set(after["FLOAT"]) == set(after["FLOAT16"])
    assert (16, 1, 3, 3) in after["FLOAT"]  # 144 values
    assert after["DOUBLE"] == before["DOUBLE"]  # calibration and thresholds
    onnx.checker.check_model(half)
    probs, labels = answers(half, pixels)
    right, right_labels = answers(full, pixels)
    assert 0 < np.abs(probs - right).max() < 1e-3
    assert (labels == right_labels).mean() > 0.99


def test_half_leaves_a_weight_that_16_bits_cannot_hold(full):
    large = onnx.ModelProto()
    large.CopyFrom(full)
    wide = next(t for t in large.graph.initializer if tuple(t.dims) == (32, 16, 3, 3))
    wide.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(wide) * 1e7, wide.name))
    assert (32, 16, 3, 3) in kinds(with_weights(large, "half"))["FLOAT"]


def test_int8_rounds_what_adds_up_many_inputs_and_stores_the_rest_in_16_bits(full, pixels):
    small = with_weights(full, "int8", pixels)
    assert sorted(kinds(small)["INT8"]) == [(4, 96), (32, 16, 3, 3)]
    assert sorted(kinds(small)["FLOAT16"]) == [(16, 3, 3, 3), (96, 32)]
    onnx.checker.check_model(small)
    probs, _ = answers(small, pixels)
    assert 0 < np.abs(probs - answers(full, pixels)[0]).max() < 0.01


def test_the_resize_stays_as_it_is(full, pixels):
    branches = [next(n for n in m.graph.node if n.op_type == "If") for m in (full, with_weights(full, "int8", pixels))]
    assert branches[0].SerializeToString() == branches[1].SerializeToString()


def test_the_mean_shift_of_rounding_is_taken_back_at_each_output(full, pixels, monkeypatch):
    """With 3 bits in place of 8 the shift is large; the mean score of each class comes back to nearly what it was."""

    def coarse(values, axes):
        scale = np.abs(values).max(axis=axes, keepdims=True) / 3
        return np.rint(values / scale).astype(np.int8), scale

    monkeypatch.setattr(stored, "_rounded", coarse)
    right, corrected = (answers(m, pixels)[0].mean(0) for m in (full, with_weights(full, "int8", pixels)))
    monkeypatch.setattr(stored, "_shifts", lambda model, uses, *_: [np.zeros((), np.float32) for _ in uses])
    plain = answers(with_weights(full, "int8", pixels), pixels)[0].mean(0)
    assert np.abs(corrected - right).max() < 0.2 * np.abs(plain - right).max()


class Tokens(nn.Module):
    """Rows of a picture as tokens, each through one layer: a product of three axes in ONNX."""

    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.Linear(72, 80), nn.Linear(80, 4)

    def forward(self, x):
        tokens = x.permute(0, 2, 1, 3).flatten(2)  # (N, 20, 72)
        return self.head(self.layer(tokens).relu().mean(1))


def test_products_of_three_axes_have_a_scale_for_each_output(pixels):
    torch.manual_seed(0)
    full = onnx_of(replace(toy_predictor(), model=Tokens().eval()))
    assert "MatMul" in {node.op_type for node in full.graph.node}
    small = with_weights(full, "int8", pixels)
    assert sorted(kinds(small)["INT8"]) == [(4, 80), (72, 80)]
    scales = {tuple(t.dims) for t in small.graph.initializer if t.name.endswith("/scale")}
    assert scales == {(4, 1), (1, 80)}
    assert 0 < np.abs(answers(small, pixels)[0] - answers(full, pixels)[0]).max() < 0.01
