"""Where the parts of a tissue lie: nuclei beside each other, figures in the nests, vessels in the stroma."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mitosight.phantom.canvas import Canvas, value_at
from mitosight.phantom.ground import Ground, Style
from mitosight.phantom.nuclei import Point
from mitosight.phantom.vessels import Vessel

BORDER_UM = 9.0  # annotated objects keep this distance from the border
ROOM_UM = 6.8  # radius that an annotated object keeps free; two of them are never nearer than twice this


class Spots:
    """Discs in µm that are taken, so that nuclei do not lie on each other."""

    def __init__(self) -> None:
        self._discs = np.empty((256, 3))
        self._n = 0

    def free(self, xy_um: Point, radius_um: float) -> bool:
        """Whether a disc touches no other."""
        discs = self._discs[: self._n]
        distance2 = (discs[:, 0] - xy_um[0]) ** 2 + (discs[:, 1] - xy_um[1]) ** 2
        return not bool((distance2 < (discs[:, 2] + radius_um) ** 2).any())

    def take(self, xy_um: Point, radius_um: float) -> None:
        """Marks a disc as taken."""
        if self._n == len(self._discs):
            self._discs = np.concatenate([self._discs, np.empty_like(self._discs)])
        self._discs[self._n] = (*xy_um, radius_um)
        self._n += 1


@dataclass(frozen=True)
class Layout:
    """Centres in µm of what a tissue holds; nuclei come with their mean half axis."""

    vessels: list[Vessel]
    fat: list[tuple[Point, float]]
    annotated: list[Point]
    tumour: list[tuple[Point, float]]
    lymphocytes: list[Point]
    fibroblasts: list[Point]
    vacuoles: list[tuple[Point, float]]


def lay_out(canvas: Canvas, style: Style, ground: Ground, annotated: int) -> Layout:
    """Finds a place for everything; `annotated` is how many figures and look-alikes are wanted.

    Where the nests are full, fewer of them are placed.
    """
    rng, spots = canvas.rng, Spots()
    infiltrate = canvas.noise(18)

    def nuclear_room() -> float:
        return max(2.5, rng.normal(1, style.pleomorphism) * style.nucleus_um + style.spacing_um)

    def infiltrated(xy: Point) -> bool:
        return ground.tissue(xy) and value_at(infiltrate, xy) > (0.2 if ground.stroma(xy) else 1.1)

    vessels = _vessels(canvas, ground, spots)
    fat = _scattered(canvas, spots, ground.stroma, lambda: rng.uniform(8, 22), 200) if rng.random() < 0.35 else []
    figures = _annotated(canvas, spots, ground.tumour, annotated)
    tumour = _scattered(canvas, spots, ground.tumour, nuclear_room, 40_000)
    lymphocytes = _scattered(canvas, spots, infiltrated, lambda: 3.3, style.lymphocytes_mm2)
    fibroblasts = _scattered(canvas, spots, ground.stroma, lambda: rng.uniform(3.0, 7.0), 2500)
    vacuoles = _scattered(canvas, spots, ground.tumour, lambda: 0.6 + rng.exponential(0.9), 2500 * style.foam)
    return Layout(
        vessels=vessels,
        fat=fat,
        annotated=figures,
        tumour=[(xy, room - style.spacing_um) for xy, room in tumour],
        lymphocytes=[xy for xy, _ in lymphocytes],
        fibroblasts=[xy for xy, _ in fibroblasts],
        vacuoles=vacuoles,
    )


def _scattered(
    canvas: Canvas, spots: Spots, allowed: Callable[[Point], bool], radius_um: Callable[[], float], tries_mm2: float
) -> list[tuple[Point, float]]:
    """Throws discs at random; those that fall on allowed and free ground stay."""
    width, height = canvas.size_um
    placed = []
    for x, y in canvas.rng.random((int(tries_mm2 * width * height / 1e6), 2)) * (width + 8, height + 8) - 4:
        xy, radius = (float(x), float(y)), radius_um()
        if allowed(xy) and spots.free(xy, radius):
            spots.take(xy, radius)
            placed.append((xy, radius))
    return placed


def _annotated(canvas: Canvas, spots: Spots, allowed: Callable[[Point], bool], wanted: int) -> list[Point]:
    inner = np.array(canvas.size_um) - 2 * BORDER_UM
    placed: list[Point] = []
    for x, y in canvas.rng.random((60 * wanted, 2)) * inner + BORDER_UM:
        xy = (float(x), float(y))
        if len(placed) < wanted and allowed(xy) and spots.free(xy, ROOM_UM):
            spots.take(xy, ROOM_UM)
            placed.append(xy)
    return placed


def _vessels(canvas: Canvas, ground: Ground, spots: Spots) -> list[Vessel]:
    rng, (width, height) = canvas.rng, canvas.size_um
    vessels = []
    for _ in range(int(rng.poisson(250 * width * height / 1e6))):
        xy = (rng.uniform(0, width), rng.uniform(0, height))
        vessel = Vessel.drawn(rng, xy, ground.fibre_angle(xy))
        if value_at(ground.nest, xy) < 0 and spots.free(xy, vessel.reach_um):
            spots.take(xy, vessel.reach_um)
            vessels.append(vessel)
    return vessels
