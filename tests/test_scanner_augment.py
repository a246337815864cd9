"""Sharpness and noise of scanners: values by hand on edges and grey."""

import numpy as np
import pytest
import torch

from mitosight.augment import Turns
from mitosight.methods.mitosight import Mitosight
from mitosight.scanner_augment import ScannerAugmentation, noisy, sharpened

GREY = torch.full((3, 16, 16), 0.5)
PLAIN = Turns(turns=False)


def edge() -> torch.Tensor:
    image = torch.full((3, 16, 16), 0.4)
    image[..., 8:] = 0.6
    return image


def test_sharpening_changes_edges_alone() -> None:
    """Grey stays. Beside an edge of 0.2 the blur takes 0.1 x erfc(0.5 / (s sqrt 2)) or so: dark gets darker by it."""
    assert torch.allclose(sharpened(GREY, 2.0, 1.0), GREY)
    found = sharpened(edge(), 1.0, 1.0)
    assert found[0, 8, 0] == pytest.approx(0.4, abs=1e-3) and found[0, 8, 15] == pytest.approx(0.6, abs=1e-3)
    assert found[0, 8, 7] == pytest.approx(0.4 - 0.2 * 0.3, abs=0.01)  # three tenths of a Gaussian lie beyond 0.5 s
    assert found[0, 8, 8] == pytest.approx(0.6 + 0.2 * 0.3, abs=0.01)
    twice = sharpened(edge(), 2.0, 1.0)
    assert twice[0, 8, 7] - 0.4 == pytest.approx(2 * (found[0, 8, 7] - 0.4).item(), abs=1e-5)
    assert torch.equal(sharpened(edge(), 0.0, 1.0), edge())


def test_noise_has_its_deviation_and_stays_in_range() -> None:
    rng = np.random.default_rng(0)
    large = torch.full((3, 200, 200), 0.5)
    assert float(noisy(large, 0.03, rng).std()) == pytest.approx(0.03, rel=0.02)
    dark = noisy(torch.zeros(3, 50, 50), 0.1, rng)
    assert dark.min() == 0 and dark.max() > 0


def test_points_and_the_off_switch() -> None:
    points = torch.tensor([[3.0, 4.0, 50.0]])
    off = ScannerAugmentation(PLAIN, probability=0.0)
    image, moved = off(edge(), points, np.random.default_rng(0))
    assert torch.equal(image, edge()) and torch.equal(moved, points)
    on = ScannerAugmentation(PLAIN, probability=1.0)
    image, moved = on(edge(), points, np.random.default_rng(0))
    assert not torch.equal(image, edge()) and torch.equal(moved, points)
    again, _ = on(edge(), points, np.random.default_rng(0))
    assert torch.equal(image, again)


def test_our_detector_takes_it_by_name() -> None:
    found = Mitosight(weights="none", augmentation="scanners", stain_jitter=0.07).augmentation
    assert isinstance(found, ScannerAugmentation) and getattr(found.before, "hed", None) == 0.07
