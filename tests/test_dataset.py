"""Tiles of training. Images code their own coordinates, so that a tile tells where it was taken."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mitosight import regions
from mitosight.augment import Augmentation
from mitosight.batch import Batch
from mitosight.dataset import OpenSlides, TileSource, working_mpp
from mitosight.engine import _feed
from mitosight.errors import InputError
from mitosight.regions import Domain, Region
from mitosight.slide import write_tiff

BLOB = np.array([70, 40, 110]) / 255  # the colour of drawn figures
SIDE, TILE = 1024, 128


@pytest.fixture(scope="module")
def coded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an image of 1024 px that codes x and y in its colours."""
    folder = tmp_path_factory.mktemp("coded")
    y, x = np.mgrid[:SIDE, :SIDE]
    image = np.stack([x // 4, y // 4, x % 4 * 16 + y % 4], axis=-1).astype(np.uint8)
    write_tiff(folder / "coded.tiff", image, 0.25, compression="lzw")
    return folder


def region(name: str, scanner: str = "one", xy: object = ((512.0, 512.0),), mpp: float | None = 0.25) -> Region:
    points = np.array(xy, dtype=np.float64).reshape(-1, 2)
    return Region(name, xy=points, label=np.ones(len(points), dtype=np.int64), domain=Domain(scanner), mpp=mpp)


def first(source: TileSource) -> Region:
    """A region of the first scanner."""
    return next(r for r in source.regions if r.domain.scanner == source.scanners[0])


def corners(source: TileSource, count: int = 400) -> NDArray[np.float64]:
    """Upper left corners (count, 2) of drawn tiles, in px of the image, as their pixels tell."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(count):
        r, g, b = (source.tile(first(source), rng)[0][:, 0, 0] * 255).round().int().tolist()
        found.append((r * 4 + b // 16, g * 4 + b % 16))
    return np.array(found, dtype=np.float64)


def same(a: Batch, b: Batch) -> bool:
    return (
        torch.equal(a.images, b.images)
        and all(torch.equal(p, q) for p, q in zip(a.figures, b.figures, strict=True))
        and all(torch.equal(p, q) for p, q in zip(a.hard_negatives, b.hard_negatives, strict=True))
        and torch.equal(a.domain, b.domain)
        and torch.equal(a.labelled, b.labelled)
    )


def source_of(drawn: Path, **settings: object) -> TileSource:
    data = regions.load(drawn)
    given = {"tile_px": 128, "tiles_per_scanner": 3, "length": 4, **settings}
    return TileSource(data.images, data.part("train"), ("pink", "grey"), ("pink", "grey"), **given)  # type: ignore[arg-type]


def test_as_many_tiles_of_each_scanner_in_turn(drawn: Path) -> None:
    batch = source_of(drawn)[0]
    assert batch.domain.tolist() == [0, 1, 0, 1, 0, 1]
    assert batch.images.shape == (6, 3, 128, 128) and batch.images.dtype == torch.float32
    assert batch.labelled.all() and len(batch) == 6
    means = batch.images.mean(dim=(2, 3))[:, 1]  # green: pink is drawn with 190, grey with 200
    assert means[::2].max() < means[1::2].min()


def test_a_batch_depends_on_seed_and_number_alone(drawn: Path) -> None:
    augment = Augmentation()
    first, again = source_of(drawn, augment=augment), source_of(drawn, augment=augment)
    later = first[2]
    assert same(again[2], later) and same(first[0], again[0])
    assert not same(first[0], later)
    assert not same(source_of(drawn, augment=augment, seed=1)[2], later)


def test_half_of_the_tiles_are_near_figures(coded: Path) -> None:
    source = TileSource(coded, [region("coded.tiff")], ["one"], ["one"], tile_px=TILE)
    at = corners(source)
    near = ((at <= 487) & (at > 487 - TILE - 1)).all(axis=1)  # the box's corner, 512 - 25, is in the tile
    assert 0.43 < near.mean() < 0.60  # 0.5, and of the others (128 / 897)^2 by chance
    others = at[~near]
    assert others.min() < 50 and others.max() > SIDE - TILE - 50 and others.max() <= SIDE - TILE


def test_near_corner_spreads_the_box_corner_over_the_tile(coded: Path) -> None:
    source = TileSource(coded, [region("coded.tiff")], ["one"], ["one"], tile_px=TILE, near_figure=1.0)
    offset = 487 - corners(source)  # of the box's corner in the tile
    assert offset.min() >= 0 and offset.max() <= TILE
    assert offset.mean(axis=0) == pytest.approx([TILE / 2] * 2, abs=8)  # uniform: standard error 1.9


def test_near_radius_spreads_the_tile_centre_over_a_disc(coded: Path) -> None:
    source = TileSource(coded, [region("coded.tiff")], ["one"], ["one"], tile_px=TILE, near_figure=1.0, near="radius")
    distance = np.linalg.norm(corners(source) + TILE / 2 - 512, axis=1)
    assert distance.max() <= TILE + 1.5
    assert (distance**2).mean() == pytest.approx(TILE**2 / 2, rel=0.1)  # uniform over the disc


def test_near_inside_puts_the_figure_anywhere_in_the_tile(coded: Path) -> None:
    source = TileSource(coded, [region("coded.tiff")], ["one"], ["one"], tile_px=TILE, near_figure=1.0, near="inside")
    offset = 512 - corners(source)
    assert (
        offset.min() >= 0 and offset.max() <= TILE + 1 and offset.mean(axis=0) == pytest.approx([TILE / 2] * 2, abs=8)
    )


def test_background_tiles_may_have_to_be_empty(coded: Path) -> None:
    several = region("coded.tiff", xy=tuple((x, y) for x in (200.0, 512.0, 800.0) for y in (200.0, 512.0, 800.0)))
    for background, least, most in (("any", 0.05, 0.35), ("empty", 0.0, 0.0)):
        source = TileSource(
            coded,
            [several],
            ["one"],
            ["one"],
            tile_px=TILE,
            near_figure=0.0,
            background=background,  # type: ignore[arg-type]
        )
        holds = [((several.xy > c) & (several.xy < c + TILE)).all(axis=1).any() for c in corners(source)]
        assert least <= np.mean(holds) <= most, background


def test_a_tile_carries_its_domain_and_tumours_may_be_unlabelled(coded: Path) -> None:
    lung, skin = (replace(region("coded.tiff"), domain=Domain("one", tumor)) for tumor in ("lung", "skin"))
    source = TileSource(coded, [lung, skin], ["one"], ["one"], tile_px=TILE, unlabelled_tumors=["skin"], length=9)
    for i in range(9):
        batch = source[i]
        assert batch.labelled.tolist() == [tumor == "lung" for tumor in batch.columns["tumor_type"]]
        assert batch.columns["scanner"] == ["one"] * 3 and batch.columns["species"] == ["unknown"] * 3
        known = batch.only(batch.labelled)
        assert known.columns["tumor_type"] == ["lung"] * len(known) == ["lung"] * int(batch.labelled.sum())


def test_near_the_border_tiles_stay_inside(coded: Path) -> None:
    corner = region("coded.tiff", xy=((3.0, 1020.0),))
    at = corners(TileSource(coded, [corner], ["one"], ["one"], tile_px=TILE, near_figure=1.0), 50)
    assert at.min() >= 0 and at.max() <= SIDE - TILE
    assert (at[:, 0] == 0).all()


def test_unlabelled_scanners_are_drawn_anywhere(coded: Path) -> None:
    both = [region("coded.tiff", "one"), region("coded.tiff", "two")]
    source = TileSource(coded, both, ["two", "one"], ["one"], tile_px=TILE, near_figure=1.0)
    assert source[0].labelled.tolist() == [False, True] * 3
    at = corners(source)  # of scanner 0, "two"
    assert at.std(axis=0) == pytest.approx([(SIDE - TILE) / np.sqrt(12)] * 2, rel=0.1)


@pytest.mark.parametrize("augment", [None, Augmentation(brightness=0.0, contrast=1.0)])
def test_figures_lie_on_their_blobs(drawn: Path, augment: Augmentation | None) -> None:
    source = source_of(drawn, augment=augment)
    seen = 0
    for i in range(4):
        batch = source[i]
        for image, figures in zip(batch.images, batch.figures, strict=True):
            assert ((figures[:, :2] >= 0) & (figures[:, :2] < 128)).all()
            for x, y, side in figures.tolist():
                assert image[:, int(y), int(x)].tolist() == pytest.approx(BLOB, abs=0.02)
                assert side == 50 if augment is None else 40 < side < 130
                seen += 1
    assert seen > 20


@pytest.mark.parametrize(("mpp", "radius"), [(0.25, 9.0), (0.26, 9.0), (0.5, 18.0), (0.125, 4.5)])
def test_positions_and_sizes_at_the_working_mpp(drawn: Path, mpp: float, radius: float) -> None:
    """A table that says 0.5 µm/px makes the same image twice as large at 0.25; 0.26 is near enough to stay."""
    data = regions.load(drawn)
    told = [Region(r.file_name, xy=r.xy, label=r.label, domain=r.domain, mpp=mpp) for r in data.part("train")]
    source = TileSource(data.images, told, ["grey"], ["grey"], tile_px=112, near_figure=1.0)
    rng = np.random.default_rng(1)
    checked = 0
    for _ in range(30):
        image, figures, _ = source.tile(first(source), rng)
        ys, xs = np.mgrid[:112, :112] + 0.5
        dark = (image[1] < 0.45).numpy()  # half way between blob and background
        for x, y, side in figures.tolist():
            assert side == 50
            if not 22 < min(x, y) <= max(x, y) < 90:
                continue
            around = (xs - x) ** 2 + (ys - y) ** 2 < (radius * 1.5 + 1) ** 2
            blob = dark & around
            assert (xs[blob].mean(), ys[blob].mean()) == pytest.approx((x, y), abs=0.6)
            assert blob.sum() == pytest.approx(np.pi * radius**2, rel=0.12)
            checked += 1
    assert checked > 5


def test_hard_negatives_are_kept_apart(coded: Path) -> None:
    both = Region(
        "coded.tiff", xy=np.array([[512.0, 512], [530, 512]]), label=np.array([1, 2]), domain=Domain("one"), mpp=0.25
    )
    source = TileSource(coded, [both], ["one"], ["one"], tile_px=256, near_figure=1.0)
    tiles = [source.tile(first(source), np.random.default_rng(i)) for i in range(10)]
    pairs = [(f[0], h[0]) for _, f, h in tiles if len(f) and len(h)]
    assert len(pairs) > 3
    for figure, hard in pairs:
        assert (hard - figure).tolist() == [18, 0, 0]


def test_workers_give_the_same_batches_and_whole_errors(drawn: Path) -> None:
    data = regions.load(drawn)
    there = next(r for r in data.part("train") if r.domain.scanner == "grey")
    gone = replace(there, file_name="gone.tiff")
    source = TileSource(data.images, [there, gone], ["grey"], ["grey"], 96, tiles_per_scanner=1, seed=6)
    source.augment = Augmentation()

    def follow(workers: int) -> Iterator[tuple[int, Batch]]:
        return _feed(source, range(10), workers, torch.device("cpu"))

    expected, told = [], []
    for found, workers in ((expected, 0), (told, 1)):
        with pytest.raises(InputError, match=r"gone.tiff: is not there; accepted are SVS"):
            found.extend(follow(workers))  # type: ignore[attr-defined]
    assert len(expected) == len(told) == 2  # batch 2 draws the region that is gone
    for (i, a), (j, b) in zip(expected, told, strict=True):
        assert i == j and same(a, b)


def test_nothing_to_learn_from_is_said(coded: Path) -> None:
    with pytest.raises(InputError, match="no mitotic figure in the training regions of one"):
        TileSource(coded, [region("coded.tiff", xy=())], ["one"], ["one"])
    with pytest.raises(InputError, match="no training region of scanner 'two'"):
        TileSource(coded, [region("coded.tiff")], ["one", "two"], ["one"])


def test_a_region_smaller_than_a_tile_is_named(coded: Path) -> None:
    small = region("coded.tiff", mpp=0.1)  # 512 px at 0.25 are 1280 of its px
    source = TileSource(coded, [small], ["one"], ["one"], tile_px=512)
    with pytest.raises(InputError, match=r"coded.tiff: 1024 x 1024 px is smaller than a tile of 1280 px"):
        source[0]
    known = Region("coded.tiff", SIDE, SIDE, small.xy, small.label, domain=small.domain, mpp=0.1)
    with pytest.raises(InputError, match=r"coded.tiff: 1024 x 1024 px is smaller than a tile of 1280 px"):
        TileSource(coded, [known], ["one"], ["one"], tile_px=512)


def test_working_mpp_keeps_what_is_near() -> None:
    assert working_mpp(0.23, 0.25, 0.1) == 0.23
    assert working_mpp(0.27, 0.25, 0.1) == 0.27
    assert working_mpp(0.28, 0.25, 0.1) == 0.25
    assert working_mpp(0.23, 0.25, 0.0) == 0.25


def test_only_so_many_slides_stay_open(drawn: Path) -> None:
    slides = OpenSlides(2)
    paths = sorted((drawn / "images").iterdir())[:3]
    first, second = slides.get(paths[0], None), slides.get(paths[1], None)
    assert slides.get(paths[0], None) is first  # and is now the one used last
    slides.get(paths[2], None)
    assert slides.get(paths[0], None) is first
    assert slides.get(paths[1], None) is not second
