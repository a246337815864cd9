"""Tiled detection with a detector that finds dark blobs exactly, wherever a tile is cut."""

from collections.abc import Iterable
from copy import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor, nn

from mitosight import inference
from mitosight.detections import Detections
from mitosight.errors import InputError
from mitosight.methods.detector import Detector
from mitosight.slide import Slide, write_tiff
from mitosight.tiles import grid

RADIUS_PX = 9


class Blobs(Detector):
    """Each dark blob's middle, scored by its darkness; sees a blob that a tile's border cuts where its rest is."""

    def __init__(self, tile_px: int = 256, tolerance: float = 0.1) -> None:
        super().__init__(scanners=(), mpp=0.25, mpp_tolerance=tolerance, tile_px=tile_px, augmentation=None)
        self.weight = nn.Parameter(torch.zeros(1))
        self.tiles = 0

    def detect(self, images: Tensor) -> list[Detections]:
        assert not self.training
        self.tiles += len(images)
        return [self._one(image.mean(dim=0).numpy()) for image in images]

    def _one(self, grey: NDArray[np.float32]) -> Detections:
        labels, count = ndimage.label(grey < 0.6)
        index = np.arange(1, count + 1)
        middle = np.array(ndimage.center_of_mass(np.ones_like(grey), labels, index)).reshape(-1, 2)
        score = 1 - np.asarray(ndimage.mean(grey, labels, index)).reshape(-1)
        return Detections(middle[:, ::-1] + 0.5, score, self.mpp).ranked()


