"""Tissue drawn by hand: GeoJSON as QuPath and others write it, in level-0 px."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from mitosight.errors import InputError
from mitosight.slide import Slide
from mitosight.tissue.tissue import Tissue, grid_shape

ACCEPTED = "accepted is GeoJSON with polygons in level-0 px, as QuPath exports annotations"
MASK_PX = 32  # level-0 px per px of the mask, which only shows the polygons: 8 µm at 0.25 µm per px
LEAST_ACROSS = 16  # px of the mask across the shorter side
WITHIN = {"FeatureCollection": "features", "GeometryCollection": "geometries", "Feature": "geometry"}
IGNORED = "ignore*"  # QuPath's class for what shall not be looked at


def tissue_from_geojson(path: str | Path, slide: Slide) -> Tissue:
    """The tissue that polygons outline, in level-0 px of `slide`.

    Polygons and multipolygons with holes, features, lists and collections of these are read; points and lines are
    passed over, and so are features of QuPath's class "Ignore*". Polygons that overlap are one; those that cross
    themselves are taken apart; what lies beyond the slide is cut off. Needs no mpp.

    Raises:
        InputError: the file is missing, no JSON, holds no polygon or a broken one, or none lies on the slide.
    """
    polygons = [_polygon(path, rings) for rings in _rings(path, _parsed(path))]
    whole = shapely.union_all([shapely.make_valid(polygon) for polygon in polygons])
    if not polygons or whole.area == 0:
        raise InputError(path, "holds no polygon", ACCEPTED)
    size = slide.width_px, slide.height_px
    outline = _areas(shapely.intersection(whole, shapely.box(0, 0, *size)))
    if outline.is_empty:
        x0, y0, x1, y1 = whole.bounds
        found = f"lies outside of {slide.name}: x {x0:.0f} to {x1:.0f}, y {y0:.0f} to {y1:.0f}"
        raise InputError(path, found, f"the slide is {size[0]} x {size[1]} px; expected level-0 px")
    px = max(1.0, min(MASK_PX, min(size) / LEAST_ACROSS))
    return Tissue(_drawn(outline, grid_shape(size, px), px), px, size, outline)


def _parsed(path: str | Path) -> Any:
    try:
        return json.loads(Path(path).read_bytes())
    except FileNotFoundError:
        raise InputError(path, "is not there", ACCEPTED) from None
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror})", ACCEPTED) from None
    except (ValueError, RecursionError) as error:
        raise InputError(path, f"is not JSON ({error})", ACCEPTED) from None


def _rings(path: str | Path, value: Any) -> Iterator[Any]:
    """The coordinates of each polygon: its outer ring, then its holes."""
    if isinstance(value, list):
        for one in value:
            yield from _rings(path, one)
    if not isinstance(value, dict) or _class_name(value).lower() == IGNORED:
        return
    kind = value.get("type")
    if kind in WITHIN:
        yield from _rings(path, value.get(WITHIN[kind]))
    elif kind == "Polygon":
        yield value.get("coordinates")
    elif kind == "MultiPolygon":
        parts = value.get("coordinates")
        if not isinstance(parts, list):
            raise _broken(path)
        yield from parts


def _class_name(feature: dict[str, Any]) -> str:
    """QuPath's class of a feature, "" where there is none."""
    properties = feature.get("properties")
    named = properties.get("classification") if isinstance(properties, dict) else None
    return str(named.get("name", "")) if isinstance(named, dict) else ""


def _polygon(path: str | Path, rings: Any) -> shapely.Polygon:
    if not isinstance(rings, list) or not rings:
        raise _broken(path)
    outer, *holes = (_ring(path, ring) for ring in rings)
    return shapely.Polygon(outer, holes)


def _ring(path: str | Path, points: Any) -> NDArray[np.float64]:
    try:
        ring = np.array(points, dtype=np.float64)
    except (TypeError, ValueError):
        raise _broken(path) from None
    if ring.ndim != 2 or ring.shape[1] < 2 or len(ring) < 3 or not np.isfinite(ring).all():
        raise _broken(path)
    return ring[:, :2]


def _broken(path: str | Path) -> InputError:
    return InputError(path, "holds a polygon that is not rings of at least three points (x, y)", ACCEPTED)


def _areas(shape: shapely.Geometry) -> shapely.MultiPolygon:
    """The polygons of a geometry, without the points and lines that cutting leaves."""
    return shapely.MultiPolygon([part for part in shapely.get_parts(shape, return_index=False) if part.area > 0])


def _drawn(outline: shapely.MultiPolygon, shape: tuple[int, int], px: float) -> NDArray[np.bool_]:
    """(h, w) the px of the mask that the polygons cover or touch, each drawn in its own rectangle."""
    mask = np.zeros(shape, dtype=bool)
    for polygon in outline.geoms:
        x0, y0, x1, y1 = (int(bound // px) for bound in polygon.bounds)
        part = Image.new("1", (x1 - x0 + 1, y1 - y0 + 1))
        draw = ImageDraw.Draw(part)
        for i, ring in enumerate([polygon.exterior, *polygon.interiors]):
            points = np.asarray(ring.coords) / px - (x0, y0) - 0.5  # Pillow's px have their centres at whole numbers
            corners = [(float(x), float(y)) for x, y in points]
            draw.polygon(corners, fill=0 if i else 1, outline=1)
        height, width = shape[0] - y0, shape[1] - x0
        mask[y0 : y1 + 1, x0 : x1 + 1] |= np.asarray(part)[:height, :width]
    return mask
