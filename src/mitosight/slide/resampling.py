"""Pixels at another resolution, with exact geometry: a pixel is the square [i, i + 1) x [j, j + 1)."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, floor

import numpy as np
from numpy.typing import NDArray

MOST_SOURCE_PX = 2**25  # read at once; larger windows are made of parts
OVERVIEW = 8.0  # px of the source per px of the result, from which whole px are averaged before the filter
KEPT = 3.0  # px of what was averaged that the filter still has for one of the result
ALIGNED_PX = 1e-3  # nearer than this to the grid of the source, pixels are taken as they are

Pixels = Callable[[int, int, int, int], NDArray[np.uint8]]


def window(pixels: Pixels, corner: tuple[float, float], size: tuple[int, int], zoom: float) -> NDArray[np.uint8]:
    """(height, width, 3) RGB: the result's px (i, j) shows source px corner + zoom * [i, i + 1) x [j, j + 1).

    `pixels(x, y, width, height)` gives any rectangle of the source, `corner` (x, y) is in source px, `size`
    (width, height) in px of the result, `zoom` is source px per px of the result. Px are taken as they are where
    the grids agree; else bicubic, widened to a px of the result when shrinking, so that nothing aliases. Overviews, for
    which that is slow, are filtered from averages of few px: they differ by half a grey value, and a few at most.
    """
    (left, top), (width, height) = corner, size
    if width * height * zoom**2 > MOST_SOURCE_PX and max(size) > 1:
        return _halves(pixels, corner, size, zoom)
    shift = max(abs(left - round(left)), abs(top - round(top)))
    if shift + abs(zoom - 1) * max(size) < ALIGNED_PX:
        return pixels(round(left), round(top), width, height)
    from PIL import Image

    margin = ceil(2 * max(1.0, zoom)) + 1  # the reach of the filter
    x, y = floor(left) - margin, floor(top) - margin
    right, bottom = left + width * zoom, top + height * zoom
    source = Image.fromarray(pixels(x, y, ceil(right) + margin - x, ceil(bottom) + margin - y))
    box = (left - x, top - y, right - x, bottom - y)
    return np.array(source.resize(size, Image.Resampling.BICUBIC, box, KEPT if zoom >= OVERVIEW else None))


def _halves(pixels: Pixels, corner: tuple[float, float], size: tuple[int, int], zoom: float) -> NDArray[np.uint8]:
    (left, top), (width, height) = corner, size
    if width >= height:
        first = width // 2
        sizes = (first, height), (width - first, height)
        corners = corner, (left + first * zoom, top)
    else:
        first = height // 2
        sizes = (width, first), (width, height - first)
        corners = corner, (left, top + first * zoom)
    parts = [window(pixels, c, s, zoom) for c, s in zip(corners, sizes, strict=True)]
    return np.concatenate(parts, axis=1 if width >= height else 0)
