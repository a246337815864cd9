"""Augmentation of one tile together with the figures in it: one geometric warp, then lighting.

The strengths are those of fastai v1's `get_transforms(do_flip=True, flip_vert=True, max_rotate=10, max_zoom=2,
max_lighting=0.5, max_warp=0.2)`, which the reference code of Wilm 2021 uses. All geometry is composed into one
homography, so that a tile is resampled once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Augmentation:
    """Random flips, affine and perspective warp, brightness and contrast of a tile.

    Attributes:
        dihedral: draw one of the eight flips and quarter turns.
        warp: largest shift of a corner by the perspective warp, in half tile sides.
        rotation_deg: largest rotation to either side.
        zoom: largest enlargement about the centre; figures grow with it.
        brightness: largest change from the neutral 0.5, added in logit space.
        contrast: largest factor (its inverse is the smallest), applied in logit space.
        probability: chance of each of warp, rotation, zoom, brightness, contrast.
    """

    dihedral: bool = True
    warp: float = 0.2
    rotation_deg: float = 10.0
    zoom: float = 2.0
    brightness: float = 0.25
    contrast: float = 2.0
    probability: float = 0.5

    def __call__(self, image: Tensor, points: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Augments `image` (3, H, W) in [0, 1] and `points` (n, 3) as x, y, box side in px of the tile.

        Returns the new image and points; a point that the warp moves out of the tile stays in the list.
        """
        forward = self._geometry(rng)
        if not np.allclose(forward, np.eye(3)):
            image, points = warp(image, points, forward)
        return self._lighting(image, rng), points

    def _geometry(self, rng: np.random.Generator) -> Matrix:
        """Homography from old to new positions, both in [-1, 1] over the tile."""
        matrix = np.eye(3)
        if self.dihedral:
            turn, flip = rng.integers(4), rng.integers(2)
            matrix = _rotation(90.0 * turn) @ np.diag([-1.0 if flip else 1.0, 1.0, 1.0])
        if self.rotation_deg and rng.random() < self.probability:
            matrix = _rotation(rng.uniform(-self.rotation_deg, self.rotation_deg)) @ matrix
        if self.zoom > 1 and rng.random() < self.probability:
            zoom = rng.uniform(1, self.zoom)
            matrix = np.diag([zoom, zoom, 1.0]) @ matrix
        if self.warp and rng.random() < self.probability:
            matrix = _symmetric_warp(rng.uniform(-self.warp, self.warp, 4)) @ matrix
        return matrix

    def _lighting(self, image: Tensor, rng: np.random.Generator) -> Tensor:
        shift, factor = 0.0, 1.0
        if self.brightness and rng.random() < self.probability:
            shift = _logit(rng.uniform(0.5 - self.brightness, 0.5 + self.brightness))
        if self.contrast > 1 and rng.random() < self.probability:
            factor = float(np.exp(rng.uniform(-np.log(self.contrast), np.log(self.contrast))))
        if shift == 0.0 and factor == 1.0:
            return image
        return torch.sigmoid((torch.logit(image, eps=1e-7) + shift) * factor)


def warp(image: Tensor, points: Tensor, forward: Matrix) -> tuple[Tensor, Tensor]:
    """Moves image and points by a homography of [-1, 1] coordinates; the border is mirrored.

    A box side is scaled by the square root of the local change of area.
    """
    _, height, width = image.shape
    backward = np.linalg.inv(forward)
    xs = (np.arange(width) * 2 + 1) / width - 1
    ys = (np.arange(height) * 2 + 1) / height - 1
    grid = np.stack([*np.meshgrid(xs, ys), np.ones((height, width))], axis=-1) @ backward.T  # (H, W, 3)
    source = torch.from_numpy((grid[..., :2] / grid[..., 2:]).astype(np.float32))
    moved = functional.grid_sample(image[None], source[None], padding_mode="reflection", align_corners=False)[0]
    if len(points) == 0:
        return moved, points
    half = np.array([width / 2, height / 2])
    old = points.numpy().astype(np.float64)
    homogeneous = np.column_stack([old[:, :2] / half - 1, np.ones(len(old))]) @ forward.T  # (n, 3)
    depth = homogeneous[:, 2:]
    xy = (homogeneous[:, :2] / depth + 1) * half
    scale = np.sqrt(np.abs(np.linalg.det(forward) / depth[:, 0] ** 3))
    return moved, torch.from_numpy(np.column_stack([xy, old[:, 2] * scale]).astype(np.float32))


def _rotation(degrees: float) -> Matrix:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def _symmetric_warp(m: Matrix) -> Matrix:
    """Perspective that stretches each edge about its middle: right, left, lower, upper by m[0] to m[3]."""
    old = np.array([[-1, -1], [-1, 1], [1, -1], [1, 1]], dtype=np.float64)
    new = old * (1 + np.array([[m[3], m[1]], [m[2], m[1]], [m[3], m[0]], [m[2], m[0]]]))
    rows = []
    for (u, v), (p, q) in zip(old, new, strict=True):
        rows.append([u, v, 1, 0, 0, 0, -p * u, -p * v])
        rows.append([0, 0, 0, u, v, 1, -q * u, -q * v])
    solved = np.linalg.solve(np.array(rows), new.reshape(-1))
    return np.append(solved, 1.0).reshape(3, 3)


def _logit(p: float) -> float:
    return float(np.log(p / (1 - p)))
