"""One headerless CSV for each image: TUPAC16 and AMIDA13 (row, column), MITOS-ATYPIA-14 (x, y, confidence)."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from mitosight.errors import InputError
from mitosight.outputs import whole_folder
from mitosight.regions.checks import unique
from mitosight.regions.region import HARD_NEGATIVE, MITOTIC_FIGURE, Region

TUPAC_SUFFIX, MITOS14_SUFFIX = ".tif", ".tiff"  # of the challenges' images; the CSVs do not name it
_LABELLED = re.compile(r"(.+?)(_not)?_mitosis")
_FRAME = re.compile(r"[AH](\d\d)_\d\d[A-D][a-d]?")  # A03 and H03 are one glass slide, scanned twice
_FORMS = "expected row,column (TUPAC16, AMIDA13) or x,y,confidence (MITOS-ATYPIA-14), no header"


def kind(path: Path) -> str:
    """ "tupac" or "mitos14": which of the two a headerless CSV, or a folder of them, is.

    Decided by the suffix _mitosis of the name or three columns (mitos14), or by two columns of whole numbers (tupac).

    Raises:
        InputError: neither decides, as when every file is empty or two columns hold fractions.
    """
    files = _files(path)
    if any(_LABELLED.fullmatch(file.stem) for file in files):
        return "mitos14"
    rows = [row for file in files for row in _rows(file)]
    columns = {len(row) for row in rows}
    if columns == {3}:
        return "mitos14"
    if columns == {2} and all(value == int(value) for row in rows for value in row if np.isfinite(value)):
        return "tupac"
    found = "holds no row" if not rows else "holds no whole numbers" if columns == {2} else "has changing columns"
    raise InputError(path, f"{found}: it could be tupac (y, x) or mitos14 (x, y)", "say which with --from")


def read_tupac(path: Path) -> list[Region]:
    """Regions of `<case>/<image>.csv`, row then column, all mitotic figures; the case is the slide.

    The image of `01/25.csv` is taken to be `01/25.tif`, as in the challenge. A third column (the confidence of
    submitted results) is passed over.

    Raises:
        InputError: a file is no headerless table of numbers.
    """
    root = path if path.is_dir() else path.parent
    regions = []
    for file in _files(path):
        name = PurePosixPath(file.relative_to(root).as_posix())
        rows = _rows(file)
        case = "" if name.parent == PurePosixPath(".") else str(name.parent)
        regions.append(_region(str(name.with_suffix(TUPAC_SUFFIX)), [(MITOTIC_FIGURE, r[1], r[0]) for r in rows], case))
    return regions


def read_mitos14(path: Path) -> list[Region]:
    """Regions of `<frame>_mitosis.csv` (figures) and `<frame>_not_mitosis.csv` (hard negatives), x then y.

    Where no file has such a suffix, `<frame>.csv` holds figures; where some have it, others (nuclear atypia) are
    passed over. The image is taken to be `<frame>.tiff`, as in the challenge; the slide of H03_00Aa is 03.

    Raises:
        InputError: a file is no headerless table of numbers.
    """
    files = _files(path)
    if any(_LABELLED.fullmatch(file.stem) for file in files):
        files = [file for file in files if _LABELLED.fullmatch(file.stem)]
    unique(path, (file.name for file in files), "file")
    points: dict[str, list[tuple[int, float, float]]] = {}
    for file in files:
        match = _LABELLED.fullmatch(file.stem)
        frame, label = file.stem, MITOTIC_FIGURE
        if match:
            frame, label = match[1], HARD_NEGATIVE if match[2] else MITOTIC_FIGURE
        points.setdefault(frame, []).extend((label, row[0], row[1]) for row in _rows(file))
    return [_region(frame + MITOS14_SUFFIX, found, _glass(frame)) for frame, found in sorted(points.items())]


def write_tupac(path: Path, regions: Sequence[Region]) -> None:
    """Writes a folder with one CSV for each image, row and column in whole px; empty where there is no figure."""
    names = [str(PurePosixPath(region.file_name).with_suffix(".csv")) for region in regions]
    unique(path, names, "file")
    _write(
        path, {name: np.rint(r.figures[:, ::-1]).astype(int).tolist() for name, r in zip(names, regions, strict=True)}
    )


def write_mitos14(path: Path, regions: Sequence[Region]) -> None:
    """Writes a folder with `<frame>_mitosis.csv` and `<frame>_not_mitosis.csv` for each image, x and y in whole px.

    The confidence is the share of votes for a mitotic figure; without votes 1 for figures, 0 for hard negatives.
    """
    tables: dict[str, list[list[object]]] = {}
    stems = [PurePosixPath(region.file_name).stem for region in regions]
    unique(path, stems, "image")
    for stem, region in zip(stems, regions, strict=True):
        figures = tables[f"{stem}_mitosis.csv"] = []
        look_alikes = tables[f"{stem}_not_mitosis.csv"] = []
        for (x, y), label, votes in zip(np.rint(region.xy).astype(int), region.label, region.votes, strict=True):
            share = np.mean([v == MITOTIC_FIGURE for v in votes or (label,)])
            (figures if label == MITOTIC_FIGURE else look_alikes).append([x, y, f"{share:.2f}"])
    _write(path, tables)


def _files(path: Path) -> list[Path]:
    files = sorted(path.rglob("*.csv")) if path.is_dir() else [path]
    if not files:
        raise InputError(path, "holds no CSV", _FORMS)
    return files


def _rows(path: Path) -> list[list[float]]:
    rows = []
    try:
        with open(path, newline="", encoding="utf-8-sig") as stream:
            table = csv.reader(stream)
            for row in table:
                cells = [cell for cell in row if cell.strip()]
                if cells:
                    rows.append(_numbers(path, table.line_num, cells))
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror})", _FORMS) from None
    except (UnicodeDecodeError, csv.Error):
        raise InputError(path, "is not a text table", _FORMS) from None
    return rows


def _numbers(path: Path, line: int, cells: Sequence[str]) -> list[float]:
    try:
        numbers = [float(cell) for cell in cells]
    except ValueError:
        raise InputError(path, f"line {line} holds {','.join(cells)!r}", _FORMS) from None
    if len(numbers) not in (2, 3):
        raise InputError(path, f"line {line} has {len(numbers)} columns", _FORMS)
    return numbers


def _region(file_name: str, points: Sequence[tuple[int, float, float]], slide: str) -> Region:
    xy = np.array([(x, y) for _, x, y in points], dtype=np.float64)
    return Region(file_name, xy=xy, label=np.array([label for label, _, _ in points], dtype=np.int64), slide=slide)


def _glass(frame: str) -> str:
    match = _FRAME.fullmatch(frame)
    return match[1] if match else ""


def _write(path: Path, tables: Mapping[str, Iterable[Sequence[object]]]) -> None:
    with whole_folder(path) as temporary:
        for name, rows in tables.items():
            file = temporary / name
            file.parent.mkdir(parents=True, exist_ok=True)
            with open(file, "w", newline="", encoding="utf-8") as stream:
                csv.writer(stream, lineterminator="\n").writerows(rows)
