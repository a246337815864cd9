"""Detections against annotated regions: one report of every score, by scanner, tumour type and image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mitosight.detections import Detections
from mitosight.errors import InputError, UsageError
from mitosight.evaluation import curves
from mitosight.evaluation.matching import ONE_TO_ONE, Pairs, Points, check_rule, near, pooled, resolve, steps
from mitosight.evaluation.report import Report, Scores, Spots
from mitosight.regions.region import Region

RADIUS_UM = 7.5
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Settings:
    """The choices of an evaluation, see `evaluate`."""

    threshold: float | None
    matching: str
    radius_um: float | None
    radius_px: float | None
    nms_radius_px: float | None
    nms_score_floor: float | None
    bootstrap: int
    seed: int

    def __post_init__(self) -> None:
        check_rule(self.matching)
        for name in ("radius_um", "radius_px", "nms_radius_px"):
            value = getattr(self, name)
            if value is not None and not 0 < value < np.inf:
                raise UsageError(None, f"{name} is {value}", "a radius is a number above 0")
        for name in ("threshold", "nms_score_floor"):
            if not np.isfinite(getattr(self, name) or 0.0):
                raise UsageError(None, f"{name} is {getattr(self, name)}", "a score is a finite number")
        if self.bootstrap < 0:
            raise UsageError(None, f"bootstrap is {self.bootstrap}", "expected a number of draws, 0 for none")


def evaluate(  # noqa: PLR0913  the choices of an evaluation, each with the challenge's value as default
    detections: Mapping[str, Detections],
    regions: Sequence[Region],
    *,
    threshold: float | None = None,
    radius_um: float = RADIUS_UM,
    radius_px: float | None = None,
    matching: str = ONE_TO_ONE,
    nms_radius_px: float | None = None,
    nms_score_floor: float | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
    by_image: bool = True,
) -> Report:
    """Scores detections by image name against regions; the defaults are the official rule of the MIDOG challenge.

    Every region counts, with or without detections or figures. Precision, recall and F1 are those of the detections
    with score >= `threshold` (None: all); the curves use all. Micrometres become px by each region's mpp; `radius_px`
    replaces `radius_um` and needs no mpp, but average precision, whose boxes are in µm, is then left out where mpp is
    unknown. First of all, points below `nms_score_floor` are dropped and the others suppressed within
    `nms_radius_px`. `bootstrap` is the number of draws for the intervals; 0 and `by_image=False` leave parts out.

    Raises:
        InputError: detections on images without a region; two regions of one name; no regions; mpp unknown.
        UsageError: an unknown matching rule or an impossible radius.
    """
    settings = Settings(
        threshold=threshold,
        matching=matching,
        radius_um=radius_um if radius_px is None else None,
        radius_px=radius_px,
        nms_radius_px=nms_radius_px,
        nms_score_floor=nms_score_floor,
        bootstrap=bootstrap,
        seed=seed,
    )
    _check_regions(regions)
    check_images(detections, regions)
    work = _Evaluation(detections, regions, settings)
    scanners = [region.domain.scanner for region in regions]
    tumors = [region.domain.tumor_type for region in regions]
    names = [region.file_name for region in regions]
    return Report(
        total=next(work.groups([""] * len(regions)))[1],
        by_scanner=dict(work.groups(scanners)),
        by_tumor_type=dict(work.groups(tumors)),
        by_image=dict(work.groups(names, whole=False)) if by_image else {},
        settings=asdict(settings),
        hits=work.hits(),
        false_positives=work.false_positives(),
        misses=work.misses(),
    )


def check_images(
    detections: Mapping[str, Detections], regions: Sequence[Region], path: str | Path | None = None
) -> None:
    """Raises InputError where detections lie on images that have no region; `path` is the file they come from."""
    known = {region.file_name for region in regions}
    unknown = sorted(set(detections) - known)
    if unknown:
        more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
        raise InputError(
            path,
            f"detections on images that are not annotated: {', '.join(unknown[:3])}{more}",
            f"file names must be those of the annotations, such as {min(known, default='none: there are no images')}",
        )


def _check_regions(regions: Sequence[Region]) -> None:
    if not regions:
        raise InputError(None, "there are no annotated images to score against", "name annotations that hold some")
    name, count = Counter(region.file_name for region in regions).most_common(1)[0]
    if count > 1:
        raise InputError(None, f"the annotations hold the image {name} {count} times", "give each image one name")


def _radius_px(regions: Sequence[Region], settings: Settings) -> NDArray[np.float64]:
    if settings.radius_px is not None:
        return np.full(len(regions), settings.radius_px)
    unknown = [region.file_name for region in regions if region.mpp is None]
    if unknown:
        raise InputError(
            unknown[0],
            f"its µm per px is not known ({len(unknown)} of {len(regions)} images)",
            "give --mpp, --domains with a column mpp, or the radius in px (--radius-px)",
        )
    return np.array([settings.radius_um / region.mpp for region in regions if region.mpp and settings.radius_um])


def _prepared(found: Detections, settings: Settings) -> Detections:
    if settings.nms_score_floor is not None:
        found = found[found.score >= settings.nms_score_floor]
    return found if settings.nms_radius_px is None else found.suppressed(settings.nms_radius_px)


class _Evaluation:
    """All images in one set of arrays; detections by falling score, equal ones in the order of image and input."""

    def __init__(self, detections: Mapping[str, Detections], regions: Sequence[Region], settings: Settings) -> None:
        self.regions, self.settings = regions, settings
        found = [_prepared(detections.get(region.file_name, Detections()), settings) for region in regions]
        score = np.concatenate([part.score for part in found])
        points = pooled([part.xy for part in found])
        rank = np.argsort(-score, kind="stable")
        self.score = score[rank]
        self.found = Points(points.xy[rank], points.image[rank])
        self.figures = pooled([region.figures for region in regions])
        self.hard = pooled([region.hard_negatives for region in regions])
        self.radius_px = _radius_px(regions, settings)
        self.pairs = near(self.found, self.figures, self.radius_px)
        self.gain, self.false = steps(self.pairs, settings.matching)
        self.counted = np.ones(len(rank), dtype=bool)
        if settings.threshold is not None:
            self.counted = self.score >= settings.threshold
        self.matches = resolve(self.pairs.among(self.counted), settings.matching)
        self.wrong = self.counted & (self.matches.truth_of < 0)
        self.on_hard = _touched(near(self.found, self.hard, self.radius_px))
        mpp = [region.mpp for region in regions]
        known = [value for value in mpp if value is not None]
        self.hit = curves.box_hits(self.found, self.figures, np.array(known)) if len(known) == len(mpp) else None
        self.by_image = self._counts_by_image()

    def _counts_by_image(self) -> dict[str, NDArray[np.int64]]:
        """For each count of Scores its (images,) values."""
        n = len(self.regions)
        missed = self.matches.found_of < 0
        images = {
            "figures": self.figures.image,
            "detections": self.found.image[self.counted],
            "true_positives": self.figures.image[~missed],
            "false_positives": self.found.image[self.wrong],
            "false_negatives": self.figures.image[missed],
            "hard_negatives": self.hard.image,
            "on_hard_negatives": self.found.image[self.wrong & self.on_hard],
        }
        return {name: np.bincount(image, minlength=n) for name, image in images.items()}

    def groups(self, names: Sequence[str], *, whole: bool = True) -> Iterator[tuple[str, Scores]]:
        """Scores of the images that share a name, by name in order; `whole` adds the curve and the intervals."""
        keys, group = np.unique(names, return_inverse=True)
        images, found = _split(group, len(keys)), _split(group[self.found.image], len(keys))
        for key, of_images, of_found in zip(keys.tolist(), images, found, strict=True):
            yield key, self._scores(of_images, of_found, whole=whole)

    def _scores(self, images: NDArray[np.int64], found: NDArray[np.int64], *, whole: bool) -> Scores:
        counts = {name: int(values[images].sum()) for name, values in self.by_image.items()}
        curve = curves.curve(self.score[found], self.gain[found], self.false[found], counts["figures"], len(images))
        areas = [self.regions[i].area_mm2 for i in images]
        known = [area for area in areas if area is not None]
        return Scores(
            images=len(images),
            **counts,
            area_mm2=sum(known) if len(known) == len(areas) else None,
            average_precision=None
            if self.hit is None
            else curves.average_precision(self.hit[found], counts["figures"]),
            froc_auc=curves.froc_auc(curve),
            aucpr=curves.aucpr(curve),
            best=curves.best(curve),
            curve=curve if whole else None,
            intervals=self._intervals(images) if whole and self.settings.bootstrap else {},
        )

    def _intervals(self, images: NDArray[np.int64]) -> dict[str, tuple[float, float]]:
        """Percentile intervals of precision, recall and F1 over images drawn with replacement."""
        names = ("true_positives", "false_positives", "false_negatives")
        counts = np.column_stack([self.by_image[name][images] for name in names])
        random = np.random.default_rng(self.settings.seed)
        draws = np.array(
            [counts[random.integers(len(images), size=len(images))].sum(axis=0) for _ in range(self.settings.bootstrap)]
        )
        right, false, missed = draws.T
        parts = {
            "precision": (right, right + false),
            "recall": (right, right + missed),
            "f1": (2 * right, 2 * right + false + missed),
        }
        tails = [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]
        return {
            name: tuple(np.quantile(part[whole > 0] / whole[whole > 0], tails).tolist())
            for name, (part, whole) in parts.items()
            if whole.any()
        }

    def hits(self) -> Spots:
        return self._spots(self.found, self.score, self.on_hard, np.flatnonzero(self.counted & ~self.wrong))

    def false_positives(self) -> Spots:
        return self._spots(self.found, self.score, self.on_hard, np.flatnonzero(self.wrong))

    def misses(self) -> Spots:
        best = np.full(len(self.figures), np.nan)
        below = self.pairs.among(~self.counted)
        np.fmax.at(best, below.truth, self.score[below.found])
        on_hard = _touched(near(self.figures, self.hard, self.radius_px))
        missed = np.flatnonzero(self.matches.found_of < 0)
        return self._spots(self.figures, best, on_hard, missed[np.argsort(-best[missed], kind="stable")])

    def _spots(
        self, points: Points, score: NDArray[np.float64], on_hard: NDArray[np.bool_], chosen: NDArray[np.int64]
    ) -> Spots:
        names = np.array([region.file_name for region in self.regions])
        return Spots(names[points.image[chosen]], points.xy[chosen], score[chosen], on_hard[chosen])


def _touched(pairs: Pairs) -> NDArray[np.bool_]:
    touched = np.zeros(pairs.sizes[0], dtype=bool)
    touched[pairs.found] = True
    return touched


def _split(group: NDArray[np.int64], groups: int) -> list[NDArray[np.int64]]:
    """The indices of the members of each group, ascending."""
    order = np.argsort(group, kind="stable")
    return np.split(order, np.searchsorted(group[order], np.arange(1, groups)))
