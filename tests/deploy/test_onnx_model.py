"""A predictor as ONNX: pixels in, the predictor's own answers out."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from exported_toys import toy_predictor
from onecycle.data.pixels.image import Image
from onecycle.deploy.calibrated import Calibrated
from onecycle.errors import ArgumentError
from onecycle.evaluation.certainty.decisions import Measure
from onecycle.model.cnn import create_cnn_model
from onecycle.model.tag_sets import TagSets

onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra export")
pytest.importorskip("onnxscript", reason="needs the extra export")

from onecycle.deploy.graph.onnx_model import onnx_of  # noqa: E402 - needs the extra


def session_of(predictor):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(onnx_of(predictor).SerializeToString(), options)


def answers_are_equal(predictor, shapes):
    session, rng = session_of(predictor), np.random.default_rng(1)
    for shape in shapes:
        pixels = rng.integers(0, 256, (3, *shape, 3), dtype=np.uint8)
        probs, labels = session.run(["probabilities", "labels"], {"pictures": pixels})
        raw = predictor.probs([Image.from_numpy(p) for p in pixels]).numpy()
        right = predictor.decide(raw, ["1", "2", "3"])
        assert np.abs(probs - right.shown_probs).max() < 1e-5
        assert np.array_equal(labels, right.decided)


@pytest.mark.parametrize("calibrated", [False, True])
@pytest.mark.parametrize("is_multi", [False, True])
def test_answers_are_those_of_the_predictor_for_any_shape(is_multi, calibrated):
    answers_are_equal(toy_predictor(is_multi=is_multi, calibrated=calibrated), [(20, 24), (61, 80), (7, 200), (1, 1)])


def test_pictures_as_stored_are_not_resized():
    answers_are_equal(toy_predictor(size=None, method=None), [(20, 24), (33, 51)])


def test_a_pretrained_network_without_statistics():
    made = create_cnn_model("tf_efficientnet_lite0", 4, pretrained=False)
    answers_are_equal(replace(toy_predictor(size=32), model=made.model.eval(), stats=None), [(32, 32), (50, 40)])


def test_transforms_of_ones_own_are_refused():
    predictor = replace(toy_predictor(), dl_tfms=(lambda batch: batch,))
    with pytest.raises(ArgumentError, match="transforms of your own"):
        onnx_of(predictor)


def test_a_network_that_onnx_cannot_hold_is_refused_in_one_line(capsys):
    odd = nn.Sequential(nn.AdaptiveAvgPool2d(7), nn.Flatten(), nn.Linear(147, 4))  # 7 is no factor of 20 or 24 px
    with pytest.raises(ArgumentError, match=r"cannot be written as ONNX: .*adaptive") as caught:
        onnx_of(replace(toy_predictor(), model=odd.eval()))
    assert "\n" not in str(caught.value)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("measure", ["f2", "f1", "exact", "precision=0.9"])
def test_tags_that_are_decided_by_sets(measure):
    rng = np.random.default_rng(2)
    sets = torch.from_numpy(np.unique(rng.random((9, 4)) < 0.4, axis=0)).float()
    last = TagSets.of(sets, torch.from_numpy(rng.normal(size=len(sets))).float(), 100)
    toy = toy_predictor(is_multi=True)
    model = nn.Sequential(toy.model, last).eval()
    predictor = replace(toy, model=model, calibrated=Calibrated(measure=Measure.named(measure)))
    assert (predictor.calibrated.decisions(model).limits(4) is None) == (not measure.startswith("precision"))
    answers_are_equal(predictor, [(20, 24), (61, 80), (9, 33), (300, 200)])
