"""A copy of a model goes on learning: what it remembers with labels, a new scanner's samples without (Kondo 2021)."""

from __future__ import annotations

import math
import sys
import time
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import Dataset

from mitosight.adaptation.memory import Memory
from mitosight.adaptation.remember import AT_ONCE, certainty
from mitosight.adaptation.target import Target
from mitosight.batch import Batch
from mitosight.engine import fit
from mitosight.errors import InputError, UsageError
from mitosight.log import RunLog
from mitosight.material import Material
from mitosight.methods import METHODS, create
from mitosight.methods.detector import Detector
from mitosight.optimisation import Optimisation
from mitosight.recipe import Recipe

PATCHES, TILES = 128, 12  # in a step
BROKEN = "not finite"  # what the engine says of a loss, and `learned` of weights, that a learning rate has ruined


@dataclass(frozen=True)
class Settings:
    """How a model adapts; learning rate, epochs and the 128 patches of a step are the paper's.

    Attributes:
        lr: of Adam, constant; 1 at most, where every model is long ruined.
        epochs: rounds of all remembered and all new samples, mixed.
        batch: samples in a step; 0 for 128 patches or 12 tiles.
        guard: by how much the F1 on remembered validation samples may fall at most.
        most: samples of one slide; the paper takes all candidates of its image, a whole slide has too many.
        keep_norm: whether batch norms keep the statistics of the training. None: those of a detector that learned from
            as many mitoses as others do, since next to none of a slide's samples are mitoses; else they follow the
            mixture, as in any training. The paper does not say.
        bf16: half precision, where the processor is faster by it.
        seed: of the order of the samples.
    """

    lr: float = 1.7e-6
    epochs: int = 5
    batch: int = 0
    guard: float = 0.02
    most: int = 50_000
    keep_norm: bool | None = None
    bf16: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.lr <= 1:
            raise UsageError(None, f"lr is {self.lr}", "expected 0 to 1")
        if not (self.guard >= 0 and math.isfinite(self.guard)):
            raise UsageError(None, f"guard is {self.guard}", "expected 0 or more")
        for name, least in {"epochs": 1, "batch": 0, "most": 1, "seed": 0}.items():
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise UsageError(None, f"{name} is {value}", f"expected a whole number, {least} or more")


@dataclass(frozen=True)
class Adapted:
    """A detector for a scanner, adapted or, where that came to nothing, as it was, and what the record says of it."""

    detector: Detector
    message: str
    facts: dict[str, Any]


def adaptable() -> list[str]:
    """Names of the methods with a domain branch."""
    return [name for name, method in METHODS.items() if method.new_scanner is not Detector.new_scanner]


def check(detector: Detector) -> None:
    """Raises UsageError where a detector has no domain branch; names the methods that have one."""
    try:
        deepcopy(detector).new_scanner()
    except UsageError as error:
        raise UsageError(None, error.found, f"methods that have one are {', '.join(adaptable())}") from None


def check_recipe(asked: Recipe, material: Material) -> None:
    """As `check`, of the detector that a recipe would train; UsageError too where its arguments do not fit."""
    told = METHODS[asked.method].told_by_data(asked.detector, material.domains())
    check(create(asked.method, material.scanners, told))


def adapt(
    detector: Detector, memory: Memory, target: Target, settings: Settings, before: float | None = None
) -> Adapted:
    """Adapts a copy of a detector to the samples of one scanner; the detector itself stays as it is.

    The losses are those of the method's training: of detection on remembered samples, of the scanner on all, the new
    one being one more. They are averaged over batches in which both are mixed. Where there is nothing to adapt to, the
    learning breaks down or the guard refuses, the detector stays in use as it is, and the message says why.

    Args:
        before: `remembered_f1` of the detector, where it is known.

    Raises:
        UsageError: the detector has no domain branch.
        InputError: a remembered sample is damaged.
    """
    check(detector)
    started = time.monotonic()
    device = next(detector.parameters()).device
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    before = remembered_f1(detector, memory) if before is None else before
    copy, steps, told = _tried(detector, memory, target, settings)
    after = None if copy is None else remembered_f1(copy, memory)
    if after is not None and after < before - settings.guard:
        copy, told = None, f"not adapted: the F1 on remembered slides would fall from {before:.3f} to {after:.3f}"
    facts = {
        "used": copy is not None,
        "source_f1_before": round(before, 4),
        "source_f1_after": None if after is None else round(after, 4),
        "samples": len(target),
        "remembered": int((~memory.validation).sum()),
        "steps": steps,
        "seconds": round(time.monotonic() - started, 1),
        "peak_mb": peak_mb(device),
        "device": str(device),
    }
    return Adapted(detector if copy is None else copy, told, facts)


