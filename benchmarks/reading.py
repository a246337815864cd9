"""How fast tiles are read by OpenSlide, and by the reader that `Slide` chooses, from the same file.

    python benchmarks/reading.py --out reading.json SLIDE.svs ...

A drawn region of 7215 x 5412 px, JPEG-tiled by this package, is timed first, then the files named. Rounds of the two
readers take turns, so that other work on the machine weighs on both; each round opens the file anew, with an empty
cache. `walk` goes along the rows as detection does, tiles of 1024 px that overlap by 64; `random` takes as many at
random places, the same for both. Mpx are those of the tiles read. CPU seconds are those of the process, all threads.

With --halves, instead: what half the resolution costs where the file has no level for it, for the JPEG tiles of level 0
one by one: decoded whole; decoded whole and shrunk by the bicubic filter that `Slide.read` uses; decoded by halves,
which JPEG allows; and how far the last two are apart.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import simplejpeg
import tifffile
from numpy.typing import NDArray
from PIL import Image

from mitosight import phantom
from mitosight.outputs import versions, write_json
from mitosight.slide import Slide, write_tiff
from mitosight.slide.decoding import complete
from mitosight.slide.openslide_reader import OpenSlideReader
from mitosight.slide.reader import Reader, open_reader
from mitosight.tiles import grid

SIZE, MPP = (7215, 5412), 0.23  # px; a region of MIDOG 2021 on its first scanner
TILE_PX, OVERLAP_PX = 1024, 64
PART_PX = 1024  # drawn, and mirrored to fill the region
READERS: dict[str, Callable[[Path], Reader]] = {"openslide": OpenSlideReader, "chosen": open_reader}


def draw(folder: Path) -> Path:
    """A JPEG-tiled region of `SIZE` without a pyramid; 256 px tiles, quality 90, chroma halved."""
    side_um = (PART_PX + 2) * 0.25
    region = phantom.write_pairs(folder, [("phantom-A", 1)], (side_um, side_um))[0]
    with Slide(folder / "images" / region.file_name) as slide:
        part = slide.read((0, 0), (PART_PX, PART_PX))
    pair = np.concatenate([part, part[:, ::-1]], axis=1)
    four = np.concatenate([pair, pair[::-1]])
    path = folder / "region.tiff"
    repeats = [-(-side // (2 * PART_PX)) for side in SIZE]
    write_tiff(path, np.tile(four, (repeats[1], repeats[0], 1))[: SIZE[1], : SIZE[0]], MPP)
    return path


def corners(size: tuple[int, int], order: str) -> list[tuple[int, int]]:
    """(x, y) of the tiles to read, in px of level 0."""
    walk = [(tile.x_px, tile.y_px) for tile in grid(*size, TILE_PX, OVERLAP_PX)]
    if order == "walk":
        return walk
    rng = np.random.default_rng(0)
    return [(int(x), int(y)) for x, y in rng.integers(0, np.array(size) - TILE_PX + 1, (len(walk), 2))]


def timed(reader: Reader, places: list[tuple[int, int]], threads: int) -> tuple[float, float]:
    """Wall and CPU seconds for the tiles at `places`, read by some threads at once."""
    wall, cpu = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(lambda place: reader.region(0, *place, TILE_PX, TILE_PX), places):
            pass
    return time.perf_counter() - wall, time.process_time() - cpu


def compare(path: Path, rounds: int, threads: int) -> list[dict[str, Any]]:
    """Medians over the rounds for each order and reader."""
    rows = []
    for order in ("walk", "random"):
        seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in READERS}
        for _ in range(rounds):
            for name, opened in READERS.items():
                reader = opened(path)
                places = corners(reader.level_sizes[0], order)
                seconds[name].append(timed(reader, places, threads))
                reader.close()
        mpx = len(places) * TILE_PX**2 / 1e6
        for name, taken in seconds.items():
            wall, cpu = (median(column) for column in zip(*taken, strict=True))
            kind = open_reader(path).name if name == "chosen" else name
            speed = {"wall_mpx_per_s": mpx / wall, "cpu_mpx_per_s": mpx / cpu}
            rows.append({"file": path.name, "order": order, "reader": kind, "threads": threads, **speed})
    return rows


def halves(path: Path, rounds: int) -> dict[str, Any]:
    """Mpx of the source for each second of CPU, medians; and the differences in grey values of 0 to 255."""
    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        source = page.parent.filehandle
        stored = [
            (source.seek(o), source.read(n))[1] for o, n in zip(page.dataoffsets, page.databytecounts, strict=True)
        ]
        tiles = [complete(data, page.jpegtables, page.photometric) for data in stored]
    size = page.tilewidth // 2, page.tilelength // 2

    def shrunk(tile: bytes) -> NDArray[np.uint8]:
        return np.asarray(Image.fromarray(simplejpeg.decode_jpeg(tile)).resize(size, Image.Resampling.BICUBIC))

    def by_halves(tile: bytes) -> NDArray[np.uint8]:
        found: NDArray[np.uint8] = simplejpeg.decode_jpeg(tile, min_width=size[0], min_height=size[1], min_factor=1)
        return found

    ways = {"whole": simplejpeg.decode_jpeg, "shrunk": shrunk, "by halves": by_halves}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            begun = time.process_time()
            for tile in tiles:
                way(tile)
            seconds[name].append(time.process_time() - begun)
    mpx = len(tiles) * page.tilewidth * page.tilelength / 1e6
    apart = [np.abs(shrunk(tile).astype(int) - by_halves(tile)) for tile in tiles]
    difference = {"mean": float(np.mean(apart)), "largest": int(np.max(apart))}
    return {"file": path.name, **{name: mpx / median(taken) for name, taken in seconds.items()}, **difference}


def main() -> None:
    """Prints a line for each file, order and reader, and writes them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("slides", nargs="*", type=Path, help="pyramids of level 0 at least 1024 px wide and high")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--halves", action="store_true")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = []
        for path in (draw(Path(folder)), *arguments.slides):
            if arguments.halves:
                rows.append(halves(path, arguments.rounds))
            else:
                rows += compare(path, arguments.rounds, arguments.threads)
    for row in rows:
        if arguments.halves:
            print(row)
            continue
        speed = f"{row['wall_mpx_per_s']:6.0f} Mpx/s, {row['cpu_mpx_per_s']:6.0f} Mpx/s of CPU"
        print(f"{row['file']}, {row['order']}, {row['reader']}, {row['threads']} threads: {speed}")
    if arguments.out is not None:
        write_json(arguments.out, {"rounds": arguments.rounds, "versions": versions(), "rows": rows})


if __name__ == "__main__":
    main()
