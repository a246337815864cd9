"""Batch: the tensors of one training step."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor


@dataclass
class Batch:
    """Tensors of one step.

    Attributes:
        images: (N, 3, H, W) float32 RGB in [0, 1].
        figures: N tensors (n, 3) float32: x, y of the centre and side of its box, px of the tile.
        hard_negatives: the same for labelled look-alikes.
        domain: (N,) int64, index of the scanner.
        labelled: (N,) bool, False where nobody annotated the region: no detection loss there.
        columns: names of the N domains by column of `domains.csv`: scanner, tumor_type, species; {} where nobody asks.
        label: (N,) int64, classes of patches around candidates; empty for tiles.
    """

    images: Tensor
    figures: list[Tensor]
    hard_negatives: list[Tensor]
    domain: Tensor
    labelled: Tensor
    columns: dict[str, list[str]] = field(default_factory=dict)
    label: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device) -> Batch:
        """The same batch on `device`."""
        return replace(
            self,
            images=self.images.to(device, non_blocking=True),
            figures=_moved(self.figures, device),
            hard_negatives=_moved(self.hard_negatives, device),
            domain=self.domain.to(device, non_blocking=True),
            labelled=self.labelled.to(device, non_blocking=True),
            label=self.label.to(device, non_blocking=True),
        )

    def pin_memory(self) -> Batch:
        """The same batch in memory that a GPU can copy from by itself; torch's DataLoader asks for it."""
        return replace(
            self,
            images=self.images.pin_memory(),
            domain=self.domain.pin_memory(),
            labelled=self.labelled.pin_memory(),
            label=self.label.pin_memory(),
        )

    def only(self, chosen: Tensor) -> Batch:
        """The tiles where `chosen` (N,) bool is True."""
        rows = chosen.nonzero()[:, 0]  # once: an index by bool is looked for anew each time, and a GPU waited for
        index = rows.tolist()
        return Batch(
            self.images[rows],
            [self.figures[i] for i in index],
            [self.hard_negatives[i] for i in index],
            self.domain[rows],
            self.labelled[rows],
            {column: [names[i] for i in index] for column, names in self.columns.items()},
            self.label[rows] if len(self.label) else self.label,
        )


def _moved(parts: list[Tensor], device: torch.device) -> list[Tensor]:
    """Tensors (n, 3) on `device`, by one copy: hundreds of small ones would take a GPU longer than the images do."""
    if all(part.device == device for part in parts):
        return parts
    return list(torch.split(torch.cat(parts).to(device, non_blocking=True), [len(part) for part in parts]))
