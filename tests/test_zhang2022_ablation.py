"""The ablation of Zhang 2022 (benchmarks/zhang2022.py): its rows and its table."""

import importlib
from pathlib import Path
from types import ModuleType

import pytest

from mitosight import recipe
from mitosight.methods import create
from mitosight.outputs import write_json

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def ablation(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("zhang2022")


def test_eight_rows_are_what_they_say(ablation: ModuleType) -> None:
    """Each row's settings make a detector that has the row's components and no other."""
    runs = ablation.ABLATION.plan("t", [0, 1], ["steps_per_epoch=7"])
    assert [run.name for run in runs[:8]] == [
        "t-none-0",
        "t-foreground-0",
        "t-label-0",
        "t-jitter-0",
        "t-foreground+label-0",
        "t-foreground+jitter-0",
        "t-label+jitter-0",
        "t-foreground+label+jitter-0",
    ]
    assert [run.name[-1] for run in runs[8:]] == ["1"] * 8
    for run in runs:
        found = recipe.load("zhang2022-fields", run.settings)
        assert (found.optimisation.steps_per_epoch, str(found.training.seed)) == (7, run.name[-1])
        detector = create("zhang2022", ["a", "b"], {**found.detector, "classes": ["a", "b"]})
        there = {
            name.split("_head")[0] for name, _ in detector.named_children() if name in ("label_head", "foreground_head")
        }
        if detector.augmentation.brightness:
            there.add("jitter")
        assert there == set(run.components)


def test_the_table_has_a_line_for_each_row(ablation: ModuleType, tmp_path: Path) -> None:
    for name, ap in (("none-0", 0.4), ("none-1", 0.5), ("label+jitter-0", 0.25), ("foreground+label-0", None)):
        write_json(tmp_path / f"t-{name}.json", {"test": {"average_precision": ap, "f1": 0.75}})
    write_json(tmp_path / "other-label-0.json", {"test": {"average_precision": 1.0, "f1": 1.0}})
    lines = ablation.table(tmp_path, "t")
    assert len(lines) == 10 and lines[0] == "| foreground | label | jitter | AP at IoU 0.5 | F1 |"
    assert lines[2] == "|  |  |  | 0.450 (0.400, 0.500) | 0.750 (0.750, 0.750) |"
    assert lines[4] == "|  | x |  | – | – |"
    assert lines[6] == "| x | x |  | – | 0.750 (0.750) |"
    assert lines[8] == "|  | x | x | 0.250 (0.250) | 0.750 (0.750) |"
