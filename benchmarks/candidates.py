"""How many annotated figures the finders of candidates reach, how many candidates they give, and how fast.

    python benchmarks/candidates.py --data FOLDER FOLDER --out candidates.json --sheets runs/candidates
    python benchmarks/candidates.py --timing --work runs/candidates --out timing.json

The first runs each finder and variant on the data folders named, lists every miss with why it was missed, and draws the
misses as sheets of crops, a PNG for each folder and variant (pixels of real slides: not for the repository). The second
times whole regions, each run in a process of its own, in turns with a rival: scikit-image's rgb2hed, label and
regionprops on the whole region at once, which needs scikit-image.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from mitosight import phantom, regions
from mitosight.candidates import BlueRatio, Finder, Haematoxylin, reached, search
from mitosight.candidates.cohort import RADIUS_UM
from mitosight.candidates.finder import Statistics, parts
from mitosight.measured import measured
from mitosight.outputs import versions, whole, write_json
from mitosight.slide import Slide, write_tiff
from mitosight.tissue import find_tissue

VARIANTS: dict[str, Finder] = {
    "haematoxylin, fixed": Haematoxylin(),
    "haematoxylin, sparse": Haematoxylin(separation="sparse"),
    "haematoxylin, fixed, maximum": Haematoxylin(percentile=100, tissue_lightness=(0, 90)),
    "haematoxylin, sparse, maximum": Haematoxylin(separation="sparse", percentile=100, tissue_lightness=(0, 90)),
    "blue ratio, Chang": BlueRatio(formula="chang"),
    "blue ratio, plain": BlueRatio(formula="plain"),
}
PAPERS = "papers: Wang 2023, Table V: sensitivity 0.964 to 1.0 (MITOS14 0.964); Kondo 2021: 17,500 candidates a region"
REGION_MM2 = 2.0  # of MIDOG
CROP_PX, ZOOM, COLUMNS, TEXT_PX = 64, 2, 10, 44
SIZE, MPP = (7215, 5412), 0.23  # px; a region of MIDOG 2021 on its first scanner
RIVAL = "scikit-image"


@dataclass(frozen=True)
class Miss:
    """A figure without a candidate; `distance_um` to the nearest one, None where there is none."""

    file_name: str
    x_px: float
    y_px: float
    scanner: str
    why: str
    distance_um: float | None


def why_missed(slide: Slide, xy: NDArray[np.float64], finder: Finder, statistics: Statistics) -> str:
    """What the finder's mask holds within reach of a figure."""
    side = 2 * (round(60 / slide.mpp) // 2)
    left, top = (int(v) // 2 * 2 for v in np.maximum(xy - side / 2, 0))
    width, height = min(side, slide.width_px - left), min(side, slide.height_px - top)
    mask = finder.mask(slide.read((left, top), (width, height)), statistics)
    found, radius = parts(mask), RADIUS_UM / slide.mpp / finder.zoom
    x, y = (xy - (left, top)) / finder.zoom
    dx = np.maximum(np.maximum(found.left - x, x - found.right), 0)
    dy = np.maximum(np.maximum(found.top - y, y - found.bottom), 0)
    near = np.hypot(dx, dy) <= radius
    if not near.any():
        return "nothing above the threshold"
    if (near & finder.kept(found)).any():
        return "centre too far"
    return "too large" if found.area[near].max() > 100 else "too small"


def accuracy(folder: Path, name: str, finder: Finder, share: int) -> tuple[list[dict[str, Any]], list[Miss]]:
    """One row for each scanner of a data folder, and the misses."""
    data, groups, misses = regions.load(folder), {}, []
    for region in measured(data.images, data.regions[::share]):
        with Slide(data.image_path(region), table_mpp=region.mpp) as slide:
            wall, cpu = time.perf_counter(), time.process_time()
            found, statistics = search(slide, finder, tissue=find_tissue(slide))
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            near = reached(region.figures, found, RADIUS_UM / slide.mpp)
            numbers = (near.sum(), len(near), len(found), region.area_mm2 or 0.0, wall, cpu)
            groups[region.domain.scanner] = groups.get(region.domain.scanner, np.zeros(6)) + numbers
            for xy in region.figures[~near]:
                distance = round(float(np.hypot(*(found.xy - xy).T).min()) * slide.mpp, 1) if len(found) else None
                why = why_missed(slide, xy, finder, statistics)
                place = round(float(xy[0]), 1), round(float(xy[1]), 1)
                misses.append(Miss(region.file_name, *place, region.domain.scanner, why, distance))
    return [_row(folder.name, name, scanner, *numbers.tolist()) for scanner, numbers in sorted(groups.items())], misses


def _row(
    data: str, name: str, scanner: str, found: float, figures: float, count: float, *rest: float
) -> dict[str, Any]:
    area_mm2, wall, cpu = rest
    return {
        "data": data,
        "finder": name,
        "scanner": scanner,
        "figures": int(figures),
        "reached": int(found),
        "sensitivity": round(found / figures, 4) if figures else None,
        "area_mm2": round(area_mm2, 3),
        "candidates_per_mm2": round(count / area_mm2),
        "candidates_per_region": round(count / area_mm2 * REGION_MM2),
        "seconds_per_mm2": round(wall / area_mm2, 2),
        "cpu_seconds_per_mm2": round(cpu / area_mm2, 2),
    }


def table(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Markdown: a line for each data folder, scanner and variant."""
    yield "| data | scanner | finder | sensitivity | candidates per mm² | per 2 mm² |"
    yield "|---|---|---|---|---|---|"
    for row in rows:
        share = f"{row['sensitivity']:.3f} ({row['reached']} of {row['figures']})"
        cells = row["data"], row["scanner"], row["finder"], share, f"{row['candidates_per_mm2']:,}"
        yield f"| {' | '.join(cells)} | {row['candidates_per_region']:,} |"


def sheet(path: Path, images: Path, misses: list[Miss], mpp: dict[str, float | None]) -> None:
    """Crops of the misses, the figure in the middle, with place, image and why."""
    side = CROP_PX * ZOOM
    rows = -(-len(misses) // COLUMNS)
    picture = Image.new("RGB", (COLUMNS * (side + 6), rows * (side + TEXT_PX + 6)), "white")
    draw = ImageDraw.Draw(picture)
    for k, miss in enumerate(misses):
        x, y = k % COLUMNS * (side + 6), k // COLUMNS * (side + TEXT_PX + 6)
        with Slide(images / miss.file_name, table_mpp=mpp[miss.file_name]) as slide:
            crop = slide.read((round(miss.x_px) - CROP_PX // 2, round(miss.y_px) - CROP_PX // 2), (CROP_PX, CROP_PX))
        picture.paste(Image.fromarray(crop).resize((side, side), Image.Resampling.BICUBIC), (x, y))
        far = "-" if miss.distance_um is None else f"{miss.distance_um:.1f} um"
        lines = f"{miss.file_name[-20:]}\n{miss.x_px:.0f}, {miss.y_px:.0f}; {far}\n{miss.why[:21]}"
        draw.text((x, y + side), lines, fill="black", font_size=11, spacing=1)
    with whole(path) as temporary:
        picture.save(temporary, format="PNG")


def drawn_region(path: Path) -> None:
    """A JPEG-tiled TIFF of SIZE px: one drawn tissue of a quarter of its sides, mirrored side by side."""
    wide, high = -(-SIZE[0] // 4), -(-SIZE[1] // 4)
    folder = path.with_suffix(".drawn")
    region = phantom.write_pairs(folder, [("phantom-A", 1)], ((wide + 2) * 0.25, (high + 2) * 0.25))[0]
    with Slide(folder / "images" / region.file_name) as slide:
        part = slide.read((0, 0), (wide, high))
    pair = np.concatenate([part, part[:, ::-1]], axis=1)
    four = np.concatenate([pair, pair[::-1]])
    write_tiff(path, np.tile(four, (2, 2, 1))[: SIZE[1], : SIZE[0]], MPP)


def timed(path: Path, name: str, threads: int | None) -> dict[str, Any]:
    """Candidates of one slide, with wall and CPU seconds and the highest memory of this process."""
    if name == RIVAL:
        import skimage.color  # loaded before the clock starts, as the package itself is
        import skimage.measure
    wall, cpu = time.perf_counter(), time.process_time()
    with Slide(path) as slide:
        if name == RIVAL:
            rgb = slide.read((0, 0), (slide.width_px, slide.height_px))
            amount = skimage.color.rgb2hed(rgb)[..., 0]
            labels = skimage.measure.label(amount > 0.4 * np.percentile(amount, 99.8))
            count = sum(60 <= part.area <= 10_000 for part in skimage.measure.regionprops(labels))
        else:
            count = len(search(slide, VARIANTS[name], tissue=find_tissue(slide), threads=threads)[0])
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return {"candidates": int(count), "seconds": round(wall, 2), "cpu_seconds": round(cpu, 2), "peak_mb": peak_mb}


def timing(work: Path, rounds: int, threads: int | None) -> list[dict[str, Any]]:
    """The variants and the rival in turns, each run in a process of its own; medians of the rounds."""
    path = work / "region.tiff"
    if not path.is_file():
        drawn_region(path)
    names = [*(name for name in VARIANTS if not name.endswith("maximum")), RIVAL]
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            command = [sys.executable, __file__, "--one", name, "--work", str(work)]
            if threads:
                command += ["--threads", str(threads)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                print(f"{name}: {done.stderr.splitlines()[-1]}", file=sys.stderr)
                continue
            runs[name].append(json.loads(done.stdout))
    return [
        {"name": name, **{key: float(np.median([run[key] for run in found])) for key in found[0]}, "runs": found}
        for name, found in runs.items()
        if found
    ]


def main() -> None:
    """Measures, prints tables, writes JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", default=[], help="data folders")
    parser.add_argument("--out", type=Path, help="JSON of the results")
    parser.add_argument("--sheets", type=Path, help="folder of the sheets of misses")
    parser.add_argument("--share", type=int, default=1, help="only each SHARE-th image")
    parser.add_argument("--timing", action="store_true")
    parser.add_argument("--work", type=Path, default=Path("runs/candidates"), help="folder of the drawn region")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(timed(given.work / "region.tiff", given.one, given.threads)))
        return
    result: dict[str, Any] = {"command": sys.argv[1:], "versions": versions()}
    if given.timing:
        result["region_px"], result["timing"] = SIZE, timing(given.work, given.rounds, given.threads)
        for row in result["timing"]:
            print(row["name"], {key: value for key, value in row.items() if key not in ("name", "runs")})
    else:
        rows, missed = [], []
        for folder in given.data:
            mpp = {region.file_name: region.mpp for region in regions.load(folder).regions}
            for name, finder in VARIANTS.items():
                found, misses = accuracy(folder, name, finder, given.share)
                rows += found
                missed += [{"data": folder.name, "finder": name, **vars(miss)} for miss in misses]
                if given.sheets and misses and not name.endswith("maximum"):
                    file = f"{folder.name}-{name.replace(', ', '-').replace(' ', '-')}.png"
                    sheet(given.sheets / file, folder / "images", misses, mpp)
        print("\n".join([*table(rows), "", PAPERS]))
        result |= {"rows": rows, "misses": missed}
    if given.out:
        write_json(given.out, result)


if __name__ == "__main__":
    main()
