"""Our own detector: a RetinaNet of one level, and what the papers have to offer it, each part an argument."""

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
from mitosight.stain_augment import PatchAugmentation


class Mitosight(RetinaNet):
    """A RetinaNet of one level at stride 16, whose boxes vote.

    What it takes from the five papers is still being measured; a part is on by default where a gain on scanners that
    training never saw was measured (docs/results.md). Fixed colour statistics, one level and a trunk that ends there
    are for speed.

    Choices, each an argument:
        network: "resnet", of `depth`; or "efficientnet-lite0", a third of its time on a processor, whose ImageNet
            weights come by pip (`parts.lite`).
        augmentation: "turns", quarter turns and flips (Chung 2021, Zhang 2022; the best run in docs/results.md, p);
            "stains", these with elastic warp, light, blur, and the amounts of the stains changed by up to
            `stain_jitter` (of Wang 2023); "strong", that of Wilm 2021, which also enlarges figures.
        standard: whether each slide is seen in the colours of a standard one, by the mean and deviation of its own
            tissue (`mitosight.colours`).
        mix_probability, mix_alpha: EFDMix (of Wang 2023) of the features after the first two stages, in training.
    """

    blocks = BLOCKS

    title: ClassVar[str] = "ours: a RetinaNet of one level; what else it takes from the five is being measured"

    def __init__(
        self,
        *,
        tile_px: Count = 1024,
        network: Literal["resnet", "efficientnet-lite0"] = "resnet",
        normalise: Normalise = "midog",
        levels: Sequence[int] = (4,),
        deepest: Annotated[int, Field(ge=3, le=5)] = 4,
        augment: bool = True,
        augmentation: Literal["turns", "stains", "strong"] = "turns",
        stain_jitter: Amount = 0.05,
        standard: bool = False,
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
            "strong": Augmentation(),
        }
        if augmentation not in kinds:
            raise UsageError(None, f"augmentation = {augmentation!r}", f"accepted are {', '.join(kinds)}")
        self.augmentation = kinds[augmentation] if augment else None
        self.standardised = standard
        self.trunk.mix = EFDMix(mix_probability, mix_alpha) if mix_probability else None

    def new_trunk(self, depth: int, deepest: int) -> Trunk:
        """The trunk of `network`."""
        return EfficientNetLite0(deepest) if self.lite else ResNet(depth, deepest)
