"""Slides that are cut off, spoilt in one place, or gone while they are read: one line with file, level and place."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from mitosight.errors import InputError
from mitosight.slide import Slide, write_tiff
from mitosight.slide.openslide_reader import OpenSlideReader
from mitosight.slide.tifffile_reader import TifffileReader

Run = Callable[..., tuple[int, str, str]]
SIDE = 128  # of a tile


def picture(width: int = 600, height: int = 500) -> np.ndarray:
    """Detail enough that a tile takes several thousand bytes."""
    rng = np.random.default_rng(4)
    small = rng.integers(60, 240, (height // 4, width // 4, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))
    return np.clip(smooth + rng.normal(0, 5, smooth.shape), 0, 255).astype(np.uint8)


def stored(path: Path, level: int, index: int) -> tuple[int, int]:
    """Offset and size in bytes of a tile."""
    with tifffile.TiffFile(path) as file:
        page = file.pages[level]
        return page.dataoffsets[index], page.databytecounts[index]


def overwrite(path: Path, at: int, with_bytes: bytes) -> None:
    with open(path, "r+b") as stream:
        stream.seek(at)
        stream.write(with_bytes)


@pytest.fixture
def pyramid(tmp_path: Path) -> Path:
    path = tmp_path / "a.tiff"
    write_tiff(path, picture(), 0.25, tile_px=SIDE, pyramid=True)  # 600 x 500: 5 tiles across
    return path


@pytest.mark.parametrize("missing", [1, 300, 40_000])
def test_a_pyramid_whose_data_are_cut_off(pyramid: Path, mitosight: Run, missing: int) -> None:
    """The directories of all levels but perhaps the last are whole."""
    whole = pyramid.stat().st_size
    os.truncate(pyramid, whole - missing)
    status, printed, told = mitosight("info", pyramid)
    assert (status, printed) == (1, "") and told.count("\n") == 1
    assert re.match(rf"mitosight: error: {pyramid}: is (a )?(truncated|damaged) or (truncated|damaged)", told)
    if missing == 1:
        assert f"it has {whole - 1} bytes, its directory tells of {whole}; copy the file again" in told


def test_a_slide_that_is_cut_off_while_it_is_read(pyramid: Path) -> None:
    offset, count = stored(pyramid, 0, 7)  # the second row's third tile
    with Slide(pyramid) as slide:
        kept = slide.read((0, 0), (SIDE, SIDE))
        os.truncate(pyramid, offset + count // 2)
        with pytest.raises(InputError) as caught:
            slide.read((2 * SIDE, SIDE), (SIDE, SIDE))
        np.testing.assert_array_equal(slide.read((0, 0), (SIDE, SIDE)), kept)
    place = "level 0, x 256 to 384, y 128 to 256 px"
    assert str(caught.value) == f"{pyramid}: is truncated at {place} (its bytes are missing); copy the file again"


SPOILT = {
    "a sector of zeros": lambda tile: bytes(1024),
    "markers": lambda tile: b"\xff" * 100,
    "random": lambda tile: np.random.default_rng(0).bytes(500),
    "the rest of it": lambda tile: bytes(len(tile) // 2),
}


@pytest.mark.parametrize("kind", SPOILT)
@pytest.mark.parametrize(("level", "index", "x", "y"), [(0, 7, 256, 128), (1, 4, 128, 128)])
def test_a_corrupt_jpeg_tile(pyramid: Path, kind: str, level: int, index: int, x: int, y: int) -> None:
    """Of most of this libjpeg only warns, and fills with grey."""
    whole = TifffileReader(pyramid, lambda file: list(file.pages)).region(level, 0, 0, 128, 128)
    offset, count = stored(pyramid, level, index)
    tile = pyramid.read_bytes()[offset : offset + count]
    overwrite(pyramid, offset + count // 2, SPOILT[kind](tile)[: count - count // 2])
    with Slide(pyramid) as slide:
        mpp = 0.25 * 2**level
        assert slide.reader == "tifffile"
        for _ in range(2):  # nothing of it is kept
            with pytest.raises(InputError) as caught:
                slide.read((x * 2**level - 20, y * 2**level - 20), (100, 100), mpp)
            line, place = str(caught.value), f"x {x} to {x + SIDE}, y {y} to {y + SIDE} px"
            assert line.startswith(f"{pyramid}: is damaged at level {level}, {place} (") and "\n" not in line
            assert line.endswith("; copy the file again")
        np.testing.assert_array_equal(slide.read((0, 0), (128, 128), mpp), whole)  # elsewhere it can be read


def test_a_corrupt_tile_by_openslide(pyramid: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for the formats that only OpenSlide reads; it sees less than the strict decoder does."""
    monkeypatch.setattr("mitosight.slide.same_pixels._same", lambda fast, slow: False)
    offset, count = stored(pyramid, 0, 7)
    overwrite(pyramid, offset + count // 2, b"\xff" * 100)
    with Slide(pyramid) as slide:
        assert slide.reader == "openslide"
        with pytest.raises(InputError) as caught:
            slide.read((300, 150), (50, 40))
    line = str(caught.value)
    assert line.startswith(f"{pyramid}: is damaged at level 0, x 300 to 350, y 150 to 190 px (OpenSlide: ")
    assert line.endswith("; copy the file again")


def test_a_corrupt_jpeg_strip(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, picture(), photometric="ycbcr", compression="jpeg", rowsperstrip=32, metadata=None)
    offset, count = stored(path, 0, 3)
    overwrite(path, offset + count // 2, bytes(1024))
    with pytest.raises(InputError, match=r"a\.tif: is damaged at level 0, x 0 to 600, y 96 to 128 px \(Corrupt JPEG"):
        Slide(path).read((0, 0), (600, 500))


@pytest.mark.parametrize("compression", ["lzw", "deflate"])
def test_a_corrupt_lossless_tile(tmp_path: Path, compression: str) -> None:
    path = tmp_path / "a.tif"
    write_tiff(path, picture(), 0.25, compression=compression, tile_px=SIDE)
    offset, count = stored(path, 0, 7)
    overwrite(path, offset + count // 2, np.random.default_rng(0).bytes(count // 3))
    with pytest.raises(InputError, match=r"a\.tif: is damaged at level 0, x 256 to 384, y 128 to 256 px \("):
        Slide(path).read((0, 0), (600, 500))


def test_a_jpeg_tile_of_another_size(tmp_path: Path) -> None:
    import imagecodecs

    path, tile = tmp_path / "a.tif", imagecodecs.jpeg8_encode(picture(64, 64), level=90)
    how = {"photometric": "ycbcr", "subsampling": (2, 2), "compression": "jpeg", "metadata": None}
    tifffile.imwrite(path, iter([tile] * 4), shape=(256, 256, 3), dtype=np.uint8, tile=(128, 128), **how)
    with pytest.raises(InputError, match=r"level 0, x 0 to 128, y 0 to 128 px \(JPEG of 64 x 64 px instead of 128"):
        TifffileReader(path).region(0, 0, 0, 10, 10)


def test_a_missing_end_marker_is_no_damage(pyramid: Path) -> None:
    before = Slide(pyramid).read((0, 0), (600, 500))
    offset, count = stored(pyramid, 0, 7)
    assert pyramid.read_bytes()[offset + count - 2 : offset + count] == b"\xff\xd9"
    with tifffile.TiffFile(pyramid, mode="r+") as file:
        tag = file.pages[0].tags[325]
        tag.overwrite([value - 2 * (i == 7) for i, value in enumerate(tag.value)])
    np.testing.assert_array_equal(Slide(pyramid).read((0, 0), (600, 500)), before)


def test_a_slide_that_vanishes_while_it_is_read(pyramid: Path, mitosight: Run) -> None:
    with Slide(pyramid) as slide:
        seen = slide.read((0, 0), (SIDE, SIDE))
        pyramid.unlink()
        np.testing.assert_array_equal(slide.read((0, 0), (SIDE, SIDE)), seen)  # kept
        line = rf"{pyramid}: can no longer be read \(No such file or directory\); see that it stays where it is"
        with pytest.raises(InputError, match=f"^{line}$"):
            slide.read((3 * SIDE, SIDE), (SIDE, SIDE))
        slide.close()
        with pytest.raises(InputError, match="is not there"):  # as in a process that begins only now
            slide.read((0, 0), (SIDE, SIDE))


def test_a_slide_that_becomes_unreadable(pyramid: Path) -> None:
    with Slide(pyramid) as slide:
        pyramid.unlink()
        pyramid.mkdir()
        with pytest.raises(InputError, match=r"can no longer be read \(Is a directory\)"):
            slide.read((3 * SIDE, SIDE), (SIDE, SIDE))


def test_openslide_keeps_its_file(pyramid: Path) -> None:
    """A file that it has opened stays readable after its name has gone; one that is cut off is an error."""
    reader = OpenSlideReader(pyramid)
    os.truncate(pyramid, stored(pyramid, 0, 7)[0])
    with pytest.raises(InputError, match=r"is damaged at level 0, x 256 to 384, y 128 to 256 px \(OpenSlide"):
        reader.region(0, 256, 128, 128, 128)
    reader.close()


@pytest.mark.parametrize("kind", ["tiles", "pyramid", "strips", "png", "jpg"])
@pytest.mark.parametrize("size", [(300, 1), (1, 300), (1, 1)])
def test_an_image_one_px_high(tmp_path: Path, mitosight: Run, kind: str, size: tuple[int, int]) -> None:
    image, path = np.full((size[1], size[0], 3), (180, 90, 200), np.uint8), tmp_path / f"a.{kind}"
    if kind in ("png", "jpg"):
        Image.fromarray(image).save(path, format="PNG" if kind == "png" else "JPEG", quality=100, subsampling=0)
    elif kind == "strips":
        tifffile.imwrite(path, image, photometric="rgb", metadata=None)
    else:
        write_tiff(path, image, 0.25, tile_px=64, compression="lzw", pyramid=kind == "pyramid")
    with Slide(path, mpp=0.25) as slide:
        assert (slide.width_px, slide.height_px) == size
        assert len(slide.level_downsamples) == (4 if kind == "pyramid" and max(size) > 1 else 1)
        assert np.abs(slide.read((0, 0), size).astype(int) - image).max() <= 2  # JPEG rounds
        assert slide.read((-1, -1), (3, 3), 0.5).shape == (3, 3, 3)
    status, printed, told = mitosight("info", path, "--mpp", 0.25)
    assert (status, told) == (0, "") and f"{size[0]} x {size[1]} px" in printed


@pytest.mark.parametrize("spoil", ["16 bit", "grey", "two channels"])
def test_tiled_pyramids_that_are_not_rgb(tmp_path: Path, mitosight: Run, spoil: str) -> None:
    """OpenSlide alone would show the first two as 8-bit RGB, without a word."""
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        for level in range(2):
            image = picture(256 >> level, 256 >> level)
            if spoil == "16 bit":
                image = image.astype(np.uint16) * 257
            else:
                image = image[..., 0] if spoil == "grey" else image[..., :2]
            photometric = "rgb" if spoil == "16 bit" else "minisblack"
            writer.write(image, tile=(64, 64), photometric=photometric, subfiletype=level, metadata=None)
    found = {"16 bit": "3 channels of 16 bit (RGB)", "grey": "1 channels of 8 bit (MINISBLACK)"}
    status, printed, told = mitosight("info", path, "--mpp", 0.25)
    assert (status, printed) == (1, "") and told.count("\n") == 1
    assert found.get(spoil, "channels") in told and "accepted are 8-bit RGB images" in told
