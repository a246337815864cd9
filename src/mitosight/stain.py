"""Stains of an image: how much haematoxylin lies at each pixel, and where nuclei are by it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.floating]
STAINS = np.array(  # optical density by colour channel: haematoxylin, eosin, DAB (Ruifrok and Johnston 2001)
    [[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]]
)
DARKEST = 1 / 255
BINS = 256


def haematoxylin(rgb: Values) -> NDArray[np.float64]:
    """Amount of haematoxylin (...) in RGB (..., 3) in [0, 1], as optical density to base 10, by colour deconvolution.

    The stain vectors are those of Ruifrok and Johnston, at unit length. Negative where another stain explains more
    than there is.
    """
    density = -np.log10(np.maximum(rgb, DARKEST))
    unit = STAINS / np.linalg.norm(STAINS, axis=1, keepdims=True)
    amounts: NDArray[np.float64] = density @ np.linalg.inv(unit)
    return amounts[..., 0]


def otsu(values: Values) -> float:
    """The value that parts `values` into two classes of least variance within (Otsu 1979), to 1/256 of their range."""
    counts, edges = np.histogram(values, BINS)
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)[:-1]
    above = counts.sum() - below
    sums = np.cumsum(counts * centres)
    gap = sums[:-1] / np.maximum(below, 1) - (sums[-1] - sums[:-1]) / np.maximum(above, 1)
    return float(edges[1:-1][np.argmax(below * above * gap**2)])


def nuclei(rgb: Values) -> NDArray[np.bool_]:
    """Where an image (H, W, 3) in [0, 1] has much haematoxylin for itself: above Otsu's threshold."""
    amount = haematoxylin(rgb)
    mask: NDArray[np.bool_] = amount > otsu(amount)
    return mask
