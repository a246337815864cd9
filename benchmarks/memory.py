"""Peak memory of `mitosight detect` on a large pyramid, and on one four times as large.

    python benchmarks/memory.py --work runs/memory --model runs/NAME/model --json memory.json -- --runtime auto

Writes two slides (once, 40,000 and 80,000 px a side): JPEG-tiled pyramids with a disc of drawn tissue, one tile of it
repeated, on glass; both hold the same share of tissue, so that four times as much of it is searched. `mitosight detect`
then goes through the first, so that its runtime is chosen, and through each again in a fresh process, with the options
after `--`; its highest resident memory is the system's own count, libraries included. Another process loads the
libraries and the model alone, to say what share that is.
"""

from __future__ import annotations

import argparse
import itertools
import math
import multiprocessing
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import fresh

from mitosight.outputs import whole, write_json

SIDES_PX = (40_000, 80_000)
LIMIT_MB = 1500.0
GROWTH = 1.05  # of the larger slide's peak over the smaller's: what the system's count varies by from run to run
MPP, QUALITY, TILE_PX = 0.25, 70, 256
BLOCK_PX = 2048  # of drawn tissue, repeated; a power of two of tiles, so that its pyramid repeats as well
GLASS = 243
TISSUE_SHARE = 0.05  # 5 mm² and 20 mm² at the sides above
LOAD = "import mitosight.cohort, sys; from mitosight import checkpoint, modelfile; "
LOAD += "from pathlib import Path; checkpoint.load(modelfile.locate(Path(sys.argv[1])))"


@dataclass(frozen=True)
class Drawing:
    """A square slide of `side_px` with a disc of tissue in the middle, `share` of its area; tiles are JPEG bytes."""

    side_px: int
    share: float

    def write(self, path: Path) -> None:
        """Writes the pyramid tile by tile, each distinct one encoded once: memory does not grow with the slide."""
        import tifffile

        blocks = _blocks()
        with whole(path) as temporary, tifffile.TiffWriter(temporary, bigtiff=True) as writer:
            for level in itertools.count():
                side = self.side_px >> level
                per_cm = 1e4 / (MPP * 2**level)
                writer.write(
                    self._tiles(blocks, level),
                    shape=(side, side, 3),
                    dtype="uint8",
                    tile=(TILE_PX, TILE_PX),
                    photometric="ycbcr",
                    subsampling=(2, 2),
                    compression="jpeg",
                    resolution=(per_cm, per_cm),
                    resolutionunit="CENTIMETER",
                    subfiletype=int(level > 0),
                    metadata=None,
                )
                if side <= 2 * TILE_PX or 1 << level == TILE_PX:
                    return

    def _tiles(self, blocks: list[Any], level: int) -> Iterator[bytes]:
        """Row by row. The disc is made of whole tiles of level 0, which coarser levels show smaller."""
        import numpy as np

        block = blocks[min(level, len(blocks) - 1)]
        repeats = block.shape[0] // TILE_PX
        glass = np.full((TILE_PX, TILE_PX, 3), GLASS, np.uint8)
        encoded = cache(lambda row, column: _encoded(_part(block, row, column)))  # tissue without glass, and glass
        encoded_glass = _encoded(glass)
        across = math.ceil((self.side_px >> level) / TILE_PX)
        for row, column in itertools.product(range(across), repeat=2):
            inside = self._inside(row, column, level)
            if inside.all():
                yield encoded(row % repeats, column % repeats)
            elif inside.any():
                mask = inside.repeat(TILE_PX >> level, axis=0).repeat(TILE_PX >> level, axis=1)[..., None]
                yield _encoded(np.where(mask, _part(block, row % repeats, column % repeats), glass))
            else:
                yield encoded_glass

    def _inside(self, row: int, column: int, level: int) -> Any:
        """For each tile of level 0 that a tile of `level` shows, whether its centre is in the disc."""
        import numpy as np

        centre = (np.arange(1 << level) + 0.5) * TILE_PX - self.side_px / 2
        y, x = (centre + (n << level) * TILE_PX for n in (row, column))
        return np.hypot(y[:, None], x) < self.side_px * math.sqrt(self.share / math.pi)


