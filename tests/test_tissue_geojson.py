"""Tissue from polygons: areas and points by hand, the files of QuPath and others, and what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mitosight.errors import InputError
from mitosight.slide import Slide
from mitosight.tissue import Tissue, tissue_from_geojson


def square(x0: float, y0: float, x1: float, y1: float) -> list[list[float]]:
    return [[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]


RING = {"type": "Polygon", "coordinates": [square(20, 20, 120, 120), square(60, 60, 80, 80)]}  # 9,600 px²
PAIR = {"type": "MultiPolygon", "coordinates": [[square(20, 20, 40, 40)], [square(100, 50, 110, 60)]]}  # 500 px²


def feature(geometry: dict[str, Any], name: str | None = None) -> dict[str, Any]:
    properties = {"objectType": "annotation"} | ({"classification": {"name": name}} if name else {})
    return {"type": "Feature", "id": "1", "geometry": geometry, "properties": properties}


def read(folder: Path, value: Any) -> Tissue:
    Image.new("RGB", (200, 150), "white").save(folder / "slide.png")
    path = folder / "tissue.geojson"
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    with Slide(folder / "slide.png") as slide:
        return tissue_from_geojson(path, slide)


@pytest.mark.parametrize(
    ("value", "area"),
    [
        (RING, 9600),
        (PAIR, 500),
        (feature(RING), 9600),
        ([feature(RING, "Tissue"), feature(PAIR)], 9600 + 0),  # the pair lies in the ring
        ({"type": "FeatureCollection", "features": [feature(PAIR), feature(RING, "Ignore*")]}, 500),
        ({"type": "GeometryCollection", "geometries": [PAIR, {"type": "Point", "coordinates": [1, 2]}]}, 500),
        ({"type": "Polygon", "coordinates": [square(-50, -50, 30, 10)]}, 300),  # cut at the slide's border
        ({"type": "Polygon", "coordinates": [square(0, 0, 10, 10)[:4]]}, 100),  # not closed
        ({"type": "Polygon", "coordinates": [[[0, 0], [10, 10], [10, 0], [0, 10], [0, 0]]]}, 50),  # crosses itself
        ({"type": "Polygon", "coordinates": [[[0, 0, 7], [10, 0, 7], [10, 10, 7], [0, 0, 7]]]}, 50),  # with a height
    ],
)
def test_area_of_what_is_drawn(tmp_path: Path, value: Any, area: float) -> None:
    assert read(tmp_path, value).area_mm2(1000.0) == pytest.approx(area)


def test_points_and_rectangles_are_judged_by_the_polygons(tmp_path: Path) -> None:
    tissue = read(tmp_path, RING)
    xy = np.array([[20, 20], [19.9, 50], [59.9, 70], [60.1, 70], [70, 70], [119.9, 119.9], [120.1, 60], [500, 50]])
    assert tissue.holds(xy).tolist() == [True, False, True, False, False, True, False, False]
    assert not tissue.touches(61, 61, 79, 79)  # within the hole
    assert tissue.touches(59, 61, 79, 79)
    assert not tissue.touches(120.5, 0, 200, 150)


def test_the_mask_shows_the_polygons(tmp_path: Path) -> None:
    tissue = read(tmp_path, RING)
    y, x = (np.mgrid[: tissue.mask.shape[0], : tissue.mask.shape[1]] + 0.5) * tissue.px
    inside = tissue.holds(np.stack([x.ravel(), y.ravel()], axis=1)).reshape(tissue.mask.shape)
    assert tissue.mask[inside].all()
    far = (x < 20 - tissue.px) | (x > 120 + tissue.px) | (y < 20 - tissue.px) | (y > 120 + tissue.px)
    assert not tissue.mask[far].any()


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("{", "is not JSON"),
        ("[]", "holds no polygon"),
        ("3", "holds no polygon"),
        ({"type": "LineString", "coordinates": [[0, 0], [5, 5]]}, "holds no polygon"),
        (feature(RING, "Ignore*"), "holds no polygon"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [5, 5], [0, 0]]]}, "holds no polygon"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [5, 5]]]}, "three points"),
        ({"type": "Polygon", "coordinates": [[["a", 0], [5, 5], [5, 0]]]}, "three points"),
        ({"type": "Polygon", "coordinates": []}, "three points"),
        ({"type": "MultiPolygon", "coordinates": 5}, "three points"),
        (
            {"type": "Polygon", "coordinates": [square(300, 10, 400, 90)]},
            "x 300 to 400, y 10 to 90; the slide is 200 x",
        ),
    ],
)
def test_what_is_refused(tmp_path: Path, value: Any, said: str) -> None:
    with pytest.raises(InputError, match=said) as error:
        read(tmp_path, value)
    assert "\n" not in str(error.value) and "tissue.geojson" in str(error.value)


def test_a_missing_file(tmp_path: Path) -> None:
    Image.new("RGB", (20, 20)).save(tmp_path / "slide.png")
    with Slide(tmp_path / "slide.png") as slide, pytest.raises(InputError, match="is not there"):
        tissue_from_geojson(tmp_path / "no.geojson", slide)
