"""Unsupervised stain augmentation (UnSA): a re-stainer after RestainNet (Zhao 2022), as Wang 2023 uses it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional
from torchvision.transforms.v2 import functional as colour

from mitosight.augment import Turns
from mitosight.batch import Batch
from mitosight.errors import UsageError
from mitosight.methods.detector import Workshop
from mitosight.methods.parts.learner import StyleLearner
from mitosight.methods.parts.unet import PatchCritic, StyledUNet
from mitosight.optimisation import Optimisation
from mitosight.stain_augment import stain_amounts

NAME = "re-stainer"  # of the folder and the file that a training leaves
STYLES = 3  # "we extend the stain color to 3 color spaces"


class ReStainer(StyleLearner):
    """Learns to stain a grey tile again as its scanner shows it, for any number of scanners, without any label.

    A tile is made grey, which takes the stain away and leaves the structure, and the network gives it back its
    colours. What it gives for a tile of another scanner is that tile in the style of the scanner asked for.

    RestainNet is known to us by its abstract only: grey image in, haematoxylin and eosin of the original extracted by
    the law of Beer and Lambert and used in a loss that keeps the amount of stain right, trained on images of the target
    style alone. Chosen here, as arguments where it is a number:
        Network: a U-Net. One for all scanners, told the style by scale and shift after each norm, where RestainNet has
            one for each: what nuclei and fibres look like is learned once, from all tiles; a scanner costs a few
            thousand weights in place of millions; and there is one file. As with one network each, a style is only
            ever trained on tiles of its own scanner.
        Losses: mean absolute difference of the colours, and of the amounts of haematoxylin and of eosin (optical
            density to base 10, by the fixed matrix of Ruifrok and Johnston), weight 1 each.
        adversarial_weight: of a critic (PatchGAN, least squares) that sees tiles painted in the style of any scanner
            of the batch; 0, the default, goes without. With it critic and painter take turns, one a step.
        grey_jitter: largest relative change of the grey image's brightness in training; 0, the default: none. A grey
            tile from a darker scanner than the target's is one that its style has never seen, and stays dark; with
            jitter the style learns to put the brightness right too.

    Attributes:
        turn: 0 when the critic is next; part of the weights, so that a resumed training is exact.
    """

    name, what, made_by = NAME, "re-stainer", "a training of wang2023"

    def __init__(
        self,
        scanners: Sequence[str],
        *,
        width: int = 32,
        depth: int = 4,
        colour_weight: float = 1.0,
        stain_weight: float = 1.0,
        adversarial_weight: float = 0.0,
        critic_width: int = 64,
        grey_jitter: float = 0.0,
    ) -> None:
        """See above.

        Args:
            scanners: one or more.
            width, depth: channels of the first layer of the U-Net, and how often it halves its input.
            colour_weight, stain_weight: of the losses.

        Raises:
            UsageError: no scanner.
        """
        arguments = {"width": width, "depth": depth, "colour_weight": colour_weight, "stain_weight": stain_weight,
                     "adversarial_weight": adversarial_weight, "critic_width": critic_width,
                     "grey_jitter": grey_jitter}  # fmt: skip
        super().__init__(scanners, arguments)
        if not scanners:
            raise UsageError(None, "a re-stainer without scanners", "it needs one or more")
        self.colour_weight, self.stain_weight, self.grey_jitter = colour_weight, stain_weight, grey_jitter
        self.adversarial_weight, self.alternates = adversarial_weight, adversarial_weight > 0
        self.painter = StyledUNet(len(scanners), width, depth)
        self.critic = PatchCritic(len(scanners), critic_width) if self.alternates else None
        self.register_buffer("turn", torch.zeros((), dtype=torch.int64))
        self.turn: Tensor

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Terms of one batch; with a critic those of the player whose turn it is."""
        images, style = batch.images, self.scanner_of(batch).to(batch.images.device)
        grey = self._shaken(colour.rgb_to_grayscale(images))
        if self.critic is None:
            return self.stain_losses(grey, images, style)
        critics = int(self.turn) == 0
        if self.training:
            self.turn.copy_(1 - self.turn)
        other = style[torch.randperm(len(style)).to(style.device)]
        if critics:
            return self.critic_losses(self.critic, grey, images, (style, other))
        return self.stain_losses(grey, images, style) | self.fooling_losses(self.critic, grey, other)

    def stain_losses(self, grey: Tensor, images: Tensor, style: Tensor) -> dict[str, Tensor]:
        """How far grey tiles (N, 1, H, W) painted in their own style (N,) are from what they were, (N, 3, H, W)."""
        painted = self.painter(grey, self.one_hot(style))
        with torch.autocast(images.device.type, enabled=False):
            found, wanted = stain_amounts(painted), stain_amounts(images)
            return {
                "colour": self.colour_weight * functional.l1_loss(painted, images),
                "haematoxylin": self.stain_weight * functional.l1_loss(found[:, 0], wanted[:, 0]),
                "eosin": self.stain_weight * functional.l1_loss(found[:, 1], wanted[:, 1]),
            }

    def critic_losses(
        self, critic: PatchCritic, grey: Tensor, images: Tensor, styles: tuple[Tensor, Tensor]
    ) -> dict[str, Tensor]:
        """Tiles, the styles (N,) they have, and those to paint: real is to be judged 1, painted 0 (Mao 2017)."""
        with torch.no_grad():
            painted = self.painter(grey, self.one_hot(styles[1]))
        real, fake = critic(images, styles[0]), critic(painted, styles[1])
        return {"critic": ((real - 1).square().mean() + fake.square().mean()) / 2}

    def fooling_losses(self, critic: PatchCritic, grey: Tensor, style: Tensor) -> dict[str, Tensor]:
        """The critic judges what is painted in styles (N,), but its weights get no gradient."""
        weights = {name: weight.detach() for name, weight in critic.named_parameters()}
        judged = functional_call(critic, weights, (self.painter(grey, self.one_hot(style)), style))
        return {"fool": self.adversarial_weight * (judged - 1).square().mean()}

    def _shaken(self, grey: Tensor) -> Tensor:
        if not (self.training and self.grey_jitter):
            return grey
        factor = 1 + (torch.rand(len(grey), 1, 1, 1) * 2 - 1) * self.grey_jitter
        return (grey * factor.to(grey)).clamp(0, 1)

    @torch.no_grad()
    def restained(self, images: Tensor, style: Tensor) -> Tensor:
        """Images (N, 3, H, W) in [0, 1] of any scanner in the styles (N,) of its scanners, float32."""
        codes = self.one_hot(style.to(images.device))
        painted: Tensor = self.painter(colour.rgb_to_grayscale(images.float()), codes)
        return painted


