"""The plan of docs/results.md (benchmarks/runs.py) and its tables."""

import importlib
from pathlib import Path
from types import ModuleType

import pytest

from mitosight import recipe
from mitosight.outputs import write_json

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
MODELS = ("strong", "weak", "wilm2021", "chung2021", "zhang2022", "wang2023", "kondo2021")


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("runs")


def test_every_run_has_a_recipe_that_takes_its_settings(runs: ModuleType) -> None:
    plan = runs.plan([4, 5], Path("R"))
    names = [f"{e}-{m}" for e in "ab" for m in MODELS] + [
        "c-strong",
        "c-wang2023",
        "c-kondo2021",
        "p-0",
        "p-0.5",
        "p-1",
        "o-strong",
    ]
    assert [run.name for run in plan] == [f"{name}-{seed}" for seed in (4, 5) for name in names]
    for run in plan:
        found = recipe.load(run.recipe, run.settings)
        assert str(found.training.seed) == run.name[-1]
        assert found.method in run.recipe or found.method == "retinanet"


def test_all_methods_have_the_same_labels_and_may_see_the_same_scanner_without(runs: ModuleType) -> None:
    """In a the labelled scanners are three of all; in b one, and one without labels. Baselines see the labelled."""
    for run in runs.plan([0], Path("R")):
        found = recipe.load(run.recipe, run.settings).training
        experiment, model, _ = run.name.split("-")
        seen = {"a": (["XR", "S360", "CS2"], []), "b": (["XR"], ["XR", "ScanScope XT"])}.get(experiment)
        if seen is None:
            continue
        baseline = model in ("strong", "weak")
        scanners, labelled = ([s.split(maxsplit=1)[1] for s in of] for of in (found.scanners, found.labelled_scanners))
        assert (scanners, labelled) == ((seen[0], []) if baseline else (seen[1], seen[0]))
        tiles = 9 if experiment == "b" and model not in ("wang2023", "kondo2021") else 3
        assert found.tiles_per_scanner == tiles


def test_later_seeds_take_the_styles_of_the_first(runs: ModuleType) -> None:
    plan = {run.name: run for run in runs.plan([0, 1], Path("R"))}
    for model in ("chung2021", "wang2023"):
        for experiment in "ab":
            assert not any(s.startswith("style=") for s in plan[f"{experiment}-{model}-0"].settings)
            assert f"style=R/{experiment}-{model}-0/model" in plan[f"{experiment}-{model}-1"].settings


def test_a_record_of_every_model_is_a_column(runs: ModuleType, tmp_path: Path) -> None:
    tables = importlib.import_module("tables")
    scores = {"precision": 1.0, "recall": 0.5, "f1": 0.667, "average_precision": 0.5}
    for model, f1 in (("wang2023", 0.75), ("kondo2021", 0.25)):
        write_json(tmp_path / f"c-{model}-0.json", {"test": {**scores, "f1": f1, "by_scanner": {"S": scores}}})
    lines = tables.score_table(tables.records(tmp_path, "c"))
    assert "| F1 | kondo2021 | wang2023 |" in lines and "| all | 0.250 (0.250) | 0.750 (0.750) |" in lines
