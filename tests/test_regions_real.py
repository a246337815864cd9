"""The readers on the published annotation files, where these lie beside the checkout."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from mitosight import regions
from mitosight.regions import Region

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
ANNOTATIONS = DATA / "annotations"
pytestmark = pytest.mark.skipif(not ANNOTATIONS.is_dir(), reason=f"no published annotations in {ANNOTATIONS}")


def counts(found: list[Region]) -> tuple[int, int, int]:
    return len(found), sum(len(r.figures) for r in found), sum(len(r.hard_negatives) for r in found)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("MIDOG.json", (200, 1721, 2714)),
        ("MIDOG.sqlite", (200, 1721, 2714)),
        ("MIDOG++.json", (553, 11937, 14349)),
        ("TUPAC.sqlite", (656, 1552, 0)),
    ],
)
def test_published_counts(name, expected):
    assert counts(regions.read(ANNOTATIONS / name)) == expected


def test_midog_by_scanner():
    found = regions.read(ANNOTATIONS / "MIDOG.json")
    assert [counts(found[i : i + 50])[1:] for i in (0, 50, 100, 150)] == [(451, 724), (582, 1066), (688, 924), (0, 0)]


def test_json_and_sqlite_of_midog_agree_to_the_pixel():
    for a, b in zip(*(regions.read(ANNOTATIONS / f"MIDOG.{s}") for s in ("json", "sqlite")), strict=True):
        assert a.file_name == b.file_name
        np.testing.assert_array_equal(a.label, b.label)
        np.testing.assert_array_equal(a.xy, b.xy)


def test_votes_of_the_database_are_those_of_midog_plus():
    """Two files made apart: one vote of each expert, none of the model that proposed candidates."""
    plus = {r.file_name: r for r in regions.read(ANNOTATIONS / "MIDOG++.json")}
    for region in regions.read(ANNOTATIONS / "MIDOG.sqlite"):
        assert region.votes == plus[region.file_name].votes


def test_votes_of_midog_plus():
    votes = [v for r in regions.read(ANNOTATIONS / "MIDOG++.json") for v in r.votes]
    assert Counter(map(len, votes)) == {2: 17727, 3: 8559}
    assert Counter(vote for v in votes for vote in v) == {1: 26369, 2: 34762}


def test_split_and_domains_of_midog_plus(tmp_path):
    table = ANNOTATIONS / "datasets_xvalidation.csv"
    data = regions.load(tmp_path, annotations=ANNOTATIONS / "MIDOG++.json", split=table, need_images=False)
    assert {part: counts(data.part(part))[:2] for part in data.split} == {"train": (392, 9470), "test": (111, 2467)}
    tumours = Counter(r.domain.tumor_type for r in data.part("test") for _ in r.figures)
    assert tumours["canine lymphoma"] == 840 and tumours["human melanoma"] == 220
    scanners = Counter(r.domain.scanner for r in data.regions)
    assert scanners == {"Hamamatsu XR": 154, "Hamamatsu S360": 50, "Aperio CS2": 100, "3D Histech": 199, "unknown": 50}


def test_cases_of_tupac():
    found = regions.read(ANNOTATIONS / "TUPAC.sqlite")
    assert found[0].file_name == "01/25.tif" and len({r.slide for r in found}) == 73
    assert counts([r for r in found if int(r.slide) <= 12])[:2] == (311, 550)
    assert counts([r for r in found if 13 <= int(r.slide) <= 23])[:2] == (295, 533)


def test_every_published_file_survives_the_formats_that_hold_it(tmp_path):
    for name, target in (("MIDOG++.json", "x.json"), ("MIDOG.sqlite", "y.sqlite"), ("TUPAC.sqlite", "tupac")):
        found = regions.read(ANNOTATIONS / name)
        regions.write(found, tmp_path / target, None if "." in target else target)
        key = {r.file_name: r for r in regions.read(tmp_path / target)}
        for r in found:
            np.testing.assert_array_equal(key[r.file_name].xy, r.xy)
            assert target == "tupac" or key[r.file_name].votes == r.votes


@pytest.mark.parametrize(
    ("name", "figures"),
    [
        ("fields", {"train": 1886, "val": 583, "test": 471}),
        ("mitos14", {"train": 225, "val": 113, "test": 98}),
    ],
)
def test_data_folders(name, figures):
    data = regions.load(DATA / name)
    assert {part: counts(data.part(part))[1] for part in data.split} == figures
    assert all(region.area_mm2 for region in data.regions)
