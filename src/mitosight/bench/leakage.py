"""Whether a test slide was seen before: in training, choice of threshold, or by anything that a model was given."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from mitosight import checkpoint, modelfile, recipe
from mitosight.bench.folds import Fold
from mitosight.bench.protocol import Entry, Protocol
from mitosight.errors import InputError
from mitosight.regions import DataFolder, fingerprint
from mitosight.regions.checks import listed

SEEN = "slides"  # in the headers of files: fingerprints of the slides that it learned from
MEND = "a test slide may be seen by nothing that is trained or chosen: take it out of the other parts"


def check(protocol: Protocol, found: Sequence[Fold], data: DataFolder) -> None:
    """Refuses a protocol of which a model has seen a slide that it is tested on.

    What is trained here learns from the parts "train" and "val" of a fold alone: weights, thresholds, normalisation,
    style transfers, re-stainers, clusters. Trained models and files that a recipe is given (`style`, `weights`) say in
    their header what they learned from.

    Raises:
        InputError: which slides, and where they were seen; or a file does not say.
    """
    slides = {region.file_name: region.slides for region in data.regions}
    for fold in found:
        tested = {slide for name in fold.split["test"] for slide in slides[name]}
        for part in ("train", "val"):
            seen = tested & {slide for name in fold.split[part] for slide in slides[name]}
            _refuse(f"the part {part!r} of fold {fold.name}", seen)
        for entry in protocol.models:
            for file, known in given(protocol, entry):
                _refuse(f"{file} ({entry.name})", {slide for slide in tested if fingerprint(slide) in known})


def _refuse(where: str, seen: Iterable[str]) -> None:
    if names := sorted(seen):
        raise InputError(None, f"test slides were seen in {where}: {listed(names)}", MEND)


def given(protocol: Protocol, entry: Entry) -> list[tuple[Path, set[str]]]:
    """The trained files that an entry is given, and the fingerprints of the slides that each learned from.

    Weights of another origin, such as ImageNet's, have no header of this package and are passed over.

    Raises:
        InputError: a file of this package does not say what it learned from.
    """
    found = []
    if entry.model:
        file = modelfile.locate(Path(entry.model))
        found.append((file, _said(file, checkpoint.read_header(file)["provenance"].get("data", {}))))
    if entry.recipe:
        asked = recipe.load(entry.recipe, (*protocol.set, *entry.set))
        if start := asked.training.start:
            file = modelfile.locate(start)
            found.append((file, _said(file, checkpoint.read_header(file)["provenance"].get("data", {}))))
        files = [path for value in asked.detector.values() if isinstance(value, str) and (path := Path(value)).exists()]
        found += [(file, _said(file, facts)) for file in map(_weights, files) if (facts := _header(file)) is not None]
    return found


def _weights(path: Path) -> Path:
    """The file itself, or the one that a training left in its folder."""
    inside = sorted(path.rglob("*.safetensors")) if path.is_dir() else []
    return inside[0] if inside else path


def _header(file: Path) -> dict[str, Any] | None:
    try:
        with safe_open(file, "np") as opened:
            told = (opened.metadata() or {}).get("mitosight")
    except (SafetensorError, OSError):
        return None
    facts = json.loads(told) if told else None
    return facts if isinstance(facts, dict) else None


def _said(file: Path, facts: Any) -> set[str]:
    if not isinstance(facts, dict) or not isinstance(facts.get(SEEN), list):
        raise InputError(
            file, "does not say which slides it learned from", "train it with this version, or name its recipe instead"
        )
    return set(facts[SEEN])
