"""Every annotation format on small files written by hand, and round trips between all of them."""

from __future__ import annotations

import csv
import itertools
import json
import sqlite3
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np
import pytest

from mitosight import regions
from mitosight.errors import InputError, UsageError
from mitosight.regions import Domain, Region, formats
from mitosight.regions.region import label_named


def midog_json(**changes):
    document = {
        "images": [
            {"id": 7, "file_name": "b.tiff", "width": 400, "height": 300},
            {"id": 3, "file_name": "a.tiff", "width": 200, "height": 100},
        ],
        "categories": [{"id": 1, "name": "mitotic figure"}, {"id": 2, "name": "not mitotic figure"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 1, "bbox": [-5, 10, 45, 60]},
            {"id": 2, "image_id": 7, "category_id": 2, "bbox": [100.5, 200, 150.5, 250]},
        ],
    }
    return document | changes


def saved(path: Path, document) -> Path:
    path.write_text(json.dumps(document))
    return path


def texts(folder: Path, **files: str) -> Path:
    for name, content in files.items():
        path = folder / name.replace("__", "/")
        path = path.with_name(path.name + ".csv")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folder


def as_lists(region: Region):
    return region.file_name, region.xy.tolist(), region.label.tolist()


def test_midog_boxes_are_corners_and_the_figure_is_their_middle(tmp_path):
    b, a = regions.read(saved(tmp_path / "x.json", midog_json()))
    assert as_lists(b) == ("b.tiff", [[20, 35], [125.5, 225]], [1, 2])  # (-5 + 45) / 2, (10 + 60) / 2; ...
    assert (b.width_px, b.height_px, b.slide, b.mpp) == (400, 300, "b", None)
    assert as_lists(a) == ("a.tiff", [], [])
    assert b.figures.tolist() == [[20, 35]] and b.hard_negatives.tolist() == [[125.5, 225]]


def test_midog_plus_keeps_tumour_types_and_votes(tmp_path):
    document = midog_json()
    document["images"][0]["tumor_type"] = "canine lymphoma"
    document["annotations"][0]["labels"] = [1, 2, 1]
    path = saved(tmp_path / "x.json", document)
    assert formats.detect(path) == "midog++"
    b, a = regions.read(path)
    assert b.domain == Domain(tumor_type="canine lymphoma") and a.domain == Domain()
    assert b.votes == ((1, 2, 1), ())


def test_categories_go_by_their_names(tmp_path):
    names = [{"id": 1, "name": "hard negative"}, {"id": 2, "name": "mitotic figure"}]
    b, _ = regions.read(saved(tmp_path / "x.json", midog_json(categories=names)))
    assert b.label.tolist() == [2, 1]


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("mitotic figure", 1),
        ("Mitosis", 1),
        ("atypical mitotic figure", 1),
        ("not mitotic figure", 2),
        ("non-mitotic figure", 2),
        ("Nonmitotic", 2),
        ("hard negative", 2),
        ("hard_negative", 2),
        ("Mitosis-like", 2),
        ("mitotic figure look-alike", 2),
        ("imposter", 2),
        ("eosinophilic granulocyte", None),
        ("", None),
    ],
)
def test_class_names(name, label):
    assert label_named(name) == label


def database(path: Path, *statements: str) -> Path:
    connection = sqlite3.connect(path)
    connection.executescript(";".join(statements))
    connection.close()
    return path


OLD = (  # the columns of SlideRunner's first versions: no deleted, no directory, no votes
    "CREATE TABLE Slides (uid INTEGER PRIMARY KEY, filename TEXT)",
    "CREATE TABLE Annotations (uid INTEGER PRIMARY KEY, slide INTEGER, type INTEGER, agreedClass INTEGER)",
    "CREATE TABLE Annotations_coordinates (coordinateX INTEGER, coordinateY INTEGER, annoId INTEGER)",
)


def test_sqlite_without_the_newer_columns_and_the_centre_of_an_area(tmp_path):
    path = database(
        tmp_path / "x.db",
        *OLD,
        "INSERT INTO Slides VALUES (5, 'a.svs'), (6, 'b.svs')",
        "INSERT INTO Annotations VALUES (1, 6, 1, 1), (2, 6, 2, 2), (3, 6, 3, 1), (4, 6, 1, 0), (5, 6, 1, 7)",
        "INSERT INTO Annotations_coordinates VALUES (11, 12, 1), (10, 20, 2), (30, 50, 2), (0, 0, 3), (8, 0, 3),"
        "(8, 6, 3), (7, 6, 3), (1, 1, 4), (1, 1, 5)",
    )
    a, b = regions.read(path)
    assert as_lists(a) == ("a.svs", [], [])
    assert as_lists(b) == ("b.svs", [[11, 12], [20, 35], [4, 3]], [1, 2, 1])  # corners; extent 0..8 x 0..6


