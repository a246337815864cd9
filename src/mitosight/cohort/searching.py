"""Many slides through one model: a file of points for each, a summary, and a record of the run."""

from __future__ import annotations

import csv
import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any, Protocol

from mitosight import checkpoint, detections, inference
from mitosight.errors import InputError, UsageError
from mitosight.methods.detector import Detector
from mitosight.mpp import ACCEPTED_MPP, possible
from mitosight.outputs import sha256, write_csv, write_run
from mitosight.slide import Slide

OK, FAILED = "ok", "failed"


@dataclass(frozen=True)
class Row:
    """One line of `summary.csv`; `area_mm2` is that of the whole image, `detections` the file of its points."""

    slide: str
    figures: str
    area_mm2: str
    seconds: str
    status: str
    message: str
    detections: str


HEADER = tuple(f.name for f in fields(Row))
Watch = Callable[[int, int], None]


@dataclass(frozen=True)
class Prepared:
    """The detector for one slide, what the slide's row says of it, and what `run.json` does."""

    detector: Detector
    message: str
    facts: dict[str, Any]


class Preparation(Protocol):
    """Makes a detector of its own for each slide; `settings` say how, and tell its results from those of others."""

    settings: dict[str, Any]

    def __call__(self, slide: Slide) -> Prepared: ...


@dataclass(frozen=True)
class Settings:
    """How slides are read: `mpp` goes over what files and `table_mpp` (by file name) say; None and {} for neither."""

    mpp: float | None = None
    table_mpp: Mapping[str, float] | None = None
    threshold: float | None = None
    tile_px: int | None = None
    batch: int = 4
    bf16: bool = False

    def __post_init__(self) -> None:
        if self.mpp is not None and not possible(self.mpp):
            raise UsageError(None, f"--mpp is {self.mpp:g}", ACCEPTED_MPP)
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise UsageError(None, f"--threshold is {self.threshold:g}", "scores go from 0 to 1")


def detect_slides(
    slides: Sequence[Path],
    model: Path,
    detector: Detector,
    out: Path,
    settings: Settings,
    watch: Callable[[Path], Watch] | None = None,
    prepare: Preparation | None = None,
) -> list[Row]:
    """Detects on each slide; a bad one becomes a row that says why, and the others are done.

    Writes `NAME.csv` for each slide and, after each, `summary.csv` and `run.json`. Rows of other slides that an
    earlier run of the same model left in `out` are kept. NAME is the file's stem; where two slides share it, eight
    digits of the hash of the slide's path are added. `prepare` makes the detector for each slide; without it, it is
    `detector` for all. Returns the rows of `slides`.

    Raises:
        UsageError: `out` is a file or holds a training.
        InputError: `out` holds results of another model, or of another preparation.
    """
    threshold = detector.threshold if settings.threshold is None else settings.threshold
    if out.exists() and not out.is_dir():
        raise UsageError(out, "is a file", "--out names a folder")
    if (out / "recipe.json").exists():
        raise UsageError(out, "holds a training", "choose another --out: results would overwrite its records")
    rows = _read_summary(out / "summary.csv")
    record = {
        "model": {"path": str(model), "sha256": sha256(model), **checkpoint.read_header(model)},
        "arguments": {"threshold": threshold, "mpp": settings.mpp, "tile_px": settings.tile_px, "bf16": settings.bf16},
    }
    settled = {} if prepare is None else {"adaptation": prepare.settings}
    _check_model(out / "run.json", record["model"]["sha256"], settled)
    mine: list[Row] = []
    checksums: dict[str, str] = {}
    told: dict[str, dict[str, Any]] = {}
    for path in slides:
        key = str(path.resolve())
        name = _name(path, slides, rows)
        started = time.monotonic()
        try:
            table_mpp = (settings.table_mpp or {}).get(path.name)
            with Slide(path, mpp=settings.mpp, table_mpp=table_mpp) as slide:
                own = Prepared(detector, "", {}) if prepare is None else prepare(slide)
                found = inference.detect(
                    slide,
                    own.detector,
                    tile_px=settings.tile_px,
                    batch=settings.batch,
                    bf16=settings.bf16,
                    progress=watch(path) if watch is not None else None,
                )
                area_mm2 = slide.width_px * slide.height_px * (slide.mpp / 1000) ** 2
            checksums[key] = sha256(path) if path.is_file() else ""
        except InputError as error:
            row = Row(key, "", "", f"{time.monotonic() - started:.1f}", FAILED, str(error), "")
            if key in rows and rows[key].detections:  # of an earlier run: the summary no longer says so
                (out / rows[key].detections).unlink(missing_ok=True)
        else:
            detections.write(out / f"{name}.csv", {path.name: found}, threshold)
            figures = int((found.score >= threshold).sum())
            seconds = f"{time.monotonic() - started:.1f}"
            row = Row(key, str(figures), f"{area_mm2:.4f}", seconds, OK, own.message, f"{name}.csv")
            told[key] = own.facts
        rows[key] = row
        mine.append(row)
        write_csv(out / "summary.csv", HEADER, (astuple(r) for r in rows.values()))
        adapted = {} if prepare is None else {**settled, "adapted": told}
        write_run(out, **record, **adapted, slides=checksums)
    return mine


def _name(path: Path, slides: Sequence[Path], rows: Mapping[str, Row]) -> str:
    """Name of the slide's output: its stem, unless a slide of this or an earlier run has that too."""
    key = str(path.resolve())
    earlier = rows.get(key)
    if earlier is not None and earlier.detections:
        return earlier.detections.removesuffix(".csv")
    others = {p.stem for p in slides if p.resolve() != path.resolve()}
    others |= {row.detections.removesuffix(".csv") for row in rows.values()} | {"summary"}
    return f"{path.stem}-{hashlib.sha1(key.encode()).hexdigest()[:8]}" if path.stem in others else path.stem


def _check_model(run: Path, checksum: str, settled: dict[str, Any]) -> None:
    """Refuses a folder whose rows are of another model or preparation: sums over them would mean nothing."""
    if not run.is_file():
        return
    try:
        record = json.loads(run.read_text(encoding="utf-8"))
        earlier, prepared = record["model"]["sha256"], record.get("adaptation")
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(run, "is no record of mitosight detect", "choose another --out") from None
    if earlier != checksum:
        raise InputError(run.parent, "holds what another model found", "choose another --out")
    if prepared != json.loads(json.dumps(settled)).get("adaptation"):
        raise InputError(run.parent, "holds what the model found with another adaptation", "choose another --out")


def _read_summary(path: Path) -> dict[str, Row]:
    if not path.is_file():
        return {}
    try:
        with open(path, newline="", encoding="utf-8") as stream:
            header, *rows = csv.reader(stream)
    except (ValueError, csv.Error):
        header, rows = [], []
    if tuple(header) != HEADER or any(len(row) != len(HEADER) for row in rows):
        raise InputError(path, "is no summary of mitosight detect", "choose another --out")
    return {row[0]: Row(*row) for row in rows}
