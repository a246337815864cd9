"""Validation inside a training: the detection and the scores that everything else uses, and the best model kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from mitosight import checkpoint, inference
from mitosight.dataset import TileSource
from mitosight.detections import Detections
from mitosight.evaluation import Report, evaluate
from mitosight.methods.detector import Detector, Source
from mitosight.outputs import versions
from mitosight.recipe import Recipe
from mitosight.slide import Slide
from mitosight.tissue import find_tissue

# by hundredths, and from 0.99 on closer and closer: who learned from as many mitoses as others is sure of many
THRESHOLDS = np.concatenate([np.round(np.arange(0.05, 1.0, 0.01), 2), np.round(1 - np.logspace(-2.1, -5, 30), 6)])


class Judge:
    """Validates after an epoch and keeps the best detector, with its threshold, in `out`.

    All regions of `source` whose annotations count are searched for figures. `seen` are batches of the part "val",
    for the losses; it may know fewer scanners. `data` is what the model's provenance says of them.
    """

    def __init__(
        self, recipe: Recipe, source: TileSource, seen: Source, out: Path, device: torch.device, data: dict[str, Any]
    ) -> None:
        self.recipe, self.images, self.seen, self.out, self.device = recipe, source.images, seen, out, device
        self.data = data
        self.regions = [r for r in source.regions if source.is_labelled(r)]
        file = out / checkpoint.FILE
        self.best: dict[str, Any] = checkpoint.read_header(file)["provenance"]["validation"] if file.is_file() else {}

    def __call__(self, detector: Detector, epoch: int) -> dict[str, Any]:
        """Facts of epoch `epoch` (from 0) for the log; {} where it is not validated."""
        settings, epochs = self.recipe.training, self.recipe.optimisation.epochs
        if (epoch + 1) % settings.validate_every and epoch + 1 != epochs:
            return {}
        report = evaluate(self._detect(detector), self.regions, threshold=0.0, bootstrap=0, by_image=False)
        by_scanner = {name: group.aucpr for name, group in report.by_scanner.items() if group.aucpr is not None}
        aucpr = float(np.mean(list(by_scanner.values())))
        losses, scanners = self._losses(detector), len(self.seen.scanners)
        threshold, f1 = operating_point(report)
        facts = {
            "epoch": epoch + 1,
            "selection": detector.selection(aucpr, losses, settings.tiles_per_scanner * scanners, scanners),
            "aucpr": aucpr,
            "f1": f1,
            "threshold": threshold,
            "aucpr_by_scanner": by_scanner,
            "losses": losses,
        }
        if not self.best or facts["selection"] > self.best["selection"]:
            self.best = facts
            detector.threshold = threshold
            recipe = self.recipe
            provenance = {"recipe": recipe.to_json(), "data": self.data, "validation": facts, "versions": versions()}
            checkpoint.save(self.out, detector, recipe.method, recipe.detector, provenance)
        return {k: v for k, v in facts.items() if k not in ("epoch", "losses")}

    def _detect(self, detector: Detector) -> dict[str, Detections]:
        bf16 = self.recipe.optimisation.precision == "bf16"  # as the training; twice as fast, scores to 0.004
        found = {}
        for region in self.regions:
            with Slide(self.images / region.file_name, table_mpp=region.mpp) as slide:
                found[region.file_name] = inference.detect(slide, detector, bf16=bf16, tissue=find_tissue(slide))
        return found

    def _losses(self, detector: Detector) -> dict[str, float]:
        """Loss terms averaged over the validation batches."""
        index = torch.tensor([detector.scanners.index(s) for s in self.seen.scanners])
        sums: dict[str, float] = {}
        detector.eval()
        with torch.inference_mode():
            for i in range(len(self.seen)):
                batch = self.seen[i]
                batch.domain = index[batch.domain]
                for name, value in detector.losses(batch.to(self.device)).items():
                    sums[name] = sums.get(name, 0.0) + float(value) / len(self.seen)
        return sums


def operating_point(report: Report) -> tuple[float, float]:
    """Threshold of the highest F1 averaged over scanners with figures, and that F1; the middle one of equals."""
    curves = [group.curve for group in report.by_scanner.values() if group.curve is not None and group.curve.figures]
    mean = np.mean([curve.f1_at(THRESHOLDS) for curve in curves], axis=0)
    best = np.flatnonzero(mean >= mean.max() - 1e-12)
    middle = best[len(best) // 2]
    return float(THRESHOLDS[middle]), float(mean[middle])
