"""The candidates of a part of the data as a method that samples them learns from them and asks a network about them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mitosight.augment import Augment
from mitosight.methods.detector import Part, Source, Workshop
from mitosight.methods.parts.dgsb import FeaturesOf
from mitosight.methods.parts.patchnet import PatchClassifier

Index = NDArray[np.intp]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class TrainingPatches:
    """Patches around the candidates of a part of the data, in batches of `size`; samples are indices into the pool.

    Attributes:
        pool: the candidates.
        augment: of patches that are learned from, where they are.
        bf16: whether a network is asked about them in half precision.
    """

    workshop: Workshop
    part: Part
    pool: Any
    patch_px: int
    size: int
    augment: Augment | None = None
    bf16: bool = False

    def balanced(self, chosen: Index, label: Labels, positive: NDArray[np.bool_]) -> Source:
        """To learn from: rounds of all positives and as many others, drawn anew; classes (m,) and positives (m,)."""
        return self._of(chosen, label, order="balanced", augment=self.augment, figure=positive)

    def features(self, classifier: PatchClassifier, chosen: Index) -> FeaturesOf:
        """The features by the classifier, as it is when they are asked for, of some of the `chosen`."""
        return lambda some: classifier.features(self._each(chosen[some]), self.bf16)

    def probabilities(self, classifier: PatchClassifier, chosen: Index) -> NDArray[np.float32]:
        """(m,) how probable the classifier finds each of the `chosen` a mitosis."""
        told: Iterator[NDArray[np.float32]] = classifier.probabilities(self._each(chosen), self.bf16)
        return np.concatenate(list(told))

    def _each(self, chosen: Index) -> Source:
        return self._of(chosen, np.zeros(len(chosen), np.int64))

    def _of(self, chosen: Index, label: Labels, **how: Any) -> Source:
        made: Source = self.workshop.patches(self.part, self.pool, chosen, label, self.patch_px, self.size, **how)
        return made
