"""What a training lends a method for its preparation: tiles of any kind, and trainings of its own."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from mitosight import pool
from mitosight.augment import Augment
from mitosight.dataset import TileSource
from mitosight.engine import agreed, fit, process
from mitosight.errors import InputError
from mitosight.log import RunLog
from mitosight.optimisation import Optimisation
from mitosight.outputs import whole
from mitosight.patches import PatchSource, candidates_of
from mitosight.pool import Pool
from mitosight.regions import fingerprints
from mitosight.seen import SLIDES, said_by
from mitosight.tiles import MEASURED

Part = Literal["train", "val"]
Item = TypeVar("Item")


@dataclass
class Workshop:
    """Tiles and preparatory trainings below the folder of a training.

    Attributes:
        source: batches of tiles as a training on tiles will see them.
        seen: the same of the part "val", for the validation losses.
        every: tiles of all training scanners, those without labels included.
        out: folder of the training.
        begin: called before anything is written.
        met: fingerprints of the slides that the files learned from which the training was given, those of preparations
            that were there already among them.
    """

    source: TileSource
    seen: TileSource
    every: TileSource
    out: Path
    device: torch.device
    seed: int
    workers: int
    begin: Callable[[], None]
    met: set[str] = field(default_factory=set)

    def tiles(self, tile_px: int, tiles_per_scanner: int, augment: Augment | None = None) -> TileSource:
        """Batches of tiles from anywhere in the training regions of all scanners."""
        return replace(
            self.every, tile_px=tile_px, tiles_per_scanner=tiles_per_scanner, near_figure=0.0, augment=augment
        )

    def candidates(self, part: Part, finder: Any) -> Pool:
        """The candidates that `finder` finds in the regions of a part; made once, kept in `OUT/candidates`.

        Raises:
            InputError: an image cannot be read, or the file that is there is none, or of another finder.
        """
        return self.agreed(lambda: self._candidates(part, finder))

    def _candidates(self, part: Part, finder: Any) -> Pool:
        source, file = self._of(part), self.out / "candidates" / f"{part}.safetensors"
        read = {"mpp": source.mpp, "mpp_tolerance": source.mpp_tolerance, "measured": MEASURED}
        found_by = {"finder": finder.name, **asdict(finder), **read}
        if file.is_file():
            return pool.read(file, source.regions, found_by)
        self.begin()
        found = pool.joined(
            [
                candidates_of(
                    k, region, source.images, finder, source.is_labelled(region), source.mpp, source.mpp_tolerance
                )
                for k, region in enumerate(_shown(source.regions, f"candidates of {part}"))
            ]
        )
        found.write(file, source.regions, found_by)
        return found

    def patches(
        self,
        part: Part,
        candidates: Pool,
        chosen: NDArray[np.intp],
        label: NDArray[np.int64],
        patch_px: int,
        size: int,
        **how: Any,
    ) -> PatchSource:
        """Batches of `size` patches around the `chosen` candidates, with classes `label`.

        `how` is more of what `PatchSource` takes: `order`, `augment`, and `figure`, by default those of class POSITIVE.
        """
        source = self._of(part)
        settings = {"figure": label == pool.POSITIVE, "seed": source.seed, "length": source.length, **how}
        return PatchSource(
            source.images,
            source.regions,
            self.source.scanners,
            candidates,
            chosen,
            label,
            patch_px=patch_px,
            size=size,
            mpp=source.mpp,
            mpp_tolerance=source.mpp_tolerance,
            **settings,
        )

    def agreed(self, made: Callable[[], Item]) -> Item:
        """What `made` gives in the first of several processes, in all of them; see `engine.agreed`."""
        return agreed(made, self.device)

    def _of(self, part: Part) -> TileSource:
        return self.source if part == "train" else self.seen

    def fit(
        self, name: str, learner: nn.Module, source: TileSource, optimisation: Optimisation, facts: dict[str, Any]
    ) -> Path:
        """Trains `learner` by the engine in the folder `name`, resumably; returns `NAME/NAME.safetensors`.

        The file holds the weights of `learner`, and in its header `facts` and the fingerprints of the slides, those of
        `met` included. Where it is there already, its weights are put into `learner` instead.

        Raises:
            InputError: a loss is not finite, or the file that is there does not fit.
        """
        folder = self.out / name
        file = folder / f"{name}.safetensors"
        learner.to(self.device)
        if file.is_file():
            loaded(file, learner)
            self.met |= said_by(file)
            return file
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
                slides = fingerprints(slide for region in source.regions for slide in region.slides) | self.met
                told = json.dumps({**facts, SLIDES: sorted(slides)})
                temporary.write_bytes(save(tensors, metadata={"mitosight": told}))
        return file


def loaded(file: Path, learner: nn.Module) -> Path:
    """Puts the weights that `Workshop.fit` left in `file` into `learner`; returns the file.

    Raises:
        InputError: they do not fit.
    """
    try:
        learner.load_state_dict(load_file(file))
    except (SafetensorError, OSError, RuntimeError) as error:
        told = str(error).splitlines()[0]
        raise InputError(file, f"does not fit this recipe ({told})", "remove it to train it again") from None
    return file


def _shown(items: Sequence[Item], what: str) -> Iterable[Item]:
    """The items, with a progress bar on a terminal."""
    quiet = process()[0] > 0 or not sys.stderr.isatty()
    return track(items, what, console=Console(stderr=True), disable=quiet)
