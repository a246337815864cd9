"""The results of a bench as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mitosight.bench.counts import LEAST, STATES

SCORES = {
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "average_precision": "AP",
    "aucpr": "AUCPR",
    "froc_auc": "FROC",
}
Rows = Mapping[str, Any]


def table(results: Mapping[str, Any]) -> list[str]:
    """Markdown: F1 side by side, all scores by domain, drop, differences, separability and cost, and what failed."""
    by = results["protocol"]["by"].replace("_", " ")
    seeds = ", ".join(map(str, results["protocol"]["seeds"]))
    lines = [f"# {results['protocol']['title']}", ""]
    lines += [f"{results['images']} test images of {results['slides']} slides; seeds {seeds}.", ""]
    lines += _made(results.get("made", {})) + _missing(results.get("runs", {})) + _domain_table(results, by)
    for state in STATES:
        if rows := results["scores"][state]:
            lines += _f1_table(state, rows, by) + _score_table(state, rows, by)
    lines += _drop_table(results["drop"]) + _pair_table(results["compared"])
    lines += _separability_table(results.get("separability", {})) + _cost_table(results["cost"])
    if results["failed"]:
        lines += ["## Failed", "", *(f"- {cell}: {why}" for cell, why in results["failed"].items()), ""]
    return lines


def number(value: float | None, form: str = ".3f") -> str:
    """A number, or a dash where there is none."""
    return "–" if value is None else format(value, form)


def with_interval(score: Mapping[str, Any]) -> str:
    """A mean with its interval, where there is one."""
    ends = score.get("interval")
    return number(score["mean"]) + (f" [{ends[0]:.3f}, {ends[1]:.3f}]" if ends else "")


def _rows(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(head) + " |", "|---" * len(head) + "|", *("| " + " | ".join(r) + " |" for r in rows), ""]


def _made(made: Mapping[str, Mapping[str, int]]) -> list[str]:
    """One line where cells were made by different versions, or on different devices."""
    words = {"mitosight": "versions of mitosight", "device": "devices"}
    told = [
        f"{words[what]}: " + ", ".join(f"{name} ({cells})" for name, cells in counts.items())
        for what, counts in made.items()
        if len(counts) > 1
    ]
    return [f"Not all alike (number of cells): {'; '.join(told)}.", ""] if told else []


def _missing(runs: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """One line where cells are missing: how far each model is, and whose rows are of some folds only."""
    if all(own["cells"] == own["of"] for own in runs.values()):
        return []
    told = [f"{model} {own['cells']} of {own['of']} cells ({_whole(own['seeds'])})" for model, own in runs.items()]
    return [f"Seeds of which all folds are done count. {'; '.join(told)}.", ""]


def _whole(seeds: Sequence[int]) -> str:
    if not seeds:
        return "no seed whole: a row of some folds, not compared"
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def _domain_table(results: Mapping[str, Any], by: str) -> list[str]:
    """What is tested, by domain, and which domains say less than others."""
    there = results.get("domains")
    if not there:
        return []
    cells = [[name, *(str(own[key]) for key in ("images", "figures", "drawn"))] for name, own in there.items()]
    what = results["protocol"].get("drawn", "slide") + "s"
    lines = _rows([by, "images", "figures", f"{what} to draw"], cells)
    if what == "images" and results["protocol"]["bootstrap"]:
        lines += ["Intervals are over images, some of them of the same slides: too narrow by what slides differ.", ""]
    few = [name for name, own in there.items() if own["figures"] and own["drawn"] < LEAST]
    if few and results["protocol"]["bootstrap"]:
        one = " (those that share an image count as one)" if what == "slides" else ""
        told = f"No interval where fewer than {LEAST} {what} can be drawn{one}"
        lines += [f"{told}, nor for means of such domains: {', '.join(few)}.", ""]
    if empty := [name for name, own in there.items() if not own["figures"]]:
        lines += [f"Without a figure to find, so in no mean, difference or curve: {', '.join(empty)}.", ""]
    return lines


def _named(rows: Rows) -> list[str]:
    """The domains, and last their mean."""
    return [*dict.fromkeys(d for row in rows.values() for d in row if d != "mean"), "mean"]


def _f1_table(state: str, rows: Rows, by: str) -> list[str]:
    names = _named(rows)
    cells = [[m, *(with_interval(row[d]["f1"]) if d in row else "–" for d in names)] for m, row in rows.items()]
    return [f"## {by.capitalize()}s {state} in training", "", *_rows([f"F1, {by} {state}", *names], cells)]


def _score_table(state: str, rows: Rows, by: str) -> list[str]:
    cells = [
        [name, model, *(with_interval(row[name][key]) for key in SCORES)]
        for name in _named(rows)
        for model, row in rows.items()
        if name in row
    ]
    return _rows([f"{by} {state}", "model", *SCORES.values()], cells)


def _drop_table(drop: Mapping[str, Any]) -> list[str]:
    if not drop:
        return []
    cells = [[m, number(d["seen"]), number(d["unseen"]), number(d["kept"], ".2f")] for m, d in drop.items()]
    return ["## From seen to unseen", "", *_rows(["F1 of the same images", "seen", "unseen", "kept"], cells)]


def _pair_table(pairs: Mapping[str, Any]) -> list[str]:
    lines = []
    for state in STATES:
        if not pairs.get(state):
            continue
        cells = [[f"{p['a']} – {p['b']}", _difference(p), number(p["p"])] for p in pairs[state]]
        lines += [f"## Differences of mean F1, {state}", "", *_rows(["models", "difference", "p"], cells)]
    return lines


def _difference(pair: Mapping[str, Any]) -> str:
    ends = pair["interval"]
    return f"{pair['difference']:+.3f}" + (f" [{ends[0]:+.3f}, {ends[1]:+.3f}]" if ends else "")


def _separability_table(told: Mapping[str, Any]) -> list[str]:
    if not any(told.values()):
        return []
    cells = [
        [m, number(one["mean"]), number(one["chance"]), str(len(one["folds"]))] if one else [m, "–", "–", "0"]
        for m, one in told.items()
    ]
    return ["## Scanners told apart by features", "", *_rows(["", "balanced accuracy", "chance", "folds"], cells)]


def _cost_table(cost: Mapping[str, Any]) -> list[str]:
    columns = {
        "minutes of preparation": ("preparation_seconds", 60, ".1f"),
        "minutes of training": ("training_seconds", 60, ".1f"),
        "million parameters": ("parameters", 1e6, ".1f"),
        "mm²/s": ("mm2_per_second", 1, ".2f"),
    }
    if not any(one.get("preparation_seconds") is not None for one in cost.values()):
        del columns["minutes of preparation"]

    def shown(one: Mapping[str, Any]) -> list[str]:
        values = ((one.get(key), unit, form) for key, unit, form in columns.values())
        return [number(None if value is None else value / unit, form) for value, unit, form in values]

    return ["## Cost", "", *_rows(["", *columns], [[m, *shown(one)] for m, one in cost.items()])]
