"""Gradient reversal and the convolutional domain discriminator."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

LEAST_CELLS = 7  # three 3x3 convolutions without padding leave one


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, alpha: float) -> Tensor:
        ctx.alpha = alpha
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return -ctx.alpha * grads[0], None


def reverse_gradient(x: Tensor, alpha: float) -> Tensor:
    """The identity; its gradient is multiplied by -alpha (Ganin 2016)."""
    result: Tensor = _Reverse.apply(x, alpha)
    return result


def ganin_ramp(progress: float) -> float:
    """2 / (1 + exp(-10 p)) - 1: from 0 at p = 0 to nearly 1 at p = 1."""
    return 2 / (1 + math.exp(-10 * progress)) - 1


class DomainDiscriminator(nn.Module):
    """Tells the scanner from a feature map: three times 3x3 convolution, batch norm, ReLU, dropout; pool; linear.

    Convolutions have no padding and no bias and weights from N(0, 0.01), the linear layer has no bias (reference
    code of Wilm 2021). A map needs at least 7 x 7 cells (`LEAST_CELLS`).
    """

    def __init__(self, channels: int, domains: int, dropout: float) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in ((channels, channels), (channels, channels // 2), (channels // 2, channels // 4)):
            conv = nn.Conv2d(inputs, outputs, 3, bias=False)
            nn.init.normal_(conv.weight, std=0.01)
            layers += [conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True), nn.Dropout(dropout)]
        self.layers = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.last = nn.Linear(channels // 4, domains, bias=False)

    def forward(self, feature: Tensor) -> Tensor:
        """(N, channels, h, w) to logits (N, domains)."""
        logits: Tensor = self.last(self.layers(feature))
        return logits

    def widen(self) -> None:
        """One more output, of weights 0; the others stay."""
        weight = self.last.weight.detach()
        self.last = nn.Linear(weight.shape[1], len(weight) + 1, bias=False).to(weight)
        with torch.no_grad():
            self.last.weight.copy_(torch.cat([weight, torch.zeros_like(weight[:1])]))


def focal_cross_entropy(logits: Tensor, target: Tensor, gamma: float) -> Tensor:
    """(1 - p)^gamma times the cross-entropy, one value for each sample: logits (N, K), target (N,) to (N,)."""
    entropy = functional.cross_entropy(logits, target, reduction="none")
    return (1 - torch.exp(-entropy)) ** gamma * entropy
