"""Fingerprints: what stands for the names of slides where models say which they learned from."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterable
from pathlib import Path

SETS = ("MIDOG21", "TUPAC16")  # data sets that models of earlier versions name before a number, saying that alone


def fingerprint(name: str) -> str:
    """What stands for a name that would tell who it is of."""
    return hashlib.sha256(name.encode()).hexdigest()[:16]


def fingerprints(slides: Iterable[str]) -> set[str]:
    """What a model says of slides that it learned from; see `met`."""
    return {fingerprint(name) for slide in slides for name in said_names(slide)}


def met(slides: Iterable[str], known: Container[str]) -> list[str]:
    """Those of `slides`, sorted, that are among the ones whose `fingerprints` are known.

    A name may begin with that of a data set: "MIDOG21:024". It is the same slide as "024", which does not say whose it
    is, and another than "TUPAC16:024".
    """
    return sorted({slide for slide in slides if any(fingerprint(name) in known for name in sought_names(slide))})


def said_names(slide: str) -> tuple[str, ...]:
    """Names under which a slide is kept, to be found by `sought_names`: its own, and ":024" for "MIDOG21:024"."""
    rest = _rest(slide)
    return (slide, f":{rest}") if rest else (slide,)


def sought_names(slide: str) -> tuple[str, ...]:
    """Names of which one is kept where the slide is known, with the name of its data set or without."""
    rest = _rest(slide)
    return (slide, rest) if rest else (slide, f":{slide}", *(f"{name}:{slide}" for name in SETS))


def names_of(path: Path) -> tuple[str, str]:
    """Names that the slide in an image file has where no table gives it one: those of regions, by their file name.

    Without its suffix, and with the folder that it is in, since a data folder may have subfolders.
    """
    return path.stem, f"{path.absolute().parent.name}/{path.stem}"


def _rest(slide: str) -> str:
    """What follows the name of a data set; "" where there is none."""
    before, _, rest = slide.partition(":")
    return rest if before else ""
