"""Domain Adversarial RetinaNet (Wilm, Marzahl, Breininger, Aubreville: MIDOG 2021 reference algorithm)."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

from torch import Tensor, nn
from torch.nn import functional

from mitosight.batch import Batch
from mitosight.errors import UsageError
from mitosight.methods.detector import Amount, Share, Workshop
from mitosight.methods.parts.domain import (
    LEAST_CELLS,
    DomainDiscriminator,
    focal_cross_entropy,
    ganin_ramp,
    reverse_gradient,
)
from mitosight.methods.parts.trunk import STRIDES
from mitosight.methods.retinanet import RetinaNet

Form = Literal["paper", "code"]
POSITIONS = ("c3", "c4", "c5")
NEW_SCANNER = "adapted to"


class Wilm2021(RetinaNet):
    """RetinaNet whose encoder is trained, through reversed gradients, not to know the scanner.

    A discriminator on the encoder's bottleneck learns to tell the scanners; the gradient that reaches the encoder is
    reversed and grows from 0 to 1 over the training (Ganin's ramp). Tiles of a scanner without labels take part in
    the domain loss only. Arguments of the detector itself are those of `retinanet`.

    Where paper and reference code differ:
        domain_form: the default "paper" is its equation: focal loss for each tile, averaged within a scanner, summed
            over scanners, beside detection losses averaged within and summed over labelled scanners. "code" takes the
            focal value of the batch's mean cross-entropy, times 0.25, divided by the number of tiles, which leaves
            the discriminator under 2.1 % of that weight: little adversary remains.
        selection_form: the paper keeps the checkpoint of best detection and highest domain confusion without a
            formula. Default "paper" adds to the mean AUCPR `confusion_weight` times the validation domain loss, as a
            share (at most 1) of what a discriminator that knows nothing has; "code" minimises detection loss / tiles -
            domain loss.
        training.near (sampling): see `dataset.TileSource`.
    Where both are silent or the paper tried more:
        discriminators: positions among c3, c4, c5; the paper tried several and kept the bottleneck.
        domain_gamma: focusing of the domain loss, 2 as in the code.
    """

    title: ClassVar[str] = "Domain Adversarial RetinaNet (Wilm 2021): gradient reversal at the bottleneck"
    of_its_data: ClassVar[tuple[str, ...]] = ("discriminators.",)
    uses_unlabelled: ClassVar[Literal["never", "preparation", "training"]] = "training"

    def __init__(
        self,
        *,
        domain_form: Form = "paper",
        domain_weight: Amount = 1.0,
        domain_gamma: Amount = 2.0,
        domain_dropout: Share = 0.5,
        discriminators: tuple[str, ...] = ("c5",),
        selection_form: Form = "paper",
        confusion_weight: Amount = 0.1,
        **detector: Any,
    ) -> None:
        super().__init__(**detector)
        if wrong := [p for p in discriminators if p not in POSITIONS]:
            raise UsageError(None, f"discriminators = {wrong}", f"positions are {', '.join(POSITIONS)}")
        if deep := [p for p in discriminators if POSITIONS.index(p) >= len(self.trunk.channels)]:
            raise UsageError(None, f"discriminators = {deep}", f"the trunk ends at c{len(self.trunk.channels) + 2}")
        for key, value in (("domain_form", domain_form), ("selection_form", selection_form)):
            if value not in ("paper", "code"):
                raise UsageError(None, f"{key} = {value!r}", "accepted are paper, code")
        self.domain_form, self.selection_form = domain_form, selection_form
        self.domain_weight, self.domain_gamma = domain_weight, domain_gamma
        self.confusion_weight = confusion_weight
        strides = dict(zip(POSITIONS, STRIDES.values(), strict=False))
        self.least_tile_px = max((LEAST_CELLS * strides[p] for p in discriminators), default=32)
        self.discriminators = nn.ModuleDict(
            {p: DomainDiscriminator(self.trunk.channels[POSITIONS.index(p)], max(1, len(self.scanners)), domain_dropout)
             for p in discriminators}
        )  # fmt: skip

    def prepare(self, workshop: Workshop) -> list[str]:
        """As `RetinaNet`.

        Raises:
            UsageError: batches of one tile, of which the discriminators' batch norms can say nothing.
        """
        if self.discriminators and len(workshop.source[0].images) < 2:
            raise UsageError(None, "batches of one tile", "set tiles_per_scanner=2, or more")
        return super().prepare(workshop)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Detection losses of the labelled tiles and the domain loss of all, weighted as `domain_form` says."""
        features = self.encode(batch.images)
        rows = batch.labelled.nonzero()[:, 0]
        labelled_maps = self.heads([f[rows] for f in features])
        detection = self.detection_losses(labelled_maps, batch.only(batch.labelled))
        domain = self.domain_loss(features, batch.domain)
        if self.domain_form == "paper":  # mean over a batch of equal shares x scanners = sum over scanners of means
            labelled = len(set(batch.domain[batch.labelled].tolist()))
            detection = {name: value * labelled for name, value in detection.items()}
            domain = domain * len(set(batch.domain.tolist()))
        return {**detection, "domain": domain * self.domain_weight}

    def domain_loss(self, features: list[Tensor], domain: Tensor) -> Tensor:
        """Focal loss of the discriminators on features whose gradient is reversed; scalar."""
        alpha = ganin_ramp(self.progress)
        total = features[0].sum() * 0
        for position, discriminator in self.discriminators.items():
            logits = discriminator(reverse_gradient(features[POSITIONS.index(position)], alpha)).float()
            if self.domain_form == "paper":
                total = total + focal_cross_entropy(logits, domain, self.domain_gamma).mean()
            else:
                entropy = functional.cross_entropy(logits, domain)
                total = total + 0.25 * (1 - (-entropy).exp()) ** self.domain_gamma * entropy / len(domain)
        return total

    def new_scanner(self) -> int:
        """A new output of each discriminator, of weights 0, and a name for it among `scanners`."""
        if not self.discriminators:
            return super().new_scanner()
        for discriminator in self.discriminators.values():
            assert isinstance(discriminator, DomainDiscriminator)
            discriminator.widen()
        self.scanners += (NEW_SCANNER,)
        return len(self.scanners) - 1

    def selection(self, aucpr: float, losses: dict[str, float], tiles: int, scanners: int) -> float:
        """Detection quality and domain confusion together; see the class on `selection_form`."""
        if self.selection_form == "code":
            return losses["domain"] - (losses["classification"] + losses["box"]) / tiles
        confusion = self.confusion(losses["domain"], tiles, scanners)
        return aucpr + self.confusion_weight * min(1.0, confusion)

    def confusion(self, domain_loss: float, tiles: int, scanners: int) -> float:
        """The domain loss of a batch as a share of what knows nothing has there; 1 without an adversary."""
        domains = len(self.scanners)
        if domains < 2 or not self.discriminators or not self.domain_weight:
            return 1.0
        chance = float((1 - 1 / domains) ** self.domain_gamma) * math.log(domains) * len(self.discriminators)
        scale = scanners if self.domain_form == "paper" else 0.25 / tiles
        return domain_loss / (chance * scale * self.domain_weight)
