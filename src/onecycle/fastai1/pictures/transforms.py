"""fastai v1's transforms as it had them: called with parameters, or with a picture, which is changed at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from onecycle.data.augment.transforms import NAMED
from onecycle.data.pixels.image import Image

__all__ = sorted({*NAMED} - {"zoom_squish"})


class V1Transform:
    """A constructor of onecycle's with v1's ways to call it; equal to that constructor."""

    def __init__(self, name: str) -> None:
        self.name, self.__name__, self.__doc__ = name, name, NAMED[name].__doc__
        self.make: Callable[..., Any] = NAMED[name]

    def __call__(self, *args: Any, is_random: bool = True, use_on_y: bool = True, **how: Any) -> Any:
        if args and isinstance(args[0], Image):
            return args[0].apply_tfms(self.make(*args[1:], **how))
        return self.make(*args, **how)

    def __eq__(self, other: object) -> bool:
        return other is self or other is self.make

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f"{self.name}"


def __getattr__(name: str) -> V1Transform:
    if name not in NAMED:
        raise AttributeError(name)
    return _OF[name]


_OF = {name: V1Transform(name) for name in NAMED}
