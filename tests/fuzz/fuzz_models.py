"""Models of strangers: checkpoints, weights of others and exported folders, changed along their headers."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import torch
from attack import Target
from mutate import changed_bytes, changed_value, json_bytes
from scratch import file_of, fresh, scratch
from torch import nn

from exported_toys import CLASSES, network
from onecycle.deploy.predictor import Calibrated
from onecycle.evaluation.certainty.calibration import Calibration
from onecycle.evaluation.certainty.thresholds import TagThresholds
from onecycle.train.checkpoint import load_checkpoint, read_manifest, read_weights, save_checkpoint

_CALIBRATION = Calibration("platt", (1.2, 0.8, 0.9, 1.1), (0.1, 0.2, -0.1, 0.0), 50)
_THRESHOLDS = TagThresholds((0.4, 0.5, 0.5, 0.6), "F2", 50, ((0, 1),))
MANIFEST: dict[str, Any] = {
    "classes": list(CLASSES), "is_multi": True, "is_regression": False, "size": [20, 24], "resize_method": "CROP",
    "padding_mode": "reflection", "scaled_decode": True, "stats": [[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]],
    "network": {"arch": "resnet18", "head": {}}, "activation": "sigmoid", "epochs": 3,
    **Calibrated(_CALIBRATION, _THRESHOLDS).manifest(),
}  # fmt: skip


@cache
def model() -> nn.Module:
    """Return the network that takes the weights."""
    torch.manual_seed(0)
    return network()


@cache
def checkpoint() -> bytes:
    """Return the file of a whole checkpoint."""
    return save_checkpoint(scratch() / "whole", model=model(), manifest=MANIFEST).read_bytes()


@cache
def pickles() -> tuple[bytes, ...]:
    """Return weights as PyTorch writes them: in a zip, as it did earlier, nested as fastai v1 did, from a wrapper."""
    state = {name: t.clone() for name, t in model().state_dict().items()}
    written = []
    for content, new in ((state, True), (state, False), ({"model": state, "opt": {"lr": 0.1}}, True), ([1, "x"], True)):
        buffer = io.BytesIO()
        torch.save(content, buffer, _use_new_zipfile_serialization=new)
        written.append(buffer.getvalue())
    return tuple(written)


def drawn_checkpoint(random: Random) -> bytes:
    """Return a checkpoint whose tensors' header, own header or bytes are others."""
    data = checkpoint()
    n = int.from_bytes(data[:8], "little")
    header, rest = json.loads(data[8 : 8 + n]), data[8 + n :]
    match random.randrange(4):
        case 0:
            return changed_bytes(random, data)
        case 1:
            header = changed_value(random, header)
        case _:
            said = changed_value(random, json.loads(header["__metadata__"]["header"]))
            header["__metadata__"]["header"] = json_bytes(random, said).decode("utf-8", "replace")
    text = json_bytes(random, header) if random.random() < 0.1 else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + rest


def load(data: bytes) -> None:
    """Load a checkpoint into a network, and read what it says of itself."""
    path = file_of("model.safetensors", data)
    stem = path.with_suffix("")
    for read in (
        lambda: Calibrated.from_manifest(read_manifest(stem), len(CLASSES)),
        lambda: load_checkpoint(stem, model=model(), expected={"classes": list(CLASSES)}),
        lambda: read_weights(path),
    ):
        _only_ours(read)


def _only_ours(read: Any) -> None:
    from onecycle.errors import OnecycleError

    try:
        read()
    except OnecycleError:
        return


def drawn_weights(random: Random) -> bytes:
    """Return a pickle of weights, mostly a damaged one."""
    return changed_bytes(random, random.choice(pickles()), pickles())


def weights(data: bytes) -> None:
    """Read weights of others: nothing in them is run."""
    read_weights(file_of("weights.pth", data))


# -- exported folders ---------------------------------------------------------------------------------------------


@cache
def bundle() -> dict[str, bytes]:
    """Return the files of an exported model, made without the exporter: pixels in, probabilities and tags out."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    floats, c = TensorProto.FLOAT, len(CLASSES)
    generator = torch.Generator().manual_seed(0)
    weight = numpy_helper.from_array(torch.randn(3, c, generator=generator).numpy(), "weight")
    half = numpy_helper.from_array(torch.full((c,), 0.5).numpy(), "half")
    nodes = [
        helper.make_node("Cast", ["pictures"], ["floats"], to=floats),
        helper.make_node("ReduceMean", ["floats", "axes"], ["means"], keepdims=0),
        helper.make_node("MatMul", ["means", "weight"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["probabilities"]),
        helper.make_node("GreaterOrEqual", ["probabilities", "half"], ["labels"]),
        helper.make_node("Identity", ["probabilities"], ["uncalibrated"]),
    ]
    axes = numpy_helper.from_array(torch.tensor([1, 2]).numpy(), "axes")
    outputs = [
        helper.make_tensor_value_info(name, kind, ["n", c])
        for name, kind in (("probabilities", floats), ("labels", TensorProto.BOOL), ("uncalibrated", floats))
    ]
    pictures = helper.make_tensor_value_info("pictures", TensorProto.UINT8, ["n", "h", "w", 3])
    graph = helper.make_graph(nodes, "toy", [pictures], outputs, [weight, half, axes])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(made)
    network = made.SerializeToString()
    manifest = {
        "schema_version": 1, "name": "toy", "made": "2026-01-01T00:00:00+00:00", "classes": list(CLASSES),
        "preprocess": {"size": [20, 24], "method": "CROP", "padding_mode": "reflection", "scaled_decode": True},
        "is_multi": True, "limits": [0.5] * c, "decisions": "0.5 for each tag", "unlike": None, "versions": {},
        "rule": {"measure": None, "thresholds": None, "sets": None}, "scores": [], "class_quality": [],
        "onnx": {"opset": 18, "input": "pictures", "precision": "fp32"}, "calibration": None, "thresholds": None,
        "measure": None, "sha256": {"model.onnx": hashlib.sha256(network).hexdigest()},
    }  # fmt: skip
    return {"model.onnx": network, "manifest.json": json.dumps(manifest).encode()}


def write_bundle(folder: Path, files: Mapping[str, bytes]) -> Path:
    """Write the files of an exported model into a folder."""
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def drawn_bundle(random: Random) -> dict[str, bytes]:
    """Return an exported model whose manifest or network is another; the digest fits it at times."""
    files = dict(bundle())
    manifest = json.loads(files["manifest.json"])
    if random.random() < 0.4:
        files["model.onnx"] = changed_bytes(random, files["model.onnx"])
        if random.random() < 0.7:
            manifest["sha256"]["model.onnx"] = hashlib.sha256(files["model.onnx"]).hexdigest()
    if random.random() < 0.8:
        files["manifest.json"] = json_bytes(random, changed_value(random, manifest))
    else:
        files["manifest.json"] = json.dumps(manifest).encode()
    return files


def open_bundle(files: dict[str, bytes]) -> None:
    """Open an exported model and ask it, as ``onecycle.load`` does."""
    from fuzz_tables import picture

    from onecycle.deploy.exported import ExportedPredictor

    folder = write_bundle(fresh("bundle"), files)
    predictor = ExportedPredictor.load(folder)
    predictions = predictor.predict([str(file_of("asked.jpg", picture()))])
    repr(predictions)
    repr(predictor)


TARGETS = (
    Target("checkpoints", drawn_checkpoint, load, examples=20),
    Target("weights of others", drawn_weights, weights),
    Target("exported models", drawn_bundle, open_bundle, examples=20),
)
