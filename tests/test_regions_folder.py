"""Data folders: domains, splits and their leaks, missing images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mitosight import regions
from mitosight.errors import InputError
from mitosight.regions import Domain, Region
from mitosight.regions.summary import Summary, by_domain, summarise
from test_regions_formats import saved

NAMES = ("001.tiff", "002.tiff", "003.tiff")
TABLE = """Slide;Dataset;Tumor;Scanner;Origin;Species
1;train;human breast cancer;Hamammatsu XR;UMC Utrecht;Human
2;train;canine lymphoma;3D Histech;VMU Vienna;Canine
3;test;canine lymphoma;3D Histech;VMU Vienna;Canine
77;test;canine lymphoma;3D Histech;VMU Vienna;Canine
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three images, two of one slide; 2, 1 and 0 figures, one hard negative."""
    (tmp_path / "images").mkdir()
    for name in NAMES:
        (tmp_path / "images" / name).touch()
    found = [
        Region(NAMES[0], 1000, 2000, np.array([[1, 2], [3, 4], [5, 6]]), np.array([1, 1, 2])),
        Region(NAMES[1], 1000, 1000, np.array([[7, 8]]), np.array([1])),
        Region(NAMES[2], 1000, 1000),
    ]
    regions.write(found, tmp_path / "annotations.json")
    (tmp_path / "domains.csv").write_text(
        "file_name,slide,scanner,tumor_type,species,mpp\n"
        "001.tiff,s1,XR,breast,human,0.5\n002.tiff,s1,CS2,breast,human,0.25\n003.tiff,s2,CS2,breast,human,0.25\n"
        "other.tiff,s9,GT450,,,\n"
    )
    saved(tmp_path / "split.json", {"train": [NAMES[1], NAMES[0]], "test": [NAMES[2]]})
    return tmp_path


def test_a_data_folder(data):
    folder = regions.load(data)
    first = folder.regions[0]
    assert (first.slide, first.mpp, first.domain) == ("s1", 0.5, Domain("XR", "breast", "human"))
    assert folder.split == {"train": (NAMES[1], NAMES[0]), "test": (NAMES[2],)}
    assert [r.file_name for r in folder.part("train")] == [NAMES[0], NAMES[1]]  # order of the annotations
    assert folder.image_path(first) == data / "images" / "001.tiff"
    with pytest.raises(InputError, match="no part 'val'; there are train, test"):
        folder.part("val")


def test_counts_and_areas(data):
    folder = regions.load(data)
    assert by_domain(folder) == {
        ("train", "CS2", "breast"): Summary(1, 1, 0, 0.0625),  # 1000 px x 0.25 µm = 0.25 mm
        ("train", "XR", "breast"): Summary(1, 2, 1, 0.5),  # 0.5 mm x 1 mm
        ("test", "CS2", "breast"): Summary(1, 0, 0, 0.0625),
    }
    assert summarise(folder.regions) == Summary(3, 3, 1, 0.625)
    assert summarise([*folder.regions, Region("x")]).area_mm2 is None


def test_each_part_can_be_named_apart(data, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    for name in ("annotations.json", "domains.csv", "split.json", "images"):
        (data / name).rename(other / f"my-{name}")
    with pytest.raises(InputError, match=r"annotations.json: does not exist; a data folder holds images/"):
        regions.load(data)
    folder = regions.load(
        data,
        annotations=other / "my-annotations.json",
        domains=other / "my-domains.csv",
        split=other / "my-split.json",
        images=other / "my-images",
    )
    assert len(folder.part("train")) == 2 and folder.image_path(folder.regions[0]).exists()


def test_domains_and_split_may_be_missing(data):
    (data / "domains.csv").unlink()
    (data / "split.json").unlink()
    folder = regions.load(data)
    assert folder.split == {} and folder.regions[0].domain == Domain() and folder.regions[0].slide == "001"
    with pytest.raises(InputError, match="there is no split"):
        folder.part("train")


@pytest.mark.parametrize("given", ["split", "domains"])
def test_the_table_of_midog_plus_is_split_and_domains(data, given):
    (data / "domains.csv").unlink()
    (data / "split.json").unlink()
    table = data / "datasets_xvalidation.csv"
    table.write_text(TABLE)
    folder = regions.load(data, **{given: table})
    assert folder.split == {"train": (NAMES[0], NAMES[1]), "test": (NAMES[2],)}  # slide 77 is not annotated here
    assert folder.regions[0].domain == Domain("Hamamatsu XR", "human breast cancer", "human")
    assert folder.regions[2].domain == Domain("3D Histech", "canine lymphoma", "canine")


def test_own_domains_stand_beside_the_table_as_split(data):
    table = data / "table.csv"
    table.write_text(TABLE)
    folder = regions.load(data, split=table, domains=data / "domains.csv")
    assert folder.regions[1].domain.scanner == "CS2" and folder.split["test"] == (NAMES[2],)


def test_empty_cells_keep_what_was_known(data):
    (data / "d.csv").write_text("file_name,scanner,tumor_type\n001.tiff,,lung\n")
    region = Region("001.tiff", domain=Domain("XR", "breast", "dog"), slide="s", mpp=0.3)
    (found,) = regions.with_domains([region], data / "d.csv")
    assert (found.domain, found.slide, found.mpp) == (Domain("XR", "lung", "dog"), "s", 0.3)


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ("001.tiff,0\n", "line 2 gives 001.tiff the mpp '0'"),
        ("001.tiff,0.25\n002.tiff,250\n", "line 3 gives 002.tiff the mpp '250'"),
        ("001.tiff,nan\n", "mpp 'nan'"),
        ("001.tiff,a quarter\n", "mpp 'a quarter'"),
        ("001.tiff,\n001.tiff,\n", "file 001.tiff stands twice"),
        ("x.tiff,0.25\n", "names none of the annotated images"),
    ],
)
def test_domains_that_cannot_be(data, rows, found):
    (data / "domains.csv").write_text("file_name,mpp\n" + rows)
    with pytest.raises(InputError, match=f"domains.csv: .*{found}"):
        regions.load(data)


def test_domains_without_file_names(data):
    (data / "domains.csv").write_text("name,mpp\n001.tiff,0.25\n")
    with pytest.raises(InputError, match="lacks the column file_name"):
        regions.load(data)


@pytest.mark.parametrize(
    ("split", "found"),
    [
        (
            {"train": ["001.tiff"], "test": ["002.tiff"]},
            "slide s1 stands on both sides of the split: 001.tiff in train, 002.tiff in test",
        ),
        ({"train": ["003.tiff"], "test": ["003.tiff"]}, "003.tiff stands in train and in test"),
        ({"train": ["003.tiff", "003.tiff"]}, "003.tiff stands twice in train"),
        ({"train": ["004.tiff", "x.tiff"]}, "names 004.tiff, x.tiff, not annotated"),
        ({"train": "001.tiff"}, "no object of lists"),
        (["001.tiff"], "no object of lists"),
    ],
)
def test_splits_that_cannot_be(data, split, found):
    saved(data / "split.json", split)
    with pytest.raises(InputError, match=found):
        regions.load(data)


def test_a_region_of_several_slides_keeps_them_all_together(data):
    (data / "domains.csv").write_text("file_name,slide\n001.tiff,s1|s2\n002.tiff,s3\n003.tiff,s2\n")
    with pytest.raises(InputError, match="slide s2 stands on both sides"):
        regions.load(data)
    (data / "domains.csv").write_text("file_name,slide\n001.tiff,s1|s3\n002.tiff,s3\n003.tiff,s2\n")
    assert len(regions.load(data).part("train")) == 2


@pytest.mark.parametrize(
    ("table", "found"),
    [
        ("Slide;Dataset\n1;train\n", "lacks the column Tumor, Scanner, Species"),
        (TABLE.replace("2;train", "1;train"), "line 3 names slide 1 again"),
        (TABLE.replace("2;train", "two;train"), "line 3 lacks the number"),
        (TABLE.splitlines()[0] + "\n900;train;a;b;c;d\n", "names none of the annotated images"),
    ],
)
def test_tables_that_cannot_be(data, table, found):
    (data / "table.csv").write_text(table)
    with pytest.raises(InputError, match=found):
        regions.load(data, split=data / "table.csv")


def test_annotated_images_must_be_there(data):
    (data / "images" / "002.tiff").unlink()
    with pytest.raises(InputError, match=r"lists 002.tiff, not in .*images"):
        regions.load(data)
    assert len(regions.load(data, need_images=False).regions) == 3
    with pytest.raises(InputError, match="is no folder of images"):
        regions.load(data, images=data / "nowhere")


def test_formats_without_suffixes_take_the_images_own(data, tmp_path):
    points = tmp_path / "points"
    points.mkdir()
    for name in NAMES:
        (points / name).with_suffix(".csv").write_text("5,6\n")
    folder = regions.load(data, annotations=points)  # tupac's images would be .tif
    assert [r.file_name for r in folder.regions] == list(NAMES)
    (data / "images" / "001.png").touch()
    with pytest.raises(InputError, match=r"holds 001.png and 001.tiff"):
        regions.load(data, annotations=points)


def test_folders_that_are_none(data, tmp_path):
    with pytest.raises(InputError, match="does not exist; a data folder holds"):
        regions.load(tmp_path / "nowhere")
    with pytest.raises(InputError, match="is no folder"):
        regions.load(data / "annotations.json")
    (data / "annotations.json").write_text(json.dumps({"images": [], "annotations": []}))
    with pytest.raises(InputError, match="lists no image"):
        regions.load(data)


def test_a_slide_under_the_name_of_its_data_set_and_without_is_one(data):
    (data / "domains.csv").write_text("file_name,slide\n001.tiff,024\n002.tiff,MIDOG21:024\n003.tiff,TUPAC16:024\n")
    saved(data / "split.json", {"train": ["001.tiff"], "test": ["002.tiff"]})
    told = r"slide MIDOG21:024 \(taken for 024\) stands on both sides of the split: 001.tiff in train, 002.tiff in"
    with pytest.raises(InputError, match=told):
        regions.load(data)
    saved(data / "split.json", {"test": ["002.tiff"], "train": ["001.tiff"]})
    with pytest.raises(InputError, match=r"slide 024 \(taken for MIDOG21:024\) stands on both sides"):
        regions.load(data)
    saved(data / "split.json", {"train": ["002.tiff"], "test": ["003.tiff"]})
    assert regions.load(data).split["test"] == ("003.tiff",)


def test_names_of_slides_from_a_table(tmp_path):
    (tmp_path / "t.csv").write_text("file_name,slide,mpp\na.tiff,s1|s2,0.25\nb.tiff,,0.25\n")
    assert regions.read_slides(tmp_path / "t.csv") == {"a.tiff": "s1|s2"}
