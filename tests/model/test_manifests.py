"""What a saved or exported model says of itself is checked field by field, and cannot ask for memory."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from onecycle.errors import CheckpointError
from onecycle.foreign import Refused
from onecycle.model import budget
from onecycle.model.budget import network_of
from onecycle.model.cnn import create_cnn_model
from onecycle.model.manifests import check_exported, check_saved

SAVED = {
    "classes": ["a", "b"],
    "is_multi": False,
    "stats": [[0.5, 0.5, 0.5], [0.2, 0.2, 0.2]],
    "size": [32, 32],
    "resize_method": "CROP",
    "padding_mode": "reflection",
    "scaled_decode": True,
    "network": {"arch": "resnet18", "head": {"lin_ftrs": [64], "ps": 0.5}},
    "activation": "softmax",
    "own_transforms": [],
    "trained_on": "",
    "epochs_done": 3,
    "calibration": None,
    "thresholds": None,
    "measure": None,
}
EXPORTED = {
    "schema_version": 1,
    "name": "toy",
    "classes": ["a", "b"],
    "is_multi": False,
    "preprocess": {"size": [32, 32], "method": "CROP", "padding_mode": "zeros", "scaled_decode": True},
    "limits": None,
    "rule": {"measure": None, "thresholds": None, "sets": None},
    "onnx": {"opset": 18},
    "sha256": {"model.onnx": "0" * 64},
}


def changed(value: dict, place: str, new: object) -> dict:
    value = copy.deepcopy(value)
    *path, last = place.split(".")
    at = value
    for step in path:
        at = at[step]
    at[last] = new
    return value


def test_whole_manifests_pass():
    check_saved(SAVED, "x", to_predict=True)
    check_saved({"classes": ["a"], "is_multi": True}, "x")  # an older one
    check_exported(EXPORTED, "x")


@pytest.mark.parametrize(
    ("place", "new"),
    [
        ("classes", []),
        ("classes", [["a"]]),
        ("is_multi", 1),
        ("stats", [[0.5] * 3]),
        ("stats", [[0.5] * 3, [0.0, 0.1, 0.1]]),
        ("stats", [["x"] * 3, [0.1] * 3]),
        ("size", [32, 10**9]),
        ("size", 32),
        ("size", [32, 32, 3]),
        ("resize_method", "EVAL"),
        ("padding_mode", None),
        ("network.arch", 3),
        ("network.head", {"lin_ftrs": [10**9]}),
        ("network.head", {"custom_head": "os.system"}),
        ("network.head", {"views": 10**6}),
        ("network.head", {"sets": -1}),
        ("activation", "eval"),
        ("own_transforms", [1]),
        ("trained_on", 3),
        ("epochs_done", -1),
        ("calibration", []),
        ("measure", {}),
    ],
)
def test_a_saved_model_names_the_field_that_does_not_fit(place, new):
    with pytest.raises(CheckpointError, match=rf"stem\.safetensors, manifest.*{place.split('.')[-1]}"):
        check_saved(changed(SAVED, place, new), "stem", to_predict=True)


@pytest.mark.parametrize(
    ("place", "new"),
    [
        ("schema_version", 3),
        ("name", ""),
        ("classes", ["a", "a"]),
        ("preprocess.size", [1, 10**9]),
        ("preprocess.method", 1),
        ("preprocess.scaled_decode", "yes"),
        ("limits", [0.5]),
        ("rule", None),
        ("onnx", []),
        ("sha256", {"other": "0"}),
    ],
)
def test_an_exported_model_names_the_field_that_does_not_fit(place, new):
    with pytest.raises(Refused, match="manifest"):
        check_exported(changed(EXPORTED, place, new), "manifest")


def test_a_network_that_the_file_does_not_justify_is_not_made(tmp_path, monkeypatch):
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"x" * 1000)
    monkeypatch.setattr(budget, "ANY_NETWORK", 10**8)
    made: list[nn.Module] = []
    more = r"model\.safetensors says that it is of a network that takes more than"
    with pytest.raises(CheckpointError, match=more), network_of(file):
        made.append(create_cnn_model("resnet18", 10**6, pretrained=False).model)
    assert not made
    with network_of(file):
        made.append(create_cnn_model("resnet18", 10, pretrained=False).model)
    assert made


def test_a_network_is_the_same_within_its_limit(tmp_path):
    with network_of(tmp_path / "none"):
        limited = create_cnn_model("resnet18", 3, pretrained=False, seed=4).model.state_dict()
    free = create_cnn_model("resnet18", 3, pretrained=False, seed=4).model.state_dict()
    assert limited.keys() == free.keys()
    assert all(torch.equal(limited[name], free[name]) for name in free)
