"""What the tissue mask keeps: of annotated images, of slides, and of drawn slides whose tissue is known.

    python benchmarks/tissue.py --data FOLDER FOLDER --slides SLIDE --drawn --out tissue.json --previews runs/tissue

Prints a line for each scanner of the data folders (share of the area that is kept, annotated points outside the mask),
one for each slide, and one for each drawn slide: phantoms on a canvas of glass, pen marks and black border, with the
share of tissue, glass, pen and border that the mask keeps. Previews of real slides are pixels of real slides: not for
the repository.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from mitosight import regions
from mitosight.outputs import versions, write_json
from mitosight.phantom import SCANNERS, draw_tissue, scan
from mitosight.phantom import Tissue as Section
from mitosight.slide import Slide, write_tiff
from mitosight.tissue import Tissue, find_tissue, preview

MPP = 2.0  # of the drawn slides
SIZE = 3200, 1800  # px: 6.4 x 3.6 mm
PHANTOM_UM = 512.0
GLASSES = {
    "white": (255, 255, 255),
    "clear": (243, 243, 244),
    "grey": (196, 196, 196),
    "yellowish": (242, 238, 220),
    "bluish": (226, 233, 244),
    "pinkish": (246, 238, 243),
}
PENS = {"blue": (40, 60, 170), "green": (30, 140, 80), "black": (45, 42, 48), "red": (205, 35, 45)}
PALE = 0.25  # share of the stain that the pale phantom keeps
BORDER_PX = 150


def annotated(folder: Path, previews: Path | None) -> list[dict[str, Any]]:
    """One row for each scanner of a data folder."""
    data, groups = regions.load(folder), {}
    for region in data.regions:
        with Slide(data.image_path(region), table_mpp=region.mpp) as slide:
            tissue = find_tissue(slide)
            whole_mm2 = slide.width_px * slide.height_px * (slide.mpp / 1000) ** 2
            share = tissue.area_mm2(slide.mpp) / whole_mm2
            if previews and share < 1:
                preview(slide, tissue, previews / folder.name / f"{Path(region.file_name).stem}.png")
        outside = ~tissue.holds(region.figures), ~tissue.holds(region.hard_negatives)
        groups.setdefault(region.domain.scanner, []).append(
            (share, share < 1, len(outside[0]), outside[0].sum(), len(outside[1]), outside[1].sum())
        )
    rows = []
    for scanner, found in sorted(groups.items()):
        share, cut, figures, out, others, others_out = np.array(found, dtype=float).T
        rows.append(
            {
                "data": folder.name,
                "scanner": scanner,
                "images": len(share),
                "kept": round(float(share.mean()), 5),
                "least_kept": round(float(share.min()), 4),
                "images_cut": int(cut.sum()),
                "figures": int(figures.sum()),
                "figures_outside": int(out.sum()),
                "hard_negatives": int(others.sum()),
                "hard_negatives_outside": int(others_out.sum()),
            }
        )
    return rows


def one_slide(path: Path, previews: Path | None) -> dict[str, Any]:
    """The area of a slide's tissue, and how long it took to find."""
    with Slide(path) as slide:
        start = time.perf_counter()
        tissue = find_tissue(slide)
        seconds = time.perf_counter() - start
        whole_mm2 = slide.width_px * slide.height_px * (slide.mpp / 1000) ** 2
        if previews:
            preview(slide, tissue, previews / f"{path.stem}.png")
        area = tissue.area_mm2(slide.mpp)
    return {"slide": path.name, "tissue_mm2": round(area, 3), "slide_mm2": round(whole_mm2, 3), "s": round(seconds, 2)}


@cache
def phantom_picture(scanner: str) -> NDArray[np.float64]:
    """(h, w, 3) light that a phantom lets through beside the scanner's own glass, in [0, 1], at 2 µm/px."""
    side = round(PHANTOM_UM / MPP)
    picture = Image.fromarray(scan(_phantom(), SCANNERS[scanner], 1)[0])
    light = np.asarray(picture.resize((side, side), Image.Resampling.BOX)).astype(np.float64)
    clear: NDArray[np.float64] = np.percentile(light, 99.5, axis=(0, 1))
    return np.minimum(light / clear, 1)


@cache
def _phantom() -> Section:
    return draw_tissue(1, (PHANTOM_UM, PHANTOM_UM))


