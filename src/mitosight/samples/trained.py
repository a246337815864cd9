"""A finished training on candidates, taken up again to look at it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mitosight import checkpoint, modelfile, recipe
from mitosight.errors import InputError, UsageError
from mitosight.material import gather
from mitosight.methods import create
from mitosight.methods.detector import Part
from mitosight.methods.wang2023 import Wang2023
from mitosight.patches import PatchSource
from mitosight.recipe import Recipe
from mitosight.regions import DataFolder
from mitosight.training import lend
from mitosight.workshop import Workshop

Index = NDArray[np.intp]


@dataclass(frozen=True)
class Trained:
    """A model, the recipe it was trained by, and what its training had.

    Attributes:
        folder: of the training.
        detector: as it was kept, on the device of the workshop.
    """

    folder: Path
    detector: Wang2023
    recipe: Recipe
    workshop: Workshop

    def fresh(self) -> Wang2023:
        """The detector as it was before its training; draws from torch's generator, which is seeded for it."""
        torch.manual_seed(self.recipe.training.seed)
        detector = create(self.recipe.method, self.detector.scanners, self.recipe.detector)
        assert isinstance(detector, Wang2023)
        return detector

    def chosen(self, part: Part, most: int, seed: int) -> tuple[PatchSource, NDArray[np.int64]]:
        """Patches of a part, each once, and their classes (m,): figures first, then others; at most `most` of each.

        Raises:
            InputError: the part has no candidate on a figure, or none far from any.
        """
        detector = self.detector
        pool = self.workshop.candidates(part, detector.finder)
        label = pool.labels(detector.positive_px, detector.negative_px)
        rng = np.random.default_rng(seed)
        each = [np.flatnonzero(label == value) for value in (1, 0)]
        for name, found in zip(("on a figure", "far from any figure"), each, strict=True):
            if not len(found):
                raise InputError(None, f"no candidate of the part {part!r} {name}", "choose another --part")
        drawn = [rng.permutation(found)[:most] for found in each]
        index = np.concatenate(drawn)
        return self.patches(part, index), label[index]

    def patches(self, part: Part, index: Index) -> PatchSource:
        """Patches around these candidates of a part, each once and in this order."""
        detector, pool = self.detector, self.workshop.candidates(part, self.detector.finder)
        none = np.zeros(len(index), np.int64)
        return self.workshop.patches(
            part, pool, index, none, detector.patch_px, detector.patches_at_once, order="stored"
        )


def taken_up(model: Path, data: DataFolder, device: torch.device) -> Trained:
    """The training that left `model` (its file or folder), with the data folder that it was trained on.

    Raises:
        InputError: the model cannot be read, or learned from other data.
        UsageError: its method does not learn from samples of candidates.
    """
    file = modelfile.locate(model)
    header = checkpoint.read_header(file)
    detector = checkpoint.load(file).to(device)
    if not isinstance(detector, Wang2023):
        raise UsageError(file, f"is a model of {header['method']}", "expected one of wang2023")
    told = header["provenance"]
    if "recipe" not in told or "data" not in told:
        raise InputError(file, "does not say how it was trained", "give a model that mitosight train wrote")
    trained = recipe.parse(told["recipe"], file)
    material = gather(trained, data)
    if material.digest() != told["data"]["sha256"]:
        raise InputError(file, "was trained on other regions than --data holds", "give its data folder and its --split")
    workshop = lend(trained, data.images, material, detector, file.parent, device, lambda: None)
    return Trained(file.parent, detector, trained, workshop)
