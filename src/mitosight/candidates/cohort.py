"""Many slides through one finder: a file of candidates for each, a record, and which annotated figures they reach."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mitosight import tissue
from mitosight.candidates.finder import Candidates, Finder, Statistics
from mitosight.candidates.slides import reached, search
from mitosight.errors import InputError, UsageError
from mitosight.outputs import write_csv, write_run
from mitosight.regions import Region
from mitosight.slide import Slide

COLUMNS = ("file_name", "x_px", "y_px", "area_px")
RADIUS_UM = 7.5  # of the MIDOG challenge


@dataclass(frozen=True)
class Found:
    """What became of one slide: candidates, or the `message` why there are none.

    Attributes:
        candidates: in level-0 px, None where the slide failed.
        area_mm2: of what was searched.
        seconds: from opening the slide to its candidates.
        scanner: "" where the slide is not annotated.
        figures, reached: annotated mitotic figures, and those with a candidate within 7.5 µm.
    """

    path: Path
    candidates: Candidates | None = None
    statistics: Statistics | None = None
    area_mm2: float = 0.0
    seconds: float = 0.0
    scanner: str = ""
    figures: int = 0
    reached: int = 0
    message: str = ""

    @property
    def per_mm2(self) -> float:
        """Candidates per mm² of what was searched; 0 where that is nothing."""
        return len(self.candidates or ()) / self.area_mm2 if self.area_mm2 else 0.0


def find_in_slides(
    slides: Sequence[Path],
    finder: Finder,
    out: Path,
    mpp: float | None = None,
    table_mpp: Mapping[str, float] | None = None,
    regions: Sequence[Region] = (),
    everywhere: bool = False,
) -> Iterator[Found]:
    """Finds the candidates of each slide, one after another; a bad one says why, and the others are done.

    Writes `NAME.csv` with file_name, x_px, y_px, area_px for each slide, and `run.json` after each.

    Args:
        mpp: µm per level-0 px of all slides; goes over `table_mpp` (by file name), regions and files.
        regions: annotated images; a slide is that of its file name.
        everywhere: search the whole slide, not its tissue alone.

    Raises:
        UsageError: two slides have the same name, or `out` is a file.
        InputError: `out` holds what another command or another finder found.
    """
    stems = [path.stem for path in slides]
    twice = next((stem for stem in stems if stems.count(stem) > 1), None)
    if twice is not None:
        raise UsageError(None, f"two slides are named {twice}", "give them apart, with an --out for each")
    told = {"finder": {"name": finder.name, **asdict(finder)}, "tissue": "all" if everywhere else "find"}
    _check_free(out, told)
    by_name = {region.file_name: region for region in regions}
    record: dict[str, Any] = {}
    for path in slides:
        region = by_name.get(path.name)
        in_table = (table_mpp or {}).get(path.name, region.mpp if region else None)
        try:
            found = _found(path, finder, mpp, in_table, region, everywhere)
        except InputError as error:
            found = Found(path, message=str(error))
        else:
            write(out / f"{path.stem}.csv", path.name, found.candidates or Candidates())
        record[str(path)] = _told(found)
        write_run(out, **told, slides=record)
        yield found


def write(path: Path, file_name: str, candidates: Candidates) -> None:
    """Writes the candidates of one image as `file_name,x_px,y_px,area_px`, in level-0 px."""
    rows = zip(candidates.xy, candidates.area_px, strict=True)
    write_csv(path, COLUMNS, ((file_name, f"{x:.2f}", f"{y:.2f}", f"{area:.2f}") for (x, y), area in rows))


def sensitivity(found: Sequence[Found]) -> dict[str, tuple[int, int, float]]:
    """By scanner, and "all": figures reached, figures annotated, and candidates per mm², over annotated slides."""
    annotated = [one for one in found if one.scanner and one.candidates is not None]
    scanners = sorted({one.scanner for one in annotated})
    groups = {scanner: [one for one in annotated if one.scanner == scanner] for scanner in scanners}
    return {name: _summed(group) for name, group in {**groups, "all": annotated}.items() if group}


def _summed(group: Sequence[Found]) -> tuple[int, int, float]:
    count, area_mm2 = sum(len(one.candidates or ()) for one in group), sum(one.area_mm2 for one in group)
    return sum(one.reached for one in group), sum(one.figures for one in group), count / area_mm2 if area_mm2 else 0.0


def _found(
    path: Path, finder: Finder, mpp: float | None, table_mpp: float | None, region: Region | None, everywhere: bool
) -> Found:
    started = time.monotonic()
    with Slide(path, mpp=mpp, table_mpp=table_mpp) as slide:
        where = tissue.everywhere(slide) if everywhere else tissue.find_tissue(slide)
        candidates, statistics = search(slide, finder, tissue=where)
        area_mm2 = where.area_mm2(slide.mpp)
        seconds = time.monotonic() - started
        if region is None:
            return Found(path, candidates, statistics, area_mm2, seconds)
        near = reached(region.figures, candidates, RADIUS_UM / slide.mpp)
    return Found(path, candidates, statistics, area_mm2, seconds, region.domain.scanner, len(near), int(near.sum()))


def _told(found: Found) -> dict[str, Any]:
    if found.candidates is None or found.statistics is None:
        return {"message": found.message}
    return {
        "candidates": len(found.candidates),
        "area_mm2": round(found.area_mm2, 4),
        "seconds": round(found.seconds, 2),
        "statistics": found.statistics.to_json(),
    }


def _check_free(out: Path, told: Mapping[str, Any]) -> None:
    """Refuses a folder with results of another kind: files of one name would be mixed or lost."""
    if out.exists() and not out.is_dir():
        raise UsageError(out, "is a file", "--out names a folder")
    if not (out / "run.json").is_file():
        return
    try:
        earlier = json.loads((out / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        earlier = None
    known = json.loads(json.dumps(told))
    if not isinstance(earlier, dict) or any(earlier.get(key) != value for key, value in known.items()):
        raise InputError(out, "holds results of another command or finder", "choose another --out")
