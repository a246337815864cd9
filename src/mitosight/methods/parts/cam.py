"""Class activation maps: where in a patch the classifier saw a mitosis (Zhou 2016, as Wang 2023 uses them)."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from mitosight.detections import Detections

THRESHOLD = 200 / 255
LEAST_AREA_PX = 25
TOUCHING = np.ones((3, 3), bool)  # by a corner too
Small = Literal["keep", "centre", "drop"]


def activation_maps(features: Tensor, weight: Tensor, side_px: int) -> Tensor:
    """Maps (N, side, side) in [0, 1] of how much each place of N patches speaks for a class.

    The weights of the bias-free classifier applied at each place of the features, ReLU, stretched from the map's
    smallest to its largest value to 0 and 1, enlarged bilinearly: in this order. A map of one value becomes 0.

    Args:
        features: (N, C, h, w), before pooling.
        weight: (C,) of the class.
    """
    raw = functional.relu(torch.einsum("nchw,c->nhw", features.float(), weight.float()))
    low, high = raw.amin(dim=(1, 2), keepdim=True), raw.amax(dim=(1, 2), keepdim=True)
    span = high - low
    level = torch.where(span > 0, (raw - low) / torch.where(span > 0, span, 1), 0)
    return functional.interpolate(level[:, None], (side_px, side_px), mode="bilinear", align_corners=False)[:, 0]


def figure_points(
    maps: NDArray[np.floating],
    *,
    threshold: float = THRESHOLD,
    least_area_px: int = LEAST_AREA_PX,
    small: Small = "keep",
) -> NDArray[np.float64]:
    """The point (N, 2) of the figure in each of N maps (N, side, side) in [0, 1]: x, y in px of the patch.

    The map above `threshold` falls into components; of those with `least_area_px` or more the one with the highest
    value is the figure, and the middle of its bounding box the point. The reference code merges the maps of all
    patches of an image first and takes every component; here each patch that is called mitotic gives one point, and
    points of one figure are merged as detections.

    Where nothing survives: at stride 8 a single bright cell leaves only four pixels above the threshold, and a sharp
    peak is the best of places. So `small` "keep" takes the component of the highest value however small; "centre"
    takes the middle of the patch, which is the candidate; "drop" gives NaN, as the reference code drops it. A map
    without any component says nothing of the place: the middle, or NaN with "drop".
    """
    return np.array([_point(m, threshold, least_area_px, small) for m in maps], np.float64).reshape(-1, 2)


def figures(
    score: NDArray[np.floating], maps: NDArray[np.floating], floor: float, small: Small, mpp: float
) -> list[Detections]:
    """The figure of each of N patches with score (N,) and map (N, side, side): one point, or none below `floor`."""
    found = [Detections(mpp=mpp)] * len(score)
    high = np.flatnonzero(score >= floor)
    for k, place in zip(high, figure_points(maps[high], small=small), strict=True):
        if np.isfinite(place).all():
            found[k] = Detections(place, score[[k]].astype(np.float64), mpp)
    return found


def _point(level: NDArray[np.floating], threshold: float, least_area_px: int, small: Small) -> tuple[float, float]:
    labels, count = ndimage.label(level > threshold, TOUCHING)
    numbers = np.arange(1, count + 1)
    areas = ndimage.sum_labels(np.ones_like(level), labels, numbers)
    kept = numbers[areas >= least_area_px]
    if len(kept) == 0 and small == "keep":
        kept = numbers
    if len(kept) == 0:
        side = level.shape[0]
        return (np.nan, np.nan) if small == "drop" else (side / 2, side / 2)
    best = kept[np.argmax(ndimage.maximum(level, labels, kept))]
    rows, columns = ndimage.find_objects(labels, count)[best - 1]
    return (columns.start + columns.stop) / 2, (rows.start + rows.stop) / 2
