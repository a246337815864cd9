"""SVS, NDPI, MRXS, SCN, DICOM and tiled TIFF, by OpenSlide."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openslide
from numpy.typing import NDArray

from mitosight.errors import InputError
from mitosight.slide.reader import ACCEPTED, COPY_AGAIN, on_white
from mitosight.slide.resolution import Resolution
from mitosight.slide.segments import CACHE_BYTES


def vendor(path: Path) -> str | None:
    """OpenSlide's name of the format, None where OpenSlide does not know it; damaged files are unknown too."""
    try:
        found: str | None = openslide.OpenSlide.detect_format(path)
    except openslide.OpenSlideError:
        return None
    return found


class OpenSlideReader:
    """One file opened by OpenSlide; level-0 px are OpenSlide's, also where the scanned part starts elsewhere.

    Its cache of decoded tiles takes `CACHE_BYTES`, 4 for each px.
    """

    name = "openslide"

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._slide = openslide.OpenSlide(path)
            self._slide.set_cache(openslide.OpenSlideCache(CACHE_BYTES))
            properties = dict(self._slide.properties)
            self.level_sizes: tuple[tuple[int, int], ...] = self._slide.level_dimensions
            self._downsamples: tuple[float, ...] = self._slide.level_downsamples
        except openslide.OpenSlideError as error:
            raise InputError(path, f"is damaged or incomplete (OpenSlide: {error})", ACCEPTED) from None
        self.resolution = _resolution(properties)
        self.bounds_px = _bounds(properties)
        self.vendor = properties.get("openslide.vendor", "")
        self.tile_sizes = tuple(_tile_size(properties, level) for level in range(len(self.level_sizes)))

    def region(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """As the contract says; above level 0 OpenSlide places the rectangle within half a level-0 px."""
        scale = self._downsamples[level]
        try:
            picture = self._slide.read_region((round(x * scale), round(y * scale)), level, (width, height))
        except openslide.OpenSlideError as error:
            where = f"level {level}, x {x} to {x + width}, y {y} to {y + height} px"
            raise InputError(self.path, f"is damaged at {where} (OpenSlide: {error})", COPY_AGAIN) from None
        rgba = np.asarray(picture)
        return on_white(rgba[..., :3], rgba[..., 3])

    def close(self) -> None:
        """Gives the file back."""
        self._slide.close()


def _resolution(properties: dict[str, str]) -> Resolution | None:
    try:
        x, y = (float(properties[f"openslide.mpp-{axis}"]) for axis in "xy")
    except (KeyError, ValueError):
        return None
    return Resolution(x, y, "openslide.mpp-x")


def _bounds(properties: dict[str, str]) -> tuple[int, int, int, int] | None:
    try:
        x, y, width, height = (int(properties[f"openslide.bounds-{key}"]) for key in ("x", "y", "width", "height"))
    except (KeyError, ValueError):
        return None
    return x, y, width, height


def _tile_size(properties: dict[str, str], level: int) -> tuple[int, int] | None:
    try:
        width, height = (int(properties[f"openslide.level[{level}].tile-{side}"]) for side in ("width", "height"))
    except (KeyError, ValueError):
        return None
    return width, height
