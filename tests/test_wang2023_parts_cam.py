"""Class activation maps by hand: from features to a map, from a drawn map to a point."""

import numpy as np
import pytest
import torch

from mitosight.methods.parts.cam import activation_maps, figure_points


def drawn(*boxes: tuple[int, int, int, int, float]) -> np.ndarray:
    """A map (1, 80, 80) with boxes: first and last column, first and last row, value."""
    level = np.zeros((1, 80, 80))
    for x0, x1, y0, y1, value in boxes:
        level[0, y0 : y1 + 1, x0 : x1 + 1] = value
    return level


def test_map_by_hand() -> None:
    """Channel weights 1 and -1: 4 - 1, 1 - 2, 0 - 0, 2 - 0.5; ReLU leaves 3, 0, 0, 1.5, which become 1, 0, 0, 1/2."""
    features = torch.tensor([[[[4.0, 1.0], [0.0, 2.0]], [[1.0, 2.0], [0.0, 0.5]]]])
    found = activation_maps(features, torch.tensor([1.0, -1.0]), 2)
    assert found.tolist() == [[[1.0, 0.0], [0.0, 0.5]]]
    wide = activation_maps(features, torch.tensor([1.0, -1.0]), 4)[0]
    assert wide[0].tolist() == pytest.approx([1.0, 0.75, 0.25, 0.0])  # bilinear, cell centres a quarter in


def test_each_map_has_its_own_range_and_a_flat_one_is_0() -> None:
    features = torch.tensor([1.0, 3.0, 2.0, 2.0])[:, None, None, None].repeat(1, 1, 2, 2)
    features[0, 0, 0, 0], features[1, 0, 1, 1] = 5.0, 4.0
    found = activation_maps(features, torch.ones(1), 2)
    assert found[0].tolist() == [[1.0, 0.0], [0.0, 0.0]]
    assert found[1].tolist() == [[0.0, 0.0], [0.0, 1.0]]
    assert not found[2:].any() and torch.isfinite(found).all()


def test_the_middle_of_the_box() -> None:
    """Columns 20 to 29 reach from 20 to 30 px, rows 40 to 45 from 40 to 46."""
    assert figure_points(drawn((20, 29, 40, 45, 0.9))).tolist() == [[25.0, 43.0]]
    corner = drawn((0, 9, 0, 9, 0.9))
    corner[0, :5, :5] = 0  # three quarters of a square: the box counts, not the mass
    assert figure_points(corner).tolist() == [[5.0, 5.0]]


def test_threshold_area_and_the_highest() -> None:
    assert figure_points(drawn((20, 29, 40, 49, 200 / 255), (50, 55, 10, 15, 0.79))).tolist() == [[53.0, 13.0]]
    large, high, tiny = (5, 30, 5, 30, 0.85), (50, 54, 60, 64, 0.9), (70, 72, 70, 72, 1.0)
    assert figure_points(drawn(large, high, tiny)).tolist() == [[52.5, 62.5]]  # 9 px are too few
    assert figure_points(drawn(large, high, tiny), least_area_px=9).tolist() == [[71.5, 71.5]]
    touching = drawn((10, 12, 10, 13, 0.9), (13, 15, 14, 18, 0.9))  # by a corner: 12 + 15 px are one
    assert figure_points(touching).tolist() == [[13.0, 14.5]]


@pytest.mark.parametrize(
    ("small", "expected"), [("keep", [31.0, 62.0]), ("centre", [40.0, 40.0]), ("drop", [np.nan, np.nan])]
)
def test_where_nothing_survives(small: str, expected: list[float]) -> None:
    level = drawn((30, 31, 60, 63, 0.95), (0, 3, 0, 3, 0.9))
    np.testing.assert_equal(figure_points(level, small=small), [expected])
    flat = figure_points(np.zeros((1, 80, 80)), small=small)
    np.testing.assert_equal(flat, [[np.nan] * 2 if small == "drop" else [40.0, 40.0]])
    assert figure_points(np.zeros((0, 80, 80)), small=small).shape == (0, 2)


def test_one_bright_cell_is_four_pixels() -> None:
    """(15/16)^2 = 0.88 beside its centre, (15/16)(13/16) = 0.76 a pixel further: below 200/255 = 0.78."""
    features = torch.zeros(1, 1, 10, 10)
    features[0, 0, 6, 3] = 2.0
    level = activation_maps(features, torch.ones(1), 80).numpy()
    assert (level > 200 / 255).sum() == 4
    assert figure_points(level).tolist() == [[28.0, 52.0]]  # the middle of column 3 and row 6
