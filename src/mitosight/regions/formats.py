"""The annotation formats of the field: which one a file is, and one door to read and to write them all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mitosight.errors import InputError, UsageError
from mitosight.regions import domains, midog, per_image, plain, sliderunner
from mitosight.regions.checks import checked
from mitosight.regions.region import HARD_NEGATIVE, UNKNOWN, Region

_HARD, _VOTES, _SIZES, _TUMOURS, _FRACTIONS = "hard negatives", "votes", "sizes", "tumour types", "fractions of a px"


@dataclass(frozen=True)
class Format:
    """How one format is read and written, and which of the things that formats differ in it `holds`."""

    name: str
    says: str
    read: Callable[[Path], list[Region]]
    write: Callable[[Path, Sequence[Region]], None]
    holds: frozenset[str]
    per_image: bool = False


FORMATS = {
    form.name: form
    for form in (
        Format("midog", "MIDOG 2021 JSON", midog.read, midog.write, frozenset({_HARD, _SIZES, _FRACTIONS})),
        Format(
            "midog++",
            "MIDOG++ JSON",
            midog.read,
            midog.write_plus,
            frozenset({_HARD, _SIZES, _FRACTIONS, _VOTES, _TUMOURS}),
        ),
        Format(
            "sqlite",
            "SlideRunner or EXACT SQLite",
            sliderunner.read,
            sliderunner.write,
            frozenset({_HARD, _SIZES, _FRACTIONS, _VOTES}),
        ),
        Format(
            "tupac",
            "TUPAC16 or AMIDA13 CSV, one for each image",
            per_image.read_tupac,
            per_image.write_tupac,
            frozenset(),
            per_image=True,
        ),
        Format(
            "mitos14",
            "MITOS-ATYPIA-14 CSV, two for each image",
            per_image.read_mitos14,
            per_image.write_mitos14,
            frozenset({_HARD}),
            per_image=True,
        ),
        Format("csv", "one CSV file_name,x_px,y_px,label", plain.read, plain.write, frozenset({_HARD, _FRACTIONS})),
    )
}
_BY_SUFFIX = {".json": "midog", ".sqlite": "sqlite", ".sqlite3": "sqlite", ".db": "sqlite", ".csv": "csv"}
_ACCEPTED = "accepted are " + ", ".join(f"{form.says} ({form.name})" for form in FORMATS.values())


def read(path: str | Path, format: str | None = None) -> list[Region]:
    """Regions of an annotation file, or of a folder of CSVs; `format` where the content does not decide.

    Raises:
        InputError: the file is missing, of no known format, ambiguous, or holds what `checked` refuses.
        UsageError: `format` is no format.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(path, "does not exist", "expected an annotation file or a folder of CSVs")
    return checked(path, named(format or detect(path)).read(path))


def write(
    regions: Sequence[Region], path: str | Path, format: str | None = None, *, drop_hard_negatives: bool = False
) -> None:
    """Writes annotations whole or not at all, in `format` or the one that the suffix of `path` means.

    What else the format cannot hold (`losses` says it) is left out.

    Raises:
        InputError: the format has no hard negatives and there are some, `checked` refuses the regions, or the file
            cannot be written.
        UsageError: no such format, or the suffix means none.
    """
    path = Path(path)
    form = named(format or meant(path, regions))
    if drop_hard_negatives:
        regions = [without_hard_negatives(region) for region in regions]
    lost = sum(len(region.hard_negatives) for region in regions)
    if lost and _HARD not in form.holds:
        raise InputError(
            path,
            f"{form.name} has no hard negatives: {lost} would be lost",
            "give --drop-hard-negatives to leave them out",
        )
    if form.per_image and (path.suffix or path.is_file()):
        raise UsageError(path, f"{form.name} is a folder with one CSV for each image", "name a folder")
    form.write(path, checked(path, regions))


def named(name: str) -> Format:
    """The format of that name; UsageError lists those there are."""
    if name not in FORMATS:
        raise UsageError(None, f"there is no format {name!r}", _ACCEPTED)
    return FORMATS[name]


def meant(path: Path, regions: Sequence[Region]) -> str:
    """The format that the suffix of an output means; .json is MIDOG++ where votes or tumour types are known."""
    if path.suffix.lower() not in _BY_SUFFIX:
        raise UsageError(path, "its suffix means no format", f"say which with --to: {', '.join(FORMATS)}")
    name = _BY_SUFFIX[path.suffix.lower()]
    plus = any(any(region.votes) or region.domain.tumor_type != UNKNOWN for region in regions)
    return "midog++" if name == "midog" and plus else name


def losses(regions: Sequence[Region], format: str) -> list[str]:
    """What of these regions `format` does not hold, in words; scanners and mpp belong to domains.csv."""
    held = {
        _HARD: sum(len(region.hard_negatives) for region in regions),
        _VOTES: sum(bool(votes) for region in regions for votes in region.votes),
        _SIZES: sum(bool(region.width_px) for region in regions),
        _TUMOURS: sum(region.domain.tumor_type != UNKNOWN for region in regions),
        _FRACTIONS: sum(int((region.xy != np.rint(region.xy)).any(axis=1).sum()) for region in regions),
    }
    of = {_HARD: "", _VOTES: " of annotations", _SIZES: " of images", _TUMOURS: " of images", _FRACTIONS: " (rounded)"}
    lost = [f"{count} {what}{of[what]}" for what, count in held.items() if count and what not in named(format).holds]
    return [*lost, "suffixes of image names"] if named(format).per_image else lost


def without_hard_negatives(region: Region) -> Region:
    """The same region with its mitotic figures only."""
    kept = region.label != HARD_NEGATIVE
    votes = tuple(votes for votes, keep in zip(region.votes, kept, strict=True) if keep)
    return replace(region, xy=region.xy[kept], label=region.label[kept], votes=votes)


def is_annotation(path: Path) -> bool:
    """Whether a file is to be taken as annotations, by its suffix or first bytes, rather than as an image."""
    return path.suffix.lower() in _BY_SUFFIX or _head(path).startswith(sliderunner.MAGIC)


def detect(path: Path) -> str:
    """The name of the format of an existing file or folder, by its content.

    Raises:
        InputError: it is empty, of no known format, or one of two that the content does not tell apart.
    """
    if path.is_dir():
        return per_image.kind(path)
    head = _head(path)
    if head.startswith(sliderunner.MAGIC):
        return "sqlite"
    if head.startswith(b"\x80") or path.suffix.lower() in (".pkl", ".pickle"):
        raise InputError(path, "is a Python pickle, which is never opened", _ACCEPTED)
    if not head.strip():
        if path.suffix.lower() == ".csv":
            return per_image.kind(path)
        raise InputError(path, "is empty", _ACCEPTED)
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"{"):
        content = path.read_bytes()
        return "midog++" if b'"tumor_type"' in content or b'"labels"' in content else "midog"
    first = text.splitlines()[0]
    if b"file_name" in first:
        return "csv"
    if domains.is_split_table(path):
        raise InputError(path, "is the split table of MIDOG++, not its annotations", "give it as --split or --domains")
    if first[:1] in b"+-.0123456789":
        return per_image.kind(path)
    raise InputError(path, "is of no known annotation format", _ACCEPTED)


def _head(path: Path) -> bytes:
    try:
        with open(path, "rb") as stream:
            return stream.read(1024)
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror})", _ACCEPTED) from None
