"""Annotations that cannot be used: each is refused by one line that names the file and what was found."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from mitosight import regions
from mitosight.errors import InputError
from mitosight.regions import Region
from test_regions_formats import OLD, database, midog_json, saved


def annotation(**changes):
    return {"id": 9, "image_id": 7, "category_id": 1, "bbox": [10, 10, 60, 60]} | changes


@pytest.mark.parametrize(
    ("annotations", "found"),
    [
        ([annotation(image_id=8)], "annotation 9 is on image id 8, which does not exist"),
        ([annotation(bbox=[100, 200, 50, 50])], "no positive width.*not .x, y, width, height."),
        ([annotation(bbox=[10, 20, 50, 50]), annotation(bbox=[30, 20, 50, 50])], "looks like a size"),
        ([annotation(bbox=[10, 20, 60])], "not four finite numbers"),
        ([annotation(bbox=[10, 20, 60, float("nan")])], "not four finite numbers"),
        ([annotation(bbox=[10, 20, 60, None])], "not four finite numbers"),
        ([annotation(category_id=3)], "unknown category 3"),
        ([annotation(labels=[1, 5])], "votes"),
        ([annotation(bbox=[500, 10, 550, 60])], "x 525, y 35 lies outside its image b.tiff .400 x 300 px"),
        ([annotation(bbox=[10, -80, 60, -30])], "x 35, y -55 lies outside"),
        ([{"id": 1, "image_id": 7, "bbox": [10, 10, 60, 60]}], "lacks 'category_id'"),
        ([{"id": 1}], "lacks 'image_id'"),
        ("none", "holds no list 'annotations'"),
    ],
)
def test_midog_annotations(tmp_path, annotations, found):
    path = saved(tmp_path / "bad.json", midog_json(annotations=annotations))
    with pytest.raises(InputError, match=f"bad.json: .*{found}"):
        regions.read(path)


@pytest.mark.parametrize(
    ("images", "found"),
    [
        ([{"id": 1, "file_name": "a"}, {"id": 2, "file_name": "a"}], "image a stands twice"),
        ([{"id": 1, "file_name": "a"}, {"id": 1, "file_name": "b"}], "image id 1 stands twice"),
        ([{"id": 1}], "lacks 'file_name'"),
        ([{"id": 1, "file_name": "a", "width": -3}], "width -3"),
    ],
)
def test_midog_images(tmp_path, images, found):
    path = saved(tmp_path / "bad.json", midog_json(images=images, annotations=[]))
    with pytest.raises(InputError, match=found):
        regions.read(path)


def test_a_centre_may_stray_by_half_a_box(tmp_path):
    """As in MIDOG++: the box still touches the image."""
    path = saved(tmp_path / "x.json", midog_json(annotations=[annotation(bbox=[-50, 10, 0, 60])]))
    assert regions.read(path)[0].xy.tolist() == [[-25, 35]]


def test_categories_of_other_things(tmp_path):
    names = [{"id": 1, "name": "nucleus"}]
    with pytest.raises(InputError, match="unknown category 1"):
        regions.read(saved(tmp_path / "x.json", midog_json(categories=names)))


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("x.json", b"", "is empty"),
        ("x.json", b'{"images": [', "no valid JSON .line 1"),
        ("x.json", b'{"images": []}', "holds no list 'annotations'"),
        ("x.json", b"[1, 2]", "no known annotation format"),
        ("x.tiff", b"II*\0", "no known annotation format"),
        ("x.csv", b"file_name,x,y\na,1,2\n", "lacks the column x_px, y_px"),
        ("x.csv", b"file_name,x_px,y_px\na,1,two\n", "line 2 holds '1,two'"),
        ("x.csv", b"file_name,x_px,y_px\na,1,\n", "line 2 holds '1,'"),
        ("x.csv", b"file_name,x_px,y_px\na,1,nan\n", "a is not finite"),
        ("x.csv", b"file_name,x_px,y_px,label\na,1,2,3\n", "unknown label '3'"),
        ("x.csv", b"file_name,x_px,y_px,label\na,1,2,cell\n", "unknown label 'cell'"),
        ("x.csv", b"file_name,x_px,y_px\n,1,2\n", "line 2 names no file"),
        ("x.csv", b"file_name,x_px,y_px,score\na,1,2,0.5\n", "holds detections"),
        ("x.csv", b"1,2,3,4\n", "line 1 has 4 columns"),
        ("x.csv", b"1,2\n3,x\n", "line 2 holds '3,x'"),
        ("x.csv", b"1,2\nnan,3\n", "not finite"),
        ("x.csv", b"Slide;Dataset;Tumor\n", "split table of MIDOG"),
        ("x.csv", b"1,\xff\xfe\n", "not a text table"),
        ("x.pkl", b"anything", "pickle, which is never opened"),
        ("x.json", pickle.dumps({"images": []}), "pickle, which is never opened"),
        ("x.sqlite", b"SQLite format 3\0" + b"\0" * 200, "cannot be read as SQLite"),
    ],
)
def test_contents(tmp_path, name, content, found):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=found) as caught:
        regions.read(tmp_path / name)
    assert "\n" not in str(caught.value) and name in str(caught.value)


def test_missing_and_empty_folders(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        regions.read(tmp_path / "nothing.json")
    with pytest.raises(InputError, match="holds no CSV"):
        regions.read(tmp_path)


@pytest.mark.parametrize(
    ("statements", "found"),
    [
        (["CREATE TABLE Slides (uid INTEGER, filename TEXT)"], "table Annotations lacks uid"),
        ([*OLD, "INSERT INTO Annotations VALUES (1, 4, 1, 1)"], "annotation 1 is on slide 4"),
        (
            [*OLD, "INSERT INTO Slides VALUES (1, 'a')", "INSERT INTO Annotations VALUES (1, 1, 1, 1)"],
            "annotation 1 has no coordinates",
        ),
        ([*OLD, "INSERT INTO Annotations_coordinates VALUES ('x', 2, 1)"], "coordinates 'x', 2"),
        (
            [*OLD, "CREATE TABLE Classes (uid INTEGER, name TEXT)", "INSERT INTO Classes VALUES (1, 'granulocyte')"],
            "its classes are granulocyte",
        ),
        ([*OLD, "INSERT INTO Slides VALUES (1, 'a'), (2, 'a')"], "image a stands twice"),
    ],
)
def test_databases(tmp_path, statements, found):
    with pytest.raises(InputError, match=found):
        regions.read(database(tmp_path / "x.sqlite", *statements))


def test_a_database_with_pending_changes_is_not_half_read(tmp_path):
    path = database(tmp_path / "x.sqlite", *OLD)
    (tmp_path / "x.sqlite-wal").write_bytes(b"pending")
    with pytest.raises(InputError, match="still in x"):
        regions.read(path)


def test_two_images_that_would_share_a_file(tmp_path):
    pair = [Region("a.tif"), Region("a.png")]
    with pytest.raises(InputError, match=r"a.csv stands twice"):
        regions.write(pair, tmp_path / "t", "tupac")
    assert not (tmp_path / "t").exists()


def test_nothing_that_is_no_number_is_written(tmp_path):
    region = Region("a.tif", xy=np.array([[np.nan, 1.0]]), label=np.array([1]))
    for name in ("x.json", "x.csv", "x.sqlite"):
        with pytest.raises(InputError, match="not finite"):
            regions.write([region], tmp_path / name)
        assert not (tmp_path / name).exists()
