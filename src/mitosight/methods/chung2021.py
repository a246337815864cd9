"""Style transfer and RetinaNet (Chung, Cho, Park: Domain-Robust Mitotic Figure Detection with Style Transfer, 2021)."""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from mitosight.augment import Turns
from mitosight.methods.detector import Amount, Count, Share, Workshop
from mitosight.methods.detectron import DetectronRetinaNet
from mitosight.methods.parts.style import NAME, StyleTransfer
from mitosight.optimisation import Optimisation

CYCLES_SAVED = 200  # turns of the generator between two states of the transfer's training


class Chung2021(DetectronRetinaNet):
    """RetinaNet that sees part of its training tiles in the style of other scanners, and of mixtures of them.

    First a style transfer (StarGAN, Choi 2018) learns, on unlabelled tiles of all training scanners, to paint a tile
    as another scanner would show it. It is then frozen. While the detector learns, each tile is painted with
    probability `restyle` by a random mixture of the scanners; the others stay as they are, since the transfer is not
    perfect and too much of it harms. Detection is that of the detector alone.

    From the paper: ResNet-101; anchors from 50 px on every level, three octave scales; p = 0.2 (`restyle`); turns by
    multiples of 90 degrees; threshold 0.7, here until validation chooses; 1.6 M steps of the transfer. In the recipe:
    500,000 steps of the detector and the rate's two drops; six background tiles to one with a figure; as many tiles
    from each scanner. Its first rate, 0.2, is twenty times what detectron2 has for this network: read as a slip, the
    recipe has 0.01.
    Where it is silent, each an argument:
        Detector: detectron2's RetinaNet, which the paper builds on: 256 channels, P3 to P7, heads of four convolutions,
            aspect ratios 0.5, 1, 2, forced matches, focal alpha 0.25, plain L1 on unscaled codes, running normaliser,
            stem, first stage and all batch norms frozen, suppression at IoU 0.5, 100 boxes a tile. Tiles are never
            resized. Not detectron2's: colour statistics (torchvision's weights come with their own) and the first
            weights of the heads, which are those of `retinanet`.
        style_codes, style_alpha: "a random 4-component normalised vector". Default Dirichlet(1), each mixture as
            likely as any other; see `parts.restyle.draw_codes` for the other readings.
        style: the file of a trained transfer, in the place of training one. It may know other scanners.
        style_...: the transfer as in the official code: 128 px, width 64, 6 blocks, 16 tiles a step (4 for each of
            four scanners), Adam 1e-4, betas 0.5 and 0.999, weights 1, 10, 10; the rate constant (the decay that the
            code describes takes away a thousandth). `style_steps` counts steps of the critic, as it does; the
            generator has one for each `style_critic_steps`. `style_identity_weight` is not the paper's: see
            `StyleTransfer`. Tiles at the detector's resolution, turned and mirrored.
    """

    title: ClassVar[str] = "Style transfer and RetinaNet (Chung 2021): StarGAN paints tiles as other scanners see them"
    uses_unlabelled: ClassVar[Literal["never", "preparation", "training"]] = "preparation"
    trains_style: ClassVar[bool] = True

    def __init__(
        self,
        *,
        restyle: Share = 0.2,
        style_width: Count = 64,
        style_blocks: Annotated[int, Field(ge=0)] = 6,
        style_crop_px: Count = 128,
        style_critic_depth: Count = 6,
        style_critic_steps: Count = 5,
        style_steps: Count = 1_600_000,
        style_tiles_per_scanner: Count = 4,
        style_lr: Amount = 1e-4,
        style_class_weight: Amount = 1.0,
        style_cycle_weight: Amount = 10.0,
        style_penalty_weight: Amount = 10.0,
        style_identity_weight: Amount = 0.0,
        style_precision: Literal["fp32", "bf16"] = "fp32",
        augment: bool = True,
        depth: int = 101,
        most_per_tile: Count = 100,
        **detector: Any,
    ) -> None:
        super().__init__(
            restyle=restyle,
            augment=augment,
            depth=depth,
            most_per_tile=most_per_tile,
            **detector,
        )
        self.threshold = 0.7
        self.augmentation = Turns() if augment else None
        self.style_tiles_per_scanner = style_tiles_per_scanner
        self.style_network: dict[str, Any] = {
            "width": style_width, "blocks": style_blocks, "crop_px": style_crop_px, "critic_depth": style_critic_depth,
            "critic_steps": style_critic_steps, "class_weight": style_class_weight,
            "cycle_weight": style_cycle_weight, "penalty_weight": style_penalty_weight,
            "identity_weight": style_identity_weight,
        }  # fmt: skip
        self.style_optimisation = style_optimisation(style_steps, style_critic_steps, style_lr, style_precision)

    def transfer(self, workshop: Workshop) -> StyleTransfer:
        """The transfer in the file `style`; without one it is trained, on tiles of all scanners."""
        if self.style:
            return super().transfer(workshop)
        crop_px, augment = self.style_network["crop_px"], Turns(flips=True)
        source = workshop.tiles(crop_px, self.style_tiles_per_scanner, augment)
        learner = StyleTransfer(source.scanners, mpp=self.mpp, mpp_tolerance=self.mpp_tolerance, **self.style_network)
        workshop.fit(NAME, learner, source, self.style_optimisation, learner.facts())
        return learner


def style_optimisation(critic_steps: int, each: int, lr: float, precision: Literal["fp32", "bf16"]) -> Optimisation:
    """How the transfer steps: `critic_steps` of the critic in all, `each` of them before each of the generator.

    Both count as steps of the engine. Rounded up to whole cycles, and to epochs of equal length.
    """
    cycles = math.ceil(critic_steps / each)
    epochs = math.ceil(cycles / CYCLES_SAVED)
    return Optimisation(
        epochs=epochs,
        steps_per_epoch=math.ceil(cycles / epochs) * (each + 1),
        optimiser="adam",
        lr=lr,
        weight_decay=0.0,
        momentum=0.5,
        beta2=0.999,
        schedule="constant",
        precision=precision,
    )
