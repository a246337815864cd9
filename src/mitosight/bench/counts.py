"""Counts of each test image by domain, drawn with replacement: intervals, and differences between models."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

State = Literal["seen", "unseen"]
STATES: tuple[State, ...] = ("seen", "unseen")
COUNTED = ("true_positives", "false_positives", "false_negatives")
TAILS = (0.025, 0.975)


@dataclass(frozen=True)
class Domain:
    """The images of one domain, as the models that had seen it (or had not) searched them.

    Attributes:
        slide: (n,) numbers of the slides that the images are of, which are drawn together.
        counts: for each model (runs, n, 3): true positives, false positives and misses of each image; runs are folds
            and seeds.
    """

    name: str
    slide: NDArray[np.int64]
    counts: Mapping[str, NDArray[np.int64]]

    def f1(self, model: str) -> NDArray[np.float64]:
        """(runs,) F1 over all images."""
        return f1_of(self.counts[model].sum(axis=1))

    def drawn(self, draws: int, seed: int) -> dict[str, NDArray[np.float64]]:
        """For each model (draws,) the F1, averaged over runs, on slides drawn with replacement, the same for all."""
        slides = int(self.slide.max()) + 1
        rng = np.random.default_rng(seed)
        taken = rng.multinomial(slides, np.full(slides, 1 / slides), size=draws)  # (draws, slides)
        found = {}
        for model, counts in self.counts.items():
            of_slide = np.zeros((slides, *counts.shape[::2]), np.int64)  # (slides, runs, 3)
            np.add.at(of_slide, self.slide, counts.transpose(1, 0, 2))
            found[model] = f1_of(np.einsum("bs,src->brc", taken, of_slide)).mean(axis=1)
        return found


def f1_of(counts: NDArray[np.integer]) -> NDArray[np.float64]:
    """F1 (...) of counts (..., 3); 0 where there was nothing to find and nothing was found."""
    right, false, missed = np.moveaxis(counts, -1, 0)
    return np.asarray(2 * right / np.maximum(2 * right + false + missed, 1))


def domains(
    cells: Sequence[Mapping[str, Any]], state: State, slides: Mapping[str, str], domain_of: Mapping[str, str]
) -> list[Domain]:
    """The domains that were seen, or not, in some cells, with the counts of all models that have every one of them.

    Args:
        cells: what `Bench.work` gives.
        slides, domain_of: slide and domain of each image by name.
    """
    images: dict[str, list[str]] = defaultdict(list)
    for name in sorted(domain_of):
        images[domain_of[name]].append(name)
    found = []
    for domain, names in images.items():
        runs: dict[str, list[list[list[int]]]] = defaultdict(list)
        for cell in cells:
            if domain in cell[state]:
                by_image = cell["scores"]["by_image"]
                runs[cell["model"]].append([[by_image[name][key] for key in COUNTED] for name in names])
        if runs:
            _, slide = np.unique([slides[name] for name in names], return_inverse=True)
            most = max(map(len, runs.values()))
            counts = {model: np.array(values) for model, values in runs.items() if len(values) == most}
            found.append(Domain(domain, slide, counts))
    return found


@dataclass(frozen=True)
class Drawn:
    """F1 on drawn slides: for each model and domain (draws,), and their mean over the domains."""

    by_domain: Mapping[str, Mapping[str, NDArray[np.float64]]]
    mean: Mapping[str, NDArray[np.float64]]


def draw(found: Sequence[Domain], draws: int, seed: int = 0) -> Drawn:
    """Draws the slides of each domain anew `draws` times; the domains are drawn apart and count alike."""
    every = {d.name: d.drawn(draws, seed + k) for k, d in enumerate(found)}
    models = set.intersection(*(set(d.counts) for d in found)) if found else set()
    by_model = {m: {d: values[m] for d, values in every.items() if m in values} for m in _models(found)}
    return Drawn(by_model, {m: np.mean(list(by_model[m].values()), axis=0) for m in by_model if m in models})


def _models(found: Sequence[Domain]) -> Iterator[str]:
    yield from dict.fromkeys(model for domain in found for model in domain.counts)


def interval(values: NDArray[np.float64]) -> list[float]:
    """The 95 % interval of drawn values."""
    return [round(float(v), 4) for v in np.quantile(values, TAILS)]


def compared(found: Sequence[Domain], drawn: Drawn) -> list[dict[str, Any]]:
    """Each pair of models: the difference of their mean F1, its interval on the same drawn slides, and p.

    p is twice the share of draws on the other side of no difference, at least one of them.
    """
    pairs = []
    whole = {model: float(np.mean([domain.f1(model).mean() for domain in found])) for model in drawn.mean}
    for a, b in combinations(drawn.mean, 2):
        apart = drawn.mean[a] - drawn.mean[b]
        beyond = min((apart <= 0).sum(), (apart >= 0).sum())
        p = min(1.0, 2 * (int(beyond) + 1) / (len(apart) + 1))
        pairs.append(
            {"a": a, "b": b, "difference": round(whole[a] - whole[b], 4), "interval": interval(apart), "p": round(p, 5)}
        )
    return pairs
