"""RetinaNet for figures of one size (Lin 2017, in the form of Wilm 2021), without any means against domain shift."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal, get_args

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional
from torchvision.ops import clip_boxes_to_image, sigmoid_focal_loss

from mitosight.augment import Augmentation
from mitosight.batch import Batch
from mitosight.detections import Detections
from mitosight.errors import UsageError
from mitosight.methods.detector import Amount, Count, Detector, Files, Share, Size, Workshop
from mitosight.methods.parts import boxes
from mitosight.methods.parts.restyle import Codes, Restyle
from mitosight.methods.parts.style import StyleTransfer
from mitosight.methods.parts.trunk import (
    STRIDES,
    ConvHead,
    Pyramid,
    ResNet,
    Trunk,
    known_statistics,
    normalise,
    statistics,
    weights_file,
)

Normalise = Literal["batch", "midog", "imagenet", "none"]
FIRST_POSITIVES, MOMENTUM = 100.0, 0.9  # of the running mean of positive anchors (detectron2)


class RetinaNet(Detector):
    """The detector of Wilm 2021 without its domain path: the paper's baselines, and the trunk of `wilm2021`.

    ResNet-18, pyramid levels P3 to P5 of 128 channels, two shared heads of three convolutions, five square anchors a
    cell, focal loss and smooth L1. Values are those of the reference code where the paper is silent.

    Choices, each an argument:
        normalise: "batch" takes mean and standard deviation of the first training batch, as the reference code does;
            "midog" the numbers it got; "imagenet" torchvision's; "none" leaves [0, 1] (the paper's weak baseline).
        focal_alpha: weight of positive entries; 0.75 as in the reference code (the RetinaNet paper has 0.25).
        augment: the augmentations of the paper on or off (weak baseline).
        force_match: off, as in the reference code; on gives each figure its best anchor, as torchvision does.
        levels: of 3 to 7. P3 never gets a positive anchor for a 50-px box; `[4]` is the later MIDOG++ baseline, faster.
        deepest: where trunk and pyramid end; 5 as in the paper. 4 with `levels = [4]` saves a fifth of the work.
        anchor_base_px: base side of the anchors of each level; () takes `anchor_base` strides.
        box_loss, divide_by: smooth L1 averaged over the positive anchors of a tile and classification divided by their
            number ("tile", as in the reference code), or both summed over the batch and divided by a running mean of
            its positive anchors ("running", as detectron2 does); "l1" for plain L1.
        box_scales: centre offset, in anchor sides, and log size of a box that are coded as 1; (0.1, 0.2) as in the
            reference code, (1, 1) in detectron2 and torchvision, where the box loss weighs that much less.
        vote_iou: boxes that overlap a kept one by that much or more vote for its place, see `parts.boxes.voted`; 0, as
            in the reference codes: the best box alone, which is now this, now that of several that score alike.
        freeze_stages, freeze_norm: layers of the trunk that do not learn (1: the stem, 2: the first stage too) and
            batch norms that keep their statistics. Only where first weights were loaded: frozen random layers are of
            no use.
        restyle, style: in training, share of the tiles that the style transfer in the file `style` paints in a random
            mixture of its scanners (Chung 2021); `style_codes`, `style_alpha`: see `parts.restyle.draw_codes`.
        Left out: the reference code's second class channel, which never gets a positive target.
    """

    title: ClassVar[str] = "RetinaNet, the plain detector (baselines of Wilm 2021)"
    files: ClassVar[Files] = {"weights": weights_file, "style": StyleTransfer.locate}
    trains_style: ClassVar[bool] = False

    def __init__(
        self,
        *,
        scanners: Sequence[str] = (),
        mpp: Annotated[float, Field(ge=0.05, le=10)] = 0.25,
        mpp_tolerance: Share = 0.1,
        tile_px: Count = 512,
        augment: bool = True,
        depth: int = 18,
        weights: str = "imagenet",
        normalise: Normalise = "batch",
        channels: Count = 128,
        levels: Sequence[int] = (3, 4, 5),
        deepest: Annotated[int, Field(ge=3, le=5)] = 5,
        anchor_scales: Annotated[Sequence[Size], Field(min_length=1)] = (0.2, 0.4, 0.6, 0.8, 1.0),
        anchor_ratios: Annotated[Sequence[Size], Field(min_length=1)] = (1.0,),
        anchor_base: Size = 4.0,
        anchor_base_px: tuple[Size, ...] = (),
        head_convs: Annotated[int, Field(ge=0)] = 3,
        class_bias: Annotated[float, Field(allow_inf_nan=False)] = -4.0,
        positive_iou: Share = 0.5,
        negative_iou: Share = 0.4,
        force_match: bool = False,
        focal_alpha: Share = 0.75,
        focal_gamma: Amount = 2.0,
        box_loss: Literal["smooth-l1", "l1"] = "smooth-l1",
        divide_by: Literal["tile", "running"] = "tile",
        box_scales: tuple[Size, Size] = boxes.SCALES,
        freeze_stages: Annotated[int, Field(ge=0, le=5)] = 0,
        freeze_norm: bool = False,
        score_floor: Share = 0.05,
        nms_iou: Share = 0.4,
        vote_iou: Share = 0.0,
        most_per_tile: Count = 300,
        restyle: Share = 0.0,
        style: str = "",
        style_codes: Codes = "dirichlet",
        style_alpha: Size = 1.0,
    ) -> None:
        shaken = Augmentation() if augment else None
        super().__init__(scanners=scanners, mpp=mpp, mpp_tolerance=mpp_tolerance, tile_px=tile_px, augmentation=shaken)
        unknown = set(levels) - set(STRIDES)
        if unknown or not levels:
            raise UsageError(None, f"levels = {list(levels)}", f"pyramid levels are {list(STRIDES)}")
        if deepest < 5 and max(levels) > deepest:
            raise UsageError(None, f"levels = {list(levels)} with deepest = {deepest}", f"expected at most {deepest}")
        if positive_iou < negative_iou:
            raise UsageError(None, f"positive_iou = {positive_iou}", f"expected {negative_iou} (negative_iou) or more")
        if normalise not in get_args(Normalise):
            raise UsageError(None, f"normalise = {normalise!r}", f"accepted are {', '.join(get_args(Normalise))}")
        if restyle and not (style or self.trains_style):
            raise UsageError(None, f"restyle = {restyle} without a style transfer", "name its file with style")
        self.restyle, self.style, self.style_codes, self.style_alpha = restyle, style, style_codes, style_alpha
        self.restyling: Restyle | None = None
        self.weights, self.normalise = weights, normalise
        self.freeze_stages, self.freeze_norm = freeze_stages, freeze_norm
        self.levels = tuple(sorted(set(levels)))
        if anchor_base_px and len(anchor_base_px) != len(self.levels):
            raise UsageError(
                None, f"anchor_base_px holds {len(anchor_base_px)} sides", f"expected {len(self.levels)}, one a level"
            )
        bases_px = anchor_base_px or [anchor_base * STRIDES[level] for level in self.levels]
        self.sides_px = {level: [b * s for s in anchor_scales] for level, b in zip(self.levels, bases_px, strict=True)}
        self.anchor_ratios = tuple(anchor_ratios)
        self.positive_iou, self.negative_iou, self.force_match = positive_iou, negative_iou, force_match
        self.focal_alpha, self.focal_gamma = focal_alpha, focal_gamma
        self.box_loss = functional.l1_loss if box_loss == "l1" else functional.smooth_l1_loss
        self.box_scales = box_scales
        self.score_floor, self.nms_iou, self.most_per_tile = score_floor, nms_iou, most_per_tile
        self.vote_iou = vote_iou
        self.trunk = self.new_trunk(depth, deepest)
        self.pyramid = Pyramid(self.trunk.channels, channels, self.levels)
        per_cell = len(anchor_scales) * len(anchor_ratios)
        self.class_head = ConvHead(channels, head_convs, per_cell, class_bias)
        self.box_head = ConvHead(channels, head_convs, 4 * per_cell, 0.0)
        mean, std = known_statistics(normalise)
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.register_buffer("positives", torch.tensor(FIRST_POSITIVES) if divide_by == "running" else None)
        self.mean: Tensor
        self.std: Tensor
        self.positives: Tensor | None

    def new_trunk(self, depth: int, deepest: int) -> Trunk:
        """The trunk, with weights as they are made."""
        return ResNet(depth, deepest)

    def prepare(self, workshop: Workshop) -> list[str]:
        """Loads first weights and, where tiles are restyled, the transfer; measures colour statistics on a batch."""
        loaded, told = self.trunk.initialise(self.weights)
        log = [told]
        if loaded:
            self.trunk.freeze(self.freeze_stages, self.freeze_norm)
        elif self.freeze_stages or self.freeze_norm:
            log.append("no layer is frozen: there are no first weights to keep")
        if self.normalise == "batch":
            mean, std = statistics(workshop.source[0].images)
            self.mean.copy_(mean)
            self.std.copy_(std)
        log.append(f"colour mean {_numbers(self.mean)}, standard deviation {_numbers(self.std)} ({self.normalise})")
        if self.restyle:
            transfer = self.transfer(workshop)
            self.restyling = Restyle(transfer.generator, self.restyle, self.style_codes, self.style_alpha)
            log.append(f"{self.restyle:g} of the tiles are painted in mixtures of {', '.join(transfer.scanners)}")
            log.append(self.restyling.told(workshop.source[0].images.to(workshop.device)))
        return log

    def started(self) -> list[str]:
        """Freezes the layers that do not learn: there are weights to keep now."""
        if not (self.freeze_stages or self.freeze_norm):
            return []
        self.trunk.freeze(self.freeze_stages, self.freeze_norm)
        norm = " and all batch norms" if self.freeze_norm else ""
        return [f"the first {self.freeze_stages} stages{norm} keep what the model has"]

    def transfer(self, workshop: Workshop) -> StyleTransfer:
        """The style transfer for `restyle`."""
        return StyleTransfer.load(self.style)

    def encode(self, images: Tensor) -> list[Tensor]:
        """(N, 3, H, W) in [0, 1] to [C3, C4, C5] of the trunk; in training some tiles are restyled first."""
        if self.training and self.restyling is not None:
            images = self.restyling(images)
        features: list[Tensor] = self.trunk(normalise(images, self.mean, self.std))
        return features

    def features(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1] to (N, C): the mean of C5 over the tile."""
        return self.encode(images)[-1].mean(dim=(2, 3))

    def network(self, images: Tensor) -> tuple[Tensor, ...]:
        """Class map and box map of each level, finest first: (N, A, h, w) and (N, 4 A, h, w)."""
        return self.heads(self.encode(images))

    def heads(self, features: list[Tensor]) -> tuple[Tensor, ...]:
        """[C3, C4, C5] to the maps of `network`."""
        return self.maps(self.pyramid(features))

    def maps(self, levels: list[Tensor]) -> tuple[Tensor, ...]:
        """Pyramid levels, finest first, to the maps of `network`."""
        found: list[Tensor] = []
        for level in levels:
            found += [self.class_head(level), self.box_head(level)]
        return tuple(found)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Focal loss and smooth L1, averaged over the labelled tiles."""
        return self.detection_losses(self.network(batch.images), batch)

    def detection_losses(self, maps: tuple[Tensor, ...], batch: Batch) -> dict[str, Tensor]:
        """`classification` and `box` of the labelled tiles; 0 where the batch has none.

        Per tile the focal loss is summed over anchors, the box loss over positive anchors and coordinates. With
        `divide_by` "tile" they are divided by the positive anchors of the tile (at least 1) and their coordinates, and
        averaged over tiles; with "running" the sums over the batch are divided by a running mean of its positives.
        """
        logits, codes, anchors = self._flat(maps)
        height, width = batch.images.shape[-2:]
        rows = batch.labelled.nonzero()[:, 0]
        targets = [clip_boxes_to_image(boxes.squares(batch.figures[i]), (height, width)) for i in rows.tolist()]
        how = anchors, self.positive_iou, self.negative_iou, self.force_match
        matched = torch.cat([rows.new_empty(0, len(anchors)), *(boxes.match(t, *how)[None] for t in targets)])
        positive = matched >= 0
        focal = sigmoid_focal_loss(logits[rows], positive.to(logits.dtype), self.focal_alpha, self.focal_gamma)
        tile, anchor = positive.nonzero(as_tuple=True)  # for all tiles at once: each look for them waits for a GPU
        index = matched[tile, anchor] + boxes.starts(targets, rows.device)[tile]
        wanted = boxes.encode(torch.cat([*targets, anchors[:0]])[index], anchors[anchor], self.box_scales)
        off = self.box_loss(codes[rows[tile], anchor], wanted, reduction="none").sum(dim=1)
        classification = torch.where(matched > -2, focal, 0).sum(dim=1)
        return self._divided(classification, torch.zeros_like(classification).index_add(0, tile, off), positive.sum(1))

    def _divided(self, classification: Tensor, box: Tensor, positives: Tensor) -> dict[str, Tensor]:
        """Sums by tile (n,) and the positive anchors of each as the two loss terms."""
        if self.positives is None:
            count, tiles = positives.clamp(min=1), max(1, len(positives))
            return {"classification": (classification / count).sum() / tiles, "box": (box / count / 4).sum() / tiles}
        if self.training:
            self.positives.mul_(MOMENTUM).add_((1 - MOMENTUM) * positives.sum().clamp(min=1))
        return {"classification": classification.sum() / self.positives, "box": box.sum() / self.positives}

    def decode(self, maps: tuple[Tensor, ...], size_px: tuple[int, int]) -> list[Detections]:
        """Boxes above `score_floor`, non-maximum suppression at `nms_iou`; their centres, or those voted for."""
        found = boxes.reached(*self._flat(maps), self.score_floor, self.box_scales)
        return [self._kept(box, score, size_px) for box, score in found]

    def _kept(self, found: Tensor, score: Tensor, size_px: tuple[int, int]) -> Detections:
        """The points of one tile's boxes, which are on the CPU."""
        kept = boxes.suppressed(found, score, self.nms_iou, self.most_per_tile)
        centre = boxes.voted(found, score, kept, self.vote_iou)
        inside = ((centre >= 0) & (centre < torch.tensor(size_px[::-1]))).all(dim=1)
        return Detections(centre[inside].numpy(), score[kept][inside].numpy(), self.mpp)

    def _flat(self, maps: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (N, anchors), codes (N, anchors, 4), anchors (anchors, 4), in float32 over all levels."""
        logits, codes, anchors = [], [], []
        for level, classes, box in zip(self.levels, maps[::2], maps[1::2], strict=True):
            n, per_cell, rows, columns = classes.shape
            logits.append(classes.permute(0, 2, 3, 1).flatten(1))
            codes.append(box.reshape(n, per_cell, 4, rows, columns).permute(0, 3, 4, 1, 2).flatten(1, 3))
            sides_px = tuple(self.sides_px[level])
            grid = boxes.kept_anchors(rows, columns, STRIDES[level], sides_px, self.anchor_ratios, classes.device)
            anchors.append(grid)
        return torch.cat(logits, dim=1).float(), torch.cat(codes, dim=1).float(), torch.cat(anchors)


def _numbers(values: Tensor) -> str:
    return " ".join(f"{v:.4f}" for v in values.tolist())
