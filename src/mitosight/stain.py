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
LUMINANCE = np.array([0.2126, 0.7152, 0.0722])  # of linear sRGB
PENALTY = 0.01  # of the amounts in sparse stain separation (reference code of Wang 2023)
ROUNDS = 100  # of its dictionary learning
SETTLED = 1e-6  # of a component of a stain in one round


def haematoxylin(rgb: Values) -> NDArray[np.float64]:
    """Amount of haematoxylin (...) in RGB (..., 3) in [0, 1], as optical density to base 10, by colour deconvolution.

    The stain vectors are those of Ruifrok and Johnston, at unit length. Negative where another stain explains more
    than there is.
    """
    density = -np.log10(np.maximum(rgb, DARKEST))
    amounts: NDArray[np.float64] = density @ np.linalg.inv(_unit(STAINS))
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


def lightness(rgb: Values) -> NDArray[np.float64]:
    """CIE L* (...) of sRGB (..., 3) in [0, 1]: 0 black, 100 white."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    luminance = linear @ LUMINANCE
    found: NDArray[np.float64] = np.where(
        luminance > (6 / 29) ** 3, 116 * np.cbrt(luminance) - 16, luminance * (29 / 3) ** 3
    )
    return found


def sparse_stains(rgb: Values, weight: NDArray[np.integer], penalty: float = PENALTY) -> NDArray[np.float64]:
    """(2, 3) stains of an image, haematoxylin and eosin, as unit vectors, from the colours of its tissue.

    Sparse non-negative factorisation of the optical density to base e (Vahadane et al. 2016): two non-negative stains
    and non-negative amounts with least |density - amounts @ stains|^2 / 2 + penalty * |amounts|, summed over px.
    Amounts and stains are found in turns, each exactly (stains as in Mairal et al. 2010), from Ruifrok's stains on.
    Haematoxylin is the stain that takes more red.

    Args:
        rgb: (n, 3) colours in [0, 1].
        weight: (n,) how many px have them.
    """
    density = -np.log(np.maximum(rgb, DARKEST))
    share = weight / weight.sum()
    stains = _unit(STAINS[:2])
    for _ in range(ROUNDS):
        before = stains.copy()
        amounts = _amounts(density @ stains[0] - penalty, density @ stains[1] - penalty, float(stains[0] @ stains[1]))
        weighted = np.stack(amounts) * share
        among, towards = weighted @ np.stack(amounts).T, weighted @ density
        for k in range(2):
            if among[k, k] > 0:  # a stain that no px has stays as it is
                moved = np.maximum(stains[k] + (towards[k] - among[k] @ stains) / among[k, k], 0)
                stains[k] = moved / max(1.0, float(np.linalg.norm(moved)))
        if np.abs(stains - before).max() < SETTLED:
            break
    found = _unit(stains)
    ordered: NDArray[np.float64] = found[np.argsort(-found[:, 0])]
    return ordered


def _unit(stains: Values) -> NDArray[np.float64]:
    unit: NDArray[np.float64] = stains / np.linalg.norm(stains, axis=1, keepdims=True)
    return unit


def _amounts(first: Values, second: Values, shared: float) -> tuple[Values, Values]:
    """Amounts >= 0 of two stains from projections less penalty: both, or one alone where the other would be negative.

    `shared` is the product of the two stains, which have unit length.
    """
    room = max(1 - shared**2, SETTLED)  # stains that are one and the same leave all to either
    both = (first - shared * second) / room, (second - shared * first) / room
    return (
        np.maximum(np.where(both[1] < 0, first, both[0]), 0),
        np.maximum(np.where(both[0] < 0, second, both[1]), 0),
    )


def deconvolution_tables() -> NDArray[np.float32]:
    """(3, 256): what each value of each 8-bit channel adds to `haematoxylin`."""
    return _tables(np.linalg.inv(_unit(STAINS))[:, 0] / np.log(10))


def sparse_tables(stains: Values) -> NDArray[np.float32]:
    """(2, 3, 256): what each value of each 8-bit channel adds to the projections on haematoxylin and on eosin."""
    return np.stack([_tables(stain) for stain in stains])


def _tables(weights: Values) -> NDArray[np.float32]:
    density = -np.log(np.maximum(np.arange(256) / 255, DARKEST))
    return (weights[:, None] * density).astype(np.float32)


def summed(tables: NDArray[np.float32], rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(...) the sum over channels of `tables` (3, 256) at 8-bit colours (..., 3)."""
    total: NDArray[np.float32] = tables[0][rgb[..., 0]]
    total += tables[1][rgb[..., 1]]
    total += tables[2][rgb[..., 2]]
    return total


def sparse_haematoxylin(rgb: NDArray[np.uint8], stains: Values, penalty: float = PENALTY) -> Values:
    """(...) amount of haematoxylin in 8-bit colours (..., 3) for two unit stains (2, 3), to base e.

    The first of the two non-negative amounts that `sparse_stains` describes.
    """
    first, second = (summed(table, rgb) - np.float32(penalty) for table in sparse_tables(stains))
    return _amounts(first, second, float(stains[0] @ stains[1]))[0]
