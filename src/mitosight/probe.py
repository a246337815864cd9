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

from mitosight.dataset import TileSource
from mitosight.errors import InputError
from mitosight.methods.retinanet import RetinaNet
from mitosight.regions import Region

TILES_PER_SCANNER = 200


def scanner_accuracy(
    detector: RetinaNet,
    images: Path,
    fit_regions: Sequence[Region],
    test_regions: Sequence[Region],
    *,
    tile_px: int = 256,
    seed: int = 0,
) -> float:
    """Balanced accuracy in [0, 1] of a logistic regression from bottleneck features to scanners.

    It is fitted on random tiles of `fit_regions` and tested on random tiles of `test_regions`, which must be of other
    slides; chance is one over the number of scanners that both hold. Features are the encoder's last map (C5),
    averaged over the tile (the features that Wilm 2021 shows by UMAP).

    Raises:
        InputError: fewer than two scanners are in both, or an image cannot be read.
    """
    scanners = sorted({r.domain.scanner for r in fit_regions} & {r.domain.scanner for r in test_regions})
    if len(scanners) < 2:
        raise InputError(None, f"nothing to tell apart: {scanners}", "both parts need regions of two scanners")
    drawn = [_features(detector, images, part, scanners, tile_px, seed) for part in (fit_regions, test_regions)]
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000, C=0.1))
    classifier.fit(*drawn[0])
    return float(balanced_accuracy_score(drawn[1][1], classifier.predict(drawn[1][0])))


def _features(
    detector: RetinaNet, images: Path, regions: Sequence[Region], scanners: Sequence[str], tile_px: int, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Features (n, channels) and scanner indices (n,) of n random tiles."""
    per_batch = 4
    source = TileSource(
        images,
        regions,
        scanners,
        scanners,
        tile_px=tile_px,
        mpp=detector.mpp,
        mpp_tolerance=detector.mpp_tolerance,
        tiles_per_scanner=per_batch,
        near_figure=0.0,
        seed=seed,
        length=TILES_PER_SCANNER // per_batch,
    )
    device = next(detector.parameters()).device
    features, domains = [], []
    detector.eval()
    with torch.inference_mode():
        for index in range(len(source)):
            batch = source[index]
            features.append(detector.encode(batch.images.to(device))[-1].mean(dim=(2, 3)).cpu().numpy())
            domains.append(batch.domain.numpy())
    return np.concatenate(features), np.concatenate(domains)
