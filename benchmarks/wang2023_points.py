"""Where a figure of MitDet gets its point from: the activation map in its forms, or the middle of the patch.

    python benchmarks/wang2023_points.py runs/a-wang2023-0/model --data DIR [--part val] --json docs/results/points.json

Searches the images of a part, of the scanners whose labels the model learned from, once for each form with the same
weights and threshold. Prints F1 by the official rule (7.5 µm) and within 3 µm, and how far the points that count are
from the nearest annotated figure within 7.5 µm. With `--patches`, in a twentieth of the time, only the patches around
candidates on figures are looked at, and how far the points of those that are found are from the nearest figure.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.spatial import cKDTree

from mitosight import checkpoint, inference, pool, regions
from mitosight.detections import Detections
from mitosight.device import choose
from mitosight.evaluation import evaluate
from mitosight.methods.detector import Detector
from mitosight.outputs import write_json
from mitosight.patches import PatchSource, candidates_of
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


def on_figures(detector: Any, images: Path, parts: list[Region]) -> PatchSource:
    """The patches around the candidates that lie on a figure, each once."""
    read = detector.mpp, detector.mpp_tolerance
    every = pool.joined([candidates_of(k, r, images, detector.finder, True, *read) for k, r in enumerate(parts)])
    chosen = np.flatnonzero(detector.labels(every) == pool.POSITIVE)
    scanners = sorted({region.domain.scanner for region in parts})
    label = np.ones(len(chosen), np.int64)
    how = {"patch_px": detector.patch_px, "size": 64, "mpp": read[0], "mpp_tolerance": read[1]}
    return PatchSource(images, parts, scanners, every, chosen, label, label > 0, **how)


def patch_row(detector: Any, form: tuple[str, int], source: PatchSource) -> dict[str, Any]:
    """How far the points of one form are from the nearest figure, in px of the patch, where one is found."""
    detector.classifier.activation, detector.classifier.turns = form
    detector.eval()
    device, away, done = next(detector.parameters()).device, [], 0
    for i in range(len(source)):
        images = source[i].images.to(device)
        for points in detector.decode(detector.network(images), (source.patch_px, source.patch_px)):
            candidate = int(source.chosen[done])
            done += 1
            if len(points) and points.score[0] >= detector.threshold:
                figures = source.inside(candidate, source.regions[source.pool.region[candidate]].figures)
                away.append(float(np.linalg.norm(figures - points.xy[0], axis=1).min()))
    told = {"median_px": float(np.median(away)), "most_of_ninety_px": float(np.quantile(away, 0.9))}
    return {"activation": form[0], "turns": form[1], "found": len(away), "of": done, **told}


def shown(rows: list[dict[str, Any]]) -> None:
    """Prints the rows as a table."""
    keys = [key for key in rows[0] if key not in ("activation", "turns")]
    print("| map | turns | " + " | ".join(key.replace("_", " ") for key in keys) + " |")
    print("|---|---|" + "---|" * len(keys))
    for told in rows:
        values = " | ".join(f"{told[key]:.3g}" for key in keys)
        print(f"| {told['activation']} | {told['turns']} | {values} |")


def main() -> None:
    """Searches, prints the table, writes it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--part", default="val")
    parser.add_argument("--patches", action="store_true", help="only those around candidates on figures")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    header = checkpoint.read_header(given.model)
    detector = checkpoint.load(given.model).to(choose(given.device))
    labelled = header["provenance"]["data"]["labelled"]
    folder = regions.load(given.data)
    parts = [r for r in folder.part(given.part) if r.domain.scanner in labelled]
    with torch.inference_mode():
        if given.patches:
            source = on_figures(detector, folder.images, parts)
            rows = [patch_row(detector, form, source) for form in FORMS]
        else:
            rows = [row(detector, form, folder.images, parts) for form in FORMS]
    shown(rows)
    if given.json:
        write_json(
            given.json, {"part": given.part, "threshold": detector.threshold, "labelled": labelled, "rows": rows}
        )


if __name__ == "__main__":
    main()
