"""A picture of a slide with its tissue outlined, to be looked at before trusting it."""

from __future__ import annotations

from math import floor, log10
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from mitosight.outputs import whole
from mitosight.slide import Slide
from mitosight.tissue.tissue import Tissue

SIDE_PX = 1600  # of the longer side: one screen
LEAST_PX = 400  # so that the line below has room
LINE = (0, 150, 60)  # green: no stain has it, and it is seen on pink as on white
LINE_PX = 2
OUTSIDE = 0.45  # how far the rest is faded towards white
STRIP_PX, TEXT_PX, PAD_PX = 44, 18, 12
INK = (20, 20, 20)
BAR = 0.25  # the scale bar is the largest of 1, 2, 5 x 10^n µm within this share of the width


def preview(slide: Slide, tissue: Tissue, path: str | Path) -> None:
    """Writes a PNG of the whole slide, with the tissue outlined, the rest faded, its area in mm² and a scale bar.

    The picture is at most 1600 px on its longer side; the file appears whole or not at all.

    Raises:
        InputError: the slide's mpp is unknown, the slide is damaged, or `path` cannot be written.
    """
    mpp = slide.mpp
    px = max(1.0, max(slide.width_px, slide.height_px) / SIDE_PX)  # level-0 px per px of the picture
    width, height = max(1, floor(slide.width_px / px)), max(1, floor(slide.height_px / px))
    thumb = slide.read((0, 0), (width, height), px * mpp)
    enlarged = max(1, -(-LEAST_PX // width))
    thumb = thumb.repeat(enlarged, axis=0).repeat(enlarged, axis=1)
    drawn = _outlined(thumb, _inside(tissue, thumb.shape[:2], px / enlarged))
    picture = Image.new("RGB", (drawn.shape[1], drawn.shape[0] + STRIP_PX), (255, 255, 255))
    picture.paste(Image.fromarray(drawn), (0, 0))
    slide_mm2 = slide.width_px * slide.height_px * (mpp / 1000) ** 2
    words = f"tissue {_mm2(tissue.area_mm2(mpp))} of {_mm2(slide_mm2)} mm"
    _legend(picture, words, px / enlarged * mpp)
    with whole(path) as temporary:
        picture.save(temporary, format="PNG")


def _inside(tissue: Tissue, shape: tuple[int, int], px: float) -> NDArray[np.bool_]:
    """(height, width) of the picture: which of its px lie in tissue, by their centres."""
    height, width = shape
    x, y = (np.arange(width) + 0.5) * px, (np.arange(height) + 0.5) * px
    if tissue.outline is None:
        columns = np.minimum(x / tissue.px, tissue.mask.shape[1] - 1).astype(np.intp)
        rows = np.minimum(y / tissue.px, tissue.mask.shape[0] - 1).astype(np.intp)
        found: NDArray[np.bool_] = tissue.mask[rows[:, None], columns]
        return found
    xs, ys = np.meshgrid(x, y)
    return tissue.holds(np.stack([xs.ravel(), ys.ravel()], axis=1)).reshape(shape)


def _outlined(thumb: NDArray[np.uint8], inside: NDArray[np.bool_]) -> NDArray[np.uint8]:
    faded = (thumb + (255.0 - thumb) * OUTSIDE).astype(np.uint8)
    drawn = np.where(inside[..., None], thumb, faded)
    inner = ndimage.binary_erosion(
        inside, np.ones((3, 3), dtype=bool), iterations=LINE_PX
    )  # also along the picture's border
    drawn[inside & ~inner] = LINE
    return drawn


def _legend(picture: Image.Image, words: str, um_per_px: float) -> None:
    """Below the picture: the words, which end in mm², at the left, the scale bar at the right.

    Pillow's own font has neither ² nor µ: the one is set as a small raised 2, and lengths are in mm.
    """
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(TEXT_PX)
    middle = picture.height - STRIP_PX // 2
    draw.text((PAD_PX, middle), words, INK, font=font, anchor="lm")
    end = PAD_PX + draw.textlength(words, font=font)
    draw.text((end + 1, middle - TEXT_PX // 4), "2", INK, font=ImageFont.load_default(TEXT_PX * 0.6), anchor="lm")
    um = _round_length(picture.width * um_per_px * BAR)
    right, left = picture.width - PAD_PX, picture.width - PAD_PX - round(um / um_per_px)
    draw.rectangle((left, middle + 6, right, middle + 10), fill=INK)
    draw.text(((left + right) / 2, middle + 2), f"{um / 1000:g} mm", INK, font=font, anchor="mb")


def _round_length(um: float) -> float:
    """The largest of 1, 2, 5 x 10^n that is not above `um`."""
    power = 10.0 ** floor(log10(um))
    return max(step * power for step in (1, 2, 5) if step * power <= um * (1 + 1e-9))


def _mm2(area: float) -> str:
    """Two decimals, or three digits of what is smaller than 1."""
    return f"{area:.2f}" if area >= 1 or area == 0 else f"{area:.3g}"
