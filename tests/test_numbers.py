"""The measured numbers in README and docs are those of the files in docs/results.

Tables that a script writes are written again and compared. A sentence or row with numbers stands in numbers.toml with
holes in their place, and beside it what fills them: a file, or several whose mean it is, the way to a value in it, and
its form. Line breaks in a document do not matter. In the main pages no other number looks measured, but for those that
numbers.toml tells with the reason why no file holds them.
"""

import importlib
import json
import math
import re
import shutil
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from mitosight import recipe

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results"
LISTED = tomllib.loads((ROOT / "tests" / "numbers.toml").read_text(encoding="utf-8"))
SHOWN, TOLD = LISTED["number"], LISTED["told"]
SEARCHED = ("README.md", "docs/choosing.md", "docs/methods/mitosight.md", "docs/runtime.md", "docs/detect.md")
NOT_YET = "Not measured yet."

NOT_PROSE = re.compile(r"^```.*?^```|^    .*?$|<!-- (?:bench|tables).*?<!-- end of \w+ -->", re.DOTALL | re.MULTILINE)
CODE = re.compile(r"`[^`]*`|\]\([^)]*\)")  # and where links lead
UNIT = r"\s?(?:times|ms|s|seconds?|minutes?|hours?|mm²(?:/s)?|MB|GB|GFLOP(?:/s)?|%)(?![\w²])"
COUNT = r"\d[\d,]*|two|three|four|five|six|seven|eight|nine|ten|an(?=\shour)"
MEASURED = re.compile(
    rf"(?<![\w.,/-])(?:\d[\d,]*\.\d+(?!\d|\sµm)|\d+e-\d+|\d+\sof\s\d+|(?:{COUNT})(?={UNIT})|twice\sas|"
    r"an?\s(?:half|third|quarter|fifth|sixth|tenth)\sof)"
)  # 0.85, 7e-7, 44 of 54, 12 times, 2 mm², two minutes, a third of; lengths in µm are settings


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


def filled(entry: dict[str, Any]) -> str:
    """A sentence or row with its numbers."""
    numbers = []
    for files, way, form, *over in entry["of"]:
        below = math.prod(value(files, other) for others in over for other in others)
        numbers.append(format(value(files, way) / below if over else value(files, way), form))
    return words(entry["text"]).format(*numbers)


def unlisted(page: str, known: list[str]) -> list[str]:
    """What looks measured in the prose of a page, but for the sentences that are known: each with what precedes it."""
    text = words(NOT_PROSE.sub(" ", page))
    for sentence in known:
        text = text.replace(sentence, " ")
    text = CODE.sub("", text)
    return [text[max(0, found.start() - 30) : found.end() + 10] for found in MEASURED.finditer(text)]


@pytest.mark.parametrize("entry", SHOWN, ids=lambda entry: f"{entry['doc']}: {words(entry['text'])[:40]}")
def test_numbers_are_those_of_the_results(entry: dict[str, Any]) -> None:
    assert filled(entry) in words((ROOT / entry["doc"]).read_text(encoding="utf-8"))


@pytest.mark.parametrize("doc", SEARCHED)
def test_no_measured_number_is_unlisted(doc: str) -> None:
    known = [filled(entry) for entry in SHOWN if entry["doc"] == doc]
    known += [words(entry["text"]) for entry in TOLD if entry["doc"] == doc]
    assert unlisted((ROOT / doc).read_text(encoding="utf-8"), known) == []


@pytest.mark.parametrize("entry", TOLD, ids=lambda entry: f"{entry['doc']}: {words(entry['text'])[:40]}")
def test_what_is_told_without_a_file_stands_there(entry: dict[str, Any]) -> None:
    assert words(entry["text"]) in words((ROOT / entry["doc"]).read_text(encoding="utf-8"))
    assert entry["why"] and MEASURED.search(CODE.sub("", words(entry["text"])))


@pytest.mark.parametrize(
    ("prose", "count"),
    [
        ("F1 0.85 and 1,234.5; 7e-7", 3),
        ("44 of 54 found", 1),
        ("12 times as fast, 39% and 10 % of it, 2 mm² in 3 s", 5),
        ("two\nminutes, an hour, a third\nof the time, twice as large", 4),
        ("tiles of 512 px, 0.25 µm/px, 7.5 µm, Apache-2.0, 600 steps, two cores", 0),
        ("`--threshold 0.4` and [a page](b-0.5.md)\n\n    0.7\n\n```sh\nlr 0.1\n```\n", 0),
        ("<!-- bench x -->\n| 0.5 |\n<!-- end of bench -->", 0),
        ("known is 0.5 here", 0),
    ],
)
def test_what_looks_measured(prose: str, count: int) -> None:
    assert len(unlisted(prose, ["known is 0.5 here"])) == count


def test_the_page_tells_recipes_as_they_are() -> None:
    """Steps, first weights and precision of each in the table of docs/training.md."""
    page = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    table = page.split("| recipe | what |")[1].split("\n\n")[0]
    rows = {name: row for row in table.splitlines() for name in re.findall(r"`([\w-]+)`", row.split(" | ")[0])}
    for name in recipe.builtin():
        asked = recipe.load(name)
        steps = asked.optimisation.epochs * asked.optimisation.steps_per_epoch
        assert re.search(rf"(?<![\d,]){steps:,}(?![\d,])", rows[name]), name
        assert ("random weights" in rows[name]) == (asked.detector.get("weights") == "none"), name
        assert ("bf16" in rows[name]) == (asked.optimisation.precision == "bf16"), name


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
    """A table whose bench was not run yet says so."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    bench_tables = importlib.import_module("bench_tables")
    block = re.compile(r"<!-- bench (\S+)[^\n]* -->\n(.*?)<!-- end of bench -->", re.DOTALL)
    for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        text = page.read_text(encoding="utf-8")
        for found in block.finditer(text):
            if not (RESULTS / f"bench-{found[1]}.json").is_file():
                assert found[2].strip() == NOT_YET
                text = text.replace(found[0], "")
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
        "drop": {"m": {"seen": 0.8, "unseen": 0.6, "kept": 0.75}},
        "runs": {"m": {"cells": 2, "of": 2, "seeds": [0, 1]}},
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
    found = bench_tables.filled("<!-- bench t short -->\n<!-- end of bench -->\n", tmp_path)
    assert "\n4 test images of 2 slides; T.\n" in found
    assert "| model | seeds | F1, scanner unseen [95 %] | AP | F1 kept |\n|---|---|---|---|---|\n" in found
    assert "\n| m | 0, 1 | 0.600 [0.400, 0.800] | – | 0.75 |\n\n<!-- end" in found
    missing = "<!-- bench other -->\nold\n<!-- end of bench -->\n"
    assert bench_tables.filled(missing, tmp_path) == missing
