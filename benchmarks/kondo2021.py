"""What adapting to each slide does for Kondo 2021: F1 on scanners that training never saw, before and after.

    python benchmarks/kondo2021.py --data DIR --train "Hamamatsu XR" --runs runs --results docs/results
    python benchmarks/kondo2021.py --results docs/results --table

Trains the recipe on the parts "train" and "val" of the scanners named by --train, has the model's memory made, and
searches the images of all other scanners in the part "test" (or `--part`) three times: by the model as it is, adapted
to each image by itself, and adapted to all images of a scanner together. By the commands of the package, which are
printed as they run; one JSON for each seed, with time and memory of every adaptation. A run whose JSON is there is
passed over; a training that was stopped goes on. `--test` names the scanners that are searched, so that several runs,
of names that begin alike, share them; the table puts them together.
"""

from __future__ import annotations

import argparse
import json
import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scored import command, without
from tables import cell

from mitosight import checkpoint, regions
from mitosight.errors import InputError
from mitosight.outputs import write_json
from mitosight.regions import DataFolder

WAYS = {"as it is": (), "adapted to each": (), "adapted together": ("--together",)}
LEFT_OUT = {"by_image", "f1_by_threshold", "by_tumor_type", "curve"}


@dataclass(frozen=True)
class Plan:
    """What is trained, and with which options its memory is made and slides are adapted to."""

    name: str
    recipe: str
    scanners: list[str]
    settings: list[str]
    remembering: list[str]
    options: list[str]
    tested: list[str]
    part: str


def split(data: DataFolder, plan: Plan) -> dict[str, list[str]]:
    """Training and validation images of the plan's scanners, and for "test" those of the others in the plan's part.

    Raises:
        InputError: that part holds no image of another scanner.
    """
    others = {r.domain.scanner for r in data.part(plan.part)} - set(plan.scanners)
    found = {p: _of(data, p, plan.scanners) for p in ("train", "val")}
    found["test"] = _of(data, plan.part, [s for s in sorted(others) if s in (plan.tested or others)])
    if not found["test"]:
        raise InputError(None, "no test image of another scanner", "leave a scanner out of --train")
    return found


def _of(data: DataFolder, part: str, scanners: list[str]) -> list[str]:
    return [region.file_name for region in data.part(part) if region.domain.scanner in scanners]


def carry_out(plan: Plan, seed: int, data: Path, runs: Path, results: Path) -> None:
    """Trains with one seed, searches the three ways, scores; writes `results/NAME-SEED.json`."""
    name = f"{plan.name}-{seed}"
    folder, model = runs / name, runs / name / "model"
    loaded = regions.load(data)
    parts = split(loaded, plan)
    write_json(folder / "split.json", parts)
    chosen = ("--data", str(data), "--split", str(folder / "split.json"))
    settings = [word for setting in (*plan.settings, f"training.seed={seed}") for word in ("--set", setting)]
    if not (model / "run.json").is_file():
        command("train", plan.recipe, *chosen, "--out", str(model), *settings)
    source = ("--data", str(data), "--data-split", str(folder / "split.json"))
    remembering = command("adapt", str(model), *source, *plan.remembering)
    scanner_of = {r.file_name: r.domain.scanner for r in loaded.part(plan.part)}
    by_scanner: dict[str, list[str]] = defaultdict(list)
    for image in parts["test"]:
        by_scanner[scanner_of[image]].append(str(data / "images" / image))
    found = {way: searched(way, plan, by_scanner, folder, data) for way in WAYS}
    record, header = json.loads((model / "run.json").read_text()), checkpoint.read_header(model)
    write_json(
        results / f"{name}.json",
        {
            "recipe": plan.recipe,
            "scanners": plan.scanners,
            "settings": plan.settings,
            "remembering": plan.remembering,
            "options": plan.options,
            "part": plan.part,
            "seed": seed,
            "threshold": header["threshold"],
            "validation": header["provenance"]["validation"],
            "training_seconds": record["seconds"],
            "memory_seconds": round(remembering, 1),
            "memory_bytes": (model / "memory.safetensors").stat().st_size,
            "device": record["device"],
            "versions": record["versions"],
            "ways": found,
        },
    )


