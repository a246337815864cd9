"""The threshold of a first look, by hand and by a detector that sees what it is told to."""

from pathlib import Path

import numpy as np
import pytest

from mitosight.detections import Detections
from mitosight.errors import InputError
from mitosight.pairing import best_scores, threshold_for


def test_a_figure_has_the_best_score_within_reach() -> None:
    """5 µm are 10 px at 0.5 µm/px."""
    figures = np.array([[100.0, 100.0], [200.0, 100.0], [300.0, 100.0]])
    xy = np.array([[100.0, 108.0], [109.0, 100.0], [100.0, 111.0], [210.0, 100.0], [300.0, 110.1]])
    points = Detections(xy, np.array([0.3, 0.6, 0.9, 0.2, 0.8]), 0.5)
    assert best_scores(figures, points).tolist() == [0.6, 0.2, 0.0]
    assert best_scores(figures, Detections(mpp=0.5)).tolist() == [0.0, 0.0, 0.0]


def test_the_threshold_keeps_the_share_that_is_asked_for() -> None:
    seen = np.array([0.9, 0.1, 0.5, 0.7, 0.3])
    assert threshold_for(seen, 1.0, Path("m")) == (0.1, 1.0)
    assert threshold_for(seen, 0.8, Path("m")) == (0.3, 0.8)
    assert threshold_for(seen, 0.79, Path("m")) == (0.3, 0.8)  # four of five are the least that will do
    assert threshold_for(seen, 0.6, Path("m")) == (0.5, 0.6)
    assert threshold_for(np.array([0.5, 0.5, 0.5, 0.2]), 0.5, Path("m")) == (0.5, 0.75)
    with pytest.raises(InputError, match=r"m: sees 0.750 of the figures at any score, less than 0.9; train it longer"):
        threshold_for(np.array([0.5, 0.0, 0.2, 0.3]), 0.9, Path("m"))
