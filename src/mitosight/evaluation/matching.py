"""Which detection belongs to which figure: the challenge's one-to-one rule and the older many-to-many rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from mitosight.errors import UsageError

ONE_TO_ONE = "one-to-one"
MANY_TO_MANY = "many-to-many"
RULES = (ONE_TO_ONE, MANY_TO_MANY)


@dataclass(frozen=True)
class Points:
    """Points of several images in one array.

    Attributes:
        xy: (n, 2) float64, level-0 px of the image.
        image: (n,) int64, index of the image.
    """

    xy: NDArray[np.float64]
    image: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.image)


def pooled(parts: Sequence[NDArray[np.float64]]) -> Points:
    """The points of each image, (n_i, 2), as one array, in the order given."""
    xy = np.concatenate([np.empty((0, 2)), *parts])
    return Points(xy, np.repeat(np.arange(len(parts)), [len(part) for part in parts]))


@dataclass(frozen=True)
class Pairs:
    """Every detection and figure of the same image that are within reach of each other.

    Sorted by figure (file order), then distance, then detection: the order in which the one-to-one rule tries them.

    Attributes:
        found, truth: (p,) int64, indices of the detection and of the figure.
        sizes: numbers of all detections and of all figures.
    """

    found: NDArray[np.int64]
    truth: NDArray[np.int64]
    sizes: tuple[int, int]

    def among(self, counted: NDArray[np.bool_]) -> Pairs:
        """The pairs of those detections that count; indices stay as they are."""
        kept = counted[self.found]
        return Pairs(self.found[kept], self.truth[kept], self.sizes)


def near(found: Points, truth: Points, radius_px: NDArray[np.float64]) -> Pairs:
    """Pairs of one image at most `radius_px[image]` px apart (inclusive, Euclidean)."""
    sizes = len(found), len(truth)
    if not all(sizes):
        return Pairs(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64), sizes)
    reach = float(radius_px.max())
    # Images are layers of one space, too far apart to meet; the slack is for rounding, the exact test comes after.
    trees = [cKDTree(np.column_stack([points.xy, points.image * (3 * reach + 1)])) for points in (found, truth)]
    hits = trees[0].sparse_distance_matrix(trees[1], reach * (1 + 1e-9) + 1e-9, output_type="ndarray")
    i, j = hits["i"].astype(np.int64), hits["j"].astype(np.int64)
    squared = ((found.xy[i] - truth.xy[j]) ** 2).sum(axis=1)
    order = np.lexsort((i, squared, j))
    order = order[squared[order] <= radius_px[truth.image[j[order]]] ** 2]
    return Pairs(i[order], j[order], sizes)


@dataclass(frozen=True)
class Matches:
    """The outcome for each detection and each figure.

    Attributes:
        truth_of: (n,) int64, the figure a detection stands for, -1 for a false positive.
        found_of: (m,) int64, the detection that found a figure, -1 for a miss.
    """

    truth_of: NDArray[np.int64]
    found_of: NDArray[np.int64]

    @property
    def true_positives(self) -> int:
        """Number of figures found."""
        return int((self.found_of >= 0).sum())

    @property
    def false_positives(self) -> int:
        """Number of detections that stand for no figure."""
        return int((self.truth_of < 0).sum())

    @property
    def false_negatives(self) -> int:
        """Number of figures missed."""
        return int((self.found_of < 0).sum())


def match(found_xy: ArrayLike, truth_xy: ArrayLike, radius_px: float, rule: str = ONE_TO_ONE) -> Matches:
    """Matches the detections (n, 2) of one image with its figures (m, 2), both in px of one frame.

    one-to-one, the challenge's rule: the figures, in the order given, each take the nearest detection still free
    within `radius_px` (inclusive); a detection that nobody took is a false positive. It is greedy: not the largest
    possible matching, and scores play no part. many-to-many: a figure with any detection within reach is found, a
    detection with no figure within reach is false.

    Raises:
        UsageError: no rule of that name.
    """
    parts = [pooled([np.asarray(xy, dtype=np.float64).reshape(-1, 2)]) for xy in (found_xy, truth_xy)]
    return resolve(near(parts[0], parts[1], np.array([float(radius_px)])), rule)


def check_rule(rule: str) -> None:
    """Raises UsageError where `rule` names no matching rule."""
    if rule not in RULES:
        raise UsageError(None, f"matching rule {rule!r} is not known", f"choose {' or '.join(RULES)}")


def resolve(pairs: Pairs, rule: str) -> Matches:
    """Turns pairs within reach into matches by `rule`, see `match`."""
    check_rule(rule)
    truth_of, found_of = (np.full(size, -1, dtype=np.int64) for size in pairs.sizes)
    if rule == MANY_TO_MANY:
        # Reversed, so that what stays is the first figure within reach, and the nearest detection.
        truth_of[pairs.found[::-1]] = pairs.truth[::-1]
        found_of[pairs.truth[::-1]] = pairs.found[::-1]
        return Matches(truth_of, found_of)
    free, missed = [True] * pairs.sizes[0], [True] * pairs.sizes[1]
    for detection, figure in zip(pairs.found.tolist(), pairs.truth.tolist(), strict=True):
        if missed[figure] and free[detection]:
            free[detection] = missed[figure] = False
            truth_of[detection], found_of[figure] = figure, detection
    return Matches(truth_of, found_of)


def steps(pairs: Pairs, rule: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """What each detection adds to the true and false positives when detections enter in the order of their index.

    The sums over the first k are exactly the counts that `resolve` gives for these k alone, so that one pass over
    detections sorted by score scores every threshold. Returns two (n,) arrays.
    """
    check_rule(rule)
    n, m = pairs.sizes
    if rule == MANY_TO_MANY:
        first = np.full(m, n)
        np.minimum.at(first, pairs.truth, pairs.found)
        alone = np.ones(n, dtype=np.int64)
        alone[pairs.found] = 0
        return np.bincount(first[first < n], minlength=n), alone
    gain = _gains(pairs)
    return gain, 1 - gain


def _gains(pairs: Pairs) -> NDArray[np.int64]:
    """1 where a detection, entering after those before it, adds a true positive under the one-to-one rule.

    The figures choose in file order, so a newcomer goes to the first figure that prefers it to what it holds; what
    that figure lets go is offered to the figures after it, and so on, until a figure takes it that had none.
    """
    n, m = pairs.sizes
    order = np.lexsort((np.arange(len(pairs.found)), pairs.found))  # the pairs of each detection, figures ascending
    follows = np.full(len(order), -1)
    same = pairs.found[order[1:]] == pairs.found[order[:-1]]
    follows[order[:-1][same]] = order[1:][same]
    first = np.ones(len(order), dtype=bool)
    first[1:] = ~same
    gain = np.zeros(n, dtype=np.int64)
    truth, after = pairs.truth.tolist(), follows.tolist()
    nothing = len(truth)
    held = [nothing] * m  # the pair each figure holds; a smaller index is a nearer detection
    for pair in order[first].tolist():
        newcomer = pair
        while pair >= 0:
            figure = truth[pair]
            if pair < held[figure]:
                pair, held[figure] = held[figure], pair
                if pair == nothing:
                    gain[pairs.found[newcomer]] = 1
                    break
            pair = after[pair]
    return gain
