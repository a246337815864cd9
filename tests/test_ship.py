"""The card of a model that comes with the package: its numbers are those that were measured, of the model there."""

import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest

from conftest import write_folder
from mitosight import modelfile, regions
from mitosight.outputs import sha256, write_csv

ROOT = Path(__file__).resolve().parents[1]
MEASURED = {name: ROOT / "docs" / "results" / f"shipped-{name}.json" for name in modelfile.shipped()}


@pytest.fixture
def ship(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("ship")


@pytest.mark.parametrize("name", MEASURED)
def test_the_card_is_as_the_script_writes_it(name: str, ship: ModuleType) -> None:
    """Scores by scanner with intervals, threshold and plateau among the rest."""
    result = json.loads(MEASURED[name].read_text(encoding="utf-8"))
    card = (modelfile.shipped()[name].parent / modelfile.CARD).read_text(encoding="utf-8")
    assert card == ship.card(result)
    groups = {scanner: scores for test in result["test"].values() for scanner, scores in test["by_scanner"].items()}
    assert all(ship.row(scanner, scores) in card for scanner, scores in groups.items()) and len(groups) == 5
    assert "The score on a real scanner that this detector has never seen is unknown" in card


@pytest.mark.parametrize("name", MEASURED)
def test_what_was_measured_is_the_model_that_is_there(name: str) -> None:
    result, file = json.loads(MEASURED[name].read_text(encoding="utf-8")), modelfile.shipped()[name]
    header, first = modelfile.read_header(file), modelfile.read_header(file.parent / modelfile.FIRST)
    assert result["sha256"] == sha256(file) == first["provenance"]["first"]["of"]
    assert result["threshold"] == header["threshold"] and result["first"] == first["provenance"]["first"]
    assert result["provenance"] == header["provenance"]


def test_a_row_by_hand(ship: ModuleType) -> None:
    scores = {"images": 2, "figures": 8, "precision": 0.5, "recall": 0.25, "f1": 1 / 3, "aucpr": 0.4}
    scores["intervals"] = {"f1": [0.1, 0.6666]}
    assert ship.row("X", scores) == "| X | 2 | 8 | 0.500 | 0.250 | 0.333 | 0.100 to 0.667 | 0.400 |"


def test_f1_beside_the_threshold_by_hand(tmp_path: Path, ship: ModuleType) -> None:
    """Of six figures five have points of score 0.9 and one of 0.54; a false point has 0.46; the threshold is 0.5."""
    data = write_folder(tmp_path / "data", {"grey": (200, 200, 210)})
    (region,) = regions.load(data).part("val")
    assert len(region.figures) == 6
    points = [(region.file_name, x, y, score) for (x, y), score in zip(region.figures, [0.54, *[0.9] * 5], strict=True)]
    columns = ("file_name", "x_px", "y_px", "score")
    write_csv(tmp_path / "found.csv", columns, [*points, (region.file_name, 0, 0, 0.46)])
    found = ship.beside(0.5, tmp_path / "found.csv", data)
    assert found == pytest.approx({"-0.05": 12 / 13, "-0.01": 1.0, "+0.01": 1.0, "+0.05": 10 / 11})
