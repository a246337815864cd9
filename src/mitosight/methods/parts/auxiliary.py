"""Heads that read a whole tile from a pooled feature map, for training only, and what they are taught."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from mitosight.batch import Batch


class AuxiliaryHead(nn.Module):
    """Global average pooling, fully connected layers of `widths` with ReLU and dropout, a linear output."""

    def __init__(self, channels: int, widths: Sequence[int], outputs: int, dropout: float) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        for inputs, width in zip((channels, *widths), widths, strict=False):
            layers += [nn.Linear(inputs, width), nn.ReLU(inplace=True), nn.Dropout(dropout)]
        self.layers = nn.Sequential(*layers, nn.Linear((channels, *widths)[-1], outputs))

    def forward(self, feature: Tensor) -> Tensor:
        """(N, channels, h, w) to logits (N, outputs), float32."""
        logits: Tensor = self.layers(feature)
        return logits.float()


def known_cross_entropy(logits: Tensor, names: Sequence[str], classes: Sequence[str]) -> Tensor:
    """Cross-entropy averaged over the tiles whose name is a class; 0 where none is.

    Args:
        logits: (N, K), one column for each of the K `classes`.
        names: one for each of the N tiles.
    """
    index = [classes.index(name) if name in classes else -1 for name in names]
    target = torch.tensor(index, dtype=torch.int64, device=logits.device)
    known = target >= 0
    return functional.cross_entropy(logits[known], target[known], reduction="sum") / known.sum().clamp(min=1)


def foreground_target(batch: Batch, hard_negatives: bool) -> Tensor:
    """(N,) float32: 1 where a tile holds the centre of a figure or, with `hard_negatives`, of one of those."""
    pairs = zip(batch.figures, batch.hard_negatives, strict=True)
    held = [len(figures) + hard_negatives * len(others) > 0 for figures, others in pairs]
    return torch.tensor(held, dtype=torch.float32, device=batch.images.device)
