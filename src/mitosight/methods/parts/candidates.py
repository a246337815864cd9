"""What methods that classify candidates share: candidates of a tile, patches around them, points in the tile."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import asdict
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from mitosight.candidates import Statistics, finder_named
from mitosight.detections import Detections, concatenate
from mitosight.device import release
from mitosight.errors import UsageError
from mitosight.methods.detector import Amount, Count, Detector, Share

FinderName = Literal["blue-ratio", "haematoxylin"]


class CandidateDetector(Detector):
    """Finds candidates without training and classifies the patch around each of them.

    A subclass has `network`, from patches (n, 3, side, side) to maps, and `decode`, from these to n Detections of one
    point each, or none, in px of the patch. A patch is a small tile to both.

    Attributes:
        finds_place: whether `decode` says where in its patch a figure is; else its place is that of the candidate.
        finder: of the candidates.
        statistics: of the slide that is searched (`for_slide`); None takes those of each tile that it is given.
        overlap_px: enough for a candidate and its patch to be whole in the tile that owns the candidate.
    """

    finds_place: ClassVar[bool] = True

    def __init__(
        self,
        *,
        scanners: Sequence[str] = (),
        mpp: Annotated[float, Field(ge=0.05, le=10)] = 0.25,
        mpp_tolerance: Share = 0.1,
        tile_px: Count = 1024,
        finder: FinderName = "blue-ratio",
        finder_settings: dict[str, Any] | None = None,
        patch_px: Annotated[int, Field(ge=16, le=512)] = 64,
        positive_px: Amount = 25.0,
        negative_px: Amount = 25.0,
        patches_at_once: Count = 256,
        suppression_um: Amount = 10.0,
        score_floor: Share = 0.05,
    ) -> None:
        """Arguments that all candidate methods have.

        Args:
            finder, finder_settings: name of the finder, and those of its settings that differ from its defaults.
            patch_px: side of the patches at the working mpp.
            positive_px, negative_px: in training a candidate is positive with a figure within the first on both axes,
                negative with none within the second, and not used between the two.
            patches_at_once: that go through the network together in detection.
            suppression_um: points within it of each other are merged, for the candidates that fall on one figure. 10,
                about the size of a cell: with 6.25, as detectors of boxes have it, one in ten points on the validation
                fields was a second one of its figure (docs/candidates.md).
            score_floor: points below are not given out.
        """
        super().__init__(scanners=scanners, mpp=mpp, mpp_tolerance=mpp_tolerance, tile_px=tile_px, augmentation=None)
        if patch_px > tile_px:
            raise UsageError(None, f"patch_px = {patch_px}", f"expected at most {tile_px} (tile_px)")
        if negative_px < positive_px:
            raise UsageError(None, f"negative_px = {negative_px}", f"expected {positive_px} (positive_px) or more")
        self.finder = finder_named(finder, finder_settings)
        self.statistics: Statistics | None = None
        self.patch_px, self.positive_px, self.negative_px = patch_px, positive_px, negative_px
        self.patches_at_once, self.score_floor = patches_at_once, score_floor
        self.suppression_um = suppression_um
        self.grid_px = self.finder.zoom
        self.overlap_px = max(type(self).overlap_px, patch_px, self.finder.overlap_px)

    def settled(self) -> dict[str, Any]:
        """All settings of the finder, so that a model stays what it is when one of their defaults changes."""
        return {"finder_settings": asdict(self.finder)}

    def labels(self, pool: Any) -> NDArray[np.int64]:
        """(n,) classes of the candidates of a pool: 1 positive, 0 negative, -1 neither."""
        label: NDArray[np.int64] = pool.labels(self.positive_px, self.negative_px)
        return label

    def for_slide(self, tiles: Iterable[NDArray[np.uint8]]) -> CandidateDetector:
        """This detector with the finder's statistics of a slide; weights are shared."""
        found = copy(self)
        found.statistics = self.finder.statistics(tiles)
        return found

    def samples(self, image: Tensor, side_px: int) -> tuple[Tensor, NDArray[np.float64]]:
        """The patches around the candidates of a tile and the candidates; see `Detector.samples`.

        Raises:
            UsageError: patches of another side are asked for.
        """
        if side_px != self.patch_px:
            raise UsageError(None, f"samples of {side_px} px", f"this model classifies patches of {self.patch_px} px")
        xy = self.candidates(image)
        return cut(image, corners(xy, image, side_px), side_px), xy

    def candidates(self, image: Tensor) -> NDArray[np.float64]:
        """Centres (n, 2) of the candidates of a tile (3, H, W) in [0, 1], in px of the tile."""
        rgb = (image * 255).round().byte().permute(1, 2, 0).cpu().numpy()
        return self.finder.find(rgb, self.statistics or self.finder.statistics([rgb])).xy

    def detect(self, images: Tensor) -> list[Detections]:
        """(N, 3, H, W) RGB in [0, 1] to the figures of each tile, best first, in px of the tile.

        One figure may hold several candidates and give as many points; what gathers the tiles suppresses all but one.
        """
        return [self._search(image) for image in images]

    def _search(self, image: Tensor) -> Detections:
        side, xy = self.patch_px, self.candidates(image)
        at = corners(xy, image, side)
        origin = at if self.finds_place else xy - side / 2  # they differ where a window was moved inside
        found: list[Detections] = []
        for start in range(0, len(at), self.patches_at_once):
            part = slice(start, start + self.patches_at_once)
            decoded = self.decode(self.network(cut(image, at[part], side)), (side, side))
            found += [points.moved(corner) for points, corner in zip(decoded, origin[part].tolist(), strict=True)]
        release()
        every = concatenate(found, self.mpp)
        return every[every.score >= self.score_floor].ranked()


def corners(xy: NDArray[np.float64], image: Tensor, side_px: int) -> NDArray[np.intp]:
    """Upper left corners (n, 2) of the windows around `xy` (n, 2), moved inside a tile (3, H, W); as in `PatchSource`.

    A centre on the border between two px goes to the lower one.
    """
    room = np.array([image.shape[2], image.shape[1]]) - side_px
    return np.floor(np.clip(xy.reshape(-1, 2) - side_px / 2 + 0.5, 0, np.maximum(room, 0))).astype(np.intp)


def cut(image: Tensor, at: NDArray[np.intp], side_px: int) -> Tensor:
    """The windows (n, 3, side, side) of a tile (3, H, W) with upper left corners `at` (n, 2)."""
    if not len(at):
        return image.new_empty((0, 3, side_px, side_px))
    return torch.stack([image[:, y : y + side_px, x : x + side_px] for x, y in at.tolist()])
