"""The demonstration: what it finds is what the README says, and its picture shows it."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mitosight import demo, detections
from mitosight.detections import Detections
from mitosight.regions import Region
from mitosight.slide import write_tiff

Run = Callable[..., tuple[int, str, str]]
ROOT = Path(__file__).resolve().parents[1]
TOLD = json.loads((ROOT / "docs" / "results" / "demo.json").read_text(encoding="utf-8"))
COUNTS = ("images", "figures", "true_positives", "false_positives", "false_negatives")


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def test_it_finds_what_the_readme_tells(tmp_path: Path, mitosight: Run) -> None:
    """All of it, as `make demo` does; docs/figures/found.py writes the numbers anew, after the model was replaced."""
    out = tmp_path / "demo"
    status, printed, told = mitosight("demo", "--out", out)
    assert status == 0, told
    assert f"{TOLD['true_positives']} of {TOLD['figures']} mitotic figures found on phantom-F" in printed
    assert f"with {TOLD['false_positives']} false points (F1 {TOLD['f1']:.2f})" in printed
    scores = json.loads((out / "scores.json").read_text())
    assert [scores[key] for key in COUNTS] == [TOLD[key] for key in COUNTS]
    assert scores["settings"] == TOLD["settings"] and scores["aucpr"] == pytest.approx(TOLD["aucpr"], abs=0.01)
    found = detections.read(out / "found")
    above = [points[points.score >= scores["settings"]["threshold"]] for points in found.values()]
    assert sum(map(len, above)) == TOLD["true_positives"] + TOLD["false_positives"]
    shown = pixels(out / "found.png")
    assert shown.shape == pixels(ROOT / "docs" / "figures" / "found.png").shape
    ringed = (shown == demo.GREEN).all(axis=2).sum()
    assert (
        ringed > 500 and (pixels(out / "data" / "images" / "phantom-F_507.tiff") == demo.GREEN).all(axis=2).sum() == 0
    )


def test_a_second_call_finds_its_data_and_one_that_was_broken_off_draws_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "TISSUES", range(507, 508))
    monkeypatch.setattr(demo, "SIZE_UM", (60.0, 60.0))
    told: list[str] = []
    reports = [demo.run(tmp_path, told.append) for _ in range(2)]
    drawn = "drawing 1 regions as phantom-F sees them, which the detector never saw"
    assert told == [drawn, *["looking for mitotic figures in 1 regions"] * 2]
    assert reports[0].to_json() == reports[1].to_json() == json.loads((tmp_path / "scores.json").read_text())
    (tmp_path / "data" / "domains.csv").unlink()
    demo.run(tmp_path, told.append)
    assert told[3:] == [drawn, "looking for mitotic figures in 1 regions"]


def test_rings_by_hand(tmp_path: Path) -> None:
    """At 0.25 µm/px rings have a radius of 30 px: their tops lie 30 px above the points."""
    write_tiff(tmp_path / "a.tiff", np.full((256, 256, 3), 255, dtype=np.uint8), 0.25, compression="lzw")
    region = Region("a.tiff", 256, 256, xy=[(50, 50), (150, 50)], label=[1, 1], mpp=0.25)
    found = Detections([(60, 50), (50, 150), (150, 150)], [0.9, 0.8, 0.3], 0.25)  # the last is below the threshold
    demo.draw_found(tmp_path / "found.png", tmp_path / "a.tiff", region, found, threshold=0.5)
    shown = pixels(tmp_path / "found.png")
    tops = {"found": (60, 21), "missed": (150, 21), "false": (50, 121), "below": (150, 121)}
    colours = {name: tuple(map(int, shown[y, x])) for name, (x, y) in tops.items()}
    assert colours == {"found": demo.GREEN, "missed": demo.YELLOW, "false": demo.RED, "below": (255, 255, 255)}
