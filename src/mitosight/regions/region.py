"""The nouns of annotation: Domain and Region."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

MITOTIC_FIGURE = 1
HARD_NEGATIVE = 2
LABEL_NAMES = {MITOTIC_FIGURE: "mitotic figure", HARD_NEGATIVE: "hard negative"}
BOX_PX = 50  # side of the boxes of MIDOG; the annotation itself is the centre
UNKNOWN = "unknown"
_NEGATED = re.compile(r"\bno[nt]?\b|\bnon|like|look|mimic|impost|negative")


def label_named(name: str) -> int | None:
    """The label that the name of a class means; None where it names neither.

    "mitotic figure", "Mitosis" -> 1; "hard negative", "not mitotic figure", "mitosis-like" -> 2. Numbers of classes
    differ between databases (in one of canine mast cell tumours 1 is a granulocyte), their names do not.
    """
    words = name.lower().replace("_", " ")
    if "hard negative" in words or "impost" in words:
        return HARD_NEGATIVE
    if "mito" not in words:
        return None
    return HARD_NEGATIVE if _NEGATED.search(words) else MITOTIC_FIGURE


@dataclass(frozen=True)
class Domain:
    """Where a region comes from; "unknown" where nobody said."""

    scanner: str = UNKNOWN
    tumor_type: str = UNKNOWN
    species: str = UNKNOWN


@dataclass(frozen=True)
class Region:
    """An annotated rectangle of a slide (MIDOG calls it a case), stored as an image file of its own.

    Attributes:
        file_name: name of the image file below images/, unique in a data set; TUPAC's holds the case: 01/25.tif.
        width_px, height_px: size in level-0 px; 0 where the annotation file does not say.
        xy: (n, 2) float64, centres in level-0 px, in file order.
        label: (n,) int64, 1 mitotic figure, 2 hard negative.
        votes: for each annotation the labels given by the single experts; () where unknown.
        slide: name of the slide it was cut from: what a split must keep together; file_name's stem by default.
            A region composed of several slides names them all, joined by "|". It may begin with the name of a data
            set, "MIDOG21:024" (`regions.fingerprints`).
        mpp: µm per px; None where unknown (it is never guessed).
    """

    file_name: str
    width_px: int = 0
    height_px: int = 0
    xy: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 2)))
    label: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    votes: tuple[tuple[int, ...], ...] = ()
    domain: Domain = Domain()
    slide: str = ""
    mpp: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "xy", np.asarray(self.xy, dtype=np.float64).reshape(-1, 2))
        object.__setattr__(self, "label", np.asarray(self.label, dtype=np.int64).reshape(-1))
        object.__setattr__(self, "votes", self.votes or tuple(() for _ in self.label))
        object.__setattr__(self, "slide", self.slide or self.file_name.rsplit(".", 1)[0])
        assert len(self.xy) == len(self.label) == len(self.votes), self.file_name

    @property
    def slides(self) -> tuple[str, ...]:
        """The slides it was cut from: one, but for regions composed of several."""
        return tuple(self.slide.split("|"))

    @property
    def figures(self) -> NDArray[np.float64]:
        """(n, 2) centres of the mitotic figures."""
        return self._centres(MITOTIC_FIGURE)

    @property
    def hard_negatives(self) -> NDArray[np.float64]:
        """(n, 2) centres of the labelled look-alikes."""
        return self._centres(HARD_NEGATIVE)

    def _centres(self, label: int) -> NDArray[np.float64]:
        chosen: NDArray[np.float64] = self.xy[self.label == label]
        return chosen

    @property
    def area_mm2(self) -> float | None:
        """Area; None where size or mpp is unknown."""
        if self.mpp is None or not self.width_px:
            return None
        return self.width_px * self.height_px * (self.mpp / 1000) ** 2
