"""Tiles: the squares that are read, and the rectangles that each of them owns."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mitosight.errors import UsageError

BLOCK_PX = 512  # side of the blocks by which statistics of a slide are taken from its tissue
SAMPLE_PX = 256  # side in level-0 px of those that show its colours
MEASURED = f"tissue in blocks of {BLOCK_PX} px, its colours in some of {SAMPLE_PX} level-0 px"  # kept with results

Span = tuple[int, int, int]
"""Along one axis: start of a tile, and begin and end of what it owns."""


class Tissue(Protocol):
    """Where a slide is searched; see `mitosight.tissue`."""

    def touches(self, x0: float, y0: float, x1: float, y1: float) -> bool: ...

    def holds(self, xy: NDArray[np.float64]) -> NDArray[np.bool_]: ...


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
    if min(width_px, height_px) < 1:
        raise UsageError(None, f"an image of {width_px} x {height_px} px cannot be tiled", "expected at least 1 x 1 px")
    if not 0 <= overlap_px <= tile_px - step_px:
        raise UsageError(
            None, f"tiles of {tile_px} px cannot overlap by {overlap_px} px", "expected 0 <= overlap < tile"
        )
    columns, rows = (_spans(length, tile_px, tile_px - overlap_px, step_px) for length in (width_px, height_px))
    return [_tile(column, row, tile_px, (width_px, height_px)) for row in rows for column in columns]


def around(
    size_px: tuple[int, int], tile_px: int, step_px: int, xy: NDArray[np.float64], reach_px: float
) -> list[Tile]:
    """A tile around each of the points `xy` (n, 2), row by row, that owns what lies within `reach_px` to each side.

    `size_px` is (width, height) of the frame, in whose px points are. Tiles begin at multiples of `step_px` and are
    moved back at the border, beyond which they reach only as those of `grid` do. What they own may overlap.

    Raises:
        UsageError: a tile does not reach as far as it is to own.
    """
    if tile_px < 2 * reach_px + step_px:
        raise UsageError(
            None, f"tiles of {tile_px} px cannot own {reach_px:g} px around a point", "expected larger ones"
        )
    found = set()
    for point in xy.tolist():
        spans = []
        for at, length in zip(point, size_px, strict=True):
            last = -(-max(length - tile_px, 0) // step_px) * step_px
            start = min(max(0, round((at - tile_px / 2) / step_px) * step_px), last)
            spans.append((start, max(0, math.floor(at - reach_px)), min(length, math.ceil(at + reach_px))))
        found.add(_tile(spans[0], spans[1], tile_px, size_px))
    return sorted(found, key=lambda tile: (tile.y_px, tile.x_px, tile.owns))


def touching(tiles: list[Tile], scale: float, tissue: Tissue | None) -> list[Tile]:
    """The tiles that own some of the tissue, all where none is given; `scale` is level-0 px for one of theirs."""
    if tissue is None:
        return tiles
    return [tile for tile in tiles if tissue.touches(*(scale * edge for edge in tile.owns))]


def measured_blocks(size_px: tuple[int, int], scale: float, tissue: Tissue | None, step_px: int = 1) -> list[Tile]:
    """The blocks of a slide that its statistics are taken from: those that hold tissue, or all.

    They are a matter of the slide and its tissue alone, not of the tiles by which it is searched.

    Args:
        size_px: (width, height) of the slide in px of the blocks, of which one is `scale` level-0 px.
        step_px: of which their borders are multiples.
    """
    return touching(grid(*size_px, BLOCK_PX, 0, step_px), scale, tissue)


def sampled_blocks(size_px: tuple[int, int], tissue: Tissue | None, most: int) -> list[Tile]:
    """At most so many blocks that hold tissue, evenly from the first to the last; in level-0 px, as `size_px` is.

    They are smaller than those of `measured_blocks`, and show a slide's colours whatever resolution it is searched at.
    """
    columns, rows = (_spans(length, SAMPLE_PX, SAMPLE_PX, 1) for length in size_px)

    def block(k: int) -> Tile:
        return _tile(columns[k % len(columns)], rows[k // len(columns)], SAMPLE_PX, size_px)

    places = range(len(columns) * len(rows))
    held = np.array([k for k in places if touching([block(k)], 1.0, tissue)], dtype=np.int64)  # not the tiles: millions
    if len(held) > most:
        held = held[np.linspace(0, len(held) - 1, most).round().astype(int)]
    return [block(k) for k in held.tolist()]


def _tile(column: Span, row: Span, tile_px: int, size_px: tuple[int, int]) -> Tile:
    (x, x0, x1), (y, y0, y1) = column, row
    return Tile(x, y, tile_px, (x0, y0, x1, y1), (x1 == size_px[0], y1 == size_px[1]))


def _spans(length_px: int, tile_px: int, stride_px: int, step_px: int) -> list[Span]:
    """Along one axis: (start, first owned, end of owned) of each tile."""
    last = -(-max(length_px - tile_px, 0) // step_px) * step_px
    starts = [*range(0, last, stride_px // step_px * step_px), last]
    cuts = [(start + tile_px + following) // 2 // step_px * step_px for start, following in pairwise(starts)]
    return list(zip(starts, [0, *cuts], [*cuts, length_px], strict=True))
