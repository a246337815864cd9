"""What the colour of a low-resolution px says: glass, stain, ink, or black.

Colours are judged as optical density to base 10 beyond that of the slide's own glass. There, uneven light and grey
glass are equal shifts of all channels, while haematoxylin and eosin both take green first: the share of green beyond
red and blue tells faint stain from dark glass. No histogram is cut in two, so that an image without glass stays whole.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Colours = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Density = NDArray[np.float32]

DENSITY = -np.log10(np.maximum(np.arange(256), 1) / 255).astype(np.float32)
FILL = 255  # what readers and scanners put where nothing was scanned; says nothing of the glass
EVEN = 4  # levels of grey in 3 x 3 px: the grain of glass in a JPEG, less than any tissue but colloid and mucin
CLEAR = 0.4  # glass is not denser in any channel, also under grey light
TINT = 0.03  # nor greener-absorbing: pale eosin is beyond
LEAST_GLASS = 0.005  # of all px: less is a vessel's lumen, too little to judge a whole slide by
BRIGHT_PERCENTILE, BRIGHT_LEVELS = 90.0, 4  # of even px: the brighter ones are glass where others are mucin
COLOURED = 0.1  # difference of channels beyond which a px is no glass whatever its hue: pigment, old yellow stain
DARKER = 0.05  # than white: where no glass is seen, all that is darker is tissue
ROWS = 256  # judged at a time, so that densities take little memory


@dataclass(frozen=True)
class Glass:
    """The slide's clear background: its density by channel, and whether any was seen."""

    density: tuple[float, float, float] = (0.0, 0.0, 0.0)
    seen: bool = False


def find_glass(rgb: Colours) -> Glass:
    """The colour of the bright, even and nearly neutral px; white where there are too few of them.

    Uneven px are never glass, since they hold structure; white px of level 255 are skipped as fill.
    """
    levels = rgb[..., 1]
    even = ndimage.maximum_filter(levels, 3) - ndimage.minimum_filter(levels, 3) <= EVEN
    even &= rgb.min(axis=2) < FILL
    colours = rgb[even]
    density = DENSITY[colours]
    colours = colours[(density.max(axis=1) < CLEAR) & (stained(density) < TINT)]
    if len(colours) < LEAST_GLASS * levels.size or not len(colours):
        return Glass()
    bright = np.percentile(colours[:, 1], BRIGHT_PERCENTILE, method="nearest")
    chosen = np.abs(colours[:, 1] - bright) <= BRIGHT_LEVELS
    red, green, blue = map(float, DENSITY[np.median(colours[chosen], axis=0).round().astype(np.uint8)])
    return Glass((red, green, blue), True)


def stained(density: Density) -> Density:
    """(...) how much more green is absorbed than blue and red: positive for both stains, 0 for grey."""
    red, green, blue = np.moveaxis(density, -1, 0)
    found: Density = green - (blue + np.minimum(blue, red)) / 2
    return found


@dataclass(frozen=True)
class Judged:
    """What px show, each (h, w): tissue by colour; ink and black for sure; and what may belong to these."""

    tissue: Mask
    ink: Mask
    inky: Mask


def judge(rgb: Colours, glass: Glass, least_stain: float) -> Judged:
    """The px of a low-resolution image (h, w, 3) by their colour alone."""
    found = Judged(*(np.empty(rgb.shape[:2], dtype=bool) for _ in range(3)))
    offset = np.array(glass.density, dtype=np.float32)
    for top in range(0, len(rgb), ROWS):
        rows = slice(top, top + ROWS)
        density = DENSITY[rgb[rows]] - offset  # of ink too: grey glass is not pale black
        found.ink[rows] = _ink(density, 1.2, 0.4) | _red(density, 0.2, 0.8, 0.6) | _black(density, 0.25, 0.6)
        found.inky[rows] = _ink(density, 1.05, 0.05) | _red(density, 0.3, 0.7, 0.1) | _black(density, 0.3, 0.1)
        found.tissue[rows] = _tissue(density, least_stain, glass.seen)
    return found


def _tissue(density: Density, least_stain: float, glass_seen: bool) -> Mask:
    green = density[..., 1]
    spread = density.max(axis=-1) - density.min(axis=-1)
    found: Mask = ((stained(density) > least_stain) | (spread > COLOURED)) & (green > least_stain / 2)
    if not glass_seen:
        found |= density.mean(axis=-1) > DARKER
    return found


def _ink(density: Density, ratio: float, least: float) -> Mask:
    """Blue, cyan or green ink: red is absorbed more than green. Haematoxylin in real slides has 0.3 to 0.85."""
    red, green, _ = np.moveaxis(density, -1, 0)
    found: Mask = (red > ratio * green) & (red > least)
    return found


def _red(density: Density, most_red: float, least_blue: float, least: float) -> Mask:
    """Red ink: blue is absorbed as much as green, and red hardly. Eosin has half as much blue, blood is paler."""
    red, green, blue = np.moveaxis(density, -1, 0)
    found: Mask = (red < most_red * green) & (blue > least_blue * green) & (green > least)
    return found


def _black(density: Density, most_spread: float, least: float) -> Mask:
    """Black ink or border: dense and grey. Dense tissue differs between channels by twice this share."""
    mean = density.mean(axis=-1)
    found: Mask = (density.max(axis=-1) - density.min(axis=-1) < most_spread * mean) & (mean > least)
    return found
