"""Speed of a model's network in each runtime, in turns on one machine, and how the points agree with torch fp32.

    python benchmarks/runtimes.py MODEL IMAGE [IMAGE ...] [--tile-px 512] [--batch 4] [--rounds 5] [--calibrate N]

Tiles are cut from the images, beginning at the middle of each; with --batch the network gets as many at a time. int8
is calibrated on N further tiles (0: left out). Prints tiles a second, the ratio to torch fp32, and the agreement.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mitosight import checkpoint, modelfile
from mitosight.colours import changed
from mitosight.dataset import standard_table
from mitosight.errors import UsageError
from mitosight.methods.detector import Detector
from mitosight.outputs import versions, write_json
from mitosight.runtime import NAMES, TOLERANCE, cache, choice, export
from mitosight.runtime.agreement import compare, inputs_of, judged_from
from mitosight.runtime.files import precision_of
from mitosight.slide import Slide


def tiles_of(paths: list[Path], side_px: int, count: int, detector: Detector) -> list[NDArray[np.uint8]]:
    """`count` tiles (side, side, 3), row by row from the middle third of each image on, as the detector sees them."""
    found: list[NDArray[np.uint8]] = []
    for path in paths:
        with Slide(path, mpp=detector.mpp) as slide:
            table = standard_table(slide) if detector.standardised else None
            here = [
                (x, y)
                for y in range(slide.height_px // 3, slide.height_px - side_px + 1, side_px)
                for x in range(slide.width_px // 3, slide.width_px - side_px + 1, side_px)
            ]
            found += [changed(slide.read(at, (side_px, side_px)), table) for at in here[: -(-count // len(paths))]]
    return found[:count]


def opened(detector: Detector, file: Path, tiles: list[NDArray[np.uint8]], folder: Path) -> dict[str, Detector]:
    """The detector in each runtime that can be opened here."""
    asked = choice.asked(detector, file, cache.folder("benchmark", folder), tiles)
    if tiles:
        header = modelfile.read_header(file)
        export(detector, header, choice.kept_file(asked.place, "openvino-int8"), "openvino-int8", calibrate=tiles)
    found = {"torch": detector}
    for name in NAMES[1:-1]:
        try:
            found[name] = choice.unchecked(asked, name)
        except UsageError as error:
            print(f"{name}: {error}")
    return found


def main() -> None:
    """Times all runtimes in turns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument("--tile-px", type=int, default=512)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tiles", type=int, default=12, help="that are compared")
    parser.add_argument("--calibrate", type=int, default=16)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    file = modelfile.locate(given.model)
    detector = checkpoint.load(file)
    every = tiles_of(given.images, given.tile_px, given.tiles + given.calibrate, detector)
    shown, others = every[: given.tiles], every[given.tiles :]
    with tempfile.TemporaryDirectory() as folder:
        runtimes = opened(detector, file, others[: given.calibrate], Path(folder))
        seen = torch.cat(inputs_of(detector, shown))[: given.batch]
        best = dict.fromkeys(runtimes, float("inf"))
        with torch.inference_mode():
            for turn in range(given.rounds + 1):  # the first warms up
                for name, runtime in runtimes.items():
                    network = getattr(runtime, detector.converted)
                    started = time.perf_counter()
                    network(seen)
                    best[name] = min(best[name], time.perf_counter() - started if turn else np.inf)
        print(f"{cache.processor()}; {torch.get_num_threads()} threads; {len(seen)} images of {seen.shape[-1]} px")
        result: dict[str, Any] = {"processor": cache.processor(), "threads": torch.get_num_threads(), "runtimes": {}}
        for name, runtime in runtimes.items():
            tolerance = TOLERANCE[precision_of(name)]
            least = judged_from(detector, precision_of(name), tolerance)
            told = "" if name == "torch" else compare(detector, runtime, shown, least).told()
            row = {"per_s": len(seen) / best[name], "ratio": best["torch"] / best[name], "told": told}
            result["runtimes"][name] = row
            print(f"{name:14} {row['per_s']:8.2f}/s  {row['ratio']:6.2f} x  {told}", flush=True)
    if given.json:
        write_json(given.json, {**result, "versions": versions()})


if __name__ == "__main__":
    main()
