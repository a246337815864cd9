"""The points of test images by falling score and what each adds: AP, AUCPR and FROC of slides that are drawn anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mitosight.detections import Detections
from mitosight.evaluation.curves import FROC_MOST_FALSE, FROC_POINTS, FROC_THRESHOLDS, box_hits
from mitosight.evaluation.matching import ONE_TO_ONE, near, pooled, steps
from mitosight.regions import Region

RANKED = "ranked"  # where the record of a cell has its points
RECALLS = np.linspace(0, 1, 201)  # at which curves are drawn
AP_RECALLS = np.arange(101) * 0.01
AT_ONCE = 10**7  # points times draws that are in memory together


def ranked(points: Mapping[str, Detections], regions: Sequence[Region], radius_um: float) -> dict[str, dict[str, Any]]:
    """The points of each region by its file name, as a cell keeps them: by falling score, and what each adds.

    `score` has the n scores; `gains` and `boxed` are n digits each, 1 for a point that adds a figure to those before it
    by distance (one to one, within `radius_um`), and for one that takes a figure by boxes, as AP at IoU 0.5 has it.
    The µm per px of all regions is known.
    """
    return {r.file_name: _ranked(points.get(r.file_name, Detections()), r, radius_um) for r in regions}


def _ranked(found: Detections, region: Region, radius_um: float) -> dict[str, Any]:
    assert region.mpp is not None, region.file_name
    order = np.argsort(-found.score, kind="stable")
    points, truth = pooled([found.xy[order]]), pooled([region.figures])
    gain, _ = steps(near(points, truth, np.array([radius_um / region.mpp])), ONE_TO_ONE)
    hit = box_hits(points, truth, np.array([region.mpp]))
    return {"score": found.score[order].tolist(), "gains": _digits(gain), "boxed": _digits(hit.astype(np.int64))}


def _digits(values: NDArray[np.int64]) -> str:
    return "".join(map(str, values.tolist()))


@dataclass(frozen=True)
class Ranking:
    """The points that one model found in the images of a domain, by falling score.

    Attributes:
        score: (n,) float64.
        unit: (n,) int64, the unit (see `counts.groups`) of the image of each, counted from 0.
        gains, boxed: (n,) int64, 0 or 1, see `ranked`.
        figures, images: (units,) int64, numbers of each unit.
    """

    score: NDArray[np.float64]
    unit: NDArray[np.int64]
    gains: NDArray[np.int64]
    boxed: NDArray[np.int64]
    figures: NDArray[np.int64]
    images: NDArray[np.int64]

    def drawn(self, taken: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
        """(draws,) `average_precision`, `aucpr` and `froc_auc` as in `evaluation`, from how often each unit is taken.

        NaN where no figure was drawn.

        Args:
            taken: (draws, units).
        """
        parts = np.array_split(taken.astype(np.float64), 1 + len(taken) * len(self.score) // AT_ONCE)
        ways = {"average_precision": self._average_precision, "aucpr": self._aucpr, "froc_auc": self._froc_auc}
        found = {name: np.concatenate([way(part) for part in parts]) for name, way in ways.items()}
        nothing = taken @ self.figures == 0
        return {name: np.where(nothing, np.nan, values) for name, values in found.items()}

    def curve(self) -> NDArray[np.float64]:
        """(201,) precision at the recalls `RECALLS` on all images, see `stepped`."""
        right, place = np.cumsum(self.gains)[self._last], self._last + 1
        return stepped(right / max(int(self.figures.sum()), 1), right / place)

    @cached_property
    def _last(self) -> NDArray[np.int64]:
        """(k,) places of the last of equal scores, which enter together."""
        return np.flatnonzero(np.append(self.score[1:] != self.score[:-1], True)[: len(self.score)])

    @cached_property
    def _own(self) -> list[NDArray[np.int64]]:
        """The places of the points of each unit."""
        return [np.flatnonzero(self.unit == u) for u in range(len(self.images))]

    def _up_to(self, place: NDArray[np.int64], what: NDArray[np.int64]) -> NDArray[np.float64]:
        """(units, k) sums of `what` over the points of each unit up to and with each place."""
        found = np.empty((len(self.images), len(place)))
        for u, own in enumerate(self._own):
            sums = np.append(0, np.cumsum(what[own]))
            found[u] = sums[np.searchsorted(own, place, side="right")]
        return found

    def _aucpr(self, taken: NDArray[np.float64]) -> NDArray[np.float64]:
        last = self._last
        adds = np.diff(np.cumsum(self.gains)[last], prepend=0) > 0  # elsewhere recall stands
        right = taken @ self._up_to(last[adds], self.gains)
        counted = taken @ self._up_to(last[adds], np.ones_like(self.gains))
        area = (np.diff(right, prepend=0.0) * right / np.maximum(counted, 1)).sum(axis=1)
        return np.asarray(area / np.maximum(taken @ self.figures, 1))

    def _average_precision(self, taken: NDArray[np.float64]) -> NDArray[np.float64]:
        hits = np.flatnonzero(self.boxed)
        right = taken @ self._up_to(hits, self.boxed)
        counted = taken @ self._up_to(hits, np.ones_like(self.boxed))
        precision = right / np.maximum(counted, 1)
        best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]  # at that recall or a higher one
        recall = right / np.maximum(taken @ self.figures, 1)[:, None]
        passed = np.searchsorted(AP_RECALLS, recall, side="right")
        return np.asarray((np.diff(passed, prepend=0) * best).sum(axis=1) / len(AP_RECALLS))

    def _froc_auc(self, taken: NDArray[np.float64]) -> NDArray[np.float64]:
        of_unit = [self.score[own] for own in self._own]
        ends = np.array([(score.min(initial=np.inf), score.max(initial=-np.inf)) for score in of_unit])
        low = np.where(taken > 0, ends[:, 0], np.inf).min(axis=1)
        high = np.where(taken > 0, ends[:, 1], -np.inf).max(axis=1)
        figures, images = taken @ self.figures, taken @ self.images
        grid = np.linspace(0, FROC_MOST_FALSE, FROC_POINTS)
        found = np.zeros(len(taken))
        for first, last in {(a, b) for a, b in zip(low, high, strict=True) if a <= b}:
            wanted = np.linspace(first, last, FROC_THRESHOLDS)
            place = np.searchsorted(-self.score, -wanted, side="right") - 1
            sums = self._up_to(place, self.gains), self._up_to(place, 1 - self.gains)
            for i in np.flatnonzero((low == first) & (high == last)):
                recall, false = taken[i] @ sums[0] / max(figures[i], 1), taken[i] @ sums[1] / images[i]
                order = np.lexsort((recall, false))
                found[i] = np.trapezoid(np.interp(grid, false[order], recall[order], left=0.0), grid)
        return found


def ranking(
    kept: Mapping[str, Mapping[str, Any]], names: Sequence[str], unit: NDArray[np.int64], figures: NDArray[np.int64]
) -> Ranking:
    """The ranking of the images `names` from what `ranked` gave; `unit` (n,) and `figures` (n,) are those of each."""
    places, of_image = np.unique(unit, return_inverse=True)
    score = np.concatenate([np.empty(0), *(np.array(kept[name]["score"], dtype=np.float64) for name in names)])
    order = np.argsort(-score, kind="stable")
    found_in = np.repeat(of_image, [len(kept[name]["score"]) for name in names])
    gains, boxed = (np.array(list("".join(kept[n][key] for n in names)), dtype=np.int64) for key in ("gains", "boxed"))
    of_figures = np.bincount(of_image, weights=figures, minlength=len(places)).astype(np.int64)
    return Ranking(
        score[order], found_in[order], gains[order], boxed[order], of_figures, np.bincount(of_image).astype(np.int64)
    )


def stepped(recall: NDArray[np.float64], precision: NDArray[np.float64]) -> NDArray[np.float64]:
    """(201,) the curve that AUCPR is the area under: at each of `RECALLS` the precision where it is first reached.

    `recall` and `precision` are those of falling thresholds. 0 beyond the highest recall.
    """
    first = np.searchsorted(recall, RECALLS - 1e-9)
    return np.append(precision, 0.0)[first]
