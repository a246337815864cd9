"""The demonstration: draw regions, train on some virtual scanners, find the figures on one that was never seen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image, ImageDraw

from mitosight import checkpoint, cohort, detections, phantom, recipe, regions
from mitosight.evaluation import ONE_TO_ONE, Report, evaluate, match
from mitosight.outputs import whole, write_json
from mitosight.regions import Region
from mitosight.slide import Slide
from mitosight.training import train

TRAINED = ("phantom-A", "phantom-B", "phantom-C", "phantom-D")  # the last without its labels, see recipes/demo.toml
UNSEEN = "phantom-F"
TISSUES = {"train": 5, "val": 2, "test": 4}  # regions of 256 x 256 µm for each scanner
SIZE_UM = (256.0, 256.0)
GREEN, RED, YELLOW = (0, 150, 60), (220, 30, 30), (235, 170, 0)


def run(out: Path, say: Callable[[str], None]) -> Report:
    """Draws, trains, detects and scores in the folder `out`; a second call finds drawing and model there.

    Leaves `out/data` (a data folder), `out/model`, `out/found` (points and summary), `out/scores.json` and
    `out/found.png`. Returns the scores on the scanner that was never seen.
    """
    data = out / "data"
    if not (data / "split.json").is_file():  # the last that is written
        say(f"drawing {len(TRAINED)} scanners for training and {UNSEEN}, which the detector will not see")
        draw(data)
    folder = regions.load(data)
    say("training a domain-adversarial RetinaNet (wilm2021) on them")
    train(recipe.load("demo"), folder, out / "model", torch.device("cpu"))
    tests = [region for region in folder.part("test") if region.domain.scanner == UNSEEN]
    say(f"looking for mitotic figures in {len(tests)} regions of {UNSEEN}")
    file = out / "model" / checkpoint.FILE
    detector = checkpoint.load(file)
    paths = [folder.image_path(region) for region in tests]
    cohort.detect_slides(paths, file, detector, out / "found", cohort.Settings())
    found = detections.read(out / "found")
    report = evaluate(found, tests, threshold=detector.threshold)
    write_json(out / "scores.json", report.to_json())
    draw_found(out / "found.png", paths[0], tests[0], found[tests[0].file_name], detector.threshold)
    return report


def draw(data: Path) -> None:
    """Writes the data folder: every scanner has tissues of its own, the unseen one only in the part "test"."""
    pairs: list[tuple[str, int]] = []
    split: dict[str, list[int]] = {part: [] for part in TISSUES}
    for s, scanner in enumerate((*TRAINED, UNSEEN)):
        seed = 100 * (s + 1)
        for part, count in TISSUES.items():
            if (scanner == UNSEEN) == (part == "test"):
                seeds = range(seed, seed + count)
                pairs += [(scanner, k) for k in seeds]
                split[part] += seeds
            seed += count
    phantom.write_pairs(data, pairs, SIZE_UM, split)


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
