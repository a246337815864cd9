"""Our own detector: parts of the papers and of other work, for scanners that training never saw and for two cores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from mitosight.augment import Augment, Augmentation, Turns
from mitosight.colours import BLOCKS
from mitosight.errors import UsageError
from mitosight.methods.detector import Amount, Count, Share, Size
from mitosight.methods.parts.efdmix import EFDMix
from mitosight.methods.parts.lite import EfficientNetLite0
from mitosight.methods.parts.trunk import ResNet, Trunk
from mitosight.methods.retinanet import Normalise, RetinaNet
from mitosight.scanner_augment import ScannerAugmentation
from mitosight.stain_augment import PatchAugmentation

OVERLAP_UM = 16.0  # of the tiles of a slide: 64 px at 0.25 µm/px, and 32 px for a first look at 0.5
STEP_PX = 32


class Mitosight(RetinaNet):
    """A RetinaNet of one level at stride 16, whose boxes vote, on a small network that starts from ImageNet weights.

    Slides are seen in the colours of a standard one (`mitosight.colours`), so that a new scanner has less to be strange
    by, and trained on with the amounts of their stains changed. The protocol `mitosight-ingredients` adds these parts
    to a plain RetinaNet, and tries others, which are off by default.

    Choices, each an argument:
        network: "efficientnet-lite0" (`parts.lite`), with which the whole takes 0.28 of the operations that it takes on
            a ResNet-18; or "resnet", of `depth`.
        weights: "imagenet", which come by pip for the former; "none"; or a safetensors file.
        standard: whether each slide is seen in standard colours, by the mean and deviation of its own tissue.
        augmentation: "stains", turns and flips with elastic warp, light, blur, and the amounts of the stains changed by
            up to `stain_jitter` (of Wang 2023); "scanners", these, and sharper edges and noise (`scanner_augment`);
            "turns", quarter turns and flips alone (Chung 2021, Zhang 2022); "strong", that of Wilm 2021, which also
            enlarges figures.
        mix_probability, mix_alpha: EFDMix (of Wang 2023) of the features at strides 4 and 8, in training.
    """

    blocks = BLOCKS

    title: ClassVar[str] = "ours: slides in standard colours, RetinaNet of one level on EfficientNet-Lite0"

    def __init__(
        self,
        *,
        tile_px: Count = 1024,
        network: Literal["efficientnet-lite0", "resnet"] = "efficientnet-lite0",
        normalise: Normalise = "midog",
        levels: Sequence[int] = (4,),
        deepest: Annotated[int, Field(ge=3, le=5)] = 4,
        augment: bool = True,
        augmentation: Literal["stains", "scanners", "turns", "strong"] = "scanners",
        stain_jitter: Amount = 0.1,
        standard: bool = True,
        mix_probability: Share = 0.0,
        mix_alpha: Size = 0.1,
        vote_iou: Share = 0.5,
        **detector: Any,
    ) -> None:
        self.lite = network == "efficientnet-lite0"
        super().__init__(
            tile_px=tile_px, normalise=normalise, levels=levels, deepest=deepest, vote_iou=vote_iou, **detector
        )
        kinds: dict[str, Augment] = {
            "turns": Turns(flips=True),
            "stains": PatchAugmentation(hed=stain_jitter),
            "scanners": ScannerAugmentation(PatchAugmentation(hed=stain_jitter)),
            "strong": Augmentation(),
        }
        if augmentation not in kinds:
            raise UsageError(None, f"augmentation = {augmentation!r}", f"accepted are {', '.join(kinds)}")
        self.augmentation = kinds[augmentation] if augment else None
        self.standardised = standard
        self.overlap_px = max(STEP_PX, STEP_PX * round(OVERLAP_UM / self.mpp / STEP_PX))
        self.trunk.mix = EFDMix(mix_probability, mix_alpha) if mix_probability else None

    def new_trunk(self, depth: int, deepest: int) -> Trunk:
        """The trunk of `network`."""
        return EfficientNetLite0(deepest) if self.lite else ResNet(depth, deepest)
