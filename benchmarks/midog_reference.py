"""The reference algorithm of MIDOG 2021, rebuilt from what is published about it, as the rival of region_speed.py.

    python benchmarks/midog_reference.py SLIDE OUT.csv TIMES.json

Architecture and tiling of the domain-adversarial RetinaNet that the challenge gave out (Wilm 2021 and its released
code): ResNet-18, pyramid levels P3 to P5 of 128 channels (P6 and P7 are computed and dropped), two heads of three
convolutions shared by the levels, two class channels, five square anchors a cell, the domain branch on C5. Tiles of
512 px at stride 460, the last one moved back to the border; ten at a time; torch in fp32.

The weights are random: it finds nothing, and is here for its time. Where what is published is silent, the quicker
reading was taken, so that nobody gains by a slow rival: tiles are read one by one through OpenSlide, anchors are made
once, boxes are decoded only above the threshold, suppression is torchvision's and a KD-tree's. What a trained one
would need for its detections comes on top.
"""

from __future__ import annotations

import argparse
import time
from collections import OrderedDict
from pathlib import Path

STARTED = time.monotonic()

import numpy as np  # noqa: E402
import openslide  # noqa: E402
import torch  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from stopwatch import Stopwatch  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torchvision.models import resnet18  # noqa: E402
from torchvision.ops import FeaturePyramidNetwork, nms  # noqa: E402
from torchvision.ops.feature_pyramid_network import LastLevelP6P7  # noqa: E402

from mitosight.detections import Detections, write  # noqa: E402
from mitosight.outputs import write_json  # noqa: E402

TILE_PX, STRIDE_PX, BATCH = 512, 460, 10
CHANNELS, HEAD_CONVS, CLASSES = 128, 3, 2
STRIDES = (8, 16, 32)
SCALES, BASE = (0.2, 0.4, 0.6, 0.8, 1.0), 4  # anchor side = scale * base * stride
MEAN, STD = (0.7481, 0.5692, 0.7225), (0.1759, 0.2284, 0.1792)
CENTRE_CODE, SIZE_CODE = 0.1, 0.2
FLOOR, THRESHOLD = 0.4, 0.64  # kept, and labelled as a mitotic figure (the version of 2022)
NMS_IOU, NMS_RADIUS_PX = 0.4, 25.0
DOMAINS = 4


class Reference(nn.Module):
    """(N, 3, 512, 512), normalised, to class logits (N, 26880, 2) and box codes (N, 26880, 4).

    The domain branch is a part of its forward pass; `domain_branch=False` leaves it out.
    """

    def __init__(self, domain_branch: bool = True) -> None:
        super().__init__()
        body = resnet18(weights=None)
        self.stem = nn.Sequential(body.conv1, body.bn1, body.relu, body.maxpool, body.layer1)
        self.stages = nn.ModuleList([body.layer2, body.layer3, body.layer4])
        self.pyramid = FeaturePyramidNetwork([128, 256, 512], CHANNELS, LastLevelP6P7(512, CHANNELS))
        self.classes = _head(CLASSES * len(SCALES), bias=-4.0)
        self.boxes = _head(4 * len(SCALES), bias=0.0)
        self.domain = _domain_branch() if domain_branch else None

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        x, features = self.stem(images), OrderedDict[str, Tensor]()
        for i, stage in enumerate(self.stages):
            x = features[str(i)] = stage(x)
        if self.domain is not None:
            self.domain(x)
        levels = list(self.pyramid(features).values())[: len(STRIDES)]
        return (
            torch.cat([_by_anchor(self.classes(level), CLASSES) for level in levels], dim=1),
            torch.cat([_by_anchor(self.boxes(level), 4) for level in levels], dim=1),
        )


def _head(outputs: int, bias: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(HEAD_CONVS):
        layers += [nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1), nn.ReLU(inplace=True)]
    last = nn.Conv2d(CHANNELS, outputs, 3, padding=1)
    nn.init.zeros_(last.weight)
    nn.init.constant_(last.bias, bias)  # type: ignore[arg-type]
    return nn.Sequential(*layers, last)


def _domain_branch() -> nn.Sequential:
    layers: list[nn.Module] = []
    for wide, narrow in ((512, 512), (512, 256), (256, 128)):
        convolution = nn.Conv2d(wide, narrow, 3, bias=False)
        layers += [convolution, nn.BatchNorm2d(narrow), nn.ReLU(inplace=True), nn.Dropout(0.5)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, DOMAINS, bias=False))


