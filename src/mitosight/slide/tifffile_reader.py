"""Plain, LZW, JPEG and OME-TIFF, by tifffile: only the strips or tiles that a region needs are read."""

from __future__ import annotations

import logging
import struct
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import tifffile
from numpy.typing import NDArray

from mitosight.errors import InputError
from mitosight.slide.reader import ACCEPTED, RGB_ONLY, on_white
from mitosight.slide.resolution import Resolution

CACHE_BYTES = 64 * 2**20  # of decoded strips or tiles; one larger strip is kept alone
_BROKEN = (  # what tifffile and the decoders raise for damaged files
    *(OSError, ValueError, RuntimeError, TypeError, LookupError, ArithmeticError, MemoryError, AssertionError),
    struct.error,
)
_ASSOCIATED, _STRAIGHT = 1, 2  # TIFF tag ExtraSamples: alpha already multiplied in, or not
_JPEG = (6, 7)
_UM = {2: 25400.0, 3: 10000.0, 4: 1000.0, 5: 1.0}  # TIFF tag ResolutionUnit: inch, cm, and tifffile's mm and µm
_OME_UM = {"nm": 1e-3, "µm": 1.0, "um": 1.0, "mm": 1e3, "cm": 1e4}
_MICRON = ("micron", "um", "µm", "\\u00B5m")

logging.getLogger("tifffile").addHandler(logging.NullHandler())  # its warnings would reach stderr otherwise


