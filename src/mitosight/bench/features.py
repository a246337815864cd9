"""Where the features of each scanner lie: in the plane, for the eye, and as a number."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from mitosight.errors import InputError
from mitosight.measured import measured
from mitosight.methods.detector import Detector
from mitosight.probe import features_of, shared, told_apart
from mitosight.regions import Region


def plane(
    detector: Detector, images: Path, fitted_on: Sequence[Region], shown: Sequence[Region], samples: int
) -> dict[str, Any]:
    """Features of random samples of each scanner's images `shown`: their places in the plane, and how well they part.

    `separability` is the balanced accuracy of a classifier of scanners that is fitted on `fitted_on`, images of other
    slides (see `probe.scanner_accuracy`), `chance` one over the number of scanners. The plane is UMAP's where
    umap-learn is installed, else that of the two main components. Where there are not two scanners, or an image is too
    small for a sample, `missing` says so and nothing else is there.
    """
    try:
        known = [measured(images, regions) for regions in (fitted_on, shown)]
        scanners = shared(*known)
        fitted, tested = (features_of(detector, images, part, scanners, samples=samples) for part in known)
    except InputError as error:
        return {"missing": str(error)}
    kind, xy = _laid_out(StandardScaler().fit_transform(tested[0]))
    return {
        "separability": round(told_apart(fitted, tested), 4),
        "chance": round(1 / len(scanners), 4),
        "plane": kind,
        "scanners": scanners,
        "scanner": tested[1].tolist(),
        "xy": xy.round(3).tolist(),
    }


def _laid_out(features: NDArray[np.float64]) -> tuple[str, NDArray[np.float64]]:
    if find_spec("umap") is not None:
        umap = import_module("umap")
        return "UMAP", np.asarray(umap.UMAP(random_state=0, n_jobs=1).fit_transform(features))
    return "PCA", np.asarray(PCA(2, random_state=0).fit_transform(features))
