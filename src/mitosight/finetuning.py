"""A trained model goes on learning from a lab's own annotated regions; scored before and after on regions apart."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mitosight import checkpoint, cohort, modelfile, recipe, seen, starting
from mitosight.detections import Detections
from mitosight.errors import InputError, UsageError
from mitosight.evaluation import Report, evaluate
from mitosight.material import gather
from mitosight.measured import measured
from mitosight.methods import METHODS
from mitosight.outputs import write_json
from mitosight.recipe import Recipe
from mitosight.regions import DataFolder, Region, met
from mitosight.regions.checks import listed
from mitosight.training import train
from mitosight.validation import operating_point

EPOCHS, STEPS, SLOWER = 10, 30, 10.0  # of a fine-tuning; the learning rate is that of the model's training through 10
MODEL, BEFORE, AFTER, TABLE = "model", "before", "after", "finetune.json"
AS_IT_IS, RE_THRESHOLD, TUNED = "as it is", "its threshold chosen on val", "fine-tuned"


@dataclass(frozen=True)
class Tuned:
    """What came of a fine-tuning: the model file, and reports on the part "test" by what was done."""

    file: Path
    reports: Mapping[str, Report]


def recipe_of(model: Path, data: DataFolder, settings: Iterable[str] = ()) -> Recipe:
    """The recipe by which a model goes on learning from other data: its own, shorter and slower, from its weights.

    Style transfers of its training are left out, and what its training took from its data (scanners, classes) is
    taken from the new data.

    Args:
        settings: key=value over it, as `recipe.load` takes them.

    Raises:
        UsageError: a setting that is not accepted, or a method that cannot start from a model.
        InputError: the file is no model, or does not say how it was trained.
    """
    file, header = modelfile.locate(model), checkpoint.read_header(model)
    method = METHODS[header["method"]]
    starting.check(method)
    told = header["provenance"].get("recipe")
    if not isinstance(told, dict) or not told.keys() >= {"training", "optimisation"}:
        raise InputError(file, "does not say how it was trained", "train it with this version")
    named = {
        c: sorted({getattr(r.domain, c) for r in data.part("train")}) for c in ("scanner", "tumor_type", "species")
    }
    decided = method.told_by_data({}, named)
    own: dict[str, Any] = {k: v for k, v in header["arguments"].items() if k not in decided and v is not None}
    own |= {k: v for k, v in {"weights": "none", "restyle": 0.0, "style": ""}.items() if k in own}
    training = {
        **told["training"],
        "scanners": [],
        "labelled_scanners": [],
        "unlabelled_tumors": [],
        "start": str(file.resolve()),
    }
    steps = {**told["optimisation"], "epochs": EPOCHS, "steps_per_epoch": STEPS}
    steps |= {"lr": told["optimisation"]["lr"] / SLOWER, "warmup_steps": 0}
    table = {"method": header["method"], "detector": own, "training": training, "optimisation": steps}
    return recipe.parse(table, file, settings)


def finetune(model: Path, asked: Recipe, data: DataFolder, out: Path, device: torch.device) -> Tuned:
    """Trains on the parts "train" and "val", and scores the model before and after on the part "test", if there is one.

    Writes `out/model/`, the points of both in `out/before/` and `out/after/`, and `out/finetune.json`. What was stopped
    goes on when it is called again.

    Raises:
        UsageError: `out` is the model's folder.
        InputError: the model has seen a slide of the part "test", or does not say which slides it has; or as
            `training.train` and `cohort.detect_slides`.
    """
    file = modelfile.locate(model)
    if out.resolve() == file.parent.resolve():
        raise UsageError(out, "is the folder of the model", "choose another --out")
    tested = data.part("test") if "test" in data.split else []
    _check_unseen(file, tested)
    tested = measured(data.images, tested)
    material = gather(asked, data)
    val = measured(data.images, [region for region in material.val if material.counts(region)])
    tuned = train(asked, data, out / MODEL, device)
    if not tested or os.environ.get("RANK", "0") != "0":  # of several processes one compares
        return Tuned(tuned, {})
    reports = _compared(file, tuned, tested, val, data, out, device)
    write_json(out / TABLE, {name: report.to_json() for name, report in reports.items()})
    return Tuned(tuned, reports)


def _check_unseen(file: Path, tested: Iterable[Region]) -> None:
    known = seen.model(file).slides  # raises where the model does not say
    if names := met((slide for region in tested for slide in region.slides), known):
        raise InputError(
            file, f"has learned from slides of the part 'test': {listed(names)}", "test on slides that it never saw"
        )


def _compared(
    before: Path,
    after: Path,
    tested: list[Region],
    val: list[Region],
    data: DataFolder,
    out: Path,
    device: torch.device,
) -> dict[str, Report]:
    """Reports on `tested` of both models, and of the first with the threshold that `val` would have it have."""
    found = _found(before, [*tested, *val], data, out / BEFORE, device)
    on_val = evaluate(_of(found, val), val, threshold=0.0, bootstrap=0, by_image=False)
    points, tuned = _of(found, tested), _of(_found(after, tested, data, out / AFTER, device), tested)
    return {
        AS_IT_IS: evaluate(points, tested, threshold=_threshold(before)),
        RE_THRESHOLD: evaluate(points, tested, threshold=operating_point(on_val)[0]),
        TUNED: evaluate(tuned, tested, threshold=_threshold(after)),
    }


def _threshold(file: Path) -> float:
    return float(checkpoint.read_header(file)["threshold"])


def _of(found: Mapping[str, Detections], regions: Iterable[Region]) -> dict[str, Detections]:
    return {region.file_name: found[region.file_name] for region in regions}


def _found(
    file: Path, regions: Sequence[Region], data: DataFolder, out: Path, device: torch.device
) -> dict[str, Detections]:
    return cohort.search_regions(data, regions, file, checkpoint.load(file).to(device), out)
