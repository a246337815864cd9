"""What a model says of the slides and labels that it learned from, those of the files that it was given among them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from conftest import write_recipe
from mitosight import checkpoint, recipe, regions, seen, training
from mitosight.errors import InputError, UsageError
from mitosight.material import gather
from mitosight.methods import METHODS, arguments, checked, create
from mitosight.methods.parts.style import StyleTransfer
from mitosight.regions import DataFolder, Domain, Region, fingerprint

CPU = torch.device("cpu")
OWN = {fingerprint(f"{scanner}_{part}_0") for scanner in ("grey", "pink") for part in ("train", "val")}
STYLE = """
style_width = 4
style_blocks = 0
style_crop_px = 32
style_critic_depth = 2
style_critic_steps = 2
style_steps = 4
style_tiles_per_scanner = 1
depth = 18
anchor_base_px = [50.0]
"""


def styled(file: Path, **told: Any) -> Path:
    """A small style transfer in a file that says more."""
    torch.manual_seed(0)
    made = StyleTransfer(("grey", "pink"), width=4, blocks=0, crop_px=16, critic_depth=2)
    file.parent.mkdir(parents=True, exist_ok=True)
    tensors = {k: v.contiguous() for k, v in made.state_dict().items()}
    save_file(tensors, file, metadata={"mitosight": json.dumps({**made.facts(), **told})})
    return file


def tiny(folder: Path, *settings: str) -> recipe.Recipe:
    return recipe.load(str(write_recipe(folder / "tiny.toml")), ("epochs=1", "steps_per_epoch=1", *settings))


def facts_of(model: Path) -> dict[str, Any]:
    facts: dict[str, Any] = checkpoint.read_header(model)["provenance"]["data"]
    return facts


def test_slides_of_a_style_transfer_and_of_first_weights(drawn: Path, tmp_path: Path) -> None:
    """Those of both are the model's own now; whose labels the first weights know is said too."""
    style = styled(tmp_path / "style-transfer" / "style-transfer.safetensors", slides=["painted"])
    trunk = create("retinanet", ["grey"], {"weights": "none"}).trunk.body  # type: ignore[union-attr]
    told = {"provenance": {"data": {"slides": ["stemmed"], "labelled": ["XR"], "started_from": {"labelled": ["CS2"]}}}}
    weights = tmp_path / "trunk.safetensors"
    save_file({k: v.contiguous() for k, v in trunk.state_dict().items()}, weights, {"mitosight": json.dumps(told)})
    asked = tiny(tmp_path, f"style={style.parent}", "restyle=0.2", f"weights={weights}")
    facts = facts_of(training.train(asked, regions.load(drawn), tmp_path / "out", CPU))
    assert set(facts["slides"]) == {*OWN, "painted", "stemmed"}
    assert facts["labelled"] == ["grey", "pink"]
    assert facts["started_from"] == {"labelled": ["XR"], "started_from": {"labelled": ["CS2"]}}


def test_weights_of_another_origin_say_nothing(drawn: Path, tmp_path: Path) -> None:
    trunk = create("retinanet", ["grey"], {"weights": "none"}).trunk.body  # type: ignore[union-attr]
    weights = tmp_path / "trunk.safetensors"
    save_file({k: v.contiguous() for k, v in trunk.state_dict().items()}, weights)
    facts = facts_of(training.train(tiny(tmp_path, f"weights={weights}"), regions.load(drawn), tmp_path / "out", CPU))
    assert set(facts["slides"]) == OWN and "started_from" not in facts


def test_a_file_that_does_not_say_is_refused_before_anything_is_written(drawn: Path, tmp_path: Path) -> None:
    style = styled(tmp_path / "style.safetensors")
    asked = tiny(tmp_path, f"style={style}", "restyle=0.2")
    with pytest.raises(InputError, match=r"style.safetensors: does not say which slides it learned from; train it"):
        training.train(asked, regions.load(drawn), tmp_path / "out", CPU)
    with pytest.raises(InputError, match=r"none.safetensors: does not exist"):
        training.train(tiny(tmp_path, "weights=none.safetensors"), regions.load(drawn), tmp_path / "out", CPU)
    assert not (tmp_path / "out").exists()


