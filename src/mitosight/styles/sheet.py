"""A sheet of styles, like Fig. 3 of Chung 2021: a row for each tile, a column for each style."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mitosight.outputs import whole

MARGIN, TITLE, SIDE_TITLE = 6, 44, 150  # px of the sheet
SIZE = 14  # of the letters, px
LETTERS = 8  # px of a wide letter


def write_sheet(
    path: Path, rows: Sequence[str], columns: Sequence[str], pictures: Sequence[Sequence[NDArray[np.uint8]]]
) -> None:
    """Writes a PNG of `pictures`, one list of (side, side, 3) for each row, with the names of rows and columns."""
    from PIL import Image, ImageDraw

    side = pictures[0][0].shape[0]
    step = side + MARGIN
    sheet = Image.new("RGB", (SIDE_TITLE + len(columns) * step, TITLE + len(rows) * step), "white")
    draw = ImageDraw.Draw(sheet)
    for c, name in enumerate(columns):
        draw.text((SIDE_TITLE + c * step, MARGIN), _folded(name, side), fill="black", font_size=SIZE)
    for r, name in enumerate(rows):
        draw.text((MARGIN, TITLE + r * step), _folded(name, SIDE_TITLE - MARGIN), fill="black", font_size=SIZE)
        for c, picture in enumerate(pictures[r]):
            sheet.paste(Image.fromarray(picture), (SIDE_TITLE + c * step, TITLE + r * step))
    with whole(path) as temporary:
        sheet.save(temporary, format="PNG")


def _folded(text: str, width_px: int) -> str:
    """Words on lines that fit, as far as words allow."""
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) + 1 > width_px / LETTERS and lines[-1]:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)
