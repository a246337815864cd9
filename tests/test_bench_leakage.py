"""Protocols that test what was seen before, by a fold's other parts or by a file that a model was given."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from mitosight import regions
from mitosight.bench import leakage
from mitosight.bench.folds import Fold, folds
from mitosight.bench.protocol import Protocol, parse
from mitosight.errors import InputError
from mitosight.regions import DataFolder, Region, fingerprint, fingerprints

MODEL = {"name": "m", "recipe": "wilm2021-fields"}
TOLD = {"format": 1, "mitosight": "0", "method": "retinanet", "arguments": {}, "scanners": [], "threshold": 0.5}


def protocol(*settings: str, recipe: str = "wilm2021-fields") -> Protocol:
    return parse({"title": "t", "models": [{"name": "m", "recipe": recipe, "set": list(settings)}]})


def folder(**slides: str) -> DataFolder:
    """One region with a figure of the scanners a and b in each part; `slides` renames slides, by the file's stem."""
    names = [f"{scanner}_{part}" for part in ("train", "val", "test") for scanner in "ab"]
    every = [
        Region(
            f"{n}.png",
            10,
            10,
            np.ones((1, 2)),
            np.ones(1, np.int64),
            domain=regions.Domain(n[0]),
            slide=slides.get(n, n),
        )
        for n in names
    ]
    split = {p: tuple(f"{s}_{p}.png" for s in "ab") for p in ("train", "val", "test")}
    return DataFolder(Path("images"), tuple(every), split)


def written(file: Path, header: Any = None, **metadata: str) -> Path:
    """A file of weights; `header` is what this package says in it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    told = metadata if header is None else {"mitosight": json.dumps(header)}
    save_file({"w": np.zeros(1)}, file, told or None)
    return file


def state(folder: Path) -> None:
    """What `mitosight.state` leaves for resuming."""
    written(folder / "state.safetensors", step="3", seconds="1.0")


def check(asked: Protocol, data: DataFolder | None = None) -> None:
    data = data or folder()
    leakage.check(asked, folds(asked, data), data)


def test_a_test_slide_in_training_is_named() -> None:
    data = folder()
    split = {**data.split, "val": ("a_val.png", "b_test.png")}
    with pytest.raises(InputError, match=r"test slides were seen in the part 'val' of fold f: b_test; a test"):
        leakage.check(protocol(), [Fold("f", ("a",), ("b",), split)], data)


def test_a_slide_under_the_name_of_its_data_set_and_without() -> None:
    """The same one in training and test; two of different data sets are two."""
    with pytest.raises(InputError, match=r"test slides were seen in the part 'train' of fold given: 024; a test"):
        check(protocol(), folder(a_train="MIDOG21:024", b_test="024"))
    check(protocol(), folder(a_train="MIDOG21:024", b_test="TUPAC16:024"))


def test_a_given_file_that_saw_a_test_slide_is_named(tmp_path: Path) -> None:
    style = tmp_path / "style.safetensors"
    asked = protocol(f"style={style}", recipe="chung2021-fields")
    for slides, told in (({"slides": [fingerprint("b_test")]}, "b_test"), ({}, "does not say which slides")):
        written(style, {"kind": "style", **slides})
        with pytest.raises(InputError, match=told):
            check(asked)
    written(style, {"slides": ["0123456789abcdef"]})
    check(asked)


@pytest.mark.parametrize(
    ("recipe", "name"), [("chung2021-fields", "style-transfer"), ("wang2023-fields", "re-stainer")]
)
@pytest.mark.parametrize("of_detector", [False, True])
def test_of_a_folder_the_file_that_the_method_takes(tmp_path: Path, recipe: str, name: str, of_detector: bool) -> None:
    """A finished training's own folder, or that of a detector; what is kept for resuming lies beside it."""
    place = tmp_path / "run" / name if of_detector else tmp_path / "run"
    file = written(place / f"{name}.safetensors", {"kind": name, "slides": [fingerprint("b_test")]})
    state(tmp_path / "run")
    state(place)
    if of_detector:
        written(tmp_path / "run" / "model.safetensors", {**TOLD, "provenance": {"data": {"slides": []}}})
    asked = protocol(f"style={tmp_path / 'run'}", recipe=recipe)
    with pytest.raises(InputError) as error:
        check(asked)
    assert str(error.value).startswith(f"test slides were seen in {file} (m): b_test; test on slides")
    written(file, {"kind": name, "slides": [fingerprint("other")]})
    check(asked)


