"""The walk through a slide: each tile once, neighbours together, every px of the search once."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from mitosight.inference import Covering
from mitosight.inference.covering import CHUNK_TILES, fitted_px, walk
from mitosight.slide import Slide, write_tiff
from mitosight.tiles import grid
from test_methods import make


def test_a_walk_by_hand() -> None:
    """Five columns at 0, 192, 384, 576, 644 and three rows, in bands of 400 px: columns 0 to 2, then 3 and 4."""
    tiles = grid(900, 600, 256, 64)
    assert [t.x_px for t in tiles[:5]] == [0, 192, 384, 576, 644] and len(tiles) == 15
    runs = walk(tiles, 400)
    assert [[(t.x_px, t.y_px) for t in run] for run in runs] == [
        [(x, y) for x in columns] for columns in ((0, 192, 384), (576, 644)) for y in (0, 192, 344)
    ]


@pytest.mark.parametrize("band_px", [1, 300, 512, 10_000])
def test_each_tile_once_and_neighbours_only(band_px: int) -> None:
    tiles = grid(3000, 2100, 256, 64)
    rng = np.random.default_rng(0)
    kept = [tile for tile in tiles if rng.random() < 0.7]
    runs = walk(kept, band_px)
    assert sorted((t.y_px, t.x_px) for run in runs for t in run) == [(t.y_px, t.x_px) for t in kept]
    for run in runs:
        assert len({t.y_px for t in run}) == 1 and len({t.x_px // band_px for t in run}) == 1
        for left, right in pairwise(run):
            assert left.owns[2] == right.owns[0]
    joined = {(run[-1].owns[2], run[-1].y_px) for run in runs} & {(run[0].owns[0], run[0].y_px) for run in runs}
    for x, y in joined:  # where one run ends and another begins, a band does too
        assert any(t.owns[0] == x and t.y_px == y and t.x_px // band_px != b.x_px // band_px
                   for t in kept for b in kept if b.y_px == y and b.owns[2] == x)  # fmt: skip


def test_chunks_hold_all_runs_in_order(tmp_path: Path) -> None:
    write_tiff(tmp_path / "a.tiff", np.zeros((8, 8, 3), np.uint8), 0.25)
    runs = walk(grid(40_000, 30_000, 1024, 64), 8192)
    covering = Covering(Slide(tmp_path / "a.tiff"), runs, 1.0, 0.25)
    sizes = [sum(map(len, chunk)) for chunk in covering.chunks]
    assert [run for chunk in covering.chunks for run in chunk] == runs
    assert sum(sizes) == len(covering.tiles) == len(grid(40_000, 30_000, 1024, 64))
    assert min(sizes[:-1]) >= CHUNK_TILES and max(sizes) < CHUNK_TILES + max(map(len, runs))


@pytest.mark.parametrize("mpp", [0.25, 0.5])
def test_a_run_holds_the_px_of_its_tiles(tmp_path: Path, mpp: float) -> None:
    """Read together or alone, and the parts that are owned are the whole image."""
    image = np.random.default_rng(1).integers(0, 255, (600, 900, 3), dtype=np.uint8)
    write_tiff(tmp_path / "a.tiff", image, 0.25, compression="lzw", tile_px=128)
    with Slide(tmp_path / "a.tiff") as slide:
        scale = mpp / 0.25
        tiles = grid(int(900 / scale), int(600 / scale), 256, 64)
        covering = Covering(slide, walk(tiles, 400), scale, mpp)
        for run in covering.runs:
            together = covering.read_run(run)
            for tile in run:
                left = tile.x_px - run[0].x_px
                assert np.array_equal(together[:, left : left + 256], covering.read(tile))
        whole = slide.read((0, 0), (int(900 / scale), int(600 / scale)), mpp)
        assert sum(int(part.sum(dtype=np.int64)) for part in covering) == whole.sum(dtype=np.int64)
        assert sum(part.size for part in covering) == whole.size


def test_tiles_are_fitted_to_the_image() -> None:
    """7215 x 5412 px: 8 x 6 tiles of 1024 px, and as many of 960 (8 * 896 + 64 = 7232, 6 * 896 + 64 = 5440)."""
    detector = make("retinanet")
    detector.tile_px = 1024
    assert fitted_px((7215, 5412), detector) == 960
    assert fitted_px((1024, 1024), detector) == 1024
    assert fitted_px((1984, 1024), detector) == 1024  # two that fit
    assert fitted_px((900, 2000), detector) == 896 and fitted_px((2000, 300), detector) == 288  # as large as they allow
    assert fitted_px((100, 2000), detector) == 128  # which is told to be too much
    detector.grid_px = 48
    assert fitted_px((7215, 5412), detector) == 960  # of 96, 32 and 48 divide it
