"""One training, from recipe and data folder to a checkpoint with its operating point."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mitosight import checkpoint, inference
from mitosight.dataset import TileSource
from mitosight.detections import Detections
from mitosight.engine import fit, process
from mitosight.errors import InputError, UsageError
from mitosight.evaluation import Report, evaluate
from mitosight.log import RunLog
from mitosight.measured import measured
from mitosight.methods import METHODS, arguments, create
from mitosight.methods.detector import Detector
from mitosight.outputs import versions, write_json, write_run
from mitosight.recipe import Recipe
from mitosight.regions import DataFolder, Region
from mitosight.slide import Slide

THRESHOLDS = np.round(np.arange(0.05, 1.0, 0.01), 2)


def train(recipe: Recipe, data: DataFolder, out: Path, device: torch.device) -> Path:
    """Trains a recipe on the parts "train" and "val" of a data folder; returns the model file in `out`.

    `out` also gets `recipe.json`, `log.jsonl`, `state.safetensors` (for resuming; a training that is called again
    goes on where its last epoch ended) and, at the end, `run.json`.

    Raises:
        InputError: parts, scanners or figures are missing, an image cannot be read, a loss is not finite, or `out`
            holds another training.
    """
    rank, processes = process()
    settings = recipe.training
    regions = data.part("train")
    scanners = list(settings.scanners) or sorted({r.domain.scanner for r in regions})
    labelled = list(settings.labelled_scanners) or [s for s in scanners if _annotated(regions, s)]
    if wrong := [s for s in labelled if s not in scanners]:
        raise InputError(None, f"labelled scanner {wrong[0]!r} is no training scanner", f"those are {scanners}")
    if not METHODS[recipe.method].uses_unlabelled:
        scanners = labelled
    regions = measured(data.images, [r for r in regions if r.domain.scanner in scanners])
    validation = measured(data.images, [r for r in data.part("val") if r.domain.scanner in scanners])
    torch.manual_seed(settings.seed)
    detector = create(recipe.method, scanners, recipe.detector)
    source = _source(recipe, detector, data.images, regions, scanners, labelled)
    judge = _Judge(recipe, data.images, validation, scanners, labelled, out, device)
    _claim(recipe, out)
    log = RunLog(out, quiet=rank > 0)
    started = time.time()
    log.say(
        f"{recipe.method} on {', '.join(scanners)}; labelled: {', '.join(labelled)}; {device}, {processes} process(es)"
    )
    for line in detector.prepare(source):
        log.say(line)
    detector.to(device).to(memory_format=torch.channels_last)
    fit(
        detector,
        source,
        recipe.optimisation,
        log,
        seed=settings.seed,
        workers=settings.workers,
        after_epoch=lambda epoch: judge(detector, epoch) if rank == 0 else {},
    )
    if rank == 0:
        best = judge.best
        log.say(
            f"kept epoch {best['epoch']}: aucpr {best['aucpr']:.4f}, f1 {best['f1']:.4f} at {best['threshold']:.2f}"
        )
        seconds = round(time.time() - started, 1)
        write_run(out, recipe=recipe.to_json(), device=str(device), seconds=seconds, validation=best)
    log.close()
    if processes > 1:
        torch.distributed.destroy_process_group()
    return out / checkpoint.FILE


class _Judge:
    """Validates after an epoch and keeps the best detector, with its threshold, in `out`."""

    def __init__(
        self,
        recipe: Recipe,
        images: Path,
        regions: Sequence[Region],
        scanners: Sequence[str],
        labelled: Sequence[str],
        out: Path,
        device: torch.device,
    ) -> None:
        self.recipe, self.images, self.out, self.device = recipe, images, out, device
        self.scanners = scanners
        self.regions = [r for r in regions if r.domain.scanner in labelled]
        if not any(len(r.figures) for r in self.regions):
            raise InputError(
                None, "the part 'val' holds no mitotic figure of a labelled scanner", "a threshold needs some"
            )
        self.every = list(regions)
        self.labelled = labelled
        file = out / checkpoint.FILE
        self.best: dict[str, Any] = checkpoint.read_header(file)["provenance"]["validation"] if file.is_file() else {}

    def __call__(self, detector: Detector, epoch: int) -> dict[str, Any]:
        settings, epochs = self.recipe.training, self.recipe.optimisation.epochs
        if (epoch + 1) % settings.validate_every and epoch + 1 != epochs:
            return {}
        detections = self._detect(detector)
        report = evaluate(detections, self.regions, threshold=0.0, bootstrap=0, by_image=False)
        by_scanner = {name: group.aucpr for name, group in report.by_scanner.items() if group.aucpr is not None}
        aucpr = float(np.mean(list(by_scanner.values())))
        losses, tiles = self._losses(detector)
        threshold, f1 = _operating_point(report)
        facts = {
            "epoch": epoch + 1,
            "selection": detector.selection(aucpr, losses, tiles),
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
            every = {**arguments(recipe.method), **recipe.detector}  # defaults too: they may change, the model must not
            provenance = {"recipe": recipe.to_json(), "validation": facts, "versions": versions()}
            checkpoint.save(self.out, detector, recipe.method, every, provenance)
        return {k: v for k, v in facts.items() if k not in ("epoch", "losses")}

    def _detect(self, detector: Detector) -> dict[str, Detections]:
        found = {}
        for region in self.regions:
            with Slide(self.images / region.file_name, table_mpp=region.mpp) as slide:
                bf16 = self.recipe.optimisation.precision == "bf16"
                found[region.file_name] = inference.detect(slide, detector, bf16=bf16)
        return found

    def _losses(self, detector: Detector) -> tuple[dict[str, float], int]:
        """Loss terms averaged over validation batches of the scanners that the validation part holds."""
        present = [s for s in self.scanners if any(r.domain.scanner == s for r in self.every)]
        source = _source(self.recipe, detector, self.images, self.every, present, self.labelled, validation=True)
        sums: dict[str, float] = {}
        detector.eval()
        with torch.inference_mode():
            for index in range(len(source)):
                batch = source[index].to(self.device)
                batch.domain = torch.tensor([self.scanners.index(present[d]) for d in batch.domain.tolist()]).to(
                    self.device
                )
                for name, value in detector.losses(batch).items():
                    sums[name] = sums.get(name, 0.0) + float(value) / len(source)
        return sums, self.recipe.training.tiles_per_scanner * len(present)


def _source(
    recipe: Recipe,
    detector: Detector,
    images: Path,
    regions: Sequence[Region],
    scanners: Sequence[str],
    labelled: Sequence[str],
    validation: bool = False,
) -> TileSource:
    settings, steps = recipe.training, recipe.optimisation
    tile_px = settings.crop_px or detector.tile_px
    if tile_px < detector.least_tile_px:
        raise UsageError(
            None, f"training tiles of {tile_px} px", f"{recipe.method} needs {detector.least_tile_px} px or more"
        )
    return TileSource(
        images,
        regions,
        scanners,
        labelled,
        tile_px=tile_px,
        mpp=detector.mpp,
        mpp_tolerance=detector.mpp_tolerance,
        tiles_per_scanner=settings.tiles_per_scanner,
        near_figure=settings.near_figure,
        near=settings.near,
        seed=settings.seed + (1_000_000 if validation else 0),
        augment=None if validation else detector.augmentation,
        length=settings.validation_batches if validation else steps.epochs * steps.steps_per_epoch * process()[1],
    )


def _operating_point(report: Report) -> tuple[float, float]:
    """Threshold of the highest F1 averaged over scanners with figures, and that F1; the middle one of equals."""
    curves = [group.curve for group in report.by_scanner.values() if group.curve is not None and group.curve.figures]
    mean = np.mean([curve.f1_at(THRESHOLDS) for curve in curves], axis=0)
    best = np.flatnonzero(mean >= mean.max() - 1e-12)
    middle = best[len(best) // 2]
    return float(THRESHOLDS[middle]), float(mean[middle])


def _annotated(regions: Sequence[Region], scanner: str) -> bool:
    return any(len(r.label) for r in regions if r.domain.scanner == scanner)


def _claim(recipe: Recipe, out: Path) -> None:
    """Makes `out` the folder of this training; refuses one that holds another."""
    file = out / "recipe.json"
    wanted = json.loads(json.dumps(recipe.to_json()))
    if file.is_file():
        if json.loads(file.read_text(encoding="utf-8")) != wanted:
            raise InputError(out, "holds the training of another recipe", "choose another --out or remove it")
        return
    write_json(file, wanted)
