"""The tiles by which a slide is searched, in an order that decodes its file once, and their pixels."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from mitosight.dataset import working_mpp
from mitosight.errors import InputError
from mitosight.methods.detector import LEAST_SEARCH_PX, Detector
from mitosight.slide import Slide
from mitosight.slide.segments import CACHE_BYTES
from mitosight.tiles import Tile, Tissue, around, grid, measured_blocks, sampled_blocks, touching

BAND_PX = 8192  # of a row of tiles that is read at once; a row of 1024 px tiles is then 25 MB
CHUNK_TILES = 64  # what a killed search may lose
NEAR_BATCH = 8  # tiles of a second look, which are small
PHASE_PX = 32  # of which their place and side is a multiple, as most of a grid's: the coarsest stride of a trunk
REACH_UM = 7.0  # how far from the place of the first look a figure may be: 5 by which that counts as seen, and some

Run = tuple[Tile, ...]
"""Neighbours in a row of the grid, from left to right, which are read together."""


@dataclass(frozen=True)
class Covering:
    """The tiles of a slide, and their pixels as arrays (H, W, 3) uint8.

    Gone through, it gives arrays that hold what the tiles own: together each px of the search once.

    Attributes:
        runs: of tiles at `mpp`, in whose px they are given; in the order in which they are read.
        scale: level-0 px for one px of the tiles.
        tissue: what of the slide is searched; None for all of it.
        step_px: of which the corners of tiles are multiples.
        batch: tiles at a time for a worker, at least.
    """

    slide: Slide
    runs: Sequence[Run]
    scale: float
    mpp: float
    tissue: Tissue | None = None
    step_px: int = 1
    batch: int = 1

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height of the slide in px of the tiles."""
        return round(self.slide.width_px / self.scale), round(self.slide.height_px / self.scale)

    def measured(self, most: int | None = None) -> Covering:
        """What the statistics of the slide are taken from: its blocks that hold tissue, whatever the tiles are.

        With `most`, a sample of so many small ones in px of level 0, whatever the resolution of the search is.
        """
        at = self
        if most is None:
            blocks = measured_blocks(self.size_px, self.scale, self.tissue, self.step_px)
        else:
            at = replace(self, scale=1.0, mpp=self.slide.mpp)
            blocks = sampled_blocks(at.size_px, self.tissue, most)
        return replace(at, runs=walk(blocks, _band_px(at)), tissue=None, batch=1)

    @cached_property
    def fingerprint(self) -> str:
        """Of the tiles and their order, by which a search that goes on knows its chunks."""
        rows = [(tile.x_px, tile.y_px, tile.side_px, *tile.owns, len(run)) for run in self.runs for tile in run]
        return hashlib.sha256(np.array(rows, np.int64).tobytes()).hexdigest()[:16]

    @cached_property
    def tiles(self) -> list[Tile]:
        """All tiles, in the order of their runs."""
        return [tile for run in self.runs for tile in run]

    @cached_property
    def chunks(self) -> list[list[Run]]:
        """The runs in groups of at least `CHUNK_TILES` tiles, the last one with what is left."""
        found: list[list[Run]] = []
        for run in self.runs:
            if not found or sum(map(len, found[-1])) >= CHUNK_TILES:
                found.append([])
            found[-1].append(run)
        return found

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        for run in self.runs:
            (x0, y0, _, y1), (_, _, x1, _) = run[0].owns, run[-1].owns
            left, top = run[0].x_px, run[0].y_px
            yield self.read_run(run)[y0 - top : y1 - top, x0 - left : x1 - left]

    def read(self, tile: Tile) -> NDArray[np.uint8]:
        """One tile (side, side, 3)."""
        return np.ascontiguousarray(self.read_run((tile,)))

    def read_run(self, run: Run) -> NDArray[np.uint8]:
        """All px of a run's tiles: (side, width, 3)."""
        first, last = run[0], run[-1]
        size = (last.x_px + last.side_px - first.x_px, first.side_px)
        corner = (first.x_px * self.scale, first.y_px * self.scale)
        return self.slide.read(corner, size, None if self.scale == 1 else self.mpp)


def cover(slide: Slide, detector: Detector, tile_px: int | None = None, tissue: Tissue | None = None) -> Covering:
    """The tiles by which a detector searches a slide, or the tissue of it; arguments and errors as in `detect`."""
    nothing = _at_working_mpp(slide, detector, tissue)
    scale, mpp, (width, height) = nothing.scale, nothing.mpp, nothing.size_px
    side = tile_px or fitted_px((width, height), detector)
    if min(width, height) < side:
        at = "" if scale == 1 else f" at {mpp:g} µm/px"
        raise InputError(
            slide.path,
            f"{width} x {height} px{at} is smaller than a tile of {side} px",
            f"pass a smaller --tile-px (from {LEAST_SEARCH_PX}) or a larger image"
            if tile_px
            else "give a larger image",
        )
    tiles = touching(grid(width, height, side, detector.overlap_px, detector.grid_px), scale, tissue)
    return replace(nothing, runs=walk(tiles, _band_px(nothing)))


