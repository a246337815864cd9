"""Protocols, folds, the check for slides that were seen, and the order of cells."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mitosight import bench, regions
from mitosight.bench.facts import seen_by
from mitosight.bench.folds import Fold, folds, parts_of
from mitosight.bench.protocol import Protocol, parse
from mitosight.bench.running import cells, needed
from mitosight.errors import InputError, UsageError
from mitosight.regions import DataFolder, Region

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
        ({"models": [MODEL, {"name": "n", "of": "m", "set": ["a=1"]}]}, "set, share and across go with a recipe"),
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


# what was seen


def test_what_a_model_saw_is_what_it_says_of_its_data() -> None:
    fold = Fold("f", ("a", "b"), ("c",), {})
    assert seen_by({"labelled": ["a"]}, "scanner", fold) == {"a"}
    assert seen_by({}, "scanner", fold) == {"a", "b"}
    older = {"labelled": ["c"], "started_from": {"labelled": ["d"]}}
    assert seen_by({"labelled": ["a"], "started_from": older}, "scanner", fold) == {"a", "c", "d"}
    assert seen_by({"labelled": ["x"], "unlabelled_tumors": ["b"]}, "tumor_type", fold) == {"a"}
    assert seen_by({"labelled": ["x"], "labelled_tumors": ["b", "d"]}, "tumor_type", fold) == {"b", "d"}


# the order of cells


def test_cells_come_after_those_that_they_need(tmp_path: Path) -> None:
    one = {**MODEL, "name": "one", "share": ["difficulty"]}
    two = {**MODEL, "name": "two", "share": ["difficulty"]}
    asked = protocol(models=[{"name": "again", "of": "two"}, one, two], seeds=[0, 1])
    at = bench.Bench(asked, folder("a", "b"), tmp_path, torch.device("cpu"))
    every = cells(at)
    assert [c.place for c in every[:3]] == ["one/given/0", "two/given/0", "again/given/0"]
    assert [c.place for c in needed(at, every[1], every)] == ["one/given/0"]
    assert [c.place for c in needed(at, every[2], every)] == ["one/given/0", "two/given/0"]
    assert needed(at, every[0], every) == []
