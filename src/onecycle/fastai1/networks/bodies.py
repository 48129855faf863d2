"""fastai v1's functions that cut networks and put heads on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from onecycle.model import heads
from onecycle.model.backbones import architecture, build_body
from onecycle.model.cnn import create_cnn_model as product_model

__all__ = ["create_body", "create_cnn_model", "create_head"]


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
