"""What interpretation finds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from common import in_order, names_of, small_learner


def interpretation(path: Path) -> dict[str, Any]:
    from fastai.vision import ClassificationInterpretation

    learn = small_learner(path)
    learn.fit(3, 0.01)
    interp = ClassificationInterpretation.from_learner(learn)
    values, rows = interp.top_losses(5)
    least, its_rows = interp.top_losses(3, largest=False)
    probs, targets = learn.get_preds()
    items = learn.data.valid_ds.x.items
    return {
        "top losses": [float(v) for v in values],
        "their files": names_of(items[int(i)] for i in rows),
        "least losses": [float(v) for v in least],
        "the files of the least": names_of(items[int(i)] for i in its_rows),
        "all": len(interp.top_losses()[0]),
        "confusion": np.asarray(interp.confusion_matrix()).tolist(),
        "in parts": np.asarray(interp.confusion_matrix(slice_size=5)).tolist(),
        "most confused": [[str(a), str(b), int(n)] for a, b, n in interp.most_confused(min_val=1)],
        "confused more than twice": [list(map(str, row)) for row in interp.most_confused(min_val=3)],
        "mean probability": [float(v) for v in probs.mean(0)],
        "targets": sorted(int(t) for t in targets),
        "classes": [str(c) for c in learn.data.classes],
        "predicted, truth": in_order(
            names_of(items), *([int(v) for v in t] for t in (interp.pred_class, interp.y_true))
        ),
    }


ON_DATA = {f.__name__: f for f in (interpretation,)}
