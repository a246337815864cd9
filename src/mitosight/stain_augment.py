"""Augmentation of patches of nuclei (Wang 2023): turns, elastic warp, light, stain amounts, blur, each drawn anew.

The paper names the kinds and no strength; every strength here is ours but that of the stain jitter, for which a comment
in the reference code has 0.05 as light and 0.2 as strong.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional
from torchvision.transforms.v2 import functional as colour

from mitosight.augment import Turns
from mitosight.stain import DARKEST, STAINS

Field = NDArray[np.float32]
SETTLED = 20  # steps towards the place that a point moves to; each shrinks what is left at least by half
UNIT = (STAINS / np.linalg.norm(STAINS, axis=1, keepdims=True)).astype(np.float32)  # stain by colour channel


@dataclass(frozen=True)
class PatchAugmentation:
    """Quarter turns and flips, elastic warp, brightness, contrast, stain jitter, Gaussian blur.

    Attributes:
        turns, flips: as `Turns` has them.
        elastic_px: largest shift of a pixel by the elastic warp (Simard 2003), at most half of `elastic_sigma_px`.
        elastic_sigma_px: how far shifts are alike.
        brightness, contrast: factors are drawn from [1 - value, 1 + value].
        hed: t of the stain jitter, see `stain_jitter`.
        blur_px: largest standard deviation of the blur.
        probability: chance of each but the turns and flips.
    """

    turns: bool = True
    flips: bool = True
    elastic_px: float = 3.0
    elastic_sigma_px: float = 8.0
    brightness: float = 0.1
    contrast: float = 0.1
    hed: float = 0.05
    blur_px: float = 1.0
    probability: float = 0.5

    def __call__(self, image: Tensor, points: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Changes `image` (3, side, side) in [0, 1] and moves `points` (n, 3) as x, y, box side in px of the patch."""
        image, points = Turns(self.turns, self.flips)(image, points, rng)
        if self.elastic_px and self._chosen(rng):
            shift = elastic_field((image.shape[1], image.shape[2]), self.elastic_px, self.elastic_sigma_px, rng)
            image, points = elastic(image, points, shift)
        if self.brightness and self._chosen(rng):
            image = colour.adjust_brightness(image, 1 + rng.uniform(-self.brightness, self.brightness))
        if self.contrast and self._chosen(rng):
            image = colour.adjust_contrast(image, 1 + rng.uniform(-self.contrast, self.contrast))
        if self.hed and self._chosen(rng):
            image = stain_jitter(image, self.hed, rng)
        if self.blur_px and self._chosen(rng):
            image = blurred(image, rng.uniform(0, self.blur_px))
        return image, points

    def _chosen(self, rng: np.random.Generator) -> bool:
        return bool(rng.random() < self.probability)


def stain_amounts(images: Tensor) -> Tensor:
    """RGB (..., 3, H, W) in [0, 1] to amounts of haematoxylin, eosin and DAB (..., 3, H, W), as `stain.haematoxylin`.

    Optical density to base 10 by the law of Beer and Lambert, deconvolved with the stain vectors of Ruifrok and
    Johnston at unit length.
    """
    density = -images.clamp(min=DARKEST).log10()
    return torch.einsum("...chw,cs->...shw", density, torch.from_numpy(np.linalg.inv(UNIT)).to(images))


def stained(amounts: Tensor) -> Tensor:
    """The inverse of `stain_amounts`, cut to [0, 1]."""
    density = torch.einsum("...shw,sc->...chw", amounts, torch.from_numpy(UNIT).to(amounts))
    return (10**-density).clamp(0, 1)


def stain_jitter(image: Tensor, t: float, rng: np.random.Generator) -> Tensor:
    """Changes the amount s of each stain to a s + b, a from [1 - t, 1 + t], b from [-t, t] (Tellez 2018).

    Image (3, H, W) in [0, 1]. The reference code draws a and b once for all images and stretches what comes out to the
    full range, of which the first is a slip; neither is done here.
    """
    factor = torch.from_numpy(rng.uniform(1 - t, 1 + t, (3, 1, 1)).astype(np.float32))
    more = torch.from_numpy(rng.uniform(-t, t, (3, 1, 1)).astype(np.float32))
    return stained(factor * stain_amounts(image) + more)


def elastic_field(size: tuple[int, int], most_px: float, sigma_px: float, rng: np.random.Generator) -> Field:
    """Smooth random shifts (2, H, W) in x and y, px, the longest of which has a length drawn from [0, `most_px`]."""
    noise = rng.uniform(-1, 1, (2, *size))
    smooth = ndimage.gaussian_filter(noise, (0, sigma_px, sigma_px), mode="reflect")
    longest = np.hypot(*smooth).max()
    field: Field = (smooth * (rng.uniform(0, most_px) / max(longest, 1e-12))).astype(np.float32)
    return field


def elastic(image: Tensor, points: Tensor, shift: Field) -> tuple[Tensor, Tensor]:
    """Shows at each pixel what lay `shift` (2, H, W) px away from it, and moves the points (n, 3) with the image.

    The border is mirrored. A point at q comes to where p + shift(p) = q. Box sides stay.
    """
    _, height, width = image.shape
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    x, y = columns + 0.5 + shift[0], rows + 0.5 + shift[1]
    source = torch.from_numpy(np.stack([x * 2 / width - 1, y * 2 / height - 1], axis=-1).astype(np.float32))
    moved = functional.grid_sample(image[None], source[None], padding_mode="reflection", align_corners=False)[0]
    place = points[:, :2].numpy().astype(np.float64)
    target = place.copy()
    for _ in range(SETTLED if len(points) else 0):
        at = [place[:, 1] - 0.5, place[:, 0] - 0.5]
        place = target - np.stack([ndimage.map_coordinates(s, at, order=1, mode="nearest") for s in shift], axis=1)
    xy = torch.from_numpy(place.astype(np.float32))
    return moved, torch.cat([xy, points[:, 2:]], dim=1)


def blurred(image: Tensor, sigma_px: float) -> Tensor:
    """Image (3, H, W) blurred by a Gaussian; the border is mirrored."""
    return torch.from_numpy(ndimage.gaussian_filter(image.numpy(), (0, sigma_px, sigma_px), mode="mirror"))
