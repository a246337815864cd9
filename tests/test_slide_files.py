"""Every kind of file that is accepted, and every kind that is refused in one line."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from mitosight.errors import InputError
from mitosight.slide import SUFFIXES, Slide, write_tiff

RGB = {"photometric": "rgb", "metadata": None}


def picture(width: int = 300, height: int = 220) -> np.ndarray:
    small = np.random.default_rng(1).integers(60, 250, (height // 10, width // 10, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def refusal(path: Path, read: bool = False) -> str:
    """The one line that refuses `path`, at opening or, with `read`, at reading."""
    with pytest.raises(InputError) as caught:
        slide = Slide(path)
        assert read, f"{path} opened"
        slide.read((0, 0), (slide.width_px, slide.height_px))
    line = str(caught.value)
    assert line.startswith(f"{path}: ") and "\n" not in line
    return line


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("strips", {"rowsperstrip": 16}),
        ("one_strip", {"rowsperstrip": 220}),
        ("lzw", {"rowsperstrip": 7, "compression": "lzw", "predictor": True}),
        ("deflate", {"rowsperstrip": 50, "compression": "deflate"}),
        ("big", {"rowsperstrip": 16, "bigtiff": True}),
        ("big_endian", {"rowsperstrip": 16, "byteorder": ">"}),
    ],
)
def test_lossless_tiffs_are_read_bit_for_bit(tmp_path: Path, name: str, options: dict[str, object]) -> None:
    path = tmp_path / f"{name}.tif"
    tifffile.imwrite(path, picture(), **RGB, **options)
    with Slide(path) as slide:
        assert (slide.reader, slide.width_px, slide.height_px) == ("tifffile", 300, 220)
        np.testing.assert_array_equal(slide.read((0, 0), (300, 220)), picture())
        np.testing.assert_array_equal(slide.read((211, 93), (80, 101)), picture()[93:194, 211:291])


def test_separate_planes(tmp_path: Path) -> None:
    for name, options in (("strips", {"rowsperstrip": 33}), ("tiles", {"tile": (64, 64), "compression": "zstd"})):
        planes = np.ascontiguousarray(picture().transpose(2, 0, 1))
        tifffile.imwrite(tmp_path / f"{name}.tif", planes, planarconfig="separate", **RGB, **options)
        np.testing.assert_array_equal(
            Slide(tmp_path / f"{name}.tif").read((50, 60), (99, 98)), picture()[60:158, 50:149]
        )


def test_jpeg_in_strips_equals_the_whole_decoded(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, picture(), photometric="ycbcr", compression="jpeg", rowsperstrip=32, metadata=None)
    np.testing.assert_array_equal(Slide(path).read((30, 40), (200, 150)), tifffile.imread(path)[40:190, 30:230])


def test_a_window_decodes_only_the_strips_it_needs(tmp_path: Path) -> None:
    from mitosight.slide.tifffile_reader import TifffileReader

    path = tmp_path / "a.tif"
    tifffile.imwrite(path, picture(), rowsperstrip=10, compression="lzw", **RGB)
    reader = TifffileReader(path)
    reader.region(0, 5, 95, 40, 11)
    assert reader._segments.keys() == [(0, 9), (0, 10)]
    reader.close()


def test_the_cache_of_strips_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mitosight.slide.tifffile_reader.CACHE_BYTES", 3 * 300 * 10 * 3)  # three strips of ten rows
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, picture(), rowsperstrip=10, compression="lzw", **RGB)
    slide = Slide(path)
    np.testing.assert_array_equal(slide.read((0, 0), (300, 220)), picture())
    assert slide._open._segments.keys() == [(0, 19), (0, 20), (0, 21)]
    slide.close()


def test_an_ome_pyramid_goes_to_tifffile(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    levels = [np.full((512 >> i, 640 >> i, 3), 40 * (i + 1), np.uint8) for i in range(3)]
    with tifffile.TiffWriter(path, ome=True) as writer:
        physical = {"PhysicalSizeX": 500, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.5, "PhysicalSizeYUnit": "µm"}
        writer.write(levels[0], photometric="rgb", tile=(64, 64), subifds=2, metadata={"axes": "YXS", **physical})
        for level in levels[1:]:
            writer.write(level, photometric="rgb", tile=(64, 64), subfiletype=1)
    with Slide(path) as slide:
        assert (slide.reader, slide.level_downsamples) == ("tifffile", (1, 2, 4))
        assert (slide.mpp, slide.mpp_source) == (0.5, "OME PhysicalSizeX")
        assert [slide.read((64, 64), (20, 20), mpp)[0, 0, 0] for mpp in (0.5, 1.0, 2.0)] == [40, 80, 120]


def test_micrometres_of_imagej(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, picture()[None, None], imagej=True, resolution=(4, 4), metadata={"unit": "um"})
    assert Slide(path).mpp == pytest.approx(0.25)


def test_png_and_jpeg(tmp_path: Path) -> None:
    Image.fromarray(picture()).save(tmp_path / "a.png")
    Image.fromarray(picture()).save(tmp_path / "a.JPG", format="JPEG")
    np.testing.assert_array_equal(Slide(tmp_path / "a.png").read((7, 8), (60, 50)), picture()[8:58, 7:67])
    assert Slide(tmp_path / "a.JPG").reader == "pillow"
    with Image.open(tmp_path / "a.JPG") as direct:
        np.testing.assert_array_equal(Slide(tmp_path / "a.JPG").read((0, 0), (300, 220)), np.asarray(direct))


def test_the_content_decides_not_the_name(tmp_path: Path) -> None:
    Image.fromarray(picture()).save(tmp_path / "a.svs", format="PNG")
    assert Slide(tmp_path / "a.svs").reader == "pillow"


def test_the_jpeg_of_a_mirax_slide_is_not_the_slide(tmp_path: Path) -> None:
    Image.fromarray(picture()).save(tmp_path / "a.mrxs", format="JPEG")  # its folder of data is missing
    assert "is not an image that can be read" in refusal(tmp_path / "a.mrxs")


def test_bounds_of_the_scanned_part() -> None:
    from mitosight.slide.openslide_reader import _bounds

    properties = {"openslide.bounds-x": "7", "openslide.bounds-y": "8"}
    assert _bounds(properties) is None
    assert _bounds({**properties, "openslide.bounds-width": "90", "openslide.bounds-height": "60"}) == (7, 8, 90, 60)


def test_a_palette_is_looked_up(tmp_path: Path) -> None:
    image = Image.fromarray(picture()).quantize(16)
    image.save(tmp_path / "a.png")
    np.testing.assert_array_equal(Slide(tmp_path / "a.png").read((0, 0), (300, 220)), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_transparency_is_laid_on_white(tmp_path: Path, suffix: str) -> None:
    rgba = np.zeros((40, 60, 4), np.uint8)
    rgba[:, :20] = (100, 50, 200, 0)
    rgba[:, 20:40] = (100, 50, 200, 51)  # a fifth of the colour, four fifths of white
    rgba[:, 40:] = (100, 50, 200, 255)
    Image.fromarray(rgba).save(tmp_path / f"a.{suffix}")
    row = Slide(tmp_path / f"a.{suffix}").read((0, 0), (60, 40))[3]
    assert row[[5, 30, 50]].tolist() == [[255, 255, 255], [224, 214, 244], [100, 50, 200]]


@pytest.mark.parametrize("tile", [None, (64, 64)])
def test_associated_alpha(tmp_path: Path, tile: tuple[int, int] | None) -> None:
    rgba = np.full((40, 60, 4), (20, 10, 40, 51), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", rgba, extrasamples=["assocalpha"], tile=tile, **RGB)
    assert Slide(tmp_path / "a.tif").read((0, 0), (1, 1)).tolist() == [[[224, 214, 244]]]


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg"])
def test_greyscale_is_refused(tmp_path: Path, suffix: str) -> None:
    Image.fromarray(picture()[..., 0]).save(tmp_path / f"a{suffix}")
    assert "accepted are 8-bit RGB images" in refusal(tmp_path / f"a{suffix}")


@pytest.mark.parametrize("tile", [None, (64, 64)])
def test_sixteen_bit_tiff_is_refused(tmp_path: Path, tile: tuple[int, int] | None) -> None:
    tifffile.imwrite(tmp_path / "a.tif", picture().astype(np.uint16) * 256, tile=tile, **RGB)
    assert "holds 3 channels of 16 bit (RGB)" in refusal(tmp_path / "a.tif")


def test_sixteen_bit_png_is_refused(tmp_path: Path) -> None:
    import imagecodecs

    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(picture().astype(np.uint16) * 256))
    assert "holds 16-bit RGB pixels" in refusal(tmp_path / "a.png")


def test_cmyk_is_refused(tmp_path: Path) -> None:
    Image.fromarray(picture()).convert("CMYK").save(tmp_path / "a.jpg")
    assert "holds CMYK pixels" in refusal(tmp_path / "a.jpg")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_files_that_are_no_image(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"empty{suffix}").touch()
    (tmp_path / f"text{suffix}").write_text("file_name,x_px,y_px\n" * 50)
    assert "is empty" in refusal(tmp_path / f"empty{suffix}")
    assert "is not an image that can be read; accepted are SVS" in refusal(tmp_path / f"text{suffix}")
    assert "is not there" in refusal(tmp_path / f"missing{suffix}")


def test_a_folder_is_no_image(tmp_path: Path) -> None:
    assert "is a folder" in refusal(tmp_path)


@pytest.mark.parametrize("magic", [b"II*\0", b"MM\0*", b"II+\0", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0"])
def test_a_head_without_a_body(tmp_path: Path, magic: bytes) -> None:
    (tmp_path / "a.tif").write_bytes(magic + bytes(40))
    assert "damaged" in refusal(tmp_path / "a.tif")


def _write(path: Path, kind: str) -> None:
    if kind in ("png", "jpg"):
        Image.fromarray(picture()).save(path, format={"png": "PNG", "jpg": "JPEG"}[kind])
    elif kind == "tiled jpeg":
        write_tiff(path, picture(), 0.25, tile_px=64)
    elif kind == "jpeg strips":
        tifffile.imwrite(path, picture(), photometric="ycbcr", compression="jpeg", rowsperstrip=32, metadata=None)
    else:
        tifffile.imwrite(path, picture(), rowsperstrip=16, compression=None if kind == "plain" else kind, **RGB)


@pytest.mark.parametrize("kind", ["png", "jpg", "tiled jpeg", "jpeg strips", "plain", "lzw"])
def test_a_file_cut_in_the_middle(tmp_path: Path, kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "cut.img"
    _write(path, kind)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "truncated" in refusal(path, read=True)
    assert capfd.readouterr() == ("", "")  # no library speaks beside us


@pytest.mark.parametrize("kind", ["png", "tiled jpeg", "jpeg strips", "lzw"])
def test_a_file_spoilt_in_the_middle(tmp_path: Path, kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "spoilt.img"
    _write(path, kind)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : len(content) - 200] = b"\xff\xd8\x00\x17" * ((len(content) - 200 - middle) // 4)
    path.write_bytes(content)
    assert "damaged" in refusal(path, read=True)
    assert capfd.readouterr() == ("", "")


def test_an_unbelievable_png_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(picture()).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40_000)  # a warning, which stays silent
    assert Slide(tmp_path / "a.png").width_px == 300
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20_000)  # an error
    assert "save it as tiled TIFF" in refusal(tmp_path / "a.png")


def test_a_truncated_slide_of_a_scanner_is_not_taken_for_a_plain_tiff(tmp_path: Path) -> None:
    path = tmp_path / "a.svs"
    told = "Aperio Image Library v1\n300x220 [0,0 300x220] (64x64) JPEG/RGB Q=90|AppMag = 20|MPP = 0.5"
    kinds = {"tile": (64, 64), "compression": "jpeg", "photometric": "rgb", "metadata": None}
    tifffile.imwrite(path, picture(), description=told, **kinds)
    whole = path.read_bytes()
    with Slide(path) as slide:
        assert (slide.reader, slide.mpp, slide.mpp_source) == ("tifffile", 0.5, "openslide.mpp-x")
    for share in (0.6, 0.9, 0.99):
        path.write_bytes(whole[: int(len(whole) * share)])
        assert "truncated" in refusal(path)
