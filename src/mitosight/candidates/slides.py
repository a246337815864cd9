"""The candidates of a whole slide, tile by tile, and which figures they reach."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Lock

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from mitosight.candidates.finder import Candidates, Colours, Finder, Statistics
from mitosight.slide import Slide
from mitosight.tiles import Tile, Tissue, grid, measured_blocks, touching

MPP, MPP_TOLERANCE = 0.25, 0.1  # what the limits of the papers are made for; slides within a share are not resampled
TILE_PX = 2048
KEPT_BYTES = 2**28  # of tiles that are kept between the passes; what is beyond is decoded twice


def find_in_slide(slide: Slide, finder: Finder, mpp: float | None = None, tissue: Tissue | None = None) -> Candidates:
    """The candidates of a slide in level-0 px, by row, then column; arguments and errors as in `search`."""
    return search(slide, finder, mpp, tissue)[0]


def search(
    slide: Slide,
    finder: Finder,
    mpp: float | None = None,
    tissue: Tissue | None = None,
    *,
    tile_px: int = TILE_PX,
    threads: int | None = None,
) -> tuple[Candidates, Statistics]:
    """The candidates of a slide in level-0 px, and its statistics: one pass for each.

    Where the slide is not resampled, both are the same for every size of tiles and number of threads. Tiles are
    decoded once, as far as 256 MB hold them; there is never more of the slide in memory.

    Args:
        mpp: µm per px at which the slide is read; by default its own where that is within 10 % of 0.25, else 0.25.
        tissue: what is searched; statistics are those of the blocks that hold some of it. None: the whole slide.
        tile_px: side of the tiles; larger where the finder's overlap asks for it.
        threads: that work on tiles at the same time; by default two, or one on one core.

    Raises:
        InputError: the slide's mpp is unknown, or its file is damaged.
    """
    tiles = _Tiles(slide, finder, mpp, tile_px, tissue)
    if not tiles.searched:
        return Candidates(), Statistics(np.inf, 0)
    with ThreadPoolExecutor(threads or min(2, os.cpu_count() or 1)) as pool:
        statistics = finder.concluded(_total(tiles, finder, pool.map))
        found = list(
            pool.map(lambda tile: tiles.owned(tile, finder.find(tiles.read(tile), statistics)), tiles.searched)
        )
    xy, area_px = np.concatenate([part.xy for part in found]), np.concatenate([part.area_px for part in found])
    every = Candidates(xy, area_px).moved((0, 0), tiles.scale).ordered()
    return every if tissue is None else every[tissue.holds(every.xy)], statistics


def reached(figures: NDArray[np.float64], candidates: Candidates, radius_px: float) -> NDArray[np.bool_]:
    """(n,) which of the figures (n, 2) have a candidate within `radius_px` (inclusive), all in px of one frame."""
    if not len(candidates):
        return np.zeros(len(figures), dtype=bool)
    distance, _ = cKDTree(candidates.xy).query(figures.reshape(-1, 2))
    near: NDArray[np.bool_] = np.asarray(distance <= radius_px)
    return near


def _total(tiles: _Tiles, finder: Finder, over: Callable[..., object]) -> NDArray[np.int64]:
    """The finder's tally of what the statistics are taken from."""
    first, *rest = tiles.measured
    total = _tally(tiles, finder, first)  # alone, since a reader may decode its file on the first read
    lock = Lock()

    def add(tile: Tile) -> None:
        counts = _tally(tiles, finder, tile)
        with lock:
            np.add(total, counts, out=total)

    list(over(add, rest))  # type: ignore[call-overload]
    return total


def _tally(tiles: _Tiles, finder: Finder, tile: Tile) -> NDArray[np.int64]:
    first, *rest = (finder.tally(piece) for piece in tiles.pieces(tile))
    return sum(rest, start=first)


class _Tiles:
    """The tiles of a slide as a finder needs them: on its grid, with its overlap, within the border, some kept.

    Attributes:
        searched: those with tissue.
        measured: those with a part of a block that statistics are taken from.
    """

    def __init__(self, slide: Slide, finder: Finder, mpp: float | None, tile_px: int, tissue: Tissue | None) -> None:
        own, step = slide.mpp, finder.zoom
        if mpp is None:
            mpp = own if abs(own - MPP) <= MPP_TOLERANCE * MPP else MPP
        self._slide, self._mpp = slide, mpp
        self.scale = mpp / own
        self.size = max(1, round(slide.width_px / self.scale)), max(1, round(slide.height_px / self.scale))
        overlap = _up(finder.overlap_px, step)
        every = grid(*self.size, max(_up(tile_px, step), 2 * overlap), overlap, step)
        self.searched = touching(every, self.scale, tissue)
        blocks = measured_blocks(self.size, self.scale, tissue, step)
        self._blocks = np.array([block.owns for block in blocks]).reshape(-1, 4)
        self.measured = [tile for tile in every if len(self._shares(tile))]
        self._kept: dict[Tile, Colours] = {}
        self._free = KEPT_BYTES

    def read(self, tile: Tile) -> Colours:
        """The tile as far as it lies on the slide."""
        if tile in self._kept:
            return self._kept[tile]
        size = tuple(
            min(tile.side_px, length - at) for length, at in zip(self.size, (tile.x_px, tile.y_px), strict=True)
        )
        corner = (tile.x_px * self.scale, tile.y_px * self.scale)
        rgb = self._slide.read(corner, (size[0], size[1]), None if self.scale == 1 else self._mpp)
        if rgb.nbytes <= self._free:
            self._free -= rgb.nbytes
            self._kept[tile] = rgb
        return rgb

    def pieces(self, tile: Tile) -> Iterator[Colours]:
        """What the tile owns of the measured blocks, cut on the finder's grid: together each px of them once."""
        rgb, (x0, y0, x1, y1) = self.read(tile), tile.owns
        shares = self._shares(tile)
        if int(np.prod(shares[:, 2:] - shares[:, :2], axis=1).sum()) == (x1 - x0) * (y1 - y0):
            shares = np.array([tile.owns])
        for left, top, right, bottom in (shares - (tile.x_px, tile.y_px) * 2).tolist():
            yield rgb[top:bottom, left:right]

    def _shares(self, tile: Tile) -> NDArray[np.int64]:
        """(n, 4) rectangles of the measured blocks that the tile owns."""
        x0, y0, x1, y1 = tile.owns
        low, high = np.maximum(self._blocks[:, :2], (x0, y0)), np.minimum(self._blocks[:, 2:], (x1, y1))
        found: NDArray[np.int64] = np.hstack([low, high])[(low < high).all(axis=1)]
        return found

    def owned(self, tile: Tile, candidates: Candidates) -> Candidates:
        """Those of the tile's candidates that it owns, in px of the slide as it is read."""
        placed = candidates.moved((tile.x_px, tile.y_px))
        return placed[tile.owned(placed.xy)]


def _up(length: int, step: int) -> int:
    """The least multiple of `step` that is not below `length`."""
    return -(-length // step) * step
