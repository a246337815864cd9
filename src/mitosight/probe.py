"""How well a fresh classifier can still tell the scanners from the features of a trained detector."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mitosight import pool
from mitosight.dataset import TileSource
from mitosight.errors import InputError
from mitosight.methods.detector import Detector, Source
from mitosight.methods.parts.candidates import CandidateDetector
from mitosight.patches import PatchSource, candidates_of
from mitosight.regions import Region

SAMPLES_PER_SCANNER = 200
REGIONS_PER_SCANNER = 50  # whose candidates are looked for
TILES_AT_ONCE, PATCHES_AT_ONCE = 4, 64
Features = tuple[NDArray[np.float32], NDArray[np.int64]]


def scanner_accuracy(
    detector: Detector,
    images: Path,
    fit_regions: Sequence[Region],
    test_regions: Sequence[Region],
    *,
    tile_px: int = 256,
    samples: int = SAMPLES_PER_SCANNER,
    seed: int = 0,
) -> float:
    """Balanced accuracy in [0, 1] of a logistic regression from a detector's features to scanners.

    It is fitted on samples of `fit_regions` and tested on samples of `test_regions`, which must be of other slides;
    chance is one over the number of scanners that both hold.

    For a detector of tiles the samples are 200 random tiles a scanner, and the features its encoder's last map (C5),
    averaged over the tile (the features that Wilm 2021 shows by UMAP). For a method that classifies candidates they
    are patches around 200 random candidates a scanner, and the features what its classifiers stand on. Such a network
    never sees anything else, in training or in use: on tiles it would be asked of glass and stroma, which it was not
    taught to treat alike. Its finder, which has no part in the network, may of course give other candidates for
    another scanner; and a patch around a nucleus shows less of a scanner than a tile does. So compare numbers of tiles
    with those of tiles, and those of patches with those of patches.

    Args:
        tile_px: side of the tiles; patches have the side that the detector classifies.
        samples: of each scanner.

    Raises:
        InputError: fewer than two scanners are in both, no candidate is, or an image cannot be read.
    """
    scanners = shared(fit_regions, test_regions)
    how: dict[str, int] = {"tile_px": tile_px, "samples": samples, "seed": seed}
    fitted, tested = (features_of(detector, images, part, scanners, **how) for part in (fit_regions, test_regions))
    return told_apart(fitted, tested)


def shared(fit_regions: Sequence[Region], test_regions: Sequence[Region]) -> list[str]:
    """The scanners of both.

    Raises:
        InputError: fewer than two.
    """
    scanners = sorted({r.domain.scanner for r in fit_regions} & {r.domain.scanner for r in test_regions})
    if len(scanners) < 2:
        raise InputError(None, f"nothing to tell apart: {scanners}", "both parts need regions of two scanners")
    return scanners


def told_apart(fitted: Features, tested: Features) -> float:
    """Balanced accuracy on `tested` of a logistic regression from features to scanners that is fitted on `fitted`."""
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000, C=0.1))
    classifier.fit(*fitted)
    return float(balanced_accuracy_score(tested[1], classifier.predict(tested[0])))


def features_of(
    detector: Detector,
    images: Path,
    regions: Sequence[Region],
    scanners: Sequence[str],
    *,
    tile_px: int = 256,
    samples: int = SAMPLES_PER_SCANNER,
    seed: int = 0,
) -> Features:
    """Features (n, C) of random samples of each scanner and the index (n,) of their scanner, as `scanner_accuracy`."""
    if isinstance(detector, CandidateDetector):
        return _features(detector, patches_of(detector, images, regions, scanners, samples, seed))
    return _features(detector, tiles_of(detector, images, regions, scanners, tile_px, samples, seed))


def tiles_of(
    detector: Detector,
    images: Path,
    regions: Sequence[Region],
    scanners: Sequence[str],
    tile_px: int,
    samples: int,
    seed: int,
) -> TileSource:
    """Random tiles of the regions, the same number of each scanner."""
    return TileSource(
        images,
        regions,
        scanners,
        scanners,
        tile_px=tile_px,
        mpp=detector.mpp,
        mpp_tolerance=detector.mpp_tolerance,
        tiles_per_scanner=TILES_AT_ONCE,
        near_figure=0.0,
        standardised=detector.standardised,
        seed=seed,
        length=-(-samples // TILES_AT_ONCE),
    )


def patches_of(
    detector: CandidateDetector,
    images: Path,
    regions: Sequence[Region],
    scanners: Sequence[str],
    samples: int,
    seed: int,
) -> PatchSource:
    """Patches around random candidates of the regions, each once; as many of each region of a scanner, if it has them.

    Candidates are found as for a training: by the statistics of the whole region.
    """
    rng, found = np.random.default_rng(seed), []
    for scanner in scanners:
        own = [k for k, region in enumerate(regions) if region.domain.scanner == scanner]
        some = rng.permutation(own)[:REGIONS_PER_SCANNER].tolist()
        for k in some:
            every = candidates_of(k, regions[k], images, detector.finder, True, detector.mpp, detector.mpp_tolerance)
            found.append(every[rng.permutation(len(every))[: -(-samples // len(some))]])
    drawn = pool.joined(found)
    chosen, label = np.arange(len(drawn)), np.zeros(len(drawn), np.int64)
    return PatchSource(
        images,
        regions,
        scanners,
        drawn,
        chosen,
        label,
        label == pool.POSITIVE,
        patch_px=detector.patch_px,
        size=PATCHES_AT_ONCE,
        mpp=detector.mpp,
        mpp_tolerance=detector.mpp_tolerance,
    )


def _features(detector: Detector, source: Source) -> Features:
    """Features (n, channels) and scanner indices (n,) of all samples of `source`."""
    device = next(detector.parameters()).device
    features, domains = [], []
    detector.eval()
    with torch.inference_mode():
        for index in range(len(source)):
            batch = source[index]
            features.append(detector.features(batch.images.to(device)).float().cpu().numpy())
            domains.append(batch.domain.numpy())
    return np.concatenate(features), np.concatenate(domains)
