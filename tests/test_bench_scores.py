"""What a bench makes of its cells: results, tables, the page, and what is kept of them for the documents."""

import importlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mitosight import bench
from mitosight.bench.counts import domains, images_of
from mitosight.bench.folds import Fold
from mitosight.bench.page import page
from mitosight.bench.protocol import parse
from mitosight.bench.ranking import ranked
from mitosight.bench.summary import summarised
from mitosight.bench.tables import table
from mitosight.detections import Detections
from mitosight.evaluation import evaluate
from mitosight.regions import DataFolder, Region
from mitosight.regions import Domain as Origin

ROOT = Path(__file__).resolve().parents[1]
Counts = tuple[int, int, int]  # right, false, missed
ALL_THREE = ("average_precision", "aucpr", "froc_auc")


def region(name: str, scanner: str, figures: int, slide: str = "") -> Region:
    """1 mm² with figures in a row, 25 µm apart."""
    xy = np.array([(100.0 * i, 0) for i in range(figures)]).reshape(-1, 2)
    label = np.ones(figures, np.int64)
    return Region(name, 4000, 4000, xy, label, domain=Origin(scanner), slide=slide, mpp=0.25)


def found(where: Region, right: int, false: int) -> Detections:
    """The first figures with score 0.9, and false points far from them with 0.6."""
    wrong = np.array([(100.0 * i, 2000) for i in range(false)]).reshape(-1, 2)
    return Detections(np.concatenate([where.figures[:right], wrong]), np.repeat([0.9, 0.6], [right, false]))


def cell(model: str, regions: Sequence[Region], counts: Mapping[str, Counts], **more: Any) -> dict[str, Any]:
    """A cell that had seen scanner a, with these counts on the images of each scanner."""
    points = {r.file_name: found(r, *counts[r.domain.scanner][:2]) for r in regions}
    scanners = sorted({r.domain.scanner for r in regions})
    return {
        "model": model, "fold": "a", "seed": 0, "key": "k",
        "seen": [s for s in scanners if s == "a"], "unseen": [s for s in scanners if s != "a"],
        "scores": evaluate(points, regions, threshold=0.5, bootstrap=0).to_json(),
        "ranked": ranked(points, regions, 7.5),
        "training_seconds": 60.0, "parameters": 10**6, "search_seconds": 4.0, "device": "cpu",
        **more,
    }  # fmt: skip


def images(counts: Mapping[str, Counts], each: int = 5) -> list[Region]:
    """So many images of each scanner, every one with the figures that the counts speak of."""
    return [region(f"{s}{k}.png", s, right + missed) for s, (right, _, missed) in counts.items() for k in range(each)]


def summed(
    out: Path,
    regions: Sequence[Region],
    cells: Sequence[dict[str, Any]],
    failed: Mapping[str, str] | None = None,
    **asked: Any,
) -> dict[str, Any]:
    """What `results.json` holds of these cells, of which a bench has the folds and seeds."""
    models = [{"name": name, "recipe": "wilm2021-fields"} for name in dict.fromkeys(c["model"] for c in cells)]
    seeds = sorted({c["seed"] for c in cells})
    data = DataFolder(Path("images"), tuple(regions), {"test": tuple(r.file_name for r in regions)})
    told = {"title": "t", "models": models, "seeds": seeds, "bootstrap": 50, **asked}
    at = bench.Bench(parse(told), data, out, torch.device("cpu"))
    vars(at)["folds"] = [Fold(name, (), (), {}) for name in dict.fromkeys(c["fold"] for c in cells)]
    return summarised(at, cells, failed or {})


GOOD = {"a": (9, 1, 1), "b": (8, 2, 2)}
POOR = {"a": (9, 1, 1), "b": (2, 8, 8)}


# results and tables


def test_runs_of_each_model_stand_together() -> None:
    regions = images(GOOD, 1)
    made = [cell("m", regions, GOOD), cell("m", regions, POOR, seed=1), cell("n", regions, POOR)]
    (there,) = domains(made, "unseen", images_of(regions, "scanner"), ["m"])
    assert there.name == "b" and list(there.counts) == list(there.rankings) == ["m"]
    assert there.f1("m") == pytest.approx((0.8 + 0.2) / 2)


