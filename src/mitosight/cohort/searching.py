"""Many slides through one model: a file of points for each, a summary, and a record of the run."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Generator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any, Protocol

from mitosight import detections, inference, runtime, tissue
from mitosight.cohort.journal import Journal
from mitosight.cohort.record import FAILED, OK, PROGRESS, Record, Row
from mitosight.cohort.searcher import Searcher, searcher
from mitosight.cohort.settings import Preparation, Prepared, Settings, tissue_of
from mitosight.detections import Detections
from mitosight.errors import InputError, UsageError
from mitosight.inference import Covering, Progress
from mitosight.methods.detector import Detector
from mitosight.outputs import alone, sha256
from mitosight.pipeline import ahead
from mitosight.slide import Slide
from mitosight.tiles import MEASURED

ENLARGED = 1.5  # times the model's mpp: beyond it the slide lacks what the model looks at


class Watch(Protocol):
    """Who is told how far the slides are: called with a slide's path, it gives what is told of its tiles."""

    def __call__(self, path: Path) -> Progress: ...

    def done(self, path: Path) -> None: ...


def detect_slides(
    slides: Sequence[Path],
    model: Path,
    detector: Detector,
    out: Path,
    settings: Settings,
    watch: Watch | None = None,
    prepare: Preparation | None = None,
) -> list[Row]:
    """Detects on each slide; a bad one becomes a row that says why, and the others are done.

    Writes `NAME.csv` for each slide and, after each, `summary.csv` and `run.json`. Rows of other slides that an
    earlier run of the same model left in `out` are kept. A slide whose points are there already, found in the same
    file by the same settings, is not searched again, and one whose search was broken off goes on. NAME is the file's
    stem; where two slides share it, eight digits of the hash of the slide's path are added. `prepare` makes the
    detector for each slide; without it, it is `detector` for all. Returns the rows of `slides`.

    Raises:
        UsageError: `out` is a file or holds a training, or another run is writing to it; the scheduler cannot be
            used, or goes away, or is to do with `prepare`.
        InputError: `out` holds results of another model, or of another preparation, or cannot be written.
    """
    if prepare is not None and settings.scheduler is not None:
        raise UsageError(None, "--scheduler for slides with a preparation of their own", "search them without it")
    threshold = detector.threshold if settings.threshold is None else settings.threshold
    header = {"path": str(model), "sha256": sha256(model), **runtime.read_header(model)}
    arguments = {"threshold": threshold, **settings.of_points(None), "mpp": settings.mpp, "checked": detector.runtime}
    recorded = partial(Record, out, header, arguments, None if prepare is None else prepare.settings)
    recorded()  # refuses what it refuses before the folder is touched
    mine = []
    with alone(out), searcher(model, header["sha256"], detector, settings) as by:
        record = recorded()
        searching = _Searching(detector, record, settings, by, watch, prepare)
        with closing(searching.all(slides)) as outcomes:
            for path, name, outcome in outcomes:
                mine.append(_kept(record, path, name, outcome, threshold))
                if watch is not None:
                    watch.done(path)
    return mine


