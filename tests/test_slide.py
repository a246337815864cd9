"""Geometry, resolution, and life in several processes."""

from __future__ import annotations

import multiprocessing
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from mitosight.errors import InputError, UsageError
from mitosight.slide import Slide, write_tiff
from mitosight.slide.resampling import window

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
DOTS = np.array([(40, 60), (301, 97), (150, 211), (333, 290)])  # centres in level-0 px, of squares of 8 px


def dotted(width: int = 400, height: int = 360) -> np.ndarray:
    image = np.full((height, width, 3), 200, np.uint8)  # room above and below for the overshoot of a bicubic
    for x, y in DOTS:
        image[y - 4 : y + 4, x - 4 : x + 4] = 60
    return image


def noise(width: int, height: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def centroid(patch: np.ndarray) -> np.ndarray:
    """Of darkness, in the frame where px i covers [i, i + 1)."""
    dark = 200.0 - patch.mean(axis=2)
    y, x = np.indices(dark.shape) + 0.5
    return np.array([(dark * x).sum(), (dark * y).sum()]) / dark.sum()


@pytest.mark.parametrize("pyramid", [False, True])
@pytest.mark.parametrize("mpp", [0.1, 0.2273, 0.25, 0.3, 0.5, 0.77, 1.0, 1.9])
def test_a_point_appears_where_the_docstring_says(tmp_path: Path, mpp: float, pyramid: bool) -> None:
    path = tmp_path / "dots.tiff"
    write_tiff(path, dotted(), 0.25, compression="lzw", tile_px=64, pyramid=pyramid)
    side = 60 * 0.25 / mpp  # 60 level-0 px
    with Slide(path) as slide:
        assert len(slide.level_downsamples) == (4 if pyramid else 1)
        for dot in DOTS:
            corner = dot - (31.3, 27.8)
            patch = slide.read((corner[0], corner[1]), (round(side), round(side)), mpp)
            np.testing.assert_allclose(centroid(patch), (dot - corner) * slide.mpp / mpp, atol=0.03)


def test_level_0_is_the_file(tmp_path: Path) -> None:
    image = noise(200, 150)
    write_tiff(tmp_path / "a.tif", image, 0.25, compression="deflate", tile_px=64)
    with Slide(tmp_path / "a.tif") as slide:
        np.testing.assert_array_equal(slide.read((0, 0), (200, 150)), image)
        np.testing.assert_array_equal(slide.read((13, 57), (70, 31), 0.25), image[57:88, 13:83])
        assert slide.read((13, 57), (70, 31)).flags.writeable


def test_halving_is_near_the_mean_of_four_px(tmp_path: Path) -> None:
    image = np.asarray(Image.fromarray(noise(64, 64)).resize((512, 512), Image.Resampling.BICUBIC))
    write_tiff(tmp_path / "a.tif", image, 0.25, compression="lzw")
    mean = image.reshape(256, 2, 256, 2, 3).mean(axis=(1, 3))
    assert np.abs(Slide(tmp_path / "a.tif").read((0, 0), (256, 256), 0.5) - mean)[2:-2, 2:-2].mean() < 2


def test_a_flat_colour_keeps_its_value_at_any_resolution(tmp_path: Path) -> None:
    image = np.full((300, 300, 3), (181, 90, 201), np.uint8)
    write_tiff(tmp_path / "a.tif", image, 0.25, compression="lzw", pyramid=True, tile_px=64)
    with Slide(tmp_path / "a.tif") as slide:
        for mpp in (0.11, 0.25, 0.31, 0.5, 1.3, 2.0):
            inside = slide.read((100.4, 100.2), (20, 20), mpp)
            np.testing.assert_array_equal(inside, np.broadcast_to(image[0, 0], (20, 20, 3)))


@pytest.mark.parametrize("mpp", [None, 0.2, 0.6])
def test_beyond_the_border_is_white(tmp_path: Path, mpp: float | None) -> None:
    write_tiff(tmp_path / "a.tif", np.zeros((100, 120, 3), np.uint8), 0.25, compression="lzw")
    with Slide(tmp_path / "a.tif") as slide:
        corner = slide.read((-40, -40), (100, 100), mpp)
        edge = round(40 * 0.25 / (mpp or 0.25))
        assert (corner[: edge - 3] == 255).all() and (corner[:, : edge - 3] == 255).all()
        assert (corner[edge + 3 : edge + 20, edge + 3 : edge + 20] == 0).all()
        assert (slide.read((500, -900), (30, 20), mpp) == 255).all()


def test_neighbouring_windows_join_without_a_seam() -> None:
    image = np.pad(noise(700, 700), ((50, 50), (50, 50), (0, 0)), constant_values=255)

    def pixels(x: int, y: int, width: int, height: int) -> np.ndarray:
        return image[50 + y : 50 + y + height, 50 + x : 50 + x + width]

    for zoom in (0.6, 1.0, 1.37, 4.2):
        whole = window(pixels, (10.3, 20.7), (80, 60), zoom).astype(int)
        part = window(pixels, (10.3 + 31 * zoom, 20.7 + 17 * zoom), (49, 43), zoom)
        assert np.abs(whole[17:, 31:] - part).max() <= 2


def test_a_large_window_is_read_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    image, asked = noise(600, 500), []

    def pixels(x: int, y: int, width: int, height: int) -> np.ndarray:
        asked.append(width * height)
        return np.pad(image, ((99, 99), (99, 99), (0, 0)))[99 + y : 99 + y + height, 99 + x : 99 + x + width]

    whole = window(pixels, (0.5, 0.5), (250, 200), 2.3).astype(int)
    asked.clear()
    monkeypatch.setattr("mitosight.slide.resampling.MOST_SOURCE_PX", 20_000)
    assert np.abs(window(pixels, (0.5, 0.5), (250, 200), 2.3) - whole).max() <= 1
    assert len(asked) > 10 and max(asked) < 2 * 20_000


def test_the_coarsest_fine_enough_level_is_read(tmp_path: Path) -> None:
    path = tmp_path / "levels.tif"  # each level another grey, so that the level read can be seen
    with tifffile.TiffWriter(path) as writer:
        for level, side in enumerate((1024, 512, 256)):
            writer.write(
                np.full((side, side, 3), 50 * (level + 1), np.uint8),
                **{"tile": (128, 128), "photometric": "rgb", "subfiletype": int(level > 0), "metadata": None},
                **{"resolution": (40000, 40000), "resolutionunit": "CENTIMETER"},
            )
    with Slide(path) as slide:
        assert slide.level_downsamples == (1, 2, 4)
        for mpp, grey in ((0.2, 50), (0.25, 50), (0.49, 50), (0.5, 100), (0.99, 100), (1.0, 150), (3.0, 150)):
            assert (slide.read((256, 256), (20, 20), mpp) == grey).all(), mpp


def test_order_of_the_sources_of_mpp(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    write_tiff(path, dotted(), 0.2273)
    for arguments, mpp, source in (
        ({"mpp": 0.3, "table_mpp": 0.4}, 0.3, "--mpp"),
        ({"table_mpp": 0.4}, 0.4, "domains.csv"),
        ({}, 0.2273, "openslide.mpp-x"),
    ):
        slide = Slide(path, **arguments)
        assert slide.mpp == pytest.approx(mpp, rel=1e-6) and slide.mpp_source == source


@pytest.mark.parametrize(
    ("unit", "pixels_per_unit", "mpp"),
    [("INCH", 101600, 0.25), ("CENTIMETER", 20000, 0.5), ("MICROMETER", 4, 0.25), (None, 101600, None)],
)
def test_resolution_tags(tmp_path: Path, unit: str | None, pixels_per_unit: float, mpp: float | None) -> None:
    tags = {"resolution": (pixels_per_unit, pixels_per_unit), "resolutionunit": unit or "NONE"}
    tifffile.imwrite(tmp_path / "a.tif", dotted(), photometric="rgb", metadata=None, **tags)
    slide = Slide(tmp_path / "a.tif")
    assert slide.reader == "tifffile"
    if mpp is None:
        with pytest.raises(
            InputError, match=r"a\.tif: its µm per px is unknown; pass --mpp or give it in domains\.csv"
        ):
            _ = slide.mpp
        assert slide.width_px == 400  # the size needs no mpp
    else:
        assert slide.mpp == pytest.approx(mpp) and slide.mpp_source == "TIFF resolution tags"


@pytest.mark.parametrize("suffix", [".tif", ".jpg", ".png"])
@pytest.mark.parametrize("dpi", [72, 96])
def test_the_resolution_of_a_screen_is_refused(tmp_path: Path, suffix: str, dpi: int) -> None:
    Image.fromarray(dotted()).save(tmp_path / f"a{suffix}", dpi=(dpi, dpi))
    slide = Slide(tmp_path / f"a{suffix}")
    found = "352" if dpi == 72 else "264"
    with pytest.raises(InputError, match=rf"gives {found}.* x {found}.*expected 0\.05 to 10.*--mpp"):
        _ = slide.mpp_source
    assert Slide(tmp_path / f"a{suffix}", mpp=0.25).mpp == 0.25


def test_a_jpeg_may_carry_a_true_resolution(tmp_path: Path) -> None:
    Image.fromarray(dotted()).save(tmp_path / "a.jpg", dpi=(50800, 50800))
    assert Slide(tmp_path / "a.jpg").mpp == pytest.approx(0.5)
    assert Slide(tmp_path / "a.jpg").mpp_source == "JPEG resolution (50800 dpi)"


@pytest.mark.parametrize(("y_per_cm", "fits"), [(39800, True), (30000, False)])
def test_pixels_must_be_square(tmp_path: Path, y_per_cm: int, fits: bool) -> None:
    tags = {"resolution": (40000, y_per_cm), "resolutionunit": "CENTIMETER", "photometric": "rgb", "metadata": None}
    tifffile.imwrite(tmp_path / "a.tif", dotted(), **tags)
    slide = Slide(tmp_path / "a.tif")
    if fits:
        assert slide.mpp == pytest.approx((0.25 + 1e4 / y_per_cm) / 2)
    else:
        with pytest.raises(InputError, match=r"0\.25 x 0\.333333 µm per px: its pixels are not square"):
            _ = slide.mpp
        assert Slide(tmp_path / "a.tif", table_mpp=0.25).mpp == 0.25


@pytest.mark.parametrize("bad", [0.0, -1.0, 0.049, 10.1, float("nan"), float("inf")])
def test_an_impossible_given_mpp_is_refused(tmp_path: Path, bad: float) -> None:
    write_tiff(tmp_path / "a.tif", dotted(), 0.25)
    with pytest.raises(UsageError, match=r"--mpp is .* expected 0\.05 to 10"):
        _ = Slide(tmp_path / "a.tif", mpp=bad).mpp
    with pytest.raises(InputError, match=r"domains\.csv gives"):
        Slide(tmp_path / "a.tif", table_mpp=bad).read((0, 0), (8, 8), 0.5)


def _read_elsewhere(slide: Slide) -> tuple[int, float, np.ndarray]:
    return os.getpid(), slide.mpp, slide.read((10, 20), (64, 64), 0.4)


def _own_handle(slide: Slide) -> bool:
    before = slide._open
    slide.read((0, 0), (8, 8))
    return slide._open is not before


@pytest.mark.parametrize("suffix", [".tif", ".png"])
def test_a_slide_travels_to_a_spawned_process(tmp_path: Path, suffix: str) -> None:
    Image.fromarray(dotted()).save(tmp_path / f"a{suffix}")
    slide = Slide(tmp_path / f"a{suffix}", mpp=0.3)
    here = slide.read((10, 20), (64, 64), 0.4)
    assert pickle.loads(pickle.dumps(slide)).mpp_source == "--mpp"
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        process, mpp, there = pool.apply(_read_elsewhere, (slide,))
    assert process != os.getpid() and mpp == 0.3
    np.testing.assert_array_equal(here, there)


def test_a_forked_process_opens_the_file_for_itself(tmp_path: Path) -> None:
    write_tiff(tmp_path / "a.tif", dotted(), 0.25)
    slide = Slide(tmp_path / "a.tif")
    assert not _own_handle(slide)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, b"1" if _own_handle(slide) else b"0")
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 1) == b"1"
    os.close(reading)
    os.close(writing)