def test_seeds_that_lack_folds_do_not_count(tmp_path: Path) -> None:
    """m has a whole seed and one that has begun: its F1 is the former's. n has none: shown, told of, not compared."""
    regions = images(GOOD)
    made = [
        *(cell("m", regions, GOOD, fold=fold) for fold in "ab"), cell("m", regions, POOR, seed=1),
        *(cell("o", regions, POOR, fold=fold, seed=seed) for fold in "ab" for seed in (0, 1)),
        cell("n", regions, POOR, fold="b"),
    ]  # fmt: skip
    results = summed(tmp_path, regions, made)
    scores = {model: rows["mean"]["f1"] for model, rows in results["scores"]["unseen"].items()}
    assert scores["m"] == {"mean": pytest.approx(0.8), "interval": [0.8, 0.8]}
    assert scores["n"] == {"mean": pytest.approx(0.2), "interval": None}
    assert [(pair["a"], pair["b"], pair["difference"]) for pair in results["compared"]["unseen"]] == [("m", "o", 0.6)]
    assert results["runs"] == {
        "m": {"cells": 3, "of": 4, "seeds": [0]}, "o": {"cells": 4, "of": 4, "seeds": [0, 1]},
        "n": {"cells": 1, "of": 4, "seeds": []},
    }  # fmt: skip
    text = "\n".join(table(results))
    assert "m 3 of 4 cells (seed 0); o 4 of 4 cells (seeds 0, 1)" in text
    assert "n 1 of 4 cells (no seed whole: a row of some folds, not compared)." in text


def test_images_that_share_slides_are_drawn_alone_where_the_protocol_says_so(tmp_path: Path) -> None:
    """And the table says what that leaves out."""
    regions = [region(f"{s}{k}.png", s, 10, f"{s}|x") for s in "ab" for k in range(5)]
    made = [cell("m", regions, GOOD)]
    by_slide, by_image = (summed(tmp_path, regions, made, drawn=drawn) for drawn in ("slide", "image"))
    assert [r["domains"]["b"]["drawn"] for r in (by_slide, by_image)] == [1, 5]
    assert by_slide["scores"]["unseen"]["m"]["b"]["f1"]["interval"] is None
    assert by_image["scores"]["unseen"]["m"]["b"]["f1"]["interval"] == [0.8, 0.8]
    text = "\n".join(table(by_image))
    assert "| scanner | images | figures | images to draw |" in text and "too narrow by what slides differ" in text
    assert "too narrow" not in "\n".join(table(by_slide))


def test_summary_by_hand(tmp_path: Path) -> None:
    """All images of a scanner are alike, so that every draw gives the same."""
    regions = images(GOOD)
    results = summed(tmp_path, regions, [cell("m", regions, GOOD), cell("n", regions, POOR)], {"n/a/1": "why"})
    row = results["scores"]["unseen"]["m"]["b"]
    assert {key: row[key]["mean"] for key in row} == pytest.approx(
        {"precision": 0.8, "recall": 0.8, "f1": 0.8, "average_precision": 81 / 101, "aucpr": 0.8, "froc_auc": 6.4}
    )
    assert all(score["interval"] == [round(score["mean"], 4)] * 2 for score in row.values())
    mean = results["scores"]["unseen"]["n"]["mean"]
    assert mean["f1"] == {"mean": pytest.approx(0.2), "interval": [0.2, 0.2]} and mean["aucpr"]["interval"] == [0.2] * 2
    assert results["scores"]["seen"]["n"]["a"]["f1"]["runs"] == [pytest.approx(0.9)]
    (pair,) = results["compared"]["unseen"]
    assert (pair["difference"], pair["interval"]) == (0.6, [0.6, 0.6])
    assert (results["images"], results["slides"]) == (10, 10)
    assert results["domains"]["b"] == {"images": 5, "figures": 50, "drawn": 5}
    assert results["cost"]["m"] == {
        "preparation_seconds": None, "training_seconds": 60.0, "parameters": 1e6, "mm2_per_second": 2.5,
    }  # fmt: skip
    assert results["drop"] == {}  # no scanner stands in both states
    assert np.mean(results["curves"]["unseen"]["m"]) == pytest.approx(161 / 201)  # 1 to recall 0.8
    assert not {"scores", "key", "ranked"} & set(results["cells"][0])
    lines = table(results)
    assert "| m | 0.800 [0.800, 0.800] | 0.800 [0.800, 0.800] |" in lines and "- n/a/1: why" in lines
    assert "| b | n | 0.200 [0.200, 0.200]" + " | 0.200 [0.200, 0.200]" * 2 + " | 0.208 [0.208, 0.208]" in "\n".join(
        lines
    )
    assert "| m – n | +0.600 [+0.600, +0.600] | 0.039 |" in lines  # 2 / 51
    assert "| m | 1.0 | 1.0 | 2.50 |" in lines and "| b | 5 | 50 | 5 |" in lines
    assert "told apart" not in "\n".join(lines) and "Not all alike" not in "\n".join(lines)


