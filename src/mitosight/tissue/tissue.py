"""Tissue: the part of a slide that is worth looking at, as a mask or as polygons."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil

import numpy as np
import shapely
from numpy.typing import NDArray

from mitosight.slide import Slide

NOWHERE = shapely.MultiPolygon()


@dataclass(frozen=True)
class Tissue:
    """Where a slide has tissue; level-0 px, (x, y), origin top left.

    Attributes:
        mask: (h, w) bool; px (j, i) covers [i, i + 1) x [j, j + 1) times `px` level-0 px, the last ones less of it.
        px: level-0 px per px of the mask.
        size_px: (width, height) of the slide at level 0.
        outline: the polygons that the mask was drawn from, within the slide; None where the mask was found. With
            polygons, `touches`, `holds` and `area_mm2` are by these, and the mask only shows them.
    """

    mask: NDArray[np.bool_]
    px: float
    size_px: tuple[int, int]
    outline: shapely.MultiPolygon | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        assert self.mask.shape == grid_shape(self.size_px, self.px), (self.mask.shape, self.size_px, self.px)
        if self.outline is not None:
            shapely.prepare(self.outline)

    def touches(self, x0: float, y0: float, x1: float, y1: float) -> bool:
        """Whether any tissue lies in the level-0 rectangle [x0, x1) x [y0, y1), which may reach beyond the slide."""
        x0, y0 = max(x0, 0.0), max(y0, 0.0)
        x1, y1 = min(x1, self.size_px[0]), min(y1, self.size_px[1])
        if x0 >= x1 or y0 >= y1:
            return False
        if self.outline is not None:
            return bool(shapely.intersects(self.outline, shapely.box(x0, y0, x1, y1)))
        rows = slice(int(y0 / self.px), ceil(y1 / self.px))
        return bool(self.mask[rows, int(x0 / self.px) : ceil(x1 / self.px)].any())

    def holds(self, xy: NDArray[np.float64]) -> NDArray[np.bool_]:
        """(n,) which of the level-0 points `xy` (n, 2) lie in tissue; on the far border counts as inside."""
        xy = np.asarray(xy, dtype=np.float64).reshape(-1, 2)
        held: NDArray[np.bool_] = np.all((xy >= 0) & (xy <= self.size_px), axis=1)
        if self.outline is not None:
            held &= shapely.intersects_xy(self.outline, xy)
            return held
        column, row = np.minimum(xy[held] / self.px, np.array(self.mask.shape)[::-1] - 1).astype(np.intp).T
        held[held] = self.mask[row, column]
        return held

    def area_mm2(self, mpp: float) -> float:
        """Its area, at `mpp` µm per level-0 px; px of the mask count as far as they lie on the slide."""
        if self.outline is not None:
            return float(self.outline.area) * (mpp / 1000) ** 2
        wide, high = (
            np.diff(np.minimum(np.arange(count + 1) * self.px, length))
            for count, length in zip(self.mask.shape[::-1], self.size_px, strict=True)
        )
        return float(high @ (self.mask @ wide)) * (mpp / 1000) ** 2


def everywhere(slide: Slide) -> Tissue:
    """The whole slide, for those that are all tissue or shall be looked at all over; needs no mpp."""
    px = float(max(slide.width_px, slide.height_px))
    return Tissue(np.ones((1, 1), dtype=bool), px, (slide.width_px, slide.height_px))


def grid_shape(size_px: tuple[int, int], px: float) -> tuple[int, int]:
    """(h, w) of a mask of `px` level-0 px per px that covers a slide of (width, height) level-0 px."""
    width, height = (max(1, ceil(length / px - 1e-6)) for length in size_px)
    return height, width
