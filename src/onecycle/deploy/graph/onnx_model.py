"""A predictor as one ONNX model: uint8 pictures of any shape in, probabilities and labels out."""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from onecycle.deploy.graph.network_graph import AnswerGraph
from onecycle.deploy.graph.resize_graph import ResizeGraph
from onecycle.errors import ArgumentError

if TYPE_CHECKING:
    import onnx

    from onecycle.deploy.predictor import Predictor
    from onecycle.deploy.unlike import FeatureDistance

OPSET = 18
"""Of ONNX: the newest that torch's quick exporter writes; read by every onnxruntime since 1.14."""

INPUT, PROBABILITIES, LABELS, OWN, UNLIKE = "pictures", "probabilities", "labels", "uncalibrated", "unlike"
NUMBERS = "numbers"
_RESIZED = "resized"
NETWORK = "/model/"
"""In the names of all nodes of the network itself: the exporter's path to ``AnswerGraph.model``."""


def onnx_of(predictor: Predictor, distance: FeatureDistance | None = None) -> onnx.ModelProto:
    """Write a predictor as an ONNX model.

    Its input ``pictures`` is uint8 (N, H, W, 3), RGB (or with the channels of the user's reading), of one shape; those
    that have the size of the network
    already are not resized. Outputs: ``probabilities`` float32 (N, C), as a person sees them; ``labels`` int64 (N,)
    class indices or bool (N, C) tags; ``uncalibrated`` float32 (N, C), the network's own probabilities; with a
    ``distance`` from the training pictures ``unlike`` float32 (N,), above 1 for pictures that are unlike them. A
    network of numbers gives ``numbers`` float32 (N, k) in place of the first three.

    Raises:
        ArgumentError: transforms of the user's own, which are no part of the network; a network that cannot be
            exported.
    """
    if predictor.augmenter is not None or predictor.dl_tfms:
        raise ArgumentError(
            "this model validates with transforms of your own, which would stay behind: export one that was trained "
            "without them"
        )
    size = predictor.resize.size
    whole = AnswerGraph(replace(predictor, model=copy.deepcopy(predictor.model).cpu()), distance)
    outputs = [NUMBERS] if predictor.is_regression else [PROBABILITIES, LABELS, OWN]
    outputs += [] if distance is None else [UNLIKE]
    channels = predictor.reading.stored_channels
    example = torch.zeros(2, *(size or (64, 64)), channels, dtype=torch.uint8)
    answer = _exported(whole, example, name=_RESIZED if size else INPUT, outputs=outputs, any_size=size is None)
    if size is None:
        return answer
    other = torch.zeros(1, size[0] + 7, size[1] + 9, channels, dtype=torch.uint8)
    resize = _exported(ResizeGraph(predictor.resize, channels), other, name=INPUT, outputs=[_RESIZED], any_size=True)
    return _joined(resize, answer, size)


def _exported(
    module: nn.Module, example: torch.Tensor, *, name: str, outputs: list[str], any_size: bool
) -> onnx.ModelProto:
    """Trace a module with one input of N pictures, whose height and width stay open where ``any_size`` says so.

    Raises:
        ArgumentError: an operation that ONNX does not have.
    """
    import onnx

    written = io.BytesIO()
    sides = {1: "height", 2: "width"} if any_size else {}
    axes = {name: {0: "n"} | sides, **{output: {0: "n"} for output in outputs}}
    with torch.no_grad(), warnings.catch_warnings(), _double_scalars(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # the exporter's own: that it traces, and that it is the older of two
        try:
            torch.onnx.export(
                module.eval(),
                (example,),
                written,  # type: ignore[arg-type]
                input_names=[name],
                output_names=outputs,
                dynamic_axes=axes,
                opset_version=OPSET,
                dynamo=False,  # 5 s where the newer exporter takes 70 to 120 s, for the same numbers
            )
        except (RuntimeError, ValueError, TypeError) as error:
            why = str(error).strip().splitlines()[0][:160]
            raise ArgumentError(f"this network cannot be written as ONNX: {why}") from error
    model = onnx.load_from_string(written.getvalue())
    for node in model.graph.node:  # names of layers repeat between the two graphs
        node.name = f"{outputs[0]}/{node.name}"
    return model


@contextmanager
def _double_scalars() -> Iterator[None]:
    """Keep the exporter from dividing single numbers of double precision in single."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _joined(resize: onnx.ModelProto, answer: onnx.ModelProto, size: tuple[int, int]) -> onnx.ModelProto:
    """Put the resize before the network, where pictures do not have its size yet."""
    from onnx import TensorProto, compose, helper, numpy_helper

    resize = compose.add_prefix(resize, "resize/", rename_inputs=False, rename_outputs=False)
    kept = helper.make_graph(
        [helper.make_node("Identity", [INPUT], ["as_it_is"])],
        "as_it_is",
        [],
        [helper.make_tensor_value_info("as_it_is", TensorProto.UINT8, None)],
    )
    scaled = helper.make_graph(
        list(resize.graph.node),
        "resize",
        [],
        [helper.make_tensor_value_info(_RESIZED, TensorProto.UINT8, None)],
        initializer=list(resize.graph.initializer),
    )
    scaled.output[0].name = scaled.node[-1].output[0] = "resized_now"
    wanted = numpy_helper.from_array(np.array(size, dtype=np.int64), "size_of_the_network")
    answer.graph.initializer.append(wanted)
    first = [
        helper.make_node("Shape", [INPUT], ["size_of_pictures"], start=1, end=3),
        helper.make_node("Equal", ["size_of_pictures", wanted.name], ["same_sides"]),
        helper.make_node("Cast", ["same_sides"], ["same_sides_int"], to=TensorProto.INT32),
        helper.make_node("ReduceMin", ["same_sides_int"], ["all_same_int"], keepdims=0),
        helper.make_node("Cast", ["all_same_int"], ["all_same"], to=TensorProto.BOOL),
        helper.make_node("If", ["all_same"], [_RESIZED], then_branch=kept, else_branch=scaled),
    ]
    nodes = [*first, *answer.graph.node]
    del answer.graph.node[:]
    answer.graph.node.extend(nodes)
    del answer.graph.input[:]
    answer.graph.input.extend(resize.graph.input)
    return answer
