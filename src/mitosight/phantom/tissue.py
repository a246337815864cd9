"""One drawn tissue: its stain maps and the annotated figures in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mitosight.errors import UsageError
from mitosight.phantom import ground as grounds
from mitosight.phantom.canvas import TISSUE_MPP, Canvas, Map
from mitosight.phantom.figures import LOOKALIKES, PHASES
from mitosight.phantom.ground import Ground, Style
from mitosight.phantom.layout import Layout, lay_out
from mitosight.phantom.nuclei import Chromatin, Point, fibroblast, lymphocyte, vesicular
from mitosight.phantom.vessels import draw_fat_cell, draw_hole, draw_vessel
from mitosight.regions.region import HARD_NEGATIVE, MITOTIC_FIGURE

SMALLEST_UM, LARGEST_UM = 32.0, 4096.0


@dataclass(frozen=True)
class Figure:
    """An annotated object: its phase (or the kind of look-alike), its class and its centre in µm."""

    phase: str
    label: int
    xy_um: Point


@dataclass(frozen=True)
class Tissue:
    """A drawn section, before any scanner.

    Attributes:
        size_um: width and height.
        haematoxylin, eosin: (H, W) float32, concentration as optical density along the stain's unit vector.
        mpp: µm per px of these maps.
        figures: mitotic figures and look-alikes.
    """

    seed: int
    size_um: tuple[float, float]
    haematoxylin: Map
    eosin: Map
    mpp: float
    figures: tuple[Figure, ...]


def draw_tissue(
    seed: int,
    size_um: tuple[float, float] = (256.0, 256.0),
    figures_per_mm2: float = 120.0,
    lookalikes_per_mm2: float = 180.0,
    phases: Sequence[str] = tuple(PHASES),
    lookalikes: Sequence[str] = tuple(LOOKALIKES),
) -> Tissue:
    """Draws a section of a tumour with known figures; the same arguments always give the same section.

    The number of figures is Poisson about `figures_per_mm2` times the area (far denser than life, so that small
    regions hold some) and less where the nests have no room; `phases` and `lookalikes` are the kinds that may occur.

    Raises:
        UsageError: a side outside 32 to 4096 µm, a density outside 0 to 2000, an unknown kind or a negative seed.
    """
    _check(seed, size_um, (figures_per_mm2, lookalikes_per_mm2))
    _check_kinds(phases, PHASES)
    _check_kinds(lookalikes, LOOKALIKES)
    rng = np.random.default_rng(seed)
    canvas, style = Canvas(rng, size_um), Style.drawn(rng)
    ground = grounds.laid_out(canvas, style)
    area_mm2 = size_um[0] * size_um[1] / 1e6
    kinds = [
        *((phase, MITOTIC_FIGURE) for phase in _chosen(rng, phases, figures_per_mm2 * area_mm2)),
        *((kind, HARD_NEGATIVE) for kind in _chosen(rng, lookalikes, lookalikes_per_mm2 * area_mm2)),
    ]
    kinds = [kinds[i] for i in rng.permutation(len(kinds))]
    layout = lay_out(canvas, style, ground, len(kinds))
    figures = tuple(Figure(*kind, xy) for kind, xy in zip(kinds, layout.annotated, strict=False))
    _draw(canvas, style, ground, layout)
    for figure in figures:
        (PHASES | LOOKALIKES)[figure.phase](canvas, figure.xy_um, style.mitotic_ink)
    return Tissue(seed, size_um, np.maximum(canvas.h, 0), np.maximum(canvas.e, 0), TISSUE_MPP, figures)


def _chosen(rng: np.random.Generator, kinds: Sequence[str], expected: float) -> list[str]:
    number = int(rng.poisson(expected)) if kinds else 0
    return [kinds[i] for i in rng.integers(0, max(1, len(kinds)), number)]


def _draw(canvas: Canvas, style: Style, ground: Ground, layout: Layout) -> None:
    rng = canvas.rng
    grounds.cytoplasm(canvas, style, ground, np.array([xy for xy, _ in layout.tumour] + layout.annotated))
    for xy, radius in layout.vacuoles:
        draw_hole(canvas, xy, radius)
    grounds.open_gaps(canvas, ground.white)
    for xy, radius in layout.fat:
        draw_fat_cell(canvas, xy, radius)
    for vessel in layout.vessels:
        draw_vessel(canvas, vessel)
    for xy in layout.fibroblasts:
        fibroblast(canvas, xy, ground.fibre_angle(xy))
    for xy in layout.lymphocytes:
        lymphocyte(canvas, xy)
    for xy, radius in layout.tumour:
        aspect = np.sqrt(rng.uniform(0.62, 1.0))
        chromatin = Chromatin(
            ink=style.nuclear_ink * rng.uniform(0.75, 1.25),
            openness=float(np.clip(rng.normal(style.openness, 0.18), 0, 1)),
            nucleoli=int(rng.integers(0, 3)),
            smudged=float(np.clip(rng.normal(0.1, 0.25), 0, 1)),
        )
        vesicular(canvas, xy, (radius / aspect, radius * aspect), rng.uniform(0, np.pi), chromatin)


def _check(seed: int, size_um: tuple[float, float], densities: tuple[float, ...]) -> None:
    if seed < 0:
        raise UsageError(None, f"seed {seed}", "expected a whole number from 0")
    if not all(SMALLEST_UM <= side <= LARGEST_UM for side in size_um):
        accepted = f"expected sides of {SMALLEST_UM:g} to {LARGEST_UM:g} µm"
        raise UsageError(None, f"a phantom of {size_um[0]:g} x {size_um[1]:g} µm", accepted)
    for density in densities:
        if not 0 <= density <= 2000:
            raise UsageError(None, f"{density:g} figures per mm²", "expected 0 to 2000")


def _check_kinds(kinds: Sequence[str], known: Mapping[str, object]) -> None:
    for kind in kinds:
        if kind not in known:
            raise UsageError(None, f"unknown kind of figure {kind!r}", f"expected {', '.join(known)}")
