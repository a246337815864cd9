"""Tiled TIFF and Aperio SVS by tifffile, several times as fast as OpenSlide, where the pixels are OpenSlide's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tifffile

from mitosight.errors import InputError
from mitosight.slide.decoding import BROKEN, place
from mitosight.slide.openslide_reader import OpenSlideReader
from mitosight.slide.reader import Reader
from mitosight.slide.tifffile_reader import TifffileReader

_JPEG = 7
_LOSSLESS = (1, 5, 8, 32773, 32946, 50000)  # none, LZW, deflate, PackBits, deflate by its old number, zstd
_TRIED = 3  # tiles that are compared: the first of them that both read decides


class _Unlike(Exception):
    """The pages are not what OpenSlide makes of them, or may be shown otherwise."""


def faster(slow: OpenSlideReader) -> Reader:
    """A TifffileReader with the levels, µm per px and bounds of `slow`, which is closed; else `slow` itself.

    The latter where levels differ, for alpha, grey, JPEG 2000, WebP and turned images, for SVS with missing tiles
    (OpenSlide fills them from another level), and where the tile of level 0 with most bytes is not pixel for pixel
    the same by both: that finds colours told wrongly, and decoders that round otherwise.

    Raises:
        InputError: the file is truncated.
    """
    try:
        fast = TifffileReader(slow.path, lambda file: _pages(file, slow))
    except _Unlike:
        return slow
    if not _same(fast, slow):
        return slow
    fast.resolution, fast.bounds_px = slow.resolution, slow.bounds_px
    slow.close()
    return fast


def _pages(file: tifffile.TiffFile, slow: OpenSlideReader) -> Sequence[Any]:
    """The pages that are OpenSlide's levels: tiled, and of a plain TIFF the first and the reduced ones by width."""
    try:
        pages: list[Any] = list(file.pages)
        tiled = [page for page in pages if page.is_tiled]
    except BROKEN:  # some other page, which OpenSlide does not mind
        raise _Unlike from None
    if slow.vendor == "generic-tiff":
        tiled = [page for page in tiled if page.index == 0 or page.is_reduced]
        tiled.sort(key=lambda page: -page.imagewidth)
    sizes = tuple((page.imagewidth, page.imagelength) for page in tiled)
    kinds = {(page.compression, page.photometric) for page in tiled}
    if sizes != slow.level_sizes or len(set(sizes)) < len(sizes) or len(kinds) > 1 or not all(map(_plain, tiled)):
        raise _Unlike
    if slow.vendor == "aperio" and not all(min(page.databytecounts) for page in tiled):
        raise _Unlike
    return tiled


def _plain(page: Any) -> bool:
    orientation = page.tags.valueof("Orientation", default=1)
    colours = page.photometric == 2 or (page.photometric == 6 and page.compression == _JPEG)
    samples = (page.samplesperpixel, page.bitspersample, page.planarconfig, page.dtype) == (3, 8, 1, np.uint8)
    return samples and colours and orientation == 1 and (page.compression == _JPEG or page.compression in _LOSSLESS)


def _same(fast: TifffileReader, slow: OpenSlideReader) -> bool:
    """Whether the first of the largest tiles of level 0 that both read is the same by both; False if there is none."""
    page = fast.pages[0]
    for index in np.argsort(page.databytecounts, kind="stable")[: -_TRIED - 1 : -1]:
        _, top, left = place(page, int(index))
        width, height = min(page.tilewidth, page.imagewidth - left), min(page.tilelength, page.imagelength - top)
        try:
            one, other = (reader.region(0, left, top, width, height) for reader in (fast, slow))
        except InputError:
            continue
        return np.array_equal(one, other)
    return False
