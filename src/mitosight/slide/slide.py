"""Slide: an opened image file, its size, its µm per pixel, and its pixels at any resolution."""

from __future__ import annotations

import os
from functools import partial
from math import log2
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from mitosight.slide.reader import Reader, open_reader
from mitosight.slide.resampling import window
from mitosight.slide.resolution import resolve

LEVEL_TOLERANCE = 0.01  # a level this much coarser than asked still serves: downsamples of 4.002 are meant as 4
WHITE = 255


class Slide:
    """An opened image file: pyramid, region TIFF, PNG or JPEG; 8-bit RGB.

    Opening raises InputError for a file that is missing, empty, damaged or no image. `mpp` and `mpp_source` are
    resolved when they are asked for, so that the size of an image can be had without them. Several threads may read
    at once. A slide can be pickled; each process opens the file for itself on its first read, forked or spawned.

    Attributes:
        path, name: the file, and its name without folder.
        width_px, height_px: size of level 0.
        reader: the library that reads it: openslide, tifffile or pillow.
        level_downsamples: level-0 px per px of each level, level 0 first.
        bounds_px: (x, y, width, height) of the scanned part in level-0 px where the file gives it (MRXS, NDPI),
            else None. Level-0 coordinates are never shifted by it.
    """

    def __init__(self, path: str | Path, *, mpp: float | None = None, table_mpp: float | None = None) -> None:
        """`mpp` is the user's (--mpp), `table_mpp` that of domains.csv; both in µm per level-0 px."""
        self.path = Path(path)
        self.name = self.path.name
        self._argument_mpp, self._table_mpp = mpp, table_mpp
        self._open: Reader | None = open_reader(self.path)
        self._process = os.getpid()
        self.reader = self._open.name
        self._level_sizes = self._open.level_sizes
        self.width_px, self.height_px = self._level_sizes[0]
        self.level_downsamples = tuple(_downsample(self._level_sizes[0], size) for size in self._level_sizes)
        self.bounds_px = self._open.bounds_px
        self._tile_sizes = self._open.tile_sizes
        self._own_resolution = self._open.resolution

    @property
    def mpp(self) -> float:
        """µm per level-0 px: --mpp, else domains.csv, else the file's own.

        Raises:
            InputError: unknown, or outside 0.05 to 10, or the file's own pixels are not square.
        """
        return resolve(self.path, self._argument_mpp, self._table_mpp, self._own_resolution)[0]

    @property
    def mpp_source(self) -> str:
        """Where `mpp` comes from: "--mpp", "domains.csv" or what in the file says it; raises as `mpp` does."""
        return resolve(self.path, self._argument_mpp, self._table_mpp, self._own_resolution)[1]

    def tile_size(self, level: int = 0) -> tuple[int, int] | None:
        """(width, height) in px of `level` of what the file decodes at once: tiles, or strips as wide as the image.

        A walk that reads along them decodes each once. None where it is the whole image (PNG, JPEG) or not known.
        """
        return self._tile_sizes[level]

    def read(self, xy: tuple[float, float], size: tuple[int, int], mpp: float | None = None) -> NDArray[np.uint8]:
        """(height, width, 3) RGB with the top left corner at `xy`; white beyond the border and where transparent.

        `xy` is in level-0 px, may be fractional or negative; `size` is (width, height) in px of the result, at
        `mpp` µm per px or at level 0. Level-0 point (X, Y) appears at ((X - x) * s, (Y - y) * s) with
        s = slide.mpp / mpp, where px i covers [i, i + 1). Read from the coarsest level that is fine enough.

        Raises:
            InputError: the file is damaged there, or `mpp` is given and the slide's own is not known.
        """
        assert min(size) > 0, size
        scale = 1.0 if mpp is None else mpp / self.mpp
        level = max(i for i, d in enumerate(self.level_downsamples) if i == 0 or d <= scale * (1 + LEVEL_TOLERANCE))
        downsample = self.level_downsamples[level]
        corner = (xy[0] / downsample, xy[1] / downsample)
        return window(partial(self._padded, level), corner, size, scale / downsample)

    def _padded(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """A rectangle in px of `level`, white where it reaches beyond it."""
        across, down = self._level_sizes[level]
        x0, x1 = max(x, 0), min(x + width, across)
        y0, y1 = max(y, 0), min(y + height, down)
        if (x1 - x0, y1 - y0) == (width, height):
            return self._reader().region(level, x, y, width, height)
        result = np.full((height, width, 3), WHITE, dtype=np.uint8)
        if x0 < x1 and y0 < y1:
            result[y0 - y : y1 - y, x0 - x : x1 - x] = self._reader().region(level, x0, y0, x1 - x0, y1 - y0)
        return result

    def _reader(self) -> Reader:
        if self._open is None or self._process != os.getpid():
            self._inherited = self._open  # of the parent process: neither used nor closed here
            self._open, self._process = open_reader(self.path), os.getpid()
        return self._open

    def close(self) -> None:
        """Gives the file back; a later read opens it again."""
        if self._open is not None and self._process == os.getpid():
            self._open.close()
            self._open = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        state = {**self.__dict__, "_open": None}
        state.pop("_inherited", None)
        return state

    def __repr__(self) -> str:
        return f"Slide({str(self.path)!r}, {self.width_px} x {self.height_px} px, {self.reader})"


def _downsample(full: tuple[int, int], size: tuple[int, int]) -> float:
    """Level-0 px per px of a level: the power of two that explains its size up to rounding, else the mean ratio."""
    ratio = (full[0] / size[0] + full[1] / size[1]) / 2
    power = 2.0 ** round(log2(ratio))
    if all(abs(whole / power - part) < 1 for whole, part in zip(full, size, strict=True)):
        return power
    return ratio
