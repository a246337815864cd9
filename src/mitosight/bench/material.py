"""The drawn regions of a protocol that brings its own data."""

from __future__ import annotations

import json
from pathlib import Path

from mitosight import __version__, phantom, regions
from mitosight.bench.protocol import Phantoms, Protocol
from mitosight.errors import InputError, UsageError
from mitosight.outputs import alone, write_json
from mitosight.regions import DataFolder

TISSUES = 100  # numbers that are set aside for each scanner
ASKED = "phantoms.json"  # what a folder was drawn for


def drawn(protocol: Protocol, folder: Path) -> DataFolder:
    """Draws the phantoms of a protocol into `folder`, where they are not there yet; the same ones each time.

    Raises:
        UsageError: the protocol has none, or an unknown scanner, or another run is drawing there.
        InputError: the folder holds those of other settings.
    """
    asked = protocol.phantoms
    if asked is None:
        raise UsageError(None, "no data", "pass --data: this protocol draws none")
    told = {"mitosight": __version__, **asked.model_dump(mode="json")}
    with alone(folder):
        if not (folder / ASKED).is_file():  # the last that is written
            _draw(asked, folder)
            write_json(folder / ASKED, told)
    if json.loads((folder / ASKED).read_text(encoding="utf-8")) != told:
        raise InputError(folder, "holds phantoms that were drawn for other settings", "choose another --out")
    return regions.load(folder)


def _draw(asked: Phantoms, folder: Path) -> None:
    pairs: list[tuple[str, int]] = []
    split: dict[str, list[int]] = {"train": [], "val": [], "test": []}
    for k, scanner in enumerate(asked.scanners):
        tissue = TISSUES * (k + 1)
        for part, count in (("train", asked.train), ("val", asked.val), ("test", asked.test)):
            numbers = range(tissue, tissue + count)
            pairs += [(scanner, number) for number in numbers]
            split[part] += numbers
            tissue += count
    phantom.write_pairs(folder, pairs, asked.size_um, split)
