"""The tiled TIFF that this package writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openslide
import pytest
from PIL import Image

from mitosight.errors import InputError
from mitosight.slide import Slide, write_tiff


def picture(width: int, height: int) -> np.ndarray:
    small = np.random.default_rng(2).integers(90, 250, (height // 10, width // 10, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("mpp", [0.05, 0.2273, 0.25, 0.499, 9.9])
def test_openslide_reads_pixels_and_resolution(tmp_path: Path, mpp: float) -> None:
    path = tmp_path / "a.tiff"
    write_tiff(path, picture(700, 530), mpp)
    with openslide.OpenSlide(path) as slide:
        assert slide.properties["openslide.vendor"] == "generic-tiff"
        assert float(slide.properties["openslide.mpp-y"]) == pytest.approx(mpp, rel=1e-6)
        assert slide.dimensions == (700, 530)
        pixels = np.asarray(slide.read_region((0, 0), 0, (700, 530)).convert("RGB"))
    difference = np.abs(pixels.astype(int) - picture(700, 530))
    assert difference.mean() < 2
    assert difference[-8:].mean() < 2 and difference[:, -8:].mean() < 2  # nothing bleeds in at the border


@pytest.mark.parametrize("compression", ["lzw", "deflate"])
def test_lossless(tmp_path: Path, compression: str) -> None:
    write_tiff(tmp_path / "a.tiff", picture(700, 530), 0.25, compression=compression)
    with Slide(tmp_path / "a.tiff") as slide:
        assert slide.reader == "tifffile"
        np.testing.assert_array_equal(slide.read((0, 0), (700, 530)), picture(700, 530))


def test_a_pyramid_halves_down_to_one_tile(tmp_path: Path) -> None:
    image = picture(701, 531)
    write_tiff(tmp_path / "a.tiff", image, 0.25, compression="lzw", tile_px=128, pyramid=True)
    with openslide.OpenSlide(tmp_path / "a.tiff") as slide:
        assert slide.level_dimensions == ((701, 531), (351, 266), (176, 133), (88, 67))
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(0.25)
        half = np.asarray(slide.read_region((0, 0), 1, (350, 265)).convert("RGB"))
    mean = image[:530, :700].reshape(265, 2, 350, 2, 3).mean(axis=(1, 3))
    assert np.abs(half - mean).max() <= 1
    assert Slide(tmp_path / "a.tiff").level_downsamples == (1, 2, 4, 8)


def test_quality_and_repeatability(tmp_path: Path) -> None:
    for name, quality in (("a", 90), ("b", 90), ("c", 30)):
        write_tiff(tmp_path / f"{name}.tiff", picture(700, 530), 0.25, quality=quality)
    a, b, c = ((tmp_path / f"{name}.tiff").read_bytes() for name in "abc")
    assert a == b and len(c) < 0.7 * len(a)


def test_whole_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"0\.01 µm per px cannot be written"):
        write_tiff(tmp_path / "a.tiff", picture(100, 100), 0.01)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        write_tiff(tmp_path / "file" / "a.tiff", picture(100, 100), 0.25)
    assert [f.name for f in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tifffile

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tifffile.TiffWriter, "write", full)
    with pytest.raises(InputError, match="No space left on device"):
        write_tiff(tmp_path / "a.tiff", picture(100, 100), 0.25)
    assert list(tmp_path.iterdir()) == []
