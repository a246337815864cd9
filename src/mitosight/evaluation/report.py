"""What an evaluation found: scores of a group of images, and the report over all groups."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mitosight.evaluation.curves import Best, Curve
from mitosight.regions.region import UNKNOWN

CURVE_ROWS = 100  # a stored curve is thinned to about so many thresholds
COUNTED = ("images", "figures", "detections", "true_positives", "false_positives", "false_negatives")
RATED = ("precision", "recall", "f1", "average_precision", "froc_auc", "aucpr", "best_f1", "best_threshold")
PER_AREA = ("area_mm2", "figures_per_mm2", "detections_per_mm2", "false_positives_per_mm2", "hard_negative_share")


def ratio(part: float, whole: float | None) -> float | None:
    """`part / whole`; None where `whole` is zero or unknown: what is undefined is not given as a number."""
    return part / whole if whole else None


@dataclass(frozen=True)
class Scores:
    """Scores of a group of images: counts summed over the images, then one ratio each (micro averages).

    Attributes:
        images, figures, detections: numbers; detections are those that reach the threshold.
        true_positives, false_positives, false_negatives: under the matching rule.
        hard_negatives: labelled hard negatives in the group.
        on_hard_negatives: false positives within the radius of one.
        area_mm2: None where the size or mpp of an image is unknown.
        average_precision: at IoU 0.5, the challenge's; None without figures or where mpp is unknown.
        froc_auc, aucpr: see `curves`; None without figures.
        best: best F1 over all thresholds, None without figures or detections.
        curve: counts at every threshold; None for single images.
        intervals: 95 % intervals of precision, recall and f1 over images drawn with replacement; empty if not asked.
    """

    images: int
    figures: int
    detections: int
    true_positives: int
    false_positives: int
    false_negatives: int
    hard_negatives: int = 0
    on_hard_negatives: int = 0
    area_mm2: float | None = None
    average_precision: float | None = None
    froc_auc: float | None = None
    aucpr: float | None = None
    best: Best | None = None
    curve: Curve | None = None
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def precision(self) -> float | None:
        """Share of the positives that are figures; None without any."""
        return ratio(self.true_positives, self.true_positives + self.false_positives)

    @property
    def recall(self) -> float | None:
        """Share of the figures that were found; None where there are none."""
        return ratio(self.true_positives, self.figures)

    @property
    def f1(self) -> float | None:
        """F1 score; 0 where nothing right was found, None where there was nothing to find and nothing was."""
        return ratio(2 * self.true_positives, 2 * self.true_positives + self.false_positives + self.false_negatives)

    @property
    def best_f1(self) -> float | None:
        """The best F1 over all thresholds."""
        return self.best.f1 if self.best else None

    @property
    def best_threshold(self) -> float | None:
        """The highest threshold that gives `best_f1`."""
        return self.best.threshold if self.best else None

    @property
    def figures_per_mm2(self) -> float | None:
        """Labelled figures per mm²."""
        return ratio(self.figures, self.area_mm2)

    @property
    def detections_per_mm2(self) -> float | None:
        """Detections that reach the threshold per mm²."""
        return ratio(self.detections, self.area_mm2)

    @property
    def false_positives_per_mm2(self) -> float | None:
        """False positives per mm²."""
        return ratio(self.false_positives, self.area_mm2)

    @property
    def hard_negative_share(self) -> float | None:
        """Share of the false positives that lie on a labelled hard negative; None where none are labelled."""
        return ratio(self.on_hard_negatives, self.false_positives) if self.hard_negatives else None

    def to_json(self) -> dict[str, Any]:
        """The scores as plain values; null where one is undefined."""
        found: dict[str, Any] = {name: getattr(self, name) for name in (*COUNTED, *RATED, *PER_AREA)}
        if self.best:
            found["plateau"] = {"low": self.best.low, "high": self.best.high, "centre": self.best.centre}
        if self.intervals:
            found["intervals"] = {name: list(ends) for name, ends in self.intervals.items()}
        if self.curve:
            found["f1_by_threshold"] = _rows(self.curve, self.best)
        return found


def _rows(curve: Curve, best: Best | None) -> list[dict[str, float]]:
    """About a hundred rows of the curve, evenly over its thresholds, the best among them."""
    k = len(curve.threshold)
    at = np.linspace(0, k - 1, min(k, CURVE_ROWS)).round().astype(np.int64)
    if best:
        at = np.union1d(at, np.flatnonzero(curve.threshold == best.threshold))
    columns = {"threshold": curve.threshold, "precision": curve.precision, "recall": curve.recall, "f1": curve.f1}
    return [{name: float(values[i]) for name, values in columns.items()} for i in at]


@dataclass(frozen=True)
class Spots:
    """Places of hits or mistakes, in the order in which they are worth a look.

    Attributes:
        file_name: (n,) str, the image.
        xy: (n, 2) float64, level-0 px.
        score: (n,) float64; of a miss, that of the best detection within the radius that did not count, else NaN.
        on_hard_negative: (n,) bool, whether a labelled hard negative lies within the radius.
    """

    file_name: NDArray[np.str_]
    xy: NDArray[np.float64]
    score: NDArray[np.float64]
    on_hard_negative: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.score)


@dataclass(frozen=True)
class Report:
    """An evaluation: in total and by scanner, tumour type and image, with the settings it was made under.

    Attributes:
        total, by_scanner, by_tumor_type, by_image: scores of the groups; by_image is empty if not asked for.
        settings: matching rule, radius, threshold, suppression and bootstrap, as JSON values.
        hits: detections that count as figures, by falling score.
        false_positives: by falling score.
        misses: by falling score of what lay there but did not count.
    """

    total: Scores
    by_scanner: Mapping[str, Scores]
    by_tumor_type: Mapping[str, Scores]
    by_image: Mapping[str, Scores]
    settings: Mapping[str, Any]
    hits: Spots
    false_positives: Spots
    misses: Spots

    def to_json(self) -> dict[str, Any]:
        """The scores of all images at the top; under `by_scanner`, `by_tumor_type`, `by_image` the same keys."""
        groups = {name: getattr(self, name) for name in ("by_scanner", "by_tumor_type", "by_image")}
        return self.total.to_json() | {
            **{name: {key: scores.to_json() for key, scores in group.items()} for name, group in groups.items()},
            "settings": dict(self.settings),
        }

    def table(self) -> str:
        """Two aligned tables: counts with precision, recall and F1, and scores over all thresholds and per mm²."""
        return "\n\n".join(self._table(columns) for columns in (AT_THRESHOLD, OVER_THRESHOLDS))

    def _table(self, columns: Mapping[str, Callable[[Scores], str]]) -> str:
        rows = [["", *columns]]
        for kind, group in (("by scanner", self.by_scanner), ("by tumour type", self.by_tumor_type)):
            if set(group) != {UNKNOWN}:
                rows.append([kind])
                rows += [["  " + name, *(cell(scores) for cell in columns.values())] for name, scores in group.items()]
        rows.append(["all images", *(cell(self.total) for cell in columns.values())])
        widths = [max(len(row[i]) for row in rows if i < len(row)) for i in range(len(columns) + 1)]
        lines = (
            "  ".join(cell.ljust(widths[i]) if i == 0 else cell.rjust(widths[i]) for i, cell in enumerate(row))
            for row in rows
        )
        return "\n".join(line.rstrip() for line in lines)


def _number(value: float | None, form: str = ".3f") -> str:
    return "-" if value is None else format(value, form)


def _between(ends: tuple[float, float] | None) -> str:
    return "-" if ends is None else f"{ends[0]:.3f}-{ends[1]:.3f}"


AT_THRESHOLD: Mapping[str, Callable[[Scores], str]] = {
    "images": lambda s: str(s.images),
    "figures": lambda s: str(s.figures),
    "TP": lambda s: str(s.true_positives),
    "FP": lambda s: str(s.false_positives),
    "FN": lambda s: str(s.false_negatives),
    "precision": lambda s: _number(s.precision),
    "recall": lambda s: _number(s.recall),
    "F1": lambda s: _number(s.f1),
    "F1 95 %": lambda s: _between(s.intervals.get("f1")),
}
OVER_THRESHOLDS: Mapping[str, Callable[[Scores], str]] = {
    "AP50": lambda s: _number(s.average_precision),
    "AUCPR": lambda s: _number(s.aucpr),
    "FROC": lambda s: _number(s.froc_auc),
    "best F1": lambda s: _number(s.best_f1),
    "at": lambda s: _number(s.best_threshold),
    "plateau": lambda s: _between((s.best.low, s.best.high) if s.best else None),
    "figures/mm²": lambda s: _number(s.figures_per_mm2, ".2f"),
    "FP/mm²": lambda s: _number(s.false_positives_per_mm2, ".2f"),
    "FP on HN": lambda s: _number(s.hard_negative_share, ".0%"),
}
