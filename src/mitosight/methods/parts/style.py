"""Style transfer between scanners: StarGAN (Choi 2018) as Chung 2021 trains and uses it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional

from mitosight.batch import Batch
from mitosight.errors import UsageError
from mitosight.methods.parts.learner import StyleLearner
from mitosight.methods.parts.stargan import SCALE, Critic, Generator, gradient_penalty

NAME = "style-transfer"  # of the folder and the file that a training leaves


class StyleTransfer(StyleLearner):
    """Learns to paint a tile as any of its scanners would show it.

    Generator and critic take turns, one a step: in a cycle of `critic_steps` + 1 steps the critic learns first, then
    the generator once. The critic judges real tiles high and painted ones low (Wasserstein, with gradient penalty) and
    names the scanner of real ones; the generator is judged well, is taken for the target scanner, and paints its own
    work back into the tile that it came from (L1). Targets are the batch's own scanners in random order, so that one
    may be the tile's own. In the official code the generator takes the tiles that the critic has just had; here each
    step has tiles of its own.

    Attributes:
        mpp, mpp_tolerance: µm per px of its training tiles, and the share of it that they may be away.
        turn: steps done in this cycle; part of the weights, so that a resumed training is exact.
    """

    name, what, made_by = NAME, "style transfer", "a training of chung2021"
    alternates = True

    def __init__(
        self,
        scanners: Sequence[str],
        *,
        width: int = 64,
        blocks: int = 6,
        crop_px: int = 128,
        critic_depth: int = 6,
        critic_steps: int = 5,
        class_weight: float = 1.0,
        cycle_weight: float = 10.0,
        penalty_weight: float = 10.0,
        identity_weight: float = 0.0,
        mpp: float = 0.25,
        mpp_tolerance: float = 0.1,
    ) -> None:
        """Weights of the losses and sizes are the official ones.

        All that these losses ask for is also had by a generator that turns light and dark and turns them back, and some
        trainings end there. `identity_weight` (of CycleGAN; 0 in the official code) asks that a tile painted in its own
        style be the tile (L1).

        Args:
            scanners: two or more.
            width: channels of the first layer of both networks.
            blocks: residual blocks of the generator.
            crop_px: side of the training tiles, divisible by 4 and at least 2**critic_depth.
            critic_depth: layers of the critic.
            critic_steps: of the critic for each of the generator.
            mpp, mpp_tolerance: see above.

        Raises:
            UsageError: fewer than two scanners, or a crop that does not fit.
        """
        arguments = {"width": width, "blocks": blocks, "crop_px": crop_px, "critic_depth": critic_depth,
                     "critic_steps": critic_steps, "class_weight": class_weight, "cycle_weight": cycle_weight,
                     "penalty_weight": penalty_weight, "identity_weight": identity_weight, "mpp": mpp,
                     "mpp_tolerance": mpp_tolerance}  # fmt: skip
        super().__init__(scanners, arguments)
        if len(scanners) < 2:
            raise UsageError(
                None, f"style transfer between {list(scanners)}", "it needs two scanners; restyle = 0 goes without"
            )
        if crop_px % SCALE or crop_px < 2**critic_depth:
            raise UsageError(
                None,
                f"style crop of {crop_px} px with {critic_depth} layers of the critic",
                f"expected a multiple of {SCALE}, at least 2**layers",
            )
        self.mpp, self.mpp_tolerance = mpp, mpp_tolerance
        self.critic_steps, self.class_weight = critic_steps, class_weight
        self.cycle_weight, self.penalty_weight, self.identity_weight = cycle_weight, penalty_weight, identity_weight
        self.generator = Generator(len(scanners), width, blocks)
        self.critic = Critic(len(scanners), crop_px, width, critic_depth)
        self.register_buffer("turn", torch.zeros((), dtype=torch.int64))
        self.turn: Tensor

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The terms of the player whose turn it is; only its weights get gradients."""
        real = batch.images * 2 - 1
        source = self.scanner_of(batch).to(real.device)
        target = source[torch.randperm(len(source)).to(real.device)]
        critics = int(self.turn) < self.critic_steps
        if self.training:
            self.turn.copy_((self.turn + 1) % (self.critic_steps + 1))
        return self.critic_losses(real, source, target) if critics else self.generator_losses(real, source, target)

    def critic_losses(self, real: Tensor, source: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Tiles (N, 3, crop, crop) in [-1, 1], indices (N,) of their scanners and of those to paint."""
        with torch.no_grad():
            painted = self.generator(real, self.one_hot(target)).float()
        judged, logits = self.critic(real)
        gap = self.critic(painted)[0].float().mean() - judged.float().mean()
        return {
            "critic": gap,
            "critic_scanner": self.class_weight * functional.cross_entropy(logits.float(), source),
            "penalty": self.penalty_weight * gradient_penalty(self.critic, real, painted),
        }

    def generator_losses(self, real: Tensor, source: Tensor, target: Tensor) -> dict[str, Tensor]:
        """As `critic_losses`; the critic judges, but its weights get no gradient."""
        painted = self.generator(real, self.one_hot(target))
        weights = {name: weight.detach() for name, weight in self.critic.named_parameters()}
        judged, logits = functional_call(self.critic, weights, (painted,))
        back = self.generator(painted, self.one_hot(source))
        terms = {
            "fool": -judged.float().mean(),
            "scanner": self.class_weight * functional.cross_entropy(logits.float(), target),
            "cycle": self.cycle_weight * functional.l1_loss(back.float(), real),
        }
        if self.identity_weight:
            own = self.generator(real, self.one_hot(source)).float()
            terms["identity"] = self.identity_weight * functional.l1_loss(own, real)
        return terms


def locate(path: str | Path) -> Path:
    """The file that `path` means: itself, or the one in that folder of a style training or of a detector's."""
    return StyleTransfer.locate(path)
