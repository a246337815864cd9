"""What a style transfer changes and what it leaves, measured batch by batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from mitosight.batch import Batch
from mitosight.methods.detector import Detector
from mitosight.styles.classifier import ScannerClassifier
from mitosight.styles.structure import kept

REAL, MIXTURE, OTHER = "real", "mixture", "another tile"  # what is measured beside each style
RADIUS_UM = 7.5  # reach of a detection


class Findings:
    """Measures of batches and of what was painted from them.

    `classifier` tells the scanners `known` apart, in this order; it and `detector` may be missing.
    """

    def __init__(self, known: Sequence[str], classifier: ScannerClassifier | None, detector: Detector | None) -> None:
        self.known, self.classifier, self.detector = list(known), classifier, detector
        self.tiles = 0
        self.read: list[tuple[str, str, str]] = []  # a tile's scanner, what it was painted as, what was read
        self.structure: dict[str, list[dict[str, float]]] = {}
        self.scores: dict[str, list[float]] = {}

    def add(self, batch: Batch, pictures: dict[str, Tensor]) -> None:
        """Takes in one batch; `pictures` (N, 3, H, W) in [0, 1] by style, with `REAL` and `MIXTURE` among them."""
        self.tiles += len(batch)
        arrays = {name: images.permute(0, 2, 3, 1).cpu().numpy() for name, images in pictures.items()}
        real = arrays.pop(REAL)
        arrays[OTHER] = np.roll(real, 1, axis=0)
        for name, painted in arrays.items():
            self.structure.setdefault(name, []).extend(kept(a, b) for a, b in zip(real, painted, strict=True))
        for name, images in pictures.items():
            if self.classifier is not None and name != MIXTURE:
                read = [self.known[i] for i in self.classifier(images).argmax(dim=1).tolist()]
                self.read += [(own, name, what) for own, what in zip(batch.columns["scanner"], read, strict=True)]
            if self.detector is not None:
                self.scores.setdefault(name, []).extend(figure_scores(self.detector, images, batch.figures))

    def facts(self) -> dict[str, Any]:
        """The measures by style, for JSON; None where nothing was measured."""
        measures = next(iter(self.structure.values()))[0]
        structure = {m: {name: mean([k[m] for k in of]) for name, of in self.structure.items()} for m in measures}
        scores = {"figures": len(self.scores.get(REAL, [])), "mean": {k: mean(v) for k, v in self.scores.items()}}
        return {
            "reading": self._reading() if self.read else None,
            "structure": structure,
            "scores": scores if scores["figures"] else None,
        }

    def _reading(self) -> dict[str, Any]:
        real = {s: mean([what == s for own, seen, what in self.read if own == s and seen == REAL]) for s in self.known}
        painted = {s: mean([what == s for own, seen, what in self.read if own != s and seen == s]) for s in self.known}
        own = mean([what == own for own, seen, what in self.read if seen not in (REAL, own)])
        return {
            "chance": 1 / len(self.known),
            "real": {"balanced": mean(list(real.values())), "by_scanner": real},
            "painted": {"balanced": mean(list(painted.values())), "by_target": painted, "still_read_as_its_own": own},
        }


def figure_scores(detector: Detector, images: Tensor, figures: Sequence[Tensor]) -> list[float]:
    """For each figure the best score of a detection within 7.5 µm, 0 where there is none."""
    reach_px, found = RADIUS_UM / detector.mpp, []
    for points, known in zip(detector.detect(images), figures, strict=True):
        for x, y in known[:, :2].tolist():
            near = np.hypot(points.xy[:, 0] - x, points.xy[:, 1] - y) <= reach_px
            found.append(float(points.score[near].max(initial=0.0)))
    return found


def mean(values: Sequence[float | None]) -> float | None:
    """The mean of the values there are; None where there are none."""
    there = [value for value in values if value is not None]
    return float(np.mean(there)) if there else None


def told(facts: dict[str, Any]) -> str:
    """The measures in a few lines for people."""
    lines, reading = [], facts["reading"]
    if reading is None:
        lines.append("no scanner classifier: transfer and data share fewer than two scanners")
    else:
        real, painted = reading["real"], reading["painted"]
        lines.append(f"scanner read from real tiles: {_number(real['balanced'])} (chance {reading['chance']:.3f})")
        lines.append(f"target read from painted tiles: {_number(painted['balanced'])} ({_row(painted['by_target'])})")
        lines.append(f"own scanner still read from them: {_number(painted['still_read_as_its_own'])}")
    lines += [f"{measure.replace('_', ' ')}: {_row(by_style)}" for measure, by_style in facts["structure"].items()]
    if facts["scores"]:
        lines.append(f"mean score at {facts['scores']['figures']} figures: {_row(facts['scores']['mean'])}")
    return "\n".join(lines)


def _row(by_name: dict[str, float | None]) -> str:
    return ", ".join(f"{name} {_number(value)}" for name, value in by_name.items())


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
