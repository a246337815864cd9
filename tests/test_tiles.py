"""Every point of a frame is owned by exactly one tile, which holds it with room around it."""

from __future__ import annotations

import numpy as np
import pytest

from mitosight.errors import UsageError
from mitosight.tiles import Tile, around, grid, measured_blocks, sampled_blocks


def test_by_hand() -> None:
    assert grid(10, 4, 4, 1) == [
        Tile(0, 0, 4, (0, 0, 3, 4), (False, True)),
        Tile(3, 0, 4, (3, 0, 6, 4), (False, True)),
        Tile(6, 0, 4, (6, 0, 10, 4), (True, True)),
    ]
    assert [(t.x_px, t.owns[0], t.owns[2]) for t in grid(1000, 512, 512, 64)] == [
        (0, 0, 480),
        (448, 480, 724),
        (488, 724, 1000),
    ]


def test_a_frame_smaller_than_a_tile_has_one_that_reaches_beyond() -> None:
    assert grid(100, 60, 512, 64) == [Tile(0, 0, 512, (0, 0, 100, 60), (True, True))]


@pytest.mark.parametrize(("tile", "overlap"), [(8, 0), (8, 1), (8, 3), (8, 7), (5, 2), (1, 0), (16, 4)])
def test_every_px_has_one_owner(tile: int, overlap: int) -> None:
    for width in (1, 2, tile - 1, tile, tile + 1, 2 * tile - overlap, 2 * tile, 2 * tile + 1, 41):
        for height in (1, tile, tile + 1, 29):
            if width < 1:
                continue
            owners = np.zeros((height, width), int)
            for t in grid(width, height, tile, overlap):
                x0, y0, x1, y1 = t.owns
                assert x0 < x1 and y0 < y1
                assert t.x_px <= x0 and t.y_px <= y0 and x1 <= t.x_px + tile and y1 <= t.y_px + tile
                assert width < tile or (0 <= t.x_px <= width - tile)
                owners[y0:y1, x0:x1] += 1
            assert (owners == 1).all(), (width, height)


@pytest.mark.parametrize("size", [(37, 90), (64, 64), (65, 63), (200, 131), (500, 77)])
def test_every_point_has_one_owner_borders_included(size: tuple[int, int]) -> None:
    width, height = size
    rng = np.random.default_rng(0)
    xy = rng.uniform(0, 1, (2000, 2)) * size
    xy = np.concatenate([xy, np.round(xy), [(0, 0), (width, height), (width, 0), (0, height), (width, height / 2)]])
    owned = np.array([t.owned(xy) for t in grid(width, height, 64, 16)])
    assert (owned.sum(axis=0) == 1).all()
    assert not any(
        t.owned(np.array([(-0.1, 3), (width + 0.1, 3), (3, height + 0.1)])).any() for t in grid(*size, 64, 16)
    )


def test_an_owned_point_lies_half_an_overlap_inside_but_for_the_border() -> None:
    for t in grid(1000, 700, 128, 32):
        x0, y0, x1, y1 = t.owns
        assert x0 - t.x_px >= 16 or x0 == 0
        assert y0 - t.y_px >= 16 or y0 == 0
        assert t.x_px + 128 - x1 >= 16 or x1 == 1000
        assert t.y_px + 128 - y1 >= 16 or y1 == 700


def test_row_by_row() -> None:
    corners = [(t.y_px, t.x_px) for t in grid(500, 400, 128, 32)]
    assert corners == sorted(corners) and len(set(corners)) == len(corners)


@pytest.mark.parametrize("arguments", [(0, 5, 4, 1), (5, -1, 4, 1), (5, 5, 4, 4), (5, 5, 4, -1), (5, 5, 0, 0)])
def test_impossible_grids(arguments: tuple[int, int, int, int]) -> None:
    with pytest.raises(UsageError, match="expected"):
        grid(*arguments)


