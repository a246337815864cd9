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
