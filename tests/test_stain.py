"""Stains by hand: pixels of pure stains, and where two heaps of values part."""

import numpy as np
import pytest

from mitosight.stain import STAINS, haematoxylin, nuclei, otsu

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
