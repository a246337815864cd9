"""`mitosight detect` on slides that are bad inside: each has its line, and the others are done."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from mitosight import checkpoint
from mitosight.methods import create
from mitosight.slide import tifffile_reader, write_tiff

SMALL = {"weights": "none", "channels": 16, "head_convs": 1, "levels": [4], "normalise": "none", "tile_px": 256}
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    return checkpoint.save(
        tmp_path_factory.mktemp("model"), create("retinanet", ["one"], SMALL), "retinanet", SMALL, {}
    )


def eosin(height: int = 300, width: int = 300) -> np.ndarray:
    noise = np.random.default_rng(0).integers(-50, 50, (height, width, 3))
    return (np.array([200, 120, 170]) + noise).astype(np.uint8)


def slide(path: Path) -> Path:
    write_tiff(path, eosin(), 0.25, tile_px=64)
    return path


def spoil(path: Path) -> Path:
    """Random bytes in the tile in the middle: column 2, row 2 of 5 x 5."""
    with tifffile.TiffFile(path) as file:
        offset, count = (values[12] for values in (file.pages.first.dataoffsets, file.pages.first.databytecounts))
    data = bytearray(path.read_bytes())
    data[offset + count // 2 : offset + count // 2 + 200] = np.random.default_rng(0).bytes(200)
    path.write_bytes(data)
    return path


def goes_away(monkeypatch: pytest.MonkeyPatch, path: Path) -> Path:
    """Removes `path` after twenty of its 25 tiles have been read, before it is opened again."""
    read, counted = tifffile_reader._Source.read, []

    def then_remove(self: tifffile_reader._Source, offset: int, count: int) -> bytes:
        if self._path == path:
            counted.append(offset)
            if len(counted) > 20 and self._stream is None:
                path.unlink(missing_ok=True)
        return read(self, offset, count)

    monkeypatch.setattr(tifffile_reader._Source, "read", then_remove)
    monkeypatch.setattr(tifffile_reader, "CACHE_BYTES", 0)  # so that tiles are read again
    return path


def image(path: Path, pixels: np.ndarray, photometric: str, **options: object) -> Path:
    """A tiled TIFF of 0.25 µm per px."""
    per_cm = {"resolution": (40000, 40000), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(path, pixels, tile=(64, 64), photometric=photometric, metadata=None, **per_cm, **options)
    return path


def test_slides_that_are_bad_inside(
    tmp_path: Path, model: Path, mitosight: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = {
        spoil(slide(tmp_path / "spoilt.tiff")): "is damaged at level 0, x 128 to 192, y 128 to 192 px (",
        goes_away(monkeypatch, slide(tmp_path / "gone.tiff")): "can no longer be read (No such file or directory)",
        image(tmp_path / "deep.tif", eosin().astype(np.uint16) * 257, "rgb"): "holds 3 channels of 16 bit (RGB)",
        image(tmp_path / "grey.tif", eosin()[..., 0], "minisblack"): "holds 1 channels of 8 bit (MINISBLACK)",
        image(tmp_path / "thin.tif", eosin(1), "rgb"): "300 x 1 px is smaller than a tile of 128 px",
    }
    alpha = np.dstack([eosin(), np.full((300, 300), 255, np.uint8)])
    good = [
        slide(tmp_path / "good.tiff"),
        image(tmp_path / "alpha.tif", alpha, "rgb", extrasamples=["unassalpha"]),
    ]
    out = tmp_path / "out"
    status, printed, told = mitosight("detect", *bad, *good, "--model", model, "--out", out)
    lines = told.splitlines()
    assert status == 1 and lines[-1] == f"mitosight: 5 of 7 slides failed; see {out / 'summary.csv'}"
    with open(out / "summary.csv", newline="") as stream:
        rows = {row["slide"]: row for row in csv.DictReader(stream)}
    for path, reason in bad.items():
        (line,) = (line for line in lines if line.startswith(f"{path}: "))
        assert reason in line and (rows[str(path)]["status"], rows[str(path)]["message"]) == ("failed", line)
        assert not (out / f"{path.stem}.csv").exists()
    for path in good:
        assert rows[str(path)]["status"] == "ok" and (out / f"{path.stem}.csv").is_file() and path.name in printed
