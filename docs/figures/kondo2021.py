"""Draws kondo2021.png: from a drawn region to candidates, the classifier with its two branches, and the adaptation.

Run from the repository root: python docs/figures/kondo2021.py
"""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle
from numpy.typing import NDArray

matplotlib.use("Agg")
from matplotlib import pyplot

from mitosight.candidates import BlueRatio
from mitosight.candidates.blue_ratio import ratios
from mitosight.methods.parts.candidates import corners, cut
from mitosight.phantom import SCANNERS, draw_tissue, scan

OUT = Path(__file__).with_suffix(".png")
SIZE_IN, DPI = (11.0, 6.2), 110
PATCH, NETWORK, HEAD, DOMAIN, LOSS, STORE = "#f4dce6", "#cfdcf0", "#fdeecb", "#f3d3cd", "#ffffff", "#d5ead7"
DARK, BACKWARD = "#333333", "#b3261e"
SEED, SIDE_PX, PATCHES = 12, 320, 6
Point = tuple[float, float]


def box(axes: Axes, centre: Point, size: Point, text: str, colour: str) -> None:
    """A rounded box with a text in it."""
    corner = (centre[0] - size[0] / 2, centre[1] - size[1] / 2)
    style = "round,pad=0,rounding_size=1.2"
    axes.add_patch(FancyBboxPatch(corner, *size, boxstyle=style, facecolor=colour, edgecolor=DARK, lw=0.9))
    axes.text(*centre, text, ha="center", va="center", fontsize=9.5, color=DARK, linespacing=1.35)


def arrow(axes: Axes, start: Point, end: Point, colour: str = DARK, dashed: bool = False) -> None:
    """An arrow from point to point."""
    line = {"arrowstyle": "-|>", "color": colour, "lw": 1.2, "ls": (0, (4, 2)) if dashed else "-", "shrinkA": 0}
    axes.annotate("", end, start, arrowprops={**line, "shrinkB": 0, "mutation_scale": 11})


def region() -> tuple[NDArray[np.uint8], NDArray[np.float64], NDArray[np.uint8]]:
    """A drawn region, its candidates by blue ratio, and patches around some of them."""
    tissue = draw_tissue(SEED, (100, 100), figures_per_mm2=500, lookalikes_per_mm2=300)
    rgb = np.ascontiguousarray(scan(tissue, SCANNERS["phantom-B"], SEED)[0][:SIDE_PX, :SIDE_PX])
    finder = BlueRatio()
    found = finder.find(rgb, finder.statistics([rgb]))
    largest = found.xy[np.argsort(-found.area_px)[:PATCHES]]
    image = torch.from_numpy(rgb).permute(2, 0, 1)
    return rgb, found.xy, cut(image, corners(largest, image, 64), 64).permute(0, 2, 3, 1).numpy()


