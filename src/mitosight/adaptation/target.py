"""The samples of a slide that a model adapts to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from mitosight.adaptation.memory import Coding, decoded, encoded
from mitosight.batch import Batch
from mitosight.colours import changed
from mitosight.inference import cover, own
from mitosight.methods.detector import Detector
from mitosight.slide import Slide
from mitosight.tissue import Tissue


@dataclass(frozen=True)
class Target:
    """Samples without labels, encoded as those of the memory are."""

    images: list[bytes]
    side_px: int

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, index: Sequence[int], scanner: int, patches: bool) -> Batch:
        """The samples `index` (n,) as unlabelled ones of the scanner number `scanner`."""
        none, count = torch.empty(0, 3), len(index)
        return Batch(
            decoded([self.images[k] for k in index], self.side_px),
            [none] * count,
            [none] * count,
            torch.full((count,), scanner),
            torch.zeros(count, dtype=torch.bool),
            label=torch.full((count if patches else 0,), -1),
        )


def of_slide(
    slide: Slide,
    detector: Detector,
    side_px: int,
    coding: Coding,
    most: int,
    seed: int = 0,
    where: Tissue | None = None,
) -> Target:
    """The samples of a slide: those of its tiles that each tile owns, as far as `most`, tiles in random order.

    Args:
        side_px: of a sample, as in the memory.
        where: tissue that is searched; None for everywhere.

    There may be none, where it has no tissue, or its tissue holds no candidate.

    Raises:
        InputError: it cannot be searched (see `inference.detect`).
    """
    covering = cover(slide, detector, None, where)
    images: list[bytes] = []
    searcher = own(detector, covering) if covering.tiles else detector
    for k in np.random.default_rng(seed).permutation(len(covering.tiles)):
        tile = covering.tiles[k]
        image = torch.from_numpy(changed(covering.read(tile), searcher.table)).permute(2, 0, 1).to(torch.float32) / 255
        samples, xy = searcher.samples(image, side_px)
        xy = xy + np.array([tile.x_px, tile.y_px])
        owned = tile.owned(xy)
        if where is not None:
            owned &= where.holds(xy * covering.scale)
        images += [encoded(sample, coding) for sample in samples[torch.from_numpy(owned)]]
        if len(images) >= most:
            break
    return Target(images[:most], side_px)


def joined(targets: Iterable[Target], side_px: int) -> Target:
    """The samples of several slides of one scanner."""
    return Target([image for target in targets for image in target.images], side_px)
