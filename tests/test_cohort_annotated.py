"""Annotated regions through a model: images of one name in several folders are read at their own µm per px."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mitosight import checkpoint, cohort, regions
from mitosight.methods import create
from mitosight.regions import DataFolder, Region
from mitosight.slide import write_tiff

SMALL = {"weights": "none", "channels": 16, "head_convs": 1, "levels": [4], "normalise": "none", "tile_px": 256}


def folder(path: Path, mpp: float | None) -> DataFolder:
    """One image 01/25.tif of 400 px, whose own µm per px, 1, the table goes over."""
    image = np.random.default_rng(0).integers(100, 200, (400, 400, 3)).astype(np.uint8)
    (path / "01").mkdir(parents=True)
    write_tiff(path / "01" / "25.tif", image, 1.0)
    return DataFolder(path, (Region("01/25.tif", 400, 400, mpp=mpp, slide="01"),), {"test": ("01/25.tif",)})


def test_regions_of_two_folders_with_images_of_one_name(tmp_path: Path) -> None:
    """0.25 and 0.5 µm/px: 0.1 and 0.2 mm wide, so that their areas are 0.01 and 0.04 mm²."""
    data = regions.merged([folder(tmp_path / "a", 0.25), folder(tmp_path / "b", 0.5)])
    detector = create("retinanet", ["one"], {**SMALL, "mpp_tolerance": 1.0})
    model = checkpoint.save(tmp_path / "model", detector, "retinanet", SMALL, {})
    cohort.search_regions(data, data.regions, model, detector.eval(), tmp_path / "out")
    with open(tmp_path / "out" / "summary.csv", newline="") as stream:
        areas = {Path(row["slide"]).parts[-3]: row["area_mm2"] for row in csv.DictReader(stream)}
    assert areas == {"a": "0.0100", "b": "0.0400"}


def test_what_is_said_of_one_file_is_not_of_another_of_its_name(tmp_path: Path) -> None:
    one, other = folder(tmp_path / "a", 0.25), folder(tmp_path / "b", None)
    data = regions.merged([one, other])
    settings = cohort.settings_of(data, data.regions)
    first, second = (data.image_path(region) for region in data.regions)
    assert (settings.table_of(first), settings.table_of(second)) == (0.25, None)
    assert (settings.of_points(first)["mpp"], settings.of_points(second)["mpp"]) == (0.25, None)
    assert settings.names_of(second) == ("01",)


def test_in_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A region's image beside which nothing stands for a folder; another of its name lies below."""
    monkeypatch.chdir(tmp_path)
    data = DataFolder(Path(), (Region("25.tif", mpp=0.25), Region("02/25.tif", slide="02|03")))
    settings = cohort.settings_of(data, data.regions)
    assert settings.table_of(tmp_path / "25.tif") == 0.25 and settings.table_of(Path("02/25.tif")) is None
    assert settings.names_of(Path("02/25.tif")) == ("02", "03")


def test_a_table_by_file_name_is_of_any_folder() -> None:
    settings = cohort.Settings(table_mpp={"25.tif": 0.5}, slides={"25.tif": "x"})
    assert settings.table_of(Path("in/25.tif")) == 0.5 and settings.of_points(Path("in/25.tif"))["mpp"] == 0.5
    assert replace(settings, mpp=0.3).of_points(Path("in/25.tif"))["mpp"] == 0.3
    assert settings.names_of(Path("in/25.tif")) == ("x",)
    assert settings.names_of(Path("in/26.tif")) == ("26", "in/26")
