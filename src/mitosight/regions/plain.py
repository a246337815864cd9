"""The plain table: `file_name,x_px,y_px,label`, one annotation a row."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from mitosight.errors import InputError
from mitosight.outputs import write_csv
from mitosight.regions.region import LABEL_NAMES, MITOTIC_FIGURE, Region, label_named

COLUMNS = ("file_name", "x_px", "y_px", "label")
_REMEDY = "expected file_name,x_px,y_px and perhaps label"


def read(path: Path) -> list[Region]:
    """Regions in the order in which the images first appear; without a label an annotation is a mitotic figure.

    A label is 1, 2 or a class name. A row with empty x_px and y_px names an image without annotations. Further
    columns are passed over.

    Raises:
        InputError: a column is missing, a value is no number, a label unknown, or the table holds detections.
    """
    points: dict[str, list[tuple[int, float, float]]] = {}
    for line, row in rows(path, COLUMNS[:3], _REMEDY):
        if "score" in row:
            raise InputError(path, "has a column score: it holds detections", "annotations have no score")
        name = (row["file_name"] or "").strip()
        if not name:
            raise InputError(path, f"line {line} names no file", _REMEDY)
        found = points.setdefault(name, [])
        cells = [(row[column] or "").strip() for column in COLUMNS[1:3]]
        if any(cells):
            found.append((_label(path, line, row), *_point(path, line, cells)))
    return [
        Region(
            name,
            xy=np.array([(x, y) for _, x, y in found], dtype=np.float64),
            label=np.array([label for label, _, _ in found], dtype=np.int64),
        )
        for name, found in points.items()
    ]


def write(path: Path, regions: Sequence[Region]) -> None:
    """Writes the table; an image without annotations has one row with empty x_px, y_px and label."""
    write_csv(
        path,
        COLUMNS,
        (
            row
            for region in regions
            for row in [
                (region.file_name, f"{x:.10g}", f"{y:.10g}", label)
                for (x, y), label in zip(region.xy.tolist(), region.label.tolist(), strict=True)
            ]
            or [(region.file_name, "", "", "")]
        ),
    )


def rows(
    path: Path, needed: Sequence[str], remedy: str, delimiter: str = ","
) -> Iterator[tuple[int, Mapping[str, str | None]]]:
    """Line number and cells of each row of a table with a header line.

    Raises:
        InputError: the file cannot be read, is no text table, or lacks one of the `needed` columns.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as stream:
            table = csv.DictReader(stream, delimiter=delimiter)
            missing = [column for column in needed if column not in (table.fieldnames or ())]
            if missing:
                raise InputError(path, f"lacks the column {', '.join(missing)}", remedy)
            for row in table:
                yield table.line_num, row
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror})", remedy) from None
    except (UnicodeDecodeError, csv.Error):
        raise InputError(path, "is not a text table", remedy) from None


def _point(path: Path, line: int, cells: Sequence[str]) -> tuple[float, float]:
    try:
        x, y = (float(cell) for cell in cells)
    except ValueError:
        raise InputError(path, f"line {line} holds {','.join(cells)!r}, no point", "expected numbers") from None
    return x, y


def _label(path: Path, line: int, row: Mapping[str, str | None]) -> int:
    text = (row.get("label") or "").strip()
    label = MITOTIC_FIGURE if not text else int(text) if text.isdecimal() else label_named(text)
    if label not in LABEL_NAMES:
        raise InputError(
            path, f"line {line} has the unknown label {text!r}", "expected 1 (mitotic figure) or 2 (hard negative)"
        )
    return label
