"""Protocols, folds, the check for slides that were seen, and what counts of images say of models."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from mitosight import bench, regions
from mitosight.bench import leakage
from mitosight.bench.cell import seen_by
from mitosight.bench.counts import Domain, compared, domains, draw, f1_of
from mitosight.bench.folds import Fold, folds, parts_of
from mitosight.bench.page import page
from mitosight.bench.plots import curve_of
from mitosight.bench.protocol import Protocol, parse
from mitosight.bench.running import cells, needed
from mitosight.bench.summary import summarised, table
from mitosight.errors import InputError, UsageError
from mitosight.regions import DataFolder, Region, fingerprint

MODEL = {"name": "m", "recipe": "wilm2021-fields"}


def protocol(**changed: Any) -> Protocol:
    return parse({"title": "t", "models": [MODEL], **changed})


# protocols


def test_built_in_protocols_and_their_recipes_are_sound() -> None:
    assert "phantom-quick" in bench.builtin()
    for name in bench.builtin():
        assert bench.load(name).title


@pytest.mark.parametrize(
    "wrong, told",
    [
        ({"colour": 1}, "colour: extra inputs are not permitted"),
        ({"models": []}, "models: tuple should have at least 1 item"),
        ({"models": [MODEL, MODEL]}, "two models are called m"),
        ({"models": [{"name": "m"}]}, "a model names one of recipe, model and of"),
        ({"models": [{**MODEL, "of": "m"}]}, "a model names one of recipe, model and of"),
        ({"models": [MODEL, {"name": "n", "of": "x"}]}, "of = 'x' is no model with a recipe"),
        ({"models": [MODEL, {"name": "n", "of": "m", "set": ["a=1"]}]}, "set and share go with a recipe"),
        ({"models": [{**MODEL, "name": "a/b"}]}, "string should match pattern"),
        ({"seeds": [1, 1]}, "a seed stands twice"),
        ({"held_out": 1}, "held_out = 1 leaves nothing to learn from"),
        ({"tested": "val"}, "thresholds need held_out"),
        ({"tested": "val", "split": "one-to-all", "unlabelled": True}, "domains that take turns, all labelled"),
        ({"split": "some"}, "input should be 'given', 'leave-one-out' or 'one-to-all'"),
    ],
)
def test_what_is_wrong_with_a_protocol(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError) as error:
        parse({"title": "t", "models": [MODEL], **wrong}, "p.toml")
    assert str(error.value).startswith("p.toml: ") and told in str(error.value)


def test_a_recipe_that_does_not_take_a_setting_is_told_before_anything(tmp_path: Path) -> None:
    file = tmp_path / "p.toml"
    file.write_text('title = "t"\nset = ["nonsense=1"]\n[[models]]\nname = "m"\nrecipe = "demo"\n')
    with pytest.raises(UsageError, match="nonsense"):
        bench.load(str(file))


def test_recipes_are_looked_for_beside_the_protocol(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text('method = "retinanet"\n')
    file = tmp_path / "p.toml"
    file.write_text('title = "t"\n[[models]]\nname = "m"\nrecipe = "own.toml"\n')
    assert bench.load(str(file)).models[0].recipe == str(tmp_path / "own.toml")


# folds


def folder(*scanners: str, images: Path = Path("images")) -> DataFolder:
    """One region with a figure of each scanner in each part."""
    parts = ("train", "val", "test")
    every = [
        Region(f"{s}_{p}.png", 10, 10, np.ones((1, 2)), np.ones(1, np.int64), domain=regions.Domain(s), mpp=0.25)
        for s in scanners
        for p in parts
    ]
    return DataFolder(images, tuple(every), {p: tuple(f"{s}_{p}.png" for s in scanners) for p in parts})


def test_leave_one_out() -> None:
    first, second, _ = folds(protocol(split="leave-one-out"), folder("a", "b", "c"))
    assert (first.name, first.seen, first.unseen) == ("a", ("b", "c"), ("a",))
    assert first.split == {
        "train": ("b_train.png", "c_train.png"),
        "val": ("b_val.png", "c_val.png"),
        "test": ("a_test.png", "b_test.png", "c_test.png"),
    }
    assert second.unseen == ("b",) and first.settings == ()


def test_one_to_all() -> None:
    (only,) = folds(protocol(split="one-to-all", domains=["b"]), folder("a", "b", "c"))
    assert (only.seen, only.unseen, only.split["train"]) == (("b",), ("a", "c"), ("b_train.png",))


def test_while_a_method_is_made_thresholds_and_test_share_the_part_val() -> None:
    (only,) = folds(protocol(split="one-to-all", domains=["b"], tested="val"), folder("a", "b", "c"))
    assert (only.split["val"], only.split["test"]) == (("b_val.png",), ("a_val.png", "c_val.png"))


def test_unlabelled_images_of_the_unseen_are_those_of_training_alone() -> None:
    asked = protocol(split="leave-one-out", domains=["a"], unlabelled=True)
    (only,) = folds(asked, folder("a", "b", "c"))
    assert only.split["train"] == ("a_train.png", "b_train.png", "c_train.png")
    assert only.settings == ('labelled_scanners=["b", "c"]',)
    assert not set(only.split["test"]) & {*only.split["train"], *only.split["val"]}


def test_the_given_split_tells_what_was_seen() -> None:
    data = folder("a", "b")
    data.split["train"] = ("a_train.png",)
    (only,) = folds(protocol(), data)
    assert (only.name, only.seen, only.unseen) == ("given", ("a",), ("b",))


def test_every_third_training_slide_of_each_domain_is_held_out() -> None:
    """Seven slides of one scanner, one with two regions, and two of another; a region composed of a5 and b1 goes."""
    names = {"a": [f"a{k}" for k in range(7)], "b": ["b0", "b1"]}
    train = [Region(f"{n}.png", slide=n, domain=regions.Domain(s)) for s, every in names.items() for n in every]
    train.append(Region("more.png", slide="a2", domain=regions.Domain("a")))
    train.append(Region("composed.png", slide="b1|a5", domain=regions.Domain("c")))  # a5 is held out
    data = DataFolder(
        Path("images"), (*train, Region("t.png")), {"train": tuple(r.file_name for r in train), "val": ("t.png",)}
    )
    parts = parts_of(protocol(held_out=3, tested="val"), data)
    assert [r.file_name for r in parts["val"]] == ["a2.png", "a5.png", "more.png"]
    assert len(parts["train"]) == 7 and [r.file_name for r in parts["test"]] == ["t.png"]


def test_domains_that_are_not_there() -> None:
    with pytest.raises(InputError, match="no scanner 'x' in training and test; there are a, b"):
        folds(protocol(split="leave-one-out", domains=["x"]), folder("a", "b"))
    with pytest.raises(UsageError, match="needs two or more"):
        folds(protocol(split="leave-one-out"), folder("a"))


# slides that were seen


def test_a_test_slide_in_training_is_named() -> None:
    data = folder("a", "b")
    split = {**data.split, "val": ("a_val.png", "b_test.png")}
    with pytest.raises(InputError, match=r"test slides were seen in the part 'val' of fold f: b_test; a test"):
        leakage.check(protocol(), [Fold("f", ("a",), ("b",), split)], data)


def test_a_given_file_that_saw_a_test_slide_is_named(tmp_path: Path) -> None:
    style, data = tmp_path / "style.safetensors", folder("a", "b")
    asked = protocol(models=[{**MODEL, "recipe": "chung2021-fields", "set": [f"style={style}"]}])
    for slides, told in (({"slides": [fingerprint("b_test")]}, "b_test"), ({}, "does not say which slides")):
        save_file({"w": np.zeros(1)}, style, {"mitosight": json.dumps({"kind": "style", **slides})})
        with pytest.raises(InputError, match=told):
            leakage.check(asked, folds(asked, data), data)
    save_file({"w": np.zeros(1)}, style, {"mitosight": '{"slides": ["0123456789abcdef"]}'})
    leakage.check(asked, folds(asked, data), data)


def test_a_model_that_a_training_starts_from_counts(tmp_path: Path) -> None:
    """Its header, in file or folder, says which slides it saw."""
    model, data = tmp_path / "run" / "model.safetensors", folder("a", "b")
    model.parent.mkdir()
    told = {"format": 1, "mitosight": "0", "method": "retinanet", "arguments": {}, "scanners": [], "threshold": 0.5}
    for start in (model, model.parent):
        for slides, refused in (([fingerprint("b_test")], True), ([fingerprint("other")], False)):
            header = {**told, "provenance": {"data": {"slides": slides}}}
            save_file({"w": np.zeros(1)}, model, {"mitosight": json.dumps(header)})
            asked = protocol(models=[{**MODEL, "set": [f"start={start}"]}])
            if refused:
                with pytest.raises(InputError, match=r"test slides were seen in .*model.safetensors \(m\): b_test"):
                    leakage.check(asked, folds(asked, data), data)
            else:
                leakage.check(asked, folds(asked, data), data)


def test_weights_of_another_origin_are_passed_over(tmp_path: Path) -> None:
    weights, data = tmp_path / "imagenet.safetensors", folder("a", "b")
    save_file({"w": np.zeros(1)}, weights)
    asked = protocol(models=[{**MODEL, "set": [f"weights={weights}"]}])
    leakage.check(asked, folds(asked, data), data)


# counts


def test_f1_by_hand() -> None:
    assert f1_of(np.array([[2, 1, 1], [0, 0, 0], [0, 3, 0]])).tolist() == [pytest.approx(4 / 6), 0, 0]


def test_images_of_a_slide_are_drawn_together() -> None:
    """Two slides; the first holds two images, of which one is perfect and one is all wrong: its F1 is always 2 / 3."""
    counts = np.array([[[1, 0, 0], [0, 1, 0], [2, 1, 1]]])
    drawn = Domain("d", np.array([0, 0, 1]), {"m": counts}).drawn(500, 0)["m"]
    assert set(np.round(drawn, 6)) == {round(2 / 3, 6)}
    apart = Domain("d", np.array([0, 1, 2]), {"m": counts}).drawn(500, 0)["m"]
    assert apart.min() == 0 and apart.max() == 1


def cell(model: str, seed: int, counts: dict[str, tuple[int, int, int]], **more: Any) -> dict[str, Any]:
    """A cell with one scanner seen and one not, and the counts of its images."""
    by_image = {
        name: dict(zip(("true_positives", "false_positives", "false_negatives"), c, strict=True))
        for name, c in counts.items()
    }
    rows = [{"threshold": 0.9, "precision": 1.0, "recall": 0.5, "f1": 2 / 3}]
    group = {
        s: {"precision": 1.0, "recall": 0.5, "f1": float(f1_of(np.array(c))), "average_precision": 0.5,
            "aucpr": 0.5, "froc_auc": 4.0, "f1_by_threshold": rows}
        for s, c in zip("ab", counts.values(), strict=True)
    }  # fmt: skip
    scores = {"by_image": by_image, "by_scanner": group, "area_mm2": 2.0, "f1": 0.5}
    cost = {"training_seconds": 60.0, "parameters": 10**6, "search_seconds": 4.0}
    facts = {"model": model, "fold": "a", "seed": seed, "seen": ("a",), "unseen": ("b",), "key": "k"}
    return {**facts, "scores": scores, **cost, **more}


GOOD = {"a_test.png": (9, 1, 0), "b_test.png": (8, 2, 2)}
POOR = {"a_test.png": (9, 1, 0), "b_test.png": (2, 8, 8)}


def test_runs_of_each_model_stand_together_and_incomplete_ones_do_not_count() -> None:
    names = {"a_test.png": "a", "b_test.png": "b"}
    made = [cell("m", 0, GOOD), cell("m", 1, POOR), cell("n", 0, POOR)]
    (found,) = domains(made, "unseen", {n: n for n in names}, names)
    assert found.name == "b" and list(found.counts) == ["m"]
    assert found.f1("m").tolist() == [pytest.approx(0.8), pytest.approx(0.2)]


def test_the_better_model_is_better_on_the_same_slides() -> None:
    """On ten images of a slide each one model is right where the other is not, but for one image."""
    right, wrong = np.tile([1, 0, 0], (1, 10, 1)), np.tile([0, 1, 1], (1, 10, 1))
    wrong[0, 0] = (1, 0, 0)
    there = [Domain("d", np.arange(10), {"m": right, "n": wrong, "same": right})]
    pairs = {(p["a"], p["b"]): p for p in compared(there, draw(there, 2000))}
    assert pairs["m", "n"]["difference"] == pytest.approx(0.9) and pairs["m", "n"]["p"] < 0.01
    assert pairs["m", "n"]["interval"][0] > 0.5
    assert pairs["m", "same"]["difference"] == 0 and pairs["m", "same"]["p"] == 1


def summary(tmp_path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    asked = protocol(split="one-to-all", domains=["a"], models=[MODEL, {**MODEL, "name": "n"}], bootstrap=50)
    made = [cell("m", 0, GOOD), cell("n", 0, POOR)]
    at = bench.Bench(asked, folder("a", "b"), tmp_path, torch.device("cpu"))
    return summarised(at, made, {"n/a/1": "why"}), made


def test_summary_by_hand(tmp_path: Path) -> None:
    found, _ = summary(tmp_path)
    assert found["scores"]["unseen"]["m"]["b"]["f1"]["mean"] == pytest.approx(0.8)
    assert found["scores"]["unseen"]["n"]["mean"]["f1"]["mean"] == pytest.approx(0.2)
    assert found["scores"]["seen"]["n"]["a"]["f1"]["runs"] == [pytest.approx(18 / 19)]
    assert found["scores"]["unseen"]["m"]["b"]["f1"]["interval"] == [0.8, 0.8]  # one slide
    assert found["cost"]["m"] == {"training_seconds": 60.0, "parameters": 1e6, "mm2_per_second": 0.5}
    assert found["drop"] == {}  # no scanner stands in both states
    text = "\n".join(table(found))
    assert "| m | 0.800 [0.800, 0.800] | 0.800 [0.800, 0.800] |" in text and "n/a/1: why" in text


def test_what_seeing_a_scanner_is_worth(tmp_path: Path) -> None:
    """Two folds: in each the other scanner is the unseen one; both are found with F1 18/19 when seen, 0.8 when not."""
    asked = protocol(split="one-to-all", bootstrap=0)
    other = {"a_test.png": (8, 2, 2), "b_test.png": (9, 1, 0)}
    made = [cell("m", 0, GOOD), cell("m", 0, other, fold="b", seen=("b",), unseen=("a",))]
    at = bench.Bench(asked, folder("a", "b"), tmp_path, torch.device("cpu"))
    drop = summarised(at, made, {})["drop"]["m"]
    assert drop == {"seen": pytest.approx(18 / 19), "unseen": pytest.approx(0.8), "kept": pytest.approx(0.8 * 19 / 18)}


def test_the_page_needs_nothing_beside_it(tmp_path: Path) -> None:
    found, made = summary(tmp_path)
    made[0]["features"] = {
        "separability": 0.5, "chance": 0.5, "plane": "PCA", "scanners": ["a", "b"], "scanner": [0, 1],
        "xy": [[0, 0], [1, 1]],
    }  # fmt: skip
    text = page(found, made, {})
    assert text.count("<svg") == 4 + 1 and "0.800 [0.800, 0.800]" in text
    links = {part.split('"')[1] for part in text.split("href=")[1:]}
    assert all(link.startswith("#") for link in links)
    assert "<script" not in text and "src=" not in text


def test_a_curve_by_hand() -> None:
    rows = [{"recall": 0.5, "precision": 0.8}, {"recall": 0.6, "precision": 0.9}]
    found = curve_of(rows)
    assert found[0] == found[60] == 0.9 and found[61] == 0


def test_what_a_model_saw_is_what_it_says_of_its_data() -> None:
    fold = Fold("f", ("a", "b"), ("c",), {})
    assert seen_by({"labelled": ["a"]}, "scanner", fold) == {"a"}
    assert seen_by({}, "scanner", fold) == {"a", "b"}
    older = {"labelled": ["c"], "started_from": {"labelled": ["d"]}}
    assert seen_by({"labelled": ["a"], "started_from": older}, "scanner", fold) == {"a", "c", "d"}
    assert seen_by({"labelled": ["x"], "unlabelled_tumors": ["b"]}, "tumor_type", fold) == {"a"}


# the order of cells


def test_cells_come_after_those_that_they_need(tmp_path: Path) -> None:
    one = {**MODEL, "name": "one", "share": ["difficulty"]}
    two = {**MODEL, "name": "two", "share": ["difficulty"]}
    asked = protocol(models=[{"name": "again", "of": "two"}, one, two], seeds=[0, 1])
    at = bench.Bench(asked, folder("a", "b"), tmp_path, torch.device("cpu"))
    every = cells(at, folds(asked, at.data))
    assert [c.place for c in every[:3]] == ["one/given/0", "two/given/0", "again/given/0"]
    assert [c.place for c in needed(at, every[1], every)] == ["one/given/0"]
    assert [c.place for c in needed(at, every[2], every)] == ["one/given/0", "two/given/0"]
    assert needed(at, every[0], every) == []
