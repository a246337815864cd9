"""Draws phantoms.png: one tissue by every virtual scanner, and each phase and look-alike.

Run from the repository root: python docs/figures/phantoms.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from mitosight.phantom import LOOKALIKES, PHASES, SCANNERS, draw_tissue, scan

OUT = Path(__file__).with_suffix(".png")
FIELD_UM = (96.0, 80.0)
FIELD_PX = (324, 270)
CROP_UM, CROP_PX = 24.0, 104
TITLE_PX, GAP_PX = 22, 6
SEED, CROPS_SEED = 33, 300


def fields() -> list[tuple[str, Image.Image]]:
    """The same tissue by each scanner, at one scale."""
    tissue = draw_tissue(SEED, FIELD_UM, figures_per_mm2=400, lookalikes_per_mm2=300)
    return [
        (name, Image.fromarray(scan(tissue, scanner, SEED)[0]).resize(FIELD_PX, Image.Resampling.LANCZOS))
        for name, scanner in SCANNERS.items()
    ]


def crop(kind: str, scanner: str) -> Image.Image:
    """The first object of a kind that a tissue with only such objects holds, in the middle of the picture."""
    only = {"phases": [kind], "lookalikes": []} if kind in PHASES else {"phases": [], "lookalikes": [kind]}
    first = CROPS_SEED + 50 * (*PHASES, *LOOKALIKES).index(kind)
    for seed in range(first, first + 50):
        tissue = draw_tissue(seed, (80, 80), 400, 400, **only)
        image, region = scan(tissue, SCANNERS[scanner], seed)
        half = CROP_UM / 2 / SCANNERS[scanner].mpp
        for x, y in region.xy:
            if min(x, y, image.shape[1] - x, image.shape[0] - y) > half:
                box = (round(x - half), round(y - half), round(x + half), round(y + half))
                return Image.fromarray(image).crop(box).resize((CROP_PX, CROP_PX), Image.Resampling.LANCZOS)
    raise RuntimeError(f"no {kind} in fifty tissues")


def row(pictures: list[tuple[str, Image.Image]]) -> NDArray[np.uint8]:
    """Pictures beside each other, each below its title."""
    width, height = pictures[0][1].size
    sheet = Image.new("RGB", (len(pictures) * (width + GAP_PX) - GAP_PX, height + TITLE_PX), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for i, (title, picture) in enumerate(pictures):
        pen.text((i * (width + GAP_PX) + 2, 3), title.replace("_", " "), fill="black", font=font)
        sheet.paste(picture, (i * (width + GAP_PX), TITLE_PX))
    return np.asarray(sheet)


def main() -> None:
    """Writes the picture."""
    scanned = fields()
    kinds = [(kind, crop(kind, "phantom-A")) for kind in (*PHASES, *LOOKALIKES)]
    rows = [row(scanned[:3]), row(scanned[3:]), row(kinds)]
    width = max(r.shape[1] for r in rows)
    padded = [np.pad(r, ((0, GAP_PX), (0, width - r.shape[1]), (0, 0)), constant_values=255) for r in rows]
    Image.fromarray(np.vstack(padded)).save(OUT, optimize=True)


if __name__ == "__main__":
    main()
