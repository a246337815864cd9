"""The models that come with the package: listed, named, and finding what they found when they were stored."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mitosight import checkpoint, inference, modelfile, phantom
from mitosight.detections import Detections
from mitosight.modelfile import FIRST
from mitosight.outputs import sha256
from mitosight.slide import Slide

Run = Callable[..., tuple[int, str, str]]
STORED = Path(__file__).parent / "stored" / "mitosight.json"
REGIONS = (("phantom-A", 901), ("phantom-F", 902))
SIZE_UM = (150.0, 150.0)


def searched(folder: Path) -> dict[str, Detections]:
    """The points of the usual model in the regions, which are drawn into `folder`."""
    regions = phantom.write_pairs(folder, list(REGIONS), SIZE_UM)
    detector = checkpoint.load(modelfile.USUAL)
    found = {}
    for region in regions:
        with Slide(folder / "images" / region.file_name) as slide:
            points = inference.detect(slide, detector, tile_px=512)
            found[region.file_name] = points[points.score >= 0.3]
    return found


def test_the_usual_model_finds_the_stored_points(tmp_path: Path) -> None:
    """To a px and a hundredth; `python tests/test_models.py` stores them anew, after the model was replaced."""
    stored = json.loads(STORED.read_text())
    assert stored["sha256"] == sha256(modelfile.locate(modelfile.USUAL))
    for name, points in searched(tmp_path).items():
        known = np.array(stored["points"][name])
        assert len(points) == len(known) > 3
        distance = np.linalg.norm(points.xy[:, None] - known[:, :2], axis=2)
        nearest = distance.argmin(axis=1)
        assert sorted(nearest) == list(range(len(known))) and distance.min(axis=1).max() < 1
        assert np.abs(points.score - known[nearest, 2]).max() < 0.01


def test_models_are_listed_and_have_cards(mitosight: Run) -> None:
    status, printed, _ = mitosight("models")
    lines = printed.splitlines()
    assert status == 0 and len(lines) == 2 * len(modelfile.shipped()) >= 2
    for own, first, (name, file) in zip(lines[::2], lines[1::2], modelfile.shipped().items(), strict=True):
        for line, told, of in (
            (own, name, file),
            (first, f"{name}, first look", modelfile.locate(file.parent / FIRST)),
        ):
            size = of.stat().st_size / 1e6
            assert line.startswith(f"{told}: mitosight, {size:.1f} MB, trained on ") and line.endswith(sha256(of))
        status, card, _ = mitosight("models", name)
        assert status == 0 and "Research use only" in card and sha256(file) in card
    status, _, told = mitosight("models", "nothing")
    assert status == 2 and "no model 'nothing' comes with mitosight; there are mitosight" in told


def test_together_they_are_small_and_say_nothing_of_a_machine() -> None:
    files = [file for model in modelfile.shipped().values() for file in model.parent.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 25e6
    for file in modelfile.shipped().values():
        for header in (modelfile.read_header(file), modelfile.read_header(file.parent / FIRST)):
            assert "/" not in header["provenance"]["recipe"]["training"]["start"]
            assert "/home" not in json.dumps(header) and "/work" not in json.dumps(header)


def test_a_name_is_looked_up_after_files_and_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    there = modelfile.shipped()[modelfile.USUAL]
    assert modelfile.locate(modelfile.USUAL) == there
    Path(modelfile.USUAL).mkdir()  # a folder of that name without a model
    assert modelfile.locate(modelfile.USUAL) == there
    (Path(modelfile.USUAL) / modelfile.FILE).write_bytes(there.read_bytes())
    assert modelfile.locate(modelfile.USUAL) == Path(modelfile.USUAL) / modelfile.FILE


def test_detect_needs_no_model(tmp_path: Path, mitosight: Run) -> None:
    """It takes the one that comes with the package, and its first look."""
    phantom.write_pairs(tmp_path / "data", [("phantom-F", 902)], (300.0, 300.0))
    slides, out = tmp_path / "data" / "images", tmp_path / "found"
    for options in ((), ("--fast",)):
        status, printed, told = mitosight("detect", slides, "--out", out, "--runtime", "torch", *options)
        assert status == 0 and "mitotic figures" in printed, told
    run = json.loads((out / "run.json").read_text())
    assert run["model"]["sha256"] == sha256(modelfile.shipped()[modelfile.USUAL]) and run["arguments"]["first"]


def store() -> None:
    """Keeps what the model finds now."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        found = searched(Path(folder))
    points = {name: np.column_stack([each.xy, each.score]).round(3).tolist() for name, each in found.items()}
    STORED.parent.mkdir(exist_ok=True)
    kept = {"sha256": sha256(modelfile.locate(modelfile.USUAL)), "points": points}
    STORED.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    store()
