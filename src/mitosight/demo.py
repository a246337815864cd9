"""The demonstration: draw regions of a virtual scanner that no training saw, and find their figures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image, ImageDraw

from mitosight import cohort, detections, modelfile, phantom, regions
from mitosight.evaluation import ONE_TO_ONE, Report, evaluate, match
from mitosight.outputs import whole, write_json
from mitosight.regions import Region
from mitosight.slide import Slide

UNSEEN = "phantom-F"
TISSUES = range(507, 511)  # no training drew them
SIZE_UM = (320.0, 320.0)
GREEN, RED, YELLOW = (0, 150, 60), (220, 30, 30), (235, 170, 0)


def run(out: Path, say: Callable[[str], None]) -> Report:
    """Draws, detects with the model that comes with the package, and scores, in the folder `out`.

    Leaves `out/data` (a data folder), `out/found` (points and summary), `out/scores.json` and `out/found.png`. A second
    call finds the data there. Returns the scores.
    """
    data = out / "data"
    if not (data / "domains.csv").is_file():  # the last that is written
        say(f"drawing {len(TISSUES)} regions as {UNSEEN} sees them, which the detector never saw")
        phantom.write_pairs(data, [(UNSEEN, seed) for seed in TISSUES], SIZE_UM)
    folder = regions.load(data)
    paths = [folder.image_path(region) for region in folder.regions]
    say(f"looking for mitotic figures in {len(paths)} regions")
    file, detector, settings = cohort.opened(paths, Path(modelfile.USUAL), cohort.Settings(), torch.device("cpu"))
    cohort.detect_slides(paths, file, detector, out / "found", settings)
    found = detections.read(out / "found")
    report = evaluate(found, folder.regions, threshold=detector.threshold)
    write_json(out / "scores.json", report.to_json())
    first = folder.regions[0]
    draw_found(out / "found.png", paths[0], first, found[first.file_name], detector.threshold)
    return report


def draw_found(path: Path, image: Path, region: Region, found: detections.Detections, threshold: float) -> None:
    """Writes the region as PNG with a ring for each figure found (green), missed (yellow) and false point (red)."""
    with Slide(image, table_mpp=region.mpp) as slide:
        picture = Image.fromarray(slide.read((0, 0), (slide.width_px, slide.height_px)))
        radius_px = 7.5 / slide.mpp
    shown = found[found.score >= threshold]
    matches = match(shown.xy, region.figures, radius_px, ONE_TO_ONE)
    pen = ImageDraw.Draw(picture)
    for (x, y), truth, score in zip(shown.xy, matches.truth_of, shown.score, strict=True):
        ring(pen, x, y, radius_px, GREEN if truth >= 0 else RED, f"{score:.2f}")
    for x, y in region.figures[matches.found_of < 0]:
        ring(pen, x, y, radius_px, YELLOW, "missed")
    with whole(path) as temporary:
        picture.save(temporary)


def ring(
    pen: ImageDraw.ImageDraw, x: float, y: float, radius_px: float, colour: tuple[int, int, int], text: str
) -> None:
    """Draws a circle with a word beside it."""
    pen.ellipse((x - radius_px, y - radius_px, x + radius_px, y + radius_px), outline=colour, width=4)
    pen.text((x + radius_px + 3, y - 9), text, fill=colour, font_size=20, stroke_width=1, stroke_fill="white")