def learned(
    workshop: Workshop, style: str, tiles: tuple[int, int], network: dict[str, Any], steps: Optimisation
) -> ReStainer:
    """The re-stainer in the file `style`; without one ("") it is trained, on tiles of all scanners, and kept.

    Args:
        tiles: their side in px, and how many of each scanner a batch has.
        network: arguments of `ReStainer`.
        steps: of its training.
    """
    if style:
        return ReStainer.load(style)
    source = workshop.tiles(*tiles, Turns(flips=True))
    learner = ReStainer(source.scanners, **network)
    workshop.fit(NAME, learner, source, steps, learner.facts())
    return learner


class Restain:
    """Stains each patch again, with `probability`, in one of several styles; the others stay as they are.

    Equation (5) joins the data with n copies of it in other styles: of patches drawn from that union, n / (n + 1) are
    copies, which is the default probability. Styles are those of the re-stainer's first `styles` scanners, all equally
    likely, the patch's own among them. The paper has three; the reference code has two, and a slip that saves one of
    them twice.

    No `nn.Module`: the frozen re-stainer is no part of the detector that learns from what it paints.
    """

    def __init__(self, restainer: ReStainer, styles: int = STYLES, probability: float | None = None) -> None:
        self.restainer = restainer.eval().requires_grad_(False)
        self.styles = min(styles, len(restainer.scanners))
        self.probability = self.styles / (self.styles + 1) if probability is None else probability

    def told(self) -> str:
        """A line for the log."""
        names = ", ".join(self.restainer.scanners[: self.styles])
        return f"{self.probability:.2f} of the patches are stained again as {names}"

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Images (N, 3, H, W) in [0, 1] on any device to new ones; draws from torch's CPU generator."""
        chosen = (torch.rand(len(images)) < self.probability).nonzero()[:, 0].to(images.device)
        if len(chosen) == 0:
            return images
        style = torch.randint(self.styles, (len(chosen),))
        painted = self.restainer.to(images.device).restained(images[chosen], style)
        return images.index_copy(0, chosen, painted.to(images.dtype))
