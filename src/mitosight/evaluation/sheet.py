"""A sheet of crops: the hits and false positives that score highest, and the misses, to be looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mitosight.errors import InputError
from mitosight.evaluation.report import Report, Spots
from mitosight.outputs import whole

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

CROP_PX = 64  # level-0 px of the slide
ZOOM = 2
COLUMNS = 12
MARGIN, TITLE, CAPTION = 6, 26, 30  # px of the sheet; caption: two lines of text
PLAIN, MARKED = (200, 200, 200), (230, 120, 0)
NAME_LETTERS = 21  # what fits under a crop


def write_sheet(
    path: str | Path, report: Report, images: Mapping[str, Path], most: int = 60, most_hits: int = 0
) -> None:
    """Writes a PNG of up to `most` false positives (highest scores first) and as many misses, 64 px crops twofold.

    Before them stand up to `most_hits` of the hits with the highest scores.

    Under each crop stand its score, place and image; an orange frame marks what lies on a labelled hard negative. A
    miss has the score of the best detection there that did not count, and a dash where there was none.
    `images` gives the file of each image by name.

    Raises:
        InputError: an image is missing or cannot be read, or the sheet cannot be written.
    """
    from PIL import Image, ImageDraw

    hits, wrong, missed = report.hits, report.false_positives, report.misses
    marked = f"orange: on a labelled hard negative ({int(wrong.on_hard_negative.sum())})"
    sections: list[tuple[str, Spots, int]] = [
        (f"{len(wrong)} false positives, by falling score; {marked}", wrong, most),
        (f"{len(missed)} misses; score of what was found there below the threshold", missed, most),
    ]
    if most_hits:
        sections.insert(0, (f"{len(hits)} hits, by falling score", hits, most_hits))
    shown = [(f"{title}; {min(n, len(spots))} shown", spots, min(n, len(spots))) for title, spots, n in sections]
    width = MARGIN + COLUMNS * (CROP_PX * ZOOM + MARGIN)
    height = sum(TITLE + -(-count // COLUMNS) * _row_px() for _, _, count in shown) + MARGIN
    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    top = 0
    for title, spots, count in shown:
        draw.text((MARGIN, top + MARGIN), title, fill="black", font_size=14)
        top += TITLE
        _paste(sheet, draw, top, spots, _crops(spots, images, count))
        top += -(-count // COLUMNS) * _row_px()
    with whole(path) as temporary:
        sheet.save(temporary, format="PNG")


def _row_px() -> int:
    return CROP_PX * ZOOM + CAPTION + MARGIN


def _crops(spots: Spots, images: Mapping[str, Path], count: int) -> list[Image]:
    """The first `count` crops; each slide is opened once."""
    from PIL import Image

    from mitosight.slide import Slide

    names = spots.file_name[:count].tolist()
    crops: dict[int, Image.Image] = {}
    for name in dict.fromkeys(names):
        if name not in images:
            raise InputError(name, "its image is not there", "name the folder of the images with --images")
        with Slide(images[name]) as slide:
            for i in (i for i, other in enumerate(names) if other == name):
                x, y = np.round(spots.xy[i] - CROP_PX / 2).astype(int).tolist()
                crop = Image.fromarray(slide.read((x, y), (CROP_PX, CROP_PX)))
                crops[i] = crop.resize((CROP_PX * ZOOM,) * 2, Image.Resampling.BICUBIC)
    return [crops[i] for i in range(count)]


def _paste(sheet: Image, draw: ImageDraw, top: int, spots: Spots, crops: Sequence[Image]) -> None:
    side = CROP_PX * ZOOM
    for i, crop in enumerate(crops):
        x, y = MARGIN + i % COLUMNS * (side + MARGIN), top + i // COLUMNS * _row_px()
        sheet.paste(crop, (x, y))
        colour, width = (MARKED, 3) if spots.on_hard_negative[i] else (PLAIN, 1)
        draw.rectangle((x - 1, y - 1, x + side, y + side), outline=colour, width=width)
        score = "-" if np.isnan(spots.score[i]) else f"{spots.score[i]:.3f}"
        place = "{:.0f}, {:.0f}".format(*spots.xy[i])
        draw.text((x, y + side + 2), f"{score}  at {place}", fill="black", font_size=11)
        draw.text((x, y + side + 14), _short(str(spots.file_name[i])), fill="black", font_size=11)


def _short(name: str) -> str:
    return name if len(name) <= NAME_LETTERS else "…" + name[-NAME_LETTERS + 1 :]