def test_a_preparation_that_was_there_already_counts(drawn: Path, tmp_path: Path) -> None:
    """As the bench lends it to another row: what its file says it saw, the model has seen."""
    (tmp_path / "tiny.toml").write_text(
        write_recipe(tmp_path / "plain.toml", "chung2021").read_text().replace("[training]", f"{STYLE}[training]")
    )
    asked = recipe.load(str(tmp_path / "tiny.toml"), ("epochs=1", "steps_per_epoch=1"))
    data, inside = regions.load(drawn), Path("style-transfer") / "style-transfer.safetensors"
    model = training.train(asked, data, tmp_path / "first", CPU)
    train = {fingerprint(f"{scanner}_train_0") for scanner in ("grey", "pink")}
    assert seen.said_by(tmp_path / "first" / inside) == train and set(facts_of(model)["slides"]) == OWN
    with safe_open(tmp_path / "first" / inside, "pt") as opened:
        told = json.loads(opened.metadata()["mitosight"])
    (tmp_path / "second" / inside).parent.mkdir(parents=True)
    metadata = {"mitosight": json.dumps({**told, "slides": ["lent"]})}
    save_file(load_file(tmp_path / "first" / inside), tmp_path / "second" / inside, metadata)
    assert set(facts_of(training.train(asked, data, tmp_path / "second", CPU))["slides"]) == {*OWN, "lent"}


def test_one_model_after_another(tmp_path: Path) -> None:
    """The last that was learned from comes first, and what each started from after it."""
    first = seen.Learned(tmp_path, frozenset({"a"}), {"labelled": ["1"], "started_from": {"labelled": ["0"]}})
    style = seen.Learned(tmp_path, frozenset({"b"}))
    last = seen.Learned(tmp_path, frozenset({"c"}), {"labelled": ["2"]})
    assert seen.facts_with({"slides": ["d"], "labelled": ["3"]}, [first, style, last], ["e"]) == {
        "slides": ["a", "b", "c", "d", "e"],
        "labelled": ["3"],
        "started_from": {"labelled": ["2"], "started_from": {"labelled": ["1"], "started_from": {"labelled": ["0"]}}},
    }


@pytest.mark.parametrize("method", METHODS)
def test_no_argument_that_may_name_a_file_is_forgotten(method: str) -> None:
    """Of those whose value may be any text, `network` alone names no file."""

    def takes_any(name: str) -> bool:
        try:
            return checked(method, {name: "any/text"}) == {name: "any/text"}
        except UsageError:
            return False

    texts = {name for name, default in arguments(method).items() if isinstance(default, str) and takes_any(name)}
    assert "weights" in texts and texts - {"network"} == set(METHODS[method].files)


def test_the_tumour_types_whose_labels_count() -> None:
    """Of the scanner b nothing is annotated, of a's third tumour neither, and a recipe leaves out the second."""

    def region(name: str, scanner: str, tumour: str, figures: int) -> Region:
        xy, label = np.ones((figures, 2)), np.ones(figures, np.int64)
        return Region(name, 9, 9, xy, label, domain=Domain(scanner, tumour), mpp=0.25)

    train = [region("1", "a", "breast", 1), region("2", "a", "lung", 1), region("3", "a", "skin", 0),
             region("4", "b", "colon", 0)]  # fmt: skip
    data = DataFolder(Path(), (*train, region("5", "a", "breast", 1)), {"train": ("1", "2", "3", "4"), "val": ("5",)})
    asked = recipe.parse({"method": "chung2021"})
    assert gather(asked, data).facts()["labelled_tumors"] == ["breast", "lung"]
    asked = recipe.parse({"method": "chung2021", "training": {"unlabelled_tumors": ["lung", "skin"]}})
    assert gather(asked, data).facts()["labelled_tumors"] == ["breast"]
