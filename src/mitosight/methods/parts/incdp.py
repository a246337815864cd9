"""Inter- and intra-class diversity-preserved classification (Wang 2023): child classes, their weights, the losses."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from mitosight.errors import InputError
from mitosight.methods.parts.dgsb import FeaturesOf, in_one, nearest, random_share
from mitosight.methods.parts.domain import focal_cross_entropy

PARENTS = 2
MITOSIS = 1  # the parent class; 0 is everything else
STARTS = 4  # of k-means, of which the best is kept
Form = Literal["paper", "code"]
Omega = Literal["nearest", "mean", "uniform"]
Features = NDArray[np.float32]


@dataclass(frozen=True)
class Objective:
    """What the terms of one level weigh, and the child level beside the parent level.

    Attributes:
        entropy, focal, centre: of cross-entropy, focal loss and centre loss.
        child: of the child level (lambda of the paper).
        omega: how the child classes are weighed against each other; see `child_weights`.
        gamma: of the focal loss; "tunable" in the paper, 2 in the code.
        centres_move: whether the centres of the centre loss follow the features.
    """

    entropy: float = 0.0
    focal: float = 1.0
    centre: float = 1.0
    child: float = 0.5
    omega: Omega = "nearest"
    gamma: float = 2.0
    centres_move: bool = True


PAPER = Objective()
PLAIN = Objective(entropy=1.0, focal=0.0, centre=0.0)  # of a classifier that has two classes and no more
CODE = Objective(entropy=1.0, focal=0.1, centre=2e-4, child=1.0, omega="uniform", centres_move=False)


def objective(form: Form, **changed: Any) -> Objective:
    """The terms of equation (10), or those of the reference code.

    "paper": focal loss and centre loss for parents, and half of that for children, the focal loss of each child class
    times omega. "code": cross-entropy + 0.1 focal + 0.0001 centre for both levels alike, without the half of the
    centre loss (hence 2e-4 here), omega uniform, centres that stay where they were drawn. Both are averaged over the
    batch, as in the code; the paper's equations are sums, which a rate of 1e-3 and a batch of 150 would make 150 times
    as large. `changed` are attributes of `Objective` with other values; None leaves those of the form.
    """
    return replace(PAPER if form == "paper" else CODE, **{k: v for k, v in changed.items() if v is not None})


def child_classes(
    features: FeaturesOf, parent: NDArray[np.integer], children: int, seed: int
) -> tuple[NDArray[np.int64], Features]:
    """Child classes (n,) of samples of parents (n,), and their centres (2 x children, C).

    k-means sees, of very many positives or samples, a random part; then all find their centre.
    """
    positive = np.flatnonzero(parent == MITOSIS)
    some = np.union1d(positive[random_share(len(positive), 1.0, seed)], random_share(len(parent), 1.0, seed))
    centres = child_centres(in_one(features, some), parent[some], children, seed)
    label, done = np.empty(len(parent), np.int64), 0
    for part in features(np.arange(len(parent))):
        rows = slice(done, done + len(part))
        label[rows] = nearest_children(part, parent[rows], centres)
        done += len(part)
    return label, centres


def child_centres(features: Features, parent: NDArray[np.integer], children: int, seed: int) -> Features:
    """Centres (2 x children, C) of the child classes, by k-means inside each class.

    Classes 0 to T - 1 are children of the negatives, T to 2 T - 1 of the positives, as in the paper (the code has the
    positives first).

    Args:
        features: (n, C) of the trained parent network.
        parent: (n,) 0 or 1.
        children: T, for each class.

    Raises:
        InputError: a class has fewer samples than children.
    """
    from sklearn.cluster import KMeans  # 60 MB and half a second that a search can do without

    centres = []
    for value in range(PARENTS):
        own = features[parent == value]
        if len(own) < children:
            raise InputError(
                None, f"{len(own)} patches of class {value} for {children} child classes", "lower the number of them"
            )
        centres.append(KMeans(children, n_init=STARTS, random_state=seed).fit(own).cluster_centers_)
    return np.concatenate(centres).astype(np.float32)


def nearest_children(features: Features, parent: NDArray[np.integer], centres: Features) -> NDArray[np.int64]:
    """Child classes (n,): for features (n, C) of parents (n,) the nearest centre (2 T, C) of the own class."""
    label = np.empty(len(parent), np.int64)
    for value, own in enumerate(np.split(centres, PARENTS)):
        label[parent == value] = value * len(own) + nearest(features[parent == value], own)
    return label


def child_weights(centres: Features, omega: Omega = "nearest") -> Features:
    """Weights omega (2 T,) of the child classes by their centres (2 T, C); their mean is 1.

    The paper: a child class with a longer distance to the opposite class holds easier samples and weighs less, with no
    formula. Here the inverse of the distance from its centre to the nearest centre of the opposite class ("nearest",
    the default: what makes a class hard is what it can be taken for) or to all of them on average ("mean"), divided by
    the mean over classes. "uniform": 1, as in the reference code.
    """
    if omega == "uniform":
        return np.ones(len(centres), np.float32)
    between = np.linalg.norm(centres[:, None].astype(np.float64) - centres[None], axis=2)
    negative, positive = np.split(np.arange(len(centres)), PARENTS)
    opposite = np.concatenate([between[np.ix_(negative, positive)], between[np.ix_(positive, negative)]])  # (2 T, T)
    distance = opposite.min(axis=1) if omega == "nearest" else opposite.mean(axis=1)
    closeness = 1 / np.maximum(distance, np.finfo(np.float32).eps)
    weights: Features = (closeness / closeness.mean()).astype(np.float32)
    return weights


class CentreLoss(nn.Module):
    """Half of the squared distance of features to the centre of their class (Wen 2016, equation 8 of Wang 2023).

    The gradient goes to the features alone: x - c. The centres follow by Wen's rule: after each training batch a centre
    moves by `rate` x sum (x - c) / (1 + n) over the n samples of its class. They are no weights of the optimiser: a
    rate of 1e-3 with weight decay would leave them behind the features, and how fast they move would hang on the
    weight of the loss. In several processes each follows its own batches, and the first one's centres count.

    Centres start at 0, or at `moves` False from N(0, 1), as in the reference code, and stay there.
    """

    def __init__(self, classes: int, channels: int, *, moves: bool = True, rate: float = 0.5) -> None:
        super().__init__()
        self.moves, self.rate = moves, rate
        self.register_buffer("centres", torch.zeros(classes, channels) if moves else torch.randn(classes, channels))
        self.centres: Tensor

    def forward(self, features: Tensor, label: Tensor) -> Tensor:
        """Features (N, C) and classes (N,) to losses (N,)."""
        features = features.float()
        away = features - self.centres[label]
        if self.training and self.moves:
            self._follow(away.detach(), label)
        return away.square().sum(dim=1) / 2

    @torch.no_grad()
    def _follow(self, away: Tensor, label: Tensor) -> None:
        pull = torch.zeros_like(self.centres).index_add_(0, label, away)
        count = torch.zeros_like(self.centres[:, 0]).index_add_(0, label, torch.ones_like(away[:, 0]))
        self.centres += self.rate * pull / (1 + count)[:, None]


class Level(nn.Module):
    """One level of classes, parents or children: a bias-free linear classifier (Xavier), and its centre loss."""

    def __init__(self, classes: int, channels: int, *, centres_move: bool = True) -> None:
        super().__init__()
        self.classifier = nn.Linear(channels, classes, bias=False)
        nn.init.xavier_uniform_(self.classifier.weight)
        self.centre = CentreLoss(classes, channels, moves=centres_move)
        self.register_buffer("omega", torch.ones(classes))
        self.omega: Tensor

    def forward(self, pooled: Tensor) -> Tensor:
        """Pooled features (N, C) to logits (N, classes), float32."""
        logits: Tensor = self.classifier(pooled)
        return logits.float()

    def losses(self, pooled: Tensor, label: Tensor, terms: Objective) -> dict[str, Tensor]:
        """The terms of this level, averaged over the samples: 0 where there are none.

        The focal loss is that of the softmax: for two classes equation (7), with the samples of a class times its
        omega equation (9).

        Args:
            pooled: (N, C).
            label: (N,) classes.
        """
        logits, count = self(pooled), max(1, len(label))
        entropy = terms.entropy * functional.cross_entropy(logits, label, reduction="sum")
        focal = terms.focal * (self.omega[label] * focal_cross_entropy(logits, label, terms.gamma)).sum()
        found = {"classification": (entropy + focal) / count}
        if terms.centre:
            found["centre"] = terms.centre * self.centre(pooled, label).sum() / count
        return found

    @torch.no_grad()
    def place(self, centres: Tensor, omega: Tensor) -> None:
        """Sets where the centres (classes, C) are, unless they do not move, and what the classes weigh (classes,)."""
        if self.centre.moves:
            self.centre.centres.copy_(centres)
        self.omega.copy_(omega)


def joint_losses(
    parent: Level, child: Level | None, pooled: Tensor, labels: tuple[Tensor, Tensor], terms: Objective
) -> dict[str, Tensor]:
    """Equation (10): the terms of the parent level, and lambda times those of the child level, by name.

    Args:
        child: None while only the parents are trained.
        pooled: (N, C) pooled features.
        labels: (N,) parent classes and (N,) child classes; the latter are not looked at without `child`.
    """
    found = parent.losses(pooled, labels[0], terms)
    if child is not None:
        own = child.losses(pooled, labels[1], terms)
        found |= {f"child_{name}": terms.child * value for name, value in own.items()}
    return found
