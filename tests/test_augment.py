import numpy as np
import pytest
import torch

from mitosight.augment import Augmentation, Jitter, Turns, _rotation, _symmetric_warp, warp


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


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("kind", [Turns(), Turns(turns=False, flips=True), Turns(flips=True), Jitter(hue=0.1)])
def test_points_follow_turns_and_flips_exactly(kind: Turns | Jitter, seed: int) -> None:
    moved, points = kind(dot_image(36, 27), torch.tensor([[36.5, 27.5, 10.0]]), np.random.default_rng(seed))
    assert brightest(moved) == (float(points[0, 0]), float(points[0, 1])) and points[0, 2] == 10


def test_turns_and_flips_come_equally_often() -> None:
    def places(kind: Turns) -> list[tuple[float, ...]]:
        point = torch.tensor([[1.0, 2.0, 1.0]])
        drawn = [kind(torch.zeros(3, 8, 8), point, np.random.default_rng(i))[1] for i in range(400)]
        return [tuple(p[0, :2].tolist()) for p in drawn]

    for kind, expected in (
        (Turns(), {(1.0, 2.0), (2.0, 7.0), (7.0, 6.0), (6.0, 1.0)}),
        (Turns(turns=False, flips=True), {(1.0, 2.0), (7.0, 2.0), (1.0, 6.0), (7.0, 6.0)}),
    ):
        seen = places(kind)
        assert set(seen) == expected and all(65 <= seen.count(place) <= 135 for place in expected)


def test_jitter_by_hand() -> None:
    """Brightness alone multiplies by a factor within its reach; grey has no saturation and no hue to change."""
    image, points = torch.full((3, 4, 4), 0.5), torch.zeros(0, 3)
    factors = [
        float(Jitter(brightness=0.35)(image, points, np.random.default_rng(i))[0].mean() / 0.5) for i in range(300)
    ]
    assert 0.65 <= min(factors) < 0.68 and 1.32 < max(factors) <= 1.35
    for seed in range(5):
        moved = Jitter(saturation=0.5, hue=0.1)(image, points, np.random.default_rng(seed))[0]
        assert torch.allclose(moved, image, atol=1e-3)  # its weights of grey sum to 0.9999
    pink = torch.tensor([0.9, 0.6, 0.8])[:, None, None].expand(3, 4, 4)
    changed = Jitter(0.35, 0.2, 0.1, 0.1)(pink, points, np.random.default_rng(0))[0]
    assert not torch.allclose(changed, pink) and 0 <= changed.min() <= changed.max() <= 1


def test_an_image_is_left_as_it_was() -> None:
    image, points = dot_image(36, 27), torch.tensor([[36.5, 27.5, 10.0]])
    before = image.clone(), points.clone()
    for seed in range(4):
        Jitter(0.3, 0.3, 0.3, 0.1, after=Turns(flips=True))(image, points, np.random.default_rng(seed))
    assert torch.equal(image, before[0]) and torch.equal(points, before[1])
