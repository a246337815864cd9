"""Writes an image as tiled TIFF with resolution tags, which OpenSlide, QuPath and this package read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mitosight.errors import InputError
from mitosight.mpp import ACCEPTED_MPP, possible
from mitosight.outputs import whole


def write_tiff(
    path: str | Path,
    image: NDArray[np.uint8],
    mpp: float,
    *,
    compression: Literal["jpeg", "lzw", "deflate"] = "jpeg",
    quality: int = 90,
    tile_px: int = 256,
    pyramid: bool = False,
) -> None:
    """Writes `image` (height, width, 3) RGB at `mpp` µm per px as tiled TIFF, whole or not at all.

    Equal arguments give equal bytes. `quality` is JPEG's; `tile_px` is a multiple of 16; `pyramid` adds levels,
    each half of the one before, down to one tile.

    Raises:
        InputError: `mpp` is impossible, or the file cannot be written.
    """
    import tifffile

    assert image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8, (image.shape, image.dtype)
    if not possible(mpp):
        raise InputError(path, f"{mpp:g} µm per px cannot be written", ACCEPTED_MPP)
    with whole(path) as temporary, tifffile.TiffWriter(temporary, bigtiff=image.nbytes > 2**31) as writer:
        for level, pixels in enumerate(_levels(image, tile_px) if pyramid else (image,)):
            per_cm = 1e4 / (mpp * 2**level)
            writer.write(
                _tiles(pixels, tile_px),
                shape=pixels.shape,
                dtype=np.uint8,
                tile=(tile_px, tile_px),
                photometric="rgb",
                compression=compression,
                compressionargs={"level": quality} if compression == "jpeg" else None,
                predictor=compression != "jpeg",
                resolution=(per_cm, per_cm),
                resolutionunit="CENTIMETER",
                subfiletype=int(level > 0),
                software="mitosight",
                metadata=None,
            )


def _levels(image: NDArray[np.uint8], tile_px: int) -> Iterator[NDArray[np.uint8]]:
    from PIL import Image

    picture = Image.fromarray(image)
    yield image
    while max(picture.size) > tile_px:
        picture = picture.reduce(2)
        yield np.asarray(picture)


def _tiles(image: NDArray[np.uint8], tile_px: int) -> Iterator[NDArray[np.uint8]]:
    """Tiles in row-major order; the border's px are repeated beyond it, so that JPEG does not bleed in."""
    height, width = image.shape[:2]
    for y in range(0, height, tile_px):
        for x in range(0, width, tile_px):
            tile = image[y : y + tile_px, x : x + tile_px]
            rest = (0, tile_px - tile.shape[0]), (0, tile_px - tile.shape[1]), (0, 0)
            yield np.pad(tile, rest, mode="edge")
