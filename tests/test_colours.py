"""Slides in the colours of a standard one: values worked out by hand, and two looks of one slide that become alike."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mitosight import colours, dataset, inference
from mitosight.dataset import TileSource
from mitosight.methods import create
from mitosight.regions import Domain, Region
from mitosight.slide import Slide, write_tiff
from mitosight.tissue import find_tissue

IDENTITY = np.tile(np.arange(256, dtype=np.uint8), (3, 1))


def halves(dark: Sequence[int], light: Sequence[int], side: int = 64) -> NDArray[np.uint8]:
    """A tile of which half is of one colour and half of another."""
    tile = np.empty((side, side, 3), np.uint8)
    tile[: side // 2], tile[side // 2 :] = dark, light
    return tile


def test_mean_and_deviation_become_the_standard_ones() -> None:
    tile = halves((100, 40, 90), (200, 150, 180))
    changed = colours.changed(tile, colours.table([tile]))
    density = colours.DENSITY[changed.reshape(-1, 3)]
    assert np.allclose(density.mean(axis=0), colours.MEAN, atol=0.005)
    assert np.allclose(density.std(axis=0), colours.DEVIATION, atol=0.005)


def test_by_hand() -> None:
    """Green of densities 0.2 and 0.6, mean 0.4, deviation 0.2: 0.2 becomes 0.34 - 0.17, and 0.6 becomes 0.34 + 0.17."""
    dark, light = round(255 * 10**-0.6), round(255 * 10**-0.2)
    found = colours.table([halves((dark,) * 3, (light,) * 3)])
    assert found[1, light] == round(255 * 10**-0.17) == 172
    assert found[1, dark] == round(255 * 10**-0.51) == 79


def test_glass_is_not_counted() -> None:
    tile = halves((100, 40, 90), (200, 150, 180))
    glass = np.full((64, 64, 3), 245, np.uint8)
    assert (colours.table([tile, glass, glass]) == colours.table([tile])).all()
    assert (colours.table([glass]) == IDENTITY).all() and (colours.table([]) == IDENTITY).all()


def test_one_colour_is_stretched_no_further_than_the_most() -> None:
    flat = np.full((64, 64, 3), 100, np.uint8)
    found = colours.table([flat]).astype(int)
    assert (np.diff(found, axis=1) >= 0).all()
    density = colours.DENSITY[found[:, 100]]
    assert np.allclose(density, colours.MEAN, atol=0.005)
    slope = (colours.DENSITY[found[1, 90]] - colours.DENSITY[found[1, 110]]) / (
        colours.DENSITY[90] - colours.DENSITY[110]
    )
    assert slope == pytest.approx(colours.STRETCHED, rel=0.05)


def test_table_is_applied_by_channel() -> None:
    table = np.stack([IDENTITY[0], 255 - IDENTITY[0], IDENTITY[0] // 2])
    pixels = np.array([[[10, 20, 30], [0, 255, 255]]], np.uint8)
    assert colours.changed(pixels, table).tolist() == [[[10, 235, 15], [0, 0, 127]]]
    assert colours.changed(pixels, None) is pixels


def test_two_scans_of_one_slide_look_the_same(rng: np.random.Generator) -> None:
    """One of them darker and with more contrast, by channel."""
    density = np.abs(rng.normal(0.3, 0.1, (256, 256, 3)))
    first = (255 * 10**-density).round().astype(np.uint8)
    second = (255 * 10 ** -(0.05 + density * (1.2, 0.8, 1.4))).round().astype(np.uint8)
    alike = [colours.changed(tile, colours.table([tile])).astype(int) for tile in (first, second)]
    assert np.abs(alike[0] - alike[1]).mean() < 1 < 20 < np.abs(first.astype(int) - second).mean()


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_training_and_search_see_the_same(tmp_path: Path, rng: np.random.Generator) -> None:
    pixels = (255 * 10 ** -np.abs(rng.normal(0.3, 0.1, (600, 700, 3)))).round().astype(np.uint8)
    (tmp_path / "images").mkdir()
    path = tmp_path / "images" / "a.tiff"
    write_tiff(path, pixels, 0.25, compression="deflate")
    detector = create("mitosight", ["one"], {"weights": "none", "tile_px": 512, "standard": True})
    assert detector.standardised and create("mitosight", ["one"], {"weights": "none", "standard": False}).table is None
    with Slide(path) as slide:
        own = inference.own(detector, inference.cover(slide, detector, None, find_tissue(slide)))
        assert own.table is not None and detector.table is None
        assert (own.table == dataset.standard_table(slide)).all()
    region = Region(
        "a.tiff", 700, 600, np.array([[300.0, 300.0]]), np.array([1]), domain=Domain(scanner="one"), mpp=0.25
    )
    source = TileSource(tmp_path / "images", [region], ["one"], ["one"], tile_px=512, standardised=True, length=1)
    plain = TileSource(tmp_path / "images", [region], ["one"], ["one"], tile_px=512, length=1)
    seen, raw = source[0].images, (plain[0].images * 255).round().byte().permute(0, 2, 3, 1).numpy()
    for tile, before in zip(seen, raw, strict=True):
        assert ((tile * 255).round().byte().permute(1, 2, 0).numpy() == colours.changed(before, own.table)).all()


def test_tiles_come_to_the_detector_in_standard_colours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.tiff"
    write_tiff(path, halves((100, 40, 90), (200, 150, 180), 256), 0.25, compression="deflate")
    detector = create("mitosight", ["one"], {"weights": "none", "tile_px": 256, "standard": True})
    shown = []
    detect = type(detector).detect
    monkeypatch.setattr(type(detector), "detect", lambda self, images: shown.append(images) or detect(self, images))
    with Slide(path) as slide:
        inference.detect(slide, detector)
    density = -np.log10(shown[0].numpy())
    assert np.allclose(density.mean(axis=(0, 2, 3)), colours.MEAN, atol=0.005)
