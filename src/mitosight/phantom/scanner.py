"""Virtual scanners: how one and the same tissue looks after different stains, optics, cameras and files."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mitosight.phantom.canvas import Map
from mitosight.phantom.tissue import Tissue
from mitosight.regions.region import Domain, Region

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Scanner:
    """A virtual scanner with the staining of its laboratory; none of them imitates a product.

    Attributes:
        mpp: µm per px.
        haematoxylin, eosin: optical density of the stain in R, G, B; scaled to unit length when used.
        strength: factors on the amount of haematoxylin and of eosin.
        white: R, G, B of the empty slide as a fraction of full scale.
        vignetting: loss of light in the corners, as a fraction.
        flare: stray light, as a fraction of the empty slide's.
        matrix: rows give the R, G, B of the file from those of the camera.
        gamma: exponent on the transmitted light; below 1 brightens.
        blur_um: standard deviation of the optical blur.
        sharpening: amount of unsharp masking.
        noise: standard deviation of the noise at full light, in grey values of 0 to 255.
        jpeg_quality: of the written file.
    """

    name: str
    description: str
    mpp: float
    haematoxylin: Triple
    eosin: Triple
    strength: tuple[float, float] = (1.0, 1.0)
    white: Triple = (0.97, 0.955, 0.97)
    vignetting: float = 0.02
    flare: float = 0.0
    matrix: tuple[Triple, Triple, Triple] = ((1, 0, 0), (0, 1, 0), (0, 0, 1))
    gamma: float = 1.0
    blur_um: float = 0.22
    sharpening: float = 0.4
    noise: float = 1.5
    jpeg_quality: int = 85


SCANNERS = {
    scanner.name: scanner
    for scanner in (
        Scanner(
            "phantom-A",
            "balanced: violet nuclei, rose cytoplasm, crisp; the reference",
            mpp=0.25,
            haematoxylin=(0.58, 0.76, 0.29),
            eosin=(0.12, 0.95, 0.26),
            strength=(1.0, 0.93),
        ),
        Scanner(
            "phantom-B",
            "redder: plum nuclei, strong eosin, a little soft",
            mpp=0.2273,
            haematoxylin=(0.48, 0.80, 0.37),
            eosin=(0.10, 0.92, 0.38),
            strength=(0.95, 1.1),
            blur_um=0.28,
            sharpening=0.3,
            noise=1.2,
        ),
        Scanner(
            "phantom-C",
            "warmer: a yellowish camera and salmon eosin, high contrast, sharpened",
            mpp=0.2528,
            haematoxylin=(0.55, 0.72, 0.43),
            eosin=(0.10, 0.87, 0.45),
            strength=(1.05, 0.9),
            white=(0.985, 0.965, 0.94),
            blur_um=0.2,
            sharpening=0.7,
            noise=2.2,
            jpeg_quality=75,
        ),
        Scanner(
            "phantom-D",
            "cooler: blue nuclei, pale lilac eosin, darker lamp",
            mpp=0.2455,
            haematoxylin=(0.69, 0.67, 0.26),
            eosin=(0.20, 0.93, 0.29),
            strength=(1.0, 0.85),
            white=(0.90, 0.915, 0.945),
            vignetting=0.06,
            gamma=1.08,
            blur_um=0.26,
            noise=1.8,
            jpeg_quality=80,
        ),
        Scanner(
            "phantom-E",
            "far off: over-bright and washed out, little contrast",
            mpp=0.2623,
            haematoxylin=(0.56, 0.74, 0.37),
            eosin=(0.10, 0.90, 0.42),
            strength=(0.75, 0.62),
            white=(1.03, 1.01, 1.02),
            flare=0.06,
            matrix=((1.04, -0.02, -0.02), (0.0, 0.97, 0.03), (0.0, 0.02, 0.98)),
            gamma=0.72,
            blur_um=0.3,
            sharpening=0.2,
            noise=1.0,
            jpeg_quality=90,
        ),
        Scanner(
            "phantom-F",
            "far off: greenish cast, grey nuclei, dull lamp, blurred, noisy, hard compressed",
            mpp=0.2738,
            haematoxylin=(0.63, 0.63, 0.45),
            eosin=(0.22, 0.83, 0.50),
            strength=(1.0, 0.85),
            white=(0.86, 0.92, 0.82),
            vignetting=0.12,
            flare=0.03,
            matrix=((0.92, 0.08, 0.0), (0.04, 0.94, 0.02), (0.02, 0.08, 0.90)),
            gamma=1.15,
            blur_um=0.38,
            sharpening=0.0,
            noise=4.0,
            jpeg_quality=55,
        ),
    )
}


def scan(tissue: Tissue, scanner: Scanner, seed: int) -> tuple[NDArray[np.uint8], Region]:
    """The picture of a tissue by a scanner, (H, W, 3) RGB, and its annotated region.

    `seed` is that of the noise alone. The region's frame is the picture's; slide is `phantom-<tissue seed>`, so that
    the same tissue on two scanners is one slide.
    """
    rng = np.random.default_rng([seed, zlib.crc32(scanner.name.encode())])
    image = _picture(tissue, scanner, rng)
    region = Region(
        file_name=f"{scanner.name}_{tissue.seed}.tiff",
        width_px=image.shape[1],
        height_px=image.shape[0],
        xy=np.array([f.xy_um for f in tissue.figures]).reshape(-1, 2) / scanner.mpp,
        label=np.array([f.label for f in tissue.figures], dtype=np.int64),
        domain=Domain(scanner=scanner.name, tumor_type="phantom", species="phantom"),
        slide=f"phantom-{tissue.seed}",
        mpp=scanner.mpp,
    )
    return image, region


def _picture(tissue: Tissue, scanner: Scanner, rng: np.random.Generator) -> NDArray[np.uint8]:
    width, height = (round(side / scanner.mpp) for side in tissue.size_um)
    density = sum(
        amount * _resampled(stain_map, scanner.mpp / tissue.mpp, (height, width))[..., None] * _unit(vector)
        for amount, stain_map, vector in zip(
            scanner.strength, (tissue.haematoxylin, tissue.eosin), (scanner.haematoxylin, scanner.eosin), strict=True
        )
    )
    light = (np.power(np.float32(10), -density) + np.float32(scanner.flare)) / np.float32(1 + scanner.flare)
    sigma = scanner.blur_um / scanner.mpp
    light = ndimage.gaussian_filter(light, (sigma, sigma, 0), mode="nearest")
    light *= np.asarray(scanner.white, dtype=np.float32) * _vignette(light.shape, scanner.vignetting)[..., None]
    light = np.maximum(light @ np.asarray(scanner.matrix, dtype=np.float32).T, 0) ** np.float32(scanner.gamma)
    if scanner.sharpening:
        soft = ndimage.gaussian_filter(light, (0.5 / scanner.mpp, 0.5 / scanner.mpp, 0), mode="nearest")
        light += np.float32(scanner.sharpening) * (light - soft)
    light = np.clip(light, 0, 1)
    grain = rng.standard_normal(light.shape, dtype=np.float32) * np.sqrt(0.2 + 0.8 * light)  # shot and read noise
    return np.clip(np.rint(255 * light + np.float32(scanner.noise) * grain), 0, 255).astype(np.uint8)


def _unit(vector: Triple) -> NDArray[np.float32]:
    return np.asarray(np.array(vector) / np.linalg.norm(vector), dtype=np.float32)


def _resampled(stain_map: Map, factor: float, shape: tuple[int, int]) -> Map:
    """A stain map in px that are `factor` times as large; both frames count from the corner of the first px."""
    if factor == 1:
        return stain_map[: shape[0], : shape[1]]
    offset = 0.5 * factor - 0.5
    fine = ndimage.affine_transform(stain_map, [factor, factor], offset, shape, order=3, mode="nearest")
    return np.asarray(np.maximum(fine, 0), dtype=np.float32)


def _vignette(shape: tuple[int, ...], loss: float) -> NDArray[np.float32]:
    y, x = (np.linspace(-1, 1, n, dtype=np.float32) for n in shape[:2])
    return np.asarray(1 - np.float32(loss / 2) * (x * x + y[:, None] ** 2), dtype=np.float32)
