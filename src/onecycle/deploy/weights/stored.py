"""An exported network with fewer bits a weight: 16 or 8 in the file, float32 again when it is loaded.

``half`` stores the weights of convolutions and matrix products as float16. ``int8`` stores those that many inputs add
up in as 8-bit integers with a scale for each output, the others as float16, and takes back the mean shift that rounding
causes in each output, as training pictures show it. Either way what is computed, and by which operations, stays as it
was: the resize, the normalisation, biases and all that follows the network are not touched, a session of onnxruntime
casts the weights once as it opens the file, and answers do not depend on the kernels of a processor.

Integer arithmetic was measured and is not used (Lite0 on Planet's sample, 3,400 decisions about tags, float32 = 1; one
thread of a CPU with VNNI): onnxruntime's static quantisation of all convolutions kept 95.9 % of the decisions at 2.3
times the time, without the first and the depthwise ones 99.1 % at 1.1 times; the time of a ResNet-34 became 1.2, of a
small MobileNetV3 4.2 times as long. Rounding weights alone keeps 99.2 %, taking back its mean shift 99.8 %.

Source: Nagel et al. 2019, "Data-free quantization through weight equalization and bias correction", section 4.2.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from onecycle.deploy.graph.onnx_model import INPUT, NETWORK

LEAST_VALUES = 256
"""A tensor of fewer is not worth it."""

LEAST_INPUTS = 64
"""Inputs that each output of an 8-bit weight adds up: in the 9 of a depthwise filter errors do not cancel. With those
alone in 8 bits, and nothing taken back, 1 in 100 decisions changed, on a drawn data set 1 in 18."""

AT_ONCE = 16
_Rounded = tuple[np.ndarray, np.ndarray]  # int8 values, and the float32 scale of each output


@dataclass(frozen=True)
class _Use:
    """A convolution or a matrix product, and the tensor in the file that is its weight."""

    node: onnx.NodeProto
    weight: onnx.TensorProto

    @cached_property
    def values(self) -> np.ndarray:
        """The weight, float32."""
        return np.asarray(numpy_helper.to_array(self.weight))

    @property
    def axis(self) -> int:
        """Which axis of the weight counts outputs."""
        transposed = any(a.name == "transB" and a.i for a in self.node.attribute)
        return 0 if self.node.op_type == "Conv" or transposed else self.values.ndim - 1

    @property
    def others(self) -> tuple[int, ...]:
        """The other axes of the weight."""
        return tuple(a for a in range(self.values.ndim) if a != self.axis)

    @property
    def fits_int8(self) -> bool:
        """Whether enough inputs are added up; weights that differ from picture to picture of a batch never fit."""
        inputs = self.values.size // self.values.shape[self.axis]
        return inputs >= LEAST_INPUTS and (self.values.ndim == 2 or self.node.op_type == "Conv")


def with_weights(model: onnx.ModelProto, weights: str, pixels: Sequence[np.ndarray] = ()) -> onnx.ModelProto:
    """Return an exported model that stores its weights in fewer bits.

    Args:
        model: from ``onnx_of``; it is not changed.
        weights: ``half`` or ``int8``.
        pixels: int8: uint8 (height, width, 3) each, training pictures as the network takes them.
    """
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    uses = list(_uses(changed.graph))
    in_8_bits = [use for use in uses if use.fits_int8] if weights == "int8" else []
    rounded = {use.weight.name: _rounded(use.values, use.others) for use in in_8_bits}
    shifts = _shifts(model, in_8_bits, rounded, pixels) if in_8_bits else []
    casts: list[onnx.NodeProto] = []
    for name, use in {use.weight.name: use for use in uses}.items():
        if name in rounded:
            casts += _as_int8(changed.graph, use.weight, rounded[name])
        elif np.abs(use.values).max() <= np.finfo(np.float16).max:
            casts += _as_half(use.weight, use.values)
    nodes = [*casts, *changed.graph.node]
    for use, shift in zip(in_8_bits, shifts, strict=True):
        nodes.insert(nodes.index(use.node) + 1, _taken_back(changed.graph, use.node, shift))
    del changed.graph.node[:]
    changed.graph.node.extend(nodes)
    return changed


def _uses(graph: onnx.GraphProto) -> Iterator[_Use]:
    """Give the network's convolutions and products with a large weight; what comes before and after it is left out."""
    stored = {t.name: t for t in graph.initializer if t.data_type == TensorProto.FLOAT}
    same = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Identity"}
    for node in graph.node:
        if node.op_type not in ("Conv", "Gemm", "MatMul") or NETWORK not in node.name:
            continue
        name = node.input[1]
        while name in same:
            name = same[name]
        if name in stored and np.prod(stored[name].dims) >= LEAST_VALUES:
            yield _Use(node, stored[name])


