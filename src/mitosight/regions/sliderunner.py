"""SlideRunner's and EXACT's SQLite databases; their columns changed over the years, so they are looked at first."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np

from mitosight.errors import InputError
from mitosight.outputs import whole
from mitosight.regions.checks import outside
from mitosight.regions.region import HARD_NEGATIVE, LABEL_NAMES, MITOTIC_FIGURE, Region, label_named

MAGIC = b"SQLite format 3\0"
_REMEDY = "expected a SlideRunner or EXACT database"
_MODELS = {"retinanet"}  # "persons" of the MIDOG database that are models: their candidates are no expert's votes
_NEEDED = {
    "Slides": ("uid", "filename"),
    "Annotations": ("uid", "slide", "agreedClass"),
    "Annotations_coordinates": ("annoId", "coordinateX", "coordinateY"),
}
_SPOT = 1  # SlideRunner's type of an annotation that is one point
_SCHEMA = """
CREATE TABLE Slides (uid INTEGER PRIMARY KEY AUTOINCREMENT UNIQUE, filename TEXT, width INTEGER, height INTEGER,
  directory TEXT, uuid TEXT, exactImageID TEXT, EXACTUSER INTEGER DEFAULT 0);
CREATE TABLE Annotations (uid INTEGER PRIMARY KEY AUTOINCREMENT UNIQUE, slide INTEGER, guid TEXT,
  lastModified REAL DEFAULT 0, deleted INTEGER DEFAULT 0, type INTEGER, agreedClass INTEGER, description TEXT,
  clickable INTEGER DEFAULT 1);
CREATE TABLE Annotations_coordinates (uid INTEGER PRIMARY KEY AUTOINCREMENT UNIQUE, coordinateX INTEGER,
  coordinateY INTEGER, coordinateZ INTEGER DEFAULT 0, slide INTEGER, annoId INTEGER, orderIdx INTEGER);
CREATE TABLE Annotations_label (uid INTEGER PRIMARY KEY AUTOINCREMENT UNIQUE, person INTEGER, class INTEGER,
  exact_id INTEGER, annoId INTEGER);
CREATE TABLE Classes (uid INTEGER PRIMARY KEY AUTOINCREMENT UNIQUE, name TEXT, color TEXT);
CREATE TABLE Persons (uid INTEGER PRIMARY KEY AUTOINCREMENT UNIQUE, name TEXT, isExactUser INTEGER DEFAULT 0);
CREATE TABLE Log (uid INTEGER PRIMARY KEY AUTOINCREMENT, dateTime FLOAT, labelId INTEGER);
"""


def read(path: Path) -> list[Region]:
    """Regions in the order of the slides, annotations in the order of their ids, opened read-only.

    Deleted rows and classes other than mitotic figures and their look-alikes are left out; the table Classes says
    by name which is which, 1 and 2 do where there is none. An area's or polygon's centre is the middle of its extent.
    Each expert has one vote, the last one; models have none. A size that its own annotations contradict counts as
    unknown: TUPAC's database gives a region of 5000 px as 2000 x 2000. A relative directory stays part of the file
    name; where bare names repeat it is the case (TUPAC), thus the slide.

    Raises:
        InputError: no such database, a table or column is missing, its classes are others, or a row has no place.
    """
    for companion in ("-wal", "-journal"):
        pending = path.with_name(path.name + companion)
        if pending.exists() and pending.stat().st_size:
            raise InputError(path, f"has changes that are still in {pending.name}", "close the program that edits it")
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True)) as database:
            return _Database(path, database).regions()
    except sqlite3.Error as error:
        raise InputError(path, f"cannot be read as SQLite ({error})", _REMEDY) from None


class _Database:
    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path, self.connection = path, connection
        self.columns = {
            name: {row[1] for row in connection.execute(f'PRAGMA table_info("{name}")')}
            for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        }
        for table, needed in _NEEDED.items():
            missing = [column for column in needed if column not in self.columns.get(table, ())]
            if missing:
                raise InputError(path, f"its table {table} lacks {', '.join(missing)}", _REMEDY)
        self.labels = self._labels()

    def regions(self) -> list[Region]:
        slides = self._select("Slides", "uid", "filename", "directory", "width", "height")
        by_slide: dict[Any, list[tuple[Any, int]]] = {row[0]: [] for row in slides}
        for uid, slide, agreed, deleted in self._select("Annotations", "uid", "slide", "agreedClass", "deleted"):
            if deleted or agreed not in self.labels:
                continue
            if slide not in by_slide:
                raise InputError(self.path, f"annotation {uid} is on slide {slide}, which does not exist", _REMEDY)
            by_slide[slide].append((uid, self.labels[agreed]))
        centres, votes = self._centres(), self._votes()
        names = _file_names([(row[1], row[2]) for row in slides])
        regions = []
        for (uid, _, _, width_px, height_px), (file_name, slide) in zip(slides, names, strict=True):
            found = by_slide[uid]
            homeless = [anno for anno, _ in found if anno not in centres]
            if homeless:
                raise InputError(self.path, f"annotation {homeless[0]} has no coordinates", _REMEDY)
            region = Region(
                file_name,
                width_px or 0,
                height_px or 0,
                np.array([centres[anno] for anno, _ in found], dtype=np.float64),
                np.array([label for _, label in found], dtype=np.int64),
                tuple(votes.get(anno, ()) for anno, _ in found),
                slide=slide,
            )
            regions.append(replace(region, width_px=0, height_px=0) if outside(region).any() else region)
        return regions

    def _select(self, table: str, *columns: str) -> list[tuple[Any, ...]]:
        """Rows by uid; NULL where the database has no such column."""
        chosen = ", ".join(f'"{c}"' if c in self.columns[table] else "NULL" for c in columns)
        order = " ORDER BY uid" if "uid" in self.columns[table] else ""
        return self.connection.execute(f'SELECT {chosen} FROM "{table}"{order}').fetchall()

    def _labels(self) -> dict[int, int]:
        classes = self._select("Classes", "uid", "name") if "Classes" in self.columns else []
        if not classes:
            return {label: label for label in LABEL_NAMES}
        named = {uid: label_named(str(name)) for uid, name in classes}
        labels = {uid: label for uid, label in named.items() if label is not None}
        if not labels:
            raise InputError(
                self.path,
                f"its classes are {', '.join(str(name) for _, name in classes)}",
                "expected classes named as mitotic figures and their look-alikes",
            )
        return labels

    def _centres(self) -> dict[Any, tuple[float, float]]:
        points: dict[Any, list[tuple[float, float]]] = {}
        for anno, x, y in self._select("Annotations_coordinates", "annoId", "coordinateX", "coordinateY"):
            if not all(isinstance(value, int | float) for value in (x, y)):
                raise InputError(self.path, f"annotation {anno} has the coordinates {x!r}, {y!r}", "expected numbers")
            points.setdefault(anno, []).append((x, y))
        return {anno: _middle(corners) for anno, corners in points.items()}

    def _votes(self) -> dict[Any, tuple[int, ...]]:
        if not {"annoId", "class"} <= self.columns.get("Annotations_label", set()):
            return {}
        persons = self._select("Persons", "uid", "name") if "Persons" in self.columns else []
        models = {uid for uid, name in persons if str(name).lower() in _MODELS}
        votes: dict[Any, dict[Any, int]] = {}
        for row, (anno, vote, person) in enumerate(self._select("Annotations_label", "annoId", "class", "person")):
            if person not in models and vote in self.labels:
                voter = ("unnamed", row) if person is None else person
                votes.setdefault(anno, {})[voter] = self.labels[vote]
        return {anno: tuple(by_person.values()) for anno, by_person in votes.items()}


def _middle(corners: Sequence[tuple[float, float]]) -> tuple[float, float]:
    xs, ys = zip(*corners, strict=True)
    return (min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2


def _file_names(slides: Sequence[tuple[str, str | None]]) -> list[tuple[str, str]]:
    """File name and slide of each row (filename, directory); "" where the slide is the file itself."""
    repeated = len({name for name, _ in slides}) < len(slides)
    names = []
    for name, directory in slides:
        folder = _relative(directory, last_part=repeated)
        names.append((f"{folder}/{name}" if folder else str(name), folder if repeated else ""))
    return names


def _relative(directory: str | None, *, last_part: bool) -> str:
    """A directory as part of a file name; absolute ones name a machine's disk and count only to tell names apart."""
    if not directory or directory == ".":
        return ""
    absolute = PurePosixPath(directory).is_absolute() or PureWindowsPath(directory).drive
    parts = PureWindowsPath(directory)  # takes both separators
    if last_part:
        return parts.name
    return "" if absolute else parts.as_posix()