def draw(
    width: int, height: int, figures: int, seed: int = 0, scale: float = 1.0
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """A pale image with blobs at least three radii apart, each of another darkness; their centres (n, 2)."""
    rng = np.random.default_rng(seed)
    radius = RADIUS_PX * scale
    centres: list[NDArray[np.float64]] = []
    while len(centres) < figures:
        centre = rng.uniform((radius, radius), (width - radius, height - radius))
        if all(np.linalg.norm(centre - other) > 4 * radius for other in centres):
            centres.append(centre)
    image = np.full((height, width, 3), 230, np.uint8)
    ys, xs = np.mgrid[:height, :width] + 0.5
    for k, (x, y) in enumerate(centres):
        image[(xs - x) ** 2 + (ys - y) ** 2 < radius**2] = 20 + k
    return image, np.array(centres)


def slide_of(folder: Path, image: NDArray[np.uint8], mpp: float = 0.25) -> Slide:
    path = folder / "slide.tiff"
    write_tiff(path, image, mpp, compression="lzw", tile_px=256)
    return Slide(path)


def test_tiles_give_what_the_whole_image_gives(tmp_path: Path) -> None:
    """Blobs on every seam: each point once, at the same place and score."""
    image, centres = draw(900, 700, 60)
    detector = Blobs().eval()
    with slide_of(tmp_path, image) as slide:
        found = inference.detect(slide, detector)
    assert detector.tiles == len(grid(900, 700, 224, detector.overlap_px)) == 24  # 1.2 Mpx; 20 of 256 px are 1.3
    whole = detector.detect(torch.from_numpy(image).permute(2, 0, 1)[None] / 255)[0]
    assert len(found) == len(whole) == len(centres)
    assert np.allclose(found.xy, whole.xy, atol=0.01) and np.allclose(found.score, whole.score, atol=1e-6)
    assert found.mpp == pytest.approx(0.25, rel=1e-3)


def test_neither_tile_size_nor_batch_matters(tmp_path: Path) -> None:
    image, _ = draw(600, 500, 25)
    with slide_of(tmp_path, image) as slide:
        found = [
            inference.detect(slide, Blobs(), tile_px=side, batch=n) for side, n in ((128, 1), (256, 3), (500, 100))
        ]
    for other in found[1:]:
        assert np.allclose(found[0].xy, other.xy, atol=0.01) and np.allclose(found[0].score, other.score)


class Twice(Blobs):
    """Reports each blob a few px off, by an amount that differs from tile to tile."""

    def _one(self, grey: NDArray[np.float32]) -> Detections:
        found = super()._one(grey)
        rng = np.random.default_rng(int(found.xy.sum() * 100))
        return Detections(found.xy + rng.uniform(-6, 6, found.xy.shape), found.score, self.mpp)


def test_suppression_reaches_across_tile_borders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the tiles on both sides of a seam place a figure on their own side, both keep it; one point remains."""
    assert 224 in {tile.owns[0] for tile in grid(900, 700, 256, Blobs.overlap_px)}
    centres = np.array([(224.0, 40.0 * k) for k in range(1, 17)])
    image = np.full((700, 900, 3), 230, np.uint8)
    ys, xs = np.mgrid[:700, :900] + 0.5
    for x, y in centres:
        image[(xs - x) ** 2 + (ys - y) ** 2 < RADIUS_PX**2] = 30
    with slide_of(tmp_path, image) as slide:
        found = inference.detect(slide, Twice(), tile_px=256)
        monkeypatch.setattr(Twice, "suppression_um", 0.0)
        every = inference.detect(slide, Twice(), tile_px=256)

    def points_of(points: Detections) -> NDArray[np.int64]:
        nearest = np.linalg.norm(points.xy[:, None] - centres, axis=2)
        assert (nearest.min(axis=1) < 9).all()
        return np.bincount(nearest.argmin(axis=1), minlength=len(centres))

    assert points_of(every).max() == 2
    assert points_of(found).tolist() == np.minimum(points_of(every), 1).tolist()


@pytest.mark.parametrize("mpp", [0.5, 0.125, 0.4])
def test_points_come_back_in_level_0_px(tmp_path: Path, mpp: float) -> None:
    """A slide of another resolution is read at the detector's; its points are its own px."""
    image, centres = draw(600, 500, 12, scale=0.25 / mpp)
    with slide_of(tmp_path, image, mpp) as slide:
        found = inference.detect(slide, Blobs(tile_px=160))
    assert len(found) == 12
    distance = np.linalg.norm(found.xy[:, None] - centres, axis=2).min(axis=1)
    assert distance.max() < 0.5
    assert found.mpp == pytest.approx(mpp, rel=1e-3)


def test_a_near_resolution_is_read_as_it_is(tmp_path: Path) -> None:
    image, _ = draw(300, 300, 5)
    with slide_of(tmp_path, image, 0.23) as slide:
        near = inference.detect(slide, Blobs())
        resampled = inference.detect(slide, Blobs(tolerance=0.0))
    whole = Blobs().eval().detect(torch.from_numpy(image).permute(2, 0, 1)[None] / 255)[0]
    assert np.allclose(near.xy, whole.xy, atol=0.01)
    assert not np.allclose(near.score, resampled.score, atol=1e-6)
    assert near.mpp == pytest.approx(0.23, rel=1e-3)


def test_an_image_smaller_than_a_tile(tmp_path: Path) -> None:
    image, _ = draw(300, 200, 3)
    with slide_of(tmp_path, image) as slide:
        with pytest.raises(
            InputError, match=r"300 x 200 px is smaller than a tile of 256 px; pass a smaller --tile-px"
        ):
            inference.detect(slide, Blobs(), tile_px=256)
        assert len(inference.detect(slide, Blobs(), tile_px=200)) == len(inference.detect(slide, Blobs())) == 3
    with (
        slide_of(tmp_path, image, 0.125) as slide,
        pytest.raises(InputError, match=r"150 x 100 px at 0.25 µm/px is smaller than a tile of 128 px; give"),
    ):
        inference.detect(slide, Blobs())


def test_an_empty_slide_and_progress(tmp_path: Path) -> None:
    seen: list[tuple[int, int, float]] = []
    with slide_of(tmp_path, np.full((300, 500, 3), 230, np.uint8)) as slide:
        found = inference.detect(slide, Blobs(), tile_px=256, batch=4, progress=lambda *told: seen.append(told))
    assert len(found) == 0 and found.mpp == pytest.approx(0.25, rel=1e-3)
    assert [done for done, _, _ in seen] == [4, 6] and {total for _, total, _ in seen} == {6}  # two rows of three
    first = 500 * 150 + 224 * 150  # px of the first row, and of the first tile of the second: 0 to (256 + 192) / 2
    assert [mm2 / 0.25e-3**2 for _, _, mm2 in seen] == pytest.approx([first, 500 * 300 - first], rel=1e-2)


def test_a_detector_in_training_goes_back_to_it(tmp_path: Path) -> None:
    detector = Blobs().train()
    with slide_of(tmp_path, draw(300, 300, 2)[0]) as slide:
        inference.detect(slide, detector)
    assert detector.training


class Brightest(Blobs):
    """Knows the statistics of the slide that it searches: number of px, and their sum."""

    seen: tuple[int, int] | None = None

    def for_slide(self, tiles: Iterable[NDArray[np.uint8]]) -> "Brightest":
        told = [[(t.size, int(t.sum(dtype=np.int64))) for t in tiles] for _ in range(2)]
        assert told[0] == told[1]  # it can be gone through again
        one = copy(self)
        one.seen = tuple(np.sum(told[0], axis=0).tolist())
        return one

    def detect(self, images: Tensor) -> list[Detections]:
        assert self.seen is not None
        return [Detections(np.array([[5.0, 5.0]]), np.array([self.seen[1] / self.seen[0] / 255])) for _ in images]


@pytest.mark.parametrize("mpp", [0.25, 0.5])
def test_the_statistics_of_a_slide_hold_each_px_once(tmp_path: Path, mpp: float) -> None:
    image, _ = draw(900, 700, 10)
    detector = Brightest().eval()
    with slide_of(tmp_path, image, mpp) as slide:
        found = inference.detect(slide, detector)
    assert detector.seen is None
    if mpp == 0.25:
        assert found.score[0] == pytest.approx(image.mean() / 255, rel=1e-12)
    assert found.score[0] == pytest.approx(image.mean() / 255, rel=1e-3)
