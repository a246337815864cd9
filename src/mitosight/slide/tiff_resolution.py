"""What a TIFF says of its µm per px: OME PhysicalSize, or resolution tags."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import tifffile

from mitosight.slide.resolution import Resolution

_UM = {2: 25400.0, 3: 10000.0, 4: 1000.0, 5: 1.0}  # TIFF tag ResolutionUnit: inch, cm, and tifffile's mm and µm
_OME_UM = {"nm": 1e-3, "µm": 1.0, "um": 1.0, "mm": 1e3, "cm": 1e4}
_MICRON = ("micron", "um", "µm", "\\u00B5m")


def tiff_resolution(file: tifffile.TiffFile) -> Resolution | None:
    """OME PhysicalSizeX and Y, else the resolution tags of the first page, else None."""
    return _ome_resolution(file) or _tag_resolution(file)


def _ome_resolution(file: tifffile.TiffFile) -> Resolution | None:
    if not file.is_ome:
        return None
    try:
        pixels = ElementTree.fromstring(file.ome_metadata or "").find(".//{*}Pixels")
        attributes = {} if pixels is None else pixels.attrib
        x, y = (
            float(attributes[f"PhysicalSize{axis}"]) * _OME_UM[attributes.get(f"PhysicalSize{axis}Unit", "µm")]
            for axis in "XY"
        )
    except (ElementTree.ParseError, KeyError, ValueError):
        return None
    return Resolution(x, y, "OME PhysicalSizeX")


def _tag_resolution(file: tifffile.TiffFile) -> Resolution | None:
    tags = file.pages.first.tags
    unit = int(tags.valueof("ResolutionUnit", default=2))  # inch where the tag is missing, by the standard
    imagej: dict[str, Any] = file.imagej_metadata or {}
    um = 1.0 if imagej.get("unit") in _MICRON else _UM.get(unit)
    try:
        x, y = (tags[f"{axis}Resolution"].value for axis in "XY")
        if um is None:
            return None
        return Resolution(um * x[1] / x[0], um * y[1] / y[0], "TIFF resolution tags")
    except (KeyError, ZeroDivisionError, TypeError):
        return None
