"""The runs of docs/results.md: the methods on real data, scored on held-out slides.

    python benchmarks/runs.py --fields DIR --mitos14 DIR --runs runs --results docs/results

Trains, detects and evaluates by the commands of the package (printed as they run) and writes one JSON for each run.
A run whose JSON is there is passed over; a training that was stopped goes on. Nothing is chosen on the part "test";
`--ablation` gives the runs on the part "val" that the domain loss was weighted by.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from scored import Run, carry_out

from mitosight import checkpoint, regions
from mitosight.outputs import write_json
from mitosight.probe import scanner_accuracy

XR, S360, CS2, XT = "Hamamatsu XR", "Hamamatsu S360", "Aperio CS2", "Aperio ScanScope XT"
BASELINES, PATCHES, STYLED = ("strong", "weak"), ("wang2023", "kondo2021"), ("chung2021", "wang2023")
RECIPES = {model: f"wilm2021-{model}-fields" for model in BASELINES}
RECIPES |= {model: f"{model}-fields" for model in ("wilm2021", "chung2021", "zhang2022", *PATCHES)}
THREE = json.dumps([XR, S360, CS2])
SEEN = {  # by experiment: what the baselines see, and what the others do, of whom each makes of it what it can
    "a": ((f"scanners={THREE}",), (f"labelled_scanners={THREE}",)),
    "b": (
        (f"scanners={json.dumps([XR])}",),
        (f"scanners={json.dumps([XR, XT])}", f"labelled_scanners={json.dumps([XR])}"),
    ),
}


def plan(seeds: list[int], runs: Path) -> list[Run]:
    """All runs, the ones that a table needs first."""
    found = []
    for seed in seeds:
        found += [run for experiment in SEEN for run in on_fields(experiment, seed, seeds[0], runs)]
        found += [
            Run(f"c-{model}-{seed}", f"{recipe}-frames", "mitos14", (f"seed={seed}",))
            for model, recipe in (("strong", "wilm2021-strong"), *((model, model) for model in PATCHES))
        ]
        known = styles("a", "chung2021", seeds[0], runs)
        found += [
            Run(f"p-{p}-{seed}", "chung2021-fields", "fields", (f"seed={seed}", *SEEN["a"][1], f"restyle={p}", known))
            for p in ("0", "0.5", "1")  # 0.2 is a-chung2021
        ]
        found.append(
            Run(f"o-strong-{seed}", RECIPES["strong"], "fields", (f"seed={seed}", *SEEN["a"][0], "levels=[4]"))
        )
    return found


def on_fields(experiment: str, seed: int, first: int, runs: Path) -> list[Run]:
    """Every method on the labels of the same scanners. A network of styles is trained once and serves all seeds.

    In b one scanner is labelled instead of three: methods that learn from tiles get three times as many of each; those
    that learn from patches have batches of one size whatever the scanners.
    """
    found = []
    for model, recipe in RECIPES.items():
        settings = [f"seed={seed}", *SEEN[experiment][model not in BASELINES]]
        if experiment == "b" and model not in PATCHES:
            settings.append("tiles_per_scanner=9")
        if model in STYLED and seed != first:
            settings.append(styles(experiment, model, first, runs))
        elif (experiment, model) == ("b", "chung2021"):
            settings.append("style_identity_weight=5")  # without it this transfer turned light and dark
        found.append(Run(f"{experiment}-{model}-{seed}", recipe, "fields", tuple(settings)))
    return found


def styles(experiment: str, model: str, seed: int, runs: Path) -> str:
    """The setting that takes the styles which another run has learned."""
    return f"style={runs / f'{experiment}-{model}-{seed}' / 'model'}"


def ablation(seeds: list[int]) -> list[Run]:
    """How much of the domain loss: what the weight in recipes/wilm2021-fields.toml was chosen by, on the part "val"."""
    forms = {
        "weight1": ("domain_weight=1",),
        "weight0.1": ("domain_weight=0.1",),
        "weight0": ("domain_weight=0",),
        "code": ("domain_form=code", "domain_weight=1"),
    }
    return [
        Run(f"d-{name}-{seed}", "wilm2021-fields", "fields", (f"seed={seed}", *SEEN["a"][1], *form), part="val")
        for seed in seeds
        for name, form in forms.items()
    ]


def probes(run: Run, data: Path, model: Path) -> dict[str, float | None]:
    """How well the scanners are told from the features on the part that is tested, and for "val" on "test" too."""
    more = {"probe_test": probe(run, data, model, "test")} if run.part == "val" else {}
    return {"probe": probe(run, data, model, run.part), **more}


def probe(run: Run, data: Path, model: Path, part: str) -> float | None:
    """Balanced accuracy of a fresh scanner classifier on the features; None where the data hold one scanner.

    It is fitted on the part of the split before `part`, on which it is tested, whose slides are others.
    """
    if run.data != "fields":
        return None
    folder = regions.load(data)
    fitted = folder.part("val" if part == "test" else "train")
    return scanner_accuracy(checkpoint.load(model), folder.images, fitted, folder.part(part))


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
            record = carry_out(run, data, given.runs / run.name)
            told = probes(run, data, given.runs / run.name / "model")
            write_json(given.results / f"{run.name}.json", record | told)


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    main()
