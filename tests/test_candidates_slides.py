"""Candidates of whole slides and folders of slides: tiles, files, sensitivity, bad input."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mitosight.candidates import BlueRatio, Finder, Haematoxylin, find_in_slide, search, slides
from mitosight.errors import InputError
from mitosight.phantom import SCANNERS
from mitosight.slide import Slide, write_tiff

Command = Callable[..., tuple[int, str, str]]
FINDERS: list[Finder] = [BlueRatio(), BlueRatio(formula="chang"), Haematoxylin(), Haematoxylin(separation="sparse")]
every_finder = pytest.mark.parametrize("finder", FINDERS, ids=repr)


@pytest.fixture(scope="module")
def tissue() -> NDArray[np.uint8]:
    """Many nuclei of many sizes, some of them touching, on odd numbers of px."""
    rng = np.random.default_rng(5)
    image = np.clip(rng.normal((235, 190, 215), 8, (523, 701, 3)), 0, 255)
    ys, xs = np.mgrid[:523, :701]
    for x, y, radius in zip(rng.uniform(0, 701, 90), rng.uniform(0, 523, 90), rng.uniform(2, 12, 90), strict=True):
        image[(xs - x) ** 2 + (ys - y) ** 2 < radius**2] = rng.normal((60, 40, 110), 12)
    return np.clip(image, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def slide(tissue: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("slide") / "tissue.tiff"
    write_tiff(path, tissue, 0.25, compression="lzw")
    return path


@every_finder
def test_a_slide_cut_into_tiles_gives_the_same_candidates(
    finder: Finder, slide: Path, tissue: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    statistics = finder.statistics([tissue])
    whole = finder.find(tissue, statistics)
    assert len(whole) > 30
    for tile_px, threads, kept in ((1024, 1, 0), (500, 2, 2**28), (256, 2, 0), (64, 1, 500_000)):
        monkeypatch.setattr(slides, "KEPT_BYTES", kept)
        with Slide(slide) as opened:
            found, theirs = search(opened, finder, tile_px=tile_px, threads=threads)
        assert theirs == statistics
        assert found.xy.tolist() == whole.xy.tolist()
        assert found.area_px.tolist() == whole.area_px.tolist()


@every_finder
def test_a_region_cut_in_two_gives_the_same_candidates(finder: Finder, tissue: NDArray[np.uint8]) -> None:
    """By the statistics of the whole, each half read as far beyond the cut as tiles are."""
    cut, beyond = 350, finder.overlap_px // 2
    statistics = finder.statistics([tissue[:, :cut], tissue[:, cut:]])
    left = finder.find(tissue[:, : cut + beyond], statistics)
    right = finder.find(tissue[:, cut - beyond :], statistics).moved((cut - beyond, 0))
    joined = [*left.xy[left.xy[:, 0] < cut].tolist(), *right.xy[right.xy[:, 0] >= cut].tolist()]
    assert sorted(joined) == sorted(finder.find(tissue, statistics).xy.tolist())


def test_order_is_by_row_then_column(slide: Path) -> None:
    with Slide(slide) as opened:
        xy = find_in_slide(opened, BlueRatio()).xy
    assert (np.lexsort((xy[:, 0], xy[:, 1])) == np.arange(len(xy))).all()


def test_another_resolution_is_read_at_a_quarter_micrometre(tmp_path: Path) -> None:
    """A nucleus of 10 x 8 px at 0.5 µm/px is one of 20 x 16 px as it is read; places and areas are those of level 0."""
    image = np.full((80, 100, 3), (235, 190, 215), dtype=np.uint8)
    image[40:48, 60:70] = (60, 40, 110)
    write_tiff(tmp_path / "half.tiff", image, 0.5, compression="lzw")
    with Slide(tmp_path / "half.tiff") as opened:
        for finder in FINDERS:
            found = find_in_slide(opened, finder)
            assert found.xy == pytest.approx(np.array([[65.0, 44.0]]), abs=1)
            assert 60 <= found.area_px[0] <= 150
            assert len(find_in_slide(opened, finder, mpp=0.5)) == 1


def test_a_damaged_slide_is_an_error_from_any_thread(slide: Path, tmp_path: Path) -> None:
    data = slide.read_bytes()
    cut = tmp_path / "cut.tiff"
    cut.write_bytes(data[: len(data) // 3] + bytes(len(data) // 3) + data[2 * len(data) // 3 :])
    with pytest.raises(InputError, match="damaged"), Slide(cut) as opened:
        search(opened, BlueRatio(), tile_px=128, threads=2)


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_command(drawn: Path, tmp_path: Path, mitosight: Command) -> None:
    """Blobs of radius 9 px at known places: each is found within 2 px."""
    images = drawn / "images"
    for finder in ("haematoxylin", "blue-ratio"):
        out = tmp_path / finder
        code, told, wrong = mitosight("candidates", images, "--finder", finder, "--out", out, "--data", drawn)
        assert (code, wrong) == (0, "")
        assert "grey: sensitivity 1.000 (18 of 18)" in told and "all: sensitivity 1.000 (36 of 36)" in told
        assert "grey_val_0.tiff: 6 candidates, 14" in told
        table = rows(out / "grey_val_0.csv")
        assert list(table[0]) == ["file_name", "x_px", "y_px", "area_px"]
        assert {row["file_name"] for row in table} == {"grey_val_0.tiff"} and len(table) == 6
        record = json.loads((out / "run.json").read_text())
        assert record["finder"]["name"] == finder
        assert record["slides"][str(images / "grey_val_0.tiff")]["candidates"] == 6
        assert record["slides"][str(images / "grey_val_0.tiff")]["statistics"]["pixels"] > 0
    alike = mitosight("candidates", images, "--finder", "blue-ratio", "--out", out, "--no-tissue")
    assert alike[0] != 0 and "holds results of another command or finder" in alike[2]
    out = tmp_path / "everywhere"
    told = mitosight("candidates", images, "--finder", "blue-ratio", "--out", out, "--no-tissue")[1]
    assert "grey_val_0.tiff: 6 candidates, 1465 per mm²" in told  # 6 / (256 * 0.25 / 1000)²


def test_a_bad_slide_is_named_and_the_others_are_done(drawn: Path, tmp_path: Path, mitosight: Command) -> None:
    (tmp_path / "bad.tiff").write_bytes(b"II*\0nothing")
    write_tiff(tmp_path / "other.tiff", np.full((80, 80, 3), 255, dtype=np.uint8), 0.25)
    good = drawn / "images" / "grey_val_0.tiff"
    wanted = tmp_path / "bad.tiff", tmp_path / "gone.tiff", good, tmp_path / "other.tiff"
    out = tmp_path / "out"
    code, told, wrong = mitosight("candidates", *wanted, "--finder", "haematoxylin", "--out", out, "--data", drawn)
    assert code == 1
    assert "bad.tiff: " in wrong and "gone.tiff: is not there" in wrong and "2 of 4 slides failed" in wrong
    assert f"1 slides are not in {drawn}" in wrong
    assert "grey: sensitivity 1.000 (6 of 6)" in told and "other.tiff: 0 candidates" in told
    assert sorted(path.name for path in out.iterdir()) == ["grey_val_0.csv", "other.csv", "run.json"]
    assert rows(out / "other.csv") == []


def test_what_is_refused(drawn: Path, tmp_path: Path, mitosight: Command) -> None:
    image = drawn / "images" / "grey_val_0.tiff"
    out = tmp_path / "out"
    base = "candidates", image, "--out", out, "--finder"
    assert mitosight(*base, "eosin")[0] == 2
    assert mitosight(*base, "blue-ratio", "--mpp", "25")[0] == 2
    assert not out.exists()
    assert mitosight(*base, "blue-ratio")[0] == 0
    assert mitosight(*base, "blue-ratio")[0] == 0
    code, _, wrong = mitosight(*base, "blue-ratio", "--set", "formula=chang")
    assert code == 1 and "another command or finder" in wrong
    (tmp_path / "twin").mkdir()
    write_tiff(tmp_path / "twin" / image.name, np.full((80, 80, 3), 255, dtype=np.uint8), 0.25)
    code, _, wrong = mitosight(
        "candidates", image, tmp_path / "twin", "--finder", "blue-ratio", "--out", tmp_path / "b"
    )
    assert code == 2 and "two slides are named grey_val_0" in wrong
    code, _, wrong = mitosight("candidates", image, "--finder", "blue-ratio", "--out", image)
    assert code == 2 and "is a file" in wrong


def test_every_drawn_figure_is_reached(tmp_path: Path, mitosight: Command) -> None:
    """Phantoms of each virtual scanner: 10 figures in 128 µm squares, and look-alikes."""
    data = tmp_path / "data"
    mitosight("phantom", data, "--scanner", "all", "--size-um", 128, 128, "--figures-per-mm2", 600)
    for finder in ("haematoxylin", "blue-ratio"):
        _, told, _ = mitosight(
            "candidates", data / "images", "--finder", finder, "--out", tmp_path / finder, "--data", data
        )
        by_scanner = {line.split(":")[0]: line for line in told.splitlines() if "sensitivity" in line}
        assert set(by_scanner) == {*SCANNERS, "all"}
        assert all("sensitivity 1.000" in line for line in by_scanner.values()), told
