"""From v1's transforms to the ones of batches and back, and what runs a user's own: one picture after the other."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import numpy as np
import torch
from numpy.typing import NDArray

from onecycle.data.augment import transforms as product
from onecycle.data.augment.augmenter import BatchAugmenter, PixelFunction
from onecycle.data.augment.draws import Draws
from onecycle.data.augment.on_device import Prepared
from onecycle.data.augment.warp import Ints
from onecycle.errors import ArgumentError
from onecycle.fastai1.pictures import transforms as v1
from onecycle.fastai1.pictures.image import Image
from onecycle.fastai1.pictures.tfms import RandTransform, listed, run

__all__ = ["get_transforms"]

# -- a user's own, in training --------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class PictureDraws(Draws):
    """What is drawn for the pictures of a batch: a seed each, from which transforms draw all that they need."""

    seeds: Ints  # (N,)


class PictureAugmenter(BatchAugmenter):
    """A list of v1's transforms with a user's own among them; they run on one picture after the other, on the CPU."""

    whole_batch = False
    channels: int | None = None  # that its transforms see, of grey pictures one as in v1; None: all that are kept

    def draw(self, rng: np.random.Generator, shapes: NDArray[np.integer]) -> PictureDraws:
        """Draw a seed for every picture; see ``BatchAugmenter.draw``."""
        plain = BatchAugmenter(None, size=self.size).draw(rng, shapes)
        return PictureDraws(**vars(plain), seeds=rng.integers(0, 2**32, len(plain)))

    def apply(
        self,
        pixels: torch.Tensor,
        shapes: NDArray[np.integer],
        draws: Draws | Prepared,
        *,
        then: PixelFunction | None = None,
    ) -> torch.Tensor:
        """Run the transforms on each picture; see ``BatchAugmenter.apply``.

        Raises:
            ArgumentError: a picture comes out with another number of channels or another size.
        """
        drawn = cast("PictureDraws", draws)
        seeds = drawn.seeds.tolist()
        out = torch.empty((len(pixels), pixels.shape[1], *drawn.size), memory_format=torch.channels_last)
        with _drawn_by_seeds() as seed:
            for i, (h, w) in enumerate(np.asarray(shapes).tolist()):
                seed(seeds[i])
                seen = pixels[i, : self.channels, :h, :w].cpu()
                made = self._changed(Image(seen), drawn.size)
                if made.shape != (expected := (len(seen), *drawn.size)):
                    raise ArgumentError(
                        f"a picture has shape {tuple(made.shape)} after these transforms, where "
                        f"{expected} is expected (channels, rows, columns): {self.tfms}"
                    )
                out[i] = made.clamp(0, 1)  # one channel stands for three
        out = out.to(pixels.device)
        if then is not None:
            then(out)
        return out

    def _changed(self, picture: Image, size: tuple[int, int]) -> torch.Tensor:
        picture.set_sample(padding_mode=self.padding_mode, mode=self.mode)
        px: torch.Tensor = run(picture, as_v1(self.tfms), size, padding_mode=self.padding_mode).px
        return px


@contextmanager
def _drawn_by_seeds() -> Iterator[Callable[[int], None]]:
    """Give what seeds Python's, numpy's and PyTorch's generators; afterwards they go on as if nothing was drawn."""

    def seed(value: int) -> None:
        random.seed(value)
        np.random.seed(value)
        torch.default_generator.manual_seed(value)

    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield seed
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


@dataclass(frozen=True, kw_only=True)
class Own(product.Transform):
    """A transform of the user's own among those of batches."""

    augmenter: ClassVar[type[Any] | None] = PictureAugmenter

    run: RandTransform

    @classmethod
    def of(cls, tfm: RandTransform) -> Own:
        """Wrap one of v1's; its name cannot be mistaken for that of another."""
        return cls(name=repr(tfm.tfm), kind="pixel", params=tuple(tfm.kwargs.items()), p=tfm.p, run=tfm)

    @property
    def tfm(self) -> Any:
        """What made it (v1's attribute)."""
        return self.run.tfm

    @property
    def order(self) -> int:
        """The place in the order of all transforms."""
        return self.run.order


# -- to the transforms of batches, and back ----------------------------------------------------------------------


def of_product(tfm: product.Transform) -> RandTransform:
    """Return a transform of batches as v1 had it."""
    if isinstance(tfm, Own):
        return tfm.run
    given: dict[str, Any] = dict(tfm.params)
    if tfm.name == "crop":
        given["size"] = (given.pop("rows"), given.pop("cols"))
    elif tfm.name == "zoom_squish":
        n = given.pop("tries")
        given |= {name: (*_ends(given[name]), n) for name in ("scale", "squish")}
        given["invert"] = (given["invert"], n)
    return RandTransform(getattr(v1, tfm.name), given, p=tfm.p)


def _ends(value: Any) -> tuple[float, float]:
    return tuple(value) if isinstance(value, tuple) else (value, value)


def as_v1(tfms: Any) -> list[RandTransform]:
    """Return transforms, of either kind, as v1 had them."""
    either = listed(tfms, product.Transform)
    return [of_product(tfm) if isinstance(tfm, product.Transform) else tfm for tfm in either]


def to_product(tfms: Any) -> list[product.Transform]:
    """Return transforms, of either kind, as those of batches; a user's own, and what these cannot do, run alone.

    Raises:
        ArgumentError: something that is no transform, or with parameters that cannot work.
    """
    either = listed(tfms, product.Transform)
    return [tfm if isinstance(tfm, product.Transform) else _to_product(tfm) for tfm in either]


def _to_product(tfm: RandTransform) -> product.Transform:
    name = tfm.tfm.__name__
    if getattr(v1, name, None) is not tfm.tfm or (name == "pad" and tfm.p < 1):
        return Own.of(tfm)
    given = {**tfm.tfm.def_args, **tfm.kwargs}
    given.pop("invert" if name != "zoom_squish" else "", None)
    if name == "crop_pad":  # its size and padding are those of the data, as in v1
        given = {k: v for k, v in given.items() if k in ("row_pct", "col_pct")}
    elif name == "zoom_squish":
        if not all(isinstance(given[k], tuple) and len(given[k]) == n for k, n in (("scale", 3), ("squish", 3))):
            return Own.of(tfm)
        given |= {"tries": given["scale"][2], "scale": given["scale"][:2], "squish": given["squish"][:2]}
        given["invert"] = np.atleast_1d(given["invert"])[0]
    elif "magnitude" in given and isinstance(given["magnitude"], torch.Tensor):
        given["magnitude"] = given["magnitude"].tolist()
    chance = {} if name == "pad" else {"p": tfm.p if tfm.is_random else 1.0}
    return cast("product.Transform", product.NAMED[name](**given, **chance))


def get_transforms(
    do_flip: bool = True, flip_vert: bool = False, max_rotate: float | None = 10.0, max_zoom: float | None = 1.1,
    max_lighting: float | None = 0.2, max_warp: float | None = 0.2, p_affine: float = 0.75, p_lighting: float = 0.75,
    xtra_tfms: Any = None,
) -> tuple[list[RandTransform], list[RandTransform]]:  # fmt: skip
    """Return the usual transforms for training and for validation; see ``onecycle.vision.get_transforms``."""
    how = (do_flip, flip_vert, max_rotate, max_zoom, max_lighting, max_warp, p_affine, p_lighting)
    train, valid = ([of_product(tfm) for tfm in tfms] for tfms in product.get_transforms(*how))
    return train + listed(xtra_tfms), valid
