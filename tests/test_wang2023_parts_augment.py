"""Augmentation of patches: stains by hand, elastic warp with its points, kinds alone, drawn anew."""

import numpy as np
import pytest
import torch

from mitosight.stain import STAINS, haematoxylin
from mitosight.stain_augment import (
    PatchAugmentation,
    blurred,
    elastic,
    elastic_field,
    stain_amounts,
    stain_jitter,
    stained,
)

NONE = PatchAugmentation(
    turns=False, flips=False, elastic_px=0, brightness=0, contrast=0, hed=0, blur_px=0, probability=1.0
)
NO_POINTS = torch.zeros(0, 3)


def dot(x: int, y: int, side: int = 80) -> torch.Tensor:
    """A smooth spot at the centre of pixel (x, y)."""
    ys, xs = torch.meshgrid(torch.arange(side) - y, torch.arange(side) - x, indexing="ij")
    return torch.exp(-(xs**2 + ys**2) / 8.0).expand(3, side, side).contiguous()


def middle(image: torch.Tensor) -> tuple[float, float]:
    weight = image[0].numpy().astype(float)
    ys, xs = np.mgrid[: weight.shape[0], : weight.shape[1]]
    return float((xs * weight).sum() / weight.sum() + 0.5), float((ys * weight).sum() / weight.sum() + 0.5)


def pixel(*rgb: float) -> torch.Tensor:
    return torch.tensor(rgb, dtype=torch.float32)[:, None, None].expand(3, 4, 4).contiguous()


def test_amounts_by_hand() -> None:
    """A pixel of 0.5 haematoxylin and 0.2 eosin alone, as light through them would be."""
    unit = STAINS / np.linalg.norm(STAINS, axis=1, keepdims=True)
    image = pixel(*(10 ** -(0.5 * unit[0] + 0.2 * unit[1])))
    found = stain_amounts(image)
    assert found[:, 0, 0].tolist() == pytest.approx([0.5, 0.2, 0.0], abs=1e-5)
    assert torch.allclose(stained(found), image, atol=1e-6)
    noise = torch.rand(2, 3, 5, 5)
    expected = haematoxylin(noise.permute(0, 2, 3, 1).numpy())
    assert np.allclose(stain_amounts(noise)[:, 0], expected, atol=1e-4)
    assert torch.isfinite(stain_amounts(torch.zeros(3, 2, 2))).all()


def test_stain_jitter_by_hand() -> None:
    """White has no stain: a does nothing, and b as such comes out; it is never brighter than white."""

    class Told:
        def __init__(self, *drawn: list[float]) -> None:
            self.drawn = list(drawn)

        def uniform(self, low: float, high: float, size: tuple[int, ...]) -> np.ndarray:
            value = np.array(self.drawn.pop(0)).reshape(size)
            assert (value >= low).all() and (value <= high).all()
            return value

    white = pixel(1, 1, 1)
    more = stain_jitter(white, 0.2, Told([0.8, 1.2, 1.0], [0.1, 0.05, 0.0]))  # type: ignore[arg-type]
    assert stain_amounts(more)[:, 1, 1].tolist() == pytest.approx([0.1, 0.05, 0.0], abs=1e-5)
    less = stain_jitter(white, 0.2, Told([1.0] * 3, [-0.2] * 3))  # type: ignore[arg-type]
    assert torch.equal(less, white)
    stainy = stained(torch.tensor([0.5, 0.3, 0.0])[:, None, None].expand(3, 4, 4))
    changed = stain_jitter(stainy, 0.1, Told([1.1, 0.9, 1.0], [0.0, 0.02, 0.0]))  # type: ignore[arg-type]
    assert stain_amounts(changed)[:, 0, 0].tolist() == pytest.approx([0.55, 0.29, 0.0], abs=1e-5)


