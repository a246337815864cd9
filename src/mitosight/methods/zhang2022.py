"""Multi-task RetinaNet (Chen, Wang, Fang, Bian, Zhang 2022, arXiv 2208.12657; MIDOG 2022)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from mitosight.augment import Jitter, Turns
from mitosight.batch import Batch
from mitosight.errors import UsageError
from mitosight.methods.detector import Amount, Count, Share, Workshop
from mitosight.methods.detectron import DetectronRetinaNet
from mitosight.methods.parts.auxiliary import AuxiliaryHead, foreground_target, known_cross_entropy

Label = Literal["tumor_type", "scanner", "species"]
Hue = Annotated[float, Field(ge=0, le=0.5)]
NOUNS = {"tumor_type": "tumour type", "scanner": "scanner", "species": "species"}
UNKNOWN = "unknown"  # how regions call a domain that nobody named


class Zhang2022(DetectronRetinaNet):
    """RetinaNet that also learns, from a pooled deep feature, which tumour a tile shows and whether anything is there.

    Two fully connected heads on one level of the pyramid after global average pooling: the label head (which tumour
    type; cross-entropy) and the foreground head (does the tile hold a figure or a hard negative; focal loss). They
    serve the training only; the detections come from the detector alone. Nothing is adversarial. Tiles of scanners or
    tumours without annotations teach the label head only. Colour jitter is the third part.

    From the paper: ResNet-50 with ImageNet weights; focal alpha 0.25 and gamma 2, read as shared by the detector and
    the foreground head; the jitter; flips and random crop (the crop is the tile); batch 16, Adam at 1e-5 (recipe).
    Where it is silent, each an argument:
        auxiliary_level: "the deep feature of FPN". Default "p5", the coarsest level that the trunk feeds directly; any
            other level of `levels`, such as "p7", or "c5", the trunk's last map before the pyramid.
        auxiliary_widths, auxiliary_dropout: hidden layers of each head.
        label_weight, foreground_weight: a new label head has ln K (1.8 for six tumours), a new foreground head about
            0.1, each detection term 2 or more. 0.1 and 1 keep both heads below a tenth of the detection, so that they
            guide and do not lead; 0 leaves a head out, as the ablation does.
        label, classes: the column of `domains.csv` that the label head tells, and its names. () takes those of the
            training regions. "unknown" is no class (the paper, too, treats what is not recorded as unknown); a tile
            of another name than the classes does not count there. With fewer than two classes there is no such head:
            a constant label teaches nothing.
        foreground: "any" counts figures and hard negatives, as the paper does; "figure" is for data where nearly
            every tile holds a hard negative, so that "any" would be a constant.
        jitter: brightness, contrast, saturation, hue. It is the paper's third component, "to improve the domain
            generalization ability", in the words that name the component; so `[0, 0, 0, 0]` is the ablation without
            it, flips stay. `augment = false` takes both (the other reading).
        The detector's own: what detectron2's and torchvision's RetinaNet have in common (P3 to P7 of 256 channels,
            four convolutions, nine anchors a cell, forced matches, plain L1 on unscaled codes, first layers and batch
            norms frozen), with anchors from 50 px as in Chung 2021; detectron2's running normaliser. One class: hard
            negatives feed the foreground head alone.
    """

    title: ClassVar[str] = "Multi-task RetinaNet (Zhang 2022): tumour and foreground heads beside the detector, jitter"
    of_its_data: ClassVar[tuple[str, ...]] = ("label_head.",)
    uses_unlabelled: ClassVar[Literal["never", "preparation", "training"]] = "training"

    def __init__(
        self,
        *,
        label: Label = "tumor_type",
        classes: tuple[str, ...] = (),
        label_weight: Amount = 0.1,
        foreground_weight: Amount = 1.0,
        foreground: Literal["any", "figure"] = "any",
        auxiliary_level: Literal["c5", "p3", "p4", "p5", "p6", "p7"] = "p5",
        auxiliary_widths: tuple[Count, ...] = (256, 256),
        auxiliary_dropout: Share = 0.2,
        jitter: tuple[Share, Share, Share, Hue] = (0.35, 0.2, 0.1, 0.1),
        augment: bool = True,
        depth: int = 50,
        channels: Count = 256,
        **detector: Any,
    ) -> None:
        super().__init__(
            augment=augment,
            depth=depth,
            channels=channels,
            **detector,
        )
        there = ["c5", *(f"p{level}" for level in self.levels)]
        if auxiliary_level not in there:
            raise UsageError(None, f"auxiliary_level = {auxiliary_level!r}", f"accepted are {', '.join(there)}")
        self.augmentation = Jitter(*jitter, after=Turns(turns=False, flips=True)) if augment else None
        self.label, self.classes = label, tuple(dict.fromkeys(classes))
        self.label_weight, self.foreground_weight = label_weight, foreground_weight
        self.hard_negatives = foreground == "any"
        self.auxiliary_level = auxiliary_level
        width = self.trunk.channels[-1] if auxiliary_level == "c5" else channels
        self.label_head: AuxiliaryHead | None = None
        self.foreground_head: AuxiliaryHead | None = None
        if label_weight and len(self.classes) > 1:
            self.label_head = AuxiliaryHead(width, auxiliary_widths, len(self.classes), auxiliary_dropout)
        if foreground_weight:
            self.foreground_head = AuxiliaryHead(width, auxiliary_widths, 1, auxiliary_dropout)

    @classmethod
    def told_by_data(cls, given: dict[str, Any], domains: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        """Fills in `classes`, the names in the column `label` of the training regions.

        Raises:
            UsageError: a class was given that no training region has.
        """
        label = given.get("label", "tumor_type")
        named = tuple(name for name in domains[label] if name != UNKNOWN)
        classes = tuple(given.get("classes", ()))
        if wrong := [name for name in classes if name not in named]:
            there = ", ".join(named) or "none"
            raise UsageError(None, f"no training region of class {wrong[0]!r}", f"the {label} there: {there}")
        return {**given, "classes": classes or named}

    def prepare(self, workshop: Workshop) -> list[str]:
        """As `RetinaNet`; says what the label head tells apart, or why there is none."""
        log, noun, names = super().prepare(workshop), NOUNS[self.label], ", ".join(self.classes)
        head = f"{noun.removesuffix(' type')} head"
        if self.label_head is not None:
            log.append(f"the {head} tells {len(self.classes)} apart: {names}")
        elif self.label_weight:
            held = f"one {noun} ({names})" if self.classes else f"no {noun} by name"
            log.append(f"the training regions hold {held}: trained without the {head}")
        return log

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Detection losses and `foreground` of the labelled tiles, `label` of all, weighted."""
        features = self.encode(batch.images)
        levels = self.pyramid(features)
        rows = batch.labelled.nonzero()[:, 0]
        labelled_maps = self.maps([level[rows] for level in levels])
        detection = self.detection_losses(labelled_maps, batch.only(batch.labelled))
        named = {"c5": features[-1], **{f"p{n}": level for n, level in zip(self.levels, levels, strict=True)}}
        return {**detection, **self.auxiliary_losses(named[self.auxiliary_level], batch)}

    def auxiliary_losses(self, feature: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Weighted terms of the heads there are, from the deep feature (N, C, h, w) of all tiles.

        `label` is averaged over the tiles whose name is a class, `foreground` over the labelled tiles; 0 without any.
        """
        found = {}
        if self.label_head is not None:
            names = batch.columns.get(self.label, [UNKNOWN] * len(batch))
            found["label"] = known_cross_entropy(self.label_head(feature), names, self.classes) * self.label_weight
        if self.foreground_head is not None:
            known = batch.only(batch.labelled)
            logits = self.foreground_head(feature[batch.labelled])[:, 0]
            target = foreground_target(known, self.hard_negatives)
            focal = sigmoid_focal_loss(logits, target, self.focal_alpha, self.focal_gamma, reduction="sum")
            found["foreground"] = focal / max(1, len(known)) * self.foreground_weight
        return found
