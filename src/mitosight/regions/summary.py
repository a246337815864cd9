"""What a set of regions holds: counts and areas by part of the split, scanner and tumour type."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mitosight.regions.folder import DataFolder
from mitosight.regions.region import Region


@dataclass(frozen=True)
class Summary:
    """Counts of some regions; area_mm2 is None where the size or mpp of one of them is unknown."""

    regions: int
    figures: int
    hard_negatives: int
    area_mm2: float | None


def summarise(regions: Iterable[Region]) -> Summary:
    """Counts of all `regions` together."""
    regions = list(regions)
    areas = [region.area_mm2 for region in regions]
    known = [area for area in areas if area is not None]
    return Summary(
        len(regions),
        sum(len(region.figures) for region in regions),
        sum(len(region.hard_negatives) for region in regions),
        sum(known) if len(known) == len(areas) else None,
    )


def by_domain(data: DataFolder) -> dict[tuple[str, str, str], Summary]:
    """Counts by (part, scanner, tumour type): parts in the split's order, then "" for regions in none of them."""
    part_of = {name: part for part, names in data.split.items() for name in names}
    order = [*data.split, ""]
    groups: dict[tuple[str, str, str], list[Region]] = {}
    for region in data.regions:
        part = part_of.get(region.file_name, "")
        groups.setdefault((part, region.domain.scanner, region.domain.tumor_type), []).append(region)
    keys = sorted(groups, key=lambda key: (order.index(key[0]), *key[1:]))
    return {key: summarise(groups[key]) for key in keys}
