"""What predictions say of themselves."""

from __future__ import annotations

import numpy as np

from onecycle.errors import Unreadable
from onecycle.evaluation.predictions import Predictions


def test_a_notebook_shows_the_labels_not_the_arrays():
    files = tuple(f"p{i}.jpg" for i in range(7))
    probs = np.tile([[0.9, 0.8], [0.1, 0.2]], (4, 1))[:7]
    failed = (Unreadable(7, "x.jpg", "no such file"),)
    tags = Predictions.of(probs, is_multi=True, files=files, classes=("road", "water"), failed=failed)
    assert repr(tags).splitlines() == [
        "Predictions: 7 pictures, 2 tags; 1 file could not be read",
        "  p0.jpg  road, water",
        "  p1.jpg  no tag",
        "  p2.jpg  road, water",
        "  p3.jpg  no tag",
        "  p4.jpg  road, water",
        "  and 2 more",
    ]
    classes = Predictions.of(probs[:1], is_multi=False, files=("\x1b[2J.jpg",), classes=("cat", "dog"))
    assert repr(classes) == "Predictions: 1 picture, 2 classes\n  �[2J.jpg  cat"
