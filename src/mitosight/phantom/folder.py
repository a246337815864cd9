"""Data folders of phantoms: images, annotations, domains and split, as real data would come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from mitosight.errors import UsageError
from mitosight.outputs import write_csv, write_json
from mitosight.phantom.scanner import SCANNERS, Scanner, scan
from mitosight.phantom.tissue import draw_tissue
from mitosight.regions import Region
from mitosight.regions import write as write_annotations
from mitosight.regions.domains import COLUMNS
from mitosight.slide import write_tiff

Split = Mapping[str, Sequence[int]]


def write(
    out: str | Path,
    scanners: Sequence[str],
    seeds: Sequence[int],
    size_um: tuple[float, float] = (256.0, 256.0),
    split: Split | None = None,
    **drawing: Any,
) -> list[Region]:
    """Writes a data folder in which every scanner has seen every tissue: `write_pairs` of all combinations."""
    pairs = [(scanner, seed) for scanner in scanners for seed in seeds]
    return write_pairs(out, pairs, size_um, split, **drawing)


def write_pairs(
    out: str | Path,
    pairs: Sequence[tuple[str, int]],
    size_um: tuple[float, float] = (256.0, 256.0),
    split: Split | None = None,
    **drawing: Any,
) -> list[Region]:
    """Writes a data folder with one region for each (scanner, seed of the tissue); returns the regions.

    Writes `images/<scanner>_<seed>.tiff`, `annotations.json`, `domains.csv` and, where `split` gives the seeds of
    each part, `split.json`. A tissue seen by two scanners is one slide, so a split is by seed. For training give
    each scanner seeds of its own: no laboratory scans the same slides as the next. `drawing` goes to `draw_tissue`.

    Raises:
        UsageError: an unknown scanner, nothing to write, a pair or a seed of the split given twice.
        InputError: a file cannot be written.
    """
    out = Path(out)
    chosen = {(name, seed): scanner_named(name) for name, seed in pairs}
    if not pairs or len(chosen) < len(pairs):
        raise UsageError(
            None, f"{len(pairs)} phantoms, {len(chosen)} of them different", "name scanners and seeds once"
        )
    parts = _parts(list(chosen), split or {})
    written = {}
    for seed, group in groupby(sorted(chosen, key=lambda pair: pair[1]), key=lambda pair: pair[1]):
        tissue = draw_tissue(seed, size_um, **drawing)
        for pair in group:
            scanner = chosen[pair]
            image, written[pair] = scan(tissue, scanner, seed)
            path = out / "images" / written[pair].file_name
            write_tiff(path, image, scanner.mpp, compression="jpeg", quality=scanner.jpeg_quality, tile_px=256)
    found = [written[pair] for pair in chosen]
    _write_tables(out, found)
    if parts:
        write_json(out / "split.json", {part: [written[pair].file_name for pair in of] for part, of in parts.items()})
    return found


def scanner_named(name: str) -> Scanner:
    """A scanner by its name.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in SCANNERS:
        raise UsageError(None, f"unknown scanner {name!r}", f"expected {', '.join(SCANNERS)}")
    return SCANNERS[name]


def _parts(pairs: Sequence[tuple[str, int]], split: Split) -> dict[str, list[tuple[str, int]]]:
    part_of: dict[int, str] = {}
    for part, seeds in split.items():
        for seed in seeds:
            if part_of.setdefault(seed, part) != part:
                raise UsageError(None, f"seed {seed} stands in {part_of[seed]} and in {part}", "give it to one part")
    return {part: [pair for pair in pairs if part_of.get(pair[1]) == part] for part in split}


def _write_tables(out: Path, found: Sequence[Region]) -> None:
    write_annotations(found, out / "annotations.json")
    rows = ((r.file_name, r.slide, r.domain.scanner, r.domain.tumor_type, r.domain.species, r.mpp) for r in found)
    write_csv(out / "domains.csv", COLUMNS, rows)
