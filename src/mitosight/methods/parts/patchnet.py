"""The classifier of patches of Wang 2023: a network at stride 8, parent and child classes, mixing, restaining."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from mitosight.batch import Batch
from mitosight.methods.parts.cam import activation_maps
from mitosight.methods.parts.efdmix import EFDMix
from mitosight.methods.parts.incdp import MITOSIS, PARENTS, Level, Objective, child_weights, joint_losses
from mitosight.methods.parts.resnet38 import Backbone
from mitosight.methods.parts.restain import Restain
from mitosight.methods.parts.trunk import known_statistics, normalise

Activation = Literal["difference", "mitosis", "none"]
Look = Callable[[Tensor], tuple[Tensor, ...]]


class PatchClassifier(nn.Module):
    """Patches to parent classes (1 is mitosis) and, while it learns, to child classes. A learner for the engine.

    Features, dropout of channels, mean over places, bias-free classifiers. In training patches are stained again and
    features mixed, where that is asked for.

    Args:
        backbone: gives the features.
        children: child classes for each parent class; 1 for none. Labels of a batch are those of the children
            (0 to 2 T - 1); the parent of child c is c // T.
        terms: of the losses.
        mix: on the features of `backbone`, or None.
        dropout: share of channels that is dropped before the classifiers.
        statistics: of colours, see `trunk.known_statistics`.
        activation: what the maps show. "mitosis": the features times the weights of that class, as in the reference
            code. "difference": times these less the weights of the other class. Only the difference makes the
            probability; to both classes' weights anything can be added without changing it, and a classifier that
            knows a figure by what speaks against the other class has the map of its own class bright beside it.
            "none": nothing, so that the point is the middle of the patch, which is the candidate.
        turns: quarter turns of a patch whose maps are turned back and averaged: 1 for none, as in the reference code,
            2 or 4. The mean over places, of which alone the network learns, is blind to places. Convolutions dilated by
            4 cells take a figure up 32 px away, and may do so on one side only; then the map is brightest there. What
            lies beside the figure turns with the patch and the figure does not: only it is bright in every turn.

    Attributes:
        restain: on patches, or None; no part of the weights.
    """

    def __init__(
        self,
        backbone: Backbone,
        children: int,
        terms: Objective,
        mix: EFDMix | None,
        *,
        dropout: float,
        statistics: str,
        activation: Activation,
        turns: int,
    ) -> None:
        super().__init__()
        self.backbone, self.per_class, self.terms, self.mix, self.dropout = backbone, children, terms, mix, dropout
        self.parent = Level(PARENTS, backbone.channels, centres_move=terms.centres_move)
        self.child = Level(PARENTS * children, backbone.channels, centres_move=terms.centres_move)
        self.activation, self.turns = activation, turns
        self.restain: Restain | None = None
        self.progress = 1.0
        mean, std = known_statistics(statistics)
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.mean: Tensor
        self.std: Tensor
        self.joint(children > 1)

    def joint(self, on: bool) -> None:
        """Whether the child classes learn too."""
        self.child.requires_grad_(on)
        self.learns_children = on

    def divided(self, label: NDArray[np.int64], centres: NDArray[np.float32]) -> str:
        """Takes up child classes by their samples' classes (n,) and centres (2 T, C), to learn them from now on.

        Returns a line for the log.
        """
        omega = child_weights(centres, self.terms.omega)
        self.child.place(torch.from_numpy(centres), torch.from_numpy(omega))
        self.joint(True)
        counts = np.bincount(label, minlength=len(omega))
        told = ", ".join(f"{n} ({w:.2f})" for n, w in zip(counts, omega, strict=True))
        return f"samples of the child classes, and their weights: {told}"

    def initialise(self, weights: str, freeze_stages: int, freeze_norm: bool) -> list[str]:
        """Loads the backbone's first weights and freezes what they allow; returns lines for the log."""
        loaded, told = self.backbone.initialise(weights)
        if loaded:
            self.backbone.freeze(freeze_stages, freeze_norm)
            return [told]
        frozen = freeze_stages or freeze_norm
        return [told] + ["no layer is frozen: there are no first weights to keep"] * bool(frozen)

    def forward(self, images: Tensor, domain: Tensor | None = None) -> Tensor:
        """Patches (N, 3, H, W) in [0, 1] to features (N, C, H / 8, W / 8)."""
        if self.training and self.restain is not None:
            images = self.restain(images)
        mix = partial(self.mix, domain=domain) if self.mix is not None else None
        features: Tensor = self.backbone(normalise(images, self.mean, self.std), mix)
        return features

    def pooled(self, images: Tensor, domain: Tensor | None = None) -> Tensor:
        """Patches (N, 3, H, W) to vectors (N, C)."""
        features = self(images, domain)
        return functional.dropout2d(features, self.dropout, self.training).mean(dim=(2, 3))

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Terms of the labelled patches of a batch; outside of training those of the parents alone."""
        child = self.child if self.learns_children and self.training else None
        label = batch.label[batch.labelled]
        pooled = self.pooled(batch.images, batch.domain)[batch.labelled]
        return joint_losses(self.parent, child, pooled, (label // self.per_class, label), self.terms)

    def network(self, images: Tensor, floor: float = 0.0, look: Look | None = None) -> tuple[Tensor, Tensor]:
        """Patches (N, 3, side, side) to parent logits (N, 2) and activation maps of mitosis (N, side, side).

        Patches are turned only where the probability of a mitosis is `floor` or more; probabilities are those of the
        patch as it is. `look` goes in the place of the method of that name.
        """
        look = look or self.look
        logits, evidence = look(images)
        likely = (logits.softmax(dim=1)[:, MITOSIS] >= floor).nonzero()[:, 0]
        if self.turns > 1 and self.activation != "none" and len(likely):
            evidence = evidence.index_copy(0, likely, self._turned(look, images[likely], evidence[likely]))
        return logits, activation_maps(evidence[:, None], evidence.new_ones(1), images.shape[-1])

    def look(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Patches (N, 3, side, side) to parent logits (N, 2) and how much each place speaks for mitosis (N, h, w)."""
        features = self(images)
        other, weight = (self.parent.classifier.weight[k] for k in (1 - MITOSIS, MITOSIS))
        speaking = {"difference": weight - other, "mitosis": weight, "none": 0 * weight}[self.activation]
        evidence = torch.einsum("nchw,c->nhw", features.float(), speaking.float())
        return self.parent(features.mean(dim=(2, 3))), evidence

    def _turned(self, look: Look, images: Tensor, upright: Tensor) -> Tensor:
        """The mean evidence (N, h, w) of images in all turns, each turned back; `upright` is that of the first."""
        turned = [(turn, look(torch.rot90(images, turn, (2, 3)))[1]) for turn in range(1, self.turns)]
        return torch.stack([upright, *(torch.rot90(seen, -turn, (1, 2)) for turn, seen in turned)]).mean(dim=0)

    def features(self, source: Any, bf16: bool = False) -> Iterator[NDArray[np.float32]]:
        """Vectors (n, C) of the patches of each batch of `source`, in order."""
        return self._told(source, bf16, self.pooled)

    def probabilities(self, source: Any, bf16: bool = False) -> Iterator[NDArray[np.float32]]:
        """Probabilities (n,) of mitosis of the patches of each batch of `source`, in order."""
        return self._told(source, bf16, lambda images: self.parent(self.pooled(images)).softmax(dim=1)[:, MITOSIS])

    def _told(self, source: Any, bf16: bool, answer: Callable[[Tensor], Tensor]) -> Iterator[NDArray[np.float32]]:
        self.eval()
        for i in range(len(source)):
            with torch.inference_mode(), torch.autocast(self.mean.device.type, torch.bfloat16, enabled=bf16):
                told = answer(source[i].images.to(self.mean.device)).float().cpu().numpy()
            yield told
