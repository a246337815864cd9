"""What lies between the nuclei: tumour nests with their cell borders, stroma with its fibres, white gaps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from mitosight.phantom.canvas import TISSUE_MPP, Canvas, Map, enlarged, ramp, smooth_noise, value_at

CELL_STEP = 2  # cell borders are found on every second pixel and interpolated


@dataclass(frozen=True)
class Style:
    """What one tissue has in common: its architecture, its nuclei and how it took the stain."""

    nests: float  # share of the area that is tumour
    nest_um: float  # coarseness of the nests
    nucleus_um: float  # mean half axis of a tumour nucleus
    pleomorphism: float  # relative spread of that
    spacing_um: float  # free room around a tumour nucleus
    openness: float  # vesicular (1) or evenly dense (0) chromatin
    nuclear_ink: float
    mitotic_ink: float
    cytoplasm_e: float
    cytoplasm_h: float
    foam: float  # vacuolated cytoplasm
    borders: float  # how well cell borders are seen; below 0 they are pale clefts
    stroma_e: float
    oedema: float  # loose, pale stroma
    lymphocytes_mm2: float

    @classmethod
    def drawn(cls, rng: np.random.Generator) -> Style:
        """A random tissue."""
        return cls(
            nests=rng.uniform(0.5, 0.88),
            nest_um=rng.uniform(18, 34),
            nucleus_um=rng.uniform(3.7, 5.2),
            pleomorphism=rng.uniform(0.09, 0.2),
            spacing_um=rng.uniform(0.0, 1.8),
            openness=rng.uniform(0.3, 0.95),
            nuclear_ink=rng.uniform(0.58, 0.85),
            mitotic_ink=rng.uniform(1.2, 1.55),
            cytoplasm_e=rng.uniform(0.19, 0.32),
            cytoplasm_h=rng.uniform(0.06, 0.14),
            foam=rng.uniform(0.0, 1.0),
            borders=rng.uniform(-0.08, 0.12),
            stroma_e=rng.uniform(0.24, 0.38),
            oedema=rng.uniform(0.0, 1.0),
            lymphocytes_mm2=float(rng.lognormal(7.2, 0.8)),
        )


@dataclass(frozen=True)
class Ground:
    """The architecture of a tissue.

    Attributes:
        nest: (H, W), above 0 in tumour nests, below 0 in stroma.
        white: (H, W), 0 to 1, where there is no tissue.
        fibres: (H, W), direction of the fibres in radians.
    """

    nest: Map
    white: Map
    fibres: Map

    def tissue(self, xy_um: tuple[float, float]) -> bool:
        """Whether there is tissue at a point."""
        return value_at(self.white, xy_um) < 0.3

    def tumour(self, xy_um: tuple[float, float]) -> bool:
        """Whether a point lies in a nest."""
        return value_at(self.nest, xy_um) > 0.05 and self.tissue(xy_um)

    def stroma(self, xy_um: tuple[float, float]) -> bool:
        """Whether a point lies between the nests."""
        return value_at(self.nest, xy_um) <= 0.05 and self.tissue(xy_um)

    def fibre_angle(self, xy_um: tuple[float, float]) -> float:
        """Direction of the fibres at a point, in radians."""
        return value_at(self.fibres, xy_um)


def laid_out(canvas: Canvas, style: Style) -> Ground:
    """Divides the canvas into nests, stroma and gaps, and draws the stroma everywhere."""
    lumps = canvas.noise(style.nest_um) + 0.45 * canvas.noise(style.nest_um / 3)
    nest = lumps - np.quantile(lumps, 1 - style.nests) + 0.10 * canvas.noise(3.5) + 0.05 * canvas.noise(1.2)
    angle = canvas.rng.uniform(0, np.pi) + 0.8 * canvas.noise(30) + 0.35 * canvas.noise(9)
    coarse, fine = _strands(canvas, angle, 1.0, 4), _strands(canvas, angle + 0.25 * canvas.noise(5), 0.4, 3)
    dense = np.clip(0.85 - 0.6 * style.oedema + 0.3 * canvas.noise(16), 0.15, 1.1)
    body = dense * (0.85 + 0.22 * coarse + 0.16 * fine + 0.08 * canvas.noise(0.5) + 0.10 * canvas.noise(4))
    bundles = 0.35 * np.clip(coarse + 0.5 * fine + 0.6 * canvas.noise(12) - 0.9, 0, 2)
    canvas.e[:] = style.stroma_e * np.clip(body + bundles, 0.08, 3)
    canvas.h[:] = np.clip(0.06 + 0.012 * canvas.noise(3) + 0.012 * fine + 0.03 * (1 - dense), 0, 1)
    slits = ramp(-coarse - 0.25 * fine - 1.05 - 0.9 * dense + 0.45 * canvas.noise(9), 0.9)
    tears = ramp((canvas.noise(7) + 0.7 * canvas.noise(26) + 0.12 * canvas.noise(0.8) - 2.75) * 6, 3.0)
    stroma = ramp(-nest * 12, 2)
    white = np.maximum(np.maximum(slits * stroma, _clefts(canvas, nest)), tears)
    return Ground(nest, white, angle)


def _strands(canvas: Canvas, angle: Map, width_um: float, doublings: int) -> Map:
    """Strands along a field of directions: noise that is smeared along it, over a length that doubles each time."""
    field = canvas.noise(width_um)
    rows, columns = np.indices(canvas.shape, dtype=np.float32)
    down, right = np.sin(angle), np.cos(angle)
    for doubling in range(doublings):
        reach = 1.2 * width_um / TISSUE_MPP * 2**doubling
        there, back = (_taken(field, rows + side * reach * down, columns + side * reach * right) for side in (1, -1))
        field = (field + there + back) / 3
    field = ndimage.gaussian_filter(field, 0.8)  # softens the steps of the nearest pixels
    return np.asarray((field - field.mean()) / field.std(), dtype=np.float32)


def _taken(field: Map, rows: Map, columns: Map) -> Map:
    """The values at the nearest pixels, the field continued by itself."""
    height, width = field.shape
    taken: Map = field[np.rint(rows).astype(np.int32) % height, np.rint(columns).astype(np.int32) % width]
    return taken


def _clefts(canvas: Canvas, nest: Map) -> Map:
    """Pale crevices where a nest has shrunk from its stroma, here and there."""
    steep = np.hypot(*np.gradient(ndimage.gaussian_filter(nest, 3))) / TISSUE_MPP + 0.02
    distance = np.abs(nest) / steep
    width = 1.3 * (canvas.noise(9) - 1.1) + 0.25 * canvas.noise(0.9)
    return np.asarray(ramp(width - distance, 0.8) * 0.9, dtype=np.float32)


def cytoplasm(canvas: Canvas, style: Style, ground: Ground, cells_um: NDArray[np.float64]) -> None:
    """Fills the nests: each cell with its own tint, granular, foamy or clear, and more or less bordered.

    `cells_um` (n, 2) are the centres of the nuclei.
    """
    if not len(cells_um):
        return
    rng = canvas.rng
    cell, gap = _territories(canvas, cells_um)
    tint = np.exp(rng.normal(0, 0.13, len(cells_um))).astype(np.float32)[cell]
    tint = ndimage.gaussian_filter(tint, 2.0)
    border = np.exp(-((gap / 0.75) ** 2)) * np.clip(0.7 + 0.5 * canvas.noise(12), 0, 1.6)
    net = 0.5 - np.abs(canvas.noise(0.6)) + 0.6 * (0.6 - np.abs(canvas.noise(1.3)))
    grains = 0.10 * canvas.noise(0.3) + 0.12 * canvas.noise(0.8) + 0.12 * canvas.noise(4)
    foam = (0.15 + 0.38 * style.foam) * np.clip(0.6 + 0.6 * canvas.noise(8), 0.1, 1.6)
    e = style.cytoplasm_e * tint * np.maximum(1 + grains + foam * net, 0.12) + style.borders * border
    h = style.cytoplasm_h * (1 + 0.25 * canvas.noise(9) + 0.18 * canvas.noise(0.6)) * (2 - tint)
    inside = ramp(ground.nest * 9, 2)
    canvas.e[:] = np.maximum(canvas.e + inside * (e - canvas.e), 0.01)
    canvas.h[:] = np.maximum(canvas.h + inside * (h - canvas.h), 0.0)


def _territories(canvas: Canvas, cells_um: NDArray[np.float64]) -> tuple[NDArray[np.intp], Map]:
    """For each pixel the nearest cell, and the distance in µm to the border with the next one; borders are wavy."""
    shape = (-(-canvas.shape[0] // CELL_STEP) + 1, -(-canvas.shape[1] // CELL_STEP) + 1)
    step_um = CELL_STEP * TISSUE_MPP
    rows, columns = np.indices(shape, dtype=np.float32)
    wave = [
        1.3 * smooth_noise(canvas.rng, shape, 4 / step_um) + 0.35 * smooth_noise(canvas.rng, shape, 1 / step_um)
        for _ in range(2)
    ]
    points = np.stack([columns * step_um + wave[0], rows * step_um + wave[1]], axis=-1)
    to_cells, cell = cKDTree(cells_um).query(points.reshape(-1, 2), k=min(2, len(cells_um)))
    distance = np.asarray(to_cells, dtype=np.float32).reshape(*shape, -1)
    gap = (distance[..., -1] - distance[..., 0]) / 2
    nearest = np.asarray(cell).reshape(*shape, -1)[..., 0]
    nearest = np.repeat(np.repeat(nearest, CELL_STEP, 0), CELL_STEP, 1)[: canvas.shape[0], : canvas.shape[1]]
    return nearest, enlarged(gap, CELL_STEP, canvas.shape)


def open_gaps(canvas: Canvas, white: Map) -> None:
    """Takes the tissue away where it is white."""
    canvas.e *= 1 - 0.97 * white
    canvas.h *= 1 - 0.97 * white
