"""The candidates of many regions as flat arrays: where they are and how far from a figure, never their pixels."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from scipy.spatial import cKDTree

from mitosight.errors import InputError
from mitosight.outputs import whole
from mitosight.regions import Region

POSITIVE, NEGATIVE, NEITHER = 1, 0, -1
AGAIN = "remove it to have it made again"


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

    def __getitem__(self, index: NDArray[np.intp]) -> Pool:
        return Pool(*(getattr(self, f.name)[index] for f in fields(self)))

    def labels(self, positive_px: float, negative_px: float) -> NDArray[np.int64]:
        """(n,) POSITIVE with a figure within `positive_px`, NEGATIVE with none within `negative_px`, else NEITHER.

        Candidates of regions whose annotations do not count are NEITHER.
        """
        label = np.full(len(self), NEITHER)
        label[self.figure_px > negative_px] = NEGATIVE
        label[self.figure_px <= positive_px] = POSITIVE
        label[~self.labelled] = NEITHER
        return label

    def write(self, path: Path, regions: Sequence[Region], found_by: Mapping[str, Any]) -> None:
        """Writes a safetensors file; its header names the regions, and the settings that it was `found_by`."""
        arrays = {f.name: np.ascontiguousarray(getattr(self, f.name)) for f in fields(self)}
        header = {"regions": json.dumps([r.file_name for r in regions]), "found_by": json.dumps(found_by)}
        with whole(path) as temporary:
            temporary.write_bytes(save(arrays, metadata=header))


def read(path: Path, regions: Sequence[Region], found_by: Mapping[str, Any]) -> Pool:
    """The pool in a file, of these regions and found by these settings.

    Raises:
        InputError: it is damaged or holds something else, or was found in other regions or by other settings.
    """
    try:
        with safe_open(path, "numpy") as file:
            header = file.metadata() or {}
            found = Pool(**{name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
        there = json.loads(header.get("regions", "[]"))
        earlier = json.loads(header.get("found_by", "{}"))
    except (SafetensorError, OSError, TypeError, ValueError) as error:
        told = str(error).splitlines()[0]
        raise InputError(path, f"is no pool of candidates ({told})", AGAIN) from None
    wanted = json.loads(json.dumps(found_by))
    if differing := [key for key in {**wanted, **earlier} if earlier.get(key) != wanted.get(key)]:
        told = ", ".join(f"{key} {earlier.get(key)}, here {wanted.get(key)}" for key in differing)
        raise InputError(path, f"holds candidates that were found otherwise ({told})", AGAIN)
    if there != [r.file_name for r in regions]:
        raise InputError(path, "holds candidates of other regions", AGAIN)
    return found


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
