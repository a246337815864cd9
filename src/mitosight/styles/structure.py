"""How much of a tile's structure is still there in another picture of it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mitosight.stain import nuclei

Image = NDArray[np.floating]  # (H, W, 3) RGB in [0, 1]


def kept(image: Image, painted: Image) -> dict[str, float]:
    """Measures of structure in two pictures of one tile; each is 1 where nothing changed.

    `gradient_correlation`: of the gradient's magnitude, over pixels. `haematoxylin_dice`, `haematoxylin_iou`: overlap
    of the masks of nuclei, each by its own threshold, so that a paler stain alone changes nothing.
    """
    dice, iou = overlap(nuclei(image), nuclei(painted))
    return {
        "gradient_correlation": gradient_correlation(image, painted),
        "haematoxylin_dice": dice,
        "haematoxylin_iou": iou,
    }


def gradient_correlation(image: Image, painted: Image) -> float:
    """Correlation of the gradient's magnitude of the mean over colour channels; 0 where one has no gradient."""
    steep = [np.hypot(*np.gradient(picture.mean(axis=2))).ravel() for picture in (image, painted)]
    if min(s.std() for s in steep) == 0:
        return 0.0
    return float(np.corrcoef(*steep)[0, 1])


def overlap(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> tuple[float, float]:
    """Dice coefficient and intersection over union of two masks; 1 where both are empty."""
    both, either = int((one & other).sum()), int((one | other).sum())
    if either == 0:
        return 1.0, 1.0
    return 2 * both / (both + either), both / either
