"""How a training steps: the settings, the learning rate of each step, the optimiser they describe."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import nn

Schedule = Literal["one-cycle", "cosine", "constant", "step"]
Number = Annotated[int, Field(ge=1)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Decay = Annotated[float, Field(ge=0, lt=1)]


@dataclass(frozen=True)
class Optimisation:
    """How a training steps.

    Attributes:
        epochs, steps_per_epoch: length.
        optimiser: "adamw" (decoupled weight decay), "adam" or "sgd".
        lr: the highest learning rate.
        momentum: first-moment decay (Adam) or momentum (SGD); the one-cycle schedule moves it between its two ends.
        schedule: "one-cycle" (fastai: 30 % rise from lr / 25, cosine fall to lr / 250,000; momentum 0.95, 0.85,
            0.95), "cosine" to 0, "constant", or "step" (times 0.1 at each share of `milestones`).
        warmup_steps: the rate of the first steps rises linearly to that of the schedule, from a thousandth of it.
        clip_norm: largest norm of the gradient; 0 for none.
        average: decay of a running mean of the weights, which is what is validated and kept; 0 for the weights
            themselves. See `averaging`.
        precision: "fp32" or "bf16" (autocast).
    """

    epochs: Number = 200
    steps_per_epoch: Number = 500
    optimiser: Literal["adamw", "adam", "sgd"] = "adamw"
    lr: Amount = 1e-4
    weight_decay: Amount = 0.01
    momentum: Decay = 0.9
    beta2: Decay = 0.99
    schedule: Schedule = "one-cycle"
    milestones: tuple[Amount, ...] = (0.64, 0.9)
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    clip_norm: Amount = 0.0
    average: Decay = 0.0
    precision: Literal["fp32", "bf16"] = "fp32"


def learning_rate(optimisation: Optimisation, step: int, total: int) -> tuple[float, float]:
    """Learning rate and momentum of one step out of `total`."""
    lr, momentum = _scheduled(optimisation, step, total)
    if step < optimisation.warmup_steps:
        share = step / optimisation.warmup_steps
        lr *= 1e-3 * (1 - share) + share
    return lr, momentum


def _scheduled(optimisation: Optimisation, step: int, total: int) -> tuple[float, float]:
    lr, share = optimisation.lr, step / max(1, total - 1)
    match optimisation.schedule:
        case "one-cycle":
            turn = max(0.3 * total - 1, 1e-9)  # the last step of the rise
            if step <= turn:
                return _cosine(lr / 25, lr, step / turn), _cosine(0.95, 0.85, step / turn)
            fall = (step - turn) / max(total - 1 - turn, 1e-9)
            return _cosine(lr, lr / 25e4, fall), _cosine(0.85, 0.95, fall)
        case "cosine":
            return _cosine(lr, 0.0, share), optimisation.momentum
        case "step":
            passed = sum(step >= m * total for m in optimisation.milestones)
            return float(lr * 0.1**passed), optimisation.momentum
        case _:
            return lr, optimisation.momentum


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


def optimiser_for(module: nn.Module, optimisation: Optimisation) -> torch.optim.Optimizer:
    """An optimiser of the weights of `module` that learn; on a GPU Adam takes one kernel for many of them."""
    weights = [p for p in module.parameters() if p.requires_grad]
    lr, decay, momentum = optimisation.lr, optimisation.weight_decay, optimisation.momentum
    if optimisation.optimiser == "sgd":
        return torch.optim.SGD(weights, lr=lr, momentum=momentum, weight_decay=decay)
    fused = all(p.is_cuda for p in weights) or None  # None leaves it to torch
    kind = torch.optim.AdamW if optimisation.optimiser == "adamw" else torch.optim.Adam
    return kind(weights, lr=lr, betas=(momentum, optimisation.beta2), weight_decay=decay, fused=fused)
