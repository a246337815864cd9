"""The colours of a slide, made those of a standard slide: mean and deviation of its optical densities.

Scanners and stains differ first in how dark each colour channel is and how far it varies. Both are measured on the
slide itself, without labels; channel by channel its densities are shifted and stretched (Reinhard 2001, in optical
density in the place of l-alpha-beta), and what is left of the difference is for the detector.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Table = NDArray[np.uint8]
"""(3, 256): the byte that takes the place of each, by colour channel."""

MEAN, DEVIATION = (0.14, 0.34, 0.17), (0.10, 0.17, 0.08)  # of red, green, blue, to base 10; about four scanners' mean
PALE = 0.05  # a px whose densities have a lower mean is glass
STRETCHED = 3.0  # the most by which densities are stretched or pressed together
EVERY = 4  # of rows and columns, one is counted
BLOCKS = 64  # of the slide that show its colours (`tiles.sampled_blocks`)
DENSITY = -np.log10(np.maximum(np.arange(256), 1) / 255)


def table(tiles: Iterable[NDArray[np.uint8]]) -> Table:
    """What makes the colours of tiles (H, W, 3) RGB of one slide those of the standard one.

    Glass is not counted. Where there is nothing else, or the tissue is of one colour, as little is changed as possible.
    """
    counts = np.zeros((3, 256))
    for tile in tiles:
        px = tile[::EVERY, ::EVERY].reshape(-1, 3)
        px = px[DENSITY.astype(np.float32)[px].mean(axis=1) >= PALE]
        counts += [np.bincount(px[:, channel], minlength=256) for channel in range(3)]
    if not counts.any():
        return np.tile(np.arange(256, dtype=np.uint8), (3, 1))
    share = counts / counts.sum(axis=1, keepdims=True)
    mean = share @ DENSITY
    deviation = np.sqrt(np.maximum(share @ DENSITY**2 - mean**2, 0))
    stretch = np.clip(np.array(DEVIATION) / np.maximum(deviation, 1e-6), 1 / STRETCHED, STRETCHED)
    density = np.array(MEAN)[:, None] + stretch[:, None] * (DENSITY - mean[:, None])
    found: Table = (255 * 10 ** -np.maximum(density, 0)).round().astype(np.uint8)
    return found


def changed(pixels: NDArray[np.uint8], by: Table | None) -> NDArray[np.uint8]:
    """Pixels (H, W, 3) in other colours, or as they are."""
    if by is None:
        return pixels
    return np.array(Image.fromarray(np.ascontiguousarray(pixels)).point(by.ravel().tolist()))