def test_what_seeing_a_scanner_is_worth(tmp_path: Path) -> None:
    """Two folds: in each the other scanner is the unseen one; both are found with F1 0.9 when seen, 0.8 when not."""
    regions = images({"a": (9, 1, 1), "b": (9, 1, 1)})
    other = cell("m", regions, {"a": (8, 2, 2), "b": (9, 1, 1)}, fold="b", seen=["b"], unseen=["a"])
    drop = summed(tmp_path, regions, [cell("m", regions, {"a": (9, 1, 1), "b": (8, 2, 2)}), other])["drop"]["m"]
    assert drop == {"seen": pytest.approx(0.9), "unseen": pytest.approx(0.8), "kept": pytest.approx(8 / 9)}


def test_without_draws_there_are_differences_but_no_intervals(tmp_path: Path) -> None:
    regions = images(GOOD, 2)
    made = [cell("m", regions, GOOD), cell("n", regions, POOR)]
    results = summed(tmp_path, regions, made, bootstrap=0)
    assert results["compared"]["unseen"] == [{"a": "m", "b": "n", "difference": 0.6, "interval": None, "p": None}]
    assert results["f1_drawn"] == {"seen": {}, "unseen": {}}
    assert results["scores"]["unseen"]["m"]["b"]["f1"] == {"mean": 0.8, "runs": [0.8], "interval": None}
    assert not any("fewer than 5" in line for line in table(results)) and page(results, made, {}).count("<svg") == 2


def test_slides_of_composed_regions_and_too_few_of_them(tmp_path: Path) -> None:
    """Six images of scanner b are of five slides, but two are tied: four to draw."""
    slides = ("p|q", "q", "r", "r", "s", "t")
    regions = images({"a": (9, 1, 1)}) + [region(f"b{k}.png", "b", 10, s) for k, s in enumerate(slides)]
    results = summed(tmp_path, regions, [cell("m", regions, GOOD), cell("n", regions, POOR)])
    assert results["slides"] == 5 + 5 and results["domains"]["b"]["drawn"] == 4
    assert results["scores"]["unseen"]["m"]["b"]["f1"]["interval"] is None
    assert results["scores"]["unseen"]["m"]["mean"]["aucpr"]["interval"] is None
    assert results["scores"]["seen"]["m"]["a"]["aucpr"]["interval"] == [0.9, 0.9]
    lines = table(results)
    assert any(line.startswith("No interval where fewer than 5") and line.endswith(": b.") for line in lines)
    assert "| m | 0.800 | 0.800 |" in lines and "| m – n | +0.600 | – |" in lines


def test_a_scanner_without_figures_enters_no_mean_and_no_curve(tmp_path: Path) -> None:
    counts = {**GOOD, "c": (0, 3, 0), "d": (0, 0, 0)}
    regions = images(counts)
    results = summed(tmp_path, regions, [cell("m", regions, counts)])
    rows = results["scores"]["unseen"]["m"]
    assert rows["c"]["f1"] == {"mean": 0, "runs": [0], "interval": None}  # false points alone
    assert rows["d"]["f1"]["mean"] is None and rows["c"]["recall"]["mean"] is None
    assert rows["mean"]["f1"] == {"mean": pytest.approx(0.8), "interval": [0.8, 0.8]}
    assert rows["mean"]["precision"]["mean"] == pytest.approx(0.8)
    assert np.mean(results["curves"]["unseen"]["m"]) == pytest.approx(161 / 201)
    assert "Without a figure to find, so in no mean, difference or curve: c, d." in table(results)
    assert "| m | 0.800 [0.800, 0.800] | 0.000 | – | 0.800 [0.800, 0.800] |" in table(results)


def test_nothing_but_scanners_without_figures(tmp_path: Path) -> None:
    regions = images({"b": (0, 3, 0)})
    made = [cell("m", regions, {"b": (0, 3, 0)})]
    results = summed(tmp_path, regions, made)
    assert results["scores"]["unseen"]["m"]["mean"]["f1"] == {"mean": None, "interval": None}
    assert "| m | 0.000 | – |" in table(results) and page(results, made, {}).count("<svg") == 0


