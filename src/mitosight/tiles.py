"""Tiles: the squares that are read, and the rectangles that each of them owns."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from mitosight.errors import UsageError

Span = tuple[int, int, int]
"""Along one axis: start of a tile, and begin and end of what it owns."""


@dataclass(frozen=True)
class Tile:
    """A square that is read, and the half-open rectangle of the frame whose points it keeps.

    Attributes:
        x_px, y_px: top left corner in px of the grid's frame.
        side_px: its side; the tile reaches beyond the border only where the frame is smaller than a tile, or by less
            than the grid's step.
        owns: (x0, y0, x1, y1) in px of the frame: x0 <= x < x1 and y0 <= y < y1.
        last: whether it is in the last column, and in the last row; these also own the points on the far border.
    """

    x_px: int
    y_px: int
    side_px: int
    owns: tuple[int, int, int, int]
    last: tuple[bool, bool] = (False, False)

    def owned(self, xy: NDArray[np.float64]) -> NDArray[np.bool_]:
        """(n,) mask of the points `xy` (n, 2), in px of the frame, that this tile keeps."""
        x0, y0, x1, y1 = self.owns
        x, y = xy[:, 0], xy[:, 1]
        before_x = x <= x1 if self.last[0] else x < x1
        before_y = y <= y1 if self.last[1] else y < y1
        mask: NDArray[np.bool_] = (x >= x0) & before_x & (y >= y0) & before_y
        return mask


def grid(width_px: int, height_px: int, tile_px: int, overlap_px: int, step_px: int = 1) -> list[Tile]:
    """Tiles that cover a frame of `width_px` x `height_px`, row by row; each point is owned by exactly one.

    Neighbours overlap by `overlap_px`, the last ones by more, moved back so that no tile reaches beyond the border;
    a frame smaller than a tile has one tile at 0 that does. Overlaps are cut in the middle. Tiles begin and overlaps
    are cut at multiples of `step_px`, for what works on blocks of px; the last tiles then may reach beyond the border
    by less than that.

    Raises:
        UsageError: a size is not positive, or the overlap is negative or not smaller than the tile by a step or more.
    """
    columns, rows = _axes((width_px, height_px), tile_px, overlap_px, step_px)
    return [_tile(column, row, tile_px, (width_px, height_px)) for row in rows for column in columns]


def grid_near(
    size_px: tuple[int, int],
    tile_px: int,
    overlap_px: int,
    step_px: int,
    xy: NDArray[np.float64],
    reach_px: float,
) -> list[Tile]:
    """The tiles of the grid that own a place less than `reach_px` to the side of a point, and above or below it.

    `size_px` is (width, height), `xy` (n, 2) in px of the frame; the rest, order and errors are as in `grid`, whose
    other tiles are never made: few points on a large frame cost little.
    """
    columns, rows = _axes(size_px, tile_px, overlap_px, step_px)
    found: set[tuple[int, int]] = set()
    spans = [_reached(axis, xy[:, k], reach_px) for k, axis in enumerate((columns, rows))]
    for (left, right), (top, bottom) in zip(*(span.tolist() for span in spans), strict=True):
        found.update((j, i) for j in range(top, bottom) for i in range(left, right))
    return [_tile(columns[i], rows[j], tile_px, size_px) for j, i in sorted(found)]


def _tile(column: Span, row: Span, tile_px: int, size_px: tuple[int, int]) -> Tile:
    (x, x0, x1), (y, y0, y1) = column, row
    return Tile(x, y, tile_px, (x0, y0, x1, y1), (x1 == size_px[0], y1 == size_px[1]))


def _axes(size_px: tuple[int, int], tile_px: int, overlap_px: int, step_px: int) -> tuple[list[Span], list[Span]]:
    """The spans of columns and rows."""
    width, height = size_px
    if min(size_px) < 1:
        raise UsageError(None, f"an image of {width} x {height} px cannot be tiled", "expected at least 1 x 1 px")
    if not 0 <= overlap_px <= tile_px - step_px:
        raise UsageError(
            None, f"tiles of {tile_px} px cannot overlap by {overlap_px} px", "expected 0 <= overlap < tile"
        )
    stride = tile_px - overlap_px
    return _spans(width, tile_px, stride, step_px), _spans(height, tile_px, stride, step_px)


def _reached(axis: list[Span], at: NDArray[np.float64], reach_px: float) -> NDArray[np.intp]:
    """(n, 2) for each place on an axis the first span within reach, and the one behind the last."""
    begins, ends = (np.array([span[k] for span in axis], dtype=np.float64) for k in (1, 2))
    first = np.searchsorted(ends, at - reach_px, side="right")
    behind = np.searchsorted(begins, at + reach_px, side="left")
    return np.stack([first, behind], axis=1)


def _spans(length_px: int, tile_px: int, stride_px: int, step_px: int) -> list[Span]:
    """Along one axis: (start, first owned, end of owned) of each tile."""
    last = -(-max(length_px - tile_px, 0) // step_px) * step_px
    starts = [*range(0, last, stride_px // step_px * step_px), last]
    cuts = [(start + tile_px + following) // 2 // step_px * step_px for start, following in pairwise(starts)]
    return list(zip(starts, [0, *cuts], [*cuts, length_px], strict=True))