def write(path: Path, regions: Sequence[Region]) -> None:
    """Writes a SlideRunner database, each annotation a spot; expert k of an annotation casts its k-th vote.

    Raises:
        InputError: the file cannot be written.
    """
    with whole(path) as temporary:
        temporary.unlink(missing_ok=True)
        try:
            with closing(sqlite3.connect(temporary, isolation_level=None)) as database:
                database.execute("PRAGMA journal_mode = OFF")  # the file is renamed when it is whole
                database.executescript(_SCHEMA)
                database.execute("BEGIN")
                _fill(database, regions)
                database.execute("COMMIT")
        except sqlite3.Error as error:
            raise InputError(path, f"cannot be written ({error})", "free space or choose another place") from None


def _fill(database: sqlite3.Connection, regions: Sequence[Region]) -> None:
    names = [(MITOTIC_FIGURE, "mitotic figure", "#fc7ca7"), (HARD_NEGATIVE, "not mitotic figure", "#c5b6b2")]
    database.executemany("INSERT INTO Classes VALUES (?, ?, ?)", names)
    most = max((len(votes) for region in regions for votes in region.votes), default=0)
    experts = [(k, f"expert {k}", 0) for k in range(1, most + 1)]
    database.executemany("INSERT INTO Persons VALUES (?, ?, ?)", experts)
    anno = 0
    for slide, region in enumerate(regions, start=1):
        name = PurePosixPath(region.file_name)
        folder = None if name.parent == PurePosixPath(".") else str(name.parent)
        database.execute(
            "INSERT INTO Slides (uid, filename, width, height, directory) VALUES (?, ?, ?, ?, ?)",
            (slide, name.name, region.width_px or None, region.height_px or None, folder),
        )
        for (x, y), label, votes in zip(region.xy.tolist(), region.label.tolist(), region.votes, strict=True):
            anno += 1
            guid = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{region.file_name}#{anno}"))
            database.execute(
                "INSERT INTO Annotations (uid, slide, guid, type, agreedClass) VALUES (?, ?, ?, ?, ?)",
                (anno, slide, guid, _SPOT, label),
            )
            database.execute(
                "INSERT INTO Annotations_coordinates (coordinateX, coordinateY, slide, annoId, orderIdx)"
                " VALUES (?, ?, ?, ?, 1)",
                (x, y, slide, anno),
            )
            database.executemany(
                "INSERT INTO Annotations_label (person, class, annoId) VALUES (?, ?, ?)",
                [(k, vote, anno) for k, vote in enumerate(votes, start=1)],
            )
