"""The canvas of a drawn tissue: two stain maps in µm space, windows on them, and random texture."""

from __future__ import annotations

from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

TISSUE_MPP = 0.25  # µm per px of the stain maps; each scanner resamples them to its own
GRAIN_PX = 384
GRAIN_UM = (0.3, 0.5, 0.9, 1.8)

Map = NDArray[np.floating[Any]]  # float32 all over a canvas


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], sigma_px: float) -> Map:
    """A Gaussian random field of mean 0 and standard deviation 1, correlated over `sigma_px`."""
    step = max(1, int(sigma_px / 4))  # a smooth field needs few nodes; between them it is interpolated
    nodes = (shape[0] // step + 2, shape[1] // step + 2)
    white = rng.standard_normal(nodes, dtype=np.float32)
    field = ndimage.gaussian_filter(white, sigma_px / step, mode="wrap")
    field = (field - field.mean()) / (field.std() + 1e-9)
    return enlarged(field, step, shape) if step > 1 else field[: shape[0], : shape[1]]


def enlarged(field: Map, step: int, shape: tuple[int, int]) -> Map:
    """`field` interpolated linearly to `step` times its size and cut to `shape`."""
    for axis, n in enumerate(shape):
        place = np.arange(n) / step
        below = np.minimum(place.astype(np.intp), field.shape[axis] - 1)
        above = np.minimum(below + 1, field.shape[axis] - 1)
        share = (place - below).astype(np.float32)
        share = share[:, None] if axis == 0 else share
        low = field.take(below, axis)
        field = low + share * (field.take(above, axis) - low)
    return field


def ramp(distance_um: Map, width_um: float) -> Map:
    """Coverage of an edge: 0 outside, 1 inside, 0.5 where the signed distance is 0."""
    cover: Map = np.clip(0.5 + distance_um / width_um, 0, 1)
    return cover


def value_at(field: Map, xy_um: tuple[float, float]) -> float:
    """The value of a map at a point; at the border for points beyond it."""
    row, column = (min(max(int(c / TISSUE_MPP), 0), n - 1) for c, n in zip(xy_um[::-1], field.shape, strict=True))
    return float(field[row, column])


class Canvas:
    """Maps of haematoxylin and eosin on which objects are laid.

    Attributes:
        h, e: (H, W) float32, concentration of the stain: optical density along its unit stain vector.
        rng: the one source of chance; the order of drawing is part of the result.
    """

    def __init__(self, rng: np.random.Generator, size_um: tuple[float, float]) -> None:
        self.rng = rng
        self.size_um = size_um
        self.shape = (ceil(size_um[1] / TISSUE_MPP), ceil(size_um[0] / TISSUE_MPP))
        self.h: Map = np.zeros(self.shape, dtype=np.float32)
        self.e: Map = np.zeros(self.shape, dtype=np.float32)
        square = (GRAIN_PX, GRAIN_PX)
        self._grains = {um: smooth_noise(rng, square, um / TISSUE_MPP) for um in GRAIN_UM}

    def noise(self, sigma_um: float) -> Map:
        """A smooth random field over the whole canvas."""
        return smooth_noise(self.rng, self.shape, sigma_um / TISSUE_MPP)

    def grain(self, sigma_um: float, shape: tuple[int, ...]) -> Map:
        """Random texture for a small window: a random piece of a field drawn once; `sigma_um` is one of GRAIN_UM."""
        top, left = (int(self.rng.integers(0, GRAIN_PX - s + 1)) for s in shape)
        piece = self._grains[sigma_um][top : top + shape[0], left : left + shape[1]]
        return piece if self.rng.random() < 0.5 else -piece

    def window(self, xy_um: tuple[float, float], radius_um: float) -> Window | None:
        """The square of half-side `radius_um` around a point, cut at the border; None where nothing is left."""
        x, y = (c / TISSUE_MPP for c in xy_um)
        r = radius_um / TISSUE_MPP
        rows = slice(max(0, int(y - r)), min(self.shape[0], int(y + r) + 1))
        columns = slice(max(0, int(x - r)), min(self.shape[1], int(x + r) + 1))
        if rows.start + 2 > rows.stop or columns.start + 2 > columns.stop:
            return None
        return Window(self, xy_um, rows, columns)


class Window:
    """A piece of a canvas around one object.

    Attributes:
        x, y: (h, w) float32, µm from the object's centre.
    """

    def __init__(self, canvas: Canvas, xy_um: tuple[float, float], rows: slice, columns: slice) -> None:
        self.canvas = canvas
        self.place = (rows, columns)
        x = (np.arange(columns.start, columns.stop) + 0.5) * TISSUE_MPP - xy_um[0]
        y = (np.arange(rows.start, rows.stop) + 0.5) * TISSUE_MPP - xy_um[1]
        self.x, self.y = (g.astype(np.float32) for g in np.meshgrid(x, y))

    def turned(self, angle: float) -> tuple[Map, Map]:
        """The coordinates (u, v) of a frame turned by `angle` (radians): u along the object, v across."""
        c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        return self.x * c + self.y * s, self.y * c - self.x * s

    def grain(self, sigma_um: float) -> Map:
        """Random texture of the window's shape."""
        return self.canvas.grain(sigma_um, self.x.shape)

    def lay(self, cover: Map, h: Map | float, e: Map | float, defocus_um: float = 0.0) -> None:
        """Replaces what lies below by the stains `h` and `e`, as far as `cover` (0 to 1) reaches.

        `defocus_um` blurs this object alone: it lies above or below the plane of focus.
        """
        h, e = cover * h, cover * e
        if defocus_um > 0:
            sigma = defocus_um / TISSUE_MPP
            cover, h, e = (ndimage.gaussian_filter(m, sigma, mode="nearest") for m in (cover, h, e))
        for below, stain in ((self.canvas.h, h), (self.canvas.e, e)):
            below[self.place] = below[self.place] * (1 - cover) + stain
