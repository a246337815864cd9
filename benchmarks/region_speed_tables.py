"""The tables of region_speed.py, from its JSON.

python benchmarks/region_speed_tables.py speed.json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

PARTS = ("read", "network", "decode", "write")


def tables(result: dict[str, Any]) -> str:
    """Markdown: the machine, the comparison, and where the time goes."""
    machine = result["machine"]
    versions = ", ".join(f"{name} {v}" for name, v in machine["versions"].items() if v != "not installed")
    width, height = result["size_px"]
    lines = [
        f"{machine['cpu']}, {machine['threads']} of {machine['cores']} cores; {versions}.",
        f"A drawn region of {width} x {height} px, {result['area_mm2']:.2f} mm². Median (least to most) of "
        f"{_rounds(result)} runs in turns, each in a fresh process.",
        "",
        *_comparison(result),
        *_disturbances(result),
    ]
    if result["profiles"]:
        lines += ["", *_profile(result), "", *_rates(result)]
    return "\n".join(lines) + "\n"


def _rounds(result: dict[str, Any]) -> int:
    return max(len(runs) for runs in result["runs"].values())


def _comparison(result: dict[str, Any]) -> list[str]:
    lines = [
        "| | search, s | mm²/s | times as fast | start, s | model, s | whole process, s | times as fast, whole "
        "| CPU s | peak MB | points |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, runs in result["runs"].items():
        search = [run["search"] for run in runs]
        cells = [
            _spread(search),
            f"{result['area_mm2'] / median(search):.3f}",
            _ratio(result["times_as_fast"][name]),
            *(f"{median(run[phase] for run in runs):.2f}" for phase in ("start", "load")),
            _spread([run["whole"] for run in runs]),
            _ratio(result["times_as_fast_whole"][name]),
            f"{median(run['cpu'] for run in runs):.1f}",
            f"{max(run['peak_mb'] for run in runs):.0f}",
            str(runs[0]["points"]),
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _disturbances(result: dict[str, Any]) -> list[str]:
    runs = [run for of in result["runs"].values() for run in of]
    disturbed = [run for run in runs if run["disturbed"]]
    loads = [run["load_average"] for run in runs]
    lines = ["", f"Load average before a run: {min(loads):.2f} to {max(loads):.2f}."]
    if disturbed:
        most = max(max(run["others_before"] or 0, run["others_during"] or 0) for run in disturbed)
        lines.append(
            f"**Other work was running in {len(disturbed)} of {len(runs)} runs (up to {most:.1f} cores): "
            "these times are worth little.**"
        )
    return lines


def _profile(result: dict[str, Any]) -> list[str]:
    """Seconds of one run by part, and the rate of the network beside the best of a convolution."""
    best = result["convolution_gflop_per_s"]
    fastest = max(best.values())
    lines = [
        "One run of each with its parts timed: seconds in which at least one thread was at it (seconds summed over "
        "threads).",
        "",
        f"| | search, s | {', s | '.join(PARTS)}, s | network, GFLOP | GFLOP/s | of the best fp32 | of the best |",
        f"|---|---|{'---|' * len(PARTS)}---|---|---|---|",
    ]
    for name, run in result["profiles"].items():
        parts, work = run["parts"], run["network_gflop"]
        cells = [f"{run['search']:.2f}", *(_part(parts.get(part)) for part in PARTS)]
        if "network" in parts and work:
            rate = work / parts["network"]["wall"]
            cells += [f"{work:.0f}", f"{rate:.0f}", f"{rate / best['torch fp32']:.0%}", f"{rate / fastest:.0%}"]
        else:
            cells += ["–"] * 4
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _rates(result: dict[str, Any]) -> list[str]:
    rates = result["convolution_gflop_per_s"]
    return [
        "Best rate of a large 3x3 convolution, the higher of before and after: "
        + ", ".join(f"{name} {rate:.0f}" for name, rate in rates.items())
        + " GFLOP/s."
    ]


def _part(part: dict[str, float] | None) -> str:
    return "–" if part is None else f"{part['wall']:.2f} ({part['seconds']:.2f})"


def _spread(values: Sequence[float]) -> str:
    return f"{median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def _ratio(ratio: dict[str, float]) -> str:
    return f"{ratio['median']:.1f} ({ratio['least']:.1f} to {ratio['most']:.1f})"


if __name__ == "__main__":
    print(tables(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))), end="")
