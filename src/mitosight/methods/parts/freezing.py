"""Networks of which the first stages, and the batch norms, may be kept from learning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from torch import nn


class Freezing(nn.Module):
    """A network in stages, from the image on.

    Attributes:
        frozen: layers that keep their weights, and batch norms that keep their statistics.
    """

    def __init__(self) -> None:
        super().__init__()
        self.frozen: list[nn.Module] = []

    def layers(self) -> Sequence[Sequence[nn.Module]]:
        """The layers of each stage; the first is the first convolution with what belongs to it."""
        raise NotImplementedError

    def freeze(self, stages: int, norm: bool) -> None:
        """Stops learning in the first `stages` and, with `norm`, in every batch norm, which keeps its statistics."""
        self.frozen = [layer for stage in self.layers()[:stages] for layer in stage]
        self.frozen += [m for m in self.modules() if norm and isinstance(m, nn.BatchNorm2d)]
        for module in self.frozen:
            module.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """As for any module; what is frozen stays in evaluation mode."""
        super().train(mode)
        for module in self.frozen:
            module.eval()
        return self
