"""benchmarks/kondo2021.py: who is trained on and who is searched, and runs that share the scanners."""

import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest

from mitosight import regions
from mitosight.errors import InputError


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(Path(__file__).resolve().parents[1] / "benchmarks")
    return importlib.import_module("kondo2021")


def test_scanners_of_the_training_are_never_searched(benchmark: ModuleType, drawn: Path) -> None:
    data = regions.load(drawn)

    def split(tested: list[str], part: str = "test") -> dict[str, list[str]]:
        found: dict[str, list[str]] = benchmark.split(data, benchmark.Plan("", "", ["grey"], [], [], [], tested, part))
        return found

    assert split([]) == {"train": ["grey_train_0.tiff"], "val": ["grey_val_0.tiff"], "test": ["pink_test_0.tiff"]}
    assert split(["grey", "pink"]) == split([])
    assert split([], "val")["test"] == ["pink_val_0.tiff"]
    with pytest.raises(InputError, match="no test image of another scanner"):
        split(["grey"])


def test_the_table_puts_runs_of_one_name_together(benchmark: ModuleType, tmp_path: Path) -> None:
    """Seeds 0 and 1 of scanner a, seed 0 of scanner b; one of two adaptations was used."""

    def ways(scanner: str, f1: float, used: bool) -> dict[str, object]:
        facts = {"slide": {"seconds": 2.0, "peak_mb": 10.0, "used": used}}
        return {way: {scanner: {"scores": {"f1": f1}, "adaptations": facts}} for way in benchmark.WAYS}

    for name, told in {"k-a-0": ("a", 0.5, True), "k-a-1": ("a", 0.7, False), "k-b-0": ("b", 0.1, True)}.items():
        (tmp_path / f"{name}.json").write_text(json.dumps({"ways": ways(*told)}))
    lines = benchmark.table(tmp_path, "k")
    assert lines[2] == "| a | " + " | ".join(["0.600 (0.500, 0.700)"] * 3) + " |"
    assert lines[3] == "| b | " + " | ".join(["0.100 (0.100)"] * 3) + " |"
    assert "2 s (median of 3; 2 to 2) and at most 10 MB; the guard let 2 of 3 pass" in lines[-1]
