"""Mitotic figures by phase, and the look-alikes that are annotated as hard negatives."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mitosight.phantom.canvas import Canvas, Map, Window, ramp
from mitosight.phantom.nuclei import Chromatin, Point, vesicular
from mitosight.phantom.shapes import blob, plate, rod, spindle

WINDOW_UM = 13.0  # half-side of the window of a figure; a telophase with its cell fits


def prometaphase(canvas: Canvas, xy_um: Point, ink: float) -> None:
    """A knot of chromosomes without a membrane, knobbly at the rim, sometimes open in the middle."""
    window, rng = _opened(canvas, xy_um), canvas.rng
    _cell(window, (rng.uniform(6.5, 8.5), rng.uniform(6, 7.5)), 0.0)
    u, v = window.turned(rng.uniform(0, 3.1))
    radius = rng.uniform(2.9, 4.2)
    hollow = rng.uniform(0.3, 0.6) if rng.random() < 0.35 else 0.0
    chromatin = blob(rng, u, v, (radius * 0.75, radius * 0.6), 0.15) if not hollow else np.full_like(u, -9)
    for _ in range(int(rng.integers(20, 32))):
        turn, reach = rng.uniform(0, 6.3), radius * np.sqrt(rng.uniform(hollow**2, 1))
        centre = (reach * np.cos(turn), 0.82 * reach * np.sin(turn))
        chromatin = np.maximum(
            chromatin, rod(u, v, centre, turn + rng.normal(0, 0.9), rng.uniform(0.6, 2.4), rng.uniform(0.5, 0.85))
        )
    _chromosomes(window, chromatin, ink * 0.95)


def metaphase(canvas: Canvas, xy_um: Point, ink: float) -> None:
    """The plate from the side: a dark ragged bar across a rounded, cleared cell."""
    window, rng = _opened(canvas, xy_um), canvas.rng
    angle = rng.uniform(0, 3.1)
    length = rng.uniform(7.5, 11.5)
    _cell(window, (length / 2 + rng.uniform(1.2, 3), rng.uniform(6.5, 8.5)), angle)
    u, v = window.turned(angle)
    chromatin = plate(u, v, length, rng.uniform(2.0, 3.3), rng.normal(0, 0.016))
    chromatin += 0.35 * window.grain(1.8)
    chromatin = _arms(rng, u, v, chromatin, length, np.pi / 2)
    if rng.random() < 0.25:  # a chromosome that has not yet come to the plate
        centre = (rng.uniform(-3, 3), rng.choice([-1, 1]) * rng.uniform(2.6, 4.2))
        chromatin = np.maximum(chromatin, rod(u, v, centre, rng.uniform(0, 3), rng.uniform(0.4, 1.2), 0.45))
    _chromosomes(window, chromatin, ink * 1.05)


def metaphase_end_on(canvas: Canvas, xy_um: Point, ink: float) -> None:
    """The plate from the pole: a ring or rosette of chromosomes with a pale middle, not always closed."""
    window, rng = _opened(canvas, xy_um), canvas.rng
    _cell(window, (rng.uniform(6.5, 8.5), rng.uniform(6.5, 8.0)), rng.uniform(0, 3.1))
    u, v = window.turned(rng.uniform(0, 3.1))
    radius, flat = rng.uniform(2.4, 3.3), rng.uniform(0.75, 1.0)
    gap = rng.uniform(0.0, 1.3) if rng.random() < 0.4 else 0.0
    chromatin = np.full_like(u, -9)
    for turn in np.linspace(gap / 2, 2 * np.pi - gap / 2, 20):
        reach = radius * rng.uniform(0.88, 1.12)
        centre = (reach * np.cos(turn), flat * reach * np.sin(turn))
        arm = rod(u, v, centre, turn + rng.normal(0, 0.4), rng.uniform(0.8, 2.2), rng.uniform(0.6, 0.9))
        chromatin = np.maximum(chromatin, arm)
    _chromosomes(window, chromatin, ink)


def anaphase(canvas: Canvas, xy_um: Point, ink: float) -> None:
    """Two parallel bars, bowed apart, with chromosome arms that trail between them."""
    window, rng = _opened(canvas, xy_um), canvas.rng
    angle = rng.uniform(0, 3.1)
    apart, length = rng.uniform(4.2, 7.0), rng.uniform(5.8, 8.8)
    _cell(window, (length / 2 + rng.uniform(1.5, 3), apart / 2 + rng.uniform(4, 6)), angle)
    u, v = window.turned(angle)
    chromatin = np.full_like(u, -9)
    for side in (-1, 1):
        bar_u, bar_v = _tilted(u, v - np.float32(side * apart / 2), rng.normal(0, 0.08))
        bar = plate(bar_u, bar_v, length * rng.uniform(0.9, 1.1), rng.uniform(1.6, 2.4), -side * rng.uniform(0, 0.04))
        bar += 0.2 * window.grain(0.9) + 0.15 * window.grain(1.8)
        chromatin = np.maximum(chromatin, _arms(rng, bar_u, bar_v, bar, length, np.pi / 2, shift=-side * 0.4))
    _chromosomes(window, chromatin, ink * 1.05)


def telophase(canvas: Canvas, xy_um: Point, ink: float) -> None:
    """Two dark bars far apart in two lobes of one cell, which a cleavage furrow pinches."""
    window, rng = _opened(canvas, xy_um), canvas.rng
    angle = rng.uniform(0, 3.1)
    apart = rng.uniform(8.5, 11.5)
    u, v = window.turned(angle)
    lobe = (rng.uniform(5.0, 6.0), apart / 2 - rng.uniform(0.1, 0.6))
    lobes = [blob(rng, u, v - np.float32(side * apart * 0.54), lobe, 0.03) for side in (-1, 1)]
    _body(window, np.maximum(*lobes), seen=0.6)
    chromatin = np.full_like(u, -9)
    for side in (-1, 1):
        bar_u, bar_v = _tilted(u, v - np.float32(side * apart / 2), rng.normal(0, 0.16))
        bend = side * rng.normal(0.01, 0.02)
        bar = plate(bar_u, bar_v, rng.uniform(4.6, 6.8), rng.uniform(1.8, 2.7), bend)
        bar += 0.16 * window.grain(0.9) + 0.16 * window.grain(1.8)
        chromatin = np.maximum(chromatin, bar)
    _chromosomes(window, chromatin, ink * 1.08, ragged=0.10)


def pyknosis(canvas: Canvas, xy_um: Point, ink: float) -> None:
    """A dying cell: a shrunken nucleus, round, smooth and evenly dark, in dense pink cytoplasm."""
    window, rng = _opened(canvas, xy_um), canvas.rng
    u, v = window.turned(rng.uniform(0, 3.1))
    radius = rng.uniform(1.8, 3.2)
    body = (radius + rng.uniform(0.6, 3), radius + rng.uniform(0.6, 2))
    _shrunken(window, body, rng.uniform(0.0, 0.9), rng.uniform(0.25, 0.5))
    inside = blob(rng, u, v, (radius, radius * rng.uniform(0.65, 1.0)), 0.08) + 0.15 * window.grain(0.9)
    h = ink * rng.uniform(0.8, 1.1) + 0.04 * window.grain(0.9)
    window.lay(ramp(inside, 0.5), h, 0.25, _defocus(rng))


def apoptosis(canvas: Canvas, xy_um: Point, ink: float) -> None:
    """A shrunken cell of strongly eosinophilic cytoplasm in a clear halo, with round chromatin fragments."""
    window, rng = _opened(canvas, xy_um), canvas.rng
    u, v = window.turned(rng.uniform(0, 3.1))
    radius = rng.uniform(2.9, 4.6)
    _shrunken(window, (radius, radius * rng.uniform(0.65, 1.0)), rng.uniform(0.5, 1.0), rng.uniform(0.4, 0.75))
    fragments = np.full_like(u, -9)
    off = rng.normal(0, 0.2, 2) * radius
    for k in range(int(rng.integers(2, 7))):
        reach, turn = (0.0 if k == 0 else rng.uniform(0.3, 0.85)) * radius, rng.uniform(0, 6.3)
        size = rng.uniform(0.4, 1.1) if k else rng.uniform(0.9, 1.9)
        du, dv = u - np.float32(off[0] + reach * np.cos(turn)), v - np.float32(off[1] + 0.8 * reach * np.sin(turn))
        fragments = np.maximum(fragments, blob(rng, du, dv, (size, size * rng.uniform(0.7, 1)), 0.05))
    h = ink * rng.uniform(0.75, 1.1) + 0.04 * window.grain(0.9)
    window.lay(ramp(fragments, 0.5), h, 0.3, _defocus(rng))


def hyperchromatic(canvas: Canvas, xy_um: Point, ink: float) -> None:
    """An interphase nucleus, large and very dark, smudged, but with a membrane and an even outline."""
    rng = canvas.rng
    long = rng.uniform(4.0, 6.0)
    chromatin = Chromatin(
        ink=ink * rng.uniform(0.66, 0.88), openness=rng.uniform(0.1, 0.45), smudged=rng.uniform(0.0, 0.7)
    )
    radii = (long, long * rng.uniform(0.5, 0.85))
    vesicular(canvas, xy_um, radii, rng.uniform(0, 3.1), chromatin, roughness=0.09)


def elongated(canvas: Canvas, xy_um: Point, ink: float) -> None:
    """A dark stretched nucleus with a smooth outline, as in crushed or spindle cells."""
    window, rng = _opened(canvas, xy_um), canvas.rng
    u, v = window.turned(rng.uniform(0, 3.1))
    length, width = rng.uniform(8.0, 13.0), rng.uniform(2.3, 3.9)
    inside = spindle(u, v, length, width, rng.normal(0, 0.02)) + 0.25 * window.grain(1.8) + 0.15 * window.grain(0.9)
    h = ink * rng.uniform(0.62, 0.98) * (0.93 + 0.08 * window.grain(0.9) + 0.05 * window.grain(0.3))
    window.lay(ramp(inside, 0.6), h, 0.25, _defocus(rng))


Drawing = Callable[[Canvas, Point, float], None]
PHASES: dict[str, Drawing] = {
    "prometaphase": prometaphase,
    "metaphase": metaphase,
    "metaphase_end_on": metaphase_end_on,
    "anaphase": anaphase,
    "telophase": telophase,
}
LOOKALIKES: dict[str, Drawing] = {
    "pyknosis": pyknosis,
    "apoptosis": apoptosis,
    "hyperchromatic": hyperchromatic,
    "elongated": elongated,
}


def _opened(canvas: Canvas, xy_um: Point) -> Window:
    window = canvas.window(xy_um, WINDOW_UM)
    assert window is not None, xy_um
    return window


def _defocus(rng: np.random.Generator) -> float:
    return max(0.0, float(rng.normal(0.1, 0.16)))


def _tilted(u: Map, v: Map, angle: float) -> tuple[Map, Map]:
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return u * c + v * s, v * c - u * s


def _cell(window: Window, radii_um: Point, angle: float) -> None:
    u, v = window.turned(angle)
    _body(window, blob(window.canvas.rng, u, v, radii_um, 0.06))


def _body(window: Window, inside: Map, seen: float = 0.25) -> None:
    """The rounded cell of a figure: paler and more even than its neighbours, more or less set off from them."""
    rng = window.canvas.rng
    inside = inside + 0.4 * window.grain(1.8)
    border = np.exp(-((inside / 0.5) ** 2)) * rng.uniform(-0.04, 0.1)
    e = rng.uniform(0.10, 0.22) * (1 + 0.15 * window.grain(0.5) + 0.15 * window.grain(0.9)) + border
    h = rng.uniform(0.03, 0.1) + 0.015 * window.grain(0.5)
    window.lay(ramp(inside, rng.uniform(0.8, 2.5)) * rng.uniform(seen, 0.92), h, np.maximum(e, 0.02))


def _shrunken(window: Window, radii_um: Point, halo: float, eosin: float) -> None:
    """The cell of a dying nucleus: dense and pink, torn away from its neighbours on one side or all around."""
    rng = window.canvas.rng
    angle = rng.uniform(0, 3.1)
    u, v = window.turned(angle)
    away, width = rng.uniform(-0.9, 0.9, 2), rng.uniform(0.2, 1.5)
    around = (radii_um[0] + width, radii_um[1] + width)
    torn = blob(rng, u - np.float32(away[0]), v - np.float32(away[1]), around, 0.08) + 0.3 * window.grain(0.9)
    window.lay(ramp(torn, 1.0) * halo, 0.02, 0.05)
    body = blob(rng, u, v, radii_um, 0.09) + 0.3 * window.grain(0.9)
    e = eosin * (1 + 0.1 * window.grain(0.9) + 0.06 * window.grain(0.3))
    window.lay(ramp(body, 0.8) * rng.uniform(0.75, 1.0), rng.uniform(0.05, 0.2), e)


def _arms(
    rng: np.random.Generator, u: Map, v: Map, chromatin: Map, length_um: float, angle: float, shift: float = 0.0
) -> Map:
    """Adds chromosome arms that stick out across a plate, their centres moved by `shift` µm."""
    for _ in range(int(rng.integers(4, 9))):
        centre = (rng.uniform(-0.5, 0.5) * length_um, rng.normal(shift, 0.4))
        arm = rod(u, v, centre, angle + rng.normal(0, 0.5), rng.uniform(0.8, 2.0), rng.uniform(0.3, 0.5))
        chromatin = np.maximum(chromatin, arm)
    return chromatin


def _chromosomes(window: Window, inside: Map, ink: float, ragged: float = 0.15) -> None:
    """Lays condensed chromatin: dark, clumpy, hairy at the edge, without a membrane."""
    rng = window.canvas.rng
    inside = inside + np.float32(ragged) * window.grain(0.3) + np.float32(ragged) * window.grain(0.5)
    h = ink * rng.uniform(0.72, 1.1) * (0.97 + 0.07 * window.grain(0.5) + 0.07 * window.grain(0.9))
    window.lay(ramp(inside, 0.55), h, 0.22, _defocus(rng))
