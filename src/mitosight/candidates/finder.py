"""What a finder of candidates is, what it gives, and what it takes from a whole slide."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mitosight.errors import InputError

Colours = NDArray[np.uint8]
Counts = NDArray[np.int64]
EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=bool)


@dataclass(frozen=True)
class Candidates:
    """Places of an image that may hold a mitotic figure, by row, then column.

    Attributes:
        xy: (n, 2) float64, centre of each region's bounding box, in px of the frame.
        area_px: (n,) float64, how many px of the frame the region covers.
    """

    xy: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 2)))
    area_px: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))

    def __len__(self) -> int:
        return len(self.area_px)

    def __getitem__(self, index: NDArray[np.bool_] | NDArray[np.intp]) -> Candidates:
        return Candidates(self.xy[index], self.area_px[index])

    def moved(self, offset_px: tuple[float, float], scale: float = 1.0) -> Candidates:
        """Candidates of a tile in the slide's frame: `(xy + offset_px) * scale`, areas times `scale` squared."""
        return Candidates((self.xy + np.asarray(offset_px, dtype=np.float64)) * scale, self.area_px * scale**2)

    def ordered(self) -> Candidates:
        """The same candidates by y, then x, then area."""
        return self[np.lexsort((self.area_px, self.xy[:, 0], self.xy[:, 1]))]


@dataclass(frozen=True)
class Statistics:
    """What a finder takes from a whole slide, so that each of its tiles is judged alike.

    Attributes:
        threshold: what a px must exceed, in the finder's own measure; infinite where the slide holds nothing to find.
        pixels: how many px it was taken from.
        stains: optical density by colour channel of haematoxylin and of eosin in this slide, where the finder
            learned them; else ().
    """

    threshold: float
    pixels: int
    stains: tuple[tuple[float, ...], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As values of JSON; an infinite threshold is null."""
        threshold = self.threshold if np.isfinite(self.threshold) else None
        return {"threshold": threshold, "pixels": self.pixels, "stains": [list(stain) for stain in self.stains]}

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Reads what `to_json` gave.

        Raises:
            InputError: it is something else.
        """
        try:
            threshold = np.inf if value["threshold"] is None else float(value["threshold"])
            stains = tuple(tuple(float(density) for density in stain) for stain in value["stains"])
            return cls(threshold, int(value["pixels"]), stains)
        except (TypeError, KeyError, ValueError):
            raise InputError(None, "these are no statistics of a slide", "expected threshold, pixels, stains") from None


@dataclass(frozen=True)
class Finder(ABC):
    """Finds candidates without training. A frozen dataclass of its settings; lengths and areas are in px of the tile.

    Statistics come from counts of colours, which add up: whatever the tiles a slide is cut into, as long as they cover
    it once, they are the same to the last bit.
    """

    name: ClassVar[str]
    zoom: ClassVar[int] = 1  # px of the tile for one of the mask, along each axis; corners of tiles lie at multiples

    @property
    @abstractmethod
    def overlap_px(self) -> int:
        """By how much tiles must overlap, so that a candidate is whole in the tile that owns its centre."""

    @abstractmethod
    def tally(self, rgb: Colours) -> Counts:
        """Counts the colours of a tile (H, W, 3); always of one length, so that tallies of tiles can be added."""

    @abstractmethod
    def concluded(self, counts: Counts) -> Statistics:
        """The statistics of the slide whose tallies add up to `counts`."""

    @abstractmethod
    def mask(self, rgb: Colours, statistics: Statistics) -> NDArray[np.bool_]:
        """(ceil(H / zoom), ceil(W / zoom)) where a tile (H, W, 3) exceeds the threshold of its slide."""

    @abstractmethod
    def kept(self, found: Parts) -> NDArray[np.bool_]:
        """(n,) which parts of the mask have the size of a candidate."""

    def find(self, rgb: Colours, statistics: Statistics) -> Candidates:
        """The candidates of a tile (H, W, 3) of the slide that has these statistics, in px of the tile."""
        found = parts(self.mask(rgb, statistics))
        return found.candidates(self.kept(found), self.zoom)

    def statistics(self, tiles: Iterable[Colours]) -> Statistics:
        """The statistics of a slide, from tiles (H, W, 3) that cover it once; one pass, in constant memory.

        Raises:
            InputError: there is no px.
        """
        counts: Counts | int = sum(self.tally(tile) for tile in tiles)
        if isinstance(counts, int):
            raise InputError(None, "statistics of a slide without tiles", "give at least one tile")
        return self.concluded(counts)


@dataclass(frozen=True)
class Parts:
    """Connected parts of a mask (8 neighbours), in px of the mask.

    Attributes:
        left, top, right, bottom: (n,) bounding boxes, half-open.
        area: (n,) px.
    """

    left: NDArray[np.int64]
    top: NDArray[np.int64]
    right: NDArray[np.int64]
    bottom: NDArray[np.int64]
    area: NDArray[np.int64]

    def candidates(self, kept: NDArray[np.bool_], scale: int) -> Candidates:
        """Those that are `kept`, as candidates of an image `scale` times as fine as the mask."""
        xy = np.stack([self.left + self.right, self.top + self.bottom], axis=1) / 2
        return Candidates(xy, self.area.astype(np.float64))[kept].moved((0, 0), scale).ordered()

    @property
    def longer_side(self) -> NDArray[np.int64]:
        """(n,) the longer side of each bounding box."""
        longer: NDArray[np.int64] = np.maximum(self.right - self.left, self.bottom - self.top)
        return longer


def parts(mask: NDArray[np.bool_]) -> Parts:
    """The connected parts of `mask` (H, W)."""
    labels, count = ndimage.label(mask, EIGHT_NEIGHBOURS)
    y, x = np.nonzero(mask)
    part = labels[y, x] - 1
    low = np.full((2, count), max(mask.shape))
    high = np.zeros((2, count), dtype=np.int64)
    for axis, place in enumerate((x, y)):
        np.minimum.at(low[axis], part, place)
        np.maximum.at(high[axis], part, place + 1)
    return Parts(low[0], low[1], high[0], high[1], np.bincount(part, minlength=count))
