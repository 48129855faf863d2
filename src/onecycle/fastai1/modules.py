"""fastai v1's modules, as objects for ``sys.modules``: each gives v1's names, found where onecycle has them."""

from __future__ import annotations

from functools import cache, cached_property
from types import ModuleType
from typing import Any

from onecycle.fastai1 import names, scope
from onecycle.fastai1.sources import find


class V1Module(ModuleType):
    """A module of v1, such as ``fastai.vision.data``.

    A name is looked up when it is first asked for, and kept: setting it in one module changes it there alone, as in v1.

    Args:
        path: below ``fastai``; ``''`` for ``fastai`` itself.
    """

    def __init__(self, path: str) -> None:
        super().__init__(f"fastai.{path}" if path else "fastai", f"fastai v1's {path or 'package'}, by onecycle.")
        self._path = path
        self.__version__, self.__file__ = names.VERSION, __file__
        if not path or any(other.startswith(f"{path}.") for other in names.OWN):
            self.__path__: list[str] = []  # a package: its modules come from the hook, too

    @cached_property
    def __all__(self) -> list[str]:
        return sorted(name for name in names.star(self._path) if hasattr(self, name))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        value = self._find(name)
        setattr(self, name, value)
        return value

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self.__all__})

    def _below(self, name: str) -> str | None:
        """Path of the module that v1 called ``name`` here: one of its own, or one of those that its star brought."""
        own = f"{self._path}.{name}" if self._path else name
        if own in names.OWN:
            return own
        return name if name in ("callbacks", "vision") or (name == "models" and self._path) else None

    def _find(self, name: str) -> Any:
        if below := self._below(name):
            return module("vision.models" if below == "models" else below)
        if part := scope.part_of(name):
            return scope.Missing(name, part)
        try:
            return _network(name) if self._path.startswith("vision.models") else find(name)
        except (AttributeError, KeyError):
            known = "v1 had it, onecycle does not" if name in names.every_name() else "nor had fastai v1"
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}: {known}") from None


_OF_TIMM = {
    "inceptionresnetv2": "inception_resnet_v2",
    "inceptionv4": "inception_v4",
    "se_resnet50": "legacy_seresnet50",
    "se_resnet101": "legacy_seresnet101",
    "se_resnext50_32x4d": "legacy_seresnext50_32x4d",
    "se_resnext101_32x4d": "legacy_seresnext101_32x4d",
    "senet154": "legacy_senet154",
    "xception_cadene": "legacy_xception",
    **{f"EfficientNetB{i}": f"efficientnet_b{i}" for i in range(1, 8)},
}
"""Networks that v1 had from elsewhere, by today's names; weights are those of the same publications."""


def _network(name: str) -> Any:
    from onecycle.vision import models

    try:
        return find(name)  # one of v1's own networks
    except KeyError:
        return getattr(models, _OF_TIMM.get(name, name))


@cache
def module(path: str) -> V1Module:
    """Return v1's module ``fastai.<path>``, the same at each call.

    Raises:
        OutOfScopeError: it is of a part that onecycle does not have.
        KeyError: v1 had no such module.
    """
    for out, part in scope.MODULES.items():
        if path == out or path.startswith(f"{out}."):
            scope.refuse(f"module fastai.{path}", part)
    if path and path not in names.OWN:
        raise KeyError(path)
    return V1Module(path)
