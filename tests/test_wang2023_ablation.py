"""The ablation of Wang 2023 (benchmarks/wang2023.py): its rows and its tables."""

import importlib
from pathlib import Path
from types import ModuleType

import pytest

from mitosight import recipe
from mitosight.methods import create
from mitosight.methods.wang2023 import Wang2023
from mitosight.outputs import write_json

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def ablation(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("wang2023")


def test_ten_rows_are_what_they_say(ablation: ModuleType) -> None:
    """Each row's settings make a detector that has the row's parts and no other; they fill twelve lines."""
    runs = ablation.ABLATION.plan("t", [3], ["steps_per_epoch=7"])
    assert [run.name for run in runs] == [
        "t-none-3",
        "t-dgsb-3",
        "t-unsa+efdmix-3",
        "t-incdp-3",
        "t-dgsb+unsa+efdmix-3",
        "t-unsa+efdmix+incdp-3",
        "t-dgsb+incdp-3",
        "t-dgsb+unsa+efdmix+incdp-3",
        "t-dgsb+unsa+incdp-3",
        "t-dgsb+efdmix+incdp-3",
    ]
    for run in runs:
        found = recipe.load("wang2023-fields", run.settings)
        assert (found.optimisation.steps_per_epoch, found.training.seed) == (7, 3)
        detector = create("wang2023", ["a", "b"], found.detector)
        assert isinstance(detector, Wang2023)
        there = {
            "dgsb": detector.dgsb,
            "unsa": detector.unsa,
            "efdmix": detector.classifier.mix,
            "incdp": detector.incdp,
        }
        assert {name for name, on in there.items() if on} == set(run.components)


def test_the_tables_have_a_line_for_each_row(ablation: ModuleType, tmp_path: Path) -> None:
    for name, f1 in (("none-0", 0.4), ("none-1", 0.5), ("dgsb+incdp-0", 0.25), ("dgsb+unsa+incdp-0", None)):
        write_json(tmp_path / f"t-{name}.json", {"test": {"f1": f1, "recall": 0.75, "precision": 1.0}})
    write_json(tmp_path / "other-dgsb-0.json", {"test": {"f1": 1.0, "recall": 1.0, "precision": 1.0}})
    lines = ablation.table(tmp_path, "t")
    assert lines[:3] == ["Table III", "", "| | DGSB | SE | InCDP | F1 | recall | precision |"]
    assert lines[4] == "| (1) |  |  |  | 0.450 (0.400, 0.500) | 0.750 (0.750, 0.750) | 1.000 (1.000, 1.000) |"
    assert lines[5] == "| (2) | x |  |  | – | – | – |"
    assert lines[10] == "| (7) | x |  | x | 0.250 (0.250) | 0.750 (0.750) | 1.000 (1.000) |"
    assert lines[13:16] == ["Table IV, with DGSB and InCDP", "", "| | UnSA | EFDMix | F1 | recall | precision |"]
    assert lines[17] == "| (1) |  |  | 0.250 (0.250) | 0.750 (0.750) | 1.000 (1.000) |"
    assert lines[18] == "| (2) | x |  | – | 0.750 (0.750) | 1.000 (1.000) |"
    assert len(lines) == 21
