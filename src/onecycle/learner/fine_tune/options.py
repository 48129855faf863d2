"""What the caller of ``fine_tune`` asked for, checked before anything is measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from onecycle.errors import ArgumentError
from onecycle.learner.features import check_views
from onecycle.learner.fine_tune.plan import Size


@dataclass(frozen=True, kw_only=True)
class FineTuneOptions:
    """What the caller of ``fine_tune`` asked for; see there.

    Raises:
        ArgumentError: not exactly one of ``epochs`` and ``minutes``, or a value out of its range.
    """

    epochs: int | None = None
    minutes: float | None = None
    base_lr: float | None = None
    freeze_epochs: int | None = None
    sizes: Sequence[int | tuple[int, int]] | None = None
    bs: int | None = None
    precompute: bool | int | None = None
    train_bn: bool | None = None
    early_stop: bool = True
    through_tags: bool = True
    test_views: bool = True

    def __post_init__(self) -> None:
        if (self.epochs is None) == (self.minutes is None):
            raise ArgumentError(
                "fine_tune trains for a number of epochs or for a time: fine_tune(4) or fine_tune(minutes=3); "
                f"received {'both' if self.epochs is not None else 'neither'}"
            )
        if self.epochs == 0 and self.freeze_epochs == 0:
            raise ArgumentError(
                "there is nothing to train: epochs=0 and freeze_epochs=0; pass one of them as 1 or more"
            )
        if self.train_bn is not None and not isinstance(self.train_bn, bool):
            raise ArgumentError(f"train_bn is True, False or None (chosen by the plan); received {self.train_bn!r}")
        for name in ("early_stop", "through_tags", "test_views"):
            if not isinstance(getattr(self, name), bool):
                raise ArgumentError(f"{name} is True or False; received {getattr(self, name)!r}")
        if self.sizes is not None and not isinstance(self.sizes, (list, tuple)):
            raise ArgumentError(f"sizes is a list of sizes in px, such as [160, 224]; received {self.sizes!r}")
        _check_count("epochs", self.epochs, 0)
        _check_count("freeze_epochs", self.freeze_epochs, 0)
        _check_count("bs", self.bs, 2)
        for name, value in (("minutes", self.minutes), ("base_lr", self.base_lr)):
            if value is not None and not (isinstance(value, (int, float)) and 0 < value < math.inf):
                raise ArgumentError(f"{name} is a number above 0; received {value!r}")
        if self.precompute is not None:
            check_views(self.precompute)

    def sizes_for(self, size: Size) -> tuple[Size, ...] | None:
        """Return the sizes as pairs.

        Raises:
            ArgumentError: the last one is not the data's.
        """
        if self.sizes is None:
            return None
        pairs = tuple(s if isinstance(s, tuple) else (s, s) for s in self.sizes)
        if not pairs or pairs[-1] != size or size is None:
            raise ArgumentError(
                f"sizes ends with the size of the data, {size}, which predictions are made at; received "
                f"{list(self.sizes)}. To end at another size, make the data with that size"
            )
        return pairs


def _check_count(name: str, value: int | None, least: int) -> None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < least):
        raise ArgumentError(f"{name} is a whole number of {least} or more; received {value!r}")
