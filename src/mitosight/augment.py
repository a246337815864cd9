"""Augmentation of one tile together with the figures in it, one class for each published kind.

The strengths of `Augmentation` are those of fastai v1's `get_transforms(do_flip=True, flip_vert=True, max_rotate=10,
max_zoom=2, max_lighting=0.5, max_warp=0.2)`, which the reference code of Wilm 2021 uses. All its geometry is composed
into one homography, so that a tile is resampled once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torchvision.transforms.v2 import functional as colour

Matrix = NDArray[np.float64]
Augment = Callable[[Tensor, Tensor, np.random.Generator], tuple[Tensor, Tensor]]


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


@dataclass(frozen=True)
class Turns:
    """Quarter turns and flips, without resampling: the rotations of Chung 2021, the flips of Zhang 2022.

    Attributes:
        turns: turn by 0, 90, 180 or 270 degrees.
        flips: mirror left to right, and top to bottom, each with probability 0.5.
    """

    turns: bool = True
    flips: bool = False

    def __call__(self, image: Tensor, points: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Moves `image` (3, side, side) and `points` (n, 3) as x, y, box side in px of the tile."""
        side = image.shape[-1]
        points = points.clone()
        for _ in range(int(rng.integers(4)) if self.turns else 0):  # counterclockwise on the screen
            image = torch.rot90(image, 1, (1, 2))
            points[:, :2] = torch.stack([points[:, 1], side - points[:, 0]], dim=1)
        for axis in (0, 1) if self.flips else ():
            if rng.random() < 0.5:
                image = image.flip(2 - axis)
                points[:, axis] = side - points[:, axis]
        return image.contiguous(), points


@dataclass(frozen=True)
class Jitter:
    """Random brightness, contrast, saturation and hue in random order, as torchvision's ColorJitter; then `after`.

    Attributes:
        brightness, contrast, saturation: factors are drawn from [1 - value, 1 + value].
        hue: shift is drawn from [-value, value]; 0.5 is half of the colour circle.
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    after: Turns = Turns(turns=False)

    def __call__(self, image: Tensor, points: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Changes the colours of `image` (3, H, W) in [0, 1]; `after` may move `points`."""
        steps: list[tuple[Callable[[Tensor, float], Tensor], float, float]] = [
            (colour.adjust_brightness, 1.0, self.brightness),
            (colour.adjust_contrast, 1.0, self.contrast),
            (colour.adjust_saturation, 1.0, self.saturation),
            (colour.adjust_hue, 0.0, self.hue),
        ]
        for index in rng.permutation(len(steps)):
            adjust, neutral, reach = steps[index]
            amount = neutral + rng.uniform(-reach, reach)
            if reach:
                image = adjust(image, amount)
        return self.after(image, points, rng)


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
