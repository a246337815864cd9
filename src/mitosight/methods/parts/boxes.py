"""Anchors, their coding and their matching to boxes, as one-stage detectors use them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor
from torchvision.ops import box_iou, nms

Scales = tuple[float, float]
SCALES: Scales = (0.1, 0.2)  # an offset of 0.1 anchor sides, or a log size of 0.2, is coded as 1
AT_FIRST = 4  # boxes that suppression looks at, for each one asked for; as many times more if they are not enough


def squares(points: Tensor) -> Tensor:
    """Points (n, 3) of x, y, side as boxes (n, 4) of xmin, ymin, xmax, ymax."""
    half = points[:, 2:] / 2
    return torch.cat([points[:, :2] - half, points[:, :2] + half], dim=1)


def level_anchors(rows: int, columns: int, stride: int, sides_px: Sequence[float], ratios: Sequence[float]) -> Tensor:
    """Anchors of one pyramid level, (rows * columns * len(sides) * len(ratios), 4), centred in the cells.

    A ratio is height / width; the area stays that of the square. Order: row, column, side, ratio.
    """
    sides = torch.tensor(sides_px)
    root = torch.tensor(ratios).sqrt()
    shapes = torch.stack([sides[:, None] / root, sides[:, None] * root], dim=-1).reshape(-1, 2)  # (A, 2) width, height
    y, x = torch.meshgrid((torch.arange(rows) + 0.5) * stride, (torch.arange(columns) + 0.5) * stride, indexing="ij")
    centres = torch.stack([x, y], dim=-1).reshape(-1, 1, 2)
    return torch.cat([centres - shapes / 2, centres + shapes / 2], dim=-1).reshape(-1, 4)


@cache
def kept_anchors(
    rows: int, columns: int, stride: int, sides_px: tuple[float, ...], ratios: tuple[float, ...], device: torch.device
) -> Tensor:
    """`level_anchors` on a device, made once; not to be written to."""
    with torch.inference_mode(False):  # a training may use them too
        return level_anchors(rows, columns, stride, sides_px, ratios).to(device)


def encode(boxes: Tensor, anchors: Tensor, scales: Scales = SCALES) -> Tensor:
    """Boxes (n, 4) relative to their anchors (n, 4): centre offsets and log sizes, over their scales."""
    size, anchor_size = boxes[:, 2:] - boxes[:, :2], anchors[:, 2:] - anchors[:, :2]
    offset = (boxes[:, 2:] + boxes[:, :2] - anchors[:, 2:] - anchors[:, :2]) / 2
    return torch.cat([offset / anchor_size / scales[0], (size / anchor_size).log() / scales[1]], dim=1)


def decode(codes: Tensor, anchors: Tensor, scales: Scales = SCALES) -> Tensor:
    """The inverse of `encode`; a size is at most e^4 anchor sides, so that a wild code stays finite."""
    anchor_size = anchors[:, 2:] - anchors[:, :2]
    centre = (anchors[:, 2:] + anchors[:, :2]) / 2 + codes[:, :2] * scales[0] * anchor_size
    half = (codes[:, 2:] * scales[1]).clamp(max=4).exp() * anchor_size / 2
    return torch.cat([centre - half, centre + half], dim=1)


def reached(
    logits: Tensor, codes: Tensor, anchors: Tensor, floor: float, scales: Scales = SCALES
) -> list[tuple[Tensor, Tensor]]:
    """Boxes (n, 4) and scores (n,) of each tile whose score is `floor` or more, on the CPU, in the order of anchors.

    `logits` (N, anchors), `codes` (N, anchors, 4). A GPU is waited for twice for all tiles together: for the number of
    boxes, and for the one copy of them.
    """
    score = logits.sigmoid()
    tile, anchor = (score >= floor).nonzero(as_tuple=True)
    found = decode(codes[tile, anchor], anchors[anchor], scales)
    rows = torch.cat([found, score[tile, anchor][:, None], tile[:, None].to(found.dtype)], dim=1).cpu()
    counts = torch.bincount(rows[:, 5].long(), minlength=len(logits))
    return [(part[:, :4], part[:, 4]) for part in rows.split(counts.tolist())]  # type: ignore[no-untyped-call]


def suppressed(boxes: Tensor, score: Tensor, iou: float, most: int) -> Tensor:
    """Indices of the `most` best boxes that non-maximum suppression at `iou` leaves, best first.

    As `nms(...)[:most]`, which goes on to the last box: those that only worse ones could follow are not looked at. A
    tile where the floor is reached everywhere has 20,000.
    """
    order, looked_at = score.sort(descending=True, stable=True)[1], AT_FIRST * most
    while True:
        among = order[:looked_at]
        kept = among[nms(boxes[among], score[among], iou)]
        if len(kept) >= most or looked_at >= len(order):
            return kept[:most]
        looked_at *= AT_FIRST


def voted(boxes: Tensor, score: Tensor, kept: Tensor, iou: float) -> Tensor:
    """Centres (k, 2) of the boxes `kept` (k,) by suppression among all (n, 4); voted for where `iou` is above 0.

    The mean of the centres of all boxes that overlap the kept one by `iou` or more, by the squares of their scores
    (n,): box voting (Gidaris and Komodakis 2015). Boxes that score alike share a point; without it the smallest
    difference, such as that of another precision, makes it jump from one to the other.
    """
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    if not iou or not len(kept):
        return centre[kept]
    weight = (box_iou(boxes[kept], boxes) >= iou) * score**2
    mean: Tensor = weight @ centre / weight.sum(dim=1, keepdim=True)
    return mean


def match(boxes: Tensor, anchors: Tensor, positive_iou: float, negative_iou: float, force: bool) -> Tensor:
    """For each anchor the index of its box, -1 background, -2 ignored.

    Positive above `positive_iou`, background below `negative_iou`, ignored between. With `force`, each box also
    takes the anchors that overlap it most, however little.
    """
    if len(boxes) == 0:
        return torch.full((len(anchors),), -1, device=anchors.device)
    iou = box_iou(boxes, anchors)  # (n, anchors)
    best, index = iou.max(dim=0)
    matched = torch.where(best > positive_iou, index, torch.where(best < negative_iou, -1, -2))
    if force:
        top = iou.max(dim=1, keepdim=True).values
        number = torch.arange(1, len(boxes) + 1, device=iou.device)
        last = (((iou == top) & (top > 0)) * number[:, None]).amax(dim=0)  # the last box that takes an anchor, or 0
        matched = torch.where(last > 0, last - 1, matched)
    return matched


def starts(parts: Sequence[Tensor], device: torch.device) -> Tensor:
    """Where each of `parts` begins when they are joined; (0,) of none."""
    ends = torch.tensor([0, *(len(part) for part in parts)]).cumsum(0)
    return ends[:-1].to(device, non_blocking=True)
