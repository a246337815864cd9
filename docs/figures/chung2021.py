"""Draws chung2021.png: the two stages of Chung 2021, the style transfer and the detector that sees what it paints.

Run from the repository root: python docs/figures/chung2021.py
"""

from __future__ import annotations

from pathlib import Path

from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from wilm2021 import DARK, DPI, ENCODER, HEAD, LOSS, TILE, arrow, box

OUT = Path(__file__).with_suffix(".png")
SIZE_IN = (11.0, 6.6)
GENERATOR, CRITIC, CODE = "#d9ead3", "#f3d3cd", "#e6dcf2"
FIRST, SECOND = 78.0, 23.0  # heights of the two stages
LOWER = 57.0  # height of the way back in the first stage


def frame(axes: Axes, bottom: float, height: float, title: str) -> None:
    """The frame of a stage with its title."""
    axes.add_patch(
        Rectangle((1.5, bottom), 98, height, facecolor="#fafafa", edgecolor="#888888", lw=0.9, ls=(0, (2, 2)))
    )
    axes.text(3.5, bottom + height - 3.6, title, fontsize=10.5, weight="bold", va="center")


def route(axes: Axes, *points: tuple[float, float]) -> None:
    """A line through points that ends in an arrow."""
    axes.plot(*zip(*points[:-1], strict=True), color=DARK, lw=1.2, solid_capstyle="projecting")
    arrow(axes, points[-2], points[-1])


def transfer(axes: Axes) -> None:
    """Generator, critic, and the way back to the tile."""
    frame(axes, 45, 50, "1  style transfer (StarGAN), on tiles of all scanners, no labels needed")
    box(axes, (11, FIRST), (14, 9), "tile x of\nscanner a", TILE)
    box(axes, (11, LOWER + 8), (14, 7), "code of b", CODE)
    box(axes, (33, FIRST), (16, 10), "generator", GENERATOR)
    box(axes, (54, FIRST), (14, 9), "painted as b", TILE)
    box(axes, (72.5, FIRST), (11, 10), "critic", CRITIC)
    box(axes, (90.5, FIRST + 4.5), (15, 7), "real or painted?\nWasserstein", LOSS)
    box(axes, (90.5, FIRST - 4.5), (15, 7), "which scanner?\ncross-entropy", LOSS)
    arrow(axes, (18, FIRST), (25, FIRST))
    route(axes, (18, LOWER + 8), (21.5, LOWER + 8), (21.5, FIRST - 2.5), (25, FIRST - 2.5))
    arrow(axes, (41, FIRST), (47, FIRST))
    arrow(axes, (61, FIRST), (67, FIRST))
    for shift in (4.5, -4.5):
        route(axes, (78, FIRST), (80.5, FIRST), (80.5, FIRST + shift), (83, FIRST + shift))
    box(axes, (72.5, LOWER + 5), (11, 7), "code of a", CODE)
    box(axes, (54, LOWER - 5), (16, 8), "generator\n(the same)", GENERATOR)
    box(axes, (33, LOWER - 5), (14, 8), "painted\nback", TILE)
    box(axes, (11, LOWER - 5), (14, 7), "like x?\nL1, times 10", LOSS)
    arrow(axes, (54, FIRST - 4.5), (54, LOWER - 1))
    route(axes, (72.5, LOWER + 1.5), (72.5, LOWER - 5), (62, LOWER - 5))
    arrow(axes, (46, LOWER - 5), (40, LOWER - 5))
    arrow(axes, (26, LOWER - 5), (18, LOWER - 5))


def detector(axes: Axes) -> None:
    """The detector and the two ways of a tile to it."""
    frame(axes, 3, 39, "2  detector, on labelled tiles; the generator is frozen")
    box(axes, (11, SECOND), (14, 9), "tile, turned\nby k × 90°", TILE)
    box(axes, (54, SECOND + 7), (12, 8), "generator", GENERATOR)
    box(axes, (33.5, SECOND + 3), (15, 8), "random mixture\nof scanners", CODE)
    box(axes, (76, SECOND), (15, 11), "RetinaNet\nResNet-101", ENCODER)
    box(axes, (92, SECOND + 4.5), (12, 7), "focal loss", LOSS)
    box(axes, (92, SECOND - 4.5), (12, 7), "box: L1", LOSS)
    route(axes, (18, SECOND), (21, SECOND), (21, SECOND + 10), (48, SECOND + 10))
    axes.text(24, SECOND + 12, "probability p = 0.2", fontsize=9, va="center")
    arrow(axes, (41, SECOND + 4.5), (48, SECOND + 4.5))
    route(axes, (60, SECOND + 7), (64, SECOND + 7), (64, SECOND + 3), (68.5, SECOND + 3))
    route(axes, (21, SECOND), (21, SECOND - 7), (64, SECOND - 7), (64, SECOND - 3), (68.5, SECOND - 3))
    axes.text(24, SECOND - 9.5, "1 − p: as it is", fontsize=9, va="center")
    for shift in (4.5, -4.5):
        route(axes, (83.5, SECOND), (84.7, SECOND), (84.7, SECOND + shift), (86, SECOND + shift))
    box(axes, (76, SECOND - 15), (15, 6), "figures", HEAD)
    arrow(axes, (76, SECOND - 5.5), (76, SECOND - 12))
    axes.text(67, SECOND - 15, "in use: no transfer, tiles as they are", fontsize=9, ha="right", va="center")


def main() -> None:
    """Writes the picture."""
    figure = pyplot.figure(figsize=SIZE_IN)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, 101)
    axes.set_ylim(0, 97)
    axes.axis("off")
    transfer(axes)
    detector(axes)
    figure.savefig(OUT, dpi=DPI, facecolor="white", metadata={"Software": None})


if __name__ == "__main__":
    main()
