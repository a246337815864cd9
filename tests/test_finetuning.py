"""Fine-tuning: from whose weights a training starts, what it keeps, what it refuses, what it tells."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from conftest import write_folder, write_recipe
from mitosight import checkpoint, recipe
from mitosight.errors import InputError, UsageError
from mitosight.finetuning import AS_IT_IS, RE_THRESHOLD, TUNED, finetune, recipe_of
from mitosight.methods import create
from mitosight.regions import fingerprint, load
from mitosight.starting import start_from
from mitosight.training import train

Run = Callable[..., tuple[int, str, str]]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, drawn: Path) -> Path:
    """A domain-adversarial RetinaNet of two scanners after four steps."""
    out = tmp_path_factory.mktemp("model")
    return train(recipe.load(str(write_recipe(out / "tiny.toml", "wilm2021"))), load(drawn), out / "model", CPU)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two other scanners."""
    return write_folder(tmp_path_factory.mktemp("lab"), {"green": (200, 215, 200), "blue": (200, 205, 235)})


def test_starts_from_all_weights_but_those_of_its_data(model: Path) -> None:
    torch.manual_seed(5)
    asked = checkpoint.read_header(model)["arguments"]
    detector, given = create("wilm2021", ["green", "blue"], asked), load_file(model)
    own = {name: value.clone() for name, value in detector.state_dict().items()}
    told = start_from(detector, model)
    assert "(wilm2021, " in told and told.endswith("; anew: discriminators")
    for name, value in detector.state_dict().items():
        expected = own[name] if name.startswith("discriminators.") else given[name]
        assert torch.equal(value, expected), name


def test_a_plain_detector_starts_from_the_adversarial_one(model: Path) -> None:
    arguments = {k: v for k, v in checkpoint.read_header(model)["arguments"].items() if not k.startswith("domain")}
    known = {k: v for k, v in arguments.items() if k in {"tile_px", "weights", "channels", "levels", "head_convs"}}
    detector = create("retinanet", ["green"], known)
    assert "100.0% of the weights); anew: nothing" in start_from(detector, model)
    with pytest.raises(InputError, match="of the weights of this detector"):
        start_from(create("retinanet", ["green"], {**known, "depth": 50}), model)


def test_what_cannot_start(model: Path) -> None:
    staged = create("wang2023", ["a", "b"], {"weights": "none", "width": 4, "style_depth": 1, "style_width": 4})
    with pytest.raises(UsageError, match="learns in stages of its own"):
        start_from(staged, model)


def test_the_recipe_is_the_model_s_own_but_slower(model: Path, lab: Path) -> None:
    asked = recipe_of(model, load(lab), ["epochs=3"])
    assert asked.method == "wilm2021" and asked.detector["channels"] == 16 and asked.detector["weights"] == "none"
    steps = asked.optimisation
    assert (steps.epochs, steps.steps_per_epoch, steps.lr) == (3, 30, pytest.approx(1e-4))
    assert asked.training.crop_px == 224 and asked.training.start == str(model) and asked.training.scanners == ()


def test_before_and_after(model: Path, lab: Path, tmp_path: Path) -> None:
    """With a learning rate of next to nothing the weights stay; slides of both trainings count as seen."""
    data = load(lab)
    asked = recipe_of(model, data, ["epochs=1", "steps_per_epoch=1", "lr=1e-12"])
    tuned = finetune(model, asked, data, tmp_path / "out", CPU)
    before, after = load_file(model), load_file(tuned.file)
    same = [torch.allclose(after[k], v, atol=1e-9) for k, v in before.items() if k.startswith("class_head.")]
    assert len(same) == 4 and all(same)
    assert list(tuned.reports) == [AS_IT_IS, RE_THRESHOLD, TUNED]
    assert all(report.total.figures == 12 for report in tuned.reports.values())
    assert tuned.reports[AS_IT_IS].settings["threshold"] == checkpoint.read_header(model)["threshold"]
    assert tuned.reports[AS_IT_IS].total.average_precision == tuned.reports[RE_THRESHOLD].total.average_precision
    facts = checkpoint.read_header(tuned.file)["provenance"]["data"]
    assert {fingerprint(f"{scanner}_train_0") for scanner in ("grey", "green")} <= set(facts["slides"])
    assert facts["started_from"]["labelled"] == ["grey", "pink"]
    written = json.loads((tmp_path / "out" / "finetune.json").read_text())
    assert written[TUNED]["f1"] == tuned.reports[TUNED].total.f1
    again = finetune(model, asked, data, tmp_path / "out", CPU)
    assert {k: r.total.f1 for k, r in again.reports.items()} == {k: r.total.f1 for k, r in tuned.reports.items()}