def test_elastic_by_hand() -> None:
    """The same shift everywhere: each pixel shows what lies 3 to the right and 1 up; points go against it."""
    shift = np.stack([np.full((80, 80), 3.0), np.full((80, 80), -1.0)]).astype(np.float32)
    image, points = elastic(dot(40, 30), torch.tensor([[40.5, 30.5, 50.0]]), shift)
    assert points.tolist() == [[37.5, 31.5, 50.0]]
    assert torch.allclose(image, dot(37, 31), atol=1e-4)


@pytest.mark.parametrize("seed", range(6))
def test_points_follow_the_elastic_warp(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shift = elastic_field((80, 80), 3.0, 8.0, rng)
    assert shift.shape == (2, 80, 80) and np.hypot(*shift).max() <= 3.0
    image, points = elastic(dot(36, 47), torch.tensor([[36.5, 47.5, 50.0]]), shift)
    assert points[0, :2].tolist() == pytest.approx(middle(image), abs=0.35)
    x, y = points[0, :2].tolist()
    at = shift[:, int(y), int(x)]
    assert [x + at[0], y + at[1]] == pytest.approx([36.5, 47.5], abs=0.5)
    assert elastic(image, NO_POINTS, shift)[1].shape == (0, 3)


def test_elastic_reaches_its_strength() -> None:
    lengths = [np.hypot(*elastic_field((40, 40), 3.0, 8.0, np.random.default_rng(i))).max() for i in range(200)]
    assert min(lengths) < 0.2 and 2.8 < max(lengths) <= 3.0


def test_blur_keeps_the_sum_and_spreads() -> None:
    """A Gaussian of deviation 2 blurred by 1.5 has deviation 2.5: its peak falls by (2 / 2.5)^2."""
    image = dot(40, 40)
    soft = blurred(image, 1.5)
    assert float(soft.sum()) == pytest.approx(float(image.sum()), rel=1e-4)
    assert float(soft[0, 40, 40]) == pytest.approx(0.64, abs=0.01)


@pytest.mark.parametrize("kind", ["elastic_px", "brightness", "contrast", "hed", "blur_px"])
def test_each_kind_alone_changes_and_stays_in_range(kind: str) -> None:
    image = torch.rand(3, 32, 32)
    changed = []
    for seed in range(3):
        alone = PatchAugmentation(**{**NONE.__dict__, kind: getattr(PatchAugmentation(), kind)})
        out, _ = alone(image, NO_POINTS, np.random.default_rng(seed))
        assert out.shape == image.shape and out.min() >= 0 and out.max() <= 1 and out.dtype == torch.float32
        changed.append(out)
    assert not torch.equal(changed[0], image)
    assert not torch.equal(changed[0], changed[1])  # drawn anew for each image


def test_nothing_asked_nothing_changed() -> None:
    image, points = torch.rand(3, 16, 16), torch.tensor([[3.0, 4.0, 5.0]])
    out, moved = NONE(image, points, np.random.default_rng(0))
    assert torch.equal(out, image) and torch.equal(moved, points)
    rare = PatchAugmentation(turns=False, flips=False, probability=0.0)
    assert torch.equal(rare(image, points, np.random.default_rng(0))[0], image)


@pytest.mark.parametrize("seed", range(8))
def test_points_follow_all_of_it(seed: int) -> None:
    augment = PatchAugmentation(brightness=0, contrast=0, hed=0, probability=1.0)
    image, points = augment(dot(30, 44), torch.tensor([[30.5, 44.5, 50.0]]), np.random.default_rng(seed))
    assert points[0, :2].tolist() == pytest.approx(middle(image), abs=0.4)


def test_same_seed_same_patch_and_the_image_is_left() -> None:
    image, points = torch.rand(3, 24, 24), torch.tensor([[3.0, 4.0, 5.0]])
    before = image.clone(), points.clone()
    first, again = (PatchAugmentation()(image, points, np.random.default_rng(7)) for _ in range(2))
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert torch.equal(image, before[0]) and torch.equal(points, before[1])
