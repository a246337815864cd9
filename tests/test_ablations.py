"""What the ablations share (benchmarks/ablations.py): what is held out, and what rows lend each other."""

import importlib
from pathlib import Path
from types import ModuleType

import pytest

from mitosight import regions
from mitosight.errors import InputError

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def ablations(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("ablations")


def test_the_held_out_scanner_is_tested_and_not_trained(ablations: ModuleType, drawn: Path) -> None:
    data = regions.load(drawn)
    split = ablations.held_out_split(data, "scanner", "pink", [])
    assert split == {"train": ["grey_train_0.tiff"], "val": ["grey_val_0.tiff"], "test": ["pink_test_0.tiff"]}
    assert ablations.held_out_split(data, "scanner", "pink", ["grey"])["train"] == []
    with pytest.raises(InputError, match="no test image of scanner 'green'; there are those of grey, pink"):
        ablations.held_out_split(data, "scanner", "green", [])


def test_rows_of_one_seed_lend_what_is_alike(ablations: ModuleType, tmp_path: Path) -> None:
    """Row b made both files with seed 0. What all rows have goes to row a, b's own to row a+b; nothing to seed 1."""
    rows = [("a",), ("b",), ("a", "b")]
    without = {"a": "a=0", "b": "b=0"}
    made = ablations.Ablation("t", "r", without, rows, lambda folder, name: [], {"": ["all.bin"], "b": ["own/b.bin"]})
    plan = made.plan("t", [0, 1], [])
    assert plan[0].settings == ("training.seed=0", "b=0") and plan[5].settings == ("training.seed=1",)
    for file in ("all.bin", "own/b.bin"):
        path = tmp_path / "t-b-0" / "model" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file)
    assert [made.lend(run, tmp_path, plan) for run in plan] == [["all.bin"], [], ["all.bin", "own/b.bin"], [], [], []]
    assert (tmp_path / "t-a+b-0" / "model" / "own" / "b.bin").read_text() == "own/b.bin"
    assert [made.lend(run, tmp_path, plan) for run in plan] == [[]] * 6  # what is there stays
