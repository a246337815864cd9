"""Detections: points with scores in one frame, and suppression of duplicates within a radius."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from mitosight.errors import InputError
from mitosight.outputs import write_csv

COLUMNS = ("file_name", "x_px", "y_px", "score")
LABELS = ("non-mitotic figure", "mitotic figure")  # of points below and from the threshold; the challenge's words


@dataclass(frozen=True)
class Detections:
    """Found figures of one image.

    Attributes:
        xy: (n, 2) float64, centres in px of the frame, x to the right, y down; level-0 px of the slide
            everywhere but inside a tile.
        score: (n,) float64 in [0, 1].
        mpp: µm per px of that frame, None where it is not known.
    """

    xy: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 2)))
    score: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    mpp: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "xy", np.asarray(self.xy, dtype=np.float64).reshape(-1, 2))
        object.__setattr__(self, "score", np.asarray(self.score, dtype=np.float64).reshape(-1))
        assert len(self.xy) == len(self.score), (self.xy.shape, self.score.shape)

    def __len__(self) -> int:
        return len(self.score)

    def __getitem__(self, index: NDArray[np.bool_] | NDArray[np.intp] | slice) -> Detections:
        return Detections(self.xy[index], self.score[index], self.mpp)

    def ranked(self) -> Detections:
        """The same points by falling score; ties by y, then x, so that the order never depends on the input's."""
        return self[np.lexsort((self.xy[:, 0], self.xy[:, 1], -self.score))]

    def moved(self, offset_px: Sequence[float], scale: float = 1.0) -> Detections:
        """Points of a tile in the slide's frame: `xy * scale + offset_px`; mpp is divided by `scale`."""
        mpp = None if self.mpp is None else self.mpp / scale
        return Detections(self.xy * scale + np.asarray(offset_px, dtype=np.float64), self.score, mpp)

    def suppressed(self, radius_px: float) -> Detections:
        """Greedy suppression: by falling score, a point within `radius_px` (inclusive) of a kept one is dropped.

        Deterministic (ties as in `ranked`) and idempotent. Returns the kept points, ranked.
        """
        points = self.ranked()
        kept = np.ones(len(points), dtype=bool)
        if len(points) > 1 and radius_px > 0:
            pairs = cKDTree(points.xy).query_pairs(radius_px, output_type="ndarray")
            pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
            for better, worse in pairs:  # better is final here: every pair that could drop it came before
                if kept[better]:
                    kept[worse] = False
        return points[kept]


def concatenate(parts: Sequence[Detections], mpp: float | None = None) -> Detections:
    """All points of `parts`, which share one frame, as one; `mpp` is that frame's where `parts` is empty."""
    if not parts:
        return Detections(mpp=mpp)
    return Detections(np.concatenate([p.xy for p in parts]), np.concatenate([p.score for p in parts]), parts[0].mpp)


def write(path: str | Path, detections: Mapping[str, Detections], threshold: float) -> None:
    """Writes `file_name,x_px,y_px,score,label`; label says which points reach `threshold`.

    Label is "mitotic figure" where score >= threshold, else "non-mitotic figure" (the challenge's words).
    """
    names = np.array(LABELS)
    write_csv(
        path,
        (*COLUMNS, "label"),
        (
            (name, f"{x:.2f}", f"{y:.2f}", f"{score:.9g}", label)
            for name, found in detections.items()
            for (x, y), score, label in zip(
                found.xy, found.score, names[(found.score >= threshold).astype(int)], strict=True
            )
        ),
    )


def read(path: str | Path) -> dict[str, Detections]:
    """Reads detections by image from a CSV with the columns file_name, x_px, y_px, score, or a folder of such files.

    In a folder, `summary.csv` is passed over. Further columns are ignored.

    Raises:
        InputError: the file is missing or empty, lacks a column, or holds what is no number (names file and line);
            two files of a folder hold detections of one image name.
    """
    rows: dict[str, list[tuple[float, float, float]]] = {}
    source: dict[str, Path] = {}
    for file in _files(Path(path)):
        for line, row in _rows(file):
            name = row["file_name"]
            if source.setdefault(name, file) != file:
                raise InputError(
                    file, f"holds detections of {name}, as does {source[name].name}", "score slides of one name apart"
                )
            rows.setdefault(name, []).append(_point(file, line, row))
    return {name: Detections(np.array(r)[:, :2], np.array(r)[:, 2]) for name, r in rows.items()}


def labelled_threshold(path: str | Path) -> float | None:
    """The threshold that the column `label` of a file or folder of detections stands for; None without that column.

    That is the lowest score labelled "mitotic figure", or just above the highest score where no point is.

    Raises:
        InputError: a label is neither of the two, some files have labels and some not, or no threshold explains them.
    """
    path = Path(path)
    scores: dict[str | None, list[float]] = {}
    for file in _files(path):
        for line, row in _rows(file):
            label = row.get("label")
            if label not in (None, *LABELS):
                raise InputError(
                    file,
                    f"line {line} holds the label {label!r}",
                    f"expected {' or '.join(LABELS)}, or give --threshold",
                )
            scores.setdefault(label, []).append(_point(file, line, row)[2])
    below, reached = (scores.get(label, []) for label in LABELS)
    if not below and not reached:
        return None
    if None in scores:
        raise InputError(path, "has labels for some points only", "give --threshold")
    threshold = min(reached) if reached else float(np.nextafter(max(below), np.inf))
    if below and max(below) > threshold:
        raise InputError(
            path,
            f"is labelled by no single threshold: {max(below)} is below it and {threshold} is not",
            "give --threshold",
        )
    return threshold


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = sorted(f for f in path.glob("*.csv") if f.name != "summary.csv")
    if not files:
        raise InputError(path, "holds no CSV of detections", f"expected files with the columns {', '.join(COLUMNS)}")
    return files


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Line number and cells of each point."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as stream:
            table = csv.DictReader(stream)
            if table.fieldnames is None:
                raise InputError(path, "is empty", f"expected a CSV with {', '.join(COLUMNS)}")
            missing = [c for c in COLUMNS if c not in (table.fieldnames or ())]
            if missing:
                raise InputError(path, f"lacks the column {', '.join(missing)}", f"expected {', '.join(COLUMNS)}")
            for row in table:
                yield table.line_num, row
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror})", "expected a CSV of detections") from None
    except (UnicodeDecodeError, csv.Error):
        raise InputError(path, "is not a text table", f"expected a CSV with {', '.join(COLUMNS)}") from None


def _point(path: Path, line: int, row: Mapping[str, str | None]) -> tuple[float, float, float]:
    try:
        x, y, score = (float(row[c] or "") for c in COLUMNS[1:])
    except ValueError:
        raise InputError(
            path, f"line {line} holds a value that is no number", "expected numbers in x_px, y_px, score"
        ) from None
    if not (math.isfinite(x) and math.isfinite(y) and math.isfinite(score)):
        raise InputError(path, f"line {line} holds a value that is not finite", "expected finite x_px, y_px, score")
    return x, y, score
