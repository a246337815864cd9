"""What annotations of every format must satisfy before anything is learnt from or scored against them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mitosight.errors import InputError
from mitosight.regions.region import BOX_PX, Region


def checked(path: Path, regions: Sequence[Region]) -> list[Region]:
    """The same regions, after checking names and coordinates.

    A centre may stray out of its image by half a box, so that its box still touches the image: two published
    annotations of MIDOG++ do (images 305 and 309, by 2 and 5 px). Where the size is unknown only NaN is found.

    Raises:
        InputError: an image stands twice, a coordinate is not finite, or an annotation lies outside its image.
    """
    unique(path, (region.file_name for region in regions), "image")
    for region in regions:
        if not np.isfinite(region.xy).all():
            raise InputError(path, f"an annotation on {region.file_name} is not finite", "expected numbers in px")
        _check_inside(path, region)
    return list(regions)


def unique(path: Path, names: Iterable[object], what: str) -> None:
    """Raises InputError when one of `names` stands twice; `what` says what they name."""
    twice = [str(name) for name, count in Counter(names).items() if count > 1]
    if twice:
        raise InputError(path, f"{what} {listed(twice)} stands twice", f"name each {what} once")


def listed(names: Sequence[str], most: int = 3) -> str:
    """The first names, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def outside(region: Region) -> NDArray[np.bool_]:
    """(n,) which annotations lie farther than half a box out of the image; none where its size is unknown."""
    if not (region.width_px and region.height_px):
        return np.zeros(len(region.xy), dtype=np.bool_)
    margin = BOX_PX / 2
    size = np.array([region.width_px, region.height_px])
    inside = (region.xy >= -margin) & (region.xy <= size + margin)
    return ~inside[:, 0] | ~inside[:, 1]


def _check_inside(path: Path, region: Region) -> None:
    strays = region.xy[outside(region)]
    if len(strays):
        raise InputError(
            path,
            f"an annotation at x {strays[0, 0]:g}, y {strays[0, 1]:g} lies outside its image {region.file_name} "
            f"({region.width_px} x {region.height_px} px)",
            "coordinates are px of the full image, x to the right, y down",
        )