def test_files_that_cannot_be_looked_at(tmp_path: Path) -> None:
    """Nothing of them passes: a folder without the file, a state, a file that is not there or no safetensors."""
    state(tmp_path / "empty")
    (tmp_path / "broken.safetensors").write_bytes(b"nothing")
    written(tmp_path / "odd.safetensors", ["no", "table"])
    for setting, recipe, told in (
        ("style=empty", "chung2021-fields", "empty/style-transfer.safetensors: does not exist; name the file"),
        ("style=empty", "wang2023-fields", "empty/re-stainer.safetensors: does not exist; name the file"),
        ("weights=empty", "kondo2021-fields", "empty: is a folder, not a file of weights"),
        ("weights=empty/state.safetensors", "wilm2021-fields", "state.safetensors: is the state of a training"),
        ("style=empty/state.safetensors", "chung2021-fields", "state.safetensors: is the state of a training"),
        ("weights=none.safetensors", "wang2023-fields", "none.safetensors: does not exist"),
        ("weights=broken.safetensors", "wilm2021-fields", "broken.safetensors: is no readable safetensors file"),
        ("weights=odd.safetensors", "wilm2021-fields", "odd.safetensors: does not say which slides"),
    ):
        name, _, value = setting.partition("=")
        with pytest.raises(InputError) as error:
            check(protocol(f"{name}={tmp_path / value}", recipe=recipe))
        assert told in str(error.value) and "\n" not in str(error.value)


def test_words_are_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that happens to be called "imagenet" is nobody's weights."""
    (tmp_path / "imagenet").mkdir()
    monkeypatch.chdir(tmp_path)
    check(protocol("weights=imagenet"))
    check(protocol("weights=none", recipe="kondo2021-fields"))


def test_a_model_that_a_training_starts_from_counts(tmp_path: Path) -> None:
    """Its header, in file or folder, says which slides it saw; as first weights it counts too."""
    model = tmp_path / "run" / "model.safetensors"
    for setting in (f"start={model}", f"start={model.parent}", f"weights={model}"):
        written(model, {**TOLD, "provenance": {"data": {"slides": [fingerprint("b_test")]}}})
        with pytest.raises(InputError, match=r"test slides were seen in .*model.safetensors \(m\): b_test"):
            check(protocol(setting))
        written(model, {**TOLD, "provenance": {"data": {"slides": [fingerprint("other")]}}})
        check(protocol(setting))


def test_slides_that_a_model_was_adapted_to_count(tmp_path: Path) -> None:
    """A model of an earlier version has their paths apart."""
    told = {"data": {"slides": []}, "adaptation": {"slides": ["/lab/new/b_test.tiff"]}}
    model = written(tmp_path / "model.safetensors", {**TOLD, "provenance": told})
    asked = parse({"title": "t", "models": [{"name": "m", "model": str(model)}]})
    with pytest.raises(InputError, match=r"test slides were seen in .*model.safetensors \(m\): b_test"):
        check(asked)
    told["adaptation"]["slides"] = ["/lab/new/other.tiff"]
    written(model, {**TOLD, "provenance": told})
    check(asked)


@pytest.mark.parametrize(
    ("learned", "tested", "same"),
    [
        ("MIDOG21:024", "024", True),
        ("024", "MIDOG21:024", True),
        ("MIDOG21:024", "TUPAC16:024", False),
        ("MIDOG21:024", "MIDOG21:025", False),
        ("LAB:7", "7", True),
        ("LAB:7", "LAB-7", False),
    ],
)
def test_names_with_and_without_their_data_set(tmp_path: Path, learned: str, tested: str, same: bool) -> None:
    data = {"slides": sorted(fingerprints([learned]))}
    model = written(tmp_path / "model.safetensors", {**TOLD, "provenance": {"data": data}})
    asked = parse({"title": "t", "models": [{"name": "m", "model": str(model)}]})
    if same:
        with pytest.raises(InputError, match=f"{tested}; test on slides that it never saw; where one is another slide"):
            check(asked, folder(b_test=tested))
    else:
        check(asked, folder(b_test=tested))


def test_the_model_that_ships_has_seen_midog_under_any_name() -> None:
    """Slide 024 of MIDOG 2021 is one of those it learned from; its header has the name with the data set alone."""
    asked = parse({"title": "t", "models": [{"name": "m", "model": "mitosight"}]})
    for name in ("MIDOG21:024", "024"):
        with pytest.raises(InputError, match=f": {name}; test on slides"):
            check(asked, folder(b_test=name))
    check(asked, folder(b_test="LAB:024"))


def test_the_example_names_slides_as_the_data_of_that_model_did() -> None:
    table = Path(__file__).parents[1] / "examples" / "midog2021" / "domains.csv"
    assert regions.read_slides(table)["024.tiff"] == "MIDOG21:024"


def test_weights_of_another_origin_are_passed_over(tmp_path: Path) -> None:
    check(protocol(f"weights={written(tmp_path / 'imagenet.safetensors')}"))
