"""Test images by domain, drawn with replacement: intervals of scores, and differences between models."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mitosight.bench.folds import domain_of
from mitosight.bench.protocol import Column
from mitosight.bench.ranking import RANKED, Ranking, ranking
from mitosight.regions import Region

State = Literal["seen", "unseen"]
STATES: tuple[State, ...] = ("seen", "unseen")
COUNTED = ("true_positives", "false_positives", "false_negatives")
TAILS = (0.025, 0.975)
LEAST = 5  # units of a domain from which its slides are drawn: fewer say too little of others
Draws = Mapping[str, NDArray[np.float64]]
"""By score (draws,)."""


def groups(members: Sequence[Iterable[Hashable]]) -> NDArray[np.int64]:
    """(n,) numbers from 0, the same for two entries that share a member, or that others tie together."""
    number = np.arange(len(members))
    first: dict[Hashable, int] = {}
    for i, own in enumerate(members):
        for member in own:
            one, other = sorted((number[first.setdefault(member, i)], number[i]))
            number[number == other] = one
    return np.unique(number, return_inverse=True)[1]


@dataclass(frozen=True)
class Images:
    """The test images of one domain.

    Attributes:
        names: n file names.
        unit: (n,) int64, what each is drawn with: the slides that it is of, and those that share an image with them;
            or each by itself.
        figures: (n,) int64, annotated figures.
    """

    names: tuple[str, ...]
    unit: NDArray[np.int64]
    figures: NDArray[np.int64]

    def told(self) -> dict[str, int]:
        """Numbers of images, figures, and units, which are what is drawn."""
        return {"images": len(self.names), "figures": int(self.figures.sum()), "drawn": len(np.unique(self.unit))}


def images_of(regions: Sequence[Region], by: Column, drawn: Literal["slide", "image"] = "slide") -> dict[str, Images]:
    """The test images of each domain. A unit, a slide or an image as `drawn` says, has the same number in all."""
    unit = groups([region.slides for region in regions]) if drawn == "slide" else np.arange(len(regions))
    found = {}
    for domain in sorted({domain_of(region, by) for region in regions}):
        own = [i for i, region in enumerate(regions) if domain_of(region, by) == domain]
        names = tuple(regions[i].file_name for i in own)
        found[domain] = Images(names, unit[own], np.array([len(regions[i].figures) for i in own], dtype=np.int64))
    return found


@dataclass(frozen=True)
class Domain:
    """The images of one domain, as the models that had seen it (or had not) searched them.

    Attributes:
        unit: (n,) units of the images, see `Images`.
        counts: for each model (runs, n, 3): true positives, false positives and misses of each image; runs are folds
            and seeds.
        rankings: by model for each run the points; models whose cells do not have them are left out.
    """

    name: str
    unit: NDArray[np.int64]
    counts: Mapping[str, NDArray[np.int64]]
    rankings: Mapping[str, Sequence[Ranking]] = field(default_factory=dict)

    @property
    def units(self) -> NDArray[np.int64]:
        """(units,) rising."""
        return np.unique(self.unit)

    def f1(self, model: str) -> float:
        """F1 over all images, the mean over runs."""
        return float(known_mean(rates(self.counts[model].sum(axis=1))["f1"]))

    def drawn(self, taken: NDArray[np.int64]) -> dict[str, Draws]:
        """For each model the scores, averaged over the runs that have them, from how often (draws, units) are taken."""
        place = np.searchsorted(self.units, self.unit)
        found: dict[str, Draws] = {}
        for model, counts in self.counts.items():
            of_unit = np.zeros((len(self.units), *counts.shape[::2]), np.int64)  # (units, runs, 3)
            np.add.at(of_unit, place, counts.transpose(1, 0, 2))
            every = [rates(np.einsum("bu,urc->rbc", taken, of_unit))]
            if runs := [run.drawn(taken) for run in self.rankings.get(model, ())]:
                every.append({name: np.stack([run[name] for run in runs]) for name in runs[0]})
            found[model] = {name: known_mean(values) for part in every for name, values in part.items()}
        return found


def rates(counts: NDArray[np.integer]) -> dict[str, NDArray[np.float64]]:
    """Precision, recall and F1 (...) of counts (..., 3); NaN where there is nothing to take a share of."""
    right, false, missed = np.moveaxis(counts, -1, 0)
    return {
        "precision": _share(right, right + false),
        "recall": _share(right, right + missed),
        "f1": _share(2 * right, 2 * right + false + missed),
    }


def known_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean over the first axis of the values that are no NaN; NaN where none is."""
    known = ~np.isnan(values)
    return _share(np.where(known, values, 0.0).sum(axis=0), known.sum(axis=0))


