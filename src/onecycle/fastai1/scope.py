"""What fastai v1 had and onecycle does not do: each part says so in one sentence where it is first used."""

from __future__ import annotations

from typing import Any, NoReturn

from onecycle.errors import OutOfScopeError

PARTS = {
    "segmentation": "ImageSegment SegmentationItemList SegmentationLabelList SegmentationInterpretation dice "
    "foreground_acc open_mask open_mask_rle unet_learner DynamicUnet UnetBlock rle_decode rle_encode",
    "points in pictures": "ImagePoints PointsItemList PointsLabelList scale_flow",
    "boxes around objects": "ImageBBox ObjectCategoryList ObjectItemList ObjectDetectionInterpretation bb2hw "
    "bb_pad_collate get_annotations",
    "pictures as targets and GANs": "ImageImageList NoopLoss PixelShuffle_ICNR WassersteinLoss conv2d_trans icnr",
    "text": "Perplexity",
    "labels of mixed kinds": "MixedItem MixedItemList MixedProcessor",
    "training on several machines by fastai's launcher": "DistributedRecorder DistributedTrainer read_metrics "
    "setup_distrib",
    "downloads from a search engine": "ImageDownloader download_google_images",
}
"""Parts of v1 that are out of scope, with their public names."""

MODULES = {
    "callbacks.rnn": "text",
    "callbacks.tensorboard": "a writer for TensorBoard (give --log tensorboard to `onecycle train`)",
    "callbacks.mlflow": "a writer for MLflow (give --log mlflow to `onecycle train`)",
    "collab": "collaborative filtering",
    "tabular": "tables of numbers and categories",
    "text": "text",
    "vision.all": "fastai 2 (vision.all is its module, not v1's)",
    "vision.cyclegan": "pictures as targets and GANs",
    "vision.gan": "pictures as targets and GANs",
    "vision.models.unet": "segmentation",
}
"""Modules below ``fastai`` that are out of scope, with what is below them."""


def part_of(name: str) -> str | None:
    """The part of v1 to which a public name belongs that is out of scope; None for any other."""
    return next((part for part, names in PARTS.items() if name in names.split()), None)


def refuse(call: str, part: str) -> NoReturn:
    """Raise the sentence.

    Args:
        call: as v1 wrote it.
        part: of v1 to which it belongs.
    """
    raise OutOfScopeError(f"fastai v1's {call} belongs to {part}: onecycle classifies pictures and does not have it")


class Missing:
    """Stands in the star for a name that is out of scope, and says so when it is called, subclassed or looked into."""

    def __init__(self, name: str, part: str) -> None:
        self._name, self._part = name, part

    def __call__(self, *args: Any, **options: Any) -> NoReturn:
        refuse(f"{self._name}(...)", self._part)

    def __mro_entries__(self, bases: tuple[Any, ...]) -> NoReturn:
        refuse(f"class {self._name}", self._part)

    def __getattr__(self, attribute: str) -> NoReturn:
        if attribute.startswith("_"):
            raise AttributeError(attribute)
        refuse(f"{self._name}.{attribute}", self._part)

    def __repr__(self) -> str:
        return f"<fastai v1's {self._name}: {self._part}, not in onecycle>"
