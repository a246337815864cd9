"""The protocol `phantom-quick` in a still smaller form: every method is trained, searched with and scored."""

import json
import re
from pathlib import Path

import torch

from mitosight import bench
from mitosight.bench.protocol import parse
from mitosight.methods import METHODS

STEPS = {
    "epochs": 1,
    "steps_per_epoch": 2,
    "style_steps": 6,
    "per_cluster": 4,
    "difficulty_steps": 2,
    "parent_steps": 2,
}


def smaller(setting: str) -> str:
    """The setting with the least number of steps, where it is one of steps."""
    name, _, value = setting.partition("=")
    return f"{name}={STEPS.get(name, value)}"


def test_all_methods_are_compared(tmp_path: Path) -> None:
    """On three scanners with small regions, one of them left out; each method has its row, and the page its picture."""
    asked = bench.load("phantom-quick").model_dump()
    asked["phantoms"] |= {
        "scanners": ["phantom-A", "phantom-B", "phantom-F"],
        "train": 3,
        "test": 1,
        "size_um": [136, 136],
    }
    asked |= {"bootstrap": 20, "features": 8, "set": [*asked["set"], "validation_batches=1", "crop_px=256"]}
    for model in asked["models"]:
        model["set"] = [smaller(setting) for setting in model["set"]]
    protocol = parse(asked)
    data = bench.drawn(protocol, tmp_path / "data")
    results = bench.run(bench.Bench(protocol, data, tmp_path, torch.device("cpu")))
    assert results["failed"] == {}
    names = [model["name"] for model in asked["models"]]
    assert list(results["scores"]["unseen"]) == names
    methods = {cell["method"] for cell in results["cells"]}
    assert methods == set(METHODS)
    figures = sum(len(region.figures) for region in data.part("test"))
    for name in names:
        cell = json.loads((tmp_path / f"cells/{name}/phantom-F/0/cell.json").read_text())
        assert cell["scores"]["figures"] == figures and cell["unseen"] == ["phantom-F"]
    page = (tmp_path / "report.html").read_text()
    assert len(re.findall("data:image/jpeg;base64,", page)) == len(names)
