"""Scores over thresholds, on cases small enough to be worked out by hand."""

import numpy as np
import pytest
from numpy.typing import NDArray

from mitosight.evaluation.curves import Curve, aucpr, average_precision, best, box_hits, curve, froc_auc
from mitosight.evaluation.matching import pooled


def falling(flags: list[int], figures: int, images: int = 1, score: list[float] | None = None) -> Curve:
    """A curve of detections that are right (1) or wrong (0), with scores 0.9, 0.8, ..."""
    right = np.array(flags, dtype=np.int64)
    scores = np.array(score) if score else 0.9 - 0.1 * np.arange(len(right))
    return curve(scores, right, 1 - right, figures, images)


def test_counts_precision_recall_and_f1_at_every_threshold() -> None:
    found = falling([1, 0, 1], figures=2)
    assert found.true_positives.tolist() == [1, 1, 2]
    assert found.false_positives.tolist() == [0, 1, 1]
    assert found.precision == pytest.approx([1, 1 / 2, 2 / 3])
    assert found.recall == pytest.approx([1 / 2, 1 / 2, 1])
    assert found.f1 == pytest.approx([2 / 3, 1 / 2, 4 / 5])


def test_equal_scores_enter_together() -> None:
    found = falling([1, 0, 1, 0], figures=2, score=[0.9, 0.5, 0.5, 0.5])
    assert found.threshold.tolist() == [0.9, 0.5]
    assert found.false_positives.tolist() == [0, 2]


def test_f1_at_given_thresholds_counts_scores_from_the_threshold_on() -> None:
    found = falling([1, 0, 1], figures=2, score=[0.9, 0.8, 0.7])
    asked = np.array([0.0, 0.7, 0.75, 0.8, 0.9, 0.95])
    assert found.f1_at(asked) == pytest.approx([4 / 5, 4 / 5, 1 / 2, 1 / 2, 2 / 3, 0])


def test_aucpr_sums_precision_over_gains_in_recall() -> None:
    assert aucpr(falling([1, 0, 1], figures=2)) == pytest.approx(1 / 2 * 1 + 1 / 2 * 2 / 3)
    assert aucpr(falling([1, 1], figures=4)) == pytest.approx(1 / 2)
    assert aucpr(falling([0], figures=4)) == 0
    assert aucpr(falling([], figures=4)) == 0
    assert aucpr(falling([0], figures=0)) is None


def test_average_precision_interpolates_at_101_recalls() -> None:
    # recall 0 to 0.50: precision 1 (51 points); 0.51 to 1: 2/3 (50 points)
    assert average_precision(np.array([True, False, True]), 2) == pytest.approx((51 + 50 * 2 / 3) / 101)
    # recall 0 to 0.25 reached, 75 points beyond count 0
    assert average_precision(np.array([True]), 4) == pytest.approx(26 / 101)
    assert average_precision(np.array([], dtype=bool), 4) == 0
    assert average_precision(np.array([True]), 0) is None


def test_froc_area_of_a_perfect_and_of_a_useless_detector() -> None:
    assert froc_auc(falling([1, 1], figures=2)) == pytest.approx(8)
    assert froc_auc(falling([0, 0], figures=2)) == 0
    assert froc_auc(falling([], figures=2)) == 0
    assert froc_auc(falling([1], figures=4)) == pytest.approx(2)
    assert froc_auc(falling([0], figures=0)) is None


def test_froc_area_by_hand() -> None:
    # recall 1/2 without false positives, 1 with four in each image: a line between, then 1; the grid has the steps of
    # 8/49, so that the knee at 4 is cut by 0.5 * (4 - 24 * 8/49) * (25 * 8/49 - 4) / 2 * slope
    found = falling([1, 0, 0, 0, 0, 1], figures=2, score=[1.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    step = 8 / 49
    knee = (4 - 24 * step) * (25 * step - 4) / 2 * (0.5 / 4)
    assert froc_auc(found) == pytest.approx(4 * 0.75 + 4 - knee)


def test_froc_counts_false_positives_per_image() -> None:
    one, two = (falling([1, 0, 0, 1], 2, images, [1.0, 0.0, 0.0, 0.0]) for images in (1, 2))
    assert (froc_auc(two) or 0) > (froc_auc(one) or 0)


def test_best_f1_and_its_plateau() -> None:
    # F1 of 100 figures when 50, 100, then with 1, 2, 3, ... false ones beside
    right = [1] * 100 + [0] * 10
    score = [0.9] * 50 + [0.8] * 50 + [0.7 - 0.05 * i for i in range(10)]
    found = best(falling(right, 100, score=score))
    assert found is not None
    assert (found.f1, found.threshold) == (1, 0.8)
    assert found.high == 0.8  # at 0.9 F1 is 2/3
    assert found.low == pytest.approx(0.65)  # two false: 200/202 = 0.9901; three: 200/203 = 0.985
    assert found.centre == pytest.approx((0.8 + 0.65) / 2)
    assert best(falling([0], figures=0)) is None
    assert best(falling([], figures=3)) is None


def boxes(*xy: tuple[float, float]) -> NDArray[np.float64]:
    return np.array(xy, dtype=np.float64).reshape(-1, 2)


@pytest.mark.parametrize(
    ("shift", "expected"),
    [
        ((29.9, 0.0), True),  # IoU 0.5 at 30 px = 7.5 µm along an axis
        ((30.0, 0.0), True),
        ((30.1, 0.0), False),
        ((16.5, 16.5), True),  # (90 - 16.5)² = 5402 of 10798
        ((16.6, 16.6), False),  # within 7.5 µm, but the boxes overlap too little
    ],
)
def test_box_overlap(shift: tuple[float, float], expected: bool) -> None:
    hit = box_hits(pooled([boxes(shift)]), pooled([boxes((0, 0))]), np.array([0.25]))
    assert hit.tolist() == [expected]


def test_boxes_are_taken_by_score_and_then_overlap() -> None:
    figures = pooled([boxes((0, 0), (40, 0))])
    # the first lies between and takes the nearer; the second would fit only that one; the third takes the other
    found = pooled([boxes((15, 0), (-5, 0), (45, 0))])
    assert box_hits(found, figures, np.array([0.25])).tolist() == [True, False, True]
