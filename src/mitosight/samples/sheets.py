"""Sheets of patches: clusters of the negatives, patches stained again, activation maps on what was found."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mitosight.methods.parts.incdp import MITOSIS
from mitosight.methods.parts.restain import ReStainer
from mitosight.patches import PatchSource
from mitosight.samples.trained import Trained
from mitosight.styles.sheet import write_sheet

ZOOM = 2
HEAT = 0.55  # of the colour of the map where it is 1
FOUND, TRUE = (0, 160, 60), (20, 20, 20)
Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Found:
    """A patch that the model takes for a mitosis.

    Attributes:
        candidate: index into the pool.
        label: 1 on a figure, 0 far from any.
        score: its probability.
        level: (side, side) activation map in [0, 1].
        place: (x, y) in px of the patch, where the map puts the figure.
        known: (n, 2) annotated figures of its region, in px of the patch.
    """

    candidate: int
    label: int
    score: float
    level: NDArray[np.float32]
    place: NDArray[np.float64]
    known: NDArray[np.float64]

    @property
    def off_px(self) -> float | None:
        """Distance from the place to the nearest annotated figure; None beside no figure."""
        return float(np.linalg.norm(self.known - self.place, axis=1).min()) if self.label else None


def clusters(path: Path, trained: Trained, examples: int, seed: int) -> list[int]:
    """Fig. 4: a row for each cluster of the first sampler, the largest first; returns their sizes in this order.

    The clusters are found as the training found them, from the network as it started.
    """
    detector = trained.fresh()
    label, _ = detector.begin(trained.workshop)
    negative = np.flatnonzero(label == 0)
    cluster = detector.clusters_of(trained.workshop, negative)
    sizes = np.bincount(cluster, minlength=detector.clusters)
    source, rng = trained.patches("train", negative), np.random.default_rng(seed)
    names, pictures = [], []
    order = np.argsort(-sizes, kind="stable")
    for number, k in enumerate(order, start=1):
        drawn = rng.permutation(np.flatnonzero(cluster == k))[:examples]
        names.append(f"cluster {number}: {sizes[k]:,} patches")
        pictures.append([shown(source.patch(int(c))) for c in negative[drawn]])
    write_sheet(path, names, [""] * examples, pictures)
    return [int(size) for size in sizes[order]]


def stains(path: Path, restainer: ReStainer, source: PatchSource, rows: int) -> None:
    """Patches of `source`, of each scanner in turn, as they are and in each style of a re-stainer."""
    scanners = [source.regions[k].domain.scanner for k in source.pool.region[source.chosen]]
    in_turn = sorted(range(len(scanners)), key=lambda k: (scanners[:k].count(scanners[k]), k))
    names, pictures = [], []
    for k in in_turn[:rows]:
        patch = source.patch(int(source.chosen[k]))
        device = next(restainer.parameters()).device
        images = patch.to(device).expand(len(restainer.scanners), -1, -1, -1)
        painted = restainer.restained(images, torch.arange(len(images)))
        names.append(scanners[k])
        pictures.append([shown(picture) for picture in (patch, *painted)])
    write_sheet(path, names, ["original", *(f"as {name}" for name in restainer.scanners)], pictures)


def found(trained: Trained, source: PatchSource, label: NDArray[np.int64]) -> list[Found]:
    """What the model takes for mitoses among the patches of `source` with classes (m,), best first."""
    detector, device, all_of = trained.detector, trained.workshop.device, []
    for i in range(len(source)):
        images = source[i].images.to(device)
        with torch.inference_mode():
            logits, levels = detector.network(images)
        score = logits.softmax(dim=1)[:, MITOSIS].cpu().numpy()
        points = detector.decode((logits, levels), (detector.patch_px,) * 2)
        for k in np.flatnonzero(score >= detector.threshold):
            if len(points[k]):
                number = i * source.size + int(k)
                candidate = int(source.chosen[number])
                figures = source.regions[source.pool.region[candidate]].figures
                known = source.inside(candidate, figures)
                level = levels[k].float().cpu().numpy()
                all_of.append(Found(candidate, int(label[number]), float(score[k]), level, points[k].xy[0], known))
    return sorted(all_of, key=lambda f: -f.score)


def maps(path: Path, source: PatchSource, found: list[Found], rows: int) -> None:
    """The best of the figures found and of the false points, each: the patch, the map over it, the places in it."""
    best = [[f for f in found if f.label == value][:rows] for value in (1, 0)]
    columns, names = ["patch", "activation map", "found (ring), figure (cross)"], []
    pictures: list[list[Picture]] = []
    for f in (*best[0], *best[1]):
        patch = source.patch(f.candidate)
        off = "false" if f.off_px is None else f"figure, {f.off_px:.0f} px off"
        names.append(f"{f.score:.2f} {off}")
        pictures.append([shown(patch), shown(heated(patch, f.level)), marked(shown(patch), f)])
    if pictures:
        write_sheet(path, names, columns, pictures)


def shown(image: Tensor) -> Picture:
    """An image (3, H, W) in [0, 1] as a picture (ZOOM H, ZOOM W, 3)."""
    rgb = (image * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    return np.ascontiguousarray(rgb.repeat(ZOOM, axis=0).repeat(ZOOM, axis=1))


def heated(image: Tensor, level: NDArray[np.float32]) -> Tensor:
    """An image (3, H, W) in grey, with a map (H, W) in [0, 1] over it: yellow, then red where it is brightest."""
    grey = image.mean(dim=0, keepdim=True)
    height = torch.from_numpy(level)[None]
    colour = torch.cat([torch.ones_like(height), 0.9 * (1 - height), torch.zeros_like(height)])
    share = HEAT * height.clamp(0, 1)
    return (1 - share) * grey + share * colour


def marked(picture: Picture, f: Found) -> Picture:
    """A picture with a ring at the place found and a cross at each annotated figure."""
    from PIL import Image, ImageDraw

    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    x, y = f.place * ZOOM
    draw.ellipse((x - 12, y - 12, x + 12, y + 12), outline=FOUND, width=3)
    for x, y in f.known * ZOOM:
        draw.line((x - 6, y, x + 6, y), fill=TRUE, width=2)
        draw.line((x, y - 6, x, y + 6), fill=TRUE, width=2)
    return np.asarray(image)
