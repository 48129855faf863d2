"""fastai v1's functions that cut networks and put heads on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from onecycle.model import heads
from onecycle.model.backbones import architecture, build_body
from onecycle.model.cnn import create_cnn_model as product_model

__all__ = ["cnn_config", "create_body", "create_cnn_model", "create_head", "model_meta"]


def create_body(arch: Any, pretrained: Any = True, cut: Any = None) -> nn.Module:
    """Return a network without its last layers."""
    return build_body(architecture(arch), pretrained, cut=cut).module


def create_head(
    nf: int, nc: int, lin_ftrs: Sequence[int] | None = None, ps: Any = 0.5, concat_pool: bool = True,
    bn_final: bool = False,
) -> nn.Sequential:  # fmt: skip
    """Return a head; ``nf`` counts features after pooling."""
    return heads.create_head(nf, nc, lin_ftrs, ps, concat_pool=concat_pool, bn_final=bn_final)


def create_cnn_model(
    base_arch: Any, nc: int, cut: Any = None, pretrained: Any = True, lin_ftrs: Sequence[int] | None = None,
    ps: Any = 0.5, custom_head: nn.Module | None = None, bn_final: bool = False, concat_pool: bool = True,
) -> nn.Sequential:  # fmt: skip
    """Return a network with a head."""
    how: Any = {"lin_ftrs": lin_ftrs, "ps": ps, "bn_final": bn_final, "concat_pool": concat_pool}
    own: Any = {} if custom_head is None else {"custom_head": custom_head}
    return product_model(base_arch, nc, cut=cut, pretrained=pretrained, **(own or how)).model


class _Meta(dict[Any, dict[str, Any]]):
    """Where networks are cut and split, by network; what a notebook sets here is used by ``cnn_learner``."""

    def __missing__(self, arch: Any) -> dict[str, Any]:
        name = architecture(arch).name
        cut, splits = next((found for kind, found in _CUTS.items() if name.startswith(kind)), (None, ()))

        def split(m: Any) -> tuple[Any, ...]:
            return (*(m[0].get_submodule(place) for place in splits), m[1])

        return {"cut": cut, "split": split}


_CUTS: dict[str, tuple[int | None, tuple[str, ...]]] = {
    "resnet": (-2, ("6",)),
    "squeezenet": (-1, ("0.5", "0.8")),
    "densenet": (-1, ("0.7",)),
    "vgg": (-2, ("0.22",)),
    "alexnet": (-2, ("0.6",)),
}
model_meta = _Meta()


def cnn_config(arch: Any) -> dict[str, Any]:
    """Return where a network is cut, and where its layer groups begin: ``cut`` and ``split``."""
    return model_meta[arch]
