"""fastai v1's wide residual networks, for small pictures: trained from nothing, they have no published weights."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["BasicBlock", "WideResNet", "wrn_22"]

GROUPS = 3
SHARE = 0.2
"""What a block adds is scaled by this, so that deep stacks start near the identity."""


def _conv(ni: int, nf: int, side: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(ni, nf, side, stride, padding=side // 2, bias=False)


class BasicBlock(nn.Module):
    """Two 3 × 3 convolutions, each after norm and ReLU, added to what came in.

    Args:
        ni, nf: channels in and out.
        stride: of the first convolution.
        drop_p: dropout between the two.
    """

    def __init__(self, ni: int, nf: int, stride: int, drop_p: float = 0.0) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(ni)
        self.conv1 = _conv(ni, nf, 3, stride)
        self.conv2 = nn.Sequential(nn.BatchNorm2d(nf), nn.ReLU(inplace=True), _conv(nf, nf, 3, 1))
        self.drop = nn.Dropout(drop_p) if drop_p else None
        self.shortcut = _conv(ni, nf, 1, stride) if ni != nf or stride > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, nf, H / stride, W / stride) for (N, ni, H, W)."""
        ready = F.relu(self.bn(x))
        direct = ready if self.shortcut is None else self.shortcut(ready)
        out = self.conv1(ready)
        out = out if self.drop is None else self.drop(out)
        added: Tensor = direct + SHARE * self.conv2(out)
        return added


class WideResNet(nn.Module):
    """Groups of blocks, each after the first at half of the size and twice the width; then mean and a linear layer.

    Args:
        num_groups: of blocks.
        N: blocks in a group.
        num_classes: outputs.
        k: how many times as wide as a plain network.
        drop_p: dropout in blocks.
        start_nf: channels of the first convolution.
        n_in_channels: of pictures.

    Source: Zagoruyko and Komodakis (2016), "Wide Residual Networks".
    """

    def __init__(
        self, num_groups: int, N: int, num_classes: int, k: int = 1, drop_p: float = 0.0, start_nf: int = 16,
        n_in_channels: int = 3,
    ) -> None:  # fmt: skip
        super().__init__()
        widths = [start_nf, *(start_nf * 2**group * k for group in range(num_groups))]
        layers: list[nn.Module] = [_conv(n_in_channels, start_nf, 3, 1)]
        for group in range(num_groups):
            for block in range(N):
                first = block == 0
                ni, stride = widths[group] if first else widths[group + 1], 2 if first and group else 1
                layers.append(BasicBlock(ni, widths[group + 1], stride, drop_p))
        layers += [nn.BatchNorm2d(widths[-1]), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        self.features = nn.Sequential(*layers, nn.Linear(widths[-1], num_classes))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, num_classes)."""
        logits: Tensor = self.features(x)
        return logits


def wrn_22() -> WideResNet:
    """Return the network of 22 layers, six times as wide as a plain one, for ten classes."""
    return WideResNet(num_groups=GROUPS, N=3, num_classes=10, k=6)
