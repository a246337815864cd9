"""The splits of a protocol: what is learned from, and which domains of the test images were never seen."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mitosight.bench.protocol import Column, Protocol
from mitosight.errors import InputError, UsageError
from mitosight.regions import DataFolder, Region, fingerprints, met

UNLABELLED = {"scanner": "labelled_scanners", "tumor_type": "unlabelled_tumors"}  # what a recipe calls them


@dataclass(frozen=True)
class Fold:
    """One split of the data.

    Attributes:
        name: of its folder: the domain that takes its turn, or "given".
        seen: domains whose labels the training has.
        unseen: the other domains of the test images.
        split: file names of the parts "train", "val", "test".
        settings: over the recipes: whose labels count.
    """

    name: str
    seen: tuple[str, ...]
    unseen: tuple[str, ...]
    split: Mapping[str, tuple[str, ...]]
    settings: tuple[str, ...] = ()

    def of(self, data: DataFolder) -> DataFolder:
        """The data folder, split so."""
        return DataFolder(data.images, data.regions, dict(self.split))


def domain_of(region: Region, by: Column) -> str:
    """The domain of a region."""
    return str(getattr(region.domain, by))


def folds(protocol: Protocol, data: DataFolder) -> list[Fold]:
    """The folds of a protocol on a data folder, in the order of its domains.

    Domains without a single annotation in training are no ones to learn from: their images are unlabelled. Those that
    are in the test images alone are unseen in every fold; left out by name, all others are learned from.

    Raises:
        InputError: a part of the split is missing, or a domain of the protocol is not there.
        UsageError: there is nothing to leave out.
    """
    parts = parts_of(protocol, data)
    tested = _domains(parts["test"], protocol.by)
    if protocol.split == "given":
        seen = _domains([r for r in parts["train"] if len(r.figures)], protocol.by)
        split = {name: _names(regions) for name, regions in parts.items()}
        return [Fold("given", tuple(seen), tuple(d for d in tested if d not in seen), split)]
    learned = _domains([r for r in parts["train"] if len(r.label)], protocol.by)
    if len(learned) < 2:
        raise UsageError(None, f"one {protocol.by} alone", f"the split {protocol.split} needs two or more")
    can = tested if protocol.split == "leave-one-out" else [d for d in tested if d in learned]
    turns = list(protocol.domains) or [d for d in tested if d in learned]
    if wrong := [d for d in turns if d not in can]:
        raise InputError(None, f"no {protocol.by} {wrong[0]!r} in training and test", f"there are {', '.join(can)}")
    names = slugs(turns)
    return [_turn(protocol, parts, domain, names[domain], learned, tested) for domain in turns]


def parts_of(protocol: Protocol, data: DataFolder) -> dict[str, list[Region]]:
    """The regions that are learned from, that thresholds are chosen on, and that are tested.

    Raises:
        InputError: the split lacks a part.
    """
    train, test = data.part("train"), data.part(protocol.tested)
    if not protocol.held_out:
        return {"train": train, "val": data.part("val"), "test": test}
    chosen: set[str] = set()
    for domain in _domains(train, protocol.by):
        slides = sorted({r.slide for r in train if domain_of(r, protocol.by) == domain})
        chosen |= set(slides[protocol.held_out - 1 :: protocol.held_out])
    val = [region for region in train if region.slide in chosen]
    judged = fingerprints(slide for region in val for slide in region.slides)
    return {"train": [r for r in train if not met(r.slides, judged)], "val": val, "test": test}


def _turn(
    protocol: Protocol,
    parts: Mapping[str, Sequence[Region]],
    domain: str,
    name: str,
    learned: Sequence[str],
    tested: Sequence[str],
) -> Fold:
    """The fold in which `domain` is left out, or learned from alone."""
    out = protocol.split == "leave-one-out"
    seen = [d for d in learned if (d != domain) == out]
    there = _domains(parts["train"], protocol.by)
    kept = set(there) if protocol.unlabelled else set(seen)
    split = {p: _names(r for r in parts[p] if domain_of(r, protocol.by) in kept) for p in ("train", "val")}
    settings: tuple[str, ...] = ()
    if protocol.unlabelled:
        named = seen if protocol.by == "scanner" else [d for d in there if d not in seen]
        settings = (f"{UNLABELLED[protocol.by]}={json.dumps(named)}",)
    unseen = tuple(d for d in tested if d not in seen)
    chosen = set(split["val"])  # thresholds, by these
    test = [name for name in _names(parts["test"]) if name not in chosen]
    return Fold(name, tuple(seen), unseen, {**split, "test": tuple(test)}, settings)


def slugs(names: Iterable[str]) -> dict[str, str]:
    """Each name as that of a folder, none like another, whether or not the file system tells capitals apart."""
    found: dict[str, str] = {}
    for name in names:
        plain = re.sub(r"[^A-Za-z0-9.+_-]+", "-", name).strip("-.") or "unnamed"
        taken, tried, number = {other.lower() for other in found.values()}, plain, 1
        while tried.lower() in taken:
            tried, number = f"{plain}-{number + 1}", number + 1
        found[name] = tried
    return found


def _domains(regions: Iterable[Region], by: Column) -> list[str]:
    return sorted({domain_of(region, by) for region in regions})


def _names(regions: Iterable[Region]) -> tuple[str, ...]:
    return tuple(region.file_name for region in regions)
