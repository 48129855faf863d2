"""fastai v1's data set: its pictures come out as transforms change them, drawn anew each time."""

from __future__ import annotations

import copy
from typing import Any, Self

from onecycle.data.augment.augmenter import BatchAugmenter
from onecycle.data.bunch import LabeledLists
from onecycle.data.datasets import ImageDataset, Parts
from onecycle.data.labels.items import DatasetType, LabelObject
from onecycle.data.pixels.store import PixelStore
from onecycle.errors import OnecycleWarning, warn
from onecycle.fastai1.pictures.image import Image
from onecycle.fastai1.pictures.in_batches import Own, PictureAugmenter, as_v1, to_product
from onecycle.fastai1.pictures.tfms import RandTransform

__all__ = ["PictureList", "PictureLists"]


class PictureList(ImageDataset):
    """One part of the data; ``ds[i]`` is picture ``i`` at its final size, transformed, and its label."""

    mode = "bilinear"  # interpolation of the transforms
    changed = False  # whether transforms were set by the user, which loaders then use

    @property
    def tfms(self) -> list[RandTransform]:
        """The transforms; they can be set."""
        return self._tfms

    @tfms.setter
    def tfms(self, value: Any) -> None:
        self._tfms, self.changed = as_v1(value), True

    @property
    def tfmargs(self) -> dict[str, Any]:
        """Size, method, padding and interpolation with which they are applied."""
        spec = self.store.spec
        how = {"padding_mode": spec.padding_mode, "mode": self.mode}
        return how if spec.size is None else {"size": spec.size, "resize_method": spec.method, **how}

    def as_made(self, tfms: Any, mode: str) -> PictureList:
        """Take the transforms that the data were made with."""
        self._tfms, self.mode, self.changed = as_v1(tfms), mode, False
        return self

    def image(self, index: int) -> Image:
        """Return picture ``index`` as evaluation sees it; a grey one has one channel."""
        return Image(super().image(index).px[: self.store.reading.channels])

    def __getitem__(self, index: int) -> tuple[Image, LabelObject]:
        i = range(len(self))[int(index)]
        picture = Image(Image.from_numpy(self.store.read(int(self.rows[i]))).px[: self.store.reading.channels])
        return picture.apply_tfms(self.tfms, **self.tfmargs), self.y[i]


class PictureLists(LabeledLists):
    """onecycle's labelled lists with v1's transforms, and data sets that show them."""

    dataset_class = PictureList

    def transform(self, tfms: Any = None, **how: Any) -> Self:
        """Set the transforms, v1's or onecycle's, and the size."""
        if isinstance(tfms, (tuple, list)) and len(tfms) == 2:
            train, valid = tfms = (to_product(tfms[0]), to_product(tfms[1]))
            own = dict.fromkeys(tfm.name for tfm in train + valid if isinstance(tfm, Own))
            if own:
                slower = "they run on one picture after the other on the CPU, which is slower than on batches"
                warn(f"transforms of your own, {', '.join(own)}: {slower}", OnecycleWarning)
        return super().transform(tfms, **how)

    def augmenters(self) -> tuple[BatchAugmenter | None, BatchAugmenter | None]:
        """Return what augments training and validation batches; a user's own transforms see grey as one channel."""
        made = super().augmenters()
        for augmenter in made:
            if isinstance(augmenter, PictureAugmenter):
                augmenter.channels = self.pictures.reading.channels
        return made

    def datasets(self, store: PixelStore, test_store: PixelStore | None) -> Parts:
        """Return each part of the data; that of the training pictures in order has the validation's transforms."""
        parts = super().datasets(store, test_store)
        parts[DatasetType.Fix] = copy.copy(parts[DatasetType.Train])
        train, valid = self.tfms or ((), ())
        for ds_type, part in parts.items():
            if isinstance(part, PictureList):
                part.as_made(train if ds_type is DatasetType.Train else valid, self.mode)
        return parts
