"""Outlines as signed distances in µm, positive inside: what nuclei, chromosomes and cells are cut from."""

from __future__ import annotations

import numpy as np

from mitosight.phantom.canvas import Map


def blob(rng: np.random.Generator, u: Map, v: Map, radii_um: tuple[float, float], roughness: float) -> Map:
    """A lumpy ellipse; `roughness` is the relative size of its lowest deformation."""
    a, b = radii_um
    angle = np.arctan2(v / b, u / a)
    radius = np.ones_like(u)
    for k in range(2, 7):
        radius += np.float32(rng.normal(0, 1.5 * roughness / k)) * np.cos(k * angle + np.float32(rng.uniform(0, 6.3)))
    inside: Map = (radius - np.hypot(u / a, v / b)) * np.float32(np.sqrt(a * b))
    return inside


def spindle(u: Map, v: Map, length_um: float, width_um: float, bend: float) -> Map:
    """A body with tapering ends, bent by `bend` (1/µm)."""
    along = np.clip(np.abs(u) / (length_um / 2), 0, 1.5)
    half = width_um / 2 * (1 - along**3)
    inside: Map = half - np.abs(v - bend * (u * u - length_um**2 / 24))
    return inside


def rod(u: Map, v: Map, centre: tuple[float, float], angle: float, length_um: float, half_width_um: float) -> Map:
    """A stick with round ends, such as a chromosome arm."""
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    du, dv = u - np.float32(centre[0]), v - np.float32(centre[1])
    along = np.maximum(np.abs(du * c + dv * s) - np.float32(length_um / 2), 0)
    return np.float32(half_width_um) - np.hypot(along, dv * c - du * s)


def plate(u: Map, v: Map, length_um: float, thickness_um: float, bend: float) -> Map:
    """A bar with blunt ends, lying along u and bent by `bend` (1/µm): a plate of chromosomes seen from the side."""
    across = np.abs(v - bend * (u * u - length_um**2 / 12)) - thickness_um / 2
    along = np.abs(u) - length_um / 2
    corner = 0.6  # rounding of the corners
    outside = np.hypot(np.maximum(across + corner, 0), np.maximum(along + corner, 0))
    return corner - outside - np.minimum(np.maximum(across, along) + corner, 0)
