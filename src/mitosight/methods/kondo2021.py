"""Candidates, and a classifier behind gradient reversal (Kondo: Multi-source Domain Adaptation ..., MIDOG 2021)."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from mitosight.augment import Turns
from mitosight.batch import Batch
from mitosight.detections import Detections
from mitosight.methods.detector import Amount, Count, Files, Part, Source, Workshop
from mitosight.methods.parts.candidates import CandidateDetector
from mitosight.methods.parts.domain import ganin_ramp, reverse_gradient
from mitosight.methods.parts.trunk import ResNet, known_statistics, normalise, weights_file

FEW = 8  # candidates on figures, below which there is little to learn from


class Kondo2021(CandidateDetector):
    """Blue-ratio candidates, told apart by a ResNet-18 that is kept from knowing the scanner.

    Behind the network's average pooling stand two branches of three fully connected layers. One tells mitoses from
    other candidates; the other tells the scanner, behind a layer that reverses the gradient, so that the features learn
    to hide it. Both cross-entropies count alike. Then, for each slide to be searched, a copy of the model goes on
    learning with that slide's candidates as one more scanner without labels (`mitosight adapt`).

    From the paper: patches of 64 px; ResNet-18 without its last layer; no class weights, although one candidate in a
    thousand is a mitosis; all candidates of the training images; Adam 1e-5, cosine annealing, 30 epochs, 128 patches a
    step (in the recipe). The paper puts 80 % of each scanner's images into training and 20 % into validation: that is
    the data folder's `split.json`.
    Where it is silent, each an argument:
        finder, finder_settings: the plain blue ratio, which the paper says in words; Chang's formula, which it cites,
            by `finder_settings = {formula = "chang"}`. Argued at `candidates.BlueRatio`.
        positive_px, negative_px: a candidate is a mitosis with a figure within 25 px on both axes, that is, inside its
            50 px box; another where none is within `negative_px`. Between the two, if they differ, it is left out.
        widths: of the two hidden layers of a branch, 256 and 128, with ReLU.
        reversal, reversal_weight: the reversed gradient is multiplied by a constant 1 ("constant"), or by Ganin's ramp
            from 0 to 1 ("ramp"), times the weight.
        sampling: "shuffled" goes through all candidates in random order, as the paper says; "balanced" through all
            mitoses and as many others, drawn anew each round, for short trainings.
        weights, normalise: first weights of ImageNet and its colour statistics.
        augment: off, since none is mentioned; on turns and mirrors the patches.
        threshold: the paper takes the larger of two outputs; here it is chosen on validation. The points of one
            figure, which may hold several candidates, are merged (10 µm), with those of all tiles.
        The scanner branch has one output more than training scanners from the start: that of the slide to adapt to. It
            begins the adaptation as the mean of the others (`new_scanner`).
    """

    title: ClassVar[str] = "Candidates and gradient reversal (Kondo 2021): blue ratio, ResNet-18, adapts to each slide"
    of_its_data: ClassVar[tuple[str, ...]] = ("scanner.",)
    files: ClassVar[Files] = {"weights": weights_file}
    finds_place: ClassVar[bool] = False

    def __init__(
        self,
        *,
        depth: int = 18,
        weights: str = "imagenet",
        normalise: Literal["imagenet", "midog", "none"] = "imagenet",
        widths: tuple[Count, Count] = (256, 128),
        sampling: Literal["shuffled", "balanced"] = "shuffled",
        patches_per_batch: Count = 128,
        augment: bool = False,
        scanner_weight: Amount = 1.0,
        reversal: Literal["constant", "ramp"] = "constant",
        reversal_weight: Amount = 1.0,
        **candidates: Any,
    ) -> None:
        super().__init__(**candidates)
        self.weights, self.sampling, self.patches_per_batch = weights, sampling, patches_per_batch
        self.scanner_weight, self.reversal, self.reversal_weight = scanner_weight, reversal, reversal_weight
        self.learns_balanced = sampling == "balanced"
        self.augmentation = Turns(flips=True) if augment else None
        self.trunk = ResNet(depth)
        self.mitosis = branch(self.trunk.channels[-1], widths, 2)
        self.scanner = branch(self.trunk.channels[-1], widths, len(self.scanners) + 1)
        mean, std = known_statistics(normalise)
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.mean: Tensor
        self.std: Tensor

    def prepare(self, workshop: Workshop) -> list[str]:
        """Loads first weights and finds the candidates of the training regions."""
        log = [self.trunk.initialise(self.weights)[1]]
        label = self.labels(workshop.candidates("train", self.finder))
        figures = int((label == 1).sum())
        log.append(f"{self.finder.name}: {len(label)} candidates in the training regions, {figures} of them mitoses")
        if figures < FEW:
            log.append("that is hardly enough: check that the finder's settings fit the stain of the images")
        return log

    def batches(self, workshop: Workshop, part: Part) -> Source:
        """Patches around the candidates of all regions, with their classes."""
        pool = workshop.candidates(part, self.finder)
        label = self.labels(pool)
        chosen = np.flatnonzero(label >= 0)
        source: Source = workshop.patches(
            part,
            pool,
            chosen,
            label[chosen],
            self.patch_px,
            self.patches_per_batch,
            order=self.sampling if part == "train" else "shuffled",
            augment=self.augmentation if part == "train" else None,
        )
        return source

    def encode(self, images: Tensor) -> list[Tensor]:
        """(N, 3, H, W) RGB in [0, 1] to [C3, C4, C5] of the trunk."""
        features: list[Tensor] = self.trunk(normalise(images, self.mean, self.std))
        return features

    def features(self, patches: Tensor) -> Tensor:
        """(N, 3, H, W) RGB in [0, 1] to (N, 512), the mean of the deepest map."""
        return self.encode(patches)[-1].mean(dim=(2, 3))

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy of the class, over patches that have one, and of the scanner, over all."""
        features = self.features(batch.images)
        told = batch.labelled & (batch.label >= 0)
        logits = self.mitosis(features).float()
        wrong = functional.cross_entropy(logits[told], batch.label[told], reduction="sum")
        alpha = self.reversal_weight * (ganin_ramp(self.progress) if self.reversal == "ramp" else 1.0)
        scanner = self.scanner(reverse_gradient(features, alpha)).float()
        return {
            "classification": wrong / told.sum().clamp(min=1),
            "domain": self.scanner_weight * functional.cross_entropy(scanner, batch.domain),
        }

    def network(self, images: Tensor) -> tuple[Tensor, ...]:
        """Patches (N, 3, H, W) to logits (N, 2): other, mitosis."""
        return (self.mitosis(self.features(images)),)

    def decode(self, maps: tuple[Tensor, ...], size_px: tuple[int, int]) -> list[Detections]:
        """The middle of each patch, with the probability of a mitosis."""
        score = maps[0].float().softmax(dim=1)[:, 1].cpu().numpy()
        middle = np.array([[size_px[1] / 2, size_px[0] / 2]])
        return [Detections(middle, np.array([s]), self.mpp) for s in score]

    def new_scanner(self) -> int:
        """The last output of the scanner branch, made the mean of the others.

        No training patch was of it, so it has learned to say no to all. Patches of a new scanner would start with a
        loss that is many times that of the classes, and reversed it would drive the features wherever that grows.
        """
        last = self.scanner[-1]
        assert isinstance(last, nn.Linear)
        with torch.no_grad():
            last.weight[-1] = last.weight[:-1].mean(dim=0)
            last.bias[-1] = last.bias[:-1].mean()
        return len(self.scanners)


def branch(inputs: int, widths: tuple[int, ...], outputs: int) -> nn.Sequential:
    """Fully connected layers (N, inputs) to (N, outputs), with ReLU between them."""
    layers: list[nn.Module] = []
    for width in widths:
        layers += [nn.Linear(inputs, width), nn.ReLU()]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, outputs))
