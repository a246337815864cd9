"""Draws wang2023.png: from nuclei to balanced samples, the classifier with child classes, and the point of a figure.

Run from the repository root: python docs/figures/wang2023.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from chung2021 import frame, route
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from wilm2021 import DPI, ENCODER, HEAD, LOSS, TILE, arrow, box

from mitosight.candidates import FINDERS
from mitosight.phantom import draw_tissue, scan, scanner_named

OUT = Path(__file__).with_suffix(".png")
SIZE_IN = (11.0, 7.6)
SAMPLER, STAIN, CHILD = "#e6dcf2", "#d9ead3", "#f3d3cd"
FIRST, SECOND, THIRD = 80.0, 46.0, 14.5  # heights of the three stages
SEED, PATCH_PX, SHOWN_PX = 11, 80, 240
POSITIVE, NEGATIVE = "#1b7f3b", "#444444"
Image = NDArray[np.uint8]


def drawn() -> tuple[Image, NDArray[np.float64], NDArray[np.float64]]:
    """A phantom (H, W, 3), its candidates (n, 2) and its figures (m, 2), px."""
    image, region = scan(draw_tissue(SEED, (90.0, 90.0), 260.0, 0.0, ["metaphase"]), scanner_named("phantom-A"), SEED)
    finder = FINDERS["haematoxylin"]()
    return image, finder.find(image, finder.statistics([image])).xy, region.figures


def around(image: Image, xy: NDArray[np.float64], side_px: int) -> tuple[Image, NDArray[np.intp]]:
    """The square around a point, moved inside the image, and its corner."""
    corner = np.clip(xy - side_px / 2, 0, np.array(image.shape[1::-1]) - side_px).astype(int)
    return image[corner[1] : corner[1] + side_px, corner[0] : corner[0] + side_px], corner


def picture(axes: Axes, image: Image, centre: tuple[float, float], width: float) -> Axes:
    """An image in the place of a box; returns its axes, in px of the image."""
    height = width * SIZE_IN[0] / SIZE_IN[1] * 100 / 101
    place = (centre[0] - width / 2, centre[1] - height / 2, width, height)
    inset = axes.inset_axes(place, transform=axes.transData)
    inset.imshow(image)
    inset.set_xticks([])
    inset.set_yticks([])
    return inset


def samples(axes: Axes, image: Image, found: NDArray[np.float64], figures: NDArray[np.float64]) -> None:
    """From a region and its points to balanced samples."""
    frame(axes, 65, 34, "1  samples, from points alone: diversity-guided balancing (DGSB)")
    crop, corner = around(image, figures[0], SHOWN_PX)
    inset = picture(axes, crop, (12, FIRST - 2), 15)
    here = found[((found > corner) & (found < corner + SHOWN_PX)).all(axis=1)]
    nearest = np.abs(here[:, None] - figures[None]).max(axis=2).min(axis=1)
    for colour, some in ((NEGATIVE, here[nearest > 30]), (POSITIVE, here[nearest <= 30])):
        inset.scatter(*(some - corner - 0.5).T, s=70, facecolors="none", edgecolors=colour, linewidths=1.5)
    inset.set_xlim(-0.5, SHOWN_PX - 0.5)
    inset.set_ylim(SHOWN_PX - 0.5, -0.5)
    axes.text(21, FIRST + 7.2, "nuclei, by their\nhaematoxylin", fontsize=9, ha="left", va="center")
    box(axes, (43, FIRST), (19, 9), "negatives: 10 clusters,\nthe same number of each", SAMPLER)
    box(axes, (68, FIRST), (19, 9), "a first classifier:\nthe difficult ones stay", SAMPLER)
    box(axes, (90.5, FIRST - 5), (14, 9), "balanced\nsamples", TILE)
    route(axes, (19.5, FIRST), (33.5, FIRST))
    route(axes, (52.5, FIRST), (58.5, FIRST))
    route(axes, (77.5, FIRST), (80.5, FIRST), (80.5, FIRST - 3), (83.5, FIRST - 3))
    route(axes, (19.5, FIRST - 10), (80.5, FIRST - 10), (80.5, FIRST - 7), (83.5, FIRST - 7))
    axes.text(21, FIRST - 1.9, "none within 80 px", fontsize=8.5, color=NEGATIVE, ha="left", va="center")
    axes.text(21, FIRST - 8.2, "a figure within 30 px: all of them", fontsize=8.5, color=POSITIVE, va="center")


def classifier(axes: Axes, image: Image, figures: NDArray[np.float64]) -> None:
    """Stains, network, parent and child classes."""
    frame(axes, 31, 31.5, "2  classifier of patches: stain enhancement (SE) and child classes (InCDP)")
    picture(axes, around(image, figures[0], PATCH_PX)[0], (9, SECOND), 10)
    axes.text(9, SECOND - 9.2, "patch, 80 px", fontsize=9, ha="center", va="center")
    box(axes, (25.5, SECOND), (14, 12), "UnSA: 3 of 4\nstained again\nas other\nscanners", STAIN)
    box(axes, (46, SECOND), (17, 12), "ResNet38, 1/8\nEFDMix after the\nfirst 3 stages", ENCODER)
    arrow(axes, (14, SECOND), (18.5, SECOND))
    arrow(axes, (32.5, SECOND), (37.5, SECOND))
    for shift, text, colour in ((5.5, "mitosis or not", HEAD), (-5.5, "2 × 4 child classes,\nk-means in each", CHILD)):
        route(axes, (54.5, SECOND), (57.5, SECOND), (57.5, SECOND + shift), (61, SECOND + shift))
        box(axes, (70, SECOND + shift), (18, 8), text, colour)
        arrow(axes, (79, SECOND + shift), (82, SECOND + shift))
    box(axes, (90, SECOND + 5.5), (16, 7.5), "focal loss,\ncentre loss", LOSS)
    box(axes, (90, SECOND - 5.5), (16, 7.5), "the same,\n× λ, by ω", LOSS)


def use(axes: Axes, image: Image, figures: NDArray[np.float64]) -> None:
    """From the patch around a candidate to a point with a score."""
    frame(axes, 1.5, 27, "in use")
    patch, corner = around(image, figures[0] + (14, 9), PATCH_PX)
    picture(axes, patch, (9, THIRD - 1), 10)
    axes.text(9, THIRD - 10.2, "around a nucleus", fontsize=9, ha="center", va="center")
    box(axes, (31, THIRD - 1), (16, 9), "ResNet38,\nno stain, no mix", ENCODER)
    arrow(axes, (14, THIRD - 1), (23, THIRD - 1))
    x, y = figures[0] - corner
    ys, xs = np.mgrid[:PATCH_PX, :PATCH_PX]
    level = np.exp(-((xs - x) ** 2 + (ys - y) ** 2) / (2 * 9.0**2))
    route(axes, (39, THIRD - 1), (43, THIRD - 1), (43, THIRD + 7.5), (71, THIRD + 7.5), (71, THIRD + 3))
    axes.text(57, THIRD + 9.2, "probability of mitosis", fontsize=9, ha="center", va="center")
    inset = picture(axes, patch, (54, THIRD - 2.5), 10)
    inset.imshow(level, cmap="YlOrRd", alpha=0.8 * level)
    route(axes, (39, THIRD - 1), (43, THIRD - 1), (43, THIRD - 2.5), (49, THIRD - 2.5))
    axes.text(54, THIRD - 11.2, "activation map", fontsize=9, ha="center", va="center")
    box(axes, (71, THIRD - 2), (13, 10), "point\nwith a score", HEAD)
    arrow(axes, (59, THIRD - 2.5), (64.5, THIRD - 2.5))
    inset = picture(axes, patch, (91, THIRD - 1), 10)
    inset.add_patch(Rectangle((x - 12, y - 12), 24, 24, fill=False, edgecolor=POSITIVE, lw=1.8))
    inset.plot([x - 0.5], [y - 0.5], "+", color="#ffd400", ms=8, mew=2)
    arrow(axes, (77.5, THIRD - 2), (86, THIRD - 2))


def main() -> None:
    """Writes the picture."""
    image, found, figures = drawn()
    figure = pyplot.figure(figsize=SIZE_IN)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, 101)
    axes.set_ylim(0, 100)
    axes.axis("off")
    samples(axes, image, found, figures)
    classifier(axes, image, figures)
    use(axes, image, figures)
    figure.savefig(OUT, dpi=DPI, facecolor="white", metadata={"Software": None})


if __name__ == "__main__":
    main()
