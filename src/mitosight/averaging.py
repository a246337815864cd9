"""The running mean of a network's weights over the steps of a training (Polyak averaging)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

FIRST = 10  # the first steps count less, so that the mean does not hang on the weights before them


class Average:
    """Of weights and of the statistics of batch norms; what is no real number, such as a count, is the last one.

    After step s (from 1) the mean moves towards the weights by 1 - min(decay, s / (s + 9)).

    Attributes:
        mean: by name, as in the module's `state_dict`.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module, self.decay = module, decay
        self.mean = {name: value.detach().clone() for name, value in module.state_dict().items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Takes in the weights after step number `step`, from 1."""
        decay = min(self.decay, step / (step + FIRST - 1))
        for name, value in self.module.state_dict().items():
            if value.is_floating_point():
                self.mean[name].lerp_(value, 1 - decay)
            else:
                self.mean[name].copy_(value)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The module has the mean for as long as the block takes."""
        own = {name: value.detach().clone() for name, value in self.module.state_dict().items()}
        self._put(self.mean)
        try:
            yield
        finally:
            self._put(own)

    @torch.no_grad()
    def _put(self, values: dict[str, Tensor]) -> None:
        for name, value in self.module.state_dict().items():
            value.copy_(values[name])
