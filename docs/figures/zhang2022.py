"""Draws zhang2022.png: the detector of Zhang 2022 and the two heads that training adds.

Run from the repository root: python docs/figures/zhang2022.py
"""

from __future__ import annotations

from pathlib import Path

from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from wilm2021 import DARK, DPI, ENCODER, HEAD, LOSS, PYRAMID, TILE, arrow, box

OUT = Path(__file__).with_suffix(".png")
SIZE_IN = (11.0, 6.4)
AUXILIARY, FRAME = "#e6dcf2", "#6a4c93"
ROWS = {3: 96.0, 4: 84.0, 5: 72.0, 6: 60.0, 7: 48.0}  # heights of the pyramid levels
HEIGHT = 9.0
TITLES_Y = 105.0


def encoder(axes: Axes) -> None:
    """Tile, ResNet-50 and pyramid."""
    for x, text in ((9, "tile"), (29, "ResNet-50"), (51, "feature pyramid")):
        axes.text(x, TITLES_Y, text, ha="center", fontsize=10.5, weight="bold")
    box(axes, (9, ROWS[3]), (13, HEIGHT), "512 × 512\ncolour jitter", TILE)
    arrow(axes, (15.5, ROWS[3]), (21, ROWS[3]))
    for level, text in {3: "C3\n512 ch., 1/8", 4: "C4\n1024 ch., 1/16", 5: "C5\n2048 ch., 1/32"}.items():
        box(axes, (29, ROWS[level]), (16, HEIGHT), text, ENCODER)
        arrow(axes, (37, ROWS[level]), (44, ROWS[level]))
    for level, y in ROWS.items():
        box(axes, (51, y), (14, HEIGHT), f"P{level}\n256 ch.", PYRAMID)
    for upper, lower in ((3, 4), (4, 5)):
        arrow(axes, (29, ROWS[upper] - HEIGHT / 2), (29, ROWS[lower] + HEIGHT / 2))
        arrow(axes, (51, ROWS[lower] + HEIGHT / 2), (51, ROWS[upper] - HEIGHT / 2))
        axes.text(52, (ROWS[upper] + ROWS[lower]) / 2, "×2, +", fontsize=8.5, va="center")
    axes.plot((29, 29), (ROWS[5] - HEIGHT / 2, ROWS[6]), color=DARK, lw=1.2)
    arrow(axes, (29, ROWS[6]), (44, ROWS[6]))
    arrow(axes, (51, ROWS[6] - HEIGHT / 2), (51, ROWS[7] + HEIGHT / 2))


def heads(axes: Axes) -> None:
    """The two heads that all levels share, and their losses."""
    axes.text(73, TITLES_Y, "heads, shared by the levels", ha="center", fontsize=10.5, weight="bold")
    for y in ROWS.values():
        axes.plot((58, 60.5), (y, y), color=DARK, lw=1.2)
    axes.plot((60.5, 60.5), (ROWS[7], ROWS[3]), color=DARK, lw=1.2, solid_capstyle="projecting")
    for y, text, loss in (
        (ROWS[4], "class: 4 × conv 3×3\n9 anchors a cell", "focal loss"),
        (ROWS[6], "box: 4 × conv 3×3\n9 anchors × 4", "L1"),
    ):
        arrow(axes, (60.5, y), (63.5, y))
        box(axes, (73, y), (19, HEIGHT), text, HEAD)
        arrow(axes, (82.5, y), (86, y))
        box(axes, (92.5, y), (13, HEIGHT - 1), loss, LOSS)
    axes.text(92.5, ROWS[5], "labelled tiles", ha="center", va="center", fontsize=9)


def auxiliary(axes: Axes) -> None:
    """What training adds: pooling of one deep level and two fully connected heads."""
    axes.add_patch(Rectangle((3, 2), 97.5, 36.5, facecolor="#f7f4fb", edgecolor=FRAME, lw=0.9, ls=(0, (2, 2))))
    axes.text(5, 34.5, "auxiliary heads, for training only", ha="left", va="center", fontsize=10.5, weight="bold")
    axes.plot((44, 38, 38), (ROWS[5] - 2.5, ROWS[5] - 2.5, 31), color=FRAME, lw=1.2)
    arrow(axes, (38, 31), (38, 20 + HEIGHT / 2), FRAME)
    box(axes, (38, 20), (18, HEIGHT), "P5: average\nover the tile", AUXILIARY)
    axes.plot((47, 52), (20, 20), color=DARK, lw=1.2)
    axes.plot((52, 52), (11, 29), color=DARK, lw=1.2, solid_capstyle="projecting")
    for y, text, loss, tiles in (
        (29, "which tumour?\nlinear 256, 256, K", "cross-entropy", "all tiles"),
        (11, "figure or look-alike in it?\nlinear 256, 256, 1", "focal loss", "labelled tiles"),
    ):
        arrow(axes, (52, y), (56, y))
        box(axes, (66.5, y), (21, HEIGHT), text, AUXILIARY)
        arrow(axes, (77, y), (82, y))
        box(axes, (90, y), (16, HEIGHT - 1), loss, LOSS)
        axes.text(90, y - 6.2, tiles, ha="center", va="center", fontsize=9)


def main() -> None:
    """Writes the picture."""
    figure = pyplot.figure(figsize=SIZE_IN)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, 102)
    axes.set_ylim(0, 110)
    axes.axis("off")
    encoder(axes)
    heads(axes)
    auxiliary(axes)
    figure.savefig(OUT, dpi=DPI, facecolor="white", metadata={"Software": None})


if __name__ == "__main__":
    main()