def _share(part: NDArray[Any], whole: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=np.asarray(whole) > 0))


def domains(
    cells: Sequence[Mapping[str, Any]], state: State, images: Mapping[str, Images], models: Container[str]
) -> list[Domain]:
    """The domains with figures that were seen, or not, in some cells of these models.

    Args:
        cells: what `Bench.work` gives.
        images: of each domain, see `images_of`.
    """
    found = []
    for domain, own in images.items():
        runs: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
        for cell in cells:
            if domain in cell[state] and cell["model"] in models:
                runs[cell["model"]].append(cell)
        if not runs or not own.figures.any():
            continue
        counts = {model: np.array([_counts(cell, own.names) for cell in there]) for model, there in runs.items()}
        rankings = {
            model: [ranking(cell[RANKED], own.names, own.unit, own.figures) for cell in there]
            for model, there in runs.items()
            if all(RANKED in cell for cell in there)
        }
        found.append(Domain(domain, own.unit, counts, rankings))
    return found


def _counts(cell: Mapping[str, Any], names: Iterable[str]) -> list[list[int]]:
    by_image = cell["scores"]["by_image"]
    return [[by_image[name][key] for key in COUNTED] for name in names]


@dataclass(frozen=True)
class Drawn:
    """Scores on drawn slides: for each model and domain, and for each model their mean over the domains.

    Domains with too few units are left out. There are means only where none is.
    """

    by_domain: Mapping[str, Mapping[str, Draws]]
    mean: Mapping[str, Draws]

    def of(self, model: str, domain: str) -> Draws:
        """The scores of a model in a domain; none where these were not drawn."""
        return self.by_domain.get(model, {}).get(domain, {})


def draw(found: Sequence[Domain], draws: int, seed: int = 0) -> Drawn:
    """Draws the units of each domain anew `draws` times, for all models alike; domains count alike.

    Domains are drawn apart, but for those that share units (a slide that was scanned twice): these take them together.
    """
    enough = [domain for domain in found if len(domain.units) >= LEAST]
    by_domain: dict[str, dict[str, Draws]] = {model: {} for model in _models(found)}
    tied = groups([domain.units.tolist() for domain in enough])
    for k in np.unique(tied).tolist():
        together = [domain for domain, other in zip(enough, tied, strict=True) if other == k]
        units = np.unique(np.concatenate([domain.units for domain in together]))
        taken = np.random.default_rng(seed + k).multinomial(len(units), np.full(len(units), 1 / len(units)), size=draws)
        for domain in together:
            for model, scores in domain.drawn(taken[:, np.searchsorted(units, domain.units)]).items():
                by_domain[model][domain.name] = scores
    whole = {m: of for m, of in by_domain.items() if len(of) == len(found)}
    return Drawn({m: of for m, of in by_domain.items() if of}, {m: _over(of) for m, of in whole.items()})


def _over(by_domain: Mapping[str, Draws]) -> Draws:
    """The mean over domains of the scores that all of them have."""
    names = set.intersection(*(set(scores) for scores in by_domain.values()))
    return {name: known_mean(np.stack([scores[name] for scores in by_domain.values()])) for name in names}


def _models(found: Sequence[Domain]) -> Iterator[str]:
    yield from dict.fromkeys(model for domain in found for model in domain.counts)


def interval(values: NDArray[np.float64]) -> list[float] | None:
    """The 95 % interval of drawn values, those that are NaN left out; None where all are."""
    known = values[~np.isnan(values)]
    return [round(float(v), 4) for v in np.quantile(known, TAILS)] if len(known) else None


def compared(found: Sequence[Domain], drawn: Drawn) -> list[dict[str, Any]]:
    """Each pair of models: the difference of their mean F1, its interval on the same drawn slides, and p.

    p is twice the share of draws on the other side of no difference, at least one of them. Interval and p are None
    where a domain has too few slides to draw.
    """
    models = [model for model in _models(found) if all(model in domain.counts for domain in found)]
    whole = {model: float(np.mean([domain.f1(model) for domain in found])) for model in models}
    return [
        {"a": a, "b": b, "difference": round(whole[a] - whole[b], 4), **_apart(drawn.mean.get(a), drawn.mean.get(b))}
        for a, b in combinations(models, 2)
    ]


def _apart(a: Draws | None, b: Draws | None) -> dict[str, Any]:
    if a is None or b is None:
        return {"interval": None, "p": None}
    apart = a["f1"] - b["f1"]
    apart = apart[~np.isnan(apart)]
    beyond = min((apart <= 0).sum(), (apart >= 0).sum())
    return {"interval": interval(apart), "p": round(min(1.0, 2 * (int(beyond) + 1) / (len(apart) + 1)), 5)}
