"""What a training learns from: regions, scanners, and whose annotations count."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from typing import Any

from mitosight.dataset import COLUMNS
from mitosight.errors import InputError
from mitosight.methods import METHODS
from mitosight.recipe import Recipe
from mitosight.regions import DataFolder, Region, fingerprints


@dataclass(frozen=True)
class Material:
    """What a training learns from.

    Attributes:
        train, val: regions of these parts of the split that the method has a use for.
        scanners: of all that it learns from, in the order of their index.
        labelled: scanners whose annotations count.
        unlabelled_tumors: tumour types whose annotations do not count.
    """

    train: list[Region]
    val: list[Region]
    scanners: list[str]
    labelled: list[str]
    unlabelled_tumors: list[str]

    def counts(self, region: Region) -> bool:
        """Whether the annotations of a region count."""
        return region.domain.scanner in self.labelled and region.domain.tumor_type not in self.unlabelled_tumors

    def domains(self) -> dict[str, list[str]]:
        """Names in the training regions, by column of `domains.csv`; scanners in the order of their index."""
        columns = {c: sorted({getattr(r.domain, c) for r in self.train}) for c in COLUMNS}
        return {**columns, "scanner": self.scanners}

    def digest(self) -> str:
        """SHA-256 over names, domains, mpp, annotations and parts of the regions, in their order."""
        told = [
            (part, r.file_name, astuple(r.domain), r.mpp, r.xy.tolist(), r.label.tolist())
            for part, regions in (("train", self.train), ("val", self.val))
            for r in regions
        ]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()

    def facts(self) -> dict[str, Any]:
        """What a model says of the data it was made from; `labelled_tumors` are the types whose annotations count."""
        every = [*self.train, *self.val]
        return {
            "sha256": self.digest(),
            "labelled": self.labelled,
            "labelled_tumors": sorted({r.domain.tumor_type for r in every if self.counts(r)}),
            "unlabelled_tumors": self.unlabelled_tumors,
            "train": {"regions": len(self.train), "figures": sum(len(r.figures) for r in self.train)},
            "val": {"regions": len(self.val), "figures": sum(len(r.figures) for r in self.val)},
            "slides": sorted(fingerprints(slide for r in every for slide in r.slides)),
        }


def gather(recipe: Recipe, data: DataFolder) -> Material:
    """The regions that a recipe learns from and is judged by.

    Raises:
        InputError: the split lacks a part, a scanner is not there, or a part holds no figure of a labelled scanner.
    """
    settings = recipe.training
    parts = {name: data.part(name) for name in ("train", "val")}
    there = sorted({r.domain.scanner for r in parts["train"]})
    scanners = list(settings.scanners) or there
    labelled = list(settings.labelled_scanners) or [s for s in scanners if _annotated(parts["train"], s)]
    if wrong := [s for s in scanners if s not in there]:
        raise InputError(None, f"no training region of scanner {wrong[0]!r}", f"there are those of {', '.join(there)}")
    if wrong := [s for s in labelled if s not in scanners]:
        raise InputError(
            None, f"labelled scanner {wrong[0]!r} is no training scanner", f"those are {', '.join(scanners)}"
        )
    unlabelled = list(settings.unlabelled_tumors) or _unannotated_tumors(parts["train"], labelled)
    everything = Material(parts["train"], parts["val"], scanners, labelled, unlabelled)
    for name, regions in parts.items():
        if not any(len(r.figures) for r in regions if everything.counts(r)):
            raise InputError(
                None,
                f"the part {name!r} of the split holds no mitotic figure of {', '.join(labelled) or 'any scanner'}",
                "training and validation need annotated figures",
            )
    if METHODS[recipe.method].uses_unlabelled == "never":
        scanners = labelled
        parts = {name: [r for r in regions if everything.counts(r)] for name, regions in parts.items()}
    train, val = ([r for r in regions if r.domain.scanner in scanners] for regions in parts.values())
    return replace(everything, train=train, val=val, scanners=scanners)


def _annotated(regions: Sequence[Region], scanner: str) -> bool:
    return any(len(r.label) for r in regions if r.domain.scanner == scanner)


def _unannotated_tumors(regions: Sequence[Region], scanners: Sequence[str]) -> list[str]:
    """Tumour types of which no region of these scanners holds an annotation."""
    seen = {r.domain.tumor_type for r in regions if r.domain.scanner in scanners}
    return sorted(seen - {r.domain.tumor_type for r in regions if r.domain.scanner in scanners and len(r.label)})
