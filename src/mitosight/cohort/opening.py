"""The detector that searches a cohort, in the runtime that was asked for, seen to find the same in its slides."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mitosight import checkpoint, colours, inference, modelfile, pairing, runtime
from mitosight.cohort.settings import FirstLook, Settings, of_first_look, tissue_of
from mitosight.device import placed
from mitosight.errors import InputError, UsageError
from mitosight.methods.detector import Detector
from mitosight.outputs import sha256
from mitosight.slide import Slide

SHOWN = 8  # tiles, by which a runtime is compared with torch
SHOWN_PX = 512  # their side at most: several runtimes hold one in memory, and eight see more of a slide than two


def opened(
    slides: Sequence[Path], model: Path, settings: Settings, device: torch.device, looks_first: bool = False
) -> tuple[Path, Detector, Settings]:
    """The model's file, its detector on `device` in the runtime of `settings`, and settings with the one it became.

    A runtime is compared with torch on tiles of the first slide that can be read, once for each model and machine;
    less strictly where the model `looks_first`.

    Raises:
        InputError: the model cannot be used.
        UsageError: as `runtime.open_runtime`.
    """
    if runtime.is_exported(model):
        detector = runtime.load(model, None if settings.runtime == "torch" else settings.runtime, device=device)
        return model, detector, replace(settings, runtime=str(detector.runtime["name"]))
    file = modelfile.locate(model)
    plain = placed(checkpoint.load(file), device)
    if settings.runtime == "torch":
        return file, plain, settings
    strict = of_first_look(plain, settings.runtime) if looks_first else {}
    tiles = partial(shown, slides, plain, settings)
    detector = runtime.open_runtime(plain, file, settings.runtime, tiles, **strict)
    return file, detector, replace(settings, runtime=str(detector.runtime.get("name", "torch")))


def first_look(model: Path, slides: Sequence[Path], settings: Settings, device: torch.device) -> FirstLook:
    """The first look beside a model's file, in the runtime of `settings`: for "auto", the fastest for it.

    Raises:
        UsageError: there is none.
        InputError: it was made for another model, or cannot be used.
    """
    file = modelfile.locate(model.parent / pairing.FOLDER)
    if not file.is_file():
        raise UsageError(file, "is not there: the model has no first look", "make it with mitosight pair")
    facts = checkpoint.read_header(file)["provenance"].get("first", {})
    if facts.get("of") != sha256(model):
        raise InputError(file, "is the first look of another model", "make it again with mitosight pair")
    _, detector, _ = opened(slides, file, settings, device, looks_first=True)
    return FirstLook(detector, file, sha256(file))


def shown(slides: Sequence[Path], detector: Detector, settings: Settings) -> list[NDArray[np.uint8]]:
    """Tiles from all over the first slide that can be read and holds tissue; none where there is no such slide."""
    for path in slides:
        with suppress(InputError), Slide(path, mpp=settings.mpp, table_mpp=settings.table_of(path)) as slide:
            side = min(SHOWN_PX, settings.tile_px or detector.tile_px)
            covering = inference.cover(slide, detector, side, tissue_of(slide, settings.tissue))
            if covering.tiles:
                chosen = np.linspace(0, len(covering.tiles) - 1, min(SHOWN, len(covering.tiles))).round().astype(int)
                table = inference.own(detector, covering).table
                return [colours.changed(covering.read(covering.tiles[k]), table) for k in chosen]
    return []
