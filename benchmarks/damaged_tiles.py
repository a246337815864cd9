"""How much damage to a JPEG tile is noticed: by the strict decoder of tiled TIFF and SVS, and by OpenSlide.

    python benchmarks/damaged_tiles.py

One tile of a noisy TIFF is spoilt at random places in its second third, `TRIES` times for each kind of damage. Counted
are the readings that raise; the others give a picture that is wrong without a word.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from mitosight.errors import InputError
from mitosight.slide import write_tiff
from mitosight.slide.openslide_reader import OpenSlideReader
from mitosight.slide.tifffile_reader import TifffileReader

TRIES = 40
TILE, TILE_PX = 5, 256  # the index of the tile: second row, second column

Damage = Callable[[bytearray, int, np.random.Generator], None]


def zeros(count: int) -> Damage:
    """Zero bytes, as holes in a copied file have them."""

    def spoil(data: bytearray, at: int, _: np.random.Generator) -> None:
        data[at : at + count] = bytes(min(count, len(data) - at))

    return spoil


def random_bytes(data: bytearray, at: int, rng: np.random.Generator) -> None:
    """64 bytes of anything."""
    data[at : at + 64] = rng.bytes(64)


def one_bit(data: bytearray, at: int, rng: np.random.Generator) -> None:
    """One bit turned."""
    data[at] ^= 1 << int(rng.integers(8))


DAMAGES: dict[str, Damage] = {
    "all that follows is zero": zeros(2**20),
    "4096 zero bytes": zeros(4096),
    "1024 zero bytes": zeros(1024),
    "512 zero bytes": zeros(512),
    "64 random bytes": random_bytes,
    "one bit turned": one_bit,
}


def draw(path: Path) -> tuple[int, int]:
    """A TIFF of blurred colours and noise; gives offset and size in bytes of the tile."""
    rng = np.random.default_rng(0)
    small = rng.integers(60, 250, (80, 80, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(small).resize((800, 800), Image.Resampling.BICUBIC))
    image = np.clip(smooth + rng.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8)
    write_tiff(path, image, 0.25, tile_px=TILE_PX)
    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        return page.dataoffsets[TILE], page.databytecounts[TILE]


def raises(reader: TifffileReader | OpenSlideReader) -> bool:
    """Whether reading the tile is an error."""
    try:
        reader.region(0, TILE_PX, TILE_PX, TILE_PX, TILE_PX)
    except InputError:
        return True
    finally:
        reader.close()
    return False


def main() -> None:
    """Prints the table of docs/slides.md."""
    rng = np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.tiff"
        offset, count = draw(path)
        whole = path.read_bytes()
        print(f"a tile of {count} bytes, {TRIES} tries\n| damage | simplejpeg | OpenSlide |\n|---|---|---|")
        for name, damage in DAMAGES.items():
            noticed = np.zeros(2, int)
            for _ in range(TRIES):
                tile = bytearray(whole[offset : offset + count])
                damage(tile, int(rng.integers(count // 3, 2 * count // 3)), rng)
                path.write_bytes(whole[:offset] + tile + whole[offset + count :])
                noticed += raises(TifffileReader(path)), raises(OpenSlideReader(path))
            print(f"| {name} | {noticed[0]} | {noticed[1]} |")


if __name__ == "__main__":
    main()
