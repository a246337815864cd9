"""Where regions come from: `domains.csv`, and the table of MIDOG++ that gives domains and split at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from mitosight.errors import InputError
from mitosight.mpp import ACCEPTED_MPP, possible
from mitosight.regions import plain
from mitosight.regions.checks import unique
from mitosight.regions.region import UNKNOWN, Domain, Region

COLUMNS = ("file_name", "slide", "scanner", "tumor_type", "species", "mpp")
_REMEDY = f"expected {','.join(COLUMNS)}, of which only file_name must be there"
_TABLE_COLUMNS = ("Slide", "Dataset", "Tumor", "Scanner", "Species")
_TABLE_REMEDY = "expected Slide;Dataset;Tumor;Scanner;Origin;Species"
_MISSPELT = {"Hamammatsu": "Hamamatsu"}  # in the table of MIDOG++: one scanner would be two domains


def with_domains(regions: Sequence[Region], csv_path: str | Path) -> list[Region]:
    """The regions with slide, scanner, tumour type, species and mpp from `domains.csv` or the table of MIDOG++.

    Empty cells and regions without a row keep what they had; rows of other files are passed over.

    Raises:
        InputError: a column is missing, a file stands twice, mpp is outside 0.05 to 10, or no row is of these regions.
    """
    path = Path(csv_path)
    rows = _table_rows(path, regions) if is_split_table(path) else _rows(path)
    if regions and not any(region.file_name in rows for region in regions):
        raise InputError(path, "names none of the annotated images", f"{regions[0].file_name} is one of them")
    return [_placed(region, rows.get(region.file_name, {})) for region in regions]


def read_mpp(csv_path: str | Path) -> dict[str, float]:
    """µm per px by file name, from the column mpp of `domains.csv`; files without one are left out.

    Raises:
        InputError: the table cannot be read, a file stands twice, or mpp is outside 0.05 to 10.
    """
    return {name: float(row["mpp"]) for name, row in _rows(Path(csv_path)).items() if row.get("mpp")}


def read_slides(csv_path: str | Path) -> dict[str, str]:
    """Names of slides by file name, from the column slide of `domains.csv`; files without one are left out.

    Raises:
        InputError: as `read_mpp`.
    """
    return {name: row["slide"] for name, row in _rows(Path(csv_path)).items() if row.get("slide")}


def is_split_table(path: Path) -> bool:
    """Whether a file is the `;` table of MIDOG++, by its first line."""
    try:
        with open(path, encoding="utf-8-sig", errors="replace") as stream:
            return stream.readline().startswith("Slide;")
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror})", _REMEDY) from None


def table_split(path: Path, regions: Sequence[Region]) -> dict[str, tuple[str, ...]]:
    """File names by part, from the table of MIDOG++; its slides that are not annotated here are passed over.

    Raises:
        InputError: the table lacks a column or a number, or none of its slides is annotated here.
    """
    parts: dict[str, list[str]] = {}
    for file_name, row in _table_rows(path, regions).items():
        parts.setdefault(row["Dataset"], []).append(file_name)
    if not parts:
        raise InputError(path, "names none of the annotated images", "its slide 1 is the file 001.tiff")
    return {part: tuple(names) for part, names in parts.items()}


def _rows(path: Path) -> dict[str, dict[str, str]]:
    found = [
        {key: (value or "").strip() for key, value in row.items() if key} | {"line": str(line)}
        for line, row in plain.rows(path, COLUMNS[:1], _REMEDY)
    ]
    unique(path, (row["file_name"] for row in found), "file")
    for row in found:
        _check_mpp(path, row)
    return {row["file_name"]: row for row in found}


def _check_mpp(path: Path, row: Mapping[str, str]) -> None:
    text = row.get("mpp", "")
    try:
        good = not text or possible(float(text))
    except ValueError:
        good = False
    if not good:
        raise InputError(
            path,
            f"line {row['line']} gives {row['file_name']} the mpp {text!r}",
            f"{ACCEPTED_MPP}, or nothing",
        )


def _table_rows(path: Path, regions: Sequence[Region]) -> dict[str, dict[str, str]]:
    """Rows of the table of MIDOG++ by file name; Slide is the number that 001.tiff begins with."""
    stems = {region.file_name: PurePosixPath(region.file_name).stem for region in regions}
    unique(path, (int(stem) for stem in stems.values() if stem.isdecimal()), "number of an annotated image")
    numbered = {int(stem): name for name, stem in stems.items() if stem.isdecimal()}
    rows: dict[str, dict[str, str]] = {}
    for line, row in plain.rows(path, _TABLE_COLUMNS, _TABLE_REMEDY, delimiter=";"):
        cells = {key: (row[key] or "").strip() for key in _TABLE_COLUMNS}
        if not cells["Slide"].isdecimal() or not cells["Dataset"]:
            raise InputError(path, f"line {line} lacks the number of a slide or its part", _TABLE_REMEDY)
        file_name = numbered.get(int(cells["Slide"]))
        if file_name in rows:
            raise InputError(path, f"line {line} names slide {cells['Slide']} again", "name each slide once")
        if file_name is not None:
            species = cells["Species"].lower()
            rows[file_name] = cells | {"scanner": cells["Scanner"], "tumor_type": cells["Tumor"], "species": species}
    return rows


def _placed(region: Region, row: Mapping[str, str]) -> Region:
    old = region.domain
    domain = Domain(
        _spelt(row.get("scanner") or old.scanner),
        row.get("tumor_type") or old.tumor_type,
        row.get("species") or old.species,
    )
    mpp = float(row["mpp"]) if row.get("mpp") else region.mpp
    return replace(region, domain=domain, slide=row.get("slide") or region.slide, mpp=mpp)


def _spelt(scanner: str) -> str:
    for wrong, right in _MISSPELT.items():
        scanner = scanner.replace(wrong, right)
    return scanner or UNKNOWN
