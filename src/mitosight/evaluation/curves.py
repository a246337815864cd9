"""Scores over all thresholds: average precision, the area under the FROC curve, the best F1 and its plateau."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mitosight.evaluation.matching import Points, near

BOX_HALF_UM = 11.25  # half the side of the challenge's boxes: a shift of 7.5 µm along an axis leaves an IoU of 0.5
FROC_THRESHOLDS = 40
FROC_MOST_FALSE = 8  # false positives per image at which the FROC curve ends
FROC_POINTS = 50
PLATEAU = 0.99  # share of the best F1 that still counts as its plateau


@dataclass(frozen=True)
class Curve:
    """Counts at every threshold that makes a difference; a detection counts where score >= threshold.

    Attributes:
        threshold: (k,) float64, the distinct scores, falling.
        true_positives, false_positives: (k,) int64.
        figures, images: what there was to find, and in how many images.
    """

    threshold: NDArray[np.float64]
    true_positives: NDArray[np.int64]
    false_positives: NDArray[np.int64]
    figures: int
    images: int

    @property
    def precision(self) -> NDArray[np.float64]:
        """(k,) share of the counted detections that are figures."""
        # Under the many-to-many rule a threshold may count detections that are neither: several on one figure.
        counted = np.maximum(self.true_positives + self.false_positives, 1)
        return np.asarray(self.true_positives / counted)

    @property
    def recall(self) -> NDArray[np.float64]:
        """(k,) share of the figures that are found; 0 where there are none."""
        return np.asarray(self.true_positives / max(self.figures, 1))

    @property
    def f1(self) -> NDArray[np.float64]:
        """(k,) F1 score."""
        both = self.true_positives + self.false_positives + self.figures
        return np.asarray(2 * self.true_positives / np.maximum(both, 1))

    def f1_at(self, threshold: NDArray[np.float64]) -> NDArray[np.float64]:
        """F1 of the detections with score >= each of `threshold` (t,), in any order; 0 where there are none."""
        reach = np.searchsorted(-self.threshold, -threshold, side="right")
        return np.append(0.0, self.f1)[reach]


def curve(
    score: NDArray[np.float64], gain: NDArray[np.int64], false: NDArray[np.int64], figures: int, images: int
) -> Curve:
    """The curve of detections sorted by falling `score`, from what each adds (see `matching.steps`)."""
    last = np.flatnonzero(np.append(score[1:] != score[:-1], True)[: len(score)])  # equal scores enter together
    return Curve(score[last], np.cumsum(gain)[last], np.cumsum(false)[last], figures, images)


def aucpr(curve: Curve) -> float | None:
    """Area under the precision-recall curve as the sum of precision times gain in recall; None without figures.

    Matching is by distance, under the rule of the curve, and precision is taken as it is; `average_precision` matches
    by boxes and makes precision monotone, as the challenge does.
    """
    if not curve.figures:
        return None
    return float((np.diff(curve.recall, prepend=0.0) * curve.precision).sum())


def froc_auc(curve: Curve) -> float | None:
    """Area under recall against mean false positives per image between 0 and 8, so 0 to 8; None without figures.

    As in the challenge of 2025: 40 thresholds evenly between the lowest and the highest score, interpolated at 50
    points. Its code leaves open in which order thresholds of equal false positives enter (an unstable sort, whose
    outcome differs between processors); here recall rises, as it does along the curve. Over many images the
    difference is in the third decimal; for a single image it can be large.
    """
    if not curve.figures:
        return None
    if not len(curve.threshold):
        return 0.0
    wanted = np.linspace(curve.threshold[-1], curve.threshold[0], FROC_THRESHOLDS)
    at = np.searchsorted(-curve.threshold, -wanted, side="right") - 1
    false, recall = curve.false_positives[at] / curve.images, curve.recall[at]
    order = np.lexsort((recall, false))
    grid = np.linspace(0, FROC_MOST_FALSE, FROC_POINTS)
    return float(np.trapezoid(np.interp(grid, false[order], recall[order], left=0.0), grid))


@dataclass(frozen=True)
class Best:
    """The best F1 of all thresholds.

    Attributes:
        f1: its value.
        threshold: the highest threshold that gives it.
        low, high: the plateau around it: every threshold between them (inclusive) has at least 99 % of the best F1.
    """

    f1: float
    threshold: float
    low: float
    high: float

    @property
    def centre(self) -> float:
        """Middle of the plateau: the operating point least sensitive to a shift of the scores."""
        return (self.low + self.high) / 2


def best(curve: Curve) -> Best | None:
    """The best F1 over every threshold; None without figures or detections."""
    if not curve.figures or not len(curve.threshold):
        return None
    f1 = curve.f1
    top = int(f1.argmax())
    below = np.flatnonzero(f1 < PLATEAU * f1[top])
    first = int(below[below < top].max(initial=-1)) + 1
    last = int(below[below > top].min(initial=len(f1))) - 1
    return Best(float(f1[top]), *(float(curve.threshold[k]) for k in (top, last, first)))


def box_hits(found: Points, truth: Points, mpp: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which detections, given by falling score, take a figure by boxes: the highest IoU of at least 0.5 still free.

    The boxes are squares of half-side 11.25 µm. `mpp` is that of each image. Returns (n,).
    """
    half_px = BOX_HALF_UM / mpp
    pairs = near(found, truth, half_px * (2 / 3) * (1 + 1e-9))  # an IoU of 0.5 lies within a third of the side
    side = 2 * half_px[truth.image[pairs.truth]]
    width, height = np.maximum(side - np.abs(found.xy[pairs.found] - truth.xy[pairs.truth]).T, 0)
    iou = width * height / (2 * side**2 - width * height)
    order = np.lexsort((-pairs.truth, -iou, pairs.found))  # of equal boxes the last, as the COCO code has it
    hit = np.zeros(len(found), dtype=bool)
    free = [True] * len(truth)
    order = order[iou[order] >= 0.5 - 1e-9]
    for detection, figure in zip(pairs.found[order].tolist(), pairs.truth[order].tolist(), strict=True):
        if free[figure] and not hit[detection]:
            hit[detection], free[figure] = True, False
    return hit


def average_precision(hit: NDArray[np.bool_], figures: int) -> float | None:
    """AP at IoU 0.5 by the challenge's definition, from `box_hits` in order of falling score; None without figures.

    The mean, over the recalls 0, 0.01, ... 1, of the highest precision at that recall or a higher one.
    """
    if not figures:
        return None
    found = np.cumsum(hit)
    precision = np.maximum.accumulate((found / np.arange(1, len(hit) + 1))[::-1])[::-1]
    at = np.searchsorted(found / figures, np.arange(101) * 0.01)
    return float(np.append(precision, 0.0)[at].mean())
