"""Where a figure of MitDet gets its point from: the activation map in its forms, or the middle of the patch.

    python benchmarks/wang2023_points.py runs/a-wang2023-0/model --data DIR [--part val] --json docs/results/points.json

Searches the images of a part, of the scanners whose labels the model learned from, once for each form with the same
weights and threshold. Prints F1 by the official rule (7.5 µm) and within 3 µm, and how far the points that count are
from the nearest annotated figure within 7.5 µm.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.spatial import cKDTree

from mitosight import checkpoint, inference, regions
from mitosight.detections import Detections
from mitosight.device import choose
from mitosight.evaluation import evaluate
from mitosight.methods.detector import Detector
from mitosight.outputs import write_json
from mitosight.regions import Region
from mitosight.slide import Slide

FORMS = (("difference", 4), ("difference", 1), ("mitosis", 4), ("mitosis", 1), ("none", 1))
RADII_UM = (7.5, 3.0)


def searched(detector: Detector, images: Path, parts: list[Region]) -> dict[str, Detections]:
    """The points of each region, by its file's name."""
    found = {}
    for region in parts:
        with Slide(images / region.file_name, table_mpp=region.mpp) as slide:
            found[region.file_name] = inference.detect(slide, detector)
    return found


def distances_um(found: dict[str, Detections], parts: list[Region], threshold: float) -> np.ndarray:
    """From each point that counts to the nearest figure, where that is within 7.5 µm."""
    told = [np.empty(0)]
    for region in parts:
        points = found[region.file_name]
        xy = points.xy[points.score >= threshold]
        if len(xy) and len(region.figures):
            assert points.mpp is not None
            told.append(cKDTree(region.figures).query(xy)[0] * points.mpp)
    every = np.concatenate(told)
    return every[every <= RADII_UM[0]]


def row(detector: Any, form: tuple[str, int], images: Path, parts: list[Region]) -> dict[str, Any]:
    """Scores of one form."""
    detector.classifier.activation, detector.classifier.turns = form
    found = searched(detector, images, parts)
    f1 = [evaluate(found, parts, threshold=detector.threshold, radius_um=r, bootstrap=0).total.f1 for r in RADII_UM]
    away = distances_um(found, parts, detector.threshold)
    told = {f"f1_{radius:g}_um": value for radius, value in zip(RADII_UM, f1, strict=True)}
    return {"activation": form[0], "turns": form[1], **told, "median_um": float(np.median(away)), "points": len(away)}


def main() -> None:
    """Searches, prints the table, writes it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--part", default="val")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    header = checkpoint.read_header(given.model)
    detector = checkpoint.load(given.model).to(choose(given.device))
    labelled = header["provenance"]["data"]["labelled"]
    folder = regions.load(given.data)
    parts = [r for r in folder.part(given.part) if r.domain.scanner in labelled]
    with torch.inference_mode():
        rows = [row(detector, form, folder.images, parts) for form in FORMS]
    print(
        "| map | turns | F1 within 7.5 µm | F1 within 3 µm | median distance, µm |", "|---|---|---|---|---|", sep="\n"
    )
    for told in rows:
        scores = " | ".join(f"{told[key]:.3f}" for key in ("f1_7.5_um", "f1_3_um"))
        print(f"| {told['activation']} | {told['turns']} | {scores} | {told['median_um']:.2f} |")
    if given.json:
        write_json(
            given.json, {"part": given.part, "threshold": detector.threshold, "labelled": labelled, "rows": rows}
        )


if __name__ == "__main__":
    main()
