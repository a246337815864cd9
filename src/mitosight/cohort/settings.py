"""How the slides of a cohort are searched, and what may make a detector of its own for each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from mitosight.device import release
from mitosight.errors import UsageError
from mitosight.methods.detector import Detector
from mitosight.mpp import ACCEPTED_MPP, possible
from mitosight.outputs import sha256
from mitosight.regions import names_of
from mitosight.slide import Slide
from mitosight.tissue import Tissue, find_tissue, tissue_from_geojson

FIRST_NEAR_UM = 2.0  # how far a place of the first look may be from that of torch: with 5 it is within 7 of the figure
FIRST_TOLERANCE = 0.05  # how far its score may be: it is compared with the first look's threshold, and then forgotten


@dataclass(frozen=True)
class FirstLook:
    """A coarser detector, whose points from its threshold on are where the detector itself looks (`mitosight pair`).

    `sha256` is that of its file.
    """

    detector: Detector
    file: Path
    sha256: str

    @property
    def runtime(self) -> str:
        """What computes its network."""
        return str(self.detector.runtime["name"])


def of_first_look(detector: Detector, runtime: str) -> dict[str, Any]:
    """How far a first look's points may be from those of torch, as `open_runtime` takes it; int8 has its own scores."""
    tolerance = None if runtime == "openvino-int8" else FIRST_TOLERANCE
    return {"near_px": FIRST_NEAR_UM / detector.mpp, "tolerance": tolerance}


@dataclass(frozen=True)
class Settings:
    """How slides are read and searched.

    Attributes:
        mpp: goes over what files and `table_mpp` say; None and {} for neither.
        table_mpp, slides: µm per px and names of slides, by the name of the file, or by `key_of` where files of several
            folders have the same. An adapted model says by these names what it has seen.
        threshold: score from which a point is a figure; None for the model's.
        tile_px, batch: None for those of the model and the device; see `inference.detect`.
        tissue: "find" searches the tissue alone, "all" the whole slide, a path to GeoJSON the areas that it draws.
        preview: whether a picture of each slide with the outline of its tissue is written.
        redo: whether slides are searched again that the folder has results of.
        runtime: of the network, see `mitosight.runtime`.
        first: the detector looks only where this one found something.
        scheduler: whose workers search: "local", "local:N" or the address of a Dask scheduler; None for this process.
        device: of these workers; this process searches where the detector is.
    """

    mpp: float | None = None
    table_mpp: Mapping[str, float] | None = None
    slides: Mapping[str, str] | None = None
    threshold: float | None = None
    tile_px: int | None = None
    batch: int | None = None
    bf16: bool = False
    tissue: Literal["find", "all"] | Path = "find"
    preview: bool = False
    redo: bool = False
    runtime: str = "torch"
    first: FirstLook | None = None
    scheduler: str | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.mpp is not None and not possible(self.mpp):
            raise UsageError(None, f"--mpp is {self.mpp:g}", ACCEPTED_MPP)
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise UsageError(None, f"--threshold is {self.threshold:g}", "scores go from 0 to 1")

    def table_of(self, path: Path) -> float | None:
        """What the table says of a slide's µm per px."""
        table = self.table_mpp or {}
        return table.get(key_of(path), table.get(path.name))

    def names_of(self, path: Path) -> tuple[str, ...]:
        """The names of the slides in a file: as the table has them, or by its own name."""
        table = self.slides or {}
        told = table.get(key_of(path), table.get(path.name))
        return tuple(told.split("|")) if told else names_of(path)

    def of_points(self, path: Path | None) -> dict[str, Any]:
        """All that decides the points of a slide, or of slides, beside their pixels and the model."""
        drawn = {"sha256": sha256(self.tissue)} if isinstance(self.tissue, Path) else self.tissue
        first = {} if self.first is None else {"first_runtime": self.first.runtime}
        return {
            "mpp": self.mpp if self.mpp is not None or path is None else self.table_of(path),
            "tile_px": self.tile_px,
            "batch": self.batch,
            "bf16": self.bf16,
            "tissue": drawn,
            "runtime": self.runtime,
            "first": None if self.first is None else self.first.sha256,
            **first,
        }


def key_of(path: Path) -> str:
    """What stands for one file, and not for those of its name in other folders, in the tables of `Settings`."""
    return str(path.absolute())


def tissue_of(slide: Slide, where: Literal["find", "all"] | Path) -> Tissue | None:
    """Where a slide is searched, by the attribute `tissue` of `Settings`; None for everywhere.

    Raises:
        InputError: as `find_tissue` and `tissue_from_geojson`.
    """
    if isinstance(where, Path):
        return tissue_from_geojson(where, slide)
    found = find_tissue(slide) if where == "find" else None
    release()  # what finding it took, before the search takes its own
    return found


@dataclass(frozen=True)
class Prepared:
    """The detector for one slide, what the slide's row says of it, and what `run.json` does."""

    detector: Detector
    message: str
    facts: dict[str, Any]


class Preparation(Protocol):
    """Makes a detector of its own for each slide, which is searched in its tissue or everywhere.

    `settings` say how, and tell its results from those of others.
    """

    settings: dict[str, Any]

    def __call__(self, slide: Slide, where: Tissue | None) -> Prepared: ...