def test_sqlite_leaves_out_deleted_rows_and_other_classes_and_the_votes_of_models(tmp_path):
    path = database(
        tmp_path / "x.sqlite",
        *OLD,
        "ALTER TABLE Annotations ADD deleted INTEGER",
        "CREATE TABLE Classes (uid INTEGER, name TEXT)",
        "INSERT INTO Classes VALUES (1, 'granulocyte'), (2, 'mitotic figure'), (7, 'mitotic figure look-alike')",
        "CREATE TABLE Persons (uid INTEGER, name TEXT)",
        "INSERT INTO Persons VALUES (1, 'expert 1'), (2, 'RetinaNet'), (3, 'expert 2')",
        "CREATE TABLE Annotations_label (uid INTEGER, person INTEGER, class INTEGER, annoId INTEGER)",
        "INSERT INTO Annotations_label VALUES (1, 2, 2, 2), (2, 1, 2, 2), (3, 3, 7, 2), (4, 1, 7, 2), (5, 3, 1, 3)",
        "INSERT INTO Slides VALUES (1, 'a.svs')",
        "INSERT INTO Annotations VALUES (1, 1, 1, 1, 0), (2, 1, 1, 2, 0), (3, 1, 1, 7, NULL), (4, 1, 1, 2, 1)",
        "INSERT INTO Annotations_coordinates VALUES (1, 1, 1), (2, 2, 2), (3, 3, 3), (4, 4, 4)",
    )
    (a,) = regions.read(path)
    assert as_lists(a) == ("a.svs", [[2, 2], [3, 3]], [1, 2])
    assert a.votes == ((2, 2), ())  # expert 1 changed to 7, expert 2 said 7; a granulocyte is no vote


@pytest.mark.parametrize(
    ("rows", "names", "slides"),
    [
        ("(1, '1.tif', '01'), (2, '1.tif', '02')", ["01/1.tif", "02/1.tif"], ["01", "02"]),
        ("(1, '1.tif', '/data/x'), (2, '1.tif', '/data/y')", ["x/1.tif", "y/1.tif"], ["x", "y"]),
        ("(1, '1.tif', '/data/x'), (2, '2.tif', 'C:\\y')", ["1.tif", "2.tif"], ["1", "2"]),
        ("(1, '1.tif', 'x'), (2, '2.tif', NULL)", ["x/1.tif", "2.tif"], ["x/1", "2"]),
    ],
)
def test_sqlite_directories(tmp_path, rows, names, slides):
    path = database(
        tmp_path / "x.sqlite", *OLD, "ALTER TABLE Slides ADD directory TEXT", f"INSERT INTO Slides VALUES {rows}"
    )
    found = regions.read(path)
    assert [region.file_name for region in found] == names
    assert [region.slide for region in found] == slides


def test_sqlite_is_not_written_to(tmp_path):
    path = database(tmp_path / "x.sqlite", *OLD, "INSERT INTO Slides VALUES (1, 'a.svs')")
    path.chmod(0o400)
    before = path.read_bytes()
    assert len(regions.read(path)) == 1
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_sqlite_size_against_its_own_annotations_is_unknown(tmp_path):
    path = database(
        tmp_path / "x.sqlite",
        *OLD,
        "ALTER TABLE Slides ADD width INTEGER",
        "ALTER TABLE Slides ADD height INTEGER",
        "INSERT INTO Slides VALUES (1, 'a.svs', 100, 100), (2, 'b.svs', 100, 100)",
        "INSERT INTO Annotations VALUES (1, 1, 1, 1), (2, 2, 1, 1)",
        "INSERT INTO Annotations_coordinates VALUES (90, 90, 1), (90, 200, 2)",
    )
    assert [region.width_px for region in regions.read(path)] == [100, 0]


def test_tupac_is_row_then_column(tmp_path):
    found = regions.read(texts(tmp_path / "t", **{"01__25": "12,340\n7,8\n", "01__26": "", "02__25": "1,2\n"}))
    assert [as_lists(r) for r in found] == [
        ("01/25.tif", [[340, 12], [8, 7]], [1, 1]),
        ("01/26.tif", [], []),
        ("02/25.tif", [[2, 1]], [1]),
    ]
    assert [r.slide for r in found] == ["01", "01", "02"]
    (single,) = regions.read(tmp_path / "t" / "01" / "25.csv")
    assert as_lists(single) == ("25.tif", [[340, 12], [8, 7]], [1, 1])


