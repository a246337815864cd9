"""The candidates of many regions as flat arrays: where they are and how far from a figure, never their pixels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save
from scipy.spatial import cKDTree

from mitosight.errors import InputError
from mitosight.outputs import whole
from mitosight.regions import Region

POSITIVE, NEGATIVE, NEITHER = 1, 0, -1


@dataclass(frozen=True)
class Pool:
    """Candidates of regions; 21 bytes each, so that a million take 21 MB.

    Attributes:
        region: (n,) int32, index of the region.
        xy: (n, 2) float32, centre in level-0 px of the region's image.
        figure_px: (n,) float32, distance to the nearest annotated figure, in px at the working mpp, the larger of the
            two axes (half the side of the smallest upright square around the candidate that holds the figure); inf
            where the region has none.
        hard_px: the same for labelled hard negatives.
        labelled: (n,) bool, whether the annotations of the region count.
    """

    region: NDArray[np.int32]
    xy: NDArray[np.float32]
    figure_px: NDArray[np.float32]
    hard_px: NDArray[np.float32]
    labelled: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.region)

    def labels(self, positive_px: float, negative_px: float) -> NDArray[np.int64]:
        """(n,) POSITIVE with a figure within `positive_px`, NEGATIVE with none within `negative_px`, else NEITHER.

        Candidates of regions whose annotations do not count are NEITHER.
        """
        label = np.full(len(self), NEITHER)
        label[self.figure_px > negative_px] = NEGATIVE
        label[self.figure_px <= positive_px] = POSITIVE
        label[~self.labelled] = NEITHER
        return label

    def write(self, path: Path, regions: Sequence[Region]) -> None:
        """Writes a safetensors file; its header names the regions."""
        arrays = {f.name: np.ascontiguousarray(getattr(self, f.name)) for f in fields(self)}
        header = {"regions": json.dumps([r.file_name for r in regions])}
        with whole(path) as temporary:
            temporary.write_bytes(save(arrays, metadata=header))


def read(path: Path) -> Pool:
    """The pool in a file.

    Raises:
        InputError: it is damaged or holds something else.
    """
    try:
        return Pool(**load_file(path))
    except (SafetensorError, OSError, TypeError) as error:
        told = str(error).splitlines()[0]
        raise InputError(path, f"is no pool of candidates ({told})", "remove it to have it made again") from None


def of_region(index: int, region: Region, xy: NDArray[np.floating], scale: float, labelled: bool) -> Pool:
    """The pool of one region's candidates `xy` (n, 2), level-0 px; `scale` is px at the working mpp for one of them."""
    return Pool(
        np.full(len(xy), index, np.int32),
        np.asarray(xy, np.float32).reshape(-1, 2),
        _nearest(xy, region.figures) * np.float32(scale),
        _nearest(xy, region.hard_negatives) * np.float32(scale),
        np.full(len(xy), labelled),
    )


def joined(pools: Sequence[Pool]) -> Pool:
    """The pools one after another."""
    return Pool(*(np.concatenate([getattr(p, f.name) for p in pools]) for f in fields(Pool)))


def _nearest(xy: NDArray[np.floating], points: NDArray[np.floating]) -> NDArray[np.float32]:
    if not len(points) or not len(xy):
        return np.full(len(xy), np.inf, np.float32)
    distance, _ = cKDTree(points).query(np.asarray(xy).reshape(-1, 2), p=np.inf)
    return np.asarray(distance, np.float32)
