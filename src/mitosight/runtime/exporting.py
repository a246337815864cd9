"""From a model file to an exported one, calibrated and compared with torch on images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mitosight import checkpoint, modelfile
from mitosight.colours import changed
from mitosight.dataset import standard_table, working_mpp
from mitosight.errors import InputError, UsageError
from mitosight.methods.detector import Detector
from mitosight.outputs import sha256
from mitosight.runtime import cache
from mitosight.runtime.agreement import compare, drawn, judged_from
from mitosight.runtime.choice import TOLERANCE, kept_file, session
from mitosight.runtime.conversion import with_runner
from mitosight.runtime.files import SUFFIX, export, form_of, precision_of
from mitosight.slide import Slide
from mitosight.tiles import grid
from mitosight.tissue import find_tissue

HELD_OUT = 4  # of so many tiles one is for the comparison, the others calibrate


@dataclass(frozen=True)
class Images:
    """Images, how many tiles are taken of them together, and their µm per px over what they say."""

    paths: Sequence[Path]
    count: int = 32
    mpp: float | None = None


def export_model(
    model: str | Path,
    name: str,
    out: Path | None = None,
    images: Images | None = None,
    tolerance: float | None = None,
) -> tuple[Path, str]:
    """Writes an exported file once its points were compared with torch's; returns it, and the agreement in words.

    Args:
        model: model file or folder.
        name: the runtime that it is for; see `files.export`.
        out: None keeps the file where `open_runtime` looks for it.
        images: whose tiles are compared; for int8 a quarter is, and the others calibrate. Without images drawn ones.
        tolerance: of scores; by default that of the precision.

    Raises:
        UsageError: as `files.export`, `out` has another suffix than the format, or the points do not agree.
        InputError: a model or an image cannot be read, or the images hold no tissue.
    """
    file, form, int8 = modelfile.locate(model), form_of(name), precision_of(name) == "int8"
    if out is not None and out.suffix != SUFFIX[form]:
        raise UsageError(out, f"is no name of a file for {form}", f"expected one that ends in {SUFFIX[form]}")
    header, detector = modelfile.read_header(file), checkpoint.load(file)
    tiles = tissue_tiles(images, detector) if images else []
    shown = tiles[::HELD_OUT] if int8 and tiles else tiles or drawn(detector, detector.tile_px)
    rest = [tile for i, tile in enumerate(tiles) if i % HELD_OUT] if int8 else []
    tolerated = TOLERANCE[precision_of(name)] if tolerance is None else tolerance
    least = judged_from(detector, precision_of(name), tolerated)
    words: list[str] = []

    def verify(written: Path) -> dict[str, Any]:
        runner = session(written, name, torch.device("cpu"), torch.get_num_threads())
        found = compare(detector, with_runner(detector, runner, {"name": name}), shown, least)
        if not found.within(tolerated):
            raise UsageError(
                file, f"in {name} finds other figures than in torch: {found.told()}",
                f"accepted are 0 points and scores within {tolerated:g}; give more images, or --tolerance",
            )  # fmt: skip
        words.append(found.told())
        return {"tolerance": tolerated, "tiles": len(shown), "told": found.told(), **asdict(found)}

    checksum = sha256(file)
    out = out or kept_file(cache.folder(checksum), name)
    export(detector, header, out, name, calibrate=rest, model_sha256=checksum, verify=verify)
    return out, words[0]


def tissue_tiles(images: Images, detector: Detector) -> list[NDArray[np.uint8]]:
    """At most `images.count` tiles (side, side, 3) that hold tissue, as many of each image, at random places.

    Raises:
        InputError: an image cannot be read, or is smaller than a tile; or none holds tissue.
    """
    found: list[NDArray[np.uint8]] = []
    side = detector.tile_px
    count = images.count
    for path in images.paths:
        with Slide(path, mpp=images.mpp) as slide:
            read_mpp = working_mpp(slide.mpp, detector.mpp, detector.mpp_tolerance)
            scale = read_mpp / slide.mpp
            width, height = round(slide.width_px / scale), round(slide.height_px / scale)
            if min(width, height) < side:
                raise InputError(path, f"is smaller than a tile of {side} px", "choose larger images")
            where = find_tissue(slide)
            places = [t for t in grid(width, height, side, 0) if where.touches(*(scale * edge for edge in t.owns))]
            own = standard_table(slide) if detector.standardised else None
            for k in np.random.default_rng(0).permutation(len(places))[: -(-count // len(images.paths))]:
                at = (places[k].x_px * scale, places[k].y_px * scale)
                tile = slide.read(at, (side, side), None if scale == 1 else read_mpp)
                found.append(changed(tile, own))
    if not found:
        raise InputError(images.paths[0], "holds no tissue, as the other images", "choose images with tissue")
    return found[:count]
