"""fastai v1's interpretation: onecycle's own, with v1's arguments by position and its keyword ``slice_size``."""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from onecycle.errors import ArgumentError
from onecycle.evaluation import interpretation as product
from onecycle.fastai1.bunch.loader import OWN
from onecycle.fastai1.bunch.own_data import is_own

__all__ = ["ClassificationInterpretation", "Interpretation", "MultiLabelClassificationInterpretation"]


class ClassificationInterpretation(product.ClassificationInterpretation):
    """onecycle's interpretation; ``slice_size``, by which v1 counted in parts, changes nothing."""

    @classmethod
    def from_learner(cls, learn: Any, ds_type: Any = None, activ: Any = None, tta: bool = False, **_: Any) -> Self:
        """Predict one part of the data and interpret it.

        Raises:
            ArgumentError: the notebook's own data, of which it is not known what the classes are.
        """
        if is_own(learn.data) and learn.data.is_regression:
            raise ArgumentError(
                f"{OWN}, and the training data set does not say c or classes of targets that are whole numbers (or one "
                "of 0 and 1 a class), so there is nothing to interpret"
            )
        probabilities = activ if activ is not None or tta else learn.activation  # also where get_preds gives outputs
        return super().from_learner(learn, ds_type, probabilities, tta=tta)

    def _dataset(self) -> Any:
        if is_own(self.data):
            raise ArgumentError(f"{OWN}, so their files are not known: scores and matrices of the classes are here")
        return super()._dataset()

    def confusion_matrix(self, slice_size: int = 1, *, thresh: Any = None) -> np.ndarray:
        """Count pictures by truth and prediction."""
        return super().confusion_matrix(thresh=thresh)

    def most_confused(self, min_val: int = 1, slice_size: int = 1, *, thresh: Any = None) -> list[tuple[Any, Any, int]]:
        """List what is confused, most first."""
        return super().most_confused(min_val, thresh=thresh)

    def plot_confusion_matrix(
        self, normalize: bool = False, title: str = "Confusion matrix", cmap: Any = "Blues", slice_size: int = 1,
        norm_dec: int = 2, plot_txt: bool = True, return_fig: bool | None = None, **options: Any,
    ) -> Any:  # fmt: skip
        """Draw the confusion matrix."""
        how = {"cmap": cmap, "norm_dec": norm_dec, "plot_txt": plot_txt, "return_fig": return_fig, **options}
        return super().plot_confusion_matrix(normalize, title, **how)

    def plot_top_losses(
        self, k: int, largest: bool = True, figsize: tuple[float, float] = (12, 12), heatmap: bool | None = False,
        heatmap_thresh: int = 16, return_fig: bool | None = None, **options: Any,
    ) -> Any:  # fmt: skip
        """Show the pictures with the largest losses."""
        how = {"heatmap": bool(heatmap), "heatmap_thresh": heatmap_thresh, "return_fig": return_fig, **options}
        return super().plot_top_losses(k, largest, figsize, **how)

    def GradCAM(self, idx: int, ds_type: Any = None, heatmap_thresh: int = 16, image: bool = True) -> np.ndarray:
        """Return where a picture speaks for its actual class, and draw it."""
        found = self.grad_cam(idx)
        if image:
            import matplotlib.pyplot as plt

            axes = plt.subplots()[1]
            picture = self.picture(idx)
            axes.imshow(picture)
            extent = (0, picture.shape[1], picture.shape[0], 0)
            axes.imshow(found, alpha=0.4, extent=extent, interpolation="bilinear", cmap="magma")
        return found


Interpretation = MultiLabelClassificationInterpretation = ClassificationInterpretation
