"""Random styles for tiles in training: codes on the simplex of a trained transfer's scanners (Chung 2021)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from mitosight.methods.parts.stargan import Generator

Codes = Literal["dirichlet", "uniform", "softmax", "one-hot"]
LEAST_KEPT = 0.3  # of two real trainings one had 0.97, the other, which had turned light and dark, -0.98


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
    def brightness_kept(self, images: Tensor) -> float:
        """Correlation of the brightness of tiles (N, 3, H, W) with that of the same in each style, over px; the mean.

        Near 1 where a painting is the tile in other colours, below 0 where light and dark are turned.
        """
        generator, found = self.generator.to(images.device), []
        for code in torch.eye(generator.styles, device=images.device):
            painted = generator.restyled(images, code.expand(len(images), -1)).float()
            pairs = zip(images.mean(dim=1).flatten(1), painted.mean(dim=1).flatten(1), strict=True)
            found += [torch.corrcoef(torch.stack(pair))[0, 1].nan_to_num() for pair in pairs]
        return float(torch.stack(found).mean())

    def told(self, images: Tensor) -> str:
        """A line for the log on `brightness_kept`, with a warning where the transfer is of no use."""
        kept = self.brightness_kept(images)
        line = f"painted tiles keep light and dark: {kept:.2f} of 1"
        if kept >= LEAST_KEPT:
            return line
        return f"WARNING: {line}. What was nuclei is not; train the transfer with style_identity_weight = 5, or longer"

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Images (N, 3, H, W) in [0, 1] on any device to new ones; draws from torch's CPU generator."""
        chosen = (torch.rand(len(images)) < self.probability).nonzero()[:, 0]
        if len(chosen) == 0:
            return images
        codes = draw_codes(len(chosen), self.generator.styles, self.codes, self.alpha)
        painted = self.generator.to(images.device).restyled(images[chosen.to(images.device)], codes.to(images.device))
        return images.index_copy(0, chosen.to(images.device), painted.to(images.dtype))
