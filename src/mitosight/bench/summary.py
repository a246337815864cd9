"""From the cells of a protocol to its results: scores by domain, seen or not, what seeing is worth, who is better."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mitosight.bench.cell import Bench
from mitosight.bench.counts import (
    STATES,
    Drawn,
    Draws,
    Images,
    State,
    compared,
    domains,
    draw,
    images_of,
    interval,
    known_mean,
)
from mitosight.bench.ranking import RANKED, ranking, stepped
from mitosight.bench.tables import SCORES, table

__all__ = ["summarised", "table"]

GROUP = {"scanner": "by_scanner", "tumor_type": "by_tumor_type"}
LEFT_OUT = ("scores", "key", RANKED)  # of the cells
QUANTILES = np.linspace(0, 1, 41)
Cells = Sequence[Mapping[str, Any]]


def summarised(bench: Bench, cells: Cells, failed: Mapping[str, str]) -> dict[str, Any]:
    """What `results.json` holds.

    `domains`: by domain the numbers of test images, figures, and of what is drawn: slides, those that share an image
    together. `scores`: by state ("seen": the training had labels of that domain; "unseen"), model and domain for each
    score the mean over the runs that have it, each run, and the 95 % interval (slides drawn with replacement, the
    runs' mean; None where fewer than `counts.LEAST` can be drawn); under "mean" that of all domains with figures, which
    count alike. `f1_drawn`: quantiles of the drawn F1. `curves`: by state and model the mean precision at the recalls
    `ranking.RECALLS`. `drop`: what the same test images lose when their domain was not seen. `compared`: differences
    between models. `runs`: see `whole_seeds`. `separability`: of scanners by features. `cost`: what each took. `made`:
    by how many cells each version and device.

    Args:
        cells: what `Bench.work` gives.
        failed: cells that are missing, and why.
    """
    regions = bench.data.part(bench.protocol.tested)
    images = images_of(regions, bench.protocol.by, bench.protocol.drawn)
    cells, runs = whole_seeds(bench, cells)
    found: dict[str, dict[str, Any]] = {"scores": {}, "compared": {}, "f1_drawn": {}, "curves": {}}
    for state in STATES:
        for name, value in _state(bench, cells, state, images, [m for m, of in runs.items() if of["seeds"]]).items():
            found[name][state] = value
    models = [entry.name for entry in bench.protocol.models]
    with_figures = {domain for domain, own in images.items() if own.figures.any()}
    return {
        "protocol": bench.protocol.model_dump(mode="json"),
        "images": len(regions),
        "slides": len({slide for region in regions for slide in region.slides}),
        "domains": {domain: own.told() for domain, own in images.items()},
        "failed": dict(failed),
        "runs": runs,
        **found,
        "drop": {m: fall for m in models if (fall := _drop(found["scores"], m, with_figures)) is not None},
        "separability": {m: _separability(bench, [c for c in cells if c["model"] == m]) for m in models},
        "cost": {m: _cost([c for c in cells if c["model"] == m]) for m in models},
        "made": {
            "mitosight": dict(Counter(cell.get("versions", {}).get("mitosight", "unknown") for cell in cells)),
            "device": dict(Counter(cell.get("device", "unknown") for cell in cells)),
        },
        "cells": [{key: value for key, value in cell.items() if key not in LEFT_OUT} for cell in cells],
    }


def whole_seeds(bench: Bench, cells: Cells) -> tuple[list[Mapping[str, Any]], dict[str, dict[str, Any]]]:
    """The cells that count, and for each model its `cells`, out of how many (`of`), and its whole `seeds`.

    A mean over some folds is not one over all: cells of a seed that lacks folds count only for a model that has no
    whole seed, which is then shown, but neither drawn nor compared.
    """
    counted: list[Mapping[str, Any]] = []
    runs: dict[str, dict[str, Any]] = {}
    folds = {fold.name for fold in bench.folds}
    for entry in bench.protocol.models:
        own = [cell for cell in cells if cell["model"] == entry.name]
        done = {seed: {c["fold"] for c in own if c["seed"] == seed} for seed in bench.protocol.seeds}
        seeds = [seed for seed, there in done.items() if there >= folds]
        counted += [cell for cell in own if not seeds or cell["seed"] in seeds]
        if own:
            runs[entry.name] = {"cells": len(own), "of": len(folds) * len(done), "seeds": seeds}
    return counted, runs


def _state(
    bench: Bench, cells: Cells, state: State, images: Mapping[str, Images], models: Sequence[str]
) -> dict[str, Any]:
    """Scores of all, and comparisons, distributions and curves of these models, for the domains seen, or not."""
    by, draws = bench.protocol.by, bench.protocol.bootstrap
    there = domains(cells, state, images, models)
    drawn = draw(there, draws) if draws else Drawn({}, {})
    figured = [domain for domain, own in images.items() if own.figures.any()]
    scores: dict[str, Any] = {}
    curves: dict[str, list[float]] = {}
    for model in dict.fromkeys(cell["model"] for cell in cells if cell[state]):
        own = [cell for cell in cells if cell["model"] == model]
        runs = {domain: of for domain in images if (of := [cell for cell in own if domain in cell[state]])}
        rows = {
            domain: _scores([cell["scores"][GROUP[by]][domain] for cell in of], drawn.of(model, domain))
            for domain, of in runs.items()
        }
        with_figures = [domain for domain in rows if domain in figured]
        scores[model] = rows | {"mean": _mean([rows[d] for d in with_figures], drawn.mean.get(model, {}))}
        if with_figures:
            each = [np.mean([_curve(c, GROUP[by], d, images[d]) for c in runs[d]], axis=0) for d in with_figures]
            curves[model] = np.mean(each, axis=0).round(4).tolist()
    return {"scores": scores, "compared": compared(there, drawn), "f1_drawn": _quantiles(drawn), "curves": curves}


def _scores(runs: Sequence[Mapping[str, Any]], drawn: Draws) -> dict[str, Any]:
    """One domain: each score's mean over the runs that have it, the runs', and its interval."""
    return {
        key: {"mean": _average(r[key] for r in runs), "runs": [r[key] for r in runs], "interval": _between(drawn, key)}
        for key in SCORES
    }


def _mean(rows: Sequence[Mapping[str, Any]], drawn: Draws) -> dict[str, Any]:
    """All domains alike."""
    return {
        key: {"mean": _average(row[key]["mean"] for row in rows), "interval": _between(drawn, key)} for key in SCORES
    }


def _between(drawn: Draws, key: str) -> list[float] | None:
    return interval(drawn[key]) if key in drawn else None


def _average(values: Iterable[float | None]) -> float | None:
    """The mean of those that are there."""
    found = float(known_mean(np.array([np.nan if v is None else v for v in values])))
    return None if np.isnan(found) else found


def _curve(cell: Mapping[str, Any], group: str, domain: str, images: Images) -> NDArray[np.float64]:
    """Precision at the recalls `RECALLS`: of all thresholds, or of the hundred or so that a cell without points has."""
    if RANKED in cell:
        return ranking(cell[RANKED], images.names, images.unit, images.figures).curve()
    rows = cell["scores"][group][domain].get("f1_by_threshold", [])
    return stepped(np.array([row["recall"] for row in rows]), np.array([row["precision"] for row in rows]))


def _drop(scores: Mapping[str, Any], model: str, domains: Iterable[str]) -> dict[str, float] | None:
    """Mean F1 of the domains that stand in both states, when seen and when not, and the share that is kept."""
    seen, unseen = (scores[state].get(model, {}) for state in STATES)
    both = [d for d in seen if d in unseen and d in domains]
    if not both:
        return None
    known, unknown = (float(np.mean([rows[d]["f1"]["mean"] for d in both])) for rows in (seen, unseen))
    return {"seen": known, "unseen": unknown, "kept": unknown / known if known else 0.0}


def _separability(bench: Bench, cells: Cells) -> dict[str, Any] | None:
    """The mean over the folds of the first seed that have it, each fold, and what chance gives; None without any."""
    first = [cell for cell in cells if cell["seed"] == bench.protocol.seeds[0]]
    told = {cell["fold"]: cell["features"] for cell in first if cell.get("features")}
    if not told:
        return None
    return {
        "mean": _average(one["separability"] for one in told.values()),
        "chance": _average(one["chance"] for one in told.values()),
        "folds": {fold: one["separability"] for fold, one in told.items()},
    }


def _cost(cells: Cells) -> dict[str, Any]:
    """Medians over the cells of a model that tell."""
    taken: dict[str, Callable[[Mapping[str, Any]], float | None]] = {
        "preparation_seconds": lambda cell: cell.get("preparation_seconds"),
        "training_seconds": lambda cell: cell["training_seconds"],
        "parameters": lambda cell: cell["parameters"],
        "mm2_per_second": _speed,
    }
    found = {}
    for name, take in taken.items():
        known = [v for v in map(take, cells) if v is not None]
        found[name] = float(np.median(known)) if known else None
    return found


def _speed(cell: Mapping[str, Any]) -> float | None:
    """mm² a second; None where the area or the time is not known, or too short to tell."""
    area, seconds = cell["scores"]["area_mm2"], cell["search_seconds"]
    return area / seconds if area and seconds else None


def _quantiles(drawn: Drawn) -> dict[str, Any]:
    """The distributions of the drawn F1, as 41 quantiles each."""
    return {
        model: {
            domain: np.quantile(values[~np.isnan(values)], QUANTILES).round(4).tolist()
            for domain, scores in by_domain.items()
            if not np.isnan(values := scores["f1"]).all()
        }
        for model, by_domain in drawn.by_domain.items()
    }
