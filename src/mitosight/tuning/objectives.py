"""What is tuned: a training by its validation, and the adaptation on a scanner that was left out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from mitosight import checkpoint, inference, recipe
from mitosight.adaptation import FILE as MEMORY
from mitosight.adaptation import Choice, Each, Settings, Unguarded, check_recipe, recalled, remember
from mitosight.detections import Detections
from mitosight.engine import STATE
from mitosight.errors import InputError, UsageError
from mitosight.evaluation import evaluate
from mitosight.material import gather
from mitosight.recipe import Recipe
from mitosight.regions import DataFolder, Region
from mitosight.slide import Slide
from mitosight.tissue import find_tissue
from mitosight.training import DONE, train
from mitosight.tuning.study import Range, Report, Values

CANDIDATES = "candidates"  # of the training and validation regions; the same for all trials unless a finder is tuned
TUNABLE = ("lr", "epochs", "batch")
MEASURES = ("aucpr", "f1", "selection")


class Training:
    """Trains a recipe with other values; scored by its kept checkpoint on the part "val".

    Attributes:
        name, settings: of the recipe, as `recipe.load` takes them.
        by: what of the validation is the score: "aucpr" (areas under the precision-recall curve, averaged over
            scanners), "f1" (at the best threshold), or "selection" (what the method keeps its checkpoint by).
    """

    def __init__(
        self, name: str, settings: Sequence[str], data: DataFolder, device: torch.device, by: str = "aucpr"
    ) -> None:
        if by not in MEASURES:
            raise UsageError(None, f"--by is {by}", f"accepted are {', '.join(MEASURES)}")
        self.name, self.settings, self.data, self.device, self.by = name, list(settings), data, device, by

    def recipe(self, values: Values) -> Recipe:
        """The recipe with the values of a trial."""
        return recipe.load(self.name, [*self.settings, *(f"{key}={value!r}" for key, value in values.items())])

    def __call__(self, values: Values, folder: Path, report: Report) -> float:
        """Trains in `folder`, of which model and log stay; candidates that one trial found serve the others."""
        shared = folder.parent / CANDIDATES
        share = not any("finder" in key for key in values)
        if share and shared.is_dir():
            shutil.copytree(shared, folder / CANDIDATES, dirs_exist_ok=True)
        asked = self.recipe(values)
        train(asked, self.data, folder, self.device, lambda epoch, facts: report(epoch, facts[self.by]))
        if share and (folder / CANDIDATES).is_dir() and not shared.is_dir():
            shutil.copytree(folder / CANDIDATES, shared)
        (folder / STATE).unlink(missing_ok=True)
        return float(json.loads((folder / DONE).read_text(encoding="utf-8"))["validation"][self.by])


class Adapting:
    """Adapts to each validation image of a scanner that the training left out; scored by the F1 on these images.

    As the paper tunes the learning rate of its adaptation, on source data alone. The model is trained once, in
    `out/source`. There is no guard, so that each value shows what it does.

    Attributes:
        target: the scanner that is left out.
        images: at most so many of its images, in the order of the split; 0 for all.

    Raises:
        UsageError: the method has no domain branch, or the target is none of several scanners.
        InputError: without the target the data lack something, or there is no annotated figure of it.
    """

    def __init__(
        self, asked: Recipe, target: str, data: DataFolder, out: Path, device: torch.device, images: int = 0
    ) -> None:
        every = gather(asked, data)
        if target not in every.scanners or len(every.scanners) < 2:
            raise UsageError(None, f"--target is {target}", f"leave out one of several: {', '.join(every.scanners)}")
        self.regions = [r for r in every.val if r.domain.scanner == target and every.counts(r)]
        self.regions = self.regions[: images or None]
        if not any(len(r.figures) for r in self.regions):
            raise InputError(None, f"no annotated figure of {target} in the part 'val'", "leave out another scanner")
        others = tuple(s for s in every.scanners if s != target)
        labelled = tuple(s for s in every.labelled if s != target)
        training = replace(asked.training, scanners=others, labelled_scanners=labelled)
        self.asked, self.data, self.out, self.device = replace(asked, training=training), data, out, device
        check_recipe(self.asked, gather(self.asked, data))
        self.each: Each | None = None

    @staticmethod
    def check(ranges: Sequence[Range]) -> None:
        """Raises UsageError where a range is of nothing of the adaptation that can be searched for, or goes too far."""
        for key, low, high in ((r.key, r.low, r.high) for r in ranges):
            if key not in TUNABLE:
                raise UsageError(None, f"--search {key} with --target", f"accepted are {', '.join(TUNABLE)}")
            for end in (low, high):
                Settings(**{key: end})  # type: ignore[arg-type]

    def __call__(self, values: Values, folder: Path, report: Report) -> float:
        """F1 over the images, each searched by a model that was adapted to it; reported as they add up."""
        if self.each is None:
            self.each = self._source()
        each = Unguarded(self.each.detector, self.each.memory, Settings(**values))  # type: ignore[arg-type]
        found = {}
        for k, region in enumerate(self.regions):
            with Slide(self.data.images / region.file_name, table_mpp=region.mpp) as slide:
                where = find_tissue(slide)
                found[region.file_name] = inference.detect(slide, each(slide, where).detector, tissue=where)
            score = self._f1(found, self.regions[: k + 1])
            report(k, score)
        return score

    def _source(self) -> Each:
        model = train(self.asked, self.data, self.out / "source", self.device)
        if not model.with_name(MEMORY).is_file():
            remember(model, self.data, Choice(), self.device)
        return Each(checkpoint.load(model).to(self.device), recalled(model), Settings())

    def _f1(self, found: dict[str, Detections], regions: Sequence[Region]) -> float:
        assert self.each is not None
        report = evaluate(found, list(regions), threshold=self.each.detector.threshold, bootstrap=0, by_image=False)
        return report.total.f1 or 0.0
