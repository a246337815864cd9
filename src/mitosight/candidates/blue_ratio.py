"""Blue ratio: where blue outweighs red and green, as in Kondo 2021."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from mitosight.candidates.finder import Colours, Counts, Finder, Parts, Statistics

Formula = Literal["chang", "plain"]
BLUES = 256  # 8-bit values
CODES = 511 * BLUES  # every pair of red + green (0 to 510) and blue: the ratio knows no more of a colour


@dataclass(frozen=True)
class BlueRatio(Finder):
    """Regions whose blue ratio exceeds mean + `deviations` standard deviations of the image (Kondo 2021).

    Attributes:
        formula: "plain", B / (R + G), the default, is what Kondo says in words, "the ratio of the blue channel and the
            sum of the other two channels", and that leaves nothing open. "chang", 100 B / (1 + R + G) x 256 / (1 + B +
            R + G), is that of Chang et al. 2012, whom Kondo cites for it; its second factor also rewards darkness, so
            that a few near-black px raise the threshold and figures are missed (docs/candidates.md).
        deviations: standard deviations above the mean.
        least_px: smaller regions are dropped.
        most_side_px: regions that are wider or higher are dropped.
    """

    name: ClassVar[str] = "blue-ratio"
    formula: Formula = "plain"
    deviations: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 3.0
    least_px: Annotated[int, Field(ge=1)] = 2
    most_side_px: Annotated[int, Field(ge=1)] = 50

    @property
    def overlap_px(self) -> int:
        """A region of the greatest side, and a px around it."""
        return self.most_side_px + 2

    def tally(self, rgb: Colours) -> Counts:
        """How often each pair of red + green and blue occurs."""
        return np.bincount(_codes(rgb).ravel(), minlength=CODES).astype(np.int64, copy=False)

    def concluded(self, counts: Counts) -> Statistics:
        """Mean + deviations x standard deviation, over all px, glass included, as the paper has it."""
        ratio, pixels = ratios(self.formula), int(counts.sum())
        mean = float(counts @ ratio) / pixels
        variance = float(counts @ (ratio - mean) ** 2) / pixels
        return Statistics(mean + self.deviations * variance**0.5, pixels)

    def mask(self, rgb: Colours, statistics: Statistics) -> NDArray[np.bool_]:
        """Where the ratio exceeds the threshold."""
        return (ratios(self.formula) > statistics.threshold)[_codes(rgb)]

    def kept(self, found: Parts) -> NDArray[np.bool_]:
        """Neither below the least area nor wider or higher than allowed."""
        return (found.area >= self.least_px) & (found.longer_side <= self.most_side_px)


@cache
def ratios(formula: Formula) -> NDArray[np.float64]:
    """(511 * 256,) blue ratio at code (R + G) * 256 + B. The plain one takes R + G = 0 as 1."""
    rest, blue = (values.astype(np.float64) for values in np.divmod(np.arange(CODES), BLUES))
    if formula == "plain":
        return blue / np.maximum(rest, 1)
    return 100 * blue / (1 + rest) * 256 / (1 + blue + rest)


def _codes(rgb: Colours) -> NDArray[np.uint32]:
    codes = np.add(rgb[..., 0], rgb[..., 1], dtype=np.uint32)
    codes *= BLUES
    codes += rgb[..., 2]
    return codes
