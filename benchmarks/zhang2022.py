"""Table 1 of Zhang 2022: what each of its three components does on a domain that training never saw.

    python benchmarks/zhang2022.py --data DIR --held-out "Aperio ScanScope XT" --runs runs --results docs/results
    python benchmarks/zhang2022.py --results docs/results --table

Trains the recipe eight times (none of the components, each one, each pair, all) on the parts "train" and "val" without
the held-out scanner, and tests on the images of that scanner in the part "test"; `--by tumor_type` holds out a tumour,
as the paper does. By the commands of the package, which are printed as they run; one JSON for each run. A run whose
JSON is there is passed over; a training that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from runs import command, without
from tables import cell

from mitosight import checkpoint, regions
from mitosight.errors import InputError
from mitosight.outputs import write_json
from mitosight.regions import DataFolder

WITHOUT = {  # the setting that takes a component away
    "foreground": "foreground_weight=0",
    "label": "label_weight=0",
    "jitter": "jitter=[0, 0, 0, 0]",
}
ROWS = [row for size in range(len(WITHOUT) + 1) for row in combinations(WITHOUT, size)]


@dataclass(frozen=True)
class Run:
    """One row of the table with one seed."""

    name: str
    components: tuple[str, ...]
    settings: tuple[str, ...]


def plan(name: str, seeds: list[int], settings: list[str]) -> list[Run]:
    """The eight rows for each seed; `settings` go over the recipe in all of them."""
    return [
        Run(
            f"{name}-{'+'.join(row) or 'none'}-{seed}",
            row,
            (*settings, f"training.seed={seed}", *(WITHOUT[part] for part in WITHOUT if part not in row)),
        )
        for seed in seeds
        for row in ROWS
    ]


def held_out_split(data: DataFolder, column: str, name: str, left_out: list[str]) -> dict[str, list[str]]:
    """The split of `data` with the domain `name` in the part "test" alone, and nothing of the domains `left_out`.

    Raises:
        InputError: the part "test" holds no image of that domain.
    """
    domain = {region.file_name: getattr(region.domain, column) for region in data.regions}
    split = {
        part: [file for file in data.split[part] if domain[file] not in (name, *left_out)] for part in ("train", "val")
    }
    split["test"] = [file for file in data.split["test"] if domain[file] == name]
    if not split["test"]:
        there = sorted({domain[file] for file in data.split["test"]})
        raise InputError(None, f"no test image of {column} {name!r}", f"there are those of {', '.join(there)}")
    return split


def carry_out(run: Run, recipe: str, data: Path, split: Path, folder: Path) -> dict[str, Any]:
    """Trains, detects and evaluates one run in `folder`; returns what its JSON holds."""
    model, found, scores = folder / "model", folder / "test", folder / "test.json"
    settings = [word for setting in run.settings for word in ("--set", setting)]
    parts = ("--split", str(split))
    if not (model / "run.json").is_file():
        command("train", recipe, "--data", str(data), *parts, "--out", str(model), *settings)
    tests = [str(data / "images" / file) for file in json.loads(split.read_text())["test"]]
    detecting = command(
        "detect", *tests, "--model", str(model), "--out", str(found), "--domains", str(data / "domains.csv")
    )
    command("evaluate", str(found), str(data), *parts, "--part", "test", "--json", str(scores))
    record, header = json.loads((model / "run.json").read_text()), checkpoint.read_header(model)
    return {
        "recipe": recipe,
        "components": run.components,
        "settings": run.settings,
        "classes": header["arguments"]["classes"],
        "threshold": header["threshold"],
        "validation": header["provenance"]["validation"],
        "training_seconds": record["seconds"],
        "detection_seconds": round(detecting, 1),
        "device": record["device"],
        "versions": record["versions"],
        "test": without(json.loads(scores.read_text()), {"by_image", "f1_by_threshold", "by_tumor_type"}),
    }


def table(folder: Path, name: str) -> list[str]:
    """The eight rows with AP at IoU 0.5 and F1 on the held-out domain: mean over seeds, and each seed."""
    lines = ["| " + " | ".join((*WITHOUT, "AP at IoU 0.5", "F1")) + " |", "|---" * (len(WITHOUT) + 2) + "|"]
    for row in ROWS:
        paths = sorted(folder.glob(f"{name}-{'+'.join(row) or 'none'}-*.json"))
        tests = [json.loads(path.read_text())["test"] for path in paths]
        ticks = ["x" if part in row else "" for part in WITHOUT]
        scores = [cell([test[key] for test in tests]) for key in ("average_precision", "f1")]
        lines.append("| " + " | ".join((*ticks, *scores)) + " |")
    return lines


def main() -> None:
    """Carries out the ablation, or prints its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="data folder")
    parser.add_argument("--held-out", help="name of the domain that is tested on and never trained on")
    parser.add_argument("--by", choices=("scanner", "tumor_type", "species"), default="scanner")
    parser.add_argument("--leave-out", nargs="*", default=[], help="domains that are neither trained on nor tested on")
    parser.add_argument("--recipe", default="zhang2022-fields")
    parser.add_argument("--set", dest="settings", action="append", default=[], help="key=value over the recipe")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--name", default="zhang2022", help="what the files of this ablation begin with")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--results", type=Path, default=Path("docs/results"))
    parser.add_argument("--table", action="store_true", help="print the table of the results that are there")
    given = parser.parse_args()
    if given.table:
        print("\n".join(table(given.results, given.name)))
        return
    if not given.data or not given.held_out:
        parser.error("--data and --held-out are needed")
    try:
        parts = held_out_split(regions.load(given.data), given.by, given.held_out, given.leave_out)
    except InputError as error:
        parser.error(str(error))
    split = given.runs / f"{given.name}-split.json"
    write_json(split, parts)
    held_out = {"by": given.by, "held_out": given.held_out, "left_out": given.leave_out}
    for run in plan(given.name, given.seeds, given.settings):
        file = given.results / f"{run.name}.json"
        if not file.is_file():
            record = carry_out(run, given.recipe, given.data, split, given.runs / run.name)
            write_json(file, {"data": given.data.name, **held_out, **record})


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    main()