def test_a_model_that_finds_nothing(tmp_path: Path) -> None:
    """F1 and recall are 0 in table and draws; there is no precision in either, unless another run has one."""
    regions = images(GOOD)
    nothing = {"a": (0, 0, 10), "b": (0, 0, 10)}
    made = [cell("m", regions, nothing), cell("n", regions, nothing), cell("n", regions, GOOD, seed=1)]
    rows = summed(tmp_path, regions, made[:1])["scores"]["unseen"]["m"]
    assert rows["b"]["precision"] == {"mean": None, "runs": [None], "interval": None}
    for key in ("f1", "recall", "average_precision", "aucpr", "froc_auc"):
        assert rows["b"][key] == {"mean": 0, "runs": [0], "interval": [0, 0]}
    rows = summed(tmp_path, regions, made[1:])["scores"]["unseen"]["n"]
    assert rows["b"]["precision"] == {"mean": 0.8, "runs": [None, 0.8], "interval": [0.8, 0.8]}
    assert rows["b"]["f1"] == {"mean": 0.4, "runs": [0, 0.8], "interval": [0.4, 0.4]}


def test_cells_of_an_older_version_have_no_points(tmp_path: Path) -> None:
    """Then AP, AUCPR and FROC have no interval; nor where one run of several is older."""
    regions = images(GOOD)
    older = {key: value for key, value in cell("m", regions, GOOD).items() if key != "ranked"}
    for made in ([older], [older, cell("m", regions, GOOD, seed=1)]):
        results = summed(tmp_path, regions, made)
        row = results["scores"]["unseen"]["m"]["b"]
        assert row["recall"]["interval"] == [0.8, 0.8] and row["aucpr"]["mean"] == 0.8
        assert [row[key]["interval"] for key in ALL_THREE] == [None] * 3
        assert np.mean(results["curves"]["unseen"]["m"]) == pytest.approx(161 / 201)
        assert "of about 100 thresholds" in page(results, made, {})


def test_separability_is_the_mean_of_the_folds_of_the_first_seed(tmp_path: Path) -> None:
    regions = images(GOOD)
    told = {"plane": "PCA", "scanners": ["a", "b"], "scanner": [0, 1], "xy": [[0, 0], [1, 1]], "chance": 0.5}
    made = [
        cell("m", regions, GOOD, features={**told, "separability": 0.9}),
        cell("m", regions, GOOD, fold="b", features={**told, "separability": 0.6}),
        cell("m", regions, GOOD, fold="c", features={}),
        cell("m", regions, GOOD, seed=1, features={**told, "separability": 0.1}),
        cell("adapted", regions, GOOD, features={}),
    ]
    results = summed(tmp_path, regions, made)
    assert results["separability"] == {
        "m": {"mean": 0.75, "chance": 0.5, "folds": {"a": 0.9, "b": 0.6}}, "adapted": None,
    }  # fmt: skip
    lines = table(results)
    assert "| m | 0.750 | 0.500 | 2 |" in lines and "| adapted | – | – | 0 |" in lines
    text = page(results, made, {})
    assert "m, fold a:" in text and "m, fold b:" not in text and "<td>0.750</td>" in text


@pytest.mark.parametrize("seconds", [0.0, None])
def test_a_search_whose_time_is_not_known(tmp_path: Path, seconds: float | None) -> None:
    regions = images(GOOD)
    made = [cell("m", regions, GOOD, search_seconds=seconds), cell("m", regions, GOOD, seed=1, search_seconds=5.0)]
    assert summed(tmp_path, regions, made[:1])["cost"]["m"]["mm2_per_second"] is None
    assert summed(tmp_path, regions, made)["cost"]["m"]["mm2_per_second"] == 2.0


def test_preparation_has_a_column_where_a_cell_tells(tmp_path: Path) -> None:
    regions = images(GOOD)
    made = [cell("m", regions, GOOD, preparation_seconds=s, seed=k) for k, s in enumerate((30.0, None, 90.0))]
    results = summed(tmp_path, regions, [*made, cell("n", regions, GOOD)])
    assert results["cost"]["m"]["preparation_seconds"] == 60.0
    lines = table(results)
    assert "|  | minutes of preparation | minutes of training | million parameters | mm²/s |" in lines
    assert "| m | 1.0 | 1.0 | 1.0 | 2.50 |" in lines and "| n | – | 1.0 | 1.0 | 2.50 |" in lines


