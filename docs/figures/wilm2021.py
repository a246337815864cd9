"""Draws wilm2021.png: the detector of Wilm 2021 and what its domain path adds.

Run from the repository root: python docs/figures/wilm2021.py
"""

from __future__ import annotations

from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch, Rectangle

matplotlib.use("Agg")
from matplotlib import pyplot

OUT = Path(__file__).with_suffix(".png")
SIZE_IN, DPI = (11.0, 5.6), 110
TILE, ENCODER, PYRAMID, HEAD, DOMAIN, LOSS = "#f4dce6", "#cfdcf0", "#d5ead7", "#fdeecb", "#f3d3cd", "#ffffff"
DARK, BACKWARD = "#333333", "#b3261e"
Point = tuple[float, float]
ROWS = {3: 78.0, 4: 61.0, 5: 44.0}  # heights of the pyramid levels
DOMAIN_Y = 15.0


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


def encoder(axes: Axes) -> None:
    """Tile, ResNet-18 and pyramid."""
    axes.text(9, 88.5, "tile", ha="center", fontsize=10.5, weight="bold")
    axes.text(29, 88.5, "ResNet-18", ha="center", fontsize=10.5, weight="bold")
    axes.text(51, 88.5, "feature pyramid", ha="center", fontsize=10.5, weight="bold")
    box(axes, (9, ROWS[3]), (13, 11), "512 × 512\nRGB", TILE)
    levels = {3: "C3\n128 ch., 1/8", 4: "C4\n256 ch., 1/16", 5: "C5, bottleneck\n512 ch., 1/32"}
    for level, text in levels.items():
        y = ROWS[level]
        box(axes, (29, y), (16, 11), text, ENCODER)
        box(axes, (51, y), (14, 11), f"P{level}\n128 ch.", PYRAMID)
        arrow(axes, (37, y), (44, y))
    arrow(axes, (15.5, ROWS[3]), (21, ROWS[3]))
    for upper, lower in ((3, 4), (4, 5)):
        arrow(axes, (29, ROWS[upper] - 5.5), (29, ROWS[lower] + 5.5))
        arrow(axes, (51, ROWS[lower] + 5.5), (51, ROWS[upper] - 5.5))
    axes.text(52, (ROWS[4] + ROWS[5]) / 2, "×2, +", fontsize=8.5, va="center")
    axes.text(52, (ROWS[3] + ROWS[4]) / 2, "×2, +", fontsize=8.5, va="center")


def heads(axes: Axes) -> None:
    """The two heads that all levels share, and their losses."""
    axes.text(72, 88.5, "heads, shared by the levels", ha="center", fontsize=10.5, weight="bold")
    middle = 63.0
    for level in ROWS:
        axes.plot((58, 60.5), (ROWS[level],) * 2, color=DARK, lw=1.2)
    axes.plot((60.5, 60.5), (ROWS[5], ROWS[3]), color=DARK, lw=1.2, solid_capstyle="projecting")
    for y, text, loss in (
        (72.0, "class: 3 × conv 3×3\n5 anchors a cell", "focal loss"),
        (53.0, "box: 3 × conv 3×3\n5 anchors × 4", "smooth L1"),
    ):
        arrow(axes, (60.5, y), (63.5, y))
        box(axes, (72.5, y), (18, 11), text, HEAD)
        arrow(axes, (81.5, y), (85.5, y))
        box(axes, (92, y), (13, 8), loss, LOSS)
    axes.text(92, middle - 0.5, "tiles of labelled\nscanners only", ha="center", va="center", fontsize=9)


def domain(axes: Axes) -> None:
    """What is added: gradient reversal and the discriminator."""
    axes.add_patch(Rectangle((17.5, 3.2), 82, 24.5, facecolor="#faf3f2", edgecolor=BACKWARD, lw=0.9, ls=(0, (2, 2))))
    axes.text(98.5, 24.6, "domain path, for training only", ha="right", va="center", fontsize=10.5, weight="bold")
    arrow(axes, (27, ROWS[5] - 5.5), (27, DOMAIN_Y + 5))
    arrow(axes, (31, DOMAIN_Y + 5), (31, ROWS[5] - 5.5), BACKWARD, dashed=True)
    axes.text(32, 33.0, "gradient × (−α),  α grows from 0 to 1", color=BACKWARD, fontsize=9.5, va="center")
    box(axes, (29, DOMAIN_Y), (16, 10), "gradient\nreversal", DOMAIN)
    box(axes, (53.5, DOMAIN_Y), (23, 10), "3 × (conv 3×3, batch norm,\nReLU, dropout)", DOMAIN)
    box(axes, (74.5, DOMAIN_Y), (11, 10), "average\npool, linear", DOMAIN)
    box(axes, (91.5, DOMAIN_Y), (13, 8), "focal loss on\nthe scanner", LOSS)
    for start, end in ((37, 42), (65, 69), (80, 85)):
        arrow(axes, (start, DOMAIN_Y), (end, DOMAIN_Y))
    axes.text(91.5, 7.0, "tiles of all scanners", ha="center", va="center", fontsize=9)


def main() -> None:
    """Writes the picture."""
    figure = pyplot.figure(figsize=SIZE_IN)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, 101)
    axes.set_ylim(0, 93)
    axes.axis("off")
    encoder(axes)
    heads(axes)
    domain(axes)
    figure.savefig(OUT, dpi=DPI, facecolor="white", metadata={"Software": None})


if __name__ == "__main__":
    main()
