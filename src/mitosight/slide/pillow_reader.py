"""PNG and JPEG, by Pillow: decoded once, on the first read, and kept."""

from __future__ import annotations

import threading
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mitosight.errors import InputError
from mitosight.slide.reader import ACCEPTED, COPY_AGAIN, RGB_ONLY, on_white
from mitosight.slide.resolution import Resolution

_BROKEN = (OSError, SyntaxError, ValueError, EOFError)  # Pillow raises SyntaxError for a broken chunk of PNG


class PillowReader:
    """One PNG or JPEG; greyscale, 16 bit and CMYK are refused, palettes are looked up, transparency becomes white.

    The whole image stays in memory while the reader is open (3 bytes for each px). Orientation tags of cameras
    are not applied: annotations are in px of the file.
    """

    name = "pillow"
    bounds_px: tuple[int, int, int, int] | None = None
    tile_sizes: tuple[tuple[int, int] | None, ...] = (None,)

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()  # the image is decoded once, whoever asks
        self._pixels: NDArray[np.uint8] | None = None
        with self._opened() as image:
            if image.mode not in ("RGB", "RGBA", "P", "PA") or _sixteen_bit(path):
                bits = "16-bit " if _sixteen_bit(path) else ""
                raise InputError(path, f"holds {bits}{image.mode} pixels", RGB_ONLY)
            self.level_sizes: tuple[tuple[int, int], ...] = (image.size,)
            self.resolution = _resolution(image)

    def region(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """As the contract says; `level` is 0."""
        with self._lock:
            if self._pixels is None:
                self._pixels = self._decoded()
            pixels = self._pixels
        return pixels[y : y + height, x : x + width].copy()

    def _opened(self) -> Image.Image:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return Image.open(self._path, formats=("PNG", "JPEG"))
        except Image.DecompressionBombError:
            most = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 10**6
            raise InputError(
                self._path, f"holds more than {most} million px", "PNG and JPEG end there: save it as tiled TIFF"
            ) from None
        except _BROKEN:
            raise InputError(self._path, "is damaged or not a PNG or JPEG image", ACCEPTED) from None

    def _decoded(self) -> NDArray[np.uint8]:
        with self._opened() as image:
            try:
                if image.mode in ("RGBA", "PA") or "transparency" in image.info:
                    rgba = np.array(image.convert("RGBA"))
                    return on_white(rgba[..., :3], rgba[..., 3])
                return np.array(image.convert("RGB"))
            except _BROKEN as error:
                raise InputError(self._path, f"is truncated or damaged ({error})", COPY_AGAIN) from None

    def close(self) -> None:
        """Forgets the pixels."""
        self._pixels = None


def _sixteen_bit(path: Path) -> bool:
    """Whether the header of a PNG says 16 bit: Pillow would open its RGB as 8 bit without a word."""
    with open(path, "rb") as stream:
        header = stream.read(25)
    return header.startswith(b"\x89PNG") and header[24] == 16


def _resolution(image: Image.Image) -> Resolution | None:
    try:
        x_dpi, y_dpi = (float(value) for value in image.info["dpi"])
        return Resolution(25400 / x_dpi, 25400 / y_dpi, f"{image.format} resolution ({x_dpi:g} dpi)")
    except (KeyError, ValueError, TypeError, ZeroDivisionError):
        return None
