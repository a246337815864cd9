"""Style transfer between scanners: StarGAN (Choi 2018) as Chung 2021 trains and uses it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from mitosight.batch import Batch
from mitosight.errors import InputError, UsageError
from mitosight.methods.parts.stargan import SCALE, Critic, Generator, gradient_penalty

NAME = "style-transfer"  # of the folder and the file that a training leaves
FORMAT = 1
_EXPECTED = f"expected the {NAME}.safetensors that a training of chung2021 leaves, or its folder"


class StyleTransfer(nn.Module):
    """Learns to paint a tile as any of its scanners would show it. A learner for `mitosight.engine.fit`.

    Generator and critic take turns, one a step: in a cycle of `critic_steps` + 1 steps the critic learns first, then
    the generator once. The critic judges real tiles high and painted ones low (Wasserstein, with gradient penalty) and
    names the scanner of real ones; the generator is judged well, is taken for the target scanner, and paints its own
    work back into the tile that it came from (L1). Targets are the batch's own scanners in random order, so that one
    may be the tile's own. In the official code the generator takes the tiles that the critic has just had; here each
    step has tiles of its own.

    Attributes:
        scanners: names of the styles, in the order of the components of a code.
        mpp, mpp_tolerance: µm per px of its training tiles, and the share of it that they may be away.
        turn: steps done in this cycle; part of the weights, so that a resumed training is exact.
    """

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
        mpp: float = 0.25,
        mpp_tolerance: float = 0.1,
    ) -> None:
        """Weights of the losses and sizes are the official ones.

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
        super().__init__()
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
        self.arguments = {"width": width, "blocks": blocks, "crop_px": crop_px, "critic_depth": critic_depth,
                          "critic_steps": critic_steps, "class_weight": class_weight, "cycle_weight": cycle_weight,
                          "penalty_weight": penalty_weight, "mpp": mpp, "mpp_tolerance": mpp_tolerance}  # fmt: skip
        self.scanners, self.mpp, self.mpp_tolerance = tuple(scanners), mpp, mpp_tolerance
        self.critic_steps, self.class_weight = critic_steps, class_weight
        self.cycle_weight, self.penalty_weight = cycle_weight, penalty_weight
        self.progress = 1.0
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
        return {
            "fool": -judged.float().mean(),
            "scanner": self.class_weight * functional.cross_entropy(logits.float(), target),
            "cycle": self.cycle_weight * functional.l1_loss(back.float(), real),
        }

    def scanner_of(self, batch: Batch) -> Tensor:
        """Index (N,) in `scanners` of each tile's scanner, by its name."""
        names = batch.columns["scanner"]
        if unknown := sorted(set(names) - set(self.scanners)):
            raise InputError(None, f"tiles of {unknown[0]!r}", f"the style transfer knows {', '.join(self.scanners)}")
        return torch.tensor([self.scanners.index(name) for name in names])

    def one_hot(self, index: Tensor) -> Tensor:
        """Codes (N, scanners) of single scanners (N,)."""
        return functional.one_hot(index, len(self.scanners)).float()

    def facts(self) -> dict[str, Any]:
        """What a file must say of the weights for `load` to rebuild them."""
        return {"kind": NAME, "format": FORMAT, "scanners": list(self.scanners), "arguments": self.arguments}

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """The transfer in a file that a training left (or in its folder), in evaluation mode on the CPU.

        Raises:
            InputError: no such file, damaged, or no style transfer.
        """
        file = locate(path)
        try:
            with safe_open(file, "pt") as opened:
                told = (opened.metadata() or {}).get("mitosight", "{}")
                tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        except FileNotFoundError:
            raise InputError(file, "no such style transfer", _EXPECTED) from None
        except (SafetensorError, OSError) as error:
            raise InputError(file, f"is no readable style transfer ({error})", _EXPECTED) from None
        try:
            facts = json.loads(told)
            if facts.get("kind") != NAME or facts.get("format") != FORMAT:
                what = facts.get("method") or facts.get("kind") or "something else"
                raise InputError(file, f"is no style transfer of this version ({what})", _EXPECTED)
            transfer = cls(facts["scanners"], **facts["arguments"])
            transfer.load_state_dict(tensors)
        except (UsageError, KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise InputError(file, f"is a damaged style transfer ({str(error).splitlines()[0]})", _EXPECTED) from None
        return transfer.eval()


def locate(path: str | Path) -> Path:
    """The file that `path` means: itself, or the one in that folder of a style training or of a detector's."""
    path = Path(path)
    inside = [path / f"{NAME}.safetensors", path / NAME / f"{NAME}.safetensors"]
    return next((file for file in inside if file.is_file()), inside[0]) if path.is_dir() else path
