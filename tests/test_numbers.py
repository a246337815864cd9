"""The measured numbers in README and docs are those of the files in docs/results.

Tables that a script writes are written again and compared. A sentence or row with numbers stands in numbers.toml with
holes in their place, and beside it what fills them: a file, or several whose mean it is, the way to a value in it, and
its form. Line breaks in a document do not matter.
"""

import importlib
import json
import shutil
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results"
SHOWN = tomllib.loads((ROOT / "tests" / "numbers.toml").read_text(encoding="utf-8"))["number"]


def value(files: str | list[str], way: list[str | int]) -> Any:
    """The value in a file, or the mean of those in several."""
    if isinstance(files, list):
        return sum(value(file, way) for file in files) / len(files)
    found = json.loads((RESULTS / files).read_text(encoding="utf-8"))
    for key in way:
        found = found[key]
    return found


def words(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("entry", SHOWN, ids=lambda entry: f"{entry['doc']}: {words(entry['text'])[:40]}")
def test_numbers_are_those_of_the_results(entry: dict[str, Any]) -> None:
    filled = [format(value(files, way), form) for files, way, form in entry["of"]]
    wanted = words(entry["text"]).format(*filled)
    assert wanted in words((ROOT / entry["doc"]).read_text(encoding="utf-8"))


def test_tables_are_as_the_script_writes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    tables = importlib.import_module("tables")
    shutil.copytree(RESULTS, tmp_path / "results")
    page = tmp_path / "results.md"
    shutil.copy(ROOT / "docs" / "results.md", page)
    monkeypatch.setattr(sys, "argv", ["tables.py", str(page)])
    tables.main()
    assert page.read_text(encoding="utf-8") == (ROOT / "docs" / "results.md").read_text(encoding="utf-8")


def test_tables_of_the_bench_are_as_the_script_writes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    bench_tables = importlib.import_module("bench_tables")
    for page in (ROOT / "docs").rglob("*.md"):
        text = page.read_text(encoding="utf-8")
        assert bench_tables.filled(text, RESULTS) == text


def test_tables_of_a_bench_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One model on one unseen scanner, two runs: F1 0.5 and 0.7."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    bench_tables = importlib.import_module("bench_tables")
    row = {key: {"mean": 0.6, "runs": [0.5, 0.7]} for key in ("precision", "recall", "aucpr", "froc_auc")}
    row |= {"average_precision": {"mean": None, "runs": [None, None]}, "f1": {"mean": 0.6, "interval": [0.4, 0.8]}}
    results = {
        "protocol": {"title": "T", "by": "scanner", "seeds": [0, 1]},
        "images": 4,
        "slides": 2,
        "scores": {"seen": {}, "unseen": {"m": {"X": row, "mean": row}}},
        "drop": {},
        "compared": {"seen": [], "unseen": []},
        "cost": {"m": {"training_seconds": 90.0, "parameters": 2_000_000, "mm2_per_second": 0.5}},
        "failed": {},
        "f1_drawn": {"unseen": {"m": {"X": [0.1]}}},
    }
    assert "f1_drawn" not in bench_tables.kept(results) and bench_tables.kept(results)["images"] == 4
    (tmp_path / "bench-t.json").write_text(json.dumps(bench_tables.kept(results)))
    page = "a\n<!-- bench t -->\nold\n<!-- end of bench -->\nb"
    found = bench_tables.filled(page, tmp_path)
    assert found.startswith("a\n<!-- bench t -->\n\n4 test images of 2 slides; seeds 0, 1.\n\n#### Scanners unseen")
    assert "| m | 0.600 [0.400, 0.800] | 0.600 [0.400, 0.800] |\n" in found and "| m | 1.5 | 2.0 | 0.50 |\n" in found
    assert found.endswith("\n\n<!-- end of bench -->\nb") and bench_tables.filled(found, tmp_path) == found
