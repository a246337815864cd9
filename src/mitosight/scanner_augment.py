"""Augmentation by what differs between scanners beside their colours: how sharp they draw, and how noisy."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from mitosight.augment import Augment
from mitosight.stain_augment import PatchAugmentation, blurred


@dataclass(frozen=True)
class ScannerAugmentation:
    """What `before` does, blur among it, then a sharper image or a noisier one, or both.

    Scanners sharpen their images by other amounts, and a network takes edges for chromatin: on images that were
    sharpened its scores fall. The strengths are ours.

    Attributes:
        before: turns, flips, stains, light and blur.
        sharpen: largest share of what a blur takes away that is added (unsharp mask).
        radius_px: least and largest standard deviation of that blur.
        noise: largest standard deviation of normal noise, each pixel and channel by itself, in [0, 1].
        probability: chance of each.
    """

    before: Augment = field(default_factory=lambda: PatchAugmentation(hed=0.1))
    sharpen: float = 2.0
    radius_px: tuple[float, float] = (0.7, 2.5)
    noise: float = 0.03
    probability: float = 0.5

    def __call__(self, image: Tensor, points: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Changes `image` (3, side, side) in [0, 1]; only `before` moves `points` (n, 3)."""
        image, points = self.before(image, points, rng)
        if self.sharpen and rng.random() < self.probability:
            image = sharpened(image, rng.uniform(0, self.sharpen), rng.uniform(*self.radius_px))
        if self.noise and rng.random() < self.probability:
            image = noisy(image, rng.uniform(0, self.noise), rng)
        return image, points


def sharpened(image: Tensor, amount: float, radius_px: float) -> Tensor:
    """Image (3, H, W) in [0, 1] plus `amount` of what a Gaussian blur takes away, cut to [0, 1]."""
    return (image + amount * (image - blurred(image, radius_px))).clamp(0, 1)


def noisy(image: Tensor, deviation: float, rng: np.random.Generator) -> Tensor:
    """Image (3, H, W) in [0, 1] plus normal noise, cut to [0, 1]."""
    noise = torch.from_numpy(rng.standard_normal(image.shape, dtype=np.float32) * np.float32(deviation))
    return (image + noise).clamp(0, 1)
