"""Cells: by what they are known, what they take from each other, and what becomes of the rest where one fails."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from conftest import write_folder, write_recipe
from mitosight import bench, regions
from mitosight.bench import running
from mitosight.bench.cell import _for_all
from mitosight.bench.folds import folds, slugs
from mitosight.bench.material import drawn
from mitosight.bench.protocol import Protocol, parse
from mitosight.errors import InputError, UsageError
from mitosight.methods import arguments
from mitosight.outputs import alone, write_json
from mitosight.regions import DataFolder, Domain, Region

TINTS = {"grey": (200, 200, 210), "pink": (235, 190, 215)}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataFolder:
    return regions.load(write_folder(tmp_path_factory.mktemp("cells"), TINTS))


def protocol(folder: Path, *models: dict[str, Any], **changed: Any) -> Protocol:
    """Of tiny recipes, in `folder`, whose file is known by its whole path."""
    recipe = str(folder / "tiny.toml")
    if not Path(recipe).is_file():
        write_recipe(folder / "tiny.toml")
    named = [m if {"model", "of"} & set(m) else {"recipe": recipe, **m} for m in models]
    asked = {"title": "t", "split": "leave-one-out", "bootstrap": 0, "features": 0, "models": named, **changed}
    return parse(asked)


def made(asked: Protocol, data: DataFolder, out: Path) -> tuple[bench.Bench, list[bench.Cell]]:
    at = bench.Bench(asked, data, out, torch.device("cpu"))
    return at, bench.planned(at)


# folds


def test_folders_of_domains_differ() -> None:
    assert slugs(["a b", "a/b", "A-B", "c", "a-b-2", ".."]) == {
        "a b": "a-b", "a/b": "a-b-2", "A-B": "A-B-3", "c": "c", "a-b-2": "a-b-2-2", "..": "unnamed",
    }  # fmt: skip


def region(name: str, part: str, figures: int = 1) -> Region:
    labels = np.ones(figures, np.int64)
    return Region(f"{name}_{part}.png", 10, 10, np.ones((figures, 2)), labels, domain=Domain(name), mpp=0.25)


def folder_of(**parts: list[Region]) -> DataFolder:
    every = [r for rs in parts.values() for r in rs]
    return DataFolder(Path("images"), tuple(every), {p: tuple(r.file_name for r in rs) for p, rs in parts.items()})


def test_a_scanner_without_annotations_is_unlabelled_in_every_fold() -> None:
    """As the GT450 of MIDOG 2021: its images help those that can use them; its figures are not taken for background."""
    known = ["a", "b"]
    data = folder_of(
        train=[*(region(s, "train") for s in known), region("gt450", "train", 0)],
        val=[region(s, "val") for s in known],
        test=[region(s, "test") for s in (*known, "gt450")],
    )
    asked = parse(
        {"title": "t", "split": "leave-one-out", "unlabelled": True, "models": [{"name": "m", "recipe": "demo"}]}
    )
    first, second = folds(asked, data)
    assert (first.name, first.seen, first.unseen) == ("a", ("b",), ("a", "gt450"))
    assert first.split["train"] == ("a_train.png", "b_train.png", "gt450_train.png")
    assert first.settings == ('labelled_scanners=["b"]',) and second.settings == ('labelled_scanners=["a"]',)


def test_a_scanner_of_the_test_images_alone_can_be_left_out_by_name() -> None:
    """All others are learned from then."""
    data = folder_of(
        train=[region(s, "train") for s in "ab"], val=[region(s, "val") for s in "ab"],
        test=[region(s, "test") for s in "abc"],
    )  # fmt: skip
    models = [{"name": "m", "recipe": "demo"}]
    (only,) = folds(parse({"title": "t", "split": "leave-one-out", "domains": ["c"], "models": models}), data)
    assert (only.seen, only.unseen) == (("a", "b"), ("c",))
    assert [f.name for f in folds(parse({"title": "t", "split": "leave-one-out", "models": models}), data)] == [
        "a",
        "b",
    ]
    with pytest.raises(InputError, match="no scanner 'c' in training and test; there are a, b"):
        folds(parse({"title": "t", "split": "one-to-all", "domains": ["c"], "models": models}), data)


# keys


def test_a_cell_is_known_by_what_its_recipe_holds(tmp_path: Path, data: DataFolder) -> None:
    """Not by the recipe's name or place; another setting, another file behind the same name, another seed count."""
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    at, (cell, *_) = made(protocol(here, {"name": "m"}), data, tmp_path)
    key = at.key(cell)
    other, (same, *_) = made(protocol(there, {"name": "n"}), data, tmp_path)
    assert other.key(same) == key
    write_recipe(here / "tiny.toml", steps=3)
    assert at.key(cell) != key
    at, (cell, *_) = made(protocol(there, {"name": "m"}, seeds=[1]), data, tmp_path)
    assert at.key(cell) != key


