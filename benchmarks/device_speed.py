"""mm² that a model searches in a second on a CPU and on a GPU, in each runtime, and where the time goes.

    python benchmarks/device_speed.py MODEL --work runs/speed --device cpu --device cuda --runtime torch \\
        --runtime torch-bf16 --batch 1 --batch 16 --json device_speed.json

Draws a region (once) as a JPEG-tiled TIFF. "end to end" is `inference.detect` of all of it: reading, copying, network
and decoding, by threads. "network" is the network alone, on tiles that are there already. All take turns in each round,
after one that does not count; medians are told. Parts are timed one after the other, of one batch: read, copy (bytes
to numbers on the device), network, decode. Besides the runtimes of `mitosight detect` there are, on a GPU and for the
comparison alone, `torch-tf32` (torch's own default), `torch-bf16-eager` (no CUDA graphs) and `torch-bf16-compiled`
(torch.compile, which takes a minute first). The points of each on a GPU are compared with those of torch fp32 on
the CPU.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from timeit import timeit
from typing import Any

import fresh
import numpy as np
import torch
from region_speed import MPP, drawn

from mitosight import checkpoint, inference, modelfile
from mitosight.device import choose, exact, placed
from mitosight.inference.searching import as_images
from mitosight.methods.detector import Detector
from mitosight.outputs import write_json
from mitosight.runtime import NAMES, TOLERANCE, cache, choice
from mitosight.runtime.agreement import compare, judged_from
from mitosight.runtime.conversion import with_runner
from mitosight.runtime.files import precision_of
from mitosight.runtime.runners import HalfTorch, Runner
from mitosight.slide import Slide

TF32, EAGER, COMPILED = "torch-tf32", "torch-bf16-eager", "torch-bf16-compiled"
RUNTIMES = (*NAMES[:-1], TF32, EAGER, COMPILED)
COMPARED = 4  # tiles, by which points are compared; a CPU takes a while for them
PARTS = ("read", "copy", "network", "decode")


@dataclass(frozen=True)
class Rival:
    """A detector on a device in a runtime, and the tiles it is given at a time."""

    detector: Detector
    device: torch.device
    runtime: str
    batch: int

    @property
    def name(self) -> str:
        return f"{self.device.type} {self.runtime} batch {self.batch}"

    def network(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """What the network gives, when it is there."""
        with torch.inference_mode(), exact():
            maps: tuple[torch.Tensor, ...] = self.detector.network(images)
            finish(self.device)
        return maps


def finish(device: torch.device) -> None:
    """Waits for a GPU: before that no clock means anything."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def tf32(network: Runner) -> Runner:
    """A network as torch computes it where nobody says otherwise; `exact` is open around it."""

    def computed(images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        convolutions: Any = torch.backends.cudnn.conv
        convolutions.fp32_precision = "tf32"
        maps = network(images)
        convolutions.fp32_precision = "ieee"
        return maps

    return computed


def opened(file: Path, device: torch.device, runtime: str) -> Detector:
    """The detector of a model file, unchecked."""
    detector = placed(checkpoint.load(file), device)
    if runtime == "torch":
        return detector
    if runtime == TF32:
        return with_runner(detector, tf32(getattr(detector, detector.converted)), {"name": runtime})
    if runtime not in (EAGER, COMPILED):
        return choice.unchecked(choice.asked(detector, file, cache.folder("benchmark", file.parent), []), runtime)
    half = HalfTorch(getattr(detector, detector.converted), device)
    half.compute = half.half if runtime == EAGER else torch.compile(half.half)
    return with_runner(detector, half, {"name": runtime})


def tiles_of(covering: inference.Covering, count: int) -> list[np.ndarray]:
    """`count` tiles from all over the region, some of them twice where it has fewer."""
    chosen = np.linspace(0, len(covering.tiles) - 1, count).round().astype(int)
    return [covering.read(covering.tiles[k]) for k in chosen]


def parts_of(rival: Rival, covering: inference.Covering) -> dict[str, float]:
    """Seconds of each part for one batch, one after the other: read, copy, network, decode."""
    found: dict[str, float] = {}
    clock = time.perf_counter()

    def lap(name: str) -> None:
        nonlocal clock
        finish(rival.device)
        found[name] = time.perf_counter() - clock
        clock = time.perf_counter()

    pixels = tiles_of(covering, rival.batch)
    lap("read")
    with torch.inference_mode():
        images = as_images(pixels, rival.device)
        lap("copy")
        maps = rival.network(images)
        lap("network")
        side = images.shape[-1]
        rival.detector.decode(maps, (side, side))
        lap("decode")
    return found


def rounds_of(
    rivals: Sequence[Rival], slide: Slide, rounds: int, slow_rounds: int, tile_px: int | None
) -> dict[str, dict[str, list[Any]]]:
    """Seconds of each rival, all in turns: "network" of one batch, "parts" of one, "whole" of the region.

    The first round does not count. A CPU takes part in the first `slow_rounds` of the others only.
    """
    found: dict[str, dict[str, list[Any]]] = {r.name: {"network": [], "parts": [], "whole": []} for r in rivals}
    for turn in range(rounds + 1):
        for rival in rivals:
            if rival.device.type == "cpu" and turn > slow_rounds:
                continue
            covering = inference.cover(slide, rival.detector, tile_px)
            images = as_images(tiles_of(covering, rival.batch), rival.device)
            for _ in range(2 if turn == 0 else 0):  # a CUDA graph is made the second time
                rival.network(images)
            took = {
                "network": timeit(lambda r=rival, i=images: r.network(i), number=1),
                "parts": parts_of(rival, covering),
            }
            if rival.runtime in NAMES and (turn or rival.device.type != "cpu"):
                search = {"tile_px": tile_px, "batch": rival.batch}
                took["whole"] = timeit(lambda r=rival, s=search: inference.detect(slide, r.detector, **s), number=1)
            if turn:
                for name, value in took.items():
                    found[rival.name][name].append(value)
    return found


def row_of(rival: Rival, times: dict[str, list[Any]], tile_mm2: float, area_mm2: float) -> dict[str, Any]:
    """What is told of a rival; `tile_mm2` is what one tile owns of the region, on the average."""
    whole = median(times["whole"]) if times["whole"] else None
    batch_mm2 = tile_mm2 * rival.batch
    return {
        "device": rival.device.type,
        "runtime": rival.runtime,
        "batch": rival.batch,
        "network_mm2_per_s": batch_mm2 / median(times["network"]),
        "end_to_end_mm2_per_s": None if whole is None else area_mm2 / whole,
        "ms_per_mm2": {p: 1000 * median(t[p] for t in times["parts"]) / batch_mm2 for p in PARTS},
        "seconds": times,
    }


def agreement_of(plain: Detector, rival: Rival, tiles: Sequence[np.ndarray]) -> dict[str, Any]:
    """How the points of a rival lie to those of torch fp32 on the CPU."""
    precision = "bf16" if "bf16" in rival.runtime else precision_of(rival.runtime.removesuffix("-tf32"))
    tolerance = TOLERANCE[precision]
    found = compare(plain, rival.detector, tiles, judged_from(plain, precision, tolerance))
    return {"agrees": found.within(tolerance), "told": found.told(), "maps": found.maps, "tolerance": tolerance}


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """The whole benchmark, as its JSON has it."""
    file, size = modelfile.locate(given.model), tuple(given.size)
    devices = [choose(name) for name in given.device]
    pairs = list(itertools.product(devices, given.runtime))
    here = [(d, r) for d, r in pairs if d.type == "cuda" or r not in (TF32, EAGER, COMPILED)]
    detectors = {pair: opened(file, *pair) for pair in here}
    rivals = [Rival(detectors[pair], *pair, batch) for pair in here for batch in given.batch]
    area_mm2 = size[0] * size[1] * (MPP / 1000) ** 2
    given.work.mkdir(parents=True, exist_ok=True)
    with Slide(drawn(given.work, size)) as slide:
        plain = checkpoint.load(file)
        covering = inference.cover(slide, plain, given.tile_px)
        tiles = tiles_of(covering, COMPARED)
        unlike = {pair: r for r in rivals if (pair := (r.device, r.runtime)) != (torch.device("cpu"), "torch")}
        agreements = {f"{d.type} {r}": agreement_of(plain, rival, tiles) for (d, r), rival in unlike.items()}
        times = rounds_of(rivals, slide, given.rounds, given.slow_rounds, given.tile_px)
    return {
        "machine": fresh.machine(torch.get_num_threads()),
        "gpu": torch.cuda.get_device_name() if any(d.type == "cuda" for d in devices) else None,
        "size_px": size,
        "area_mm2": area_mm2,
        "tiles": len(covering.tiles),
        "rows": [row_of(rival, times[rival.name], area_mm2 / len(covering.tiles), area_mm2) for rival in rivals],
        "agreement": agreements,
    }


def table(result: dict[str, Any]) -> str:
    """Markdown."""
    lines = [
        f"{result['machine']['cpu']}, {result['machine']['threads']} threads; GPU: {result['gpu'] or 'none'}.",
        f"{result['area_mm2']:.2f} mm² in {result['tiles']} tiles. Parts of a batch, in ms for a mm², one by one.",
        "",
        "| device | runtime | batch | network, mm²/s | end to end, mm²/s | " + " | ".join(PARTS) + " |",
        "|---|---|---|---|---|" + "---|" * len(PARTS),
    ]
    for row in result["rows"]:
        whole = row["end_to_end_mm2_per_s"]
        cells = [row["device"], row["runtime"], str(row["batch"]), f"{row['network_mm2_per_s']:.2f}"]
        cells += ["–" if whole is None else f"{whole:.2f}", *(f"{row['ms_per_mm2'][p]:.1f}" for p in PARTS)]
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", *(f"{n}: {a['told']} (agrees: {a['agrees']})" for n, a in result["agreement"].items())]
    return "\n".join(lines)


def main() -> None:
    """Measures, prints the table, writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--work", type=Path, required=True, help="folder of the drawn region")
    parser.add_argument("--device", action="append", help="cpu, cuda or cuda:N; more than once for several")
    parser.add_argument("--runtime", action="append", choices=RUNTIMES)
    parser.add_argument("--batch", type=int, action="append", help="tiles at a time")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--slow-rounds", type=int, default=1, help="in which a CPU takes part")
    parser.add_argument("--size", type=int, nargs=2, default=(3608, 2706), metavar="PX", help="of the region")
    parser.add_argument("--tile-px", type=int)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    given.device, given.runtime = given.device or ["cpu"], given.runtime or ["torch"]
    given.batch = given.batch or [1]
    result = measure(given)
    print(table(result))
    if given.json:
        write_json(given.json, result)


if __name__ == "__main__":
    main()