def _tried(
    detector: Detector, memory: Memory, target: Target, settings: Settings
) -> tuple[Detector | None, int | None, str]:
    """The copy that has learned on, in how many steps, and what is told of it; no copy where there can be none."""
    if not len(target):
        return None, None, "not adapted: no candidate to adapt to"
    try:
        copy, steps = learned(detector, memory, target, settings)
    except InputError as error:
        if BROKEN not in error.found:
            raise
        return None, None, f"not adapted: {error.found}; lower --lr"
    return copy, steps, f"adapted to {len(target)} samples"


def learned(detector: Detector, memory: Memory, target: Target, settings: Settings) -> tuple[Detector, int]:
    """A copy of a detector after it has learned on, and in how many steps; no guard.

    Raises:
        InputError: a loss, or a weight after the last step, is not finite.
    """
    copy = deepcopy(detector).to(memory_format=torch.channels_last)
    batches = Mixed(memory, target, copy.new_scanner(), settings)
    optimisation = Optimisation(
        epochs=settings.epochs,
        steps_per_epoch=len(batches),
        optimiser="adam",
        lr=settings.lr,
        weight_decay=0.0,
        beta2=0.999,
        schedule="constant",
        precision="bf16" if settings.bf16 else "fp32",
    )
    with TemporaryDirectory() as folder:  # of the engine's state, which nobody goes on from
        keep_norm = copy.learns_balanced if settings.keep_norm is None else settings.keep_norm
        fit(_Adapting(copy, keep_norm), batches, optimisation, RunLog(Path(folder), True), seed=settings.seed)
    copy.eval().to(memory_format=torch.contiguous_format)  # as from its file: the same scores to the last digit
    steps = optimisation.epochs * optimisation.steps_per_epoch
    if not all(value.isfinite().all() for value in copy.state_dict().values()):
        raise InputError(None, f"a weight is {BROKEN} after {steps} steps", "lower the learning rate")
    return copy, steps


class Mixed(Dataset[Batch]):
    """Batches of remembered training samples and of a target, in random order; batch i is a function of seed and i.

    Attributes:
        source: (n,) indices of the training samples in the memory.
    """

    def __init__(self, memory: Memory, target: Target, scanner: int, settings: Settings) -> None:
        self.memory, self.target, self.scanner, self.seed = memory, target, scanner, settings.seed
        self.source = np.flatnonzero(~memory.validation)
        self.every = len(self.source) + len(target)
        self.size = min(self.every, settings.batch or (PATCHES if memory.patches else TILES))
        self._round: tuple[int, NDArray[np.intp]] | None = None

    def __len__(self) -> int:
        """Batches in a round; what fills none is left out of the round."""
        return self.every // self.size

    def __getitem__(self, index: int) -> Batch:
        number, slot = divmod(index, len(self))
        if self._round is None or self._round[0] != number:
            self._round = number, np.random.default_rng((self.seed, number)).permutation(self.every)
        drawn = self._round[1][slot * self.size : (slot + 1) * self.size]
        old, new = drawn[drawn < len(self.source)], drawn[drawn >= len(self.source)] - len(self.source)
        parts = self.memory.batch(self.source[old]), self.target.batch(new.tolist(), self.scanner, self.memory.patches)
        return _together(*parts)


def _together(a: Batch, b: Batch) -> Batch:
    return Batch(
        torch.cat([a.images, b.images]),
        a.figures + b.figures,
        a.hard_negatives + b.hard_negatives,
        torch.cat([a.domain, b.domain]),
        torch.cat([a.labelled, b.labelled]),
        label=torch.cat([a.label, b.label]),
    )


class _Adapting(nn.Module):
    """A detector whose training is done (its `progress` stays 1), learning on."""

    def __init__(self, detector: Detector, keep_norm: bool) -> None:
        super().__init__()
        self.detector, self.keep_norm, self.progress = detector, keep_norm, 1.0

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        return self.detector.losses(batch)

    def train(self, mode: bool = True) -> _Adapting:
        super().train(mode)
        for module in self.modules() if self.keep_norm else ():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self


def remembered_f1(detector: Detector, memory: Memory) -> float:
    """F1 on the remembered validation samples at the detector's threshold, averaged over scanners with figures.

    A sample counts as mitotic when the highest score in it reaches the threshold.
    """
    index = np.flatnonzero(memory.validation & memory.labelled)
    parts = np.split(index, np.arange(AT_ONCE, len(index), AT_ONCE))
    sure = [certainty(detector, memory.batch(part).images) for part in parts if len(part)]
    positive = np.concatenate(sure) >= detector.threshold if sure else np.empty(0, bool)
    holds, domain = memory.holds[index], memory.domain[index]
    scores = [_f1(positive[domain == d], holds[domain == d]) for d in np.unique(domain[holds])]
    return float(np.mean(scores)) if scores else 0.0


def _f1(positive: NDArray[np.bool_], holds: NDArray[np.bool_]) -> float:
    return 2 * float((positive & holds).sum()) / float(positive.sum() + holds.sum())


def peak_mb(device: torch.device) -> float:
    """Highest memory in MB: of the GPU since it was reset, else of this process so far."""
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)
