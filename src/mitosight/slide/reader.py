"""The contract of a reader, and the choice of one by what the file holds, not by its name."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mitosight.errors import InputError
from mitosight.slide.resolution import Resolution

SUFFIXES = (
    *(".svs", ".ndpi", ".mrxs", ".scn", ".dcm", ".bif", ".svslide", ".vms", ".vmu"),
    *(".tif", ".tiff", ".png", ".jpg", ".jpeg"),
)
ACCEPTED = "accepted are SVS, NDPI, MRXS, SCN, DICOM, TIFF, PNG and JPEG images"
RGB_ONLY = "accepted are 8-bit RGB images (no greyscale, no 16 bit, no CMYK)"
COPY_AGAIN = "copy the file again"
GONE = "see that it stays where it is"
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PICTURE = (b"\x89PNG", b"\xff\xd8\xff")


class Reader(Protocol):
    """One open image file.

    Attributes:
        name: of the library that reads it.
        level_sizes: (width, height) in px of each level, level 0 first.
        resolution: what the file says of its µm per px at level 0, None where it says nothing.
        bounds_px: (x, y, width, height) of the scanned part in level-0 px, None where the file says nothing.
        tile_sizes: for each level (width, height) in px of the tiles or strips that are decoded at once, None where
            that is the whole image.
    """

    name: str
    level_sizes: tuple[tuple[int, int], ...]
    resolution: Resolution | None
    bounds_px: tuple[int, int, int, int] | None
    tile_sizes: tuple[tuple[int, int] | None, ...]

    def region(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """(height, width, 3) RGB, the caller's own; the rectangle is in px of `level` and lies within it.

        Several threads may read at once.

        Raises:
            InputError: the file is truncated or damaged there, or can no longer be read.
        """

    def close(self) -> None:
        """Gives the file back."""


def open_reader(path: Path) -> Reader:
    """Opens `path`: PNG and JPEG by Pillow, TIFF by tifffile where it gives OpenSlide's pixels, the rest by OpenSlide.

    OME-TIFF goes to tifffile even where OpenSlide would take it as plain tiled TIFF, because OpenSlide sees
    neither its pyramid nor its physical size. Tiled TIFF and SVS have OpenSlide's levels and µm per px either way.

    Raises:
        InputError: the file is missing, empty, damaged, or no image of the accepted kinds.
    """
    magic = _magic(path)
    if magic.startswith(_PICTURE) and path.suffix.lower() != ".mrxs":  # the .mrxs file itself is a JPEG
        from mitosight.slide.pillow_reader import PillowReader

        return PillowReader(path)
    from mitosight.slide.openslide_reader import OpenSlideReader, vendor

    found = vendor(path)
    if found is None and not magic.startswith(_TIFF):
        raise InputError(path, "is not an image that can be read", ACCEPTED)
    if found not in (None, "generic-tiff", "aperio"):
        return OpenSlideReader(path)
    from mitosight.slide.same_pixels import faster
    from mitosight.slide.tifffile_reader import TifffileReader

    if found == "aperio":
        return faster(OpenSlideReader(path))
    plain = TifffileReader(path)  # also for the tiled TIFF of OpenSlide, which would turn 16 bit and grey into RGB
    if found is None and plain.is_vendor:  # OpenSlide knows these formats when they are whole
        raise InputError(path, "is a truncated or damaged slide", COPY_AGAIN)
    if found is None or plain.is_ome:
        return plain
    try:
        tiled = OpenSlideReader(path)
    except InputError:
        return plain
    return faster(tiled)


def _magic(path: Path) -> bytes:
    try:
        with open(path, "rb") as stream:
            magic = stream.read(8)
    except FileNotFoundError:
        raise InputError(path, "is not there", ACCEPTED) from None
    except IsADirectoryError:
        raise InputError(path, "is a folder", ACCEPTED) from None
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror})", ACCEPTED) from None
    if not magic:
        raise InputError(path, "is empty", ACCEPTED)
    return magic


def on_white(rgb: NDArray[np.uint8], alpha: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(h, w, 3) RGB over white, by straight `alpha` (h, w)."""
    if alpha.min(initial=255) == 255:
        return np.ascontiguousarray(rgb)
    weight = alpha[..., None].astype(np.uint16)
    mixed = (rgb * weight + np.uint16(255) * (np.uint16(255) - weight) + np.uint16(127)) // np.uint16(255)
    return mixed.astype(np.uint8)
