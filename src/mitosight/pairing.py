"""A first look for a model: a coarser model, with the threshold that loses no more figures than it may."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from mitosight import checkpoint, inference, modelfile
from mitosight.detections import Detections
from mitosight.errors import InputError, UsageError
from mitosight.methods.detector import Detector
from mitosight.outputs import sha256
from mitosight.regions import DataFolder, Region
from mitosight.slide import Slide
from mitosight.tissue import find_tissue

FOLDER = modelfile.FIRST
RADIUS_UM = 5.0  # a figure is seen by a point this near, which the second look then has well within its reach


@dataclass(frozen=True)
class First:
    """How a first look was set.

    Attributes:
        of: SHA-256 of the model that looks second.
        recall: share of the annotated figures that the threshold keeps; `asked` is what it had to be.
        figures: that it was set on, and `regions` in which they lie.
        per_mm2: places that are looked at again, in these regions.
    """

    of: str
    asked: float
    recall: float
    figures: int
    regions: int
    per_mm2: float


def pair(model: Path, coarse: Path, data: DataFolder, asked: float, device: torch.device) -> tuple[Path, First]:
    """Makes a coarser model the first look of `model`, in `first/` beside its file; returns the file and the facts.

    The threshold is the highest by which the coarse model sees the share `asked` of the figures in the part "val", of
    the scanners whose annotations the model was trained with.

    Raises:
        UsageError: `asked` is no share, or the coarse model is not coarser.
        InputError: a model cannot be used, there is no figure, or the coarse model sees too few at any score.
    """
    file, first = modelfile.locate(model), modelfile.locate(coarse)
    if not 0 < asked <= 1:
        raise UsageError(None, f"--recall is {asked:g}", "expected more than 0, at most 1")
    header, own = checkpoint.read_header(file), checkpoint.read_header(first)
    detector = checkpoint.load(first).to(device)
    fine = checkpoint.load(file).mpp
    if detector.mpp <= fine:
        raise UsageError(first, f"works at {detector.mpp:g} µm/px, the model at {fine:g}", "expected a coarser one")
    labelled = header["provenance"].get("data", {}).get("labelled")
    regions = [r for r in data.part("val") if len(r.figures) and (labelled is None or r.domain.scanner in labelled)]
    if not regions:
        raise InputError(None, "the part val holds no figure of the model's scanners", "give the data of its training")
    found, area_mm2 = _found(detector, regions, data)
    seen = np.concatenate([best_scores(r.figures, points) for r, points in zip(regions, found, strict=True)])
    threshold, recall = threshold_for(seen, asked, first)
    places = sum(int((points.score >= threshold).sum()) for points in found)
    facts = First(sha256(file), asked, recall, len(seen), len(regions), places / area_mm2)
    detector.threshold = threshold
    provenance = {**own["provenance"], "first": asdict(facts)}
    return checkpoint.save(file.parent / FOLDER, detector, own["method"], own["arguments"], provenance), facts


def best_scores(figures: NDArray[np.float64], points: Detections) -> NDArray[np.float64]:
    """(n,) for each of the figures (n, 2) the highest score of a point within 5 µm, 0 without one; level-0 px."""
    assert points.mpp is not None
    if not len(points):
        return np.zeros(len(figures))
    near = cKDTree(points.xy).query_ball_point(figures, RADIUS_UM / points.mpp)
    return np.array([points.score[index].max() if index else 0.0 for index in near])


def threshold_for(seen: NDArray[np.float64], asked: float, first: Path) -> tuple[float, float]:
    """The highest score that keeps the share `asked` of the figures, and the share that it keeps.

    Raises:
        InputError: fewer were seen at any score.
    """
    least = int(np.ceil(asked * len(seen) - 1e-9))
    threshold = float(np.sort(seen)[::-1][least - 1])
    if threshold <= 0:
        share = float((seen > 0).mean())
        raise InputError(
            first,
            f"sees {share:.3f} of the figures at any score, less than {asked:g}",
            "train it longer, or ask for less",
        )
    return threshold, float((seen >= threshold).mean())


def _found(detector: Detector, regions: list[Region], data: DataFolder) -> tuple[list[Detections], float]:
    found, area_mm2 = [], 0.0
    for region in regions:
        with Slide(data.image_path(region), table_mpp=region.mpp) as slide:
            found.append(inference.detect(slide, detector, tissue=find_tissue(slide)))
            area_mm2 += slide.width_px * slide.height_px * (slide.mpp / 1000) ** 2
    return found, area_mm2