def test_images_in_folders_that_tell_their_own_mpp(model: Path, lab: Path, tmp_path: Path) -> None:
    """File names with a folder, no mpp in a table: the points are those of the same images without."""
    asked = ["epochs=1", "steps_per_epoch=1", "lr=0"]
    expected = finetune(model, recipe_of(model, load(lab), asked), load(lab), tmp_path / "flat", CPU).reports
    deep = tmp_path / "deep"
    shutil.copytree(lab / "images", deep / "images" / "one")
    told = json.loads((lab / "annotations.json").read_text())
    for image in told["images"]:
        image["file_name"] = f"one/{image['file_name']}"
    (deep / "annotations.json").write_text(json.dumps(told))
    parts = json.loads((lab / "split.json").read_text())
    (deep / "split.json").write_text(json.dumps({p: [f"one/{n}" for n in names] for p, names in parts.items()}))
    lines = (lab / "domains.csv").read_text().splitlines()
    table = [line.rpartition(",")[0] for line in lines]
    (deep / "domains.csv").write_text("\n".join([table[0], *(f"one/{line}" for line in table[1:])]) + "\n")
    data = load(deep)
    assert all(region.mpp is None for region in data.regions)
    found = finetune(model, recipe_of(model, data, asked), data, tmp_path / "out", CPU).reports
    assert found[AS_IT_IS].total.average_precision == expected[AS_IT_IS].total.average_precision
    assert found[AS_IT_IS].total.detections == expected[AS_IT_IS].total.detections


def test_frozen_layers_stay_frozen(model: Path) -> None:
    arguments = {**checkpoint.read_header(model)["arguments"], "freeze_stages": 2, "freeze_norm": True}
    detector = create("wilm2021", ["green", "blue"], arguments)
    start_from(detector, model)
    assert detector.started() == ["the first 2 stages and all batch norms keep what the model has"]
    trunk = detector.train().trunk.body  # type: ignore[union-attr]
    assert not trunk.layer1[0].conv1.weight.requires_grad and trunk.layer3[0].conv1.weight.requires_grad  # type: ignore
    assert not trunk.layer3[0].bn1.training  # type: ignore[union-attr, index]