def drawn_slide(
    scanner: str, glass: tuple[int, int, int], vignette: float
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """(h, w, 3) RGB at 2 µm/px and (h, w) what is there: 0 glass, 1 tissue, 2 pale tissue, 3 pen, 4 border.

    A phantom as it is and a pale one on the left, a stroke of each pen on the right. The light falls by `vignette`
    from the middle to the sides of each of four fields side by side.
    """
    width, height = SIZE
    light, truth = np.ones((height, width, 3)), np.zeros((height, width), dtype=np.uint8)
    part = phantom_picture(scanner)
    side = len(part)
    for kind, strength, corner in ((1, 1.0, (500, 400)), (2, PALE, (500, 1200))):
        x, y = corner
        light[y : y + side, x : x + side] = part**strength
        truth[y : y + side, x : x + side] = kind
    strokes = Image.new("L", SIZE)
    for i, _ in enumerate(PENS):
        x = 1300 + 450 * i
        ImageDraw.Draw(strokes).line([(x, 400), (x + 200, 900), (x - 50, 1500)], fill=i + 1, width=200)
    laid = np.asarray(strokes)
    truth[laid > 0] = 3
    for i, ink in enumerate(PENS.values()):
        light[laid == i + 1] *= np.array(ink) / 255
    x = np.arange(width) % (width // 4) / (width / 8) - 1
    rgb = light * glass * (1 - vignette * x**2)[None, :, None] + np.random.default_rng(0).normal(0, 2, light.shape)
    for edge in (np.s_[:BORDER_PX], np.s_[:, -BORDER_PX:]):
        rgb[edge], truth[edge] = 0, 4
    return rgb.clip(0, 255).astype(np.uint8), truth


def kept_of_drawn(
    name: str, scanner: str, glass: tuple[int, int, int], vignette: float, previews: Path | None
) -> dict[str, Any]:
    """Which shares of a drawn slide the mask keeps."""
    rgb, truth = drawn_slide(scanner, glass, vignette)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "drawn.tiff"
        write_tiff(path, rgb, MPP, quality=80, pyramid=True)
        with Slide(path) as slide:
            tissue = find_tissue(slide)
            if previews:
                preview(slide, tissue, previews / "drawn" / f"{name}-{scanner}.png")
    inside = _at_level_0(tissue)
    shares = {what: round(float(inside[truth == kind].mean()), 4) for kind, what in enumerate(KINDS)}
    return {"on": name, "scanner": scanner, "vignette": vignette, **shares}


KINDS = "glass", "tissue", "pale tissue", "pen", "border"


def _at_level_0(tissue: Tissue) -> NDArray[np.bool_]:
    width, height = tissue.size_px
    rows, columns = (np.arange(length) / tissue.px for length in (height, width))
    inside: NDArray[np.bool_] = tissue.mask[rows.astype(int)[:, None], columns.astype(int)]
    return inside


def main() -> None:
    """Measures, prints tables, writes JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", default=[], help="data folders")
    parser.add_argument("--slides", type=Path, nargs="+", default=[], help="slides that state their mpp")
    parser.add_argument("--drawn", action="store_true", help="drawn slides too")
    parser.add_argument("--previews", type=Path, help="folder of previews; of data folders only those that are cut")
    parser.add_argument("--out", type=Path, help="JSON of the results")
    given = parser.parse_args()
    result: dict[str, Any] = {"command": sys.argv[1:], "versions": versions()}
    result["data"] = [row for folder in given.data for row in annotated(folder, given.previews)]
    result["slides"] = [one_slide(path, given.previews) for path in given.slides]
    result["drawn"] = []
    if given.drawn:
        cases = [(name, "phantom-A", glass, 0.0) for name, glass in GLASSES.items()]
        cases += [(f"vignette-{name}", "phantom-A", GLASSES[name], 0.15) for name in ("clear", "yellowish")]
        cases += [("clear", scanner, GLASSES["clear"], 0.0) for scanner in SCANNERS if scanner != "phantom-A"]
        result["drawn"] = [kept_of_drawn(*case, given.previews) for case in cases]
    for rows in (result["data"], result["slides"], result["drawn"]):
        for i, row in enumerate(rows):
            if i == 0:
                print("| " + " | ".join(row) + " |\n|" + "---|" * len(row))
            print("| " + " | ".join(map(str, row.values())) + " |")
    if given.out:
        write_json(given.out, result)


if __name__ == "__main__":
    main()
