"""Annotated regions through one model, for those who score what was found: all of them, or the first reason why not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mitosight import detections
from mitosight.cohort.record import OK
from mitosight.cohort.searching import detect_slides
from mitosight.cohort.settings import Preparation, Settings, key_of
from mitosight.detections import Detections
from mitosight.errors import InputError
from mitosight.methods.detector import Detector
from mitosight.regions import DataFolder, Region


def settings_of(data: DataFolder, regions: Sequence[Region]) -> Settings:
    """Reads the images of the regions at the µm per px that these name, and searches their tissue."""
    paths = {key_of(data.image_path(region)): region for region in regions}
    mpp = {key: region.mpp for key, region in paths.items() if region.mpp is not None}
    return Settings(table_mpp=mpp, slides={key: region.slide for key, region in paths.items()})


def search_regions(
    data: DataFolder,
    regions: Sequence[Region],
    model: Path,
    detector: Detector,
    out: Path,
    prepare: Preparation | None = None,
) -> dict[str, Detections]:
    """The points of each region by its file name, which may hold folders; `out` gets what `detect_slides` writes.

    Raises:
        InputError: the first region that failed; or as `detect_slides`.
    """
    paths = [data.image_path(region) for region in regions]
    found = {}
    rows = detect_slides(paths, model, detector, out, settings_of(data, regions), None, prepare)
    for region, row in zip(regions, rows, strict=True):
        if row.status != OK:
            raise InputError(row.slide, row.message, "mend it or take it out of the split")
        read = detections.read(out / row.detections)
        found[region.file_name] = next(iter(read.values()), Detections(mpp=region.mpp))
    return found