@dataclass(frozen=True)
class _Outcome:
    """What came of one slide: points, or the reason why there are none."""

    seconds: float
    points: Detections | None = None
    error: str = ""
    area_mm2: float = 0.0
    tissue_mm2: float | None = None
    message: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Searching:
    """Searches slides, a few at a time, which share what searches them."""

    detector: Detector
    record: Record
    settings: Settings
    by: tuple[Searcher, Searcher]
    watch: Watch | None
    prepare: Preparation | None
    stopped: Event = field(default_factory=Event)

    def all(self, slides: Sequence[Path]) -> Generator[tuple[Path, str, _Outcome]]:
        """The outcomes in the order of the slides, one slide at a time where each has a detector of its own."""
        items = list(zip(slides, self.record.names(slides), strict=True))
        if self.prepare is not None or len(items) == 1:
            yield from (self.one(item) for item in items)
            return
        with ThreadPoolExecutor(self.by[0].at_once, thread_name_prefix="slide") as pool:
            try:
                yield from ahead(self.one, items, pool, self.by[0].at_once)
            finally:
                self.stopped.set()

    def one(self, item: tuple[Path, str]) -> tuple[Path, str, _Outcome]:
        """The outcome of one slide."""
        path, name = item
        started = time.monotonic()
        try:
            outcome = self._searched(path, name, started)
        except InputError as error:
            outcome = _Outcome(time.monotonic() - started, error=str(error))
        return path, name, outcome

    def _searched(self, path: Path, name: str, started: float) -> _Outcome:
        with Slide(path, mpp=self.settings.mpp, table_mpp=self.settings.table_of(path)) as slide:
            area_mm2 = slide.width_px * slide.height_px * (slide.mpp / 1000) ** 2
            where = tissue_of(slide, self.settings.tissue)
            if where is not None and self.settings.preview:
                tissue.preview(slide, where, self.record.out / f"{name}.png")
            facts = self._facts(path)
            message, points = self._earlier(path, name, facts["key"])
            if points is None:
                own = self.prepare(slide, where) if self.prepare is not None else Prepared(self.detector, "", {})
                journal = Journal(self.record.out / PROGRESS / name, facts["key"])
                points = self._points(slide, own.detector, where, journal)
                message = "; ".join(told for told in (own.message, _warning(slide, self.detector, where)) if told)
                facts |= {"adapted": own.facts} if self.prepare is not None else {}
            tissue_mm2 = None if where is None else where.area_mm2(slide.mpp)
        return _Outcome(time.monotonic() - started, points, "", area_mm2, tissue_mm2, message, facts)

    def _facts(self, path: Path) -> dict[str, Any]:
        """The checksum of a slide, and the key of what is found in it."""
        try:
            checksum = sha256(path) if path.is_file() else ""
        except OSError as error:
            raise InputError(path, f"cannot be read ({error.strerror})", "copy the file again") from None
        told = {
            "slide": checksum,
            "model": self.record.model["sha256"],
            "preparation": self.record.prepared,
            "measured": MEASURED,
            "suppression_um": self.detector.suppression_um,
            **self.settings.of_points(path),
        }
        return {"sha256": checksum, "key": hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()}

    def _earlier(self, path: Path, name: str, key: str) -> tuple[str, Detections | None]:
        """Message and points of an earlier run, if they are what would be found again."""
        slide, file = str(path.resolve()), self.record.out / f"{name}.csv"
        known, row = self.record.facts.get(slide), self.record.rows.get(slide)
        if self.settings.redo or known is None or row is None or known["key"] != key or not file.is_file():
            return "", None
        return row.message, detections.read(file).get(path.name, Detections())

    def _points(self, slide: Slide, detector: Detector, where: tissue.Tissue | None, journal: Journal) -> Detections:
        """The points of a slide, searched everywhere or where the first look found something."""
        look = self.settings.first
        if look is None:
            covering = inference.cover(slide, detector, self.settings.tile_px, where)
            every = self._found(covering, detector, self.by[0], journal)
        else:
            first = look.detector
            covering = inference.cover(slide, first, self.settings.tile_px, where)
            seen = self._found(covering, first, self.by[1], journal.part("first"))
            places = seen.xy[seen.score >= first.threshold]
            covering = inference.cover_near(slide, detector, places, where)
            every = self._found(covering, detector, self.by[0], journal)
            every = every[inference.near(every.xy, places, slide.mpp)]
        return every if where is None else every[where.holds(every.xy)]

    def _found(self, covering: Covering, detector: Detector, by: Searcher, journal: Journal) -> Detections:
        """The points of a covering: of chunks that are in the journal, and of those that are not."""
        journal = journal.of(covering.fingerprint)
        found = {} if self.settings.redo else journal.done()
        missing = [number for number in range(len(covering.chunks)) if number not in found]
        if missing:
            for number, points in by.search(covering, detector, missing, self._progress(covering.slide.path)):
                found[number] = points
                journal.add(number, points)
        every = (found[number] for number in sorted(found))
        return inference.gathered(every, covering.slide.mpp, detector.suppression_um)

    def _progress(self, path: Path) -> Progress:
        show = self.watch(path) if self.watch is not None else None

        def progress(done: int, total: int, mm2: float) -> None:
            if self.stopped.is_set():
                raise CancelledError
            if show is not None:
                show(done, total, mm2)

        return progress


def _warning(slide: Slide, detector: Detector, where: tissue.Tissue | None) -> str:
    """What the user has to know of a slide that was searched all the same."""
    if where is not None and not where.mask.any():
        return "no tissue was found: see --preview, or search everywhere with --no-tissue"
    if slide.mpp > ENLARGED * detector.mpp:
        return f"{slide.mpp:g} µm/px was enlarged to the model's {detector.mpp:g}: expect misses"
    return ""


def _kept(record: Record, path: Path, name: str, outcome: _Outcome, threshold: float) -> Row:
    """Writes what came of a slide, points first, and the record anew."""
    key, seconds = str(path.resolve()), f"{outcome.seconds:.1f}"
    if outcome.points is None:
        row = Row(key, "", "", "", seconds, FAILED, outcome.error, "")
        if key in record.rows and record.rows[key].detections:  # of an earlier run: the summary no longer says so
            (record.out / record.rows[key].detections).unlink(missing_ok=True)
        record.facts.pop(key, None)
    else:
        detections.write(record.out / f"{name}.csv", {path.name: outcome.points}, threshold)
        figures = int((outcome.points.score >= threshold).sum())
        tissue_mm2 = "" if outcome.tissue_mm2 is None else f"{outcome.tissue_mm2:.4f}"
        area = f"{outcome.area_mm2:.4f}"
        row = Row(key, str(figures), area, tissue_mm2, seconds, OK, outcome.message, f"{name}.csv")
        record.facts[key] = {**record.facts.get(key, {}), **outcome.facts}
    record.rows[key] = row
    record.write()
    if row.status == OK:
        Journal(record.out / PROGRESS / name, "").remove()
    return row