class TifffileReader:
    """One TIFF: 8-bit RGB, or RGBA laid on white; the levels are those of an OME pyramid or the first page alone.

    Decoded strips and tiles are kept up to `CACHE_BYTES`, the least recently used go first. The file itself is
    open only while it is read, so that hundreds of slides can be at hand.
    """

    name = "tifffile"
    bounds_px: tuple[int, int, int, int] | None = None

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._cache: OrderedDict[tuple[int, int], tuple[NDArray[np.uint8], tuple[int, int, int]]] = OrderedDict()
        try:
            with np.errstate(all="ignore"), tifffile.TiffFile(path) as file:  # damaged tags may overflow
                self._pages = [level.keyframe for level in file.series[0].levels]
                self._decoders = [_decoder(page) for page in self._pages]  # made while the file is open
                self.is_ome: bool = file.is_ome
                self.is_vendor: bool = file.is_svs or file.is_ndpi or file.is_scn or file.is_bif
                self.resolution = _ome_resolution(file) or _tag_resolution(file)
            for page in self._pages:
                self._check(page)
        except _BROKEN:
            raise self._damaged() from None
        self.level_sizes: tuple[tuple[int, int], ...] = tuple((p.imagewidth, p.imagelength) for p in self._pages)

    def _check(self, page: Any) -> None:
        colours = page.photometric == 2 or (page.photometric == 6 and page.compression in _JPEG)
        if page.dtype != np.uint8 or page.bitspersample != 8 or page.samplesperpixel not in (3, 4) or not colours:
            kind = getattr(page.photometric, "name", str(page.photometric))
            found = f"holds {page.samplesperpixel} channels of {page.bitspersample} bit ({kind})"
            raise InputError(self._path, found, RGB_ONLY)
        if min(page.imagewidth, page.imagelength, *_segment_size(page)) < 1:
            raise self._damaged()

    def _damaged(self) -> InputError:
        return InputError(self._path, "is a damaged or truncated TIFF", ACCEPTED)

    def region(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """As the contract says."""
        page = self._pages[level]
        samples = page.samplesperpixel
        result = np.full((height, width, samples), 255, dtype=np.uint8)
        with self._lock:
            for index in _segments(page, x, y, width, height):
                piece, (plane, top, left) = self._segment(level, index)
                y0, y1 = max(y, top), min(y + height, top + piece.shape[0])
                x0, x1 = max(x, left), min(x + width, left + piece.shape[1])
                channels = slice(None) if piece.shape[2] == samples else slice(plane, plane + 1)
                result[y0 - y : y1 - y, x0 - x : x1 - x, channels] = piece[y0 - top : y1 - top, x0 - left : x1 - left]
        return _rgb(result, page.extrasamples)

    def _segment(self, level: int, index: int) -> tuple[NDArray[np.uint8], tuple[int, int, int]]:
        """One decoded strip or tile (height, width, channels), and its (plane, top, left) in px of the level."""
        if (level, index) in self._cache:
            self._cache.move_to_end((level, index))
            return self._cache[level, index]
        page = self._pages[level]
        try:
            count = page.databytecounts[index]
            with open(self._path, "rb") as stream:
                stream.seek(page.dataoffsets[index])
                data = stream.read(count)
            if len(data) < count:  # a JPEG decoder would fill the rest with grey, without a word
                raise InputError(self._path, "is truncated", "copy the file again")
            decoded, (plane, _, top, left, _), _ = self._decoders[level](data if count else None, index)
        except _BROKEN as error:
            raise InputError(
                self._path, f"is damaged (strip or tile {index}: {error})", "copy the file again"
            ) from None
        piece = np.empty((0, 0, 1), np.uint8) if decoded is None else decoded[0]  # not stored: stays white
        self._cache[level, index] = piece, (plane, top, left)
        while len(self._cache) > 1 and sum(kept.nbytes for kept, _ in self._cache.values()) > CACHE_BYTES:
            self._cache.popitem(last=False)
        return self._cache[level, index]

    def close(self) -> None:
        """Forgets the pixels."""
        self._cache.clear()


def _decoder(page: Any) -> Callable[..., Any]:
    """Turns (encoded bytes, index) of a strip or tile into its pixels and its place."""
    return partial(page.decode, jpegtables=page.jpegtables) if page.compression in _JPEG else page.decode


def _segment_size(page: Any) -> tuple[int, int]:
    """(width, height) in px of a strip or tile."""
    if page.is_tiled:
        return page.tilewidth, page.tilelength
    return page.imagewidth, min(page.rowsperstrip, page.imagelength)


def _segments(page: Any, x: int, y: int, width: int, height: int) -> Iterator[int]:
    """Indices of the strips or tiles that meet the rectangle, plane by plane where planes are stored apart."""
    wide, high = _segment_size(page)
    across, down = -(-page.imagewidth // wide), -(-page.imagelength // high)
    planes = page.samplesperpixel if page.planarconfig == 2 else 1
    for plane in range(planes):
        for row in range(y // high, (y + height - 1) // high + 1):
            for column in range(x // wide, (x + width - 1) // wide + 1):
                yield (plane * down + row) * across + column


def _rgb(pixels: NDArray[np.uint8], extrasamples: tuple[int, ...]) -> NDArray[np.uint8]:
    if pixels.shape[2] == 3:
        return pixels
    rgb, alpha = pixels[..., :3], pixels[..., 3]
    if extrasamples[:1] == (_STRAIGHT,):
        return on_white(rgb, alpha)
    if extrasamples[:1] == (_ASSOCIATED,):
        laid: NDArray[np.uint8] = np.uint8(255) - alpha[..., None] + np.minimum(rgb, alpha[..., None])
        return laid
    return np.ascontiguousarray(rgb)  # a fourth channel of unknown meaning


def _ome_resolution(file: tifffile.TiffFile) -> Resolution | None:
    if not file.is_ome:
        return None
    try:
        pixels = ElementTree.fromstring(file.ome_metadata or "").find(".//{*}Pixels")
        attributes = {} if pixels is None else pixels.attrib
        x, y = (
            float(attributes[f"PhysicalSize{axis}"]) * _OME_UM[attributes.get(f"PhysicalSize{axis}Unit", "µm")]
            for axis in "XY"
        )
    except (ElementTree.ParseError, KeyError, ValueError):
        return None
    return Resolution(x, y, "OME PhysicalSizeX")


def _tag_resolution(file: tifffile.TiffFile) -> Resolution | None:
    tags = file.pages.first.tags
    unit = int(tags.valueof("ResolutionUnit", default=2))  # inch where the tag is missing, by the standard
    imagej: dict[str, Any] = file.imagej_metadata or {}
    um = 1.0 if imagej.get("unit") in _MICRON else _UM.get(unit)
    try:
        x, y = (tags[f"{axis}Resolution"].value for axis in "XY")
        if um is None:
            return None
        return Resolution(um * x[1] / x[0], um * y[1] / y[0], "TIFF resolution tags")
    except (KeyError, ZeroDivisionError, TypeError):
        return None