def test_mitos14_is_x_then_y_and_the_name_gives_the_label(tmp_path):
    texts(
        tmp_path,
        A03__mitosis__A03_00Aa_mitosis="375,784,0.95\n",
        A03__mitosis__A03_00Aa_not_mitosis="878, 13, 0.2\n1,2,0\n",
        H03__mitosis__H03_00Ab_mitosis="",
        H03__mitosis__H03_00Ab_not_mitosis="",
        A03__atypia__x20__A03_00A="3,0.85\n",
    )
    first, second = regions.read(tmp_path)
    assert as_lists(first) == ("A03_00Aa.tiff", [[375, 784], [878, 13], [1, 2]], [1, 2, 2])
    assert as_lists(second) == ("H03_00Ab.tiff", [], [])
    assert first.slide == second.slide == "03"  # one glass slide, two scanners


def test_plain_csv(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("x_px,file_name,y_px,label,reader\n1.5,a.png,2,1,k\n3,a.png,4,hard negative,k\n,b.png,,,\n")
    a, b = regions.read(path)
    assert as_lists(a) == ("a.png", [[1.5, 2], [3, 4]], [1, 2])
    assert as_lists(b) == ("b.png", [], [])
    path.write_text("file_name,x_px,y_px\na.png,1,2\n")
    assert as_lists(regions.read(path)[0]) == ("a.png", [[1, 2]], [1])


@pytest.mark.parametrize(
    ("name", "content", "format"),
    [
        ("a.csv", "1,2\n3,4\n", "tupac"),
        ("a.csv", "1,2,0.5\n", "mitos14"),
        ("a_mitosis.csv", "1,2\n", "mitos14"),
        ("a_not_mitosis.csv", "", "mitos14"),
        ("a.csv", "file_name,x_px,y_px\n", "csv"),
        ("a.json", '{"images": [], "annotations": []}', "midog"),
        ("a.csv", '{"images": [], "annotations": []}', "midog"),  # the content decides, not the name
    ],
)
def test_detected(tmp_path, name, content, format):
    (tmp_path / name).write_text(content)
    assert formats.detect(tmp_path / name) == format


@pytest.mark.parametrize("content", ["1.5,2.5\n", "", "\n", "1,2\n1,2,3\n"])
def test_undecidable_numbers_ask_for_the_format(tmp_path, content):
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(InputError, match="--from"):
        regions.read(tmp_path / "a.csv")


def test_the_given_format_overrides(tmp_path):
    (tmp_path / "a.csv").write_text("10,20\n")
    assert regions.read(tmp_path / "a.csv", "tupac")[0].xy.tolist() == [[20, 10]]
    assert regions.read(tmp_path / "a.csv", "mitos14")[0].xy.tolist() == [[10, 20]]
    with pytest.raises(UsageError, match=r"no format 'coco'.*midog"):
        regions.read(tmp_path / "a.csv", "coco")


# -- writing ------------------------------------------------------------------------------------------------------

FULL = [
    Region(
        "a.tif",
        400,
        300,
        np.array([[20.5, 35], [125, 225], [7, 8]]),
        np.array([1, 2, 1]),
        ((1, 2, 1), (2, 2), (1,)),
        Domain(tumor_type="canine lymphoma"),
    ),
    Region("b.tif", 100, 100),
    Region("c.tif", 100, 100, np.array([[3, 4]]), np.array([2]), ((2, 1, 2),)),
]
WHAT = ("hard negatives", "votes", "sizes", "tumour types", "fractions of a px", "suffix")


def held(region: Region, what: set[str], suffix: str) -> Region:
    """What is left of a region by formats that hold no more than `what`; hard negatives last in mitos14's files."""
    if "hard negatives" not in what:
        region = formats.without_hard_negatives(region)
    if "votes" not in what:
        region = replace(region, votes=())
    if "sizes" not in what:
        region = replace(region, width_px=0, height_px=0)
    if "tumour types" not in what:
        region = replace(region, domain=Domain())
    if "fractions of a px" not in what:
        region = replace(region, xy=np.rint(region.xy))
    return replace(region, file_name=str(PurePosixPath(region.file_name).with_suffix(suffix)))


def contents(region: Region):
    rows = sorted(zip(region.xy.tolist(), region.label.tolist(), region.votes, strict=True))
    return region.file_name, region.width_px, region.height_px, region.domain, rows


@pytest.mark.parametrize(("first", "second"), list(itertools.product(formats.FORMATS, repeat=2)))
def test_round_trip_between_every_pair(tmp_path, first, second):
    what = set(formats.FORMATS[first].holds) & set(formats.FORMATS[second].holds)
    start = FULL if "hard negatives" in what else [formats.without_hard_negatives(region) for region in FULL]
    regions.write(start, tmp_path / "one", first)
    middle = regions.read(tmp_path / "one", first)
    regions.write(middle, tmp_path / "two", second)
    end = regions.read(tmp_path / "two", second)
    suffix = {"tupac": ".tif", "mitos14": ".tiff"}
    expected = [held(region, what, suffix.get(second, suffix.get(first, ".tif"))) for region in FULL]
    assert [contents(region) for region in end] == [contents(region) for region in expected]


@pytest.mark.parametrize("format", formats.FORMATS)
def test_what_is_written_is_detected(tmp_path, format):
    form = formats.FORMATS[format]
    regions.write(FULL, tmp_path / "x", format, drop_hard_negatives="hard negatives" not in form.holds)
    assert formats.detect(tmp_path / "x") == format


def test_cases_of_tupac_survive_every_format_that_names_files(tmp_path):
    cases = [Region("01/25.tif", xy=np.array([[1, 2]]), label=np.array([1])), Region("02/25.tif")]
    for format in ("tupac", "sqlite", "midog", "csv"):
        regions.write(cases, tmp_path / format, format)
        assert [as_lists(r) for r in regions.read(tmp_path / format, format)] == [as_lists(r) for r in cases]
    with pytest.raises(InputError, match="25 stands twice"):
        regions.write(cases, tmp_path / "mitos14", "mitos14")


def test_midog_is_written_as_50_px_boxes(tmp_path):
    regions.write(FULL, tmp_path / "x.json", "midog")
    document = json.loads((tmp_path / "x.json").read_text())
    assert [a["bbox"] for a in document["annotations"][:2]] == [[-4.5, 10, 45.5, 60], [100, 200, 150, 250]]
    assert document["images"][1] == {"file_name": "b.tif", "id": 2, "width": 100, "height": 100}
    assert "labels" not in document["annotations"][0] and "tumor_type" not in document["images"][0]


def test_the_json_suffix_means_the_schema_that_loses_nothing(tmp_path):
    assert formats.meant(tmp_path / "x.json", FULL) == "midog++"
    assert formats.meant(tmp_path / "x.json", [Region("a.tif")]) == "midog"
    assert formats.meant(tmp_path / "x.sqlite3", FULL) == "sqlite"
    with pytest.raises(UsageError, match="--to"):
        formats.meant(tmp_path / "x", FULL)


def test_per_image_files(tmp_path):
    regions.write(FULL, tmp_path / "t", "tupac", drop_hard_negatives=True)
    assert {p.name: p.read_text() for p in (tmp_path / "t").iterdir()} == {
        "a.csv": "35,20\n8,7\n",  # y, x; 20.5 is rounded to an even number
        "b.csv": "",
        "c.csv": "",
    }
    regions.write(FULL, tmp_path / "m", "mitos14")
    assert len(list((tmp_path / "m").iterdir())) == 6
    assert (tmp_path / "m" / "a_mitosis.csv").read_text() == "20,35,0.67\n7,8,1.00\n"  # votes 1 2 1; 1
    assert (tmp_path / "m" / "a_not_mitosis.csv").read_text() == "125,225,0.00\n"  # votes 2 2
    assert (tmp_path / "m" / "c_not_mitosis.csv").read_text() == "3,4,0.33\n"  # votes 2 1 2


def test_losses_are_named():
    assert formats.losses(FULL, "midog++") == []
    assert formats.losses(FULL, "csv") == ["4 votes of annotations", "3 sizes of images", "1 tumour types of images"]
    assert formats.losses(FULL, "tupac")[0] == "2 hard negatives"
    assert "1 fractions of a px (rounded)" in formats.losses(FULL, "mitos14")


def test_hard_negatives_are_not_lost_silently(tmp_path):
    with pytest.raises(InputError, match="2 would be lost; give --drop-hard-negatives"):
        regions.write(FULL, tmp_path / "t", "tupac")
    assert not (tmp_path / "t").exists()


def test_writing_is_whole_or_not_at_all(tmp_path):
    target = tmp_path / "t"
    target.mkdir()
    (target / "kept.csv").write_text("1,2\n")
    with pytest.raises(InputError, match="is there already"):
        regions.write([Region("a.tif")], target, "tupac")
    assert [p.name for p in tmp_path.rglob("*")] == ["t", "kept.csv"]
    broken = [Region("a.tif"), Region("bad\x00name.tif")]
    with pytest.raises(ValueError, match="null"):  # stands for any failure in the middle
        regions.write(broken, tmp_path / "u", "tupac")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["kept.csv", "t"]
    with pytest.raises(UsageError, match="name a folder"):
        regions.write([Region("a.tif")], tmp_path / "one.csv", "tupac")


def test_plain_csv_has_a_row_for_an_image_without_annotations(tmp_path):
    regions.write(FULL, tmp_path / "x.csv")
    with open(tmp_path / "x.csv", newline="") as stream:
        rows = list(csv.reader(stream))
    assert rows[0] == ["file_name", "x_px", "y_px", "label"]
    assert rows[1:] == [
        ["a.tif", "20.5", "35", "1"],
        ["a.tif", "125", "225", "2"],
        ["a.tif", "7", "8", "1"],
        ["b.tif", "", "", ""],
        ["c.tif", "3", "4", "2"],
    ]
