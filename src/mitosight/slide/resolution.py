"""µm per pixel: where it comes from, and what is refused."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mitosight.errors import InputError, UsageError
from mitosight.mpp import ACCEPTED_MPP, possible

SQUARE_TOLERANCE = 0.02  # x and y of real scanners differ by less; beyond it a radius in µm has no single meaning
REMEDY = "pass --mpp or give it in domains.csv"


@dataclass(frozen=True)
class Resolution:
    """What an image file says of itself: µm per px along x and along y, and where in the file it stands."""

    x_mpp: float
    y_mpp: float
    source: str


def resolve(
    path: Path, argument_mpp: float | None, table_mpp: float | None, own: Resolution | None
) -> tuple[float, str]:
    """µm per px and its source: the argument, else the table, else the file's own; nothing is guessed.

    Raises:
        InputError: none is known, or the first known is impossible or, in the file, not that of square pixels.
        UsageError: the argument is impossible.
    """
    if argument_mpp is not None:
        if not possible(argument_mpp):
            raise UsageError(path, f"--mpp is {argument_mpp:g} µm per px", ACCEPTED_MPP)
        return argument_mpp, "--mpp"
    if table_mpp is not None:
        if not possible(table_mpp):
            found = f"domains.csv gives {table_mpp:g} µm per px"
            raise InputError(path, found, f"{ACCEPTED_MPP}: mend it or pass --mpp")
        return table_mpp, "domains.csv"
    if own is None:
        raise InputError(path, "its µm per px is unknown", REMEDY)
    found = f"{own.source} gives {own.x_mpp:g} x {own.y_mpp:g} µm per px"
    if not (possible(own.x_mpp) and possible(own.y_mpp)):
        raise InputError(path, found, f"{ACCEPTED_MPP}: {REMEDY}")
    if abs(own.x_mpp - own.y_mpp) > SQUARE_TOLERANCE * min(own.x_mpp, own.y_mpp):
        raise InputError(path, f"{found}: its pixels are not square", REMEDY)
    return (own.x_mpp + own.y_mpp) / 2, own.source
