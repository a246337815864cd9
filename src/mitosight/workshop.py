"""What a training lends a method for its preparation: tiles of any kind, and trainings of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from mitosight.augment import Augment
from mitosight.dataset import TileSource
from mitosight.engine import fit, process
from mitosight.errors import InputError
from mitosight.log import RunLog
from mitosight.optimisation import Optimisation
from mitosight.outputs import whole


@dataclass
class Workshop:
    """Tiles and preparatory trainings below the folder of a training.

    Attributes:
        source: batches as the training itself will see them.
        every: tiles of all training scanners, those without labels included.
        out: folder of the training.
        begin: called before anything is written.
    """

    source: TileSource
    every: TileSource
    out: Path
    device: torch.device
    seed: int
    workers: int
    begin: Callable[[], None]

    def tiles(self, tile_px: int, tiles_per_scanner: int, augment: Augment | None = None) -> TileSource:
        """Batches of tiles from anywhere in the training regions of all scanners."""
        return replace(
            self.every, tile_px=tile_px, tiles_per_scanner=tiles_per_scanner, near_figure=0.0, augment=augment
        )

    def fit(
        self, name: str, learner: nn.Module, source: TileSource, optimisation: Optimisation, facts: dict[str, Any]
    ) -> Path:
        """Trains `learner` by the engine in the folder `name`, resumably; returns `NAME/NAME.safetensors`.

        The file holds the weights of `learner` and `facts` in its header. Where it is there already, its weights are
        put into `learner` instead.

        Raises:
            InputError: a loss is not finite, or the file that is there does not fit.
        """
        folder = self.out / name
        file = folder / f"{name}.safetensors"
        learner.to(self.device)
        if file.is_file():
            return _loaded(file, learner)
        self.begin()
        folder.mkdir(parents=True, exist_ok=True)
        log = RunLog(folder, quiet=process()[0] > 0)
        try:
            log.say(f"{name}: {', '.join(source.scanners)}")
            fit(learner, source, optimisation, log, seed=self.seed, workers=self.workers)
        finally:
            log.close()
        if process()[0] == 0:
            tensors = {key: value.detach().cpu().contiguous() for key, value in learner.state_dict().items()}
            with whole(file) as temporary:
                temporary.write_bytes(save(tensors, metadata={"mitosight": json.dumps(facts)}))
        return file


def _loaded(file: Path, learner: nn.Module) -> Path:
    try:
        learner.load_state_dict(load_file(file))
    except (SafetensorError, OSError, RuntimeError) as error:
        told = str(error).splitlines()[0]
        raise InputError(file, f"does not fit this recipe ({told})", "remove it to train it again") from None
    return file
