"""Diversity-guided sample balancing: k-means, equal draws, shortfall, difficulty, by hand."""

from collections.abc import Iterator

import numpy as np
import pytest

from mitosight.errors import InputError
from mitosight.methods.parts import dgsb


def groups(*sizes: int) -> np.ndarray:
    return np.repeat(np.arange(len(sizes)), sizes)


def test_clusters_of_three_heaps() -> None:
    rng = np.random.default_rng(0)
    middle = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]], np.float32)
    truth = groups(500, 30, 7)
    features = (middle[truth] + rng.normal(0, 0.1, (537, 2))).astype(np.float32)
    centres = dgsb.cluster_centres(features, 3, seed=0)
    assert np.abs(centres[:, None] - middle[None]).sum(axis=2).min(axis=0).max() < 0.3
    found = dgsb.nearest(features, centres)
    assert sorted(np.bincount(found)) == [7, 30, 500]
    assert all(len(set(found[truth == k])) == 1 for k in range(3))


def test_nearest_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dgsb, "AT_ONCE", 2)  # rows come in parts
    centres = np.array([[0.0], [4.0], [100.0]], np.float32)
    features = np.array([[1.9], [2.0], [2.1], [60.0], [-7.0]], np.float32)
    assert dgsb.nearest(features, centres).tolist() == [0, 0, 1, 2, 0]


def test_too_few_for_the_clusters() -> None:
    with pytest.raises(InputError, match="3 patches to part into 10 clusters"):
        dgsb.cluster_centres(np.zeros((3, 2), np.float32), 10, seed=0)


@pytest.mark.parametrize(
    ("sizes", "total", "expected"),
    [
        ([100, 50, 10], 30, [10, 10, 10]),
        ([100, 50, 4], 30, [13, 13, 4]),  # 6 are lacking: 3 more from each of the others
        ([100, 12, 4], 30, [14, 12, 4]),
        ([100, 50, 3], 30, [14, 13, 3]),  # 27 are no even number: the first gives one more
        ([5, 2, 1], 30, [5, 2, 1]),  # there are no more
        ([9, 9, 9], 2, [1, 1, 0]),
        ([9], 0, [0]),
        ([], 5, []),
    ],
)
def test_quotas_by_hand(sizes: list[int], total: int, expected: list[int]) -> None:
    assert dgsb.quotas(np.array(sizes, np.int64), total).tolist() == expected


def test_the_same_number_from_each_cluster() -> None:
    cluster = np.random.default_rng(0).permutation(groups(1000, 40, 300, 20))
    drawn = dgsb.first_sample(cluster, 20, seed=1)
    assert np.bincount(cluster[drawn]).tolist() == [20, 20, 20, 20]
    assert len(set(drawn)) == 80 and (np.diff(drawn) > 0).all()
    assert np.array_equal(drawn, dgsb.first_sample(cluster, 20, seed=1))
    assert not np.array_equal(drawn, dgsb.first_sample(cluster, 20, seed=2))
    assert np.bincount(cluster[dgsb.first_sample(cluster, 30, seed=1)]).tolist() == [34, 33, 33, 20]


def test_clusters_from_features() -> None:
    """Heaps of 90, 30 and 3 are the clusters; four from each: all three of the smallest."""
    rng = np.random.default_rng(0)
    heap = rng.permutation(groups(90, 30, 3))
    features = (np.array([0.0, 10.0, 90.0])[heap, None] + rng.normal(0, 0.1, (123, 2))).astype(np.float32)
    cluster = dgsb.cluster_of_each(lambda some: np.array_split(features[some], 5), 123, 3, 1.0, seed=0)
    assert sorted(np.bincount(cluster)) == [3, 30, 90] and len(set(zip(cluster, heap, strict=True))) == 3
    assert sorted(np.bincount(heap[dgsb.first_sample(cluster, 4, seed=0)])) == [3, 4, 5]


def test_difficult_negatives_stay() -> None:
    probability = np.array([0.1, 0.5, 0.49, 0.9, 0.0])
    assert dgsb.second_sample(probability).tolist() == [1, 3]
    assert dgsb.second_sample(probability, 0.45).tolist() == [1, 2, 3]
    assert dgsb.second_sample(probability, 0.95).tolist() == []
    assert dgsb.second_sample(probability, least=3).tolist() == [1, 2, 3]
    assert dgsb.second_sample(probability, least=2).tolist() == [1, 3]
    assert dgsb.second_sample(probability, least=99).tolist() == [0, 1, 2, 3, 4]


def test_share_for_the_fit() -> None:
    drawn = dgsb.random_share(1000, 0.2, seed=0, least=0)
    assert len(drawn) == 200 and len(set(drawn)) == 200 and drawn.min() >= 0 and drawn.max() < 1000
    assert len(dgsb.random_share(11, 0.2, seed=0, least=0)) == 3  # rounded up
    assert len(dgsb.random_share(1000, 1.0, seed=0, most=70)) == 70
    assert len(dgsb.random_share(1_000_000, 0.2, seed=0)) == 20_000
    assert len(dgsb.random_share(900, 0.2, seed=0)) == 900 and len(dgsb.random_share(6000, 0.2, seed=0)) == 1200


def test_features_in_one_array() -> None:
    """In parts of two, as they were asked for, and in their order."""
    every = np.arange(20, dtype=np.float32).reshape(10, 2)

    def features(index: np.ndarray) -> Iterator[np.ndarray]:
        for start in range(0, len(index), 2):
            yield every[index[start : start + 2]]

    index = np.array([1, 4, 5, 8, 9])
    assert np.array_equal(dgsb.in_one(features, index), every[index])
