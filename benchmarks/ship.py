"""Puts a trained model and its first look into the package, with a card whose numbers are measured here.

    python benchmarks/ship.py --model runs/ship --first runs/shipfirst --name mitosight --threshold-on MITOS14 \\
        --data FIELDS --data MITOS14 --data PHANTOMS --work runs/shipping --json docs/results/shipped-mitosight.json

The threshold is the one of the best F1 on the part val of `--threshold-on`: whole frames, as sparse as life. Then the
first look is paired, that part val is searched with `--fast` too, and the part test of each data folder that has one,
once with the model alone and once with `--fast`; scores by the MIDOG rule. Model, first look and card go to
src/mitosight/weights/NAME.

    python benchmarks/ship.py --name mitosight --json docs/results/shipped-mitosight.json

writes the card alone, by what was measured before: after a change of its words in benchmarks/card.md.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import scored

from mitosight import checkpoint, detections, modelfile, regions
from mitosight.evaluation import evaluate
from mitosight.outputs import sha256, whole, write_json

PACKAGE = Path(modelfile.__file__).parent / "weights"
CARD = Path(__file__).with_name("card.md")  # its words; the numbers are filled in
OFF = (-0.05, -0.01, 0.01, 0.05)  # how far from the threshold the F1 is told


def search(model: Path, data: Path, part: str, out: Path, *options: str) -> dict[str, Any]:
    """Scores of a model on a part of a data folder, as `mitosight evaluate --json` writes them."""
    names = json.loads((data / "split.json").read_text())[part]
    shutil.rmtree(out, ignore_errors=True)
    slides = [str(data / "images" / name) for name in names]
    how = ("--domains", str(data / "domains.csv"), "--runtime", "torch", *options)
    scored.command("detect", *slides, "--model", str(model), "--out", str(out), *how)
    scores = out.with_suffix(".json")
    scored.command("evaluate", str(out), str(data), "--part", part, "--json", str(scores))
    found: dict[str, Any] = json.loads(scores.read_text())
    return found


def with_threshold(model: Path, data: Path, work: Path) -> tuple[Path, dict[str, Any]]:
    """A copy of the model with the threshold of the best F1 on the part val of `data`, and its scores there."""
    file = modelfile.locate(model)
    val = search(file, data, "val", work / "val")
    header, detector = checkpoint.read_header(file), checkpoint.load(file)
    detector.threshold = round(val["plateau"]["centre"], 3)
    provenance = {**header["provenance"], "threshold": {"data": data.name, "part": "val", "f1": val["best_f1"]}}
    file = checkpoint.save(work / "model", detector, header["method"], header["arguments"], provenance)
    return file, search(file, data, "val", work / "val")


def beside(threshold: float, found: Path, data: Path) -> dict[str, float | None]:
    """The F1 on the part val of `data` a little below and above the threshold, by the points in `found`."""
    points, val = detections.read(found), regions.load(data).part("val")
    near = {f"{off:+.2f}": evaluate(points, val, threshold=threshold + off, bootstrap=0, by_image=False) for off in OFF}
    return {off: report.total.f1 for off, report in near.items()}


def row(name: str, scores: dict[str, Any]) -> str:
    """A line of the card's table."""
    low, high = scores["intervals"]["f1"]
    counts = f"{scores['images']} | {scores['figures']}"
    rates = " | ".join(f"{scores[key]:.3f}" for key in ("precision", "recall", "f1"))
    return f"| {name} | {counts} | {rates} | {low:.3f} to {high:.3f} | {scores['aucpr']:.3f} |"


def card(result: dict[str, Any]) -> str:
    """The card: its words with the numbers of `result`."""
    rows = [row(name, group) for test in result["test"].values() for name, group in test["by_scanner"].items()]
    fast = [f"{data} {test['f1']:.3f}" for data, test in result["test_fast"].items()]
    plateau, beside = result["val"]["plateau"], result["val_beside"]
    return CARD.read_text(encoding="utf-8").format(
        rows="\n".join(rows),
        fast=", ".join(fast),
        threshold=result["threshold"],
        low=f"{plateau['low']:.3f}",
        high=f"{plateau['high']:.3f}",
        val_f1=f"{result['val']['f1']:.3f}",
        nearer=" and ".join(f"{beside[off]:.3f}" for off in ("-0.01", "+0.01")),
        farther=" and ".join(f"{beside[off]:.3f}" for off in ("-0.05", "+0.05")),
        steps=result["steps"],
        seed=result["seed"],
        sha256=result["sha256"],
        recall=f"{result['first']['recall']:.3f}",
        per_mm2=f"{result['first']['per_mm2']:.0f}",
    )


def measured(given: argparse.Namespace) -> tuple[Path, dict[str, Any]]:
    """The model's file, with its threshold and its first look, in the folder `work`; and all that was measured."""
    file, val = with_threshold(given.model, given.threshold_on, given.work)
    folders = [word for path in given.data for word in ("--data", str(path))]
    scored.command("pair", str(file), str(given.first), *folders)
    val_fast = search(file, given.threshold_on, "val", given.work / "val_fast", "--fast")
    tests = [path for path in given.data if json.loads((path / "split.json").read_text()).get("test")]
    result: dict[str, Any] = {}
    for key, options in (("test", ()), ("test_fast", ("--fast",))):
        found = {data.name: search(file, data, "test", given.work / f"{key}-{data.name}", *options) for data in tests}
        result[key] = scored.without(found, scored.LEFT_OUT)
    header = checkpoint.read_header(file)
    recipe = header["provenance"]["recipe"]
    return file, result | {
        "sha256": sha256(file),
        "threshold": header["threshold"],
        "val": scored.without(val, scored.LEFT_OUT),
        "val_fast": scored.without(val_fast, scored.LEFT_OUT),
        "val_beside": beside(header["threshold"], given.work / "val", given.threshold_on),
        "first": checkpoint.read_header(file.parent / modelfile.FIRST)["provenance"]["first"],
        "steps": recipe["optimisation"]["epochs"] * recipe["optimisation"]["steps_per_epoch"],
        "seed": recipe["training"]["seed"],
        "provenance": header["provenance"],
    }


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", required=True)
    parser.add_argument("--json", type=Path, required=True)
    for name in ("model", "first", "threshold-on", "work"):
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--data", type=Path, action="append", default=[])
    given = parser.parse_args()
    place = PACKAGE / given.name
    if given.model is not None:
        if not (given.first and given.threshold_on and given.work and given.data):
            parser.error("--model goes with --first, --threshold-on, --work and --data")
        file, result = measured(given)
        write_json(given.json, result)
        for name in (Path(modelfile.FILE), Path(modelfile.FIRST, modelfile.FILE)):
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file.parent / name, place / name)
    with whole(place / modelfile.CARD) as temporary:
        temporary.write_text(card(json.loads(given.json.read_text(encoding="utf-8"))), encoding="utf-8")


if __name__ == "__main__":
    main()