def _part(block: Any, row: int, column: int) -> Any:
    """A tile of the drawn tissue."""
    import numpy as np

    y, x = row * TILE_PX, column * TILE_PX
    return np.ascontiguousarray(block[y : y + TILE_PX, x : x + TILE_PX])


def _blocks() -> list[Any]:
    """The drawn tissue at level 0, 1, ... down to one tile; coarser levels repeat the last."""
    import numpy as np
    from PIL import Image

    from mitosight import phantom

    side_um = BLOCK_PX * MPP
    tissue = phantom.draw_tissue(1, (side_um, side_um), 20.0, 60.0)
    picture = Image.fromarray(phantom.scan(tissue, phantom.SCANNERS["phantom-A"], 1)[0])
    return [np.asarray(picture.reduce(2**k)) for k in range(int(math.log2(BLOCK_PX // TILE_PX)) + 1)]


def _encoded(tile: Any) -> bytes:
    import imagecodecs

    return bytes(imagecodecs.jpeg8_encode(tile, QUALITY, colorspace="rgb", outcolorspace="ycbcr", subsampling="420"))


def written(work: Path, side_px: int, share: float) -> Path:
    """The slide in `work`, written where it is not there yet, by a process of its own: this one stays small.

    Its own size counts in the memory of a process that it starts, as the system hands that number down.
    """
    path = work / f"slide-{side_px}-{share:g}.tiff"
    if not path.is_file():
        work.mkdir(parents=True, exist_ok=True)
        process = multiprocessing.get_context("spawn").Process(target=Drawing(side_px, share).write, args=(path,))
        process.start()
        process.join()
        if process.exitcode:
            raise SystemExit(f"{path} could not be written")
    return path


def one_run(slide: Path, side_px: int, given: argparse.Namespace) -> dict[str, Any]:
    """Peak memory, seconds and size of one slide."""
    out = given.work / "found"
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "mitosight", "detect", str(slide), "--out", str(out), "--model", str(given.model)]
    outcome = fresh.run([*command, *given.options], given.threads)
    shutil.rmtree(out)
    return {
        "side_px": side_px,
        "file_mb": round(slide.stat().st_size / 1e6, 1),
        "tissue_mm2": round((side_px * MPP / 1000) ** 2 * given.tissue_share, 2),
        "peak_mb": round(outcome.peak_mb, 1),
        "seconds": round(outcome.seconds, 1),
        "disturbed": outcome.disturbed,
    }


def main() -> None:
    """Measures, prints, writes JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of the slides that are written")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--sides", type=int, nargs="+", default=SIDES_PX, metavar="PX", help="the first is compared to")
    parser.add_argument("--tissue-share", type=float, default=TISSUE_SHARE)
    parser.add_argument("--threads", type=int, default=fresh.cores())
    parser.add_argument("--json", type=Path)
    parser.add_argument("options", nargs="*", help="of mitosight detect, after --")
    given = parser.parse_args()
    one_run(written(given.work, given.sides[0], given.tissue_share), given.sides[0], given)  # checks the runtimes, once
    libraries = fresh.run([sys.executable, "-c", LOAD, str(given.model)], given.threads)
    runs = [one_run(written(given.work, side, given.tissue_share), side, given) for side in given.sides]
    peaks = [run["peak_mb"] for run in runs]
    result = {
        "machine": fresh.machine(given.threads),
        "options": given.options,
        "libraries_and_model_mb": round(libraries.peak_mb, 1),
        "runs": runs,
        "limit_mb": LIMIT_MB,
        "within_limit": max(peaks) < LIMIT_MB,
        "largest_over_first": round(peaks[-1] / peaks[0], 3),
        "grows": peaks[-1] > GROWTH * peaks[0],
    }
    for run in runs:
        print(f"{run['side_px']} px, {run['tissue_mm2']} mm² of tissue: {run['peak_mb']} MB, {run['seconds']} s")
    print(f"libraries and model alone: {result['libraries_and_model_mb']} MB")
    if given.json:
        write_json(given.json, result)


if __name__ == "__main__":
    main()
