"""The sheets of one training, written to a folder."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mitosight.errors import UsageError
from mitosight.methods.detector import Part
from mitosight.methods.parts.patchnet import PatchClassifier
from mitosight.methods.parts.restain import ReStainer
from mitosight.outputs import versions, write_json
from mitosight.patches import PatchSource
from mitosight.regions import DataFolder
from mitosight.samples import sheets
from mitosight.samples.features import Panel, in_words, separability, write_plot
from mitosight.samples.trained import Trained, taken_up
from mitosight.workshop import loaded

PARENTS = "parents/parents.safetensors"  # what the first half of InCDP leaves


@dataclass(frozen=True)
class Settings:
    """What is shown.

    Attributes:
        part: whose patches are stained, searched and plotted; the clusters are always those of "train".
        examples: patches of each cluster.
        rows: of the other sheets.
        patches: at most, of figures and of others, in the plot and among the found.
        seed: of what is drawn.
    """

    part: Part = "val"
    examples: int = 8
    rows: int = 6
    patches: int = 500
    seed: int = 0


def study(
    model: Path,
    data: DataFolder,
    out: Path,
    settings: Settings,
    without: Path | None = None,
    device: torch.device | None = None,
) -> dict[str, Any]:
    """Writes the sheets of what the training of `model` had to `out`, and `samples.json`; returns what this holds.

    `clusters.png` where negatives were clustered, `stains.png` where patches were stained again, `maps.png` where
    something was found, `features.png`: the model's features of patches beside those of its parent classes alone
    (before the child classes) and of the model `without`, trained without them.

    `separability`: silhouette of the two classes, by network; `children`: that of the child classes. `off_px`: median
    distance from the place in the activation map to the figure, over the figures found.

    Raises:
        InputError: a model or an image cannot be read, or the data are not those of the training.
        UsageError: `out` is a file, a model is of another method or of other patches, `without` has child classes, or
            matplotlib is not installed.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(out, "is a file", "--out names a folder")
    device = device or torch.device("cpu")
    trained = taken_up(model, data, device)
    facts: dict[str, Any] = {"settings": asdict(settings)}
    if trained.detector.dgsb:
        facts["clusters"] = sheets.clusters(out / "clusters.png", trained, settings.examples, settings.seed)
    source, label = trained.chosen(settings.part, settings.patches, settings.seed)
    facts |= _patches(trained, source, label, out, settings.rows)
    panels = _panels(trained, source, without, device)
    child = _children(trained.detector.classifier, panels[-1].features, label)
    write_plot(out / "features.png", panels, label, child)
    facts["separability"] = {panel.title: separability(panel.features, label) for panel in panels}
    facts["children"] = {panel.title: separability(panel.features, child) for panel in panels}
    write_json(out / "samples.json", {**facts, "versions": versions()})
    return facts


def _patches(trained: Trained, source: PatchSource, label: NDArray[np.int64], out: Path, rows: int) -> dict[str, Any]:
    """Writes the sheets of single patches; returns what was found and how far off."""
    detector = trained.detector
    if detector.unsa:
        restainer = ReStainer.load(detector.style or trained.folder).to(trained.workshop.device)
        sheets.stains(out / "stains.png", restainer, source, rows)
    found = sheets.found(trained, source, label)
    sheets.maps(out / "maps.png", source, found, rows)
    off = [f.off_px for f in found if f.off_px is not None]
    counts = {"figures": len(off), "of": int(label.sum()), "false": len(found) - len(off)}
    return {"found": counts, "off_px": float(np.median(off)) if off else None}


def _panels(trained: Trained, source: PatchSource, without: Path | None, device: torch.device) -> list[Panel]:
    """Features of the patches by each network that there is; the model's own last."""
    detector = trained.detector
    networks: dict[str, PatchClassifier] = {}
    if without is not None:
        networks["model without child classes"] = _other(without, detector.patch_px, device)
    if detector.incdp and (trained.folder / PARENTS).is_file():
        parents = deepcopy(detector.classifier)
        loaded(trained.folder / PARENTS, parents)
        networks["parent classes alone"] = parents
    networks["model, with child classes" if detector.incdp else "model"] = detector.classifier
    return [Panel(name, np.concatenate(list(network.features(source)))) for name, network in networks.items()]


def _other(model: Path, patch_px: int, device: torch.device) -> PatchClassifier:
    from mitosight import checkpoint
    from mitosight.methods.wang2023 import Wang2023

    other = checkpoint.load(model).to(device)
    if not isinstance(other, Wang2023) or other.patch_px != patch_px:
        raise UsageError(model, "cannot be compared", f"expected a model of wang2023 on patches of {patch_px} px")
    if other.incdp:
        raise UsageError(model, "has child classes", "expected a model that was trained with incdp=false")
    return other.classifier


def _children(
    classifier: PatchClassifier, features: NDArray[np.float32], parent: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The likeliest child class (n,) of each patch among those of its parent (n,)."""
    with torch.inference_mode():
        logits = classifier.child(torch.from_numpy(features).to(classifier.mean.device)).cpu().numpy()
    own = np.arange(logits.shape[1]) // classifier.per_class == parent[:, None]
    likeliest: NDArray[np.int64] = np.where(own, logits, -np.inf).argmax(axis=1).astype(np.int64)
    return likeliest


def told(facts: dict[str, Any]) -> str:
    """The numbers in a few lines for people."""
    found, lines = facts["found"], []
    if "clusters" in facts:
        lines.append(f"negatives by cluster: {', '.join(f'{size:,}' for size in facts['clusters'])}")
    lines.append(f"found: {found['figures']} of {found['of']} patches on figures, {found['false']} others")
    if facts["off_px"] is not None:
        lines.append(f"their places are {facts['off_px']:.1f} px off (median)")
    for name, value in facts["separability"].items():
        children = facts["children"][name]
        lines.append(f"silhouette of the classes, {name}: {in_words(value)}, of the child classes {in_words(children)}")
    return "\n".join(lines)
