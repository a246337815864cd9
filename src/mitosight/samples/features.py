"""Features of patches in a plot, like Fig. 5 of Wang 2023, and how far their classes are apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.metrics import silhouette_score

from mitosight.errors import UsageError
from mitosight.outputs import whole

OTHERS, FIGURES = ("Blues", "Oranges")  # colours of the child classes of each parent
PANEL_IN = 4.6


@dataclass(frozen=True)
class Panel:
    """Features of the same patches by one network.

    Attributes:
        title: of the network.
        features: (n, C).
    """

    title: str
    features: NDArray[np.float32]


def separability(features: NDArray[np.float32], label: NDArray[np.integer]) -> float | None:
    """Mean silhouette (Rousseeuw 1987) of classes (n,) by Euclidean distances of features (n, C): 1 parted, 0 mixed.

    For each patch (b - a) / max(a, b), with a its mean distance to its own class and b that to the nearest other;
    the scale of the features does not matter. All features count, not those of the plot alone. None with fewer than
    two classes, or with as many classes as patches.
    """
    if not 1 < len(np.unique(label)) < len(label):
        return None
    return float(silhouette_score(features, label))


def in_words(value: float | None) -> str:
    """A separability for people."""
    return "–" if value is None else f"{value:.2f}"


def plane(features: NDArray[np.float32]) -> tuple[NDArray[np.float64], float]:
    """The two main components (n, 2) of features (n, C), and the share of the variance that they hold."""
    pca = PCA(2, svd_solver="full").fit(features)
    return pca.transform(features), float(pca.explained_variance_ratio_.sum())


def write_plot(path: Path, panels: Sequence[Panel], parent: NDArray[np.int64], child: NDArray[np.int64]) -> None:
    """Writes a PNG with a plot for each network; points are coloured by parent (n,) and child class (n,).

    Raises:
        UsageError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise UsageError(None, "matplotlib is not installed", "pip install 'mitosight[plots]'") from None
    figure = Figure(figsize=(PANEL_IN * len(panels), PANEL_IN + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, panel in zip(axes, panels, strict=True):
        xy, share = plane(panel.features)
        _points(axis, xy, parent, child)
        apart = in_words(separability(panel.features, parent))
        axis.set_title(f"{panel.title}\nsilhouette of the classes {apart}", fontsize=10)
        axis.set_xlabel(f"first two components, {share:.0%} of the variance", fontsize=9)
        axis.set_xticks([])
        axis.set_yticks([])
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    with whole(path) as temporary:
        figure.savefig(temporary, dpi=120, facecolor="white", metadata={"Software": None})


def _points(axis: object, xy: NDArray[np.float64], parent: NDArray[np.int64], child: NDArray[np.int64]) -> None:
    from matplotlib import colormaps

    for value, (name, colours, mark) in enumerate((("other", OTHERS, "o"), ("mitosis", FIGURES, "^"))):
        own = np.unique(child[parent == value])
        for k, number in enumerate(own):
            here = (parent == value) & (child == number)
            label = f"{name} {k + 1}" if len(own) > 1 else name
            colour = colormaps[colours](0.45 + 0.5 * k / max(1, len(own) - 1))
            axis.scatter(*xy[here].T, s=14, marker=mark, color=colour, label=label, linewidths=0)  # type: ignore[attr-defined]
