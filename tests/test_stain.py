"""Stains by hand: pixels of pure stains, and where two heaps of values part."""

import numpy as np
import pytest

from mitosight.stain import (
    STAINS,
    deconvolution_tables,
    haematoxylin,
    lightness,
    nuclei,
    otsu,
    sparse_haematoxylin,
    sparse_stains,
    summed,
)

H, E = (STAINS / np.linalg.norm(STAINS, axis=1, keepdims=True))[:2]


def test_pure_stains() -> None:
    """Light that passes 0.8 of haematoxylin and 0.3 of eosin is 10^-(0.8 H + 0.3 E)."""
    pixels = 10 ** -np.array([[0 * H, 0.8 * H], [0.5 * E, 0.8 * H + 0.3 * E]])
    assert haematoxylin(pixels) == pytest.approx(np.array([[0.0, 0.8], [0.0, 0.8]]), abs=1e-9)


def test_black_is_finite() -> None:
    assert np.isfinite(haematoxylin(np.zeros((2, 2, 3)))).all()


def test_otsu_parts_two_heaps() -> None:
    values = np.concatenate([np.full(90, 0.2), np.full(10, 0.9)])
    assert 0.2 < otsu(values) < 0.9
    assert otsu(np.array([0.0, 0.1, 0.2, 10.0, 10.1])) == pytest.approx(0.2, abs=0.05)


def test_nuclei_are_found_in_a_paler_stain_too() -> None:
    amount = np.full((20, 20), 0.1)
    amount[5:9, 5:9] = 0.8
    for strength in (1.0, 0.4):
        image = 10 ** -(strength * amount[..., None] * H + 0.2 * E)
        assert np.array_equal(nuclei(image), amount == 0.8)


def test_tables_are_the_deconvolution() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (50, 3)).astype(np.uint8)
    assert summed(deconvolution_tables(), rgb) == pytest.approx(haematoxylin(rgb / 255), abs=1e-5)


def test_lightness_of_greys() -> None:
    """Grey of 18.4 % luminance is the middle, L* 50; sRGB 119 is that."""
    greys = np.array([0, 119, 255])[:, None].repeat(3, axis=1) / 255
    assert lightness(greys) == pytest.approx([0, 50, 100], abs=0.2)


OWN = np.array([[0.5, 0.8, 0.332], [0.1, 0.9, 0.424]])  # stains of a made-up laboratory, nearly unit vectors


def amounts(n: int) -> np.ndarray:
    """(n, 2) amounts of haematoxylin and eosin: most px hold one stain, some hold both."""
    rng = np.random.default_rng(3)
    found = rng.uniform(0, 1.5, (n, 2))
    found[: n // 3, 0] = 0
    found[n // 3 : 2 * n // 3, 1] = 0
    return found


def test_sparse_stains_are_found() -> None:
    """Colours mixed of two known stains give these stains, haematoxylin first; the penalty shifts them a little."""
    rgb = np.exp(-amounts(900) @ OWN)
    found = sparse_stains(rgb, np.ones(len(rgb), dtype=int))
    unit = OWN / np.linalg.norm(OWN, axis=1, keepdims=True)
    assert (found * unit).sum(axis=1) == pytest.approx([1, 1], abs=0.002)
    assert np.linalg.norm(found, axis=1) == pytest.approx([1, 1])


def test_weight_is_repetition() -> None:
    rgb = np.exp(-amounts(60) @ OWN)
    weight = np.arange(60) % 4 + 1
    assert sparse_stains(rgb, weight) == pytest.approx(
        sparse_stains(rgb.repeat(weight, axis=0), np.ones(weight.sum(), dtype=int)), abs=1e-9
    )


def test_sparse_amounts_are_least() -> None:
    """No other non-negative pair of amounts on a fine grid makes the objective smaller."""
    stains = OWN / np.linalg.norm(OWN, axis=1, keepdims=True)
    grid = np.linspace(0, 6, 601)
    pairs = np.stack(np.meshgrid(grid, grid, indexing="ij"), axis=-1).reshape(-1, 2)
    for colour in ((90, 60, 140), (230, 120, 160), (250, 250, 250), (60, 160, 200), (10, 10, 10)):
        density = -np.log(np.array(colour) / 255)
        objective = ((density - pairs @ stains) ** 2).sum(axis=1) / 2 + 0.05 * pairs.sum(axis=1)
        best = pairs[np.argmin(objective)]
        found = sparse_haematoxylin(np.array([colour], dtype=np.uint8), stains, 0.05)
        assert found[0] == pytest.approx(best[0], abs=0.011)
