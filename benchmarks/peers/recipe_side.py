"""onecycle's recipe on a given split: the head alone or with what follows, and what it says of held-out pictures.

It runs in this state of the project and, with another one's sources first on the path, in that.

python recipe_side.py JOB.json
"""

from __future__ import annotations

import time
import warnings
from typing import Any

import numpy as np
import shared
from shared import Job, tell

import onecycle
from onecycle.data.augment.transforms import get_transforms
from onecycle.data.bunch import ImageDataBunch
from onecycle.data.data_block import ImageList
from onecycle.errors import OnecycleWarning
from onecycle.learner.cnn import cnn_learner

TRANSFORMS: dict[str, dict[str, Any]] = {
    "from above": {"flip_vert": True, "max_lighting": 0.1, "max_zoom": 1.05, "max_warp": 0.0},  # the lesson's
    "usual": {},
    "no flips": {"do_flip": False},
}


def bunch(job: Job) -> ImageDataBunch:
    """The given files, split as given."""
    items = job["train"] + job["valid"]
    n = len(job["train"])
    return (
        ImageList([path for path, _ in items], job["home"])
        .split_by_idxs(range(n), range(n, len(items)))
        .label_from_list(
            [label for _, label in items], label_delim=" " if job["is_multi"] else None, classes=job["classes"]
        )
        .transform(get_transforms(**TRANSFORMS[job["transforms"]]), size=job["size"])
        .databunch(bs=job["bs"], val_bs=64, seed=job["seed"])
    )


def recipe(job: Job) -> None:
    """Fine-tune with nothing chosen but the epochs; probabilities, truth and decisions go to ``job["out"]``."""
    data = bunch(job)
    learn = cnn_learner(data, shared.ARCH, path=job["home"], silent=True)
    learn.fine_tune(job["epochs"])
    trained_s = time.process_time()
    probs, targets = (t.numpy() for t in learn.get_preds())
    np.savez(job["out"], probs=probs, targets=targets, **decisions(learn, probs))
    tell(source=onecycle.__file__, cpu_s=time.process_time(), predict_cpu_s=time.process_time() - trained_s)


def decisions(learn: Any, probs: np.ndarray) -> dict[str, np.ndarray]:
    """Which tags are given: for sample-F2 and for the exact set, by the rules that this state of the project has."""
    if not learn.data.is_multi:
        return {}
    if not hasattr(learn, "decide_for"):
        return {"f2": probs >= 0.2, "exact": probs >= 0.5}
    from onecycle.deploy.calibrated import adopt_measure  # which the state before does not have

    found = {}
    for measure in ("f2", "exact"):
        # Thresholds, where they decide, stay the usual ones: the pictures that would choose them are those held out.
        adopt_measure(learn, measure, None)
        found[measure] = learn.decisions.decide(probs, probs)
    return found


if __name__ == "__main__":
    warnings.simplefilter("ignore", OnecycleWarning)
    shared.main({"recipe": recipe})