def _by_anchor(maps: Tensor, values: int) -> Tensor:
    """(N, anchors * values, h, w) to (N, h * w * anchors, values)."""
    return maps.permute(0, 2, 3, 1).reshape(len(maps), -1, values)


def anchors() -> Tensor:
    """(26880, 3): centre and side in px of the tile, in the order of the network's outputs."""
    found = []
    for stride in STRIDES:
        centre = (torch.arange(TILE_PX // stride) + 0.5) * stride
        y, x, side = torch.meshgrid(centre, centre, BASE * stride * torch.tensor(SCALES), indexing="ij")
        found.append(torch.stack([x, y, side], dim=-1).reshape(-1, 3))
    return torch.cat(found)


def corners(width_px: int, height_px: int) -> list[tuple[int, int]]:
    """(x, y) of the tiles that cover an image, row by row; the last ones are moved back to the border."""
    across, down = ([*range(0, side - TILE_PX, STRIDE_PX), side - TILE_PX] for side in (width_px, height_px))
    return [(x, y) for y in down for x in across]


def decode(logits: Tensor, codes: Tensor, places: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Outputs for one tile to the centres (n, 2) in its px and the scores (n,), suppressed within the tile."""
    score = logits.sigmoid().amax(dim=1)
    index = (score > FLOOR).nonzero()[:, 0]
    score, place, code = score[index], places[index], codes[index]
    centre = place[:, :2] + code[:, :2] * CENTRE_CODE * place[:, 2:]
    half = place[:, 2:] * (code[:, 2:] * SIZE_CODE).exp() / 2
    box = torch.cat([centre - half, centre + half], dim=1)
    kept = nms(box, score, NMS_IOU)
    whole = box[kept].trunc()
    return ((whole[:, :2] + whole[:, 2:]) / 2).double().numpy(), score[kept].double().numpy()


def detect(path: Path, network: Reference, watch: Stopwatch) -> Detections:
    """Searches a whole image in the px of its file."""
    places, mean, std = anchors(), *(torch.tensor(v).view(3, 1, 1) for v in (MEAN, STD))
    xy, score = [np.empty((0, 2))], [np.empty(0)]
    with openslide.OpenSlide(path) as slide, torch.inference_mode():
        tiles = corners(*slide.dimensions)
        for start in range(0, len(tiles), BATCH):
            part = tiles[start : start + BATCH]
            with watch.time("read"):
                images = torch.stack([_read(slide, corner) for corner in part])
            with watch.time("network"):
                logits, codes = network((images - mean) / std)
            with watch.time("decode"):
                for i, corner in enumerate(part):
                    points, scores = decode(logits[i], codes[i], places)
                    xy.append(points + np.array(corner))
                    score.append(scores)
    with watch.time("decode"):
        return Detections(np.concatenate(xy), np.concatenate(score)).suppressed(NMS_RADIUS_PX)


def _read(slide: openslide.OpenSlide, corner: tuple[int, int]) -> Tensor:
    rgb = np.asarray(slide.read_region(corner, 0, (TILE_PX, TILE_PX)))[..., :3]
    return torch.from_numpy(np.ascontiguousarray(rgb)).permute(2, 0, 1).float() / 255


def gflop() -> float:
    """Of the network for one tile, a multiplication and an addition counted as two."""
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):
        network, tile = Reference().eval(), torch.empty(1, 3, TILE_PX, TILE_PX)
    with FlopCounterMode(display=False) as counter:
        network(tile)
    return float(counter.get_total_flops()) / 1e9


def main() -> None:
    """Detects, writes the points and what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("slide", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("times", type=Path)
    given = parser.parse_args()
    imported, watch = time.monotonic(), Stopwatch()
    with watch.time("load"):
        torch.manual_seed(0)
        network = Reference().eval()
    found = detect(given.slide, network, watch)
    with watch.time("write"):
        write(given.out, {given.slide.name: found}, THRESHOLD)
    written = time.monotonic()
    with openslide.OpenSlide(given.slide) as slide:
        tiles = len(corners(*slide.dimensions))
    write_json(
        given.times,
        {
            "started": STARTED,
            "imported": imported,
            "written": written,
            "parts": watch.parts(),
            "network_gflop": tiles * gflop(),
        },
    )


if __name__ == "__main__":
    main()