def pictures(figure: Figure) -> None:
    """The region, its blue ratio with the candidates, and the patches."""
    rgb, xy, patches = region()
    codes = (rgb[..., 0].astype(int) + rgb[..., 1]) * 256 + rgb[..., 2]
    titles = ("region", "blue ratio; candidates above\nmean + 3 standard deviations")
    for k, picture in enumerate((rgb, np.minimum(ratios("plain")[codes], 1.0))):
        axes = figure.add_axes((0.012 + 0.148 * k, 0.645, 0.138, 0.245))
        axes.imshow(picture, cmap="magma")
        axes.set_title(titles[k], fontsize=8.5)
        axes.axis("off")
    axes.set_xlim(0, SIDE_PX)
    axes.set_ylim(SIDE_PX, 0)
    axes.scatter(*xy.T, s=34, facecolors="none", edgecolors="#7fe07f", linewidths=0.9)
    for k, patch in enumerate(patches):
        small = figure.add_axes((0.332 + 0.047 * (k % 2), 0.815 - 0.083 * (k // 2), 0.043, 0.077))
        small.imshow(patch)
        small.axis("off")
    figure.text(0.376, 0.905, "patches, 64 × 64", ha="center", fontsize=8.5)


def classifier(axes: Axes) -> None:
    """The network and its two branches."""
    axes.text(62.5, 91.5, "classifier", ha="center", fontsize=10.5, weight="bold")
    for start, end in (((14.9, 77), (16.2, 77)), ((30.0, 77), (33.0, 77)), ((43.0, 77), (46.5, 77))):
        arrow(axes, start, end)
    box(axes, (53.5, 77), (13, 13), "ResNet-18\nwithout its\nlast layer", NETWORK)
    box(axes, (75, 83.5), (19, 8), "512 – 256 – 128 – 2", HEAD)
    box(axes, (92.5, 83.5), (12.5, 8), "mitosis?\ncross-entropy", LOSS)
    box(axes, (66.3, 68.5), (6.6, 9), "gradient\nreversal", DOMAIN)
    box(axes, (78.5, 68.5), (13, 8), "512 – 256 –\n128 – K + 1", DOMAIN)
    box(axes, (93.5, 68.5), (12.5, 8), "scanner?\ncross-entropy", LOSS)
    arrow(axes, (60, 80), (65.5, 83.5))
    arrow(axes, (60, 74), (62.8, 70.5))
    arrow(axes, (63.0, 66.5), (57.5, 70.3), BACKWARD, dashed=True)
    axes.text(56.0, 63.0, "gradient × (−1)", color=BACKWARD, fontsize=9, ha="center")
    for y, start, end in ((83.5, 84.5, 86.2), (68.5, 69.6, 72), (68.5, 85, 87.2)):
        arrow(axes, (start, y), (end, y))


def adaptation(axes: Axes) -> None:
    """What happens for each slide."""
    axes.add_patch(Rectangle((1, 3), 99, 51, facecolor="#f6faf6", edgecolor="#5a8f5a", lw=0.9, ls=(0, (2, 2))))
    axes.text(2.5, 50.3, "then, for each slide of an unknown scanner", fontsize=10.5, weight="bold", va="center")
    box(
        axes,
        (15, 38.5),
        (25, 12),
        "memory, once: of each scanner\n10,000 patches that the classifier\nis surest of, 10 mitotic",
        STORE,
    )
    box(axes, (15, 15), (25, 12), "candidates of the slide:\nno labels, scanner K + 1", PATCH)
    box(
        axes,
        (45, 27),
        (21, 15),
        "a copy of the classifier\nlearns on: both branches,\nboth kinds mixed; 5 rounds,\nAdam, 1.7e-6",
        NETWORK,
    )
    box(axes, (70, 27), (17, 15), "guard: F1 on\nremembered validation\npatches falls by\n0.02 at most", LOSS)
    box(axes, (91, 38.5), (15, 12), "the copy\nsearches the slide", STORE)
    box(axes, (91, 15), (15, 12), "the model as it is\nsearches the slide", PATCH)
    arrow(axes, (27.5, 36.5), (34.5, 31))
    arrow(axes, (27.5, 17), (34.5, 23))
    arrow(axes, (55.5, 27), (61.5, 27))
    arrow(axes, (78.5, 30), (83.5, 36.5))
    arrow(axes, (78.5, 24), (83.5, 17))
    axes.text(79.0, 35.3, "yes", fontsize=9)
    axes.text(79.4, 18.0, "no", fontsize=9)
    axes.text(
        50, 6.0, "the next slide starts from the model as it was trained", fontsize=9.5, ha="center", style="italic"
    )


def main() -> None:
    """Writes the picture."""
    figure = pyplot.figure(figsize=SIZE_IN)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, 101)
    axes.set_ylim(0, 96)
    axes.axis("off")
    classifier(axes)
    adaptation(axes)
    pictures(figure)
    figure.savefig(OUT, dpi=DPI, facecolor="white", metadata={"Software": None})


if __name__ == "__main__":
    main()
