"""Matching: hand-made cases, the challenge's rule against a plain second writing of it, every threshold at once."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from mitosight.errors import UsageError
from mitosight.evaluation import RULES, match
from mitosight.evaluation.matching import near, pooled, resolve, steps

RADIUS = 7.5


def counts(found: object, truth: object, radius: float = RADIUS, rule: str = "one-to-one") -> tuple[int, int, int]:
    matches = match(np.reshape(found, (-1, 2)), np.reshape(truth, (-1, 2)), radius, rule)
    return matches.true_positives, matches.false_positives, matches.false_negatives


def on_axis(*x: float) -> list[tuple[float, float]]:
    return [(value, 0.0) for value in x]


@pytest.mark.parametrize(
    ("truth", "found", "expected"),
    [
        (on_axis(0), on_axis(0, 1), (1, 1, 0)),  # a duplicate is false
        (on_axis(0, 10), on_axis(5), (1, 0, 1)),  # one detection serves one figure
        ([], on_axis(0, 20, 40), (0, 3, 0)),
        (on_axis(0, 20), [], (0, 0, 2)),
        ([], [], (0, 0, 0)),
        (on_axis(0), on_axis(7.4), (1, 0, 0)),
        (on_axis(0), on_axis(7.6), (0, 1, 1)),
        (on_axis(0), on_axis(7.5), (1, 0, 0)),  # the radius is inclusive
        (on_axis(0, 6), on_axis(3, -5), (1, 1, 1)),  # greedy in file order, not the largest matching
        (on_axis(6, 0), on_axis(3, -5), (2, 0, 0)),  # the other order
    ],
)
def test_one_to_one_by_hand(
    truth: list[tuple[float, float]], found: list[tuple[float, float]], expected: tuple[int, int, int]
) -> None:
    assert counts(found, truth) == expected


@pytest.mark.parametrize(
    ("truth", "found", "expected"),
    [
        (on_axis(0), on_axis(0, 1), (1, 0, 0)),  # a duplicate does no harm
        (on_axis(0, 10), on_axis(5), (2, 0, 0)),  # one detection serves both
        (on_axis(0), on_axis(0, 20), (1, 1, 0)),
        (on_axis(0), on_axis(7.6), (0, 1, 1)),
        ([], on_axis(0), (0, 1, 0)),
    ],
)
def test_many_to_many_by_hand(
    truth: list[tuple[float, float]], found: list[tuple[float, float]], expected: tuple[int, int, int]
) -> None:
    assert counts(found, truth, rule="many-to-many") == expected


def test_who_took_whom() -> None:
    matches = match(on_axis(1, 50, 11, 0.5), on_axis(0, 10, 30), RADIUS)
    assert matches.truth_of.tolist() == [-1, -1, 1, 0]
    assert matches.found_of.tolist() == [3, 2, -1]


def test_distance_is_euclidean_and_the_radius_exact() -> None:
    assert counts([(15.0, 20.0)], [(0.0, 0.0)], radius=25) == (1, 0, 0)
    assert counts([(15.0, 20.001)], [(0.0, 0.0)], radius=25) == (0, 1, 1)
    assert counts([(20.0, 20.0)], [(0.0, 0.0)], radius=25) == (0, 1, 1)


def test_an_unknown_rule_is_refused() -> None:
    with pytest.raises(UsageError, match="one-to-one or many-to-many"):
        match([(0, 0)], [(0, 0)], 1, "hungarian")


def plain_counts(found: NDArray[np.float64], truth: NDArray[np.float64], radius: float) -> tuple[int, int, int]:
    """The challenge's rule once more, as a loop over figures and detections without any index."""
    free = set(range(len(found)))
    for figure in truth:
        within = [(math.dist(figure, found[i]), i) for i in free if math.dist(figure, found[i]) <= radius]
        if within:
            free.remove(min(within)[1])
    right = len(found) - len(free)
    return right, len(free), len(truth) - right


def crowded(random: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Detections and figures, now sparse, now crowded, sometimes none."""
    m, n = random.integers(0, 16, 2) * (random.random(2) > 0.05)
    side = random.choice([60.0, 150.0, 500.0])
    truth, found = random.random((m, 2)) * side, random.random((n, 2)) * side
    near_by = min(m, n) // 2
    found[:near_by] = truth[:near_by] + random.normal(0, 12, (near_by, 2))
    return found, truth


def test_the_rule_agrees_with_a_plain_writing_on_1000_random_cases() -> None:
    random = np.random.default_rng(0)
    empty = 0
    for _ in range(1000):
        found, truth = crowded(random)
        empty += not len(found) or not len(truth)
        assert counts(found, truth, radius=30) == plain_counts(found, truth, 30)
    assert empty > 50


@pytest.mark.parametrize("rule", RULES)
def test_counts_add_up(rule: str) -> None:
    random = np.random.default_rng(1)
    for _ in range(100):
        found, truth = crowded(random)
        right, false, missed = counts(found, truth, 30, rule)
        assert right + missed == len(truth)
        if rule == "one-to-one":
            assert right + false == len(found)


@pytest.mark.parametrize("rule", RULES)
def test_steps_give_the_counts_of_every_prefix(rule: str) -> None:
    random = np.random.default_rng(2)
    for _ in range(100):
        found, truth = crowded(random)
        pairs = near(pooled([found]), pooled([truth]), np.array([30.0]))
        gain, false = steps(pairs, rule)
        for k in range(len(found) + 1):
            right, wrong, _ = counts(found[:k], truth, 30, rule)
            assert (gain[:k].sum(), false[:k].sum()) == (right, wrong)


def test_images_do_not_meet_and_keep_their_own_radius() -> None:
    found, truth = (
        pooled([np.array([[0.0, 0.0]]), np.array([[9.0, 0.0]])]),
        pooled([np.zeros((1, 2)), np.zeros((1, 2))]),
    )
    assert resolve(near(found, truth, np.array([5.0, 10.0])), "one-to-one").found_of.tolist() == [0, 1]
    assert resolve(near(found, truth, np.array([10.0, 5.0])), "one-to-one").found_of.tolist() == [0, -1]
