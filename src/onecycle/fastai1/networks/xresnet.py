"""fastai v1's XResNets: a ResNet whose stem is three convolutions and whose shortcuts pool before they convolve.

Positions of the layers are v1's. There are no published weights of it.

Source: He et al. 2018, "Bag of tricks for image classification with convolutional neural networks" (ResNet-C, -D).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from onecycle.errors import WeightsError
from onecycle.fastai1.networks.layers import Module
from onecycle.model.heads import Flatten

__all__ = [
    "XResNet", "xresnet18", "xresnet18_deep", "xresnet34", "xresnet34_deep", "xresnet50", "xresnet50_deep",
    "xresnet101", "xresnet152",
]  # fmt: skip


def _conv(ni: int, nf: int, ks: int = 3, stride: int = 1, *, zero_bn: bool = False, act: bool = True) -> nn.Sequential:
    norm = nn.BatchNorm2d(nf)
    nn.init.constant_(norm.weight, 0.0 if zero_bn else 1.0)
    conv = nn.Conv2d(ni, nf, ks, stride=stride, padding=ks // 2, bias=False)
    return nn.Sequential(conv, norm, *([nn.ReLU(inplace=True)] if act else []))


class _Block(Module):
    def __init__(self, expansion: int, ni: int, nh: int, stride: int = 1) -> None:
        nf, ni = nh * expansion, ni * expansion
        if expansion == 1:
            layers = [_conv(ni, nh, 3, stride), _conv(nh, nf, 3, zero_bn=True, act=False)]
        else:
            layers = [_conv(ni, nh, 1), _conv(nh, nh, 3, stride), _conv(nh, nf, 1, zero_bn=True, act=False)]
        self.convs = nn.Sequential(*layers)
        self.idconv = nn.Identity() if ni == nf else _conv(ni, nf, 1, act=False)
        self.pool = nn.Identity() if stride == 1 else nn.AvgPool2d(stride, ceil_mode=True)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(self.convs(x) + self.idconv(self.pool(x)))
        return out


class XResNet(nn.Sequential):
    """The network: 0 to 2 stem, 3 pooling, then the stages, pooling, flattening and a linear layer.

    Args:
        expansion: 1 for two convolutions a block, 4 for bottlenecks.
        layers: blocks of each stage.
        c_in: channels of the pictures.
        c_out: classes.
    """

    def __init__(self, expansion: int, layers: Sequence[int], c_in: int = 3, c_out: int = 1000) -> None:
        widths = [c_in, 32, 32, 64]
        stem = [_conv(widths[i], widths[i + 1], stride=1 if i else 2) for i in range(3)]
        sizes = [64 // expansion, 64, 128, 256, 512, *[256] * (len(layers) - 4)]
        stages = [
            nn.Sequential(
                *(
                    _Block(expansion, sizes[i] if j == 0 else sizes[i + 1], sizes[i + 1], 2 if i and j == 0 else 1)
                    for j in range(n)
                )
            )
            for i, n in enumerate(layers)
        ]
        last = nn.Linear(sizes[len(layers)] * expansion, c_out)
        super().__init__(*stem, nn.MaxPool2d(3, stride=2, padding=1), *stages, nn.AdaptiveAvgPool2d(1), Flatten(), last)
        for layer in self.modules():
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(layer.weight)
        nn.init.zeros_(last.bias)


def _xresnet(pretrained: bool = False, *, expansion: int, layers: Sequence[int], **options: Any) -> XResNet:
    if pretrained:
        raise WeightsError("there are no published weights of an XResNet: pass pretrained=False")
    return XResNet(expansion, layers, **options)


def _of(expansion: int, *layers: int) -> Callable[..., XResNet]:
    return partial(_xresnet, expansion=expansion, layers=layers)


xresnet18, xresnet34 = _of(1, 2, 2, 2, 2), _of(1, 3, 4, 6, 3)
xresnet50, xresnet101, xresnet152 = _of(4, 3, 4, 6, 3), _of(4, 3, 4, 23, 3), _of(4, 3, 8, 36, 3)
xresnet18_deep, xresnet34_deep = _of(1, 2, 2, 2, 2, 1, 1), _of(1, 3, 4, 6, 3, 1, 1)
xresnet50_deep = _of(4, 3, 4, 6, 3, 1, 1)
