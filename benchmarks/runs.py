"""The runs of docs/results.md: the methods of the RetinaNet family on real data, scored on held-out slides.

    python benchmarks/runs.py --fields DIR --mitos14 DIR --runs runs --results docs/results

Trains, detects and evaluates by the commands of the package (printed as they run) and writes one JSON for each run.
A run whose JSON is there is passed over; a training that was stopped goes on. Nothing is chosen on the part "test";
`--ablation` gives the runs on the part "val" that the domain loss was weighted by.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mitosight import checkpoint, regions
from mitosight.outputs import write_json
from mitosight.probe import scanner_accuracy

XR, S360, CS2, XT = "Hamamatsu XR", "Hamamatsu S360", "Aperio CS2", "Aperio ScanScope XT"


@dataclass(frozen=True)
class Run:
    """One training and its test."""

    name: str
    recipe: str
    data: str
    settings: tuple[str, ...]
    part: str = "test"


def plan(seeds: list[int], runs: Path) -> list[Run]:
    """All runs, the ones that a table needs first. A style transfer is trained once and serves all seeds."""
    found = []
    for seed in seeds:
        s = f"seed={seed}"
        only = f"scanners={json.dumps([XR, S360, CS2])}"
        three = f"labelled_scanners={json.dumps([XR, S360, CS2])}"
        nine, xr = "tiles_per_scanner=9", f"scanners={json.dumps([XR])}"
        both = (f"scanners={json.dumps([XR, XT])}", f"labelled_scanners={json.dumps([XR])}", nine)
        styles = {e: (f"style={runs / f'{e}-chung2021-{seeds[0]}' / 'model'}",) for e in "ab"}
        a_style, b_style = (() if seed == seeds[0] else styles[e] for e in "ab")
        found += [
            Run(f"a-strong-{seed}", "wilm2021-strong-fields", "fields", (s, only)),
            Run(f"a-weak-{seed}", "wilm2021-weak-fields", "fields", (s, only)),
            Run(f"a-wilm2021-{seed}", "wilm2021-fields", "fields", (s, three)),
            Run(f"a-chung2021-{seed}", "chung2021-fields", "fields", (s, three, *a_style)),
            Run(f"a-zhang2022-{seed}", "zhang2022-fields", "fields", (s, three)),
            Run(f"b-strong-{seed}", "wilm2021-strong-fields", "fields", (s, xr, nine)),
            Run(f"b-weak-{seed}", "wilm2021-weak-fields", "fields", (s, xr, nine)),
            Run(f"b-wilm2021-{seed}", "wilm2021-fields", "fields", (s, *both)),
            Run(f"b-chung2021-{seed}", "chung2021-fields", "fields", (s, *both, *b_style)),
            Run(f"b-zhang2022-{seed}", "zhang2022-fields", "fields", (s, *both)),
            Run(f"c-strong-{seed}", "wilm2021-strong-frames", "mitos14", (s,)),
            *(
                Run(f"p-{p}-{seed}", "chung2021-fields", "fields", (s, three, f"restyle={p}", *styles["a"]))
                for p in ("0", "0.5", "1")  # 0.2 is a-chung2021
            ),
        ]
    return found


def ablation(seeds: list[int]) -> list[Run]:
    """How much of the domain loss: what the weight in recipes/wilm2021-fields.toml was chosen by, on the part "val"."""
    forms = {
        "weight1": ("domain_weight=1",),
        "weight0.1": ("domain_weight=0.1",),
        "weight0": ("domain_weight=0",),
        "code": ("domain_form=code", "domain_weight=1"),
    }
    three = f"labelled_scanners={json.dumps([XR, S360, CS2])}"
    return [
        Run(f"d-{name}-{seed}", "wilm2021-fields", "fields", (f"seed={seed}", three, *form), part="val")
        for seed in seeds
        for name, form in forms.items()
    ]


def command(*words: str) -> float:
    """Runs a command of the package, shows it, returns its seconds."""
    print("$ mitosight", " ".join(words), flush=True)
    started = time.monotonic()
    subprocess.run([sys.executable, "-m", "mitosight", *words], check=True)
    return time.monotonic() - started


def carry_out(run: Run, data: Path, folder: Path, results: Path) -> None:
    """Trains, detects on the test part, evaluates, probes; writes `results/NAME.json`."""
    model, found = folder / "model", folder / run.part
    settings = [word for setting in run.settings for word in ("--set", setting)]
    if not (model / "run.json").is_file():
        command("train", run.recipe, "--data", str(data), "--out", str(model), *settings)
    split = json.loads((data / "split.json").read_text())
    tests = [str(data / "images" / name) for name in split[run.part]]
    detecting = command(
        "detect", *tests, "--model", str(model), "--out", str(found), "--domains", str(data / "domains.csv")
    )
    scores = folder / f"{run.part}.json"
    command("evaluate", str(found), str(data), "--part", run.part, "--json", str(scores))
    record = json.loads((model / "run.json").read_text())
    header = checkpoint.read_header(model)
    write_json(
        results / f"{run.name}.json",
        {
            "recipe": run.recipe,
            "settings": run.settings,
            "data": run.data,
            "threshold": header["threshold"],
            "validation": header["provenance"]["validation"],
            "training_seconds": record["seconds"],
            "detection_seconds": round(detecting, 1),
            "device": record["device"],
            "versions": record["versions"],
            "probe": probe(run, data, model, run.part),
            **({"probe_test": probe(run, data, model, "test")} if run.part == "val" else {}),
            run.part: without(json.loads(scores.read_text()), {"by_image", "f1_by_threshold", "by_tumor_type"}),
        },
    )


def without(value: Any, keys: set[str]) -> Any:
    """A JSON value without the entries called so, at any depth."""
    if not isinstance(value, dict):
        return value
    return {k: without(v, keys) for k, v in value.items() if k not in keys}


def probe(run: Run, data: Path, model: Path, part: str) -> float | None:
    """Balanced accuracy of a fresh scanner classifier on the features; None where the data hold one scanner.

    It is fitted on the part of the split before `part`, on which it is tested, whose slides are others.
    """
    if run.data != "fields":
        return None
    folder = regions.load(data)
    fitted = folder.part("val" if part == "test" else "train")
    return scanner_accuracy(checkpoint.load(model), folder.images, fitted, folder.part(part))  # type: ignore[arg-type]


def main() -> None:
    """Carries out the plan."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fields", type=Path, required=True)
    parser.add_argument("--mitos14", type=Path, required=True)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--results", type=Path, default=Path("docs/results"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--only", default="", help="names that start so")
    parser.add_argument("--ablation", action="store_true", help="the runs on the part val instead")
    given = parser.parse_args()
    for run in ablation(given.seeds) if given.ablation else plan(given.seeds, given.runs):
        if run.name.startswith(given.only) and not (given.results / f"{run.name}.json").is_file():
            data = given.fields if run.data == "fields" else given.mitos14
            carry_out(run, data, given.runs / run.name, given.results)


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    main()
