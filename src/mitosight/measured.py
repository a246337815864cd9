"""Regions with the size and the mpp of their image files, where annotations and tables leave them open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mitosight.errors import InputError
from mitosight.regions import Region, checked
from mitosight.slide import Slide

SAME_SIZE = 0.01  # frames of MITOS-ATYPIA-14 are a px narrower than the others; a resized image differs by more


def measured(images: Path, regions: Sequence[Region]) -> list[Region]:
    """Opens the image of each region in the folder `images` and completes the region by what it says.

    Raises:
        InputError: an image is missing, unreadable or truncated, has another size than its annotations say, its mpp
            is known from nowhere, or an annotation lies outside it.
    """
    return [_measured(images / region.file_name, region) for region in regions]


def _measured(path: Path, region: Region) -> Region:
    with Slide(path, table_mpp=region.mpp) as slide:
        told, found = (region.width_px, region.height_px), (slide.width_px, slide.height_px)
        if region.width_px and any(abs(a - b) > SAME_SIZE * b for a, b in zip(told, found, strict=True)):
            raise InputError(
                path,
                f"is {slide.width_px} x {slide.height_px} px, its annotations say "
                f"{region.width_px} x {region.height_px} px",
                "annotate the image that is read, or mend its width and height in the annotations",
            )
        slide.read((slide.width_px - 1, slide.height_px - 1), (1, 1))  # a truncated file ends before its last px
        complete = replace(region, width_px=slide.width_px, height_px=slide.height_px, mpp=slide.mpp)
    return checked(path, [complete])[0]
