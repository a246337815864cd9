"""From annotated regions to batches of tiles: the same number from each scanner, part of them around figures."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from mitosight import colours
from mitosight.augment import Augment
from mitosight.batch import Batch
from mitosight.errors import InputError
from mitosight.regions import HARD_NEGATIVE, MITOTIC_FIGURE, Region
from mitosight.slide import Slide
from mitosight.tiles import sampled_blocks
from mitosight.tissue import find_tissue

COLUMNS = ("scanner", "tumor_type", "species")
Near = Literal["corner", "radius", "inside"]
Background = Literal["any", "empty"]
TRIES = 20  # of a place without figures
BOX_UM = 12.5  # side of the boxes of MIDOG


def working_mpp(slide_mpp: float, mpp: float, tolerance: float) -> float:
    """The µm per px at which a detector of `mpp` reads a slide: the slide's own where it is near enough.

    MIDOG's scanners span 0.23 to 0.26 µm/px and every published method reads them as they are; a slide within
    `tolerance` (a share of `mpp`) is therefore not resampled.
    """
    return slide_mpp if abs(slide_mpp - mpp) <= tolerance * mpp else mpp


def tile_side_px(path: Path, size_px: tuple[int, int], slide_mpp: float, tile_px: int, read_mpp: float) -> float:
    """Side, in level-0 px of an image of `size_px`, of a tile of `tile_px` px that is read at `read_mpp`.

    Raises:
        InputError: the image is smaller.
    """
    side_px = tile_px * read_mpp / slide_mpp
    if min(size_px) < side_px:
        raise InputError(
            path,
            f"{size_px[0]} x {size_px[1]} px is smaller than a tile of {side_px:.0f} px",
            "leave it out of the split or set a smaller training.crop_px and detector.tile_px",
        )
    return side_px


def check_sizes(images: Path, regions: Sequence[Region], tile_px: int, mpp: float, tolerance: float) -> None:
    """Raises InputError where a region, as far as its size and mpp are known, is smaller than a tile."""
    for region in regions:
        if region.width_px and region.mpp is not None:
            size_px, read_mpp = (region.width_px, region.height_px), working_mpp(region.mpp, mpp, tolerance)
            tile_side_px(images / region.file_name, size_px, region.mpp, tile_px, read_mpp)


def standard_table(slide: Slide) -> colours.Table:
    """What makes the colours of a slide's tissue those of a standard slide."""
    blocks = sampled_blocks((slide.width_px, slide.height_px), find_tissue(slide), colours.BLOCKS)
    boxes = (block.owns for block in blocks)
    return colours.table(slide.read((x0, y0), (x1 - x0, y1 - y0)) for x0, y0, x1, y1 in boxes)


