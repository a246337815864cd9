"""Plain, LZW, JPEG and OME-TIFF, by tifffile: only the strips or tiles that a region needs are read."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
import tifffile
from numpy.typing import NDArray

from mitosight.errors import InputError
from mitosight.slide.decoding import BROKEN, JPEG, decoder, place, segment_size
from mitosight.slide.reader import ACCEPTED, COPY_AGAIN, GONE, RGB_ONLY, on_white
from mitosight.slide.segments import CACHE_BYTES, Segment, Segments
from mitosight.slide.tiff_resolution import tiff_resolution

_ASSOCIATED, _STRAIGHT = 1, 2  # TIFF tag ExtraSamples: alpha already multiplied in, or not

logging.getLogger("tifffile").addHandler(logging.NullHandler())  # its warnings would reach stderr otherwise


def _first_series(file: tifffile.TiffFile) -> list[Any]:
    return [level.keyframe for level in file.series[0].levels]


class TifffileReader:
    """One TIFF: 8-bit RGB, or RGBA laid on white; the levels are those of an OME pyramid or the first page alone.

    `levels` chooses other pages of the open file. Decoded strips and tiles are kept up to `CACHE_BYTES`. Threads read
    and decode side by side; the file is open only while it is read, so that hundreds of slides can be at hand.
    """

    name = "tifffile"
    bounds_px: tuple[int, int, int, int] | None = None

    def __init__(self, path: Path, levels: Callable[[tifffile.TiffFile], Sequence[Any]] = _first_series) -> None:
        self._path = path
        self._segments = Segments(CACHE_BYTES)
        try:
            with np.errstate(all="ignore"), tifffile.TiffFile(path) as file:  # damaged tags may overflow
                self.pages = levels(file)
                self._decoders = [decoder(page) for page in self.pages]  # made while the file is open
                self.is_ome: bool = file.is_ome
                self.is_vendor: bool = file.is_svs or file.is_ndpi or file.is_scn or file.is_bif
                self.resolution = tiff_resolution(file)
                size = file.filehandle.size
            for page in self.pages:
                self._check(page, size)
        except BROKEN:
            raise InputError(self._path, "is a damaged or truncated TIFF", ACCEPTED) from None
        self.level_sizes: tuple[tuple[int, int], ...] = tuple((p.imagewidth, p.imagelength) for p in self.pages)
        self.tile_sizes: tuple[tuple[int, int] | None, ...] = tuple(segment_size(p) for p in self.pages)

    def _check(self, page: Any, size: int) -> None:
        colours = page.photometric == 2 or (page.photometric == 6 and page.compression in JPEG)
        if page.dtype != np.uint8 or page.bitspersample != 8 or page.samplesperpixel not in (3, 4) or not colours:
            kind = getattr(page.photometric, "name", str(page.photometric))
            found = f"holds {page.samplesperpixel} channels of {page.bitspersample} bit ({kind})"
            raise InputError(self._path, found, RGB_ONLY)
        if min(page.imagewidth, page.imagelength, *segment_size(page)) < 1:
            raise ValueError("empty")
        end = max(map(sum, zip(page.dataoffsets, page.databytecounts, strict=True)), default=0)
        if end > size:
            found = f"is truncated or damaged: it has {size} bytes, its directory tells of {end}"
            raise InputError(self._path, found, COPY_AGAIN)

    def region(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """As the contract says."""
        page = self.pages[level]
        samples = page.samplesperpixel
        result = np.full((height, width, samples), 255, dtype=np.uint8)
        with _Source(self._path) as source:
            for index in _indices(page, x, y, width, height):
                piece = self._segments.get((level, index), partial(self._decoded, source, level, index))
                if piece.pixels is None:
                    continue  # stays white
                y0, y1 = max(y, piece.top), min(y + height, piece.top + piece.pixels.shape[0])
                x0, x1 = max(x, piece.left), min(x + width, piece.left + piece.pixels.shape[1])
                part = piece.pixels[y0 - piece.top : y1 - piece.top, x0 - piece.left : x1 - piece.left]
                channels = slice(None) if part.shape[2] == samples else slice(piece.plane, piece.plane + 1)
                result[y0 - y : y1 - y, x0 - x : x1 - x, channels] = part
        return _rgb(result, page.extrasamples)

    def _decoded(self, source: _Source, level: int, index: int) -> Segment:
        page = self.pages[level]
        count = page.databytecounts[index]
        data = source.read(page.dataoffsets[index], count) if count else None  # without bytes it is not stored
        cut = data is not None and len(data) < count  # a decoder would fill the rest with grey, without a word
        try:
            if cut:
                raise ValueError("its bytes are missing")
            return self._decoders[level](data, index)
        except BROKEN as error:
            _, top, left = place(page, index)
            width, height = segment_size(page)
            found = f"is {'truncated' if cut else 'damaged'} at level {level}"
            where = f"x {left} to {left + width}, y {top} to {top + height} px"
            raise InputError(self._path, f"{found}, {where} ({error})", COPY_AGAIN) from None

    def close(self) -> None:
        """Forgets the pixels."""
        self._segments.clear()


class _Source:
    """The file, opened by the first read and closed with the block: what is in the cache needs no file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stream: BinaryIO | None = None

    def read(self, offset: int, count: int) -> bytes:
        """As many bytes as are there, up to `count`; raises InputError for a file that has gone or cannot be read."""
        try:
            if self._stream is None:
                self._stream = self._path.open("rb")
            self._stream.seek(offset)
            return self._stream.read(count)
        except OSError as error:
            raise InputError(self._path, f"can no longer be read ({error.strerror})", GONE) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._stream is not None:
            self._stream.close()


def _indices(page: Any, x: int, y: int, width: int, height: int) -> Iterator[int]:
    """Indices of the strips or tiles that meet the rectangle, plane by plane where planes are stored apart."""
    wide, high = segment_size(page)
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
