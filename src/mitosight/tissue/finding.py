"""Finds the tissue of a slide at low resolution."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mitosight.errors import UsageError
from mitosight.slide import Slide
from mitosight.tissue.colour import Colours, Mask, find_glass, judge
from mitosight.tissue.tissue import Tissue, grid_shape

READ_PX = 2048  # side of a square that is read at once: 13 MB, and little read twice at its border
READERS = 4  # threads that read squares
LEAST_ACROSS = 16  # px of the mask across the shorter side: small images are seen finer
LEVEL_SLACK = 1.01  # as slide.read allows when it chooses a level
INK_MM2 = 0.02  # a pen's stroke is larger; smaller px of its hue are pigment or dye in tissue
INK_RIM_PX = 2  # px of the mask: half ink, half glass


def find_tissue(
    slide: Slide,
    *,
    mask_mpp: float = 8.0,
    least_stain: float = 0.02,
    hole_mm2: float = 0.1,
    speck_mm2: float = 0.005,
    margin_um: float = 24.0,
) -> Tissue:
    """The tissue of a slide: what is stained beyond its own glass, without ink, black borders and specks.

    Read from the coarsest level that is fine enough, in squares of bounded size, also where level 0 is the only one.
    The defaults keep rather too much: glass costs time, lost tissue costs figures.

    Args:
        mask_mpp: µm per px of the mask. 8 is the size of a nucleus: finer sees gaps between cells, coarser loses the
            thin walls of fat. Most pyramids have a level at 4 or 8. Finer where the slide is less than 16 px across.
        least_stain: optical density (base 10) by which green is absorbed more than red and blue. Glass in JPEG has
            0.005, the walls of fat 0.03, faint eosin 0.05, ordinary tissue 0.1 to 0.3.
        hole_mm2: enclosed holes up to this area are filled: fat cells, glands, vessels (0.1 is 350 µm across).
        speck_mm2: what has less stained area is dropped (0.005 is 70 µm across), unless it touches the border of the
            image, beyond which it may go on.
        margin_um: the mask is widened by it, which joins what is nearer than twice as much. It covers a cell at the
            edge and the error of the mask, a px or two.

    Raises:
        InputError: the slide's mpp is unknown, or its file is damaged.
        UsageError: an argument is out of range.
    """
    _check(mask_mpp, least_stain, (hole_mm2, speck_mm2, margin_um))
    mpp, size = slide.mpp, (slide.width_px, slide.height_px)
    px = max(1.0, min(mask_mpp / mpp, min(size) / LEAST_ACROSS))
    px_mm2 = (px * mpp / 1000) ** 2
    rgb = _low(slide, px)
    judged = judge(rgb, find_glass(rgb), least_stain)
    del rgb
    ink = _grown(judged.ink, judged.inky, INK_MM2 / px_mm2)
    stained = judged.tissue & ~_widened(ink, INK_RIM_PX)
    mask = _widened(stained, round(margin_um / (px * mpp)))
    mask = _without_specks(_filled(mask, hole_mm2 / px_mm2), stained, speck_mm2 / px_mm2)
    return Tissue(mask & ~ink, px, size)


def _low(slide: Slide, px: float) -> Colours:
    """(h, w, 3) RGB, `px` level-0 px per px; a last px that reaches beyond the slide is taken as its neighbour."""
    high, wide = grid_shape((slide.width_px, slide.height_px), px)
    zoom = px / max(d for d in slide.level_downsamples if d == 1 or d <= px * LEVEL_SLACK)
    step = max(1, int(READ_PX / zoom))
    rgb = np.empty((high, wide, 3), dtype=np.uint8)

    def read(corner: tuple[int, int]) -> None:
        top, left = corner
        part = rgb[top : top + step, left : left + step]
        part[:] = slide.read((left * px, top * px), (part.shape[1], part.shape[0]), px * slide.mpp)

    with ThreadPoolExecutor(READERS, thread_name_prefix="tissue") as pool:
        for _ in pool.map(read, product(range(0, high, step), range(0, wide, step))):
            pass  # what a read raises is raised here
    if wide > 1 and wide * px > slide.width_px + 1e-6:
        rgb[:, -1] = rgb[:, -2]
    if high > 1 and high * px > slide.height_px + 1e-6:
        rgb[-1] = rgb[-2]
    return rgb


def _grown(core: Mask, around: Mask, least_px: float) -> Mask:
    """The connected parts of `around` that hold at least `least_px` of `core`."""
    labels, count = ndimage.label(around | core, np.ones((3, 3)))
    held = np.bincount(labels[core], minlength=count + 1)
    kept = held >= max(least_px, 1)
    kept[0] = False
    found: Mask = kept[labels]
    return found


def _widened(mask: Mask, radius_px: int) -> Mask:
    """By an octagon, crosses and squares in turn: near a disc, in little memory."""
    cross, square = ndimage.generate_binary_structure(2, 1), np.ones((3, 3), dtype=bool)
    for i in range(radius_px):
        mask = ndimage.binary_dilation(mask, square if i % 2 else cross)
    return mask


def _filled(mask: Mask, most_px: float) -> Mask:
    """With the holes up to `most_px` that do not touch the border."""
    labels, count = ndimage.label(~mask)
    small = np.bincount(labels.ravel(), minlength=count + 1) <= most_px
    small[_on_border(labels)] = False
    small[0] = False
    filled: Mask = mask | small[labels]
    return filled


def _without_specks(mask: Mask, stained: Mask, least_px: float) -> Mask:
    """Without the parts that hold less than `least_px` of what is stained and do not touch the border."""
    labels, count = ndimage.label(mask, np.ones((3, 3)))
    kept = np.bincount(labels[stained & mask], minlength=count + 1) >= least_px
    kept[_on_border(labels)] = True
    kept[0] = False
    found: Mask = kept[labels]
    return found


def _on_border(labels: NDArray[np.signedinteger]) -> NDArray[np.signedinteger]:
    return np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))


def _check(mask_mpp: float, least_stain: float, others: tuple[float, ...]) -> None:
    if not 0.5 <= mask_mpp <= 64:
        raise UsageError(None, f"a tissue mask of {mask_mpp:g} µm per px", "expected 0.5 to 64")
    if not 0 < least_stain < 1:
        raise UsageError(None, f"least_stain is {least_stain:g}", "expected 0 to 1")
    if not all(0 <= value < np.inf for value in others):
        raise UsageError(None, f"hole, speck and margin are {others}", "expected finite numbers from 0")
