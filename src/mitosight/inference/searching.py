"""A slide and a detector to Detections: overlapping tiles, each point kept by the tile that owns it, suppressed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mitosight.dataset import working_mpp
from mitosight.detections import Detections, concatenate
from mitosight.errors import InputError
from mitosight.methods.detector import Detector
from mitosight.slide import Slide
from mitosight.tiles import Tile, grid

SUPPRESSION_UM = 6.25  # 25 px at 0.25 µm/px (reference code of Wilm 2021)


def detect(
    slide: Slide,
    detector: Detector,
    *,
    tile_px: int | None = None,
    batch: int = 4,
    bf16: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Detections:
    """Finds the figures of a slide; deterministic for one device and tile size.

    Args:
        slide: read at its own resolution where that is within the detector's tolerance, else at the detector's mpp.
        detector: runs on the device where its weights are, in evaluation mode.
        tile_px: side of the tiles; the detector's own by default.
        progress: called with tiles done and tiles in all after each batch.

    Returns all points above the detector's floor in level-0 px, best first.

    Raises:
        InputError: the slide's mpp is unknown, the slide is smaller than a tile, or its file is damaged.
    """
    covering = cover(slide, detector, tile_px)
    tiles, scale = covering.tiles, covering.scale
    found: list[Detections] = []
    detector = detector.for_slide(covering)
    for start in range(0, len(tiles), batch):
        part = tiles[start : start + batch]
        images = torch.stack([torch.from_numpy(covering.read(tile)).permute(2, 0, 1) for tile in part])
        for tile, points in zip(part, _run(detector, images, bf16), strict=True):
            placed = points.moved((tile.x_px, tile.y_px))
            found.append(placed[tile.owned(placed.xy)].moved((0, 0), scale))
        if progress is not None:
            progress(min(len(found), len(tiles)), len(tiles))
    every = concatenate(found)
    return Detections(every.xy, every.score, slide.mpp).suppressed(SUPPRESSION_UM / slide.mpp)


def cover(slide: Slide, detector: Detector, tile_px: int | None = None) -> Covering:
    """The tiles by which a detector searches a slide; arguments and errors as in `detect`."""
    side = tile_px or detector.tile_px
    mpp = working_mpp(slide.mpp, detector.mpp, detector.mpp_tolerance)
    scale = mpp / slide.mpp  # level-0 px for one px of the tiles' frame
    width, height = round(slide.width_px / scale), round(slide.height_px / scale)
    if min(width, height) < side:
        at = "" if scale == 1 else f" at {mpp:g} µm/px"
        raise InputError(
            slide.path,
            f"{width} x {height} px{at} is smaller than a tile of {side} px",
            "pass a smaller --tile-px or a larger image",
        )
    return Covering(slide, grid(width, height, side, detector.overlap_px), scale, mpp)


@dataclass(frozen=True)
class Covering:
    """The tiles of a slide as arrays (H, W, 3) uint8, each cut to what it owns: they cover the slide once.

    Attributes:
        tiles: at `mpp`, in whose px they are given; `scale` level-0 px go on one.
    """

    slide: Slide
    tiles: Sequence[Tile]
    scale: float
    mpp: float

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        for tile in self.tiles:
            x0, y0, x1, y1 = tile.owns
            yield self.read(tile)[y0 - tile.y_px : y1 - tile.y_px, x0 - tile.x_px : x1 - tile.x_px]

    def read(self, tile: Tile) -> NDArray[np.uint8]:
        """The whole tile (side, side, 3)."""
        corner, size = (tile.x_px * self.scale, tile.y_px * self.scale), (tile.side_px, tile.side_px)
        return np.ascontiguousarray(self.slide.read(corner, size, None if self.scale == 1 else self.mpp))


def _run(detector: Detector, images: Tensor, bf16: bool) -> list[Detections]:
    device = next(detector.parameters()).device
    training = detector.training
    detector.eval()
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        tiles = images.to(device, torch.float32).div_(255)
        found = detector.detect(tiles.contiguous(memory_format=torch.channels_last))
    detector.train(training)
    return found
