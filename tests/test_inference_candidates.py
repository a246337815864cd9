"""Candidates found while a slide is searched are those that `mitosight candidates` finds, however it is cut."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mitosight import inference
from mitosight.candidates.slides import search
from mitosight.detections import Detections
from mitosight.methods.parts.candidates import CandidateDetector
from mitosight.phantom import SCANNERS, draw_tissue, scan
from mitosight.slide import Slide, write_tiff
from mitosight.tiles import measured_blocks
from mitosight.tissue import find_tissue


class All(CandidateDetector):
    """Calls every candidate a figure, where it is."""

    finds_place = False

    def __init__(self, **settings: object) -> None:
        super().__init__(**settings)  # type: ignore[arg-type]
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def network(self, images: Tensor) -> tuple[Tensor, ...]:
        return (images.mean(dim=(1, 2, 3)),)

    def decode(self, maps: tuple[Tensor, ...], size_px: tuple[int, int]) -> list[Detections]:
        middle = np.array([[size_px[1] / 2, size_px[0] / 2]])
        return [Detections(middle, np.ones(1), self.mpp) for _ in maps[0]]


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn region of odd width and height."""
    path = tmp_path_factory.mktemp("slide") / "a.tiff"
    scanner = next(iter(SCANNERS.values()))
    image = scan(draw_tissue(3, (180.0, 150.0)), scanner, 0)[0][:523, :701]
    assert image.shape == (523, 701, 3)
    write_tiff(path, image, 0.25, compression="lzw")
    return path


@pytest.mark.parametrize("tile_px", [257, 300, 512])
@pytest.mark.parametrize("finder", ["haematoxylin", "blue-ratio"])
def test_the_same_candidates(slide: Path, finder: str, tile_px: int) -> None:
    detector = All(finder=finder, suppression_um=0.0).eval()
    with Slide(slide, mpp=0.25) as opened:
        expected, statistics = search(opened, detector.finder)
        covering = inference.cover(opened, detector, tile_px)
        mine = detector.for_slide(covering)
        found = inference.detect(opened, detector, tile_px=tile_px)
    assert mine.statistics == statistics
    assert len(expected) > 30

    def inside(xy: np.ndarray) -> set[tuple[float, float]]:
        """Away from the far border, where tiles that begin at even px see a white px beyond it."""
        kept = xy[(xy < [701 - 40, 523 - 40]).all(axis=1)]
        return {(round(x, 2), round(y, 2)) for x, y in kept.tolist()}

    assert inside(found.xy) == inside(expected.xy) and len(inside(found.xy)) > 20


@pytest.mark.parametrize("finder", ["haematoxylin", "blue-ratio"])
def test_the_tissue_decides_and_not_the_tiles(finder: str, tmp_path: Path) -> None:
    """Glass beside tissue counts as far as it lies in a block of 512 px with tissue, whatever the tiles."""
    image = np.full((1100, 2300, 3), 245, np.uint8)
    scanner = next(iter(SCANNERS.values()))
    drawn = scan(draw_tissue(3, (180.0, 150.0)), scanner, 0)[0]
    image[: drawn.shape[0], : drawn.shape[1]] = drawn
    write_tiff(tmp_path / "a.tiff", image, 0.25, compression="lzw")
    detector = All(finder=finder, suppression_um=0.0).eval()
    with Slide(tmp_path / "a.tiff") as slide:
        where = find_tissue(slide)
        blocks = measured_blocks((2300, 1100), 1.0, where, detector.grid_px)
        share = sum((b.owns[2] - b.owns[0]) * (b.owns[3] - b.owns[1]) for b in blocks) / (2300 * 1100)
        assert drawn.size / image.size < share < 0.6
        expected, statistics = search(slide, detector.finder, tissue=where, tile_px=700)
        everywhere = search(slide, detector.finder)[1]
        for tile_px in (256, 600, 1024):
            covering = inference.cover(slide, detector, tile_px, where)
            assert detector.for_slide(covering.measured()).statistics == statistics
            found = inference.detect(slide, detector, tile_px=tile_px, tissue=where)
            assert {(round(x, 2), round(y, 2)) for x, y in found.xy.tolist()} == {
                (round(x, 2), round(y, 2)) for x, y in expected.xy.tolist()
            }
        near = inference.cover_near(slide, detector, np.array([[300.0, 300.0]]), where)
        assert len(near.tiles) == 1 and detector.for_slide(near.measured()).statistics == statistics
    assert len(expected) > 30 and statistics.pixels < everywhere.pixels
    assert finder == "haematoxylin" or statistics.threshold > everywhere.threshold  # glass lowers the mean of the ratio


@pytest.mark.parametrize(("within_um", "points"), [(6.25, 3), (9.0, 2), (10.0, 2)])
def test_the_pieces_of_one_figure_are_merged(tmp_path: Path, within_um: float, points: int) -> None:
    """Dots in a row, 36 px (9 µm) and 64 px (16 µm) apart: from 9 µm on the first two are one figure."""
    image = np.full((400, 600, 3), (235, 190, 215), np.uint8)
    ys, xs = np.mgrid[:400, :600] + 0.5
    for x in (200, 236, 300):
        image[(xs - x) ** 2 + (ys - 200) ** 2 < 36] = (60, 30, 100)
    write_tiff(tmp_path / "a.tiff", image, 0.25, compression="lzw")
    assert All().suppression_um == 10.0
    with Slide(tmp_path / "a.tiff") as slide:
        assert len(inference.detect(slide, All(tile_px=256, suppression_um=within_um).eval())) == points


def test_a_slide_of_glass_has_no_candidate(tmp_path: Path) -> None:
    write_tiff(tmp_path / "a.tiff", np.full((600, 700, 3), 245, np.uint8), 0.25, compression="lzw")
    with Slide(tmp_path / "a.tiff") as slide:
        found, statistics = search(slide, All().finder, tissue=find_tissue(slide))
    assert len(found) == 0 and statistics.pixels == 0 and statistics.threshold == float("inf")
