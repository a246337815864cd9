import numpy as np
import pytest
import torch

from mitosight.augment import Augmentation, _rotation, _symmetric_warp, warp


def dot_image(x: int, y: int, side: int = 64) -> torch.Tensor:
    image = torch.zeros(3, side, side)
    image[:, y - 1 : y + 2, x - 1 : x + 2] = 1.0
    return image


def brightest(image: torch.Tensor) -> tuple[float, float]:
    weight = image[0].numpy()
    ys, xs = np.mgrid[: weight.shape[0], : weight.shape[1]]
    return float((xs * weight).sum() / weight.sum() + 0.5), float((ys * weight).sum() / weight.sum() + 0.5)


@pytest.mark.parametrize("seed", range(12))
def test_points_follow_the_image(seed: int) -> None:
    augment = Augmentation(brightness=0, contrast=1, warp=0.15, zoom=1.3)
    image, point = dot_image(36, 27), torch.tensor([[36.5, 27.5, 10.0]])
    moved, points = augment(image, point, np.random.default_rng(seed))
    x, y = brightest(moved)
    assert abs(points[0, 0] - x) < 0.6
    assert abs(points[0, 1] - y) < 0.6


def test_quarter_turn_by_hand() -> None:
    # a turn by +90 degrees in (x right, y down) coordinates takes the right edge to the bottom
    moved, points = warp(dot_image(50, 32), torch.tensor([[50.5, 32.5, 8.0]]), _rotation(90))
    assert points[0].tolist() == pytest.approx([31.5, 50.5, 8.0])
    assert moved[0, 50, 31] == pytest.approx(1.0, abs=1e-4)


def test_zoom_scales_the_box() -> None:
    _, points = warp(torch.zeros(3, 100, 100), torch.tensor([[60.0, 50.0, 20.0]]), np.diag([2.0, 2.0, 1.0]))
    assert points[0].tolist() == pytest.approx([70.0, 50.0, 40.0])


def test_symmetric_warp_stretches_the_edges() -> None:
    matrix = _symmetric_warp(np.array([0.1, -0.1, 0.2, 0.0]))
    corners = np.array([[-1, -1, 1], [-1, 1, 1], [1, -1, 1], [1, 1, 1]], dtype=float) @ matrix.T
    found = corners[:, :2] / corners[:, 2:]
    assert found == pytest.approx(np.array([[-1.0, -0.9], [-1.2, 0.9], [1.0, -1.1], [1.2, 1.1]]))


def test_lighting_neutral_and_in_range() -> None:
    image = torch.rand(3, 8, 8)
    none = Augmentation(dihedral=False, warp=0, rotation_deg=0, zoom=1, brightness=0, contrast=1)
    assert torch.equal(none(image, torch.zeros(0, 3), np.random.default_rng(0))[0], image)
    bright = Augmentation(dihedral=False, warp=0, rotation_deg=0, zoom=1, contrast=1, probability=1.0)
    for seed in range(5):
        lit, _ = bright(image, torch.zeros(0, 3), np.random.default_rng(seed))
        assert lit.min() >= 0 and lit.max() <= 1
        order = image.flatten().argsort()
        assert (lit.flatten()[order].diff() >= -1e-6).all()  # monotonous


def test_same_seed_same_tile() -> None:
    image, points = torch.rand(3, 32, 32), torch.tensor([[3.0, 4.0, 5.0]])
    first = Augmentation()(image, points, np.random.default_rng(7))
    again = Augmentation()(image, points, np.random.default_rng(7))
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
