"""EFDMix: the features of one image, with their values moved towards the distribution of another's (Zhang 2022)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

Partner = Literal["random", "crossdomain"]


def efdmix(x: Tensor, partner: Tensor, mu: Tensor) -> Tensor:
    """Mixes the features `x` (N, C, h, w) of each image with those of the image `partner` (N,) of the batch.

    Image by image and channel by channel the partner's values are put in the order of `x`: its smallest where `x` is
    smallest, its largest where `x` is largest. With these values v the result is x + (1 - mu) (v - x), so that mu = 1
    leaves `x` as it is and mu = 0 gives it exactly the partner's distribution. Equation (6) of Wang 2023 leaves out
    the order; without it the formula would be a plain mixture of two images.

    The gradient is that of x + (1 - mu) v with x taken away as a constant: 1 through `x`, 1 - mu through the partner.

    Args:
        mu: (N,) in [0, 1], one for each image.
    """
    flat = x.flatten(2)
    values, order = flat.sort(dim=-1, stable=True)
    rank = order.argsort(dim=-1)
    matched = values[partner].gather(-1, rank).view_as(x)
    return x + (1 - mu.to(x))[:, None, None, None] * (matched - x.detach())


def draw_partners(count: int, domain: Tensor | None = None) -> Tensor:
    """Indices (count,) of the images to mix with: a random order or, with `domain` (count,), of another domain each.

    An image that is alone with its domain, or whose batch has no other, gets itself. Drawn on the CPU, so that a seed
    means one thing everywhere.
    """
    if domain is None:
        return torch.randperm(count)
    other = domain.cpu()[:, None] != domain.cpu()[None, :]  # (count, count)
    alone = ~other.any(dim=1)
    drawn = torch.multinomial((other | alone[:, None]).float(), 1)[:, 0]
    return torch.where(alone, torch.arange(count), drawn)


class EFDMix(nn.Module):
    """Mixes the features of a batch, in training and with `probability` only; has no weights.

    Values of the official code: probability 0.5 a call and for the whole batch, mu from Beta(0.1, 0.1), near 0 or
    near 1 mostly. One layer serves several places of a network and draws anew at each.

    `partner` "random" takes the images in random order, "crossdomain" one of another domain for each. The official
    code gets the latter by swapping the halves of a batch, which it fills from one domain each; here batches go round
    the scanners, and the domain's index tells.
    """

    def __init__(self, probability: float = 0.5, alpha: float = 0.1, partner: Partner = "random") -> None:
        super().__init__()
        self.probability, self.alpha, self.partner = probability, alpha, partner

    def forward(self, x: Tensor, domain: Tensor | None = None) -> Tensor:
        """Features (N, C, h, w), and indices (N,) of the domains where partners come from others, to the same shape."""
        if not self.training or torch.rand(()) >= self.probability:
            return x
        partner = draw_partners(len(x), domain if self.partner == "crossdomain" else None)
        mu = torch.distributions.Beta(self.alpha, self.alpha).sample((len(x),))
        return efdmix(x, partner.to(x.device), mu.to(x.device))
