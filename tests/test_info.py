"""`mitosight info` on data folders, annotation files and slides."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from mitosight.cli import app
from mitosight.errors import InputError
from mitosight.slide import write_tiff

RUN = CliRunner(env={"COLUMNS": "120"})


def info(*arguments: object) -> str:
    result = RUN.invoke(app, ["info", *map(str, arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def test_data_folder(drawn):
    """Two scanners, 256 px regions of 6 figures at 0.25 µm/px in each of three parts: 0.0041 mm² each."""
    lines = [line.split() for line in info(drawn).splitlines()]
    assert ["train", "grey", "drawn", "1", "6", "0", "0.00"] in lines
    assert ["train", "all", "2", "12", "0", "0.01"] in lines
    assert ["all", "6", "36", "0", "0.02"] in lines


def test_data_folder_as_json(drawn):
    found = json.loads(info(drawn, "--json"))
    assert (found["regions"], found["figures"], found["hard_negatives"]) == (6, 36, 0)
    assert found["area_mm2"] == pytest.approx(6 * 0.064**2)
    assert list(found["parts"]) == ["train", "val", "test"] and found["parts"]["val"]["figures"] == 12
    assert [(g["part"], g["scanner"], g["tumor_type"]) for g in found["groups"]][:2] == [
        ("train", "grey", "drawn"),
        ("train", "pink", "drawn"),
    ]


def test_a_leaking_split_is_refused(drawn, tmp_path):
    domains = tmp_path / "domains.csv"
    domains.write_text("file_name,slide\ngrey_train_0.tiff,s\ngrey_test_0.tiff,s\n")
    with pytest.raises(InputError, match=r"slide s stands on both sides .* in train, grey_test_0.tiff in test"):
        info(drawn, "--domains", domains)


def test_unknown_mpp_is_said(drawn, tmp_path):
    domains = tmp_path / "domains.csv"
    domains.write_text("file_name,scanner\ngrey_train_0.tiff,grey\n")
    assert "mm² is unknown for 6 regions" in info(drawn, "--domains", domains)


def test_without_images(drawn, tmp_path):
    (tmp_path / "annotations.json").write_text((drawn / "annotations.json").read_text())
    assert "were not looked for" in info(tmp_path)
    with pytest.raises(InputError, match="is no folder of images"):
        info(tmp_path, "--images", tmp_path / "nowhere")


def test_folder_without_annotations_says_what_is_expected(tmp_path):
    with pytest.raises(InputError, match=r"images/, annotations.json, domains.csv .optional. and split.json"):
        info(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        info(tmp_path / "nothing")


def test_annotation_file(drawn, tmp_path):
    out = info(drawn / "annotations.json")
    assert "MIDOG 2021 JSON" in out and "36" in out
    found = json.loads(info(drawn / "annotations.json", "--domains", drawn / "domains.csv", "--json"))
    assert {g["scanner"]: g["figures"] for g in found["groups"]} == {"grey": 18, "pink": 18}
    (tmp_path / "a.csv").write_text("1,2\n")
    assert json.loads(info(tmp_path, "--from", "tupac", "--json"))["figures"] == 1


def test_slide_says_which_mpp_won(tmp_path):
    path = tmp_path / "a.tiff"
    write_tiff(path, np.full((300, 400, 3), 200, dtype=np.uint8), 0.25, compression="lzw")
    domains = tmp_path / "domains.csv"
    domains.write_text("file_name,mpp\na.tiff,0.3\n")
    own = json.loads(info(path, "--json"))
    assert (own["width_px"], own["height_px"]) == (400, 300) and own["mpp"] == pytest.approx(0.25, rel=1e-3)
    table = json.loads(info(path, "--domains", domains, "--json"))
    assert (table["mpp"], table["mpp_source"]) == (0.3, "domains.csv")
    given = json.loads(info(path, "--domains", domains, "--mpp", 0.5, "--json"))
    assert (given["mpp"], given["mpp_source"]) == (0.5, "--mpp")
    text = info(path, "--mpp", 0.5)
    assert "400 x 300 px" in text and "mpp: 0.5 µm per px, from --mpp; 0.030 mm²" in text


def test_slide_of_unknown_mpp(tmp_path):
    path = tmp_path / "a.png"
    from PIL import Image

    Image.new("RGB", (40, 30)).save(path)
    with pytest.raises(InputError, match="--mpp"):
        info(path)
    with pytest.raises(InputError, match="--mpp"):
        info(path, "--mpp", 25)
