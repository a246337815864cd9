"""Ordinary cells: vesicular tumour nuclei, lymphocytes, fibroblasts, erythrocytes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mitosight.phantom.canvas import Canvas, Map, Window, ramp
from mitosight.phantom.shapes import blob, spindle

Point = tuple[float, float]


@dataclass(frozen=True)
class Chromatin:
    """How a nucleus is filled: `ink` is the haematoxylin of its densest parts, `openness` 0 (even) to 1 (vesicular)."""

    ink: float
    openness: float
    nucleoli: int = 0
    smudged: float = 0.0


def vesicular(
    canvas: Canvas, xy_um: Point, radii_um: Point, angle: float, chromatin: Chromatin, roughness: float | None = None
) -> None:
    """A nucleus with membrane, clumped chromatin and nucleoli; now and then only its cap.

    `roughness` makes it a lumpier one that is always seen whole.
    """
    rng = canvas.rng
    window = canvas.window(xy_um, max(radii_um) * 1.3 + 1.5)
    if window is None:
        return
    u, v = window.turned(angle)
    inside = blob(rng, u, v, radii_um, roughness or 0.05) + 0.12 * window.grain(0.9)
    h = _filling(window, inside, chromatin)
    e = 0.14 + 0.10 * chromatin.ink + 0.03 * window.grain(0.9)
    for _ in range(chromatin.nucleoli):
        reach, turn = 0.55 * np.sqrt(rng.random()), rng.uniform(0, 6.3)
        du = u - np.float32(radii_um[0] * reach * np.cos(turn))
        dv = v - np.float32(radii_um[1] * reach * np.sin(turn))
        size = rng.uniform(0.55, 1.15)
        spot = ramp(blob(rng, du, dv, (size, size * rng.uniform(0.75, 1)), 0.08), 0.45)
        h = h + spot * (chromatin.ink * rng.uniform(0.95, 1.2) - h)
        e = e + spot * 0.22
    cap = roughness is None and rng.random() < 0.16
    cover = ramp(inside, 0.5) * (rng.uniform(0.35, 0.7) if cap else rng.uniform(0.88, 1.0))
    window.lay(cover, h, e, rng.uniform(0.5, 1.0) if cap else max(0.0, rng.normal(0.1, 0.18)))


def _filling(window: Window, inside: Map, chromatin: Chromatin) -> Map:
    coarse, fine = window.grain(0.9), window.grain(0.3)
    clumps = 1 / (1 + np.exp(-4 * (0.65 * coarse + 0.75 * window.grain(0.5) - 0.75)))
    rim = np.exp(-(((inside - 0.3) / 0.36) ** 2)) * np.clip(0.85 + 0.4 * coarse, 0.3, 2)
    ground = 0.72 - 0.50 * chromatin.openness
    texture = ground + (1 - ground) * (0.9 * clumps + 0.12 * fine) + (0.2 + 0.45 * chromatin.openness) * rim
    flat = 0.9 + 0.08 * coarse + 0.05 * fine
    h: Map = np.maximum(chromatin.ink * (texture + chromatin.smudged * (flat - texture)), 0.03)
    return h


def lymphocyte(canvas: Canvas, xy_um: Point) -> None:
    """A small round dark nucleus with coarse clumps and hardly any cytoplasm."""
    rng = canvas.rng
    radius = rng.uniform(2.6, 3.5)
    window = canvas.window(xy_um, radius + 3)
    if window is None:
        return
    u, v = window.turned(rng.uniform(0, 3.1))
    inside = blob(rng, u, v, (radius, radius * rng.uniform(0.78, 1.0)), 0.045)
    halo = ramp(inside + rng.uniform(0.5, 1.3), 0.9)
    window.lay(halo * rng.uniform(0.2, 0.8), 0.05, rng.uniform(0.05, 0.28))
    clumps = 1 / (1 + np.exp(-3.5 * (window.grain(0.9) + 0.4 * window.grain(0.5))))
    ink = rng.uniform(0.7, 1.15)
    h = ink * (0.62 + 0.42 * clumps + 0.12 * np.exp(-(((inside - 0.3) / 0.35) ** 2)))
    window.lay(ramp(inside, 0.5), h, 0.16, max(0.0, rng.normal(0.08, 0.15)))


def fibroblast(canvas: Canvas, xy_um: Point, angle: float) -> None:
    """A thin nucleus along the fibres, bent as they are."""
    rng = canvas.rng
    length, width = rng.uniform(9, 17), rng.uniform(1.8, 3.8)
    window = canvas.window(xy_um, length / 2 + 1.5)
    if window is None:
        return
    u, v = window.turned(angle + rng.normal(0, 0.15))
    inside = spindle(u, v, length, width, rng.normal(0, 0.012)) + 0.16 * window.grain(0.9)
    ink = rng.uniform(0.4, 0.85)
    rim = np.exp(-(((inside - 0.25) / 0.3) ** 2))
    h = ink * (0.72 + 0.16 * window.grain(0.5) + 0.28 * rim)
    window.lay(ramp(inside, 0.5) * rng.uniform(0.7, 1), h, 0.2, max(0.0, rng.normal(0.15, 0.2)))


def erythrocyte(canvas: Canvas, xy_um: Point) -> None:
    """A red cell: eosin only, a little paler in its middle."""
    rng = canvas.rng
    radius = rng.uniform(2.5, 3.4)
    window = canvas.window(xy_um, radius + 1.5)
    if window is None:
        return
    u, v = window.turned(rng.uniform(0, 3.1))
    inside = blob(rng, u, v, (radius, radius * rng.uniform(0.6, 1.0)), 0.06)
    strength = rng.uniform(0.42, 0.65)
    e = strength * (0.8 + 0.25 * np.exp(-(((inside - 0.6) / 0.7) ** 2)) + 0.03 * window.grain(0.5))
    window.lay(ramp(inside, 0.5) * 0.95, 0.015, e, 0.15)
