"""A study of one style transfer on the tiles of a data folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mitosight import checkpoint, modelfile
from mitosight.augment import Turns
from mitosight.batch import Batch
from mitosight.dataset import TileSource
from mitosight.errors import UsageError
from mitosight.measured import measured
from mitosight.methods.detector import Detector
from mitosight.methods.parts.restyle import draw_codes
from mitosight.methods.parts.style import StyleTransfer, locate
from mitosight.outputs import versions, write_json
from mitosight.regions import DataFolder, Region
from mitosight.styles.classifier import train
from mitosight.styles.findings import MIXTURE, REAL, Findings
from mitosight.styles.sheet import write_sheet

PER_BATCH = 2  # tiles of each scanner at a time
TRAINING_TILES = 4  # of each scanner in a step of the classifier


@dataclass(frozen=True)
class Settings:
    """What is studied.

    Attributes:
        part: of the split, whose slides neither classifier nor transfer should have seen.
        tile_px: side of the tiles; what the detector is trained on, since the transfer meets them there.
        tiles_per_scanner: tiles to measure on, half of them around figures.
        rows, mixtures: of the sheet.
        classifier_steps: of the scanner classifier, four tiles of each scanner a step.
        seed: of tiles, mixtures and the classifier.
    """

    part: str = "val"
    tile_px: int = 256
    tiles_per_scanner: int = 32
    rows: int = 6
    mixtures: int = 3
    classifier_steps: int = 300
    seed: int = 0


def find(path: Path) -> Path:
    """The style transfer that `path` means: its own file or folder, or a detector that was trained with one."""
    model = modelfile.locate(path)
    file = locate(model.parent if model.name == modelfile.FILE else path)
    if not file.is_file() and model.is_file() and model.name == modelfile.FILE:
        return locate(checkpoint.read_header(model)["arguments"].get("style") or file)
    return file


def study(
    transfer: StyleTransfer,
    data: DataFolder,
    out: Path,
    settings: Settings,
    detector: Detector | None = None,
    device: torch.device | None = None,
) -> dict[str, Any]:
    """Writes `styles.png` and `styles.json` to `out`; returns what the latter holds.

    `reading`: how often a classifier, trained apart on the part "train", names the scanner of real tiles, and the one
    that a tile of another scanner was painted as; None where the transfer and the data share fewer than two scanners.
    `structure`: see `structure.kept`, against the same tile painted in each style, in random mixtures, and against
    another tile, which is chance. `scores`: mean score at annotated figures, 0 where `detector` finds none, before and
    after.

    Raises:
        InputError: a part is missing or holds no figure, or an image cannot be read.
        UsageError: `out` is a file, or the detector reads another resolution than the transfer.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(out, "is a file", "--out names a folder")
    if detector is not None and abs(detector.mpp - transfer.mpp) > transfer.mpp_tolerance * transfer.mpp:
        raise UsageError(None, f"the detector reads {detector.mpp:g} µm/px", f"the transfer {transfer.mpp:g}")
    device = device or torch.device("cpu")
    transfer.to(device).eval()
    parts = {name: measured(data.images, data.part(name)) for name in ("train", settings.part)}
    there = [sorted({r.domain.scanner for r in regions}) for regions in parts.values()]
    known = [s for s in transfer.scanners if s in there[0]]
    source = _source(transfer, data.images, parts[settings.part], there[1], settings)
    write_sheet(out / "styles.png", *_sheet(transfer, source, settings, device))
    classifier = None
    if len(known) > 1:
        tiles = _source(transfer, data.images, parts["train"], known, settings)
        tiles = replace(tiles, augment=Turns(flips=True), near_figure=0.0, tiles_per_scanner=TRAINING_TILES)
        classifier = train(tiles, settings.classifier_steps, device, settings.seed)
    found = Findings(known, classifier, detector)
    torch.manual_seed(settings.seed)
    with torch.inference_mode():
        for index in range(-(-settings.tiles_per_scanner // PER_BATCH)):
            batch = source[index].to(device)
            found.add(batch, _pictures(transfer, batch))
    facts = {
        "scanners": list(transfer.scanners),
        "arguments": transfer.arguments,
        "settings": asdict(settings),
        "tiles": found.tiles,
        **found.facts(),
        "versions": versions(),
    }
    write_json(out / "styles.json", facts)
    return facts


def _source(
    transfer: StyleTransfer, images: Path, regions: Sequence[Region], scanners: Sequence[str], settings: Settings
) -> TileSource:
    return TileSource(
        images,
        regions,
        scanners,
        scanners,
        tile_px=settings.tile_px,
        mpp=transfer.mpp,
        mpp_tolerance=transfer.mpp_tolerance,
        tiles_per_scanner=PER_BATCH,
        seed=settings.seed,
    )


def _pictures(transfer: StyleTransfer, batch: Batch) -> dict[str, Tensor]:
    """A batch as it is, painted in each style, and in a random mixture each."""
    codes = {name: transfer.one_hot(torch.full((len(batch),), i)) for i, name in enumerate(transfer.scanners)}
    codes[MIXTURE] = draw_codes(len(batch), len(transfer.scanners), "dirichlet", 1.0)
    painted = {name: transfer.generator.restyled(batch.images, c.to(batch.images.device)) for name, c in codes.items()}
    return {REAL: batch.images, **painted}


def _sheet(
    transfer: StyleTransfer, source: TileSource, settings: Settings, device: torch.device
) -> tuple[list[str], list[str], list[list[Any]]]:
    torch.manual_seed(settings.seed)
    styles = len(transfer.scanners)
    codes = torch.cat([torch.eye(styles), draw_codes(settings.mixtures, styles, "dirichlet", 1.0)])
    columns = ["original", *transfer.scanners]
    columns += ["mixture " + " ".join(f"{share:.2f}" for share in code) for code in codes[styles:].tolist()]
    rows: list[str] = []
    pictures: list[list[Any]] = []
    for index in range(1_000_000, 1_000_000 + settings.rows):
        batch = source[index].to(device)
        tile = len(rows) % len(source.scanners)  # the first tiles of a batch go round the scanners
        images = batch.images[tile][None].expand(len(codes), -1, -1, -1)
        with torch.inference_mode():
            painted = torch.cat([images[:1], transfer.generator.restyled(images, codes.to(device))])
        rows.append(batch.columns["scanner"][tile])
        pictures.append(list((painted * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()))
    return rows, columns, pictures