def test_a_cell_is_known_by_the_defaults_of_its_method(
    tmp_path: Path, data: DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A version with another default makes another cell of the same recipe."""
    at, (cell, *_) = made(protocol(tmp_path, {"name": "m"}), data, tmp_path)
    key, changed = at.key(cell), {**arguments("retinanet"), "nms_iou": 0.123}
    monkeypatch.setattr("mitosight.bench.content.arguments", lambda method: changed)
    assert at.key(cell) != key


def test_a_cell_is_known_by_the_weights_that_it_is_given(tmp_path: Path, data: DataFolder) -> None:
    weights = tmp_path / "w.safetensors"
    save_file({"w": np.zeros(1)}, weights)
    at, (cell, *_) = made(protocol(tmp_path, {"name": "m", "set": [f"weights={weights}"]}), data, tmp_path)
    key = at.key(cell)
    save_file({"w": np.ones(1)}, weights)
    assert at.key(cell) != key


def test_a_cell_is_known_by_the_images(tmp_path: Path) -> None:
    """An image that was exchanged for one of another size is other data."""
    folder = write_folder(tmp_path / "data", TINTS)
    asked = protocol(tmp_path, {"name": "m"})
    at, (cell, *_) = made(asked, regions.load(folder), tmp_path)
    before = at.key(cell)
    image = next((folder / "images").glob("grey_test*"))
    image.write_bytes(image.read_bytes() + b"0")
    at, (cell, *_) = made(asked, regions.load(folder), tmp_path)
    assert at.key(cell) != before


# what cells take from each other


def test_a_model_that_could_not_be_trained_fails_those_that_take_it_too(tmp_path: Path, data: DataFolder) -> None:
    """They do not train it once more."""
    asked = protocol(tmp_path, {"name": "base", "set": ["lr=1e30"]}, {"name": "again", "of": "base"}, domains=["grey"])
    at, every = made(asked, data, tmp_path / "out")
    outcomes = {cell.place: outcome for cell, outcome in running.here(at, every)}
    assert "the loss of step" in str(outcomes["base/grey/0"])
    assert str(outcomes["again/grey/0"]) == "base/grey/0, whose model it takes, failed; mend that first"
    assert not (tmp_path / "out/cells/again").exists()


def test_a_wrong_setting_of_one_cell_stops_no_other(tmp_path: Path, data: DataFolder) -> None:
    """Tiles too small for a method are found when a training begins: a usage error like that is the cell's own."""
    asked = protocol(tmp_path, {"name": "small", "set": ["crop_px=16"]}, {"name": "good"}, domains=["grey"])
    at, every = made(asked, data, tmp_path / "out")
    small, good = (outcome for _, outcome in running.here(at, every))
    assert isinstance(small, UsageError) and "training tiles of 16 px" in str(small)
    assert isinstance(good, dict) and good["scores"]["figures"] == 12


def test_a_preparation_is_lent_whole(tmp_path: Path, data: DataFolder) -> None:
    """What is kept for resuming stays; a copy that is there is not taken anew; the lender takes none of its own."""
    asked = protocol(
        tmp_path, {"name": "one", "share": ["style"]}, {"name": "two", "share": ["style"]}, domains=["grey"]
    )
    at, (one, two) = made(asked, data, tmp_path / "out")
    lent, taken = at.folder(one) / "model/style", at.folder(two) / "model/style"
    at._lend(one, two, "style")
    assert not taken.exists()  # nothing to lend yet
    lent.mkdir(parents=True)
    for name in ("style.safetensors", "state.safetensors"):
        save_file({"w": np.zeros(1)}, lent / name)
    at._lend(one, two, "style")
    assert [file.name for file in taken.iterdir()] == ["style.safetensors"]
    (lent / "more.safetensors").write_bytes(b"")
    at._lend(one, two, "style")
    at._lend(one, one, "style")
    assert [file.name for file in taken.iterdir()] == ["style.safetensors"]


def test_a_preparation_without_labels_is_made_for_all_folds(tmp_path: Path, data: DataFolder) -> None:
    """The first fold of a seed makes it, the others take it; with labels in play that is refused."""
    entry = {"name": "m", "across": ["style"]}
    asked = protocol(tmp_path, entry, {"name": "n"}, unlabelled=True, seeds=[0, 1])
    at, every = made(asked, data, tmp_path / "out")
    places = {c.place: [n.place for n in running.needed(at, c, every)] for c in every}
    assert places["m/grey/0"] == [] and places["m/pink/0"] == ["m/grey/0"] and places["m/pink/1"] == ["m/grey/1"]
    assert places["n/pink/0"] == []
    with pytest.raises(UsageError, match="across needs folds with the same training images"):
        protocol(tmp_path, entry)
    with pytest.raises(UsageError, match=r"from another model .share. or another fold .across., not both"):
        protocol(tmp_path, {**entry, "share": ["style"]}, unlabelled=True)


def test_a_trained_model_searches_the_test_images_once(tmp_path: Path, data: DataFolder) -> None:
    """For two folds and two seeds its cells are alike, and of what it says it has seen."""
    first = protocol(tmp_path, {"name": "m"}, domains=["grey"])
    at, (cell,) = made(first, data, tmp_path / "first")
    at.work(cell)
    model = at.folder(cell) / "model/model.safetensors"
    asked = protocol(tmp_path, {"name": "given", "model": str(model)}, seeds=[0, 1])
    at, every = made(asked, data, tmp_path / "out")
    outcomes = [outcome for _, outcome in running.here(at, every)]
    assert [running.needed(at, c, every) for c in every] == [[], *[[every[0]]] * 3]
    assert all(isinstance(o, dict) and o["seen"] == ["pink"] and o["unseen"] == ["grey"] for o in outcomes)
    found = [o["scores"]["f1"] for o in outcomes if isinstance(o, dict)]
    assert len(set(found)) == 1
    times = [o["search_seconds"] for o in outcomes if isinstance(o, dict)]
    assert times[0] is not None and times[1:] == [None] * 3
    assert len(list((tmp_path / "out").rglob("summary.csv"))) == 1


def test_seconds_of_a_search_that_went_on() -> None:
    """Six of ten images in 12 s are 20 s for all; where nothing was left to search nothing is known."""
    assert _for_all(12.0, 10, 4) == 20.0
    assert _for_all(0.1, 10, 10) is None


def test_images_of_one_name_in_two_folders_are_two(tmp_path: Path, data: DataFolder) -> None:
    """Of those that were searched before; the table of the slides is none."""
    at, (cell,) = made(protocol(tmp_path, {"name": "m"}, domains=["grey"]), data, tmp_path)
    for name in ("a/01.csv", "b/01.csv", "b/summary.csv"):
        file = at.folder(cell) / "found" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    assert at._searched_before(cell) == 2


def test_a_cell_that_another_run_works_on_is_left_to_it(tmp_path: Path, data: DataFolder) -> None:

    at, (cell,) = made(protocol(tmp_path, {"name": "m"}, domains=["grey"]), data, tmp_path / "out")
    with alone(at.folder(cell)):
        assert "is being written to by another run" in str(running.attempted(at, cell))


# drawn data


def phantoms(**changed: Any) -> Protocol:
    asked = {"scanners": ["phantom-A", "phantom-B"], "train": 1, "val": 1, "test": 1, "size_um": [64, 64], **changed}
    return parse({"title": "t", "phantoms": asked, "models": [{"name": "m", "recipe": "demo"}]})


def test_phantoms_are_drawn_once_and_refused_for_others(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    found = drawn(phantoms(), folder)
    assert {part: len(found.part(part)) for part in ("train", "val", "test")} == {"train": 2, "val": 2, "test": 2}
    assert len({slide for r in found.regions for slide in r.slides}) == 6  # no tissue twice
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.tiff")}
    assert drawn(phantoms(), folder).regions[0].file_name == found.regions[0].file_name
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*.tiff")}
    with pytest.raises(InputError, match="holds phantoms that were drawn for other settings; choose another --out"):
        drawn(phantoms(test=2), folder)
    (folder / "phantoms.json").unlink()  # as after a run that was stopped while drawing
    assert len(drawn(phantoms(), folder).regions) == 6


def test_two_runs_do_not_draw_at_once(tmp_path: Path) -> None:

    with alone(tmp_path / "data"), pytest.raises(UsageError, match="is being written to by another run"):
        drawn(phantoms(), tmp_path / "data")


def test_another_protocol_in_the_same_folder_is_refused(tmp_path: Path, data: DataFolder) -> None:
    at, (cell,) = made(protocol(tmp_path, {"name": "m"}, domains=["grey"]), data, tmp_path / "out")
    write_json(at.folder(cell) / "cell.json", {"key": "another"})
    with pytest.raises(InputError, match="is of another protocol or of other data; choose another --out"):
        at.done(cell)
