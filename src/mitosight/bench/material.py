"""The drawn regions of a protocol that brings its own data."""

from __future__ import annotations

from pathlib import Path

from mitosight import phantom, regions
from mitosight.bench.protocol import Protocol
from mitosight.errors import UsageError
from mitosight.regions import DataFolder

TISSUES = 100  # numbers that are set aside for each scanner


def drawn(protocol: Protocol, folder: Path) -> DataFolder:
    """Draws the phantoms of a protocol into `folder`, where they are not there yet; the same ones each time.

    Raises:
        UsageError: the protocol has none, or an unknown scanner.
    """
    asked = protocol.phantoms
    if asked is None:
        raise UsageError(None, "no data", "pass --data: this protocol draws none")
    if not (folder / "split.json").is_file():  # the last that is written
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
    return regions.load(folder)
