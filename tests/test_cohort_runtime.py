"""`mitosight detect --runtime`, and exported files in the place of a model."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from mitosight import checkpoint, detections
from mitosight.methods import create
from mitosight.slide import write_tiff

pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
SMALL = {"weights": "none", "channels": 16, "head_convs": 1, "levels": [4], "normalise": "none", "tile_px": 128}
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    detector = create("retinanet", ["one"], SMALL)
    torch.nn.init.normal_(detector.class_head.layers[-1].weight, std=0.3)
    torch.nn.init.constant_(detector.class_head.layers[-1].bias, -0.5)
    return checkpoint.save(tmp_path_factory.mktemp("model"), detector, "retinanet", SMALL, {})


@pytest.fixture
def slide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MITOSIGHT_CACHE", str(tmp_path / "cache"))
    noise = np.random.default_rng(0).integers(-50, 50, (300, 400, 3))
    write_tiff(tmp_path / "a.tiff", (np.array([200, 120, 170]) + noise).astype(np.uint8), 0.25, compression="lzw")
    return tmp_path / "a.tiff"


def test_another_runtime_finds_the_same_and_says_so(slide: Path, tmp_path: Path, model: Path, mitosight: Run) -> None:
    out, seconds = tmp_path / "out", []
    for runtime in ("torch", "onnx"):
        status, _, told = mitosight("detect", slide, "--model", model, "--out", out, "--runtime", runtime)
        assert status == 0, told
        run = json.loads((out / "run.json").read_text())
        assert run["arguments"]["runtime"] == run["arguments"]["checked"]["name"] == runtime
        seconds.append(run["keys"][str(slide)])
        found = detections.read(out)["a.tiff"]
        if runtime == "torch":
            expected = found
    assert seconds[0] != seconds[1]  # the second was searched, not taken from the first
    assert run["arguments"]["checked"]["agrees"] is True
    strong, other = expected[expected.score > 0.1], found[found.score > 0.09]
    distance = np.linalg.norm(strong.xy[:, None] - other.xy, axis=2)
    assert len(strong) > 20 and distance.min(axis=1).max() <= 1
    assert np.abs(other.score[distance.argmin(axis=1)] - strong.score).max() < 1e-3


def test_an_exported_file_is_a_model(slide: Path, tmp_path: Path, model: Path, mitosight: Run) -> None:
    file = tmp_path / "model.onnx"
    status, _, told = mitosight("export", model, "--format", "onnx", "--out", file)
    assert status == 0, told
    for number, (path, runtime) in enumerate(((model, "onnx"), (file, "torch"))):  # "torch" is the default
        out = tmp_path / str(number)
        assert mitosight("detect", slide, "--model", path, "--out", out, "--runtime", runtime)[0] == 0
        assert json.loads((out / "run.json").read_text())["arguments"]["runtime"] == "onnx"
    assert (tmp_path / "0" / "a.csv").read_bytes() == (tmp_path / "1" / "a.csv").read_bytes()


def test_the_fastest_that_agrees_is_the_default(
    slide: Path, tmp_path: Path, model: Path, mitosight: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a word one is chosen, named, and taken again; where none is installed torch is left."""
    monkeypatch.undo()  # the tests' own default
    monkeypatch.setenv("MITOSIGHT_CACHE", str(tmp_path / "cache"))
    names = []
    for _ in range(2):
        status, _, told = mitosight("detect", slide, "--model", model, "--out", tmp_path / "out")
        assert status == 0, told
        names.append(json.loads((tmp_path / "out" / "run.json").read_text())["arguments"]["checked"]["name"])
    [check] = (tmp_path / "cache").rglob("check-auto-*.json")
    rows = json.loads(check.read_text())["runtimes"]
    agreeing = [name for name, row in rows.items() if row["agrees"]]
    assert rows["onnx"]["agrees"] and rows["onnx"]["missing"] == 0 < rows["onnx"]["points"]
    assert names == [min(agreeing, key=lambda name: rows[name]["seconds"])] * 2
    for library in ("onnxruntime", "openvino"):
        monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.setenv("MITOSIGHT_CACHE", str(tmp_path / "other"))
    status, _, told = mitosight("detect", slide, "--model", model, "--out", tmp_path / "plain")
    assert status == 0, told
    run = json.loads((tmp_path / "plain" / "run.json").read_text())
    assert run["arguments"]["runtime"] in ("torch", "torch-bf16")


def test_a_scheduler_has_torch_for_a_default(
    slide: Path, tmp_path: Path, model: Path, mitosight: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its workers may have graphics processors, or other processors than this machine."""
    monkeypatch.setattr("mitosight.runtime.choice.USUAL", "abacus")
    run = ("detect", slide, "--model", model, "--out", tmp_path / "out")
    assert "no runtime 'abacus'" in mitosight(*run)[2]
    assert "runtime" not in mitosight(*run, "--scheduler", "nowhere")[2]


def test_no_such_runtime(slide: Path, tmp_path: Path, model: Path, mitosight: Run) -> None:
    out = tmp_path / "out"
    status, _, told = mitosight("detect", slide, "--model", model, "--out", out, "--runtime", "abacus")
    assert status == 2 and "no runtime 'abacus'; runtimes are torch, " in told and told.count("\n") == 1
    assert not out.exists()