def test_another_model_under_the_same_name_is_another_training(model: Path, lab: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy" / "model.safetensors"
    copy.parent.mkdir()
    shutil.copyfile(model, copy)
    asked = recipe_of(copy, load(lab), ["epochs=1", "steps_per_epoch=1"])
    train(asked, load(lab), tmp_path / "out", CPU)
    train(asked, load(lab), tmp_path / "out", CPU)  # is finished
    weights = load_file(copy)
    with safe_open(copy, "pt") as file:
        save_file({k: v + 1 for k, v in weights.items()}, copy, file.metadata())
    with pytest.raises(InputError, match="start_sha256"):
        train(asked, load(lab), tmp_path / "out", CPU)


def test_a_training_of_an_earlier_version_goes_on(drawn: Path, tmp_path: Path) -> None:
    """Its recipe.json lacks settings that came later, whose defaults are what it did."""
    asked = recipe.load(str(write_recipe(tmp_path / "tiny.toml")))
    train(asked, load(drawn), tmp_path / "out", CPU)
    told = json.loads((tmp_path / "out" / "recipe.json").read_text())
    del told["training"]["start"], told["optimisation"]["average"]
    (tmp_path / "out" / "recipe.json").write_text(json.dumps(told))
    assert train(asked, load(drawn), tmp_path / "out", CPU).is_file()
    told["optimisation"]["lr"] = 1.0
    (tmp_path / "out" / "recipe.json").write_text(json.dumps(told))
    with pytest.raises(InputError, match="another recipe"):
        train(asked, load(drawn), tmp_path / "out", CPU)


def test_a_single_tile_a_step_is_too_few_for_discriminators(model: Path, lab: Path, tmp_path: Path) -> None:
    asked = recipe_of(model, load(lab), ['scanners=["green"]', "epochs=1", "steps_per_epoch=1"])
    with pytest.raises(UsageError, match="batches of one tile; set tiles_per_scanner=2"):
        finetune(model, asked, load(lab), tmp_path / "out", CPU)
    assert not (tmp_path / "out").exists()


def test_a_test_slide_that_was_learned_from_is_refused(model: Path, drawn: Path, tmp_path: Path) -> None:
    names = json.loads((drawn / "split.json").read_text())
    names["train"], names["test"] = names["test"], names["train"]
    (tmp_path / "split.json").write_text(json.dumps(names))
    data = load(drawn, split=tmp_path / "split.json")
    with pytest.raises(InputError, match="has learned from slides of the part 'test': grey_train_0"):
        finetune(model, recipe_of(model, data), data, tmp_path / "out", CPU)
    assert not (tmp_path / "out").exists()


def test_a_model_that_does_not_say_what_it_saw_is_refused(model: Path, lab: Path, tmp_path: Path) -> None:
    """Before an image is opened, with a part "test" or without: the new model could not say it either."""
    header = checkpoint.read_header(model)
    del header["provenance"]["data"]["slides"]
    silent = checkpoint.save(tmp_path, checkpoint.load(model), "wilm2021", header["arguments"], header["provenance"])
    data = replace(load(lab), images=tmp_path / "nothing")
    for split in (data.split, {part: data.split[part] for part in ("train", "val")}):
        with pytest.raises(InputError) as error:
            finetune(silent, recipe_of(silent, data), replace(data, split=split), tmp_path / "out", CPU)
        assert str(error.value).startswith(f"{silent}: does not say which slides it learned from; train it with this")
        assert not (tmp_path / "out").exists()


def test_slides_of_the_part_test_under_another_name(model: Path, drawn: Path, tmp_path: Path) -> None:
    """The model knows pink_train_0; with the name of a data set before it, it is the same slide."""
    data = load(drawn)
    named = tuple(replace(r, slide=f"SET:{r.slide}") if r.file_name == "pink_train_0.tiff" else r for r in data.regions)
    split = {**data.split, "train": data.split["test"], "test": ("pink_train_0.tiff",)}
    data = replace(data, regions=named, split=split)
    with pytest.raises(InputError, match="has learned from slides of the part 'test': SET:pink_train_0;"):
        finetune(model, recipe_of(model, data), data, tmp_path / "out", CPU)


def test_command(model: Path, lab: Path, tmp_path: Path, mitosight: Run) -> None:
    less = ("--set", "epochs=1", "--set", "steps_per_epoch=1")
    status, printed, told = mitosight("finetune", model, "--data", lab, "--out", tmp_path / "out", *less)
    assert status == 0, told
    lines = printed.splitlines()
    assert str(tmp_path / "out" / "model" / "model.safetensors") in lines
    assert sum(line.startswith((AS_IT_IS, RE_THRESHOLD, TUNED)) for line in lines) == 3
    assert sum(line.startswith(("  green: F1 ", "  blue: F1 ")) for line in lines) == 6
    own = mitosight("finetune", model, "--data", lab, "--out", model.parent, *less)
    assert own[0] == 2 and "is the folder of the model" in own[2]
