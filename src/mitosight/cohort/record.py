"""What a folder of results says of itself: `summary.csv`, a row for each slide, and `run.json`."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

from mitosight.errors import InputError, UsageError
from mitosight.outputs import write_csv, write_run

OK, FAILED = "ok", "failed"
PROGRESS = ".progress"  # folder of what is not done yet
SUMMARY, RUN = "summary.csv", "run.json"


@dataclass(frozen=True)
class Row:
    """One line of `summary.csv`.

    Attributes:
        figures: number of points that reach the threshold.
        area_mm2: of the whole image; `tissue_mm2` of what was searched of it, empty where that is everything.
        detections: the file of its points.
    """

    slide: str
    figures: str
    area_mm2: str
    tissue_mm2: str
    seconds: str
    status: str
    message: str
    detections: str


HEADER = tuple(f.name for f in fields(Row))


class Record:
    """The rows and facts of a folder of results, those of earlier runs of the same model included.

    Attributes:
        rows: by slide.
        facts: for each slide what `run.json` says of it: `sha256` of its file, `key` of its points and, where the
            detector was made for it, how (`adapted`).
    """

    def __init__(self, out: Path, model: Mapping[str, Any], arguments: Mapping[str, Any], prepared: Any) -> None:
        """Reads what is there; `prepared` are the settings of a preparation, None without one.

        Raises:
            UsageError: `out` is a file or holds a training.
            InputError: `out` holds results of another model or preparation, or no results of `mitosight detect`.
        """
        if out.exists() and not out.is_dir():
            raise UsageError(out, "is a file", "--out names a folder")
        if (out / "recipe.json").exists():
            raise UsageError(out, "holds a training", "choose another --out: results would overwrite its records")
        self.out, self.model, self.arguments, self.prepared = out, model, arguments, prepared
        self.rows = _read_summary(out / SUMMARY)
        earlier = _read_run(out / RUN, str(model["sha256"]), prepared)
        self.facts: dict[str, dict[str, Any]] = {key: earlier[key] for key in self.rows if key in earlier}

    def write(self) -> None:
        """Writes both files."""
        write_csv(self.out / SUMMARY, HEADER, (astuple(row) for row in self.rows.values()))
        told = {key: self.facts[key] for key in self.rows if key in self.facts}
        more: dict[str, Any] = {}
        if self.prepared is not None:
            more["adaptation"] = self.prepared
            more["adapted"] = {key: facts["adapted"] for key, facts in told.items() if "adapted" in facts}
        write_run(
            self.out,
            model=self.model,
            arguments=self.arguments,
            slides={key: facts["sha256"] for key, facts in told.items()},
            keys={key: facts["key"] for key, facts in told.items()},
            **more,
        )

    def names(self, slides: Sequence[Path]) -> list[str]:
        """The name of each slide's output: its stem, unless a slide of this or an earlier run has that too."""
        return [self._name(path, slides) for path in slides]

    def _name(self, path: Path, slides: Sequence[Path]) -> str:
        key = str(path.resolve())
        earlier = self.rows.get(key)
        if earlier is not None and earlier.detections:
            return earlier.detections.removesuffix(".csv")
        others = {p.stem for p in slides if p.resolve() != path.resolve()}
        others |= {row.detections.removesuffix(".csv") for row in self.rows.values()} | {"summary"}
        return f"{path.stem}-{hashlib.sha1(key.encode()).hexdigest()[:8]}" if path.stem in others else path.stem


def _read_run(file: Path, checksum: str, prepared: Any) -> dict[str, dict[str, Any]]:
    """What an earlier run says of its slides.

    Rows of another model or preparation are refused: sums over them would mean nothing.
    """
    if not file.is_file():
        return {}
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        earlier, preparation = record["model"]["sha256"], record.get("adaptation")
        adapted, keys = record.get("adapted", {}), record.get("keys", {})
        facts = {
            slide: {"sha256": sha, "key": keys.get(slide, "")}
            | ({"adapted": adapted[slide]} if slide in adapted else {})
            for slide, sha in record["slides"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise InputError(file, "is no record of mitosight detect", "choose another --out") from None
    if earlier != checksum:
        raise InputError(file.parent, "holds what another model found", "choose another --out")
    if preparation != json.loads(json.dumps(prepared)):
        raise InputError(file.parent, "holds what the model found with another adaptation", "choose another --out")
    return facts


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
