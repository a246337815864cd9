"""From the cells of a protocol to its results: scores by domain, seen or not, what seeing is worth, who is better."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from mitosight.bench.cell import Bench
from mitosight.bench.counts import STATES, Drawn, State, compared, domains, draw, interval
from mitosight.bench.folds import domain_of
from mitosight.regions import Region

SCORES = {
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "average_precision": "AP",
    "aucpr": "AUCPR",
    "froc_auc": "FROC",
}
GROUP = {"scanner": "by_scanner", "tumor_type": "by_tumor_type"}
Cells = Sequence[Mapping[str, Any]]


def summarised(bench: Bench, cells: Cells, failed: Mapping[str, str]) -> dict[str, Any]:
    """What `results.json` holds.

    `scores`: by state ("seen": the training had labels of that domain; "unseen"), model and domain the mean over runs,
    each run, and for the F1 its 95 % interval (slides of a domain drawn with replacement, the runs' mean); under
    "mean" that of all domains, which count alike. `drop`: what the same test images lose when their domain was not
    seen. `compared`: differences between models. `cost`: what each took.

    Args:
        cells: what `Bench.work` gives.
        failed: cells that are missing, and why.
    """
    regions = bench.data.part(bench.protocol.tested)
    found: dict[str, Any] = {"scores": {}, "compared": {}, "f1_drawn": {}}
    for state in STATES:
        found["scores"][state], drawn, found["compared"][state] = _state(bench, cells, state, regions)
        found["f1_drawn"][state] = _quantiles(drawn)
    models = [entry.name for entry in bench.protocol.models]
    return {
        "protocol": bench.protocol.model_dump(mode="json"),
        "images": len(regions),
        "slides": len({region.slide for region in regions}),
        "failed": dict(failed),
        **found,
        "drop": {m: fall for m in models if (fall := _drop(found["scores"], m)) is not None},
        "cost": {m: _cost([c for c in cells if c["model"] == m]) for m in models},
        "cells": [{key: value for key, value in cell.items() if key not in ("scores", "key")} for cell in cells],
    }


def _state(
    bench: Bench, cells: Cells, state: State, regions: Sequence[Region]
) -> tuple[dict[str, Any], Drawn, list[dict[str, Any]]]:
    by = bench.protocol.by
    slides = {r.file_name: r.slide for r in regions}
    there = domains(cells, state, slides, {r.file_name: domain_of(r, by) for r in regions})
    drawn = draw(there, bench.protocol.bootstrap) if there and bench.protocol.bootstrap else Drawn({}, {})
    scores: dict[str, Any] = {}
    for model in dict.fromkeys(cell["model"] for cell in cells):
        own = [cell for cell in cells if cell["model"] == model and cell[state]]
        if not own:
            continue
        rows = {
            domain: _scores(
                [c["scores"][GROUP[by]][domain] for c in own if domain in c[state]],
                drawn.by_domain.get(model, {}).get(domain),
            )
            for domain in sorted({d for c in own for d in c[state]})
        }
        scores[model] = rows | {"mean": _mean(rows, drawn.mean.get(model))}
    return scores, drawn, compared(there, drawn) if len(drawn.mean) > 1 else []


def _scores(runs: Sequence[Mapping[str, Any]], drawn: Any) -> dict[str, Any]:
    """One domain: each score's mean over runs, and the runs'."""
    found = {key: {"mean": _average(r[key] for r in runs), "runs": [r[key] for r in runs]} for key in SCORES}
    if drawn is not None:
        found["f1"]["interval"] = interval(drawn)
    return found


def _mean(rows: Mapping[str, Mapping[str, Any]], drawn: Any) -> dict[str, Any]:
    """All domains alike."""
    found: dict[str, Any] = {key: {"mean": _average(row[key]["mean"] for row in rows.values())} for key in SCORES}
    if drawn is not None:
        found["f1"]["interval"] = interval(drawn)
    return found


def _average(values: Iterable[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return float(np.mean(known)) if known else None


def _drop(scores: Mapping[str, Any], model: str) -> dict[str, float] | None:
    """Mean F1 of the domains that stand in both states, when seen and when not, and the share that is kept."""
    seen, unseen = (scores[state].get(model, {}) for state in STATES)
    both = [d for d in seen if d in unseen and d != "mean"]
    values = [[rows[d]["f1"]["mean"] or 0.0 for d in both] for rows in (seen, unseen)]
    if not both:
        return None
    known, unknown = (float(np.mean(v)) for v in values)
    return {"seen": known, "unseen": unknown, "kept": unknown / known if known else 0.0}


def _cost(cells: Cells) -> dict[str, Any]:
    """Medians over the cells of a model."""
    taken: dict[str, Callable[[Mapping[str, Any]], float | None]] = {
        "training_seconds": lambda c: c["training_seconds"],
        "parameters": lambda c: c["parameters"],
        "mm2_per_second": lambda c: (c["scores"]["area_mm2"] or 0.0) / c["search_seconds"] or None,
    }
    found = {}
    for name, take in taken.items():
        known = [v for v in map(take, cells) if v is not None]
        found[name] = float(np.median(known)) if known else None
    return found


def _quantiles(drawn: Drawn) -> dict[str, Any]:
    """The distributions of the drawn F1, as 41 quantiles each."""
    at = np.linspace(0, 1, 41)
    return {
        model: {domain: np.quantile(values, at).round(4).tolist() for domain, values in by_domain.items()}
        for model, by_domain in drawn.by_domain.items()
    }


def table(results: Mapping[str, Any]) -> list[str]:
    """Markdown: F1 by domain with intervals, the other scores on average, the drop, the comparisons, the cost."""
    lines = [f"# {results['protocol']['title']}", ""]
    lines += [f"{results['images']} test images of {results['slides']} slides; seeds {_listed(results)}.", ""]
    for state in STATES:
        if rows := results["scores"][state]:
            lines += _f1_table(state, rows, results["protocol"]["by"]) + _score_table(rows)
    lines += _drop_table(results["drop"]) + _pair_table(results["compared"]) + _cost_table(results["cost"])
    if results["failed"]:
        lines += ["## Failed", "", *(f"- {cell}: {why}" for cell, why in results["failed"].items()), ""]
    return lines


def _listed(results: Mapping[str, Any]) -> str:
    return ", ".join(map(str, results["protocol"]["seeds"]))


def number(value: float | None, form: str = ".3f") -> str:
    """A number, or a dash where there is none."""
    return "–" if value is None else format(value, form)


def with_interval(score: Mapping[str, Any]) -> str:
    """A mean with its interval."""
    ends = score.get("interval")
    return number(score["mean"]) + (f" [{ends[0]:.3f}, {ends[1]:.3f}]" if ends else "")


def _rows(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(head) + " |", "|---" * len(head) + "|", *("| " + " | ".join(r) + " |" for r in rows), ""]


def _f1_table(state: str, rows: Mapping[str, Any], by: str) -> list[str]:
    names = [*dict.fromkeys(d for row in rows.values() for d in row if d != "mean"), "mean"]
    head = [f"F1, {by} {state}", *names]
    cells = [[m, *(with_interval(row[d]["f1"]) if d in row else "–" for d in names)] for m, row in rows.items()]
    return [f"## {by.replace('_', ' ').capitalize()}s {state} in training", "", *_rows(head, cells)]


def _score_table(rows: Mapping[str, Any]) -> list[str]:
    cells = [[model, *(number(row["mean"][key]["mean"]) for key in SCORES)] for model, row in rows.items()]
    return _rows(["mean of all", *SCORES.values()], cells)


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
        cells = [
            [f"{p['a']} – {p['b']}", f"{p['difference']:+.3f} [{p['interval'][0]:+.3f}, {p['interval'][1]:+.3f}]",
             f"{p['p']:.3f}"]
            for p in pairs[state]
        ]  # fmt: skip
        lines += [f"## Differences of mean F1, {state}", "", *_rows(["models", "difference", "p"], cells)]
    return lines


def _cost_table(cost: Mapping[str, Any]) -> list[str]:
    cells = [
        [
            m,
            number(c["training_seconds"] and c["training_seconds"] / 60, ".1f"),
            number(c["parameters"] and c["parameters"] / 1e6, ".1f"),
            number(c["mm2_per_second"], ".2f"),
        ]
        for m, c in cost.items()
    ]
    return ["## Cost", "", *_rows(["", "minutes of training", "million parameters", "mm²/s"], cells)]
