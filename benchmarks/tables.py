"""The tables of docs/results.md, from the JSON files that benchmarks/runs.py wrote.

    python benchmarks/tables.py docs/results.md

Replaces what stands between `<!-- tables -->` and `<!-- end of tables -->`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from mitosight.outputs import whole

MODELS = ("weak", "strong", "wilm2021", "chung2021", "zhang2022", "kondo2021", "wang2023")
SHARES = ("0", "0.2", "0.5", "1")
SCORES = {"precision": "P", "recall": "R", "f1": "F1", "average_precision": "AP"}
START, END = "<!-- tables -->", "<!-- end of tables -->"


def records(folder: Path, experiment: str) -> dict[str, list[dict[str, Any]]]:
    """Results by model, one for each seed in order."""
    return {
        model: [json.loads(p.read_text()) for p in sorted(folder.glob(f"{experiment}-{model}-*.json"))]
        for model in MODELS
    }


def cell(values: list[float | None]) -> str:
    """Mean over seeds, and the seeds' own values."""
    known = [v for v in values if v is not None]
    if not known:
        return "–"
    single = ", ".join(f"{v:.3f}" for v in known)
    return f"{sum(known) / len(known):.3f} ({single})"


def score_table(found: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Rows of scanners, for each score one column a model."""
    models = [m for m in MODELS if found[m]]
    scanners = sorted({s for m in models for record in found[m] for s in record["test"]["by_scanner"]})
    lines = []
    for key, short in SCORES.items():
        lines += [f"| {short} | " + " | ".join(models) + " |", "|---|" + "---|" * len(models)]
        for scanner in scanners:
            row = [cell([r["test"]["by_scanner"][scanner][key] for r in found[m]]) for m in models]
            lines.append(f"| {scanner} | " + " | ".join(row) + " |")
        row = [cell([r["test"][key] for r in found[m]]) for m in models]
        lines += ["| all | " + " | ".join(row) + " |", ""]
    return lines


def fact_table(found: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Thresholds, validation, the scanner probe, times."""
    facts = {
        "threshold chosen on val": lambda r: r["threshold"],
        "mean AUCPR on val": lambda r: r["validation"]["aucpr"],
        "scanner told from features (balanced accuracy)": lambda r: r["probe"],
        "false positives on a labelled hard negative": lambda r: r["test"].get("hard_negative_share"),
        "minutes of training, its preparation apart": lambda r: r["training_seconds"] / 60,
    }
    models = [m for m in MODELS if found[m]]
    lines = ["| | " + " | ".join(models) + " |", "|---|" + "---|" * len(models)]
    for name, take in facts.items():
        lines.append(f"| {name} | " + " | ".join(cell([take(r) for r in found[m]]) for m in models) + " |")
    return [*lines, ""]


def interval_lines(found: dict[str, list[dict[str, Any]]]) -> list[str]:
    """The bootstrap interval of the F1 over all test images, one line a run."""
    lines = ["95 % intervals of F1 over all test images (bootstrap over images), seed by seed:", ""]
    for model in MODELS:
        for record in found[model]:
            low, high = record["test"]["intervals"]["f1"]
            seed = next(s for s in record["settings"] if s.startswith("seed="))
            lines.append(f"- {model}, {seed}: {record['test']['f1']:.3f} [{low:.3f}, {high:.3f}]")
    return [*lines, ""]


def ablation_table(folder: Path, experiment: str) -> list[str]:
    """What the domain loss does, on the part "val", one line a setting."""
    found: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(folder.glob(f"{experiment}-*.json")):
        found.setdefault(path.stem[2:].rpartition("-")[0], []).append(json.loads(path.read_text()))
    told = "scanner told from features"
    lines = [f"| domain loss | mean AUCPR on val | mean F1 on val | {told} of val | of test |", "|---|---|---|---|---|"]
    for name, runs in found.items():
        facts = (
            [r["validation"]["aucpr"] for r in runs],
            [r["validation"]["f1"] for r in runs],
            [r["probe"] for r in runs],
            [r.get("probe_test") for r in runs],
        )
        lines.append(f"| {name} | " + " | ".join(cell(values) for values in facts) + " |")
    return [*lines, ""] if found else []


def share_table(folder: Path) -> list[str]:
    """Chung's p: share of the tiles that are restyled, one line each; 0.2 is the paper's."""
    lines = ["| p | mean AUCPR on val | F1 | AP | F1 on Aperio ScanScope XT |", "|---|---|---|---|---|"]
    for share in SHARES:
        name = "a-chung2021-*.json" if share == "0.2" else f"p-{share}-*.json"
        runs = [json.loads(path.read_text()) for path in sorted(folder.glob(name))]
        facts = (
            [r["validation"]["aucpr"] for r in runs],
            [r["test"]["f1"] for r in runs],
            [r["test"]["average_precision"] for r in runs],
            [r["test"]["by_scanner"]["Aperio ScanScope XT"]["f1"] for r in runs],
        )
        lines.append(f"| {share} | " + " | ".join(cell(values) for values in facts) + " |")
    return [*lines, ""] if any(folder.glob("p-*.json")) else []


def level_table(folder: Path) -> list[str]:
    """What a level of the pyramid adds: `strong` of experiment a, which has two, beside the same with one."""
    lines = ["| levels | mean AUCPR on val | F1 | AP |", "|---|---|---|---|"]
    for levels, name in (("P4, P5", "a-strong"), ("P4", "o-strong")):
        runs = [json.loads(path.read_text()) for path in sorted(folder.glob(f"{name}-*.json"))]
        facts = (
            [r["validation"]["aucpr"] for r in runs],
            [r["test"]["f1"] for r in runs],
            [r["test"]["average_precision"] for r in runs],
        )
        lines.append(f"| {levels} | " + " | ".join(cell(values) for values in facts) + " |")
    return [*lines, ""] if any(folder.glob("o-*.json")) else []


def main() -> None:
    """Writes the tables into the page named on the command line."""
    page = Path(sys.argv[1])
    folder = page.parent / "results"
    titles = {
        "a": "### a. Three labelled scanners and one unlabelled",
        "b": "### b. Labels of one scanner alone (Hamamatsu XR)",
        "c": "### c. Whole frames of MITOS-ATYPIA-14",
    }
    lines: list[str] = []
    for experiment, title in titles.items():
        found = records(folder, experiment)
        if any(found.values()):
            lines += [title, "", *score_table(found), *fact_table(found), *interval_lines(found)]
    if rows := ablation_table(folder, "d"):
        lines += ["### d. How much domain loss (part val, labelled scanners)", "", *rows]
    if rows := share_table(folder):
        lines += ["### p. How much restyling (chung2021, as in a)", "", *rows]
    if rows := level_table(folder):
        lines += ["### o. One level of the pyramid instead of two (strong, as in a)", "", *rows]
    text = page.read_text(encoding="utf-8")
    before, rest = text.split(START)
    after = rest.split(END)[1]
    with whole(page) as temporary:
        temporary.write_text(f"{before}{START}\n\n" + "\n".join(lines) + f"\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
