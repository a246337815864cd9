"""Vessels with their wall and blood, and fat."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mitosight.phantom.canvas import Canvas, ramp
from mitosight.phantom.nuclei import Point, erythrocyte, fibroblast
from mitosight.phantom.shapes import blob


@dataclass(frozen=True)
class Vessel:
    """A vessel that is cut across or aslant: half axes of the lumen, thickness of the wall, share filled by blood."""

    xy_um: Point
    radii_um: Point
    angle: float
    wall_um: float
    filled: float

    @classmethod
    def drawn(cls, rng: np.random.Generator, xy_um: Point, angle: float) -> Vessel:
        """A random vessel, lying along `angle`."""
        short = rng.uniform(3.5, 10)
        return cls(
            xy_um=xy_um,
            radii_um=(short * rng.uniform(1.1, 2.6), short),
            angle=angle + rng.normal(0, 0.4),
            wall_um=rng.uniform(1.0, 3.0),
            filled=float(rng.choice([0.0, rng.uniform(0.1, 0.5), rng.uniform(0.6, 1.0)])),
        )

    @property
    def reach_um(self) -> float:
        """Radius of the disc that it takes."""
        return max(self.radii_um) * 0.8 + self.wall_um


def draw_vessel(canvas: Canvas, vessel: Vessel) -> None:
    """Wall, lumen, red cells and the flat nuclei that line it."""
    rng = canvas.rng
    window = canvas.window(vessel.xy_um, max(vessel.radii_um) * 1.4 + vessel.wall_um + 2)
    if window is None:
        return
    u, v = window.turned(vessel.angle)
    lumen = blob(rng, u, v, vessel.radii_um, 0.09) + 0.35 * window.grain(1.8) + 0.2 * window.grain(0.9)
    wall = 0.42 + 0.1 * np.sin(lumen * 4 + window.grain(1.8)) + 0.06 * window.grain(0.5)
    window.lay(ramp(lumen + vessel.wall_um, 2.2) * 0.8, 0.06, wall)
    plasma = float(rng.choice([0.015, 0.09]))
    window.lay(ramp(lumen, 0.6), 0.005, plasma * (1 + 0.1 * window.grain(0.9)))
    _blood(canvas, vessel)
    for turn in rng.uniform(0, 2 * np.pi) + np.cumsum(rng.uniform(0.8, 2.2, int(rng.integers(2, 6)))):
        rim = (vessel.radii_um[0] + 0.9) * np.cos(turn), (vessel.radii_um[1] + 0.9) * np.sin(turn)
        tangent = np.arctan2(vessel.radii_um[1] * np.cos(turn), -vessel.radii_um[0] * np.sin(turn))
        fibroblast(canvas, _moved(vessel, rim), vessel.angle + tangent)


def _blood(canvas: Canvas, vessel: Vessel) -> None:
    rng = canvas.rng
    a, b = (r - 2.2 for r in vessel.radii_um)
    if min(a, b) <= 0:
        return
    for _ in range(round(vessel.filled * a * b * np.pi / 16)):
        reach, turn = np.sqrt(rng.random()), rng.uniform(0, 2 * np.pi)
        erythrocyte(canvas, _moved(vessel, (a * reach * np.cos(turn), b * reach * np.sin(turn))))


def _moved(vessel: Vessel, by_um: Point) -> Point:
    c, s = np.cos(vessel.angle), np.sin(vessel.angle)
    return (
        float(vessel.xy_um[0] + by_um[0] * c - by_um[1] * s),
        float(vessel.xy_um[1] + by_um[0] * s + by_um[1] * c),
    )


def draw_fat_cell(canvas: Canvas, xy_um: Point, radius_um: float) -> None:
    """A fat cell: empty, within a thin pink membrane."""
    window = canvas.window(xy_um, radius_um * 1.3 + 2)
    if window is None:
        return
    rng = canvas.rng
    u, v = window.turned(rng.uniform(0, np.pi))
    inside = blob(rng, u, v, (radius_um, radius_um * rng.uniform(0.75, 1.0)), 0.05)
    window.lay(ramp(inside + 1.2, 0.7) * 0.9, 0.03, 0.3 + 0.06 * window.grain(0.9))
    window.lay(ramp(inside, 0.6), 0.004, 0.01)


def draw_hole(canvas: Canvas, xy_um: Point, radius_um: float) -> None:
    """A small empty vacuole."""
    window = canvas.window(xy_um, radius_um * 1.4 + 1)
    if window is None:
        return
    rng = canvas.rng
    u, v = window.turned(rng.uniform(0, np.pi))
    inside = blob(rng, u, v, (radius_um, radius_um * rng.uniform(0.5, 1.0)), 0.12)
    window.lay(ramp(inside, 0.7) * rng.uniform(0.5, 0.97), 0.01, 0.03)
