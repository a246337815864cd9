"""What a trained model says of itself in the cell of a bench: what it saw, what it is, what it took."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mitosight import checkpoint
from mitosight.bench.folds import Fold
from mitosight.bench.protocol import Column
from mitosight.evaluation import Report
from mitosight.methods.detector import Detector
from mitosight.outputs import versions
from mitosight.training import DONE


def made_of(model: Path, detector: Detector, device: torch.device) -> dict[str, Any]:
    """Method, threshold with what it was chosen by, size, and what the training took where its folder says so."""
    run, header = model.with_name(DONE), checkpoint.read_header(model)
    trained = json.loads(run.read_text(encoding="utf-8")) if run.is_file() else {}
    return {
        "method": header["method"],
        "threshold": detector.threshold,
        "validation": header["provenance"].get("validation", {}),
        "parameters": sum(p.numel() for p in detector.parameters()),
        "preparation_seconds": trained.get("preparation_seconds"),
        "training_seconds": trained.get("seconds"),
        "device": trained.get("device", str(device)),
        "versions": versions(),
    }


def domains_of(model: Path, fold: Fold, report: Report, by: Column) -> dict[str, list[str]]:
    """The tested domains that the model had seen in training, and the others."""
    tested = report.by_scanner if by == "scanner" else report.by_tumor_type
    seen = seen_by(checkpoint.read_header(model)["provenance"].get("data", {}), by, fold)
    return {"seen": [d for d in tested if d in seen], "unseen": [d for d in tested if d not in seen]}


def seen_by(told: Mapping[str, Any], by: Column, fold: Fold) -> set[str]:
    """The domains whose labels a model learned from, by what its file says of its data; else those of the fold.

    Those of the model that it started from, too.
    """
    before: set[str] = set()
    if started := told.get("started_from"):
        before = seen_by(started, by, fold)
    if by == "scanner":
        return before | set(told.get("labelled", fold.seen))
    if "labelled_tumors" in told:
        return before | set(told["labelled_tumors"])
    return before | (set(fold.seen) - set(told.get("unlabelled_tumors", ())))
