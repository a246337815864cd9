"""One cell of the table: a model trained on a fold with a seed, and what it makes of the test images."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import astuple, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from mitosight import adaptation, checkpoint, cohort, modelfile, recipe
from mitosight.bench.content import content
from mitosight.bench.facts import domains_of, made_of
from mitosight.bench.features import plane
from mitosight.bench.folds import Fold, domain_of, folds, parts_of, slugs
from mitosight.bench.protocol import Adaptation, Entry, Protocol
from mitosight.bench.ranking import RANKED, ranked
from mitosight.cohort.record import SUMMARY
from mitosight.detections import Detections
from mitosight.engine import STATE
from mitosight.errors import InputError
from mitosight.evaluation import Report, evaluate
from mitosight.evaluation.sheet import write_sheet
from mitosight.measured import measured
from mitosight.methods.detector import Detector
from mitosight.outputs import alone, whole, whole_folder, write_json
from mitosight.regions import DataFolder, Region, fingerprints, met
from mitosight.tiles import MEASURED
from mitosight.training import train

CELL, SHEET = "cell.json", "sheet.png"
SHOWN = 24  # crops of each kind on a sheet


@dataclass(frozen=True)
class Cell:
    """A model of the protocol on one fold with one seed."""

    entry: Entry
    fold: Fold
    seed: int

    @property
    def place(self) -> str:
        """Its folder below that of the bench."""
        return f"{self.entry.name}/{self.fold.name}/{self.seed}"


@dataclass(frozen=True)
class Bench:
    """Where the cells of a protocol are worked out.

    Attributes:
        out: folder of all cells.
        device: of trainings and searches.
        device_name: by which each worker of a scheduler chooses its own; that of `device` where it is empty.
    """

    protocol: Protocol
    data: DataFolder
    out: Path
    device: torch.device
    device_name: str = ""

    def folder(self, cell: Cell) -> Path:
        """Of one cell."""
        return self.out / "cells" / cell.place

    def key(self, cell: Cell) -> str:
        """Of all that decides a cell's scores: another protocol's cell, or one of other data, has another.

        Recipes and files count by what they hold, not by their names; images by name and size. The version of this
        package is not among them: the results say where cells are of several.
        """
        entry, chosen = cell.entry, self.protocol
        trained = chosen.trained_by(entry)
        told: dict[str, Any] = {
            "trained": content(chosen, trained, cell.fold.settings),
            "lent": {name: content(chosen, chosen.lender(name), cell.fold.settings) for name in trained.share},
            "adapt": entry.adapt.model_dump(mode="json") if entry.adapt else None,
            "rule": [chosen.by, chosen.radius_um, chosen.bootstrap, chosen.features],
            "split": dict(cell.fold.split),
            "seed": cell.seed,
            "measured": MEASURED,
            "data": self.digest,
        }
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()

    @cached_property
    def folds(self) -> list[Fold]:
        """Of the protocol on the data."""
        return folds(self.protocol, self.data)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the regions of the data: annotations, domains, names and sizes of the images."""
        found = hashlib.sha256()
        for r in self.data.regions:
            path = self.data.image_path(r)
            size = path.stat().st_size if path.is_file() else 0
            told = (r.file_name, size, r.slide, astuple(r.domain), r.mpp, r.xy.tolist(), r.label.tolist())
            found.update(json.dumps(told).encode())
        return found.hexdigest()

    def done(self, cell: Cell) -> dict[str, Any] | None:
        """What a finished cell found; None where it is still to be done.

        Raises:
            InputError: the folder holds another cell.
        """
        file = self.folder(cell) / CELL
        if not file.is_file():
            return None
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if found["key"] != self.key(cell):
            raise InputError(file, "is of another protocol or of other data", "choose another --out")
        return found

    def trained(self, cell: Cell) -> Path:
        """The model of a cell: the one that is named, or trained now; a training that was stopped goes on."""
        if cell.entry.model:
            return modelfile.locate(Path(cell.entry.model))
        entry = self.protocol.trained_by(cell.entry)
        own = Cell(entry, cell.fold, cell.seed)
        folder = self.folder(own) / "model"
        for name in entry.share:
            self._lend(Cell(self.protocol.lender(name), cell.fold, cell.seed), own, name)
        for name in entry.across:
            self._lend(Cell(entry, self.folds[0], cell.seed), own, name)
        settings = (*self.protocol.set, *entry.set, *cell.fold.settings, f"training.seed={cell.seed}")
        with alone(folder.parent) if own.place != cell.place else nullcontext():
            model = train(recipe.load(entry.recipe, settings), cell.fold.of(self.data), folder, self.device)
        (folder / STATE).unlink(missing_ok=True)  # three times the model's size, and nothing to go on with
        return model

    def _lend(self, lender: Cell, cell: Cell, name: str) -> None:
        """Copies a preparation from the cell that makes it for others, unless it is the same or has none."""
        lent, taken = (self.folder(c) / "model" / name for c in (lender, cell))
        files = [file for file in sorted(lent.glob("*.safetensors")) if file.name != STATE]
        if lender.place == cell.place or taken.exists() or not files:
            return
        with whole_folder(taken) as temporary:
            for file in files:
                shutil.copyfile(file, temporary / file.name)

    def work(self, cell: Cell) -> dict[str, Any]:
        """Trains, searches and scores a cell; writes its `cell.json` last. What is there already is not repeated.

        Raises:
            InputError: data, recipe or a test image fail.
        """
        if (found := self.done(cell)) is not None:
            return found
        with alone(self.folder(cell)):
            model = self.trained(cell)
            detector = checkpoint.load(model).to(self.device)
            tested = measured(self.data.images, cell.fold.of(self.data).part("test"))
            started, there = time.monotonic(), self._searched_before(cell)
            points, facts = self.searched(cell, model, detector, tested)
            seconds = time.monotonic() - started
            report = self.scored(points, tested, detector.threshold)
            record = {
                "key": self.key(cell),
                "model": cell.entry.name,
                "fold": cell.fold.name,
                "seed": cell.seed,
                **domains_of(model, cell.fold, report, self.protocol.by),
                **made_of(model, detector, self.device),
                "adapted": facts,
                "search_seconds": _for_all(seconds, len(tested), there),
                "scores": report.to_json(),
                RANKED: ranked(points, tested, self.protocol.radius_um),
            }
            if cell.seed == self.protocol.seeds[0]:
                record |= self._looked_at(cell, detector, report)
            write_json(self.folder(cell) / CELL, record)
        return record

    def _found(self, cell: Cell) -> Path:
        """The folder of a cell's points: one for all cells of a trained model that is searched with as it is."""
        own = cell.entry.model and cell.entry.adapt is None
        return (self.out / "cells" / cell.entry.name if own else self.folder(cell)) / "found"

    def _searched_before(self, cell: Cell) -> int:
        """How many images were searched by a run that was stopped, or for another cell."""
        return sum(path.name != SUMMARY for path in self._found(cell).rglob("*.csv"))

    def searched(
        self, cell: Cell, model: Path, detector: Detector, regions: Sequence[Region]
    ) -> tuple[dict[str, Detections], dict[str, Any]]:
        """The points of each test image by name, and what was adapted to what.

        Raises:
            InputError: the first image that failed.
        """
        points: dict[str, Detections] = {}
        facts: dict[str, Any] = {}
        for domain, own in self._parts(cell, regions):
            out = self._found(cell) / domain
            how, used = cell.entry.adapt, (model, detector)
            prepare = None if how is None else self._adaptation(cell, how, used, own, out)
            points |= cohort.search_regions(self.data, own, model, detector, out, prepare)
            told = json.loads((out / "run.json").read_text(encoding="utf-8")).get("adapted", {})
            name_of = {str(self.data.image_path(region).resolve()): region.file_name for region in own}
            facts |= {name_of.get(slide, slide): fact for slide, fact in told.items()}
        return points, facts

    def _parts(self, cell: Cell, regions: Sequence[Region]) -> Iterator[tuple[str, list[Region]]]:
        """The test images in one part, or by domain where a model adapts to those of a domain together."""
        if cell.entry.adapt is None or not cell.entry.adapt.together:
            yield "all", list(regions)
            return
        for domain, name in slugs(sorted({domain_of(r, self.protocol.by) for r in regions})).items():
            yield name, [r for r in regions if domain_of(r, self.protocol.by) == domain]

    def _adaptation(
        self,
        cell: Cell,
        how: Adaptation,
        used: tuple[Path, Detector],
        regions: Sequence[Region],
        out: Path,
    ) -> cohort.Preparation:
        """What adapts the detector before a search; its memory lies beside a copy of the model in the cell's folder."""
        model, detector = self.folder(cell) / "memory" / modelfile.FILE, used[1]
        if not model.is_file():
            with whole(model) as temporary:
                shutil.copyfile(used[0], temporary)
        if not model.with_name(adaptation.FILE).is_file():
            choice = adaptation.Choice(how.samples, how.mitotic)
            adaptation.remember(model, cell.fold.of(self.data), choice, self.device)
        names = ("lr", "epochs", "guard", "keep_norm", "bf16")
        settings = adaptation.Settings(**{name: getattr(how, name) for name in names}, seed=cell.seed)
        each = adaptation.Each(detector, adaptation.recalled(model), settings)
        if not how.together:
            return each
        paths = [self.data.image_path(region) for region in regions]
        return adaptation.Together(each, paths, cohort.settings_of(self.data, regions), used[0], out)

    def scored(self, points: dict[str, Detections], regions: Sequence[Region], threshold: float) -> Report:
        """Scores by the protocol's rule."""
        rule = self.protocol
        return evaluate(points, regions, threshold=threshold, radius_um=rule.radius_um, bootstrap=rule.bootstrap)

    def _looked_at(self, cell: Cell, detector: Detector, report: Report) -> dict[str, Any]:
        """Draws the sheet of hits, false points and misses; returns where the features of scanners lie, or why not."""
        asked = self.protocol
        files = {region.file_name: self.data.image_path(region) for region in self.data.regions}
        write_sheet(self.folder(cell) / SHEET, report, files, SHOWN, SHOWN)
        if not asked.features or cell.entry.adapt is not None:
            return {"features": {}}
        parts = parts_of(asked, self.data)
        judged = fingerprints(slide for region in parts["test"] for slide in region.slides)
        other = parts["train" if asked.tested == "val" and not asked.held_out else "val"]
        fitted_on = [region for region in other if not met(region.slides, judged)]
        found = plane(detector, self.data.images, fitted_on, parts["test"], asked.features)
        return {"features": {}, "features_missing": found["missing"]} if "missing" in found else {"features": found}


def _for_all(seconds: float, images: int, before: int) -> float | None:
    """What the search of all images takes, from the `seconds` for those that were not searched `before`."""
    return round(seconds * images / (images - before), 1) if images > before else None
