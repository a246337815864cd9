"""`mitosight bench` on drawn regions: trains, scores, resumes, and does the rest where one cell fails."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import write_folder, write_recipe

Command = Callable[..., tuple[int, str, str]]
PROTOCOL = """
title = "two scanners"
split = "leave-one-out"
bootstrap = 20
features = 8
[[models]]
name = "plain"
recipe = "tiny.toml"
[[models]]
name = "more"
recipe = "tiny.toml"
set = ["{more}"]
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("bench"), {"grey": (200, 200, 210), "pink": (235, 190, 215)})


def write_protocol(folder: Path, more: str = "lr=2e-3") -> Path:
    write_recipe(folder / "tiny.toml")
    file = folder / "protocol.toml"
    file.write_text(PROTOCOL.format(more=more))
    return file


def test_a_bench_and_again(tmp_path: Path, data: Path, mitosight: Command) -> None:
    asked = ("bench", write_protocol(tmp_path), "--data", data, "--out", tmp_path / "out", "--device", "cpu")
    status, printed, told = mitosight(*asked)
    assert status == 0 and "[4/4] more/pink/0: F1" in told and "report.html" in printed
    results = json.loads((tmp_path / "out/results.json").read_text())
    for model in ("plain", "more"):
        for state in ("seen", "unseen"):
            rows = results["scores"][state][model]
            assert set(rows) == {"grey", "pink", "mean"}  # each was seen in one fold, and left out in the other
            assert rows["mean"]["f1"]["mean"] == pytest.approx(sum(rows[s]["f1"]["mean"] for s in ("grey", "pink")) / 2)
        cell = json.loads((tmp_path / f"out/cells/{model}/grey/0/cell.json").read_text())
        counts = [row["figures"] for row in cell["scores"]["by_scanner"].values()]
        assert sum(counts) == cell["scores"]["figures"] == 12
        assert cell["seen"] == ["pink"] and cell["features"]["scanners"] == ["grey", "pink"]
    assert [pair["a"] for pair in results["compared"]["unseen"]] == ["plain"]
    assert (tmp_path / "out/report.html").read_text().count("data:image/jpeg;base64,") == 2

    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out/cells").rglob("*") if path.is_file()}
    status, _, told = mitosight(*asked)
    assert status == 0 and told.count("F1") == 4
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "out/cells").rglob("*") if path.is_file()}

    write_protocol(tmp_path, "lr=3e-3")
    status, _, told = mitosight(*asked)
    assert status == 1 and "is of another protocol or of other data; choose another --out" in told


def test_some_cells_first(tmp_path: Path, data: Path, mitosight: Command) -> None:
    """The results hold what is done, whichever call did it; a name that is not there is told."""
    file, out = write_protocol(tmp_path), tmp_path / "out"
    file.write_text(file.read_text().replace("features = 8", 'features = 0\ndomains = ["grey"]\nseeds = [0, 1]'))
    asked = ("bench", file, "--data", data, "--out", out, "--device", "cpu")
    status, _, told = mitosight(*asked, "--model", "plain", "--seed", "1")
    assert status == 0 and told.count("F1") == 1 and "[1/1] plain/grey/1: F1" in told
    status, _, told = mitosight(*asked, "--model", "more", "--seed", "0")
    assert status == 0 and "[1/1] more/grey/0: F1" in told
    scores = json.loads((out / "results.json").read_text())["scores"]["unseen"]
    assert {model: len(rows["grey"]["f1"]["runs"]) for model, rows in scores.items()} == {"plain": 1, "more": 1}
    for option, value, known in (("--model", "x", "plain, more"), ("--seed", "2", "0, 1")):
        status, _, told = mitosight(*asked, option, value)
        assert status == 2 and "in the protocol; there are " + known in told


def test_a_cell_that_fails_stops_no_other(tmp_path: Path, data: Path, mitosight: Command) -> None:
    file = write_protocol(tmp_path, "lr=1e30")
    status, printed, told = mitosight("bench", file, "--data", data, "--out", tmp_path / "out", "--device", "cpu")
    assert status == 1 and "[2/4] more/grey/0: failed: the loss of step" in told and "plain/pink/0: F1" in told
    results = json.loads((tmp_path / "out/results.json").read_text())
    assert set(results["failed"]) == {"more/grey/0", "more/pink/0"}
    assert list(results["scores"]["unseen"]) == ["plain"]
    assert "## Failed" in printed


def test_two_folders_as_one(tmp_path: Path, data: Path, mitosight: Command) -> None:
    blue = write_folder(tmp_path / "blue", {"blue": (190, 200, 235)})
    file = write_protocol(tmp_path)
    file.write_text(file.read_text().replace("features = 8", 'features = 0\ndomains = ["blue"]'))
    out = tmp_path / "out"
    status, _, _ = mitosight("bench", file, "--data", data, "--data", blue, "--out", out, "--device", "cpu")
    assert status == 0
    results = json.loads((out / "results.json").read_text())
    assert list(results["scores"]["unseen"]["plain"]) == ["blue", "mean"]
    assert list(results["scores"]["seen"]["plain"]) == ["grey", "pink", "mean"]


def test_without_data(tmp_path: Path, mitosight: Command) -> None:
    status, _, told = mitosight("bench", write_protocol(tmp_path), "--out", tmp_path / "out")
    assert status == 2 and "no data; pass --data: this protocol draws none" in told and not (tmp_path / "out").exists()


def test_side_by_side(tmp_path: Path, data: Path, mitosight: Command) -> None:
    file, out = write_protocol(tmp_path), tmp_path / "out"
    status, _, told = mitosight(
        "bench", file, "--data", data, "--out", out, "--device", "cpu", "--scheduler", "local:2"
    )
    assert status == 0 and told.count("F1") == 4
    assert len(list(out.glob("cells/*/*/0/cell.json"))) == 4
