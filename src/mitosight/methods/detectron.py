"""RetinaNet with the values of detectron2, and 50-px anchors: the detector of Chung 2021 and of Zhang 2022."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from mitosight.methods.detector import Count, Share, Size
from mitosight.methods.retinanet import Normalise, RetinaNet

OCTAVE = (1.0, 2 ** (1 / 3), 2 ** (2 / 3))


class DetectronRetinaNet(RetinaNet):
    """`RetinaNet` with other defaults: those of detectron2, but for anchors, colours and first weights of the heads.

    256 channels, P3 to P7, heads of four convolutions, three octave scales and three aspect ratios, forced matches,
    focal alpha 0.25, plain L1 on unscaled codes, a running normaliser, stem, first stage and all batch norms frozen,
    suppression at IoU 0.5. Anchors start from 50 px on each level, the size of every box (Chung 2021). Colour
    statistics are those of torchvision's weights; the heads start as in `RetinaNet`.
    """

    def __init__(
        self,
        *,
        normalise: Normalise = "imagenet",
        channels: Count = 256,
        levels: Sequence[int] = (3, 4, 5, 6, 7),
        anchor_scales: Annotated[Sequence[Size], Field(min_length=1)] = OCTAVE,
        anchor_ratios: Annotated[Sequence[Size], Field(min_length=1)] = (0.5, 1.0, 2.0),
        anchor_base_px: tuple[Size, ...] = (50.0, 50.0, 50.0, 50.0, 50.0),
        head_convs: Annotated[int, Field(ge=0)] = 4,
        class_bias: Annotated[float, Field(allow_inf_nan=False)] = -4.595,
        force_match: bool = True,
        focal_alpha: Share = 0.25,
        box_loss: Literal["smooth-l1", "l1"] = "l1",
        divide_by: Literal["tile", "running"] = "running",
        box_scales: tuple[Size, Size] = (1.0, 1.0),
        freeze_stages: Annotated[int, Field(ge=0, le=5)] = 2,
        freeze_norm: bool = True,
        nms_iou: Share = 0.5,
        **detector: Any,
    ) -> None:
        super().__init__(
            normalise=normalise,
            channels=channels,
            levels=levels,
            anchor_scales=anchor_scales,
            anchor_ratios=anchor_ratios,
            anchor_base_px=anchor_base_px,
            head_convs=head_convs,
            class_bias=class_bias,
            force_match=force_match,
            focal_alpha=focal_alpha,
            box_loss=box_loss,
            divide_by=divide_by,
            box_scales=box_scales,
            freeze_stages=freeze_stages,
            freeze_norm=freeze_norm,
            nms_iou=nms_iou,
            **detector,
        )