class OpenSlides:
    """Keeps the `most` recently used slides open; closes the others."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._open: OrderedDict[Path, Slide] = OrderedDict()

    def get(self, path: Path, table_mpp: float | None) -> Slide:
        """The slide at `path`, opened when it is not open yet."""
        if path not in self._open:
            self._open[path] = Slide(path, table_mpp=table_mpp)
            if len(self._open) > self.most:
                self._open.popitem(last=False)[1].close()
        self._open.move_to_end(path)
        return self._open[path]


@dataclass
class TileSource(Dataset[Batch]):
    """Draws batches of tiles; batch `i` depends on the seed and on `i` alone, so that training resumes exactly.

    Tiles of a batch go round the scanners in fixed order, `tiles_per_scanner` each; a region is drawn uniformly from
    the scanner's, then with probability `near_figure` a place near one of its figures, else any place.

    Attributes:
        images: folder of the image files.
        regions: the training regions.
        scanners: scanners in the order of their index.
        labelled: those of them whose annotations count.
        unlabelled_tumors: tumour types whose annotations do not count, whatever the scanner.
        tile_px: side of a tile at the working mpp.
        near: "corner" (default) puts the tile so that the upper left corner of the figure's box lies in it (reference
            code of Wilm 2021): nine in ten such tiles hold the figure's centre; "radius" draws the tile's centre
            within `tile_px` of the figure (its paper): one in three does; "inside" puts the centre of the figure
            anywhere in the tile.
        background: the other tiles lie at "any" place, or, as far as twenty tries find one, where no figure's centre
            is ("empty": the background patches of Chung 2021).
        standardised: whether each region is seen in the colours of a standard slide (`mitosight.colours`).
        length: number of batches.
    """

    images: Path
    regions: Sequence[Region]
    scanners: Sequence[str]
    labelled: Sequence[str]
    tile_px: int = 512
    mpp: float = 0.25
    mpp_tolerance: float = 0.1
    tiles_per_scanner: int = 3
    near_figure: float = 0.5
    near: Near = "corner"
    background: Background = "any"
    unlabelled_tumors: Sequence[str] = ()
    seed: int = 0
    augment: Augment | None = None
    standardised: bool = False
    length: int = 1
    open_slides: int = 128
    _slides: OpenSlides | None = field(default=None, repr=False)
    _tables: dict[Path, colours.Table] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        by_scanner = {s: [r for r in self.regions if r.domain.scanner == s] for s in self.scanners}
        for scanner, regions in by_scanner.items():
            if not regions:
                raise InputError(None, f"no training region of scanner {scanner!r}", "check domains.csv and split.json")
        if not any(len(r.figures) for of in by_scanner.values() for r in of if self.is_labelled(r)):
            raise InputError(
                None,
                f"no mitotic figure in the training regions of {', '.join(self.labelled) or 'any labelled scanner'}",
                "a detector needs annotated figures in the part 'train' of the split",
            )
        self._by_scanner = by_scanner
        drawn_from = [region for of_scanner in by_scanner.values() for region in of_scanner]
        check_sizes(self.images, drawn_from, self.tile_px, self.mpp, self.mpp_tolerance)

    @property
    def box_px(self) -> float:
        """Side of the boxes around figures, px of a tile: 12.5 µm, which are the 50 px of MIDOG at 0.25 µm/px."""
        return BOX_UM / self.mpp

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_slides": None, "_tables": {}}

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Batch:
        rng = np.random.default_rng((self.seed, index))
        count = self.tiles_per_scanner * len(self.scanners)
        domains = [k % len(self.scanners) for k in range(count)]
        regions, tiles = [], []
        for domain in domains:
            of_scanner = self._by_scanner[self.scanners[domain]]
            regions.append(of_scanner[rng.integers(len(of_scanner))])
            tiles.append(self.tile(regions[-1], rng))
        return Batch(
            torch.stack([t[0] for t in tiles]),
            [t[1] for t in tiles],
            [t[2] for t in tiles],
            torch.tensor(domains),
            torch.tensor([self.is_labelled(r) for r in regions]),
            {column: [getattr(r.domain, column) for r in regions] for column in COLUMNS},
        )

    def is_labelled(self, region: Region) -> bool:
        """Whether the annotations of a region count."""
        return region.domain.scanner in self.labelled and region.domain.tumor_type not in self.unlabelled_tumors

    def tile(self, region: Region, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Draws one tile of a region: image (3, side, side), figures (n, 3), hard negatives (m, 3)."""
        if self._slides is None:
            self._slides = OpenSlides(self.open_slides)
        slide = self._slides.get(self.images / region.file_name, region.mpp)
        mpp = working_mpp(slide.mpp, self.mpp, self.mpp_tolerance)
        side_px = tile_side_px(slide.path, (slide.width_px, slide.height_px), slide.mpp, self.tile_px, mpp)
        corner = self._corner(region, slide, side_px, rng)
        pixels = slide.read(corner, (self.tile_px, self.tile_px), None if mpp == slide.mpp else mpp)
        if self.standardised:
            if slide.path not in self._tables:
                self._tables[slide.path] = standard_table(slide)
            pixels = colours.changed(pixels, self._tables[slide.path])
        image = torch.from_numpy(pixels).permute(2, 0, 1).to(torch.float32) / 255
        scale = slide.mpp / mpp
        points = (region.xy - np.array(corner)) * scale
        return self._finish(image, points, region.label, rng)

    def _corner(self, region: Region, slide: Slide, side_px: float, rng: np.random.Generator) -> tuple[int, int]:
        """Upper left corner of a tile, level-0 px, inside the image."""
        room = np.array([slide.width_px, slide.height_px]) - side_px
        known = self.is_labelled(region) and len(region.figures) > 0
        if known and rng.random() < self.near_figure:
            corner = self._near(region.figures[rng.integers(len(region.figures))], side_px, rng)
        else:
            corner = rng.uniform(0, 1, 2) * room
            for _ in range(TRIES if known and self.background == "empty" else 0):
                if not ((region.figures >= corner) & (region.figures < corner + side_px)).all(axis=1).any():
                    break
                corner = rng.uniform(0, 1, 2) * room
        x, y = np.floor(np.clip(corner, 0, room)).astype(int)
        return int(x), int(y)

    def _near(self, centre: NDArray[np.float64], side_px: float, rng: np.random.Generator) -> NDArray[np.float64]:
        """Upper left corner of a tile at a figure, level-0 px, maybe outside the image."""
        if self.near == "radius":
            angle, distance = rng.uniform(0, 2 * np.pi), side_px * np.sqrt(rng.random())
            shift: NDArray[np.float64] = distance * np.array([np.cos(angle), np.sin(angle)]) - side_px / 2
        else:
            shift = -rng.uniform(0, side_px, 2) - (
                self.box_px / 2 * side_px / self.tile_px if self.near == "corner" else 0
            )
        return np.add(centre, shift)

    def _finish(
        self, image: Tensor, xy: NDArray[np.float64], label: NDArray[np.int64], rng: np.random.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Augments; keeps the annotations whose centre is inside the tile, before it and after.

        Beyond the tile a warp shows its mirrored border: an annotation from there would lie on nothing.
        """
        points = torch.from_numpy(np.column_stack([xy, np.full(len(xy), self.box_px)]).astype(np.float32))
        kept = self._inside(points)
        points, kinds = points[kept], torch.from_numpy(label)[kept]
        if self.augment is not None:
            image, points = self.augment(image, points, rng)
        inside = self._inside(points)
        return image, points[inside & (kinds == MITOTIC_FIGURE)], points[inside & (kinds == HARD_NEGATIVE)]

    def _inside(self, points: Tensor) -> Tensor:
        return ((points[:, :2] >= 0) & (points[:, :2] < self.tile_px)).all(dim=1)
