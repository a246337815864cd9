"""Whether a test slide was seen before: in training, choice of threshold, or by anything that a model was given."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mitosight import recipe, seen
from mitosight.bench.folds import Fold
from mitosight.bench.protocol import Entry, Protocol
from mitosight.errors import InputError
from mitosight.regions import DataFolder, fingerprints, met
from mitosight.regions.checks import listed

MEND = "a test slide may be seen by nothing that is trained or chosen: take it out of the other parts"
MEND_FILE = (
    "test on slides that it never saw; where one is another slide of that name, give it another in the column slide of "
    "domains.csv"
)


def check(protocol: Protocol, found: Sequence[Fold], data: DataFolder) -> None:
    """Refuses a protocol of which a model has seen a slide that it is tested on.

    What is trained here learns from the parts "train" and "val" of a fold alone: weights, thresholds, normalisation,
    style transfers, re-stainers, clusters. Trained models and files that a recipe is given (`style`, `weights`) say in
    their header what they learned from.

    Raises:
        InputError: which slides, and where they were seen; or a file is not there or does not say.
    """
    slides = {region.file_name: region.slides for region in data.regions}
    files = [(f"{one.file} ({e.name})", one.slides) for e in protocol.models for one in given(protocol, e)]
    for fold in found:
        tested = {slide for name in fold.split["test"] for slide in slides[name]}
        for part in ("train", "val"):
            known = fingerprints(slide for name in fold.split[part] for slide in slides[name])
            _refuse(f"the part {part!r} of fold {fold.name}", met(tested, known), MEND)
        for file, said in files:
            _refuse(file, met(tested, said), MEND_FILE)


def given(protocol: Protocol, entry: Entry) -> list[seen.Learned]:
    """The trained files that an entry is given, and what each learned from.

    Raises:
        InputError: as `seen.given`.
    """
    if entry.model:
        return [seen.model(Path(entry.model))]
    return seen.given(recipe.load(entry.recipe, (*protocol.set, *entry.set))) if entry.recipe else []


def _refuse(where: str, names: Sequence[str], remedy: str) -> None:
    if names:
        raise InputError(None, f"test slides were seen in {where}: {listed(names)}", remedy)
