"""Strips and tiles of a TIFF: where they lie in the page, and their pixels; corrupt JPEG is an error, never grey."""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from mitosight.slide.segments import Segment

BROKEN = (  # what tifffile and the decoders raise for damaged files
    *(OSError, ValueError, RuntimeError, TypeError, LookupError, ArithmeticError, MemoryError, AssertionError),
    struct.error,
)
JPEG = (6, 7)  # TIFF tag Compression: as in TIFF 6.0, and as in its second technical note
_YCBCR = 6  # TIFF tag PhotometricInterpretation
_START, _END = b"\xff\xd8", b"\xff\xd9"
_ADOBE = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00"  # the marker that names the colours; 0 RGB, 1 YCbCr follow

Decode = Callable[[bytes | None, int], Segment]


def segment_size(page: Any) -> tuple[int, int]:
    """(width, height) in px of the page's tiles, or of its strips, which are as wide as the page."""
    if page.is_tiled:
        return page.tilewidth, page.tilelength
    return page.imagewidth, min(page.rowsperstrip, page.imagelength)


def place(page: Any, index: int) -> tuple[int, int, int]:
    """(plane, top, left) of a strip or tile in px of the page; planes are counted where they are stored apart."""
    width, height = segment_size(page)
    across, down = -(-page.imagewidth // width), -(-page.imagelength // height)
    return index // (across * down), index // across % down * height, index % across * width


def decoder(page: Any) -> Decode:
    """Turns (encoded bytes or None, index) of a strip or tile of `page` into a Segment; to be made while it is open.

    JPEG of three interleaved channels is decoded by simplejpeg in its strict mode: libjpeg-turbo as OpenSlide and
    imagecodecs have it (exact DCT, smooth upsampling), but where they fill with grey it raises.
    """
    if page.compression == 7 and page.samplesperpixel == 3 and page.planarconfig == 1:
        return partial(_jpeg, page, page.jpegtables)
    if page.compression in JPEG:
        return partial(_other, page, partial(page.decode, jpegtables=page.jpegtables))
    return partial(_other, page, page.decode)


def _other(page: Any, decode: Callable[..., Any], data: bytes | None, index: int) -> Segment:
    pixels = None if data is None else decode(data, index)[0]
    return Segment(None if pixels is None else pixels[0], *place(page, index))


def _jpeg(page: Any, tables: bytes | None, data: bytes | None, index: int) -> Segment:
    plane, top, left = place(page, index)
    if data is None:
        return Segment(None, plane, top, left)
    wide, high = segment_size(page)
    width, height = min(wide, page.imagewidth - left), min(high, page.imagelength - top)  # within the page
    pixels = jpeg(data, tables, page.photometric)[:height, :width]
    if pixels.shape != (height, width, 3):
        raise ValueError(f"JPEG of {pixels.shape[1]} x {pixels.shape[0]} px instead of {wide} x {high}")
    return Segment(pixels, plane, top, left)


def jpeg(data: bytes, tables: bytes | None, photometric: int) -> NDArray[np.uint8]:
    """(height, width, 3) RGB of a JPEG in a TIFF; raises ValueError for what libjpeg only warns of."""
    pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(complete(data, tables, photometric))
    return pixels


def complete(data: bytes, tables: bytes | None, photometric: int) -> bytes:
    """A strip or tile as a JPEG that any decoder reads; raises ValueError where it does not begin as one.

    `tables` are the page's JPEGTables. A stream that says nothing of its colours has those of `photometric`. An end
    marker is added, so that a stream that merely lacks it is whole and one that lacks pixels is not.
    """
    if not data.startswith(_START):
        raise ValueError("no JPEG begins there")
    colours = _ADOBE + bytes([int(photometric == _YCBCR)])
    before = b"" if tables is None else tables[2:].removesuffix(_END)
    return b"".join((_START, colours, before, data[2:], _END))
