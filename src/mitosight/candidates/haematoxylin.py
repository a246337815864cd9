"""Haematoxylin localisation: nuclei by the amount of haematoxylin, as in Wang 2023 (MitDet)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field

from mitosight import stain
from mitosight.candidates.finder import Colours, Counts, Finder, Parts, Statistics
from mitosight.errors import UsageError

BITS = 6  # of each channel in the counts of colours
KINDS = 1 << 3 * BITS
HALF = 2  # px of the image for one of the working resolution
BLUR_PX = 1  # reach of the blur at the working resolution


@dataclass(frozen=True)
class Haematoxylin(Finder):
    """Regions with more haematoxylin than a share of the slide's high amounts, at half resolution (Wang 2023).

    Attributes:
        separation: "fixed", colour deconvolution by the stains of Ruifrok and Johnston, is what the paper cites;
            "sparse" learns the two stains of each slide by sparse non-negative factorisation, as the reference code.
        share: of the high amount, from which a px belongs to a nucleus (code: 0.4).
        percentile: of the amounts in tissue, which is the high amount. The code takes the maximum (100), which one
            dark artefact can set.
        tissue_lightness: px with a CIE L* between these are tissue (code: below 90). What is darker than the first is
            dust, ink or a fold, darker than any stain: no nucleus is measured by it.
        least_px, most_px: regions of a smaller or larger area are dropped, in px of half resolution (code: 15 in
            detection; 5 and 2500 in training).
        most_side_px: regions that are wider or higher are dropped, in px of half resolution, so that tiles can
            overlap by a known amount.
    """

    name: ClassVar[str] = "haematoxylin"
    zoom: ClassVar[int] = HALF
    separation: Literal["fixed", "sparse"] = "fixed"
    share: Annotated[float, Field(gt=0, lt=1)] = 0.4
    percentile: Annotated[float, Field(gt=0, le=100)] = 99.8
    tissue_lightness: tuple[float, float] = (10.0, 90.0)
    least_px: Annotated[int, Field(ge=1)] = 15
    most_px: Annotated[int, Field(ge=1)] = 2500
    most_side_px: Annotated[int, Field(ge=1)] = 100

    def __post_init__(self) -> None:
        least, most = self.tissue_lightness
        if not 0 <= least < most:
            raise UsageError(None, f"tissue_lightness is {least:g}, {most:g}", "expected 0 <= first < second")

    @property
    def overlap_px(self) -> int:
        """A region of the greatest side, the reach of the blur, and a px around it."""
        return HALF * (self.most_side_px + 2 * BLUR_PX + 2)

    def tally(self, rgb: Colours) -> Counts:
        """How often each colour occurs at half resolution, 6 bits a channel."""
        kept = halved(rgb) >> (8 - BITS)
        kinds = kept[..., 0].astype(np.uint32) << 2 * BITS | kept[..., 1].astype(np.uint32) << BITS | kept[..., 2]
        return np.bincount(kinds.ravel(), minlength=KINDS).astype(np.int64, copy=False)

    def concluded(self, counts: Counts) -> Statistics:
        """The stains, where they are learned, and the share of the high amount of haematoxylin in tissue."""
        kinds = np.flatnonzero(counts)
        colours = _colours(kinds)
        lightness, (least, most) = stain.lightness(colours / 255), self.tissue_lightness
        tissue = (lightness >= least) & (lightness < most)
        colours, weights, pixels = colours[tissue], counts[kinds][tissue], int(counts.sum())
        if not len(colours):
            return Statistics(np.inf, pixels)
        stains: tuple[tuple[float, ...], ...] = ()
        if self.separation == "sparse":
            stains = tuple(tuple(map(float, found)) for found in stain.sparse_stains(colours / 255, weights))
        high = _percentile(_amount(colours, stains), weights, self.percentile)
        return Statistics(self.share * high if high > 0 else np.inf, pixels, stains)

    def mask(self, rgb: Colours, statistics: Statistics) -> NDArray[np.bool_]:
        """Where the blurred amount exceeds the threshold, at half resolution."""
        above: NDArray[np.bool_] = _blurred(_amount(halved(rgb), statistics.stains)) > statistics.threshold
        return above

    def kept(self, found: Parts) -> NDArray[np.bool_]:
        """Of an area and a side within the limits."""
        sized = (found.area >= self.least_px) & (found.area <= self.most_px)
        return sized & (found.longer_side <= self.most_side_px)


def halved(rgb: Colours) -> Colours:
    """(ceil(H / 2), ceil(W / 2), 3): means of 2 x 2 px, of fewer at an odd border."""
    return np.asarray(Image.fromarray(rgb).reduce(HALF))


def _colours(kinds: NDArray[np.intp]) -> Colours:
    """(n, 3) the colour in the middle of each kind."""
    channels = np.stack([kinds >> 2 * BITS, kinds >> BITS, kinds], axis=1) & ((1 << BITS) - 1)
    middle: Colours = ((channels << (8 - BITS)) + (1 << (7 - BITS))).astype(np.uint8)
    return middle


def _amount(rgb: Colours, stains: tuple[tuple[float, ...], ...]) -> stain.Values:
    if not stains:
        return stain.summed(stain.deconvolution_tables(), rgb)
    return stain.sparse_haematoxylin(rgb, np.array(stains))


def _percentile(values: stain.Values, weights: Counts, percent: float) -> float:
    """The least value that at least `percent` of the weight does not exceed."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    index = np.searchsorted(reached, percent / 100 * reached[-1])
    return float(values[order][min(index, len(order) - 1)])


def _blurred(values: stain.Values) -> stain.Values:
    """Weighted by 1, 2, 1 along rows and columns; borders are repeated."""
    for axis in (0, 1):
        values = np.moveaxis(values, axis, 0)
        padded = np.concatenate([values[:1], values, values[-1:]])
        values = (padded[:-2] + 2 * padded[1:-1] + padded[2:]) * np.float32(0.25)
        values = np.moveaxis(values, 0, axis)
    return values