@pytest.mark.parametrize(("width", "height"), [(511, 300), (301, 129), (64, 401), (400, 400)])
def test_tiles_on_a_grid_begin_and_are_cut_on_it(width: int, height: int) -> None:
    """Steps of 4 px: all but the far border at multiples of 4, each px owned once, no more than 3 px beyond."""
    tiles = grid(width, height, 130, 33, 4)
    owned = np.zeros((height, width), int)
    for tile in tiles:
        x0, y0, x1, y1 = tile.owns
        owned[y0:y1, x0:x1] += 1
        edges = [
            tile.x_px,
            tile.y_px,
            x0,
            y0,
            *(end for end, last in zip((x1, y1), tile.last, strict=True) if not last),
        ]
        assert not any(edge % 4 for edge in edges)
        assert tile.x_px <= x0 and tile.y_px <= y0 and x1 <= tile.x_px + 130 and y1 <= tile.y_px + 130
        assert tile.x_px + 130 < max(width, 130) + 4 and tile.y_px + 130 < max(height, 130) + 4
    assert (owned == 1).all()


def test_tiles_around_points_by_hand() -> None:
    """Sides of 64 px and a reach of 10 px: in the middle, at two borders, and one that begins at a multiple of 8."""
    xy = np.array([[100.5, 50.0], [3.0, 98.0]])
    assert around((200, 100), 64, 1, xy, 10.0) == [
        Tile(68, 18, 64, (90, 40, 111, 60), (False, False)),
        Tile(0, 36, 64, (0, 88, 13, 100), (False, True)),
    ]
    assert around((200, 100), 64, 8, xy[:1], 10.0) == [Tile(72, 16, 64, (90, 40, 111, 60), (False, False))]
    assert around((200, 100), 64, 1, np.empty((0, 2)), 10.0) == []
    with pytest.raises(UsageError, match="tiles of 20 px cannot own 10 px around a point"):
        around((200, 100), 20, 1, xy, 10.0)


@pytest.mark.parametrize("step_px", [1, 4])
def test_a_tile_around_a_point_holds_what_it_owns(step_px: int) -> None:
    rng = np.random.default_rng(step_px)
    size, reach = (1503, 1101), 43.5
    xy = np.concatenate([rng.uniform(0, size, (40, 2)), [[0, 0], [1503, 1101], [1503, 0]]])
    tiles = around(size, 160, step_px, xy, reach)
    for tile in tiles:
        x0, y0, x1, y1 = tile.owns
        assert tile.x_px % step_px == tile.y_px % step_px == 0
        assert tile.x_px <= x0 < x1 <= tile.x_px + 160 and tile.y_px <= y0 < y1 <= tile.y_px + 160
        for start, low, high, length in ((tile.x_px, x0, x1, size[0]), (tile.y_px, y0, y1, size[1])):
            context = min(low - start, start + 160 - high)
            assert context >= 32 - step_px or start == 0 or start + 160 >= length  # moved back from the border
    for x, y in xy:
        beside = np.array([[x + dx, y + dy] for dx in (-reach, 0, reach) for dy in (-reach, 0, reach)])
        beside = beside[((beside >= 0) & (beside <= size)).all(axis=1)]
        assert any(tile.owned(beside).all() for tile in tiles)


class _Left:
    """Tissue up to x = 900 level-0 px."""

    def touches(self, x0: float, y0: float, x1: float, y1: float) -> bool:
        return x0 < 900

    def holds(self, xy: np.ndarray) -> np.ndarray:
        return xy[:, 0] <= 900


def test_measured_blocks_by_hand() -> None:
    """At 2 level-0 px per px the tissue ends at 450, in the first block of each row; the last two share 512 to 1000."""
    assert [b.owns for b in measured_blocks((1000, 512), 1.0, None)] == [(0, 0, 500, 512), (500, 0, 1000, 512)]
    assert [b.owns for b in measured_blocks((1000, 512), 2.0, _Left())] == [(0, 0, 500, 512)]
    assert len(measured_blocks((1000, 512), 1.0, _Left())) == 2


def test_sampled_blocks_by_hand() -> None:
    """Ten blocks of 256 px side by side, of which the tissue holds four, 0 to 1024; of four the first, a middle one and
    the last are three."""
    size = (2560, 256)
    assert [b.owns[0] for b in sampled_blocks(size, _Left(), 64)] == [0, 256, 512, 768]
    assert [b.owns[0] for b in sampled_blocks(size, _Left(), 3)] == [0, 512, 768]
    assert [b.owns for b in sampled_blocks((300, 100), None, 64)] == [(0, 0, 150, 100), (150, 0, 300, 100)]