def test_a_closed_slide_opens_again(tmp_path: Path) -> None:
    write_tiff(tmp_path / "a.tif", dotted(), 0.25)
    with Slide(tmp_path / "a.tif") as slide:
        before = slide.read((0, 0), (90, 90))
    np.testing.assert_array_equal(slide.read((0, 0), (90, 90)), before)
    slide.close()


def test_a_real_aperio_slide() -> None:
    path = SHARED / "slides" / "CMU-1-Small-Region.svs"
    if not path.exists():
        pytest.skip("needs ../shared/data/slides")
    import openslide

    with Slide(path) as slide, openslide.OpenSlide(path) as direct:
        assert (slide.width_px, slide.height_px, slide.reader) == (2220, 2967, "tifffile")
        assert (slide.mpp, slide.mpp_source) == (0.499, "openslide.mpp-x")
        expected = np.asarray(direct.read_region((700, 900), 0, (512, 400)).convert("RGB"))
        np.testing.assert_array_equal(slide.read((700, 900), (512, 400)), expected)
        mean = expected.reshape(200, 2, 256, 2, 3).mean(axis=(1, 3))
        assert np.abs(slide.read((700, 900), (256, 200), 0.998) - mean).mean() < 2.5


def test_a_real_field_is_the_same_by_openslide_and_tifffile() -> None:
    path = next(iter(sorted((SHARED / "fields" / "images").glob("*"))), None)
    if path is None:
        pytest.skip("needs ../shared/data/fields")
    with Slide(path) as slide:
        assert slide.mpp == 0.25 and slide.reader == "tifffile"
        np.testing.assert_array_equal(slide.read((0, 0), (1024, 1024)), tifffile.imread(path))


def test_a_real_jpeg_needs_the_table() -> None:
    path = next(iter(sorted((SHARED / "mitos14" / "images").glob("*"))), None)
    if path is None:
        pytest.skip("needs ../shared/data/mitos14")
    with Slide(path, table_mpp=0.2273) as slide, Image.open(path) as direct:
        assert slide.mpp_source == "domains.csv"
        np.testing.assert_array_equal(slide.read((900, 700), (300, 200)), np.asarray(direct)[700:900, 900:1200])
    with pytest.raises(InputError, match="unknown"):
        _ = Slide(path).mpp