def _rounded(values: np.ndarray, axes: tuple[int, ...]) -> _Rounded:
    """Return int8 values and float32 scales, one for each output, whose product is nearly the weight."""
    most = np.abs(values).max(axis=axes, keepdims=True)
    scale = np.where(most > 0, most / 127, 1).astype(np.float32)
    return np.rint(values / scale).astype(np.int8), scale


def _as_half(weight: onnx.TensorProto, values: np.ndarray) -> list[onnx.NodeProto]:
    name = weight.name
    weight.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}/half"))
    return [helper.make_node("Cast", [weight.name], [name], f"{name}/cast", to=TensorProto.FLOAT)]


def _as_int8(graph: onnx.GraphProto, weight: onnx.TensorProto, rounded: _Rounded) -> list[onnx.NodeProto]:
    """Store integers; Cast and Mul, not DequantizeLinear, which onnxruntime computes anew for each batch."""
    name, (values, scale) = weight.name, rounded
    weight.CopyFrom(numpy_helper.from_array(values, f"{name}/int8"))
    graph.initializer.append(numpy_helper.from_array(scale, f"{name}/scale"))
    return [
        helper.make_node("Cast", [weight.name], [f"{name}/unscaled"], f"{name}/cast", to=TensorProto.FLOAT),
        helper.make_node("Mul", [f"{name}/unscaled", f"{name}/scale"], [name], f"{name}/mul"),
    ]


def _taken_back(graph: onnx.GraphProto, node: onnx.NodeProto, shift: np.ndarray) -> onnx.NodeProto:
    """Return what subtracts a shift from a node's output; onnxruntime makes it part of the node's bias."""
    output, node.output[0] = node.output[0], f"{node.output[0]}/shifted"
    graph.initializer.append(numpy_helper.from_array(-shift, f"{output}/shift"))
    return helper.make_node("Add", [node.output[0], f"{output}/shift"], [output], f"{node.name}/shift")


def _shifts(
    model: onnx.ModelProto, uses: Sequence[_Use], rounded: Mapping[str, _Rounded], pixels: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """Return by how much rounding moves each output of nodes in the mean, float32, of a shape to be added there.

    Each node is computed a second time, with the error of its weight in place of the weight.
    """
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    names = [_probed(probe.graph, use, rounded[use.weight.name]) for use in uses]
    session = onnxruntime.InferenceSession(probe.SerializeToString(), providers=["CPUExecutionProvider"])
    step = AT_ONCE if len({p.shape for p in pixels}) == 1 else 1
    sums: list[np.ndarray] = [np.zeros(())] * len(names)
    for i in range(0, len(pixels), step):
        batch = np.stack(pixels[i : i + step])
        means = session.run(names, {INPUT: batch})
        sums = [total + len(batch) * mean[0] for total, mean in zip(sums, means, strict=True)]
    return [np.asarray(total / len(pixels), dtype=np.float32) for total in sums]


def _probed(graph: onnx.GraphProto, use: _Use, rounded: _Rounded) -> str:
    """Add a node's mean error to the outputs of a graph, float32 (1, C) or (1, C, 1, 1); returns its name."""
    name, (values, scale) = f"{use.node.output[0]}/error", rounded
    node = onnx.NodeProto()
    node.CopyFrom(use.node)
    del node.input[:]  # without a bias
    node.input.extend([use.node.input[0], f"{name}/weight"])
    node.name = node.output[0] = name
    is_conv = use.node.op_type == "Conv"
    axes = [0, *range(2, values.ndim)] if is_conv else [0]
    shape = [0] * values.ndim if is_conv else [-1, values.shape[use.axis]]  # as it is; products of any rank as rows
    for suffix, array in (
        ("weight", values * scale - use.values),
        ("axes", np.array(axes)),
        ("shape", np.array(shape)),
    ):
        graph.initializer.append(numpy_helper.from_array(array, f"{name}/{suffix}"))
    rows = helper.make_node("Reshape", [name, f"{name}/shape"], [f"{name}/rows"])
    mean = helper.make_node("ReduceMean", [f"{name}/rows", f"{name}/axes"], [f"{name}/mean"], keepdims=1)
    graph.node.extend([node, rows, mean])
    graph.output.append(helper.make_tensor_value_info(f"{name}/mean", TensorProto.FLOAT, None))
    return f"{name}/mean"
