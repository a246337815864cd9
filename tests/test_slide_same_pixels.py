"""Tiled TIFF and SVS by tifffile: the pixels, levels and µm per px of OpenSlide; where they differ, OpenSlide."""

from __future__ import annotations

from pathlib import Path

import imagecodecs
import numpy as np
import openslide
import pytest
import tifffile
from PIL import Image

from mitosight.slide import Slide, write_tiff
from mitosight.slide.openslide_reader import OpenSlideReader

SVS = Path(__file__).resolve().parents[2] / "shared" / "data" / "slides" / "CMU-1-Small-Region.svs"
APERIO = "Aperio Image Library v1\n{w}x{h} [0,0 {w}x{h}] (64x64) JPEG/RGB Q=90|AppMag = 20|MPP = 0.5"
Compressed = dict[str, object]


def picture(width: int = 301, height: int = 227) -> np.ndarray:
    """Coloured detail as fine as 3 px, so that the way chroma is enlarged shows."""
    small = np.random.default_rng(3).integers(40, 250, (height // 3, width // 3, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def jpeg_tiles(image: np.ndarray, side: int, **options: object) -> list[bytes]:
    """The tiles of `image`, each a JPEG of its own, in the order of a TIFF."""
    height, width = image.shape[:2]
    padded = np.pad(image, ((0, -height % side), (0, -width % side), (0, 0)), mode="edge")
    corners = [(y, x) for y in range(0, height, side) for x in range(0, width, side)]
    return [imagecodecs.jpeg8_encode(padded[y : y + side, x : x + side], level=90, **options) for y, x in corners]


JPEGS: dict[str, Compressed] = {
    **{kind: {"subsampling": kind} for kind in ("444", "422", "420")},
    "rgb": {"outcolorspace": "RGB"},
}
SAMPLED = {"444": (1, 1), "422": (2, 1), "420": (2, 2)}


def write_jpegs(path: Path, tiles: list[bytes], told: str, **tags: object) -> None:
    """A TIFF of 301 x 227 px of tiles of 64 px that are encoded already; it says that they are of the kind `told`."""
    kind = (
        {"photometric": "rgb", "compressionargs": {"outcolorspace": "RGB"}}
        if told == "rgb"
        else {"photometric": "ycbcr", "subsampling": SAMPLED[told]}
    )
    shape = {"shape": (227, 301, 3), "dtype": np.uint8, "tile": (64, 64)}
    tifffile.imwrite(path, iter(tiles), compression="jpeg", metadata=None, **shape, **kind, **tags)


def write_levels(path: Path, sizes: list[tuple[int, int]], description: str | None, **options: object) -> None:
    """A pyramid by tifffile, in the order given; tiles of 64 px."""
    with tifffile.TiffWriter(path) as writer:
        for i, (width, height) in enumerate(sizes):
            writer.write(
                picture(width, height),
                **{"tile": (64, 64), "photometric": "rgb", "metadata": None, "subfiletype": int(i > 0), **options},
                **{"description": description if i == 0 else None, "software": False},
                **{"resolution": (20000 / (i + 1), 20000 / (i + 1)), "resolutionunit": "CENTIMETER"},
            )


def assert_same(path: Path) -> Slide:
    """Every level, and rectangles of it, are the same by both readers, as are geometry and resolution."""
    slow = OpenSlideReader(path)
    with Slide(path) as slide:
        fast = slide._open
        assert slide.reader == "tifffile" and fast is not None
        assert fast.level_sizes == slow.level_sizes and fast.tile_sizes == slow.tile_sizes
        assert (fast.resolution, fast.bounds_px) == (slow.resolution, slow.bounds_px)
        rng = np.random.default_rng(0)
        for level, (width, height) in enumerate(slow.level_sizes):
            whole = slow.region(level, 0, 0, width, height)
            np.testing.assert_array_equal(fast.region(level, 0, 0, width, height), whole)
            for x, y in rng.integers(0, (width, height), (12, 2)):
                w, h = rng.integers(1, (width - x + 1, height - y + 1))
                np.testing.assert_array_equal(fast.region(level, x, y, w, h), whole[y : y + h, x : x + w])
        for x, y in rng.integers(0, slow.level_sizes[0], (5, 2)):  # and asked of OpenSlide rectangle by rectangle
            w, h = (int(s) - c for s, c in zip(slow.level_sizes[0], (x, y), strict=True))
            np.testing.assert_array_equal(fast.region(0, x, y, w, h), slow.region(0, int(x), int(y), w, h))
    slow.close()
    return slide


@pytest.mark.parametrize("compression", ["jpeg", "lzw", "deflate"])
@pytest.mark.parametrize("tile_px", [64, 256])
def test_the_pyramids_that_this_package_writes(tmp_path: Path, compression: str, tile_px: int) -> None:
    write_tiff(tmp_path / "a.tiff", picture(), 0.25, compression=compression, tile_px=tile_px, pyramid=True)
    slide = assert_same(tmp_path / "a.tiff")
    assert slide.level_downsamples == ((1, 2, 4, 8) if tile_px == 64 else (1, 2))
    assert (slide.mpp, slide.mpp_source) == (pytest.approx(0.25), "openslide.mpp-x")


@pytest.mark.parametrize("kind", ["444", "422", "420", "rgb"])
def test_jpeg_of_every_kind(tmp_path: Path, kind: str) -> None:
    """By another encoder than tifffile's, with a header of its own in each tile."""
    image, path = picture(), tmp_path / "a.tif"
    write_jpegs(path, jpeg_tiles(image, 64, **JPEGS[kind]), kind)
    slide = assert_same(path)
    off = np.abs(slide.read((0, 0), (301, 227)).astype(int) - image).mean()
    assert off < (4 if kind in ("444", "rgb") else 12)  # these are the colours of the picture, not merely the same


def test_tables_apart_from_the_tiles(tmp_path: Path) -> None:
    """JPEGTables, as scanners write them: the tiles alone cannot be decoded."""
    image, path = picture(), tmp_path / "a.tif"
    tiles = jpeg_tiles(image, 64, subsampling="420")
    cut = tiles[0].index(b"\xff\xc0"), tiles[0].index(b"\xff\xda")  # quantisation before the frame, Huffman after it
    frame = cut[0] + 2 + int.from_bytes(tiles[0][cut[0] + 2 : cut[0] + 4], "big")
    start = tiles[0].index(b"\xff\xdb")
    tables = b"\xff\xd8" + tiles[0][start : cut[0]] + tiles[0][frame : cut[1]] + b"\xff\xd9"
    bare = [b"\xff\xd8" + tile[cut[0] : frame] + tile[cut[1] :] for tile in tiles]
    write_jpegs(path, bare, "420", extratags=[(347, 7, len(tables), tables, True)])
    assert_same(path)
    np.testing.assert_array_equal(Slide(path).read((0, 0), (64, 64)), imagecodecs.jpeg8_decode(tiles[0]))


@pytest.mark.parametrize("options", [{}, {"compression": "zstd"}, {"compression": "packbits"}])
def test_lossless_of_other_writers(tmp_path: Path, options: dict[str, object]) -> None:
    image = picture()
    tifffile.imwrite(tmp_path / "a.tif", image, tile=(64, 96), photometric="rgb", metadata=None, **options)
    np.testing.assert_array_equal(assert_same(tmp_path / "a.tif").read((0, 0), (301, 227)), image)


@pytest.mark.parametrize("compression", [None, "jpeg", "deflate"])
def test_tiles_that_are_not_stored_are_white(tmp_path: Path, compression: str | None) -> None:
    path = tmp_path / "a.tif"
    write_levels(path, [(301, 227), (150, 113)], None, compression=compression)
    forget(path, {0: (0, 7, 19), 1: (2,)})
    slide = assert_same(path)
    assert (slide.read((0, 0), (64, 64)) == 255).all() and (slide.read((64, 0), (64, 64)) < 255).any()


def forget(path: Path, missing: dict[int, tuple[int, ...]]) -> None:
    """Sets offset and size of some tiles of each level to 0."""
    with tifffile.TiffFile(path, mode="r+") as file:
        for level, indices in missing.items():
            for code in (324, 325):
                tag = file.pages[level].tags[code]
                tag.overwrite([0 if i in indices else value for i, value in enumerate(tag.value)])


def test_svs(tmp_path: Path) -> None:
    """Levels whose sizes are no halves, with a thumbnail in strips between them, as Aperio writes it."""
    path = tmp_path / "a.svs"
    with tifffile.TiffWriter(path) as writer:
        tiled = {"tile": (64, 64), "compression": "jpeg", "photometric": "rgb", "metadata": None, "software": False}
        tiled["compressionargs"] = {"outcolorspace": "RGB"}
        writer.write(picture(), description=APERIO.format(w=301, h=227), **tiled)
        writer.write(picture(100, 75), photometric="rgb", metadata=None, software=False)
        writer.write(picture(75, 56), **tiled)
    slide = assert_same(path)
    assert slide.level_downsamples == (1, 4) and slide.tile_size(1) == (64, 64)
    assert (slide.mpp, slide.mpp_source) == (0.5, "openslide.mpp-x")


def test_levels_are_the_reduced_pages_by_width(tmp_path: Path) -> None:
    """Neither their order nor a page of another kind changes them."""
    path = tmp_path / "a.tif"
    write_levels(path, [(301, 227), (75, 56), (150, 113)], None)
    with tifffile.TiffWriter(path, append=True) as writer:
        writer.write(picture(90, 90), tile=(64, 64), photometric="rgb", metadata=None)
    with Slide(path) as slide:
        assert slide._level_sizes == ((301, 227), (150, 113), (75, 56))
    assert_same(path)


def test_a_real_svs() -> None:
    if not SVS.exists():
        pytest.skip("needs ../shared/data/slides")
    slide = assert_same(SVS)
    assert (slide.mpp, slide.bounds_px, slide.tile_size()) == (0.499, None, (240, 240))


# ---- what stays with OpenSlide -----------------------------------------------------------------------------------


def test_a_missing_tile_of_an_svs_is_painted_from_another_level(tmp_path: Path) -> None:
    path = tmp_path / "a.svs"
    write_levels(path, [(256, 256), (128, 128)], APERIO.format(w=256, h=256), compression="jpeg", subfiletype=0)
    assert Slide(path).reader == "tifffile"
    forget(path, {1: (0,)})
    assert Slide(path).reader == "openslide"


def test_alpha_and_turned_images_stay(tmp_path: Path) -> None:
    alpha = np.dstack([picture(), np.full((227, 301), 128, np.uint8)])
    tifffile.imwrite(tmp_path / "a.tif", alpha, tile=(64, 64), photometric="rgb", extrasamples=["unassalpha"])
    tifffile.imwrite(
        tmp_path / "b.tif", picture(), tile=(64, 64), photometric="rgb", extratags=[(274, 3, 1, 3, True)], metadata=None
    )
    for name in ("a.tif", "b.tif"):
        assert Slide(tmp_path / name).reader == "openslide"


def test_jpeg_2000_stays(tmp_path: Path) -> None:
    told = {"photometric": "rgb", "compression": "APERIO_JP2000_RGB", "description": APERIO.format(w=301, h=227)}
    tifffile.imwrite(tmp_path / "a.svs", picture(), tile=(64, 64), metadata=None, **told)
    with Slide(tmp_path / "a.svs") as slide:
        assert (slide.reader, slide.tile_size()) == ("openslide", (64, 64))
        np.testing.assert_array_equal(slide.read((0, 0), (301, 227)), picture())


@pytest.mark.parametrize(("told", "kind"), [("444", "rgb"), ("rgb", "444")])
def test_colours_told_wrongly_are_shown_as_openslide_shows_them(tmp_path: Path, told: str, kind: str) -> None:
    """The TIFF says one thing, the marker in each tile another."""
    write_jpegs(tmp_path / "a.tif", jpeg_tiles(picture(), 64, **JPEGS[kind]), told)
    with Slide(tmp_path / "a.tif") as slide, openslide.OpenSlide(tmp_path / "a.tif") as direct:
        shown = np.asarray(direct.read_region((0, 0), 0, (301, 227)))[..., :3]
        assert slide.reader == "openslide"
        np.testing.assert_array_equal(slide.read((0, 0), (301, 227)), shown)
