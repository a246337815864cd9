"""A small network that tells the scanner of a tile: the judge of a style transfer, trained apart from it."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from mitosight.batch import Batch
from mitosight.dataset import TileSource
from mitosight.engine import fit
from mitosight.log import RunLog
from mitosight.optimisation import Optimisation

WIDTHS = (16, 32, 64, 128)


class ScannerClassifier(nn.Module):
    """Four times 3x3 convolution of stride 2, batch norm, ReLU; average pooling; a linear layer."""

    def __init__(self, scanners: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in zip((3, *WIDTHS), WIDTHS, strict=False):
            layers += [nn.Conv2d(inputs, outputs, 3, 2, 1), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(WIDTHS[-1], scanners))
        self.progress = 1.0

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, 3, H, W) in [0, 1] to logits (N, scanners)."""
        logits: Tensor = self.layers(images * 2 - 1)
        return logits

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy on the scanner; a learner for `mitosight.engine.fit`."""
        return {"scanner": functional.cross_entropy(self(batch.images), batch.domain)}


def train(source: TileSource, steps: int, device: torch.device, seed: int) -> ScannerClassifier:
    """A classifier of the scanners of `source`, in evaluation mode on `device`, after `steps` steps.

    Raises:
        InputError: an image cannot be read.
    """
    torch.manual_seed(seed)
    classifier = ScannerClassifier(len(source.scanners)).to(device)
    with tempfile.TemporaryDirectory() as folder:
        log = RunLog(Path(folder))
        try:
            log.say(f"scanner classifier: {', '.join(source.scanners)}; {steps} steps")
            fit(classifier, source, Optimisation(epochs=1, steps_per_epoch=steps, lr=1e-3), log, seed=seed)
        finally:
            log.close()
    return classifier.eval()
