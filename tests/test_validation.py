"""The operating point that a validation chooses."""

import numpy as np
import pytest

from mitosight.detections import Detections
from mitosight.evaluation import evaluate
from mitosight.regions import Domain, Region
from mitosight.validation import THRESHOLDS, operating_point


def chosen(**scanners: tuple[list[float], list[float]]) -> tuple[float, float]:
    """The operating point of figures found with the first scores and false points with the second, by scanner."""
    regions, found = [], {}
    for name, (right, wrong) in scanners.items():
        xy = np.array([[100.0 * k, 50.0] for k in range(len(right))])
        label = np.ones(len(right))
        regions.append(Region(name, 5000, 5000, xy, label, domain=Domain(scanner=name), mpp=0.25))
        beside = np.array([[100.0 * k, 4000.0] for k in range(len(wrong))]).reshape(-1, 2)
        found[name] = Detections(np.concatenate([xy, beside]), np.array([*right, *wrong]), 0.25)
    return operating_point(evaluate(found, regions, threshold=0.0, bootstrap=0))


def test_the_middle_of_the_best() -> None:
    """Between the lowest right one at 0.8 and the highest wrong one at 0.6 all are right: 0.61 to 0.80."""
    assert chosen(a=([0.9, 0.8], [0.6, 0.3])) == (pytest.approx(0.71), 1.0)


def test_scanners_count_alike_whatever_they_hold() -> None:
    """Up to 0.5 the F1 are 2 / 3 and 1, from 0.71 on 1 and 1 / 2; of all points together it would be 0.91 there."""
    threshold, f1 = chosen(a=([0.8] * 9, [0.7] * 9), b=([0.9, 0.5, 0.5], []))
    assert threshold <= 0.5
    assert f1 == pytest.approx((2 / 3 + 1) / 2)


def test_scores_close_to_one_are_told_apart() -> None:
    """Where all but the false points are above 0.999, a threshold of 0.99 would let these through."""
    threshold, f1 = chosen(a=([0.9996, 0.9995], [0.9985, 0.998]))
    assert (0.9985 < threshold < 0.9995) and f1 == 1.0


def test_thresholds_rise() -> None:
    assert THRESHOLDS[0] == 0.05 and THRESHOLDS[94] == 0.99 and 0.9999 < THRESHOLDS[-1] < 1
    assert np.all(np.diff(THRESHOLDS) > 0)
