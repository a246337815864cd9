"""The benchmark of devices, on a CPU and a small model, and what a GPU's batches are made of."""

import importlib
import json
import sys
from contextlib import nullcontext
from itertools import count
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from mitosight import checkpoint, inference
from mitosight.device import exact
from mitosight.methods import create
from mitosight.methods.parts import boxes
from mitosight.runtime import graphs
from mitosight.slide import Slide, write_tiff

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
SMALL = {"weights": "none", "channels": 16, "head_convs": 1, "levels": [4], "normalise": "none", "tile_px": 128}


@pytest.fixture
def speed(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("device_speed")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    detector = create("retinanet", ["one"], SMALL)
    torch.nn.init.normal_(detector.class_head.layers[-1].weight, std=0.3)
    torch.nn.init.constant_(detector.class_head.layers[-1].bias, -0.5)
    return checkpoint.save(tmp_path / "model", detector, "retinanet", SMALL, {})


def test_on_a_cpu(
    speed: ModuleType,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """300 x 200 px at 0.23 µm/px, tiles of 128 px that overlap by 64: five columns in two or three rows."""
    path = tmp_path / "speed.json"
    write_tiff(tmp_path / "region-300x200.tiff", np.full((200, 300, 3), 200, np.uint8), 0.23)
    words = ["--work", tmp_path, "--runtime", "torch", "--runtime", "torch-bf16", "--batch", 1, "--batch", 3]
    words += ["--size", 300, 200, "--rounds", 1, "--json", path]
    monkeypatch.setattr(sys, "argv", ["device_speed.py", str(model), *map(str, words)])
    speed.main()
    found = json.loads(path.read_text())
    assert found["area_mm2"] == pytest.approx(300 * 200 * 0.23e-3**2)
    assert found["tiles"] == 4 * 3 and found["gpu"] is None
    named = [(row["runtime"], row["batch"]) for row in found["rows"]]
    assert named == [("torch", 1), ("torch", 3), ("torch-bf16", 1), ("torch-bf16", 3)]
    for row in found["rows"]:
        took, tile_mm2 = row["seconds"], found["area_mm2"] / found["tiles"]
        assert row["network_mm2_per_s"] == pytest.approx(row["batch"] * tile_mm2 / took["network"][0])
        assert row["end_to_end_mm2_per_s"] == pytest.approx(found["area_mm2"] / took["whole"][0])
        assert min(row["ms_per_mm2"][part] for part in speed.PARTS) > 0
    assert list(found["agreement"]) == ["cpu torch-bf16"]
    assert 0 < found["agreement"]["cpu torch-bf16"]["maps"] < 0.05
    assert capsys.readouterr().out.count("| cpu | torch") == 4


def test_batches_are_filled_over_the_borders_of_runs(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four tiles a row in four rows: six at a time are two batches and a last one of four, of other rows."""
    write_tiff(tmp_path / "slide.tiff", np.full((320, 320, 3), 200, np.uint8), 0.25, compression="lzw")
    detector, seen = checkpoint.load(model), []
    whole = type(detector).network

    def network(self: torch.nn.Module, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        seen.append(len(images))
        return whole(self, images)

    monkeypatch.setattr(type(detector), "network", network)
    with Slide(tmp_path / "slide.tiff") as slide:
        assert len(inference.cover(slide, detector).tiles) == 16
        inference.detect(slide, detector, batch=6)
    assert sorted(seen) == [4, 6, 6]


def test_reached_by_hand() -> None:
    """Two tiles, two anchors of 10 px: only the second anchor of the first tile and none of the second reach 0.5."""
    anchors = torch.tensor([[0.0, 0, 10, 10], [10, 0, 20, 10]])
    logits, codes = torch.tensor([[-1.0, 0.0], [-2.0, -0.1]]), torch.zeros(2, 2, 4)
    codes[0, 1, 0] = 2.0  # 0.2 anchor sides to the right
    (box, score), (none, nothing) = boxes.reached(logits, codes, anchors, 0.5)
    assert box.tolist() == [[12.0, 0.0, 22.0, 10.0]] and score.tolist() == [0.5]
    assert none.shape == (0, 4) and nothing.shape == (0,)


def test_exact_puts_back_what_it_found() -> None:
    cudnn = torch.backends.cudnn
    before = cudnn.conv.fp32_precision, cudnn.deterministic  # type: ignore[attr-defined]
    with pytest.raises(KeyError), exact():
        assert cudnn.conv.fp32_precision == "ieee" and cudnn.deterministic  # type: ignore[attr-defined]
        raise KeyError
    assert (cudnn.conv.fp32_precision, cudnn.deterministic) == before  # type: ignore[attr-defined]


def test_graphs_are_for_sizes_that_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first call of a size, a last batch say, is direct; from the second on a graph has it, where there is room."""
    made = count()

    class Graph:
        def __init__(self, network: object, images: torch.Tensor) -> None:
            next(made)

        def __call__(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return (images + 1,)

    monkeypatch.setattr(graphs, "_Graph", Graph)
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    direct: list[int] = []

    def network(images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        direct.append(len(images))
        return (images + 1,)

    by = graphs.Graphs(network, most=2)
    for number in (4, 4, 4, 1, 2, 2, 3, 3, 4):
        assert by(torch.zeros(number, 3, 2, 2))[0].sum() == number * 12
    assert direct == [4, 1, 2, 3, 3] and next(made) == 2