def test_cells_of_several_versions_or_devices_are_told(tmp_path: Path) -> None:
    regions = images(GOOD)
    made = [cell("m", regions, GOOD, seed=k, versions={"mitosight": v}) for k, v in enumerate(("1", "1", "2"))]
    results = summed(tmp_path, regions, made)
    assert results["made"] == {"mitosight": {"1": 2, "2": 1}, "device": {"cpu": 3}}
    assert "Not all alike (number of cells): versions of mitosight: 1 (2), 2 (1)." in table(results)
    results = summed(tmp_path, regions, [*made[:2], cell("m", regions, GOOD, versions={"mitosight": "1"}, device="g")])
    assert "Not all alike (number of cells): devices: cpu (2), g (1)." in table(results)


# the page


def test_the_page_needs_nothing_beside_it(tmp_path: Path) -> None:
    regions = images(GOOD)
    made = [cell("m", regions, GOOD), cell("n", regions, POOR)]
    results = summed(tmp_path, regions, made)
    text = page(results, made, {})
    assert text.count("<svg") == 4 and "0.800 [0.800, 0.800]" in text and "AUCPR is the area under it" in text
    links = {part.split('"')[1] for part in text.split("href=")[1:]}
    assert all(link.startswith("#") for link in links)
    assert "<script" not in text and "src=" not in text


def test_ten_models_are_told_apart(tmp_path: Path) -> None:
    """Each has a line of its own colour, and its name beside the curves and below the boxes."""
    regions = images(GOOD)
    made = [cell(f"model-{k}", regions, GOOD) for k in range(12)]
    text = page(summed(tmp_path, regions, made), made, {})
    pictures = [part.split("</svg>")[0] for part in text.split("<svg")[1:]]
    assert len(pictures) == 4
    for picture in pictures:
        assert all(f"model-{k}" in picture for k in range(12))


def test_too_few_slides_leave_out_the_picture_of_draws(tmp_path: Path) -> None:
    regions = images(GOOD, 4)
    made = [cell("m", regions, GOOD)]
    text = page(summed(tmp_path, regions, made), made, {})
    assert text.count("<svg") == 2 and "fewer than 5 slides can be drawn" in text


def test_without_matplotlib_the_page_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["mitosight.bench.page"], "find_spec", lambda name: None)
    regions = images(GOOD)
    made = [cell("m", regions, GOOD)]
    text = page(summed(tmp_path, regions, made), made, {})
    assert "Pictures need matplotlib" in text and "<svg" not in text and "0.800 [0.800, 0.800]" in text


# what is kept of results for the documents


def test_what_is_kept_names_no_place_of_a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    bench_tables = importlib.import_module("bench_tables")
    models = [
        {"name": "m", "recipe": "/home/me/my runs/own.toml", "model": "", "set": ["start=/home/me/first"]},
        {"name": "n", "recipe": "wilm2021-fields", "model": "", "set": ["lr=1e-3"]},
        {"name": "o", "recipe": "", "model": "runs/x/model.safetensors", "set": []},
    ]
    results = {
        "protocol": {"title": "F1 and/or mm²/s", "features": 200, "models": models},
        "failed": {"m/a/0": "/data/my slides/a.tif: is no slide; see C:\\Users\\me\\b.png", "n/a/0": "loss of step 3"},
        "separability": {"m": {"mean": 0.75, "folds": {"a": 0.75}}},
        "curves": {"seen": {}},
        "cells": [{"model": "m", "features": {"separability": 0.75, "chance": 0.5, "xy": [[0, 1]]}, "versions": {}}],
    }
    found = bench_tables.kept(results)
    assert [(m["recipe"], m["model"], m["set"]) for m in found["protocol"]["models"]] == [
        ("own.toml", "", ["start=first"]), ("wilm2021-fields", "", ["lr=1e-3"]), ("", "model.safetensors", []),
    ]  # fmt: skip
    assert found["protocol"]["title"] == "F1 and/or mm²/s" and found["protocol"]["features"] == 200
    assert found["failed"] == {"m/a/0": "a.tif: is no slide; see b.png", "n/a/0": "loss of step 3"}
    assert found["cells"] == [{"model": "m", "features": {"separability": 0.75, "chance": 0.5}}]
    assert found["separability"] == results["separability"] and "curves" not in found
