"""fastai v1's ``Transform`` classes: a function of a picture's pixels, positions or light, and its random draws.

What a user wraps, ``my = TfmPixel(_my)``, is a method of every ``Image`` from then on, and a transform for ``ds_tfms``.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor

from onecycle.errors import ArgumentError
from onecycle.fastai1.core import listify
from onecycle.fastai1.torch_core import rand_bool

__all__ = ["FlowField", "RandTransform", "TfmAffine", "TfmCoord", "TfmCrop", "TfmLighting", "TfmPixel", "Transform"]


@dataclass
class FlowField:
    """Where each pixel of a picture comes from."""

    size: tuple[int, int]  # rows and columns of the picture
    flow: Tensor  # float32 (1, H, W, 2), x and y from −1 to 1


class Transformable:
    """What has each transform as a method, also those that a user wraps."""


class Transform:
    """A function that changes pictures, with its place in the order of all transforms.

    Called with a picture it changes that; called with keywords alone it makes a ``RandTransform``.

    Args:
        func: of what the class says; its name without the leading underscore is the name of the transform.
        order: instead of the class's.
        draws: how each parameter is drawn from what a user gives for it; default: the function's annotations.
    """

    order: int = 0
    wrap: ClassVar[str | None] = None  # the method of a picture that the function goes through; None: it takes pictures

    def __init__(
        self,
        func: Callable[..., Any],
        order: int | None = None,
        *,
        draws: Mapping[str, Callable[..., Any]] | None = None,
    ) -> None:
        if order is not None:
            self.order = order
        functools.update_wrapper(self, func)
        delattr(self, "__wrapped__")  # it is called with other arguments than the function
        self.func, self.__name__ = func, func.__name__.removeprefix("_")
        parameters = inspect.signature(func).parameters
        self.def_args = {k: p.default for k, p in parameters.items() if p.default is not inspect.Parameter.empty}
        annotated = inspect.get_annotations(func, eval_str=True) if draws is None else draws
        first = next(iter(parameters), None) if self.wrap != "affine" else None
        self.params = {k: v for k, v in annotated.items() if k not in ("return", first)}
        setattr(Transformable, self.__name__, functools.partialmethod(_method, self))

    def __call__(self, *args: Any, p: float = 1.0, is_random: bool = True, use_on_y: bool = True, **how: Any) -> Any:
        if args:
            return self.calc(*args, **how)
        return RandTransform(self, how, p=p, is_random=is_random, use_on_y=use_on_y)

    def calc(self, x: Any, *args: Any, **how: Any) -> Any:
        """Change a picture."""
        return getattr(x, self.wrap)(self.func, *args, **how) if self.wrap else self.func(x, *args, **how)

    @property
    def name(self) -> str:
        """The name of the class."""
        return type(self).__name__

    def __repr__(self) -> str:
        return f"{self.name} ({self.__name__})"


def _method(x: Any, transform: Transform, *args: Any, **how: Any) -> Any:
    return transform.calc(x, *args, **how)


class TfmAffine(Transform):
    """The function returns a matrix (3, 3) from output to input positions."""

    order, wrap = 5, "affine"


class TfmPixel(Transform):
    """The function takes and returns pixels, float ``(C, H, W)``."""

    order, wrap = 10, "pixel"


class TfmCoord(Transform):
    """The function takes and returns positions, a ``FlowField``."""

    order, wrap = 4, "coord"


class TfmCrop(TfmPixel):
    """The function cuts pixels to a ``size=``."""

    order = 99


class TfmLighting(Transform):
    """The function takes and returns the logits of pixels."""

    order, wrap = 8, "lighting"


@dataclass(eq=False)
class RandTransform:
    """A transform with parameters, some of them ranges that are drawn from, and a probability."""

    tfm: Transform
    kwargs: dict[str, Any]
    p: float = 1.0
    is_random: bool = True  # False: parameters are what was given, and it always runs
    use_on_y: bool = True  # of targets that are pictures; a class label has no pixels
    resolved: dict[str, Any] = field(default_factory=dict, init=False)  # what was drawn last
    do_run: bool = field(default=True, init=False)  # whether it runs, by the last draw

    def __post_init__(self) -> None:
        functools.update_wrapper(self, self.tfm, updated=())
        delattr(self, "__wrapped__")
        self._drawn = False

    @property
    def order(self) -> int:
        """The place in the order of all transforms."""
        return self.tfm.order

    def resolve(self) -> None:
        """Draw the parameters, and whether it runs."""
        self._drawn = True
        if not self.is_random:
            self.resolved, self.do_run = {**self.tfm.def_args, **self.kwargs}, True
            return
        draws = self.tfm.params
        drawn = {k: draws[k](*listify(v)) if k in draws else v for k, v in self.kwargs.items()}
        drawn = {**self.tfm.def_args, **drawn}
        self.resolved = drawn | {k: draw() for k, draw in draws.items() if k not in drawn}
        self.do_run = rand_bool(self.p)

    def __call__(self, x: Any, *args: Any, **how: Any) -> Any:
        if not self._drawn:
            self.resolve()
        return self.tfm(x, *args, **{**self.resolved, **how}) if self.do_run else x


def listed(tfms: Any, *others: type) -> list[Any]:
    """Return one flat list of transforms from None, one, or lists in lists.

    Args:
        tfms: v1's transforms.
        others: classes that count as transforms, too.

    Raises:
        ArgumentError: something that is no transform.
    """
    if tfms is None:
        return []
    if isinstance(tfms, (RandTransform, *others)):
        return [tfms]
    if not isinstance(tfms, (list, tuple)):
        hint = f"; call it: {tfms.__name__}(...)" if isinstance(tfms, Transform) else ""
        raise ArgumentError(f"expected a transform or a list of transforms, received {tfms!r}{hint}")
    return [tfm for item in tfms for tfm in listed(item, *others)]


def run(
    picture: Any,
    tfms: Sequence[RandTransform],
    cut: tuple[int, int] | None,
    *,
    padding_mode: str,
    resolve: bool = True,
    xtra: Mapping[Any, dict[str, Any]] | None = None,
) -> Any:
    """Run transforms on a picture in v1's order: padding, positions, matrices, light, pixels, holes, the cut.

    Args:
        picture: an ``Image``, which is changed.
        tfms: the transforms.
        cut: rows and columns that those which cut are told; None: they do nothing.
        padding_mode: of that cut.
        resolve: draw anew.
        xtra: arguments by transform.
    """
    ordered = sorted(tfms, key=lambda o: o.order)
    for tfm in ordered if resolve else ():
        tfm.resolve()
    for tfm in ordered:
        how = (xtra or {}).get(tfm.tfm, {})
        if isinstance(tfm.tfm, TfmCrop):
            if cut is None:
                continue
            how = {"size": cut, "padding_mode": padding_mode, **how}
        picture = tfm(picture, **how)
    return picture.refresh()
