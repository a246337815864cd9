"""One training, from recipe and data folder to a checkpoint with its operating point."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mitosight import checkpoint, modelfile, seen
from mitosight.dataset import TileSource, check_sizes
from mitosight.device import described
from mitosight.engine import STATE, fit, leave, process
from mitosight.errors import InputError, UsageError
from mitosight.log import RunLog
from mitosight.material import Material, gather
from mitosight.measured import measured
from mitosight.methods import METHODS, create
from mitosight.methods.detector import Detector, Source
from mitosight.outputs import sha256, write_json, write_run
from mitosight.recipe import TABLES, Recipe, parse
from mitosight.regions import DataFolder
from mitosight.starting import start_from
from mitosight.validation import Judge
from mitosight.workshop import Workshop

RECIPE, DONE = "recipe.json", "run.json"
PREPARED = "preparation.json"  # seconds that the preparation has taken
Watch = Callable[[int, dict[str, Any]], None]


def train(
    recipe: Recipe,
    data: DataFolder,
    out: Path,
    device: torch.device,
    watch: Watch | None = None,
) -> Path:
    """Trains a recipe on the parts "train" and "val" of a data folder; returns the model file in `out`.

    `out` also gets `recipe.json`, `log.jsonl`, `state.safetensors` (for resuming; a training that is called again
    goes on where its last epoch ended) and, at the end, `run.json`; a finished training is left as it is. Nothing is
    written before recipe, annotations and images are known to be good. `watch` gets each validated epoch (from 0)
    and what was found; what it raises ends the training.

    Raises:
        InputError: parts, scanners or figures are missing, an image cannot be read, a loss is not finite, `out` holds
            another training, or a file that the recipe names is not there or does not say what it learned from.
    """
    material = gather(recipe, data)
    recipe, detector = _made(recipe, material)
    recipe = _starting(recipe)
    claim = _claimed(recipe, material)
    if _finished(out, claim):
        if process()[0] == 0:
            print(f"{out}: this training is finished, nothing is left to do", file=sys.stderr)
        return out / checkpoint.FILE
    given = seen.given(recipe)
    begin = partial(_claim, out, claim)
    workshop = lend(recipe, data.images, material, detector, out, device, begin)
    workshop.met |= {slide for one in given for slide in one.slides}
    started = time.monotonic()
    prepared = detector.prepare(workshop)
    batches = detector.batches(workshop, "train")
    spent = time.monotonic() - started
    if start := recipe.training.start:
        prepared = [*prepared, start_from(detector, start), *detector.started()]
    facts = seen.facts_with(material.facts(), given, workshop.met)
    judge = Judge(recipe, workshop.seen, detector.batches(workshop, "val"), out, device, facts)
    begin()
    spent = _with_earlier(out, spent)
    log = RunLog(out, quiet=process()[0] > 0)
    try:
        for line in (_told(recipe, material, device), *prepared):
            log.say(line)
        _fit(recipe, detector, batches, judge, log, watch, preparation_seconds=round(spent, 1))
    finally:
        log.close()
        leave()
    return out / checkpoint.FILE


def _made(recipe: Recipe, material: Material) -> tuple[Recipe, Detector]:
    """The detector as it starts, and the recipe with what the data decide."""
    torch.manual_seed(recipe.training.seed)
    told = METHODS[recipe.method].told_by_data(recipe.detector, material.domains())
    return replace(recipe, detector=told), create(recipe.method, material.scanners, told)


def _starting(recipe: Recipe) -> Recipe:
    """The recipe with the file that it starts from in full: from another folder it is the same training."""
    start = recipe.training.start
    if not start:
        return recipe
    file = modelfile.locate(start)
    modelfile.read_header(file)  # says so where it is no model
    return replace(recipe, training=replace(recipe.training, start=str(file.resolve())))


def _claimed(recipe: Recipe, material: Material) -> dict[str, Any]:
    """What tells a training from others: its recipe, its data, the model that it starts from."""
    start = recipe.training.start
    started = {"start_sha256": sha256(start)} if start else {}
    return {**recipe.to_json(), "data_sha256": material.digest(), **started}


def _claim(out: Path, claim: dict[str, Any]) -> None:
    """Says in `out` whose training it is; before that nothing is written."""
    if process()[0] == 0:
        write_json(out / RECIPE, claim)


def _with_earlier(out: Path, seconds: float) -> float:
    """The `seconds` of a preparation and those of earlier sessions that came to its end, which are kept in `out`."""
    if process()[0] > 0:
        return seconds
    file = out / PREPARED
    earlier = json.loads(file.read_text(encoding="utf-8"))["seconds"] if file.is_file() else 0.0
    write_json(file, {"seconds": round(earlier + seconds, 1)})
    return float(earlier + seconds)


def _told(recipe: Recipe, material: Material, device: torch.device) -> str:
    scanners, labelled = ", ".join(material.scanners), ", ".join(material.labelled)
    return f"{recipe.method} on {scanners}; labelled: {labelled}; {device}, {process()[1]} process(es)"


def _fit(
    recipe: Recipe,
    detector: Detector,
    batches: Source,
    judge: Judge,
    log: RunLog,
    watch: Watch | None,
    **facts: Any,
) -> None:
    """Trains a prepared detector; the first of several processes also validates, and writes `run.json` with `facts`."""
    first = process()[0] == 0

    def validate(epoch: int) -> dict[str, Any]:
        scores = judge(detector, epoch) if first else {}
        if scores and watch is not None:
            watch(epoch, scores)
        return scores

    detector.to(judge.device).to(memory_format=torch.channels_last)
    how = {"seed": recipe.training.seed, "workers": recipe.training.workers}
    seconds = fit(detector, batches, recipe.optimisation, log, after_epoch=validate, **how)
    if first:
        best = judge.best
        told = f"aucpr {best['aucpr']:.4f}, f1 {best['f1']:.4f} at {best['threshold']:.6g}"
        log.say(f"kept epoch {best['epoch']}: {told}")
        facts |= {"device": described(judge.device), "seconds": round(seconds, 1), "validation": best}
        write_run(judge.out, recipe=recipe.to_json(), **facts)


def lend(
    recipe: Recipe,
    images: Path,
    material: Material,
    detector: Detector,
    out: Path,
    device: torch.device,
    begin: Callable[[], None],
) -> Workshop:
    """The workshop of a training: where tiles are drawn from, for itself, its validation and its preparation.

    Every image was opened. `begin` is called before the workshop writes anything.

    Raises:
        InputError: an image cannot be read or is too small.
        UsageError: the training tiles are too small for the method.
    """
    side_px = recipe.training.crop_px or detector.tile_px
    if side_px < detector.least_tile_px:
        raise UsageError(
            None, f"training tiles of {side_px} px", f"{recipe.method} needs {detector.least_tile_px} px or more"
        )
    train, val = measured(images, material.train), measured(images, material.val)
    searched = [r for r in val if material.counts(r)]
    check_sizes(images, searched, detector.tile_px, detector.mpp, detector.mpp_tolerance)
    steps = recipe.optimisation
    drawn, scanners = train, material.scanners
    if METHODS[recipe.method].uses_unlabelled != "training":
        drawn, scanners = [r for r in train if material.counts(r)], material.labelled
    source = TileSource(
        images,
        drawn,
        scanners,
        material.labelled,
        tile_px=side_px,
        mpp=detector.mpp,
        mpp_tolerance=detector.mpp_tolerance,
        tiles_per_scanner=recipe.training.tiles_per_scanner,
        near_figure=recipe.training.near_figure,
        near=recipe.training.near,
        background=recipe.training.background,
        unlabelled_tumors=material.unlabelled_tumors,
        seed=recipe.training.seed,
        augment=detector.augmentation,
        standardised=detector.standardised,
        length=steps.epochs * steps.steps_per_epoch * process()[1],
    )
    present = [s for s in scanners if any(r.domain.scanner == s for r in val)]
    seen = replace(
        source,
        regions=val,
        scanners=present,
        seed=recipe.training.seed + 1_000_000,
        augment=None,
        length=recipe.training.validation_batches,
    )
    every = replace(source, regions=train, scanners=material.scanners)
    return Workshop(source, seen, every, out, device, recipe.training.seed, recipe.training.workers, begin)


def _finished(out: Path, claim: dict[str, Any]) -> bool:
    """Whether `out` holds this training, finished; refuses a folder that holds another."""
    file = out / RECIPE
    if out.exists() and not out.is_dir():
        raise UsageError(out, "is a file", "--out names a folder")
    if (out / "summary.csv").exists():
        raise UsageError(out, "holds results of mitosight detect", "choose another --out")
    if not file.is_file():
        if there := [name for name in (checkpoint.FILE, STATE) if (out / name).exists()]:
            raise InputError(out, f"holds {there[0]} without {RECIPE}", "choose another --out")
        return False
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        found |= parse({key: found[key] for key in ("method", *TABLES)}).to_json()  # with settings that came later
        found = json.loads(json.dumps(found))
        differing = [key for key, value in json.loads(json.dumps(claim)).items() if found.get(key) != value]
    except (OSError, ValueError, AttributeError, KeyError, TypeError, UsageError):
        raise InputError(file, "is no recipe of mitosight train", "choose another --out") from None
    if differing:
        what = "this recipe on other data" if differing == ["data_sha256"] else "another recipe"
        raise InputError(out, f"holds a training of {what} ({', '.join(differing)} differ)", "choose another --out")
    return (out / DONE).is_file() and (out / checkpoint.FILE).is_file()
