"""Diversity-guided sample balancing (Wang 2023): which negatives to learn from, out of very many alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from mitosight.errors import InputError

Index = NDArray[np.intp]
Features = NDArray[np.float32]
FeaturesOf = Callable[[Index], Iterable[Features]]  # of the samples of these indices, in parts, in their order
STARTS = 4  # of k-means, of which the best is kept
AT_ONCE = 65_536  # rows whose distances to the centres are taken together


def cluster_of_each(features: FeaturesOf, count: int, clusters: int, share: float, seed: int) -> Index:
    """Clusters (count,) of the negatives, of which the first sampler takes the same number each: `first_sample`.

    k-means is fitted on a random share of them; then all find their cluster. Features are asked for as they are needed
    and never kept but for the share.
    """
    centres = cluster_centres(in_one(features, random_share(count, share, seed)), clusters, seed)
    return np.concatenate([nearest(part, centres) for part in features(np.arange(count))])


def in_one(features: FeaturesOf, index: Index) -> Features:
    """The features (n, C) of the samples `index` (n,), of which at least one is asked for."""
    done, found = 0, np.empty((0, 0), np.float32)
    for part in features(index):
        if not done:
            found = np.empty((len(index), part.shape[1]), np.float32)
        found[done : done + len(part)] = part
        done += len(part)
    return found


def random_share(count: int, share: float, seed: int, least: int = 1_000, most: int = 20_000) -> Index:
    """Indices of a random share of `count` samples, ascending: those that k-means is fitted on.

    The reference code has 0.2. Fewer than `least` leave small clusters out; more than `most` bring k-means nothing but
    time and memory: as many of 4,096 features are 330 MB.
    """
    size = min(count, most, max(least, int(np.ceil(share * count))))
    return np.sort(np.random.default_rng((seed, 0)).choice(count, size, replace=False))


def without_share(among: NDArray[np.bool_], share: float, seed: int) -> NDArray[np.bool_]:
    """(n,) which samples `among` all (n,) are left out, so that about a `share` of them, drawn at random, stays."""
    left_out: NDArray[np.bool_] = among & (np.random.default_rng((seed, 2)).random(len(among)) >= share)
    return left_out


def cluster_centres(features: Features, k: int, seed: int) -> Features:
    """Centres (k, C) of the features (n, C), by k-means with Euclidean distances.

    Raises:
        InputError: fewer features than clusters.
    """
    from sklearn.cluster import KMeans  # 60 MB and half a second that a search can do without

    if len(features) < k:
        raise InputError(None, f"{len(features)} patches to part into {k} clusters", "ask for fewer, or add regions")
    found = KMeans(k, n_init=STARTS, random_state=seed).fit(features)
    return np.asarray(found.cluster_centers_, np.float32)


def nearest(features: Features, centres: Features) -> Index:
    """Index (n,) of the centre (k, C) next to each of the features (n, C); the first of equals."""
    half = (centres.astype(np.float64) ** 2).sum(axis=1) / 2
    parts = [np.argmin(half - part @ centres.T, axis=1) for part in np.split(features, _cuts(len(features)))]
    return np.concatenate(parts).astype(np.intp)


def first_sample(cluster: Index, each: int, seed: int) -> Index:
    """The same number from each cluster, at random; indices into `cluster`, ascending.

    Where a cluster holds fewer than `each`, it gives all it has, and what it lacks comes in equal numbers from those
    that hold more, so that clusters x `each` are drawn as long as there are as many. The paper does not say what
    happens then; the reference code fails.

    Args:
        cluster: (n,) index of the cluster of each sample.
    """
    names, sizes = np.unique(cluster, return_counts=True)
    rng = np.random.default_rng((seed, 1))
    wanted = quotas(sizes, each * len(names))
    drawn = [
        rng.choice(np.flatnonzero(cluster == name), count, replace=False)
        for name, count in zip(names, wanted, strict=True)
    ]
    return np.sort(np.concatenate(drawn)) if drawn else np.empty(0, np.intp)


def quotas(sizes: NDArray[np.integer], total: int) -> NDArray[np.int64]:
    """How many to take of groups of `sizes` (k,): as equal as these allow, `total` together or all there are.

    Where the numbers cannot be equal, the first groups that have more give one more.
    """
    sizes = np.asarray(sizes, np.int64)
    taken = np.zeros_like(sizes)
    left = min(total, int(sizes.sum()))
    while left:
        open_groups = np.flatnonzero(taken < sizes)
        step = max(1, left // len(open_groups))
        for group in open_groups[:left]:
            more = min(step, int(sizes[group] - taken[group]))
            taken[group] += more
            left -= more
    return taken


def second_sample(probability: NDArray[np.floating], epsilon: float = 0.5, least: int = 0) -> Index:
    """Second sampler: the negatives that the classifier takes for mitoses; indices, ascending.

    A negative stays when its predicted probability (n,) of mitosis is `epsilon` or more: the easy ones are dropped.
    A classifier that knows its training negatives by heart leaves almost none: where fewer than `least` stay, the
    `least` most probable do (0, as in the paper: no such floor).
    """
    hard = np.flatnonzero(probability >= epsilon)
    if len(hard) >= min(least, len(probability)):
        return hard
    return np.sort(np.argsort(-probability, kind="stable")[:least])


def told(cluster: Index, clusters: int, drawn: int, hard: int, asked: int) -> str:
    """A line for the log: the sizes of the clusters (of each sample: `cluster`), and how many both samplers keep."""
    sizes = ", ".join(str(size) for size in np.bincount(cluster, minlength=clusters))
    return f"negatives by cluster: {sizes}; {drawn} drawn; {hard} of {asked} are difficult"


def _cuts(count: int) -> Index:
    return np.arange(AT_ONCE, count, AT_ONCE)
