"""From a pool of candidates to batches of patches, cut from the slides when they are needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from mitosight import pool
from mitosight.augment import Augment
from mitosight.batch import Batch
from mitosight.candidates import find_in_slide
from mitosight.dataset import COLUMNS, OpenSlides, working_mpp
from mitosight.errors import InputError
from mitosight.pool import Pool
from mitosight.regions import Region
from mitosight.slide import Slide
from mitosight.tissue import find_tissue

Order = Literal["stored", "shuffled", "balanced"]


def candidates_of(
    index: int, region: Region, images: Path, finder: Any, labelled: bool, mpp: float = 0.25, tolerance: float = 0.1
) -> Pool:
    """The candidates that `finder` finds in a region's tissue, as a pool; `mpp` and `tolerance` as of `working_mpp`.

    Args:
        index: of the region in the pool.
        labelled: whether its annotations count.

    Raises:
        InputError: its image cannot be read.
    """
    with Slide(images / region.file_name, table_mpp=region.mpp) as slide:
        read_mpp = working_mpp(slide.mpp, mpp, tolerance)
        xy = find_in_slide(slide, finder, read_mpp, find_tissue(slide)).xy
        return pool.of_region(index, region, xy, slide.mpp / read_mpp, labelled)


@dataclass
class PatchSource(Dataset[Batch]):
    """Batch i of patches around candidates is a function of `seed` and i.

    Attributes:
        images: folder of the image files.
        regions: what the pool's candidates lie in.
        scanners: scanners in the order of their index.
        pool: all candidates.
        chosen: (m,) indices into the pool: the candidates that are drawn from.
        label: (m,) their classes, for `Batch.label`.
        figure: (m,) bool, which of them are figures, for the order "balanced".
        patch_px: side of a patch at the working mpp. Its window is moved inside where it would leave the image.
        size: patches in a batch.
        order: "stored": as they stand in `chosen`, each once; "shuffled": rounds of all in a new random order;
            "balanced": rounds of all figures and as many others, drawn anew without replacement (with, where there are
            fewer of them).
        length: number of batches; for "stored" as many as one pass takes.
    """

    images: Path
    regions: Sequence[Region]
    scanners: Sequence[str]
    pool: Pool
    chosen: NDArray[np.intp]
    label: NDArray[np.int64]
    figure: NDArray[np.bool_]
    patch_px: int
    size: int
    mpp: float = 0.25
    mpp_tolerance: float = 0.1
    order: Order = "stored"
    seed: int = 0
    augment: Augment | None = None
    length: int = 0
    open_slides: int = 128
    _slides: OpenSlides | None = field(default=None, repr=False)
    _round: tuple[int, NDArray[np.intp]] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not len(self.chosen):
            raise InputError(
                None, "no candidate to learn from", "check that the finder's settings fit the stain of the images"
            )
        if self.order == "stored":
            self.length = -(-len(self.chosen) // self.size)
        elif self.order == "balanced" and not self.figure.any():
            raise InputError(None, "no candidate lies on a figure", "check annotations, mpp and the finder's settings")

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_slides": None, "_round": None}

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Batch:
        drawn = self._drawn(index)
        rng = np.random.default_rng((self.seed, index, 1))
        regions = [self.regions[k] for k in self.pool.region[self.chosen[drawn]]]
        patches = [self.patch(int(k), rng) for k in self.chosen[drawn]]
        none = torch.empty(0, 3)
        return Batch(
            torch.stack(patches),
            [none] * len(drawn),
            [none] * len(drawn),
            torch.tensor([self.scanners.index(r.domain.scanner) for r in regions]),
            torch.from_numpy(self.pool.labelled[self.chosen[drawn]]),
            {column: [getattr(r.domain, column) for r in regions] for column in COLUMNS},
            torch.from_numpy(self.label[drawn]),
        )

    def patch(self, candidate: int, rng: np.random.Generator | None = None) -> Tensor:
        """The patch (3, side, side) in [0, 1] around a candidate of the pool; augmented where `rng` is given."""
        slide, mpp = self._opened(candidate)
        pixels = slide.read(self.corner(candidate), (self.patch_px,) * 2, None if mpp == slide.mpp else mpp)
        image = torch.from_numpy(pixels).permute(2, 0, 1).to(torch.float32) / 255
        if rng is None or self.augment is None:
            return image
        return self.augment(image, torch.empty(0, 3), rng)[0]

    def corner(self, candidate: int) -> tuple[int, int]:
        """Upper left corner (x, y) of a candidate's patch, level-0 px of its slide."""
        slide, mpp = self._opened(candidate)
        side_px = self.patch_px * mpp / slide.mpp
        room = np.maximum([slide.width_px - side_px, slide.height_px - side_px], 0)
        x, y = np.floor(np.clip(self.pool.xy[candidate] - side_px / 2 + 0.5, 0, room)).astype(int).tolist()
        return x, y

    def inside(self, candidate: int, xy: NDArray[np.floating]) -> NDArray[np.float64]:
        """Points (n, 2), level-0 px of its slide, in px of a candidate's patch."""
        slide, mpp = self._opened(candidate)
        return (np.asarray(xy, np.float64).reshape(-1, 2) - self.corner(candidate)) * slide.mpp / mpp

    def _opened(self, candidate: int) -> tuple[Slide, float]:
        """The slide of a candidate, and the µm per px that it is read at."""
        if self._slides is None:
            self._slides = OpenSlides(self.open_slides)
        region = self.regions[self.pool.region[candidate]]
        slide = self._slides.get(self.images / region.file_name, region.mpp)
        return slide, working_mpp(slide.mpp, self.mpp, self.mpp_tolerance)

    def _drawn(self, index: int) -> NDArray[np.intp]:
        """Positions in `chosen` of batch `index`; the rest of a round that fills no batch is left out."""
        if self.order == "stored":
            return np.arange(index * self.size, min((index + 1) * self.size, len(self.chosen)))
        figures, every = int(self.figure.sum()), len(self.chosen)
        of_round = every if self.order == "shuffled" or figures == every else 2 * figures
        size = min(self.size, of_round)
        number, slot = divmod(index, of_round // size)
        return self._in_round(number)[slot * size : (slot + 1) * size]

    def _in_round(self, number: int) -> NDArray[np.intp]:
        if self._round is None or self._round[0] != number:
            self._round = (number, self._shuffled(np.random.default_rng((self.seed, number, 0))))
        return self._round[1]

    def _shuffled(self, rng: np.random.Generator) -> NDArray[np.intp]:
        if self.order == "shuffled":
            return rng.permutation(len(self.chosen))
        figures, others = np.flatnonzero(self.figure), np.flatnonzero(~self.figure)
        if not len(others):
            return rng.permutation(figures)
        drawn = rng.choice(others, len(figures), replace=len(others) < len(figures))
        return rng.permutation(np.concatenate([figures, drawn]))
