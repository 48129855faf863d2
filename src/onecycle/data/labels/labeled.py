"""Pictures that are split and labelled: all that a bunch is made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

from onecycle.data.labels.items import Labels, list_images
from onecycle.data.labels.splits import Split
from onecycle.data.pixels.resize import ResizeMethod, ResizeSpec
from onecycle.errors import ArgumentError

if TYPE_CHECKING:
    from onecycle.data.augment.transforms import Transform
    from onecycle.data.labels.table import LabelTable

    TransformLists = tuple[Sequence[Transform], Sequence[Transform]]


@dataclass(frozen=True, kw_only=True)
class Labeled:
    """Pictures, split and labelled, with the transforms and the size that they are brought to."""

    pictures: LabelTable
    split: Split  # row numbers of the pictures
    labels: Labels
    tfms: TransformLists | None = None  # training list, validation list
    resize: ResizeSpec = field(default_factory=ResizeSpec)
    mode: str = "bilinear"  # interpolation of the augmentation
    test_paths: tuple[str, ...] | None = None  # pictures without labels

    def __repr__(self) -> str:
        kind = "tags" if self.labels.is_multi else "classes"
        return (
            f"{len(self.split.train)} pictures train, {len(self.split.valid)} validate, "
            f"{len(self.labels.classes)} {kind}; split {self.split.how}"
        )

    def transform(
        self,
        tfms: TransformLists | None = None,
        *,
        size: int | tuple[int, int] | None = None,
        resize_method: ResizeMethod | str | None = None,
        mult: int | None = None,
        padding_mode: str = "reflection",
        mode: str = "bilinear",
        scaled_decode: bool = True,
    ) -> Self:
        """Set the transforms (training list, validation list) and the size.

        Args:
            tfms: what ``get_transforms()`` returns; None for no augmentation.
            size: px; a number crops by default, a (height, width) pair squishes.
            resize_method: CROP, PAD, SQUISH or NO instead of that default.
            mult: round the size to a multiple of this.
            padding_mode: ``reflection``, ``border`` or ``zeros``.
            mode: interpolation of the augmentation: ``bilinear``, ``bicubic`` or ``nearest``.
            scaled_decode: decode a JPEG far larger than ``size`` at 1/2, 1/4 or 1/8, in training and prediction alike.
        """
        if tfms is not None and (not isinstance(tfms, (tuple, list)) or len(tfms) != 2):
            raise ArgumentError(
                "tfms is a pair (training transforms, validation transforms), as get_transforms() returns; "
                f"received {tfms!r}"
            )
        resize = ResizeSpec.make(size, resize_method, padding_mode=padding_mode, mult=mult, scaled_decode=scaled_decode)
        return replace(self, tfms=None if tfms is None else (tfms[0], tfms[1]), resize=resize, mode=mode)

    def add_test(self, items: Iterable[str | Path]) -> Self:
        """Add pictures whose labels are not known, for ``get_preds(DatasetType.Test)``."""
        return replace(self, test_paths=tuple(str(p) for p in items))

    def add_test_folder(self, test_folder: str = "test") -> Self:
        """Add the pictures below ``path/test_folder`` as the test set."""
        return self.add_test(list_images(self.pictures.path / test_folder))
