"""Random styles for tiles in training: codes on the simplex of a trained transfer's scanners (Chung 2021)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from mitosight.methods.parts.stargan import Generator

Codes = Literal["dirichlet", "uniform", "softmax", "one-hot"]


def draw_codes(count: int, styles: int, kind: Codes, alpha: float) -> Tensor:
    """Random codes (count, styles), at least 0, that sum to 1; on the CPU, so that a seed means one thing everywhere.

    The paper says "a random 4-component normalised vector". "dirichlet" with alpha 1 is uniform over all mixtures, a
    smaller alpha nearer to single scanners; "uniform" is numbers from [0, 1] divided by their sum, which stays near
    equal shares; "softmax" that of normal numbers; "one-hot" single scanners.
    """
    match kind:
        case "dirichlet":
            return torch.distributions.Dirichlet(torch.full((styles,), alpha)).sample((count,))
        case "uniform":
            drawn = torch.rand(count, styles)
            return drawn / drawn.sum(dim=1, keepdim=True)
        case "softmax":
            return torch.randn(count, styles).softmax(dim=1)
        case _:
            return functional.one_hot(torch.randint(styles, (count,)), styles).float()


class Restyle:
    """Paints each tile, with probability `probability`, in a random style; the others stay as they are.

    No `nn.Module`: the frozen generator is no part of the detector that learns from what it paints.
    """

    def __init__(
        self, generator: Generator, probability: float, codes: Codes = "dirichlet", alpha: float = 1.0
    ) -> None:
        self.generator = generator.eval().requires_grad_(False)
        self.probability, self.codes, self.alpha = probability, codes, alpha

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Images (N, 3, H, W) in [0, 1] on any device to new ones; draws from torch's CPU generator."""
        chosen = (torch.rand(len(images)) < self.probability).nonzero()[:, 0]
        if len(chosen) == 0:
            return images
        codes = draw_codes(len(chosen), self.generator.styles, self.codes, self.alpha)
        painted = self.generator.to(images.device).restyled(images[chosen.to(images.device)], codes.to(images.device))
        return images.index_copy(0, chosen.to(images.device), painted.to(images.dtype))
