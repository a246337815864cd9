"""Whether a detector in another runtime finds what it finds in torch fp32, and how fast each network is."""

from __future__ import annotations

import time
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.spatial import cKDTree
from torch import Tensor

from mitosight.detections import Detections
from mitosight.device import exact
from mitosight.methods.detector import Detector
from mitosight.phantom import SCANNERS, draw_tissue, scan

Tiles = Sequence[NDArray[np.uint8]]
NEAR_PX = 1.0


@dataclass(frozen=True)
class Agreement:
    """How the points of another runtime lie to those of torch fp32.

    Attributes:
        points: of torch that were judged.
        missing: points of one that have no point of the other within `near_px`.
        score: largest difference of the scores of two that belong together.
        maps: largest difference of the raw maps, as a share of their range.
    """

    points: int
    missing: int
    score: float
    maps: float
    near_px: float = NEAR_PX

    def within(self, tolerance: float) -> bool:
        """Whether no point is missing and scores, or without points the maps, differ by `tolerance` at most."""
        return self.missing == 0 and (self.score if self.points else self.maps) <= tolerance

    def told(self) -> str:
        """In words."""
        if not self.points:
            return f"no points to compare; raw maps differ by {self.maps:.2g} of their range"
        far = f"{self.missing} of {self.points} points more than {self.near_px:g} px off"
        return f"{far}, scores by up to {self.score:.2g}"


def as_tensor(image: NDArray[np.uint8], device: torch.device) -> Tensor:
    """A tile (H, W, 3) uint8 as (1, 3, H, W) in [0, 1]."""
    return torch.from_numpy(np.array(image)).to(device).permute(2, 0, 1)[None].float().div(255)


@dataclass(frozen=True)
class Look:
    """What a detector makes of tiles.

    Attributes:
        points: of each tile, suppressed as those of a slide are.
        inputs: what its network saw, batches (N, 3, H, W).
        maps: the raw maps of each batch, on the CPU.
        seconds: that the network took for an image in the quickest call; infinite where there was none.
    """

    points: Sequence[Detections]
    inputs: Sequence[Tensor]
    maps: Sequence[tuple[Tensor, ...]]
    seconds: float


@exact()
def look(detector: Detector, tiles: Tiles) -> Look:
    """Shows a detector tiles (H, W, 3), one by one; the first call of its network, which may warm up, is repeated."""
    inputs: list[Tensor] = []
    found: list[tuple[Tensor, ...]] = []
    times: list[float] = []
    network = getattr(detector, detector.converted)

    def watched(images: Tensor) -> tuple[Tensor, ...]:
        if len(images) and not times:
            network(images)[0].cpu()
        started = time.perf_counter()
        maps: tuple[Tensor, ...] = network(images)
        on_cpu = tuple(m.cpu() for m in maps)
        if len(images):
            times.append((time.perf_counter() - started) / len(images))
            inputs.append(images)
            found.append(on_cpu)
        return maps

    watching = copy(detector)
    setattr(watching, detector.converted, watched)
    return Look(points(watching, tiles), inputs, found, min(times, default=float("inf")))


def inputs_of(detector: Detector, tiles: Tiles) -> Sequence[Tensor]:
    """What the network of a detector sees of tiles (H, W, 3): batches (N, 3, h, w)."""
    return look(detector, tiles).inputs


def points(detector: Detector, tiles: Tiles) -> list[Detections]:
    """The points of each tile, suppressed as those of a slide are."""
    device = next(detector.parameters()).device
    training = detector.training
    detector.eval()
    with torch.inference_mode():
        found = [detector.detect(as_tensor(tile, device))[0] for tile in tiles]
    detector.train(training)
    return [f.suppressed(detector.suppression_um / detector.mpp) for f in found]


def judged_from(detector: Detector, precision: str, tolerance: float) -> float:
    """The score from which points are judged.

    In fp32 all are, but for those so near the floor, below which none is given out, that they may fall under it. bf16
    and int8 are judged by what is a figure, from the threshold on: of weak points that overlap and score alike,
    rounding decides which one suppresses the other. On real tiles 2 to 7 in 100 points moved, none of a figure.
    """
    return float(getattr(detector, "score_floor", 0.0)) + tolerance if precision == "fp32" else detector.threshold


def compare(plain: Detector, other: Detector, tiles: Tiles, least: float, near_px: float = NEAR_PX) -> Agreement:
    """How `other` agrees with `plain`, which is in torch fp32, on points of score `least` or more in one of them."""
    return agreement(look(plain, tiles), look(other, tiles), least, near_px)


def agreement(plain: Look, other: Look, least: float, near_px: float = NEAR_PX) -> Agreement:
    """As `compare`, of what both made of the same tiles."""
    pairs = list(zip(plain.points, other.points, strict=True))
    both_ways = [*pairs, *((b, a) for a, b in pairs)]
    judged = [_judged(a, b, least, near_px) for a, b in both_ways]
    count = sum(int(np.count_nonzero(np.asarray(a.score) >= least)) for a, _ in pairs)
    missing, score = sum(m for m, _ in judged), max((s for _, s in judged), default=0.0)
    return Agreement(count, missing, score, _maps(plain, other), near_px)


def _judged(of: Detections, among: Detections, least: float, near_px: float) -> tuple[int, float]:
    """How many points of the one have no partner, and the largest difference in score of those that have."""
    of = of[of.score >= least]
    if not len(of) or not len(among):
        return len(of), 0.0
    distance, index = cKDTree(among.xy).query(of.xy)
    near = distance <= near_px
    apart = np.abs(of.score - among.score[index])[near]
    return int(np.count_nonzero(~near)), float(apart.max(initial=0.0))


def _maps(plain: Look, other: Look) -> float:
    worst = 0.0
    for both in zip(plain.maps, other.maps, strict=True):
        for a, b in zip(*both, strict=True):
            span = float(a.max() - a.min())
            worst = max(worst, float((a - b).abs().max()) / max(span, 1.0))
    return worst


def drawn(detector: Detector, side_px: int) -> Tiles:
    """Two drawn tiles, one a scanner, where no tile of a slide is given."""
    reach_um = side_px * detector.mpp
    tissue = draw_tissue(0, (reach_um, reach_um))
    found = []
    for number, scanner in enumerate(list(SCANNERS.values())[:2]):
        image = Image.fromarray(scan(tissue, scanner, number)[0])
        found.append(np.asarray(image.resize((side_px, side_px))))
    return found