def _at_working_mpp(slide: Slide, detector: Detector, tissue: Tissue | None) -> Covering:
    """Without tiles."""
    mpp = working_mpp(slide.mpp, detector.mpp, detector.mpp_tolerance)
    return Covering(slide, (), mpp / slide.mpp, mpp, tissue, detector.grid_px)


def fitted_px(size_px: tuple[int, int], detector: Detector) -> int:
    """Side of the tiles that cover an image of (width, height) with the fewest px: the detector's, or up to 1/4 less.

    The tiles at the far borders are moved back, and a little smaller ones may need no more of them. On a GPU, which
    keeps graphs for each side, it is the detector's. A smaller image has tiles as large as it allows.
    """
    largest, smallest = detector.tile_px, min(size_px)
    step = math.lcm(PHASE_PX, detector.grid_px)
    if smallest < largest:
        return max(LEAST_SEARCH_PX, detector.overlap_px + step, smallest // step * step)
    if next(detector.parameters()).device.type != "cpu":
        return largest

    def px(side: int) -> int:
        across, down = (-(-max(length - side, 0) // (side - detector.overlap_px)) + 1 for length in size_px)
        return across * down * side * side

    least = max(LEAST_SEARCH_PX, detector.overlap_px + step, -(-3 * largest // 4))
    sides = range(least // step * step + step, largest, step)
    chosen: int = min((largest, *sides), key=lambda side: (px(side), -side))
    return chosen


def cover_near(slide: Slide, detector: Detector, xy: NDArray[np.float64], tissue: Tissue | None = None) -> Covering:
    """A small tile around each of the places `xy` (n, 2) in level-0 px that owns what lies within `REACH_UM`.

    What two tiles own is found twice, and suppressed as one point. Each tile reaches half the overlap of neighbours
    farther than what it owns, and begins where the cells of its maps lie as those of the first tiles of a grid.
    """
    every = _at_working_mpp(slide, detector, tissue)
    reach_px = REACH_UM / every.mpp
    step = math.lcm(PHASE_PX, detector.grid_px)
    least = max(LEAST_SEARCH_PX, 2 * reach_px + step + detector.overlap_px)
    tiles = around(every.size_px, math.ceil(least / step) * step, step, xy / every.scale, reach_px)
    return replace(every, runs=walk(tiles, _band_px(every)), batch=NEAR_BATCH)


def near(xy: NDArray[np.float64], places: NDArray[np.float64], mpp: float) -> NDArray[np.bool_]:
    """(n,) which of the points `xy` (n, 2) lie within `REACH_UM` of one of the `places` (m, 2); level-0 px."""
    if not len(places):
        return np.zeros(len(xy), dtype=bool)
    distance, _ = cKDTree(places).query(xy.reshape(-1, 2))
    found: NDArray[np.bool_] = np.asarray(distance * mpp <= REACH_UM)
    return found


def walk(tiles: Sequence[Tile], band_px: int) -> list[Run]:
    """Tiles of a grid in the order in which they are read: down each vertical band of the slide, row by row.

    A row of a band is read at once, so that neighbours share what is decoded, and the rows above and below lie near in
    time. Tiles that are not neighbours, since one between them is missing, are in different runs.
    """
    found: list[list[Tile]] = []
    for tile in sorted(tiles, key=lambda t: (t.x_px // band_px, t.y_px, t.x_px)):
        before = found[-1][-1] if found else None
        together = (
            before is not None
            and before.y_px == tile.y_px
            and before.owns[2] == tile.owns[0]
            and before.x_px // band_px == tile.x_px // band_px
        )
        if together:
            found[-1].append(tile)
        else:
            found.append([tile])
    return [tuple(run) for run in found]


def _band_px(at: Covering) -> int:
    """Width of the bands, in px of the tiles: so many of the file's own tiles that two rows of them stay decoded.

    All of the slide where its file holds strips, which are as wide as it is.
    """
    layout = at.slide.tile_size(0)
    if layout is None:
        return BAND_PX
    wide, high = layout
    if wide >= at.slide.width_px:
        return at.size_px[0]
    columns = CACHE_BYTES // (2 * 3 * wide * high) - 1  # a band of so many reaches into one more
    return min(BAND_PX, round(max(1, columns) * wide / at.scale))