def searched(way: str, plan: Plan, images: dict[str, list[str]], folder: Path, data: Path) -> dict[str, Any]:
    """Searches the test images in one way and scores them; scanner by scanner, since they are adapted to apart."""
    model, place, found = str(folder / "model"), folder / way.replace(" ", "-"), {}
    for scanner, slides in images.items():
        out = place / scanner.replace(" ", "-")
        how = ("--out", str(out), "--domains", str(data / "domains.csv"))
        if way == "as it is":
            seconds = command("detect", *slides, "--model", model, "--runtime", "torch", *how)
        else:
            seconds = command("adapt", model, *slides, *how, *WAYS[way], *plan.options)
        alone = {"train": [], "val": [], "test": [Path(slide).name for slide in slides]}
        write_json(place / "split.json", alone)
        scores = place / f"{out.name}.json"
        words = ("--split", str(place / "split.json"), "--part", "test", "--json", str(scores))
        command("evaluate", str(out), str(data), *words)
        told = json.loads((out / "run.json").read_text()).get("adapted", {})
        found[scanner] = {
            "seconds": round(seconds, 1),
            "scores": without(json.loads(scores.read_text()), LEFT_OUT),
            "adaptations": {Path(slide).name: facts for slide, facts in told.items()},
        }
    return found


def table(results: Path, name: str) -> list[str]:
    """Rows of scanners and columns of ways: mean F1 over seeds and the seeds' own; time and memory below."""
    found = [json.loads(p.read_text()) for p in sorted(results.glob(f"{name}-*.json"))]
    by_scanner = defaultdict(list)
    for record in found:
        for scanner in record["ways"]["as it is"]:
            by_scanner[scanner].append(record["ways"])
    lines = ["| F1 | " + " | ".join(WAYS) + " |", "|---|" + "---|" * len(WAYS)]
    for scanner, records in sorted(by_scanner.items()):
        cells = [cell([ways[way][scanner]["scores"]["f1"] for ways in records]) for way in WAYS]
        lines.append(f"| {scanner} | " + " | ".join(cells) + " |")
    facts = [f for r in found for s in r["ways"]["adapted to each"].values() for f in s["adaptations"].values()]
    if facts:
        seconds, peaks = sorted(f["seconds"] for f in facts), [f["peak_mb"] for f in facts]
        used = sum(f["used"] for f in facts)
        lines += [
            "",
            f"One adaptation takes {seconds[len(seconds) // 2]:.0f} s (median of {len(facts)}; {seconds[0]:.0f} to "
            f"{seconds[-1]:.0f}) and at most {max(peaks):.0f} MB; the guard let {used} of {len(facts)} pass.",
        ]
    return lines


def main() -> None:
    """Carries out the plan, or prints the table of what is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--train", nargs="+", default=["Hamamatsu XR"], help="scanners of the training")
    parser.add_argument("--test", nargs="+", default=[], help="scanners that are searched; all others by default")
    parser.add_argument("--part", choices=("val", "test"), default="test", help="of the split, that is searched")
    parser.add_argument("--recipe", default="kondo2021-fields")
    parser.add_argument("--name", default="k", help="what the results are called")
    parser.add_argument("--set", dest="settings", action="append", default=[], help="key=value over the recipe")
    parser.add_argument("--remember", default="", help="options of its memory, in one word: '--samples 1000'")
    parser.add_argument("--adapt", default="", help="more options of mitosight adapt: --adapt='--bf16'")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--results", type=Path, default=Path("docs/results"))
    parser.add_argument("--table", action="store_true", help="print the table of the results instead")
    given = parser.parse_args()
    if given.table:
        print("\n".join(table(given.results, given.name)))
        return
    if given.data is None:
        parser.error("--data is needed to run")
    options = given.remember.split(), given.adapt.split()
    plan = Plan(given.name, given.recipe, given.train, given.settings, *options, given.test, given.part)
    for seed in given.seeds:
        if not (given.results / f"{given.name}-{seed}.json").is_file():
            carry_out(plan, seed, given.data, given.runs, given.results)


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    main()
