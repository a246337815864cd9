"""Does the domain path of wilm2021 do its part? How well the scanner is told from the features, with it and without.

    python benchmarks/domain_path.py --runs runs/domain-path --results docs/results --seeds 0 1

Everything is drawn: the same tissues by four virtual scanners, so that nothing but the scanner tells the tiles apart.
Trainings go by the recipe `demo`, at full length here, with no domain loss and with two weights of it, without
augmentation (which hides scanners by itself) and with it. Writes `e-NAME-SEED.json` for each; what is there is passed
over.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from mitosight import checkpoint, phantom, recipe, regions
from mitosight.outputs import write_json
from mitosight.probe import scanner_accuracy
from mitosight.training import train

SCANNERS = ("phantom-A", "phantom-B", "phantom-C", "phantom-D")
TISSUES = {"train": range(700, 704), "val": range(710, 712), "test": range(720, 722)}
LENGTH = ("epochs=20", "steps_per_epoch=30", "validate_every=5")
FORMS = {
    "plain-weight0": ("augment=false", "domain_weight=0"),
    "plain-weight0.1": ("augment=false", "domain_weight=0.1"),
    "plain-weight1": ("augment=false", "domain_weight=1"),
    "augmented-weight0": ("domain_weight=0",),
    "augmented-weight0.1": ("domain_weight=0.1",),
}


def draw(data: Path) -> None:
    """Writes the data folder: each tissue by each scanner, tissues apart in train, val and test."""
    pairs = [(scanner, tissue) for part in TISSUES.values() for tissue in part for scanner in SCANNERS]
    phantom.write_pairs(data, pairs, (256.0, 256.0), {part: list(tissues) for part, tissues in TISSUES.items()})


def one(name: str, seed: int, data: Path, out: Path) -> dict[str, Any]:
    """Trains one form and looks at its features."""
    labelled = f"labelled_scanners={json.dumps(SCANNERS[:3])}"
    settings = (labelled, f"seed={seed}", *LENGTH, *FORMS[name])
    folder = regions.load(data)
    model = train(recipe.load("demo", settings), folder, out, torch.device("cpu"))
    validation = checkpoint.read_header(model)["provenance"]["validation"]
    accuracy = scanner_accuracy(
        checkpoint.load(model),
        folder.images,
        folder.part("val"),
        folder.part("test"),  # type: ignore[arg-type]
    )
    return {"settings": settings, "validation": validation, "probe": accuracy}


def main() -> None:
    """Carries out what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/domain-path"))
    parser.add_argument("--results", type=Path, default=Path("docs/results"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--only", default="", help="names that start so")
    given = parser.parse_args()
    data = given.runs / "data"
    if not (data / "split.json").is_file():
        draw(data)
    for seed in given.seeds:
        for name in FORMS:
            file = given.results / f"e-{name}-{seed}.json"
            if name.startswith(given.only) and not file.is_file():
                write_json(file, one(name, seed, data, given.runs / f"{name}-{seed}"))


if __name__ == "__main__":
    main()
